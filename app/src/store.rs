//! The profile's database: contacts, requests, calls, blocked people, pinned device logs, invites.
//!
//! Every change is one transaction that is on disk when the call returns, or, [behind](Store::write_behind) a call, soon
//! after; a kill at any moment leaves the state before or after it. What strangers can grow is bounded. The database is open in one process at a
//! time, which holds the [`ProfileLock`].
//!
//! Schema 3, all keys and values bytes, each record sealed as `store/sealed.rs` tells; schema 2 is the same and not sealed:
//!
//! ```text
//! contacts  user id -> Contact          blocked  user id -> ver=1, since u64
//! inbox     user id -> Request          logs     user id -> ver=1, first seen u64, device log
//! calls     time, call id -> CallRecord forks    user id -> fork proof
//! invites   invite id -> ver=1, created u64, not after u64, u8 revoked, u16 length, label
//! records   user id -> the newest record seen (ahoy_nat::discovery::record), our own among them; not in schema 1
//! nodes     node id -> ver=1, last served u64, node address as text; not in schema 1
//! meta      "schema" -> u32
//! chat      conversations, see [`crate::chat::book`]; not in schema 1
//! ```

use std::{collections::BTreeMap, fs::File};

use ahoy_nat::discovery::{
    record::{Record, RecordError, RecordRules},
    rendezvous::Network,
};
use ahoy_transport::{
    identity::{
        DeviceId, DeviceSet, InviteId, InviteProof, NodeAddress, UserId,
        log::{DeviceLog, ForkProof, LogError, LogRelation},
    },
    wire::{Reader, WireError, Writer},
};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, backends::FileBackend,
};

use crate::{
    chat::{
        book::ChatBook,
        shelf::{self, Shelf, ShelfError},
    },
    contacts::{CallRecord, CallerFacts, Contact, MAX_RATING, Request},
    link::{PersonLink, display_name},
    profile::{ProfileError, ProfileLock, files::step},
    settings::Settings,
    sync::{Standing, SyncBook},
};

pub use self::reseal::reseal;
use self::{
    behind::Disk,
    rescue::Rescue,
    sealed::{Sealer, Txn},
};

/// Most requests kept: more than anybody reads.
pub const MAX_REQUESTS: usize = 100;
/// Most new requests in a day. Beyond, strangers are dropped: an inbox that floods is one nobody opens.
pub const MAX_REQUESTS_PER_DAY: usize = 20;
/// How long a request waits, in milliseconds.
pub const REQUEST_LIFETIME_MILLIS: u64 = 30 * DAY_MILLIS;
/// Most calls remembered; the oldest goes first.
pub const MAX_CALLS: usize = 2000;
/// People whose records are kept: contacts, and those we called. Of others the one that ends first makes room.
pub const MAX_RECORDS: usize = 1000;
/// Supernodes remembered.
pub const MAX_NODES: usize = 500;
/// Of those, in one network: whoever has a whole network has no more than this of our memory.
pub const MAX_NODES_PER_NETWORK: usize = 4;
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// Longest label of an invite, in bytes.
const MAX_LABEL: usize = 256;
/// Pages kept in memory. The library's default of 1 GiB is for servers.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Every record is sealed.
const SEALED_SCHEMA: u32 = 3;
/// None is: in profiles without a vault.
const SCHEMA: u32 = 2;
/// Before conversations.
const SCHEMA_1: u32 = 1;
const VERSION: u8 = 1;
type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;
const META: TableDefinition<'static, &'static str, u32> = TableDefinition::new("meta");
const CONTACTS: Table = TableDefinition::new("contacts");
const BLOCKED: Table = TableDefinition::new("blocked");
const INBOX: Table = TableDefinition::new("inbox");
const CALLS: Table = TableDefinition::new("calls");
const LOGS: Table = TableDefinition::new("logs");
const FORKS: Table = TableDefinition::new("forks");
const INVITES: Table = TableDefinition::new("invites");
const CHAT: Table = TableDefinition::new("chat");
const RECORDS: Table = TableDefinition::new("records");
const NODES: Table = TableDefinition::new("nodes");
const NETWORK: Table = TableDefinition::new("network");
const TABLES: [Table; 11] = [
    CONTACTS, BLOCKED, INBOX, CALLS, LOGS, FORKS, INVITES, CHAT, RECORDS, NODES, NETWORK,
];
/// The names of [`TABLES`].
const NAMES: [&str; 11] = [
    "contacts", "blocked", "inbox", "calls", "logs", "forks", "invites", "chat", "records",
    "nodes", "network",
];
/// The one entry of [`NETWORK`].
const NODE_TABLE: &[u8] = b"table";
const REPUTATION: &[u8] = b"reputation";
const WITNESSES: &[u8] = b"witnesses";

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Another program has it open.
    #[error(
        "the profile's database is open in another process; close it, or use --home for another profile"
    )]
    InUse,
    /// A newer program wrote it.
    #[error(
        "the profile's database has version {0}, which this program does not know; update ahoy"
    )]
    Newer(u32),
    /// What it was sealed with is not there.
    #[error(
        "the profile's database is sealed, and the file `vault` that opens it is not beside it"
    )]
    NoVault,
    /// The database engine reports an error.
    #[error("the profile's database: {0}")]
    Database(Box<redb::Error>),
    /// A stored record is damaged.
    #[error("a record in the profile's database ({table}) is damaged: {source}")]
    Record {
        /// Where it is.
        table: &'static str,
        /// What is wrong.
        source: WireError,
    },
    /// A record was changed, or the key of its conversation is gone.
    #[error("a record in the profile's database ({table}) does not open: it is damaged")]
    Closed {
        /// Where it is.
        table: &'static str,
    },
    /// The settings that go with it cannot be sealed.
    #[error(transparent)]
    Settings(Box<crate::settings::SettingsError>),
    /// A stored log or proof no longer verifies.
    #[error("a pinned device log in the profile's database is damaged")]
    PinnedLog(#[from] LogError),
    /// Only contacts' logs are kept.
    #[error("this person is not a contact")]
    NotAContact,
    /// Conversations.
    #[error(transparent)]
    Chat(#[from] ShelfError),
}

impl From<StoreError> for ShelfError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(TransactionError, TableError, StorageError, CommitError);

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            Self::InUse
        } else {
            Self::Database(Box::new(error.into()))
        }
    }
}

fn record(table: &'static str) -> impl Fn(WireError) -> StoreError {
    move |source| StoreError::Record { table, source }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxOutcome {
    /// It is new: worth telling.
    Added,
    /// The person had asked before.
    Updated,
    /// Too many today: dropped.
    Full,
}

/// What a person's device log tells, compared with what we knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogObservation {
    /// The first we see; trusted from now on.
    First,
    /// As we know it.
    Same,
    /// It grew; we know the new one now.
    Extended,
    /// Older than what we know: do not use it.
    Rollback,
    /// It contradicts what we know: somebody is being deceived. The proof is stored and the contact is no
    /// longer verified.
    Fork(ForkProof),
}

/// An invite we gave away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedInvite {
    /// Its public name.
    pub id: InviteId,
    /// For whom or what, in our own words.
    pub label: String,
    /// When, Unix milliseconds.
    pub created_at_millis: u64,
    /// Until when, Unix milliseconds.
    pub not_after_millis: u64,
    /// Taken back.
    pub revoked: bool,
}

impl IssuedInvite {
    fn to_bytes(&self) -> Vec<u8> {
        let mut label = self.label.clone();
        while label.len() > MAX_LABEL {
            label.pop();
        }
        let mut bytes = vec![VERSION];
        bytes.put_u64(self.created_at_millis);
        bytes.put_u64(self.not_after_millis);
        bytes.put_u8(u8::from(self.revoked));
        bytes.put_u16(u16::try_from(label.len()).expect("at most MAX_LABEL"));
        bytes.put_bytes(label.as_bytes());
        bytes
    }

    fn from_bytes(id: InviteId, bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = versioned(bytes)?;
        let (created_at_millis, not_after_millis) = (reader.u64()?, reader.u64()?);
        let revoked = match reader.u8()? {
            0 => false,
            1 => true,
            _undefined => return Err(WireError::Undefined),
        };
        let len = usize::from(reader.u16()?);
        if len > MAX_LABEL {
            return Err(WireError::TooLong);
        }
        let label =
            std::str::from_utf8(reader.bytes(len)?).map_err(|_not_utf8| WireError::Undefined)?;
        let label = label.to_owned();
        reader.finish()?;
        Ok(Self {
            id,
            label,
            created_at_millis,
            not_after_millis,
            revoked,
        })
    }
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => Ok(reader),
        other => Err(WireError::Version(other)),
    }
}

fn user_of(key: &[u8], table: &'static str) -> Result<UserId, StoreError> {
    key.try_into()
        .map(UserId)
        .map_err(|_wrong_length| record(table)(WireError::Undefined))
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    db: Database,
    disk: Disk,
    sealer: Sealer,
    rescue: Rescue,
}

impl Store {
    /// Opens the profile's database, and makes it at the first use. One from before the vault is sealed, and a damaged one
    /// set aside: see [`Self::rescued`].
    ///
    /// # Errors
    /// When it is in use or of a newer version.
    pub fn open(lock: &ProfileLock) -> Result<Self, StoreError> {
        Settings::take_in(lock.profile()).map_err(|error| StoreError::Settings(Box::new(error)))?;
        rescue::open(lock)
    }

    fn open_file(file: File, sealer: Sealer) -> Result<Self, StoreError> {
        Self::open_on(FileBackend::new(file)?, sealer)
    }

    fn open_on(file: impl StorageBackend, sealer: Sealer) -> Result<Self, StoreError> {
        let disk = Disk::new(file);
        sealer.write_to(&disk);
        let mut builder = Builder::new();
        let db = builder
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(disk.clone())?;
        Self::prepare(db, disk, sealer)
    }

    fn prepare(db: Database, disk: Disk, sealer: Sealer) -> Result<Self, StoreError> {
        let txn = db.begin_write()?;
        let ours = if sealer.seals() {
            SEALED_SCHEMA
        } else {
            SCHEMA
        };
        let known = {
            let mut meta = txn.open_table(META)?;
            let known = meta.get("schema")?.map(|version| version.value());
            match known {
                None => {
                    meta.insert("schema", ours)?;
                }
                Some(SCHEMA_1) => {
                    meta.insert("schema", SCHEMA)?;
                }
                Some(_other) => {}
            }
            known
        };
        let mut sealer = sealer;
        match known {
            Some(SCHEMA) => {
                sealer = Sealer::PLAIN;
                txn.abort()?;
            }
            // What is there already stays as it is.
            Some(SCHEMA_1) | None => {
                if known.is_some() {
                    sealer = Sealer::PLAIN;
                }
                for table in TABLES {
                    txn.open_table(table)?;
                }
                txn.commit()?;
            }
            Some(SEALED_SCHEMA) if sealer.seals() => txn.abort()?,
            Some(other) => {
                txn.abort()?;
                return Err(if other == SEALED_SCHEMA {
                    StoreError::NoVault
                } else {
                    StoreError::Newer(other)
                });
            }
        }
        Ok(Self {
            db,
            disk,
            sealer,
            rescue: Rescue::default(),
        })
    }

    /// From now on changes count at once and reach the disk soon after, in their order: nobody here waits for it, but for
    /// [`Self::settled`].
    pub fn write_behind(&self) {
        self.disk.write_behind();
    }

    /// Ends when all changes so far are on the disk.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        self.disk.settled()
    }

    fn read<T>(
        &self,
        table: Table,
        key: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let at = self.sealer.name(table, key);
        let opened = self.db.begin_read()?.open_table(table)?;
        let Some(bytes) = opened.get(at.as_slice())? else {
            return Ok(None);
        };
        let (_key, value) = self.sealer.open(name(table), &at, bytes.value())?;
        parse(&value).map(Some)
    }

    fn list<T>(
        &self,
        table: Table,
        parse: impl Fn(&[u8], &[u8]) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let opened = self.db.begin_read()?.open_table(table)?;
        let mut items = Vec::new();
        for entry in opened.iter()? {
            let (at, bytes) = entry?;
            items.push(self.sealer.open(name(table), at.value(), bytes.value())?);
        }
        items.sort_unstable();
        items.iter().map(|(key, value)| parse(key, value)).collect()
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&Txn<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let txn = self.db.begin_write()?;
        let outcome = change(&Txn {
            txn: &txn,
            sealer: &self.sealer,
        })?;
        step();
        txn.commit()?;
        step();
        Ok(outcome)
    }

    fn remove(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.write(|txn| txn.table(table)?.remove(key))
    }

    /// Adds a contact, or replaces what we know of one. A request of the same person is settled by it, and
    /// its device log pinned.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_contact(&self, contact: &Contact, now_millis: u64) -> Result<(), StoreError> {
        let key = contact.user.as_bytes().as_slice();
        let noted = SyncBook(self).contact_noted(contact, now_millis)?;
        self.write(|txn| {
            change_chat(txn, &noted)?;
            txn.table(CONTACTS)?.insert(key, &contact.to_bytes())?;
            txn.table(BLOCKED)?.remove(key)?;
            let mut inbox = txn.table(INBOX)?;
            if let Some(request) = inbox.take(key)? {
                let request =
                    Request::from_bytes(contact.user, &request).map_err(record("inbox"))?;
                let mut logs = txn.table(LOGS)?;
                if !request.log.is_empty() && logs.get(key)?.is_none() {
                    logs.insert(key, &pinned_bytes(now_millis, &request.log))?;
                }
            }
            Ok(())
        })
    }

    /// Adds the contact that a link makes, or takes what it tells of one we have: where the person is now. Called `name`,
    /// where that is said, and otherwise as before or as the link says.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_by_link(
        &self,
        link: &PersonLink,
        name: Option<&str>,
        now_millis: u64,
    ) -> Result<Contact, StoreError> {
        let mut contact = Contact::from_link(link, name, now_millis);
        if let Some(known) = self.contact(link.user)? {
            // A new link takes nothing back.
            contact.added_at_millis = known.added_at_millis;
            contact.verified_at_millis = known.verified_at_millis;
            contact.relay_only = known.relay_only;
            contact.ring = known.ring;
            contact.invite = contact.invite.or(known.invite);
            if name.is_none() {
                contact.name = known.name;
            }
            if contact.homes.is_empty() {
                contact.homes = known.homes;
            }
        }
        self.put_contact(&contact, now_millis)?;
        Ok(contact)
    }

    /// The contact who is this person.
    ///
    /// # Errors
    /// When the database fails.
    pub fn contact(&self, user: UserId) -> Result<Option<Contact>, StoreError> {
        self.read(CONTACTS, user.as_bytes(), |bytes| {
            Contact::from_bytes(user, bytes).map_err(record("contacts"))
        })
    }

    /// All contacts, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn contacts(&self) -> Result<Vec<Contact>, StoreError> {
        let mut contacts = self.list(CONTACTS, |key, bytes| {
            Contact::from_bytes(user_of(key, "contacts")?, bytes).map_err(record("contacts"))
        })?;
        contacts.sort_by_key(|contact| (contact.name.to_lowercase(), contact.user));
        Ok(contacts)
    }

    /// Forgets a contact. The pinned device log stays: should the person return, it is the same person.
    /// Returns whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove_contact(&self, user: UserId, now_millis: u64) -> Result<bool, StoreError> {
        let noted = SyncBook(self).standing_noted(user, Standing::Nobody, now_millis)?;
        self.write(|txn| {
            change_chat(txn, &noted)?;
            txn.table(CONTACTS)?.remove(user.as_bytes())
        })
    }

    /// Blocks a person, who stops being a contact. What they wrote is forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub fn block(&self, user: UserId, now_millis: u64) -> Result<(), StoreError> {
        let mut value = vec![VERSION];
        value.put_u64(now_millis);
        let key = user.as_bytes().as_slice();
        let forgotten = ChatBook(self).forgotten(user, now_millis)?;
        let noted = SyncBook(self).standing_noted(user, Standing::Blocked, now_millis)?;
        self.write(|txn| {
            change_chat(txn, &forgotten)?;
            change_chat(txn, &noted)?;
            txn.table(BLOCKED)?.insert(key, &value)?;
            txn.table(CONTACTS)?.remove(key)?;
            txn.table(INBOX)?.remove(key)?;
            Ok(())
        })?;
        self.wipe_unused_keys()
    }

    /// Takes a block back. Returns whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn unblock(&self, user: UserId, now_millis: u64) -> Result<bool, StoreError> {
        let key = user.as_bytes().as_slice();
        if self.read(BLOCKED, key, |_since| Ok(()))?.is_none() {
            return Ok(false);
        }
        let noted = SyncBook(self).standing_noted(user, Standing::Nobody, now_millis)?;
        self.write(|txn| {
            change_chat(txn, &noted)?;
            txn.table(BLOCKED)?.remove(key)
        })
    }

    /// Everybody who is blocked.
    ///
    /// # Errors
    /// When the database fails.
    pub fn blocked(&self) -> Result<Vec<UserId>, StoreError> {
        self.list(BLOCKED, |key, _since| user_of(key, "blocked"))
    }

    /// What we know of a caller: `invite` is what the caller showed, `own_log` our own device log, `device`
    /// the device that calls. An invite that does not count is as none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn caller_facts(
        &self,
        user: UserId,
        device: DeviceId,
        invite: Option<&InviteProof>,
        own_log: &DeviceLog,
        now_millis: u64,
    ) -> Result<CallerFacts, StoreError> {
        let invited = match invite.map(|proof| proof.verify(now_millis, own_log, device)) {
            Some(Ok(id)) => !self.invite(id)?.is_some_and(|issued| issued.revoked),
            Some(Err(_)) | None => false,
        };
        Ok(CallerFacts {
            blocked: self
                .read(BLOCKED, user.as_bytes(), |_since| Ok(()))?
                .is_some(),
            contact: self
                .read(CONTACTS, user.as_bytes(), |_contact| Ok(()))?
                .is_some(),
            invited,
        })
    }

    /// Puts a stranger into the inbox, or counts another attempt. `log` is the stranger's device log as it
    /// came. Requests whose time is over go.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_request(
        &self,
        user: UserId,
        name: &str,
        log: &[u8],
        now_millis: u64,
    ) -> Result<InboxOutcome, StoreError> {
        let key = user.as_bytes().as_slice();
        self.write(|txn| {
            let mut inbox = txn.table(INBOX)?;
            let mut known = Vec::new();
            for (key, value) in inbox.items()? {
                let user = user_of(&key, "inbox")?;
                known.push(Request::from_bytes(user, &value).map_err(record("inbox"))?);
            }
            for old in &known {
                if old.last_at_millis.saturating_add(REQUEST_LIFETIME_MILLIS) <= now_millis {
                    inbox.remove(old.user.as_bytes().as_slice())?;
                }
            }
            known.retain(|request| {
                request
                    .last_at_millis
                    .saturating_add(REQUEST_LIFETIME_MILLIS)
                    > now_millis
            });

            if let Some(mut request) = known.iter().find(|request| request.user == user).cloned() {
                request.attempts = request.attempts.saturating_add(1);
                request.last_at_millis = request.last_at_millis.max(now_millis);
                inbox.insert(key, &request.to_bytes())?;
                return Ok(InboxOutcome::Updated);
            }
            let today = known
                .iter()
                .filter(|request| request.first_at_millis.saturating_add(DAY_MILLIS) > now_millis)
                .count();
            if today >= MAX_REQUESTS_PER_DAY {
                return Ok(InboxOutcome::Full);
            }
            if known.len() >= MAX_REQUESTS
                && let Some(oldest) = known.iter().min_by_key(|request| request.last_at_millis)
            {
                inbox.remove(oldest.user.as_bytes().as_slice())?;
            }
            let request = Request {
                user,
                name: display_name(name),
                first_at_millis: now_millis,
                last_at_millis: now_millis,
                attempts: 1,
                log: log.to_vec(),
            };
            inbox.insert(key, &request.to_bytes())?;
            Ok(InboxOutcome::Added)
        })
    }

    /// All requests, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn requests(&self) -> Result<Vec<Request>, StoreError> {
        let mut requests = self.list(INBOX, |key, bytes| {
            Request::from_bytes(user_of(key, "inbox")?, bytes).map_err(record("inbox"))
        })?;
        requests.sort_by_key(|request| (std::cmp::Reverse(request.last_at_millis), request.user));
        Ok(requests)
    }

    /// Discards a request. Returns whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove_request(&self, user: UserId) -> Result<bool, StoreError> {
        self.remove(INBOX, user.as_bytes())
    }

    /// Remembers a call. Recording it again under the same start and id replaces it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn record_call(&self, call: &CallRecord) -> Result<(), StoreError> {
        self.write(|txn| {
            let mut calls = txn.table(CALLS)?;
            calls.insert(&call.key(), &call.to_bytes())?;
            let over = calls.len()?.saturating_sub(MAX_CALLS as u64);
            if over > 0 {
                // By key: by time.
                for (key, _call) in calls.items()?.into_iter().take(over as usize) {
                    calls.remove(&key)?;
                }
            }
            Ok(())
        })
    }

    /// Notes how good the person found a call, or that they do not say. Whether it is there to be noted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rate_call(&self, call_id: [u8; 16], rating: Option<u8>) -> Result<bool, StoreError> {
        let calls = self.calls(MAX_CALLS)?;
        let Some(call) = calls.into_iter().find(|call| call.call_id == call_id) else {
            return Ok(false);
        };
        let rating = rating.filter(|rating| (1..=MAX_RATING).contains(rating));
        self.record_call(&CallRecord { rating, ..call })?;
        Ok(true)
    }

    /// The newest calls, at most `limit`, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn calls(&self, limit: usize) -> Result<Vec<CallRecord>, StoreError> {
        let mut calls = self.list(CALLS, |key, value| {
            CallRecord::from_bytes(key, value).map_err(record("calls"))
        })?;
        // They come by key: by time.
        calls.reverse();
        calls.truncate(limit);
        Ok(calls)
    }

    /// Compares a contact's device log with the longest one seen, and pins it when it is new or longer.
    ///
    /// # Errors
    /// [`StoreError::NotAContact`] for anybody else: strangers must not fill the database.
    pub fn observe_log(
        &self,
        log: &DeviceLog,
        now_millis: u64,
    ) -> Result<LogObservation, StoreError> {
        let key = log.user().as_bytes().to_vec();
        let key = key.as_slice();
        self.write(|txn| {
            let mut contacts = txn.table(CONTACTS)?;
            let Some(contact) = contacts.get(key)? else {
                return Err(StoreError::NotAContact);
            };
            let mut logs = txn.table(LOGS)?;
            let pinned = logs.get(key)?;
            let Some(pinned) = pinned else {
                logs.insert(key, &pinned_bytes(now_millis, &log.to_bytes()))?;
                return Ok(LogObservation::First);
            };
            let (first_seen_millis, known) = read_pinned(log.user(), &pinned)?;
            match known.compare(log) {
                LogRelation::Same | LogRelation::OtherUser => Ok(LogObservation::Same),
                LogRelation::Rollback => Ok(LogObservation::Rollback),
                LogRelation::Extends => {
                    logs.insert(key, &pinned_bytes(first_seen_millis, &log.to_bytes()))?;
                    Ok(LogObservation::Extended)
                }
                LogRelation::Fork(proof) => {
                    txn.table(FORKS)?.insert(key, proof.as_bytes())?;
                    let mut contact =
                        Contact::from_bytes(log.user(), &contact).map_err(record("contacts"))?;
                    contact.verified_at_millis = None;
                    contacts.insert(key, &contact.to_bytes())?;
                    Ok(LogObservation::Fork(proof))
                }
            }
        })
    }

    /// The longest device log we have seen of a person.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pinned_log(&self, user: UserId) -> Result<Option<DeviceLog>, StoreError> {
        self.read(LOGS, user.as_bytes(), |bytes| {
            read_pinned(user, bytes).map(|(_first_seen, log)| log)
        })
    }

    /// The proof that a person's device log forked, if we have one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn fork(&self, user: UserId) -> Result<Option<ForkProof>, StoreError> {
        self.read(FORKS, user.as_bytes(), |bytes| {
            ForkProof::from_bytes(bytes).map_err(|_damaged| record("forks")(WireError::Undefined))
        })
    }

    /// Keeps the proof that a person's device log forked. A contact is no longer verified.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_fork(&self, proof: &ForkProof) -> Result<(), StoreError> {
        let key = proof.user().as_bytes().to_vec();
        let key = key.as_slice();
        self.write(|txn| {
            let mut contacts = txn.table(CONTACTS)?;
            let Some(contact) = contacts.get(key)? else {
                // Strangers must not fill the database.
                return Ok(());
            };
            txn.table(FORKS)?.insert(key, proof.as_bytes())?;
            let mut contact =
                Contact::from_bytes(proof.user(), &contact).map_err(record("contacts"))?;
            contact.verified_at_millis = None;
            contacts.insert(key, &contact.to_bytes())?;
            Ok(())
        })
    }

    /// Accepts the other side of a fork after the person explained it: forgets proof and pinned log.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_log(&self, user: UserId) -> Result<(), StoreError> {
        let key = user.as_bytes().as_slice();
        self.write(|txn| {
            txn.table(LOGS)?.remove(key)?;
            txn.table(FORKS)?.remove(key)?;
            Ok(())
        })
    }

    /// Keeps a person's record if it may take the place of the one seen before. `Err` inside says why not.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_record(
        &self,
        new: &Record,
        user: UserId,
        now_millis: u64,
    ) -> Result<Result<(), RecordError>, StoreError> {
        let key = user.as_bytes().as_slice();
        self.write(|txn| {
            let mut records = txn.table(RECORDS)?;
            let known = records.get(key)?;
            let known = known.map(|known| read_record(&known)).transpose()?;
            if let Err(refused) =
                RecordRules::default().judge(known.as_ref(), new, user, now_millis)
            {
                return Ok(Err(refused));
            }
            if known.is_none() && records.len()? >= MAX_RECORDS as u64 {
                let contacts = txn.table(CONTACTS)?;
                let mut first: Option<(u64, Vec<u8>)> = None;
                for (other, record) in records.items()? {
                    let ends = read_record(&record)?.fields().not_after_millis;
                    let sooner = first.as_ref().is_none_or(|(soonest, _)| ends < *soonest);
                    if sooner && contacts.get(&other)?.is_none() {
                        first = Some((ends, other));
                    }
                }
                if let Some((_ends, other)) = first {
                    records.remove(&other)?;
                }
            }
            records.insert(key, new.as_bytes())?;
            Ok(Ok(()))
        })
    }

    /// The newest record seen of a person, expired or not.
    ///
    /// # Errors
    /// When the database fails.
    pub fn record(&self, user: UserId) -> Result<Option<Record>, StoreError> {
        self.read(RECORDS, user.as_bytes(), read_record)
    }

    /// Remembers supernodes that served at `now_millis`. Where there are too many, in all or in one network, those go that
    /// served longest ago.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_nodes(&self, served: &[NodeAddress], now_millis: u64) -> Result<(), StoreError> {
        self.write(|txn| {
            let mut nodes = txn.table(NODES)?;
            for node in served {
                let mut value = vec![VERSION];
                value.put_u64(now_millis);
                value.put_bytes(node.to_string().as_bytes());
                nodes.insert(node.node.as_bytes(), &value)?;
            }
            let mut known = Vec::new();
            for (_node, value) in nodes.items()? {
                known.push(read_node(&value)?);
            }
            known.sort_by_key(|(at, _node)| std::cmp::Reverse(*at));
            let mut networks: BTreeMap<Network, usize> = BTreeMap::new();
            let mut kept = 0;
            for (_at, node) in known {
                let there = networks.entry(Network::of(&node)).or_default();
                *there += 1;
                if *there > MAX_NODES_PER_NETWORK || kept >= MAX_NODES {
                    nodes.remove(node.node.as_bytes())?;
                } else {
                    kept += 1;
                }
            }
            Ok(())
        })
    }

    /// Supernodes that served, the last ones first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn nodes(&self) -> Result<Vec<NodeAddress>, StoreError> {
        let mut nodes = self.list(NODES, |_node, value| read_node(value))?;
        nodes.sort_by_key(|(at, _node)| std::cmp::Reverse(*at));
        Ok(nodes.into_iter().map(|(_at, node)| node).collect())
    }

    /// Forgets all supernodes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_nodes(&self) -> Result<(), StoreError> {
        self.write(|txn| {
            let mut nodes = txn.table(NODES)?;
            for (node, _value) in nodes.items()? {
                nodes.remove(&node)?;
            }
            drop(nodes);
            txn.table(NETWORK)?.remove(NODE_TABLE)?;
            Ok(())
        })
    }

    /// Keeps the table of supernodes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_node_table(&self, table: &[u8]) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.table(NETWORK)?.insert(NODE_TABLE, table)?;
            Ok(())
        })
    }

    /// The table of supernodes that was kept last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn node_table(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(NETWORK, NODE_TABLE, |table| Ok(table.to_vec()))
    }

    /// Keeps what this device has seen of supernodes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_reputation(&self, reputation: &[u8]) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.table(NETWORK)?.insert(REPUTATION, reputation)?;
            Ok(())
        })
    }

    /// What was kept of it last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn reputation(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(NETWORK, REPUTATION, |kept| Ok(kept.to_vec()))
    }

    /// Keeps what supernodes signed of our device list.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_witnesses(&self, witnesses: &[u8]) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.table(NETWORK)?.insert(WITNESSES, witnesses)?;
            Ok(())
        })
    }

    /// What was kept of it last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn witnesses(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(NETWORK, WITNESSES, |kept| Ok(kept.to_vec()))
    }

    /// Keeps the proof that there are two lists of our own devices.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_own_fork(&self, proof: &ForkProof) -> Result<(), StoreError> {
        let key = proof.user().as_bytes().to_vec();
        self.write(|txn| {
            txn.table(FORKS)?.insert(key.as_slice(), proof.as_bytes())?;
            Ok(())
        })
    }

    /// Remembers an invite we gave away.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_invite(&self, invite: &IssuedInvite) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.table(INVITES)?.insert(&invite.id, &invite.to_bytes())?;
            Ok(())
        })
    }

    /// Takes an invite back, also one that this device did not know of. Returns whether it was known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn revoke_invite(&self, id: InviteId, now_millis: u64) -> Result<bool, StoreError> {
        let known = self.invite(id)?;
        let found = known.is_some();
        let mut invite = known.unwrap_or(IssuedInvite {
            id,
            label: String::new(),
            created_at_millis: now_millis,
            not_after_millis: u64::MAX,
            revoked: true,
        });
        invite.revoked = true;
        self.put_invite(&invite)?;
        Ok(found)
    }

    /// What we know of an invite.
    ///
    /// # Errors
    /// When the database fails.
    pub fn invite(&self, id: InviteId) -> Result<Option<IssuedInvite>, StoreError> {
        self.read(INVITES, &id, |bytes| {
            IssuedInvite::from_bytes(id, bytes).map_err(record("invites"))
        })
    }

    /// All invites we gave away, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn invites(&self) -> Result<Vec<IssuedInvite>, StoreError> {
        let mut invites = self.list(INVITES, |key, bytes| {
            let id = key
                .try_into()
                .map_err(|_wrong_length| record("invites")(WireError::Undefined))?;
            IssuedInvite::from_bytes(id, bytes).map_err(record("invites"))
        })?;
        invites.sort_by_key(|invite| (std::cmp::Reverse(invite.created_at_millis), invite.id));
        Ok(invites)
    }
}

impl Shelf for Store {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        Ok(self.read(CHAT, key, |bytes| Ok(bytes.to_vec()))?)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<shelf::Item>, ShelfError> {
        let scan = || -> Result<Vec<shelf::Item>, StoreError> {
            let range = self.sealer.range(prefix);
            let table = self.db.begin_read()?.open_table(CHAT)?;
            let mut found = Vec::new();
            for entry in table.range(range.as_slice()..)? {
                let (at, bytes) = entry?;
                if !at.value().starts_with(&range) {
                    break;
                }
                match self.sealer.open(name(CHAT), at.value(), bytes.value()) {
                    Ok((key, value)) if key.starts_with(prefix) => found.push((key, value)),
                    Ok(_another) => {}
                    // One message that is lost must not take all others with it.
                    Err(error) => tracing::error!(%error, "something of a conversation is lost"),
                }
            }
            found.sort_unstable();
            Ok(found)
        };
        Ok(scan()?)
    }

    fn count(&self, kind: &[u8], user: UserId) -> Result<usize, ShelfError> {
        Ok(self.count_chat(&[kind, user.as_bytes()].concat())?)
    }

    fn change(&self, changes: Vec<shelf::Change>) -> Result<(), ShelfError> {
        Ok(self.write(|txn| change_chat(txn, &changes))?)
    }

    fn note_forgotten(&self) -> Result<(), ShelfError> {
        Ok(self.wipe_unused_keys()?)
    }
}

fn change_chat(txn: &Txn<'_>, changes: &[shelf::Change]) -> Result<(), StoreError> {
    let mut table = txn.table(CHAT)?;
    for (key, value) in changes {
        match value {
            Some(value) => table.insert(key, value)?,
            None => {
                table.remove(key)?;
            }
        }
    }
    Ok(())
}

fn name(table: Table) -> &'static str {
    use redb::TableHandle as _;
    // The handle lends its name from itself.
    let mut names = NAMES.into_iter();
    names
        .find(|name| *name == table.name())
        .expect("each table is in the list")
}

fn read_node(bytes: &[u8]) -> Result<(u64, NodeAddress), StoreError> {
    let damaged = record("nodes");
    let mut reader = versioned(bytes).map_err(&damaged)?;
    let at = reader.u64().map_err(&damaged)?;
    let address = std::str::from_utf8(reader.rest()).ok();
    let address = address.and_then(|text| text.parse().ok());
    Ok((at, address.ok_or_else(|| damaged(WireError::Undefined))?))
}

fn read_record(bytes: &[u8]) -> Result<Record, StoreError> {
    Record::from_bytes(bytes).map_err(record("records"))
}

fn pinned_bytes(first_seen_millis: u64, log: &[u8]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.put_u64(first_seen_millis);
    bytes.put_bytes(log);
    bytes
}

fn read_pinned(user: UserId, bytes: &[u8]) -> Result<(u64, DeviceLog), StoreError> {
    let mut reader = versioned(bytes).map_err(record("logs"))?;
    let first_seen_millis = reader.u64().map_err(record("logs"))?;
    Ok((
        first_seen_millis,
        DeviceLog::from_bytes(user, reader.rest())?,
    ))
}

mod behind;
mod own;
pub(crate) use rescue::is_damaged_file;
pub mod rescue;
mod reseal;
mod sealed;
#[cfg(test)]
mod tests;
