//! The program as a shell meets it. That this file is here also makes `cargo test` build the program, with the very
//! crates that all tests use; those in `tests` run it as separate processes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::process::{Command, Output};

fn ahoy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ahoy"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn it_tells_its_version() {
    let output = ahoy(&["--version"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn what_it_does_not_know_is_an_error_that_says_where_to_look() {
    let output = ahoy(&["call", "--pth", "relay"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--path") && text.contains("--help"), "{text}");
    assert!(output.stdout.is_empty());
}
