//! WAV files: any common one as a source, 48 kHz 16-bit as a recording, in two channels from the first sound with two on.
//!
//! Both stream: a file of hours costs no more memory than one of seconds.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{
    BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ, SILENCE,
    resample::{Quality, RATES_HZ, ToBlocks},
    sink::{AudioSink, SinkError},
    source::{AudioSource, SourceState},
    wide::WideBlock,
};

/// More channels than this is not sound from a room. They are mixed with equal weights.
const MAX_CHANNELS: u16 = 32;

/// After this many blocks a recording's header is brought up to date: what a kill can cost is one second.
const FLUSH_BLOCKS: u32 = 100;

/// A WAV file's sizes have 32 bits; stop short of them.
const MAX_DATA_BYTES: u32 = u32::MAX - 1024;

/// Why a WAV file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// It cannot be opened or read.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is something else, or damaged.
    #[error(
        "{path} is not a WAV file ({reason}); convert it, for example with `ffmpeg -i {path} out.wav`"
    )]
    NotWav {
        /// The file.
        path: PathBuf,
        /// What did not fit.
        reason: String,
    },
    /// It is a WAV file of a kind that is not read: compressed, 8-bit float or the like.
    #[error(
        "{path} holds {what}; 8, 16, 24 or 32-bit PCM and 32-bit float are read: convert it, for example with \
         `ffmpeg -i {path} -c:a pcm_s16le out.wav`"
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: String,
    },
    /// It has a header and no samples.
    #[error("{path} holds no sound at all; choose another file")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The recording cannot be created.
    #[error(
        "cannot create the recording {path}: {source}; choose a folder that exists and can be written"
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl WavError {
    fn reading(path: &Path, error: hound::Error) -> Self {
        let path = path.to_path_buf();
        match error {
            // A file that ends inside its header is an I/O error without a system code.
            hound::Error::IoError(source) if source.kind() == io::ErrorKind::Other => {
                Self::NotWav {
                    path,
                    reason: "it ends too early".into(),
                }
            }
            hound::Error::IoError(source) => Self::Open { path, source },
            hound::Error::FormatError(reason) => Self::NotWav {
                path,
                reason: reason.into(),
            },
            hound::Error::Unsupported => Self::Unsupported {
                path,
                what: "a compressed or unusual format".into(),
            },
            hound::Error::TooWide
            | hound::Error::UnfinishedSample
            | hound::Error::InvalidSampleFormat => Self::NotWav {
                path,
                reason: error.to_string(),
            },
        }
    }
}

/// What happens at the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// The source ends.
    Stop,
    /// It starts again from the beginning, without a gap.
    Loop,
}

/// The samples of a file, in their order and of all channels.
///
/// A file that is shorter than its header says plays to where it ends: recordings that were cut off look like that.
struct Samples {
    from: From,
    bytes: Vec<u8>,
    read: Vec<f32>,
}

enum From {
    /// 16 bits, which most files have: read in blocks. `hound` asks for them one by one, and that took as long as a
    /// tenth of encoding them.
    Narrow {
        file: BufReader<File>,
        start: u64,
        len: u64,
        left: u64,
    },
    Other(hound::WavReader<BufReader<File>>),
}

impl Samples {
    fn of(reader: hound::WavReader<BufReader<File>>) -> io::Result<Self> {
        let spec = reader.spec();
        let is_narrow =
            spec.sample_format == hound::SampleFormat::Int && spec.bits_per_sample == 16;
        let from = if is_narrow {
            let len = u64::from(reader.len()) * 2;
            let mut file = reader.into_inner();
            From::Narrow {
                start: file.stream_position()?,
                file,
                len,
                left: len,
            }
        } else {
            From::Other(reader)
        };
        Ok(Self {
            from,
            bytes: Vec::new(),
            read: Vec::new(),
        })
    }

    fn rewind(&mut self) -> io::Result<()> {
        match &mut self.from {
            From::Narrow {
                file,
                start,
                len,
                left,
            } => {
                *left = *len;
                file.seek(SeekFrom::Start(*start)).map(drop)
            }
            From::Other(reader) => reader.seek(0),
        }
    }

    /// The next `count` samples as numbers of the file's own scale; fewer only at the end.
    fn read(&mut self, count: usize) -> &[f32] {
        self.read.clear();
        match &mut self.from {
            From::Narrow { file, left, .. } => {
                let wanted = (count as u64 * 2).min(*left);
                self.bytes.clear();
                let wanted = file.take(wanted).read_to_end(&mut self.bytes);
                *left -= self.bytes.len() as u64;
                if let Err(error) = wanted {
                    tracing::warn!(%error, "the file cannot be read to its end");
                    *left = 0;
                }
                let (samples, _half) = self.bytes.as_chunks();
                self.read
                    .extend(samples.iter().map(|le| f32::from(i16::from_le_bytes(*le))));
            }
            From::Other(reader) if reader.spec().sample_format == hound::SampleFormat::Int => {
                let samples = reader.samples::<i32>().take(count).map_while(Result::ok);
                self.read.extend(samples.map(|sample| sample as f32));
            }
            From::Other(reader) => {
                let samples = reader.samples::<f32>().take(count).map_while(Result::ok);
                // Files made by other programs hold NaN and infinities at times; the filter would never forget them.
                self.read
                    .extend(samples.map(|sample| if sample.is_finite() { sample } else { 0.0 }));
            }
        }
        &self.read
    }
}

/// 48 kHz samples of a file, or samples at its own rate: of all channels mixed, and of what two differ by.
#[derive(Default)]
struct Parts {
    mid: Vec<f32>,
    /// Of as many samples, or empty in a file that has not two channels.
    side: Vec<f32>,
}

impl Parts {
    fn clear(&mut self) {
        self.mid.clear();
        self.side.clear();
    }

    fn drain(&mut self, count: usize) {
        self.mid.drain(..count);
        self.side.drain(..count.min(self.side.len()));
    }
}

/// Plays a WAV file: any rate in [`RATES_HZ`], 8 to 32-bit PCM or 32-bit float. Two channels are played as two by
/// [`AudioSource::next_wide`], else all are mixed to one.
pub struct WavSource {
    path: PathBuf,
    spec: hound::WavSpec,
    /// As the header says.
    len_frames: u32,
    samples: Samples,
    at_end: AtEnd,
    /// Absent when the file already has our rate.
    resampler: Option<ToBlocks>,
    /// Samples at the file's rate.
    input: Parts,
    /// Resampled samples at the start that are only the filter's delay.
    skip_samples: usize,
    /// 48 kHz samples that are still to come before the end; `None` while that is not known.
    remaining: Option<u64>,
    /// 48 kHz samples waiting because the filter's delay was cut off a block.
    pending: Parts,
    given_samples: u64,
    read_frames: u64,
}

impl WavSource {
    /// Opens `path` and checks that it can be played.
    ///
    /// # Errors
    /// [`WavError`] says what is wrong with it and what to do.
    pub fn open(path: impl Into<PathBuf>, at_end: AtEnd) -> Result<Self, WavError> {
        let path = path.into();
        let reader =
            hound::WavReader::open(&path).map_err(|error| WavError::reading(&path, error))?;
        let spec = reader.spec();
        let unsupported = |what: String| {
            Err(WavError::Unsupported {
                path: path.clone(),
                what,
            })
        };
        if spec.channels == 0 || spec.channels > MAX_CHANNELS {
            return unsupported(format!("{} channels", spec.channels));
        }
        if !RATES_HZ.contains(&spec.sample_rate) {
            return unsupported(format!("{} samples per second", spec.sample_rate));
        }
        match (spec.sample_format, spec.bits_per_sample) {
            (hound::SampleFormat::Int, 8 | 16 | 24 | 32) | (hound::SampleFormat::Float, 32) => {}
            (format, bits) => return unsupported(format!("{bits}-bit {format:?} samples")),
        }
        if reader.duration() == 0 {
            return Err(WavError::Empty { path });
        }
        let resampler = (spec.sample_rate != SAMPLE_RATE_HZ).then(|| {
            ToBlocks::new(spec.sample_rate, Quality::File).expect("the rate was checked above")
        });
        let len_frames = reader.duration();
        let samples = Samples::of(reader).map_err(|source| WavError::Open {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            spec,
            len_frames,
            samples,
            at_end,
            skip_samples: resampler.as_ref().map_or(0, ToBlocks::delay_samples),
            resampler,
            input: Parts::default(),
            remaining: None,
            pending: Parts::default(),
            given_samples: 0,
            read_frames: 0,
        })
    }

    /// How long the file plays once, in 48 kHz samples.
    #[must_use]
    pub fn len_samples(&self) -> u64 {
        to_48k(u64::from(self.len_frames), self.spec.sample_rate)
    }

    /// Reads up to `count` samples of each channel at the file's rate into `self.input`; fewer only at the end.
    fn read(&mut self, count: usize) {
        self.input.clear();
        let mut rewound = false;
        while self.input.mid.len() < count {
            let before = self.input.mid.len();
            self.read_once(count);
            if self.input.mid.len() > before {
                rewound = false;
            }
            if self.input.mid.len() == count {
                break;
            }
            // The end. A rewind that yields nothing would go round for ever.
            if self.at_end == AtEnd::Stop || rewound {
                break;
            }
            if let Err(error) = self.samples.rewind() {
                tracing::warn!(path = %self.path.display(), %error, "cannot start the file again");
                break;
            }
            rewound = true;
        }
        self.read_frames += self.input.mid.len() as u64;
    }

    fn read_once(&mut self, count: usize) {
        let channels = usize::from(self.spec.channels);
        let wanted = (count - self.input.mid.len()) * channels;
        // An integer of n bits lies in -2^(n-1)..2^(n-1).
        let scale = match self.spec.sample_format {
            hound::SampleFormat::Int => 1.0 / (1u64 << (self.spec.bits_per_sample - 1)) as f32,
            hound::SampleFormat::Float => 1.0,
        };
        let samples = self.samples.read(wanted);
        let scale = scale / channels as f32;
        if channels == 1 {
            self.input
                .mid
                .extend(samples.iter().map(|sample| sample * scale));
        } else {
            let frames = samples.chunks_exact(channels);
            self.input
                .mid
                .extend(frames.map(|frame| frame.iter().sum::<f32>() * scale));
        }
        if channels == 2 {
            let (frames, _odd) = samples.as_chunks();
            self.input
                .side
                .extend(frames.iter().map(|[left, right]| (left - right) * scale));
        }
    }

    /// Appends the next resampled block to `pending`.
    fn resample_block(&mut self) {
        let Some(resampler) = &self.resampler else {
            return;
        };
        let wanted = resampler.input_samples();
        if self.remaining.is_none() {
            self.read(wanted);
            if self.input.mid.len() < wanted {
                let whole = to_48k(self.read_frames, self.spec.sample_rate);
                self.remaining = Some(whole.saturating_sub(self.given_samples));
            }
        } else {
            self.input.clear();
        }
        let skipped = self.skip_samples.min(BLOCK_SAMPLES);
        self.skip_samples -= skipped;
        let Some(resampler) = &mut self.resampler else {
            return;
        };
        let (mut mid, mut side) = (SILENCE, SILENCE);
        let has_side = self.spec.channels == 2;
        let parts = [&self.input.mid[..], &self.input.side[..]];
        resampler.fill_both(parts, &mut mid, has_side.then_some(&mut side));
        self.pending.mid.extend_from_slice(&mid[skipped..]);
        if has_side {
            self.pending.side.extend_from_slice(&side[skipped..]);
        }
    }

    /// The next 10 ms: all channels mixed, and what two differ by for whoever wants to know.
    fn next_parts(&mut self, mid: &mut Block, mut side: Option<&mut Block>) -> SourceState {
        *mid = SILENCE;
        if let Some(side) = &mut side {
            **side = SILENCE;
        }
        let mut give = |parts: &Parts, count: usize| {
            mid[..count].copy_from_slice(&parts.mid[..count]);
            if let (Some(side), Some(samples)) = (&mut side, parts.side.get(..count)) {
                side[..count].copy_from_slice(samples);
            }
        };
        if self.resampler.is_none() {
            self.read(BLOCK_SAMPLES);
            let count = self.input.mid.len();
            give(&self.input, count);
            return if count == 0 {
                SourceState::Ended
            } else {
                SourceState::Playing
            };
        }
        if self.remaining == Some(0) {
            return SourceState::Ended;
        }
        while self.pending.mid.len() < BLOCK_SAMPLES {
            self.resample_block();
        }
        let count = match self.remaining {
            Some(remaining) => BLOCK_SAMPLES.min(usize::try_from(remaining).unwrap_or(usize::MAX)),
            None => BLOCK_SAMPLES,
        };
        give(&self.pending, count);
        self.pending.drain(BLOCK_SAMPLES);
        self.given_samples += count as u64;
        if let Some(remaining) = &mut self.remaining {
            *remaining -= count as u64;
        }
        if count == 0 {
            SourceState::Ended
        } else {
            SourceState::Playing
        }
    }
}

/// `frames` at `rate_hz` in 48 kHz samples, rounded up.
fn to_48k(frames: u64, rate_hz: u32) -> u64 {
    (frames * u64::from(SAMPLE_RATE_HZ)).div_ceil(u64::from(rate_hz))
}

impl AudioSource for WavSource {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        self.next_parts(block, None)
    }

    fn next_wide(&mut self, block: &mut WideBlock) -> SourceState {
        if self.spec.channels != 2 {
            block.set_mono();
            return self.next_parts(&mut block.mid, None);
        }
        let (mid, side) = block.set_stereo();
        let state = self.next_parts(mid, Some(side));
        if state == SourceState::Ended {
            block.set_mono();
        }
        state
    }
}

impl std::fmt::Debug for WavSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WavSource")
            .field("path", &self.path)
            .field("spec", &self.spec)
            .field("at_end", &self.at_end)
            .finish_non_exhaustive()
    }
}

/// Reads a whole file as 48 kHz mono samples. For short files: it all goes to memory.
///
/// # Errors
/// As [`WavSource::open`].
pub fn read_all(path: impl Into<PathBuf>) -> Result<Vec<f32>, WavError> {
    let mut source = WavSource::open(path, AtEnd::Stop)?;
    let len = usize::try_from(source.len_samples()).unwrap_or(usize::MAX);
    let mut samples = super::source::collect(&mut source, usize::MAX);
    samples.truncate(len);
    Ok(samples)
}

/// Records to a WAV file, 48 kHz 16-bit: in one channel until the first sound with two, and then all of it in two.
///
/// The header is brought up to date once a second, after the samples it speaks of: a file whose process was
/// killed can be read up to there. Dropping the sink completes the file; [`AudioSink::finish`] does so too and
/// tells of errors.
pub struct WavSink {
    path: PathBuf,
    /// Absent only when the file could not be opened again in the middle.
    writer: Option<hound::WavWriter<BufWriter<File>>>,
    /// The file cannot have two channels: the mix is recorded.
    stays_mono: bool,
    unflushed_blocks: u32,
}

impl WavSink {
    /// Creates `path`, or empties it.
    ///
    /// # Errors
    /// [`WavError::Create`]
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, WavError> {
        let path = path.into();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut sink = hound::WavWriter::create(&path, spec)
            .map(|writer| Self {
                path: path.clone(),
                writer: Some(writer),
                stays_mono: false,
                unflushed_blocks: 0,
            })
            .map_err(|error| WavError::Create {
                path,
                source: into_io(error),
            })?;
        // From the first moment on it is a WAV file, if an empty one.
        sink.flush().map_err(|source| WavError::Create {
            path: sink.path.clone(),
            source,
        })?;
        Ok(sink)
    }

    /// Where it records to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unflushed_blocks = 0;
        match &mut self.writer {
            Some(writer) => writer.flush().map_err(into_io),
            None => Ok(()),
        }
    }

    fn write_error(&self, source: io::Error) -> SinkError {
        SinkError::Write {
            path: self.path.clone(),
            source,
        }
    }

    /// The channels that the file has.
    fn channels(&self) -> u16 {
        self.writer
            .as_ref()
            .map_or(1, |writer| writer.spec().channels)
    }

    /// From here on the file has two channels, and what is in it already is the same in both.
    fn widen(&mut self) -> Result<(), SinkError> {
        if !std::fs::metadata(&self.path).is_ok_and(|found| found.is_file()) {
            // A pipe or the like, in which nothing can be changed afterwards.
            self.stays_mono = true;
            return Ok(());
        }
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let widened = writer
            .finalize()
            .map_err(into_io)
            .and_then(|()| widen(&self.path));
        if let Err(error) = widened {
            tracing::warn!(path = %self.path.display(), %error, "the mix of both channels is recorded");
            self.stays_mono = true;
        }
        self.unflushed_blocks = 0;
        let again = hound::WavWriter::append(&self.path);
        self.writer = Some(again.map_err(|error| self.write_error(into_io(error)))?);
        Ok(())
    }

    /// Writes the samples of a block, of all channels of the file.
    fn write(&mut self, samples: impl ExactSizeIterator<Item = f32>) -> Result<(), SinkError> {
        let Some(writer) = &mut self.writer else {
            return Err(self.write_error(io::ErrorKind::NotFound.into()));
        };
        if writer.len().saturating_mul(2) >= MAX_DATA_BYTES {
            return Err(SinkError::Full {
                path: self.path.clone(),
            });
        }
        let mut all = writer.get_i16_writer(u32::try_from(samples.len()).unwrap_or(0));
        for sample in samples {
            all.write_sample(to_i16(sample));
        }
        let written = all.flush();
        written.map_err(|error| self.write_error(into_io(error)))?;
        self.unflushed_blocks += 1;
        if self.unflushed_blocks >= FLUSH_BLOCKS {
            self.flush().map_err(|error| self.write_error(error))?;
        }
        Ok(())
    }

    fn write_both(&mut self, block: &WideBlock) -> Result<(), SinkError> {
        let mut samples = [0.0; 2 * BLOCK_SAMPLES];
        let (frames, _none) = samples.as_chunks_mut();
        for (frame, both) in frames.iter_mut().zip(block.frames()) {
            *frame = both;
        }
        self.write(samples.into_iter())
    }
}

/// Bytes before the samples in the files that are recorded, and where in them the numbers are that differ with two
/// channels.
const HEAD_BYTES: u64 = 44;
const RIFF_BYTES_AT: usize = 4;
const CHANNELS_AT: usize = 22;
const BYTES_PER_SECOND_AT: usize = 28;
const FRAME_BYTES_AT: usize = 32;
const DATA_AT: usize = 36;
const DATA_BYTES_AT: usize = 40;

/// Samples that are moved at once.
const MOVED_SAMPLES: u64 = 16_384;

/// Turns a recording of ours from one channel into two, in its place and from its end: a full disk is found out before
/// anything is overwritten.
fn widen(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let odd = || io::Error::other("it is not the recording that it was");
    let len = file.metadata()?.len();
    let samples = len.checked_sub(HEAD_BYTES).ok_or_else(odd)? / 2;
    let mut head = [0; HEAD_BYTES as usize];
    file.read_exact(&mut head)?;
    let is_ours = head[DATA_AT..].starts_with(b"data") && head[CHANNELS_AT..].starts_with(&[1, 0]);
    if !is_ours {
        return Err(odd());
    }
    let data = u32::try_from(samples * 4)
        .ok()
        .filter(|bytes| *bytes < MAX_DATA_BYTES)
        .ok_or_else(odd)?;
    for (at, number) in [
        (RIFF_BYTES_AT, data + HEAD_BYTES as u32 - 8),
        (BYTES_PER_SECOND_AT, SAMPLE_RATE_HZ * 4),
        (DATA_BYTES_AT, data),
    ] {
        head[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    head[CHANNELS_AT..CHANNELS_AT + 2].copy_from_slice(&2u16.to_le_bytes());
    head[FRAME_BYTES_AT..FRAME_BYTES_AT + 2].copy_from_slice(&4u16.to_le_bytes());
    let mut end = samples;
    let mut mono = Vec::new();
    let mut stereo = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(MOVED_SAMPLES);
        mono.resize(usize::try_from((end - begin) * 2).unwrap_or(0), 0);
        file.seek(SeekFrom::Start(HEAD_BYTES + begin * 2))?;
        file.read_exact(&mut mono)?;
        stereo.clear();
        for sample in mono.as_chunks::<2>().0 {
            stereo.extend_from_slice(sample);
            stereo.extend_from_slice(sample);
        }
        file.seek(SeekFrom::Start(HEAD_BYTES + begin * 4))?;
        if let Err(error) = file.write_all(&stereo) {
            // What was written so far lies behind what was there.
            file.set_len(len)?;
            return Err(error);
        }
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head)
}

fn into_io(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        hound::Error::FormatError(_)
        | hound::Error::TooWide
        | hound::Error::UnfinishedSample
        | hound::Error::Unsupported
        | hound::Error::InvalidSampleFormat => io::Error::other(error),
    }
}

/// To the nearest of the 65535 symmetric steps; NaN becomes silence.
fn to_i16(sample: f32) -> i16 {
    (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16
}

impl AudioSink for WavSink {
    fn write_block(&mut self, block: &Block) -> Result<(), SinkError> {
        if self.channels() == 1 {
            self.write(block.iter().copied())
        } else {
            self.write_both(&WideBlock::mono(block))
        }
    }

    fn write_wide(&mut self, block: &WideBlock) -> Result<(), SinkError> {
        if self.channels() == 1 && block.is_stereo() && !self.stays_mono {
            self.widen()?;
        }
        if self.channels() == 1 {
            self.write(block.mid.iter().copied())
        } else {
            self.write_both(block)
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.flush().map_err(|error| self.write_error(error))
    }
}

impl Drop for WavSink {
    fn drop(&mut self) {
        if self.unflushed_blocks > 0
            && let Err(error) = self.flush()
        {
            tracing::warn!(path = %self.path.display(), %error, "the recording is incomplete");
        }
    }
}

impl std::fmt::Debug for WavSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WavSink")
            .field("path", &self.path)
            .field("channels", &self.channels())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
