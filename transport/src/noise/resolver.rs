//! What snow computes with: X25519, ML-KEM-768, ChaCha20-Poly1305, SHA-256, and a seeded generator.
//!
//! Cipher and hash are snow's own. X25519 is the same curve25519-dalek underneath, wrapped here because snow's
//! wrapper neither wipes its keys nor refuses points of low order. ML-KEM comes from libcrux.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use libcrux_ml_kem::{
    KEY_GENERATION_SEED_SIZE, SHARED_SECRET_SIZE,
    mlkem768::{self, MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey},
};
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice, KemChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Kem, Random},
};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::schedule::{SECRET_BYTES, Secret, expand_secret};

/// Length of an ML-KEM-768 encapsulation key, in bytes (FIPS 203 table 3).
pub(super) const KEM_PUBLIC_BYTES: usize = 1184;
/// Length of an ML-KEM-768 ciphertext, in bytes (FIPS 203 table 3).
pub(super) const KEM_CIPHERTEXT_BYTES: usize = 1088;
/// Length of an ML-KEM-768 decapsulation key, in bytes (FIPS 203 table 3).
const KEM_PRIVATE_BYTES: usize = 2400;

/// A generator that forgets: each seed gives the randomness of one session and the next seed, and is wiped.
///
/// A configuration lives long and its seed with it. Without the ratchet, whoever reads the memory of a
/// process later could compute the ephemeral keys of all its earlier sessions.
#[derive(Debug)]
pub(super) struct SeedRatchet(Mutex<Secret>);

impl SeedRatchet {
    pub(super) fn new(seed: [u8; SECRET_BYTES]) -> Self {
        Self(Mutex::new(Secret(seed)))
    }

    /// The seed of the next session.
    pub(super) fn next(&self) -> Secret {
        let mut seed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Secret(*expand_secret(&seed.0, b"session", &[]));
        *seed = Secret(*expand_secret(&seed.0, b"next seed", &[]));
        session
    }
}

/// Randomness of one session: block `i` of stream `name` is `Expand-Label(seed, name, i, 32)`.
struct SeededRandom {
    seed: Secret,
    name: &'static [u8],
    blocks: u64,
}

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        for chunk in dest.chunks_mut(SECRET_BYTES) {
            let block =
                expand_secret::<SECRET_BYTES>(&self.seed.0, self.name, &self.blocks.to_be_bytes());
            self.blocks += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

/// Resolver of one handshake.
pub(super) struct Resolver {
    seed: Secret,
    dh_operations: Arc<AtomicU64>,
}

impl Resolver {
    /// `dh_operations` counts every Diffie-Hellman operation and every key pair, so that a test can prove that
    /// a refused message cost none.
    pub(super) fn new(seed: Secret, dh_operations: Arc<AtomicU64>) -> Self {
        Self {
            seed,
            dh_operations,
        }
    }

    fn random(&self, name: &'static [u8]) -> SeededRandom {
        SeededRandom {
            seed: self.seed.clone(),
            name,
            blocks: 0,
        }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.random(b"noise")))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 {
                private: Zeroizing::new([0; 32]),
                public: [0; 32],
                operations: Arc::clone(&self.dh_operations),
            })),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver
            .resolve_cipher(choice)
            .map(|cipher| -> Box<dyn Cipher> { Box::new(WipedCipher(cipher)) })
    }

    /// snow can only name Kyber-1024; the name in the transcript says what it is (`MLKEM768`).
    fn resolve_kem(&self, _choice: &KemChoice) -> Option<Box<dyn Kem>> {
        Some(Box::new(MlKem768 {
            private: Zeroizing::new([0; KEM_PRIVATE_BYTES]),
            public: [0; KEM_PUBLIC_BYTES],
            random: Mutex::new(self.random(b"ml-kem encapsulation")),
        }))
    }
}

/// snow's ChaCha20-Poly1305, which leaves its key in memory unless somebody overwrites it.
struct WipedCipher(Box<dyn Cipher>);

impl Cipher for WipedCipher {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.set(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.0.encrypt(nonce, authtext, plaintext, out)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.0.decrypt(nonce, authtext, ciphertext, out)
    }
}

impl Drop for WipedCipher {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
    }
}

struct X25519 {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    operations: Arc<AtomicU64>,
}

impl X25519 {
    fn secret(&self) -> StaticSecret {
        StaticSecret::from(*self.private)
    }

    fn derive_public(&mut self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.public = PublicKey::from(&self.secret()).to_bytes();
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        self.private.copy_from_slice(private);
        self.derive_public();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(&mut *self.private)?;
        self.derive_public();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let public = public.first_chunk::<32>().ok_or(Error::Dh)?;
        let shared = self.secret().diffie_hellman(&PublicKey::from(*public));
        // A point of low order makes the secret a constant that everybody knows.
        if bool::from(shared.as_bytes().ct_eq(&[0; 32])) {
            return Err(Error::Dh);
        }
        out.get_mut(..32)
            .ok_or(Error::Dh)?
            .copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

struct MlKem768 {
    private: Zeroizing<[u8; KEM_PRIVATE_BYTES]>,
    public: [u8; KEM_PUBLIC_BYTES],
    /// snow hands no generator to `encapsulate`, which takes `&self`.
    random: Mutex<SeededRandom>,
}

impl Kem for MlKem768 {
    fn name(&self) -> &'static str {
        "MLKEM768"
    }

    fn pub_len(&self) -> usize {
        KEM_PUBLIC_BYTES
    }

    fn ciphertext_len(&self) -> usize {
        KEM_CIPHERTEXT_BYTES
    }

    fn shared_secret_len(&self) -> usize {
        SHARED_SECRET_SIZE
    }

    fn generate(&mut self, rng: &mut dyn Random) {
        let mut seed = Zeroizing::new([0; KEY_GENERATION_SEED_SIZE]);
        rng.try_fill_bytes(&mut *seed)
            .expect("SeededRandom does not fail");
        let pair = mlkem768::generate_key_pair(*seed);
        self.private.copy_from_slice(pair.sk());
        self.public.copy_from_slice(pair.pk());
        // libcrux does not wipe what it drops.
        let (private, _public) = pair.into_parts();
        <[u8; KEM_PRIVATE_BYTES]>::from(private).zeroize();
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn encapsulate(
        &self,
        public: &[u8],
        shared_out: &mut [u8],
        ciphertext_out: &mut [u8],
    ) -> Result<(usize, usize), Error> {
        let public = MlKem768PublicKey::try_from(public).map_err(|_wrong_length| Error::Kem)?;
        // The modulus check of FIPS 203 section 7.2.
        if !mlkem768::validate_public_key(&public) {
            return Err(Error::Kem);
        }
        let mut message = Zeroizing::new([0; SHARED_SECRET_SIZE]);
        self.random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_fill_bytes(&mut *message)?;
        let (ciphertext, mut shared) = mlkem768::encapsulate(&public, *message);
        shared_out
            .get_mut(..SHARED_SECRET_SIZE)
            .ok_or(Error::Kem)?
            .copy_from_slice(&shared);
        shared.zeroize();
        ciphertext_out
            .get_mut(..KEM_CIPHERTEXT_BYTES)
            .ok_or(Error::Kem)?
            .copy_from_slice(ciphertext.as_slice());
        Ok((SHARED_SECRET_SIZE, KEM_CIPHERTEXT_BYTES))
    }

    fn decapsulate(&self, ciphertext: &[u8], shared_out: &mut [u8]) -> Result<usize, Error> {
        let ciphertext =
            MlKem768Ciphertext::try_from(ciphertext).map_err(|_wrong_length| Error::Kem)?;
        let private = MlKem768PrivateKey::from(&*self.private);
        let mut shared = mlkem768::decapsulate(&private, &ciphertext);
        <[u8; KEM_PRIVATE_BYTES]>::from(private).zeroize();
        shared_out
            .get_mut(..SHARED_SECRET_SIZE)
            .ok_or(Error::Kem)?
            .copy_from_slice(&shared);
        shared.zeroize();
        Ok(SHARED_SECRET_SIZE)
    }
}
