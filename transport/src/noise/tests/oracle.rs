//! The handshake a second time, from the specifications and nothing of ours: HMAC from SHA-256 (RFC 2104), HKDF
//! from HMAC (RFC 5869), Noise's symmetric state and tokens (Noise revision 34, HFS extension), another ML-KEM
//! (`ml-kem`) and another ChaCha20-Poly1305 (ring's).
//!
//! It checks the production code byte by byte, and it misbehaves on request.

use ml_kem::{
    Decapsulate, KeyExport,
    ml_kem_768::{Ciphertext, DecapsulationKey, EncapsulationKey},
};
use ring::aead;
use sha2::{Digest, Sha256};
use x25519_dalek::x25519;

use super::harness::public;
use crate::noise::Pattern;

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

pub(super) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = sha256(&[&block.map(|byte| byte ^ 0x36), message]);
    sha256(&[&block.map(|byte| byte ^ 0x5c), &inner])
}

/// RFC 5869 section 2.3.
fn hkdf_expand(prk: &[u8], info: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block = Vec::new();
    for counter in 1..=u8::MAX {
        if out.len() >= len {
            break;
        }
        block = hmac(prk, &[&block[..], info, &[counter]].concat()).to_vec();
        out.extend_from_slice(&block);
    }
    out.truncate(len);
    out
}

pub(super) fn expand_label(secret: &[u8], label: &str, context: &[u8], len: usize) -> Vec<u8> {
    let mut info = u16::try_from(len).unwrap().to_be_bytes().to_vec();
    info.push(u8::try_from(6 + label.len()).unwrap());
    info.extend_from_slice(b"ahoy1 ");
    info.extend_from_slice(label.as_bytes());
    info.push(u8::try_from(context.len()).unwrap());
    info.extend_from_slice(context);
    hkdf_expand(secret, &info, len)
}

pub(super) fn array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap()
}

/// The seed of the `n`th session of a configuration.
pub(super) fn session_seed(config_seed: [u8; 32], n: usize) -> [u8; 32] {
    let mut seed = config_seed.to_vec();
    for _ in 0..n {
        seed = expand_label(&seed, "next seed", &[], 32);
    }
    array(&expand_label(&seed, "session", &[], 32))
}

/// Block `i` of a stream of a session's randomness.
pub(super) fn random_block(seed: [u8; 32], stream: &str, i: u64) -> [u8; 32] {
    array(&expand_label(&seed, stream, &i.to_be_bytes(), 32))
}

/// How the oracle breaks the rules.
#[derive(Clone, Default)]
pub(super) struct Mischief {
    /// Leaves the KEM token out, as the pattern without `hfs` does.
    pub(super) strip_kem: bool,
    /// Sends this in place of its ephemeral key.
    pub(super) ephemeral: Option<[u8; 32]>,
    /// Sends this in place of its KEM key, well encrypted.
    pub(super) kem_key: Option<Vec<u8>>,
    /// Sends a ciphertext that encapsulates something else than it mixes into its keys.
    pub(super) other_ciphertext: bool,
}

/// Noise's SymmetricState and CipherState.
pub(super) struct Symmetric {
    pub(super) h: [u8; 32],
    ck: [u8; 32],
    key: Option<[u8; 32]>,
    nonce: u64,
}

impl Symmetric {
    fn new(name: &str, prologue: &[u8]) -> Self {
        let h = sha256(&[name.as_bytes()]);
        let mut state = Self {
            h,
            ck: h,
            key: None,
            nonce: 0,
        };
        state.mix_hash(prologue);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.h = sha256(&[&self.h, data]);
    }

    fn hkdf(&self, input: &[u8]) -> [[u8; 32]; 3] {
        let temp = hmac(&self.ck, input);
        let one = hmac(&temp, &[1]);
        let two = hmac(&temp, &[&one[..], &[2]].concat());
        let three = hmac(&temp, &[&two[..], &[3]].concat());
        [one, two, three]
    }

    fn mix_key(&mut self, input: &[u8]) {
        let [ck, key, _] = self.hkdf(input);
        (self.ck, self.key, self.nonce) = (ck, Some(key), 0);
    }

    fn mix_key_and_hash(&mut self, input: &[u8]) {
        let [ck, hash, key] = self.hkdf(input);
        self.ck = ck;
        self.mix_hash(&hash);
        (self.key, self.nonce) = (Some(key), 0);
    }

    fn cipher(&mut self) -> Option<(aead::LessSafeKey, aead::Nonce)> {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &self.key?).unwrap();
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonce.to_le_bytes());
        self.nonce += 1;
        Some((
            aead::LessSafeKey::new(key),
            aead::Nonce::assume_unique_for_key(nonce),
        ))
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let mut bytes = plain.to_vec();
        if let Some((key, nonce)) = self.cipher() {
            key.seal_in_place_append_tag(nonce, aead::Aad::from(self.h), &mut bytes)
                .unwrap();
        }
        self.mix_hash(&bytes);
        out.extend_from_slice(&bytes);
    }

    fn decrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.try_decrypt(bytes).unwrap()
    }

    fn try_decrypt(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut plain = bytes.to_vec();
        if let Some((key, nonce)) = self.cipher() {
            let opened = key.open_in_place(nonce, aead::Aad::from(self.h), &mut plain);
            let len = opened.ok()?.len();
            plain.truncate(len);
        }
        self.mix_hash(bytes);
        Some(plain)
    }

    /// Both keys of Noise's `Split()`.
    pub(super) fn split(&self) -> [[u8; 32]; 2] {
        let [first, second, _] = self.hkdf(&[]);
        [first, second]
    }
}

/// What one side knows before it starts.
pub(super) struct Keys {
    pub(super) pattern: Pattern,
    pub(super) prologue: Vec<u8>,
    pub(super) psk: [u8; 32],
    /// Own static secret; ignored by the client of NKhfs.
    pub(super) own_static: [u8; 32],
    pub(super) own_ephemeral: [u8; 32],
}

impl Keys {
    fn start(&self, responder_static: [u8; 32]) -> Symmetric {
        let mut state = Symmetric::new(self.pattern.noise_name(), &self.prologue);
        state.mix_hash(&responder_static);
        if self.has_psk() {
            state.mix_key_and_hash(&self.psk);
        }
        state
    }

    fn has_psk(&self) -> bool {
        self.pattern == Pattern::IkHfsPsk0
    }

    fn known(&self) -> bool {
        self.pattern != Pattern::NkHfs
    }

    fn mix_ephemeral(&self, state: &mut Symmetric, key: &[u8; 32]) {
        state.mix_hash(key);
        if self.has_psk() {
            state.mix_key(key);
        }
    }
}

pub(super) struct Initiator {
    keys: Keys,
    pub(super) state: Symmetric,
    remote_static: [u8; 32],
    kem: DecapsulationKey,
}

impl Initiator {
    pub(super) fn new(keys: Keys, remote_static: [u8; 32], kem_seed: [u8; 64]) -> Self {
        let state = keys.start(remote_static);
        let kem = DecapsulationKey::from_seed(kem_seed.into());
        Self {
            keys,
            state,
            remote_static,
            kem,
        }
    }

    /// `e, es, e1` and for a known client `s, ss`.
    pub(super) fn message_1(&mut self, payload: &[u8], mischief: &Mischief) -> Vec<u8> {
        let (keys, state) = (&self.keys, &mut self.state);
        let ephemeral = mischief.ephemeral.unwrap_or(public(keys.own_ephemeral));
        let mut out = ephemeral.to_vec();
        keys.mix_ephemeral(state, &ephemeral);
        let shared = match mischief.ephemeral {
            Some(_) => [0; 32],
            None => x25519(keys.own_ephemeral, self.remote_static),
        };
        state.mix_key(&shared);
        if !mischief.strip_kem {
            let key = self.kem.encapsulation_key().to_bytes().to_vec();
            state.encrypt(mischief.kem_key.as_ref().unwrap_or(&key), &mut out);
        }
        if keys.known() {
            state.encrypt(&public(keys.own_static), &mut out);
            state.mix_key(&x25519(keys.own_static, self.remote_static));
        }
        state.encrypt(payload, &mut out);
        out
    }

    /// `e, ee, ekem1` and for a known client `se`.
    pub(super) fn read_message_2(&mut self, message: &[u8]) -> Vec<u8> {
        let (keys, state) = (&self.keys, &mut self.state);
        let (ephemeral, rest) = message.split_first_chunk::<32>().unwrap();
        keys.mix_ephemeral(state, ephemeral);
        state.mix_key(&x25519(keys.own_ephemeral, *ephemeral));
        let (ciphertext, payload) = rest.split_at(1088 + 16);
        let ciphertext = Ciphertext::try_from(&state.decrypt(ciphertext)[..]).unwrap();
        state.mix_key(&self.kem.decapsulate(&ciphertext));
        if keys.known() {
            state.mix_key(&x25519(keys.own_static, *ephemeral));
        }
        state.decrypt(payload)
    }
}

pub(super) struct Responder {
    keys: Keys,
    pub(super) state: Symmetric,
    remote_ephemeral: [u8; 32],
    remote_static: [u8; 32],
    kem_key: Vec<u8>,
}

impl Responder {
    pub(super) fn new(keys: Keys) -> Self {
        let state = keys.start(public(keys.own_static));
        Self {
            keys,
            state,
            remote_ephemeral: [0; 32],
            remote_static: [0; 32],
            kem_key: Vec::new(),
        }
    }

    pub(super) fn read_message_1(&mut self, message: &[u8]) -> Vec<u8> {
        let (keys, state) = (&self.keys, &mut self.state);
        let (ephemeral, rest) = message.split_first_chunk::<32>().unwrap();
        self.remote_ephemeral = *ephemeral;
        keys.mix_ephemeral(state, ephemeral);
        state.mix_key(&x25519(keys.own_static, *ephemeral));
        let (key, mut rest) = rest.split_at(1184 + 16);
        self.kem_key = state.decrypt(key);
        if keys.known() {
            let (key, after) = rest.split_at(32 + 16);
            rest = after;
            self.remote_static = array(&state.decrypt(key));
            state.mix_key(&x25519(keys.own_static, self.remote_static));
        }
        state.decrypt(rest)
    }

    pub(super) fn message_2(
        &mut self,
        payload: &[u8],
        kem_message: [u8; 32],
        mischief: &Mischief,
    ) -> Vec<u8> {
        let (keys, state) = (&self.keys, &mut self.state);
        let ephemeral = mischief.ephemeral.unwrap_or(public(keys.own_ephemeral));
        let mut out = ephemeral.to_vec();
        keys.mix_ephemeral(state, &ephemeral);
        let shared = match mischief.ephemeral {
            Some(_) => [0; 32],
            None => x25519(keys.own_ephemeral, self.remote_ephemeral),
        };
        state.mix_key(&shared);
        if !mischief.strip_kem {
            let (ciphertext, shared) = encapsulate(&self.kem_key, kem_message);
            let other = encapsulate(&self.kem_key, [0xee; 32]).0;
            state.encrypt(
                if mischief.other_ciphertext {
                    &other
                } else {
                    &ciphertext
                },
                &mut out,
            );
            state.mix_key(&shared);
        }
        if keys.known() {
            state.mix_key(&x25519(keys.own_ephemeral, self.remote_static));
        }
        state.encrypt(payload, &mut out);
        out
    }
}

/// Somebody who recorded a handshake, and was given the keys that last longer than it: both static ones and the psk.
pub(super) struct Thief {
    /// With the server's static key as the own one.
    pub(super) keys: Keys,
    pub(super) client_static: [u8; 32],
}

impl Thief {
    /// Follows the recorded messages with this for what both ephemeral keys give, and that for what a ciphertext
    /// holds. `None` when either is wrong.
    pub(super) fn open(
        &self,
        message_1: &[u8],
        message_2: &[u8],
        ephemeral_shared: [u8; 32],
        decapsulate: impl FnOnce(&[u8]) -> [u8; 32],
    ) -> Option<Derived> {
        let mut responder = Responder::new(Keys {
            pattern: self.keys.pattern,
            prologue: self.keys.prologue.clone(),
            ..self.keys
        });
        // Message 1 is open to whoever has the server's static key and the psk.
        responder.read_message_1(message_1);
        let (keys, state) = (&responder.keys, &mut responder.state);
        let (ephemeral, rest) = message_2.split_first_chunk::<32>()?;
        keys.mix_ephemeral(state, ephemeral);
        state.mix_key(&ephemeral_shared);
        let (ciphertext, payload) = rest.split_at(1088 + 16);
        let ciphertext = state.try_decrypt(ciphertext)?;
        state.mix_key(&decapsulate(&ciphertext));
        if keys.known() {
            state.mix_key(&x25519(self.client_static, *ephemeral));
        }
        state.try_decrypt(payload)?;
        Some(Derived::new(state))
    }
}

/// What a ciphertext holds for the KEM key of this seed.
pub(super) fn decapsulate(kem_seed: [u8; 64], ciphertext: &[u8]) -> [u8; 32] {
    let ciphertext = Ciphertext::try_from(ciphertext).unwrap();
    let kem = DecapsulationKey::from_seed(kem_seed.into());
    kem.decapsulate(&ciphertext).into()
}

/// `ml-kem`'s encapsulation: ciphertext and shared secret.
pub(super) fn encapsulate(key: &[u8], message: [u8; 32]) -> (Vec<u8>, [u8; 32]) {
    let key = EncapsulationKey::new(&key.try_into().unwrap()).unwrap();
    let (ciphertext, shared) = key.encapsulate_deterministic(&message.into());
    (ciphertext.to_vec(), shared.into())
}

/// Everything after Noise, by straight HMAC.
pub(super) struct Derived {
    pub(super) prk: [u8; 32],
    pub(super) server_finished: [u8; 32],
    pub(super) client_finished: [u8; 32],
}

impl Derived {
    pub(super) fn new(state: &Symmetric) -> Self {
        let prk = hmac(&state.h, &state.split().concat());
        let server_finished = hmac(&expand_label(&prk, "s fin", &[], 32), &state.h);
        let client_finished = hmac(
            &expand_label(&prk, "c fin", &[], 32),
            &[state.h, server_finished].concat(),
        );
        Self {
            prk,
            server_finished,
            client_finished,
        }
    }

    pub(super) fn secret(&self, label: &str) -> [u8; 32] {
        array(&expand_label(&self.prk, label, &[], 32))
    }

    pub(super) fn export(&self, label: &[u8], context: &[u8], len: usize) -> Vec<u8> {
        let hash = sha256(&[&(label.len() as u64).to_be_bytes(), label, context]);
        expand_label(&self.secret("exp"), "exporter", &hash, len)
    }
}
