//! Frames of the handshake on the CRYPTO streams.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+---------------+---------------+
//! |            length             |     kind      |   body ...
//! +-------------------------------+---------------+---------------+
//! ```
//!
//! `length` counts the kind and the body, so it is at least 1. QUIC hands CRYPTO data over in arbitrary
//! pieces (a message with an ML-KEM key always spans packets), hence the length.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::Pattern;
use crate::wire::{Reader, Writer};

/// Longest frame we accept or write, header included, in bytes.
///
/// The longest legal one is message 1 of `IKhfs+psk0`: 3 header, 16 MAC, 32 ephemeral, 1200 ML-KEM key,
/// 48 static, 2 + [`MAX_CREDENTIAL_BYTES`] credential, about 200 transport parameters, 16 tag. The cap is also
/// all that a stranger can make a session buffer.
pub const MAX_FRAME_BYTES: usize = 4096;

/// Longest credential, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 2048;

/// Bytes before the body: length and kind.
pub(super) const HEADER_BYTES: usize = 3;

/// Kind of a Finished frame. Kinds below are the numbers of patterns.
const FINISHED: u8 = 0x20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A Noise message of this pattern.
    Message(Pattern),
    /// Key confirmation.
    Finished,
}

impl FrameKind {
    fn byte(self) -> u8 {
        match self {
            Self::Message(pattern) => pattern.number(),
            Self::Finished => FINISHED,
        }
    }
}

/// One complete frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the body is.
    pub kind: FrameKind,
    /// Everything after the kind.
    pub body: &'a [u8],
    /// Length of the frame, header included, in bytes.
    pub consumed: usize,
}

/// Why bytes cannot become a frame, however many follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// The length is zero or makes the frame longer than [`MAX_FRAME_BYTES`].
    #[error("a handshake frame is empty or longer than its bound")]
    Length,
    /// The kind is not defined.
    #[error("a handshake frame has an undefined kind")]
    Kind,
}

/// Parses the frame at the start of `bytes`; `None` means that more bytes are needed.
///
/// The length and the kind are judged as soon as they are there, so that nobody waits, or buffers, for the
/// rest of a frame that will be refused.
///
/// # Errors
/// [`FrameError`] when no continuation of `bytes` is a frame.
pub fn parse_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let mut reader = Reader::new(bytes);
    let Ok(length) = reader.u16() else {
        return Ok(None);
    };
    let length = usize::from(length);
    if length == 0 || length + 2 > MAX_FRAME_BYTES {
        return Err(FrameError::Length);
    }
    let Ok(kind) = reader.u8() else {
        return Ok(None);
    };
    let kind = match kind {
        FINISHED => FrameKind::Finished,
        number => FrameKind::Message(Pattern::from_number(number).ok_or(FrameError::Kind)?),
    };
    Ok(reader.bytes(length - 1).ok().map(|body| Frame {
        kind,
        body,
        consumed: length + 2,
    }))
}

/// Appends a frame to `out`. `None`, and nothing written, when it would be longer than [`MAX_FRAME_BYTES`].
pub(super) fn write_frame(kind: FrameKind, body: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let body_len: usize = body.iter().map(|part| part.len()).sum();
    if body_len + HEADER_BYTES > MAX_FRAME_BYTES {
        return None;
    }
    out.put_u16(u16::try_from(body_len + 1).ok()?);
    out.put_u8(kind.byte());
    for part in body {
        out.put_bytes(part);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [FrameKind; 4] = [
        FrameKind::Message(Pattern::NkHfs),
        FrameKind::Message(Pattern::IkHfs),
        FrameKind::Message(Pattern::IkHfsPsk0),
        FrameKind::Finished,
    ];

    proptest! {
        #[test]
        fn frames_round_trip_and_leave_what_follows(
            kind in proptest::sample::select(KINDS.to_vec()),
            body in proptest::collection::vec(any::<u8>(), 0..MAX_FRAME_BYTES - HEADER_BYTES),
            after in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut bytes = Vec::new();
            write_frame(kind, &[&body], &mut bytes).unwrap();
            let end = bytes.len();
            bytes.extend(&after);
            prop_assert_eq!(
                parse_frame(&bytes),
                Ok(Some(Frame { kind, body: &body, consumed: end }))
            );
            for cut in [0, 1, 2, end - 1] {
                prop_assert_eq!(parse_frame(bytes.get(..cut).unwrap()), Ok(None));
            }
        }

        #[test]
        fn garbage_never_panics_and_never_exceeds_the_bound(bytes: Vec<u8>) {
            if let Ok(Some(frame)) = parse_frame(&bytes) {
                prop_assert!(frame.consumed <= MAX_FRAME_BYTES && frame.consumed <= bytes.len());
            }
        }
    }

    #[test]
    fn a_bad_length_or_kind_is_refused_before_the_body_arrives() {
        assert_eq!(parse_frame(&[0, 0]), Err(FrameError::Length));
        assert_eq!(parse_frame(&[0xff, 0xff]), Err(FrameError::Length));
        assert_eq!(parse_frame(&[0x0f, 0xff]), Err(FrameError::Length));
        assert_eq!(parse_frame(&[0x0f, 0xfe]), Ok(None));
        assert_eq!(parse_frame(&[0, 9, 0]), Err(FrameError::Kind));
        assert_eq!(parse_frame(&[0, 9, 4]), Err(FrameError::Kind));
        assert_eq!(parse_frame(&[0, 9, 0x21]), Err(FrameError::Kind));
    }

    #[test]
    fn a_body_above_the_bound_is_not_written() {
        let mut out = Vec::new();
        assert_eq!(
            write_frame(FrameKind::Finished, &[&[0; MAX_FRAME_BYTES]], &mut out),
            None
        );
        assert!(out.is_empty());
    }
}
