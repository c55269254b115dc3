//! What a person lets everybody know about where to call: a [`Record`], signed by the person's root key.
//!
//! ```text
//! | ver=1 | user (32) | u64 seq | u64 not after, Unix ms | log head: u64 n, hash (32) | u8 homes | homes | sealed | signature (64) |
//!                                                                    each home, sealed: varint length, bytes
//! ```
//! Where supernodes signed the end of that log ([`Cosigned`]), the version is 2, and what they signed stands before the signature:
//!
//! ```text
//! | … sealed | u8 witnesses, 1 to 3 | each: witness (32) | u64 seen, Unix ms | signature (64) | … signature (64) |
//! ```
//! The signature (domain `ahoy/1 record`) is over everything before it. A record is at most [`MAX_RECORD_LEN`] bytes,
//! so that it fits into an item of the Mainline DHT (BEP 44: 1000 bytes) and into every other route. It names no address
//! of the person and no device: homes, and the head of the device log, so that whoever is shown an old log there
//! sees it. What is only for contacts is in the sealed part ([`seal`], [`open`]), which may be empty.
//!
//! **Who signs.** The key that the user id names, because an item of the DHT is found under one key, and the user id is
//! all that a link without homes holds. A device without that key publishes nothing; the person's other devices, or the
//! homes in the link, serve it.
//!
//! **What is believed.** [`RecordCache`]: the newest valid record wins, its number never goes down for as long as it is
//! remembered, also over restarts, and an expired record says nothing about where the person is, but still that older
//! ones are old.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::collections::BTreeMap;

use ahoy_transport::{
    identity::{
        Domain, LogPosition, NodeAddress, NodeId, RootKey, SIGNATURE_LEN, UserId, verify_signature,
    },
    wire::{Reader, WireError, Writer},
};
use ring::{aead, hmac};

use crate::supernode::{
    protocol::{put_node_address, read_node_address},
    witness::{Cosigned, WITNESSES},
};

/// Longest record, in bytes.
pub const MAX_RECORD_LEN: usize = 800;
/// Homes in a record: what a device keeps warm.
pub const MAX_RECORD_HOMES: usize = 3;
/// Longest sealed part, in bytes, tag included.
pub const MAX_SEALED_LEN: usize = 256;
/// How long a record counts after it was signed, in milliseconds. It is signed anew every hour while the person is there.
pub const RECORD_LIFETIME_MILLIS: u64 = 24 * 3_600_000;
/// How far the reader's clock and the signer's may be apart where a record claims to last longer than it may.
const CLOCK_ERROR_MILLIS: u64 = 12 * 3_600_000;

const VERSION: u8 = 1;
/// With witnesses.
const WITNESSED: u8 = 2;
const DOMAIN: Domain = Domain::new("ahoy/1 record");

/// What stands in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFields {
    /// Whose it is.
    pub user: UserId,
    /// Rises with each record of the person.
    pub seq: u64,
    /// Until when it counts, Unix milliseconds.
    pub not_after_millis: u64,
    /// The newest entry of the person's device log.
    pub log_head: LogPosition,
    /// Where the person's devices are registered, best first; at most [`MAX_RECORD_HOMES`].
    pub homes: Vec<NodeAddress>,
    /// For contacts alone, by [`seal`]; may be empty.
    pub sealed: Vec<u8>,
}

/// A record, read but not judged: see [`Record::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    fields: RecordFields,
    witnesses: Vec<Cosigned>,
    bytes: Vec<u8>,
}

/// Why a record is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is another person's.
    #[error("the record belongs to another person")]
    WrongUser,
    /// The person did not sign it.
    #[error("the record is not signed by its person")]
    WrongSignature,
    /// Its time is over.
    #[error("the record expired")]
    Expired,
    /// It claims to last longer than a record may.
    #[error("the record claims to last too long")]
    TooLong,
    /// A newer one was seen: somebody holds it back.
    #[error("the record is older than one seen before")]
    Older,
    /// Another one with the same number was seen.
    #[error("the record contradicts one seen before")]
    Conflict,
}

impl Record {
    /// Signs a record of the root's person. Homes that do not fit any more are left out, the last ones first, and a sealed
    /// part that is too long is left out whole.
    #[must_use]
    pub fn issue(fields: RecordFields, root: &RootKey) -> Self {
        Self::issue_witnessed(fields, &[], root)
    }

    /// The same, with what supernodes signed of the end of the log: as many as there is room for, the first ones first. What is
    /// about another end is left out. Homes are more important than witnesses.
    #[must_use]
    pub fn issue_witnessed(
        mut fields: RecordFields,
        witnesses: &[Cosigned],
        root: &RootKey,
    ) -> Self {
        let user = root.user();
        let fitting = witnesses
            .iter()
            .filter(|signed| (signed.user(), signed.head()) == (user, fields.log_head));
        let mut witnesses: Vec<Cosigned> = Vec::new();
        for signed in fitting {
            let known = witnesses.iter().any(|it| it.witness() == signed.witness());
            if !known && witnesses.len() < WITNESSES {
                witnesses.push(signed.clone());
            }
        }
        fields.user = root.user();
        fields.homes.truncate(MAX_RECORD_HOMES);
        if fields.sealed.len() > MAX_SEALED_LEN {
            fields.sealed.clear();
        }
        let mut bytes = fields.unsigned(&witnesses);
        while bytes.len() + SIGNATURE_LEN > MAX_RECORD_LEN {
            // Where to call is more important than what is said beside it.
            if witnesses.pop().is_some() {
            } else if fields.sealed.is_empty() {
                fields.homes.pop();
            } else {
                fields.sealed.clear();
            }
            bytes = fields.unsigned(&witnesses);
        }
        bytes.put_bytes(&root.sign(DOMAIN, &bytes));
        Self {
            fields,
            witnesses,
            bytes,
        }
    }

    /// Reads a record without judging it.
    ///
    /// # Errors
    /// When the bytes are not exactly one record of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_RECORD_LEN {
            return Err(WireError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        let version = match reader.u8()? {
            known @ (VERSION | WITNESSED) => known,
            other => return Err(WireError::Version(other)),
        };
        let user = UserId(reader.array()?);
        let (seq, not_after_millis) = (reader.u64()?, reader.u64()?);
        let log_head = LogPosition {
            n: reader.u64()?,
            hash: reader.array()?,
        };
        let count = usize::from(reader.u8()?);
        if count > MAX_RECORD_HOMES {
            return Err(WireError::TooLong);
        }
        let mut homes = Vec::with_capacity(count);
        for _ in 0..count {
            homes.push(read_node_address(&mut reader)?);
        }
        let sealed = reader.var_bytes(MAX_SEALED_LEN)?.to_vec();
        let mut witnesses = Vec::new();
        if version == WITNESSED {
            let count = usize::from(reader.u8()?);
            if count == 0 || count > WITNESSES {
                return Err(WireError::Undefined);
            }
            for _ in 0..count {
                let (witness, seen_millis) = (NodeId(reader.array()?), reader.u64()?);
                let signature = reader.array()?;
                witnesses.push(Cosigned::from_parts(
                    witness,
                    user,
                    log_head,
                    seen_millis,
                    &signature,
                ));
            }
        }
        let _signature: [u8; SIGNATURE_LEN] = reader.array()?;
        reader.finish()?;
        let fields = RecordFields {
            user,
            seq,
            not_after_millis,
            log_head,
            homes,
            sealed,
        };
        Ok(Self {
            fields,
            witnesses,
            bytes: bytes.to_vec(),
        })
    }

    /// As it is sent and kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says. Nothing of it counts before [`Self::verify`].
    #[must_use]
    pub fn fields(&self) -> &RecordFields {
        &self.fields
    }

    /// What supernodes signed of the end of the log; none of it is judged: see [`super::heads`].
    #[must_use]
    pub fn witnesses(&self) -> &[Cosigned] {
        &self.witnesses
    }

    /// Whether `user` signed it, whenever that was.
    ///
    /// # Errors
    /// [`RecordError::WrongUser`], [`RecordError::WrongSignature`].
    pub fn authentic(&self, user: UserId) -> Result<(), RecordError> {
        if self.fields.user != user {
            return Err(RecordError::WrongUser);
        }
        let signed =
            self.bytes
                .split_last_chunk::<SIGNATURE_LEN>()
                .is_some_and(|(message, signature)| {
                    verify_signature(user.as_bytes(), DOMAIN, message, signature)
                });
        if signed {
            Ok(())
        } else {
            Err(RecordError::WrongSignature)
        }
    }

    /// Whether it counts at `now_millis` (Unix) as a record of `user`.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn verify(&self, user: UserId, now_millis: u64) -> Result<(), RecordError> {
        self.authentic(user)?;
        self.timely(now_millis)
    }

    fn timely(&self, now_millis: u64) -> Result<(), RecordError> {
        let latest = now_millis.saturating_add(RECORD_LIFETIME_MILLIS + CLOCK_ERROR_MILLIS);
        if self.fields.not_after_millis <= now_millis {
            Err(RecordError::Expired)
        } else if self.fields.not_after_millis > latest {
            Err(RecordError::TooLong)
        } else {
            Ok(())
        }
    }
}

impl RecordFields {
    fn unsigned(&self, witnesses: &[Cosigned]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_RECORD_LEN);
        bytes.put_u8(if witnesses.is_empty() {
            VERSION
        } else {
            WITNESSED
        });
        bytes.put_bytes(self.user.as_bytes());
        bytes.put_u64(self.seq);
        bytes.put_u64(self.not_after_millis);
        bytes.put_u64(self.log_head.n);
        bytes.put_bytes(&self.log_head.hash);
        bytes.put_u8(u8::try_from(self.homes.len()).expect("at most MAX_RECORD_HOMES"));
        for home in &self.homes {
            put_node_address(&mut bytes, home);
        }
        bytes.put_var_bytes(&self.sealed);
        if !witnesses.is_empty() {
            bytes.put_u8(u8::try_from(witnesses.len()).expect("at most WITNESSES"));
            for signed in witnesses {
                bytes.put_bytes(signed.witness().as_bytes());
                bytes.put_u64(signed.seen_millis());
                bytes.put_bytes(&signed.signature());
            }
        }
        bytes
    }
}

fn sealing_key(capability: &[u8; 32], user: UserId, seq: u64) -> Option<aead::LessSafeKey> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, capability);
    let mut context = hmac::Context::with_key(&key);
    context.update(b"ahoy record seal 1\0");
    context.update(user.as_bytes());
    context.update(&seq.to_be_bytes());
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, context.sign().as_ref()).ok()?;
    Some(aead::LessSafeKey::new(key))
}

/// Each key seals one thing: numbers never come again.
fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; 12])
}

/// The sealed part of the record `seq` of `user`, for those who hold the contact capability: ChaCha20-Poly1305 under
/// HMAC-SHA256(capability, label, user, seq). Use each number once.
#[must_use]
pub fn seal(capability: &[u8; 32], user: UserId, seq: u64, plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    let sealing = sealing_key(capability, user, seq)
        .map(|key| key.seal_in_place_append_tag(nonce(), aead::Aad::empty(), &mut sealed));
    match sealing {
        Some(Ok(())) => sealed,
        // The cipher takes every length that memory holds; nothing is sent in plain whatever happens.
        Some(Err(_)) | None => Vec::new(),
    }
}

/// Opens the sealed part of a record; `None` under another capability, or when there is none.
#[must_use]
pub fn open(capability: &[u8; 32], fields: &RecordFields) -> Option<Vec<u8>> {
    let mut sealed = fields.sealed.clone();
    let plain = sealing_key(capability, fields.user, fields.seq)?
        .open_in_place(nonce(), aead::Aad::empty(), &mut sealed)
        .ok()?;
    Some(plain.to_vec())
}

/// What a [`RecordCache`] insists on. The switches are there to show what they are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRules {
    /// Remember the highest number of each person; without it whoever serves an old record to everybody is believed.
    pub monotonic: bool,
    /// Look at the clock; without it a record that nobody renews leads to where the person was.
    pub expiry: bool,
}

impl Default for RecordRules {
    fn default() -> Self {
        Self {
            monotonic: true,
            expiry: true,
        }
    }
}

impl RecordRules {
    /// Whether `record` may take the place of `known`, the last one seen of `user`, at `now_millis` (Unix).
    ///
    /// # Errors
    /// One variant per reason.
    pub fn judge(
        self,
        known: Option<&Record>,
        record: &Record,
        user: UserId,
        now_millis: u64,
    ) -> Result<(), RecordError> {
        record.authentic(user)?;
        if self.expiry {
            record.timely(now_millis)?;
        }
        let Some(known) = known.filter(|_| self.monotonic) else {
            return Ok(());
        };
        match record.fields.seq.cmp(&known.fields.seq) {
            std::cmp::Ordering::Greater => Ok(()),
            std::cmp::Ordering::Less => Err(RecordError::Older),
            std::cmp::Ordering::Equal if record.bytes == known.bytes => Ok(()),
            std::cmp::Ordering::Equal => Err(RecordError::Conflict),
        }
    }
}

/// The newest record of each of a bounded number of people.
#[derive(Debug, Clone)]
pub struct RecordCache {
    rules: RecordRules,
    capacity: usize,
    known: BTreeMap<UserId, Record>,
}

impl RecordCache {
    /// An empty cache for `capacity` people, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_rules(capacity, RecordRules::default())
    }

    /// The same under other rules.
    #[must_use]
    pub fn with_rules(capacity: usize, rules: RecordRules) -> Self {
        Self {
            rules,
            capacity: capacity.max(1),
            known: BTreeMap::new(),
        }
    }

    /// Takes a record in, and says whether it is news. In a full cache the record that ends first makes room.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn offer(
        &mut self,
        record: &Record,
        user: UserId,
        now_millis: u64,
    ) -> Result<bool, RecordError> {
        let known = self.known.get(&user);
        self.rules.judge(known, record, user, now_millis)?;
        if known == Some(record) {
            return Ok(false);
        }
        if known.is_none() && self.known.len() >= self.capacity {
            let first = self
                .known
                .iter()
                .min_by_key(|(_user, record)| record.fields.not_after_millis)
                .map(|(user, _record)| *user);
            if let Some(first) = first {
                self.known.remove(&first);
            }
        }
        self.known.insert(user, record.clone());
        Ok(true)
    }

    /// The record of `user`, if it still counts.
    #[must_use]
    pub fn current(&self, user: UserId, now_millis: u64) -> Option<&Record> {
        let record = self.known.get(&user)?;
        let counts = !self.rules.expiry || record.timely(now_millis).is_ok();
        counts.then_some(record)
    }

    /// The last record seen of `user`, expired or not.
    #[must_use]
    pub fn last(&self, user: UserId) -> Option<&Record> {
        self.known.get(&user)
    }

    /// People in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests;
