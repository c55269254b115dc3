//! Keeps the identity of a running engine fresh: an app that stays open for weeks must not become unreachable
//! because its certificate or its seal key expired.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahoy_transport::runtime::{Runtime, RuntimeExt};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::watch;

use super::config::Me;
use crate::identity::{Identity, IdentityError};

/// How often the identity is looked at. Keys rotate weekly and records live for two weeks, so a failed attempt to
/// save has days for the next ones.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Why the identity of a running engine stays what it is, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nobody gave the engine an identity that could be changed.
    #[error("this ahoy cannot change its identity while it runs")]
    Fixed,
    /// The change makes no sense.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It cannot be saved.
    #[error("the identity cannot be saved: {0}")]
    Unsaved(String),
}

type Save = Box<dyn Fn(&Identity) -> Result<(), String> + Send>;

struct Keeper {
    identity: Identity,
    name: String,
    save: Save,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.identity.fmt(f)
    }
}

/// Tells a running engine who it is from now on. It does not keep the engine alive.
#[derive(Debug, Clone)]
pub struct Renewer {
    me: watch::Sender<Me>,
    keeper: Arc<Mutex<Option<Keeper>>>,
}

impl Renewer {
    pub(super) fn new(me: Me) -> (Self, watch::Receiver<Me>) {
        let (sender, receiver) = watch::channel(me);
        let renewer = Self {
            me: sender,
            keeper: Arc::default(),
        };
        (renewer, receiver)
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on [`Self::change`] changes `identity`, which is known by `name`, and has it saved.
    pub fn keep<E: fmt::Display>(
        &self,
        identity: Identity,
        name: String,
        save: impl Fn(&Identity) -> Result<(), E> + Send + 'static,
    ) {
        let save = move |identity: &Identity| save(identity).map_err(|error| error.to_string());
        *self.keeper() = Some(Keeper {
            identity,
            name,
            save: Box::new(save),
        });
    }

    /// The person is known by `name` from now on, also after the next change.
    pub(super) fn rename(&self, name: &str) {
        if let Some(keeper) = self.keeper().as_mut() {
            name.clone_into(&mut keeper.name);
        }
    }

    /// What is to be known of the identity; nothing where nobody gave the engine one that could be changed.
    #[must_use]
    pub fn look<T>(&self, look: impl FnOnce(&Identity) -> T) -> Option<T> {
        let kept = self.keeper();
        kept.as_ref().map(|keeper| look(&keeper.identity))
    }

    /// Changes the identity, has it saved, and gives it to the engine.
    ///
    /// What cannot be saved is not used: after a restart nobody could open what was sealed to it.
    ///
    /// # Errors
    /// [`ChangeError`]; then everything is as it was.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Identity) -> Result<T, IdentityError>,
    ) -> Result<T, ChangeError> {
        let mut kept = self.keeper();
        let keeper = kept.as_mut().ok_or(ChangeError::Fixed)?;
        let mut changed = keeper.identity.clone();
        let outcome = change(&mut changed)?;
        (keeper.save)(&changed).map_err(ChangeError::Unsaved)?;
        self.me.send_replace(Me::of(&changed, &keeper.name));
        keeper.identity = changed;
        Ok(outcome)
    }

    /// Refreshes `identity` whenever time asks for it: has it saved, then gives it to the engine, which is known by
    /// `name`. Homes learn of it with their next renewal, within half an hour. Ends with the engine.
    pub async fn keep_fresh<E: fmt::Display>(
        self,
        runtime: Arc<dyn Runtime>,
        identity: Identity,
        name: String,
        save: impl Fn(&Identity) -> Result<(), E> + Send + 'static,
    ) {
        self.keep(identity, name, save);
        loop {
            let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
            let now_millis = runtime.unix_millis();
            let due = {
                let kept = self.keeper();
                kept.as_ref().is_some_and(|keeper| {
                    let mut looked_at = keeper.identity.clone();
                    looked_at.refresh(now_millis, &mut rng)
                })
            };
            if due {
                let refreshed = self.change(|identity| {
                    let _changed = identity.refresh(now_millis, &mut rng);
                    Ok(())
                });
                match refreshed {
                    Ok(()) => tracing::info!("certificate and keys renewed"),
                    Err(error) => tracing::error!(%error, "renewed keys cannot be saved"),
                }
            }
            tokio::select! {
                biased;
                () = self.me.closed() => return,
                () = runtime.sleep(INTERVAL) => {}
            }
        }
    }
}
