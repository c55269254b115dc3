//! The copy of a packet that travels by itself, between two packets: it is there half a frame sooner than in the next one, and
//! a burst takes it less often together with what it is a copy of, since as many packets lie between them in half the time.
//!
//! ```text
//!  0                   1
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | ver=3 |0 0 0 0|     after     |
//! | the payload once more ...     |
//! ```
//!
//! The RTP header is that of the packet which is copied, but for the payload type of packets with copies. *After*: how long
//! after that packet the copy left, in units of 2.5 ms, which says how long it is worth to wait for one.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::red::BACK_UNIT_SAMPLES;

const VERSION: u8 = 3;
const HEAD_BYTES: usize = 2;

/// Bytes that such a packet has besides the copy.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES;

/// Why bytes are no such packet, or cannot become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApartError {
    /// A later version.
    #[error("version {0} of copies is not known")]
    Version(u8),
    /// There is no copy in it.
    #[error("the packet ends before its copy")]
    Truncated,
    /// The copy is too long, or left too late.
    #[error("a copy does not fit")]
    DoesNotFit,
}

/// A parsed copy that borrows from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApartPacket<'a> {
    /// How long after its packet it left, in samples; a multiple of [`BACK_UNIT_SAMPLES`], from 1 to 255 of them.
    pub after_samples: u32,
    /// The payload; never empty.
    pub payload: &'a [u8],
}

impl<'a> ApartPacket<'a> {
    /// Whether the bytes say that they are such a packet.
    #[must_use]
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|head| head >> 4 == VERSION)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ApartError`] says what is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ApartError> {
        let (&[head, after], payload) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(ApartError::Truncated)?;
        if head != VERSION << 4 {
            return Err(ApartError::Version(head >> 4));
        }
        if payload.is_empty() || after == 0 {
            return Err(ApartError::Truncated);
        }
        Ok(Self {
            after_samples: u32::from(after) * BACK_UNIT_SAMPLES,
            payload,
        })
    }

    /// Writes it, and returns its length.
    ///
    /// # Errors
    /// [`ApartError::DoesNotFit`].
    pub fn write(&self, out: &mut [u8]) -> Result<usize, ApartError> {
        let after = u8::try_from(self.after_samples / BACK_UNIT_SAMPLES)
            .map_err(|_large| ApartError::DoesNotFit)?;
        let len = HEAD_BYTES + self.payload.len();
        let (head, body) = out
            .get_mut(..len)
            .and_then(|out| out.split_first_chunk_mut::<HEAD_BYTES>())
            .ok_or(ApartError::DoesNotFit)?;
        *head = [VERSION << 4, after];
        body.copy_from_slice(self.payload);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_stay_as_they_are() {
        let mut bytes = [0; 8];
        let packet = ApartPacket {
            after_samples: 480,
            payload: &[7, 8],
        };
        assert_eq!(packet.write(&mut bytes), Ok(4));
        assert_eq!(bytes, [0x30, 4, 7, 8, 0, 0, 0, 0]);
        assert_eq!(packet.write(&mut [0; 3]), Err(ApartError::DoesNotFit));
        let late = ApartPacket {
            after_samples: 256 * BACK_UNIT_SAMPLES,
            ..packet
        };
        assert_eq!(late.write(&mut bytes), Err(ApartError::DoesNotFit));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_garbage_is_an_error(
            after in 1_u32..=255,
            payload in prop::collection::vec(any::<u8>(), 1..40),
            garbage in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let packet = ApartPacket { after_samples: after * BACK_UNIT_SAMPLES, payload: &payload };
            let mut bytes = [0; 64];
            let len = packet.write(&mut bytes).unwrap();
            let written = bytes.get(..len).unwrap();
            prop_assert!(ApartPacket::is_meant(written));
            prop_assert_eq!(ApartPacket::parse(written), Ok(packet));
            if let Ok(parsed) = ApartPacket::parse(&garbage) {
                prop_assert!(!parsed.payload.is_empty() && parsed.after_samples > 0);
            }
        }
    }
}
