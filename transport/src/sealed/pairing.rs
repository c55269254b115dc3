//! The first message of a new device to an old one of the same person, by a link that only the two have seen.
//!
//! ```text
//! 0       1        2                6                           1126
//! | ver=1 | kind=3 | generation u32 | X-Wing ciphertext (1120)  | the first of the follow-ups |
//! ```
//! The link holds a secret. Both sides derive the session secret of their [`CallEnvelopes`] from it *and* from the X-Wing
//! secret: HKDF-SHA256(salt = `ahoy/1 pairing`, secret = X-Wing shared secret, info = link secret | device | generation |
//! X-Wing public key). Whoever lacks the link makes nothing that opens; whoever finds the link later opens nothing of what
//! was said, because the old device draws its X-Wing key for this one link and wipes it.

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    CallEnvelopes, FollowUpError, Role, SealError, SessionSecret, VERSION, aead, boxed,
    xwing::{CIPHERTEXT_LEN, Ciphertext, PublicKey, SharedSecret},
};
use crate::{
    identity::{DeviceId, DeviceKeys, VerifiedSealKey},
    wire::{Reader, WireError, Writer},
};

const KIND_PAIRING: u8 = 3;
const LABEL: &str = "ahoy/1 pairing";
const CALL: super::CallId = *b"ahoy/1 pairing\0\0";

/// Why a first message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// Not a first message in a form that this version defines.
    #[error("the message cannot be read: {0}")]
    Malformed(#[from] WireError),
    /// It was sealed to another key.
    #[error("the message was sealed to another key")]
    UnknownKey,
    /// Made without the link, or changed on the way.
    #[error("the message does not open: it was made without the link")]
    Unopened(#[from] FollowUpError),
}

fn envelopes(
    link: &[u8; 32],
    shared: &SharedSecret,
    (device, generation, public): (DeviceId, u32, &PublicKey),
    role: Role,
) -> CallEnvelopes {
    let secret: Zeroizing<[u8; 32]> = aead::derive(
        shared,
        LABEL,
        &[
            link,
            device.as_bytes(),
            &generation.to_be_bytes(),
            &public.to_bytes(),
        ],
    );
    CallEnvelopes::new(&SessionSecret::from_bytes(*secret), &CALL, role)
}

/// The new device's first message, and what seals and opens the others.
///
/// # Errors
/// [`SealError`] when `payload` is too long.
pub fn seal_pairing(
    link: &[u8; 32],
    to: &VerifiedSealKey,
    payload: &[u8],
    rng: &mut dyn CryptoRngCore,
) -> Result<(CallEnvelopes, Vec<u8>), SealError> {
    let (ciphertext, shared) = boxed::encapsulate(to, rng);
    let key = (to.device(), to.generation(), to.public());
    let mut envelopes = envelopes(link, &shared, key, Role::Caller);
    let mut bytes = vec![VERSION, KIND_PAIRING];
    bytes.put_u32(to.generation());
    bytes.put_bytes(&ciphertext.to_bytes());
    bytes.put_bytes(&envelopes.seal(payload)?);
    Ok((envelopes, bytes))
}

/// Opens a new device's first message: what it says, and what seals and opens the others.
///
/// # Errors
/// [`PairingError`]; nobody is told.
pub fn open_pairing(
    link: &[u8; 32],
    keys: &DeviceKeys,
    envelope: &[u8],
) -> Result<(CallEnvelopes, Vec<u8>), PairingError> {
    let mut reader = Reader::new(envelope);
    match (reader.u8()?, reader.u8()?) {
        (VERSION, KIND_PAIRING) => {}
        (VERSION, _other) => return Err(WireError::Undefined.into()),
        (other, _) => return Err(WireError::Version(other).into()),
    }
    let generation = reader.u32()?;
    let ciphertext: [u8; CIPHERTEXT_LEN] = reader.array()?;
    let secret = keys
        .seal_keys()
        .secret(generation)
        .ok_or(PairingError::UnknownKey)?;
    let (shared, public) = secret.decapsulate_with_public(&Ciphertext::from_bytes(&ciphertext));
    let key = (keys.id(), generation, &public);
    let mut envelopes = envelopes(link, &shared, key, Role::Callee);
    let payload = envelopes.open(reader.rest())?;
    Ok((envelopes, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const LINK: [u8; 32] = [7; 32];

    fn old() -> (DeviceKeys, VerifiedSealKey) {
        let keys = DeviceKeys::generate(&mut ChaCha20Rng::from_seed([1; 32]), NOW);
        let record = keys.seal_key_record();
        let key = record.verify(NOW, keys.id()).unwrap();
        (keys, key)
    }

    fn first(link: &[u8; 32]) -> (CallEnvelopes, Vec<u8>) {
        let (_keys, key) = old();
        seal_pairing(link, &key, b"hello", &mut ChaCha20Rng::from_seed([2; 32])).unwrap()
    }

    #[test]
    fn whoever_has_the_link_talks_both_ways() {
        let (keys, _key) = old();
        let (mut new, hello) = first(&LINK);
        let (mut old, said) = open_pairing(&LINK, &keys, &hello).unwrap();
        assert_eq!(said, b"hello");
        let answer = old.seal(b"who?").unwrap();
        assert_eq!(&new.open(&answer).unwrap()[..], b"who?");
        let more = new.seal(b"me").unwrap();
        assert_eq!(&old.open(&more).unwrap()[..], b"me");
    }

    #[test]
    fn without_the_link_nothing_opens() {
        let (keys, _key) = old();
        let (_new, hello) = first(&[8; 32]);
        assert!(matches!(
            open_pairing(&LINK, &keys, &hello),
            Err(PairingError::Unopened(_))
        ));
        // Nor with the link alone, once the key is gone.
        let other = DeviceKeys::generate(&mut ChaCha20Rng::from_seed([3; 32]), NOW);
        let (_new, hello) = first(&LINK);
        assert!(open_pairing(&LINK, &other, &hello).is_err());
    }

    proptest! {
        #[test]
        fn what_is_changed_or_cut_does_not_open(at: prop::sample::Index, bit in 0..8u8, cut: prop::sample::Index) {
            let (keys, _key) = old();
            let (_new, hello) = first(&LINK);
            let mut changed = hello.clone();
            let place = at.index(changed.len());
            changed[place] ^= 1 << bit;
            prop_assert!(open_pairing(&LINK, &keys, &changed).is_err());
            prop_assert!(open_pairing(&LINK, &keys, &hello[..cut.index(hello.len())]).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes: Vec<u8>) {
            let (keys, _key) = old();
            prop_assert!(open_pairing(&LINK, &keys, &bytes).is_err());
        }
    }
}
