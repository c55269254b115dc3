//! What X11 has in memory, as I420: BT.709 in the limited range.

use std::ops::Range;

use crate::video::frame::Frame;

/// Bytes of a pixel: blue, green, red, and one that says nothing.
pub(super) const PIXEL_BYTES: usize = 4;

/// Factors are in parts of this.
const SHIFT: u32 = 16;
const HALF: i32 = 1 << (SHIFT - 1);

/// Blue, green and red of brightness: of 219 steps above 16.
const LUMA: [i32; 3] = [4064, 40_255, 11_966];
/// Of blueness and redness: of 112 steps about 128. Each sums to nothing, so that grey has no colour.
const BLUE: [i32; 3] = [28_784, -22_189, -6_595];
const RED: [i32; 3] = [-2_640, -26_144, 28_784];

fn brightness(pixel: [i32; 3]) -> u8 {
    let [b, g, r] = pixel;
    ((LUMA[0] * b + LUMA[1] * g + LUMA[2] * r + HALF + (16 << SHIFT)) >> SHIFT) as u8
}

/// Of the sum of four pixels.
fn colour(factors: [i32; 3], sum: [i32; 3]) -> u8 {
    let [b, g, r] = sum;
    let value = factors[0] * b + factors[1] * g + factors[2] * r;
    ((value + 2 * 2 * HALF + (512 << SHIFT)) >> (SHIFT + 2)) as u8
}

fn pixel(bytes: &[u8]) -> [i32; 3] {
    match bytes {
        [b, g, r, ..] => [i32::from(*b), i32::from(*g), i32::from(*r)],
        _ => [0; 3],
    }
}

/// Two rows of pixels become two of brightness and one of each colour. What does not fit is left out.
fn convert_pair(rows: [&[u8]; 2], y: [&mut [u8]; 2], u: &mut [u8], v: &mut [u8]) {
    for (row, out) in rows.into_iter().zip(y) {
        for (bytes, out) in row.chunks_exact(PIXEL_BYTES).zip(out) {
            *out = brightness(pixel(bytes));
        }
    }
    let [top, bottom] = rows.map(|row| row.chunks_exact(2 * PIXEL_BYTES));
    for (((top, bottom), u), v) in top.zip(bottom).zip(u).zip(v) {
        let (top_left, top_right) = top.split_at(PIXEL_BYTES);
        let (left, right) = bottom.split_at(PIXEL_BYTES);
        let four = [top_left, top_right, left, right].map(pixel);
        let mut sum = [0; 3];
        for one in four {
            for (sum, part) in sum.iter_mut().zip(one) {
                *sum += part;
            }
        }
        *u = colour(BLUE, sum);
        *v = colour(RED, sum);
    }
}

/// Rows of pixels become one of a part of the sides: the mean of each `part` by `part`.
fn shrink(rows: &[u8], stride: usize, part: usize, out: &mut Vec<u8>) {
    for left in (0..(stride / PIXEL_BYTES / part) * part).step_by(part) {
        let mut sum = [0; 3];
        let from = left * PIXEL_BYTES..(left + part) * PIXEL_BYTES;
        for row in rows.chunks_exact(stride).take(part) {
            for bytes in row
                .get(from.clone())
                .unwrap_or_default()
                .chunks_exact(PIXEL_BYTES)
            {
                for (sum, value) in sum.iter_mut().zip(pixel(bytes)) {
                    *sum += value;
                }
            }
        }
        let all = (part * part) as i32;
        out.extend(sum.map(|sum| ((sum + all / 2) / all) as u8));
        out.push(0);
    }
}

/// A picture as the server has it, and how much smaller it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub(super) bytes: &'a [u8],
    /// From one row to the next, in bytes.
    pub(super) stride: usize,
    /// Its sides are divided by this, 1 or more.
    pub(super) part: usize,
}

/// Converts these `rows` of a picture, and what lies beside them where a pair of rows of the frame needs it. `edit` may
/// change the rows before: it is told which is the uppermost one, where they are, and says whether it did.
pub(super) fn convert_rows(
    pixels: Pixels<'_>,
    rows: Range<usize>,
    frame: &mut Frame,
    mut edit: impl FnMut(usize, &mut [u8]) -> bool,
) {
    let Pixels {
        bytes,
        stride,
        part,
    } = pixels;
    let width = frame.size().width() as usize;
    let [y, u, v] = frame.planes_mut();
    let (mut edited, mut small) = (Vec::new(), Vec::new());
    let count = 2 * part;
    let groups = rows.start / count..rows.end.div_ceil(count);
    let planes = y
        .chunks_exact_mut(2 * width)
        .zip(u.chunks_exact_mut(width / 2))
        .zip(v.chunks_exact_mut(width / 2));
    for ((index, group), ((y, u), v)) in bytes
        .chunks_exact(count * stride)
        .enumerate()
        .zip(planes)
        .skip(groups.start)
        .take(groups.len())
    {
        edited.clear();
        edited.extend_from_slice(group);
        let group = if edit(count * index, &mut edited) {
            &edited
        } else {
            group
        };
        let (top, bottom) = if part == 1 {
            group.split_at(stride)
        } else {
            small.clear();
            for rows in group.chunks_exact(part * stride) {
                shrink(rows, stride, part, &mut small);
            }
            small.split_at(small.len() / 2)
        };
        let (y_top, y_bottom) = y.split_at_mut(width);
        convert_pair([top, bottom], [y_top, y_bottom], u, v);
    }
}

/// Nothing to be seen but black.
pub(super) fn is_black(pixels: &[u8]) -> bool {
    pixels
        .chunks_exact(PIXEL_BYTES)
        .all(|pixel| pixel.iter().take(3).all(|value| *value == 0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::video::frame::{Plane, Size};

    /// By the definition, in floating point.
    fn exact(b: f64, g: f64, r: f64) -> [f64; 3] {
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        [
            16.0 + y * 219.0 / 255.0,
            128.0 + (b - y) / 1.8556 * 224.0 / 255.0,
            128.0 + (r - y) / 1.5748 * 224.0 / 255.0,
        ]
    }

    fn of(bytes: &[u8], stride: usize, part: usize) -> Pixels<'_> {
        Pixels {
            bytes,
            stride,
            part,
        }
    }

    fn of_one_colour(b: u8, g: u8, r: u8) -> Frame {
        let mut frame = Frame::black(Size::new(16, 16).unwrap(), Duration::ZERO);
        let pixels = [b, g, r, 0xff].repeat(256);
        convert_rows(of(&pixels, 64, 1), 0..16, &mut frame, |_, _| false);
        frame
    }

    #[test]
    fn each_colour_is_within_one_step_of_the_definition_and_grey_has_none() {
        for b in (0..=255u8).step_by(51) {
            for g in (0..=255u8).step_by(51) {
                for r in (0..=255u8).step_by(51) {
                    let frame = of_one_colour(b, g, r);
                    let wanted = exact(b.into(), g.into(), r.into());
                    for (plane, wanted) in Plane::ALL.into_iter().zip(wanted) {
                        let got = frame.plane(plane);
                        assert!(got.iter().all(|value| *value == got[0]));
                        let off = (f64::from(got[0]) - wanted).abs();
                        assert!(off <= 1.0, "{b} {g} {r} {plane:?}: {} {wanted}", got[0]);
                    }
                }
            }
        }
        for grey in 0..=255 {
            let frame = of_one_colour(grey, grey, grey);
            assert_eq!(
                (frame.plane(Plane::U)[0], frame.plane(Plane::V)[0]),
                (128, 128)
            );
        }
        assert_eq!(of_one_colour(255, 255, 255).plane(Plane::Y)[0], 235);
        assert_eq!(of_one_colour(0, 0, 0).plane(Plane::Y)[0], 16);
    }

    #[test]
    fn only_the_rows_that_are_asked_for_change_and_edits_are_not_kept() {
        let size = Size::new(16, 16).unwrap();
        let mut frame = Frame::black(size, Duration::ZERO);
        // One pixel more each way than the picture has: an odd window.
        let stride = 17 * PIXEL_BYTES;
        let white = vec![0xff; stride * 17];
        convert_rows(of(&white, stride, 1), 5..8, &mut frame, |row, pixels| {
            if row == 6 {
                pixels[..PIXEL_BYTES].fill(0);
            }
            row == 6
        });
        let rows: Vec<u8> = frame
            .plane(Plane::Y)
            .chunks(16)
            .map(|row| row[15])
            .collect();
        let expected: Vec<u8> = (0..16)
            .map(|row| if (4..8).contains(&row) { 235 } else { 16 })
            .collect();
        assert_eq!(rows, expected);
        assert_eq!(frame.plane(Plane::Y)[6 * 16], 16, "the edit is seen");
        assert!(white.iter().all(|byte| *byte == 0xff));
    }

    #[test]
    fn what_is_too_large_becomes_the_mean_of_its_parts() {
        // Squares of 2 by 2, black and white; what is over is left out.
        let (width, height) = (16 * 3 + 2, 16 * 3 + 1);
        let white = |x: usize, y: usize| (x / 2 + y / 2).is_multiple_of(2);
        let pixels: Vec<u8> = (0..width * height)
            .flat_map(|at| {
                [if white(at % width, at / width) {
                    255
                } else {
                    0
                }; 4]
            })
            .collect();
        let mut frame = Frame::black(Size::new(16, 16).unwrap(), Duration::ZERO);
        let pixels = of(&pixels, width * PIXEL_BYTES, 3);
        convert_rows(pixels, 20..21, &mut frame, |_, _| false);
        for (y, row) in frame.plane(Plane::Y).chunks(16).enumerate() {
            for (x, luma) in row.iter().enumerate() {
                let count = (0..9)
                    .filter(|at| white(3 * x + at % 3, 3 * y + at / 3))
                    .count();
                let wanted = 16.0 + 219.0 * count as f64 / 9.0;
                // The rows 18 to 23 are those of the frame's 6 and 7.
                let wanted = if (6..8).contains(&y) { wanted } else { 16.0 };
                assert!(
                    (f64::from(*luma) - wanted).abs() <= 1.0,
                    "{x} {y}: {luma} {wanted}"
                );
            }
        }
    }

    #[test]
    fn black_is_black_whatever_the_fourth_byte_says() {
        let mut pixels = [0, 0, 0, 0xff].repeat(100);
        assert!(is_black(&pixels));
        pixels[398] = 1;
        assert!(!is_black(&pixels));
    }
}
