//! The device log: which devices a person has, as a chain of signed entries that cannot be rewritten.
//!
//! Entry 0 is signed by the key that the user id names and adds the first device. Each later entry is signed
//! by the root or by a device that is in the set at that place, and holds the hash of the one before. So a
//! log can only grow. Whoever shows two people different logs makes two valid entries for one place, and
//! those two are a [`ForkProof`] that convinces anybody.
//!
//! ```text
//! entry: | ver=1 | n   | hash of entry n-1 | time        | op | op fields | signer                       | signature |
//!        | u8    | u64 | 32, zeros for 0   | u64 Unix ms | u8 |           | u8 0, or u8 1 and device (32) | 64        |
//! op 1, add device:    | device (32) | noise static (32) | u8 length, sealed name |
//! op 2, revoke device: | device (32) |
//! op 3, rotate root:   | new root (32) | proof (64) |
//! op 4, set homes:     | u8 count | count * { u16 length, text key@host:port } |
//! log:   | ver=1 | user (32) | u16 count | count * { u16 length, entry } |
//! ```
//! The signature (domain `ahoy/1 log entry`) is over the user id followed by the entry up to it. An entry's
//! hash is SHA-256 of `ahoy/1 log entry`, a zero byte, and the same bytes: the signature is not hashed, so
//! signing the same statement twice is no fork. The proof in op 3 is the new root's signature (domain
//! `ahoy/1 new root`) over user id, n and the previous hash.
//!
//! Deliberate limits: a device that was revoked never comes back (new keys cost nothing); only the root can
//! rotate the root; any device may add and revoke devices, because a person who lost one must be able to
//! act from another.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use sha2::{Digest, Sha256};

use super::{
    DeviceId, ID_LEN, UserId,
    address::{MAX_NODE_ADDRESS_LEN, NodeAddress},
    certificate::{DeviceSet, Issuer, LogPosition},
    device::DeviceKeys,
    root::RootKey,
    signature::{Domain, SIGNATURE_LEN, verify_signature},
};
use crate::wire::{Reader, WireError, Writer};

mod fork;

pub use fork::{ForkError, ForkProof, MAX_FORK_PROOF_LEN};

/// Most entries of a log: one change a week for twenty years.
pub const MAX_LOG_ENTRIES: usize = 1024;
/// Longest log, in bytes: room for that many entries of the usual size.
pub const MAX_LOG_LEN: usize = 256 * 1024;
/// Most devices a person has at once.
pub const MAX_DEVICES: usize = 16;
/// Most homes a log names.
pub const MAX_HOMES: usize = 4;
/// Longest sealed device name, in bytes.
pub const MAX_SEALED_NAME: usize = 128;

const VERSION: u8 = 1;
const LABEL: &str = "ahoy/1 log entry";
const ENTRY_DOMAIN: Domain = Domain::new(LABEL);
const NEW_ROOT_DOMAIN: Domain = Domain::new("ahoy/1 new root");
const OP_ADD: u8 = 1;
const OP_REVOKE: u8 = 2;
const OP_ROTATE: u8 = 3;
const OP_HOMES: u8 = 4;
const SIGNER_ROOT: u8 = 0;
const SIGNER_DEVICE: u8 = 1;

/// Why a log, or an entry for it, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Not a log in a form that this version defines.
    #[error("the device log cannot be read: {0}")]
    Malformed(WireError),
    /// Made by a newer program.
    #[error("the device log has version {0}, which this program does not know; update ahoy")]
    UnknownVersion(u8),
    /// There is not one entry.
    #[error("the device log is empty")]
    Empty,
    /// It is another person's.
    #[error("the device log belongs to another person")]
    WrongUser,
    /// An entry's number or previous hash does not continue the chain.
    #[error("entry {0} of the device log does not continue it")]
    Broken(u64),
    /// An entry is older than the one before.
    #[error("entry {0} of the device log is older than the one before")]
    TimeWentBack(u64),
    /// The signer was not entitled at that place.
    #[error("entry {0} of the device log was not signed by somebody entitled to it")]
    NotEntitled(u64),
    /// The signature is not the signer's.
    #[error("entry {0} of the device log has a wrong signature")]
    WrongSignature(u64),
    /// The device is, or once was, in the log.
    #[error("entry {0} of the device log adds a device that was there before")]
    DeviceKnown(u64),
    /// The device is not in the set.
    #[error("entry {0} of the device log revokes a device that is not there")]
    NoSuchDevice(u64),
    /// More devices, entries or bytes than a log may have.
    #[error("the device log is full")]
    Full,
}

impl From<WireError> for LogError {
    fn from(error: WireError) -> Self {
        error.by_version(Self::UnknownVersion, Self::Malformed)
    }
}

/// What an entry changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOp {
    /// A device joins.
    AddDevice {
        /// Its signing key.
        device: DeviceId,
        /// Its Noise static public key (X25519).
        noise_static: [u8; 32],
        /// Its name, sealed to contacts; may be empty. At most [`MAX_SEALED_NAME`] bytes, not read here.
        sealed_name: Vec<u8>,
    },
    /// A device leaves for good.
    RevokeDevice(DeviceId),
    /// From here on, another root key speaks for the person. The person's name stays.
    RotateRoot {
        /// The new root's public key.
        root: [u8; ID_LEN],
        /// The new root's consent, by [`DeviceLog::rotate_root`].
        proof: [u8; SIGNATURE_LEN],
    },
    /// Where the person's devices are registered, best first.
    SetHomes(Vec<NodeAddress>),
}

/// Who signs an entry.
#[derive(Debug, Clone, Copy)]
pub enum LogSigner<'a> {
    /// The current root.
    Root(&'a RootKey),
    /// A device of the set.
    Device(&'a DeviceKeys),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    Root,
    Device(DeviceId),
}

/// A device at the head of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDevice {
    /// Its signing key.
    pub device: DeviceId,
    /// Its Noise static public key (X25519).
    pub noise_static: [u8; 32],
    /// Its name, sealed to contacts; may be empty.
    pub sealed_name: Vec<u8>,
    /// When it joined, Unix milliseconds by the signer's clock.
    pub added_at_millis: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Vec<u8>,
    hash: [u8; 32],
}

struct ParsedEntry {
    n: u64,
    previous: [u8; 32],
    time_millis: u64,
    op: LogOp,
    signer: Signer,
    /// What is signed and hashed: the entry without its signature.
    signed_len: usize,
    signature: [u8; SIGNATURE_LEN],
}

/// What the entries so far add up to.
#[derive(Debug, Clone)]
struct State {
    root: [u8; ID_LEN],
    devices: Vec<LogDevice>,
    revoked: Vec<DeviceId>,
    homes: Vec<NodeAddress>,
    time_millis: u64,
}

/// A person's device log, verified from its first entry on.
#[derive(Debug, Clone)]
pub struct DeviceLog {
    user: UserId,
    entries: Vec<Entry>,
    state: State,
}

/// How another log of the same person stands to one we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRelation {
    /// The same.
    Same,
    /// The other one continues ours.
    Extends,
    /// The other one ends before ours: old, or somebody holds news back.
    Rollback,
    /// Both continue from the same place differently: somebody is shown a false log.
    Fork(ForkProof),
    /// It is another person's.
    OtherUser,
}

/// How a head that somebody claims stands to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadCheck {
    /// The head of this log.
    Same,
    /// An earlier entry of this log.
    Older,
    /// Further than this log goes: get the rest.
    Newer,
    /// Another entry at a place that this log has: get the other log, it proves a fork.
    Conflict,
}

impl DeviceLog {
    /// Starts a log: the root adds the first device.
    #[must_use]
    pub fn create(root: &RootKey, first: &DeviceKeys, now_millis: u64) -> Self {
        let mut log = Self::empty(root.user());
        let op = LogOp::AddDevice {
            device: first.id(),
            noise_static: first.noise_public(),
            sealed_name: vec![],
        };
        log.append(op, LogSigner::Root(root), now_millis)
            .expect("the root may add a first device to its own empty log");
        log
    }

    fn empty(user: UserId) -> Self {
        Self {
            user,
            entries: vec![],
            state: State {
                root: user.0,
                devices: vec![],
                revoked: vec![],
                homes: vec![],
                time_millis: 0,
            },
        }
    }

    /// Reads a log of `user` and verifies every entry.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn from_bytes(user: UserId, bytes: &[u8]) -> Result<Self, LogError> {
        let log = Self::read(bytes)?;
        if log.user != user {
            return Err(LogError::WrongUser);
        }
        if log.entries.is_empty() {
            return Err(LogError::Empty);
        }
        Ok(log)
    }

    /// Also reads an empty log, which fork proofs at entry 0 hold.
    fn read(bytes: &[u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_LOG_LEN {
            return Err(LogError::Full);
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(LogError::UnknownVersion(other)),
        }
        let mut log = Self::empty(UserId(reader.array()?));
        let count = usize::from(reader.u16()?);
        if count > MAX_LOG_ENTRIES {
            return Err(LogError::Full);
        }
        for _ in 0..count {
            let len = usize::from(reader.u16()?);
            log.append_entry(reader.bytes(len)?)?;
        }
        reader.finish()?;
        Ok(log)
    }

    /// The log as it is sent and stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.prefix_bytes(self.entries.len())
    }

    fn prefix_bytes(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len_bytes());
        bytes.put_u8(VERSION);
        bytes.put_bytes(self.user.as_bytes());
        bytes.put_u16(u16::try_from(count).expect("at most MAX_LOG_ENTRIES"));
        for entry in self.entries.iter().take(count) {
            bytes.put_u16(
                u16::try_from(entry.bytes.len()).expect("an entry is at most about 1.5 KiB"),
            );
            bytes.put_bytes(&entry.bytes);
        }
        bytes
    }

    fn len_bytes(&self) -> usize {
        1 + ID_LEN
            + 2
            + self
                .entries
                .iter()
                .map(|entry| 2 + entry.bytes.len())
                .sum::<usize>()
    }

    /// Adds an entry. Its time is `now_millis` (Unix), or that of the entry before if this clock is behind.
    ///
    /// # Errors
    /// When the signer is not entitled, or the change makes no sense.
    pub fn append(
        &mut self,
        op: LogOp,
        signer: LogSigner<'_>,
        now_millis: u64,
    ) -> Result<(), LogError> {
        let (n, previous) = self.next();
        let mut bytes = Vec::new();
        bytes.put_u8(VERSION);
        bytes.put_u64(n);
        bytes.put_bytes(&previous);
        bytes.put_u64(now_millis.max(self.state.time_millis));
        write_op(&op, &mut bytes)?;
        match signer {
            LogSigner::Root(_) => bytes.put_u8(SIGNER_ROOT),
            LogSigner::Device(keys) => {
                bytes.put_u8(SIGNER_DEVICE);
                bytes.put_bytes(keys.id().as_bytes());
            }
        }
        let message = signed_message(self.user, &bytes);
        let signature = match signer {
            LogSigner::Root(root) => root.sign(ENTRY_DOMAIN, &message),
            LogSigner::Device(keys) => keys.sign(ENTRY_DOMAIN, &message),
        };
        bytes.put_bytes(&signature);
        self.append_entry(&bytes)
    }

    /// The change by which `new_root` takes over, as the next entry of this log. The current root has to
    /// sign the entry.
    #[must_use]
    pub fn rotate_root(&self, new_root: &RootKey) -> LogOp {
        let (n, previous) = self.next();
        LogOp::RotateRoot {
            root: new_root.user().0,
            proof: new_root.sign(NEW_ROOT_DOMAIN, &new_root_message(self.user, n, &previous)),
        }
    }

    /// Number and previous hash of the entry that would come next.
    fn next(&self) -> (u64, [u8; 32]) {
        let previous = self.entries.last().map_or([0; 32], |entry| entry.hash);
        (self.entries.len() as u64, previous)
    }

    /// Verifies an entry against the log so far and adds it.
    fn append_entry(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        if self.entries.len() >= MAX_LOG_ENTRIES || self.len_bytes() + 2 + bytes.len() > MAX_LOG_LEN
        {
            return Err(LogError::Full);
        }
        let entry = read_entry(bytes)?;
        let (n, previous) = self.next();
        if entry.n != n || entry.previous != previous {
            return Err(LogError::Broken(n));
        }
        if entry.time_millis < self.state.time_millis {
            return Err(LogError::TimeWentBack(n));
        }
        let key = match &entry.signer {
            Signer::Root => &self.state.root,
            Signer::Device(device) if self.state.has(*device) => device.as_bytes(),
            Signer::Device(_) => return Err(LogError::NotEntitled(n)),
        };
        let (signed, _signature) = bytes
            .split_at_checked(entry.signed_len)
            .ok_or(WireError::Truncated)?;
        let message = signed_message(self.user, signed);
        if !verify_signature(key, ENTRY_DOMAIN, &message, &entry.signature) {
            return Err(LogError::WrongSignature(n));
        }
        self.state.apply(self.user, entry)?;
        self.entries.push(Entry {
            bytes: bytes.to_vec(),
            hash: entry_hash(&message),
        });
        Ok(())
    }

    /// The newest entry's place.
    #[must_use]
    pub fn head(&self) -> LogPosition {
        let (count, hash) = self.next();
        LogPosition {
            n: count.saturating_sub(1),
            hash,
        }
    }

    /// When the newest entry was signed, Unix milliseconds by its signer's clock.
    #[must_use]
    pub fn changed_at_millis(&self) -> u64 {
        self.state.time_millis
    }

    /// The devices at the head, in the order in which they joined.
    #[must_use]
    pub fn devices(&self) -> &[LogDevice] {
        &self.state.devices
    }

    /// The homes at the head, best first.
    #[must_use]
    pub fn homes(&self) -> &[NodeAddress] {
        &self.state.homes
    }

    /// The root key at the head. The same as the user id until it is rotated.
    #[must_use]
    pub fn root(&self) -> &[u8; ID_LEN] {
        &self.state.root
    }

    /// All devices that were in the set once and were taken out, the first ones first.
    #[must_use]
    pub fn revoked(&self) -> &[DeviceId] {
        &self.state.revoked
    }

    /// Whether the device was in the set once and was taken out.
    #[must_use]
    pub fn was_revoked(&self, device: DeviceId) -> bool {
        self.state.revoked.contains(&device)
    }

    /// How `other` stands to this log, which we know.
    #[must_use]
    pub fn compare(&self, other: &Self) -> LogRelation {
        if self.user != other.user {
            return LogRelation::OtherUser;
        }
        let differs = self
            .entries
            .iter()
            .zip(&other.entries)
            .position(|(ours, theirs)| ours.hash != theirs.hash);
        match differs {
            Some(n) => ForkProof::new(self, other, n).map_or(LogRelation::Same, LogRelation::Fork),
            None if self.entries.len() < other.entries.len() => LogRelation::Extends,
            None if self.entries.len() > other.entries.len() => LogRelation::Rollback,
            None => LogRelation::Same,
        }
    }

    /// How a head that somebody claims stands to this log.
    #[must_use]
    pub fn check_head(&self, claimed: LogPosition) -> HeadCheck {
        let head = self.head();
        if claimed == head {
            HeadCheck::Same
        } else if claimed.n > head.n {
            HeadCheck::Newer
        } else if self.contains(claimed) {
            HeadCheck::Older
        } else {
            HeadCheck::Conflict
        }
    }
}

impl PartialEq for DeviceLog {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && self.head() == other.head()
    }
}

impl Eq for DeviceLog {}

impl DeviceSet for DeviceLog {
    fn user(&self) -> UserId {
        self.user
    }

    fn contains(&self, position: LogPosition) -> bool {
        usize::try_from(position.n)
            .ok()
            .and_then(|n| self.entries.get(n))
            .is_some_and(|entry| entry.hash == position.hash)
    }

    fn has_device(&self, device: DeviceId, noise_static: &[u8; 32]) -> bool {
        self.state
            .devices
            .iter()
            .any(|known| known.device == device && known.noise_static == *noise_static)
    }

    fn may_issue(&self, issuer: Issuer) -> bool {
        match issuer {
            Issuer::User => self.state.root == self.user.0,
            Issuer::Root(root) => self.state.root == root,
            Issuer::Device(device) => self.state.has(device),
        }
    }
}

impl State {
    fn has(&self, device: DeviceId) -> bool {
        self.devices.iter().any(|known| known.device == device)
    }

    fn apply(&mut self, user: UserId, entry: ParsedEntry) -> Result<(), LogError> {
        let n = entry.n;
        match entry.op {
            LogOp::AddDevice {
                device,
                noise_static,
                sealed_name,
            } => {
                // A log begins with the root's word for a device.
                if n == 0 && entry.signer != Signer::Root {
                    return Err(LogError::NotEntitled(n));
                }
                if self.has(device) || self.revoked.contains(&device) {
                    return Err(LogError::DeviceKnown(n));
                }
                if self.devices.len() >= MAX_DEVICES {
                    return Err(LogError::Full);
                }
                self.devices.push(LogDevice {
                    device,
                    noise_static,
                    sealed_name,
                    added_at_millis: entry.time_millis,
                });
            }
            LogOp::RevokeDevice(_) | LogOp::RotateRoot { .. } | LogOp::SetHomes(_) if n == 0 => {
                return Err(LogError::NotEntitled(n));
            }
            LogOp::RevokeDevice(device) => {
                if !self.has(device) {
                    return Err(LogError::NoSuchDevice(n));
                }
                self.devices.retain(|known| known.device != device);
                self.revoked.push(device);
            }
            LogOp::RotateRoot { root, proof } => {
                if entry.signer != Signer::Root {
                    return Err(LogError::NotEntitled(n));
                }
                let message = new_root_message(user, n, &entry.previous);
                if !verify_signature(&root, NEW_ROOT_DOMAIN, &message, &proof) {
                    return Err(LogError::WrongSignature(n));
                }
                self.root = root;
            }
            LogOp::SetHomes(homes) => self.homes = homes,
        }
        self.time_millis = entry.time_millis;
        Ok(())
    }
}

fn signed_message(user: UserId, unsigned_entry: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(ID_LEN + unsigned_entry.len());
    message.put_bytes(user.as_bytes());
    message.put_bytes(unsigned_entry);
    message
}

fn entry_hash(message: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(LABEL)
        .chain_update([0])
        .chain_update(message)
        .finalize()
        .into()
}

fn new_root_message(user: UserId, n: u64, previous: &[u8; 32]) -> Vec<u8> {
    let mut message = Vec::with_capacity(ID_LEN + 8 + 32);
    message.put_bytes(user.as_bytes());
    message.put_u64(n);
    message.put_bytes(previous);
    message
}

fn write_op(op: &LogOp, out: &mut Vec<u8>) -> Result<(), LogError> {
    match op {
        LogOp::AddDevice {
            device,
            noise_static,
            sealed_name,
        } => {
            if sealed_name.len() > MAX_SEALED_NAME {
                return Err(WireError::TooLong.into());
            }
            out.put_u8(OP_ADD);
            out.put_bytes(device.as_bytes());
            out.put_bytes(noise_static);
            out.put_u8(u8::try_from(sealed_name.len()).expect("at most MAX_SEALED_NAME"));
            out.put_bytes(sealed_name);
        }
        LogOp::RevokeDevice(device) => {
            out.put_u8(OP_REVOKE);
            out.put_bytes(device.as_bytes());
        }
        LogOp::RotateRoot { root, proof } => {
            out.put_u8(OP_ROTATE);
            out.put_bytes(root);
            out.put_bytes(proof);
        }
        LogOp::SetHomes(homes) => {
            if homes.len() > MAX_HOMES {
                return Err(WireError::TooLong.into());
            }
            out.put_u8(OP_HOMES);
            out.put_u8(u8::try_from(homes.len()).expect("at most MAX_HOMES"));
            for home in homes {
                let text = home.to_string();
                out.put_u16(u16::try_from(text.len()).map_err(|_too_long| WireError::TooLong)?);
                out.put_bytes(text.as_bytes());
            }
        }
    }
    Ok(())
}

fn read_entry(bytes: &[u8]) -> Result<ParsedEntry, LogError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => {}
        other => return Err(LogError::UnknownVersion(other)),
    }
    let n = reader.u64()?;
    let previous = reader.array()?;
    let time_millis = reader.u64()?;
    let op = match reader.u8()? {
        OP_ADD => {
            let device = DeviceId(reader.array()?);
            let noise_static = reader.array()?;
            let len = usize::from(reader.u8()?);
            if len > MAX_SEALED_NAME {
                return Err(WireError::TooLong.into());
            }
            LogOp::AddDevice {
                device,
                noise_static,
                sealed_name: reader.bytes(len)?.to_vec(),
            }
        }
        OP_REVOKE => LogOp::RevokeDevice(DeviceId(reader.array()?)),
        OP_ROTATE => LogOp::RotateRoot {
            root: reader.array()?,
            proof: reader.array()?,
        },
        OP_HOMES => {
            let count = usize::from(reader.u8()?);
            if count > MAX_HOMES {
                return Err(WireError::TooLong.into());
            }
            let mut homes = Vec::with_capacity(count);
            for _ in 0..count {
                let len = usize::from(reader.u16()?);
                if len > MAX_NODE_ADDRESS_LEN {
                    return Err(WireError::TooLong.into());
                }
                let home = std::str::from_utf8(reader.bytes(len)?)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or(WireError::Undefined)?;
                homes.push(home);
            }
            LogOp::SetHomes(homes)
        }
        _undefined => return Err(WireError::Undefined.into()),
    };
    let signer = match reader.u8()? {
        SIGNER_ROOT => Signer::Root,
        SIGNER_DEVICE => Signer::Device(DeviceId(reader.array()?)),
        _undefined => return Err(WireError::Undefined.into()),
    };
    let signed_len = bytes.len() - reader.remaining();
    let signature = reader.array()?;
    reader.finish()?;
    Ok(ParsedEntry {
        n,
        previous,
        time_millis,
        op,
        signer,
        signed_len,
        signature,
    })
}

#[cfg(test)]
mod tests;
