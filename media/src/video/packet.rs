//! Encoded pictures in RTP packets (RFC 3550), and back.
//!
//! Behind the RTP header, in front of each payload, stands a descriptor of ours:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  V=0  |K|S|TID|         frame number          | packet index  :
//! :  in the frame |      packets in the frame     |    needs 1    |
//! |    needs 2    |  payload: AV1, or H.264 by RFC 6184           :
//! ```
//!
//! * `K`: a key frame, it starts a sequence and needs no other. `TID`: layer in time, 0 for the base, up to 2.
//! * `S`: what is shown stands still, and is sent again now and then only. Receivers that do not know the bit refuse it, so it
//!   is set only for those that said they do.
//! * The frame number counts what the encoder gave out, modulo 2^16, also what was then not sent.
//! * Packets of a frame have consecutive sequence numbers; the marker is set on the last one.
//! * Needs: how many frames ago the frames were that this one refers to, 0 for none. These need others in turn.
//!
//! The RTP timestamp is the time at which the picture was taken, 90 kHz.
//!
//! Packets of parity ([`parity`]) follow those of their frame where the way is long.
//!
//! The payloads are those of the AV1 RTP specification of AOM ([`av1`]), and of RFC 6184 with packetization-mode 1
//! ([`h264`]). They are our own: `rtc-rtp` 0.21.1 has both too, but its H.264 panics on a STAP-A that ends within a
//! length, its AV1 on an OBU that is a header of two bytes cut to one, and what it gathers of a stranger's fragments has no
//! bound.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod av1;
pub mod h264;
pub mod parity;

use std::time::Duration;

use super::codec::{EncodedFrame, VideoCodec};
use crate::{
    packet::rtp::{MAX_PAYLOAD_BYTES, RtpError, RtpHeader, RtpPacket},
    time::RtpTimestamp,
};

/// Bytes of the descriptor.
pub const DESCRIPTOR_BYTES: usize = 9;

/// Bytes of a codec's payload in a packet at most: as many as fit, so that its parity still does.
pub const MAX_BODY_BYTES: usize = MAX_PAYLOAD_BYTES - DESCRIPTOR_BYTES - parity::ROOM_BYTES;

/// Packets that a frame can be divided into: more than a megabyte, a key frame of 4K.
pub const MAX_PACKETS_PER_FRAME: u16 = 1024;

/// Ticks of the RTP clock of pictures per second.
pub const CLOCK_HZ: u32 = 90_000;

/// The highest layer in time.
const MAX_TEMPORAL_LAYER: u8 = 2;

const VERSION: u8 = 0;
const KEY: u8 = 0x08;
const STILL: u8 = 0x04;

impl VideoCodec {
    /// The RTP payload type.
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Av1 => 98,
            Self::H264 => 102,
        }
    }
}

/// What a packet says about its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Modulo 2^16.
    pub frame: u16,
    /// Of the packet in the frame, less than `count`; or of a packet of parity.
    pub index: u16,
    /// Packets of the frame, 1..=[`MAX_PACKETS_PER_FRAME`].
    pub count: u16,
    /// It starts a sequence.
    pub is_key: bool,
    /// 0..=2.
    pub temporal_layer: u8,
    /// How many frames ago those were that it refers to, 0 for none. All 0 exactly in a key frame.
    pub needs: [u8; 2],
    /// What is shown stands still: the next one may be long in coming, and nothing is missing then.
    pub is_still: bool,
}

/// Why bytes are no packet of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// They are no RTP packet.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// The packet ends inside the descriptor, or nothing follows it.
    #[error("the packet ends inside its descriptor")]
    Truncated,
    /// A later version of the descriptor.
    #[error("version {0} of the descriptor is not known")]
    Version(u8),
    /// The descriptor contradicts itself.
    #[error("the descriptor is malformed")]
    Descriptor,
}

impl Descriptor {
    fn is_valid(self) -> bool {
        (1..=MAX_PACKETS_PER_FRAME).contains(&self.count)
            && self.temporal_layer <= MAX_TEMPORAL_LAYER
            && self.is_key == (self.needs == [0; 2])
    }

    fn to_bytes(self) -> [u8; DESCRIPTOR_BYTES] {
        let key = if self.is_key { KEY } else { 0 };
        let still = if self.is_still { STILL } else { 0 };
        let flags = VERSION << 4 | key | still | self.temporal_layer;
        let [f0, f1] = self.frame.to_be_bytes();
        let [i0, i1] = self.index.to_be_bytes();
        let [c0, c1] = self.count.to_be_bytes();
        let [n0, n1] = self.needs;
        [flags, f0, f1, i0, i1, c0, c1, n0, n1]
    }

    fn parse(bytes: [u8; DESCRIPTOR_BYTES]) -> Result<Self, PacketError> {
        let [flags, f0, f1, i0, i1, c0, c1, n0, n1] = bytes;
        if flags >> 4 != VERSION {
            return Err(PacketError::Version(flags >> 4));
        }
        let descriptor = Self {
            frame: u16::from_be_bytes([f0, f1]),
            index: u16::from_be_bytes([i0, i1]),
            count: u16::from_be_bytes([c0, c1]),
            is_key: flags & KEY != 0,
            temporal_layer: flags & 0x03,
            needs: [n0, n1],
            is_still: flags & STILL != 0,
        };
        if descriptor.is_valid() {
            Ok(descriptor)
        } else {
            Err(PacketError::Descriptor)
        }
    }
}

/// A parsed packet that borrows its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoPacket<'a> {
    /// The RTP header; its timestamp counts 90 kHz.
    pub header: RtpHeader,
    /// Of its frame.
    pub descriptor: Descriptor,
    /// The codec's payload, never empty.
    pub body: &'a [u8],
}

impl<'a> VideoPacket<'a> {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`PacketError`] says what is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let RtpPacket { header, payload } = RtpPacket::parse(bytes)?;
        let (descriptor, body) = payload
            .split_first_chunk::<DESCRIPTOR_BYTES>()
            .filter(|(_, body)| !body.is_empty())
            .ok_or(PacketError::Truncated)?;
        let descriptor = Descriptor::parse(*descriptor)?;
        if descriptor.index >= descriptor.count {
            return Err(PacketError::Descriptor);
        }
        Ok(Self {
            header,
            descriptor,
            body,
        })
    }
}

/// Why a frame cannot be sent: our mistake, or the encoder's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketizeError {
    /// The bytes are not what the codec's frames look like, or there are none.
    #[error("the {codec} frame is malformed", codec = .0.name())]
    Malformed(VideoCodec),
    /// More than [`MAX_PACKETS_PER_FRAME`].
    #[error("the frame is too large: {0} packets")]
    TooLarge(usize),
    /// The header cannot be written.
    #[error(transparent)]
    Rtp(#[from] RtpError),
}

/// A packet to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingPacket {
    /// Of its RTP header.
    pub sequence: u16,
    /// All of it, at most [`MAX_PACKET_BYTES`](crate::packet::rtp::MAX_PACKET_BYTES).
    pub bytes: Vec<u8>,
}

/// The RTP timestamp of a time on the clock that pictures are timed by.
#[must_use]
pub fn timestamp(taken: Duration) -> RtpTimestamp {
    let ticks = (taken.as_nanos() * u128::from(CLOCK_HZ) + 500_000_000) / 1_000_000_000;
    #[expect(clippy::cast_possible_truncation, reason = "it wraps on the wire")]
    RtpTimestamp(ticks as u32)
}

/// Divides the frames of one stream into packets.
#[derive(Debug)]
pub struct Packetizer {
    codec: VideoCodec,
    ssrc: u32,
    sequence: u16,
    frame: u16,
    is_still: bool,
}

impl Packetizer {
    /// The first packet has `sequence`; it and `ssrc` should be random.
    #[must_use]
    pub fn new(codec: VideoCodec, ssrc: u32, sequence: u16) -> Self {
        Self {
            codec,
            ssrc,
            sequence,
            frame: 0,
            is_still: false,
        }
    }

    /// Says of the frames from now on whether what they show stands still.
    pub fn set_still(&mut self, is_still: bool) {
        self.is_still = is_still;
    }

    /// Counts a frame that came from the encoder and is not sent.
    pub fn skip(&mut self) {
        self.frame = self.frame.wrapping_add(1);
    }

    /// The packets of the next frame, in order. A frame that is refused counts like one that was skipped.
    ///
    /// # Errors
    /// [`PacketizeError`]: nothing of it can be sent.
    pub fn packetize(
        &mut self,
        frame: &EncodedFrame,
    ) -> Result<Vec<OutgoingPacket>, PacketizeError> {
        let number = self.frame;
        self.skip();
        let bodies = match self.codec {
            VideoCodec::Av1 => av1::split(&frame.bytes, frame.is_key, MAX_BODY_BYTES),
            VideoCodec::H264 => h264::split(&frame.bytes, MAX_BODY_BYTES),
        }
        .ok_or(PacketizeError::Malformed(self.codec))?;
        let count = u16::try_from(bodies.len())
            .ok()
            .filter(|count| *count <= MAX_PACKETS_PER_FRAME)
            .ok_or(PacketizeError::TooLarge(bodies.len()))?;
        let mut packets = Vec::with_capacity(bodies.len());
        for (index, body) in (0..count).zip(bodies) {
            let descriptor = Descriptor {
                frame: number,
                index,
                count,
                is_key: frame.is_key,
                temporal_layer: frame.temporal_layer,
                needs: frame.needs,
                is_still: self.is_still,
            };
            let header = RtpHeader {
                marker: index + 1 == count,
                payload_type: self.codec.payload_type(),
                sequence: self.sequence,
                timestamp: timestamp(frame.taken),
                ssrc: self.ssrc,
            };
            let mut bytes = header.to_bytes()?.to_vec();
            bytes.extend_from_slice(&descriptor.to_bytes());
            bytes.extend_from_slice(&body);
            packets.push(OutgoingPacket {
                sequence: self.sequence,
                bytes,
            });
            self.sequence = self.sequence.wrapping_add(1);
        }
        Ok(packets)
    }
}

/// The frame whose payloads these are, in order, as its decoder takes it. `None` if they are no frame.
#[must_use]
pub fn join<'a>(codec: VideoCodec, bodies: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    match codec {
        VideoCodec::Av1 => av1::join(bodies),
        VideoCodec::H264 => h264::join(bodies),
    }
}

#[cfg(test)]
mod tests;
