//! Which connection carries media.
//!
//! Silence decides, not QUIC: 100 ms of it on the connection in use puts sound on a second one too, 250 ms moves
//! all media there. Silence is judged in the direction that matters, ours: by the *age* in the other side's
//! reports, which may come by any connection, and only for want of a fresh report by what we hear ourselves. So
//! a connection whose way back is dead keeps carrying, and one whose way there is dead is left.
//!
//! The limits stretch with the line. What a connection's packets keep each other waiting when all is well is
//! measured, both ways, and a silence that is of that kind is none; a new connection has a round trip to say its
//! first word. When the other connections are as silent, they share what ails the first, and media stays: moving
//! would not help, and copies would feed a queue that is full.
//!
//! A better kind of path is taken up again when it is alive and has not just failed; each failure makes the
//! wait longer.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::PathKind;

/// Sound goes by two connections after this much silence: two reports missing.
pub const DUPLICATE_AFTER: Duration = Duration::from_millis(100);

/// Media moves after this much silence: the gap that people hear stays under 300 ms.
pub const MOVE_AFTER: Duration = Duration::from_millis(250);

/// No media on a connection from which nothing authenticated came for this long (in the sense of RFC 7675).
pub const STOP_AFTER: Duration = Duration::from_secs(5);

/// A report says something about now for this long: the interval of reports and half of it for jitter.
const REPORT_FRESH: Duration = Duration::from_millis(75);

/// A connection that is not in use counts as alive this long after it was heard: its reports come every 200 ms.
const STANDBY_FRESH: Duration = Duration::from_millis(700);

/// Pauses between packets are remembered for about this many packets: ten seconds of sound.
const PAUSE_MEMORY: u32 = 512;

/// Longest pause that counts as the line's manner; a longer one was an outage. The limits grow with it to at most
/// 1.25 s.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// What is under way is waited for no longer than this.
const ROUND_MAX: Duration = Duration::from_millis(1250);

/// A connection's pauses are not looked at for so long after it was taken up: before, its reports are rarer.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// What is added to the first round trip for the other side to say its first word.
const FIRST_WORD: Duration = Duration::from_millis(250);

/// A connection that is not in use says nothing about itself for this long although it lives: the 200 ms between
/// its reports, and the time until the one in use is doubted.
const STANDBY_SILENCE: Duration = Duration::from_millis(350);

/// And other ways are looked for after this long: seven reports that chance took one by one are no outage, and a search
/// ends in a new connection, whose packets, round trip and capacity nobody knows.
const STANDBY_LOST: Duration = Duration::from_millis(1400);

/// When media comes back so soon, since the other connection fell silent too, the line pauses, and neither is dead.
const NOT_DEAD: Duration = Duration::from_secs(2);

/// First wait before a connection that failed is taken up again, and the longest.
const RETURN_AFTER: Duration = Duration::from_secs(1);
const RETURN_AFTER_MAX: Duration = Duration::from_secs(30);

/// What is known of one connection.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    kind: PathKind,
    heard: Instant,
    /// Until then it need not have said anything.
    grace: Instant,
    /// It was taken up of free will: the other side's reports about it come at their full rate from then on.
    settles: Option<Instant>,
    /// The longest usual pause between packets, either way.
    pause: Duration,
    /// From a packet's leaving to the report of its arrival, lately.
    round: Duration,
    /// When the latest report about it came, and the age it told.
    report: Option<(Instant, Duration)>,
    avoid_until: Option<Instant>,
    wait: Duration,
    /// Somebody was told that it is silent.
    told: bool,
}

impl Candidate {
    /// Takes a pause that has ended into account.
    fn paused(&mut self, pause: Duration) {
        let faded = self.pause - self.pause / PAUSE_MEMORY;
        let usual = if pause > 2 * PAUSE_MAX {
            faded
        } else {
            faded.max(pause.min(PAUSE_MAX))
        };
        self.pause = usual;
    }

    /// Silence after which it is doubtful, and after which media leaves it. For `patience` see
    /// [`Selection::patience`].
    fn limits(&self, patience: Option<Duration>) -> (Duration, Duration) {
        let Some(patience) = patience else {
            return (DUPLICATE_AFTER, MOVE_AFTER);
        };
        let slack = self.pause * 3 / 2;
        (
            DUPLICATE_AFTER
                .max(slack + TICK_OF_REPORTS)
                .max(patience / 2),
            MOVE_AFTER.max(2 * slack + TICK_OF_REPORTS).max(patience),
        )
    }

    /// How long, as far as we know, nothing of ours has arrived by it.
    fn silence(&self, now: Instant) -> Duration {
        if now < self.grace && self.report.is_none() {
            return Duration::ZERO;
        }
        match self.report {
            Some((at, age)) if now.saturating_duration_since(at) <= REPORT_FRESH => age,
            Some(_) | None => now.saturating_duration_since(self.listened()),
        }
    }

    /// Since when something could have been heard.
    fn listened(&self) -> Instant {
        self.settles
            .map_or(self.heard, |settles| settles.max(self.heard))
    }

    fn is_alive(&self, now: Instant) -> bool {
        now < self.grace || now.saturating_duration_since(self.heard) < STANDBY_FRESH
    }

    /// When [`Self::silence`] reaches `limit` if nothing comes.
    fn silent_at(&self, limit: Duration) -> Instant {
        let mut by_hearing = self.listened() + limit;
        if self.report.is_none() {
            by_hearing = by_hearing.max(self.grace);
        }
        match self.report {
            Some((at, age)) if age < limit => by_hearing.max(at + REPORT_FRESH + TICK),
            Some(_) | None => by_hearing,
        }
    }
}

/// The interval of reports.
const TICK_OF_REPORTS: Duration = Duration::from_millis(50);

/// Beyond "at most" in a comparison of times.
const TICK: Duration = Duration::from_micros(1);

/// Why media moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchReason {
    /// The connection in use went silent.
    Silence,
    /// The connection in use closed.
    Closed,
    /// A better kind of path is there.
    Better,
}

/// Media goes another way from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) from: Option<u32>,
    pub(super) to: u32,
    pub(super) reason: SwitchReason,
    /// How long the old one had been silent.
    pub(super) silence: Duration,
}

/// The choice among the living connections.
#[derive(Debug)]
pub(super) struct Selection {
    duplication: bool,
    failover: bool,
    adaptive: bool,
    candidates: BTreeMap<u32, Candidate>,
    active: Option<u32>,
    active_since: Option<Instant>,
    /// When media last left a connection for its silence, which one, and how long that had been.
    left: Option<(Instant, u32, Duration)>,
    /// The one that closed while it was in use, and when it was last heard.
    closed: Option<(u32, Instant)>,
}

impl Selection {
    pub(super) fn new(duplication: bool, failover: bool, adaptive: bool) -> Self {
        Self {
            duplication,
            failover,
            adaptive,
            active_since: None,
            left: None,
            candidates: BTreeMap::new(),
            active: None,
            closed: None,
        }
    }

    /// `rtt` is the connection's first measured round trip, zero if unknown.
    pub(super) fn up(&mut self, connection: u32, kind: PathKind, rtt: Duration, now: Instant) {
        let grace = if self.adaptive {
            now + rtt * 3 / 2 + FIRST_WORD
        } else {
            now
        };
        let candidate = Candidate {
            kind,
            heard: now,
            grace,
            settles: None,
            pause: Duration::ZERO,
            round: rtt,
            report: None,
            avoid_until: None,
            wait: RETURN_AFTER,
            told: false,
        };
        self.candidates.insert(connection, candidate);
    }

    pub(super) fn down(&mut self, connection: u32) {
        let candidate = self.candidates.remove(&connection);
        if self.active == Some(connection) {
            self.active = None;
            self.closed = candidate.map(|candidate| (connection, candidate.heard));
        }
    }

    pub(super) fn heard(&mut self, connection: u32, now: Instant) {
        let settled = self.has_settled(connection, now);
        if let Some(candidate) = self.candidates.get_mut(&connection) {
            if settled {
                candidate.paused(now.saturating_duration_since(candidate.heard));
            }
            candidate.heard = now;
        }
    }

    /// Whether reports about `connection` have their full rate, so that its pauses mean something.
    fn has_settled(&self, connection: u32, now: Instant) -> bool {
        let settled = |since| now.saturating_duration_since(since) >= SETTLED_AFTER;
        self.active == Some(connection) && self.active_since.is_some_and(settled)
    }

    /// Connections that went silent since the last call, and whether media went by them.
    pub(super) fn newly_silent(&mut self, now: Instant) -> Vec<(u32, bool)> {
        let (active, patience) = (self.active, self.patience());
        // To look for other ways costs most where the line is full: there it must be silence indeed.
        let longer = patience.unwrap_or_default().saturating_sub(MOVE_AFTER);
        let mut silent = Vec::new();
        for (connection, candidate) in &mut self.candidates {
            let is_active = active == Some(*connection);
            let is_silent = if is_active {
                candidate.silence(now) >= candidate.limits(patience).1 + longer
            } else {
                // Of one that media just left, silence is known already.
                let is_left = candidate.avoid_until.is_some_and(|until| now < until);
                let limit = if is_left { STANDBY_FRESH } else { STANDBY_LOST };
                !candidate.is_alive(now) && candidate.silence(now) >= limit + longer
            };
            if is_silent && !candidate.told {
                silent.push((*connection, is_active));
            }
            candidate.told = is_silent;
        }
        silent
    }

    pub(super) fn reported(&mut self, connection: u32, age: Duration, now: Instant) {
        let settled = self.has_settled(connection, now);
        if let Some(candidate) = self.candidates.get_mut(&connection) {
            // A pause ends when the next age is shorter.
            if let Some((_, before)) = candidate.report
                && settled
                && age < before
            {
                candidate.paused(before);
            }
            candidate.report = Some((now, age));
        }
    }

    /// How long what is under way may take, if that is looked at: a queue that all connections share, as on one's own
    /// line, makes all of them silent in turn, and one whose packets take so long themselves is no better than what has
    /// been silent for less. `None` when limits do not stretch.
    fn patience(&self) -> Option<Duration> {
        let rounds = self.candidates.values().map(|candidate| candidate.round);
        self.adaptive
            .then(|| rounds.max().unwrap_or_default().min(ROUND_MAX))
    }

    /// What was sent on `connection` is known to have arrived after `round`.
    pub(super) fn went_round(&mut self, connection: u32, round: Duration) {
        if let Some(candidate) = self.candidates.get_mut(&connection) {
            candidate.round = round;
        }
    }

    pub(super) fn active(&self) -> Option<u32> {
        self.active
    }

    /// Whether media may go by `connection` at all.
    pub(super) fn may_carry(&self, connection: u32, now: Instant) -> bool {
        self.candidates
            .get(&connection)
            .is_some_and(|candidate| now.saturating_duration_since(candidate.heard) < STOP_AFTER)
    }

    /// The best living connection besides `not`.
    fn best_other(&self, not: Option<u32>, now: Instant) -> Option<u32> {
        self.candidates
            .iter()
            .filter(|(connection, candidate)| Some(**connection) != not && candidate.is_alive(now))
            .min_by_key(|(_, candidate)| {
                let avoided = candidate.avoid_until.is_some_and(|until| now < until);
                let silent = candidate.silence(now) >= candidate.limits(self.patience()).1
                    && candidate.report.is_some();
                (
                    avoided || silent,
                    candidate.kind,
                    std::cmp::Reverse(candidate.heard),
                )
            })
            .map(|(connection, _)| *connection)
    }

    /// The second connection for sound, while the first is doubtful.
    pub(super) fn second(&self, now: Instant) -> Option<u32> {
        let active = self.active?;
        let current = self.candidates.get(&active)?;
        let silence = current.silence(now);
        let doubtful = silence >= current.limits(self.patience()).0;
        if !(self.duplication && doubtful) {
            return None;
        }
        let other = self.best_other(Some(active), now)?;
        let may_live = self
            .candidates
            .get(&other)
            .is_some_and(|other| !self.adaptive || other.silence(now) < STANDBY_SILENCE);
        (may_live || self.is_livelier(other, silence, now)).then_some(other)
    }

    /// Whether media has gone silent enough to be doubted.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        self.active
            .and_then(|active| self.candidates.get(&active))
            .is_none_or(|active| {
                now.saturating_duration_since(active.heard) >= active.limits(self.patience()).0
            })
    }

    /// Whether `other` is clearly better off than a connection that has been silent for `silence`: what is as
    /// silent suffers from the same.
    fn is_livelier(&self, other: u32, silence: Duration, now: Instant) -> bool {
        self.candidates.get(&other).is_some_and(|candidate| {
            let others = candidate.silence(now);
            if self.adaptive {
                others <= silence / 2 || others < DUPLICATE_AFTER
            } else {
                candidate.report.is_none() || others < silence
            }
        })
    }

    /// Where control messages go: where media goes, unless that is silent and another is not.
    pub(super) fn best_for_control(&self, now: Instant) -> Option<u32> {
        self.active
            .or_else(|| self.best_other(None, now))
            .or_else(|| self.candidates.keys().next_back().copied())
    }

    /// Decides anew.
    pub(super) fn update(&mut self, now: Instant) -> Option<Decision> {
        let Some(active) = self.active else {
            let to = self
                .best_other(None, now)
                .or_else(|| self.candidates.keys().next_back().copied())?;
            let closed = self.closed.take();
            self.active = Some(to);
            self.active_since = Some(now);
            return Some(Decision {
                from: closed.map(|(from, _)| from),
                to,
                reason: SwitchReason::Closed,
                silence: closed.map_or(Duration::ZERO, |(_, heard)| {
                    now.saturating_duration_since(heard)
                }),
            });
        };
        let current = *self.candidates.get(&active)?;
        let other = self.best_other(Some(active), now)?;
        let candidate = *self.candidates.get(&other)?;
        let silence = current.silence(now);
        let reason = if silence >= current.limits(self.patience()).1 {
            if !self.failover || !self.is_livelier(other, silence, now) {
                return None;
            }
            SwitchReason::Silence
        } else {
            // A better path must have carried a report of its own back before it is trusted.
            let proven = candidate.report.is_some()
                && candidate.silence(now) < candidate.limits(self.patience()).1;
            let avoided = candidate.avoid_until.is_some_and(|until| now < until);
            if candidate.kind >= current.kind || !proven || avoided {
                return None;
            }
            SwitchReason::Better
        };
        if reason == SwitchReason::Silence {
            let before = self.left.replace((now, active, silence));
            if let Some((at, from, longest)) = before
                && from == other
                && now.saturating_duration_since(at) < NOT_DEAD
            {
                for (connection, pause) in [(active, silence), (other, longest)] {
                    if let Some(candidate) = self.candidates.get_mut(&connection) {
                        candidate.paused(pause);
                    }
                }
            }
        }
        if reason == SwitchReason::Silence
            && let Some(left) = self.candidates.get_mut(&active)
        {
            left.avoid_until = Some(now + left.wait);
            left.wait = (left.wait * 2).min(RETURN_AFTER_MAX);
        }
        self.active = Some(other);
        self.active_since = Some(now);
        if let Some(taken) = self.candidates.get_mut(&other) {
            let round = taken.round.min(ROUND_MAX);
            taken.settles = (self.adaptive && reason == SwitchReason::Better).then(|| now + round);
        }
        Some(Decision {
            from: Some(active),
            to: other,
            reason,
            silence: match reason {
                SwitchReason::Silence => silence,
                SwitchReason::Closed | SwitchReason::Better => Duration::ZERO,
            },
        })
    }

    /// When [`Self::update`] or [`Self::second`] may answer differently although nothing came.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let active = self.candidates.get(&self.active?)?;
        let standby = self.candidates.values().flat_map(|candidate| {
            [STANDBY_FRESH, STANDBY_LOST].map(|limit| candidate.heard + limit)
        });
        let (doubtful, silent) = active.limits(self.patience());
        [doubtful, silent]
            .map(|limit| active.silent_at(limit))
            .into_iter()
            .chain(standby)
            .chain([active.grace])
            .filter(|at| *at > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::TokioRuntime;

    const MS: Duration = Duration::from_millis(1);

    struct Two {
        start: Instant,
        selection: Selection,
    }

    /// Relay 1 and direct 2, both up, direct in use.
    fn two(duplication: bool, failover: bool) -> Two {
        let start = quinn::Runtime::now(&TokioRuntime);
        let mut selection = Selection::new(duplication, failover, true);
        selection.up(1, PathKind::Relay, Duration::ZERO, start);
        assert_eq!(selection.update(start).unwrap().to, 1);
        selection.up(2, PathKind::Direct, Duration::ZERO, start);
        // A path that has proven nothing is not taken.
        assert_eq!(selection.update(start), None);
        let mut two = Two { start, selection };
        two.hear(0, &[1, 2]);
        let decision = two.selection.update(start).unwrap_or(Decision {
            from: None,
            to: 2,
            reason: SwitchReason::Better,
            silence: Duration::ZERO,
        });
        assert_eq!((decision.to, decision.reason), (2, SwitchReason::Better));
        two
    }

    impl Two {
        fn at(&self, ms: u32) -> Instant {
            self.start + MS * ms
        }

        /// Reports come by these connections, about themselves.
        fn hear(&mut self, ms: u32, connections: &[u32]) {
            let now = self.at(ms);
            for connection in connections {
                self.selection.heard(*connection, now);
                self.selection.reported(*connection, MS * 10, now);
            }
        }
    }

    #[test]
    fn silence_first_doubles_sound_then_moves_media_and_the_way_back_takes_a_while() {
        let mut two = two(true, true);
        assert_eq!(two.selection.second(two.at(99)), None);
        two.hear(90, &[1]);
        assert_eq!(two.selection.second(two.at(100)), Some(1));
        two.hear(240, &[1]);
        assert_eq!(two.selection.update(two.at(249)), None);
        let decision = two.selection.update(two.at(250)).unwrap();
        assert_eq!(decision.to, 1);
        assert_eq!(decision.reason, SwitchReason::Silence);
        assert_eq!(decision.silence, MS * 250);
        // It heals at once, but is taken up only after a second.
        two.hear(300, &[1, 2]);
        assert_eq!(two.selection.update(two.at(300)), None);
        two.hear(1300, &[1, 2]);
        assert_eq!(two.selection.update(two.at(1300)).unwrap().to, 2);
        // The next failure counts double.
        two.hear(1500, &[1]);
        assert_eq!(two.selection.update(two.at(1560)).unwrap().to, 1);
        two.hear(3000, &[1, 2]);
        assert_eq!(two.selection.update(two.at(3000)), None);
        two.hear(3600, &[1, 2]);
        assert_eq!(two.selection.update(two.at(3600)).unwrap().to, 2);
    }

    #[test]
    fn only_our_own_direction_counts() {
        let mut two = two(true, true);
        // The way back of 2 is dead; the other side tells by 1 that 2 reaches it.
        for ms in (50..2000).step_by(50) {
            two.hear(ms, &[1]);
            two.selection.reported(2, MS * 20, two.at(ms));
            assert_eq!(two.selection.update(two.at(ms + 40)), None);
            assert_eq!(two.selection.second(two.at(ms + 40)), None);
        }
        // And the other way round: 2 is heard, but carries nothing of ours.
        two.hear(2000, &[1, 2]);
        two.selection.reported(2, MS * 120, two.at(2000));
        assert_eq!(two.selection.second(two.at(2000)), Some(1));
        two.selection.reported(2, MS * 260, two.at(2000));
        assert_eq!(two.selection.update(two.at(2000)).unwrap().to, 1);
    }

    #[test]
    fn the_switches_switch_it_off() {
        let mut two = two(false, true);
        two.hear(100, &[1]);
        assert_eq!(two.selection.second(two.at(150)), None);
        two.selection.failover = false;
        two.hear(5000, &[1]);
        assert_eq!(two.selection.update(two.at(5000)), None);
        two.selection.down(2);
        assert_eq!(two.selection.update(two.at(5000)).unwrap().to, 1);
    }

    #[test]
    fn media_stops_where_nothing_authenticated_came_for_five_seconds() {
        let two = two(true, true);
        assert!(two.selection.may_carry(2, two.at(4999)));
        assert!(!two.selection.may_carry(2, two.at(5000)));
    }

    #[test]
    fn a_silent_connection_is_not_left_for_one_that_is_as_silent() {
        let mut two = two(true, true);
        for ms in [250, 300, 600, 2000] {
            assert_eq!(two.selection.update(two.at(ms)), None);
        }
    }

    /// A line whose packets come in bursts 200 ms apart, both connections alike, for a minute; then the direct
    /// one dies. How often media moved before, and after how much silence then.
    fn bursts(adaptive: bool) -> (usize, Option<u32>) {
        let start = quinn::Runtime::now(&TokioRuntime);
        let mut selection = Selection::new(true, true, adaptive);
        selection.up(1, PathKind::Relay, Duration::ZERO, start);
        selection.up(2, PathKind::Direct, Duration::ZERO, start);
        let mut moves = 0;
        let mut dead = None;
        for ms in 0..70_000u32 {
            let now = start + MS * ms;
            let dies = ms >= 60_000;
            for (connection, every, offset) in [(1, 280, 0), (2, 280, 140)] {
                let hears = ms % every == offset && !(dies && connection == 2);
                if hears {
                    selection.heard(connection, now);
                    selection.reported(connection, MS * 10, now);
                }
            }
            if let Some(decision) = selection.update(now)
                && decision.reason == SwitchReason::Silence
            {
                match dies {
                    false => moves += 1,
                    true => {
                        let _first = *dead.get_or_insert(ms - 60_000);
                    }
                }
            }
        }
        (moves, dead)
    }

    #[test]
    fn a_line_that_comes_in_bursts_is_not_left_at_every_pause() {
        let (moves, dead) = bursts(true);
        let (fixed, _) = bursts(false);
        println!(
            "moved {moves} times, with fixed limits {fixed}; left the dead one after {dead:?} ms"
        );
        assert!(moves <= 2 && fixed > 100);
        assert!(dead.is_some_and(|after| after < 1_300), "{dead:?}");
    }

    /// After how much silence media leaves a connection whose packets and reports take 500 ms, and when that is told.
    fn far(adaptive: bool) -> (u32, u32) {
        let mut two = two(true, true);
        two.selection.adaptive = adaptive;
        for connection in [1, 2] {
            two.selection.went_round(connection, 500 * MS);
        }
        let (mut moved, mut told) = (None, None);
        for ms in (0..2000).step_by(10) {
            two.hear(ms, &[1]);
            let silent = two.selection.newly_silent(two.at(ms));
            told = told.or_else(|| silent.iter().any(|(gone, _)| *gone == 2).then_some(ms));
            let decision = two.selection.update(two.at(ms));
            moved = moved.or_else(|| decision.map(|_| ms));
        }
        (moved.unwrap(), told.unwrap())
    }

    #[test]
    fn what_is_under_way_is_waited_for() {
        let (moved, told) = far(true);
        println!("moved after {moved} ms, told after {told} ms");
        assert!((500..600).contains(&moved), "{moved}");
        // A search for other ways waits a little longer.
        assert!((700..1000).contains(&told), "{told}");
        let (moved, told) = far(false);
        assert!((250..300).contains(&moved), "{moved}");
        assert!((250..300).contains(&told), "{told}");
    }

    #[test]
    fn a_new_connection_has_a_round_trip_to_say_its_first_word() {
        let start = quinn::Runtime::now(&TokioRuntime);
        let mut selection = Selection::new(true, true, true);
        selection.up(1, PathKind::Relay, MS * 600, start);
        assert_eq!(selection.update(start).unwrap().to, 1);
        selection.up(2, PathKind::Direct, MS * 600, start);
        for ms in (0..600).step_by(50) {
            assert_eq!(selection.update(start + MS * ms), None);
            assert_eq!(selection.second(start + MS * ms), None);
            assert!(selection.newly_silent(start + MS * ms).is_empty());
        }
    }

    #[test]
    fn what_was_taken_up_freely_has_a_round_to_report_at_full_rate() {
        for (adaptive, before, after) in [(true, 449, 450), (false, 299, 300)] {
            let mut two = two(true, true);
            two.selection.adaptive = adaptive;
            two.selection.active = Some(1);
            two.selection.went_round(2, 200 * MS);
            assert_eq!(
                two.selection.update(two.at(0)).unwrap().reason,
                SwitchReason::Better
            );
            two.hear(before - 10, &[1]);
            two.selection
                .heard(2, two.at(if adaptive { 0 } else { 50 }));
            assert_eq!(two.selection.update(two.at(before)), None);
            let decision = two.selection.update(two.at(after)).unwrap();
            assert_eq!(decision.reason, SwitchReason::Silence);
        }
    }

    #[test]
    fn what_is_as_silent_gets_no_copies() {
        let mut two = two(true, true);
        two.hear(200, &[1, 2]);
        // For want of news the other one may live.
        assert_eq!(two.selection.second(two.at(330)), Some(1));
        assert_eq!(two.selection.second(two.at(560)), None);
        two.hear(580, &[1]);
        assert_eq!(two.selection.second(two.at(590)), Some(1));
    }
}
