//! What two devices say to each other about files, a datagram each.
//!
//! ```text
//! type 1 want   | 1 | tag 16 | u8 level | u32 index | u64 fragments, a bit each |     no bit: no longer wanted
//!      2 data   | 2 | tag 16 | u8 level | u32 index | u8 fragment | 1 to 1024 bytes |
//!      3 gone   | 3 | tag 16 |                        nothing, or nothing more, is sent for this tag
//! ```
//! Nothing here is encrypted: the session is. Datagrams get lost and come in any order; whoever wants something asks
//! again.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use ahoy_transport::{
    identity::DeviceId,
    wire::{Reader, WireError, Writer},
};
use bytes::Bytes;

use super::{
    Capability, Root,
    tree::{FRAGMENT, Node},
};

const WANT: u8 = 1;
const DATA: u8 = 2;
const GONE: u8 = 3;
const TAG: usize = 16;
/// Before the bytes of a fragment.
const DATA_HEAD: usize = 1 + TAG + 1 + 4 + 1;

/// Stands for one file between two devices. Without the capability it tells nothing and cannot be made, and what one
/// device was shown is of no use with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; TAG]);

impl Tag {
    /// For `asking`, who wants the file, to show to `asked`.
    #[must_use]
    pub fn new(capability: &Capability, root: &Root, asking: DeviceId, asked: DeviceId) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&capability.0);
        hasher.update(b"ahoy/1 file tag");
        hasher.update(&root.0);
        hasher.update(&asking.0);
        hasher.update(&asked.0);
        let mut tag = [0; TAG];
        hasher.finalize_xof().fill(&mut tag);
        Self(tag)
    }
}

/// A datagram about files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDatagram {
    /// These fragments of a node are wanted; none: no more.
    Want {
        /// Of which file.
        tag: Tag,
        /// Which node.
        node: Node,
        /// A bit each.
        fragments: u64,
    },
    /// A fragment.
    Data {
        /// Of which file.
        tag: Tag,
        /// Of which node.
        node: Node,
        /// Which, below 64.
        fragment: u8,
        /// 1 to 1024 bytes.
        bytes: Bytes,
    },
    /// Nothing is sent for this tag.
    Gone {
        /// Which file.
        tag: Tag,
    },
}

impl FileDatagram {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(DATA_HEAD + FRAGMENT);
        match self {
            Self::Want {
                tag,
                node,
                fragments,
            } => {
                out.put_u8(WANT);
                out.put_bytes(&tag.0);
                out.put_u8(node.level);
                out.put_u32(node.index);
                out.put_u64(*fragments);
            }
            Self::Data {
                tag,
                node,
                fragment,
                bytes,
            } => {
                out.put_u8(DATA);
                out.put_bytes(&tag.0);
                out.put_u8(node.level);
                out.put_u32(node.index);
                out.put_u8(*fragment);
                out.put_bytes(bytes);
            }
            Self::Gone { tag } => {
                out.put_u8(GONE);
                out.put_bytes(&tag.0);
            }
        }
        out.into()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let tag = Tag(reader.array()?);
        let mut node = || {
            let level = reader.u8()?;
            if level > 2 {
                return Err(WireError::Undefined);
            }
            let index = reader.u32()?;
            Ok(Node { level, index })
        };
        let read = match kind {
            WANT => Self::Want {
                tag,
                node: node()?,
                fragments: reader.u64()?,
            },
            DATA => {
                let node = node()?;
                let fragment = reader.u8()?;
                let len = reader.rest().len();
                if fragment >= 64 || len == 0 {
                    return Err(WireError::Undefined);
                }
                if len > FRAGMENT {
                    return Err(WireError::TooLong);
                }
                Self::Data {
                    tag,
                    node,
                    fragment,
                    bytes: bytes.slice(DATA_HEAD..),
                }
            }
            GONE => Self::Gone { tag },
            _unknown => return Err(WireError::Undefined),
        };
        reader.finish()?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use ahoy_transport::datagram::MAX_MEDIA_PAYLOAD;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_datagram_has_these_bytes() {
        let tag = Tag([7; 16]);
        let node = Node { level: 1, index: 2 };
        let want = FileDatagram::Want {
            tag,
            node,
            fragments: 3,
        };
        let golden = [
            &[1][..],
            &[7; 16],
            &[1, 0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 0, 3],
        ];
        assert_eq!(want.encode(), golden.concat());
        let data = FileDatagram::Data {
            tag,
            node,
            fragment: 5,
            bytes: Bytes::from_static(b"hi"),
        };
        let golden = [&[2][..], &[7; 16], &[1, 0, 0, 0, 2, 5], b"hi"];
        assert_eq!(data.encode(), golden.concat());
        const { assert!(DATA_HEAD + FRAGMENT <= MAX_MEDIA_PAYLOAD) };
    }

    #[test]
    fn a_tag_is_of_one_file_and_two_devices() {
        let tag = |capability: u8, root: u8, asking: u8, asked: u8| {
            Tag::new(
                &Capability([capability; 32]),
                &Root([root; 32]),
                DeviceId([asking; 32]),
                DeviceId([asked; 32]),
            )
        };
        let one = tag(1, 2, 3, 4);
        assert_eq!(one, tag(1, 2, 3, 4));
        for other in [
            tag(9, 2, 3, 4),
            tag(1, 9, 3, 4),
            tag(1, 2, 9, 4),
            tag(1, 2, 4, 3),
        ] {
            assert_ne!(one, other);
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes in vec(any::<u8>(), 0..1200)) {
            let bytes = Bytes::from(bytes);
            if let Ok(read) = FileDatagram::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
