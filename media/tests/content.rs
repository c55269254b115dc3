//! Text and what moves: which is which, and what comes of taking it for that.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic and speak, and so may its helpers"
)]

#[path = "content/scene.rs"]
mod scene;

use std::time::{Duration, Instant};

use ahoy_media::{
    rate::Bitrate,
    video::{
        codec::{Content, VideoCodec, VideoConfig},
        content::ContentJudge,
        frame::{Frame, Plane, Size},
        frame_buffer::ReceivedFrame,
        packet::timestamp,
        quality::psnr_db,
        recv::DecodableFrame,
        scale::Scaler,
        send::{Plan, VideoSend, VideoSendConfig},
        stage::{DecodeStage, EncodeStage},
    },
};
use scene::{film, page};

const FPS: u64 = 10;

/// What it says after each of so many pictures, of which `make` makes those that are other ones than before.
fn judged(
    judge: &mut ContentJudge,
    from: u64,
    count: u64,
    make: impl Fn(u64) -> Option<Frame>,
) -> Vec<Content> {
    let size = Size::new(320, 192).unwrap();
    let mut frame = Frame::black(size, Duration::ZERO);
    (from..from + count)
        .map(|n| {
            let new = make(n);
            let changed = new.is_some();
            if let Some(new) = new {
                frame = new;
            }
            frame.taken = Duration::from_millis(n * 1000 / FPS);
            judge.look(&frame, changed)
        })
        .collect()
}

fn size() -> Size {
    Size::new(320, 192).unwrap()
}

/// A film of this height at the bottom of a page of text.
fn page_with_film(n: u64, height: usize) -> Frame {
    let (mut page, film) = (page(size(), 0), film(size(), n));
    let from = (192 - height) * 320;
    let [y, _, _] = page.planes_mut();
    y[from..].copy_from_slice(&film.plane(Plane::Y)[from..]);
    page
}

#[test]
fn text_that_stands_scrolls_or_is_typed_is_text() {
    let stands = judged(&mut ContentJudge::default(), 0, 50, |n| {
        (n == 0).then(|| page(size(), 0))
    });
    let scrolls = judged(&mut ContentJudge::default(), 0, 50, |n| {
        Some(page(size(), n * 5))
    });
    let jumps = judged(&mut ContentJudge::default(), 0, 50, |n| {
        (n % 10 == 0).then(|| page(size(), n * 192))
    });
    for all in [stands, scrolls, jumps] {
        assert!(all.iter().all(|content| *content == Content::Text));
    }
}

#[test]
fn a_film_moves_after_a_second_and_text_is_text_again_after_some() {
    let mut judge = ContentJudge::default();
    let moves = judged(&mut judge, 0, 40, |n| Some(film(size(), n)));
    let first = moves
        .iter()
        .position(|content| *content == Content::Motion)
        .unwrap();
    assert!((7..=12).contains(&first), "{first}");
    assert!(moves[first..].iter().all(|it| *it == Content::Motion));
    // A pause of two seconds is part of the film; more is not.
    let pause = judged(&mut judge, 40, 20, |_| None);
    assert!(pause.iter().all(|it| *it == Content::Motion));
    judged(&mut judge, 60, 10, |n| Some(film(size(), n)));
    let text = judged(&mut judge, 70, 80, |n| Some(page(size(), n * 5)));
    let back = text
        .iter()
        .position(|content| *content == Content::Text)
        .unwrap();
    assert!((30..=65).contains(&back), "{back}");
    assert!(text[back..].iter().all(|it| *it == Content::Text));
}

#[test]
fn a_film_in_a_corner_and_one_photograph_after_another_leave_it_text_and_a_larger_film_does_not() {
    let corner = judged(&mut ContentJudge::default(), 0, 60, |n| {
        Some(page_with_film(n, 32))
    });
    let photographs = judged(&mut ContentJudge::default(), 0, 100, |n| {
        (n % 30 == 5).then(|| film(size(), n * 100))
    });
    for all in [corner, photographs] {
        assert!(all.iter().all(|content| *content == Content::Text));
    }
    let half = judged(&mut ContentJudge::default(), 0, 60, |n| {
        Some(page_with_film(n, 96))
    });
    assert_eq!(half.last(), Some(&Content::Motion));
}

#[test]
fn what_lies_between_the_two_does_not_go_to_and_fro() {
    let mut judge = ContentJudge::default();
    judged(&mut judge, 0, 40, |n| Some(film(size(), n)));
    let between = judged(&mut judge, 40, 200, |n| Some(page_with_film(n, 32)));
    let changes = between.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 0);
    let mut judge = ContentJudge::default();
    let text = judged(&mut judge, 0, 200, |n| Some(page_with_film(n, 32)));
    assert!(text.iter().all(|it| *it == Content::Text));
}

// --- what comes of it ----------------------------------------------------------------------------

/// How pictures were shown: each beside the one that should have been.
#[derive(Debug)]
struct Shown {
    psnr: Vec<f64>,
    /// Of the pictures that were encoded, in the order in which they were.
    sizes: Vec<Size>,
    bytes: usize,
}

impl Shown {
    fn mean(&self, from: usize) -> f64 {
        let part = &self.psnr[from..];
        part.iter().sum::<f64>() / part.len() as f64
    }
}

/// Sends so many pictures, ten a second, through the sender, encoder and decoder, as a line of `kbps` allows.
fn shown(
    content: Content,
    size: Size,
    kbps: u32,
    count: u64,
    make: impl Fn(u64) -> Frame,
) -> Shown {
    let video = VideoConfig {
        size,
        fps: FPS as u32,
        bitrate: Bitrate::kbps(kbps),
        content,
        temporal_layers: 3,
        threads: 2,
        effort: 2,
    };
    let codec = VideoCodec::Av1;
    let mut send = VideoSend::new(VideoSendConfig::new(codec, 1, 1), video);
    let (mut encode, mut decode) = (EncodeStage::new(codec), DecodeStage::new(2));
    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    let begin = Instant::now();
    let mut shown = Frame::black(size, Duration::ZERO);
    let mut scaler = Scaler::default();
    let mut result = Shown {
        psnr: Vec::new(),
        sizes: Vec::new(),
        bytes: 0,
    };
    for n in 0..count {
        let taken = Duration::from_millis(n * 1000 / FPS);
        let now = begin + taken;
        let mut picture = make(n);
        picture.taken = taken;
        send.set_rate(now, Bitrate::kbps(kbps), Bitrate::kbps(kbps));
        if let Plan::Encode { config, key } = send.plan(now) {
            let encoded = encode.encode(config, key, &picture).unwrap();
            send.push(now, encoded.as_ref());
            if let Some(encoded) = encoded {
                result.sizes.push(config.size);
                result.bytes += encoded.bytes.len();
                let frame = DecodableFrame {
                    codec,
                    frame: ReceivedFrame {
                        bytes: encoded.bytes,
                        is_key: encoded.is_key,
                        temporal_layer: encoded.temporal_layer,
                        timestamp: timestamp(taken),
                        number: n,
                        first_arrival: now,
                        is_repaired: false,
                        is_still: false,
                    },
                };
                let decoded = decode.decode(&frame, taken).unwrap().unwrap();
                scaler.scale(decoded, &mut shown);
            }
        }
        result.psnr.push(psnr_db(&picture, &shown).unwrap());
    }
    result
}

/// A page that is scrolled by a line at a time for a second, and then read.
fn scrolled(size: Size) -> impl Fn(u64) -> Frame {
    move |n| page(size, n.min(FPS) * 12)
}

#[test]
fn text_taken_for_text_is_far_sharper_than_taken_for_what_moves() {
    let size = Size::new(1280, 720).unwrap();
    let run = |content| shown(content, size, 300, 30, scrolled(size));
    let (text, motion) = (run(Content::Text), run(Content::Motion));
    // While it scrolls, and when it stands.
    for from in [0, 25] {
        let (text, motion) = (text.mean(from), motion.mean(from));
        eprintln!("from {from}: text {text:.1} dB, motion {motion:.1} dB");
        assert!(text > 55.0, "{from}: {text}");
        assert!(text > motion + 15.0, "{from}: {text} {motion}");
    }
    assert!(text.sizes.iter().all(|shown| *shown == size));
    assert!(text.bytes < motion.bytes);
}

#[test]
fn a_page_of_1080p_is_sharp_within_two_seconds_at_a_modest_bitrate() {
    let size = Size::new(1920, 1080).unwrap();
    let text = shown(Content::Text, size, 700, 25, scrolled(size));
    let at_the_end = text.mean(20);
    eprintln!("{at_the_end:.1} dB, {} bytes", text.bytes);
    assert!(at_the_end > 50.0, "{at_the_end}");
    assert!(text.sizes.iter().all(|shown| *shown == size));
}

#[test]
fn on_a_thin_line_text_keeps_its_size_and_a_film_its_pictures() {
    let size = Size::new(1280, 720).unwrap();
    let run = |content, make: &dyn Fn(u64) -> Frame| shown(content, size, 85, 70, make);
    let text = run(Content::Text, &scrolled(size));
    assert!(text.sizes.iter().all(|shown| *shown == size));
    let moves = |n| film(size, n / 4);
    let (smooth, sharp) = (run(Content::Motion, &moves), run(Content::Text, &moves));
    assert!(smooth.sizes.last().unwrap().width() < 1280);
    assert_eq!(sharp.sizes.last(), Some(&size));
}
