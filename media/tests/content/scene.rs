//! Pictures for tests: what screens show.

use std::time::Duration;

use ahoy_media::video::frame::{Frame, Plane, Size};

/// A character's cell in pixels, of which the character has the inner part.
const CELL: (usize, usize) = (8, 12);
const INK: (usize, usize) = (6, 9);

fn hash(a: u64, b: u64) -> u64 {
    let mut x = a
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(b.wrapping_mul(0xd1b5_4a32_d192_ed03));
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ x >> 32
}

/// A page of text, scrolled down by so many pixels.
pub(crate) fn page(size: Size, scroll: u64) -> Frame {
    let mut frame = Frame::black(size, Duration::ZERO);
    let width = size.width() as usize;
    let [y, u, v] = frame.planes_mut();
    for (row, line) in y.chunks_exact_mut(width).enumerate() {
        let at = row as u64 + scroll;
        let (text_row, in_cell) = (at / CELL.1 as u64, (at % CELL.1 as u64) as usize);
        for (x, sample) in line.iter_mut().enumerate() {
            let (column, in_column) = ((x / CELL.0) as u64, x % CELL.0);
            let character = hash(text_row, column);
            // Words have gaps, lines have ends.
            let is_there = !character.is_multiple_of(6)
                && column < 20 + hash(text_row, 77) % (width / CELL.0) as u64
                && in_cell < INK.1
                && in_column < INK.0;
            let bit = (in_cell / 2 * 3 + in_column / 2) as u32;
            let is_ink = is_there && character >> (8 + bit) & 1 == 1;
            *sample = if is_ink { 40 } else { 235 };
        }
    }
    u.fill(128);
    v.fill(128);
    frame
}

/// Picture `n` of a film: everything moves, everything has many shades, and a little noise.
pub(crate) fn film(size: Size, n: u64) -> Frame {
    let mut frame = Frame::black(size, Duration::ZERO);
    let (width, _) = size.of(Plane::Y);
    let t = n as f64;
    let [y, u, v] = frame.planes_mut();
    for (row, line) in y.chunks_exact_mut(width).enumerate() {
        for (x, sample) in line.iter_mut().enumerate() {
            let noise = (hash(n, (row * width + x) as u64) % 9) as f64 - 4.0;
            let value = 128.0
                + 50.0 * ((x as f64 + 3.0 * t) / 17.0).sin()
                + 40.0 * ((row as f64 - 2.0 * t) / 7.0).sin()
                + noise;
            *sample = value as u8;
        }
    }
    u.fill(110);
    v.fill(150);
    frame
}
