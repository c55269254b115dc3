//! A call through microphone and loudspeaker, between two processes: what is played into the caller's microphone comes
//! out of the callee's loudspeaker, and does not once the caller is muted.
//!
//! Both are devices of a private PulseAudio: a sink named `mouth` whose monitor is the microphone, a sink named `ear`.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{
    env,
    ffi::OsStr,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use ahoy_media::audio::{align::align, wav::read_all};
use ahoy_tests::process::{Running, speech, start_in};

const RATE: usize = 48_000;
/// Of the clip, what is said before and after muting.
const SAID_SECONDS: usize = 6;
/// As in the windows' test: what a decoder makes of digital silence stays far below.
const SILENT_PEAK: f32 = 2.5e-4;
/// What was said before may still be in a buffer on its way, in samples.
const ON_ITS_WAY: usize = RATE;

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().unwrap_or(());
        self.0.wait().map(drop).unwrap_or(());
    }
}

/// The sound server and what belongs to it.
struct Sound<'a> {
    folder: &'a Path,
    _server: Process,
}

impl<'a> Sound<'a> {
    fn start(folder: &'a Path) -> Self {
        let server = tool("pulseaudio", folder)
            .args(["--daemonize=no", "--exit-idle-time=-1", "-n"])
            .args(["--log-level=error", "--use-pid-file=no"])
            .args(["-L", "module-native-protocol-unix"])
            .args(["-L", "module-null-sink sink_name=mouth rate=48000"])
            .args(["-L", "module-null-sink sink_name=ear rate=48000"])
            .args([
                "-L",
                "module-remap-source source_name=mic master=mouth.monitor",
            ])
            .spawn()
            .unwrap();
        let sound = Self {
            folder,
            _server: Process(server),
        };
        wait_until("the sound server's socket", || {
            folder.join("pulse/native").exists()
        });
        for arguments in [["set-default-sink", "ear"], ["set-default-source", "mic"]] {
            let status = tool("pactl", folder).args(arguments).status().unwrap();
            assert!(status.success(), "{arguments:?}");
        }
        sound
    }

    /// Plays `clip` into the microphone, to its end.
    fn speak(&self, clip: &Path) {
        let mut play = tool("paplay", self.folder);
        let status = play.args(["--device=mouth"]).arg(clip).status().unwrap();
        assert!(status.success());
    }

    /// Writes down all that the loudspeaker plays, as bare samples of 16 bits.
    fn record(&self, to: &Path) -> Process {
        let record = tool("parec", self.folder)
            .args(["--device=ear.monitor", "--format=s16le", "--channels=1"])
            .args(["--rate=48000", "--latency-msec=20"])
            .stdout(fs::File::create(to).unwrap())
            .spawn();
        Process(record.unwrap())
    }

    fn ahoy(&self, home: &Path, arguments: &[&str]) -> Running {
        let folder = self.folder.as_os_str();
        let environment = [("XDG_RUNTIME_DIR", folder), ("HOME", folder)];
        let environment = environment.map(|(name, value)| (OsStr::new(name), value));
        start_in(home, environment, arguments)
    }
}

/// A tool that finds the private server and no other.
fn tool(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder)
        .env_remove("PULSE_SERVER")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .stdin(Stdio::null());
    command
}

/// Waits for another process, which cannot be told to hurry.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    const STEP: Duration = Duration::from_millis(10);
    for _ in 0..2000 {
        if condition() {
            return;
        }
        std::thread::sleep(STEP);
    }
    panic!("waited for {what} in vain");
}

fn has_tools() -> bool {
    let there = |tool: &str| {
        env::var_os("PATH")
            .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
    };
    let missing: Vec<_> = ["pulseaudio", "pactl", "paplay", "parec"]
        .into_iter()
        .filter(|tool| !there(tool))
        .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "{missing:?} not installed"
    );
    eprintln!("SKIPPED: {missing:?} not installed, so nothing was tested");
    false
}

/// The first seconds of the clip as a file of their own.
fn write_clip(path: &Path) -> Vec<f32> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let samples = read_all(speech()).unwrap()[..SAID_SECONDS * RATE].to_vec();
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in &samples {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    samples
}

fn samples(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let (pairs, _half) = bytes.as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0)
        .collect()
}

fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, s| peak.max(s.abs()))
}

#[test]
fn speech_goes_from_the_callers_microphone_to_the_callees_loudspeaker_until_muted() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("run")).unwrap();
    let run = path("run");
    let sound = Sound::start(&run);
    let said = write_clip(&path("said.wav"));

    let supernode = sound.ahoy(
        &path("node"),
        &["supernode", "--listen", "127.0.0.1:0", "--print-link"],
    );
    let node = supernode.first_line();
    let answer = ["answer", "--via", &node, "--auto", "--once"];
    let answer = [
        &answer[..],
        &["--audio-in", "silence", "--audio-out", "speaker"],
    ]
    .concat();
    let bob = sound.ahoy(&path("bob"), &answer);
    let link = bob.first_line();
    let call = ["call", &link, "--audio-in", "mic", "--audio-out", "null"];
    let alice = sound.ahoy(&path("alice"), &call);
    wait_until("sound from the other side", || {
        let [alice, bob] = [&alice, &bob].map(Running::stderr_so_far);
        assert!(
            !alice.contains("error:"),
            "Alice says:\n{alice}\nBob says:\n{bob}"
        );
        alice.contains("sound from the other side")
    });

    let heard = path("heard.raw");
    let recording = sound.record(&heard);
    wait_until("the recording to begin", || {
        fs::metadata(&heard).is_ok_and(|file| file.len() > 0)
    });
    sound.speak(&path("said.wav"));
    let ctl = |command: &str| {
        sound
            .ahoy(&path("alice"), &["ctl", command])
            .finish()
            .expect_code(0)
    };
    ctl("mute");
    let muted_at = samples(&heard).len();
    sound.speak(&path("said.wav"));
    let muted_until = samples(&heard).len();
    ctl("hangup");
    drop(recording);
    alice.finish().expect_code(0);
    bob.finish().expect_code(0);

    let heard = samples(&heard);
    let (before, muted) = (
        &heard[..muted_at],
        &heard[(muted_at + ON_ITS_WAY).min(muted_until)..muted_until],
    );
    let alignment = align(&said, before, 4 * RATE).expect("what was said is in the recording");
    let best = alignment.best_correlation();
    eprintln!(
        "of what was said {:.0} % was heard, the best window agrees by {best:.3}; peak {:.3}, muted {:e} for {:.1} s",
        100.0 * alignment.found_fraction(),
        peak(before),
        peak(muted),
        muted.len() as f64 / RATE as f64
    );
    // A busy machine without real-time rights tears gaps. What is there must be what was said.
    assert!(alignment.found_fraction() > 0.3);
    assert!(best > 0.8, "the best window agrees by {best:.3} only");
    assert!(peak(before) > 0.05);
    assert!(muted.len() > 2 * RATE, "muted for {} samples", muted.len());
    assert!(peak(muted) < SILENT_PEAK, "peak {:e}", peak(muted));
}
