//! One device of the other side, from offer to good-bye: envelopes through the homes, the relay, ICE, and the
//! session they lead to.
//!
//! A leg is owned by the engine's task; what takes time runs in tasks that report as [`LegEvent`]s and end
//! with the leg.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    candidate::Candidate,
    client::NodeClient,
    gather::host_candidates,
    ice::{IceCredentials, IceEvent, IceRole, rtc::RtcIceAgent, runner::IceRunner},
    netmon::NetworkState,
    port::PortHub,
    turn::{
        TurnError,
        allocation::{RelayBinding, TurnAllocation},
    },
};
use ahoy_transport::{
    datagram::Priority,
    endpoint::Endpoint,
    identity::{DeviceId, NodeId, VerifiedDevice},
    mux::RelayRoute,
    runtime::{Runtime, RuntimeExt, Task, timeout},
    sealed::{CallEnvelopes, CallTag, FollowUpError, Role, SessionSecret},
    session::{
        LocalDevice, PathId, PathKind as LinkKind, RemoteDevice, Session, SessionConfig,
        SessionEnd as LinkEnd, SessionEvent as LinkEvent, SessionParams, Switch,
    },
};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    config::{Me, PathPolicy},
    directory::Findings,
    media::{Arrival, AudioSettings, Media, MediaError, MediaStats, PACKET_QUEUE, Probe},
    reach::{MAX_RELAYED, Reach, Relayed},
    relays::{RelaySource, Relays},
    run::Internal,
};
use crate::{
    call::{Accepted, CallId, SessionEnd, SessionEvent},
    identity::safety_words,
    report::{
        AudioPackets, AudioReport, PathKind, Percentiles, Recovered, ReportBuilder, Security,
    },
    signal::{FollowUp, Signal, SignalMessage},
};

/// Voice is worth sending for this long; later it could only be played too late.
const VOICE_EXPIRY: Duration = Duration::from_millis(400);
/// The flow that voice travels in.
const VOICE_FLOW: u64 = 1;
/// ICE runs once per call; a restart would count this up.
const GENERATION: u32 = 0;
/// Signals take this long from their queue into the session.
const LAST_WORDS_QUEUED: Duration = Duration::from_millis(20);
/// How long a session stays open so that the other side hears what was said last.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Relayed addresses of the other side that are used at once: after a relay of theirs started anew, the old address
/// may still be among them.
const MAX_THEIR_RELAYED: usize = 2 * MAX_RELAYED;
/// First and longest wait until a channel that a relay refused is asked for again.
const REBIND_AFTER: Duration = Duration::from_secs(2);
const REBIND_AFTER_MAX: Duration = Duration::from_secs(60);
/// Signals and follow-ups that wait for the session or the homes.
const OUTBOX: usize = 64;

/// What a leg needs from the engine.
#[derive(Debug, Clone)]
pub(super) struct LegContext {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) endpoint: Endpoint,
    pub(super) hub: Arc<PortHub>,
    pub(super) relays: Relays,
    pub(super) me: Me,
    pub(super) call: CallId,
    pub(super) device: VerifiedDevice,
    pub(super) contact: bool,
    pub(super) verified: bool,
    pub(super) path: PathPolicy,
    pub(super) allow_loopback: bool,
    /// Whose relays we use.
    pub(super) sources: Vec<RelaySource>,
    pub(super) inbox: mpsc::Sender<Internal>,
}

/// How envelopes reach the other device while there is no session.
#[derive(Debug, Clone)]
pub(super) enum Carrier {
    /// We called: deliver to the device.
    Deliver {
        client: NodeClient,
        to: DeviceId,
        epoch: u64,
    },
    /// We were called: reply to the delivery.
    Reply { client: NodeClient, delivery: u64 },
}

/// What a leg's tasks report.
#[derive(Debug)]
pub(super) enum LegEvent {
    /// A second look-up, after the device registered again.
    FoundAgain(Findings),
    /// A relay of ours.
    Relay(NodeId, Arc<TurnAllocation>),
    /// A relay of ours gave our relayed address up, or is gone.
    RelayLost(NodeId, TurnError),
    /// A channel through a relay of ours to a relayed address of the other side.
    Bound(NodeId, RelayBinding),
    /// ICE.
    Ice(IceEvent),
    /// The session.
    Session(LinkEvent),
    /// A control message in the session.
    Control(Bytes),
}

/// Tells the engine of an event.
type Reporter = Arc<dyn Fn(LegEvent) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A relayed address of ours. Dropping it ends what goes on there.
struct OurRelay {
    source: RelaySource,
    allocation: Arc<TurnAllocation>,
    /// What keeps each channel, by the other side's relayed address.
    channels: BTreeMap<SocketAddr, Task>,
    _watch: Task,
}

/// A path through a relay of ours.
struct RelayedPath {
    node: NodeId,
    binding: RelayBinding,
    /// What stands for it in the session.
    route: SocketAddr,
    path: Option<PathId>,
}

pub(super) struct Leg {
    context: LegContext,
    role: Role,
    secret: SessionSecret,
    envelopes: CallEnvelopes,
    carrier: Carrier,
    /// The home has our offer; before, follow-ups wait in `outbox`.
    delivered: bool,
    outbox: Vec<Vec<u8>>,
    session: Option<Session>,
    /// Signals for the session, in order.
    signals: Option<mpsc::Sender<Bytes>>,
    session_up: bool,
    /// The session is up and has no way to the other side at the moment.
    reconnecting: bool,
    relays: Vec<OurRelay>,
    relayed_paths: Vec<RelayedPath>,
    /// The newest last.
    their_relayed: Vec<Relayed>,
    /// Both sides agreed to talk: addresses may be shown to strangers now.
    accepted: bool,
    shown_ice: bool,
    ice: Option<Arc<IceRunner>>,
    their_ice: Vec<Candidate>,
    tasks: Vec<Task>,
    words: Option<Vec<String>>,
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leg")
            .field("call", &self.context.call)
            .field("device", &self.context.device.device())
            .finish_non_exhaustive()
    }
}

impl Leg {
    pub(super) fn new(
        context: LegContext,
        role: Role,
        secret: SessionSecret,
        carrier: Carrier,
    ) -> Self {
        let envelopes = CallEnvelopes::new(&secret, &context.call.0, role);
        Self {
            delivered: matches!(carrier, Carrier::Reply { .. }),
            context,
            role,
            secret,
            envelopes,
            carrier,
            outbox: Vec::new(),
            session: None,
            signals: None,
            session_up: false,
            reconnecting: false,
            relays: Vec::new(),
            relayed_paths: Vec::new(),
            their_relayed: Vec::new(),
            accepted: false,
            shown_ice: false,
            ice: None,
            their_ice: Vec::new(),
            tasks: Vec::new(),
            words: None,
        }
    }

    pub(super) fn tag(&self) -> CallTag {
        self.envelopes.tag()
    }

    pub(super) fn open(&mut self) {
        if self.session.is_some() {
            return;
        }
        let context = &self.context;
        let params = SessionParams {
            endpoint: context.endpoint.clone(),
            secret: self.secret.clone(),
            call_id: context.call.0,
            local: LocalDevice {
                keys: Arc::clone(&context.me.keys),
                certificate: context.me.certificate.clone(),
            },
            remote: RemoteDevice {
                user: context.device.user(),
                device: context.device.device(),
                noise_static: *context.device.noise_static(),
            },
            config: SessionConfig::default(),
        };
        let session = match self.role {
            Role::Caller => Session::caller(params),
            Role::Callee => Session::callee(params),
        };
        self.watch(&session);
        self.session = Some(session);
        self.start_relays();
        // A caller's offer shows them.
        if self.role == Role::Callee && self.may_show_addresses() {
            self.show_addresses();
        }
    }

    /// Candidates for the offer: what may be shown before anybody accepted.
    pub(super) fn candidates(&mut self) -> Vec<u8> {
        let reach = Reach {
            ice: self.ice_candidates(),
            relayed: self.our_relayed(),
        };
        self.shown_ice = !reach.ice.is_empty();
        reach.encode()
    }

    /// A task per direction; both end with the leg.
    fn watch(&mut self, session: &Session) {
        let (runtime, inbox) = (&self.context.runtime, &self.context.inbox);
        let (call, device) = (self.context.call, self.context.device.device());
        let report = move |event| Internal::Leg {
            call,
            device,
            event,
        };
        let (watched, events) = (session.clone(), inbox.clone());
        self.tasks.push(runtime.spawn_task(async move {
            while let Some(event) = watched.next_event().await {
                if events.send(report(LegEvent::Session(event))).await.is_err() {
                    return;
                }
            }
        }));
        let (watched, events) = (session.clone(), inbox.clone());
        self.tasks.push(runtime.spawn_task(async move {
            while let Some(message) = watched.recv_control().await {
                if events
                    .send(report(LegEvent::Control(message)))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }));
        let (signals, mut queue) = mpsc::channel::<Bytes>(OUTBOX);
        let sending = session.clone();
        self.tasks.push(runtime.spawn_task(async move {
            while let Some(signal) = queue.recv().await {
                if let Err(error) = sending.send_control(signal).await {
                    tracing::debug!(%error, "a signal is lost with its session");
                    return;
                }
            }
        }));
        self.signals = Some(signals);
    }

    // --- envelopes through the homes -------------------------------------------------------------

    pub(super) fn open_envelope(&mut self, envelope: &[u8]) -> Result<Vec<u8>, FollowUpError> {
        self.envelopes.open(envelope)
    }

    /// The home took the offer: what waited for that follows.
    pub(super) fn delivered(&mut self) {
        self.delivered = true;
        for envelope in std::mem::take(&mut self.outbox) {
            self.carry(envelope);
        }
    }

    /// A signal goes through the session when it is up, else through the homes.
    pub(super) fn send_signal(&mut self, message: SignalMessage) {
        if self.session_up
            && let Some(signals) = &self.signals
        {
            if signals.try_send(message.encode().into()).is_err() {
                tracing::warn!("signals pile up: one is lost");
            }
            return;
        }
        if matches!(message.signal, Signal::Report(_)) {
            return;
        }
        if matches!(message.signal, Signal::Cancel(_)) {
            // It may overtake the offer, and the leg does not live to wait for anything.
            self.delivered();
        }
        self.follow_up(FollowUp {
            candidates: Vec::new(),
            message: Some(message),
        });
    }

    fn follow_up(&mut self, follow_up: FollowUp) {
        match self.envelopes.seal(&follow_up.encode()) {
            Ok(envelope) if self.delivered => self.carry(envelope),
            Ok(envelope) if self.outbox.len() < OUTBOX => self.outbox.push(envelope),
            Ok(_too_many) => tracing::warn!("follow-ups pile up: one is lost"),
            Err(error) => tracing::error!(%error, "a follow-up cannot be sealed"),
        }
    }

    fn carry(&self, envelope: Vec<u8>) {
        let carrier = self.carrier.clone();
        let carrying = async move {
            let sent = match carrier {
                Carrier::Deliver { client, to, epoch } => client
                    .deliver(to, epoch, envelope)
                    .await
                    .map(|_delivery| ()),
                Carrier::Reply { client, delivery } => client.reply(delivery, envelope).await,
            };
            if let Err(error) = sent {
                tracing::info!(%error, "a follow-up was not delivered");
            }
        };
        // Detached: a cancel must leave although the leg goes.
        self.context.runtime.spawn_task(carrying).detach();
    }

    // --- paths -----------------------------------------------------------------------------------

    /// Strangers learn our addresses only once somebody accepted.
    fn may_show_addresses(&self) -> bool {
        self.context.path != PathPolicy::Relay && (self.context.contact || self.accepted)
    }

    fn ice_candidates(&self) -> Vec<Candidate> {
        if !self.may_show_addresses() {
            return Vec::new();
        }
        host_candidates(
            &*self.context.runtime,
            self.context.endpoint.local_addr(),
            self.context.allow_loopback,
        )
    }

    fn show_addresses(&mut self) {
        if self.shown_ice {
            self.try_ice();
            return;
        }
        let ice = self.ice_candidates();
        if ice.is_empty() {
            return;
        }
        self.shown_ice = true;
        self.send_reach(Reach {
            ice,
            relayed: Vec::new(),
        });
        self.try_ice();
    }

    fn send_reach(&mut self, reach: Reach) {
        let candidates = reach.encode();
        if self.session_up {
            let message = SignalMessage {
                call: self.context.call,
                participant: self.context.me.keys.id(),
                signal: Signal::Candidates(candidates.clone()),
            };
            self.send_signal(message);
        }
        if !self.session_up || self.reconnecting {
            self.follow_up(FollowUp {
                candidates,
                message: None,
            });
        }
    }

    /// The other side said how it can be reached.
    pub(super) fn handle_candidates(&mut self, bytes: &[u8]) {
        let reach = match Reach::decode(bytes) {
            Ok(reach) => reach,
            Err(error) => {
                tracing::info!(%error, "candidates cannot be read");
                return;
            }
        };
        for relayed in reach.relayed {
            self.handle_relayed(relayed);
        }
        if self.context.path != PathPolicy::Relay && !reach.ice.is_empty() {
            self.their_ice = reach.ice;
            self.try_ice();
        }
    }

    fn our_relayed(&self) -> Vec<Relayed> {
        self.relays
            .iter()
            .map(|relay| relay.source.relayed(relay.allocation.relayed_addr()))
            .collect()
    }

    fn start_relays(&mut self) {
        for source in self.context.sources.clone() {
            self.start_relay(source);
        }
    }

    /// Asks for an allocation on a relay of ours, unless we have one there.
    fn start_relay(&mut self, source: RelaySource) {
        let node = source.node();
        let held = self.relays.iter().any(|relay| relay.source.node() == node);
        if held || self.context.path == PathPolicy::Direct || !source.is_up() {
            return;
        }
        let relays = self.context.relays.clone();
        let report = self.reporter();
        self.tasks.push(self.context.runtime.spawn_task(async move {
            match relays.allocate(&source).await {
                Ok(allocation) => report(LegEvent::Relay(node, allocation)).await,
                Err(error) => tracing::info!(?node, error, "no relay"),
            }
        }));
    }

    pub(super) fn handle_relay(&mut self, node: NodeId, allocation: Arc<TurnAllocation>) {
        let sources = &self.context.sources;
        let Some(source) = sources.iter().find(|source| source.node() == node) else {
            return;
        };
        if self.relays.iter().any(|relay| relay.source.node() == node) {
            return;
        }
        let (watched, report) = (Arc::clone(&allocation), self.reporter());
        let watch = self.context.runtime.spawn_task(async move {
            let error = watched.ended().await;
            report(LegEvent::RelayLost(node, error)).await;
        });
        self.relays.push(OurRelay {
            source: source.clone(),
            allocation,
            channels: BTreeMap::new(),
            _watch: watch,
        });
        self.send_reach(Reach {
            ice: Vec::new(),
            relayed: self.our_relayed(),
        });
        self.bind_relayed();
    }

    /// Our relayed address is gone: its paths are, too. Another one is asked for as soon as the home is there.
    pub(super) fn handle_relay_lost(&mut self, node: NodeId, error: TurnError) {
        tracing::info!(?node, %error, "a relay is lost");
        self.relays.retain(|relay| relay.source.node() != node);
        self.drop_paths(|path| path.node == node);
        let sources = &self.context.sources;
        if let Some(source) = sources.iter().find(|source| source.node() == node) {
            self.start_relay(source.clone());
        }
    }

    /// The relay may be gone with the home.
    pub(super) fn handle_home_lost(&self, node: NodeId) {
        for relay in &self.relays {
            if relay.source.node() == node {
                relay.allocation.probe();
            }
        }
    }

    /// A home is there, perhaps again, and perhaps without a memory of our relayed address.
    pub(super) fn handle_home_up(&mut self, node: NodeId) {
        self.handle_home_lost(node);
        let sources = &self.context.sources;
        let source = sources.iter().find(|source| source.node() == node);
        if let (Some(source), true) = (source.cloned(), self.session.is_some()) {
            self.start_relay(source);
        }
    }

    /// Our addresses or the way out changed. A relay knows us by an address: whether it still does is asked at once,
    /// and the other side hears of the new addresses.
    pub(super) fn network_changed(&mut self, state: &NetworkState) {
        if state.networks.is_offline() {
            return;
        }
        for relay in &self.relays {
            relay.allocation.probe();
        }
        if self.shown_ice && !state.reason.gained.is_empty() {
            let ice = self.ice_candidates();
            if let Some(agent) = &self.ice {
                for candidate in &ice {
                    agent.add_local(*candidate);
                }
            }
            self.send_reach(Reach {
                ice,
                relayed: Vec::new(),
            });
        }
    }

    /// The other side named a relayed address of its own. We never send there: our relay does.
    fn handle_relayed(&mut self, relayed: Relayed) {
        let at_relay = relayed
            .relay
            .socket_addr()
            .is_some_and(|relay| relay.ip() == relayed.addr.ip());
        if !at_relay || self.their_relayed.contains(&relayed) {
            return;
        }
        self.their_relayed.push(relayed);
        if self.their_relayed.len() > MAX_THEIR_RELAYED {
            let oldest = self.their_relayed.remove(0).addr;
            for relay in &mut self.relays {
                relay.channels.remove(&oldest);
                relay.allocation.release_peer(oldest);
            }
            self.drop_paths(|path| path.binding.peer == oldest);
        }
        self.bind_relayed();
    }

    /// Whether a path shall lead through these two relays, ours and theirs. A relay that both sides use takes one
    /// packet less and fails alone, so it is not joined to others.
    fn pairs(&self, ours: NodeId, theirs: NodeId) -> bool {
        let common = |node| {
            let is_ours = self.relays.iter().any(|relay| relay.source.node() == node);
            let their = &self.their_relayed;
            is_ours && their.iter().any(|relayed| relayed.relay.node == node)
        };
        ours == theirs || !(common(ours) || common(theirs))
    }

    /// Opens channels from our relays to theirs.
    fn bind_relayed(&mut self) {
        let mut wanted = Vec::new();
        for (n, relay) in self.relays.iter().enumerate() {
            for theirs in &self.their_relayed {
                if self.pairs(relay.source.node(), theirs.relay.node)
                    && !relay.channels.contains_key(&theirs.addr)
                {
                    wanted.push((n, theirs.clone()));
                }
            }
        }
        let report = self.reporter();
        for (n, theirs) in wanted {
            let Some(relay) = self.relays.get_mut(n) else {
                continue;
            };
            let addr = theirs.addr;
            let channel = Channel {
                runtime: Arc::clone(&self.context.runtime),
                source: relay.source.clone(),
                allocation: Arc::clone(&relay.allocation),
                theirs,
            };
            let keeping = channel.keep(report.clone());
            let task = self.context.runtime.spawn_task(keeping);
            relay.channels.insert(addr, task);
        }
    }

    pub(super) fn handle_bound(&mut self, node: NodeId, binding: RelayBinding) {
        let is_known = |path: &RelayedPath| path.node == node && path.binding == binding;
        if self.relayed_paths.iter().any(is_known) {
            return;
        }
        self.drop_paths(|path| path.node == node && path.binding.peer == binding.peer);
        let route = RelayRoute {
            server: binding.server,
            channel: binding.channel,
            peer: binding.peer,
        };
        match self.context.endpoint.mux().add_relay_route(route) {
            Ok(route) => {
                let path = self.add_path(LinkKind::Relay, route);
                self.relayed_paths.push(RelayedPath {
                    node,
                    binding,
                    route,
                    path,
                });
            }
            Err(error) => tracing::warn!(%error, "no room for a relayed path"),
        }
    }

    fn drop_paths(&mut self, which: impl Fn(&RelayedPath) -> bool) {
        for dropped in self.relayed_paths.extract_if(.., |path| which(path)) {
            if let (Some(session), Some(path)) = (&self.session, dropped.path) {
                session.remove_path(path);
            }
            self.context
                .endpoint
                .mux()
                .remove_relay_route(dropped.route);
        }
    }

    /// Tells the engine what happened, from a task of this leg.
    fn reporter(&self) -> Reporter {
        let (call, device) = (self.context.call, self.context.device.device());
        let inbox = self.context.inbox.clone();
        Arc::new(move |event| {
            let inbox = inbox.clone();
            Box::pin(async move {
                let told = Internal::Leg {
                    call,
                    device,
                    event,
                };
                // The engine is gone: so is the leg.
                inbox.send(told).await.unwrap_or_default();
            })
        })
    }

    fn add_path(&self, kind: LinkKind, remote: SocketAddr) -> Option<PathId> {
        self.session
            .as_ref()?
            .add_path(kind, remote)
            .inspect_err(|error| tracing::warn!(%error, "a path is not used"))
            .ok()
    }

    /// ICE starts when both sides have shown their addresses.
    fn try_ice(&mut self) {
        if self.their_ice.is_empty() || !self.shown_ice {
            return;
        }
        if let Some(ice) = &self.ice {
            for candidate in &self.their_ice {
                ice.add_remote(*candidate);
            }
            return;
        }
        let context = &self.context;
        let (role, other) = match self.role {
            Role::Caller => (IceRole::Controlling, IceRole::Controlled),
            Role::Callee => (IceRole::Controlled, IceRole::Controlling),
        };
        let secret = self.secret.as_bytes();
        let ours = IceCredentials::derive(secret, role, GENERATION);
        let theirs = IceCredentials::derive(secret, other, GENERATION);
        let runtime = &context.runtime;
        let port = context.endpoint.local_addr().port();
        let seed = runtime.random_array();
        let agent = match RtcIceAgent::new(runtime.now(), role, port, &ours, &theirs, seed) {
            Ok(agent) => Box::new(agent),
            Err(error) => {
                tracing::error!(%error, "no ICE agent");
                return;
            }
        };
        let started = IceRunner::start(Arc::clone(runtime), &context.hub, &ours.ufrag, agent);
        let ice = match started {
            Ok(ice) => Arc::new(ice),
            Err(error) => {
                tracing::warn!(%error, "ICE does not start");
                return;
            }
        };
        for candidate in self.ice_candidates() {
            ice.add_local(candidate);
        }
        for candidate in &self.their_ice {
            ice.add_remote(*candidate);
        }
        let (watched, inbox) = (Arc::clone(&ice), context.inbox.clone());
        let (call, device) = (context.call, context.device.device());
        self.tasks.push(context.runtime.spawn_task(async move {
            loop {
                let event = LegEvent::Ice(watched.event().await);
                let told = Internal::Leg {
                    call,
                    device,
                    event,
                };
                if inbox.send(told).await.is_err() {
                    return;
                }
            }
        }));
        self.ice = Some(ice);
    }

    pub(super) fn handle_ice(&self, event: IceEvent) {
        match event {
            IceEvent::Selected { local, remote } => {
                tracing::debug!(%local, %remote, "a direct path works");
                self.add_path(LinkKind::Direct, remote);
            }
            IceEvent::Disconnected | IceEvent::Recovered | IceEvent::Failed => {
                tracing::debug!(?event, "ICE");
            }
        }
    }

    // --- the session -----------------------------------------------------------------------------

    /// Brings what happened to the session into the report, and says what the call should know.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        event: &LinkEvent,
        report: &mut ReportBuilder,
        path: &mut Option<PathKind>,
    ) -> Option<SessionEvent> {
        match event {
            LinkEvent::PathUp { path: up, kind, .. } => {
                tracing::debug!(path = ?up, ?kind, "path up");
                if self.session_up {
                    return None;
                }
                self.session_up = true;
                // No switch tells of the first path that media goes by.
                self.observe_path(now, *up, report, path);
                Some(SessionEvent::Connected)
            }
            LinkEvent::PathDown { path, reason, .. } => {
                tracing::debug!(?path, %reason, "path down");
                None
            }
            LinkEvent::Switched(switch) => {
                self.observe_switch(now, switch, report, path);
                None
            }
            LinkEvent::Reconnecting => {
                self.reconnecting = true;
                Some(SessionEvent::Reconnecting)
            }
            LinkEvent::Reconnected { after } => {
                self.reconnecting = false;
                tracing::info!(?after, "the connection is back");
                Some(SessionEvent::Restored)
            }
            LinkEvent::Ended(end) => {
                self.session_up = false;
                Some(SessionEvent::Ended(match end {
                    LinkEnd::ClosedHere | LinkEnd::ClosedByPeer(_) => SessionEnd::ClosedByPeer,
                    LinkEnd::Lost | LinkEnd::Unreachable => SessionEnd::NoPath,
                }))
            }
        }
    }

    /// Media goes another way: for the report and the person.
    fn observe_switch(
        &self,
        now: Instant,
        switch: &Switch,
        report: &mut ReportBuilder,
        path: &mut Option<PathKind>,
    ) {
        let Some(session) = &self.session else { return };
        let before = switch.from.and_then(|from| {
            session
                .stats()
                .paths
                .get(&from)
                .map(|path| kind_of(path.kind))
        });
        self.observe_path(now, switch.to, report, path);
        if let (Some(from), Some(to)) = (before, *path) {
            report.switched(now, from, to, switch.gap);
        }
    }

    fn observe_path(
        &self,
        now: Instant,
        to: PathId,
        report: &mut ReportBuilder,
        path: &mut Option<PathKind>,
    ) {
        let Some(session) = &self.session else { return };
        let paths = session.stats().paths;
        let Some(to) = paths.get(&to) else { return };
        let kind = kind_of(to.kind);
        let local = self.context.endpoint.local_addr().to_string();
        let remote = to
            .remote
            .map(|remote| self.named(remote))
            .unwrap_or_default();
        report.path(now, kind, local, remote);
        *path = Some(kind);
    }

    /// A relayed path is named by the relay, not by the address that stands for it here.
    fn named(&self, remote: SocketAddr) -> String {
        match self.context.endpoint.mux().relay_route(remote) {
            Some(route) => route.server.to_string(),
            None => remote.to_string(),
        }
    }

    /// Words and keys are told once both sides know which connection is the root.
    fn make_words(&mut self, report: &mut ReportBuilder) {
        if self.words.is_some() {
            return;
        }
        let Some(session) = &self.session else { return };
        let Some(exported) = session.safety_secret() else {
            return;
        };
        let me = (self.context.me.user, self.context.me.log.head());
        let them = (self.context.device.user(), self.context.device.log());
        let words = safety_words(me, them, &exported);
        self.words = Some(words.map(str::to_owned).to_vec());
        report.set_security(self.security());
    }

    pub(super) fn safety_words(&self) -> Option<Vec<String>> {
        self.words.clone()
    }

    fn security(&self) -> Security {
        let handshake = ahoy_transport::noise::Pattern::IkHfsPsk0.noise_name();
        Security {
            handshake: handshake.to_owned(),
            // The name is the handshake's own: what it says went into the transcript.
            post_quantum: handshake.contains("MLKEM768"),
            peer: format!("ahoy:{}", self.context.device.user()),
            verified: self.context.verified,
            safety_words: self.words.clone(),
        }
    }

    /// Sound starts: the permit comes from the acceptance.
    pub(super) fn open_media(
        &mut self,
        accepted: &Accepted,
        settings: &AudioSettings,
        probe: Option<&Probe>,
    ) -> Result<Media, MediaError> {
        self.accepted = true;
        if self.may_show_addresses() {
            self.show_addresses();
        }
        let (arrivals, received) = mpsc::channel::<Arrival>(PACKET_QUEUE);
        let session = self.session.clone();
        if let Some(session) = &session {
            if let Err(error) = session.open_media(accepted.permit()) {
                tracing::error!(%error, "media stays closed");
            }
            let receiving = session.clone();
            self.tasks.push(self.context.runtime.spawn_task(async move {
                while let Some(datagram) = receiving.recv_media().await {
                    if datagram.flow == VOICE_FLOW
                        && arrivals
                            .try_send((datagram.arrived, datagram.payload))
                            .is_err()
                    {
                        tracing::debug!("the sound loop is too slow: a packet is lost");
                    }
                }
            }));
        }
        let outgoing = Arc::new(move |now: Instant, packet: Bytes| {
            if let Some(session) = &session {
                let sent =
                    session.send_media(VOICE_FLOW, packet, Priority::Audio, now + VOICE_EXPIRY);
                if let Err(error) = sent {
                    tracing::trace!(%error, "a voice packet was not sent");
                }
            }
        });
        Media::start(&self.context.runtime, settings, outgoing, received, probe)
    }

    /// Counters into the report.
    pub(super) fn report(&mut self, stats: &MediaStats, report: &mut ReportBuilder) {
        self.make_words(report);
        let Some(session) = &self.session else { return };
        let link = session.stats();
        let device = self.context.device.device();
        let received = &stats.received;
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        report.set_audio(
            device,
            AudioReport {
                codec: Some("opus".into()),
                bitrate_bps: None,
                packets: AudioPackets {
                    sent: Some(stats.sent.packets),
                    received: Some(received.packets_received),
                    lost: Some(received.packets_lost),
                    late: Some(received.packets_late),
                    duplicate: link.flows.get(&VOICE_FLOW).map(|flow| flow.duplicate),
                },
                recovered: Recovered {
                    fec: Some(received.frames_recovered_fec),
                    red: None,
                    dred: None,
                },
                concealed_ms: u64::try_from(received.concealed().as_millis()).ok(),
                jitter_buffer_ms: Some(Percentiles {
                    p50: millis(received.buffer_delay_p50),
                    p95: millis(received.buffer_delay_p95),
                }),
                mouth_to_ear_ms: None,
                longest_gap_ms: u64::try_from(received.longest_gap().as_millis()).ok(),
                score: None,
            },
        );
        report.set_loss(
            received.packets_received + received.packets_lost,
            received.packets_lost,
        );
        let active = link.active.and_then(|path| link.paths.get(&path));
        if let Some(rtt) = active.and_then(|path| path.rtt) {
            report.observe_rtt(rtt);
        }
    }

    /// Says good-bye once the other side has taken what was said before, or soon in any case.
    pub(super) fn close(&mut self) {
        if let Some(session) = self.session.take() {
            let runtime = Arc::clone(&self.context.runtime);
            let last_words = self.signals.take();
            self.context
                .runtime
                .spawn_task(async move {
                    // The queue empties into the session before its sender counts as gone.
                    drop(last_words);
                    runtime.sleep(LAST_WORDS_QUEUED).await;
                    let delivered = session.control_delivered();
                    if timeout(&*runtime, LAST_WORDS, delivered).await.is_none() {
                        tracing::debug!("the last words may not have arrived");
                    }
                    session.close();
                })
                .detach();
        }
        self.ice = None;
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        for path in &self.relayed_paths {
            self.context.endpoint.mux().remove_relay_route(path.route);
        }
    }
}

/// A channel through a relay of ours to a relayed address of theirs.
struct Channel {
    runtime: Arc<dyn Runtime>,
    source: RelaySource,
    allocation: Arc<TurnAllocation>,
    theirs: Relayed,
}

impl Channel {
    /// Opens the channel, again when it fails, and keeps our relay's word that it serves theirs.
    async fn keep(self, report: Reporter) {
        let node = self.source.node();
        let mut wait = REBIND_AFTER;
        loop {
            match self.open().await {
                Ok((binding, lasts)) => {
                    wait = REBIND_AFTER;
                    report(LegEvent::Bound(node, binding)).await;
                    match lasts {
                        // Half of it is left to try again.
                        Some(lasts) => self.runtime.sleep(lasts / 2).await,
                        None => std::future::pending().await,
                    }
                }
                Err(error) => {
                    tracing::info!(?node, error, "our relay does not serve theirs");
                    self.runtime.sleep(wait).await;
                    wait = (wait * 2).min(REBIND_AFTER_MAX);
                }
            }
        }
    }

    /// The channel, and how long our relay serves theirs; for ever when it is the same.
    async fn open(&self) -> Result<(RelayBinding, Option<Duration>), String> {
        let addr = self.theirs.addr;
        let lasts = if self.allocation.relayed_addr().ip() == addr.ip() {
            None
        } else {
            let allowed = self.source.allow(&self.theirs.relay).await;
            Some(allowed.map_err(|error| error.to_string())?)
        };
        let binding = self.allocation.bind_peer(addr).await;
        Ok((binding.map_err(|error| error.to_string())?, lasts))
    }
}

fn kind_of(kind: LinkKind) -> PathKind {
    match kind {
        LinkKind::Relay => PathKind::Relay,
        LinkKind::Direct => PathKind::Direct,
        LinkKind::Lan => PathKind::Lan,
        LinkKind::Tcp => PathKind::Tcp,
    }
}
