//! What an engine is started with.

use std::{net::SocketAddr, sync::Arc};

use ahoy_transport::identity::{
    DeviceCertificate, DeviceKeys, NodeAddress, UserId, log::DeviceLog,
};

pub use crate::settings::PathPolicy;

use super::media::{AudioSettings, Probe};
use crate::{call::CallConfig, identity::Identity};

/// Who this device is.
#[derive(Debug, Clone)]
pub struct Me {
    /// The person.
    pub user: UserId,
    /// What the person is called by themselves; shown to people they call.
    pub name: String,
    /// This device's keys.
    pub keys: Arc<DeviceKeys>,
    /// What the person certified about them.
    pub certificate: DeviceCertificate,
    /// The person's device log.
    pub log: DeviceLog,
}

impl Me {
    /// The device of `identity`, whose owner is called `name`.
    #[must_use]
    pub fn of(identity: &Identity, name: &str) -> Self {
        Self {
            user: identity.user(),
            name: name.to_owned(),
            keys: Arc::new(identity.device().clone()),
            certificate: identity.certificate().clone(),
            log: identity.log().clone(),
        }
    }
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answering {
    /// A person.
    #[default]
    Person,
    /// Calls that ring are accepted at once; strangers wait in the inbox.
    Contacts,
    /// Everybody rings, and is accepted at once. For tests and machines.
    Everybody,
}

/// What an engine is started with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Who we are.
    pub me: Me,
    /// Address of the one UDP port; port 0 for any.
    pub listen: SocketAddr,
    /// Supernodes to be registered at, with the addresses their names stand for.
    pub homes: Vec<(NodeAddress, SocketAddr)>,
    /// Which paths media may take.
    pub path: PathPolicy,
    /// Sound.
    pub audio: AudioSettings,
    /// Who answers.
    pub answering: Answering,
    /// Limits of a call.
    pub limits: CallConfig,
    /// Loopback addresses are candidates too: for demonstrations on one machine.
    pub allow_loopback: bool,
    /// Ask the router to let others in. Only where the runtime's network is this machine's.
    pub port_mapping: bool,
    /// Logs for measuring mouth to ear.
    pub probe: Option<Probe>,
    /// Measure this process's CPU time and memory.
    pub measure_cost: bool,
}
