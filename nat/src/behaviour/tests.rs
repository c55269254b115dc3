//! Every kind of NAT of RFC 4787, modelled here, in front of real relays in virtual time.

use std::collections::BTreeMap;

use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
use proptest::prelude::*;

use super::*;
use crate::supernode::relay::{Relay, RelayConfig, Via};

const OUTSIDE: &str = "198.51.100.7";
const INSIDE: &str = "192.168.0.7:5000";
const ONE_WAY: Duration = Duration::from_millis(20);

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A NAT with one inside endpoint.
struct Nat {
    mapping: Dependence,
    filtering: Dependence,
    hairpin: bool,
    preserving: bool,
    /// A stranger's packet takes the outside port, as far as that stranger goes: Linux without a firewall.
    notes_strangers: bool,
    strangers: Vec<SocketAddr>,
    mappings: BTreeMap<(Option<IpAddr>, Option<u16>), u16>,
    sent: Vec<(u16, SocketAddr)>,
}

impl Nat {
    fn new(mapping: Dependence, filtering: Dependence) -> Self {
        Self {
            mapping,
            filtering,
            hairpin: false,
            preserving: false,
            notes_strangers: false,
            strangers: Vec::new(),
            mappings: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn outbound(&mut self, to: SocketAddr) -> SocketAddr {
        let key = match self.mapping {
            EndpointIndependent if self.strangers.contains(&to) => (Some(to.ip()), Some(to.port())),
            EndpointIndependent => (None, None),
            AddressDependent => (Some(to.ip()), None),
            AddressAndPortDependent => (Some(to.ip()), Some(to.port())),
        };
        let next = match self.preserving {
            true => addr(INSIDE).port(),
            false => 40_000,
        } + u16::try_from(self.mappings.len()).unwrap() * 7;
        let port = *self.mappings.entry(key).or_insert(next);
        self.sent.push((port, to));
        SocketAddr::new(OUTSIDE.parse().unwrap(), port)
    }

    fn admits(&mut self, to: SocketAddr, from: SocketAddr) -> bool {
        let admits = self
            .sent
            .iter()
            .filter(|(port, _)| *port == to.port())
            .any(|(_, sent)| match self.filtering {
                EndpointIndependent => true,
                AddressDependent => sent.ip() == from.ip(),
                AddressAndPortDependent => *sent == from,
            });
        if !admits && self.notes_strangers {
            self.strangers.push(from);
        }
        admits
    }
}

struct Server {
    addr: SocketAddr,
    second: SocketAddr,
    relay: Relay,
    /// A firewall of its own keeps requests from the second port.
    closed: bool,
}

struct World {
    now: Instant,
    nat: Option<Nat>,
    servers: Vec<Server>,
    loss: fn(usize) -> bool,
    carried: usize,
    /// Longest answer beside its request.
    amplified: bool,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "virtual time starts anywhere")]
    fn new(nat: Option<Nat>, servers: &[&str]) -> Self {
        let now = Instant::now();
        let servers = servers.iter().map(|text| {
            let addr = addr(text);
            let mut relay = Relay::new(now, RelayConfig::new("test", &[addr.ip()]), [7; 32]);
            let second = SocketAddr::new(addr.ip(), 61_000);
            relay.set_second_port(Some(second.port()));
            Server {
                addr,
                second,
                relay,
                closed: false,
            }
        });
        Self {
            now,
            servers: servers.collect(),
            nat,
            loss: |_| false,
            carried: 0,
            amplified: false,
        }
    }

    fn measure(&mut self) -> Option<NatBehaviour> {
        let own = match self.nat {
            Some(_) => addr(INSIDE),
            None => SocketAddr::new(OUTSIDE.parse().unwrap(), addr(INSIDE).port()),
        };
        let plan = ProbePlan {
            servers: self.servers.iter().map(|server| server.addr).collect(),
            own_addrs: [own.ip()].into(),
            own_port: own.port(),
        };
        let mut prober = Prober::new(self.now, plan, *b"12345678");
        // Packets towards us.
        let mut flying: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
        while !prober.is_done() {
            while let Some((to, packet)) = prober.poll_transmit() {
                self.carried += 1;
                if (self.loss)(self.carried) {
                    continue;
                }
                let mapped = match &mut self.nat {
                    Some(nat) => nat.outbound(to),
                    None => own,
                };
                let back = self.now + 2 * ONE_WAY;
                if to.ip() == mapped.ip() {
                    let nat = self.nat.as_mut().unwrap();
                    if nat.hairpin && nat.admits(to, mapped) {
                        flying.push_back((back, mapped, packet));
                    }
                    continue;
                }
                for (from, answer) in self.ask(mapped, to, &packet) {
                    self.amplified |= answer.len() > packet.len();
                    let admitted = self.nat.as_mut().is_none_or(|nat| nat.admits(mapped, from));
                    if admitted {
                        flying.push_back((back, from, answer));
                    }
                }
            }
            let due = prober.poll_timeout();
            match flying.front() {
                Some((at, ..)) if due.is_none_or(|due| *at <= due) => {
                    let (at, from, packet) = flying.pop_front().unwrap();
                    self.now = at;
                    prober.handle_input(at, from, &packet);
                }
                _ => {
                    let Some(due) = due else { break };
                    self.now = due;
                    prober.handle_timeout(due);
                }
            }
        }
        assert!(prober.packets <= MAX_PACKETS, "{} packets", prober.packets);
        prober.behaviour()
    }

    fn ask(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        packet: &[u8],
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut answers = Vec::new();
        for server in &mut self.servers {
            if to == server.addr {
                server.relay.handle_input(self.now, from, None, packet);
            } else if to == server.second && !server.closed {
                server
                    .relay
                    .handle_second_input(self.now, from, None, packet);
            }
            while let Some(transmit) = server.relay.poll_transmit() {
                let from = match transmit.via {
                    Via::Port(_) => server.addr,
                    Via::SecondPort(_) => server.second,
                    Via::Relayed(_) => unreachable!("nobody allocates"),
                };
                answers.push((from, transmit.contents));
            }
        }
        answers
    }
}

const TWO: [&str; 2] = ["203.0.113.1:4433", "203.0.113.2:4433"];
const KINDS: [Dependence; 3] = [
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
];

/// What is known of filtering, with one address per supernode.
fn filters(filtering: Dependence) -> Known {
    match filtering {
        AddressAndPortDependent => Known::exactly(filtering),
        EndpointIndependent | AddressDependent => Known {
            least: EndpointIndependent,
            most: AddressDependent,
        },
    }
}

#[test]
fn two_supernodes_tell_every_kind_of_nat() {
    for (mapping, filtering) in KINDS.iter().flat_map(|m| KINDS.map(|f| (*m, f))) {
        for hairpin in [false, true] {
            let mut nat = Nat::new(mapping, filtering);
            nat.hairpin = hairpin;
            let mut world = World::new(Some(nat), &TWO);
            let started = world.now;
            let found = world.measure().unwrap();
            assert_eq!(found.mapping, Known::exactly(mapping), "{mapping:?}");
            assert_eq!(
                found.filtering,
                filters(filtering),
                "{mapping:?} {filtering:?}"
            );
            assert!(found.translated && found.one_address && !found.port_preserved);
            assert_eq!(found.servers, 2);
            assert_eq!(found.rtt, 2 * ONE_WAY);
            // A NAT that maps or filters by endpoint lets a hairpin in when it has seen that endpoint.
            if !hairpin || mapping == EndpointIndependent {
                assert_eq!(found.hairpin, Some(hairpin), "{mapping:?} {filtering:?}");
            }
            assert!(!world.amplified);
            assert!(
                world.now - started < Duration::from_secs(2),
                "{:?}",
                world.now - started
            );
        }
    }
}

#[test]
fn one_supernode_tells_whether_ports_matter() {
    for (mapping, filtering) in KINDS.iter().flat_map(|m| KINDS.map(|f| (*m, f))) {
        let mut world = World::new(Some(Nat::new(mapping, filtering)), &TWO[..1]);
        let found = world.measure().unwrap();
        // What the second port sees is no proof where its first packet was filtered.
        let by_port = match (mapping, filtering) {
            (AddressAndPortDependent, AddressAndPortDependent) => None,
            (AddressAndPortDependent, _) => Some(true),
            (EndpointIndependent | AddressDependent, _) => Some(false),
        };
        assert_eq!(found.mapping.by_port(), by_port);
        assert_eq!(found.mapping.exact().is_some(), by_port == Some(true));
        assert_eq!(found.filtering, filters(filtering));
    }
}

#[test]
fn a_linux_router_without_a_firewall_does_not_mislead() {
    let mut nat = Nat::new(EndpointIndependent, AddressAndPortDependent);
    nat.notes_strangers = true;
    let found = World::new(Some(nat), &TWO).measure().unwrap();
    assert_eq!(found.mapping, Known::exactly(EndpointIndependent));
    let mut nat = Nat::new(EndpointIndependent, AddressAndPortDependent);
    nat.notes_strangers = true;
    let found = World::new(Some(nat), &TWO[..1]).measure().unwrap();
    assert_eq!(found.mapping, Known::NOTHING);
}

#[test]
fn a_public_address_is_not_translated_and_keeps_its_port() {
    let mut world = World::new(None, &TWO);
    let found = world.measure().unwrap();
    assert!(!found.translated && found.port_preserved);
    assert_eq!(found.mapping, Known::exactly(EndpointIndependent));
    assert_eq!(found.filtering.by_port(), Some(false));
    assert_eq!(found.hairpin, None);
}

#[test]
fn a_router_that_keeps_ports_is_seen_to() {
    let mut nat = Nat::new(EndpointIndependent, AddressAndPortDependent);
    nat.preserving = true;
    assert!(
        World::new(Some(nat), &TWO)
            .measure()
            .unwrap()
            .port_preserved
    );
}

#[test]
fn losses_do_not_change_what_is_found() {
    // Every third packet is lost.
    for (mapping, filtering) in KINDS.iter().flat_map(|m| KINDS.map(|f| (*m, f))) {
        let mut world = World::new(Some(Nat::new(mapping, filtering)), &TWO);
        world.loss = |n| n % 3 == 1;
        let found = world.measure().unwrap();
        assert_eq!(
            found.mapping.by_port(),
            Some(mapping == AddressAndPortDependent)
        );
        assert_eq!(found.filtering, filters(filtering));
    }
}

#[test]
fn a_supernode_whose_second_port_is_behind_a_firewall_still_tells_filters() {
    for filtering in KINDS {
        let nat = Nat::new(EndpointIndependent, filtering);
        let mut world = World::new(Some(nat), &TWO);
        for server in &mut world.servers {
            server.closed = true;
        }
        let found = world.measure().unwrap();
        assert_eq!(found.mapping, Known::exactly(EndpointIndependent));
        assert_eq!(found.filtering, filters(filtering), "{filtering:?}");
    }
}

#[test]
fn without_a_second_port_filters_stay_unknown() {
    let mut world = World::new(
        Some(Nat::new(AddressAndPortDependent, EndpointIndependent)),
        &TWO,
    );
    for server in &mut world.servers {
        server.relay.set_second_port(None);
    }
    let found = world.measure().unwrap();
    assert_eq!(found.filtering, Known::NOTHING);
    assert_eq!(
        found.mapping.to_string(),
        "address-dependent or address-and-port-dependent"
    );
    assert_eq!(found.filtering.to_string(), "unknown");
}

#[test]
fn silence_ends_after_a_second_and_nothing_is_claimed() {
    let mut world = World::new(None, &TWO);
    world.loss = |_| true;
    let started = world.now;
    assert_eq!(world.measure(), None);
    assert!(world.now - started < Duration::from_secs(2));
    // Each supernode was asked three times, and nobody else was.
    assert_eq!(world.carried, 6);
}

#[test]
fn the_relay_answers_from_its_other_port_only_so_often() {
    let mut world = World::new(None, &TWO[..1]);
    let id = TransactionId(*b"abcdefghijkl");
    let change = Builder::new(METHOD_BINDING, CLASS_REQUEST, id)
        .attribute(ATTR_CHANGE_REQUEST, &CHANGE_PORT)
        .attribute(ATTR_PADDING, &PADDING)
        .finish(None, true);
    let to = addr(TWO[0]);
    let mut from_second = 0;
    for n in 0..1000 {
        world.now += Duration::from_millis(1);
        // One source with many ports.
        let source = SocketAddr::new(OUTSIDE.parse().unwrap(), 1000 + n);
        for (_, answer) in world.ask(source, to, &change) {
            from_second += 1;
            assert!(answer.len() <= change.len());
        }
    }
    assert!((12..=14).contains(&from_second), "{from_second}");
    // A thousand sources in a second.
    let mut world = World::new(None, &TWO[..1]);
    let mut all = 0;
    for n in 0..4000u32 {
        world.now += Duration::from_micros(250);
        let source = SocketAddr::new(IpAddr::from((0x0a00_0000 + n * 77).to_be_bytes()), 1000);
        all += world.ask(source, to, &change).len();
    }
    println!("{all} answers from the second port to 4000 sources in a second");
    assert!((200..=401).contains(&all), "{all}");
    // Another address is not to be had.
    let change_ip = Builder::new(METHOD_BINDING, CLASS_REQUEST, id)
        .attribute(ATTR_CHANGE_REQUEST, &[0, 0, 0, 6])
        .finish(None, true);
    let answers = world.ask(addr("192.0.2.1:1"), to, &change_ip);
    let (_, refused) = answers.first().unwrap();
    let refused = Stun::parse(refused).unwrap();
    assert_eq!(refused.error_code(), Some(400));
}

proptest! {
    #[test]
    #[expect(clippy::disallowed_methods, reason = "virtual time starts anywhere")]
    fn answers_of_strangers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), from: u16) {
        let now = Instant::now();
        let plan = ProbePlan {
            servers: vec![addr(TWO[0])],
            own_addrs: BTreeSet::new(),
            own_port: 1,
        };
        let mut prober = Prober::new(now, plan, *b"12345678");
        prober.handle_input(now, SocketAddr::new(addr(TWO[0]).ip(), from), &bytes);
        let (_, mut own) = prober.poll_transmit().unwrap();
        for (byte, noise) in own.iter_mut().skip(20).zip(bytes) {
            *byte ^= noise;
        }
        // A success response, perhaps.
        *own.first_mut().unwrap() = 1;
        prober.handle_input(now, addr(TWO[0]), &own);
        prop_assert!(prober.behaviour().is_none());
    }
}
