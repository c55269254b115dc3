//! The ways of a leg through relays: ours to theirs, each pair of relays that makes sense.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use ahoy_nat::turn::{
    TurnError,
    allocation::{RelayBinding, TurnAllocation},
};
use ahoy_transport::{
    identity::NodeId,
    mux::{RelayRoute, is_tunnel_address},
    runtime::{Runtime, RuntimeExt, Task},
    session::{PathId, PathKind as LinkKind},
};

use super::{Leg, OwnEvent, Reporter};
use crate::engine::{
    config::PathPolicy,
    reach::{MAX_RELAYED, Relayed},
    relays::RelaySource,
};

/// Relayed addresses of the other side that are used at once: after a relay of theirs started anew, the old address
/// may still be among them.
const MAX_THEIR_RELAYED: usize = 2 * MAX_RELAYED;
/// First and longest wait until a channel that a relay refused is asked for again.
const REBIND_AFTER: Duration = Duration::from_secs(2);
const REBIND_AFTER_MAX: Duration = Duration::from_secs(60);

/// A relayed address of ours. Dropping it ends what goes on there.
pub(super) struct OurRelay {
    source: RelaySource,
    allocation: Arc<TurnAllocation>,
    /// What keeps each channel, by the other side's relayed address.
    channels: BTreeMap<SocketAddr, Task>,
    _watch: Task,
}

impl OurRelay {
    /// Whether it is the one of this supernode that is reached there: by UDP or through a tunnel.
    fn is_at(&self, node: NodeId, server: SocketAddr) -> bool {
        self.source.node() == node && self.allocation.server() == server
    }

    fn is_tunnelled(&self) -> bool {
        is_tunnel_address(self.allocation.server())
    }
}

/// A path through a relay of ours.
pub(super) struct RelayedPath {
    node: NodeId,
    binding: RelayBinding,
    /// What stands for it in the session.
    pub(super) route: SocketAddr,
    path: Option<PathId>,
}

impl Leg {
    pub(super) fn our_relayed(&self) -> Vec<Relayed> {
        let mut relays: Vec<&OurRelay> = self.relays.iter().collect();
        // Not all may find room.
        relays.sort_by_key(|relay| relay.is_tunnelled());
        relays
            .into_iter()
            .map(|relay| relay.source.relayed(relay.allocation.relayed_addr()))
            .collect()
    }

    pub(super) fn start_relays(&mut self) {
        for source in self.context.sources.clone() {
            self.start_relay(source);
        }
    }

    /// Asks for an allocation on a relay of ours, unless we have one there.
    fn start_relay(&mut self, source: RelaySource) {
        let node = source.node();
        // One behind a tunnel does until UDP works; then it is kept beside the better one.
        let tunnelled = source.is_tunnelled();
        let held = self
            .relays
            .iter()
            .any(|relay| relay.source.node() == node && (tunnelled || !relay.is_tunnelled()));
        if held || self.context.path == PathPolicy::Direct || !source.is_up() {
            return;
        }
        let relays = self.context.relays.clone();
        let report = self.reporter();
        self.tasks.push(self.context.runtime.spawn_task(async move {
            match relays.allocate(&source).await {
                Ok(allocation) => report(OwnEvent::Relay(node, allocation)).await,
                Err(error) => tracing::info!(?node, error, "no relay"),
            }
        }));
    }

    pub(super) fn handle_relay(&mut self, node: NodeId, allocation: Arc<TurnAllocation>) {
        let sources = &self.context.sources;
        let Some(source) = sources.iter().find(|source| source.node() == node) else {
            return;
        };
        let server = allocation.server();
        if self.relays.iter().any(|relay| relay.is_at(node, server)) {
            return;
        }
        let (watched, report) = (Arc::clone(&allocation), self.reporter());
        let watch = self.context.runtime.spawn_task(async move {
            let error = watched.ended().await;
            report(OwnEvent::RelayLost(node, server, error)).await;
        });
        self.relays.push(OurRelay {
            source: source.clone(),
            allocation,
            channels: BTreeMap::new(),
            _watch: watch,
        });
        self.send_relayed();
        self.bind_relayed();
    }

    /// Our relayed address is gone: its paths are, too. Another one is asked for as soon as the home is there.
    pub(super) fn handle_relay_lost(&mut self, node: NodeId, server: SocketAddr, error: TurnError) {
        tracing::info!(?node, %error, "a relay is lost");
        self.relays.retain(|relay| !relay.is_at(node, server));
        self.drop_paths(|path| path.node == node && path.binding.server == server);
        let sources = &self.context.sources;
        if let Some(source) = sources.iter().find(|source| source.node() == node) {
            self.start_relay(source.clone());
        }
    }

    /// The relay may be gone with the home.
    pub(in crate::engine) fn handle_home_lost(&self, node: NodeId) {
        for relay in &self.relays {
            if relay.source.node() == node {
                relay.allocation.probe();
            }
        }
    }

    /// Whether it still uses the relay of a home that stops soon.
    pub(in crate::engine) fn is_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// The home stops soon, and its relay with it.
    pub(in crate::engine) fn handle_home_draining(&mut self, node: NodeId) {
        let used = self.relays.iter().any(|relay| relay.source.node() == node);
        self.context.sources.retain(|source| source.node() != node);
        if used && !self.draining.contains(&node) {
            self.draining.push(node);
        }
    }

    /// Leaves relays that stop soon once another way carries: until then they are better than nothing. `sources`: the relays
    /// that there are now; one of them is taken for each that goes.
    pub(in crate::engine) fn leave_draining(&mut self, sources: &[RelaySource]) {
        if self.draining.is_empty() {
            return;
        }
        let room = MAX_RELAYED.saturating_sub(self.context.sources.len());
        let news = sources.iter().filter(|source| {
            let known = &self.context.sources;
            source.is_up()
                && !self.draining.contains(&source.node())
                && known.iter().all(|known| known.node() != source.node())
        });
        let news: Vec<RelaySource> = news.take(room).cloned().collect();
        for source in news {
            self.context.sources.push(source.clone());
            self.start_relay(source);
        }
        let Some(session) = &self.session else { return };
        let leaving = |path: &PathId| {
            let mut paths = self.relayed_paths.iter();
            paths.any(|known| known.path == Some(*path) && self.draining.contains(&known.node))
        };
        let stats = session.stats();
        let another = stats
            .paths
            .iter()
            .any(|(path, stats)| stats.up && !leaving(path));
        if !another {
            return;
        }
        let draining = std::mem::take(&mut self.draining);
        tracing::info!(?draining, "relays that stop soon are left");
        self.drop_paths(|path| draining.contains(&path.node));
        self.relays
            .retain(|relay| !draining.contains(&relay.source.node()));
        self.send_relayed();
    }

    /// Asks our relays whether they still know us: the NATs before us may have forgotten the way.
    pub(super) fn probe_relays(&self) {
        if !self.context.upkeep.probe_relays {
            return;
        }
        for relay in &self.relays {
            relay.allocation.probe();
        }
    }

    /// A home is there, perhaps again, and perhaps without a memory of our relayed address.
    pub(in crate::engine) fn handle_home_up(&mut self, node: NodeId) {
        self.handle_home_lost(node);
        self.refresh_way(node);
        let sources = &self.context.sources;
        let source = sources.iter().find(|source| source.node() == node);
        if let (Some(source), true) = (source.cloned(), self.session.is_some()) {
            self.start_relay(source);
        }
    }

    /// The other side named a relayed address of its own. We never send there: our relay does.
    pub(super) fn handle_relayed(&mut self, relayed: Relayed) {
        let at_relay = relayed
            .relay
            .socket_addr()
            .is_some_and(|relay| relay.ip() == relayed.addr.ip());
        if !at_relay || self.their_relayed.contains(&relayed) {
            return;
        }
        self.their_relayed.push(relayed);
        if self.their_relayed.len() > MAX_THEIR_RELAYED {
            let oldest = self.their_relayed.remove(0).addr;
            for relay in &mut self.relays {
                relay.channels.remove(&oldest);
                relay.allocation.release_peer(oldest);
            }
            self.drop_paths(|path| path.binding.peer == oldest);
        }
        self.bind_relayed();
    }

    /// Whether a path shall lead through these two relays, ours and theirs. A relay that both sides use takes one
    /// packet less and fails alone, so it is not joined to others.
    fn pairs(&self, ours: NodeId, theirs: NodeId) -> bool {
        let common = |node| {
            let is_ours = self.relays.iter().any(|relay| relay.source.node() == node);
            let their = &self.their_relayed;
            is_ours && their.iter().any(|relayed| relayed.relay.node == node)
        };
        ours == theirs || !(common(ours) || common(theirs))
    }

    /// Opens channels from our relays to theirs.
    fn bind_relayed(&mut self) {
        let mut wanted = Vec::new();
        for (n, relay) in self.relays.iter().enumerate() {
            for theirs in &self.their_relayed {
                if self.pairs(relay.source.node(), theirs.relay.node)
                    && !relay.channels.contains_key(&theirs.addr)
                {
                    wanted.push((n, theirs.clone()));
                }
            }
        }
        let report = self.reporter();
        for (n, theirs) in wanted {
            let Some(relay) = self.relays.get_mut(n) else {
                continue;
            };
            let addr = theirs.addr;
            let channel = Channel {
                runtime: Arc::clone(&self.context.runtime),
                source: relay.source.clone(),
                allocation: Arc::clone(&relay.allocation),
                theirs,
            };
            let keeping = channel.keep(report.clone());
            let task = self.context.runtime.spawn_task(keeping);
            relay.channels.insert(addr, task);
        }
    }

    pub(super) fn handle_bound(&mut self, node: NodeId, binding: RelayBinding) {
        let is_known = |path: &RelayedPath| path.node == node && path.binding == binding;
        if self.relayed_paths.iter().any(is_known) {
            return;
        }
        self.drop_paths(|path| {
            let old = &path.binding;
            path.node == node && old.server == binding.server && old.peer == binding.peer
        });
        let route = RelayRoute {
            server: binding.server,
            channel: binding.channel,
            peer: binding.peer,
        };
        match self.context.endpoint.mux().add_relay_route(route) {
            Ok(route) => {
                let kind = if is_tunnel_address(binding.server) {
                    LinkKind::Tcp
                } else {
                    LinkKind::Relay
                };
                let path = self.add_path(kind, route);
                self.relayed_paths.push(RelayedPath {
                    node,
                    binding,
                    route,
                    path,
                });
            }
            Err(error) => tracing::warn!(%error, "no room for a relayed path"),
        }
    }

    fn drop_paths(&mut self, which: impl Fn(&RelayedPath) -> bool) {
        for dropped in self.relayed_paths.extract_if(.., |path| which(path)) {
            if let (Some(session), Some(path)) = (&self.session, dropped.path) {
                session.remove_path(path);
            }
            self.context
                .endpoint
                .mux()
                .remove_relay_route(dropped.route);
        }
    }
}

/// A channel through a relay of ours to a relayed address of theirs.
struct Channel {
    runtime: Arc<dyn Runtime>,
    source: RelaySource,
    allocation: Arc<TurnAllocation>,
    theirs: Relayed,
}

impl Channel {
    /// Opens the channel, again when it fails, and keeps our relay's word that it serves theirs.
    async fn keep(self, report: Reporter) {
        let node = self.source.node();
        let mut wait = REBIND_AFTER;
        loop {
            match self.open().await {
                Ok((binding, lasts)) => {
                    wait = REBIND_AFTER;
                    report(OwnEvent::Bound(node, binding)).await;
                    match lasts {
                        // Half of it is left to try again.
                        Some(lasts) => self.runtime.sleep(lasts / 2).await,
                        None => std::future::pending().await,
                    }
                }
                Err(error) => {
                    tracing::info!(?node, error, "our relay does not serve theirs");
                    self.runtime.sleep(wait).await;
                    wait = (wait * 2).min(REBIND_AFTER_MAX);
                }
            }
        }
    }

    /// The channel, and how long our relay serves theirs; for ever when it is the same.
    async fn open(&self) -> Result<(RelayBinding, Option<Duration>), String> {
        let addr = self.theirs.addr;
        let lasts = if self.allocation.relayed_addr().ip() == addr.ip() {
            None
        } else {
            let allowed = self.source.allow(&self.theirs.relay).await;
            Some(allowed.map_err(|error| error.to_string())?)
        };
        let binding = self.allocation.bind_peer(addr).await;
        Ok((binding.map_err(|error| error.to_string())?, lasts))
    }
}
