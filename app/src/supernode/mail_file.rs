//! The boxes that a supernode keeps for devices that are off, in a database beside its key. What waits is sealed; what else is
//! there is for whom, since when, and from which address it came.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ahoy_nat::supernode::{
    MailKeeper,
    mailbox::disk::{BoxChange, KeptBox},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{
    profile::{files::set_aside, sealing::today},
    store::is_damaged_file,
};

/// The file's name inside the profile folder.
const FILE: &str = "mail.redb";
/// Memory for pages.
const CACHE_BYTES: usize = 4 << 20;
const BOXES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("boxes");

/// Why boxes are not kept.
#[derive(Debug, thiserror::Error)]
pub enum MailFileError {
    /// The file cannot be opened.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no database, or in use.
    #[error("{}: {error}; move it away to start without what waits in it", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What the engine says.
        error: Box<redb::Error>,
    },
}

impl MailFileError {
    fn database(path: &Path, error: redb::Error) -> Self {
        Self::Database {
            path: path.to_owned(),
            error: Box::new(error),
        }
    }

    /// Whether the file is wrong, and not the disk, the permissions or the version.
    fn is_damage(&self) -> bool {
        match self {
            Self::Io { .. } => false,
            Self::Database { error, .. } => is_damaged_file(error),
        }
    }
}

/// Boxes in a file. Changes are written whole or not at all, also when the machine stops meanwhile.
pub struct MailFile {
    database: Mutex<Database>,
}

impl fmt::Debug for MailFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailFile").finish_non_exhaustive()
    }
}

impl MailFile {
    /// The one in `folder`, readable by this user alone. A damaged one is set aside and another one begun: those who left what
    /// waits in it have it still.
    ///
    /// # Errors
    /// When it cannot be opened although nothing is wrong with it; nothing in it is touched then.
    pub fn within(folder: &Path) -> Result<Self, MailFileError> {
        let path = folder.join(FILE);
        // A database that is damaged where it did not expect it panics.
        let trying = || {
            let file = Self::open(&path)?;
            let read = file.read();
            read.map(|_boxes| file)
                .map_err(|error| MailFileError::database(&path, error))
        };
        let why = match catch_unwind(trying) {
            Ok(Ok(file)) => return Ok(file),
            Ok(Err(error)) if error.is_damage() => error.to_string(),
            Ok(Err(error)) => return Err(error),
            Err(_panic) => String::from("it cannot be read"),
        };
        let aside = set_aside(&path, &today()).map_err(|error| MailFileError::Io {
            path: path.clone(),
            error,
        })?;
        tracing::warn!(
            why,
            "what waited here was damaged and is kept as {}; this supernode begins with empty boxes",
            aside.display()
        );
        Self::open(&path)
    }

    fn open(path: &Path) -> Result<Self, MailFileError> {
        let path = path.to_owned();
        let file = open(&path).map_err(|error| MailFileError::Io {
            path: path.clone(),
            error,
        })?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|error| MailFileError::database(&path, error.into()))?;
        Ok(Self {
            database: Mutex::new(database),
        })
    }

    fn read(&self) -> Result<Vec<KeptBox>, redb::Error> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let table = match database.begin_read()?.open_table(BOXES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut boxes = Vec::new();
        for entry in table.iter()? {
            let (key, value) = entry?;
            boxes.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(boxes)
    }

    fn write(&self, changes: &[BoxChange]) -> Result<(), redb::Error> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let writing = database.begin_write()?;
        {
            let mut table = writing.open_table(BOXES)?;
            for (key, kept) in changes {
                match kept {
                    Some(kept) => drop(table.insert(key.as_slice(), kept.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        Ok(writing.commit()?)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

impl MailKeeper for MailFile {
    fn boxes(&self) -> Vec<KeptBox> {
        self.read().unwrap_or_else(|error| {
            tracing::error!(%error, "what waited here is lost");
            Vec::new()
        })
    }

    fn keep(&self, changes: Vec<BoxChange>) -> bool {
        let written = self.write(&changes);
        written
            .inspect_err(|error| tracing::error!(%error, "what waits here is not kept"))
            .is_ok()
    }

    fn keep_soon(self: Arc<Self>, changes: Vec<BoxChange>) -> BoxFuture<'static, bool> {
        let writing = tokio::task::spawn_blocking(move || self.keep(changes));
        // A panic of the database is no letter kept.
        async move { writing.await.unwrap_or(false) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_outlive_their_supernode_and_go_when_they_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = MailFile::within(folder.path()).unwrap();
        assert!(file.boxes().is_empty());
        let change = |key: u8, kept: Option<&[u8]>| (vec![key], kept.map(<[u8]>::to_vec));
        file.keep(vec![change(1, Some(b"one")), change(2, Some(b"two"))]);
        assert!(MailFile::within(folder.path()).is_err(), "it is in use");
        drop(file);
        let file = MailFile::within(folder.path()).unwrap();
        file.keep(vec![change(1, None), change(2, Some(b"three"))]);
        assert_eq!(file.boxes(), [(vec![2], b"three".to_vec())]);
        drop(file);
        let path = folder.path().join(FILE);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
    }

    /// Where in the file damage is met differs: at its head, in its middle, at its end, and where it is no database at all.
    #[test]
    fn a_damaged_file_is_set_aside_and_another_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let whole = {
            let file = MailFile::within(folder.path()).unwrap();
            for n in 0..50_u8 {
                assert!(file.keep(vec![(vec![n; 64], Some(vec![n; 20_000]))]));
            }
            drop(file);
            std::fs::read(&path).unwrap()
        };
        let zeroed = |from: usize, to: usize| {
            let mut bytes = whole.clone();
            bytes[from..to].fill(0);
            bytes
        };
        let mut damaged: Vec<Vec<u8>> = vec![
            b"something else, long enough to be read as one".to_vec(),
            whole[..whole.len() / 2].to_vec(),
            zeroed(0, 64),
            zeroed(64, 320),
        ];
        for part in 0..16 {
            let from = whole.len() * part / 16;
            damaged.push(zeroed(from, from + whole.len() / 16));
        }
        let mut aside = 0;
        for bytes in damaged {
            std::fs::write(&path, &bytes).unwrap();
            let file = MailFile::within(folder.path()).unwrap();
            // Either nothing that counts was hit, or it begins anew; and it serves.
            let boxes = file.boxes().len();
            assert!(boxes == 0 || boxes == 50, "{boxes}");
            assert!(file.keep(vec![(vec![1; 64], Some(vec![2; 9]))]));
            aside += usize::from(boxes == 0);
            drop(file);
        }
        assert!(aside >= 4, "{aside}");
        let names = std::fs::read_dir(folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        let kept = names.filter(|name| name.to_string_lossy().contains(".damaged-"));
        assert_eq!(kept.count(), aside);
    }

    /// What is written over and over takes no more room than what is there, several times over.
    #[test]
    fn letters_that_come_and_go_do_not_grow_the_file_for_ever() {
        const BOXES: u8 = 20;
        let folder = tempfile::tempdir().unwrap();
        let file = MailFile::within(folder.path()).unwrap();
        let len = || std::fs::metadata(folder.path().join(FILE)).unwrap().len();
        let mut after_some = 0;
        for round in 0..60_u64 {
            for n in 0..BOXES {
                let letters = usize::try_from(round % 7).unwrap() * 10_000;
                let kept = (letters > 0).then(|| vec![n; letters]);
                assert!(file.keep(vec![(vec![n; 64], kept)]));
            }
            if round == 13 {
                after_some = len();
            }
        }
        let most = u64::from(BOXES) * 60_000;
        assert!(
            len() <= after_some.max(4 * most),
            "{} of {after_some}",
            len()
        );
        assert!(len() <= 8 * most, "{}", len());
    }
}
