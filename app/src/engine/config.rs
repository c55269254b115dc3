//! What an engine is started with.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ahoy_nat::{
    dial::{NodePlace, Ways},
    discovery::{
        dht::{Dht, publisher::PublishPolicy},
        record::RecordRules,
    },
    supernode::protocol::Registration,
};
use ahoy_transport::{
    endpoint::NetworkAccess,
    identity::{DeviceCertificate, DeviceKeys, Host, NodeAddress, RootKey, UserId, log::DeviceLog},
    runtime::{Runtime, resolve_node},
    session::SessionConfig,
    tunnel::{TunnelTarget, proxy::Proxy},
};

pub use crate::settings::PathPolicy;

use super::{
    files::FilesSettings,
    lending::LendSettings,
    media::{AudioSettings, Probe},
    recording::RecordSettings,
    video::{VideoProbe, VideoSettings},
};
use crate::{call::CallConfig, identity::Identity, sound::SoundChoices};

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
    /// The key that names the person, where this device holds it: it signs the person's record.
    pub root: Option<Arc<RootKey>>,
}

impl Me {
    /// What a supernode is told of this device, under a fresh `epoch`.
    #[must_use]
    pub fn registration(&self, epoch: u64) -> Registration {
        Registration {
            epoch,
            certificate: self.certificate.as_bytes().to_vec(),
            log: self.log.to_bytes(),
            seal_key: self.keys.seal_key_record().as_bytes().to_vec(),
        }
    }

    /// The device of `identity`, whose owner is called `name`.
    #[must_use]
    pub fn of(identity: &Identity, name: &str) -> Self {
        Self {
            user: identity.user(),
            name: name.to_owned(),
            keys: Arc::new(identity.device().clone()),
            certificate: identity.certificate().clone(),
            log: identity.log().clone(),
            root: identity
                .root()
                .filter(|root| root.user() == identity.user())
                .map(|root| Arc::new(root.clone())),
        }
    }
}

/// How supernodes are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaching {
    /// By which of UDP and TCP.
    pub ways: Ways,
    /// What TCP connections go through.
    pub proxy: Option<Proxy>,
}

impl Reaching {
    /// As what is on this machine is reached.
    #[must_use]
    pub fn straight() -> Self {
        Self {
            ways: Ways::Both,
            proxy: None,
        }
    }

    /// Where the supernode at `address` is reached, whose name stands for `addr`; see [`Self::find`].
    #[must_use]
    pub fn place(&self, address: &NodeAddress, addr: SocketAddr) -> NodePlace {
        let known = !addr.ip().is_unspecified() && self.proxy.is_none();
        NodePlace {
            udp: addr,
            tcp: address.tcp.map(|port| TunnelTarget {
                host: address.host.clone(),
                resolved: known.then(|| addr.ip()),
                port,
                proxy: self.proxy.clone(),
            }),
        }
    }

    /// Looks the supernode's name up. Where only the proxy can do that, the address is unspecified.
    ///
    /// # Errors
    /// When the name has no address and nobody else can be asked.
    pub async fn find(
        &self,
        runtime: &dyn Runtime,
        address: &NodeAddress,
    ) -> io::Result<SocketAddr> {
        let by_proxy = self.proxy.is_some() && self.ways.tcp() && address.tcp.is_some();
        match resolve_node(runtime, address).await {
            Ok(found) => found
                .first()
                .copied()
                .ok_or_else(|| io::ErrorKind::NotFound.into()),
            Err(_no_name_service) if by_proxy && matches!(address.host, Host::Name(_)) => {
                Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port))
            }
            Err(error) => Err(error),
        }
    }

    /// [`Self::find`] and [`Self::place`].
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn locate(
        &self,
        runtime: &dyn Runtime,
        address: &NodeAddress,
    ) -> io::Result<NodePlace> {
        let addr = self.find(runtime, address).await?;
        Ok(self.place(address, addr))
    }
}

impl EngineConfig {
    /// How supernodes are reached.
    #[must_use]
    pub fn reaching(&self) -> Reaching {
        Reaching {
            ways: ways(self.path),
            proxy: self.proxy.clone(),
        }
    }
}

/// By which ways supernodes are reached under a policy for media.
#[must_use]
pub fn ways(path: PathPolicy) -> Ways {
    match path {
        PathPolicy::Auto | PathPolicy::Direct | PathPolicy::Relay => Ways::Both,
        PathPolicy::Tcp => Ways::Tcp,
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

/// How people are found, and let themselves be found, where no known home answers.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The table that records are put into and looked for; none: only known homes count. Only where media may go directly:
    /// its nodes see the address of whoever asks and puts.
    pub dht: Option<Arc<dyn Dht>>,
    /// Leave our record at other supernodes, and look for others' there: see [`ahoy_nat::discovery::rendezvous`].
    pub supernodes: bool,
    /// Have supernodes tell of others; without it only those count that served us, or somebody we called.
    pub gossip: bool,
    /// How our record is put there.
    pub publish: PublishPolicy,
    /// Which records are believed.
    pub rules: RecordRules,
    /// A device whose list ends before the one that the person's record speaks of is not called: whoever stole it may
    /// show the list from before. Off only for tests.
    pub heads: bool,
    /// Supernodes that signed the end of a device list stand in the person's record, and what they signed is compared: see
    /// [`ahoy_nat::discovery::heads`]. Off only for tests.
    pub witnesses: bool,
    /// Devices of one person keep a record where it is looked for that another of them signed, since not all hold the key for
    /// that.
    pub hand_on: bool,
    /// Tell contacts who ask that this device is there, and ask them: see [`super::presence`].
    pub presence: bool,
    /// The private network that this device belongs to: its supernodes are shown our pass, and others asked nothing unless it
    /// says so.
    pub access: Option<Arc<NetworkAccess>>,
}

impl Default for Finding {
    fn default() -> Self {
        Self {
            dht: None,
            supernodes: false,
            gossip: false,
            publish: PublishPolicy::default(),
            rules: RecordRules::default(),
            heads: true,
            witnesses: true,
            hand_on: true,
            presence: false,
            access: None,
        }
    }
}

/// What keeps calls up while networks change. The switches are there to show what each part is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// What a session does about connections that fall silent.
    pub session: SessionConfig,
    /// Look out for changes of this machine's networks; without it only silence tells of them.
    pub watch_networks: bool,
    /// Ask relays whether they still know us when a path falls silent; without it only the next refresh tells.
    pub probe_relays: bool,
    /// Look for direct paths again; without it the first that is lost was the last.
    pub restart_ice: bool,
    /// Say by the homes how we can be reached while the session may have no path; without it two who both moved
    /// never find each other.
    pub follow_ups: bool,
    /// Spread the checks of direct paths in time; without it many addresses make a flood.
    pub pace_checks: bool,
    /// Call a device by every home that has it; without it one home that throws calls away keeps them from ringing.
    pub every_home: bool,
    /// Look whether homes hand on what they take, and leave those that do not; without it one that throws calls away is kept.
    pub watch_homes: bool,
    /// Leave homes for better ones whose lines lose packets or are long, as measured; without it one that is up is good enough.
    /// Measured by what [`Self::watch_homes`] leaves there.
    pub better_homes: bool,
    /// Do the work that flooded supernodes ask for in one search at a time; without it a call to several devices at several
    /// homes takes as many cores.
    pub one_search: bool,
    /// Leave messages again until each device of a person has them; without it the first that has one is enough, and what a home
    /// forgets the others never get.
    pub every_device: bool,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            session: SessionConfig::default(),
            watch_networks: true,
            probe_relays: true,
            restart_ice: true,
            follow_ups: true,
            pace_checks: true,
            every_home: true,
            watch_homes: true,
            better_homes: true,
            one_search: true,
            every_device: true,
        }
    }
}

/// What an engine is started with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Who we are.
    pub me: Me,
    /// Address of the one UDP port; port 0 for any.
    pub listen: SocketAddr,
    /// Supernodes to be registered at, with the addresses their names stand for; unspecified where that is to be looked
    /// up later.
    pub homes: Vec<(NodeAddress, SocketAddr)>,
    /// Which paths media may take.
    pub path: PathPolicy,
    /// What TCP connections to supernodes go through.
    pub proxy: Option<Proxy>,
    /// Sound.
    pub audio: AudioSettings,
    /// Pictures.
    pub video: VideoSettings,
    /// What is recorded.
    pub recording: RecordSettings,
    /// What becomes of files.
    pub files: FilesSettings,
    /// What the person chose about sound, to be shown and changed: `audio` and `limits` follow it from the first change
    /// on.
    pub sound: SoundChoices,
    /// Who answers.
    pub answering: Answering,
    /// Limits of a call.
    pub limits: CallConfig,
    /// Loopback addresses are candidates too: for demonstrations on one machine.
    pub allow_loopback: bool,
    /// Ask the router to let others in. Only where the runtime's network is this machine's.
    pub port_mapping: bool,
    /// What keeps calls up. Everything, but in tests.
    pub upkeep: Upkeep,
    /// Be found, and find others, in the own network without a supernode. Only where media may go directly: it shows
    /// others there where we are.
    pub lan_discovery: bool,
    /// Have our homes keep letters for us while we are off.
    pub mailbox: bool,
    /// By records, where no known home answers.
    pub finding: Finding,
    /// Serve others as a supernode, when the owner wants; none: not possible here.
    pub lend: Option<LendSettings>,
    /// Guess ports where no direct path is found otherwise: see [`ahoy_nat::ice::spray`].
    pub guess_ports: bool,
    /// Logs for measuring mouth to ear.
    pub probe: Option<Probe>,
    /// Logs for measuring from camera to screen.
    pub video_probe: Option<VideoProbe>,
    /// Measure this process's CPU time and memory.
    pub measure_cost: bool,
}
