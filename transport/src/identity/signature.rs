//! Ed25519 signatures with a named purpose.
//!
//! What is signed is always `label | 0x00 | message`: a signature made for one purpose means nothing for
//! another, even where the bytes could be read as both.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::ID_LEN;

/// Length of a signature, in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// The purpose of a signature. Labels hold no NUL byte, so no label is the beginning of another's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// Names a purpose.
    ///
    /// # Panics
    /// In a constant, at compile time, when the label holds a NUL byte.
    #[must_use]
    pub const fn new(label: &'static str) -> Self {
        let bytes = label.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] != 0, "a label holds no NUL byte");
            at += 1;
        }
        Self(label)
    }

    fn input(self, message: &[u8]) -> Vec<u8> {
        let mut input = Vec::with_capacity(self.0.len() + 1 + message.len());
        input.extend_from_slice(self.0.as_bytes());
        input.push(0);
        input.extend_from_slice(message);
        input
    }
}

pub(super) fn sign(key: &SigningKey, domain: Domain, message: &[u8]) -> [u8; SIGNATURE_LEN] {
    key.sign(&domain.input(message)).to_bytes()
}

/// Whether `signature` was made over `message`, for this purpose, by the holder of `public`.
///
/// Strict (RFC 8032 section 5.1.7 with canonical encodings): keys of small order and malleable signatures
/// are refused, so that every implementation gives the same answer.
#[must_use]
pub fn verify_signature(
    public: &[u8; ID_LEN],
    domain: Domain,
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| {
        key.verify_strict(&domain.input(message), &Signature::from_bytes(signature))
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_for_one_purpose_does_not_serve_another() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let public = key.verifying_key().to_bytes();
        let signature = sign(&key, Domain::new("one"), b"message");
        assert!(verify_signature(
            &public,
            Domain::new("one"),
            b"message",
            &signature
        ));
        assert!(!verify_signature(
            &public,
            Domain::new("two"),
            b"message",
            &signature
        ));
        assert!(!verify_signature(
            &public,
            Domain::new("one"),
            b"other",
            &signature
        ));
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // The identity point with the all-zero signature satisfies the unstrict equation for any message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(!verify_signature(
            &identity,
            Domain::new("one"),
            b"any",
            &forged
        ));
    }
}
