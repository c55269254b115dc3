//! Thousands of handshakes over bad links: each one completes, or says in time why not.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::sim::{Conditions, Loss, SimNode, TraceHash, World};
use ahoy_tests::{
    person::{AnyDevice, Person},
    plain_quic::{self, FinishedOrder},
};
use ahoy_transport::{
    connection::{CloseCode, Connection},
    endpoint::{
        AcceptedPeer, Endpoint, EndpointConfig, ExpectedPeer, HANDSHAKE_TIMEOUT, PeerHandshake,
    },
    noise::{Pattern, PeerSecrets},
    runtime::{Runtime, RuntimeExt, timeout},
};
use tokio::sync::mpsc;

const SEED: u64 = 0x50a4;

/// Handshakes for each loss level: 10 000 in all.
const HANDSHAKES: u32 = 2_500;
/// Dials under way at the same time.
const CONCURRENT: u32 = 20;
/// By now each handshake must have ended one way or the other.
const DEADLINE: Duration = HANDSHAKE_TIMEOUT.saturating_add(Duration::from_secs(1));
/// By now a message must have gone there and back, or the connection must be gone.
const PING_DEADLINE: Duration = Duration::from_secs(120);

const CLIENT: &str = "10.0.0.1:4433";
const SERVER: &str = "10.0.0.2:4433";
const PING: &[u8] = b"both directions work";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// How one handshake went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// And a message went there and back.
    Completed,
    /// It ended with this error.
    Named(String),
    /// It had not ended by its deadline.
    Hung,
}

#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<Outcome, u32>,
    /// From the dial to the client's end of the handshake.
    times: Vec<Duration>,
}

impl Tally {
    fn count(&self, outcome: &Outcome) -> u32 {
        self.outcomes.get(outcome).copied().unwrap_or(0)
    }

    fn total(&self) -> u32 {
        self.outcomes.values().sum()
    }

    fn completed(&self) -> f64 {
        f64::from(self.count(&Outcome::Completed)) / f64::from(self.total())
    }

    fn report(&mut self, name: &str, loss: f64) {
        self.times.sort_unstable();
        let percentile = |percent: usize| {
            let last = self.times.len().saturating_sub(1);
            self.times
                .get(last * percent / 100)
                .map_or(0, Duration::as_millis)
        };
        eprintln!(
            "{name:<16} loss {:>2.0} %  completed {:>6.2} %  p50 {:>4} ms  p99 {:>5} ms  {:?}",
            loss * 100.0,
            self.completed() * 100.0,
            percentile(50),
            percentile(99),
            self.outcomes,
        );
    }
}

/// A client and a server, 15 to 25 ms from each other. Half of the packets sent back to back change places, so
/// that half of the hybrid flights, two datagrams long, arrive the wrong way round.
fn world(seed: u64, loss: f64) -> (World, SimNode, SimNode) {
    let world = World::new(seed);
    let client = world.add_node("client", &[addr(CLIENT).ip()]);
    let server = world.add_node("server", &[addr(SERVER).ip()]);
    world.set_link(
        client,
        Conditions {
            delay: Duration::from_millis(15),
            jitter: Duration::from_millis(10),
            jitter_reorders: true,
            loss: Loss::Random(loss),
            ..Conditions::default()
        },
    );
    (world, client, server)
}

type Dial = Pin<Box<dyn Future<Output = (Outcome, Option<Duration>)> + Send>>;

/// Runs `dial` for 0..`count`, some at a time. It gives the outcome and, if it got so far, the handshake's time.
fn soak(
    world: &World,
    client: SimNode,
    count: u32,
    dial: impl Fn(u32) -> Dial + Send + Sync + 'static,
) -> Tally {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let dial = Arc::new(dial);
    for slot in 0..CONCURRENT {
        let (dial, tally) = (Arc::clone(&dial), Arc::clone(&tally));
        drop(world.spawn(client, async move {
            for n in (slot..count).step_by(CONCURRENT as usize) {
                let (outcome, time) = dial(n).await;
                let mut tally = tally.lock().unwrap();
                *tally.outcomes.entry(outcome).or_default() += 1;
                tally.times.extend(time);
            }
        }));
    }
    world
        .run_until(Duration::from_secs(24 * 3600), || {
            tally.lock().unwrap().total() == count
        })
        .unwrap();
    std::mem::take(&mut *tally.lock().unwrap())
}

// The shipped endpoints, between two devices.

/// Answers one message and waits until the other side has had enough.
async fn answer(connection: Connection) {
    if let Ok((mut send, mut recv)) = connection.accept_bi().await
        && let Ok(Some(message)) = recv.recv(PING.len()).await
        && send.send(&message).await.is_ok()
    {
        connection.closed().await;
    }
}

async fn ping(connection: &Connection) -> Outcome {
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        send.send(PING).await.ok()?;
        recv.recv(PING.len()).await.ok()?
    };
    match (exchange.await, connection.close_reason()) {
        (Some(answer), _) if answer == PING => Outcome::Completed,
        (_, Some(lost)) => Outcome::Named(format!("after the handshake: {lost}")),
        (_, None) => Outcome::Named("wrong answer".into()),
    }
}

fn handshake(local: &Person, runtime: &Arc<dyn Runtime>, n: u32) -> PeerHandshake {
    let mut secret = [1; 32];
    secret[..4].copy_from_slice(&n.to_be_bytes());
    PeerHandshake {
        local_static: local.keys.noise_static().clone(),
        credential: local.certificate.as_bytes().to_vec(),
        context: b"soak".to_vec(),
        verifier: Arc::new(AnyDevice(Arc::clone(runtime))),
        secrets: PeerSecrets::derive(&secret, 0, None),
    }
}

fn shipped(seed: u64, loss: f64, count: u32) -> (Tally, TraceHash) {
    let (world, client, server) = world(seed, loss);
    let [near, far]: [Arc<dyn Runtime>; 2] = [world.runtime(client), world.runtime(server)];
    let [alice, bob] = [&near, &far].map(Person::generate);
    let caller = Endpoint::bind(Arc::clone(&near), EndpointConfig::peer(addr(CLIENT))).unwrap();
    let callee = Endpoint::bind(Arc::clone(&far), EndpointConfig::peer(addr(SERVER))).unwrap();
    callee.mux().admit(addr(CLIENT)).unwrap();

    let (sender, mut accepted) = mpsc::channel::<AcceptedPeer>(CONCURRENT as usize);
    let answering = Arc::clone(&far);
    drop(world.spawn(server, async move {
        while let Some(peer) = accepted.recv().await {
            answering.spawn_task(answer(peer.connection)).detach();
        }
    }));

    let tally = soak(&world, client, count, move |n| {
        let (caller, near) = (caller.clone(), Arc::clone(&near));
        let theirs = handshake(&bob, &far, n);
        let ours = handshake(&alice, &near, n);
        let key = bob.keys.noise_public();
        let expectation = callee.expect_peer(ExpectedPeer {
            number: 0,
            handshake: theirs,
            source: Arc::new(|from| from == addr(CLIENT)),
            accepted: sender.clone(),
        });
        Box::pin(async move {
            let _expectation = expectation.unwrap();
            let start = near.now();
            let dial = caller.connect_peer(addr(SERVER), key, ours);
            match timeout(&*near, DEADLINE, dial).await {
                None => (Outcome::Hung, None),
                Some(Err(error)) => (Outcome::Named(error.to_string()), None),
                Some(Ok(connection)) => {
                    let taken = near.now() - start;
                    let outcome = timeout(&*near, PING_DEADLINE, ping(&connection)).await;
                    connection.close(CloseCode::Done, "");
                    (outcome.unwrap_or(Outcome::Hung), Some(taken))
                }
            }
        })
    });
    (tally, world.trace_hash())
}

#[test]
fn ten_thousand_handshakes_complete_or_name_their_error_under_loss_and_reordering() {
    #[expect(clippy::disallowed_methods, reason = "measures the soak itself")]
    let start = std::time::Instant::now();
    eprintln!("{}, seed {SEED}", Pattern::IkHfsPsk0.noise_name());
    for (loss, at_least) in [(0.0, 1.0), (0.05, 0.999), (0.2, 0.99), (0.4, 0.9)] {
        let (mut tally, _) = shipped(SEED, loss, HANDSHAKES);
        tally.report("shipped", loss);
        assert_eq!(tally.total(), HANDSHAKES);
        assert_eq!(tally.count(&Outcome::Hung), 0, "seed {SEED}");
        assert!(tally.completed() >= at_least, "seed {SEED}");
    }
    eprintln!("took {:?}", start.elapsed());
}

#[test]
fn the_shipped_endpoints_repeat_byte_by_byte_with_the_same_seed() {
    let run = |seed| shipped(seed, 0.1, 50).1;
    assert_eq!(run(SEED), run(SEED));
    assert_ne!(run(SEED), run(SEED + 1));
}

// The same soak notices the mistake that it is there for.

/// Handshakes of QUIC without cryptography, whose clients say Finished when `order` tells them to.
fn plain(seed: u64, loss: f64, count: u32, order: FinishedOrder) -> Tally {
    let (world, client, server) = world(seed, loss);
    let [near, far]: [Arc<dyn Runtime>; 2] = [world.runtime(client), world.runtime(server)];
    let caller = plain_quic::endpoint(&near, addr(CLIENT)).unwrap();
    let callee = plain_quic::endpoint(&far, addr(SERVER)).unwrap();
    drop(world.spawn(server, async move {
        while let Some(incoming) = callee.accept().await {
            let serve = async move {
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            };
            far.spawn_task(serve).detach();
        }
    }));
    soak(&world, client, count, move |n| {
        let config = plain_quic::client_config_with(&near, order);
        let connecting = caller
            .connect_with(config, addr(SERVER), &format!("peer-{n}"))
            .unwrap();
        let near = Arc::clone(&near);
        Box::pin(async move {
            let start = near.now();
            match timeout(&*near, DEADLINE, connecting).await {
                None => (Outcome::Hung, None),
                Some(Err(error)) => (Outcome::Named(error.to_string()), None),
                Some(Ok(_)) => (Outcome::Completed, Some(near.now() - start)),
            }
        })
    })
}

#[test]
fn a_client_that_finishes_before_the_server_fails_the_soak() {
    let loss = 0.2;
    let run = |order| {
        let mut tally = plain(SEED, loss, 1_000, order);
        tally.report(&format!("{order:?}"), loss);
        tally.completed()
    };
    assert!(run(FinishedOrder::AfterTheServer) >= 0.99);
    assert!(run(FinishedOrder::AtOnce) < 0.99);
}
