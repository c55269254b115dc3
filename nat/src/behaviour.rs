//! How the NAT in front of us behaves, in the terms of RFC 4787, found by probes in the manner of RFC 5780.
//!
//! [`Prober`] is without socket and clock. It needs what supernodes serve: Binding, a second port, and answers from
//! that port (CHANGE-REQUEST). With one supernode the dependence on ports is found; with two at different addresses
//! the dependence on addresses, too. What could not be told apart stays a [range](Known).
//!
//! ```text
//! 1  Binding to each supernode          where do they see us? equal at two addresses: mapping does not depend on them
//! 2  Binding, answer from second port   does it arrive? then filtering does not depend on ports
//!    a packet to where they see us      does it come back? then the NAT hairpins
//! 3  Binding to the second port         do they see us elsewhere? then mapping depends on ports
//! 4  as 2, if neither 2 nor 3 got an answer: now that we have sent there, does it arrive?
//! ```
//!
//! The order matters: 3 opens the filter that 2 looks at. All probes leave by the one port that calls use, at most
//! [`MAX_PACKETS`] of them.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_transport::runtime::{Runtime, RuntimeExt};
use rtc_stun::{
    attributes::{ATTR_CHANGE_REQUEST, ATTR_OTHER_ADDRESS, ATTR_PADDING},
    message::{
        CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_BINDING, TransactionId,
    },
};

use crate::{
    port::{PortHub, ProbeTag, SubscribeError, Subscription},
    stun::{Builder, Stun},
};

/// Supernodes asked. Two tell all there is; a third stands in for one that does not answer.
pub const MAX_SERVERS: usize = 3;
/// When a probe is sent, counted from its first time. Three losses in a row are as rare as they matter here.
const SENDS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
];
/// Silence after the last sending that ends a probe as long as no round trip is known.
const PATIENCE: Duration = Duration::from_millis(700);
/// Once round trips are known: twice the longest, and this for queues on the way.
const SLACK: Duration = Duration::from_millis(250);
/// Most packets that one measurement sends: each of [`MAX_SERVERS`] and four later probes, three times.
pub const MAX_PACKETS: usize = (MAX_SERVERS + 4) * SENDS.len();
/// Room for OTHER-ADDRESS of either family: supernodes answer with nothing longer than the request.
const PADDING: [u8; 36] = [0; 36];
/// The change-port flag, RFC 5780 section 7.2.
const CHANGE_PORT: [u8; 4] = [0, 0, 0, 2];

/// What a mapping or a filter depends on (RFC 4787 sections 4.1 and 5). Later ones are harder for a direct path.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Dependence {
    /// The same for all remote endpoints.
    EndpointIndependent,
    /// On the remote address.
    AddressDependent,
    /// On the remote address and port.
    AddressAndPortDependent,
}

impl Dependence {
    /// The word of RFC 4787.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

/// What is known of a dependence: it is neither less than the one nor more than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Known {
    /// At least this.
    pub least: Dependence,
    /// At most this.
    pub most: Dependence,
}

impl Known {
    /// Nothing is known.
    pub const NOTHING: Self = Self {
        least: Dependence::EndpointIndependent,
        most: Dependence::AddressAndPortDependent,
    };

    /// All is known.
    #[must_use]
    pub const fn exactly(dependence: Dependence) -> Self {
        Self {
            least: dependence,
            most: dependence,
        }
    }

    /// The dependence, when it is certain.
    #[must_use]
    pub fn exact(self) -> Option<Dependence> {
        (self.least == self.most).then_some(self.least)
    }

    /// Whether ports matter, when that is certain.
    #[must_use]
    pub fn by_port(self) -> Option<bool> {
        use Dependence::AddressAndPortDependent;
        match (self.least, self.most) {
            (AddressAndPortDependent, _) => Some(true),
            (_, most) if most < AddressAndPortDependent => Some(false),
            _ => None,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exact() {
            Some(dependence) => f.write_str(dependence.as_str()),
            None if *self == Self::NOTHING => f.write_str("unknown"),
            None => write!(f, "{} or {}", self.least.as_str(), self.most.as_str()),
        }
    }
}

/// How what is between us and the supernodes treats our packets. Of one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatBehaviour {
    /// Where the first supernode sees us.
    pub mapped: SocketAddr,
    /// Whether that is none of our own addresses. Without translation there may still be a firewall.
    pub translated: bool,
    /// Whether all supernodes see one address of ours, whatever the port; pooling that is not paired (RFC 4787
    /// section 4.1) breaks that.
    pub one_address: bool,
    /// What the outside port depends on.
    pub mapping: Known,
    /// Who may answer.
    pub filtering: Known,
    /// Whether packets to our own outside address come back. Absent without translation, and where unknown.
    pub hairpin: Option<bool>,
    /// Whether the outside port is the inside port.
    pub port_preserved: bool,
    /// Supernodes that answered.
    pub servers: usize,
    /// The shortest round trip to one.
    pub rtt: Duration,
    /// Packets that this took.
    pub packets: usize,
}

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct ProbePlan {
    /// Binding services, of one address family; those after [`MAX_SERVERS`] are not asked.
    pub servers: Vec<SocketAddr>,
    /// Addresses of our interfaces.
    pub own_addrs: BTreeSet<IpAddr>,
    /// The port that probes leave by.
    pub own_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Where does the server see us?
    Base,
    /// Does an answer from the second port arrive?
    Filter,
    /// Does our own packet come back?
    Hairpin,
    /// Where does the second port see us?
    SecondPort,
    /// As `Filter`, after we have sent to the second port.
    Control,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Waiting,
    Seen {
        mapped: SocketAddr,
        other_port: Option<u16>,
    },
    /// Came back, or came from the port it should.
    Arrived,
    /// The server does not do that.
    Refused,
    Silent,
}

#[derive(Debug)]
struct Probe {
    kind: Kind,
    to: SocketAddr,
    first_sent: Instant,
    sent: usize,
    outcome: Outcome,
}

/// The measurement. Drain [`poll_transmit`](Self::poll_transmit) after each call, then wait for a packet or
/// [`poll_timeout`](Self::poll_timeout), until [`is_done`](Self::is_done).
#[derive(Debug)]
pub struct Prober {
    plan: ProbePlan,
    tag: ProbeTag,
    probes: Vec<Probe>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Round trips of base probes that were answered at the first sending.
    rtts: Vec<Duration>,
    packets: usize,
    done: bool,
}

impl Prober {
    /// Starts at `now`. The first bytes of all transaction ids are `tag`, which must be random.
    #[must_use]
    pub fn new(now: Instant, mut plan: ProbePlan, tag: [u8; 8]) -> Self {
        plan.servers.truncate(MAX_SERVERS);
        let mut prober = Self {
            tag,
            probes: Vec::new(),
            transmits: VecDeque::new(),
            rtts: Vec::new(),
            packets: 0,
            done: plan.servers.is_empty(),
            plan,
        };
        for server in prober.plan.servers.clone() {
            prober.start(now, Kind::Base, server);
        }
        prober.handle_timeout(now);
        prober
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// A packet for the port.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting().map(|probe| self.due(probe)).min()
    }

    fn waiting(&self) -> impl Iterator<Item = &Probe> {
        let waits = |probe: &&Probe| probe.outcome == Outcome::Waiting;
        self.probes.iter().filter(waits)
    }

    /// When a probe is sent again or given up.
    fn due(&self, probe: &Probe) -> Instant {
        match SENDS.get(probe.sent) {
            Some(after) => probe.first_sent + *after,
            None => {
                let last = SENDS.last().copied().unwrap_or_default();
                let wait = match self.rtts.iter().max() {
                    Some(rtt) => (*rtt * 2 + SLACK).min(PATIENCE * 2),
                    None => PATIENCE,
                };
                probe.first_sent + last + wait
            }
        }
    }

    /// Sends what is due, gives up what is overdue, and goes on to the next step.
    pub fn handle_timeout(&mut self, now: Instant) {
        for at in 0..self.probes.len() {
            let Some(probe) = self.probes.get(at) else {
                continue;
            };
            if probe.outcome != Outcome::Waiting || self.due(probe) > now {
                continue;
            }
            if probe.sent < SENDS.len() {
                self.send(at);
            } else if let Some(probe) = self.probes.get_mut(at) {
                probe.outcome = Outcome::Silent;
            }
        }
        self.advance(now);
    }

    fn start(&mut self, now: Instant, kind: Kind, to: SocketAddr) {
        self.probes.push(Probe {
            kind,
            to,
            first_sent: now,
            sent: 0,
            outcome: Outcome::Waiting,
        });
    }

    fn send(&mut self, at: usize) {
        let Some(probe) = self.probes.get_mut(at) else {
            return;
        };
        probe.sent += 1;
        self.packets += 1;
        let mut id = [0; 12];
        let number = u32::try_from(at).unwrap_or(u32::MAX).to_be_bytes();
        for (byte, value) in id.iter_mut().zip(self.tag.into_iter().chain(number)) {
            *byte = value;
        }
        let mut request = Builder::new(METHOD_BINDING, CLASS_REQUEST, TransactionId(id));
        if matches!(probe.kind, Kind::Filter | Kind::Control) {
            request = request.attribute(ATTR_CHANGE_REQUEST, &CHANGE_PORT);
        }
        let contents = request.attribute(ATTR_PADDING, &PADDING).finish(None, true);
        self.transmits.push_back((probe.to, contents));
    }

    /// A message whose transaction id begins with the tag.
    pub fn handle_input(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        let Ok(stun) = Stun::parse(packet) else {
            return;
        };
        let id = stun.transaction().0;
        let Some((tag, number)) = id.split_first_chunk::<8>() else {
            return;
        };
        let number = <[u8; 4]>::try_from(number).map(u32::from_be_bytes);
        let at = number.ok().and_then(|number| usize::try_from(number).ok());
        let Some(probe) = at.and_then(|at| self.probes.get_mut(at)) else {
            return;
        };
        if *tag != self.tag || probe.outcome != Outcome::Waiting || stun.method() != METHOD_BINDING
        {
            return;
        }
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let class = stun.class();
        probe.outcome = match probe.kind {
            Kind::Hairpin if class == CLASS_REQUEST => Outcome::Arrived,
            // Whoever else owns that address now.
            Kind::Hairpin => return,
            Kind::Base | Kind::SecondPort if from != probe.to => return,
            Kind::Filter | Kind::Control if from.ip() != probe.to.ip() => return,
            Kind::Base | Kind::SecondPort | Kind::Filter | Kind::Control
                if class == CLASS_ERROR_RESPONSE =>
            {
                Outcome::Refused
            }
            Kind::Base | Kind::SecondPort | Kind::Filter | Kind::Control
                if class != CLASS_SUCCESS_RESPONSE =>
            {
                return;
            }
            Kind::Base | Kind::SecondPort => {
                let Some(mapped) = stun.mapped_address() else {
                    return;
                };
                let other = stun.plain_address(ATTR_OTHER_ADDRESS);
                if probe.kind == Kind::Base && probe.sent == 1 {
                    self.rtts
                        .push(now.saturating_duration_since(probe.first_sent));
                }
                Outcome::Seen {
                    mapped: SocketAddr::new(mapped.ip().to_canonical(), mapped.port()),
                    // The address is the one we use, which a server behind a NAT of its own may not know.
                    other_port: other.map(|other| other.port()),
                }
            }
            // A server that ignores CHANGE-REQUEST answers from where it was asked.
            Kind::Filter | Kind::Control if from.port() == probe.to.port() => Outcome::Refused,
            Kind::Filter | Kind::Control => Outcome::Arrived,
        };
        self.advance(now);
    }

    fn outcome(&self, kind: Kind) -> Option<Outcome> {
        let probe = self.probes.iter().find(|probe| probe.kind == kind)?;
        Some(probe.outcome)
    }

    /// Servers that answered: where they are, where they see us, their second port.
    fn seen(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr, Option<u16>)> {
        self.probes
            .iter()
            .filter_map(|probe| match (probe.kind, probe.outcome) {
                (Kind::Base, Outcome::Seen { mapped, other_port }) => {
                    Some((probe.to, mapped, other_port))
                }
                _ => None,
            })
    }

    fn advance(&mut self, now: Instant) {
        while !self.done && self.waiting().next().is_none() {
            self.next_step(now);
            self.send_fresh();
        }
    }

    fn send_fresh(&mut self) {
        for at in 0..self.probes.len() {
            let fresh = self.probes.get(at).is_some_and(|probe| probe.sent == 0);
            if fresh {
                self.send(at);
            }
        }
    }

    /// Everything that was started has ended.
    fn next_step(&mut self, now: Instant) {
        let second = self
            .seen()
            .find_map(|(server, _mapped, port)| Some((server, port?)));
        let reached = |outcome| matches!(outcome, Some(Outcome::Seen { .. } | Outcome::Arrived));
        match (
            self.outcome(Kind::Filter),
            self.outcome(Kind::SecondPort),
            self.outcome(Kind::Control),
        ) {
            (None, _, _) if self.outcome(Kind::Hairpin).is_none() => {
                let Some((_, mapped, _)) = self.seen().next() else {
                    self.done = true;
                    return;
                };
                if let Some((server, _)) = second {
                    self.start(now, Kind::Filter, server);
                }
                if !self.plan.own_addrs.contains(&mapped.ip()) {
                    self.start(now, Kind::Hairpin, mapped);
                }
                let nothing = self.waiting().next().is_none();
                self.done = nothing;
            }
            (Some(_), None, _) => match second {
                Some((server, port)) => {
                    let to = SocketAddr::new(server.ip(), port);
                    self.start(now, Kind::SecondPort, to);
                }
                None => self.done = true,
            },
            (Some(Outcome::Silent), port, None) if !reached(port) => match second {
                Some((server, _)) => self.start(now, Kind::Control, server),
                None => self.done = true,
            },
            _ => self.done = true,
        }
    }

    /// What was found; absent while nobody answered.
    #[must_use]
    pub fn behaviour(&self) -> Option<NatBehaviour> {
        let (_server, mapped, _port) = self.seen().next()?;
        Some(NatBehaviour {
            mapped,
            translated: !self.plan.own_addrs.contains(&mapped.ip()),
            one_address: self.seen().all(|(_, other, _)| other.ip() == mapped.ip()),
            mapping: self.mapping(),
            filtering: self.filtering(),
            hairpin: self
                .outcome(Kind::Hairpin)
                .map(|outcome| outcome == Outcome::Arrived),
            port_preserved: mapped.port() == self.plan.own_port,
            servers: self.seen().count(),
            rtt: self.rtts.iter().min().copied().unwrap_or_default(),
            packets: self.packets,
        })
    }

    fn mapping(&self) -> Known {
        use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        let seen: Vec<_> = self.seen().collect();
        // Pairs of servers: (differ in address, see us at different places).
        let mut pairs: Vec<(bool, bool)> = Vec::new();
        for (n, (server, mapped, _)) in seen.iter().enumerate() {
            for (other, elsewhere, _) in seen.iter().skip(n + 1) {
                pairs.push((server.ip() != other.ip(), mapped != elsewhere));
            }
        }
        for probe in &self.probes {
            if let (Kind::SecondPort, Outcome::Seen { mapped, .. }) = (probe.kind, probe.outcome) {
                let base = seen.iter().find(|(to, ..)| to.ip() == probe.to.ip());
                pairs.extend(base.map(|(_, at, _)| (false, *at != mapped)));
            }
        }
        let port_matters = pairs.contains(&(false, true));
        let port_does_not = pairs.contains(&(false, false));
        let address_matters = pairs.contains(&(true, true));
        let address_does_not = pairs.contains(&(true, false));
        // A NAT that maps by port maps by address too, so one address that makes no difference settles it. A second
        // port alone may mislead: Linux notes a stranger's packet that no rule drops as a connection of its own, here
        // the answer of step 2, and then has to give us another outside port towards that stranger.
        let misled = self.outcome(Kind::Filter) == Some(Outcome::Silent) && !address_matters;
        match (port_matters, address_matters) {
            (_, false) if address_does_not => Known::exactly(EndpointIndependent),
            (true, false) if misled => Known::NOTHING,
            (true, _) => Known::exactly(AddressAndPortDependent),
            (false, true) if port_does_not => Known::exactly(AddressDependent),
            (false, true) => Known {
                least: AddressDependent,
                most: AddressAndPortDependent,
            },
            (false, false) if port_does_not => Known {
                least: EndpointIndependent,
                most: AddressDependent,
            },
            (false, false) => Known::NOTHING,
        }
    }

    fn filtering(&self) -> Known {
        let port_reached = matches!(self.outcome(Kind::SecondPort), Some(Outcome::Seen { .. }));
        let opened = self.outcome(Kind::Control) == Some(Outcome::Arrived);
        match self.outcome(Kind::Filter) {
            Some(Outcome::Arrived) => Known {
                least: Dependence::EndpointIndependent,
                most: Dependence::AddressDependent,
            },
            // The second port works, so it was a filter that kept its answer away.
            Some(Outcome::Silent) if port_reached || opened => {
                Known::exactly(Dependence::AddressAndPortDependent)
            }
            Some(Outcome::Silent | Outcome::Refused | Outcome::Waiting | Outcome::Seen { .. })
            | None => Known::NOTHING,
        }
    }
}

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The port serves another measurement.
    #[error(transparent)]
    Busy(#[from] SubscribeError),
    /// None of the supernodes answered.
    #[error("no supernode answers STUN")]
    NoAnswer,
}

/// Measures on the port behind `hub`.
///
/// # Errors
/// See [`ProbeError`].
pub async fn measure(
    runtime: &dyn Runtime,
    hub: &Arc<PortHub>,
    plan: ProbePlan,
) -> Result<NatBehaviour, ProbeError> {
    let tag = runtime.random_array();
    let Subscription {
        lease: _lease,
        mut packets,
    } = hub.subscribe_prober(tag)?;
    hub.port().ready().await;
    let mut prober = Prober::new(runtime.now(), plan, tag);
    loop {
        while let Some((to, packet)) = prober.poll_transmit() {
            hub.port().send(to, None, &packet);
        }
        let Some(deadline) = prober.poll_timeout().filter(|_| !prober.is_done()) else {
            return prober.behaviour().ok_or(ProbeError::NoAnswer);
        };
        tokio::select! {
            biased;
            Some(inbound) = packets.recv() => {
                prober.handle_input(runtime.now(), inbound.from, &inbound.bytes);
            }
            () = runtime.sleep_until(deadline) => prober.handle_timeout(runtime.now()),
        }
    }
}

#[cfg(test)]
mod tests;
