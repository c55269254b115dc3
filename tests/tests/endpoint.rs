//! One port: devices and supernodes find each other, and strangers hear nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::sim::{Conditions, PacketEvent, SimNode, World};
use ahoy_tests::{
    person::{AnyDevice, Person},
    threat,
    udp::Udp,
};
use ahoy_transport::{
    connection::{CloseCode, Connection, ConnectionLost, RecvError},
    endpoint::{
        AcceptedPeer, ConnectError, Endpoint, EndpointConfig, EndpointStats, Expectation,
        ExpectedPeer, NodeAuth, PeerHandshake,
    },
    identity::{DeviceId, NodeKeys},
    noise::{HandshakeError, Pattern, PeerSecrets, Refusal, VerifiedPeer, VerifyPeer},
    runtime::{Runtime, RuntimeExt},
};
use bytes::Bytes;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::mpsc;

const SEED: u64 = 0x00e0_0001;
const PORT: u16 = 4433;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Three machines, 20 ms from each other: 10.0.0.1, .2 and .3.
fn world() -> (World, [SimNode; 3]) {
    let world = World::new(SEED);
    let nodes = [1, 2, 3].map(|n| {
        let node = world.add_node(&format!("node {n}"), &[[10, 0, 0, n].into()]);
        world.set_link(node, Conditions::with_delay(Duration::from_millis(10)));
        node
    });
    (world, nodes)
}

fn runtime(world: &World, node: SimNode) -> Arc<dyn Runtime> {
    world.runtime(node)
}

/// A supernode on `node` that echoes messages on streams.
fn serve_echo(world: &World, node: SimNode) -> (NodeKeys, Endpoint) {
    let runtime = runtime(world, node);
    let keys = NodeKeys::generate(&mut ChaCha20Rng::from_seed(runtime.random_array()));
    let config = EndpointConfig::supernode(SocketAddr::from(([0, 0, 0, 0], PORT)));
    let endpoint = Endpoint::bind(Arc::clone(&runtime), config).unwrap();
    let verifier = Arc::new(AnyDevice(Arc::clone(&runtime)));
    let mut listener = endpoint.serve_nodes(&keys, verifier).unwrap();
    drop(world.spawn(node, async move {
        while let Some(connection) = listener.accept().await {
            runtime.spawn_task(echo(connection)).detach();
        }
    }));
    (keys, endpoint)
}

async fn echo(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        while let Ok(Some(message)) = recv.recv(1000).await {
            send.send(&message).await.unwrap();
        }
        send.finish();
    }
}

async fn echoed(connection: &Connection, message: &[u8]) -> Bytes {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.send(message).await.unwrap();
    send.finish();
    let answer = recv.recv(1000).await.unwrap().unwrap();
    assert_eq!(recv.recv(1000).await, Ok(None));
    answer
}

#[test]
fn a_device_reaches_a_supernode_with_and_without_a_name() {
    let (world, [a, b, _]) = world();
    let (keys, node) = serve_echo(&world, b);
    let runtime = runtime(&world, a);
    world
        .block_on(a, async move {
            let person = Person::generate(&runtime);
            let config = EndpointConfig::peer(addr("[::]:0"));
            let endpoint = Endpoint::bind(Arc::clone(&runtime), config).unwrap();
            let began = runtime.now();
            let anonymous = endpoint
                .connect_node(addr("10.0.0.2:4433"), keys.id(), NodeAuth::Anonymous)
                .await
                .unwrap();
            // One round trip.
            assert_eq!((runtime.now() - began).as_millis(), 40);
            assert_eq!(anonymous.peer().node, Some(keys.id()));
            assert_eq!(anonymous.remote_address(), addr("10.0.0.2:4433"));
            assert_eq!(echoed(&anonymous, b"hello").await, b"hello"[..]);
            let auth = NodeAuth::Device {
                keys: Arc::clone(&person.keys),
                certificate: person.certificate.clone(),
            };
            let named = endpoint
                .connect_node(addr("10.0.0.2:4433"), keys.id(), auth)
                .await
                .unwrap();
            assert_eq!(echoed(&named, &[7; 1000]).await, vec![7; 1000]);
            // The reader's bound holds, and costs the stream only.
            let (mut send, mut recv) = named.open_bi().await.unwrap();
            send.send(&[7; 1001]).await.unwrap();
            assert!(recv.recv(1000).await.is_ok_and(|end| end.is_none()));
            assert!(named.close_reason().is_none());
            let stats = endpoint.stats();
            assert_eq!((stats.dialled, stats.dial_failed), (2, 0));
            named.close(CloseCode::Done, "");
            assert_eq!(named.closed().await, ConnectionLost::ClosedHere);
        })
        .unwrap();
    world.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(node.stats().accepted_nodes, 2);
}

#[test]
fn a_rush_of_clients_proves_its_addresses_and_all_get_in() {
    let (world, [a, b, _]) = world();
    let (keys, node) = serve_echo(&world, b);
    let endpoint =
        Endpoint::bind(runtime(&world, a), EndpointConfig::peer(addr("[::]:0"))).unwrap();
    let dials: Vec<_> = (0..200)
        .map(|_| {
            let endpoint = endpoint.clone();
            let id = keys.id();
            world.spawn(a, async move {
                let dial = endpoint.connect_node(addr("10.0.0.2:4433"), id, NodeAuth::Anonymous);
                dial.await.map(|connection| connection.rtt())
            })
        })
        .collect();
    world.run_for(Duration::from_secs(5)).unwrap();
    for mut dial in dials {
        dial.try_recv().unwrap().unwrap();
    }
    let stats = node.stats();
    assert_eq!(stats.accepted_nodes, 200);
    assert!(stats.retries_sent >= 100, "{stats:?}");
    threat(
        11,
        format_args!(
            "200 of 200 get in, asked {} times to prove their address first",
            stats.retries_sent
        ),
    );
}

#[test]
fn a_supernode_with_another_key_is_not_the_one_that_was_dialled() {
    let (world, [a, b, c]) = world();
    let (_keys, _node) = serve_echo(&world, b);
    let (other, _other_node) = serve_echo(&world, c);
    let runtime = runtime(&world, a);
    world
        .block_on(a, async move {
            let endpoint = Endpoint::bind(runtime, EndpointConfig::peer(addr("[::]:0"))).unwrap();
            let error = endpoint
                .connect_node(addr("10.0.0.2:4433"), other.id(), NodeAuth::Anonymous)
                .await
                .unwrap_err();
            // The server cannot read message 1 and says no more than that something failed.
            assert!(
                matches!(error, ConnectError::Lost(ConnectionLost::Transport(_))),
                "{error:?}"
            );
        })
        .unwrap();
}

#[derive(Debug)]
struct Expect(DeviceId, [u8; 32]);

impl VerifyPeer for Expect {
    fn verify(
        &self,
        _pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        _credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        if noise_static != Some(&self.1) {
            return Err(Refusal::UnexpectedPeer);
        }
        Ok(VerifiedPeer {
            device: Some(self.0),
            ..VerifiedPeer::default()
        })
    }
}

fn handshake(local: &Person, remote: &Person, secret: u8, number: u32) -> PeerHandshake {
    PeerHandshake {
        local_static: local.keys.noise_static().clone(),
        credential: local.certificate.as_bytes().to_vec(),
        context: number.to_be_bytes().to_vec(),
        verifier: Arc::new(Expect(remote.keys.id(), remote.keys.noise_public())),
        secrets: PeerSecrets::derive(&[secret; 32], number, None),
    }
}

/// Bob's endpoint, which expects connection 0 of Alice from anywhere, under secret 1.
struct Callee {
    endpoint: Endpoint,
    _expectation: Expectation,
    accepted: mpsc::Receiver<AcceptedPeer>,
}

fn callee(world: &World, node: SimNode, alice: &Person, bob: &Person) -> Callee {
    let config = EndpointConfig::peer(SocketAddr::from(([0, 0, 0, 0], PORT)));
    let endpoint = Endpoint::bind(runtime(world, node), config).unwrap();
    let (sender, accepted) = mpsc::channel(4);
    let expectation = endpoint
        .expect_peer(ExpectedPeer {
            number: 0,
            handshake: handshake(bob, alice, 1, 0),
            source: Arc::new(|_| true),
            accepted: sender,
        })
        .unwrap();
    Callee {
        endpoint,
        _expectation: expectation,
        accepted,
    }
}

/// What a node sent, as the network saw it.
fn sent_by(world: &World, node: SimNode) -> Arc<Mutex<Vec<PacketEvent>>> {
    let sent: Arc<Mutex<Vec<PacketEvent>>> = Arc::default();
    let log = Arc::clone(&sent);
    world.observe(move |packet| {
        if packet.from == node {
            log.lock().unwrap().push(packet.clone());
        }
    });
    sent
}

#[test]
fn an_expected_peer_comes_in_once_and_its_replayed_first_flight_is_silence() {
    let (world, [a, b, c]) = world();
    let people = [a, b].map(|node| Person::generate(&runtime(&world, node)));
    let [alice, bob] = &people;
    let mut callee = callee(&world, b, alice, bob);
    callee.endpoint.mux().admit(addr("10.0.0.1:4433")).unwrap();
    // The eavesdropper may even send from an admitted address.
    callee.endpoint.mux().admit(addr("10.0.0.3:4433")).unwrap();
    let flight = sent_by(&world, a);
    let from_bob = sent_by(&world, b);

    let config = EndpointConfig::peer(SocketAddr::from(([0, 0, 0, 0], PORT)));
    let endpoint = Endpoint::bind(runtime(&world, a), config).unwrap();
    let dial = endpoint.connect_peer(
        addr("10.0.0.2:4433"),
        bob.keys.noise_public(),
        handshake(alice, bob, 1, 0),
    );
    let connection = world.block_on(a, dial).unwrap().unwrap();
    let accepted = world.block_on(b, callee.accepted.recv()).unwrap().unwrap();
    assert_eq!(accepted.connection.peer().device, Some(alice.keys.id()));
    assert_eq!(connection.peer().device, Some(bob.keys.id()));
    assert_eq!(
        connection.exporter(b"words", b""),
        accepted.connection.exporter(b"words", b"")
    );
    let first: Vec<Bytes> = flight
        .lock()
        .unwrap()
        .iter()
        .take(2)
        .map(|packet| packet.contents.clone())
        .collect();

    // While the connection lives, and after its end.
    let replay = |world: &World| {
        let before = from_bob.lock().unwrap().len();
        let udp = Udp::bind(&*runtime(world, c), addr("0.0.0.0:4433")).unwrap();
        for packet in &first {
            udp.send(addr("10.0.0.2:4433"), packet).unwrap();
        }
        world.run_for(Duration::from_millis(500)).unwrap();
        let log = from_bob.lock().unwrap();
        log[before..]
            .iter()
            .filter(|packet| packet.to == Some(c))
            .count()
    };
    assert_eq!(replay(&world), 0);
    connection.close(CloseCode::Done, "");
    drop(accepted);
    world.run_for(Duration::from_secs(5)).unwrap();
    assert_eq!(replay(&world), 0);
    assert!(callee.endpoint.stats().used_tag > 0);
    assert_eq!(callee.endpoint.stats().accepted_peers, 1);
    assert!(callee.accepted.try_recv().is_err());
}

/// Packets that Alice, 600 ms from everybody, sends Bob until the connection is up.
fn sent_from_afar(knows_a_supernode: bool) -> usize {
    let (world, [a, b, c]) = world();
    let delay = Duration::from_millis(290);
    world.set_link(a, Conditions::with_delay(delay));
    let people = [a, b].map(|node| Person::generate(&runtime(&world, node)));
    let [alice, bob] = &people;
    let callee = callee(&world, b, alice, bob);
    callee.endpoint.mux().admit(addr("10.0.0.1:4433")).unwrap();
    let (keys, _node) = serve_echo(&world, c);
    let config = EndpointConfig::peer(SocketAddr::from(([0, 0, 0, 0], PORT)));
    let endpoint = Endpoint::bind(runtime(&world, a), config).unwrap();
    let home = knows_a_supernode.then(|| {
        let dial = endpoint.connect_node(addr("10.0.0.3:4433"), keys.id(), NodeAuth::Anonymous);
        world.block_on(a, dial).unwrap().unwrap()
    });
    let sent = sent_by(&world, a);
    let dial = endpoint.connect_peer(
        addr("10.0.0.2:4433"),
        bob.keys.noise_public(),
        handshake(alice, bob, 1, 0),
    );
    world.block_on(a, dial).unwrap().unwrap();
    drop(home);
    let sent = sent.lock().unwrap();
    sent.iter().filter(|packet| packet.to == Some(b)).count()
}

#[test]
fn who_is_far_from_a_supernode_does_not_repeat_what_is_under_way() {
    let (known, unknown) = (sent_from_afar(true), sent_from_afar(false));
    println!("{known} packets, without a supernode {unknown}");
    assert!(known <= 4, "{known}");
    assert!(unknown >= known + 3, "{unknown}");
}

/// Alice dials Bob with what she has, from an admitted address; Bob sends how many packets, and counts what?
fn attempt(secret: u8, number: u32, admit: bool) -> (usize, EndpointStats, u64) {
    let (world, [a, b, _]) = world();
    let people = [a, b].map(|node| Person::generate(&runtime(&world, node)));
    let [alice, bob] = &people;
    let callee = callee(&world, b, alice, bob);
    if admit {
        callee.endpoint.mux().admit(addr("10.0.0.1:4433")).unwrap();
    }
    let from_bob = sent_by(&world, b);
    let config = EndpointConfig::peer(SocketAddr::from(([0, 0, 0, 0], PORT)));
    let endpoint = Endpoint::bind(runtime(&world, a), config).unwrap();
    let dial = endpoint.connect_peer(
        addr("10.0.0.2:4433"),
        bob.keys.noise_public(),
        handshake(alice, bob, secret, number),
    );
    let error = world.block_on(a, dial).unwrap().unwrap_err();
    assert_eq!(error, ConnectError::Lost(ConnectionLost::TimedOut));
    let sent = from_bob.lock().unwrap().len();
    let stats = callee.endpoint.stats();
    (
        sent,
        stats,
        callee.endpoint.mux().stats().dropped.not_admitted,
    )
}

#[test]
fn an_unknown_tag_is_silence() {
    let (sent, stats, dropped) = attempt(2, 0, true);
    assert_eq!((sent, dropped), (0, 0));
    assert!(stats.unknown_tag > 0);
}

#[test]
fn even_a_known_tag_is_silence_from_an_address_nobody_admitted() {
    let (sent, stats, dropped) = attempt(1, 0, false);
    assert_eq!((sent, stats), (0, EndpointStats::default()));
    assert!(dropped > 0);
}

#[test]
fn garbage_and_foreign_protocols_are_silence() {
    let (world, [a, b, c]) = world();
    let people = [a, b].map(|node| Person::generate(&runtime(&world, node)));
    let callee = callee(&world, b, &people[0], &people[1]);
    callee.endpoint.mux().admit(addr("10.0.0.3:4433")).unwrap();
    let from_bob = sent_by(&world, b);
    let runtime = runtime(&world, c);
    let udp = Udp::bind(&*runtime, addr("0.0.0.0:4433")).unwrap();
    let mut packet = [0; 1200];
    for round in 0..2000_usize {
        runtime.fill_random(&mut packet);
        match round % 4 {
            // A QUIC version 1 Initial, as scanners send it.
            0 => packet[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]),
            // Our version, random connection ids, no token.
            1 => packet[..6].copy_from_slice(&[0xc3, 0x61, 0x68, 0, 1, 20]),
            // Short headers.
            2 => packet[0] = 0x40 | packet[0] & 0x3f,
            _ => {}
        }
        let len = if round % 8 < 4 {
            1200
        } else {
            usize::from(packet[1199]) + 1
        };
        udp.send(addr("10.0.0.2:4433"), &packet[..len]).unwrap();
        world.run_for(Duration::from_millis(1)).unwrap();
    }
    world.run_for(Duration::from_secs(5)).unwrap();
    assert_eq!(from_bob.lock().unwrap().len(), 0);
    let stats = callee.endpoint.mux().stats();
    assert_eq!(stats.received, 2000);
    assert!(stats.dropped.foreign_version >= 500);
}

#[test]
fn a_wrong_secret_under_the_right_tag_leaves_the_tag_usable() {
    let (world, [a, b, c]) = world();
    let people = [a, b].map(|node| Person::generate(&runtime(&world, node)));
    let [alice, bob] = &people;
    let mut callee = callee(&world, b, alice, bob);
    callee.endpoint.mux().admit(addr("10.0.0.1:4433")).unwrap();
    callee.endpoint.mux().admit(addr("10.0.0.3:4433")).unwrap();
    let dial = |node, secrets: PeerSecrets| {
        let config = EndpointConfig::peer(SocketAddr::from(([0, 0, 0, 0], PORT)));
        let endpoint = Endpoint::bind(runtime(&world, node), config).unwrap();
        let mut handshake = handshake(alice, bob, 1, 0);
        handshake.secrets = secrets;
        let key = bob.keys.noise_public();
        let dial = endpoint.connect_peer(addr("10.0.0.2:4433"), key, handshake);
        world.block_on(node, dial).unwrap()
    };
    let mut stolen = PeerSecrets::derive(&[2; 32], 0, None);
    stolen.tag = PeerSecrets::derive(&[1; 32], 0, None).tag;
    let error = dial(c, stolen).unwrap_err();
    assert!(
        !matches!(error, ConnectError::Handshake(HandshakeError::Noise)),
        "{error:?}"
    );
    assert_eq!(callee.endpoint.stats().handshake_failed, 1);
    dial(a, PeerSecrets::derive(&[1; 32], 0, None)).unwrap();
    let accepted = world.block_on(b, callee.accepted.recv()).unwrap();
    assert_eq!(accepted.unwrap().number, 0);
}

#[test]
fn cut_streams_and_lost_connections_are_told_apart() {
    let (world, [a, b, _]) = world();
    let (keys, _node) = serve_echo(&world, b);
    let runtime = runtime(&world, a);
    let endpoint = Endpoint::bind(runtime, EndpointConfig::peer(addr("[::]:0"))).unwrap();
    let dial = endpoint.connect_node(addr("10.0.0.2:4433"), keys.id(), NodeAuth::Anonymous);
    let connection = world.block_on(a, dial).unwrap().unwrap();
    let (_send, mut recv) = world.block_on(a, connection.open_bi()).unwrap().unwrap();
    world.kill(b);
    let error = world.block_on(a, recv.recv(10)).unwrap().unwrap_err();
    assert_eq!(error, RecvError::Lost(ConnectionLost::TimedOut));
}
