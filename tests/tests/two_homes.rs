//! Two people with different homes: their relays serve each other only when they proved their keys, and whoever
//! lies about that gains nothing. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy::{
    engine::{config::PathPolicy, handle::Command},
    report::{Outcome, PathKind, Report},
    sim::{Fault, PacketEvent, SimNode},
};
use ahoy_nat::{
    client::{NodeClient, RequestError},
    port::{PortHub, SharedPort},
    supernode::{
        protocol::{Refusal, RelayGrant},
        relay::credentials::TurnCredentials,
        vouch::{DIAL_BURST, DIALS_PER_SECOND, MAX_UNPROVEN_PER_SOURCE, RETRY_AFTER, VOUCHED_FOR},
    },
    turn::{TurnConfig, TurnError, allocation::TurnAllocation},
};
use ahoy_tests::{
    device::Device,
    people::{Ended, Home, Phone, Stage, Wiretap},
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::{Host, NodeAddress, NodeKeys},
    runtime::Runtime,
};

const SEED: u64 = 0x0002_4035;

const HOMES: [[u8; 4]; 4] = [
    [203, 0, 113, 1],
    [192, 0, 2, 2],
    [203, 0, 113, 3],
    [192, 0, 2, 4],
];
const ALICE: [u8; 4] = [198, 51, 100, 1];
const BOB: [u8; 4] = [198, 51, 100, 2];
const VICTIM: [u8; 4] = [198, 51, 100, 66];

const SOON: Duration = Duration::from_secs(5);
/// Packets that a dial to where nobody answers may take: the first flight and its repetitions in three seconds.
const DIAL_PACKETS: usize = 10;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Alice and Bob, who know each other, with different homes.
struct Pair {
    stage: Stage,
    hers: Vec<Home>,
    his: Vec<Home>,
    alice: Phone,
    bob: Phone,
    tap: Wiretap,
    _folder: tempfile::TempDir,
}

#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    path: PathPolicy,
    homes_each: usize,
    other_relays: bool,
}

const PLAN: Plan = Plan {
    seed: SEED,
    path: PathPolicy::Auto,
    homes_each: 1,
    other_relays: true,
};

impl Plan {
    fn run<T>(self, play: impl AsyncFnOnce(&Pair) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(self.seed, folder.path());
        let director = stage.director;
        let tap = stage.wiretap();
        let made = stage.world.block_on(director, async {
            let (mut hers, mut his) = (Vec::new(), Vec::new());
            for (n, ip) in HOMES.into_iter().enumerate().take(2 * self.homes_each) {
                let adjust = |config: &mut ahoy::supernode::SupernodeConfig| {
                    config.relay.other_relays = self.other_relays;
                };
                let home = stage.home_with(&format!("home {n}"), ip, adjust).await;
                if n % 2 == 0 { &mut hers } else { &mut his }.push(home);
            }
            let phone = |name, ip, homes: &[Home]| {
                let identity = stage.identity();
                let homes: Vec<&Home> = homes.iter().collect();
                stage.phone(name, ip, &identity, &homes, |config| {
                    config.path = self.path;
                })
            };
            let (alice, bob) = (phone("Alice", ALICE, &hers), phone("Bob", BOB, &his));
            alice.befriend(&bob);
            alice.ready().await;
            bob.ready().await;
            stage.pass(secs(1)).await;
            (hers, his, alice, bob)
        });
        let (hers, his, alice, bob) = made.unwrap();
        let pair = Pair {
            stage,
            hers,
            his,
            alice,
            bob,
            tap,
            _folder: folder,
        };
        pair.stage.world.block_on(director, play(&pair)).unwrap()
    }
}

impl Pair {
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

    fn part(&self) {
        self.stage.world.apply(Fault::Partition {
            left: vec![self.alice.node],
            right: vec![self.bob.node],
        });
    }

    fn between(&self, a: SimNode, b: SimNode) -> Vec<PacketEvent> {
        between(&self.tap, a, b)
    }
}

fn between(tap: &Wiretap, a: SimNode, b: SimNode) -> Vec<PacketEvent> {
    let ends = |packet: &PacketEvent| {
        let ends = (packet.from, packet.to);
        ends == (a, Some(b)) || ends == (b, Some(a))
    };
    tap.packets().into_iter().filter(ends).collect()
}

fn kinds(report: &Report) -> Vec<PathKind> {
    report.paths.iter().map(|path| path.kind).collect()
}

/// What each side received and lost.
fn heard(ended: &Ended) -> (u64, u64) {
    let audio = ended.report.participants[0].audio.as_ref().unwrap();
    (audio.packets.received.unwrap(), audio.packets.lost.unwrap())
}

/// QUIC, neither STUN nor ChannelData nor anything relayed.
fn is_node_protocol(packet: &PacketEvent, node: SocketAddr) -> bool {
    let first = packet.contents[0];
    let is_channel = (0x40..0x50).contains(&first) && packet.contents[1] < 0x80;
    (packet.src == node || packet.dst == node) && first > 3 && !is_channel
}

// --- calls ---------------------------------------------------------------------------------------

#[test]
fn a_relayed_call_passes_both_homes_and_nobody_contacts_what_the_other_side_names() {
    let plan = Plan {
        path: PathPolicy::Relay,
        ..PLAN
    };
    plan.run(async |pair| {
        pair.talk().await;
        pair.pass(secs(5)).await;
        let ended = pair.hang_up().await;
        for ended in &ended {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            assert_eq!(kinds(&ended.report), [PathKind::Relay]);
            let (received, lost) = heard(ended);
            println!("received {received}, lost {lost}");
            assert!(received >= 250 && lost == 0);
        }
        let (s1, s2) = (&pair.hers[0], &pair.his[0]);
        assert_eq!(pair.between(pair.alice.node, pair.bob.node).len(), 0);
        assert_eq!(pair.between(pair.bob.node, s1.node).len(), 0);
        // Alice asks for Bob at the home that his link names, and delivers the offer there. No more.
        let to_his_home = pair.between(pair.alice.node, s2.node);
        println!("{} packets between Alice and Bob's home", to_his_home.len());
        assert!(!to_his_home.is_empty());
        for packet in &to_his_home {
            assert!(is_node_protocol(packet, s2.addr), "{packet:?}");
        }
        // The call itself went from relay to relay, between relayed addresses.
        let relayed = pair.between(s1.node, s2.node);
        let voice = relayed
            .iter()
            .filter(|packet| packet.src.port() >= 49_152 && packet.dst.port() >= 49_152);
        assert!(voice.count() >= 500);
        for home in [s1, s2] {
            assert_eq!(home.status().rendezvous.proofs_asked, 1);
        }
    });
}

#[test]
fn an_open_call_starts_through_both_homes_and_goes_on_directly() {
    let plan = Plan {
        seed: SEED + 1,
        ..PLAN
    };
    plan.run(async |pair| {
        pair.part();
        pair.talk().await;
        pair.pass(secs(1)).await;
        pair.stage.world.apply(Fault::Heal);
        pair.pass(secs(5)).await;
        for ended in pair.hang_up().await {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            assert_eq!(kinds(&ended.report), [PathKind::Relay, PathKind::Direct]);
            assert_eq!(heard(&ended).1, 0);
        }
    });
}

#[test]
fn without_proofs_between_supernodes_there_is_no_relayed_path() {
    let plan = Plan {
        seed: SEED + 2,
        path: PathPolicy::Relay,
        other_relays: false,
        ..PLAN
    };
    plan.run(async |pair| {
        pair.alice.call(&pair.bob);
        pair.bob.rings().await;
        pair.bob.tell(Command::Accept);
        let ended = pair.alice.ends(secs(120)).await;
        println!("{:?}: {}", ended.ending, ended.sentence);
        assert_ne!(ended.report.outcome, Outcome::Completed);
        assert_eq!(ended.report.paths.len(), 0);
        let (s1, s2) = (&pair.hers[0], &pair.his[0]);
        assert_eq!(pair.between(s1.node, s2.node).len(), 0);
    });
    let plan = Plan {
        path: PathPolicy::Auto,
        ..plan
    };
    plan.run(async |pair| {
        pair.talk().await;
        for ended in pair.hang_up().await {
            assert_eq!(kinds(&ended.report), [PathKind::Direct]);
        }
    });
}

/// The call goes on when one of the relays it may use dies, and the next one finds its way, too.
fn a_home_dies(plan: Plan, whose: fn(&Pair) -> &Home) {
    plan.run(async |pair| {
        pair.talk().await;
        pair.pass(secs(3)).await;
        pair.stage.kill(whose(pair));
        pair.pass(secs(20)).await;
        for ended in pair.hang_up().await {
            let (received, lost) = heard(&ended);
            assert_eq!(ended.report.outcome, Outcome::Completed);
            // Half a second may be missing until voice goes by the other relay.
            assert!(received >= 22 * 50 && lost <= 25, "{received}, {lost} lost");
        }
        // The remaining home has the callee.
        pair.pass(secs(3)).await;
        pair.talk().await;
        for ended in pair.hang_up().await {
            assert_eq!(ended.report.outcome, Outcome::Completed);
        }
    });
}

#[test]
fn when_a_home_dies_a_relayed_call_goes_on_through_the_other() {
    let plan = Plan {
        seed: SEED + 3,
        path: PathPolicy::Relay,
        homes_each: 2,
        ..PLAN
    };
    a_home_dies(plan, |pair| &pair.hers[0]);
    a_home_dies(plan, |pair| &pair.hers[1]);
    a_home_dies(plan, |pair| &pair.his[0]);
    a_home_dies(plan, |pair| &pair.his[1]);
}

#[test]
fn when_a_home_dies_an_open_call_goes_on() {
    let plan = Plan {
        seed: SEED + 4,
        homes_each: 2,
        ..PLAN
    };
    a_home_dies(plan, |pair| &pair.hers[0]);
    a_home_dies(plan, |pair| &pair.his[0]);
}

// --- liars ---------------------------------------------------------------------------------------

/// Supernodes, and a machine that did nothing wrong.
struct Attack {
    stage: Stage,
    homes: Vec<Home>,
    attacker: SimNode,
    victim: SimNode,
    tap: Wiretap,
    _folder: tempfile::TempDir,
}

impl Attack {
    fn run(seed: u64, allow_private: bool, play: impl AsyncFnOnce(&Self)) {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(seed, folder.path());
        let director = stage.director;
        let attacker = stage.world.add_node("attacker", &[ALICE.into()]);
        let victim = stage.world.add_node("victim", &[VICTIM.into()]);
        let tap = stage.wiretap();
        let made = stage.world.block_on(director, async {
            let mut homes = Vec::new();
            for (n, ip) in HOMES.into_iter().enumerate().take(2) {
                let adjust = |config: &mut ahoy::supernode::SupernodeConfig| {
                    config.relay.allow_private = allow_private;
                };
                homes.push(stage.home_with(&format!("home {n}"), ip, adjust).await);
            }
            homes
        });
        let attack = Self {
            homes: made.unwrap(),
            stage,
            attacker,
            victim,
            tap,
            _folder: folder,
        };
        let stage = &attack.stage;
        stage.world.block_on(attacker, play(&attack)).unwrap();
    }

    fn device(&self) -> Arc<Device> {
        let runtime: Arc<dyn Runtime> = self.stage.world.runtime(self.attacker);
        Device::new(runtime)
    }

    async fn client(&self, device: &Device, auth: NodeAuth) -> NodeClient {
        let home = &self.homes[0];
        device
            .dial(home.address.node, home.addr, auth)
            .await
            .unwrap()
    }

    /// Four lies by each client, all clients at once. None is believed.
    async fn ask_at_once(&self, clients: &[NodeClient], lie: impl Fn(u16) -> NodeAddress) {
        let mut asking = Vec::new();
        for (n, client) in (0u16..).zip(clients) {
            let (client, lies) = (client.clone(), [0, 1, 2, 3].map(|m| lie(4 * n + m)));
            asking.push(self.stage.world.spawn(self.attacker, async move {
                for lie in lies {
                    let answer = client.allow_relay(lie).await;
                    assert!([UNPROVEN, TOO_FAST].contains(&answer), "{answer:?}");
                }
            }));
        }
        for asked in asking {
            asked.await.unwrap();
        }
    }

    /// What the first supernode sent to the victim.
    fn at_victim(&self) -> Vec<PacketEvent> {
        between(&self.tap, self.homes[0].node, self.victim)
    }
}

fn named(seed: u8, ip: impl Into<IpAddr>, port: u16) -> NodeAddress {
    let node = NodeKeys::from_seed(&[seed; 32]).id();
    NodeAddress::new(node, SocketAddr::new(ip.into(), port))
}

async fn allocate(device: &Device, grant: RelayGrant) -> TurnAllocation {
    let port = Arc::new(SharedPort::new(Arc::clone(device.endpoint.mux())));
    let hub = PortHub::start(&*device.runtime, port);
    let credentials = TurnCredentials {
        username: grant.username,
        password: grant.password,
        realm: grant.realm,
        nonce: grant.nonce,
        lifetime: secs(grant.lifetime_secs.into()),
    };
    let config = TurnConfig::new(grant.server, credentials);
    TurnAllocation::allocate(Arc::clone(&device.runtime), &hub, config)
        .await
        .unwrap()
}

const UNPROVEN: Result<Duration, RequestError> = Err(RequestError::Refused(Refusal::UnprovenRelay));
const TOO_FAST: Result<Duration, RequestError> = Err(RequestError::Refused(Refusal::TooFast));

#[test]
fn whoever_names_a_victim_as_a_relay_sends_it_a_handshake_and_not_a_byte_more() {
    Attack::run(SEED + 10, false, async |attack| {
        let device = attack.device();
        let client = attack.client(&device, device.auth()).await;
        let lie = named(1, VICTIM, 5_000);
        assert_eq!(client.allow_relay(lie.clone()).await, UNPROVEN);
        let handshake = attack.at_victim();
        println!("{} packets reached the victim", handshake.len());
        assert!((1..=DIAL_PACKETS).contains(&handshake.len()));
        for packet in &handshake {
            assert_eq!(packet.contents[0] & 0xf0, 0xc0, "an Initial packet");
            assert_eq!(packet.src, attack.homes[0].addr);
        }
        // For a minute the answer is known.
        for _ in 0..10 {
            assert_eq!(client.allow_relay(lie.clone()).await, UNPROVEN);
        }
        // The relay relays nothing there.
        let allocation = allocate(&device, client.relay_grant().await.unwrap()).await;
        let victim = SocketAddr::from((VICTIM, 5_000));
        let bound = allocation.bind_peer(victim).await;
        assert_eq!(bound.unwrap_err(), TurnError::Refused(403));
        assert_eq!(attack.at_victim().len(), handshake.len());
        let relay = attack.homes[0].status().rendezvous.relays[0].clone();
        assert_eq!(relay.traffic.bytes_from_client, 0);
    });
}

#[test]
fn another_supernode_under_a_wrong_key_is_no_proof_and_spoils_nothing_for_the_right_one() {
    Attack::run(SEED + 11, false, async |attack| {
        let device = attack.device();
        let client = attack.client(&device, NodeAuth::Anonymous).await;
        let other = &attack.homes[1];
        let lie = NodeAddress {
            node: named(1, VICTIM, 1).node,
            ..other.address.clone()
        };
        assert_eq!(client.allow_relay(lie).await, UNPROVEN);
        let allocation = allocate(&device, client.relay_grant().await.unwrap()).await;
        let peer = SocketAddr::new(other.addr.ip(), 50_000);
        let bound = allocation.bind_peer(peer).await;
        assert_eq!(bound.unwrap_err(), TurnError::Refused(403));

        let lasts = client.allow_relay(other.address.clone()).await.unwrap();
        assert_eq!(lasts, VOUCHED_FOR);
        allocation.bind_peer(peer).await.unwrap();
        // It does not cover the system's ports, nor for ever.
        let low = SocketAddr::new(other.addr.ip(), 53);
        println!("port 53: {:?}", allocation.bind_peer(low).await);
        assert_eq!(
            allocation.bind_peer(low).await.unwrap_err(),
            TurnError::Refused(403)
        );
        attack.stage.pass(VOUCHED_FOR + secs(300)).await;
        println!("later: {:?}", allocation.binding(peer));
        assert_ne!(
            allocation.binding(peer).map(|bound| bound.is_ok()),
            Some(true)
        );
    });
}

#[test]
fn asking_again_in_time_keeps_the_channel() {
    Attack::run(SEED + 12, false, async |attack| {
        let device = attack.device();
        let client = attack.client(&device, NodeAuth::Anonymous).await;
        let other = &attack.homes[1];
        let allocation = allocate(&device, client.relay_grant().await.unwrap()).await;
        let peer = SocketAddr::new(other.addr.ip(), 50_000);
        let mut proofs = 0;
        for n in 0..8 {
            let lasts = client.allow_relay(other.address.clone()).await.unwrap();
            if n == 0 {
                allocation.bind_peer(peer).await.unwrap();
            }
            assert!(allocation.binding(peer).unwrap().is_ok());
            proofs = attack.homes[0].status().rendezvous.proofs_asked;
            attack.stage.pass(lasts / 2).await;
        }
        println!("{proofs} proofs in {:?}", attack.stage.now());
        assert!(proofs >= 4);
    });
}

#[test]
fn addresses_that_no_relay_may_reach_are_not_even_dialled() {
    let never: [IpAddr; 6] = [
        [169, 254, 169, 254].into(),
        [169, 254, 1, 1].into(),
        [224, 0, 0, 251].into(),
        [100, 100, 100, 200].into(),
        [0, 0, 0, 0].into(),
        "64:ff9b::7f00:1".parse().unwrap(),
    ];
    let private: [IpAddr; 4] = [
        [127, 0, 0, 1].into(),
        [10, 1, 2, 3].into(),
        [192, 168, 0, 1].into(),
        "::ffff:172.16.0.1".parse().unwrap(),
    ];
    for allow_private in [false, true] {
        Attack::run(SEED + 13, allow_private, async |attack| {
            let device = attack.device();
            let client = attack.client(&device, device.auth()).await;
            let before = attack.stage.world.node_stats(attack.homes[0].node).sent;
            for ip in never {
                assert_eq!(
                    client.allow_relay(named(1, ip, 4433)).await,
                    UNPROVEN,
                    "{ip}"
                );
            }
            for port in [22, 53, 123] {
                assert_eq!(client.allow_relay(named(1, VICTIM, port)).await, UNPROVEN);
            }
            let name = NodeAddress {
                host: Host::Name("localhost".into()),
                ..named(1, VICTIM, 4433)
            };
            assert_eq!(client.allow_relay(name).await, UNPROVEN);
            assert_eq!(attack.homes[0].status().rendezvous.proofs_asked, 0);
            let dialled = |attack: &Attack| attack.homes[0].status().rendezvous.proofs_asked;
            for ip in private {
                assert_eq!(
                    client.allow_relay(named(1, ip, 4433)).await,
                    UNPROVEN,
                    "{ip}"
                );
            }
            assert_eq!(dialled(attack), if allow_private { 4 } else { 0 });
            let sent = attack.stage.world.node_stats(attack.homes[0].node).sent - before;
            println!("{sent} packets sent");
        });
    }
}

#[test]
fn flooding_with_relays_to_be_proved_is_cut_to_a_trickle() {
    Attack::run(SEED + 14, false, async |attack| {
        let started = attack.stage.now();
        let device = attack.device();
        let (mut asked, mut too_fast) = (0u64, 0u64);
        // One connection: a few, then one every ten seconds.
        let client = attack.client(&device, device.auth()).await;
        for n in 0..30u8 {
            let lie = named(1, Ipv4Addr::new(198, 51, 101, n), 4433);
            match client.allow_relay(lie).await {
                UNPROVEN => asked += 1,
                answer => {
                    assert_eq!(answer, TOO_FAST);
                    too_fast += 1;
                }
            }
        }
        println!("one connection: {asked} dialled, {too_fast} refused");
        assert!(asked <= 6 && too_fast >= 24);
        // One victim, many connections, ports and keys.
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(attack.client(&device, NodeAuth::Anonymous).await);
        }
        attack
            .ask_at_once(&clients, |n| named(1, VICTIM, 5_000 + n))
            .await;
        let at_victim = attack.at_victim().len();
        println!("160 lies about one machine: {at_victim} packets reached it");
        assert!(at_victim <= MAX_UNPROVEN_PER_SOURCE * DIAL_PACKETS);
        // Many victims, many connections: the rate of all together.
        attack
            .ask_at_once(&clients, |n| {
                let [high, low] = n.to_be_bytes();
                named(1, Ipv4Addr::new(198, 18, high, low), 4433)
            })
            .await;
        let passed = (attack.stage.now() - started).as_secs() + 1;
        let dialled = attack.homes[0].status().rendezvous.proofs_asked;
        println!("{dialled} dials in {passed} s");
        assert!(dialled <= 2 * DIAL_BURST + passed * DIALS_PER_SECOND);
        // And an honest device is served nevertheless.
        attack.stage.pass(RETRY_AFTER).await;
        let honest = attack.client(&device, device.auth()).await;
        let proven = honest.allow_relay(attack.homes[1].address.clone()).await;
        assert_eq!(proven, Ok(VOUCHED_FOR));
    });
}
