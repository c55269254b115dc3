//! A screen of a desktop with Wayland, shown to another process in a call: picked in the desktop's dialog.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahoy_media::video::{
    frame::{Frame, Size},
    pattern::read,
    y4m::{AtEnd, Y4mSource},
};
use ahoy_tests::{
    desktop::{Desktop, as_os, missing_tools},
    household::Household,
    process::{Finished, Running, start_in},
};

/// One desktop at a time: each works in real time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is a desktop to start; if not, the test says so, and fails where nothing may be missing.
fn has_desktop(test: &str) -> bool {
    let missing = missing_tools();
    if !missing.is_empty() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "not installed: {missing:?}"
        );
        eprintln!("SKIPPED {test}: not installed: {missing:?}");
    }
    missing.is_empty()
}

/// Alice shows what she picks to Bob, who records it.
struct Call {
    house: Household,
    alice: Running,
    bob: Running,
}

impl Call {
    fn place(environment: &[(String, String)], seconds: &str) -> Self {
        let house = Household::new();
        let got = house.text("got.y4m");
        let once = ["--auto", "--once", "--audio-in", "tone"];
        let (bob, link) = house.answer("bob", &[&once[..], &["--video-out", &got]].concat());
        let alice = start_in(
            &house.path("alice"),
            as_os(environment),
            [
                "call",
                &link,
                "--audio-in",
                "tone",
                "--video-in",
                "screen",
                "--video-fps",
                "10",
                "--video-content",
                "text",
                "--for",
                seconds,
            ],
        );
        Self { house, alice, bob }
    }

    /// What Alice's program is told by another.
    fn tell(&self, words: &[&str]) -> Finished {
        self.house.ctl("alice", words)
    }

    /// Waits for the end; what Alice was told, and the numbers of the pictures that Bob recorded.
    fn finish(self) -> (String, Vec<u16>) {
        let said = self.alice.finish().expect_code(0).stderr;
        self.bob.finish().expect_code(0);
        (said, recorded(&self.house.path("got.y4m")))
    }
}

fn recorded(file: &Path) -> Vec<u16> {
    if !file.exists() {
        return Vec::new();
    }
    let mut source = Y4mSource::open(file, AtEnd::Stop).unwrap();
    let mut frame = Frame::black(source.size(), Duration::ZERO);
    let mut numbers = Vec::new();
    while source.read(&mut frame).unwrap() {
        numbers.push(read(&frame).unwrap_or_else(|| panic!("picture {}", numbers.len())));
    }
    numbers
}

fn size() -> Size {
    Size::new(320, 192).unwrap()
}

#[test]
fn what_is_picked_in_the_dialog_is_seen_and_shown_again_without_asking() {
    if !has_desktop("what_is_picked_in_the_dialog_is_seen") {
        return;
    }
    let _alone = alone();
    let desktop = Desktop::start(size());
    desktop.pick(true);
    let call = Call::place(&desktop.environment(), "10");
    call.alice
        .wait_stderr("What you picked can be seen by the other side now (320x192)");
    call.tell(&["share", "off"]).expect_code(0);
    call.tell(&["share", "screen"]).expect_code(0);
    call.alice
        .wait_stderr_times("can be seen by the other side now", 2);
    assert_eq!(desktop.dialogs(), 1, "asked again");
    call.tell(&["share", "off"]).expect_code(0);
    call.tell(&["share", "screen:pick"]).expect_code(0);
    let (said, numbers) = call.finish();
    eprintln!("{said}");
    assert_eq!(said.matches("can be seen by the other side now").count(), 3);
    assert_eq!(desktop.dialogs(), 2, "who wants to pick is asked");
    assert!(numbers.len() > 20, "{numbers:?}");
    let is_on = |two: &&[u16]| two[0] <= two[1] || two[1] < 10;
    let on = numbers.windows(2).filter(is_on).count();
    assert_eq!(on, numbers.len() - 1, "{numbers:?}");
    assert!(numbers.first() != numbers.last(), "{numbers:?}");
}

#[test]
fn who_picks_nothing_and_who_ends_it_in_the_desktop_is_told_so_and_the_call_goes_on() {
    if !has_desktop("who_picks_nothing") {
        return;
    }
    let _alone = alone();
    let mut desktop = Desktop::start(size());
    desktop.pick(false);
    let call = Call::place(&desktop.environment(), "15");
    call.alice
        .wait_stderr("Nothing was picked in your desktop's dialog");
    desktop.pick(true);
    call.tell(&["share", "screen"]).expect_code(0);
    call.alice.wait_stderr("What you picked can be seen");
    desktop.end();
    call.alice.wait_stderr("Showing was ended by your desktop");
    call.tell(&["share", "screen"]).expect_code(0);
    call.alice
        .wait_stderr_times("What you picked can be seen", 2);
    desktop.unplug();
    let (said, numbers) = call.finish();
    eprintln!("{said}");
    assert_eq!(said.matches("Showing was ended by your desktop").count(), 2);
    assert!(!numbers.is_empty());
}

#[test]
fn a_desktop_without_a_portal_is_told_what_to_install() {
    if !has_desktop("a_desktop_without_a_portal") {
        return;
    }
    let _alone = alone();
    let empty = tempfile::tempdir().unwrap();
    let here = empty.path().display().to_string();
    let environment = [
        ("WAYLAND_DISPLAY", "wayland-test".to_owned()),
        ("DISPLAY", String::new()),
        ("XDG_RUNTIME_DIR", here.clone()),
        ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={here}/bus")),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let (said, numbers) = Call::place(&environment, "2").finish();
    assert!(said.contains("install xdg-desktop-portal"), "{said}");
    assert_eq!(numbers.len(), 0);
}
