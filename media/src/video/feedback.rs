//! What the receiver of pictures asks of their sender.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  V=0  |0 0 0|K|  first missing packet         | those behind  :
//! :  it, bit by bit | ... more of these four bytes
//! ```
//!
//! * `K`: only a key frame helps (PLI, RFC 4585 section 6.3.1).
//! * Packets are missing by their RTP sequence number: one, and of the sixteen behind it those whose bits are set, the
//!   lowest bit for the next (generic NACK, RFC 4585 section 6.2.1).
//!
//! Flags that are not known are ignored. It travels as media does, so it may be lost and come twice: who asks asks
//! again, and an answer that is under way is not sent twice.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

const VERSION: u8 = 0;
const KEY: u8 = 0x01;

/// Packets that one message can ask for at most: of 200 entries, each with 17.
const MAX_ENTRIES: usize = 200;

/// Bytes of the longest message.
pub const MAX_BYTES: usize = 1 + 4 * MAX_ENTRIES;

/// A message to the sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Feedback {
    /// Sequence numbers of packets to send again.
    pub missing: Vec<u16>,
    /// Only a key frame helps.
    pub key_frame: bool,
}

/// Why bytes are no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedbackError {
    /// They end in the middle of something.
    #[error("the request is cut short")]
    Truncated,
    /// They are of a later version.
    #[error("version {0} of requests is not known")]
    Version(u8),
    /// They are longer than [`MAX_BYTES`].
    #[error("the request is too long")]
    TooLong,
}

impl Feedback {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && !self.key_frame
    }

    /// As messages of at most [`MAX_BYTES`]; none if it asks for nothing. Best with numbers in ascending order.
    #[must_use]
    pub fn encode(&self) -> Vec<Vec<u8>> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut entries: Vec<(u16, u16)> = Vec::new();
        for sequence in &self.missing {
            let behind = entries
                .last()
                .map(|(first, _)| sequence.wrapping_sub(*first));
            match (behind, entries.last_mut()) {
                (Some(0), _) => {}
                (Some(behind @ 1..=16), Some((_, bits))) => *bits |= 1 << (behind - 1),
                _ => entries.push((*sequence, 0)),
            }
        }
        let message = |entries: &[(u16, u16)], flags: u8| {
            let mut bytes = vec![VERSION << 4 | flags];
            for (first, bits) in entries {
                bytes.extend(first.to_be_bytes());
                bytes.extend(bits.to_be_bytes());
            }
            bytes
        };
        let flags = if self.key_frame { KEY } else { 0 };
        if entries.is_empty() {
            return vec![message(&[], flags)];
        }
        let parts = entries.chunks(MAX_ENTRIES);
        parts
            .enumerate()
            .map(|(n, part)| message(part, if n == 0 { flags } else { 0 }))
            .collect()
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`FeedbackError`] says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FeedbackError> {
        if bytes.len() > MAX_BYTES {
            return Err(FeedbackError::TooLong);
        }
        let (head, rest) = bytes.split_first().ok_or(FeedbackError::Truncated)?;
        if head >> 4 != VERSION {
            return Err(FeedbackError::Version(head >> 4));
        }
        let (entries, odd) = rest.as_chunks::<4>();
        if !odd.is_empty() {
            return Err(FeedbackError::Truncated);
        }
        let mut missing = Vec::new();
        for [a, b, c, d] in entries {
            let (first, bits) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            missing.push(first);
            let behind = (0..16).filter(|bit| bits >> bit & 1 == 1);
            missing.extend(behind.map(|bit| first.wrapping_add(bit + 1)));
        }
        Ok(Self {
            missing,
            key_frame: head & KEY != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_asked_for_is_read_again(
            start: u16,
            steps in prop::collection::vec(1u16..60, 0..600),
            key_frame: bool,
        ) {
            let mut at = start;
            let missing: Vec<u16> = steps.iter().map(|step| { at = at.wrapping_add(*step); at }).collect();
            let feedback = Feedback { missing, key_frame };
            let messages = feedback.encode();
            prop_assert_eq!(messages.is_empty(), feedback.is_empty());
            let mut read = Feedback::default();
            for message in messages {
                prop_assert!(message.len() <= MAX_BYTES);
                let part = Feedback::decode(&message).unwrap();
                read.missing.extend(part.missing);
                read.key_frame |= part.key_frame;
            }
            prop_assert_eq!(read, feedback);
        }

        #[test]
        fn garbage_is_refused_or_read_without_a_panic(bytes: Vec<u8>) {
            if let Ok(feedback) = Feedback::decode(&bytes) {
                prop_assert!(feedback.missing.len() <= 17 * MAX_ENTRIES);
            }
        }
    }

    #[test]
    fn the_bytes_stay_as_they_are() {
        let feedback = Feedback {
            missing: vec![65_535, 0, 15, 16],
            key_frame: true,
        };
        assert_eq!(
            feedback.encode(),
            [[1, 0xff, 0xff, 0x80, 0x01, 0, 16, 0, 0]]
        );
        let later = Feedback::decode(&[0x0f]).unwrap();
        assert!(later.key_frame, "flags of later versions are ignored");
        assert_eq!(Feedback::decode(&[0x10]), Err(FeedbackError::Version(1)));
        assert_eq!(Feedback::decode(&[]), Err(FeedbackError::Truncated));
        assert_eq!(Feedback::decode(&[0, 1]), Err(FeedbackError::Truncated));
    }
}
