//! HKDF-SHA256 (RFC 5869) and ChaCha20-Poly1305 (RFC 8439), by ring.
//!
//! ChaCha20 rather than AES: envelopes are few and small, and it is constant-time on every processor.

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};
use zeroize::Zeroizing;

/// Length of the authentication tag, in bytes.
pub(super) const TAG_LEN: usize = 16;

struct Len<const N: usize>;

impl<const N: usize> hkdf::KeyType for Len<N> {
    fn len(&self) -> usize {
        N
    }
}

/// `N` bytes from a secret, under a label (as salt) and the parts of a context, joined.
pub(super) fn derive<const N: usize>(
    secret: &[u8; 32],
    label: &str,
    context: &[&[u8]],
) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, label.as_bytes())
        .extract(secret)
        .expand(context, Len::<N>)
        .and_then(|okm| okm.fill(&mut *out))
        .expect("far fewer than 255 blocks are asked for");
    out
}

fn key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("the key has 32 bytes"))
}

fn nonce(counter: u32) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let (_zeros, end) = bytes.split_at_mut(NONCE_LEN - 4);
    end.copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Encrypts `plaintext` where it is and appends the tag. A key must never see a counter twice.
pub(super) fn seal(key_bytes: &[u8; 32], counter: u32, header: &[u8], plaintext: &mut Vec<u8>) {
    key(key_bytes)
        .seal_in_place_append_tag(nonce(counter), Aad::from(header), plaintext)
        .expect("an envelope is far below the cipher's limit");
}

/// Decrypts ciphertext and tag. `None`: not made with this key, counter and header.
pub(super) fn open(
    key_bytes: &[u8; 32],
    counter: u32,
    header: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let len = key(key_bytes)
        .open_in_place(nonce(counter), Aad::from(header), &mut buffer)
        .ok()?
        .len();
    buffer.truncate(len);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivation_depends_on_every_input() {
        let one: Zeroizing<[u8; 32]> = derive(&[1; 32], "label", &[b"a", b"b"]);
        assert_eq!(
            one,
            derive::<32>(&[1; 32], "label", &[b"ab"]),
            "parts are joined"
        );
        assert_ne!(one, derive::<32>(&[2; 32], "label", &[b"ab"]));
        assert_ne!(one, derive::<32>(&[1; 32], "other", &[b"ab"]));
        assert_ne!(one, derive::<32>(&[1; 32], "label", &[b"ac"]));
    }
}
