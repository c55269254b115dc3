//! Nodes, their addresses and sockets, and the way of a packet between them.
//!
//! A packet goes `socket -> uplink of its node -> translators -> core -> translators -> downlink of the
//! destination -> socket`. The core is ideal: it routes by address and loses only what a fault tells it to.
//! A pair override replaces both links. Behind a translator lies a private network of its own, whose nodes
//! reach each other at once, by none of the links.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use quinn::udp::{EcnCodepoint, Transmit};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use ahoy_transport::runtime::{NetworkChanges, Networks, Route};

use super::{
    Event,
    executor::{Executor, lock},
    link::{Conditions, Offer, Pipe, Travel, WireSize},
    nat::{Nat, NatConfig, NatStats, SimNat},
    seeded_rng,
};

mod events;

pub use events::{DropReason, Fault, LinkId, NetworkStats, PacketEvent, TraceHash};

/// Payload bytes that wait in a socket before more are dropped: the usual default of Linux.
pub const RECEIVE_QUEUE_BYTES: usize = 212_992;

/// What each datagram in a receive queue counts on top of its payload, as a kernel's buffer would.
const RECEIVE_OVERHEAD_BYTES: usize = 256;

const IPV4_AND_UDP_HEADER_BYTES: usize = 28;
const IPV6_AND_UDP_HEADER_BYTES: usize = 48;

/// Ports given out for port 0 (RFC 6335 section 6).
const FIRST_DYNAMIC_PORT: u16 = 49_152;

/// A machine in the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimNode(pub(super) u32);

impl SimNode {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A datagram on its way.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    from: SimNode,
    src: SocketAddr,
    dst: SocketAddr,
    sent_src: SocketAddr,
    sent_dst: SocketAddr,
    ecn: Option<EcnCodepoint>,
    contents: Bytes,
    sent_at: Duration,
    duplicate: bool,
}

impl WireSize for Packet {
    fn wire_bytes(&self) -> usize {
        let header = if self.dst.is_ipv4() {
            IPV4_AND_UDP_HEADER_BYTES
        } else {
            IPV6_AND_UDP_HEADER_BYTES
        };
        self.contents.len() + header
    }
}

/// Where a packet is when it next needs attention.
#[derive(Debug)]
pub(super) enum Hop {
    /// At the far end of a link.
    Link(LinkId),
    /// At a neighbour in the same private network.
    Lan(SimNode),
    /// At its own node, which it never left.
    Local,
}

/// A network in which addresses mean something: behind a translator, or the internet.
type Realm = Option<SimNat>;

/// Who has an address in a realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Node(SimNode),
    /// On its outside.
    Nat(SimNat),
}

/// A translator and the network on its outside.
struct Router {
    nat: Nat,
    outside: Realm,
}

/// What a socket has received and nobody has read.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) queue: VecDeque<Received>,
    bytes: usize,
    pub(super) waker: Option<Waker>,
}

impl Inbox {
    pub(super) fn pop(&mut self) -> Option<Received> {
        let received = self.queue.pop_front()?;
        self.bytes -= received.contents.len() + RECEIVE_OVERHEAD_BYTES;
        Some(received)
    }
}

#[derive(Debug)]
pub(super) struct Received {
    pub(super) src: SocketAddr,
    pub(super) dst_ip: IpAddr,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) contents: Bytes,
}

pub(super) type SharedInbox = Arc<Mutex<Inbox>>;

/// A bound socket, as its node knows it.
struct Binding {
    id: u64,
    addr: SocketAddr,
    inbox: SharedInbox,
}

pub(super) struct Node {
    pub(super) name: String,
    addresses: Vec<IpAddr>,
    behind: Realm,
    pub(super) alive: bool,
    /// How often the node was started before.
    pub(super) incarnation: u64,
    link_up: bool,
    upstream_up: bool,
    /// Since when the node is asleep, if it is.
    asleep_since: Option<Duration>,
    /// How long it was asleep before.
    slept: Duration,
    /// Rings when its networks change.
    bell: watch::Sender<u64>,
    up: Pipe<Packet>,
    down: Pipe<Packet>,
    pub(super) clock_offset_millis: i64,
    pub(super) rng: Arc<Mutex<ChaCha20Rng>>,
    sockets: BTreeMap<u16, Vec<Binding>>,
    next_port: u16,
    stats: NetworkStats,
}

/// The whole network.
pub(super) struct Network {
    seed: u64,
    nodes: Vec<Node>,
    routers: Vec<Router>,
    addresses: BTreeMap<(Realm, IpAddr), Owner>,
    pairs: BTreeMap<(SimNode, SimNode), Pipe<Packet>>,
    blocked: BTreeSet<(SimNode, SimNode)>,
    stats: NetworkStats,
    shape: Sha256,
    bytes: Sha256,
    next_socket: u64,
    /// Whether anybody wants `ended`.
    pub(super) observed: bool,
    ended: Vec<PacketEvent>,
    /// Nodes whose networks have changed, and who do not know yet.
    changed: BTreeSet<SimNode>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: Vec::new(),
            routers: Vec::new(),
            addresses: BTreeMap::new(),
            pairs: BTreeMap::new(),
            blocked: BTreeSet::new(),
            stats: NetworkStats::default(),
            shape: Sha256::new(),
            bytes: Sha256::new(),
            next_socket: 0,
            observed: false,
            ended: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    pub(super) fn add_node(&mut self, name: &str, behind: Realm, addresses: &[IpAddr]) -> SimNode {
        let node = SimNode(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let ideal = || Conditions::default();
        self.nodes.push(Node {
            name: name.to_owned(),
            addresses: Vec::new(),
            behind,
            alive: true,
            incarnation: 0,
            link_up: true,
            upstream_up: true,
            asleep_since: None,
            slept: Duration::ZERO,
            bell: watch::Sender::new(0),
            up: Pipe::new(
                ideal(),
                seeded_rng(self.seed, "uplink", [u64::from(node.0), 0]),
            ),
            down: Pipe::new(
                ideal(),
                seeded_rng(self.seed, "downlink", [u64::from(node.0), 0]),
            ),
            clock_offset_millis: 0,
            rng: node_rng(self.seed, node, 0),
            sockets: BTreeMap::new(),
            next_port: FIRST_DYNAMIC_PORT,
            stats: NetworkStats::default(),
        });
        self.attach(node, behind, addresses.to_vec());
        node
    }

    pub(super) fn add_nat(
        &mut self,
        name: &str,
        config: NatConfig,
        outside: Realm,
        external: Vec<IpAddr>,
    ) -> SimNat {
        let nat = SimNat(u32::try_from(self.routers.len()).unwrap_or(u32::MAX));
        let rng = seeded_rng(self.seed, "nat", [u64::from(nat.0), 0]);
        self.routers.push(Router {
            nat: Nat::new(name, config, Vec::new(), rng),
            outside,
        });
        self.set_nat_addresses(nat, external);
        nat
    }

    pub(super) fn nat(&self, nat: SimNat) -> &Nat {
        &self.routers[nat.index()].nat
    }

    pub(super) fn nat_mut(&mut self, nat: SimNat) -> &mut Nat {
        &mut self.routers[nat.index()].nat
    }

    pub(super) fn nat_stats(&self, now: Duration, nat: SimNat) -> NatStats {
        self.nat(nat).stats(now)
    }

    /// # Panics
    /// If somebody else on its outside has one of the addresses, or it is none of IPv4.
    pub(super) fn set_nat_addresses(&mut self, nat: SimNat, addresses: Vec<IpAddr>) {
        let owner = Owner::Nat(nat);
        self.addresses.retain(|_, other| *other != owner);
        let outside = self.routers[nat.index()].outside;
        for address in &addresses {
            assert!(address.is_ipv4(), "{address}: IPv6 is not translated");
            self.own(outside, *address, owner);
        }
        self.nat_mut(nat).set_external(addresses);
    }

    fn own(&mut self, realm: Realm, address: IpAddr, owner: Owner) {
        // IPv6 addresses are global.
        let realm = realm.filter(|_| address.is_ipv4());
        let taken = self.addresses.insert((realm, address), owner);
        assert!(
            taken.is_none(),
            "two have the address {address} in one network"
        );
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = SimNode> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(SimNode)
    }

    pub(super) fn node(&self, node: SimNode) -> &Node {
        &self.nodes[node.index()]
    }

    pub(super) fn node_mut(&mut self, node: SimNode) -> &mut Node {
        &mut self.nodes[node.index()]
    }

    pub(super) fn is_asleep(&self, node: SimNode) -> bool {
        self.node(node).asleep_since.is_some()
    }

    pub(super) fn is_running(&self, node: SimNode, incarnation: u64) -> bool {
        let node = self.node(node);
        node.alive && node.incarnation == incarnation
    }

    pub(super) fn set_addresses(&mut self, node: SimNode, addresses: Vec<IpAddr>) {
        self.attach(node, self.node(node).behind, addresses);
    }

    /// # Panics
    /// If somebody else in that network has one of the addresses.
    pub(super) fn attach(&mut self, node: SimNode, behind: Realm, addresses: Vec<IpAddr>) {
        let owner = Owner::Node(node);
        self.addresses.retain(|_, other| *other != owner);
        for address in &addresses {
            self.own(behind, *address, owner);
        }
        let state = self.node_mut(node);
        state.behind = behind;
        state.addresses = addresses;
        self.changed.insert(node);
    }

    /// Addresses of interfaces that are up, loopback included.
    pub(super) fn interface_addrs(&self, node: SimNode) -> Vec<IpAddr> {
        let node = self.node(node);
        let mut all = vec![Ipv4Addr::LOCALHOST.into()];
        if node.addresses.iter().any(IpAddr::is_ipv6) {
            all.push(Ipv6Addr::LOCALHOST.into());
        }
        if node.link_up {
            all.extend(&node.addresses);
        }
        all
    }

    /// Whether `ip` is another node's behind the same translator.
    pub(super) fn is_neighbour(&self, node: SimNode, ip: IpAddr) -> bool {
        let other = self.neighbour(node, ip);
        self.node(node).behind.is_some() && other.is_some_and(|other| other != node)
    }

    /// Takes a node off the network. The caller drops the inboxes with no lock held.
    pub(super) fn kill(&mut self, node: SimNode) -> Vec<SharedInbox> {
        let node = self.node_mut(node);
        node.alive = false;
        mem::take(&mut node.sockets)
            .into_values()
            .flatten()
            .map(|binding| binding.inbox)
            .collect()
    }

    /// Puts a dead node back on the network, with a new stream of randomness.
    pub(super) fn restart(&mut self, node: SimNode) {
        let seed = self.seed;
        let state = self.node_mut(node);
        state.alive = true;
        state.asleep_since = None;
        state.incarnation += 1;
        state.next_port = FIRST_DYNAMIC_PORT;
        state.rng = node_rng(seed, node, state.incarnation);
    }

    // Links and faults.

    /// The state of a link direction; a pair override comes into being when it is first named.
    fn pipe(&mut self, link: LinkId) -> &mut Pipe<Packet> {
        match link {
            LinkId::Uplink(node) => &mut self.node_mut(node).up,
            LinkId::Downlink(node) => &mut self.node_mut(node).down,
            LinkId::Pair { from, to } => {
                let seed = self.seed;
                self.pairs.entry((from, to)).or_insert_with(|| {
                    let rng = seeded_rng(seed, "pair", [from.0.into(), to.0.into()]);
                    Pipe::new(Conditions::default(), rng)
                })
            }
        }
    }

    /// As [`Self::pipe`], but a pair that has no override stays without.
    fn existing_pipe(&self, link: LinkId) -> Option<&Pipe<Packet>> {
        match link {
            LinkId::Uplink(node) => Some(&self.node(node).up),
            LinkId::Downlink(node) => Some(&self.node(node).down),
            LinkId::Pair { from, to } => self.pairs.get(&(from, to)),
        }
    }

    pub(super) fn conditions(&self, link: LinkId) -> Option<&Conditions> {
        self.existing_pipe(link).map(Pipe::conditions)
    }

    pub(super) fn queued_bytes(&self, link: LinkId) -> usize {
        self.existing_pipe(link).map_or(0, Pipe::queued_bytes)
    }

    pub(super) fn set_conditions(
        &mut self,
        executor: &Executor,
        link: LinkId,
        conditions: Conditions,
    ) {
        let serve_at = self
            .pipe(link)
            .set_conditions(executor.elapsed(), conditions);
        if let Some(at) = serve_at {
            executor.schedule(at, Event::Served(link));
        }
    }

    pub(super) fn set_link_up(&mut self, node: SimNode, up: bool) {
        self.node_mut(node).link_up = up;
        self.changed.insert(node);
    }

    /// Puts a node to sleep.
    pub(super) fn suspend(&mut self, now: Duration, node: SimNode) {
        self.node_mut(node).asleep_since.get_or_insert(now);
    }

    /// Wakes a node up; its bell rings, since much may have changed.
    pub(super) fn resume(&mut self, now: Duration, node: SimNode) {
        let state = self.node_mut(node);
        if let Some(since) = state.asleep_since.take() {
            state.slept += now.saturating_sub(since);
            self.changed.insert(node);
        }
    }

    /// How long the node has slept, until it last woke up.
    pub(super) fn slept(&self, node: SimNode) -> Duration {
        self.node(node).slept
    }

    /// The bells that must ring. The caller rings them with no lock held.
    pub(super) fn take_bells(&mut self) -> Vec<watch::Sender<u64>> {
        let changed = mem::take(&mut self.changed);
        let bell = |node: SimNode| self.node(node).bell.clone();
        changed.into_iter().map(bell).collect()
    }

    pub(super) fn network_changes(&self, node: SimNode) -> NetworkChanges {
        NetworkChanges::new(self.node(node).bell.subscribe())
    }

    /// What the node knows of its networks. The interface is named after the router behind it, so that two
    /// homes with the same addresses differ.
    pub(super) fn networks(&self, node: SimNode) -> Networks {
        let state = self.node(node);
        let interface = match state.behind {
            Some(nat) => format!("sim{}", nat.index() + 1),
            None => String::from("sim0"),
        };
        let route = |wanted: fn(&IpAddr) -> bool| {
            let source = state.addresses.iter().copied().find(wanted);
            source.filter(|_| state.link_up).map(|source| Route {
                interface: Some(interface.clone()),
                gateway: None,
                source: Some(source),
            })
        };
        Networks {
            route_v4: route(IpAddr::is_ipv4),
            route_v6: route(IpAddr::is_ipv6),
            ..Networks::of_addrs(self.interface_addrs(node))
        }
    }

    pub(super) fn block(&mut self, from: SimNode, to: SimNode) {
        self.blocked.insert((from, to));
    }

    pub(super) fn unblock(&mut self, from: SimNode, to: SimNode) {
        self.blocked.remove(&(from, to));
    }

    pub(super) fn set_upstream_up(&mut self, node: SimNode, up: bool) {
        self.node_mut(node).upstream_up = up;
    }

    pub(super) fn heal(&mut self) {
        self.blocked.clear();
    }

    // Sockets.

    pub(super) fn bind(
        &mut self,
        node: SimNode,
        mut addr: SocketAddr,
    ) -> io::Result<(u64, SocketAddr, SharedInbox)> {
        let id = self.next_socket;
        let state = self.node_mut(node);
        let ip = addr.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && !state.addresses.contains(&ip) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if addr.port() == 0 {
            addr.set_port(state.pick_port(ip)?);
        } else if !state.is_free(addr.port(), ip) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let inbox = SharedInbox::default();
        state.sockets.entry(addr.port()).or_default().push(Binding {
            id,
            addr,
            inbox: Arc::clone(&inbox),
        });
        self.next_socket += 1;
        Ok((id, addr, inbox))
    }

    /// Forgets a socket. The caller holds another reference to its inbox.
    pub(super) fn unbind(&mut self, node: SimNode, id: u64, port: u16) {
        let sockets = &mut self.node_mut(node).sockets;
        if let Some(bindings) = sockets.get_mut(&port) {
            bindings.retain(|binding| binding.id != id);
            if bindings.is_empty() {
                sockets.remove(&port);
            }
        }
    }

    // The way of a packet.

    /// Sends all segments of `transmit` from a socket of `node` that is bound to `local`.
    pub(super) fn send(
        &mut self,
        executor: &Executor,
        node: SimNode,
        local: SocketAddr,
        transmit: &Transmit<'_>,
    ) {
        let dst = canonical(transmit.destination);
        let source = self.source_ip(node, local, transmit.src_ip, dst.ip());
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        // An empty datagram is one datagram, though it has no chunk.
        let count = transmit.contents.len().div_ceil(segment.max(1)).max(1);
        for index in 0..count {
            let start = index * segment;
            let end = (start + segment).min(transmit.contents.len());
            let src = canonical(SocketAddr::new(source.unwrap_or(local.ip()), local.port()));
            let packet = Packet {
                from: node,
                src,
                dst,
                sent_src: src,
                sent_dst: dst,
                ecn: transmit.ecn,
                contents: Bytes::copy_from_slice(&transmit.contents[start..end]),
                sent_at: executor.elapsed(),
                duplicate: false,
            };
            let bytes = packet.contents.len() as u64;
            for stats in [&mut self.stats, &mut self.nodes[node.index()].stats] {
                stats.sent += 1;
                stats.sent_bytes += bytes;
            }
            self.depart(executor, packet, source.is_some());
        }
    }

    /// The source address of a datagram; none when the node has no address that can reach `dst`.
    fn source_ip(
        &self,
        node: SimNode,
        local: SocketAddr,
        wanted: Option<IpAddr>,
        dst: IpAddr,
    ) -> Option<IpAddr> {
        let local_ip = local.ip();
        if dst.is_ipv4() && local_ip.is_ipv6() && !local_ip.is_unspecified() {
            return None;
        }
        if dst.is_ipv6() && local_ip.is_ipv4() {
            return None;
        }
        let node = self.node(node);
        let bound = (!local_ip.is_unspecified()).then_some(local_ip);
        let wanted = wanted.map(|ip| ip.to_canonical());
        if let Some(ip) = wanted
            .filter(|ip| !ip.is_unspecified() && ip.is_ipv4() == dst.is_ipv4())
            .or(bound)
        {
            return (ip.is_loopback() || node.addresses.contains(&ip)).then_some(ip);
        }
        if dst.is_loopback() {
            return Some(dst);
        }
        node.addresses
            .iter()
            .copied()
            .find(|ip| ip.is_ipv4() == dst.is_ipv4())
    }

    fn depart(&mut self, executor: &Executor, packet: Packet, has_source: bool) {
        let from = packet.from;
        if !has_source {
            return self.drop_packet(executor, packet, None, DropReason::NoRoute);
        }
        let to = self.neighbour(from, packet.dst.ip());
        if packet.dst.ip().is_loopback() || to == Some(from) {
            executor.schedule(executor.elapsed(), Event::Arrived(Hop::Local, packet));
            return;
        }
        if packet.src.ip().is_loopback() {
            return self.drop_packet(executor, packet, to, DropReason::NoRoute);
        }
        if !self.node(from).link_up {
            return self.drop_packet(executor, packet, to, DropReason::LinkDown);
        }
        let Some(to) = to else {
            return self.leave(executor, from, packet);
        };
        let pair = self.pairs.contains_key(&(from, to));
        if !pair && self.node(from).behind.is_none() {
            return self.leave(executor, from, packet);
        }
        if self.blocked.contains(&(from, to)) {
            return self.drop_packet(executor, packet, Some(to), DropReason::Blocked);
        }
        if pair {
            self.enter(executor, LinkId::Pair { from, to }, packet, Some(to));
        } else {
            executor.schedule(executor.elapsed(), Event::Arrived(Hop::Lan(to), packet));
        }
    }

    /// Into the uplink.
    fn leave(&mut self, executor: &Executor, from: SimNode, packet: Packet) {
        let to = self.neighbour(from, packet.dst.ip());
        if self.node(from).upstream_up {
            self.enter(executor, LinkId::Uplink(from), packet, to);
        } else {
            self.drop_packet(executor, packet, to, DropReason::UpstreamDown);
        }
    }

    /// The node with this address in the network of `from`.
    fn neighbour(&self, from: SimNode, ip: IpAddr) -> Option<SimNode> {
        let realm = self.node(from).behind;
        let owner = self.addresses.get(&(realm.filter(|_| ip.is_ipv4()), ip));
        match owner {
            Some(Owner::Node(to)) if self.node(*to).behind == realm => Some(*to),
            Some(Owner::Node(_) | Owner::Nat(_)) | None => None,
        }
    }

    fn enter(&mut self, executor: &Executor, link: LinkId, packet: Packet, to: Option<SimNode>) {
        match self.pipe(link).offer(executor.elapsed(), packet) {
            Offer::Travels(packet) => self.travel(executor, link, packet),
            Offer::Waits(None) => {}
            Offer::Waits(Some(at)) => {
                executor.schedule(at, Event::Served(link));
            }
            Offer::QueueFull(packet) => {
                self.drop_packet(executor, packet, to, DropReason::QueueFull);
            }
            Offer::TooBig(packet) => self.drop_packet(executor, packet, to, DropReason::TooBig),
        }
    }

    /// The packet in front of a link's queue has been sent.
    pub(super) fn served(&mut self, executor: &Executor, link: LinkId) {
        let (packet, next) = self.pipe(link).serve(executor.elapsed());
        if let Some(at) = next {
            executor.schedule(at, Event::Served(link));
        }
        if let Some(packet) = packet {
            self.travel(executor, link, packet);
        }
    }

    fn travel(&mut self, executor: &Executor, link: LinkId, packet: Packet) {
        match self.pipe(link).travel(executor.elapsed()) {
            Travel::Lost => {
                let to = match link {
                    LinkId::Uplink(from) => self.neighbour(from, packet.dst.ip()),
                    LinkId::Downlink(to) | LinkId::Pair { to, .. } => Some(to),
                };
                self.drop_packet(executor, packet, to, DropReason::Lost);
            }
            Travel::Arrives { at, duplicate_at } => {
                if let Some(again) = duplicate_at {
                    self.stats.duplicated += 1;
                    self.nodes[packet.from.index()].stats.duplicated += 1;
                    let copy = Packet {
                        duplicate: true,
                        ..packet.clone()
                    };
                    executor.schedule(again, Event::Arrived(Hop::Link(link), copy));
                }
                executor.schedule(at, Event::Arrived(Hop::Link(link), packet));
            }
        }
    }

    /// A packet has come to the end of a hop. Returns whom to wake.
    pub(super) fn arrived(
        &mut self,
        executor: &Executor,
        hop: &Hop,
        packet: Packet,
    ) -> Option<Waker> {
        match hop {
            Hop::Link(LinkId::Uplink(from)) => {
                self.route(executor, *from, packet);
                None
            }
            Hop::Link(LinkId::Downlink(to)) if !self.node(*to).upstream_up => {
                self.drop_packet(executor, packet, Some(*to), DropReason::UpstreamDown);
                None
            }
            Hop::Link(LinkId::Downlink(to) | LinkId::Pair { to, .. }) | Hop::Lan(to) => {
                if self.node(*to).link_up {
                    self.deliver(executor, *to, packet)
                } else {
                    self.drop_packet(executor, packet, Some(*to), DropReason::LinkDown);
                    None
                }
            }
            Hop::Local => {
                let node = packet.from;
                self.deliver(executor, node, packet)
            }
        }
    }

    /// From an uplink through translators and core to the downlink of whoever has the destination address now.
    fn route(&mut self, executor: &Executor, from: SimNode, mut packet: Packet) {
        if !self.node(from).upstream_up {
            return self.drop_packet(executor, packet, None, DropReason::UpstreamDown);
        }
        let to = match self.translate(executor.elapsed(), from, &mut packet) {
            Ok(to) => to,
            Err(reason) => return self.drop_packet(executor, packet, None, reason),
        };
        let state = self.node(to);
        let dropped = if self.blocked.contains(&(from, to)) {
            Some(DropReason::Blocked)
        } else if !state.link_up {
            Some(DropReason::LinkDown)
        } else if !state.upstream_up {
            Some(DropReason::UpstreamDown)
        } else {
            None
        };
        match dropped {
            Some(reason) => self.drop_packet(executor, packet, Some(to), reason),
            None => self.enter(executor, LinkId::Downlink(to), packet, Some(to)),
        }
    }

    /// Takes a packet out of the network of its sender and into that of its receiver.
    fn translate(
        &mut self,
        now: Duration,
        from: SimNode,
        packet: &mut Packet,
    ) -> Result<SimNode, DropReason> {
        if packet.dst.is_ipv6() {
            return self.pass_firewalls(now, from, packet);
        }
        let mut realm = self.node(from).behind;
        // The translator that the packet has just left, and whether it is on its way in.
        let mut left = None;
        let mut inward = false;
        loop {
            match (
                self.addresses.get(&(realm, packet.dst.ip())).copied(),
                realm,
            ) {
                (Some(Owner::Node(to)), _) => return Ok(to),
                (Some(Owner::Nat(nat)), _) => {
                    let router = self.nat_mut(nat);
                    if left == Some(nat) {
                        router.turns_around()?;
                    }
                    packet.dst = router.inbound(now, packet.src, packet.dst)?;
                    realm = Some(nat);
                    inward = true;
                }
                (None, Some(nat)) if !inward => {
                    packet.src = self.nat_mut(nat).outbound(now, packet.src, packet.dst)?;
                    realm = self.routers[nat.index()].outside;
                    left = Some(nat);
                }
                // Nobody on the internet has it, or whoever had it inside has gone.
                (None, _) => return Err(DropReason::NoRoute),
            }
        }
    }

    /// IPv6 is routed as it is, past the firewalls of all routers between the two.
    fn pass_firewalls(
        &mut self,
        now: Duration,
        from: SimNode,
        packet: &Packet,
    ) -> Result<SimNode, DropReason> {
        let Some(Owner::Node(to)) = self.addresses.get(&(None, packet.dst.ip())).copied() else {
            return Err(DropReason::NoRoute);
        };
        let mut ours = self.routers_above(from);
        let mut theirs = self.routers_above(to);
        while let (Some(a), Some(b)) = (ours.last(), theirs.last())
            && a == b
        {
            ours.pop();
            theirs.pop();
        }
        for nat in ours {
            self.nat_mut(nat).outbound(now, packet.src, packet.dst)?;
        }
        for nat in theirs.into_iter().rev() {
            self.nat_mut(nat).inbound(now, packet.src, packet.dst)?;
        }
        Ok(to)
    }

    /// The translators between a node and the internet, its own router first.
    fn routers_above(&self, node: SimNode) -> Vec<SimNat> {
        std::iter::successors(self.node(node).behind, |nat| {
            self.routers[nat.index()].outside
        })
        .collect()
    }

    fn deliver(&mut self, executor: &Executor, to: SimNode, packet: Packet) -> Option<Waker> {
        let node = self.node(to);
        if !node.alive {
            self.drop_packet(executor, packet, Some(to), DropReason::NodeDown);
            return None;
        }
        if node.asleep_since.is_some() {
            self.drop_packet(executor, packet, Some(to), DropReason::Asleep);
            return None;
        }
        let dst_ip = packet.dst.ip();
        if !dst_ip.is_loopback() && !node.addresses.contains(&dst_ip) {
            // The node has moved while the packet was on its way.
            self.drop_packet(executor, packet, Some(to), DropReason::NoRoute);
            return None;
        }
        let Some((inbox, mapped)) = node
            .socket_for(packet.dst)
            .map(|binding| (Arc::clone(&binding.inbox), binding.addr.is_ipv6()))
        else {
            self.drop_packet(executor, packet, Some(to), DropReason::NoSocket);
            return None;
        };
        let mut guard = lock(&inbox);
        let bytes = packet.contents.len() + RECEIVE_OVERHEAD_BYTES;
        if guard.bytes + bytes > RECEIVE_QUEUE_BYTES {
            drop(guard);
            self.drop_packet(executor, packet, Some(to), DropReason::ReceiveQueueFull);
            return None;
        }
        guard.bytes += bytes;
        guard.queue.push_back(Received {
            src: as_seen(packet.src, mapped),
            dst_ip: as_seen(packet.dst, mapped).ip(),
            ecn: packet.ecn,
            contents: packet.contents.clone(),
        });
        let waker = guard.waker.take();
        drop(guard);
        self.end(executor, packet, Some(to), None);
        waker
    }

    fn drop_packet(
        &mut self,
        executor: &Executor,
        packet: Packet,
        to: Option<SimNode>,
        reason: DropReason,
    ) {
        tracing::trace!(?reason, src = %packet.src, dst = %packet.dst, "simulated packet dropped");
        self.end(executor, packet, to, Some(reason));
    }

    /// Writes down what became of a packet.
    fn end(
        &mut self,
        executor: &Executor,
        packet: Packet,
        to: Option<SimNode>,
        dropped: Option<DropReason>,
    ) {
        let at = executor.elapsed();
        let bytes = packet.contents.len() as u64;
        let node = match (dropped, to) {
            (None, Some(to)) => to,
            (Some(_), _) | (None, None) => packet.from,
        };
        for stats in [&mut self.stats, &mut self.nodes[node.index()].stats] {
            match dropped {
                Some(reason) => *stats.dropped.entry(reason).or_default() += 1,
                None => {
                    stats.delivered += 1;
                    stats.delivered_bytes += bytes;
                }
            }
        }

        let mut line = [0; 8 + 2 * 18 + 8 + 2];
        line[..8].copy_from_slice(
            &u64::try_from(at.as_nanos())
                .unwrap_or(u64::MAX)
                .to_be_bytes(),
        );
        line[8..26].copy_from_slice(&address_bytes(packet.src));
        line[26..44].copy_from_slice(&address_bytes(packet.dst));
        line[44..52].copy_from_slice(&bytes.to_be_bytes());
        line[52] = packet.ecn.map_or(0, |ecn| ecn as u8);
        line[53] = dropped.map_or(0, DropReason::code);
        self.shape.update(line);
        self.bytes.update(line);
        self.bytes.update(&packet.contents);

        if self.observed {
            self.ended.push(PacketEvent {
                at,
                sent_at: packet.sent_at,
                from: packet.from,
                to,
                src: packet.src,
                dst: packet.dst,
                sent_src: packet.sent_src,
                sent_dst: packet.sent_dst,
                ecn: packet.ecn,
                contents: packet.contents,
                duplicate: packet.duplicate,
                dropped,
            });
        }
    }

    /// What ended since the last call, for the observers.
    pub(super) fn take_ended(&mut self) -> Vec<PacketEvent> {
        mem::take(&mut self.ended)
    }

    pub(super) fn stats(&self) -> &NetworkStats {
        &self.stats
    }

    pub(super) fn node_stats(&self, node: SimNode) -> &NetworkStats {
        &self.node(node).stats
    }

    pub(super) fn trace_hash(&self) -> TraceHash {
        TraceHash {
            shape: self.shape.clone().finalize().into(),
            bytes: self.bytes.clone().finalize().into(),
        }
    }
}

impl Node {
    /// Whether a socket may be bound there: a wildcard collides with every address it covers.
    fn is_free(&self, port: u16, ip: IpAddr) -> bool {
        self.sockets.get(&port).is_none_or(|bindings| {
            bindings.iter().all(|binding| {
                let bound = binding.addr.ip();
                bound != ip && !covers(bound, ip) && !covers(ip, bound)
            })
        })
    }

    fn pick_port(&mut self, ip: IpAddr) -> io::Result<u16> {
        for _ in FIRST_DYNAMIC_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_DYNAMIC_PORT);
            if self.is_free(port, ip) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn socket_for(&self, dst: SocketAddr) -> Option<&Binding> {
        self.sockets.get(&dst.port())?.iter().find(|binding| {
            let bound = binding.addr.ip();
            bound == dst.ip() || covers(bound, dst.ip())
        })
    }
}

/// Whether `wildcard` is one, and receives for `ip`. The IPv6 wildcard receives IPv4 too, as on Linux.
fn covers(wildcard: IpAddr, ip: IpAddr) -> bool {
    wildcard.is_unspecified() && (wildcard.is_ipv6() || ip.is_ipv4())
}

/// Without the IPv4-mapped form (RFC 4291 section 2.5.5.2), in which an IPv6 socket speaks of IPv4.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// How a socket sees an address: IPv4-mapped if it is an IPv6 socket.
fn as_seen(addr: SocketAddr, ipv6_socket: bool) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ipv6_socket => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => addr,
    }
}

fn address_bytes(addr: SocketAddr) -> [u8; 18] {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&addr.port().to_be_bytes());
    bytes
}

fn node_rng(seed: u64, node: SimNode, incarnation: u64) -> Arc<Mutex<ChaCha20Rng>> {
    let rng = seeded_rng(seed, "node", [node.0.into(), incarnation]);
    Arc::new(Mutex::new(rng))
}
