//! Whom a relayed address may talk to.
//!
//! A relay that forwards anywhere is a weapon. This one forwards towards
//! - relayed addresses on this relay, handed over in process;
//! - supernodes that proved their key there ([`PeerPolicy::allow_node`]), at unprivileged ports;
//! - exact addresses that the other party of a call registered ([`PeerPolicy::allow_address`]);
//!
//! and never towards loopback, private, link-local, multicast, tunnelled or metadata addresses. Two switches
//! loosen it: [`PolicySwitches::allow_private`] for labs and demos on one machine, and
//! [`PolicySwitches::open_peers`] for interoperability tests.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

/// Addresses in the policy at once: two relays for each of thousands of calls being set up.
pub const MAX_POLICY_ADDRESSES: usize = 16_384;

/// Exact ports per address: as many calls of one foreign relay as may be set up here at the same moment.
pub const MAX_PORTS_PER_ADDRESS: usize = 16;

/// Lowest port towards another supernode: relayed addresses are above it, system services below.
pub const LOWEST_PEER_PORT: u16 = 1024;

/// How far the rule is loosened. Both off unless a person turned them on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicySwitches {
    /// Any unicast peer, private ones included, without registration: interoperability tests only. On a
    /// public machine it makes an open proxy.
    pub open_peers: bool,
    /// Registered peers and supernodes may be at loopback, private and shared addresses (RFC 1918, 4193,
    /// 6598): labs and demos, where every node sits on one machine or one private network. Link-local,
    /// multicast and metadata addresses stay refused.
    pub allow_private: bool,
}

/// Why a peer is refused; the client learns only 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// 127.0.0.0/8, ::1.
    #[error("a loopback address")]
    Loopback,
    /// RFC 1918, 4193 and 6598.
    #[error("a private address")]
    Private,
    /// 169.254.0.0/16, fe80::/10.
    #[error("a link-local address")]
    LinkLocal,
    /// Multicast and broadcast.
    #[error("a multicast or broadcast address")]
    Multicast,
    /// The address of a cloud provider's metadata or host service.
    #[error("a metadata service")]
    Metadata,
    /// Unspecified, reserved, or an IPv4 address inside an IPv6 tunnel prefix.
    #[error("a reserved or tunnelled address")]
    Reserved,
    /// An ordinary address that nobody vouched for.
    #[error("an address that no proof and no other party names")]
    NotRegistered,
}

/// Which ports of one address a permission covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Live allocations of this relay, whatever their port.
    pub(super) local: bool,
    any_port_from: Option<u16>,
    ports: Vec<u16>,
}

impl Scope {
    /// Whether packets may leave to, or come in from, `port` outside this process.
    pub(super) fn admits(&self, port: u16) -> bool {
        self.any_port_from.is_some_and(|lowest| port >= lowest) || self.ports.contains(&port)
    }
}

#[derive(Debug, Default)]
struct Entry {
    node_until: Option<Instant>,
    ports: Vec<(u16, Instant)>,
}

impl Entry {
    fn sweep(&mut self, now: Instant) {
        self.node_until = self.node_until.filter(|until| *until > now);
        self.ports.retain(|(_, until)| *until > now);
    }

    fn is_empty(&self) -> bool {
        self.node_until.is_none() && self.ports.is_empty()
    }
}

/// The allow-list that the supernode's other half feeds. It is bounded; whoever feeds it from strangers'
/// requests meters them first.
#[derive(Debug)]
pub struct PeerPolicy {
    switches: PolicySwitches,
    entries: HashMap<IpAddr, Entry>,
    max: usize,
}

impl PeerPolicy {
    pub(super) fn new(switches: PolicySwitches) -> Self {
        Self {
            switches,
            entries: HashMap::new(),
            max: MAX_POLICY_ADDRESSES,
        }
    }

    /// Allows any unprivileged port of a supernode that proved its key there, until `until`. Returns
    /// false when the list is full.
    pub fn allow_node(&mut self, now: Instant, ip: IpAddr, until: Instant) -> bool {
        let Some(entry) = self.entry(now, ip) else {
            return false;
        };
        entry.node_until = entry.node_until.max(Some(until));
        true
    }

    /// Allows one address that the other party of a call registered as its own relayed address, until
    /// `until`. Returns false when the list is full.
    pub fn allow_address(&mut self, now: Instant, addr: SocketAddr, until: Instant) -> bool {
        let Some(entry) = self.entry(now, addr.ip()) else {
            return false;
        };
        if let Some((_, known)) = entry
            .ports
            .iter_mut()
            .find(|(port, _)| *port == addr.port())
        {
            *known = until.max(*known);
            return true;
        }
        entry.sweep(now);
        if entry.ports.len() >= MAX_PORTS_PER_ADDRESS {
            return false;
        }
        entry.ports.push((addr.port(), until));
        true
    }

    /// Whether this address could be allowed at all.
    ///
    /// # Errors
    /// Why nobody can vouch for it.
    pub fn may_allow(&self, ip: IpAddr) -> Result<(), PeerRefusal> {
        match refused_by_nature(ip.to_canonical()) {
            Some(refusal) if !is_reachable(ip, self.switches.allow_private) => Err(refusal),
            Some(_) | None => Ok(()),
        }
    }

    /// Addresses on the list, expired ones that were not swept yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, now: Instant, ip: IpAddr) -> Option<&mut Entry> {
        let ip = ip.to_canonical();
        if self.entries.len() >= self.max && !self.entries.contains_key(&ip) {
            self.entries.retain(|_, entry| {
                entry.sweep(now);
                !entry.is_empty()
            });
            if self.entries.len() >= self.max {
                return None;
            }
        }
        Some(self.entries.entry(ip).or_default())
    }

    /// What a permission for `ip` covers. `is_own` says that relayed addresses of this relay have this IP.
    pub(super) fn judge(
        &self,
        now: Instant,
        ip: IpAddr,
        is_own: bool,
    ) -> Result<Scope, PeerRefusal> {
        let ip = ip.to_canonical();
        let outside = self.judge_outside(now, ip);
        match outside {
            Ok(scope) => Ok(Scope {
                local: is_own,
                ..scope
            }),
            Err(_) if is_own => Ok(Scope {
                local: true,
                ..Scope::default()
            }),
            Err(refusal) => Err(refusal),
        }
    }

    fn judge_outside(&self, now: Instant, ip: IpAddr) -> Result<Scope, PeerRefusal> {
        let nature = refused_by_nature(ip);
        if self.switches.open_peers {
            return match nature {
                // A relay to a group or to nowhere tests nothing.
                Some(refusal @ (PeerRefusal::Multicast | PeerRefusal::Reserved)) => Err(refusal),
                Some(
                    PeerRefusal::Loopback
                    | PeerRefusal::Private
                    | PeerRefusal::LinkLocal
                    | PeerRefusal::Metadata
                    | PeerRefusal::NotRegistered,
                )
                | None => Ok(Scope {
                    local: false,
                    any_port_from: Some(0),
                    ports: Vec::new(),
                }),
            };
        }
        self.may_allow(ip)?;
        let entry = self.entries.get(&ip).ok_or(PeerRefusal::NotRegistered)?;
        let scope = Scope {
            local: false,
            any_port_from: entry
                .node_until
                .filter(|until| *until > now)
                .map(|_| LOWEST_PEER_PORT),
            ports: entry
                .ports
                .iter()
                .filter(|(_, until)| *until > now)
                .map(|(port, _)| *port)
                .collect(),
        };
        if scope == Scope::default() {
            Err(PeerRefusal::NotRegistered)
        } else {
            Ok(scope)
        }
    }
}

/// Metadata and host services that do not sit in a link-local range: Alibaba, Oracle, Azure; AWS over IPv6.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// Whether supernodes talk to a node at this address, which anybody may have named. `allow_private`: in a private network, or
/// on one machine.
#[must_use]
pub fn is_reachable(ip: IpAddr, allow_private: bool) -> bool {
    match refused_by_nature(ip.to_canonical()) {
        Some(PeerRefusal::Loopback | PeerRefusal::Private) => allow_private,
        refusal => refusal.is_none(),
    }
}

fn refused_by_nature(ip: IpAddr) -> Option<PeerRefusal> {
    match ip {
        IpAddr::V4(v4) => refused_v4(v4),
        IpAddr::V6(v6) => refused_v6(v6),
    }
}

fn refused_v4(ip: Ipv4Addr) -> Option<PeerRefusal> {
    let [a, b, c, _] = ip.octets();
    if METADATA_V4.contains(&ip) || ip == Ipv4Addr::new(169, 254, 169, 254) {
        Some(PeerRefusal::Metadata)
    } else if ip.is_loopback() {
        Some(PeerRefusal::Loopback)
    } else if ip.is_private() || (a == 100 && b & 0xc0 == 64) {
        Some(PeerRefusal::Private)
    } else if ip.is_link_local() {
        Some(PeerRefusal::LinkLocal)
    } else if ip.is_multicast() || ip.is_broadcast() {
        Some(PeerRefusal::Multicast)
    } else if a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99) {
        Some(PeerRefusal::Reserved)
    } else {
        None
    }
}

fn refused_v6(ip: Ipv6Addr) -> Option<PeerRefusal> {
    let [a, b, ..] = ip.segments();
    if ip == METADATA_V6 {
        Some(PeerRefusal::Metadata)
    } else if ip.is_loopback() {
        Some(PeerRefusal::Loopback)
    } else if ip.is_unique_local() {
        Some(PeerRefusal::Private)
    } else if ip.is_unicast_link_local() || a & 0xffc0 == 0xfec0 {
        Some(PeerRefusal::LinkLocal)
    } else if ip.is_multicast() {
        Some(PeerRefusal::Multicast)
    } else if ip.is_unspecified()
        // IPv4-compatible, NAT64 (RFC 6052, 8215), 6to4, Teredo: an IPv4 address of any kind hides inside.
        || a == 0
        || (a == 0x0064 && b == 0xff9b)
        || a == 0x2002
        || (a == 0x2001 && b == 0)
    {
        Some(PeerRefusal::Reserved)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn origin() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// One address of each kind, with its refusal.
    const REFUSED: [(&str, PeerRefusal); 22] = [
        ("127.0.0.1", PeerRefusal::Loopback),
        ("::1", PeerRefusal::Loopback),
        ("::ffff:127.0.0.1", PeerRefusal::Loopback),
        ("10.1.2.3", PeerRefusal::Private),
        ("172.16.0.1", PeerRefusal::Private),
        ("192.168.1.1", PeerRefusal::Private),
        ("100.64.0.1", PeerRefusal::Private),
        ("fd12::1", PeerRefusal::Private),
        ("169.254.1.1", PeerRefusal::LinkLocal),
        ("fe80::1", PeerRefusal::LinkLocal),
        ("224.0.0.251", PeerRefusal::Multicast),
        ("255.255.255.255", PeerRefusal::Multicast),
        ("ff02::fb", PeerRefusal::Multicast),
        ("169.254.169.254", PeerRefusal::Metadata),
        ("168.63.129.16", PeerRefusal::Metadata),
        ("100.100.100.200", PeerRefusal::Metadata),
        ("fd00:ec2::254", PeerRefusal::Metadata),
        ("0.0.0.0", PeerRefusal::Reserved),
        ("240.0.0.1", PeerRefusal::Reserved),
        ("64:ff9b::7f00:1", PeerRefusal::Reserved),
        ("2002:7f00:1::1", PeerRefusal::Reserved),
        ("8.8.8.8", PeerRefusal::NotRegistered),
    ];

    #[test]
    fn every_kind_of_address_is_refused_for_its_own_reason_even_when_registered() {
        let now = origin();
        let until = now + Duration::from_secs(60);
        let mut policy = PeerPolicy::new(PolicySwitches::default());
        for (text, refusal) in REFUSED {
            assert_eq!(policy.judge(now, ip(text), false), Err(refusal), "{text}");
            if refusal != PeerRefusal::NotRegistered {
                assert!(policy.allow_node(now, ip(text), until));
                assert_eq!(
                    policy.judge(now, ip(text), false),
                    Err(refusal),
                    "{text} registered"
                );
            }
        }
    }

    #[test]
    fn allow_private_opens_registered_private_addresses_and_nothing_else() {
        let now = origin();
        let until = now + Duration::from_secs(60);
        let mut policy = PeerPolicy::new(PolicySwitches {
            allow_private: true,
            open_peers: false,
        });
        for (text, refusal) in REFUSED {
            let opened = matches!(refusal, PeerRefusal::Loopback | PeerRefusal::Private);
            let unregistered = if opened {
                PeerRefusal::NotRegistered
            } else {
                refusal
            };
            assert_eq!(
                policy.judge(now, ip(text), false),
                Err(unregistered),
                "{text}"
            );
        }
        for (text, refusal) in REFUSED {
            assert!(policy.allow_node(now, ip(text), until));
            let opened = matches!(
                refusal,
                PeerRefusal::Loopback | PeerRefusal::Private | PeerRefusal::NotRegistered
            );
            assert_eq!(policy.judge(now, ip(text), false).is_ok(), opened, "{text}");
        }
    }

    #[test]
    fn open_peers_opens_every_unicast_address() {
        let policy = PeerPolicy::new(PolicySwitches {
            allow_private: false,
            open_peers: true,
        });
        for (text, refusal) in REFUSED {
            let closed = matches!(refusal, PeerRefusal::Multicast | PeerRefusal::Reserved);
            assert_eq!(
                policy.judge(origin(), ip(text), false).is_err(),
                closed,
                "{text}"
            );
        }
    }

    #[test]
    fn a_registered_address_opens_its_port_and_a_node_its_unprivileged_ports_until_they_expire() {
        let now = origin();
        let until = now + Duration::from_secs(60);
        let mut policy = PeerPolicy::new(PolicySwitches::default());
        assert!(policy.allow_address(now, "8.8.8.8:5000".parse().unwrap(), until));
        let scope = policy.judge(now, ip("8.8.8.8"), false).unwrap();
        assert!(scope.admits(5000) && !scope.admits(5001) && !scope.local);
        assert!(policy.allow_node(now, ip("9.9.9.9"), until));
        let scope = policy.judge(now, ip("9.9.9.9"), false).unwrap();
        assert!(scope.admits(1024) && scope.admits(65_535) && !scope.admits(53));
        for text in ["8.8.8.8", "9.9.9.9"] {
            assert_eq!(
                policy.judge(until, ip(text), false),
                Err(PeerRefusal::NotRegistered)
            );
        }
    }

    #[test]
    fn own_addresses_are_allowed_in_process_only() {
        let policy = PeerPolicy::new(PolicySwitches::default());
        for text in ["127.0.0.1", "8.8.8.8"] {
            let scope = policy.judge(origin(), ip(text), true).unwrap();
            assert!(scope.local && !scope.admits(5000));
        }
    }

    #[test]
    fn the_list_is_bounded_and_expired_entries_give_way() {
        let now = origin();
        let until = now + Duration::from_secs(60);
        let mut policy = PeerPolicy::new(PolicySwitches::default());
        policy.max = 4;
        for n in 0..4 {
            assert!(policy.allow_node(now, [8, 8, 8, n].into(), until));
        }
        assert!(!policy.allow_node(now, [8, 8, 8, 9].into(), until));
        assert!(policy.allow_node(until, [8, 8, 8, 9].into(), until + Duration::from_secs(1)));
        assert_eq!(policy.len(), 1);
        let later = until + Duration::from_secs(1);
        for port in 0..MAX_PORTS_PER_ADDRESS {
            let addr = SocketAddr::new([8, 8, 8, 9].into(), 2000 + u16::try_from(port).unwrap());
            assert!(policy.allow_address(until, addr, later));
        }
        assert!(!policy.allow_address(until, "8.8.8.9:1999".parse().unwrap(), later));
        assert!(policy.allow_address(later, "8.8.8.9:1999".parse().unwrap(), later));
    }
}
