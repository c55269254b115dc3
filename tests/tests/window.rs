//! Two windows call each other: the program as a person meets it, on a private X server, by keyboard.
//!
//! Both run on profiles of their own, with files for microphone and speaker; a supernode stands between them.
//! What is proved is proved by recordings and by what the control socket tells; the pictures are for people, and
//! are only checked for not being blank. They are left in `window-shots` beside the build.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use ahoy_media::audio::{
    align::{self, Alignment},
    wav::read_all,
};
use ahoy_tests::recorded::Recorded;
use kit::*;
use serde_json::Value;
use tempfile::TempDir;

#[path = "window/kit.rs"]
mod kit;

#[path = "window/sound.rs"]
mod sound;

#[cfg(all(feature = "video", target_os = "linux"))]
#[path = "window/pictures.rs"]
mod pictures;

#[cfg(all(feature = "video", target_os = "linux"))]
#[path = "window/home.rs"]
mod home;

#[path = "window/hidden.rs"]
mod hidden;

#[path = "window/pages.rs"]
mod pages;

#[cfg(all(feature = "video", target_os = "linux"))]
#[path = "window/shots.rs"]
mod shots;

/// A busy machine without a graphics card takes its time to draw.
const PATIENCE: Duration = Duration::from_secs(60);
const SCREEN_WIDTH: usize = 1080;
const SCREEN_HEIGHT: usize = 680;
/// A screen for one window that is as large.
const WIDE: (usize, usize) = (1400, 900);
/// Where the second window stands.
const RIGHT: usize = 540;
/// Anti-aliased text alone makes more.
const COLORS_OF_A_PAGE: usize = 40;
/// A block of 10 ms at 48 kHz.
const BLOCK_SAMPLES: usize = 480;
/// Below this peak nothing is there, only what a codec makes of zeros: -72 dBFS.
const SILENT_PEAK: f32 = 2.5e-4;
/// However busy the machine is, a picture is drawn within this time.
const DRAWN: Duration = Duration::from_millis(400);

// --- sound ---------------------------------------------------------------------------------------

fn clip() -> Vec<f32> {
    read_all(Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/ahoy.wav")).unwrap()
}

fn peak(samples: &[f32]) -> f32 {
    samples
        .iter()
        .fold(0.0, |peak, sample| sample.abs().max(peak))
}

/// The clip over and over without its pauses, so that whatever falls silent was made to.
fn write_restless_speech(path: &Path, seconds: usize) -> Vec<f32> {
    const PAUSE_PEAK: f32 = 0.02;
    let clip = clip();
    let spoken: Vec<f32> = clip
        .chunks_exact(BLOCK_SAMPLES)
        .filter(|block| peak(block) > PAUSE_PEAK)
        .flatten()
        .copied()
        .collect();
    // Backwards the second time: a window of speech must not be found in two places.
    let samples: Vec<f32> = spoken
        .iter()
        .copied()
        .chain(spoken.iter().rev().copied())
        .chain(spoken.iter().map(|sample| sample * 0.5))
        .take(seconds * 48_000)
        .collect();
    write_wav(path, &samples);
    samples
}

fn write_wav(path: &Path, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in samples {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// The longest run of silent blocks between sound and sound, in samples.
fn longest_silence(samples: &[f32]) -> (usize, usize) {
    let silent: Vec<bool> = samples
        .chunks_exact(BLOCK_SAMPLES)
        .map(|block| peak(block) < SILENT_PEAK)
        .collect();
    let first = silent.iter().position(|silent| !silent).unwrap_or(0);
    let last = silent.iter().rposition(|silent| !silent).unwrap_or(0);
    let (mut best, mut start) = ((0, 0), None);
    for (index, silent) in silent.iter().enumerate().take(last + 1).skip(first) {
        if *silent {
            let from = *start.get_or_insert(index);
            if index + 1 - from > best.1 - best.0 {
                best = (from, index + 1);
            }
        } else {
            start = None;
        }
    }
    (best.0 * BLOCK_SAMPLES, best.1 * BLOCK_SAMPLES)
}

/// Windows of `alignment` that were found, and all, among those that lie between `from` and `to` in the recording.
/// What was found lies where it was found: a delay that has changed moves what is beside a silence out of it.
fn found_between(alignment: &Alignment, from: i64, to: i64) -> (usize, usize) {
    let inside = alignment.windows.iter().filter(|window| {
        let delay = window.delay_samples.unwrap_or(alignment.delay_samples);
        let at = window.start as i64 + delay;
        at >= from && at + align::WINDOW_SAMPLES as i64 <= to
    });
    let found = |all: &Vec<_>| {
        all.iter()
            .filter(|window: &&&align::WindowDelay| window.delay_samples.is_some())
            .count()
    };
    let all: Vec<_> = inside.collect();
    (found(&all), all.len())
}
// --- the tests -----------------------------------------------------------------------------------

#[test]
fn two_windows_call_each_other_by_keyboard() {
    let name = "two_windows_call_each_other_by_keyboard";
    let Some((_held, dir, screen, node)) =
        scene(name, &["Xvfb", "xdotool"], (SCREEN_WIDTH, SCREEN_HEIGHT))
    else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    // Grace knows Ada, or Ada's calls would wait in the inbox.
    let ada_link = ada.run(&["id", "show"]);
    grace.run(&["contact", "add", &ada_link, "--name", "Ada"]);

    let speech = dir.path().join("speech.wav");
    let (from_ada, from_grace) = (dir.path().join("from-ada.wav"), dir.path().join("null.wav"));
    let sent = write_restless_speech(&speech, 40);
    let window = |input: &Path, output: &Path| {
        let mut command = ahoy();
        command.args(["--via", &node, "--audio-in"]).arg(input);
        command.arg("--audio-out").arg(output);
        // Where recordings go.
        command.env("HOME", dir.path());
        command
    };
    let mut silence = ahoy();
    silence.args(["--via", &node, "--audio-in", "silence", "--audio-out"]);
    silence.arg(&from_ada);
    let mut theirs = Window::open(&screen, &grace, RIGHT, &mut silence);
    let link = grace.wait_link();
    let mut own = Window::open(&screen, &ada, 0, window(&speech, &from_grace).arg(&link));
    ada.wait_link();
    own.focus();
    theirs.wait_title("ahoy");
    assert_both_drawn(&screen.shoot("1-idle"));

    // The link is in the field and the field has the keyboard.
    let (mut ada_events, mut grace_events) = (ada.events(), grace.events());
    own.press("Return");
    grace.wait_state("ringing_here");
    theirs.wait_title("Ada calls you");
    assert!(
        own.has_focus(),
        "a call that comes in took the keyboard away"
    );
    own.wait_title("Calling");
    assert_both_drawn(&screen.shoot("2-incoming"));

    theirs.press("a");
    ada.wait_state("talking");
    grace.wait_state("talking");
    theirs.wait_title("Ada - ahoy");
    ada.let_pass(Duration::from_secs(4));
    assert_both_drawn(&screen.shoot("3-talking"));
    own.press("m");
    ada.wait_muted(true);
    own.wait_title("muted");
    ada.let_pass(Duration::from_secs(2));
    assert_both_drawn(&screen.shoot("4-muted"));
    own.press("m");
    ada.wait_muted(false);
    own.press("r");
    ada.wait_call("a recording", |call| call["recording"].is_string());
    grace.wait_call("what is told", |call| call["recorded_there"] == true);
    ada.let_pass(Duration::from_secs(2));
    assert_both_drawn(&screen.shoot("4-recording"));
    own.press("r");
    ada.wait_call("its end", |call| call["recording"].is_null());
    grace.wait_call("its end there", |call| call["recorded_there"] == false);
    let mut films = fs::read_dir(dir.path().join("ahoy")).unwrap();
    let film = films.next().unwrap().unwrap().path();
    let name = film.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("20") && name.ends_with(".mkv"), "{name}");
    assert!(films.next().is_none());
    let seconds = Recorded::read(&film).seconds();
    assert!(seconds > 1.5, "{seconds}");
    ada.let_pass(Duration::from_secs(2));
    own.press("h");

    assert_eq!(
        ended(&mut ada_events),
        ("completed".into(), "hung up here".into())
    );
    assert_eq!(
        ended(&mut grace_events),
        ("completed".into(), "the other side hung up".into())
    );
    own.wait_title("ended");
    theirs.wait_title("Call with Ada ended");
    assert_both_drawn(&screen.shoot("5-ended"));
    own.resize(380, 420);
    theirs.resize(380, 420);
    assert_both_drawn(&screen.shoot("6-smallest"));
    own.resize(520, 640);
    theirs.resize(520, 640);

    let heard = read_all(&from_ada).unwrap();
    assert_speech_silence_speech(&sent, &heard);

    // Quitting in the middle of a call ends the call on both sides, and the program.
    let mut grace_events = grace.events();
    own.press("Tab");
    ada.run(&["ctl", "call", &link]);
    grace.wait_state("ringing_here");
    theirs.press("a");
    ada.wait_state("talking");
    own.press("ctrl+q");
    assert_eq!(own.process.exit_code(), Some(0));
    assert_eq!(
        ended(&mut grace_events),
        ("completed".into(), "the other side hung up".into())
    );
    theirs.press("ctrl+q");
    assert_eq!(theirs.process.exit_code(), Some(0));
}

#[test]
fn two_windows_write_to_each_other() {
    let name = "two_windows_write_to_each_other";
    let Some((_held, dir, screen, node)) =
        scene(name, &["Xvfb", "xdotool"], (SCREEN_WIDTH, SCREEN_HEIGHT))
    else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    let ada_link = ada.run(&["id", "show"]);
    let grace_link = grace.run(&["id", "show"]);
    grace.run(&["contact", "add", &ada_link, "--name", "Ada"]);
    ada.run(&["contact", "add", &grace_link, "--name", "Grace"]);
    let window = || {
        let mut command = ahoy();
        command.args(["--via", &node, "--audio-in", "silence"]);
        command.args(["--audio-out", "null"]);
        command
    };
    let mut own = Window::open(&screen, &ada, 0, &mut window());
    let mut theirs = Window::open(&screen, &grace, RIGHT, &mut window());
    ada.wait_link();
    grace.wait_link();
    own.focus();
    own.wait_title("ahoy");

    let say = |window: &Window<'_>, text: &str| {
        window.write(text);
        window.press("Return");
    };
    // The first contact's page.
    own.press("ctrl+1");
    say(&own, "Are you there?");
    let said = |person: &Person, texts: &[&str]| {
        wait_until(&format!("{texts:?}"), || {
            let told = person.run(&["ctl", "messages"]);
            texts.iter().all(|text| told.contains(text))
        });
    };
    said(&ada, &["Are you there?", "delivered"]);
    // Nobody looks at it: the window says so, and so does its list.
    theirs.wait_title("(1) ahoy");
    assert_both_drawn(&screen.shoot("30-written-unread"));
    theirs.press("ctrl+1");
    wait_until("the message to be read", || theirs.title() == "ahoy");
    say(&theirs, "On my way");
    said(&grace, &["On my way", "delivered"]);
    said(&ada, &["On my way"]);
    own.focus();
    say(
        &own,
        "I am at the station, and the train is late: it may take another twenty minutes",
    );
    said(&ada, &["twenty minutes"]);
    said(&grace, &["twenty minutes"]);
    assert_both_drawn(&screen.shoot("31-written-both"));
    // What is known of the person is changed here, too.
    theirs.press("Escape");
    own.resize(380, 420);
    assert_both_drawn(&screen.shoot("32-written-small"));
    for window in [&mut own, &mut theirs] {
        window.press("ctrl+q");
        assert_eq!(window.process.exit_code(), Some(0));
    }
    // It was kept.
    let kept = ada.run(&["messages", "Grace"]);
    assert!(
        kept.contains("On my way") && kept.contains("Are you there?"),
        "{kept}"
    );
}

/// Ada's speech came through, then nothing at all while she was muted, then her speech again.
fn assert_speech_silence_speech(sent: &[f32], heard: &[f32]) {
    let (from, to) = longest_silence(heard);
    eprintln!(
        "{:.1} s heard, silent from {:.2} to {:.2} s, peak there {:.6}",
        heard.len() as f32 / 48_000.0,
        from as f32 / 48_000.0,
        to as f32 / 48_000.0,
        peak(&heard[from..to])
    );
    assert!(
        to - from > 3 * 48_000 / 2,
        "muted for two seconds, but never silent"
    );
    // What was sent later than the recording's end cannot be in it.
    let sent = &sent[..sent.len().min(heard.len())];
    let alignment = align::align(sent, heard, 48_000).expect("Ada's speech is in the recording");
    let end = heard.len() as i64;
    let (from, to) = (from as i64, to as i64);
    let (before, of_before) = found_between(&alignment, 0, from);
    let (during, of_during) = found_between(&alignment, from, to);
    let (after, of_after) = found_between(&alignment, to, end);
    eprintln!(
        "windows found: {before} of {of_before} before, {during} of {of_during} while muted, {after} of {of_after} after"
    );
    assert!(before * 2 > of_before && of_before >= 8);
    assert_eq!(during, 0, "speech came through while muted");
    assert!(after * 2 > of_after && of_after >= 8);
}

#[test]
fn a_window_at_rest_draws_nothing() {
    let name = "a_window_at_rest_draws_nothing";
    let Some((_held, dir, screen, node)) =
        scene(name, &["Xvfb", "xdotool"], (SCREEN_WIDTH, SCREEN_HEIGHT))
    else {
        return;
    };
    let ada = Person::new(&dir, "ada");
    for theme in ["light", "dark"] {
        let mut command = ahoy();
        command.args(["--via", &node, "--audio-in", "silence"]);
        command
            .args(["--audio-out", "null"])
            .env("AHOY_THEME", theme);
        let mut window = Window::open(&screen, &ada, 0, &mut command);
        ada.wait_link();
        window.wait_title("ahoy");
        let pixels = screen.shoot(&format!("theme-{theme}"));
        assert!(colors(&pixels, 0, RIGHT) > COLORS_OF_A_PAGE);
        let corner: u32 = pixels[..3].iter().map(|value| u32::from(*value)).sum();
        assert_eq!(corner > 3 * 128, theme == "light", "{:?}", &pixels[..3]);
        #[cfg(target_os = "linux")]
        if theme == "dark" {
            let before = window.ticks();
            std::thread::sleep(Duration::from_secs(3));
            let used = window.ticks() - before;
            eprintln!("{used} ticks of a hundredth of a second in three seconds of rest");
            assert!(used <= 15, "an idle window used {used} ticks");
        }
        window.press("ctrl+q");
        assert_eq!(window.process.exit_code(), Some(0));
    }
}

#[test]
fn without_a_display_one_sentence_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let output = ahoy().arg("--home").arg(dir.path()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(output.stdout.is_empty());
    assert_eq!(told.trim().lines().count(), 1, "{told}");
    assert!(told.contains("ahoy call"), "{told}");
}
