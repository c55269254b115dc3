//! Records in a distributed hash table, as BEP 44 lays them down: the route to a person that needs neither a known home
//! nor a server of anybody's.
//!
//! **Copies.** One record is put under several targets, SHA-1(key | salt), so that whoever places hostile nodes around one
//! of them hides nothing:
//!
//! ```text
//! plain          no salt                                                    1
//! public         "ahoy/1/1" to "ahoy/1/3"                                   3
//! for contacts   HMAC-SHA256(capability, label | user | day, u64 | i, u8)   2 of each day
//! ```
//! A stranger cannot tell the targets of the last kind, so cannot place nodes there, nor count who looks. Copies for a
//! day are put from [`DAY_OVERLAP_MILLIS`] before it begins, and looked for as long after it ended as clocks may be wrong.
//!
//! **What the table may do.** Items are signed: nodes can hide a record or serve an old one, which
//! [`RecordRules`](super::record::RecordRules) refuses, and that is all. How many nodes say that they stored something proves nothing, so
//! [`publisher`] reads the copies back as somebody else.
//!
//! **What it learns.** Who looks up which key, from which address; who publishes from which address. A
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
use ring::hmac;

use super::record::{Record, RecordFields};
use crate::portmap::manager::is_public;

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

/// Under which salts the record of a person is found. `capability` is what the person gives to contacts.
fn salts(user: UserId, days: &[u64], capability: Option<&[u8; 32]>) -> Vec<Option<Vec<u8>>> {
    let mut salts = vec![None];
    salts.extend((1..=PUBLIC_SALTS).map(|i| Some(format!("ahoy/1/{i}").into_bytes())));
    if let Some(capability) = capability {
        let key = hmac::Key::new(hmac::HMAC_SHA256, capability);
        for day in days {
            for i in 0..CONTACT_SALTS {
                let mut context = hmac::Context::with_key(&key);
                context.update(b"ahoy dht salt 1\0");
                context.update(user.as_bytes());
                context.update(&day.to_be_bytes());
                context.update(&[i]);
                salts.push(Some(context.sign().as_ref().to_vec()));
            }
        }
    }
    salts
}

/// The days that both moments are in, one or two.
fn days(from_millis: u64, to_millis: u64) -> Vec<u64> {
    let mut days = vec![from_millis / DAY_MILLIS, to_millis / DAY_MILLIS];
    days.dedup();
    days
}

/// Salts of all copies that are put at `now_millis` (Unix).
#[must_use]
pub fn salts_to_put(
    user: UserId,
    capability: Option<&[u8; 32]>,
    now_millis: u64,
) -> Vec<Option<Vec<u8>>> {
    let days = days(now_millis, now_millis.saturating_add(DAY_OVERLAP_MILLIS));
    salts(user, &days, capability)
}

/// Salts of all copies that are looked for at `now_millis` (Unix).
#[must_use]
pub fn salts_to_get(
    user: UserId,
    capability: Option<&[u8; 32]>,
    now_millis: u64,
) -> Vec<Option<Vec<u8>>> {
    let days = days(
        now_millis.saturating_sub(CLOCK_ERROR_MILLIS),
        now_millis.saturating_add(CLOCK_ERROR_MILLIS),
    );
    salts(user, &days, capability)
}

/// The record as the item of one copy.
#[must_use]
pub fn item(record: &Record, root: &RootKey, salt: Option<Vec<u8>>) -> DhtItem {
    let seq = record.fields().seq;
    DhtItem {
        key: root.user().0,
        // Numbers of records are milliseconds; the item has 63 bits.
        seq: i64::try_from(seq).unwrap_or(i64::MAX),
        signature: root.sign_dht_item(salt.as_deref(), seq, record.as_bytes()),
        value: record.as_bytes().to_vec(),
        salt,
    }
}

/// The record in an item, if it is one of `user`. It is not judged yet.
#[must_use]
pub fn record_in(item: &DhtItem, user: UserId) -> Option<Record> {
    let record = Record::from_bytes(&item.value).ok()?;
    let same = item.key == user.0
        && record.fields().user == user
        && i64::try_from(record.fields().seq) == Ok(item.seq);
    same.then_some(record)
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
    salts: &[Option<Vec<u8>>],
) -> Result<PutOutcome, DhtError> {
    let putting = salts.iter().map(|salt| async {
        let put = node.put(item(record, root, salt.clone()));
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
            copies: salts.len(),
            stored,
        }),
    }
}

/// How many of the copies of a record can be read, in its number or a higher one.
pub async fn readable(
    runtime: &dyn Runtime,
    node: &dyn DhtNode,
    record: &Record,
    salts: &[Option<Vec<u8>>],
) -> usize {
    let RecordFields { user, seq, .. } = *record.fields();
    let reading = salts.iter().map(|salt| async move {
        let mut found = node.get(user.0, salt.clone()).take(MAX_ITEMS);
        let wanted = async {
            while let Some(item) = found.next().await {
                let is_it = record_in(&item, user).is_some_and(|found| {
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

/// Looks for the records of `user` under all `salts` at once. What comes is the person's in name alone: judge it.
pub fn records(
    dht: Arc<dyn Dht>,
    user: UserId,
    salts: Vec<Option<Vec<u8>>>,
) -> BoxStream<'static, Record> {
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
            let copies = salts.into_iter().map(|salt| node.get(user.0, salt));
            stream::select_all(copies.collect::<Vec<_>>())
                .take(MAX_ITEMS)
                // The node lives as long as the search.
                .filter_map(move |item| {
                    let _alive = &node;
                    std::future::ready(record_in(&item, user))
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
