//! What waits in a mailbox for one device, which may be off.
//!
//! A [box](super::boxed) of kind 2, label `ahoy/1 sealed letter`, domain `ahoy/1 letter`, with this body:
//!
//! ```text
//! | ver=1 | letter id | recipient device | sealed at   | log n | log hash | certificate | log | body |
//! | u8    | 16        | 32               | u64 Unix ms | u64   | 32       |   each: u16 length, bytes |
//! ```
//! There is no epoch: whoever writes does not know when the device will be there. So a letter that was recorded
//! can be left once more; the recipient knows the ids of the letters it has had, for longer than
//! [`MAX_LETTER_AGE_MILLIS`].

use std::fmt;

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    KIND_LETTER, MAX_OFFER_AHEAD_MILLIS, MAX_OFFER_LOG, OpenError, SealError,
    boxed::{self, Purpose},
    put_part, read_part,
};
use crate::{
    identity::{
        CertificateError, DeviceCertificate, DeviceId, DeviceKeys, Domain, LogPosition,
        MAX_CERTIFICATE_LEN, VerifiedDevice, VerifiedSealKey,
    },
    wire::{Reader, Writer},
};

/// Oldest letter that is still read: as long as a home keeps it, and as the key that it is sealed to lives.
pub const MAX_LETTER_AGE_MILLIS: u64 = 15 * 24 * 60 * 60 * 1000;
/// Longest body, in bytes: a text of 4 KiB and what goes with it.
pub const MAX_LETTER_BODY: usize = 7 * 1024;

const PURPOSE: Purpose = Purpose {
    kind: KIND_LETTER,
    key_label: "ahoy/1 sealed letter",
    domain: Domain::new("ahoy/1 letter"),
};
const BODY_VERSION: u8 = 1;

/// Names a letter: random, drawn by whoever writes it, and the same in the copies for several devices.
pub type LetterId = [u8; 16];

/// What is left in a mailbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// Names it.
    pub id: LetterId,
    /// The device that shall read it.
    pub recipient: DeviceId,
    /// When it was sealed, Unix milliseconds.
    pub sealed_at_millis: u64,
    /// The head of the sender's device log.
    pub log_head: LogPosition,
    /// Who writes.
    pub certificate: DeviceCertificate,
    /// The sender's whole device log, or empty.
    pub log: Vec<u8>,
    /// What is written; at most [`MAX_LETTER_BODY`], not read here.
    pub body: Vec<u8>,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter")
            .field("id", &z32::encode(&self.id))
            .field("recipient", &self.recipient)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Letter {
    fn write(&self, log: &[u8]) -> Zeroizing<Vec<u8>> {
        let room = 256 + MAX_CERTIFICATE_LEN + log.len() + self.body.len();
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        out.put_u8(BODY_VERSION);
        out.put_bytes(&self.id);
        out.put_bytes(self.recipient.as_bytes());
        out.put_u64(self.sealed_at_millis);
        out.put_u64(self.log_head.n);
        out.put_bytes(&self.log_head.hash);
        put_part(&mut out, self.certificate.as_bytes());
        put_part(&mut out, log);
        put_part(&mut out, &self.body);
        out
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, OpenError> {
        match reader.u8()? {
            BODY_VERSION => {}
            other => return Err(OpenError::UnknownVersion(other)),
        }
        Ok(Self {
            id: reader.array()?,
            recipient: DeviceId(reader.array()?),
            sealed_at_millis: reader.u64()?,
            log_head: LogPosition {
                n: reader.u64()?,
                hash: reader.array()?,
            },
            certificate: DeviceCertificate::from_bytes(read_part(reader, MAX_CERTIFICATE_LEN)?)?,
            log: read_part(reader, MAX_OFFER_LOG)?.to_vec(),
            body: read_part(reader, MAX_LETTER_BODY)?.to_vec(),
        })
    }
}

/// Seals a letter to the recipient's current seal key, signed by the sender's `keys`. A log that is too long is
/// left out: the recipient can look it up.
///
/// # Errors
/// When sender, recipient and keys do not belong together, or the body is too long.
pub fn seal_letter(
    letter: &Letter,
    keys: &DeviceKeys,
    to: &VerifiedSealKey,
    rng: &mut dyn CryptoRngCore,
) -> Result<Vec<u8>, SealError> {
    if letter.certificate.fields().device != keys.id() {
        return Err(SealError::WrongSender);
    }
    if letter.recipient != to.device() {
        return Err(SealError::WrongRecipient);
    }
    if letter.body.len() > MAX_LETTER_BODY {
        return Err(SealError::TooLarge);
    }
    let log: &[u8] = if letter.log.len() > MAX_OFFER_LOG {
        &[]
    } else {
        &letter.log
    };
    let key = boxed::encapsulate(to, rng);
    boxed::seal(PURPOSE, &letter.write(log), keys, to, &key)
}

/// A letter that a verified device wrote to this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedLetter {
    /// Who writes.
    pub sender: VerifiedDevice,
    /// What was written.
    pub letter: Letter,
}

/// Opens and judges an envelope. Nothing is believed before the last check; that the letter has not been read
/// before is for the caller to know.
///
/// `now_millis` is Unix time. `verify` judges the sender's certificate, as for [`super::open_offer`].
///
/// # Errors
/// One variant per reason not to read it.
pub fn open_letter(
    envelope: &[u8],
    keys: &DeviceKeys,
    now_millis: u64,
    verify: impl FnOnce(&Letter) -> Result<VerifiedDevice, CertificateError>,
) -> Result<OpenedLetter, OpenError> {
    let opened = boxed::open(PURPOSE, keys, envelope, Letter::read)?;
    let letter = &opened.body;
    if letter.recipient != keys.id() {
        return Err(OpenError::WrongRecipient);
    }
    let age = now_millis.saturating_sub(letter.sealed_at_millis);
    if age > MAX_LETTER_AGE_MILLIS {
        return Err(OpenError::Stale(age));
    }
    let ahead = letter.sealed_at_millis.saturating_sub(now_millis);
    if ahead > MAX_OFFER_AHEAD_MILLIS {
        return Err(OpenError::FromTheFuture(ahead));
    }
    let sender = verify(letter)?;
    opened.check(&sender)?;
    Ok(OpenedLetter {
        sender,
        letter: opened.body,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::identity::{CertificateFields, RootKey};

    const NOW: u64 = 1_800_000_000_000;
    const HEAD: LogPosition = LogPosition {
        n: 0,
        hash: [5; 32],
    };

    struct Party {
        root: RootKey,
        keys: DeviceKeys,
        certificate: DeviceCertificate,
    }

    fn party(seed: u8) -> Party {
        let root = RootKey::from_seed(&[seed; 32]);
        let keys = DeviceKeys::generate(&mut ChaCha20Rng::from_seed([seed; 32]), NOW);
        let certificate = DeviceCertificate::issue_by_root(
            CertificateFields {
                not_after_millis: NOW * 2,
                ..CertificateFields::for_device(root.user(), &keys, HEAD, NOW)
            },
            &root,
        );
        Party {
            root,
            keys,
            certificate,
        }
    }

    fn seal_key(party: &Party) -> VerifiedSealKey {
        let record = party.keys.seal_key_record();
        record.verify(NOW, party.keys.id()).unwrap()
    }

    fn letter(from: &Party, to: &Party, body: &[u8]) -> Letter {
        Letter {
            id: [1; 16],
            recipient: to.keys.id(),
            sealed_at_millis: NOW,
            log_head: HEAD,
            certificate: from.certificate.clone(),
            log: vec![],
            body: body.to_vec(),
        }
    }

    fn seal(letter: &Letter, from: &Party, to: &Party) -> Vec<u8> {
        let rng = &mut ChaCha20Rng::from_seed([9; 32]);
        seal_letter(letter, &from.keys, &seal_key(to), rng).unwrap()
    }

    fn open_at(envelope: &[u8], to: &Party, now: u64) -> Result<OpenedLetter, OpenError> {
        open_letter(envelope, &to.keys, now, |letter| {
            let certificate = &letter.certificate;
            certificate.verify(now, certificate.fields().user)
        })
    }

    #[test]
    fn a_letter_is_read_as_it_was_written_and_tells_nobody_else_who_writes() {
        let (alice, bob, carol) = (party(1), party(2), party(3));
        let sent = letter(&alice, &bob, b"come at eight");
        let envelope = seal(&sent, &alice, &bob);
        assert_eq!(envelope.len(), 2048);
        let opened = open_at(&envelope, &bob, NOW).unwrap();
        assert_eq!(opened.letter, sent);
        assert_eq!(opened.sender.user(), alice.root.user());
        assert_eq!(
            open_at(&envelope, &carol, NOW),
            Err(OpenError::Undecryptable)
        );
        for secret in [
            &alice.root.user().0[..],
            &alice.keys.id().0,
            b"come at eight",
        ] {
            let told = envelope
                .windows(secret.len())
                .any(|window| window == secret);
            assert!(!told);
        }
        for at in (0..envelope.len()).step_by(37).chain(0..8) {
            let mut changed = envelope.clone();
            changed[at] ^= 0x80;
            assert!(open_at(&changed, &bob, NOW).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_letter_is_read_for_fifteen_days() {
        let (alice, bob) = (party(1), party(2));
        let envelope = seal(&letter(&alice, &bob, b"."), &alice, &bob);
        let last = NOW + MAX_LETTER_AGE_MILLIS;
        assert!(open_at(&envelope, &bob, last).is_ok());
        assert_eq!(
            open_at(&envelope, &bob, last + 1),
            Err(OpenError::Stale(MAX_LETTER_AGE_MILLIS + 1))
        );
        assert_eq!(
            open_at(&envelope, &bob, NOW - MAX_OFFER_AHEAD_MILLIS - 1),
            Err(OpenError::FromTheFuture(MAX_OFFER_AHEAD_MILLIS + 1))
        );
    }

    /// Bob passes Alice's letter on to Carol, and a thief of Bob's keys writes to him as Alice.
    #[test]
    fn nobody_writes_in_another_ones_name() {
        let (alice, bob, carol) = (party(1), party(2), party(3));
        let opened = open_at(
            &seal(&letter(&alice, &bob, b"yes"), &alice, &bob),
            &bob,
            NOW,
        );
        let mut written = opened.unwrap().letter;
        for (reader, expected) in [
            (&carol, OpenError::WrongRecipient),
            (&bob, OpenError::BadSignature),
        ] {
            let to = seal_key(reader);
            let key = boxed::encapsulate(&to, &mut ChaCha20Rng::from_seed([4; 32]));
            let forged = boxed::seal(PURPOSE, &written.write(&[]), &carol.keys, &to, &key);
            assert_eq!(open_at(&forged.unwrap(), reader, NOW), Err(expected));
        }
        written.recipient = carol.keys.id();
        let to = seal_key(&carol);
        let key = boxed::encapsulate(&to, &mut ChaCha20Rng::from_seed([4; 32]));
        let forged = boxed::seal(PURPOSE, &written.write(&[]), &bob.keys, &to, &key).unwrap();
        assert_eq!(open_at(&forged, &carol, NOW), Err(OpenError::BadSignature));
    }

    #[test]
    fn what_does_not_belong_together_or_is_too_long_is_not_sealed() {
        let (alice, bob, carol) = (party(1), party(2), party(3));
        let rng = &mut ChaCha20Rng::from_seed([9; 32]);
        let mut sent = letter(&alice, &bob, b"");
        assert_eq!(
            seal_letter(&sent, &carol.keys, &seal_key(&bob), rng),
            Err(SealError::WrongSender)
        );
        assert_eq!(
            seal_letter(&sent, &alice.keys, &seal_key(&carol), rng),
            Err(SealError::WrongRecipient)
        );
        sent.body = vec![0; MAX_LETTER_BODY + 1];
        assert_eq!(
            seal_letter(&sent, &alice.keys, &seal_key(&bob), rng),
            Err(SealError::TooLarge)
        );
        sent.body.pop();
        sent.log = vec![0; MAX_OFFER_LOG];
        assert!(seal_letter(&sent, &alice.keys, &seal_key(&bob), rng).is_ok());
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let (alice, bob) = (party(1), party(2));
        let envelope = seal(&letter(&alice, &bob, b"hello"), &alice, &bob);
        assert_eq!(envelope[..6], [1, 2, 0, 0, 0, 1]);
        assert_eq!(
            z32::encode(&Sha256::digest(&envelope)),
            "ey33irfg3n1jffpfoua4x3epckj8xii3rhpufr6j3q1xggpyy3ny"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn letters_round_trip(
            id: [u8; 16], n: u64,
            log in prop::collection::vec(any::<u8>(), 0..2000),
            body in prop::collection::vec(any::<u8>(), 0..MAX_LETTER_BODY),
        ) {
            let (alice, bob) = (party(1), party(2));
            let sent = Letter {
                id, log,
                log_head: LogPosition { n, hash: [8; 32] },
                ..letter(&alice, &bob, &body)
            };
            let envelope = seal(&sent, &alice, &bob);
            prop_assert!(super::super::SIZE_CLASSES.contains(&envelope.len()));
            prop_assert_eq!(open_at(&envelope, &bob, NOW).unwrap().letter, sent);
        }

        #[test]
        fn garbage_is_not_read(mut bytes in prop::collection::vec(any::<u8>(), 0..2100), fit: bool) {
            let bob = party(2);
            if fit {
                bytes.resize(2048, 0);
                bytes[..6].copy_from_slice(&[1, 2, 0, 0, 0, 1]);
            }
            prop_assert!(open_at(&bytes, &bob, NOW).is_err());
        }

        /// What a certified but hostile sender can put inside.
        #[test]
        fn garbage_inside_a_proper_box_is_not_read(body in prop::collection::vec(any::<u8>(), 0..800), start: bool) {
            let (alice, bob) = (party(1), party(2));
            let mut inside = body;
            if start {
                let whole = letter(&alice, &bob, b"hello").write(&[]);
                inside = whole[..inside.len() % whole.len()].to_vec();
            }
            let to = seal_key(&bob);
            let key = boxed::encapsulate(&to, &mut ChaCha20Rng::from_seed([4; 32]));
            let envelope = boxed::seal(PURPOSE, &inside, &alice.keys, &to, &key).unwrap();
            prop_assert!(open_at(&envelope, &bob, NOW).is_err());
        }
    }
}
