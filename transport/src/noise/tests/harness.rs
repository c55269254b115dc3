//! Two quinn-proto endpoints, a link between them, and a virtual clock.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, ConnectionId,
    ConnectionIdGenerator, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, IdleTimeout,
    Incoming, ServerConfig, StreamId, TransportConfig, crypto,
};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::noise::{
    ClientHandshake, DataCipher, PROLOGUE_LABEL, Pattern, PeerSecrets, Prologue, QUIC_VERSION,
    Refusal, ServerHandshake, TAG_BYTES, VerifiedPeer, VerifyPeer, client_config, reset_key,
    server_config, token_key,
};

pub(super) const PATTERNS: [Pattern; 3] = [Pattern::NkHfs, Pattern::IkHfs, Pattern::IkHfsPsk0];
pub(super) const CIPHERS: [DataCipher; 2] = [DataCipher::Aes256Gcm, DataCipher::ChaCha20Poly1305];

pub(super) const CLIENT_SECRET: [u8; 32] = [0x11; 32];
pub(super) const SERVER_SECRET: [u8; 32] = [0x22; 32];
pub(super) const SESSION_SECRET: [u8; 32] = [0x33; 32];
pub(super) const CLIENT_SEED: [u8; 32] = [0x44; 32];
pub(super) const SERVER_SEED: [u8; 32] = [0x55; 32];
pub(super) const CLIENT_CREDENTIAL: &[u8] = b"the client's credential";
pub(super) const SERVER_CREDENTIAL: &[u8] = b"the server's credential";

pub(super) fn public(secret: [u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(secret)).to_bytes()
}

/// Accepts one key and one credential, or refuses with a given reason.
#[derive(Debug)]
pub(super) struct Expect {
    pub(super) noise_static: Option<[u8; 32]>,
    pub(super) credential: Vec<u8>,
    pub(super) refuse: Option<Refusal>,
}

impl VerifyPeer for Expect {
    fn verify(
        &self,
        _pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        if let Some(refusal) = self.refuse {
            return Err(refusal);
        }
        if noise_static != self.noise_static.as_ref() {
            return Err(Refusal::WrongKey);
        }
        if credential != self.credential {
            return Err(Refusal::UnexpectedPeer);
        }
        Ok(VerifiedPeer::default())
    }
}

/// A client that fits [`server`].
pub(super) fn client(pattern: Pattern) -> ClientHandshake {
    ClientHandshake {
        pattern,
        local_static: Some(StaticSecret::from(CLIENT_SECRET)),
        credential: CLIENT_CREDENTIAL.to_vec(),
        remote_static: public(SERVER_SECRET),
        peer: Some(PeerSecrets::derive(&SESSION_SECRET, 0, None)),
        prologue: Prologue {
            label: PROLOGUE_LABEL,
            context: b"call 1, connection 0".to_vec(),
        },
        cipher: DataCipher::default(),
        verifier: Arc::new(Expect {
            noise_static: Some(public(SERVER_SECRET)),
            credential: SERVER_CREDENTIAL.to_vec(),
            refuse: None,
        }),
        watch: Arc::default(),
        quic_version: QUIC_VERSION,
        seed: CLIENT_SEED,
    }
}

/// A server that fits [`client`].
pub(super) fn server(pattern: Pattern) -> ServerHandshake {
    let known = pattern != Pattern::NkHfs;
    ServerHandshake {
        patterns: vec![pattern],
        local_static: StaticSecret::from(SERVER_SECRET),
        credential: SERVER_CREDENTIAL.to_vec(),
        peer: Some(PeerSecrets::derive(&SESSION_SECRET, 0, None)),
        prologue: Prologue {
            label: PROLOGUE_LABEL,
            context: b"call 1, connection 0".to_vec(),
        },
        cipher: DataCipher::default(),
        verifier: Arc::new(Expect {
            noise_static: known.then(|| public(CLIENT_SECRET)),
            credential: if known {
                CLIENT_CREDENTIAL.to_vec()
            } else {
                Vec::new()
            },
            refuse: None,
        }),
        watch: Arc::default(),
        quic_version: QUIC_VERSION,
        seed: SERVER_SEED,
    }
}

/// SplitMix64: all the randomness a link needs.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

/// What the link does to packets, both ways.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) delay: Duration,
    /// Added at random, 0 to this, to each packet on its own: packets overtake each other.
    pub(super) jitter: Duration,
    pub(super) loss_percent: u64,
}

pub(super) const CLEAN: Link = Link {
    delay: Duration::from_millis(20),
    jitter: Duration::ZERO,
    loss_percent: 0,
};

/// quinn's own generators draw from the operating system.
struct SeededIds(Dice);

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.roll().to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) addr: SocketAddr,
    pub(super) connections: BTreeMap<usize, Connection>,
    pub(super) lost: Option<ConnectionError>,
    pub(super) connected: bool,
    pub(super) identified: bool,
    pub(super) datagrams: Vec<Bytes>,
    pub(super) sent_packets: usize,
}

impl Node {
    fn new(endpoint: Endpoint, addr: SocketAddr) -> Self {
        Self {
            endpoint,
            addr,
            connections: BTreeMap::new(),
            lost: None,
            connected: false,
            identified: false,
            datagrams: Vec::new(),
            sent_packets: 0,
        }
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        self.connections
            .values_mut()
            .next_back()
            .expect("a connection was made")
    }
}

pub(super) struct Packet {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) client: Node,
    pub(super) server: Node,
    pub(super) server_config: Arc<ServerConfig>,
    pub(super) retry: bool,
    pub(super) link: Link,
    dice: Dice,
    /// By arrival time and a counter.
    in_flight: BTreeMap<(Instant, u64), Packet>,
    counter: u64,
    /// Everything that was sent, lost or not.
    pub(super) trace: Vec<Packet>,
}

fn endpoint_config(versions: Vec<u32>, seed: u8) -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::new(reset_key(&[seed; 32]));
    config
        .supported_versions(versions)
        .cid_generator(move || Box::new(SeededIds(Dice(seed.into()))))
        .grease_quic_bit(false)
        .rng_seed(Some([seed; 32]));
    Arc::new(config)
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    // Long enough for what 40 % loss and doubling probe timeouts take.
    let patience = IdleTimeout::try_from(Duration::from_secs(120)).unwrap();
    transport
        .max_idle_timeout(Some(patience))
        .datagram_receive_buffer_size(Some(1 << 20))
        .mtu_discovery_config(None);
    Arc::new(transport)
}

pub(super) fn quic_server(crypto: Arc<dyn crypto::ServerConfig>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::new(crypto, token_key(&[0x77; 32]));
    config.transport_config(transport());
    Arc::new(config)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the base of a virtual clock; only differences count"
)]
pub(super) fn base() -> Instant {
    Instant::now()
}

impl Pair {
    pub(super) fn new(server: ServerHandshake, link: Link, seed: u64) -> Self {
        let versions = vec![server.quic_version];
        Self::with_all(server, versions.clone(), versions, link, seed)
    }

    /// A pair whose endpoints list these QUIC versions.
    pub(super) fn with_versions(
        server: ServerHandshake,
        server_versions: Vec<u32>,
        client_versions: Vec<u32>,
    ) -> Self {
        Self::with_all(server, server_versions, client_versions, CLEAN, 1)
    }

    fn with_all(
        server: ServerHandshake,
        server_versions: Vec<u32>,
        client_versions: Vec<u32>,
        link: Link,
        seed: u64,
    ) -> Self {
        let server_config = quic_server(server_config(server).unwrap());
        let client = Endpoint::new(endpoint_config(client_versions, 1), None, false, None);
        let server = Endpoint::new(
            endpoint_config(server_versions, 2),
            Some(Arc::clone(&server_config)),
            false,
            None,
        );
        Self {
            now: base(),
            client: Node::new(client, "10.0.0.1:1000".parse().unwrap()),
            server: Node::new(server, "10.0.0.2:2000".parse().unwrap()),
            server_config,
            retry: false,
            link,
            dice: Dice(seed),
            in_flight: BTreeMap::new(),
            counter: 0,
            trace: Vec::new(),
        }
    }

    pub(super) fn connect(&mut self, client: ClientHandshake) {
        let version = client.quic_version;
        let tag = client.peer.as_ref().map(|peer| peer.tag);
        self.connect_crypto(client_config(client).unwrap(), version, tag);
    }

    pub(super) fn connect_crypto(
        &mut self,
        crypto: Arc<dyn crypto::ClientConfig>,
        version: u32,
        tag: Option<[u8; TAG_BYTES]>,
    ) {
        let mut config = ClientConfig::new(crypto);
        config.version(version).transport_config(transport());
        let tag = tag.unwrap_or([0xda; TAG_BYTES]);
        config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&tag)));
        let (handle, connection) = self
            .client
            .endpoint
            .connect(self.now, config, self.server.addr, "peer")
            .unwrap();
        self.client.connections.insert(handle.0, connection);
    }

    pub(super) fn both_connected(&mut self) -> bool {
        self.client.connected && self.server.connected
    }

    pub(super) fn both_ended(&mut self) -> bool {
        self.client.lost.is_some() && self.server.lost.is_some()
    }

    /// Puts a packet on the wire.
    pub(super) fn send(&mut self, packet: Packet) {
        let copy = Packet {
            from: packet.from,
            to: packet.to,
            bytes: packet.bytes.clone(),
        };
        self.trace.push(copy);
        if self.dice.below(100) < self.link.loss_percent {
            return;
        }
        let jitter = self.link.jitter.as_micros().try_into().unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(self.dice.below(jitter + 1));
        self.counter += 1;
        self.in_flight
            .insert((self.now + self.link.delay + jitter, self.counter), packet);
    }

    /// Runs until `done`, or for `limit` of virtual time. Says whether `done`.
    pub(super) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now + limit;
        loop {
            self.flush();
            if done(self) {
                return true;
            }
            let arrival = self.in_flight.keys().next().map(|&(at, _)| at);
            let timeout = [&mut self.client, &mut self.server]
                .into_iter()
                .flat_map(|node| node.connections.values_mut())
                .filter_map(Connection::poll_timeout)
                .min();
            let Some(next) = [arrival, timeout].into_iter().flatten().min() else {
                return false;
            };
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.in_flight.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let packet = entry.remove();
                self.deliver(packet);
            }
            for node in [&mut self.client, &mut self.server] {
                for connection in node.connections.values_mut() {
                    if connection.poll_timeout().is_some_and(|at| at <= self.now) {
                        connection.handle_timeout(self.now);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let to_server = packet.to == self.server.addr;
        let node = if to_server {
            &mut self.server
        } else {
            &mut self.client
        };
        let mut reply = Vec::new();
        let data = BytesMut::from(&packet.bytes[..]);
        let event = node
            .endpoint
            .handle(self.now, packet.from, None, None, data, &mut reply);
        match event {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = node.connections.get_mut(&handle.0) {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.admit(incoming),
            Some(DatagramEvent::Response(transmit)) => {
                let from = node.addr;
                node.sent_packets += 1;
                reply.truncate(transmit.size);
                self.send(Packet {
                    from,
                    to: transmit.destination,
                    bytes: reply,
                });
            }
        }
    }

    fn admit(&mut self, incoming: Incoming) {
        let mut reply = Vec::new();
        let from = self.server.addr;
        let transmit = if self.retry && !incoming.remote_address_validated() {
            Some(self.server.endpoint.retry(incoming, &mut reply).unwrap())
        } else {
            let config = Some(Arc::clone(&self.server_config));
            match self
                .server
                .endpoint
                .accept(incoming, self.now, &mut reply, config)
            {
                Ok((handle, connection)) => {
                    self.server.connections.insert(handle.0, connection);
                    None
                }
                Err(error) => {
                    self.server.lost = Some(error.cause);
                    error.response
                }
            }
        };
        if let Some(transmit) = transmit {
            self.server.sent_packets += 1;
            reply.truncate(transmit.size);
            self.send(Packet {
                from,
                to: transmit.destination,
                bytes: reply,
            });
        }
    }

    /// Moves events, and packets onto the wire, until nothing is left but deadlines.
    fn flush(&mut self) {
        loop {
            let mut packets = Vec::new();
            for node in [&mut self.client, &mut self.server] {
                let mut drained = Vec::new();
                for (&index, connection) in &mut node.connections {
                    while let Some(event) = connection.poll() {
                        match event {
                            Event::Connected => node.connected = true,
                            Event::HandshakeDataReady => node.identified = true,
                            Event::ConnectionLost { reason } => node.lost = Some(reason),
                            Event::Stream(_) | Event::DatagramsUnblocked => {}
                            Event::DatagramReceived => {
                                while let Some(bytes) = connection.datagrams().recv() {
                                    node.datagrams.push(bytes);
                                }
                            }
                        }
                    }
                    let mut buf = Vec::new();
                    while let Some(transmit) = connection.poll_transmit(self.now, 1, &mut buf) {
                        let bytes = std::mem::take(&mut buf);
                        assert_eq!(bytes.len(), transmit.size);
                        packets.push(Packet {
                            from: node.addr,
                            to: transmit.destination,
                            bytes,
                        });
                    }
                    while let Some(event) = connection.poll_endpoint_events() {
                        if event.is_drained() {
                            drained.push(index);
                        }
                        let reply = node.endpoint.handle_event(ConnectionHandle(index), event);
                        if let Some(event) = reply {
                            connection.handle_event(event);
                        }
                    }
                }
                for index in drained {
                    node.connections.remove(&index);
                }
                node.sent_packets += packets.iter().filter(|p| p.from == node.addr).count();
            }
            if packets.is_empty() {
                return;
            }
            for packet in packets {
                self.send(packet);
            }
        }
    }
}

/// Everything readable on a stream now.
pub(super) fn read_stream(connection: &mut Connection, id: StreamId, out: &mut Vec<u8>) {
    let mut stream = connection.recv_stream(id);
    if let Ok(mut chunks) = stream.read(true) {
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            out.extend_from_slice(&chunk.bytes);
        }
        let _transmit_is_polled_anyway = chunks.finalize();
    }
}

/// Opens a stream on one side.
pub(super) fn open(connection: &mut Connection) -> StreamId {
    connection
        .streams()
        .open(Dir::Bi)
        .expect("a stream is allowed")
}
