//! One UDP port and one quinn endpoint: dialling supernodes and peers, and letting them in.
//!
//! A device ([`Role::Peer`]) is silent to the world: the [mux](crate::mux) lets QUIC in only from admitted
//! addresses, and an Initial among those is answered only when its first destination connection id is a *tag*
//! that somebody here waits for ([`Endpoint::expect_peer`]). Everything else is ignored without a packet, and
//! counted. A supernode ([`Role::Supernode`]) takes everybody's connections ([`Endpoint::serve_nodes`]), with a
//! Retry first (RFC 9000 section 8.1.2) while many handshakes run.
//!
//! All randomness that quinn can be given is drawn from the [`Runtime`], so the simulator repeats itself byte
//! by byte.

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quinn_proto::{ConnectionId, TransportConfig};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use tokio::sync::mpsc;
use x25519_dalek::StaticSecret;

use crate::{
    connection::{Admission, CloseCode, Connection, ConnectionLost, WeakConnection},
    identity::{DeviceCertificate, DeviceKeys, NodeId, NodeKeys},
    mux::{ConnectionIds, MuxConfig, MuxSocket, TableFull},
    noise::{
        self, ClientHandshake, ConfigError, DataCipher, HandshakeError, HandshakeWatch,
        PROLOGUE_LABEL, Pattern, PeerSecrets, Prologue, QUIC_VERSION, Refusal, ServerHandshake,
        TAG_BYTES, VerifiedPeer, VerifyPeer,
    },
    runtime::{Runtime, RuntimeExt, Task, timeout},
};

mod access;
mod tags;
mod tuning;
pub(crate) mod window;

pub use access::{MAX_KNOWN_NODES, NetworkAccess};
pub use tags::MAX_TAGS;
use tags::{Lookup, TagTable};
pub use tuning::{MAX_DATAGRAM, MTU, NODE_IDLE_TIMEOUT, PEER_IDLE_TIMEOUT};
pub use window::CongestionWindow;
use window::MediaRate;

/// A handshake that is not done by then failed. On a path with 300 ms round trip and 20 % loss, 99 of 100 are.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connection attempts that quinn keeps for us to decide on; we decide at once, so more is a flood.
const MAX_INCOMING: usize = 256;
/// What one undecided attempt may buffer: the rest of a hybrid first flight, several times over.
const INCOMING_BUFFER: u64 = 64 * 1024;
/// What all undecided attempts may buffer.
const INCOMING_BUFFER_TOTAL: u64 = 8 * 1024 * 1024;

/// Handshakes that run at once on a supernode; above it attempts are ignored. Each holds some 20 KiB.
const MAX_HANDSHAKES: usize = 1024;

/// Connections to supernodes whose round trips are looked at: a device has two or three.
const MAX_HOMES: usize = 4;
/// Above this many, a client must first prove its address: about what one core answers in 50 ms.
const RETRY_ABOVE: usize = 64;
/// Shortest time between two stateless resets of a supernode: none. After a restart all its clients need one, at
/// 25 000 per second when it is full. A flood gains nothing by them: only packets with connection ids of an earlier
/// run are answered, each with less than it brought.
const RESET_INTERVAL: Duration = Duration::ZERO;
/// Accepted connections that wait for the supernode to take them.
const ACCEPT_QUEUE: usize = 256;

/// What an endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A person's device: dials, and is dialled by expected peers alone.
    Peer,
    /// A supernode: open to all.
    Supernode,
}

/// Settings of an [`Endpoint`].
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Address and port to bind; `[::]:0` for a device.
    pub addr: SocketAddr,
    /// What the endpoint is for.
    pub role: Role,
    /// The QUIC version it speaks, [`QUIC_VERSION`] if in doubt.
    pub version: u32,
    /// AEAD of the packets; both sides must have the same.
    pub cipher: DataCipher,
    /// Key of stateless resets. A supernode keeps it over a restart, so that clients notice the restart at once.
    /// `None` draws one.
    pub reset_key: Option<[u8; 32]>,
    /// What connections between devices may have in flight.
    pub window: CongestionWindow,
    /// Whether QUIC acknowledges between devices seldom, so that most of it travels with sound. Off only in tests.
    pub rare_acks: bool,
}

impl EndpointConfig {
    /// A device's endpoint on `addr`.
    #[must_use]
    pub fn peer(addr: SocketAddr) -> Self {
        Self {
            addr,
            role: Role::Peer,
            version: QUIC_VERSION,
            cipher: DataCipher::default(),
            reset_key: None,
            window: CongestionWindow::default(),
            rare_acks: true,
        }
    }

    /// A supernode's endpoint on `addr`.
    #[must_use]
    pub fn supernode(addr: SocketAddr) -> Self {
        Self {
            role: Role::Supernode,
            ..Self::peer(addr)
        }
    }
}

/// What a client shows to a supernode.
#[derive(Clone)]
pub enum NodeAuth {
    /// Nothing.
    Anonymous,
    /// The device and its certificate: to the own home only.
    Device {
        /// The device's keys.
        keys: Arc<DeviceKeys>,
        /// What the person certified about them.
        certificate: DeviceCertificate,
    },
}

impl fmt::Debug for NodeAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Device { keys, .. } => f.debug_tuple("Device").field(&keys.id()).finish(),
        }
    }
}

/// This side of a handshake between peers.
#[derive(Clone)]
pub struct PeerHandshake {
    /// Our device's X25519 key.
    pub local_static: StaticSecret,
    /// What we show: our device certificate.
    pub credential: Vec<u8>,
    /// What both sides agree on beforehand: call id and connection number.
    pub context: Vec<u8>,
    /// Judges the other device.
    pub verifier: Arc<dyn VerifyPeer>,
    /// Psk, tag and MAC key of this connection.
    pub secrets: PeerSecrets,
}

impl fmt::Debug for PeerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerHandshake")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

/// Says from which addresses an expected peer may come.
pub type SourceFilter = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

/// A peer's connection that may come in.
#[derive(Clone)]
pub struct ExpectedPeer {
    /// The number of the connection in its session; handed back with it.
    pub number: u32,
    /// Our side of the handshake.
    pub handshake: PeerHandshake,
    /// Asked when a packet with the tag arrives; others are ignored and the tag stays.
    pub source: SourceFilter,
    /// Where the connection goes. When nobody takes it from there, it is closed.
    pub accepted: mpsc::Sender<AcceptedPeer>,
}

impl fmt::Debug for ExpectedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectedPeer")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// A peer's connection that came in, its handshake complete.
#[derive(Debug)]
pub struct AcceptedPeer {
    /// The [`ExpectedPeer::number`] it came under.
    pub number: u32,
    /// The connection.
    pub connection: Connection,
}

/// Why no connection came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The node's key is not usable.
    #[error("the node's key is not a usable Ed25519 key")]
    BadNodeKey,
    /// Too many addresses are admitted.
    #[error("too many connections at once")]
    Full,
    /// This device keeps to its private network.
    #[error("this supernode is none of the private network's, and no others are used here")]
    OutsideNetwork,
    /// Our own certificate or key does not make a handshake.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be dialled, or the endpoint is closed.
    #[error("cannot dial: {0}")]
    Dial(#[from] quinn::ConnectError),
    /// The other side is not who it should be, or the handshake was tampered with.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection was lost before it was complete.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
}

impl From<TableFull> for ConnectError {
    fn from(_full: TableFull) -> Self {
        Self::Full
    }
}

/// Counters of an [`Endpoint`]'s connections. What the mux dropped before is in
/// [`MuxStats`](crate::mux::MuxStats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Connections we dialled.
    pub dialled: u64,
    /// Of those, failed ones.
    pub dial_failed: u64,
    /// Peers' connections accepted, handshake complete.
    pub accepted_peers: u64,
    /// Clients' connections accepted by a supernode, handshake complete.
    pub accepted_nodes: u64,
    /// Attempts ignored because their tag was never registered.
    pub unknown_tag: u64,
    /// Attempts ignored because their tag had served.
    pub used_tag: u64,
    /// Attempts ignored because the tag's handshake was running.
    pub busy_tag: u64,
    /// Attempts ignored because the tag was not expected from there.
    pub unexpected_source: u64,
    /// Attempts that were no handshake, or one that failed. Their tags wait on unless message 1 was good.
    pub handshake_failed: u64,
    /// Attempts asked to prove their address.
    pub retries_sent: u64,
    /// Attempts ignored because too many handshakes were running.
    pub overloaded: u64,
    /// Connections closed because nobody took them.
    pub not_taken: u64,
}

/// One port and everything that goes over it; a handle, cheap to clone. When the last one goes, connections
/// live on but none comes in.
#[derive(Debug, Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Arc<dyn Runtime>,
    quinn: quinn::Endpoint,
    mux: Arc<MuxSocket>,
    shared: Arc<Shared>,
    _accept: Task,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("mux", &self.mux)
            .finish_non_exhaustive()
    }
}

/// What the accepting task shares with the handles.
struct Shared {
    runtime: Arc<dyn Runtime>,
    mux: Arc<MuxSocket>,
    version: u32,
    cipher: DataCipher,
    window: CongestionWindow,
    rare_acks: bool,
    token_key: [u8; 32],
    handshakes: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    rng: ChaCha20Rng,
    tags: TagTable<ExpectedPeer>,
    nodes: Option<NodeService>,
    /// Connections to supernodes, the newest last.
    homes: VecDeque<WeakConnection>,
    /// The private network that this node is a member of.
    access: Option<Arc<NetworkAccess>>,
    stats: EndpointStats,
}

#[derive(Clone)]
struct NodeService {
    /// Whose attempts are looked at; without it everybody's.
    source: Option<SourceFilter>,
    config: Arc<quinn::ServerConfig>,
    accepted: mpsc::Sender<Connection>,
}

impl Endpoint {
    /// Binds the port and starts. Must run where the runtime's tasks can be spawned.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn bind(runtime: Arc<dyn Runtime>, config: EndpointConfig) -> io::Result<Self> {
        let mux_config = match config.role {
            Role::Peer => MuxConfig::peer(config.version),
            Role::Supernode => MuxConfig::supernode(config.version),
        };
        let socket = runtime.bind_udp(config.addr)?;
        let mux = MuxSocket::new(Arc::clone(&runtime), socket, mux_config)?;

        let reset_key = config.reset_key.unwrap_or_else(|| runtime.random_array());
        // Connection ids are recognised by the same key: a client of an earlier run is told at once that its
        // connection is gone, everybody else's packets stay unanswered.
        let cid_seed = runtime.random_array();
        let mut quinn_config = quinn::EndpointConfig::new(noise::reset_key(&reset_key));
        quinn_config
            .supported_versions(vec![config.version])
            // RFC 9443: the demultiplexer needs the QUIC bit.
            .grease_quic_bit(false)
            .cid_generator(move || Box::new(ConnectionIds::new(&reset_key, cid_seed)))
            .rng_seed(Some(runtime.random_array()));
        if config.role == Role::Supernode {
            quinn_config.min_reset_interval(RESET_INTERVAL);
        }

        let shared = Arc::new(Shared {
            version: config.version,
            window: config.window,
            rare_acks: config.rare_acks,
            cipher: config.cipher,
            token_key: runtime.random_array(),
            handshakes: AtomicUsize::new(0),
            state: Mutex::new(State {
                rng: ChaCha20Rng::from_seed(runtime.random_array()),
                tags: TagTable::default(),
                nodes: None,
                homes: VecDeque::new(),
                access: None,
                stats: EndpointStats::default(),
            }),
            mux: Arc::clone(&mux),
            runtime: Arc::clone(&runtime),
        });
        let gate = shared.gate()?;
        let socket: Arc<MuxSocket> = Arc::clone(&mux);
        let quinn_runtime: Arc<dyn Runtime> = Arc::clone(&runtime);
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            quinn_config,
            Some(gate),
            socket,
            quinn_runtime,
        )?;
        let accept = runtime.spawn_task(accept_loop(quinn.clone(), Arc::clone(&shared)));
        Ok(Self {
            inner: Arc::new(Inner {
                runtime,
                quinn,
                mux,
                shared,
                _accept: accept,
            }),
        })
    }

    /// The port itself: relay routes, admission, and the way in and out for STUN and TURN.
    #[must_use]
    pub fn mux(&self) -> &Arc<MuxSocket> {
        &self.inner.mux
    }

    /// The runtime the endpoint was bound with.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.inner.runtime
    }

    /// The address the port is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.mux.local_addr()
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> EndpointStats {
        self.inner.shared.lock().stats
    }

    /// From now on this node shows its pass to the supernodes of its private network, and dials others only where it may.
    pub fn set_access(&self, access: Arc<NetworkAccess>) {
        self.inner.shared.lock().access = Some(access);
    }

    /// The private network that this node is a member of.
    #[must_use]
    pub fn access(&self) -> Option<Arc<NetworkAccess>> {
        self.inner.shared.lock().access.clone()
    }

    /// Dials a supernode, which must prove that it has the key behind `node`.
    ///
    /// # Errors
    /// One variant per reason.
    pub async fn connect_node(
        &self,
        addr: SocketAddr,
        node: NodeId,
        auth: NodeAuth,
    ) -> Result<Connection, ConnectError> {
        let remote_static = node.noise_static().ok_or(ConnectError::BadNodeKey)?;
        let shared = &self.inner.shared;
        let watch = Arc::new(HandshakeWatch::default());
        let access = shared.lock().access.clone();
        let inside = match &access {
            Some(access) if access.knows(node) => Some(access),
            Some(access) if !access.may_leave() => return Err(ConnectError::OutsideNetwork),
            Some(_) | None => None,
        };
        let (pattern, local_static, credential) = match (inside, auth) {
            (Some(access), auth) => {
                let (key, credential) = access.present(auth, || shared.random());
                (Pattern::IkHfs, Some(key), credential)
            }
            (None, NodeAuth::Anonymous) => (Pattern::NkHfs, None, Vec::new()),
            (None, NodeAuth::Device { keys, certificate }) => (
                Pattern::IkHfs,
                Some(keys.noise_static().clone()),
                certificate.as_bytes().to_vec(),
            ),
        };
        let crypto = noise::client_config(ClientHandshake {
            pattern,
            local_static,
            credential,
            remote_static,
            peer: None,
            prologue: prologue(Vec::new()),
            cipher: shared.cipher,
            verifier: Arc::new(ExpectedNode(node)),
            watch: Arc::clone(&watch),
            quic_version: shared.version,
            seed: shared.random(),
        })?;
        let rate = Arc::new(MediaRate::default());
        let first_id = shared.random::<TAG_BYTES>();
        let config = self.client_config(crypto, tuning::node_client(pattern), first_id);
        let connection = self
            .dial(addr, &node.to_string(), config, rate, &watch)
            .await?;
        let mut state = shared.lock();
        state.homes.push_back(connection.downgrade());
        if state.homes.len() > MAX_HOMES {
            state.homes.pop_front();
        }
        drop(state);
        Ok(connection)
    }

    /// The shortest round trip to a supernode now, zero when none is known.
    fn home_rtt(&self) -> Duration {
        let homes = self.inner.shared.lock().homes.clone();
        let rtts = homes.iter().filter_map(WeakConnection::rtt);
        rtts.min().unwrap_or_default()
    }

    /// Dials the peer at `remote`, an address that it expects us from. `remote_static` is its X25519 key.
    ///
    /// # Errors
    /// One variant per reason. A peer that does not expect this connection is silent: a time-out.
    pub async fn connect_peer(
        &self,
        remote: SocketAddr,
        remote_static: [u8; 32],
        handshake: PeerHandshake,
    ) -> Result<Connection, ConnectError> {
        let shared = &self.inner.shared;
        let watch = Arc::new(HandshakeWatch::default());
        let tag = handshake.secrets.tag;
        let crypto = noise::client_config(ClientHandshake {
            pattern: Pattern::IkHfsPsk0,
            local_static: Some(handshake.local_static),
            credential: handshake.credential,
            remote_static,
            peer: Some(handshake.secrets),
            prologue: prologue(handshake.context),
            cipher: shared.cipher,
            verifier: handshake.verifier,
            watch: Arc::clone(&watch),
            quic_version: shared.version,
            seed: shared.random(),
        })?;
        let rate = Arc::new(MediaRate::default());
        let config = self.client_config(
            crypto,
            tuning::peer(&rate, shared.window, shared.rare_acks, self.home_rtt()),
            tag,
        );
        self.dial(remote, "peer", config, rate, &watch).await
    }

    fn client_config(
        &self,
        crypto: Arc<dyn quinn_proto::crypto::ClientConfig>,
        transport: Arc<TransportConfig>,
        first_id: [u8; TAG_BYTES],
    ) -> quinn::ClientConfig {
        let mut config = quinn::ClientConfig::new(crypto);
        config
            .version(self.inner.shared.version)
            .transport_config(transport)
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&first_id)));
        config
    }

    async fn dial(
        &self,
        remote: SocketAddr,
        name: &str,
        config: quinn::ClientConfig,
        rate: Arc<MediaRate>,
        watch: &HandshakeWatch,
    ) -> Result<Connection, ConnectError> {
        let shared = &self.inner.shared;
        shared.lock().stats.dialled += 1;
        let result = async {
            let admission = Admission::new(&self.inner.mux, remote)?;
            let connecting = self.inner.quinn.connect_with(config, remote, name)?;
            match timeout(&*self.inner.runtime, HANDSHAKE_TIMEOUT, connecting).await {
                Some(Ok(quinn)) => Ok(Connection::new(quinn, rate, Some(admission))),
                Some(Err(error)) => Err(match watch.last_failure() {
                    Some(failure) => ConnectError::Handshake(failure),
                    None => ConnectError::Lost(error.into()),
                }),
                None => Err(ConnectError::Lost(ConnectionLost::TimedOut)),
            }
        }
        .await;
        if let Err(error) = &result {
            shared.lock().stats.dial_failed += 1;
            tracing::debug!(%error, "dialling failed");
        }
        result
    }

    /// Lets one connection of a peer in, until the returned guard is dropped; a handshake that runs by then may
    /// still succeed. Its address must be admitted too.
    ///
    /// # Errors
    /// When [`MAX_TAGS`] are waiting.
    pub fn expect_peer(&self, expected: ExpectedPeer) -> Result<Expectation, TableFull> {
        let tag = expected.handshake.secrets.tag;
        self.inner.shared.lock().tags.register(tag, expected)?;
        Ok(Expectation {
            shared: Arc::clone(&self.inner.shared),
            tag,
        })
    }

    /// Takes clients' connections, anonymous ones and such with a credential that `verifier` judges. Replaces an
    /// earlier service.
    ///
    /// # Errors
    /// When the key makes no handshake.
    pub fn serve_nodes(
        &self,
        keys: &NodeKeys,
        verifier: Arc<dyn VerifyPeer>,
    ) -> Result<NodeListener, ConfigError> {
        self.serve(keys, verifier, None)
    }

    /// As [`Self::serve_nodes`], for clients that `source` lets in; others are ignored without a packet.
    ///
    /// # Errors
    /// When the key makes no handshake.
    pub fn serve_nodes_from(
        &self,
        keys: &NodeKeys,
        verifier: Arc<dyn VerifyPeer>,
        source: SourceFilter,
    ) -> Result<NodeListener, ConfigError> {
        self.serve(keys, verifier, Some(source))
    }

    fn serve(
        &self,
        keys: &NodeKeys,
        verifier: Arc<dyn VerifyPeer>,
        source: Option<SourceFilter>,
    ) -> Result<NodeListener, ConfigError> {
        let shared = &self.inner.shared;
        let crypto = noise::server_config(ServerHandshake {
            patterns: vec![Pattern::NkHfs, Pattern::IkHfs],
            local_static: keys.noise_static(),
            credential: Vec::new(),
            peer: None,
            prologue: prologue(Vec::new()),
            cipher: shared.cipher,
            verifier,
            watch: Arc::new(HandshakeWatch::default()),
            quic_version: shared.version,
            seed: shared.random(),
        })?;
        let mut config = shared.server_config(crypto, tuning::node_server());
        // A client whose NAT forgets it keeps its registration.
        config.migration(true);
        let (accepted, connections) = mpsc::channel(ACCEPT_QUEUE);
        shared.lock().nodes = Some(NodeService {
            source,
            config: Arc::new(config),
            accepted,
        });
        Ok(NodeListener { connections })
    }

    /// Closes all connections and lets none in any more.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let code = quinn::VarInt::from_u64(code.to_wire()).unwrap_or(quinn::VarInt::MAX);
        self.inner.quinn.close(code, reason.as_bytes());
    }

    /// Waits until all closed connections have told their other sides.
    pub async fn wait_idle(&self) {
        self.inner.quinn.wait_idle().await;
    }
}

/// While it lives, a peer may come in. See [`Endpoint::expect_peer`].
#[must_use = "dropping it withdraws the expectation"]
pub struct Expectation {
    shared: Arc<Shared>,
    tag: [u8; TAG_BYTES],
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.shared.lock().tags.unregister(&self.tag);
    }
}

impl fmt::Debug for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expectation").finish_non_exhaustive()
    }
}

/// Where a supernode takes its clients' connections from.
#[derive(Debug)]
pub struct NodeListener {
    connections: mpsc::Receiver<Connection>,
}

impl NodeListener {
    /// The next client, its handshake complete. `None` when another service took over.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }
}

/// Accepts the supernode that was dialled, which has proven its key by then and shows nothing more.
#[derive(Debug)]
struct ExpectedNode(NodeId);

impl VerifyPeer for ExpectedNode {
    fn verify(
        &self,
        _pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        _credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        if noise_static.is_none() || noise_static != self.0.noise_static().as_ref() {
            return Err(Refusal::WrongKey);
        }
        Ok(VerifiedPeer {
            node: Some(self.0),
            ..VerifiedPeer::default()
        })
    }
}

/// For a configuration that never accepts.
#[derive(Debug)]
struct Nobody;

impl VerifyPeer for Nobody {
    fn verify(
        &self,
        _pattern: Pattern,
        _noise_static: Option<&[u8; 32]>,
        _credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        Err(Refusal::NotAllowed)
    }
}

/// Wall-clock time for Retry tokens.
struct Clock(Arc<dyn Runtime>);

impl quinn_proto::TimeSource for Clock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.unix_millis())
    }
}

fn prologue(context: Vec<u8>) -> Prologue {
    Prologue {
        label: PROLOGUE_LABEL,
        context,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere does not make tables and counters wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.lock().rng.fill_bytes(&mut bytes);
        bytes
    }

    /// What quinn needs to know before we decide about an attempt. It never accepts by itself.
    fn gate(&self) -> io::Result<quinn::ServerConfig> {
        let crypto = noise::server_config(ServerHandshake {
            patterns: vec![Pattern::NkHfs],
            local_static: StaticSecret::from(self.random::<32>()),
            credential: Vec::new(),
            peer: None,
            prologue: prologue(Vec::new()),
            cipher: self.cipher,
            verifier: Arc::new(Nobody),
            watch: Arc::new(HandshakeWatch::default()),
            quic_version: self.version,
            seed: self.random(),
        })
        .map_err(io::Error::other)?;
        Ok(self.server_config(crypto, tuning::node_server()))
    }

    fn server_config(
        &self,
        crypto: Arc<dyn quinn_proto::crypto::ServerConfig>,
        transport: Arc<TransportConfig>,
    ) -> quinn::ServerConfig {
        let mut config = quinn::ServerConfig::new(crypto, noise::token_key(&self.token_key));
        config
            .transport_config(transport)
            .migration(false)
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL)
            .time_source(Arc::new(Clock(Arc::clone(&self.runtime))));
        // No token for later connections: it would link a client's visits.
        config.validation_token.sent(0);
        config
    }

    /// Decides about one attempt.
    fn incoming(self: &Arc<Self>, incoming: quinn::Incoming) {
        let tag = incoming.orig_dst_cid();
        let from = crate::mux::canonical(incoming.remote_address());
        let mut state = self.lock();
        if let Some(expected) = state.tags.peek(&tag) {
            let source = Arc::clone(&expected.source);
            drop(state);
            // Not under our lock: the filter may take its owner's.
            let welcome = source(from);
            state = self.lock();
            if !welcome {
                state.stats.unexpected_source += 1;
                drop(state);
                incoming.ignore();
                return;
            }
        }
        match state.tags.begin(&tag) {
            Lookup::Begun(expected) => {
                drop(state);
                self.accept_peer(incoming, expected);
            }
            Lookup::Busy => {
                state.stats.busy_tag += 1;
                drop(state);
                incoming.ignore();
            }
            Lookup::Used => {
                state.stats.used_tag += 1;
                drop(state);
                incoming.ignore();
            }
            Lookup::Unknown => {
                let nodes = state.nodes.clone();
                if nodes.is_none() {
                    state.stats.unknown_tag += 1;
                }
                drop(state);
                match nodes {
                    Some(nodes) => self.accept_node(incoming, nodes),
                    None => incoming.ignore(),
                }
            }
        }
    }

    fn accept_peer(self: &Arc<Self>, incoming: quinn::Incoming, expected: ExpectedPeer) {
        let handshake = expected.handshake;
        let tag = handshake.secrets.tag;
        let watch = Arc::new(HandshakeWatch::default());
        let rate = Arc::new(MediaRate::default());
        let crypto = noise::server_config(ServerHandshake {
            patterns: vec![Pattern::IkHfsPsk0],
            local_static: handshake.local_static,
            credential: handshake.credential,
            peer: Some(handshake.secrets),
            prologue: prologue(handshake.context),
            cipher: self.cipher,
            verifier: handshake.verifier,
            watch: Arc::clone(&watch),
            quic_version: self.version,
            seed: self.random(),
        });
        let accepted = match crypto {
            Ok(crypto) => {
                let config = self.server_config(
                    crypto,
                    tuning::peer(&rate, self.window, self.rare_acks, Duration::ZERO),
                );
                let from = crate::mux::canonical(incoming.remote_address());
                Admission::new(&self.mux, from).ok().and_then(|admission| {
                    Some((incoming.accept_with(Arc::new(config)).ok()?, admission))
                })
            }
            Err(error) => {
                tracing::debug!(%error, "this device's certificate makes no handshake");
                incoming.ignore();
                None
            }
        };
        let Some((connecting, admission)) = accepted else {
            let mut state = self.lock();
            state.stats.handshake_failed += 1;
            state.tags.put_back(&tag);
            return;
        };
        let shared = Arc::clone(self);
        let handshake = async move {
            let done = timeout(&*shared.runtime, HANDSHAKE_TIMEOUT, connecting).await;
            let mut state = shared.lock();
            // Only a message 1 that verified uses the tag up: a stranger's copy of its start must not.
            if watch.message_1_verified() {
                state.tags.use_up(&tag);
            } else {
                state.tags.put_back(&tag);
            }
            let Some(Ok(quinn)) = done else {
                state.stats.handshake_failed += 1;
                return;
            };
            state.stats.accepted_peers += 1;
            drop(state);
            let connection = Connection::new(quinn, rate, Some(admission));
            let number = expected.number;
            let peer = AcceptedPeer {
                number,
                connection: connection.clone(),
            };
            let taken = expected.accepted.try_send(peer).is_ok();
            if !taken {
                // The session goes on elsewhere, or is gone; its own close says which.
                connection.close(CloseCode::Replaced, "no longer expected");
                shared.lock().stats.not_taken += 1;
            }
        };
        self.runtime.spawn_task(handshake).detach();
    }

    fn accept_node(self: &Arc<Self>, incoming: quinn::Incoming, nodes: NodeService) {
        let from = crate::mux::canonical(incoming.remote_address());
        if nodes.source.as_ref().is_some_and(|welcome| !welcome(from)) {
            self.lock().stats.unexpected_source += 1;
            incoming.ignore();
            return;
        }
        let running = self.handshakes.load(Ordering::Relaxed);
        if running >= MAX_HANDSHAKES {
            self.lock().stats.overloaded += 1;
            incoming.ignore();
            return;
        }
        if running >= RETRY_ABOVE && !incoming.remote_address_validated() {
            self.lock().stats.retries_sent += 1;
            // It may be retried: it has no token yet.
            drop(incoming.retry());
            return;
        }
        let Ok(connecting) = incoming.accept_with(nodes.config) else {
            self.lock().stats.handshake_failed += 1;
            return;
        };
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(self);
        let handshake = async move {
            let done = timeout(&*shared.runtime, HANDSHAKE_TIMEOUT, connecting).await;
            shared.handshakes.fetch_sub(1, Ordering::Relaxed);
            let Some(Ok(quinn)) = done else {
                shared.lock().stats.handshake_failed += 1;
                return;
            };
            shared.lock().stats.accepted_nodes += 1;
            let connection = Connection::new(quinn, Arc::default(), None);
            if nodes.accepted.try_send(connection).is_err() {
                shared.lock().stats.not_taken += 1;
            }
        };
        self.runtime.spawn_task(handshake).detach();
    }
}

async fn accept_loop(quinn: quinn::Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = quinn.accept().await {
        shared.incoming(incoming);
    }
}
