//! A node's key, in both of its forms.
//!
//! One Ed25519 seed gives a node its identity and its Noise static key: the X25519 secret is the clamped
//! first half of SHA-512(seed), which is Ed25519's own scalar (RFC 8032 section 5.1.5), and the X25519
//! public key is the Montgomery form of the identity (RFC 7748 section 4.1). So a link that names the
//! node's identity is enough to start a handshake in which the node proves it.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::fmt;

use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_core::CryptoRngCore;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{
    ID_LEN, NodeId,
    signature::{self, Domain, SIGNATURE_LEN},
};
use crate::wire::{Reader, WireError, Writer};

const SECRET_VERSION: u8 = 1;

impl NodeId {
    /// The node's Noise static public key (X25519).
    ///
    /// `None` when these bytes are no usable key: not a point of the curve, not its canonical spelling, or
    /// of small order. Nothing can be proved under such a key.
    #[must_use]
    pub fn noise_static(&self) -> Option<[u8; 32]> {
        if !is_canonical(&self.0) {
            return None;
        }
        let key = VerifyingKey::from_bytes(&self.0).ok()?;
        (!key.is_weak()).then(|| key.to_montgomery().to_bytes())
    }
}

/// Whether the y coordinate is below the field's prime, 2^255 - 19.
fn is_canonical(bytes: &[u8; ID_LEN]) -> bool {
    let [first, middle @ .., last] = bytes;
    *first < 0xed || last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// A node's secret key. Wiped when dropped.
#[derive(Clone)]
pub struct NodeKeys {
    sign: SigningKey,
}

impl NodeKeys {
    /// Draws a new key.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self::from_seed(&seed)
    }

    /// The key of an Ed25519 seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self {
            sign: SigningKey::from_bytes(seed),
        }
    }

    /// The node's public name.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.sign.verifying_key().to_bytes())
    }

    /// The Noise static secret (X25519) that belongs to [`NodeId::noise_static`] of [`NodeKeys::id`].
    #[must_use]
    pub fn noise_static(&self) -> StaticSecret {
        let mut scalar = Zeroizing::new(self.sign.to_scalar_bytes());
        let [first, .., last] = &mut *scalar;
        *first &= 0b1111_1000;
        *last = *last & 0b0111_1111 | 0b0100_0000;
        StaticSecret::from(*scalar)
    }

    /// Signs `message` for one purpose.
    #[must_use]
    pub fn sign(&self, domain: Domain, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        signature::sign(&self.sign, domain, message)
    }

    /// The secret for the profile: `u8 version = 1 | Ed25519 seed (32)`.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(33));
        bytes.put_u8(SECRET_VERSION);
        bytes.put_bytes(self.sign.as_bytes());
        bytes
    }

    /// Reads what [`NodeKeys::to_secret_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are of another version or length.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            SECRET_VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let seed = Zeroizing::new(reader.array()?);
        reader.finish()?;
        Ok(Self::from_seed(&seed))
    }
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKeys({:?}, secret)", self.id())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x25519_dalek::PublicKey;

    use super::*;

    proptest! {
        #[test]
        fn both_forms_are_one_key(seed: [u8; 32]) {
            let keys = NodeKeys::from_seed(&seed);
            prop_assert_eq!(keys.id().noise_static(), Some(PublicKey::from(&keys.noise_static()).to_bytes()));
        }

        #[test]
        fn any_bytes_are_a_key_or_none(bytes: [u8; 32]) {
            let _converted: Option<[u8; 32]> = NodeId(bytes).noise_static();
        }

        #[test]
        fn secrets_round_trip(seed: [u8; 32]) {
            let keys = NodeKeys::from_seed(&seed);
            let again = NodeKeys::from_secret_bytes(&keys.to_secret_bytes()).unwrap();
            prop_assert_eq!(again.id(), keys.id());
        }
    }

    #[test]
    fn keys_that_prove_nothing_have_no_noise_form() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(NodeId(identity).noise_static(), None, "order one");
        assert_eq!(NodeId([0; 32]).noise_static(), None, "order four");
        let mut spelled_twice = [0xff; 32];
        spelled_twice[0] = 0xed + 3;
        spelled_twice[31] = 0x7f;
        assert_eq!(
            NodeId(spelled_twice).noise_static(),
            None,
            "y above the prime"
        );
        let mut off_curve = [0; 32];
        off_curve[0] = 2;
        assert_eq!(
            NodeId(off_curve).noise_static(),
            None,
            "no point has this y"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let seed = [0xa7; 32];
        let text = format!("{:?}", NodeKeys::from_seed(&seed));
        assert!(text.ends_with("secret)"));
        assert!(!text.contains("167") && !text.contains("a7a7"), "{text}");
    }
}
