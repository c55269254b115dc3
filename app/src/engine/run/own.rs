//! The person's other devices: what they are told, and what they tell.

use ahoy_nat::home::Home;
use ahoy_transport::{
    identity::{
        DeviceSet as _, UserId,
        log::{DeviceLog, ForkProof, LogRelation},
    },
    runtime::RuntimeExt as _,
};

use super::Engine;
use crate::{
    chat::{
        MessageId,
        book::{ChatBook, Peer},
        note::{MAX_SHARED, Says},
        outbox::Outgoing,
    },
    engine::{
        handle::{Anomaly, Event},
        notice::Notice,
        renewal::ChangeError,
    },
    sync::{Entry, SyncBook},
};

/// Every so many ticks it is looked whether something was changed by others than the engine: five seconds.
const TICKS_PER_LOOK: u32 = 25;

impl Engine {
    /// The longest log of somebody that we know; our own is the one we are in.
    pub(in crate::engine) fn known_log(&self, user: UserId) -> Option<DeviceLog> {
        if user == self.config.me.user {
            Some(self.config.me.log.clone())
        } else {
            self.book.known_log(user)
        }
    }

    /// Somebody changed who we are: homes, whoever calls in this network and our other devices learn of it.
    pub(super) fn take_me(&mut self) {
        let before = self.config.me.log.head();
        self.config.me = self.me.borrow_and_update().clone();
        self.renew_door();
        if self.config.me.log.head() != before {
            self.homes.iter().for_each(Home::kick);
            self.tell_own_devices();
        }
    }

    pub(super) fn look_at_own(&mut self) {
        if self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.tell_own_devices();
        }
    }

    /// How letters to our other devices are marked: all have one capability, or will.
    pub(super) fn own_peers(&self) -> Vec<Peer> {
        let own = ChatBook(self.book.shelf()).drawn_capability();
        let Ok(Some(capability)) = own else {
            return Vec::new();
        };
        let homes = self.config.homes.iter().map(|(address, _addr)| address);
        let homes: Vec<_> = homes.cloned().collect();
        let devices = self.config.me.log.devices().iter();
        let peer = |device| Peer {
            device,
            capability: capability.clone(),
            homes: homes.clone(),
        };
        devices.map(|device| peer(device.device)).collect()
    }

    /// What was set here since goes to each of them, sealed, by our homes.
    pub(super) fn tell_own_devices(&mut self) {
        let me = self.config.me.keys.id();
        let others: Vec<_> = self.config.me.log.devices().iter().collect();
        let others: Vec<_> = others
            .into_iter()
            .map(|device| device.device)
            .filter(|device| *device != me)
            .collect();
        let (now, at_millis) = (self.runtime.now(), self.runtime.unix_millis());
        let user = self.config.me.user;
        for device in others {
            let untold = SyncBook(self.book.shelf()).untold(device);
            let untold = untold.inspect_err(|error| tracing::error!(%error, "own devices"));
            let Ok((entries, revision)) = untold else {
                return;
            };
            if entries.is_empty() || self.mail.outbox.has_room(user).is_err() {
                continue;
            }
            tracing::debug!(count = entries.len(), "another device is told");
            let mut kept = true;
            for shared in letters(&entries) {
                let note = self.note(user, at_millis, Vec::new(), Says::Shared(shared));
                let id = MessageId(self.runtime.random_array());
                let homes = self.config.homes.iter().map(|(address, _addr)| address);
                let homes = homes.cloned().collect();
                let entry = Outgoing::new(id, user, Some(device), at_millis, note.encode(), homes)
                    .awaiting();
                kept &= ChatBook(self.book.shelf()).put_outgoing(&entry).is_ok();
                self.mail.outbox.push(now, entry);
            }
            if kept {
                let told = self
                    .book
                    .shelf()
                    .change(vec![SyncBook::told(device, revision)]);
                told.unwrap_or_else(|error| tracing::error!(%error, "own devices"));
            }
        }
        self.post_due();
    }

    /// A device of ours did not fetch something in all its time: if it ever comes, it is told everything.
    pub(super) fn tell_again(&self, entry: &Outgoing) {
        if let Some(device) = entry.only.filter(|_device| entry.awaits) {
            let again = self.book.shelf().change(vec![SyncBook::told(device, 0)]);
            again.unwrap_or_else(|error| tracing::error!(%error, "own devices"));
        }
    }

    /// Another device of ours shows a log: what is new in it holds here, too.
    pub(in crate::engine) fn take_own_log(&self, log: &[u8]) {
        let me = &self.config.me;
        let Ok(log) = DeviceLog::from_bytes(me.user, log) else {
            return;
        };
        if me.log.compare(&log) != LogRelation::Extends {
            return;
        }
        let is_member = log.has_device(me.keys.id(), &me.keys.noise_public());
        let now_millis = self.runtime.unix_millis();
        match self
            .renewer
            .change(|identity| identity.adopt(log, now_millis))
        {
            Ok(()) if is_member => tracing::info!("the list of your devices has changed"),
            Ok(()) => self.tell_person(Notice::TakenOut),
            Err(ChangeError::Fixed) => {}
            Err(error) => tracing::error!(%error, "a longer device log cannot be taken"),
        }
    }

    /// Another device of ours says what it knows. `false`: it is not understood.
    pub(super) fn take_shared(&mut self, shared: &[u8]) -> bool {
        let entries = match Entry::read_all(shared) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::info!(%error, "what another device shares cannot be read");
                return false;
            }
        };
        let now_millis = self.runtime.unix_millis();
        let before = self.book.own_capability();
        if self.book.take_synced(&entries, now_millis) {
            if self.book.own_capability() != before {
                self.homes.iter().for_each(Home::kick);
            }
            self.people = super::People::read(&*self.book);
            self.show();
        }
        true
    }

    /// Somebody shows another device log than we know: the proof is kept, and the person told.
    pub(in crate::engine) fn tell_fork(&self, proof: &ForkProof) {
        self.book.keep_fork(proof);
        let notice = if proof.user() == self.config.me.user {
            Notice::OwnFork
        } else {
            Notice::Fork {
                name: self.book.display_name(proof.user(), ""),
            }
        };
        self.tell_anomaly(Anomaly::ForkedList, notice);
    }

    /// Tells of something that somebody may be behind.
    pub(in crate::engine) fn tell_anomaly(&self, kind: Anomaly, notice: Notice) {
        let sentence = notice.to_string();
        self.publish(Event::Anomaly { kind, sentence });
        self.tell_person(notice);
    }

    /// Something that nobody asked for and everybody has to know: no command failed by it.
    pub(in crate::engine) fn tell_person(&self, notice: Notice) {
        tracing::warn!("{notice}");
        self.view.send_modify(|view| view.notice = Some(notice));
    }
}

/// Entries in as many letters as they need.
fn letters(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut letters: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        match letters.last_mut() {
            Some(letter) if letter.len() + entry.max_len() <= MAX_SHARED => entry.put(letter),
            Some(_) | None => {
                let mut letter = Vec::new();
                entry.put(&mut letter);
                letters.push(letter);
            }
        }
    }
    letters
}
