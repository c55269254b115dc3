//! How a table is held in little memory: entries in numbered slots, networks in eight bytes.

use ahoy_transport::identity::NodeId;
use ring::digest;

use super::{Entry, SEATS};
use crate::discovery::rendezvous::Network;

fn hash(parts: &[&[u8]]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let digest = context.finish();
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}

/// A network in four bytes. No /32 of IPv6 that is given out begins with zeros.
pub(super) fn tag(network: &Network) -> u32 {
    match network {
        Network::V4([a, b]) => u32::from_be_bytes([0, 0, *a, *b]),
        Network::V6(bytes) => u32::from_be_bytes(*bytes),
        Network::Domain(name) => hash(&[name.as_bytes()]) as u32,
    }
}

/// A network in eight bytes, in the order of [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(pub(super) u64);

impl Bucket {
    const KIND: u32 = 56;

    pub(super) fn of(network: &Network) -> Self {
        let (kind, rest) = match network {
            Network::V4(_) => (4, tag(network).into()),
            Network::V6(_) => (6, tag(network).into()),
            Network::Domain(name) => (7, hash(&[name.as_bytes()]) >> 8),
        };
        Self((kind << Self::KIND) | rest)
    }

    /// Where each supernode is a network of its own.
    pub(super) fn of_one(node: NodeId) -> Self {
        let first = node.as_bytes().first_chunk().copied().unwrap_or_default();
        Self((7 << Self::KIND) | (u64::from_be_bytes(first) >> 8))
    }

    /// As it is ranked: everybody's hash alike.
    pub(super) fn rank(self, label: &[u8], secret: &[u8]) -> u64 {
        let bytes = self.0.to_be_bytes();
        let (kind, from) = match bytes {
            [4, ..] => (&bytes[..1], 6),
            [6, ..] => (&bytes[..1], 4),
            _of_one => (&bytes[..0], 0),
        };
        hash(&[label, secret, kind, &bytes[from..]])
    }
}

/// Where an entry is.
pub(super) type Slot = u16;

/// Those who sit in a network, the longest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seats([Slot; SEATS]);

impl Seats {
    const FREE: Slot = Slot::MAX;

    pub(super) fn iter(self) -> impl Iterator<Item = Slot> {
        self.0.into_iter().take_while(|slot| *slot != Self::FREE)
    }

    pub(super) fn is_full(self) -> bool {
        self.iter().count() >= SEATS
    }

    /// Where there is one.
    pub(super) fn take(&mut self, slot: Slot) {
        let mut seats = self.0.iter_mut();
        if let Some(free) = seats.find(|seat| **seat == Self::FREE) {
            *free = slot;
        }
    }

    pub(super) fn leave(&mut self, slot: Slot) {
        let others = self.iter().filter(|other| *other != slot);
        let mut left = Self::default();
        left.0
            .iter_mut()
            .zip(others)
            .for_each(|(to, other)| *to = other);
        *self = left;
    }
}

impl Default for Seats {
    fn default() -> Self {
        Self([Self::FREE; SEATS])
    }
}

/// Entries by number, and the numbers in the order of the supernodes' names.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    pub(super) entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    by_node: Vec<Slot>,
}

impl Slots {
    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(usize::from(slot))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(usize::from(slot))?.as_mut()
    }

    /// Where it is, or where it belongs, among the names.
    fn search(&self, node: NodeId) -> Result<usize, usize> {
        let name = |slot: &Slot| self.get(*slot).map(|entry| entry.announcement.name());
        self.by_node
            .binary_search_by(|slot| name(slot).cmp(&Some(&node.0)))
    }

    pub(super) fn find(&self, node: NodeId) -> Option<Slot> {
        let at = self.search(node).ok()?;
        self.by_node.get(at).copied()
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_node.iter().filter_map(|slot| self.get(*slot))
    }

    pub(super) fn len(&self) -> usize {
        self.by_node.len()
    }

    /// One that is not there. `None` without room, of which the table's other bounds leave plenty.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Slot> {
        let at = self.search(entry.announcement.node()).err()?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => Slot::try_from(self.entries.len())
                .ok()
                .filter(|slot| *slot != Seats::FREE)?,
        };
        match self.entries.get_mut(usize::from(slot)) {
            Some(free) => *free = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        self.by_node.insert(at, slot);
        Some(slot)
    }

    pub(super) fn remove(&mut self, node: NodeId) -> Option<(Slot, Entry)> {
        let slot = self.by_node.remove(self.search(node).ok()?);
        self.free.push(slot);
        let entry = self.entries.get_mut(usize::from(slot))?.take()?;
        Some((slot, entry))
    }
}
