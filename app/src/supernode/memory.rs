//! The supernodes that a supernode knows, in a file beside its key.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ahoy_nat::discovery::gossip::shell::TableKeeper;
use ahoy_transport::identity::NetworkId;

/// The file's name inside the profile folder.
const FILE: &str = "supernodes";
/// What is known of the members of a private network; behind it the network's name.
const MEMBERS: &str = "members";
/// Longer files are none of ours.
const MAX_LEN: u64 = 4 << 20;

/// A table in a file.
#[derive(Debug)]
pub struct NodesFile(PathBuf);

impl NodesFile {
    /// The one in `folder`.
    #[must_use]
    pub fn within(folder: &Path) -> Self {
        Self(folder.join(FILE))
    }

    /// The same of a private network, and what is known of its members.
    #[must_use]
    pub fn of_network(folder: &Path, network: NetworkId) -> (Self, Self) {
        let name: String = network.to_string().chars().take(12).collect();
        let file = |what: &str| Self(folder.join(format!("{what}-{name}")));
        (file(FILE), file(MEMBERS))
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        if fs::metadata(&self.0)?.len() > MAX_LEN {
            return Err(io::ErrorKind::InvalidData.into());
        }
        fs::read(&self.0)
    }

    /// Whole or not at all.
    fn write(&self, table: &[u8]) -> io::Result<()> {
        let temporary = self.0.with_extension(format!("new-{}", std::process::id()));
        fs::write(&temporary, table).and_then(|()| fs::rename(&temporary, &self.0))
    }
}

impl TableKeeper for NodesFile {
    fn table(&self) -> Option<Vec<u8>> {
        match self.read() {
            Ok(table) => Some(table),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "known supernodes cannot be read");
                None
            }
        }
    }

    fn keep(&self, table: &[u8]) {
        if let Err(error) = self.write(table) {
            tracing::warn!(%error, "known supernodes cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_outlives_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let file = NodesFile::within(folder.path());
        assert_eq!(file.table(), None);
        file.keep(b"one");
        file.keep(b"two");
        assert_eq!(
            NodesFile::within(folder.path()).table(),
            Some(b"two".to_vec())
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
