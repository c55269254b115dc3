//! The vault: what a profile is sealed with, so that its files tell nothing to whoever has them without the key.
//!
//! One random *data key* seals everything. The `vault` file holds it, wrapped by what opens the vault:
//!
//! ```text
//! vault: | "AHOYVT" | ver=1 | kind u8: 1 key file, 2 passphrase | id 16 | KiB u32 | passes u32 | salt 16 |
//!        | nonce 24 | XChaCha20-Poly1305(data key), tag | checksum 8 |
//! key:   | "AHOYVK" | ver=1 | 0 | id 16 | key 32 | checksum 8 |                       the key file, beside it
//! files: | magic 6  | ver=1 | 1 | id 16 | nonce 24 | XChaCha20-Poly1305(content), tag | checksum 8 |
//! ```
//! With a passphrase the wrapping key is Argon2id of it ([`crate::passphrase`]), with a key file HKDF-SHA256 of the file's
//! key. What stands before a nonce, and the file's name, are authenticated with what follows. The checksum is the start of
//! SHA-256 over everything before it: it tells damage from a wrong key, and is no protection. `id` is random and names the
//! data key: a new data key is drawn whenever another thing opens the vault, so that whoever kept an old key file or guesses
//! an old passphrase opens nothing that is written later.
//!
//! A *key file* lies beside what it opens. It protects single files that go astray (a database in a backup, pages that were
//! freed), not a disk that was stolen. That takes a passphrase.
//!
//! # Departures
//! Nonces are random and of 24 bytes, from the system: no caller chooses them, and a profile that is restored from a copy
//! cannot use one twice. Everything else that is random comes from there too.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::fmt;

use ahoy_transport::wire::{Reader, WireError, Writer};
use chacha20poly1305::{
    AeadInPlace as _, KeyInit as _, XChaCha20Poly1305, XNonce, aead::generic_array::GenericArray,
};
use rand_core::{OsRng, RngCore as _};
use ring::{hkdf, hmac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::passphrase::{self, Cost, PassphraseError};

const VAULT_MAGIC: &[u8; 6] = b"AHOYVT";
const KEY_MAGIC: &[u8; 6] = b"AHOYVK";
const VERSION: u8 = 1;
const KEY_FILE: u8 = 1;
const PASSPHRASE: u8 = 2;
const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const CHECKSUM_LEN: usize = 8;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const KEY_LEN: usize = 32;
/// Bytes of a vault's name.
pub const ID_LEN: usize = 16;
/// Bytes of the name of a record that tells nothing.
pub const TAG_BYTES: usize = 16;

/// Names a data key.
pub type VaultId = [u8; ID_LEN];

/// Why something stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Its checksum is wrong, or it is none.
    #[error("it is damaged")]
    Damaged,
    /// A newer program wrote it.
    #[error("it was written by a newer version of ahoy; update ahoy")]
    Newer,
    /// Another key, or somebody changed it and its checksum.
    #[error("this is not its key")]
    Closed,
    /// It asks for more work than any passphrase is worth.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
}

impl From<WireError> for VaultError {
    fn from(_error: WireError) -> Self {
        Self::Damaged
    }
}

/// What opens a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// A key in a file beside it.
    KeyFile,
    /// A passphrase, and what a guess at it takes.
    Passphrase(Cost),
}

/// What is to open a new vault.
#[derive(Clone, Copy)]
pub enum NewProtection<'a> {
    /// A key in a file beside it.
    KeyFile,
    /// This passphrase, with what a guess at it takes.
    Passphrase(&'a str, Cost),
}

impl fmt::Debug for NewProtection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyFile => f.write_str("KeyFile"),
            Self::Passphrase(_secret, cost) => f.debug_tuple("Passphrase").field(cost).finish(),
        }
    }
}

/// The `vault` file, read and whole.
#[derive(Debug, Clone)]
pub struct Header {
    id: VaultId,
    protection: Protection,
    salt: [u8; 16],
    /// What stands before the nonce.
    before: Vec<u8>,
    wrapped: Vec<u8>,
}

impl Header {
    /// Reads it.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], [`VaultError::Newer`], or a cost that no passphrase is worth.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        let content = checked(bytes, VAULT_MAGIC)?;
        let mut reader = Reader::new(content);
        reader.bytes(VAULT_MAGIC.len())?;
        let version = reader.u8()?;
        let kind = reader.u8()?;
        if version != VERSION || !matches!(kind, KEY_FILE | PASSPHRASE) {
            return Err(VaultError::Newer);
        }
        let id = reader.array()?;
        let cost = Cost {
            memory_kib: reader.u32()?,
            passes: reader.u32()?,
        };
        let salt = reader.array()?;
        let wrapped = reader.rest().to_vec();
        let before = content.len().saturating_sub(wrapped.len());
        let protection = if kind == KEY_FILE {
            Protection::KeyFile
        } else {
            Protection::Passphrase(cost.check()?)
        };
        Ok(Self {
            id,
            protection,
            salt,
            before: content.get(..before).unwrap_or_default().to_vec(),
            wrapped,
        })
    }

    /// Names its data key.
    #[must_use]
    pub fn id(&self) -> VaultId {
        self.id
    }

    /// What opens it.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Opens it by its key file.
    ///
    /// # Errors
    /// When that is damaged or another vault's.
    pub fn open_by_key_file(&self, file: &[u8]) -> Result<Vault, VaultError> {
        let content = checked(file, KEY_MAGIC)?;
        let mut reader = Reader::new(content);
        reader.bytes(KEY_MAGIC.len())?;
        if (reader.u8()?, reader.u8()?) != (VERSION, PLAIN) {
            return Err(VaultError::Newer);
        }
        let id: VaultId = reader.array()?;
        let key = Zeroizing::new(reader.array::<KEY_LEN>()?);
        reader.finish()?;
        if id != self.id || self.protection != Protection::KeyFile {
            return Err(VaultError::Closed);
        }
        self.unwrap(&derived(&*key, &self.salt, b"ahoy/1 vault key file"))
    }

    /// Opens it by its passphrase: that takes its time.
    ///
    /// # Errors
    /// [`VaultError::Closed`] when it is another one's.
    pub fn open_by_passphrase(&self, passphrase: &str) -> Result<Vault, VaultError> {
        self.unwrap(&*self.passphrase_key(passphrase)?)
    }

    /// What a passphrase comes to, which opens the vault like itself; it may be another one's.
    pub(crate) fn passphrase_key(
        &self,
        passphrase: &str,
    ) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError> {
        let Protection::Passphrase(cost) = self.protection else {
            return Err(VaultError::Closed);
        };
        Ok(passphrase::key(passphrase, &self.salt, cost)?)
    }

    /// Opens it by what its passphrase came to.
    pub(crate) fn open_by_passphrase_key(&self, key: &[u8; KEY_LEN]) -> Result<Vault, VaultError> {
        match self.protection {
            Protection::Passphrase(_) => self.unwrap(key),
            Protection::KeyFile => Err(VaultError::Closed),
        }
    }

    fn unwrap(&self, key: &[u8; KEY_LEN]) -> Result<Vault, VaultError> {
        let data_key = open_with(key, &[&self.before], &self.wrapped)?;
        let data_key: &[u8; KEY_LEN] = data_key
            .as_slice()
            .try_into()
            .map_err(|_length| VaultError::Damaged)?;
        Ok(Vault::of(self.id, data_key))
    }
}

/// A new vault, and the files that open it.
#[derive(Debug)]
pub struct NewVault {
    /// Open.
    pub vault: Vault,
    /// The `vault` file.
    pub header: Vec<u8>,
    /// The key file, if that opens it.
    pub key_file: Option<Zeroizing<Vec<u8>>>,
}

/// An open vault.
pub struct Vault {
    id: VaultId,
    seal: Zeroizing<[u8; KEY_LEN]>,
    names: hmac::Key,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// Draws a data key, and wraps it.
    ///
    /// # Errors
    /// When the passphrase is too short.
    pub fn create(protection: NewProtection<'_>) -> Result<NewVault, VaultError> {
        let (id, salt): (VaultId, [u8; 16]) = (drawn(), drawn());
        let data_key = Zeroizing::new(drawn::<KEY_LEN>());
        let file_key = Zeroizing::new(drawn::<KEY_LEN>());
        let (kind, cost) = match protection {
            NewProtection::KeyFile => (
                KEY_FILE,
                Cost {
                    memory_kib: 0,
                    passes: 0,
                },
            ),
            NewProtection::Passphrase(passphrase, cost) => {
                passphrase::check(passphrase)?;
                (PASSPHRASE, cost.check()?)
            }
        };
        let mut header = start(VAULT_MAGIC, kind, &id);
        header.put_u32(cost.memory_kib);
        header.put_u32(cost.passes);
        header.put_bytes(&salt);
        let (key, key_file) = match protection {
            NewProtection::KeyFile => {
                let mut file = Zeroizing::new(start(KEY_MAGIC, PLAIN, &id));
                file.reserve_exact(KEY_LEN + CHECKSUM_LEN);
                file.put_bytes(&*file_key);
                finish(&mut file);
                (
                    derived(&*file_key, &salt, b"ahoy/1 vault key file"),
                    Some(file),
                )
            }
            NewProtection::Passphrase(passphrase, cost) => {
                (passphrase::key(passphrase, &salt, cost)?, None)
            }
        };
        let wrapped = seal_with(&key, &[&header], &*data_key);
        header.put_bytes(&wrapped);
        finish(&mut header);
        Ok(NewVault {
            vault: Self::of(id, &data_key),
            header,
            key_file,
        })
    }

    fn of(id: VaultId, data_key: &[u8; KEY_LEN]) -> Self {
        let names = derived(data_key, &id, b"ahoy/1 vault names");
        Self {
            id,
            seal: derived(data_key, &id, b"ahoy/1 vault contents"),
            names: hmac::Key::new(hmac::HMAC_SHA256, &*names),
        }
    }

    /// The same, once more.
    pub(crate) fn again(&self) -> Self {
        Self {
            id: self.id,
            seal: self.seal.clone(),
            names: self.names.clone(),
        }
    }

    /// Names its data key.
    #[must_use]
    pub fn id(&self) -> VaultId {
        self.id
    }

    /// Seals a record that lies in `place`.
    #[must_use]
    pub fn seal(&self, place: &[&[u8]], content: &[u8]) -> Vec<u8> {
        seal_with(&self.seal, place, content)
    }

    /// Opens a record that lies in `place`.
    ///
    /// # Errors
    /// [`VaultError::Closed`]: another vault's, from another place, or changed.
    pub fn open(&self, place: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        open_with(&self.seal, place, sealed)
    }

    /// A name for this, which tells nothing of it and is the same each time. `parts` are told apart.
    #[must_use]
    pub fn name_of(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.names);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let (start, _rest) = tag
            .as_ref()
            .split_first_chunk()
            .expect("a tag has 32 bytes");
        *start
    }

    /// A whole file called `name`.
    #[must_use]
    pub fn seal_file(&self, magic: &[u8; 6], name: &str, content: &[u8]) -> Vec<u8> {
        let mut file = start(magic, SEALED, &self.id);
        let sealed = self.seal(&[name.as_bytes(), &file], content);
        file.put_bytes(&sealed);
        finish(&mut file);
        file
    }

    /// Opens such a file.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn open_file(
        &self,
        magic: &[u8; 6],
        name: &str,
        file: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        if sealed_by(magic, file)? != self.id {
            return Err(VaultError::Closed);
        }
        let content = checked(file, magic)?;
        let (before, sealed) = content
            .split_at_checked(magic.len() + 2 + ID_LEN)
            .ok_or(VaultError::Damaged)?;
        self.open(&[name.as_bytes(), before], sealed)
    }
}

/// A key of its own for part of what is kept, so that it can be destroyed: as [`Vault::seal`] and [`Vault::open`].
#[derive(Clone)]
pub struct PartKey(Zeroizing<[u8; KEY_LEN]>);

impl fmt::Debug for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartKey")
    }
}

impl PartKey {
    /// Draws one.
    #[must_use]
    pub fn draw() -> Self {
        Self(Zeroizing::new(drawn()))
    }

    /// From [`Self::as_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// To be sealed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// See [`Vault::seal`].
    #[must_use]
    pub fn seal(&self, place: &[&[u8]], content: &[u8]) -> Vec<u8> {
        seal_with(&self.0, place, content)
    }

    /// See [`Vault::open`].
    ///
    /// # Errors
    /// [`VaultError::Closed`].
    pub fn open(&self, place: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        open_with(&self.0, place, sealed)
    }
}

/// Whether a file is whole, and by which vault it was sealed.
///
/// # Errors
/// [`VaultError::Damaged`] or [`VaultError::Newer`].
pub fn sealed_by(magic: &[u8; 6], file: &[u8]) -> Result<VaultId, VaultError> {
    let mut reader = Reader::new(checked(file, magic)?);
    reader.bytes(magic.len())?;
    match (reader.u8()?, reader.u8()?) {
        (VERSION, SEALED) => Ok(reader.array()?),
        _other => Err(VaultError::Newer),
    }
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

fn start(magic: &[u8; 6], kind: u8, id: &VaultId) -> Vec<u8> {
    let mut file = Vec::with_capacity(256);
    file.put_bytes(magic);
    file.put_bytes(&[VERSION, kind]);
    file.put_bytes(id);
    file
}

/// The start of SHA-256: it tells damage.
///
/// # Panics
/// Never.
#[must_use]
pub fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let (start, _rest) = digest.split_first_chunk().expect("a hash has 32 bytes");
    *start
}

fn finish(file: &mut Vec<u8>) {
    let sum = checksum(file);
    file.put_bytes(&sum);
}

/// What stands before the checksum, if that is right.
fn checked<'a>(bytes: &'a [u8], magic: &[u8; 6]) -> Result<&'a [u8], VaultError> {
    let (content, sum) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .ok_or(VaultError::Damaged)?;
    if !content.starts_with(magic) || checksum(content) != *sum {
        return Err(VaultError::Damaged);
    }
    Ok(content)
}

struct KeyLen;

impl hkdf::KeyType for KeyLen {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

fn derived(key: &[u8], salt: &[u8], label: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key)
        .expand(&[label], KeyLen)
        .and_then(|okm| okm.fill(&mut *bytes))
        .expect("32 bytes are far fewer than 255 blocks");
    bytes
}

/// Parts of a place, each with its length before it, so that no two places are written alike.
fn place_bytes(place: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(place.iter().map(|part| part.len() + 8).sum());
    for part in place {
        bytes.put_u64(part.len() as u64);
        bytes.put_bytes(part);
    }
    bytes
}

fn seal_with(key: &[u8; KEY_LEN], place: &[&[u8]], content: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_LEN] = drawn();
    // Large enough from the start: growing would leave copies behind. It is sealed where it is.
    let mut bytes = Vec::with_capacity(NONCE_LEN + content.len() + TAG_LEN);
    bytes.put_bytes(&nonce);
    bytes.put_bytes(content);
    let (_nonce, inside) = bytes.split_at_mut(NONCE_LEN);
    let tag = XChaCha20Poly1305::new(GenericArray::from_slice(key))
        .encrypt_in_place_detached(XNonce::from_slice(&nonce), &place_bytes(place), inside)
        .expect("a record is far below the cipher's limit");
    bytes.put_bytes(&tag);
    bytes
}

fn open_with(
    key: &[u8; KEY_LEN],
    place: &[&[u8]],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let (nonce, sealed) = sealed
        .split_first_chunk::<NONCE_LEN>()
        .ok_or(VaultError::Closed)?;
    let (inside, tag) = sealed
        .split_last_chunk::<TAG_LEN>()
        .ok_or(VaultError::Closed)?;
    let mut content = Zeroizing::new(inside.to_vec());
    XChaCha20Poly1305::new(GenericArray::from_slice(key))
        .decrypt_in_place_detached(
            XNonce::from_slice(nonce),
            &place_bytes(place),
            &mut content,
            GenericArray::from_slice(tag),
        )
        .map_err(|_unopened| VaultError::Closed)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
    };
    const WORDS: &str = "five words that nobody knows";

    fn by_words() -> NewVault {
        Vault::create(NewProtection::Passphrase(WORDS, CHEAP)).unwrap()
    }

    #[test]
    fn its_passphrase_opens_it_and_no_other_does() {
        let new = by_words();
        assert!(new.key_file.is_none());
        let sealed = new.vault.seal(&[b"here"], b"secret");
        let header = Header::from_bytes(&new.header).unwrap();
        assert_eq!(header.protection(), Protection::Passphrase(CHEAP));
        let opened = header.open_by_passphrase(WORDS).unwrap();
        assert_eq!(opened.id(), new.vault.id());
        assert_eq!(**opened.open(&[b"here"], &sealed).unwrap(), *b"secret");
        let wrong = header.open_by_passphrase("five words that somebody knows");
        assert_eq!(wrong.map(drop), Err(VaultError::Closed));
        let short = Vault::create(NewProtection::Passphrase("short", CHEAP));
        let too_short = VaultError::Passphrase(PassphraseError::Short);
        assert_eq!(short.map(drop), Err(too_short));
    }

    #[test]
    fn its_key_file_opens_it_and_no_other_does() {
        let new = Vault::create(NewProtection::KeyFile).unwrap();
        let header = Header::from_bytes(&new.header).unwrap();
        let file = new.key_file.unwrap();
        let sealed = new.vault.seal(&[], b"secret");
        let opened = header.open_by_key_file(&file).unwrap();
        assert_eq!(**opened.open(&[], &sealed).unwrap(), *b"secret");
        let other = Vault::create(NewProtection::KeyFile).unwrap();
        let others = header.open_by_key_file(&other.key_file.unwrap());
        assert_eq!(others.map(drop), Err(VaultError::Closed));
        let guessed = header.open_by_passphrase(WORDS);
        assert_eq!(guessed.map(drop), Err(VaultError::Closed));
    }

    #[test]
    fn a_record_opens_in_its_place_alone() {
        let vault = by_words().vault;
        let sealed = vault.seal(&[b"contacts", b"ab"], b"x");
        assert_ne!(sealed, vault.seal(&[b"contacts", b"ab"], b"x"));
        assert!(vault.open(&[b"contacts", b"ab"], &sealed).is_ok());
        for elsewhere in [
            &[&b"contacts"[..], b"ba"][..],
            &[b"contactsab"],
            &[b"contactsa", b"b"],
            &[],
        ] {
            let opened = vault.open(elsewhere, &sealed);
            assert_eq!(opened.map(drop), Err(VaultError::Closed));
        }
        let part = PartKey::draw();
        let sealed = part.seal(&[b"here"], b"x");
        assert!(vault.open(&[b"here"], &sealed).is_err());
        let same = PartKey::from_bytes(*part.as_bytes());
        assert!(same.open(&[b"here"], &sealed).is_ok());
    }

    #[test]
    fn names_tell_nothing_and_stay() {
        let (vault, other) = (by_words().vault, by_words().vault);
        let name = vault.name_of(&[b"user", b"bo"]);
        assert_eq!(name, vault.name_of(&[b"user", b"bo"]));
        assert_ne!(name, vault.name_of(&[b"userb", b"o"]));
        assert_ne!(name, other.name_of(&[b"user", b"bo"]));
    }

    #[test]
    fn a_file_is_told_from_a_damaged_one_another_vaults_and_another_file() {
        let (vault, other) = (by_words().vault, by_words().vault);
        let file = vault.seal_file(b"AHOYID", "identity", b"keys");
        assert_eq!(sealed_by(b"AHOYID", &file), Ok(vault.id()));
        let opened = vault.open_file(b"AHOYID", "identity", &file).unwrap();
        assert_eq!(**opened, *b"keys");
        let closed = Err(VaultError::Closed);
        let opened =
            |vault: &Vault, name, file: &[u8]| vault.open_file(b"AHOYID", name, file).map(drop);
        assert_eq!(opened(&other, "identity", &file), closed);
        assert_eq!(opened(&vault, "settings", &file), closed);
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert_eq!(opened(&vault, "identity", &bad), Err(VaultError::Damaged));
            assert_eq!(
                opened(&vault, "identity", &file[..at]),
                Err(VaultError::Damaged)
            );
        }
        for at in [6, 7] {
            let mut newer = file[..file.len() - CHECKSUM_LEN].to_vec();
            newer[at] += 1;
            finish(&mut newer);
            assert_eq!(opened(&vault, "identity", &newer), Err(VaultError::Newer));
        }
    }

    #[test]
    fn a_header_that_is_damaged_newer_or_mad_is_refused() {
        let new = by_words();
        for at in 0..new.header.len() {
            let mut bad = new.header.clone();
            bad[at] ^= 1;
            let read = Header::from_bytes(&bad).map(drop);
            assert_eq!(read, Err(VaultError::Damaged), "byte {at}");
        }
        let changed = |at: usize, value: &[u8]| {
            let mut other = new.header[..new.header.len() - CHECKSUM_LEN].to_vec();
            other[at..at + value.len()].copy_from_slice(value);
            finish(&mut other);
            Header::from_bytes(&other)
        };
        assert_eq!(changed(6, &[2]).map(drop), Err(VaultError::Newer));
        assert_eq!(changed(7, &[9]).map(drop), Err(VaultError::Newer));
        let mad = changed(24, &u32::MAX.to_be_bytes()).map(drop);
        assert_eq!(mad, Err(VaultError::Passphrase(PassphraseError::Cost)));
        // Cheaper than it was made: then it is another key.
        let cheaper = changed(24, &32u32.to_be_bytes()).unwrap();
        let opened = cheaper.open_by_passphrase(WORDS).map(drop);
        assert_eq!(opened, Err(VaultError::Closed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn records_round_trip_and_changed_ones_do_not_open(
            place: Vec<u8>, content: Vec<u8>, at: prop::sample::Index, bit in 0..8u8,
        ) {
            let part = PartKey::from_bytes([7; 32]);
            let sealed = part.seal(&[&place], &content);
            let opened = part.open(&[&place], &sealed).unwrap();
            prop_assert_eq!(&**opened, &content);
            let mut changed = sealed.clone();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            prop_assert!(part.open(&[&place], &changed).is_err());
            prop_assert!(part.open(&[&place], &sealed[..at]).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes: Vec<u8>) {
            prop_assert!(Header::from_bytes(&bytes).is_err());
            prop_assert!(sealed_by(b"AHOYID", &bytes).is_err());
            prop_assert!(PartKey::from_bytes([7; 32]).open(&[], &bytes).is_err());
        }
    }
}
