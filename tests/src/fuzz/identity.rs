//! Certificates, logs, seal keys, invites, and what is sealed.

use std::sync::OnceLock;

use ahoy::chat::{
    clean_text,
    note::{Note, Says},
};
use ahoy_nat::discovery::{
    heads,
    record::{self, Record, RecordCache},
    rendezvous::Network,
};
use ahoy_transport::{
    identity::{
        CertificateFields, DeviceCertificate, DeviceKeys, DeviceSet, Invite, InviteProof, RootKey,
        SealKeyRecord, UserId,
        log::{DeviceLog, ForkProof, LogOp, LogSigner},
    },
    sealed::{
        CallEnvelopes, EnvelopeKind, Letter, MAX_LETTER_BODY, MAX_OFFER_PART, Offer, OfferGuard,
        Registration, Role, SIZE_CLASSES, SessionSecret, open_letter, open_offer, seal_letter,
        seal_offer,
    },
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::turn::origin;

pub(super) const NOW_MILLIS: u64 = 1_767_225_600_000;
pub(super) const EPOCH: u64 = 7;

/// A person with two devices, always the same.
pub(super) struct Fixture {
    pub(super) root: RootKey,
    pub(super) keys: DeviceKeys,
    pub(super) second: DeviceKeys,
    /// With both devices.
    pub(super) log: DeviceLog,
    /// Another second entry, to make a fork.
    pub(super) fork: DeviceLog,
    pub(super) certificate: DeviceCertificate,
}

impl Fixture {
    pub(super) fn user(&self) -> UserId {
        self.log.user()
    }

    pub(super) fn rng() -> ChaCha20Rng {
        ChaCha20Rng::from_seed([7; 32])
    }

    pub(super) fn secret() -> SessionSecret {
        SessionSecret::from_bytes([5; 32])
    }

    pub(super) fn offer(&self, offer: &[u8], candidates: &[u8]) -> Offer {
        Offer {
            call_id: [1; 16],
            secret: Self::secret(),
            recipient: self.keys.id(),
            epoch: EPOCH,
            sequence: 1,
            sent_at_millis: NOW_MILLIS,
            log_head: self.log.head(),
            certificate: self.certificate.clone(),
            log: self.log.to_bytes(),
            offer: offer.to_vec(),
            candidates: candidates.to_vec(),
        }
    }

    /// Sealed by the person's device to itself, which nothing forbids at this level.
    pub(super) fn seal(&self, offer: &Offer) -> Option<Vec<u8>> {
        let to = SealKeyRecord::issue(&self.keys)
            .verify(NOW_MILLIS, self.keys.id())
            .expect("its own record");
        seal_offer(offer, &self.keys, &to, &mut Self::rng()).ok()
    }

    /// A letter of the person's device to itself.
    pub(super) fn letter(&self, body: &[u8]) -> Vec<u8> {
        let letter = Letter {
            id: [2; 16],
            recipient: self.keys.id(),
            sealed_at_millis: NOW_MILLIS,
            log_head: self.log.head(),
            certificate: self.certificate.clone(),
            log: self.log.to_bytes(),
            body: body.to_vec(),
        };
        let to = SealKeyRecord::issue(&self.keys)
            .verify(NOW_MILLIS, self.keys.id())
            .expect("its own record");
        seal_letter(&letter, &self.keys, &to, &mut Self::rng()).expect("it fits")
    }
}

pub(super) fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let mut rng = Fixture::rng();
        let root = RootKey::generate(&mut rng);
        let keys = DeviceKeys::generate(&mut rng, NOW_MILLIS);
        let second = DeviceKeys::generate(&mut rng, NOW_MILLIS);
        let mut log = DeviceLog::create(&root, &keys, NOW_MILLIS);
        let mut fork = log.clone();
        let op = LogOp::AddDevice {
            device: second.id(),
            noise_static: second.noise_public(),
            sealed_name: b"sealed".to_vec(),
        };
        log.append(op, LogSigner::Root(&root), NOW_MILLIS)
            .expect("a device is added");
        fork.append(LogOp::SetHomes(vec![]), LogSigner::Root(&root), NOW_MILLIS)
            .expect("homes are set");
        let fields = CertificateFields::for_device(log.user(), &keys, log.head(), NOW_MILLIS);
        let certificate = DeviceCertificate::issue_by_root(fields, &root);
        Fixture {
            root,
            keys,
            second,
            log,
            fork,
            certificate,
        }
    })
}

/// A device certificate, read and judged.
pub fn device_certificate(bytes: &[u8]) {
    let fixture = fixture();
    if let Ok(certificate) = DeviceCertificate::from_bytes(bytes) {
        assert_eq!(certificate.as_bytes(), bytes);
        let user = certificate.fields().user;
        let alone = certificate.verify(NOW_MILLIS, user);
        if alone.is_ok() {
            assert!(certificate.verify_without_issuer(NOW_MILLIS).is_ok());
        }
        if let Ok(device) = certificate.verify_in_log(NOW_MILLIS, fixture.user(), &fixture.log) {
            assert_eq!(device.device(), certificate.fields().device);
            assert_eq!(device.user(), fixture.user());
        }
    }
}

/// A published seal key.
pub fn seal_key_record(bytes: &[u8]) {
    if let Ok(record) = SealKeyRecord::from_bytes(bytes) {
        assert_eq!(record.as_bytes(), bytes);
        if let Ok(key) = record.verify(NOW_MILLIS, fixture().keys.id()) {
            assert_eq!(key.device(), record.device());
        }
    }
}

/// Where a person is to be found.
pub fn person_record(bytes: &[u8]) {
    if let Ok(record) = Record::from_bytes(bytes) {
        assert_eq!(record.as_bytes(), bytes);
        let nobody = heads::support(&record, |_node| None);
        assert_eq!(nobody, 0);
        let _signed = heads::support(&record, |_node| Some(Network::V4([1, 2])));
        let user = record.fields().user;
        if record.verify(user, NOW_MILLIS).is_ok() {
            let mut cache = RecordCache::new(1);
            assert_eq!(cache.offer(&record, user, NOW_MILLIS), Ok(true));
            assert_eq!(cache.current(user, NOW_MILLIS), Some(&record));
        }
        // A sealed part of somebody else's making.
        assert_eq!(record::open(&[1; 32], record.fields()), None);
    }
}

/// A device log, which is verified as it is read.
pub fn device_log(bytes: &[u8]) {
    let fixture = fixture();
    if let Ok(log) = DeviceLog::from_bytes(fixture.user(), bytes) {
        assert_eq!(log.to_bytes(), bytes);
        // Whatever was signed stands in one of these relations, in both directions.
        let there = fixture.log.compare(&log);
        let back = log.compare(&fixture.log);
        assert_eq!(
            matches!(there, ahoy_transport::identity::log::LogRelation::Same),
            matches!(back, ahoy_transport::identity::log::LogRelation::Same)
        );
    }
}

/// A proof that somebody signed two histories.
pub fn fork_proof(bytes: &[u8]) {
    if let Ok(proof) = ForkProof::from_bytes(bytes) {
        assert_eq!(proof.as_bytes(), bytes);
    }
}

/// Invites as they stand in links and profiles, and what a guest shows of one.
pub fn invite(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(invite) = text.parse::<Invite>()
    {
        assert_eq!(invite.to_string(), text);
    }
    if let Ok(invite) = Invite::from_secret_bytes(bytes) {
        assert_eq!(&invite.to_secret_bytes()[..], bytes);
    }
    if let Ok(proof) = InviteProof::from_bytes(bytes) {
        assert_eq!(proof.to_bytes(), bytes);
    }
}

/// An envelope from a stranger; and an honest offer whose parts the bytes are, which must come through whole.
pub fn sealed_offer(bytes: &[u8]) {
    let fixture = fixture();
    let registration = Registration {
        keys: &fixture.keys,
        epoch: EPOCH,
    };
    let open = |envelope: &[u8]| {
        open_offer(envelope, registration, NOW_MILLIS, |offer| {
            let certificate = &offer.certificate;
            match DeviceLog::from_bytes(fixture.user(), &offer.log) {
                Ok(log) => certificate.verify_in_log(NOW_MILLIS, fixture.user(), &log),
                Err(_none) => certificate.verify(NOW_MILLIS, fixture.user()),
            }
        })
    };
    for envelope in at_size_classes(bytes) {
        if let Ok(opened) = open(&envelope) {
            assert_eq!(opened.offer.recipient, fixture.keys.id());
        }
    }
    let (offer, candidates) = bytes.split_at(bytes.len() / 2);
    let part = |bytes: &[u8]| bytes[..bytes.len().min(MAX_OFFER_PART)].to_vec();
    let offer = fixture.offer(&part(offer), &part(candidates));
    if let Some(envelope) = fixture.seal(&offer) {
        let opened = open(&envelope).expect("honest");
        assert_eq!(opened.offer.offer, offer.offer);
        assert_eq!(opened.offer.candidates, offer.candidates);
    }
}

/// A letter from a stranger and what is inside one; and an honest letter whose body the bytes are, which must come
/// through whole.
pub fn letter(bytes: &[u8]) {
    let fixture = fixture();
    let open = |envelope: &[u8]| {
        open_letter(envelope, &fixture.keys, NOW_MILLIS, |letter| {
            let certificate = &letter.certificate;
            match DeviceLog::from_bytes(fixture.user(), &letter.log) {
                Ok(log) => certificate.verify_in_log(NOW_MILLIS, fixture.user(), &log),
                Err(_none) => certificate.verify(NOW_MILLIS, fixture.user()),
            }
        })
    };
    for envelope in at_size_classes(bytes) {
        if let Ok(opened) = open(&envelope) {
            assert_eq!(opened.letter.recipient, fixture.keys.id());
        }
    }
    let body = &bytes[..bytes.len().min(MAX_LETTER_BODY)];
    let opened = open(&fixture.letter(body)).expect("honest");
    assert_eq!(opened.letter.body, body);
    if let Ok(note) = Note::decode(bytes) {
        assert_eq!(Note::decode(&note.encode()), Ok(note.clone()));
        if let Says::Text(text) = &note.says {
            let clean = clean_text(text);
            assert_eq!(clean_text(&clean), clean);
        }
    }
}

/// An envelope for a call under way, and an honest message that must come through once.
pub fn follow_up(bytes: &[u8]) {
    let secret = Fixture::secret();
    let mut callee = CallEnvelopes::new(&secret, &[1; 16], Role::Callee);
    let mut guard = OfferGuard::new();
    for envelope in at_size_classes(bytes) {
        match EnvelopeKind::of(&envelope) {
            Ok(EnvelopeKind::FollowUp(tag)) => {
                guard.hold(origin(), tag, &envelope);
                if callee.open(&envelope).is_ok() {
                    assert_eq!(tag, callee.tag());
                    assert!(callee.open(&envelope).is_err(), "it opens once");
                }
            }
            Ok(EnvelopeKind::Offer | EnvelopeKind::Letter) => {
                assert!(callee.open(&envelope).is_err());
            }
            Err(error) => {
                let refused = callee.open(&envelope).expect_err("no envelope");
                assert!(!refused.to_string().is_empty() && !error.to_string().is_empty());
            }
        }
    }
    let mut caller = CallEnvelopes::new(&secret, &[1; 16], Role::Caller);
    let mut callee = CallEnvelopes::new(&secret, &[1; 16], Role::Callee);
    if let Ok(envelope) = caller.seal(bytes) {
        assert_eq!(callee.open(&envelope).as_deref(), Ok(bytes));
    }
}

/// The bytes as they are, and stretched or cut to the next size class: any other length is refused at once.
fn at_size_classes(bytes: &[u8]) -> [Vec<u8>; 2] {
    let class = SIZE_CLASSES
        .into_iter()
        .find(|class| *class >= bytes.len())
        .unwrap_or(SIZE_CLASSES[SIZE_CLASSES.len() - 1]);
    let mut sized = bytes.to_vec();
    sized.resize(class, 0);
    [bytes.to_vec(), sized]
}
