//! Spreads connectivity checks in time (RFC 8445 section 14.2, `Ta`).
//!
//! The agent asks for a check of every pair at once, every 20 ms. That suits two addresses and floods a thin
//! link with sixteen; so checks wait here, one per pair with a newer one in the older one's place, and leave in
//! turn.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{IceTransmit, MAX_CHECKS_PER_SECOND};

/// Gap between checks at first: the least that RFC 8445 allows, so that a path is found at once.
const FAST: Duration = Duration::from_micros(1_000_000 / MAX_CHECKS_PER_SECOND as u64);

/// Gap between checks later: the recommended one, 20 packets per second, which any link carries beside a call.
const SLOW: Duration = Duration::from_millis(50);

/// How long checks are fast after something new.
const FAST_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pacer {
    waiting: VecDeque<IceTransmit>,
    next: Instant,
    slow_from: Instant,
}

impl Pacer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            next: now,
            slow_from: now + FAST_FOR,
        }
    }

    /// Something new came up: be quick about it.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.slow_from = now + FAST_FOR;
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Queues a check. The queue is as long as there are pairs.
    pub(super) fn push(&mut self, check: IceTransmit) {
        let same = |other: &&mut IceTransmit| other.local == check.local && other.to == check.to;
        match self.waiting.iter_mut().find(same) {
            Some(older) => older.contents = check.contents,
            None => self.waiting.push_back(check),
        }
    }

    /// The next check whose turn has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<IceTransmit> {
        if now < self.next {
            return None;
        }
        let check = self.waiting.pop_front()?;
        self.next = now + if now < self.slow_from { FAST } else { SLOW };
        Some(check)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }
}
