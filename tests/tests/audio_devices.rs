//! Microphone and speaker on a private sound server: no hardware, and nobody's real devices.
//!
//! Each test starts a PulseAudio of its own with two null sinks, and runs its body in a process of its own whose
//! environment leads there; that process has a time limit, since hanging is one of the things that sound systems do.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use ahoy_media::audio::{
    SILENCE, align,
    device::{
        AudioSystem, DeviceChoice, DeviceError, DeviceEvent, Direction, Microphone, Speaker, list,
    },
    source::{AudioSource, SourceState},
    wav::{AtEnd, WavSource, read_all},
};
use tempfile::TempDir;

/// Tells the inner process where its server is; without it the inner tests touch nothing.
const SERVER_DIR: &str = "AHOY_TEST_SOUND_SERVER";

/// The server's process, for the test that kills it.
const SERVER_PID: &str = "AHOY_TEST_SOUND_SERVER_PID";

/// No body takes longer unless something hangs.
const INNER_LIMIT: Duration = Duration::from_secs(60);

/// Two servers at once on a small machine would only disturb each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Server {
    process: Child,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let process = Command::new("pulseaudio")
            .args(["--daemonize=no", "--exit-idle-time=-1", "-n"])
            .args(["--log-level=error", "--use-pid-file=no"])
            .args(["-L", "module-native-protocol-unix"])
            .args(["-L", "module-null-sink sink_name=spk_a rate=48000"])
            .args(["-L", "module-null-sink sink_name=spk_b rate=48000"])
            .env("XDG_RUNTIME_DIR", dir)
            .env("HOME", dir)
            .env_remove("PULSE_SERVER")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process };
        let socket = dir.join("pulse/native");
        wait_until("the sound server's socket", Duration::from_secs(10), || {
            socket.exists()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed already.
        self.process.kill().unwrap_or(());
        self.process.wait().map(drop).unwrap_or(());
    }
}

/// Waits for another process or thread, which cannot be told to hurry.
fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    const STEP: Duration = Duration::from_millis(10);
    for _ in 0..limit.as_millis() / STEP.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(STEP);
    }
    panic!("waited {limit:?} for {what}");
}

/// Runs the inner test `name` beside a fresh server.
fn with_server(name: &str) {
    if Command::new("pulseaudio")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "pulseaudio is missing: install it"
        );
        eprintln!("SKIPPED {name}: pulseaudio is not installed, so nothing was tested");
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path());
    let mut inner = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("XDG_RUNTIME_DIR", dir.path())
        .env("HOME", dir.path())
        .env_remove("PULSE_SERVER")
        .env(SERVER_DIR, dir.path())
        .env(SERVER_PID, server.process.id().to_string())
        .spawn()
        .unwrap();
    let mut status = None;
    for _ in 0..INNER_LIMIT.as_millis() / 50 {
        status = inner.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if status.is_none() {
        inner.kill().unwrap();
        inner.wait().unwrap();
    }
    let status = status.expect("the test hung and was stopped");
    assert!(status.success(), "{name}: {status}");
}

/// Whether this process was started by [`with_server`].
fn has_server() -> bool {
    let has = env::var_os(SERVER_DIR).is_some();
    if !has {
        eprintln!("SKIPPED: it runs inside the test that starts its sound server");
    }
    has
}

fn chosen(id: &str) -> DeviceChoice {
    DeviceChoice::Id(format!("pulseaudio:{id}"))
}

fn clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/ahoy.wav")
}

#[test]
fn what_is_played_to_a_speaker_is_heard_at_its_monitor() {
    with_server("inner_loopback");
}

#[test]
#[ignore = "run by what_is_played_to_a_speaker_is_heard_at_its_monitor"]
fn inner_loopback() {
    if !has_server() {
        return;
    }
    let heard = Arc::new(Mutex::new(Vec::<f32>::new()));
    let microphone = Microphone::open(
        AudioSystem::Best,
        chosen("spk_a.monitor"),
        {
            let heard = Arc::clone(&heard);
            move |block| heard.lock().unwrap().extend_from_slice(block)
        },
        |event| eprintln!("microphone: {event:?}"),
    )
    .unwrap();
    let info = microphone.wait_until_open(Duration::from_secs(10)).unwrap();
    assert_eq!(info.direction, Direction::Input);
    assert!(info.is_pseudo, "the monitor of a speaker is no microphone");

    let mut source = WavSource::open(clip(), AtEnd::Stop).unwrap();
    let pulled = Arc::new(AtomicU64::new(0));
    let speaker = Speaker::open(
        AudioSystem::Best,
        chosen("spk_a"),
        {
            let pulled = Arc::clone(&pulled);
            let mut blocks_before = 50;
            move |block| {
                pulled.fetch_add(1, Ordering::Relaxed);
                // Silence first: the stream is still being opened.
                if blocks_before > 0 {
                    blocks_before -= 1;
                    *block = SILENCE;
                } else if source.next_block(block) == SourceState::Ended {
                    *block = SILENCE;
                }
            }
        },
        |event| eprintln!("speaker: {event:?}"),
    )
    .unwrap();
    speaker.wait_until_open(Duration::from_secs(10)).unwrap();

    let sent = read_all(clip()).unwrap();
    let sent = &sent[..8 * 48_000];
    // Half a second of silence, the eight seconds, and what is still on its way.
    wait_until("ten seconds of sound", Duration::from_secs(30), || {
        pulled.load(Ordering::Relaxed) >= 1000
    });
    eprintln!(
        "microphone: {:?} {:?}",
        microphone.stats(),
        microphone.capture_stats()
    );
    eprintln!(
        "speaker: {:?} {:?}",
        speaker.stats(),
        speaker.playout_stats()
    );
    drop(speaker);
    drop(microphone);

    let heard = heard.lock().unwrap();
    let alignment = align::align(sent, &heard, 3 * 48_000).expect("the clip is in the recording");
    eprintln!(
        "{:.0} % of windows found; the whole agrees by {:.3}",
        100.0 * alignment.found_fraction(),
        alignment.correlation
    );
    // A busy machine without real-time rights tears gaps. What is there must be the clip.
    assert!(alignment.found_fraction() > 0.3);
    let best = alignment
        .windows
        .iter()
        .map(|window| window.correlation)
        .fold(0.0, f32::max);
    assert!(best > 0.95, "the best window agrees by {best:.3} only");
}

#[test]
fn the_list_names_the_speakers_and_leaves_their_monitors_out() {
    with_server("inner_list");
}

#[test]
#[ignore = "run by the_list_names_the_speakers_and_leaves_their_monitors_out"]
fn inner_list() {
    if !has_server() {
        return;
    }
    let devices = list(AudioSystem::Best).unwrap();
    let mut ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["pulseaudio:spk_a", "pulseaudio:spk_b"]);
    for device in &devices {
        assert_eq!(device.direction, Direction::Output);
        assert!(device.name.contains("Null Output"), "{device:?}");
    }
    assert_eq!(devices.iter().filter(|device| device.is_default).count(), 1);

    let microphone = Microphone::open(
        AudioSystem::Best,
        chosen("nothing_like_it"),
        |_| {},
        |event| eprintln!("{event:?}"),
    )
    .unwrap();
    assert_eq!(
        microphone.wait_until_open(Duration::from_secs(10)),
        Err(DeviceError::NotFound {
            id: "pulseaudio:nothing_like_it".into()
        })
    );
}

#[test]
fn a_killed_sound_server_is_an_event_and_sound_returns_with_it() {
    with_server("inner_killed_server");
}

fn expect_event(
    who: &str,
    events: &Receiver<DeviceEvent>,
    wanted: impl Fn(&DeviceEvent) -> bool,
) -> DeviceEvent {
    loop {
        let event = events
            .recv_timeout(Duration::from_secs(15))
            .unwrap_or_else(|_| panic!("no further event came from the {who}"));
        eprintln!("{who}: {event:?}");
        if wanted(&event) {
            return event;
        }
    }
}

#[test]
#[ignore = "run by a_killed_sound_server_is_an_event_and_sound_returns_with_it"]
fn inner_killed_server() {
    if !has_server() {
        return;
    }
    let blocks = Arc::new(AtomicU64::new(0));
    let (speaker_events, speaker_heard) = sync_channel(64);
    let (microphone_events, microphone_heard) = sync_channel(64);
    let speaker = Speaker::open(
        AudioSystem::Best,
        chosen("spk_a"),
        {
            let blocks = Arc::clone(&blocks);
            move |block| {
                blocks.fetch_add(1, Ordering::Relaxed);
                *block = SILENCE;
            }
        },
        move |event| speaker_events.try_send(event).unwrap_or(()),
    )
    .unwrap();
    let microphone = Microphone::open(
        AudioSystem::Best,
        chosen("spk_a.monitor"),
        |_| {},
        move |event| microphone_events.try_send(event).unwrap_or(()),
    )
    .unwrap();
    let opened = |event: &DeviceEvent| matches!(event, DeviceEvent::Opened(_));
    let lost = |event: &DeviceEvent| matches!(event, DeviceEvent::Lost { .. });
    expect_event("speaker", &speaker_heard, opened);
    expect_event("microphone", &microphone_heard, opened);

    let killed = Command::new("kill")
        .args(["-9", &env::var(SERVER_PID).unwrap()])
        .status()
        .unwrap();
    assert!(killed.success());
    expect_event("speaker", &speaker_heard, lost);
    expect_event("microphone", &microphone_heard, lost);

    // The jitter buffer is pulled on, device or not.
    let before = blocks.load(Ordering::Relaxed);
    wait_until("blocks without a device", Duration::from_secs(5), || {
        blocks.load(Ordering::Relaxed) > before + 50
    });

    let dir = PathBuf::from(env::var_os(SERVER_DIR).unwrap());
    // A killed server leaves its socket behind.
    std::fs::remove_file(dir.join("pulse/native")).unwrap_or(());
    let server = Server::start(&dir);
    expect_event("speaker", &speaker_heard, opened);
    expect_event("microphone", &microphone_heard, opened);
    assert!(speaker.stats().opened >= 2 && speaker.stats().failed >= 1);
    let calls = speaker.stats().ring.callbacks;
    wait_until("the device to call again", Duration::from_secs(5), || {
        speaker.stats().ring.callbacks != calls
    });
    assert!(
        speaker.stats().errors < 1000 && microphone.stats().errors < 1000,
        "no flood"
    );
    drop(speaker);
    drop(microphone);
    drop(server);
}
