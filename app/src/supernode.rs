//! The supernode role: a rendezvous and a relay for other people's calls, on this machine.
//!
//! [`SupernodeHandle::start`] binds the ports and serves until the handle is dropped; [`SupernodeHandle::drain`]
//! ends it politely. It needs no person: its key is its own, from a file ([`load_or_create_keys`]) or given.
//!
//! Several listen addresses are several ports with one registry, so it does not matter by which one a device
//! came. A relay goes with each of them, except that an address of one host and family needs only one:
//! calls between two of its clients then stay inside the relay.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    discovery::{
        announcement::Capabilities,
        gossip::{
            Gossip, GossipPolicy, Own,
            shell::{Gossiper, TableKeeper, UdpCourier},
        },
        table::NodeTable,
    },
    port::{PortHub, SharedPort, SubscribeError},
    supernode::{
        MailKeeper, ReachableRelay, Supernode, SupernodeStatus,
        admission::DeviceAdmission,
        registry::Limits,
        relay::{
            RelayConfig,
            policy::{PolicySwitches, is_reachable},
            server::{RelayServer, RelayServerConfig},
        },
    },
};
use ahoy_transport::{
    connection::CloseCode,
    endpoint::{Endpoint, EndpointConfig, EndpointStats},
    identity::{Host, NodeAddress, NodeId, NodeKeys},
    mux::MuxStats,
    noise::ConfigError,
    runtime::{Runtime, RuntimeExt, Task, timeout},
    tunnel::server::{TcpCounters, TunnelServer},
};

use crate::link::NodeLink;

mod config;
mod key_file;
mod mail_file;
mod memory;
mod private;
pub mod watch;

pub use config::{
    DEFAULT_PORT, DhtSettings, NetworkSettings, ParsePortsError, ParsePublicAddrError, Peer,
    PortRange, PublicAddr, RelaySettings, SupernodeConfig, TcpSettings,
};
pub use key_file::{KEY_FILE, KeyFileError, load_or_create_keys};
pub use mail_file::{MailFile, MailFileError};
pub use memory::NodesFile;
use private::{Others, close};

/// How often a draining supernode looks whether its last relayed call is over.
const DRAIN_POLL: Duration = Duration::from_millis(200);
/// How long closed connections may take to hear of it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Why a supernode did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration names no address to listen on.
    #[error("the supernode has no address to listen on; name one with --listen or `listen`")]
    NoListener,
    /// A port cannot be had.
    #[error("cannot listen on {addr}: {error}")]
    Bind {
        /// As configured.
        addr: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A TCP port cannot be had.
    #[error("cannot listen by TCP on {addr}: {error}")]
    BindTcp {
        /// As configured.
        addr: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The public name has no address.
    #[error("the public address {name} cannot be looked up: {error}")]
    PublicName {
        /// As configured.
        name: String,
        /// What the system says.
        error: io::Error,
    },
    /// The key makes no handshake.
    #[error(transparent)]
    Key(#[from] ConfigError),
    /// The relay cannot have the port.
    #[error("the relay cannot use the port: {0}")]
    Relay(#[from] SubscribeError),
}

/// What one port has counted since the start.
#[derive(Debug, Clone)]
pub struct PortStatus {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Handshakes.
    pub endpoint: EndpointStats,
    /// Packets.
    pub mux: MuxStats,
}

/// What one TCP port has counted since the start.
#[derive(Debug, Clone)]
pub struct TcpStatus {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Connections.
    pub counters: TcpCounters,
}

/// What a supernode has counted since the start, and what is there now.
#[derive(Debug, Clone)]
pub struct Status {
    /// Connections, registrations, deliveries, relays.
    pub rendezvous: SupernodeStatus,
    /// By port, in the order of the configuration.
    pub ports: Vec<PortStatus>,
    /// By TCP port, in the order of the configuration.
    pub tcp: Vec<TcpStatus>,
}

/// A running supernode. It ends when this is dropped.
#[derive(Debug)]
pub struct SupernodeHandle {
    runtime: Arc<dyn Runtime>,
    node: NodeId,
    public_addr: Option<PublicAddr>,
    supernode: Arc<Supernode>,
    endpoints: Vec<Endpoint>,
    tcp: Vec<TunnelServer>,
    public_tcp: Option<u16>,
    wait_for_disk: bool,
    gossiper: Gossiper,
    _gossiping: Task,
    /// With the other supernodes of a private network.
    _agreeing: Option<Task>,
}

impl SupernodeHandle {
    /// Binds all ports and starts to serve.
    ///
    /// # Errors
    /// When a port cannot be had or the public name has no address. Nothing runs then.
    pub async fn start(
        runtime: Arc<dyn Runtime>,
        config: SupernodeConfig,
        keys: &NodeKeys,
    ) -> Result<Self, StartError> {
        Self::start_with(runtime, config, keys, None).await
    }

    /// The same, which remembers the supernodes that it knows in `memory`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        runtime: Arc<dyn Runtime>,
        config: SupernodeConfig,
        keys: &NodeKeys,
        memory: Option<Arc<dyn TableKeeper>>,
    ) -> Result<Self, StartError> {
        Self::start_keeping(runtime, config, keys, memory, None).await
    }

    /// The same, which also remembers in `members` who belongs to its private network.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_keeping(
        runtime: Arc<dyn Runtime>,
        config: SupernodeConfig,
        keys: &NodeKeys,
        memory: Option<Arc<dyn TableKeeper>>,
        members: Option<Arc<dyn TableKeeper>>,
    ) -> Result<Self, StartError> {
        if config.listen.is_empty() {
            return Err(StartError::NoListener);
        }
        let public_ips = match &config.public_addr {
            Some(public) => public_ips(&*runtime, public).await?,
            None => Vec::new(),
        };
        let supernode = Supernode::new(Arc::clone(&runtime), config.limits.clone());
        supernode.set_witness(keys.clone());
        let peers = config.network.peers.iter();
        let mut peers: Vec<NodeAddress> = peers.map(|Peer(address)| address.clone()).collect();
        let access = config
            .private
            .as_ref()
            .map(|private| close(&supernode, private, keys, &mut peers, members.as_deref()));
        let mut endpoints = Vec::new();
        let mut relays: Vec<(SocketAddr, Arc<RelayServer>)> = Vec::new();
        for addr in &config.listen {
            let endpoint = bind(&runtime, *addr, keys)?;
            if let Some(access) = &access {
                endpoint.set_access(Arc::clone(access));
            }
            let local = endpoint.local_addr();
            let mut relay = if !config.relay.enabled {
                None
            } else if let Some((at, server)) = relays.iter().find(|(at, _)| covers(*at, local)) {
                let server = Arc::clone(server);
                Some(reachable_at_port(server, at.port()))
            } else {
                let ips = relayed_ips(&public_ips, local.ip(), &runtime.interface_addrs());
                let server = start_relay(&runtime, &endpoint, &config.relay, &ips)?;
                relays.push((local, Arc::clone(&server)));
                Some(ReachableRelay::on_same_port(server))
            };
            if let Some(relay) = &mut relay
                && config.relay.other_relays
            {
                relay.prover = Some(endpoint.clone());
            }
            let admission = Arc::new(DeviceAdmission::new(Arc::clone(&runtime)));
            supernode.serve(endpoint.serve_nodes(keys, admission)?, relay);
            tracing::info!(%local, "listening");
            endpoints.push(endpoint);
        }
        let tcp = match endpoints.first() {
            // The first port has a relay of its own, which everybody who comes by TCP uses.
            Some(endpoint) => listen_tcp(&runtime, endpoint, &config)?,
            None => Vec::new(),
        };
        let allow_private = config.relay.allow_private;
        let policy = GossipPolicy {
            allow_private,
            ..GossipPolicy::supernode()
        };
        let table = memory.as_ref().and_then(|memory| memory.table());
        let table = table.and_then(|bytes| {
            NodeTable::from_bytes(policy.rules, Some(keys.id()), &bytes)
                .inspect_err(|error| tracing::warn!(%error, "known supernodes cannot be read"))
                .ok()
        });
        // Where it is may turn out later, or never; who it is, it knows.
        let table = table.unwrap_or_else(|| {
            NodeTable::new(policy.rules, Some(keys.id()), runtime.random_array())
        });
        if let Some(access) = &access {
            table
                .nodes()
                .for_each(|known| access.learn(known.announcement.node()));
        }
        let gossip = Gossip::new(
            policy,
            None,
            Some(table),
            peers.clone(),
            runtime.now(),
            runtime.random_array(),
        );
        let gossiper = Gossiper::new(Arc::clone(&runtime), gossip);
        supernode.set_gossip(gossiper.clone());
        let first = endpoints.first().ok_or(StartError::NoListener)?;
        let gossiping = gossiper.run(Arc::new(UdpCourier(first.clone())), memory);
        let supernode = Arc::new(supernode);
        let agreeing = access.is_some().then(|| {
            let others = Others {
                runtime: Arc::clone(&runtime),
                endpoint: first.clone(),
                supernode: Arc::downgrade(&supernode),
                gossiper: gossiper.clone(),
                peers,
                known: BTreeMap::new(),
                keeper: members,
            };
            runtime.spawn_task(others.agree())
        });
        let handle = Self {
            tcp,
            _agreeing: agreeing,
            wait_for_disk: config.wait_for_disk,
            public_tcp: config.public_tcp,
            node: keys.id(),
            public_addr: config.public_addr,
            runtime,
            supernode,
            endpoints,
            gossiper,
            _gossiping: gossiping,
        };
        if config.network.announce {
            handle.announce(keys, &config.relay, &config.limits, &public_ips);
        }
        Ok(handle)
    }

    /// Tells other supernodes of itself, by the best address that they reach.
    fn announce(
        &self,
        keys: &NodeKeys,
        relay: &RelaySettings,
        limits: &Limits,
        public_ips: &[IpAddr],
    ) {
        let mut does = Capabilities::default();
        for (is_done, what) in [
            (relay.enabled, Capabilities::RELAY),
            (limits.records > 0, Capabilities::RECORDS),
            (limits.mail.boxes > 0, Capabilities::MAIL),
        ] {
            if is_done {
                does = does.with(what);
            }
        }
        let own = self.links().into_iter().find_map(|NodeLink(address)| {
            let ip = match &address.host {
                Host::Ip(ip) => *ip,
                // Others could look up another address.
                Host::Name(_) => *public_ips.first()?,
            };
            is_reachable(ip, relay.allow_private).then(|| Own {
                keys: keys.clone(),
                addr: SocketAddr::new(ip, address.port),
                tcp: address.tcp,
                capabilities: does,
            })
        });
        match own {
            Some(own) => self.gossiper.with(|gossip| gossip.set_own(own)),
            None => tracing::info!("no address that everybody reaches: others are not told of it"),
        }
    }

    /// What it knows of other supernodes.
    #[must_use]
    pub fn gossiper(&self) -> &Gossiper {
        &self.gossiper
    }

    /// The supernode's name.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it listens, in the order of the configuration.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(Endpoint::local_addr).collect()
    }

    /// How others reach it, best first and never empty: the public address where one is configured, else the
    /// addresses of this machine's interfaces, and loopback when there is nothing else.
    #[must_use]
    pub fn links(&self) -> Vec<NodeLink> {
        let locals = self.local_addrs();
        let link = |host, port| {
            NodeLink(NodeAddress {
                node: self.node,
                tcp: self.tcp_port(&host),
                host,
                port,
            })
        };
        if let Some(public) = &self.public_addr {
            let ports = locals.iter().map(SocketAddr::port);
            return match public.port {
                Some(port) => vec![link(public.host.clone(), port)],
                None => {
                    let mut ports: Vec<u16> = ports.collect();
                    ports.dedup();
                    ports
                        .into_iter()
                        .map(|port| link(public.host.clone(), port))
                        .collect()
                }
            };
        }
        let interfaces = self.runtime.interface_addrs();
        let mut links = Vec::new();
        for local in locals {
            for ip in reachable_ips(local.ip(), &interfaces) {
                let link = link(Host::Ip(ip), local.port());
                if !links.contains(&link) {
                    links.push(link);
                }
            }
        }
        links.sort_by_key(|NodeLink(address)| match address.host {
            Host::Ip(ip) => Reach::of(ip),
            Host::Name(_) => Reach::Public,
        });
        links
    }

    /// Where it listens by TCP, in the order of the configuration.
    #[must_use]
    pub fn local_tcp_addrs(&self) -> Vec<SocketAddr> {
        self.tcp.iter().map(TunnelServer::local_addr).collect()
    }

    /// The TCP port that is reached at `host`.
    fn tcp_port(&self, host: &Host) -> Option<u16> {
        let mut locals = self.tcp.iter().map(TunnelServer::local_addr);
        let there = |local: &SocketAddr| match host {
            // Whoever names a public address knows that it leads here.
            _any if self.public_addr.is_some() => true,
            Host::Ip(ip) => {
                let wildcard = local.is_ipv6() || ip.is_ipv4();
                local.ip() == *ip || (local.ip().is_unspecified() && wildcard)
            }
            Host::Name(_) => true,
        };
        let found = locals.find(there)?;
        Some(self.public_tcp.unwrap_or(found.port()))
    }

    /// Counters and sizes.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            rendezvous: self.supernode.status(),
            ports: self
                .endpoints
                .iter()
                .map(|endpoint| PortStatus {
                    addr: endpoint.local_addr(),
                    endpoint: endpoint.stats(),
                    mux: endpoint.mux().stats(),
                })
                .collect(),
            tcp: self
                .tcp
                .iter()
                .map(|server| TcpStatus {
                    addr: server.local_addr(),
                    counters: server.counters(),
                })
                .collect(),
        }
    }

    /// Has `keeper` keep the boxes of devices that are off; what it has from before is taken in first.
    pub fn keep_mail(&self, keeper: Arc<dyn MailKeeper>) {
        self.supernode.keep_mail(keeper, self.wait_for_disk);
    }

    /// The relays take no new calls for the moment, or do again; running ones go on.
    pub fn set_busy(&self, busy: bool) {
        self.supernode.set_busy(busy);
    }

    /// Ends it politely: devices are told to register elsewhere, no new call is relayed, and those that run may
    /// go on for `patience`. Returns how many were cut off.
    pub async fn drain(self, patience: Duration) -> u64 {
        self.wind_down(patience).await
    }

    /// As [`Self::drain`], for a handle that somebody else looks at meanwhile. Its ports are free when that is dropped.
    pub async fn wind_down(&self, patience: Duration) -> u64 {
        self.supernode.drain();
        let over = async {
            while self.relayed() > 0 {
                self.runtime.sleep(DRAIN_POLL).await;
            }
        };
        let cut_off = match timeout(&*self.runtime, patience, over).await {
            Some(()) => 0,
            None => self.relayed(),
        };
        self.supernode.stop();
        for endpoint in &self.endpoints {
            endpoint.close(CloseCode::Draining, "the supernode stops");
            if timeout(&*self.runtime, CLOSE_PATIENCE, endpoint.wait_idle())
                .await
                .is_none()
            {
                tracing::debug!("some clients did not hear that the supernode stops");
            }
        }
        cut_off
    }

    fn relayed(&self) -> u64 {
        let relays = self.supernode.status().relays;
        relays.iter().map(|relay| relay.allocations_live).sum()
    }
}

async fn public_ips(runtime: &dyn Runtime, public: &PublicAddr) -> Result<Vec<IpAddr>, StartError> {
    match &public.host {
        Host::Ip(ip) => Ok(vec![*ip]),
        Host::Name(name) => match runtime.resolve(name, DEFAULT_PORT).await {
            Ok(addrs) => Ok(addrs.into_iter().map(|addr| addr.ip()).collect()),
            Err(error) => Err(StartError::PublicName {
                name: name.clone(),
                error,
            }),
        },
    }
}

fn bind(
    runtime: &Arc<dyn Runtime>,
    addr: SocketAddr,
    keys: &NodeKeys,
) -> Result<Endpoint, StartError> {
    let bind_to = |addr| {
        let config = EndpointConfig {
            reset_key: Some(key_file::reset_key(keys)),
            ..EndpointConfig::supernode(addr)
        };
        Endpoint::bind(Arc::clone(runtime), config)
    };
    let bound = bind_to(addr).or_else(|error| {
        // A system without IPv6: all its interfaces are IPv4 ones.
        if addr.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse {
            bind_to(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()))
                .map_err(|_same_reason| error)
        } else {
            Err(error)
        }
    });
    bound.map_err(|error| StartError::Bind { addr, error })
}

fn listen_tcp(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    config: &SupernodeConfig,
) -> Result<Vec<TunnelServer>, StartError> {
    let limits = config.tcp_limits.limits();
    let listen = |addr: &SocketAddr| {
        let mux = Arc::clone(endpoint.mux());
        let listening = TunnelServer::start(Arc::clone(runtime), mux, *addr, limits);
        let server = listening.map_err(|error| StartError::BindTcp { addr: *addr, error })?;
        tracing::info!(local = %server.local_addr(), "listening by TCP");
        Ok(server)
    };
    config.tcp.iter().map(listen).collect()
}

fn start_relay(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    settings: &RelaySettings,
    ips: &[IpAddr],
) -> Result<Arc<RelayServer>, StartError> {
    let relay = RelayConfig {
        switches: PolicySwitches {
            open_peers: settings.open_peers,
            allow_private: settings.allow_private,
        },
        limits: settings.limits.clone(),
        ..RelayConfig::new(&settings.realm, ips)
    };
    let mut server = RelayServerConfig {
        ports: settings.ports.range(),
        second_port: Some(settings.second_port),
        ..RelayServerConfig::new(relay)
    };
    match endpoint.local_addr().ip() {
        IpAddr::V4(v4) => server.bind_v4 = v4,
        IpAddr::V6(v6) => server.bind_v6 = v6,
    }
    let hub = PortHub::start(
        &**runtime,
        Arc::new(SharedPort::new(Arc::clone(endpoint.mux()))),
    );
    Ok(Arc::new(RelayServer::start(
        Arc::clone(runtime),
        &hub,
        server,
    )?))
}

/// Whether clients that reach `other` reach the relay at `relay` too: it is the same host address, or all of a
/// family's.
fn covers(relay: SocketAddr, other: SocketAddr) -> bool {
    match (relay.ip(), other.ip()) {
        (relay, other) if relay == other => true,
        (IpAddr::V4(relay), IpAddr::V4(_)) => relay.is_unspecified(),
        // An IPv6 wildcard takes IPv4 too, if the system lets it; then an IPv4 listener is a second port.
        (IpAddr::V6(relay), IpAddr::V6(_)) => relay.is_unspecified(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn reachable_at_port(server: Arc<RelayServer>, port: u16) -> ReachableRelay {
    ReachableRelay {
        server,
        addr: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        prover: None,
    }
}

/// The addresses that a relay behind `local` announces, at most one of each family counts: the public ones, and
/// for a family that has none the best one of this machine.
fn relayed_ips(public: &[IpAddr], local: IpAddr, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let mut ips = public.to_vec();
    ips.extend(reachable_ips(local, interfaces));
    ips
}

/// The addresses at which others reach a port bound to `local`, best first and never empty.
fn reachable_ips(local: IpAddr, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    if !local.is_unspecified() {
        return vec![local];
    }
    // An IPv6 wildcard takes IPv4 too.
    let usable = |ip: &&IpAddr| local.is_ipv6() || ip.is_ipv4();
    let mut ips: Vec<IpAddr> = interfaces.iter().filter(usable).copied().collect();
    if ips.iter().any(|ip| !ip.is_loopback()) {
        ips.retain(|ip| !ip.is_loopback());
    }
    if ips.is_empty() {
        ips.push(Ipv4Addr::LOCALHOST.into());
    }
    ips.sort_by_key(|ip| Reach::of(*ip));
    ips
}

/// From how far an address is reached; the farther the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// From everywhere, by IPv4 before IPv6: not everybody has that.
    Public,
    PublicV6,
    /// From the own network (RFC 1918, 4193, 6598).
    Private,
    PrivateV6,
    /// From this machine.
    Loopback,
}

impl Reach {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) if v4.is_private() || is_shared(v4) || v4.is_link_local() => {
                Self::Private
            }
            IpAddr::V4(_) => Self::Public,
            IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => Self::PrivateV6,
            IpAddr::V6(_) => Self::PublicV6,
        }
    }
}

/// RFC 6598: 100.64.0.0/10, between a carrier's NAT and its customers.
fn is_shared(v4: Ipv4Addr) -> bool {
    matches!(v4.octets(), [100, 64..=127, _, _])
}

#[cfg(test)]
mod tests;
