//! Y4M files (YUV4MPEG2): what stands in for a camera, and what a call is recorded to for measuring.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter},
    path::{Path, PathBuf},
    time::Duration,
};

use super::frame::{Frame, MAX_PIXELS, Plane, Size, SizeError};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Y4mError {
    /// It cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is something else, or damaged.
    #[error(
        "{path} is not a Y4M file ({reason}); convert it, for example with `ffmpeg -i {path} -pix_fmt yuv420p out.y4m`"
    )]
    NotY4m {
        /// The file.
        path: PathBuf,
        /// What did not fit.
        reason: String,
    },
    /// It holds pictures that are not read.
    #[error(
        "{path} holds {what}; 4:2:0 of 8 bits is read: convert it, for example with `ffmpeg -i {path} -pix_fmt yuv420p \
         out.y4m`"
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: String,
    },
    /// Pictures of this size are not possible.
    #[error("{path}: {source}")]
    Size {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SizeError,
    },
    /// It has a header and no pictures.
    #[error("{path} holds no picture at all; choose another file")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The recording cannot be created or written.
    #[error(
        "cannot write the recording {path}: {source}; choose a folder with room that can be written"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Y4mError {
    fn reading(path: &Path, error: y4m::Error) -> Self {
        let path = path.to_path_buf();
        let reason = match error {
            y4m::Error::IoError(source) => return Self::Read { path, source },
            y4m::Error::EOF => String::from("it ends too early"),
            y4m::Error::BadInput => String::from("it contradicts itself"),
            y4m::Error::UnknownColorspace => {
                return Self::Unsupported {
                    path,
                    what: String::from("colours of an unknown kind"),
                };
            }
            y4m::Error::ParseError(error) => error.to_string(),
            y4m::Error::OutOfMemory => String::from("its pictures are too large"),
        };
        Self::NotY4m { path, reason }
    }
}

/// What happens at the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// No more pictures come.
    Stop,
    /// It starts again from the beginning.
    Loop,
}

/// Plays a file.
pub struct Y4mSource {
    path: PathBuf,
    decoder: y4m::Decoder<BufReader<File>>,
    size: Size,
    interval: Duration,
    at_end: AtEnd,
    /// Pictures since it was opened or began again.
    read: u64,
}

/// Faster is not shown.
const MAX_FPS: f64 = 240.0;

fn open(path: &Path) -> Result<y4m::Decoder<BufReader<File>>, Y4mError> {
    let file = File::open(path).map_err(|source| Y4mError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let limits = y4m::Limits {
        bytes: MAX_PIXELS as usize * 3,
    };
    y4m::Decoder::new_with_limits(BufReader::new(file), limits)
        .map_err(|error| Y4mError::reading(path, error))
}

impl Y4mSource {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`Y4mError`] says what is wrong with it and what to do.
    pub fn open(path: impl Into<PathBuf>, at_end: AtEnd) -> Result<Self, Y4mError> {
        let path = path.into();
        let decoder = open(&path)?;
        let is_420 = matches!(
            decoder.get_colorspace(),
            y4m::Colorspace::C420
                | y4m::Colorspace::C420jpeg
                | y4m::Colorspace::C420paldv
                | y4m::Colorspace::C420mpeg2
        );
        if !is_420 {
            return Err(Y4mError::Unsupported {
                what: format!("pictures of the kind {:?}", decoder.get_colorspace()),
                path,
            });
        }
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let size = Size::new(side(decoder.get_width()), side(decoder.get_height()));
        let size = size.map_err(|source| Y4mError::Size {
            path: path.clone(),
            source,
        })?;
        let rate = decoder.get_framerate();
        let fps = rate.num as f64 / rate.den as f64;
        if !(0.1..=MAX_FPS).contains(&fps) {
            return Err(Y4mError::Unsupported {
                path,
                what: format!("{}:{} pictures per second", rate.num, rate.den),
            });
        }
        Ok(Self {
            path,
            decoder,
            size,
            interval: Duration::from_secs_f64(1.0 / fps),
            at_end,
            read: 0,
        })
    }

    /// Of all its pictures.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Between two of its pictures.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Reads the next picture into `frame`, whose time stays. `false` at the end.
    ///
    /// # Errors
    /// The file cannot be read on, or is damaged here. What was cut off in the middle of a picture just ends.
    pub fn read(&mut self, frame: &mut Frame) -> Result<bool, Y4mError> {
        loop {
            match self.decoder.read_frame() {
                Ok(read) => {
                    frame.resize(self.size);
                    let planes = [read.get_y_plane(), read.get_u_plane(), read.get_v_plane()];
                    for (plane, samples) in Plane::ALL.into_iter().zip(planes) {
                        frame.copy_rows(plane, samples, self.size.of(plane).0);
                    }
                    self.read += 1;
                    return Ok(true);
                }
                Err(y4m::Error::EOF) if self.read == 0 => {
                    return Err(Y4mError::Empty {
                        path: self.path.clone(),
                    });
                }
                Err(y4m::Error::EOF) if self.at_end == AtEnd::Stop => return Ok(false),
                Err(y4m::Error::EOF) => {
                    self.decoder = open(&self.path)?;
                    self.read = 0;
                }
                Err(error) => return Err(Y4mError::reading(&self.path, error)),
            }
        }
    }
}

impl std::fmt::Debug for Y4mSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Y4mSource")
            .field("path", &self.path)
            .field("size", &self.size)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Records to a file. All pictures have the size of the first.
pub struct Y4mSink {
    path: PathBuf,
    encoder: y4m::Encoder<BufWriter<File>>,
    size: Size,
}

impl Y4mSink {
    /// Creates `path`, or empties it, for pictures of this size, of which `fps` are shown per second.
    ///
    /// # Errors
    /// [`Y4mError::Write`]
    pub fn create(path: impl Into<PathBuf>, size: Size, fps: u32) -> Result<Self, Y4mError> {
        let path = path.into();
        let failed = |source| Y4mError::Write {
            path: path.clone(),
            source,
        };
        let file = BufWriter::new(File::create(&path).map_err(failed)?);
        let rate = y4m::Ratio::new(fps as usize, 1);
        let (width, height) = size.of(Plane::Y);
        let encoder = y4m::encode(width, height, rate)
            .with_colorspace(y4m::Colorspace::C420)
            .write_header(file)
            .map_err(|error| failed(into_io(error)))?;
        Ok(Self {
            path,
            encoder,
            size,
        })
    }

    /// Of the pictures that it takes.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Writes a picture. One of another size is none of this file.
    ///
    /// # Errors
    /// [`Y4mError::Write`]
    pub fn write(&mut self, frame: &Frame) -> Result<(), Y4mError> {
        let written = if frame.size() == self.size {
            let planes = Plane::ALL.map(|plane| frame.plane(plane));
            self.encoder
                .write_frame(&y4m::Frame::new(planes, None))
                .map_err(into_io)
        } else {
            Err(io::Error::other(format!(
                "a picture of {} came into a file of {}",
                frame.size(),
                self.size
            )))
        };
        written.map_err(|source| Y4mError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

fn into_io(error: y4m::Error) -> io::Error {
    match error {
        y4m::Error::IoError(error) => error,
        y4m::Error::EOF
        | y4m::Error::BadInput
        | y4m::Error::UnknownColorspace
        | y4m::Error::ParseError(_)
        | y4m::Error::OutOfMemory => io::Error::other(format!("{error:?}")),
    }
}

impl std::fmt::Debug for Y4mSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Y4mSink")
            .field("path", &self.path)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::video::pattern::TestPattern;

    fn size() -> Size {
        Size::new(80, 48).unwrap()
    }

    fn recording(path: &Path, frames: usize) -> Vec<Frame> {
        let mut pattern = TestPattern::new(size());
        let mut sink = Y4mSink::create(path, size(), 25).unwrap();
        (0..frames)
            .map(|_| {
                let frame = pattern.next_frame(Duration::ZERO);
                sink.write(&frame).unwrap();
                frame
            })
            .collect()
    }

    #[test]
    fn what_was_written_is_read_again_once_or_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip.y4m");
        let frames = recording(&path, 3);
        let mut source = Y4mSource::open(&path, AtEnd::Stop).unwrap();
        assert_eq!(
            (source.size(), source.interval()),
            (size(), Duration::from_millis(40))
        );
        let mut frame = Frame::black(Size::new(16, 16).unwrap(), Duration::ZERO);
        for written in &frames {
            assert!(source.read(&mut frame).unwrap());
            assert_eq!(frame, *written);
        }
        assert!(!source.read(&mut frame).unwrap());
        let mut source = Y4mSource::open(&path, AtEnd::Loop).unwrap();
        for written in frames.iter().cycle().take(10) {
            assert!(source.read(&mut frame).unwrap());
            assert_eq!(frame, *written);
        }
    }

    #[test]
    fn every_truncation_plays_to_its_end_or_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip.y4m");
        recording(&path, 2);
        let bytes = fs::read(&path).unwrap();
        let cut = dir.path().join("cut.y4m");
        let mut frame = Frame::black(size(), Duration::ZERO);
        for len in (0..80).chain((80..bytes.len()).step_by(97)) {
            fs::write(&cut, &bytes[..len]).unwrap();
            match Y4mSource::open(&cut, AtEnd::Loop) {
                Ok(mut source) => {
                    for _ in 0..4 {
                        match source.read(&mut frame) {
                            Ok(more) => assert!(more),
                            Err(error) => {
                                assert!(error.to_string().contains("cut.y4m"));
                                break;
                            }
                        }
                    }
                }
                Err(error) => assert!(error.to_string().contains("cut.y4m"), "{error}"),
            }
        }
    }

    #[test]
    fn other_files_are_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        for (bytes, says) in [
            (&b"RIFF nothing of the kind"[..], "ffmpeg"),
            (b"YUV4MPEG2 W640 H360 F25:1 C444\nFRAME\n", "4:2:0"),
            (b"YUV4MPEG2 W641 H360 F25:1 C420\nFRAME\n", "even numbers"),
            (b"YUV4MPEG2 W640 H360 F25:0 C420\nFRAME\n", "per second"),
            (b"YUV4MPEG2 W99999 H99999 F25:1 C420\nFRAME\n", "too large"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = Y4mSource::open(&path, AtEnd::Stop).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let missing = dir.path().join("missing.y4m");
        let error = Y4mSource::open(&missing, AtEnd::Stop)
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot read"), "{error}");
    }
}
