//! Sessions over simulated paths: relay and direct, and what happens when one of them dies.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ahoy::sim::{Conditions, Fault, LinkId, Loss, SimNode, TraceHash, World};
use ahoy_tests::{person::Person, udp::Udp};
use ahoy_transport::{
    connection::CloseCode,
    datagram::Priority,
    endpoint::{Endpoint, EndpointConfig},
    mux::RelayRoute,
    runtime::{Runtime, RuntimeExt},
    sealed::SessionSecret,
    session::{
        ControlError, LocalDevice, MediaPermit, PathId, PathKind, RemoteDevice, SendMediaError,
        Session, SessionConfig, SessionEnd, SessionEvent, SessionParams, SwitchReason, WrongCall,
    },
};
use bytes::Bytes;

const SEED: u64 = 0x5e55_0001;
const CALL: [u8; 16] = [7; 16];
const CHANNEL: u16 = 0x4001;
const RELAY: &str = "10.0.0.9:3478";
const FRAME: Duration = Duration::from_millis(20);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn runtime(world: &World, node: SimNode) -> Arc<dyn Runtime> {
    world.runtime(node)
}

type Log<T> = Arc<Mutex<Vec<T>>>;

/// Alice, who calls, Bob, and a relay; 10 ms to the core each.
struct Scene {
    world: World,
    nodes: [SimNode; 2],
    relay: SimNode,
    endpoints: [Endpoint; 2],
    sessions: [Session; 2],
    /// What each side's session told, with its time.
    events: [Log<(Duration, SessionEvent)>; 2],
    /// Media that each side got: time of arrival and first byte.
    media: [Log<(Duration, u8)>; 2],
    /// Control messages that each side got.
    control: [Log<Bytes>; 2],
}

/// A relay that swaps what comes on the one channel between its two clients, as TURN's ChannelData.
fn run_relay(world: &World, node: SimNode, clients: [SocketAddr; 2]) {
    let runtime = runtime(world, node);
    drop(world.spawn(node, async move {
        let udp = Udp::bind(&*runtime, RELAY.parse().unwrap()).unwrap();
        while let Ok(datagram) = udp.recv().await {
            let [alice, bob] = clients;
            let to = if datagram.from == alice { bob } else { alice };
            udp.send(to, &datagram.contents).unwrap();
        }
    }));
}

impl Scene {
    fn new(seed: u64, config: SessionConfig) -> Self {
        let world = World::new(seed);
        let node = |name: &str, last: u8| {
            let node = world.add_node(name, &[[10, 0, 0, last].into()]);
            world.set_link(node, Conditions::with_delay(ms(10)));
            node
        };
        let nodes = [node("alice", 1), node("bob", 2)];
        let relay = node("relay", 9);
        let people = nodes.map(|node| Person::generate(&runtime(&world, node)));
        let endpoints = nodes.map(|node| {
            let config = EndpointConfig::peer("0.0.0.0:5000".parse().unwrap());
            Endpoint::bind(runtime(&world, node), config).unwrap()
        });
        run_relay(&world, relay, [Self::addr(0), Self::addr(1)]);
        let params = |this: usize| SessionParams {
            endpoint: endpoints[this].clone(),
            secret: SessionSecret::from_bytes([9; 32]),
            call_id: CALL,
            local: LocalDevice {
                keys: Arc::clone(&people[this].keys),
                certificate: people[this].certificate.clone(),
            },
            remote: RemoteDevice {
                user: people[1 - this].user,
                device: people[1 - this].keys.id(),
                noise_static: people[1 - this].keys.noise_public(),
            },
            config,
        };
        let sessions = [Session::caller(params(0)), Session::callee(params(1))];
        let scene = Self {
            nodes,
            relay,
            endpoints,
            sessions,
            events: Default::default(),
            media: Default::default(),
            control: Default::default(),
            world,
        };
        for side in 0..2 {
            scene.watch(side);
        }
        scene
    }

    fn addr(side: usize) -> SocketAddr {
        ["10.0.0.1:5000", "10.0.0.2:5000"][side].parse().unwrap()
    }

    fn watch(&self, side: usize) {
        let clock = self.world.runtime(self.nodes[side]);
        let (session, log) = (self.sessions[side].clone(), Arc::clone(&self.events[side]));
        drop(self.world.spawn(self.nodes[side], async move {
            while let Some(event) = session.next_event().await {
                log.lock().unwrap().push((clock.elapsed(), event));
            }
        }));
        let clock = self.world.runtime(self.nodes[side]);
        let (session, log) = (self.sessions[side].clone(), Arc::clone(&self.media[side]));
        drop(self.world.spawn(self.nodes[side], async move {
            while let Some(packet) = session.recv_media().await {
                log.lock()
                    .unwrap()
                    .push((clock.elapsed(), packet.payload[0]));
            }
        }));
        let (session, log) = (self.sessions[side].clone(), Arc::clone(&self.control[side]));
        drop(self.world.spawn(self.nodes[side], async move {
            while let Some(message) = session.recv_control().await {
                log.lock().unwrap().push(message);
            }
        }));
    }

    /// Both sides learn of the relayed path.
    fn add_relay(&self) {
        for side in 0..2 {
            let route = RelayRoute {
                server: RELAY.parse().unwrap(),
                channel: CHANNEL,
                peer: Self::addr(1 - side),
            };
            let remote = self.endpoints[side].mux().add_relay_route(route).unwrap();
            self.sessions[side]
                .add_path(PathKind::Relay, remote)
                .unwrap();
        }
    }

    /// Both sides learn of the direct path.
    fn add_direct(&self) {
        for side in 0..2 {
            self.sessions[side]
                .add_path(PathKind::Direct, Self::addr(1 - side))
                .unwrap();
        }
    }

    fn accept(&self) {
        for session in &self.sessions {
            session.open_media(MediaPermit::on_accept(CALL)).unwrap();
        }
    }

    /// Relay first, direct a second later, both sides accept; two seconds in all.
    fn in_call(seed: u64, config: SessionConfig) -> Self {
        let scene = Self::new(seed, config);
        scene.add_relay();
        scene.run(1000);
        scene.add_direct();
        scene.accept();
        scene.run(1000);
        scene
    }

    fn run(&self, millis: u64) {
        self.world.run_for(ms(millis)).unwrap();
    }

    /// Both sides send sound from now on for `time`, a frame every 20 ms, and a control message every second frame.
    fn talk(&self, time: Duration) {
        for side in 0..2 {
            let runtime = runtime(&self.world, self.nodes[side]);
            let session = self.sessions[side].clone();
            drop(self.world.spawn(self.nodes[side], async move {
                let start = runtime.now();
                let mut at = start;
                let mut count = 0_u32;
                while at < start + time {
                    // Refused while no path is up; the counters tell.
                    let payload = Bytes::from(vec![count.to_be_bytes()[3]; 120]);
                    let sent = session.send_media(1, payload, Priority::Audio, at + ms(200));
                    assert!(matches!(sent, Ok(()) | Err(SendMediaError::NoPath)));
                    if count.is_multiple_of(2) {
                        let message = Bytes::copy_from_slice(&count.to_be_bytes());
                        session.send_control(message).await.unwrap();
                    }
                    count += 1;
                    at += FRAME;
                    runtime.sleep_until(at).await;
                }
            }));
        }
    }

    /// Both directions between Alice and Bob carry nothing; the relay does.
    fn cut_direct(&self) {
        let [alice, bob] = self.nodes;
        self.world.apply(Fault::BlackHole {
            from: alice,
            to: bob,
        });
        self.world.apply(Fault::BlackHole {
            from: bob,
            to: alice,
        });
    }

    /// The longest time without a media packet at `side`, from `from` to `to`.
    fn gap(&self, side: usize, from: Duration, to: Duration) -> Duration {
        let media = self.media[side].lock().unwrap();
        let times = media
            .iter()
            .map(|(at, _)| *at)
            .filter(|at| (from..to).contains(at));
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in times.chain([to]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }

    /// Every control message that `talk` sent in `count` messages has come, once and in order.
    fn assert_control(&self, side: usize, count: u32) {
        let control = self.control[side].lock().unwrap();
        let expected: Vec<_> = (0..count)
            .map(|n| Bytes::copy_from_slice(&(2 * n).to_be_bytes()))
            .collect();
        assert_eq!(*control, expected);
    }

    fn events(&self, side: usize) -> Vec<SessionEvent> {
        self.events[side]
            .lock()
            .unwrap()
            .iter()
            .map(|(_, event)| *event)
            .collect()
    }
}

#[test]
fn relay_first_then_direct_and_both_ends_share_a_secret() {
    let scene = Scene::new(SEED, SessionConfig::default());
    assert_eq!(scene.sessions[0].safety_secret(), None);
    scene.add_relay();
    scene.run(300);
    for side in 0..2 {
        // 80 ms round trip through the relay: one for the handshake, then half of one.
        let (at, event) = scene.events[side].lock().unwrap()[0];
        assert!(matches!(
            event,
            SessionEvent::PathUp {
                kind: PathKind::Relay,
                connection: 0,
                ..
            }
        ));
        assert_eq!(at, [ms(80), ms(120)][side]);
    }
    let secret = scene.sessions[0].safety_secret().unwrap();
    assert_eq!(scene.sessions[1].safety_secret(), Some(secret));
    assert_ne!(scene.sessions[0].exporter(b"other"), Some(secret));
    scene.add_direct();
    scene.run(500);
    for side in 0..2 {
        let events = scene.events(side);
        let Some(SessionEvent::Switched(switch)) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(switch.reason, SwitchReason::Better);
        assert_eq!((switch.from, switch.to), (Some(PathId(0)), PathId(1)));
        let stats = scene.sessions[side].stats();
        assert_eq!(stats.active, Some(PathId(1)));
        let rtts: Vec<_> = stats
            .paths
            .values()
            .map(|path| path.rtt.unwrap().as_millis())
            .collect();
        assert_eq!(rtts, [80, 40]);
    }
}

#[test]
fn paths_that_come_up_at_once_share_one_secret() {
    let scene = Scene::new(SEED, SessionConfig::default());
    scene.add_relay();
    scene.add_direct();
    scene.run(300);
    for side in 0..2 {
        let stats = scene.sessions[side].stats();
        assert!(stats.paths.len() == 2 && stats.paths.values().all(|path| path.up));
        assert_eq!(stats.active, Some(PathId(1)));
    }
    let secret = scene.sessions[0].safety_secret().unwrap();
    assert_eq!(scene.sessions[1].safety_secret(), Some(secret));
    // And a third, whose keys contain it, is let in at the first attempt.
    let dialled = scene.endpoints[0].stats().dialled;
    scene.sessions[0].remove_path(PathId(0));
    scene.run(100);
    scene.add_relay();
    scene.run(300);
    assert_eq!(scene.endpoints[0].stats().dialled, dialled + 1);
    let stats = scene.endpoints[1].stats();
    assert_eq!(
        (stats.accepted_peers, stats.unknown_tag, stats.not_taken),
        (3, 0, 0)
    );
    assert!(scene.sessions[1].stats().paths[&PathId(0)].up);
}

/// The callee expects nothing without the shared secret once it knows it, and what was dialled without it a moment
/// before is still on its way.
#[test]
fn a_path_dialled_while_the_secret_is_agreed_on_comes_up_at_once() {
    for later in (0..300).step_by(4) {
        let scene = Scene::new(SEED, SessionConfig::default());
        scene.add_relay();
        scene.run(later);
        scene.add_direct();
        scene.run(600);
        for side in 0..2 {
            let active = scene.sessions[side].stats().active;
            assert_eq!(active, Some(PathId(1)), "direct {later} ms after the relay");
        }
    }
}

/// The direct path dies under a call. Returns the gap at both sides.
fn direct_dies(config: SessionConfig) -> (Scene, [Duration; 2]) {
    let scene = Scene::in_call(SEED, config);
    scene.talk(ms(8000));
    scene.run(4000);
    scene.cut_direct();
    scene.run(5000);
    let gaps = [0, 1].map(|side| scene.gap(side, ms(3000), ms(9900)));
    (scene, gaps)
}

#[test]
fn a_call_outlives_its_direct_path_with_a_gap_under_300_ms() {
    let (scene, gaps) = direct_dies(SessionConfig::default());
    for side in 0..2 {
        assert!(gaps[side] < ms(300), "{gaps:?}");
        assert!(gaps[side] > ms(100), "the path did die: {gaps:?}");
        scene.assert_control(side, 200);
        let stats = scene.sessions[side].stats();
        assert_eq!(stats.active, Some(PathId(0)));
        let switch = stats.switch_log.last().unwrap();
        assert_eq!(switch.reason, SwitchReason::Silence);
        assert!(switch.gap >= ms(250) && switch.gap < ms(300));
        // Some 10 packets of 400 went into the hole; copies went by both.
        assert_eq!(stats.sent, 400);
        assert_eq!(stats.received + stats.lost, 400);
        assert!(stats.lost > 0 && stats.lost <= 12, "{}", stats.lost);
        assert!(stats.sent_copies > 0);
        assert_eq!(
            (stats.early, stats.expired, stats.late, stats.malformed),
            (0, 0, 0, 0)
        );
        let flow = stats.flows[&1];
        assert_eq!(
            (flow.sent, flow.received, flow.lost),
            (400, stats.received, stats.lost)
        );
    }
    println!(
        "gaps {gaps:?}, lost {} and {}",
        scene.sessions[0].stats().lost,
        scene.sessions[1].stats().lost
    );
}

#[test]
fn without_failover_the_same_call_has_a_long_gap() {
    let off = SessionConfig {
        duplication: false,
        failover: false,
        ..SessionConfig::default()
    };
    let (scene, gaps) = direct_dies(off);
    for side in 0..2 {
        assert!(gaps[side] > ms(1000), "{gaps:?}");
        assert_eq!(scene.sessions[side].stats().sent_copies, 0);
    }
}

#[test]
fn without_copies_the_gap_is_longer() {
    let with = direct_dies(SessionConfig::default()).1;
    let off = SessionConfig {
        duplication: false,
        ..SessionConfig::default()
    };
    let without = direct_dies(off).1;
    assert!(with[1] + ms(100) <= without[1], "{with:?} {without:?}");
}

#[test]
fn one_dead_direction_moves_only_that_direction() {
    let scene = Scene::in_call(SEED, SessionConfig::default());
    scene.talk(ms(8000));
    scene.run(4000);
    let [alice, bob] = scene.nodes;
    scene.world.apply(Fault::BlackHole {
        from: alice,
        to: bob,
    });
    scene.run(2000);
    assert!(scene.gap(1, ms(3000), ms(7900)) < ms(300));
    assert!(scene.gap(0, ms(3000), ms(7900)) < ms(300));
    assert_eq!(scene.sessions[0].stats().active, Some(PathId(0)));
}

#[test]
fn a_dead_relay_is_not_noticed_on_a_direct_call() {
    let scene = Scene::in_call(SEED, SessionConfig::default());
    scene.talk(ms(8000));
    scene.run(4000);
    scene.world.kill(scene.relay);
    scene.run(5000);
    for side in 0..2 {
        assert!(scene.gap(side, ms(2100), ms(9900)) <= ms(21));
        scene.assert_control(side, 200);
        assert_eq!(scene.sessions[side].stats().lost, 0);
    }
}

#[test]
fn media_returns_to_a_direct_path_that_heals() {
    let (scene, _) = direct_dies(SessionConfig::default());
    scene.world.apply(Fault::Heal);
    scene.run(15_000);
    for side in 0..2 {
        assert_eq!(scene.sessions[side].stats().active, Some(PathId(1)));
    }
}

#[test]
fn a_long_outage_of_everything_is_told_and_survived() {
    let scene = Scene::in_call(SEED, SessionConfig::default());
    scene.talk(ms(36_000));
    scene.run(2000);
    scene.world.apply(Fault::LinkDown(scene.nodes[0]));
    scene.run(20_000);
    for side in 0..2 {
        let told = scene.events(side).contains(&SessionEvent::Reconnecting);
        assert!(told && scene.sessions[side].end().is_none());
        // QUIC gave the connections up.
        assert!(
            scene.sessions[side]
                .stats()
                .paths
                .values()
                .all(|path| !path.up)
        );
    }
    scene.world.apply(Fault::LinkUp(scene.nodes[0]));
    scene.run(18_000);
    for side in 0..2 {
        let reconnected = scene
            .events(side)
            .iter()
            .any(|event| matches!(event, SessionEvent::Reconnected { .. }));
        assert!(reconnected);
        scene.assert_control(side, 900);
        assert!(scene.gap(side, ms(32_000), ms(37_900)) <= ms(100));
        assert_eq!(scene.sessions[side].stats().active, Some(PathId(1)));
    }
}

#[test]
fn silence_for_thirty_seconds_is_the_end() {
    let scene = Scene::in_call(SEED, SessionConfig::default());
    scene.world.apply(Fault::LinkDown(scene.nodes[1]));
    scene.run(29_000);
    assert_eq!(scene.sessions[0].end(), None);
    scene.run(2000);
    for side in 0..2 {
        assert_eq!(scene.sessions[side].end(), Some(SessionEnd::Lost));
        assert_eq!(
            scene.events(side).last(),
            Some(&SessionEvent::Ended(SessionEnd::Lost))
        );
    }
    let session = scene.sessions[0].clone();
    let sent = scene
        .world
        .block_on(scene.nodes[0], session.send_control(Bytes::new()))
        .unwrap();
    assert_eq!(sent, Err(ControlError::Ended));
}

#[test]
fn hanging_up_ends_the_session_on_both_sides() {
    let scene = Scene::in_call(SEED, SessionConfig::default());
    scene.sessions[0].close();
    scene.run(100);
    assert_eq!(scene.sessions[0].end(), Some(SessionEnd::ClosedHere));
    let end = SessionEnd::ClosedByPeer(CloseCode::SessionOver);
    assert_eq!(scene.sessions[1].end(), Some(end));
    assert_eq!(scene.events(1).last(), Some(&SessionEvent::Ended(end)));
    // Nobody dials or waits any more.
    scene.run(20_000);
    let dialled = scene.endpoints[0].stats().dialled;
    assert_eq!(dialled, 2);
}

#[test]
fn no_media_passes_before_accept() {
    let scene = Scene::new(SEED, SessionConfig::default());
    scene.add_relay();
    scene.run(500);
    assert_eq!(
        scene.sessions[0].open_media(MediaPermit::on_accept([8; 16])),
        Err(WrongCall)
    );
    let now = runtime(&scene.world, scene.nodes[0]).now();
    let send = |session: &Session, expires: Instant| {
        session.send_media(1, Bytes::from_static(&[1; 100]), Priority::Audio, expires)
    };
    assert_eq!(
        send(&scene.sessions[0], now + ms(900)),
        Err(SendMediaError::NotOpen)
    );
    scene.sessions[0]
        .open_media(MediaPermit::on_accept(CALL))
        .unwrap();
    send(&scene.sessions[0], now + ms(900)).unwrap();
    scene.run(100);
    let stats = [0, 1].map(|side| scene.sessions[side].stats());
    assert_eq!((stats[0].unopened, stats[0].sent), (1, 1));
    assert_eq!((stats[1].early, stats[1].received), (1, 0));
    assert!(scene.media[1].lock().unwrap().is_empty());
    scene.sessions[1]
        .open_media(MediaPermit::on_accept(CALL))
        .unwrap();
    send(&scene.sessions[0], now + ms(900)).unwrap();
    scene.run(100);
    assert_eq!(scene.media[1].lock().unwrap().len(), 1);
}

#[test]
fn control_is_exactly_once_and_in_order_over_bad_paths_that_come_and_go() {
    let (mut duplicate, mut reordered) = (0, 0);
    for seed in 0..5 {
        println!("seed {seed}");
        let scene = Scene::in_call(seed, SessionConfig::default());
        for node in scene.nodes {
            let conditions = Conditions {
                loss: Loss::Random(0.15),
                jitter: ms(15),
                jitter_reorders: true,
                duplicate: 0.05,
                ..Conditions::with_delay(ms(10))
            };
            scene.world.set_link(node, conditions);
        }
        scene.talk(ms(30_000));
        for _ in 0..4 {
            scene.run(3000);
            scene.cut_direct();
            scene.run(3000);
            scene.world.apply(Fault::Heal);
        }
        scene.run(20_000);
        for side in 0..2 {
            scene.assert_control(side, 750);
            let stats = scene.sessions[side].stats();
            let other = scene.sessions[1 - side].stats();
            assert!(stats.received + stats.lost <= other.sent);
            duplicate += stats.duplicate;
            reordered += stats.reordered;
            let names = scene.media[side].lock().unwrap().len() as u64;
            assert_eq!(names, stats.received);
        }
    }
    assert!(duplicate > 0 && reordered > 0);
}

fn trace(seed: u64) -> TraceHash {
    let scene = Scene::in_call(seed, SessionConfig::default());
    scene.talk(ms(4000));
    scene.run(2000);
    scene.cut_direct();
    scene.run(3000);
    scene.world.trace_hash()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let hashes: Vec<_> = [1, 1, 2].into_iter().map(trace).collect();
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}

#[test]
fn an_expired_packet_is_never_sent_and_sound_overtakes_the_rest() {
    let scene = Scene::new(SEED, SessionConfig::default());
    scene.add_relay();
    scene.accept();
    scene.run(500);
    // 100 kbit/s: what a burst of video leaves over waits above QUIC.
    let rate = ahoy::sim::Rate {
        bits_per_second: 100_000,
        queue_bytes: 3000,
    };
    scene.world.apply(Fault::Rate {
        link: LinkId::Uplink(scene.nodes[0]),
        rate: Some(rate),
    });
    scene.sessions[0].set_media_rate(100_000);
    let now = runtime(&scene.world, scene.nodes[0]).now();
    for _ in 0..400 {
        let video = Bytes::from(vec![1; 1100]);
        scene.sessions[0]
            .send_media(2, video, Priority::Video, now + ms(300))
            .unwrap();
    }
    let audio = Bytes::from(vec![2; 100]);
    scene.sessions[0]
        .send_media(1, audio, Priority::Audio, now + ms(300))
        .unwrap();
    scene.run(2000);
    let stats = scene.sessions[0].stats();
    assert!(stats.expired > 300, "{}", stats.expired);
    assert_eq!(stats.sent + stats.expired, 401);
    assert!(stats.flows[&1].sent == 1);
    let kinds: BTreeSet<u8> = scene.media[1]
        .lock()
        .unwrap()
        .iter()
        .map(|(_, kind)| *kind)
        .collect();
    assert!(kinds.contains(&1));
}

#[test]
fn a_good_minute_loses_nothing_and_moves_nothing() {
    let scene = Scene::in_call(SEED, SessionConfig::default());
    scene.talk(ms(60_000));
    scene.run(62_000);
    for side in 0..2 {
        let stats = scene.sessions[side].stats();
        assert_eq!((stats.sent, stats.received, stats.lost), (3000, 3000, 0));
        assert_eq!(stats.switches, 1);
    }
}
