//! One device of the other side, from offer to good-bye: envelopes through the homes, the relay, ICE, and the
//! session they lead to.
//!
//! A leg is owned by the engine's task; what takes time runs in tasks that report as [`LegEvent`]s and end
//! with the leg.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    candidate::Candidate,
    client::NodeClient,
    gather::host_candidates,
    ice::{IceCredentials, IceEvent, IceRole, rtc::RtcIceAgent, runner::IceRunner},
    port::PortHub,
    supernode::protocol::RelayGrant,
    turn::{
        TurnError,
        allocation::{RelayBinding, TurnAllocation},
    },
};
use ahoy_transport::{
    datagram::Priority,
    endpoint::Endpoint,
    identity::{DeviceId, VerifiedDevice},
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
    reach::Reach,
    relays::Relays,
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
    /// Credentials for the relay of one of our homes.
    pub(super) grant: Option<RelayGrant>,
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
    /// Our relay.
    Relay(Result<Arc<TurnAllocation>, String>),
    /// A channel through our relay to the other side's relayed address.
    Bound(Result<RelayBinding, TurnError>),
    /// ICE.
    Ice(IceEvent),
    /// The session.
    Session(LinkEvent),
    /// A control message in the session.
    Control(Bytes),
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
    relay: Option<Arc<TurnAllocation>>,
    routes: Vec<SocketAddr>,
    their_relayed: Vec<SocketAddr>,
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
            relay: None,
            routes: Vec::new(),
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
            secret: ahoy_transport::session::SessionSecret(*self.secret.as_bytes()),
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
        self.start_relay();
        // A caller's offer shows them.
        if self.role == Role::Callee && self.may_show_addresses() {
            self.show_addresses();
        }
    }

    /// Candidates for the offer: what may be shown before anybody accepted.
    pub(super) fn candidates(&mut self) -> Vec<u8> {
        let reach = Reach {
            ice: self.ice_candidates(),
            relayed: self
                .relay
                .iter()
                .map(|relay| relay.relayed_addr())
                .collect(),
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
                signal: Signal::Candidates(candidates),
            };
            self.send_signal(message);
        } else {
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
        for addr in reach.relayed {
            if self.their_relayed.len() < 4 && !self.their_relayed.contains(&addr) {
                self.their_relayed.push(addr);
                self.bind_relayed(addr);
            }
        }
        if self.context.path != PathPolicy::Relay && !reach.ice.is_empty() {
            self.their_ice = reach.ice;
            self.try_ice();
        }
    }

    /// Asks for an allocation on a relay of ours; a caller without homes uses the callee's.
    fn start_relay(&mut self) {
        if self.context.path == PathPolicy::Direct {
            return;
        }
        let context = &self.context;
        let (relays, grant) = (context.relays.clone(), context.grant.clone());
        let client = match &self.carrier {
            Carrier::Deliver { client, .. } | Carrier::Reply { client, .. } => client.clone(),
        };
        let (call, device) = (context.call, context.device.device());
        let inbox = context.inbox.clone();
        self.tasks.push(context.runtime.spawn_task(async move {
            let grant = match grant {
                Some(grant) => Ok(grant),
                None => client
                    .relay_grant()
                    .await
                    .map_err(|error| error.to_string()),
            };
            let result = match grant {
                Ok(grant) => relays.allocate(&grant).await,
                Err(error) => Err(error),
            };
            let event = LegEvent::Relay(result);
            // The engine is gone: so is the leg.
            inbox
                .send(Internal::Leg {
                    call,
                    device,
                    event,
                })
                .await
                .unwrap_or_default();
        }));
    }

    pub(super) fn handle_relay(&mut self, result: Result<Arc<TurnAllocation>, String>) {
        match result {
            Ok(relay) => {
                let relayed = vec![relay.relayed_addr()];
                self.relay = Some(relay);
                self.send_reach(Reach {
                    ice: Vec::new(),
                    relayed,
                });
                for addr in self.their_relayed.clone() {
                    self.bind_relayed(addr);
                }
            }
            Err(error) => tracing::info!(error, "no relay"),
        }
    }

    fn bind_relayed(&mut self, addr: SocketAddr) {
        let Some(relay) = self.relay.clone() else {
            return;
        };
        let (call, device) = (self.context.call, self.context.device.device());
        let inbox = self.context.inbox.clone();
        self.tasks.push(self.context.runtime.spawn_task(async move {
            let event = LegEvent::Bound(relay.bind_peer(addr).await);
            // The engine is gone: so is the leg.
            inbox
                .send(Internal::Leg {
                    call,
                    device,
                    event,
                })
                .await
                .unwrap_or_default();
        }));
    }

    pub(super) fn handle_bound(&mut self, binding: Result<RelayBinding, TurnError>) {
        let binding = match binding {
            Ok(binding) => binding,
            Err(error) => {
                tracing::info!(%error, "the relay refuses the other side's relayed address");
                return;
            }
        };
        let route = RelayRoute {
            server: binding.server,
            channel: binding.channel,
            peer: binding.peer,
        };
        match self.context.endpoint.mux().add_relay_route(route) {
            Ok(addr) => {
                self.routes.push(addr);
                self.add_path(LinkKind::Relay, addr);
            }
            Err(error) => tracing::warn!(%error, "no room for a relayed path"),
        }
    }

    fn add_path(&self, kind: LinkKind, remote: SocketAddr) {
        if let Some(session) = &self.session
            && let Err(error) = session.add_path(kind, remote)
        {
            tracing::warn!(%error, "a path is not used");
        }
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
            LinkEvent::Reconnecting => Some(SessionEvent::Reconnecting),
            LinkEvent::Reconnected { after } => {
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
        for route in &self.routes {
            self.context.endpoint.mux().remove_relay_route(*route);
        }
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
