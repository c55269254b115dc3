//! How a profile's files are sealed: the vault that they share, and what is done about it whenever the profile is taken.
//!
//! A profile from before the vault becomes a sealed one file after file; each says itself which it is, so that a kill
//! between any two leaves a profile that the next run goes on with. When another thing is to open the vault, everything is
//! sealed anew under names that hold the new vault's id, and counts from the moment at which the `vault` file is replaced:
//! whatever was left by a kill before it is removed, and after it put in its place.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ahoy_transport::runtime::{Runtime as _, TokioRuntime};
use zeroize::Zeroizing;

use super::{
    DATABASE_FILE, IDENTITY_FILE, MAGIC, MAX_IDENTITY_FILE, Profile, ProfileError, Writing, decode,
    encode, failed, files, private,
};
use crate::{
    keyring::{self, KeyringError},
    vault::{Header, NewProtection, NewVault, Protection, Vault, VaultError, VaultId, sealed_by},
};

const VAULT_FILE: &str = "vault";
const KEY_FILE: &str = "vault.key";
/// Says that the desktop's keyring has what the passphrase comes to.
const KEYRING_FILE: &str = "keyring";
/// Before the name of a vault, behind the name of a file that it seals and that does not count yet.
const PENDING: &str = ".new-";
/// Longest file that a vault needs.
const MAX_VAULT_FILE: u64 = 4096;
/// Longest sealed file but for the identity: keys of conversations, people, settings.
const MAX_SEALED_FILE: u64 = 64 << 20;
/// Says what the files are that a vault seals, but for the identity.
const SEALED_MAGIC: &[u8; 6] = b"AHOYSF";

/// A file that a vault seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealedFile {
    /// Who the person is.
    Identity,
    /// What of the settings tells of people and places.
    Settings,
    /// The database, which seals each of its records.
    Database,
    /// Keys of conversations.
    ChatKeys,
    /// What the database knew of people when it was opened or closed last.
    People,
}

impl SealedFile {
    const ALL: [Self; 5] = [
        Self::Identity,
        Self::Settings,
        Self::Database,
        Self::ChatKeys,
        Self::People,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => IDENTITY_FILE,
            Self::Settings => "settings.sealed",
            Self::Database => DATABASE_FILE,
            Self::ChatKeys => "chat.keys",
            Self::People => "people.sealed",
        }
    }

    /// It is kept twice: without it more is lost than itself.
    fn is_kept_twice(self) -> bool {
        match self {
            Self::Identity | Self::ChatKeys => true,
            // The people are a copy themselves.
            Self::Settings | Self::Database | Self::People => false,
        }
    }

    /// Its name while it does not count yet.
    pub(crate) fn pending(self, vault: VaultId) -> String {
        let hex: String = vault.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}{PENDING}{hex}", self.name())
    }
}

/// Asks for the passphrase.
pub type AskPassphrase = dyn Fn() -> Result<Zeroizing<String>, ProfileError> + Send + Sync;

/// What a profile needs to open its vault.
pub(super) struct Access {
    /// New profiles get a vault, and old ones too.
    pub(super) sealing: bool,
    pub(super) ask: Option<Arc<AskPassphrase>>,
    opened: Mutex<Option<Arc<Vault>>>,
    /// The keyring was of no use for this vault.
    in_vain: Mutex<Option<VaultId>>,
}

impl Access {
    pub(super) fn new(sealing: bool, ask: Option<Arc<AskPassphrase>>) -> Self {
        Self {
            sealing,
            ask,
            opened: Mutex::default(),
            in_vain: Mutex::default(),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("sealing", &self.sealing)
            .finish_non_exhaustive()
    }
}

/// Today, for the names of what is set aside.
pub(crate) fn today() -> String {
    files::date(TokioRuntime.unix_millis())
}

impl Profile {
    /// What opens the profile; `None` when it is not sealed.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn protection(&self) -> Result<Option<Protection>, ProfileError> {
        Ok(self.header()?.map(|header| header.protection()))
    }

    /// Whether a passphrase has to be told before anything in the profile can be read.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn is_locked(&self) -> Result<bool, ProfileError> {
        let Some(header) = self.header()? else {
            return Ok(false);
        };
        Ok(matches!(header.protection(), Protection::Passphrase(_))
            && self.opened(header.id()).is_none()
            && self.open_by_keyring(&header).is_none())
    }

    /// Opens the profile by its passphrase, which takes its time. One that needs none is open.
    ///
    /// # Errors
    /// [`ProfileError::WrongPassphrase`], or when it cannot be read.
    pub fn unlock(&self, passphrase: &str) -> Result<(), ProfileError> {
        let Some(header) = self.header()? else {
            return Ok(());
        };
        if matches!(header.protection(), Protection::Passphrase(_)) {
            let opened = header.open_by_passphrase(passphrase);
            self.keep_open(opened.map_err(|error| match error {
                VaultError::Closed => ProfileError::WrongPassphrase,
                VaultError::Damaged | VaultError::Newer | VaultError::Passphrase(_) => {
                    ProfileError::Vault(self.dir.join(VAULT_FILE), error)
                }
            })?);
        }
        Ok(())
    }

    /// The vault, open; `None` when the profile is not sealed. Asks for the passphrase where there is one.
    pub(crate) fn vault(&self) -> Result<Option<Arc<Vault>>, ProfileError> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        if let Some(vault) = self.opened(header.id()) {
            return Ok(Some(vault));
        }
        match header.protection() {
            Protection::KeyFile => Ok(Some(self.keep_open(self.open_by_key_file(&header)?))),
            Protection::Passphrase(_) => {
                if let Some(vault) = self.open_by_keyring(&header) {
                    return Ok(Some(vault));
                }
                let ask = self.access.ask.as_ref().ok_or(ProfileError::Locked)?;
                self.unlock(&ask()?)?;
                // It may have become another one while somebody typed.
                self.opened(header.id())
                    .map(Some)
                    .ok_or(ProfileError::Locked)
            }
        }
    }

    /// Whether the desktop's keyring has what opens this profile, as far as is known here.
    #[must_use]
    pub fn is_in_keyring(&self) -> bool {
        self.dir.join(KEYRING_FILE).exists()
    }

    /// Has the desktop's keyring keep what the passphrase comes to, which is asked for. The passphrase opens the profile all
    /// the same.
    ///
    /// # Errors
    /// When there is no passphrase, a wrong one was told, or the keyring does not take it.
    pub fn keep_in_keyring(&self) -> Result<(), ProfileError> {
        let Some(header) = self.header()? else {
            return Err(ProfileError::NoPassphraseSet);
        };
        if !matches!(header.protection(), Protection::Passphrase(_)) {
            return Err(ProfileError::NoPassphraseSet);
        }
        let ask = self.access.ask.as_ref().ok_or(ProfileError::Locked)?;
        self.keep_this_in_keyring(&ask()?)
    }

    /// The same with a passphrase that was told.
    ///
    /// # Errors
    /// As [`Self::keep_in_keyring`].
    pub(crate) fn keep_this_in_keyring(&self, passphrase: &str) -> Result<(), ProfileError> {
        let Some(header) = self.header()? else {
            return Err(ProfileError::NoPassphraseSet);
        };
        let wrong = |error| match error {
            VaultError::Closed => ProfileError::WrongPassphrase,
            VaultError::Damaged | VaultError::Newer | VaultError::Passphrase(_) => {
                ProfileError::Vault(self.dir.join(VAULT_FILE), error)
            }
        };
        let key = header.passphrase_key(passphrase).map_err(wrong)?;
        self.keep_open(header.open_by_passphrase_key(&key).map_err(wrong)?);
        let label = format!("ahoy: profile {}", self.dir.display());
        keyring::keep(header.id(), &label, &key)?;
        let _writing = self.begin_write()?;
        let mark = b"the desktop's keyring has what opens this profile; so does its passphrase\n";
        files::put(&self.dir, KEYRING_FILE, mark)
            .map_err(failed("write", &self.dir.join(KEYRING_FILE)))
    }

    /// Has the keyring forget it. From then on the passphrase is asked for.
    ///
    /// # Errors
    /// When the mark cannot be removed; or, after that, the keyring does not let go of it.
    pub fn take_from_keyring(&self) -> Result<(), ProfileError> {
        let mark = self.dir.join(KEYRING_FILE);
        files::remove_if_there(&mark).map_err(failed("remove", &mark))?;
        match self.header()?.map(|header| keyring::forget(header.id())) {
            Some(Err(error)) => Err(error.into()),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// The vault, opened by what the keyring has; none where it is of no use, which is told once.
    fn open_by_keyring(&self, header: &Header) -> Option<Arc<Vault>> {
        if !self.is_in_keyring() {
            return None;
        }
        let mut in_vain = self
            .access
            .in_vain
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *in_vain == Some(header.id()) {
            return None;
        }
        let found = keyring::find(header.id()).and_then(|key| {
            let opened = header.open_by_passphrase_key(&key);
            opened.map_err(|_another| KeyringError::Missing)
        });
        match found {
            Ok(vault) => Some(self.keep_open(vault)),
            Err(error) => {
                *in_vain = Some(header.id());
                tracing::warn!("{error}; the passphrase opens this profile");
                None
            }
        }
    }

    fn opened(&self, id: VaultId) -> Option<Arc<Vault>> {
        let opened = self.access.opened.lock();
        let opened = opened.unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().filter(|vault| vault.id() == id).cloned()
    }

    pub(crate) fn keep_open(&self, vault: Vault) -> Arc<Vault> {
        let vault = Arc::new(vault);
        let mut opened = self
            .access
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *opened = Some(Arc::clone(&vault));
        vault
    }

    fn read_file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ProfileError> {
        let path = self.dir.join(name);
        files::read(&path, limit).map_err(failed("read", &path))
    }

    /// The first of the two of a file that `parse` takes. What both say is wrong is the error.
    fn first_good<T>(
        &self,
        name: &str,
        parse: impl Fn(&[u8]) -> Result<T, VaultError>,
    ) -> Result<Option<T>, ProfileError> {
        let mut wrong = None;
        for name in [name.to_owned(), files::copy_of(name)] {
            let Some(bytes) = self.read_file(&name, MAX_VAULT_FILE)? else {
                continue;
            };
            match parse(&Zeroizing::new(bytes)) {
                Ok(parsed) => return Ok(Some(parsed)),
                Err(error @ VaultError::Newer) => {
                    return Err(ProfileError::Vault(self.dir.join(name), error));
                }
                Err(error) => {
                    wrong.get_or_insert(ProfileError::Vault(self.dir.join(name), error));
                }
            }
        }
        wrong.map_or(Ok(None), Err)
    }

    fn header(&self) -> Result<Option<Header>, ProfileError> {
        self.first_good(VAULT_FILE, Header::from_bytes)
    }

    fn open_by_key_file(&self, header: &Header) -> Result<Vault, ProfileError> {
        self.first_good(KEY_FILE, |file| header.open_by_key_file(file))?
            .ok_or_else(|| ProfileError::NoKey(self.dir.join(KEY_FILE)))
    }

    /// The vault that new files are sealed with: the one that is there, or a new one in a profile that has nothing yet.
    pub(super) fn vault_for_new(
        &self,
        writing: &Writing,
    ) -> Result<Option<Arc<Vault>>, ProfileError> {
        if let Some(vault) = self.vault()? {
            return Ok(Some(vault));
        }
        let is_old = self.identity_path().exists() || self.database_path().exists();
        // An old one is sealed when it is taken as a whole.
        if is_old || !self.access.sealing {
            return Ok(None);
        }
        self.make_vault(writing).map(Some)
    }

    fn make_vault(&self, writing: &Writing) -> Result<Arc<Vault>, ProfileError> {
        let new = Vault::create(NewProtection::KeyFile)
            .map_err(|error| ProfileError::Vault(self.dir.join(VAULT_FILE), error))?;
        self.put_key_file(writing, &new)?;
        self.put_twice(writing, VAULT_FILE, &new.header)?;
        Ok(self.keep_open(new.vault))
    }

    /// Before the vault itself: without it nothing would open that.
    pub(crate) fn put_key_file(
        &self,
        writing: &Writing,
        new: &NewVault,
    ) -> Result<(), ProfileError> {
        match &new.key_file {
            Some(file) => self.put_twice(writing, KEY_FILE, file),
            None => Ok(()),
        }
    }

    /// From now on everything counts that was sealed for this vault.
    pub(crate) fn count_from_now(
        &self,
        writing: &Writing,
        new: NewVault,
    ) -> Result<(), ProfileError> {
        self.put_twice(writing, VAULT_FILE, &new.header)?;
        self.keep_open(new.vault);
        self.tidy(writing)
    }

    fn put_twice(&self, _writing: &Writing, name: &str, bytes: &[u8]) -> Result<(), ProfileError> {
        files::put_twice(&self.dir, name, bytes).map_err(failed("write", &self.dir.join(name)))
    }

    /// Brings order into what a kill, a copy or an older version left. Whoever calls has the profile.
    pub(super) fn prepare(&self) -> Result<(), ProfileError> {
        let writing = self.begin_write()?;
        if self.header()?.is_none() {
            if !self.access.sealing {
                return Ok(());
            }
            match self.read_plain_identity() {
                // Nothing of a newer version's is touched.
                Err(error @ (ProfileError::Newer(_) | ProfileError::NoVault(_))) => {
                    return Err(error);
                }
                Err(_told_when_it_is_needed) => return Ok(()),
                Ok(_) => {}
            }
            self.make_vault(&writing)?;
            tracing::debug!("this profile is sealed from now on");
        }
        self.tidy(&writing)?;
        self.mend_identity(&writing)?;
        if !self.is_locked()?
            && let Some(identity) = self.read_plain_identity()?
            && let Some(vault) = self.vault()?
        {
            self.put_twice(&writing, IDENTITY_FILE, &encode(&identity, Some(&vault)))?;
        }
        Ok(())
    }

    /// The identity of a profile from before the vault, if that is how it stands here.
    fn read_plain_identity(&self) -> Result<Option<crate::identity::Identity>, ProfileError> {
        let path = self.identity_path();
        let Some(bytes) = self.read_file(IDENTITY_FILE, MAX_IDENTITY_FILE)? else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        if self.header()?.is_some() && sealed_by(MAGIC, &bytes).is_ok() {
            return Ok(None);
        }
        decode(&bytes, &path, None).map(Some)
    }

    /// Puts what was sealed for the vault in its place, and removes what was sealed for one that never counted.
    fn tidy(&self, writing: &Writing) -> Result<(), ProfileError> {
        let Some(header) = self.header()? else {
            return Ok(());
        };
        let cannot = |name: &str| failed("replace", &self.dir.join(name));
        for file in SealedFile::ALL {
            let pending = file.pending(header.id());
            let from = self.dir.join(&pending);
            if !from.exists() {
                continue;
            }
            if file.is_kept_twice() {
                let bytes = files::read(&from, MAX_SEALED_FILE).map_err(cannot(&pending))?;
                let copy = files::copy_of(file.name());
                files::put(&self.dir, &copy, &bytes.unwrap_or_default()).map_err(cannot(&copy))?;
            }
            files::take_name(&self.dir, &from, file.name()).map_err(cannot(file.name()))?;
        }
        for entry in std::fs::read_dir(&self.dir).map_err(cannot(""))? {
            let entry = entry.map_err(cannot(""))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_pending = |file: &SealedFile| {
                name.strip_prefix(file.name())
                    .is_some_and(|rest| rest.starts_with(PENDING))
            };
            if SealedFile::ALL.iter().any(is_pending) {
                files::remove_wiped(&entry.path()).map_err(cannot(&name))?;
            }
        }
        if matches!(header.protection(), Protection::Passphrase(_)) {
            for name in [KEY_FILE.to_owned(), files::copy_of(KEY_FILE)] {
                files::remove_wiped(&self.dir.join(&name)).map_err(cannot(&name))?;
            }
        }
        // One of the two may be missing, damaged, or an older one.
        let good = |bytes: &[u8]| {
            Header::from_bytes(bytes).is_ok_and(|header_here| header_here.id() == header.id())
        };
        self.mend(writing, VAULT_FILE, good)
    }

    /// Makes both of a file that is kept twice the same, if one of them is good.
    fn mend(
        &self,
        _writing: &Writing,
        name: &str,
        good: impl Fn(&[u8]) -> bool,
    ) -> Result<(), ProfileError> {
        let copy = files::copy_of(name);
        let (first, second) = (
            self.read_file(name, MAX_SEALED_FILE)?.map(Zeroizing::new),
            self.read_file(&copy, MAX_SEALED_FILE)?.map(Zeroizing::new),
        );
        if first == second {
            return Ok(());
        }
        let cannot = |name: &str| failed("write", &self.dir.join(name));
        if let Some(first) = first.as_ref().filter(|bytes| good(bytes)) {
            return files::put(&self.dir, &copy, first).map_err(cannot(&copy));
        }
        if let Some(second) = second.as_ref().filter(|bytes| good(bytes)) {
            if first.is_some() {
                let aside = files::set_aside(&self.dir.join(name), &today());
                let aside = aside.map_err(cannot(name))?;
                tracing::warn!(
                    "{name} in the profile was damaged; its copy took its place, and it is kept as {}",
                    aside.display()
                );
            }
            return files::put(&self.dir, name, second).map_err(cannot(name));
        }
        Ok(())
    }

    fn mend_identity(&self, writing: &Writing) -> Result<(), ProfileError> {
        let Some(header) = self.header()? else {
            return Ok(());
        };
        // What a newer version wrote is left alone, although it cannot be read here.
        let there = self.read_file(IDENTITY_FILE, MAX_SEALED_FILE)?;
        if there.is_some_and(|bytes| sealed_by(MAGIC, &bytes) == Err(VaultError::Newer))
            && self.read_plain_identity()?.is_none()
        {
            return Err(ProfileError::Newer(self.identity_path()));
        }
        let good = |bytes: &[u8]| sealed_by(MAGIC, bytes) == Ok(header.id());
        self.mend(writing, IDENTITY_FILE, good)?;
        let good = |bytes: &[u8]| sealed_by(SEALED_MAGIC, bytes) == Ok(header.id());
        self.mend(writing, SealedFile::ChatKeys.name(), good)
    }

    /// Reads a file that the vault sealed; `None` when there is none, or no vault.
    pub(crate) fn read_sealed(
        &self,
        file: SealedFile,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ProfileError> {
        let Some(vault) = self.vault()? else {
            return Ok(None);
        };
        let mut wrong = None;
        let copy = file.is_kept_twice().then(|| files::copy_of(file.name()));
        let names = [file.pending(vault.id()), file.name().to_owned()];
        for name in names.into_iter().chain(copy) {
            let Some(bytes) = self.read_file(&name, MAX_SEALED_FILE)? else {
                continue;
            };
            match vault.open_file(SEALED_MAGIC, file.name(), &bytes) {
                Ok(content) => return Ok(Some(content)),
                Err(error) => {
                    wrong.get_or_insert(ProfileError::Vault(self.dir.join(&name), error));
                }
            }
        }
        wrong.map_or(Ok(None), Err)
    }

    /// Replaces a file that the vault seals.
    pub(crate) fn write_sealed(
        &self,
        vault: &Vault,
        file: SealedFile,
        content: &[u8],
    ) -> Result<(), ProfileError> {
        let sealed = vault.seal_file(SEALED_MAGIC, file.name(), content);
        let put = if file.is_kept_twice() {
            files::put_twice
        } else {
            files::put
        };
        put(&self.dir, file.name(), &sealed).map_err(failed("write", &self.dir.join(file.name())))
    }

    /// Seals a file for a vault that does not count yet.
    pub(crate) fn write_pending(
        &self,
        vault: &Vault,
        file: SealedFile,
        content: &[u8],
    ) -> Result<(), ProfileError> {
        let name = file.pending(vault.id());
        let sealed = vault.seal_file(SEALED_MAGIC, file.name(), content);
        files::put(&self.dir, &name, &sealed).map_err(failed("write", &self.dir.join(&name)))
    }

    /// The same for the identity.
    pub(crate) fn write_pending_identity(
        &self,
        vault: &Vault,
        identity: &crate::identity::Identity,
    ) -> Result<(), ProfileError> {
        let name = SealedFile::Identity.pending(vault.id());
        files::put(&self.dir, &name, &encode(identity, Some(vault)))
            .map_err(failed("write", &self.dir.join(&name)))
    }

    /// Moves a file that cannot be read out of the way.
    pub(crate) fn set_aside(&self, file: SealedFile) -> Result<PathBuf, ProfileError> {
        let path = self.dir.join(file.name());
        let aside = files::set_aside(&path, &today()).map_err(failed("move", &path))?;
        if file.is_kept_twice() {
            let copy = self.dir.join(files::copy_of(file.name()));
            match files::set_aside(&copy, &today()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("move", &copy)(error));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(aside)
    }

    /// Makes an empty file in the profile, for its owner alone; one that is there is wiped.
    pub(crate) fn create_file(&self, name: &str) -> Result<std::fs::File, ProfileError> {
        let path = self.dir.join(name);
        files::remove_wiped(&path)
            .and_then(|()| private::create(&path))
            .map_err(failed("create", &path))
    }
}
