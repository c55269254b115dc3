//! Files: the letters that offer them, and sessions that carry them alone.
//!
//! Where no call goes on with somebody who has a file that is wanted, a session is made as for a call: looked up, offered,
//! by relay and directly. Nothing rings: the other side takes it when it is a contact's, and for a file that it knows.

use std::path::PathBuf;

use ahoy_transport::{
    identity::{DeviceId, UserId},
    runtime::RuntimeExt as _,
    sealed::{Admission, CallEnvelopes, OpenedOffer, Role, Standing},
};

use super::{Engine, Slot, mail::told};
use crate::{
    call::{CallId, SessionEvent},
    chat::{MessageId, note::Says},
    engine::{
        book::{Person, Welcome},
        files::{FilesNews, LineId, ToFiles},
        handle::Event,
        leg::{Leg, Way},
        notice::Notice,
    },
    files::{Capability, Root, TransferId, book::Transfer, wire::Tag},
    signal::{FilesOffer, Signal, SignalMessage},
};

/// Sessions for files alone that we look for others with, and that others may have with us.
const MAX_PLACED: usize = 6;
const MAX_TAKEN: usize = 12;

/// A session for files alone, with each device of one person.
#[derive(Debug)]
pub(super) struct FileLink {
    user: UserId,
    /// What we want; nothing: we were asked.
    wanted: Vec<(Root, Capability)>,
}

impl FileLink {
    /// What a device is asked.
    pub(super) fn offer(&self, asking: DeviceId, asked: DeviceId) -> FilesOffer {
        let tags = self
            .wanted
            .iter()
            .map(|(root, capability)| Tag::new(capability, root, asking, asked));
        FilesOffer {
            tags: tags.collect(),
        }
    }

    fn is_placed(&self) -> bool {
        !self.wanted.is_empty()
    }
}

impl Engine {
    pub(super) fn send_file(&self, id: TransferId, to: &str, path: PathBuf) {
        let person = match self.book.find(to) {
            Ok(person) => person,
            Err(notice) => return self.fail(notice),
        };
        let user = person.user;
        if !self.book.is_contact(user) {
            return self.fail(Notice::FilesToContacts);
        }
        self.files.tell(ToFiles::Send { id, user, path });
    }

    pub(super) fn handle_files(&mut self, news: FilesNews) {
        match news {
            FilesNews::Ready(transfer) => self.offer_file(&transfer),
            FilesNews::Failed(refused) => self.fail(refused),
            FilesNews::Unwanted(user, id) => self.tell_unwanted(user, id),
            FilesNews::Need(user, wanted) => self.place_link(user, wanted),
            FilesNews::Idle(line) => self.end_link(line),
            FilesNews::Taken(line, tag) => {
                let participant = self.config.me.keys.id();
                let LineId { call, device } = line;
                if let Some(leg) = self.leg(call, device) {
                    let signal = Signal::FileTaken(tag);
                    leg.send_signal(SignalMessage {
                        call,
                        participant,
                        signal,
                    });
                }
            }
            FilesNews::Shown(all, changed) => {
                self.view.send_modify(|view| view.files = all.into());
                for transfer in changed {
                    self.publish(Event::File(Box::new(transfer)));
                }
            }
        }
    }

    /// A file of ours is read through: its letter goes.
    fn offer_file(&mut self, transfer: &Transfer) {
        let user = transfer.user;
        if let Err(full) = self.mail.outbox.has_room(user) {
            return self.fail(full);
        }
        let says = Says::File(transfer.offer.clone());
        self.write_about_file(user, MessageId(transfer.id.0), transfer.at_millis, says);
    }

    /// Whoever offered a file that nobody wants here does not wait for ever.
    fn tell_unwanted(&mut self, user: UserId, id: TransferId) {
        if !self.shares_files(user) || self.mail.outbox.has_room(user).is_err() {
            return;
        }
        let letter = MessageId(self.runtime.random_array());
        let says = Says::Unwanted(MessageId(id.0));
        let now_millis = self.runtime.unix_millis();
        self.write_about_file(user, letter, now_millis, says);
    }

    fn write_about_file(&mut self, user: UserId, id: MessageId, at_millis: u64, says: Says) {
        let person = self.person(user);
        let entry = self.outgoing(id, &person, at_millis, says);
        if told(self.chat().put_outgoing(&entry)).is_some() {
            self.mail.outbox.push(self.runtime.now(), entry);
            self.post_due();
        }
    }

    /// Somebody by key: where they may be is what we know of them.
    pub(super) fn person(&self, user: UserId) -> Person {
        let known = self.book.find(&format!("ahoy:{user}")).ok();
        let peers = told(self.chat().peers(user)).unwrap_or_default();
        let mut homes = known.map(|person| person.homes).unwrap_or_default();
        if user == self.config.me.user {
            homes.extend(self.config.homes.iter().map(|(address, _)| address.clone()));
        }
        for home in peers.into_iter().flat_map(|peer| peer.homes) {
            if homes.iter().all(|known| known.node != home.node) {
                homes.push(home);
            }
        }
        Person {
            user,
            name: self.book.display_name(user, ""),
            contact: self.book.is_contact(user),
            homes,
            invite: None,
        }
    }

    /// Whether files go between this person and us: a contact, or ourselves.
    pub(super) fn shares_files(&self, user: UserId) -> bool {
        user == self.config.me.user || self.book.is_contact(user)
    }

    // --- sessions for files alone ----------------------------------------------------------------

    fn place_link(&mut self, user: UserId, wanted: Vec<(Root, Capability)>) {
        let alone = user == self.config.me.user && self.config.me.log.devices().iter().count() < 2;
        let placed = self.file_links.values().filter(|link| link.is_placed());
        let has_room = placed.clone().count() < MAX_PLACED;
        let is_known = placed.clone().any(|link| link.user == user);
        if alone || is_known || !has_room || wanted.is_empty() || !self.shares_files(user) {
            return;
        }
        let call = CallId(self.runtime.random_array());
        let now = self.runtime.now();
        let person = self.person(user);
        let mut slot = Slot::new(now, user, person.name.clone());
        slot.person = Some(person);
        self.file_links.insert(call, FileLink { user, wanted });
        self.insert_slot(call, slot);
        self.start_look_up(call, user);
    }

    /// Devices of whoever has what we want.
    pub(super) fn link_found(&mut self, call: CallId, devices: &[DeviceId]) {
        let me = self.config.me.keys.id();
        for device in devices.iter().filter(|device| **device != me) {
            self.send_offer(call, *device);
        }
        self.look_at_link(call);
    }

    /// Gives a link up that has nobody and waits for nobody.
    fn look_at_link(&mut self, call: CallId) {
        let Some(slot) = self.slots.get(&call) else {
            return;
        };
        if slot.legs.is_empty() && slot.searching.is_none() {
            let user = slot.user;
            self.forget(call);
            self.files.tell(ToFiles::Unreachable(user));
        }
    }

    /// Something happened to a session for files alone.
    pub(super) fn link_session(
        &mut self,
        call: CallId,
        device: DeviceId,
        event: Option<SessionEvent>,
    ) {
        match event {
            Some(SessionEvent::Connected) => {
                let line = self.leg(call, device).and_then(Leg::open_files);
                if let Some(line) = line {
                    tracing::debug!(?call, "files may pass");
                    self.files.tell(ToFiles::Up(line));
                }
            }
            Some(SessionEvent::Ended(_)) => {
                if let Some(slot) = self.slots.get_mut(&call) {
                    slot.legs.remove(&device);
                }
                self.look_at_link(call);
            }
            Some(SessionEvent::Reconnecting | SessionEvent::Restored) | None => {}
        }
    }

    fn end_link(&mut self, line: LineId) {
        if !self.file_links.contains_key(&line.call) {
            return;
        }
        if let Some(slot) = self.slots.get_mut(&line.call)
            && let Some(mut leg) = slot.legs.remove(&line.device)
        {
            leg.close();
        }
        let is_empty = self
            .slots
            .get(&line.call)
            .is_none_or(|slot| slot.legs.is_empty());
        if is_empty {
            self.forget(line.call);
        }
    }

    /// Somebody wants a file of ours, and a session for that.
    pub(super) fn handle_files_offer(&mut self, opened: &OpenedOffer, way: Way) {
        let caller = opened.sender;
        let (user, device) = (caller.user(), caller.device());
        let now_millis = self.runtime.unix_millis();
        let welcome = self.book.welcome(&caller, &[], now_millis);
        let me = self.config.me.keys.id();
        let Ok(offer) = FilesOffer::decode(&opened.offer.offer) else {
            tracing::info!("what is asked about files cannot be read");
            return;
        };
        let may =
            user == self.config.me.user || (self.book.is_contact(user) && welcome != Welcome::Drop);
        // As if nobody were here: who may not ask learns nothing, and who asks for what we do not have neither.
        if !may || !self.files.is_known(me, device, &offer.tags) {
            tracing::debug!("a question about files is not answered");
            return;
        }
        let call = CallId(opened.offer.call_id);
        let secret = opened.offer.secret.clone();
        let tag = CallEnvelopes::tag_of(&secret, &call.0);
        let now = self.runtime.now();
        let admitted = self.guard.admit(now, device, call.0, tag, Standing::Known);
        let early = match admitted {
            Admission::New { early } => early,
            Admission::Duplicate => {
                let leg = self.leg(call, device).filter(|leg| leg.tag() == tag);
                if let Some(leg) = leg {
                    leg.add_way(way);
                }
                return;
            }
            Admission::Full => return,
        };
        let taken = self.file_links.iter().filter(|(_, link)| !link.is_placed());
        let from_them = taken.clone().filter(|(_, link)| link.user == user);
        // A new one from the same device takes the place of one that is stuck.
        let stale = from_them.clone().find(|(call, _)| {
            let slot = self.slots.get(call);
            slot.is_some_and(|slot| slot.legs.contains_key(&device))
        });
        let stale = stale.map(|(call, _)| *call);
        if taken.count() >= MAX_TAKEN && stale.is_none() {
            tracing::warn!("too many want files at once");
            return;
        }
        if let Some(stale) = stale {
            self.forget(stale);
        }
        let name = self.book.display_name(user, "");
        let context = self.leg_context(call, caller, None);
        let mut leg = Leg::new(context, Role::Callee, secret, vec![way]);
        leg.open();
        let mut slot = Slot::new(now, user, name);
        slot.legs.insert(device, leg);
        let wanted = Vec::new();
        self.file_links.insert(call, FileLink { user, wanted });
        self.insert_slot(call, slot);
        self.tags.insert(tag, (call, device));
        self.handle_candidates(call, device, &opened.offer.candidates);
        for envelope in early {
            self.handle_follow_up(tag, &envelope, None);
        }
    }
}
