//! The simulated world does what it says.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ahoy::sim::{Conditions, Loss, SimNode, TraceHash, World};
use ahoy_tests::{plain_quic, udp::Udp};
use ahoy_transport::runtime::Runtime;
use bytes::Bytes;

const SEED: u64 = 0x00a0_0001;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn runtime(world: &World, node: SimNode) -> Arc<dyn Runtime> {
    world.runtime(node)
}

/// Two nodes, 10.0.0.1 and 10.0.0.2, with `conditions` on the link of the first in both directions.
fn two_nodes(seed: u64, conditions: Conditions) -> (World, SimNode, SimNode) {
    let world = World::new(seed);
    let a = world.add_node("alice", &["10.0.0.1".parse().unwrap()]);
    let b = world.add_node("bob", &["10.0.0.2".parse().unwrap()]);
    world.set_link(a, conditions);
    (world, a, b)
}

/// Echoes QUIC datagrams on port 4433 of `node` for ever.
fn serve_quic_echo(world: &World, node: SimNode) {
    let runtime = runtime(world, node);
    drop(world.spawn(node, async move {
        let endpoint = plain_quic::endpoint(&runtime, addr("0.0.0.0:4433")).unwrap();
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else {
                continue;
            };
            while let Ok(datagram) = connection.read_datagram().await {
                connection.send_datagram(datagram).unwrap();
            }
        }
    }));
}

/// Sends `count` datagrams, one every 20 ms, to the echo and returns how many came back.
async fn quic_echo_client(runtime: Arc<dyn Runtime>, count: u32) -> u32 {
    use ahoy_transport::runtime::{RuntimeExt, timeout};
    let endpoint = plain_quic::endpoint(&runtime, addr("0.0.0.0:0")).unwrap();
    let config = plain_quic::client_config(&runtime);
    let connection = endpoint
        .connect_with(config, addr("10.0.0.2:4433"), "bob")
        .unwrap()
        .await
        .unwrap();
    let reader = connection.clone();
    let receive = async {
        let mut echoed = 0;
        while let Some(Ok(_)) = timeout(&*runtime, ms(500), reader.read_datagram()).await {
            echoed += 1;
        }
        echoed
    };
    let send = async {
        for number in 0..count {
            let mut payload = vec![0; 120];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            connection.send_datagram(Bytes::from(payload)).unwrap();
            runtime.sleep(ms(20)).await;
        }
    };
    let (echoed, ()) = tokio::join!(biased; receive, send);
    connection.close(plain_quic::DONE, b"");
    endpoint.wait_idle().await;
    echoed
}

#[test]
fn udp_travels_between_two_nodes_after_exactly_the_delay() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(20)));
    let (alice, bob) = (runtime(&world, a), runtime(&world, b));
    let server = Udp::bind(&*bob, addr("10.0.0.2:5000")).unwrap();
    drop(world.spawn(b, async move {
        while let Ok(datagram) = server.recv().await {
            server.send(datagram.from, &datagram.contents).unwrap();
        }
    }));
    let reply = world
        .block_on(a, async move {
            let socket = Udp::bind(&*alice, addr("0.0.0.0:0")).unwrap();
            socket.send(addr("10.0.0.2:5000"), b"hello").unwrap();
            socket.recv().await.unwrap()
        })
        .unwrap();
    assert_eq!(reply.contents, b"hello");
    assert_eq!(reply.from, addr("10.0.0.2:5000"));
    assert_eq!(world.elapsed(), ms(40));
}

#[test]
fn quic_datagrams_are_echoed_between_two_nodes() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(20)));
    serve_quic_echo(&world, b);
    let echoed = world
        .block_on(a, quic_echo_client(runtime(&world, a), 100))
        .unwrap();
    assert_eq!(echoed, 100);
}

fn lossy_run(seed: u64) -> (TraceHash, u32) {
    let (world, a, b) = two_nodes(
        seed,
        Conditions {
            delay: ms(20),
            jitter: ms(10),
            jitter_reorders: true,
            reorder: 0.02,
            reorder_by: ms(5),
            duplicate: 0.02,
            loss: Loss::bursts(0.05, 3.0),
            ..Conditions::default()
        },
    );
    serve_quic_echo(&world, b);
    let echoed = world
        .block_on(a, quic_echo_client(runtime(&world, a), 500))
        .unwrap();
    (world.trace_hash(), echoed)
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let first = lossy_run(SEED);
    let second = lossy_run(SEED);
    let other = lossy_run(SEED + 1);
    println!("seed {SEED}: {first:?}");
    assert_eq!(first, second);
    assert_ne!(first.0.shape, other.0.shape);
    assert_ne!(first.0.bytes, other.0.bytes);
}
