//! Who may register: a device whose certificate leads to its person's key and names the key it proved.

use std::sync::Arc;

use ahoy_transport::{
    identity::{CertificateError, DeviceCertificate},
    noise::{Pattern, Refusal, VerifiedPeer, VerifyPeer},
    runtime::Runtime,
};

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
        let certificate =
            DeviceCertificate::from_bytes(credential).map_err(|_malformed| Refusal::Malformed)?;
        let user = certificate.fields().user;
        let device = certificate
            .verify(self.runtime.unix_millis(), user)
            .map_err(refusal)?;
        if noise_static != Some(device.noise_static()) {
            return Err(Refusal::WrongKey);
        }
        Ok(VerifiedPeer {
            device: Some(device.device()),
            user: Some(device.user()),
            node: None,
        })
    }
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
