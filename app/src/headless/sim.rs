//! `ahoy sim`: the same call as the demonstration's, over a simulated network and in virtual time.
//!
//! Alice calls Bob. All conditions are those of Alice's link, each way; Bob and the supernode sit where the
//! network is ideal, so a condition acts once on the way to Bob, with or without the relay.

mod cast;
mod direction;
mod events;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ahoy_media::audio::opus::Codec;
use ahoy_transport::{
    runtime::{RuntimeExt, TokioRuntime},
    session::SessionConfig,
};
use tokio::sync::oneshot;

use super::{
    pair::{Pair, Place, Script, Stage, both, write_speech},
    start::video,
};
use crate::{
    call::Ending,
    cli::{
        Assertion, AssertionFailure, CliError, Exit, Party, Print, SimCodec, SimPlan, VideoPart,
        junit, print_json, print_line,
    },
    engine::{
        config::Upkeep,
        handle::Event,
        video::{CodecTimes, VideoSettings},
    },
    report::{Report, summary, write_atomically},
    sim::World,
};
use cast::Cast;
use direction::Direction;
use events::Log;
pub use events::{Datagrams, Happening, Line};

/// Setting up over the worst link that still carries a call, and giving one up. Virtual time costs little.
const PATIENCE: Duration = Duration::from_secs(180);
/// A call that was simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// How it ended for the caller.
    pub ending: Ending,
    /// The caller's report; `cost` is absent.
    pub report: Report,
    /// The caller's UDP datagrams.
    pub wire: Datagrams,
}

/// Runs the simulation, prints, and checks what was asserted.
///
/// # Errors
/// When an assertion does not hold; when the call did not complete and no assertion speaks of the outcome.
///
/// # Panics
/// Inside a tokio runtime.
pub fn sim(plan: &SimPlan) -> Result<(), CliError> {
    let lines = plan.print == Print::Ndjson;
    let mut printed = Ok(());
    let simulated = simulate(plan, |line| {
        if lines && printed.is_ok() {
            printed = print_ndjson(&line);
        }
    })?;
    printed?;
    let report = &simulated.report;
    match plan.print {
        Print::Summary => {
            let files: Vec<(&str, &Path)> = plan
                .audio_out
                .iter()
                .map(|path| ("heard by Alice", path.as_path()))
                .collect();
            for line in summary(report, &files).lines() {
                print_line(line)?;
            }
            print_line(&format!("seed      {}", plan.seed))?;
        }
        Print::Json => {
            print_json(report)?;
            tracing::info!("seed {}", plan.seed);
        }
        Print::Ndjson => {}
    }
    judge(plan, &simulated)
}

fn print_ndjson(line: &Line) -> Result<(), CliError> {
    let text = serde_json::to_string(line).map_err(CliError::failed)?;
    print_line(&text)
}

/// Checks the assertions, and writes their results where the plan says.
///
/// # Errors
/// As [`sim`].
pub fn judge(plan: &SimPlan, simulated: &Simulated) -> Result<(), CliError> {
    let report = serde_json::to_value(&simulated.report).map_err(CliError::failed)?;
    let results: Vec<(Assertion, Result<(), AssertionFailure>)> = plan
        .assertions
        .iter()
        .map(|assertion| (assertion.clone(), assertion.check(&report)))
        .collect();
    if let Some(path) = &plan.junit {
        let name = format!(
            "ahoy sim --profile {} --seed {}",
            plan.profile.as_str(),
            plan.seed
        );
        let xml = junit(&name, plan.talk, &results);
        write_atomically(path, xml.as_bytes()).map_err(|error| {
            let path = path.display();
            CliError::failed(format_args!("cannot write {path}: {error}"))
        })?;
    }
    let failures: Vec<String> = results
        .iter()
        .filter_map(|(_assertion, result)| result.as_ref().err().map(ToString::to_string))
        .collect();
    if !failures.is_empty() {
        return Err(CliError::failed(failures.join("\n")));
    }
    let outcome_is_asserted = plan.assertions.iter().any(|it| it.path() == "outcome");
    match Exit::from(simulated.ending) {
        Exit::Done => Ok(()),
        Exit::Failed
        | Exit::Usage
        | Exit::NoRoute
        | Exit::Authentication
        | Exit::Media
        | Exit::TimeLimit
            if outcome_is_asserted =>
        {
            Ok(())
        }
        exit @ (Exit::Failed
        | Exit::Usage
        | Exit::NoRoute
        | Exit::Authentication
        | Exit::Media
        | Exit::TimeLimit) => {
            let told = format!(
                "the call did not complete: {} (seed {})",
                simulated.report.reason, plan.seed
            );
            Err(CliError::new(exit, told))
        }
    }
}

/// Simulates the call; `observe` sees what happens, in order.
///
/// # Errors
/// When there was no call at all, or its end never came.
///
/// # Panics
/// Inside a tokio runtime.
pub fn simulate(plan: &SimPlan, observe: impl FnMut(Line)) -> Result<Simulated, CliError> {
    let scratch = Scratch::new()?;
    let script = script(plan, &scratch)?;
    let world = World::new(plan.seed);
    let mut cast = Cast::new(&world, plan.nats);
    // What stands at zero holds before anything begins.
    let later = plan.steps.partition_point(|step| step.at.is_zero());
    let (at_once, later) = plan.steps.split_at(later);
    for step in at_once {
        cast.carry_out(&world, &step.action);
    }
    let place = |who, ip: IpAddr, port| Place {
        runtime: world.runtime(cast.node(who)),
        listen: SocketAddr::new(ip, port),
    };
    let anywhere = Ipv4Addr::UNSPECIFIED.into();
    let relay = cast.address(Party::Relay);
    let stage = Stage {
        supernode: place(Party::Relay, relay, crate::supernode::DEFAULT_PORT),
        // Their addresses may change.
        caller: place(Party::Alice, anywhere, 0),
        callee: place(Party::Bob, anywhere, 0),
        one_machine: false,
    };
    let log = Log::new(&world, observe);
    log.write(Happening::Started { seed: plan.seed });
    // Whoever directs the play has a clock of its own, and no part in it.
    let wings = world.add_node("director", &[]);
    let caller = cast.node(Party::Alice);
    let direction = Direction::new(&world, world.runtime(wings), cast, later.to_vec());
    let (ending, report) = world
        .block_on(wings, play(&script, &stage, direction, &log))
        .map_err(CliError::failed)??;
    log.write(Happening::Ended {
        report: Box::new(report.clone()),
    });
    Ok(Simulated {
        ending,
        report,
        wire: Datagrams::of(&world, caller),
    })
}

fn script(plan: &SimPlan, scratch: &Scratch) -> Result<Script, CliError> {
    let codec = match plan.codec {
        SimCodec::Opus => Codec::Opus,
        SimCodec::None => Codec::Null,
    };
    let spoken = match &plan.audio_in {
        Some(path) => path.clone(),
        None if codec == Codec::Null => PathBuf::new(),
        None => {
            let path = scratch.0.join("said.wav");
            write_speech(&path, plan.talk)?;
            path
        }
    };
    Ok(Script {
        spoken,
        heard_by_caller: match &plan.audio_out {
            Some(path) => path.clone(),
            None => scratch.0.join("heard-by-alice.wav"),
        },
        heard_by_callee: scratch.0.join("heard-by-bob.wav"),
        talk: plan.talk,
        patience: PATIENCE,
        path: plan.path,
        bitrate_bps: plan.bitrate_bps,
        ptime_millis: plan.ptime_millis,
        measure_cost: false,
        drift_ppm: plan.drift_ppm,
        codec,
        upkeep: Upkeep {
            session: SessionConfig {
                alert: !plan.without.contains(&VideoPart::Alert),
                handover: !plan.without.contains(&VideoPart::Handover),
                ..SessionConfig::default()
            },
            ..Upkeep::default()
        },
        video: VideoSettings {
            // Virtual time stands still while pictures are encoded.
            threads: false,
            takes: CodecTimes {
                encode: plan.encode_takes,
                decode: plan.decode_takes,
            },
            retransmission: !plan.without.contains(&VideoPart::Retransmission),
            parity: !plan.without.contains(&VideoPart::Parity),
            parity_near: !plan.without.contains(&VideoPart::Near),
            spread: !plan.without.contains(&VideoPart::Spread),
            single_layer: !plan.without.contains(&VideoPart::SingleLayer),
            follow_queue: !plan.without.contains(&VideoPart::Queue),
            lip_sync: !plan.without.contains(&VideoPart::LipSync),
            sound_wait: !plan.without.contains(&VideoPart::SoundWait),
            ..both(video(&plan.video)?)
        },
    })
}

/// The call, and beside it whatever the plan does to the network.
async fn play<O: FnMut(Line)>(
    script: &Script,
    stage: &Stage,
    direction: Direction<'_>,
    log: &Log<'_, O>,
) -> Result<(Ending, Report), CliError> {
    let pair = Pair::start(stage, script).await?;
    direction.revive(pair.server());
    log.write(Happening::Calling);
    let view = pair.caller().view();
    let (first_audio, heard) = oneshot::channel();
    let mut first_audio = Some(first_audio);
    let call = pair.call(stage, script, |event| {
        if let Event::FirstAudio { at, .. } = event
            && let Some(told) = first_audio.take()
        {
            // Nobody listens once the call is over.
            told.send(*at).unwrap_or_default();
        }
        if let Some(what) = Happening::of(event) {
            log.write(what);
        }
    });
    tokio::select! {
        biased;
        played = call => played,
        never = direction.direct(heard, view, log) => match never {},
    }
}

/// A folder that goes when the simulation is over. Its name does not reach the simulated world.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, CliError> {
        let stamp = u64::from_be_bytes(TokioRuntime.random_array());
        let path = std::env::temp_dir().join(format!("ahoy-sim-{stamp:016x}"));
        let cannot = |error: io::Error| {
            let path = path.display();
            CliError::failed(format_args!("cannot make the folder {path}: {error}"))
        };
        fs::create_dir(&path).map_err(cannot)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a temporary folder stays behind");
        }
    }
}
