//! The boxes that a supernode keeps for devices that are off, in a database beside its key. What waits is sealed; what else is
//! there is for whom, since when, and from which address it came.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ahoy_nat::supernode::{
    MailKeeper,
    mailbox::disk::{BoxChange, KeptBox},
};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

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
    /// The one in `folder`, readable by this user alone.
    ///
    /// # Errors
    /// When it cannot be opened; nothing in it is touched then.
    pub fn within(folder: &Path) -> Result<Self, MailFileError> {
        let path = folder.join(FILE);
        let file = open(&path).map_err(|error| MailFileError::Io {
            path: path.clone(),
            error,
        })?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|error| MailFileError::Database {
                path,
                error: Box::new(error.into()),
            })?;
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

    fn keep(&self, changes: Vec<BoxChange>) {
        if let Err(error) = self.write(&changes) {
            tracing::error!(%error, "what waits here is not kept");
        }
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
        std::fs::write(&path, b"something else, long enough to be read as one").unwrap();
        assert!(MailFile::within(folder.path()).is_err());
    }
}
