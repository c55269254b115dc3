//! An address book that is gone with the process: for demonstrations and simulations.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ahoy_nat::discovery::record::{Record, RecordCache};
use ahoy_transport::identity::{
    DeviceSet, NodeAddress, UserId, VerifiedDevice,
    log::{DeviceLog, ForkProof, LogRelation},
};

use super::{
    book::{AddressBook, Person, Welcome},
    handle::{ContactView, RequestView},
    notice::Notice,
    people::PeopleChange,
};
use crate::{
    backup,
    call::{CallId, EndedCall},
    chat::shelf::{MemoryShelf, Shelf},
    contacts::{CallRecord, Contact, Ring},
    link::{self, PersonLink},
    sync::{self, Entry, Standing, SyncBook, Synced},
};

/// Strangers remembered; more are turned away.
const MAX_REQUESTS: usize = 20;
/// People whose logs are remembered.
const MAX_LOGS: usize = 10_000;
/// Calls remembered.
const MAX_CALLS: usize = 100;

/// People, in memory.
#[derive(Debug)]
pub struct MemoryBook {
    me: UserId,
    name: String,
    state: Mutex<State>,
    shelf: MemoryShelf,
    sequence: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    contacts: BTreeMap<UserId, String>,
    blocked: Vec<UserId>,
    logs: BTreeMap<UserId, DeviceLog>,
    requests: Vec<RequestView>,
    /// The owner's, where it is not the first any more.
    renamed: Option<String>,
    /// The newest first.
    calls: VecDeque<CallRecord>,
    records: Option<RecordCache>,
    nodes: Vec<NodeAddress>,
    node_table: Option<Vec<u8>>,
    reputation: Option<Vec<u8>>,
    witnesses: Vec<u8>,
    forks: Vec<UserId>,
    own_capability: Option<[u8; 32]>,
    capabilities: BTreeMap<UserId, [u8; 32]>,
    rings: BTreeMap<UserId, Ring>,
    relay_only: BTreeSet<UserId>,
}

impl MemoryBook {
    /// An empty book of `me`, who is called `name`.
    #[must_use]
    pub fn new(me: UserId, name: &str) -> Self {
        Self {
            me,
            name: name.to_owned(),
            state: Mutex::default(),
            shelf: MemoryShelf::default(),
            sequence: AtomicU64::new(1),
        }
    }

    /// Adds a contact.
    pub fn add_contact(&self, user: UserId, name: &str) {
        self.lock().contacts.insert(user, name.to_owned());
    }

    /// Adds a contact, as a person does: other devices of ours are told. Returns whether that could be noted.
    #[must_use]
    pub fn note_contact(&self, user: UserId, name: &str, now_millis: u64) -> bool {
        let contact = Contact {
            user,
            name: name.to_owned(),
            added_at_millis: now_millis,
            verified_at_millis: None,
            relay_only: false,
            ring: self.ring(user),
            homes: Vec::new(),
            invite: None,
        };
        let noted = SyncBook(&self.shelf).contact_noted(&contact, now_millis);
        self.add_contact(user, name);
        noted.and_then(|noted| self.shelf.change(noted)).is_ok()
    }

    /// Blocks somebody, as a person does: other devices of ours are told. Returns whether that could be noted.
    #[must_use]
    pub fn note_block(&self, user: UserId, now_millis: u64) -> bool {
        let noted = SyncBook(&self.shelf).standing_noted(user, Standing::Blocked, now_millis);
        self.lock().contacts.remove(&user);
        self.block(user);
        noted.and_then(|noted| self.shelf.change(noted)).is_ok()
    }

    /// Whether somebody is blocked.
    #[must_use]
    pub fn is_blocked(&self, user: UserId) -> bool {
        self.lock().blocked.contains(&user)
    }

    /// What witnesses signed of our list, one after another.
    #[must_use]
    pub fn witnesses(&self) -> Vec<u8> {
        self.lock().witnesses.clone()
    }

    /// People of whom there are two lists.
    #[must_use]
    pub fn forked(&self) -> Vec<UserId> {
        self.lock().forks.clone()
    }

    /// What we give to contacts.
    pub fn set_own_capability(&self, capability: [u8; 32]) {
        self.lock().own_capability = Some(capability);
    }

    /// What `user` gave to us.
    pub fn set_capability_of(&self, user: UserId, capability: [u8; 32]) {
        self.lock().capabilities.insert(user, capability);
    }

    /// From now on, nobody is there for `user`.
    pub fn block(&self, user: UserId) {
        self.lock().blocked.push(user);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AddressBook for MemoryBook {
    fn find(&self, target: &str) -> Result<Person, Notice> {
        let link: PersonLink = target.parse()?;
        Ok(Person {
            user: link.user,
            name: self.display_name(link.user, link.name.as_deref().unwrap_or_default()),
            contact: self.is_contact(link.user),
            homes: link.homes,
            invite: link.token,
        })
    }

    fn my_link(&self, homes: Vec<NodeAddress>) -> String {
        let mut link = PersonLink::new(self.me);
        link.homes = homes;
        let renamed = self.lock().renamed.clone();
        link.name = Some(renamed.unwrap_or_else(|| self.name.clone()));
        link.to_string()
    }

    fn items(&self) -> Result<Vec<backup::Item>, String> {
        Err("nothing of this is kept, so there is nothing to back up".into())
    }

    fn shelf(&self) -> &dyn Shelf {
        &self.shelf
    }

    fn welcome(&self, caller: &VerifiedDevice, _invite: &[u8], _now_millis: u64) -> Welcome {
        let state = self.lock();
        if state.blocked.contains(&caller.user()) {
            Welcome::Drop
        } else if state.contacts.contains_key(&caller.user()) {
            Welcome::Ring
        } else {
            Welcome::Inbox
        }
    }

    fn request(&self, caller: &VerifiedDevice, name: &str, _log: &[u8], _now_millis: u64) -> bool {
        let name = link::display_name(name);
        let mut state = self.lock();
        let known = state.requests.len();
        state.requests.retain(|known| known.user != caller.user());
        if known >= MAX_REQUESTS && state.requests.len() == known {
            return false;
        }
        state.requests.insert(
            0,
            RequestView {
                name,
                user: caller.user(),
            },
        );
        true
    }

    fn display_name(&self, user: UserId, claimed: &str) -> String {
        if let Some(name) = self.lock().contacts.get(&user) {
            return name.clone();
        }
        let claimed = link::display_name(claimed);
        if claimed.is_empty() {
            format!("{user:?}")
        } else {
            claimed
        }
    }

    fn is_contact(&self, user: UserId) -> bool {
        self.lock().contacts.contains_key(&user)
    }

    fn relay_only(&self, user: UserId) -> bool {
        self.lock().relay_only.contains(&user)
    }

    fn ring(&self, user: UserId) -> Ring {
        self.lock().rings.get(&user).copied().unwrap_or_default()
    }

    fn is_verified(&self, _user: UserId) -> bool {
        false
    }

    fn known_log(&self, user: UserId) -> Option<DeviceLog> {
        self.lock().logs.get(&user).cloned()
    }

    fn keep_log(&self, log: &DeviceLog) {
        let mut state = self.lock();
        let room = state.logs.len() < MAX_LOGS;
        match state.logs.get_mut(&log.user()) {
            Some(known) if known.compare(log) == LogRelation::Extends => known.clone_from(log),
            Some(_no_news) => {}
            None if room => {
                state.logs.insert(log.user(), log.clone());
            }
            None => {}
        }
    }

    fn known_record(&self, user: UserId) -> Option<Record> {
        self.lock().records.as_ref()?.last(user).cloned()
    }

    fn keep_record(&self, record: &Record, now_millis: u64) {
        let mut state = self.lock();
        let records = state
            .records
            .get_or_insert_with(|| RecordCache::new(MAX_LOGS));
        if let Err(refused) = records.offer(record, record.fields().user, now_millis) {
            tracing::debug!(%refused, "a record is not kept");
        }
    }

    fn known_nodes(&self) -> Vec<NodeAddress> {
        self.lock().nodes.clone()
    }

    fn keep_nodes(&self, nodes: &[NodeAddress], _now_millis: u64) {
        let mut state = self.lock();
        state.nodes.retain(|known| !nodes.contains(known));
        state.nodes.splice(0..0, nodes.iter().cloned());
        state.nodes.truncate(MAX_LOGS);
    }

    fn node_table(&self) -> Option<Vec<u8>> {
        self.lock().node_table.clone()
    }

    fn keep_node_table(&self, table: &[u8]) {
        self.lock().node_table = Some(table.to_vec());
    }

    fn witnesses(&self) -> Vec<u8> {
        Self::witnesses(self)
    }

    fn keep_witnesses(&self, witnesses: &[u8]) {
        self.lock().witnesses = witnesses.to_vec();
    }

    fn keep_fork(&self, proof: &ForkProof) {
        let mut state = self.lock();
        if state.forks.len() < MAX_LOGS && !state.forks.contains(&proof.user()) {
            state.forks.push(proof.user());
        }
    }

    fn reputation(&self) -> Option<Vec<u8>> {
        self.lock().reputation.clone()
    }

    fn keep_reputation(&self, reputation: &[u8]) {
        self.lock().reputation = Some(reputation.to_vec());
    }

    fn own_capability(&self) -> Option<[u8; 32]> {
        self.lock().own_capability
    }

    fn capability_of(&self, user: UserId) -> Option<[u8; 32]> {
        self.lock().capabilities.get(&user).copied()
    }

    fn take_synced(&self, entries: &[Entry], now_millis: u64) -> bool {
        let Ok(merged) = SyncBook(&self.shelf).merge(entries, now_millis) else {
            return false;
        };
        let Ok(persons) = sync::persons(&self.shelf, &merged) else {
            return false;
        };
        let is_news = !merged.changes.is_empty();
        if self.shelf.change(merged.changes).is_err() {
            return false;
        }
        let mut state = self.lock();
        for (user, person) in persons {
            state.contacts.remove(&user);
            state.blocked.retain(|blocked| *blocked != user);
            match person {
                Synced::Nobody => {}
                Synced::Contact(contact) => {
                    state.contacts.insert(user, contact.name);
                }
                Synced::Blocked => state.blocked.push(user),
            }
        }
        is_news
    }

    fn change(&self, change: &PeopleChange, now_millis: u64) -> Result<UserId, Notice> {
        let user = match change {
            PeopleChange::Add { link, name } => {
                let link: PersonLink = link.parse()?;
                let name = link::display_name(name);
                let name = Some(name).filter(|name| !name.is_empty()).or(link.name);
                self.lock().requests.retain(|known| known.user != link.user);
                let name = name.unwrap_or_else(|| format!("{:?}", link.user));
                if !self.note_contact(link.user, &name, now_millis) {
                    return Err(Notice::Profile("that cannot be noted".into()));
                }
                link.user
            }
            PeopleChange::Rename { user, name } => {
                self.add_contact(*user, name);
                *user
            }
            PeopleChange::Ring { user, ring } => {
                self.lock().rings.insert(*user, *ring);
                *user
            }
            PeopleChange::RelayOnly { user, only } => {
                let mut state = self.lock();
                if *only {
                    state.relay_only.insert(*user);
                } else {
                    state.relay_only.remove(user);
                }
                *user
            }
            // Nobody is verified here.
            PeopleChange::Verify { user, .. } => *user,
            PeopleChange::Block(user) => {
                self.lock().requests.retain(|known| known.user != *user);
                if !self.note_block(*user, now_millis) {
                    return Err(Notice::Profile("that cannot be noted".into()));
                }
                *user
            }
            PeopleChange::Unblock(user) => {
                self.lock().blocked.retain(|blocked| blocked != user);
                *user
            }
            PeopleChange::Remove(user) => {
                self.lock().contacts.remove(user);
                *user
            }
            PeopleChange::Dismiss(user) => {
                self.lock().requests.retain(|known| known.user != *user);
                *user
            }
        };
        Ok(user)
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn record(&self, ended: &EndedCall, now_millis: u64) {
        let mut state = self.lock();
        state.calls.push_front(ended.record_at(now_millis));
        state.calls.truncate(MAX_CALLS);
    }

    fn set_name(&self, name: Option<&str>) {
        self.lock().renamed = name.map(str::to_owned);
    }

    fn rate(&self, call: CallId, rating: Option<u8>) {
        let mut state = self.lock();
        let found = state.calls.iter_mut().find(|it| it.call_id == call.0);
        if let Some(found) = found {
            found.rating = rating;
        }
    }

    fn calls(&self, limit: usize) -> Vec<CallRecord> {
        self.lock().calls.iter().take(limit).copied().collect()
    }

    fn contacts(&self) -> Vec<ContactView> {
        let state = self.lock();
        let views = state.contacts.iter().map(|(user, name)| ContactView {
            name: name.clone(),
            user: *user,
            verified: false,
            relay_only: state.relay_only.contains(user),
            ring: state.rings.get(user).copied().unwrap_or_default(),
            forked: false,
        });
        views.collect()
    }

    fn requests(&self) -> Vec<RequestView> {
        self.lock().requests.clone()
    }
}
