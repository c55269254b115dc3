//! Our crypto session beside quinn with rustls, in one run, over loopback sockets: handshakes, one bulk stream,
//! datagrams. Both sides run on one thread, so a time is the work of both.
//!
//! TLS is TLS 1.3 by rustls on ring: X25519 alone (ring has no ML-KEM), AES-256-GCM, Ed25519 certificates on both
//! sides, no resumption. Noise is mutual as well except where the name says NK.
//!
//! `cargo bench -p ahoy-tests --features rivals --bench handshake`

#![expect(
    clippy::unwrap_used,
    reason = "a bench may panic, and so may its helpers"
)]

use std::{
    hint::black_box,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ahoy_transport::noise::{
    self, ClientHandshake, DataCipher, PROLOGUE_LABEL, Pattern, PeerSecrets, Prologue,
    QUIC_VERSION, Refusal, ServerHandshake, VerifiedPeer, VerifyPeer,
};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::runtime::Runtime;
use x25519_dalek::{PublicKey, StaticSecret};

const BULK_BYTES: usize = 8 << 20;
const DATAGRAM_BYTES: usize = 1150;
const DATAGRAMS: usize = 1000;
/// Datagrams sent before as many must have arrived: few enough for every buffer on the way.
const BURST: usize = 25;

const CLIENT_SECRET: [u8; 32] = [1; 32];
const SERVER_SECRET: [u8; 32] = [2; 32];
/// As long as a device certificate with its signature.
const CREDENTIAL_BYTES: usize = 200;

#[derive(Debug)]
struct Anyone;

impl VerifyPeer for Anyone {
    fn verify(
        &self,
        _pattern: Pattern,
        _noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        black_box(credential);
        Ok(VerifiedPeer::default())
    }
}

/// Makes the configurations of connection `n`.
type Configs = Box<dyn Fn(u32) -> (quinn::ClientConfig, Arc<quinn::ServerConfig>)>;

struct Rival {
    name: &'static str,
    version: u32,
    configs: Configs,
}

fn transport() -> Arc<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    transport.mtu_discovery_config(None).initial_mtu(1400);
    Arc::new(transport)
}

fn noise(name: &'static str, pattern: Pattern, cipher: DataCipher) -> Rival {
    let prologue = || Prologue {
        label: PROLOGUE_LABEL,
        context: Vec::new(),
    };
    let configs = move |n: u32| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let secrets = PeerSecrets::derive(&[3; 32], n, None);
        let client = ClientHandshake {
            pattern,
            local_static: Some(StaticSecret::from(CLIENT_SECRET)),
            credential: vec![1; CREDENTIAL_BYTES],
            remote_static: PublicKey::from(&StaticSecret::from(SERVER_SECRET)).to_bytes(),
            peer: Some(secrets.clone()),
            prologue: prologue(),
            cipher,
            verifier: Arc::new(Anyone),
            watch: Arc::default(),
            quic_version: QUIC_VERSION,
            seed,
        };
        seed[31] = 1;
        let server = ServerHandshake {
            patterns: vec![pattern],
            local_static: StaticSecret::from(SERVER_SECRET),
            credential: vec![2; CREDENTIAL_BYTES],
            peer: Some(secrets),
            prologue: prologue(),
            cipher,
            verifier: Arc::new(Anyone),
            watch: Arc::default(),
            quic_version: QUIC_VERSION,
            seed,
        };
        let mut client = quinn::ClientConfig::new(noise::client_config(client).unwrap());
        client.version(QUIC_VERSION).transport_config(transport());
        let server = noise::server_config(server).unwrap();
        let mut server = quinn::ServerConfig::new(server, noise::token_key(&[4; 32]));
        server.transport_config(transport());
        (client, Arc::new(server))
    };
    Rival {
        name,
        version: QUIC_VERSION,
        configs: Box::new(configs),
    }
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(["peer".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (
        certificate.into(),
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
}

fn tls() -> Rival {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups = vec![rustls::crypto::ring::kx_group::X25519];
    let provider = Arc::new(provider);
    let (client_cert, client_key) = certificate();
    let (server_cert, server_key) = certificate();
    let trusting = |cert: &CertificateDer<'static>| {
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        Arc::new(roots)
    };
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        trusting(&client_cert),
        Arc::clone(&provider),
    );
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server_cert.clone()], server_key)
        .unwrap();
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(trusting(&server_cert))
        .with_client_auth_cert(vec![client_cert], client_key)
        .unwrap();
    client.resumption = rustls::client::Resumption::disabled();
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server).unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport());
    let mut server = quinn::ServerConfig::new(Arc::new(server), noise::token_key(&[4; 32]));
    server.transport_config(transport());
    let server = Arc::new(server);
    let configs = move |_n| (client.clone(), Arc::clone(&server));
    Rival {
        name: "TLS rustls X25519",
        version: 1,
        configs: Box::new(configs),
    }
}

fn rivals() -> Vec<Rival> {
    vec![
        tls(),
        noise("Noise NKhfs", Pattern::NkHfs, DataCipher::Aes256Gcm),
        noise("Noise IKhfs", Pattern::IkHfs, DataCipher::Aes256Gcm),
        noise(
            "Noise IKhfs+psk0",
            Pattern::IkHfsPsk0,
            DataCipher::Aes256Gcm,
        ),
        noise(
            "Noise IKhfs+psk0 ChaCha",
            Pattern::IkHfsPsk0,
            DataCipher::ChaCha20Poly1305,
        ),
    ]
}

/// Two endpoints on loopback.
struct Rig {
    rival: Rival,
    client: Endpoint,
    server: Endpoint,
    server_addr: SocketAddr,
    count: AtomicU32,
}

impl Rig {
    /// Inside a tokio runtime.
    fn new(rival: Rival) -> Self {
        let mut config = EndpointConfig::new(noise::reset_key(&[5; 32]));
        config.supported_versions(vec![rival.version]);
        let endpoint = |server| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            Endpoint::new(config.clone(), server, socket, Arc::new(TokioRuntime)).unwrap()
        };
        // Every connection brings its own configuration; this one only makes the endpoint listen.
        let (_, listen) = (rival.configs)(0);
        let server = endpoint(Some((*listen).clone()));
        let server_addr = server.local_addr().unwrap();
        Self {
            client: endpoint(None),
            server,
            server_addr,
            count: AtomicU32::new(1),
            rival,
        }
    }

    async fn connect(&self) -> (Connection, Connection) {
        let (client, server) = (self.rival.configs)(self.count.fetch_add(1, Ordering::Relaxed));
        let dial = self
            .client
            .connect_with(client, self.server_addr, "peer")
            .unwrap();
        let answer = async {
            let incoming = self.server.accept().await.unwrap();
            incoming.accept_with(server).unwrap().await.unwrap()
        };
        let (client, server) = tokio::join!(dial, answer);
        (client.unwrap(), server)
    }
}

async fn handshake(rig: &Rig) {
    let (client, server) = rig.connect().await;
    client.close(VarInt::from_u32(0), b"");
    server.closed().await;
}

async fn bulk(client: &Connection, server: &Connection, data: &Bytes) {
    let send = async {
        let mut stream = client.open_uni().await.unwrap();
        stream.write_chunk(data.clone()).await.unwrap();
        stream.finish().unwrap();
    };
    let receive = async {
        let mut stream = server.accept_uni().await.unwrap();
        let mut received = 0;
        while let Some(chunk) = stream.read_chunk(usize::MAX, true).await.unwrap() {
            received += chunk.bytes.len();
        }
        assert_eq!(received, BULK_BYTES);
    };
    tokio::join!(send, receive);
}

async fn datagrams(client: &Connection, server: &Connection, data: &Bytes) {
    for _ in 0..DATAGRAMS / BURST {
        let send = async {
            for _ in 0..BURST {
                client.send_datagram_wait(data.clone()).await.unwrap();
            }
        };
        let receive = async {
            for _ in 0..BURST {
                server.read_datagram().await.unwrap();
            }
        };
        tokio::join!(send, receive);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    for rival in rivals() {
        let runtime = runtime();
        let name = rival.name;
        let rig = runtime.block_on(async { Rig::new(rival) });
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(handshake(&rig)));
        });
    }
    group.finish();
}

fn bulk_stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bulk stream");
    group
        .throughput(Throughput::Bytes(BULK_BYTES as u64))
        .sample_size(20);
    let data = Bytes::from(vec![7; BULK_BYTES]);
    for rival in rivals() {
        let runtime = runtime();
        let name = rival.name;
        let rig = runtime.block_on(async { Rig::new(rival) });
        let (client, server) = runtime.block_on(rig.connect());
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(bulk(&client, &server, &data)));
        });
    }
    group.finish();
}

fn datagram_train(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("datagrams");
    group
        .throughput(Throughput::Elements(DATAGRAMS as u64))
        .sample_size(20);
    let data = Bytes::from(vec![7; DATAGRAM_BYTES]);
    for rival in rivals() {
        let runtime = runtime();
        let name = rival.name;
        let rig = runtime.block_on(async { Rig::new(rival) });
        let (client, server) = runtime.block_on(rig.connect());
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(datagrams(&client, &server, &data)));
        });
    }
    group.finish();
}

criterion_group!(benches, handshakes, bulk_stream, datagram_train);
criterion_main!(benches);
