//! X-Wing: X25519 and ML-KEM-768 as one key encapsulation (draft-connolly-cfrg-xwing-kem-08).
//!
//! The shared secret stands as long as *either* half does. ML-KEM comes from the verified implementation in
//! `libcrux-ml-kem`; tests hold it against the draft's vectors and against an independent ML-KEM.
//!
//! Secret keys are kept as their 32-byte seed and expanded for each use. The expanded ML-KEM key lives on
//! the stack for the length of a call and is not wiped there: the library offers no hook for it.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::fmt;

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768KeyPair, MlKem768PublicKey};
use sha3::{
    Digest, Sha3_256, Shake256,
    digest::{ExtendableOutput, Update, XofReader},
};
use x25519_dalek::{PublicKey as X25519Public, StaticSecret};
use zeroize::Zeroizing;

/// Length of a secret key, which is a seed, in bytes.
pub const SEED_LEN: usize = 32;
/// Length of a public key in bytes: ML-KEM-768, then X25519.
pub const PUBLIC_KEY_LEN: usize = ML_KEM_PUBLIC_LEN + 32;
/// Length of an encapsulated key in bytes: ML-KEM-768, then X25519.
pub const CIPHERTEXT_LEN: usize = ML_KEM_CIPHERTEXT_LEN + 32;
/// Length of the randomness that an encapsulation uses up, in bytes.
pub const ENCAPSULATION_SEED_LEN: usize = 64;

const ML_KEM_PUBLIC_LEN: usize = 1184;
const ML_KEM_CIPHERTEXT_LEN: usize = 1088;
/// Section 5.3 of the draft: an X-Wing drawn in ASCII.
const LABEL: &[u8; 6] = br"\.//^\";

/// The 32 bytes that both sides come to share. Wiped when dropped.
pub type SharedSecret = Zeroizing<[u8; 32]>;

/// A secret key. Wiped when dropped.
#[derive(Clone)]
pub struct SecretKey {
    seed: Zeroizing<[u8; SEED_LEN]>,
}

struct Expanded {
    ml_kem: MlKem768KeyPair,
    x25519: StaticSecret,
}

impl Expanded {
    fn public_key(&self) -> PublicKey {
        PublicKey {
            ml_kem: *self.ml_kem.pk(),
            x25519: X25519Public::from(&self.x25519).to_bytes(),
        }
    }
}

impl SecretKey {
    /// The key of a random seed.
    #[must_use]
    pub fn from_seed(seed: [u8; SEED_LEN]) -> Self {
        Self {
            seed: Zeroizing::new(seed),
        }
    }

    /// The seed, for the profile.
    #[must_use]
    pub fn seed(&self) -> &[u8; SEED_LEN] {
        &self.seed
    }

    fn expand(&self) -> Expanded {
        let mut reader = Shake256::default().chain(*self.seed).finalize_xof();
        let mut ml_kem = Zeroizing::new([0; 64]);
        reader.read(&mut *ml_kem);
        let mut x25519 = Zeroizing::new([0; 32]);
        reader.read(&mut *x25519);
        Expanded {
            ml_kem: mlkem768::generate_key_pair(*ml_kem),
            x25519: StaticSecret::from(*x25519),
        }
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.expand().public_key()
    }

    /// The secret that a ciphertext carries. Never fails: a ciphertext that was not made for this key gives
    /// a secret that nobody else knows (FIPS 203, implicit rejection).
    #[must_use]
    pub fn decapsulate(&self, ciphertext: &Ciphertext) -> SharedSecret {
        self.decapsulate_with_public(ciphertext).0
    }

    /// Also gives the public key, for which the seed would otherwise be expanded again.
    pub(super) fn decapsulate_with_public(
        &self,
        ciphertext: &Ciphertext,
    ) -> (SharedSecret, PublicKey) {
        let expanded = self.expand();
        let public = expanded.public_key();
        let ml_kem = Zeroizing::new(mlkem768::decapsulate(
            expanded.ml_kem.private_key(),
            &MlKem768Ciphertext::from(&ciphertext.ml_kem),
        ));
        let x25519 = expanded
            .x25519
            .diffie_hellman(&X25519Public::from(ciphertext.x25519));
        let shared = combine(
            &ml_kem,
            x25519.as_bytes(),
            &ciphertext.x25519,
            &public.x25519,
        );
        (shared, public)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("xwing::SecretKey(secret)")
    }
}

/// A public key whose ML-KEM half passed FIPS 203's modulus check (section 7.2).
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    ml_kem: [u8; ML_KEM_PUBLIC_LEN],
    x25519: [u8; 32],
}

impl PublicKey {
    /// Reads a public key. `None` when its ML-KEM half is no canonical key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; PUBLIC_KEY_LEN]) -> Option<Self> {
        let (ml_kem, rest) = bytes.split_first_chunk::<ML_KEM_PUBLIC_LEN>()?;
        let key = Self {
            ml_kem: *ml_kem,
            x25519: *rest.first_chunk()?,
        };
        mlkem768::validate_public_key(&MlKem768PublicKey::from(&key.ml_kem)).then_some(key)
    }

    /// The key as it is sent: ML-KEM-768 (1184 bytes), then X25519 (32 bytes).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PUBLIC_KEY_LEN] {
        let mut bytes = [0; PUBLIC_KEY_LEN];
        let (ml_kem, x25519) = bytes.split_at_mut(ML_KEM_PUBLIC_LEN);
        ml_kem.copy_from_slice(&self.ml_kem);
        x25519.copy_from_slice(&self.x25519);
        bytes
    }

    /// Draws a secret for the key's holder. `randomness` must be fresh and uniform: 32 bytes for ML-KEM,
    /// then the X25519 ephemeral's 32.
    #[must_use]
    pub fn encapsulate(
        &self,
        randomness: &[u8; ENCAPSULATION_SEED_LEN],
    ) -> (Ciphertext, SharedSecret) {
        let mut ml_kem_seed = Zeroizing::new([0; 32]);
        let mut x25519_seed = Zeroizing::new([0; 32]);
        let (first, second) = randomness.split_at(32);
        ml_kem_seed.copy_from_slice(first);
        x25519_seed.copy_from_slice(second);

        let ephemeral = StaticSecret::from(*x25519_seed);
        let x25519 = ephemeral.diffie_hellman(&X25519Public::from(self.x25519));
        let (ml_kem_ciphertext, ml_kem) =
            mlkem768::encapsulate(&MlKem768PublicKey::from(&self.ml_kem), *ml_kem_seed);
        let ml_kem = Zeroizing::new(ml_kem);
        let ciphertext = Ciphertext {
            ml_kem: *ml_kem_ciphertext.as_slice(),
            x25519: X25519Public::from(&ephemeral).to_bytes(),
        };
        let shared = combine(&ml_kem, x25519.as_bytes(), &ciphertext.x25519, &self.x25519);
        (ciphertext, shared)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("xwing::PublicKey")
            .field(&z32::encode(&self.x25519))
            .finish()
    }
}

/// An encapsulated key.
#[derive(Clone, PartialEq, Eq)]
pub struct Ciphertext {
    ml_kem: [u8; ML_KEM_CIPHERTEXT_LEN],
    x25519: [u8; 32],
}

impl Ciphertext {
    /// Any bytes of the right length are a ciphertext.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; CIPHERTEXT_LEN]) -> Self {
        let mut ciphertext = Self {
            ml_kem: [0; ML_KEM_CIPHERTEXT_LEN],
            x25519: [0; 32],
        };
        let (ml_kem, x25519) = bytes.split_at(ML_KEM_CIPHERTEXT_LEN);
        ciphertext.ml_kem.copy_from_slice(ml_kem);
        ciphertext.x25519.copy_from_slice(x25519);
        ciphertext
    }

    /// The ciphertext as it is sent: ML-KEM-768 (1088 bytes), then X25519 (32 bytes).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; CIPHERTEXT_LEN] {
        let mut bytes = [0; CIPHERTEXT_LEN];
        let (ml_kem, x25519) = bytes.split_at_mut(ML_KEM_CIPHERTEXT_LEN);
        ml_kem.copy_from_slice(&self.ml_kem);
        x25519.copy_from_slice(&self.x25519);
        bytes
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("xwing::Ciphertext")
            .field(&z32::encode(&self.x25519))
            .finish()
    }
}

fn combine(
    ml_kem: &[u8; 32],
    x25519: &[u8; 32],
    x25519_ciphertext: &[u8; 32],
    x25519_public: &[u8; 32],
) -> SharedSecret {
    let hash = Digest::chain_update(Sha3_256::new(), ml_kem)
        .chain_update(x25519)
        .chain_update(x25519_ciphertext)
        .chain_update(x25519_public)
        .chain_update(LABEL);
    Zeroizing::new(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use ml_kem::{
        B32, MlKem768,
        kem::{Decapsulate, KeyExport},
    };
    use proptest::prelude::*;

    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect();
        bytes.try_into().unwrap()
    }

    /// Appendix C of the draft: seed, encapsulation seed, shared secret; public key and ciphertext by their
    /// SHA3-256.
    const VECTORS: [[&str; 5]; 3] = [
        [
            "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
            "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e235b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
            "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
            "5121745904643ad9dfacca7869292c19a8a69533b53e60666b7db910b4ad6367",
            "c0abd149f83f45324ac3a7ddc7606c71f257e5ea86113522834a0ee1bcb34e3e",
        ],
        [
            "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
            "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdefaee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
            "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
            "799b6016e5daa56ffa1b5e79f7caf73413ceecd6df428642404cac41ddee4853",
            "7680b7ba47ae09bac4b43001edcef9d98e50df20026e70ba6a424447e1f2b961",
        ],
        [
            "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
            "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
            "953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f",
            "1ef0c99a06026450564957a5402a788feffbbefdcce55d25de254d0a49eb095a",
            "3088688d63201d5d844170b79f148b2791c15f346ff6f8bd559807fbd442f91f",
        ],
    ];

    #[test]
    fn the_drafts_vectors_hold() {
        for [seed, eseed, shared, public_hash, ciphertext_hash] in VECTORS {
            let secret = SecretKey::from_seed(hex(seed));
            let public = secret.public_key();
            assert_eq!(
                <[u8; 32]>::from(Sha3_256::digest(public.to_bytes())),
                hex(public_hash)
            );
            let (ciphertext, sent) = public.encapsulate(&hex(eseed));
            assert_eq!(
                <[u8; 32]>::from(Sha3_256::digest(ciphertext.to_bytes())),
                hex(ciphertext_hash)
            );
            assert_eq!(*sent, hex(shared));
            assert_eq!(*secret.decapsulate(&ciphertext), hex(shared));
        }
    }

    /// X-Wing's lattice half by an implementation that shares no code with ours.
    fn oracle(seed: [u8; 32]) -> (ml_kem::DecapsulationKey<MlKem768>, Vec<u8>) {
        let mut expanded = [0; 96];
        Shake256::default()
            .chain(seed)
            .finalize_xof()
            .read(&mut expanded);
        let key = ml_kem::DecapsulationKey::<MlKem768>::from_seed(
            expanded[..64].try_into().expect("64 bytes"),
        );
        let public = key.encapsulation_key().to_bytes().to_vec();
        (key, public)
    }

    fn agree(seed: [u8; 32], randomness: [u8; 64]) {
        let secret = SecretKey::from_seed(seed);
        let public = secret.public_key();
        let (oracle, oracle_public) = oracle(seed);
        assert_eq!(public.ml_kem.as_slice(), oracle_public, "seed {seed:?}");
        let m = B32::try_from(&randomness[..32]).unwrap();
        let (oracle_ciphertext, oracle_shared) =
            oracle.encapsulation_key().encapsulate_deterministic(&m);
        let (ciphertext, shared) = public.encapsulate(&randomness);
        assert_eq!(
            ciphertext.ml_kem.as_slice(),
            oracle_ciphertext.as_slice(),
            "seed {seed:?}"
        );
        assert_eq!(
            oracle.decapsulate(&oracle_ciphertext),
            oracle_shared,
            "seed {seed:?}"
        );
        assert_eq!(secret.decapsulate(&ciphertext), shared);
        // A damaged ciphertext: both must reject implicitly, into the same secret.
        let mut damaged = ciphertext.clone();
        damaged.ml_kem[usize::from(randomness[0])] ^= 1;
        let rejected = oracle.decapsulate(&damaged.ml_kem.as_slice().try_into().unwrap());
        let expanded = secret.expand();
        let ours = mlkem768::decapsulate(
            expanded.ml_kem.private_key(),
            &MlKem768Ciphertext::from(&damaged.ml_kem),
        );
        assert_eq!(ours.as_slice(), rejected.as_slice(), "seed {seed:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_ml_kem_implementations_agree(seed: [u8; 32], randomness: [[u8; 32]; 2]) {
            let mut joined = [0; 64];
            joined[..32].copy_from_slice(&randomness[0]);
            joined[32..].copy_from_slice(&randomness[1]);
            agree(seed, joined);
        }
    }

    #[test]
    #[ignore = "minutes: for the slow lane"]
    fn both_ml_kem_implementations_agree_over_100_000_seeds() {
        for n in 0u64..100_000 {
            let mut stream = Shake256::default().chain(n.to_be_bytes()).finalize_xof();
            let (mut seed, mut randomness) = ([0; 32], [0; 64]);
            stream.read(&mut seed);
            stream.read(&mut randomness);
            agree(seed, randomness);
        }
        eprintln!("threat 5: two ML-KEMs agree on 100000 of 100000 seeds");
    }

    #[test]
    fn a_public_key_with_a_coefficient_above_the_modulus_is_refused() {
        let mut bytes = SecretKey::from_seed([1; 32]).public_key().to_bytes();
        assert!(PublicKey::from_bytes(&bytes).is_some());
        bytes[0] = 0xff;
        bytes[1] |= 0x0f;
        assert!(PublicKey::from_bytes(&bytes).is_none());
    }

    #[test]
    fn a_changed_ciphertext_gives_another_secret() {
        let secret = SecretKey::from_seed([1; 32]);
        let (ciphertext, shared) = secret.public_key().encapsulate(&[2; 64]);
        for at in [
            0,
            ML_KEM_CIPHERTEXT_LEN - 1,
            ML_KEM_CIPHERTEXT_LEN,
            CIPHERTEXT_LEN - 2,
        ] {
            let mut bytes = ciphertext.to_bytes();
            bytes[at] ^= 1;
            assert_ne!(
                secret.decapsulate(&Ciphertext::from_bytes(&bytes)),
                shared,
                "byte {at}"
            );
        }
    }
}
