//! Pictures in windows, read back from the screen.
//!
//! What is sent is the test pattern, whose pictures have numbers. They are looked for in the pixels of the screen, so
//! that place, shape, side and colours of what is drawn are those of what was sent.

use std::time::Duration;

use ahoy_media::video::{
    frame::{Frame, Plane, Size},
    pattern::{TestPattern, read},
    scale::Scaler,
    y4m::Y4mSink,
};

use ahoy_tests::display::to_pixels;

use super::*;

/// Of each window, at which scale 1 has room for everything.
const SIZE: (usize, usize) = (900, 600);
/// Around the stage, in points, and what the theme calls its margin.
const MARGIN: usize = 16;
/// Between the stage's corner and our own picture, and how wide that is.
const OWN_INSET: f32 = 12.0;
const OWN_SHARE: f32 = 0.22;

/// How like what was sent each of red, green and blue is at least, in decibels.
const LEAST_PSNR_DB: f64 = 25.0;
/// By how much each of them may be too much or too little on the whole, of 255. By the matrix of BT.601 it is nearly 3.
const MOST_BIAS: f64 = 2.3;
/// The lower part of a picture may lie behind our own.
const COMPARED: f64 = 0.55;

/// How often a picture is looked for, which takes a while itself.
const LOOKS: usize = 100;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Area {
    fn shape(self) -> f64 {
        self.width as f64 / self.height as f64
    }
}

/// Pixels of the screen.
struct Shot {
    pixels: Vec<u8>,
    width: usize,
}

impl Shot {
    fn of(screen: &Screen) -> Self {
        Self {
            pixels: screen.pixels(),
            width: screen.width,
        }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// The ground of a window's pictures: what is below it in the middle is the page, as at the window's edge.
    fn stage(&self, window: Area) -> Area {
        self.stage_within(window, MARGIN)
    }

    fn stage_within(&self, window: Area, margin: usize) -> Area {
        let top = window.y + margin;
        let page = self.at(window.x + 3, top);
        let middle = window.x + window.width / 2;
        let rows = (top..window.y + window.height)
            .take_while(|y| self.at(middle, *y) != page)
            .count();
        Area {
            x: window.x + margin,
            y: top,
            width: window.width - 2 * margin,
            height: rows,
        }
    }

    /// The part as a picture.
    fn picture(&self, part: Area, is_mirrored: bool) -> Option<Frame> {
        let size = Size::rounded_down(part.width as u32, part.height as u32).ok()?;
        let mut frame = Frame::black(size, Duration::ZERO);
        let (width, height) = size.of(Plane::Y);
        let color = |x: usize, y: usize| {
            let x = if is_mirrored { width - 1 - x } else { x };
            self.at(part.x + x, part.y + y).map(f64::from)
        };
        let luma = |[r, g, b]: [f64; 3]| 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let [y_plane, u_plane, v_plane] = frame.planes_mut();
        for (at, sample) in y_plane.iter_mut().enumerate() {
            let rgb = color(at % width, at / width);
            *sample = (16.0 + luma(rgb) * 219.0 / 255.0).round() as u8;
        }
        let (columns, rows) = (width / 2, height / 2);
        for at in 0..columns * rows {
            let (x, y) = (at % columns * 2, at / columns * 2);
            let four = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)].map(|(x, y)| color(x, y));
            let mean = [0, 1, 2].map(|c| four.iter().map(|rgb| rgb[c]).sum::<f64>() / 4.0);
            let [r, _, b] = mean;
            let y = luma(mean);
            u_plane[at] = (128.0 + (b - y) / 1.8556 * 224.0 / 255.0).round() as u8;
            v_plane[at] = (128.0 + (r - y) / 1.5748 * 224.0 / 255.0).round() as u8;
        }
        Some(frame)
    }
}

/// Where a picture of this shape stands in a stage.
fn fit(stage: Area, shape: f64) -> Area {
    let (width, height) = (stage.width as f64, stage.height as f64);
    let (wide, high) = if width / height > shape {
        (height * shape, height)
    } else {
        (width, width / shape)
    };
    Area {
        x: stage.x + ((width - wide) / 2.0).round() as usize,
        y: stage.y + ((height - high) / 2.0).round() as usize,
        width: wide.round() as usize,
        height: high.round() as usize,
    }
}

/// Where our own picture of this shape stands.
fn own(stage: Area, shape: f64) -> Area {
    let most = Area {
        width: (stage.width as f32 * OWN_SHARE) as usize,
        height: (stage.height as f32 * 0.4) as usize,
        ..stage
    };
    let size = fit(most, shape);
    let inset = OWN_INSET as usize;
    Area {
        x: stage.x + stage.width - inset - size.width,
        y: stage.y + stage.height - inset - size.height,
        ..size
    }
}

fn scaled(frame: &Frame, size: Size) -> Frame {
    let mut to = Frame::black(size, Duration::ZERO);
    Scaler::default().scale(frame, &mut to);
    to
}

/// What was read of a part of the screen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Of the test picture.
    number: u16,
    /// How like that one red, green and blue are, in decibels.
    psnr: [f64; 3],
    /// By how much they are too bright on the whole.
    bias: [f64; 3],
}

impl Seen {
    fn is_like(&self) -> bool {
        let is_sharp = self.psnr.iter().all(|db| *db > LEAST_PSNR_DB);
        is_sharp && self.bias.iter().all(|bias| bias.abs() < MOST_BIAS)
    }
}

fn read_picture(shot: &Shot, part: Area, sent: Size, is_mirrored: bool) -> Option<Seen> {
    let frame = shot.picture(part, is_mirrored)?;
    let number = read(&scaled(&frame, sent))?;
    let mut pattern = TestPattern::new(sent);
    pattern.set_number(number);
    let expected = scaled(&pattern.next_frame(Duration::ZERO), frame.size());
    let (width, height) = frame.size().of(Plane::Y);
    let compared = width * (height as f64 * COMPARED) as usize;
    let (mut squares, mut sums) = ([0.0; 3], [0.0; 3]);
    let pixels = to_pixels(&expected);
    for (at, bgr) in pixels.chunks_exact(4).enumerate().take(compared) {
        let (x, y) = (at % width, at / width);
        let x = if is_mirrored { width - 1 - x } else { x };
        let seen = shot.at(part.x + x, part.y + y);
        for (c, (square, sum)) in squares.iter_mut().zip(&mut sums).enumerate() {
            let more = f64::from(seen[c]) - f64::from(bgr[2 - c]);
            *square += more.powi(2);
            *sum += more;
        }
    }
    let count = compared as f64;
    let psnr = squares.map(|sum| 10.0 * (255.0 * 255.0 / (sum / count).max(1e-3)).log10());
    let bias = sums.map(|sum| sum / count);
    Some(Seen { number, psnr, bias })
}

/// Waits until a test picture can be read there, and returns its number.
#[track_caller]
fn wait_picture(
    screen: &Screen,
    what: &str,
    part: impl Fn(&Shot) -> Area,
    sent: Size,
    is_mirrored: bool,
) -> u16 {
    let mut last = None;
    for _ in 0..LOOKS {
        let shot = Shot::of(screen);
        last = read_picture(&shot, part(&shot), sent, is_mirrored);
        if let Some(seen) = last.filter(Seen::is_like) {
            let Seen { number, psnr, bias } = seen;
            eprintln!("{what}: picture {number}, colours {psnr:.1?} dB, off by {bias:.1?}");
            return number;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    screen.shoot("failed");
    panic!("{what} is not there: the last look gave {last:?}");
}

impl Person {
    /// What the status says of the call.
    fn told(&self, field: &str) -> String {
        let told = |status: Value| Some(status["call"][field].as_str()?.to_owned());
        self.status().and_then(told).unwrap_or_default()
    }

    #[track_caller]
    fn wait_told(&self, field: &str, value: &str) {
        wait_until(&format!("{field} {value}"), || self.told(field) == value);
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str]) {
        self.run(&[&["ctl"], arguments].concat());
    }
}

/// Two windows side by side whose people talk.
struct Scene<'a> {
    ada: &'a Person,
    grace: &'a Person,
    left: Window<'a>,
    right: Window<'a>,
}

/// The places of the two windows.
fn places() -> [Area; 2] {
    let (width, height) = SIZE;
    [0, width].map(|x| Area {
        x,
        y: 0,
        width,
        height,
    })
}

fn silent(node: &str) -> Command {
    let mut command = ahoy();
    command.args([
        "--via",
        node,
        "--audio-in",
        "silence",
        "--audio-out",
        "null",
    ]);
    command
}

impl<'a> Scene<'a> {
    fn open(screen: &'a Screen, people: [&'a Person; 2], node: &str, theme: &str) -> Self {
        let [ada, grace] = people;
        let window = |person: &Person, left: usize| {
            let mut command = silent(node);
            command.env("AHOY_THEME", theme);
            let window = Window::open(screen, person, left, &mut command);
            person.wait_link();
            window.resize(SIZE.0, SIZE.1);
            window
        };
        let (left, right) = (window(ada, 0), window(grace, SIZE.0));
        ada.ctl(&["call", &grace.wait_link()]);
        grace.wait_state("ringing_here");
        grace.ctl(&["accept"]);
        ada.wait_state("talking");
        grace.wait_state("talking");
        Self {
            ada,
            grace,
            left,
            right,
        }
    }
}

/// The screen, if it made colours of a picture by these weights of red and blue.
fn shown_by(frame: &Frame, [red, blue]: [f64; 2]) -> Shot {
    let (width, _) = frame.size().of(Plane::Y);
    let [y, u, v] = Plane::ALL.map(|plane| frame.plane(plane));
    let mut pixels = Vec::with_capacity(y.len() * 3);
    for (at, luma) in y.iter().enumerate() {
        let colour = at / width / 2 * (width / 2) + at % width / 2;
        let luma = (f64::from(*luma) - 16.0) * 255.0 / 219.0;
        let part = |plane: &[u8]| (f64::from(plane[colour]) - 128.0) * 255.0 / 224.0;
        let r = luma + 2.0 * (1.0 - red) * part(v);
        let b = luma + 2.0 * (1.0 - blue) * part(u);
        let g = (luma - red * r - blue * b) / (1.0 - red - blue);
        pixels.extend([r, g, b].map(|value| value.round().clamp(0.0, 255.0) as u8));
    }
    Shot { pixels, width }
}

#[test]
fn colours_by_the_wrong_standard_would_be_told() {
    let size = Size::new(320, 180).unwrap();
    let frame = TestPattern::new(size).next_frame(Duration::ZERO);
    let all = Area {
        x: 0,
        y: 0,
        width: 320,
        height: 180,
    };
    for (standard, weights, is_right) in [
        ("BT.709", [0.2126, 0.0722], true),
        ("BT.601", [0.299, 0.114], false),
    ] {
        let shot = shown_by(&frame, weights);
        let seen = read_picture(&shot, all, size, false).unwrap();
        eprintln!("{standard}: {seen:.1?}");
        assert_eq!((seen.number, seen.is_like()), (0, is_right), "{standard}");
    }
}

fn write_film(path: &Path, size: Size, pictures: u16) {
    let mut film = Y4mSink::create(path, size, 15).unwrap();
    let mut pattern = TestPattern::new(size);
    for _ in 0..pictures {
        film.write(&pattern.next_frame(Duration::ZERO)).unwrap();
    }
}

/// Somebody without a window who answers and shows the test pattern in this size, and their link.
fn answer_with_pattern(person: &Person, node: &str, size: &str) -> (Running, String) {
    let mut answer = ahoy();
    answer
        .args(["answer", "--auto", "--via", node, "--audio-in", "silence"])
        .args(["--audio-out", "null", "--video-in", "pattern"])
        .args(["--video-size", size, "--video-out", "null", "--home"])
        .arg(&person.home);
    let mut answering = Running::start(answer.stdout(Stdio::piped()).stderr(Stdio::null()));
    let link = first_line(answering.lines());
    (answering, link)
}

#[test]
fn windows_show_what_is_sent_as_it_is_and_our_own_as_in_a_mirror() {
    let name = "windows_show_what_is_sent_as_it_is_and_our_own_as_in_a_mirror";
    let size = (2 * SIZE.0, SIZE.1);
    let Some((_held, dir, screen, node)) = scene(name, &["Xvfb", "xdotool"], size) else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    let ada_link = ada.run(&["id", "show"]);
    grace.run(&["contact", "add", &ada_link, "--name", "Ada"]);
    let mut scene = Scene::open(&screen, [&ada, &grace], &node, "dark");
    let [left, right] = places();
    let (wide, high) = (Size::new(1280, 720).unwrap(), Size::new(360, 640).unwrap());
    let shape = |size: Size| f64::from(size.width()) / f64::from(size.height());

    // One shows something: the other sees it large, and both as they should.
    ada.ctl(&["share", "pattern"]);
    grace.wait_told("seen", "comes");
    let theirs = |shot: &Shot| fit(shot.stage(right), shape(wide));
    let first = wait_picture(&screen, "Ada's picture at Grace's", theirs, wide, false);
    let mirrored = |shot: &Shot| own(shot.stage(left), shape(wide));
    wait_picture(&screen, "Ada's own picture", mirrored, wide, true);
    screen.shoot("20-pictures-one-way-dark");
    let shot = Shot::of(&screen);
    assert!((theirs(&shot).shape() - 16.0 / 9.0).abs() < 0.01);
    assert!(
        read_picture(&shot, mirrored(&shot), wide, false).is_none(),
        "our own picture is not mirrored"
    );
    assert!(read_picture(&shot, theirs(&shot), wide, true).is_none());
    wait_until("another picture", || {
        let shot = Shot::of(&screen);
        read_picture(&shot, theirs(&shot), wide, false).is_some_and(|seen| seen.number != first)
    });

    // Both: a film that is higher than wide, which nobody mirrors.
    let film = dir.path().join("film.y4m");
    write_film(&film, high, 30);
    grace.ctl(&["share", &film.to_string_lossy()]);
    ada.wait_told("seen", "comes");
    let portrait = |shot: &Shot| fit(shot.stage(left), shape(high));
    wait_picture(&screen, "Grace's film at Ada's", portrait, high, false);
    let own_film = |shot: &Shot| own(shot.stage(right), shape(high));
    wait_picture(&screen, "Grace's own film", own_film, high, false);
    screen.shoot("21-pictures-both-ways-dark");

    // What is stopped is gone from both windows, and the call goes on.
    ada.ctl(&["share", "off"]);
    grace.wait_told("seen", "nothing");
    wait_until("Ada's picture to go", || {
        let shot = Shot::of(&screen);
        let ground = shot.at(right.x + right.width / 2, right.y + MARGIN + 3);
        let middle = theirs(&shot);
        // A quarter from above, away from words and Grace's own.
        shot.at(middle.x + 20, middle.y + middle.height / 4) == ground
            && read_picture(&shot, mirrored(&shot), wide, true).is_none()
    });
    screen.shoot("22-pictures-stopped-dark");

    // A camera that is not there has its sentence in the window, and is a picture again once it is another.
    ada.ctl(&["camera", "on", "--id", "nowhere"]);
    wait_until("the sentence", || {
        ada.told("picture_trouble")
            .contains("camera nowhere is not plugged in")
    });
    assert_eq!(ada.call_state(), "talking");
    screen.shoot("23-camera-missing-dark");
    ada.ctl(&["share", "pattern"]);
    wait_picture(&screen, "Ada's picture again", theirs, wide, false);
    assert!(!ada.told("picture_trouble").contains("camera"));
    ada.ctl(&["share", "off"]);

    // By keyboard: the camera on and off, then what Ada's screen shows.
    scene.left.press("c");
    ada.wait_told("shown", "camera");
    scene.left.press("c");
    ada.wait_told("shown", "");
    scene.left.press("s");
    std::thread::sleep(DRAWN);
    screen.shoot("24-share-page-dark");
    scene.left.press("space");
    ada.wait_told("shown", "screen");
    grace.wait_told("seen", "comes");
    screen.shoot("25-screen-shared-dark");

    // A bar above everything says so. It takes the keyboard from nobody, and ends it by a key of its own.
    let bar = || {
        let found = ["search", "--onlyvisible", "--name", "what you show"];
        screen.xdotool(&found).unwrap_or_default()
    };
    wait_until("the bar", || !bar().is_empty());
    assert!(scene.left.has_focus(), "the bar took the keyboard");
    let id = bar().lines().last().unwrap().to_owned();
    screen.xdotool(&["windowfocus", "--sync", &id]);
    screen.xdotool(&["key", "m"]);
    scene.ada.wait_muted(true);
    screen.xdotool(&["key", "s"]);
    ada.wait_told("shown", "");
    wait_until("the bar to go", || bar().is_empty());
    scene.left.press("h");
    scene.grace.wait_told("state", "");
    for window in [&mut scene.left, &mut scene.right] {
        window.press("ctrl+q");
        assert_eq!(window.process.exit_code(), Some(0));
    }
    assert_eq!(scene.ada.call_state(), "");
}

/// A window of one who sees pictures and shows some, in all sizes.
#[test]
fn pictures_find_their_place_in_windows_of_all_sizes_and_themes() {
    let name = "pictures_find_their_place_in_windows_of_all_sizes_and_themes";
    let Some((_held, dir, screen, node)) = scene(name, &["Xvfb", "xdotool"], WIDE) else {
        return;
    };
    let (ada, bob) = (Person::new(&dir, "ada"), Person::new(&dir, "bob"));
    let (_answering, link) = answer_with_pattern(&bob, &node, "640x360");
    let bob_key = bob.run(&["id", "show"]);
    ada.run(&["contact", "add", &bob_key, "--name", "Bob Ferguson"]);
    let sent = Size::new(640, 360).unwrap();
    for (theme, scale) in [("dark", 1), ("light", 1), ("light", 2)] {
        let mut command = silent(&node);
        command
            .env("AHOY_THEME", theme)
            .env("WINIT_X11_SCALE_FACTOR", scale.to_string());
        let mut window = Window::open(&screen, &ada, 0, &mut command);
        ada.wait_link();
        window.resize(SIZE.0, SIZE.1);
        ada.ctl(&["call", &link]);
        ada.wait_state("talking");
        ada.wait_told("seen", "comes");
        ada.ctl(&["share", "pattern"]);
        ada.wait_told("shown", "pattern");
        let sizes: &[(usize, usize)] = match (theme, scale) {
            ("dark", 1) => &[SIZE, WIDE, (380, 420)],
            (_, 1) => &[SIZE],
            _ => &[WIDE],
        };
        for (width, height) in sizes {
            window.resize(*width, *height);
            let margin = MARGIN * scale;
            let theirs = |shot: &Shot| {
                let window = Area {
                    x: 0,
                    y: 0,
                    width: *width,
                    height: *height,
                };
                fit(shot.stage_within(window, margin), 16.0 / 9.0)
            };
            let what = format!("Bob at {width}x{height}, {theme}, {scale}x");
            wait_picture(&screen, &what, theirs, sent, false);
            screen.shoot(&format!("26-{width}x{height}-{theme}-{scale}x"));
            for (key, page) in [("ctrl+comma", "sound"), ("s", "share")] {
                window.press(key);
                ada.let_pass(Duration::from_secs(1));
                screen.shoot(&format!("27-{page}-{width}x{height}-{theme}-{scale}x"));
                window.press("Escape");
                ada.let_pass(DRAWN);
            }
        }
        window.press("h");
        ada.wait_told("state", "");
        window.press("ctrl+q");
        assert_eq!(window.process.exit_code(), Some(0));
    }
}

/// What the thread that draws takes, in a call with 720p both ways in windows of which each shows both. By an optimised
/// program that is named in `AHOY_BIN`, and for people to read: `make bench-window`.
#[test]
#[ignore = "a measurement"]
fn what_drawing_takes() {
    const MEASURED: Duration = Duration::from_secs(20);
    if !has_tools("what_drawing_takes", &["Xvfb", "xdotool"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let screen = Screen::sized(&dir, 2 * SIZE.0, SIZE.1);
    let (_supernode, node) = supernode(&dir.path().join("supernode"));
    let (ada, bob) = (Person::new(&dir, "ada"), Person::new(&dir, "bob"));
    let (_answering, link) = answer_with_pattern(&bob, &node, "1280x720");
    let mut command = silent(&node);
    command.env("RUST_LOG", "warn,ahoy::ui=debug");
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    ada.wait_link();
    window.resize(SIZE.0, SIZE.1);
    ada.ctl(&["call", &link]);
    ada.wait_told("seen", "comes");
    ada.ctl(&["share", "pattern"]);
    ada.let_pass(MEASURED);
    screen.shoot("28-measured");
    window.press("h");
    ada.wait_told("state", "");
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));
}
