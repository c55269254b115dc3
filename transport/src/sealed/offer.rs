//! The first message of a call.
//!
//! A [box](super::boxed) of kind 0, label `ahoy/1 sealed offer`, domain `ahoy/1 offer`, with this body:
//!
//! ```text
//! body: | ver=1 | call id | session secret | recipient device | home epoch | sequence | sent at   | log n | log hash |
//!       | u8    | 16      | 32             | 32               | u64        | u64      | u64 Unix ms | u64 | 32       |
//!       | certificate | log           | offer       | candidates  |       each: u16 length, bytes
//! ```

use std::fmt;

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    CallId, KIND_OFFER, OpenError, SealError, SessionSecret,
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

/// Oldest offer that still rings. Longer than anybody lets it ring, so one that waited at a home while the
/// device changed networks counts.
pub const MAX_OFFER_AGE_MILLIS: u64 = 120_000;
/// How far the sender's clock may be ahead.
pub const MAX_OFFER_AHEAD_MILLIS: u64 = 120_000;
/// Longest device log that travels inside an offer, in bytes: some twenty entries.
pub const MAX_OFFER_LOG: usize = 4096;
/// Longest description, and longest list of candidates, in bytes.
pub const MAX_OFFER_PART: usize = 8192;

const PURPOSE: Purpose = Purpose {
    kind: KIND_OFFER,
    key_label: "ahoy/1 sealed offer",
    domain: Domain::new("ahoy/1 offer"),
};
const BODY_VERSION: u8 = 1;

/// What the caller tells the callee's device before there is a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// Names the call.
    pub call_id: CallId,
    /// Keys everything else of the call.
    pub secret: SessionSecret,
    /// The device that is called.
    pub recipient: DeviceId,
    /// The epoch of the recipient's registration at the home by which this goes.
    pub epoch: u64,
    /// Rises with each offer the sending device makes.
    pub sequence: u64,
    /// When it was sealed, Unix milliseconds.
    pub sent_at_millis: u64,
    /// The head of the sender's device log.
    pub log_head: LogPosition,
    /// Who calls.
    pub certificate: DeviceCertificate,
    /// The sender's whole device log, or empty.
    pub log: Vec<u8>,
    /// What is offered; not read here.
    pub offer: Vec<u8>,
    /// Where the caller can be reached, as far as it wants to tell; not read here.
    pub candidates: Vec<u8>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("call_id", &z32::encode(&self.call_id))
            .field("recipient", &self.recipient)
            .field("sequence", &self.sequence)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Offer {
    fn write(&self, log: &[u8], out: &mut Vec<u8>) {
        out.put_u8(BODY_VERSION);
        out.put_bytes(&self.call_id);
        out.put_bytes(self.secret.as_bytes());
        out.put_bytes(self.recipient.as_bytes());
        out.put_u64(self.epoch);
        out.put_u64(self.sequence);
        out.put_u64(self.sent_at_millis);
        out.put_u64(self.log_head.n);
        out.put_bytes(&self.log_head.hash);
        put_part(out, self.certificate.as_bytes());
        put_part(out, log);
        put_part(out, &self.offer);
        put_part(out, &self.candidates);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, OpenError> {
        match reader.u8()? {
            BODY_VERSION => {}
            other => return Err(OpenError::UnknownVersion(other)),
        }
        Ok(Self {
            call_id: reader.array()?,
            secret: SessionSecret::from_bytes(reader.array()?),
            recipient: DeviceId(reader.array()?),
            epoch: reader.u64()?,
            sequence: reader.u64()?,
            sent_at_millis: reader.u64()?,
            log_head: LogPosition {
                n: reader.u64()?,
                hash: reader.array()?,
            },
            certificate: DeviceCertificate::from_bytes(read_part(reader, MAX_CERTIFICATE_LEN)?)?,
            log: read_part(reader, MAX_OFFER_LOG)?.to_vec(),
            offer: read_part(reader, MAX_OFFER_PART)?.to_vec(),
            candidates: read_part(reader, MAX_OFFER_PART)?.to_vec(),
        })
    }
}

/// Seals an offer to the recipient's current seal key, signed by the sender's `keys`.
///
/// A log that is too long, or for which the largest size class has no room, is left out: the recipient can
/// look it up.
///
/// # Errors
/// When sender, recipient and keys do not belong together, or the offer is too long.
pub fn seal_offer(
    offer: &Offer,
    keys: &DeviceKeys,
    to: &VerifiedSealKey,
    rng: &mut dyn CryptoRngCore,
) -> Result<Vec<u8>, SealError> {
    if offer.certificate.fields().device != keys.id() {
        return Err(SealError::WrongSender);
    }
    if offer.recipient != to.device() {
        return Err(SealError::WrongRecipient);
    }
    if offer.offer.len() > MAX_OFFER_PART || offer.candidates.len() > MAX_OFFER_PART {
        return Err(SealError::TooLarge);
    }
    let key = boxed::encapsulate(to, rng);
    let log: &[u8] = if offer.log.len() > MAX_OFFER_LOG {
        &[]
    } else {
        &offer.log
    };
    let body = body(offer, log);
    if boxed::envelope_len(&body).is_some() || log.is_empty() {
        return boxed::seal(PURPOSE, &body, keys, to, &key);
    }
    boxed::seal(PURPOSE, &self::body(offer, &[]), keys, to, &key)
}

fn body(offer: &Offer, log: &[u8]) -> Zeroizing<Vec<u8>> {
    // Large enough from the start: growing would leave copies of the secret behind.
    let room = 512 + MAX_CERTIFICATE_LEN + log.len() + offer.offer.len() + offer.candidates.len();
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    offer.write(log, &mut body);
    body
}

/// What this device is at the home from which an envelope came.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// This device's keys.
    pub keys: &'a DeviceKeys,
    /// The epoch drawn for the registration.
    pub epoch: u64,
}

/// An offer that a verified device made to this registration, just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedOffer {
    /// Who calls.
    pub sender: VerifiedDevice,
    /// What was offered.
    pub offer: Offer,
}

/// Opens and judges an envelope. Cheap checks come first; nothing is believed before the last.
///
/// `now_millis` is Unix time, corrected by the homes' clocks. `verify` judges the sender's certificate by
/// what the offer tells of the device log (empty when it holds none): [`DeviceCertificate::verify_in_log`] where a log is at
/// hand, else [`DeviceCertificate::verify`].
///
/// # Errors
/// One variant per reason not to ring.
pub fn open_offer(
    envelope: &[u8],
    registration: Registration<'_>,
    now_millis: u64,
    verify: impl FnOnce(&Offer) -> Result<VerifiedDevice, CertificateError>,
) -> Result<OpenedOffer, OpenError> {
    let keys = registration.keys;
    let opened = boxed::open(PURPOSE, keys, envelope, Offer::read)?;
    let offer = &opened.body;
    if offer.recipient != keys.id() {
        return Err(OpenError::WrongRecipient);
    }
    if offer.epoch != registration.epoch {
        return Err(OpenError::WrongEpoch);
    }
    let age = now_millis.saturating_sub(offer.sent_at_millis);
    if age > MAX_OFFER_AGE_MILLIS {
        return Err(OpenError::Stale(age));
    }
    let ahead = offer.sent_at_millis.saturating_sub(now_millis);
    if ahead > MAX_OFFER_AHEAD_MILLIS {
        return Err(OpenError::FromTheFuture(ahead));
    }
    let sender = verify(offer)?;
    opened.check(&sender)?;
    Ok(OpenedOffer {
        sender,
        offer: opened.body,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
    use sha2::{Digest, Sha256};

    use super::{
        super::xwing::{Ciphertext, SharedSecret},
        *,
    };
    use crate::identity::{CertificateFields, RootKey};

    const NOW: u64 = 1_800_000_000_000;
    const EPOCH: u64 = 0x1122_3344_5566_7788;
    const HEAD: LogPosition = LogPosition {
        n: 0,
        hash: [5; 32],
    };

    struct Party {
        root: RootKey,
        keys: DeviceKeys,
        certificate: DeviceCertificate,
    }

    fn seal_body(
        body: &[u8],
        keys: &DeviceKeys,
        to: &VerifiedSealKey,
        ciphertext: &Ciphertext,
        shared: &SharedSecret,
    ) -> Result<Vec<u8>, SealError> {
        boxed::seal(
            PURPOSE,
            body,
            keys,
            to,
            &(ciphertext.clone(), shared.clone()),
        )
    }

    fn body_of(offer: &Offer) -> Zeroizing<Vec<u8>> {
        body(offer, &offer.log)
    }

    fn party(seed: u8) -> Party {
        let root = RootKey::from_seed(&[seed; 32]);
        let keys = DeviceKeys::generate(&mut ChaCha20Rng::from_seed([seed; 32]), NOW);
        let certificate = DeviceCertificate::issue_by_root(
            CertificateFields::for_device(root.user(), &keys, HEAD, NOW),
            &root,
        );
        Party {
            root,
            keys,
            certificate,
        }
    }

    fn seal_key(party: &Party) -> VerifiedSealKey {
        party
            .keys
            .seal_key_record()
            .verify(NOW, party.keys.id())
            .unwrap()
    }

    fn offer(from: &Party, to: &Party) -> Offer {
        Offer {
            call_id: [1; 16],
            secret: SessionSecret::from_bytes([2; 32]),
            recipient: to.keys.id(),
            epoch: EPOCH,
            sequence: 7,
            sent_at_millis: NOW,
            log_head: HEAD,
            certificate: from.certificate.clone(),
            log: vec![],
            offer: b"voice".to_vec(),
            candidates: b"here".to_vec(),
        }
    }

    fn seal(offer: &Offer, from: &Party, to: &Party) -> Vec<u8> {
        seal_offer(
            offer,
            &from.keys,
            &seal_key(to),
            &mut ChaCha20Rng::from_seed([9; 32]),
        )
        .unwrap()
    }

    fn open_at(
        envelope: &[u8],
        to: &Party,
        epoch: u64,
        now: u64,
    ) -> Result<OpenedOffer, OpenError> {
        let registration = Registration {
            keys: &to.keys,
            epoch,
        };
        open_offer(envelope, registration, now, |offer| {
            let certificate = &offer.certificate;
            certificate.verify(now, certificate.fields().user)
        })
    }

    fn open(envelope: &[u8], to: &Party) -> Result<OpenedOffer, OpenError> {
        open_at(envelope, to, EPOCH, NOW)
    }

    #[test]
    fn an_offer_arrives_as_it_was_sent() {
        let (alice, bob) = (party(1), party(2));
        let sent = offer(&alice, &bob);
        let envelope = seal(&sent, &alice, &bob);
        assert_eq!(envelope.len(), 2048);
        let opened = open(&envelope, &bob).unwrap();
        assert_eq!(opened.offer, sent);
        assert_eq!(opened.sender.user(), alice.root.user());
        assert_eq!(opened.sender.device(), alice.keys.id());
    }

    #[test]
    fn nothing_in_an_envelope_tells_who_calls() {
        let (alice, bob) = (party(1), party(2));
        let envelope = seal(&offer(&alice, &bob), &alice, &bob);
        for secret in [
            alice.root.user().0.as_slice(),
            alice.keys.id().0.as_slice(),
            &alice.keys.noise_public(),
            &[2; 32],
        ] {
            assert!(
                !envelope
                    .windows(secret.len())
                    .any(|window| window == secret)
            );
        }
        eprintln!(
            "threat 17: 0 of 4 of the caller's keys in {} bytes",
            envelope.len()
        );
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (alice, bob) = (party(1), party(2));
        let envelope = seal(&offer(&alice, &bob), &alice, &bob);
        for at in (0..envelope.len()).step_by(31).chain(0..8) {
            let mut changed = envelope.clone();
            changed[at] ^= 0x80;
            assert!(open(&changed, &bob).is_err(), "byte {at}");
        }
    }

    #[test]
    fn each_reason_not_to_ring_has_its_name() {
        let (alice, bob, carol) = (party(1), party(2), party(3));
        let envelope = seal(&offer(&alice, &bob), &alice, &bob);
        assert_eq!(
            open_at(&envelope, &bob, EPOCH + 1, NOW),
            Err(OpenError::WrongEpoch)
        );
        assert!(open_at(&envelope, &bob, EPOCH, NOW + MAX_OFFER_AGE_MILLIS).is_ok());
        assert_eq!(
            open_at(&envelope, &bob, EPOCH, NOW + MAX_OFFER_AGE_MILLIS + 1),
            Err(OpenError::Stale(MAX_OFFER_AGE_MILLIS + 1))
        );
        assert!(open_at(&envelope, &bob, EPOCH, NOW - MAX_OFFER_AHEAD_MILLIS).is_ok());
        assert_eq!(
            open_at(&envelope, &bob, EPOCH, NOW - MAX_OFFER_AHEAD_MILLIS - 1),
            Err(OpenError::FromTheFuture(MAX_OFFER_AHEAD_MILLIS + 1))
        );
        assert_eq!(open(&envelope, &carol), Err(OpenError::Undecryptable));

        let mut other_key = envelope.clone();
        other_key[5] = 9;
        assert_eq!(open(&other_key, &bob), Err(OpenError::UnknownKey(9)));
        let mut newer = envelope;
        newer[0] = 2;
        assert_eq!(open(&newer, &bob), Err(OpenError::UnknownVersion(2)));

        let mut expired = offer(&alice, &bob);
        let fields = CertificateFields {
            not_after_millis: NOW,
            ..*alice.certificate.fields()
        };
        expired.certificate = DeviceCertificate::issue_by_root(fields, &alice.root);
        assert_eq!(
            open(&seal(&expired, &alice, &bob), &bob),
            Err(OpenError::Certificate(CertificateError::Expired))
        );
    }

    /// Bob is called by Alice and hands what he got to Carol, sealed anew.
    #[test]
    fn a_recipient_cannot_pass_an_offer_on_as_the_senders() {
        let (alice, bob, carol) = (party(1), party(2), party(3));
        let opened = open(&seal(&offer(&alice, &bob), &alice, &bob), &bob).unwrap();
        let (ciphertext, shared) = seal_key(&carol).public().encapsulate(&[4; 64]);
        // As it is: it names Bob.
        let body = body_of(&opened.offer);
        let passed_on =
            seal_body(&body, &bob.keys, &seal_key(&carol), &ciphertext, &shared).unwrap();
        assert_eq!(open(&passed_on, &carol), Err(OpenError::WrongRecipient));
        // Rewritten to name Carol: Alice did not sign that.
        let mut rewritten = opened.offer;
        rewritten.recipient = carol.keys.id();
        let body = body_of(&rewritten);
        let passed_on =
            seal_body(&body, &bob.keys, &seal_key(&carol), &ciphertext, &shared).unwrap();
        assert_eq!(open(&passed_on, &carol), Err(OpenError::BadSignature));
    }

    /// Who stole Bob's keys reads Bob's envelopes, but cannot ring Bob as Alice (no key-compromise
    /// impersonation), not even by sealing Alice's own offer again under another encapsulated key.
    #[test]
    fn a_thief_of_the_recipients_keys_cannot_call_as_somebody_else() {
        let (alice, bob, thief) = (party(1), party(2), party(3));
        let opened = open(&seal(&offer(&alice, &bob), &alice, &bob), &bob).unwrap();
        let (ciphertext, shared) = seal_key(&bob).public().encapsulate(&[4; 64]);
        let forged = seal_body(
            &body_of(&opened.offer),
            &thief.keys,
            &seal_key(&bob),
            &ciphertext,
            &shared,
        );
        assert_eq!(open(&forged.unwrap(), &bob), Err(OpenError::BadSignature));
        // The same by the sender's own hand opens: nothing else is wrong with it.
        let (ciphertext, shared) = seal_key(&bob).public().encapsulate(&[4; 64]);
        let honest = seal_body(
            &body_of(&opened.offer),
            &alice.keys,
            &seal_key(&bob),
            &ciphertext,
            &shared,
        );
        assert!(open(&honest.unwrap(), &bob).is_ok());
        eprintln!("threat 4: 0 of 1 forged offer opens, with all of the recipient's keys in hand");
    }

    #[test]
    fn what_does_not_belong_together_is_not_sealed() {
        let (alice, bob, carol) = (party(1), party(2), party(3));
        let rng = &mut ChaCha20Rng::from_seed([9; 32]);
        assert_eq!(
            seal_offer(&offer(&alice, &bob), &carol.keys, &seal_key(&bob), rng),
            Err(SealError::WrongSender)
        );
        assert_eq!(
            seal_offer(&offer(&alice, &bob), &alice.keys, &seal_key(&carol), rng),
            Err(SealError::WrongRecipient)
        );
        let mut long = offer(&alice, &bob);
        long.offer = vec![0; MAX_OFFER_PART + 1];
        assert_eq!(
            seal_offer(&long, &alice.keys, &seal_key(&bob), rng),
            Err(SealError::TooLarge)
        );
    }

    #[test]
    fn a_log_that_does_not_fit_is_left_out() {
        let (alice, bob) = (party(1), party(2));
        let mut with_log = offer(&alice, &bob);
        with_log.log = vec![3; MAX_OFFER_LOG];
        assert_eq!(
            open(&seal(&with_log, &alice, &bob), &bob)
                .unwrap()
                .offer
                .log,
            with_log.log
        );
        with_log.log.push(3);
        assert!(
            open(&seal(&with_log, &alice, &bob), &bob)
                .unwrap()
                .offer
                .log
                .is_empty()
        );
        with_log.log.pop();
        with_log.offer = vec![1; MAX_OFFER_PART];
        with_log.candidates = vec![1; 4096];
        let opened = open(&seal(&with_log, &alice, &bob), &bob).unwrap();
        assert!(opened.offer.log.is_empty());
        assert_eq!(opened.offer.candidates, with_log.candidates);
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let (alice, bob) = (party(1), party(2));
        let envelope = seal(&offer(&alice, &bob), &alice, &bob);
        assert_eq!(envelope[..6], [1, 0, 0, 0, 0, 1]);
        assert_eq!(
            z32::encode(&Sha256::digest(&envelope)),
            "xat3i936te4e8m7k8qyxmm4p447nttf7xt76fno491bjawiwbzho"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn offers_round_trip(
            call_id: [u8; 16], sequence: u64, log_n: u64,
            log in prop::collection::vec(any::<u8>(), 0..2000),
            body in prop::collection::vec(any::<u8>(), 0..2000),
            candidates in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let (alice, bob) = (party(1), party(2));
            let sent = Offer {
                call_id, sequence, log, offer: body, candidates,
                log_head: LogPosition { n: log_n, hash: [8; 32] },
                ..offer(&alice, &bob)
            };
            let envelope = seal(&sent, &alice, &bob);
            prop_assert!(super::super::SIZE_CLASSES.contains(&envelope.len()));
            prop_assert_eq!(open(&envelope, &bob).unwrap().offer, sent);
        }

        #[test]
        fn garbage_does_not_ring(mut bytes in prop::collection::vec(any::<u8>(), 0..2100), fit: bool) {
            let bob = party(2);
            if fit {
                bytes.resize(2048, 0);
                bytes[..6].copy_from_slice(&[1, 0, 0, 0, 0, 1]);
            }
            prop_assert!(open(&bytes, &bob).is_err());
        }

        /// What a certified but hostile sender can put inside.
        #[test]
        fn garbage_inside_a_proper_box_does_not_ring(body in prop::collection::vec(any::<u8>(), 0..800), start: bool) {
            let (alice, bob) = (party(1), party(2));
            let mut inside = body;
            if start {
                let whole = body_of(&offer(&alice, &bob));
                inside = whole[..inside.len() % whole.len()].to_vec();
            }
            let (ciphertext, shared) = seal_key(&bob).public().encapsulate(&[4; 64]);
            let envelope = seal_body(&inside, &alice.keys, &seal_key(&bob), &ciphertext, &shared).unwrap();
            prop_assert!(open(&envelope, &bob).is_err());
        }
    }
}
