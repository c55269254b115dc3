//! A first message of a call made by hand, by somebody who may do what no shipped caller does.

use std::{fmt, sync::Arc};

use ahoy::{
    engine::directory::verify,
    identity::Identity,
    signal::{self, MediaCapabilities},
};
use ahoy_nat::supernode::protocol::Registration;
use ahoy_transport::{
    identity::{UserId, VerifiedDevice, VerifiedSealKey},
    runtime::{Runtime, RuntimeExt},
    sealed::{self, SessionSecret, seal_offer},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// Somebody's device, as a look-up tells of it.
#[derive(Debug)]
pub struct Callee {
    /// What it proved.
    pub device: VerifiedDevice,
    /// What offers are sealed to.
    pub seal_key: VerifiedSealKey,
    /// Of its registration.
    pub epoch: u64,
}

impl Callee {
    /// Believes what a supernode said.
    ///
    /// # Panics
    /// When it is not to be believed.
    #[must_use]
    pub fn of(found: &Registration, user: UserId, now_millis: u64) -> Self {
        let verified = verify(found, user, None, now_millis);
        #[expect(clippy::expect_used, reason = "without it there is no test")]
        let (device, seal_key, _log) = verified.expect("the supernode tells the truth");
        Self {
            device,
            seal_key,
            epoch: found.epoch,
        }
    }
}

/// An offer and what it takes to go on with the call.
pub struct HandMade {
    /// The call.
    pub call: [u8; 16],
    /// Keys everything else of it.
    pub secret: SessionSecret,
    /// What the home carries.
    pub envelope: Vec<u8>,
}

impl fmt::Debug for HandMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandMade").finish_non_exhaustive()
    }
}

/// Seals an offer of `identity`, who is called `name`, to `callee`. `candidates` as [`ahoy::engine::reach`] writes
/// them, or empty.
///
/// # Panics
/// When it does not fit.
#[must_use]
pub fn offer(
    runtime: &Arc<dyn Runtime>,
    identity: &Identity,
    name: &str,
    callee: &Callee,
    candidates: Vec<u8>,
) -> HandMade {
    let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
    let (call, secret) = (runtime.random_array(), SessionSecret::generate(&mut rng));
    let offer = sealed::Offer {
        call_id: call,
        secret: secret.clone(),
        recipient: callee.device.device(),
        epoch: callee.epoch,
        sequence: 1,
        sent_at_millis: runtime.unix_millis(),
        log_head: identity.log().head(),
        certificate: identity.certificate().clone(),
        log: identity.log().to_bytes(),
        offer: signal::Offer {
            media: MediaCapabilities::default(),
            display_name: name.into(),
            invite: Vec::new(),
        }
        .encode(),
        candidates,
    };
    let sealed = seal_offer(&offer, identity.device(), &callee.seal_key, &mut rng);
    #[expect(clippy::expect_used, reason = "without it there is no test")]
    let envelope = sealed.expect("an offer can be sealed");
    HandMade {
        call,
        secret,
        envelope,
    }
}
