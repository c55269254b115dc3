//! Where conversations lie: keys and values, changed several at once or not at all.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use ahoy_transport::identity::UserId;

/// What could not be read or written, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ShelfError(pub String);

/// A key and its value.
pub type Item = (Vec<u8>, Vec<u8>);
/// A key and its new value; `None`: it goes.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A bounded store's ground. Whoever writes here bounds what it writes.
pub trait Shelf: Send + Sync + fmt::Debug {
    /// What lies under this key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError>;

    /// All that begins with `prefix`, by key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Item>, ShelfError>;

    /// How much of a kind there is of a person: how many keys begin with `kind` and the person.
    ///
    /// # Errors
    /// When it cannot be read.
    fn count(&self, kind: &[u8], user: UserId) -> Result<usize, ShelfError> {
        Ok(self.scan(&[kind, user.as_bytes()].concat())?.len())
    }

    /// Somebody was forgotten: nothing is to be left of what nothing is left of.
    ///
    /// # Errors
    /// When it cannot be wiped.
    fn note_forgotten(&self) -> Result<(), ShelfError> {
        Ok(())
    }

    /// Makes all changes, or none. They outlive the process when this returns.
    ///
    /// # Errors
    /// When they cannot be made.
    fn change(&self, changes: Vec<Change>) -> Result<(), ShelfError>;
}

/// A shelf that is gone with the process.
#[derive(Debug, Default)]
pub struct MemoryShelf(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Shelf for MemoryShelf {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        let items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(items.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Item>, ShelfError> {
        let items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = items
            .range(prefix.to_vec()..)
            .take_while(|(key, _value)| key.starts_with(prefix));
        Ok(found
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn change(&self, changes: Vec<Change>) -> Result<(), ShelfError> {
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(value) => items.insert(key, value),
                None => items.remove(&key),
            };
        }
        Ok(())
    }
}
