//! What endpoints do for senders who know nothing, or who repeat what others said.

use std::{sync::Arc, time::Duration};

use quinn_proto::{
    ConnectError, ConnectionError, ConnectionId, Side, TransportError,
    crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session},
    transport_parameters::TransportParameters,
};

use super::{
    established::exported,
    harness::{CLEAN, Dice, Link, PATTERNS, Packet, Pair, client, server},
};
use crate::noise::{
    HandshakeError, MAX_CREDENTIAL_BYTES, Pattern, QUIC_VERSION, client_config, server_config,
};

const PATIENCE: Duration = Duration::from_secs(400);

fn connected(pattern: Pattern) -> Pair {
    let mut pair = Pair::new(server(pattern), CLEAN, 1);
    pair.connect(client(pattern));
    assert!(pair.run_until(PATIENCE, Pair::both_connected));
    pair
}

/// Sends the client's first flight again.
fn replay(pair: &mut Pair, from: &str, packets: usize) {
    let client = pair.client.addr;
    let flight: Vec<Vec<u8>> = pair
        .trace
        .iter()
        .filter(|packet| packet.from == client)
        .take(packets)
        .map(|packet| packet.bytes.clone())
        .collect();
    for bytes in flight {
        pair.send(Packet {
            from: from.parse().unwrap(),
            to: pair.server.addr,
            bytes,
        });
    }
}

#[test]
fn the_first_flight_takes_two_packets_and_the_answer_three() {
    for pattern in PATTERNS {
        let pair = connected(pattern);
        let mut senders = pair
            .trace
            .chunk_by(|a, b| a.from == b.from)
            .map(<[Packet]>::len);
        assert_eq!(senders.next(), Some(2), "{pattern:?}");
        assert!(senders.next().unwrap() <= 3, "{pattern:?}");
        assert!(
            pair.trace
                .iter()
                .take(2)
                .all(|packet| packet.bytes.len() == 1200)
        );
    }
}

#[test]
fn a_replayed_first_flight_finds_the_living_connection() {
    let answering = server(Pattern::IkHfsPsk0);
    let watch = Arc::clone(&answering.watch);
    let mut pair = Pair::new(answering, CLEAN, 1);
    pair.connect(client(Pattern::IkHfsPsk0));
    assert!(pair.run_until(PATIENCE, Pair::both_connected));
    pair.run_until(Duration::from_secs(1), |_| false);
    let (spent, sent) = (watch.dh_operations(), pair.server.sent_packets);
    for from in ["10.0.0.1:1000", "10.9.9.9:9"] {
        replay(&mut pair, from, 2);
        pair.run_until(Duration::from_secs(1), |_| false);
    }
    assert_eq!(pair.server.connections.len(), 1);
    assert_eq!(watch.dh_operations(), spent);
    assert_eq!(
        pair.server.sent_packets, sent,
        "nothing is said to the stranger"
    );
    assert!(pair.server.lost.is_none());
}

#[test]
fn a_first_flight_replayed_after_the_end_costs_no_diffie_hellman() {
    let answering = server(Pattern::IkHfsPsk0);
    let watch = Arc::clone(&answering.watch);
    let mut pair = Pair::new(answering, CLEAN, 1);
    pair.connect(client(Pattern::IkHfsPsk0));
    assert!(pair.run_until(PATIENCE, Pair::both_connected));
    let now = pair.now;
    pair.client
        .connection()
        .close(now, 0u8.into(), bytes::Bytes::new());
    assert!(pair.run_until(PATIENCE, |pair| pair.server.connections.is_empty()));
    let spent = watch.dh_operations();
    assert!(watch.message_1_verified());
    pair.server.lost = None;
    replay(&mut pair, "10.9.9.9:9", 2);
    assert!(pair.run_until(PATIENCE, |pair| pair.server.lost.is_some()));
    assert_eq!(watch.last_failure(), Some(HandshakeError::Replayed));
    assert_eq!(watch.dh_operations(), spent);
}

#[test]
fn a_refused_first_message_uses_the_secrets_up_and_a_forged_one_does_not() {
    use super::wire::{client_session, message_1, params};
    let mut handshake = server(Pattern::IkHfsPsk0);
    handshake.verifier = Arc::new(super::harness::Expect {
        noise_static: None,
        credential: Vec::new(),
        refuse: Some(crate::noise::Refusal::Expired),
    });
    let watch = Arc::clone(&handshake.watch);
    let config = server_config(handshake).unwrap();
    let good = message_1(&mut client_session(client(Pattern::IkHfsPsk0)));
    let mut forged = good.clone();
    forged[10] ^= 1;
    for (message, error, verified) in [
        (&forged, HandshakeError::Mac, false),
        (
            &good,
            HandshakeError::Refused(crate::noise::Refusal::Expired),
            true,
        ),
        (&good, HandshakeError::Replayed, true),
    ] {
        let mut session = Arc::clone(&config).start_session(QUIC_VERSION, &params());
        assert!(session.read_handshake(message).is_err());
        assert_eq!(watch.last_failure(), Some(error));
        assert_eq!(watch.message_1_verified(), verified);
    }
    assert_eq!(watch.failures(), 3);
}

#[test]
fn versions_that_we_do_not_speak_go_nowhere() {
    // The endpoint does not list it: version negotiation, and the client gives up.
    let mut dialling = client(Pattern::NkHfs);
    dialling.quic_version = 1;
    let mut pair = Pair::with_versions(server(Pattern::NkHfs), vec![QUIC_VERSION], vec![1]);
    pair.connect(dialling);
    assert!(pair.run_until(PATIENCE, |pair| pair.client.lost.is_some()));
    assert!(matches!(
        pair.client.lost,
        Some(ConnectionError::VersionMismatch)
    ));
    assert!(pair.server.connections.is_empty());

    // The endpoint lists it, the crypto does not: silence.
    let mut dialling = client(Pattern::NkHfs);
    dialling.quic_version = 1;
    let mut pair = Pair::with_versions(server(Pattern::NkHfs), vec![QUIC_VERSION, 1], vec![1]);
    pair.connect(dialling);
    assert!(pair.run_until(PATIENCE, |pair| pair.client.lost.is_some()));
    assert!(matches!(pair.client.lost, Some(ConnectionError::TimedOut)));
    assert_eq!(pair.server.sent_packets, 0);

    let config = client_config(client(Pattern::NkHfs)).unwrap();
    let refused = config.start_session(1, "peer", &super::wire::params());
    assert!(matches!(refused, Err(ConnectError::UnsupportedVersion)));
    let config = server_config(server(Pattern::NkHfs)).unwrap();
    assert!(config.initial_keys(1, &ConnectionId::new(&[1; 8])).is_err());
}

#[test]
fn a_configured_version_works_like_our_own() {
    let (mut dialling, mut answering) = (client(Pattern::IkHfs), server(Pattern::IkHfs));
    (dialling.quic_version, answering.quic_version) = (1, 1);
    let mut pair = Pair::with_versions(answering, vec![1], vec![1]);
    pair.connect(dialling);
    assert!(pair.run_until(PATIENCE, Pair::both_connected));
}

#[test]
fn configurations_without_what_their_pattern_needs_are_refused() {
    use crate::noise::ConfigError;
    let mut bad = client(Pattern::IkHfs);
    bad.local_static = None;
    assert_eq!(client_config(bad).err(), Some(ConfigError::NoLocalStatic));
    let mut fine = client(Pattern::NkHfs);
    (fine.local_static, fine.peer) = (None, None);
    assert!(client_config(fine).is_ok());
    let mut bad = client(Pattern::IkHfsPsk0);
    bad.peer = None;
    assert_eq!(client_config(bad).err(), Some(ConfigError::NoPeerSecrets));
    let mut bad = server(Pattern::IkHfsPsk0);
    bad.peer = None;
    assert_eq!(server_config(bad).err(), Some(ConfigError::NoPeerSecrets));
    let mut bad = server(Pattern::NkHfs);
    bad.patterns = Vec::new();
    assert_eq!(server_config(bad).err(), Some(ConfigError::NoPattern));
    let mut bad = server(Pattern::NkHfs);
    bad.credential = vec![0; MAX_CREDENTIAL_BYTES + 1];
    assert_eq!(
        server_config(bad).err(),
        Some(ConfigError::CredentialTooLong)
    );
}

#[test]
fn the_longest_credentials_fit() {
    for pattern in PATTERNS {
        let (mut dialling, mut answering) = (client(pattern), server(pattern));
        let accept = |noise_static, length| super::harness::Expect {
            noise_static,
            credential: vec![7; length],
            refuse: None,
        };
        dialling.credential = vec![7; MAX_CREDENTIAL_BYTES];
        answering.credential = vec![7; MAX_CREDENTIAL_BYTES];
        let server_static = Some(dialling.remote_static);
        dialling.verifier = Arc::new(accept(server_static, MAX_CREDENTIAL_BYTES));
        let client_static = super::harness::public(super::harness::CLIENT_SECRET);
        answering.verifier = Arc::new(match pattern {
            Pattern::NkHfs => accept(None, 0),
            Pattern::IkHfs | Pattern::IkHfsPsk0 => {
                accept(Some(client_static), MAX_CREDENTIAL_BYTES)
            }
        });
        let mut pair = Pair::new(answering, CLEAN, 1);
        pair.connect(dialling);
        assert!(
            pair.run_until(PATIENCE, Pair::both_connected),
            "{pattern:?}"
        );
    }
}

#[test]
fn exported_keys_differ_from_run_to_run_and_repeat_with_the_seeds() {
    let run = |client_seed: u8, server_seed: u8| {
        let (mut dialling, mut answering) = (client(Pattern::IkHfs), server(Pattern::IkHfs));
        (dialling.seed, answering.seed) = ([client_seed; 32], [server_seed; 32]);
        let mut pair = Pair::new(answering, CLEAN, 1);
        pair.connect(dialling);
        assert!(pair.run_until(PATIENCE, Pair::both_connected));
        let [ours, theirs] = exported(&mut pair, b"label", b"");
        assert_eq!(ours, theirs);
        ours
    };
    let keys = [run(1, 1), run(1, 2), run(2, 1), run(2, 2)];
    for (i, a) in keys.iter().enumerate() {
        assert!(keys.iter().skip(i + 1).all(|b| a != b));
    }
    assert_eq!(run(1, 2), keys[1]);
}

#[test]
fn two_connections_of_one_configuration_share_no_randomness() {
    use super::wire::{message_1, params};
    let config = client_config(client(Pattern::NkHfs)).unwrap();
    let firsts = [(); 2].map(|()| {
        let config = Arc::clone(&config);
        message_1(
            &mut config
                .start_session(QUIC_VERSION, "peer", &params())
                .unwrap(),
        )
    });
    // Neither the ephemeral key nor anything after it.
    assert_ne!(firsts[0][3..35], firsts[1][3..35]);
    assert_ne!(firsts[0][35..], firsts[1][35..]);
}

/// Alters what goes into the CRYPTO stream.
type Mangle = dyn Fn(&mut Vec<u8>) + Send + Sync;

/// A client crypto that puts something else into the CRYPTO stream than it meant.
struct Mangled {
    inner: Arc<dyn crypto::ClientConfig>,
    mangle: Arc<Mangle>,
}

struct MangledSession {
    inner: Box<dyn Session>,
    mangle: Arc<Mangle>,
}

impl crypto::ClientConfig for Mangled {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.inner).start_session(version, server_name, params)?;
        Ok(Box::new(MangledSession {
            inner,
            mangle: Arc::clone(&self.mangle),
        }))
    }
}

impl Session for MangledSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }
    fn handshake_data(&self) -> Option<Box<dyn std::any::Any>> {
        self.inner.handshake_data()
    }
    fn peer_identity(&self) -> Option<Box<dyn std::any::Any>> {
        self.inner.peer_identity()
    }
    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }
    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }
    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }
    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }
    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }
    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.inner.write_handshake(buf);
        if !buf.is_empty() {
            (self.mangle)(buf);
        }
        keys
    }
    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }
    fn is_valid_retry(&self, orig: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig, header, payload)
    }
    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

#[test]
fn garbage_in_the_crypto_stream_closes_a_connection_and_nothing_else() {
    for seed in 0..40 {
        for pattern in PATTERNS {
            let inner = client_config(client(pattern)).unwrap();
            let mangle = Arc::new(move |buf: &mut Vec<u8>| {
                let mut dice = Dice(seed);
                match dice.below(4) {
                    0 => buf.truncate(usize::try_from(dice.below(buf.len() as u64)).unwrap()),
                    1 => buf.extend((0..9000).map(|_| dice.roll().to_le_bytes()[0])),
                    2 => buf
                        .iter_mut()
                        .skip(3)
                        .for_each(|b| *b = dice.roll().to_le_bytes()[0]),
                    _ => buf
                        .iter_mut()
                        .for_each(|b| *b = dice.roll().to_le_bytes()[0]),
                }
            });
            let mut pair = Pair::new(server(pattern), CLEAN, seed);
            pair.connect_crypto(Arc::new(Mangled { inner, mangle }), QUIC_VERSION, None);
            pair.run_until(PATIENCE, |_| false);
            assert!(
                !pair.server.connected && !pair.client.connected,
                "seed {seed}, {pattern:?}"
            );
            assert!(
                pair.server.connections.is_empty(),
                "seed {seed}, {pattern:?}"
            );
        }
    }
}

#[test]
fn sixty_handshakes_survive_loss_and_reordering() {
    for loss_percent in [0, 20, 40] {
        for seed in 0..20 {
            let pattern = PATTERNS[seed % 3];
            let link = Link {
                delay: Duration::from_millis(20),
                jitter: Duration::from_millis(15),
                loss_percent,
            };
            let mut pair = Pair::new(server(pattern), link, seed as u64);
            pair.retry = seed % 4 == 3;
            pair.connect(client(pattern));
            let mut client_knows = false;
            let done = pair.run_until(PATIENCE, |pair| {
                if pair.client.connected && !client_knows {
                    client_knows = true;
                    pair.client.connection().ping();
                }
                pair.both_connected()
            });
            assert!(
                done,
                "{pattern:?}, seed {seed}, {loss_percent} % loss: client {:?}, server {:?}",
                pair.client.lost, pair.server.lost
            );
            let [ours, theirs] = exported(&mut pair, b"label", b"");
            assert_eq!(ours, theirs);
        }
    }
}
