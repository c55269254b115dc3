//! Calls as they come and go through the homes: looking people up, offers both ways, what follows them.

use std::{
    collections::{BTreeSet, btree_map::Entry},
    sync::Arc,
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    discovery::dht::Dht,
    supernode::protocol::{Push, Refusal},
    workbench::Desk,
};
use ahoy_transport::{
    identity::{
        CertificateError, DeviceCertificate, DeviceId, LogPosition, NodeId, UserId, VerifiedDevice,
        log::HeadCheck,
    },
    runtime::{RuntimeExt, Task},
    sealed::{
        self, Admission, CallEnvelopes, CallTag, EnvelopeKind, Role, SessionSecret, Standing,
        open_offer, seal_offer,
    },
};
use tokio::sync::mpsc;

use super::{Engine, Internal, People, Slot};
use crate::{
    call::{Alert, CallId, Event as CallEvent, Peer, Unreachable},
    engine::{
        book::Welcome,
        config::{Answering, Reaching},
        directory::{Directory, Findings, RegisteredAt, Rest, Seeking, look_up, search},
        handle::Event,
        leg::{By, Leg, LegEvent, Way},
        relays::RelaySource,
    },
    identity::{Claim, ClaimError, judge},
    report::FoundBy,
    signal::{FilesOffer, FollowUp, Offer, PresenceOffer, Signal, SignalMessage},
};

/// An offer to one device, which goes by each of its homes.
pub(super) struct Offered {
    /// With the epoch of the home that it was sealed for last.
    offer: sealed::Offer,
    /// Homes that have not answered yet.
    under_way: usize,
    /// One of them took it.
    taken: bool,
    /// Which ones did.
    taken_by: Vec<NodeId>,
    /// Why one of them did not.
    failed: Option<(NodeId, RequestError)>,
    /// Delivering ends with the call: the home may have asked for work first.
    tasks: Vec<Task>,
    /// Where that work is done.
    desk: Desk,
}

impl Offered {
    fn new(offer: sealed::Offer, desk: Desk) -> Self {
        Self {
            offer,
            under_way: 0,
            taken: false,
            taken_by: Vec::new(),
            failed: None,
            tasks: Vec::new(),
            desk,
        }
    }
}

impl Engine {
    pub(super) fn start_look_up(&self, call: CallId, user: UserId) {
        let Some(slot) = self.slots.get(&call) else {
            return;
        };
        let mut directories: Vec<(Directory, FoundBy)> = Vec::new();
        let known_record = self.book.known_record(user);
        let rules = self.config.finding.rules;
        // A record that expired says nothing about where somebody is.
        let counting = known_record.as_ref().filter(|record| {
            let now_millis = self.runtime.unix_millis();
            rules.judge(None, record, user, now_millis).is_ok()
        });
        let told = slot.person.iter().flat_map(|person| &person.homes);
        let told = told.map(|home| (home, FoundBy::Home));
        let recorded = counting.iter().flat_map(|record| &record.fields().homes);
        let mut asked = BTreeSet::new();
        for (address, route) in told.chain(recorded.map(|home| (home, FoundBy::Record))) {
            if !asked.insert(address.node) {
                continue;
            }
            let directory = match self.home(address.node) {
                Some(up) => Directory::Home(address.clone(), up.client.clone()),
                None if slot.echo => Directory::Guest(address.clone(), Reaching::straight()),
                None => Directory::Guest(address.clone(), self.config.reaching()),
            };
            directories.push((directory, route));
        }
        if directories.is_empty() {
            // A person without known homes may share one of ours.
            for (address, _addr) in &self.config.homes {
                if let Some(up) = self.home(address.node) {
                    asked.insert(address.node);
                    let directory = Directory::Home(address.clone(), up.client.clone());
                    directories.push((directory, FoundBy::Home));
                }
            }
        }
        // The DHT's nodes see who asks, and some of them may be the person's.
        let may_ask = self.config.path.allows_direct() && !self.book.relay_only(user) && !slot.echo;
        let table = self.config.finding.dht.clone().filter(|_| may_ask);
        // Whom the link names may know more.
        let named = slot.person.iter().flat_map(|person| person.homes.clone());
        let directory = self
            .rendezvous
            .as_ref()
            .filter(|_| !slot.echo)
            .map(|rendezvous| Arc::new(rendezvous.with(named.collect())) as Arc<dyn Dht>);
        let tables: Vec<_> = directory
            .map(|directory| (directory, FoundBy::Directory))
            .into_iter()
            .chain(table.map(|table| (table, FoundBy::Dht)))
            .collect();
        let seeking = (!tables.is_empty()).then(|| Seeking {
            tables,
            rules,
            known: known_record,
            capability: self.book.capability_of(user),
            reaching: self.config.reaching(),
            ours: self
                .homes
                .iter()
                .filter_map(|home| Some((home.node(), home.up()?.client.clone())))
                .collect(),
            asked,
        });
        let known = self.known_log(user);
        let (runtime, endpoint, inbox) = (
            Arc::clone(&self.runtime),
            self.endpoint.clone(),
            self.inbox.clone(),
        );
        // Whoever shall not learn our address is not asked for it in this network, where that shows.
        let lan = self.config.lan_discovery && !self.book.relay_only(user) && !slot.echo;
        self.runtime
            .spawn_task(async move {
                let findings =
                    search(runtime, endpoint, directories, lan, seeking, user, known).await;
                // The engine is gone: so is the call.
                inbox
                    .send(Internal::Found { call, findings })
                    .await
                    .unwrap_or_default();
            })
            .detach();
    }

    pub(super) fn handle_found(&mut self, call: CallId, mut findings: Findings) {
        let now = self.runtime.now();
        let seen = std::mem::take(&mut findings.seen);
        if let Some(slot) = self.slots.get(&call) {
            self.gather_records(slot.user, seen);
        }
        let why = findings.why_nobody();
        self.note_lies(findings.lies.clone());
        if let Some(proof) = findings.fork() {
            self.tell_fork(proof);
        }
        if let Some(record) = &findings.record {
            self.book.keep_record(record, self.runtime.unix_millis());
        }
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        if let Some(route) = findings.found_by {
            slot.report.found_by(route);
        }
        let devices = self.take_findings(call, findings);
        if self.file_links.contains_key(&call) {
            return self.link_found(call, &devices);
        }
        let event = if !devices.is_empty() {
            CallEvent::Found { call, devices }
        } else if self.is_searching(call) {
            return;
        } else {
            CallEvent::LookupFailed { call, why }
        };
        self.calls.handle(now, event);
    }

    /// More supernodes have still to answer.
    fn is_searching(&self, call: CallId) -> bool {
        let slot = self.slots.get(&call);
        slot.is_some_and(|slot| slot.searching.is_some())
    }

    /// Keeps what a look-up brought. Returns the devices that were not known yet; those known get the offer by the homes
    /// that were not.
    fn take_findings(&mut self, call: CallId, mut findings: Findings) -> Vec<DeviceId> {
        if !self.config.upkeep.every_home {
            findings.rest = None;
            for target in &mut findings.targets {
                target.homes.truncate(1);
            }
        }
        let Some(slot) = self.slots.get_mut(&call) else {
            return Vec::new();
        };
        for (node, client) in findings.guests {
            let reading = read_pushes(client.clone(), self.inbox.clone());
            tracing::debug!(?node, "keeping the connection for the call");
            slot._guests
                .push((client, self.runtime.spawn_task(reading)));
        }
        // Supernodes that serve somebody are worth asking for others.
        let good = findings.targets.iter().filter(|target| !target.nearby);
        let good: Vec<_> = good
            .flat_map(|target| &target.homes)
            .map(|home| home.node.clone())
            .collect();
        if let Some(rendezvous) = self.rendezvous.as_ref().filter(|_| !slot.echo) {
            rendezvous.note(&good);
        }
        let user = slot.user;
        let homes = findings.targets.iter().filter(|target| !target.nearby);
        let echo = slot.echo;
        let asked: Vec<_> = homes
            .filter(|_| !echo)
            .filter_map(|target| target.homes.first().cloned())
            .collect();
        if let Some(rest) = findings.rest {
            let reading = read_rest(call, rest, self.inbox.clone());
            slot.searching = Some(self.runtime.spawn_task(reading));
        }
        // A home that was not told of it still shows a device that its owner took out; another home's log tells.
        let shown = findings.targets.iter().chain(slot.targets.values());
        let shown = shown.filter_map(|target| target.log.clone());
        let known = self.book.known_log(slot.user);
        let longest = shown.chain(known).max_by_key(|log| log.head().n);
        let recorded = self.book.known_record(slot.user);
        let head = recorded.map(|record| record.fields().log_head);
        // The person's own word tells that there is a longer list, and none of these homes shows it.
        let is_behind = self.config.finding.heads
            && longest.as_ref().zip(head).is_some_and(|(log, head)| {
                matches!(log.check_head(head), HeadCheck::Newer | HeadCheck::Conflict)
            });
        let is_gone = |device: DeviceId| {
            is_behind || longest.as_ref().is_some_and(|log| log.was_revoked(device))
        };
        let offered = slot.targets.keys().copied();
        let gone: Vec<DeviceId> = offered.filter(|device| is_gone(*device)).collect();
        let (mut devices, mut also) = (Vec::new(), Vec::new());
        for target in findings.targets {
            if let Some(log) = &target.log {
                self.book.keep_log(log);
            }
            let device = target.device.device();
            if is_gone(device) {
                tracing::warn!("a device that its owner may have taken out is not called");
                continue;
            }
            match slot.targets.entry(device) {
                Entry::Vacant(entry) => {
                    entry.insert(target);
                    devices.push(device);
                }
                Entry::Occupied(mut known) => {
                    let before = known.get().homes.len();
                    for home in target.homes {
                        known.get_mut().add(home);
                    }
                    let new = known.get().homes.iter().skip(before);
                    also.extend(new.map(|home| (device, home.clone())));
                }
            }
        }
        for home in asked {
            self.ask_witness_about(user, home.node.node, home.client);
        }
        for (device, home) in also {
            self.deliver_offer(call, device, home);
        }
        let now = self.runtime.now();
        for participant in gone {
            let why = Unreachable::Offline;
            let refused = CallEvent::Refused {
                call,
                participant,
                why,
            };
            self.calls.handle(now, refused);
        }
        devices
    }

    /// A supernode answered after others had found somebody; or, with nothing, the last one has.
    pub(super) fn handle_found_more(&mut self, call: CallId, findings: Option<Findings>) {
        let now = self.runtime.now();
        if let Some(findings) = findings {
            self.note_lies(findings.lies.clone());
            let devices = self.take_findings(call, findings);
            if self.file_links.contains_key(&call) {
                return self.link_found(call, &devices);
            }
            if !devices.is_empty() {
                self.calls.handle(now, CallEvent::Found { call, devices });
            }
            return;
        }
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        slot.searching = None;
        if self.file_links.contains_key(&call) {
            return self.link_found(call, &[]);
        }
        if slot.targets.is_empty() {
            let why = Unreachable::Offline;
            return self
                .calls
                .handle(now, CallEvent::LookupFailed { call, why });
        }
        let waiting: Vec<DeviceId> = slot.offered.keys().copied().collect();
        for device in waiting {
            self.give_up_offer(call, device);
        }
    }

    pub(super) fn send_offer(&mut self, call: CallId, to: DeviceId) {
        let Some(target) = self.slots.get(&call).and_then(|slot| slot.targets.get(&to)) else {
            return;
        };
        let target = target.clone();
        let Some(first) = target.homes.first() else {
            return;
        };
        let secret = SessionSecret::generate(&mut self.rng);
        // A door lends no relay.
        let lent =
            (!target.nearby).then(|| RelaySource::guest(first.node.clone(), first.client.clone()));
        let context = self.leg_context(call, target.device, lent);
        let mut leg = Leg::new(context, Role::Caller, secret.clone(), Vec::new());
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
            // Each home has another.
            epoch: first.epoch,
            sequence: self.book.next_sequence(),
            sent_at_millis: self.runtime.unix_millis(),
            log_head: me.log.head(),
            certificate: me.certificate.clone(),
            log: me.log.to_bytes(),
            offer: match self.file_links.get(&call) {
                Some(link) => link.offer(me.keys.id(), to).encode(),
                None => Offer {
                    media: self.config.limits.media.clone(),
                    display_name: me.name.clone(),
                    invite,
                }
                .encode(),
            },
            candidates: leg.candidates(),
        };
        let tag = leg.tag();
        if let Some(slot) = self.slots.get_mut(&call) {
            slot.legs.insert(to, leg);
            let offered = Offered::new(offer, self.bench.desk());
            slot.offered.insert(to, offered);
        }
        self.tags.insert(tag, (call, to));
        for home in target.homes {
            self.deliver_offer(call, to, home);
        }
    }

    /// Hands the offer for a device to one of its homes.
    fn deliver_offer(&mut self, call: CallId, to: DeviceId, home: RegisteredAt) {
        let Some(user) = self.slots.get(&call).map(|slot| slot.user) else {
            return;
        };
        let key = self.book.mail_key((user, to), home.node.node);
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let (Some(leg), Some(offered)) = (slot.legs.get_mut(&to), slot.offered.get_mut(&to)) else {
            return;
        };
        let by = By::Delivering {
            to,
            user,
            epoch: home.epoch,
            key: key.clone(),
        };
        let (node, client) = (home.node.node, home.client.clone());
        leg.add_way(Way { node, client, by });
        offered.offer.epoch = home.epoch;
        let keys = &self.config.me.keys;
        let envelope = match seal_offer(&offered.offer, keys, &home.seal_key, &mut self.rng) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(%error, "an offer cannot be sealed");
                return;
            }
        };
        offered.under_way += 1;
        let mark = key.map(|key| key.mark((user, to), &envelope));
        let inbox = self.inbox.clone();
        let client = home.client.at(offered.desk.clone());
        let delivering = self.runtime.spawn_task(async move {
            let result = client.deliver_marked(to, home.epoch, mark, envelope).await;
            let delivered = Internal::Delivered {
                call,
                device: to,
                node,
                result: result.map(|_delivery| ()),
            };
            // The engine is gone: so is the call.
            inbox.send(delivered).await.unwrap_or_default();
        });
        offered.tasks.push(delivering);
    }

    /// A home took an offer, or did not.
    pub(super) fn handle_delivered(
        &mut self,
        call: CallId,
        device: DeviceId,
        node: NodeId,
        result: Result<(), RequestError>,
    ) {
        let now = self.runtime.now();
        let slot = self.slots.get_mut(&call);
        let Some(offered) = slot.and_then(|slot| slot.offered.get_mut(&device)) else {
            return;
        };
        offered.under_way -= 1;
        match result {
            // The device has it, or is not called any more.
            Err(RequestError::NotNeeded) => {}
            Ok(()) => {
                offered.taken = true;
                offered.taken_by.push(node);
                if let Some(leg) = self.leg(call, device) {
                    leg.delivered();
                }
                let participant = device;
                let event = CallEvent::Delivered { call, participant };
                self.calls.handle(now, event);
            }
            Err(error) => {
                tracing::info!(?node, %error, "an offer was not delivered");
                let stale = error == RequestError::Refused(Refusal::WrongEpoch);
                // A registration that is out of date can be mended.
                if stale || offered.failed.is_none() {
                    offered.failed = Some((node, error));
                }
                self.give_up_offer(call, device);
            }
        }
    }

    /// Nobody waits for homes that have not taken the offer for this device yet: it is there, or not called any more.
    pub(super) fn stop_working(&self, call: CallId, device: DeviceId) {
        let Some(slot) = self.slots.get(&call) else {
            return;
        };
        let Some(offered) = slot.offered.get(&device) else {
            return;
        };
        offered.desk.clear();
        // Nor is anything else to be told to a device that never heard of the call.
        if let Some(leg) = slot.legs.get(&device).filter(|_leg| !offered.taken) {
            leg.stop_working();
        }
    }

    /// Tells whom we called by which homes our offer should have come.
    pub(super) fn tell_handed(&mut self, call: CallId, device: DeviceId) {
        let participant = self.config.me.keys.id();
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let offered = slot.offered.get(&device);
        let homes = offered.map(|offered| offered.taken_by.clone());
        if let Some(homes) = homes.filter(|homes| !homes.is_empty())
            && let Some(leg) = slot.legs.get_mut(&device)
        {
            let signal = Signal::Handed(homes);
            leg.send_signal(SignalMessage {
                call,
                participant,
                signal,
            });
        }
    }

    /// Gives an offer up that no home took, once there is no other left to ask.
    fn give_up_offer(&mut self, call: CallId, device: DeviceId) {
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let searching = slot.searching.is_some();
        let Some(offered) = slot.offered.get_mut(&device) else {
            return;
        };
        if searching || offered.taken || offered.under_way > 0 {
            return;
        }
        let Some((node, error)) = offered.failed.take() else {
            return;
        };
        let why = match error {
            RequestError::Refused(Refusal::WrongEpoch) if self.retry(call, device, node) => return,
            RequestError::Refused(Refusal::UnknownDevice | Refusal::WrongEpoch) => {
                Unreachable::Offline
            }
            RequestError::Refused(Refusal::Full | Refusal::TooFast) => Unreachable::HomeBusy,
            RequestError::TooMuchWork => Unreachable::Flooded,
            RequestError::Refused(refusal) if refusal.is_about_a_pass() => Unreachable::Private,
            RequestError::Refused(
                Refusal::NotYours
                | Refusal::UnknownDelivery
                | Refusal::NoRelay
                | Refusal::UnprovenRelay
                | Refusal::NoMail
                | Refusal::BoxFull
                | Refusal::Malformed
                | Refusal::NoPass
                | Refusal::PassForeign
                | Refusal::PassExpired
                | Refusal::PassRevoked
                | Refusal::PassTaken
                | Refusal::PassWrong,
            )
            | RequestError::Lost
            | RequestError::TimedOut
            | RequestError::Protocol
            | RequestError::NotNeeded => Unreachable::NoRoute,
        };
        let now = self.runtime.now();
        let event = CallEvent::Refused {
            call,
            participant: device,
            why,
        };
        self.calls.handle(now, event);
    }

    /// The device registered again since the look-up: look it up once more, once.
    fn retry(&mut self, call: CallId, device: DeviceId, at: NodeId) -> bool {
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
        let Some(home) = target.homes.iter().find(|home| home.node.node == at) else {
            return false;
        };
        let (node, client, user) = (home.node.clone(), home.client.clone(), slot.user);
        slot.legs.remove(&device);
        slot.offered.remove(&device);
        let known = self.book.known_log(user);
        let (runtime, endpoint, inbox) = (
            Arc::clone(&self.runtime),
            self.endpoint.clone(),
            self.inbox.clone(),
        );
        self.runtime
            .spawn_task(async move {
                let directories = vec![(Directory::Home(node, client), FoundBy::Home)];
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

    pub(super) fn handle_push(&mut self, home: Option<NodeId>, push: Push) {
        match push {
            Push::Incoming { delivery, envelope } => match EnvelopeKind::of(&envelope) {
                Ok(EnvelopeKind::Offer) => {
                    if self.take_probe(&envelope) {
                        return;
                    }
                    if let Some(node) = home {
                        self.handle_offer(node, delivery, &envelope);
                    }
                }
                Ok(EnvelopeKind::Letter) => {
                    tracing::debug!(
                        "a letter came as a delivery, which would tell that we are here"
                    );
                }
                Ok(EnvelopeKind::FollowUp(tag)) => {
                    let up = home.and_then(|node| self.home(node));
                    let answer = home
                        .zip(up)
                        .map(|(node, up)| (node, up.client.clone(), delivery));
                    self.handle_follow_up(tag, &envelope, answer);
                }
                Err(error) => tracing::debug!(%error, "an envelope cannot be read"),
            },
            Push::ReplyTo { payload, .. } => match EnvelopeKind::of(&payload) {
                Ok(EnvelopeKind::FollowUp(tag)) => self.handle_follow_up(tag, &payload, None),
                Ok(EnvelopeKind::Offer | EnvelopeKind::Letter) => {
                    tracing::debug!("an offer or a letter came as a reply");
                }
                Err(error) => tracing::debug!(%error, "a reply cannot be read"),
            },
            Push::Draining | Push::Mail => {}
        }
    }

    pub(super) fn handle_offer(&mut self, node: NodeId, delivery: u64, envelope: &[u8]) {
        let Some(up) = self.home(node) else { return };
        let now_millis = self.runtime.unix_millis();
        let registration = sealed::Registration {
            keys: &self.config.me.keys,
            epoch: up.epoch,
        };
        let opened = open_offer(envelope, registration, now_millis, |offer| {
            let head = offer.log_head;
            self.judge_sender(&offer.certificate, &offer.log, head, now_millis)
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::info!(%error, "an offer is refused");
                return;
            }
        };
        let call = CallId(opened.offer.call_id);
        if FilesOffer::is_it(&opened.offer.offer) {
            let way = Way {
                node,
                client: up.client.clone(),
                by: By::Replying(delivery),
            };
            return self.handle_files_offer(&opened, way);
        }
        if PresenceOffer::is_it(&opened.offer.offer) {
            return self.answer_presence(&opened, up.client.clone(), delivery);
        }
        let Ok(offer) = Offer::decode(&opened.offer.offer) else {
            tracing::info!("an offer's description cannot be read");
            return;
        };
        let caller = opened.sender;
        let welcome = match self.config.answering {
            Answering::Everybody => match self.book.welcome(&caller, &offer.invite, now_millis) {
                Welcome::Inbox => Welcome::Ring,
                decided @ (Welcome::Ring | Welcome::Drop) => decided,
            },
            Answering::Person | Answering::Contacts => {
                self.book.welcome(&caller, &offer.invite, now_millis)
            }
        };
        self.trust.note_came(call, node, self.runtime.now());
        self.note_rung(call);
        let standing = match welcome {
            Welcome::Ring => Standing::Known,
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
            Admission::Duplicate => {
                // By another home: answers go by both, in case that one of them throws them away.
                let client = up.client.clone();
                let leg = self
                    .slots
                    .get_mut(&call)
                    .and_then(|slot| slot.legs.get_mut(&caller.device()));
                if let Some(leg) = leg.filter(|leg| leg.tag() == tag) {
                    leg.renew_reply(node, client, delivery);
                }
                return;
            }
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
                let (name, log) = (&offer.display_name, &opened.offer.log);
                self.book.request(&caller, name, log, now_millis);
                self.people = People::read(&*self.book);
                self.publish(Event::Request {
                    from: caller.user(),
                });
                self.show();
                return;
            }
            Welcome::Ring => {
                let undisturbed = self.view.borrow().do_not_disturb;
                if self.book.ring(caller.user()).is_heard(undisturbed) {
                    Alert::Audible
                } else {
                    Alert::Silent
                }
            }
        };
        let name = self.book.display_name(caller.user(), &offer.display_name);
        let way = Way {
            node,
            client: up.client.clone(),
            by: By::Replying(delivery),
        };
        let context = self.leg_context(call, caller, None);
        let mut leg = Leg::new(context, Role::Callee, secret, vec![way]);
        leg.set_compares(self.config.limits.media.compares, offer.media.compares);
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
            self.handle_follow_up(tag, &envelope, None);
        }
    }

    /// Whether a caller is who the offer says. The newest log of a contact is kept.
    pub(super) fn judge_sender(
        &self,
        certificate: &DeviceCertificate,
        log: &[u8],
        head: LogPosition,
        now_millis: u64,
    ) -> Result<VerifiedDevice, CertificateError> {
        let user = certificate.fields().user;
        let claim = Claim {
            expected: None,
            certificate,
            log,
            head: Some(head),
        };
        match judge(claim, self.known_log(user).as_ref(), now_millis) {
            Ok(judged) => {
                if let Some(log) = &judged.log {
                    self.book.keep_log(log);
                }
                Ok(judged.device)
            }
            Err(ClaimError::Certificate(error)) => Err(error),
            Err(ClaimError::Fork(proof)) => {
                self.tell_fork(&proof);
                Err(CertificateError::NotInLog)
            }
            Err(
                distrust @ (ClaimError::Log(_) | ClaimError::HeadConflict | ClaimError::Revoked),
            ) => {
                tracing::warn!(%distrust, "a sender's device log is refused");
                Err(CertificateError::NotInLog)
            }
        }
    }

    /// `answer`: by which delivery it came, for a reply.
    pub(super) fn handle_follow_up(
        &mut self,
        tag: CallTag,
        envelope: &[u8],
        answer: Option<(NodeId, NodeClient, u64)>,
    ) {
        if self.take_presence(tag, envelope) {
            return;
        }
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
        if let Some((node, client, delivery)) = answer {
            leg.renew_reply(node, client, delivery);
        }
        let Ok(follow_up) = FollowUp::decode(&payload) else {
            tracing::debug!("a follow-up cannot be read");
            return;
        };
        self.handle_candidates(call, device, &follow_up.candidates);
        if let Some(message) = follow_up.message {
            self.handle_signal(call, device, message);
        }
    }

    pub(super) fn handle_candidates(&mut self, call: CallId, device: DeviceId, candidates: &[u8]) {
        if candidates.is_empty() {
            return;
        }
        if let Some(leg) = self.leg(call, device) {
            leg.handle_candidates(candidates);
        }
    }
}

/// Pushes on a connection that is kept for one call.
pub(super) async fn read_pushes(client: NodeClient, inbox: mpsc::Sender<Internal>) {
    while let Ok(push) = client.next_push().await {
        if inbox.send(Internal::GuestPush(push)).await.is_err() {
            return;
        }
    }
}

/// Hands on what supernodes say after the first that knew somebody, and at last that all have spoken.
async fn read_rest(call: CallId, mut rest: Rest, inbox: mpsc::Sender<Internal>) {
    loop {
        let findings = rest.next().await;
        let over = findings.is_none();
        let found = Internal::FoundMore { call, findings };
        if inbox.send(found).await.is_err() || over {
            return;
        }
    }
}
