//! `ahoy doctor`: what works here, what it means for calls, and what to do about the rest.
//!
//! It opens a port of its own and asks the supernodes of the profile, as somebody who was made up for this: the
//! person's own registration, perhaps of a running app, stays as it is.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ahoy_nat::port::{PortHub, SharedPort};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig},
    runtime::{Networks, Runtime, TokioRuntime},
};
use futures_util::future::{join_all, join3};
use serde::Serialize;

use crate::{
    cli::{CliError, DoctorArgs, print_json},
    profile::Profile,
    settings::Settings,
};

mod camera;
mod dht;
mod findings;
mod network;
mod show;
mod sound;
mod supernodes;

use findings::{Finding, Group};
#[cfg(feature = "window")]
pub(crate) use network::{FilteringKind, MappingKind};
use network::{NatFamily, PortMapping};
use supernodes::{Examined, SupernodeReport};

/// Version of the JSON; it counts up when something in it changes its meaning.
const SCHEMA: u32 = 1;

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// Nothing keeps calls from working.
    ok: bool,
    /// What it comes to, for a person.
    verdict: String,
    findings: Vec<Finding>,
    /// Microphones and speakers.
    devices: Vec<sound::Device>,
    /// In builds with pictures.
    cameras: Vec<camera::Camera>,
    /// What became of speaking into them; with `--sound` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    trial: Option<sound::Trial>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat_v4: Option<NatFamily>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat_v6: Option<NatFamily>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_mapping: Option<PortMapping>,
    supernodes: Vec<SupernodeReport>,
}

/// Looks at everything and says what it found.
///
/// # Errors
/// With code 1 when something keeps calls from working, and when the settings cannot be read or the result cannot
/// be printed.
pub async fn doctor(profile: &Profile, arguments: &DoctorArgs) -> Result<(), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let settings = Settings::load(profile)?;
    let report = if arguments.sound {
        // It takes seconds, and there is nothing else to do meanwhile.
        tokio::task::block_in_place(|| try_sound(&settings))
    } else {
        let busy = show::busy();
        let report = examine(&runtime, profile, &settings).await;
        drop(busy);
        report
    };
    if arguments.json {
        print_json(&report)?;
    } else {
        show::print(&report)?;
    }
    if report.ok {
        Ok(())
    } else {
        Err(CliError::failed("something keeps calls from working here"))
    }
}

impl Report {
    fn new(findings: Vec<Finding>, devices: Vec<sound::Device>) -> Self {
        Self {
            schema: SCHEMA,
            ok: true,
            verdict: String::new(),
            findings,
            devices,
            cameras: Vec::new(),
            trial: None,
            nat_v4: None,
            nat_v6: None,
            port_mapping: None,
            supernodes: Vec::new(),
        }
    }
}

/// Listens to the microphone and plays what it heard.
fn try_sound(settings: &Settings) -> Report {
    let (devices, findings) = sound::examine(settings);
    let mut report = Report::new(findings, devices);
    if report.findings.iter().all(|finding| !finding.is_fail()) {
        let (trial, finding) = sound::try_out(settings, show::say);
        report.trial = trial;
        report.findings.push(finding);
    }
    report.ok = report.findings.iter().all(|finding| !finding.is_fail());
    report.verdict = if report.ok {
        "The microphone heard something, and the speaker played it.".into()
    } else {
        mended(&report)
    };
    report
}

async fn examine(runtime: &Arc<dyn Runtime>, profile: &Profile, settings: &Settings) -> Report {
    let (devices, heard) = sound::examine(settings);
    let mut findings = vec![identity(profile)];
    findings.extend(heard);
    let (cameras, seen) = camera::examine();
    findings.extend(seen);
    let mut report = Report {
        cameras,
        ..Report::new(findings, devices)
    };
    let networks = runtime.networks();
    report.findings.push(network::ways_out(&networks));
    match open_port(runtime) {
        Ok(endpoint) => {
            report
                .findings
                .push(network::udp_port(endpoint.local_addr()));
            examine_outside(runtime, &endpoint, settings, &networks, &mut report).await;
        }
        Err(error) => report.findings.push(Finding::fail(
            Group::Network,
            "UDP",
            format!("no port can be opened: {error}"),
            "Everything ahoy does starts with one UDP port.",
            "Let ahoy use the network: a sandbox or a security program forbids it.",
        )),
    }
    report.ok = report.findings.iter().all(|finding| !finding.is_fail());
    report.verdict = verdict(&report);
    report
}

fn open_port(runtime: &Arc<dyn Runtime>) -> std::io::Result<Endpoint> {
    let any = |ip| EndpointConfig::peer(SocketAddr::new(ip, 0));
    Endpoint::bind(Arc::clone(runtime), any(Ipv6Addr::UNSPECIFIED.into())).or_else(|_no_ipv6| {
        let any_v4 = std::net::Ipv4Addr::UNSPECIFIED.into();
        Endpoint::bind(Arc::clone(runtime), any(any_v4))
    })
}

/// What takes others to find out, all at once.
async fn examine_outside(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    settings: &Settings,
    networks: &Networks,
    report: &mut Report,
) {
    let port = Arc::new(SharedPort::new(Arc::clone(endpoint.mux())));
    let hub = PortHub::start(&**runtime, port);
    let somebody = supernodes::Somebody::new(&**runtime);
    let examining = settings
        .homes
        .iter()
        .map(|home| supernodes::examine(runtime, endpoint, &somebody, &home.0));
    let (examined, mapping, table) = join3(
        join_all(examining),
        network::port_mapping(
            runtime,
            endpoint.local_addr().port(),
            settings.port_mapping && networks.route_v4.is_some(),
        ),
        dht::examine(runtime, settings),
    )
    .await;
    let servers: Vec<SocketAddr> = examined
        .iter()
        .filter_map(|examined| examined.binding)
        .collect();
    let nat = network::nat(runtime, &hub, &servers).await;
    report
        .findings
        .extend(network::judge_nat(&nat, !servers.is_empty()));
    report
        .findings
        .push(network::judge_mapping(&mapping, nat.v4.as_ref()));
    report
        .findings
        .push(network::judge_ipv6(networks, nat.v6.as_ref(), &servers));
    report.findings.push(table);
    report.nat_v4 = nat.v4.as_ref().map(NatFamily::from);
    report.nat_v6 = nat.v6.as_ref().map(NatFamily::from);
    report.port_mapping = Some(mapping);
    report.findings.push(supernodes::judge_clock(&examined));
    if settings.homes.is_empty() {
        report.findings.push(supernodes::none());
    }
    for Examined {
        findings,
        report: one,
        ..
    } in examined
    {
        report.findings.extend(findings);
        report.supernodes.push(one);
    }
}

fn identity(profile: &Profile) -> Finding {
    match profile.load() {
        Ok(Some(identity)) => Finding::ok(
            Group::You,
            "identity",
            identity.user().to_string(),
            "Others call you by this name; your contacts know it.",
        ),
        Ok(None) => Finding::ok(
            Group::You,
            "identity",
            "none yet",
            "The first use makes one.",
        ),
        Err(error) => Finding::fail(
            Group::You,
            "identity",
            error.to_string(),
            "Without it nobody can be called, and nobody finds you.",
            "Restore it from your 24 words: ahoy id import",
        ),
    }
}

fn mended(report: &Report) -> String {
    let what: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| finding.is_fail())
        .map(Finding::what)
        .collect();
    format!("To be mended before calls can work: {}.", what.join(", "))
}

/// One sentence.
fn verdict(report: &Report) -> String {
    if !report.ok {
        return mended(report);
    }
    let nat = report.nat_v4.as_ref().or(report.nat_v6.as_ref());
    match nat.map(|nat| (nat.inside, nat.mapping_by_port)) {
        None | Some((false, None)) => "Calls work from here, by relay at least.".into(),
        Some((true, _)) => {
            "Calls work from here within this network; farther ones by relay at least.".into()
        }
        Some((false, Some(true))) => {
            "Calls work from here: directly with most people, by relay with the rest.".into()
        }
        Some((false, Some(false))) => {
            "Calls work from here, directly with nearly everybody.".into()
        }
    }
}
