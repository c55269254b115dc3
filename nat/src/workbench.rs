//! Where a device does the work that flooded supernodes ask for: one search at a time, that first which will have cost least.
//!
//! Whoever calls a person with two devices at three homes may be asked for six proofs in one moment, and perhaps talks to somebody
//! else meanwhile: six searches would take six cores, one takes one. They go on in small pieces, each of that search which will
//! have taken the fewest tries in all when it is done, as far as can be told. So one home that lies, and asks for the hardest of
//! puzzles or for one after another, comes last, and keeps no honest one from being answered.
//!
//! How long anybody works for an envelope is [`MOST_WORK`], waiting for others included: all that is asked for in one moment is
//! over after that, whoever lies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use ahoy_transport::runtime::Runtime;
use tokio::sync::{Notify, watch};

use crate::supernode::puzzle::{MOST_BITS, MOST_WORK, Proof, Puzzle, Search};

/// Tries of one piece of work: a millisecond or two, after which is looked who is next, and whether anybody still waits.
const PIECE_OF_WORK: u64 = 1 << 14;

/// The workbench of one device. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Workbench {
    runtime: Arc<dyn Runtime>,
    line: Arc<Line>,
}

/// A place at a [`Workbench`] for one purpose. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Desk {
    bench: Workbench,
    /// Among all that ever were there.
    number: u64,
    cleared: Arc<watch::Sender<bool>>,
    /// Until when anything is worked for here, once that began; if not each envelope by itself.
    until: Option<Arc<OnceLock<Instant>>>,
}

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// Nobody is to begin with that.
    TooHard,
    /// It is not needed any more.
    Cleared,
}

impl Workbench {
    /// Nobody works yet. `one_at_a_time`: off only to show what it is good for.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, one_at_a_time: bool) -> Self {
        Self {
            runtime,
            line: Arc::new(Line {
                one_at_a_time,
                queue: Mutex::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// A place for something that may not be needed any more before the rest.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk {
            bench: self.clone(),
            number: self.line.lock().desk(),
            cleared: Arc::new(watch::channel(false).0),
            until: None,
        }
    }
}

impl Desk {
    /// The same, where all envelopes together are worked for no longer than one.
    #[must_use]
    pub fn as_for_one(self) -> Self {
        Self {
            until: Some(Arc::default()),
            ..self
        }
    }

    /// Until when an envelope is worked for that is first asked work for now.
    pub(crate) fn until(&self, now: Instant) -> Instant {
        let until = now + MOST_WORK;
        match &self.until {
            Some(of_all) => *of_all.get_or_init(|| until),
            None => until,
        }
    }

    /// Nobody waits any more for what is searched for here: it ends, and nothing is begun.
    pub fn clear(&self) {
        self.cleared.send_replace(true);
    }

    /// Searches for a proof. `spent` are the tries made for this envelope; those that come are added.
    pub(crate) async fn work(
        &self,
        puzzle: Puzzle,
        envelope: &[u8],
        spent: &mut u64,
    ) -> Result<Proof, Unproven> {
        if puzzle.bits > MOST_BITS {
            return Err(Unproven::TooHard);
        }
        let mut cleared = self.cleared.subscribe();
        tokio::select! {
            biased;
            _cleared = cleared.wait_for(|cleared| *cleared) => Err(Unproven::Cleared),
            proof = self.bench.search(self.number, puzzle, envelope, spent) => Ok(proof),
        }
    }
}

impl Workbench {
    /// Works apart from everything that must go on, for as long as this is polled.
    async fn search(&self, desk: u64, puzzle: Puzzle, envelope: &[u8], spent: &mut u64) -> Proof {
        tracing::info!(
            bits = puzzle.bits,
            "strangers flood a supernode: it wants some work done"
        );
        let place = Place::join(&self.line, desk, spent.saturating_add(1 << puzzle.bits));
        let search = Arc::new(Mutex::new((Search::new(puzzle, envelope), None)));
        loop {
            let turn = place.turn().await;
            let (shared, working) = (Arc::clone(&search), Arc::clone(&turn));
            let piece = move || {
                let mut search = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let (tries, found) = search.0.run(PIECE_OF_WORK);
                search.1 = Some((tries, found));
                // The next one begins when this is done, though nobody waits for it any more.
                drop(working);
                tries
            };
            self.runtime.work(Box::new(piece)).await;
            drop(turn);
            let done = search
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .1
                .take();
            let Some((tries, found)) = done else {
                continue;
            };
            *spent = spent.saturating_add(tries);
            if let Some(proof) = found {
                return proof;
            }
        }
    }
}

/// Searches that wait for their turn, and the one that has it.
#[derive(Debug)]
struct Line {
    one_at_a_time: bool,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeSet<Rank>,
    /// How many searches of each desk wait, or go on.
    desks: BTreeMap<u64, u64>,
    next_desk: u64,
    next: u64,
    busy: bool,
}

/// By how many tries a search will have taken for its envelope, then by who came first. Each further one of a desk counts as
/// often as there are of that desk: what one device's homes ask for comes after the first that the next device's do.
type Rank = (u64, u64);

impl Queue {
    fn desk(&mut self) -> u64 {
        self.next_desk += 1;
        self.next_desk
    }

    fn join(&mut self, desk: u64, tries: u64) -> Rank {
        let count = self.desks.entry(desk).or_default();
        *count += 1;
        let rank = (tries.saturating_mul(*count), self.next);
        self.next += 1;
        self.waiting.insert(rank);
        rank
    }

    /// Whether that one may go on now; then nobody else may, before [`Self::over`].
    fn begin(&mut self, rank: Rank) -> bool {
        let may = !self.busy && self.waiting.first() == Some(&rank);
        self.busy |= may;
        may
    }

    fn leave(&mut self, desk: u64, rank: Rank) {
        self.waiting.remove(&rank);
        if let Some(count) = self.desks.get_mut(&desk) {
            *count -= 1;
            if *count == 0 {
                self.desks.remove(&desk);
            }
        }
    }

    fn over(&mut self) {
        self.busy = false;
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits, until it is dropped.
struct Place<'a> {
    line: &'a Arc<Line>,
    desk: u64,
    rank: Rank,
}

impl<'a> Place<'a> {
    fn join(line: &'a Arc<Line>, desk: u64, tries: u64) -> Self {
        let rank = line.lock().join(desk, tries);
        Self { line, desk, rank }
    }

    async fn turn(&self) -> Arc<Turn> {
        loop {
            // Made before looking: it hears of all that changes after this line.
            let changed = self.line.changed.notified();
            if !self.line.one_at_a_time || self.line.lock().begin(self.rank) {
                return Arc::new(Turn(Arc::clone(self.line)));
            }
            changed.await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.lock().leave(self.desk, self.rank);
        self.line.changed.notify_waiters();
    }
}

/// The right to work, until it is dropped.
struct Turn(Arc<Line>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().over();
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_easiest_goes_first_and_nobody_beside_it() {
        let mut queue = Queue::default();
        let hard = queue.join(1, 1 << 30);
        assert!(queue.begin(hard), "nobody else is there");
        let (easy, later) = (queue.join(2, 1 << 12), queue.join(3, 1 << 12));
        assert!(!queue.begin(easy), "one at a time");
        queue.over();
        assert!(!queue.begin(hard) && !queue.begin(later));
        assert!(queue.begin(easy));
        queue.over();
        queue.leave(2, easy);
        // Whoever asks for one easy puzzle after the other has had its share.
        let again = queue.join(2, (1 << 13) + (1 << 12));
        assert!(!queue.begin(again));
        assert!(queue.begin(later));
        queue.over();
        for (desk, done) in [(3, later), (2, again)] {
            queue.leave(desk, done);
        }
        assert!(queue.begin(hard));
    }

    #[test]
    fn the_first_that_each_device_needs_comes_before_the_second_of_any() {
        let mut queue = Queue::default();
        let first = [queue.join(1, 1 << 20), queue.join(1, 1 << 20)];
        let second = [queue.join(2, 1 << 20), queue.join(2, 1 << 20)];
        let order: Vec<Rank> = queue.waiting.iter().copied().collect();
        assert_eq!(order, [first[0], second[0], first[1], second[1]]);
        queue.leave(1, first[0]);
        queue.leave(1, first[1]);
        assert_eq!(queue.desks.len(), 1, "what is over is forgotten");
    }
}
