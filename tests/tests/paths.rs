//! How calls find direct paths behind routers, and keep them: the shipped engine in virtual time.
//!
//! Everybody is 10 ms from the middle, so that a relay is 20 ms of round trip away and the other person 40 ms.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{net::IpAddr, time::Duration};

use ahoy::{
    engine::{
        config::{Answering, PathPolicy, Upkeep},
        handle::{Command, Phase},
        media::AudioIn,
    },
    report::{Outcome, PathKind},
    sim::{Conditions, Fault, NatConfig, NatKind, PacketEvent, SimNode, Site},
};
use ahoy_media::audio::opus::Codec;
use ahoy_nat::ice::{CHECK_LIMIT, ORDINARY_FLOWS, SETUP_FLOWS, SETUP_PACKETS_PER_SECOND};
use ahoy_tests::{
    pair::{SOON, audio, kinds, ms, secs},
    people::{Ended, Home, Phone, Stage, Wiretap},
};

const SEED: u64 = 0x0003_0400;
const HOMES: [[u8; 4]; 2] = [[203, 0, 113, 1], [192, 0, 2, 2]];
/// What must hold does in this many worlds: see [`Plan::world`].
const WORLDS: u64 = 5;
const ACCESS: Duration = Duration::from_millis(10);

struct Scene {
    stage: Stage,
    homes: Vec<Home>,
    sites: [Site; 2],
    alice: Phone,
    bob: Phone,
    tap: Wiretap,
    _folder: tempfile::TempDir,
}

#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// Faults happen at another phase of all timers, and packets come a little less regularly. Sound itself is in
    /// the first alone, since coding it takes most of the time.
    world: u64,
    nats: [NatKind; 2],
    homes: usize,
    path: PathPolicy,
    /// Nobody touches a telephone: it accepts by itself, at once.
    at_once: bool,
    /// Switches something off.
    without: fn(&mut Upkeep),
}

const PLAN: Plan = Plan {
    seed: SEED,
    world: 0,
    nats: [NatKind::Port, NatKind::Port],
    homes: 1,
    path: PathPolicy::Auto,
    at_once: false,
    without: |_nothing| {},
};

impl Plan {
    /// The same in another world.
    fn in_world(self, world: u64) -> Self {
        Self { world, ..self }
    }

    fn access(&self) -> Conditions {
        Conditions {
            jitter: ms(self.world),
            ..Conditions::with_delay(ACCESS)
        }
    }

    fn run<T>(self, play: impl AsyncFnOnce(&Scene) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(self.seed + 0x1000 * self.world, folder.path());
        let director = stage.director;
        let tap = stage.wiretap();
        let sites = [("alice", self.nats[0], 1), ("bob", self.nats[1], 2)].map(|(name, nat, n)| {
            let site = stage.world.add_site(name, nat, n);
            stage.world.set_link(site.node, self.access());
            site
        });
        let made = stage.world.block_on(director, async {
            let mut homes = Vec::new();
            for (n, ip) in HOMES.into_iter().enumerate().take(self.homes) {
                homes.push(stage.home(&format!("home {n}"), ip).await);
            }
            let at: Vec<&Home> = homes.iter().collect();
            let phone = |name, site: &Site| {
                let identity = stage.identity();
                stage.phone_on(name, site.node, site.address, &identity, &at, |config| {
                    config.path = self.path;
                    if self.world > 0 {
                        config.audio.codec = Codec::Null;
                        config.audio.input = AudioIn::Silence;
                    }
                    (self.without)(&mut config.upkeep);
                    if self.at_once {
                        config.answering = Answering::Everybody;
                    }
                })
            };
            let (alice, bob) = (phone("Alice", &sites[0]), phone("Bob", &sites[1]));
            alice.befriend(&bob);
            alice.ready().await;
            bob.ready().await;
            stage.pass(secs(1)).await;
            (homes, alice, bob)
        });
        let (homes, alice, bob) = made.unwrap();
        let scene = Scene {
            stage,
            homes,
            sites,
            alice,
            bob,
            tap,
            _folder: folder,
        };
        scene.stage.world.block_on(director, play(&scene)).unwrap()
    }
}

impl Scene {
    async fn pass(&self, duration: Duration) {
        self.stage.pass(duration).await;
    }

    async fn talk(&self) {
        self.alice.call(&self.bob);
        self.bob.rings().await;
        self.pass(secs(1)).await;
        self.bob.tell(Command::Accept);
        self.alice.hears().await;
        self.bob.hears().await;
    }

    async fn hang_up(&self) -> [Ended; 2] {
        self.alice.tell(Command::HangUp);
        // Who does not hear of it gives up after a while.
        let limit = secs(60);
        [self.alice.ends(limit).await, self.bob.ends(limit).await]
    }

    fn phones(&self) -> [&Phone; 2] {
        [&self.alice, &self.bob]
    }

    /// When the first QUIC packet that each sends on its own direct way arrived, since `from`: the connection is
    /// up at the other end by then.
    fn direct_since(&self, from: Duration) -> Option<Duration> {
        let nodes = [self.alice.node, self.bob.node];
        let is_direct = |packet: &PacketEvent| {
            packet.at >= from
                && packet.dropped.is_none()
                && nodes.contains(&packet.from)
                && packet.to.is_some_and(|to| nodes.contains(&to))
                // QUIC with a short header: neither STUN nor a handshake.
                && packet.contents.first().is_some_and(|first| first & 0xc0 == 0x40)
        };
        let packets = self.tap.packets();
        let first = nodes.map(|node| {
            let mut direct = packets.iter().filter(|packet| is_direct(packet));
            direct
                .find(|packet| packet.to == Some(node))
                .map(|packet| packet.at)
        });
        Some(first[0]?.max(first[1]?))
    }

    fn path(&self, phone: &Phone) -> Option<&'static str> {
        let call = phone.engine.view().borrow().call.clone();
        call.and_then(|call| call.path)
    }

    /// Waits until both speak directly, and says how long that took.
    async fn until_direct(&self, limit: Duration) -> Option<Duration> {
        let began = self.stage.now();
        while self
            .phones()
            .iter()
            .any(|phone| self.path(phone) != Some("direct"))
        {
            self.pass(ms(20)).await;
            if self.stage.now() - began > limit {
                return None;
            }
        }
        Some(self.stage.now() - began)
    }
}

fn longest_gap(ended: &Ended) -> u64 {
    audio(&ended.report).longest_gap_ms.unwrap()
}

fn show(what: &str, ended: &[Ended; 2]) {
    for ended in ended {
        let network = ended.report.network.as_ref().unwrap();
        eprintln!(
            "{what}: {:?} gap {} ms, lost {:?}, paths {:?}, switches {:?}",
            ended.report.outcome,
            longest_gap(ended),
            audio(&ended.report).packets.lost,
            ended
                .report
                .paths
                .iter()
                .map(|path| (path.at_ms, path.kind))
                .collect::<Vec<_>>(),
            network.switches,
        );
    }
}

// --- finding them --------------------------------------------------------------------------------

/// Behind one router, or behind two that happen to have the same addresses inside.
fn at_home(one_router: bool) -> [Ended; 2] {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + 40, folder.path());
    let talking = async {
        let home = stage.home("home", HOMES[0]).await;
        let router = |n| {
            let outside = IpAddr::from([198, 51, 100, n]);
            let name = format!("router {n}");
            stage.world.add_nat(&name, NatConfig::home(), &[outside])
        };
        let (first, second) = (router(1), (!one_router).then(|| router(2)));
        let phone = |name, nat, n| {
            let ip = IpAddr::from([192, 168, 1, n]);
            let node = stage.world.add_node_behind(nat, name, &[ip]);
            let link = Conditions::with_delay(ACCESS);
            stage.world.set_link(node, link);
            stage.phone_on(name, node, ip, &stage.identity(), &[&home], |_config| {})
        };
        let alice = phone("Alice", first, 2);
        let bob = phone("Bob", second.unwrap_or(first), 3);
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        alice.talk_to(&bob).await;
        stage.pass(secs(3)).await;
        alice.tell(Command::HangUp);
        [alice.ends(SOON).await, bob.ends(SOON).await]
    };
    stage.world.block_on(stage.director, talking).unwrap()
}

#[test]
fn a_way_within_one_network_is_called_so() {
    for (one_router, kind) in [(true, PathKind::Lan), (false, PathKind::Direct)] {
        let ended = at_home(one_router);
        show(&format!("one router: {one_router}"), &ended);
        for ended in &ended {
            assert_eq!(kinds(&ended.report).last(), Some(&kind));
            assert_eq!(longest_gap(ended), 0);
        }
    }
}

#[test]
fn behind_two_home_routers_a_call_is_direct_soon_after_it_was_placed() {
    for world in 0..WORLDS {
        PLAN.in_world(world).run(async |scene| {
            let placed = scene.stage.now();
            scene.alice.call(&scene.bob);
            let rang = scene.bob.rings().await - placed;
            scene.pass(ms(600)).await;
            let direct = scene.direct_since(placed).unwrap() - placed;
            eprintln!("rang after {rang:?}, direct after {direct:?}");
            assert!(rang <= ms(70));
            assert!(direct <= ms(220), "{direct:?}");
            scene.bob.tell(Command::Accept);
            scene.alice.hears().await;
            scene.bob.hears().await;
            scene.pass(secs(3)).await;
            for ended in scene.hang_up().await {
                assert_eq!(kinds(&ended.report).last(), Some(&PathKind::Direct));
                assert_eq!(audio(&ended.report).packets.lost, Some(0));
            }
        });
    }
}

#[test]
fn a_call_answered_at_once_becomes_direct_without_a_gap() {
    for world in 0..WORLDS {
        let plan = Plan {
            seed: SEED + 40,
            at_once: true,
            ..PLAN
        };
        plan.in_world(world).run(async |scene| {
            let placed = scene.stage.now();
            scene.alice.call(&scene.bob);
            scene.alice.hears().await;
            scene.bob.hears().await;
            scene.pass(secs(3)).await;
            let direct = scene.direct_since(placed).unwrap() - placed;
            let ended = scene.hang_up().await;
            show(
                &format!("answered at once, direct after {direct:?}"),
                &ended,
            );
            assert!(direct <= ms(220), "{direct:?}");
            for ended in &ended {
                assert_eq!(kinds(&ended.report).last(), Some(&PathKind::Direct));
                assert_eq!(audio(&ended.report).packets.lost, Some(0));
                assert_eq!(longest_gap(ended), 0);
            }
        });
    }
}

#[test]
fn the_step_from_the_relay_to_the_direct_path_loses_nothing() {
    let plan = Plan {
        seed: SEED + 10,
        at_once: true,
        ..PLAN
    };
    plan.run(async |scene| {
        // Sound begins by the relay: the direct way opens later.
        let nodes = |of: &Phone| vec![of.node];
        scene.stage.world.apply(Fault::Partition {
            left: nodes(&scene.alice),
            right: nodes(&scene.bob),
        });
        scene.alice.call(&scene.bob);
        scene.alice.hears().await;
        scene.pass(secs(2)).await;
        scene.stage.world.apply(Fault::Heal);
        let took = scene.until_direct(secs(15)).await;
        eprintln!("direct {took:?} after the way opened");
        assert!(took.is_some());
        scene.pass(secs(2)).await;
        let ended = scene.hang_up().await;
        show("upgrade", &ended);
        for ended in &ended {
            assert_eq!(kinds(&ended.report), [PathKind::Relay, PathKind::Direct]);
            assert_eq!(audio(&ended.report).packets.lost, Some(0));
            assert!(longest_gap(ended) <= 20);
        }
    });
}

// --- what finding them costs ---------------------------------------------------------------------

/// What left a device in the busiest second since `from`: everything, and the STUN packets to the other's addresses.
fn busiest_second(scene: &Scene, phone: &Phone, from: Duration) -> (usize, usize) {
    let packets = scene.tap.packets();
    let homes: Vec<SimNode> = scene.homes.iter().map(|home| home.node).collect();
    let left = |packet: &&PacketEvent| packet.from == phone.node && packet.sent_at >= from;
    let is_check = |packet: &&PacketEvent| {
        let is_stun = packet.contents.first().is_some_and(|first| *first < 4);
        is_stun && packet.to.is_none_or(|to| !homes.contains(&to))
    };
    let busiest = |mut times: Vec<Duration>| {
        times.sort_unstable();
        let starts = times.iter().enumerate();
        starts
            .map(|(n, start)| {
                times
                    .iter()
                    .skip(n)
                    .take_while(|at| **at < *start + secs(1))
                    .count()
            })
            .max()
            .unwrap_or_default()
    };
    let all = packets.iter().filter(left);
    let everything = all.clone().map(|packet| packet.sent_at).collect();
    let checks = all.filter(is_check).map(|packet| packet.sent_at).collect();
    (busiest(everything), busiest(checks))
}

/// Mappings that the router before a device has made so far.
fn mappings(scene: &Scene, n: usize) -> u64 {
    let router = scene.sites[n].router().unwrap();
    scene.stage.world.nat_stats(router).mappings_created
}

/// Packets of a call's first seconds beside checks: handshakes, relays, reports, in a second.
const REST_PER_SECOND: usize = 150;

#[test]
fn setting_an_ordinary_call_up_is_easy_on_routers() {
    for world in 0..WORLDS {
        let plan = Plan {
            seed: SEED + 60,
            ..PLAN
        };
        plan.in_world(world).run(async |scene| {
            let placed = scene.stage.now();
            scene.alice.call(&scene.bob);
            scene.bob.rings().await;
            scene.pass(secs(5)).await;
            for phone in scene.phones() {
                let (everything, checks) = busiest_second(scene, phone, placed);
                eprintln!("{everything} packets in a second, {checks} of them checks");
                assert!(checks <= 60 && everything <= checks + REST_PER_SECOND);
            }
            scene.bob.tell(Command::Accept);
            scene.alice.hears().await;
            scene.pass(secs(2)).await;
            for ended in scene.hang_up().await {
                let search = ended.report.network.as_ref().unwrap().search.unwrap();
                eprintln!("{search:?}");
                assert_eq!(search.restarts, 0);
                assert!(search.flows <= u64::from(ORDINARY_FLOWS));
                assert!(search.packets > 0);
            }
        });
    }
}

/// Two machines with many addresses behind routers that never let them find each other: what the busiest second had,
/// and how many mappings the routers made, in `watched`.
fn crowded(watched: Duration, without: fn(&mut Upkeep)) -> (usize, u64) {
    let plan = Plan {
        seed: SEED + 70,
        world: 1,
        nats: [NatKind::Symmetric; 2],
        without,
        ..PLAN
    };
    plan.run(async |scene| {
        for (n, site) in scene.sites.iter().enumerate() {
            let number = u8::try_from(n).unwrap() + 1;
            let bridges = (3..12).map(|host| IpAddr::from([192, 168, number, host]));
            scene.stage.world.apply(Fault::Addresses {
                node: site.node,
                addresses: std::iter::once(site.address).chain(bridges).collect(),
            });
        }
        scene.pass(secs(10)).await;
        let before = [0, 1].map(|n| mappings(scene, n));
        let placed = scene.stage.now();
        scene.alice.call(&scene.bob);
        scene.bob.rings().await;
        scene.pass(watched).await;
        let made = [0, 1].map(|n| mappings(scene, n) - before[n]);
        let checks = scene
            .phones()
            .map(|phone| busiest_second(scene, phone, placed).1);
        eprintln!("{checks:?} checks in a second, {made:?} mappings made");
        (
            checks.into_iter().max().unwrap(),
            made.into_iter().max().unwrap(),
        )
    })
}

#[test]
fn many_addresses_stay_within_the_budget() {
    // The first try.
    let (checks, made) = crowded(CHECK_LIMIT, |_nothing| {});
    assert!(checks > 100, "too few addresses to prove anything");
    assert!(checks <= SETUP_PACKETS_PER_SECOND as usize);
    assert!(made <= u64::from(SETUP_FLOWS));
}

#[test]
fn without_a_pace_many_addresses_break_the_budget() {
    let (checks, _made) = crowded(secs(2), |upkeep| upkeep.pace_checks = false);
    assert!(checks > SETUP_PACKETS_PER_SECOND as usize);
}

#[test]
fn every_pair_of_easy_routers_becomes_direct() {
    use NatKind::{Addr, Cgnat, Full, None, Port};
    let kinds = [None, Full, Addr, Port, Cgnat];
    let mut n = 20;
    for (i, a) in kinds.into_iter().enumerate() {
        for b in kinds.into_iter().skip(i) {
            n += 1;
            let plan = Plan {
                seed: SEED + n,
                nats: [a, b],
                ..PLAN
            };
            plan.run(async |scene| {
                scene.talk().await;
                let direct = scene.until_direct(secs(3)).await;
                eprintln!("{a}, {b}: direct after {direct:?}");
                assert!(direct.is_some(), "{a}, {b}");
                scene.hang_up().await;
            });
        }
    }
}

// --- keeping them --------------------------------------------------------------------------------

/// Talks until all is settled, lets `fault` happen, goes on for `after`, and returns both endings.
fn with_fault(plan: Plan, after: Duration, fault: impl AsyncFnOnce(&Scene)) -> [Ended; 2] {
    plan.run(async |scene| {
        scene.talk().await;
        scene.pass(secs(3) + ms(137 * plan.world)).await;
        fault(scene).await;
        scene.pass(after).await;
        scene.hang_up().await
    })
}

/// The longest gap that either side heard, in milliseconds; nothing if the call did not survive.
fn gap(what: &str, ended: &[Ended; 2]) -> Option<u64> {
    show(what, ended);
    let survived = ended
        .iter()
        .all(|ended| ended.report.outcome == Outcome::Completed);
    survived.then(|| ended.iter().map(longest_gap).max().unwrap())
}

/// The fault in five worlds: the call survives each, and no gap is as long as `bar`, in milliseconds.
fn holds(what: &str, plan: Plan, after: Duration, bar: u64, fault: impl Fn(&Scene)) {
    let gaps: Vec<Option<u64>> = (0..WORLDS)
        .map(|world| {
            let plan = plan.in_world(world);
            gap(what, &with_fault(plan, after, async |scene| fault(scene)))
        })
        .collect();
    eprintln!("{what}: gaps {gaps:?} ms, bar {bar} ms");
    for gap in &gaps {
        assert!(gap.is_some_and(|gap| gap < bar), "{what}: {gaps:?}");
    }
}

/// With something switched off, the call does not survive the fault, or its gap is as long as `bar`.
fn fails(what: &str, plan: Plan, after: Duration, bar: u64, fault: impl Fn(&Scene)) {
    let gap = gap(what, &with_fault(plan, after, async |scene| fault(scene)));
    eprintln!("{what}: gap {gap:?} ms, bar {bar} ms");
    assert!(
        gap.is_none_or(|gap| gap >= bar),
        "{what}: it holds all the same, {gap:?}"
    );
}

/// Only silence that QUIC itself notices ends a path.
fn no_failover(upkeep: &mut Upkeep) {
    upkeep.session.failover = false;
    upkeep.session.duplication = false;
}

const CUT_BAR: u64 = 300;

fn cut(scene: &Scene) {
    scene.stage.world.apply(Fault::Partition {
        left: vec![scene.alice.node],
        right: vec![scene.bob.node],
    });
}

#[test]
fn the_direct_path_is_cut() {
    let plan = Plan {
        seed: SEED + 100,
        ..PLAN
    };
    holds("cut", plan, secs(5), CUT_BAR, cut);
}

#[test]
fn without_failover_a_cut_is_heard() {
    let plan = Plan {
        seed: SEED + 101,
        without: no_failover,
        ..PLAN
    };
    fails("cut, no failover", plan, secs(5), CUT_BAR, cut);
}

const BAR: u64 = 1000;

fn reboot(scene: &Scene) {
    let router = scene.sites[0].router().unwrap();
    scene.stage.world.apply(Fault::NatReboot(router));
}

#[test]
fn a_router_reboots_and_forgets_every_binding() {
    // Directly; relayed, since there is no other way; relayed, since it is wished so.
    for (n, nat, path) in [
        (0, NatKind::Port, PathPolicy::Auto),
        (1, NatKind::Symmetric, PathPolicy::Auto),
        (2, NatKind::Port, PathPolicy::Relay),
    ] {
        let plan = Plan {
            seed: SEED + 110 + n,
            nats: [nat, nat],
            path,
            ..PLAN
        };
        let what = format!("reboot of {nat}, {path}");
        holds(&what, plan, secs(12), BAR, reboot);
    }
}

#[test]
fn without_probes_a_reboot_is_heard() {
    let plan = Plan {
        seed: SEED + 113,
        nats: [NatKind::Symmetric, NatKind::Symmetric],
        without: |upkeep| upkeep.probe_relays = false,
        ..PLAN
    };
    fails("reboot, no probes", plan, secs(12), BAR, reboot);
}

fn caller_moves(scene: &Scene) {
    move_out(scene, 0);
}

fn callee_moves(scene: &Scene) {
    move_out(scene, 1);
}

fn both_move(scene: &Scene) {
    move_out(scene, 0);
    move_out(scene, 1);
}

/// Into the network of another house.
fn move_out(scene: &Scene, n: usize) {
    let number = 9 + u8::try_from(n).unwrap();
    let (name, site) = (format!("elsewhere {n}"), &scene.sites[n]);
    scene
        .stage
        .world
        .move_site(&name, site, NatKind::Port, number);
}

#[test]
fn a_device_moves_to_another_network() {
    for (n, path) in [(0, PathPolicy::Auto), (1, PathPolicy::Relay)] {
        let plan = Plan {
            seed: SEED + 120 + n,
            path,
            ..PLAN
        };
        let what = format!("moved, {path}");
        holds(&format!("{what}, caller"), plan, secs(8), BAR, caller_moves);
        holds(&format!("{what}, callee"), plan, secs(8), BAR, callee_moves);
    }
}

#[test]
fn a_move_that_nothing_notices_is_heard() {
    let plan = Plan {
        seed: SEED + 124,
        without: |upkeep| {
            upkeep.watch_networks = false;
            upkeep.probe_relays = false;
            upkeep.restart_ice = false;
        },
        ..PLAN
    };
    fails("moved unnoticed", plan, secs(8), BAR, caller_moves);
}

const BOTH_BAR: u64 = 3000;

#[test]
fn both_devices_move_at_once() {
    let plan = Plan {
        seed: SEED + 130,
        ..PLAN
    };
    holds("both moved", plan, secs(12), BOTH_BAR, both_move);
}

#[test]
fn without_follow_ups_two_who_both_moved_do_not_find_each_other() {
    let plan = Plan {
        seed: SEED + 131,
        without: |upkeep| upkeep.follow_ups = false,
        ..PLAN
    };
    fails(
        "both moved, no follow-ups",
        plan,
        secs(12),
        BOTH_BAR,
        both_move,
    );
}

#[test]
fn devices_move_after_all_that_was_delivered_is_forgotten() {
    for moving in [&[0][..], &[1], &[0, 1]] {
        let plan = Plan {
            seed: SEED + 135,
            ..PLAN
        };
        let ended = with_fault(plan, secs(8), async |scene| {
            // Supernodes take replies to a delivery for three minutes.
            scene.pass(secs(200)).await;
            moving.iter().for_each(|n| move_out(scene, *n));
        });
        show(&format!("{moving:?} moved late"), &ended);
        for ended in &ended {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            assert!(longest_gap(ended) < BOTH_BAR);
        }
    }
}

#[test]
fn a_home_dies_while_it_relays() {
    let plan = Plan {
        seed: SEED + 140,
        homes: 2,
        path: PathPolicy::Relay,
        ..PLAN
    };
    for n in 0..2 {
        holds(&format!("home {n} killed"), plan, secs(8), BAR, |scene| {
            scene.stage.kill(&scene.homes[n])
        });
    }
}

#[test]
fn without_a_second_home_the_death_of_the_first_is_heard() {
    let plan = Plan {
        seed: SEED + 142,
        path: PathPolicy::Relay,
        ..PLAN
    };
    fails("the only home killed", plan, secs(8), BAR, |scene| {
        scene.stage.kill(&scene.homes[0])
    });
}

/// What the person sees of the call.
fn phase(phone: &Phone) -> Option<Phase> {
    let call = phone.engine.view().borrow().call.clone();
    call.map(|call| call.phase)
}

/// Twenty seconds without a line at one side, and whether both said so meanwhile; then how long until both talk
/// again, if they do within six seconds.
async fn offline(scene: &Scene) -> (bool, Option<Duration>) {
    let down = scene.alice.node;
    scene.stage.world.apply(Fault::UpstreamDown(down));
    scene.pass(secs(20)).await;
    let waits = |phone: &Phone| phase(phone) == Some(Phase::Reconnecting);
    let said = scene.phones().into_iter().all(waits);
    scene.stage.world.apply(Fault::UpstreamUp(down));
    let back = scene.stage.now();
    let talks = |phone: &Phone| matches!(phase(phone), Some(Phase::Talking { .. }));
    while !scene.phones().into_iter().all(talks) {
        scene.pass(ms(20)).await;
        if scene.stage.now() - back > secs(6) {
            return (said, None);
        }
    }
    (said, Some(scene.stage.now() - back))
}

#[test]
fn twenty_seconds_without_a_network_are_told_and_survived() {
    for world in 0..WORLDS {
        let plan = Plan {
            seed: SEED + 150,
            ..PLAN
        };
        let ended = with_fault(plan.in_world(world), secs(2), async |scene| {
            let (said, back) = offline(scene).await;
            eprintln!("back {back:?} after the line");
            assert!(said && back.is_some());
        });
        show("no network", &ended);
        for ended in &ended {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            // They hear each other, not only of each other.
            assert!(longest_gap(ended) < 20_000 + 6_000);
        }
    }
}

#[test]
fn less_patience_does_not_survive_twenty_seconds_without_a_network() {
    let plan = Plan {
        seed: SEED + 151,
        without: |upkeep| upkeep.session.lost_after = secs(10),
        ..PLAN
    };
    plan.run(async |scene| {
        scene.talk().await;
        scene.pass(secs(3)).await;
        let (said, back) = offline(scene).await;
        assert!(!said && back.is_none());
        for phone in scene.phones() {
            assert_eq!(phone.ends(SOON).await.report.outcome, Outcome::Lost);
        }
    });
}
