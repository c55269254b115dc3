//! Spreads connectivity checks in time (RFC 8445 section 14.2, `Ta`).
//!
//! The agent asks for a check of every pair at once, every 20 ms. That suits two addresses and floods a thin
//! link with sixteen; so checks wait here, one per pair with a newer one in the older one's place, and leave in
//! turn. Nor does it wait for answers: over a long line, or a queue, twenty of the same are under way before the
//! first answer. So what is not answered is asked again ever more seldom ([`Patience`]).

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{IceTransmit, MAX_CHECKS_PER_SECOND};

/// Gap between checks at first: the least that RFC 8445 allows, so that a path is found at once.
const FAST: Duration = Duration::from_micros(1_000_000 / MAX_CHECKS_PER_SECOND as u64);

/// Gap between checks later: the recommended one, 20 packets per second, which any link carries beside a call.
const SLOW: Duration = Duration::from_millis(50);

/// How long checks are fast after something new.
const FAST_FOR: Duration = Duration::from_secs(1);

/// The first checks of a pair may get lost, or come before the other side's router lets them in: so many are as fast
/// as the agent wants.
const EAGER: u32 = 5;

/// From then on each wait is half as long again as the one before, from the first of these to the last. When the
/// other side begins late, its own check gets through, since ours came by here, and makes us check at once.
const WAITS: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(200));

/// A kind of check on a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    local: SocketAddr,
    to: SocketAddr,
    nominates: bool,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    times: u32,
    wait: Duration,
    next: Instant,
    /// The other side has asked.
    heard: bool,
}

impl Asked {
    /// Not yet.
    fn never(now: Instant, heard: bool) -> Self {
        Self {
            times: 0,
            wait: WAITS.0,
            next: now,
            heard,
        }
    }
}

/// How often each pair was asked without an answer. As large as there are pairs.
#[derive(Debug, Default)]
pub(super) struct Patience(BTreeMap<Question, Asked>);

impl Patience {
    /// Whether `check` may leave now; if so, it counts as asked.
    pub(super) fn allows(&mut self, now: Instant, check: &IceTransmit, nominates: bool) -> bool {
        let question = Question {
            local: check.local,
            to: check.to,
            nominates,
        };
        let asked = self.0.entry(question).or_insert(Asked::never(now, false));
        if now < asked.next {
            return false;
        }
        asked.times += 1;
        if asked.times >= EAGER {
            asked.next = now + asked.wait;
            asked.wait = (asked.wait * 3 / 2).min(WAITS.1);
        }
        true
    }

    /// The other side checks the pair too: now it may work. Only the first time makes eager, else both would keep
    /// each other so.
    pub(super) fn heard(&mut self, now: Instant, from: SocketAddr) {
        for (question, asked) in &mut self.0 {
            if question.to == from && !asked.heard {
                *asked = Asked::never(now, true);
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// When a pair that is to be asked every 20 ms for two seconds is asked, in milliseconds. The other side's check
    /// comes after `heard_millis`.
    fn asked(heard_millis: Option<u64>) -> Vec<u64> {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        let begin = Instant::now();
        let mut patience = Patience::default();
        let check = IceTransmit {
            local: "192.0.2.1:1".parse().unwrap(),
            to: "192.0.2.2:2".parse().unwrap(),
            contents: Vec::new(),
        };
        let mut asked = Vec::new();
        for milli in (0..2000).step_by(20) {
            let now = begin + Duration::from_millis(milli);
            if heard_millis.is_some_and(|heard| milli >= heard) {
                patience.heard(now, check.to);
            }
            if patience.allows(now, &check, false) {
                asked.push(milli);
            }
        }
        asked
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_more_seldom() {
        let asked = asked(None);
        assert!(asked.starts_with(&[0, 20, 40, 60, 80, 120]), "{asked:?}");
        assert!(asked.len() <= 18, "{asked:?}");
        let gaps = asked
            .iter()
            .skip(1)
            .zip(&asked)
            .map(|(next, last)| next - last);
        assert!(gaps.max() <= Some(200), "{asked:?}");
    }

    #[test]
    fn who_asks_is_asked_at_once() {
        let asked = asked(Some(1000));
        let then: Vec<u64> = asked.into_iter().filter(|at| *at >= 1000).collect();
        assert!(
            then.starts_with(&[1000, 1020, 1040, 1060, 1080, 1120]),
            "{then:?}"
        );
    }
}
