//! The crypto session of our QUIC: a Noise handshake in place of TLS.
//!
//! [`client_config`] and [`server_config`] give quinn what it otherwise gets from rustls.

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

/// What [`quinn_proto::Connection::crypto_session`]'s `peer_identity()` holds, behind `Box<dyn Any>`.
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
    /// Where failures and counters go. One of its own for each configuration with `peer`.
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
    }))
}
