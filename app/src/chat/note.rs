//! What is inside a letter.
//!
//! ```text
//! | ver=1 | kind | written at u64 | name | invite | u8 capability there | capability 32 | u8 count, homes | fields of the kind |
//!                                  each: varint length, bytes                            each: varint length, text
//! kind 1 text         varint length, UTF-8
//!      2 missed call  call id, 16
//!      3 receipt      u8 count, letter ids of 16
//!      4 shared       entries (see crate::sync): to a device of the writer's own
//!      5 file         an offer (see crate::files)
//!      6 unwanted     letter id of such an offer, 16
//! ```
//! Nothing here is encrypted: the letter is. With a capability comes where its device is to be found.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use ahoy_nat::supernode::mailbox::MailCapability;
use ahoy_transport::{
    identity::{NodeAddress, log::MAX_HOMES},
    wire::{Reader, WireError, Writer},
};

use super::{MAX_TEXT_BYTES, MessageId, put_homes, read_homes};
use crate::{
    call::CallId,
    files::FileOffer,
    signal::{MAX_INVITE_BYTES, MAX_NAME_BYTES},
};

const VERSION: u8 = 1;
/// Letters that one receipt is about, at most.
pub const MAX_RECEIPT: usize = 64;
/// Bytes of entries in one letter, at most.
pub const MAX_SHARED: usize = 5 * 1024;

/// What somebody writes to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When it was written, or the call begun; Unix milliseconds by the writer's clock.
    pub written_at_millis: u64,
    /// What the writer is called by themselves. Not to be shown uncleaned.
    pub name: String,
    /// Proof of an invitation, for those who are no contact.
    pub invite: Vec<u8>,
    /// Lets the reader mark letters to the writing device as a contact's.
    pub capability: Option<MailCapability>,
    /// Where the writing device has boxes; at most [`MAX_HOMES`].
    pub homes: Vec<NodeAddress>,
    /// What it says.
    pub says: Says,
}

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// A text; not to be shown uncleaned.
    Text(String),
    /// A call that was not answered.
    MissedCall(CallId),
    /// These letters have arrived; at most [`MAX_RECEIPT`].
    Receipt(Vec<MessageId>),
    /// To a device of one's own: what else one's devices are to know. At most [`MAX_SHARED`] bytes.
    Shared(Vec<u8>),
    /// A file can be had.
    File(FileOffer),
    /// The file that this letter offered is not wanted.
    Unwanted(MessageId),
}

impl Note {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u8(match self.says {
            Says::Text(_) => 1,
            Says::MissedCall(_) => 2,
            Says::Receipt(_) => 3,
            Says::Shared(_) => 4,
            Says::File(_) => 5,
            Says::Unwanted(_) => 6,
        });
        out.put_u64(self.written_at_millis);
        out.put_var_bytes(self.name.as_bytes());
        out.put_var_bytes(&self.invite);
        out.put_u8(u8::from(self.capability.is_some()));
        if let Some(capability) = &self.capability {
            out.put_bytes(capability.as_bytes());
        }
        put_homes(&mut out, &self.homes, MAX_HOMES);
        match &self.says {
            Says::Text(text) => out.put_var_bytes(text.as_bytes()),
            Says::MissedCall(call) => out.put_bytes(&call.0),
            Says::Receipt(ids) => {
                let ids = ids.get(..MAX_RECEIPT).unwrap_or(ids);
                out.put_u8(u8::try_from(ids.len()).unwrap_or(0));
                ids.iter().for_each(|id| out.put_bytes(&id.0));
            }
            Says::Shared(entries) => out.put_var_bytes(entries),
            Says::File(offer) => offer.put(&mut out),
            Says::Unwanted(id) => out.put_bytes(&id.0),
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else; [`WireError::Undefined`] for a kind that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let kind = reader.u8()?;
        let written_at_millis = reader.u64()?;
        let name = text(&mut reader, MAX_NAME_BYTES)?;
        let invite = reader.var_bytes(MAX_INVITE_BYTES)?.to_vec();
        let capability = match reader.u8()? {
            0 => None,
            1 => Some(MailCapability::from_bytes(reader.array()?)),
            _undefined => return Err(WireError::Undefined),
        };
        let homes = read_homes(&mut reader, MAX_HOMES)?;
        let says = match kind {
            1 => Says::Text(text(&mut reader, MAX_TEXT_BYTES)?),
            2 => Says::MissedCall(CallId(reader.array()?)),
            3 => {
                let ids = (0..count(&mut reader, MAX_RECEIPT)?)
                    .map(|_nth| reader.array().map(MessageId))
                    .collect::<Result<Vec<_>, _>>()?;
                Says::Receipt(ids)
            }
            4 => Says::Shared(reader.var_bytes(MAX_SHARED)?.to_vec()),
            5 => Says::File(FileOffer::read(&mut reader)?),
            6 => Says::Unwanted(MessageId(reader.array()?)),
            _unknown => return Err(WireError::Undefined),
        };
        reader.finish()?;
        Ok(Self {
            written_at_millis,
            name,
            invite,
            capability,
            homes,
            says,
        })
    }
}

fn count(reader: &mut Reader<'_>, max: usize) -> Result<usize, WireError> {
    let count = usize::from(reader.u8()?);
    if count > max {
        Err(WireError::TooLong)
    } else {
        Ok(count)
    }
}

fn text(reader: &mut Reader<'_>, max: usize) -> Result<String, WireError> {
    let bytes = reader.var_bytes(max)?;
    let text = str::from_utf8(bytes).map_err(|_not_utf8| WireError::Undefined)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use ahoy_transport::{identity::NodeKeys, sealed::MAX_LETTER_BODY};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn home(port: u16) -> NodeAddress {
        let node = NodeKeys::from_seed(&[7; 32]).id();
        NodeAddress::new(node, ([192, 0, 2, 1], port.max(1)).into())
    }

    #[test]
    fn a_text_has_these_bytes() {
        let note = Note {
            written_at_millis: 258,
            name: "Al".into(),
            invite: vec![9],
            capability: Some(MailCapability::from_bytes([5; 32])),
            homes: vec![],
            says: Says::Text("hi".into()),
        };
        let golden = [
            &[1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 2, b'A', b'l', 1, 9, 1][..],
            &[5; 32],
            &[0, 2, b'h', b'i'],
        ];
        assert_eq!(note.encode(), golden.concat());
    }

    #[test]
    fn the_longest_note_fits_a_letter() {
        let note = Note {
            written_at_millis: u64::MAX,
            name: "n".repeat(MAX_NAME_BYTES),
            invite: vec![1; MAX_INVITE_BYTES],
            capability: Some(MailCapability::from_bytes([5; 32])),
            homes: vec![home(65535); MAX_HOMES],
            says: Says::Text("t".repeat(MAX_TEXT_BYTES)),
        };
        // A home by name is longer than one by address.
        let names = MAX_HOMES * ahoy_transport::identity::MAX_NODE_ADDRESS_LEN;
        assert!(note.encode().len() + names < MAX_LETTER_BODY, "{names}");
    }

    proptest! {
        #[test]
        fn notes_round_trip(
            written_at_millis: u64,
            name in ".{0,20}",
            invite in vec(any::<u8>(), 0..50),
            capability: Option<[u8; 32]>,
            ports in vec(any::<u16>(), 0..=MAX_HOMES),
            what in 0..5,
            text in ".{0,200}",
            ids in vec(any::<[u8; 16]>(), 0..=MAX_RECEIPT),
        ) {
            let note = Note {
                written_at_millis,
                name,
                invite,
                capability: capability.map(MailCapability::from_bytes),
                homes: ports.into_iter().map(home).collect(),
                says: match what {
                    0 => Says::Text(text),
                    1 => Says::MissedCall(CallId([3; 16])),
                    2 => Says::Shared(text.into_bytes()),
                    3 => Says::Unwanted(MessageId([4; 16])),
                    _ => Says::Receipt(ids.into_iter().map(MessageId).collect()),
                },
            };
            prop_assert_eq!(Note::decode(&note.encode()), Ok(note));
        }

        #[test]
        fn garbage_is_an_error_or_reads_back_as_itself(mut bytes in vec(any::<u8>(), 0..200), kind in 0..7_u8) {
            if let [first, second, ..] = bytes.as_mut_slice() {
                (*first, *second) = (VERSION, kind);
            }
            if let Ok(note) = Note::decode(&bytes) {
                prop_assert_eq!(Note::decode(&note.encode()), Ok(note));
            }
        }
    }
}
