//! One picture.

use std::time::Duration;

/// Width and height of pictures, even numbers: the planes of colour are half as large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    width: u32,
    height: u32,
}

/// The smallest picture that codecs take, in pixels each way.
pub const MIN_SIDE: u32 = 16;

/// The largest: 8K, which nobody sends; what a stranger says is bounded by it.
pub const MAX_SIDE: u32 = 8192;

/// The largest picture in pixels: 4K. Three bytes for two pixels.
pub const MAX_PIXELS: u32 = 3840 * 2160;

/// Why a picture cannot have this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a picture of {width}x{height} is not possible: sides are even numbers of {MIN_SIDE} to {MAX_SIDE}, of at most \
     {MAX_PIXELS} pixels in all"
)]
pub struct SizeError {
    width: u32,
    height: u32,
}

const fn fits(side: u32) -> bool {
    side >= MIN_SIDE && side <= MAX_SIDE && side.is_multiple_of(2)
}

impl Size {
    /// # Errors
    /// A side is odd, too short or too long, or there are more than [`MAX_PIXELS`].
    pub const fn new(width: u32, height: u32) -> Result<Self, SizeError> {
        if fits(width) && fits(height) && width * height <= MAX_PIXELS {
            Ok(Self { width, height })
        } else {
            Err(SizeError { width, height })
        }
    }

    /// The largest picture of this shape within `width` by `height` that is possible. The edge that makes a side odd
    /// is lost.
    ///
    /// # Errors
    /// Too small or too large all the same.
    pub const fn rounded_down(width: u32, height: u32) -> Result<Self, SizeError> {
        Self::new(width & !1, height & !1)
    }

    /// In pixels.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// In pixels.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Pixels of the whole picture.
    #[must_use]
    pub const fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Width and height of `plane`, in samples.
    #[must_use]
    pub const fn of(self, plane: Plane) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        match plane {
            Plane::Y => (width, height),
            Plane::U | Plane::V => (width / 2, height / 2),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// The parts of an I420 picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Brightness, a sample for each pixel.
    Y,
    /// Blueness, a sample for each four.
    U,
    /// Redness, a sample for each four.
    V,
}

impl Plane {
    /// All, in the order in which they lie in memory and in files.
    pub const ALL: [Self; 3] = [Self::Y, Self::U, Self::V];
}

/// A picture: I420, 8 bits, BT.709 in the limited range (16..=235), rows without gaps.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    size: Size,
    /// When it was taken, on the clock that sound is timed by.
    pub taken: Duration,
    bytes: Vec<u8>,
}

impl Frame {
    /// A black one.
    #[must_use]
    pub fn black(size: Size, taken: Duration) -> Self {
        let pixels = size.pixels();
        let mut bytes = vec![16; pixels + pixels / 2];
        bytes.split_at_mut(pixels).1.fill(128);
        Self { size, taken, bytes }
    }

    /// Its size.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Becomes a black one of another size if it has not this one.
    pub fn resize(&mut self, size: Size) {
        if self.size != size {
            *self = Self::black(size, self.taken);
        }
    }

    /// Becomes a copy of `from`, in the memory that it has.
    pub fn assign(&mut self, from: &Self) {
        self.size = from.size;
        self.taken = from.taken;
        self.bytes.clone_from(&from.bytes);
    }

    /// The samples of a plane, row by row.
    #[must_use]
    pub fn plane(&self, plane: Plane) -> &[u8] {
        let (y, colour) = self.bytes.split_at(self.size.pixels());
        let (u, v) = colour.split_at(colour.len() / 2);
        match plane {
            Plane::Y => y,
            Plane::U => u,
            Plane::V => v,
        }
    }

    /// The samples of all planes, to write to: Y, U and V.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let (y, colour) = self.bytes.split_at_mut(self.size.pixels());
        let (u, v) = colour.split_at_mut(colour.len() / 2);
        [y, u, v]
    }

    /// Copies a plane from rows that lie `stride` samples apart, as codecs and devices give them. Rows that are not
    /// all there are left as they were.
    pub fn copy_rows(&mut self, plane: Plane, from: &[u8], stride: usize) {
        let (width, height) = self.size.of(plane);
        let [y, u, v] = self.planes_mut();
        let to = match plane {
            Plane::Y => y,
            Plane::U => u,
            Plane::V => v,
        };
        let rows = from.chunks(stride.max(1)).take(height);
        for (to, from) in to.chunks_exact_mut(width).zip(rows) {
            if let Some(from) = from.get(..width) {
                to.copy_from_slice(from);
            }
        }
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("size", &self.size)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused_with_what_is_possible() {
        for (width, height) in [
            (0, 0),
            (17, 32),
            (32, 14),
            (8194, 16),
            (8192, 8192),
            (u32::MAX, 2),
        ] {
            let error = Size::new(width, height).unwrap_err().to_string();
            assert!(error.contains("even numbers of 16 to 8192"), "{error}");
        }
        assert_eq!(Size::new(1280, 720).unwrap().to_string(), "1280x720");
        assert_eq!(Size::rounded_down(641, 361), Size::new(640, 360));
    }

    #[test]
    fn planes_lie_one_after_the_other_and_take_rows_with_gaps() {
        let size = Size::new(16, 18).unwrap();
        let mut frame = Frame::black(size, Duration::ZERO);
        assert_eq!(
            Plane::ALL.map(|plane| frame.plane(plane).len()),
            [288, 72, 72]
        );
        assert!(frame.plane(Plane::Y).iter().all(|y| *y == 16));
        assert!(frame.plane(Plane::V).iter().all(|v| *v == 128));
        let wide: Vec<u8> = (0..9 * 20)
            .map(|n| if n % 20 < 8 { n as u8 } else { 255 })
            .collect();
        frame.copy_rows(Plane::U, &wide, 20);
        let rows: Vec<&[u8]> = frame.plane(Plane::U).chunks(8).collect();
        assert_eq!(rows[1], [20, 21, 22, 23, 24, 25, 26, 27]);
        assert_eq!(rows.len(), 9);
        let before = frame.clone();
        frame.copy_rows(Plane::V, &wide[..4], 20);
        assert_eq!(frame, before, "a row that is not all there is left alone");
    }
}
