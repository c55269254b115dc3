//! What is left at a home for somebody who is not connected to us: sealed, padded, signed inside.
//!
//! A caller does not reach the callee at first, only the callee's home, and the home is not to learn who
//! calls, nor to be able to invent calls. So the first message, the [`Offer`], is sealed to the callee's
//! [X-Wing](xwing) key and signed inside by the caller's device. It carries the random [`SessionSecret`]
//! from which everything else of the call is keyed: what both sides send each other through the homes
//! afterwards ([`CallEnvelopes`]), and the peer-to-peer connections.
//!
//! Every envelope begins with `u8 version | u8 kind` ([`EnvelopeKind::of`]) and is as long as one of
//! [`SIZE_CLASSES`].
//!
//! A [`Letter`] is what waits in a mailbox for a device that is off: no call, no epoch, and days of life.
//!
//! An opened offer is genuine, fresh and meant for this registration, but may have come by several homes:
//! [`OfferGuard`] lets each call through once.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::fmt;

use rand_core::CryptoRngCore;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    identity::CertificateError,
    wire::{Reader, WireError, Writer},
};

mod aead;
mod boxed;
mod follow_up;
mod guard;
mod letter;
mod offer;
mod pairing;
pub mod xwing;

pub use follow_up::{CallEnvelopes, FollowUpError, MAX_FOLLOW_UP_PAYLOAD, Role};
pub use guard::{
    Admission, CALL_MEMORY, HELD_MILLIS, MAX_HELD_CALLS, MAX_HELD_PER_CALL, MAX_REMEMBERED_CALLS,
    OfferGuard, Standing,
};
pub use letter::{
    Letter, LetterId, MAX_LETTER_AGE_MILLIS, MAX_LETTER_BODY, OpenedLetter, open_letter,
    seal_letter,
};
pub use offer::{
    MAX_OFFER_AGE_MILLIS, MAX_OFFER_AHEAD_MILLIS, MAX_OFFER_LOG, MAX_OFFER_PART, Offer,
    OpenedOffer, Registration, open_offer, seal_offer,
};

pub use pairing::{PairingError, open_pairing, seal_pairing};

/// The lengths that envelopes have, in bytes. A home sees which class, and no more of the content's size.
pub const SIZE_CLASSES: [usize; 6] = [512, 1024, 2048, 4096, 8192, 16384];

/// Names a call: random, drawn by the caller.
pub type CallId = [u8; 16];

/// Names a call towards those who pass its follow-ups on: derived from the session secret, so that nobody
/// else can name it before its first follow-up was sent.
pub type CallTag = [u8; 16];

const VERSION: u8 = 1;
const KIND_OFFER: u8 = 0;
const KIND_FOLLOW_UP: u8 = 1;
const KIND_LETTER: u8 = 2;

/// The smallest class that holds `len` bytes.
fn size_class(len: usize) -> Option<usize> {
    SIZE_CLASSES.into_iter().find(|class| len <= *class)
}

/// What an envelope is, from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// For [`open_offer`].
    Offer,
    /// For the [`CallEnvelopes`] with this tag, or for [`OfferGuard::hold`] while there are none.
    FollowUp(CallTag),
    /// For [`open_letter`].
    Letter,
}

impl EnvelopeKind {
    /// Looks at an envelope's header.
    ///
    /// # Errors
    /// When it is of no size class, too short, or of an unknown version or kind.
    pub fn of(envelope: &[u8]) -> Result<Self, WireError> {
        let mut reader = read_envelope(envelope)?;
        match reader.u8()? {
            KIND_OFFER => Ok(Self::Offer),
            KIND_FOLLOW_UP => {
                let _direction = reader.u8()?;
                Ok(Self::FollowUp(reader.array()?))
            }
            KIND_LETTER => Ok(Self::Letter),
            _undefined => Err(WireError::Undefined),
        }
    }
}

fn read_envelope(envelope: &[u8]) -> Result<Reader<'_>, WireError> {
    if !SIZE_CLASSES.contains(&envelope.len()) {
        return Err(WireError::Undefined);
    }
    let mut reader = Reader::new(envelope);
    match reader.u8()? {
        VERSION => Ok(reader),
        other => Err(WireError::Version(other)),
    }
}

/// A part whose length the reader bounds: `u16 length | bytes`. A fixed length field has one spelling.
fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.put_u16(u16::try_from(part.len()).expect("parts are shorter than the largest size class"));
    out.put_bytes(part);
}

fn read_part<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a [u8], WireError> {
    let len = usize::from(reader.u16()?);
    if len > max {
        Err(WireError::TooLong)
    } else {
        reader.bytes(len)
    }
}

/// Padding is zeros, so that there is one spelling.
fn check_padding(mut reader: Reader<'_>) -> Result<(), WireError> {
    if reader.rest().iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err(WireError::Undefined)
    }
}

/// The 32 random bytes from which a call's keys grow. Wiped when dropped; compared in constant time.
#[derive(Clone)]
pub struct SessionSecret(Zeroizing<[u8; 32]>);

impl SessionSecret {
    /// Draws a new one, for a new call.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        Self(bytes)
    }

    /// The secret with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, as input to key derivation.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SessionSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for SessionSecret {}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(secret)")
    }
}

/// Why something was not sealed: a mistake of the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// More than the largest size class, or a part is longer than its bound.
    #[error("the message is too long to be sealed")]
    TooLarge,
    /// The certificate is not of the device that signs.
    #[error("the certificate names another device than the one that signs")]
    WrongSender,
    /// The key is not the named recipient's.
    #[error("the seal key is another device's than the recipient's")]
    WrongRecipient,
    /// 2^32 messages were sealed for this call.
    #[error("too many messages were sealed for this call")]
    Exhausted,
}

/// Why an offer does not ring, or a letter is not read. For our own eyes: whoever sent it learns nothing of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not in a form that this version defines.
    #[error("it cannot be read: {0}")]
    Malformed(WireError),
    /// Made by a newer program.
    #[error("it has version {0}, which this program does not know; update ahoy")]
    UnknownVersion(u8),
    /// Sealed to a key that was wiped, or never ours.
    #[error("it is sealed to a key of ours that no longer exists (generation {0})")]
    UnknownKey(u32),
    /// Changed on the way, or sealed to another device.
    #[error("it does not open with our key")]
    Undecryptable,
    /// It was written to another device, which passes it on.
    #[error("it was made to another device")]
    WrongRecipient,
    /// It was made for another registration: recorded earlier, or the home mixed them up.
    #[error("it was made for another registration of this device")]
    WrongEpoch,
    /// Too old.
    #[error("it is {0} ms old")]
    Stale(u64),
    /// Sent in the future: one of the two clocks is wrong.
    #[error("it is dated {0} ms ahead; one of the two clocks is wrong")]
    FromTheFuture(u64),
    /// The sender's certificate does not count.
    #[error("the sender's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The certified device did not sign it.
    #[error("it is not signed by the sender's device")]
    BadSignature,
}

impl From<WireError> for OpenError {
    fn from(error: WireError) -> Self {
        error.by_version(Self::UnknownVersion, Self::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_round_up_to_their_class() {
        assert_eq!(size_class(0), Some(512));
        assert_eq!(size_class(512), Some(512));
        assert_eq!(size_class(513), Some(1024));
        assert_eq!(size_class(16384), Some(16384));
        assert_eq!(size_class(16385), None);
    }

    #[test]
    fn kinds_are_told_apart_and_others_refused() {
        let mut envelope = vec![0; 512];
        assert_eq!(EnvelopeKind::of(&envelope), Err(WireError::Version(0)));
        envelope[0] = 1;
        assert_eq!(EnvelopeKind::of(&envelope), Ok(EnvelopeKind::Offer));
        envelope[1] = 1;
        envelope[3..19].copy_from_slice(&[9; 16]);
        assert_eq!(
            EnvelopeKind::of(&envelope),
            Ok(EnvelopeKind::FollowUp([9; 16]))
        );
        envelope[1] = 2;
        assert_eq!(EnvelopeKind::of(&envelope), Ok(EnvelopeKind::Letter));
        envelope[1] = 3;
        assert_eq!(EnvelopeKind::of(&envelope), Err(WireError::Undefined));
        assert_eq!(
            EnvelopeKind::of(&envelope[..511]),
            Err(WireError::Undefined)
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(
            format!("{:?}", SessionSecret::from_bytes([7; 32])),
            "SessionSecret(secret)"
        );
    }
}
