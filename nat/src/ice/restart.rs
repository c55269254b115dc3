//! When a new try for a direct path begins: a restart is a new agent of the next generation (RFC 8445 section 9).
//!
//! Either side may begin one at any time, also both at once: credentials follow from the number of the
//! generation, so two who count up together begin the same one, and who is behind joins the higher.
//!
//! Each try costs checks, so tries that come to nothing become rarer. A change of the network is news: it does
//! not wait for the next one.

use std::time::{Duration, Instant};

/// Between tries, whatever the reason: a round trip, so that what the other side says about the last one is heard.
pub const RESTART_GAP: Duration = Duration::from_millis(250);

/// Wait after the first try that came to nothing, doubling up to the second.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest: ten seconds of twenty checks per second in five minutes are two packets in three seconds.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A path that held so long was a success: the next failure is the first again.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Why to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The path is silent or gone, or none was found.
    Lost,
    /// Interfaces or addresses changed, here or at the other side.
    Changed,
}

/// Paces the restarts of one side of a call.
#[derive(Debug)]
pub struct Restarts {
    last: Option<Instant>,
    not_before: Option<Instant>,
    wait: Duration,
    wanted: Option<Instant>,
    direct_since: Option<Instant>,
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            last: None,
            not_before: None,
            wait: RETRY_AFTER,
            wanted: None,
            direct_since: None,
        }
    }
}

impl Restarts {
    /// A restart is wanted.
    pub fn want(&mut self, now: Instant, reason: Reason) {
        if let Some(since) = self.direct_since.take()
            && now.saturating_duration_since(since) >= STABLE_AFTER
        {
            self.wait = RETRY_AFTER;
            self.not_before = None;
        }
        let gap = self.last.map_or(now, |last| last + RESTART_GAP);
        let at = match reason {
            Reason::Changed => {
                self.wait = RETRY_AFTER;
                gap
            }
            Reason::Lost => self.not_before.map_or(gap, |at| at.max(gap)),
        }
        .max(now);
        self.wanted = Some(self.wanted.map_or(at, |before| before.min(at)));
    }

    /// When [`Self::take`] says yes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.wanted
    }

    /// Whether to restart now. Saying yes begins the wait for the next one.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.wanted.is_none_or(|at| at > now) {
            return false;
        }
        self.began(now);
        true
    }

    /// A try begins, be it the other side's.
    pub fn began(&mut self, now: Instant) {
        self.wanted = None;
        self.last = Some(now);
        self.not_before = Some(now + self.wait);
        self.wait = (self.wait * 2).min(RETRY_AFTER_MAX);
    }

    /// How long the other side's next try has to wait.
    #[must_use]
    pub fn joins_at(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| last + RESTART_GAP).max(now)
    }

    /// A direct path is up: nothing is wanted.
    pub fn succeeded(&mut self, now: Instant) {
        self.wanted = None;
        self.direct_since.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        let origin = Instant::now();
        origin
    }

    #[test]
    fn failures_become_rarer_and_a_change_does_not_wait() {
        let start = origin();
        let mut restarts = Restarts::default();
        let mut now = start;
        let mut tries = Vec::new();
        // It fails at once, each time, for an hour.
        while now < start + Duration::from_secs(3600) {
            restarts.want(now, Reason::Lost);
            now = restarts.deadline().unwrap();
            assert!(restarts.take(now));
            assert!(!restarts.take(now));
            tries.push((now - start).as_secs());
        }
        assert_eq!(tries.get(..6), Some([0, 1, 3, 7, 15, 31].as_slice()));
        assert!(tries.len() < 24, "{tries:?}");
        restarts.want(now, Reason::Changed);
        assert_eq!(restarts.deadline(), Some(now + RESTART_GAP));
    }

    #[test]
    fn a_path_that_held_makes_the_next_failure_the_first() {
        let start = origin();
        let mut restarts = Restarts::default();
        for _ in 0..6 {
            restarts.want(start, Reason::Lost);
            let at = restarts.deadline().unwrap();
            assert!(restarts.take(at));
        }
        let up = start + Duration::from_secs(40);
        restarts.succeeded(up);
        restarts.want(up + STABLE_AFTER, Reason::Lost);
        assert_eq!(restarts.deadline(), Some(up + STABLE_AFTER));
    }

    #[test]
    fn success_calls_a_wanted_restart_off() {
        let start = origin();
        let mut restarts = Restarts::default();
        restarts.want(start, Reason::Lost);
        restarts.succeeded(start);
        assert_eq!(restarts.deadline(), None);
        assert!(!restarts.take(start + Duration::from_secs(60)));
    }
}
