//! What to ask the router, when, and what its answers mean.
//!
//! Contract: after every `handle_*`, [`poke`](Manager::poke) or [`close`](Manager::close), take all actions from
//! [`poll_action`](Manager::poll_action), then wait for [`poll_timeout`](Manager::poll_timeout). At most one request
//! is out at a time: a newer one replaces it, and answers to older ones are ignored by their number.

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// How routers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device, versions 1 and 2.
    Upnp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// Where the default route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// The router, where the system tells. Without it only UPnP can be asked, which finds routers by itself.
    pub router: Option<Ipv4Addr>,
    /// Our address towards it.
    pub local: Ipv4Addr,
}

/// What is asked of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapRequest {
    /// Whom to ask.
    pub gateway: Gateway,
    /// In which language.
    pub protocol: Protocol,
    /// Our UDP port.
    pub port: u16,
    /// The external address that we have, or had: a router that can gives it again.
    pub suggested: Option<SocketAddrV4>,
    /// For how long.
    pub lifetime: Duration,
}

/// What a router granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The request that it answers.
    pub request: MapRequest,
    /// Where others reach our port.
    pub external: SocketAddrV4,
    /// For how long, from the answer on.
    pub lifetime: Duration,
    /// Seconds since the router's tables were empty (RFC 6887 section 8.5), where the protocol tells.
    pub epoch_secs: Option<u32>,
}

/// Why a router did not map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Nobody speaks the protocol.
    #[error("no answer")]
    NoAnswer,
    /// The router speaks it and says no.
    #[error("refused: {0}")]
    Refused(String),
    /// The answer, or our own system, makes no sense.
    #[error("failed: {0}")]
    Failed(String),
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask; the number goes back with the answer.
    Map(u64, MapRequest),
    /// Give back. Nobody waits for it.
    Unmap(Lease),
}

/// When things happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Protocols in the order in which they are tried. Not at once: on routers that speak several, the mappings are
    /// the same one, and giving one back takes the other along.
    pub protocols: Vec<Protocol>,
    /// Lifetime that is asked for: as long as a port may stay open when this program dies without a word.
    pub lifetime: Duration,
    /// Longest time between two requests by PCP and NAT-PMP, two small packets each. After a router's restart the
    /// mapping is back within this.
    pub keep: Duration,
    /// The same by UPnP, three connections to the router each.
    pub keep_upnp: Duration,
    /// Wait after a request for renewal went wrong; doubles each time.
    pub retry_renewal: Duration,
    /// Wait after no protocol worked; doubles each time up to `last_retry`. Most routers never will.
    pub first_retry: Duration,
    /// See there.
    pub last_retry: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protocols: vec![Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp],
            lifetime: Duration::from_secs(20 * 60),
            keep: Duration::from_secs(60),
            keep_upnp: Duration::from_secs(5 * 60),
            retry_renewal: Duration::from_secs(2),
            first_retry: Duration::from_secs(30),
            last_retry: Duration::from_secs(15 * 60),
        }
    }
}

/// Renewals that may go wrong in a row before the mapping counts as lost.
const MAX_RENEWAL_FAILURES: u32 = 3;
/// Shortest lifetime that a router may grant; less would have us ask all the time.
const MIN_LIFETIME: Duration = Duration::from_secs(10);
/// Longest that is believed: a day.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest time between two requests that were poked for.
const POKE_INTERVAL: Duration = Duration::from_secs(2);
/// Requests are spread over this share of the time before they are due, so that devices that lost their router at
/// the same moment do not ask it in step.
const JITTER_SHARE: u32 = 10;
/// How much a router's clock may differ from ours in seconds, and then one in so many (RFC 6887 section 8.5).
const EPOCH_SLACK_SECS: i64 = 2;
const EPOCH_DRIFT_SHARE: i64 = 16;

/// How it stands, for people and for candidates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Status {
    /// There is no router, or we have stopped.
    #[default]
    Idle,
    /// A router is being asked.
    Asking,
    /// Others reach our port there.
    Mapped {
        /// How it was asked for.
        protocol: Protocol,
        /// Where.
        external: SocketAddrV4,
    },
    /// The router mapped, but its own address is a private one: there is another NAT behind it. Useless.
    DoubleNat {
        /// The router's address outside.
        external: Ipv4Addr,
    },
    /// No protocol worked.
    Unavailable {
        /// What the last one said.
        error: MapError,
    },
}

impl Status {
    /// The mapped address that others can use.
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddrV4> {
        match self {
            Self::Mapped { external, .. } => Some(*external),
            Self::Idle | Self::Asking | Self::DoubleNat { .. } | Self::Unavailable { .. } => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("no router"),
            Self::Asking => f.write_str("asking the router"),
            Self::Mapped { protocol, external } => write!(f, "{external} by {protocol}"),
            Self::DoubleNat { external } => {
                write!(f, "none: behind the router is another one ({external})")
            }
            Self::Unavailable { error } => write!(f, "none: {error}"),
        }
    }
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests to routers.
    pub asked: u64,
    /// Mappings that were granted, renewals included.
    pub granted: u64,
    /// Restarts of the router that its epoch told of.
    pub restarts: u64,
    /// Answers to requests that were no longer of interest.
    pub stale: u64,
}

#[derive(Debug)]
enum State {
    /// Without a gateway.
    Idle,
    /// The last of `left` is asked next, should the one asked now not work.
    Asking {
        id: u64,
        left: Vec<Protocol>,
        rounds: u32,
    },
    /// Until it is worth asking again.
    Waiting {
        until: Instant,
        rounds: u32,
        status: Status,
    },
    Mapped(Mapping),
    Closed,
}

#[derive(Debug)]
struct Mapping {
    lease: Lease,
    answered: Instant,
    expires: Instant,
    next: Instant,
    renewing: Option<u64>,
    failures: u32,
}

/// Keeps one mapping. See the [module](self) for the contract.
#[derive(Debug)]
pub struct Manager {
    policy: Policy,
    port: u16,
    rng: ChaCha20Rng,
    gateway: Option<Gateway>,
    state: State,
    /// What worked last: it is asked first, and for the same address.
    last: Option<(Protocol, SocketAddrV4)>,
    last_asked: Option<Instant>,
    last_error: MapError,
    next_id: u64,
    actions: VecDeque<Action>,
    counters: Counters,
}

impl Manager {
    /// A manager for UDP port `port`, which has no gateway yet.
    #[must_use]
    pub fn new(port: u16, policy: Policy, seed: [u8; 32]) -> Self {
        Self {
            policy,
            port,
            rng: ChaCha20Rng::from_seed(seed),
            gateway: None,
            state: State::Idle,
            last: None,
            last_asked: None,
            last_error: MapError::NoAnswer,
            next_id: 0,
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// What to do, until there is nothing left.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Idle | State::Asking { .. } | State::Closed => None,
            State::Waiting { until, .. } => Some(*until),
            State::Mapped(mapping) => Some(match mapping.renewing {
                Some(_) => mapping.expires,
                None => mapping.next.min(mapping.expires),
            }),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.state {
            State::Idle | State::Closed => Status::Idle,
            State::Asking { .. } => Status::Asking,
            State::Waiting { status, .. } => status.clone(),
            State::Mapped(mapping) => Status::Mapped {
                protocol: mapping.lease.request.protocol,
                external: mapping.lease.external,
            },
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The default route leads there now. What another router granted is worth nothing any more; it is not told,
    /// since it cannot be reached.
    pub fn handle_gateway(&mut self, now: Instant, gateway: Option<Gateway>) {
        if matches!(self.state, State::Closed) || self.gateway == gateway {
            return;
        }
        self.gateway = gateway;
        self.last = None;
        self.state = State::Idle;
        if gateway.is_some() {
            self.start(now, 0);
        }
    }

    /// The network may have changed: asks again at once, unless that was just done.
    pub fn poke(&mut self, now: Instant) {
        let recent = self
            .last_asked
            .is_some_and(|asked| now < asked + POKE_INTERVAL);
        match &mut self.state {
            State::Waiting { until, rounds, .. } if !recent => {
                *until = now;
                *rounds = 0;
            }
            State::Mapped(mapping) if !recent => mapping.next = now,
            State::Idle
            | State::Asking { .. }
            | State::Waiting { .. }
            | State::Mapped(_)
            | State::Closed => return,
        }
        self.handle_timeout(now);
    }

    /// Gives the mapping back and ends.
    pub fn close(&mut self) {
        if let State::Mapped(mapping) = std::mem::replace(&mut self.state, State::Closed) {
            self.actions.push_back(Action::Unmap(mapping.lease));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Waiting { until, rounds, .. } if *until <= now => {
                let rounds = *rounds;
                self.start(now, rounds);
            }
            State::Mapped(mapping) if mapping.expires <= now => self.start(now, 0),
            State::Mapped(mapping) if mapping.renewing.is_none() && mapping.next <= now => {
                let lease = mapping.lease;
                let id = self.ask(now, lease.request.protocol, Some(lease.external));
                if let State::Mapped(mapping) = &mut self.state {
                    mapping.renewing = id;
                }
            }
            State::Idle
            | State::Asking { .. }
            | State::Waiting { .. }
            | State::Mapped(_)
            | State::Closed => {}
        }
    }

    /// The router's answer to request `id`.
    pub fn handle_answer(&mut self, now: Instant, id: u64, answer: Result<Lease, MapError>) {
        let current = match &self.state {
            State::Asking { id: asked, .. } => *asked == id,
            State::Mapped(mapping) => mapping.renewing == Some(id),
            State::Idle | State::Waiting { .. } | State::Closed => false,
        };
        match answer {
            Ok(_) | Err(_) if !current => {
                self.counters.stale += 1;
            }
            Ok(lease) => self.granted(now, lease),
            Err(error) => self.failed(now, error),
        }
    }

    /// A round through all protocols, what worked before first.
    fn start(&mut self, now: Instant, rounds: u32) {
        let Some(gateway) = self.gateway else {
            self.state = State::Idle;
            return;
        };
        self.last_error = MapError::NoAnswer;
        let mut left: Vec<Protocol> = self
            .policy
            .protocols
            .iter()
            .copied()
            .filter(|protocol| gateway.router.is_some() || *protocol == Protocol::Upnp)
            .collect();
        left.reverse();
        if let Some((worked, _external)) = self.last
            && let Some(at) = left.iter().position(|protocol| *protocol == worked)
        {
            let worked = left.remove(at);
            left.push(worked);
        }
        self.ask_next(now, left, rounds);
    }

    fn ask_next(&mut self, now: Instant, mut left: Vec<Protocol>, rounds: u32) {
        let suggested = self.last.map(|(_protocol, external)| external);
        let asked = left
            .pop()
            .and_then(|protocol| self.ask(now, protocol, suggested));
        self.state = match asked {
            Some(id) => State::Asking { id, left, rounds },
            None => {
                let error = self.last_error.clone();
                self.waiting(now, rounds, Status::Unavailable { error })
            }
        };
    }

    fn ask(
        &mut self,
        now: Instant,
        protocol: Protocol,
        suggested: Option<SocketAddrV4>,
    ) -> Option<u64> {
        let gateway = self.gateway?;
        let id = self.next_id;
        self.next_id += 1;
        self.counters.asked += 1;
        self.last_asked = Some(now);
        let request = MapRequest {
            gateway,
            protocol,
            port: self.port,
            suggested,
            lifetime: self.policy.lifetime,
        };
        self.actions.push_back(Action::Map(id, request));
        Some(id)
    }

    fn waiting(&mut self, now: Instant, rounds: u32, status: Status) -> State {
        let doubled = self
            .policy
            .first_retry
            .saturating_mul(1_u32.checked_shl(rounds).unwrap_or(u32::MAX));
        let wait = doubled.min(self.policy.last_retry);
        State::Waiting {
            until: now + self.jittered(wait),
            rounds: rounds.saturating_add(1),
            status,
        }
    }

    fn granted(&mut self, now: Instant, lease: Lease) {
        self.counters.granted += 1;
        if !is_public(*lease.external.ip()) {
            // It helps nobody, and it will not get better by asking often.
            self.actions.push_back(Action::Unmap(lease));
            self.last = None;
            let external = *lease.external.ip();
            let rounds = u32::MAX;
            self.state = self.waiting(now, rounds, Status::DoubleNat { external });
            return;
        }
        if let State::Mapped(before) = &self.state
            && restarted(
                before.lease.epoch_secs,
                lease.epoch_secs,
                now - before.answered,
            )
        {
            // This very answer is the new mapping: nothing else of ours was lost there.
            self.counters.restarts += 1;
            tracing::info!("the router has restarted");
        }
        let protocol = lease.request.protocol;
        self.last = Some((protocol, lease.external));
        let lifetime = lease.lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME);
        let keep = match protocol {
            Protocol::Pcp | Protocol::NatPmp => self.policy.keep,
            Protocol::Upnp => self.policy.keep_upnp,
        };
        let next = now + self.jittered((lifetime / 2).min(keep));
        self.state = State::Mapped(Mapping {
            lease,
            answered: now,
            expires: now + lifetime,
            next,
            renewing: None,
            failures: 0,
        });
    }

    fn failed(&mut self, now: Instant, error: MapError) {
        tracing::debug!(%error, "the router did not map");
        // A refusal says more than the silence of what is asked after it.
        if !matches!(
            (&self.last_error, &error),
            (MapError::Refused(_), MapError::NoAnswer)
        ) {
            self.last_error = error;
        }
        match &mut self.state {
            State::Asking { left, rounds, .. } => {
                let (left, rounds) = (std::mem::take(left), *rounds);
                self.ask_next(now, left, rounds);
            }
            State::Mapped(mapping) => {
                mapping.renewing = None;
                mapping.failures += 1;
                let wait = self.policy.retry_renewal * (1 << (mapping.failures - 1));
                mapping.next = now + wait;
                if mapping.failures >= MAX_RENEWAL_FAILURES {
                    self.start(now, 0);
                }
            }
            State::Idle | State::Waiting { .. } | State::Closed => {}
        }
    }

    /// Up to a tenth earlier.
    fn jittered(&mut self, time: Duration) -> Duration {
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        time - (time / JITTER_SHARE).mul_f64(share)
    }
}

/// Whether the router lost its tables between two answers, `elapsed` apart (RFC 6887 section 8.5).
fn restarted(before: Option<u32>, after: Option<u32>, elapsed: Duration) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    let server = i64::from(after) - i64::from(before);
    let client = i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX);
    server < -1
        || client + EPOCH_SLACK_SECS < server - server / EPOCH_DRIFT_SHARE
        || server + EPOCH_SLACK_SECS < client - client / EPOCH_DRIFT_SHARE
}

/// Whether people elsewhere could send to an address. Behind a second NAT the first one's mapping leads nowhere.
#[must_use]
pub fn is_public(ip: Ipv4Addr) -> bool {
    let reserved = match ip.octets() {
        // "This network", RFC 6598 between a carrier's NAT and its customers, DS-Lite (RFC 6333), benchmarks
        // (RFC 2544), and what was never given out.
        [0, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18..=19, ..] | [240..=255, ..] => {
            true
        }
        _ => false,
    };
    !(reserved || ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast())
}

#[cfg(test)]
mod tests;
