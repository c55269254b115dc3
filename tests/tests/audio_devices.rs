//! Microphone and speaker on a private sound server: no hardware, and nobody's real devices.
//!
//! Each test starts a PulseAudio of its own and runs its body in a process of its own whose environment leads there;
//! that process has a time limit, since hanging is one of the things that sound systems do.
//!
//! How long sound was away is read from the sound itself. Each microphone gives a tone of its own, and the blocks that
//! come from it every 10 ms, device or not, are the clock; the speaker is given a tone that rises all the time, so that
//! each piece of a recording tells when it was said.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{
    env,
    f64::consts::TAU,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ahoy_media::audio::{
    BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ, SILENCE, align,
    capture::Voice,
    device::{
        AudioSystem, DeviceChoice, DeviceError, DeviceEvent, Direction, Microphone, Opening,
        Others, Speaker, list,
    },
    priority::ThreadPriority,
    source::{AudioSource, SourceState},
    voice::{Chain, VoiceConfig},
    wav::{AtEnd, WavSource, read_all},
    wide::WideBlock,
};
use ahoy_tests::sound_server::{Process, Sound, SoundServer, missing_tools, recorded, wait_until};
use tempfile::TempDir;

/// Tells the inner process where its server is; without it the inner tests touch nothing.
const SERVER_DIR: &str = "AHOY_TEST_SOUND_SERVER";

/// In the server's folder: its process id, and the wish for a new server after it was killed.
const PID_FILE: &str = "server.pid";
const RESTART_FILE: &str = "restart";

/// No body takes longer unless something hangs.
const INNER_LIMIT: Duration = Duration::from_secs(60);

/// Longer than anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sound is to be back this long after its device, in milliseconds.
const BACK_MILLIS: usize = 1000;

/// So long another microphone may be heard before somebody is told, in milliseconds: the list is looked at five times a
/// second, and a busy machine may be late.
const UNTOLD_MILLIS: usize = 400;

const BLOCK_MILLIS: usize = 10;

/// Two servers at once on a small machine would only disturb each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Without `norewinds` an idle sink plays two seconds ahead, and takes nothing for as long once it is used.
const SPEAKERS: [&str; 2] = [
    "module-null-sink sink_name=spk_a rate=48000 norewinds=1",
    "module-null-sink sink_name=spk_b rate=48000 norewinds=1",
];
/// A microphone is what a sink is given; where that is a tone, each is known by its own.
const MOUTHS: [&str; 2] = [
    "module-null-sink sink_name=mouth_a rate=48000 norewinds=1",
    "module-null-sink sink_name=mouth_b rate=48000 norewinds=1",
];
const MIC_A: &str = "module-remap-source source_name=mic_a master=mouth_a.monitor";
const MIC_B: &str = "module-remap-source source_name=mic_b master=mouth_b.monitor";
/// The same microphone in another format.
const MIC_A_44100: &str =
    "module-remap-source source_name=mic_a master=mouth_a.monitor rate=44100 channels=1";
const TONES_HZ: [f64; 2] = [600.0, 1500.0];
/// Longer than any test.
const TONE_SECONDS: usize = 90;

/// Runs the inner test `name` beside a fresh server with two speakers and no microphone.
fn with_server(name: &str) {
    let missing = missing_tools();
    if !missing.is_empty() {
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "{missing:?} not installed"
        );
        eprintln!("SKIPPED {name}: {missing:?} not installed, so nothing was tested");
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    // The server belongs to this process, also the one that takes the place of a killed one: whatever becomes of the
    // inner test, none is left behind.
    let start = || {
        let modules = [SPEAKERS, MOUTHS].concat();
        let server = SoundServer::start(dir.path(), &modules);
        fs::write(dir.path().join(PID_FILE), server.id().to_string()).unwrap();
        server
    };
    let mut server = start();
    let mut inner = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("XDG_RUNTIME_DIR", dir.path())
        .env("HOME", dir.path())
        .env_remove("PULSE_SERVER")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .env(SERVER_DIR, dir.path())
        .spawn()
        .unwrap();
    let mut status = None;
    for _ in 0..INNER_LIMIT.as_millis() / 10 {
        status = inner.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        if fs::remove_file(dir.path().join(RESTART_FILE)).is_ok() {
            drop(server);
            server = start();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if status.is_none() {
        inner.kill().unwrap();
        inner.wait().unwrap();
    }
    drop(server);
    let status = status.expect("the test hung and was stopped");
    assert!(status.success(), "{name}: {status}");
}

/// The server, if this process was started by [`with_server`].
fn server() -> Option<Sound> {
    let folder = env::var_os(SERVER_DIR);
    if folder.is_none() {
        eprintln!("SKIPPED: it runs inside the test that starts its sound server");
    }
    folder.map(|folder| Sound::at(Path::new(&folder)))
}

fn server_folder() -> PathBuf {
    PathBuf::from(env::var_os(SERVER_DIR).unwrap())
}

fn kill_server() {
    let pid = fs::read_to_string(server_folder().join(PID_FILE)).unwrap();
    let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
}

/// Lets the outer process start another, and waits for it.
fn restart_server(sound: &Sound) {
    fs::write(server_folder().join(RESTART_FILE), "").unwrap();
    wait_until("the new server", PATIENCE, || sound.answers());
}

fn chosen(id: &str) -> DeviceChoice {
    DeviceChoice::Id(id_of(id))
}

fn id_of(id: &str) -> String {
    format!("pulseaudio:{id}")
}

fn clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/ahoy.wav")
}

/// Speaks a tone into each microphone, and keeps the server at it in small pieces.
fn speak(sound: &Sound) -> Vec<Process> {
    let mut processes = Vec::new();
    for (mouth, hz) in ["mouth_a", "mouth_b"].into_iter().zip(TONES_HZ) {
        let file = server_folder().join(mouth);
        if !file.exists() {
            let tone: Vec<u8> = (0..TONE_SECONDS * SAMPLE_RATE_HZ as usize)
                .map(|n| (TAU * hz * n as f64 / f64::from(SAMPLE_RATE_HZ)).sin())
                .flat_map(|s| ((0.5 * s * 32_767.0) as i16).to_le_bytes())
                .collect();
            fs::write(&file, tone).unwrap();
        }
        let mut play = sound.player(mouth, &file, "s16le", 1);
        processes.push(Process::start(play.arg("--latency-msec=200")));
        processes.push(hold(sound, &format!("{mouth}.monitor")));
    }
    processes
}

/// Keeps a source open, in small pieces.
fn hold(sound: &Sound, source: &str) -> Process {
    let mut listen = sound.tool("parec");
    listen
        .args([&format!("--device={source}"), "--latency-msec=5"])
        .stdout(Stdio::null());
    Process::start(&mut listen)
}

/// What happened, and how many blocks had been given by then.
type Events = Arc<Mutex<Vec<(usize, DeviceEvent)>>>;

/// What a block of a microphone holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Silence,
    /// The tone of microphone `a` or `b`.
    Tone(char),
    /// The beginning or end of one.
    Part,
}

impl Heard {
    fn of(block: &[f32]) -> Self {
        let power = block.iter().map(|s| f64::from(s * s)).sum::<f64>() / block.len() as f64;
        if power < 1e-6 {
            return Self::Silence;
        }
        // Both tones fit a whole number of times into a block.
        let share = |hz: f64| {
            let (mut re, mut im) = (0.0, 0.0);
            for (n, s) in block.iter().enumerate() {
                let (sin, cos) = (TAU * hz * n as f64 / f64::from(SAMPLE_RATE_HZ)).sin_cos();
                re += f64::from(*s) * cos;
                im += f64::from(*s) * sin;
            }
            let amplitude = 2.0 * (re * re + im * im).sqrt() / block.len() as f64;
            amplitude * amplitude / 2.0 / power
        };
        match TONES_HZ.map(share) {
            [a, _] if a > 0.9 => Self::Tone('a'),
            [_, b] if b > 0.9 => Self::Tone('b'),
            [_, _] => Self::Part,
        }
    }
}

/// A microphone with everything that came from it, which is its clock.
struct Listener {
    microphone: Microphone,
    blocks: Arc<Mutex<Vec<Heard>>>,
    events: Events,
}

impl Listener {
    fn open(opening: impl Into<Opening>) -> Self {
        let blocks = Arc::new(Mutex::new(Vec::new()));
        let events = Events::default();
        let microphone = Microphone::open(
            AudioSystem::Best,
            opening,
            {
                let blocks = Arc::clone(&blocks);
                move |block| blocks.lock().unwrap().push(Heard::of(block))
            },
            {
                let (blocks, events) = (Arc::clone(&blocks), Arc::clone(&events));
                move |event| {
                    let now = blocks.lock().unwrap().len();
                    eprintln!("microphone at {now}: {event:?}");
                    events.lock().unwrap().push((now, event));
                }
            },
        )
        .unwrap();
        Self {
            microphone,
            blocks,
            events,
        }
    }

    /// Blocks so far.
    fn now(&self) -> usize {
        self.blocks.lock().unwrap().len()
    }

    /// What the blocks from `from` on hold.
    fn heard(&self, from: usize) -> Vec<Heard> {
        let blocks = self.blocks.lock().unwrap();
        blocks[from.min(blocks.len())..].to_vec()
    }

    fn count(&self, from: usize, what: Heard) -> usize {
        self.heard(from).iter().filter(|&&h| h == what).count()
    }

    /// Waits for half a second of a tone in all, from block `from` on, and returns the first.
    fn wait_for_tone(&self, from: usize, tone: char) -> usize {
        let tone = Heard::Tone(tone);
        wait_until("the microphone's tone", PATIENCE, || {
            self.count(from, tone) >= 50
        });
        from + self.heard(from).iter().position(|&h| h == tone).unwrap()
    }

    /// Waits for an event and returns the block at which it came.
    fn wait_for_event(&self, wanted: impl Fn(&DeviceEvent) -> bool) -> usize {
        wait_for_event("microphone", &self.events, 0, wanted)
    }

    fn assert_told_soon(&self, from: usize, told: usize, tone: char) {
        let heard = self.heard(from);
        let untold = heard[..told.saturating_sub(from).min(heard.len())]
            .iter()
            .filter(|&&h| h == Heard::Tone(tone))
            .count()
            * BLOCK_MILLIS;
        eprintln!("another microphone was heard for {untold} ms before anybody was told");
        assert!(untold <= UNTOLD_MILLIS, "{untold} ms untold");
    }
}

/// Waits for an event that comes after the first `skip`.
fn wait_for_event(
    who: &str,
    events: &Events,
    skip: usize,
    wanted: impl Fn(&DeviceEvent) -> bool,
) -> usize {
    let mut found = None;
    wait_until(&format!("an event of the {who}"), PATIENCE, || {
        let events = events.lock().unwrap();
        found = events
            .iter()
            .skip(skip)
            .find(|(_, event)| wanted(event))
            .map(|(at, _)| *at);
        found.is_some()
    });
    found.unwrap()
}

fn opened(event: &DeviceEvent) -> bool {
    matches!(event, DeviceEvent::Opened(_))
}

/// The longest run without the wanted tone between block `from` and the last one that holds it, in milliseconds.
fn longest_gap_millis(heard: &[Heard], wanted: impl Fn(Heard) -> bool) -> usize {
    heard
        .split(|&h| wanted(h))
        .map(<[Heard]>::len)
        .rev()
        // What follows the last tone is not over yet.
        .skip(1)
        .max()
        .unwrap_or(heard.len())
        * BLOCK_MILLIS
}

/// Where the rising tone begins, and how fast it rises: a hertz is five milliseconds.
const SWEEP_START_HZ: f64 = 1000.0;
const SWEEP_HZ_PER_SECOND: f64 = 200.0;

/// A speaker that plays a tone which tells the time.
struct Player {
    speaker: Speaker,
    pulled: Arc<AtomicU64>,
    events: Events,
}

impl Player {
    fn open(opening: impl Into<Opening>) -> Self {
        let pulled = Arc::<AtomicU64>::default();
        let events = Events::default();
        let speaker = Speaker::open(
            AudioSystem::Best,
            opening,
            {
                let pulled = Arc::clone(&pulled);
                move |block: &mut Block| {
                    let first = pulled.fetch_add(1, Ordering::Relaxed) * BLOCK_SAMPLES as u64;
                    for (sample, n) in block.iter_mut().zip(first..) {
                        let t = n as f64 / f64::from(SAMPLE_RATE_HZ);
                        let turns = SWEEP_START_HZ * t + 0.5 * SWEEP_HZ_PER_SECOND * t * t;
                        *sample = (0.5 * (TAU * turns.fract()).sin()) as f32;
                    }
                }
            },
            {
                let (pulled, events) = (Arc::clone(&pulled), Arc::clone(&events));
                move |event| {
                    let now = pulled.load(Ordering::Relaxed) as usize;
                    eprintln!("speaker at {now}: {event:?}");
                    events.lock().unwrap().push((now, event));
                }
            },
        )
        .unwrap();
        Self {
            speaker,
            pulled,
            events,
        }
    }

    /// How much of the tone was said so far, in seconds.
    fn now(&self) -> f64 {
        (self.pulled.load(Ordering::Relaxed) as usize * BLOCK_MILLIS) as f64 / 1e3
    }

    fn wait_for_event(&self, wanted: impl Fn(&DeviceEvent) -> bool) -> usize {
        wait_for_event("speaker", &self.events, 0, wanted)
    }
}

/// Long enough for ten turns of the tone.
const WINDOW: usize = BLOCK_SAMPLES;

/// When each 10 ms of a recording were said, in seconds; nothing where there is no clean tone.
fn said_at(recording: &[f32]) -> Vec<f64> {
    recording
        .chunks_exact(WINDOW)
        .filter_map(|window| {
            // Where the tone rises through zero, between samples.
            let crossings: Vec<f64> = window
                .windows(2)
                .enumerate()
                .filter(|(_, pair)| pair[0] < 0.0 && pair[1] >= 0.0)
                .map(|(n, pair)| n as f64 + f64::from(pair[0] / (pair[0] - pair[1])))
                .collect();
            let loud = window.iter().filter(|s| s.abs() > 0.05).count() > window.len() / 2;
            let (first, last) = (crossings.first()?, crossings.last()?);
            let turns = (crossings.len() - 1) as f64;
            if !loud || turns < 8.0 {
                return None;
            }
            let period = (last - first) / turns;
            let even = crossings
                .windows(2)
                .all(|pair| (pair[1] - pair[0] - period).abs() < 0.1 * period);
            let hz = f64::from(SAMPLE_RATE_HZ) / period;
            even.then(|| (hz - SWEEP_START_HZ) / SWEEP_HZ_PER_SECOND)
        })
        .collect()
}

/// Records `source` until half a second of the rising tone from `from` on was heard, and returns the first of it.
fn wait_for_sweep(recording: &Path, from: f64) -> f64 {
    let mut said = Vec::new();
    let mut looked_at = 0;
    wait_until("the rising tone", PATIENCE, || {
        let samples = recorded(recording);
        let windows = (samples.len() - looked_at) / WINDOW * WINDOW;
        let news = said_at(&samples[looked_at..looked_at + windows]);
        looked_at += windows;
        said.extend(news.into_iter().filter(|&t| t >= from));
        said.len() >= 50
    });
    said[0]
}

#[test]
fn a_microphone_gives_what_is_said_and_a_speaker_plays_what_it_is_given() {
    with_server("inner_both_ways");
}

#[test]
#[ignore = "run by a_microphone_gives_what_is_said_and_a_speaker_plays_what_it_is_given"]
fn inner_both_ways() {
    let Some(server) = server() else { return };
    let monitor = Microphone::open(AudioSystem::Best, chosen("spk_b.monitor"), |_| {}, |_| {});
    let monitor = monitor.unwrap();
    let info = monitor.wait_until_open(PATIENCE).unwrap();
    assert_eq!(info.direction, Direction::Input);
    assert!(info.is_pseudo, "the monitor of a speaker is no microphone");
    drop(monitor);

    let _held = hold(&server, "mouth_a.monitor");
    let _mic = server.load(MIC_A);
    let heard = Arc::new(Mutex::new(Vec::<f32>::new()));
    let microphone = Microphone::open(
        AudioSystem::Best,
        chosen("mic_a"),
        {
            let heard = Arc::clone(&heard);
            move |block| heard.lock().unwrap().extend_from_slice(block)
        },
        |event| eprintln!("microphone: {event:?}"),
    )
    .unwrap();
    let info = microphone.wait_until_open(PATIENCE).unwrap();
    assert!(!info.is_pseudo);
    let mut said = server.tool("paplay");
    let _said = Process::start(said.arg("--device=mouth_a").arg(clip()));

    let mut source = WavSource::open(clip(), AtEnd::Stop).unwrap();
    let played = server_folder().join("played");
    let recording = server.record("spk_a.monitor", 1, &played);
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
    for stats in [microphone.stats(), speaker.stats()] {
        assert_ne!(stats.worker_priority, ThreadPriority::Ordinary);
        assert_eq!(stats.worker_priority, stats.stream_priority);
    }
    drop(speaker);
    drop(microphone);
    drop(recording);

    let heard = heard.lock().unwrap().clone();
    for (who, found) in [("microphone", heard), ("speaker", recorded(&played))] {
        let alignment = align::align(sent, &found, 3 * 48_000);
        let alignment = alignment.unwrap_or_else(|| panic!("{who}: the clip is not to be found"));
        let best = alignment.best_correlation();
        eprintln!(
            "{who}: {:.0} % of windows found, the best agrees by {best:.3}, the whole by {:.3}",
            100.0 * alignment.found_fraction(),
            alignment.correlation
        );
        // A busy machine tears gaps. What is there must be the clip.
        assert!(alignment.found_fraction() > 0.3, "{who}");
        assert!(best > 0.95, "{who}");
    }
}

#[test]
fn two_channels_come_from_a_microphone_and_go_to_a_speaker_as_two() {
    with_server("inner_two_channels");
}

/// A tone on the left and another on the right, from the sample of this number on.
fn two_tones(from: usize) -> impl Iterator<Item = [f32; 2]> {
    (from..).map(|n| {
        let at = n as f64 / f64::from(SAMPLE_RATE_HZ);
        TONES_HZ.map(|hz| (0.3 * (TAU * hz * at).sin()) as f32)
    })
}

/// How much louder each of the two tones is on its own side, in decibels, in windows of 20 ms that are loud.
fn separation_db(frames: &[[f32; 2]]) -> f64 {
    let mut powers = [[1e-12; 2]; 2];
    let mut loud = 0;
    for window in frames.chunks_exact(960) {
        if window
            .iter()
            .any(|[left, right]| left.abs().max(right.abs()) < 1e-4)
        {
            continue;
        }
        loud += 1;
        for (powers, hz) in powers.iter_mut().zip(TONES_HZ) {
            for (channel, power) in powers.iter_mut().enumerate() {
                let (mut sine, mut cosine) = (0.0, 0.0);
                for (n, frame) in window.iter().enumerate() {
                    let (s, c) = (TAU * hz * n as f64 / 48_000.0).sin_cos();
                    sine += f64::from(frame[channel]) * s;
                    cosine += f64::from(frame[channel]) * c;
                }
                *power += sine * sine + cosine * cosine;
            }
        }
    }
    assert!(loud > 20, "{loud} windows of {}", frames.len() / 960);
    let [[left, leaked_right], [leaked_left, right]] = powers;
    10.0 * f64::min(left / leaked_right, right / leaked_left).log10()
}

#[test]
#[ignore = "run by two_channels_come_from_a_microphone_and_go_to_a_speaker_as_two"]
fn inner_two_channels() {
    let Some(server) = server() else { return };
    let _held = hold(&server, "mouth_a.monitor");
    let _mic = server.load(MIC_A);
    let file = server_folder().join("music");
    let music: Vec<u8> = two_tones(0)
        .take(20 * SAMPLE_RATE_HZ as usize)
        .flatten()
        .flat_map(f32::to_le_bytes)
        .collect();
    fs::write(&file, music).unwrap();
    let mut play = server.player("mouth_a", &file, "float32le", 2);
    let _said = Process::start(&mut play);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let voice = |config| Voice {
        processor: Box::new(Chain::new(config)),
        reference: None,
    };
    let microphone = Microphone::open_with_voice(
        AudioSystem::Best,
        chosen("mic_a"),
        Some(voice(VoiceConfig::OFF)),
        {
            let heard = Arc::clone(&heard);
            move |block: &WideBlock, _ago| {
                heard.lock().unwrap().extend(block.frames());
                2
            }
        },
        |event| eprintln!("microphone: {event:?}"),
    )
    .unwrap();
    let played = server_folder().join("played");
    let recording = server.record("spk_a.monitor", 2, &played);
    let pulled = Arc::new(AtomicU64::new(0));
    let speaker = Speaker::open_with_reference(
        AudioSystem::Best,
        chosen("spk_a"),
        None,
        {
            let pulled = Arc::clone(&pulled);
            move |block: &mut WideBlock| {
                let n = pulled.fetch_add(1, Ordering::Relaxed) as usize;
                block.set_frames(two_tones(n * BLOCK_SAMPLES));
            }
        },
        |event| eprintln!("speaker: {event:?}"),
    )
    .unwrap();
    wait_until("five seconds of sound", Duration::from_secs(30), || {
        pulled.load(Ordering::Relaxed) >= 500
    });
    // While something is done to the voice there is one channel.
    microphone.configure_voice(VoiceConfig {
        high_pass: true,
        ..VoiceConfig::OFF
    });
    let before = heard.lock().unwrap().len();
    wait_until("another two", Duration::from_secs(30), || {
        heard.lock().unwrap().len() >= before + 2 * SAMPLE_RATE_HZ as usize
    });
    drop((speaker, microphone, recording));
    let heard = heard.lock().unwrap().clone();
    let played: Vec<[f32; 2]> = recorded(&played).as_chunks().0.to_vec();
    let [heard_db, played_db] = [&heard[..before], &played[..]].map(separation_db);
    eprintln!("microphone {heard_db:.1} dB, speaker {played_db:.1} dB");
    assert!(heard_db > 25.0 && played_db > 25.0);
    let one = &heard[heard.len() - SAMPLE_RATE_HZ as usize..];
    assert!(one.iter().all(|[left, right]| left == right));
}

#[test]
fn other_programs_are_heard_as_long_as_they_play_and_this_one_is_not() {
    with_server("inner_others");
}

#[test]
#[ignore = "run by other_programs_are_heard_as_long_as_they_play_and_this_one_is_not"]
fn inner_others() {
    let Some(server) = server() else { return };
    let seconds = |seconds: usize| seconds * SAMPLE_RATE_HZ as usize;
    let tone = |hz: f64, n: usize| (TAU * hz * n as f64 / f64::from(SAMPLE_RATE_HZ)).sin() as f32;
    // On the same speaker as what is played here.
    let file = server_folder().join("theirs");
    let theirs: Vec<u8> = (0..seconds(4))
        .flat_map(|n| (0.3 * tone(TONES_HZ[0], n)).to_le_bytes())
        .collect();
    fs::write(&file, theirs).unwrap();
    let _held = hold(&server, "spk_a.monitor");
    let pulled = Arc::new(AtomicU64::new(0));
    let speaker = Speaker::open(
        AudioSystem::Best,
        chosen("spk_a"),
        {
            let pulled = Arc::clone(&pulled);
            move |block| {
                let begin = pulled.fetch_add(1, Ordering::Relaxed) as usize * BLOCK_SAMPLES;
                for (n, sample) in block.iter_mut().enumerate() {
                    *sample = 0.5 * tone(TONES_HZ[1], begin + n);
                }
            }
        },
        |event| eprintln!("speaker: {event:?}"),
    )
    .unwrap();
    let (others, mut mix) = Others::open().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let _mic = server.load(MIC_A);
    let microphone = Microphone::open_with_voice(
        AudioSystem::Best,
        chosen("mic_a"),
        None,
        {
            let heard = Arc::clone(&heard);
            let mut mixed = WideBlock::default();
            move |_block: &WideBlock, ago| {
                mixed.silence();
                mix.mix_into(&mut mixed, ago);
                heard.lock().unwrap().push(Heard::of(&mixed.mid));
                2
            }
        },
        |event| eprintln!("microphone: {event:?}"),
    )
    .unwrap();
    let count = |what: Heard| heard.lock().unwrap().iter().filter(|&&h| h == what).count();
    wait_until("our own sound being played", PATIENCE, || {
        pulled.load(Ordering::Relaxed) > 200
    });
    let mut play = server.player("spk_a", &file, "float32le", 1);
    let _theirs = Process::start(&mut play);
    wait_until("two seconds of the other program", PATIENCE, || {
        count(Heard::Tone('a')) >= 200
    });
    // It ends, and another begins.
    wait_until("silence after it", PATIENCE, || {
        let heard = heard.lock().unwrap();
        heard.len() > 50
            && heard[heard.len() - 50..]
                .iter()
                .all(|&h| h == Heard::Silence)
    });
    let before = count(Heard::Tone('a'));
    let _again = Process::start(&mut play);
    wait_until("another program", PATIENCE, || {
        count(Heard::Tone('a')) >= before + 100
    });
    drop((microphone, others, speaker));
    let heard = heard.lock().unwrap();
    let parts = heard.iter().filter(|&&h| h == Heard::Part).count();
    let own = heard.iter().filter(|&&h| h == Heard::Tone('b')).count();
    eprintln!(
        "{} blocks, {before} of the first, {parts} in part",
        heard.len()
    );
    assert_eq!(own, 0, "what is played here comes back");
    assert!(parts < 12, "{parts} blocks are not whole");
}

#[test]
fn the_list_names_the_speakers_and_leaves_their_monitors_out() {
    with_server("inner_list");
}

#[test]
#[ignore = "run by the_list_names_the_speakers_and_leaves_their_monitors_out"]
fn inner_list() {
    let Some(_server) = server() else { return };
    let devices = list(AudioSystem::Best).unwrap();
    let mut ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
    ids.sort_unstable();
    let sinks = ["mouth_a", "mouth_b", "spk_a", "spk_b"].map(id_of);
    assert_eq!(ids, sinks);
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
fn the_default_microphone_is_followed_and_it_is_told() {
    with_server("inner_default_microphone");
}

#[test]
#[ignore = "run by the_default_microphone_is_followed_and_it_is_told"]
fn inner_default_microphone() {
    let Some(server) = server() else { return };
    let _voices = speak(&server);
    let _mic_a = server.load(MIC_A);
    let mic_b = server.load(MIC_B);
    server.pactl(&["set-default-source", "mic_a"]);
    let listener = Listener::open(DeviceChoice::Default);
    listener.wait_for_tone(0, 'a');

    let changed_to = |id: &str| {
        let id = id_of(id);
        move |event: &DeviceEvent| matches!(event, DeviceEvent::DefaultChanged { to } if to.id == id)
    };
    let from = listener.now();
    server.pactl(&["set-default-source", "mic_b"]);
    let told = listener.wait_for_event(changed_to("mic_b"));
    listener.wait_for_tone(told, 'b');
    listener.assert_told_soon(from, told, 'b');
    let gap = longest_gap_millis(&listener.heard(from), |h| matches!(h, Heard::Tone(_)));
    eprintln!("default changed: {gap} ms without a microphone");
    assert!(gap <= BACK_MILLIS, "{gap} ms");

    // The one that is followed is pulled out.
    let from = listener.now();
    server.unload(&mic_b);
    let told = listener.wait_for_event(changed_to("mic_a"));
    listener.wait_for_tone(told, 'a');
    listener.assert_told_soon(from, told, 'a');
    let gap = longest_gap_millis(&listener.heard(from), |h| matches!(h, Heard::Tone(_)));
    eprintln!("default unplugged: {gap} ms without a microphone");
    assert!(gap <= BACK_MILLIS, "{gap} ms");
}

#[test]
fn no_other_microphone_takes_the_place_of_the_chosen_one_and_it_returns_in_another_format() {
    with_server("inner_chosen_microphone");
}

#[test]
#[ignore = "run by no_other_microphone_takes_the_place_of_the_chosen_one_and_it_returns_in_another_format"]
fn inner_chosen_microphone() {
    let Some(server) = server() else { return };
    let _voices = speak(&server);
    let mic_a = server.load(MIC_A);
    let _mic_b = server.load(MIC_B);
    server.pactl(&["set-default-source", "mic_b"]);
    let listener = Listener::open(chosen("mic_a"));
    listener.wait_for_tone(0, 'a');

    let from = listener.now();
    server.unload(&mic_a);
    let gone =
        listener.wait_for_event(|e| matches!(e, DeviceEvent::Gone { id } if *id == id_of("mic_a")));
    listener.assert_told_soon(from, gone, 'b');
    wait_until("half a second without it", PATIENCE, || {
        listener.now() >= gone + 60
    });
    // The worker may be in the middle of one block, and the resampler ends softly.
    let after = listener.heard(gone + 5);
    assert!(
        after.iter().all(|&h| h == Heard::Silence),
        "silence until it returns: {after:?}"
    );

    let _mic_a = server.load(MIC_A_44100);
    let returned = listener.now();
    let back = (listener.wait_for_tone(returned, 'a') - returned) * BLOCK_MILLIS;
    eprintln!("the chosen microphone was heard {back} ms after its return");
    assert!(back <= BACK_MILLIS, "{back} ms");
    assert_eq!(listener.count(gone + 5, Heard::Tone('b')), 0);
    assert!(listener.microphone.stats().opened >= 2);
}

#[test]
fn a_chosen_microphone_stays_when_the_default_leaves_it() {
    with_server("inner_displaced_microphone");
}

#[test]
#[ignore = "run by a_chosen_microphone_stays_when_the_default_leaves_it"]
fn inner_displaced_microphone() {
    let Some(server) = server() else { return };
    let _voices = speak(&server);
    let _mic_a = server.load(MIC_A);
    let _mic_b = server.load(MIC_B);
    server.pactl(&["set-default-source", "mic_a"]);
    let listener = Listener::open(chosen("mic_a"));
    listener.wait_for_tone(0, 'a');

    let from = listener.now();
    server.pactl(&["set-default-source", "mic_b"]);
    let told = listener.wait_for_event(|e| matches!(e, DeviceEvent::Displaced { .. }));
    listener.wait_for_tone(told, 'a');
    listener.assert_told_soon(from, told, 'b');
    assert_eq!(listener.count(told + 5, Heard::Tone('b')), 0);
    let gap = longest_gap_millis(&listener.heard(from), |h| h == Heard::Tone('a'));
    eprintln!("the chosen microphone was away for {gap} ms");
    assert!(gap <= BACK_MILLIS, "{gap} ms");
}

#[test]
fn a_chosen_microphone_is_fetched_back_from_where_somebody_moved_its_stream() {
    with_server("inner_moved_microphone");
}

#[test]
#[ignore = "run by a_chosen_microphone_is_fetched_back_from_where_somebody_moved_its_stream"]
fn inner_moved_microphone() {
    let Some(server) = server() else { return };
    let _voices = speak(&server);
    let _mic_a = server.load(MIC_A);
    let _mic_b = server.load(MIC_B);
    server.pactl(&["set-default-source", "mic_b"]);
    let move_to_b = || {
        let streams = server.pactl(&["list", "short", "source-outputs"]);
        // The newest is ours; the remapped microphones' own were there before.
        let index = streams.lines().last().unwrap().split('\t').next().unwrap();
        server.pactl(&["move-source-output", index, "mic_b"]);
    };

    let listener = Listener::open(chosen("mic_a"));
    listener.wait_for_tone(0, 'a');
    let from = listener.now();
    move_to_b();
    let told = listener.wait_for_event(|e| matches!(e, DeviceEvent::Displaced { .. }));
    listener.wait_for_tone(told, 'a');
    listener.assert_told_soon(from, told, 'b');
    drop(listener);

    let by_cpal = Listener::open(Opening {
        speak_directly: false,
        ..chosen("mic_a").into()
    });
    by_cpal.wait_for_tone(0, 'a');
    let from = by_cpal.now();
    move_to_b();
    wait_until("a second of the other one", PATIENCE, || {
        by_cpal.count(from, Heard::Tone('b')) >= 100
    });
    let events = by_cpal.events.lock().unwrap();
    assert_eq!(events.len(), 1, "opened, and nothing after it: {events:?}");
}

#[test]
fn unwatched_another_microphone_is_heard_and_nobody_told() {
    with_server("inner_unwatched_microphone");
}

#[test]
#[ignore = "run by unwatched_another_microphone_is_heard_and_nobody_told"]
fn inner_unwatched_microphone() {
    let Some(server) = server() else { return };
    let _voices = speak(&server);
    let mic_a = server.load(MIC_A);
    let _mic_b = server.load(MIC_B);
    server.pactl(&["set-default-source", "mic_b"]);
    let _held = hold(&server, "mic_b");
    let listener = Listener::open(Opening {
        watch_devices: false,
        ..chosen("mic_a").into()
    });
    listener.wait_for_tone(0, 'a');
    let from = listener.now();
    server.unload(&mic_a);
    wait_until("a second of the other one", PATIENCE, || {
        listener.count(from, Heard::Tone('b')) >= 100
    });
    let events = listener.events.lock().unwrap();
    assert_eq!(events.len(), 1, "opened, and nothing after it: {events:?}");
}

#[test]
fn the_default_speaker_is_followed() {
    with_server("inner_default_speaker");
}

#[test]
#[ignore = "run by the_default_speaker_is_followed"]
fn inner_default_speaker() {
    let Some(server) = server() else { return };
    server.pactl(&["set-default-sink", "spk_a"]);
    let file = |name: &str| server_folder().join(name);
    let recordings: [Process; 2] =
        ["spk_a", "spk_b"].map(|sink| server.record(&format!("{sink}.monitor"), 1, &file(sink)));
    let player = Player::open(DeviceChoice::Default);
    wait_for_sweep(&file("spk_a"), 0.0);

    server.pactl(&["set-default-sink", "spk_b"]);
    player.wait_for_event(|e| matches!(e, DeviceEvent::DefaultChanged { .. }));
    let then = player.now();
    wait_for_sweep(&file("spk_b"), then);
    drop(recordings);
    let mut said: Vec<f64> = ["spk_a", "spk_b"]
        .iter()
        .flat_map(|sink| said_at(&recorded(&file(sink))))
        .collect();
    said.sort_by(f64::total_cmp);
    let gap = said
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max);
    eprintln!("default changed: of what was said, {gap:.3} s in a row were not heard");
    assert!(gap * 1e3 <= BACK_MILLIS as f64, "{gap:.3} s");
}

#[test]
fn the_chosen_speaker_returns_in_another_format() {
    with_server("inner_chosen_speaker");
}

#[test]
#[ignore = "run by the_chosen_speaker_returns_in_another_format"]
fn inner_chosen_speaker() {
    let Some(server) = server() else { return };
    let file = |name: &str| server_folder().join(name);
    let usb = server.load("module-null-sink sink_name=usb rate=48000 norewinds=1");
    let player = Player::open(chosen("usb"));
    let before = server.record("usb.monitor", 1, &file("before"));
    wait_for_sweep(&file("before"), 0.0);

    drop(before);
    let other = server.record("spk_a.monitor", 1, &file("other"));
    let from = player.now();
    server.unload(&usb);
    player.wait_for_event(|e| matches!(e, DeviceEvent::Gone { .. }));
    let gone = player.now();
    wait_until("half a second without it", PATIENCE, || {
        player.now() > gone + 0.5
    });
    drop(other);
    let elsewhere = said_at(&recorded(&file("other")));
    eprintln!(
        "another speaker played {:.2} s of it",
        elsewhere.iter().fold(from, |last, &t| last.max(t)) - from
    );
    assert!(elsewhere.iter().all(|&t| t < gone + 0.2), "{elsewhere:?}");

    let _usb = server.load("module-null-sink sink_name=usb rate=44100 channels=1 norewinds=1");
    let returned = player.now();
    let _after = server.record("usb.monitor", 1, &file("after"));
    let back = wait_for_sweep(&file("after"), returned) - returned;
    eprintln!("the chosen speaker played {back:.3} s after its return");
    assert!(back * 1e3 <= BACK_MILLIS as f64, "{back:.3} s");
    assert!(player.speaker.stats().opened >= 2);
}

#[test]
fn a_killed_sound_server_is_an_event_and_sound_returns_with_it() {
    with_server("inner_killed_server");
}

#[test]
#[ignore = "run by a_killed_sound_server_is_an_event_and_sound_returns_with_it"]
fn inner_killed_server() {
    let Some(server) = server() else { return };
    let file = |name: &str| server_folder().join(name);
    let voices = speak(&server);
    let _mic = server.load(MIC_A);
    let player = Player::open(chosen("spk_a"));
    let listener = Listener::open(chosen("mic_a"));
    listener.wait_for_tone(0, 'a');
    player.wait_for_event(opened);
    let first_events = [&player.events, &listener.events].map(|e| e.lock().unwrap().len());

    kill_server();
    drop(voices);
    let lost = |event: &DeviceEvent| matches!(event, DeviceEvent::Lost { .. });
    player.wait_for_event(lost);
    let gone = listener.wait_for_event(lost);
    // The jitter buffer is pulled on, device or not; and so is the encoder fed.
    let before = player.now();
    wait_until("a second without a server", PATIENCE, || {
        player.now() > before + 1.0 && listener.now() > gone + 100
    });

    restart_server(&server);
    let said = player.now();
    // The new server knows nothing of what was plugged into the old one. It comes before the recording, which would be
    // moved to it, as the new default.
    let _mic = server.load(MIC_A);
    let blocks = listener.now();
    let _recording = server.record("spk_a.monitor", 1, &file("after"));
    let _voices = speak(&server);
    let back = wait_for_sweep(&file("after"), said) - said;
    eprintln!("the speaker played {back:.3} s after the server was there");
    assert!(back * 1e3 <= BACK_MILLIS as f64, "{back:.3} s");
    let back = (listener.wait_for_tone(blocks, 'a') - blocks) * BLOCK_MILLIS;
    eprintln!("the microphone was heard {back} ms after it was there");
    assert!(back <= BACK_MILLIS, "{back} ms");
    for (who, events, skip) in [
        ("speaker", &player.events, first_events[0]),
        ("microphone", &listener.events, first_events[1]),
    ] {
        wait_for_event(who, events, skip, opened);
    }
    let stats = [player.speaker.stats(), listener.microphone.stats()];
    assert!(
        stats.iter().all(|stats| stats.errors < 1000),
        "no flood: {stats:?}"
    );
}
