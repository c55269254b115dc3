//! Which homes keep their word. Each is looked at by envelopes to ourselves that have to come back, contacts tell by which
//! homes they called, and whoever shows what nobody signed is believed no more. [`ahoy_nat::discovery::reputation`] counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    dial::dial,
    discovery::{
        quality::{Line, Lines, TRIAL, TRIAL_INTERVAL},
        reputation::{Probes, Reputation, Score, Verdict},
    },
    supernode::protocol::{Consignment, Request, Response},
};
use ahoy_transport::{
    connection::{Connection, ConnectionStats},
    endpoint::NodeAuth,
    identity::{NodeAddress, NodeId},
    runtime::{RuntimeExt, timeout},
};
use rand_core::RngCore;

use super::{
    handle::{Anomaly, Event, HomeStanding},
    run::{Engine, Internal},
};
use crate::call::CallId;

/// A connection, and one round trip.
const PROBING: Duration = Duration::from_secs(10);
/// A trial of a line that answers each packet after more than a quarter of a second ends before it has sent all.
const TRYING: Duration = Duration::from_secs(90);
/// An envelope of a probe is as long as most offers, and begins like one.
const PROBE_BYTES: usize = 4096;
/// Version 1, an offer.
const PROBE_START: [u8; 2] = [1, 0];
/// What a contact handed to a home has come by then.
const ARRIVAL: Duration = Duration::from_secs(4);
/// A home that is registered for less than this before a call may have missed it for good reasons.
const SETTLED: Duration = Duration::from_secs(2);
/// What a contact says weighs as much as so many probes of our own: it saw how the home treats others.
const CONTACTS_WORD: f64 = 3.0;
/// Calls of which it is remembered by which homes they came.
const MAX_CALLS: usize = 16;
/// What is known is kept after this at the latest.
const KEEPING: Duration = Duration::from_secs(5 * 60);

/// What it took to leave an envelope for ourselves at a home.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange {
    /// Until the home had answered what was asked.
    took: Duration,
    /// What its connection counted, the handshake's packets among them.
    stats: ConnectionStats,
}

/// By which homes a call came, and by which the caller says that it was sent.
#[derive(Debug)]
struct Arrival {
    at: Instant,
    came_by: Vec<NodeId>,
    sent_by: Vec<NodeId>,
    judged: bool,
}

/// What is known of homes.
#[derive(Debug, Default)]
pub(super) struct Trust {
    reputation: Reputation,
    probes: Probes,
    lines: Lines,
    up_since: BTreeMap<NodeId, Instant>,
    calls: BTreeMap<CallId, Arrival>,
    /// Found to be bad, and told.
    told: BTreeSet<NodeId>,
    keep_at: Option<Instant>,
}

impl Trust {
    /// What was known before.
    pub(super) fn resumed(kept: Option<&[u8]>) -> Self {
        let reputation = kept.and_then(|kept| {
            Reputation::from_bytes(kept)
                .inspect_err(|error| tracing::warn!(%error, "what is known of homes is lost"))
                .ok()
        });
        Self {
            reputation: reputation.unwrap_or_default(),
            ..Self::default()
        }
    }

    pub(super) fn score(&self, node: NodeId, now_millis: u64) -> Score {
        self.reputation.score(node, now_millis)
    }

    /// For those that are alike otherwise: bad ones last, then by their lines, those that are near and lose nothing first. In
    /// steps of ten milliseconds, since a round trip is never the same twice.
    pub(super) fn rank(&self, node: NodeId, now_millis: u64) -> (bool, u128) {
        let score = self.score(node, now_millis);
        let rtt = score.rtt.map_or(500, |rtt| rtt.as_millis());
        let line = self.lines.line(node).map(Line::rank);
        (score.is_bad(), line.unwrap_or(rtt / 10))
    }

    /// An offer came by this home.
    pub(super) fn note_came(&mut self, call: CallId, home: NodeId, now: Instant) {
        if !self.calls.contains_key(&call) && self.calls.len() >= MAX_CALLS {
            let oldest = self.calls.iter().min_by_key(|(_call, arrival)| arrival.at);
            if let Some(oldest) = oldest.map(|(call, _arrival)| *call) {
                self.calls.remove(&oldest);
            }
        }
        let arrival = self.calls.entry(call).or_insert(Arrival {
            at: now,
            came_by: Vec::new(),
            sent_by: Vec::new(),
            judged: false,
        });
        if !arrival.came_by.contains(&home) {
            arrival.came_by.push(home);
        }
    }

    /// The caller, a contact, says which homes took the offer. Said once.
    pub(super) fn note_sent(&mut self, call: CallId, homes: Vec<NodeId>) {
        if let Some(arrival) = self.calls.get_mut(&call)
            && arrival.sent_by.is_empty()
        {
            arrival.sent_by = homes;
        }
    }

    /// A home is registered, or not any more.
    pub(super) fn note_up(&mut self, home: NodeId, up: bool, now: Instant) {
        if up {
            self.up_since.entry(home).or_insert(now);
        } else {
            self.up_since.remove(&home);
            self.probes.forget(home);
        }
    }
}

/// Closes the connection. What it came to.
fn ended(client: &NodeClient) -> ConnectionStats {
    let stats = client.connection().map(Connection::stats);
    client.close();
    stats.unwrap_or_default()
}

impl Engine {
    /// Looks after homes, as far as that is due.
    pub(super) fn look_at_trust(&mut self) {
        if !self.config.upkeep.watch_homes {
            return;
        }
        let now = self.runtime.now();
        let homes = self.homes.iter().filter(|home| home.up().is_some());
        let up: Vec<NodeId> = homes.map(ahoy_nat::home::Home::node).collect();
        self.trust.probes.set_homes(&up, now);
        // One that is away for a moment keeps what was measured of it.
        let kept: Vec<NodeId> = self.homes.iter().map(ahoy_nat::home::Home::node).collect();
        self.trust.lines.set_homes(&kept);
        for verdict in self.trust.probes.handle_timeout(now) {
            self.take_verdict(verdict);
        }
        self.judge_calls();
        while self.trust.probes.is_due(now) {
            let mut mark = [0; 16];
            self.rng.fill_bytes(&mut mark);
            let Some(home) = self.trust.probes.poll(now, mark) else {
                break;
            };
            self.probe(home, mark);
        }
        let keep_at = *self.trust.keep_at.get_or_insert(now + KEEPING);
        if now >= keep_at {
            self.trust.keep_at = Some(now + KEEPING);
            self.keep_trust();
        }
    }

    /// For the next start.
    pub(super) fn keep_trust(&self) {
        if !self.trust.reputation.is_empty() {
            let kept = self.trust.reputation.to_bytes();
            self.book.keep_reputation(&kept);
        }
    }

    /// Leaves an envelope for ourselves there, as somebody who calls does.
    fn probe(&mut self, node: NodeId, mark: [u8; 16]) {
        let mut homes = self.config.homes.iter().map(|(address, _addr)| address);
        let address = homes.find(|address| address.node == node).cloned();
        let (Some(address), Some(up)) = (address, self.home(node)) else {
            return self.trust.probes.forget(node);
        };
        let mut envelope = vec![0; PROBE_BYTES];
        self.rng.fill_bytes(&mut envelope);
        for (byte, mark) in envelope.iter_mut().zip(PROBE_START.iter().chain(&mark)) {
            *byte = *mark;
        }
        let (me, epoch) = (self.config.me.keys.id(), up.epoch);
        let (runtime, inbox) = (Arc::clone(&self.runtime), self.inbox.clone());
        let visit = self.visit(address);
        let probing = async move {
            let asking = async {
                let client = visit.await?;
                let at = runtime.now();
                // No work is done for it: what took long because strangers flood the home says nothing of the home.
                let request = Request::Consign(Consignment::Deliver {
                    to: me,
                    epoch,
                    mark: None,
                    envelope,
                });
                let taken = client.request(&request).await;
                let took = runtime.now().saturating_duration_since(at);
                let stats = ended(&client);
                matches!(taken, Ok(Response::Delivered { .. })).then_some(Exchange { took, stats })
            };
            let taken = timeout(&*runtime, PROBING, asking).await.flatten();
            // The engine is gone: so is the question.
            let probed = Internal::Probed { node, mark, taken };
            inbox.send(probed).await.unwrap_or_default();
        };
        self.runtime.spawn_task(probing).detach();
    }

    /// A connection to a home as strangers have it.
    fn visit(&self, address: NodeAddress) -> impl Future<Output = Option<NodeClient>> + use<> {
        let (runtime, endpoint) = (Arc::clone(&self.runtime), self.endpoint.clone());
        let reaching = self.config.reaching();
        async move {
            let place = reaching.locate(&*runtime, &address).await.ok()?;
            let (auth, ways) = (NodeAuth::Anonymous, reaching.ways);
            let dialled = dial(&endpoint, address.node, &place, auth, ways)
                .await
                .ok()?;
            Some(NodeClient::dialled(runtime, dialled))
        }
    }

    /// Something was lost: measures the lines to all homes at once, unless that was done lately. Not beside a call, which it would
    /// be in the way of.
    fn try_lines(&mut self, now: Instant) {
        if self.calls.current().is_some() || !self.trust.lines.begin_trial(now) {
            return;
        }
        for (address, _addr) in &self.config.homes {
            let node = address.node;
            if self.home(node).is_none() {
                continue;
            }
            let (runtime, inbox) = (Arc::clone(&self.runtime), self.inbox.clone());
            let visit = self.visit(address.clone());
            let trying = async move {
                let Some(Some(client)) = timeout(&*runtime, PROBING, visit).await else {
                    return;
                };
                let asking = async {
                    for _packet in 0..TRIAL {
                        let next = runtime.now() + TRIAL_INTERVAL;
                        // Packets are counted; those of a refusal, too.
                        let request = Request::Supernodes {
                            after: None,
                            most: 0,
                            own: None,
                        };
                        if let Err(RequestError::Lost) = client.request(&request).await {
                            break;
                        }
                        runtime.sleep_until(next).await;
                    }
                };
                timeout(&*runtime, TRYING, asking).await.unwrap_or_default();
                let stats = ended(&client);
                // The engine is gone: so is the question.
                let tried = Internal::Tried(node, stats);
                inbox.send(tried).await.unwrap_or_default();
            };
            self.runtime.spawn_task(trying).detach();
        }
    }

    /// The line to a home was measured.
    pub(super) fn handle_tried(&mut self, node: NodeId, stats: ConnectionStats) {
        tracing::debug!(?node, ?stats, "a line was tried");
        if self.home(node).is_some() {
            self.note_line(node, stats);
        }
    }

    /// So a connection to a home went. Its shortest round trip counts: others may have waited for packets that were lost.
    fn note_line(&mut self, node: NodeId, stats: ConnectionStats) {
        let (rtt, sent, lost) = (stats.min_rtt, stats.sent_packets, stats.lost_packets);
        self.trust.lines.note(node, rtt, sent, lost);
        self.compare_lines(node, self.runtime.now());
    }

    /// A home took an envelope for ourselves, or did not.
    pub(super) fn handle_probed(&mut self, node: NodeId, mark: [u8; 16], taken: Option<Exchange>) {
        let now = self.runtime.now();
        self.trust.probes.handle_taken(mark, taken.is_some(), now);
        let Some(Exchange { took, stats }) = taken else {
            return;
        };
        let now_millis = self.runtime.unix_millis();
        self.trust.reputation.note_rtt(node, took, now_millis);
        if self.config.upkeep.better_homes {
            self.note_line(node, stats);
            if stats.lost_packets > 0 {
                self.try_lines(now);
            }
        }
    }

    /// Leaves the home with the worst line for a better one, if it is clearly worse than others; one that was, and that `node`
    /// is no more, counts again.
    fn compare_lines(&mut self, node: NodeId, now: Instant) {
        let Some(choice) = &mut self.choice else {
            return;
        };
        if self.trust.lines.is_mended(node) {
            choice.handle_poor(node, false);
        }
        if let Some(worst) = self.trust.lines.worst(now) {
            let line = self.trust.lines.line(worst);
            tracing::info!(?worst, ?line, "another home is better than this one");
            choice.handle_poor(worst, true);
        }
    }

    /// Whether an envelope is one of ours that comes back.
    pub(super) fn take_probe(&mut self, envelope: &[u8]) -> bool {
        let mark = envelope.get(PROBE_START.len()..);
        let Some(mark) = mark.and_then(<[u8]>::first_chunk) else {
            return false;
        };
        let now = self.runtime.now();
        match self.trust.probes.handle_arrived(*mark, now) {
            Some(verdict) => {
                self.take_verdict(verdict);
                true
            }
            None => false,
        }
    }

    fn take_verdict(&mut self, verdict: Verdict) {
        let now_millis = self.runtime.unix_millis();
        match verdict {
            Verdict::Kept(node) => self.trust.reputation.note_kept(node, now_millis),
            Verdict::Broken(node) => {
                tracing::info!(?node, "a home threw away what it said it handed on");
                self.trust.reputation.note_broken(node, 1.0, now_millis);
                self.judge_home(node);
            }
        }
    }

    /// Calls of contacts: by which homes they should have come, and by which they came.
    fn judge_calls(&mut self) {
        let (now, now_millis) = (self.runtime.now(), self.runtime.unix_millis());
        let mut broken = Vec::new();
        for arrival in self.trust.calls.values_mut() {
            if arrival.judged || now < arrival.at + ARRIVAL || arrival.sent_by.is_empty() {
                continue;
            }
            arrival.judged = true;
            for home in &arrival.sent_by {
                let since = self.trust.up_since.get(home);
                let settled = since.is_some_and(|since| *since + SETTLED <= arrival.at);
                if arrival.came_by.contains(home) {
                    self.trust.reputation.note_kept(*home, now_millis);
                } else if settled {
                    broken.push(*home);
                }
            }
        }
        for node in broken {
            tracing::info!(
                ?node,
                "a contact's call did not come by a home that had taken it"
            );
            let weight = CONTACTS_WORD;
            self.trust.reputation.note_broken(node, weight, now_millis);
            self.judge_home(node);
        }
    }

    /// A supernode showed what nobody signed.
    pub(super) fn note_lies(&mut self, lies: Vec<(NodeId, Vec<u8>)>) {
        let now_millis = self.runtime.unix_millis();
        for (node, evidence) in lies {
            let reputation = &mut self.trust.reputation;
            reputation.note_lie(node, &evidence, now_millis);
            self.judge_home(node);
        }
    }

    /// Leaves a home that is not worth its place.
    fn judge_home(&mut self, node: NodeId) {
        let score = self.trust.score(node, self.runtime.unix_millis());
        if !score.is_bad() || !self.config.upkeep.watch_homes {
            return;
        }
        let now = self.runtime.now();
        if let Some(choice) = &mut self.choice {
            choice.handle_misdeed(node, now);
        }
        if self.trust.told.insert(node) {
            let sentence = format!(
                "the supernode {node} is not trusted any more: {}; others take its place",
                score.why()
            );
            tracing::warn!("{sentence}");
            let kind = Anomaly::DishonestSupernode;
            self.publish(Event::Anomaly { kind, sentence });
        }
    }

    /// Homes as they are judged, for whoever wants to know.
    pub(super) fn home_standings(&self) -> Vec<HomeStanding> {
        let now_millis = self.runtime.unix_millis();
        // What is shown changes when there is news, not as time passes.
        let round = |number: f64, steps: f64| (number * steps).round() / steps;
        let homes = self.homes.iter().zip(&self.config.homes);
        let standing = homes.map(|(home, (address, _addr))| {
            let score = self.trust.score(home.node(), now_millis);
            HomeStanding {
                address: address.clone(),
                registered: home.up().is_some(),
                kept: round(score.kept, 10.0),
                broken: round(score.broken, 10.0),
                least: round(score.least, 100.0),
                rtt: score.rtt,
                bad: score.is_bad(),
                lied: score.banned_until_millis.is_some(),
                why: score.why(),
            }
        });
        standing.collect()
    }
}
