//! A DHT of many nodes for tests in virtual time, as far as an attacker cares who chooses its nodes' names: an item lies at the
//! [`NEAREST`] nodes nearest to its target by XOR, and whoever has nodes of their own there decides what is read.
//!
//! Left out: how a search gets there (it always does), what keeps names from being chosen (BEP 42), and each node's bounds.
//! That real nodes take what we put is tested with real nodes (`tests/dht.rs`).

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ahoy_nat::discovery::dht::{Dht, DhtError, DhtItem, DhtNode};
use ahoy_transport::runtime::{Runtime, RuntimeExt};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::table::ANSWER;

/// Nodes that keep an item, and are asked for it.
pub const NEAREST: usize = 20;

/// Where items lie: a key, and a salt.
pub type Target = ([u8; 32], Option<Vec<u8>>);

/// A node's place, and a target's.
type Point = u64;

/// What an attacker's nodes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Siege {
    /// They say that they keep what is put, and have nothing.
    Hide,
    /// They serve what was there when they came, whatever is put.
    Freeze,
}

#[derive(Debug, Default)]
struct Node {
    siege: Option<Siege>,
    items: BTreeMap<Target, DhtItem>,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<Point, Node>,
    /// Items read from an attacker's nodes and from others.
    read: (u64, u64),
}

/// The table. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Keyspace {
    runtime: Arc<dyn Runtime>,
    state: Arc<Mutex<State>>,
}

/// Names of nodes are as wide as a u64 here; collisions of targets do not matter, since each item keeps its whole target.
fn point((key, salt): &Target) -> Point {
    let mut hash = DefaultHasher::new();
    (key, salt).hash(&mut hash);
    hash.finish()
}

impl State {
    /// The nodes nearest to a target.
    fn nearest(&self, target: &Target) -> Vec<Point> {
        let to = point(target);
        let mut all: Vec<Point> = self.nodes.keys().copied().collect();
        all.sort_by_key(|node| node ^ to);
        all.truncate(NEAREST);
        all
    }
}

impl Keyspace {
    /// Of so many honest nodes, by this clock.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, nodes: usize, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let nodes = (0..nodes).map(|_| (rng.next_u64(), Node::default()));
        let state = State {
            nodes: nodes.collect(),
            read: (0, 0),
        };
        Self {
            runtime,
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attacker places nodes nearer to each of these targets than anybody else's are, as many as are asked. They know what
    /// everybody can read there now.
    pub fn besiege(&self, targets: &[Target], siege: Siege) {
        let mut state = self.lock();
        for target in targets {
            let there = state.nearest(target);
            let items = there.iter().filter_map(|node| state.nodes.get(node));
            let item = items.filter_map(|node| node.items.get(target)).next();
            let items: BTreeMap<Target, DhtItem> = item
                .map(|item| (target.clone(), item.clone()))
                .into_iter()
                .collect();
            for nth in 0..NEAREST as u64 {
                let node = Node {
                    siege: Some(siege),
                    items: items.clone(),
                };
                state.nodes.insert(point(target) ^ nth, node);
            }
        }
    }

    /// At how many of these targets all nodes that are asked are an attacker's.
    #[must_use]
    pub fn besieged(&self, targets: &[Target]) -> usize {
        let state = self.lock();
        let hostile = |node: &Point| {
            let node = state.nodes.get(node);
            node.is_some_and(|node| node.siege.is_some())
        };
        let all = |target: &&Target| state.nearest(target).iter().all(hostile);
        targets.iter().filter(all).count()
    }

    /// Items read so far, from an attacker's nodes and from others.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        self.lock().read
    }

    fn answer(&self, target: &Target) -> Vec<DhtItem> {
        let mut state = self.lock();
        let mut items = Vec::new();
        for node in state.nearest(target) {
            let Some(node) = state.nodes.get(&node) else {
                continue;
            };
            let siege = node.siege;
            let item = node
                .items
                .get(target)
                .filter(|_| siege != Some(Siege::Hide));
            if let Some(item) = item.cloned() {
                match siege {
                    Some(_) => state.read.0 += 1,
                    None => state.read.1 += 1,
                }
                items.push(item);
            }
        }
        items
    }
}

impl Dht for Keyspace {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DhtNode>, DhtError>> {
        std::future::ready(Ok(Arc::new(self.clone()) as Arc<dyn DhtNode>)).boxed()
    }

    fn is_public(&self) -> bool {
        false
    }
}

impl DhtNode for Keyspace {
    fn put(&self, item: DhtItem) -> BoxFuture<'_, Result<usize, DhtError>> {
        async move {
            self.runtime.sleep(ANSWER).await;
            let mut state = self.lock();
            let target = (item.key, item.salt.clone());
            let nearest = state.nearest(&target);
            for node in &nearest {
                let node = state.nodes.get_mut(node);
                let Some(node) = node.filter(|node| node.siege.is_none()) else {
                    // It says that it keeps it.
                    continue;
                };
                let last = node.items.get(&target);
                // As BEP 44 has it: a number never goes down.
                if last.is_none_or(|last| last.seq <= item.seq) {
                    node.items.insert(target.clone(), item.clone());
                }
            }
            Ok(nearest.len())
        }
        .boxed()
    }

    fn get(&self, key: [u8; 32], salt: Option<Vec<u8>>) -> BoxStream<'static, DhtItem> {
        let table = self.clone();
        let answering = async move {
            table.runtime.sleep(ANSWER).await;
            stream::iter(table.answer(&(key, salt)))
        };
        answering.flatten_stream().boxed()
    }

    fn is_connected(&self) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }
}
