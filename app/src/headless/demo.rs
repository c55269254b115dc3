//! `ahoy demo`: two people and a supernode on this machine, real sockets, real speech, a report.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ahoy_media::audio::wav::read_all;
use ahoy_transport::{
    identity::{NodeAddress, NodeKeys},
    runtime::{Runtime, RuntimeExt, TokioRuntime, timeout},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::broadcast;

use super::measure::measure;
use crate::{
    call::CallConfig,
    cli::{AudioIn as CliAudioIn, CliError, DemoPlan, Exit, PathChoice, print_json, print_line},
    engine::{
        self, Ending,
        config::{Answering, EngineConfig, Me, PathPolicy},
        handle::{Command, EngineHandle, Event},
        media::{AudioIn, AudioOut, AudioSettings, Probe},
        memory_book::MemoryBook,
    },
    identity::Identity,
    report::{Outcome, Report, summary},
    supernode::{SupernodeConfig, SupernodeHandle},
};

/// What the two people say when nothing else is given.
static SPEECH: &[u8] = include_bytes!("../../../assets/ahoy.wav");

/// Registering and answering take a round trip or two each; on one machine that is nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the two people.
struct Person {
    engine: EngineHandle,
    events: broadcast::Receiver<Event>,
    ending: Ending,
    probe: Probe,
    recording: PathBuf,
}

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
    let spoken = spoken_file(&plan, &out)?;

    let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
    let node_keys = NodeKeys::generate(&mut rng);
    let node = node_keys.id();
    let mut config = SupernodeConfig {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        ..SupernodeConfig::default()
    };
    config.relay.allow_private = true;
    let supernode = SupernodeHandle::start(Arc::clone(&runtime), config, &node_keys)
        .await
        .map_err(CliError::failed)?;
    let home = supernode
        .local_addrs()
        .first()
        .map(|addr| (NodeAddress::new(node, *addr), *addr))
        .ok_or_else(|| CliError::failed("the supernode listens nowhere"))?;
    tracing::info!("a supernode listens on {}", home.1);

    let bob = person(
        &runtime,
        &plan,
        "Bob",
        Answering::Everybody,
        &home,
        &spoken,
        &out,
        &mut rng,
    )?;
    let mut alice = person(
        &runtime,
        &plan,
        "Alice",
        Answering::Person,
        &home,
        &spoken,
        &out,
        &mut rng,
    )?;
    let mut bob_events = bob.events.resubscribe();
    let link = wait(
        &runtime,
        &mut bob_events,
        "Bob could not register",
        |event| {
            let Event::Ready { link } = event else {
                return None;
            };
            Some(link)
        },
    )
    .await?;
    wait(
        &runtime,
        &mut alice.events,
        "Alice could not register",
        |event| matches!(event, Event::Ready { .. }).then_some(()),
    )
    .await?;
    tracing::info!("Bob and Alice are registered there; Alice calls Bob by his link");
    alice.engine.send(Command::Call(link));

    let patience = plan.talk + PATIENCE;
    let ended = async {
        loop {
            match alice.events.recv().await {
                Ok(Event::Ended {
                    outcome, report, ..
                }) => break Ok((outcome, *report)),
                Ok(Event::Ringing { .. }) => tracing::info!("Bob's device rings"),
                Ok(Event::Connected { .. }) => tracing::info!("Bob accepted: both speak"),
                Ok(Event::FirstAudio { .. }) => tracing::info!("Alice hears Bob"),
                Ok(Event::Failed { sentence }) => break Err(CliError::failed(sentence)),
                Ok(
                    Event::Ready { .. }
                    | Event::HomeLost { .. }
                    | Event::HomeBack { .. }
                    | Event::Incoming { .. }
                    | Event::Request { .. },
                ) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => {
                    break Err(CliError::failed("the engine stopped"));
                }
            }
        }
    };
    let (outcome, mut report) = timeout(&*runtime, patience, ended)
        .await
        .unwrap_or_else(|| {
            Err(CliError::new(
                Exit::TimeLimit,
                "the call did not end in time",
            ))
        })?;

    for person in [&alice, &bob] {
        person.engine.send(Command::Quit);
    }
    let (alice_log, bob_log) = (alice.probe.clone(), bob.probe.clone());
    let recordings = [alice.recording.clone(), bob.recording.clone()];
    alice.ending.wait().await;
    bob.ending.wait().await;
    drop(supernode);

    add_measurements(&mut report, &spoken, &recordings[0], &bob_log, &alice_log)?;
    let report_file = out.join("report.json");
    report
        .write(&report_file)
        .map_err(|error| cannot_write(&report_file, &error))?;
    if plan.json {
        print_json(&report)?;
    } else {
        let files: [(&str, &Path); 4] = [
            ("said by both", &spoken),
            ("heard by Alice", &recordings[0]),
            ("heard by Bob", &recordings[1]),
            ("report", &report_file),
        ];
        for line in summary(&report, &files).lines() {
            print_line(line)?;
        }
    }
    match outcome {
        Outcome::Completed => Ok(()),
        Outcome::Declined
        | Outcome::Busy
        | Outcome::NoAnswer
        | Outcome::Cancelled
        | Outcome::Unreachable
        | Outcome::Lost
        | Outcome::Failed => Err(CliError::failed(format_args!(
            "the call did not complete: {}",
            report.reason
        ))),
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

/// The file that both speak from: the one asked for, or the clip that comes with the program.
fn spoken_file(plan: &DemoPlan, out: &Path) -> Result<PathBuf, CliError> {
    match &plan.audio_in {
        None => {
            let path = out.join("said.wav");
            fs::write(&path, SPEECH).map_err(|error| cannot_write(&path, &error))?;
            Ok(path)
        }
        Some(CliAudioIn::File(path)) => Ok(path.clone()),
        Some(CliAudioIn::Microphone | CliAudioIn::Tone | CliAudioIn::Silence) => {
            Err(CliError::usage(
                "the demonstration measures what was heard: give it speech, --audio-in FILE.wav",
            ))
        }
    }
}

fn person(
    runtime: &Arc<dyn Runtime>,
    plan: &DemoPlan,
    name: &str,
    answering: Answering,
    home: &(NodeAddress, SocketAddr),
    spoken: &Path,
    out: &Path,
    rng: &mut ChaCha20Rng,
) -> Result<Person, CliError> {
    let identity = Identity::create(rng, runtime.unix_millis());
    let recording = out.join(format!("heard-by-{}.wav", name.to_lowercase()));
    let defaults = AudioSettings::default();
    let probe = Probe::default();
    let config = EngineConfig {
        me: Me::of(&identity, name),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        homes: vec![home.clone()],
        path: match plan.path {
            PathChoice::Auto => PathPolicy::Auto,
            PathChoice::Direct => PathPolicy::Direct,
            PathChoice::Relay => PathPolicy::Relay,
        },
        audio: AudioSettings {
            input: AudioIn::File(spoken.to_owned()),
            output: AudioOut::File(recording.clone()),
            bitrate_bps: plan.bitrate_bps.unwrap_or(defaults.bitrate_bps),
            frame_millis: plan.ptime_millis.unwrap_or(defaults.frame_millis),
        },
        answering,
        limits: CallConfig {
            // The caller hangs up.
            talk_limit: (answering == Answering::Person).then_some(plan.talk),
            ..CallConfig::default()
        },
        allow_loopback: true,
        probe: Some(probe.clone()),
        measure_cost: answering == Answering::Person,
    };
    let book = Arc::new(MemoryBook::new(identity.user(), name));
    let (engine, ending) = engine::start(runtime, config, book)
        .map_err(|error| CliError::failed(format_args!("cannot open a UDP port: {error}")))?;
    Ok(Person {
        events: engine.events(),
        engine,
        ending,
        probe,
        recording,
    })
}

async fn wait<T>(
    runtime: &Arc<dyn Runtime>,
    events: &mut broadcast::Receiver<Event>,
    otherwise: &str,
    wanted: impl Fn(Event) -> Option<T>,
) -> Result<T, CliError> {
    let waiting = async {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(found) = wanted(event) {
                        return Some(found);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    };
    timeout(&**runtime, PATIENCE, waiting)
        .await
        .flatten()
        .ok_or_else(|| CliError::new(Exit::NoRoute, otherwise))
}

/// What only this process can know, since both ends are in it.
fn add_measurements(
    report: &mut Report,
    spoken: &Path,
    heard: &Path,
    speaker: &Probe,
    listener: &Probe,
) -> Result<(), CliError> {
    let samples = |path: &Path| read_all(path).map_err(CliError::failed);
    let measured = measure(
        &samples(spoken)?,
        &speaker.spoken.instants(),
        &samples(heard)?,
        &listener.heard.instants(),
    );
    let audio = report
        .participants
        .first_mut()
        .and_then(|participant| participant.audio.as_mut());
    if let Some(audio) = audio {
        audio.mouth_to_ear_ms = measured.mouth_to_ear;
        audio.score = measured.score;
    }
    Ok(())
}
