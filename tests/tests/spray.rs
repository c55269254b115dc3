//! Guessing ports: one side's NAT maps by address and port, the other's filters by address and port. The shipped engine
//! in virtual time, with everybody 20 ms from the middle.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ahoy::{
    engine::{config::PathPolicy, handle::Command},
    report::{Outcome, PathKind},
    sim::{Conditions, Fault, NatConfig, NatKind, PacketEvent, PortAllocation, Site},
};
use ahoy_nat::ice::spray::{MAX_HARD_FLOWS, MAX_PROBES};
use ahoy_tests::{
    pair::{SOON, audio, kinds, ms, secs},
    people::{Ended, Home, Phone, Stage, Wiretap},
};

const SEED: u64 = 0x0003_0900;
const HOME: [u8; 4] = [203, 0, 113, 1];
const ACCESS: Duration = Duration::from_millis(20);
/// Within which guessing has to be done, from the acceptance on.
const LIMIT: Duration = Duration::from_secs(15);
/// Longest silence while the way changes.
const NO_GAP_MS: u64 = 20;

#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    nats: [NatKind; 2],
    /// How the NATs that map by address and port pick ports.
    ports: PortAllocation,
    guess: bool,
    path: PathPolicy,
}

const PLAN: Plan = Plan {
    seed: SEED,
    nats: [NatKind::Symmetric, NatKind::Port],
    ports: PortAllocation::Random,
    guess: true,
    path: PathPolicy::Auto,
};

struct Scene {
    stage: Stage,
    sites: [Site; 2],
    alice: Phone,
    bob: Phone,
    tap: Wiretap,
    _home: Home,
    _folder: tempfile::TempDir,
}

impl Plan {
    fn run<T>(self, play: impl AsyncFnOnce(&Scene) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(self.seed, folder.path());
        let director = stage.director;
        let tap = stage.wiretap();
        let sites = [("alice", self.nats[0], 1), ("bob", self.nats[1], 2)].map(|(name, nat, n)| {
            let site = stage.world.add_site(name, nat, n);
            let link = Conditions::with_delay(ACCESS);
            stage.world.set_link(site.node, link);
            if matches!(nat, NatKind::Symmetric | NatKind::CgnatSym) {
                let outermost = *site.nats.last().unwrap();
                let config = NatConfig {
                    ports: self.ports,
                    ..NatConfig::hard()
                };
                stage.world.apply(Fault::NatConfig {
                    nat: outermost,
                    config,
                });
            }
            site
        });
        let made = stage.world.block_on(director, async {
            let home = stage.home("home", HOME).await;
            let phone = |name, site: &Site| {
                let identity = stage.identity();
                stage.phone_on(
                    name,
                    site.node,
                    site.address,
                    &identity,
                    &[&home],
                    |config| {
                        config.path = self.path;
                        config.guess_ports = self.guess;
                    },
                )
            };
            let (alice, bob) = (phone("Alice", &sites[0]), phone("Bob", &sites[1]));
            alice.befriend(&bob);
            alice.ready().await;
            bob.ready().await;
            // The NATs are measured meanwhile.
            stage.pass(secs(5)).await;
            (home, alice, bob)
        });
        let (home, alice, bob) = made.unwrap();
        let scene = Scene {
            stage,
            sites,
            alice,
            bob,
            tap,
            _home: home,
            _folder: folder,
        };
        scene.stage.world.block_on(director, play(&scene)).unwrap()
    }
}

impl Scene {
    async fn pass(&self, duration: Duration) {
        self.stage.pass(duration).await;
    }

    /// Talks; says when it was accepted.
    async fn talk(&self) -> Duration {
        self.alice.call(&self.bob);
        self.bob.rings().await;
        self.pass(ms(500)).await;
        let accepted = self.stage.now();
        self.bob.tell(Command::Accept);
        self.alice.hears().await;
        self.bob.hears().await;
        accepted
    }

    async fn hang_up(&self) -> [Ended; 2] {
        self.alice.tell(Command::HangUp);
        [self.alice.ends(SOON).await, self.bob.ends(SOON).await]
    }

    /// Waits until both speak directly, and says when that was.
    async fn until_direct(&self, limit: Duration) -> Option<Duration> {
        let is_direct = |phone: &Phone| {
            let call = phone.engine.view().borrow().call.clone();
            call.and_then(|call| call.path) == Some("direct")
        };
        while ![&self.alice, &self.bob].into_iter().all(is_direct) {
            if self.stage.now() > limit {
                return None;
            }
            self.pass(ms(20)).await;
        }
        Some(self.stage.now())
    }

    /// What the search cost each side, by the packets on its wires.
    fn spent(&self) -> [Spent; 2] {
        let packets = self.tap.packets();
        let [alice, bob] = [(&self.alice, 1), (&self.bob, 0)].map(|(phone, other)| {
            let public = self.sites[other].public;
            let mut spent = Spent::default();
            let mut met = false;
            for packet in packets.iter().filter(|packet| packet.from == phone.node) {
                met |= packet.dropped.is_none() && packet.sent_dst.ip() == public;
                spent.note(
                    packet,
                    phone.addr.port(),
                    packet.sent_dst.ip() == public,
                    met,
                );
            }
            spent
        });
        [alice, bob]
    }
}

/// Of one side.
#[derive(Debug, Default)]
struct Spent {
    /// Pairs of an extra socket and a remote endpoint.
    holes: BTreeSet<(u16, std::net::SocketAddr)>,
    /// Ports of the other side's outside address that were tried, and when for the first time.
    tried: BTreeMap<u16, Duration>,
    /// When extra sockets sent before one was met.
    sent: Vec<Duration>,
}

impl Spent {
    fn note(&mut self, packet: &PacketEvent, own_port: u16, to_other: bool, met: bool) {
        if packet.sent_src.port() != own_port {
            self.holes.insert((packet.sent_src.port(), packet.sent_dst));
            if !met {
                self.sent.push(packet.sent_at);
            }
        } else if to_other {
            let first = self.tried.entry(packet.sent_dst.port());
            first.or_insert(packet.sent_at);
        }
    }

    /// Most in any second: packets of extra sockets, and ports tried for the first time.
    fn rates(&self) -> [usize; 2] {
        let rate = |times: Vec<Duration>| {
            let within = |from: Duration| {
                let in_second = |at: &&Duration| (from..from + secs(1)).contains(*at);
                times.iter().filter(in_second).count()
            };
            times.iter().map(|from| within(*from)).max().unwrap_or(0)
        };
        let mut sent = self.sent.clone();
        sent.sort_unstable();
        let mut tried: Vec<Duration> = self.tried.values().copied().collect();
        tried.sort_unstable();
        [rate(sent), rate(tried)]
    }

    fn is_nothing(&self) -> bool {
        // Candidates are no guesses.
        self.holes.is_empty() && self.tried.len() < 4
    }
}

fn assert_seamless(what: &str, ended: &[Ended; 2], expected: &[PathKind]) {
    for ended in ended {
        let report = &ended.report;
        let sound = audio(report);
        eprintln!(
            "{what}: {:?}, gap {:?} ms, lost {:?}",
            report
                .paths
                .iter()
                .map(|path| (path.at_ms, path.kind))
                .collect::<Vec<_>>(),
            sound.longest_gap_ms,
            sound.packets.lost
        );
        assert_eq!(report.outcome, Outcome::Completed, "{what}");
        assert_eq!(kinds(report), expected, "{what}");
        assert_eq!(sound.packets.lost, Some(0), "{what}");
        assert!(sound.longest_gap_ms.unwrap() <= NO_GAP_MS, "{what}");
    }
}

fn assert_within_budget(what: &str, spent: &[Spent; 2]) {
    for spent in spent {
        let [sent, tried] = spent.rates();
        eprintln!(
            "{what}: {} holes, {} tried, at most {sent} and {tried} in a second",
            spent.holes.len(),
            spent.tried.len()
        );
        assert!(spent.holes.len() as u64 <= MAX_HARD_FLOWS, "{what}");
        // And the candidates that ICE tries.
        assert!(spent.tried.len() as u64 <= MAX_PROBES + 4, "{what}");
        assert!(sent <= 101 && tried <= 104, "{what}");
    }
}

/// The reports tell of it.
fn assert_told(what: &str, ended: &[Ended; 2], spent: &[Spent; 2], guess: bool) {
    for (ended, spent) in ended.iter().zip(spent) {
        let search = ended.report.network.as_ref().unwrap().search.unwrap();
        eprintln!("{what}: {search:?}");
        assert_eq!(search.guesses > 0, guess, "{what}");
        let holes = spent.holes.len() as u64;
        // ICE's checks are among the tried.
        let tried = spent.tried.len().saturating_sub(4) as u64;
        assert!(search.flows >= holes.max(tried), "{what}");
        assert!(search.packets >= search.flows, "{what}");
    }
}

/// Ten calls; how many became direct in time.
fn wins(guess: bool) -> usize {
    use NatKind::{Cgnat, CgnatSym, Port, Symmetric};
    let pairs = [
        [Symmetric, Port],
        [Port, Symmetric],
        [CgnatSym, Port],
        [Cgnat, Symmetric],
        [CgnatSym, Cgnat],
    ];
    let mut won = 0;
    for (n, nats) in (0..10).zip(pairs.into_iter().cycle()) {
        let plan = Plan {
            seed: SEED + n,
            nats,
            guess,
            ..PLAN
        };
        let what = format!("seed {}, {} calls {}", plan.seed, nats[0], nats[1]);
        plan.run(async |scene| {
            let accepted = scene.talk().await;
            let direct = scene.until_direct(accepted + LIMIT).await;
            scene.pass(secs(1)).await;
            let ended = scene.hang_up().await;
            let spent = scene.spent();
            let after = direct.map(|at| at - accepted);
            eprintln!("{what}: direct after {after:?}");
            if after.is_some() {
                won += 1;
                assert_seamless(&what, &ended, &[PathKind::Relay, PathKind::Direct]);
            } else {
                assert_seamless(&what, &ended, &[PathKind::Relay]);
            }
            assert_within_budget(&what, &spent);
            assert_told(&what, &ended, &spent, guess);
            assert!(guess || spent.iter().all(Spent::is_nothing), "{what}");
        });
    }
    won
}

#[test]
fn a_hard_nat_and_a_port_filter_become_direct_nine_times_of_ten_and_lose_no_word() {
    let won = wins(true);
    eprintln!("{won} of 10 within {LIMIT:?}");
    assert!(won >= 9, "{won} of 10");
}

#[test]
fn without_guessing_they_never_do() {
    assert_eq!(wins(false), 0);
}

#[test]
fn ports_that_follow_a_rule_are_found_with_few_tries() {
    for (n, ports) in [PortAllocation::Sequential, PortAllocation::Preserving]
        .into_iter()
        .enumerate()
    {
        let plan = Plan {
            seed: SEED + 100 + n as u64,
            ports,
            ..PLAN
        };
        plan.run(async |scene| {
            let accepted = scene.talk().await;
            let direct = scene.until_direct(accepted + secs(4)).await;
            let ended = scene.hang_up().await;
            let tried = scene.spent()[1].tried.len();
            eprintln!(
                "{ports:?}: {:?}, {tried} tried",
                direct.map(|at| at - accepted)
            );
            let expected = [PathKind::Relay, PathKind::Direct];
            assert_seamless(&format!("{ports:?}"), &ended, &expected);
            assert!(tried < 100, "{tried}");
        });
    }
}

#[test]
fn nobody_guesses_where_it_is_hopeless_needless_or_unwanted() {
    use NatKind::{Addr, Port, Symmetric};
    let cases = [
        ([Symmetric, Symmetric], PathPolicy::Auto),
        ([Port, Port], PathPolicy::Auto),
        ([Symmetric, Addr], PathPolicy::Auto),
        ([Symmetric, Port], PathPolicy::Relay),
    ];
    for (n, (nats, path)) in cases.into_iter().enumerate() {
        let plan = Plan {
            seed: SEED + 200 + n as u64,
            nats,
            path,
            ..PLAN
        };
        plan.run(async |scene| {
            scene.talk().await;
            scene.pass(secs(10)).await;
            scene.hang_up().await;
            for spent in scene.spent() {
                assert!(spent.is_nothing(), "{nats:?} {path}: {spent:?}");
            }
        });
    }
}
