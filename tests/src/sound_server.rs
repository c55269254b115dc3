//! A private sound server: null sinks, tones for microphones, no hardware, and nobody's real devices.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::process::has_tool;

/// What is needed of PulseAudio.
const TOOLS: [&str; 4] = ["pulseaudio", "pactl", "paplay", "parec"];

/// The tools that are not installed.
#[must_use]
pub fn missing_tools() -> Vec<&'static str> {
    TOOLS.into_iter().filter(|tool| !has_tool(tool)).collect()
}

/// Waits for another process or thread, which cannot be told to hurry.
///
/// # Panics
/// When it takes longer than `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    const STEP: Duration = Duration::from_millis(5);
    for _ in 0..limit.as_millis() / STEP.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(STEP);
    }
    panic!("waited {limit:?} for {what}");
}

/// A process that ends with its handle.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().unwrap_or(());
        self.0.wait().map(drop).unwrap_or(());
    }
}

/// A sound server that ends with its handle.
#[derive(Debug)]
pub struct SoundServer {
    process: Process,
    sound: Sound,
}

impl SoundServer {
    /// Starts a server whose socket is in `folder`, with these modules, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(folder: &Path, modules: &[&str]) -> Self {
        let sound = Sound::at(folder);
        // One that was killed left it behind.
        fs::remove_file(sound.socket()).unwrap_or(());
        let mut command = sound.tool("pulseaudio");
        command
            .args(["--daemonize=no", "--exit-idle-time=-1", "-n"])
            .args(["--log-level=error", "--use-pid-file=no"]);
        for module in modules {
            command.args(["-L", module]);
        }
        // Last: who connects finds everything in its place.
        command.args(["-L", "module-native-protocol-unix"]);
        let process = Process::start(&mut command);
        wait_until("the sound server", Duration::from_secs(10), || {
            sound.answers()
        });
        Self { process, sound }
    }

    /// How to reach it.
    #[must_use]
    pub fn sound(&self) -> &Sound {
        &self.sound
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// The way to a sound server, whether it runs or not.
#[derive(Debug, Clone)]
pub struct Sound {
    folder: PathBuf,
}

/// A module that was loaded, to be unloaded.
#[derive(Debug)]
pub struct Module(String);

impl Sound {
    /// The server whose socket is in `folder`.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Where its socket is.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("pulse/native")
    }

    /// Whether it takes connections.
    #[must_use]
    pub fn answers(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok()
    }

    /// A program that finds this server and no other.
    #[must_use]
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env("XDG_RUNTIME_DIR", &self.folder)
            .env("HOME", &self.folder)
            .env_remove("PULSE_SERVER")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null());
        command
    }

    /// Tells the server something, and returns what it says.
    ///
    /// # Panics
    /// When it refuses.
    pub fn pactl(&self, arguments: &[&str]) -> String {
        let output = self.tool("pactl").args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("pactl: {error}"));
        assert!(output.status.success(), "pactl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Loads a module: plugs something in.
    ///
    /// # Panics
    /// When it cannot be loaded.
    #[must_use]
    pub fn load(&self, module: &str) -> Module {
        let words: Vec<&str> = ["load-module"]
            .into_iter()
            .chain(module.split(' '))
            .collect();
        Module(self.pactl(&words))
    }

    /// Unplugs it again.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn unload(&self, module: &Module) {
        self.pactl(&["unload-module", &module.0]);
    }

    /// What plays a file of bare samples at 48 kHz to a sink, as another program; `format` as PulseAudio calls it.
    #[must_use]
    pub fn player(&self, sink: &str, file: &Path, format: &str, channels: u16) -> Command {
        let mut play = self.tool("paplay");
        play.args(["--raw", "--rate=48000"])
            .arg(format!("--device={sink}"))
            .arg(format!("--format={format}"))
            .arg(format!("--channels={channels}"))
            .arg(file);
        play
    }

    /// Writes down what `source` hears: bare little-endian f32, 48 kHz, mono or interleaved.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn record(&self, source: &str, channels: u16, to: &Path) -> Process {
        let file = fs::File::create(to);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", to.display()));
        let mut command = self.tool("parec");
        command
            .arg(format!("--device={source}"))
            .arg(format!("--channels={channels}"))
            .args(["--format=float32le", "--rate=48000", "--latency-msec=10"])
            .stdout(file);
        Process::start(&mut command)
    }
}

/// What [`Sound::record`] has written so far.
///
/// # Panics
/// When there is no such file.
#[must_use]
pub fn recorded(file: &Path) -> Vec<f32> {
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (samples, _unfinished) = bytes.as_chunks::<4>();
    samples
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}
