//! `ahoy send` and `ahoy files` as people and scripts use them, every program a process of its own: one of them is killed
//! while a file is on its way.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use ahoy_tests::{
    household::Household,
    process::{run, start},
    threat,
};
use ahoy_transport::runtime::TokioRuntime;
use quinn::Runtime as _;
use serde_json::Value;

/// Several seconds at the most that a session sends.
const SIZE: usize = 24_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// Files of others go to a folder of this test.
fn settings(house: &Household, name: &str, more: &str) {
    fs::create_dir_all(house.path(name)).unwrap();
    let folder = house.path(&format!("{name}-downloads"));
    let text = format!(
        "version = 1\ndownload_folder = {:?}\n{more}",
        folder.display().to_string()
    );
    fs::write(house.path(name).join("settings.toml"), text).unwrap();
}

fn file(house: &Household, name: &str) -> Option<Value> {
    let listed = house.run(name, &["files", "--json"]).expect_code(0).json();
    listed.as_array().unwrap().first().cloned()
}

/// Asks until the first file of somebody's is as wanted.
fn wait(house: &Household, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began: Instant = TokioRuntime.now();
    loop {
        let file = file(house, name);
        if let Some(file) = file.clone().filter(|file| wanted(file)) {
            return file;
        }
        let waited = TokioRuntime.now() - began;
        assert!(waited < PATIENCE, "{name}'s is not {what}: {file:#?}");
    }
}

fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_be_bytes());
    }
    out.truncate(len);
    out
}

#[test]
fn a_file_goes_on_after_a_kill_and_is_what_was_sent() {
    let world = Household::new();
    for name in ["alice", "bob"] {
        settings(&world, name, "");
    }
    let (bob, bobs_link) = world.answer("bob", &[]);
    let (alice, alices_link) = world.answer("alice", &[]);
    for running in [bob, alice] {
        running.interrupt();
        let _ended = running.finish().expect_code(0);
    }
    for (name, link, called) in [("alice", &bobs_link, "Bob"), ("bob", &alices_link, "Alice")] {
        let add = ["contact", "add", link, "--name", called];
        let _added = run(&world.path(name), add).expect_code(0);
    }
    let content = bytes(SIZE);
    let path = world.path("holiday film.mkv");
    fs::write(&path, &content).unwrap();
    let path = path.display().to_string();
    // To nobody, and what is not there.
    world
        .run("alice", &["send", "Nobody", &path])
        .expect_code(2);
    world
        .run("alice", &["send", "Bob", "/nowhere/x"])
        .expect_code(2);

    // Alice's program stays until Bob has it.
    let sending = start(
        &world.path("alice"),
        ["send", "Bob", &path, "--via", &world.node],
    );
    let (bob, _) = world.answer("bob", &[]);
    bob.wait_stderr("holiday film.mkv: Alice offers 24.0 MB");
    let offered = file(&world, "bob").unwrap();
    assert_eq!(
        (&offered["state"], &offered["done"]),
        (&"offered".into(), &0.into())
    );
    let id: String = offered["id"].as_str().unwrap().chars().take(8).collect();
    world
        .ctl("bob", &["files", "accept", "nothing-is-called-so"])
        .expect_code(2);
    let accepted = world.ctl("bob", &["files", "accept", &id]).expect_code(0);
    assert_eq!(accepted.json()["file"]["state"], "active");
    let done = |file: &Value| file["done"].as_u64().unwrap_or(0);
    let half = wait(&world, "bob", "on its way", |file| done(file) > 3_000_000);
    assert!(done(&half) < SIZE as u64, "killed in between: {half:#?}");
    // As by kill -9: not a word.
    bob.kill();
    let kept = file(&world, "bob").unwrap();
    assert_eq!(kept["state"], "active");
    assert!(
        !world
            .path("bob-downloads")
            .join("holiday film.mkv")
            .exists()
    );
    let (bob, _) = world.answer("bob", &[]);
    let again = wait(&world, "bob", "taken up", |file| done(file) > 3_000_000);
    bob.wait_stderr("holiday film.mkv: complete, each byte verified");
    let file = file(&world, "bob").unwrap();
    assert_eq!(file["state"], "done");
    let place = PathBuf::from(file["path"].as_str().unwrap());
    assert_eq!(place, world.path("bob-downloads").join("holiday film.mkv"));
    assert!(fs::read(&place).unwrap() == content);
    assert_eq!(
        fs::read_dir(world.path("bob-downloads")).unwrap().count(),
        1
    );
    let sent = sending.finish_within(PATIENCE).expect_code(0);
    assert_eq!(sent.stdout, "holiday film.mkv: Bob has it\n");
    threat(
        19,
        format_args!(
            "killed at {} of {SIZE} bytes, taken up at {}, complete and equal",
            done(&half),
            done(&again)
        ),
    );
}
