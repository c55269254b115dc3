//! QUIC with everything but cryptography, seeded whole from the [`Runtime`].
//!
//! Tests of the network need real QUIC traffic, not secrets: handshake messages are the bare transport
//! parameters, packets carry a constant in place of an authentication tag, and headers are not masked. The
//! flights and the key changes come in the same order as in the shipped handshake.

use std::{any::Any, io, net::SocketAddr, sync::Arc};

use ahoy_transport::runtime::{Runtime, RuntimeExt};
use bytes::BytesMut;
use quinn::{
    ConnectError, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Side, VarInt,
    crypto::{
        AeadKey, ClientConfig, CryptoError, ExportKeyingMaterialError, HandshakeTokenKey,
        HeaderKey, HmacKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
    },
};
use quinn_proto::{TransportError, transport_parameters::TransportParameters};

const TAG_BYTES: usize = 16;
const CONNECTION_ID_BYTES: usize = 8;
const FINISHED: &[u8] = b"finished";

/// An endpoint configuration that draws all its randomness from the runtime.
pub fn seeded_config(runtime: &Arc<dyn Runtime>) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(PlainKey));
    let generator = SeededIds(Arc::clone(runtime));
    config
        .rng_seed(Some(runtime.random_array()))
        .cid_generator(move || Box::new(generator.clone()))
        .grease_quic_bit(false);
    config
}

/// An endpoint that connects and accepts.
///
/// # Errors
/// Whatever the runtime answers to the bind.
pub fn endpoint(runtime: &Arc<dyn Runtime>, addr: SocketAddr) -> io::Result<Endpoint> {
    Endpoint::new_with_abstract_socket(
        seeded_config(runtime),
        Some(server_config()),
        runtime.bind_udp(addr)?,
        Arc::clone(runtime) as Arc<dyn quinn::Runtime>,
    )
}

/// What [`Endpoint::connect_with`] needs.
pub fn client_config(runtime: &Arc<dyn Runtime>) -> quinn::ClientConfig {
    client_config_with(runtime, FinishedOrder::default())
}

/// As [`client_config`], with a choice of what to break.
pub fn client_config_with(runtime: &Arc<dyn Runtime>, order: FinishedOrder) -> quinn::ClientConfig {
    let mut config = quinn::ClientConfig::new(Arc::new(Plain(order)));
    let generator = SeededIds(Arc::clone(runtime));
    config.initial_dst_cid_provider(Arc::new(move || generator.clone().generate_cid()));
    config
}

/// What an accepting endpoint needs.
pub fn server_config() -> quinn::ServerConfig {
    quinn::ServerConfig::new(Arc::new(Plain::default()), Arc::new(PlainKey))
}

/// The error code of an orderly close.
pub const DONE: VarInt = VarInt::from_u32(0);

/// When a client says Finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FinishedOrder {
    /// After the server's, as TLS has it.
    #[default]
    AfterTheServer,
    /// At once. The server then forgets its own Finished, and when that was lost the client waits for ever.
    AtOnce,
}

#[derive(Clone)]
struct SeededIds(Arc<dyn Runtime>);

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.random_array::<CONNECTION_ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[derive(Default)]
struct Plain(FinishedOrder);

impl ClientConfig for Plain {
    fn start_session(
        self: Arc<Self>,
        _version: u32,
        _server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Ok(Box::new(PlainSession::new(Side::Client, self.0, params)))
    }
}

impl ServerConfig for Plain {
    fn initial_keys(
        &self,
        _version: u32,
        _dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        Ok(keys(Level::Initial))
    }

    fn retry_tag(&self, _version: u32, _orig_dst_cid: &ConnectionId, _packet: &[u8]) -> [u8; 16] {
        [0; TAG_BYTES]
    }

    fn start_session(
        self: Arc<Self>,
        _version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(PlainSession::new(Side::Server, self.0, params))
    }
}

/// What to say next, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Client only: the first message.
    Hello,
    /// Nothing before the other side's parameters have come.
    AwaitHello,
    /// Server: parameters; both: handshake keys.
    HandshakeKeys,
    /// Client only, and only where the order is broken.
    FinishEarly,
    /// Client only: nothing before the server's Finished.
    AwaitFinished,
    /// Finished and the final keys.
    Finish,
    Nothing,
}

struct PlainSession {
    side: Side,
    order: FinishedOrder,
    own_params: Vec<u8>,
    peer_params: Option<TransportParameters>,
    received: Vec<u8>,
    finished: bool,
    next: Next,
}

impl PlainSession {
    fn new(side: Side, order: FinishedOrder, params: &TransportParameters) -> Self {
        let mut own_params = Vec::new();
        params.write(&mut own_params);
        Self {
            side,
            order,
            own_params,
            peer_params: None,
            received: Vec::new(),
            finished: false,
            next: match side {
                Side::Client => Next::Hello,
                Side::Server => Next::AwaitHello,
            },
        }
    }

    fn message(&mut self) -> Option<Vec<u8>> {
        let length = self.received.first_chunk::<2>().copied()?;
        let length = usize::from(u16::from_be_bytes(length));
        if self.received.len() < 2 + length {
            return None;
        }
        let rest = self.received.split_off(2 + length);
        let message = std::mem::replace(&mut self.received, rest);
        Some(message[2..].to_vec())
    }
}

fn frame(message: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(message.len()).expect("transport parameters are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
}

impl Session for PlainSession {
    fn initial_keys(&self, _dst_cid: &ConnectionId, _side: Side) -> Keys {
        keys(Level::Initial)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        !self.finished
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.received.extend_from_slice(buf);
        while let Some(message) = self.message() {
            if self.peer_params.is_none() {
                let params = TransportParameters::read(self.side, &mut message.as_slice())
                    .map_err(TransportError::from)?;
                self.peer_params = Some(params);
                self.next = Next::HandshakeKeys;
            } else {
                self.finished = true;
                if self.side == Side::Client {
                    self.next = Next::Finish;
                }
            }
        }
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.peer_params)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        match self.next {
            Next::Hello => {
                frame(&self.own_params, buf);
                self.next = Next::AwaitHello;
                None
            }
            Next::HandshakeKeys => {
                self.next = match (self.side, self.order) {
                    (Side::Server, _) => {
                        frame(&self.own_params, buf);
                        Next::Finish
                    }
                    (Side::Client, FinishedOrder::AfterTheServer) => Next::AwaitFinished,
                    (Side::Client, FinishedOrder::AtOnce) => Next::FinishEarly,
                };
                Some(keys(Level::Handshake))
            }
            Next::FinishEarly => {
                frame(FINISHED, buf);
                self.next = Next::AwaitFinished;
                None
            }
            Next::Finish => {
                if self.order == FinishedOrder::AfterTheServer {
                    frame(FINISHED, buf);
                }
                self.next = Next::Nothing;
                Some(keys(Level::Application))
            }
            Next::AwaitHello | Next::AwaitFinished | Next::Nothing => None,
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        Some(keys(Level::Application).packet)
    }

    fn is_valid_retry(&self, _orig: &ConnectionId, _header: &[u8], _payload: &[u8]) -> bool {
        true
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        _label: &[u8],
        _context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        output.fill(0);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Level {
    Initial = 1,
    Handshake = 2,
    Application = 3,
}

fn keys(level: Level) -> Keys {
    Keys {
        header: KeyPair {
            local: Box::new(PlainHeader),
            remote: Box::new(PlainHeader),
        },
        packet: KeyPair {
            local: Box::new(level),
            remote: Box::new(level),
        },
    }
}

impl PacketKey for Level {
    fn encrypt(&self, _packet: u64, buf: &mut [u8], _header_len: usize) {
        let tag_at = buf.len() - TAG_BYTES;
        buf[tag_at..].fill(*self as u8);
    }

    fn decrypt(
        &self,
        _packet: u64,
        _header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let tag_at = payload.len().checked_sub(TAG_BYTES).ok_or(CryptoError)?;
        if payload.split_off(tag_at) != [*self as u8; TAG_BYTES][..] {
            return Err(CryptoError);
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

struct PlainHeader;

impl HeaderKey for PlainHeader {
    fn decrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn encrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        TAG_BYTES
    }
}

/// Stands for the reset key, the token key and the tokens' cipher.
struct PlainKey;

impl HmacKey for PlainKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        for (index, byte) in signature_out.iter_mut().enumerate() {
            *byte = data.get(index).copied().unwrap_or(0) ^ 0xa5;
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = vec![0; signature.len()];
        self.sign(data, &mut expected);
        if expected == signature {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

impl HandshakeTokenKey for PlainKey {
    fn aead_from_hkdf(&self, _random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Self)
    }
}

impl AeadKey for PlainKey {
    fn seal(&self, _data: &mut Vec<u8>, _additional_data: &[u8]) -> Result<(), CryptoError> {
        Ok(())
    }

    fn open<'a>(
        &self,
        data: &'a mut [u8],
        _additional_data: &[u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        Ok(data)
    }
}
