//! Opening the database, whatever became of it: one from before the vault is sealed, and of a damaged one everything is
//! kept that can still be read, together with a copy of what matters most.
//!
//! The copy (`people.sealed`) holds what the database knew of people when it was opened or closed last, without
//! conversations and without what can be learnt again. It is written in a profile that is sealed alone.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
};

use ahoy_transport::wire::{Reader, WireError, Writer};
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableHandle,
    backends::InMemoryBackend,
};

use super::{
    CACHE_BYTES, CHAT, META, NETWORK, NODES, RECORDS, SCHEMA, SCHEMA_1, Store, StoreError, TABLES,
    name, sealed::Sealer,
};
use crate::{
    backup::Item,
    profile::{Profile, ProfileLock, files, sealing::SealedFile},
};

/// A larger database is not read as a whole whenever it is opened, in bytes: that would take longer than a blink.
const MAX_CHECKED: u64 = 32 << 20;

/// What goes with an open database so that not everything is lost with it.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    /// Whose it is; `None`: nobody's, in tests.
    profile: Option<Profile>,
    /// What was copied last.
    copied: Mutex<Option<zeroize::Zeroizing<Vec<u8>>>>,
    told: Option<Rescued>,
}

/// What became of a database that was damaged. As text it is English, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the profile's database was damaged ({why}): it is kept as {}; {read} of its entries could be read, {added} more come \
     from a copy, and messages may be missing",
    aside.display()
)]
pub struct Rescued {
    /// What was wrong with it.
    pub why: String,
    /// Where it lies now.
    pub aside: PathBuf,
    /// Entries that could be read.
    pub read: usize,
    /// Entries that come from a copy.
    pub added: usize,
}

/// How it can go on.
enum Outcome {
    Open(Store),
    /// It cannot be used, and not for a reason that passes.
    Damaged(String),
}

/// Opens the database of a profile.
pub(super) fn open(lock: &ProfileLock) -> Result<Store, StoreError> {
    let profile = lock.profile();
    let path = profile.database_path();
    let make = |file| Store::open_file(file, Sealer::of(profile)?).map(drop);
    drop(lock.open_database(make)?);
    let mut store = match checked(lock)? {
        Outcome::Open(store) => store,
        Outcome::Damaged(why) => {
            let told = rescue(profile, &path, why)?;
            tracing::warn!("{told}");
            match checked(lock)? {
                Outcome::Open(mut store) => {
                    store.rescue.told = Some(told);
                    store
                }
                Outcome::Damaged(why) => {
                    let error = redb::Error::Corrupted(why);
                    return Err(StoreError::Database(Box::new(error)));
                }
            }
        }
    };
    if profile.vault()?.is_some() && !store.sealer.seals() {
        let told = store.rescue.told.take();
        seal(profile, &path, store)?;
        return open(lock).map(|mut store| {
            store.rescue.told = told;
            store
        });
    }
    store.rescue.profile = Some(profile.clone());
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_CHECKED) {
        store.wipe_unused_keys()?;
    }
    // What the person did is not undone because a copy cannot be made.
    if let Err(error) = store.copy_people() {
        tracing::warn!(%error, "no copy of what is known of people");
    }
    Ok(store)
}

/// Opens it and looks whether all of it can be read. What reads a damaged file may panic.
fn checked(lock: &ProfileLock) -> Result<Outcome, StoreError> {
    let path = lock.profile().database_path();
    let len = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if len == 0 {
        // It would become an empty database that is whole.
        return Ok(Outcome::Damaged("it is empty".into()));
    }
    let open = || -> Result<Store, StoreError> {
        let sealer = Sealer::of(lock.profile())?;
        if len <= MAX_CHECKED {
            check(&path)?;
        }
        let store = Store::open_file(
            lock.open_database(|_there| Ok::<_, StoreError>(()))?,
            sealer,
        )?;
        for table in TABLES {
            if len <= MAX_CHECKED || table.name() != CHAT.name() {
                store.list(table, |_key, _value| Ok(()))?;
            }
        }
        Ok(store)
    };
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(store)) => Ok(Outcome::Open(store)),
        Ok(Err(error)) if is_damage(&error) => Ok(Outcome::Damaged(error.to_string())),
        Ok(Err(error)) => Err(error),
        Err(_panic) => Ok(Outcome::Damaged("it cannot be read".into())),
    }
}

/// Looks at all of it, in memory: to look is to mend what can be mended, and a file that was mended in vain opens no more, even
/// where nearly all of it could be read.
fn check(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::Database(Box::new(error));
    let io = |error| failed(redb::Error::Io(error));
    let bytes = fs::read(path).map_err(io)?;
    let memory = InMemoryBackend::new();
    memory
        .set_len(bytes.len() as u64)
        .and_then(|()| memory.write(0, &bytes))
        .map_err(io)?;
    drop(bytes);
    let looked = || -> Result<bool, redb::Error> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        Ok(builder.create_with_backend(memory)?.check_integrity()?)
    };
    match looked() {
        Ok(true) => Ok(()),
        // An older state is whole, and would be the one that counts.
        Ok(false) => Err(failed(redb::Error::Corrupted(
            "what was written last cannot be read".into(),
        ))),
        // Memory refuses nothing but a place that is not there.
        Err(redb::Error::Io(error)) => Err(failed(redb::Error::Corrupted(error.to_string()))),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a database is damaged: nothing else is wrong, such as the disk, the permissions, the version.
pub(crate) fn is_damaged_file(error: &redb::Error) -> bool {
    if let redb::Error::Io(error) = error {
        return matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
        );
    }
    // Of all the others there is none that a whole file gives: none was ever written in an older format.
    !matches!(error, redb::Error::DatabaseAlreadyOpen)
}

/// Whether it is the file that is wrong, and not the disk, the permissions, the version.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Database(error) => is_damaged_file(error),
        StoreError::Record { .. } | StoreError::Closed { .. } | StoreError::PinnedLog(_) => true,
        StoreError::Profile(_)
        | StoreError::InUse
        | StoreError::Newer(_)
        | StoreError::NoVault
        | StoreError::NotAContact
        | StoreError::Settings(_)
        | StoreError::Chat(_) => false,
    }
}

/// Makes a new database of what can be read of the damaged one and its copy, and keeps that one under another name. Gives
/// back what to tell.
fn rescue(profile: &Profile, path: &Path, why: String) -> Result<Rescued, StoreError> {
    let file = profile.create_file("ahoy.redb.new")?;
    let trial = path.with_file_name("ahoy.redb.read.tmp");
    drop(profile.create_file("ahoy.redb.read.tmp")?);
    let mut items: Vec<Item> = Vec::new();
    let mut read = 0;
    // What is done to read it must not be done to the only one.
    if fs::copy(path, &trial).is_ok() {
        items = readable(profile, &trial);
        read = items.len();
    }
    files::remove_wiped(&trial).unwrap_or_default();
    let copy = profile.read_sealed(SealedFile::People).ok().flatten();
    let copied = copy.and_then(|bytes| from_copy(&bytes).ok());
    let mut added = 0;
    for item in copied.unwrap_or_default() {
        let is_there = |(table, key, _value): &Item| (table, key) == (&item.0, &item.1);
        if !items.iter().any(is_there) {
            items.push(item);
            added += 1;
        }
    }
    let store = Store::open_file(file, Sealer::of(profile)?)?;
    store.replace_items(&items)?;
    drop(store);
    let io = |error| StoreError::Database(Box::new(redb::Error::Io(error)));
    let aside = files::keep_aside(path, &crate::profile::sealing::today()).map_err(io)?;
    files::take_name(
        profile.dir(),
        &path.with_file_name("ahoy.redb.new"),
        SealedFile::Database.name(),
    )
    .map_err(io)?;
    Ok(Rescued {
        why,
        aside,
        read,
        added,
    })
}

/// All records of a damaged database that open.
fn readable(profile: &Profile, path: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    let open = || {
        let file = File::options().read(true).write(true).open(path).ok()?;
        let db = Builder::new().set_cache_size(CACHE_BYTES).create_file(file);
        db.ok()
    };
    let Ok(Some(db)) = catch_unwind(AssertUnwindSafe(open)) else {
        return items;
    };
    let schema = || {
        let meta = db.begin_read().ok()?.open_table(META).ok()?;
        meta.get("schema").ok()?.map(|version| version.value())
    };
    let schema = catch_unwind(AssertUnwindSafe(schema)).unwrap_or_default();
    // What it says of itself may be wrong too. What opens with the key is sealed, whatever is said of it.
    let sealed = Sealer::of(profile).ok().filter(Sealer::seals);
    let plain = matches!(schema, Some(SCHEMA | SCHEMA_1)).then_some(Sealer::PLAIN);
    for sealer in sealed.iter().chain(&plain) {
        for table in TABLES {
            let of_table = || table_of(&db, sealer, table);
            // One that cannot be walked through costs its own records alone.
            items.extend(catch_unwind(AssertUnwindSafe(of_table)).unwrap_or_default());
        }
        if !items.is_empty() {
            break;
        }
    }
    // It may not close well either.
    catch_unwind(AssertUnwindSafe(move || drop(db))).unwrap_or_default();
    items
}

fn table_of(db: &Database, sealer: &Sealer, table: super::Table) -> Vec<Item> {
    let mut items = Vec::new();
    let Some(opened) = db
        .begin_read()
        .ok()
        .and_then(|txn| txn.open_table(table).ok())
    else {
        return items;
    };
    let Ok(entries) = opened.iter() else {
        return items;
    };
    for entry in entries {
        // Behind this there is nothing that can be trusted.
        let Ok((at, bytes)) = entry else { break };
        if let Ok((key, value)) = sealer.open(name(table), at.value(), bytes.value()) {
            items.push((table.name().to_owned(), key, value));
        }
    }
    items
}

/// Seals a database from before the vault: the old one is there until the new one is whole, and then wiped.
fn seal(profile: &Profile, path: &Path, old: Store) -> Result<(), StoreError> {
    let items = old.items()?;
    drop(old);
    let sealed = Store::open_file(profile.create_file("ahoy.redb.new")?, Sealer::of(profile)?)?;
    sealed.replace_items(&items)?;
    drop(sealed);
    let io = |error| StoreError::Database(Box::new(redb::Error::Io(error)));
    let from = path.with_file_name("ahoy.redb.new");
    files::take_name(profile.dir(), &from, SealedFile::Database.name()).map_err(io)
}

/// Whether the copy holds this: not what is learnt again, and not what was said.
fn is_copied((table, key, _value): &Item) -> bool {
    let relearnt = [RECORDS, NODES, NETWORK];
    !relearnt.iter().any(|other| other.name() == table)
        && (table != CHAT.name() || !matches!(key.first(), Some(b'm' | b'i' | b'u' | b'o')))
}

fn to_copy(items: &[Item]) -> zeroize::Zeroizing<Vec<u8>> {
    let sizes = items.iter();
    let sizes = sizes.map(|(table, key, value)| table.len() + key.len() + value.len() + 24);
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(sizes.sum()));
    for (table, key, value) in items {
        bytes.put_var_bytes(table.as_bytes());
        bytes.put_var_bytes(key);
        bytes.put_var_bytes(value);
    }
    bytes
}

fn from_copy(bytes: &[u8]) -> Result<Vec<Item>, WireError> {
    let mut reader = Reader::new(bytes);
    let mut items = Vec::new();
    while reader.remaining() > 0 {
        let table = str::from_utf8(reader.var_bytes(64)?).map_err(|_not| WireError::Undefined)?;
        let table = table.to_owned();
        let key = reader.var_bytes(bytes.len())?.to_vec();
        items.push((table, key, reader.var_bytes(bytes.len())?.to_vec()));
    }
    Ok(items)
}

impl Store {
    /// What became of a database that was damaged; `None` when it was whole.
    #[must_use]
    pub fn rescued(&self) -> Option<&Rescued> {
        self.rescue.told.as_ref()
    }

    fn copy_people(&self) -> Result<(), StoreError> {
        let Some(profile) = &self.rescue.profile else {
            return Ok(());
        };
        let Some(vault) = profile.vault()?.filter(|_vault| self.sealer.seals()) else {
            return Ok(());
        };
        let mut items = Vec::new();
        for table in TABLES {
            let its = self.list(table, |key, value| {
                let item = (name(table).to_owned(), key.to_vec(), value.to_vec());
                Ok(is_copied(&item).then_some(item))
            })?;
            items.extend(its.into_iter().flatten());
        }
        let bytes = to_copy(&items);
        let mut copied = self
            .rescue
            .copied
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if copied.is_none() {
            *copied = profile.read_sealed(SealedFile::People).ok().flatten();
        }
        if copied.as_ref() != Some(&bytes) {
            profile.write_sealed(&vault, SealedFile::People, &bytes)?;
            *copied = Some(bytes);
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.copy_people() {
            tracing::debug!(%error, "no copy of what is known of people");
        }
    }
}
