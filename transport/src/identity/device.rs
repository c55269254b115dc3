//! The three keys of one device.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::fmt;

use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{
    DeviceId,
    seal_key::{SealKeyRecord, SealKeyring},
    signature::{self, Domain, SIGNATURE_LEN},
};
use crate::wire::{Reader, WireError, Writer};

const SECRET_VERSION: u8 = 1;

/// What a device holds in secret: Ed25519 to sign, X25519 for Noise, X-Wing to be sealed to. Wiped when
/// dropped.
///
/// The Noise key is drawn separately from the signing key, unlike a node's: a device's certificate names
/// both, so nothing is saved by deriving one from the other.
#[derive(Clone)]
pub struct DeviceKeys {
    sign: SigningKey,
    noise: StaticSecret,
    seal: SealKeyring,
}

impl DeviceKeys {
    /// Draws all keys. `now_millis` (Unix) starts the seal key's week.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRngCore, now_millis: u64) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        let sign = SigningKey::from_bytes(&seed);
        rng.fill_bytes(&mut *seed);
        let noise = StaticSecret::from(*seed);
        Self {
            sign,
            noise,
            seal: SealKeyring::generate(rng, now_millis),
        }
    }

    /// The device's public name.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId(self.sign.verifying_key().to_bytes())
    }

    /// The Noise static secret (X25519).
    #[must_use]
    pub fn noise_static(&self) -> &StaticSecret {
        &self.noise
    }

    /// The Noise static public key (X25519), as the certificate names it.
    #[must_use]
    pub fn noise_public(&self) -> [u8; 32] {
        PublicKey::from(&self.noise).to_bytes()
    }

    /// Signs `message` for one purpose.
    #[must_use]
    pub fn sign(&self, domain: Domain, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        signature::sign(&self.sign, domain, message)
    }

    /// The X-Wing secrets.
    #[must_use]
    pub fn seal_keys(&self) -> &SealKeyring {
        &self.seal
    }

    /// Draws a new seal key when the current one is a week old, and wipes those whose retention ended.
    /// Returns whether the keys changed: save them before publishing [`DeviceKeys::seal_key_record`].
    #[must_use = "changed keys have to be saved"]
    pub fn rotate_seal_key(&mut self, now_millis: u64, rng: &mut dyn CryptoRngCore) -> bool {
        self.seal.rotate(now_millis, rng)
    }

    /// The signed public half of the current seal key.
    #[must_use]
    pub fn seal_key_record(&self) -> SealKeyRecord {
        SealKeyRecord::issue(self)
    }

    /// The secrets for the profile:
    ///
    /// ```text
    /// 0       1              33              65
    /// | ver=1 | Ed25519 seed | X25519 secret | u8 count | count * { u32 generation | u64 created_at | X-Wing seed (32) }
    /// ```
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Large enough from the start: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        bytes.put_u8(SECRET_VERSION);
        bytes.put_bytes(self.sign.as_bytes());
        bytes.put_bytes(self.noise.as_bytes());
        self.seal.write(&mut bytes);
        bytes
    }

    /// Reads what [`DeviceKeys::to_secret_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are of another version or damaged.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            SECRET_VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let sign: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
        let noise: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
        let seal = SealKeyring::read(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            sign: SigningKey::from_bytes(&sign),
            noise: StaticSecret::from(*noise),
            seal,
        })
    }
}

impl fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKeys({:?}, {:?}, secret)", self.id(), self.seal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const WEEK: u64 = super::super::seal_key::SEAL_KEY_ROTATION_MILLIS;

    proptest! {
        #[test]
        fn secrets_round_trip_after_any_number_of_weeks(seed: [u8; 32], weeks in 0u64..6) {
            let mut rng = ChaCha20Rng::from_seed(seed);
            let mut keys = DeviceKeys::generate(&mut rng, NOW);
            for week in 1..=weeks {
                prop_assert!(keys.rotate_seal_key(NOW + week * WEEK, &mut rng));
            }
            let bytes = keys.to_secret_bytes();
            let again = DeviceKeys::from_secret_bytes(&bytes).unwrap();
            prop_assert_eq!(again.to_secret_bytes(), bytes);
            prop_assert_eq!(again.id(), keys.id());
            prop_assert_eq!(again.noise_public(), keys.noise_public());
            prop_assert_eq!(again.seal_key_record(), keys.seal_key_record());
        }

        #[test]
        fn damaged_secrets_are_an_error(bytes: Vec<u8>, cut in 0usize..110) {
            if let Ok(keys) = DeviceKeys::from_secret_bytes(&bytes) {
                prop_assert_eq!(&keys.to_secret_bytes()[..], &bytes[..]);
            }
            let whole = DeviceKeys::generate(&mut ChaCha20Rng::from_seed([1; 32]), NOW).to_secret_bytes();
            prop_assert!(DeviceKeys::from_secret_bytes(&whole[..cut.min(whole.len() - 1)]).is_err());
        }
    }

    #[test]
    fn the_secret_format_stays_what_it_is() {
        let bytes =
            DeviceKeys::generate(&mut ChaCha20Rng::from_seed([1; 32]), NOW).to_secret_bytes();
        assert_eq!(bytes.len(), 1 + 32 + 32 + 1 + (4 + 8 + 32));
        assert_eq!(bytes[0], 1, "version");
        assert_eq!(bytes[65..70], [1, 0, 0, 0, 1], "one key, generation one");
        assert_eq!(bytes[70..78], NOW.to_be_bytes());
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = DeviceKeys::generate(&mut ChaCha20Rng::from_seed([1; 32]), NOW);
        let text = format!("{keys:?}");
        assert!(text.len() < 100, "{text}");
        assert!(text.contains("secret"));
    }
}
