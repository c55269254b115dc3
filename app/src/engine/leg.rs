//! One device of the other side, from offer to good-bye: envelopes through the homes, the relay, ICE, and the
//! session they lead to.
//!
//! A leg is owned by the engine's task; what takes time runs in tasks that report as [`LegEvent`]s and end
//! with the leg.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ahoy_media::{
    audio::voice::{EchoState, VoiceStats},
    loss::{Loss, Modes},
};
use ahoy_nat::{
    client::{NodeClient, RequestError},
    gather::{Gatherer, Lease},
    ice::IceEvent,
    netmon::NetworkState,
    port::PortHub,
    supernode::{
        mailbox::MailKey,
        protocol::{Refusal, Registration},
    },
    turn::{
        TurnError,
        allocation::{RelayBinding, TurnAllocation},
    },
    workbench::{Desk, Workbench},
};
use ahoy_transport::{
    datagram::Priority,
    endpoint::Endpoint,
    identity::{DeviceCertificate, DeviceId, NodeId, UserId, VerifiedDevice},
    runtime::{Runtime, RuntimeExt, Task, timeout},
    sealed::{CallEnvelopes, CallTag, FollowUpError, Role, SessionSecret},
    session::{
        LocalDevice, MediaPermit, PathId, PathKind as LinkKind, RemoteDevice, Session,
        SessionEnd as LinkEnd, SessionEvent as LinkEvent, SessionParams, Switch,
    },
};
use bytes::Bytes;
use futures_util::future::join_all;
use rand_core::CryptoRngCore;
use tokio::sync::{mpsc, watch};

mod direct;
mod relayed;
mod spray;

use super::{
    config::{Me, PathPolicy, Upkeep},
    directory::{Findings, MAX_HOMES_OF_DEVICE},
    files::{FILE_FLOW, Line, LineId, ToFiles, hand_over},
    media::{Arrival, AudioSettings, Media, MediaError, MediaStats, PACKET_QUEUE, Probe},
    nat::NatReports,
    reach::{Reach, Relayed},
    relays::{RelaySource, Relays},
    run::Internal,
    video::{MOMENT_FLOW, PICTURE_FLOW, PictureArrival, PictureLine, REQUEST_FLOW},
};
use crate::{
    call::{Accepted, CallId, SessionEnd, SessionEvent},
    identity::{
        compare::{BrokenExchange, CompareStep, Comparison},
        compared_session, safety_words,
    },
    report::{
        AudioPackets, AudioReport, PathKind, Percentiles, Recovered, ReportBuilder, Search,
        Security, VoiceReport,
    },
    signal::{AudioFeatures, FollowUp, MediaChoice, Signal, SignalMessage},
};
use direct::Direct;
use relayed::{OurRelay, RelayedPath};
pub(super) use spray::SprayGate;
use spray::{SprayNews, Spraying};

/// Voice is worth sending for this long; later it could only be played too late.
const VOICE_EXPIRY: Duration = Duration::from_millis(400);
/// The flow that voice travels in.
const VOICE_FLOW: u64 = 1;
/// Signals take this long from their queue into the session.
const LAST_WORDS_QUEUED: Duration = Duration::from_millis(20);
/// How long a session stays open so that the other side hears what was said last.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What must arrive goes through the homes too for this long after media's way fell silent: until the session
/// itself says that it reconnects, or another way has proven good.
const DOUBT: Duration = Duration::from_secs(2);
/// Signals and follow-ups that wait for the session or the homes.
const OUTBOX: usize = 64;

/// What a leg needs from the engine.
#[derive(Debug, Clone)]
pub(super) struct LegContext {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) endpoint: Endpoint,
    pub(super) hub: Arc<PortHub>,
    pub(super) relays: Relays,
    pub(super) gatherer: Arc<Gatherer>,
    pub(super) me: Me,
    pub(super) call: CallId,
    pub(super) device: VerifiedDevice,
    pub(super) contact: bool,
    pub(super) verified: bool,
    pub(super) path: PathPolicy,
    pub(super) upkeep: Upkeep,
    /// How our NATs behave.
    pub(super) nat: watch::Receiver<NatReports>,
    /// Whether ports may be guessed, and whether now.
    pub(super) guess_ports: bool,
    pub(super) gate: SprayGate,
    /// Whose relays we use.
    pub(super) sources: Vec<RelaySource>,
    pub(super) inbox: mpsc::Sender<Internal>,
    pub(super) files: mpsc::Sender<ToFiles>,
    pub(super) farewell: mpsc::WeakSender<Farewell>,
    /// Where the work is done that flooded homes ask for.
    pub(super) bench: Workbench,
}

/// Never sent: whoever has something to say that must be said before the program ends holds the sender meanwhile.
#[derive(Debug)]
pub(super) enum Farewell {}

/// A way by which envelopes reach the other device while there is no session. Each goes by all ways that there are, since
/// a supernode may say that it handed on what it threw away; it opens once.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) node: NodeId,
    pub(super) client: NodeClient,
    pub(super) by: By,
}

/// What is asked of the supernode.
#[derive(Debug, Clone)]
pub(super) enum By {
    /// We called: to deliver to the device, which is registered there.
    Delivering {
        to: DeviceId,
        user: UserId,
        epoch: u64,
        /// Shows the supernode that we are a contact, so that no flood of strangers keeps our envelopes out.
        key: Option<MailKey>,
    },
    /// We were called: to take back a reply to this delivery.
    Replying(u64),
}

/// Ways that a leg has at once; the oldest goes.
const MAX_WAYS: usize = MAX_HOMES_OF_DEVICE;

impl Way {
    /// Carries an envelope; says under which epoch it was taken if that was another one.
    async fn carry(self, envelope: Vec<u8>) -> Result<Option<u64>, RequestError> {
        let client = self.client;
        match self.by {
            By::Delivering {
                to,
                user,
                epoch,
                key,
            } => {
                let mark = key.map(|key| key.mark((user, to), &envelope));
                let delivered = client.deliver_marked(to, epoch, mark, envelope.clone());
                match delivered.await {
                    Ok(_delivery) => Ok(None),
                    Err(RequestError::Refused(Refusal::WrongEpoch)) => {
                        // It registered again meanwhile, as devices do that change networks. Who opens the envelope
                        // does not depend on what the supernode says here.
                        let is_it = |registration: &Registration| {
                            DeviceCertificate::from_bytes(&registration.certificate)
                                .is_ok_and(|certificate| certificate.fields().device == to)
                        };
                        let found = client.lookup(user).await?;
                        let epoch = found.iter().find(|found| is_it(found));
                        let epoch = epoch.ok_or(Refusal::UnknownDevice)?.epoch;
                        client.deliver_marked(to, epoch, mark, envelope).await?;
                        Ok(Some(epoch))
                    }
                    Err(error) => Err(error),
                }
            }
            By::Replying(delivery) => client.reply(delivery, envelope).await.map(|()| None),
        }
    }
}

/// What a leg's tasks report.
#[derive(Debug)]
pub(super) enum LegEvent {
    /// A second look-up, after the device registered again.
    FoundAgain(Findings),
    /// Something of the leg's own, for [`Leg::handle_own`].
    Own(OwnEvent),
    /// The session.
    Session(LinkEvent),
    /// A control message in the session.
    Control(Bytes),
}

/// What only concerns the leg.
#[derive(Debug)]
pub(super) enum OwnEvent {
    /// A relay of ours.
    Relay(NodeId, Arc<TurnAllocation>),
    /// A relay of ours gave our relayed address up, or is gone.
    RelayLost(NodeId, SocketAddr, TurnError),
    /// A channel through a relay of ours to a relayed address of the other side.
    Bound(NodeId, RelayBinding),
    /// The ICE agent of a generation.
    Ice(u32, IceEvent),
    /// The other device has another epoch at that supernode.
    Epoch(NodeId, u64),
    /// A follow-up reached none of the homes.
    Undelivered,
    /// Our addresses are others now.
    Gathered,
    /// A restart of ICE may be due.
    RestartDue,
    /// Something about guessing ports.
    Spray(SprayNews),
}

/// Tells the engine of an event.
type Reporter = Arc<dyn Fn(OwnEvent) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

pub(super) struct Leg {
    context: LegContext,
    role: Role,
    secret: SessionSecret,
    envelopes: CallEnvelopes,
    ways: Vec<Way>,
    /// A home has our offer; before, follow-ups wait in `outbox`.
    delivered: bool,
    outbox: Vec<Vec<u8>>,
    /// Where the homes' work for follow-ups is done.
    desk: Desk,
    session: Option<Session>,
    /// Signals for the session, in order.
    signals: Option<mpsc::Sender<Bytes>>,
    session_up: bool,
    /// The session is up and has no way to the other side at the moment.
    reconnecting: bool,
    relays: Vec<OurRelay>,
    relayed_paths: Vec<RelayedPath>,
    /// Homes that stop soon, whose relays we still use.
    draining: Vec<NodeId>,
    /// The newest last.
    their_relayed: Vec<Relayed>,
    /// Both sides agreed to talk: addresses may be shown to strangers now.
    accepted: bool,
    direct: Direct,
    spray: Spraying,
    /// The way that media takes fell silent: what must arrive goes through the homes too, until then.
    doubtful_until: Option<Instant>,
    /// A follow-up did not reach the homes.
    untold: bool,
    /// Keeps our addresses fresh.
    lease: Option<Lease>,
    tasks: Vec<Task>,
    words: Option<Vec<String>>,
    /// The other side makes words by commit and reveal; unknown before it said what it can do.
    compares: Option<bool>,
    comparison: Option<Comparison>,
    security_told: bool,
    /// Files may use the session.
    files_open: Arc<AtomicBool>,
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
        ways: Vec<Way>,
    ) -> Self {
        let envelopes = CallEnvelopes::new(&secret, &context.call.0, role);
        Self {
            delivered: role == Role::Callee,
            desk: context.bench.desk(),
            context,
            role,
            secret,
            envelopes,
            ways,
            outbox: Vec::new(),
            session: None,
            signals: None,
            session_up: false,
            reconnecting: false,
            relays: Vec::new(),
            relayed_paths: Vec::new(),
            draining: Vec::new(),
            their_relayed: Vec::new(),
            accepted: false,
            direct: Direct::default(),
            spray: Spraying::default(),
            doubtful_until: None,
            untold: false,
            lease: None,
            tasks: Vec::new(),
            words: None,
            compares: None,
            comparison: None,
            security_told: false,
            files_open: Arc::new(AtomicBool::new(true)),
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
            config: context.upkeep.session,
        };
        let session = match self.role {
            Role::Caller => Session::caller(params),
            Role::Callee => Session::callee(params),
        };
        self.watch(&session);
        self.session = Some(session);
        self.watch_addresses();
        self.watch_nat();
        self.start_relays();
        // A caller's offer shows them.
        if self.role == Role::Callee {
            self.show_addresses();
        }
    }

    /// Candidates for the offer: what may be shown before anybody accepted.
    pub(super) fn candidates(&mut self) -> Vec<u8> {
        let reach = Reach {
            generation: 0,
            ice: self.show(),
            relayed: self.our_relayed(),
            mapping: self.show_mapping(),
            spray: None,
        };
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

    /// The other side's newest delivery by a home: what answers it is welcome for a while.
    pub(super) fn renew_reply(&mut self, node: NodeId, client: NodeClient, delivery: u64) {
        // Who called delivers.
        if self.role == Role::Callee {
            let by = By::Replying(delivery);
            self.add_way(Way { node, client, by });
            self.tell_again();
        }
    }

    /// Another supernode by which the other side can be reached, or the same one anew.
    pub(super) fn add_way(&mut self, way: Way) {
        self.ways.retain(|known| known.node != way.node);
        if self.ways.len() >= MAX_WAYS {
            self.ways.remove(0);
        }
        self.ways.push(way);
    }

    /// A home has a connection, perhaps another one.
    fn refresh_way(&mut self, home: NodeId) {
        let sources = &self.context.sources;
        let source = sources.iter().find(|source| source.node() == home);
        let Some(Ok(newer)) = source.map(RelaySource::client) else {
            return;
        };
        let Some(way) = self.ways.iter_mut().find(|way| way.node == home) else {
            return;
        };
        way.client = newer;
        self.tell_again();
    }

    /// How we can be reached, if that did not reach the other side.
    fn tell_again(&mut self) {
        if std::mem::take(&mut self.untold) {
            let reach = Reach {
                generation: self.direct.generation(),
                ice: self.direct.told(),
                relayed: self.our_relayed(),
                mapping: self.show_mapping(),
                spray: None,
            };
            self.follow_up(FollowUp {
                candidates: reach.encode(),
                message: None,
            });
        }
    }

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

    /// Whose it is.
    pub(super) fn device(&self) -> VerifiedDevice {
        self.context.device
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
        if matches!(
            message.signal,
            Signal::Report(_)
                | Signal::MailPass { .. }
                | Signal::Handed(_)
                | Signal::Compare(_)
                | Signal::FileTaken(_)
        ) {
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

    /// What homes want work for is not needed any more.
    pub(super) fn stop_working(&self) {
        self.desk.clear();
    }

    fn carry(&self, envelope: Vec<u8>) {
        let mut ways = self.ways.clone();
        for way in &mut ways {
            way.client = way.client.at(self.desk.clone());
        }
        let report = self.reporter();
        let farewell = self.context.farewell.upgrade();
        let carrying = async move {
            let _farewell = farewell;
            let carrying = ways.into_iter().map(|way| {
                let (node, envelope) = (way.node, envelope.clone());
                async move { (node, way.carry(envelope).await) }
            });
            let mut carried = false;
            for (node, result) in join_all(carrying).await {
                carried |= result.is_ok();
                match result {
                    Ok(None) => {}
                    Ok(Some(epoch)) => report(OwnEvent::Epoch(node, epoch)).await,
                    Err(error) => tracing::info!(?node, %error, "a follow-up was not delivered"),
                }
            }
            if !carried {
                report(OwnEvent::Undelivered).await;
            }
        };
        // Detached: a cancel must leave although the leg goes.
        self.context.runtime.spawn_task(carrying).detach();
    }

    // --- paths -----------------------------------------------------------------------------------

    /// Strangers learn our addresses only once somebody accepted.
    fn may_show_addresses(&self) -> bool {
        self.context.path.allows_direct() && (self.context.contact || self.accepted)
    }

    fn send_relayed(&mut self) {
        self.send_reach(&Reach {
            generation: self.direct.generation(),
            relayed: self.our_relayed(),
            ..Reach::default()
        });
    }

    fn send_reach(&mut self, reach: &Reach) {
        let candidates = reach.encode();
        if self.session_up {
            let message = SignalMessage {
                call: self.context.call,
                participant: self.context.me.keys.id(),
                signal: Signal::Candidates(candidates.clone()),
            };
            self.send_signal(message);
        }
        let now = self.context.runtime.now();
        let doubtful = self.doubtful_until.is_some_and(|until| now < until);
        let told = self.session_up && !self.reconnecting && !doubtful;
        // Before there is a session, there is no other way.
        if !told && (self.context.upkeep.follow_ups || !self.session_up) {
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
        if self.context.path.allows_direct() && !reach.ice.is_empty() {
            self.handle_remote(reach.generation, reach.ice);
        }
        self.handle_spray_reach(reach.mapping, reach.spray);
    }

    /// Something of the leg's own happened.
    pub(super) fn handle_own(&mut self, event: OwnEvent) {
        match event {
            OwnEvent::Relay(node, allocation) => self.handle_relay(node, allocation),
            OwnEvent::RelayLost(node, server, error) => {
                self.handle_relay_lost(node, server, error);
            }
            OwnEvent::Bound(node, binding) => self.handle_bound(node, binding),
            OwnEvent::Ice(generation, event) => self.handle_ice(generation, event),
            OwnEvent::Epoch(node, newer) => {
                let way = self.ways.iter_mut().find(|way| way.node == node);
                if let Some(By::Delivering { epoch, .. }) = way.map(|way| &mut way.by) {
                    *epoch = newer;
                }
            }
            OwnEvent::Undelivered => self.untold = true,
            OwnEvent::Gathered => self.handle_gathered(),
            OwnEvent::RestartDue => self.pump_restart(),
            OwnEvent::Spray(news) => self.handle_spray(news),
        }
    }

    /// Interfaces, addresses or routes of this machine changed, or it slept: every way is tried anew at once.
    pub(super) fn network_changed(&mut self, state: &NetworkState) {
        if !state.networks.is_offline() {
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        self.doubt();
        self.probe_relays();
        self.spray_anew();
        self.restart_changed();
    }

    /// What must arrive goes through the homes too for a while.
    fn doubt(&mut self) {
        self.doubtful_until = Some(self.context.runtime.now() + DOUBT);
    }

    /// A connection of the session has been silent for too long.
    fn handle_silence(&mut self, kind: LinkKind, active: bool) {
        if active {
            self.doubt();
            self.context.gatherer.refresh();
        }
        if active || kind == LinkKind::Relay {
            self.probe_relays();
        }
        match kind {
            LinkKind::Direct | LinkKind::Lan => self.restart_lost(),
            LinkKind::Relay | LinkKind::Tcp if active => self.restart_lost(),
            LinkKind::Relay | LinkKind::Tcp => {}
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
                    event: LegEvent::Own(event),
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
                self.direct_up(*up);
                if self.session_up {
                    return None;
                }
                // Signals go by the session from now on.
                self.desk.clear();
                self.desk = self.context.bench.desk();
                self.session_up = true;
                // No switch tells of the first path that media goes by.
                self.observe_path(now, *up, report, path);
                Some(SessionEvent::Connected)
            }
            LinkEvent::PathDown { path, reason, .. } => {
                tracing::debug!(?path, %reason, "path down");
                self.direct_down(*path, *reason);
                None
            }
            LinkEvent::Silent { path, kind, active } => {
                tracing::debug!(?path, ?kind, active, "silence");
                self.handle_silence(*kind, *active);
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
        let mux = self.context.endpoint.mux();
        match mux.relay_route(remote) {
            Some(route) => mux
                .tunnel_peer(route.server)
                .unwrap_or(route.server)
                .to_string(),
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
        let session = match (self.compares, &self.comparison) {
            (Some(true), Some(comparison)) => comparison
                .mixed()
                .map(|mixed| compared_session(&exported, &mixed)),
            // Who does not know commit and reveal has the words of old.
            (Some(false), _) => Some(exported),
            (Some(true), None) | (None, _) => None,
        };
        if let Some(session) = &session {
            let words = safety_words(me, them, session);
            self.words = Some(words.map(str::to_owned).to_vec());
        } else if self.security_told {
            return;
        }
        self.security_told = true;
        report.set_security(self.security());
    }

    /// What the other side can do is known. `ours`: whether we make words by commit and reveal.
    pub(super) fn set_compares(&mut self, ours: bool, theirs: bool) {
        self.compares = Some(ours && theirs);
    }

    /// Both sides talk: the callee commits.
    pub(super) fn begin_comparison(&mut self, rng: &mut dyn CryptoRngCore) -> Option<CompareStep> {
        let begins = self.role == Role::Callee && self.compares == Some(true);
        if !begins || self.comparison.is_some() {
            return None;
        }
        let (comparison, step) = Comparison::commit(&self.context.call.0, rng);
        self.comparison = Some(comparison);
        Some(step)
    }

    /// The other side's step; comes with ours.
    pub(super) fn handle_comparison(
        &mut self,
        step: CompareStep,
        rng: &mut dyn CryptoRngCore,
    ) -> Result<Option<CompareStep>, BrokenExchange> {
        let call = self.context.call.0;
        let comparison = match (&mut self.comparison, self.role) {
            (Some(comparison), _) => comparison,
            (none, Role::Caller) => none.insert(Comparison::answer(&call, rng)),
            // It is ours to begin.
            (None, Role::Callee) => return Err(BrokenExchange),
        };
        comparison.handle(step)
    }

    pub(super) fn words_committed(&self) -> bool {
        self.words.is_some() && self.compares == Some(true)
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
            words_committed: self.words.as_ref().and(self.compares),
        }
    }

    /// Sound starts: the permit comes from the acceptance. What comes of pictures goes to `pictures`.
    pub(super) fn open_media(
        &mut self,
        accepted: &Accepted,
        agreed: &MediaChoice,
        settings: &AudioSettings,
        pictures: mpsc::Sender<PictureArrival>,
        probe: Option<&Probe>,
    ) -> Result<Media, MediaError> {
        self.accepted = true;
        self.show_addresses();
        self.pump_spray();
        let (arrivals, received) = mpsc::channel::<Arrival>(PACKET_QUEUE);
        let session = self.session.clone();
        if let Some(session) = &session {
            if let Err(error) = session.open_media(accepted.permit()) {
                tracing::error!(%error, "media stays closed");
            }
            let receiving = session.clone();
            let (files, line) = (self.context.files.clone(), self.line_id());
            self.tasks.push(self.context.runtime.spawn_task(async move {
                while let Some(datagram) = receiving.recv_media().await {
                    let (flow, at, payload) = (datagram.flow, datagram.arrived, datagram.payload);
                    let taken = match flow {
                        VOICE_FLOW => arrivals.try_send((at, payload)).is_ok(),
                        PICTURE_FLOW | REQUEST_FLOW | MOMENT_FLOW => {
                            let arrival = PictureArrival { flow, at, payload };
                            // Without pictures nobody listens.
                            pictures.is_closed() || pictures.try_send(arrival).is_ok()
                        }
                        FILE_FLOW => hand_over(&files, line, payload),
                        _unknown => true,
                    };
                    if !taken {
                        tracing::debug!(flow, "whoever takes packets is too slow: one is lost");
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
        let runtime = &self.context.runtime;
        let understood = modes_of(agreed.audio.features);
        let channels = agreed.audio.channels;
        Media::start(
            runtime, settings, understood, channels, outgoing, received, probe,
        )
    }

    fn line_id(&self) -> LineId {
        LineId {
            call: self.context.call,
            device: self.context.device.device(),
        }
    }

    /// The way of files to a contact's device, once the session is open for them.
    pub(super) fn line(&self, in_call: bool) -> Option<Line> {
        Some(Line {
            id: self.line_id(),
            user: self.context.device.user(),
            in_call,
            session: self.session.clone()?,
            open: Arc::clone(&self.files_open),
        })
    }

    /// A session for files alone is up: they pass from now on, and nothing else does.
    pub(super) fn open_files(&mut self) -> Option<Line> {
        let session = self.session.clone()?;
        // Whoever asks was sent the file, and whoever is asked sent it: both said yes.
        if let Err(error) = session.open_media(MediaPermit::on_accept(self.context.call.0)) {
            tracing::error!(%error, "no files pass");
        }
        let receiving = session.clone();
        let (files, line) = (self.context.files.clone(), self.line_id());
        self.tasks.push(self.context.runtime.spawn_task(async move {
            while let Some(datagram) = receiving.recv_media().await {
                let FILE_FLOW = datagram.flow else { continue };
                if !hand_over(&files, line, datagram.payload) {
                    tracing::debug!("files are behind: a datagram is lost");
                }
            }
        }));
        self.line(false)
    }

    /// The way of pictures to the other side; once media is open.
    pub(super) fn picture_line(&self) -> Option<PictureLine> {
        let session = self.session.clone()?;
        let estimate = session.watch_estimate();
        let (queue, again) = (session.clone(), session.clone());
        Some(PictureLine {
            withdraw: Arc::new(move || {
                let packets = again.withdraw(PICTURE_FLOW);
                tracing::trace!(packets, "pictures are taken back");
            }),
            send: Arc::new(move |flow, payload, priority, expires| {
                if let Err(error) = session.send_media(flow, payload, priority, expires) {
                    tracing::trace!(%error, flow, "a packet was not sent");
                }
            }),
            waiting: Arc::new(move || queue.waiting(PICTURE_FLOW)),
            estimate,
        })
    }

    /// Packets of pictures that should have come and did not, before any repair.
    pub(super) fn pictures_lost(&self) -> Option<u64> {
        let flows = self.session.as_ref()?.stats().flows;
        flows.get(&PICTURE_FLOW).map(|flow| flow.lost)
    }

    /// Loss of what we send, as the other side tells.
    pub(super) fn loss(&self) -> Option<Loss> {
        let loss = self.session.as_ref()?.stats().loss;
        Some(Loss {
            fraction: loss.fraction,
            mean_burst: loss.mean_burst,
        })
    }

    /// What the path in use carries, in bits per second on the wire.
    pub(super) fn capacity_bps(&self) -> Option<u64> {
        let estimate = *self.session.as_ref()?.watch_estimate().borrow();
        Some(estimate?.capacity_bps)
    }

    /// The round trip of the path in use.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let link = self.session.as_ref()?.stats();
        link.paths.get(&link.active?)?.rtt
    }

    /// The shortest that it had.
    pub(super) fn min_rtt(&self) -> Option<Duration> {
        let link = self.session.as_ref()?.stats();
        link.paths.get(&link.active?)?.min_rtt
    }

    /// What finding direct paths has cost so far, if any was looked for.
    pub(super) fn search(&self) -> Option<Search> {
        let mut search = self.direct.search();
        let guessing = self.spray.cost();
        search.guesses = self.spray.runs();
        search.packets += guessing.packets;
        search.flows += guessing.flows;
        Some(search).filter(|search| *search != Search::default())
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
                    red: Some(received.frames_recovered_red),
                    dred: Some(received.frames_recovered_dred),
                },
                concealed_ms: u64::try_from(received.concealed().as_millis()).ok(),
                jitter_buffer_ms: Some(Percentiles {
                    p50: millis(received.buffer_delay_p50),
                    p95: millis(received.buffer_delay_p95),
                }),
                mouth_to_ear_ms: None,
                longest_gap_ms: u64::try_from(received.longest_gap().as_millis()).ok(),
                score: None,
                voice: stats.voice.map(voice_report),
            },
        );
        report.set_loss(
            received.packets_received + received.packets_lost,
            received.packets_lost,
        );
        if let Some(search) = self.search() {
            report.set_search(search);
        }
        if let Some(rtt) = self.rtt() {
            report.observe_rtt(rtt);
        }
        if let Some(estimate) = link.estimate.filter(|estimate| estimate.proven) {
            report.observe_estimate(estimate.capacity_bps);
        }
    }

    /// Says good-bye once the other side has taken what was said before, or soon in any case.
    pub(super) fn close(&mut self) {
        self.files_open.store(false, Ordering::Relaxed);
        if let Some(session) = self.session.take() {
            let runtime = Arc::clone(&self.context.runtime);
            let last_words = self.signals.take();
            let hole = self.spray.take_hole();
            let farewell = self.context.farewell.upgrade();
            self.context
                .runtime
                .spawn_task(async move {
                    let _farewell = farewell;
                    // The queue empties into the session before its sender counts as gone.
                    drop(last_words);
                    runtime.sleep(LAST_WORDS_QUEUED).await;
                    let delivered = session.control_delivered();
                    if timeout(&*runtime, LAST_WORDS, delivered).await.is_none() {
                        tracing::debug!("the last words may not have arrived");
                    }
                    session.close();
                    drop(hole);
                })
                .detach();
        }
        self.direct = Direct::default();
        self.spray = Spraying::default();
        self.lease = None;
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.files_open.store(false, Ordering::Relaxed);
        for path in &self.relayed_paths {
            self.context.endpoint.mux().remove_relay_route(path.route);
        }
    }
}

/// The ways to repair loss that both sides know.
fn modes_of(features: AudioFeatures) -> Modes {
    Modes {
        fec: features.contains(AudioFeatures::IN_BAND_FEC),
        red: features.contains(AudioFeatures::RED),
        parity: features.contains(AudioFeatures::RED),
        dred: features.contains(AudioFeatures::DRED),
        apart: features.contains(AudioFeatures::APART),
    }
}

fn voice_report(stats: VoiceStats) -> VoiceReport {
    let round = |decibels: f32| (decibels * 10.0).round() / 10.0;
    let echo = match stats.echo {
        EchoState::Off => "off",
        EchoState::Unknown => "unknown",
        EchoState::Present => "present",
        EchoState::Absent => "absent",
    };
    VoiceReport {
        echo: echo.into(),
        cancelled_db: (stats.echo == EchoState::Present).then(|| round(stats.cancelled_db)),
        room_changes: stats.room_changes,
        noise_dbfs: stats.noise_dbfs.map(round),
        gain_db: round(stats.gain_db),
        clicks: stats.clicks,
        gated_ms: stats.gated_blocks * 10,
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
