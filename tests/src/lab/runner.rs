//! Test binaries of the laboratory have a `main` of their own: to enter a user namespace a process must not
//! have a second thread yet, and the standard test harness begins with one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use super::Lab;

/// Set to anything where a missing laboratory is a failure, as continuous integration does.
const MUST_RUN: &str = "CI";
/// Tools the laboratory calls.
const TOOLS: [(&str, &str); 2] = [("nft", "--version"), ("conntrack", "--version")];

/// A test. It fails by panicking.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// A sentence.
    pub name: &'static str,
    /// What it does.
    pub run: fn(),
    /// It takes minutes, and runs only when a word on the command line asks for it.
    pub slow: bool,
}

impl Test {
    /// A test of every run.
    #[must_use]
    pub const fn new(name: &'static str, run: fn()) -> Self {
        let slow = false;
        Self { name, run, slow }
    }

    /// A test that is asked for.
    #[must_use]
    pub const fn slow(name: &'static str, run: fn()) -> Self {
        let slow = true;
        Self { name, run, slow }
    }
}

/// Whether this process may do everything and is not in a user namespace of its own.
#[must_use]
pub fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    whole && effective_uid() == Some(0)
}

fn effective_uid() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs the tests whose names hold one of the words on the command line, one after the other; all but the slow ones
/// without words.
///
/// Where no laboratory can be had, says why and succeeds, unless `CI` is set.
#[must_use]
#[expect(clippy::print_stdout, reason = "a test harness tells its results")]
pub fn main(tests: &[Test]) -> ExitCode {
    // Before anything starts a thread. Root needs none, and takes its own where it is refused.
    let entered = patchbay::init_userns().map_err(|error| format!("{error:#}"));
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        for Test { name, .. } in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = possible(&entered) {
        let must = std::env::var_os(MUST_RUN).is_some();
        let verdict = if must { "FAILED" } else { "SKIPPED" };
        println!("{verdict}: no network namespaces here: {reason}");
        return if must {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen = |test: &&Test| {
        let named = filters.iter().any(|word| test.name.contains(*word));
        named || (filters.is_empty() && !test.slow)
    };
    let mut failed = Vec::new();
    for Test { name, run, .. } in tests.iter().filter(chosen) {
        println!("test {name} ...");
        let begun = now();
        let outcome = catch_unwind(AssertUnwindSafe(run));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {verdict} ({:.1} s)",
            begun.elapsed().as_secs_f32()
        );
        if outcome.is_err() {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("test result: ok");
        ExitCode::SUCCESS
    } else {
        println!("test result: FAILED: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

/// Whether namespaces, NATs and tools work here.
fn possible(entered: &Result<(), String>) -> Result<(), String> {
    if let Err(reason) = entered
        && !is_real_root()
    {
        return Err(format!("not root, and no user namespace: {reason}"));
    }
    for (tool, argument) in TOOLS {
        let mut command = Command::new(tool);
        command
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if command.status().is_err() {
            return Err(format!("there is no {tool} (see .ci/setup test)"));
        }
    }
    Lab::try_new().map(drop)
}

/// Real time: it is what processes live in.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "processes live in real time")]
pub fn now() -> Instant {
    Instant::now()
}
