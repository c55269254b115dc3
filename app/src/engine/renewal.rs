//! Keeps the identity of a running engine fresh: an app that stays open for weeks must not become unreachable
//! because its certificate or its seal key expired.

use std::{sync::Arc, time::Duration};

use ahoy_transport::runtime::{Runtime, RuntimeExt};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::watch;

use super::config::Me;
use crate::identity::Identity;

/// How often the identity is looked at. Keys rotate weekly and records live for two weeks, so a failed attempt to
/// save has days for the next ones.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Tells a running engine who it is from now on. It does not keep the engine alive.
#[derive(Debug, Clone)]
pub struct Renewer(watch::Sender<Me>);

impl Renewer {
    pub(super) fn new(me: Me) -> (Self, watch::Receiver<Me>) {
        let (sender, receiver) = watch::channel(me);
        (Self(sender), receiver)
    }

    /// Refreshes `identity` whenever time asks for it: has it saved, then gives it to the engine, which is known by
    /// `name`. Homes learn of it with their next renewal, within half an hour. Ends with the engine.
    ///
    /// What cannot be saved is not used: after a restart nobody could open what was sealed to it.
    pub async fn keep_fresh<E: std::fmt::Display>(
        self,
        runtime: Arc<dyn Runtime>,
        mut identity: Identity,
        name: String,
        save: impl Fn(&Identity) -> Result<(), E>,
    ) {
        loop {
            let mut fresh = identity.clone();
            let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
            if fresh.refresh(runtime.unix_millis(), &mut rng) {
                match save(&fresh) {
                    Ok(()) => {
                        tracing::info!("certificate and keys renewed");
                        self.0.send_replace(Me::of(&fresh, &name));
                        identity = fresh;
                    }
                    Err(error) => tracing::error!(%error, "renewed keys cannot be saved"),
                }
            }
            tokio::select! {
                biased;
                () = self.0.closed() => return,
                () = runtime.sleep(INTERVAL) => {}
            }
        }
    }
}
