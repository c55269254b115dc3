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
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ahoy_media::audio::{
    align::{self, Alignment},
    level::Level,
    wav::read_all,
};
use ahoy_tests::{
    recorded::Recorded,
    sound_server::{Process, Sound, SoundServer, recorded},
};
use serde_json::Value;
use tempfile::TempDir;

#[cfg(all(feature = "video", target_os = "linux"))]
#[path = "window/pictures.rs"]
mod pictures;

#[cfg(all(feature = "video", target_os = "linux"))]
#[path = "window/home.rs"]
mod home;

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

/// One screen or sound server at a time is enough for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

// --- processes -----------------------------------------------------------------------------------

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be over already.
        self.0.kill().unwrap_or(());
        self.0.wait().map(drop).unwrap_or(());
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        Self(
            command
                .stdin(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("{shown}: {error}")),
        )
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn lines(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("its output was asked for"))
    }

    /// Its exit code, once it has ended by itself.
    fn exit_code(&mut self) -> Option<i32> {
        wait_until("a process to end", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

fn first_line(mut lines: impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "a process ended without a word");
    line.trim().to_owned()
}

/// Waits for another process, which cannot be told to hurry.
#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    const STEP: Duration = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(STEP);
    }
    panic!("waited {PATIENCE:?} for {what}");
}

/// The program: `AHOY_BIN`, or what cargo built beside this test.
fn ahoy() -> Command {
    let beside = || {
        let here = env::current_exe().unwrap();
        let name = format!("ahoy{}", env::consts::EXE_SUFFIX);
        here.ancestors().nth(2).unwrap().join(name)
    };
    let path = env::var_os("AHOY_BIN").map_or_else(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: cargo build -p ahoy, or name it in AHOY_BIN",
        path.display()
    );
    let mut command = Command::new(path);
    command
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .env_remove("RUST_LOG");
    command
}

/// Whether `tools` are here; if not, the test says so, and fails where nothing may be missing.
fn has_tools(test: &str, tools: &[&str]) -> bool {
    let there = |tool: &str| {
        env::var_os("PATH")
            .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
    };
    let missing: Vec<_> = tools.iter().filter(|tool| !there(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "{missing:?} not installed"
    );
    eprintln!("SKIPPED {test}: {missing:?} not installed, so nothing was tested");
    false
}

fn supernode(home: &Path) -> (Running, String) {
    let mut running = Running::start(
        ahoy()
            .args(["supernode", "--listen", "127.0.0.1:0", "--print-link"])
            .arg("--home")
            .arg(home)
            .stdout(Stdio::piped()),
    );
    let link = first_line(running.lines());
    (running, link)
}

// --- people --------------------------------------------------------------------------------------

/// Somebody's profile, and the program that runs on it.
struct Person {
    home: PathBuf,
}

impl Person {
    fn new(dir: &TempDir, name: &str) -> Self {
        let home = dir.path().join(name);
        fs::create_dir(&home).unwrap();
        Self { home }
    }

    /// Runs a command to its end and returns what it prints.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = ahoy()
            .args(arguments)
            .arg("--home")
            .arg(&self.home)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What the control socket tells; nothing while the program is not there yet.
    fn status(&self) -> Option<Value> {
        let output = ahoy()
            .args(["ctl", "status", "--home"])
            .arg(&self.home)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    fn call_state(&self) -> String {
        self.status()
            .and_then(|status| Some(status["call"]["state"].as_str()?.to_owned()))
            .unwrap_or_default()
    }

    #[track_caller]
    fn wait_state(&self, state: &str) {
        wait_until(state, || self.call_state() == state);
    }

    #[track_caller]
    fn wait_link(&self) -> String {
        let mut link = String::new();
        wait_until("a link", || {
            let told = self.status();
            link = told
                .and_then(|status| Some(status["link"].as_str()?.to_owned()))
                .unwrap_or_default();
            !link.is_empty()
        });
        link
    }

    #[track_caller]
    fn wait_call(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        wait_until(what, || {
            self.status().is_some_and(|status| wanted(&status["call"]))
        });
    }

    #[track_caller]
    fn wait_muted(&self, muted: bool) {
        wait_until("the microphone's switch", || {
            self.status()
                .is_some_and(|status| status["call"]["muted"] == Value::Bool(muted))
        });
    }

    /// Waits until the call is `duration` older, by its own clock.
    #[track_caller]
    fn let_pass(&self, duration: Duration) {
        let age = || {
            let status = self.status()?;
            status["call"]["age_ms"].as_u64().map(Duration::from_millis)
        };
        let from = age().expect("a call goes on");
        wait_until("time to pass in the call", || {
            age().is_some_and(|age| age >= from + duration)
        });
    }

    /// Happenings from now on, one line of JSON each.
    fn events(&self) -> Running {
        Running::start(
            ahoy()
                .args(["ctl", "events", "--home"])
                .arg(&self.home)
                .stdout(Stdio::piped()),
        )
    }
}

/// The reason of the first end that `events` tell.
fn ended(events: &mut Running) -> (String, String) {
    for line in events.lines().lines() {
        let line = line.unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        if let (Some(outcome), Some(reason)) = (event["outcome"].as_str(), event["reason"].as_str())
        {
            return (outcome.to_owned(), reason.to_owned());
        }
    }
    panic!("the program ended before the call did");
}

// --- the screen ----------------------------------------------------------------------------------

/// A private X server whose picture is a file.
struct Screen {
    _server: Running,
    display: String,
    picture: PathBuf,
    width: usize,
    height: usize,
}

impl Screen {
    fn start(dir: &TempDir) -> Self {
        Self::sized(dir, SCREEN_WIDTH, SCREEN_HEIGHT)
    }

    fn sized(dir: &TempDir, width: usize, height: usize) -> Self {
        let folder = dir.path().join("screen");
        fs::create_dir(&folder).unwrap();
        let mut server = Running::start(
            Command::new("Xvfb")
                .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"])
                .args(["-screen", "0", &format!("{width}x{height}x24")])
                .arg("-fbdir")
                .arg(&folder)
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        );
        let number = first_line(server.lines());
        Self {
            _server: server,
            display: format!(":{number}"),
            picture: folder.join("Xvfb_screen0"),
            width,
            height,
        }
    }

    fn xdotool(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("xdotool")
            .args(arguments)
            .env("DISPLAY", &self.display)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(told)
    }

    /// The pixels now, red, green, blue, row by row.
    fn pixels(&self) -> Vec<u8> {
        // X window dump: a header of 32-bit numbers, a colour map, then blue, green, red and nothing.
        let dump = fs::read(&self.picture).unwrap();
        let number = |index: usize| {
            let bytes = dump[index * 4..][..4].try_into().unwrap();
            u32::from_be_bytes(bytes) as usize
        };
        let (header_bytes, row_bytes, colors) = (number(0), number(12), number(19));
        let first = header_bytes + colors * 12;
        let mut pixels = Vec::with_capacity(self.width * self.height * 3);
        for row in 0..self.height {
            let row = &dump[first + row * row_bytes..][..self.width * 4];
            for pixel in row.chunks_exact(4) {
                pixels.extend([pixel[2], pixel[1], pixel[0]]);
            }
        }
        pixels
    }

    /// Keeps the picture as `name`, once two looks are alike, and returns it.
    fn shoot(&self, name: &str) -> Vec<u8> {
        let mut last = self.pixels();
        // While people talk, meters and clocks never rest: any whole picture will do then.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(50));
            let next = self.pixels();
            if std::mem::replace(&mut last, next.clone()) == next {
                break;
            }
        }
        let folder = env::current_exe().unwrap();
        let folder = folder.ancestors().nth(3).unwrap().join("window-shots");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        let file = fs::File::create(&path).unwrap();
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&last).unwrap();
        eprintln!("picture: {}", path.display());
        last
    }
}

/// Different colours between the columns `from` and `to`.
fn colors(pixels: &[u8], from: usize, to: usize) -> usize {
    colors_in(pixels, SCREEN_WIDTH, from, to)
}

/// The same on a screen of this width.
fn colors_in(pixels: &[u8], width: usize, from: usize, to: usize) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    for row in pixels.chunks_exact(width * 3) {
        for pixel in row[from * 3..to * 3].chunks_exact(3) {
            seen.insert([pixel[0], pixel[1], pixel[2]]);
        }
    }
    seen.len()
}

#[track_caller]
fn assert_both_drawn(pixels: &[u8]) {
    for (name, from, to) in [("left", 0, RIGHT), ("right", RIGHT, SCREEN_WIDTH)] {
        let count = colors(pixels, from, to);
        assert!(
            count > COLORS_OF_A_PAGE,
            "the {name} window has {count} colours: it is blank"
        );
    }
}

/// The window of a running program.
struct Window<'a> {
    screen: &'a Screen,
    process: Running,
    id: String,
}

impl<'a> Window<'a> {
    fn open(screen: &'a Screen, person: &Person, left: usize, command: &mut Command) -> Self {
        let process = Running::start(
            command
                .arg("--home")
                .arg(&person.home)
                .env("DISPLAY", &screen.display),
        );
        let pid = process.id().to_string();
        let mut id = String::new();
        wait_until("a window", || {
            let found = screen.xdotool(&["search", "--onlyvisible", "--pid", &pid]);
            id = found.unwrap_or_default();
            !id.is_empty()
        });
        let id = id.lines().last().unwrap().to_owned();
        screen.xdotool(&["windowmove", &id, &left.to_string(), "0"]);
        Self {
            screen,
            process,
            id,
        }
    }

    fn title(&self) -> String {
        self.screen
            .xdotool(&["getwindowname", &self.id])
            .unwrap_or_default()
    }

    /// Waits until the window says it: it has then drawn it, too.
    #[track_caller]
    fn wait_title(&self, text: &str) {
        let mut title = String::new();
        wait_until(&format!("the title {text:?}"), || {
            title = self.title();
            title.contains(text)
        });
    }

    fn focus(&self) {
        self.screen
            .xdotool(&["windowfocus", "--sync", &self.id])
            .expect("the window takes the keyboard");
    }

    fn has_focus(&self) -> bool {
        self.screen.xdotool(&["getwindowfocus"]).as_deref() == Some(&self.id)
    }

    fn press(&self, key: &str) {
        self.focus();
        self.screen.xdotool(&["key", key]).expect("a key goes down");
    }

    /// Types a text into what has the keyboard.
    fn write(&self, text: &str) {
        self.focus();
        self.screen
            .xdotool(&["type", "--delay", "20", text])
            .expect("keys go down");
    }

    /// A key goes down and stays there, or comes up again.
    fn hold(&self, key: &str, is_down: bool) {
        self.focus();
        let action = if is_down { "keydown" } else { "keyup" };
        self.screen
            .xdotool(&[action, key])
            .expect("a key goes down or up");
    }

    fn resize(&self, width: usize, height: usize) {
        let (width, height) = (width.to_string(), height.to_string());
        self.screen
            .xdotool(&["windowsize", "--sync", &self.id, &width, &height])
            .expect("a window changes its size");
    }

    /// Processor time it has used, in clock ticks of a hundredth of a second.
    #[cfg(target_os = "linux")]
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        // Fields 14 and 15 of proc(5), counted from the third.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

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
    if !has_tools(
        "two_windows_call_each_other_by_keyboard",
        &["Xvfb", "xdotool"],
    ) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let screen = Screen::start(&dir);
    let (_supernode, node) = supernode(&dir.path().join("supernode"));
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
    if !has_tools("two_windows_write_to_each_other", &["Xvfb", "xdotool"]) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let screen = Screen::start(&dir);
    let (_supernode, node) = supernode(&dir.path().join("supernode"));
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

/// How much of `samples` is a tone of `hz`: 1 for nothing else.
fn share_of_tone(samples: &[f32], hz: f64) -> f64 {
    let (mut sine, mut cosine, mut energy) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let phase = std::f64::consts::TAU * hz * n as f64 / 48_000.0;
        let sample = f64::from(*sample);
        sine += sample * phase.sin();
        cosine += sample * phase.cos();
        energy += sample * sample;
    }
    2.0 * (sine * sine + cosine * cosine) / (energy.max(1e-9) * samples.len() as f64)
}

/// A sound server with two microphones, each of which hears a tone of its own, and two speakers.
struct Desk {
    server: SoundServer,
    _tones: Vec<Process>,
}

impl Desk {
    fn new(dir: &TempDir) -> Self {
        const TONE_SECONDS: usize = 120;
        let folder = dir.path().join("run");
        fs::create_dir(&folder).unwrap();
        // Without `norewinds` an idle sink plays two seconds ahead.
        let server = SoundServer::start(
            &folder,
            &[
                "module-null-sink sink_name=ear rate=48000 channels=1 norewinds=1",
                "module-null-sink sink_name=bell rate=48000 channels=1 norewinds=1",
                "module-null-sink sink_name=low rate=48000 channels=1 norewinds=1",
                "module-null-sink sink_name=high rate=48000 channels=1 norewinds=1",
                "module-remap-source source_name=a_low master=low.monitor",
                "module-remap-source source_name=b_high master=high.monitor",
            ],
        );
        server.sound().pactl(&["set-default-sink", "ear"]);
        server.sound().pactl(&["set-default-source", "a_low"]);
        let tones = [("low", LOW_HZ), ("high", HIGH_HZ)].map(|(sink, hz)| {
            let file = dir.path().join(format!("{sink}.wav"));
            let step = std::f64::consts::TAU * hz / 48_000.0;
            let tone = (0..TONE_SECONDS * 48_000).map(|n| 0.3 * (step * n as f64).sin() as f32);
            write_wav(&file, &tone.collect::<Vec<_>>());
            let mut play = server.sound().tool("paplay");
            play.arg(format!("--device={sink}"))
                .arg("--latency-msec=100")
                .arg(&file);
            Process::start(&mut play)
        });
        Self {
            server,
            _tones: tones.into(),
        }
    }

    fn sound(&self) -> &Sound {
        self.server.sound()
    }

    /// Programs that have a microphone open.
    fn listeners(&self) -> String {
        // The remapped sources listen themselves.
        let outputs = self.sound().pactl(&["list", "short", "source-outputs"]);
        let of_programs = |line: &&str| !line.contains("module-remap-source");
        outputs.lines().filter(of_programs).collect()
    }
}

/// The program, with the sound of `desk`.
fn ahoy_with_sound(desk: &Desk) -> Command {
    let (mut command, tool) = (ahoy(), desk.sound().tool("true"));
    for (name, value) in tool.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// What the two microphones hear.
const LOW_HZ: f64 = 440.0;
const HIGH_HZ: f64 = 880.0;

const DESK_TOOLS: [&str; 6] = ["Xvfb", "xdotool", "pulseaudio", "pactl", "paplay", "parec"];

/// However busy the machine is, a picture is drawn within this time.
const DRAWN: Duration = Duration::from_millis(400);

/// From the microphone's choice, by which the page about sound opens, to the switch against noise while a call goes on:
/// speaker, ring device, echo, noise.
const TABS_TO_NOISE_SUPPRESSION: usize = 4;

#[test]
fn settings_change_the_microphone_and_a_stage_in_a_call_that_goes_on() {
    let name = "settings_change_the_microphone_and_a_stage_in_a_call_that_goes_on";
    if !has_tools(name, &DESK_TOOLS) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let screen = Screen::sized(&dir, WIDE.0, WIDE.1);
    let desk = Desk::new(&dir);
    let (_supernode, node) = supernode(&dir.path().join("supernode"));
    let (ada, bob) = (Person::new(&dir, "ada"), Person::new(&dir, "bob"));
    // So that a tone is a tone until the switch says otherwise.
    let plain = "name = \"Ada\"\necho_cancellation = false\nnoise_suppression = false\n\
                 gain_control = false\nhigh_pass = false\n";
    let settings = ada.home.join("settings.toml");
    fs::write(&settings, plain).unwrap();
    let wait_saved = |line: &str| {
        wait_until(line, || {
            fs::read_to_string(&settings).unwrap().contains(line)
        });
    };

    let heard = dir.path().join("heard.wav");
    let mut answer = ahoy();
    answer.args(["answer", "--auto", "--once", "--via", &node, "--home"]);
    answer
        .arg(&bob.home)
        .args(["--audio-in", "silence", "--audio-out"]);
    let mut answering = Running::start(
        answer
            .arg(&heard)
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let link = first_line(answering.lines());
    let mut command = ahoy_with_sound(&desk);
    command.args(["--via", &node]).env("AHOY_THEME", "dark");
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    ada.wait_link();
    window.resize(900, 600);
    ada.run(&["ctl", "call", &link]);
    ada.wait_state("talking");
    ada.let_pass(Duration::from_secs(2));
    let shoot = |name: &str| {
        let pixels = screen.shoot(name);
        assert!(colors_in(&pixels, WIDE.0, 450, 900) > COLORS_OF_A_PAGE);
    };
    shoot("7-talking-900x600-dark");

    window.press("ctrl+comma");
    ada.let_pass(Duration::from_secs(1));
    shoot("8-sound-900x600-dark");
    // The default, the same by name, the other one.
    window.press("Down");
    wait_saved("microphone = \"pulseaudio:a_low\"");
    window.press("Down");
    wait_saved("microphone = \"pulseaudio:b_high\"");
    ada.let_pass(Duration::from_secs(3));
    for _ in 0..TABS_TO_NOISE_SUPPRESSION {
        window.press("Tab");
        // Two in one picture count once.
        ada.let_pass(DRAWN);
    }
    window.press("space");
    wait_saved("noise_suppression = true");
    ada.let_pass(Duration::from_secs(6));
    shoot("9-sound-switched-900x600-dark");
    window.resize(WIDE.0, WIDE.1);
    ada.let_pass(Duration::from_secs(1));
    shoot("9-sound-switched-1400x900-dark");
    let kept = fs::read_to_string(&settings).unwrap();
    assert!(
        !kept.contains("Ada") && kept.contains("high_pass = false"),
        "{kept}"
    );
    assert_eq!(ada.call_state(), "talking", "the same call goes on");

    // A microphone that is pulled out stays in the settings, and nothing takes its place.
    let modules = desk.sound().pactl(&["list", "short", "modules"]);
    let module = modules
        .lines()
        .find(|line| line.contains("source_name=b_high"))
        .unwrap();
    let module = module.split_whitespace().next().unwrap();
    desk.sound().pactl(&["unload-module", module]);
    ada.let_pass(Duration::from_secs(3));
    shoot("9-sound-missing-1400x900-dark");
    window.press("Escape");
    window.press("h");
    assert_eq!(answering.exit_code(), Some(0));
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));

    let heard = read_all(&heard).unwrap();
    let pieces: Vec<(f64, f64, f32)> = heard
        .chunks_exact(12_000)
        .map(|piece| {
            let tone = |hz| share_of_tone(piece, hz);
            (tone(LOW_HZ), tone(HIGH_HZ), Level::of(piece).rms_dbfs)
        })
        .collect();
    for (n, (low, high, dbfs)) in pieces.iter().enumerate() {
        eprintln!(
            "{:5.2} s: {low:.2} low, {high:.2} high, {dbfs:.1} dBFS",
            n as f64 / 4.0
        );
    }
    let loud = |dbfs: f32| dbfs > -30.0;
    let first_high = pieces
        .iter()
        .position(|(_, high, dbfs)| *high > 0.8 && loud(*dbfs));
    let first_high = first_high.expect("the other microphone was heard");
    let before = pieces[..first_high].iter();
    let low = before
        .filter(|(low, _, dbfs)| *low > 0.8 && loud(*dbfs))
        .count();
    assert!(
        low >= 6,
        "of the first microphone {low} quarters of a second"
    );
    let after = &pieces[first_high..];
    // The sound server itself puts the other one in the place of what is pulled out, until that is noticed.
    let given_up = after
        .iter()
        .filter(|(low, _, dbfs)| *low > 0.5 && *dbfs > -50.0);
    let given_up = given_up.count();
    assert!(
        given_up <= 2,
        "the first microphone is heard for {given_up} quarters of a second after it was given up"
    );
    let loudest = after.iter().map(|piece| piece.2).fold(f32::MIN, f32::max);
    let suppressed = after.windows(4).any(|pieces| {
        pieces
            .iter()
            .all(|(_, high, dbfs)| *high > 0.5 && (loudest - 25.0..loudest - 8.0).contains(dbfs))
    });
    assert!(suppressed, "the steady tone is as loud as before");
    let last = pieces[pieces.len() - 4..].iter();
    assert!(
        last.clone().all(|piece| piece.2 < -60.0),
        "something took the place of a microphone that was pulled out: {last:?}"
    );
}

/// The level of what a recording holds from `from` on, and how much of that there is.
fn level_since(file: &Path, from: usize) -> (f32, Duration) {
    let samples = recorded(file);
    let samples = &samples[from.min(samples.len())..];
    let length = Duration::from_secs_f64(samples.len() as f64 / 48_000.0);
    (Level::of(samples).rms_dbfs, length)
}

#[test]
fn a_window_rings_talks_while_the_space_bar_is_held_and_turns_the_other_side_down() {
    let name = "a_window_rings_talks_while_the_space_bar_is_held_and_turns_the_other_side_down";
    if !has_tools(name, &DESK_TOOLS) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let screen = Screen::sized(&dir, WIDE.0, WIDE.1);
    let desk = Desk::new(&dir);
    let (_supernode, node) = supernode(&dir.path().join("supernode"));
    let (ada, bob) = (Person::new(&dir, "ada"), Person::new(&dir, "bob"));
    let bob_link = bob.run(&["id", "show"]);
    ada.run(&["contact", "add", &bob_link, "--name", "Bob"]);
    let settings = "push_to_talk = true\nring_speaker = \"pulseaudio:bell\"\necho_cancellation = false\n\
                    noise_suppression = false\ngain_control = false\nhigh_pass = false\n";
    fs::write(ada.home.join("settings.toml"), settings).unwrap();
    let file = |name: &str| dir.path().join(name);
    let (bell, ear) = (file("bell.raw"), file("ear.raw"));
    let _bell = desk.sound().record("bell.monitor", 1, &bell);
    let _ear = desk.sound().record("ear.monitor", 1, &ear);

    let mut command = ahoy_with_sound(&desk);
    command.args(["--via", &node]).env("AHOY_THEME", "dark");
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    let link = ada.wait_link();
    let quiet = recorded(&bell).len();
    let mut call = ahoy();
    call.args(["call", &link, "--via", &node, "--home"])
        .arg(&bob.home)
        .args(["--audio-in", "tone", "--audio-out"])
        .arg(file("heard.wav"))
        .stderr(Stdio::null());
    let mut calling = Running::start(&mut call);
    ada.wait_state("ringing_here");
    window.wait_title("Bob calls you");
    wait_until("the bell", || level_since(&bell, quiet).0 > -40.0);
    assert!(
        level_since(&ear, 0).0 < -60.0,
        "it rings by the speaker that was chosen, and no other"
    );
    window.press("a");
    ada.wait_state("talking");
    ada.let_pass(Duration::from_secs(2));
    let (rung, answered) = (recorded(&bell).len(), recorded(&ear).len());
    ada.let_pass(Duration::from_secs(1));
    assert!(level_since(&bell, rung).0 < -60.0, "the bell is silent");
    let (normal, length) = level_since(&ear, answered);
    assert!(normal > -40.0, "{normal} dBFS of Bob in {length:?}");

    window.hold("space", true);
    ada.wait_muted(false);
    ada.let_pass(Duration::from_secs(2));
    window.hold("space", false);
    ada.wait_muted(true);

    // The slider is somewhere behind Tab; what it does is heard.
    let mut softer = normal;
    for _tab in 0..8 {
        window.press("Tab");
        ada.let_pass(DRAWN);
        for _step in 0..5 {
            window.press("Left");
            ada.let_pass(DRAWN);
        }
        let from = recorded(&ear).len();
        ada.let_pass(Duration::from_secs(1));
        softer = level_since(&ear, from).0;
        if softer < normal - 3.0 {
            break;
        }
    }
    eprintln!("Bob at {normal:.1} dBFS, by five steps of the slider at {softer:.1}");
    let half = 20.0 * 0.5f32.log10();
    assert!(
        (softer - normal - half).abs() < 1.0,
        "100 to 50 per cent: {normal} and {softer} dBFS"
    );
    let pixels = screen.shoot("10-pushed-to-talk-dark");
    assert!(colors_in(&pixels, WIDE.0, 0, 500) > COLORS_OF_A_PAGE);
    window.press("h");
    assert_eq!(calling.exit_code(), Some(0));
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));

    let heard = read_all(file("heard.wav")).unwrap();
    let loud = heard
        .chunks_exact(4800)
        .filter(|piece| Level::of(piece).rms_dbfs > -30.0 && share_of_tone(piece, LOW_HZ) > 0.8);
    let millis = 100 * loud.count();
    let rest = heard.chunks_exact(4800).filter(|piece| peak(piece) < 1e-3);
    let silent = 100 * rest.count();
    eprintln!("the microphone was heard for {millis} ms, and not for {silent} ms");
    assert!((1700..4000).contains(&millis), "{millis} ms");
    assert!(silent > 2500, "{silent} ms");
}

#[test]
fn the_page_about_sound_without_a_call() {
    let name = "the_page_about_sound_without_a_call";
    if !has_tools(name, &DESK_TOOLS) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let screen = Screen::sized(&dir, WIDE.0, WIDE.1);
    let desk = Desk::new(&dir);
    let (_supernode, node) = supernode(&dir.path().join("supernode"));
    let ada = Person::new(&dir, "ada");
    let mut command = ahoy_with_sound(&desk);
    command.args(["--via", &node]).env("AHOY_THEME", "light");
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    ada.wait_link();
    assert_eq!(
        desk.listeners(),
        "",
        "nobody looks, and a microphone is open"
    );
    window.resize(900, 600);
    window.press("ctrl+comma");
    wait_until("the meter's microphone", || !desk.listeners().is_empty());
    std::thread::sleep(Duration::from_secs(1));
    screen.shoot("10-sound-900x600-light");

    // Speaker, its button, ring device, its button, the recording.
    let played = dir.path().join("ear.raw");
    let recording = desk.sound().record("ear.monitor", 1, &played);
    for _ in 0..5 {
        window.press("Tab");
        std::thread::sleep(DRAWN);
    }
    window.press("space");
    // What was recorded is played: nobody else plays that tone there.
    wait_until("what was recorded", || {
        let heard = recorded(&played);
        let last = &heard[heard.len().saturating_sub(24_000)..];
        share_of_tone(last, LOW_HZ) > 0.8 && peak(last) > 0.02
    });
    drop(recording);
    wait_until("the meter's microphone after the test", || {
        !desk.listeners().is_empty()
    });
    window.resize(WIDE.0, WIDE.1);
    std::thread::sleep(Duration::from_secs(1));
    screen.shoot("11-sound-1400x900-light");
    window.resize(380, 640);
    std::thread::sleep(Duration::from_secs(1));
    screen.shoot("12-sound-380x640-light");
    window.press("Escape");
    wait_until("the meter's microphone to close", || {
        desk.listeners().is_empty()
    });
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));
}

#[test]
fn a_window_at_rest_draws_nothing() {
    if !has_tools("a_window_at_rest_draws_nothing", &["Xvfb", "xdotool"]) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let screen = Screen::start(&dir);
    let (_supernode, node) = supernode(&dir.path().join("supernode"));
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
