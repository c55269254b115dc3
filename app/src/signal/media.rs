//! What a device can send and play, and what two of them have in common.

use ahoy_transport::wire::{Reader, WireError, Writer};

/// Most kinds of media read from one list. Two are known; the rest is room for later ones.
const MAX_KINDS: u8 = 16;
/// Longest description of one kind, in bytes.
const MAX_KIND_BYTES: usize = 64;
const KIND_OPUS: u8 = 1;
const KIND_PICTURES: u8 = 2;
const KIND_COMPARES: u8 = 3;

/// What a device can send and play. `None` = not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaCapabilities {
    /// Voice, in Opus (RFC 6716).
    pub audio: Option<AudioCapabilities>,
    /// What pictures it shows. Which it sends is its own matter: among those that the other side shows.
    pub video: Option<VideoCapabilities>,
    /// It makes safety words by commit and reveal ([`crate::identity::compare`]).
    pub compares: bool,
}

/// What pictures a device can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoCapabilities {
    /// In which codecs. Those that are not known here are kept, and mean nothing.
    pub codecs: VideoCodecs,
    /// At most so wide, in pixels.
    pub max_width: u16,
    /// At most so high, in pixels.
    pub max_height: u16,
    /// At most so many per second.
    pub max_fps: u8,
    /// What it can do about loss.
    pub features: VideoFeatures,
}

/// A set of codecs of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoCodecs(u8);

/// A set of ways to survive loss of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoFeatures(u16);

/// What a device can do with Opus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioCapabilities {
    /// What it wants to receive at most, all redundancy included, in bits per second.
    pub max_bitrate_bps: u32,
    /// Frames it can receive.
    pub frame_durations: FrameDurations,
    /// What it can use against loss.
    pub features: AudioFeatures,
    /// Channels it can play: 1 or 2.
    pub channels: u8,
}

/// A set of Opus frame durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameDurations(u8);

/// A set of ways to survive loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFeatures(u16);

/// What two devices have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaChoice {
    /// Voice.
    pub audio: AudioChoice,
    /// Pictures that the other side shows, if any: what is sent keeps to it.
    pub video: Option<VideoCapabilities>,
}

/// How to send voice to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioChoice {
    /// Send at most this, in bits per second.
    pub max_bitrate_bps: u32,
    /// Send only these. Never empty.
    pub frame_durations: FrameDurations,
    /// Both sides know these.
    pub features: AudioFeatures,
    /// 1 or 2.
    pub channels: u8,
}

impl Default for MediaCapabilities {
    /// Voice as every device of this version can do it.
    fn default() -> Self {
        Self {
            audio: Some(AudioCapabilities::default()),
            video: None,
            compares: true,
        }
    }
}

impl VideoCodecs {
    /// None.
    pub const NONE: Self = Self(0);
    /// AV1, Main profile, 8 bits, in the RTP payload format of AOM.
    pub const AV1: Self = Self(1);
    /// H.264, constrained baseline, by RFC 6184 with packetization-mode 1.
    pub const H264: Self = Self(2);

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl VideoFeatures {
    /// None.
    pub const NONE: Self = Self(0);
    /// It asks for packets that are missing, and takes them when they come again.
    pub const RETRANSMISSION: Self = Self(1);
    /// It makes missing packets of a picture from packets of parity.
    pub const PARITY: Self = Self(2);
    /// It knows that what stands still comes seldom.
    pub const STILL: Self = Self(4);

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Default for AudioCapabilities {
    fn default() -> Self {
        Self {
            // The most that ahoy sends.
            max_bitrate_bps: 128_000,
            frame_durations: FrameDurations::ALL,
            features: AudioFeatures::ALL,
            channels: 2,
        }
    }
}

impl FrameDurations {
    /// 10, 20, 40 and 60 ms.
    pub const ALL: Self = Self(0b1111);
    const MILLIS: [u16; 4] = [10, 20, 40, 60];

    /// Those of the given durations, in milliseconds, that are known.
    #[must_use]
    pub fn of(millis: &[u16]) -> Self {
        let bits = Self::MILLIS
            .iter()
            .zip(0..)
            .filter(|(known, _)| millis.contains(known))
            .fold(0, |bits, (_, shift)| bits | 1 << shift);
        Self(bits)
    }

    /// Whether the set has this one.
    #[must_use]
    pub fn contains(self, millis: u16) -> bool {
        self.iter().any(|known| known == millis)
    }

    /// All in the set, in milliseconds, shortest first.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        let known = Self::MILLIS.into_iter().zip(0..);
        known.filter_map(move |(millis, shift)| (self.0 & 1 << shift != 0).then_some(millis))
    }

    /// What to use when `wanted` is wished for, in milliseconds: itself, or else the nearest in the set, the
    /// longer of two.
    #[must_use]
    pub fn nearest(self, wanted: u16) -> Option<u16> {
        self.iter()
            .min_by_key(|millis| (millis.abs_diff(wanted), u16::MAX - millis))
    }
}

impl AudioFeatures {
    /// None.
    pub const NONE: Self = Self(0);
    /// Opus in-band FEC (RFC 6716 section 2.1.7).
    pub const IN_BAND_FEC: Self = Self(1);
    /// Redundant copies of earlier frames (in the manner of RFC 2198).
    pub const RED: Self = Self(2);
    /// Opus deep redundancy.
    pub const DRED: Self = Self(4);

    /// Of these, copies in packets of their own.
    pub const APART: Self = Self(8);

    /// All that this version knows.
    pub const ALL: Self = Self(15);

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl MediaCapabilities {
    /// What to send to a device that can do `remote`. `None` when there is no voice in common.
    #[must_use]
    pub fn negotiate(&self, remote: &Self) -> Option<MediaChoice> {
        let (ours, theirs) = (self.audio?, remote.audio?);
        let frame_durations = FrameDurations(ours.frame_durations.0 & theirs.frame_durations.0);
        let audio = AudioChoice {
            max_bitrate_bps: ours.max_bitrate_bps.min(theirs.max_bitrate_bps),
            frame_durations,
            features: AudioFeatures(ours.features.0 & theirs.features.0),
            channels: ours.channels.min(theirs.channels).clamp(1, 2),
        };
        // Opus cannot go lower (RFC 7587 section 6.1).
        let usable = frame_durations.iter().next().is_some() && audio.max_bitrate_bps >= 6_000;
        usable.then_some(MediaChoice {
            audio,
            video: remote.video,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let kinds = [self.audio.is_some(), self.video.is_some(), self.compares];
        out.put_u8(kinds.into_iter().map(u8::from).sum());
        if let Some(audio) = self.audio {
            let mut fields = Vec::with_capacity(8);
            fields.put_u32(audio.max_bitrate_bps);
            fields.put_u8(audio.frame_durations.0);
            fields.put_u16(audio.features.0);
            fields.put_u8(audio.channels);
            out.put_u8(KIND_OPUS);
            out.put_var_bytes(&fields);
        }
        if let Some(video) = self.video {
            let mut fields = Vec::with_capacity(8);
            fields.put_u8(video.codecs.0);
            fields.put_u16(video.max_width);
            fields.put_u16(video.max_height);
            fields.put_u8(video.max_fps);
            fields.put_u16(video.features.0);
            out.put_u8(KIND_PICTURES);
            out.put_var_bytes(&fields);
        }
        if self.compares {
            out.put_u8(KIND_COMPARES);
            out.put_var_bytes(&[]);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = reader.u8()?;
        if count > MAX_KINDS {
            return Err(WireError::TooLong);
        }
        let (mut audio, mut video, mut compares) = (None, None, false);
        for _ in 0..count {
            let kind = reader.u8()?;
            let mut fields = Reader::new(reader.var_bytes(MAX_KIND_BYTES)?);
            if kind == KIND_OPUS {
                let read = AudioCapabilities {
                    max_bitrate_bps: fields.u32()?,
                    frame_durations: FrameDurations(fields.u8()?),
                    features: AudioFeatures(fields.u16()?),
                    channels: fields.u8()?,
                };
                if audio.replace(read).is_some() {
                    return Err(WireError::Undefined);
                }
            } else if kind == KIND_PICTURES {
                let read = VideoCapabilities {
                    codecs: VideoCodecs(fields.u8()?),
                    max_width: fields.u16()?,
                    max_height: fields.u16()?,
                    max_fps: fields.u8()?,
                    features: VideoFeatures(fields.u16()?),
                };
                if video.replace(read).is_some() {
                    return Err(WireError::Undefined);
                }
            } else if kind == KIND_COMPARES {
                if compares {
                    return Err(WireError::Undefined);
                }
                compares = true;
            }
        }
        Ok(Self {
            audio,
            video,
            compares,
        })
    }
}
