//! Handshakes that must fail: who notices, what it cost, and what the other side is told.

use std::{sync::Arc, time::Duration};

use quinn_proto::{ConnectionError, TransportErrorCode};

use super::harness::{CLEAN, Expect, Node, PATTERNS, Pair, client, public, server};
use crate::noise::{
    ClientHandshake, HandshakeError, Pattern, PeerSecrets, Refusal, ServerHandshake,
    session::GENERIC_ALERT,
};

/// Runs a handshake that fails and gives the reason each side has for itself.
fn fail(client: ClientHandshake, server: ServerHandshake) -> [Option<HandshakeError>; 2] {
    let watches = [Arc::clone(&client.watch), Arc::clone(&server.watch)];
    let mut pair = Pair::new(server, CLEAN, 1);
    pair.connect(client);
    assert!(
        pair.run_until(Duration::from_secs(5), Pair::both_ended),
        "nobody noticed"
    );
    assert!(!pair.client.connected && !pair.server.connected);
    for node in [&pair.client, &pair.server] {
        assert_generic(node);
    }
    watches.map(|watch| watch.last_failure())
}

/// Whoever refused, both see the same code and no word of explanation.
fn assert_generic(node: &Node) {
    let generic = TransportErrorCode::crypto(GENERIC_ALERT);
    match node.lost.as_ref().unwrap() {
        ConnectionError::TransportError(error) => {
            assert_eq!((error.code, error.reason.as_str()), (generic, ""));
        }
        ConnectionError::ConnectionClosed(close) => {
            assert_eq!((close.error_code, &close.reason[..]), (generic, &b""[..]));
        }
        other @ (ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted) => panic!("{other:?}"),
    }
}

#[test]
fn a_server_with_another_static_key_is_not_reached() {
    for pattern in PATTERNS {
        let mut dialling = client(pattern);
        dialling.remote_static = public([0x66; 32]);
        let expected = [None, Some(HandshakeError::Noise)];
        assert_eq!(fail(dialling, server(pattern)), expected, "{pattern:?}");
    }
}

#[test]
fn a_wrong_session_secret_costs_no_diffie_hellman() {
    let dialling = ClientHandshake {
        peer: Some(PeerSecrets::derive(&[0x99; 32], 0, None)),
        ..client(Pattern::IkHfsPsk0)
    };
    let answering = server(Pattern::IkHfsPsk0);
    let watch = Arc::clone(&answering.watch);
    assert_eq!(fail(dialling, answering), [None, Some(HandshakeError::Mac)]);
    assert_eq!(watch.dh_operations(), 0);
    assert!(!watch.message_1_verified());
}

#[test]
fn an_accepted_client_costs_its_diffie_hellman_and_two_public_keys() {
    for (pattern, cost) in [
        (Pattern::NkHfs, 4),
        (Pattern::IkHfs, 6),
        (Pattern::IkHfsPsk0, 6),
    ] {
        let answering = server(pattern);
        let watch = Arc::clone(&answering.watch);
        let mut pair = Pair::new(answering, CLEAN, 1);
        pair.connect(client(pattern));
        assert!(pair.run_until(Duration::from_secs(5), Pair::both_connected));
        assert_eq!(watch.dh_operations(), cost, "{pattern:?}");
        assert_eq!((watch.failures(), watch.last_failure()), (0, None));
    }
}

#[test]
fn a_wrong_psk_behind_a_good_mac_is_refused() {
    let mut dialling = client(Pattern::IkHfsPsk0);
    if let Some(peer) = &mut dialling.peer {
        peer.psk = [0x99; 32];
    }
    assert_eq!(
        fail(dialling, server(Pattern::IkHfsPsk0)),
        [None, Some(HandshakeError::Noise)]
    );
}

#[test]
fn a_refused_credential_keeps_its_own_reason_and_the_peer_learns_none() {
    for refusal in [Refusal::Expired, Refusal::Revoked, Refusal::NotAllowed] {
        let mut answering = server(Pattern::IkHfs);
        answering.verifier = Arc::new(Expect {
            noise_static: None,
            credential: Vec::new(),
            refuse: Some(refusal),
        });
        let expected = [None, Some(HandshakeError::Refused(refusal))];
        assert_eq!(fail(client(Pattern::IkHfs), answering), expected);
        let mut dialling = client(Pattern::IkHfs);
        dialling.verifier = Arc::new(Expect {
            noise_static: None,
            credential: Vec::new(),
            refuse: Some(refusal),
        });
        let expected = [Some(HandshakeError::Refused(refusal)), None];
        assert_eq!(fail(dialling, server(Pattern::IkHfs)), expected);
    }
}
