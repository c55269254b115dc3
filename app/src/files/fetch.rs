//! One file from several sources at once. Sans-IO.
//!
//! Whole nodes are asked of one source each and put together apart, so that a node that does not verify has one culprit.
//! Each source has as many nodes under way as it sends in half a second, so fast ones carry more. When nothing is left to
//! ask for, what slow ones hold up is asked of fast ones too, and whatever comes first counts. A source that sends one
//! false byte is banned at once, and what it was asked for is asked of others.
//!
//! Run loop: after each call, drain [`Fetch::poll_want`], [`Fetch::poll_piece`] and [`Fetch::poll_event`] until they give
//! nothing; then there is only [`Fetch::poll_timeout`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::tree::{FRAGMENT, Node, PIECE, Tree};

/// Sources at once. More are not asked.
pub const MAX_SOURCES: usize = 16;
/// Nodes under way at one source: first, and at most.
const FIRST_WINDOW: usize = 4;
const MAX_WINDOW: usize = 32;
/// A source has under way what it sends in so long: more than any round trip and queue that is worth filling.
const AHEAD: Duration = Duration::from_millis(500);
/// The time over which a source's rate is measured.
const RATE_OVER: Duration = Duration::from_secs(2);
/// Fragments come in order, or nearly: so long after a later one came, one that did not is lost.
const OVERTAKEN: Duration = Duration::from_millis(150);
/// A source that sends nothing for so long is asked again, then after twice that: sooner where it never paused so long.
const SILENT: Duration = Duration::from_millis(1500);
const SILENT_LEAST: Duration = Duration::from_millis(400);
/// So many times the longest pause that a source made lately.
const PAUSES: u32 = 8;
/// A source that sends nothing for so long has others do its work, and is tried with one node now and then.
const STALLED: Duration = Duration::from_secs(8);
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// Copies of one node under way in the end.
const COPIES: usize = 2;
/// Bytes that nobody asked for may come from a source beyond half of what was: late copies of what was asked for twice.
const UNASKED: u64 = 3 * 1024 * 1024;

/// A source, as whoever carries the bytes numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

/// Something to ask a source for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Whom.
    pub source: SourceId,
    /// For what.
    pub node: Node,
    /// Which fragments of it; none: it is no longer wanted.
    pub fragments: u64,
}

/// A piece that is what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which.
    pub index: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why a source is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A node does not hash to what it has to.
    False,
    /// A fragment has another length than it has to.
    Length,
    /// It sends what nobody asked for, without end.
    Unasked,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchEvent {
    /// A source is asked nothing more.
    Banned(SourceId, Offence),
    /// A page or the summit is known now; see [`Fetch::tree`].
    Learned(Node),
}

/// Counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchStats {
    /// Bytes of fragments that were asked for, by whomever.
    pub received: u64,
    /// Bytes of fragments that were not, or had come before.
    pub wasted: u64,
    /// Nodes that were asked of another source after the first one.
    pub moved: u64,
    /// Times that lost fragments were asked for again.
    pub repeated: u64,
    /// Sources that were banned.
    pub banned: u64,
}

/// A node as one source sends it.
#[derive(Debug)]
struct Assembly {
    bytes: Vec<u8>,
    missing: u64,
    /// Its place among all that this source was asked for.
    order: u64,
    asked: Instant,
    /// Something that was asked for later came.
    overtaken: Option<Instant>,
}

#[derive(Debug)]
struct Source {
    under_way: BTreeMap<Node, Assembly>,
    next_order: u64,
    window: usize,
    /// Bytes and when they came, over the last [`RATE_OVER`].
    lately: VecDeque<(Instant, usize)>,
    heard: Instant,
    /// The longest pause that it made lately.
    pause: Duration,
    /// Asked again so often since it was last heard.
    repeats: u32,
    stalled_since: Option<Instant>,
    received: u64,
    unasked: u64,
}

impl Source {
    fn rate(&mut self, now: Instant) -> f64 {
        while let Some((at, _)) = self.lately.front()
            && now.saturating_duration_since(*at) > RATE_OVER
        {
            self.lately.pop_front();
        }
        let Some((first, _)) = self.lately.front() else {
            return 0.0;
        };
        let span = now.saturating_duration_since(*first);
        let bytes: usize = self.lately.iter().map(|(_, bytes)| bytes).sum();
        bytes as f64 / span.as_secs_f64().max(0.25)
    }

    fn resize(&mut self, now: Instant) {
        let ahead = self.rate(now) * AHEAD.as_secs_f64() / PIECE as f64;
        self.window = (ahead as usize + 2).clamp(FIRST_WINDOW, MAX_WINDOW);
    }

    /// It is asked again after so much silence.
    fn silent_for(&self) -> Duration {
        let usual = (self.pause * PAUSES).clamp(SILENT_LEAST, SILENT);
        usual * (1 << self.repeats.min(3))
    }

    fn has_room(&self, now: Instant) -> bool {
        match self.stalled_since {
            Some(since) => {
                self.under_way.is_empty() && now.saturating_duration_since(since) >= TRY_AGAIN
            }
            None => self.under_way.len() < self.window,
        }
    }
}

/// One file being fetched. See the [module](self).
#[derive(Debug)]
pub struct Fetch {
    tree: Tree,
    /// Pieces that are on the disk, or on their way there.
    have: Vec<bool>,
    missing: u32,
    /// No piece before this one is missing and not under way.
    next: u32,
    /// Pieces before that which fell back.
    back: BTreeSet<u32>,
    sources: BTreeMap<SourceId, Source>,
    banned: BTreeSet<SourceId>,
    cancels: VecDeque<Want>,
    ready: VecDeque<Piece>,
    events: VecDeque<FetchEvent>,
    paused: bool,
    verifies: bool,
    stats: FetchStats,
}

impl Fetch {
    /// Fetches what is missing: pieces with a `true` in `have` are there, and were verified by `tree`.
    #[must_use]
    pub fn new(tree: Tree, mut have: Vec<bool>) -> Self {
        have.resize(tree.shape().pieces() as usize, false);
        let missing = have.iter().filter(|have| !**have).count();
        Self {
            missing: u32::try_from(missing).unwrap_or(u32::MAX),
            tree,
            have,
            next: 0,
            back: BTreeSet::new(),
            sources: BTreeMap::new(),
            banned: BTreeSet::new(),
            cancels: VecDeque::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            paused: false,
            verifies: true,
            stats: FetchStats::default(),
        }
    }

    /// Believes whatever comes. Only for tests that show what verification is for.
    #[must_use]
    pub fn without_verification(mut self) -> Self {
        self.verifies = false;
        self
    }

    /// What is known of the file's tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Every piece was given out.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Bytes of the file that are there.
    #[must_use]
    pub fn done_bytes(&self) -> u64 {
        let shape = self.tree.shape();
        let have = self.have.iter().zip(0..).filter(|(have, _)| **have);
        have.map(|(_, index)| shape.len(Node { level: 0, index }).unwrap_or(0) as u64)
            .sum()
    }

    /// Bytes per second that come at the moment.
    pub fn rate(&mut self, now: Instant) -> u64 {
        let rates = self.sources.values_mut().map(|source| source.rate(now));
        rates.sum::<f64>() as u64
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> FetchStats {
        self.stats
    }

    /// Sources that are asked.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Asks nothing more until it goes on.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        self.paused = paused;
        if paused {
            let all: Vec<SourceId> = self.sources.keys().copied().collect();
            for source in all {
                self.release(source);
            }
        } else {
            for source in self.sources.values_mut() {
                source.heard = now;
                source.stalled_since = None;
            }
        }
    }

    /// Somebody may have the file. Nothing happens where it is known, banned or one too many.
    pub fn add_source(&mut self, now: Instant, id: SourceId) {
        if self.banned.contains(&id) || self.sources.len() >= MAX_SOURCES {
            return;
        }
        self.sources.entry(id).or_insert_with(|| Source {
            under_way: BTreeMap::new(),
            next_order: 0,
            window: FIRST_WINDOW,
            lately: VecDeque::new(),
            heard: now,
            pause: Duration::ZERO,
            repeats: 0,
            stalled_since: None,
            received: 0,
            unasked: 0,
        });
    }

    /// Somebody is gone, or does not have the file.
    pub fn remove_source(&mut self, id: SourceId) {
        self.release(id);
        self.sources.remove(&id);
    }

    /// A source's nodes become anybody's again.
    fn release(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        for (node, _assembly) in std::mem::take(&mut source.under_way) {
            self.stats.moved += 1;
            self.cancels.push_back(Want {
                source: id,
                node,
                fragments: 0,
            });
            if node.level == 0 {
                self.back.insert(node.index);
            }
        }
    }

    fn ban(&mut self, id: SourceId, offence: Offence) {
        self.remove_source(id);
        self.banned.insert(id);
        self.stats.banned += 1;
        self.cancels.retain(|want| want.source != id);
        self.events.push_back(FetchEvent::Banned(id, offence));
    }

    /// A fragment came.
    pub fn handle_data(
        &mut self,
        now: Instant,
        id: SourceId,
        node: Node,
        fragment: u8,
        bytes: &[u8],
    ) {
        let shape = self.tree.shape();
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let bit = 1_u64.checked_shl(u32::from(fragment)).unwrap_or(0);
        let Some(assembly) = source.under_way.get_mut(&node) else {
            self.stats.wasted += bytes.len() as u64;
            source.unasked += bytes.len() as u64;
            if source.unasked > UNASKED + source.received / 2 {
                self.ban(id, Offence::Unasked);
            }
            return;
        };
        if shape.fragment_len(node, fragment) != Some(bytes.len()) {
            return self.ban(id, Offence::Length);
        }
        let pause = now.saturating_duration_since(source.heard);
        source.pause = pause.max(source.pause - source.pause / 64);
        source.heard = now;
        source.repeats = 0;
        source.stalled_since = None;
        if assembly.missing & bit == 0 {
            self.stats.wasted += bytes.len() as u64;
            source.unasked += bytes.len() as u64;
            return;
        }
        assembly.missing &= !bit;
        let at = usize::from(fragment) * FRAGMENT;
        if let Some(place) = assembly.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.stats.received += bytes.len() as u64;
        source.received += bytes.len() as u64;
        source.lately.push_back((now, bytes.len()));
        let (order, complete) = (assembly.order, assembly.missing == 0);
        for earlier in source.under_way.values_mut() {
            if earlier.order < order && earlier.overtaken.is_none() {
                earlier.overtaken = Some(now);
            }
        }
        if complete && let Some(assembly) = source.under_way.remove(&node) {
            source.resize(now);
            self.take(id, node, assembly.bytes);
        }
    }

    /// A node is complete.
    fn take(&mut self, id: SourceId, node: Node, bytes: Vec<u8>) {
        let known = match node.level {
            0 => self.have.get(node.index as usize) == Some(&true),
            _ => self.tree.knows(node),
        };
        if known {
            return;
        }
        let holds = match node.level {
            0 => self.tree.verifies(node, &bytes),
            _ => self.tree.learn(node, &bytes),
        };
        if !holds && self.verifies {
            if node.level == 0 {
                self.back.insert(node.index);
            }
            return self.ban(id, Offence::False);
        }
        if node.level == 0 {
            if let Some(have) = self.have.get_mut(node.index as usize) {
                *have = true;
            }
            self.missing = self.missing.saturating_sub(1);
            self.back.remove(&node.index);
            self.ready.push_back(Piece {
                index: node.index,
                bytes,
            });
        } else {
            if !holds {
                self.tree.believe(node, &bytes);
            }
            self.events.push_back(FetchEvent::Learned(node));
        }
        // Whoever else was asked for it need not send it.
        for (id, source) in &mut self.sources {
            if source.under_way.remove(&node).is_some() {
                self.cancels.push_back(Want {
                    source: *id,
                    node,
                    fragments: 0,
                });
            }
        }
    }

    /// The next piece to be written.
    pub fn poll_piece(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<FetchEvent> {
        self.events.pop_front()
    }

    /// The next question.
    pub fn poll_want(&mut self, now: Instant) -> Option<Want> {
        if let Some(cancel) = self.cancels.pop_front() {
            return Some(cancel);
        }
        if self.paused || self.is_complete() {
            return None;
        }
        self.look_after(now);
        if let Some(again) = self.repeat(now) {
            return Some(again);
        }
        // Whoever has most room is asked first: the fast one, or the one that just came.
        let room = |source: &Source| source.window.saturating_sub(source.under_way.len());
        let mut free: Vec<(usize, SourceId)> = self
            .sources
            .iter()
            .filter(|(_, source)| source.has_room(now))
            .map(|(id, source)| (room(source), *id))
            .collect();
        free.sort_by_key(|(room, id)| (std::cmp::Reverse(*room), *id));
        free.into_iter()
            .find_map(|(_, id)| self.choose(id).map(|node| self.ask(now, id, node)))?
    }

    /// Sources that are silent for too long let go of what they were asked for.
    fn look_after(&mut self, now: Instant) {
        let stalled = self.sources.iter().filter(|(_, source)| {
            !source.under_way.is_empty() && now.saturating_duration_since(source.heard) >= STALLED
        });
        let stalled: Vec<SourceId> = stalled.map(|(id, _)| *id).collect();
        for id in stalled {
            self.release(id);
            if let Some(source) = self.sources.get_mut(&id) {
                source.stalled_since = Some(now);
                source.window = FIRST_WINDOW;
            }
        }
    }

    /// Asks again for what got lost.
    fn repeat(&mut self, now: Instant) -> Option<Want> {
        for (id, source) in &mut self.sources {
            let silent_for = source.silent_for();
            let is_silent = now.saturating_duration_since(source.heard) >= silent_for;
            let mut due = source.under_way.iter_mut().filter(|(_, assembly)| {
                let passed = |at: Instant, limit| now.saturating_duration_since(at) >= limit;
                assembly.overtaken.is_some_and(|at| passed(at, OVERTAKEN))
                    || (is_silent && passed(assembly.asked, silent_for))
            });
            if let Some((node, assembly)) = due.next() {
                if is_silent {
                    source.repeats += 1;
                }
                assembly.asked = now;
                assembly.overtaken = None;
                assembly.order = source.next_order;
                source.next_order += 1;
                self.stats.repeated += 1;
                return Some(Want {
                    source: *id,
                    node: *node,
                    fragments: assembly.missing,
                });
            }
        }
        None
    }

    fn is_under_way(&self, node: Node) -> bool {
        let mut sources = self.sources.values();
        sources.any(|source| source.under_way.contains_key(&node))
    }

    /// The next node for a source.
    fn choose(&mut self, id: SourceId) -> Option<Node> {
        let shape = self.tree.shape();
        let top = shape.top();
        if top.level > 0 && !self.tree.knows(top) {
            // Every source is asked for the first one: it is small, and a slow source shall not hold all up.
            return Some(top).filter(|top| !self.has_asked(id, *top));
        }
        if let Some(index) = self.lowest_missing() {
            let node = Node { level: 0, index };
            if self.tree.is_ready(node) {
                return Some(node);
            }
            let page = shape.page_of(index);
            if !self.is_under_way(page) {
                return Some(page);
            }
        }
        self.endgame(id)
    }

    fn has_asked(&self, id: SourceId, node: Node) -> bool {
        self.sources
            .get(&id)
            .is_some_and(|source| source.under_way.contains_key(&node))
    }

    /// The first piece that is missing and asked of nobody.
    fn lowest_missing(&mut self) -> Option<u32> {
        if let Some(back) = self.back.first() {
            return Some(*back);
        }
        while (self.next as usize) < self.have.len() {
            let node = Node {
                level: 0,
                index: self.next,
            };
            let have = self.have.get(self.next as usize) == Some(&true);
            if !have && !self.is_under_way(node) {
                return Some(self.next);
            }
            self.next += 1;
        }
        None
    }

    /// All is asked for: what another source was asked for first is asked of this one too.
    fn endgame(&self, id: SourceId) -> Option<Node> {
        let mut copies: BTreeMap<Node, (usize, Instant)> = BTreeMap::new();
        for source in self.sources.values() {
            for (node, assembly) in &source.under_way {
                let entry = copies.entry(*node).or_insert((0, assembly.asked));
                entry.0 += 1;
                entry.1 = entry.1.min(assembly.asked);
            }
        }
        copies
            .into_iter()
            .filter(|(node, (count, _))| *count < COPIES && !self.has_asked(id, *node))
            .min_by_key(|(node, (_, asked))| (*asked, *node))
            .map(|(node, _)| node)
    }

    fn ask(&mut self, now: Instant, id: SourceId, node: Node) -> Option<Want> {
        let shape = self.tree.shape();
        let (len, fragments) = (shape.len(node)?, shape.fragments(node)?);
        if node.level == 0 {
            self.back.remove(&node.index);
        }
        let source = self.sources.get_mut(&id)?;
        if source.under_way.is_empty() {
            // It was not asked anything, so its silence says nothing.
            source.heard = now;
            source.repeats = 0;
        }
        source.under_way.insert(
            node,
            Assembly {
                bytes: vec![0; len],
                missing: fragments,
                order: source.next_order,
                asked: now,
                overtaken: None,
            },
        );
        source.next_order += 1;
        Some(Want {
            source: id,
            node,
            fragments,
        })
    }

    /// When [`Self::poll_want`] may have something without anything happening before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.paused || self.is_complete() {
            return None;
        }
        let due = self.sources.values().filter_map(|source| {
            if let Some(since) = source.stalled_since.filter(|_| source.under_way.is_empty()) {
                return Some(since + TRY_AGAIN);
            }
            let silent_for = source.silent_for();
            let lost = source.under_way.values().flat_map(|assembly| {
                let silent = source.heard.max(assembly.asked) + silent_for;
                [Some(silent), assembly.overtaken.map(|at| at + OVERTAKEN)]
            });
            let stalled = (!source.under_way.is_empty()).then(|| source.heard + STALLED);
            lost.flatten().chain(stalled).min()
        });
        due.min()
    }
}

#[cfg(test)]
mod tests;
