//! Parity for the packets of one frame, by Reed-Solomon: of `count` packets and `parity` more, any `count` make the frame.
//!
//! Behind the RTP header and the descriptor of the frame, whose index counts the packets of parity here, stands:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | first sequence number         |0|payload type |parity packets :
//! : of the frame  | shard, an even number of bytes ...
//! ```
//!
//! A packet's shard is the length of its payload in two bytes, the payload, and zeros up to the length of the longest.
//! The shards of parity are those of `reed-solomon-simd` 3 for `count` originals. Packets of parity have sequence
//! numbers of their own, which mean nothing: nobody asks for them again.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::{
    DESCRIPTOR_BYTES, Descriptor, MAX_PACKETS_PER_FRAME, OutgoingPacket, PacketError, VideoPacket,
};
use crate::{
    packet::rtp::{RtpHeader, RtpPacket},
    time::RtpTimestamp,
};

/// RTP payload type of parity for pictures.
pub const PAYLOAD_TYPE: u8 = 116;

/// Bytes between the descriptor and the shard.
const HEAD_BYTES: usize = 5;

/// Bytes of a shard that are not the packet's payload: its length, and one to make it even.
const LENGTH_BYTES: usize = 2;

/// What parity needs around a payload more than the packet itself: payloads are so much shorter than what fits.
pub const ROOM_BYTES: usize = HEAD_BYTES + LENGTH_BYTES + 1;

/// A parsed packet of parity that borrows its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityPacket<'a> {
    /// Of the stream that it belongs to.
    pub ssrc: u32,
    /// Of the frame.
    pub timestamp: RtpTimestamp,
    /// Of the frame; the index is this packet's among those of parity.
    pub descriptor: Descriptor,
    /// Of the frame's first packet.
    pub first_sequence: u16,
    /// Of the frame's packets.
    pub payload_type: u8,
    /// How many packets of parity there are, from 1 to [`most_parity`].
    pub parity: u16,
    /// An even number of bytes.
    pub shard: &'a [u8],
}

impl<'a> ParityPacket<'a> {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`PacketError`] says what is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let RtpPacket { header, payload } = RtpPacket::parse(bytes)?;
        let (descriptor, rest) = payload
            .split_first_chunk::<DESCRIPTOR_BYTES>()
            .ok_or(PacketError::Truncated)?;
        let (head, shard) = rest
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(PacketError::Truncated)?;
        let descriptor = Descriptor::parse(*descriptor)?;
        let [s0, s1, payload_type, p0, p1] = *head;
        let parity = u16::from_be_bytes([p0, p1]);
        let is_valid = header.payload_type == PAYLOAD_TYPE
            && payload_type < 0x80
            && descriptor.index < parity
            && parity <= most_parity(descriptor.count)
            && shard.len() > LENGTH_BYTES
            && shard.len().is_multiple_of(2);
        if !is_valid {
            return Err(PacketError::Descriptor);
        }
        Ok(Self {
            ssrc: header.ssrc,
            timestamp: header.timestamp,
            descriptor,
            first_sequence: u16::from_be_bytes([s0, s1]),
            payload_type,
            parity,
            shard,
        })
    }
}

fn shard(body: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut shard = Vec::with_capacity(len);
    shard.extend(u16::try_from(body.len()).ok()?.to_be_bytes());
    shard.extend_from_slice(body);
    (shard.len() <= len).then(|| {
        shard.resize(len, 0);
        shard
    })
}

fn shard_len(longest: usize) -> usize {
    (longest + LENGTH_BYTES).next_multiple_of(2)
}

/// As many as the frame has packets, and two more: of a frame of one packet and its copy, 4 in 100 are lost where 20 % is.
#[must_use]
pub fn most_parity(count: u16) -> u16 {
    count.saturating_add(2)
}

/// `parity` packets, at most [`most_parity`], for all the packets of one frame; the first has `sequence`. `None` if
/// these are not that.
#[must_use]
pub fn protect(
    packets: &[OutgoingPacket],
    parity: u16,
    sequence: u16,
) -> Option<Vec<OutgoingPacket>> {
    let count = u16::try_from(packets.len())
        .ok()
        .filter(|count| *count <= MAX_PACKETS_PER_FRAME)?;
    let parity = parity.min(most_parity(count));
    let parsed: Option<Vec<VideoPacket<'_>>> = packets
        .iter()
        .map(|packet| VideoPacket::parse(&packet.bytes).ok())
        .collect();
    let parsed = parsed?;
    let first = parsed.first()?;
    if parity == 0 || first.descriptor.count != count {
        return None;
    }
    let len = shard_len(parsed.iter().map(|packet| packet.body.len()).max()?);
    let mut encoder = ReedSolomonEncoder::new(count.into(), parity.into(), len).ok()?;
    for packet in &parsed {
        encoder.add_original_shard(shard(packet.body, len)?).ok()?;
    }
    let encoded = encoder.encode().ok()?;
    let mut out = Vec::with_capacity(parity.into());
    for (index, shard) in (0..parity).zip(encoded.recovery_iter()) {
        let header = RtpHeader {
            marker: index + 1 == parity,
            payload_type: PAYLOAD_TYPE,
            sequence: sequence.wrapping_add(index),
            ..first.header
        };
        let descriptor = Descriptor {
            index,
            ..first.descriptor
        };
        let [s0, s1] = first.header.sequence.to_be_bytes();
        let [p0, p1] = parity.to_be_bytes();
        let mut bytes = header.to_bytes().ok()?.to_vec();
        bytes.extend(descriptor.to_bytes());
        bytes.extend([s0, s1, first.header.payload_type, p0, p1]);
        bytes.extend_from_slice(shard);
        out.push(OutgoingPacket {
            sequence: header.sequence,
            bytes,
        });
    }
    Some(out)
}

/// The payloads that are missing of a frame of `count` packets with `parity` of parity: by their index. `None` if too
/// little is there, or it does not belong together.
#[must_use]
pub fn restore<'a>(
    count: u16,
    parity: u16,
    bodies: impl Iterator<Item = (u16, &'a [u8])>,
    shards: impl Iterator<Item = (u16, &'a [u8])> + Clone,
) -> Option<Vec<(u16, Vec<u8>)>> {
    let len = shards.clone().map(|(_, shard)| shard.len()).max()?;
    let mut decoder = ReedSolomonDecoder::new(count.into(), parity.into(), len).ok()?;
    for (index, body) in bodies {
        decoder
            .add_original_shard(index.into(), shard(body, len)?)
            .ok()?;
    }
    for (index, shard) in shards {
        decoder.add_recovery_shard(index.into(), shard).ok()?;
    }
    let decoded = decoder.decode().ok()?;
    let mut restored = Vec::new();
    for (index, shard) in decoded.restored_original_iter() {
        let (body_len, rest) = shard.split_first_chunk::<LENGTH_BYTES>()?;
        let body = rest
            .get(..usize::from(u16::from_be_bytes(*body_len)))
            .filter(|body| !body.is_empty())?;
        restored.push((u16::try_from(index).ok()?, body.to_vec()));
    }
    Some(restored)
}
