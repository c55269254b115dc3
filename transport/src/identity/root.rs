//! A person's root key.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
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

    /// Signs a mutable item of the Mainline DHT (BEP 44), whose form is not ours to choose. It begins with `4:salt` or
    /// `3:seq`, and no label of a [`Domain`] does, so it stands for nothing else.
    #[must_use]
    pub fn sign_dht_item(
        &self,
        salt: Option<&[u8]>,
        seq: u64,
        value: &[u8],
    ) -> [u8; SIGNATURE_LEN] {
        let mut input = Vec::with_capacity(64 + value.len());
        if let Some(salt) = salt {
            input.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
            input.extend_from_slice(salt);
        }
        input.extend_from_slice(format!("3:seqi{seq}e1:v{}:", value.len()).as_bytes());
        input.extend_from_slice(value);
        self.sign.sign(&input).to_bytes()
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({:?}, secret)", self.user())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Verifier};

    use super::*;

    #[test]
    fn items_are_signed_as_bep_44_spells_them() {
        let root = RootKey::from_seed(&[7; 32]);
        let public = root.sign.verifying_key();
        let cases: [(Option<&[u8]>, &[u8]); 2] = [
            (None, b"3:seqi4e1:v12:Hello world!"),
            (Some(b"foobar"), b"4:salt6:foobar3:seqi4e1:v12:Hello world!"),
        ];
        for (salt, signed) in cases {
            let signature = Signature::from_bytes(&root.sign_dht_item(salt, 4, b"Hello world!"));
            public.verify(signed, &signature).unwrap();
        }
    }
}
