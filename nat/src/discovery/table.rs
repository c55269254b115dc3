//! The supernodes that a node knows: a bounded table, bucketed by network. Sans-IO; what fills it is [`super::gossip`].
//!
//! What an attacker would do is fill it with supernodes of their own, so that homes, and the [places](super::rendezvous) of
//! records, are theirs (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", 2015). Against that:
//!
//! - *Buckets.* A network (IPv4 /16, IPv6 /32) has [`SEATS`], however many supernodes somebody runs in it, and whatever is
//!   drawn at random is drawn among networks.
//! - *New and tried.* What we were told is only *heard* until it proved its key to us, or until several networks, unasked by
//!   each other, told it ([`NodeTable::need`]). What is heard has room of its own, each teller a part of that.
//! - *Test before evict.* Whoever sits stays until it fails; nobody is pushed out by being told of others.
//! - *Anchors.* Those in use are never evicted and outlive restarts.
//! - *What fits.* Nobody is remembered, nor met, whose network is not among those that are kept: where there are many more
//!   networks than fit, each would be met only to be forgotten, and told again.
//!
//! **Which networks are kept**, where there are more than fit: those that hash lowest, for everybody alike, so that the tables
//! of publisher and reader hold the same ([`DIRECTORY_NETWORKS`]); and some that hash lowest under a secret of this node, so
//! that not all the world has its homes at the same supernodes ([`OWN_NETWORKS`]).
//!
//! **Memory.** An announcement is held once, as its bytes; all else speaks of it by the number of its slot, and of a network by
//! eight bytes: about 250 bytes for each supernode, and the bounds above whatever strangers tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::size_of,
    sync::Arc,
};

use ahoy_transport::{
    identity::{NodeAddress, NodeId},
    wire::{Reader, WireError, Writer},
};
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

mod slots;

use slots::{Bucket, Seats, Slot, Slots, tag};

use super::{
    announcement::{Announcement, MAX_ANNOUNCEMENT_LEN},
    rendezvous::Network,
};

/// Networks that everybody keeps who knows them.
pub const DIRECTORY_NETWORKS: usize = 1024;
/// Networks beside those, others for each node.
pub const OWN_NETWORKS: usize = 256;
/// Supernodes of one network.
pub const SEATS: usize = 4;
/// Supernodes that were only heard of, at once.
pub const MAX_HEARD: usize = 4096;
/// Of those, told first by one network.
pub const MAX_HEARD_PER_SOURCE: usize = 1280;
/// Tellers that are counted: how many tell us decides how many must agree.
const MAX_SOURCES: usize = 64;
/// Tellers remembered of each supernode.
const MAX_WITNESSES: usize = 3;
/// Whoever failed so often in a row is not counted with.
const FAILURES_UNTIL_DOUBTED: u8 = 2;
/// Whoever failed so often in a row is forgotten.
const FAILURES_UNTIL_FORGOTTEN: u8 = 6;
/// What is handed out was met within this, in milliseconds.
const FRESH_MILLIS: u64 = 12 * 3_600_000;
const VERSION: u8 = 1;

/// What a table insists on. The switches are there to show what they are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRules {
    /// Count networks; without it each supernode is a network of its own.
    pub bucketed: bool,
    /// Nobody makes room for one that was only told of; without it the newest has the seat.
    pub test_before_evict: bool,
    /// Have several networks tell before something counts that was not met; without it one that lies is enough.
    pub witnesses: bool,
    /// Keep those in use, and remember them; without it a restart begins with whatever the table holds.
    pub anchors: bool,
    /// Believe in what was met, and in nothing that was told, by however many: for whoever tells others. Without it a supernode
    /// hands on whatever it heard.
    pub meet_all: bool,
    /// Hear only of those that would be kept once met; without it a node meets all that there are, again and again.
    pub fitting: bool,
}

impl Default for TableRules {
    fn default() -> Self {
        Self {
            bucketed: true,
            test_before_evict: true,
            witnesses: true,
            anchors: true,
            meet_all: false,
            fitting: true,
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    announcement: Arc<Announcement>,
    /// Networks that told of it, [`MAX_WITNESSES`] at most, the first one first.
    witnesses: [u32; MAX_WITNESSES],
    witness_count: u8,
    failures: u8,
    anchor: bool,
    /// When it last proved its key, Unix milliseconds; 0: never.
    last_met_millis: u64,
    first_met_millis: u64,
}

impl Entry {
    fn is_tried(&self) -> bool {
        self.last_met_millis > 0
    }

    fn add_witness(&mut self, source: u32) {
        let count = usize::from(self.witness_count);
        if self
            .witnesses
            .iter()
            .take(count)
            .all(|known| *known != source)
            && let Some(free) = self.witnesses.get_mut(count)
        {
            *free = source;
            self.witness_count += 1;
        }
    }
}

/// A supernode of the table.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// What it says of itself.
    pub announcement: &'a Arc<Announcement>,
    /// It proved its key to us.
    pub tried: bool,
    /// Since when we know it, Unix milliseconds; 0 for one that was not met.
    pub first_met_millis: u64,
    /// It is one that we use.
    pub anchor: bool,
}

/// Each network by a rank; see the module.
type Ranked = BTreeSet<(u64, Bucket)>;

/// The table.
#[derive(Debug, Clone)]
pub struct NodeTable {
    rules: TableRules,
    /// Of this node's ranking.
    secret: [u8; 8],
    me: Option<NodeId>,
    nodes: Slots,
    networks: BTreeMap<Bucket, Seats>,
    /// All networks in an order that nobody else knows, to draw from.
    order: Ranked,
    directory: Ranked,
    own: Ranked,
    /// Supernodes only heard of, by who told them first.
    heard: BTreeMap<u32, usize>,
    heard_count: usize,
    sources: BTreeSet<u32>,
    /// Those that we use, in the table or not.
    in_use: Vec<NodeId>,
}

fn public_rank(network: Bucket) -> u64 {
    network.rank(b"ahoy directory 1\0", &[])
}

impl NodeTable {
    /// An empty table of `me`, where that is a supernode. `secret` is random.
    #[must_use]
    pub fn new(rules: TableRules, me: Option<NodeId>, secret: [u8; 8]) -> Self {
        Self {
            rules,
            secret,
            me,
            nodes: Slots::default(),
            networks: BTreeMap::new(),
            order: Ranked::new(),
            directory: Ranked::new(),
            own: Ranked::new(),
            heard: BTreeMap::new(),
            heard_count: 0,
            sources: BTreeSet::new(),
            in_use: Vec::new(),
        }
    }

    /// Whose table it is, where that is a supernode.
    #[must_use]
    pub fn me(&self) -> Option<NodeId> {
        self.me
    }

    /// It is the table of `me` from now on, who does not know itself.
    pub fn set_me(&mut self, me: NodeId) {
        self.me = Some(me);
        self.remove(me);
    }

    fn own_rank(&self, network: Bucket) -> u64 {
        network.rank(b"ahoy own networks 1\0", &self.secret)
    }

    fn bucket(&self, announcement: &Announcement) -> Bucket {
        if self.rules.bucketed {
            Bucket::of(&Network::of_ip(announcement.addr().ip()))
        } else {
            Bucket::of_one(announcement.node())
        }
    }

    /// Whether a network is kept when somebody in it counts, as far as is known now.
    fn fits(&self, network: Bucket) -> bool {
        let may = |kept: &Ranked, most: usize, rank: u64| {
            let last = kept.last();
            kept.len() < most || last.is_some_and(|last| (rank, network) <= *last)
        };
        may(&self.directory, DIRECTORY_NETWORKS, public_rank(network))
            || may(&self.own, OWN_NETWORKS, self.own_rank(network))
    }

    /// Networks that must have told of a supernode before it counts without having been met: one where hardly anybody tells
    /// us anything, so that a silent liar does not blind us, and more the more there are.
    #[must_use]
    pub fn need(&self) -> usize {
        match self.sources.len() {
            _any if self.rules.meet_all => usize::MAX,
            _any if !self.rules.witnesses => 1,
            0..=2 => 1,
            3..=5 => 2,
            _many => MAX_WITNESSES,
        }
    }

    fn is_firm(&self, entry: &Entry) -> bool {
        entry.is_tried() || usize::from(entry.witness_count) >= self.need()
    }

    fn is_live(&self, entry: &Entry) -> bool {
        self.is_firm(entry) && entry.failures < FAILURES_UNTIL_DOUBTED
    }

    /// Somebody in `source` told of a supernode. Whether it can be dialled is the caller's business. Says whether it is kept
    /// and was not known.
    pub fn hear(
        &mut self,
        announcement: &Arc<Announcement>,
        source: &Network,
        now_millis: u64,
    ) -> bool {
        let node = announcement.node();
        if self.me == Some(node) || !announcement.is_current(now_millis) {
            return false;
        }
        let source = tag(source);
        let known = self.nodes.find(node);
        match known.and_then(|slot| Some((slot, self.nodes.get(slot)?))) {
            None => self.hear_new(announcement, source),
            Some((slot, known)) => {
                let older = known.announcement.issued_millis() >= announcement.issued_millis();
                if !older && known.announcement.addr() != announcement.addr() {
                    // It moved. Nobody has met it there.
                    return announcement.is_authentic() && {
                        self.remove(node);
                        self.hear_new(announcement, source)
                    };
                }
                if !older && !announcement.is_authentic() {
                    return false;
                }
                let was_firm = self.is_firm(known);
                if let Some(known) = self.nodes.get_mut(slot) {
                    if !older {
                        known.announcement = Arc::clone(announcement);
                    }
                    known.add_witness(source);
                }
                self.settle(slot, was_firm);
                false
            }
        }
    }

    /// Somebody in `source` told of all that are known there, so that there is one more to agree with the others.
    pub fn heard_out(&mut self, source: &Network) {
        let need = self.need();
        if self.sources.len() < MAX_SOURCES {
            self.sources.insert(tag(source));
        }
        if self.need() != need {
            self.sort_again();
        }
    }

    fn hear_new(&mut self, announcement: &Arc<Announcement>, source: u32) -> bool {
        let told = self.heard.get(&source).copied().unwrap_or(0);
        if told >= MAX_HEARD_PER_SOURCE {
            return false;
        }
        let (node, network) = (announcement.node(), self.bucket(announcement));
        if self.rules.fitting && !self.fits(network) && !self.in_use.contains(&node) {
            return false;
        }
        if let Some(seats) = self.networks.get(&network)
            && seats.is_full()
        {
            let leaving = seats
                .iter()
                .filter_map(|slot| self.nodes.get(slot))
                .find(|entry| self.may_leave(entry))
                .map(|entry| entry.announcement.node());
            let Some(leaving) = leaving else {
                return false;
            };
            if !announcement.is_authentic() {
                return false;
            }
            self.remove(leaving);
        }
        if !announcement.is_authentic() {
            return false;
        }
        if self.heard_count >= MAX_HEARD {
            self.forget_of_the_loudest();
        }
        let entry = Entry {
            announcement: Arc::clone(announcement),
            witnesses: [source, 0, 0],
            witness_count: 1,
            failures: 0,
            anchor: self.in_use.contains(&node),
            last_met_millis: 0,
            first_met_millis: 0,
        };
        self.insert(entry);
        self.nodes.find(node).is_some()
    }

    /// Whether a newcomer to a full network may have this one's seat.
    fn may_leave(&self, entry: &Entry) -> bool {
        !entry.anchor && (entry.failures > 0 || !self.rules.test_before_evict)
    }

    /// Puts a supernode in that is not there.
    fn insert(&mut self, entry: Entry) {
        let network = self.bucket(&entry.announcement);
        let source = entry.witnesses.first().copied().unwrap_or(0);
        let rank = self.own_rank(network);
        let seats = self.networks.get(&network);
        if seats.is_some_and(|seats| seats.is_full()) {
            return;
        }
        let Some(slot) = self.nodes.insert(entry) else {
            return;
        };
        self.networks.entry(network).or_default().take(slot);
        self.order.insert((rank, network));
        *self.heard.entry(source).or_insert(0) += 1;
        self.heard_count += 1;
        self.settle(slot, false);
    }

    /// A supernode may have become firm: its network is then one of those that are kept, or not.
    fn settle(&mut self, slot: Slot, was_firm: bool) {
        let Some(entry) = self.nodes.get(slot) else {
            return;
        };
        if was_firm || !self.is_firm(entry) {
            return;
        }
        let network = self.bucket(&entry.announcement);
        let source = entry.witnesses.first().copied().unwrap_or(0);
        self.count_out(source);
        self.keep_network(network);
    }

    fn count_out(&mut self, source: u32) {
        self.heard_count = self.heard_count.saturating_sub(1);
        if let Some(told) = self.heard.get_mut(&source) {
            *told -= 1;
            if *told == 0 {
                self.heard.remove(&source);
            }
        }
    }

    fn keep_network(&mut self, network: Bucket) {
        let ranked = (public_rank(network), network);
        if self.directory.contains(&ranked) {
            return;
        }
        self.directory.insert(ranked);
        if self.directory.len() > DIRECTORY_NETWORKS {
            let Some((_rank, last)) = self.directory.pop_last() else {
                return;
            };
            self.own.insert((self.own_rank(last), last));
            if self.own.len() > OWN_NETWORKS
                && let Some((_rank, network)) = self.own.pop_last()
            {
                self.forget_network(network);
            }
        } else {
            // It was one of the others until there was room.
            self.own.remove(&(self.own_rank(network), network));
        }
    }

    fn forget_network(&mut self, network: Bucket) {
        let entries: Vec<&Entry> = self.sitting(network).collect();
        let leaving = entries.iter().filter(|entry| !entry.anchor);
        let leaving: Vec<NodeId> = leaving.map(|entry| entry.announcement.node()).collect();
        leaving.into_iter().for_each(|node| self.remove(node));
    }

    /// Whoever told most makes room.
    fn forget_of_the_loudest(&mut self) {
        let loudest = self.heard.iter().max_by_key(|(_source, told)| **told);
        let Some(loudest) = loudest.map(|(source, _told)| *source) else {
            return;
        };
        let one = self
            .nodes
            .iter()
            .find(|entry| !self.is_firm(entry) && entry.witnesses.first() == Some(&loudest))
            .map(|entry| entry.announcement.node());
        if let Some(node) = one {
            self.remove(node);
        }
    }

    /// Forgets a supernode.
    fn remove(&mut self, node: NodeId) {
        let Some((slot, entry)) = self.nodes.remove(node) else {
            return;
        };
        if !self.is_firm(&entry) {
            self.count_out(entry.witnesses.first().copied().unwrap_or(0));
        }
        let network = self.bucket(&entry.announcement);
        if let Some(seats) = self.networks.get_mut(&network) {
            seats.leave(slot);
        }
        if !self.sitting(network).any(|entry| self.is_firm(entry)) {
            self.directory.remove(&(public_rank(network), network));
            self.own.remove(&(self.own_rank(network), network));
        }
        if self.sitting(network).next().is_none() {
            self.networks.remove(&network);
            self.order.remove(&(self.own_rank(network), network));
        }
    }

    /// How many must agree changed.
    fn sort_again(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        let (rules, me, secret) = (self.rules, self.me, self.secret);
        let sources = std::mem::take(&mut self.sources);
        let in_use = std::mem::take(&mut self.in_use);
        *self = Self::new(rules, me, secret);
        self.sources = sources;
        self.in_use = in_use;
        nodes.iter().for_each(|entry| self.insert(entry.clone()));
    }

    /// A supernode proved its key at the address of the announcement that is held of it, or of `newest`, which it sent itself.
    pub fn met(&mut self, node: NodeId, newest: Option<&Arc<Announcement>>, now_millis: u64) {
        let newest = newest.filter(|newest| newest.node() == node && newest.is_authentic());
        if self.nodes.find(node).is_none()
            && let Some(newest) = newest
        {
            let source = Network::of_ip(newest.addr().ip());
            self.hear(newest, &source, now_millis);
        }
        let Some((slot, known)) = self.entry(node) else {
            return;
        };
        let was_firm = self.is_firm(known);
        if let Some(known) = self.nodes.get_mut(slot) {
            if let Some(newest) = newest
                && newest.addr() == known.announcement.addr()
                && newest.issued_millis() > known.announcement.issued_millis()
            {
                known.announcement = Arc::clone(newest);
            }
            known.failures = 0;
            known.last_met_millis = now_millis.max(1);
            if known.first_met_millis == 0 {
                known.first_met_millis = now_millis.max(1);
            }
        }
        self.settle(slot, was_firm);
    }

    fn entry(&self, node: NodeId) -> Option<(Slot, &Entry)> {
        let slot = self.nodes.find(node)?;
        Some((slot, self.nodes.get(slot)?))
    }

    /// A supernode did not answer, or did not prove its key. Returns how often in a row; `None` when it is not there any more.
    pub fn missed(&mut self, node: NodeId) -> Option<u8> {
        let slot = self.nodes.find(node)?;
        let entry = self.nodes.get_mut(slot)?;
        entry.failures = entry.failures.saturating_add(1);
        let patience = if entry.is_tried() {
            FAILURES_UNTIL_FORGOTTEN
        } else {
            FAILURES_UNTIL_DOUBTED
        };
        if entry.failures >= patience && !entry.anchor {
            self.remove(node);
            return None;
        }
        Some(entry.failures)
    }

    /// These are in use, and no others.
    pub fn set_anchors(&mut self, in_use: &[NodeId]) {
        if self.rules.anchors {
            self.in_use = in_use.to_vec();
            for entry in self.nodes.entries.iter_mut().flatten() {
                entry.anchor = in_use.contains(&entry.announcement.node());
            }
        }
    }

    /// Those in use, also before a restart; the longest known first.
    #[must_use]
    pub fn anchors(&self) -> Vec<NodeAddress> {
        let mut anchors: Vec<&Entry> = self.nodes.iter().filter(|entry| entry.anchor).collect();
        anchors.sort_by_key(|entry| entry.first_met_millis);
        let addresses = anchors.iter().map(|entry| entry.announcement.address());
        addresses.collect()
    }

    /// Those in a network.
    fn sitting(&self, network: Bucket) -> impl Iterator<Item = &Entry> {
        let seats = self.networks.get(&network).copied().unwrap_or_default();
        seats.iter().filter_map(|slot| self.nodes.get(slot))
    }

    /// Where records are: of the networks that everybody keeps, those supernodes that count and do not fail.
    pub fn directory(&self) -> impl Iterator<Item = NodeAddress> + '_ {
        let networks = self.directory.iter();
        networks
            .flat_map(|(_rank, network)| self.sitting(*network))
            .filter(|entry| self.is_live(entry))
            .map(|entry| entry.announcement.address())
    }

    /// All that count and do not fail.
    pub fn live(&self) -> impl Iterator<Item = Known<'_>> {
        let entries = self.nodes.iter().filter(|entry| self.is_live(entry));
        entries.map(Self::show)
    }

    fn show(entry: &Entry) -> Known<'_> {
        Known {
            announcement: &entry.announcement,
            tried: entry.is_tried(),
            first_met_millis: entry.first_met_millis,
            anchor: entry.anchor,
        }
    }

    /// What is known of a supernode.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<Known<'_>> {
        self.entry(node).map(|(_slot, entry)| Self::show(entry))
    }

    /// What others are told: of each network after `after` one supernode that was met lately, `most` at most.
    #[must_use]
    pub fn page(
        &self,
        after: Option<&Network>,
        most: usize,
        now_millis: u64,
    ) -> Vec<Arc<Announcement>> {
        use std::ops::Bound;
        let after = after.map(Bucket::of);
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let networks = self.networks.range((first, Bound::Unbounded));
        let told = networks.filter_map(|(_network, seats)| {
            let mut seats = seats.iter().filter_map(|slot| self.nodes.get(slot));
            let good = seats.find(|entry| {
                let met = entry.is_tried()
                    && entry.last_met_millis.saturating_add(FRESH_MILLIS) > now_millis;
                (met || !self.rules.meet_all)
                    && entry.failures == 0
                    && entry.announcement.is_current(now_millis)
            });
            good.map(|entry| Arc::clone(&entry.announcement))
        });
        told.take(most).collect()
    }

    /// One drawn at random, first its network, for which `wanted` says yes.
    pub fn draw(
        &self,
        rng: &mut ChaCha20Rng,
        wanted: impl Fn(&Known<'_>) -> bool,
    ) -> Option<NodeAddress> {
        /// Networks looked at before giving up.
        const TRIES: usize = 256;
        let start = (rng.next_u64(), Bucket(0));
        let ahead = self.order.range(start..).chain(&self.order);
        ahead
            .take(self.order.len().min(TRIES))
            .flat_map(|(_rank, network)| self.sitting(*network))
            .find(|entry| wanted(&Self::show(entry)))
            .map(|entry| entry.announcement.address())
    }

    /// Supernodes in it, counting or only heard of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All supernodes in it.
    pub fn nodes(&self) -> impl Iterator<Item = Known<'_>> {
        self.nodes.iter().map(Self::show)
    }

    /// Memory that it takes, in bytes, as far as its own types tell: what the allocator adds is left out.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        const OF_ARC: usize = 2 * size_of::<usize>();
        let node = size_of::<Option<Entry>>() + size_of::<Slot>();
        let held = OF_ARC + size_of::<Announcement>();
        let network = size_of::<Bucket>() + size_of::<Seats>();
        let ranks = self.order.len() + self.directory.len() + self.own.len();
        self.nodes.entries.len() * node
            + self.nodes.len() * held
            + self.networks.len() * network
            + ranks * size_of::<(u64, Bucket)>()
    }

    /// For the profile: what counts, and who told it.
    ///
    /// ```text
    /// | ver=1 | secret (8) | varint tellers, u32 each | varint nodes | nodes |
    /// node: | u8 anchor | u64 first met | u64 last met | u8 witnesses, u32 each | varint length, announcement |
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_bytes(&self.secret);
        out.put_varint(self.sources.len() as u64);
        self.sources.iter().for_each(|source| out.put_u32(*source));
        let kept: Vec<&Entry> = self
            .nodes
            .iter()
            .filter(|entry| self.is_firm(entry))
            .collect();
        out.put_varint(kept.len() as u64);
        for entry in kept {
            out.put_u8(u8::from(entry.anchor));
            out.put_u64(entry.first_met_millis);
            out.put_u64(entry.last_met_millis);
            out.put_u8(entry.witness_count);
            let witnesses = entry.witnesses.iter().take(entry.witness_count.into());
            witnesses.for_each(|witness| out.put_u32(*witness));
            out.put_var_bytes(entry.announcement.as_bytes());
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are no table of this version.
    pub fn from_bytes(
        rules: TableRules,
        me: Option<NodeId>,
        bytes: &[u8],
    ) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let mut table = Self::new(rules, me, reader.array()?);
        for _source in 0..reader.varint()?.min(MAX_SOURCES as u64) {
            table.sources.insert(reader.u32()?);
        }
        let most = (DIRECTORY_NETWORKS + OWN_NETWORKS) * SEATS;
        for _node in 0..reader.varint()?.min(most as u64) {
            let anchor = reader.u8()? != 0 && rules.anchors;
            let (first_met_millis, last_met_millis) = (reader.u64()?, reader.u64()?);
            let count = usize::from(reader.u8()?);
            let mut witnesses = [0; MAX_WITNESSES];
            for witness in witnesses.get_mut(..count).ok_or(WireError::TooLong)? {
                *witness = reader.u32()?;
            }
            let announcement = Announcement::from_bytes(reader.var_bytes(MAX_ANNOUNCEMENT_LEN)?)?;
            let node = announcement.node();
            let entry = Entry {
                announcement: Arc::new(announcement),
                witnesses,
                witness_count: u8::try_from(count).unwrap_or(0),
                failures: 0,
                anchor,
                last_met_millis,
                first_met_millis,
            };
            if me != Some(node) && table.nodes.find(node).is_none() {
                if anchor {
                    table.in_use.push(node);
                }
                table.insert(entry);
            }
        }
        reader.finish()?;
        Ok(table)
    }
}

#[cfg(test)]
mod tests;
