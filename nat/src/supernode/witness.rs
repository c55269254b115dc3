//! Witnesses: supernodes that sign which device list of a person they have seen. Sans-IO.
//!
//! A person's list of devices is a chain that only grows. Whoever has a key of it, stolen or not, can make two lists that go
//! on differently from one place, and show each of them to somebody else. A supernode sees the lists of those who register.
//! It signs the end of the first one that it sees, and of each that goes on from there ([`Cosigned`]); of one that does not it
//! signs nothing, and keeps it: the two together prove the fork to anybody
//! ([`ForkProof`](ahoy_transport::identity::log::ForkProof)), and both the owner and those who ask are told.
//!
//! A witness is believed in nothing but what it signed. Three in different networks have to be fooled, or to lie, before a
//! fork goes unseen; one that signs two ends of one place has proved that it lies.
//!
//! ```text
//! | ver=1 | witness (32) | person (32) | u64 entry's number | its hash (32) | u64 seen, Unix ms | signature (64) |
//! ```
//! The signature (domain `ahoy/1 witness`) is over everything before it.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::collections::BTreeMap;

use ahoy_transport::{
    identity::{
        Domain, LogPosition, NodeId, NodeKeys, SIGNATURE_LEN, UserId,
        log::{DeviceLog, LogRelation},
        verify_signature,
    },
    wire::{Reader, WireError, Writer},
};

use super::protocol::MAX_LOG;

/// Length of a [`Cosigned`], in bytes.
pub const COSIGNED_LEN: usize = 1 + 32 + 32 + 8 + 32 + 8 + SIGNATURE_LEN;
/// People whose lists are remembered; the ones seen longest ago go first.
pub const MAX_WITNESSED: usize = 65_536;
/// Bytes of their lists; a list of three devices has about 600.
pub const MAX_WITNESSED_BYTES: usize = 32 << 20;
/// Witnesses of one person that count, each in a network of its own.
pub const WITNESSES: usize = 3;

const VERSION: u8 = 1;
const DOMAIN: Domain = Domain::new("ahoy/1 witness");

/// A supernode's word that it has seen a list with this end. Read, and judged by [`Self::is_authentic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    witness: NodeId,
    user: UserId,
    head: LogPosition,
    seen_millis: u64,
    bytes: Box<[u8]>,
}

impl Cosigned {
    /// The supernode of `keys` has seen a list of `user` that ends at `head`.
    #[must_use]
    pub fn issue(keys: &NodeKeys, user: UserId, head: LogPosition, seen_millis: u64) -> Self {
        let witness = keys.id();
        let signature = keys.sign(DOMAIN, &Self::unsigned(witness, user, head, seen_millis));
        Self::from_parts(witness, user, head, seen_millis, &signature)
    }

    /// The one with these parts, not judged.
    #[must_use]
    pub fn from_parts(
        witness: NodeId,
        user: UserId,
        head: LogPosition,
        seen_millis: u64,
        signature: &[u8; SIGNATURE_LEN],
    ) -> Self {
        let mut bytes = Self::unsigned(witness, user, head, seen_millis);
        bytes.put_bytes(signature);
        Self {
            witness,
            user,
            head,
            seen_millis,
            bytes: bytes.into_boxed_slice(),
        }
    }

    fn unsigned(witness: NodeId, user: UserId, head: LogPosition, seen_millis: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(COSIGNED_LEN);
        bytes.put_u8(VERSION);
        bytes.put_bytes(witness.as_bytes());
        bytes.put_bytes(user.as_bytes());
        bytes.put_u64(head.n);
        bytes.put_bytes(&head.hash);
        bytes.put_u64(seen_millis);
        bytes
    }

    /// Reads one without judging it.
    ///
    /// # Errors
    /// When the bytes are not exactly one of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let witness = NodeId(reader.array()?);
        let user = UserId(reader.array()?);
        let head = LogPosition {
            n: reader.u64()?,
            hash: reader.array()?,
        };
        let seen_millis = reader.u64()?;
        let _signature: [u8; SIGNATURE_LEN] = reader.array()?;
        reader.finish()?;
        Ok(Self {
            witness,
            user,
            head,
            seen_millis,
            bytes: bytes.into(),
        })
    }

    /// As it is sent and kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Who says it.
    #[must_use]
    pub fn witness(&self) -> NodeId {
        self.witness
    }

    /// Whose list it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Where the list ended.
    #[must_use]
    pub fn head(&self) -> LogPosition {
        self.head
    }

    /// When it was signed, Unix milliseconds.
    #[must_use]
    pub fn seen_millis(&self) -> u64 {
        self.seen_millis
    }

    /// The witness's signature, not judged.
    #[must_use]
    pub fn signature(&self) -> [u8; SIGNATURE_LEN] {
        let signature = self.bytes.last_chunk().copied();
        signature.unwrap_or([0; SIGNATURE_LEN])
    }

    /// Whether the witness signed it.
    #[must_use]
    pub fn is_authentic(&self) -> bool {
        self.bytes
            .split_last_chunk::<SIGNATURE_LEN>()
            .is_some_and(|(message, signature)| {
                verify_signature(self.witness.as_bytes(), DOMAIN, message, signature)
            })
    }
}

/// What a witness answers about a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Testimony {
    /// What it signed: [`Cosigned`].
    pub signed: Option<Vec<u8>>,
    /// The list whose end that is, for who asks about somebody else.
    pub log: Option<Vec<u8>>,
    /// A list that contradicts it, if there was one.
    pub other: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Seen {
    log: DeviceLog,
    bytes: Vec<u8>,
    other: Option<Vec<u8>>,
    at_millis: u64,
}

impl Seen {
    fn size(&self) -> usize {
        self.bytes.len() + self.other.as_ref().map_or(0, Vec::len)
    }
}

/// Counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WitnessCounters {
    /// Ends signed.
    pub signed: u64,
    /// Lists that were shorter than one seen before: nothing was signed.
    pub behind: u64,
    /// Lists that contradict one seen before.
    pub forked: u64,
}

/// The lists that a witness has seen.
#[derive(Debug)]
pub struct Witness {
    keys: NodeKeys,
    seen: BTreeMap<UserId, Seen>,
    /// Oldest first.
    order: BTreeMap<(u64, UserId), ()>,
    bytes: usize,
    counters: WitnessCounters,
}

impl Witness {
    /// That has seen nothing yet.
    #[must_use]
    pub fn new(keys: NodeKeys) -> Self {
        Self {
            keys,
            seen: BTreeMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            counters: WitnessCounters::default(),
        }
    }

    /// Counters.
    #[must_use]
    pub fn counters(&self) -> WitnessCounters {
        self.counters
    }

    /// People whose lists are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether it has seen nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// A device of the person shows this list, which was verified, and wants its end signed.
    pub fn handle_shown(&mut self, log: DeviceLog, bytes: &[u8], now_millis: u64) -> Testimony {
        let user = ahoy_transport::identity::DeviceSet::user(&log);
        let Some(mut seen) = self.forget(user) else {
            let seen = Seen {
                log,
                bytes: bytes.to_vec(),
                other: None,
                at_millis: now_millis,
            };
            return self.testify(user, seen, now_millis);
        };
        match seen.log.compare(&log) {
            LogRelation::Same => {}
            LogRelation::Extends => {
                seen.log = log;
                seen.bytes = bytes.to_vec();
            }
            LogRelation::Rollback | LogRelation::OtherUser => {
                self.counters.behind += 1;
                let testimony = Testimony {
                    log: Some(seen.bytes.clone()),
                    ..Testimony::default()
                };
                self.keep(user, seen, now_millis);
                return testimony;
            }
            LogRelation::Fork(_proof) => {
                self.counters.forked += 1;
                if bytes.len() <= MAX_LOG {
                    seen.other.get_or_insert_with(|| bytes.to_vec());
                }
                let testimony = Testimony {
                    signed: None,
                    log: None,
                    other: Some(seen.bytes.clone()),
                };
                self.keep(user, seen, now_millis);
                return testimony;
            }
        }
        self.testify(user, seen, now_millis)
    }

    /// Somebody asks what it has seen of a person.
    pub fn handle_asked(&mut self, user: UserId, now_millis: u64) -> Testimony {
        let Some(seen) = self.seen.get(&user) else {
            return Testimony::default();
        };
        self.counters.signed += 1;
        let signed = Cosigned::issue(&self.keys, user, seen.log.head(), now_millis);
        Testimony {
            signed: Some(signed.as_bytes().to_vec()),
            log: Some(seen.bytes.clone()),
            other: seen.other.clone(),
        }
    }

    fn testify(&mut self, user: UserId, seen: Seen, now_millis: u64) -> Testimony {
        self.counters.signed += 1;
        let signed = Cosigned::issue(&self.keys, user, seen.log.head(), now_millis);
        let testimony = Testimony {
            signed: Some(signed.as_bytes().to_vec()),
            log: None,
            other: seen.other.clone(),
        };
        self.keep(user, seen, now_millis);
        testimony
    }

    fn keep(&mut self, user: UserId, seen: Seen, now_millis: u64) {
        let seen = Seen {
            at_millis: now_millis,
            ..seen
        };
        self.bytes += seen.size();
        self.order.insert((now_millis, user), ());
        self.seen.insert(user, seen);
        while self.seen.len() > MAX_WITNESSED || self.bytes > MAX_WITNESSED_BYTES {
            let Some(((_at, oldest), ())) = self.order.pop_first() else {
                return;
            };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, user: UserId) -> Option<Seen> {
        let seen = self.seen.remove(&user)?;
        self.order.remove(&(seen.at_millis, user));
        self.bytes -= seen.size();
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::{
        DeviceKeys, RootKey,
        log::{LogOp, LogSigner},
    };
    use proptest::{collection::vec, prelude::*};
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn keys(n: u8) -> NodeKeys {
        NodeKeys::from_seed(&[n; 32])
    }

    fn device(n: u64) -> DeviceKeys {
        DeviceKeys::generate(&mut ChaCha20Rng::seed_from_u64(n), NOW)
    }

    fn log(root: &RootKey, devices: &[u64]) -> DeviceLog {
        let mut log = DeviceLog::create(root, &device(devices[0]), NOW);
        for n in &devices[1..] {
            let keys = device(*n);
            let op = LogOp::AddDevice {
                device: keys.id(),
                noise_static: keys.noise_public(),
                sealed_name: vec![],
            };
            log.append(op, LogSigner::Root(root), NOW).unwrap();
        }
        log
    }

    fn show(witness: &mut Witness, log: &DeviceLog) -> Testimony {
        witness.handle_shown(log.clone(), &log.to_bytes(), NOW)
    }

    #[test]
    fn it_signs_what_goes_on_and_nothing_that_contradicts_it() {
        let root = RootKey::from_seed(&[1; 32]);
        let (first, longer, other) = (log(&root, &[1]), log(&root, &[1, 2]), log(&root, &[1, 3]));
        let mut witness = Witness::new(keys(9));
        for log in [&first, &longer, &longer] {
            let signed = show(&mut witness, log).signed.unwrap();
            let signed = Cosigned::from_bytes(&signed).unwrap();
            assert!(signed.is_authentic() && signed.witness() == keys(9).id());
            assert_eq!((signed.user(), signed.head()), (root.user(), log.head()));
        }
        let behind = show(&mut witness, &first);
        assert_eq!((behind.signed, behind.log), (None, Some(longer.to_bytes())));
        // Whoever has a key of hers shows another list: it proves the fork to whoever has both.
        let refused = show(&mut witness, &other);
        assert_eq!(refused.signed, None);
        let shown = DeviceLog::from_bytes(root.user(), &refused.other.unwrap()).unwrap();
        assert!(matches!(other.compare(&shown), LogRelation::Fork(_)));
        // She is told, and so is everybody who asks.
        let told = show(&mut witness, &longer);
        assert_eq!(told.other, Some(other.to_bytes()));
        let asked = witness.handle_asked(root.user(), NOW);
        assert_eq!(asked.log, Some(longer.to_bytes()));
        assert_eq!(asked.other, Some(other.to_bytes()));
        let counted = WitnessCounters {
            signed: 5,
            behind: 1,
            forked: 1,
        };
        assert_eq!(witness.counters(), counted);
    }

    #[test]
    fn who_forgets_nothing_would_be_filled() {
        let mut witness = Witness::new(keys(9));
        let big = vec![0; MAX_LOG];
        let fill = MAX_WITNESSED_BYTES / MAX_LOG;
        let roots = (0..40u8).map(|n| RootKey::from_seed(&[n; 32]));
        let logs: Vec<DeviceLog> = roots.map(|root| log(&root, &[1])).collect();
        for (n, log) in logs.iter().enumerate() {
            witness.handle_shown(log.clone(), &big, NOW + n as u64);
        }
        assert!(witness.bytes == logs.len() * MAX_LOG && logs.len() < fill);
        // The same ones again cost nothing more.
        for log in &logs {
            witness.handle_shown(log.clone(), &big, NOW);
        }
        assert_eq!((witness.len(), witness.order.len()), (40, 40));
        assert_eq!(witness.bytes, 40 * MAX_LOG);
    }

    proptest! {
        #[test]
        fn each_changed_byte_is_refused(at in 0..COSIGNED_LEN, bit in 0u8..8) {
            let root = RootKey::from_seed(&[1; 32]);
            let signed = Cosigned::issue(&keys(1), root.user(), log(&root, &[1]).head(), NOW);
            prop_assert!(signed.is_authentic());
            let mut bytes = signed.as_bytes().to_vec();
            prop_assert_eq!(bytes.len(), COSIGNED_LEN);
            bytes[at] ^= 1 << bit;
            let changed = Cosigned::from_bytes(&bytes);
            prop_assert!(!changed.is_ok_and(|changed| changed.is_authentic()));
        }

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..COSIGNED_LEN + 8)) {
            if let Ok(read) = Cosigned::from_bytes(&bytes) {
                prop_assert_eq!(read.as_bytes(), &bytes[..]);
            }
        }
    }
}
