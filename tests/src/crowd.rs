//! Many devices at one supernode: each with an identity and a handshaken connection of its own, registered, with a
//! box. They share ports, so that ten thousand fit into one process.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy::identity::Identity;
use ahoy_nat::{
    client::NodeClient,
    supernode::{
        mailbox::MailCapability,
        protocol::{Push, Registration},
    },
};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::{DeviceId, NodeAddress, SealKeyRecord},
    runtime::{Runtime, RuntimeExt, timeout},
};
use futures_util::{StreamExt, stream};

use crate::{device::rng, process::PATIENCE};

/// Devices that share a port. quinn has a buffer of megabytes for each.
const PER_PORT: usize = 125;
/// Ports that share an address; a supernode opens a thousand boxes for each address.
const PORTS_PER_ADDRESS: usize = 8;
/// Handshakes that run at once: fewer than make a supernode ask for proof of each address.
const AT_ONCE: usize = 48;
/// Attempts of each device: one that loses its way in a crowd tries again, as a home does.
const ATTEMPTS: usize = 5;

/// A device of the crowd.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub device: DeviceId,
    /// What envelopes for it must name.
    pub epoch: u64,
    /// Its connection.
    pub client: NodeClient,
}

/// All of them, and their ports.
#[derive(Debug)]
pub struct Crowd {
    runtime: Arc<dyn Runtime>,
    /// The devices.
    pub members: Vec<Member>,
    ports: Vec<Endpoint>,
}

impl Crowd {
    /// Nobody yet.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self {
            runtime,
            members: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// Registers devices until there are `count`, from addresses 127.0.0.2 and up.
    ///
    /// # Panics
    /// When a port cannot be had, or a device does not get in.
    pub async fn grow(&mut self, node: &NodeAddress, count: usize) {
        while self.ports.len() * PER_PORT < count {
            let host = u8::try_from(2 + self.ports.len() / PORTS_PER_ADDRESS)
                .expect("some hundred thousand devices are enough");
            let addr = SocketAddr::from(([127, 0, 0, host], 0));
            let port = Endpoint::bind(Arc::clone(&self.runtime), EndpointConfig::peer(addr));
            self.ports.push(port.expect("a port is free"));
        }
        let joining = (self.members.len()..count).map(|number| {
            let port = self.ports[number / PER_PORT].clone();
            join(Arc::clone(&self.runtime), port, node)
        });
        let joined: Vec<Member> = stream::iter(joining)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        self.members.extend(joined);
    }

    /// Hands an envelope of `bytes` from one to another, and says how long it took to be there.
    ///
    /// # Panics
    /// When it does not arrive.
    pub async fn deliver(&self, from: usize, to: usize, bytes: usize) -> Duration {
        let (from, to) = (&self.members[from], &self.members[to]);
        let start = self.runtime.now();
        let sending = from.client.deliver(to.device, to.epoch, vec![7; bytes]);
        let receiving = async {
            let push = to.client.next_push().await.expect("the connection stands");
            assert!(matches!(push, Push::Incoming { .. }), "{push:?}");
            self.runtime.now()
        };
        let both = futures_util::future::join(sending, receiving);
        let (sent, arrived) = timeout(&*self.runtime, PATIENCE, both)
            .await
            .expect("it arrives");
        sent.expect("the supernode takes it");
        arrived - start
    }
}

async fn join(runtime: Arc<dyn Runtime>, port: Endpoint, node: &NodeAddress) -> Member {
    let identity = Identity::create(&mut rng(&runtime), runtime.unix_millis());
    let auth = NodeAuth::Device {
        keys: Arc::new(identity.device().clone()),
        certificate: identity.certificate().clone(),
    };
    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), node.port);
    let mut attempt = 1;
    let connection = loop {
        match port.connect_node(addr, node.node, auth.clone()).await {
            Ok(connection) => break connection,
            Err(error) => assert!(attempt < ATTEMPTS, "{error}"),
        }
        attempt += 1;
    };
    let client = NodeClient::new(Arc::clone(&runtime), connection);
    let epoch = u64::from_be_bytes(runtime.random_array());
    let registration = Registration {
        epoch,
        certificate: identity.certificate().as_bytes().to_vec(),
        log: identity.log().to_bytes(),
        seal_key: SealKeyRecord::issue(identity.device()).as_bytes().to_vec(),
    };
    client
        .register(registration)
        .await
        .expect("the supernode registers whoever is in an own log");
    let key = MailCapability::from_bytes(runtime.random_array()).at(node.node);
    client.keep_box(key).await.expect("there is a box for each");
    Member {
        device: identity.device().id(),
        epoch,
        client,
    }
}

/// Bytes of a process that are in memory now.
///
/// # Errors
/// When the process is gone, or the system does not tell.
pub fn resident_bytes(id: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map(|kib| kib << 10)
        .ok_or_else(|| io::Error::other("no VmRSS"))
}

/// The value that `fraction` of `sorted` are not above, 0.0..=1.0.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn quantile(sorted: &[Duration], fraction: f64) -> Duration {
    let last = sorted.len().checked_sub(1).expect("there are some");
    sorted[(fraction * last as f64).round() as usize]
}
