//! How datagrams stand in a TCP stream.
//!
//! ```text
//! our tunnel:     preface, then RFC 4571 section 2:   | u16 length | datagram … |
//! TURN over TCP:  RFC 8656 section 2.1 and 12.5:      STUN messages, and ChannelData padded to 4 bytes
//! ```
//! The first byte tells the two apart: a STUN message starts with 0x00 or 0x01, the preface with 0x89.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::demux::CHANNEL_HEADER_LEN;

/// What opens a tunnel: a byte that no STUN message, no text and no TLS record starts with, a name, a line end that
/// careless copying would change, and the version.
pub const PREFACE: [u8; 8] = *b"\x89ahoy\r\n\x01";

/// Longest datagram in a tunnel, and longest message of TURN over TCP, in bytes: a full Ethernet frame with some slack.
/// Longer ones are nothing of ours.
pub const MAX_FRAME: usize = 2048;

/// Bytes before a datagram (RFC 4571 section 2).
const LENGTH_LEN: usize = 2;
/// A STUN header (RFC 8489 section 5).
const STUN_HEADER_LEN: usize = 20;
/// ChannelData is padded to a multiple of this over TCP (RFC 8656 section 12.5).
const CHANNEL_ALIGNMENT: usize = 4;

/// How a stream is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A length before each datagram.
    Tunnel,
    /// TURN over TCP: STUN messages and ChannelData tell their lengths themselves.
    Turn,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("a packet of {0} bytes")]
    TooLong(usize),
    /// Neither STUN nor ChannelData, where only these are spoken.
    #[error("neither STUN nor ChannelData")]
    NotTurn,
}

impl Framing {
    /// Appends `datagram` to `out` as this framing carries it. False, and nothing appended, when it is longer than
    /// [`MAX_FRAME`] or cannot be told from garbage there.
    pub fn encode(self, datagram: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(length) = u16::try_from(datagram.len())
            .ok()
            .filter(|length| usize::from(*length) <= MAX_FRAME)
        else {
            return false;
        };
        match self {
            Self::Tunnel => {
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(datagram);
            }
            Self::Turn => {
                let Ok(Some(whole)) = turn_length(datagram) else {
                    return false;
                };
                // Whatever padding it came with, over TCP it is exactly as much as it must be.
                let body = datagram.get(..whole.body).unwrap_or(datagram);
                out.extend_from_slice(body);
                out.resize(out.len() + (whole.padded - body.len()), 0);
            }
        }
        true
    }
}

/// Bytes of a message of TURN over TCP, without and with its padding.
#[derive(Debug, Clone, Copy)]
struct TurnLength {
    body: usize,
    padded: usize,
}

/// `None`: not enough has arrived to tell.
fn turn_length(bytes: &[u8]) -> Result<Option<TurnLength>, FrameError> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let is_stun = match first {
        0x00..=0x03 => true,
        // RFC 8656 ends at 0x4f; clients of RFC 5766 go up to 0x7f.
        0x40..=0x7f => false,
        _neither => return Err(FrameError::NotTurn),
    };
    let Some([_, _, high, low]) = bytes.first_chunk::<CHANNEL_HEADER_LEN>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (body, padded) = if is_stun {
        (STUN_HEADER_LEN + length, STUN_HEADER_LEN + length)
    } else {
        let body = CHANNEL_HEADER_LEN + length;
        (body, body.next_multiple_of(CHANNEL_ALIGNMENT))
    };
    if padded > MAX_FRAME {
        return Err(FrameError::TooLong(padded));
    }
    Ok(Some(TurnLength { body, padded }))
}

/// Finds the datagrams in a stream. It holds what has arrived and was not taken yet; whoever feeds it takes all
/// whole datagrams first, so that this is less than one frame.
#[derive(Debug)]
pub struct Deframer {
    framing: Framing,
    buffer: Vec<u8>,
    /// Taken bytes at the start of `buffer`.
    taken: usize,
}

impl Deframer {
    /// A stream that begins here.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Adds what has arrived.
    pub fn input(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole datagram. Empty ones are skipped: they only keep a connection open.
    ///
    /// # Errors
    /// When the stream is not what it should be; nothing in it can be found any more.
    pub fn next_datagram(&mut self) -> Result<Option<&[u8]>, FrameError> {
        loop {
            let rest = self.buffer.get(self.taken..).unwrap_or_default();
            let (skip, body, whole) = match self.framing {
                Framing::Tunnel => {
                    let Some(header) = rest.first_chunk::<LENGTH_LEN>() else {
                        return Ok(None);
                    };
                    let length = usize::from(u16::from_be_bytes(*header));
                    if length > MAX_FRAME {
                        return Err(FrameError::TooLong(length));
                    }
                    (LENGTH_LEN, length, LENGTH_LEN + length)
                }
                Framing::Turn => match turn_length(rest)? {
                    Some(length) => (0, length.body, length.padded),
                    None => return Ok(None),
                },
            };
            if rest.len() < whole {
                return Ok(None);
            }
            let start = self.taken + skip;
            self.taken += whole;
            if body > 0 {
                return Ok(self.buffer.get(start..start + body));
            }
        }
    }

    /// Whether a datagram has begun to arrive and is not whole.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.taken < self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn read_all(framing: Framing, stream: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut deframer = Deframer::new(framing);
        let mut found = Vec::new();
        for part in stream.chunks(chunk.max(1)) {
            deframer.input(part);
            while let Some(datagram) = deframer.next_datagram()? {
                found.push(datagram.to_vec());
            }
            assert!(deframer.buffer.len() <= MAX_FRAME + LENGTH_LEN + chunk);
        }
        Ok(found)
    }

    fn stun(attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap();
        let mut message = vec![0, 1];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&[0x21; 16]);
        message.extend_from_slice(attributes);
        message
    }

    fn channel_data(data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap();
        let mut message = crate::demux::channel_header(0x4001, length).to_vec();
        message.extend_from_slice(data);
        message
    }

    #[test]
    fn the_preface_is_nothing_else() {
        assert_eq!(PREFACE.len(), 8);
        assert_eq!(turn_length(&PREFACE).unwrap_err(), FrameError::NotTurn);
        // A TLS record, HTTP/2 and SSH.
        for other in [b"\x16\x03\x01\x02\x00", b"PRI *", b"SSH-2"] {
            assert!(!PREFACE.starts_with(&other[..1]));
            assert!(turn_length(other).is_err());
        }
        // HTTP looks like ChannelData at first, of a length that is never reached.
        assert!(matches!(
            turn_length(b"GET / HTTP/1.1"),
            Err(FrameError::TooLong(_))
        ));
    }

    #[test]
    fn a_frame_has_these_bytes() {
        let mut out = Vec::new();
        assert!(Framing::Tunnel.encode(b"ahoy", &mut out));
        assert_eq!(out, b"\x00\x04ahoy");
        let mut out = Vec::new();
        assert!(Framing::Turn.encode(&channel_data(b"ahoy!"), &mut out));
        assert_eq!(out, b"\x40\x01\x00\x05ahoy!\0\0\0");
        let mut out = Vec::new();
        assert!(!Framing::Turn.encode(b"\xc0 QUIC", &mut out));
        assert!(!Framing::Tunnel.encode(&[0; MAX_FRAME + 1], &mut out));
        assert!(out.is_empty());
    }

    #[test]
    fn too_long_is_an_error_as_soon_as_it_is_announced() {
        let mut deframer = Deframer::new(Framing::Tunnel);
        deframer.input(&[0xff, 0xff]);
        assert_eq!(deframer.next_datagram(), Err(FrameError::TooLong(0xffff)));
        let mut deframer = Deframer::new(Framing::Turn);
        deframer.input(&[0, 1, 0xff, 0xf0]);
        assert!(deframer.next_datagram().is_err());
    }

    proptest! {
        #[test]
        fn datagrams_survive_any_cutting(
            datagrams in vec(vec(any::<u8>(), 1..MAX_FRAME), 0..12),
            chunk in 1usize..5000,
        ) {
            let mut stream = Vec::new();
            for datagram in &datagrams {
                prop_assert!(Framing::Tunnel.encode(datagram, &mut stream));
                // A null packet between them changes nothing.
                stream.extend_from_slice(&[0, 0]);
            }
            prop_assert_eq!(read_all(Framing::Tunnel, &stream, chunk).unwrap(), datagrams);
        }

        #[test]
        fn turn_messages_survive_any_cutting(
            bodies in vec((any::<bool>(), vec(any::<u8>(), 0..600)), 0..12),
            chunk in 1usize..2000,
        ) {
            let messages: Vec<_> = bodies
                .iter()
                .map(|(is_stun, body)| if *is_stun { stun(body) } else { channel_data(body) })
                .collect();
            let mut stream = Vec::new();
            for message in &messages {
                prop_assert!(Framing::Turn.encode(message, &mut stream));
            }
            prop_assert_eq!(read_all(Framing::Turn, &stream, chunk).unwrap(), messages);
        }

        #[test]
        fn garbage_never_panics_nor_piles_up(
            stream in vec(any::<u8>(), 0..8000),
            chunk in 1usize..3000,
            turn: bool,
        ) {
            let framing = if turn { Framing::Turn } else { Framing::Tunnel };
            if let Ok(found) = read_all(framing, &stream, chunk) {
                for datagram in found {
                    let mut out = Vec::new();
                    prop_assert!(framing.encode(&datagram, &mut out));
                }
            }
        }
    }
}
