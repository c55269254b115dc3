//! A Matroska file (RFC 9559) that can be played at every moment while it is written.
//!
//! ```text
//! EBML header
//! Segment, of unknown size until the end
//!   place for the seek head, written at the end
//!   Info, with the duration so far
//!   Tracks, and room for more
//!   Cluster: half a second, written whole
//!   Cluster …
//!   Cues, written at the end
//! ```
//!
//! Whoever pulls the plug keeps all clusters before the last: no index is needed to play them. Tracks that begin later,
//! and pictures that become larger, are told in the room behind the tracks, in place.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

use super::ebml::{
    UNKNOWN_SIZE, put, put_float, put_id, put_int, put_size_in, put_text, put_uint, put_void,
    put_with,
};
use crate::video::frame::Size;

/// Ticks of a file's times: milliseconds.
const TICK_NANOS: u64 = 1_000_000;

/// A cluster is written when it is so long, in milliseconds, or so large, in bytes: what a crash costs.
const CLUSTER_MILLIS: i64 = 500;
const CLUSTER_BYTES: usize = 1 << 20;

/// Room for the tracks. A track takes less than 700 bytes.
const TRACKS_BYTES: usize = 4096;
const SEEK_HEAD_BYTES: usize = 96;

/// Places that are told for jumping: a day of one per cluster.
const MAX_CUES: usize = 200_000;

/// Letters of a track's name.
const MAX_NAME_CHARS: usize = 64;

const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114d_9b74;
const SEEK: u32 = 0x4dbb;
const SEEK_ID: u32 = 0x53ab;
const SEEK_POSITION: u32 = 0x53ac;
const INFO: u32 = 0x1549_a966;
const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
const DURATION: u32 = 0x4489;
const DATE_UTC: u32 = 0x4461;
const MUXING_APP: u32 = 0x4d80;
const WRITING_APP: u32 = 0x5741;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK_ENTRY: u32 = 0xae;
const CLUSTER: u32 = 0x1f43_b675;
const TIMESTAMP: u32 = 0xe7;
const SIMPLE_BLOCK: u32 = 0xa3;
const CUES: u32 = 0x1c53_bb6b;

/// From the beginning of 1970 to that of 2001, where this format's dates begin, in milliseconds.
const DATE_ORIGIN_MILLIS: i64 = 978_307_200_000;

/// Where a recording is written.
pub trait Store: Write + Seek + Send {
    /// Leaves so many bytes of it.
    ///
    /// # Errors
    /// What the system says.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Store for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// What a track holds.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Sound in Opus (RFC 7845), of two channels.
    Opus {
        /// Samples of 48 kHz before the first that is heard.
        pre_skip: u16,
    },
    /// Pictures.
    Video {
        /// The codec as Matroska calls it.
        codec: &'static str,
        /// What its decoder has to know.
        private: Vec<u8>,
        /// The largest so far.
        size: Size,
    },
}

/// A track. Its number is its place, from 1 on.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Players begin with it.
    pub(super) is_default: bool,
}

/// A place to jump to, all in the file's own units.
#[derive(Debug, Clone, Copy)]
struct Cue {
    millis: u64,
    track: u64,
    cluster: u64,
}

/// The file while it is written.
pub(super) struct MatroskaFile {
    out: Box<dyn Store>,
    /// Bytes that are whole: where the next cluster goes.
    end: u64,
    /// Where the segment's content begins: positions in the file count from there.
    segment: u64,
    tracks_at: u64,
    duration_at: u64,
    tracks: Vec<Track>,
    cluster: Vec<u8>,
    /// When the cluster begins, in milliseconds.
    begins: i64,
    /// The latest time in the file, in milliseconds.
    latest: i64,
    cues: Vec<Cue>,
}

impl std::fmt::Debug for MatroskaFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatroskaFile")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl MatroskaFile {
    /// Begins a file with these tracks, at this time of the day.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn begin(
        mut out: Box<dyn Store>,
        tracks: Vec<Track>,
        unix_millis: u64,
    ) -> io::Result<Self> {
        let mut head = Vec::new();
        put_with(&mut head, EBML, |ebml| {
            put_uint(ebml, 0x4286, 1); // EBMLVersion
            put_uint(ebml, 0x42f7, 1); // EBMLReadVersion
            put_uint(ebml, 0x42f2, 4); // EBMLMaxIDLength
            put_uint(ebml, 0x42f3, 8); // EBMLMaxSizeLength
            put_text(ebml, 0x4282, "matroska"); // DocType
            put_uint(ebml, 0x4287, 4); // DocTypeVersion
            put_uint(ebml, 0x4285, 2); // DocTypeReadVersion
        });
        put_id(&mut head, SEGMENT);
        head.extend_from_slice(&UNKNOWN_SIZE);
        let segment = head.len() as u64;
        put_void(&mut head, SEEK_HEAD_BYTES);
        let mut info = Vec::new();
        put_uint(&mut info, TIMESTAMP_SCALE, TICK_NANOS);
        let since = i64::try_from(unix_millis).unwrap_or(i64::MAX) - DATE_ORIGIN_MILLIS;
        put_int(&mut info, DATE_UTC, since.saturating_mul(1_000_000));
        put_text(&mut info, MUXING_APP, "ahoy");
        put_text(&mut info, WRITING_APP, "ahoy");
        // Zero is no duration, so until there is one its place holds nothing.
        put_void(&mut info, duration(0.0).len());
        put(&mut head, INFO, &info);
        let duration_at = (head.len() - duration(0.0).len()) as u64;
        let tracks_at = head.len() as u64;
        head.extend(tracks_in_their_room(&tracks)?);
        out.write_all(&head)?;
        Ok(Self {
            out,
            end: head.len() as u64,
            segment,
            tracks_at,
            duration_at,
            tracks,
            cluster: Vec::new(),
            begins: 0,
            latest: 0,
            cues: Vec::new(),
        })
    }

    /// Bytes that are in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Adds a track; its number. `None`: there is no room for more.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn add(&mut self, track: Track) -> io::Result<Option<u64>> {
        self.tracks.push(track);
        if tracks(&self.tracks).len() > TRACKS_BYTES {
            self.tracks.pop();
            return Ok(None);
        }
        self.tell_tracks()?;
        Ok(Some(self.tracks.len() as u64))
    }

    /// The pictures of this track are so large now. Players make their window for the largest.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn grow(&mut self, number: u64, new: Size) -> io::Result<()> {
        let track = usize::try_from(number - 1).ok();
        let Some(Kind::Video { size, .. }) = track
            .and_then(|at| self.tracks.get_mut(at))
            .map(|track| &mut track.kind)
        else {
            return Ok(());
        };
        if new.pixels() <= size.pixels() {
            return Ok(());
        }
        *size = new;
        self.tell_tracks()
    }

    fn tell_tracks(&mut self) -> io::Result<()> {
        let room = tracks_in_their_room(&self.tracks)?;
        self.patch(self.tracks_at, &room)
    }

    fn patch(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.out.seek(SeekFrom::Start(at))?;
        self.out.write_all(bytes)?;
        self.out.seek(SeekFrom::Start(self.end))?;
        Ok(())
    }

    /// Puts a frame there, which begins at so many milliseconds. Times go up, or a little back at most.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn push(
        &mut self,
        number: u64,
        millis: i64,
        is_key: bool,
        is_seekable: bool,
        frame: &[u8],
    ) -> io::Result<()> {
        // A picture to jump to begins a cluster.
        let is_full = millis - self.begins >= CLUSTER_MILLIS
            || self.cluster.len() + frame.len() > CLUSTER_BYTES
            || is_seekable;
        let relative = i16::try_from(millis - self.begins);
        let relative = match relative {
            Ok(relative) if !is_full && !self.cluster.is_empty() => relative,
            Ok(_) | Err(_) => {
                self.flush()?;
                self.begins = millis.max(0);
                put_uint(&mut self.cluster, TIMESTAMP, self.begins.unsigned_abs());
                if is_seekable && self.cues.len() < MAX_CUES {
                    self.cues.push(Cue {
                        millis: self.begins.unsigned_abs(),
                        track: number,
                        cluster: self.end - self.segment,
                    });
                }
                0
            }
        };
        self.latest = self.latest.max(millis);
        let mut head = Vec::with_capacity(8);
        super::ebml::put_size(&mut head, number);
        head.extend(relative.to_be_bytes());
        head.push(if is_key { 0x80 } else { 0 });
        put_id(&mut self.cluster, SIMPLE_BLOCK);
        super::ebml::put_size(&mut self.cluster, (head.len() + frame.len()) as u64);
        self.cluster.extend(head);
        self.cluster.extend_from_slice(frame);
        Ok(())
    }

    /// Writes the cluster under way, and how long the file is now.
    ///
    /// # Errors
    /// It cannot be written: then the file is as it was before.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.cluster.is_empty() {
            return Ok(());
        }
        let mut whole = Vec::with_capacity(self.cluster.len() + 16);
        put(&mut whole, CLUSTER, &self.cluster);
        self.cluster.clear();
        self.append(&whole)?;
        self.tell_duration()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.out.write_all(bytes) {
            // What is half there would only confuse; where even that is refused, players stop there.
            let cut = self.out.cut(self.end);
            if let Err(error) = cut.and_then(|()| self.out.seek(SeekFrom::Start(self.end))) {
                tracing::debug!(%error, "half a cluster stays at the end of a recording");
            }
            return Err(error);
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn tell_duration(&mut self) -> io::Result<()> {
        if self.latest <= 0 {
            return Ok(());
        }
        self.patch(self.duration_at, &duration(self.latest as f64))
    }

    /// Ends the file: where to jump to, and its size.
    ///
    /// # Errors
    /// It cannot be written; what is there can be played all the same.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        let mut seeks = vec![
            (INFO, self.segment + SEEK_HEAD_BYTES as u64),
            (TRACKS, self.tracks_at),
        ];
        if !self.cues.is_empty() {
            seeks.push((CUES, self.end));
            let mut cues = Vec::new();
            put_with(&mut cues, CUES, |cues| {
                for cue in &self.cues {
                    put_with(cues, 0xbb, |point| {
                        put_uint(point, 0xb3, cue.millis);
                        put_with(point, 0xb7, |place| {
                            put_uint(place, 0xf7, cue.track);
                            put_uint(place, 0xf1, cue.cluster);
                        });
                    });
                }
            });
            self.append(&cues)?;
        }
        let mut head = Vec::new();
        put_with(&mut head, SEEK_HEAD, |head| {
            for (id, at) in seeks {
                put_with(head, SEEK, |seek| {
                    let mut bytes = Vec::new();
                    put_id(&mut bytes, id);
                    put(seek, SEEK_ID, &bytes);
                    put_uint(seek, SEEK_POSITION, at - self.segment);
                });
            }
        });
        let left = SEEK_HEAD_BYTES - head.len();
        put_void(&mut head, left);
        self.patch(self.segment, &head)?;
        let mut size = Vec::new();
        put_size_in(&mut size, self.end - self.segment, 8);
        self.patch(self.segment - size.len() as u64, &size)?;
        self.out.flush()
    }
}

fn duration(millis: f64) -> Vec<u8> {
    let mut out = Vec::new();
    put_float(&mut out, DURATION, millis);
    out
}

fn tracks(tracks: &[Track]) -> Vec<u8> {
    let mut out = Vec::new();
    put_with(&mut out, TRACKS, |all| {
        let numbered = tracks.iter().zip(1u64..);
        // Some players take the first pictures there are, whatever the file says.
        let (first, others): (Vec<_>, Vec<_>) =
            numbered.partition(|(track, _number)| track.is_default);
        for (track, number) in first.into_iter().chain(others) {
            put_with(all, TRACK_ENTRY, |entry| put_track(entry, track, number));
        }
    });
    out
}

fn tracks_in_their_room(all: &[Track]) -> io::Result<Vec<u8>> {
    let mut out = tracks(all);
    let left = TRACKS_BYTES.checked_sub(out.len());
    // A place of one byte cannot be filled.
    let Some(left) = left.filter(|left| *left != 1) else {
        return Err(io::Error::other("there is no room for so many tracks"));
    };
    put_void(&mut out, left);
    Ok(out)
}

fn put_track(entry: &mut Vec<u8>, track: &Track, number: u64) {
    put_uint(entry, 0xd7, number); // TrackNumber
    put_uint(entry, 0x73c5, number); // TrackUID
    put_uint(entry, 0x9c, 0); // FlagLacing
    put_uint(entry, 0x88, u64::from(track.is_default)); // FlagDefault
    let name: String = track.name.chars().take(MAX_NAME_CHARS).collect();
    put_text(entry, 0x536e, &name); // Name
    put_text(entry, 0x22_b59c, "und"); // Language
    match &track.kind {
        Kind::Opus { pre_skip } => {
            put_uint(entry, 0x83, 2); // TrackType: audio
            put_text(entry, 0x86, "A_OPUS"); // CodecID
            put(entry, 0x63a2, &opus_head(*pre_skip)); // CodecPrivate
            let nanos = u64::from(*pre_skip) * 1_000_000_000 / 48_000;
            put_uint(entry, 0x56aa, nanos); // CodecDelay
            put_uint(entry, 0x56bb, 80_000_000); // SeekPreRoll
            put_with(entry, 0xe1, |audio| {
                put_float(audio, 0xb5, 48_000.0); // SamplingFrequency
                put_uint(audio, 0x9f, 2); // Channels
            });
        }
        Kind::Video {
            codec,
            private,
            size,
        } => {
            put_uint(entry, 0x83, 1); // TrackType: video
            put_text(entry, 0x86, codec);
            put(entry, 0x63a2, private);
            put_with(entry, 0xe0, |video| {
                put_uint(video, 0x9a, 2); // FlagInterlaced: progressive
                put_uint(video, 0xb0, size.width().into()); // PixelWidth
                put_uint(video, 0xba, size.height().into()); // PixelHeight
            });
        }
    }
}

/// RFC 7845 section 5.1.
fn opus_head(pre_skip: u16) -> Vec<u8> {
    let mut head = b"OpusHead\x01\x02".to_vec();
    head.extend(pre_skip.to_le_bytes());
    head.extend(48_000u32.to_le_bytes());
    // No gain, and the channels as they are.
    head.extend([0, 0, 0]);
    head
}
