//! HKDF-SHA256 (RFC 5869), its labels, and the secrets of one handshake.

use std::fmt;

use ring::{hkdf, hmac};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::wire::Writer;

/// Length of every secret, in bytes.
pub(super) const SECRET_BYTES: usize = 32;

/// Before every label, so that no output of ours equals one of another protocol's.
const LABEL_PREFIX: &[u8] = b"ahoy1 ";

/// HKDF-SHA256 ends at 255 blocks of 32 bytes.
const MAX_OUTPUT_BYTES: usize = 255 * 32;

/// A secret that is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(super) struct Secret(pub(super) [u8; SECRET_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The secret as the key of further expansions.
    pub(super) fn prk(&self) -> hkdf::Prk {
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &self.0)
    }
}

/// Output length of an expansion, in the form ring asks for.
struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

/// More was asked for than HKDF-SHA256 can give: 8160 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutputTooLong;

/// HKDF-Extract.
pub(super) fn extract(salt: &[u8], input: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(input)
}

/// `Expand-Label`: RFC 8446 section 7.1 with our prefix.
pub(super) fn expand(
    prk: &hkdf::Prk,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) -> Result<(), OutputTooLong> {
    if out.len() > MAX_OUTPUT_BYTES {
        return Err(OutputTooLong);
    }
    let mut info = Vec::with_capacity(4 + LABEL_PREFIX.len() + label.len() + context.len());
    info.put_u16(u16::try_from(out.len()).map_err(|_too_long| OutputTooLong)?);
    let short = "labels and contexts are constants, counters or hashes: below 256 bytes";
    info.put_u8(u8::try_from(LABEL_PREFIX.len() + label.len()).expect(short));
    info.put_bytes(LABEL_PREFIX);
    info.put_bytes(label);
    info.put_u8(u8::try_from(context.len()).expect(short));
    info.put_bytes(context);
    prk.expand(&[&info], OutputLength(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_too_long| OutputTooLong)
}

/// [`expand`] from a secret, for outputs whose length is a constant.
pub(super) fn expand_secret<const N: usize>(
    secret: &[u8; SECRET_BYTES],
    label: &[u8],
    context: &[u8],
) -> Zeroizing<[u8; N]> {
    expand_array(
        &hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret),
        label,
        context,
    )
}

/// [`expand`] for outputs whose length is a constant.
pub(super) fn expand_array<const N: usize>(
    prk: &hkdf::Prk,
    label: &[u8],
    context: &[u8],
) -> Zeroizing<[u8; N]> {
    const { assert!(N <= MAX_OUTPUT_BYTES) };
    let mut out = Zeroizing::new([0; N]);
    expand(prk, label, context, &mut *out).expect("the length was checked when this was compiled");
    out
}

/// Traffic secrets of both directions.
#[derive(Debug, Clone)]
pub(super) struct Directions {
    pub(super) client: Secret,
    pub(super) server: Secret,
}

impl Directions {
    /// The secrets of the next key phase.
    pub(super) fn update(&mut self) {
        for secret in [&mut self.client, &mut self.server] {
            *secret = Secret(*expand_secret(&secret.0, b"ku", &[]));
        }
    }
}

/// Everything that follows from a finished Noise handshake.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Protects the Handshake packets.
    pub(super) handshake: Directions,
    /// Protects the 1-RTT packets of the first key phase.
    pub(super) data: Directions,
    /// Keys of the Finished frames.
    finished: Directions,
    /// What [`export`] starts from.
    pub(super) exporter: Secret,
    hash: [u8; 32],
}

impl Schedule {
    /// `split` = both outputs of Noise's `Split()`, the initiator's first; `hash` = the handshake hash.
    pub(super) fn new(split: (&[u8; 32], &[u8; 32]), hash: &[u8; 32]) -> Self {
        let mut input = Zeroizing::new([0; 64]);
        let (first, second) = input.split_at_mut(32);
        first.copy_from_slice(split.0);
        second.copy_from_slice(split.1);
        let prk = extract(hash, &*input);
        let secret = |label: &[u8]| Secret(*expand_array(&prk, label, &[]));
        Self {
            handshake: Directions {
                client: secret(b"c hs"),
                server: secret(b"s hs"),
            },
            data: Directions {
                client: secret(b"c ap"),
                server: secret(b"s ap"),
            },
            finished: Directions {
                client: secret(b"c fin"),
                server: secret(b"s fin"),
            },
            exporter: secret(b"exp"),
            hash: *hash,
        }
    }

    /// Body of the server's Finished frame.
    pub(super) fn server_finished(&self) -> [u8; 32] {
        hmac_sha256(&self.finished.server.0, &[&self.hash])
    }

    /// Body of the client's Finished frame, which answers the server's.
    pub(super) fn client_finished(&self) -> [u8; 32] {
        hmac_sha256(
            &self.finished.client.0,
            &[&self.hash, &self.server_finished()],
        )
    }
}

/// HMAC-SHA256 over the concatenation of `parts`.
pub(super) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Keying material for the application.
pub(super) fn export(
    exporter: &Secret,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) -> Result<(), OutputTooLong> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(&(label.len() as u64).to_be_bytes());
    hash.update(label);
    hash.update(context);
    expand(&exporter.prk(), b"exporter", hash.finish().as_ref(), out)
}
