//! Our relays, and allocations on them. A port has one allocation on each relay (RFC 8656 section 2.1: one per
//! five-tuple), so the legs of a call share it; it ends with the last of them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    home::HomeState,
    port::PortHub,
    supernode::{protocol::RelayGrant, relay::credentials::TurnCredentials},
    turn::{TurnConfig, allocation::TurnAllocation},
};
use ahoy_transport::{
    identity::{NodeAddress, NodeId},
    runtime::Runtime,
};
use tokio::sync::watch;

use super::reach::Relayed;

/// A supernode whose relay we use, and how to talk to it.
#[derive(Debug, Clone)]
pub(super) struct RelaySource {
    address: NodeAddress,
    line: Line,
}

/// The connection to a supernode.
#[derive(Debug, Clone)]
enum Line {
    /// A home: the connection may be another one after a while.
    Home(watch::Receiver<HomeState>),
    /// The connection that a call was set up over, by somebody without homes.
    Guest(NodeClient),
}

impl RelaySource {
    pub(super) fn home(address: NodeAddress, state: watch::Receiver<HomeState>) -> Self {
        Self {
            address,
            line: Line::Home(state),
        }
    }

    pub(super) fn guest(address: NodeAddress, client: NodeClient) -> Self {
        Self {
            address,
            line: Line::Guest(client),
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.address.node
    }

    /// What the other side is told about our relayed address here. The other side's home is to find the
    /// supernode at the very IP address that it shall relay to.
    pub(super) fn relayed(&self, addr: SocketAddr) -> Relayed {
        let relay = NodeAddress::new(
            self.address.node,
            SocketAddr::new(addr.ip(), self.address.port),
        );
        Relayed { addr, relay }
    }

    /// Whether it can be talked to now.
    pub(super) fn is_up(&self) -> bool {
        self.client().is_ok()
    }

    /// The connection to it, as it is now.
    pub(super) fn client(&self) -> Result<NodeClient, RequestError> {
        match &self.line {
            Line::Home(state) => match &*state.borrow() {
                HomeState::Up(up) => Ok(up.client.clone()),
                HomeState::Down => Err(RequestError::Lost),
            },
            Line::Guest(client) => Ok(client.clone()),
        }
    }

    /// Whether it is reached through a tunnel now.
    pub(super) fn is_tunnelled(&self) -> bool {
        self.client().is_ok_and(|client| client.tunnel().is_some())
    }

    async fn grant(&self) -> Result<RelayGrant, RequestError> {
        let registered = match &self.line {
            Line::Home(state) => match &*state.borrow() {
                HomeState::Up(up) => up.registered.relay.clone(),
                HomeState::Down => None,
            },
            Line::Guest(_client) => None,
        };
        match registered {
            Some(grant) => Ok(grant),
            None => self.client()?.relay_grant().await,
        }
    }

    /// Makes the relay serve relayed addresses of `other`, and says for how long it will.
    pub(super) async fn allow(&self, other: &NodeAddress) -> Result<Duration, RequestError> {
        self.client()?.allow_relay(other.clone()).await
    }
}

/// Relays that are remembered: those of our homes, and of people we called without homes of our own.
const MAX_RELAYS: usize = 64;

/// The allocation on one relay. The lock is held while allocating: who asks second gets what the first one got.
type Place = Arc<tokio::sync::Mutex<Weak<TurnAllocation>>>;

/// Allocations in use, by relay.
#[derive(Debug, Clone)]
pub(super) struct Relays {
    runtime: Arc<dyn Runtime>,
    hub: Arc<PortHub>,
    places: Arc<Mutex<BTreeMap<SocketAddr, Place>>>,
}

impl Relays {
    pub(super) fn new(runtime: Arc<dyn Runtime>, hub: Arc<PortHub>) -> Self {
        Self {
            runtime,
            hub,
            places: Arc::default(),
        }
    }

    /// The allocation on the relay of `source`, made if there is none.
    ///
    /// # Errors
    /// Why the relay gave none, for a person.
    pub(super) async fn allocate(
        &self,
        source: &RelaySource,
    ) -> Result<Arc<TurnAllocation>, String> {
        let client = source.client().map_err(|error| error.to_string())?;
        let grant = source.grant().await.map_err(|error| error.to_string())?;
        // They belong together unless the home moved in between; then the relay is asked without the tunnel's help.
        let tunnel = client
            .tunnel()
            .filter(|tunnel| tunnel.addr() == grant.server);
        let place = self.place(grant.server);
        let mut place = place.lock().await;
        if let Some(allocation) = place.upgrade()
            && !allocation.has_ended()
        {
            return Ok(allocation);
        }
        let credentials = TurnCredentials {
            username: grant.username,
            password: grant.password,
            realm: grant.realm,
            nonce: grant.nonce,
            lifetime: Duration::from_secs(grant.lifetime_secs.into()),
        };
        let config = TurnConfig::new(grant.server, credentials);
        let allocation = TurnAllocation::allocate(Arc::clone(&self.runtime), &self.hub, config)
            .await
            .map_err(|error| error.to_string())?;
        let allocation = Arc::new(allocation.through(tunnel.cloned()));
        *place = Arc::downgrade(&allocation);
        Ok(allocation)
    }

    fn place(&self, server: SocketAddr) -> Place {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MAX_RELAYS {
            places.retain(|_server, place| {
                let unused = || place.try_lock().is_ok_and(|held| held.strong_count() == 0);
                Arc::strong_count(place) > 1 || !unused()
            });
        }
        Arc::clone(places.entry(server).or_default())
    }
}
