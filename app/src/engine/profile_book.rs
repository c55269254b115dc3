//! The address book of a profile on disk.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ahoy_nat::discovery::record::Record;
use ahoy_transport::{
    identity::{
        DeviceSet as _, InviteProof, NodeAddress, UserId, VerifiedDevice,
        log::{DeviceLog, ForkProof},
    },
    runtime::Runtime,
};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    book::{AddressBook, Person, Welcome},
    handle::{BlockedView, ContactView, RequestView},
    notice::Notice,
    people::PeopleChange,
};
use crate::{
    backup,
    call::{CallId, EndedCall},
    chat::shelf::Shelf,
    contacts::{CallRecord, Contact, Ring, RingPolicy, Strangers, find_by_name, ring_policy},
    link::{Link, LinkError, PersonLink, display_name},
    people::{PeopleAnswer, PeopleError, PeopleRequest, carry_out},
    store::{InboxOutcome, LogObservation, Store, StoreError},
    sync::{Entry, SyncBook},
};

/// People, as the profile's database knows them.
pub struct ProfileBook {
    store: Store,
    runtime: Arc<dyn Runtime>,
    own_log: DeviceLog,
    /// What may change while this is open: see [`AddressBook::set_name`].
    wishes: Mutex<Wishes>,
    sequence: AtomicU64,
}

/// What the owner wants.
#[derive(Debug, Clone)]
struct Wishes {
    name: Option<String>,
    strangers: Strangers,
}

impl fmt::Debug for ProfileBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileBook").finish_non_exhaustive()
    }
}

/// A database that fails must not make a stranger ring, nor a contact vanish without a word.
fn told<T>(result: Result<T, StoreError>) -> Option<T> {
    result
        .inspect_err(|error| tracing::error!(%error, "the profile's database failed"))
        .ok()
}

impl ProfileBook {
    /// The book in `store`, whose owner has `own_log` and is called `name`.
    #[must_use]
    pub fn new(
        store: Store,
        runtime: Arc<dyn Runtime>,
        own_log: DeviceLog,
        name: Option<String>,
        strangers: Strangers,
    ) -> Self {
        // Offers are numbered upwards over restarts: by the clock, in steps that no restart undercuts.
        let sequence = AtomicU64::new(runtime.unix_millis() << 10);
        Self {
            store,
            runtime,
            own_log,
            wishes: Mutex::new(Wishes { name, strangers }),
            sequence,
        }
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contact(&self, user: UserId) -> Option<Contact> {
        told(self.store.contact(user)).flatten()
    }
}

/// Somebody to call, from their entry.
fn person(contact: Contact) -> Person {
    Person {
        user: contact.user,
        name: contact.name,
        contact: true,
        homes: contact.homes,
        invite: contact.invite,
    }
}

impl AddressBook for ProfileBook {
    fn settled(&self) -> BoxFuture<'static, ()> {
        self.store.settled().boxed()
    }

    fn find(&self, target: &str) -> Result<Person, Notice> {
        let target = target.trim();
        if !target.starts_with("ahoy") || !target.contains(':') {
            let contacts = self.store.contacts()?;
            return Ok(person(find_by_name(&contacts, target)?.clone()));
        }
        let link: PersonLink = match target.parse() {
            Ok(Link::Person(link)) => link,
            Ok(Link::Node(_)) => return Err(Notice::NodeToCall),
            Err(error) => return Err(LinkError::into(error)),
        };
        let mut found = match self.contact(link.user) {
            Some(contact) => person(contact),
            None => Person {
                user: link.user,
                name: self.display_name(link.user, link.name.as_deref().unwrap_or_default()),
                contact: false,
                homes: Vec::new(),
                invite: None,
            },
        };
        // A link is newer than what was noted.
        if !link.homes.is_empty() {
            found.homes = link.homes;
        }
        if link.token.is_some() {
            found.invite = link.token;
        }
        Ok(found)
    }

    fn my_link(&self, homes: Vec<NodeAddress>) -> String {
        let mut link = PersonLink::new(self.own_log_user());
        link.homes = homes;
        link.name.clone_from(&self.wishes().name);
        link.to_string()
    }

    fn items(&self) -> Result<Vec<backup::Item>, String> {
        self.store.items().map_err(|error| error.to_string())
    }

    fn shelf(&self) -> &dyn Shelf {
        &self.store
    }

    fn welcome(&self, caller: &VerifiedDevice, invite: &[u8], now_millis: u64) -> Welcome {
        let invite = InviteProof::from_bytes(invite).ok();
        let facts = self.store.caller_facts(
            caller.user(),
            caller.device(),
            invite.as_ref(),
            &self.own_log,
            now_millis,
        );
        let strangers = self.wishes().strangers;
        match told(facts).map(|facts| ring_policy(facts, strangers)) {
            Some(RingPolicy::Ring) => Welcome::Ring,
            Some(RingPolicy::Inbox) => Welcome::Inbox,
            Some(RingPolicy::Drop) | None => Welcome::Drop,
        }
    }

    fn request(&self, caller: &VerifiedDevice, name: &str, log: &[u8], now_millis: u64) -> bool {
        let added = self.store.add_request(caller.user(), name, log, now_millis);
        let outcome = told(added);
        tracing::debug!(?outcome, "a stranger's request");
        match outcome {
            Some(InboxOutcome::Added | InboxOutcome::Updated) => true,
            Some(InboxOutcome::Full) | None => false,
        }
    }

    fn display_name(&self, user: UserId, claimed: &str) -> String {
        if let Some(contact) = self.contact(user) {
            return contact.name;
        }
        let claimed = display_name(claimed);
        if claimed.is_empty() {
            // The start of their key is all there is to tell them by.
            user.to_string().chars().take(8).chain(['…']).collect()
        } else {
            claimed
        }
    }

    fn is_contact(&self, user: UserId) -> bool {
        self.contact(user).is_some()
    }

    fn relay_only(&self, user: UserId) -> bool {
        self.contact(user).is_some_and(|contact| contact.relay_only)
    }

    fn ring(&self, user: UserId) -> Ring {
        let contact = self.contact(user);
        contact.map(|contact| contact.ring).unwrap_or_default()
    }

    fn is_verified(&self, user: UserId) -> bool {
        self.contact(user)
            .is_some_and(|contact| contact.verified_at_millis.is_some())
    }

    fn known_log(&self, user: UserId) -> Option<DeviceLog> {
        told(self.store.pinned_log(user)).flatten()
    }

    fn keep_log(&self, log: &DeviceLog) {
        match self.store.observe_log(log, self.runtime.unix_millis()) {
            Ok(
                LogObservation::First
                | LogObservation::Same
                | LogObservation::Extended
                | LogObservation::Rollback,
            )
            // Strangers' logs are not kept.
            | Err(StoreError::NotAContact) => {}
            Ok(LogObservation::Fork(_proof)) => {
                tracing::warn!("a device log changed its story while it was judged");
            }
            Err(error) => tracing::error!(%error, "the profile's database failed"),
        }
    }

    fn known_record(&self, user: UserId) -> Option<Record> {
        told(self.store.record(user)).flatten()
    }

    fn keep_record(&self, record: &Record, now_millis: u64) {
        let user = record.fields().user;
        if let Some(Err(refused)) = told(self.store.keep_record(record, user, now_millis)) {
            tracing::debug!(%refused, "a record is not kept");
        }
    }

    fn known_nodes(&self) -> Vec<NodeAddress> {
        let contacts = told(self.store.contacts()).unwrap_or_default();
        let mut nodes = told(self.store.nodes()).unwrap_or_default();
        nodes.extend(contacts.into_iter().flat_map(|contact| contact.homes));
        nodes
    }

    fn keep_nodes(&self, nodes: &[NodeAddress], now_millis: u64) {
        told(self.store.keep_nodes(nodes, now_millis)).unwrap_or_default();
    }

    fn take_synced(&self, entries: &[Entry], now_millis: u64) -> bool {
        let taken = told(self.store.take_synced(entries, now_millis));
        taken.is_some_and(|(news, _capability)| news)
    }

    fn keep_fork(&self, proof: &ForkProof) {
        if proof.user() == self.own_log.user() {
            return told(self.store.keep_own_fork(proof)).unwrap_or_default();
        }
        told(self.store.keep_fork(proof)).unwrap_or_default();
    }

    fn change(&self, change: &PeopleChange, now_millis: u64) -> Result<UserId, Notice> {
        self.changed(change, now_millis)
    }

    fn manage(
        &self,
        request: &PeopleRequest,
        now_millis: u64,
    ) -> Result<PeopleAnswer, PeopleError> {
        carry_out(&self.store, self.own_log_user(), request, now_millis)
    }

    fn node_table(&self) -> Option<Vec<u8>> {
        told(self.store.node_table()).flatten()
    }

    fn keep_node_table(&self, table: &[u8]) {
        told(self.store.keep_node_table(table)).unwrap_or_default();
    }

    fn reputation(&self) -> Option<Vec<u8>> {
        told(self.store.reputation()).flatten()
    }

    fn keep_reputation(&self, reputation: &[u8]) {
        told(self.store.keep_reputation(reputation)).unwrap_or_default();
    }

    fn witnesses(&self) -> Vec<u8> {
        told(self.store.witnesses()).flatten().unwrap_or_default()
    }

    fn keep_witnesses(&self, witnesses: &[u8]) {
        told(self.store.keep_witnesses(witnesses)).unwrap_or_default();
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn record(&self, ended: &EndedCall, now_millis: u64) {
        let record = ended.record_at(now_millis);
        told(self.store.record_call(&record)).unwrap_or_default();
    }

    fn rate(&self, call: CallId, rating: Option<u8>) {
        told(self.store.rate_call(call.0, rating)).unwrap_or_default();
    }

    fn calls(&self, limit: usize) -> Vec<CallRecord> {
        told(self.store.calls(limit)).unwrap_or_default()
    }

    fn set_name(&self, name: Option<&str>) {
        self.wishes().name = name.map(str::to_owned);
    }

    fn set_strangers(&self, strangers: Strangers) {
        self.wishes().strangers = strangers;
    }

    fn contacts(&self) -> Vec<ContactView> {
        let contacts = told(self.store.contacts()).unwrap_or_default();
        contacts
            .into_iter()
            .map(|contact| ContactView {
                name: contact.name,
                user: contact.user,
                verified: contact.verified_at_millis.is_some(),
                relay_only: contact.relay_only,
                ring: contact.ring,
                forked: told(self.store.fork(contact.user)).flatten().is_some(),
            })
            .collect()
    }

    fn requests(&self) -> Vec<RequestView> {
        let requests = told(self.store.requests()).unwrap_or_default();
        requests
            .into_iter()
            .map(|request| RequestView {
                name: request.name,
                user: request.user,
            })
            .collect()
    }

    fn blocked(&self) -> Vec<BlockedView> {
        let blocked = told(self.store.blocked()).unwrap_or_default();
        let sync = SyncBook(&self.store);
        let blocked = blocked.into_iter().map(|user| {
            let name = sync.last_name(user).ok().flatten();
            BlockedView {
                name: name.unwrap_or_else(|| self.display_name(user, "")),
                user,
            }
        });
        blocked.collect()
    }
}

impl ProfileBook {
    fn changed(&self, change: &PeopleChange, now_millis: u64) -> Result<UserId, Notice> {
        let edit = |user: UserId, edit: &dyn Fn(&mut Contact)| {
            let mut contact = self.store.contact(user)?.ok_or(Notice::NotAContact)?;
            edit(&mut contact);
            self.store.put_contact(&contact, now_millis)?;
            Ok::<_, Notice>(user)
        };
        match change {
            PeopleChange::Add { link, name } => {
                let link: PersonLink = match link.trim().parse() {
                    Ok(Link::Person(link)) => link,
                    Ok(Link::Node(_)) => return Err(Notice::NodeToAdd),
                    Err(error) => return Err(LinkError::into(error)),
                };
                if link.user == self.own_log_user() {
                    return Err(Notice::OwnLinkToAdd);
                }
                let name = display_name(name);
                let name = (!name.is_empty()).then_some(name);
                self.store.add_by_link(&link, name.as_deref(), now_millis)?;
                Ok(link.user)
            }
            PeopleChange::Rename { user, name } => {
                let name = display_name(name);
                if name.is_empty() {
                    return Err(Notice::NoName);
                }
                edit(*user, &|contact| contact.name.clone_from(&name))
            }
            PeopleChange::Verify { user, verified } => edit(*user, &|contact| {
                contact.verified_at_millis = verified.then_some(now_millis);
            }),
            PeopleChange::RelayOnly { user, only } => {
                edit(*user, &|contact| contact.relay_only = *only)
            }
            PeopleChange::Ring { user, ring } => edit(*user, &|contact| contact.ring = *ring),
            PeopleChange::Block(user) => {
                self.store.block(*user, now_millis)?;
                Ok(*user)
            }
            PeopleChange::Unblock(user) => {
                self.store.unblock(*user, now_millis)?;
                Ok(*user)
            }
            PeopleChange::Remove(user) => {
                self.store.remove_contact(*user, now_millis)?;
                Ok(*user)
            }
            PeopleChange::Dismiss(user) => {
                self.store.remove_request(*user)?;
                Ok(*user)
            }
        }
    }

    fn own_log_user(&self) -> UserId {
        self.own_log.user()
    }
}
