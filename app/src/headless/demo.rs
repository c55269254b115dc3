//! `ahoy demo`: two people and a supernode on this machine, real sockets, real speech, a report.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ahoy_media::audio::opus::Codec;
use ahoy_transport::runtime::{Runtime, RuntimeExt, TokioRuntime};

use super::{
    pair::{Pair, Place, Script, Stage, both, write_speech},
    start::video,
};
use crate::{
    cli::{AudioIn, CliError, DemoPlan, print_json, print_line},
    engine::{config::Upkeep, handle::Event},
    report::{Outcome, summary},
};

/// Answering and hanging up take a round trip or two each; on one machine that is nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the demonstration.
///
/// # Errors
/// What failed, with the exit code for it.
pub async fn demo(plan: DemoPlan) -> Result<(), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let out = match &plan.out {
        Some(out) => out.clone(),
        None => fresh_folder(&*runtime),
    };
    fs::create_dir_all(&out).map_err(|error| cannot_write(&out, &error))?;
    let script = Script {
        spoken: match &plan.audio_in {
            None => {
                let path = out.join("said.wav");
                write_speech(&path, plan.talk)?;
                path
            }
            Some(AudioIn::File(path)) => path.clone(),
            Some(AudioIn::Microphone | AudioIn::Tone | AudioIn::Silence) => {
                return Err(CliError::usage(
                    "the demonstration measures what was heard: give it speech, --audio-in FILE.wav",
                ));
            }
        },
        heard_by_caller: out.join("heard-by-alice.wav"),
        heard_by_callee: out.join("heard-by-bob.wav"),
        talk: plan.talk,
        patience: PATIENCE,
        path: plan.path,
        bitrate_bps: plan.bitrate_bps,
        ptime_millis: plan.ptime_millis,
        measure_cost: true,
        drift_ppm: 0,
        codec: Codec::Opus,
        upkeep: Upkeep::default(),
        video: both(video(&plan.video)?),
    };
    let here = Place {
        runtime,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let stage = Stage {
        supernode: here.clone(),
        caller: here.clone(),
        callee: here,
        one_machine: true,
    };
    let pair = Pair::start(&stage, &script).await?;
    tracing::info!("Bob and Alice are registered there; Alice calls Bob by his link");
    let (ending, report) = pair.call(&stage, &script, tell).await?;

    let report_file = out.join("report.json");
    report
        .write(&report_file)
        .map_err(|error| cannot_write(&report_file, &error))?;
    if plan.json {
        print_json(&report)?;
    } else {
        let files: [(&str, &Path); 4] = [
            ("said by both", &script.spoken),
            ("heard by Alice", &script.heard_by_caller),
            ("heard by Bob", &script.heard_by_callee),
            ("report", &report_file),
        ];
        for line in summary(&report, &files).lines() {
            print_line(line)?;
        }
    }
    if ending.outcome() == Outcome::Completed {
        Ok(())
    } else {
        Err(CliError::failed(format_args!(
            "the call did not complete: {}",
            report.reason
        )))
    }
}

fn tell(event: &Event) {
    match event {
        Event::Ringing { .. } => tracing::info!("Bob's device rings"),
        Event::Connected { .. } => tracing::info!("Bob accepted: both speak"),
        Event::FirstAudio { .. } => tracing::info!("Alice hears Bob"),
        Event::Ready { .. }
        | Event::HomeLost { .. }
        | Event::HomeBack { .. }
        | Event::Incoming { .. }
        | Event::Waiting { .. }
        | Event::Request { .. }
        | Event::Sound { .. }
        | Event::Pictures { .. }
        | Event::Recording { .. }
        | Event::Record(_)
        | Event::Lending(_)
        | Event::Anomaly { .. }
        | Event::SoundChosen(_)
        | Event::Message { .. }
        | Event::MessageState { .. }
        | Event::File(_)
        | Event::Ended { .. }
        | Event::Failed { .. } => {}
    }
}

fn fresh_folder(runtime: &dyn Runtime) -> PathBuf {
    let stamp = u32::from_be_bytes(runtime.random_array());
    std::env::temp_dir().join(format!("ahoy-demo-{stamp:08x}"))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CliError {
    let path = path.display();
    CliError::failed(format_args!(
        "cannot write {path}: {error}; name another folder with --out"
    ))
}
