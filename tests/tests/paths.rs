//! How calls find direct paths behind routers, and keep them: the shipped engine in virtual time.
//!
//! Everybody is 10 ms from the middle, so that a relay is 20 ms of round trip away and the other person 40 ms.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use ahoy::{
    engine::{
        config::{Answering, PathPolicy},
        handle::{Command, Phase},
    },
    report::{Outcome, PathKind},
    sim::{Conditions, Fault, NatKind, PacketEvent, Site},
};
use ahoy_tests::{
    pair::{SOON, audio, kinds, ms, secs},
    people::{Ended, Home, Phone, Stage, Wiretap},
};

const SEED: u64 = 0x0003_0400;
const HOMES: [[u8; 4]; 2] = [[203, 0, 113, 1], [192, 0, 2, 2]];
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
    nats: [NatKind; 2],
    homes: usize,
    path: PathPolicy,
    /// Nobody touches a telephone: it accepts by itself, at once.
    at_once: bool,
}

const PLAN: Plan = Plan {
    seed: SEED,
    nats: [NatKind::Port, NatKind::Port],
    homes: 1,
    path: PathPolicy::Auto,
    at_once: false,
};

impl Plan {
    fn run<T>(self, play: impl AsyncFnOnce(&Scene) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(self.seed, folder.path());
        let director = stage.director;
        let tap = stage.wiretap();
        let sites = [("alice", self.nats[0], 1), ("bob", self.nats[1], 2)].map(|(name, nat, n)| {
            let site = stage.world.add_site(name, nat, n);
            stage
                .world
                .set_link(site.node, Conditions::with_delay(ACCESS));
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
        [self.alice.ends(SOON).await, self.bob.ends(SOON).await]
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

#[test]
fn behind_two_home_routers_a_call_is_direct_soon_after_it_was_placed() {
    for n in 0..3 {
        let plan = Plan {
            seed: SEED + n,
            ..PLAN
        };
        plan.run(async |scene| {
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
                let search = ended.report.network.as_ref().unwrap().search.unwrap();
                eprintln!("{search:?}");
                // A router remembers two addresses of the other side for it, and carries ten packets per second.
                assert_eq!(search.restarts, 0);
                assert!(search.flows <= 2 && search.packets < 120);
                assert_eq!(audio(&ended.report).packets.lost, Some(0));
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
        scene.pass(secs(3)).await;
        fault(scene).await;
        scene.pass(after).await;
        scene.hang_up().await
    })
}

#[test]
fn the_direct_path_is_cut() {
    let plan = Plan {
        seed: SEED + 100,
        ..PLAN
    };
    let ended = with_fault(plan, secs(5), async |scene| {
        scene.stage.world.apply(Fault::Partition {
            left: vec![scene.alice.node],
            right: vec![scene.bob.node],
        });
    });
    show("cut", &ended);
    for ended in &ended {
        assert_eq!(ended.report.outcome, Outcome::Completed);
        assert!(longest_gap(ended) < 300);
    }
}

#[test]
fn a_router_reboots_and_forgets_every_binding() {
    for (n, nat) in [(0, NatKind::Port), (1, NatKind::Symmetric)] {
        let plan = Plan {
            seed: SEED + 110 + n,
            nats: [nat, NatKind::Port],
            ..PLAN
        };
        let ended = with_fault(plan, secs(12), async |scene| {
            let router = scene.sites[0].router().unwrap();
            scene.stage.world.apply(Fault::NatReboot(router));
        });
        show(&format!("reboot of {nat}"), &ended);
        for ended in &ended {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            assert!(longest_gap(ended) < 1000);
        }
    }
}

#[test]
fn a_device_moves_to_another_network() {
    for (n, path) in [(0, PathPolicy::Auto), (1, PathPolicy::Relay)] {
        for caller in [true, false] {
            let plan = Plan {
                seed: SEED + 120 + n,
                path,
                ..PLAN
            };
            let ended = with_fault(plan, secs(8), async |scene| {
                let site = &scene.sites[usize::from(!caller)];
                scene
                    .stage
                    .world
                    .move_site("elsewhere", site, NatKind::Port, 9);
            });
            show(&format!("moved, {path}, caller {caller}"), &ended);
            for ended in &ended {
                assert_eq!(ended.report.outcome, Outcome::Completed);
                assert!(longest_gap(ended) < 1000);
            }
        }
    }
}

#[test]
fn both_devices_move_at_once() {
    let plan = Plan {
        seed: SEED + 130,
        ..PLAN
    };
    let ended = with_fault(plan, secs(12), async |scene| {
        for (n, site) in scene.sites.iter().enumerate() {
            let number = 9 + u8::try_from(n).unwrap();
            let name = format!("elsewhere {n}");
            scene
                .stage
                .world
                .move_site(&name, site, NatKind::Port, number);
        }
    });
    show("both moved", &ended);
    for ended in &ended {
        assert_eq!(ended.report.outcome, Outcome::Completed);
        assert!(longest_gap(ended) < 3000);
    }
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
            for n in moving {
                let number = 9 + u8::try_from(*n).unwrap();
                let name = format!("elsewhere {n}");
                let site = &scene.sites[*n];
                scene
                    .stage
                    .world
                    .move_site(&name, site, NatKind::Port, number);
            }
        });
        show(&format!("{moving:?} moved late"), &ended);
        for ended in &ended {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            assert!(longest_gap(ended) < 3000);
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
        let ended = with_fault(plan, secs(8), async |scene| {
            scene.stage.kill(&scene.homes[n]);
        });
        show(&format!("home {n} killed"), &ended);
        for ended in &ended {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            assert!(longest_gap(ended) < 1000);
        }
    }
}

#[test]
fn twenty_seconds_without_a_network_are_told_and_survived() {
    let plan = Plan {
        seed: SEED + 150,
        ..PLAN
    };
    let ended = with_fault(plan, secs(2), async |scene| {
        let down = scene.alice.node;
        scene.stage.world.apply(Fault::UpstreamDown(down));
        scene.pass(secs(20)).await;
        for phone in scene.phones() {
            let call = phone.engine.view().borrow().call.clone().unwrap();
            assert_eq!(call.phase, Phase::Reconnecting);
        }
        scene.stage.world.apply(Fault::UpstreamUp(down));
        let back = scene.stage.now();
        let talks = |phone: &Phone| {
            let call = phone.engine.view().borrow().call.clone().unwrap();
            matches!(call.phase, Phase::Talking { .. })
        };
        while !scene.phones().into_iter().all(talks) {
            scene.pass(ms(20)).await;
            assert!(scene.stage.now() - back < secs(6), "not back in time");
        }
        eprintln!("back {:?} after the line", scene.stage.now() - back);
    });
    show("no network", &ended);
    for ended in &ended {
        assert_eq!(ended.report.outcome, Outcome::Completed);
    }
}
