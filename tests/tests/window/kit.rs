//! Programs, people, a screen and their windows: what the tests of the window are played with.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{COLORS_OF_A_PAGE, DRAWN, PATIENCE, RIGHT, SCREEN_WIDTH};

/// One screen or sound server at a time is enough for a small machine.
pub(super) static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

// --- processes -----------------------------------------------------------------------------------

/// A process that ends with the test.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be over already.
        self.0.kill().unwrap_or(());
        self.0.wait().map(drop).unwrap_or(());
    }
}

impl Running {
    pub(super) fn start(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        Self(
            command
                .stdin(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("{shown}: {error}")),
        )
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn lines(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("its output was asked for"))
    }

    /// Its exit code, once it has ended by itself.
    pub(super) fn exit_code(&mut self) -> Option<i32> {
        wait_until("a process to end", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

pub(super) fn first_line(mut lines: impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "a process ended without a word");
    line.trim().to_owned()
}

/// Waits for another process, which cannot be told to hurry.
#[track_caller]
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
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
pub(super) fn ahoy() -> Command {
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
        .env_remove("RUST_LOG")
        // Windows speak English unless a test says otherwise.
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Whether `tools` are here; if not, the test says so, and fails where nothing may be missing.
pub(super) fn has_tools(test: &str, tools: &[&str]) -> bool {
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

pub(super) fn supernode(home: &Path) -> (Running, String) {
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
pub(super) struct Person {
    pub(super) home: PathBuf,
}

impl Person {
    pub(super) fn new(dir: &TempDir, name: &str) -> Self {
        let home = dir.path().join(name);
        fs::create_dir(&home).unwrap();
        Self { home }
    }

    /// Runs a command to its end and returns what it prints.
    #[track_caller]
    pub(super) fn run(&self, arguments: &[&str]) -> String {
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
    pub(super) fn status(&self) -> Option<Value> {
        let output = ahoy()
            .args(["ctl", "status", "--home"])
            .arg(&self.home)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    pub(super) fn call_state(&self) -> String {
        self.status()
            .and_then(|status| Some(status["call"]["state"].as_str()?.to_owned()))
            .unwrap_or_default()
    }

    #[track_caller]
    pub(super) fn wait_state(&self, state: &str) {
        wait_until(state, || self.call_state() == state);
    }

    #[track_caller]
    pub(super) fn wait_link(&self) -> String {
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
    pub(super) fn wait_call(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        wait_until(what, || {
            self.status().is_some_and(|status| wanted(&status["call"]))
        });
    }

    #[track_caller]
    pub(super) fn wait_muted(&self, muted: bool) {
        wait_until("the microphone's switch", || {
            self.status()
                .is_some_and(|status| status["call"]["muted"] == Value::Bool(muted))
        });
    }

    /// Waits until the call is `duration` older, by its own clock.
    #[track_caller]
    pub(super) fn let_pass(&self, duration: Duration) {
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
    pub(super) fn events(&self) -> Running {
        Running::start(
            ahoy()
                .args(["ctl", "events", "--home"])
                .arg(&self.home)
                .stdout(Stdio::piped()),
        )
    }
}

/// The reason of the first end that `events` tell.
pub(super) fn ended(events: &mut Running) -> (String, String) {
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
pub(super) struct Screen {
    _server: Running,
    pub(super) display: String,
    pub(super) picture: PathBuf,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Screen {
    pub(super) fn sized(dir: &TempDir, width: usize, height: usize) -> Self {
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

    pub(super) fn xdotool(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("xdotool")
            .args(arguments)
            .env("DISPLAY", &self.display)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(told)
    }

    /// The pixels now, red, green, blue, row by row.
    pub(super) fn pixels(&self) -> Vec<u8> {
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
    pub(super) fn shoot(&self, name: &str) -> Vec<u8> {
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
pub(super) fn colors(pixels: &[u8], from: usize, to: usize) -> usize {
    colors_in(pixels, SCREEN_WIDTH, from, to)
}

/// The same on a screen of this width.
pub(super) fn colors_in(pixels: &[u8], width: usize, from: usize, to: usize) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    for row in pixels.chunks_exact(width * 3) {
        for pixel in row[from * 3..to * 3].chunks_exact(3) {
            seen.insert([pixel[0], pixel[1], pixel[2]]);
        }
    }
    seen.len()
}

#[track_caller]
pub(super) fn assert_both_drawn(pixels: &[u8]) {
    for (name, from, to) in [("left", 0, RIGHT), ("right", RIGHT, SCREEN_WIDTH)] {
        let count = colors(pixels, from, to);
        assert!(
            count > COLORS_OF_A_PAGE,
            "the {name} window has {count} colours: it is blank"
        );
    }
}

/// The window of a running program.
pub(super) struct Window<'a> {
    pub(super) screen: &'a Screen,
    pub(super) process: Running,
    pub(super) id: String,
}

impl<'a> Window<'a> {
    pub(super) fn open(
        screen: &'a Screen,
        person: &Person,
        left: usize,
        command: &mut Command,
    ) -> Self {
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

    pub(super) fn title(&self) -> String {
        self.screen
            .xdotool(&["getwindowname", &self.id])
            .unwrap_or_default()
    }

    /// Waits until the window says it: it has then drawn it, too.
    #[track_caller]
    pub(super) fn wait_title(&self, text: &str) {
        let mut title = String::new();
        wait_until(&format!("the title {text:?}"), || {
            title = self.title();
            title.contains(text)
        });
    }

    pub(super) fn focus(&self) {
        self.screen
            .xdotool(&["windowfocus", "--sync", &self.id])
            .expect("the window takes the keyboard");
    }

    pub(super) fn has_focus(&self) -> bool {
        self.screen.xdotool(&["getwindowfocus"]).as_deref() == Some(&self.id)
    }

    pub(super) fn press(&self, key: &str) {
        self.focus();
        self.screen.xdotool(&["key", key]).expect("a key goes down");
    }

    /// The same for a key that changes what is seen, and until it did: of two keys that come with one frame of a busy
    /// machine, one would do nothing.
    #[track_caller]
    pub(super) fn press_seen(&self, key: &str) {
        let before = self.screen.pixels();
        self.press(key);
        wait_until(&format!("what {key} does"), || {
            self.screen.pixels() != before
        });
        std::thread::sleep(DRAWN);
    }

    /// Types a text into what has the keyboard.
    pub(super) fn write(&self, text: &str) {
        self.focus();
        self.screen
            .xdotool(&["type", "--delay", "20", text])
            .expect("keys go down");
    }

    /// A key goes down and stays there, or comes up again.
    pub(super) fn hold(&self, key: &str, is_down: bool) {
        self.focus();
        let action = if is_down { "keydown" } else { "keyup" };
        self.screen
            .xdotool(&[action, key])
            .expect("a key goes down or up");
    }

    pub(super) fn resize(&self, width: usize, height: usize) {
        let (width, height) = (width.to_string(), height.to_string());
        self.screen
            .xdotool(&["windowsize", "--sync", &self.id, &width, &height])
            .expect("a window changes its size");
    }

    /// Processor time it has used, in clock ticks of a hundredth of a second.
    #[cfg(target_os = "linux")]
    pub(super) fn ticks(&self) -> u64 {
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

/// Ends with the test: others may begin then.
pub(super) struct Held {
    _supernode: Running,
    _one: MutexGuard<'static, ()>,
}

/// What most tests begin with: a folder, a screen of this size in it, and the link of a supernode. `None` where `tools` are
/// missing, which is said.
pub(super) fn scene(
    test: &str,
    tools: &[&str],
    (width, height): (usize, usize),
) -> Option<(Held, TempDir, Screen, String)> {
    if !has_tools(test, tools) {
        return None;
    }
    let one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let screen = Screen::sized(&dir, width, height);
    let (supernode, node) = supernode(&dir.path().join("supernode"));
    let held = Held {
        _supernode: supernode,
        _one: one,
    };
    Some((held, dir, screen, node))
}
