//! A packet that also carries copies of earlier ones, in the manner of RFC 2198.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | ver=1 | count |     back      |            length             |
//! |               | once more for each copy, `count` in all ...    |
//! | copies, the oldest first ...  | the packet itself ...
//! ```
//!
//! *Back*: how long before this packet's timestamp the copy's lies, in units of 2.5 ms. *Length* in bytes. A copy
//! with `back` 0 is filling: the first packets of a stream have nothing to copy and the same size as the others.
//!
//! Departures from RFC 2198: a version, which lets the format change, in place of the payload type of each block,
//! which is always Opus; three bytes a copy instead of four, and one for the packet itself.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Copies in one packet at most: more than this arrive too late to be played.
pub const MAX_COPIES: usize = 4;

/// Samples in a unit of `back`: 2.5 ms.
pub const BACK_UNIT_SAMPLES: u32 = 120;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1;
const COPY_HEAD_BYTES: usize = 3;

/// Bytes that a packet with so many copies has besides the copies and itself.
#[must_use]
pub const fn overhead_bytes(copies: usize) -> usize {
    HEAD_BYTES + copies * COPY_HEAD_BYTES
}

/// Why bytes are no such packet, or cannot become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedError {
    /// The packet ends before what it announces, or announces nothing to play.
    #[error("the packet ends before what it announces")]
    Truncated,
    /// A later version.
    #[error("redundancy version {0} is not known")]
    Version(u8),
    /// More than [`MAX_COPIES`].
    #[error("{0} copies are too many")]
    Copies(u8),
    /// A copy is too long, or from too long ago, or the packet does not fit.
    #[error("a copy does not fit")]
    DoesNotFit,
}

/// The copy of an earlier packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedCopy<'a> {
    /// How long before, in samples; a multiple of [`BACK_UNIT_SAMPLES`], below 256 of them; 0 is filling.
    pub back_samples: u32,
    /// The earlier payload.
    pub payload: &'a [u8],
}

/// A parsed packet that borrows from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedPacket<'a> {
    copies: [RedCopy<'a>; MAX_COPIES],
    count: usize,
    payload: &'a [u8],
}

impl<'a> RedPacket<'a> {
    /// A packet with the first [`MAX_COPIES`] of `copies`.
    pub fn new(copies: impl IntoIterator<Item = RedCopy<'a>>, payload: &'a [u8]) -> Self {
        let mut this = Self {
            copies: [RedCopy::default(); MAX_COPIES],
            count: 0,
            payload,
        };
        for (place, copy) in this.copies.iter_mut().zip(copies) {
            *place = copy;
            this.count += 1;
        }
        this
    }

    /// The packet's own payload; never empty.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The copies, filling left out.
    pub fn copies(&self) -> impl Iterator<Item = RedCopy<'a>> {
        let all = self.copies.into_iter().take(self.count);
        all.filter(|copy| copy.back_samples > 0 && !copy.payload.is_empty())
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`RedError`] says what is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RedError> {
        let (&head, mut heads) = bytes.split_first().ok_or(RedError::Truncated)?;
        if head >> 4 != VERSION {
            return Err(RedError::Version(head >> 4));
        }
        let count = usize::from(head & 0xf);
        if count > MAX_COPIES {
            return Err(RedError::Copies(head & 0xf));
        }
        let mut rest = heads
            .get(count * COPY_HEAD_BYTES..)
            .ok_or(RedError::Truncated)?;
        let mut copies = [RedCopy::default(); MAX_COPIES];
        for copy in copies.iter_mut().take(count) {
            let (&[back, high, low], more) = heads
                .split_first_chunk::<COPY_HEAD_BYTES>()
                .ok_or(RedError::Truncated)?;
            heads = more;
            let len = usize::from(u16::from_be_bytes([high, low]));
            copy.back_samples = u32::from(back) * BACK_UNIT_SAMPLES;
            (copy.payload, rest) = rest.split_at_checked(len).ok_or(RedError::Truncated)?;
        }
        if rest.is_empty() {
            return Err(RedError::Truncated);
        }
        Ok(Self {
            copies,
            count,
            payload: rest,
        })
    }

    /// Writes the packet to the front of `out` and returns its length in bytes.
    ///
    /// # Errors
    /// [`RedError::DoesNotFit`] or [`RedError::Truncated`]: the caller's mistake.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, RedError> {
        if self.payload.is_empty() {
            return Err(RedError::Truncated);
        }
        let mut written = 0;
        let mut put = |bytes: &[u8]| {
            let end = written + bytes.len();
            let place = out.get_mut(written..end).ok_or(RedError::DoesNotFit)?;
            place.copy_from_slice(bytes);
            written = end;
            Ok(written)
        };
        let count = u8::try_from(self.count).map_err(|_error| RedError::DoesNotFit)?;
        put(&[VERSION << 4 | count])?;
        for copy in self.copies.iter().take(self.count) {
            let units = copy.back_samples / BACK_UNIT_SAMPLES;
            let is_whole = copy.back_samples.is_multiple_of(BACK_UNIT_SAMPLES);
            let back = u8::try_from(units).ok().filter(|_| is_whole);
            let len = u16::try_from(copy.payload.len()).map_err(|_error| RedError::DoesNotFit)?;
            let [high, low] = len.to_be_bytes();
            put(&[back.ok_or(RedError::DoesNotFit)?, high, low])?;
        }
        for copy in self.copies.iter().take(self.count) {
            put(copy.payload)?;
        }
        put(self.payload)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_packet_survives_the_round_trip(
            copies in prop::collection::vec((0u32..256, prop::collection::vec(any::<u8>(), 0..200)), 0..=MAX_COPIES),
            payload in prop::collection::vec(any::<u8>(), 1..300),
        ) {
            let mut packet = RedPacket { copies: [RedCopy::default(); MAX_COPIES], count: copies.len(), payload: &payload };
            for (copy, (units, bytes)) in packet.copies.iter_mut().zip(&copies) {
                *copy = RedCopy { back_samples: units * BACK_UNIT_SAMPLES, payload: bytes };
            }
            let mut bytes = [0; 1200];
            let len = packet.write(&mut bytes).unwrap();
            let total: usize = copies.iter().map(|(_, bytes)| bytes.len() + COPY_HEAD_BYTES).sum();
            prop_assert_eq!(len, HEAD_BYTES + total + payload.len());
            prop_assert_eq!(RedPacket::parse(&bytes[..len]), Ok(packet));
            for end in 0..len - payload.len() + 1 {
                prop_assert_eq!(RedPacket::parse(&bytes[..end]), Err(RedError::Truncated));
            }
        }

        #[test]
        fn garbage_never_panics_and_never_yields_more_than_it_holds(mut bytes in prop::collection::vec(any::<u8>(), 0..300), head in 0u8..32) {
            let check = |bytes: &[u8]| {
                if let Ok(packet) = RedPacket::parse(bytes) {
                    let copies: usize = packet.copies().map(|copy| copy.payload.len() + COPY_HEAD_BYTES).sum();
                    assert!(!packet.payload().is_empty());
                    assert!(copies + packet.payload().len() < bytes.len());
                }
            };
            check(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = head;
            }
            check(&bytes);
        }
    }

    #[test]
    fn golden_bytes() {
        let copy = RedCopy {
            back_samples: 1920,
            payload: &[1, 2],
        };
        let packet = RedPacket::new([copy], &[3, 4, 5]);
        let golden = [0x11, 16, 0, 2, 1, 2, 3, 4, 5];
        let mut bytes = [0; 20];
        assert_eq!(packet.write(&mut bytes), Ok(9));
        assert_eq!(bytes[..9], golden);
        assert_eq!(packet.copies().collect::<Vec<_>>(), [copy]);
        assert_eq!(RedPacket::parse(&[0x21, 0]), Err(RedError::Version(2)));
        assert_eq!(RedPacket::parse(&[0x15; 99]), Err(RedError::Copies(5)));
        let too_old = RedCopy {
            back_samples: 256 * BACK_UNIT_SAMPLES,
            ..copy
        };
        let written = RedPacket::new([too_old], &[3]).write(&mut bytes);
        assert_eq!(written, Err(RedError::DoesNotFit));
    }

    #[test]
    fn filling_is_no_copy() {
        let filling = RedCopy {
            back_samples: 0,
            payload: &[0; 7],
        };
        let mut bytes = [0; 20];
        let len = RedPacket::new([filling], &[3]).write(&mut bytes).unwrap();
        let packet = RedPacket::parse(&bytes[..len]).unwrap();
        assert_eq!((packet.copies().count(), packet.payload()), (0, &[3][..]));
    }
}
