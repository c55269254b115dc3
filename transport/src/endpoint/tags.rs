//! Tags under which a peer's connection may come in.
//!
//! A tag is the first destination connection id of one connection of one session, derived from its secret. It
//! serves once: it is used up when message 1 under it verified, and stays usable when it did not.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{mux::TableFull, noise::TAG_BYTES};

/// A tag.
pub(crate) type Tag = [u8; TAG_BYTES];

/// Most tags that wait at once. A session keeps some thirty registered, a device is in few sessions.
pub const MAX_TAGS: usize = 4096;

/// Used tags that are remembered, only to count a replay as one. Forgetting is safe: an unknown tag is ignored
/// just the same.
const MAX_USED: usize = 1024;

/// What [`TagTable::begin`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup<T> {
    /// It waited; now its handshake runs.
    Begun(T),
    /// Its handshake runs already.
    Busy,
    /// It has served.
    Used,
    /// It was never registered, or is no longer.
    Unknown,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    busy: bool,
    /// Nobody waits any more, except for the handshake that runs.
    withdrawn: bool,
}

/// Tags and what waits behind them.
#[derive(Debug)]
pub(crate) struct TagTable<T> {
    waiting: HashMap<Tag, Entry<T>>,
    used: HashSet<Tag>,
    used_in_order: VecDeque<Tag>,
}

impl<T> Default for TagTable<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            used: HashSet::new(),
            used_in_order: VecDeque::new(),
        }
    }
}

impl<T: Clone> TagTable<T> {
    pub(crate) fn register(&mut self, tag: Tag, value: T) -> Result<(), TableFull> {
        if self.waiting.len() >= MAX_TAGS && !self.waiting.contains_key(&tag) {
            return Err(TableFull);
        }
        let entry = Entry {
            value,
            busy: false,
            withdrawn: false,
        };
        self.waiting.insert(tag, entry);
        Ok(())
    }

    /// Nobody waits for `tag` any more. A handshake that runs already may still succeed.
    pub(crate) fn unregister(&mut self, tag: &Tag) {
        match self.waiting.get_mut(tag) {
            Some(entry) if entry.busy => entry.withdrawn = true,
            Some(_) | None => {
                self.waiting.remove(tag);
            }
        }
    }

    /// What waits behind `tag`, without touching it.
    pub(crate) fn peek(&self, tag: &[u8]) -> Option<&T> {
        self.waiting.get(tag).map(|entry| &entry.value)
    }

    /// Starts the handshake of a waiting tag.
    pub(crate) fn begin(&mut self, tag: &[u8]) -> Lookup<T> {
        match self.waiting.get_mut(tag) {
            Some(entry) if entry.busy => Lookup::Busy,
            Some(entry) => {
                entry.busy = true;
                Lookup::Begun(entry.value.clone())
            }
            None if self.used.contains(tag) => Lookup::Used,
            None => Lookup::Unknown,
        }
    }

    /// Message 1 never verified: the tag waits again.
    pub(crate) fn put_back(&mut self, tag: &Tag) {
        match self.waiting.get_mut(tag) {
            Some(entry) if entry.withdrawn => {
                self.waiting.remove(tag);
            }
            Some(entry) => entry.busy = false,
            None => {}
        }
    }

    /// Message 1 verified: the tag has served.
    pub(crate) fn use_up(&mut self, tag: &Tag) {
        self.waiting.remove(tag);
        if self.used.insert(*tag) {
            self.used_in_order.push_back(*tag);
        }
        if self.used_in_order.len() > MAX_USED
            && let Some(oldest) = self.used_in_order.pop_front()
        {
            self.used.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(n: u16) -> Tag {
        let mut tag = [0; TAG_BYTES];
        tag[..2].copy_from_slice(&n.to_be_bytes());
        tag
    }

    #[test]
    fn a_tag_serves_once_but_survives_failed_attempts() {
        let mut tags = TagTable::default();
        tags.register(tag(1), 7).unwrap();
        assert_eq!(tags.begin(&tag(2)), Lookup::Unknown);
        assert_eq!(tags.begin(&tag(1)), Lookup::Begun(7));
        assert_eq!(tags.begin(&tag(1)), Lookup::Busy);
        tags.put_back(&tag(1));
        assert_eq!(tags.begin(&tag(1)), Lookup::Begun(7));
        tags.use_up(&tag(1));
        assert_eq!(tags.begin(&tag(1)), Lookup::Used);
        tags.put_back(&tag(1));
        assert_eq!(tags.begin(&tag(1)), Lookup::Used);
    }

    #[test]
    fn a_tag_withdrawn_during_its_handshake_serves_that_one_and_no_other() {
        let mut tags = TagTable::default();
        tags.register(tag(1), ()).unwrap();
        assert_eq!(tags.begin(&tag(1)), Lookup::Begun(()));
        tags.unregister(&tag(1));
        assert_eq!(tags.begin(&tag(1)), Lookup::Busy);
        tags.put_back(&tag(1));
        assert_eq!(tags.begin(&tag(1)), Lookup::Unknown);
        tags.register(tag(2), ()).unwrap();
        tags.unregister(&tag(2));
        assert_eq!(tags.begin(&tag(2)), Lookup::Unknown);
    }

    #[test]
    fn both_tables_are_bounded() {
        let mut tags = TagTable::default();
        for n in 0..4096 {
            tags.register(tag(n), ()).unwrap();
        }
        assert_eq!(tags.register(tag(5000), ()), Err(TableFull));
        for n in 0..2000 {
            tags.use_up(&tag(n));
        }
        assert_eq!(tags.used.len(), MAX_USED);
        assert_eq!(tags.begin(&tag(0)), Lookup::Unknown);
        assert_eq!(tags.begin(&tag(1999)), Lookup::Used);
    }
}
