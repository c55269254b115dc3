//! The crypto session of our QUIC: a Noise handshake in place of TLS.
//!
//! [`client_config`] and [`server_config`] give quinn what it otherwise gets from rustls. This page is the
//! specification: it should be enough for a second implementation, and for a cryptographer's review. The test
//! `vectors` holds such a second implementation, written from straight HMAC calls with another ML-KEM and
//! another ChaCha20-Poly1305, and `tests/vectors.txt` the bytes on which both agree.
//!
//! # Handshake
//!
//! Noise revision 34 with the hybrid forward secrecy extension (`hfs`), X25519, ML-KEM-768 (FIPS 203),
//! ChaCha20-Poly1305 and SHA-256. The full name starts the transcript, so its spelling counts.
//!
//! | kind | name | message 1 | message 2 |
//! |---|---|---|---|
//! | 1 | `Noise_NKhfs_25519+MLKEM768_ChaChaPoly_SHA256` | `e, es, e1` | `e, ee, ekem1` |
//! | 2 | `Noise_IKhfs_25519+MLKEM768_ChaChaPoly_SHA256` | `e, es, e1, s, ss` | `e, ee, ekem1, se` |
//! | 3 | `Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256` | `psk, e, es, e1, s, ss` | `e, ee, ekem1, se` |
//!
//! `e1` sends an ML-KEM encapsulation key (1184 bytes) and `ekem1` a ciphertext (1088 bytes), both by
//! EncryptAndHash, so the transcript covers them; `ekem1` then does MixKey of the shared secret. The pre-message
//! is the server's static key. A DH result of zero and an encapsulation key that fails the modulus check of
//! FIPS 203 section 7.2 end the handshake.
//!
//! ```text
//! prologue  = varint length, label ("ahoy/1")
//!           | u8 format version (1) | u32 QUIC version | u8 kind | u8 cipher (1 AES-256-GCM, 2 ChaCha20-Poly1305)
//!           | varint length, context
//! payload   = varint length, credential | QUIC transport parameters (RFC 9000 section 18)
//! frame     = u16 length of the rest | u8 kind | body
//! message 1 = frame(kind, noise message 1)                                    kinds 1 and 2
//!           = frame(3, HMAC-SHA256(mac_key, prologue | noise message 1)[..16] | noise message 1)
//! message 2 = frame(kind, noise message 2)
//! Finished  = frame(0x20, verify_data)
//! ```
//!
//! Integers are big-endian, varints are QUIC's (RFC 9000 section 16).
//!
//! ```text
//! client                                                              server
//!   Initial:   message 1                      ------------------>
//!                                             <------------------     Initial:   message 2
//!                                             <------------------     Handshake: server's Finished
//!   Handshake: client's Finished              ------------------>
//!   1-RTT                                     <----------------->     1-RTT
//! ```
//!
//! The client answers only after it read the server's Finished. Noise needs no third message, but QUIC does: a
//! side is connected when it processed a Handshake packet, and a server that has the client's Finished throws
//! away its own Handshake data, which a client might still lack. Each frame ends its encryption level; a byte
//! after it is an error. Kind 3 serves one message 1 only: once one verified, every other is refused before any
//! computation, as is a wrong MAC.
//!
//! # Key schedule
//!
//! `Expand-Label(secret, label, context, length)` is that of RFC 8446 section 7.1 over HKDF-SHA256 (RFC 5869),
//! with `"ahoy1 "` in the place of `"tls13 "`.
//!
//! ```text
//! k1, k2 = Noise Split(), the initiator's first            h = handshake hash after message 2
//! prk    = HKDF-Extract(salt = h, input = k1 | k2)
//!
//! "c hs", "s hs"    secrets of client's and server's Handshake packets     each = Expand-Label(prk, label, "", 32)
//! "c ap", "s ap"    the same for 1-RTT packets, first key phase
//! "c fin", "s fin"  keys of the Finished frames
//! "exp"             exporter secret
//!
//! key, iv, hp       = Expand-Label(secret, "key" | "iv" | "hp", "", key length | 12 | key length)
//! next key phase    = Expand-Label(secret, "ku", "", 32); hp stays             (RFC 9001 section 6)
//! server verify_data = HMAC-SHA256("s fin", h)
//! client verify_data = HMAC-SHA256("c fin", h | server verify_data)
//! exported keying material
//!                   = Expand-Label("exp", "exporter", SHA-256(u64 length of label | label | context), length)
//! ```
//!
//! Packets are protected as in RFC 9001 section 5 with AES-256-GCM or ChaCha20-Poly1305. An AES key seals at most
//! 2^23 packets before quinn updates it. Nothing can be exported before the other side's Finished was good.
//!
//! Initial packets (keys that everybody can compute, as in every QUIC version) use AES-128-GCM:
//!
//! ```text
//! salt      = SHA-256("ahoy/1 initial salt")
//! "client in", "server in" = Expand-Label(HKDF-Extract(salt, first destination id), label, u32 QUIC version, 32)
//! Retry key, iv            = Expand-Label(HKDF-Extract(salt, "retry"), "retry key" | "retry iv", u32 version, 16 | 12)
//! Retry tag = AES-128-GCM(key, iv, plaintext "", aad = u8 id length | original destination id | Retry packet)
//! ```
//!
//! Secrets of connection n between two people, from the 32-byte session secret in the sealed offer
//! ([`PeerSecrets::derive`]); `exporter0` is exported by connection 0, zeros and flag 0 without it:
//!
//! ```text
//! prk = HKDF-Extract(salt = exporter0, input = session secret)
//! psk, tag, mac_key = Expand-Label(prk, "psk" | "tag" | "mac", u8 flag | u32 n, 32 | 20 | 32)
//! ```
//!
//! # Randomness
//!
//! A configuration is given 32 random bytes. Session i of it uses `Expand-Label(seed, "session", "", 32)` and
//! replaces the seed by `Expand-Label(seed, "next seed", "", 32)`: the ephemeral keys of past sessions cannot be
//! computed from a process's memory. Block i of a session's stream is `Expand-Label(session seed, stream, u64 i,
//! 32)`: stream `"noise"` gives ephemeral key, then d and z of ML-KEM key generation; stream
//! `"ml-kem encapsulation"` gives m.
//!
//! # What it gives, and what it does not
//!
//! * Secrecy of everything after message 1 holds if X25519 *or* ML-KEM holds, forward secret against theft of all
//!   static keys. In kinds 1 and 2 authentication is classical: a quantum computer at the time of the call
//!   can impersonate. In kind 3 it would also need the session secret.
//! * Message 1 of kinds 1 and 2 can be replayed, costs the server its operations, and shows the client's identity
//!   to whoever steals (or computes) the server's static key. Servers act on nothing before the handshake is
//!   complete. Kind 3 closes all three by the session secret.
//! * In kind 3 a sender without the secret costs one HMAC over at most [`MAX_FRAME_BYTES`] bytes and learns one
//!   generic error code. quinn answers that much; silence towards strangers is the socket's task.
//! * A sender who never completes a frame holds at most [`MAX_FRAME_BYTES`] bytes of a session but can keep it
//!   for as long as it acknowledges: endpoints give handshakes a deadline.
//! * There is no 0-RTT and no resumption.
//! * Wiped on drop: static and ephemeral secrets, the KEM's key, psk and MAC key, seeds, every secret of the
//!   schedule. Not wiped, because their owners do not: snow's chaining key and DH results, ring's expanded keys.
//!
//! # Departures
//!
//! * From RFC 9001: the handshake, labels, salt, Retry key; CRYPTO_ERROR carries 0x28 (`handshake_failure`) and an
//!   empty reason whatever happened, and the reason stays in [`HandshakeWatch`].
//! * From the HFS draft: ML-KEM-768 under the name `MLKEM768`. Modifiers are sorted: `hfs+psk0`.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use quinn_proto::crypto::{ClientConfig, ServerConfig};
use x25519_dalek::StaticSecret;

use crate::identity::{DeviceId, NodeId, UserId};

mod frame;
mod packet;
mod resolver;
mod schedule;
mod secrets;
mod session;

#[cfg(test)]
mod tests;

pub use frame::{Frame, FrameError, FrameKind, MAX_CREDENTIAL_BYTES, MAX_FRAME_BYTES, parse_frame};
pub use packet::DataCipher;
pub use secrets::{PeerSecrets, TAG_BYTES, reset_key, token_key};

use resolver::SeedRatchet;
use session::{ClientCrypto, Common, ServerCrypto, Static};

/// Our private QUIC version (`ah`, 1): what runs inside is not TLS, and saying version 1 would be a lie.
pub const QUIC_VERSION: u32 = 0x6168_0001;

/// The prologue's label for version 1 of ahoy.
pub const PROLOGUE_LABEL: &[u8] = b"ahoy/1";

/// Which Noise handshake: who shows what to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// The client shows nothing about itself: to any supernode.
    NkHfs,
    /// The client shows its static key and a credential: to its own home.
    IkHfs,
    /// As [`Self::IkHfs`], under a pre-shared key and silent without it: between people.
    IkHfsPsk0,
}

impl Pattern {
    /// Its byte in a frame and in the prologue.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::NkHfs => 1,
            Self::IkHfs => 2,
            Self::IkHfsPsk0 => 3,
        }
    }

    /// The pattern with that [`Self::number`].
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::NkHfs),
            2 => Some(Self::IkHfs),
            3 => Some(Self::IkHfsPsk0),
            0 | 4.. => None,
        }
    }

    /// Its full Noise protocol name, which starts the transcript; its spelling counts.
    #[must_use]
    pub const fn noise_name(self) -> &'static str {
        match self {
            Self::NkHfs => "Noise_NKhfs_25519+MLKEM768_ChaChaPoly_SHA256",
            Self::IkHfs => "Noise_IKhfs_25519+MLKEM768_ChaChaPoly_SHA256",
            Self::IkHfsPsk0 => "Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256",
        }
    }

    /// Whether the client shows a static key.
    const fn client_is_known(self) -> bool {
        match self {
            Self::NkHfs => false,
            Self::IkHfs | Self::IkHfsPsk0 => true,
        }
    }
}

/// What both sides must already agree on; mixed into the transcript, never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prologue {
    /// Protocol and its version: [`PROLOGUE_LABEL`].
    pub label: &'static [u8],
    /// Whatever this connection belongs to: call id, number of the connection; empty towards supernodes.
    pub context: Vec<u8>,
}

/// Decides about the other side's static key and credential, inside the handshake.
///
/// It runs while a packet is processed: it must not block. What it needs to know (keys, clock, revocations)
/// is put into it beforehand.
pub trait VerifyPeer: Send + Sync + fmt::Debug {
    /// Judges the other side. `noise_static` is its X25519 key, proven by the end of the handshake; `None` for
    /// a client of [`Pattern::NkHfs`]. `credential` are its bytes, authentic as far as that key is: on a server
    /// message 1 could be a replay, so nothing may happen on its strength before the handshake is complete.
    ///
    /// # Errors
    /// The [`Refusal`], which the peer does not learn.
    fn verify(
        &self,
        pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal>;
}

/// Who the other side is, as far as the verifier found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifiedPeer {
    /// The device, when its credential was good.
    pub device: Option<DeviceId>,
    /// The person that device belongs to.
    pub user: Option<UserId>,
    /// The supernode.
    pub node: Option<NodeId>,
}

/// Why a [`VerifyPeer`] refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The credential cannot be read.
    #[error("the credential is malformed")]
    Malformed,
    /// The credential has a version that this program does not speak.
    #[error("the credential has an unsupported version")]
    UnsupportedVersion,
    /// A signature is wrong.
    #[error("the credential's signature is wrong")]
    BadSignature,
    /// The credential is for another Noise key than the one in this handshake.
    #[error("the credential belongs to another key")]
    WrongKey,
    /// The credential has expired.
    #[error("the credential has expired")]
    Expired,
    /// The credential is not valid yet.
    #[error("the credential is not valid yet")]
    NotYetValid,
    /// The device was revoked.
    #[error("the device was revoked")]
    Revoked,
    /// A good credential of somebody else than was dialled or invited.
    #[error("the peer is not the expected one")]
    UnexpectedPeer,
    /// The credential is good, but its owner is not welcome here.
    #[error("the peer is not allowed")]
    NotAllowed,
}

/// What [`quinn_proto::Connection::crypto_session`]'s `peer_identity()` holds, in an [`Arc`] behind `Box<dyn Any>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The handshake that was run.
    pub pattern: Pattern,
    /// The peer's X25519 key; `None` for a client of [`Pattern::NkHfs`].
    pub noise_static: Option<[u8; 32]>,
    /// The credential as it was sent.
    pub credential: Vec<u8>,
    /// What the verifier made of it.
    pub peer: VerifiedPeer,
}

/// What `handshake_data()` holds, behind `Box<dyn Any>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeData {
    /// The handshake that is being run.
    pub pattern: Pattern,
    /// The AEAD of its packets.
    pub cipher: DataCipher,
}

/// Why a handshake failed, for this side's eyes only: the peer gets one generic code, CRYPTO_ERROR 0x128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HandshakeError {
    /// The CRYPTO stream does not consist of frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame, or bytes after one, where none belongs.
    #[error("handshake data came out of turn")]
    Unexpected,
    /// The pattern is not served here, or not the one that was asked for.
    #[error("the handshake pattern is not accepted")]
    PatternRefused,
    /// The MAC in front of message 1 is wrong: no Diffie-Hellman operation was spent.
    #[error("the sender does not know the session's secret")]
    Mac,
    /// Message 1 was good, and had been seen before: no Diffie-Hellman operation was spent.
    #[error("the session's first message was replayed")]
    Replayed,
    /// A Noise message does not verify: wrong static key, wrong psk, wrong prologue, or altered on the way.
    #[error("a handshake message does not verify")]
    Noise,
    /// A public key that no honest side sends: an X25519 point of low order, or an ML-KEM key out of range.
    #[error("a public key is not usable")]
    WeakKey,
    /// The payload is not a credential and transport parameters.
    #[error("a handshake payload is malformed")]
    Payload,
    /// The verifier refused the peer.
    #[error("the peer was refused: {0}")]
    Refused(Refusal),
    /// The Finished frame is wrong.
    #[error("the key confirmation is wrong")]
    Finished,
    /// Our own message would exceed [`MAX_FRAME_BYTES`].
    #[error("a handshake message would be too long")]
    TooLong,
}

impl HandshakeError {
    /// snow's errors, which must not tell more than this.
    fn from_noise(error: snow::Error) -> Self {
        if matches!(error, snow::Error::Dh | snow::Error::Kem) {
            Self::WeakKey
        } else {
            Self::Noise
        }
    }
}

/// What happened in the sessions of one configuration; shared with whoever made it.
#[derive(Debug, Default)]
pub struct HandshakeWatch {
    last_failure: Mutex<Option<HandshakeError>>,
    failures: AtomicU64,
    verified: AtomicBool,
    dh_operations: Arc<AtomicU64>,
}

impl HandshakeWatch {
    /// The latest failure. On a configuration used for one connection: why that connection failed.
    #[must_use]
    pub fn last_failure(&self) -> Option<HandshakeError> {
        *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Handshakes that failed in our own judgement; not those that the peer refused, nor timeouts.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Server with a psk: whether message 1 came and was good. Only now is the tag used up.
    #[must_use]
    pub fn message_1_verified(&self) -> bool {
        self.verified.load(Ordering::Acquire)
    }

    /// X25519 operations so far, public key computations included.
    #[must_use]
    pub fn dh_operations(&self) -> u64 {
        self.dh_operations.load(Ordering::Relaxed)
    }

    fn failed(&self, error: HandshakeError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// A configuration that cannot make a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The pattern needs our static key.
    #[error("this handshake needs a local static key")]
    NoLocalStatic,
    /// The pattern needs the session's secrets.
    #[error("this handshake needs the session's secrets")]
    NoPeerSecrets,
    /// The credential is longer than [`MAX_CREDENTIAL_BYTES`].
    #[error("the credential is longer than {MAX_CREDENTIAL_BYTES} bytes")]
    CredentialTooLong,
    /// A server that serves no pattern.
    #[error("a server must accept at least one handshake pattern")]
    NoPattern,
}

/// The dialling side of a handshake.
pub struct ClientHandshake {
    /// What to show, and to whom.
    pub pattern: Pattern,
    /// Our X25519 key; ignored by [`Pattern::NkHfs`].
    pub local_static: Option<StaticSecret>,
    /// What we show about ourselves, at most [`MAX_CREDENTIAL_BYTES`]; sent empty with [`Pattern::NkHfs`].
    pub credential: Vec<u8>,
    /// The X25519 key that the server must prove.
    pub remote_static: [u8; 32],
    /// Needed by [`Pattern::IkHfsPsk0`] and ignored by the others.
    pub peer: Option<PeerSecrets>,
    /// What both sides agree on.
    pub prologue: Prologue,
    /// AEAD of the packets; the server must have the same.
    pub cipher: DataCipher,
    /// Judges the server's credential.
    pub verifier: Arc<dyn VerifyPeer>,
    /// Where failures and counters go.
    pub watch: Arc<HandshakeWatch>,
    /// The QUIC version, [`QUIC_VERSION`] if in doubt; also goes into [`quinn_proto::ClientConfig::version`] and
    /// [`quinn_proto::EndpointConfig::supported_versions`].
    pub quic_version: u32,
    /// 32 random bytes, used nowhere else.
    pub seed: [u8; 32],
}

/// The answering side of a handshake.
pub struct ServerHandshake {
    /// Patterns that are accepted.
    pub patterns: Vec<Pattern>,
    /// Our X25519 key.
    pub local_static: StaticSecret,
    /// What we show about ourselves, at most [`MAX_CREDENTIAL_BYTES`].
    pub credential: Vec<u8>,
    /// Needed by [`Pattern::IkHfsPsk0`] and ignored by the others. Serves a single handshake: after a message 1
    /// that verified, every other is [`HandshakeError::Replayed`].
    pub peer: Option<PeerSecrets>,
    /// What both sides agree on.
    pub prologue: Prologue,
    /// AEAD of the packets; the client must have the same.
    pub cipher: DataCipher,
    /// Judges the client's key and credential.
    pub verifier: Arc<dyn VerifyPeer>,
    /// Where failures and counters go.
    pub watch: Arc<HandshakeWatch>,
    /// The QUIC version, [`QUIC_VERSION`] if in doubt; also goes into
    /// [`quinn_proto::EndpointConfig::supported_versions`].
    pub quic_version: u32,
    /// 32 random bytes, used nowhere else.
    pub seed: [u8; 32],
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake")
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake")
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

/// Checks what both roles share.
fn check(
    pattern: Pattern,
    has_static: bool,
    peer: Option<&PeerSecrets>,
    credential: &[u8],
) -> Result<(), ConfigError> {
    if !has_static {
        return Err(ConfigError::NoLocalStatic);
    }
    if pattern == Pattern::IkHfsPsk0 && peer.is_none() {
        return Err(ConfigError::NoPeerSecrets);
    }
    if credential.len() > MAX_CREDENTIAL_BYTES {
        return Err(ConfigError::CredentialTooLong);
    }
    Ok(())
}

/// The crypto of a dialling connection, for [`quinn_proto::ClientConfig::new`].
///
/// # Errors
/// [`ConfigError`] when the pattern needs something that is missing.
pub fn client_config(handshake: ClientHandshake) -> Result<Arc<dyn ClientConfig>, ConfigError> {
    let pattern = handshake.pattern;
    let known = pattern.client_is_known();
    check(
        pattern,
        !known || handshake.local_static.is_some(),
        handshake.peer.as_ref(),
        &handshake.credential,
    )?;
    Ok(Arc::new(ClientCrypto {
        common: Common {
            quic_version: handshake.quic_version,
            // An anonymous client shows nothing, whatever it was given.
            local_static: handshake.local_static.filter(|_| known).map(Static),
            credential: if known {
                handshake.credential
            } else {
                Vec::new()
            },
            peer: handshake.peer,
            prologue: handshake.prologue,
            cipher: handshake.cipher,
            verifier: handshake.verifier,
            watch: handshake.watch,
            seeds: SeedRatchet::new(handshake.seed),
        },
        pattern,
        remote_static: handshake.remote_static,
    }))
}

/// The crypto of an answering endpoint, for [`quinn_proto::ServerConfig::new`].
///
/// # Errors
/// [`ConfigError`] when a pattern needs something that is missing.
pub fn server_config(handshake: ServerHandshake) -> Result<Arc<dyn ServerConfig>, ConfigError> {
    if handshake.patterns.is_empty() {
        return Err(ConfigError::NoPattern);
    }
    for &pattern in &handshake.patterns {
        check(
            pattern,
            true,
            handshake.peer.as_ref(),
            &handshake.credential,
        )?;
    }
    Ok(Arc::new(ServerCrypto {
        common: Common {
            quic_version: handshake.quic_version,
            local_static: Some(Static(handshake.local_static)),
            credential: handshake.credential,
            peer: handshake.peer,
            prologue: handshake.prologue,
            cipher: handshake.cipher,
            verifier: handshake.verifier,
            watch: handshake.watch,
            seeds: SeedRatchet::new(handshake.seed),
        },
        patterns: handshake.patterns,
        used: AtomicBool::new(false),
    }))
}
