//! Names of people, devices and nodes: public keys, and how they are written down.
//!
//! A [`UserId`] is a person's Ed25519 root key, a [`DeviceId`] the Ed25519 signing key of one of that
//! person's devices, a [`NodeId`] the Ed25519 key of a node in its supernode role. All three are written in
//! z-base-32 (52 characters).
//!
//! The secret halves are [`RootKey`], [`DeviceKeys`] and [`NodeKeys`]. A [`DeviceCertificate`] ties a device
//! to a person, a [`SealKeyRecord`] publishes the key to which others seal what they leave at its homes.
//! The [`log`] is where a person's devices are added and revoked. Secrets are wiped when dropped and never printed.

use std::{fmt, str::FromStr};

mod address;
mod certificate;
mod device;
mod invite;
pub mod log;
pub mod network;
mod node;
mod root;
mod seal_key;
mod signature;

pub use address::{Host, HostError, MAX_NODE_ADDRESS_LEN, NodeAddress, NodeAddressError};
pub use certificate::{
    CERTIFICATE_BACKDATE_MILLIS, CERTIFICATE_LIFETIME_MILLIS, CERTIFICATE_RENEWAL_MILLIS,
    CertificateError, CertificateFields, DeviceCertificate, DeviceSet, Issuer, LogPosition,
    MAX_CERTIFICATE_LEN, VerifiedDevice,
};
pub use device::DeviceKeys;
pub use invite::{
    Invite, InviteError, InviteId, InviteProof, MAX_INVITE_PROOF_LEN, MAX_INVITE_TEXT,
};
pub use node::NodeKeys;
pub use root::RootKey;
pub use seal_key::{
    MAX_SEAL_KEYS, SEAL_KEY_RECORD_LEN, SEAL_KEY_RECORD_LIFETIME_MILLIS, SEAL_KEY_RETENTION_MILLIS,
    SEAL_KEY_ROTATION_MILLIS, SealKeyError, SealKeyRecord, SealKeyring, VerifiedSealKey,
};
pub use signature::{Domain, SIGNATURE_LEN, verify_signature};

/// Length of every public key and identifier here, in bytes.
pub const ID_LEN: usize = 32;

/// A key in text was not 52 characters of z-base-32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected 52 characters of z-base-32 (a-z, 1-9 without l, v, 0 and 2)")]
pub struct ParseIdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; ID_LEN]);

        impl $name {
            /// The key's 32 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; ID_LEN] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&z32::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            /// The first characters only: enough to tell two apart in a log, too few to look one up.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = z32::encode(&self.0);
                write!(f, concat!(stringify!($name), "({}…)"), text.get(..8).unwrap_or(&text))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let bytes = z32::decode(text.as_bytes()).map_err(|_not_z32| ParseIdError)?;
                let id = Self(bytes.try_into().map_err(|_wrong_length| ParseIdError)?);
                // One spelling per key: the last character carries four bits that must be zero.
                if id.to_string() == text { Ok(id) } else { Err(ParseIdError) }
            }
        }
    };
}

id!(
    /// A person: the Ed25519 root public key.
    UserId
);
id!(
    /// One device of a person: its Ed25519 signing key.
    DeviceId
);
id!(
    /// A node in its supernode role: its Ed25519 key. The node's Noise static key is the same key as a
    /// Montgomery point, so one link names both.
    NodeId
);
id!(
    /// A private network: its Ed25519 key. See [`network`].
    NetworkId
);
