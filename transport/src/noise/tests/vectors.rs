//! Byte-exact vectors of the handshake and the key schedule, computed twice: by the shipped sessions and by the
//! oracle. `vectors.txt` holds what both must give.

use std::fmt::Write;

use quinn_proto::{ConnectionId, Side, crypto::Keys};
use ring::aead;

use super::{
    harness::{
        CLIENT_CREDENTIAL, PATTERNS, SERVER_CREDENTIAL, SERVER_SEED, SESSION_SECRET, client, server,
    },
    oracle::{self, Derived, Mischief},
    wire::{
        client_session, frame, framed_message_1, kind, message_1, oracle_client, oracle_server,
        payload, peer_secrets, reply, secrets, server_session, write,
    },
};
use crate::noise::{
    DataCipher, Pattern, PeerSecrets, QUIC_VERSION, packet,
    schedule::{Directions, Secret},
    server_config,
};

/// Everything the shipped code lets out, in hexadecimal; long messages by their SHA-256.
const GOLDEN: &str = include_str!("vectors.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a String does not fail");
        out
    })
}

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    writeln!(out, "{name} = {}", hex(bytes)).expect("writing to a String does not fail");
}

#[test]
fn handshakes_match_the_oracle_and_the_vectors_byte_by_byte() {
    let mut out = String::new();
    for pattern in PATTERNS {
        writeln!(out, "# {}", pattern.noise_name()).unwrap();
        handshake(pattern, &mut out);
    }
    writeln!(out, "# secrets of connections").unwrap();
    connection_secrets(&mut out);
    writeln!(out, "# Initial and Retry").unwrap();
    initial_and_retry(&mut out);
    assert!(out == GOLDEN, "vectors changed; computed now:\n{out}");
}

fn handshake(pattern: Pattern, out: &mut String) {
    let [psk, _, mac_key] = peer_secrets(SESSION_SECRET, [0; 5], [0; 32]);
    let psk = oracle::array(&psk);
    let known = pattern != Pattern::NkHfs;
    let shown = if known { CLIENT_CREDENTIAL } else { b"" };

    // The oracle talks to itself.
    let mut initiator = oracle_client(pattern, psk);
    let first = framed_message_1(
        pattern,
        &mut initiator,
        &mac_key,
        &payload(shown),
        &Mischief::default(),
    );
    let message_at = if pattern == Pattern::IkHfsPsk0 {
        3 + 16
    } else {
        3
    };
    let mut responder = oracle_server(pattern, psk);
    assert_eq!(
        responder.read_message_1(&first[message_at..]),
        payload(shown)
    );
    let kem_message = oracle::random_block(
        oracle::session_seed(SERVER_SEED, 0),
        "ml-kem encapsulation",
        0,
    );
    let second = responder.message_2(
        &payload(SERVER_CREDENTIAL),
        kem_message,
        &Mischief::default(),
    );
    assert_eq!(
        initiator.read_message_2(&second),
        payload(SERVER_CREDENTIAL)
    );
    assert_eq!(initiator.state.h, responder.state.h);
    let second = frame(kind(pattern), &second);
    let derived = Derived::new(&initiator.state);

    // The shipped sessions talk to each other, and say the same.
    let mut dialling = client_session(client(pattern));
    let mut answering = server_session(server(pattern));
    assert!(message_1(&mut dialling) == first, "message 1 differs");
    assert!(answering.read_handshake(&first).unwrap());
    let [
        (message_2, server_handshake),
        (server_finished, server_data),
    ] = reply(&mut answering);
    assert!(message_2 == second, "message 2 differs");
    assert_eq!(server_finished, frame(0x20, &derived.server_finished));
    assert!(dialling.read_handshake(&second).unwrap());
    let (nothing, keys) = write(&mut dialling);
    assert!(nothing.is_empty());
    let client_handshake = keys.unwrap();
    assert!(!dialling.read_handshake(&server_finished).unwrap());
    let (client_finished, keys) = write(&mut dialling);
    let client_data = keys.unwrap();
    assert_eq!(client_finished, frame(0x20, &derived.client_finished));
    assert!(answering.is_handshaking() && !dialling.is_handshaking());
    answering.read_handshake(&client_finished).unwrap();
    assert!(!answering.is_handshaking());

    let exported = derived.export(b"vector", b"context", 42);
    for session in [&dialling, &answering] {
        let mut ours = [0; 42];
        session
            .export_keying_material(&mut ours, b"vector", b"context")
            .unwrap();
        assert_eq!(ours[..], exported);
    }
    for (space, client, server) in [
        ("hs", &client_handshake, &server_handshake),
        ("ap", &client_data, &server_data),
    ] {
        check_keys(client, server, &derived, space);
    }
    let mut secrets = ["c ap", "s ap"].map(|label| derived.secret(label));
    for _ in 0..3 {
        secrets =
            secrets.map(|secret| oracle::array(&oracle::expand_label(&secret, "ku", &[], 32)));
        let client = dialling.next_1rtt_keys().unwrap();
        let server = answering.next_1rtt_keys().unwrap();
        for (key, secret) in [
            (&client.local, secrets[0]),
            (&server.remote, secrets[0]),
            (&server.local, secrets[1]),
            (&client.remote, secrets[1]),
        ] {
            check_packet_key(&**key, &secret, &aead::AES_256_GCM);
        }
    }

    line(out, "sha256(message 1 frame)", &oracle::sha256(&[&first]));
    line(out, "sha256(message 2 frame)", &oracle::sha256(&[&second]));
    line(out, "handshake hash", &initiator.state.h);
    let [first, second] = initiator.state.split();
    line(out, "split 1", &first);
    line(out, "split 2", &second);
    line(out, "prk", &derived.prk);
    for label in ["c hs", "s hs", "c ap", "s ap", "c fin", "s fin", "exp"] {
        line(out, label, &derived.secret(label));
    }
    for (label, len) in [("key", 32), ("iv", 12), ("hp", 32), ("ku", 32)] {
        let name = format!("c ap {label}");
        line(
            out,
            &name,
            &oracle::expand_label(&derived.secret("c ap"), label, &[], len),
        );
    }
    line(out, "server Finished", &derived.server_finished);
    line(out, "client Finished", &derived.client_finished);
    line(out, "export(vector, context, 42)", &exported);
}

/// The keys seal what ring seals with the oracle's keys, and mask what it masks.
fn check_keys(client: &Keys, server: &Keys, derived: &Derived, space: &str) {
    for (keys, mirror, side) in [(client, server, "c"), (server, client, "s")] {
        let secret = derived.secret(&format!("{side} {space}"));
        for key in [&keys.packet.local, &mirror.packet.remote] {
            check_packet_key(&**key, &secret, &aead::AES_256_GCM);
        }
        for key in [&keys.header.local, &mirror.header.remote] {
            check_header_key(&**key, &secret, &aead::quic::AES_256);
        }
    }
}

fn check_packet_key(
    key: &dyn quinn_proto::crypto::PacketKey,
    secret: &[u8; 32],
    algorithm: &'static aead::Algorithm,
) {
    let number = 0x0102_0304_0506_0708_u64;
    let mut nonce: [u8; 12] = oracle::expand_label(secret, "iv", &[], 12)
        .try_into()
        .unwrap();
    for (byte, number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
        *byte ^= number;
    }
    let bytes = oracle::expand_label(secret, "key", &[], algorithm.key_len());
    let ring = aead::UnboundKey::new(algorithm, &bytes).unwrap();
    let mut expected = b"payload".to_vec();
    aead::LessSafeKey::new(ring)
        .seal_in_place_append_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(b"header"),
            &mut expected,
        )
        .unwrap();
    let mut sealed = [b"headerpayload".as_slice(), &[0; 16]].concat();
    key.encrypt(number, &mut sealed, 6);
    assert_eq!(sealed[6..], expected);
    let mut opened = bytes::BytesMut::from(&expected[..]);
    key.decrypt(number, b"header", &mut opened).unwrap();
    assert_eq!(opened, b"payload"[..]);
    for (number, header) in [(number + 1, b"header"), (number, b"Header")] {
        assert!(
            key.decrypt(number, header, &mut bytes::BytesMut::from(&expected[..]))
                .is_err()
        );
    }
}

fn check_header_key(
    key: &dyn quinn_proto::crypto::HeaderKey,
    secret: &[u8; 32],
    algorithm: &'static aead::quic::Algorithm,
) {
    let bytes = oracle::expand_label(secret, "hp", &[], algorithm.key_len());
    let ring = aead::quic::HeaderProtectionKey::new(algorithm, &bytes);
    let ring = ring.unwrap();
    // Long and short headers, every length of the packet number.
    for first in [0xc0, 0xc1, 0xc2, 0xc3, 0x40, 0x41, 0x42, 0x43_u8] {
        let clear: Vec<u8> = std::iter::once(first).chain(1..40).collect();
        let pn_offset = 9;
        let mask = ring
            .new_mask(&clear[pn_offset + 4..pn_offset + 20])
            .unwrap();
        let mut expected = clear.clone();
        expected[0] ^= mask[0] & if first & 0x80 == 0 { 0x1f } else { 0x0f };
        for i in 0..=usize::from(first & 3) {
            expected[pn_offset + i] ^= mask[1 + i];
        }
        let mut packet = clear.clone();
        key.encrypt(pn_offset, &mut packet);
        assert_eq!(packet, expected);
        key.decrypt(pn_offset, &mut packet);
        assert_eq!(packet, clear);
    }
}

#[test]
fn chacha_keys_are_those_of_ring() {
    let secrets = [[1; 32], [2; 32]];
    let directions = Directions {
        client: Secret(secrets[0]),
        server: Secret(secrets[1]),
    };
    let client = packet::keys(DataCipher::ChaCha20Poly1305, &directions, Side::Client);
    let server = packet::keys(DataCipher::ChaCha20Poly1305, &directions, Side::Server);
    for (keys, mirror, secret) in [
        (&client, &server, &secrets[0]),
        (&server, &client, &secrets[1]),
    ] {
        for key in [&keys.packet.local, &mirror.packet.remote] {
            check_packet_key(&**key, secret, &aead::CHACHA20_POLY1305);
        }
        for key in [&keys.header.local, &mirror.header.remote] {
            check_header_key(&**key, secret, &aead::quic::CHACHA20);
        }
    }
}

fn connection_secrets(out: &mut String) {
    let exporter = [0x88; 32];
    let cases = [
        ("n 0", 0, None, [0, 0, 0, 0, 0], [0; 32]),
        ("n 1 without exporter", 1, None, [0, 0, 0, 0, 1], [0; 32]),
        (
            "n 258 with exporter",
            258,
            Some(&exporter),
            [1, 0, 0, 1, 2],
            exporter,
        ),
    ];
    for (name, n, exporter, context, salt) in cases {
        let derived = PeerSecrets::derive(&SESSION_SECRET, n, exporter);
        let [psk, tag, mac] = peer_secrets(SESSION_SECRET, context, salt);
        assert_eq!((&derived.psk[..], &derived.tag[..]), (&psk[..], &tag[..]));
        assert_eq!(derived.mac_key[..], mac);
        line(out, &format!("{name} psk"), &psk);
        line(out, &format!("{name} tag"), &tag);
        line(out, &format!("{name} mac"), &mac);
    }
    assert_eq!(
        secrets().psk,
        PeerSecrets::derive(&SESSION_SECRET, 0, None).psk
    );
    // An all-zero exporter is not the same as none.
    let zero = PeerSecrets::derive(&SESSION_SECRET, 1, Some(&[0; 32]));
    assert_ne!(zero.psk, PeerSecrets::derive(&SESSION_SECRET, 1, None).psk);
}

fn initial_and_retry(out: &mut String) {
    let salt = oracle::sha256(&[b"ahoy/1 initial salt"]);
    assert_eq!(packet::INITIAL_SALT, salt);
    let version = QUIC_VERSION.to_be_bytes();
    let cid = ConnectionId::new(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let prk = oracle::hmac(&salt, &cid);
    let config = server_config(server(Pattern::NkHfs)).unwrap();
    let keys = config
        .initial_keys(QUIC_VERSION, &cid)
        .map_err(|_refused| "refused")
        .unwrap();
    let client = client_session(client(Pattern::NkHfs));
    let mirror = client.initial_keys(&cid, Side::Client);
    for (label, keys, mirror) in [("server in", &keys, &mirror), ("client in", &mirror, &keys)] {
        let secret = oracle::array(&oracle::expand_label(&prk, label, &version, 32));
        for key in [&keys.packet.local, &mirror.packet.remote] {
            check_packet_key(&**key, &secret, &aead::AES_128_GCM);
        }
        for key in [&keys.header.local, &mirror.header.remote] {
            check_header_key(&**key, &secret, &aead::quic::AES_128);
        }
        line(out, label, &secret);
    }

    let retry = oracle::hmac(&salt, b"retry");
    let key = oracle::expand_label(&retry, "retry key", &version, 16);
    let nonce = oracle::expand_label(&retry, "retry iv", &version, 12)
        .try_into()
        .unwrap();
    let pseudo_packet = [&[8], &cid[..], b"header", b"token"].concat();
    let ring = aead::UnboundKey::new(&aead::AES_128_GCM, &key).unwrap();
    let tag = aead::LessSafeKey::new(ring)
        .seal_in_place_separate_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(pseudo_packet),
            &mut [],
        )
        .unwrap();
    let ours = config.retry_tag(QUIC_VERSION, &cid, b"headertoken");
    assert_eq!(ours, tag.as_ref());
    let body = [b"token", &ours[..]].concat();
    assert!(client.is_valid_retry(&cid, b"header", &body));
    assert!(!client.is_valid_retry(&cid, b"Header", &body));
    assert!(!client.is_valid_retry(&ConnectionId::new(&[1]), b"header", &body));
    assert!(!client.is_valid_retry(&cid, b"header", &ours[..15]));
    line(out, "retry key", &key);
    line(out, "retry iv", &nonce);
    line(out, "retry tag", &ours);
}
