//! Keys that do not come out of a handshake: what a call's secret gives each of its connections, and what an
//! endpoint needs for stateless resets and Retry tokens.

use std::{fmt, sync::Arc};

use quinn_proto::crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey};
use ring::{aead, hmac};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::schedule::{SECRET_BYTES, expand_array, extract};

/// Length of the MAC in front of message 1, in bytes.
pub(super) const MAC_BYTES: usize = 16;

/// Length of the tag that is a connection's first destination id, in bytes: the longest id QUIC has.
pub const TAG_BYTES: usize = 20;

/// What both sides of a session know before connection `n`, and nobody else.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PeerSecrets {
    /// Pre-shared key of `IKhfs+psk0`.
    pub psk: [u8; 32],
    /// First destination connection id. Public once used.
    pub tag: [u8; TAG_BYTES],
    /// Key of the MAC in front of message 1.
    pub mac_key: [u8; 32],
}

impl PeerSecrets {
    /// Secrets of connection `n` of a session.
    ///
    /// `exporter0` is 32 bytes of exported keying material of connection 0, for every later connection: whoever
    /// learns the session secret from the sealed offer afterwards still cannot join. `None` for connection 0
    /// itself, and for a later one only while connection 0 never came up; the two cases never share a key.
    #[must_use]
    pub fn derive(
        session_secret: &[u8; SECRET_BYTES],
        n: u32,
        exporter0: Option<&[u8; SECRET_BYTES]>,
    ) -> Self {
        let mut context = [0; 5];
        context[0] = u8::from(exporter0.is_some());
        context[1..].copy_from_slice(&n.to_be_bytes());
        let prk = extract(exporter0.unwrap_or(&[0; SECRET_BYTES]), session_secret);
        Self {
            psk: *expand_array(&prk, b"psk", &context),
            tag: *expand_array(&prk, b"tag", &context),
            mac_key: *expand_array(&prk, b"mac", &context),
        }
    }
}

impl fmt::Debug for PeerSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSecrets").finish_non_exhaustive()
    }
}

/// Key of stateless reset tokens for [`quinn_proto::EndpointConfig::new`]. Keep the 32 bytes over a restart:
/// otherwise peers of the previous run wait for their idle timeout (RFC 9000 section 10.3).
#[must_use]
pub fn reset_key(key: &[u8; 32]) -> Arc<dyn HmacKey> {
    Arc::new(ResetKey(hmac::Key::new(hmac::HMAC_SHA256, key)))
}

/// Key of Retry and NEW_TOKEN tokens for [`quinn_proto::ServerConfig::new`] (RFC 9000 section 8.1).
#[must_use]
pub fn token_key(key: &[u8; 32]) -> Arc<dyn HandshakeTokenKey> {
    Arc::new(TokenKey(super::schedule::Secret(*key)))
}

struct ResetKey(hmac::Key);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, data, signature).map_err(|_forged| CryptoError)
    }
}

struct TokenKey(super::schedule::Secret);

impl HandshakeTokenKey for TokenKey {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        let prk = extract(random_bytes, &self.0.0);
        let key = expand_array::<32>(&prk, b"token", &[]);
        let key =
            aead::UnboundKey::new(&aead::AES_256_GCM, &*key).expect("AES-256-GCM takes 32 bytes");
        Box::new(TokenAead(aead::LessSafeKey::new(key)))
    }
}

/// Seals one token only: quinn draws new random bytes, hence a new key, for each.
struct TokenAead(aead::LessSafeKey);

impl TokenAead {
    fn nonce() -> aead::Nonce {
        aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
    }
}

impl AeadKey for TokenAead {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        self.0
            .seal_in_place_append_tag(Self::nonce(), aead::Aad::from(additional_data), data)
            .map_err(|_too_long| CryptoError)
    }

    fn open<'a>(
        &self,
        data: &'a mut [u8],
        additional_data: &[u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        self.0
            .open_in_place(Self::nonce(), aead::Aad::from(additional_data), data)
            .map_err(|_forged| CryptoError)
    }
}
