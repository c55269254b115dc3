//! A network namespace for a test that runs itself again inside.

use std::process::Command;

/// Tells a test that it is inside.
const INSIDE: &str = "AHOY_TEST_NAMESPACE";

pub(crate) fn run(program: &str, arguments: &str) -> bool {
    Command::new(program)
        .args(arguments.split_whitespace())
        .status()
        .is_ok_and(|status| status.success())
}

#[track_caller]
pub(crate) fn ip(arguments: &str) {
    assert!(run("ip", arguments), "ip {arguments}");
}

/// Whether this is the namespace; otherwise the test `name` has run in one, or was skipped with a word.
pub(crate) fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    for options in ["--net", "--map-root-user --net"] {
        if !run("unshare", &format!("{options} ip link set lo up")) {
            continue;
        }
        let status = Command::new("unshare")
            .args(options.split_whitespace())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert!(status.success(), "{name} failed in its namespace");
        return false;
    }
    println!("SKIPPED {name}: no network namespace may be made here, or there is no `ip`");
    false
}
