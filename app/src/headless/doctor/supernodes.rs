//! The supernodes of the settings: reached or not, how fast, what they say of us and of the time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{client::NodeClient, supernode::protocol::Registration};
use ahoy_transport::{
    connection::Connection,
    endpoint::{ConnectError, Endpoint, NodeAuth},
    identity::NodeAddress,
    noise::HandshakeError,
    runtime::{Runtime, RuntimeExt, resolve_node, timeout},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use serde::Serialize;

use super::{
    findings::{Finding, Group},
    network::is_inside,
};
use crate::identity::Identity;

/// Longer than any supernode that could carry a call takes to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Clocks may differ by this much without a word; certificates and offers bear several minutes.
const CLOCK_FINE: i64 = 30_000;
/// From here on calls fail: what one side signs looks stale or not yet valid to the other.
const CLOCK_BAD: i64 = 5 * 60_000;
/// The made-up person is this old, so that a supernode whose clock is behind ours takes it too.
const BACKDATED: u64 = 24 * 60 * 60 * 1000;

/// What a supernode is asked as. It is nobody: made for this, and gone with it.
pub(super) struct Somebody(Identity);

impl Somebody {
    pub(super) fn new(runtime: &dyn Runtime) -> Self {
        let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
        let born = runtime.unix_millis().saturating_sub(BACKDATED);
        Self(Identity::create(&mut rng, born))
    }

    fn auth(&self) -> NodeAuth {
        NodeAuth::Device {
            keys: Arc::new(self.0.device().clone()),
            certificate: self.0.certificate().clone(),
        }
    }

    fn registration(&self, runtime: &dyn Runtime) -> Registration {
        Registration {
            epoch: u64::from_be_bytes(runtime.random_array()),
            certificate: self.0.certificate().as_bytes().to_vec(),
            log: self.0.log().to_bytes(),
            seal_key: self.0.device().seal_key_record().as_bytes().to_vec(),
        }
    }
}

/// One supernode, for scripts.
#[derive(Debug, Default, Serialize)]
pub(super) struct SupernodeReport {
    address: String,
    reached_by_udp: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    /// Its clock minus ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_offset_ms: Option<i64>,
    relays: bool,
}

/// What an examination brought.
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    pub(super) report: SupernodeReport,
    /// Where it answers Binding.
    pub(super) binding: Option<SocketAddr>,
}

/// There is none in the settings.
pub(super) fn none() -> Finding {
    Finding::fail(
        Group::Supernodes,
        "supernodes",
        "none in the settings",
        "A supernode is where others find you. Without one you can call people by their links, and nobody can call you.",
        "Put the ahoy-node: link of a friend's supernode into the settings (homes), or run one: ahoy supernode --print-link",
    )
}

/// Finds, reaches and asks one.
pub(super) async fn examine(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    somebody: &Somebody,
    address: &NodeAddress,
) -> Examined {
    let what = format!("{}:{}", address.host, address.port);
    let mut examined = Examined {
        findings: Vec::new(),
        report: SupernodeReport {
            address: what.clone(),
            ..SupernodeReport::default()
        },
        binding: None,
    };
    let addrs = match timeout(&**runtime, PATIENCE, resolve_node(&**runtime, address)).await {
        Some(Ok(addrs)) => addrs,
        Some(Err(error)) => {
            examined.findings.push(unnamed(what, &error.to_string()));
            return examined;
        }
        None => {
            examined
                .findings
                .push(unnamed(what, "the name server does not answer"));
            return examined;
        }
    };
    let Some(addr) = addrs.first().copied() else {
        examined.findings.push(unnamed(what, "it has no address"));
        return examined;
    };
    let client = match connect(runtime, endpoint, somebody, addr, address).await {
        Ok(client) => client,
        Err(finding) => {
            examined.findings.push(finding(what));
            return examined;
        }
    };
    examined.report.reached_by_udp = true;
    let rtt = client.connection().map(Connection::rtt).unwrap_or_default();
    examined.report.rtt_ms = Some(millis(rtt));
    let asked = runtime.unix_millis();
    let registered = client.register(somebody.registration(&**runtime)).await;
    let answered = runtime.unix_millis();
    let grant = match registered {
        Ok(registered) => {
            let middle = asked + answered.saturating_sub(asked) / 2;
            examined.report.clock_offset_ms = Some(difference(registered.now_millis, middle));
            registered.relay
        }
        Err(error) => {
            examined.findings.push(Finding::fail(
                Group::Supernodes,
                format!("{what}, registering"),
                error.to_string(),
                "It answers and does not take you in: nobody finds you there.",
                "Ask its owner, and check this machine's clock.",
            ));
            client.relay_grant().await.ok()
        }
    };
    examined.report.relays = grant.is_some();
    examined.binding =
        grant.map(|grant| SocketAddr::new(grant.server.ip().to_canonical(), grant.server.port()));
    client.close();
    let relays = match examined.report.relays {
        true => "relays",
        false => "does not relay",
    };
    let found = format!("answers by UDP in {:.0} ms, {relays}", millis(rtt));
    let finding = match examined.report.relays {
        true => Finding::ok(Group::Supernodes, what, found, inside(addr.ip())),
        false => Finding::note(
            Group::Supernodes,
            what,
            found,
            "Calls that find no direct way have none through it.",
        )
        .advise("Name one that relays as well."),
    };
    examined.findings.insert(0, finding);
    examined
}

fn inside(ip: IpAddr) -> &'static str {
    match ip.to_canonical() {
        ip if ip.is_loopback() => {
            "It is on this machine: others reach it only if it has another address too."
        }
        ip if is_inside(ip) => {
            "It is in this network: people elsewhere reach it only if it has another address too."
        }
        _elsewhere => "",
    }
}

/// Makes a finding of the supernode's name.
type Blame = Box<dyn FnOnce(String) -> Finding + Send>;

async fn connect(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    somebody: &Somebody,
    addr: SocketAddr,
    address: &NodeAddress,
) -> Result<NodeClient, Blame> {
    let connecting = endpoint.connect_node(addr, address.node, somebody.auth());
    match timeout(&**runtime, PATIENCE, connecting).await {
        Some(Ok(connection)) => Ok(NodeClient::new(Arc::clone(runtime), connection)),
        Some(Err(error)) => Err(refused(error)),
        None => Err(Box::new(|what| {
            Finding::fail(
                Group::Supernodes,
                what,
                "does not answer by UDP",
                "It is down, or a firewall between here and there drops UDP.",
                "Try another network, or another supernode; if all are silent here, this network blocks UDP: use one with a TCP port.",
            )
        })),
    }
}

fn refused(error: ConnectError) -> Blame {
    Box::new(move |what| {
        let (meaning, advice) = match &error {
            ConnectError::Handshake(HandshakeError::Refused(_)) => (
                "Somebody answers, and refuses this device.",
                "Check this machine's clock; otherwise ask the supernode's owner.",
            ),
            ConnectError::Handshake(_) | ConnectError::BadNodeKey => (
                "Somebody answers there who does not have the key in the link.",
                "Ask its owner for a new link.",
            ),
            ConnectError::OutsideNetwork => (
                "This profile keeps to its private network.",
                "Use a supernode of that network, or join it anew with --also-public.",
            ),
            ConnectError::Full
            | ConnectError::Config(_)
            | ConnectError::Dial(_)
            | ConnectError::Lost(_) => (
                "Nobody can be reached through it.",
                "Ask its owner whether it runs, and try another network.",
            ),
        };
        Finding::fail(Group::Supernodes, what, error.to_string(), meaning, advice)
    })
}

fn unnamed(what: String, error: &str) -> Finding {
    Finding::fail(
        Group::Supernodes,
        what,
        format!("its name is not known: {error}"),
        "A name must be looked up before anybody can be reached under it.",
        "Check the link, and whether this machine's name server works.",
    )
}

/// By the supernodes that agree most with us: one of theirs may be wrong.
pub(super) fn judge_clock(examined: &[Examined]) -> Finding {
    let offsets = examined
        .iter()
        .filter_map(|examined| examined.report.clock_offset_ms);
    let Some(offset) = offsets.min_by_key(|offset| offset.unsigned_abs()) else {
        return Finding::unknown(
            Group::Network,
            "clock",
            "nothing to compare it with",
            "A supernode tells the time when one answers.",
        );
    };
    let size = i64::try_from(offset.unsigned_abs()).unwrap_or(i64::MAX);
    let way = if offset > 0 { "behind" } else { "ahead" };
    let shown = match size {
        ..1000 => "right".to_owned(),
        1000..120_000 => format!("{} s {way}", size / 1000),
        _ => format!("{} min {way}", size / 60_000),
    };
    match size {
        ..=CLOCK_FINE => Finding::ok(Group::Network, "clock", shown, ""),
        size if size < CLOCK_BAD => Finding::note(
            Group::Network,
            "clock",
            shown,
            "Still near enough; further off, calls will be refused.",
        )
        .advise("Let this machine set its clock by the network (NTP)."),
        _far => Finding::fail(
            Group::Network,
            "clock",
            shown,
            "Others take what this device signs for stale or not yet valid.",
            "Let this machine set its clock by the network (NTP).",
        ),
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

fn difference(theirs: u64, ours: u64) -> i64 {
    let theirs = i64::try_from(theirs).unwrap_or(i64::MAX);
    theirs.saturating_sub(i64::try_from(ours).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headless::doctor::findings::Standing;

    fn clock(offsets: &[Option<i64>]) -> (Standing, String) {
        let examined: Vec<Examined> = offsets
            .iter()
            .map(|offset| Examined {
                findings: Vec::new(),
                report: SupernodeReport {
                    clock_offset_ms: *offset,
                    ..SupernodeReport::default()
                },
                binding: None,
            })
            .collect();
        let finding = judge_clock(&examined);
        (finding.standing, finding.found)
    }

    #[test]
    fn clocks_are_judged_by_the_supernode_that_agrees_most() {
        assert_eq!(clock(&[]).0, Standing::Unknown);
        assert_eq!(clock(&[None, Some(-300)]), (Standing::Ok, "right".into()));
        assert_eq!(clock(&[Some(20_500)]), (Standing::Ok, "20 s behind".into()));
        assert_eq!(
            clock(&[Some(-90_000)]),
            (Standing::Note, "90 s ahead".into())
        );
        assert_eq!(
            clock(&[Some(3_600_000), None]),
            (Standing::Fail, "60 min behind".into())
        );
        // One supernode lives in another year.
        assert_eq!(
            clock(&[Some(40_000_000_000), Some(1500)]),
            (Standing::Ok, "1 s behind".into())
        );
    }
}
