//! People with one device each, for tests of calls.

use std::sync::Arc;

use ahoy_transport::{
    identity::{CertificateFields, DeviceCertificate, DeviceKeys, LogPosition, RootKey, UserId},
    noise::{Pattern, Refusal, VerifiedPeer, VerifyPeer},
    runtime::{Runtime, RuntimeExt},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// A person and the one device.
#[derive(Debug, Clone)]
pub struct Person {
    /// The person.
    pub user: UserId,
    /// The device's keys.
    pub keys: Arc<DeviceKeys>,
    /// The device's certificate, signed by the person's root key.
    pub certificate: DeviceCertificate,
}

impl Person {
    /// Draws a person from the runtime's randomness.
    #[must_use]
    pub fn generate(runtime: &Arc<dyn Runtime>) -> Self {
        let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
        let now_millis = runtime.unix_millis();
        let root = RootKey::generate(&mut rng);
        let keys = DeviceKeys::generate(&mut rng, now_millis);
        let log = LogPosition {
            n: 0,
            hash: [0; 32],
        };
        let fields = CertificateFields::for_device(root.user(), &keys, log, now_millis);
        Self {
            user: root.user(),
            certificate: DeviceCertificate::issue_by_root(fields, &root),
            keys: Arc::new(keys),
        }
    }
}

/// A supernode's verifier: takes every device whose certificate its own person signed.
pub struct AnyDevice(pub Arc<dyn Runtime>);

impl std::fmt::Debug for AnyDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyDevice")
    }
}

impl VerifyPeer for AnyDevice {
    fn verify(
        &self,
        pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        if pattern == Pattern::NkHfs {
            return Ok(VerifiedPeer::default());
        }
        let certificate =
            DeviceCertificate::from_bytes(credential).map_err(|_unreadable| Refusal::Malformed)?;
        let device = certificate
            .verify(self.0.unix_millis(), certificate.fields().user)
            .map_err(|_wrong| Refusal::BadSignature)?;
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
