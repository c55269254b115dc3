//! Reading and writing bytes that peers control.
//!
//! [`Reader`] never panics and never allocates more than the input holds. Integers are big-endian; lengths
//! are QUIC varints (RFC 9000 section 16) and bounded by the caller.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Why a message from a peer could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ended inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// Bytes were left after the last field.
    #[error("the message has bytes after its last field")]
    TrailingBytes,
    /// A field is longer than its bound.
    #[error("a field is longer than its bound")]
    TooLong,
    /// A field holds a value that this version does not define.
    #[error("a field holds an undefined value")]
    Undefined,
    /// The message has a version that this program does not speak.
    #[error("format version {0} is not supported")]
    Version(u8),
}

impl WireError {
    /// What it comes to for whoever reads something that has a version: made by a `newer` program, or `malformed`.
    pub fn by_version<T>(
        self,
        newer: impl FnOnce(u8) -> T,
        malformed: impl FnOnce(Self) -> T,
    ) -> T {
        match self {
            Self::Version(version) => newer(version),
            Self::Truncated | Self::TrailingBytes | Self::TooLong | Self::Undefined => {
                malformed(self)
            }
        }
    }
}

/// A cursor over received bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when fewer are left.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`] at the end.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`] at the end.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`] at the end.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A QUIC varint, 0 to 2^62 - 1, in its shortest spelling: messages that are signed or compared have one only.
    ///
    /// # Errors
    /// [`WireError::Truncated`] at the end, [`WireError::Undefined`] for a longer spelling.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let first = *self.rest.first().ok_or(WireError::Truncated)?;
        let (value, least) = match first >> 6 {
            0 => (u64::from(self.u8()? & 0x3f), 0),
            1 => (u64::from(self.u16()? & 0x3fff), 0x40),
            2 => (u64::from(self.u32()? & 0x3fff_ffff), 0x4000),
            _ => (self.u64()? & 0x3fff_ffff_ffff_ffff, 0x4000_0000),
        };
        if value < least {
            return Err(WireError::Undefined);
        }
        Ok(value)
    }

    /// A varint length followed by that many bytes, at most `max`.
    ///
    /// # Errors
    /// [`WireError::TooLong`] above `max`, [`WireError::Truncated`] at the end.
    pub fn var_bytes(&mut self, max: usize) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(self.varint()?).map_err(|_too_large| WireError::TooLong)?;
        if len > max {
            return Err(WireError::TooLong);
        }
        self.bytes(len)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`WireError::TrailingBytes`] when bytes are left.
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::TrailingBytes)
        }
    }
}

/// Writing the counterpart of [`Reader`]'s fields to the end of a buffer.
pub trait Writer {
    /// Bytes as they are.
    fn put_bytes(&mut self, bytes: &[u8]);

    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put_bytes(&[value]);
    }

    /// Two bytes, big-endian.
    fn put_u16(&mut self, value: u16) {
        self.put_bytes(&value.to_be_bytes());
    }

    /// Four bytes, big-endian.
    fn put_u32(&mut self, value: u32) {
        self.put_bytes(&value.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    fn put_u64(&mut self, value: u64) {
        self.put_bytes(&value.to_be_bytes());
    }

    /// A QUIC varint in its shortest form.
    ///
    /// # Panics
    /// When `value` is 2^62 or more: our own bug, no peer reaches it.
    fn put_varint(&mut self, value: u64) {
        match value {
            0..=0x3f => self.put_u8(value.to_be_bytes()[7]),
            0x40..=0x3fff => {
                let [.., high, low] = value.to_be_bytes();
                self.put_bytes(&[high | 0x40, low]);
            }
            0x4000..=0x3fff_ffff => {
                let [.., a, b, c, d] = value.to_be_bytes();
                self.put_bytes(&[a | 0x80, b, c, d]);
            }
            0x4000_0000..=0x3fff_ffff_ffff_ffff => self.put_u64(value | 0xc000_0000_0000_0000),
            0x4000_0000_0000_0000.. => panic!("a varint ends at 2^62 - 1"),
        }
    }

    /// A varint length and the bytes.
    fn put_var_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put_bytes(bytes);
    }
}

impl Writer for Vec<u8> {
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_round_trip(value in 0u64..1 << 62) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, max in 0usize..64) {
            let mut reader = Reader::new(&bytes);
            while let Ok(field) = reader.var_bytes(max) {
                prop_assert!(field.len() <= max);
            }
        }
    }

    #[test]
    fn a_varint_has_one_spelling() {
        for long in [
            &[0x40, 0x3f][..],
            &[0x80, 0, 0x3f, 0xff],
            &[0xc0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(Reader::new(long).varint(), Err(WireError::Undefined));
        }
        assert_eq!(Reader::new(&[0x40, 0x40]).varint(), Ok(0x40));
    }

    #[test]
    fn lengths_above_the_bound_are_refused_before_reading() {
        let mut bytes = Vec::new();
        bytes.put_var_bytes(&[7; 10]);
        assert_eq!(Reader::new(&bytes).var_bytes(9), Err(WireError::TooLong));
        assert_eq!(Reader::new(&bytes).var_bytes(10), Ok(&[7; 10][..]));
    }
}
