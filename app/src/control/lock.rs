//! One running app per profile.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

/// The file that is locked, inside the profile folder.
const LOCK_FILE: &str = "running.lock";

/// Held while an app runs on a profile. The operating system lets go of it when the process ends, however it
/// ends: a lock is never stale.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

/// Why a profile could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "ahoy is already running on this profile{}: use `ahoy ctl`, or --home for another profile",
        pid_text(*.pid)
    )]
    Held {
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// The lock file could not be opened or locked.
    #[error("cannot lock the profile: {0}")]
    Io(#[from] io::Error),
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

impl InstanceLock {
    /// Takes the lock of the profile in `folder`, which exists.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process runs on it.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Only for the message; a lock without a readable number is held all the same.
                let read = file.take(16).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { pid });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_one_app_and_is_free_again_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = InstanceLock::acquire(folder.path()).unwrap();
        let second = InstanceLock::acquire(folder.path());
        let Err(LockError::Held { pid }) = second else {
            panic!("{second:?}")
        };
        assert_eq!(pid, Some(std::process::id()));
        drop(first);
        InstanceLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_was_left_behind_locks_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK_FILE), "not even a number").unwrap();
        InstanceLock::acquire(folder.path()).unwrap();
    }
}
