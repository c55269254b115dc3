//! Messages that were altered, stripped, cut, or made by somebody who breaks the rules.

use std::sync::Arc;

use proptest::prelude::*;
use quinn_proto::crypto::Session;

use super::{
    harness::{CLIENT_CREDENTIAL, PATTERNS, SERVER_CREDENTIAL, SERVER_SECRET, client, server},
    oracle::{self, Initiator, Mischief, Responder},
    wire::{
        client_session, frame, framed_message_1, kind, message_1, oracle_client, oracle_server,
        payload, prologue, reply, secrets, server_session, write,
    },
};
use crate::noise::{
    ClientHandshake, FrameError, HandshakeError, MAX_FRAME_BYTES, Pattern, ServerHandshake,
    frame::parse_frame,
    server_config,
    session::{Common, NoiseSession, Role, ServerCrypto, State},
};

/// What a server makes of a first flight.
fn refusal_of_message_1(answering: ServerHandshake, message: &[u8]) -> Option<HandshakeError> {
    let watch = Arc::clone(&answering.watch);
    let mut session = server_session(answering);
    let result = session.read_handshake(message);
    let (bytes, keys) = write(&mut session);
    assert!(
        bytes.is_empty() && keys.is_none(),
        "a bad message was answered"
    );
    assert!(
        session
            .export_keying_material(&mut [0; 32], b"", b"")
            .is_err()
    );
    assert_eq!(result.is_err(), watch.last_failure().is_some());
    watch.last_failure()
}

#[test]
fn no_bit_of_message_1_can_be_altered() {
    for pattern in PATTERNS {
        let good = message_1(&mut client_session(client(pattern)));
        assert!(
            server_session(server(pattern))
                .read_handshake(&good)
                .unwrap()
        );
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let refusal = refusal_of_message_1(server(pattern), &bad);
            // A longer length only makes the server wait for more.
            assert!(refusal.is_some() || at < 2, "{pattern:?}: byte {at}");
        }
    }
}

#[test]
fn no_bit_of_message_2_or_of_a_finished_frame_can_be_altered() {
    let mut altered = 0;
    for pattern in PATTERNS {
        let first = message_1(&mut client_session(client(pattern)));
        let mut answering = server_session(server(pattern));
        answering.read_handshake(&first).unwrap();
        let [(second, _), (finished, _)] = reply(&mut answering);
        for at in 2..second.len() {
            let mut bad = second.clone();
            bad[at] ^= 1 << (at % 8);
            let mut dialling = client_session(client(pattern));
            message_1(&mut dialling);
            assert!(
                dialling.read_handshake(&bad).is_err(),
                "{pattern:?}: byte {at}"
            );
            assert!(write(&mut dialling).1.is_none());
        }
        for at in 2..finished.len() {
            let mut bad = finished.clone();
            bad[at] ^= 1 << (at % 8);
            let mut dialling = client_session(client(pattern));
            message_1(&mut dialling);
            dialling.read_handshake(&second).unwrap();
            assert!(write(&mut dialling).1.is_some());
            assert!(
                dialling.read_handshake(&bad).is_err(),
                "{pattern:?}: byte {at}"
            );
            let (bytes, keys) = write(&mut dialling);
            assert!(bytes.is_empty() && keys.is_none() && dialling.is_handshaking());
        }
        altered += second.len() + finished.len() - 4;
    }
    eprintln!("threat 2: 0 of {altered} altered handshakes accepted");
}

/// The oracle's first flight, with mischief.
fn oracle_message_1(pattern: Pattern, mischief: &Mischief) -> (Initiator, Vec<u8>) {
    let secrets = secrets();
    let mut oracle = oracle_client(pattern, secrets.psk);
    let credential = if pattern == Pattern::NkHfs {
        b""
    } else {
        CLIENT_CREDENTIAL
    };
    let message = framed_message_1(
        pattern,
        &mut oracle,
        &secrets.mac_key,
        &payload(credential),
        mischief,
    );
    (oracle, message)
}

/// What a client makes of the oracle's reply.
fn refusal_of_message_2(pattern: Pattern, mischief: &Mischief) -> Option<HandshakeError> {
    let handshake = client(pattern);
    let watch = Arc::clone(&handshake.watch);
    let mut dialling = client_session(handshake);
    let first = message_1(&mut dialling);
    let mut oracle = responder_after(pattern, &first);
    let second = oracle.message_2(&payload(SERVER_CREDENTIAL), [7; 32], mischief);
    let result = dialling.read_handshake(&frame(kind(pattern), &second));
    assert_eq!(result.is_err(), watch.last_failure().is_some());
    watch.last_failure()
}

fn responder_after(pattern: Pattern, first: &[u8]) -> Responder {
    let mut oracle = oracle_server(pattern, secrets().psk);
    let skip = if pattern == Pattern::IkHfsPsk0 {
        3 + 16
    } else {
        3
    };
    oracle.read_message_1(&first[skip..]);
    oracle
}

#[test]
fn an_honest_oracle_is_accepted_on_either_side() {
    for pattern in PATTERNS {
        let (mut oracle, first) = oracle_message_1(pattern, &Mischief::default());
        let mut answering = server_session(server(pattern));
        assert!(answering.read_handshake(&first).unwrap());
        let [(second, _), (finished, _)] = reply(&mut answering);
        assert_eq!(
            oracle.read_message_2(&second[3..]),
            payload(SERVER_CREDENTIAL)
        );
        let derived = oracle::Derived::new(&oracle.state);
        assert_eq!(finished, frame(0x20, &derived.server_finished));
        answering
            .read_handshake(&frame(0x20, &derived.client_finished))
            .unwrap();
        assert!(!answering.is_handshaking());
        assert_eq!(refusal_of_message_2(pattern, &Mischief::default()), None);
    }
}

#[test]
fn the_key_encapsulation_cannot_be_left_out() {
    let mischief = Mischief {
        strip_kem: true,
        ..Mischief::default()
    };
    for pattern in PATTERNS {
        let (_, first) = oracle_message_1(pattern, &mischief);
        let refusal = refusal_of_message_1(server(pattern), &first);
        assert_eq!(refusal, Some(HandshakeError::Noise), "{pattern:?}");
        let refusal = refusal_of_message_2(pattern, &mischief);
        assert_eq!(refusal, Some(HandshakeError::Noise), "{pattern:?}");
    }
    eprintln!(
        "threat 5: 0 of {} handshakes without ML-KEM succeed",
        2 * PATTERNS.len()
    );
}

#[test]
fn a_ciphertext_for_another_secret_fails_although_it_decrypts() {
    let mischief = Mischief {
        other_ciphertext: true,
        ..Mischief::default()
    };
    for pattern in PATTERNS {
        let refusal = refusal_of_message_2(pattern, &mischief);
        assert_eq!(refusal, Some(HandshakeError::Noise), "{pattern:?}");
    }
}

#[test]
fn another_kem_key_in_the_transcript_never_agrees() {
    // Somebody who could replace the KEM key under the encryption still could not finish: the reply is bound to
    // the key that the server saw, and the Finished frames to the hash over it.
    let other = vec![0; 1184];
    let mischief = Mischief {
        kem_key: Some(other),
        ..Mischief::default()
    };
    for pattern in PATTERNS {
        let (oracle, first) = oracle_message_1(pattern, &mischief);
        let (honest, _) = oracle_message_1(pattern, &Mischief::default());
        assert_ne!(oracle.state.h, honest.state.h);
        let mut answering = server_session(server(pattern));
        assert!(answering.read_handshake(&first).unwrap());
        let [(second, _), _] = reply(&mut answering);
        let mut dialling = client_session(client(pattern));
        message_1(&mut dialling);
        assert!(dialling.read_handshake(&second).is_err(), "{pattern:?}");
    }
}

#[test]
fn public_keys_that_no_honest_side_sends_are_refused() {
    // All coefficients 4095: above the modulus (FIPS 203 section 7.2). Zero: a point of low order (RFC 7748
    // section 6.1).
    let out_of_range = Mischief {
        kem_key: Some(vec![0xff; 1184]),
        ..Mischief::default()
    };
    let low_order = Mischief {
        ephemeral: Some([0; 32]),
        ..Mischief::default()
    };
    for pattern in PATTERNS {
        let mut answering = server_session(server(pattern));
        let (_, first) = oracle_message_1(pattern, &out_of_range);
        assert!(answering.read_handshake(&first).is_err());
        let (_, first) = oracle_message_1(pattern, &low_order);
        let refusal = refusal_of_message_1(server(pattern), &first);
        assert_eq!(refusal, Some(HandshakeError::WeakKey), "{pattern:?}");
        assert_eq!(
            refusal_of_message_2(pattern, &low_order),
            Some(HandshakeError::WeakKey)
        );
    }
}

#[test]
fn a_low_order_static_key_of_the_server_cannot_be_dialled() {
    let handshake = ClientHandshake {
        remote_static: [0; 32],
        ..client(Pattern::NkHfs)
    };
    let watch = Arc::clone(&handshake.watch);
    let version = handshake.quic_version;
    let config = crate::noise::client_config(handshake).unwrap();
    assert!(
        config
            .start_session(version, "peer", &super::wire::params())
            .is_err()
    );
    assert_eq!(watch.last_failure(), Some(HandshakeError::WeakKey));
}

#[test]
fn everything_in_the_prologue_must_agree() {
    let changes: [fn(&mut ServerHandshake); 3] = [
        |server| server.prologue.context.push(0),
        |server| server.prologue.label = b"ahoy/2",
        |server| server.cipher = crate::noise::DataCipher::ChaCha20Poly1305,
    ];
    for pattern in PATTERNS {
        let expected = if pattern == Pattern::IkHfsPsk0 {
            HandshakeError::Mac
        } else {
            HandshakeError::Noise
        };
        let first = message_1(&mut client_session(client(pattern)));
        for change in changes {
            let mut answering = server(pattern);
            change(&mut answering);
            assert_eq!(refusal_of_message_1(answering, &first), Some(expected));
        }
        // The QUIC version: a server for another one reads the same message.
        let mut answering = server(pattern);
        answering.quic_version += 1;
        assert_eq!(refusal_of_message_1(answering, &first), Some(expected));
    }
    assert_eq!(prologue(Pattern::NkHfs).len(), 7 + 1 + 4 + 1 + 1 + 21);
}

#[test]
fn a_pattern_that_is_not_served_is_refused_before_anything_is_computed() {
    for offered in PATTERNS {
        for served in PATTERNS.into_iter().filter(|served| *served != offered) {
            let first = message_1(&mut client_session(client(offered)));
            let answering = server(served);
            let watch = Arc::clone(&answering.watch);
            let refusal = refusal_of_message_1(answering, &first);
            assert_eq!(refusal, Some(HandshakeError::PatternRefused));
            assert_eq!(watch.dh_operations(), 0);
        }
    }
}

#[test]
fn another_pattern_in_the_reply_is_refused() {
    let first = message_1(&mut client_session(client(Pattern::NkHfs)));
    let mut answering = server_session(server(Pattern::NkHfs));
    answering.read_handshake(&first).unwrap();
    let [(mut second, _), _] = reply(&mut answering);
    second[2] = kind(Pattern::IkHfs);
    let mut dialling = client_session(client(Pattern::NkHfs));
    message_1(&mut dialling);
    assert!(dialling.read_handshake(&second).is_err());
}

#[test]
fn a_server_of_several_patterns_takes_each() {
    let mut answering = server(Pattern::IkHfs);
    answering.patterns = PATTERNS.to_vec();
    let config = server_config(answering).unwrap();
    for pattern in [Pattern::IkHfs, Pattern::IkHfsPsk0] {
        let first = message_1(&mut client_session(client(pattern)));
        let mut session =
            Arc::clone(&config).start_session(crate::noise::QUIC_VERSION, &super::wire::params());
        assert!(session.read_handshake(&first).unwrap(), "{pattern:?}");
    }
}

#[test]
fn bytes_after_a_frame_end_the_session() {
    for pattern in PATTERNS {
        let mut first = message_1(&mut client_session(client(pattern)));
        let mut answering = server_session(server(pattern));
        answering.read_handshake(&first).unwrap();
        // In a second CRYPTO frame of the same packet, before the reply was collected.
        assert!(answering.read_handshake(&[0]).is_err());
        assert!(write(&mut answering).0.is_empty());
        // In the same CRYPTO frame.
        first.push(0);
        assert_eq!(
            refusal_of_message_1(server(pattern), &first),
            Some(HandshakeError::Unexpected)
        );
    }
}

#[test]
fn a_finished_frame_out_of_turn_is_refused() {
    let finished = frame(0x20, &[0; 32]);
    let refusal = refusal_of_message_1(server(Pattern::NkHfs), &finished);
    assert_eq!(refusal, Some(HandshakeError::Unexpected));
    let mut dialling = client_session(client(Pattern::NkHfs));
    assert!(dialling.read_handshake(&finished).is_err());
    let mut dialling = client_session(client(Pattern::NkHfs));
    message_1(&mut dialling);
    assert!(dialling.read_handshake(&finished).is_err());
}

#[test]
fn a_payload_that_is_no_payload_is_refused() {
    let secrets = secrets();
    for (bad, pattern) in [
        (&b""[..], Pattern::IkHfs),
        (&[0x40], Pattern::NkHfs),
        (&[0x7f, 0xff], Pattern::IkHfsPsk0),
        // A good credential, then half a transport parameter.
        (&[0, 1, 9], Pattern::NkHfs),
        // A parameter that only a server may send: a stateless reset token.
        (
            &[0, 2, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Pattern::NkHfs,
        ),
    ] {
        let mut oracle = oracle_client(pattern, secrets.psk);
        let first = framed_message_1(
            pattern,
            &mut oracle,
            &secrets.mac_key,
            bad,
            &Mischief::default(),
        );
        let refusal = refusal_of_message_1(server(pattern), &first);
        assert_eq!(refusal, Some(HandshakeError::Payload), "{bad:?}");
    }
}

/// A server session whose inside is visible.
fn open_server(pattern: Pattern) -> NoiseSession {
    let handshake = server(pattern);
    let common = Common {
        quic_version: handshake.quic_version,
        local_static: Some(crate::noise::session::Static(SERVER_SECRET.into())),
        credential: handshake.credential,
        peer: handshake.peer,
        prologue: handshake.prologue,
        cipher: handshake.cipher,
        verifier: handshake.verifier,
        watch: handshake.watch,
        seeds: crate::noise::resolver::SeedRatchet::new(handshake.seed),
    };
    let config = ServerCrypto {
        common,
        patterns: PATTERNS.to_vec(),
        used: false.into(),
    };
    let payload = payload(SERVER_CREDENTIAL);
    NoiseSession::new(
        Role::Server(Arc::new(config)),
        State::AwaitGreeting { payload },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics_and_buffers_no_more_than_a_frame(
        kind in 0u8..5,
        length in 0u16..5000,
        chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..1500), 0..8),
    ) {
        let mut session = open_server(Pattern::IkHfs);
        let start = [&length.to_be_bytes()[..], &[kind]].concat();
        for chunk in std::iter::once(&start).chain(&chunks) {
            if session.read(chunk).is_err() {
                break;
            }
            prop_assert!(session.incoming.len() < MAX_FRAME_BYTES);
            prop_assert!(session.is_handshaking());
        }
    }

    #[test]
    fn any_cutting_of_the_messages_gives_the_same_handshake(
        cuts in proptest::collection::vec(1usize..700, 1..6),
        pattern in proptest::sample::select(PATTERNS.to_vec()),
    ) {
        let mut dialling = client_session(client(pattern));
        let mut answering = server_session(server(pattern));
        let first = message_1(&mut dialling);
        feed(&mut answering, &first, &cuts);
        let [(second, _), (finished, _)] = reply(&mut answering);
        feed(&mut dialling, &second, &cuts);
        prop_assert!(write(&mut dialling).1.is_some());
        feed(&mut dialling, &finished, &cuts);
        let (finished, keys) = write(&mut dialling);
        prop_assert!(keys.is_some());
        feed(&mut answering, &finished, &cuts);
        prop_assert!(!answering.is_handshaking() && !dialling.is_handshaking());
    }
}

/// Hands bytes over in pieces of the given sizes, over and over.
fn feed(session: &mut Box<dyn Session>, mut bytes: &[u8], cuts: &[usize]) {
    for cut in cuts.iter().cycle() {
        let (piece, rest) = bytes.split_at((*cut).min(bytes.len()));
        session.read_handshake(piece).unwrap();
        if rest.is_empty() {
            return;
        }
        bytes = rest;
    }
}

#[test]
fn a_frame_above_the_bound_is_refused_at_its_second_byte() {
    let refusal = refusal_of_message_1(server(Pattern::NkHfs), &[0x10, 0x00]);
    assert_eq!(refusal, Some(HandshakeError::Frame(FrameError::Length)));
    assert!(parse_frame(&[0x10, 0x00]).is_err());
}
