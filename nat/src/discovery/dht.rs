//! Records in a distributed hash table, as BEP 44 lays them down: the route to a person that needs neither a known home
//! nor a server of anybody's.
//!
//! **Copies.** One record is put under several targets, SHA-1(key | salt), so that whoever places hostile nodes around one
//! of them hides nothing:
//!
//! ```text
//! plain          the person's key, no salt                                  1
//! public         the person's key, "ahoy/1/1" to "ahoy/1/3"                 3
//! for contacts   a key of its own, no salt                                  2 of each day
//! ```
//! A copy for contacts has a secret, HMAC-SHA256(capability, label | user | day, u64 | i, u8), from which follow the key
//! that signs it (Ed25519; the seed is HMAC-SHA256(secret, "sign")) and the one that it is encrypted with
//! (ChaCha20-Poly1305; HMAC-SHA256(secret, "seal")): its value is a nonce, the first 12 bytes of
//! HMAC-SHA256(HMAC-SHA256(secret, "nonce"), record), and the sealed record. So a stranger cannot tell where it lies,
//! hence cannot place nodes there nor count who looks, and the nodes that keep it learn nothing of whose it is. Contacts
//! could put something else there, as nodes can hide it: the record inside is signed by its person. Copies for a
//! day are put from [`DAY_OVERLAP_MILLIS`] before it begins, and looked for as long after it ended as clocks may be wrong.
//!
//! **What the table may do.** Items are signed: nodes can hide a record or serve an old one, which
//! [`RecordRules`](super::record::RecordRules) refuses, and that is all. How many nodes say that they stored something proves nothing, so
//! [`publisher`] reads the copies back as somebody else.
//!
//! **What it learns.** Who looks up which key, from which address; of plain and public copies, who publishes from which
//! address: so these are put only where somebody wants to be found by everybody ([`publisher::PublishPolicy::open`]). A
//! [`DhtNode`] lives for one publication or one search, and never answers others.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use ahoy_transport::{
    identity::{Host, NodeAddress, RootKey, SIGNATURE_LEN, UserId},
    runtime::{Runtime, timeout},
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::{self, BoxStream},
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::record::{Record, RecordFields};
use crate::{keyed::hmac_sha256, portmap::manager::is_public};

pub mod mainline;
pub mod publisher;

/// Copies under salts that everybody knows.
const PUBLIC_SALTS: u8 = 3;
/// Copies under salts that contacts know, of each day.
const CONTACT_SALTS: u8 = 2;
const DAY_MILLIS: u64 = 24 * 3_600_000;
/// Copies for the next day are put this long before it begins: longer than a publication lasts.
pub const DAY_OVERLAP_MILLIS: u64 = 2 * 3_600_000;
/// How wrong the clock of whoever searches may be.
const CLOCK_ERROR_MILLIS: u64 = 3_600_000;
/// Items looked at in one search: each copy from each of the twenty or so nodes that hold it, and more is a flood.
const MAX_ITEMS: usize = 512;
/// How long one copy may take to be put.
const PUT_LIMIT: Duration = Duration::from_secs(20);
/// How long reading one copy back may take.
const READ_LIMIT: Duration = Duration::from_secs(15);

/// A mutable item (BEP 44).
#[derive(Clone, PartialEq, Eq)]
pub struct DhtItem {
    /// Who signed it.
    pub key: [u8; 32],
    /// At most 64 bytes.
    pub salt: Option<Vec<u8>>,
    /// Rises with each change.
    pub seq: i64,
    /// At most 1000 bytes, with the few that spell its length.
    pub value: Vec<u8>,
    /// Over salt, seq and value.
    pub signature: [u8; SIGNATURE_LEN],
}

impl fmt::Debug for DhtItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DhtItem")
            .field("seq", &self.seq)
            .field("value_bytes", &self.value.len())
            .finish_non_exhaustive()
    }
}

/// Why the table could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhtError {
    /// No node of the table answered.
    #[error("no node of the DHT answers")]
    NoNodes,
    /// Nodes answered, and refused.
    #[error("the DHT's nodes refuse the record: {0}")]
    Refused(String),
    /// It took too long.
    #[error("the DHT takes too long")]
    TimedOut,
    /// No node of ours could be started.
    #[error("no socket for the DHT: {0}")]
    Io(String),
}

/// A node of ours for one purpose. It ends when it is dropped.
pub trait DhtNode: Send + Sync + fmt::Debug {
    /// Puts an item to the nodes nearest to its target, and says how many claim to have stored it.
    fn put(&self, item: DhtItem) -> BoxFuture<'_, Result<usize, DhtError>>;

    /// The items under a target as nodes hand them out, in no order and some again and again; each is signed by `key`.
    /// Ends when everybody near was asked. The node has to live as long.
    fn get(&self, key: [u8; 32], salt: Option<Vec<u8>>) -> BoxStream<'static, DhtItem>;

    /// Whether anybody answers.
    fn is_connected(&self) -> BoxFuture<'_, bool>;
}

/// A distributed hash table.
pub trait Dht: Send + Sync + fmt::Debug {
    /// Joins it, as somebody who was never there.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DhtNode>, DhtError>>;

    /// Whether a record lies there under several salts. Where it does not, only what is asked for without one counts.
    fn has_salts(&self) -> bool {
        true
    }

    /// Whether it is everybody's: then homes that only some can reach are not put there.
    fn is_public(&self) -> bool;
}

/// Where one copy of a person's record lies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Under the person's key: for everybody.
    Open {
        /// The salt, if any.
        salt: Option<Vec<u8>>,
    },
    /// Where only those look who know this secret.
    Hidden([u8; 32]),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { salt } => f.debug_struct("Open").field("salt", salt).finish(),
            Self::Hidden(_) => f.write_str("Hidden(secret)"),
        }
    }
}

impl Place {
    /// The one without a salt.
    pub const OPEN: Self = Self::Open { salt: None };

    fn hidden(capability: &[u8; 32], user: UserId, day: u64, i: u8) -> Self {
        let label = b"ahoy dht copy 1\0";
        Self::Hidden(hmac_sha256(
            capability,
            &[label, user.as_bytes(), &day.to_be_bytes(), &[i]],
        ))
    }

    /// The key and the salt under which it lies.
    #[must_use]
    pub fn target(&self, user: UserId) -> ([u8; 32], Option<Vec<u8>>) {
        match self {
            Self::Open { salt } => (user.0, salt.clone()),
            Self::Hidden(secret) => (signer(secret).user().0, None),
        }
    }

    /// The record in an item that lay here, if it is one of `user`. It is not judged yet.
    #[must_use]
    pub fn record_in(&self, item: &DhtItem, user: UserId) -> Option<Record> {
        let Self::Hidden(secret) = self else {
            return record_in(item, user);
        };
        let (nonce, sealed) = item.value.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = sealed.to_vec();
        let opened = sealing_key(secret)?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(user.as_bytes()),
                &mut bytes,
            )
            .ok()?;
        let record = Record::from_bytes(opened).ok()?;
        let fields = record.fields();
        let same = fields.user == user && i64::try_from(fields.seq) == Ok(item.seq);
        same.then_some(record)
    }
}

fn signer(secret: &[u8; 32]) -> RootKey {
    RootKey::from_seed(&hmac_sha256(secret, &[b"sign"]))
}

fn sealing_key(secret: &[u8; 32]) -> Option<LessSafeKey> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &hmac_sha256(secret, &[b"seal"]));
    key.ok().map(LessSafeKey::new)
}

/// The record for those who know the secret. Its nonce follows from it: the same one twice is the same item.
fn sealed(record: &Record, secret: &[u8; 32]) -> Option<Vec<u8>> {
    let bytes = record.as_bytes();
    let hash = hmac_sha256(&hmac_sha256(secret, &[b"nonce"]), &[bytes]);
    let nonce = *hash.first_chunk::<NONCE_LEN>()?;
    let mut value = bytes.to_vec();
    let tag = sealing_key(secret)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(record.fields().user.as_bytes()),
            &mut value,
        )
        .ok()?;
    Some([&nonce, value.as_slice(), tag.as_ref()].concat())
}

/// Where the record of a person is found. `capability` is what the person gives to contacts.
fn places(user: UserId, days: &[u64], capability: Option<&[u8; 32]>) -> Vec<Place> {
    let mut places = vec![Place::OPEN];
    places.extend((1..=PUBLIC_SALTS).map(|i| Place::Open {
        salt: Some(format!("ahoy/1/{i}").into_bytes()),
    }));
    if let Some(capability) = capability {
        for day in days {
            places.extend((0..CONTACT_SALTS).map(|i| Place::hidden(capability, user, *day, i)));
        }
    }
    places
}

/// The days that both moments are in, one or two.
fn days(from_millis: u64, to_millis: u64) -> Vec<u64> {
    let mut days = vec![from_millis / DAY_MILLIS, to_millis / DAY_MILLIS];
    days.dedup();
    days
}

/// All copies that are put at `now_millis` (Unix).
#[must_use]
pub fn places_to_put(user: UserId, capability: Option<&[u8; 32]>, now_millis: u64) -> Vec<Place> {
    let days = days(now_millis, now_millis.saturating_add(DAY_OVERLAP_MILLIS));
    places(user, &days, capability)
}

/// All copies that are looked for at `now_millis` (Unix).
#[must_use]
pub fn places_to_get(user: UserId, capability: Option<&[u8; 32]>, now_millis: u64) -> Vec<Place> {
    let days = days(
        now_millis.saturating_sub(CLOCK_ERROR_MILLIS),
        now_millis.saturating_add(CLOCK_ERROR_MILLIS),
    );
    places(user, &days, capability)
}

/// The record as the item of one copy.
#[must_use]
pub fn item(record: &Record, root: &RootKey, place: &Place) -> Option<DhtItem> {
    let own;
    let (root, salt, value) = match place {
        Place::Open { salt } => (root, salt.clone(), record.as_bytes().to_vec()),
        Place::Hidden(secret) => {
            own = signer(secret);
            (&own, None, sealed(record, secret)?)
        }
    };
    let seq = record.fields().seq;
    Some(DhtItem {
        key: root.user().0,
        // Numbers of records are milliseconds; the item has 63 bits.
        seq: i64::try_from(seq).unwrap_or(i64::MAX),
        signature: root.sign_dht_item(salt.as_deref(), seq, &value),
        value,
        salt,
    })
}

/// The record in an item for everybody, if it is one of `user`. It is not judged yet.
#[must_use]
pub fn record_in(item: &DhtItem, user: UserId) -> Option<Record> {
    let record = Record::from_bytes(&item.value).ok()?;
    let same = item.key == user.0
        && record.fields().user == user
        && i64::try_from(record.fields().seq) == Ok(item.seq);
    same.then_some(record)
}

/// The item of a record for a table that looks at the record's own signature alone.
fn unsigned(record: &Record) -> Option<DhtItem> {
    Some(DhtItem {
        key: record.fields().user.0,
        salt: None,
        seq: i64::try_from(record.fields().seq).ok()?,
        value: record.as_bytes().to_vec(),
        signature: [0; 64],
    })
}

/// What became of the copies of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOutcome {
    /// Copies that should be there.
    pub copies: usize,
    /// Copies that some node claims to have.
    pub stored: usize,
}

/// Puts all copies of a record at once.
///
/// # Errors
/// When not one could be put: the reason of the first.
pub async fn put_record(
    runtime: &dyn Runtime,
    node: &dyn DhtNode,
    record: &Record,
    root: &RootKey,
    places: &[Place],
) -> Result<PutOutcome, DhtError> {
    put_items(runtime, node, record, Some(root), places).await
}

/// As [`put_record`]; without `root` for a table that looks at the record's own signature alone.
///
/// # Errors
/// As there.
pub async fn put_items(
    runtime: &dyn Runtime,
    node: &dyn DhtNode,
    record: &Record,
    root: Option<&RootKey>,
    places: &[Place],
) -> Result<PutOutcome, DhtError> {
    let putting = places.iter().map(|place| async {
        let item = match root {
            Some(root) => item(record, root, place),
            None => unsigned(record),
        };
        let item = item.ok_or_else(|| DhtError::Refused("it cannot be sealed".into()))?;
        let put = node.put(item);
        match timeout(runtime, PUT_LIMIT, put).await {
            Some(Ok(0)) => Err(DhtError::NoNodes),
            Some(outcome) => outcome,
            None => Err(DhtError::TimedOut),
        }
    });
    let outcomes = join_all(putting).await;
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    match outcomes.into_iter().find_map(Result::err) {
        Some(error) if stored == 0 => Err(error),
        Some(_) | None => Ok(PutOutcome {
            copies: places.len(),
            stored,
        }),
    }
}

/// How many of the copies of a record can be read, in its number or a higher one.
pub async fn readable(
    runtime: &dyn Runtime,
    node: &dyn DhtNode,
    record: &Record,
    places: &[Place],
) -> usize {
    let RecordFields { user, seq, .. } = *record.fields();
    let reading = places.iter().map(|place| async move {
        let (key, salt) = place.target(user);
        let mut found = node.get(key, salt).take(MAX_ITEMS);
        let wanted = async {
            while let Some(item) = found.next().await {
                let is_it = place.record_in(&item, user).is_some_and(|found| {
                    found.fields().seq >= seq && found.authentic(user).is_ok()
                });
                if is_it {
                    return true;
                }
            }
            false
        };
        timeout(runtime, READ_LIMIT, wanted).await.unwrap_or(false)
    });
    let found = join_all(reading).await;
    found.into_iter().filter(|found| *found).count()
}

/// Looks for the records of `user` at all `places` at once. What comes is the person's in name alone: judge it.
pub fn records(dht: Arc<dyn Dht>, user: UserId, places: Vec<Place>) -> BoxStream<'static, Record> {
    let opening = async move { dht.open().await };
    opening
        .map(move |opened| {
            let node = match opened {
                Ok(node) => node,
                Err(error) => {
                    tracing::info!(%error, "the DHT cannot be asked");
                    return stream::empty().boxed();
                }
            };
            let copies = places.into_iter().map(|place| {
                let (key, salt) = place.target(user);
                let items = node.get(key, salt);
                items.map(move |item| place.record_in(&item, user)).boxed()
            });
            stream::select_all(copies.collect::<Vec<_>>())
                .take(MAX_ITEMS)
                // The node lives as long as the search.
                .filter_map(move |record| {
                    let _alive = &node;
                    std::future::ready(record)
                })
                .boxed()
        })
        .flatten_stream()
        .boxed()
}

/// Whether everybody can reach a home, as far as its address tells.
#[must_use]
pub fn is_for_everybody(home: &NodeAddress) -> bool {
    match &home.host {
        Host::Name(_) => true,
        Host::Ip(IpAddr::V4(v4)) => is_public(*v4),
        Host::Ip(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(v4),
            None => {
                !(v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local())
            }
        },
    }
}

fn may_be_public(ip: Ipv4Addr) -> bool {
    is_public(ip)
}

#[cfg(test)]
mod tests;
