//! A call in a file: both voices in one track, the pictures of both sides beside it, as they travelled.
//!
//! Pictures are not encoded again: the file gets what the decoder took of the other side, and what our encoder sent. The
//! sound is mixed (`mix`) and encoded once more, in Opus. The file is Matroska (`matroska`), which holds all of it,
//! and can be played up to its end at every moment.
//!
//! [`Recording`] is the work, without thread or clock. A [`Recorder`] does it on a thread of its own; [`RecordTap`]s hand
//! over, from wherever sound and pictures pass by, and never wait: what the disk is too slow for is left out and counted.

mod codec;
mod ebml;
mod matroska;
mod mix;
mod recorder;
mod shelf;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use matroska::Store;
pub use mix::{FAR_GAIN, NEAR_GAIN};
pub use recorder::{RecordStatus, RecordTap, Recorder};
pub use shelf::{FileShelf, Shelf};

use self::{
    matroska::{Kind, MatroskaFile, Track},
    mix::{Mixer, Pushed},
};
use crate::{
    audio::{
        opus::{
            Content, EncoderConfig, FrameDuration, MAX_ENCODED_BYTES, OpusEncoder, OpusError,
            RateControl,
        },
        wide::WideBlock,
    },
    rate::Bitrate,
    time::{SAMPLES_PER_MILLI, duration_of},
    video::{codec::VideoCodec, frame::Size},
};

/// Two voices at full width: no difference to the original is heard. 43 MB per hour.
const SOUND_BITRATE: Bitrate = Bitrate(96_000);

/// Number of the track of sound.
const SOUND_TRACK: u64 = 1;

/// Pictures that wait for the sound of their time. Those of a second and more; more than that is written before it.
const MAX_WAITING: usize = 128;

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What we say and show.
    Ours,
    /// What we hear and see.
    Theirs,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Theirs];

    const fn index(self) -> usize {
        match self {
            Self::Ours => 0,
            Self::Theirs => 1,
        }
    }
}

/// How to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordConfig {
    /// What the other side's pictures are called.
    pub name: String,
    /// Time of the day at the beginning, in milliseconds since 1970.
    pub unix_millis: u64,
    /// Follow the clocks of both sides' devices. Off only in tests.
    pub follow_clocks: bool,
}

/// A picture as it travelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedPicture {
    /// When it was taken, or shown.
    pub at: Instant,
    /// In what.
    pub codec: VideoCodec,
    /// As its codec gives it: see [`EncodedFrame`](crate::video::codec::EncodedFrame).
    pub bytes: Vec<u8>,
    /// It can be decoded without any other.
    pub is_key: bool,
    /// Its size.
    pub size: Size,
}

/// What is in the files so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordStats {
    /// Recorded, in all files.
    pub duration: Duration,
    /// Written, in all files.
    pub bytes: u64,
    /// Files.
    pub files: u32,
    /// Our pictures in them.
    pub pictures_ours: u64,
    /// Theirs.
    pub pictures_theirs: u64,
    /// Pictures that are not in them, of both sides: the disk was too slow, or they could not be read. None before a side's
    /// first key frame counts.
    pub pictures_dropped: u64,
    /// Blocks of 10 ms of sound that are not in them, of both sides: the disk was too slow, or there were too many.
    pub sound_dropped: u64,
}

/// Why a recording stops. The text is for a person.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is something of this name.
    #[error("there is a file {path} already, and nothing is recorded over it: choose another name")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be created.
    #[error(
        "cannot create the recording {path}: {source}; choose a folder that exists and can be written"
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written any more.
    #[error(
        "the recording {path} has stopped: {source}. What was recorded until then is kept; make room, or choose another place"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The codec refused.
    #[error("the recording has stopped: {0}")]
    Opus(#[from] OpusError),
    /// The system has no thread left.
    #[error("cannot record: {0}")]
    Thread(io::Error),
}

#[derive(Debug, Clone, Copy)]
struct PictureTrack {
    number: u64,
    /// The last picture's time in milliseconds: none has the same.
    last: i64,
}

struct Waiting {
    side: Side,
    millis: i64,
    picture: RecordedPicture,
}

/// A recording, done where it is called.
pub struct Recording {
    config: RecordConfig,
    shelf: Box<dyn Shelf>,
    path: PathBuf,
    file: MatroskaFile,
    origin: Instant,
    mixer: Mixer,
    opus: OpusEncoder,
    frames: Vec<f32>,
    /// In what pictures come, since the first that was taken.
    begun: [Option<VideoCodec>; 2],
    tracks: [Option<PictureTrack>; 2],
    /// In order of time.
    waiting: VecDeque<Waiting>,
    stats: RecordStats,
    /// Of files before.
    past: (Duration, u64),
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("path", &self.path)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

fn sound_encoder() -> Result<OpusEncoder, OpusError> {
    OpusEncoder::new(EncoderConfig {
        bitrate: SOUND_BITRATE,
        frame: FrameDuration::Ms20,
        // Nobody on the way sees the sizes.
        rate_control: RateControl::Variable,
        ..EncoderConfig::of(Content::Music { stereo: true })
    })
}

fn open(
    shelf: &mut dyn Shelf,
    opus: &mut OpusEncoder,
    unix_millis: u64,
) -> Result<(PathBuf, MatroskaFile), RecordError> {
    let (path, store) = shelf.next()?;
    let pre_skip = u16::try_from(opus.lookahead_samples()).unwrap_or(u16::MAX);
    let sound = Track {
        kind: Kind::Opus { pre_skip },
        name: "Both voices".into(),
        is_default: true,
    };
    match MatroskaFile::begin(store, vec![sound], unix_millis) {
        Ok(file) => Ok((path, file)),
        Err(source) => Err(RecordError::Write { path, source }),
    }
}

impl Recording {
    /// Begins `now`, in the first file of `shelf`.
    ///
    /// # Errors
    /// There is no file.
    pub fn begin(
        config: RecordConfig,
        mut shelf: Box<dyn Shelf>,
        now: Instant,
    ) -> Result<Self, RecordError> {
        let mut opus = sound_encoder()?;
        let (path, file) = open(&mut *shelf, &mut opus, config.unix_millis)?;
        let stats = RecordStats {
            files: 1,
            bytes: file.bytes(),
            ..RecordStats::default()
        };
        Ok(Self {
            mixer: Mixer::new(now, config.follow_clocks),
            config,
            shelf,
            path,
            file,
            origin: now,
            opus,
            frames: vec![0.0; 2 * FrameDuration::Ms20.samples()],
            begun: [None; 2],
            tracks: [None; 2],
            waiting: VecDeque::new(),
            stats,
            past: (Duration::ZERO, 0),
        })
    }

    /// The file that is written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the files so far.
    #[must_use]
    pub fn stats(&self) -> RecordStats {
        self.stats
    }

    /// Takes 10 ms of a side, of which the last sample was there at `at`.
    ///
    /// # Errors
    /// Nothing more can be written.
    pub fn sound(&mut self, side: Side, at: Instant, block: &WideBlock) -> Result<(), RecordError> {
        if self.mixer.push(side.index(), at, block) == Pushed::TooMuch {
            self.stats.sound_dropped += 1;
        }
        self.write(false)
    }

    /// Takes a picture of a side. `false`: it is not recorded, and neither is any that needs it; a key frame helps.
    ///
    /// # Errors
    /// Nothing more can be written.
    pub fn picture(&mut self, side: Side, picture: RecordedPicture) -> Result<bool, RecordError> {
        let begun = self.begun.get(side.index()).copied().flatten();
        let is_other = begun.is_some_and(|codec| codec != picture.codec);
        if (begun.is_none() || is_other)
            && !(picture.is_key && codec::private(picture.codec, &picture.bytes).is_some())
        {
            self.stats.pictures_dropped += 1;
            return Ok(false);
        }
        if is_other {
            self.next_file(picture.at)?;
        }
        if let Some(begun) = self.begun.get_mut(side.index()) {
            *begun = Some(picture.codec);
        }
        self.mixer.look(picture.at);
        let millis = self.millis(picture.at);
        let at = self.waiting.partition_point(|other| other.millis <= millis);
        self.waiting.insert(
            at,
            Waiting {
                side,
                millis,
                picture,
            },
        );
        self.write(false)?;
        while self.waiting.len() > MAX_WAITING {
            self.write_picture()?;
        }
        Ok(true)
    }

    /// Ends the file, so that players can jump in it.
    ///
    /// # Errors
    /// It cannot be written; it can be played all the same.
    pub fn finish(&mut self) -> Result<(), RecordError> {
        self.write(true)?;
        let done = self.file.finish();
        self.count();
        done.map_err(|source| self.failed(source))
    }

    fn track(&self, side: Side) -> Option<PictureTrack> {
        self.tracks.get(side.index()).copied().flatten()
    }

    fn millis(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.origin);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn failed(&self, source: io::Error) -> RecordError {
        let path = self.path.clone();
        RecordError::Write { path, source }
    }

    fn count(&mut self) {
        let mixed = u64::try_from(self.mixer.mixed()).unwrap_or(0);
        self.stats.duration = self.past.0 + duration_of(mixed);
        self.stats.bytes = self.past.1 + self.file.bytes();
    }

    /// Goes on in another file: no player changes its decoder in the middle of a track.
    fn next_file(&mut self, at: Instant) -> Result<(), RecordError> {
        self.finish()?;
        self.past = (self.stats.duration, self.stats.bytes);
        let since = at.saturating_duration_since(self.origin);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.config.unix_millis = self.config.unix_millis.saturating_add(millis);
        self.opus = sound_encoder()?;
        let unix_millis = self.config.unix_millis;
        (self.path, self.file) = open(&mut *self.shelf, &mut self.opus, unix_millis)?;
        self.stats.files += 1;
        self.origin = at;
        self.mixer = Mixer::new(at, self.config.follow_clocks);
        (self.begun, self.tracks) = ([None; 2], [None; 2]);
        self.count();
        Ok(())
    }

    /// Writes all whose time has come, in order of time.
    fn write(&mut self, all: bool) -> Result<(), RecordError> {
        loop {
            let begins = self.mixer.mixed();
            if !self.mixer.pull(&mut self.frames, all) {
                break;
            }
            let millis = begins / SAMPLES_PER_MILLI;
            while self
                .waiting
                .front()
                .is_some_and(|waiting| waiting.millis <= millis)
            {
                self.write_picture()?;
            }
            let mut encoded = [0; MAX_ENCODED_BYTES];
            let len = self.opus.encode(&self.frames, &mut encoded)?;
            let packet = encoded.get(..len).unwrap_or_default();
            // Without pictures, sound is what one jumps to.
            let is_seekable = self.tracks.iter().all(Option::is_none)
                && millis / 1000
                    != (begins - self.frames.len() as i64 / 2) / SAMPLES_PER_MILLI / 1000;
            let pushed = self
                .file
                .push(SOUND_TRACK, millis, true, is_seekable, packet);
            pushed.map_err(|source| self.failed(source))?;
        }
        if all {
            while !self.waiting.is_empty() {
                self.write_picture()?;
            }
        }
        self.count();
        Ok(())
    }

    /// Writes the first that waits.
    fn write_picture(&mut self) -> Result<(), RecordError> {
        let Some(Waiting {
            side,
            millis,
            picture,
        }) = self.waiting.pop_front()
        else {
            return Ok(());
        };
        let written = self.put_picture(side, millis, &picture);
        match written.map_err(|source| self.failed(source))? {
            true if side == Side::Ours => self.stats.pictures_ours += 1,
            true => self.stats.pictures_theirs += 1,
            false => self.stats.pictures_dropped += 1,
        }
        Ok(())
    }

    fn put_picture(
        &mut self,
        side: Side,
        millis: i64,
        picture: &RecordedPicture,
    ) -> io::Result<bool> {
        let Some(block) = codec::block(picture.codec, &picture.bytes) else {
            return Ok(false);
        };
        let mut track = match self.track(side) {
            Some(track) => track,
            None => {
                let Some(private) = codec::private(picture.codec, &picture.bytes) else {
                    return Ok(false);
                };
                let added = self.file.add(Track {
                    kind: Kind::Video {
                        codec: codec::id(picture.codec),
                        private,
                        size: picture.size,
                    },
                    name: match side {
                        Side::Ours => "Own picture".into(),
                        Side::Theirs => self.config.name.clone(),
                    },
                    is_default: side == Side::Theirs,
                })?;
                let Some(number) = added else {
                    return Ok(false);
                };
                PictureTrack { number, last: -1 }
            }
        };
        if picture.is_key {
            self.file.grow(track.number, picture.size)?;
        }
        let millis = millis.max(track.last + 1);
        track.last = millis;
        let is_seekable =
            picture.is_key && (side == Side::Theirs || self.track(Side::Theirs).is_none());
        if let Some(place) = self.tracks.get_mut(side.index()) {
            *place = Some(track);
        }
        self.file
            .push(track.number, millis, picture.is_key, is_seekable, &block)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
