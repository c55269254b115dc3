//! Address translators: what a home router or a carrier does to UDP, in the terms of RFC 4787.
//!
//! This core knows addresses and times only. The network shows it every packet that leaves the inside or
//! comes to one of the outside addresses, and it answers with the rewritten address or with a refusal. IPv6
//! is not translated; it passes a stateful firewall with the same filtering (RFC 6092 section 3.2.3).

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

/// How long an unused binding lives (RFC 4787 REQ-5 demands two minutes at least).
pub const DEFAULT_BINDING_TIMEOUT: Duration = Duration::from_secs(120);
/// Bindings of a large home router. A carrier gives each customer far fewer.
pub const DEFAULT_MAX_BINDINGS: usize = 16_384;

/// Ports below are not given out (RFC 4787 REQ-3 allows to keep off the well-known ones).
const FIRST_PORT: u16 = 1024;

/// An address translator in the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimNat(pub(super) u32);

impl SimNat {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a mapping or a filter depends on (RFC 4787 sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependence {
    /// Endpoint-independent: one for all remote endpoints.
    Endpoint,
    /// Address-dependent: one for each remote address.
    Address,
    /// Address-and-port-dependent: one for each remote address and port.
    AddressAndPort,
}

impl Dependence {
    /// The part of a remote endpoint that matters.
    fn key(self, remote: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Endpoint => None,
            Self::Address => Some(SocketAddr::new(remote.ip(), 0)),
            Self::AddressAndPort => Some(remote),
        }
    }
}

/// How a translator picks the outside port of a new mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortAllocation {
    /// The inside port; the next free one if somebody else has it.
    Preserving,
    /// One after the other, whatever the inside port is.
    Sequential,
    /// Any of 1024 to 65535.
    Random,
}

/// How a translator behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatConfig {
    /// Which packets of one inside endpoint share an outside port.
    pub mapping: Dependence,
    /// Which remote endpoints may answer; also for IPv6.
    pub filtering: Dependence,
    /// Which outside port a new mapping has.
    pub ports: PortAllocation,
    /// Whether the inside reaches itself by outside addresses; the source is then an outside address too
    /// (RFC 4787 REQ-9).
    pub hairpin: bool,
    /// How long a mapping or permission lives after the last packet that refreshes it.
    pub binding_timeout: Duration,
    /// Whether packets from outside refresh, as they may (RFC 4787 section 4.3). Packets from inside always do.
    pub inbound_refresh: bool,
    /// Whether no UDP passes at all, in either direction.
    pub udp_blocked: bool,
    /// Mappings at one time; a packet that needs another one is dropped.
    pub max_bindings: usize,
}

impl NatConfig {
    /// The given dependences, with ports preserved, no hairpin and a timeout of two minutes.
    #[must_use]
    pub fn new(mapping: Dependence, filtering: Dependence) -> Self {
        Self {
            mapping,
            filtering,
            ports: PortAllocation::Preserving,
            hairpin: false,
            binding_timeout: DEFAULT_BINDING_TIMEOUT,
            inbound_refresh: false,
            udp_blocked: false,
            max_bindings: DEFAULT_MAX_BINDINGS,
        }
    }

    /// The home router that most people have: endpoint-independent mapping, address-and-port-dependent filtering.
    #[must_use]
    pub fn home() -> Self {
        Self::new(Dependence::Endpoint, Dependence::AddressAndPort)
    }

    /// A mapping of its own at a random port for each remote endpoint: no port can be told in advance.
    #[must_use]
    pub fn hard() -> Self {
        Self {
            ports: PortAllocation::Random,
            ..Self::new(Dependence::AddressAndPort, Dependence::AddressAndPort)
        }
    }
}

/// Ways to be connected that people know under one name; the same names as in the namespace lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// A public address.
    None,
    /// Endpoint-independent mapping and filtering.
    Full,
    /// Endpoint-independent mapping, address-dependent filtering.
    Addr,
    /// Endpoint-independent mapping, address-and-port-dependent filtering.
    Port,
    /// Mapping and filtering depend on address and port; ports are random.
    Symmetric,
    /// `Port` behind another `Port` of the carrier.
    Cgnat,
    /// `Port` behind a `Symmetric` of the carrier.
    CgnatSym,
    /// No UDP passes.
    UdpBlocked,
}

impl NatKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Full,
        Self::Addr,
        Self::Port,
        Self::Symmetric,
        Self::Cgnat,
        Self::CgnatSym,
        Self::UdpBlocked,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Addr => "addr",
            Self::Port => "port",
            Self::Symmetric => "symmetric",
            Self::Cgnat => "cgnat",
            Self::CgnatSym => "cgnat-sym",
            Self::UdpBlocked => "udpblocked",
        }
    }

    /// The translators between a device and the internet, the device's own router first.
    #[must_use]
    pub fn chain(self) -> Vec<NatConfig> {
        match self {
            Self::None => Vec::new(),
            Self::Full => vec![NatConfig::new(Dependence::Endpoint, Dependence::Endpoint)],
            Self::Addr => vec![NatConfig::new(Dependence::Endpoint, Dependence::Address)],
            Self::Port => vec![NatConfig::home()],
            Self::Symmetric => vec![NatConfig::hard()],
            Self::Cgnat => vec![NatConfig::home(), NatConfig::home()],
            Self::CgnatSym => vec![NatConfig::home(), NatConfig::hard()],
            Self::UdpBlocked => vec![NatConfig {
                udp_blocked: true,
                ..NatConfig::home()
            }],
        }
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NatKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is no kind of NAT: expected one of {names}")
        })
    }
}

/// Counters of one translator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NatStats {
    /// Mappings made since the world began: the flows a router had to remember.
    pub mappings_created: u64,
    /// Mappings that live now.
    pub mappings: usize,
    /// Most mappings at one time. Expired ones count until their place is wanted.
    pub mappings_peak: usize,
    /// Packets that passed from the inside.
    pub packets_out: u64,
    /// Packets that passed to the inside.
    pub packets_in: u64,
    /// Packets that did not pass.
    pub refused: u64,
}

/// Why a translator did not let a packet pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// No UDP passes.
    UdpBlocked,
    /// There is no mapping, or none any more.
    NoMapping,
    /// The remote endpoint may not answer.
    Filtered,
    /// From the inside to an outside address.
    Hairpin,
    /// No room, or no port.
    Full,
    /// The router is off.
    Down,
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    /// The remote endpoints it is for, as far as they matter.
    towards: Option<SocketAddr>,
    expires: Duration,
    /// Who may answer, and until when. Unused with endpoint-independent filtering.
    permitted: BTreeMap<SocketAddr, Duration>,
    /// Set by hand or by a port mapping protocol: open to all, and it does not expire.
    forwarded: bool,
}

/// The state of one translator.
#[derive(Debug)]
pub(super) struct Nat {
    pub(super) name: String,
    config: NatConfig,
    external: Vec<IpAddr>,
    rng: ChaCha20Rng,
    up: bool,
    /// By outside endpoint.
    mappings: BTreeMap<SocketAddr, Mapping>,
    /// Outside endpoints, by what a packet from inside shows.
    by_inside: BTreeMap<(SocketAddr, Option<SocketAddr>), SocketAddr>,
    /// IPv6 flows from inside: own endpoint, what matters of the remote one, and until when.
    flows: BTreeMap<(SocketAddr, Option<SocketAddr>), Duration>,
    next_port: u16,
    stats: NatStats,
}

impl Nat {
    pub(super) fn new(
        name: &str,
        config: NatConfig,
        external: Vec<IpAddr>,
        rng: ChaCha20Rng,
    ) -> Self {
        Self {
            name: name.to_owned(),
            config,
            external,
            rng,
            up: true,
            mappings: BTreeMap::new(),
            by_inside: BTreeMap::new(),
            flows: BTreeMap::new(),
            next_port: FIRST_PORT,
            stats: NatStats::default(),
        }
    }

    pub(super) fn config(&self) -> &NatConfig {
        &self.config
    }

    /// Other behaviour from now on. Mappings stay, as they do when an administrator changes a rule.
    pub(super) fn set_config(&mut self, config: NatConfig) {
        self.config = config;
    }

    /// Other outside addresses: mappings at the old ones are of no use to anybody.
    pub(super) fn set_external(&mut self, external: Vec<IpAddr>) {
        self.external = external;
        self.forget();
    }

    /// Switches the router off or on. Off, it forgets all but what was forwarded by hand.
    pub(super) fn set_up(&mut self, up: bool) {
        self.up = up;
        if !up {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let external = &self.external;
        self.mappings
            .retain(|outside, mapping| mapping.forwarded && external.contains(&outside.ip()));
        let mappings = &self.mappings;
        self.by_inside
            .retain(|_, outside| mappings.contains_key(outside));
        self.flows.clear();
    }

    pub(super) fn stats(&self, now: Duration) -> NatStats {
        let alive = |mapping: &&Mapping| mapping.expires > now;
        NatStats {
            mappings: self.mappings.values().filter(alive).count(),
            ..self.stats
        }
    }

    /// The outside endpoint under which `remote` sees `inside` now, if there is one.
    pub(super) fn mapped(
        &self,
        now: Duration,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        let outside = self.lookup(inside, remote)?;
        (self.mappings.get(&outside)?.expires > now).then_some(outside)
    }

    fn lookup(&self, inside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        // What was forwarded by hand is for all remotes.
        [None, self.config.mapping.key(remote)]
            .into_iter()
            .find_map(|towards| self.by_inside.get(&(inside, towards)))
            .copied()
    }

    /// Forwards an outside port to `inside`, open to everybody and for ever; the same port unless it is taken.
    pub(super) fn forward(
        &mut self,
        now: Duration,
        inside: SocketAddr,
        port: u16,
    ) -> Option<SocketAddr> {
        let outside = SocketAddr::new(*self.external.first()?, port);
        if self.is_taken(now, outside) {
            return None;
        }
        if let Some(old) = self.by_inside.insert((inside, None), outside) {
            self.mappings.remove(&old);
        }
        let mapping = Mapping {
            inside,
            towards: None,
            expires: Duration::MAX,
            permitted: BTreeMap::new(),
            forwarded: true,
        };
        self.insert(outside, mapping);
        Some(outside)
    }

    /// A packet leaves. Returns its outside source.
    pub(super) fn outbound(
        &mut self,
        now: Duration,
        src: SocketAddr,
        dst: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        let result = self.try_outbound(now, src, dst);
        match result {
            Ok(_) => self.stats.packets_out += 1,
            Err(_) => self.stats.refused += 1,
        }
        result
    }

    fn try_outbound(
        &mut self,
        now: Duration,
        src: SocketAddr,
        dst: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        self.passes()?;
        let expires = now.saturating_add(self.config.binding_timeout);
        let permission = self.config.filtering.key(dst);
        if src.is_ipv6() {
            if self.flows.len() >= self.config.max_bindings {
                self.flows.retain(|_, expires| *expires > now);
                if self.flows.len() >= self.config.max_bindings {
                    return Err(Refused::Full);
                }
            }
            self.flows.insert((src, permission), expires);
            return Ok(src);
        }
        let known = self.lookup(src, dst).filter(|outside| {
            self.mappings
                .get(outside)
                .is_some_and(|mapping| mapping.expires > now)
        });
        let outside = match known {
            Some(outside) => outside,
            None => self.allocate(now, src, dst)?,
        };
        if let Some(mapping) = self.mappings.get_mut(&outside) {
            mapping.expires = mapping.expires.max(expires);
            if let Some(permission) = permission {
                mapping.permitted.insert(permission, expires);
            }
        }
        Ok(outside)
    }

    fn allocate(
        &mut self,
        now: Duration,
        src: SocketAddr,
        dst: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        if self.mappings.len() >= self.config.max_bindings {
            self.purge(now);
            if self.mappings.len() >= self.config.max_bindings {
                return Err(Refused::Full);
            }
        }
        // One outside address for one inside host (RFC 4787 REQ-2: paired pooling).
        let ip = self.paired(src.ip()).ok_or(Refused::Full)?;
        let first = match self.config.ports {
            PortAllocation::Preserving => src.port().max(FIRST_PORT),
            PortAllocation::Sequential => self.next_port,
            PortAllocation::Random => {
                let span = u32::from(u16::MAX - FIRST_PORT) + 1;
                let drawn = self.rng.next_u32() % span;
                FIRST_PORT + u16::try_from(drawn).unwrap_or(0)
            }
        };
        let outside = (first..=u16::MAX)
            .chain(FIRST_PORT..first)
            .map(|port| SocketAddr::new(ip, port))
            .find(|outside| !self.is_taken(now, *outside))
            .ok_or(Refused::Full)?;
        self.next_port = outside.port().checked_add(1).unwrap_or(FIRST_PORT);
        let towards = self.config.mapping.key(dst);
        // An expired mapping may still stand in the way.
        if let Some(old) = self.by_inside.insert((src, towards), outside) {
            self.mappings.remove(&old);
        }
        let mapping = Mapping {
            inside: src,
            towards,
            expires: now,
            permitted: BTreeMap::new(),
            forwarded: false,
        };
        self.insert(outside, mapping);
        Ok(outside)
    }

    fn insert(&mut self, outside: SocketAddr, mapping: Mapping) {
        if let Some(old) = self.mappings.insert(outside, mapping) {
            let key = (old.inside, old.towards);
            if self.by_inside.get(&key) == Some(&outside)
                && self
                    .mappings
                    .get(&outside)
                    .is_none_or(|new| (new.inside, new.towards) != key)
            {
                self.by_inside.remove(&key);
            }
        }
        self.stats.mappings_created += 1;
        self.stats.mappings_peak = self.stats.mappings_peak.max(self.mappings.len());
    }

    fn is_taken(&self, now: Duration, outside: SocketAddr) -> bool {
        self.mappings
            .get(&outside)
            .is_some_and(|mapping| mapping.expires > now)
    }

    fn purge(&mut self, now: Duration) {
        self.mappings.retain(|_, mapping| mapping.expires > now);
        let mappings = &self.mappings;
        self.by_inside
            .retain(|_, outside| mappings.contains_key(outside));
    }

    fn paired(&self, inside: IpAddr) -> Option<IpAddr> {
        let last = match inside {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        };
        let place = usize::from(last) % self.external.len().max(1);
        self.external.get(place).copied()
    }

    /// A packet has come to an outside address. Returns its inside destination.
    pub(super) fn inbound(
        &mut self,
        now: Duration,
        src: SocketAddr,
        dst: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        let result = self.try_inbound(now, src, dst);
        match result {
            Ok(_) => self.stats.packets_in += 1,
            Err(_) => self.stats.refused += 1,
        }
        result
    }

    fn try_inbound(
        &mut self,
        now: Duration,
        src: SocketAddr,
        dst: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        self.passes()?;
        let permission = self.config.filtering.key(src);
        let expires = now.saturating_add(self.config.binding_timeout);
        if dst.is_ipv6() {
            let flow = self.flows.get_mut(&(dst, permission));
            let until = flow
                .filter(|until| **until > now)
                .ok_or(Refused::Filtered)?;
            if self.config.inbound_refresh {
                *until = expires;
            }
            return Ok(dst);
        }
        let mapping = self
            .mappings
            .get_mut(&dst)
            .filter(|mapping| mapping.expires > now)
            .ok_or(Refused::NoMapping)?;
        if let Some(permission) = permission.filter(|_| !mapping.forwarded) {
            let until = mapping
                .permitted
                .get_mut(&permission)
                .filter(|until| **until > now)
                .ok_or(Refused::Filtered)?;
            if self.config.inbound_refresh {
                *until = expires;
            }
        }
        if self.config.inbound_refresh {
            mapping.expires = mapping.expires.max(expires);
        }
        Ok(mapping.inside)
    }

    /// Whether a packet from the inside may come back in.
    pub(super) fn turns_around(&mut self) -> Result<(), Refused> {
        if self.config.hairpin {
            Ok(())
        } else {
            self.stats.refused += 1;
            Err(Refused::Hairpin)
        }
    }

    fn passes(&self) -> Result<(), Refused> {
        if !self.up {
            Err(Refused::Down)
        } else if self.config.udp_blocked {
            Err(Refused::UdpBlocked)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    const A: &str = "192.168.1.2:5000";
    const B: &str = "192.168.1.3:5000";
    const X: &str = "203.0.113.1:80";
    const X2: &str = "203.0.113.1:81";
    const Y: &str = "203.0.113.2:80";
    const SECOND: Duration = Duration::from_secs(1);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nat(config: NatConfig) -> Nat {
        let external = vec!["198.51.100.1".parse().unwrap()];
        Nat::new("router", config, external, ChaCha20Rng::from_seed([7; 32]))
    }

    fn out(nat: &mut Nat, src: &str, dst: &str) -> SocketAddr {
        nat.outbound(SECOND, at(src), at(dst)).unwrap()
    }

    #[test]
    fn mappings_depend_on_what_the_configuration_says() {
        let same = |mapping: Dependence| {
            let mut nat = nat(NatConfig::new(mapping, Dependence::Endpoint));
            let first = out(&mut nat, A, X);
            assert_eq!(first, out(&mut nat, A, X));
            (first == out(&mut nat, A, X2), first == out(&mut nat, A, Y))
        };
        assert_eq!(same(Dependence::Endpoint), (true, true));
        assert_eq!(same(Dependence::Address), (true, false));
        assert_eq!(same(Dependence::AddressAndPort), (false, false));
    }

    #[test]
    fn filters_let_in_whom_the_configuration_says() {
        let passes = |filtering: Dependence| {
            let mut nat = nat(NatConfig::new(Dependence::Endpoint, filtering));
            let outside = out(&mut nat, A, X);
            [X, X2, Y].map(|from| nat.inbound(SECOND, at(from), outside).is_ok())
        };
        assert_eq!(passes(Dependence::Endpoint), [true, true, true]);
        assert_eq!(passes(Dependence::Address), [true, true, false]);
        assert_eq!(passes(Dependence::AddressAndPort), [true, false, false]);
    }

    #[test]
    fn what_comes_in_goes_to_whom_the_mapping_is_of() {
        let mut nat = nat(NatConfig::home());
        let [a, b] = [A, B].map(|inside| out(&mut nat, inside, X));
        assert_ne!(a, b);
        assert_eq!(nat.inbound(SECOND, at(X), a), Ok(at(A)));
        assert_eq!(nat.inbound(SECOND, at(X), b), Ok(at(B)));
        let nobody = at("198.51.100.1:9");
        assert_eq!(nat.inbound(SECOND, at(X), nobody), Err(Refused::NoMapping));
        let stats = nat.stats(SECOND);
        assert_eq!((stats.mappings, stats.mappings_created), (2, 2));
        assert_eq!(
            (stats.packets_out, stats.packets_in, stats.refused),
            (2, 2, 1)
        );
    }

    #[test]
    fn ports_are_kept_counted_or_drawn() {
        let ports = |ports: PortAllocation| {
            let mut nat = nat(NatConfig {
                ports,
                ..NatConfig::hard()
            });
            [X, X2, Y].map(|remote| out(&mut nat, A, remote).port())
        };
        assert_eq!(ports(PortAllocation::Preserving), [5000, 5001, 5002]);
        assert_eq!(ports(PortAllocation::Sequential), [1024, 1025, 1026]);
        let drawn = ports(PortAllocation::Random);
        assert!(
            drawn[0].abs_diff(drawn[1]) > 1 && drawn[1].abs_diff(drawn[2]) > 1,
            "{drawn:?}"
        );
        assert_eq!(drawn, ports(PortAllocation::Random));
    }

    #[test]
    fn a_binding_lives_as_long_as_it_is_used_from_inside() {
        let mut nat = nat(NatConfig {
            binding_timeout: 30 * SECOND,
            ..NatConfig::home()
        });
        let outside = nat.outbound(SECOND, at(A), at(X)).unwrap();
        assert!(nat.inbound(25 * SECOND, at(X), outside).is_ok());
        // Answers do not refresh here.
        assert_eq!(
            nat.inbound(31 * SECOND, at(X), outside),
            Err(Refused::NoMapping)
        );
        nat.outbound(40 * SECOND, at(A), at(X)).unwrap();
        nat.outbound(60 * SECOND, at(A), at(X)).unwrap();
        assert!(nat.inbound(85 * SECOND, at(X), outside).is_ok());

        // A permission expires by itself, too.
        nat.outbound(85 * SECOND, at(A), at(Y)).unwrap();
        assert_eq!(
            nat.inbound(95 * SECOND, at(X), outside),
            Err(Refused::Filtered)
        );

        nat.set_config(NatConfig {
            inbound_refresh: true,
            ..nat.config().clone()
        });
        assert!(nat.inbound(110 * SECOND, at(Y), outside).is_ok());
        assert!(nat.inbound(139 * SECOND, at(Y), outside).is_ok());
    }

    #[test]
    fn a_reboot_forgets_all_but_what_was_forwarded() {
        let mut nat = nat(NatConfig::home());
        let outside = out(&mut nat, A, X);
        let open = nat.forward(SECOND, at(B), 4433).unwrap();
        assert_eq!(nat.forward(SECOND, at(A), 4433), None);
        nat.set_up(false);
        assert_eq!(nat.outbound(SECOND, at(A), at(X)), Err(Refused::Down));
        nat.set_up(true);
        assert_eq!(nat.inbound(SECOND, at(X), outside), Err(Refused::NoMapping));
        assert_eq!(nat.inbound(SECOND, at(Y), open), Ok(at(B)));
        assert_eq!(nat.mapped(SECOND, at(B), at(Y)), Some(open));
        assert_eq!(out(&mut nat, B, X), open);
    }

    #[test]
    fn ipv6_keeps_its_address_and_waits_for_the_inside() {
        let mut nat = nat(NatConfig::home());
        let (inside, remote) = (at("[2001:db8::2]:5000"), at("[2001:db8:1::1]:80"));
        assert_eq!(nat.inbound(SECOND, remote, inside), Err(Refused::Filtered));
        assert_eq!(nat.outbound(SECOND, inside, remote), Ok(inside));
        assert_eq!(nat.inbound(SECOND, remote, inside), Ok(inside));
        let other = at("[2001:db8:1::1]:81");
        assert_eq!(nat.inbound(SECOND, other, inside), Err(Refused::Filtered));
    }

    #[test]
    fn a_full_table_refuses_until_something_expires() {
        let mut nat = nat(NatConfig {
            max_bindings: 2,
            ..NatConfig::hard()
        });
        out(&mut nat, A, X);
        out(&mut nat, A, X2);
        assert_eq!(nat.outbound(SECOND, at(A), at(Y)), Err(Refused::Full));
        let later = SECOND + DEFAULT_BINDING_TIMEOUT;
        assert!(nat.outbound(later, at(A), at(Y)).is_ok());
        assert_eq!(nat.stats(later).mappings, 1);
    }

    #[test]
    fn kinds_are_written_as_they_are_read() {
        for kind in NatKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let told = "cone".parse::<NatKind>().unwrap_err();
        assert!(
            told.contains("cone") && told.contains("cgnat-sym"),
            "{told}"
        );
    }
}
