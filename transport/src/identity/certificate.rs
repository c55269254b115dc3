//! Device certificates: who says that a device is a person's.
//!
//! A certificate names the device's two public keys, when it may be used, and the place in the person's
//! device log at which it was issued. The person's first root key, which *is* the [`UserId`], makes
//! certificates that prove themselves. Those made by a device, or by a later root, need the log that tells
//! who may speak for the person: [`DeviceCertificate::verify_in_log`]. Whoever has the log uses it in any
//! case, for it also knows which devices were revoked.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::fmt;

use x25519_dalek::{PublicKey, StaticSecret};

use super::{
    DeviceId, ID_LEN, UserId,
    device::DeviceKeys,
    root::RootKey,
    signature::{Domain, SIGNATURE_LEN, verify_signature},
};
use crate::wire::{Reader, WireError, Writer};

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// How long a new certificate is valid. Short enough that a device taken out of the log is shut out by
/// those who cannot fetch the log, too.
pub const CERTIFICATE_LIFETIME_MILLIS: u64 = 30 * DAY_MILLIS;
/// Age at which a device renews its certificate.
pub const CERTIFICATE_RENEWAL_MILLIS: u64 = 7 * DAY_MILLIS;
/// How far a new certificate reaches back, so that peers with a slow clock accept it at once.
pub const CERTIFICATE_BACKDATE_MILLIS: u64 = DAY_MILLIS;
/// Length of the longest certificate, in bytes.
pub const MAX_CERTIFICATE_LEN: usize = UNSIGNED_LEN + ID_LEN + SIGNATURE_LEN;

const VERSION: u8 = 1;
const DOMAIN: Domain = Domain::new("ahoy/1 device certificate");
const UNSIGNED_LEN: usize = 1 + 3 * ID_LEN + 8 + 8 + 8 + 32 + 1;
const ISSUER_USER: u8 = 0;
const ISSUER_ROOT: u8 = 1;
const ISSUER_DEVICE: u8 = 2;

/// A place in a device log: the entry's number, counted from 0, and its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// The entry's number.
    pub n: u64,
    /// The entry's SHA-256, see the device log.
    pub hash: [u8; 32],
}

impl fmt::Debug for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = z32::encode(&self.hash);
        write!(
            f,
            "LogPosition({} {}…)",
            self.n,
            hash.get(..8).unwrap_or(&hash)
        )
    }
}

/// Who signed a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// The root key that the user id names.
    User,
    /// The root key that the log rotated to.
    Root([u8; ID_LEN]),
    /// A device in the log, possibly the certified one itself: then the log alone vouches for it.
    Device(DeviceId),
}

/// What a certificate's check needs to know of a person's device log.
pub trait DeviceSet {
    /// Whose log it is.
    fn user(&self) -> UserId;
    /// Whether the log holds this entry at this place.
    fn contains(&self, position: LogPosition) -> bool;
    /// Whether, at the head, the device is in the set with this Noise static key.
    fn has_device(&self, device: DeviceId, noise_static: &[u8; 32]) -> bool;
    /// Whether, at the head, this key may certify devices.
    fn may_issue(&self, issuer: Issuer) -> bool;
}

/// Why a certificate does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("the certificate cannot be read: {0}")]
    Malformed(WireError),
    /// Made by a newer program.
    #[error("the certificate has version {0}, which this program does not know; update ahoy")]
    UnknownVersion(u8),
    /// It is another person's.
    #[error("the certificate belongs to another person")]
    WrongUser,
    /// The signature does not match the issuer.
    #[error("the certificate's signature is wrong")]
    WrongSignature,
    /// Its time is over.
    #[error("the certificate expired; the device has to renew it")]
    Expired,
    /// Its time has not come: one of the two clocks is wrong.
    #[error("the certificate is not valid yet; one of the two clocks is wrong")]
    NotYetValid,
    /// The Noise key is a point of small order: it would agree on the same secret with everybody.
    #[error("the certificate names an unusable Noise key")]
    UnusableKey,
    /// The device, or the issuer, is not in the log: never added, or revoked.
    #[error("the device is not, or no longer, one of this person's devices")]
    NotInLog,
    /// The log at hand lacks the entry at which the certificate was issued: the log is older, or forked.
    #[error("the certificate was issued in another state of the person's device log")]
    UnknownLogPosition,
}

impl From<WireError> for CertificateError {
    fn from(error: WireError) -> Self {
        error.by_version(Self::UnknownVersion, Self::Malformed)
    }
}

/// What a certificate says, before anybody signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateFields {
    /// The person.
    pub user: UserId,
    /// The device's signing key.
    pub device: DeviceId,
    /// The device's Noise static public key (X25519).
    pub noise_static: [u8; 32],
    /// First valid millisecond (Unix).
    pub not_before_millis: u64,
    /// First millisecond at which it is no longer valid (Unix).
    pub not_after_millis: u64,
    /// The head of the person's device log when this was issued.
    pub log: LogPosition,
}

impl CertificateFields {
    /// A certificate's fields with the usual lifetime around `now_millis` (Unix).
    #[must_use]
    pub fn for_device(user: UserId, keys: &DeviceKeys, log: LogPosition, now_millis: u64) -> Self {
        Self {
            user,
            device: keys.id(),
            noise_static: keys.noise_public(),
            not_before_millis: now_millis.saturating_sub(CERTIFICATE_BACKDATE_MILLIS),
            not_after_millis: now_millis.saturating_add(CERTIFICATE_LIFETIME_MILLIS),
            log,
        }
    }
}

/// A signed statement that a device is a person's.
///
/// ```text
/// 0       1      33       65             97           105         113     121        153      154              n
/// | ver=1 | user | device | noise static | not before | not after | log n | log hash | issuer | issuer key     | signature |
/// | u8    | 32   | 32     | 32           | u64 ms     | u64 ms    | u64   | 32       | u8     | 32, not for 0  | 64        |
/// ```
/// Issuer: 0 the user id's own key, 1 a later root key, 2 a device. The signature covers everything before
/// it, in the domain `ahoy/1 device certificate`. 218 or 250 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    bytes: Vec<u8>,
    fields: CertificateFields,
    issuer: Issuer,
}

impl DeviceCertificate {
    /// Issues a certificate under a root key: the user's own, or the one its log rotated to.
    #[must_use]
    pub fn issue_by_root(fields: CertificateFields, root: &RootKey) -> Self {
        let issuer = if root.user() == fields.user {
            Issuer::User
        } else {
            Issuer::Root(root.user().0)
        };
        Self::issue(fields, issuer, |message| root.sign(DOMAIN, message))
    }

    /// Issues a certificate under a device's key. It counts for as long as that device is in the log.
    #[must_use]
    pub fn issue_by_device(fields: CertificateFields, issuer: &DeviceKeys) -> Self {
        Self::issue(fields, Issuer::Device(issuer.id()), |message| {
            issuer.sign(DOMAIN, message)
        })
    }

    fn issue(
        fields: CertificateFields,
        issuer: Issuer,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN],
    ) -> Self {
        let mut bytes = Vec::with_capacity(MAX_CERTIFICATE_LEN);
        bytes.put_u8(VERSION);
        bytes.put_bytes(fields.user.as_bytes());
        bytes.put_bytes(fields.device.as_bytes());
        bytes.put_bytes(&fields.noise_static);
        bytes.put_u64(fields.not_before_millis);
        bytes.put_u64(fields.not_after_millis);
        bytes.put_u64(fields.log.n);
        bytes.put_bytes(&fields.log.hash);
        match issuer {
            Issuer::User => bytes.put_u8(ISSUER_USER),
            Issuer::Root(key) => {
                bytes.put_u8(ISSUER_ROOT);
                bytes.put_bytes(&key);
            }
            Issuer::Device(device) => {
                bytes.put_u8(ISSUER_DEVICE);
                bytes.put_bytes(device.as_bytes());
            }
        }
        let signature = sign(&bytes);
        bytes.put_bytes(&signature);
        Self {
            bytes,
            fields,
            issuer,
        }
    }

    /// Reads a certificate without judging it.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] or [`CertificateError::UnknownVersion`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(CertificateError::UnknownVersion(other)),
        }
        let fields = CertificateFields {
            user: UserId(reader.array()?),
            device: DeviceId(reader.array()?),
            noise_static: reader.array()?,
            not_before_millis: reader.u64()?,
            not_after_millis: reader.u64()?,
            log: LogPosition {
                n: reader.u64()?,
                hash: reader.array()?,
            },
        };
        let issuer = match reader.u8()? {
            ISSUER_USER => Issuer::User,
            ISSUER_ROOT => Issuer::Root(reader.array()?),
            ISSUER_DEVICE => Issuer::Device(DeviceId(reader.array()?)),
            _undefined => return Err(WireError::Undefined.into()),
        };
        if issuer == Issuer::Root(fields.user.0) {
            // One spelling: that is Issuer::User.
            return Err(WireError::Undefined.into());
        }
        let _signature: [u8; SIGNATURE_LEN] = reader.array()?;
        reader.finish()?;
        Ok(Self {
            bytes: bytes.to_vec(),
            fields,
            issuer,
        })
    }

    /// The certificate as it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says. Nobody vouches for it until [`DeviceCertificate::verify`] said so.
    #[must_use]
    pub fn fields(&self) -> &CertificateFields {
        &self.fields
    }

    /// Who signed it, by its own account.
    #[must_use]
    pub fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// Whether the device should issue a new one, given the time and the head of its log.
    #[must_use]
    pub fn needs_renewal(&self, now_millis: u64, head: LogPosition) -> bool {
        let issued = self
            .fields
            .not_before_millis
            .saturating_add(CERTIFICATE_BACKDATE_MILLIS);
        self.fields.log != head
            || issued.saturating_add(CERTIFICATE_RENEWAL_MILLIS) <= now_millis
            || self.fields.not_before_millis > now_millis
    }

    /// Checks a certificate that the user id's own key signed, without a log.
    ///
    /// # Errors
    /// One variant per reason. [`CertificateError::NotInLog`] for any other issuer: only a log can tell
    /// whether it may speak for the person.
    pub fn verify(
        &self,
        now_millis: u64,
        user: UserId,
    ) -> Result<VerifiedDevice, CertificateError> {
        self.verify_alone(now_millis, user)?;
        match self.issuer {
            Issuer::User => Ok(self.verified()),
            Issuer::Root(_) | Issuer::Device(_) => Err(CertificateError::NotInLog),
        }
    }

    /// Checks a certificate against the person's device log: the issuer may speak for the person, and the
    /// device is in the set, at the log's head.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn verify_in_log(
        &self,
        now_millis: u64,
        user: UserId,
        log: &(impl DeviceSet + ?Sized),
    ) -> Result<VerifiedDevice, CertificateError> {
        if log.user() != user {
            return Err(CertificateError::WrongUser);
        }
        self.verify_alone(now_millis, user)?;
        if !log.contains(self.fields.log) {
            return Err(CertificateError::UnknownLogPosition);
        }
        if !log.may_issue(self.issuer)
            || !log.has_device(self.fields.device, &self.fields.noise_static)
        {
            return Err(CertificateError::NotInLog);
        }
        Ok(self.verified())
    }

    /// Checks everything but the issuer's right to speak for the person: signature, dates, key. Enough to know
    /// that device and Noise key belong together, for a home that will see the log only at registration.
    /// Nothing follows about the person until [`DeviceCertificate::verify_in_log`] has been asked, too.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn verify_without_issuer(&self, now_millis: u64) -> Result<(), CertificateError> {
        self.verify_alone(now_millis, self.fields.user)
    }

    fn verify_alone(&self, now_millis: u64, user: UserId) -> Result<(), CertificateError> {
        if self.fields.user != user {
            return Err(CertificateError::WrongUser);
        }
        let key = match &self.issuer {
            Issuer::User => user.as_bytes(),
            Issuer::Root(key) => key,
            Issuer::Device(device) => device.as_bytes(),
        };
        let (message, signature) = self
            .bytes
            .split_last_chunk::<SIGNATURE_LEN>()
            .ok_or(CertificateError::Malformed(WireError::Truncated))?;
        if !verify_signature(key, DOMAIN, message, signature) {
            return Err(CertificateError::WrongSignature);
        }
        if now_millis < self.fields.not_before_millis {
            return Err(CertificateError::NotYetValid);
        }
        if self.fields.not_after_millis <= now_millis {
            return Err(CertificateError::Expired);
        }
        if !is_contributory(&self.fields.noise_static) {
            return Err(CertificateError::UnusableKey);
        }
        Ok(())
    }

    fn verified(&self) -> VerifiedDevice {
        VerifiedDevice {
            user: self.fields.user,
            device: self.fields.device,
            noise_static: self.fields.noise_static,
            log: self.fields.log,
            not_after_millis: self.fields.not_after_millis,
        }
    }
}

impl fmt::Debug for DeviceCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCertificate")
            .field("user", &self.fields.user)
            .field("device", &self.fields.device)
            .field("log", &self.fields.log)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// A device that somebody entitled to it vouched for, at the time of the check. Only
/// [`DeviceCertificate::verify`] and [`DeviceCertificate::verify_in_log`] make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedDevice {
    user: UserId,
    device: DeviceId,
    noise_static: [u8; 32],
    log: LogPosition,
    not_after_millis: u64,
}

impl VerifiedDevice {
    /// The person.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The device's Noise static public key (X25519).
    #[must_use]
    pub fn noise_static(&self) -> &[u8; 32] {
        &self.noise_static
    }

    /// The place in the log at which the certificate was issued.
    #[must_use]
    pub fn log(&self) -> LogPosition {
        self.log
    }

    /// First millisecond at which the certificate is no longer valid (Unix).
    #[must_use]
    pub fn not_after_millis(&self) -> u64 {
        self.not_after_millis
    }
}

/// Whether an X25519 public key agrees on secrets that depend on the other side (RFC 7748 section 6.1).
fn is_contributory(public: &[u8; 32]) -> bool {
    // Every clamped scalar is a multiple of 8, so any of them unmasks every point of small order.
    StaticSecret::from([1; 32])
        .diffie_hellman(&PublicKey::from(*public))
        .was_contributory()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const HEAD: LogPosition = LogPosition {
        n: 4,
        hash: [9; 32],
    };

    struct Log {
        user: UserId,
        holds: LogPosition,
        devices: Vec<(DeviceId, [u8; 32])>,
        issuers: Vec<Issuer>,
    }

    impl DeviceSet for Log {
        fn user(&self) -> UserId {
            self.user
        }
        fn contains(&self, position: LogPosition) -> bool {
            position == self.holds
        }
        fn has_device(&self, device: DeviceId, noise_static: &[u8; 32]) -> bool {
            self.devices.contains(&(device, *noise_static))
        }
        fn may_issue(&self, issuer: Issuer) -> bool {
            self.issuers.contains(&issuer)
        }
    }

    fn root(seed: u8) -> RootKey {
        RootKey::from_seed(&[seed; 32])
    }

    fn device(seed: u8) -> DeviceKeys {
        DeviceKeys::generate(&mut ChaCha20Rng::from_seed([seed; 32]), NOW)
    }

    fn fields() -> CertificateFields {
        CertificateFields::for_device(root(1).user(), &device(2), HEAD, NOW)
    }

    fn log() -> Log {
        Log {
            user: root(1).user(),
            holds: HEAD,
            devices: vec![(device(2).id(), device(2).noise_public())],
            issuers: vec![Issuer::User, Issuer::Device(device(2).id())],
        }
    }

    #[test]
    fn a_certificate_by_the_users_key_proves_itself() {
        let certificate = DeviceCertificate::issue_by_root(fields(), &root(1));
        let verified = certificate.verify(NOW, root(1).user()).unwrap();
        assert_eq!(verified.device(), device(2).id());
        assert_eq!(verified.noise_static(), &device(2).noise_public());
        assert_eq!(
            certificate.verify_in_log(NOW, root(1).user(), &log()),
            Ok(verified)
        );
    }

    #[test]
    fn each_reason_to_refuse_has_its_name() {
        let user = root(1).user();
        let certificate = DeviceCertificate::issue_by_root(fields(), &root(1));
        let end = NOW + CERTIFICATE_LIFETIME_MILLIS;
        assert!(certificate.verify(end - 1, user).is_ok());
        assert_eq!(
            certificate.verify(end, user),
            Err(CertificateError::Expired)
        );
        let start = NOW - CERTIFICATE_BACKDATE_MILLIS;
        assert!(certificate.verify(start, user).is_ok());
        assert_eq!(
            certificate.verify(start - 1, user),
            Err(CertificateError::NotYetValid)
        );
        assert_eq!(
            certificate.verify(NOW, root(3).user()),
            Err(CertificateError::WrongUser)
        );

        let mut newer = certificate.as_bytes().to_vec();
        newer[0] = 2;
        assert_eq!(
            DeviceCertificate::from_bytes(&newer),
            Err(CertificateError::UnknownVersion(2))
        );
        let unusable = DeviceCertificate::issue_by_root(
            CertificateFields {
                noise_static: [0; 32],
                ..fields()
            },
            &root(1),
        );
        assert_eq!(
            unusable.verify(NOW, user),
            Err(CertificateError::UnusableKey)
        );

        let mut revoked = log();
        revoked.devices.clear();
        assert_eq!(
            certificate.verify_in_log(NOW, user, &revoked),
            Err(CertificateError::NotInLog)
        );
        let mut forked = log();
        forked.holds.hash = [8; 32];
        assert_eq!(
            certificate.verify_in_log(NOW, user, &forked),
            Err(CertificateError::UnknownLogPosition)
        );
        let mut strangers = log();
        strangers.user = root(3).user();
        assert_eq!(
            certificate.verify_in_log(NOW, user, &strangers),
            Err(CertificateError::WrongUser)
        );
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let certificate = DeviceCertificate::issue_by_root(fields(), &root(1));
        for at in 0..certificate.as_bytes().len() {
            let mut bytes = certificate.as_bytes().to_vec();
            bytes[at] ^= 1;
            let outcome = DeviceCertificate::from_bytes(&bytes)
                .and_then(|changed| changed.verify(NOW, root(1).user()));
            assert!(outcome.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_stranger_cannot_certify_a_device_as_somebody_elses() {
        // The wrong root signs as itself: a "later root" that no log knows.
        let forged = DeviceCertificate::issue_by_root(fields(), &root(3));
        assert_eq!(forged.issuer(), Issuer::Root(root(3).user().0));
        assert_eq!(
            forged.verify(NOW, root(1).user()),
            Err(CertificateError::NotInLog)
        );
        assert_eq!(
            forged.verify_in_log(NOW, root(1).user(), &log()),
            Err(CertificateError::NotInLog)
        );
        // And if it claims to be the user's key, the signature is wrong.
        let forged = DeviceCertificate::issue(fields(), Issuer::User, |message| {
            root(3).sign(DOMAIN, message)
        });
        assert_eq!(
            forged.verify(NOW, root(1).user()),
            Err(CertificateError::WrongSignature)
        );
    }

    #[test]
    fn a_device_may_certify_itself_only_where_the_log_has_it() {
        let certificate = DeviceCertificate::issue_by_device(fields(), &device(2));
        let user = root(1).user();
        assert_eq!(
            certificate.verify(NOW, user),
            Err(CertificateError::NotInLog)
        );
        assert!(certificate.verify_in_log(NOW, user, &log()).is_ok());
        assert_eq!(certificate.verify_without_issuer(NOW), Ok(()));
        let late = NOW + CERTIFICATE_LIFETIME_MILLIS;
        assert_eq!(
            certificate.verify_without_issuer(late),
            Err(CertificateError::Expired)
        );
        let mut without = log();
        without.issuers.retain(|issuer| *issuer == Issuer::User);
        assert_eq!(
            certificate.verify_in_log(NOW, user, &without),
            Err(CertificateError::NotInLog)
        );
    }

    #[test]
    fn renewal_comes_weekly_or_with_the_log() {
        let certificate = DeviceCertificate::issue_by_root(fields(), &root(1));
        assert!(!certificate.needs_renewal(NOW, HEAD));
        assert!(certificate.needs_renewal(NOW + CERTIFICATE_RENEWAL_MILLIS, HEAD));
        assert!(certificate.needs_renewal(
            NOW,
            LogPosition {
                n: 5,
                hash: [1; 32]
            }
        ));
        assert!(certificate.needs_renewal(NOW - 2 * CERTIFICATE_BACKDATE_MILLIS, HEAD));
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let mut fixed = fields();
        fixed.device = DeviceId([0x11; 32]);
        fixed.noise_static = [0x22; 32];
        let certificate = DeviceCertificate::issue_by_root(fixed, &root(1));
        let bytes = certificate.as_bytes();
        assert_eq!(bytes.len(), 218);
        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[1..33], root(1).user().0);
        assert_eq!(bytes[33..65], [0x11; 32]);
        assert_eq!(bytes[65..97], [0x22; 32]);
        assert_eq!(bytes[97..105], (NOW - 86_400_000).to_be_bytes());
        assert_eq!(bytes[105..113], (NOW + 30 * 86_400_000).to_be_bytes());
        assert_eq!(bytes[113..121], 4u64.to_be_bytes());
        assert_eq!(bytes[121..153], [9; 32]);
        assert_eq!(bytes[153], 0);
        // Ed25519 is deterministic: this pins the domain, too.
        assert_eq!(
            z32::encode(&bytes[154..]),
            "9nzadugb5z3e6yg76adhogubf4fe4i7nf5c99nmf9d4yoihzah66x9jjb9g1pgu8n8qibxan8a67jpxqum9q1m8fw8dhsfjxicm91yo"
        );
        let by_device = DeviceCertificate::issue_by_device(fixed, &device(2));
        assert_eq!(by_device.as_bytes().len(), MAX_CERTIFICATE_LEN);
        assert_eq!(by_device.as_bytes()[153], 2);
        assert_eq!(by_device.as_bytes()[154..186], device(2).id().0);
    }

    proptest! {
        #[test]
        fn certificates_round_trip(n: u64, hash: [u8; 32], start: u64, end: u64, by_device: bool) {
            let fields = CertificateFields {
                log: LogPosition { n, hash },
                not_before_millis: start,
                not_after_millis: end,
                ..fields()
            };
            let certificate = if by_device {
                DeviceCertificate::issue_by_device(fields, &device(2))
            } else {
                DeviceCertificate::issue_by_root(fields, &root(1))
            };
            let again = DeviceCertificate::from_bytes(certificate.as_bytes()).unwrap();
            prop_assert_eq!(again, certificate);
        }

        #[test]
        fn garbage_is_an_error_or_unproven(mut bytes in prop::collection::vec(any::<u8>(), 0..300), fit: bool) {
            if fit {
                bytes.resize(218, 3);
                bytes[0] = 1;
                bytes[153] = 0;
            }
            if let Ok(certificate) = DeviceCertificate::from_bytes(&bytes) {
                prop_assert_eq!(certificate.as_bytes(), &bytes[..]);
                prop_assert!(certificate.verify(NOW, certificate.fields().user).is_err());
            }
        }
    }
}
