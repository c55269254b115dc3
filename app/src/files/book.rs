//! What of files outlives the program, on the [`Shelf`] of conversations.
//!
//! ```text
//! F  id   ver=1 | u8 direction | user 32 | u64 at | offer | u8 state | path or sentence
//! ```
//! What of a file has come stands in its part file.

use std::path::PathBuf;

use ahoy_transport::{
    identity::UserId,
    wire::{Reader, WireError, Writer},
};

use super::{FileOffer, TransferId, trouble::FileTrouble};
use crate::chat::shelf::{Shelf, ShelfError};

/// Transfers that are kept in all, and with one person. The oldest that are over go first; where none is, no more come.
pub const MAX_TRANSFERS: usize = 400;
/// See [`MAX_TRANSFERS`].
pub const MAX_PER_PERSON: usize = 100;
const MAX_TEXT: usize = 8 * 1024;
const VERSION: u8 = 1;
const FILE: &[u8] = b"F";

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// We send it.
    Outgoing,
    /// It was offered to us.
    Incoming,
}

/// How far a transfer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Offered; nobody has said yes yet.
    Offered,
    /// It moves, or will as soon as somebody who has it is there.
    Active,
    /// Asks for nothing until the person says so.
    Paused,
    /// It is all there; incoming files lie where the record says.
    Done,
    /// The person does not want it, or no more.
    Refused,
    /// It cannot go on, for the reason in the record.
    Failed,
}

impl State {
    fn wire(&self) -> u8 {
        match self {
            Self::Offered => 0,
            Self::Active => 1,
            Self::Paused => 2,
            Self::Done => 3,
            Self::Refused => 4,
            Self::Failed => 5,
        }
    }

    fn of(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            0 => Self::Offered,
            1 => Self::Active,
            2 => Self::Paused,
            3 => Self::Done,
            4 => Self::Refused,
            5 => Self::Failed,
            _ => return Err(WireError::Undefined),
        })
    }

    /// One word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Nothing more becomes of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Refused | Self::Failed)
    }
}

/// A file on its way, or at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Names it; the letter's id.
    pub id: TransferId,
    /// Whose it is.
    pub direction: Direction,
    /// With whom.
    pub user: UserId,
    /// When it was offered, Unix milliseconds.
    pub at_millis: u64,
    /// The file.
    pub offer: FileOffer,
    /// How far.
    pub state: State,
    /// Where the file lies: ours, or the one that came. None while it is not complete.
    pub path: Option<PathBuf>,
    /// Why it failed, or waits.
    pub trouble: Option<FileTrouble>,
}

impl Transfer {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u8(u8::from(self.direction == Direction::Incoming));
        out.put_bytes(&self.user.0);
        out.put_u64(self.at_millis);
        self.offer.put(&mut out);
        out.put_u8(self.state.wire());
        let path = self
            .path
            .as_ref()
            .map(|path| path.as_os_str().as_encoded_bytes());
        out.put_var_bytes(path.unwrap_or_default());
        let trouble = self.trouble.as_ref().map(FileTrouble::to_text);
        out.put_var_bytes(trouble.unwrap_or_default().as_bytes());
        out
    }

    fn from_bytes(id: TransferId, bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let direction = match reader.u8()? {
            0 => Direction::Outgoing,
            _ => Direction::Incoming,
        };
        let user = UserId(reader.array()?);
        let at_millis = reader.u64()?;
        let offer = FileOffer::read(&mut reader)?;
        let state = State::of(reader.u8()?)?;
        let path = reader.var_bytes(MAX_TEXT)?;
        let trouble = reader.var_bytes(MAX_TEXT)?;
        reader.finish()?;
        Ok(Self {
            id,
            direction,
            user,
            at_millis,
            offer,
            state,
            path: (!path.is_empty()).then(|| path_of(path)),
            trouble: FileTrouble::from_text(&String::from_utf8_lossy(trouble)),
        })
    }
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    OsStr::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Transfers on a shelf.
#[derive(Debug, Clone, Copy)]
pub struct FileBook<'a>(pub &'a dyn Shelf);

impl FileBook<'_> {
    /// All of them, the oldest first. What is damaged is left out, and said in the log.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn all(&self) -> Result<Vec<Transfer>, ShelfError> {
        let found = self.0.scan(FILE)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let id = key.get(FILE.len()..).unwrap_or_default().try_into().ok()?;
            Transfer::from_bytes(TransferId(id), &value)
                .inspect_err(|error| tracing::error!(%error, "a record of a file is damaged"))
                .ok()
        };
        let mut all: Vec<Transfer> = found.into_iter().filter_map(read).collect();
        all.sort_by_key(|transfer| (transfer.at_millis, transfer.id));
        Ok(all)
    }

    /// Keeps a new one, or what became of one.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn keep(&self, transfer: &Transfer) -> Result<(), ShelfError> {
        let key = [FILE, &transfer.id.0].concat();
        self.0.change(vec![(key, Some(transfer.to_bytes()))])
    }

    /// Forgets one.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn forget(&self, id: TransferId) -> Result<(), ShelfError> {
        self.0.change(vec![([FILE, &id.0].concat(), None)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::shelf::MemoryShelf,
        files::{Capability, Root},
    };

    #[test]
    fn transfers_are_read_as_kept() {
        let shelf = MemoryShelf::default();
        let book = FileBook(&shelf);
        let mut transfer = Transfer {
            id: TransferId([1; 16]),
            direction: Direction::Incoming,
            user: UserId([2; 32]),
            at_millis: 5,
            offer: FileOffer {
                root: Root([3; 32]),
                size: 4,
                name: "a".into(),
                kind: String::new(),
                capability: Capability([6; 32]),
            },
            state: State::Offered,
            path: None,
            trouble: None,
        };
        book.keep(&transfer).unwrap();
        for state in [
            State::Active,
            State::Paused,
            State::Refused,
            State::Failed,
            State::Done,
        ] {
            transfer.state = state;
            transfer.path = Some("/tmp/ü".into());
            transfer.trouble = FileTrouble::from_text("why");
            book.keep(&transfer).unwrap();
            assert_eq!(book.all().unwrap(), [transfer.clone()]);
        }
        book.forget(transfer.id).unwrap();
        assert!(book.all().unwrap().is_empty());
    }
}
