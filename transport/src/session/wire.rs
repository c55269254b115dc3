//! Messages of a session on its control stream, one such stream per connection.
//!
//! ```text
//!  | ver=1 | type | ...
//!  1 Hello   | number (u32) | next (varint) | has root (u8, 0 or 1) | root (u32, if so) |
//!  2 Control | sequence (varint) | bytes ... |
//!  3 Ack     | next (varint) |
//!  4 Root    | number (u32) |
//! ```
//!
//! *Hello* is the first message each way: which connection of the session this is, and the acknowledgement.
//! *Next* acknowledges all control messages before it. *Root* names the connection whose exporter is mixed into
//! the keys of later ones; only the caller chooses it.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;

use crate::wire::{Reader, WireError, Writer};

/// Longest control message, in bytes.
pub const MAX_CONTROL_MESSAGE: usize = 16 * 1024;

/// Longest message on the control stream: a control message and its head.
pub(crate) const MAX_FRAME: usize = MAX_CONTROL_MESSAGE + 10;

const VERSION: u8 = 1;

/// A message on the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello {
        number: u32,
        next: u64,
        root: Option<u32>,
    },
    Control {
        sequence: u64,
        bytes: Bytes,
    },
    Ack {
        next: u64,
    },
    Root {
        number: u32,
    },
}

impl Frame {
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let frame = match reader.u8()? {
            1 => Self::Hello {
                number: reader.u32()?,
                next: reader.varint()?,
                root: match reader.u8()? {
                    0 => None,
                    1 => Some(reader.u32()?),
                    _undefined => return Err(WireError::Undefined),
                },
            },
            2 => {
                let sequence = reader.varint()?;
                if reader.remaining() > MAX_CONTROL_MESSAGE {
                    return Err(WireError::TooLong);
                }
                let bytes = bytes.slice(bytes.len() - reader.remaining()..);
                return Ok(Self::Control { sequence, bytes });
            }
            3 => Self::Ack {
                next: reader.varint()?,
            },
            4 => Self::Root {
                number: reader.u32()?,
            },
            _undefined => return Err(WireError::Undefined),
        };
        reader.finish()?;
        Ok(frame)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        match self {
            Self::Hello { number, next, root } => {
                out.put_u8(1);
                out.put_u32(*number);
                out.put_varint(*next);
                out.put_u8(u8::from(root.is_some()));
                if let Some(root) = root {
                    out.put_u32(*root);
                }
            }
            Self::Control { sequence, bytes } => {
                out.put_u8(2);
                out.put_varint(*sequence);
                out.put_bytes(bytes);
            }
            Self::Ack { next } => {
                out.put_u8(3);
                out.put_varint(*next);
            }
            Self::Root { number } => {
                out.put_u8(4);
                out.put_u32(*number);
            }
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VARINT_END: u64 = 1 << 62;

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            (any::<u32>(), 0..VARINT_END, any::<Option<u32>>())
                .prop_map(|(number, next, root)| Frame::Hello { number, next, root }),
            (0..VARINT_END, prop::collection::vec(any::<u8>(), 0..100)).prop_map(
                |(sequence, bytes)| Frame::Control {
                    sequence,
                    bytes: bytes.into()
                }
            ),
            (0..VARINT_END).prop_map(|next| Frame::Ack { next }),
            any::<u32>().prop_map(|number| Frame::Root { number }),
        ]
    }

    proptest! {
        #[test]
        fn frames_round_trip(frame in frame()) {
            prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            drop(Frame::decode(&bytes.into()));
        }
    }

    #[test]
    fn the_longest_control_message_fits_a_frame() {
        let bytes = Bytes::from(vec![0; MAX_CONTROL_MESSAGE]);
        let frame = Frame::Control {
            sequence: VARINT_END - 1,
            bytes,
        };
        assert!(frame.encode().len() <= MAX_FRAME);
    }
}
