//! libcrux's ML-KEM-768 against another implementation, through the very object that snow calls.

use std::sync::Arc;

use ml_kem::{Decapsulate, KeyExport, ml_kem_768::DecapsulationKey};
use snow::{params::KemChoice, resolvers::CryptoResolver, types::Kem};

use super::{
    harness::Dice,
    oracle::{encapsulate, random_block},
};
use crate::noise::{
    resolver::{KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_BYTES, Resolver},
    schedule::Secret,
};

const SEEDS: u64 = 300;

fn shipped(seed: [u8; 32]) -> (Box<dyn Kem>, Vec<u8>) {
    let resolver = Resolver::new(Secret(seed), Arc::default());
    let mut kem = resolver.resolve_kem(&KemChoice::Kyber1024).unwrap();
    kem.generate(&mut *resolver.resolve_rng().unwrap());
    let public = kem.pubkey().to_vec();
    (kem, public)
}

#[test]
fn both_implementations_agree_on_keys_ciphertexts_and_secrets() {
    let mut dice = Dice(1);
    for _ in 0..SEEDS {
        let mut seed = [0; 32];
        seed.iter_mut()
            .for_each(|byte| *byte = dice.roll().to_le_bytes()[0]);
        let (ours, public) = shipped(seed);
        let kem_seed: [u8; 64] = [
            random_block(seed, "noise", 0),
            random_block(seed, "noise", 1),
        ]
        .concat()
        .try_into()
        .unwrap();
        let theirs = DecapsulationKey::from_seed(kem_seed.into());
        assert_eq!(public, theirs.encapsulation_key().to_bytes().to_vec());

        let (mut shared, mut ciphertext) = ([0; 32], [0; KEM_CIPHERTEXT_BYTES]);
        ours.encapsulate(&public, &mut shared, &mut ciphertext)
            .unwrap();
        let message = random_block(seed, "ml-kem encapsulation", 0);
        let (expected, expected_shared) = encapsulate(&public, message);
        assert_eq!(ciphertext[..], expected);
        assert_eq!(shared, expected_shared);

        // Good, and altered: implicit rejection must agree too (FIPS 203 section 6.3).
        for flip in [None, Some(dice.below(KEM_CIPHERTEXT_BYTES as u64))] {
            if let Some(at) = flip {
                ciphertext[usize::try_from(at).unwrap()] ^= 1 << dice.below(8);
            }
            let mut ours_shared = [0; 32];
            assert_eq!(ours.decapsulate(&ciphertext, &mut ours_shared).unwrap(), 32);
            let their_shared: [u8; 32] = theirs.decapsulate(&ciphertext.into()).into();
            assert_eq!(ours_shared, their_shared);
            assert_eq!(ours_shared == shared, flip.is_none());
        }
    }
}

#[test]
fn keys_out_of_range_and_of_wrong_length_are_refused() {
    let (kem, public) = shipped([1; 32]);
    let (mut shared, mut ciphertext) = ([0; 32], [0; KEM_CIPHERTEXT_BYTES]);
    let mut bad = public.clone();
    // The first coefficient becomes 3329, the modulus itself.
    (bad[0], bad[1]) = (0x01, (bad[1] & 0xf0) | 0x0d);
    assert!(kem.encapsulate(&bad, &mut shared, &mut ciphertext).is_err());
    // 3328 is the largest that is allowed.
    (bad[0], bad[1]) = (0x00, (bad[1] & 0xf0) | 0x0d);
    assert!(kem.encapsulate(&bad, &mut shared, &mut ciphertext).is_ok());
    assert!(
        kem.encapsulate(&public[1..], &mut shared, &mut ciphertext)
            .is_err()
    );
    assert!(
        kem.decapsulate(&[0; KEM_CIPHERTEXT_BYTES - 1], &mut shared)
            .is_err()
    );
    assert_eq!(
        (kem.pub_len(), kem.ciphertext_len()),
        (KEM_PUBLIC_BYTES, KEM_CIPHERTEXT_BYTES)
    );
}
