//! Who we are: a person's root key, this device's keys, and the log that ties them together.
//!
//! Keys, certificates, the device log and invites are in [`ahoy_transport::identity`]; here is what a person
//! does with them: write the root down as [24 words](words), compare [safety words](safety_words) with
//! somebody, [judge] whom somebody claims to be, and keep it all as one [`Identity`].

use std::fmt;

use ahoy_transport::{
    identity::{
        CertificateError, CertificateFields, DeviceCertificate, DeviceId, DeviceKeys, DeviceSet,
        NodeKeys, RootKey, UserId, VerifiedDevice,
        log::{DeviceLog, LogError, LogOp, LogRelation, LogSigner},
    },
    wire::{Reader, WireError, Writer},
};
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

pub mod compare;
mod judge;
mod safety;
mod words;

pub use judge::{Claim, ClaimError, Judged, judge};
pub use safety::{SAFETY_WORDS, compared_session, safety_words};
pub use words::{WORDS, WordsError, root_from_words, words};

const VERSION: u8 = 1;
/// Longest secret of one kind in an identity, in bytes.
const MAX_SECRET_LEN: usize = 1024;

/// Why an identity cannot be used or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The stored identity is damaged.
    #[error("the stored identity cannot be read: {0}")]
    Malformed(WireError),
    /// Made by a newer program.
    #[error("the stored identity has version {0}, which this program does not know; update ahoy")]
    UnknownVersion(u8),
    /// Its device log is not valid.
    #[error("the stored identity: {0}")]
    Log(#[from] LogError),
    /// Its certificate is not valid.
    #[error("the stored identity: {0}")]
    Certificate(#[from] CertificateError),
    /// The words belong to another person than the log.
    #[error("these words are not the root key of that device log")]
    WrongRoot,
    /// A log to be taken in does not continue the one known here.
    #[error("that device log does not continue the one that this device knows")]
    NotNewer,
}

impl From<WireError> for IdentityError {
    fn from(error: WireError) -> Self {
        error.by_version(Self::UnknownVersion, Self::Malformed)
    }
}

/// Everything this device is. Secrets are wiped when dropped.
#[derive(Clone)]
pub struct Identity {
    /// The person's root key, where this device holds it.
    root: Option<RootKey>,
    device: DeviceKeys,
    /// This machine in its supernode role: nothing ties it to the person.
    node: NodeKeys,
    log: DeviceLog,
    certificate: DeviceCertificate,
}

impl Identity {
    /// A new person with this as the only device. `now_millis` is Unix time.
    #[must_use]
    pub fn create(rng: &mut dyn CryptoRngCore, now_millis: u64) -> Self {
        Self::start_over(RootKey::generate(rng), rng, now_millis)
    }

    /// The person of a root key, with a new log that has this as the only device.
    ///
    /// Somebody who had a log before should [`join`](Self::join) it instead: contacts that know the old one
    /// are shown a fork and warned, as they should be.
    #[must_use]
    pub fn start_over(root: RootKey, rng: &mut dyn CryptoRngCore, now_millis: u64) -> Self {
        let device = DeviceKeys::generate(rng, now_millis);
        let log = DeviceLog::create(&root, &device, now_millis);
        let fields = CertificateFields::for_device(log.user(), &device, log.head(), now_millis);
        let certificate = DeviceCertificate::issue_by_root(fields, &root);
        Self {
            root: Some(root),
            device,
            node: NodeKeys::generate(rng),
            log,
            certificate,
        }
    }

    /// Joins a log with new device keys, by the root key at its head.
    ///
    /// # Errors
    /// [`IdentityError::WrongRoot`] when the log is not that root's, and when the log is full.
    pub fn join(
        root: RootKey,
        mut log: DeviceLog,
        rng: &mut dyn CryptoRngCore,
        now_millis: u64,
    ) -> Result<Self, IdentityError> {
        if *log.root() != root.user().0 {
            return Err(IdentityError::WrongRoot);
        }
        let device = DeviceKeys::generate(rng, now_millis);
        let op = LogOp::AddDevice {
            device: device.id(),
            noise_static: device.noise_public(),
            sealed_name: vec![],
        };
        log.append(op, LogSigner::Root(&root), now_millis)?;
        let fields = CertificateFields::for_device(log.user(), &device, log.head(), now_millis);
        let certificate = DeviceCertificate::issue_by_root(fields, &root);
        Ok(Self {
            root: Some(root),
            device,
            node: NodeKeys::generate(rng),
            log,
            certificate,
        })
    }

    /// A device that another one of the person let in: it holds `device`, which is in `log`, and the root key only if it
    /// was given that.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] when the log has no such device, [`IdentityError::WrongRoot`] when the root is not
    /// the log's.
    pub fn paired(
        root: Option<RootKey>,
        device: DeviceKeys,
        log: DeviceLog,
        rng: &mut dyn CryptoRngCore,
        now_millis: u64,
    ) -> Result<Self, IdentityError> {
        if !log.has_device(device.id(), &device.noise_public()) {
            return Err(CertificateError::NotInLog.into());
        }
        if let Some(root) = &root
            && *log.root() != root.user().0
        {
            return Err(IdentityError::WrongRoot);
        }
        let fields = CertificateFields::for_device(log.user(), &device, log.head(), now_millis);
        let certificate = match &root {
            Some(root) => DeviceCertificate::issue_by_root(fields, root),
            None => DeviceCertificate::issue_by_device(fields, &device),
        };
        Ok(Self {
            root,
            device,
            node: NodeKeys::generate(rng),
            log,
            certificate,
        })
    }

    /// The person.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.log.user()
    }

    /// The root key, where this device holds it.
    #[must_use]
    pub fn root(&self) -> Option<&RootKey> {
        self.root.as_ref()
    }

    /// This device's keys.
    #[must_use]
    pub fn device(&self) -> &DeviceKeys {
        &self.device
    }

    /// This machine's key as a supernode.
    #[must_use]
    pub fn node(&self) -> &NodeKeys {
        &self.node
    }

    /// The person's device log, as far as this device knows.
    #[must_use]
    pub fn log(&self) -> &DeviceLog {
        &self.log
    }

    /// This device's certificate.
    #[must_use]
    pub fn certificate(&self) -> &DeviceCertificate {
        &self.certificate
    }

    /// Whether this device is still in the person's log.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.log
            .has_device(self.device.id(), &self.device.noise_public())
    }

    /// The signer for entries and invites: the root where it is held and current, else this device.
    #[must_use]
    pub fn signer(&self) -> LogSigner<'_> {
        match self.current_root() {
            Some(root) => LogSigner::Root(root),
            None => LogSigner::Device(&self.device),
        }
    }

    fn current_root(&self) -> Option<&RootKey> {
        self.root
            .as_ref()
            .filter(|root| *self.log.root() == root.user().0)
    }

    /// Adds an entry to the log and renews the certificate for the new head.
    ///
    /// # Errors
    /// When the change makes no sense, or nobody here is entitled to it.
    pub fn append(&mut self, op: LogOp, now_millis: u64) -> Result<(), IdentityError> {
        let mut log = self.log.clone();
        log.append(op, self.signer(), now_millis)?;
        self.log = log;
        self.certify(now_millis);
        Ok(())
    }

    /// Takes in what the person's other devices have added to the log, and renews the certificate.
    ///
    /// # Errors
    /// [`IdentityError::NotNewer`] when `log` does not continue ours.
    pub fn adopt(&mut self, log: DeviceLog, now_millis: u64) -> Result<(), IdentityError> {
        match self.log.compare(&log) {
            LogRelation::Extends => {
                self.log = log;
                self.certify(now_millis);
                Ok(())
            }
            LogRelation::Same
            | LogRelation::Rollback
            | LogRelation::Fork(_)
            | LogRelation::OtherUser => Err(IdentityError::NotNewer),
        }
    }

    /// Lets a new root key take over.
    ///
    /// # Errors
    /// When this device does not hold the current one.
    pub fn rotate_root(&mut self, new_root: RootKey, now_millis: u64) -> Result<(), IdentityError> {
        let op = self.log.rotate_root(&new_root);
        let mut log = self.log.clone();
        log.append(op, self.signer(), now_millis)?;
        self.log = log;
        self.root = Some(new_root);
        self.certify(now_millis);
        Ok(())
    }

    /// Takes new keys for this device: they join the log, and the old ones leave it for good. Whatever still waits
    /// somewhere for the old ones is lost. Returns the old device's id.
    ///
    /// # Errors
    /// When the log is full, or this device is no longer in it.
    pub fn rotate_device(
        &mut self,
        rng: &mut dyn CryptoRngCore,
        now_millis: u64,
    ) -> Result<DeviceId, IdentityError> {
        let keys = DeviceKeys::generate(rng, now_millis);
        let old = self.device.id();
        let mut log = self.log.clone();
        let add = LogOp::AddDevice {
            device: keys.id(),
            noise_static: keys.noise_public(),
            sealed_name: vec![],
        };
        log.append(add, self.signer(), now_millis)?;
        let mut changed = Self {
            device: keys,
            log,
            ..self.clone()
        };
        changed.append(LogOp::RevokeDevice(old), now_millis)?;
        *self = changed;
        Ok(old)
    }

    /// Does what time asks for: renews the certificate and rotates the seal key. Returns whether anything
    /// changed: then save the identity before publishing it.
    #[must_use = "a changed identity has to be saved"]
    pub fn refresh(&mut self, now_millis: u64, rng: &mut dyn CryptoRngCore) -> bool {
        let rotated = self.device.rotate_seal_key(now_millis, rng);
        let renew = self.certificate.needs_renewal(now_millis, self.log.head());
        if renew {
            self.certify(now_millis);
        }
        rotated || renew
    }

    fn certify(&mut self, now_millis: u64) {
        let fields =
            CertificateFields::for_device(self.user(), &self.device, self.log.head(), now_millis);
        self.certificate = match self.current_root() {
            Some(root) => DeviceCertificate::issue_by_root(fields, root),
            None => DeviceCertificate::issue_by_device(fields, &self.device),
        };
    }

    /// This device as others will see it.
    ///
    /// # Errors
    /// When they will not accept it: the certificate expired, or the device was revoked.
    pub fn verified(&self, now_millis: u64) -> Result<VerifiedDevice, CertificateError> {
        self.certificate
            .verify_in_log(now_millis, self.user(), &self.log)
    }

    /// Everything, secrets included:
    ///
    /// ```text
    /// | ver=1 | u8 0, or u8 1 and root seed (32) | device secrets | node secret | log | certificate |
    ///                                              each: u32 length, bytes
    /// ```
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (device, node) = (self.device.to_secret_bytes(), self.node.to_secret_bytes());
        let (log, certificate) = (self.log.to_bytes(), self.certificate.as_bytes());
        // Large enough from the start: growing would leave copies behind.
        let room = 64 + 16 + device.len() + node.len() + log.len() + certificate.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        bytes.put_u8(VERSION);
        match &self.root {
            None => bytes.put_u8(0),
            Some(root) => {
                bytes.put_u8(1);
                bytes.put_bytes(&*root.seed());
            }
        }
        for part in [&device[..], &node[..], &log, certificate] {
            bytes.put_u32(u32::try_from(part.len()).expect("a log has at most 256 KiB"));
            bytes.put_bytes(part);
        }
        bytes
    }

    /// Reads what [`Identity::to_secret_bytes`] wrote. The certificate may have expired meanwhile.
    ///
    /// # Errors
    /// When the bytes are damaged or of another version.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(IdentityError::UnknownVersion(other)),
        }
        let root = match reader.u8()? {
            0 => None,
            1 => {
                let seed: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
                Some(RootKey::from_seed(&seed))
            }
            _undefined => return Err(WireError::Undefined.into()),
        };
        let device = DeviceKeys::from_secret_bytes(part(&mut reader, MAX_SECRET_LEN)?)?;
        let node = NodeKeys::from_secret_bytes(part(&mut reader, MAX_SECRET_LEN)?)?;
        let log = part(&mut reader, ahoy_transport::identity::log::MAX_LOG_LEN)?;
        let certificate = DeviceCertificate::from_bytes(part(&mut reader, MAX_SECRET_LEN)?)?;
        reader.finish()?;
        let log = DeviceLog::from_bytes(certificate.fields().user, log)?;
        if certificate.fields().device != device.id() {
            return Err(WireError::Undefined.into());
        }
        Ok(Self {
            root,
            device,
            node,
            log,
            certificate,
        })
    }
}

fn part<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a [u8], WireError> {
    let len = usize::try_from(reader.u32()?).map_err(|_too_large| WireError::TooLong)?;
    if len > max {
        Err(WireError::TooLong)
    } else {
        reader.bytes(len)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user())
            .field("device", &self.device.id())
            .field("has_root", &self.root.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::Issuer;
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const DAY: u64 = 86_400_000;

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    #[test]
    fn a_new_identity_proves_itself_to_strangers() {
        let identity = Identity::create(&mut rng(1), NOW);
        assert!(identity.certificate().verify(NOW, identity.user()).is_ok());
        assert!(identity.verified(NOW).is_ok());
        assert!(identity.is_member());
    }

    #[test]
    fn a_year_of_refreshing_leaves_no_gap() {
        let mut rng = rng(1);
        let mut identity = Identity::create(&mut rng, NOW);
        let mut changes = 0;
        for day in 0..365 {
            let now = NOW + day * DAY;
            changes += u32::from(identity.refresh(now, &mut rng));
            assert!(identity.verified(now).is_ok(), "day {day}");
            let record = identity.device().seal_key_record();
            assert!(
                record.verify(now, identity.device().id()).is_ok(),
                "day {day}"
            );
        }
        assert!((52..=160).contains(&changes), "{changes} changes in a year");
    }

    #[test]
    fn the_same_person_on_a_second_device() {
        let mut rng = rng(1);
        let first = Identity::create(&mut rng, NOW);
        let words = words(first.root().unwrap());
        let root = root_from_words(&words).unwrap();
        let second = Identity::join(root, first.log().clone(), &mut rng, NOW + 1).unwrap();
        assert_eq!(second.user(), first.user());
        assert_ne!(second.device().id(), first.device().id());
        assert_eq!(second.log().devices().len(), 2);
        assert!(second.verified(NOW + 1).is_ok());
        let stranger = Identity::create(&mut rng, NOW);
        assert!(matches!(
            Identity::join(
                stranger.root().unwrap().clone(),
                first.log().clone(),
                &mut rng,
                NOW
            ),
            Err(IdentityError::WrongRoot)
        ));
    }

    #[test]
    fn a_device_without_the_root_speaks_for_itself_through_the_log() {
        let mut identity = Identity::create(&mut rng(1), NOW);
        identity.root = None;
        identity.certify(NOW);
        assert_eq!(
            identity.certificate().issuer(),
            Issuer::Device(identity.device().id())
        );
        assert!(identity.verified(NOW).is_ok());
        identity.append(LogOp::SetHomes(vec![]), NOW).unwrap();
        assert!(identity.verified(NOW).is_ok());
        let new_root = RootKey::generate(&mut rng(2));
        assert!(
            identity.rotate_root(new_root, NOW).is_err(),
            "only the root rotates the root"
        );
    }

    #[test]
    fn a_rotated_root_goes_on_under_the_old_name() {
        let mut identity = Identity::create(&mut rng(1), NOW);
        let user = identity.user();
        let new_root = RootKey::generate(&mut rng(2));
        identity.rotate_root(new_root.clone(), NOW).unwrap();
        assert_eq!(identity.user(), user);
        assert!(identity.verified(NOW).is_ok());
        identity.append(LogOp::SetHomes(vec![]), NOW).unwrap();
        let again = Identity::join(new_root, identity.log().clone(), &mut rng(3), NOW).unwrap();
        assert_eq!(again.user(), user);
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let identity = Identity::create(&mut rng(1), NOW);
        let bytes = identity.to_secret_bytes();
        assert_eq!(bytes[..2], [1, 1]);
        assert_eq!(bytes[2..34], *identity.root().unwrap().seed());
        assert_eq!(bytes[34..38], 110u32.to_be_bytes(), "device secrets");
        assert_eq!(bytes[148..152], 33u32.to_be_bytes(), "node secret");
        assert_eq!(
            bytes.len(),
            34 + 4 + 110 + 4 + 33 + 4 + identity.log().to_bytes().len() + 4 + 218
        );
    }

    #[test]
    fn debug_tells_no_secret() {
        let identity = Identity::create(&mut rng(1), NOW);
        let text = format!("{identity:?}");
        assert!(text.len() < 160, "{text}");
    }

    proptest! {
        #[test]
        fn identities_round_trip(seed: u8, with_root: bool) {
            let mut identity = Identity::create(&mut rng(seed), NOW);
            if !with_root {
                identity.root = None;
            }
            let bytes = identity.to_secret_bytes();
            let again = Identity::from_secret_bytes(&bytes).unwrap();
            prop_assert_eq!(again.to_secret_bytes(), bytes);
            prop_assert_eq!(again.root().is_some(), with_root);
        }

        #[test]
        fn damage_is_an_error(cut: prop::sample::Index, garbage: Vec<u8>) {
            let bytes = Identity::create(&mut rng(1), NOW).to_secret_bytes();
            prop_assert!(Identity::from_secret_bytes(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert!(Identity::from_secret_bytes(&garbage).is_err());
        }
    }
}
