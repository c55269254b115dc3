//! Who may register: a device that is in its person's log, under the key that it proved.
//!
//! The handshake judges what it can without the log ([`DeviceAdmission`]), the registration the rest
//! ([`check_registration`]).

use std::sync::Arc;

use ahoy_transport::{
    identity::{
        CertificateError, DeviceCertificate, DeviceId, SealKeyRecord, UserId, log::DeviceLog,
        network::split_credential,
    },
    noise::{Pattern, PeerIdentity, Refusal, VerifiedPeer, VerifyPeer},
    runtime::Runtime,
};

use super::protocol::{self, Registration};

/// Judges clients of a supernode. Anonymous ones pass; they just cannot register.
#[derive(Debug)]
pub struct DeviceAdmission {
    runtime: Arc<dyn Runtime>,
}

impl DeviceAdmission {
    /// Judges by the clock of `runtime`.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime }
    }
}

impl VerifyPeer for DeviceAdmission {
    fn verify(
        &self,
        pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        match pattern {
            Pattern::NkHfs => return Ok(VerifiedPeer::default()),
            Pattern::IkHfs => {}
            Pattern::IkHfsPsk0 => return Err(Refusal::NotAllowed),
        }
        // A pass is judged where requests are: whoever has a wrong one is to be told so.
        let (pass, device) =
            split_credential(credential).map_err(|_malformed| Refusal::Malformed)?;
        if pass.is_some() && device.is_empty() {
            return Ok(VerifiedPeer::default());
        }
        let certificate = DeviceCertificate::from_bytes(device).map_err(refusal)?;
        let fields = certificate.fields();
        // Whether the issuer may speak for the person is in the log, which comes with the registration. Until then
        // the names are a claim.
        certificate
            .verify_without_issuer(self.runtime.unix_millis())
            .map_err(refusal)?;
        if noise_static != Some(&fields.noise_static) {
            return Err(Refusal::WrongKey);
        }
        Ok(VerifiedPeer {
            device: Some(fields.device),
            user: Some(fields.user),
            node: None,
        })
    }
}

/// Devices that a person took out of the log, as a member of it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The person.
    pub user: UserId,
    /// The devices, the first ones first.
    pub devices: Vec<DeviceId>,
}

/// Judges what a device wants to publish, which others verify for themselves: it is the device of the handshake,
/// its log has it, and its seal key is its own. So nothing that is useless to everybody is stored and handed out.
///
/// Comes with the devices that the log took out: they are nobody's from now on.
///
/// # Errors
/// [`protocol::Refusal::Malformed`], or [`protocol::Refusal::NotYours`] for what can be read but is not this
/// device's or not valid now (`now_millis`, Unix).
pub fn check_registration(
    now_millis: u64,
    identity: &PeerIdentity,
    registration: &Registration,
) -> Result<Revoked, protocol::Refusal> {
    let (Some(user), Some(device)) = (identity.peer.user, identity.peer.device) else {
        return Err(protocol::Refusal::NotYours);
    };
    let certificate = DeviceCertificate::from_bytes(&registration.certificate)
        .map_err(|_malformed| protocol::Refusal::Malformed)?;
    let fields = certificate.fields();
    if fields.user != user
        || fields.device != device
        || Some(fields.noise_static) != identity.noise_static
    {
        return Err(protocol::Refusal::NotYours);
    }
    let seal_key = SealKeyRecord::from_bytes(&registration.seal_key)
        .map_err(|_malformed| protocol::Refusal::Malformed)?;
    let log = DeviceLog::from_bytes(user, &registration.log)
        .map_err(|_invalid| protocol::Refusal::Malformed)?;
    let device = certificate
        .verify_in_log(now_millis, user, &log)
        .map_err(|_invalid| protocol::Refusal::NotYours)?;
    seal_key
        .verify(now_millis, device.device())
        .map_err(|_invalid| protocol::Refusal::NotYours)?;
    Ok(Revoked {
        user,
        devices: log.revoked().to_vec(),
    })
}

/// A certificate's fault as a handshake's.
#[must_use]
pub fn refusal(error: CertificateError) -> Refusal {
    match error {
        CertificateError::Expired => Refusal::Expired,
        CertificateError::NotYetValid => Refusal::NotYetValid,
        CertificateError::NotInLog | CertificateError::UnknownLogPosition => Refusal::Revoked,
        CertificateError::Malformed(_) => Refusal::Malformed,
        CertificateError::UnknownVersion(_) => Refusal::UnsupportedVersion,
        CertificateError::WrongSignature => Refusal::BadSignature,
        CertificateError::WrongUser => Refusal::UnexpectedPeer,
        CertificateError::UnusableKey => Refusal::WrongKey,
    }
}
