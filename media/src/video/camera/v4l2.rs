//! The kernel's cameras: Video4Linux 2, by mapped buffers. All unsafe code for cameras is here.
//!
//! There is no crate for this that is kept up and needs no libclang: `v4l` 0.14 and `v4l2r` 0.0.8 make their bindings when
//! they are compiled, and `rscam` and `linux-video` had no release for years. The structures are those of
//! `linux/videodev2.h` on 64-bit systems, whose sizes and numbers a test holds them to.

#![expect(unsafe_code, reason = "the kernel is called")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use memmap2::{MmapOptions, MmapRaw};
use rustix::{
    fs::OFlags,
    ioctl::{Opcode, Setter, Updater, ioctl, opcode},
};

use super::{
    node::{Filled, Identity, Mode, Node, Nodes},
    pixels::{Colours, Layout, PixelFormat},
};

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`, `V4L2_MEMORY_MMAP`, `V4L2_FIELD_NONE`.
const CAPTURE: u32 = 1;
const MMAP: u32 = 1;
const PROGRESSIVE: u32 = 1;

const CAP_VIDEO_CAPTURE: u32 = 0x1;
const CAP_STREAMING: u32 = 0x0400_0000;
const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
const BUF_FLAG_ERROR: u32 = 0x40;

const DISCRETE: u32 = 1;

/// `V4L2_COLORSPACE_REC709`, `_JPEG`, `V4L2_YCBCR_ENC_601`, `_709`, `V4L2_QUANTIZATION_FULL_RANGE`, `_LIM_RANGE`.
const COLORSPACE_REC709: u32 = 3;
const COLORSPACE_JPEG: u32 = 7;
const ENC_601: u32 = 1;
const ENC_709: u32 = 2;
const FULL_RANGE: u32 = 1;
const LIMITED_RANGE: u32 = 2;

/// A driver lists no more of anything.
const MAX_LISTED: u32 = 64;

/// Nodes that are looked at.
const MAX_NODES: usize = 64;

/// A picture takes no more bytes: 4K at four bytes a pixel.
const MAX_BUFFER_BYTES: u32 = 3840 * 2160 * 4;

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus_info: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct FormatDescription {
    index: u32,
    kind: u32,
    flags: u32,
    description: [u8; 32],
    fourcc: [u8; 4],
    reserved: [u32; 4],
}

/// The member for pictures of a union that is aligned as pointers are.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct PictureFormat {
    width: u32,
    height: u32,
    fourcc: [u8; 4],
    field: u32,
    bytes_per_line: u32,
    size_image: u32,
    colorspace: u32,
    private: u32,
    flags: u32,
    encoding: u32,
    quantization: u32,
    transfer: u32,
    rest: [u32; 38],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Format {
    kind: u32,
    picture: PictureFormat,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: [u8; 4],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Buffer {
    index: u32,
    kind: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    timestamp: [i64; 2],
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    /// The lower half of a union that also has a pointer.
    offset: u32,
    rest: u32,
    length: u32,
    reserved: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct StreamParameters {
    kind: u32,
    capability: u32,
    mode: u32,
    numerator: u32,
    denominator: u32,
    rest: [u32; 46],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct FrameSize {
    index: u32,
    fourcc: [u8; 4],
    kind: u32,
    /// Width and height; or least, most and step of each.
    values: [u32; 6],
    reserved: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct FrameInterval {
    index: u32,
    fourcc: [u8; 4],
    width: u32,
    height: u32,
    kind: u32,
    /// A fraction of a second; or the least, the most and the step.
    values: [u32; 6],
    reserved: [u32; 2],
}

const QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
const ENUM_FMT: Opcode = opcode::read_write::<FormatDescription>(b'V', 2);
const S_FMT: Opcode = opcode::read_write::<Format>(b'V', 5);
const REQBUFS: Opcode = opcode::read_write::<RequestBuffers>(b'V', 8);
const QUERYBUF: Opcode = opcode::read_write::<Buffer>(b'V', 9);
const QBUF: Opcode = opcode::read_write::<Buffer>(b'V', 15);
const DQBUF: Opcode = opcode::read_write::<Buffer>(b'V', 17);
const STREAMON: Opcode = opcode::write::<i32>(b'V', 18);
const STREAMOFF: Opcode = opcode::write::<i32>(b'V', 19);
const S_PARM: Opcode = opcode::read_write::<StreamParameters>(b'V', 22);
const ENUM_FRAMESIZES: Opcode = opcode::read_write::<FrameSize>(b'V', 74);
const ENUM_FRAMEINTERVALS: Opcode = opcode::read_write::<FrameInterval>(b'V', 75);

/// The structures that the kernel reads and fills: numbers alone, so that all bits are valid, and their size is in the
/// number of the call, which the kernel checks.
trait Plain: Copy {
    const ZERO: Self;
}

/// All zeros.
macro_rules! plain {
    ($($name:ident),*) => {
        $(impl Plain for $name {
            // SAFETY: it consists of integers and arrays of them.
            const ZERO: Self = unsafe { std::mem::zeroed() };
        })*
    };
}

plain!(
    Capability,
    FormatDescription,
    Format,
    RequestBuffers,
    Buffer,
    StreamParameters,
    FrameSize,
    FrameInterval
);

/// An open node of the kernel.
#[derive(Debug)]
pub(super) struct V4l2Node {
    file: File,
    buffers: Vec<MmapRaw>,
    is_streaming: bool,
}

impl V4l2Node {
    fn call<const OPCODE: Opcode, T: Plain>(&self, value: &mut T) -> io::Result<()> {
        // SAFETY: the number says how large the structure is, and `T` is the one that it was made of at each call below;
        // the kernel fills no more. What it keeps of a pointer ends with the call: none of these has pointers.
        unsafe { ioctl(&self.file, Updater::<OPCODE, T>::new(value))? };
        Ok(())
    }

    fn stream(&self, on: bool) -> io::Result<()> {
        let kind = CAPTURE.cast_signed();
        // SAFETY: both take a pointer to an `int`, which outlives the call.
        unsafe {
            if on {
                ioctl(&self.file, Setter::<STREAMON, i32>::new(kind))?;
            } else {
                ioctl(&self.file, Setter::<STREAMOFF, i32>::new(kind))?;
            }
        }
        Ok(())
    }

    fn queue(&self, index: u32) -> io::Result<()> {
        let mut buffer = Buffer {
            index,
            kind: CAPTURE,
            memory: MMAP,
            ..Buffer::ZERO
        };
        self.call::<QBUF, _>(&mut buffer)
    }

    fn fourccs(&self) -> io::Result<Vec<[u8; 4]>> {
        listed(|index| {
            let mut format = FormatDescription {
                index,
                kind: CAPTURE,
                ..FormatDescription::ZERO
            };
            self.call::<ENUM_FMT, _>(&mut format)?;
            Ok(format.fourcc)
        })
    }

    fn sizes(&self, fourcc: [u8; 4], wanted: (u32, u32)) -> Vec<(u32, u32)> {
        let sizes = listed(|index| {
            let mut size = FrameSize {
                index,
                fourcc,
                ..FrameSize::ZERO
            };
            self.call::<ENUM_FRAMESIZES, _>(&mut size)?;
            let [a, b, c, d, e, f] = size.values;
            Ok(if size.kind == DISCRETE {
                (a, b)
            } else {
                (stepped(wanted.0, a, b, c), stepped(wanted.1, d, e, f))
            })
        });
        // Those that do not list them take what they are asked for, or the nearest to it.
        sizes
            .ok()
            .filter(|sizes| !sizes.is_empty())
            .unwrap_or_else(|| vec![wanted])
    }

    fn fastest(&self, fourcc: [u8; 4], (width, height): (u32, u32)) -> Option<f64> {
        let rates = listed(|index| {
            let mut interval = FrameInterval {
                index,
                fourcc,
                width,
                height,
                ..FrameInterval::ZERO
            };
            self.call::<ENUM_FRAMEINTERVALS, _>(&mut interval)?;
            // The least interval comes first where it is a range.
            let [numerator, denominator, ..] = interval.values;
            Ok(f64::from(denominator) / f64::from(numerator.max(1)))
        });
        rates.ok()?.into_iter().reduce(f64::max)
    }
}

/// What comes of asking for one after the other until there is none.
fn listed<T>(mut ask: impl FnMut(u32) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    for index in 0..MAX_LISTED {
        match ask(index) {
            Ok(one) => all.push(one),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) if all.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(all)
}

/// The nearest to what is wanted of a range.
fn stepped(wanted: u32, least: u32, most: u32, step: u32) -> u32 {
    let clamped = wanted.clamp(least, most.max(least));
    least + (clamped - least) / step.max(1) * step.max(1)
}

/// A text that ends with the first zero.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn colours(picture: &PictureFormat) -> Colours {
    Colours {
        is_709: match picture.encoding {
            ENC_709 => true,
            ENC_601 => false,
            _ => picture.colorspace == COLORSPACE_REC709,
        },
        is_full: match picture.quantization {
            FULL_RANGE => true,
            LIMITED_RANGE => false,
            _ => picture.colorspace == COLORSPACE_JPEG,
        },
    }
}

impl Node for V4l2Node {
    fn identity(&mut self) -> io::Result<Identity> {
        let mut capability = Capability::ZERO;
        self.call::<QUERYCAP, _>(&mut capability)?;
        let can = if capability.capabilities & CAP_DEVICE_CAPS == 0 {
            capability.capabilities
        } else {
            capability.device_caps
        };
        let wanted = CAP_VIDEO_CAPTURE | CAP_STREAMING;
        Ok(Identity {
            card: text(&capability.card),
            bus: text(&capability.bus_info),
            is_camera: can & wanted == wanted,
        })
    }

    fn modes(&mut self, wanted: (u32, u32)) -> io::Result<Vec<Mode>> {
        let mut modes = Vec::new();
        for fourcc in self.fourccs()? {
            for (width, height) in self.sizes(fourcc, wanted) {
                modes.push(Mode {
                    fourcc,
                    width,
                    height,
                    fps: self.fastest(fourcc, (width, height)),
                });
            }
        }
        Ok(modes)
    }

    fn set_mode(&mut self, mode: Mode) -> io::Result<Layout> {
        let mut format = Format {
            kind: CAPTURE,
            picture: PictureFormat {
                width: mode.width,
                height: mode.height,
                fourcc: mode.fourcc,
                field: PROGRESSIVE,
                ..Format::ZERO.picture
            },
        };
        self.call::<S_FMT, _>(&mut format)?;
        let picture = format.picture;
        let unknown = || {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it gives {} only", text(&picture.fourcc)),
            )
        };
        let pixels = PixelFormat::of(picture.fourcc).ok_or_else(unknown)?;
        Ok(Layout {
            format: pixels,
            width: picture.width,
            height: picture.height,
            stride: picture.bytes_per_line as usize,
            colours: colours(&picture),
        })
    }

    fn set_rate(&mut self, fps: u32) -> io::Result<()> {
        let mut parameters = StreamParameters {
            kind: CAPTURE,
            numerator: 1,
            denominator: fps,
            ..StreamParameters::ZERO
        };
        self.call::<S_PARM, _>(&mut parameters)
    }

    fn start(&mut self, buffers: u32) -> io::Result<()> {
        let mut request = RequestBuffers {
            count: buffers,
            kind: CAPTURE,
            memory: MMAP,
            ..RequestBuffers::ZERO
        };
        self.call::<REQBUFS, _>(&mut request)?;
        for index in 0..request.count.min(MAX_LISTED) {
            let mut buffer = Buffer {
                index,
                kind: CAPTURE,
                memory: MMAP,
                ..Buffer::ZERO
            };
            self.call::<QUERYBUF, _>(&mut buffer)?;
            let mapped = MmapOptions::new()
                .offset(buffer.offset.into())
                .len(buffer.length.min(MAX_BUFFER_BYTES) as usize)
                .map_raw(&self.file)?;
            self.buffers.push(mapped);
            self.queue(index)?;
        }
        if self.buffers.is_empty() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.stream(true)?;
        self.is_streaming = true;
        Ok(())
    }

    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<Filled> {
        let mut buffer = Buffer {
            kind: CAPTURE,
            memory: MMAP,
            ..Buffer::ZERO
        };
        match self.call::<DQBUF, _>(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Filled::Nothing),
            result => result?,
        }
        into.clear();
        let is_damaged = buffer.flags & BUF_FLAG_ERROR != 0;
        if let Some(mapped) = self.buffers.get(buffer.index as usize)
            && !is_damaged
        {
            let bytes = (buffer.bytes_used as usize).min(mapped.len());
            // SAFETY: the mapping is alive and at least so long. The kernel fills a buffer only while it is queued, and
            // this one is not until below.
            into.extend_from_slice(unsafe { std::slice::from_raw_parts(mapped.as_ptr(), bytes) });
        }
        self.queue(buffer.index)?;
        Ok(if is_damaged {
            Filled::Damaged
        } else {
            Filled::Whole
        })
    }
}

impl Drop for V4l2Node {
    fn drop(&mut self) {
        if self.is_streaming
            && let Err(error) = self.stream(false)
        {
            // It may have been pulled out.
            tracing::debug!(%error, "a camera could not be stopped");
        }
    }
}

/// The nodes in `/dev`.
#[derive(Debug, Clone, Copy)]
pub(super) struct V4l2;

impl Nodes for V4l2 {
    fn list(&self) -> Vec<PathBuf> {
        let Ok(folder) = std::fs::read_dir("/dev") else {
            return Vec::new();
        };
        let number = |path: &PathBuf| -> Option<u32> {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("video")?.parse().ok()
        };
        let mut nodes: Vec<PathBuf> = folder
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| number(path).is_some())
            .take(MAX_NODES)
            .collect();
        nodes.sort_by_key(number);
        nodes
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Node>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed())
            .open(path)?;
        Ok(Box::new(V4l2Node {
            file,
            buffers: Vec::new(),
            is_streaming: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn numbers_and_sizes_are_those_of_the_kernels_header() {
        let numbers = [
            (QUERYCAP, 0x8068_5600),
            (ENUM_FMT, 0xc040_5602),
            (S_FMT, 0xc0d0_5605),
            (REQBUFS, 0xc014_5608),
            (QUERYBUF, 0xc058_5609),
            (QBUF, 0xc058_560f),
            (DQBUF, 0xc058_5611),
            (STREAMON, 0x4004_5612),
            (STREAMOFF, 0x4004_5613),
            (S_PARM, 0xc0cc_5616),
            (ENUM_FRAMESIZES, 0xc02c_564a),
            (ENUM_FRAMEINTERVALS, 0xc034_564b),
        ];
        for (ours, header) in numbers {
            assert_eq!(ours as u64, header);
        }
        assert_eq!(std::mem::offset_of!(Format, picture), 8);
        assert_eq!(std::mem::offset_of!(Buffer, timestamp), 24);
        assert_eq!(std::mem::offset_of!(Buffer, offset), 64);
        assert_eq!(std::mem::offset_of!(Buffer, length), 72);
    }

    #[test]
    fn a_file_that_is_no_camera_says_so() {
        // Every system has this one, and it knows none of these calls.
        let mut node = V4l2.open(Path::new("/dev/null")).unwrap();
        let error = node.identity().unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::NOTTY.raw_os_error())
        );
        assert!(node.modes((640, 480)).is_err());
        assert!(node.start(4).is_err());
        assert!(node.take(&mut Vec::new()).is_err());
    }

    #[test]
    fn ranges_of_sizes_give_the_nearest() {
        assert_eq!(stepped(1280, 16, 4096, 16), 1280);
        assert_eq!(stepped(1281, 16, 4096, 16), 1280);
        assert_eq!(stepped(10, 16, 4096, 16), 16);
        assert_eq!(stepped(9999, 16, 1000, 0), 1000);
        assert_eq!(stepped(5, 9, 3, 1), 9, "a range that is none");
    }
}
