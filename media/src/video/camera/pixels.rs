//! What cameras give, as I420 in BT.709 and the limited range.

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use crate::video::frame::{Frame, MAX_SIDE, Plane, Size};

/// What a camera's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PixelFormat {
    /// Brightness of all, then blueness and redness by turns, for each four.
    Nv12,
    /// Three planes.
    I420,
    /// Brightness, blueness, brightness, redness: for each two.
    Yuyv,
    /// A JPEG for each picture.
    Mjpg,
}

impl PixelFormat {
    /// The least work first.
    pub(super) const ALL: [Self; 4] = [Self::Nv12, Self::I420, Self::Yuyv, Self::Mjpg];

    /// Its name for the kernel.
    pub(super) const fn fourcc(self) -> [u8; 4] {
        match self {
            Self::Nv12 => *b"NV12",
            Self::I420 => *b"YU12",
            Self::Yuyv => *b"YUYV",
            Self::Mjpg => *b"MJPG",
        }
    }

    pub(super) fn of(fourcc: [u8; 4]) -> Option<Self> {
        // Some cameras call their JPEGs so.
        if fourcc == *b"JPEG" {
            return Some(Self::Mjpg);
        }
        Self::ALL
            .into_iter()
            .find(|format| format.fourcc() == fourcc)
    }
}

/// How brightness and colour are made of red, green and blue, and in which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colours {
    /// By BT.709; else by BT.601.
    pub(super) is_709: bool,
    /// 0..=255; else 16..=235 and 16..=240.
    pub(super) is_full: bool,
}

impl Colours {
    /// As JFIF has it.
    pub(super) const JPEG: Self = Self {
        is_709: false,
        is_full: true,
    };

    /// As frames have it.
    const OURS: Self = Self {
        is_709: true,
        is_full: false,
    };
}

/// How a camera's pictures lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: PixelFormat,
    /// In pixels; what is odd is cut off.
    pub(super) width: u32,
    pub(super) height: u32,
    /// From one row to the next, in bytes.
    pub(super) stride: usize,
    pub(super) colours: Colours,
}

/// The bytes are no whole picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no whole picture")]
pub(super) struct Malformed;

/// Factors are in parts of this.
const SHIFT: u32 = 14;

/// Makes one kind of colours of another.
#[derive(Debug, Clone, Copy)]
struct Conversion {
    /// What is black.
    black: i32,
    luma: i32,
    /// What blueness and redness add: to brightness, to blueness, to redness.
    blue: [i32; 3],
    red: [i32; 3],
}

impl Conversion {
    fn new(from: Colours) -> Self {
        let (kr, kb) = if from.is_709 {
            (0.2126, 0.0722)
        } else {
            (0.299, 0.114)
        };
        let kg = 1.0 - kr - kb;
        let (luma_steps, colour_steps) = if from.is_full {
            (255.0, 255.0)
        } else {
            (219.0, 224.0)
        };
        // Red, green and blue beyond brightness, for each of redness and blueness.
        let (red, blue) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
        let (green_of_red, green_of_blue) = (-kr * red / kg, -kb * blue / kg);
        let luma_of_blue = 0.7152 * green_of_blue + 0.0722 * blue;
        let luma_of_red = 0.7152 * green_of_red + 0.2126 * red;
        let fixed = |factor: f64| (factor * f64::from(1 << SHIFT)).round() as i32;
        let colour = |factor: f64| fixed(factor * 224.0 / colour_steps);
        Self {
            black: if from.is_full { 0 } else { 16 },
            luma: fixed(219.0 / luma_steps),
            blue: [
                fixed(luma_of_blue * 219.0 / colour_steps),
                colour((blue - luma_of_blue) / 1.8556),
                colour(-luma_of_blue / 1.5748),
            ],
            red: [
                fixed(luma_of_red * 219.0 / colour_steps),
                colour(-luma_of_red / 1.8556),
                colour((red - luma_of_red) / 1.5748),
            ],
        }
    }

    fn apply(&self, frame: &mut Frame) {
        let width = frame.size().width() as usize;
        let [y, u, v] = frame.planes_mut();
        let value = |sum: i32| ((sum + (1 << (SHIFT - 1))) >> SHIFT).clamp(0, 255) as u8;
        let rows = y
            .chunks_exact_mut(2 * width)
            .zip(u.chunks_exact_mut(width / 2))
            .zip(v.chunks_exact_mut(width / 2));
        for ((pair, u), v) in rows {
            let (top, bottom) = pair.split_at_mut(width);
            let twos = top.chunks_exact_mut(2).zip(bottom.chunks_exact_mut(2));
            for (((top, bottom), u), v) in twos.zip(u).zip(v) {
                let (blue, red) = (i32::from(*u) - 128, i32::from(*v) - 128);
                let [luma, new_blue, new_red] =
                    [0, 1, 2].map(|part| self.blue[part] * blue + self.red[part] * red);
                for sample in top.iter_mut().chain(bottom) {
                    let bright = (i32::from(*sample) - self.black) * self.luma;
                    *sample = value(bright + luma + (16 << SHIFT));
                }
                *u = value(new_blue + (128 << SHIFT));
                *v = value(new_red + (128 << SHIFT));
            }
        }
    }
}

/// Reads a camera's pictures.
#[derive(Debug)]
pub(super) struct Reader {
    layout: Layout,
    size: Size,
    conversion: Option<Conversion>,
}

impl Reader {
    /// `None` if pictures of this size are not possible.
    pub(super) fn new(layout: Layout) -> Option<Self> {
        let size = Size::rounded_down(layout.width, layout.height).ok()?;
        let colours = match layout.format {
            PixelFormat::Mjpg => Colours::JPEG,
            PixelFormat::Nv12 | PixelFormat::I420 | PixelFormat::Yuyv => layout.colours,
        };
        let conversion = (colours != Colours::OURS).then(|| Conversion::new(colours));
        Some(Self {
            layout,
            size,
            conversion,
        })
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Writes the picture of these bytes into `frame`, which gets its size.
    pub(super) fn read(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), Malformed> {
        frame.resize(self.size);
        match self.layout.format {
            PixelFormat::Nv12 => self.read_nv12(bytes, frame)?,
            PixelFormat::I420 => self.read_i420(bytes, frame)?,
            PixelFormat::Yuyv => self.read_yuyv(bytes, frame)?,
            PixelFormat::Mjpg => self.read_jpeg(bytes, frame)?,
        }
        if let Some(conversion) = &self.conversion {
            conversion.apply(frame);
        }
        Ok(())
    }

    /// A plane that begins at `from` and has so many rows; and where the next begins.
    fn rows(
        &self,
        bytes: &[u8],
        from: usize,
        rows: usize,
        stride: usize,
        width: usize,
    ) -> Result<(usize, usize), Malformed> {
        let needed = rows.saturating_sub(1) * stride + width;
        let is_there = stride >= width && bytes.len() >= from + needed;
        is_there
            .then_some((from, from + rows * stride))
            .ok_or(Malformed)
    }

    fn read_i420(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), Malformed> {
        let height = self.layout.height as usize;
        let mut from = 0;
        for plane in Plane::ALL {
            let (width, _) = self.size.of(plane);
            let (rows, stride) = match plane {
                Plane::Y => (height, self.layout.stride),
                Plane::U | Plane::V => (height.div_ceil(2), self.layout.stride.div_ceil(2)),
            };
            let (at, next) = self.rows(bytes, from, rows, stride, width)?;
            frame.copy_rows(plane, bytes.get(at..).unwrap_or_default(), stride);
            from = next;
        }
        Ok(())
    }

    fn read_nv12(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), Malformed> {
        let (width, height) = self.size.of(Plane::Y);
        let stride = self.layout.stride;
        let own_height = self.layout.height as usize;
        let (_, colours) = self.rows(bytes, 0, own_height, stride, width)?;
        self.rows(bytes, colours, height / 2, stride, width)?;
        frame.copy_rows(Plane::Y, bytes, stride);
        let pairs = bytes.get(colours..).unwrap_or_default();
        let [_, u, v] = frame.planes_mut();
        let planes = u
            .chunks_exact_mut(width / 2)
            .zip(v.chunks_exact_mut(width / 2));
        for (row, (u, v)) in pairs.chunks(stride).zip(planes) {
            for (pair, (u, v)) in row.chunks_exact(2).zip(u.iter_mut().zip(v)) {
                if let [blue, red] = pair {
                    (*u, *v) = (*blue, *red);
                }
            }
        }
        Ok(())
    }

    fn read_yuyv(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), Malformed> {
        let (width, height) = self.size.of(Plane::Y);
        let stride = self.layout.stride;
        self.rows(bytes, 0, height, stride, width * 2)?;
        let [y, u, v] = frame.planes_mut();
        for (row, y) in bytes.chunks(stride).zip(y.chunks_exact_mut(width)) {
            for (pair, y) in row.chunks_exact(2).zip(y) {
                *y = pair.first().copied().unwrap_or_default();
            }
        }
        let planes = u
            .chunks_exact_mut(width / 2)
            .zip(v.chunks_exact_mut(width / 2));
        for (pair, (u, v)) in bytes.chunks(2 * stride).zip(planes) {
            let (top, bottom) = pair.split_at_checked(stride).unwrap_or((pair, pair));
            let fours = top.chunks_exact(4).zip(bottom.chunks_exact(4));
            for ((top, bottom), (u, v)) in fours.zip(u.iter_mut().zip(v)) {
                if let ([_, u1, _, v1], [_, u2, _, v2]) = (top, bottom) {
                    *u = u1.midpoint(*u2);
                    *v = v1.midpoint(*v2);
                }
            }
        }
        Ok(())
    }

    fn read_jpeg(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), Malformed> {
        let told;
        let bytes = if has_huffman_tables(bytes) {
            bytes
        } else {
            told = without_tables(bytes);
            &told
        };
        let options = DecoderOptions::default()
            .set_max_width(MAX_SIDE as usize)
            .set_max_height(MAX_SIDE as usize)
            .jpeg_set_out_colorspace(ColorSpace::YCbCr);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        let malformed = |error| {
            tracing::debug!(?error, "a camera's JPEG is left out");
            Malformed
        };
        decoder.decode_headers().map_err(malformed)?;
        let info = decoder.info().ok_or(Malformed)?;
        if (u32::from(info.width), u32::from(info.height))
            != (self.layout.width, self.layout.height)
        {
            return Err(Malformed);
        }
        let is_grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
        if is_grey {
            decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
        }
        let pixels = decoder.decode().map_err(malformed)?;
        let per_pixel = if is_grey { 1 } else { 3 };
        let stride = usize::from(info.width) * per_pixel;
        let (width, height) = self.size.of(Plane::Y);
        if pixels.len() < stride * height {
            return Err(Malformed);
        }
        let [y, u, v] = frame.planes_mut();
        for (row, y) in pixels.chunks_exact(stride).zip(y.chunks_exact_mut(width)) {
            for (pixel, y) in row.chunks_exact(per_pixel).zip(y) {
                *y = pixel.first().copied().unwrap_or_default();
            }
        }
        if is_grey {
            u.fill(128);
            v.fill(128);
            return Ok(());
        }
        let planes = u
            .chunks_exact_mut(width / 2)
            .zip(v.chunks_exact_mut(width / 2));
        for (pair, (u, v)) in pixels.chunks_exact(2 * stride).zip(planes) {
            let (top, bottom) = pair.split_at(stride);
            let fours = top
                .chunks_exact(2 * per_pixel)
                .zip(bottom.chunks_exact(2 * per_pixel));
            for ((top, bottom), (u, v)) in fours.zip(u.iter_mut().zip(v)) {
                if let ([_, u1, v1, _, u2, v2], [_, u3, v3, _, u4, v4]) = (top, bottom) {
                    let mean = |four: [u8; 4]| {
                        (four.into_iter().map(u16::from).sum::<u16>().div_ceil(4)) as u8
                    };
                    *u = mean([*u1, *u2, *u3, *u4]);
                    *v = mean([*v1, *v2, *v3, *v4]);
                }
            }
        }
        Ok(())
    }
}

const JPEG_START: [u8; 2] = [0xff, 0xd8];
const HUFFMAN_TABLES: u8 = 0xc4;
const START_OF_SCAN: u8 = 0xda;

/// Whether the tables come before the picture. Most cameras leave them out, since they are always the same.
fn has_huffman_tables(bytes: &[u8]) -> bool {
    let mut rest = bytes.strip_prefix(&JPEG_START).unwrap_or_default();
    loop {
        match rest {
            [0xff, HUFFMAN_TABLES, ..] => return true,
            [0xff, START_OF_SCAN, ..] => return false,
            [0xff, 0xff, ..] => rest = rest.get(1..).unwrap_or_default(),
            [0xff, _marker, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(2 + length..).unwrap_or_default();
            }
            // What is malformed is found out by the decoder.
            _ => return true,
        }
    }
}

/// Says in the JPEG that it has none, as files do.
fn without_tables(bytes: &[u8]) -> Vec<u8> {
    const SAYS_SO: &[u8] = b"\xff\xe0\x00\x07AVI1\0";
    let rest = bytes.strip_prefix(&JPEG_START).unwrap_or_default();
    [&JPEG_START, SAYS_SO, rest].concat()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// 48 by 32, BT.601, 4:2:2: red at the upper left, white below it, blue at the right.
    const CARD: &[u8] = include_bytes!("card.jpg");

    fn layout(format: PixelFormat, width: u32, height: u32, stride: usize) -> Layout {
        Layout {
            format,
            width,
            height,
            stride,
            colours: Colours::OURS,
        }
    }

    fn read(layout: Layout, bytes: &[u8]) -> Result<Frame, Malformed> {
        let mut frame = Frame::black(Size::new(16, 16).unwrap(), Duration::ZERO);
        let reader = Reader::new(layout).unwrap();
        reader.read(bytes, &mut frame)?;
        assert_eq!(frame.size(), reader.size());
        Ok(frame)
    }

    /// The samples at a place: brightness, blueness, redness.
    fn at(frame: &Frame, x: usize, y: usize) -> [u8; 3] {
        Plane::ALL.map(|plane| {
            let (width, _) = frame.size().of(plane);
            match plane {
                Plane::Y => frame.plane(plane)[y * width + x],
                Plane::U | Plane::V => frame.plane(plane)[y / 2 * width + x / 2],
            }
        })
    }

    #[test]
    fn every_kind_of_bytes_gives_the_same_picture() {
        let (width, height) = (18u32, 16u32);
        let luma = |x: u32, y: u32| (20 + 3 * x + 5 * y) as u8;
        // Of pairs of rows, so that all kinds can have it.
        let chroma = |x: u32, y: u32| [(60 + 2 * x + y) as u8, (200 - 3 * x - y) as u8];
        let stride = 40;
        let row = |part: &dyn Fn(usize) -> u8, bytes: usize| -> Vec<u8> {
            (0..bytes)
                .map(|n| if n < bytes { part(n) } else { 0xee })
                .collect()
        };
        let padded = |mut row: Vec<u8>, to: usize| {
            row.resize(to, 0xee);
            row
        };
        let mut yuyv = Vec::new();
        let (mut nv12, mut i420) = (Vec::new(), Vec::new());
        for y in 0..height {
            let line = row(
                &|n| {
                    let x = n as u32 / 2;
                    match n % 4 {
                        0 | 2 => luma(x, y),
                        1 => chroma(x / 2, y / 2)[0],
                        _ => chroma(x / 2, y / 2)[1],
                    }
                },
                2 * width as usize,
            );
            yuyv.extend(padded(line, stride));
            let line = padded(row(&|x| luma(x as u32, y), width as usize), stride);
            nv12.extend_from_slice(&line);
            i420.extend(line);
        }
        for y in 0..height / 2 {
            let line = row(&|n| chroma(n as u32 / 2, y)[n % 2], width as usize);
            nv12.extend(padded(line, stride));
        }
        for part in 0..2 {
            for y in 0..height / 2 {
                let line = row(&|x| chroma(x as u32, y)[part], width as usize / 2);
                i420.extend(padded(line, stride / 2));
            }
        }
        let all = [
            (PixelFormat::Yuyv, yuyv),
            (PixelFormat::Nv12, nv12),
            (PixelFormat::I420, i420),
        ];
        for (format, bytes) in all {
            let layout = layout(format, width, height, stride);
            let frame = read(layout, &bytes).unwrap();
            for (x, y) in [(0, 0), (17, 0), (5, 7), (17, 15)] {
                let [u, v] = chroma(x / 2, y / 2);
                let wanted = [luma(x, y), u, v];
                assert_eq!(at(&frame, x as usize, y as usize), wanted, "{format:?}");
            }
            // The gap after the last row may be missing; nothing else may.
            let least = bytes.len() - if format == PixelFormat::Yuyv { 4 } else { 22 };
            let least = if format == PixelFormat::I420 {
                bytes.len() - 11
            } else {
                least
            };
            assert!(read(layout, &bytes[..least]).is_ok(), "{format:?}");
            assert_eq!(
                read(layout, &bytes[..least - 1]),
                Err(Malformed),
                "{format:?}"
            );
        }
    }

    #[test]
    fn colours_of_another_kind_become_ours() {
        // Red, of 255, by BT.601 in the limited range, and by BT.709.
        let red_601 = [81, 90, 240];
        let red_709: [i16; 3] = [63, 102, 240];
        let mut bytes = Vec::new();
        for _ in 0..16 * 8 {
            bytes.extend([red_601[0], red_601[1], red_601[0], red_601[2]]);
        }
        let mut layout = layout(PixelFormat::Yuyv, 16, 16, 32);
        layout.colours.is_709 = false;
        let got = at(&read(layout, &bytes).unwrap(), 3, 3);
        for (got, wanted) in got.into_iter().zip(red_709) {
            assert!((i16::from(got) - wanted).abs() <= 1, "{got} {wanted}");
        }
        // Of the full range: white and black.
        layout.colours = Colours::JPEG;
        for (full, ours) in [(255, 235), (0, 16)] {
            let bytes = [full, 128].repeat(16 * 16);
            assert_eq!(at(&read(layout, &bytes).unwrap(), 3, 3), [ours, 128, 128]);
        }
    }

    fn card() -> Layout {
        layout(PixelFormat::Mjpg, 48, 32, 0)
    }

    #[test]
    fn jpegs_are_read_with_and_without_their_tables() {
        let mut bare = CARD.to_vec();
        while let Some(from) = bare
            .windows(2)
            .position(|two| two == [0xff, HUFFMAN_TABLES])
        {
            let length = usize::from(u16::from_be_bytes([bare[from + 2], bare[from + 3]]));
            bare.drain(from..from + 2 + length);
        }
        assert!(has_huffman_tables(CARD) && !has_huffman_tables(&bare));
        for bytes in [CARD, &bare] {
            let frame = read(card(), bytes).unwrap();
            // Of (200, 40, 40), white and (40, 60, 200), by BT.709.
            for ((x, y), wanted) in [
                ((8, 8), [80, 112, 198]),
                ((8, 24), [235, 128, 128]),
                ((36, 8), [73, 192, 114]),
            ] {
                let got = at(&frame, x, y);
                for (got, wanted) in got.into_iter().zip(wanted) {
                    assert!(
                        (i16::from(got) - wanted).abs() <= 5,
                        "{x} {y}: {got} {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn jpegs_of_another_size_or_cut_off_are_refused() {
        let other = layout(PixelFormat::Mjpg, 64, 32, 0);
        assert_eq!(read(other, CARD), Err(Malformed));
        assert_eq!(read(card(), &CARD[..100]), Err(Malformed));
        assert_eq!(read(card(), &[]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_a_camera_gives_is_a_picture_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            width in 16u32..40, height in 16u32..40, stride in 0usize..90,
            format in 0usize..4, at in 0usize..1500, value: u8,
        ) {
            let given = layout(PixelFormat::ALL[format], width, height, stride);
            read(given, &bytes).ok();
            let mut damaged = CARD.to_vec();
            let at = at % damaged.len();
            damaged[at] = value;
            read(card(), &damaged).ok();
        }
    }
}
