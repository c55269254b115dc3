//! Files that are replaced as a whole, twice where one must not be lost, and what was in them wiped.
//!
//! Wiping writes zeros where the old bytes were. File systems that copy on write, snapshots and the reserve of an SSD may keep
//! them all the same: what has to be gone is sealed, and its key wiped.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::private;

/// Behind the name of the second one of a file that is kept twice.
const COPY: &str = ".copy";
/// Bytes wiped at once.
const WIPE: usize = 64 * 1024;
/// Names tried for something that is set aside on one day.
const MAX_ASIDE: u32 = 100;

/// The name of the second one.
pub(super) fn copy_of(name: &str) -> String {
    format!("{name}{COPY}")
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// A moment between two things that are done to files. Builds for tests die in it where `AHOY_DIE_AT_STEP` says so, as by
/// `kill -9`: nothing is flushed, and nobody says good-bye.
pub(crate) fn step() {
    #[cfg(debug_assertions)]
    {
        use std::sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        };
        static DIE_AT: OnceLock<Option<u64>> = OnceLock::new();
        static STEP: AtomicU64 = AtomicU64::new(0);
        let at = *DIE_AT.get_or_init(|| std::env::var("AHOY_DIE_AT_STEP").ok()?.parse().ok());
        if let Some(at) = at
            && STEP.fetch_add(1, Ordering::Relaxed) + 1 == at
        {
            std::process::abort();
        }
    }
}

/// Replaces a file as a whole: at any moment there is the old one or the new one. The old one is wiped.
pub(super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    // Left by a process that was killed while writing.
    remove_if_there(&temporary)?;
    step();
    let mut file = private::create(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // A full disk: it has better uses for the room.
        remove_if_there(&temporary)?;
        return Err(error);
    }
    step();
    take_name(dir, &temporary, name)
}

/// The same for one that is kept twice.
pub(super) fn put_twice(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    put(dir, name, bytes)?;
    put(dir, &copy_of(name), bytes)
}

/// Gives the file `from`, which is whole and on disk, the name `name`, and wipes whatever had it.
pub(crate) fn take_name(dir: &Path, from: &Path, name: &str) -> io::Result<()> {
    let path = dir.join(name);
    let old = old_file(&path)?;
    fs::rename(from, &path)?;
    step();
    private::sync_dir(dir)?;
    step();
    if let Some(old) = old {
        wipe(old);
    }
    step();
    Ok(())
}

/// Wipes a file and removes it.
pub(crate) fn remove_wiped(path: &Path) -> io::Result<()> {
    let old = old_file(path)?;
    remove_if_there(path)?;
    if let Some(old) = old {
        wipe(old);
    }
    Ok(())
}

/// Moves a damaged file out of the way, under a name with the date.
pub(crate) fn set_aside(path: &Path, date: &str) -> io::Result<PathBuf> {
    let aside = aside_name(path, date)?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Keeps a damaged file under a name with the date as well.
pub(crate) fn keep_aside(path: &Path, date: &str) -> io::Result<PathBuf> {
    let aside = aside_name(path, date)?;
    match fs::hard_link(path, &aside) {
        Ok(()) => {}
        // No links here.
        Err(_refused) => {
            fs::copy(path, &aside)?;
        }
    }
    Ok(aside)
}

fn aside_name(path: &Path, date: &str) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (0..MAX_ASIDE)
        .map(|n| match n {
            0 => path.with_file_name(format!("{name}.damaged-{date}")),
            n => path.with_file_name(format!("{name}.damaged-{date}-{n}")),
        })
        .find(|aside| !aside.exists())
        .ok_or_else(|| io::Error::other("too much was damaged today"))
}

/// A file whose content is to be wiped once its name is gone. Where something else holds the content too, it is not ours
/// alone.
fn old_file(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) if private::is_linked_once(&file)? => Ok(Some(file)),
        Ok(_linked) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // It can be replaced, even if it cannot be written.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn wipe(mut file: File) {
    let mut zero = || -> io::Result<()> {
        let mut left = file.metadata()?.len();
        file.rewind()?;
        let zeros = [0; WIPE];
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(WIPE).min(WIPE);
            file.write_all(zeros.get(..now).unwrap_or(&zeros))?;
            left = left.saturating_sub(now as u64);
        }
        file.sync_data()
    };
    // It has no name any more: nothing depends on it.
    if let Err(error) = zero() {
        tracing::debug!(%error, "what was replaced could not be wiped");
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A day as in names of files, UTC: `2026-11-23`.
pub(super) fn date(unix_millis: u64) -> String {
    // Howard Hinnant's days_from_civil, turned around; days of years that begin in March.
    let days = unix_millis / 86_400_000 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_names() {
        for (millis, day) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_795_402_806_513, "2026-11-23"),
            (4_107_542_400_000, "2100-03-01"),
        ] {
            assert_eq!(date(millis), day);
        }
    }

    #[test]
    fn what_is_replaced_or_removed_is_wiped_unless_somebody_else_has_it_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        put(dir.path(), "file", b"canary").unwrap();
        let mut held = File::open(&path).unwrap();
        put(dir.path(), "file", b"other").unwrap();
        let mut old = String::new();
        held.read_to_string(&mut old).unwrap();
        assert_eq!(old, "\0\0\0\0\0\0");
        assert_eq!(fs::read(&path).unwrap(), b"other");
        let mut held = File::open(&path).unwrap();
        remove_wiped(&path).unwrap();
        let mut old = String::new();
        held.read_to_string(&mut old).unwrap();
        assert_eq!(old, "\0\0\0\0\0");
        remove_wiped(&path).unwrap();
        #[cfg(unix)]
        {
            put(dir.path(), "file", b"canary").unwrap();
            fs::hard_link(&path, dir.path().join("backup")).unwrap();
            put(dir.path(), "file", b"other").unwrap();
            assert_eq!(fs::read(dir.path().join("backup")).unwrap(), b"canary");
        }
    }

    #[test]
    fn damaged_files_get_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        for n in ["", "-1", "-2"] {
            fs::write(&path, n).unwrap();
            let aside = set_aside(&path, "2026-11-23").unwrap();
            assert!(
                aside.ends_with(format!("identity.damaged-2026-11-23{n}")),
                "{aside:?}"
            );
        }
        fs::write(&path, "x").unwrap();
        keep_aside(&path, "2026-11-24").unwrap();
        assert!(path.exists());
    }
}
