//! Records at supernodes, as the same kind of table as the DHT: put at, and looked for in, the
//! [places](ahoy_nat::discovery::rendezvous) of a person among the supernodes that this device knows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahoy_nat::{
    client::NodeClient,
    dial::dial,
    discovery::{
        dht::{DAY_OVERLAP_MILLIS, Dht, DhtError, DhtItem, DhtNode, record_in},
        record::Record,
        rendezvous::{DAY_MILLIS, places},
    },
};
use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::{NodeAddress, NodeId, UserId},
    runtime::{Runtime, timeout},
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::{BoxStream, FuturesUnordered},
};

use super::{book::AddressBook, config::Reaching};

/// Our record is also left at so many supernodes that served last: links that were given away lead there.
const LAST_SERVED: usize = 4;
/// How long one supernode may take: a connection, and one round trip.
const PATIENCE: Duration = Duration::from_secs(5);

/// The supernodes that are known, as a table of records. Clones know the same ones.
#[derive(Debug, Clone)]
pub(super) struct Rendezvous {
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    reaching: Reaching,
    book: Arc<dyn AddressBook>,
    /// Those that we are registered at.
    ours: Arc<Mutex<BTreeMap<NodeId, NodeClient>>>,
    /// Asked beside the places.
    also: Vec<NodeAddress>,
}

impl Rendezvous {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        endpoint: Endpoint,
        reaching: Reaching,
        book: Arc<dyn AddressBook>,
    ) -> Self {
        Self {
            runtime,
            endpoint,
            reaching,
            book,
            ours: Arc::default(),
            also: Vec::new(),
        }
    }

    fn ours(&self) -> MutexGuard<'_, BTreeMap<NodeId, NodeClient>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These served just now: they are remembered over restarts.
    pub(super) fn note(&self, nodes: &[NodeAddress]) {
        if !nodes.is_empty() {
            self.book.keep_nodes(nodes, self.runtime.unix_millis());
        }
    }

    /// We are registered at these now.
    pub(super) fn set_ours(&self, ours: BTreeMap<NodeId, NodeClient>) {
        *self.ours() = ours;
    }

    /// The same, which asks these supernodes too.
    pub(super) fn with(&self, also: Vec<NodeAddress>) -> Self {
        Self {
            also,
            ..self.clone()
        }
    }

    /// Where the record of `user` is at one of these times, each supernode once.
    fn places(
        &self,
        user: UserId,
        times: &[u64],
        last_served: usize,
    ) -> Vec<(NodeAddress, Option<NodeClient>)> {
        let known = self.book.known_nodes();
        let mut all = self.also.clone();
        all.extend(known.iter().take(last_served).cloned());
        for at in times {
            all.extend(places(user, at / DAY_MILLIS, &known));
        }
        let ours = self.ours();
        let mut found: Vec<(NodeAddress, Option<NodeClient>)> = Vec::new();
        for node in all {
            if found.iter().all(|(other, _client)| other.node != node.node) {
                let client = ours.get(&node.node).cloned();
                found.push((node, client));
            }
        }
        found
    }

    /// A connection to a supernode; where we are not registered, as nobody in particular.
    async fn client(&self, node: &NodeAddress, ours: Option<NodeClient>) -> Option<NodeClient> {
        if ours.is_some() {
            return ours;
        }
        let place = self.reaching.locate(&*self.runtime, node).await.ok()?;
        let ways = self.reaching.ways;
        let dialled = dial(&self.endpoint, node.node, &place, NodeAuth::Anonymous, ways);
        let dialled = dialled.await.ok()?;
        Some(NodeClient::dialled(Arc::clone(&self.runtime), dialled))
    }

    /// What one supernode holds of `user`, after `record` was left there, if there is one to leave.
    async fn ask(
        self,
        (node, ours): (NodeAddress, Option<NodeClient>),
        user: UserId,
        record: Option<Record>,
    ) -> Option<Record> {
        let is_ours = ours.is_some();
        let asking = async {
            let client = self.client(&node, ours).await?;
            let answer = match &record {
                Some(record) => client.publish(record).await,
                None => client.find(user).await,
            };
            if !is_ours {
                client.close();
            }
            answer
                .inspect_err(|error| tracing::debug!(%node, %error, "no word of a record"))
                .ok()?
        };
        timeout(&*self.runtime, PATIENCE, asking).await.flatten()
    }
}

impl Dht for Rendezvous {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DhtNode>, DhtError>> {
        std::future::ready(Ok(Arc::new(self.clone()) as Arc<dyn DhtNode>)).boxed()
    }

    fn has_salts(&self) -> bool {
        false
    }

    /// Supernodes are asked by those who know them.
    fn is_public(&self) -> bool {
        false
    }
}

impl DhtNode for Rendezvous {
    fn put(&self, item: DhtItem) -> BoxFuture<'_, Result<usize, DhtError>> {
        async move {
            let user = UserId(item.key);
            let Some(record) = record_in(&item, user) else {
                return Err(DhtError::Refused("it is no record".into()));
            };
            let now = self.runtime.unix_millis();
            let times = [now, now.saturating_add(DAY_OVERLAP_MILLIS)];
            let places = self.places(user, &times, LAST_SERVED);
            let publishing = places
                .into_iter()
                .map(|place| self.clone().ask(place, user, Some(record.clone())));
            let held = join_all(publishing).await;
            let held = held.iter().flatten().filter(|held| **held == record);
            match held.count() {
                0 => Err(DhtError::NoNodes),
                some => Ok(some),
            }
        }
        .boxed()
    }

    fn get(&self, key: [u8; 32], _salt: Option<Vec<u8>>) -> BoxStream<'static, DhtItem> {
        let user = UserId(key);
        let places = self.places(user, &[self.runtime.unix_millis()], 0);
        let asking: FuturesUnordered<_> = places
            .into_iter()
            .map(|place| self.clone().ask(place, user, None))
            .collect();
        // The signature of an item is the DHT's; the record has one of its own.
        let items = asking.filter_map(move |found| {
            let item = found.map(|record| DhtItem {
                key,
                salt: None,
                seq: i64::try_from(record.fields().seq).unwrap_or(i64::MAX),
                value: record.as_bytes().to_vec(),
                signature: [0; 64],
            });
            std::future::ready(item)
        });
        items.boxed()
    }

    fn is_connected(&self) -> BoxFuture<'_, bool> {
        let any = !self.book.known_nodes().is_empty();
        std::future::ready(any).boxed()
    }
}
