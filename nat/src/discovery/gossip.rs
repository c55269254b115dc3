//! How nodes come to know supernodes: they tell each other. Sans-IO.
//!
//! Supernodes ask each other, and devices ask supernodes, for what they know ([`Gossip::poll_errand`]); one answer is of one
//! supernode a network, and bounded. A supernode says of itself where it is when it asks. **Nothing unverified is spread**: a
//! supernode hands out only those that proved their key to it, at the very address that is told. A device meets few; it
//! believes what several networks tell ([`NodeTable::need`]).
//!
//! After each `handle_…` the caller drains [`Gossip::poll_errand`], carries each errand out, and brings what came of it to
//! [`Gossip::handle_outcome`]; it calls again at [`Gossip::poll_timeout`].
//!
//! What strangers can have this node do is bounded: dials by [`SPACING`] and [`MAX_IN_FLIGHT`], targets in one network by
//! [`super::table::SEATS`], and all that is remembered by the table's own bounds.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_transport::identity::{NodeAddress, NodeId, NodeKeys};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::{
    announcement::{ANNOUNCEMENT_RENEWAL_MILLIS, Announcement, Capabilities},
    rendezvous::Network,
    table::{DIRECTORY_NETWORKS, MAX_HEARD, NodeTable, OWN_NETWORKS, SEATS, TableRules},
};
use crate::supernode::{registry::Asked, relay::policy::is_reachable, vouch::is_node_port};

pub mod shell;

/// Most supernodes in one answer, the one who answers left out.
pub const PAGE: usize = 128;
/// Between two dials of a supernode. A dial to nowhere is about six packets of 1200 bytes.
pub const SPACING: Duration = Duration::from_millis(250);
/// The same of a device.
const DEVICE_SPACING: Duration = Duration::from_secs(1);
/// Dials at once.
pub const MAX_IN_FLIGHT: usize = 8;
/// A supernode meets each that it knows again after this, more or less a quarter.
const RECHECK: Duration = Duration::from_secs(4 * 3600);
/// One that it has known for long, after a quarter of that time, and this at most: whoever was there for days will be there
/// tomorrow (Guha, Daswani and Jain, "An Experimental Study of the Skype Peer-to-Peer VoIP System", 2006). With the quarter
/// that it may be late it stays below the time for which others are told of it.
const MAX_RECHECK: Duration = Duration::from_secs(8 * 3600);
/// After a first failure; doubled with each.
const RETRY: Duration = Duration::from_secs(5 * 60);
/// A supernode of the settings that does not answer is asked again after this, doubled up to [`RECHECK`].
const PEER_RETRY: Duration = Duration::from_secs(15);
/// A supernode asks one at random for all that knows after this, more or less a quarter.
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// The same where nothing new was heard for long: doubled each time up to this, and from the start with the first news
/// (the Trickle algorithm, RFC 6206 section 4.2).
const MAX_REFRESH: Duration = Duration::from_secs(80 * 60);
/// A device meets one that it was only told of after this, more or less a quarter: those met are there when homes die.
const FEELER: Duration = Duration::from_secs(15 * 60);
/// A device asks its homes for all they know again after this, then after twice as long each time, up to [`WALK`].
const FIRST_WALK: Duration = Duration::from_secs(20);
/// See [`FIRST_WALK`]; more or less a quarter.
const WALK: Duration = Duration::from_secs(6 * 3600);
/// A node that starts looks around after this, then after twice as long each time, up to the usual.
const FIRST_LOOK: Duration = Duration::from_secs(15);
/// A node that starts asks so many others for all they know.
const FIRST_WALKS: usize = 6;
/// Errands that wait.
const MAX_URGENT: usize = 64;
/// Meetings that wait: twice what a table holds at most, since whoever is forgotten, and told of again, may wait twice.
const MAX_DUE: usize = 2 * ((DIRECTORY_NETWORKS + OWN_NETWORKS) * SEATS + MAX_HEARD);

/// How a node gossips. The switches are there to show what they are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GossipPolicy {
    /// The table's. `meet_all` is what a supernode insists on.
    pub rules: TableRules,
    /// Devices meet those they were told of, one by one; without it they know only their homes to be good.
    pub feelers: bool,
    /// A supernode asks less often where nothing is new, and meets less often whom it has known for long.
    pub patient: bool,
    /// Private and loopback addresses count where somebody at such an address tells them: for labs, and networks without a way
    /// out. Nobody outside has this node dial into its own network.
    pub allow_private: bool,
}

impl GossipPolicy {
    /// Of a device.
    #[must_use]
    pub fn device() -> Self {
        Self {
            rules: TableRules::default(),
            feelers: true,
            patient: true,
            allow_private: true,
        }
    }

    /// Of a supernode.
    #[must_use]
    pub fn supernode() -> Self {
        Self {
            rules: TableRules {
                meet_all: true,
                ..TableRules::default()
            },
            allow_private: false,
            ..Self::device()
        }
    }
}

/// What a supernode says of itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its key.
    pub keys: NodeKeys,
    /// Where everybody reaches it by UDP.
    pub addr: SocketAddr,
    /// And by TCP, at the same IP address.
    pub tcp: Option<u16>,
    /// What it does.
    pub capabilities: Capabilities,
}

/// Something to ask a supernode.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Whom. It must prove its key there.
    pub to: NodeAddress,
    /// Its page after this network.
    pub after: Option<Network>,
    /// So many at most.
    pub most: u8,
    /// Who asks, if that is a supernode.
    pub own: Option<Arc<Announcement>>,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GossipCounters {
    /// Errands sent out.
    pub asked: u64,
    /// Of those, answered.
    pub answered: u64,
    /// Of those, not.
    pub missed: u64,
    /// Requests of others answered.
    pub served: u64,
    /// Supernodes heard of for the first time.
    pub heard: u64,
    /// Announcements refused: of nobody's key, over, or of an address that nobody dials.
    pub refused: u64,
}

#[derive(Debug)]
struct Peer {
    address: NodeAddress,
    at: Instant,
    wait: Duration,
}

/// The core.
#[derive(Debug)]
pub struct Gossip {
    policy: GossipPolicy,
    table: NodeTable,
    own: Option<Own>,
    announced: Option<Arc<Announcement>>,
    rng: ChaCha20Rng,
    /// When a supernode meets whom (again).
    due: BTreeSet<(Instant, NodeId)>,
    urgent: VecDeque<(NodeAddress, Option<Network>)>,
    peers: Vec<Peer>,
    /// Asked now, and whether for all they know.
    in_flight: BTreeMap<NodeId, bool>,
    homes: Vec<NodeAddress>,
    walks: usize,
    not_before: Instant,
    next_look: Instant,
    look_wait: Duration,
    walk_wait: Duration,
    next_walk: Instant,
    counters: GossipCounters,
}

impl Gossip {
    /// A node that knows what is in `table`, if it has one from before, and the `peers` of its settings. `own`: what it says of
    /// itself, as a supernode.
    #[must_use]
    pub fn new(
        policy: GossipPolicy,
        own: Option<Own>,
        table: Option<NodeTable>,
        peers: Vec<NodeAddress>,
        now: Instant,
        seed: [u8; 32],
    ) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let own_id = own.as_ref().map(|own| own.keys.id());
        let table = table
            .unwrap_or_else(|| NodeTable::new(policy.rules, own_id, rng.next_u64().to_be_bytes()));
        let me = own_id.or(table.me());
        let peers = peers.into_iter().filter(|peer| Some(peer.node) != me);
        let peers = peers.map(|address| Peer {
            address,
            at: now,
            wait: PEER_RETRY,
        });
        let mut gossip = Self {
            policy,
            own,
            announced: None,
            due: BTreeSet::new(),
            urgent: VecDeque::new(),
            peers: peers.collect(),
            in_flight: BTreeMap::new(),
            homes: Vec::new(),
            walks: FIRST_WALKS,
            not_before: now,
            next_look: now,
            look_wait: FIRST_LOOK,
            walk_wait: FIRST_WALK,
            next_walk: now,
            counters: GossipCounters::default(),
            table,
            rng,
        };
        gossip.next_look = now + gossip.about(FIRST_LOOK);
        gossip.next_walk = now + gossip.about(FIRST_WALK);
        gossip.plan(now);
        gossip
    }

    /// Goes on with a table from before.
    pub fn resume(&mut self, table: NodeTable, now: Instant) {
        self.table = table;
        self.due.clear();
        self.plan(now);
    }

    /// When those of the table are met again: anchors at once, the others one after another.
    fn plan(&mut self, now: Instant) {
        for anchor in self.table.anchors().into_iter().take(MAX_IN_FLIGHT) {
            self.urgent.push_back((anchor, None));
        }
        if self.is_supernode() {
            let nodes: Vec<NodeId> = self
                .table
                .nodes()
                .map(|known| known.announcement.node())
                .collect();
            for node in nodes {
                let at = now + RECHECK.mul_f64(self.fraction());
                self.due.insert((at, node));
            }
        }
    }

    fn is_supernode(&self) -> bool {
        self.policy.rules.meet_all || self.own.is_some()
    }

    fn look_every(&self) -> Duration {
        match self.is_supernode() {
            true if self.policy.patient => MAX_REFRESH,
            true => REFRESH,
            false => FEELER,
        }
    }

    /// Something is new: there may be more where it came from.
    fn look_soon(&mut self, now: Instant) {
        if self.is_supernode() && self.look_wait > REFRESH {
            self.look_wait = REFRESH;
            self.next_look = self.next_look.min(now + self.about(REFRESH));
        }
    }

    /// When a supernode that was met now is met again.
    fn recheck(&mut self, now: Instant, now_millis: u64, node: NodeId) {
        let Some(known) = self.table.get(node).filter(|_| self.is_supernode()) else {
            return;
        };
        let known_for = Duration::from_millis(now_millis.saturating_sub(known.first_met_millis));
        let wait = if self.policy.patient {
            (known_for / 4).clamp(RECHECK, MAX_RECHECK)
        } else {
            RECHECK
        };
        let at = now + self.about(wait);
        self.meet_at(at, node);
    }

    fn meet_at(&mut self, at: Instant, node: NodeId) {
        if self.due.len() >= MAX_DUE {
            let (table, mut waiting) = (&self.table, BTreeSet::new());
            self.due
                .retain(|(_at, node)| table.get(*node).is_some() && waiting.insert(*node));
        }
        self.due.insert((at, node));
    }

    /// From nothing to one.
    fn fraction(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / f64::from(u32::MAX)
    }

    /// More or less a quarter.
    fn about(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(0.75 + self.fraction() / 2.0)
    }

    /// Whom it knows.
    #[must_use]
    pub fn table(&self) -> &NodeTable {
        &self.table
    }

    /// Memory of all that it knows, in bytes: the table's, and that of when it meets whom. What the allocator adds is left out.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + self.due.len() * size_of::<(Instant, NodeId)>()
    }

    /// Counters.
    #[must_use]
    pub fn counters(&self) -> GossipCounters {
        self.counters
    }

    /// The supernode is reached elsewhere now.
    pub fn set_own(&mut self, own: Own) {
        let me = own.keys.id();
        self.table.set_me(me);
        self.peers.retain(|peer| peer.address.node != me);
        self.own = Some(own);
        self.announced = None;
    }

    /// The supernode is reached nowhere any more: it tells nobody of itself. Others forget it when they dial in vain.
    pub fn retire(&mut self) {
        self.own = None;
        self.announced = None;
        self.urgent.clear();
    }

    /// Asks these soon, and tells them of itself.
    pub fn introduce(&mut self, to: Vec<NodeAddress>) {
        to.into_iter().for_each(|to| self.urge(to, None));
    }

    /// What this supernode says of itself.
    pub fn announcement(&mut self, now_millis: u64) -> Option<Arc<Announcement>> {
        let own = self.own.as_ref()?;
        let renew = self.announced.as_ref().is_none_or(|last| {
            last.issued_millis() > now_millis
                || last.issued_millis() + ANNOUNCEMENT_RENEWAL_MILLIS <= now_millis
        });
        if renew {
            let (addr, tcp, does) = (own.addr, own.tcp, own.capabilities);
            let issued = Announcement::issue(&own.keys, addr, tcp, does, now_millis);
            self.announced = Some(Arc::new(issued));
        }
        self.announced.clone()
    }

    /// A device is registered at these now, and at no others: they are asked for all they know.
    pub fn set_homes(&mut self, homes: &[NodeAddress]) {
        let news = homes.iter().filter(|home| !self.homes.contains(home));
        let news: Vec<NodeAddress> = news.cloned().collect();
        for home in news {
            self.urge(home, None);
        }
        self.homes = homes.to_vec();
        let in_use: Vec<NodeId> = homes.iter().map(|home| home.node).collect();
        self.table.set_anchors(&in_use);
    }

    fn urge(&mut self, to: NodeAddress, after: Option<Network>) {
        if self.urgent.len() < MAX_URGENT {
            self.urgent.push_back((to, after));
        }
    }

    /// Answers a request: what this supernode says of itself, then its page. Who asks may say where it is, and is dialled before anybody else is told of it.
    pub fn answer(
        &mut self,
        now: Instant,
        now_millis: u64,
        asked: &Asked,
    ) -> Vec<Arc<Announcement>> {
        self.counters.served += 1;
        if let Some(own) = &asked.own {
            self.hear(
                now,
                now_millis,
                own,
                &Network::of_ip(asked.source),
                self.may_be_private(Some(asked.source)),
                true,
            );
        }
        let mut told: Vec<Arc<Announcement>> = self.announcement(now_millis).into_iter().collect();
        let most = usize::from(asked.most).min(PAGE);
        told.extend(self.table.page(asked.after.as_ref(), most, now_millis));
        told
    }

    /// Whether somebody at `source` may tell of private addresses.
    fn may_be_private(&self, source: Option<IpAddr>) -> bool {
        self.policy.allow_private && source.is_some_and(|source| !is_reachable(source, false))
    }

    fn hear(
        &mut self,
        now: Instant,
        now_millis: u64,
        told: &Arc<Announcement>,
        source: &Network,
        private: bool,
        at_once: bool,
    ) {
        let addr = told.addr();
        let diallable = is_node_port(addr.port())
            && is_reachable(addr.ip(), private)
            && told.is_current(now_millis);
        if !diallable {
            self.counters.refused += 1;
            return;
        }
        if !self.table.hear(told, source, now_millis) {
            return;
        }
        self.counters.heard += 1;
        self.look_soon(now);
        if self.policy.rules.meet_all {
            let wait = if at_once {
                Duration::ZERO
            } else {
                // Those who were told the same at once do not dial the same one at once.
                SPACING * 64
            };
            let at = now + wait.mul_f64(self.fraction());
            self.meet_at(at, told.node());
        }
    }

    /// What to do now, if anything.
    pub fn poll_errand(&mut self, now: Instant, now_millis: u64) -> Option<Errand> {
        if now < self.not_before || self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let (to, after, most) = self.next_errand(now)?;
        let walk = usize::from(most) >= PAGE;
        self.in_flight.insert(to.node, walk);
        self.counters.asked += 1;
        self.not_before = now
            + if self.is_supernode() {
                SPACING
            } else {
                DEVICE_SPACING
            };
        Some(Errand {
            to,
            after,
            most,
            own: self.announcement(now_millis),
        })
    }

    fn next_errand(&mut self, now: Instant) -> Option<(NodeAddress, Option<Network>, u8)> {
        const ALL: u8 = PAGE as u8;
        while let Some((to, after)) = self.urgent.pop_front() {
            if !self.in_flight.contains_key(&to.node) {
                return Some((to, after, ALL));
            }
        }
        let ready = |peer: &&mut Peer| peer.at <= now;
        if let Some(peer) = self.peers.iter_mut().find(ready) {
            peer.at = now + peer.wait;
            peer.wait = (peer.wait * 2).min(RECHECK);
            let to = peer.address.clone();
            if !self.in_flight.contains_key(&to.node) {
                return Some((to, None, ALL));
            }
        }
        while let Some((at, node)) = self.due.first().copied().filter(|(at, _node)| *at <= now) {
            self.due.remove(&(at, node));
            if self.in_flight.contains_key(&node) {
                continue;
            }
            if let Some(known) = self.table.get(node) {
                let to = known.announcement.address();
                let most = if self.walks > 0 { ALL } else { 0 };
                self.walks = self.walks.saturating_sub(1);
                return Some((to, None, most));
            }
        }
        if self.next_walk <= now {
            self.next_walk = now + self.about(self.walk_wait);
            self.walk_wait = (self.walk_wait * 2).min(WALK);
            let mut homes = self.homes.clone();
            let first = homes.pop();
            homes.into_iter().for_each(|home| self.urge(home, None));
            if let Some(home) = first {
                return Some((home, None, ALL));
            }
        }
        if self.next_look <= now {
            self.next_look = now + self.about(self.look_wait);
            self.look_wait = (self.look_wait * 2).min(self.look_every());
            return self.look();
        }
        None
    }

    /// One at random: a supernode asks for a part of what that knows, a device meets one that it was only told of.
    fn look(&mut self) -> Option<(NodeAddress, Option<Network>, u8)> {
        let is_supernode = self.is_supernode();
        if !is_supernode && !self.policy.feelers {
            return None;
        }
        let (table, rng) = (&self.table, &mut self.rng);
        let to = if is_supernode {
            table.draw(rng, |known| known.tried)
        } else {
            let stranger = table.draw(rng, |known| !known.tried);
            stranger.or_else(|| table.draw(rng, |known| !known.anchor))
        }?;
        let after = table.draw(rng, |_any| true);
        let after = after.map(|somebody| Network::of(&somebody));
        if self.in_flight.contains_key(&to.node) {
            return None;
        }
        if is_supernode || self.walks > 0 {
            self.walks = self.walks.saturating_sub(1);
            return Some((to, None, PAGE as u8));
        }
        // Fewer than a page, so that it is no walk.
        Some((to, after, (PAGE / 4) as u8))
    }

    /// What came of an errand to `to`: what it told, itself first; `None` when it was not reached, did not prove its key, or
    /// made no sense.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        now_millis: u64,
        to: &NodeAddress,
        told: Option<&[Arc<Announcement>]>,
    ) {
        let walk = self.in_flight.remove(&to.node).unwrap_or(false);
        let Some(told) = told else {
            self.counters.missed += 1;
            for peer in &mut self.peers {
                // One of the settings that is gone is looked for until it is back.
                if peer.address.node == to.node && peer.wait == RECHECK {
                    peer.wait = PEER_RETRY;
                    peer.at = now + PEER_RETRY;
                }
            }
            if let Some(failures) = self.table.missed(to.node) {
                let wait = RETRY * 2u32.pow(u32::from(failures.clamp(1, 6)) - 1);
                let at = now + self.about(wait);
                if self.is_supernode() {
                    self.meet_at(at, to.node);
                }
            }
            return;
        };
        self.counters.answered += 1;
        let reached = to.socket_addr();
        let itself = told.iter().find(|told| told.node() == to.node);
        let private = self.may_be_private(reached.map(|at| at.ip()));
        // It must be where it says. A name may stand for another address: a supernode looks there first.
        let is_named = reached.is_none() && !self.is_supernode();
        let there = |told: &&Arc<Announcement>| is_named || reached == Some(told.addr());
        let current = |told: &&Arc<Announcement>| {
            told.is_current(now_millis) && is_reachable(told.addr().ip(), private)
        };
        let newest = itself.filter(there).filter(current);
        let known = self.table.get(to.node);
        let known_there = known.is_some_and(|known| Some(known.announcement.addr()) == reached);
        if newest.is_some() || known_there {
            self.table.met(to.node, newest, now_millis);
            self.recheck(now, now_millis, to.node);
        }
        for peer in &mut self.peers {
            if peer.address.node == to.node {
                peer.wait = RECHECK;
                peer.at = now + RECHECK;
            }
        }
        let source = Network::of(to);
        if newest.is_none()
            && let Some(elsewhere) = itself
        {
            self.hear(now, now_millis, elsewhere, &source, private, true);
        }
        let others = told.iter().filter(|told| told.node() != to.node);
        let others: Vec<&Arc<Announcement>> = others.take(PAGE).collect();
        for other in &others {
            self.hear(now, now_millis, other, &source, private, false);
        }
        if !walk {
            return;
        }
        match others.last() {
            Some(last) if others.len() >= PAGE => {
                self.urge(to.clone(), Some(Network::of_ip(last.addr().ip())));
            }
            Some(_last) => self.table.heard_out(&source),
            // It knows nobody.
            None => {}
        }
    }

    /// Somebody else talked to a supernode of the table, and it was there or not.
    pub fn note(&mut self, node: NodeId, answered: bool, now_millis: u64) {
        if answered {
            self.table.met(node, None, now_millis);
        } else {
            self.table.missed(node);
        }
    }

    /// When to look for errands again, if nothing happens before; the reason is for whoever looks for a core that spins.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let urgent = (!self.urgent.is_empty()).then_some((self.not_before, "urgent"));
        let peers = self.peers.iter().map(|peer| (peer.at, "peer"));
        let due = self.due.first().map(|(at, _node)| (*at, "due"));
        let look = [(self.next_look, "look"), (self.next_walk, "walk")];
        let all = urgent.into_iter().chain(peers).chain(due).chain(look);
        let (at, why) = all.min()?;
        Some((at.max(self.not_before), why))
    }

    /// One that could become a home: see [`NodeTable::draw`].
    pub fn draw(
        &mut self,
        wanted: impl Fn(&super::table::Known<'_>) -> bool,
    ) -> Option<NodeAddress> {
        self.table.draw(&mut self.rng, wanted)
    }
}

#[cfg(test)]
mod tests;
