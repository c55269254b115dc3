//! Messages and missed calls as they are written, sent and read.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::supernode::mailbox::MailCapability;
use ahoy_transport::{
    identity::{DeviceSet as _, NodeAddress, NodeId, UserId, VerifiedDevice, log::DeviceLog},
    runtime::{RuntimeExt, timeout},
    sealed::{OpenedLetter, open_letter},
};
use rand_chacha::rand_core::RngCore;
use tokio::sync::mpsc;

use super::{Engine, Internal, People};
use crate::{
    call::{CallId, Direction, EndedCall, Ending, Side, Unreachable},
    chat::{
        Content, Line, Message, MessageId, MessageState,
        book::{ChatBook, Peer, Received},
        clean_text,
        note::{MAX_RECEIPT, Note, Says},
        outbox::{Change, MAX_PLACES, Outbox, Outgoing},
        shelf::ShelfError,
    },
    engine::{
        book::{Person, Welcome},
        directory::Directory,
        files::ToFiles,
        handle::Event,
        mail::{Delivery, Post, Posted, fetch, post},
        notice::Notice,
    },
    files::TransferId,
    signal::{Signal, SignalMessage},
};

/// Calls that rang here, so that nobody is told of them twice.
const MAX_RUNG: usize = 64;

/// Copies of a letter come from each home within seconds: one answer is enough for so long.
const ANSWERED: Duration = Duration::from_secs(60);
/// A program that ends waits so long for what is just being sent: a home that is there has it within two round trips.
const LAST_POST: Duration = Duration::from_secs(2);
/// Letters that were answered lately.
const MAX_ANSWERED: usize = 512;

/// What the engine keeps about letters.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) outbox: Outbox,
    rung: VecDeque<CallId>,
    answered: VecDeque<(MessageId, Instant)>,
    fetching: BTreeSet<NodeId>,
    /// Something came while we were fetching.
    again: BTreeSet<NodeId>,
}

impl Mail {
    /// Nothing is to be sent yet. `every_device`: see [`crate::engine::config::Upkeep::every_device`].
    pub(super) fn new(every_device: bool) -> Self {
        let outbox = Outbox::default();
        Self {
            outbox: if every_device {
                outbox
            } else {
                outbox.of_first_devices()
            },
            ..Self::default()
        }
    }

    /// Nothing more is sent to this person.
    pub(super) fn forget(&mut self, user: UserId) {
        self.outbox.forget(user);
    }
}

/// A shelf that fails must not lose a letter: it stays where it is.
pub(super) fn told<T>(result: Result<T, ShelfError>) -> Option<T> {
    result
        .inspect_err(|error| tracing::error!(%error, "conversations cannot be kept"))
        .ok()
}

impl Engine {
    pub(super) fn chat(&self) -> ChatBook<'_> {
        ChatBook(self.book.shelf())
    }

    /// Takes up what was to be sent when the program ended.
    pub(super) fn open_mail(&mut self) {
        let now = self.runtime.now();
        for entry in told(self.chat().outgoing()).unwrap_or_default() {
            self.mail.outbox.push(now, entry);
        }
    }

    // --- writing ---------------------------------------------------------------------------------

    pub(super) fn write_message(&mut self, id: MessageId, to: &str, text: &str) {
        let person = match self.book.find(to) {
            Ok(person) => person,
            Err(notice) => return self.fail(notice),
        };
        if person.user == self.config.me.user {
            return self.fail(Notice::OwnLink);
        }
        let text = clean_text(text);
        if text.is_empty() {
            return self.fail(Notice::NothingToSay);
        }
        if let Err(full) = self.mail.outbox.has_room(person.user) {
            return self.fail(full);
        }
        let at_millis = self.runtime.unix_millis();
        let says = Says::Text(text.clone());
        let entry = self.outgoing(id, &person, at_millis, says);
        let message = Message {
            id,
            user: person.user,
            at_millis,
            content: Content::Text(text),
            line: Line::Sent(MessageState::Queued(None)),
        };
        if let Err(error) = self.chat().write(&message, &entry) {
            return self.fail(Notice::MessageNotKept(error.to_string()));
        }
        self.publish(Event::MessageState {
            id,
            to: person.user,
            name: person.name,
            state: MessageState::Queued(None),
        });
        self.conversation_changed(person.user);
        self.mail.outbox.push(self.runtime.now(), entry);
        self.post_due();
    }

    /// Leaves word of a call of ours that nobody answered.
    pub(super) fn leave_word(&mut self, ended: &EndedCall, person: Option<&Person>) {
        let unanswered = match ended.ending {
            Ending::NoAnswer
            | Ending::Cancelled { by: Side::Local }
            | Ending::Unreachable(
                Unreachable::Offline
                | Unreachable::HomeBusy
                | Unreachable::Flooded
                | Unreachable::NoRoute,
            ) => true,
            Ending::Unreachable(
                Unreachable::Unknown | Unreachable::Untrusted | Unreachable::Private,
            )
            | Ending::Completed { .. }
            | Ending::Declined { .. }
            | Ending::Busy
            | Ending::Cancelled { by: Side::Remote }
            | Ending::AnsweredElsewhere
            | Ending::DeclinedElsewhere
            | Ending::Lost(_)
            | Ending::Failed(_)
            | Ending::Merged { .. } => false,
        };
        let Some(person) = person else { return };
        if !unanswered
            || ended.direction != Direction::Outgoing
            || ended.timeline.accepted.is_some()
            || self.mail.outbox.has_room(person.user).is_err()
        {
            return;
        }
        let now = self.runtime.now();
        let ago = now.saturating_duration_since(ended.timeline.started);
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let at_millis = self.runtime.unix_millis().saturating_sub(ago);
        let id = MessageId(self.runtime.random_array());
        let entry = self.outgoing(id, person, at_millis, Says::MissedCall(ended.call));
        if told(self.chat().put_outgoing(&entry)).is_some() {
            self.mail.outbox.push(now, entry);
            self.post_due();
        }
    }

    pub(super) fn outgoing(
        &mut self,
        id: MessageId,
        person: &Person,
        at_millis: u64,
        says: Says,
    ) -> Outgoing {
        let invite = person.invite.as_ref().map(|invite| {
            let proof = invite.present(person.user, self.config.me.keys.id());
            proof.to_bytes()
        });
        let invite = invite.unwrap_or_default();
        let peers = told(self.chat().peers(person.user)).unwrap_or_default();
        let told_by_them = peers.iter().flat_map(|peer| &peer.homes);
        let homes = places(person.homes.iter().chain(told_by_them));
        let note = self.note(person.user, at_millis, invite, says).encode();
        Outgoing::new(id, person.user, None, at_millis, note, homes)
    }

    /// Contacts learn how to reach our boxes, and nobody else.
    pub(super) fn note(&mut self, to: UserId, at_millis: u64, invite: Vec<u8>, says: Says) -> Note {
        let is_contact = self.book.is_contact(to);
        let own = ChatBook(self.book.shelf()).own_capability(&mut self.rng);
        let capability = told(own).filter(|_| is_contact);
        let homes = self.config.homes.iter().map(|(address, _addr)| address);
        Note {
            written_at_millis: at_millis,
            name: self.config.me.name.clone(),
            invite,
            homes: if capability.is_some() {
                homes.cloned().collect()
            } else {
                Vec::new()
            },
            capability,
            says,
        }
    }

    // --- sending ---------------------------------------------------------------------------------

    /// Whatever is only here so far is tried at once.
    pub(super) fn hurry_mail(&mut self) {
        self.mail.outbox.hurry(self.runtime.now());
        self.post_due();
    }

    /// Sends what is due.
    pub(super) fn post_due(&mut self) {
        let now = self.runtime.now();
        if self.mail.outbox.is_empty() {
            return;
        }
        for change in self.mail.outbox.take_expired(self.runtime.unix_millis()) {
            self.settle(&change);
        }
        while let Some(entry) = self.mail.outbox.poll_post(now) {
            let is_own = entry.user == self.config.me.user;
            let peers = if is_own {
                self.own_peers()
            } else {
                told(self.chat().peers(entry.user)).unwrap_or_default()
            };
            let told_by_them = peers.iter().flat_map(|peer| &peer.homes);
            let mut directories: Vec<Directory> = places(entry.homes.iter().chain(told_by_them))
                .into_iter()
                .map(|address| self.directory(address))
                .collect();
            if directories.is_empty() {
                // A person without known homes may share one of ours.
                let ours = self.config.homes.iter().map(|(address, _addr)| address);
                directories = ours
                    .cloned()
                    .map(|address| self.directory(address))
                    .collect();
            }
            let job = Post {
                directories,
                known: self.known_log(entry.user),
                peers,
                me: self.config.me.clone(),
                entry,
                desk: self.bench.desk().as_for_one(),
            };
            let (runtime, endpoint, inbox) = (
                Arc::clone(&self.runtime),
                self.endpoint.clone(),
                self.inbox.clone(),
            );
            let settled = self.book.settled();
            self.runtime
                .spawn_task(async move {
                    // A receipt says that something is kept.
                    settled.await;
                    let posted = Internal::Posted(post(runtime, endpoint, job).await);
                    // The engine is gone: the letter is tried again when it runs next.
                    inbox.send(posted).await.unwrap_or_default();
                })
                .detach();
        }
    }

    fn directory(&self, address: NodeAddress) -> Directory {
        match self.home(address.node) {
            Some(up) => Directory::Home(address, up.client.clone()),
            None => Directory::Guest(address, self.config.reaching()),
        }
    }

    /// What devices the person has, as far as we know: a message is to reach each of them.
    fn learn_devices(&mut self, user: UserId) {
        let log = self.known_log(user);
        let devices = log.iter().flat_map(DeviceLog::devices);
        let devices = devices.map(|device| device.device).collect();
        self.mail.outbox.learn_devices(user, devices);
    }

    pub(super) fn handle_posted(&mut self, posted: Posted) {
        for log in &posted.logs {
            self.book.keep_log(log);
        }
        let users: BTreeSet<UserId> = posted.logs.iter().map(|log| log.user()).collect();
        for user in users {
            self.learn_devices(user);
        }
        let now = self.runtime.now();
        let draw = self.rng.next_u32();
        let Posted {
            id,
            attempt,
            sealed,
            ..
        } = posted;
        let change = self
            .mail
            .outbox
            .handle_posted(now, id, attempt, sealed, draw);
        if let Some(change) = change {
            self.settle(&change);
        }
        self.post_due();
    }

    /// Keeps and tells what became of something that was to be sent.
    fn settle(&mut self, change: &Change) {
        let Change {
            entry,
            state,
            done,
            is_news,
        } = change;
        let left = (!done).then_some(entry);
        told(self.chat().settle(entry.user, entry.id, *state, left));
        if *state == MessageState::Expired {
            self.tell_again(entry);
        }
        if entry.only.is_none() && *is_news {
            self.publish(Event::MessageState {
                id: entry.id,
                to: entry.user,
                name: self.book.display_name(entry.user, ""),
                state: *state,
            });
            self.conversation_changed(entry.user);
        }
    }

    // --- reading ---------------------------------------------------------------------------------

    /// Something waits at a home.
    pub(super) fn fetch_mail(&mut self, node: NodeId) {
        let Some(up) = self.home(node) else { return };
        if !self.mail.fetching.insert(node) {
            self.mail.again.insert(node);
            return;
        }
        let fetching = fetch(
            Arc::clone(&self.runtime),
            up.client.clone(),
            node,
            self.inbox.clone(),
        );
        self.runtime.spawn_task(fetching).detach();
    }

    pub(super) fn handle_fetched(&mut self, node: NodeId) {
        self.mail.fetching.remove(&node);
        if self.mail.again.remove(&node) {
            self.fetch_mail(node);
        }
    }

    pub(super) fn handle_letters(&mut self, delivery: Delivery) {
        let mut taken = Vec::new();
        let mut arrived: Vec<(VerifiedDevice, Vec<NodeAddress>, MessageId)> = Vec::new();
        for letter in delivery.letters {
            if self.read_letter(&letter.envelope, &mut arrived) {
                taken.push(letter.id);
            }
        }
        let settled = self.book.settled();
        let kept = async move {
            settled.await;
            // Whoever fetches is gone: it fetches them again.
            delivery.taken.send(taken).unwrap_or_default();
        };
        self.runtime.spawn_task(kept).detach();
        self.send_receipts(arrived);
    }

    /// Reads a letter. `false`: it could not be kept, and shall stay where it is.
    fn read_letter(
        &mut self,
        envelope: &[u8],
        arrived: &mut Vec<(VerifiedDevice, Vec<NodeAddress>, MessageId)>,
    ) -> bool {
        let now_millis = self.runtime.unix_millis();
        let opened = open_letter(envelope, &self.config.me.keys, now_millis, |letter| {
            let head = letter.log_head;
            self.judge_sender(&letter.certificate, &letter.log, head, now_millis)
        });
        let OpenedLetter { sender, letter } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::info!(%error, "a letter is refused");
                return true;
            }
        };
        let note = match Note::decode(&letter.body) {
            Ok(note) => note,
            Err(error) => {
                tracing::info!(%error, "a letter cannot be read");
                return true;
            }
        };
        let user = sender.user();
        let is_own = user == self.config.me.user;
        if is_own {
            self.take_own_log(&letter.log);
        }
        if let Says::Receipt(ids) = &note.says {
            // Whom we wrote to may answer, whoever it is to us.
            self.learn_devices(user);
            for id in ids {
                let device = (user, sender.device());
                for change in self.mail.outbox.handle_receipt(device, *id, now_millis) {
                    self.settle(&change);
                }
            }
        }
        if is_own {
            if let Says::Shared(entries) = &note.says
                && self.take_shared(entries)
            {
                arrived.push((sender, note.homes, MessageId(letter.id)));
            }
            return true;
        }
        let stranger = match self.book.welcome(&sender, &note.invite, now_millis) {
            Welcome::Ring => false,
            Welcome::Inbox => true,
            // As if nobody were here.
            Welcome::Drop => return true,
        };
        if let Some(capability) = &note.capability {
            self.keep_pass(&sender, capability.clone(), note.homes.clone());
        }
        let id = MessageId(letter.id);
        let content = match note.says {
            // The second one: not our business.
            Says::Receipt(_) | Says::Shared(_) => return true,
            // Files are between people who know each other.
            Says::File(_) | Says::Unwanted(_) if stranger => return true,
            Says::Unwanted(offer) => {
                let file = TransferId(offer.0);
                self.files.tell(ToFiles::Unwanted(file, user));
                arrived.push((sender, note.homes, id));
                return true;
            }
            Says::File(offer) => {
                self.files.tell(ToFiles::Came {
                    id: TransferId(id.0),
                    user,
                    at_millis: note.written_at_millis.min(now_millis),
                    offer,
                });
                arrived.push((sender, note.homes, id));
                return true;
            }
            Says::Text(text) => Content::Text(clean_text(&text)),
            Says::MissedCall(call) => {
                if self.mail.rung.contains(&call) {
                    arrived.push((sender, note.homes, id));
                    return true;
                }
                Content::MissedCall
            }
        };
        if content == Content::Text(String::new()) {
            return true;
        }
        let message = Message {
            id,
            user,
            at_millis: note.written_at_millis.min(now_millis),
            content,
            line: Line::Received,
        };
        if stranger && !self.admit_stranger(&sender, &note.name, &letter.log) {
            return true;
        }
        let Some(received) = told(self.chat().receive(&message, stranger)) else {
            return false;
        };
        if received == Received::New {
            tracing::debug!(?user, stranger, "a letter");
            self.publish(Event::Message {
                name: self.book.display_name(user, &note.name),
                message,
                request: stranger,
            });
            self.conversation_changed(user);
        }
        // A copy, too: the sender may not have heard.
        if self.book.is_contact(user) {
            arrived.push((sender, note.homes, id));
        }
        true
    }

    /// A contact's device tells how to reach its boxes.
    pub(super) fn keep_pass(
        &self,
        device: &VerifiedDevice,
        capability: MailCapability,
        homes: Vec<NodeAddress>,
    ) {
        if self.book.is_contact(device.user()) {
            let peer = Peer {
                device: device.device(),
                capability,
                homes,
            };
            told(self.chat().keep_peer(device.user(), &peer));
        }
    }

    /// Tells a contact whom we talk with how to reach our boxes.
    pub(super) fn tell_pass(&mut self, call: CallId) {
        let participant = self.config.me.keys.id();
        let Some(slot) = self.slots.get(&call) else {
            return;
        };
        let Some((to, _media)) = &slot.media else {
            return;
        };
        let (user, to) = (slot.user, *to);
        if !self.config.mailbox || !self.book.is_contact(user) {
            return;
        }
        let own = ChatBook(self.book.shelf()).own_capability(&mut self.rng);
        let Some(capability) = told(own) else { return };
        let homes = self.config.homes.iter().map(|(address, _addr)| address);
        let homes = homes.cloned().collect();
        if let Some(leg) = self.leg(call, to) {
            leg.send_signal(SignalMessage {
                call,
                participant,
                signal: Signal::MailPass { capability, homes },
            });
        }
    }

    /// Whatever is just being sent may go before the program ends.
    pub(super) async fn finish_mail(&mut self, happenings: &mut mpsc::Receiver<Internal>) {
        let runtime = Arc::clone(&self.runtime);
        let sent = async {
            while self.mail.outbox.is_posting() {
                match happenings.recv().await {
                    Some(Internal::Posted(posted)) => self.handle_posted(posted),
                    Some(_other) => {}
                    None => return,
                }
            }
        };
        if timeout(&*runtime, LAST_POST, sent).await.is_none() {
            tracing::debug!("letters go when ahoy runs next");
        }
    }

    /// A stranger writes into the request inbox, if there is room.
    fn admit_stranger(&mut self, sender: &VerifiedDevice, name: &str, log: &[u8]) -> bool {
        let now_millis = self.runtime.unix_millis();
        if !self.book.request(sender, name, log, now_millis) {
            tracing::debug!("the request inbox takes no more strangers today");
            return false;
        }
        self.people = People::read(&*self.book);
        let known: BTreeSet<UserId> = self
            .people
            .requests
            .iter()
            .map(|request| request.user)
            .chain(self.people.contacts.iter().map(|contact| contact.user))
            .collect();
        told(self.chat().forget_strangers(|user| known.contains(&user)));
        true
    }

    /// Tells contacts what arrived, each of their devices in one letter.
    fn send_receipts(&mut self, arrived: Vec<(VerifiedDevice, Vec<NodeAddress>, MessageId)>) {
        let now = self.runtime.now();
        let at_millis = self.runtime.unix_millis();
        let mut rest = arrived;
        let answered = &mut self.mail.answered;
        answered.retain(|(_id, at)| now.saturating_duration_since(*at) < ANSWERED);
        rest.retain(|(_sender, _homes, id)| answered.iter().all(|(known, _at)| known != id));
        answered.extend(rest.iter().map(|(_sender, _homes, id)| (*id, now)));
        while answered.len() > MAX_ANSWERED {
            answered.pop_front();
        }
        while let Some((first, homes, _id)) = rest.first() {
            let (to, homes) = (*first, homes.clone());
            let is_it =
                |other: &VerifiedDevice| (other.user(), other.device()) == (to.user(), to.device());
            let (these, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|(sender, ..)| is_it(sender));
            rest = others;
            if self.mail.outbox.has_room(to.user()).is_err() {
                continue;
            }
            let ids: Vec<MessageId> = these.into_iter().map(|(_, _, id)| id).collect();
            for ids in ids.chunks(MAX_RECEIPT) {
                let says = Says::Receipt(ids.to_vec());
                let note = self.note(to.user(), at_millis, Vec::new(), says).encode();
                let id = MessageId(self.runtime.random_array());
                let only = Some(to.device());
                let entry = Outgoing::new(id, to.user(), only, at_millis, note, homes.clone());
                told(self.chat().put_outgoing(&entry));
                self.mail.outbox.push(now, entry);
            }
        }
        self.post_due();
    }

    /// A call rings here, or would: its caller need not leave word of it.
    pub(super) fn note_rung(&mut self, call: CallId) {
        let rung = &mut self.mail.rung;
        if rung.len() >= MAX_RUNG {
            rung.pop_front();
        }
        rung.push_back(call);
    }
}

/// Each home once, and not more of them than are asked at once.
fn places<'a>(homes: impl Iterator<Item = &'a NodeAddress>) -> Vec<NodeAddress> {
    let mut places: Vec<NodeAddress> = Vec::new();
    for home in homes {
        if places.len() < MAX_PLACES && places.iter().all(|known| known.node != home.node) {
            places.push(home.clone());
        }
    }
    places
}
