//! Records at supernodes, as the same kind of table as the DHT: put at, and looked for in, the
//! [places](ahoy_nat::discovery::rendezvous) of a person among the supernodes that this device knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahoy_nat::{
    client::NodeClient,
    dial::dial,
    discovery::{
        dht::{DAY_OVERLAP_MILLIS, Dht, DhtError, DhtItem, DhtNode, record_in},
        gossip::{
            Errand, Gossip, GossipPolicy,
            shell::{Courier, Gossiper, TableKeeper, Told, learn},
        },
        record::Record,
        rendezvous::{DAY_MILLIS, MAX_TRIED, Network, Visit, ranked},
        table::{Known, NodeTable},
    },
};
use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::{NodeAddress, NodeId, UserId},
    runtime::{Runtime, RuntimeExt, Task, timeout},
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};

use super::{book::AddressBook, config::Reaching};

/// Our record is also left at so many supernodes that served last: links that were given away lead there.
const LAST_SERVED: usize = 4;
/// How long one supernode may take: a connection, and one round trip.
const PATIENCE: Duration = Duration::from_secs(5);
/// Somebody who just started knows few supernodes: whoever is not found is looked for so many times more, where is known then,
const SEARCHED_AGAIN: usize = 2;
/// each time after this.
const LEARNING: Duration = Duration::from_secs(2);

/// The supernodes that are known, as a table of records. Clones know the same ones.
#[derive(Debug, Clone)]
pub(super) struct Rendezvous {
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    reaching: Reaching,
    book: Arc<dyn AddressBook>,
    /// Those that we are registered at.
    ours: Arc<Mutex<BTreeMap<NodeId, NodeClient>>>,
    /// What supernodes tell of each other.
    gossiper: Option<Gossiper>,
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
            gossiper: None,
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

    /// Learns of supernodes from those that are known, until the task is dropped.
    pub(super) fn gossip(&mut self) -> Task {
        let policy = GossipPolicy::device();
        let keeper = Arc::new(Kept(Arc::clone(&self.book)));
        let table = keeper.table().and_then(|table| {
            NodeTable::from_bytes(policy.rules, None, &table)
                .inspect_err(|error| tracing::warn!(%error, "known supernodes cannot be read"))
                .ok()
        });
        let (now, seed) = (self.runtime.now(), self.runtime.random_array());
        let gossip = Gossip::new(policy, None, table, Vec::new(), now, seed);
        let gossiper = Gossiper::new(Arc::clone(&self.runtime), gossip);
        let task = gossiper.run(Arc::new(self.clone()), Some(keeper));
        self.gossiper = Some(gossiper);
        task
    }

    /// Keeps the supernodes that are known.
    pub(super) fn keep(&self) {
        if let Some(gossiper) = &self.gossiper {
            let table = gossiper.with(|gossip| gossip.table().to_bytes());
            self.book.keep_node_table(&table);
        }
    }

    /// The supernodes that are known, for a supernode of our own.
    pub(super) fn table(&self) -> Option<Vec<u8>> {
        let gossiper = self.gossiper.as_ref()?;
        Some(gossiper.with(|gossip| gossip.table().to_bytes()))
    }

    /// Homes of the run before.
    pub(super) fn anchors(&self) -> Vec<NodeAddress> {
        let gossiper = self.gossiper.as_ref();
        let anchors = gossiper.map(|gossiper| gossiper.with(|gossip| gossip.table().anchors()));
        anchors.unwrap_or_default()
    }

    /// Somebody who may become a home.
    pub(super) fn draw(&self, wanted: impl Fn(&Known<'_>) -> bool) -> Option<NodeAddress> {
        self.gossiper.as_ref()?.with(|gossip| gossip.draw(wanted))
    }

    /// We are registered at these now.
    pub(super) fn set_ours(&self, homes: &[NodeAddress], ours: BTreeMap<NodeId, NodeClient>) {
        *self.ours() = ours;
        if let Some(gossiper) = &self.gossiper {
            gossiper.with(|gossip| gossip.set_homes(homes));
        }
    }

    /// The same, which asks these supernodes too.
    pub(super) fn with(&self, also: Vec<NodeAddress>) -> Self {
        Self {
            also,
            ..self.clone()
        }
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

    /// All supernodes that are known: those that everybody knows, and those that served us.
    fn known(&self) -> Vec<NodeAddress> {
        let told = self.gossiper.as_ref();
        let mut known: Vec<NodeAddress> = told
            .map(|told| told.with(|gossip| gossip.table().directory().collect()))
            .unwrap_or_default();
        let there: BTreeSet<NodeId> = known.iter().map(|node| node.node).collect();
        let served = self.book.known_nodes().into_iter();
        known.extend(served.filter(|node| !there.contains(&node.node)));
        known
    }

    /// Goes to where the record of `user` is at these times, and to those that served last, with `record` to leave there, if
    /// there is one. What each holds then comes back.
    fn visit(
        &self,
        user: UserId,
        times: &[u64],
        last_served: usize,
        record: Option<Record>,
    ) -> BoxStream<'static, Record> {
        let mut days: Vec<u64> = times.iter().map(|at| at / DAY_MILLIS).collect();
        days.dedup();
        let served = self.book.known_nodes();
        let mut beside = self.also.clone();
        beside.extend(served.into_iter().take(last_served));
        let round = Round {
            rendezvous: self.clone(),
            user,
            visits: self.visits(user, &days),
            days,
            // Who leaves a record comes again anyway.
            again: if record.is_none() && self.gossiper.is_some() {
                SEARCHED_AGAIN
            } else {
                0
            },
            record,
            beside,
            asked: BTreeSet::new(),
            under_way: FuturesUnordered::new(),
        };
        stream::unfold(round, Round::next).boxed()
    }

    /// In which network each of them is.
    pub(super) fn networks(&self) -> BTreeMap<NodeId, Network> {
        let known = self.known().into_iter();
        known.map(|node| (node.node, Network::of(&node))).collect()
    }

    /// The places of `user` on these days among those that are known now.
    fn visits(&self, user: UserId, days: &[u64]) -> Vec<Visit> {
        let known = self.known();
        let visits = days.iter().map(|day| {
            let ranked = ranked(user, *day, &known, MAX_TRIED);
            Visit::new(ranked, self.gossiper.is_some())
        });
        visits.collect()
    }

    /// What one supernode holds of `user`, after `record` was left there, if there is one to leave; nothing when it does not
    /// answer.
    async fn ask(
        self,
        node: NodeAddress,
        user: UserId,
        record: Option<Record>,
    ) -> Option<Option<Record>> {
        let ours = self.ours().get(&node.node).cloned();
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
                .ok()
        };
        let answer = timeout(&*self.runtime, PATIENCE, asking).await.flatten();
        if let Some(gossiper) = &self.gossiper {
            let now_millis = self.runtime.unix_millis();
            gossiper.with(|gossip| gossip.note(node.node, answer.is_some(), now_millis));
        }
        answer
    }
}

/// Which visit it belongs to, and what a supernode answered.
type Answered = (Option<usize>, Option<Option<Record>>);

/// A search, or a round of leaving a record.
struct Round {
    rendezvous: Rendezvous,
    user: UserId,
    record: Option<Record>,
    days: Vec<u64>,
    visits: Vec<Visit>,
    /// How often to look again.
    again: usize,
    /// Asked too.
    beside: Vec<NodeAddress>,
    asked: BTreeSet<NodeId>,
    under_way: FuturesUnordered<BoxFuture<'static, Answered>>,
}

impl Round {
    fn send(&self, to: NodeAddress, visit: Option<usize>) {
        let asking = self.rendezvous.clone();
        let asking = asking.ask(to, self.user, self.record.clone());
        let asking = async move { (visit, asking.await) };
        self.under_way.push(asking.boxed());
    }

    async fn next(mut self) -> Option<(Record, Self)> {
        loop {
            for visit in 0..self.visits.len() {
                while let Some(to) = self.visits.get_mut(visit).and_then(Visit::poll) {
                    if self.asked.insert(to.node) {
                        self.send(to, Some(visit));
                    } else if let Some(visit) = self.visits.get_mut(visit) {
                        visit.handle_answer(true);
                    }
                }
            }
            for to in std::mem::take(&mut self.beside) {
                if self.asked.insert(to.node) {
                    self.send(to, None);
                }
            }
            let Some((visit, answer)) = self.under_way.next().await else {
                self.again = self.again.checked_sub(1)?;
                self.rendezvous.runtime.sleep(LEARNING).await;
                self.visits = self.rendezvous.visits(self.user, &self.days);
                continue;
            };
            if let Some(visit) = visit.and_then(|visit| self.visits.get_mut(visit)) {
                visit.handle_answer(answer.is_some());
            }
            if let Some(record) = answer.flatten() {
                return Some((record, self));
            }
        }
    }
}

impl Courier for Rendezvous {
    fn carry(&self, errand: Errand) -> BoxFuture<'static, Told> {
        let asking = self.clone();
        async move {
            let ours = asking.ours().get(&errand.to.node).cloned();
            let is_ours = ours.is_some();
            let client = asking.client(&errand.to, ours).await?;
            let told = client.supernodes(&errand).await.ok();
            learn(&asking.endpoint, errand.to.node, &told);
            if !is_ours {
                client.close();
            }
            told
        }
        .boxed()
    }
}

/// The table of supernodes in the profile.
#[derive(Debug)]
pub(super) struct Kept(pub(super) Arc<dyn AddressBook>);

impl TableKeeper for Kept {
    fn table(&self) -> Option<Vec<u8>> {
        self.0.node_table()
    }

    fn keep(&self, table: &[u8]) {
        self.0.keep_node_table(table);
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
            let held = self.visit(user, &times, LAST_SERVED, Some(record.clone()));
            let held = held.filter(|held| std::future::ready(*held == record));
            match held.count().await {
                0 => Err(DhtError::NoNodes),
                some => Ok(some),
            }
        }
        .boxed()
    }

    fn get(&self, key: [u8; 32], _salt: Option<Vec<u8>>) -> BoxStream<'static, DhtItem> {
        let user = UserId(key);
        let found = self.visit(user, &[self.runtime.unix_millis()], 0, None);
        // The signature of an item is the DHT's; the record has one of its own.
        let items = found.map(move |record| DhtItem {
            key,
            salt: None,
            seq: i64::try_from(record.fields().seq).unwrap_or(i64::MAX),
            value: record.as_bytes().to_vec(),
            signature: [0; 64],
        });
        items.boxed()
    }

    fn is_connected(&self) -> BoxFuture<'_, bool> {
        let any = !self.known().is_empty();
        std::future::ready(any).boxed()
    }
}
