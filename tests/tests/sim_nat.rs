//! Address translators, firewalls and changing networks of the simulated world, by plain datagrams: who reaches
//! whom, and what each fault takes away.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::sim::{
    Conditions, Dependence, DropReason, Fault, NatConfig, NatKind, SimNat, SimNode, Site, World,
};
use ahoy_tests::udp::Udp;
use ahoy_transport::runtime::{Runtime, RuntimeExt as _, timeout};

const SEED: u64 = 0x00a0_0002;
/// A server with two ports, as for STUN.
const SERVER: &str = "203.0.113.1";
const FIRST: &str = "203.0.113.1:3478";
const PATIENCE: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn runtime(world: &World, node: SimNode) -> Arc<dyn Runtime> {
    world.runtime(node)
}

/// A world with a server that answers every datagram with the address from which it came.
fn world() -> World {
    let world = World::new(SEED);
    let server = world.add_node("server", &[ip(SERVER)]);
    let runtime = runtime(&world, server);
    drop(world.spawn(server, async move {
        let socket = Udp::bind(&*runtime, addr("0.0.0.0:3478")).unwrap();
        loop {
            let datagram = socket.recv().await.unwrap();
            let seen = datagram.from.to_string();
            socket.send(datagram.from, seen.as_bytes()).unwrap();
        }
    }));
    world
}

/// How the server sees the socket; none if no answer comes.
async fn seen_by_server(runtime: &dyn Runtime, socket: &Udp) -> Option<SocketAddr> {
    socket.send(addr(FIRST), b"who am I?").unwrap();
    let datagram = timeout(runtime, PATIENCE, socket.recv()).await?.unwrap();
    assert_eq!(datagram.from, addr(FIRST));
    Some(addr(std::str::from_utf8(&datagram.contents).unwrap()))
}

fn socket(world: &World, site: &Site) -> Arc<Udp> {
    Arc::new(Udp::bind(&*runtime(world, site.node), addr("0.0.0.0:5000")).unwrap())
}

fn reflexive(world: &World, site: &Site, socket: &Udp) -> Option<SocketAddr> {
    let runtime = runtime(world, site.node);
    world
        .block_on(site.node, seen_by_server(&*runtime, socket))
        .unwrap()
}

/// Sends to `target` a few times, then to wherever something came from; whether anything came.
async fn punch(runtime: Arc<dyn Runtime>, socket: Arc<Udp>, mut target: SocketAddr) -> bool {
    let mut heard = false;
    for _ in 0..10 {
        socket.send(target, b"punch").unwrap();
        let answer = timeout(&*runtime, ms(100), socket.recv()).await;
        if let Some(Ok(datagram)) = answer {
            heard = true;
            // A peer-reflexive address (RFC 8445 section 7.3.1.3).
            target = datagram.from;
        }
    }
    heard
}

/// Whether two sites come to hear each other when both send to how the server saw the other.
fn reach_each_other(world: &World, a: &Site, b: &Site) -> bool {
    let sockets = [a, b].map(|site| socket(world, site));
    let (Some(a_seen), Some(b_seen)) = (
        reflexive(world, a, &sockets[0]),
        reflexive(world, b, &sockets[1]),
    ) else {
        return false;
    };
    let [a_socket, b_socket] = sockets;
    let bob = world.spawn(b.node, punch(runtime(world, b.node), b_socket, a_seen));
    let alice = punch(runtime(world, a.node), a_socket, b_seen);
    let alice = world.block_on(a.node, alice).unwrap();
    alice && world.block_on(b.node, bob).unwrap().unwrap()
}

/// What RFC 4787 behaviours allow without guessing ports.
fn expected(a: NatKind, b: NatKind) -> bool {
    let hard = |kind| matches!(kind, NatKind::Symmetric | NatKind::CgnatSym);
    let port_filtered = |kind| hard(kind) || matches!(kind, NatKind::Port | NatKind::Cgnat);
    let blocked = |kind| kind == NatKind::UdpBlocked;
    let in_vain = hard(a) && port_filtered(b) || hard(b) && port_filtered(a);
    !(blocked(a) || blocked(b) || in_vain)
}

#[test]
fn every_pair_of_kinds_reaches_each_other_exactly_where_rfc_4787_allows_it() {
    for a in NatKind::ALL {
        for b in NatKind::ALL {
            let world = world();
            let alice = world.add_site("alice", a, 1);
            let bob = world.add_site("bob", b, 2);
            for site in [&alice, &bob] {
                world.set_link(site.node, Conditions::with_delay(ms(10)));
            }
            assert_eq!(
                reach_each_other(&world, &alice, &bob),
                expected(a, b),
                "{a} and {b} (seed {SEED})"
            );
        }
    }
}

#[test]
fn two_in_one_house_reach_each_other_directly_and_by_the_outside_only_with_hairpin() {
    let hairpins = |hairpin: bool| {
        let world = world();
        let config = NatConfig {
            hairpin,
            ..NatConfig::home()
        };
        let nat = world.add_nat("router", config, &[ip("198.51.100.9")]);
        let [alice, bob] =
            [("alice", "10.0.0.2"), ("bob", "10.0.0.3")].map(|(name, address)| Site {
                node: world.add_node_behind(nat, name, &[ip(address)]),
                address: ip(address),
                public: ip("198.51.100.9"),
                nats: vec![nat],
            });
        // The link is the way out: nothing of it is felt inside.
        world.set_link(alice.node, Conditions::with_delay(ms(30)));
        let reached = reach_each_other(&world, &alice, &bob);
        let refused = world.stats().dropped_by(DropReason::HairpinRefused);
        assert_eq!(refused == 0, hairpin);

        let there = Udp::bind(&*runtime(&world, alice.node), addr("10.0.0.2:7")).unwrap();
        let here = Udp::bind(&*runtime(&world, bob.node), addr("10.0.0.3:7")).unwrap();
        let before = world.elapsed();
        there.send(addr("10.0.0.3:7"), b"neighbour").unwrap();
        let datagram = world.block_on(bob.node, here.recv()).unwrap().unwrap();
        assert_eq!(datagram.from, addr("10.0.0.2:7"));
        assert_eq!(world.elapsed(), before);
        reached
    };
    assert!(hairpins(true));
    assert!(!hairpins(false));
}

#[test]
fn two_homes_of_one_carrier_meet_at_the_carrier_if_it_hairpins() {
    let meet = |hairpin: bool| {
        let world = world();
        let config = NatConfig {
            hairpin,
            ..NatConfig::home()
        };
        let carrier = world.add_nat("carrier", config, &[ip("198.51.100.9")]);
        let home = |name: &str, number: u8| {
            let outside = IpAddr::from([100, 64, 0, number]);
            let router = world.add_nat_behind(carrier, name, NatConfig::home(), &[outside]);
            // Everybody's router gives out the same addresses.
            let address = ip("192.168.0.2");
            Site {
                node: world.add_node_behind(router, name, &[address]),
                address,
                public: ip("198.51.100.9"),
                nats: vec![router, carrier],
            }
        };
        let (alice, bob) = (home("alice", 1), home("bob", 2));
        reach_each_other(&world, &alice, &bob)
    };
    assert!(meet(true));
    assert!(!meet(false));
}

/// Alice behind a `Port` router, Bob on the internet, and a mapping from the one to the other.
struct Open {
    world: World,
    alice: Site,
    nat: SimNat,
    alice_socket: Arc<Udp>,
    bob_socket: Arc<Udp>,
    bob: Site,
    outside: SocketAddr,
}

const BOB: &str = "198.51.100.2:5000";

fn open() -> Open {
    let world = world();
    let alice = world.add_site("alice", NatKind::Port, 1);
    let bob = world.add_site("bob", NatKind::None, 2);
    let alice_socket = socket(&world, &alice);
    let bob_socket = socket(&world, &bob);
    let mut open = Open {
        nat: alice.router().unwrap(),
        world,
        alice,
        alice_socket,
        bob_socket,
        bob,
        outside: addr("198.51.100.1:5000"),
    };
    open.outside = open.out().unwrap();
    open
}

impl Open {
    async fn hear(runtime: &dyn Runtime, socket: &Udp) -> Option<SocketAddr> {
        let datagram = timeout(runtime, PATIENCE, socket.recv()).await?;
        Some(datagram.unwrap().from)
    }

    /// Alice sends to Bob, who sees her as the returned address.
    fn out(&self) -> Option<SocketAddr> {
        self.alice_socket.send(addr(BOB), b"out").unwrap();
        let runtime = runtime(&self.world, self.bob.node);
        let heard = Self::hear(&*runtime, &self.bob_socket);
        self.world.block_on(self.bob.node, heard).unwrap()
    }

    /// Whether what Bob sends to `target` comes to Alice.
    fn back(&self, target: SocketAddr) -> bool {
        self.bob_socket.send(target, b"back").unwrap();
        let runtime = runtime(&self.world, self.alice.node);
        let heard = Self::hear(&*runtime, &self.alice_socket);
        self.world.block_on(self.alice.node, heard).unwrap() == Some(addr(BOB))
    }
}

#[test]
fn a_router_that_reboots_lets_nothing_in_until_something_goes_out() {
    let open = open();
    assert_eq!(open.outside, addr("198.51.100.1:5000"));
    assert!(open.back(open.outside));
    open.world.apply(Fault::NatReboot(open.nat));
    assert!(!open.back(open.outside));
    assert_eq!(
        open.world
            .node_stats(open.bob.node)
            .dropped_by(DropReason::NoMapping),
        1
    );
    assert_eq!(open.out(), Some(open.outside));
    assert!(open.back(open.outside));

    open.world.apply(Fault::NatDown(open.nat));
    assert_eq!(open.out(), None);
    open.world.apply(Fault::NatUp(open.nat));
    assert!(!open.back(open.outside));
    assert!(open.out().is_some());
}

#[test]
fn a_binding_that_nobody_uses_is_gone_after_its_timeout() {
    let open = open();
    open.world.run_for(Duration::from_secs(119)).unwrap();
    assert!(open.back(open.outside));
    open.world.run_for(Duration::from_secs(2)).unwrap();
    assert!(!open.back(open.outside));
    assert_eq!(open.world.nat_stats(open.nat).mappings, 0);
}

#[test]
fn a_renumbered_router_has_other_outside_addresses_and_no_bindings() {
    let open = open();
    open.world.apply(Fault::NatAddresses {
        nat: open.nat,
        addresses: vec![ip("198.51.100.77")],
    });
    assert!(!open.back(open.outside));
    let moved = open.out().unwrap();
    assert_eq!(moved, addr("198.51.100.77:5000"));
    assert!(open.back(moved));
}

#[test]
fn a_device_that_changes_networks_is_seen_elsewhere_and_its_bound_sockets_are_cut_off() {
    let open = open();
    let phone = open
        .world
        .add_nat("tower", NatConfig::hard(), &[ip("198.51.100.78")]);
    let bound = Udp::bind(
        &*runtime(&open.world, open.alice.node),
        addr("192.168.1.2:5001"),
    )
    .unwrap();
    open.world.apply(Fault::Attach {
        node: open.alice.node,
        behind: Some(phone),
        addresses: vec![ip("10.1.2.3")],
    });
    let runtime = runtime(&open.world, open.alice.node);
    assert_eq!(runtime.interface_addrs(), [ip("127.0.0.1"), ip("10.1.2.3")]);
    assert!(!open.back(open.outside));
    let moved = open.out().unwrap();
    assert_eq!(moved.ip(), ip("198.51.100.78"));
    assert!(open.back(moved));
    bound.send(addr(BOB), b"from the old address").unwrap();
    assert_eq!(
        open.world
            .node_stats(open.alice.node)
            .dropped_by(DropReason::NoRoute),
        1
    );
    // And out of every house: a public address.
    open.world.apply(Fault::Attach {
        node: open.alice.node,
        behind: None,
        addresses: vec![ip("198.51.100.79")],
    });
    assert_eq!(open.out(), Some(addr("198.51.100.79:5000")));
}

#[test]
fn a_dead_line_takes_the_internet_but_neither_the_carrier_nor_the_neighbours() {
    let open = open();
    let node = open.alice.node;
    let neighbour = open
        .world
        .add_node_behind(open.nat, "printer", &[ip("192.168.1.3")]);
    let printer = Udp::bind(&*runtime(&open.world, neighbour), addr("0.0.0.0:9")).unwrap();
    open.world.apply(Fault::UpstreamDown(node));
    assert_eq!(open.out(), None);
    assert!(!open.back(open.outside));
    assert_eq!(runtime(&open.world, node).interface_addrs().len(), 2);
    open.alice_socket
        .send(addr("192.168.1.3:9"), b"print")
        .unwrap();
    assert!(
        open.world
            .block_on(neighbour, printer.recv())
            .unwrap()
            .is_ok()
    );
    open.world.apply(Fault::UpstreamUp(node));
    assert!(open.out().is_some());
    assert!(open.back(open.outside));
}

#[test]
fn a_cut_between_two_goes_through_translators_and_leaves_the_others_alone() {
    let open = open();
    let (left, right) = (vec![open.alice.node], vec![open.bob.node]);
    open.world.apply(Fault::Partition {
        left: left.clone(),
        right: right.clone(),
    });
    assert_eq!(open.out(), None);
    assert!(!open.back(open.outside));
    assert!(reflexive(&open.world, &open.alice, &open.alice_socket).is_some());
    open.world.apply(Fault::Mend { left, right });
    assert!(open.out().is_some());
    assert!(open.back(open.outside));

    let (from, to) = (open.bob.node, open.alice.node);
    open.world.apply(Fault::BlackHole { from, to });
    assert!(open.out().is_some());
    assert!(!open.back(open.outside));
    open.world.apply(Fault::EndBlackHole { from, to });
    assert!(open.back(open.outside));
}

#[test]
fn a_site_can_move_into_a_site_of_another_kind() {
    let open = open();
    let moved = open
        .world
        .move_site("alice", &open.alice, NatKind::CgnatSym, 9);
    assert_eq!(
        (moved.node, moved.address),
        (open.alice.node, ip("192.168.9.2"))
    );
    assert_eq!(moved.nats.len(), 2);
    assert!(!open.back(open.outside));
    let seen = open.out().unwrap();
    assert_eq!(seen.ip(), moved.public);
    assert!(open.back(seen));
}

#[test]
fn udp_that_is_blocked_later_is_refused_both_ways() {
    let open = open();
    let config = open.world.nat_config(open.nat);
    open.world.apply(Fault::NatConfig {
        nat: open.nat,
        config: NatConfig {
            udp_blocked: true,
            ..config.clone()
        },
    });
    assert_eq!(open.out(), None);
    assert!(!open.back(open.outside));
    assert_eq!(open.world.stats().dropped_by(DropReason::UdpBlocked), 2);
    open.world.apply(Fault::NatConfig {
        nat: open.nat,
        config,
    });
    assert!(open.out().is_some());
}

#[test]
fn a_forwarded_port_is_open_to_everybody() {
    let open = open();
    let inside = addr("192.168.1.2:5000");
    let forwarded = open.world.forward_port(open.nat, inside, 4433).unwrap();
    open.world.apply(Fault::NatReboot(open.nat));
    assert!(open.back(forwarded));
    assert_eq!(
        open.world.mapped(open.nat, inside, addr(BOB)),
        Some(forwarded)
    );
    assert_eq!(open.world.nat_name(open.nat), "alice's router");
}

#[test]
fn an_ipv6_device_is_found_from_outside_once_it_has_spoken() {
    let world = world();
    let home = world.add_nat("router", NatConfig::home(), &[ip("198.51.100.9")]);
    let alice = world.add_node_behind(home, "alice", &[ip("192.168.0.2"), ip("2001:db8:1::2")]);
    let bob = world.add_node("bob", &[ip("2001:db8:2::2")]);
    let alice_socket = Udp::bind(&*runtime(&world, alice), addr("[::]:5000")).unwrap();
    let bob_socket = Udp::bind(&*runtime(&world, bob), addr("[::]:5000")).unwrap();
    bob_socket
        .send(addr("[2001:db8:1::2]:5000"), b"too early")
        .unwrap();
    world.run_for(ms(1)).unwrap();
    assert_eq!(world.node_stats(bob).dropped_by(DropReason::Filtered), 1);
    alice_socket
        .send(addr("[2001:db8:2::2]:5000"), b"hello")
        .unwrap();
    let datagram = world.block_on(bob, bob_socket.recv()).unwrap().unwrap();
    assert_eq!(datagram.from, addr("[2001:db8:1::2]:5000"));
    bob_socket.send(datagram.from, b"hello").unwrap();
    assert!(world.block_on(alice, alice_socket.recv()).unwrap().is_ok());
}

#[test]
fn an_observer_sees_both_what_was_sent_and_what_came() {
    let open = open();
    let log = Arc::<Mutex<Vec<_>>>::default();
    let shared = Arc::clone(&log);
    open.world.observe_node(open.alice.node, move |packet| {
        shared.lock().unwrap().push(packet.clone());
    });
    open.out().unwrap();
    assert!(open.back(open.outside));
    let log = log.lock().unwrap();
    let inside = addr("192.168.1.2:5000");
    assert_eq!((log[0].sent_src, log[0].src), (inside, open.outside));
    assert_eq!((log[1].sent_dst, log[1].dst), (open.outside, inside));
}

#[test]
fn translators_are_part_of_what_the_seed_repeats() {
    let run = |seed| {
        let world = World::new(seed);
        let server = world.add_node("server", &[ip(SERVER)]);
        let alice = world.add_site("alice", NatKind::Symmetric, 1);
        let inside = runtime(&world, alice.node);
        world
            .block_on(alice.node, async move {
                let socket = Udp::bind(&*inside, addr("0.0.0.0:5000")).unwrap();
                for port in 1..50 {
                    socket
                        .send(SocketAddr::new(ip(SERVER), port), b"flow")
                        .unwrap();
                    inside.sleep(ms(1)).await;
                }
            })
            .unwrap();
        let stats = world.nat_stats(alice.nats[0]);
        assert_eq!((stats.mappings_created, stats.mappings_peak), (49, 49));
        assert_eq!(
            world
                .node_stats(alice.node)
                .dropped_by(DropReason::NoSocket),
            49
        );
        let _ = server;
        world.trace_hash()
    };
    assert_eq!(run(SEED), run(SEED));
    assert_ne!(run(SEED), run(SEED + 1));
}

#[test]
fn any_other_behaviour_can_be_put_together() {
    let world = world();
    let config = NatConfig {
        binding_timeout: ms(500),
        ..NatConfig::new(Dependence::Address, Dependence::Endpoint)
    };
    let nat = world.add_nat("router", config, &[ip("198.51.100.9")]);
    let node = world.add_node_behind(nat, "alice", &[ip("10.0.0.2")]);
    let site = Site {
        node,
        address: ip("10.0.0.2"),
        public: ip("198.51.100.9"),
        nats: vec![nat],
    };
    let socket = socket(&world, &site);
    let seen = reflexive(&world, &site, &socket).unwrap();
    assert_eq!(
        world.mapped(nat, addr("10.0.0.2:5000"), addr("203.0.113.1:9")),
        Some(seen)
    );
    assert_eq!(
        world.mapped(nat, addr("10.0.0.2:5000"), addr("203.0.113.2:9")),
        None
    );
    world.run_for(ms(500)).unwrap();
    assert_eq!(world.mapped(nat, addr("10.0.0.2:5000"), addr(FIRST)), None);
}

#[test]
fn a_device_hears_when_its_networks_change_and_how_they_do() {
    let open = open();
    let node = open.alice.node;
    let runtime = runtime(&open.world, node);
    let mut changes = runtime.network_changes();
    let before = runtime.networks();
    let rings = |changes: &mut ahoy_transport::runtime::NetworkChanges| {
        let wait = timeout(&*runtime, ms(1), changes.changed());
        open.world.block_on(node, wait).unwrap().is_some()
    };
    assert!(!rings(&mut changes));
    // Another home with the same addresses is another network all the same.
    let twin = open
        .world
        .add_nat("twin", NatConfig::home(), &[ip("198.51.100.50")]);
    open.world.apply(Fault::Attach {
        node,
        behind: Some(twin),
        addresses: vec![open.alice.address],
    });
    assert!(rings(&mut changes));
    let after = runtime.networks();
    assert_eq!(before.addrs, after.addrs);
    assert_ne!(before.route_v4, after.route_v4);
    open.world.apply(Fault::LinkDown(node));
    assert!(rings(&mut changes));
    assert!(runtime.networks().is_offline());
    // What happens upstream nobody tells.
    open.world.apply(Fault::LinkUp(node));
    assert!(rings(&mut changes));
    open.world.apply(Fault::UpstreamDown(node));
    open.world.apply(Fault::NatReboot(twin));
    assert!(!rings(&mut changes));
}

#[test]
fn a_device_that_sleeps_does_nothing_and_catches_up_when_it_wakes() {
    let open = open();
    let node = open.alice.node;
    let ticks = Arc::<Mutex<Vec<Duration>>>::default();
    let (log, inside) = (Arc::clone(&ticks), open.world.runtime(node));
    drop(open.world.spawn(node, async move {
        loop {
            inside.sleep(Duration::from_secs(1)).await;
            log.lock().unwrap().push(inside.elapsed());
        }
    }));
    let start = open.world.elapsed();
    open.world.run_for(ms(2500)).unwrap();
    open.world.apply(Fault::Suspend(node));
    open.bob_socket.send(open.outside, b"wake up").unwrap();
    open.world.run_for(ms(1)).unwrap();
    assert_eq!(
        open.world
            .node_stats(open.bob.node)
            .dropped_by(DropReason::Asleep),
        1
    );
    open.world.run_for(Duration::from_secs(9)).unwrap();
    assert_eq!(ticks.lock().unwrap().len(), 2);
    open.world.apply(Fault::Resume(node));
    let slept = open.world.runtime(node).suspended();
    assert!(slept >= Duration::from_secs(9), "{slept:?}");
    open.world.run_for(ms(1)).unwrap();
    let woke = *ticks.lock().unwrap().last().unwrap();
    assert!(woke - start >= ms(11_500), "{woke:?}");
    assert!(open.back(open.outside));
}
