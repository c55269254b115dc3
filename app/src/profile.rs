//! The profile directory: where everything that outlives the program is kept.
//!
//! ```text
//! vault, vault.key  what everything is sealed with, and what opens that: see [`crate::vault`]
//! identity          keys, device log and certificate; written whole, by rename
//! settings.toml     what the person set; likewise
//! settings.sealed   what of it tells of people and places
//! ahoy.redb         contacts, requests, calls, conversations, pinned logs
//! chat.keys         a key for each conversation, so that it can be forgotten
//! people.sealed     a copy of what the database knows of people
//! lock              held by the process that runs as this person
//! keyring           says that the desktop's keyring has what opens the vault
//! write.lock        held for the moment of writing identity or settings
//! *.copy            the same again: of vault, key, identity, chat.keys
//! *.damaged-DATE    what could not be read, and was replaced
//! ```
//! The identity has a file of its own so that `id show` works while the app runs: the database can be open
//! in one process only. Directory and files are made readable to their owner alone.
//!
//! ```text
//! identity file: | "AHOYID" | u8 version = 1 | u8 protection = 0 | identity | checksum (8) |
//! ```
//! The checksum is the start of SHA-256 over everything before it: it tells damage from a wrong version, and
//! is no protection. Protection 0 is none, as before there was a vault; with 1 it is a sealed file as there.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use self::sealing::{Access, SealedFile};
use crate::{
    identity::{Identity, IdentityError},
    keyring::KeyringError,
    settings::SettingsError,
    vault::{Vault, VaultError, checksum},
};

pub(crate) mod files;
#[cfg_attr(unix, path = "profile/unix.rs")]
#[cfg_attr(not(unix), path = "profile/other.rs")]
mod private;
pub(crate) mod sealing;
pub use sealing::AskPassphrase;

/// Names the profile directory when no flag does.
pub const HOME_VARIABLE: &str = "AHOY_HOME";
/// Set to `off`, new profiles are not sealed, and those from before the vault stay as they are: to look into them.
pub const VAULT_VARIABLE: &str = "AHOY_VAULT";

const IDENTITY_FILE: &str = "identity";
const SETTINGS_FILE: &str = "settings.toml";
const DATABASE_FILE: &str = "ahoy.redb";
const UNFINISHED_DATABASE_FILE: &str = "ahoy.redb.new";
const LOCK_FILE: &str = "lock";
const WRITE_LOCK_FILE: &str = "write.lock";

const MAGIC: &[u8; 6] = b"AHOYID";
const VERSION: u8 = 1;
const UNPROTECTED: u8 = 0;
const SEALED: u8 = 1;
const CHECKSUM_LEN: usize = 8;
/// Longest identity file: the longest device log and some room for keys, in bytes.
const MAX_IDENTITY_FILE: u64 = 512 * 1024;

/// Why the profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The platform names no folder for application data.
    #[error("there is no home directory to keep the profile in; set {HOME_VARIABLE} or use --home")]
    NoHome,
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// The identity file is not one, or changed.
    #[error("{} is damaged; restore it from a backup, or move it away and use `ahoy id import` with the 24 words", .0.display())]
    Damaged(PathBuf),
    /// A newer program wrote it.
    #[error("{} was written by a newer version of ahoy; update ahoy", .0.display())]
    Newer(PathBuf),
    /// What it was sealed with is not there.
    #[error("{} is sealed, and the file `vault` that opens it is not beside it; bring it back, or restore a backup", .0.display())]
    NoVault(PathBuf),
    /// What opens the vault is not there.
    #[error("{} is not there: without it nobody can read this profile; bring it back, or restore a backup", .0.display())]
    NoKey(PathBuf),
    /// A file of the vault cannot be used.
    #[error("{} cannot be opened: {}", .0.display(), .1)]
    Vault(PathBuf, VaultError),
    /// It takes a passphrase, and nobody can be asked.
    #[error(
        "this profile is locked: name a file with its passphrase by --passphrase-file or AHOY_PASSPHRASE_FILE"
    )]
    Locked,
    /// There is none that could be kept.
    #[error(
        "this profile has no passphrase: `ahoy lock on` sets one, which the keyring can then keep"
    )]
    NoPassphraseSet,
    /// The desktop's keyring is of no use.
    #[error("{0}; the passphrase opens this profile all the same")]
    Keyring(#[from] KeyringError),
    /// Another one.
    #[error("that is not the passphrase of this profile; nothing was changed")]
    WrongPassphrase,
    /// Nobody could tell it.
    #[error("the passphrase cannot be read: {0}")]
    NoPassphrase(String),
    /// The file is whole, but what is in it does not hold.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another process runs as this person.
    #[error("ahoy is already running with the profile {}; close it, or use --home for another profile", .0.display())]
    InUse(PathBuf),
}

/// A profile directory. Nothing is created before it is needed.
#[derive(Debug, Clone)]
pub struct Profile {
    dir: PathBuf,
    access: Arc<Access>,
}

impl Profile {
    /// The profile in a directory.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            access: Arc::new(Access::new(true, None)),
        }
    }

    /// The same, asking for the passphrase when it is needed.
    #[must_use]
    pub fn asking(self, ask: Arc<AskPassphrase>) -> Self {
        Self {
            access: Arc::new(Access::new(self.access.sealing, Some(ask))),
            ..self
        }
    }

    /// The same, where a new profile is not sealed, and an old one stays as it is.
    #[must_use]
    pub fn unsealed(self) -> Self {
        Self {
            access: Arc::new(Access::new(false, self.access.ask.clone())),
            ..self
        }
    }

    /// The profile that the user means: the flag, else `AHOY_HOME` (pass the variable's value), else the
    /// platform's folder for application data.
    ///
    /// # Errors
    /// [`ProfileError::NoHome`] when the platform has no such folder.
    pub fn locate(flag: Option<PathBuf>, variable: Option<OsString>) -> Result<Self, ProfileError> {
        let variable = variable
            .filter(|value| !value.is_empty())
            .map(PathBuf::from);
        if let Some(dir) = flag.or(variable) {
            return Ok(Self::at(dir));
        }
        directories::ProjectDirs::from("", "", "ahoy")
            .map(|dirs| Self::at(dirs.data_dir()))
            .ok_or(ProfileError::NoHome)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the database is.
    #[must_use]
    pub fn database_path(&self) -> PathBuf {
        self.dir.join(DATABASE_FILE)
    }

    /// Where the settings are.
    #[must_use]
    pub fn settings_path(&self) -> PathBuf {
        self.dir.join(SETTINGS_FILE)
    }

    /// Where the identity is.
    #[must_use]
    pub fn identity_path(&self) -> PathBuf {
        self.dir.join(IDENTITY_FILE)
    }

    /// Reads the identity, `None` when there is none yet. Works while another process holds the profile. Asks for the
    /// passphrase where there is one.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged, and its copy too.
    pub fn load(&self) -> Result<Option<Identity>, ProfileError> {
        match self.load_as_it_stands() {
            // Whoever has the profile may just be sealing it anew: then everything is another one's the next moment.
            Err(ProfileError::Vault(_, VaultError::Closed)) => self.load_as_it_stands(),
            loaded => loaded,
        }
    }

    fn load_as_it_stands(&self) -> Result<Option<Identity>, ProfileError> {
        let vault = self.vault()?;
        let names = match &vault {
            None => vec![IDENTITY_FILE.to_owned()],
            Some(vault) => vec![
                SealedFile::Identity.pending(vault.id()),
                IDENTITY_FILE.to_owned(),
                files::copy_of(IDENTITY_FILE),
            ],
        };
        let mut wrong = None;
        for name in names {
            let path = self.dir.join(name);
            let read = files::read(&path, MAX_IDENTITY_FILE).map_err(failed("read", &path))?;
            let Some(bytes) = read.map(Zeroizing::new) else {
                continue;
            };
            private::tighten(&path).map_err(failed("protect", &path))?;
            match decode(&bytes, &path, vault.as_deref()) {
                Ok(identity) => return Ok(Some(identity)),
                Err(newer @ ProfileError::Newer(_)) => return Err(newer),
                Err(error) => {
                    wrong.get_or_insert(error);
                }
            }
        }
        wrong.map_or(Ok(None), Err)
    }

    /// Reads the identity, and creates one at the first use. Two processes that do this at once get the
    /// same one.
    ///
    /// # Errors
    /// When the directory or file cannot be made or read.
    pub fn open_or_create(
        &self,
        rng: &mut dyn CryptoRngCore,
        now_millis: u64,
    ) -> Result<Identity, ProfileError> {
        if let Some(identity) = self.load()? {
            return Ok(identity);
        }
        let writing = self.begin_write()?;
        if let Some(identity) = self.load()? {
            return Ok(identity);
        }
        let identity = Identity::create(rng, now_millis);
        self.put_identity(&writing, &identity)?;
        Ok(identity)
    }

    fn put_identity(&self, writing: &Writing, identity: &Identity) -> Result<(), ProfileError> {
        let vault = self.vault_for_new(writing)?;
        let bytes = encode(identity, vault.as_deref());
        let put = match vault {
            Some(_) => files::put_twice,
            None => files::put,
        };
        put(&self.dir, IDENTITY_FILE, &bytes).map_err(failed("write", &self.identity_path()))
    }

    /// Takes the profile for this process. It is free again when the lock is dropped or the process ends,
    /// however it ends.
    ///
    /// # Errors
    /// [`ProfileError::InUse`] when another process has it.
    pub fn lock(&self) -> Result<ProfileLock, ProfileError> {
        self.create_dir()?;
        let path = self.dir.join(LOCK_FILE);
        let file = private::open(&path).map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {
                let held = Held(file);
                self.prepare()?;
                Ok(ProfileLock {
                    profile: self.clone(),
                    _file: held,
                })
            }
            Err(TryLockError::WouldBlock) => Err(ProfileError::InUse(self.dir.clone())),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    fn create_dir(&self) -> Result<(), ProfileError> {
        private::create_dir(&self.dir).map_err(failed("create", &self.dir))
    }

    /// Waits for its turn: whoever else writes is done in a moment.
    pub(crate) fn begin_write(&self) -> Result<Writing, ProfileError> {
        self.create_dir()?;
        let path = self.dir.join(WRITE_LOCK_FILE);
        let file = private::open(&path).map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Writing { _file: Held(file) })
    }

    /// Replaces the settings file; what of them is `private` goes where it is sealed, if anything is.
    pub(crate) fn write_settings(
        &self,
        split: impl FnOnce(bool) -> Result<SettingsTexts, SettingsError>,
    ) -> Result<(), SettingsError> {
        let writing = self.begin_write()?;
        let vault = self.vault_for_new(&writing)?;
        let texts = split(vault.is_some())?;
        if let (Some(vault), Some(private)) = (vault, texts.private) {
            self.write_sealed(&vault, SealedFile::Settings, private.as_bytes())?;
        }
        if let Some(open) = texts.open {
            let path = self.settings_path();
            files::put(&self.dir, SETTINGS_FILE, open.as_bytes())
                .map_err(failed("write", &path))?;
        }
        Ok(())
    }
}

/// Settings as they are to be written; `None`: as they are there.
#[derive(Debug, Default)]
pub(crate) struct SettingsTexts {
    /// For everybody to see.
    pub(crate) open: Option<String>,
    /// To be sealed.
    pub(crate) private: Option<String>,
}

/// Writes a file for its owner alone, whole or not at all. It must not be there.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ProfileError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = folder.join(name);
    // Whose it is that is there already is not known.
    let mut file = private::create(&temporary).map_err(failed("write", &temporary))?;
    let mut write = || -> io::Result<()> {
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, this takes nobody's place.
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // A rename would take its place.
            Err(_no_links_here) if fs::symlink_metadata(path).is_ok() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Err(_no_links_here) => fs::rename(&temporary, path)?,
            Ok(()) => {}
        }
        private::sync_dir(folder)
    };
    let written = write().map_err(failed("write", path));
    files::remove_if_there(&temporary).map_err(failed("remove", &temporary))?;
    written
}

/// Held while identity, settings or vault are replaced.
#[derive(Debug)]
pub(crate) struct Writing {
    _file: Held,
}

/// A file that is locked until this is dropped. To close it is not enough: a program that is being started in this moment has
/// the file open too, for the blink until it runs.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the lock ends with the file");
        }
    }
}

/// The right to run as the profile's person: one process at a time.
#[derive(Debug)]
pub struct ProfileLock {
    profile: Profile,
    _file: Held,
}

impl ProfileLock {
    /// The profile it locks.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Replaces the stored identity.
    ///
    /// # Errors
    /// When it cannot be written; then the old one is still there.
    pub fn save(&self, identity: &Identity) -> Result<(), ProfileError> {
        let writing = self.profile.begin_write()?;
        self.profile.put_identity(&writing, identity)
    }

    /// Opens the database file. When there is none, `make` first fills a new one, which takes its name only
    /// when it is whole: a database that was killed while it was being made would not open.
    pub(crate) fn open_database<E: From<ProfileError>>(
        &self,
        make: impl FnOnce(File) -> Result<(), E>,
    ) -> Result<File, E> {
        let path = self.profile.database_path();
        if !path.exists() {
            let unfinished = self.profile.dir.join(UNFINISHED_DATABASE_FILE);
            make(self.profile.create_file(UNFINISHED_DATABASE_FILE)?)?;
            fs::rename(&unfinished, &path)
                .and_then(|()| private::sync_dir(&self.profile.dir))
                .map_err(failed("create", &path))?;
        }
        Ok(private::open(&path).map_err(failed("open", &path))?)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProfileError + use<> {
    let path = path.to_owned();
    move |source| ProfileError::Io {
        action,
        path,
        source,
    }
}

fn encode(identity: &Identity, vault: Option<&Vault>) -> Zeroizing<Vec<u8>> {
    let secret = identity.to_secret_bytes();
    if let Some(vault) = vault {
        return Zeroizing::new(vault.seal_file(MAGIC, IDENTITY_FILE, &secret));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        MAGIC.len() + 2 + secret.len() + CHECKSUM_LEN,
    ));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, UNPROTECTED]);
    bytes.extend_from_slice(&secret);
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn decode(bytes: &[u8], path: &Path, vault: Option<&Vault>) -> Result<Identity, ProfileError> {
    let damaged = || ProfileError::Damaged(path.to_owned());
    let (content, sum) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .ok_or_else(damaged)?;
    let rest = content.strip_prefix(MAGIC).ok_or_else(damaged)?;
    if checksum(content) != *sum {
        return Err(damaged());
    }
    match rest {
        // In a profile that is about to be sealed, too.
        [VERSION, UNPROTECTED, identity @ ..] => Ok(Identity::from_secret_bytes(identity)?),
        [VERSION, SEALED, ..] => {
            let vault = vault.ok_or_else(|| ProfileError::NoVault(path.to_owned()))?;
            let secret = vault.open_file(MAGIC, IDENTITY_FILE, bytes);
            let secret = secret.map_err(|error| ProfileError::Vault(path.to_owned(), error))?;
            Ok(Identity::from_secret_bytes(&secret)?)
        }
        [_version, _protection, ..] => Err(ProfileError::Newer(path.to_owned())),
        [] | [_] => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn profile() -> (tempfile::TempDir, Profile) {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path().join("deep/profile"));
        (dir, profile)
    }

    #[test]
    fn the_first_use_creates_a_person_and_later_ones_find_it() {
        let (_dir, profile) = profile();
        assert!(profile.load().unwrap().is_none());
        assert!(!profile.dir().exists(), "looking creates nothing");
        let identity = profile.open_or_create(&mut rng(1), NOW).unwrap();
        let again = profile.open_or_create(&mut rng(2), NOW).unwrap();
        assert_eq!(again.user(), identity.user());
        assert_eq!(profile.load().unwrap().unwrap().user(), identity.user());
    }

    #[test]
    fn processes_that_create_at_once_agree() {
        let (_dir, profile) = profile();
        let users: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=8)
                .map(|seed| {
                    scope.spawn({
                        let profile = &profile;
                        move || profile.open_or_create(&mut rng(seed), NOW).unwrap().user()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(users.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn flag_then_variable_then_platform() {
        let flag = Some(PathBuf::from("/flag"));
        let variable = Some(OsString::from("/variable"));
        assert_eq!(
            Profile::locate(flag, variable.clone()).unwrap().dir(),
            Path::new("/flag")
        );
        assert_eq!(
            Profile::locate(None, variable).unwrap().dir(),
            Path::new("/variable")
        );
        if let Ok(platform) = Profile::locate(None, Some(OsString::new())) {
            assert!(
                platform.dir().to_string_lossy().contains("ahoy"),
                "an empty variable is none"
            );
        }
    }

    #[test]
    fn one_process_runs_as_a_person_but_anyone_may_look() {
        let (_dir, profile) = profile();
        let identity = profile.open_or_create(&mut rng(1), NOW).unwrap();
        let lock = profile.lock().unwrap();
        let error = profile.lock().unwrap_err();
        assert!(matches!(error, ProfileError::InUse(_)));
        assert!(error.to_string().contains("already running"), "{error}");
        assert_eq!(profile.load().unwrap().unwrap().user(), identity.user());
        drop(lock);
        assert!(profile.lock().is_ok());
    }

    #[test]
    fn what_is_saved_is_there_afterwards() {
        let (_dir, profile) = profile();
        let mut identity = profile.open_or_create(&mut rng(1), NOW).unwrap();
        let lock = profile.lock().unwrap();
        assert!(identity.refresh(NOW + 8 * 86_400_000, &mut rng(2)));
        lock.save(&identity).unwrap();
        let loaded = profile.load().unwrap().unwrap();
        assert_eq!(loaded.to_secret_bytes(), identity.to_secret_bytes());
    }

    #[test]
    fn a_kill_while_writing_leaves_the_old_identity() {
        let (_dir, profile) = profile();
        let old = profile.open_or_create(&mut rng(1), NOW).unwrap();
        let new = encode(
            &Identity::create(&mut rng(2), NOW),
            profile.vault().unwrap().as_deref(),
        );
        // Killed after any number of bytes of the temporary file, before the rename.
        for cut in (0..=new.len()).step_by(37) {
            fs::write(profile.dir().join("identity.tmp"), &new[..cut]).unwrap();
            assert_eq!(
                profile.load().unwrap().unwrap().user(),
                old.user(),
                "cut at {cut}"
            );
        }
        profile.lock().unwrap().save(&old).unwrap();
        assert!(
            !profile.dir().join("identity.tmp").exists(),
            "what was left is gone"
        );
        // And at the very first use, when there is no old one.
        fs::remove_file(profile.identity_path()).unwrap();
        fs::remove_file(profile.dir().join("identity.copy")).unwrap();
        fs::write(profile.dir().join("identity.tmp"), &new[..100]).unwrap();
        assert!(profile.load().unwrap().is_none());
        assert!(profile.open_or_create(&mut rng(3), NOW).is_ok());
    }

    #[test]
    fn damage_and_newer_versions_are_told_apart() {
        let (_dir, profile) = profile();
        profile.open_or_create(&mut rng(1), NOW).unwrap();
        let good = fs::read(profile.identity_path()).unwrap();
        let vault = profile.vault().unwrap();
        let decode = |bytes: &[u8]| decode(bytes, Path::new("identity"), vault.as_deref());
        assert!(decode(&good).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let error = decode(&bad).unwrap_err();
            assert!(matches!(error, ProfileError::Damaged(_)), "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        for (at, value) in [(6, 2), (7, 2)] {
            let mut newer = good[..good.len() - CHECKSUM_LEN].to_vec();
            newer[at] = value;
            let sum = checksum(&newer);
            newer.extend(sum);
            fs::write(profile.identity_path(), &newer).unwrap();
            let error = profile.load().unwrap_err();
            assert!(error.to_string().contains("newer version"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, profile) = profile();
        let identity = profile.open_or_create(&mut rng(1), NOW).unwrap();
        let lock = profile.lock().unwrap();
        lock.save(&identity).unwrap();
        crate::store::Store::open(&lock).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(profile.dir()), 0o700);
        for entry in fs::read_dir(profile.dir()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        fs::set_permissions(profile.identity_path(), fs::Permissions::from_mode(0o644)).unwrap();
        profile.load().unwrap();
        assert_eq!(
            mode(&profile.identity_path()),
            0o600,
            "a copy with loose permissions is tightened"
        );
    }
}
