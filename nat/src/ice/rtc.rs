//! [`IceAgent`] on `rtc-ice`.
//!
//! What this wrapper adds, because the agent lacks it:
//! - every packet is authenticated before the agent sees it: it switches roles on an unauthenticated request;
//! - remote candidates found by checks are bounded;
//! - checks are paced;
//! - valid pairs: the agent tells of the nominated one alone, a round trip later;
//! - consent (RFC 7675): the agent calls a pair alive while anything arrives from the peer, so that a side whose own
//!   packets are lost never notices; here only answers count, to requests of ours, from where the request went;
//! - an end: with its own failure timer on, it throws all candidates away; with it off, as here, it would
//!   check for ever.
//!
//! Known and left as it is: it does not follow a peer whose port changes, and sticks to the pair it nominated;
//! both end in a new agent of the next generation. Transaction ids come from the thread's generator: a
//! simulation repeats times, addresses and sizes of its packets, not these bytes.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rtc_ice::{
    agent::{Agent, Event, agent_config::AgentConfig},
    candidate::{
        CandidateConfig, CandidateType, candidate_host::CandidateHostConfig,
        candidate_server_reflexive::CandidateServerReflexiveConfig,
    },
    mdns::MulticastDnsMode,
};
use rtc_shared::{TransportContext, TransportMessage, TransportProtocol};
use rtc_stun::{
    attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME},
    crypto::{CryptoError, RTCCrypto, RTCCryptoProvider, RTCRandom, providers::RingCrypto},
    message::{CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_BINDING},
};
use sansio::Protocol;

use super::{
    CHECK_LIMIT, CONSENT_EXPIRES_AFTER, DISCONNECTED_AFTER, IceAgent, IceCredentials, IceEvent,
    IceRole, IceTransmit, MAX_REMOTE_CANDIDATES,
    pacer::{Pacer, Patience},
};
use crate::{
    candidate::{Candidate, CandidateKind, MAX_CANDIDATES},
    stun::Stun,
};

/// How often the agent checks its pairs while it looks for one. The pacer decides what of it is sent.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// How often the selected pair is checked: keeps NAT bindings and gives the liveness hint. The agent looks every
/// 200 ms, so other values than multiples of that are rounded up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(400);

/// Requests that may still be answered: [`RECENT_REQUEST`] of the fastest checks on the most pairs is more, but
/// a pair's last request is what counts.
const MAX_REQUESTS: usize = 512;

/// An answer that takes longer is none.
const RECENT_REQUEST: Duration = Duration::from_secs(3);

/// Checks per pair before it counts as failed: never within [`CHECK_LIMIT`].
const MAX_BINDING_REQUESTS: u16 = u16::MAX - 1;

/// Randomness for the agent from our seed.
struct SeededProvider {
    crypto: RingCrypto,
    random: SeededRandom,
}

struct SeededRandom(Mutex<ChaCha20Rng>);

impl RTCRandom for SeededRandom {
    fn fill(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        crate::port::lock(&self.0).fill_bytes(output);
        Ok(())
    }
}

impl RTCCryptoProvider for SeededProvider {
    fn name(&self) -> &'static str {
        "seeded"
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        &self.crypto
    }

    fn random(&self) -> &dyn RTCRandom {
        &self.random
    }
}

/// Why an agent could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IceError {
    /// A ufrag under 4 or a password under 22 characters.
    #[error("ICE credentials are too short")]
    Credentials,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Looking for a pair until then.
    Checking {
        until: Instant,
    },
    Selected {
        remote: SocketAddr,
        /// Of the last check that was answered, or of the selection.
        answered: Instant,
        disconnected: bool,
    },
    Failed,
}

/// An ICE agent for one generation of one session.
pub struct RtcIceAgent {
    agent: Agent,
    local_pwd: String,
    remote_pwd: String,
    /// USERNAME of checks to us.
    expected_username: String,
    port: u16,
    locals: Vec<SocketAddr>,
    remotes: Vec<SocketAddr>,
    phase: Phase,
    pacer: Pacer,
    patience: Patience,
    paced: bool,
    /// Requests of ours that left: transaction, destination and time.
    requests: VecDeque<([u8; 12], SocketAddr, Instant)>,
    /// Addresses of the peer's that answered a request of ours, that sent us one, and that were told to be valid.
    answering: Vec<SocketAddr>,
    asking: Vec<SocketAddr>,
    valid: Vec<SocketAddr>,
    /// The latest time that was passed in; the agent's outputs carry none.
    now: Instant,
    transmits: VecDeque<IceTransmit>,
    events: VecDeque<IceEvent>,
}

impl fmt::Debug for RtcIceAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtcIceAgent")
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl RtcIceAgent {
    /// An agent on the port `port`. `seed` draws its tie-breaker.
    ///
    /// # Errors
    /// [`IceError::Credentials`] when they are too short.
    pub fn new(
        now: Instant,
        role: IceRole,
        port: u16,
        local: &IceCredentials,
        remote: &IceCredentials,
        seed: [u8; 32],
    ) -> Result<Self, IceError> {
        if [local, remote]
            .iter()
            .any(|side| side.ufrag.len() < 4 || side.pwd.len() < 22)
        {
            return Err(IceError::Credentials);
        }
        let config = AgentConfig {
            local_ufrag: local.ufrag.clone(),
            local_pwd: local.pwd.clone(),
            multicast_dns_mode: MulticastDnsMode::Disabled,
            // Both judged here: see the module's documentation.
            disconnected_timeout: Some(Duration::ZERO),
            failed_timeout: Some(Duration::ZERO),
            keepalive_interval: Some(KEEPALIVE_INTERVAL),
            candidate_types: vec![CandidateType::Host, CandidateType::ServerReflexive],
            check_interval: CHECK_INTERVAL,
            max_binding_requests: Some(MAX_BINDING_REQUESTS),
            is_controlling: role == IceRole::Controlling,
            host_acceptance_min_wait: Some(Duration::ZERO),
            srflx_acceptance_min_wait: Some(Duration::ZERO),
            prflx_acceptance_min_wait: Some(Duration::ZERO),
            ..AgentConfig::default()
        };
        let provider = SeededProvider {
            crypto: RingCrypto,
            random: SeededRandom(Mutex::new(ChaCha20Rng::from_seed(seed))),
        };
        let mut agent = Agent::new(now, Arc::new(config), Arc::new(provider))
            .map_err(|_only_credentials_can_be_wrong| IceError::Credentials)?;
        agent
            .start_connectivity_checks(
                now,
                role == IceRole::Controlling,
                remote.ufrag.clone(),
                remote.pwd.clone(),
            )
            .map_err(|_only_credentials_can_be_wrong| IceError::Credentials)?;
        Ok(Self {
            agent,
            local_pwd: local.pwd.clone(),
            remote_pwd: remote.pwd.clone(),
            expected_username: format!("{}:{}", local.ufrag, remote.ufrag),
            port,
            locals: Vec::new(),
            remotes: Vec::new(),
            phase: Phase::Checking {
                until: now + CHECK_LIMIT,
            },
            pacer: Pacer::new(now),
            patience: Patience::default(),
            paced: true,
            requests: VecDeque::new(),
            answering: Vec::new(),
            asking: Vec::new(),
            valid: Vec::new(),
            now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// Whether checks are paced. Off only in tests, which show what that is good for.
    #[must_use]
    pub fn paced(mut self, paced: bool) -> Self {
        self.paced = paced;
        self
    }

    /// The address of ours that a packet reached, as the agent knows it.
    fn local_addr(&self, from: SocketAddr, local: Option<IpAddr>) -> Option<SocketAddr> {
        match local {
            Some(ip) => {
                let addr = SocketAddr::new(ip.to_canonical(), self.port);
                self.locals.contains(&addr).then_some(addr)
            }
            // The system does not tell: any of the family will do, since there is one socket.
            None => self
                .locals
                .iter()
                .copied()
                .find(|local| local.is_ipv4() == from.is_ipv4()),
        }
    }

    /// Something new: look for a pair, again if need be.
    fn revive(&mut self, now: Instant) {
        self.pacer.hurry(now);
        match self.phase {
            Phase::Checking { .. } | Phase::Failed => {
                self.phase = Phase::Checking {
                    until: now + CHECK_LIMIT,
                };
            }
            Phase::Selected { .. } => {}
        }
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(event) = self.agent.poll_event() {
            if let Event::SelectedCandidatePairChange(local, remote) = event.event {
                let (local, remote) = (local.base_addr(), remote.addr());
                self.phase = Phase::Selected {
                    remote,
                    answered: self.now,
                    disconnected: false,
                };
                self.pacer.clear();
                self.events.push_back(IceEvent::Selected { local, remote });
            }
        }
        while let Some(packet) = self.agent.poll_write() {
            let transmit = IceTransmit {
                local: packet.transport.local_addr,
                to: packet.transport.peer_addr,
                contents: packet.message.to_vec(),
            };
            // Answers, nominations and keep-alives are few and urgent.
            let (is_check, nominates) = Stun::parse(&transmit.contents)
                .map(|stun| {
                    let nominates = stun.attribute(ATTR_USE_CANDIDATE).is_some();
                    (stun.class() == CLASS_REQUEST, nominates)
                })
                .unwrap_or_default();
            let is_plain_check = is_check && !nominates;
            let checking = matches!(self.phase, Phase::Checking { .. });
            if checking
                && is_check
                && self.paced
                && !self.patience.allows(self.now, &transmit, nominates)
            {
                continue;
            }
            match self.phase {
                Phase::Checking { .. } if is_plain_check && self.paced => self.pacer.push(transmit),
                Phase::Failed if is_plain_check => {}
                Phase::Checking { .. } | Phase::Selected { .. } | Phase::Failed => {
                    self.transmits.push_back(transmit);
                }
            }
        }
        let check = self.pacer.pop(self.now);
        self.transmits.extend(check);
    }

    /// Remembers a request that leaves.
    fn note_request(&mut self, transmit: &IceTransmit) {
        let Some(Ok(id)) = transmit.contents.get(8..20).map(<[u8; 12]>::try_from) else {
            return;
        };
        // A request's type has neither class bit (RFC 8489 section 5).
        let is_request = matches!(transmit.contents.get(..2), Some([0, 1]));
        if is_request {
            self.requests.push_back((id, transmit.to, self.now));
            while self.requests.len() > MAX_REQUESTS
                || self
                    .requests
                    .front()
                    .is_some_and(|(.., at)| *at + RECENT_REQUEST < self.now)
            {
                self.requests.pop_front();
            }
        }
    }

    /// Whether `stun` from `from` answers a request of ours that went there.
    fn is_answer(&mut self, from: SocketAddr, stun: &Stun) -> bool {
        let id = stun.transaction().0;
        let asked = self
            .requests
            .iter()
            .position(|(asked, to, _)| *asked == id && *to == from);
        match asked {
            Some(at) => {
                self.requests.remove(at);
                true
            }
            None => false,
        }
    }

    /// Both sides' checks between `local` and `remote` were answered.
    fn tell_valid(&mut self, local: SocketAddr, remote: SocketAddr) {
        let both = self.answering.contains(&remote) && self.asking.contains(&remote);
        if both && !self.valid.contains(&remote) {
            self.valid.push(remote);
            self.events.push_back(IceEvent::Valid { local, remote });
        }
    }

    /// When the selected pair becomes a disconnected one, or consent to it expires.
    fn disconnection(&self) -> Option<Instant> {
        match self.phase {
            Phase::Selected {
                answered,
                disconnected: false,
                ..
            } => Some(answered + DISCONNECTED_AFTER),
            Phase::Selected { answered, .. } => Some(answered + CONSENT_EXPIRES_AFTER),
            Phase::Checking { .. } | Phase::Failed => None,
        }
    }
}

impl IceAgent for RtcIceAgent {
    fn add_local(&mut self, now: Instant, candidate: Candidate) {
        let Some(converted) = convert(&candidate, self.port) else {
            return;
        };
        if self.locals.len() >= MAX_CANDIDATES || self.locals.contains(&candidate.addr) {
            return;
        }
        if self
            .agent
            .add_local_candidate(converted)
            .is_ok_and(|added| added)
        {
            self.locals.push(candidate.addr);
            self.revive(now);
        }
        self.advance(now);
    }

    fn add_remote(&mut self, now: Instant, candidate: Candidate) {
        let Some(converted) = convert(&candidate, candidate.addr.port()) else {
            return;
        };
        if !candidate.is_usable()
            || self.remotes.len() >= MAX_REMOTE_CANDIDATES
            || self.remotes.contains(&candidate.addr)
        {
            return;
        }
        if self
            .agent
            .add_remote_candidate(converted)
            .is_ok_and(|added| added)
        {
            self.remotes.push(candidate.addr);
            self.revive(now);
        }
        self.advance(now);
    }

    fn handle_input(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        packet: &[u8],
    ) -> bool {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let Ok(mut stun) = Stun::parse(packet) else {
            return false;
        };
        if stun.method() != METHOD_BINDING {
            return false;
        }
        let (ours, is_answer) = match stun.class() {
            CLASS_REQUEST => (
                stun.text(ATTR_USERNAME) == Some(&self.expected_username)
                    && stun.verify(self.local_pwd.as_bytes()),
                false,
            ),
            CLASS_SUCCESS_RESPONSE => (
                stun.verify(self.remote_pwd.as_bytes()) && self.is_answer(from, &stun),
                true,
            ),
            _ => (false, false),
        };
        if !ours {
            return false;
        }
        let Some(local) = self.local_addr(from, local) else {
            return false;
        };
        if !self.remotes.contains(&from) {
            if is_answer || self.remotes.len() >= MAX_REMOTE_CANDIDATES {
                return false;
            }
            // Peer-reflexive (RFC 8445 section 7.3.1.3): the agent adds it.
            self.remotes.push(from);
            self.revive(now);
        }
        if self.phase == Phase::Failed {
            self.revive(now);
        }
        if !is_answer {
            self.patience.heard(now, from);
        }
        let message = TransportMessage {
            now,
            transport: TransportContext {
                local_addr: local,
                peer_addr: from,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            },
            message: BytesMut::from(packet),
        };
        if let Err(error) = self.agent.handle_read(message) {
            tracing::debug!(%error, "the ICE agent refused an authenticated packet");
        }
        let seen = if is_answer {
            &mut self.answering
        } else {
            &mut self.asking
        };
        // As many as there are remote candidates.
        if !seen.contains(&from) {
            seen.push(from);
        }
        if let Phase::Selected {
            remote,
            answered,
            disconnected,
        } = &mut self.phase
            && is_answer
            && *remote == from
        {
            *answered = now;
            if std::mem::take(disconnected) {
                self.events.push_back(IceEvent::Recovered);
            }
        }
        self.advance(now);
        self.tell_valid(local, from);
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Err(error) = self.agent.handle_timeout(now) {
            tracing::debug!(%error, "the ICE agent's timer failed");
        }
        match &mut self.phase {
            Phase::Checking { until } if *until <= now => {
                self.phase = Phase::Failed;
                self.pacer.clear();
                self.events.push_back(IceEvent::Failed);
            }
            Phase::Selected {
                remote, answered, ..
            } if *answered + CONSENT_EXPIRES_AFTER <= now => {
                let remote = *remote;
                self.phase = Phase::Failed;
                self.events.push_back(IceEvent::ConsentExpired { remote });
            }
            Phase::Selected {
                answered,
                disconnected: disconnected @ false,
                ..
            } if *answered + DISCONNECTED_AFTER <= now => {
                *disconnected = true;
                self.events.push_back(IceEvent::Disconnected);
            }
            Phase::Checking { .. } | Phase::Selected { .. } | Phase::Failed => {}
        }
        self.advance(now);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let agent = self.agent.poll_timeout();
        match self.phase {
            Phase::Failed => None,
            // Without a pair there is nothing to check.
            Phase::Checking { until } if self.locals.is_empty() || self.remotes.is_empty() => {
                Some(until)
            }
            Phase::Checking { until } => [agent, self.pacer.poll_timeout(), Some(until)]
                .into_iter()
                .flatten()
                .min(),
            Phase::Selected { .. } => [agent, self.disconnection()].into_iter().flatten().min(),
        }
    }

    fn poll_transmit(&mut self) -> Option<IceTransmit> {
        let transmit = self.transmits.pop_front()?;
        self.note_request(&transmit);
        Some(transmit)
    }

    fn poll_event(&mut self) -> Option<IceEvent> {
        self.events.pop_front()
    }
}

/// A candidate as the agent has it. `base_port` is the port that packets of a local one leave from.
fn convert(candidate: &Candidate, base_port: u16) -> Option<rtc_ice::candidate::Candidate> {
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: candidate.addr.ip().to_string(),
        port: candidate.addr.port(),
        component: 1,
        priority: candidate.priority,
        ..CandidateConfig::default()
    };
    let converted = match candidate.kind {
        CandidateKind::Host => CandidateHostConfig {
            base_config,
            ..CandidateHostConfig::default()
        }
        .new_candidate_host(),
        CandidateKind::ServerReflexive | CandidateKind::Mapped => CandidateServerReflexiveConfig {
            base_config,
            rel_addr: candidate.addr.ip().to_string(),
            rel_port: base_port,
            url: None,
        }
        .new_candidate_server_reflexive(),
    };
    converted
        .inspect_err(|error| tracing::debug!(%error, "a candidate was refused"))
        .ok()
}
