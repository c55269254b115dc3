//! What strangers may have to work for.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use ahoy_transport::{
    identity::{DeviceId, UserId},
    wire::{Reader, WireError, Writer},
};

use super::{DELIVER, LEAVE, MARK_LEN, MAX_ENVELOPE, Request, put_mark, read_mark, start};

/// An envelope for somebody: what strangers may have to work for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consignment {
    /// To be handed to a device that is registered here.
    Deliver {
        /// The device.
        to: DeviceId,
        /// The registration that the sender looked up; another one is refused.
        epoch: u64,
        /// Made by a contact, see [`MailKey::mark`](crate::supernode::mailbox::MailKey::mark); `None` by anybody else.
        mark: Option<[u8; MARK_LEN]>,
        /// Sealed for the device; opaque here.
        envelope: Vec<u8>,
    },
    /// To be left in a device's box.
    Leave {
        /// Whose device it is.
        user: UserId,
        /// The device.
        to: DeviceId,
        /// Made by a contact, see [`MailKey::mark`](crate::supernode::mailbox::MailKey::mark); `None` by anybody else.
        mark: Option<[u8; MARK_LEN]>,
        /// Sealed for the device; opaque here.
        envelope: Vec<u8>,
    },
}

impl Consignment {
    /// What is sealed in it.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        match self {
            Self::Deliver { envelope, .. } | Self::Leave { envelope, .. } => envelope,
        }
    }

    /// As [`Request::Consign`] is written, with what it begins with.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Deliver {
                to,
                epoch,
                mark,
                envelope,
            } => {
                let mut out = start(DELIVER);
                out.put_bytes(to.as_bytes());
                out.put_u64(*epoch);
                put_mark(&mut out, mark.as_ref());
                out.put_var_bytes(envelope);
                out
            }
            Self::Leave {
                user,
                to,
                mark,
                envelope,
            } => {
                let mut out = start(LEAVE);
                out.put_bytes(user.as_bytes());
                out.put_bytes(to.as_bytes());
                put_mark(&mut out, mark.as_ref());
                out.put_var_bytes(envelope);
                out
            }
        }
    }

    /// The one of this kind.
    pub(super) fn decode_from(kind: u8, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match kind {
            DELIVER => Self::Deliver {
                to: DeviceId(reader.array()?),
                epoch: reader.u64()?,
                mark: read_mark(reader)?,
                envelope: reader.var_bytes(MAX_ENVELOPE)?.to_vec(),
            },
            LEAVE => Self::Leave {
                user: UserId(reader.array()?),
                to: DeviceId(reader.array()?),
                mark: read_mark(reader)?,
                envelope: reader.var_bytes(MAX_ENVELOPE)?.to_vec(),
            },
            _other => return Err(WireError::Undefined),
        })
    }
}

impl From<Consignment> for Request {
    fn from(consignment: Consignment) -> Self {
        Self::Consign(consignment)
    }
}
