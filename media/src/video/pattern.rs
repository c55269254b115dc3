//! A test picture that moves, with a number in it that can be read again after the codec.
//!
//! The number stands in black and white squares, 24 of them in two rows at the upper left, each a fortieth of the width: 16
//! bits of the number and a checksum of 8. A codec that keeps anything of a picture keeps these.

use std::time::Duration;

use super::frame::{Frame, Plane, Size};

const BITS: usize = 24;
const COLUMNS: usize = 12;
/// Squares per width, the grey border of one included.
const SQUARES_PER_WIDTH: usize = 40;

const BLACK: u8 = 20;
const WHITE: u8 = 230;
const SHADE: u8 = 40;
const GREY: u8 = 126;

/// The side of a square in pixels.
fn side(size: Size) -> usize {
    (size.width() as usize / SQUARES_PER_WIDTH).max(2)
}

/// CRC-8 of the two bytes, so that a picture that is none of ours is not taken for one.
fn checksum(number: u16) -> u8 {
    number.to_be_bytes().iter().fold(0xff, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _bit| {
            (crc << 1) ^ if crc & 0x80 == 0 { 0 } else { 0x07 }
        })
    })
}

/// The squares of `number`, the first one first.
fn squares(number: u16) -> impl Iterator<Item = bool> {
    let word = u32::from(number) << 8 | u32::from(checksum(number));
    (0..BITS).map(move |bit| word >> (BITS - 1 - bit) & 1 == 1)
}

/// Where square `index` begins, in pixels from the left and from above.
fn corner(index: usize, side: usize) -> (usize, usize) {
    ((1 + index % COLUMNS) * side, (1 + index / COLUMNS) * side)
}

/// Writes `number` into the upper left of a picture.
pub fn stamp(frame: &mut Frame, number: u16) {
    let size = frame.size();
    let width = size.width() as usize;
    let side = side(size);
    let [y, u, v] = frame.planes_mut();
    let mut fill = |(left, top): (usize, usize), (columns, rows): (usize, usize), value: u8| {
        let rows = y.chunks_exact_mut(width).skip(top).take(rows);
        for row in rows {
            if let Some(part) = row.get_mut(left..(left + columns).min(width)) {
                part.fill(value);
            }
        }
    };
    fill((0, 0), ((COLUMNS + 2) * side, 4 * side), GREY);
    for (index, is_white) in squares(number).enumerate() {
        // Each shaded, the two kinds against each other: between two that are flat libaom finds nothing but one number to
        // change, and at its fastest lets that be (cpu-used 10 and above), so that the picture shows the one before.
        let (left, top) = corner(index, side);
        for row in 0..side {
            let shade = (row * usize::from(SHADE) / side) as u8;
            let value = if is_white {
                WHITE - shade
            } else {
                BLACK + shade
            };
            fill((left, top + row), (side, 1), value);
        }
    }
    for plane in [u, v] {
        let rows = plane.chunks_exact_mut(width / 2).take(2 * side);
        for row in rows {
            if let Some(part) = row.get_mut(..((COLUMNS + 2) * side / 2).min(width / 2)) {
                part.fill(128);
            }
        }
    }
}

/// The number that [`stamp`] wrote into this picture, or into one of which this is a copy of any size. `None` if it
/// cannot be read.
#[must_use]
pub fn read(frame: &Frame) -> Option<u16> {
    let size = frame.size();
    let width = size.width() as usize;
    let side = side(size);
    let y = frame.plane(Plane::Y);
    let mut word = 0u32;
    for index in 0..BITS {
        let (left, top) = corner(index, side);
        // The middle of the square: codecs smear edges.
        let inset = side / 4;
        let (mut sum, mut count) = (0u32, 0u32);
        for row in y
            .chunks_exact(width)
            .skip(top + inset)
            .take(side - 2 * inset)
        {
            for sample in row.get(left + inset..left + side - inset)? {
                sum += u32::from(*sample);
                count += 1;
            }
        }
        let mean = sum.checked_div(count)?;
        word = word << 1 | u32::from(mean > u32::from(GREY));
    }
    let number = u16::try_from(word >> 8).ok()?;
    (checksum(number) == (word & 0xff) as u8).then_some(number)
}

/// Makes the pictures.
#[derive(Debug, Clone)]
pub struct TestPattern {
    size: Size,
    number: u16,
}

impl TestPattern {
    /// Pictures of this size; the first has number 0.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self { size, number: 0 }
    }

    /// The next picture is the one of this number.
    pub fn set_number(&mut self, number: u16) {
        self.number = number;
    }

    /// The next picture, taken at `taken`: a gradient that drifts, a disc that goes round, and the number.
    pub fn next_frame(&mut self, taken: Duration) -> Frame {
        let mut frame = Frame::black(self.size, taken);
        let number = self.number;
        self.number = number.wrapping_add(1);
        let (width, height) = self.size.of(Plane::Y);
        let shift = usize::from(number);
        // One turn in four seconds of 30 pictures each.
        let angle = f64::from(number) * std::f64::consts::TAU / 120.0;
        let radius = height as f64 / 8.0;
        let centre = (
            width as f64 / 2.0 + angle.cos() * width as f64 / 5.0,
            height as f64 / 2.0 + angle.sin() * height as f64 / 5.0,
        );
        let is_in_disc =
            |x: usize, y: usize| (x as f64 - centre.0).hypot(y as f64 - centre.1) < radius;
        let [y_plane, u_plane, v_plane] = frame.planes_mut();
        for (y, row) in y_plane.chunks_exact_mut(width).enumerate() {
            for (x, sample) in row.iter_mut().enumerate() {
                let slope = 40 + (x * 120 / width + y * 40 / height + shift) % 160;
                *sample = if is_in_disc(x, y) { 200 } else { slope as u8 };
            }
        }
        for (y, (u_row, v_row)) in u_plane
            .chunks_exact_mut(width / 2)
            .zip(v_plane.chunks_exact_mut(width / 2))
            .enumerate()
        {
            for (x, (u, v)) in u_row.iter_mut().zip(v_row).enumerate() {
                let is_disc = is_in_disc(2 * x, 2 * y);
                *u = if is_disc {
                    90
                } else {
                    (96 + x * 128 / width) as u8
                };
                *v = if is_disc {
                    190
                } else {
                    (96 + y * 128 / height) as u8
                };
            }
        }
        stamp(&mut frame, number);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_tells_its_number_in_every_size() {
        for (width, height) in [(80, 48), (320, 180), (640, 360), (1280, 720), (360, 640)] {
            let size = Size::new(width, height).unwrap();
            let mut pattern = TestPattern::new(size);
            for number in 0..5 {
                assert_eq!(
                    read(&pattern.next_frame(Duration::ZERO)),
                    Some(number),
                    "{size}"
                );
            }
            for number in [255, 256, 0x8001, u16::MAX] {
                let mut frame = Frame::black(size, Duration::ZERO);
                stamp(&mut frame, number);
                assert_eq!(read(&frame), Some(number), "{size}");
            }
        }
    }

    #[test]
    fn a_picture_without_a_number_has_none() {
        let size = Size::new(640, 360).unwrap();
        assert_eq!(read(&Frame::black(size, Duration::ZERO)), None);
        let mut frame = TestPattern::new(size).next_frame(Duration::ZERO);
        frame.planes_mut()[0].fill(235);
        assert_eq!(read(&frame), None);
    }
}
