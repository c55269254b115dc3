//! A device of a person: identity, port, and what it registers at its homes.

use std::{net::SocketAddr, sync::Arc};

use ahoy::identity::Identity;
use ahoy_nat::{
    client::NodeClient,
    dial::{NodePlace, Ways, dial},
    home::{ConnectFailure, Dialling, Registrant},
    supernode::protocol::Registration,
};
use ahoy_transport::{
    endpoint::{ConnectError, Endpoint, EndpointConfig, NodeAuth},
    identity::{NodeId, SealKeyRecord},
    runtime::{Runtime, RuntimeExt},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// A device with its port.
#[derive(Debug)]
pub struct Device {
    /// Where it runs.
    pub runtime: Arc<dyn Runtime>,
    /// Who it is.
    pub identity: Identity,
    /// Its port.
    pub endpoint: Endpoint,
}

impl Device {
    /// A new person's only device on an own port.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        let mut rng = rng(&runtime);
        let identity = Identity::create(&mut rng, runtime.unix_millis());
        Self::with_identity(runtime, identity)
    }

    /// A device with this identity on an own port.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn with_identity(runtime: Arc<dyn Runtime>, identity: Identity) -> Arc<Self> {
        let config = EndpointConfig::peer(SocketAddr::from(([0, 0, 0, 0], 0)));
        let endpoint = Endpoint::bind(Arc::clone(&runtime), config).expect("a port is free");
        Arc::new(Self {
            runtime,
            identity,
            endpoint,
        })
    }

    /// What it shows to its homes.
    #[must_use]
    pub fn auth(&self) -> NodeAuth {
        NodeAuth::Device {
            keys: Arc::new(self.identity.device().clone()),
            certificate: self.identity.certificate().clone(),
        }
    }

    /// What it registers.
    #[must_use]
    pub fn registration(&self, epoch: u64) -> Registration {
        Registration {
            epoch,
            certificate: self.identity.certificate().as_bytes().to_vec(),
            log: self.identity.log().to_bytes(),
            seal_key: SealKeyRecord::issue(self.identity.device())
                .as_bytes()
                .to_vec(),
        }
    }

    /// Connects to a supernode with or without a name.
    ///
    /// # Errors
    /// As [`Endpoint::connect_node`].
    pub async fn dial(
        &self,
        node: NodeId,
        addr: SocketAddr,
        auth: NodeAuth,
    ) -> Result<NodeClient, ConnectError> {
        let connection = self.endpoint.connect_node(addr, node, auth).await?;
        Ok(NodeClient::new(Arc::clone(&self.runtime), connection))
    }
}

/// A generator seeded by the runtime.
#[must_use]
pub fn rng(runtime: &Arc<dyn Runtime>) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(runtime.random_array())
}

impl Registrant for Device {
    fn dial<'a>(&'a self, node: NodeId, place: &'a NodePlace, ways: Ways) -> Dialling<'a> {
        Box::pin(async move {
            dial(&self.endpoint, node, place, self.auth(), ways)
                .await
                .map_err(|error| ConnectFailure(error.to_string()))
        })
    }

    fn registration(&self, epoch: u64) -> Registration {
        Self::registration(self, epoch)
    }
}
