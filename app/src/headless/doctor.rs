//! `ahoy doctor`: what works here, and what to do about the rest.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::client::NodeClient;
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::NodeAddress,
    runtime::{Runtime, TokioRuntime, resolve_node, timeout},
};
use serde::Serialize;

use crate::{
    cli::{CliError, DoctorArgs, print_json, print_line},
    profile::Profile,
    settings::Settings,
};

/// Longer than any supernode that could carry a call takes to answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ok: true,
            found: found.into(),
            advice: None,
        }
    }

    fn bad(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ok: false,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

/// Looks at everything and says what it found.
///
/// # Errors
/// When the result cannot be printed, or the settings cannot be read.
pub async fn doctor(profile: &Profile, arguments: &DoctorArgs) -> Result<(), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let settings = Settings::load(profile)?;
    let mut findings = vec![identity(profile), addresses(&*runtime)];
    findings.extend(sound());
    match Endpoint::bind(
        Arc::clone(&runtime),
        EndpointConfig::peer(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
    ) {
        Ok(endpoint) => {
            findings.push(Finding::good(
                "UDP port",
                "can be opened, for IPv4 and IPv6",
            ));
            if settings.homes.is_empty() {
                findings.push(Finding::bad(
                    "supernodes",
                    "none in the settings",
                    "put the ahoy-node: link of a friend's supernode into the settings (homes), or run one: ahoy supernode --print-link",
                ));
            }
            for home in &settings.homes {
                findings.extend(supernode(&runtime, &endpoint, &home.0).await);
            }
        }
        Err(error) => findings.push(Finding::bad(
            "UDP port",
            format!("cannot be opened: {error}"),
            "let ahoy use the network: a firewall or a sandbox forbids it",
        )),
    }
    if arguments.json {
        return print_json(&Findings { findings });
    }
    for finding in &findings {
        let mark = if finding.ok { "ok  " } else { "FAIL" };
        print_line(&format!("{mark}  {}: {}", finding.what, finding.found))?;
        if let Some(advice) = &finding.advice {
            print_line(&format!("      -> {advice}"))?;
        }
    }
    Ok(())
}

fn identity(profile: &Profile) -> Finding {
    match profile.load() {
        Ok(Some(identity)) => Finding::good("identity", identity.user().to_string()),
        Ok(None) => Finding::good("identity", "none yet; the first use makes one"),
        Err(error) => Finding::bad(
            "identity",
            error.to_string(),
            "restore it from your 24 words: ahoy id import",
        ),
    }
}

fn addresses(runtime: &dyn Runtime) -> Finding {
    let outside: Vec<IpAddr> = runtime
        .interface_addrs()
        .into_iter()
        .filter(|ip| !ip.is_loopback())
        .collect();
    if outside.is_empty() {
        return Finding::bad(
            "network",
            "this machine has no address but its own",
            "connect it to a network",
        );
    }
    let kinds = match (
        outside.iter().any(IpAddr::is_ipv4),
        outside.iter().any(IpAddr::is_ipv6),
    ) {
        (true, true) => "IPv4 and IPv6",
        (true, false) => "IPv4 only",
        (false, _) => "IPv6 only",
    };
    Finding::good("network", kinds)
}

/// A supernode: found, reached, how fast, and how the clocks differ.
async fn supernode(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    address: &NodeAddress,
) -> Vec<Finding> {
    let what = format!("supernode {}:{}", address.host, address.port);
    let addrs = match resolve_node(&**runtime, address).await {
        Ok(addrs) => addrs,
        Err(error) => {
            return vec![Finding::bad(
                what,
                format!("its name is not known: {error}"),
                "check the link and the name server",
            )];
        }
    };
    let Some(addr) = addrs.first().copied() else {
        return vec![Finding::bad(
            what,
            "its name has no address",
            "ask its owner",
        )];
    };
    let connecting = endpoint.connect_node(addr, address.node, NodeAuth::Anonymous);
    let connection = match timeout(&**runtime, PATIENCE, connecting).await {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => {
            return vec![Finding::bad(
                what,
                error.to_string(),
                "ask its owner whether it runs and still has the key in the link",
            )];
        }
        None => {
            return vec![Finding::bad(
                what,
                "does not answer",
                "it is down, or a firewall drops UDP; try another network or supernode",
            )];
        }
    };
    let rtt = connection.rtt();
    let client = NodeClient::new(Arc::clone(runtime), connection);
    let relay = match client.relay_grant().await {
        Ok(grant) => Finding::good(format!("{what}, relay"), format!("at {}", grant.server)),
        Err(error) => Finding::bad(
            format!("{what}, relay"),
            error.to_string(),
            "calls through this supernode need a direct path; name one that relays as well",
        ),
    };
    client.close();
    vec![
        Finding::good(
            what,
            format!("answers in {:.0} ms", rtt.as_secs_f64() * 1000.0),
        ),
        relay,
    ]
}

#[cfg(feature = "devices")]
fn sound() -> Vec<Finding> {
    use ahoy_media::audio::device::{AudioSystem, Direction, list};

    let devices = match list(AudioSystem::Best) {
        Ok(devices) => devices,
        Err(error) => {
            return vec![Finding::bad(
                "sound",
                error.to_string(),
                "start the sound server, or use --audio-in and --audio-out with files",
            )];
        }
    };
    [
        (Direction::Input, "microphone"),
        (Direction::Output, "speaker"),
    ]
    .into_iter()
    .map(|(direction, what)| {
        let real = devices
            .iter()
            .filter(|device| device.direction == direction && !device.is_pseudo);
        match real
            .clone()
            .find(|device| device.is_default)
            .or(real.clone().next())
        {
            Some(device) => {
                Finding::good(what, format!("{} ({} in all)", device.name, real.count()))
            }
            None => Finding::bad(what, "none found", "plug one in"),
        }
    })
    .collect()
}

#[cfg(not(feature = "devices"))]
fn sound() -> Vec<Finding> {
    vec![Finding::good(
        "sound",
        "this build has no devices; files stand in for them",
    )]
}
