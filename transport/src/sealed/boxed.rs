//! The one-way box that offers and letters travel in: X-Wing for secrecy, the sender's signature inside.
//!
//! ```text
//! 0       1      2                6                           1126
//! | ver=1 | kind | generation u32 | X-Wing ciphertext (1120)  | ChaCha20-Poly1305(body | signature | zeros), tag |
//! ```
//! The whole is padded to a size class (so 2048 bytes at least). Key = HKDF-SHA256(salt = the purpose's label,
//! secret = X-Wing shared secret, info = recipient device | generation | recipient's X-Wing public key), nonce
//! zero (the key serves once), additional data = everything before the ciphertext.
//!
//! The signature (64 bytes, by the sender's device, in the purpose's domain) covers the X-Wing ciphertext
//! followed by the body. So a recipient cannot pass a body on as if it had been sent to somebody else, and
//! whoever has the recipient's keys still cannot write to the recipient in another's name.

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    OpenError, SealError, VERSION, aead, check_padding, read_envelope, size_class,
    xwing::{CIPHERTEXT_LEN, Ciphertext, ENCAPSULATION_SEED_LEN, PublicKey, SharedSecret},
};
use crate::{
    identity::{
        DeviceId, DeviceKeys, Domain, SIGNATURE_LEN, VerifiedDevice, VerifiedSealKey,
        verify_signature,
    },
    wire::{Reader, WireError, Writer},
};

const HEADER_LEN: usize = 1 + 1 + 4 + CIPHERTEXT_LEN;

/// What a box is for. No two purposes share a key or a signature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    /// The envelope's second byte.
    pub(super) kind: u8,
    /// Salts the key.
    pub(super) key_label: &'static str,
    /// Of the signature.
    pub(super) domain: Domain,
}

/// The length of the envelope that holds this body, if there is one.
pub(super) fn envelope_len(body: &[u8]) -> Option<usize> {
    size_class(HEADER_LEN + body.len() + SIGNATURE_LEN + aead::TAG_LEN)
}

/// A fresh key for one box to this recipient.
pub(super) fn encapsulate(
    to: &VerifiedSealKey,
    rng: &mut dyn CryptoRngCore,
) -> (Ciphertext, SharedSecret) {
    let mut randomness = Zeroizing::new([0; ENCAPSULATION_SEED_LEN]);
    rng.fill_bytes(&mut *randomness);
    to.public().encapsulate(&randomness)
}

/// Seals `body`, signed by `keys`.
pub(super) fn seal(
    purpose: Purpose,
    body: &[u8],
    keys: &DeviceKeys,
    to: &VerifiedSealKey,
    (ciphertext, shared): &(Ciphertext, SharedSecret),
) -> Result<Vec<u8>, SealError> {
    let len = envelope_len(body).ok_or(SealError::TooLarge)?;
    let ciphertext = ciphertext.to_bytes();

    let mut signed = Zeroizing::new(Vec::with_capacity(CIPHERTEXT_LEN + body.len()));
    signed.put_bytes(&ciphertext);
    signed.put_bytes(body);
    let signature = keys.sign(purpose.domain, &signed);

    let mut envelope = Vec::with_capacity(len);
    envelope.put_u8(VERSION);
    envelope.put_u8(purpose.kind);
    envelope.put_u32(to.generation());
    envelope.put_bytes(&ciphertext);
    let mut inner = Vec::with_capacity(len);
    inner.put_bytes(body);
    inner.put_bytes(&signature);
    inner.resize(len - HEADER_LEN - aead::TAG_LEN, 0);
    let key = box_key(purpose, shared, to.device(), to.generation(), to.public());
    aead::seal(&key, 0, &envelope, &mut inner);
    envelope.append(&mut inner);
    Ok(envelope)
}

fn box_key(
    purpose: Purpose,
    shared: &SharedSecret,
    device: DeviceId,
    generation: u32,
    public: &PublicKey,
) -> Zeroizing<[u8; 32]> {
    aead::derive(
        shared,
        purpose.key_label,
        &[
            device.as_bytes(),
            &generation.to_be_bytes(),
            &public.to_bytes(),
        ],
    )
}

/// What was in a box. Nothing of it is believed before [`Self::check`].
pub(super) struct Opened<T> {
    /// What the body says.
    pub(super) body: T,
    purpose: Purpose,
    signed: Zeroizing<Vec<u8>>,
    signature: [u8; SIGNATURE_LEN],
}

/// Opens an envelope and reads its body by `read`, which leaves what follows.
pub(super) fn open<T>(
    purpose: Purpose,
    keys: &DeviceKeys,
    envelope: &[u8],
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, OpenError>,
) -> Result<Opened<T>, OpenError> {
    let mut reader = read_envelope(envelope)?;
    if reader.u8()? != purpose.kind {
        return Err(WireError::Undefined.into());
    }
    let generation = reader.u32()?;
    let ciphertext: [u8; CIPHERTEXT_LEN] = reader.array()?;
    let sealed = reader.rest();
    let header = envelope.get(..HEADER_LEN).ok_or(WireError::Truncated)?;

    let secret = keys
        .seal_keys()
        .secret(generation)
        .ok_or(OpenError::UnknownKey(generation))?;
    let (shared, public) = secret.decapsulate_with_public(&Ciphertext::from_bytes(&ciphertext));
    let key = box_key(purpose, &shared, keys.id(), generation, &public);
    let inner = aead::open(&key, 0, header, sealed).ok_or(OpenError::Undecryptable)?;

    let mut reader = Reader::new(&inner);
    let body = read(&mut reader)?;
    let body_len = inner.len() - reader.remaining();
    let signature: [u8; SIGNATURE_LEN] = reader.array()?;
    check_padding(reader)?;
    let mut signed = Zeroizing::new(Vec::with_capacity(CIPHERTEXT_LEN + body_len));
    signed.put_bytes(&ciphertext);
    signed.put_bytes(inner.get(..body_len).ok_or(WireError::Truncated)?);
    Ok(Opened {
        body,
        purpose,
        signed,
        signature,
    })
}

impl<T> Opened<T> {
    /// Whether `sender` signed it.
    pub(super) fn check(&self, sender: &VerifiedDevice) -> Result<(), OpenError> {
        let key = sender.device();
        if verify_signature(
            key.as_bytes(),
            self.purpose.domain,
            &self.signed,
            &self.signature,
        ) {
            Ok(())
        } else {
            Err(OpenError::BadSignature)
        }
    }
}
