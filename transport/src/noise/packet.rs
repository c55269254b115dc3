//! Packet protection: ring's AEADs and header protection behind quinn's traits (RFC 9001 section 5).

use std::sync::OnceLock;

use bytes::BytesMut;
use quinn_proto::{
    ConnectionId, Side,
    crypto::{self, CryptoError, KeyPair, Keys},
};
use ring::{aead, hkdf};
use zeroize::Zeroizing;

use super::schedule::{Directions, Secret, expand, expand_array, extract};

/// Salt of the Initial secrets: SHA-256 of `ahoy/1 initial salt`.
///
/// Initial packets are readable by everyone who reads this line, as in every QUIC version; what is secret
/// inside them is secret by Noise.
pub(super) const INITIAL_SALT: [u8; 32] = [
    0xe5, 0xa0, 0xec, 0xea, 0x1e, 0xc0, 0x9e, 0xa2, 0x37, 0x82, 0x07, 0x06, 0x01, 0x99, 0x0b, 0xad,
    0xb2, 0x06, 0x5d, 0x6e, 0xa7, 0x46, 0xa3, 0x9b, 0x18, 0xec, 0x7e, 0x0a, 0x23, 0xef, 0x5a, 0x59,
];

/// Packets that one AES-GCM key may seal (RFC 9001 section 6.6).
const AES_GCM_CONFIDENTIALITY_LIMIT: u64 = 1 << 23;
/// Forgeries that one AES-GCM key may see (RFC 9001 section 6.6).
const AES_GCM_INTEGRITY_LIMIT: u64 = 1 << 52;
/// ChaCha20-Poly1305 has no limit below the number of possible packets (RFC 9001 section 6.6).
const CHACHA_CONFIDENTIALITY_LIMIT: u64 = u64::MAX;
/// Forgeries that one ChaCha20-Poly1305 key may see (RFC 9001 section 6.6).
const CHACHA_INTEGRITY_LIMIT: u64 = 1 << 36;

/// Bytes of ciphertext that make the header protection mask, and of every AEAD tag here.
const SAMPLE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Longest key of any algorithm here.
const MAX_KEY_BYTES: usize = 32;

/// The AEAD of Handshake and 1-RTT packets. Both sides must have chosen the same: it is part of the prologue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataCipher {
    /// AES-256-GCM: fastest wherever the processor has AES instructions.
    #[default]
    Aes256Gcm,
    /// ChaCha20-Poly1305: for processors without.
    ChaCha20Poly1305,
}

impl DataCipher {
    /// Its byte in the prologue.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    fn suite(self) -> Suite {
        match self {
            Self::Aes256Gcm => Suite {
                aead: &aead::AES_256_GCM,
                header: &aead::quic::AES_256,
                confidentiality_limit: AES_GCM_CONFIDENTIALITY_LIMIT,
                integrity_limit: AES_GCM_INTEGRITY_LIMIT,
            },
            Self::ChaCha20Poly1305 => Suite {
                aead: &aead::CHACHA20_POLY1305,
                header: &aead::quic::CHACHA20,
                confidentiality_limit: CHACHA_CONFIDENTIALITY_LIMIT,
                integrity_limit: CHACHA_INTEGRITY_LIMIT,
            },
        }
    }
}

/// Algorithms of one packet number space and their limits.
#[derive(Clone, Copy)]
struct Suite {
    aead: &'static aead::Algorithm,
    header: &'static aead::quic::Algorithm,
    confidentiality_limit: u64,
    integrity_limit: u64,
}

/// Initial packets: AES-128-GCM as in QUIC version 1.
const INITIAL: Suite = Suite {
    aead: &aead::AES_128_GCM,
    header: &aead::quic::AES_128,
    confidentiality_limit: AES_GCM_CONFIDENTIALITY_LIMIT,
    integrity_limit: AES_GCM_INTEGRITY_LIMIT,
};

struct PacketKey {
    key: aead::LessSafeKey,
    iv: Zeroizing<[u8; aead::NONCE_LEN]>,
    suite: Suite,
}

impl PacketKey {
    fn new(suite: Suite, secret: &Secret) -> Self {
        let prk = secret.prk();
        Self {
            key: aead_key(suite.aead, &prk, b"key", &[]),
            iv: expand_array(&prk, b"iv", &[]),
            suite,
        }
    }

    /// The packet number, padded on the left, xor the iv (RFC 9001 section 5.3).
    fn nonce(&self, packet: u64) -> aead::Nonce {
        let mut nonce = *self.iv;
        for (byte, number) in nonce.iter_mut().skip(4).zip(packet.to_be_bytes()) {
            *byte ^= number;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }
}

/// A packet key, as long as the algorithm asks for.
fn aead_key(
    algorithm: &'static aead::Algorithm,
    prk: &hkdf::Prk,
    label: &[u8],
    context: &[u8],
) -> aead::LessSafeKey {
    let mut key = Zeroizing::new([0; MAX_KEY_BYTES]);
    let key = &mut key[..algorithm.key_len()];
    expand(prk, label, context, key).expect("a key is far below what HKDF gives");
    aead::UnboundKey::new(algorithm, key)
        .map(aead::LessSafeKey::new)
        .expect("the key is as long as the algorithm asks for")
}

impl crypto::PacketKey for PacketKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let (header, rest) = buf.split_at_mut(header_len);
        let (payload, tag_space) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(packet), aead::Aad::from(&*header), payload)
            .expect("only a payload of many gigabytes is refused");
        tag_space.copy_from_slice(tag.as_ref());
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let length = self
            .key
            .open_in_place(self.nonce(packet), aead::Aad::from(header), payload)
            .map_err(|_forged| CryptoError)?
            .len();
        payload.truncate(length);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        self.suite.confidentiality_limit
    }

    fn integrity_limit(&self) -> u64 {
        self.suite.integrity_limit
    }
}

/// A packet key of a key phase that may never come. quinn wants it at hand from the start; until it is used it is the
/// secret alone, a twentieth of an expanded key, which counts where connections are many.
struct LatePacketKey {
    suite: Suite,
    secret: Secret,
    key: OnceLock<Box<PacketKey>>,
}

impl LatePacketKey {
    fn new(suite: Suite, secret: &Secret) -> Self {
        Self {
            suite,
            secret: secret.clone(),
            key: OnceLock::new(),
        }
    }

    fn key(&self) -> &PacketKey {
        self.key
            .get_or_init(|| Box::new(PacketKey::new(self.suite, &self.secret)))
    }
}

impl crypto::PacketKey for LatePacketKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.key().encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.key().decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        self.suite.confidentiality_limit
    }

    fn integrity_limit(&self) -> u64 {
        self.suite.integrity_limit
    }
}

struct HeaderKey(aead::quic::HeaderProtectionKey);

impl HeaderKey {
    fn new(suite: Suite, secret: &Secret) -> Self {
        let mut key = Zeroizing::new([0; MAX_KEY_BYTES]);
        let key = &mut key[..suite.header.key_len()];
        expand(&secret.prk(), b"hp", &[], key).expect("a key is far below what HKDF gives");
        Self(
            aead::quic::HeaderProtectionKey::new(suite.header, key)
                .expect("the key is as long as the algorithm asks for"),
        )
    }

    /// Masks or unmasks a header; `number_bytes` reads the length of the packet number off the first byte,
    /// which is the unprotected one on either way (RFC 9001 section 5.4.1).
    fn apply(&self, pn_offset: usize, packet: &mut [u8], protect: bool) {
        // quinn checks that the sample is inside the packet before it calls.
        let Some((header, sample)) = packet.split_at_mut_checked(pn_offset + 4) else {
            return;
        };
        let Some(mask) = sample
            .get(..SAMPLE_BYTES)
            .and_then(|s| self.0.new_mask(s).ok())
        else {
            return;
        };
        let Some((first, rest)) = header.split_first_mut() else {
            return;
        };
        let Some(number) = rest.get_mut(pn_offset.saturating_sub(1)..) else {
            return;
        };
        let bits = if *first & 0x80 == 0 { 0x1f } else { 0x0f };
        let before = *first;
        *first ^= mask[0] & bits;
        let unprotected = if protect { before } else { *first };
        let number_bytes = usize::from(unprotected & 0x03) + 1;
        for (byte, mask) in number.iter_mut().zip(&mask[1..]).take(number_bytes) {
            *byte ^= mask;
        }
    }
}

impl crypto::HeaderKey for HeaderKey {
    fn decrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        self.apply(pn_offset, packet, false);
    }

    fn encrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        self.apply(pn_offset, packet, true);
    }

    fn sample_size(&self) -> usize {
        SAMPLE_BYTES
    }
}

/// `secrets` as this side sees them: what it sends with, what it receives with.
fn pair(secrets: &Directions, side: Side) -> (&Secret, &Secret) {
    match side {
        Side::Client => (&secrets.client, &secrets.server),
        Side::Server => (&secrets.server, &secrets.client),
    }
}

fn suite_keys(suite: Suite, secrets: &Directions, side: Side) -> Keys {
    let (local, remote) = pair(secrets, side);
    Keys {
        header: KeyPair {
            local: Box::new(HeaderKey::new(suite, local)),
            remote: Box::new(HeaderKey::new(suite, remote)),
        },
        packet: KeyPair {
            local: Box::new(PacketKey::new(suite, local)),
            remote: Box::new(PacketKey::new(suite, remote)),
        },
    }
}

/// Keys of the Handshake or the 1-RTT space.
pub(super) fn keys(cipher: DataCipher, secrets: &Directions, side: Side) -> Keys {
    suite_keys(cipher.suite(), secrets, side)
}

/// Packet keys of a later key phase; header protection never changes (RFC 9001 section 6).
pub(super) fn packet_keys(
    cipher: DataCipher,
    secrets: &Directions,
    side: Side,
) -> KeyPair<Box<dyn crypto::PacketKey>> {
    let (local, remote) = pair(secrets, side);
    KeyPair {
        local: Box::new(LatePacketKey::new(cipher.suite(), local)),
        remote: Box::new(LatePacketKey::new(cipher.suite(), remote)),
    }
}

/// Keys of the Initial space, from the first destination connection id.
pub(super) fn initial_keys(version: u32, dst_cid: &ConnectionId, side: Side) -> Keys {
    let prk = extract(&INITIAL_SALT, dst_cid);
    let secret = |label: &[u8]| Secret(*expand_array(&prk, label, &version.to_be_bytes()));
    let secrets = Directions {
        client: secret(b"client in"),
        server: secret(b"server in"),
    };
    suite_keys(INITIAL, &secrets, side)
}

/// The tag at the end of a Retry packet, over the original destination id and the packet (RFC 9001 section 5.8).
pub(super) fn retry_tag(version: u32, orig_dst_cid: &ConnectionId, packet: &[&[u8]]) -> [u8; 16] {
    let prk = extract(&INITIAL_SALT, b"retry");
    let version = version.to_be_bytes();
    let nonce = expand_array::<{ aead::NONCE_LEN }>(&prk, b"retry iv", &version);
    let mut pseudo_packet = Vec::new();
    pseudo_packet
        .push(u8::try_from(orig_dst_cid.len()).expect("a connection id has at most 20 bytes"));
    pseudo_packet.extend_from_slice(orig_dst_cid);
    for part in packet {
        pseudo_packet.extend_from_slice(part);
    }
    let tag = aead_key(&aead::AES_128_GCM, &prk, b"retry key", &version)
        .seal_in_place_separate_tag(
            aead::Nonce::assume_unique_for_key(*nonce),
            aead::Aad::from(&pseudo_packet),
            &mut [],
        )
        .expect("a Retry packet is far below the limit of the cipher");
    let mut out = [0; TAG_BYTES];
    out.copy_from_slice(tag.as_ref());
    out
}
