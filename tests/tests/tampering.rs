//! Somebody on the way who alters, shortens, repeats and holds back what passes: row 2 of the threat model.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::sim::{Conditions, SimNode, World};
use ahoy_tests::{person::AnyDevice, plain_quic, threat, udp::Udp};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::NodeKeys,
    runtime::{Runtime, RuntimeExt},
};
use bytes::Bytes;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

const SEED: u64 = 0x7461_6d70;
/// Datagrams that are sent, one each [`PACE`].
const COUNT: u32 = 200_000;
const PACE: Duration = Duration::from_millis(2);
/// Long enough that an altered bit is most probably one of these.
const PAYLOAD_BYTES: usize = 400;
/// Packets that are not let through as they are, of a thousand; each kind of mischief has a fifth of them.
const MISCHIEF_PERMILLE: u32 = 50;

/// Packets that pass at first: a handshake without cryptography does not survive what one with it does.
const HANDSHAKE: u32 = 10;

/// Datagrams that fit into one packet, as they do when some had to wait.
const IN_A_PACKET: usize = 1200 / PAYLOAD_BYTES;

const SERVER: &str = "10.0.0.2:4433";
const MIDDLE: &str = "10.0.0.3:4433";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What datagram `n` holds.
fn payload(n: u32) -> Vec<u8> {
    let mut bytes = vec![0; PAYLOAD_BYTES];
    ChaCha20Rng::seed_from_u64(n.into()).fill_bytes(&mut bytes);
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// What arrived, in its order.
type Arrived = Arc<Mutex<Vec<Bytes>>>;

/// What somebody on the way did.
#[derive(Debug, Default, Clone, Copy)]
struct Mischief {
    flipped: u32,
    shortened: u32,
    lengthened: u32,
    repeated: u32,
    held_back: u32,
}

impl Mischief {
    fn total(self) -> u32 {
        self.flipped + self.shortened + self.lengthened + self.repeated + self.held_back
    }
}

/// Three machines: who sends, who receives, and who sits between them.
fn machines() -> (World, [SimNode; 3]) {
    eprintln!("seed {SEED:#x}");
    let world = World::new(SEED);
    let nodes = [1, 2, 3].map(|n| {
        let node = world.add_node(&format!("node {n}"), &[[10, 0, 0, n].into()]);
        world.set_link(node, Conditions::with_delay(Duration::from_millis(5)));
        node
    });
    (world, nodes)
}

/// Stands at [`MIDDLE`] for the server, and passes on what comes, not always as it came.
fn tamper(world: &World, node: SimNode) -> Arc<Mutex<Mischief>> {
    let runtime: Arc<dyn Runtime> = world.runtime(node);
    let front = Udp::bind(&*runtime, addr("0.0.0.0:4433")).unwrap();
    let back = Udp::bind(&*runtime, addr("0.0.0.0:5000")).unwrap();
    let done = Arc::new(Mutex::new(Mischief::default()));
    let (client, noted) = (Arc::new(Mutex::new(None)), Arc::clone(&done));
    let (answering, answered) = (front.clone(), Arc::clone(&client));
    let outward = back.clone();
    drop(world.spawn(node, async move {
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let (mut held, mut old) = (Vec::new(), Vec::new());
        let mut passed = 0;
        while let Ok(datagram) = front.recv().await {
            *client.lock().unwrap() = Some(datagram.from);
            let mut bytes = datagram.contents;
            let mut copies = 1;
            let dice = rng.next_u32();
            passed += 1;
            if passed > HANDSHAKE && dice % 1000 < MISCHIEF_PERMILLE {
                let mut done = noted.lock().unwrap();
                let at = rng.next_u32() as usize;
                match dice / 1000 % 5 {
                    0 => {
                        let length = bytes.len();
                        bytes[at % length] ^= 1 << (dice >> 29);
                        done.flipped += 1;
                    }
                    1 => {
                        bytes.truncate(at % bytes.len());
                        done.shortened += 1;
                    }
                    2 => {
                        bytes.push(at.to_le_bytes()[0]);
                        done.lengthened += 1;
                    }
                    // Now, and once more much later.
                    3 => {
                        old.push(bytes.clone());
                        copies = 2;
                        done.repeated += 1;
                    }
                    _ => {
                        done.held_back += 1;
                        held.push(bytes);
                        continue;
                    }
                }
            }
            for _ in 0..copies {
                outward.send(addr(SERVER), &bytes).unwrap();
            }
            // Overtaken by one that was let through.
            let late = if old.len() > 100 {
                old.drain(..)
            } else {
                old.drain(..0)
            };
            for bytes in held.drain(..).chain(late) {
                outward.send(addr(SERVER), &bytes).unwrap();
            }
        }
    }));
    drop(world.spawn(node, async move {
        while let Ok(datagram) = back.recv().await {
            let to = *answered.lock().unwrap();
            if let Some(to) = to {
                answering.send(to, &datagram.contents).unwrap();
            }
        }
    }));
    done
}

/// What came of it.
struct Outcome {
    mischief: Mischief,
    arrived: usize,
    /// Of them, those that nobody had sent.
    forged: usize,
    /// And those that had arrived before.
    again: usize,
    alive: bool,
}

fn judge(mischief: Mischief, arrived: &[Bytes], alive: bool) -> Outcome {
    let mut seen = BTreeSet::new();
    let (mut forged, mut again) = (0, 0);
    for datagram in arrived {
        let n = datagram.first_chunk().map(|n| u32::from_be_bytes(*n));
        match n.filter(|n| *n < COUNT && payload(*n) == datagram[..]) {
            None => forged += 1,
            Some(n) => again += usize::from(!seen.insert(n)),
        }
    }
    let outcome = Outcome {
        mischief,
        arrived: arrived.len(),
        forged,
        again,
        alive,
    };
    eprintln!(
        "{mischief:?}: {} of {COUNT} arrived, {forged} forged, {again} again",
        outcome.arrived
    );
    outcome
}

/// By the shipped endpoints.
fn encrypted() -> Outcome {
    let (world, [a, b, middle]) = machines();
    let mischief = tamper(&world, middle);
    let arrived = Arrived::default();
    let runtime: Arc<dyn Runtime> = world.runtime(b);
    let keys = NodeKeys::generate(&mut ChaCha20Rng::from_seed(runtime.random_array()));
    let config = EndpointConfig::supernode(addr("0.0.0.0:4433"));
    let server = Endpoint::bind(Arc::clone(&runtime), config).unwrap();
    let verifier = Arc::new(AnyDevice(Arc::clone(&runtime)));
    let mut listener = server.serve_nodes(&keys, verifier).unwrap();
    let heard = Arc::clone(&arrived);
    drop(world.spawn(b, async move {
        while let Some(connection) = listener.accept().await {
            while let Ok(datagram) = connection.recv_datagram().await {
                heard.lock().unwrap().push(datagram);
            }
        }
    }));
    let runtime: Arc<dyn Runtime> = world.runtime(a);
    let alive = world.block_on(a, async move {
        let config = EndpointConfig::peer(addr("0.0.0.0:0"));
        let endpoint = Endpoint::bind(Arc::clone(&runtime), config).unwrap();
        let dialled = endpoint.connect_node(addr(MIDDLE), keys.id(), NodeAuth::Anonymous);
        let connection = dialled.await.unwrap();
        for n in 0..COUNT {
            connection
                .send_datagram_wait(payload(n).into())
                .await
                .unwrap();
            runtime.sleep(PACE).await;
        }
        runtime.sleep(Duration::from_secs(1)).await;
        connection.close_reason().is_none()
    });
    let mischief = *mischief.lock().unwrap();
    judge(mischief, &arrived.lock().unwrap(), alive.unwrap())
}

/// By the same QUIC without cryptography.
fn plain() -> Outcome {
    let (world, [a, b, middle]) = machines();
    let mischief = tamper(&world, middle);
    let arrived = Arrived::default();
    let runtime: Arc<dyn Runtime> = world.runtime(b);
    let heard = Arc::clone(&arrived);
    drop(world.spawn(b, async move {
        let endpoint = plain_quic::endpoint(&runtime, addr("0.0.0.0:4433")).unwrap();
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else {
                continue;
            };
            while let Ok(datagram) = connection.read_datagram().await {
                heard.lock().unwrap().push(datagram);
            }
        }
    }));
    let runtime: Arc<dyn Runtime> = world.runtime(a);
    let alive = world.block_on(a, async move {
        let endpoint = plain_quic::endpoint(&runtime, addr("0.0.0.0:0")).unwrap();
        let config = plain_quic::client_config(&runtime);
        let connecting = endpoint.connect_with(config, addr(MIDDLE), "server");
        let connection = connecting.unwrap().await.unwrap();
        for n in 0..COUNT {
            // What alters packets may end a connection that cannot tell.
            if connection.send_datagram(payload(n).into()).is_err() {
                break;
            }
            runtime.sleep(PACE).await;
        }
        runtime.sleep(Duration::from_secs(1)).await;
        connection.close_reason().is_none()
    });
    let mischief = *mischief.lock().unwrap();
    judge(mischief, &arrived.lock().unwrap(), alive.unwrap())
}

#[test]
fn what_somebody_on_the_way_alters_or_repeats_is_never_taken() {
    let outcome = encrypted();
    assert!(outcome.mischief.total() > COUNT / 1000 * MISCHIEF_PERMILLE / 2);
    assert_eq!((outcome.forged, outcome.again), (0, 0));
    assert!(outcome.alive);
    // No more is lost than was in what was altered.
    let altered =
        outcome.mischief.flipped + outcome.mischief.shortened + outcome.mischief.lengthened;
    let lost = COUNT as usize - outcome.arrived;
    assert!(
        lost <= IN_A_PACKET * altered as usize,
        "{lost} lost, {altered} altered"
    );
    threat(
        2,
        format_args!(
            "0 accepted of {altered} altered and {} repeated among {COUNT} datagrams, which went on",
            outcome.mischief.repeated
        ),
    );
}

#[test]
fn without_cryptography_altered_datagrams_are_taken() {
    assert!(plain().forged > 0);
}
