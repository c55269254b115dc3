//! Telling apart what shares the one UDP port: STUN, TURN ChannelData and QUIC (RFC 7983, RFC 9443).
//!
//! The first byte decides, the source address settles the one overlap, and the second byte makes the
//! settlement exact:
//!
//! ```text
//!  first byte     second byte  source                     is
//!  0x00..=0x03    any          any                        STUN (RFC 8489)
//!  0x40..=0x4f    < 0x80       speaks TURN with us        ChannelData (RFC 8656 section 12.4)
//!  everything else                                        QUIC
//! ```
//!
//! A QUIC short header also starts with 0x40..=0x7f, and a supernode speaks QUIC and TURN to us from one
//! address. Its second byte is the first byte of a connection id of ours, and our generator
//! ([`ConnectionIds`](crate::mux::ConnectionIds)) makes that byte 0x80 or more. The second byte of ChannelData
//! is the low byte of the channel, and our TURN client binds only channels whose low byte is below 0x80
//! ([`is_usable_channel`]). So no packet fits both lines.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Bytes before the data of a ChannelData message: channel number and length.
pub const CHANNEL_HEADER_LEN: usize = 4;

/// First byte of every connection id of ours, or more.
pub const CONNECTION_ID_FIRST_BYTE_MIN: u8 = 0x80;

/// Most padding that RFC 8656 section 12.5 allows behind the data of a ChannelData message.
const MAX_CHANNEL_PADDING: usize = 3;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// STUN, TURN control included.
    Stun,
    /// TURN ChannelData.
    ChannelData,
    /// QUIC, or garbage that QUIC will discard.
    Quic,
}

/// Says what `datagram` is. `source_speaks_turn`: we have a channel with the sender, as its client or its relay.
#[must_use]
pub fn classify(datagram: &[u8], source_speaks_turn: bool) -> Kind {
    match datagram {
        [0x00..=0x03, ..] => Kind::Stun,
        [0x40..=0x4f, second, ..]
            if source_speaks_turn && *second < CONNECTION_ID_FIRST_BYTE_MIN =>
        {
            Kind::ChannelData
        }
        _quic => Kind::Quic,
    }
}

/// Whether our TURN client may bind `channel`: within RFC 8656's 0x4000..=0x4fff, and never to be mistaken for a
/// QUIC short header.
#[must_use]
pub fn is_usable_channel(channel: u16) -> bool {
    let [high, low] = channel.to_be_bytes();
    matches!(high, 0x40..=0x4f) && low < CONNECTION_ID_FIRST_BYTE_MIN
}

/// Reads a ChannelData message as UDP carries it: channel number and length of the data that follows the header.
///
/// `None` when the length does not fit the datagram.
#[must_use]
pub fn parse_channel_data(datagram: &[u8]) -> Option<(u16, usize)> {
    let (header, rest) = datagram.split_first_chunk::<CHANNEL_HEADER_LEN>()?;
    let [c0, c1, l0, l1] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let padding = rest.len().checked_sub(len)?;
    (padding <= MAX_CHANNEL_PADDING).then_some((u16::from_be_bytes([c0, c1]), len))
}

/// The four bytes before `len` bytes of data on `channel`. Over UDP no padding follows.
#[must_use]
pub fn channel_header(channel: u16, len: u16) -> [u8; CHANNEL_HEADER_LEN] {
    let [c0, c1] = channel.to_be_bytes();
    let [l0, l1] = len.to_be_bytes();
    [c0, c1, l0, l1]
}

/// Long header packet types of QUIC version 1, which our private version keeps (RFC 9000 section 17.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongType {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

/// The start of a QUIC long header (RFC 9000 section 17.2, RFC 8999).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LongHeader<'a> {
    pub(crate) packet_type: LongType,
    pub(crate) version: u32,
    pub(crate) destination_id: &'a [u8],
    /// Of an Initial; empty otherwise.
    pub(crate) token: &'a [u8],
}

/// Reads the start of a long header. `None`: the datagram ends inside it.
pub(crate) fn parse_long_header(datagram: &[u8]) -> Option<LongHeader<'_>> {
    let mut reader = crate::wire::Reader::new(datagram);
    let packet_type = match reader.u8().ok()? >> 4 & 0x03 {
        0 => LongType::Initial,
        1 => LongType::ZeroRtt,
        2 => LongType::Handshake,
        _ => LongType::Retry,
    };
    let version = reader.u32().ok()?;
    let len = usize::from(reader.u8().ok()?);
    let destination_id = reader.bytes(len).ok()?;
    let len = usize::from(reader.u8().ok()?);
    reader.bytes(len).ok()?;
    let token = match packet_type {
        LongType::Initial => reader.var_bytes(usize::MAX).ok()?,
        LongType::ZeroRtt | LongType::Handshake | LongType::Retry => &[],
    };
    Some(LongHeader {
        packet_type,
        version,
        destination_id,
        token,
    })
}

/// Whether `datagram` starts with a QUIC long header.
pub(crate) fn is_long_header(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stun_is_stun_from_anyone() {
        for first in 0..=3 {
            assert_eq!(classify(&[first, 1], true), Kind::Stun);
            assert_eq!(classify(&[first, 1], false), Kind::Stun);
        }
    }

    #[test]
    fn channel_data_needs_a_turn_source_and_a_low_second_byte() {
        assert_eq!(classify(&[0x40, 0x00, 0, 1, 9], true), Kind::ChannelData);
        assert_eq!(classify(&[0x40, 0x00, 0, 1, 9], false), Kind::Quic);
        assert_eq!(classify(&[0x40, 0x80, 0, 1, 9], true), Kind::Quic);
        assert_eq!(classify(&[0x50, 0x00, 0, 1, 9], true), Kind::Quic);
        assert_eq!(classify(&[0xc0, 0x00], true), Kind::Quic);
        assert_eq!(classify(&[0x40], true), Kind::Quic);
        assert_eq!(classify(&[], true), Kind::Quic);
    }

    proptest! {
        #[test]
        fn a_usable_channel_is_always_channel_data(channel: u16, data in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut datagram = channel_header(channel, u16::try_from(data.len()).unwrap()).to_vec();
            datagram.extend_from_slice(&data);
            if is_usable_channel(channel) {
                prop_assert_eq!(classify(&datagram, true), Kind::ChannelData);
            }
            prop_assert_eq!(parse_channel_data(&datagram), Some((channel, data.len())));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, turn: bool) {
            let kind = classify(&bytes, turn);
            if let Some((_, len)) = parse_channel_data(&bytes) {
                prop_assert!(len + CHANNEL_HEADER_LEN <= bytes.len());
            }
            parse_long_header(&bytes);
            prop_assert!(turn || kind != Kind::ChannelData);
        }
    }
}
