//! A recorded call and the keys that were stolen after it.
//!
//! The thief has every packet, both static keys and the session's secret, and follows the handshake with the oracle,
//! which is no code of ours. What it lacks are the ephemeral keys; with these it reads everything, which shows that it
//! does the rest right.

use ring::aead;
use x25519_dalek::x25519;

use super::{
    harness::{
        CLIENT_SECRET, CLIENT_SEED, PATTERNS, SERVER_SECRET, SERVER_SEED, SESSION_SECRET, client,
        server,
    },
    oracle::{self, Derived, Keys, Thief},
    wire::{client_session, message_1, peer_secrets, prologue, reply, server_session, write},
};
use crate::noise::Pattern;

const HEADER: &[u8] = b"header";
const SPEECH: &[u8] = b"twenty milliseconds of speech";
const NUMBER: u64 = 7;

/// What passed the wire.
struct Recorded {
    message_1: Vec<u8>,
    message_2: Vec<u8>,
    /// A 1-RTT packet of the client, its header not masked.
    packet: Vec<u8>,
}

/// A handshake of shipped sessions, and something said.
fn record(pattern: Pattern) -> Recorded {
    let mut dialling = client_session(client(pattern));
    let mut answering = server_session(server(pattern));
    let first = message_1(&mut dialling);
    assert!(answering.read_handshake(&first).unwrap());
    let [(second, _), (server_finished, _)] = reply(&mut answering);
    assert!(dialling.read_handshake(&second).unwrap());
    write(&mut dialling);
    dialling.read_handshake(&server_finished).unwrap();
    let (_finished, keys) = write(&mut dialling);
    let mut packet = [HEADER, SPEECH, &[0; 16]].concat();
    let key = keys.unwrap().packet.local;
    key.encrypt(NUMBER, &mut packet, HEADER.len());
    let mac_bytes = if pattern == Pattern::IkHfsPsk0 { 16 } else { 0 };
    Recorded {
        message_1: first[3 + mac_bytes..].to_vec(),
        message_2: second[3..].to_vec(),
        packet,
    }
}

/// What the packet says, with the keys that follow from a handshake.
fn read(derived: &Derived, packet: &[u8]) -> Option<Vec<u8>> {
    let secret = derived.secret("c ap");
    let key = oracle::expand_label(&secret, "key", &[], 32);
    let mut nonce = oracle::expand_label(&secret, "iv", &[], 12);
    for (byte, number) in nonce[4..].iter_mut().zip(NUMBER.to_be_bytes()) {
        *byte ^= number;
    }
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, &key).unwrap());
    let nonce = aead::Nonce::try_assume_unique_for_key(&nonce).unwrap();
    let (header, sealed) = packet.split_at(HEADER.len());
    let mut sealed = sealed.to_vec();
    let opened = key.open_in_place(nonce, aead::Aad::from(header), &mut sealed);
    opened.ok().map(|plain| plain.to_vec())
}

#[test]
fn past_calls_stay_closed_after_a_theft_of_keys() {
    let (mut tried, mut without_kem) = (0, 0);
    for pattern in PATTERNS {
        let recorded = record(pattern);
        let [psk, ..] = peer_secrets(SESSION_SECRET, [0; 5], [0; 32]);
        let thief = Thief {
            keys: Keys {
                pattern,
                prologue: prologue(pattern),
                psk: oracle::array(&psk),
                own_static: SERVER_SECRET,
                own_ephemeral: [0; 32],
            },
            client_static: CLIENT_SECRET,
        };
        let listen = |shared, decapsulate: &dyn Fn(&[u8]) -> [u8; 32]| {
            let derived = thief.open(
                &recorded.message_1,
                &recorded.message_2,
                shared,
                decapsulate,
            )?;
            read(&derived, &recorded.packet)
        };
        let sent = |message: &[u8]| oracle::array(&message[..32]);
        let (of_client, of_server) = (sent(&recorded.message_1), sent(&recorded.message_2));

        // Had the client kept its ephemeral keys, all would be open.
        let seed = oracle::session_seed(CLIENT_SEED, 0);
        let block = |i| oracle::random_block(seed, "noise", i);
        let kem_seed = [block(1), block(2)].concat().try_into().unwrap();
        let shared = x25519(block(0), of_server);
        let open_kem = |ciphertext: &[u8]| oracle::decapsulate(kem_seed, ciphertext);
        assert_eq!(listen(shared, &open_kem).as_deref(), Some(SPEECH));

        // Each of both alone is not enough: nor for a quantum computer, which has every X25519 secret.
        let guesses: Vec<[u8; 32]> = [CLIENT_SECRET, SERVER_SECRET]
            .into_iter()
            .flat_map(|secret| [of_client, of_server].map(|sent| x25519(secret, sent)))
            .chain([[0; 32], SESSION_SECRET, oracle::array(&psk)])
            .collect();
        for guess in &guesses {
            assert_eq!(listen(shared, &|_| *guess), None);
            without_kem += 1;
            assert_eq!(listen(*guess, &open_kem), None);
            for other in &guesses {
                assert_eq!(listen(*guess, &|_| *other), None);
                tried += 1;
            }
        }

        // What is left in the memory of either side are seeds of sessions to come.
        for config in [CLIENT_SEED, SERVER_SEED] {
            let mut left = config;
            for _ in 0..100 {
                left = oracle::array(&oracle::expand_label(&left, "next seed", &[], 32));
                let session = oracle::session_seed(left, 0);
                let ephemeral = oracle::random_block(session, "noise", 0);
                for sent in [of_client, of_server] {
                    assert_eq!(listen(x25519(ephemeral, sent), &open_kem), None);
                    tried += 1;
                }
            }
        }
    }
    eprintln!("threat 5: 0 of {without_kem} ways open a recording with all its X25519 secrets");
    eprintln!(
        "threat 6: 0 of {tried} ways open a recorded packet; with the ephemeral keys it opens"
    );
}
