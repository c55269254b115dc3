//! Thousands of handshakes over bad links: each one completes, or says in time why not.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::sim::{Conditions, EPOCH_MILLIS, Loss, TraceHash, World};
use ahoy_tests::plain_quic::{self, FinishedOrder};
use ahoy_transport::{
    identity::{CertificateFields, DeviceCertificate, DeviceKeys, LogPosition, RootKey, UserId},
    noise::{
        self, ClientHandshake, DataCipher, HandshakeWatch, PROLOGUE_LABEL, Pattern, PeerSecrets,
        Prologue, QUIC_VERSION, Refusal, ServerHandshake, TAG_BYTES, VerifiedPeer, VerifyPeer,
    },
    runtime::{Runtime, RuntimeExt, timeout},
};
use quinn::{
    ClientConfig, Connection, ConnectionError, ConnectionId, Endpoint, IdleTimeout, Incoming,
    ServerConfig, TransportConfig,
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

const SEED: u64 = 0x50a4;

/// Handshakes for each loss level of the shipped crypto: 10 000 in all.
const HANDSHAKES: u32 = 2_500;
/// Dials under way at the same time.
const CONCURRENT: u32 = 20;
/// A handshake without an answer for this long is given up by name.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// By now each handshake must have ended one way or the other.
const DEADLINE: Duration = Duration::from_secs(60);

const SERVER: &str = "10.0.0.2:4433";
const PING: &[u8] = b"both directions work";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What secures the connections of a run.
trait Crypto: Send + Sync {
    fn endpoint_versions(&self) -> Vec<u32>;
    /// For the client of handshake `n`.
    fn client(&self, runtime: &Arc<dyn Runtime>, n: u32) -> ClientConfig;
    /// What reads the first packet of a connection, before anybody looks at its destination.
    fn default_server(&self) -> ServerConfig;
    /// For the server that sees this first destination connection id; none if it should stay silent.
    fn server(&self, tag: &ConnectionId) -> Option<ServerConfig>;
}

/// How one handshake went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// And a message went there and back.
    Completed,
    /// It ended with this error.
    Named(String),
    /// It had not ended by [`DEADLINE`].
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

    fn percentile(&mut self, percent: usize) -> Duration {
        self.times.sort_unstable();
        let last = self.times.len().saturating_sub(1);
        self.times
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

fn transport_config() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_TIMEOUT).unwrap()))
        .initial_rtt(Duration::from_millis(100));
    Arc::new(config)
}

fn error_name(error: &ConnectionError) -> Outcome {
    Outcome::Named(error.to_string())
}

async fn dial(connecting: quinn::Connecting, tally: &Mutex<Tally>, runtime: &dyn Runtime) {
    let start = runtime.now();
    let handshake = timeout(runtime, DEADLINE, connecting).await;
    let outcome = match handshake {
        None => Outcome::Hung,
        Some(Err(error)) => error_name(&error),
        Some(Ok(connection)) => {
            let taken = runtime.now() - start;
            tally.lock().unwrap().times.push(taken);
            let outcome = match timeout(runtime, DEADLINE, ping(&connection)).await {
                None => Outcome::Hung,
                Some(true) => Outcome::Completed,
                Some(false) => connection
                    .close_reason()
                    .map_or(Outcome::Named("wrong echo".into()), |error| {
                        error_name(&error)
                    }),
            };
            connection.close(plain_quic::DONE, b"");
            outcome
        }
    };
    *tally.lock().unwrap().outcomes.entry(outcome).or_default() += 1;
}

async fn ping(connection: &Connection) -> bool {
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        send.write_all(PING).await.ok()?;
        send.finish().ok()?;
        recv.read_to_end(PING.len()).await.ok()
    };
    exchange.await.as_deref() == Some(PING)
}

async fn serve(incoming: Incoming, crypto: Arc<dyn Crypto>) {
    let Some(mut config) = crypto.server(&incoming.orig_dst_cid()) else {
        incoming.ignore();
        return;
    };
    config.transport_config(transport_config());
    let Ok(connecting) = incoming.accept_with(Arc::new(config)) else {
        return;
    };
    let Ok(connection) = connecting.await else {
        return;
    };
    if let Ok((mut send, mut recv)) = connection.accept_bi().await
        && let Ok(bytes) = recv.read_to_end(PING.len()).await
        && send.write_all(&bytes).await.is_ok()
        && send.finish().is_ok()
    {
        connection.closed().await;
    }
}

fn endpoint(runtime: &Arc<dyn Runtime>, crypto: &dyn Crypto, local: SocketAddr) -> Endpoint {
    let mut config = plain_quic::seeded_config(runtime);
    config.supported_versions(crypto.endpoint_versions());
    Endpoint::new_with_abstract_socket(
        config,
        Some(crypto.default_server()),
        runtime.bind_udp(local).unwrap(),
        Arc::clone(runtime) as Arc<dyn quinn::Runtime>,
    )
    .unwrap()
}

/// `count` handshakes at `loss` in each direction, over 15 to 25 ms one way. Half of the packets sent back to
/// back change places, so that half of the hybrid flights, two datagrams long, arrive the wrong way round.
fn soak(seed: u64, loss: f64, count: u32, crypto: &Arc<dyn Crypto>) -> (Tally, TraceHash) {
    let world = World::new(seed);
    let client = world.add_node("client", &["10.0.0.1".parse().unwrap()]);
    let server = world.add_node("server", &["10.0.0.2".parse().unwrap()]);
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

    let server_runtime: Arc<dyn Runtime> = world.runtime(server);
    let server_crypto = Arc::clone(crypto);
    drop(world.spawn(server, async move {
        let endpoint = endpoint(&server_runtime, &*server_crypto, addr(SERVER));
        while let Some(incoming) = endpoint.accept().await {
            server_runtime
                .spawn_task(serve(incoming, Arc::clone(&server_crypto)))
                .detach();
        }
    }));

    let runtime: Arc<dyn Runtime> = world.runtime(client);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let endpoint = world
        .block_on(client, async {
            endpoint(&runtime, &**crypto, addr("0.0.0.0:0"))
        })
        .unwrap();
    for slot in 0..CONCURRENT {
        let (crypto, runtime, endpoint, tally) = (
            Arc::clone(crypto),
            Arc::clone(&runtime),
            endpoint.clone(),
            Arc::clone(&tally),
        );
        drop(world.spawn(client, async move {
            for n in (slot..count).step_by(CONCURRENT as usize) {
                let mut config = crypto.client(&runtime, n);
                config.transport_config(transport_config());
                // A label of its own: nothing learnt from one handshake helps another.
                let connecting = endpoint
                    .connect_with(config, addr(SERVER), &format!("peer-{n}"))
                    .unwrap();
                dial(connecting, &tally, &*runtime).await;
            }
        }));
    }
    world
        .run_until(Duration::from_secs(24 * 3600), || {
            tally.lock().unwrap().total() == count
        })
        .unwrap();
    let tally = std::mem::take(&mut *tally.lock().unwrap());
    (tally, world.trace_hash())
}

fn report(name: &str, loss: f64, tally: &mut Tally) {
    eprintln!(
        "{name:<28} loss {:>3.0} %  completed {:>6.2} %  median {:>4} ms  p99 {:>5} ms  {:?}",
        loss * 100.0,
        tally.completed() * 100.0,
        tally.percentile(50).as_millis(),
        tally.percentile(99).as_millis(),
        tally.outcomes,
    );
}

// The shipped handshake between two devices.

struct NoiseCrypto {
    server: Device,
    client: Device,
    prologue: Prologue,
    /// Secrets of the handshakes that the server waits for, by tag.
    expected: BTreeMap<[u8; TAG_BYTES], u32>,
}

struct Device {
    keys: DeviceKeys,
    user: UserId,
    certificate: Vec<u8>,
}

impl Device {
    fn generate(rng: &mut ChaCha20Rng) -> Self {
        let root = RootKey::generate(rng);
        let keys = DeviceKeys::generate(rng, EPOCH_MILLIS);
        let log = LogPosition {
            n: 0,
            hash: [0; 32],
        };
        let fields = CertificateFields::for_device(root.user(), &keys, log, EPOCH_MILLIS);
        let certificate = DeviceCertificate::issue_by_root(fields, &root);
        Self {
            keys,
            user: root.user(),
            certificate: certificate.as_bytes().to_vec(),
        }
    }
}

/// Accepts the certified device of one person.
#[derive(Debug)]
struct Expect(UserId);

impl VerifyPeer for Expect {
    fn verify(
        &self,
        _pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        let certificate =
            DeviceCertificate::from_bytes(credential).map_err(|_malformed| Refusal::Malformed)?;
        let device = certificate
            .verify(EPOCH_MILLIS, self.0)
            .map_err(|_invalid| Refusal::BadSignature)?;
        if noise_static != Some(device.noise_static()) {
            return Err(Refusal::WrongKey);
        }
        Ok(VerifiedPeer {
            device: Some(device.device()),
            user: Some(device.user()),
            node: None,
        })
    }
}

/// A secret of its own for each handshake and purpose.
fn secret(purpose: u8, n: u32) -> [u8; 32] {
    let mut bytes = [purpose; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    bytes[4..12].copy_from_slice(&SEED.to_be_bytes());
    bytes
}

fn peer_secrets(n: u32) -> PeerSecrets {
    PeerSecrets::derive(&secret(1, n), 0, None)
}

impl NoiseCrypto {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        Self {
            server: Device::generate(&mut rng),
            client: Device::generate(&mut rng),
            prologue: Prologue {
                label: PROLOGUE_LABEL,
                context: b"soak".to_vec(),
            },
            expected: (0..HANDSHAKES).map(|n| (peer_secrets(n).tag, n)).collect(),
        }
    }

    fn server_config(&self, n: u32) -> ServerConfig {
        let crypto = noise::server_config(ServerHandshake {
            patterns: vec![Pattern::IkHfsPsk0],
            local_static: self.server.keys.noise_static().clone(),
            credential: self.server.certificate.clone(),
            peer: Some(peer_secrets(n)),
            prologue: self.prologue.clone(),
            cipher: DataCipher::default(),
            verifier: Arc::new(Expect(self.client.user)),
            watch: Arc::<HandshakeWatch>::default(),
            quic_version: QUIC_VERSION,
            seed: secret(3, n),
        })
        .unwrap();
        ServerConfig::new(crypto, noise::token_key(&secret(4, n)))
    }
}

impl Crypto for NoiseCrypto {
    fn endpoint_versions(&self) -> Vec<u32> {
        vec![QUIC_VERSION]
    }

    fn client(&self, _runtime: &Arc<dyn Runtime>, n: u32) -> ClientConfig {
        let peer = peer_secrets(n);
        let tag = ConnectionId::new(&peer.tag);
        let crypto = noise::client_config(ClientHandshake {
            pattern: Pattern::IkHfsPsk0,
            local_static: Some(self.client.keys.noise_static().clone()),
            credential: self.client.certificate.clone(),
            remote_static: self.server.keys.noise_public(),
            peer: Some(peer),
            prologue: self.prologue.clone(),
            cipher: DataCipher::default(),
            verifier: Arc::new(Expect(self.server.user)),
            watch: Arc::<HandshakeWatch>::default(),
            quic_version: QUIC_VERSION,
            seed: secret(2, n),
        })
        .unwrap();
        let mut config = ClientConfig::new(crypto);
        config
            .version(QUIC_VERSION)
            .initial_dst_cid_provider(Arc::new(move || tag));
        config
    }

    fn default_server(&self) -> ServerConfig {
        self.server_config(u32::MAX)
    }

    fn server(&self, tag: &ConnectionId) -> Option<ServerConfig> {
        let tag: [u8; TAG_BYTES] = tag[..].try_into().ok()?;
        self.expected.get(&tag).map(|n| self.server_config(*n))
    }
}

#[test]
fn ten_thousand_handshakes_complete_or_name_their_error_under_loss_and_reordering() {
    #[expect(clippy::disallowed_methods, reason = "measures the soak itself")]
    let start = std::time::Instant::now();
    let crypto: Arc<dyn Crypto> = Arc::new(NoiseCrypto::new());
    for (level, loss, at_least) in [
        (0, 0.0, 1.0),
        (1, 0.05, 0.999),
        (2, 0.2, 0.99),
        (3, 0.4, 0.9),
    ] {
        let (mut tally, _) = soak(SEED + level, loss, HANDSHAKES, &crypto);
        report(Pattern::IkHfsPsk0.noise_name(), loss, &mut tally);
        assert_eq!(tally.total(), HANDSHAKES);
        assert_eq!(tally.count(&Outcome::Hung), 0, "seed {}", SEED + level);
        assert!(tally.completed() >= at_least, "seed {}", SEED + level);
    }
    eprintln!("took {:?}", start.elapsed());
}

#[test]
fn the_shipped_handshake_repeats_byte_by_byte_with_the_same_seed() {
    let run = |seed| {
        let crypto: Arc<dyn Crypto> = Arc::new(NoiseCrypto::new());
        soak(seed, 0.1, 50, &crypto).1
    };
    assert_eq!(run(SEED), run(SEED));
    assert_ne!(run(SEED), run(SEED + 1));
}

// The same soak notices the mistake that it is there for.

struct PlainCrypto(FinishedOrder);

impl Crypto for PlainCrypto {
    fn endpoint_versions(&self) -> Vec<u32> {
        vec![1]
    }

    fn client(&self, runtime: &Arc<dyn Runtime>, _n: u32) -> ClientConfig {
        plain_quic::client_config_with(runtime, self.0)
    }

    fn default_server(&self) -> ServerConfig {
        plain_quic::server_config()
    }

    fn server(&self, _tag: &ConnectionId) -> Option<ServerConfig> {
        Some(plain_quic::server_config())
    }
}

#[test]
fn a_client_that_finishes_before_the_server_fails_the_soak() {
    let loss = 0.2;
    let run = |order| {
        let crypto: Arc<dyn Crypto> = Arc::new(PlainCrypto(order));
        let (mut tally, _) = soak(SEED, loss, 1_000, &crypto);
        report(&format!("{order:?}"), loss, &mut tally);
        tally.completed()
    };
    assert!(run(FinishedOrder::AfterTheServer) >= 0.99);
    assert!(run(FinishedOrder::AtOnce) < 0.99);
}
