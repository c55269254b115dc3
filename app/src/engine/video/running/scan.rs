//! QR codes (ISO/IEC 18004) before a camera.

use std::panic::catch_unwind;

use ahoy_media::video::frame::{Frame, Plane};
use rqrr::PreparedImage;

/// Wider pictures are read by part of their points: what is held up to a camera fills much of its picture.
const MOST_WIDTH: usize = 1280;
/// Longer texts are none of ours, in bytes.
const MOST_TEXT: usize = 2048;

/// A point is dark that is darker than those around it by this, of 255, as far as this part of the width to each side.
const DARKER_BY: i64 = 6;
const AROUND: usize = 16;

/// A picture of shades alone, row by row.
struct Shades {
    width: usize,
    height: usize,
    points: Vec<u8>,
}

impl Shades {
    fn of(frame: &Frame) -> Self {
        let (width, height) = frame.size().of(Plane::Y);
        let step = width.div_ceil(MOST_WIDTH).max(1);
        let rows = frame.plane(Plane::Y).chunks_exact(width).step_by(step);
        let points = rows.take(height / step).flat_map(|row| {
            let points = row.iter().step_by(step);
            points.take(width / step).copied()
        });
        Self {
            width: width / step,
            height: height / step,
            points: points.collect(),
        }
    }

    fn at(&self, x: usize, y: usize) -> u8 {
        let point = self.points.get(y * self.width + x);
        point.copied().unwrap_or_default()
    }

    /// Half as wide and high: less noise.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mean = |x: usize, y: usize| {
            let of = |dx, dy| u16::from(self.at(2 * x + dx, 2 * y + dy));
            ((of(0, 0) + of(1, 0) + of(0, 1) + of(1, 1)) / 4).to_le_bytes()[0]
        };
        let points = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            points: points.map(|(x, y)| mean(x, y)).collect(),
        }
    }

    /// Black and white, by what is around each point: light that falls from one side makes no difference.
    fn parted(&self) -> Self {
        let Self { width, height, .. } = *self;
        // Sums of all that is above and to the left.
        let mut sums = vec![0_i64; (width + 1) * (height + 1)];
        for y in 0..height {
            let mut row = 0;
            for x in 0..width {
                row += i64::from(self.at(x, y));
                sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
            }
        }
        let sum = |x: usize, y: usize| sums[y * (width + 1) + x];
        let reach = width / AROUND;
        let part = |(x, y): (usize, usize)| {
            let (left, top) = (x.saturating_sub(reach), y.saturating_sub(reach));
            let (right, under) = ((x + reach + 1).min(width), (y + reach + 1).min(height));
            let all = sum(right, under) + sum(left, top) - sum(right, top) - sum(left, under);
            let count = ((right - left) * (under - top)) as i64;
            let is_dark = (i64::from(self.at(x, y)) + DARKER_BY) * count < all;
            if is_dark { 0 } else { u8::MAX }
        };
        let points = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            points: points.map(part).collect(),
        }
    }

    fn read(&self) -> Option<String> {
        let shade = |x, y| self.at(x, y);
        let mut image = PreparedImage::prepare_from_greyscale(self.width, self.height, shade);
        let mut texts = image.detect_grids().into_iter().filter_map(|grid| {
            let (_meta, text) = grid.decode().ok()?;
            Some(text)
        });
        texts.find(|text| !text.is_empty() && text.len() <= MOST_TEXT)
    }
}

fn look(frame: &Frame) -> Option<String> {
    let shades = Shades::of(frame);
    shades.halved().read().or_else(|| shades.parted().read())
}

/// The text of a code that stands in the picture, if one can be read. What moves a little is read sooner or later: of codes as
/// large as ours a look finds every third, out of focus.
pub(super) fn read_code(frame: &Frame) -> Option<String> {
    // Whoever holds it up has made it: what would break the reader is no code.
    catch_unwind(|| look(frame)).unwrap_or_else(|_broken| {
        tracing::warn!("a picture broke the reader of codes");
        None
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use ahoy_media::video::frame::Size;
    use qrcode::{EcLevel, QrCode};
    use rand_chacha::{
        ChaCha20Rng,
        rand_core::{RngCore as _, SeedableRng as _},
    };

    use super::*;

    /// A link as long as they are with three homes.
    pub(in super::super) fn long_link() -> String {
        format!("ahoy:{}", "ybndrfg8ejkmcpqxot1uwisza345h769".repeat(9))
    }

    /// A picture of somebody who holds a code up: turned by so many degrees, each of its squares so many points wide, out of
    /// focus by half of that and with noise.
    pub(in super::super) fn held_up(size: Size, text: &str, degrees: f32, square: f32) -> Frame {
        let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
        let (side, dark) = (code.width() as f32, code.to_colors());
        let mut frame = Frame::black(size, Duration::ZERO);
        let (width, height) = size.of(Plane::Y);
        let (sin, cos) = degrees.to_radians().sin_cos();
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        // The mean of nine points is a little out of focus.
        let at = |x: f32, y: f32| {
            let (x, y) = (x - width as f32 / 2.0, y - height as f32 / 2.0);
            let u = (x * cos + y * sin) / square + side / 2.0;
            let v = (y * cos - x * sin) / square + side / 2.0;
            // Paper, a hand's width of it, before a room.
            let quiet = -4.0..side + 4.0;
            if !quiet.contains(&u) || !quiet.contains(&v) {
                return 96.0;
            }
            let inside = 0.0..side;
            if !inside.contains(&u) || !inside.contains(&v) {
                return 210.0;
            }
            match dark[v as usize * code.width() + u as usize] {
                qrcode::Color::Dark => 50.0,
                qrcode::Color::Light => 210.0,
            }
        };
        let [luma, ..] = frame.planes_mut();
        for (n, point) in luma.iter_mut().enumerate() {
            let (x, y) = ((n % width) as f32, (n / width) as f32);
            let around = [-square / 4.0, 0.0, square / 4.0];
            let sum: f32 = around
                .iter()
                .flat_map(|dy| around.iter().map(move |dx| (dx, dy)))
                .map(|(dx, dy)| at(x + dx, y + dy))
                .sum();
            let noise = (rng.next_u32() % 17) as f32 - 8.0;
            *point = (sum / 9.0 + noise).clamp(16.0, 235.0) as u8;
        }
        frame
    }

    /// The first picture that is read, of some by a hand that is not quite still; how many came before it.
    pub(in super::super) fn first_read(
        (width, height): (u32, u32),
        text: &str,
        degrees: f32,
        square: f32,
    ) -> Option<(usize, Frame)> {
        let size = Size::new(width, height).unwrap();
        let frames = (0..LOOKS).map(|n| {
            let shake = n as f32;
            let (degrees, square) = (degrees + 0.37 * shake, square * (1.0 + 0.004 * shake));
            held_up(size, text, degrees, square)
        });
        let is_read = |(_n, frame): &(usize, Frame)| read_code(frame).as_deref() == Some(text);
        frames.enumerate().find(is_read)
    }

    /// Two and a half seconds of looks.
    const LOOKS: usize = 12;

    #[test]
    fn a_link_is_read_from_codes_that_are_turned_small_and_noisy() {
        let link = long_link();
        for (size, square) in [((1280, 720), 6.0), ((1920, 1080), 9.0), ((640, 480), 5.0)] {
            for degrees in [0.0, 20.0, 90.0, 183.0] {
                let read = first_read(size, &link, degrees, square);
                let Some((looks, _)) = read else {
                    panic!("nothing is read of {size:?} at {degrees} degrees");
                };
                eprintln!("{size:?} at {degrees} degrees: {looks} looks before");
            }
        }
    }

    #[test]
    fn without_a_code_nothing_is_read_and_nothing_breaks() {
        for seed in 0..40 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let (width, height) = (
                2 + 2 * (rng.next_u32() % 120),
                2 + 2 * (rng.next_u32() % 90),
            );
            let Ok(size) = Size::new(width, height) else {
                continue;
            };
            let mut frame = Frame::black(size, Duration::ZERO);
            assert_eq!(look(&frame), None);
            let [luma, ..] = frame.planes_mut();
            // Coarse noise has corners like a code's.
            let grain = 1 + rng.next_u32() as usize % 6;
            let row = (width as usize).div_ceil(grain);
            let dark: Vec<u8> = (0..=row * height as usize)
                .map(|_| 16 + 219 * (rng.next_u32() & 1) as u8)
                .collect();
            for (n, point) in luma.iter_mut().enumerate() {
                let (x, y) = (n % width as usize / grain, n / width as usize / grain);
                *point = dark[y * row + x];
            }
            assert_eq!(look(&frame), None, "seed {seed}");
        }
    }

    #[test]
    fn a_code_whose_squares_are_altered_breaks_nothing() {
        let link = long_link();
        let (_, whole) = first_read((640, 480), &link, 0.0, 5.0).unwrap();
        let mut read = 0;
        for seed in 0..60 {
            let mut frame = whole.clone();
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let [luma, ..] = frame.planes_mut();
            for _ in 0..1 + seed * 4 {
                let (x, y) = (rng.next_u32() as usize % 632, rng.next_u32() as usize % 472);
                let shade = if rng.next_u32() & 1 == 0 { 30 } else { 220 };
                for row in 0..8 {
                    luma[(y + row) * 640 + x..][..8].fill(shade);
                }
            }
            // A code that can be mended is read as it was.
            if let Some(text) = look(&frame) {
                assert_eq!(text, link, "seed {seed}");
                read += 1;
            }
        }
        assert!((1..60).contains(&read), "{read}");
    }
}
