//! A person's root key.

use std::fmt;

use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    UserId,
    signature::{self, Domain, SIGNATURE_LEN},
};

/// The Ed25519 key that names a person and answers for the person's devices. Wiped when dropped.
///
/// Its 32-byte seed is what 24 words write down; nothing else of it needs to be kept.
#[derive(Clone)]
pub struct RootKey {
    sign: SigningKey,
}

impl RootKey {
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

    /// The Ed25519 seed, to be written down.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.sign.to_bytes())
    }

    /// The person's name. After a rotation the person keeps the name of the first root.
    #[must_use]
    pub fn user(&self) -> UserId {
        UserId(self.sign.verifying_key().to_bytes())
    }

    /// Signs `message` for one purpose.
    #[must_use]
    pub fn sign(&self, domain: Domain, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        signature::sign(&self.sign, domain, message)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({:?}, secret)", self.user())
    }
}
