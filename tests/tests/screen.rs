//! Screens and windows of a private X server: looked at from here, and shown to another process in a call.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    ffi::OsStr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahoy_media::video::{
    frame::{Frame, Plane, Size},
    live::LiveSource,
    pattern::{TestPattern, read},
    quality::psnr_db,
    screen::{ScreenOptions, ScreenTarget, source_on},
    source::{SourceNewsKind, Taken, TroubleKind, VideoSource as _},
    y4m::{AtEnd, Y4mSource},
};
use ahoy_tests::{
    display::{Display, is_installed},
    household::Household,
    process::{Running, start, start_in},
};
use serde_json::Value;

/// One screen, or one call, at a time: each works in real time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is an X server to start; if not, the test says so, and fails where nothing may be missing.
fn has_display(test: &str) -> bool {
    let there = is_installed();
    if !there {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "Xvfb is not installed"
        );
        eprintln!("SKIPPED {test}: Xvfb is not installed, so nothing was tested");
    }
    there
}

/// Looks at something, a hundred milliseconds of its own time after the other.
struct Looking {
    source: LiveSource,
    frame: Frame,
    told: Vec<(SourceNewsKind, String)>,
}

impl Looking {
    fn new(display: &Display, target: &str, options: ScreenOptions) -> Self {
        let target: ScreenTarget = target.parse().unwrap();
        let source = source_on(Some(display.name().to_owned()), target, options);
        Self {
            frame: Frame::black(source.size(), Duration::ZERO),
            source,
            told: Vec::new(),
        }
    }

    fn look(&mut self) -> Taken {
        let taken = self.source.read(&mut self.frame).unwrap();
        let news = self.source.take_news();
        let news = news.into_iter().map(|news| (news.kind, news.sentence));
        self.told.extend(news);
        self.frame.taken += Duration::from_millis(100);
        taken
    }

    /// Looks until something new is said, for five seconds of its time; what.
    #[track_caller]
    fn news(&mut self) -> (SourceNewsKind, String) {
        self.told.clear();
        for _ in 0..50 {
            self.look();
            if let Some(news) = self.told.pop() {
                assert_eq!(self.told, [], "{news:?}");
                return news;
            }
        }
        panic!("nothing was said");
    }

    /// Looks until there is a picture of this number.
    #[track_caller]
    fn until(&mut self, number: u16) {
        let mut seen = Vec::new();
        for _ in 0..20 {
            self.look();
            let now = read(&self.frame);
            if now == Some(number) {
                return;
            }
            seen.push(now);
        }
        panic!("{number} is not seen: {seen:?}");
    }
}

fn original(size: Size, number: u16) -> Frame {
    let mut pattern = TestPattern::new(size);
    pattern.set_number(number);
    pattern.next_frame(Duration::ZERO)
}

/// All ways to look: with and without what may be missing.
fn all_options() -> impl Iterator<Item = ScreenOptions> {
    [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .map(|(damage, shared_memory)| ScreenOptions {
            damage,
            shared_memory,
            pointer: false,
            ..ScreenOptions::default()
        })
}

#[test]
fn a_screen_is_seen_as_it_is_and_only_when_it_changes_however_it_is_looked_at() {
    if !has_display("a_screen_is_seen_as_it_is") {
        return;
    }
    let _alone = alone();
    let display = Display::start(320, 192);
    let size = Size::new(320, 192).unwrap();
    let window = display.full_window("pattern");
    for options in all_options() {
        for target in ["screen", "screen:all"] {
            let mut looking = Looking::new(&display, target, options);
            window.paint(7);
            assert_eq!(looking.look(), Taken::Picture, "{options:?}");
            assert_eq!(looking.told[0].0, SourceNewsKind::Opened);
            assert_eq!(looking.source.size(), size);
            let psnr = psnr_db(&looking.frame, &original(size, 7)).unwrap();
            assert!(psnr > 40.0, "{options:?}: {psnr}");
            // The server says what the first look itself did not change.
            looking.look();
            for _ in 0..5 {
                assert_eq!(looking.look(), Taken::Unchanged, "{options:?}");
            }
            for number in [8, 9, 10] {
                window.paint(number);
                assert_eq!(looking.look(), Taken::Picture, "{options:?}");
                assert_eq!(read(&looking.frame), Some(number));
            }
            let psnr = psnr_db(&looking.frame, &original(size, 10)).unwrap();
            assert!(psnr > 40.0, "{options:?}: {psnr}");
        }
    }
    let mut looking = Looking::new(&display, "screen:HDMI-9", ScreenOptions::default());
    let (kind, sentence) = looking.news();
    assert_eq!(kind, SourceNewsKind::Trouble(TroubleKind::Missing));
    assert!(sentence.contains("There is no screen HDMI-9"), "{sentence}");
}

#[test]
fn a_window_is_seen_behind_others_in_every_size_and_comes_back_when_it_was_closed() {
    if !has_display("a_window_is_seen_behind_others") {
        return;
    }
    let _alone = alone();
    let display = Display::start(640, 400);
    for options in all_options() {
        let mut window = display.window("My Film", 100, 60, 320, 192);
        let _before = display.full_window("something else");
        let mut looking = Looking::new(&display, "window:my film", options);
        window.paint(1);
        // COMPOSITE clears a window when it begins to keep it, and programs paint it again.
        looking.look();
        window.paint(2);
        looking.until(2);
        assert_eq!(looking.source.size().to_string(), "320x192");
        let psnr = psnr_db(&looking.frame, &original(looking.frame.size(), 2)).unwrap();
        assert!(psnr > 40.0, "{options:?}: {psnr}");

        window.resize(400, 240, 3);
        looking.until(3);
        assert_eq!(looking.source.size().to_string(), "400x240");
        window.show(false);
        let (kind, sentence) = looking.news();
        assert_eq!(kind, SourceNewsKind::Trouble(TroubleKind::Hidden));
        assert!(sentence.contains("“My Film” is minimised"), "{sentence}");
        window.show(true);
        window.paint(4);
        assert_eq!(looking.news().0, SourceNewsKind::Back);
        looking.until(4);

        let mut numbered = Looking::new(&display, &format!("window:{}", window.id()), options);
        assert_eq!(numbered.look(), Taken::Picture);
        drop(window);
        let (kind, sentence) = looking.news();
        assert_eq!(kind, SourceNewsKind::Trouble(TroubleKind::Gone));
        assert!(sentence.contains("“My Film” was closed"), "{sentence}");
        let (missing, sentence) = looking.news();
        assert_eq!(missing, SourceNewsKind::Trouble(TroubleKind::Missing));
        assert!(
            sentence.contains("There are: “something else”"),
            "{sentence}"
        );
        let again = display.window("My Film", 0, 0, 320, 192);
        assert_eq!(looking.news().0, SourceNewsKind::Back);
        again.paint(5);
        looking.until(5);
        // Its number may be another window's one day.
        let (kind, sentence) = numbered.news();
        assert_eq!(kind, SourceNewsKind::Trouble(TroubleKind::Gone));
        assert!(sentence.contains("call again"), "{sentence}");
        assert!((0..50).all(|_| numbered.look() == Taken::Nothing));
    }
}

/// Of the brightness, how many samples differ.
fn differing(one: &Frame, other: &Frame) -> Vec<(usize, usize)> {
    let (width, _) = one.size().of(Plane::Y);
    let both = one.plane(Plane::Y).iter().zip(other.plane(Plane::Y));
    both.enumerate()
        .filter(|(_, (one, other))| one.abs_diff(**other) > 8)
        .map(|(at, _)| (at % width, at / width))
        .collect()
}

#[test]
fn the_pointer_is_drawn_where_it_is_and_nowhere_else_unless_it_is_not_wanted() {
    if !has_display("the_pointer_is_drawn_where_it_is") {
        return;
    }
    let _alone = alone();
    let display = Display::start(320, 192);
    let _window = display.full_window("pattern");
    for pointer in [true, false] {
        let options = ScreenOptions {
            pointer,
            ..ScreenOptions::default()
        };
        for target in ["screen", "window:pattern"] {
            let mut looking = Looking::new(&display, target, options);
            display.move_pointer(160, 140);
            looking.look();
            looking.look();
            let before = looking.frame.clone();
            display.move_pointer(60, 90);
            let moved = looking.look();
            if !pointer {
                assert_eq!(moved, Taken::Unchanged);
                continue;
            }
            assert_eq!(moved, Taken::Picture);
            let differing = differing(&before, &looking.frame);
            assert!(!differing.is_empty());
            let near = |(x, y): (usize, usize), (px, py): (usize, usize)| {
                x.abs_diff(px) < 24 && y.abs_diff(py) < 24
            };
            for place in [(160, 140), (60, 90)] {
                assert!(differing.iter().any(|at| near(*at, place)), "{place:?}");
            }
            assert!(
                differing
                    .iter()
                    .all(|at| near(*at, (160, 140)) || near(*at, (60, 90)))
            );
            assert_eq!(looking.look(), Taken::Unchanged);
        }
    }
}

#[test]
fn a_screen_that_is_locked_or_whose_server_ends_is_said_and_seen_again() {
    if !has_display("a_screen_that_is_locked") {
        return;
    }
    let _alone = alone();
    let display = Display::start(320, 192);
    let mut looking = Looking::new(&display, "screen", ScreenOptions::default());
    assert_eq!(looking.look(), Taken::Picture);
    looking.told.clear();
    display.lock(true);
    let (kind, sentence) = looking.news();
    assert_eq!(kind, SourceNewsKind::Trouble(TroubleKind::Locked));
    assert!(sentence.contains("locked or asleep"), "{sentence}");
    assert_eq!(looking.look(), Taken::Nothing);
    // Also for who comes then.
    let mut late = Looking::new(&display, "screen", ScreenOptions::default());
    assert_eq!(late.news().0, SourceNewsKind::Trouble(TroubleKind::Locked));
    display.lock(false);
    assert_eq!(looking.news().0, SourceNewsKind::Back);

    let name = display.name().to_owned();
    drop(display);
    let (kind, sentence) = looking.news();
    assert_eq!(kind, SourceNewsKind::Trouble(TroubleKind::Gone));
    assert!(sentence.contains("The display is gone"), "{sentence}");
    assert_eq!(
        looking.news().0,
        SourceNewsKind::Trouble(TroubleKind::Missing)
    );
    let again = Display::start_as(Some(&name), 400, 240);
    assert_eq!(again.name(), name);
    assert_eq!(looking.news().0, SourceNewsKind::Back);
    assert_eq!(looking.source.size().to_string(), "400x240");
}

#[test]
fn a_screen_of_another_size_is_seen_in_that_and_a_monitor_by_its_name() {
    if !has_display("a_screen_of_another_size") {
        return;
    }
    let _alone = alone();
    let display = Display::start(1024, 768);
    // Its border is beyond the edge.
    let window = display.window("pattern", -3, -3, 640, 480);
    // So Xvfb calls its only one.
    for target in ["screen", "screen:screen", "screen:all"] {
        let mut looking = Looking::new(&display, target, ScreenOptions::default());
        assert_eq!(looking.look(), Taken::Picture, "{target}");
        assert_eq!(looking.source.size().to_string(), "1024x768");
        display.set_mode(640, 480);
        window.paint(1);
        looking.until(1);
        assert_eq!(looking.source.size().to_string(), "640x480");
        display.set_mode(1024, 768);
        for _ in 0..20 {
            looking.look();
        }
        assert_eq!(looking.source.size().to_string(), "1024x768");
        assert_eq!(looking.told.len(), 1, "{:?}", looking.told);
    }
}

#[test]
fn a_screen_that_is_larger_than_pictures_can_be_is_seen_smaller() {
    if !has_display("a_screen_that_is_larger") {
        return;
    }
    let _alone = alone();
    let display = Display::start(4096, 2304);
    display.move_pointer(4000, 2200);
    let _window = display.window("pattern", 509, 253, 640, 384);
    let mut looking = Looking::new(&display, "screen", ScreenOptions::default());
    assert_eq!(looking.look(), Taken::Picture);
    assert_eq!(looking.source.size().to_string(), "2048x1152");
    // Where the window is without its border, in half as many pixels.
    let mut part = Frame::black(Size::new(320, 192).unwrap(), Duration::ZERO);
    for plane in Plane::ALL {
        let (width, _) = looking.frame.size().of(plane);
        let (left, top) = if plane == Plane::Y {
            (256, 128)
        } else {
            (128, 64)
        };
        let from = looking.frame.plane(plane).get(top * width + left..);
        part.copy_rows(plane, from.unwrap(), width);
    }
    assert_eq!(read(&part), Some(0));
    display.move_pointer(600, 600);
    assert_eq!(looking.look(), Taken::Picture);
}

#[test]
fn a_display_that_has_stopped_stops_nobody_else() {
    if !has_display("a_display_that_has_stopped") {
        return;
    }
    let _alone = alone();
    let display = Display::start(320, 192);
    let mut looking = Looking::new(&display, "screen", ScreenOptions::default());
    assert_eq!(looking.look(), Taken::Picture);
    display.stop(true);
    let (kind, sentence) = looking.news();
    assert_eq!(kind, SourceNewsKind::Trouble(TroubleKind::Gone));
    assert!(sentence.contains("does not answer"), "{sentence}");
    display.stop(false);
    assert_eq!(looking.news().0, SourceNewsKind::Back);
}

// --- between processes ---------------------------------------------------------------------------

fn report(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// Alice shows what `--video-in` names to Bob, who records it.
struct Call {
    folder: tempfile::TempDir,
    _node: Running,
    alice: Running,
    bob: Running,
}

impl Call {
    fn place(display: &Display, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text = |name: &str| path(name).display().to_string();
        let node = start(
            &path("node"),
            ["supernode", "--listen", "127.0.0.1:0", "--print-link"],
        );
        let via = node.first_line();
        let (got, alice_report, bob_report) = (text("got.y4m"), text("alice"), text("bob"));
        let bob = [
            "answer",
            "--auto",
            "--once",
            "--via",
            &via,
            "--audio-in",
            "tone",
            "--report",
            &bob_report,
            "--video-out",
            &got,
            "--video-reference",
            "pattern",
            "--video-size",
            "320x192",
        ];
        let bob = start(&path("bob-home"), bob);
        let link = bob.first_line();
        let alice = [
            "call",
            &link,
            "--audio-in",
            "tone",
            "--report",
            &alice_report,
            "--video-fps",
            "10",
        ];
        let environment = [
            ("DISPLAY", display.name()),
            ("WAYLAND_DISPLAY", ""),
            ("XDG_SESSION_TYPE", "x11"),
        ];
        let environment: Vec<(&str, &str)> = environment
            .into_iter()
            .map(|(name, value)| match options {
                ["wayland", ..] if name == "XDG_SESSION_TYPE" => (name, "wayland"),
                _ => (name, value),
            })
            .collect();
        let options = options.strip_prefix(&["wayland"]).unwrap_or(options);
        let alice = start_in(
            &path("alice-home"),
            environment
                .iter()
                .map(|(name, value)| (OsStr::new(name), OsStr::new(value))),
            alice.into_iter().chain(options.iter().copied()),
        );
        Self {
            folder,
            _node: node,
            alice,
            bob,
        }
    }

    /// Waits for the end; what both report, and the numbers of the pictures that Bob recorded.
    fn finish(self) -> (Value, Value, Vec<u16>) {
        let Self {
            folder, alice, bob, ..
        } = self;
        let said = alice.finish().expect_code(0);
        eprintln!("{}", said.stderr);
        bob.finish().expect_code(0);
        let file = folder.path().join("got.y4m");
        let mut source = Y4mSource::open(&file, AtEnd::Stop).unwrap();
        let mut frame = Frame::black(source.size(), Duration::ZERO);
        let mut numbers = Vec::new();
        while source.read(&mut frame).unwrap() {
            numbers.push(read(&frame).unwrap_or_else(|| panic!("picture {}", numbers.len())));
        }
        let [alice, bob] = ["alice", "bob"].map(|name| report(&folder.path().join(name)));
        eprintln!("{:#}", bob["participants"][0]["video"]);
        (alice, bob, numbers)
    }
}

/// A screen shown for so many seconds arrives, picture by picture.
fn arrives(options: &[&str], path: &str) {
    let display = Display::start(320, 192);
    display.move_pointer(300, 180);
    let mut window = display.full_window("pattern");
    window.play(0, 8);
    let call = Call::place(
        &display,
        &[&["--video-in", "screen", "--for", "6"], options].concat(),
    );
    let (alice, bob, numbers) = call.finish();
    drop(window);
    let video = &bob["participants"][0]["video"];
    let frames = &video["frames"];
    assert!(count(&frames["rendered"]) > 20, "{video:#}");
    assert_eq!(frames["identified"], frames["rendered"], "{video:#}");
    assert_eq!(count(&frames["rendered"]), numbers.len() as u64);
    assert_eq!(frames["dropped"], 0, "{video:#}");
    assert!(video["psnr_db"].as_f64() > Some(30.0), "{video:#}");
    assert_eq!(
        (&video["width"], &video["height"]),
        (&320.into(), &192.into())
    );
    for name in ["codec", "fps", "freezes", "frozen_ms", "packets"] {
        assert!(!video[name].is_null(), "{name}: {video:#}");
    }
    assert!(bob["setup"]["accept_to_first_video_ms"].as_f64() > Some(0.0));
    // In the order in which they were painted, and most of them.
    assert!(
        numbers.windows(2).all(|pair| pair[1] >= pair[0]),
        "{numbers:?}"
    );
    let different = numbers.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!(different > 10, "{numbers:?}");
    // Alice's own report, and what she was told.
    let own = &alice["participants"][0]["video"];
    assert!(
        count(&own["frames"]["sent"]) >= numbers.len() as u64,
        "{own:#}"
    );
    assert!(count(&own["bitrate_bps"]) > 10_000, "{own:#}");
    assert!(
        own["frames"]["rendered"].is_null(),
        "she shows none: {own:#}"
    );
    let told = &alice["remote"]["participants"][0]["video"]["frames"]["rendered"];
    assert!(count(told) > 10, "{alice:#}");
    let kinds: Vec<&str> = alice["paths"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|path| path["kind"].as_str())
        .collect();
    assert_eq!(kinds.last(), Some(&path), "{kinds:?}");
}

#[test]
fn a_screen_reaches_another_process_directly() {
    if !has_display("a_screen_reaches_another_process_directly") {
        return;
    }
    let _alone = alone();
    arrives(&[], "direct");
}

#[test]
fn a_screen_reaches_another_process_through_a_relay_in_another_codec() {
    if !has_display("a_screen_reaches_another_process_through_a_relay") {
        return;
    }
    let _alone = alone();
    arrives(&["--path", "relay", "--video-codec", "h264"], "relay");
}

/// The first picture of the window that is opened when the first one was closed.
const SECOND: u16 = 1000;

#[test]
fn a_window_that_is_closed_in_a_call_is_said_and_the_call_goes_on_until_it_is_back() {
    if !has_display("a_window_that_is_closed_in_a_call") {
        return;
    }
    let _alone = alone();
    let display = Display::start(640, 400);
    let mut window = display.window("My Film", 100, 60, 320, 192);
    window.play(0, 8);
    let call = Call::place(&display, &["--video-in", "window:my film"]);
    call.alice
        .wait_stderr("Your window “My Film” can be seen by the other side now (320x192)");
    call.bob.wait_stderr("connected");
    // So that there is something to see of it.
    let seen = Duration::from_secs(1);
    let events = start(&call.folder.path().join("alice-home"), ["ctl", "events"]);
    std::thread::sleep(seen);
    drop(window);
    let said = call.alice.wait_stderr("was closed");
    assert!(
        said.contains("it is shown again as soon as there is one by that name"),
        "{said}"
    );
    // Another size, which the encoder is to follow.
    let mut window = display.window("My Film", 0, 0, 400, 240);
    window.play(SECOND, 8);
    call.alice
        .wait_stderr("can be seen by the other side again");
    let told = events.wait_stdout(r#""kind":"back""#);
    assert!(told.contains(r#""event":"pictures""#), "{told}");
    std::thread::sleep(seen);
    call.alice.interrupt();
    let (_alice, bob, numbers) = call.finish();
    assert_eq!(bob["outcome"], "completed");
    let video = &bob["participants"][0]["video"];
    assert_eq!(
        (&video["width"], &video["height"]),
        (&400.into(), &240.into())
    );
    assert!(numbers.first() < Some(&SECOND), "{numbers:?}");
    assert!(numbers.last() > Some(&SECOND), "{numbers:?}");
    drop(window);
}

#[test]
fn a_screen_that_is_black_under_wayland_is_said_and_one_that_is_just_black_is_not() {
    if !has_display("a_screen_that_is_black_under_wayland") {
        return;
    }
    let _alone = alone();
    let display = Display::start(320, 192);
    let screen = ["--video-in", "screen", "--for", "2"];
    let call = Call::place(&display, &[&["wayland"], &screen[..]].concat());
    let said = call.alice.wait_stderr("is black to the other side");
    assert!(said.contains("Share screen:pick"), "{said}");
    call.alice.finish().expect_code(0);
    let call = Call::place(&display, &screen);
    let finished = call.alice.finish();
    assert!(
        finished
            .stderr
            .contains("can be seen by the other side now")
    );
    assert!(!finished.stderr.contains("is black"), "{}", finished.stderr);
}

#[test]
fn who_shows_no_pictures_is_sent_none_and_that_is_said() {
    if !has_display("who_shows_no_pictures_is_sent_none") {
        return;
    }
    let _alone = alone();
    let display = Display::start(320, 192);
    let house = Household::new();
    let (bob, link) = house.answer("bob", &["--auto", "--once"]);
    let report_path = house.text("report.json");
    let alice = start_in(
        &house.path("alice"),
        [(OsStr::new("DISPLAY"), OsStr::new(display.name()))],
        [
            "call",
            &link,
            "--for",
            "2",
            "--video-in",
            "screen",
            "--report",
            &report_path,
        ],
    );
    let said = alice.wait_stderr("The other side shows no pictures");
    assert!(said.contains("you are heard all the same"), "{said}");
    alice.finish().expect_code(0);
    bob.finish().expect_code(0);
    let report = house.report("report.json");
    assert!(report["participants"][0]["video"].is_null(), "{report:#}");
    assert_eq!(report["outcome"], "completed");
}

/// No machine that tests has a camera; where one does, it is left alone.
#[test]
fn a_camera_that_is_not_there_is_said_and_the_call_goes_on() {
    let _alone = alone();
    let house = Household::new();
    let (bob, link) = house.answer("bob", &["--auto", "--once", "--video-out", "null"]);
    let camera = "camera:no camera is called so";
    let options = ["--for", "2", "--video-in", camera, "--path", "relay"];
    let alice = house.call("alice", &link, &options);
    let said = alice.wait_stderr("The camera no camera is called so is not plugged in");
    assert!(
        said.contains("so the other side does not see you"),
        "{said}"
    );
    alice.finish().expect_code(0);
    bob.finish().expect_code(0);
}
