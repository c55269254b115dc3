//! Two sessions without QUIC between them: every byte is within reach.

use quinn_proto::{
    Side,
    crypto::{Keys, Session},
    transport_parameters::TransportParameters,
};

use super::{
    harness::{CLIENT_SECRET, CLIENT_SEED, SERVER_SECRET, SERVER_SEED, SESSION_SECRET, public},
    oracle::{self, Initiator, Mischief, Responder},
};
use crate::{
    noise::{ClientHandshake, Pattern, PeerSecrets, ServerHandshake, client_config, server_config},
    wire::Writer,
};

pub(super) fn params() -> TransportParameters {
    TransportParameters::read(Side::Client, &mut &[][..]).unwrap()
}

pub(super) fn client_session(handshake: ClientHandshake) -> Box<dyn Session> {
    let version = handshake.quic_version;
    client_config(handshake)
        .unwrap()
        .start_session(version, "peer", &params())
        .unwrap()
}

pub(super) fn server_session(handshake: ServerHandshake) -> Box<dyn Session> {
    let version = handshake.quic_version;
    server_config(handshake)
        .unwrap()
        .start_session(version, &params())
}

/// One call of `write_handshake`.
pub(super) fn write(session: &mut Box<dyn Session>) -> (Vec<u8>, Option<Keys>) {
    let mut out = Vec::new();
    let keys = session.write_handshake(&mut out);
    (out, keys)
}

/// Message 1 of a client.
pub(super) fn message_1(client: &mut Box<dyn Session>) -> Vec<u8> {
    let (message, keys) = write(client);
    assert!(!message.is_empty() && keys.is_none());
    assert!(write(client).0.is_empty());
    message
}

/// Both messages of a server that read message 1.
pub(super) fn reply(server: &mut Box<dyn Session>) -> [(Vec<u8>, Keys); 2] {
    [(); 2].map(|()| {
        let (message, keys) = write(server);
        (message, keys.unwrap())
    })
}

/// A payload, byte by byte.
pub(super) fn payload(credential: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_var_bytes(credential);
    params().write(&mut out);
    out
}

pub(super) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(body.len() + 1)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    out.push(kind);
    out.extend_from_slice(body);
    out
}

pub(super) const CONTEXT: &[u8] = b"call 1, connection 0";

/// The prologue as it is documented: label, format version, QUIC version, pattern, AES-256-GCM, context.
pub(super) fn prologue(pattern: Pattern) -> Vec<u8> {
    let mut out = vec![6];
    out.extend_from_slice(b"ahoy/1");
    out.push(1);
    out.extend_from_slice(&[0x61, 0x68, 0, 1]);
    out.push(kind(pattern));
    out.push(1);
    out.push(u8::try_from(CONTEXT.len()).unwrap());
    out.extend_from_slice(CONTEXT);
    out
}

pub(super) fn kind(pattern: Pattern) -> u8 {
    match pattern {
        Pattern::NkHfs => 1,
        Pattern::IkHfs => 2,
        Pattern::IkHfsPsk0 => 3,
    }
}

/// Secrets of connection 0, by straight HMAC: psk, tag, MAC key.
pub(super) fn peer_secrets(
    session_secret: [u8; 32],
    context: [u8; 5],
    salt: [u8; 32],
) -> [Vec<u8>; 3] {
    let prk = oracle::hmac(&salt, &session_secret);
    [("psk", 32), ("tag", 20), ("mac", 32)]
        .map(|(label, len)| oracle::expand_label(&prk, label, &context, len))
}

/// The oracle in the place of the harness's client, with its keys.
pub(super) fn oracle_client(pattern: Pattern, psk: [u8; 32]) -> Initiator {
    let seed = oracle::session_seed(CLIENT_SEED, 0);
    let block = |i| oracle::random_block(seed, "noise", i);
    let kem_seed = [block(1), block(2)].concat().try_into().unwrap();
    let keys = oracle::Keys {
        pattern,
        prologue: prologue(pattern),
        psk,
        own_static: CLIENT_SECRET,
        own_ephemeral: block(0),
    };
    Initiator::new(keys, public(SERVER_SECRET), kem_seed)
}

/// The oracle in the place of the harness's server.
pub(super) fn oracle_server(pattern: Pattern, psk: [u8; 32]) -> Responder {
    let seed = oracle::session_seed(SERVER_SEED, 0);
    Responder::new(oracle::Keys {
        pattern,
        prologue: prologue(pattern),
        psk,
        own_static: SERVER_SECRET,
        own_ephemeral: oracle::random_block(seed, "noise", 0),
    })
}

/// Message 1 of an oracle as a frame, MAC included where it belongs.
pub(super) fn framed_message_1(
    pattern: Pattern,
    oracle: &mut Initiator,
    mac_key: &[u8],
    payload: &[u8],
    mischief: &Mischief,
) -> Vec<u8> {
    let message = oracle.message_1(payload, mischief);
    let body = if pattern == Pattern::IkHfsPsk0 {
        let mac = oracle::hmac(mac_key, &[prologue(pattern), message.clone()].concat());
        [&mac[..16], &message[..]].concat()
    } else {
        message
    };
    frame(kind(pattern), &body)
}

pub(super) fn secrets() -> PeerSecrets {
    PeerSecrets::derive(&SESSION_SECRET, 0, None)
}
