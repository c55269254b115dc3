//! Ways out, the NAT, the router's protocols.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    behaviour::{Known, NatBehaviour, ProbePlan, measure},
    port::PortHub,
    portmap::{
        PortMapper,
        library::LibraryRouter,
        manager::{Policy, Status},
    },
};
use ahoy_transport::runtime::{Networks, Route, Runtime, timeout};
use serde::Serialize;

use super::findings::{Finding, Group};

/// Three protocols one after the other, each with its own patience.
const MAPPING_PATIENCE: Duration = Duration::from_secs(9);

/// How the NAT of one address family behaves, for scripts.
#[derive(Debug, Serialize)]
pub(super) struct NatFamily {
    /// Where supernodes see us.
    mapped: SocketAddr,
    translated: bool,
    mapping: Known,
    filtering: Known,
    /// Whether mapping depends on ports; absent where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mapping_by_port: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filtering_by_port: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hairpin: Option<bool>,
    /// The supernodes are in the same network: nothing is known of the way to the internet.
    pub(super) inside: bool,
    port_preserved: bool,
    supernodes_asked: usize,
}

impl From<&NatBehaviour> for NatFamily {
    fn from(found: &NatBehaviour) -> Self {
        Self {
            mapped: found.mapped,
            translated: found.translated,
            mapping: found.mapping,
            filtering: found.filtering,
            mapping_by_port: found.mapping.by_port(),
            filtering_by_port: found.filtering.by_port(),
            hairpin: found.hairpin,
            inside: is_inside(found.mapped.ip()),
            port_preserved: found.port_preserved,
            supernodes_asked: found.servers,
        }
    }
}

/// What the router said.
#[derive(Debug, Serialize)]
pub(super) struct PortMapping {
    /// The protocol that worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    /// Where others reach the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<SocketAddr>,
    /// The router's outside address is a private one.
    double_nat: bool,
    /// For a person.
    said: String,
    #[serde(skip)]
    asked: bool,
}

/// What was measured.
pub(super) struct Nat {
    pub(super) v4: Option<NatBehaviour>,
    pub(super) v6: Option<NatBehaviour>,
}

pub(super) fn ways_out(networks: &Networks) -> Finding {
    let (v4, v6) = (
        networks.addrs.iter().any(IpAddr::is_ipv4),
        networks.addrs.iter().any(IpAddr::is_ipv6),
    );
    let way = |family: &str, has: bool, route: Option<&Route>| match (has, route) {
        (false, _) => None,
        (true, None) => Some(format!("{family} without a way to the internet")),
        (true, Some(route)) => Some(match &route.interface {
            Some(interface) => format!("{family} by {interface}"),
            None => family.to_owned(),
        }),
    };
    let ways: Vec<String> = [
        way("IPv4", v4, networks.route_v4.as_ref()),
        way("IPv6", v6, networks.route_v6.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if ways.is_empty() {
        return Finding::fail(
            Group::Network,
            "connection",
            "none",
            "This machine has no address but its own.",
            "Connect it to a network.",
        );
    }
    let found = ways.join(", ");
    if networks.route_v4.is_none() && networks.route_v6.is_none() {
        return Finding::note(
            Group::Network,
            "connection",
            found,
            "Only people in the same network can be reached.",
        )
        .advise("For the rest, connect to the internet.");
    }
    Finding::ok(Group::Network, "connection", found, "")
}

pub(super) fn udp_port(local: SocketAddr) -> Finding {
    let families = if local.is_ipv6() {
        "for IPv4 and IPv6"
    } else {
        "for IPv4"
    };
    Finding::ok(
        Group::Network,
        "UDP",
        format!("a port opens {families}"),
        "",
    )
}

/// Measures with the supernodes that answer.
pub(super) async fn nat(
    runtime: &Arc<dyn Runtime>,
    hub: &Arc<PortHub>,
    servers: &[SocketAddr],
) -> Nat {
    // Where some are on the internet, those tell what stands in front of it.
    let outside: Vec<SocketAddr> = servers
        .iter()
        .filter(|server| !is_inside(server.ip()))
        .copied()
        .collect();
    let servers = if outside.is_empty() {
        servers
    } else {
        &outside
    };
    let own: BTreeSet<IpAddr> = runtime.interface_addrs().into_iter().collect();
    let own_port = hub.port().local_addr().port();
    let family = async |is_v4: bool| {
        let fitting = servers.iter().filter(|server| server.is_ipv4() == is_v4);
        let plan = ProbePlan {
            servers: fitting.copied().collect(),
            own_addrs: own.clone(),
            own_port,
        };
        if plan.servers.is_empty() {
            return None;
        }
        measure(&**runtime, hub, plan)
            .await
            .inspect_err(|error| tracing::debug!(%error, is_v4, "the NAT is not measured"))
            .ok()
    };
    Nat {
        v4: family(true).await,
        v6: family(false).await,
    }
}

/// What the measurement means. Of two families, the one with the translator.
pub(super) fn judge_nat(nat: &Nat, asked: bool) -> Vec<Finding> {
    let Some(found) = nat.v4.as_ref().or(nat.v6.as_ref()) else {
        let why = match asked {
            true => "No supernode answered STUN.",
            false => "That takes a supernode.",
        };
        return vec![Finding::unknown(Group::Network, "NAT", "not measured", why)];
    };
    let mut findings = vec![judge_mapping_kind(found), judge_filtering(found)];
    findings.extend(found.hairpin.map(judge_hairpin));
    findings
}

/// How the outside of our packets is made, as far as it matters for calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MappingKind {
    /// The supernode is in the same network: nothing is seen of what is between that and the internet.
    Inside,
    /// Nothing translates.
    None,
    /// By several outside addresses.
    Several,
    /// By one port for everybody.
    OnePort,
    /// By a port for each remote endpoint.
    ManyPorts,
    /// There was too little to ask.
    Unseen,
}

impl MappingKind {
    pub(crate) fn of(found: &NatBehaviour) -> Self {
        match (found.translated, found.one_address) {
            (false, _) if is_inside(found.mapped.ip()) => Self::Inside,
            (false, _) => Self::None,
            (true, false) => Self::Several,
            (true, true) => match found.mapping.by_port() {
                Some(false) => Self::OnePort,
                Some(true) => Self::ManyPorts,
                None => Self::Unseen,
            },
        }
    }
}

/// Whom a NAT or a firewall lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilteringKind {
    /// Whoever knows the port.
    Known,
    /// Those that were written to.
    Written,
    /// There was no second port to ask.
    Unseen,
}

impl FilteringKind {
    pub(crate) fn of(found: &NatBehaviour) -> Self {
        match found.filtering.by_port() {
            Some(false) => Self::Known,
            Some(true) => Self::Written,
            None => Self::Unseen,
        }
    }
}

fn judge_mapping_kind(found: &NatBehaviour) -> Finding {
    let what = "NAT mapping";
    let mut shown = found.mapping.to_string();
    if found.port_preserved {
        shown.push_str(", ports kept");
    }
    match MappingKind::of(found) {
        MappingKind::Inside => Finding::unknown(
            Group::Network,
            what,
            "none on the way to the supernode",
            "It is in the same network; what stands between that and the internet cannot be seen from there.",
        )
        .advise("To see it, name a supernode on the internet in the settings (homes)."),
        MappingKind::None => Finding::ok(
            Group::Network,
            what,
            "none: this machine has an address of its own",
            "Nothing translates its packets; others see them as they are sent.",
        ),
        MappingKind::Several => Finding::note(
            Group::Network,
            what,
            format!("{shown}, several outside addresses"),
            "Different people see you at different addresses: some calls stay on the relay.",
        )
        .advise("Ask the provider for a public address, or use IPv6."),
        MappingKind::OnePort => Finding::ok(
            Group::Network,
            what,
            shown,
            "One outside port serves everybody: calls become direct with nearly all people.",
        ),
        MappingKind::ManyPorts => Finding::note(
            Group::Network,
            what,
            shown,
            "Each person sees another outside port. Calls become direct with people whose own NAT is easier; with the \
             rest they guess ports, and stay on the relay where that fails.",
        )
        .advise(
            "Optional: switch UPnP or PCP on in the router, or IPv6, or use another uplink: phones' and offices' \
             NATs are often like this.",
        ),
        MappingKind::Unseen => Finding::unknown(
            Group::Network,
            what,
            shown,
            "With one supernode, and none of its other ports to be reached, there is no more to see.",
        )
        .advise("Name a second supernode in the settings (homes)."),
    }
}

fn judge_filtering(found: &NatBehaviour) -> Finding {
    let what = if found.translated {
        "NAT filtering"
    } else {
        "filtering"
    };
    match FilteringKind::of(found) {
        FilteringKind::Known => Finding::ok(
            Group::Network,
            what,
            found.filtering.to_string(),
            "Whoever knows the port gets through, at least from addresses that were written to.",
        ),
        FilteringKind::Written => Finding::ok(
            Group::Network,
            what,
            found.filtering.to_string(),
            "Only those that were written to get through, as behind most routers: both sides of a call open the way.",
        ),
        FilteringKind::Unseen => Finding::unknown(
            Group::Network,
            what,
            found.filtering.to_string(),
            "The supernodes have no second port to try it with.",
        ),
    }
}

fn judge_hairpin(works: bool) -> Finding {
    match works {
        true => Finding::ok(
            Group::Network,
            "hairpin",
            "yes",
            "Two devices behind this NAT reach each other by their outside addresses too.",
        ),
        // Nothing to mend: hosts in one network use their inside addresses.
        false => Finding::ok(
            Group::Network,
            "hairpin",
            "no",
            "Usual. Devices in one network use their inside addresses; behind one provider's NAT, but not in one \
             home, a relay.",
        ),
    }
}

/// Asks the router for a port, and gives it back.
pub(super) async fn port_mapping(
    runtime: &Arc<dyn Runtime>,
    port: u16,
    wanted: bool,
) -> PortMapping {
    if !wanted {
        return PortMapping {
            protocol: None,
            external: None,
            double_nat: false,
            said: "not asked: no router, or switched off in the settings".into(),
            asked: false,
        };
    }
    let router = Arc::new(LibraryRouter::new(&**runtime));
    let mapper = PortMapper::start(Arc::clone(runtime), router, port, Policy::default());
    let mut status = mapper.status();
    let settled = |status: &Status| !matches!(status, Status::Idle | Status::Asking);
    let waiting = status.wait_for(settled);
    let known = match timeout(&**runtime, MAPPING_PATIENCE, waiting).await {
        Some(Ok(status)) => status.clone(),
        Some(Err(_)) | None => Status::Idle,
    };
    let said = known.to_string();
    let (protocol, external, double_nat) = match known {
        Status::Mapped { protocol, external } => {
            (Some(protocol.to_string()), Some(external.into()), false)
        }
        Status::DoubleNat { .. } => (None, None, true),
        Status::Idle | Status::Asking | Status::Unavailable { .. } => (None, None, false),
    };
    mapper.close().await;
    PortMapping {
        protocol,
        external,
        double_nat,
        said,
        asked: true,
    }
}

pub(super) fn judge_mapping(mapping: &PortMapping, nat: Option<&NatBehaviour>) -> Finding {
    let what = "port mapping";
    let public = |nat: &NatBehaviour| !nat.translated && !is_inside(nat.mapped.ip());
    if nat.is_some_and(public) {
        return Finding::ok(Group::Network, what, "not needed", "");
    }
    if !mapping.asked {
        return Finding::ok(Group::Network, what, mapping.said.clone(), "");
    }
    match (&mapping.protocol, mapping.double_nat) {
        (Some(protocol), _) => Finding::ok(
            Group::Network,
            what,
            format!("by {protocol}"),
            "The router opens a port: others reach you at once.",
        ),
        (None, true) => Finding::note(
            Group::Network,
            what,
            "the router maps, but is behind another NAT",
            "Your provider translates too (RFC 6598), so a mapped port does not reach you.",
        )
        .advise("Ask the provider for a public address or IPv6; calls work without."),
        (None, false) => Finding::ok(
            Group::Network,
            what,
            "none: the router speaks neither PCP, NAT-PMP nor UPnP",
            "Usual, and not needed where the NAT's mapping is endpoint-independent.",
        ),
    }
}

/// IPv6 is the way around most NATs.
pub(super) fn judge_ipv6(
    networks: &Networks,
    nat: Option<&NatBehaviour>,
    servers: &[SocketAddr],
) -> Finding {
    let what = "IPv6";
    let has = networks.addrs.iter().any(IpAddr::is_ipv6);
    let tested = servers.iter().any(SocketAddr::is_ipv6);
    match (has && networks.route_v6.is_some(), nat, tested) {
        (true, Some(_), _) => Finding::ok(
            Group::Network,
            what,
            "works",
            "With people who have it too, no NAT is in the way.",
        ),
        (true, None, true) => Finding::note(
            Group::Network,
            what,
            "there is an address, and no supernode answers by it",
            "A firewall drops it, or the provider's IPv6 is broken; calls use IPv4.",
        )
        .advise("Restart the router; otherwise ask the provider."),
        (true, None, false) => Finding::unknown(
            Group::Network,
            what,
            "there is an address; not tried",
            "No supernode in the settings has IPv6.",
        ),
        (false, ..) => Finding::ok(
            Group::Network,
            what,
            "none",
            "Calls use IPv4; with IPv6 more of them would be direct.",
        ),
    }
}

/// Whether an address only means something inside some network.
pub(super) fn is_inside(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
    }
}

/// RFC 6598.
fn is_shared(v4: Ipv4Addr) -> bool {
    matches!(v4.octets(), [100, 64..=127, _, _])
}

#[cfg(test)]
mod tests {
    use ahoy_nat::behaviour::Dependence;

    use super::*;
    use crate::headless::doctor::findings::Standing;

    fn found(mapping: Known, filtering: Known) -> NatBehaviour {
        NatBehaviour {
            mapped: "198.51.100.7:4000".parse().unwrap(),
            translated: true,
            one_address: true,
            mapping,
            filtering,
            hairpin: Some(false),
            port_preserved: true,
            servers: 2,
            rtt: Duration::from_millis(20),
            packets: 9,
        }
    }

    #[test]
    fn a_home_router_is_fine_and_a_carriers_nat_comes_with_advice() {
        let by_port = Known::exactly(Dependence::AddressAndPortDependent);
        let home = found(Known::exactly(Dependence::EndpointIndependent), by_port);
        let nat = |v4| Nat {
            v4: Some(v4),
            v6: None,
        };
        for finding in judge_nat(&nat(home), true) {
            assert_eq!(finding.standing, Standing::Ok, "{finding:?}");
        }
        let carrier = judge_nat(&nat(found(by_port, by_port)), true);
        assert_eq!(carrier[0].standing, Standing::Note);
        assert!(carrier[0].advice.is_some());
        // A range that says nothing about ports.
        let vague = judge_nat(&nat(found(Known::NOTHING, Known::NOTHING)), true);
        assert_eq!(vague[0].standing, Standing::Unknown);
        assert_eq!(vague[1].standing, Standing::Unknown);
    }

    #[test]
    fn a_supernode_next_door_tells_nothing_of_the_internet() {
        let mut next_door = found(
            Known::exactly(Dependence::EndpointIndependent),
            Known::NOTHING,
        );
        next_door.translated = false;
        next_door.mapped = "192.168.0.2:4000".parse().unwrap();
        let nat = Nat {
            v4: Some(next_door),
            v6: None,
        };
        assert_eq!(judge_nat(&nat, true)[0].standing, Standing::Unknown);
    }

    #[test]
    fn a_machine_alone_is_told_so_and_one_without_a_way_out_too() {
        let alone = ways_out(&Networks::default());
        assert!(alone.is_fail());
        let local = Networks::of_addrs(["192.168.0.2".parse().unwrap()]);
        assert_eq!(ways_out(&local).standing, Standing::Note);
    }
}
