//! `ahoy supernode`.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    candidate::Candidate,
    discovery::{
        dht::{
            DhtError,
            mainline::{DhtEntry, MainlineServer},
        },
        gossip::shell::TableKeeper,
    },
    portmap::{
        PortMapper,
        library::LibraryRouter,
        manager::{self, Policy},
    },
};
use ahoy_transport::{
    identity::{Host, NodeAddress, network::NetworkRole},
    runtime::{Runtime, RuntimeExt, TokioRuntime, timeout},
};
use clap::Args;

use super::{CliError, print_line};
use crate::{
    link::NodeLink,
    network::Membership,
    profile::Profile,
    settings::Settings,
    supernode::{
        MailFile, NodesFile, Peer, PublicAddr, SupernodeConfig, SupernodeHandle,
        load_or_create_keys,
        watch::{DhtRefused, Watch, WatchAddr},
    },
};

/// Most addresses listened on: every interface of a big machine.
const MAX_LISTEN: usize = 16;
/// How long the link waits for a router that may make a better one: as long as one by UPnP takes.
const ROUTER_PATIENCE: Duration = Duration::from_secs(3);
/// Calls under way may go on for so long after Ctrl-C; a second one ends it at once.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// Help others to find each other and to get through.
#[derive(Debug, Clone, Args)]
pub struct SupernodeArgs {
    /// Read settings from this TOML file; options here win.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen here for UDP; port 0 takes a free one; may be repeated.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Listen here for TCP, for people whose network blocks UDP; port 443 gets through best; may be repeated.
    #[arg(long, value_name = "ADDR:PORT")]
    pub tcp: Vec<SocketAddr>,
    /// What others reach this machine by, if that is not the address of its interface.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub public_addr: Option<PublicAddr>,
    /// Show figures here by HTTP: a page at /, Prometheus' format at /metrics, JSON at /status.json. A port alone is
    /// reached from this machine only.
    #[arg(long, value_name = "[ADDR:]PORT")]
    pub metrics: Option<WatchAddr>,
    /// Be a node of the DHT that people are found by, too, and listen for that here; port 6881 is usual.
    #[arg(long, value_name = "ADDR:PORT")]
    pub dht: Option<SocketAddrV4>,
    /// Where to enter the DHT, instead of the public one: HOST:PORT; may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub dht_bootstrap: Vec<DhtEntry>,
    /// Do not ask the router to let others in.
    #[arg(long)]
    pub no_portmap: bool,
    /// Another supernode that this one learns of others from, and tells them of itself; may be repeated.
    #[arg(long, value_name = "LINK")]
    pub peer: Vec<NodeLink>,
    /// Serve the members of this private network and nobody else: see `ahoy network`.
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Print the link to this supernode once it is ready.
    #[arg(long)]
    pub print_link: bool,
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupernodePlan {
    /// All settings.
    pub config: SupernodeConfig,
    /// Serve the members of this private network alone.
    pub network: Option<String>,
    /// Print the link.
    pub print_link: bool,
}

impl SupernodeArgs {
    /// Checks them and reads the settings file.
    ///
    /// # Errors
    /// A settings file that cannot be read; too many addresses.
    pub fn plan(self) -> Result<SupernodePlan, CliError> {
        if self.listen.len() > MAX_LISTEN || self.tcp.len() > MAX_LISTEN {
            return Err(CliError::usage(format_args!(
                "{MAX_LISTEN} addresses are enough"
            )));
        }
        let mut config = match &self.config {
            None => SupernodeConfig::default(),
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path).map_err(|error| {
                    CliError::usage(format_args!("--config {shown} cannot be read: {error}"))
                })?;
                text.parse().map_err(|error| {
                    CliError::usage(format_args!("--config {shown} cannot be used: {error}"))
                })?
            }
        };
        if !self.listen.is_empty() {
            config.listen = self.listen;
            // Whoever listens on private addresses alone serves a private network, and nothing else can be
            // reached through it.
            if config.listen.iter().all(|addr| is_private(addr.ip())) {
                config.relay.allow_private = true;
            }
        }
        if !self.tcp.is_empty() {
            config.tcp = self.tcp;
        }
        if self.public_addr.is_some() {
            config.public_addr = self.public_addr;
        }
        if self.metrics.is_some() {
            config.metrics = self.metrics;
        }
        if self.dht.is_some() {
            config.dht.listen = self.dht;
        }
        if !self.dht_bootstrap.is_empty() {
            config.dht.bootstrap = self.dht_bootstrap;
        }
        if config.dht.listen.is_none() && !config.dht.bootstrap.is_empty() {
            return Err(CliError::usage(
                "--dht-bootstrap needs --dht ADDR:PORT: where others ask this node",
            ));
        }
        if !self.peer.is_empty() {
            config.network.peers = self
                .peer
                .into_iter()
                .map(|NodeLink(peer)| Peer(peer))
                .collect();
        }
        if self.no_portmap {
            config.port_mapping = false;
        }
        Ok(SupernodePlan {
            config,
            network: self.network,
            print_link: self.print_link,
        })
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

/// Whether somebody outside could need a router's help to get here.
fn may_be_behind_nat(local: &SocketAddr) -> bool {
    match local.ip() {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

/// Serves until Ctrl-C, then lets running calls end.
///
/// # Errors
/// When a port cannot be had, or the key cannot be read or written.
pub(super) async fn serve(profile: &Profile, mut plan: SupernodePlan) -> Result<(), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let folder = profile.dir();
    std::fs::create_dir_all(folder).map_err(|error| {
        let folder = folder.display();
        CliError::failed(format_args!("cannot create {folder}: {error}"))
    })?;
    let keys = load_or_create_keys(&*runtime, folder).map_err(CliError::failed)?;
    let membership = plan
        .network
        .as_deref()
        .map(|name| membership(profile, name, &plan.config, runtime.unix_millis()))
        .transpose()?;
    plan.config.private = membership.as_ref().map(|member| member.supernode(&keys));
    let may_map = plan.config.port_mapping && plan.config.public_addr.is_none();
    let public_ip = match &plan.config.public_addr {
        Some(PublicAddr {
            host: Host::Ip(IpAddr::V4(v4)),
            ..
        }) => Some(*v4),
        Some(_) | None => None,
    };
    let table = plan.config.dht.server(public_ip);
    let metrics = plan.config.metrics;
    // A network's supernodes are nobody else's business, and the other way round.
    let (memory, members) = match &membership {
        Some(member) => {
            let (memory, members) = NodesFile::of_network(folder, member.network());
            (memory, Some(Arc::new(members) as Arc<dyn TableKeeper>))
        }
        None => (NodesFile::within(folder), None),
    };
    let memory = Arc::new(memory);
    let keeps_mail = plan.config.keep_mail && plan.config.limits.mail.boxes > 0;
    let mail = keeps_mail
        .then(|| MailFile::within(folder).map_err(CliError::failed))
        .transpose()?;
    let starting = SupernodeHandle::start_keeping(
        Arc::clone(&runtime),
        plan.config,
        &keys,
        Some(memory),
        members,
    );
    let supernode = Arc::new(starting.await.map_err(CliError::failed)?);
    if let Some(mail) = mail {
        supernode.keep_mail(Arc::new(mail));
    }
    let table = match table {
        Some(config) => {
            let node = MainlineServer::start(&runtime, &config).await;
            match node {
                Ok(node) => {
                    tracing::info!("a node of the DHT at {}", node.addr());
                    Some(Arc::new(node))
                }
                // Calls need none.
                Err(error @ DhtError::NoNodes) => {
                    tracing::warn!("no node of the DHT here: {error}");
                    None
                }
                Err(error) => return Err(CliError::failed(error)),
            }
        }
        None => None,
    };
    let watch = metrics
        .map(|at| {
            let refused = table
                .clone()
                .map(|table| -> DhtRefused { Arc::new(move || table.refused_puts()) });
            let watch = Watch::start(&runtime, at, Arc::clone(&supernode), refused);
            watch.map_err(|error| {
                CliError::failed(format_args!("cannot show figures at {at}: {error}"))
            })
        })
        .transpose()?;
    if let Some(watch) = &watch {
        tracing::info!("figures at http://{}/", watch.addr());
    }
    let mut links = supernode.links();
    let is_public = |link: &NodeLink| match &link.0.host {
        Host::Ip(IpAddr::V4(v4)) => manager::is_public(*v4),
        Host::Ip(IpAddr::V6(_)) | Host::Name(_) => false,
    };
    let may_map = may_map && !links.iter().any(is_public);
    let mapper = may_map
        .then(|| supernode.local_addrs().into_iter().find(may_be_behind_nat))
        .flatten()
        .map(|local| {
            let router = Arc::new(LibraryRouter::new(&*runtime));
            let runtime = Arc::clone(&runtime);
            PortMapper::start(runtime, router, local.port(), Policy::default())
        });
    let mut telling = None;
    if let Some(mapper) = &mapper {
        let (node, mut mapped) = (supernode.node(), mapper.candidates());
        let link = move |mapped: &[Candidate]| {
            let addr = mapped.first()?.addr;
            Some(NodeLink(NodeAddress::new(node, addr)))
        };
        if plan.print_link {
            let found = mapped.wait_for(|mapped| !mapped.is_empty());
            if let Some(Ok(mapped)) = timeout(&*runtime, ROUTER_PATIENCE, found).await
                && let Some(link) = link(&mapped)
            {
                links.insert(0, link);
            }
        }
        telling = Some(runtime.spawn_task(async move {
            while mapped.changed().await.is_ok() {
                match link(&mapped.borrow_and_update()) {
                    Some(link) => tracing::info!("the router lets others in: reachable by {link}"),
                    None => tracing::warn!("the router does not let others in any more"),
                }
            }
        }));
    }
    for link in &links {
        tracing::info!("reachable by {link}");
    }
    if plan.print_link
        && let Some(best) = links.first()
    {
        print_line(&best.to_string())?;
    }
    stopped().await;
    drop(telling);
    if let Some(watch) = &watch {
        watch.set_draining();
    }
    if let Some(table) = &table {
        let refused = table.refused_puts();
        tracing::info!("refused {refused} records that came too fast to the DHT");
    }
    if let Some(mapper) = mapper {
        mapper.close().await;
    }
    let relays = supernode.status().rendezvous.relays;
    let packets = relays.iter().map(|relay| relay.traffic.packets_to_client);
    let legs = relays.iter().map(|relay| relay.allocations_opened);
    let (packets, legs): (u64, u64) = (packets.sum(), legs.sum());
    tracing::info!("relayed {packets} packets for {legs} ends of calls");
    tracing::info!("stopping: running calls may end, Ctrl-C again does not wait for them");
    tokio::select! {
        biased;
        cut_off = supernode.wind_down(DRAIN_PATIENCE) => {
            if cut_off > 0 {
                tracing::warn!("{cut_off} relayed calls were cut off");
            }
        }
        () = stopped() => {}
    }
    Ok(())
}

/// This profile's place in the network of that name, as a supernode.
fn membership(
    profile: &Profile,
    name: &str,
    config: &SupernodeConfig,
    now_millis: u64,
) -> Result<Membership, CliError> {
    let member = Settings::load(profile)?.network.ok_or_else(|| {
        CliError::usage(
            "this profile belongs to no private network: `ahoy network join` an invite that was made with --supernode",
        )
    })?;
    if member.name != name && member.network().to_string() != name {
        return Err(CliError::usage(format_args!(
            "this profile belongs to the network {:?}, not to {name:?}",
            member.name
        )));
    }
    let certificate = member.member().certificate();
    if certificate.role != NetworkRole::Supernode {
        return Err(CliError::usage(
            "the invite of this profile is for a device: ask for one that was made with --supernode",
        ));
    }
    if certificate.not_after_millis <= now_millis {
        return Err(CliError::failed(
            "the invite of this profile has expired: ask for another one",
        ));
    }
    if config.dht.listen.is_some() {
        return Err(CliError::usage(
            "--dht serves everybody, and --network does not: leave one of them out",
        ));
    }
    Ok(member)
}

/// Somebody asks us to stop.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                biased;
                _ctrl_c = tokio::signal::ctrl_c() => {}
                _asked = terminate.recv() => {}
            }
            return;
        }
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "Ctrl-C cannot be heard; end the process to stop");
        std::future::pending::<()>().await;
    }
}
