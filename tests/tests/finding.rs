//! Finding people by their records: who publishes, who finds whom by which route, and what a table gains that hides,
//! lies or is dead. Virtual time, shipped engine, a table of our own making.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ahoy::{
    engine::{
        config::{EngineConfig, PathPolicy},
        handle::{Command, Event},
    },
    report::{FoundBy, Outcome, Report},
    sim::{Limits, World},
};
use ahoy_nat::discovery::{
    dht::{
        Dht, item, places_to_put,
        publisher::{PublishEvent, PublishPolicy, Publishable, Publisher},
        record_in,
    },
    record::{RECORD_LIFETIME_MILLIS, Record, RecordFields, RecordRules},
};
use ahoy_tests::{
    people::{Home, Phone, Stage, Wiretap},
    table::{Mood, Table},
    threat,
};
use ahoy_transport::{
    identity::{LogPosition, NodeAddress, NodeKeys, RootKey},
    runtime::{Runtime, RuntimeExt},
};
use tokio::sync::{mpsc, watch};

const SEED: u64 = 0x00f1_0001;
const HOMES: [[u8; 4]; 3] = [[203, 0, 113, 1], [192, 0, 2, 2], [198, 18, 0, 3]];
const ALICE: [u8; 4] = [198, 51, 100, 1];
const BOB: [u8; 4] = [198, 51, 100, 2];
/// A person who waits for a search that meets no dead home.
const FOUND_MS: f64 = 1500.0;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Three supernodes; Alice at the first, Bob at the second, and a table.
struct Scene {
    stage: Stage,
    homes: Vec<Home>,
    table: Table,
    tap: Wiretap,
    alice: Phone,
    bob: Phone,
}

/// Plays with what `adjust` makes of both engines.
fn play<T>(
    seed: u64,
    adjust: impl Fn(&mut EngineConfig),
    play: impl AsyncFnOnce(&Scene) -> T,
) -> T {
    play_after(seed, adjust, |_scene| {}, play)
}

/// The same, where `before` happened before both came online.
fn play_after<T>(
    seed: u64,
    adjust: impl Fn(&mut EngineConfig),
    before: impl Fn(&Scene),
    play: impl AsyncFnOnce(&Scene) -> T,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let tap = stage.wiretap();
    let table = Table::new(stage.world.runtime(director), false);
    let made = stage.world.block_on(director, async {
        let mut homes = Vec::new();
        for (n, ip) in HOMES.into_iter().enumerate() {
            homes.push(stage.home(&format!("home {n}"), ip).await);
        }
        let adjust = |config: &mut EngineConfig| {
            config.finding.dht = Some(Arc::new(table.clone()) as Arc<dyn Dht>);
            adjust(config);
        };
        let identity = stage.identity();
        let alice = stage.phone("Alice", ALICE, &identity, &[&homes[0]], adjust);
        let identity = stage.identity();
        let bob = stage.phone("Bob", BOB, &identity, &[&homes[1]], adjust);
        alice.befriend(&bob);
        (homes, alice, bob)
    });
    let (homes, alice, bob) = made.unwrap();
    let scene = Scene {
        stage,
        homes,
        table,
        tap,
        alice,
        bob,
    };
    before(&scene);
    let playing = async {
        scene.alice.ready().await;
        scene.bob.ready().await;
        play(&scene).await
    };
    scene.stage.world.block_on(director, playing).unwrap()
}

fn by_name(phone: &Phone) -> String {
    format!("ahoy:{}", phone.user)
}

impl Scene {
    /// Bob's record is put and read back.
    async fn published(&self) -> PublishEvent {
        let record = |event: &Event| {
            if let Event::Record(event) = event {
                Some(event.clone())
            } else {
                None
            }
        };
        self.bob.wait("a record", secs(60), record).await.1
    }

    /// Alice calls Bob by `link`; both talk.
    async fn talk(&self, link: String) -> Report {
        self.alice.tell(Command::Call(link));
        self.bob.rings().await;
        self.bob.tell(Command::Accept);
        self.alice.hears().await;
        self.alice.tell(Command::HangUp);
        self.bob.ends(secs(5)).await;
        self.alice.ends(secs(5)).await.report
    }

    /// Alice calls Bob by `link`, and he is not there.
    async fn fail(&self, link: String) -> Report {
        self.alice.tell(Command::Call(link));
        self.alice.ends(secs(60)).await.report
    }

    /// Packets of Alice to a supernode.
    fn knocks(&self, home: &Home) -> usize {
        let packets = self.tap.packets();
        let to = |packet: &&ahoy::sim::PacketEvent| {
            packet.from == self.alice.node && packet.to == Some(home.node)
        };
        packets.iter().filter(to).count()
    }
}

fn found(report: &Report) -> (Option<FoundBy>, f64) {
    assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
    let took = report.setup.lookup_ms.unwrap();
    eprintln!("found by {:?} in {took} ms", report.setup.found_by);
    (report.setup.found_by, took)
}

#[test]
fn somebody_is_found_by_name_alone() {
    play(
        SEED,
        |_| {},
        async |scene| {
            let PublishEvent::Published { put, readable } = scene.published().await else {
                panic!("not published");
            };
            assert_eq!((put.copies, put.stored, readable), (4, 4, Some(4)));
            let (route, took) = found(&scene.talk(by_name(&scene.bob)).await);
            assert_eq!(route, Some(FoundBy::Dht));
            assert!(took < FOUND_MS, "{took} ms");
            // The second time it is known where he is.
            let asked = scene.table.gets();
            let (route, took) = found(&scene.talk(by_name(&scene.bob)).await);
            assert_eq!(route, Some(FoundBy::Record));
            assert!(took < 200.0, "{took} ms");
            assert_eq!(scene.table.gets(), asked, "nobody waits for the table");
            let peers = scene.bob.book.as_ref();
            let own = ahoy::engine::book::AddressBook::known_record(peers, scene.bob.user);
            assert_eq!(
                own.unwrap().fields().homes,
                [scene.homes[1].address.clone()]
            );
        },
    );
    // Without the table he is nobody's.
    let off = |config: &mut EngineConfig| config.finding.dht = None;
    play(SEED, off, async |scene| {
        let report = scene.fail(by_name(&scene.bob)).await;
        assert_eq!(report.outcome, Outcome::Unreachable);
        assert_eq!(report.setup.found_by, None);
    });
}

#[test]
fn a_link_of_old_homes_works_after_they_are_gone_or_left() {
    for is_dead in [true, false] {
        play(
            SEED + 1,
            |_| {},
            async |scene| {
                scene.published().await;
                // Written when Bob was at the third one.
                let old = &scene.homes[2];
                if is_dead {
                    scene.stage.kill(old);
                }
                let link = format!("{}?home={}", by_name(&scene.bob), old.address);
                let (route, took) = found(&scene.talk(link).await);
                assert_eq!(route, Some(FoundBy::Dht));
                assert!(took < FOUND_MS, "{took} ms");
            },
        );
    }
}

/// No table but the supernodes that each of them knows.
fn by_supernodes(config: &mut EngineConfig) {
    config.finding.dht = None;
    config.finding.supernodes = true;
}

#[test]
fn supernodes_alone_tell_where_somebody_is() {
    // Bob was at the third supernode once, and Alice has met it, too.
    let served = |scene: &Scene| {
        for phone in [&scene.alice, &scene.bob] {
            let book: &dyn ahoy::engine::book::AddressBook = phone.book.as_ref();
            book.keep_nodes(&[scene.homes[2].address.clone()], 0);
        }
    };
    play_after(SEED + 7, by_supernodes, served, async |scene| {
        let PublishEvent::Published { put, readable } = scene.published().await else {
            panic!("not published");
        };
        assert_eq!((put.copies, put.stored, readable), (1, 1, Some(1)));
        assert_eq!(scene.homes[1].status().rendezvous.records, 1, "his own");
        assert_eq!(scene.homes[2].status().rendezvous.records, 2, "the old one");
        // Without a home in the link, and with an old one.
        let (route, took) = found(&scene.talk(by_name(&scene.bob)).await);
        assert_eq!(route, Some(FoundBy::Directory));
        assert!(took < FOUND_MS, "{took} ms");
        let asked = scene.alice.book.as_ref();
        let nodes = ahoy::engine::book::AddressBook::known_nodes(asked);
        assert!(nodes.contains(&scene.homes[1].address), "met by the call");
    });
    // A link whose supernode he left: it tells whoever asks there, also who knew nothing of it.
    let bob_only = |scene: &Scene| {
        let book: &dyn ahoy::engine::book::AddressBook = scene.bob.book.as_ref();
        book.keep_nodes(&[scene.homes[2].address.clone()], 0);
    };
    play_after(SEED + 8, by_supernodes, bob_only, async |scene| {
        scene.published().await;
        let old = &scene.homes[2].address;
        let link = format!("{}?home={old}", by_name(&scene.bob));
        let (route, took) = found(&scene.talk(link).await);
        assert_eq!(route, Some(FoundBy::Directory));
        assert!(took < FOUND_MS, "{took} ms");
    });
    // Without that, nobody tells.
    let nothing = |config: &mut EngineConfig| config.finding.dht = None;
    play_after(SEED + 9, nothing, served, async |scene| {
        scene.stage.pass(secs(30)).await;
        let report = scene.fail(by_name(&scene.bob)).await;
        assert_eq!(report.outcome, Outcome::Unreachable);
        assert_eq!(scene.homes[2].status().rendezvous.records, 0);
    });
}

#[test]
fn a_home_that_answers_is_not_kept_waiting_by_the_table() {
    for mood in [Mood::Honest, Mood::Dead] {
        play(
            SEED + 2,
            |_| {},
            async |scene| {
                scene.published().await;
                scene.table.set_mood(mood);
                let asked = scene.table.gets();
                let (route, took) = found(&scene.talk(scene.bob.link()).await);
                assert_eq!(route, Some(FoundBy::Home));
                assert!(took < 200.0, "{took} ms");
                assert_eq!(scene.table.gets(), asked);
            },
        );
    }
}

/// Somebody was at the third home, then at the second, where Alice looked for them; now all nodes of the table serve the
/// first record. How many packets does Alice send to the third home, whose owner may be the attacker?
fn knocks_after_rollback(rules: RecordRules) -> usize {
    let adjust = move |config: &mut EngineConfig| config.finding.rules = rules;
    play(SEED + 3, adjust, async |scene| {
        let seq = 7;
        let root = scene.stage.identity().root().unwrap().clone();
        let record = |seq, home: &Home| {
            let fields = RecordFields {
                user: root.user(),
                seq,
                not_after_millis: scene
                    .stage
                    .world
                    .runtime(scene.stage.director)
                    .unix_millis()
                    + RECORD_LIFETIME_MILLIS,
                log_head: LogPosition {
                    n: 0,
                    hash: [0; 32],
                },
                homes: vec![home.address.clone()],
                sealed: vec![],
            };
            Record::issue(fields, &root)
        };
        let node = scene.table.open().await.unwrap();
        let (old, new) = (
            record(seq, &scene.homes[2]),
            record(seq + 1, &scene.homes[1]),
        );
        for place in places_to_put(root.user(), None, 0) {
            node.put(item(&old, &root, &place).unwrap()).await.unwrap();
        }
        for place in places_to_put(root.user(), None, 0) {
            node.put(item(&new, &root, &place).unwrap()).await.unwrap();
        }
        let link = format!("ahoy:{}", root.user());
        let report = scene.fail(link.clone()).await;
        assert_eq!(report.outcome, Outcome::Unreachable);
        let before = scene.knocks(&scene.homes[2]);
        assert_eq!(before, 0, "the newest record names another home");
        scene.table.set_mood(Mood::Old);
        scene.fail(link).await;
        scene.knocks(&scene.homes[2])
    })
}

#[test]
fn a_rolled_back_record_leads_nobody_anywhere() {
    let knocks = knocks_after_rollback(RecordRules::default());
    assert_eq!(knocks, 0);
    let forgetful = RecordRules {
        monotonic: false,
        ..RecordRules::default()
    };
    let without = knocks_after_rollback(forgetful);
    assert!(without > 0, "the attack works");
    threat(
        8,
        format_args!(
            "all nodes of the DHT serve the record of before: {knocks} packets go where it leads, {without} of who forgets"
        ),
    );
}

#[test]
fn contacts_find_what_is_hidden_from_everybody() {
    play(
        SEED + 4,
        |_| {},
        async |scene| {
            let capability = [7; 32];
            scene.bob.book.set_own_capability(capability);
            // Bob's own node reads back and tells, as soon as more than half of the copies are hidden.
            scene.table.set_mood(Mood::HidesPublic);
            let PublishEvent::Hidden { put, readable } = scene.published().await else {
                panic!("he does not notice");
            };
            assert_eq!((put.stored, readable), (6, 2), "4 hidden, 2 for contacts");
            let report = scene.fail(by_name(&scene.bob)).await;
            assert_eq!(report.outcome, Outcome::Unreachable, "a stranger");
            scene
                .alice
                .book
                .set_capability_of(scene.bob.user, capability);
            let (route, took) = found(&scene.talk(by_name(&scene.bob)).await);
            assert_eq!(route, Some(FoundBy::Dht));
            assert!(took < FOUND_MS, "{took} ms");
        },
    );
}

#[test]
fn whoever_hides_behind_relays_shows_no_address_to_the_table() {
    let relay = |config: &mut EngineConfig| config.path = PathPolicy::Relay;
    play(SEED + 5, relay, async |scene| {
        scene.stage.pass(secs(60)).await;
        scene.fail(by_name(&scene.bob)).await;
        assert_eq!(scene.table.puts().len(), 0);
        assert_eq!(scene.table.gets(), 0);
    });
}

#[test]
fn a_record_names_neither_device_nor_address_of_its_person() {
    play(
        SEED + 6,
        |_| {},
        async |scene| {
            scene.published().await;
            for (_at, item) in scene.table.puts() {
                let has =
                    |needle: &[u8]| item.value.windows(needle.len()).any(|part| part == needle);
                for phone in [&scene.alice, &scene.bob] {
                    let ip = phone.addr.ip().to_string();
                    assert!(!has(ip.as_bytes()), "{ip}");
                    let std::net::IpAddr::V4(v4) = phone.addr.ip() else {
                        panic!("all here have IPv4");
                    };
                    assert!(!has(&v4.octets()));
                }
                assert!(item.value.len() <= 800);
            }
        },
    );
}

// --- publishing, without an engine -----------------------------------------------------------------

#[derive(Debug)]
struct Person {
    root: Arc<RootKey>,
    seq: AtomicU64,
}

impl Publishable for Person {
    fn record(&self, homes: &[NodeAddress], now_millis: u64) -> Option<(Record, Arc<RootKey>)> {
        let fields = RecordFields {
            user: self.root.user(),
            seq: self.seq.fetch_add(1, Ordering::Relaxed),
            not_after_millis: now_millis + RECORD_LIFETIME_MILLIS,
            log_head: LogPosition {
                n: 0,
                hash: [0; 32],
            },
            homes: homes.to_vec(),
            sealed: vec![],
        };
        Some((Record::issue(fields, &self.root), Arc::clone(&self.root)))
    }

    fn capability(&self) -> Option<[u8; 32]> {
        None
    }
}

fn home(last: u8, ip: [u8; 4]) -> NodeAddress {
    NodeAddress::new(NodeKeys::from_seed(&[last; 32]).id(), (ip, 4433).into())
}

/// A day of one publisher, in the table's mood.
struct Day {
    world: World,
    table: Table,
    homes: watch::Sender<Vec<NodeAddress>>,
    publisher: Publisher,
    user: ahoy_transport::identity::UserId,
    director: ahoy::sim::SimNode,
}

impl Day {
    fn new(policy: PublishPolicy, public: bool) -> Self {
        eprintln!("seed {SEED:#x}");
        let world = World::new(SEED);
        world.set_limits(Limits {
            time: secs(48 * 3600),
            ..Limits::default()
        });
        let director = world.add_node("publisher", &[]);
        let runtime: Arc<dyn Runtime> = world.runtime(director);
        let table = Table::new(Arc::clone(&runtime), public);
        let root = Arc::new(RootKey::from_seed(&[5; 32]));
        let user = root.user();
        let (homes, receiver) = watch::channel(vec![]);
        let who = Arc::new(Person {
            root,
            seq: AtomicU64::new(1),
        });
        // Nobody listens.
        let (events, _) = mpsc::channel(1);
        let dht = Arc::new(table.clone());
        let publisher = Publisher::start(&runtime, dht, who, receiver, policy, events);
        Self {
            world,
            table,
            homes,
            publisher,
            user,
            director,
        }
    }

    fn pass(&self, duration: Duration) {
        let runtime = self.world.runtime(self.director);
        let passing = async move { runtime.sleep(duration).await };
        self.world.block_on(self.director, passing).unwrap();
    }

    fn is_there(&self) -> bool {
        let table = self.table.clone();
        let user = self.user;
        let reading = async move {
            use futures_util::StreamExt as _;
            let node = table.open().await.unwrap();
            node.get(user.0, None).next().await.is_some()
        };
        self.world.block_on(self.director, reading).unwrap()
    }
}

#[test]
fn a_record_is_renewed_every_hour_or_so_and_its_number_rises() {
    let day = Day::new(PublishPolicy::default(), true);
    day.pass(secs(60));
    assert!(day.table.puts().is_empty(), "no home, nothing to say");
    day.homes.send_replace(vec![home(1, [8, 8, 8, 8])]);
    day.pass(secs(24 * 3600));
    let puts = day.table.puts();
    let plain: Vec<_> = puts
        .iter()
        .filter(|(_at, item)| item.salt.is_none())
        .collect();
    assert_eq!(puts.len(), 4 * plain.len());
    for pair in plain.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!((secs(54 * 60)..=secs(67 * 60)).contains(&gap), "{gap:?}");
        assert_eq!(pair[1].1.seq, pair[0].1.seq + 1);
    }
    assert!((22..=27).contains(&plain.len()), "{}", plain.len());
    let gaps: std::collections::BTreeSet<_> =
        plain.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.len() > 20, "drawn at random");
    let counters = day.publisher.counters();
    assert_eq!(counters.published(), plain.len() as u64);
    assert_eq!((counters.hidden(), counters.failed()), (0, 0));
    assert!(day.is_there());

    // Whoever does not renew it is forgotten.
    let once = PublishPolicy {
        renew: false,
        ..PublishPolicy::default()
    };
    let day = Day::new(once, true);
    day.homes.send_replace(vec![home(1, [8, 8, 8, 8])]);
    day.pass(secs(60));
    assert!(day.is_there());
    day.pass(secs(2 * 3600));
    assert!(!day.is_there());
}

#[test]
fn new_homes_are_told_soon_and_a_home_that_blinks_is_not() {
    let day = Day::new(PublishPolicy::default(), true);
    let (one, two) = (home(1, [8, 8, 8, 8]), home(2, [8, 8, 4, 4]));
    day.homes.send_replace(vec![one.clone()]);
    day.pass(secs(60));
    assert_eq!(day.publisher.counters().published(), 1);
    day.homes.send_replace(vec![]);
    day.pass(secs(5));
    day.homes.send_replace(vec![one.clone()]);
    day.pass(secs(60));
    assert_eq!(day.publisher.counters().published(), 1, "it blinked");
    day.homes.send_replace(vec![one, two.clone()]);
    day.pass(secs(60));
    assert_eq!(day.publisher.counters().published(), 2);
    let newest = day.table.puts().pop().unwrap().1;
    let record = record_in(&newest, day.user).unwrap();
    assert_eq!(record.fields().homes.len(), 2);
    assert_eq!(record.fields().homes[1], two);
}

#[test]
fn a_hidden_record_is_noticed_by_who_reads_back() {
    for (read_back, hidden) in [(true, 1), (false, 0)] {
        let policy = PublishPolicy {
            read_back,
            ..PublishPolicy::default()
        };
        let day = Day::new(policy, true);
        day.table.set_mood(Mood::HidesPublic);
        day.homes.send_replace(vec![home(1, [8, 8, 8, 8])]);
        day.pass(secs(120));
        // All twenty nodes say that they stored it.
        let counters = day.publisher.counters();
        assert_eq!((counters.published(), counters.hidden()), (1, hidden));
    }
}

#[test]
fn a_dead_table_is_tried_again_less_and_less_often() {
    let day = Day::new(PublishPolicy::default(), true);
    day.table.set_mood(Mood::Dead);
    day.homes.send_replace(vec![home(1, [8, 8, 8, 8])]);
    day.pass(secs(3600));
    let failed = day.publisher.counters().failed();
    // After 1, 2, 4, 8, 16 minutes, each more or less a tenth.
    assert!((5..=7).contains(&failed), "{failed}");
    day.table.set_mood(Mood::Honest);
    day.pass(secs(3600 + 400));
    assert!(day.publisher.counters().published() >= 1);
}

#[test]
fn homes_of_a_private_network_are_not_told_to_everybody() {
    let inside = home(1, [192, 168, 1, 2]);
    for (public, told) in [(true, 0), (false, 1)] {
        let day = Day::new(PublishPolicy::default(), public);
        day.homes.send_replace(vec![inside.clone()]);
        day.pass(secs(60));
        assert_eq!(day.publisher.counters().published(), told);
    }
    let day = Day::new(PublishPolicy::default(), true);
    day.homes.send_replace(vec![inside, home(2, [8, 8, 8, 8])]);
    day.pass(secs(60));
    for (_at, item) in day.table.puts() {
        let homes = record_in(&item, day.user).unwrap().fields().homes.clone();
        assert_eq!(homes, [home(2, [8, 8, 8, 8])]);
    }
}
