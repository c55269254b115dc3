//! The engine's one task: it owns all state of calls and orders what the parts do.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    home::{Home, HomeEvent, HomeUp},
    port::PortHub,
    supernode::protocol::{Push, Refusal},
};
use ahoy_transport::{
    endpoint::Endpoint,
    identity::{DeviceId, NodeId, UserId, VerifiedDevice, log::DeviceLog},
    runtime::{Runtime, RuntimeExt, Task},
    sealed::{
        self, Admission, CallEnvelopes, CallTag, EnvelopeKind, OfferGuard, Role, SessionSecret,
        Standing, open_offer, seal_offer,
    },
    session::SessionEvent as LinkEvent,
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::{broadcast, mpsc, watch};

use super::{
    book::{AddressBook, Person, Welcome},
    config::{Answering, EngineConfig, PathPolicy},
    cost::CostMeter,
    directory::{Directory, Findings, Target, look_up},
    handle::{CallView, Command, Event, HomeView, Phase, View},
    leg::{Carrier, Leg, LegContext, LegEvent},
    media::Media,
    reach::MAX_RELAYED,
    relays::{RelaySource, Relays},
};
use crate::{
    call::{
        Action, Alert, CallConfig, CallId, CallState, Calls, Direction, EndedCall,
        Event as CallEvent, Peer, SessionEnd, SessionEvent, Unreachable,
    },
    report::{PathKind, ReportBuilder},
    signal::{FollowUp, Offer, Signal, SignalMessage},
};

/// Happenings that wait for the engine. Producers wait when it is full; none of them is a packet.
pub(super) const EVENT_QUEUE: usize = 256;
/// How often levels and path are shown, and counters collected.
const TICK: Duration = Duration::from_millis(200);
/// Every so many ticks the other side is told what we measured.
const TICKS_PER_REPORT: u32 = 5;
/// Calls whose legs may exist at once: the one in hand, and those just ending.
const MAX_SLOTS: usize = 8;

/// What the parts tell the engine.
#[derive(Debug)]
pub(super) enum Internal {
    Home(NodeId, HomeEvent),
    GuestPush(Push),
    Found {
        call: CallId,
        findings: Findings,
    },
    Delivered {
        call: CallId,
        device: DeviceId,
        result: Result<(), RequestError>,
    },
    Leg {
        call: CallId,
        device: DeviceId,
        event: LegEvent,
    },
}

/// One call and everything that belongs to it.
struct Slot {
    user: UserId,
    name: String,
    started: Instant,
    /// Where the person called is to be looked up; empty for incoming calls.
    person: Option<Person>,
    targets: BTreeMap<DeviceId, Target>,
    /// Connections and readers that live as long as the call.
    _guests: Vec<(NodeClient, Task)>,
    legs: BTreeMap<DeviceId, Leg>,
    retried: Vec<DeviceId>,
    media: Option<(DeviceId, Media)>,
    report: ReportBuilder,
    cost: Option<CostMeter>,
    path: Option<PathKind>,
    talking_since: Option<Instant>,
    first_audio_told: bool,
}

/// The engine's state. See [`run`](Self::run).
pub(super) struct Engine {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) config: EngineConfig,
    pub(super) book: Arc<dyn AddressBook>,
    pub(super) endpoint: Endpoint,
    pub(super) hub: Arc<PortHub>,
    pub(super) relays: Relays,
    pub(super) homes: Vec<Home>,
    pub(super) calls: Calls,
    slots: BTreeMap<CallId, Slot>,
    guard: OfferGuard,
    tags: BTreeMap<CallTag, (CallId, DeviceId)>,
    rng: ChaCha20Rng,
    inbox: mpsc::Sender<Internal>,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<View>,
    events: broadcast::Sender<Event>,
    ready: bool,
    home_was_up: BTreeMap<NodeId, bool>,
    ticks: u32,
}

impl Engine {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        config: EngineConfig,
        book: Arc<dyn AddressBook>,
        endpoint: Endpoint,
        hub: Arc<PortHub>,
        inbox: mpsc::Sender<Internal>,
        commands: mpsc::Receiver<Command>,
        view: watch::Sender<View>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        let rng = ChaCha20Rng::from_seed(runtime.random_array());
        let limits: CallConfig = config.limits.clone();
        Self {
            relays: Relays::new(Arc::clone(&runtime), Arc::clone(&hub)),
            runtime,
            config,
            book,
            endpoint,
            hub,
            homes: Vec::new(),
            calls: Calls::new(limits),
            slots: BTreeMap::new(),
            guard: OfferGuard::new(),
            tags: BTreeMap::new(),
            rng,
            inbox,
            commands,
            view,
            events,
            ready: false,
            home_was_up: BTreeMap::new(),
            ticks: 0,
        }
    }

    /// Runs until the last handle is gone or somebody quits.
    pub(super) async fn run(mut self, mut happenings: mpsc::Receiver<Internal>) {
        self.show();
        let mut tick = self.runtime.sleep(TICK);
        loop {
            let deadline = self.calls.poll_timeout().map(|(at, _reason)| at);
            let wait = deadline.unwrap_or_else(|| self.runtime.now() + Duration::from_secs(3600));
            let timer = self.runtime.sleep_until(wait);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Quit) | None => break,
                    Some(command) => {
                        self.handle_command(command);
                        self.drain();
                        // Whoever asked looks for the effect.
                        self.show();
                    }
                },
                Some(happening) = happenings.recv() => self.handle(happening),
                () = timer => {
                    let now = self.runtime.now();
                    self.calls.handle_timeout(now);
                }
                () = &mut tick => {
                    tick.reset(self.runtime.now() + TICK);
                    self.handle_tick();
                }
            }
            self.drain();
        }
        self.shut_down().await;
    }

    /// Says good-bye to whoever we talk with, then to the homes.
    async fn shut_down(&mut self) {
        let now = self.runtime.now();
        if let Some(info) = self.calls.current() {
            let ended = match info.state {
                CallState::RingingHere => self.calls.decline(now, info.call),
                CallState::LookingUp
                | CallState::Calling
                | CallState::RingingThere
                | CallState::Connecting
                | CallState::Talking
                | CallState::Reconnecting { .. } => self.calls.hang_up(now, info.call),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "nothing to end");
            }
            self.drain();
            // What was queued for the other side leaves in one flight.
            self.runtime.sleep(Duration::from_millis(100)).await;
        }
        self.slots.clear();
        self.homes.clear();
        self.endpoint.close(
            ahoy_transport::connection::CloseCode::Done,
            "the program ends",
        );
        self.endpoint.wait_idle().await;
    }

    // --- what the person wants -------------------------------------------------------------------

    fn handle_command(&mut self, command: Command) {
        let now = self.runtime.now();
        let current = self.calls.current();
        let call = current.as_ref().map(|info| info.call);
        let result = match (command, call) {
            (Command::Call(target), _) => {
                self.place(&target);
                return;
            }
            (Command::Accept, Some(call)) => self.calls.accept(now, call),
            (Command::Decline, Some(call)) => self.calls.decline(now, call),
            (Command::HangUp, Some(call)) => {
                self.tell_report(call);
                self.calls.hang_up(now, call)
            }
            (Command::Mute(muted), Some(call)) => self.calls.set_muted(call, muted),
            (Command::Hold(held), Some(call)) => self.calls.set_held(call, held),
            (Command::DoNotDisturb(on), _) => {
                self.view.send_modify(|view| view.do_not_disturb = on);
                return;
            }
            (
                Command::Accept
                | Command::Decline
                | Command::HangUp
                | Command::Mute(_)
                | Command::Hold(_),
                None,
            )
            | (Command::Quit, _) => return,
        };
        if let Err(error) = result {
            self.fail(error.to_string());
        }
    }

    fn place(&mut self, target: &str) {
        let person = match self.book.find(target) {
            Ok(person) => person,
            Err(sentence) => return self.fail(sentence),
        };
        if person.user == self.config.me.user {
            return self.fail("that is your own link: ask the other person for theirs".into());
        }
        let now = self.runtime.now();
        let fresh = CallId(self.runtime.random_array());
        match self.calls.place(now, fresh, person.user) {
            // Otherwise it was the call that rings from that person, and is answered now.
            Ok(call) if call == fresh => {
                let mut slot = Slot::new(now, person.user, person.name.clone());
                slot.person = Some(person);
                self.insert_slot(call, slot);
            }
            Ok(_answered) => {}
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&self, sentence: String) {
        tracing::debug!(sentence, "command failed");
        self.view
            .send_modify(|view| view.notice = Some(sentence.clone()));
        self.publish(Event::Failed { sentence });
    }

    fn publish(&self, event: Event) {
        // Nobody listening is fine: the view tells the same.
        self.events.send(event).unwrap_or_default();
    }

    fn insert_slot(&mut self, call: CallId, slot: Slot) {
        self.slots.insert(call, slot);
        while self.slots.len() > MAX_SLOTS {
            let current = self.calls.current().map(|info| info.call);
            let oldest = self
                .slots
                .iter()
                .filter(|(call, _slot)| Some(**call) != current)
                .min_by_key(|(_call, slot)| slot.started)
                .map(|(call, _slot)| *call);
            let Some(oldest) = oldest else { return };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, call: CallId) {
        self.slots.remove(&call);
        self.tags.retain(|_tag, (of, _device)| *of != call);
    }

    // --- what happens outside --------------------------------------------------------------------

    fn handle(&mut self, happening: Internal) {
        match happening {
            Internal::Home(node, event) => self.handle_home(node, event),
            Internal::GuestPush(push) => self.handle_push(None, push),
            Internal::Found { call, findings } => self.handle_found(call, findings),
            Internal::Delivered {
                call,
                device,
                result,
            } => self.handle_delivered(call, device, result),
            Internal::Leg {
                call,
                device,
                event,
            } => self.handle_leg(call, device, event),
        }
    }

    fn handle_home(&mut self, node: NodeId, event: HomeEvent) {
        match event {
            HomeEvent::Registered(_registered) => {
                self.each_leg(|leg| leg.handle_home_up(node));
                if self.home_was_up.insert(node, true) == Some(false) {
                    self.publish(Event::HomeBack { node });
                }
                if !self.ready {
                    self.ready = true;
                    let link = self.link();
                    self.view.send_modify(|view| view.link = Some(link.clone()));
                    self.publish(Event::Ready { link });
                }
            }
            HomeEvent::Lost { reason } => {
                tracing::debug!(?node, reason, "home lost");
                self.each_leg(|leg| leg.handle_home_lost(node));
                if self.home_was_up.insert(node, false) == Some(true) {
                    self.publish(Event::HomeLost { node });
                }
            }
            HomeEvent::Incoming { delivery, envelope } => {
                self.handle_push(Some(node), Push::Incoming { delivery, envelope });
            }
            HomeEvent::ReplyTo { delivery, payload } => {
                self.handle_push(Some(node), Push::ReplyTo { delivery, payload });
            }
            HomeEvent::Draining => tracing::debug!(?node, "home is about to stop"),
        }
        self.show();
    }

    /// Our link with the homes we have.
    fn link(&self) -> String {
        let homes = self
            .config
            .homes
            .iter()
            .map(|(address, _addr)| address.clone());
        self.book.my_link(homes.collect())
    }

    fn handle_push(&mut self, home: Option<NodeId>, push: Push) {
        match push {
            Push::Incoming { delivery, envelope } => match EnvelopeKind::of(&envelope) {
                Ok(EnvelopeKind::Offer) => {
                    if let Some(node) = home {
                        self.handle_offer(node, delivery, &envelope);
                    }
                }
                Ok(EnvelopeKind::FollowUp(tag)) => self.handle_follow_up(tag, &envelope),
                Err(error) => tracing::debug!(%error, "an envelope cannot be read"),
            },
            Push::ReplyTo { payload, .. } => match EnvelopeKind::of(&payload) {
                Ok(EnvelopeKind::FollowUp(tag)) => self.handle_follow_up(tag, &payload),
                Ok(EnvelopeKind::Offer) => tracing::debug!("an offer came as a reply"),
                Err(error) => tracing::debug!(%error, "a reply cannot be read"),
            },
            Push::Draining => {}
        }
    }

    fn handle_offer(&mut self, node: NodeId, delivery: u64, envelope: &[u8]) {
        let Some(up) = self.home(node) else { return };
        let now_millis = self.runtime.unix_millis();
        let registration = sealed::Registration {
            keys: &self.config.me.keys,
            epoch: up.epoch,
        };
        let book = &self.book;
        let opened = open_offer(envelope, registration, now_millis, |certificate, log| {
            let user = certificate.fields().user;
            match DeviceLog::from_bytes(user, log) {
                Ok(log) => {
                    book.see_log(user, &log).map_err(|distrust| {
                        tracing::warn!(%distrust, "a caller's device log is refused");
                        ahoy_transport::identity::CertificateError::NotInLog
                    })?;
                    certificate.verify_in_log(now_millis, user, &log)
                }
                Err(_none_or_bad) => match book.known_log(user) {
                    Some(log) => certificate.verify_in_log(now_millis, user, &log),
                    None => certificate.verify(now_millis, user),
                },
            }
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::info!(%error, "an offer is refused");
                return;
            }
        };
        let call = CallId(opened.offer.call_id);
        let Ok(offer) = Offer::decode(&opened.offer.offer) else {
            tracing::info!("an offer's description cannot be read");
            return;
        };
        let caller = opened.sender;
        let welcome = match self.config.answering {
            Answering::Everybody => match self.book.welcome(&caller, &offer, now_millis) {
                Welcome::Inbox => Welcome::Ring,
                decided @ (Welcome::Ring | Welcome::Silent | Welcome::Drop) => decided,
            },
            Answering::Person | Answering::Contacts => {
                self.book.welcome(&caller, &offer, now_millis)
            }
        };
        let standing = match welcome {
            Welcome::Ring | Welcome::Silent => Standing::Known,
            Welcome::Inbox | Welcome::Drop => Standing::Stranger,
        };
        let secret = opened.offer.secret.clone();
        let tag = CallEnvelopes::tag_of(&secret, &call.0);
        let now = self.runtime.now();
        let early = match self
            .guard
            .admit(now, caller.device(), call.0, tag, standing)
        {
            Admission::New { early } => early,
            Admission::Duplicate => return,
            Admission::Full => {
                tracing::warn!("too many calls at once: an offer is dropped");
                return;
            }
        };
        // Whom we are calling right now may call us, contact or not: the two calls become one.
        let crossing = self
            .calls
            .current()
            .is_some_and(|info| info.user == caller.user());
        let alert = match welcome {
            Welcome::Drop => return,
            Welcome::Inbox if crossing => Alert::Audible,
            Welcome::Inbox => {
                self.book
                    .request(&caller, &offer, &opened.offer.log, now_millis);
                self.publish(Event::Request {
                    from: caller.user(),
                });
                self.show();
                return;
            }
            Welcome::Ring if self.view.borrow().do_not_disturb => Alert::Silent,
            Welcome::Ring => Alert::Audible,
            Welcome::Silent => Alert::Silent,
        };
        let name = self.book.display_name(caller.user(), &offer.display_name);
        let carrier = Carrier::Reply {
            client: up.client.clone(),
            delivery,
        };
        let context = self.leg_context(call, caller, None);
        let leg = Leg::new(context, Role::Callee, secret, carrier);
        let mut slot = Slot::new(now, caller.user(), name);
        slot.legs.insert(caller.device(), leg);
        self.insert_slot(call, slot);
        self.tags.insert(tag, (call, caller.device()));
        self.calls.handle(
            now,
            CallEvent::Incoming {
                call,
                from: Peer {
                    device: caller.device(),
                    user: caller.user(),
                },
                media: offer.media,
                alert,
            },
        );
        self.drain();
        self.handle_candidates(call, caller.device(), &opened.offer.candidates);
        for envelope in early {
            self.handle_follow_up(tag, &envelope);
        }
    }

    fn handle_follow_up(&mut self, tag: CallTag, envelope: &[u8]) {
        let Some((call, device)) = self.tags.get(&tag).copied() else {
            let now = self.runtime.now();
            if !self.guard.hold(now, tag, envelope) {
                tracing::debug!("a follow-up to an unknown call is dropped");
            }
            return;
        };
        let Some(leg) = self.leg(call, device) else {
            return;
        };
        let payload = match leg.open_envelope(envelope) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::debug!(%error, "a follow-up is dropped");
                return;
            }
        };
        let Ok(follow_up) = FollowUp::decode(&payload) else {
            tracing::debug!("a follow-up cannot be read");
            return;
        };
        self.handle_candidates(call, device, &follow_up.candidates);
        if let Some(message) = follow_up.message {
            self.handle_signal(call, device, message);
        }
    }

    fn handle_candidates(&mut self, call: CallId, device: DeviceId, candidates: &[u8]) {
        if candidates.is_empty() {
            return;
        }
        if let Some(leg) = self.leg(call, device) {
            leg.handle_candidates(candidates);
        }
    }

    fn handle_signal(&mut self, call: CallId, device: DeviceId, message: SignalMessage) {
        if message.call != call || message.participant != device {
            tracing::debug!("a signal about somebody else is dropped");
            return;
        }
        match message.signal {
            Signal::Candidates(candidates) => self.handle_candidates(call, device, &candidates),
            Signal::Report(report) => {
                if let Some(slot) = self.slots.get_mut(&call) {
                    slot.report.set_remote(*report);
                }
            }
            signal @ (Signal::Ringing
            | Signal::Accept(_)
            | Signal::Decline(_)
            | Signal::Busy
            | Signal::Cancel(_)
            | Signal::HangUp(_)
            | Signal::MediaState { .. }) => {
                if matches!(signal, Signal::HangUp(_)) {
                    self.collect(call);
                }
                let now = self.runtime.now();
                self.calls.handle(
                    now,
                    CallEvent::Signal {
                        call,
                        from: device,
                        signal,
                    },
                );
            }
        }
    }

    fn handle_found(&mut self, call: CallId, findings: Findings) {
        let now = self.runtime.now();
        let why = findings.why_nobody();
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        for (node, client) in findings.guests {
            let reading = read_pushes(client.clone(), self.inbox.clone());
            tracing::debug!(?node, "keeping the connection for the call");
            slot._guests
                .push((client, self.runtime.spawn_task(reading)));
        }
        for target in findings.targets {
            match self.book.see_log(slot.user, &target.log) {
                Ok(()) => {
                    slot.targets.insert(target.device.device(), target);
                }
                Err(distrust) => tracing::warn!(%distrust, "a device log is refused"),
            }
        }
        let devices: Vec<DeviceId> = slot.targets.keys().copied().collect();
        let event = if devices.is_empty() {
            CallEvent::LookupFailed { call, why }
        } else {
            CallEvent::Found { call, devices }
        };
        self.calls.handle(now, event);
    }

    fn handle_delivered(
        &mut self,
        call: CallId,
        device: DeviceId,
        result: Result<(), RequestError>,
    ) {
        let now = self.runtime.now();
        let event = match result {
            Ok(()) => {
                if let Some(leg) = self.leg(call, device) {
                    leg.delivered();
                }
                CallEvent::Delivered {
                    call,
                    participant: device,
                }
            }
            Err(RequestError::Refused(Refusal::WrongEpoch)) if self.retry(call, device) => return,
            Err(error) => {
                tracing::info!(%error, "an offer was not delivered");
                CallEvent::Refused {
                    call,
                    participant: device,
                    why: match error {
                        RequestError::Refused(Refusal::UnknownDevice | Refusal::WrongEpoch) => {
                            Unreachable::Offline
                        }
                        RequestError::Refused(Refusal::Full | Refusal::TooFast) => {
                            Unreachable::HomeBusy
                        }
                        RequestError::Refused(
                            Refusal::NotYours
                            | Refusal::UnknownDelivery
                            | Refusal::NoRelay
                            | Refusal::UnprovenRelay
                            | Refusal::Malformed,
                        )
                        | RequestError::Lost
                        | RequestError::TimedOut
                        | RequestError::Protocol => Unreachable::NoRoute,
                    },
                }
            }
        };
        self.calls.handle(now, event);
    }

    /// The device registered again since the look-up: look it up once more, once.
    fn retry(&mut self, call: CallId, device: DeviceId) -> bool {
        let Some(slot) = self.slots.get_mut(&call) else {
            return false;
        };
        if slot.retried.contains(&device) {
            return false;
        }
        slot.retried.push(device);
        let Some(target) = slot.targets.get(&device) else {
            return false;
        };
        let (node, client, user) = (target.node.clone(), target.client.clone(), slot.user);
        slot.legs.remove(&device);
        let known = self.book.known_log(user);
        let (runtime, endpoint, inbox) = (
            Arc::clone(&self.runtime),
            self.endpoint.clone(),
            self.inbox.clone(),
        );
        self.runtime
            .spawn_task(async move {
                let directories = vec![Directory::Home(node, client)];
                let findings = look_up(runtime, endpoint, directories, user, known).await;
                let found = Internal::Leg {
                    call,
                    device,
                    event: LegEvent::FoundAgain(findings),
                };
                // The engine is gone: so is the call.
                inbox.send(found).await.unwrap_or_default();
            })
            .detach();
        true
    }

    fn handle_leg(&mut self, call: CallId, device: DeviceId, event: LegEvent) {
        let now = self.runtime.now();
        match event {
            LegEvent::FoundAgain(findings) => {
                let again = findings
                    .targets
                    .into_iter()
                    .find(|target| target.device.device() == device);
                match (again, self.slots.get_mut(&call)) {
                    (Some(target), Some(slot)) => {
                        slot.targets.insert(device, target);
                        self.send_offer(call, device);
                    }
                    (None, Some(_slot)) => self.calls.handle(
                        now,
                        CallEvent::Refused {
                            call,
                            participant: device,
                            why: Unreachable::Offline,
                        },
                    ),
                    (_, None) => {}
                }
            }
            LegEvent::Relay(node, allocation) => {
                if let Some(leg) = self.leg(call, device) {
                    leg.handle_relay(node, allocation);
                }
            }
            LegEvent::RelayLost(node, error) => {
                if let Some(leg) = self.leg(call, device) {
                    leg.handle_relay_lost(node, error);
                }
            }
            LegEvent::Bound(node, binding) => {
                if let Some(leg) = self.leg(call, device) {
                    leg.handle_bound(node, binding);
                }
            }
            LegEvent::Ice(event) => {
                if let Some(leg) = self.leg(call, device) {
                    leg.handle_ice(event);
                }
            }
            LegEvent::Session(event) => self.handle_session(call, device, event),
            LegEvent::Control(bytes) => match SignalMessage::decode(&bytes) {
                Ok(message) => self.handle_signal(call, device, message),
                Err(error) => {
                    tracing::info!(%error, "the other side sent a signal that cannot be read");
                    self.calls.handle(
                        now,
                        CallEvent::Session {
                            call,
                            participant: device,
                            event: SessionEvent::Ended(SessionEnd::Protocol),
                        },
                    );
                }
            },
        }
    }

    fn handle_session(&mut self, call: CallId, device: DeviceId, event: LinkEvent) {
        let now = self.runtime.now();
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some(leg) = slot.legs.get_mut(&device) else {
            return;
        };
        let told = leg.observe(now, &event, &mut slot.report, &mut slot.path);
        if let Some(event) = told {
            self.calls.handle(
                now,
                CallEvent::Session {
                    call,
                    participant: device,
                    event,
                },
            );
        }
        self.show();
    }

    // --- what the call wants ---------------------------------------------------------------------

    fn drain(&mut self) {
        while let Some(action) = self.calls.poll_action() {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::LookUp { call, user } => self.start_look_up(call, user),
            Action::SendOffer { call, to } => self.send_offer(call, to),
            Action::OpenSession { call, participant } => {
                if let Some(leg) = self.leg(call, participant) {
                    leg.open();
                }
            }
            Action::SendSignal { call, to, signal } => {
                let participant = self.config.me.keys.id();
                if let Some(leg) = self.leg(call, to) {
                    leg.send_signal(SignalMessage {
                        call,
                        participant,
                        signal,
                    });
                }
            }
            Action::StartRinging { call, from, alert } => {
                tracing::debug!(?call, from = ?from.user, ?alert, "ringing");
                self.publish(Event::Incoming {
                    call,
                    from: from.user,
                });
                let answer = match self.config.answering {
                    Answering::Person => false,
                    Answering::Contacts | Answering::Everybody => true,
                };
                if answer {
                    let now = self.runtime.now();
                    if let Err(error) = self.calls.accept(now, call) {
                        tracing::debug!(%error, "nothing to accept");
                    }
                }
            }
            Action::StopRinging { call } => tracing::debug!(?call, "ringing ends"),
            Action::OpenMedia {
                call,
                participant,
                media,
                accepted,
            } => {
                let now = self.runtime.now();
                if let Some(slot) = self.slots.get_mut(&call) {
                    slot.report.accepted(now);
                }
                tracing::debug!(?media, "both sides agreed");
                self.open_media(call, participant, &accepted);
            }
            Action::SetLocalMedia { call, muted, held } => {
                if let Some((_device, media)) =
                    self.slots.get(&call).and_then(|slot| slot.media.as_ref())
                {
                    media.set_muted(muted || held);
                }
            }
            Action::RemoteMedia { muted, held, .. } => {
                tracing::debug!(muted, held, "the other side's microphone");
            }
            Action::CloseSession { call, participant } => {
                self.collect(call);
                if let Some(slot) = self.slots.get_mut(&call) {
                    if slot
                        .media
                        .as_ref()
                        .is_some_and(|(of, _media)| *of == participant)
                    {
                        slot.media = None;
                    }
                    if let Some(leg) = slot.legs.get_mut(&participant) {
                        leg.close();
                    }
                }
            }
            Action::Changed { call, state } => {
                if state == CallState::RingingThere {
                    self.publish(Event::Ringing { call });
                }
                self.show();
            }
            Action::Ended(ended) => self.handle_ended(ended),
        }
    }

    fn start_look_up(&self, call: CallId, user: UserId) {
        let Some(slot) = self.slots.get(&call) else {
            return;
        };
        let mut directories = Vec::new();
        let asked = slot.person.iter().flat_map(|person| &person.homes);
        for address in asked {
            match self.home(address.node) {
                Some(up) => directories.push(Directory::Home(address.clone(), up.client.clone())),
                None => directories.push(Directory::Guest(address.clone())),
            }
        }
        if directories.is_empty() {
            // A person without known homes may share one of ours.
            for (address, _addr) in &self.config.homes {
                if let Some(up) = self.home(address.node) {
                    directories.push(Directory::Home(address.clone(), up.client.clone()));
                }
            }
        }
        let known = self.book.known_log(user);
        let (runtime, endpoint, inbox) = (
            Arc::clone(&self.runtime),
            self.endpoint.clone(),
            self.inbox.clone(),
        );
        self.runtime
            .spawn_task(async move {
                let findings = look_up(runtime, endpoint, directories, user, known).await;
                // The engine is gone: so is the call.
                inbox
                    .send(Internal::Found { call, findings })
                    .await
                    .unwrap_or_default();
            })
            .detach();
    }

    fn send_offer(&mut self, call: CallId, to: DeviceId) {
        let Some(target) = self.slots.get(&call).and_then(|slot| slot.targets.get(&to)) else {
            return;
        };
        let target = target.clone();
        let secret = SessionSecret::generate(&mut self.rng);
        let carrier = Carrier::Deliver {
            client: target.client.clone(),
            to,
            epoch: target.epoch,
        };
        let lent = RelaySource::guest(target.node.clone(), target.client.clone());
        let context = self.leg_context(call, target.device, Some(lent));
        let mut leg = Leg::new(context, Role::Caller, secret.clone(), carrier);
        leg.open();
        let me = &self.config.me;
        let invite = self
            .slots
            .get(&call)
            .and_then(|slot| slot.person.as_ref())
            .and_then(|person| person.invite.as_ref())
            .map(|invite| {
                invite
                    .present(target.device.user(), me.keys.id())
                    .to_bytes()
            })
            .unwrap_or_default();
        let offer = sealed::Offer {
            call_id: call.0,
            secret,
            recipient: to,
            epoch: target.epoch,
            sequence: self.book.next_sequence(),
            sent_at_millis: self.runtime.unix_millis(),
            log_head: me.log.head(),
            certificate: me.certificate.clone(),
            log: me.log.to_bytes(),
            offer: Offer {
                media: self.config.limits.media.clone(),
                display_name: me.name.clone(),
                invite,
            }
            .encode(),
            candidates: leg.candidates(),
        };
        let envelope = match seal_offer(&offer, &me.keys, &target.seal_key, &mut self.rng) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(%error, "an offer cannot be sealed");
                return;
            }
        };
        let tag = leg.tag();
        if let Some(slot) = self.slots.get_mut(&call) {
            slot.legs.insert(to, leg);
        }
        self.tags.insert(tag, (call, to));
        let inbox = self.inbox.clone();
        self.runtime
            .spawn_task(async move {
                let result = target.client.deliver(to, target.epoch, envelope).await;
                let delivered = Internal::Delivered {
                    call,
                    device: to,
                    result: result.map(|_delivery| ()),
                };
                // The engine is gone: so is the call.
                inbox.send(delivered).await.unwrap_or_default();
            })
            .detach();
    }

    fn open_media(
        &mut self,
        call: CallId,
        participant: DeviceId,
        accepted: &crate::call::Accepted,
    ) {
        let runtime = Arc::clone(&self.runtime);
        let settings = self.config.audio.clone();
        let probe = self.config.probe.clone();
        let measure = self.config.measure_cost;
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some(leg) = slot.legs.get_mut(&participant) else {
            return;
        };
        if measure && slot.cost.is_none() {
            slot.cost = CostMeter::start(&*runtime);
        }
        let opened = leg.open_media(accepted, &settings, probe.as_ref());
        let now = runtime.now();
        match opened {
            Ok(media) => {
                // Whoever muted while it rang is not heard now.
                let current = self.calls.current();
                media.set_muted(current.is_some_and(|info| info.muted || info.held));
                slot.media = Some((participant, media));
                slot.talking_since = Some(now);
                self.publish(Event::Connected { call });
            }
            Err(error) => {
                self.fail(error.to_string());
                self.calls.handle(now, CallEvent::MediaFailed { call });
            }
        }
        self.show();
    }

    fn handle_ended(&mut self, ended: EndedCall) {
        let call = ended.call;
        self.collect(call);
        let Some(mut slot) = self.slots.remove(&call) else {
            return;
        };
        // Legs close their sessions in the background when they go.
        slot.media = None;
        let outcome = ended.ending.outcome();
        let name = slot.name.clone();
        let (user, path) = (slot.user, slot.path);
        let report = Box::new(std::mem::take(&mut slot.report).finish(&ended));
        tracing::debug!(?call, ?outcome, reason = report.reason, "call ended");
        let legs = std::mem::take(&mut slot.legs);
        self.linger(legs);
        self.tags.retain(|_tag, (of, _device)| *of != call);
        self.book.record(&ended, self.runtime.unix_millis());
        let sentence = super::sentence::ended(&name, &ended);
        let told = sentence.clone();
        self.show();
        let shown = CallView {
            id: call,
            name,
            user,
            phase: Phase::Ended { sentence },
            muted: false,
            held: false,
            outgoing: ended.direction == Direction::Outgoing,
            started: ended.timeline.started,
            path: path.map(PathKind::as_str),
            safety_words: Vec::new(),
            level_in: f32::NEG_INFINITY,
            level_out: f32::NEG_INFINITY,
        };
        // A call that was turned away does not cover the one that goes on.
        if self.calls.current().is_none() {
            self.view.send_modify(|view| view.call = Some(shown));
        }
        self.publish(Event::Ended {
            call,
            outcome,
            ending: ended.ending,
            sentence: told,
            report,
        });
    }

    /// Lets what was said last reach the other side before the sessions go.
    fn linger(&self, legs: BTreeMap<DeviceId, Leg>) {
        let runtime = Arc::clone(&self.runtime);
        self.runtime
            .spawn_task(async move {
                runtime.sleep(Duration::from_millis(500)).await;
                drop(legs);
            })
            .detach();
    }

    // --- what is measured and shown --------------------------------------------------------------

    fn handle_tick(&mut self) {
        let Some(call) = self.calls.current().map(|info| info.call) else {
            return;
        };
        self.ticks = self.ticks.wrapping_add(1);
        self.collect(call);
        if self.ticks.is_multiple_of(TICKS_PER_REPORT) {
            self.tell_report(call);
        }
        self.show();
    }

    /// Brings counters into the report, and the first sound into the call.
    fn collect(&mut self, call: CallId) {
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some((device, media)) = &slot.media else {
            return;
        };
        let device = *device;
        let stats = media.stats();
        if let Some(leg) = slot.legs.get_mut(&device) {
            leg.report(&stats, &mut slot.report);
        }
        if let Some(cost) = &slot.cost {
            slot.report.set_cost(cost.so_far(&*self.runtime));
        }
        if let Some(at) = stats.first_audio
            && !slot.first_audio_told
        {
            slot.first_audio_told = true;
            let told = CallEvent::FirstAudio {
                call,
                participant: device,
            };
            self.calls.handle(at, told);
            self.publish(Event::FirstAudio { call, at });
        }
    }

    /// Tells the other side what we measured of it.
    fn tell_report(&mut self, call: CallId) {
        let now = self.runtime.now();
        let participant = self.config.me.keys.id();
        let Some(timeline) = self.calls.timeline(call) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some((device, _media)) = &slot.media else {
            return;
        };
        let report = slot.report.for_remote(now, &timeline);
        if let Some(leg) = slot.legs.get_mut(device) {
            leg.send_signal(SignalMessage {
                call,
                participant,
                signal: Signal::Report(Box::new(report)),
            });
        }
    }

    fn show(&self) {
        let homes = self
            .homes
            .iter()
            .map(|home| HomeView {
                node: home.node(),
                registered: home.up().is_some(),
            })
            .collect();
        let call = self.calls.current().and_then(|info| {
            let slot = self.slots.get(&info.call)?;
            let stats = slot.media.as_ref().map(|(_device, media)| media.stats());
            Some(CallView {
                id: info.call,
                name: slot.name.clone(),
                user: info.user,
                phase: match info.state {
                    CallState::LookingUp | CallState::Calling => Phase::Calling,
                    CallState::RingingThere => Phase::Ringing,
                    CallState::RingingHere => Phase::Incoming,
                    CallState::Connecting => Phase::Connecting,
                    CallState::Talking => Phase::Talking {
                        since: slot.talking_since.unwrap_or(slot.started),
                    },
                    CallState::Reconnecting { .. } => Phase::Reconnecting,
                },
                muted: info.muted,
                held: info.held,
                outgoing: info.direction == Direction::Outgoing,
                started: info.started,
                path: slot.path.map(PathKind::as_str),
                safety_words: slot
                    .legs
                    .values()
                    .find_map(Leg::safety_words)
                    .unwrap_or_default(),
                level_in: stats.map_or(f32::NEG_INFINITY, |stats| stats.level_in),
                level_out: stats.map_or(f32::NEG_INFINITY, |stats| stats.level_out),
            })
        });
        let (contacts, requests) = (self.book.contacts(), self.book.requests());
        self.view.send_if_modified(|view| {
            let shown = View {
                link: view.link.clone(),
                homes,
                contacts,
                requests,
                do_not_disturb: view.do_not_disturb,
                call: call.or_else(|| view.call.take_if(is_over)),
                notice: view.notice.clone(),
            };
            let changed = *view != shown;
            *view = shown;
            changed
        });
    }

    // --- small helpers ---------------------------------------------------------------------------

    fn home(&self, node: NodeId) -> Option<Arc<HomeUp>> {
        self.homes.iter().find(|home| home.node() == node)?.up()
    }

    fn leg(&mut self, call: CallId, device: DeviceId) -> Option<&mut Leg> {
        self.slots.get_mut(&call)?.legs.get_mut(&device)
    }

    fn each_leg(&mut self, mut tell: impl FnMut(&mut Leg)) {
        for slot in self.slots.values_mut() {
            slot.legs.values_mut().for_each(&mut tell);
        }
    }

    /// Relays are those of our homes. Who has none uses the one that is `lent`, if any.
    fn leg_context(
        &self,
        call: CallId,
        device: VerifiedDevice,
        lent: Option<RelaySource>,
    ) -> LegContext {
        let mut sources: Vec<RelaySource> = self
            .homes
            .iter()
            .zip(&self.config.homes)
            .map(|(home, (address, _addr))| RelaySource::home(address.clone(), home.state()))
            .collect();
        sources.sort_by_key(|source| !source.is_up());
        sources.truncate(MAX_RELAYED);
        if !sources.iter().any(RelaySource::is_up) {
            sources.extend(lent);
        }
        LegContext {
            runtime: Arc::clone(&self.runtime),
            endpoint: self.endpoint.clone(),
            hub: Arc::clone(&self.hub),
            relays: self.relays.clone(),
            me: self.config.me.clone(),
            call,
            device,
            contact: self.book.is_contact(device.user()),
            verified: self.book.is_verified(device.user()),
            path: if self.book.relay_only(device.user()) {
                PathPolicy::Relay
            } else {
                self.config.path
            },
            allow_loopback: self.config.allow_loopback,
            sources,
            inbox: self.inbox.clone(),
        }
    }
}

fn is_over(call: &mut CallView) -> bool {
    matches!(call.phase, Phase::Ended { .. })
}

/// Pushes on a connection that is kept for one call.
async fn read_pushes(client: NodeClient, inbox: mpsc::Sender<Internal>) {
    while let Ok(push) = client.next_push().await {
        if inbox.send(Internal::GuestPush(push)).await.is_err() {
            return;
        }
    }
}

impl Slot {
    fn new(now: Instant, user: UserId, name: String) -> Self {
        Self {
            user,
            name,
            started: now,
            person: None,
            targets: BTreeMap::new(),
            _guests: Vec::new(),
            legs: BTreeMap::new(),
            retried: Vec::new(),
            media: None,
            report: ReportBuilder::default(),
            cost: None,
            path: None,
            talking_since: None,
            first_audio_told: false,
        }
    }
}
