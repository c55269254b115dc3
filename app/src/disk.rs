//! What a disk says, as far as a person can do something about it.

use std::{fmt, io};

/// Why something cannot be read or written. As text it is what the system says, in the system's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTrouble {
    /// What is behind it.
    pub kind: DiskTroubleKind,
    /// In the system's words.
    pub text: String,
}

/// What is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskTroubleKind {
    /// No room is left, or the person may use no more.
    Full,
    /// The system does not allow it.
    Denied,
    /// Nothing can be written there at all.
    ReadOnly,
    /// There is no such file or folder.
    Missing,
    /// Something else, which the text tells.
    Other,
}

impl From<&io::Error> for DiskTrouble {
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;

        let known = [
            (Kind::StorageFull, DiskTroubleKind::Full),
            (Kind::QuotaExceeded, DiskTroubleKind::Full),
            (Kind::PermissionDenied, DiskTroubleKind::Denied),
            (Kind::ReadOnlyFilesystem, DiskTroubleKind::ReadOnly),
            (Kind::NotFound, DiskTroubleKind::Missing),
        ];
        let found = known.iter().find(|(kind, _)| *kind == error.kind());
        Self {
            kind: found.map_or(DiskTroubleKind::Other, |(_, kind)| *kind),
            text: error.to_string(),
        }
    }
}

impl fmt::Display for DiskTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
