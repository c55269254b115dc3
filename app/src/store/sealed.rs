//! Records as they lie in the database: sealed, under names that tell nothing.
//!
//! ```text
//! key    of conversations: name of what it is 8 | name of whose it is 8 | name of the key 16;  of all else: name of the key 16
//! value  | name of the conversation 16, or zeros | nonce 24 | XChaCha20-Poly1305(u32 length, key, value), tag |
//! ```
//! Table and key as they lie there are authenticated: a record moved to another place does not open. What was said with
//! somebody is sealed with a key of its own, which lies in `chat.keys` and not in here: when that person is forgotten the key
//! is wiped there, and what freed pages of the database still hold is noise, also for whoever opens the vault. What sizes,
//! counts and times of writing tell, they tell.
//!
//! In a profile without a vault key and value lie there as they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use ahoy_transport::wire::{Reader, Writer};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::{CHAT, Store, StoreError, Table, behind::Disk};
use crate::{
    chat::shelf::Item,
    profile::{Profile, sealing::SealedFile},
    vault::{PartKey, TAG_BYTES, Vault},
};

/// Names a conversation.
type Tag = [u8; TAG_BYTES];
/// Records that belong to no conversation.
const NO_TAG: Tag = [0; TAG_BYTES];
/// Of a name, where it only gathers records: others that share it are told apart when they are open.
const SHORT: usize = 8;
const USER_LEN: usize = 32;

/// What of a conversation's key says what it is; with [`USER_LEN`] more: whose.
fn kind_len(key: &[u8]) -> usize {
    match key.first() {
        // What own devices tell each other has kinds of its own.
        Some(b'y') => 2,
        _other => 1,
    }
}

/// Whether this belongs to a conversation and goes with it, and whose it is. What is to be sent names its reader in the
/// value.
fn conversation<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Option<&'a [u8]> {
    match (key.first()?, value) {
        (b'm' | b'i' | b'u' | b'p' | b's', _) => key.get(1..1 + USER_LEN),
        // Behind a version.
        (b'o', Some(value)) => value.get(1..1 + USER_LEN),
        _other => None,
    }
}

/// Keys of conversations, as `chat.keys` holds them: name 16, key 32, and so on.
#[derive(Debug, Default)]
pub(super) struct ChatKeys(BTreeMap<Tag, PartKey>);

impl ChatKeys {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes);
        let mut keys = BTreeMap::new();
        while let (Ok(tag), Ok(key)) = (reader.array(), reader.array()) {
            keys.insert(tag, PartKey::from_bytes(key));
        }
        Self(keys)
    }

    pub(super) fn to_bytes(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let len = self.0.len() * (TAG_BYTES + 32);
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(len));
        for (tag, key) in &self.0 {
            bytes.put_bytes(tag);
            bytes.put_bytes(key.as_bytes());
        }
        bytes
    }
}

/// Where keys of conversations are kept.
#[derive(Debug)]
enum Keeper {
    Profile(Profile),
    /// They are written later, all at once.
    Nobody,
}

/// Seals records, and opens them.
#[derive(Debug)]
pub(super) struct Sealer(Option<Sealing>);

#[derive(Debug)]
struct Sealing {
    vault: Arc<Vault>,
    chats: Mutex<ChatKeys>,
    keeper: Keeper,
    /// Who writes what is sealed with these keys, and so the keys.
    disk: OnceLock<Disk>,
}

impl Sealing {
    fn chats(&self) -> MutexGuard<'_, ChatKeys> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, chats: &ChatKeys) -> Result<(), StoreError> {
        let Keeper::Profile(profile) = &self.keeper else {
            return Ok(());
        };
        let bytes = chats.to_bytes();
        let Some(disk) = self.disk.get() else {
            return Ok(profile.write_sealed(&self.vault, SealedFile::ChatKeys, &bytes)?);
        };
        let (profile, vault) = (profile.clone(), Arc::clone(&self.vault));
        let write = move || {
            let written = profile.write_sealed(&vault, SealedFile::ChatKeys, &bytes);
            written.map_err(io::Error::other)
        };
        Ok(disk.write_beside(write).map_err(redb::StorageError::from)?)
    }

    fn tag(&self, user: &[u8]) -> Tag {
        self.vault.name_of(&[b"conversation", user])
    }

    /// The key of a conversation; drawn, and on disk, before anything is sealed with it.
    fn key(&self, tag: Tag) -> Result<PartKey, StoreError> {
        let mut chats = self.chats();
        if let Some(key) = chats.0.get(&tag) {
            return Ok(key.clone());
        }
        let key = PartKey::draw();
        chats.0.insert(tag, key.clone());
        let kept = self.keep(&chats);
        if kept.is_err() {
            chats.0.remove(&tag);
        }
        kept.map(|()| key)
    }

    fn short(&self, what: &[u8], of: &[u8]) -> [u8; SHORT] {
        let name = self.vault.name_of(&[what, of]);
        let (short, _rest) = name.split_first_chunk().expect("a name has 16 bytes");
        *short
    }

    /// Where all records of conversations lie whose keys begin so, and maybe others.
    fn range(&self, prefix: &[u8]) -> Vec<u8> {
        let kind = kind_len(prefix);
        let mut range = Vec::with_capacity(2 * SHORT + TAG_BYTES);
        if let Some(kind) = prefix.get(..kind) {
            range.put_bytes(&self.short(b"kind", kind));
        }
        if let Some(whose) = prefix.get(..kind + USER_LEN) {
            range.put_bytes(&self.short(b"whose", whose));
        }
        range
    }

    fn name(&self, table: &str, key: &[u8]) -> Vec<u8> {
        let name = self.vault.name_of(&[table.as_bytes(), key]);
        if table != CHAT_NAME {
            return name.to_vec();
        }
        let mut place = self.range(key);
        place.resize(2 * SHORT, 0);
        place.put_bytes(&name);
        place
    }

    fn seal(
        &self,
        table: &str,
        key: &[u8],
        value: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        let at = self.name(table, key);
        let whose = conversation(key, Some(value)).filter(|_user| table == CHAT_NAME);
        let mut content = zeroize::Zeroizing::new(Vec::with_capacity(4 + key.len() + value.len()));
        content.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
        content.put_bytes(key);
        content.put_bytes(value);
        let place = [table.as_bytes(), &at];
        let (tag, sealed) = match whose {
            Some(user) => {
                let tag = self.tag(user);
                (tag, self.key(tag)?.seal(&place, &content))
            }
            None => (NO_TAG, self.vault.seal(&place, &content)),
        };
        let mut bytes = Vec::with_capacity(TAG_BYTES + sealed.len());
        bytes.put_bytes(&tag);
        bytes.put_bytes(&sealed);
        Ok((at, bytes))
    }

    fn open(&self, table: &'static str, at: &[u8], bytes: &[u8]) -> Result<Item, StoreError> {
        let closed = StoreError::Closed { table };
        let Some((tag, sealed)) = bytes.split_first_chunk::<TAG_BYTES>() else {
            return Err(closed);
        };
        let place = [table.as_bytes(), at];
        let opened = if *tag == NO_TAG {
            self.vault.open(&place, sealed)
        } else {
            let key = self.chats().0.get(tag).cloned();
            match key {
                Some(key) => key.open(&place, sealed),
                None => return Err(closed),
            }
        };
        let Ok(content) = opened else {
            return Err(closed);
        };
        let mut reader = Reader::new(&content);
        let key_len = reader.u32().map_or(0, |len| len as usize);
        let key = reader.bytes(key_len).map_err(super::record(table))?;
        Ok((key.to_vec(), reader.rest().to_vec()))
    }
}

const CHAT_NAME: &str = "chat";

impl Sealer {
    /// Of the profile, as it stands.
    pub(super) fn of(profile: &Profile) -> Result<Self, StoreError> {
        let Some(vault) = profile.vault()? else {
            return Ok(Self::PLAIN);
        };
        let chats = match profile.read_sealed(SealedFile::ChatKeys) {
            Ok(chats) => chats.map(|bytes| ChatKeys::from_bytes(&bytes)),
            Err(error @ crate::profile::ProfileError::Vault(..)) => {
                let aside = profile.set_aside(SealedFile::ChatKeys)?;
                tracing::warn!(
                    "{error}; it is kept as {}, and what was written with people until now cannot be read any more",
                    aside.display()
                );
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self(Some(Sealing {
            vault,
            chats: Mutex::new(chats.unwrap_or_default()),
            keeper: Keeper::Profile(profile.clone()),
            disk: OnceLock::new(),
        })))
    }

    /// For a vault that does not count yet: [`Self::chat_keys`] tells what is to be kept.
    pub(super) fn pending(vault: Vault) -> Self {
        Self(Some(Sealing {
            vault: Arc::new(vault),
            chats: Mutex::default(),
            keeper: Keeper::Nobody,
            disk: OnceLock::new(),
        }))
    }

    /// What it seals is written there.
    pub(super) fn write_to(&self, disk: &Disk) {
        if let Some(sealing) = &self.0
            && sealing.disk.set(disk.clone()).is_err()
        {
            tracing::debug!("it is written there already");
        }
    }

    /// Seals nothing.
    pub(super) const PLAIN: Self = Self(None);

    pub(super) fn seals(&self) -> bool {
        self.0.is_some()
    }

    /// Draws the keys that these records of conversations will need, and writes them all at once: each alone waits for the
    /// disk.
    pub(super) fn draw_keys<'a>(
        &self,
        records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), StoreError> {
        let Some(sealing) = &self.0 else {
            return Ok(());
        };
        let mut chats = sealing.chats();
        let mut drawn = Vec::new();
        for (key, value) in records {
            let Some(user) = conversation(key, Some(value)) else {
                continue;
            };
            let tag = sealing.tag(user);
            chats.0.entry(tag).or_insert_with(|| {
                drawn.push(tag);
                PartKey::draw()
            });
        }
        if drawn.is_empty() {
            return Ok(());
        }
        let kept = sealing.keep(&chats);
        if kept.is_err() {
            chats.0.retain(|tag, _key| !drawn.contains(tag));
        }
        kept
    }

    /// All keys of conversations.
    pub(super) fn chat_keys(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let sealing = self.0.as_ref();
        sealing.map_or_else(Default::default, |sealing| sealing.chats().to_bytes())
    }

    /// Where a record lies.
    pub(super) fn name(&self, table: Table, key: &[u8]) -> Vec<u8> {
        match &self.0 {
            Some(sealing) => sealing.name(super::name(table), key),
            None => key.to_vec(),
        }
    }

    /// Where all records of conversations lie whose keys begin so, and maybe others.
    pub(super) fn range(&self, prefix: &[u8]) -> Vec<u8> {
        match &self.0 {
            Some(sealing) => sealing.range(prefix),
            None => prefix.to_vec(),
        }
    }

    fn seal(&self, table: &'static str, key: &[u8], value: &[u8]) -> Result<Item, StoreError> {
        match &self.0 {
            Some(sealing) => sealing.seal(table, key, value),
            None => Ok((key.to_vec(), value.to_vec())),
        }
    }

    /// Key and value of a record.
    pub(super) fn open(
        &self,
        table: &'static str,
        at: &[u8],
        bytes: &[u8],
    ) -> Result<Item, StoreError> {
        match &self.0 {
            Some(sealing) => sealing.open(table, at, bytes),
            None => Ok((at.to_vec(), bytes.to_vec())),
        }
    }

    /// Wipes the keys of conversations that `used` does not name.
    fn keep_keys(&self, used: &BTreeSet<Tag>) -> Result<(), StoreError> {
        let Some(sealing) = &self.0 else {
            return Ok(());
        };
        let mut chats = sealing.chats();
        let before = chats.0.len();
        chats.0.retain(|tag, _key| used.contains(tag));
        if chats.0.len() < before {
            sealing.keep(&chats)?;
        }
        Ok(())
    }
}

/// A change of several tables.
pub(super) struct Txn<'a> {
    pub(super) txn: &'a WriteTransaction,
    pub(super) sealer: &'a Sealer,
}

impl<'a> Txn<'a> {
    pub(super) fn table(&self, table: Table) -> Result<Records<'a>, StoreError> {
        Ok(Records {
            inner: self.txn.open_table(table)?,
            name: super::name(table),
            table,
            sealer: self.sealer,
        })
    }
}

/// An open table.
pub(super) struct Records<'a> {
    inner: redb::Table<'a, &'static [u8], &'static [u8]>,
    name: &'static str,
    table: Table,
    sealer: &'a Sealer,
}

impl Records<'_> {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let at = self.sealer.name(self.table, key);
        let found = self.inner.get(at.as_slice())?;
        let open = |bytes: &[u8]| self.sealer.open(self.name, &at, bytes);
        let opened = found.map(|bytes| open(bytes.value())).transpose()?;
        Ok(opened.map(|(_key, value)| value))
    }

    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let (at, bytes) = self.sealer.seal(self.name, key, value)?;
        self.inner.insert(at.as_slice(), bytes.as_slice())?;
        Ok(())
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let at = self.sealer.name(self.table, key);
        Ok(self.inner.remove(at.as_slice())?.is_some())
    }

    pub(super) fn take(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.get(key)?;
        self.remove(key)?;
        Ok(value)
    }

    /// All, by key.
    pub(super) fn items(&self) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        for entry in self.inner.iter()? {
            let (at, bytes) = entry?;
            items.push(self.sealer.open(self.name, at.value(), bytes.value())?);
        }
        items.sort_unstable();
        Ok(items)
    }

    pub(super) fn len(&self) -> Result<u64, StoreError> {
        Ok(self.inner.len()?)
    }

    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        Ok(self.inner.retain(|_key, _value| false)?)
    }
}

impl Store {
    /// How many records of conversations have keys that begin so; nothing is opened. `prefix` says what they are and whose.
    pub(super) fn count_chat(&self, prefix: &[u8]) -> Result<usize, StoreError> {
        let range = self.sealer.range(prefix);
        let table = self.db.begin_read()?.open_table(CHAT)?;
        let mut count = 0;
        for entry in table.range(range.as_slice()..)? {
            if !entry?.0.value().starts_with(&range) {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Wipes the keys of conversations of which nothing is left.
    pub(super) fn wipe_unused_keys(&self) -> Result<(), StoreError> {
        if !self.sealer.seals() {
            return Ok(());
        }
        let table = self.db.begin_read()?.open_table(CHAT)?;
        let mut used = BTreeSet::new();
        for entry in table.iter()? {
            let (_at, bytes) = entry?;
            if let Some((tag, _sealed)) = bytes.value().split_first_chunk::<TAG_BYTES>() {
                used.insert(*tag);
            }
        }
        self.sealer.keep_keys(&used)
    }
}
