//! Handshakes that succeed, and what the connection then carries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quinn_proto::Dir;

use super::harness::{
    CIPHERS, CLEAN, CLIENT_CREDENTIAL, CLIENT_SECRET, PATTERNS, Pair, SERVER_CREDENTIAL,
    SERVER_SECRET, client, open, public, read_stream, server,
};
use crate::noise::{HandshakeData, Pattern, PeerIdentity};

const STREAM_BYTES: usize = 3 << 20;
const DATAGRAMS: usize = 100;

#[test]
fn every_pattern_and_cipher_connects_with_and_without_retry_and_carries_data() {
    for pattern in PATTERNS {
        for cipher in CIPHERS {
            for retry in [false, true] {
                let mut dialling = client(pattern);
                let mut answering = server(pattern);
                dialling.cipher = cipher;
                answering.cipher = cipher;
                let mut pair = Pair::new(answering, CLEAN, 1);
                pair.retry = retry;
                let start = pair.now;
                pair.connect(dialling);
                assert!(pair.run_until(Duration::from_secs(5), Pair::both_connected));
                // One round trip until the client has everything, half of one more until the server knows; Retry
                // costs one more.
                let trips = if retry { 5 } else { 3 };
                assert_eq!(pair.now - start, CLEAN.delay * trips, "{pattern:?} {retry}");
                identities_are_seen(&mut pair, pattern, cipher);
                exporters_agree(&mut pair);
                echo(&mut pair);
            }
        }
    }
}

fn identities_are_seen(pair: &mut Pair, pattern: Pattern, cipher: crate::noise::DataCipher) {
    assert!(pair.client.identified && pair.server.identified);
    let known = pattern != Pattern::NkHfs;
    let sides = [
        (
            &mut pair.client,
            Some(public(SERVER_SECRET)),
            SERVER_CREDENTIAL,
        ),
        (
            &mut pair.server,
            known.then(|| public(CLIENT_SECRET)),
            if known { CLIENT_CREDENTIAL } else { b"" },
        ),
    ];
    for (node, noise_static, credential) in sides {
        let session = node.connection().crypto_session();
        let peer = session
            .peer_identity()
            .unwrap()
            .downcast::<Arc<PeerIdentity>>()
            .unwrap();
        assert_eq!(peer.noise_static, noise_static);
        assert_eq!(peer.credential, credential);
        assert_eq!(peer.pattern, pattern);
        let data = session
            .handshake_data()
            .unwrap()
            .downcast::<HandshakeData>()
            .unwrap();
        assert_eq!(*data, HandshakeData { pattern, cipher });
    }
}

pub(super) fn exported(pair: &mut Pair, label: &[u8], context: &[u8]) -> [[u8; 32]; 2] {
    [&mut pair.client, &mut pair.server].map(|node| {
        let mut out = [0; 32];
        node.connection()
            .crypto_session()
            .export_keying_material(&mut out, label, context)
            .unwrap();
        out
    })
}

fn exporters_agree(pair: &mut Pair) {
    let [ours, theirs] = exported(pair, b"label", b"context");
    assert_eq!(ours, theirs);
    for (label, context) in [
        (&b"label"[..], &b""[..]),
        (b"other", b"context"),
        (b"labelc", b"ontext"),
    ] {
        assert_ne!(exported(pair, label, context)[0], ours);
    }
    let session = pair.client.connection().crypto_session();
    assert!(
        session
            .export_keying_material(&mut vec![0; 8160], b"", b"")
            .is_ok()
    );
    assert!(
        session
            .export_keying_material(&mut vec![0; 8161], b"", b"")
            .is_err()
    );
}

/// A stream there and back, datagrams both ways, and key updates from both sides in between.
fn echo(pair: &mut Pair) {
    let sent: Vec<u8> = (0..STREAM_BYTES)
        .map(|i| (i * 31 % 251).to_le_bytes()[0])
        .collect();
    let id = open(pair.client.connection());
    let (mut written, mut echoed) = (0, 0);
    let (mut at_server, mut back) = (Vec::new(), Vec::new());
    let mut server_stream = None;
    let mut datagrams = 0;
    let mut updates = 0;
    let done = pair.run_until(Duration::from_secs(60), |pair| {
        let connection = pair.client.connection();
        if let Ok(count) = connection.send_stream(id).write(&sent[written..]) {
            written += count;
        }
        read_stream(connection, id, &mut back);
        if datagrams < DATAGRAMS
            && connection
                .datagrams()
                .send(Bytes::from(vec![7; 1100]), true)
                .is_ok()
        {
            datagrams += 1;
        }
        if back.len() >= (updates + 1) * STREAM_BYTES / 8 {
            updates += 1;
            if updates % 2 == 0 {
                connection.force_key_update();
            } else {
                pair.server.connection().force_key_update();
            }
        }
        let connection = pair.server.connection();
        if server_stream.is_none() {
            server_stream = connection.streams().accept(Dir::Bi);
        }
        if let Some(id) = server_stream {
            read_stream(connection, id, &mut at_server);
            if let Ok(count) = connection.send_stream(id).write(&at_server[echoed..]) {
                echoed += count;
            }
        }
        while let Some(bytes) = pair.server.datagrams.pop() {
            let _echo_of_a_datagram = pair.server.connection().datagrams().send(bytes, true);
        }
        back.len() == sent.len() && pair.client.datagrams.len() >= DATAGRAMS * 9 / 10
    });
    assert!(
        done,
        "{} of {} bytes, {} datagrams",
        back.len(),
        sent.len(),
        pair.client.datagrams.len()
    );
    assert!(back == sent);
    assert!(updates >= 7);
    assert!(pair.client.lost.is_none() && pair.server.lost.is_none());
}
