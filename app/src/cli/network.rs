//! `ahoy network`: a network of supernodes that serve nobody else.

use std::sync::Arc;

use ahoy_nat::{
    client::NodeClient,
    dial::{NodePlace, Ways, dial},
};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::{
        NodeAddress,
        network::{MAX_INVITE_DAYS, NetworkRole, RevokedInvites},
    },
    runtime::{Runtime, TokioRuntime, resolve_node},
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, Exit, env::Env, output::to_json, print_line};
use crate::{
    link::{NodeLink, display_name},
    network::{DAY_MILLIS, Issued, Membership, NetworkLink, OwnerError, days, ends_soon},
    settings::Settings,
    store::Store,
};

/// Days in a year: how long invites count unless something else is said.
const YEAR: u32 = 365;

/// A private network: supernodes of your own that serve nobody else.
#[derive(Debug, Clone, Args)]
pub struct NetworkArgs {
    /// What to do (default: list).
    #[command(subcommand)]
    pub command: Option<NetworkCommand>,
}

/// What to do with a network.
#[derive(Debug, Clone, Subcommand)]
pub enum NetworkCommand {
    /// Make a network. Its key stays in this profile, which can run its first supernode.
    New {
        /// What to call it.
        name: String,
    },
    /// Print a link that lets one device in, or one supernode. Only that one: what redeems it first keeps it.
    Invite {
        /// Whom it is for, to find it again.
        #[arg(value_name = "WHO", default_value = "")]
        who: String,
        /// It counts for so many days from now.
        #[arg(long = "for", value_name = "DAYS", default_value_t = YEAR,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_INVITE_DAYS)))]
        days: u32,
        /// It is for a supernode, which others are told of.
        #[arg(long)]
        supernode: bool,
        /// A supernode of the network, where whoever joins begins; remembered for the next invites; may be repeated.
        #[arg(long, value_name = "LINK")]
        node: Vec<NodeLink>,
    },
    /// Join a network by such a link. From then on only its supernodes are used.
    Join {
        /// What `ahoy network invite` printed.
        link: NetworkLink,
        /// Other supernodes, and the DHT, are used as well.
        #[arg(long)]
        also_public: bool,
    },
    /// Leave the network. Whoever made it loses its key by that.
    Leave {
        /// Lose the key of a network that was made here.
        #[arg(long)]
        for_good: bool,
    },
    /// Take an invite back: whoever came by it is sent away.
    Revoke {
        /// Whom it was for, or the beginning of its number.
        #[arg(value_name = "WHO|NUMBER")]
        which: String,
        /// A supernode of the network that is told, besides those that are known; may be repeated.
        #[arg(long, value_name = "LINK")]
        node: Vec<NodeLink>,
    },
    /// Show the network, and what was given away.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Shown {
    name: String,
    network: String,
    owner: bool,
    role: &'static str,
    not_after_millis: u64,
    ends_soon: bool,
    also_public: bool,
    nodes: Vec<String>,
    invites: Vec<ShownInvite>,
}

#[derive(Serialize)]
struct ShownInvite {
    number: String,
    who: String,
    role: &'static str,
    not_after_millis: u64,
    ends_soon: bool,
    revoked: bool,
}

fn role(role: NetworkRole) -> &'static str {
    match role {
        NetworkRole::Device => "device",
        NetworkRole::Supernode => "supernode",
    }
}

fn addresses(links: Vec<NodeLink>) -> impl Iterator<Item = NodeAddress> {
    links.into_iter().map(|NodeLink(node)| node)
}

fn owner(error: OwnerError) -> CliError {
    match error {
        OwnerError::NoKey(_) | OwnerError::Full => CliError::failed(error),
        OwnerError::Unknown(_) | OwnerError::Ambiguous(_) => CliError::usage(error),
    }
}

/// Carries it out; prints what there is to print.
pub(super) async fn network(env: &mut Env<'_>, arguments: NetworkArgs) -> Result<(), CliError> {
    let command = arguments
        .command
        .unwrap_or(NetworkCommand::List { json: false });
    let said = match command {
        NetworkCommand::New { name } => new(env, &name)?,
        NetworkCommand::Invite {
            who,
            days,
            supernode,
            node,
        } => {
            let mut here = membership(env)?;
            here.add_nodes(addresses(node));
            if here.nodes.is_empty() && !supernode {
                return Err(CliError::usage(
                    "a device has to know where to begin: name a supernode of the network by --node, as \
                     `ahoy supernode --network … --print-link` prints it",
                ));
            }
            let role = if supernode {
                NetworkRole::Supernode
            } else {
                NetworkRole::Device
            };
            let link = here.invite(role, days, &who, env.now_millis, &mut *env.rng);
            let link = link.map_err(owner)?;
            Settings::change_network(&env.profile, Some(here))?;
            link.to_string()
        }
        NetworkCommand::Join { link, also_public } => join(env, link, also_public)?,
        NetworkCommand::Leave { for_good } => {
            let here = membership(env)?;
            if here.is_owner() && !for_good {
                return Err(CliError::usage(format_args!(
                    "{} was made here, and nobody can be invited once its key is gone: say --for-good",
                    here.name
                )));
            }
            let _lock = env.profile.lock()?;
            Settings::change_network(&env.profile, None)?;
            format!("{} is left", here.name)
        }
        NetworkCommand::Revoke { which, node } => {
            let mut here = membership(env)?;
            let (issued, list) = here.revoke(&which).map_err(owner)?;
            // What was signed counts, whether a supernode can be told now or not.
            Settings::change_network(&env.profile, Some(here.clone()))?;
            here.add_nodes(addresses(node));
            return tell(&here, &issued, &list).await;
        }
        NetworkCommand::List { json } => {
            let here = membership(env)?;
            if json {
                to_json(&shown(&here, env.now_millis))?
            } else {
                listed(&here, env.now_millis)
            }
        }
    };
    print_line(&said)
}

fn membership(env: &Env<'_>) -> Result<Membership, CliError> {
    Settings::load(&env.profile)?.network.ok_or_else(|| {
        CliError::usage(
            "this profile is in no private network: `ahoy network new NAME` makes one, `ahoy network join LINK` joins one",
        )
    })
}

fn none_yet(env: &Env<'_>) -> Result<(), CliError> {
    match Settings::load(&env.profile)?.network {
        None => Ok(()),
        Some(there) => Err(CliError::usage(format_args!(
            "this profile is in the network {:?} already: `ahoy network leave`, or use --home for another profile",
            there.name
        ))),
    }
}

fn new(env: &mut Env<'_>, name: &str) -> Result<String, CliError> {
    none_yet(env)?;
    if display_name(name).is_empty() {
        return Err(CliError::usage("a network needs a name"));
    }
    let _lock = env.profile.lock()?;
    let here = Membership::found(name, env.now_millis, &mut *env.rng);
    let said = format!("{} is a network now: {}", here.name, here.network());
    settle(env, here)?;
    Ok(said)
}

fn join(env: &mut Env<'_>, link: NetworkLink, also_public: bool) -> Result<String, CliError> {
    none_yet(env)?;
    let certificate = link.invite.certificate();
    if certificate.not_after_millis <= env.now_millis {
        return Err(CliError::failed(
            "this invite has expired: ask for another one",
        ));
    }
    let what = role(certificate.role);
    let left = days((certificate.not_after_millis - env.now_millis).div_ceil(DAY_MILLIS));
    let lock = env.profile.lock()?;
    let here = Membership::join(link, also_public, &mut *env.rng);
    let said = format!(
        "this profile is a {what} of {} for {left} from now",
        here.name
    );
    if !also_public {
        // Whom it knew before is not in there.
        Store::open(&lock)?.forget_nodes()?;
    }
    settle(env, here)?;
    Ok(said)
}

/// From now on this profile belongs there. It has to be sealed before there is something to be sealed.
fn settle(env: &mut Env<'_>, here: Membership) -> Result<(), CliError> {
    env.identity()?;
    Ok(Settings::change_network(&env.profile, Some(here))?)
}

fn shown(here: &Membership, now_millis: u64) -> Shown {
    let certificate = here.member().certificate();
    let invites = here.issued().iter().map(|issued| ShownInvite {
        number: issued.short(),
        who: issued.label.clone(),
        role: role(issued.role),
        not_after_millis: issued.not_after_millis,
        ends_soon: !issued.revoked && ends_soon(issued.not_after_millis, now_millis),
        revoked: issued.revoked,
    });
    let nodes = here.nodes.iter().cloned();
    Shown {
        name: here.name.clone(),
        network: here.network().to_string(),
        owner: here.is_owner(),
        role: role(certificate.role),
        not_after_millis: certificate.not_after_millis,
        ends_soon: ends_soon(certificate.not_after_millis, now_millis),
        also_public: here.may_leave,
        nodes: nodes.map(|node| NodeLink(node).to_string()).collect(),
        invites: invites.collect(),
    }
}

fn listed(here: &Membership, now_millis: u64) -> String {
    let left = |not_after_millis: u64| match not_after_millis.saturating_sub(now_millis) {
        0 => String::from("expired"),
        left => {
            let soon = if ends_soon(not_after_millis, now_millis) {
                ": ends soon"
            } else {
                ""
            };
            format!("{} left{soon}", days(left.div_ceil(DAY_MILLIS)))
        }
    };
    let certificate = here.member().certificate();
    let (role_here, until) = (role(certificate.role), left(certificate.not_after_millis));
    let mut lines = vec![format!(
        "{}\t{role_here}\t{until}\t{}",
        here.name,
        here.network()
    )];
    for node in &here.nodes {
        lines.push(NodeLink(node.clone()).to_string());
    }
    for issued in here.issued() {
        let state = if issued.revoked {
            String::from("taken back")
        } else {
            left(issued.not_after_millis)
        };
        let role = role(issued.role);
        lines.push(format!(
            "{}\t{}\t{role}\t{state}",
            issued.short(),
            issued.label
        ));
    }
    lines.join("\n")
}

/// Brings the list of revoked invites to the network's supernodes; one is enough, since they tell each other.
async fn tell(here: &Membership, issued: &Issued, list: &RevokedInvites) -> Result<(), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let bind = |listen: &str| {
        let listen = listen.parse().map_err(std::io::Error::other)?;
        Endpoint::bind(Arc::clone(&runtime), EndpointConfig::peer(listen))
    };
    let endpoint = bind("[::]:0")
        .or_else(|_no_ipv6| bind("0.0.0.0:0"))
        .map_err(|error| CliError::failed(format_args!("cannot open a UDP port: {error}")))?;
    endpoint.set_access(here.access());
    let mut told = 0;
    for node in &here.nodes {
        let telling = async {
            let addrs = resolve_node(&*runtime, node).await;
            let addrs = addrs.map_err(|error| error.to_string())?;
            let place = addrs.first().copied().map(NodePlace::by_udp);
            let place = place.ok_or("its name has no address")?;
            let auth = NodeAuth::Anonymous;
            let dialled = dial(&endpoint, node.node, &place, auth, Ways::Udp).await;
            let dialled = dialled.map_err(|error| error.to_string())?;
            let client = NodeClient::dialled(Arc::clone(&runtime), dialled);
            let taken = client
                .news(Some(list.seq()), 0, Some(list.to_bytes()))
                .await;
            client.close();
            taken.map_err(|error| error.to_string())
        };
        match telling.await {
            Ok(_news) => told += 1,
            Err::<_, String>(error) => tracing::warn!("{node} was not told: {error}"),
        }
    }
    endpoint.wait_idle().await;
    let (who, all) = (issued.short(), here.nodes.len());
    if told == 0 {
        return Err(CliError::new(
            Exit::NoRoute,
            format_args!(
                "{who} is taken back, but no supernode could be told: run this again, or start a supernode in this profile"
            ),
        ));
    }
    let supernodes = if all == 1 { "supernode" } else { "supernodes" };
    print_line(&format!(
        "{who} is taken back: {told} of {all} {supernodes} told"
    ))
}
