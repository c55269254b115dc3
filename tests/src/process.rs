//! The program itself, run as people and scripts run it: arguments in, lines and an exit code out.
//!
//! Nothing sleeps: whoever waits, waits for a line or for an end, and fails with all that was said so far.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Longer than anything here takes on a machine that does something else as well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test: `AHOY_BIN`, or what cargo built beside this test.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("AHOY_BIN") {
        return path.into();
    }
    // target/debug/deps/processes-… -> target/debug/ahoy
    let here = std::env::current_exe().expect("a running test knows its own path");
    let built = here.ancestors().nth(2).map(|folder| {
        folder
            .join("ahoy")
            .with_extension(std::env::consts::EXE_EXTENSION)
    });
    match built {
        Some(built) if built.is_file() => built,
        Some(_) | None => panic!(
            "there is no ahoy binary beside the tests: `make unit` builds it first (or name one in AHOY_BIN)"
        ),
    }
}

/// The clip that comes with the program.
#[must_use]
pub fn speech() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/ahoy.wav")
}

/// Lines of one stream, as a thread reads them.
#[derive(Debug, Default)]
struct Lines {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    fn read(stream: impl Read + Send + 'static, name: &str) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let filled = Arc::clone(&lines);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { break };
                    filled.lock().lines.push(line);
                    filled.more.notify_all();
                }
                filled.lock().closed = true;
                filled.more.notify_all();
            })
            .expect("the system has a thread for each stream of a few children");
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough`, or until nothing more can come.
    fn wait(&self, patience: Duration, enough: impl Fn(&Said) -> bool) -> bool {
        let (said, _timeout) = self
            .more
            .wait_timeout_while(self.lock(), patience, |said| !said.closed && !enough(said))
            .unwrap_or_else(PoisonError::into_inner);
        enough(&said)
    }
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

/// How a program ended and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// What was run.
    pub command: String,
}

/// Whether a program is installed.
#[must_use]
pub fn has_tool(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

/// Starts `ahoy` with a profile in `home`.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start<S: AsRef<OsStr>>(home: &Path, arguments: impl IntoIterator<Item = S>) -> Running {
    start_with(home, "", arguments)
}

/// Starts `ahoy` with a profile in `home` and `RUST_LOG` as in `log`; empty for the default.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start_with<S: AsRef<OsStr>>(
    home: &Path,
    log: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Running {
    let log = (!log.is_empty()).then_some((OsStr::new("RUST_LOG"), OsStr::new(log)));
    start_in(home, log, arguments)
}

/// Starts `ahoy` with a profile in `home` and these variables in its environment.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start_in<'a, S: AsRef<OsStr>>(
    home: &Path,
    environment: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
    arguments: impl IntoIterator<Item = S>,
) -> Running {
    start_by(home, environment, arguments, |mut command| command.spawn())
}

/// As [`start_in`], by whoever `spawn` is: something that starts programs elsewhere than here.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start_by<'a, S: AsRef<OsStr>>(
    home: &Path,
    environment: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
    arguments: impl IntoIterator<Item = S>,
    spawn: impl FnOnce(Command) -> io::Result<Child>,
) -> Running {
    let mut command = Command::new(binary());
    command.arg("--home").arg(home).args(arguments);
    leave_devices_alone(&mut command);
    command
        .env_remove("AHOY_HOME")
        .env_remove("RUST_LOG")
        // Nothing here is everybody's business.
        .env("AHOY_DHT_BOOTSTRAP", "none")
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let shown = command
        .get_args()
        .skip(2)
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    let mut child =
        spawn(command).unwrap_or_else(|error| panic!("cannot start ahoy {shown}: {error}"));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    Running {
        stdout: Lines::read(out.expect("it is piped"), "stdout"),
        stderr: Lines::read(err.expect("it is piped"), "stderr"),
        child,
        command: format!("ahoy {shown}"),
    }
}

/// A build with sound devices would open those of this machine where nothing else is asked for.
fn leave_devices_alone(command: &mut Command) {
    let arguments: Vec<String> = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // The first two name the profile.
    let has_sound = matches!(
        arguments.get(2).map(String::as_str),
        Some("call" | "answer")
    );
    if has_sound && !has("--audio-out") {
        command.args(["--audio-out", "null"]);
    }
    if has_sound && !has("--audio-in") && !has("--echo") {
        command.args(["--audio-in", "silence"]);
    }
}

/// Runs `ahoy` to its end.
///
/// # Panics
/// When it does not end in [`PATIENCE`].
#[must_use]
pub fn run<S: AsRef<OsStr>>(home: &Path, arguments: impl IntoIterator<Item = S>) -> Finished {
    start(home, arguments).finish()
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first line on standard output.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn first_line(&self) -> String {
        let came = self.stdout.wait(PATIENCE, |said| !said.lines.is_empty());
        assert!(came, "no line on standard output.\n{}", self.told());
        self.stdout.lock().lines[0].clone()
    }

    /// Waits for a line on standard output that holds `text`, and returns it.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_stdout(&self, text: &str) -> String {
        self.wait_for(&self.stdout, text, 1, PATIENCE)
    }

    /// Waits for a line on standard error that holds `text`, and returns it.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_stderr(&self, text: &str) -> String {
        self.wait_for(&self.stderr, text, 1, PATIENCE)
    }

    /// Waits until standard error has `count` lines that hold `text`.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait_stderr_times(&self, text: &str, count: usize) -> String {
        self.wait_stderr_times_within(text, count, PATIENCE)
    }

    /// Waits as [`wait_stderr_times`](Self::wait_stderr_times) does, for as long as `patience`.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait_stderr_times_within(&self, text: &str, count: usize, patience: Duration) -> String {
        self.wait_for(&self.stderr, text, count, patience)
    }

    fn wait_for(&self, lines: &Lines, text: &str, count: usize, patience: Duration) -> String {
        let nth = |said: &Said| {
            let mut found = said.lines.iter().filter(|line| line.contains(text));
            found.nth(count - 1).cloned()
        };
        let came = lines.wait(patience, |said| nth(said).is_some());
        assert!(
            came,
            "nothing said {text:?} {count} times.\n{}",
            self.told()
        );
        nth(&lines.lock()).expect("it was there, and lines do not go")
    }

    /// Waits until standard error has `count` lines, whatever they say, or has ended, but not longer than a second.
    pub fn wait_stderr_lines(&self, count: usize) {
        let patience = Duration::from_secs(1);
        self.stderr.wait(patience, |said| said.lines.len() >= count);
    }

    /// Lines on standard output so far.
    #[must_use]
    pub fn stdout_lines(&self) -> Vec<String> {
        self.stdout.lock().lines.clone()
    }

    /// All it has said on standard error.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        self.stderr.lock().lines.join("\n")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not come in [`PATIENCE`].
    #[must_use]
    pub fn finish(self) -> Finished {
        self.finish_within(PATIENCE)
    }

    /// Waits for its end, not longer than `patience`.
    ///
    /// # Panics
    /// When it does not come.
    #[must_use]
    pub fn finish_within(mut self, patience: Duration) -> Finished {
        let ended = [&self.stdout, &self.stderr]
            .into_iter()
            .all(|lines| lines.wait(patience, |said| said.closed));
        assert!(ended, "it does not end.\n{}", self.told());
        let status: ExitStatus = self.child.wait().expect("a child can be waited for");
        let mut finished = Finished {
            code: status.code(),
            stdout: self.stdout.lock().lines.join("\n"),
            stderr: self.stderr.lock().lines.join("\n"),
            command: self.command.clone(),
        };
        // The reader takes lines; what was printed ended each of them.
        if !finished.stdout.is_empty() {
            finished.stdout.push('\n');
        }
        finished
    }

    /// Ends it with no chance to say good-bye, as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// When the system cannot.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
        self.stderr.wait(PATIENCE, |said| said.closed);
        self.stderr_so_far()
    }

    /// Asks it to end, as Ctrl-C does.
    ///
    /// # Panics
    /// When the system cannot.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        let sent = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status()
            .expect("every Unix has kill");
        assert!(sent.success(), "{} is gone already", self.command);
    }

    fn told(&self) -> String {
        let mut told = format!("{}\n", self.command);
        for (name, lines) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            for line in &lines.lock().lines {
                writeln!(told, "{name}: {line}").expect("a string takes everything");
            }
        }
        told
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(|_status| ()).unwrap_or_default();
    }
}

impl Finished {
    /// It ended with this code.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\nstdout: {}\nstderr: {}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard error says `text`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn expect_stderr(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "{}\nsays nothing of {text:?}: {}",
            self.command,
            self.stderr
        );
        self
    }

    /// Standard output, which is one JSON document and nothing else.
    ///
    /// # Panics
    /// When it is something else.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "{}: standard output is not one JSON document: {error}\n{}\n{}",
                self.command, self.stdout, self.stderr
            )
        })
    }
}
