//! A supernode of a private network: whom it lets in, and what it agrees on with the others of that network.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ahoy_nat::{
    client::NodeClient,
    dial::{NodePlace, Ways, dial},
    discovery::gossip::shell::{Gossiper, TableKeeper},
    supernode::{Supernode, closed::Closed},
};
use ahoy_transport::{
    endpoint::{Endpoint, NetworkAccess, NodeAuth},
    identity::{NodeAddress, NodeId, NodeKeys},
    runtime::{Runtime, RuntimeExt, resolve_node, timeout},
};

use crate::network::PrivateNetwork;

/// Between two rounds of asking the others. So long somebody who is revoked may stay at a supernode that was not told.
const ROUND: Duration = Duration::from_secs(5);
/// Most that are asked in one round, one after another round those that come next.
const ASKED: usize = 16;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pages that are asked of one at once.
const PAGES: usize = 8;

/// Serves members alone from now on. Comes with what the supernode shows to the others; these are `peers` from now on, too.
pub(super) fn close(
    supernode: &Supernode,
    private: &PrivateNetwork,
    keys: &NodeKeys,
    peers: &mut Vec<NodeAddress>,
    kept: Option<&dyn TableKeeper>,
) -> Arc<NetworkAccess> {
    for node in &private.nodes {
        if node.node != keys.id() && !peers.iter().any(|peer| peer.node == node.node) {
            peers.push(node.clone());
        }
    }
    let known: Vec<NodeId> = peers.iter().map(|peer| peer.node).collect();
    let access = NetworkAccess::supernode(private.member.clone(), keys.noise_static(), known);
    let access = Arc::new(access);
    let mut closed = Closed::new(private.member.certificate().network);
    if !private.check {
        closed = closed.unchecked();
    }
    if let Some(bytes) = kept.and_then(TableKeeper::table)
        && let Err(error) = closed.resume(&bytes)
    {
        tracing::warn!(%error, "what is known of members cannot be read");
    }
    if let Some(list) = &private.revoked
        && let Err(error) = closed.take_list(list)
    {
        tracing::warn!(%error, "the list of revoked invites cannot be read");
    }
    supernode.set_closed(closed, Arc::clone(&access));
    access
}

/// The other supernodes of the network, as this one asks them.
pub(super) struct Others {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) endpoint: Endpoint,
    pub(super) supernode: Weak<Supernode>,
    pub(super) gossiper: Gossiper,
    pub(super) peers: Vec<NodeAddress>,
    /// Connections, and up to where each has told.
    pub(super) known: BTreeMap<NodeId, (NodeClient, u64)>,
    pub(super) keeper: Option<Arc<dyn TableKeeper>>,
}

impl Others {
    /// Asks them time and again, and keeps what is known, until the supernode is gone.
    pub(super) async fn agree(mut self) {
        let mut first = 0;
        loop {
            let nodes = self.nodes();
            let all = nodes.len();
            for node in nodes.iter().cycle().skip(first).take(ASKED.min(all)) {
                let asking = timeout(&*self.runtime.clone(), PATIENCE, self.ask(node)).await;
                if asking.flatten().is_none() {
                    self.known.remove(&node.node);
                }
            }
            first = if all > ASKED {
                (first + ASKED) % all
            } else {
                0
            };
            let Some(supernode) = self.supernode.upgrade() else {
                return;
            };
            // Time alone sends people away, too.
            let changes = supernode.with_closed(Closed::take_changes).flatten();
            drop(supernode);
            if let (Some(changes), Some(keeper)) = (changes, &self.keeper) {
                keeper.keep(&changes);
            }
            let random = u32::from_be_bytes(self.runtime.random_array());
            let spread = f64::from(random) / f64::from(u32::MAX);
            self.runtime.sleep(ROUND.mul_f64(0.75 + spread / 2.0)).await;
        }
    }

    fn nodes(&self) -> Vec<NodeAddress> {
        let met = self.gossiper.with(|gossip| {
            let live = gossip.table().live();
            live.map(|known| known.announcement.address())
                .collect::<Vec<_>>()
        });
        let mut nodes = self.peers.clone();
        for node in met {
            if !nodes.iter().any(|known| known.node == node.node) {
                nodes.push(node);
            }
        }
        nodes
    }

    async fn ask(&mut self, node: &NodeAddress) -> Option<()> {
        let (client, mut after) = match self.known.get(&node.node) {
            Some((client, after)) => (client.clone(), *after),
            None => {
                let addrs = resolve_node(&*self.runtime, node).await.ok()?;
                let place = NodePlace::by_udp(addrs.first().copied()?);
                let auth = NodeAuth::Anonymous;
                let dialled = dial(&self.endpoint, node.node, &place, auth, Ways::Udp).await;
                let dialled = dialled.ok()?;
                (NodeClient::dialled(Arc::clone(&self.runtime), dialled), 0)
            }
        };
        for _ in 0..PAGES {
            let seq = self
                .supernode
                .upgrade()?
                .with_closed(|closed| closed.revoked_seq())?;
            let news = client.news(seq, after, None).await;
            let news = news
                .inspect_err(|error| tracing::debug!(%node, %error, "no word of members"))
                .ok()?;
            let is_last = news.next == after || news.uses.is_empty();
            after = news.next;
            let now_millis = self.runtime.unix_millis();
            self.supernode
                .upgrade()?
                .with_closed(|closed| closed.take_in(&news, now_millis))?;
            if is_last {
                break;
            }
        }
        self.known.insert(node.node, (client, after));
        Some(())
    }
}
