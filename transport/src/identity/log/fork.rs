//! Proof that somebody holding a person's keys showed two different device logs.
//!
//! ```text
//! | ver=1 | u32 length, log up to the fork | u16 length, one entry | u16 length, the other entry |
//! ```
//! Both entries continue the log and are validly signed, but differ. The one with the lower hash comes
//! first. The log's part may be empty, when already the first entries differ. Anybody can check this,
//! offline, knowing nothing but the user id: reading a proof verifies it.

use super::{DeviceLog, LogError, MAX_LOG_LEN, VERSION};
use crate::{
    identity::{DeviceSet, UserId},
    wire::{Reader, WireError, Writer},
};

/// Longest proof, in bytes.
pub const MAX_FORK_PROOF_LEN: usize = 1 + 4 + MAX_LOG_LEN + 2 * (2 + 2048);

/// Why something is no proof of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// Not a proof in a form that this version defines.
    #[error("the fork proof cannot be read: {0}")]
    Malformed(#[from] WireError),
    /// The log before the fork, or one of the two entries, is not valid: nobody entitled signed it.
    #[error("the fork proof holds an invalid log: {0}")]
    Log(#[from] LogError),
    /// Both entries say the same.
    #[error("the two entries of the fork proof do not differ")]
    NoFork,
}

/// A verified proof of a fork. Portable: [`ForkProof::as_bytes`] convinces anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkProof {
    bytes: Vec<u8>,
    user: UserId,
    n: u64,
}

impl ForkProof {
    /// Builds the proof from two verified logs that first differ at entry `n`.
    pub(super) fn new(one: &DeviceLog, other: &DeviceLog, n: usize) -> Option<Self> {
        let (one_entry, other_entry) = (one.entries.get(n)?, other.entries.get(n)?);
        let (first, second) = if one_entry.hash < other_entry.hash {
            (one_entry, other_entry)
        } else {
            (other_entry, one_entry)
        };
        let prefix = one.prefix_bytes(n);
        let mut bytes = Vec::new();
        bytes.put_u8(VERSION);
        bytes.put_u32(u32::try_from(prefix.len()).ok()?);
        bytes.put_bytes(&prefix);
        for entry in [first, second] {
            bytes.put_u16(u16::try_from(entry.bytes.len()).ok()?);
            bytes.put_bytes(&entry.bytes);
        }
        Some(Self {
            bytes,
            user: one.user,
            n: n as u64,
        })
    }

    /// Reads a proof and verifies it.
    ///
    /// # Errors
    /// When it proves nothing.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ForkError> {
        if bytes.len() > MAX_FORK_PROOF_LEN {
            return Err(WireError::TooLong.into());
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other).into()),
        }
        let len = usize::try_from(reader.u32()?).map_err(|_too_large| WireError::TooLong)?;
        let mut one = DeviceLog::read(reader.bytes(len)?)?;
        let mut other = one.clone();
        let n = one.entries.len() as u64;
        for log in [&mut one, &mut other] {
            let len = usize::from(reader.u16()?);
            log.append_entry(reader.bytes(len)?)?;
        }
        reader.finish()?;
        match one.head().hash.cmp(&other.head().hash) {
            std::cmp::Ordering::Less => Ok(Self {
                bytes: bytes.to_vec(),
                user: one.user(),
                n,
            }),
            std::cmp::Ordering::Equal => Err(ForkError::NoFork),
            // One spelling: the lower hash comes first.
            std::cmp::Ordering::Greater => Err(WireError::Undefined.into()),
        }
    }

    /// The proof as it is sent and stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whose log forked.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The number of the entry that exists twice.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }
}
