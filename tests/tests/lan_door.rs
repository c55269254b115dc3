//! What a device's own door gives to others in its network, and what it does not. Virtual time.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its seed, and so may its helpers"
)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ahoy::sim::{SimNode, World};
use ahoy_nat::{
    client::{NodeClient, RequestError},
    discovery::door::LanDoor,
    home::HomeEvent,
    supernode::protocol::{MAX_ENVELOPE, Push, Refusal, Request},
};
use ahoy_tests::device::Device;
use ahoy_transport::{
    connection::{CloseCode, Connection, ConnectionLost},
    endpoint::NodeAuth,
    identity::{NodeAddress, NodeId, NodeKeys, UserId},
    runtime::{Runtime, RuntimeExt, timeout},
};
use tokio::sync::mpsc;

const SEED: u64 = 0x0003_1a11;
const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 2));
/// Longer than a handshake that is lost a few times.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bob with his door open, and others.
struct Network {
    world: World,
    node: SimNode,
    bob: Arc<Device>,
    door: LanDoor,
    delivered: mpsc::Receiver<(NodeId, HomeEvent)>,
}

struct Other {
    node: SimNode,
    device: Arc<Device>,
}

impl Network {
    /// `room`: for what is delivered and nobody takes.
    fn new(room: usize) -> Self {
        println!("seed {SEED:#x}");
        let world = World::new(SEED);
        let node = world.add_node("bob", &[BOB]);
        let runtime: Arc<dyn Runtime> = world.runtime(node);
        let bob = Device::new(Arc::clone(&runtime));
        let (events, delivered) = mpsc::channel(room);
        let (user, device) = (bob.identity.user(), bob.identity.device().id());
        let door = LanDoor::open(&runtime, user, device, bob.registration(1), events).unwrap();
        Self {
            world,
            node,
            bob,
            door,
            delivered,
        }
    }

    fn other(&self, ip: [u8; 4]) -> Other {
        let node = self.world.add_node(&format!("{ip:?}"), &[ip.into()]);
        let device = Device::new(self.world.runtime(node));
        Other { node, device }
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::new(BOB, self.door.place().port)
    }

    fn on<T>(&self, other: &Other, future: impl Future<Output = T>) -> T {
        self.world.block_on(other.node, future).unwrap()
    }

    /// A connection to the door, if one comes about.
    fn try_knock(&self, other: &Other, node: NodeId, auth: NodeAuth) -> Option<NodeClient> {
        let dialling = other.device.dial(node, self.addr(), auth);
        self.on(other, timeout(&*other.device.runtime, PATIENCE, dialling))?
            .ok()
    }

    fn knock(&self, other: &Other) -> NodeClient {
        let node = self.door.place().node;
        self.try_knock(other, node, NodeAuth::Anonymous).unwrap()
    }

    fn deliver(&self, other: &Other, client: &NodeClient, epoch: u64, bytes: usize) -> Outcome {
        let to = self.bob.identity.device().id();
        self.on(other, client.deliver(to, epoch, vec![7; bytes]))
    }

    fn pass(&self, duration: Duration) {
        let pause = self.world.runtime(self.node).sleep(duration);
        self.world.block_on(self.node, pause).unwrap();
    }

    fn anonymous(&self) -> usize {
        self.door.supernode().status().anonymous
    }
}

type Outcome = Result<u64, RequestError>;

const fn refused<T>(refusal: Refusal) -> Result<T, RequestError> {
    Err(RequestError::Refused(refusal))
}

#[test]
fn a_door_takes_envelopes_for_its_own_device_and_gives_nothing_else() {
    let mut net = Network::new(8);
    let alice = net.other([192, 168, 1, 3]);
    let client = net.knock(&alice);
    let bobs = net.bob.identity.user();
    let lookup = |user| net.on(&alice, client.lookup(user)).unwrap();
    assert_eq!(lookup(bobs), [net.bob.registration(1)]);
    assert_eq!(lookup(UserId([9; 32])), []);

    let delivery = net.deliver(&alice, &client, 1, 3000).unwrap();
    let (door, event) = net
        .world
        .block_on(net.node, net.delivered.recv())
        .unwrap()
        .unwrap();
    assert_eq!(door, net.door.place().node);
    assert!(
        matches!(&event, HomeEvent::Incoming { delivery: same, envelope } if *same == delivery && envelope.len() == 3000),
        "{event:?}"
    );
    let up = net.door.up();
    assert_eq!(up.epoch, 1);
    let answering = up.client.reply(delivery, vec![8; 100]);
    net.world.block_on(net.node, answering).unwrap().unwrap();
    let push = net.on(&alice, client.next_push()).unwrap();
    assert_eq!(
        push,
        Push::ReplyTo {
            delivery,
            payload: vec![8; 100]
        }
    );

    // A renewed certificate counts at once, and what was sealed before is told to be so.
    net.door.renew(net.bob.registration(2)).unwrap();
    assert_eq!(net.door.up().epoch, 2);
    let found = net.on(&alice, client.lookup(bobs)).unwrap();
    assert_eq!(found, [net.bob.registration(2)]);
    assert_eq!(
        net.deliver(&alice, &client, 1, 100),
        refused(Refusal::WrongEpoch)
    );

    // It is nobody's home and no relay.
    let registering = client.register(alice.device.registration(3));
    assert_eq!(
        net.on(&alice, registering).map(|_registered| ()),
        refused(Refusal::NotYours)
    );
    let relaying = net.on(&alice, client.relay_grant());
    assert_eq!(relaying.map(|_grant| ()), refused(Refusal::NoRelay));
    let relay = NodeAddress::new(net.door.place().node, net.addr());
    let allowing = net.on(&alice, client.request(&Request::AllowRelay { relay }));
    assert_eq!(allowing, refused(Refusal::NoRelay));
    // Who shows a certificate does not come in.
    let node = net.door.place().node;
    assert!(net.try_knock(&alice, node, alice.device.auth()).is_none());
}

#[test]
fn a_door_is_silent_to_other_networks_and_to_those_without_its_key() {
    let net = Network::new(8);
    let node = net.door.place().node;
    let alice = net.other([192, 168, 1, 3]);
    let wrong = NodeKeys::from_seed(&[1; 32]).id();
    assert!(net.try_knock(&alice, wrong, NodeAuth::Anonymous).is_none());

    let far = net.other([203, 0, 113, 9]);
    let packets = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [sent, answered] = packets.clone();
    let (from, to) = (far.node, net.node);
    net.world.observe(move |packet| {
        if packet.from == from {
            sent.fetch_add(1, Ordering::Relaxed);
        }
        if packet.from == to {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(net.try_knock(&far, node, NodeAuth::Anonymous).is_none());
    let [sent, answered] = packets.map(|count| count.load(Ordering::Relaxed));
    println!("{sent} packets from elsewhere, {answered} answers");
    assert!(sent > 0);
    assert_eq!(answered, 0);
    // The same packets from here are answered.
    assert!(net.try_knock(&alice, node, NodeAuth::Anonymous).is_some());
}

#[test]
fn a_flood_at_a_door_stays_within_its_limits() {
    let net = Network::new(4);
    // As many connections from one address as a few calls need, and from all together as an office needs.
    let mut kept: Vec<(Other, Vec<NodeClient>)> = Vec::new();
    for n in 0..40 {
        let other = net.other([192, 168, 1, 10 + n]);
        let clients = (0..6).map(|_| net.knock(&other)).collect();
        kept.push((other, clients));
        assert_eq!(net.anonymous(), (4 * kept.len()).min(32));
    }
    net.pass(Duration::from_secs(1));
    let sent_away = kept.iter().flat_map(|(_other, clients)| clients);
    let sent_away =
        sent_away.filter_map(|client| client.connection().and_then(Connection::close_reason));
    let overloaded = ConnectionLost::ClosedByPeer(CloseCode::Overloaded);
    let sent_away = sent_away.filter(|reason| *reason == overloaded).count();
    assert_eq!(sent_away, 40 * 6 - 32);
    assert_eq!(net.door.supernode().status().connections, 33);

    // Requests of one connection, all in one moment.
    let (other, clients) = &kept[0];
    let user = net.bob.identity.user();
    let began = net.world.elapsed();
    let answers: Vec<_> = (0..100)
        .map(|_| net.on(other, clients[0].lookup(user)))
        .collect();
    let seconds = (net.world.elapsed() - began).as_secs_f64();
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    println!("{served} of 100 requests in {seconds:.3} s");
    assert!((20..=21 + (5.0 * seconds) as usize).contains(&served));
    assert!(answers.contains(&refused(Refusal::TooFast)));

    // The longest envelopes, one after the other: nobody takes them, so what waits is bounded, and so is what one
    // connection may send.
    let before = net.door.supernode().status();
    let outcomes: Vec<Outcome> = kept[1]
        .1
        .iter()
        .take(4)
        .flat_map(|client| (0..10).map(|_| net.deliver(&kept[1].0, client, 1, MAX_ENVELOPE)))
        .collect();
    let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    println!("{taken} of 40 envelopes taken");
    assert!((4..=14).contains(&taken));
    assert!(outcomes.contains(&refused(Refusal::TooFast)));
    let after = net.door.supernode().status();
    assert_eq!(after.connections, before.connections);
    // One that is too long is no request.
    assert!(
        net.deliver(&kept[2].0, &kept[2].1[0], 1, MAX_ENVELOPE + 1)
            .is_err()
    );

    // Those who go make room.
    drop(kept);
    net.pass(Duration::from_secs(60));
    assert_eq!(net.anonymous(), 0);
    let late = net.other([192, 168, 1, 200]);
    assert_eq!(
        net.on(&late, net.knock(&late).lookup(user)).unwrap().len(),
        1
    );
}
