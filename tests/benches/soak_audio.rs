//! A long call through real device callbacks: a microphone and a loudspeaker of a private sound server, two processes
//! and a supernode between them. Nothing may drop out, and the devices may not cost more than 30 ms.
//!
//! What is said into the microphone and what the loudspeaker plays are recorded apart. Both recordings note when each
//! piece of them arrived: the earliest arrivals tell when the first sample was heard, to a millisecond, and so the way
//! from mouth to ear. Beside it stands the same speech from file to file, whose way the program itself measures.
//!
//! Files are sent as they are, and so is the microphone here: like is compared with like. With `AHOY_SOAK_PROCESSED=1` it
//! is the call of every day: the caller's voice is processed, which takes some 10 ms longer, and the callee speaks too,
//! so that the caller's process does all that a call asks for.
//!
//! `make soak-audio`, or `AHOY_BIN=… AHOY_SOAK_SECONDS=30 cargo bench -p ahoy-tests --features devices --bench soak_audio`

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench may panic and print, and measures real time"
)]

use std::{
    ffi::OsStr,
    fs,
    io::{BufWriter, Read as _, Write as _},
    path::Path,
    process::{Child, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ahoy_media::audio::{
    BLOCK_SAMPLES,
    align::align,
    sink::AudioSink as _,
    wav::{WavSink, read_all},
};
use ahoy_tests::{
    process::{Running, speech, start, start_in},
    sound_server::{Sound, SoundServer, missing_tools, wait_until},
};

const RATE: usize = 48_000;
/// Ten minutes, where nothing else is said.
const SECONDS: u64 = 600;
/// How long the call from file to file lasts.
const FILES_SECONDS: &str = "20";
/// Devices may cost this much more than files, in milliseconds.
const MAX_MORE_MILLIS: f64 = 30.0;
/// Longer ways are not looked for.
const MAX_DELAY: usize = RATE / 2;
/// The recording is looked at in pieces of ten seconds.
const PIECE: usize = 10 * RATE;

/// Digital silence this long between loud sound is a gap: half a millisecond. No voice passes through zero so slowly.
const GAP_SAMPLES: usize = 24;
const GAP_PEAK: f32 = 1e-4;
/// What is loud, RMS, and how much of it on both sides of a gap.
const LOUD_RMS: f32 = 0.01;
const LOUD_SAMPLES: usize = 480;

const MODULES: [&str; 4] = [
    "module-null-sink sink_name=mouth rate=48000 channels=1 norewinds=1",
    "module-null-sink sink_name=ear rate=48000 channels=1 norewinds=1",
    "module-null-sink sink_name=away rate=48000 channels=1 norewinds=1",
    "module-remap-source source_name=mic master=mouth.monitor",
];

/// The caller's loudspeaker is not the one that is listened to.
const OTHER_SPEAKER: &str = "speaker = \"pulseaudio:away\"\n";

/// When so many samples were there.
type Arrival = (Instant, usize);

/// What one source of the sound server hears.
struct Recording {
    process: Child,
    reader: thread::JoinHandle<(Vec<f32>, Vec<Arrival>)>,
    samples: Arc<AtomicUsize>,
}

/// Its samples, and when the first of them was heard.
struct Recorded {
    samples: Vec<f32>,
    began: Instant,
}

impl Recording {
    fn start(sound: &Sound, source: &str) -> Self {
        let mut command = sound.tool("parec");
        command
            .args([&format!("--device={source}"), "--channels=1"])
            .args(["--format=s16le", "--rate=48000", "--latency-msec=5"])
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let samples = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&samples);
        let read = move || {
            let (mut heard, mut arrivals) = (Vec::new(), Vec::new());
            let mut bytes = [0u8; 8192];
            let mut held = Vec::new();
            loop {
                let got = stdout.read(&mut bytes).unwrap_or(0);
                if got == 0 {
                    return (heard, arrivals);
                }
                held.extend_from_slice(&bytes[..got]);
                let (pairs, _half) = held.as_chunks::<2>();
                heard.extend(
                    pairs
                        .iter()
                        .map(|&pair| f32::from(i16::from_le_bytes(pair)) / 32_768.0),
                );
                held.drain(..pairs.len() * 2);
                arrivals.push((Instant::now(), heard.len()));
                count.store(heard.len(), Ordering::Relaxed);
            }
        };
        Self {
            process,
            reader: thread::Builder::new().spawn(read).unwrap(),
            samples,
        }
    }

    fn len(&self) -> usize {
        self.samples.load(Ordering::Relaxed)
    }

    fn finish(mut self) -> Recorded {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let (samples, arrivals) = self.reader.join().unwrap();
        // A piece arrives after its last sample was heard, never before. The first pieces were waiting already.
        let began = arrivals
            .iter()
            .filter(|(_, samples)| *samples > RATE)
            .filter_map(|(at, samples)| {
                at.checked_sub(Duration::from_secs_f64(*samples as f64 / RATE as f64))
            })
            .min()
            .unwrap();
        Recorded { samples, began }
    }
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// Places, in samples, and lengths of digital silence in the middle of sound.
fn gaps(samples: &[f32]) -> Vec<(usize, usize)> {
    let mut gaps = Vec::new();
    let mut start = 0;
    for (n, sample) in samples.iter().enumerate() {
        if sample.abs() < GAP_PEAK {
            continue;
        }
        let length = n - start;
        if length >= GAP_SAMPLES
            && start >= LOUD_SAMPLES
            && samples.len() >= n + LOUD_SAMPLES
            && rms(&samples[start - LOUD_SAMPLES..start]) > LOUD_RMS
            && rms(&samples[n..n + LOUD_SAMPLES]) > LOUD_RMS
        {
            gaps.push((start, length));
        }
        start = n + 1;
    }
    gaps
}

/// Runs of 10 ms in which the mouth speaks, and spoke and goes on speaking, and the ear hears next to nothing `delay`
/// later.
fn holes(mouth: &[f32], ear: &[f32], delay: usize) -> Vec<usize> {
    let loud: Vec<bool> = mouth
        .chunks_exact(LOUD_SAMPLES)
        .map(|block| rms(block) > LOUD_RMS)
        .collect();
    (2..loud.len().saturating_sub(2))
        .filter(|&n| loud[n - 2..=n + 2].iter().all(|&loud| loud))
        .filter(|&n| {
            let from = n * LOUD_SAMPLES;
            ear.get(from + delay..from + delay + LOUD_SAMPLES)
                .is_some_and(|heard| rms(heard) < 0.03 * rms(&mouth[from..from + LOUD_SAMPLES]))
        })
        .map(|n| n * LOUD_SAMPLES)
        .collect()
}

/// The way from file to file: what the program measures of itself.
fn files(folder: &Path) -> f64 {
    let demo = start(
        &folder.join("files"),
        ["demo", "--json", "--for", FILES_SECONDS],
    );
    let finished = demo.finish_within(Duration::from_secs(90)).expect_code(0);
    let report = finished.json();
    let measured = &report["participants"][0]["audio"]["mouth_to_ear_ms"]["p50"];
    measured
        .as_f64()
        .unwrap_or_else(|| panic!("no way from mouth to ear in {report}"))
}

/// Processor time so far, in clock ticks of 10 ms.
fn ticks(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
    fields[12].parse::<f64>().unwrap() + fields[13].parse::<f64>().unwrap()
}

/// Speech that the canceller does not take for the caller's own: the clip backwards.
fn write_answer(to: &Path) {
    let mut sink = WavSink::create(to).unwrap();
    let mut speech = read_all(speech()).unwrap();
    speech.reverse();
    for block in speech.as_chunks::<BLOCK_SAMPLES>().0 {
        sink.write_block(block).unwrap();
    }
    sink.finish().unwrap();
}

/// Speech for `seconds`, as bare 16-bit samples.
fn write_speech(to: &Path, seconds: usize) {
    let speech = read_all(speech()).unwrap();
    let mut file = BufWriter::new(fs::File::create(to).unwrap());
    for sample in speech.iter().cycle().take(seconds * RATE) {
        file.write_all(&((sample * 32_767.0) as i16).to_le_bytes())
            .unwrap();
    }
    file.flush().unwrap();
}

fn ahoy(sound: &Sound, folder: &Path, home: &str, arguments: &[&str]) -> Running {
    let command = sound.tool("true");
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
        .chain([(
            OsStr::new("RUST_LOG"),
            OsStr::new("info,ahoy_media::audio::device=debug"),
        )]);
    start_in(&folder.join(home), environment, arguments)
}

fn main() -> ExitCode {
    let missing = missing_tools();
    if !missing.is_empty() {
        println!("{missing:?} not installed: nothing was measured");
        return ExitCode::FAILURE;
    }
    let seconds = std::env::var("AHOY_SOAK_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(SECONDS);
    let processed = std::env::var_os("AHOY_SOAK_PROCESSED").is_some_and(|set| !set.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = |name: &str| folder.join(name);
    let by_files = files(folder);
    println!("file to file: mouth to ear {by_files:.1} ms in the median");

    fs::create_dir(path("run")).unwrap();
    let server = SoundServer::start(&path("run"), &MODULES);
    let sound = server.sound();
    sound.pactl(&["set-default-sink", "ear"]);
    sound.pactl(&["set-default-source", "mic"]);
    write_speech(&path("said.raw"), usize::try_from(seconds).unwrap());

    let node = ahoy(
        sound,
        folder,
        "node",
        &["supernode", "--listen", "127.0.0.1:0", "--print-link"],
    );
    let link = node.first_line();
    let answer = ["answer", "--via", &link, "--auto", "--once"];
    let answer_wav = path("answer.wav").to_string_lossy().into_owned();
    let (answers_with, hears_by, processing) = if processed {
        fs::create_dir(path("alice")).unwrap();
        fs::write(path("alice").join("settings.toml"), OTHER_SPEAKER).unwrap();
        write_answer(&path("answer.wav"));
        (&answer_wav[..], "speaker", &[][..])
    } else {
        ("silence", "null", &["--music"][..])
    };
    let answer = [
        &answer[..],
        &["--audio-in", answers_with, "--audio-out", "speaker"],
    ]
    .concat();
    let bob = ahoy(sound, folder, "bob", &answer);
    let link = bob.first_line();
    let call = ["call", &link, "--audio-in", "mic", "--audio-out", hears_by];
    let call = [&call[..], processing].concat();
    let alice = ahoy(sound, folder, "alice", &call);
    alice.wait_stderr("sound from the other side");

    let recordings = ["mouth.monitor", "ear.monitor"].map(|source| Recording::start(sound, source));
    wait_until("the recordings", Duration::from_secs(10), || {
        recordings.iter().all(|recording| recording.len() > 0)
    });
    let before = [alice.id(), bob.id(), server.id()].map(ticks);
    let mut said = sound.tool("paplay");
    said.args(["--device=mouth", "--raw", "--format=s16le", "--channels=1"])
        .args(["--rate=48000", "--latency-msec=100"])
        .arg(path("said.raw"));
    assert!(said.status().unwrap().success(), "{said:?}");
    let after = [alice.id(), bob.id(), server.id()].map(ticks);
    let enough = recordings[1].len() + RATE;
    wait_until("the last second", Duration::from_secs(10), || {
        recordings[1].len() >= enough
    });
    let [mouth, ear] = recordings.map(Recording::finish);
    let hung_up = ahoy(sound, folder, "alice", &["ctl", "hangup"]).finish();
    let (alice, bob) = (alice.finish(), bob.finish());
    for ended in [&hung_up, &alice, &bob] {
        assert_eq!(ended.code, Some(0), "{}: {}", ended.command, ended.stderr);
    }
    for line in alice.stderr.lines().chain(bob.stderr.lines()) {
        println!("  {line}");
    }
    for (who, (after, before)) in ["caller", "callee", "sound server"]
        .into_iter()
        .zip(after.into_iter().zip(before))
    {
        let share = (after - before) / seconds as f64;
        println!("{who}: {share:.1} % of a core");
    }

    // The ear's recording from where the mouth's begins.
    let ahead = mouth.began.saturating_duration_since(ear.began);
    let behind = ear.began.saturating_duration_since(mouth.began);
    let samples = |time: Duration| (time.as_secs_f64() * RATE as f64).round() as usize;
    let mut ear = ear.samples;
    ear.drain(..samples(ahead).min(ear.len()));
    ear.splice(..0, std::iter::repeat_n(0.0, samples(behind)));
    let mouth = mouth.samples;
    let mut delays = Vec::new();
    let (mut windows, mut dropouts) = (0, 0);
    for from in (0..mouth.len()).step_by(PIECE) {
        let spoken = &mouth[from..(from + PIECE).min(mouth.len())];
        let heard = &ear[from..(from + PIECE + MAX_DELAY).min(ear.len())];
        let Some(alignment) = align(spoken, heard, MAX_DELAY) else {
            if rms(spoken) > LOUD_RMS {
                println!("at {:.1} s nothing is heard", from as f64 / RATE as f64);
                dropouts += 1;
            }
            continue;
        };
        windows += alignment.windows.len();
        let found: Vec<i64> = alignment
            .windows
            .iter()
            .filter_map(|window| window.delay_samples)
            .collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        let median = usize::try_from(median).unwrap_or(0);
        for at in holes(spoken, heard, median) {
            let at = (from + at) as f64 / RATE as f64;
            println!("at {at:.2} s the ear hears nothing of what is said");
            dropouts += 1;
        }
        delays.extend(found);
    }
    for (at, length) in gaps(&ear) {
        let millis = length as f64 * 1e3 / RATE as f64;
        let at = at as f64 / RATE as f64;
        println!("at {at:.2} s a gap of {millis:.1} ms");
        dropouts += 1;
    }
    let own = gaps(&mouth).len();
    delays.sort_unstable();
    let quantile = |q: f64| {
        let index = (q * delays.len().saturating_sub(1) as f64).round() as usize;
        delays
            .get(index)
            .map_or(f64::NAN, |&d| d as f64 * 1e3 / RATE as f64)
    };
    let more = quantile(0.5) - by_files;
    println!(
        "{:.0} s through devices: mouth to ear {:.1} ms in the median, {:.1} to {:.1} ms for 5 to 95 %, {more:.1} ms more than by files; \
         {} of {windows} windows found",
        mouth.len() as f64 / RATE as f64,
        quantile(0.5),
        quantile(0.05),
        quantile(0.95),
        delays.len()
    );
    println!("drop-outs: {dropouts} (gaps in what was said into the microphone: {own})");
    if dropouts == 0 && more <= MAX_MORE_MILLIS {
        println!("passed");
        ExitCode::SUCCESS
    } else {
        println!("FAILED: no drop-out and no more than {MAX_MORE_MILLIS} ms are wanted");
        ExitCode::FAILURE
    }
}
