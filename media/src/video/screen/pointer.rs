//! The pointer, which is not part of what X11 shows and is drawn into it.

use std::ops::Range;

use super::convert::PIXEL_BYTES;

/// A pointer and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pointer {
    /// Of its upper left corner, in pixels of the picture; it may be outside.
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Row by row; alpha, red, green, blue from the highest byte on, the colours multiplied by alpha.
    pub(super) pixels: Vec<u32>,
}

impl Pointer {
    /// The rows of a picture of this height that it is in.
    pub(super) fn rows(&self, height: usize) -> Range<usize> {
        let within = |row: i32| usize::try_from(row).unwrap_or(0).min(height);
        let below = i32::try_from(self.height).unwrap_or(0);
        within(self.y)..within(self.y.saturating_add(below))
    }

    /// Draws it into rows of a picture from `first` on, each `stride` bytes long. Says whether it is in there.
    pub(super) fn draw(&self, first: usize, rows: &mut [u8], stride: usize) -> bool {
        let count = rows.len() / stride.max(1);
        let own = self.rows(first + count);
        let mut drawn = false;
        for row in own.start.max(first)..own.end {
            let Some(line) = rows.get_mut((row - first) * stride..(row - first + 1) * stride)
            else {
                break;
            };
            let own_row = i32::try_from(row).unwrap_or(i32::MAX) - self.y;
            let from = usize::try_from(own_row).unwrap_or(0) * self.width;
            let Some(pointer) = self.pixels.get(from..from + self.width) else {
                break;
            };
            for (x, argb) in (self.x..).zip(pointer) {
                let Ok(x) = usize::try_from(x) else { continue };
                let Some([b, g, r, _]) = line.get_mut(x * PIXEL_BYTES..(x + 1) * PIXEL_BYTES)
                else {
                    break;
                };
                let [blue, green, red, alpha] = argb.to_le_bytes();
                for (under, over) in [(b, blue), (g, green), (r, red)] {
                    let rest = u32::from(*under) * (255 - u32::from(alpha)) / 255;
                    *under = (u32::from(over) + rest).min(255) as u8;
                }
                drawn |= alpha > 0;
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white(x: i32, y: i32) -> Pointer {
        Pointer {
            x,
            y,
            width: 2,
            height: 3,
            pixels: vec![0xffff_ffff; 6],
        }
    }

    /// A picture of 4 by 4, grey; which of its pixels are white afterwards.
    fn drawn(pointer: &Pointer) -> Vec<usize> {
        let stride = 4 * PIXEL_BYTES;
        let mut pixels = vec![100; 4 * stride];
        let (top, bottom) = pixels.split_at_mut(2 * stride);
        let top = pointer.draw(0, top, stride);
        let bottom = pointer.draw(2, bottom, stride);
        let white: Vec<usize> = pixels
            .chunks_exact(PIXEL_BYTES)
            .enumerate()
            .filter(|(_, pixel)| pixel[..3] == [255; 3])
            .map(|(index, _)| index)
            .collect();
        assert_eq!(top, white.iter().any(|index| *index < 8));
        assert_eq!(bottom, white.iter().any(|index| *index >= 8));
        white
    }

    #[test]
    fn it_is_drawn_where_it_is_and_cut_off_at_every_edge() {
        assert_eq!(drawn(&white(1, 1)), [5, 6, 9, 10, 13, 14]);
        assert_eq!(drawn(&white(-1, -2)), [0]);
        assert_eq!(drawn(&white(3, 3)), [15]);
        for outside in [
            white(4, 0),
            white(0, 4),
            white(-2, 0),
            white(0, -3),
            white(i32::MIN, i32::MAX),
        ] {
            assert_eq!(drawn(&outside), [], "{outside:?}");
        }
    }

    #[test]
    fn what_is_half_transparent_is_half_seen() {
        let half = Pointer {
            pixels: vec![0x8080_0000],
            width: 1,
            height: 1,
            ..Pointer::default()
        };
        let mut pixels = [200, 200, 200, 0];
        assert!(half.draw(0, &mut pixels, 4));
        assert_eq!(pixels, [99, 99, 227, 0]);
    }
}
