//! Allocations on relays. A port has one allocation on each relay (RFC 8656 section 2.1: one per five-tuple),
//! so the legs of a call share it; it ends with the last of them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use ahoy_nat::{
    port::PortHub,
    supernode::{protocol::RelayGrant, relay::credentials::TurnCredentials},
    turn::{TurnConfig, allocation::TurnAllocation},
};
use ahoy_transport::runtime::Runtime;
use tokio::sync::Mutex;

/// Allocations in use, by relay.
#[derive(Debug, Clone)]
pub(super) struct Relays {
    runtime: Arc<dyn Runtime>,
    hub: Arc<PortHub>,
    /// The lock is held while allocating: who asks second gets what the first one got.
    open: Arc<Mutex<BTreeMap<SocketAddr, Weak<TurnAllocation>>>>,
}

impl Relays {
    pub(super) fn new(runtime: Arc<dyn Runtime>, hub: Arc<PortHub>) -> Self {
        Self {
            runtime,
            hub,
            open: Arc::default(),
        }
    }

    /// The allocation on the relay of `grant`, made if there is none.
    ///
    /// # Errors
    /// Why the relay gave none, for a person.
    pub(super) async fn allocate(&self, grant: &RelayGrant) -> Result<Arc<TurnAllocation>, String> {
        let mut open = self.open.lock().await;
        if let Some(allocation) = open.get(&grant.server).and_then(Weak::upgrade) {
            return Ok(allocation);
        }
        open.retain(|_server, allocation| allocation.strong_count() > 0);
        let credentials = TurnCredentials {
            username: grant.username.clone(),
            password: grant.password.clone(),
            realm: grant.realm.clone(),
            nonce: grant.nonce.clone(),
            lifetime: Duration::from_secs(grant.lifetime_secs.into()),
        };
        let config = TurnConfig::new(grant.server, credentials);
        let allocation = TurnAllocation::allocate(Arc::clone(&self.runtime), &self.hub, config)
            .await
            .map_err(|error| error.to_string())?;
        let allocation = Arc::new(allocation);
        open.insert(grant.server, Arc::downgrade(&allocation));
        Ok(allocation)
    }
}
