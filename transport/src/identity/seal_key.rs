//! The device's X-Wing keys, to which others seal what they leave at its homes.
//!
//! A new key is drawn every week and the old one is wiped two weeks after it was replaced, so that a stolen
//! device opens no envelope older than that. The public half is published in a [`SealKeyRecord`].

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::fmt;

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    DeviceId, ID_LEN,
    device::DeviceKeys,
    signature::{Domain, SIGNATURE_LEN, verify_signature},
};
use crate::{
    sealed::xwing::{PUBLIC_KEY_LEN, PublicKey, SEED_LEN, SecretKey},
    wire::{Reader, WireError, Writer},
};

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// Age at which a key is replaced.
pub const SEAL_KEY_ROTATION_MILLIS: u64 = 7 * DAY_MILLIS;
/// How long a replaced key still opens envelopes: those sealed to a record that a home or a contact had
/// cached, and those that waited in a mailbox.
pub const SEAL_KEY_RETENTION_MILLIS: u64 = 14 * DAY_MILLIS;
/// How long others may seal to a key, counted from its creation. A device that runs replaces the key after
/// half of it. Ends a week before the key can be wiped, so whatever is sealed in time can be opened for at
/// least a week.
pub const SEAL_KEY_RECORD_LIFETIME_MILLIS: u64 = 14 * DAY_MILLIS;
/// A key that claims to come from further in the future than this was drawn under a wrong clock, and is
/// replaced at once.
const CLOCK_ERROR_MILLIS: u64 = DAY_MILLIS;
/// Keys held at most. Rotation a week apart and retention of two weeks need three; a clock that jumps
/// about must not grow the list.
pub const MAX_SEAL_KEYS: usize = 4;

const RECORD_VERSION: u8 = 1;
const RECORD_DOMAIN: Domain = Domain::new("ahoy/1 seal key");
/// Length of a [`SealKeyRecord`] in bytes.
pub const SEAL_KEY_RECORD_LEN: usize = 1 + ID_LEN + 4 + 8 + PUBLIC_KEY_LEN + SIGNATURE_LEN;

#[derive(Clone)]
struct SealKey {
    generation: u32,
    created_at_millis: u64,
    secret: SecretKey,
}

/// The X-Wing secrets of one device: the current one and those still retained. Wiped when dropped.
#[derive(Clone)]
pub struct SealKeyring {
    /// Oldest first, never empty; generations rise strictly.
    keys: Vec<SealKey>,
}

impl SealKeyring {
    pub(super) fn generate(rng: &mut dyn CryptoRngCore, now_millis: u64) -> Self {
        Self {
            keys: vec![draw(rng, 1, now_millis)],
        }
    }

    fn current(&self) -> &SealKey {
        self.keys.last().expect("a keyring always has a key")
    }

    /// The generation that new records announce.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.current().generation
    }

    /// Replaces the current key when it is due and wipes old ones whose retention has ended. Returns whether
    /// anything changed: then the profile must be saved before a new record is published.
    pub(super) fn rotate(&mut self, now_millis: u64, rng: &mut dyn CryptoRngCore) -> bool {
        let created = self.current().created_at_millis;
        let due = created.saturating_add(SEAL_KEY_ROTATION_MILLIS) <= now_millis
            || created > now_millis.saturating_add(CLOCK_ERROR_MILLIS);
        // After 2^32 - 1 weeks the last key stays.
        if due && let Some(generation) = self.current().generation.checked_add(1) {
            self.keys.push(draw(rng, generation, now_millis));
        }
        self.wipe_old(now_millis) || due
    }

    fn wipe_old(&mut self, now_millis: u64) -> bool {
        let before = self.keys.len();
        let expired = self
            .keys
            .windows(2)
            .take_while(|pair| match pair {
                [_, next] => {
                    next.created_at_millis
                        .saturating_add(SEAL_KEY_RETENTION_MILLIS)
                        <= now_millis
                }
                _other => false,
            })
            .count();
        let surplus = before.saturating_sub(MAX_SEAL_KEYS);
        self.keys.drain(..expired.max(surplus));
        self.keys.len() != before
    }

    /// The secret of a generation, if it is still held.
    #[must_use]
    pub fn secret(&self, generation: u32) -> Option<&SecretKey> {
        self.keys
            .iter()
            .find(|key| key.generation == generation)
            .map(|key| &key.secret)
    }

    /// When [`DeviceKeys::rotate_seal_key`] next has something to do, in Unix milliseconds.
    #[must_use]
    pub fn next_rotation_millis(&self) -> u64 {
        self.current()
            .created_at_millis
            .saturating_add(SEAL_KEY_ROTATION_MILLIS)
    }

    /// `u8 count | count * { u32 generation | u64 created_at | seed (32) }`
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::try_from(self.keys.len()).expect("at most MAX_SEAL_KEYS"));
        for key in &self.keys {
            out.put_u32(key.generation);
            out.put_u64(key.created_at_millis);
            out.put_bytes(key.secret.seed());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = usize::from(reader.u8()?);
        if count == 0 || count > MAX_SEAL_KEYS {
            return Err(WireError::Undefined);
        }
        let mut keys: Vec<SealKey> = Vec::with_capacity(count);
        for _ in 0..count {
            let generation = reader.u32()?;
            if generation == 0
                || keys
                    .last()
                    .is_some_and(|last| last.generation >= generation)
            {
                return Err(WireError::Undefined);
            }
            let created_at_millis = reader.u64()?;
            let seed: Zeroizing<[u8; SEED_LEN]> = Zeroizing::new(reader.array()?);
            keys.push(SealKey {
                generation,
                created_at_millis,
                secret: SecretKey::from_seed(*seed),
            });
        }
        Ok(Self { keys })
    }
}

impl fmt::Debug for SealKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generations: Vec<u32> = self.keys.iter().map(|key| key.generation).collect();
        write!(f, "SealKeyring(generations {generations:?}, secret)")
    }
}

fn draw(rng: &mut dyn CryptoRngCore, generation: u32, now_millis: u64) -> SealKey {
    let mut seed = Zeroizing::new([0; SEED_LEN]);
    rng.fill_bytes(&mut *seed);
    SealKey {
        generation,
        created_at_millis: now_millis,
        secret: SecretKey::from_seed(*seed),
    }
}

/// Why a record is not to be sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealKeyError {
    /// Not a record, or of a version this program does not know.
    #[error("the seal key record cannot be read: {0}")]
    Malformed(#[from] WireError),
    /// The record is another device's.
    #[error("the seal key record belongs to another device")]
    WrongDevice,
    /// The device did not sign it.
    #[error("the seal key record is not signed by its device")]
    WrongSignature,
    /// Its time is over: whoever handed it out is holding back a newer one, or the device is long gone.
    #[error("the seal key record expired")]
    Expired,
    /// The ML-KEM half is not a key.
    #[error("the seal key record holds no valid key")]
    InvalidKey,
}

/// A device's X-Wing public key as it is published, signed by the device.
///
/// ```text
/// 0       1          33            37             45                 1261             1325
/// | ver=1 | device   | generation  | expires_at   | X-Wing public    | signature      |
/// | u8    | 32 bytes | u32         | u64 Unix ms  | 1216 bytes       | 64 bytes       |
/// ```
/// The signature covers everything before it, in the domain `ahoy/1 seal key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealKeyRecord {
    bytes: Vec<u8>,
    device: DeviceId,
    generation: u32,
    expires_at_millis: u64,
    public: [u8; PUBLIC_KEY_LEN],
}

impl SealKeyRecord {
    /// The record of the device's current key.
    #[must_use]
    pub fn issue(keys: &DeviceKeys) -> Self {
        let current = keys.seal_keys().current();
        let expires_at_millis = current
            .created_at_millis
            .saturating_add(SEAL_KEY_RECORD_LIFETIME_MILLIS);
        let public = current.secret.public_key().to_bytes();
        let mut bytes = Vec::with_capacity(SEAL_KEY_RECORD_LEN);
        bytes.put_u8(RECORD_VERSION);
        bytes.put_bytes(keys.id().as_bytes());
        bytes.put_u32(current.generation);
        bytes.put_u64(expires_at_millis);
        bytes.put_bytes(&public);
        let signature = keys.sign(RECORD_DOMAIN, &bytes);
        bytes.put_bytes(&signature);
        Self {
            bytes,
            device: keys.id(),
            generation: current.generation,
            expires_at_millis,
            public,
        }
    }

    /// Reads a record without judging it.
    ///
    /// # Errors
    /// When the bytes are no record of a known version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            RECORD_VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let device = DeviceId(reader.array()?);
        let generation = reader.u32()?;
        let expires_at_millis = reader.u64()?;
        let public = reader.array()?;
        let _signature: [u8; SIGNATURE_LEN] = reader.array()?;
        reader.finish()?;
        Ok(Self {
            bytes: bytes.to_vec(),
            device,
            generation,
            expires_at_millis,
            public,
        })
    }

    /// The record as it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The device that claims the key.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Which of the device's keys this is. Later ones are higher.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Until when others may seal to the key, in Unix milliseconds.
    #[must_use]
    pub fn expires_at_millis(&self) -> u64 {
        self.expires_at_millis
    }

    /// Checks the record for sealing to `device` now.
    ///
    /// # Errors
    /// One variant per reason not to.
    pub fn verify(
        &self,
        now_millis: u64,
        device: DeviceId,
    ) -> Result<VerifiedSealKey, SealKeyError> {
        if self.device != device {
            return Err(SealKeyError::WrongDevice);
        }
        let (message, signature) = self
            .bytes
            .split_last_chunk::<SIGNATURE_LEN>()
            .ok_or(WireError::Truncated)?;
        if !verify_signature(device.as_bytes(), RECORD_DOMAIN, message, signature) {
            return Err(SealKeyError::WrongSignature);
        }
        if self.expires_at_millis <= now_millis {
            return Err(SealKeyError::Expired);
        }
        Ok(VerifiedSealKey {
            device,
            generation: self.generation,
            public: PublicKey::from_bytes(&self.public).ok_or(SealKeyError::InvalidKey)?,
        })
    }
}

/// A key that its device signed and that had not expired when it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSealKey {
    device: DeviceId,
    generation: u32,
    public: PublicKey,
}

impl VerifiedSealKey {
    /// Whose key it is.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Which of the device's keys it is.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
    use sha2::{Digest, Sha256};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn device(seed: u8) -> DeviceKeys {
        DeviceKeys::generate(&mut ChaCha20Rng::from_seed([seed; 32]), NOW)
    }

    #[test]
    fn a_key_is_replaced_weekly_and_wiped_two_weeks_later() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut ring = SealKeyring::generate(&mut rng, NOW);
        assert!(!ring.rotate(NOW + SEAL_KEY_ROTATION_MILLIS - 1, &mut rng));
        assert_eq!(ring.generation(), 1);

        let replaced = NOW + SEAL_KEY_ROTATION_MILLIS;
        assert!(ring.rotate(replaced, &mut rng));
        assert_eq!(ring.generation(), 2);
        assert!(ring.secret(1).is_some());

        let end = replaced + SEAL_KEY_RETENTION_MILLIS;
        ring.rotate(end - 1, &mut rng);
        assert!(ring.secret(1).is_some());
        ring.rotate(end, &mut rng);
        assert!(ring.secret(1).is_none(), "retention ended");
    }

    #[test]
    fn whatever_is_sealed_in_time_can_be_opened_for_another_week() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut ring = SealKeyring::generate(&mut rng, NOW);
        for day in 0..=20 {
            ring.rotate(NOW + day * DAY_MILLIS, &mut rng);
            assert!(ring.secret(1).is_some(), "day {day}");
        }
    }

    #[test]
    fn a_jumping_clock_neither_stops_rotation_nor_grows_the_ring() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let far = NOW + 10_000 * DAY_MILLIS;
        let mut ring = SealKeyring::generate(&mut rng, far);
        assert!(
            ring.rotate(NOW, &mut rng),
            "a key from the far future is replaced"
        );
        for step in 0..100u64 {
            ring.rotate(
                if step % 2 == 0 {
                    far + step * DAY_MILLIS * 30
                } else {
                    NOW
                },
                &mut rng,
            );
            assert!(ring.keys.len() <= MAX_SEAL_KEYS);
        }
    }

    #[test]
    fn a_device_off_for_years_keeps_only_what_it_may() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut ring = SealKeyring::generate(&mut rng, NOW);
        let later = NOW + 1000 * DAY_MILLIS;
        ring.rotate(later, &mut rng);
        assert_eq!(ring.generation(), 2);
        ring.rotate(later + SEAL_KEY_RETENTION_MILLIS, &mut rng);
        assert!(ring.secret(1).is_none());
    }

    #[test]
    fn a_record_is_refused_for_each_reason() {
        let keys = device(1);
        let record = SealKeyRecord::issue(&keys);
        assert_eq!(record.as_bytes().len(), SEAL_KEY_RECORD_LEN);
        assert!(record.verify(NOW, keys.id()).is_ok());
        assert_eq!(
            record.verify(NOW, device(2).id()),
            Err(SealKeyError::WrongDevice)
        );
        assert_eq!(
            record.verify(NOW + SEAL_KEY_RECORD_LIFETIME_MILLIS, keys.id()),
            Err(SealKeyError::Expired)
        );
        for at in 1 + ID_LEN..SEAL_KEY_RECORD_LEN {
            let mut bytes = record.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = SealKeyRecord::from_bytes(&bytes).unwrap();
            assert_eq!(
                changed.verify(NOW, keys.id()),
                Err(SealKeyError::WrongSignature),
                "byte {at}"
            );
        }
        let mut newer = record.as_bytes().to_vec();
        newer[0] = 2;
        assert_eq!(
            SealKeyRecord::from_bytes(&newer),
            Err(WireError::Version(2))
        );
    }

    #[test]
    fn the_bytes_of_a_record_stay_what_they_are() {
        let record = SealKeyRecord::issue(&device(1));
        assert_eq!(record.as_bytes()[33..37], 1u32.to_be_bytes());
        let expiry = NOW + SEAL_KEY_RECORD_LIFETIME_MILLIS;
        assert_eq!(record.as_bytes()[37..45], expiry.to_be_bytes());
        assert_eq!(
            z32::encode(&Sha256::digest(record.as_bytes())),
            "ajy5sxoit4nm3a4u8hbxtmmdu16jb4ykewemkhbueifg7oy8csyo"
        );
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_round_trips(mut bytes in prop::collection::vec(any::<u8>(), 0..1400), fit: bool) {
            if fit {
                bytes.resize(SEAL_KEY_RECORD_LEN, 7);
                bytes[0] = 1;
            }
            if let Ok(record) = SealKeyRecord::from_bytes(&bytes) {
                prop_assert_eq!(record.as_bytes(), &bytes[..]);
                prop_assert!(record.verify(NOW, record.device()).is_err());
            }
        }
    }
}
