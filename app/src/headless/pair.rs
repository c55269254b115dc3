//! One call between two people in this process, with a supernode of their own: what `ahoy demo` shows over
//! real sockets and `ahoy sim` over simulated ones.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ahoy_media::audio::{
    BLOCK_DURATION, SILENCE,
    opus::Codec,
    sink::AudioSink as _,
    source::{AudioSource as _, SourceState},
    wav::{AtEnd, WavSink, WavSource, read_all},
};
use ahoy_transport::{
    identity::{NodeAddress, NodeKeys},
    runtime::{Runtime, RuntimeExt, timeout},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::broadcast;

use super::measure::{by_media_time, measure};
use crate::{
    call::{CallConfig, Ending as CallEnding},
    cli::{CliError, Exit},
    engine::{
        self, Ending,
        config::{Answering, EngineConfig, Finding, Me, PathPolicy, Upkeep},
        echo::SPEECH,
        files::FilesSettings,
        handle::{Command, EngineHandle, Event},
        media::{AudioIn, AudioOut, AudioSettings, Probe},
        memory_book::MemoryBook,
        recording::RecordSettings,
        video::{VideoOut, VideoProbe, VideoSettings, capture_to_render, measured_skew},
    },
    identity::Identity,
    report::Report,
    supernode::{SupernodeConfig, SupernodeHandle},
};

/// Registering takes a few round trips.
pub(super) const REGISTRATION: Duration = Duration::from_secs(20);

/// Where somebody's code runs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Clock, sockets, randomness.
    pub(super) runtime: Arc<dyn Runtime>,
    /// Where to listen.
    pub(super) listen: SocketAddr,
}

/// The three machines.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Where the supernode runs.
    pub(super) supernode: Place,
    /// Where Alice calls from.
    pub(super) caller: Place,
    /// Where Bob answers.
    pub(super) callee: Place,
    /// All three are one machine, whose loopback addresses count.
    pub(super) one_machine: bool,
}

/// What they do.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// What both say.
    pub(super) spoken: PathBuf,
    /// What Alice heard is written here.
    pub(super) heard_by_caller: PathBuf,
    /// What Bob heard is written here.
    pub(super) heard_by_callee: PathBuf,
    /// How long they talk.
    pub(super) talk: Duration,
    /// How much longer than that the whole call may take.
    pub(super) patience: Duration,
    /// Which ways media may take.
    pub(super) path: PathPolicy,
    /// Bits per second to send; absent: the app's choice.
    pub(super) bitrate_bps: Option<u32>,
    /// Milliseconds of sound in a packet; absent: the app's choice.
    pub(super) ptime_millis: Option<u16>,
    /// The caller's report says what the call cost.
    pub(super) measure_cost: bool,
    /// By how many millionths Alice's sound has a faster clock, and Bob's a slower one.
    pub(super) drift_ppm: i32,
    /// What is inside the packets. With [`Codec::Null`] no file is read or written.
    pub(super) codec: Codec,
    /// What keeps the call up.
    pub(super) upkeep: Upkeep,
    /// What both send of pictures, and what becomes of those that Alice sees. Bob's are looked at and forgotten.
    pub(super) video: VideoSettings,
}

/// One of the two people.
struct Person {
    engine: EngineHandle,
    events: broadcast::Receiver<Event>,
    ending: Ending,
    probe: Probe,
    video: VideoProbe,
}

/// Two people, registered and ready.
pub(super) struct Pair {
    alice: Person,
    bob: Person,
    link: String,
    supernode: SupernodeHandle,
    server: Server,
}

/// What makes the supernode the same one again after it died.
#[derive(Debug, Clone)]
pub(super) struct Server {
    config: SupernodeConfig,
    keys: NodeKeys,
}

impl Server {
    /// Serves until the runtime ends.
    pub(super) async fn serve(self, runtime: Arc<dyn Runtime>) {
        match SupernodeHandle::start(runtime, self.config, &self.keys).await {
            Ok(running) => {
                let _running = running;
                std::future::pending().await
            }
            Err(error) => tracing::warn!(%error, "the supernode does not start again"),
        }
    }
}

impl Pair {
    /// Starts the supernode and both engines, and waits until both are registered.
    ///
    /// # Errors
    /// Which of them did not come up.
    pub(super) async fn start(stage: &Stage, script: &Script) -> Result<Self, CliError> {
        let mut rng = ChaCha20Rng::from_seed(stage.caller.runtime.random_array());
        let node_keys = NodeKeys::generate(&mut rng);
        let mut config = SupernodeConfig {
            listen: vec![stage.supernode.listen],
            ..SupernodeConfig::default()
        };
        config.relay.allow_private = stage.one_machine;
        let runtime = Arc::clone(&stage.supernode.runtime);
        let server = Server {
            config,
            keys: node_keys.clone(),
        };
        let supernode = SupernodeHandle::start(runtime, server.config.clone(), &node_keys)
            .await
            .map_err(CliError::failed)?;
        let home = supernode
            .local_addrs()
            .first()
            .map(|addr| (NodeAddress::new(node_keys.id(), *addr), *addr))
            .ok_or_else(|| CliError::failed("the supernode listens nowhere"))?;
        tracing::info!("a supernode listens on {}", home.1);

        let mut bob = person(stage, script, Role::Callee, &home, &mut rng)?;
        let mut alice = person(stage, script, Role::Caller, &home, &mut rng)?;
        let runtime = &*stage.caller.runtime;
        let link = ready(runtime, &mut bob, "Bob could not register").await?;
        ready(runtime, &mut alice, "Alice could not register").await?;
        Ok(Self {
            alice,
            bob,
            link,
            supernode,
            server,
        })
    }

    /// What makes the supernode the same one again after it died.
    pub(super) fn server(&self) -> Server {
        self.server.clone()
    }

    /// The caller's engine.
    pub(super) fn caller(&self) -> &EngineHandle {
        &self.alice.engine
    }

    /// Alice calls Bob by his link, they talk, she hangs up. `watch` sees what her engine tells. Returns how it
    /// ended and her report, with what only this process can know since both ends are in it.
    ///
    /// # Errors
    /// When there was no call, or no end of it, or the recordings cannot be read.
    pub(super) async fn call(
        mut self,
        stage: &Stage,
        script: &Script,
        mut watch: impl FnMut(&Event),
    ) -> Result<(CallEnding, Report), CliError> {
        self.alice.engine.send(Command::Call(self.link));
        let ended = async {
            loop {
                let event = match self.alice.events.recv().await {
                    Ok(event) => event,
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => {
                        break Err(CliError::failed("the engine stopped"));
                    }
                };
                watch(&event);
                match event {
                    Event::Ended { ending, report, .. } => break Ok((ending, *report)),
                    Event::Failed { sentence } => break Err(CliError::failed(sentence)),
                    Event::Ready { .. }
                    | Event::HomeLost { .. }
                    | Event::HomeBack { .. }
                    | Event::Incoming { .. }
                    | Event::Waiting { .. }
                    | Event::Request { .. }
                    | Event::Ringing { .. }
                    | Event::Connected { .. }
                    | Event::FirstAudio { .. }
                    | Event::Sound { .. }
                    | Event::Pictures { .. }
                    | Event::Recording { .. }
                    | Event::Lending(_)
                    | Event::Anomaly { .. }
                    | Event::SoundChosen(_)
                    | Event::Record(_)
                    | Event::Message { .. }
                    | Event::MessageState { .. }
                    | Event::File(_) => {}
                }
            }
        };
        let limit = script.talk + script.patience;
        let (ending, mut report) = timeout(&*stage.caller.runtime, limit, ended)
            .await
            .unwrap_or_else(|| {
                let late = "the call did not end in time";
                Err(CliError::new(Exit::TimeLimit, late))
            })?;
        for person in [&self.alice, &self.bob] {
            person.engine.send(Command::Quit);
        }
        self.alice.ending.wait().await;
        self.bob.ending.wait().await;
        drop(self.supernode);
        add_measurements(&mut report, script, &self.bob.probe, &self.alice.probe)?;
        let video = report
            .participants
            .first_mut()
            .and_then(|participant| participant.video.as_mut());
        if let Some(video) = video {
            video.capture_to_render_ms = capture_to_render(&self.bob.video, &self.alice.video);
            video.measured_skew_ms = measured_skew(
                (&self.bob.probe.spoken, &self.bob.video.taken),
                (&self.alice.probe.heard, &self.alice.video.shown),
            );
        }
        Ok((ending, report))
    }
}

/// Both send the same, look at it, and hold it beside what was sent: that is at hand here.
pub(super) fn both(video: VideoSettings) -> VideoSettings {
    VideoSettings {
        output: video
            .output
            .or_else(|| video.input.as_ref().map(|_| VideoOut::Null)),
        reference: video.input.clone(),
        ..video
    }
}

/// Writes the clip that comes with the program to `path`, over and over until it lasts for `talk`.
///
/// # Errors
/// Whatever the file system answers.
pub(super) fn write_speech(path: &Path, talk: Duration) -> Result<(), CliError> {
    let clip = path.with_extension("clip");
    let written = fs::write(&clip, SPEECH)
        .map_err(|error| CliError::failed(format_args!("cannot write {}: {error}", clip.display())))
        .and_then(|()| repeat(&clip, path, talk));
    if let Err(error) = fs::remove_file(&clip) {
        tracing::debug!(%error, "a temporary file stays behind");
    }
    written
}

fn repeat(clip: &Path, path: &Path, talk: Duration) -> Result<(), CliError> {
    let mut source = WavSource::open(clip, AtEnd::Loop).map_err(CliError::failed)?;
    let mut sink = WavSink::create(path).map_err(CliError::failed)?;
    let mut block = SILENCE;
    let mut written = Duration::ZERO;
    while written < talk && source.next_block(&mut block) == SourceState::Playing {
        sink.write_block(&block).map_err(CliError::failed)?;
        written += BLOCK_DURATION;
    }
    sink.finish().map_err(CliError::failed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Caller,
    Callee,
}

fn person(
    stage: &Stage,
    script: &Script,
    role: Role,
    home: &(NodeAddress, SocketAddr),
    rng: &mut ChaCha20Rng,
) -> Result<Person, CliError> {
    let (name, place, heard, answering) = match role {
        Role::Caller => (
            "Alice",
            &stage.caller,
            &script.heard_by_caller,
            Answering::Person,
        ),
        Role::Callee => (
            "Bob",
            &stage.callee,
            &script.heard_by_callee,
            Answering::Everybody,
        ),
    };
    let identity = Identity::create(rng, place.runtime.unix_millis());
    let defaults = AudioSettings::default();
    let probe = Probe::default();
    let video_probe = VideoProbe::default();
    let video = VideoSettings {
        output: match role {
            Role::Caller => script.video.output.clone(),
            Role::Callee => script.video.output.as_ref().map(|_| VideoOut::Null),
        },
        ..script.video.clone()
    };
    let config = EngineConfig {
        me: Me::of(&identity, name),
        listen: place.listen,
        homes: vec![home.clone()],
        path: script.path,
        proxy: None,
        audio: AudioSettings {
            input: match script.codec {
                Codec::Opus => AudioIn::File(script.spoken.clone()),
                Codec::Null => AudioIn::Silence,
            },
            output: match script.codec {
                Codec::Opus => AudioOut::File(heard.clone()),
                Codec::Null => AudioOut::Null,
            },
            codec: script.codec,
            protections: defaults.protections,
            devices: defaults.devices.clone(),
            music: false,
            share_sound: false,
            bitrate_bps: script.bitrate_bps,
            frame_millis: script.ptime_millis.unwrap_or(defaults.frame_millis),
            voice: defaults.voice,
            clock_ppm: match role {
                Role::Caller => script.drift_ppm,
                Role::Callee => -script.drift_ppm,
            },
            room: None,
        },
        video,
        recording: RecordSettings::default(),
        files: FilesSettings::default(),
        sound: crate::sound::SoundChoices::default(),
        answering,
        limits: CallConfig {
            // The caller hangs up.
            talk_limit: (role == Role::Caller).then_some(script.talk),
            ..CallConfig::default()
        },
        allow_loopback: stage.one_machine,
        port_mapping: false,
        upkeep: script.upkeep,
        lan_discovery: false,
        mailbox: false,
        finding: Finding::default(),
        lend: None,
        guess_ports: true,
        probe: Some(probe.clone()),
        video_probe: Some(video_probe.clone()),
        measure_cost: script.measure_cost && role == Role::Caller,
    };
    let book = Arc::new(MemoryBook::new(identity.user(), name));
    let (engine, ending) = engine::start(&place.runtime, config, book)
        .map_err(|error| CliError::failed(format_args!("cannot open a UDP port: {error}")))?;
    Ok(Person {
        events: engine.events(),
        engine,
        ending,
        probe,
        video: video_probe,
    })
}

/// Waits until somebody is registered, and returns their link.
async fn ready(
    runtime: &dyn Runtime,
    person: &mut Person,
    otherwise: &str,
) -> Result<String, CliError> {
    let waiting = async {
        loop {
            match person.events.recv().await {
                Ok(event) => {
                    if let Event::Ready { link } = event {
                        return Some(link);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    };
    timeout(runtime, REGISTRATION, waiting)
        .await
        .flatten()
        .ok_or_else(|| CliError::new(Exit::NoRoute, otherwise))
}

/// What only this process can know, since both ends are in it.
fn add_measurements(
    report: &mut Report,
    script: &Script,
    speaker: &Probe,
    listener: &Probe,
) -> Result<(), CliError> {
    let audio = report
        .participants
        .first_mut()
        .and_then(|participant| participant.audio.as_mut());
    let Some(audio) = audio else {
        // Nobody spoke, so there are no recordings either.
        return Ok(());
    };
    if script.codec == Codec::Null {
        audio.codec = Some(String::from("none"));
        audio.mouth_to_ear_ms = by_media_time(&speaker.spoken.blocks(), &listener.heard.blocks());
        return Ok(());
    }
    let samples = |path: &Path| read_all(path).map_err(CliError::failed);
    let measured = measure(
        &samples(&script.spoken)?,
        &speaker.spoken.instants(),
        &samples(&script.heard_by_caller)?,
        &listener.heard.instants(),
    );
    audio.mouth_to_ear_ms = measured.mouth_to_ear;
    audio.score = measured.score;
    Ok(())
}
