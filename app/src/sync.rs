//! What one's own devices tell each other: contacts, names, verifications, blocks, and how contacts reach one.
//!
//! Every fact about a person is a *field* with a stamp, the time at which somebody set it here or on another device.
//! Of two values of one field the later counts; of two with one stamp, the greater bytes. So it does not matter in which
//! order or how often they arrive, and devices that have heard the same say the same.
//!
//! ```text
//! entry: | field u8 | user 32 | stamp u64 Unix ms | value, varint length |
//! field 0 standing    u8: 0 nobody, 1 contact, 2 blocked
//!       1 name        UTF-8
//!       2 verified    u64 Unix ms, 0 for not
//!       3 relay only  u8
//!       4 reach       u8 count, homes (varint length, text) | invite, may be empty
//!       5 capability  32 bytes; the user is oneself
//!       6 device      UTF-8: the name of the device that stands in the user's place
//!       7 record      as it was signed; the user is oneself
//!
//! on the shelf:
//! ye field, user    revision u64 | stamp u64 | value     what we know
//! yr                u64                                  the last revision: a number for each change made here
//! yd device         u64                                  up to this one the device was told
//! ```
//! A change here is numbered one higher than what it replaces, or by the clock if that is later: what a person does last
//! wins, also on a device whose clock is behind. What claims to come from the future is not believed.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use ahoy_nat::{
    discovery::record::{RECORD_LIFETIME_MILLIS, Record},
    supernode::mailbox::MailCapability,
};
use ahoy_transport::{
    identity::{DeviceId, Invite, UserId, log::MAX_HOMES},
    wire::{Reader, WireError, Writer},
};

use crate::{
    chat::{
        put_homes, read_homes,
        shelf::{Change, Item, Shelf, ShelfError},
    },
    contacts::{Contact, Ring},
    link::display_name,
};

/// Longest value, in bytes: four homes by name, and an invite.
pub const MAX_VALUE: usize = 2048;
/// Most entries kept: five of each of four thousand people.
pub const MAX_ENTRIES: usize = 20_000;
/// How far ahead of our clock a stamp may be, in milliseconds.
const MAX_AHEAD_MILLIS: u64 = 24 * 60 * 60 * 1000;
const MAX_INVITE: usize = 256;
/// A record is handed on again after this: four letters a day to a device that is off, and each holds for three quarters of a
/// day without another.
const HANDED_ON_MILLIS: u64 = RECORD_LIFETIME_MILLIS / 4;

const ENTRY: &[u8] = b"ye";
const REVISION: &[u8] = b"yr";
const TOLD: &[u8] = b"yd";

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Contact, blocked, or neither.
    Standing,
    /// What we call the person.
    Name,
    /// When safety words were compared.
    Verified,
    /// Our address is not the person's business.
    RelayOnly,
    /// How the person's calls are told of.
    Ring,
    /// Homes and invite.
    Reach,
    /// How contacts reach our boxes, and find us.
    Capability,
    /// What a device of ours is called.
    Device,
    /// Where we are found, as a device with the root key signed it: others keep it where it is looked for.
    Record,
}

const FIELDS: [Field; 9] = [
    Field::Standing,
    Field::Name,
    Field::Verified,
    Field::RelayOnly,
    Field::Ring,
    Field::Reach,
    Field::Capability,
    Field::Device,
    Field::Record,
];

impl Field {
    fn code(self) -> u8 {
        match self {
            Self::Standing => 0,
            Self::Name => 1,
            Self::Verified => 2,
            Self::RelayOnly => 3,
            Self::Reach => 4,
            Self::Capability => 5,
            Self::Device => 6,
            Self::Record => 7,
            Self::Ring => 8,
        }
    }

    fn of(code: u8) -> Option<Self> {
        FIELDS.into_iter().find(|field| field.code() == code)
    }
}

/// How we stand to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Neither of the two.
    Nobody,
    /// In the address book.
    Contact,
    /// Blocked.
    Blocked,
}

impl Standing {
    fn value(self) -> Vec<u8> {
        vec![match self {
            Self::Nobody => 0,
            Self::Contact => 1,
            Self::Blocked => 2,
        }]
    }

    fn read(value: &[u8]) -> Result<Self, WireError> {
        match value {
            [0] => Ok(Self::Nobody),
            [1] => Ok(Self::Contact),
            [2] => Ok(Self::Blocked),
            _undefined => Err(WireError::Undefined),
        }
    }
}

/// A fact with its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// About what.
    pub field: Field,
    /// About whom.
    pub user: UserId,
    /// Since when, Unix milliseconds.
    pub stamp: u64,
    /// What holds.
    pub value: Vec<u8>,
}

impl Entry {
    /// Writes it behind others.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.field.code());
        out.put_bytes(&self.user.0);
        out.put_u64(self.stamp);
        out.put_var_bytes(&self.value);
    }

    /// Its length as [`Self::put`] writes it, at most.
    #[must_use]
    pub fn max_len(&self) -> usize {
        1 + 32 + 8 + 8 + self.value.len()
    }

    /// Reads one of several. `None`: of a kind that this version does not know.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        let field = Field::of(reader.u8()?);
        let user = UserId(reader.array()?);
        let stamp = reader.u64()?;
        let value = reader.var_bytes(MAX_VALUE)?.to_vec();
        let Some(field) = field else { return Ok(None) };
        let entry = Self {
            field,
            user,
            stamp,
            value,
        };
        entry.check()?;
        Ok(Some(entry))
    }

    /// Reads all that are there.
    ///
    /// # Errors
    /// When one cannot be read, or there are more than [`MAX_ENTRIES`].
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, WireError> {
        let mut reader = Reader::new(bytes);
        let mut entries = Vec::new();
        while reader.remaining() > 0 {
            if entries.len() >= MAX_ENTRIES {
                return Err(WireError::TooLong);
            }
            entries.extend(Self::read(&mut reader)?);
        }
        Ok(entries)
    }

    fn check(&self) -> Result<(), WireError> {
        match self.field {
            Field::Standing => Standing::read(&self.value).map(drop),
            Field::Name | Field::Device => text(&self.value).map(drop),
            Field::Verified => number(&self.value).map(drop),
            Field::RelayOnly => flag(&self.value).map(drop),
            Field::Ring => ring(&self.value).map(drop),
            Field::Reach => read_reach(&self.value).map(drop),
            Field::Capability => capability(&self.value).map(drop),
            Field::Record => record(&self.value).map(drop),
        }
    }
}

fn text(value: &[u8]) -> Result<&str, WireError> {
    str::from_utf8(value).map_err(|_not_utf8| WireError::Undefined)
}

fn number(value: &[u8]) -> Result<u64, WireError> {
    let bytes: Result<[u8; 8], _> = value.try_into();
    bytes
        .map(u64::from_be_bytes)
        .map_err(|_length| WireError::Truncated)
}

fn flag(value: &[u8]) -> Result<bool, WireError> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _undefined => Err(WireError::Undefined),
    }
}

fn ring(value: &[u8]) -> Result<Ring, WireError> {
    match value {
        [code] => Ring::of(*code).ok_or(WireError::Undefined),
        _other => Err(WireError::Truncated),
    }
}

fn record(value: &[u8]) -> Result<Record, WireError> {
    Record::from_bytes(value).map_err(|_no_record| WireError::Undefined)
}

fn capability(value: &[u8]) -> Result<MailCapability, WireError> {
    let bytes: Result<[u8; 32], _> = value.try_into();
    bytes
        .map(MailCapability::from_bytes)
        .map_err(|_length| WireError::Truncated)
}

type Reach = (Vec<ahoy_transport::identity::NodeAddress>, Option<Invite>);

fn read_reach(value: &[u8]) -> Result<Reach, WireError> {
    let mut reader = Reader::new(value);
    let homes = read_homes(&mut reader, MAX_HOMES)?;
    let invite = match reader.var_bytes(MAX_INVITE)? {
        [] => None,
        bytes => Some(Invite::from_secret_bytes(bytes).map_err(|_not_one| WireError::Undefined)?),
    };
    reader.finish()?;
    Ok((homes, invite))
}

/// The fields of a contact.
fn fields(contact: &Contact) -> Vec<(Field, Vec<u8>)> {
    let mut reach = Vec::new();
    put_homes(&mut reach, &contact.homes, MAX_HOMES);
    let invite = contact.invite.as_ref().map(Invite::to_secret_bytes);
    reach.put_var_bytes(invite.as_ref().map_or(&[][..], |invite| &invite[..]));
    let verified = contact.verified_at_millis.unwrap_or(0);
    vec![
        (Field::Standing, Standing::Contact.value()),
        (Field::Name, contact.name.as_bytes().to_vec()),
        (Field::Verified, verified.to_be_bytes().to_vec()),
        (Field::RelayOnly, vec![u8::from(contact.relay_only)]),
        (Field::Ring, vec![contact.ring.code()]),
        (Field::Reach, reach),
    ]
}

/// What is known of a person, as [`SyncBook::merge`] left it.
#[derive(Debug, Clone)]
pub enum Synced {
    /// Forget the person.
    Nobody,
    /// This contact; the time of adding is that of the standing.
    Contact(Contact),
    /// Block the person.
    Blocked,
}

struct Known {
    revision: u64,
    stamp: u64,
    value: Vec<u8>,
}

/// What came of entries that another device sent.
#[derive(Debug, Default)]
pub struct Merged {
    /// What changes on the shelf.
    pub changes: Vec<Change>,
    /// About whom there is news.
    pub users: Vec<UserId>,
    /// The capability is another one now.
    pub capability: Option<MailCapability>,
}

/// The entries on a shelf.
#[derive(Debug, Clone, Copy)]
pub struct SyncBook<'a>(pub &'a dyn Shelf);

fn damaged(error: WireError) -> ShelfError {
    ShelfError(format!("what own devices share is damaged: {error}"))
}

fn entry_key(field: Field, user: UserId) -> Vec<u8> {
    [ENTRY, &[field.code()], &user.0].concat()
}

fn read_known(value: &[u8]) -> Result<Known, ShelfError> {
    let mut reader = Reader::new(value);
    let mut read = || {
        Ok(Known {
            revision: reader.u64()?,
            stamp: reader.u64()?,
            value: reader.rest().to_vec(),
        })
    };
    read().map_err(damaged)
}

fn change(field: Field, user: UserId, revision: u64, stamp: u64, value: &[u8]) -> Change {
    let mut bytes = Vec::with_capacity(16 + value.len());
    bytes.put_u64(revision);
    bytes.put_u64(stamp);
    bytes.put_bytes(value);
    (entry_key(field, user), Some(bytes))
}

impl SyncBook<'_> {
    fn known(&self, field: Field, user: UserId) -> Result<Option<Known>, ShelfError> {
        let found = self.0.get(&entry_key(field, user))?;
        found.map(|value| read_known(&value)).transpose()
    }

    fn number(&self, key: &[u8]) -> Result<u64, ShelfError> {
        let found = self.0.get(key)?;
        found.map_or(Ok(0), |value| number(&value).map_err(damaged))
    }

    /// The number of the last change made here.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn revision(&self) -> Result<u64, ShelfError> {
        self.number(REVISION)
    }

    /// What changes on the shelf when these fields are set here.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn noted(
        &self,
        user: UserId,
        fields: Vec<(Field, Vec<u8>)>,
        now_millis: u64,
    ) -> Result<Vec<Change>, ShelfError> {
        let mut revision = self.revision()?;
        let mut changes = Vec::new();
        for (field, value) in fields {
            let known = self.known(field, user)?;
            if known.as_ref().is_some_and(|known| known.value == value) {
                continue;
            }
            revision += 1;
            let after = known.map_or(0, |known| known.stamp.saturating_add(1));
            changes.push(change(field, user, revision, now_millis.max(after), &value));
        }
        if !changes.is_empty() {
            changes.push((REVISION.to_vec(), Some(revision.to_be_bytes().to_vec())));
        }
        Ok(changes)
    }

    /// What changes when somebody becomes this contact here.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn contact_noted(&self, contact: &Contact, at: u64) -> Result<Vec<Change>, ShelfError> {
        let mut fields = fields(contact);
        // As usual unless it was said otherwise: most never do.
        if contact.ring == Ring::Usual && self.known(Field::Ring, contact.user)?.is_none() {
            fields.retain(|(field, _)| *field != Field::Ring);
        }
        self.noted(contact.user, fields, at)
    }

    /// What changes when somebody is forgotten or blocked here, or no longer.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn standing_noted(
        &self,
        user: UserId,
        standing: Standing,
        at: u64,
    ) -> Result<Vec<Change>, ShelfError> {
        self.noted(user, vec![(Field::Standing, standing.value())], at)
    }

    /// What contacts reach us by is this from now on.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn note_capability(
        &self,
        me: UserId,
        capability: &MailCapability,
        now_millis: u64,
    ) -> Result<(), ShelfError> {
        let value = capability.as_bytes().to_vec();
        let changes = self.noted(me, vec![(Field::Capability, value)], now_millis)?;
        self.0.change(changes)
    }

    /// Hands our record on to our other devices, unless they have one that holds for long and says the same.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn note_record(&self, record: &Record, now_millis: u64) -> Result<(), ShelfError> {
        let (me, fields) = (record.fields().user, record.fields());
        let fresh_until = now_millis.saturating_add(RECORD_LIFETIME_MILLIS - HANDED_ON_MILLIS);
        let is_enough = self.record(me)?.is_some_and(|last| {
            let last = last.fields();
            last.not_after_millis > fresh_until
                && (&last.homes, last.log_head) == (&fields.homes, fields.log_head)
        });
        if is_enough {
            return Ok(());
        }
        let value = record.as_bytes().to_vec();
        let changes = self.noted(me, vec![(Field::Record, value)], now_millis)?;
        self.0.change(changes)
    }

    /// Our record, as it was handed on last. It is not judged.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn record(&self, me: UserId) -> Result<Option<Record>, ShelfError> {
        let known = self.known(Field::Record, me)?;
        let read = known.map(|known| record(&known.value).map_err(damaged));
        read.transpose()
    }

    /// A device of ours is called so.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn note_device(
        &self,
        device: DeviceId,
        name: &str,
        now_millis: u64,
    ) -> Result<(), ShelfError> {
        let name = display_name(name).into_bytes();
        let changes = self.noted(UserId(device.0), vec![(Field::Device, name)], now_millis)?;
        self.0.change(changes)
    }

    /// What a device of ours is called, if it has a name.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn device_name(&self, device: DeviceId) -> Result<Option<String>, ShelfError> {
        let known = self.known(Field::Device, UserId(device.0))?;
        let name = known.map(|known| String::from_utf8_lossy(&known.value).into_owned());
        Ok(name
            .map(|name| display_name(&name))
            .filter(|name| !name.is_empty()))
    }

    /// What a person was called here last, also when they are no contact any more.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn last_name(&self, user: UserId) -> Result<Option<String>, ShelfError> {
        let known = self.known(Field::Name, user)?;
        let name = known.map(|known| display_name(&String::from_utf8_lossy(&known.value)));
        Ok(name.filter(|name| !name.is_empty()))
    }

    fn entries(&self) -> Result<Vec<(u64, Entry)>, ShelfError> {
        let mut entries = Vec::new();
        for (key, value) in self.0.scan(ENTRY)? {
            let known = read_known(&value)?;
            let mut key = Reader::new(key.get(ENTRY.len()..).unwrap_or_default());
            let mut read = || Ok::<_, WireError>((key.u8()?, UserId(key.array()?)));
            let (code, user) = read().map_err(damaged)?;
            let field = Field::of(code).ok_or_else(|| damaged(WireError::Undefined))?;
            let entry = Entry {
                field,
                user,
                stamp: known.stamp,
                value: known.value,
            };
            entries.push((known.revision, entry));
        }
        Ok(entries)
    }

    /// All there is, for a device that has nothing.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn all(&self) -> Result<Vec<Entry>, ShelfError> {
        let entries = self.entries()?.into_iter();
        Ok(entries.map(|(_revision, entry)| entry).collect())
    }

    /// What was set here and `device` was not told yet, and the revision up to which it is told with these.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn untold(&self, device: DeviceId) -> Result<(Vec<Entry>, u64), ShelfError> {
        let revision = self.revision()?;
        let told = self.number(&[TOLD, &device.0].concat())?;
        if told >= revision {
            return Ok((Vec::new(), revision));
        }
        let entries = self.entries()?.into_iter();
        let news = entries.filter(|(revision, _entry)| *revision > told);
        Ok((news.map(|(_revision, entry)| entry).collect(), revision))
    }

    /// What changes when `device` was told everything up to `revision`; 0 makes it be told everything again.
    #[must_use]
    pub fn told(device: DeviceId, revision: u64) -> Change {
        let bytes = revision.to_be_bytes().to_vec();
        ([TOLD, &device.0].concat(), Some(bytes))
    }

    /// Takes what another device sent. Nothing is changed yet.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn merge(&self, entries: &[Entry], now_millis: u64) -> Result<Merged, ShelfError> {
        let mut merged = Merged::default();
        let mut count = self.0.scan(ENTRY)?.len();
        for entry in entries {
            let known = self.known(entry.field, entry.user)?;
            let mut repeated = merged.changes.iter();
            let at = entry_key(entry.field, entry.user);
            let repeated = repeated.rfind(|(key, _value)| *key == at);
            let repeated = repeated.and_then(|(_key, value)| value.as_deref());
            let known = match repeated {
                Some(value) => Some(read_known(value)?),
                None => known,
            };
            let is_news = known
                .as_ref()
                .is_none_or(|known| (known.stamp, &known.value) < (entry.stamp, &entry.value));
            let is_ahead = entry.stamp > now_millis.saturating_add(MAX_AHEAD_MILLIS);
            if !is_news || is_ahead || (known.is_none() && count >= MAX_ENTRIES) {
                continue;
            }
            count += usize::from(known.is_none());
            // It is told further by whoever set it.
            let revision = known.map_or(0, |known| known.revision);
            let (field, user) = (entry.field, entry.user);
            merged
                .changes
                .push(change(field, user, revision, entry.stamp, &entry.value));
            match field {
                Field::Capability => merged.capability = capability(&entry.value).ok(),
                Field::Device | Field::Record => {}
                Field::Standing
                | Field::Name
                | Field::Verified
                | Field::RelayOnly
                | Field::Ring
                | Field::Reach => {
                    if !merged.users.contains(&user) {
                        merged.users.push(user);
                    }
                }
            }
        }
        Ok(merged)
    }

    /// What holds about a person, by all entries.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn person(&self, user: UserId) -> Result<Option<Synced>, ShelfError> {
        let Some(standing) = self.known(Field::Standing, user)? else {
            return Ok(None);
        };
        let value = |field| -> Result<Vec<u8>, ShelfError> {
            let known = self.known(field, user)?;
            Ok(known.map_or_else(Vec::new, |known| known.value))
        };
        Ok(Some(
            match Standing::read(&standing.value).map_err(damaged)? {
                Standing::Nobody => Synced::Nobody,
                Standing::Blocked => Synced::Blocked,
                Standing::Contact => {
                    let name = String::from_utf8_lossy(&value(Field::Name)?).into_owned();
                    let mut name = display_name(&name);
                    if name.is_empty() {
                        name = user.to_string().chars().take(8).collect();
                    }
                    let (homes, invite) = read_reach(&value(Field::Reach)?).unwrap_or_default();
                    let verified = number(&value(Field::Verified)?).unwrap_or(0);
                    Synced::Contact(Contact {
                        user,
                        name,
                        added_at_millis: standing.stamp,
                        verified_at_millis: Some(verified).filter(|at| *at != 0),
                        relay_only: flag(&value(Field::RelayOnly)?).unwrap_or(false),
                        ring: ring(&value(Field::Ring)?).unwrap_or_default(),
                        homes,
                        invite,
                    })
                }
            },
        ))
    }
}

/// A shelf as it will be when some changes are made.
#[derive(Debug)]
struct Changed<'a> {
    shelf: &'a dyn Shelf,
    changes: &'a [Change],
}

impl Shelf for Changed<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        match self
            .changes
            .iter()
            .rfind(|(changed, _value)| changed == key)
        {
            Some((_key, value)) => Ok(value.clone()),
            None => self.shelf.get(key),
        }
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Item>, ShelfError> {
        self.shelf.scan(prefix)
    }

    fn change(&self, _changes: Vec<Change>) -> Result<(), ShelfError> {
        Err(ShelfError("this shelf is only looked at".into()))
    }
}

/// What holds about those of whom there is news, once `merged` is on the shelf.
///
/// # Errors
/// When the shelf fails.
pub fn persons(shelf: &dyn Shelf, merged: &Merged) -> Result<Vec<(UserId, Synced)>, ShelfError> {
    let changed = Changed {
        shelf,
        changes: &merged.changes,
    };
    let mut persons = Vec::new();
    for user in &merged.users {
        if let Some(person) = SyncBook(&changed).person(*user)? {
            persons.push((*user, person));
        }
    }
    Ok(persons)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::chat::shelf::MemoryShelf;

    const NOW: u64 = 1_800_000_000_000;

    fn user(n: u8) -> UserId {
        UserId([n; 32])
    }

    fn contact(n: u8, name: &str) -> Contact {
        Contact {
            user: user(n),
            name: name.into(),
            added_at_millis: NOW,
            verified_at_millis: None,
            relay_only: false,
            ring: Ring::Usual,
            homes: vec![],
            invite: None,
        }
    }

    fn note(shelf: &MemoryShelf, contact: &Contact, at: u64) {
        let changes = SyncBook(shelf).contact_noted(contact, at).unwrap();
        shelf.change(changes).unwrap();
    }

    fn take(shelf: &MemoryShelf, entries: &[Entry]) -> Vec<UserId> {
        let merged = SyncBook(shelf).merge(entries, NOW).unwrap();
        shelf.change(merged.changes).unwrap();
        merged.users
    }

    fn name(shelf: &MemoryShelf, n: u8) -> Option<String> {
        match SyncBook(shelf).person(user(n)).unwrap() {
            Some(Synced::Contact(contact)) => Some(contact.name),
            Some(Synced::Nobody | Synced::Blocked) | None => None,
        }
    }

    #[test]
    fn what_is_set_last_wins_field_by_field_on_both_sides() {
        let (desk, phone) = (MemoryShelf::default(), MemoryShelf::default());
        note(&desk, &contact(1, "Al"), NOW);
        take(&phone, &SyncBook(&desk).all().unwrap());
        assert_eq!(name(&phone, 1).as_deref(), Some("Al"));
        // One renames, the other verifies, neither knowing of the other.
        note(&desk, &contact(1, "Alice"), NOW + 5);
        let verified = Contact {
            verified_at_millis: Some(NOW + 7),
            ..contact(1, "Al")
        };
        note(&phone, &verified, NOW + 7);
        let (from_desk, from_phone) = (
            SyncBook(&desk).all().unwrap(),
            SyncBook(&phone).all().unwrap(),
        );
        take(&phone, &from_desk);
        take(&desk, &from_phone);
        for shelf in [&desk, &phone] {
            let Some(Synced::Contact(contact)) = SyncBook(shelf).person(user(1)).unwrap() else {
                panic!("a contact");
            };
            assert_eq!(contact.name, "Alice");
            assert_eq!(contact.verified_at_millis, Some(NOW + 7));
        }
        assert_eq!(take(&phone, &from_desk), [], "again is no news");
    }

    #[test]
    fn a_device_is_told_once_and_only_what_was_set_here() {
        let (desk, phone) = (MemoryShelf::default(), MemoryShelf::default());
        let told = DeviceId([9; 32]);
        note(&desk, &contact(1, "Al"), NOW);
        let (news, _revision) = SyncBook(&desk).untold(told).unwrap();
        assert_eq!(news.len(), 5, "that it rings as usual need not be said");
        let silent = Contact {
            ring: Ring::Never,
            ..contact(2, "Bo")
        };
        note(&desk, &silent, NOW);
        let (more, _revision) = SyncBook(&desk).untold(told).unwrap();
        take(&phone, &more);
        let bo = SyncBook(&phone).person(user(2)).unwrap();
        assert!(matches!(bo, Some(Synced::Contact(bo)) if bo.ring == Ring::Never));
        let changes = SyncBook(&desk).standing_noted(user(2), Standing::Nobody, NOW);
        desk.change(changes.unwrap()).unwrap();
        let (_news, revision) = SyncBook(&desk).untold(told).unwrap();
        desk.change(vec![SyncBook::told(told, revision)]).unwrap();
        assert_eq!(SyncBook(&desk).untold(told).unwrap().0, []);
        let changes = SyncBook(&desk).standing_noted(user(1), Standing::Blocked, NOW + 1);
        desk.change(changes.unwrap()).unwrap();
        let (news, _revision) = SyncBook(&desk).untold(told).unwrap();
        assert_eq!(news.len(), 1);
        take(&phone, &news);
        assert_eq!(SyncBook(&phone).untold(told).unwrap().0, []);
        assert!(matches!(
            SyncBook(&phone).person(user(1)).unwrap(),
            Some(Synced::Blocked)
        ));
    }

    #[test]
    fn the_last_word_counts_on_a_slow_clock_and_the_future_does_not() {
        let shelf = MemoryShelf::default();
        note(&shelf, &contact(1, "Al"), NOW);
        note(&shelf, &contact(1, "Bo"), NOW - 1_000_000);
        assert_eq!(name(&shelf, 1).as_deref(), Some("Bo"));
        let future = Entry {
            field: Field::Name,
            user: user(1),
            stamp: u64::MAX,
            value: b"Never".to_vec(),
        };
        assert_eq!(take(&shelf, &[future]), []);
        assert_eq!(name(&shelf, 1).as_deref(), Some("Bo"));
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let value = (0..3u8, "[a-c]{1,2}").prop_map(|(field, text)| match field {
            0 => (Field::Standing, vec![text.len() as u8 % 3]),
            1 => (Field::Name, text.into_bytes()),
            _ => (Field::RelayOnly, vec![text.len() as u8 % 2]),
        });
        (value, 0..3u8, NOW..NOW + 4).prop_map(|((field, value), n, stamp)| Entry {
            field,
            user: user(n),
            stamp,
            value,
        })
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(entries in vec(entry(), 0..24), seed: prop::sample::Index) {
            let (one, other) = (MemoryShelf::default(), MemoryShelf::default());
            take(&one, &entries);
            let mut turned = entries.clone();
            turned.rotate_left(seed.index(entries.len().max(1)).min(entries.len()));
            for chunk in turned.chunks(3).rev() {
                take(&other, chunk);
                take(&other, chunk);
            }
            prop_assert_eq!(SyncBook(&one).all().unwrap(), SyncBook(&other).all().unwrap());
        }

        #[test]
        fn entries_round_trip_and_garbage_is_an_error(entries in vec(entry(), 0..8), garbage: Vec<u8>) {
            let mut bytes = Vec::new();
            entries.iter().for_each(|entry| entry.put(&mut bytes));
            prop_assert_eq!(Entry::read_all(&bytes), Ok(entries));
            if let Ok(read) = Entry::read_all(&garbage) {
                prop_assert!(read.len() <= garbage.len());
            }
        }
    }
}
