//! RTP (RFC 3550 section 5.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |                             SSRC                              |
//! |        payload: one Opus packet, or several by `red`          |
//! ```
//!
//! We send neither padding nor extensions nor contributing sources; received ones are skipped, so that a
//! gateway may add them.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::time::RtpTimestamp;

/// Bytes of the header that we send.
pub const HEADER_BYTES: usize = 12;

/// Largest packet, header included: what a media datagram may carry.
pub const MAX_PACKET_BYTES: usize = 1150;

/// Largest payload.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - HEADER_BYTES;

/// RTP payload type of Opus. The dynamic range is 96..=127 (RFC 3551 section 6).
pub const OPUS_PAYLOAD_TYPE: u8 = 111;

/// RTP payload type of Opus with copies of earlier packets: see [`red`](super::red).
pub const RED_PAYLOAD_TYPE: u8 = 112;

const VERSION: u8 = 2;

/// Why bytes are no RTP packet, or none for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// The packet ends inside its header, extension or padding.
    #[error("the packet ends inside its header")]
    Truncated,
    /// The version is not 2.
    #[error("RTP version {0} is not 2")]
    Version(u8),
    /// The padding count is zero or larger than what follows the header.
    #[error("the padding is malformed")]
    Padding,
    /// Nothing follows the header.
    #[error("the packet has no payload")]
    Empty,
    /// The packet is longer than [`MAX_PACKET_BYTES`], or the buffer too small for it.
    #[error("the packet is too long")]
    TooLong,
    /// The payload type is larger than seven bits.
    #[error("payload type {0} does not fit into seven bits")]
    PayloadType(u8),
}

/// The fields of the fixed header that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// First packet after a silence in which nothing was sent (RFC 7587 section 4.2).
    pub marker: bool,
    /// 0..=127.
    pub payload_type: u8,
    /// Counts packets, modulo 2^16.
    pub sequence: u16,
    /// Of the first sample in the payload, 48 kHz.
    pub timestamp: RtpTimestamp,
    /// The sender's stream.
    pub ssrc: u32,
}

/// A parsed packet that borrows its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The header.
    pub header: RtpHeader,
    /// Without padding; never empty.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`RtpError`] says what is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        if bytes.len() > MAX_PACKET_BYTES {
            return Err(RtpError::TooLong);
        }
        let (fixed, rest) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(RtpError::Truncated)?;
        let [flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if flags >> 6 != VERSION {
            return Err(RtpError::Version(flags >> 6));
        }
        let sources = usize::from(flags & 0x0f) * 4;
        let mut payload = rest.get(sources..).ok_or(RtpError::Truncated)?;
        if flags & 0x10 != 0 {
            let (extension, after) = payload
                .split_first_chunk::<4>()
                .ok_or(RtpError::Truncated)?;
            let [_, _, l0, l1] = *extension;
            let words = usize::from(u16::from_be_bytes([l0, l1]));
            payload = after.get(words * 4..).ok_or(RtpError::Truncated)?;
        }
        if flags & 0x20 != 0 {
            let padding = usize::from(*payload.last().ok_or(RtpError::Padding)?);
            let kept = payload.len().checked_sub(padding).filter(|_| padding > 0);
            payload = payload
                .get(..kept.ok_or(RtpError::Padding)?)
                .ok_or(RtpError::Padding)?;
        }
        if payload.is_empty() {
            return Err(RtpError::Empty);
        }
        let header = RtpHeader {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: RtpTimestamp(u32::from_be_bytes([t0, t1, t2, t3])),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        Ok(Self { header, payload })
    }

    /// Writes the packet to the front of `out` and returns its length in bytes.
    ///
    /// # Errors
    /// [`RtpError::Empty`], [`RtpError::TooLong`] or [`RtpError::PayloadType`]: the caller's mistake.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, RtpError> {
        if self.payload.is_empty() {
            return Err(RtpError::Empty);
        }
        let len = self.payload.len().saturating_add(HEADER_BYTES);
        let out = out
            .get_mut(..len)
            .filter(|_| len <= MAX_PACKET_BYTES)
            .ok_or(RtpError::TooLong)?;
        let (head, body) = out
            .split_at_mut_checked(HEADER_BYTES)
            .ok_or(RtpError::TooLong)?;
        head.copy_from_slice(&self.header.to_bytes()?);
        body.copy_from_slice(self.payload);
        Ok(len)
    }
}

impl RtpHeader {
    /// The twelve bytes of the header.
    ///
    /// # Errors
    /// [`RtpError::PayloadType`] when the payload type needs more than seven bits.
    pub fn to_bytes(self) -> Result<[u8; HEADER_BYTES], RtpError> {
        if self.payload_type > 0x7f {
            return Err(RtpError::PayloadType(self.payload_type));
        }
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.0.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let kind = (u8::from(self.marker) << 7) | self.payload_type;
        Ok([VERSION << 6, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3])
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = RtpHeader> {
        (
            any::<bool>(),
            0u8..128,
            any::<u16>(),
            any::<u32>(),
            any::<u32>(),
        )
            .prop_map(
                |(marker, payload_type, sequence, timestamp, ssrc)| RtpHeader {
                    marker,
                    payload_type,
                    sequence,
                    timestamp: RtpTimestamp(timestamp),
                    ssrc,
                },
            )
    }

    proptest! {
        #[test]
        fn every_packet_survives_the_round_trip(header in header(), payload in prop::collection::vec(any::<u8>(), 1..MAX_PAYLOAD_BYTES)) {
            let packet = RtpPacket { header, payload: &payload };
            let mut bytes = [0; MAX_PACKET_BYTES];
            let len = packet.write(&mut bytes).unwrap();
            prop_assert_eq!(len, payload.len() + HEADER_BYTES);
            prop_assert_eq!(RtpPacket::parse(&bytes[..len]).unwrap(), packet);
        }

        #[test]
        fn garbage_never_panics_and_never_yields_more_than_it_holds(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
            if let Ok(packet) = RtpPacket::parse(&bytes) {
                prop_assert!(!packet.payload.is_empty());
                prop_assert!(packet.payload.len() + HEADER_BYTES <= bytes.len());
            }
        }

        #[test]
        fn plausible_garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 1..80)) {
            bytes[0] = 0x80 | (bytes[0] & 0x3f);
            let parsed = RtpPacket::parse(&bytes);
            prop_assert!(!matches!(parsed, Err(RtpError::Version(_))));
        }
    }

    /// Version 2, padding, extension, one contributing source, marker, type 111.
    const GOLDEN: [u8; 30] = [
        0xb1, 0xef, 0x12, 0x34, 0, 0, 0x03, 0xc0, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 0xbe, 0xde,
        0, 1, 9, 9, 9, 9, 0xaa, 0xbb, 0xcc, 0, 0, 3,
    ];

    #[test]
    fn everything_a_gateway_may_add_is_skipped() {
        let packet = RtpPacket::parse(&GOLDEN).unwrap();
        assert_eq!(packet.payload, [0xaa, 0xbb, 0xcc]);
        assert!(packet.header.marker);
        assert_eq!(packet.header.payload_type, 111);
        assert_eq!(packet.header.sequence, 0x1234);
        assert_eq!(packet.header.timestamp, RtpTimestamp(960));
        assert_eq!(packet.header.ssrc, 0xdead_beef);
    }

    #[test]
    fn every_prefix_of_a_packet_is_refused() {
        for len in 0..24 {
            assert!(RtpPacket::parse(&GOLDEN[..len]).is_err(), "{len} bytes");
        }
        let mut padded = GOLDEN;
        padded[29] = 0;
        assert_eq!(RtpPacket::parse(&padded), Err(RtpError::Padding));
        padded[29] = 7;
        assert_eq!(RtpPacket::parse(&padded), Err(RtpError::Padding));
        padded[29] = 6;
        assert_eq!(RtpPacket::parse(&padded), Err(RtpError::Empty));
    }
}
