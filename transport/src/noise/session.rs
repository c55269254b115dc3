//! One handshake and the keys that follow from it, as quinn's `Session`.
//!
//! ```text
//! client: Greeting -> AwaitReply -> Handover -> AwaitFinished -> Finish -> Established
//! server:             AwaitGreeting -> Reply -> Finish -> AwaitFinished -> Established
//! ```
//!
//! Reading moves a session into a state whose output `write_handshake` then collects; bytes that arrive in
//! such a state belong to no message, and end the session.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError, TransportErrorCode,
    crypto::{
        self, ExportKeyingMaterialError, KeyPair, Keys, PacketKey, Session, UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};
use snow::{
    HandshakeState,
    params::{
        BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifier,
        HandshakeModifierList, HandshakePattern, HashChoice, KemChoice, NoiseParams,
    },
};
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{
    DataCipher, HandshakeData, HandshakeError, HandshakeWatch, Pattern, PeerIdentity, PeerSecrets,
    Prologue, VerifyPeer,
    frame::{FrameKind, MAX_CREDENTIAL_BYTES, MAX_FRAME_BYTES, parse_frame, write_frame},
    packet,
    resolver::{Resolver, SeedRatchet},
    schedule::{self, Directions, Schedule, Secret},
    secrets::MAC_BYTES,
};
use crate::wire::{Reader, Writer};

/// The TLS alert `handshake_failure` in a CRYPTO_ERROR (RFC 9001 section 4.8): all that a peer learns.
pub(super) const GENERIC_ALERT: u8 = 0x28;

/// Version of everything in these modules that both sides must agree on; part of the prologue.
const FORMAT_VERSION: u8 = 1;

/// What both roles' configurations hold.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) quic_version: u32,
    pub(super) local_static: Option<Static>,
    pub(super) credential: Vec<u8>,
    pub(super) peer: Option<PeerSecrets>,
    pub(super) prologue: Prologue,
    pub(super) cipher: DataCipher,
    pub(super) verifier: Arc<dyn VerifyPeer>,
    pub(super) watch: Arc<HandshakeWatch>,
    pub(super) seeds: SeedRatchet,
}

/// [`StaticSecret`] with a `Debug` that keeps it.
pub(super) struct Static(pub(super) StaticSecret);

impl std::fmt::Debug for Static {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StaticSecret(…)")
    }
}

impl Common {
    /// What both sides must agree on before they know each other.
    fn prologue(&self, pattern: Pattern) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_var_bytes(self.prologue.label);
        out.put_u8(FORMAT_VERSION);
        out.put_u32(self.quic_version);
        out.put_u8(pattern.number());
        out.put_u8(self.cipher.number());
        out.put_var_bytes(&self.prologue.context);
        out
    }

    /// The MAC in front of message 1 of the psk pattern.
    fn message_1_mac(&self, secrets: &PeerSecrets, message: &[u8]) -> [u8; MAC_BYTES] {
        let full = schedule::hmac_sha256(
            &secrets.mac_key,
            &[&self.prologue(Pattern::IkHfsPsk0), message],
        );
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&full[..MAC_BYTES]);
        mac
    }

    fn noise(
        &self,
        pattern: Pattern,
        remote_static: Option<&[u8; 32]>,
    ) -> Result<Box<HandshakeState>, snow::Error> {
        let resolver = Resolver::new(self.seeds.next(), Arc::clone(&self.watch.dh_operations));
        let prologue = self.prologue(pattern);
        let mut builder = snow::Builder::with_resolver(noise_params(pattern), Box::new(resolver))
            .prologue(&prologue)?;
        if let Some(secret) = &self.local_static {
            builder = builder.local_private_key(secret.0.as_bytes())?;
        }
        if let (Pattern::IkHfsPsk0, Some(secrets)) = (pattern, &self.peer) {
            builder = builder.psk(0, &secrets.psk)?;
        }
        let state = match remote_static {
            Some(key) => builder.remote_public_key(key)?.build_initiator()?,
            None => builder.build_responder()?,
        };
        Ok(Box::new(state))
    }

    /// Payload of our Noise message: credential, then transport parameters.
    fn payload(&self, params: &TransportParameters) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_var_bytes(&self.credential);
        params.write(&mut out);
        out
    }
}

fn noise_params(pattern: Pattern) -> NoiseParams {
    let (base, modifiers) = match pattern {
        Pattern::NkHfs => (HandshakePattern::NK, vec![HandshakeModifier::Hfs]),
        Pattern::IkHfs => (HandshakePattern::IK, vec![HandshakeModifier::Hfs]),
        Pattern::IkHfsPsk0 => (
            HandshakePattern::IK,
            vec![HandshakeModifier::Hfs, HandshakeModifier::Psk(0)],
        ),
    };
    NoiseParams::new(
        pattern.noise_name().to_owned(),
        BaseChoice::Noise,
        HandshakeChoice {
            pattern: base,
            modifiers: HandshakeModifierList { list: modifiers },
        },
        DHChoice::Curve25519,
        Some(KemChoice::Kyber1024),
        CipherChoice::ChaChaPoly,
        HashChoice::SHA256,
    )
}

#[derive(Debug)]
pub(super) struct ClientCrypto {
    pub(super) common: Common,
    pub(super) pattern: Pattern,
    pub(super) remote_static: [u8; 32],
}

#[derive(Debug)]
pub(super) struct ServerCrypto {
    pub(super) common: Common,
    pub(super) patterns: Vec<Pattern>,
    /// Psk pattern: message 1 came and verified; there is no second one.
    pub(super) used: AtomicBool,
}

impl crypto::ClientConfig for ClientCrypto {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        _server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        if version != self.common.quic_version {
            return Err(ConnectError::UnsupportedVersion);
        }
        // `write_handshake` cannot fail, so message 1 is made here, where an error still has a way out.
        let (noise, message) = self.greeting(params).map_err(|error| {
            self.common.watch.failed(error);
            ConnectError::InvalidServerName(error.to_string())
        })?;
        let state = State::Greeting { noise, message };
        Ok(Box::new(NoiseSession::new(Role::Client(self), state)))
    }
}

impl ClientCrypto {
    fn greeting(
        &self,
        params: &TransportParameters,
    ) -> Result<(Box<HandshakeState>, Vec<u8>), HandshakeError> {
        let common = &self.common;
        let mut noise = common
            .noise(self.pattern, Some(&self.remote_static))
            .map_err(HandshakeError::from_noise)?;
        let payload = Zeroizing::new(common.payload(params));
        let mut message = vec![0; MAX_FRAME_BYTES];
        let len = noise
            .write_message(&payload, &mut message)
            .map_err(HandshakeError::from_noise)?;
        message.truncate(len);
        let mut frame = Vec::new();
        match (self.pattern, &common.peer) {
            (Pattern::IkHfsPsk0, Some(secrets)) => {
                let mac = common.message_1_mac(secrets, &message);
                write_frame(
                    FrameKind::Message(self.pattern),
                    &[&mac, &message],
                    &mut frame,
                )
            }
            (Pattern::IkHfsPsk0 | Pattern::NkHfs | Pattern::IkHfs, _) => {
                write_frame(FrameKind::Message(self.pattern), &[&message], &mut frame)
            }
        }
        .ok_or(HandshakeError::TooLong)?;
        Ok((noise, frame))
    }
}

impl crypto::ServerConfig for ServerCrypto {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        if version != self.common.quic_version {
            return Err(UnsupportedVersion);
        }
        Ok(packet::initial_keys(version, dst_cid, Side::Server))
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        packet::retry_tag(version, orig_dst_cid, &[packet])
    }

    fn start_session(
        self: Arc<Self>,
        _version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let payload = self.common.payload(params);
        Box::new(NoiseSession::new(
            Role::Server(self),
            State::AwaitGreeting { payload },
        ))
    }
}

pub(super) enum Role {
    Client(Arc<ClientCrypto>),
    Server(Arc<ServerCrypto>),
}

impl Role {
    fn common(&self) -> &Common {
        match self {
            Self::Client(config) => &config.common,
            Self::Server(config) => &config.common,
        }
    }

    fn side(&self) -> Side {
        match self {
            Self::Client(_) => Side::Client,
            Self::Server(_) => Side::Server,
        }
    }
}

pub(super) enum State {
    /// Client: message 1 is ready to be written.
    Greeting {
        noise: Box<HandshakeState>,
        message: Vec<u8>,
    },
    /// Client: message 2 is due.
    AwaitReply { noise: Box<HandshakeState> },
    /// Client: message 2 was good; quinn is to take the Handshake keys.
    Handover { schedule: Box<Schedule> },
    /// Server: message 1 is due. `payload` goes into message 2.
    AwaitGreeting { payload: Vec<u8> },
    /// Server: message 2 and the Handshake keys are ready.
    Reply {
        message: Vec<u8>,
        schedule: Box<Schedule>,
    },
    /// The other side's Finished is due.
    AwaitFinished { schedule: Box<Schedule> },
    /// Our Finished and the 1-RTT keys are ready. On the client only after it read the server's: a server that
    /// has the client's Finished throws its Handshake packets away, and a client that lost one of them would
    /// wait for it for ever.
    Finish { schedule: Box<Schedule> },
    /// Both Finished frames were exchanged.
    Established,
    /// Nothing more comes of this session.
    Failed,
}

pub(super) struct NoiseSession {
    role: Role,
    state: State,
    /// CRYPTO data that does not make a frame yet; at most [`MAX_FRAME_BYTES`].
    pub(super) incoming: Vec<u8>,
    pattern: Option<Pattern>,
    /// Shared with the connection, which asks for it when the handshake is complete.
    peer: Option<Arc<PeerIdentity>>,
    /// Until quinn has taken them.
    peer_params: Option<Box<TransportParameters>>,
    /// 1-RTT secrets of the latest key phase handed to quinn.
    data: Option<Directions>,
    /// Set once the other side's Finished was good.
    exporter: Option<Secret>,
}

impl NoiseSession {
    pub(super) fn new(role: Role, state: State) -> Self {
        Self {
            role,
            state,
            incoming: Vec::new(),
            pattern: None,
            peer: None,
            peer_params: None,
            data: None,
            exporter: None,
        }
    }

    /// Takes CRYPTO bytes; `true` when they completed the other side's message.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<bool, HandshakeError> {
        let mut identified = false;
        while !bytes.is_empty() {
            self.expects_bytes()?;
            let room = MAX_FRAME_BYTES.saturating_sub(self.incoming.len());
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.incoming.extend_from_slice(now);
            bytes = later;
            let mut incoming = std::mem::take(&mut self.incoming);
            let Some(frame) = parse_frame(&incoming)? else {
                self.incoming = incoming;
                continue;
            };
            let consumed = frame.consumed;
            identified |= self.handle_frame(frame.kind, frame.body)?;
            // No two frames share an encryption level, so what follows a frame is an error, found above.
            if incoming.len() > consumed {
                self.expects_bytes()?;
            }
            // What is complete is not kept, nor the room that it took: a session lives as long as its connection.
            self.incoming = incoming.split_off(consumed);
        }
        Ok(identified)
    }

    /// Whether any byte may arrive in this state.
    fn expects_bytes(&self) -> Result<(), HandshakeError> {
        match self.state {
            State::AwaitReply { .. }
            | State::AwaitGreeting { .. }
            | State::AwaitFinished { .. } => Ok(()),
            State::Greeting { .. }
            | State::Handover { .. }
            | State::Reply { .. }
            | State::Finish { .. }
            | State::Established
            | State::Failed => Err(HandshakeError::Unexpected),
        }
    }

    fn handle_frame(&mut self, kind: FrameKind, body: &[u8]) -> Result<bool, HandshakeError> {
        let state = std::mem::replace(&mut self.state, State::Failed);
        match (state, kind, &self.role) {
            (
                State::AwaitGreeting { payload },
                FrameKind::Message(pattern),
                Role::Server(config),
            ) => {
                let config = Arc::clone(config);
                self.state = self.handle_greeting(&config, pattern, body, &payload)?;
                Ok(true)
            }
            (State::AwaitReply { noise }, FrameKind::Message(pattern), Role::Client(config)) => {
                if pattern != config.pattern {
                    return Err(HandshakeError::PatternRefused);
                }
                self.state = self.handle_reply(noise, pattern, body)?;
                Ok(true)
            }
            (State::AwaitFinished { schedule }, FrameKind::Finished, role) => {
                let (expected, next) = match role {
                    Role::Client(_) => (schedule.server_finished(), None),
                    Role::Server(_) => (schedule.client_finished(), Some(State::Established)),
                };
                if !bool::from(expected.as_slice().ct_eq(body)) {
                    return Err(HandshakeError::Finished);
                }
                self.exporter = Some(schedule.exporter.clone());
                if next.is_some() {
                    // A server's quinn took them with message 1.
                    self.peer_params = None;
                }
                self.state = next.unwrap_or(State::Finish { schedule });
                Ok(false)
            }
            (
                State::Greeting { .. }
                | State::AwaitReply { .. }
                | State::Handover { .. }
                | State::AwaitGreeting { .. }
                | State::Reply { .. }
                | State::AwaitFinished { .. }
                | State::Finish { .. }
                | State::Established
                | State::Failed,
                FrameKind::Message(_) | FrameKind::Finished,
                Role::Client(_) | Role::Server(_),
            ) => Err(HandshakeError::Unexpected),
        }
    }

    /// Server: message 1 in, message 2 out.
    fn handle_greeting(
        &mut self,
        config: &ServerCrypto,
        pattern: Pattern,
        body: &[u8],
        payload: &[u8],
    ) -> Result<State, HandshakeError> {
        let common = &config.common;
        if !config.patterns.contains(&pattern) {
            return Err(HandshakeError::PatternRefused);
        }
        // Everything up to here, and the MAC, costs less than one Diffie-Hellman operation.
        let message = match (pattern, &common.peer) {
            (Pattern::IkHfsPsk0, Some(secrets)) => {
                if config.used.load(Ordering::Acquire) {
                    return Err(HandshakeError::Replayed);
                }
                let (mac, message) = body
                    .split_at_checked(MAC_BYTES)
                    .ok_or(HandshakeError::Mac)?;
                if !bool::from(common.message_1_mac(secrets, message).as_slice().ct_eq(mac)) {
                    return Err(HandshakeError::Mac);
                }
                message
            }
            (Pattern::IkHfsPsk0, None) => return Err(HandshakeError::PatternRefused),
            (Pattern::NkHfs | Pattern::IkHfs, _) => body,
        };
        let mut noise = common
            .noise(pattern, None)
            .map_err(HandshakeError::from_noise)?;
        let opened = open(&mut noise, message)?;
        // Used up from here on, whatever becomes of it: a copy would otherwise cost us these operations again.
        if pattern == Pattern::IkHfsPsk0 {
            common.watch.verified.store(true, Ordering::Release);
            if config.used.swap(true, Ordering::AcqRel) {
                return Err(HandshakeError::Replayed);
            }
        }
        self.judge(&noise, pattern, &opened)?;
        let mut reply = vec![0; MAX_FRAME_BYTES];
        let len = noise
            .write_message(payload, &mut reply)
            .map_err(HandshakeError::from_noise)?;
        let mut message = Vec::new();
        write_frame(FrameKind::Message(pattern), &[&reply[..len]], &mut message)
            .ok_or(HandshakeError::TooLong)?;
        Ok(State::Reply {
            message,
            schedule: split(noise),
        })
    }

    /// Client: message 2 in.
    fn handle_reply(
        &mut self,
        mut noise: Box<HandshakeState>,
        pattern: Pattern,
        body: &[u8],
    ) -> Result<State, HandshakeError> {
        let opened = open(&mut noise, body)?;
        self.judge(&noise, pattern, &opened)?;
        Ok(State::Handover {
            schedule: split(noise),
        })
    }

    /// Judges what the other side's message says about it, and keeps it.
    fn judge(
        &mut self,
        noise: &HandshakeState,
        pattern: Pattern,
        payload: &[u8],
    ) -> Result<(), HandshakeError> {
        let mut reader = Reader::new(payload);
        let credential = reader
            .var_bytes(MAX_CREDENTIAL_BYTES)
            .map_err(|_malformed| HandshakeError::Payload)?;
        let mut params = reader.rest();
        // Our own side: it is how quinn knows which parameters only a server may send.
        let params = TransportParameters::read(self.role.side(), &mut params)
            .map_err(|_malformed| HandshakeError::Payload)?;
        let noise_static = noise
            .get_remote_static()
            .and_then(|key| key.first_chunk::<32>());
        let peer = self
            .role
            .common()
            .verifier
            .verify(pattern, noise_static, credential)
            .map_err(HandshakeError::Refused)?;
        self.peer = Some(Arc::new(PeerIdentity {
            pattern,
            noise_static: noise_static.copied(),
            credential: credential.to_vec(),
            peer,
        }));
        self.peer_params = Some(Box::new(params));
        self.pattern = Some(pattern);
        Ok(())
    }
}

/// Reads a Noise message; gives its payload.
fn open(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut payload = vec![0; message.len()];
    let len = noise
        .read_message(message, &mut payload)
        .map_err(HandshakeError::from_noise)?;
    payload.truncate(len);
    Ok(payload)
}

/// Ends Noise: its two keys and its hash become our schedule.
fn split(mut noise: Box<HandshakeState>) -> Box<Schedule> {
    let (first, second) = noise.dangerously_get_raw_split();
    let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
    let hash = noise
        .get_handshake_hash()
        .first_chunk::<32>()
        .expect("SHA-256 has 32 bytes of output");
    Box::new(Schedule::new((&first, &second), hash))
}

impl Session for NoiseSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        packet::initial_keys(self.role.common().quic_version, dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let pattern = self.pattern?;
        Some(Box::new(HandshakeData {
            pattern,
            cipher: self.role.common().cipher,
        }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let peer = self.peer.clone()?;
        Some(Box::new(peer))
    }

    /// There is no 0-RTT: it could be replayed. `Some` would also make quinn ask for remembered parameters.
    fn early_crypto(&self) -> Option<(Box<dyn crypto::HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        !matches!(self.state, State::Established)
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.read(buf).map_err(|error| {
            self.state = State::Failed;
            self.incoming = Vec::new();
            self.role.common().watch.failed(error);
            tracing::debug!(%error, "handshake refused");
            // quinn sends code and reason to the peer, who shall not learn which check failed.
            TransportError {
                code: TransportErrorCode::crypto(GENERIC_ALERT),
                frame: None,
                reason: String::new(),
            }
        })
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.peer_params.as_deref().copied())
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let cipher = self.role.common().cipher;
        let side = self.role.side();
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Greeting { noise, message } => {
                buf.extend_from_slice(&message);
                self.state = State::AwaitReply { noise };
                None
            }
            State::Handover { schedule } => {
                let keys = packet::keys(cipher, &schedule.handshake, side);
                self.state = State::AwaitFinished { schedule };
                Some(keys)
            }
            State::Reply { message, schedule } => {
                buf.extend_from_slice(&message);
                let keys = packet::keys(cipher, &schedule.handshake, side);
                self.state = State::Finish { schedule };
                Some(keys)
            }
            State::Finish { schedule } => {
                let (finished, next) = match side {
                    Side::Client => (schedule.client_finished(), None),
                    Side::Server => (schedule.server_finished(), Some(())),
                };
                write_frame(FrameKind::Finished, &[&finished], buf)
                    .expect("a Finished frame has 35 bytes");
                let keys = packet::keys(cipher, &schedule.data, side);
                self.data = Some(schedule.data.clone());
                self.state = match next {
                    None => State::Established,
                    Some(()) => State::AwaitFinished { schedule },
                };
                Some(keys)
            }
            waiting @ (State::AwaitReply { .. }
            | State::AwaitGreeting { .. }
            | State::AwaitFinished { .. }
            | State::Established
            | State::Failed) => {
                self.state = waiting;
                None
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let (cipher, side) = (self.role.common().cipher, self.role.side());
        let data = self.data.as_mut()?;
        data.update();
        Some(packet::packet_keys(cipher, data, side))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some((body, tag)) = payload.split_last_chunk::<16>() else {
            return false;
        };
        let version = self.role.common().quic_version;
        let expected = packet::retry_tag(version, orig_dst_cid, &[header, body]);
        expected.as_slice().ct_eq(tag).into()
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let exporter = self.exporter.as_ref().ok_or(ExportKeyingMaterialError)?;
        schedule::export(exporter, label, context, output)
            .map_err(|_too_long| ExportKeyingMaterialError)
    }
}
