//! A person's whole profile as one file that nobody reads without the passphrase, or without the 24 words.
//!
//! ```text
//! | "AHOYBK" | ver=1 | kind u8: 1 passphrase, 2 words | salt 16 | KiB u32 | passes u32 | ChaCha20-Poly1305(content), tag |
//! content: | identity | settings | items |              each: u32 length, bytes
//! item:    | name of the table | key | value |          each: varint length, bytes
//! ```
//! Key with a passphrase: Argon2id (RFC 9106) of passphrase and salt with so many KiB and passes, one lane. With the words:
//! of the root key's seed, which is no passphrase and needs no slowness: HKDF-SHA256. The key serves for this one file, so
//! the nonce is zero; what stands before the ciphertext is authenticated with it.
//!
//! What is read is checked whole before anything is changed.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use ahoy_transport::{
    identity::RootKey,
    wire::{Reader, WireError, Writer},
};
use rand_core::CryptoRngCore;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};
use zeroize::Zeroizing;

use crate::{
    identity::{Identity, IdentityError},
    passphrase::{self, Cost, PassphraseError},
};

/// Longest file, in bytes: far more than conversations take.
pub const MAX_BACKUP: u64 = 2 << 30;
const MAGIC: &[u8; 6] = b"AHOYBK";
const VERSION: u8 = 1;
const PASSPHRASE: u8 = 1;
const WORDS: u8 = 2;
const HEADER_LEN: usize = MAGIC.len() + 2 + 16 + 4 + 4;
const WORDS_LABEL: &[u8] = b"ahoy/1 backup by words";

/// Why there is no backup, or nothing is restored from one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something else.
    #[error("that file is no backup of ahoy")]
    NotOne,
    /// Made by a newer program.
    #[error("the backup has version {0}, which this program does not know; update ahoy")]
    Newer(u8),
    /// Wrong key, or changed: they cannot be told apart.
    #[error("{}", sentence(*.0))]
    Closed(bool),
    /// It opens, and what is in it cannot be read.
    #[error("the backup opens, but what is in it is damaged: {0}")]
    Damaged(WireError),
    /// It opens, and the identity in it is none.
    #[error("the backup opens, but the identity in it is damaged: {0}")]
    Identity(#[from] IdentityError),
    /// It asks for more memory or time than any backup does.
    #[error("the backup asks for more work than any passphrase is worth; it was not made by ahoy")]
    TooCostly,
    /// Nobody should rely on it.
    #[error("{}", PassphraseError::Short)]
    Short,
}

fn sentence(by_words: bool) -> &'static str {
    if by_words {
        "these are not the words of that backup, or the file is damaged"
    } else {
        "that is not the passphrase of that backup, or the file is damaged"
    }
}

impl From<PassphraseError> for BackupError {
    fn from(error: PassphraseError) -> Self {
        match error {
            PassphraseError::Cost => Self::TooCostly,
            PassphraseError::Short => Self::Short,
        }
    }
}

impl From<WireError> for BackupError {
    fn from(error: WireError) -> Self {
        Self::Damaged(error)
    }
}

/// What opens a backup.
#[derive(Debug)]
pub enum Key<'a> {
    /// What somebody thought of.
    Passphrase(&'a str),
    /// The root key, as 24 words.
    Words(&'a RootKey),
}

/// An item of the database: table, key, value.
pub type Item = (String, Vec<u8>, Vec<u8>);

/// What a backup holds.
pub struct Content {
    /// Keys, device log, certificate.
    pub identity: Identity,
    /// The settings file.
    pub settings: String,
    /// The database.
    pub items: Vec<Item>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("identity", &self.identity)
            .field("items", &self.items.len())
            .finish_non_exhaustive()
    }
}

struct KeyLen;

impl hkdf::KeyType for KeyLen {
    fn len(&self) -> usize {
        32
    }
}

fn derive(key: &Key<'_>, salt: &[u8], cost: Cost) -> Result<LessSafeKey, BackupError> {
    let bytes = match key {
        Key::Passphrase(passphrase) => passphrase::key(passphrase, salt, cost)?,
        Key::Words(root) => {
            let mut bytes = Zeroizing::new([0; 32]);
            hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
                .extract(&*root.seed())
                .expand(&[WORDS_LABEL], KeyLen)
                .and_then(|okm| okm.fill(&mut *bytes))
                .expect("32 bytes are far fewer than 255 blocks");
            bytes
        }
    };
    let key = UnboundKey::new(&CHACHA20_POLY1305, &*bytes).expect("the key has 32 bytes");
    Ok(LessSafeKey::new(key))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
    out.put_bytes(part);
}

fn part<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let len = usize::try_from(reader.u32()?).map_err(|_too_large| WireError::TooLong)?;
    reader.bytes(len)
}

/// Seals a profile.
///
/// # Errors
/// [`BackupError::Short`].
pub fn seal(
    content: &Content,
    key: &Key<'_>,
    rng: &mut dyn CryptoRngCore,
) -> Result<Vec<u8>, BackupError> {
    if let Key::Passphrase(passphrase) = key {
        passphrase::check(passphrase)?;
    }
    seal_with(content, key, Cost::USUAL, rng)
}

fn seal_with(
    content: &Content,
    key: &Key<'_>,
    cost: Cost,
    rng: &mut dyn CryptoRngCore,
) -> Result<Vec<u8>, BackupError> {
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.put_bytes(MAGIC);
    header.put_u8(VERSION);
    header.put_u8(match key {
        Key::Passphrase(_) => PASSPHRASE,
        Key::Words(_) => WORDS,
    });
    header.put_bytes(&salt);
    header.put_u32(cost.memory_kib);
    header.put_u32(cost.passes);
    let identity = content.identity.to_secret_bytes();
    let items = content.items.iter();
    let sizes = items.map(|(table, key, value)| table.len() + key.len() + value.len() + 24);
    // Large enough from the start: growing would leave copies behind. It is sealed where it is.
    let room = identity.len() + content.settings.len() + 64 + sizes.sum::<usize>();
    let mut bytes = Vec::with_capacity(room);
    put_part(&mut bytes, &identity);
    put_part(&mut bytes, content.settings.as_bytes());
    for (table, key, value) in &content.items {
        bytes.put_var_bytes(table.as_bytes());
        bytes.put_var_bytes(key);
        bytes.put_var_bytes(value);
    }
    derive(key, &salt, cost)?
        .seal_in_place_append_tag(nonce(), Aad::from(&header), &mut bytes)
        .expect("a profile is far below the cipher's limit");
    header.append(&mut bytes);
    Ok(header)
}

/// Whether a backup is opened by the 24 words; else by a passphrase.
///
/// # Errors
/// [`BackupError::NotOne`] or [`BackupError::Newer`].
pub fn is_by_words(file: &[u8]) -> Result<bool, BackupError> {
    match file.strip_prefix(MAGIC).ok_or(BackupError::NotOne)? {
        [VERSION, PASSPHRASE, ..] => Ok(false),
        [VERSION, WORDS, ..] => Ok(true),
        [VERSION, ..] | [] => Err(BackupError::NotOne),
        [other, ..] => Err(BackupError::Newer(*other)),
    }
}

/// Opens a backup and checks all that is in it.
///
/// # Errors
/// [`BackupError`].
pub fn open(file: &[u8], key: &Key<'_>) -> Result<Content, BackupError> {
    let by_words = is_by_words(file)?;
    if by_words != matches!(key, Key::Words(_)) {
        return Err(BackupError::Closed(by_words));
    }
    let (header, sealed) = file
        .split_at_checked(HEADER_LEN)
        .ok_or(BackupError::NotOne)?;
    let mut reader = Reader::new(header);
    let _known = reader.bytes(MAGIC.len() + 2)?;
    let salt: [u8; 16] = reader.array()?;
    let cost = Cost {
        memory_kib: reader.u32()?,
        passes: reader.u32()?,
    };
    let cost = cost.check()?;
    let mut opened = Zeroizing::new(sealed.to_vec());
    let len = derive(key, &salt, cost)?
        .open_in_place(nonce(), Aad::from(header), &mut opened)
        .map_err(|_unopened| BackupError::Closed(by_words))?
        .len();
    let content = opened.get(..len).unwrap_or_default();
    let mut reader = Reader::new(content);
    let identity = Identity::from_secret_bytes(part(&mut reader)?)?;
    let settings = str::from_utf8(part(&mut reader)?).map_err(|_not_utf8| WireError::Undefined)?;
    let settings = settings.to_owned();
    let mut items = Vec::new();
    while reader.remaining() > 0 {
        let table = str::from_utf8(reader.var_bytes(64)?).map_err(|_not| WireError::Undefined)?;
        let table = table.to_owned();
        let key = reader.var_bytes(content.len())?.to_vec();
        let value = reader.var_bytes(content.len())?.to_vec();
        items.push((table, key, value));
    }
    Ok(Content {
        identity,
        settings,
        items,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
    };

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn content() -> Content {
        Content {
            identity: Identity::create(&mut rng(1), 1_800_000_000_000),
            settings: "version = 1\n".into(),
            items: vec![(
                "contacts".into(),
                vec![7; 32],
                b"canary of a contact".to_vec(),
            )],
        }
    }

    fn sealed() -> Vec<u8> {
        let key = Key::Passphrase("correct horse");
        seal_with(&content(), &key, CHEAP, &mut rng(2)).unwrap()
    }

    #[test]
    fn it_opens_with_its_key_alone_and_holds_everything() {
        let opened = open(&sealed(), &Key::Passphrase(" correct horse\n")).unwrap();
        let content = content();
        assert_eq!(
            opened.identity.to_secret_bytes(),
            content.identity.to_secret_bytes()
        );
        assert_eq!(opened.settings, content.settings);
        assert_eq!(opened.items, content.items);
        assert_eq!(
            open(&sealed(), &Key::Passphrase("correct house")).map(drop),
            Err(BackupError::Closed(false))
        );
        let root = content.identity.root().unwrap();
        let by_words = seal_with(&content, &Key::Words(root), CHEAP, &mut rng(3)).unwrap();
        assert_eq!(is_by_words(&by_words), Ok(true));
        assert!(open(&by_words, &Key::Words(root)).is_ok());
        let other = RootKey::generate(&mut rng(9));
        assert_eq!(
            open(&by_words, &Key::Words(&other)).map(drop),
            Err(BackupError::Closed(true))
        );
    }

    #[test]
    fn nothing_of_it_stands_in_the_file() {
        let (sealed, content) = (sealed(), content());
        let seed = content.identity.root().unwrap().seed();
        let has = |needle: &[u8]| sealed.windows(needle.len()).any(|part| part == needle);
        assert!(!has(b"canary") && !has(b"version") && !has(&*seed));
        // The same again is another file.
        let key = Key::Passphrase("correct horse");
        let again = seal_with(&content, &key, CHEAP, &mut rng(4)).unwrap();
        assert_ne!(sealed[HEADER_LEN..][..64], again[HEADER_LEN..][..64]);
    }

    #[test]
    fn short_passphrases_and_mad_costs_are_refused() {
        let key = Key::Passphrase("short");
        let refused = seal(&content(), &key, &mut rng(2));
        assert_eq!(refused, Err(BackupError::Short));
        let mut mad = sealed();
        mad[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            open(&mad, &Key::Passphrase("correct horse")).map(drop),
            Err(BackupError::TooCostly)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_changed_or_cut_does_not_open(at: prop::sample::Index, bit in 0..8u8, cut: prop::sample::Index) {
            let whole = sealed();
            let mut changed = whole.clone();
            let place = at.index(changed.len());
            changed[place] ^= 1 << bit;
            let key = Key::Passphrase("correct horse");
            // A cost of hundreds of MiB is paid before it can be known to be wrong: not here.
            if !(24..32).contains(&place) {
                prop_assert!(open(&changed, &key).is_err());
            }
            prop_assert!(open(&whole[..cut.index(whole.len())], &key).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes: Vec<u8>) {
            prop_assert!(open(&bytes, &Key::Passphrase("correct horse")).is_err());
        }
    }
}
