//! Files between contacts: each piece is verified before it is written, and may come from whoever has it.
//!
//! A file is named by the root of its BLAKE3 hash. Its tree ([`tree`]) is cut into *nodes* of at most 64 KiB: pieces of
//! the file, pages with the hashes of 2048 pieces each, and for files over 128 MiB one node with the hashes of the pages.
//! Each node is verified alone, once the one above it is known, so that any of several sources may send it, and who sends
//! a false one is known at once. BLAKE3's own subtree hashes (`blake3::hazmat`) suffice for that; `bao-tree` would send a
//! proof with each range, and bring more crates.
//!
//! Six parts know nothing of network, disk or clock: [`tree`], [`wire`] (what two devices say to each other), [`fetch`]
//! (what is asked of which source), [`serve`] (what is sent next), [`beside`] (how fast, where a call goes on) and [`name`]
//! (what a file from somebody else may be called). [`part`] is the file on the disk while it is not complete, [`book`] what outlives the program. The engine
//! carries them.
//!
//! **Who gets what.** An offer travels sealed in a letter, with a random *capability*. Whoever asks for a file shows a
//! [`wire::Tag`] derived from the capability and both devices, so that nobody can find out who has which file without
//! having been sent it, nor replay somebody else's question. Only contacts, and one's own devices, are answered at all.
//!
//! **By which way.** Datagrams of the session, in the class below everything else: one queue, one pacer and one estimate
//! for all that two devices send each other, so that a file can neither overtake sound nor fill the line without the
//! estimate seeing it, and moves with the call when a path dies. A stream of QUIC, or a connection of its own, would
//! compete with the media that it must yield to. What is lost is asked for again.

use std::{fmt, str::FromStr};

use ahoy_transport::wire::{Reader, WireError, Writer};

pub mod beside;
pub mod book;
pub mod fetch;
pub mod name;
pub mod part;
pub mod serve;
pub mod tree;
pub mod trouble;
pub mod wire;

pub use tree::Root;

/// Largest file, in bytes: its hashes take 8 MiB.
pub const MAX_SIZE: u64 = 16 << 30;
/// Longest name in an offer, in bytes.
pub const MAX_NAME: usize = 255;
/// Longest media kind in an offer, in bytes: RFC 6838 allows 127 for each half.
pub const MAX_KIND: usize = 255;

/// Lets its holder ask for one file. Made by whoever sends the file first; whoever was sent it has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Capability(pub [u8; 32]);

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capability(..)")
    }
}

/// Names a transfer at this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub [u8; 16]);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z32::encode(&self.0))
    }
}

impl FromStr for TransferId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = z32::decode(text.as_bytes()).map_err(drop)?;
        bytes.try_into().map(Self).map_err(drop)
    }
}

/// What somebody offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOffer {
    /// The file.
    pub root: Root,
    /// Its size in bytes, at most [`MAX_SIZE`].
    pub size: u64,
    /// What its sender calls it: not to be shown nor used before [`name::harmless`].
    pub name: String,
    /// What kind of media its sender thinks it is, such as `image/png`; may be empty. Never acted upon.
    pub kind: String,
    /// Lets the reader ask for it.
    pub capability: Capability,
}

impl FileOffer {
    /// Writes it: `| root 32 | u64 size | name | kind | capability 32 |`, texts with a varint length.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.root.0);
        out.put_u64(self.size);
        for (text, max) in [(&self.name, MAX_NAME), (&self.kind, MAX_KIND)] {
            let cut = text.floor_char_boundary(max);
            out.put_var_bytes(text.get(..cut).unwrap_or_default().as_bytes());
        }
        out.put_bytes(&self.capability.0);
    }

    /// Reads what [`Self::put`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else, and for a file that is too large.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let root = Root(reader.array()?);
        let size = reader.u64()?;
        if size > MAX_SIZE {
            return Err(WireError::TooLong);
        }
        let mut text = |max| {
            let bytes = reader.var_bytes(max)?;
            str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_not_utf8| WireError::Undefined)
        };
        let (name, kind) = (text(MAX_NAME)?, text(MAX_KIND)?);
        Ok(Self {
            root,
            size,
            name,
            kind,
            capability: Capability(reader.array()?),
        })
    }
}

/// A size as people read it.
#[must_use]
pub fn readable(bytes: u64) -> String {
    match in_unit(bytes) {
        (_, 0) => format!("{bytes} bytes"),
        (value, 1) => format!("{value:.1} kB"),
        (value, 2) => format!("{value:.1} MB"),
        (value, _) => format!("{value:.1} GB"),
    }
}

/// So many bytes in the unit that fits them, and which power of a thousand that is, up to the third.
pub(crate) fn in_unit(bytes: u64) -> (f64, u8) {
    const MOST: u8 = 3;
    let (mut value, mut power) = (bytes as f64, 0);
    while value >= 1000.0 && power < MOST {
        value /= 1000.0;
        power += 1;
    }
    (value, power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(readable(999), "999 bytes");
        assert_eq!(readable(1_500_000), "1.5 MB");
        assert_eq!(readable(12_000_000_000), "12.0 GB");
    }

    proptest! {
        #[test]
        fn offers_are_read_as_written(root: [u8; 32], size in 0..=MAX_SIZE, name in ".{0,60}", kind in ".{0,60}", cap: [u8; 32]) {
            let offer = FileOffer { root: Root(root), size, name, kind, capability: Capability(cap) };
            let mut bytes = Vec::new();
            offer.put(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(FileOffer::read(&mut reader), Ok(offer));
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn ids_are_read_as_written(id: [u8; 16]) {
            prop_assert_eq!(TransferId(id).to_string().parse(), Ok(TransferId(id)));
        }
    }
}
