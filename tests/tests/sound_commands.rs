//! What the command line has for microphones and speakers, on a private sound server: their names, a trial, ringing.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{env, fs, path::PathBuf, time::Duration};

use ahoy_tests::{
    process::{Finished, Running, speech, start_in},
    sound_server::{Process, Sound, SoundServer, missing_tools, recorded, wait_until},
};
use serde_json::Value;
use tempfile::TempDir;

const RATE: usize = 48_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// A ring tone has a pause of less than three seconds.
const PAUSE: usize = 3 * RATE;
/// Louder than what a codec makes of silence, softer than any tone here.
const HEARD: f32 = 0.02;

/// Without `norewinds` an idle sink plays two seconds ahead.
const MODULES: [&str; 4] = [
    "module-null-sink sink_name=ear rate=48000 channels=1 norewinds=1",
    "module-null-sink sink_name=bell rate=48000 channels=1 norewinds=1",
    "module-null-sink sink_name=mouth rate=48000 channels=1 norewinds=1",
    "module-remap-source source_name=mic master=mouth.monitor",
];

/// A sound server, and profiles beside it.
struct Desk {
    folder: TempDir,
    server: SoundServer,
}

impl Desk {
    /// Nothing, where the tools are missing and may be.
    fn set_up() -> Option<Self> {
        let missing = missing_tools();
        if !missing.is_empty() {
            assert!(
                env::var("CI").as_deref() != Ok("true"),
                "{missing:?} not installed"
            );
            eprintln!("SKIPPED: {missing:?} not installed, so nothing was tested");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let server = SoundServer::start(&run, &MODULES);
        let desk = Self { folder, server };
        desk.sound().pactl(&["set-default-sink", "ear"]);
        desk.sound().pactl(&["set-default-source", "mic"]);
        Some(desk)
    }

    fn sound(&self) -> &Sound {
        self.server.sound()
    }

    fn settings(&self, home: &str, settings: &str) {
        let home = self.folder.path().join(home);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("settings.toml"), settings).unwrap();
    }

    fn supernode(&self) -> Running {
        self.ahoy(
            "node",
            &["supernode", "--listen", "127.0.0.1:0", "--print-link"],
        )
    }

    fn ahoy(&self, home: &str, arguments: &[&str]) -> Running {
        let command = self.sound().tool("true");
        let environment = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        start_in(&self.folder.path().join(home), environment, arguments)
    }

    fn run(&self, home: &str, arguments: &[&str]) -> Finished {
        self.ahoy(home, arguments).finish()
    }

    /// Says the clip into the microphone.
    fn speak(&self) -> Process {
        let mut play = self.sound().tool("paplay");
        play.args(["--device=mouth", "--latency-msec=100"])
            .arg(speech());
        Process::start(&mut play)
    }

    /// What a sink plays from now on.
    fn listen(&self, sink: &str) -> Recording {
        let file = self.folder.path().join(format!("{sink}.raw"));
        let process = self.sound().record(&format!("{sink}.monitor"), 1, &file);
        wait_until("the recording", PATIENCE, || {
            fs::metadata(&file).is_ok_and(|file| file.len() > 0)
        });
        Recording {
            file,
            _process: process,
        }
    }
}

struct Recording {
    file: PathBuf,
    _process: Process,
}

impl Recording {
    fn heard(&self) -> Vec<f32> {
        recorded(&self.file)
    }
}

fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, s| peak.max(s.abs()))
}

/// How much of `samples` is a tone of `hz`: 1 for nothing else.
fn share_of_tone(samples: &[f32], hz: f64) -> f64 {
    let (mut sine, mut cosine, mut energy) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let phase = std::f64::consts::TAU * hz * n as f64 / RATE as f64;
        let sample = f64::from(*sample);
        sine += sample * phase.sin();
        cosine += sample * phase.cos();
        energy += sample * sample;
    }
    2.0 * (sine * sine + cosine * cosine) / (energy.max(1e-9) * samples.len() as f64)
}

fn found(report: &Value, what: &str) -> Vec<(String, String, String)> {
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or("").to_owned();
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .filter(|finding| finding["what"] == what)
        .map(|one| {
            (
                text(one, "standing"),
                text(one, "found"),
                text(one, "meaning"),
            )
        })
        .collect()
}

#[test]
fn doctor_names_devices_by_the_ids_that_settings_take() {
    let Some(desk) = Desk::set_up() else { return };
    // No supernode: calls from here would not work, but that is not what is looked at.
    let report = desk.run("me", &["doctor", "--json"]).json();
    let devices = report["devices"].as_array().unwrap();
    let named = |id: &str| devices.iter().find(|device| device["id"] == id).cloned();
    let microphone = named("pulseaudio:mic").unwrap();
    assert_eq!(microphone["kind"], "microphone");
    assert_eq!(microphone["is_default"], true);
    let bell = named("pulseaudio:bell").unwrap();
    assert_eq!(bell["kind"], "speaker");
    assert_eq!(bell["is_default"], false);
    assert_eq!(named("pulseaudio:ear").unwrap()["is_default"], true);
    assert_eq!(devices.len(), 4, "monitors are no microphones: {devices:?}");
    let first = &found(&report, "speaker")[0];
    assert_eq!(first.0, "ok");
    assert!(first.1.ends_with(", the system's default"), "{first:?}");
    assert_eq!(first.2, "pulseaudio:ear");

    desk.settings(
        "me",
        "microphone = \"pulseaudio:headset\"\nspeaker = \"pulseaudio:bell\"\n",
    );
    let report = desk.run("me", &["doctor", "--json"]).json();
    let speakers = found(&report, "speaker");
    assert_eq!(speakers[0].2, "pulseaudio:bell");
    assert!(speakers[0].1.ends_with(", chosen in the settings"));
    let microphones = found(&report, "microphone");
    assert_eq!(microphones[0].0, "fail");
    assert!(microphones[0].1.contains("pulseaudio:headset"));
    let shown = desk.run("me", &["doctor"]).stdout;
    assert!(shown.contains("pulseaudio:mouth"), "{shown}");
}

#[test]
fn a_trial_tells_how_loud_it_was_and_plays_it() {
    let Some(desk) = Desk::set_up() else { return };
    let faint = desk.run("me", &["doctor", "--sound", "--json"]);
    assert_eq!(faint.code, Some(1), "{}", faint.stderr);
    let report = faint.json();
    assert_eq!(report["trial"]["faint"], true);
    assert_eq!(found(&report, "trial")[0].0, "fail");

    let _speaking = desk.speak();
    let ear = desk.listen("ear");
    let finished = desk.run("me", &["doctor", "--sound", "--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("Speak: "), "{}", finished.stderr);
    let report = finished.json();
    let trial = &report["trial"];
    assert_eq!(trial["microphone"], "pulseaudio:mic");
    assert_eq!(trial["speaker"], "pulseaudio:ear");
    assert_eq!(trial["faint"], false);
    assert!(trial["rms_dbfs"].as_f64().unwrap() > -50.0, "{trial}");
    let heard = ear.heard();
    let played = f64::from(peak(&heard));
    let said = 10f64.powf(trial["peak_dbfs"].as_f64().unwrap() / 20.0);
    assert!((0.7..1.4).contains(&(played / said)), "{played} of {said}");

    desk.settings("me", "speaker = \"pulseaudio:gone\"\n");
    let gone = desk.run("me", &["doctor", "--sound", "--json"]);
    assert_eq!(gone.code, Some(1), "{}", gone.stderr);
    assert!(gone.json()["trial"].is_null(), "nobody spoke into it");
}

#[test]
fn a_call_rings_by_the_speaker_for_it_until_it_is_answered() {
    let Some(desk) = Desk::set_up() else { return };
    desk.settings(
        "bob",
        "strangers = \"ring\"\nring_speaker = \"pulseaudio:bell\"\n",
    );
    let node = desk.supernode();
    let node = (node.first_line(), node);
    let bob = desk.ahoy(
        "bob",
        &[
            "answer",
            "--once",
            "--via",
            &node.0,
            "--audio-in",
            "mic",
            "--audio-out",
            "speaker",
        ],
    );
    let (bell, ear) = (desk.listen("bell"), desk.listen("ear"));
    let link = bob.first_line();
    let alice = desk.ahoy(
        "alice",
        &[
            "call",
            &link,
            "--audio-in",
            "silence",
            "--audio-out",
            "null",
        ],
    );
    bob.wait_stderr("rings by");
    let stroke = || bell.heard().iter().position(|s| s.abs() > HEARD);
    wait_until("a stroke of the bell", PATIENCE, || {
        stroke().is_some_and(|at| bell.heard().len() > at + RATE)
    });
    let at = stroke().unwrap();
    // A busy machine may tear a stroke, not each piece of it.
    let share = bell.heard()[at..at + RATE * 3 / 10]
        .chunks_exact(RATE / 20)
        .map(|piece| share_of_tone(piece, 659.26))
        .fold(0.0, f64::max);
    assert!(share > 0.8, "{share:.2} of the first stroke is its tone");
    assert!(peak(&ear.heard()) < HEARD, "it rings by another speaker");

    let accepted = desk.run("bob", &["ctl", "accept"]);
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    alice.wait_stderr("answered");
    wait_until("the bell to be silent", PATIENCE, || {
        let heard = bell.heard();
        heard.len() > 2 * PAUSE && peak(&heard[heard.len() - PAUSE - RATE / 2..]) < HEARD
    });
    let ended = desk.run("bob", &["ctl", "hangup"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let _alice = alice.finish();
    let _bob = bob.finish();
    drop(node);
}

#[test]
fn a_call_that_nobody_has_to_answer_does_not_ring() {
    let Some(desk) = Desk::set_up() else { return };
    let node = desk.supernode();
    let link = node.first_line();
    let answer = ["answer", "--auto", "--once", "--via", &link];
    let sound = ["--audio-in", "silence", "--audio-out", "speaker"];
    let bob = desk.ahoy("bob", &[&answer[..], &sound].concat());
    let ear = desk.listen("ear");
    let link = bob.first_line();
    let call = ["call", &link, "--for", "2"];
    let alice = desk.ahoy("alice", &call).finish();
    assert_eq!(alice.code, Some(0), "{}", alice.stderr);
    let bob = bob.finish();
    assert!(!bob.stderr.contains("rings by"), "{}", bob.stderr);
    assert!(peak(&ear.heard()) < HEARD, "{}", peak(&ear.heard()));
}

/// Bob's profile is to be called: his process, and his link.
fn answering(desk: &Desk, node: &str) -> (Running, String) {
    desk.settings(
        "bob",
        "strangers = \"ring\"\nring_speaker = \"pulseaudio:bell\"\n",
    );
    let bob = desk.ahoy(
        "bob",
        &[
            "answer",
            "--via",
            node,
            "--audio-in",
            "silence",
            "--audio-out",
            "speaker",
        ],
    );
    let link = bob.first_line();
    (bob, link)
}

fn calling(desk: &Desk, link: &str) -> Running {
    desk.ahoy(
        "alice",
        &["call", link, "--audio-in", "silence", "--audio-out", "null"],
    )
}

#[test]
fn the_ring_ends_with_a_decline() {
    let Some(desk) = Desk::set_up() else { return };
    let node = desk.supernode();
    let (bob, link) = answering(&desk, &node.first_line());
    let bell = desk.listen("bell");
    let alice = calling(&desk, &link);
    bob.wait_stderr("rings by");
    wait_until("the bell", PATIENCE, || peak(&bell.heard()) > HEARD);
    let declined = desk.run("bob", &["ctl", "decline"]);
    assert_eq!(declined.code, Some(0), "{}", declined.stderr);
    let declined_at = bell.heard().len();
    assert_eq!(alice.finish().code, Some(1));
    // A pause of the bell is shorter than what has to be silent here; the last stroke may fade.
    let fading = 2 * RATE;
    wait_until("time to pass", PATIENCE, || {
        bell.heard().len() > declined_at + fading + PAUSE
    });
    let after = peak(&bell.heard()[declined_at + fading..]);
    assert!(after < HEARD, "{after} after the decline");
    drop((bob, node));
}

#[test]
fn who_does_not_want_to_be_disturbed_hears_no_bell_until_they_do() {
    let Some(desk) = Desk::set_up() else { return };
    let node = desk.supernode();
    let (bob, link) = answering(&desk, &node.first_line());
    let ctl = |arguments: &[&str]| {
        let done = desk.run("bob", &[&["ctl"], arguments].concat());
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        done
    };
    ctl(&["dnd", "on"]);
    let (bell, ear) = (desk.listen("bell"), desk.listen("ear"));
    let alice = calling(&desk, &link);
    // It comes in all the same.
    bob.wait_stderr("calls: ahoy ctl accept");
    let came_at = bell.heard().len();
    wait_until("time to pass", PATIENCE, || {
        bell.heard().len() > came_at + PAUSE + RATE
    });
    assert!(peak(&bell.heard()) < HEARD && peak(&ear.heard()) < HEARD);
    assert!(
        !bob.stderr_so_far().contains("rings by"),
        "{}",
        bob.stderr_so_far()
    );
    // The bar is not empty: the same call rings as soon as it may, and stops again.
    ctl(&["dnd", "off"]);
    wait_until("the bell", PATIENCE, || peak(&bell.heard()) > HEARD);
    ctl(&["dnd", "on"]);
    let (quiet_at, fading) = (bell.heard().len(), 2 * RATE);
    wait_until("time to pass", PATIENCE, || {
        bell.heard().len() > quiet_at + fading + PAUSE
    });
    let after = peak(&bell.heard()[quiet_at + fading..]);
    assert!(after < HEARD, "{after} under do-not-disturb");
    ctl(&["decline"]);
    assert_eq!(alice.finish().code, Some(1));
    drop((bob, node));
}

#[test]
fn what_other_programs_play_is_shared_while_the_voice_is_muted_and_not_on_hold() {
    let Some(desk) = Desk::set_up() else { return };
    let node = desk.supernode();
    let got = desk.folder.path().join("got.wav");
    let (clip, got_path) = (speech(), got.to_string_lossy().into_owned());
    let bob = desk.ahoy(
        "bob",
        &[
            "answer",
            "--via",
            &node.first_line(),
            "--auto",
            "--once",
            "--audio-in",
            &clip.to_string_lossy(),
            "--audio-out",
            &got_path,
        ],
    );
    let alice = desk.ahoy(
        "alice",
        &[
            "call",
            &bob.first_line(),
            "--audio-in",
            "mic",
            "--audio-out",
            "speaker",
            "--share-sound",
        ],
    );
    alice.wait_stderr("sound from the other side");
    // What our speaker plays is the clock: how much of it there was at which moment.
    let listen = desk.listen("ear");
    let pass = |seconds: usize| {
        let from = listen.heard().len();
        wait_until("some seconds", PATIENCE, || {
            listen.heard().len() >= from + seconds * RATE
        });
        (from + RATE, from + seconds * RATE - RATE / 2)
    };
    let quiet = pass(4);
    assert!(peak(&listen.heard()) > HEARD, "Bob speaks by our speaker");
    desk.run("alice", &["ctl", "mute"]).expect_code(0);
    let file = desk.folder.path().join("theirs");
    let tone: Vec<u8> = (0..60 * RATE)
        .map(|n| (std::f64::consts::TAU * 600.0 * n as f64 / RATE as f64).sin())
        .flat_map(|s| ((0.3 * s * 32_767.0) as i16).to_le_bytes())
        .collect();
    fs::write(&file, tone).unwrap();
    let mut play = desk.sound().player("bell", &file, "s16le", 1);
    let _theirs = Process::start(play.arg("--latency-msec=100"));
    let shared = pass(4);
    desk.run("alice", &["ctl", "hold", "on"]).expect_code(0);
    let held = pass(4);
    desk.run("alice", &["ctl", "hangup"]).expect_code(0);
    let end = listen.heard().len();
    alice.finish().expect_code(0);
    bob.finish().expect_code(0);
    let frames = ahoy_media::audio::wav::read_all(&got).unwrap();
    let part = |(from, to): (usize, usize)| {
        let at = |time: usize| (frames.len() + time).saturating_sub(end);
        &frames[at(from)..at(to)]
    };
    assert!(peak(part(quiet)) < HEARD, "Bob hears himself");
    // In pieces of a tenth of a second: clocks that are brought together move the phase.
    let pieces = part(shared).chunks_exact(RATE / 10);
    let count = pieces.len() as f64;
    let share = pieces.map(|piece| share_of_tone(piece, 600.0)).sum::<f64>() / count;
    assert!(
        share > 0.8,
        "{share} of what Bob hears is what the program plays"
    );
    assert!(peak(part(held)) < HEARD, "on hold he hears it all the same");
}
