//! `ahoy supernode`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ahoy_transport::runtime::{Runtime, TokioRuntime};
use clap::Args;

use super::{CliError, print_line};
use crate::{
    profile::Profile,
    supernode::{PublicAddr, SupernodeConfig, SupernodeHandle, load_or_create_keys},
};

/// Most addresses listened on: every interface of a big machine.
const MAX_LISTEN: usize = 16;
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
    /// What others reach this machine by, if that is not the address of its interface.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub public_addr: Option<PublicAddr>,
    /// Print the link to this supernode once it is ready.
    #[arg(long)]
    pub print_link: bool,
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupernodePlan {
    /// All settings.
    pub config: SupernodeConfig,
    /// Print the link.
    pub print_link: bool,
}

impl SupernodeArgs {
    /// Checks them and reads the settings file.
    ///
    /// # Errors
    /// A settings file that cannot be read; too many addresses.
    pub fn plan(self) -> Result<SupernodePlan, CliError> {
        if self.listen.len() > MAX_LISTEN {
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
        if self.public_addr.is_some() {
            config.public_addr = self.public_addr;
        }
        Ok(SupernodePlan {
            config,
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

/// Serves until Ctrl-C, then lets running calls end.
///
/// # Errors
/// When a port cannot be had, or the key cannot be read or written.
pub(super) async fn serve(profile: &Profile, plan: SupernodePlan) -> Result<(), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let folder = profile.dir();
    std::fs::create_dir_all(folder).map_err(|error| {
        let folder = folder.display();
        CliError::failed(format_args!("cannot create {folder}: {error}"))
    })?;
    let keys = load_or_create_keys(&*runtime, folder).map_err(CliError::failed)?;
    let supernode = SupernodeHandle::start(runtime, plan.config, &keys)
        .await
        .map_err(CliError::failed)?;
    let links = supernode.links();
    for link in &links {
        tracing::info!("reachable by {link}");
    }
    if plan.print_link
        && let Some(best) = links.first()
    {
        print_line(&best.to_string())?;
    }
    stopped().await;
    let relays = supernode.status().rendezvous.relays;
    let packets = relays.iter().map(|relay| relay.traffic.packets_to_client);
    let legs = relays.iter().map(|relay| relay.allocations_opened);
    let (packets, legs): (u64, u64) = (packets.sum(), legs.sum());
    tracing::info!("relayed {packets} packets for {legs} ends of calls");
    tracing::info!("stopping: running calls may end, Ctrl-C again does not wait for them");
    tokio::select! {
        biased;
        cut_off = supernode.drain(DRAIN_PATIENCE) => {
            if cut_off > 0 {
                tracing::warn!("{cut_off} relayed calls were cut off");
            }
        }
        () = stopped() => {}
    }
    Ok(())
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
