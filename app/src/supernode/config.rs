//! A supernode's settings: one TOML file, every entry optional.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
    str::FromStr,
};

use ahoy_nat::{
    discovery::dht::mainline::{DhtEntry, MainlineServerConfig},
    supernode::{
        registry::Limits,
        relay::{limits::RelayLimits, server::RELAY_PORTS},
    },
};
use ahoy_transport::{
    identity::{Host, HostError, NodeAddress},
    tunnel::server::TcpLimits,
};
use serde::{Deserialize, Serialize};

use super::watch::WatchAddr;
use crate::{
    link::{LinkError, NodeLink},
    network::PrivateNetwork,
};

/// Port that a supernode listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4433;

/// Settings of a supernode. Every limit has a default that survives a flood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupernodeConfig {
    /// Addresses to listen on, UDP. `[::]` takes IPv4 too; port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on for tunnels and for TURN over TCP. By convention the port is 443. Port 0 picks a free one.
    pub tcp: Vec<SocketAddr>,
    /// The TCP port that others reach, where that is not the one listened on.
    pub public_tcp: Option<u16>,
    /// How others reach this machine, where that is not the address of its interface: behind a 1:1 NAT, or
    /// under a name.
    pub public_addr: Option<PublicAddr>,
    /// Asks the router to let others in (PCP, NAT-PMP, UPnP), unless there is a public address or everything is on
    /// this machine. Where that works the rendezvous is reached from everywhere, and its relay by both ends of a
    /// call; other supernodes' relays do not reach it, since only one port is mapped.
    pub port_mapping: bool,
    /// What waits for devices that are off is written down, so that it is there after a restart; else it is in memory alone.
    pub keep_mail: bool,
    /// Whoever leaves a letter is told that it waits only when it is written down. Without that a crash costs what came in the
    /// second before it, which its sender leaves again only hours later.
    pub wait_for_disk: bool,
    /// Where its figures are shown by HTTP; nowhere unless a port is named. Whoever can reach it reads them.
    pub metrics: Option<WatchAddr>,
    /// Bounds on what strangers may take of TCP.
    pub tcp_limits: TcpSettings,
    /// The relay.
    pub relay: RelaySettings,
    /// The node of the DHT, if it is one.
    pub dht: DhtSettings,
    /// What it has to do with other supernodes.
    pub network: NetworkSettings,
    /// Bounds on what clients may take from the rendezvous.
    pub limits: Limits,
    /// The private network whose members it serves, and nobody else. Not in the file: it holds a secret.
    #[serde(skip)]
    pub private: Option<PrivateNetwork>,
}

impl Default for SupernodeConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(
                std::net::Ipv6Addr::UNSPECIFIED.into(),
                DEFAULT_PORT,
            )],
            tcp: Vec::new(),
            public_tcp: None,
            metrics: None,
            tcp_limits: TcpSettings::default(),
            public_addr: None,
            port_mapping: true,
            relay: RelaySettings::default(),
            dht: DhtSettings::default(),
            network: NetworkSettings::default(),
            keep_mail: true,
            wait_for_disk: true,
            limits: Limits::default(),
            private: None,
        }
    }
}

impl FromStr for SupernodeConfig {
    type Err = toml::de::Error;

    /// Reads a configuration file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        toml::from_str(text)
    }
}

/// Settings of a supernode's node of the DHT that people are found by. Off unless an address is named: it serves
/// everybody's programs, not ours alone, and there is no need of it where others do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DhtSettings {
    /// Where it listens, UDP and IPv4; by convention the port is 6881. Port 0 picks a free one.
    pub listen: Option<SocketAddrV4>,
    /// Where it enters, as in `host:port`. If nothing is named: the public network; or none, where it listens on an address
    /// of a private network, whose first node it then is.
    pub bootstrap: Vec<DhtEntry>,
}

impl DhtSettings {
    /// How the node serves; `None` without one. `public_ip`: the address that others see, where that is known.
    #[must_use]
    pub fn server(&self, public_ip: Option<Ipv4Addr>) -> Option<MainlineServerConfig> {
        let listen = self.listen?;
        let inside = listen.ip().is_loopback() || listen.ip().is_private();
        let entries = if self.bootstrap.is_empty() && !inside {
            DhtEntry::public()
        } else {
            self.bootstrap.clone()
        };
        Some(MainlineServerConfig {
            public_ip: public_ip.filter(|_| !inside),
            ..MainlineServerConfig::new(listen, entries)
        })
    }
}

/// Settings of a supernode among others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// Supernodes to begin with, by their links: `ahoy-node:KEY@HOST:PORT`.
    pub peers: Vec<Peer>,
    /// Tells others of itself, if it has an address that everybody reaches, so that people find it who know another one.
    pub announce: bool,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            announce: true,
        }
    }
}

/// Another supernode, as its link is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Peer(pub NodeAddress);

impl TryFrom<String> for Peer {
    type Error = LinkError;

    fn try_from(text: String) -> Result<Self, LinkError> {
        let NodeLink(address) = text.parse()?;
        Ok(Self(address))
    }
}

impl From<Peer> for String {
    fn from(Peer(address): Peer) -> Self {
        NodeLink(address).to_string()
    }
}

/// Bounds on TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpSettings {
    /// Connections at once.
    pub connections: usize,
    /// Of those, from one IPv4 address or one /64 of IPv6.
    pub per_source: usize,
}

impl Default for TcpSettings {
    fn default() -> Self {
        let limits = TcpLimits::default();
        Self {
            connections: limits.connections,
            per_source: limits.per_source,
        }
    }
}

impl TcpSettings {
    /// The same as the listener takes it.
    #[must_use]
    pub fn limits(self) -> TcpLimits {
        TcpLimits {
            connections: self.connections,
            per_source: self.per_source,
            ..TcpLimits::default()
        }
    }
}

/// Settings of a supernode's relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelaySettings {
    /// Whether it relays, and answers STUN.
    pub enabled: bool,
    /// The realm of its credentials (RFC 8489 section 9.2).
    pub realm: String,
    /// Ports of relayed addresses.
    pub ports: PortRange,
    /// The second port, UDP, by which clients find out how their NAT behaves; `0` lets the system choose. Where a
    /// firewall protects this machine, choose one and open it: without, clients learn less.
    pub second_port: u16,
    /// Relays towards the relays of other supernodes, once these have proved their keys. Without that, two people
    /// whose homes differ have only the direct way.
    pub other_relays: bool,
    /// Relays towards any address, for tests with other programs. On a public machine that makes an open proxy.
    pub open_peers: bool,
    /// Relays towards private and loopback addresses too, for labs on one machine or in one network.
    pub allow_private: bool,
    /// Bounds on what clients may take.
    pub limits: RelayLimits,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            realm: "ahoy".into(),
            ports: PortRange {
                first: *RELAY_PORTS.start(),
                last: *RELAY_PORTS.end(),
            },
            second_port: 0,
            other_relays: true,
            open_peers: false,
            allow_private: false,
            limits: RelayLimits::default(),
        }
    }
}

/// Ports, written `49152-65535`; `0` lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// What is written is no range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of ports: write it like 49152-65535, or 0 for any free port")]
pub struct ParsePortsError(String);

impl PortRange {
    /// The system chooses.
    pub const ANY: Self = Self { first: 0, last: 0 };

    /// First and last port.
    #[must_use]
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = ParsePortsError;

    fn from_str(text: &str) -> Result<Self, ParsePortsError> {
        if text == "0" {
            return Ok(Self::ANY);
        }
        let ports = text.split_once('-').and_then(|(first, last)| {
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (0 < first && first <= last).then_some(Self { first, last })
        });
        ports.ok_or_else(|| ParsePortsError(text.into()))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            f.write_str("0")
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = ParsePortsError;

    fn try_from(text: String) -> Result<Self, ParsePortsError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(ports: PortRange) -> Self {
        ports.to_string()
    }
}

/// An IP address or DNS name, with or without a port: `203.0.113.7`, `[2001:db8::1]:4433`, `node.example`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicAddr {
    /// The address or name.
    pub host: Host,
    /// The port where it differs from the one listened on.
    pub port: Option<u16>,
}

/// What is written is no public address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePublicAddrError {
    /// The host is none.
    #[error("the public address: {0}")]
    Host(#[from] HostError),
    /// The port is none.
    #[error("the public address: {0:?} is not a port: write a number from 1 to 65535")]
    Port(String),
}

impl FromStr for PublicAddr {
    type Err = ParsePublicAddrError;

    fn from_str(text: &str) -> Result<Self, ParsePublicAddrError> {
        // A bare IPv6 address is what people have in hand.
        if let Ok(ip) = text.parse() {
            let host = Host::Ip(ip);
            return Ok(Self { host, port: None });
        }
        match text.rsplit_once(':') {
            // In an IPv6 address without a port the last colon is inside the brackets.
            Some((host, port)) if !port.contains(']') => {
                let number = port.parse().ok().filter(|number| *number > 0);
                Ok(Self {
                    host: host.parse()?,
                    port: Some(number.ok_or_else(|| ParsePublicAddrError::Port(port.into()))?),
                })
            }
            Some(_) | None => Ok(Self {
                host: text.parse()?,
                port: None,
            }),
        }
    }
}

impl fmt::Display for PublicAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl TryFrom<String> for PublicAddr {
    type Error = ParsePublicAddrError;

    fn try_from(text: String) -> Result<Self, ParsePublicAddrError> {
        text.parse()
    }
}

impl From<PublicAddr> for String {
    fn from(addr: PublicAddr) -> Self {
        addr.to_string()
    }
}
