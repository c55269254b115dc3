//! The profile directory: where everything that outlives the program is kept.
//!
//! ```text
//! identity        keys, device log and certificate; written whole, by rename
//! settings.toml   what the person set; likewise
//! ahoy.redb       contacts, requests, calls, pinned logs
//! lock            held by the process that runs as this person
//! write.lock      held for the moment of writing identity or settings
//! ```
//! The identity has a file of its own so that `id show` works while the app runs: the database can be open
//! in one process only. Directory and files are made readable to their owner alone.
//!
//! ```text
//! identity file: | "AHOYID" | u8 version = 1 | u8 protection = 0 | identity | checksum (8) |
//! ```
//! The checksum is the start of SHA-256 over everything before it: it tells damage from a wrong version, and
//! is no protection. Protection 0 is none; a passphrase will get a number of its own.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::identity::{Identity, IdentityError};

#[cfg_attr(unix, path = "profile/unix.rs")]
#[cfg_attr(not(unix), path = "profile/other.rs")]
mod private;

/// Names the profile directory when no flag does.
pub const HOME_VARIABLE: &str = "AHOY_HOME";

const IDENTITY_FILE: &str = "identity";
const SETTINGS_FILE: &str = "settings.toml";
const DATABASE_FILE: &str = "ahoy.redb";
const UNFINISHED_DATABASE_FILE: &str = "ahoy.redb.new";
const LOCK_FILE: &str = "lock";
const WRITE_LOCK_FILE: &str = "write.lock";

const MAGIC: &[u8; 6] = b"AHOYID";
const VERSION: u8 = 1;
const UNPROTECTED: u8 = 0;
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
}

impl Profile {
    /// The profile in a directory.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
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
            return Ok(Self { dir });
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

    /// Reads the identity, `None` when there is none yet. Works while another process holds the profile.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn load(&self) -> Result<Option<Identity>, ProfileError> {
        let path = self.identity_path();
        let bytes = match read_bounded(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        private::tighten(&path).map_err(failed("protect", &path))?;
        decode(&bytes, &path).map(Some)
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
        self.replace(&writing, IDENTITY_FILE, &encode(&identity))?;
        Ok(identity)
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
            Ok(()) => Ok(ProfileLock {
                profile: self.clone(),
                _file: file,
            }),
            Err(TryLockError::WouldBlock) => Err(ProfileError::InUse(self.dir.clone())),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    fn create_dir(&self) -> Result<(), ProfileError> {
        private::create_dir(&self.dir).map_err(failed("create", &self.dir))
    }

    /// Waits for its turn: whoever else writes is done in a moment.
    fn begin_write(&self) -> Result<Writing, ProfileError> {
        self.create_dir()?;
        let path = self.dir.join(WRITE_LOCK_FILE);
        let file = private::open(&path).map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Writing { _file: file })
    }

    /// Replaces a file as a whole: at any moment there is the old one or the new one.
    fn replace(&self, _writing: &Writing, name: &str, bytes: &[u8]) -> Result<(), ProfileError> {
        let path = self.dir.join(name);
        let temporary = self.dir.join(format!("{name}.tmp"));
        // Left by a process that was killed while writing.
        remove_if_there(&temporary)?;
        let write = || -> io::Result<()> {
            let mut file = private::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            private::sync_dir(&self.dir)
        };
        write().map_err(failed("write", &path))
    }

    /// Replaces the settings file.
    pub(crate) fn write_settings(&self, text: &str) -> Result<(), ProfileError> {
        let writing = self.begin_write()?;
        self.replace(&writing, SETTINGS_FILE, text.as_bytes())
    }
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
    let write = || -> io::Result<()> {
        let mut file = private::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, this takes nobody's place.
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(_no_links_here) => fs::rename(&temporary, path)?,
            Ok(()) => {}
        }
        private::sync_dir(folder)
    };
    let written = write().map_err(failed("write", path));
    remove_if_there(&temporary)?;
    written
}

/// Held while identity or settings are replaced.
struct Writing {
    _file: File,
}

/// The right to run as the profile's person: one process at a time.
#[derive(Debug)]
pub struct ProfileLock {
    profile: Profile,
    _file: File,
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
        self.profile
            .replace(&writing, IDENTITY_FILE, &encode(identity))
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
            remove_if_there(&unfinished)?;
            make(private::create(&unfinished).map_err(failed("create", &unfinished))?)?;
            fs::rename(&unfinished, &path)
                .and_then(|()| private::sync_dir(&self.profile.dir))
                .map_err(failed("create", &path))?;
        }
        Ok(private::open(&path).map_err(failed("open", &path))?)
    }
}

fn remove_if_there(path: &Path) -> Result<(), ProfileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProfileError {
    let path = path.to_owned();
    move |source| ProfileError::Io {
        action,
        path,
        source,
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    io::Read::read_to_end(&mut io::Read::take(file, MAX_IDENTITY_FILE + 1), &mut bytes)?;
    Ok(bytes)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let (start, _rest) = digest.split_first_chunk().expect("a hash has 32 bytes");
    *start
}

fn encode(identity: &Identity) -> Zeroizing<Vec<u8>> {
    let secret = identity.to_secret_bytes();
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

fn decode(bytes: &[u8], path: &Path) -> Result<Identity, ProfileError> {
    let damaged = || ProfileError::Damaged(path.to_owned());
    let (content, sum) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .ok_or_else(damaged)?;
    let rest = content.strip_prefix(MAGIC).ok_or_else(damaged)?;
    if checksum(content) != *sum {
        return Err(damaged());
    }
    match rest {
        [VERSION, UNPROTECTED, identity @ ..] => Ok(Identity::from_secret_bytes(identity)?),
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
        let new = encode(&Identity::create(&mut rng(2), NOW));
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
        fs::write(profile.dir().join("identity.tmp"), &new[..100]).unwrap();
        assert!(profile.load().unwrap().is_none());
        assert!(profile.open_or_create(&mut rng(3), NOW).is_ok());
    }

    #[test]
    fn damage_and_newer_versions_are_told_apart() {
        let (_dir, profile) = profile();
        profile.open_or_create(&mut rng(1), NOW).unwrap();
        let good = fs::read(profile.identity_path()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let error = decode(&bad, Path::new("identity")).unwrap_err();
            assert!(matches!(error, ProfileError::Damaged(_)), "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(
                decode(&good[..cut], Path::new("identity")).is_err(),
                "cut at {cut}"
            );
        }
        for (at, value) in [(6, 2), (7, 1)] {
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
