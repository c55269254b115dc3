//! How good the lines to homes are, as this device measures them: round trips and lost packets of the envelopes that it leaves
//! there for itself, and of trials. Sans-IO.
//!
//! An envelope is a dozen packets each quarter of an hour, which tells that something is lost and not how much. So a first loss
//! asks for a trial ([`Lines::begin_trial`]): some hundreds of small packets to each home in the same minute, so that whoever's
//! own access loses them sees it at all homes.
//!
//! A home that is up may still be a bad one: half round the world, or behind a line that loses packets; calls by its relay would
//! hear it. [`Lines::worst`] names it once that is sure, and only where another home is clearly better: whose own access is bad
//! finds all homes alike, and changing them gains nothing. So there are two thresholds and a pause, and a home that is a little
//! worse than another stays where it is.
//!
//! Nothing is kept over restarts: the line of yesterday may have been another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ahoy_transport::identity::NodeId;

/// Requests of a trial, three packets each with what QUIC adds: enough to tell 5 % lost from 1 %.
pub const TRIAL: u32 = 300;
/// Between two of them, and until the next if one takes longer: less than supernodes allow.
pub const TRIAL_INTERVAL: Duration = Duration::from_millis(125);
/// Weight of a new round trip in the mean.
const SMOOTHING: f64 = 0.3;
/// Measurements before a home is judged: one may be bad luck.
const FEWEST: u32 = 4;
/// Packets that count: what is older weighs less and less, so that a line that mended is seen to. Two trials.
const MOST_PACKETS: f64 = 1200.0;
/// Whoever loses more than this is bad, if it is sure: voice hears it.
const LOSSY: f64 = 0.015;
/// Whoever is so much farther than another one is bad: more than a person notices.
const FAR: Duration = Duration::from_millis(150);
/// What counts as bad is good again when it is only so much farther.
const NEAR: Duration = Duration::from_millis(75);
/// Between two homes that are left for their lines: twice as long each time, up to a day. Where one lives, all homes but one
/// may be far.
const PAUSE: Duration = Duration::from_secs(10 * 60);
const MAX_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two trials: twice as long each time, up to a day. A line that loses a little, and no home to change to, is usual.
const TRIAL_PAUSE: Duration = Duration::from_secs(10 * 60);
/// Standard deviations between the mean and what a line loses at the least and at the most. Many, since one lost packet brings
/// others with it.
const Z: f64 = 3.0;

/// Mean and standard deviation of the Beta distribution.
fn beta(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    (a / sum, (a * b / (sum * sum * (sum + 1.0))).sqrt())
}

/// What was measured of one home.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Smoothed.
    pub rtt: Duration,
    /// Packets sent, as far as they still count.
    pub sent: f64,
    /// Of those, lost.
    pub lost: f64,
    measured: u32,
}

impl Line {
    /// Share of packets that are lost, in the mean, as if one in a hundred had been lost before.
    fn loss(&self) -> f64 {
        (self.lost + 0.1) / (self.sent + 10.0)
    }

    /// The same at the least: [`Z`] deviations of a Beta distribution below.
    fn least_loss(&self) -> f64 {
        let (mean, deviation) = beta(self.lost + 0.1, self.sent - self.lost + 9.9);
        (mean - Z * deviation).max(0.0)
    }

    /// And at the most: nobody knows of a line that nothing was lost on before hundreds of packets.
    fn most_loss(&self) -> f64 {
        let (mean, deviation) = beta(self.lost + 1.0, (self.sent - self.lost).max(1.0));
        mean + Z * deviation
    }

    /// For those that are alike otherwise: the smaller the better, in steps, since no measurement is twice the same. A per cent
    /// of loss is as bad as twenty milliseconds.
    #[must_use]
    pub fn rank(&self) -> u128 {
        (self.rtt + Duration::from_secs_f64(self.loss() * 2.0)).as_millis() / 10
    }
}

/// The lines to all homes.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    lines: BTreeMap<NodeId, Line>,
    /// Those that were named and have not mended: they may be homes that are never left.
    told: BTreeSet<NodeId>,
    leaving: Pause,
    trials: Pause,
}

/// Time between two of a kind, twice as long each time.
#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    not_before: Option<Instant>,
    last: Option<Duration>,
}

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    fn begin(&mut self, now: Instant, first: Duration) {
        let pause = self.last.map_or(first, |last| (last * 2).min(MAX_PAUSE));
        self.last = Some(pause);
        self.not_before = Some(now + pause);
    }
}

impl Lines {
    /// These are homes now, and no others.
    pub fn set_homes(&mut self, homes: &[NodeId]) {
        self.lines.retain(|home, _line| homes.contains(home));
        self.told.retain(|home| homes.contains(home));
    }

    /// An exchange with a home took so long, and `lost` of the packets `sent` for it.
    pub fn note(&mut self, home: NodeId, rtt: Duration, sent: u64, lost: u64) {
        let line = self.lines.entry(home).or_insert(Line {
            rtt,
            sent: 0.0,
            lost: 0.0,
            measured: 0,
        });
        #[expect(clippy::cast_precision_loss, reason = "a handful of packets")]
        let (sent, lost) = (sent as f64, lost.min(sent) as f64);
        let before = line.rtt.as_secs_f64();
        let mean = before + SMOOTHING * (rtt.as_secs_f64() - before);
        line.rtt = Duration::from_secs_f64(mean.max(0.0));
        let kept = (1.0 - sent / MOST_PACKETS).clamp(0.0, 1.0);
        line.sent = line.sent * kept + sent;
        line.lost = line.lost * kept + lost;
        line.measured = line.measured.saturating_add(1);
    }

    /// Something was lost: whether all homes are to be measured by [`TRIAL`] packets each now.
    pub fn begin_trial(&mut self, now: Instant) -> bool {
        let due = self.lines.len() > 1 && self.trials.is_over(now);
        if due {
            self.trials.begin(now, TRIAL_PAUSE);
        }
        due
    }

    /// What is known of a home.
    #[must_use]
    pub fn line(&self, home: NodeId) -> Option<&Line> {
        self.lines.get(&home)
    }

    /// Whether `one` is clearly worse than `other`: it loses more at the least than that one at the most, or is farther by `far`.
    fn is_worse(one: &Line, other: &Line, far: Duration) -> bool {
        let least = one.least_loss();
        (least > LOSSY && other.most_loss() < least) || one.rtt > other.rtt + far
    }

    fn measured(&self) -> impl Iterator<Item = (&NodeId, &Line)> {
        self.lines
            .iter()
            .filter(|(_home, line)| line.measured >= FEWEST)
    }

    /// A home to be left for a better one now, if any: the worst of those that are clearly worse than another one. It is told
    /// once in a while.
    pub fn worst(&mut self, now: Instant) -> Option<NodeId> {
        if !self.leaving.is_over(now) {
            return None;
        }
        let bad = |line: &&Line| {
            let mut others = self.measured();
            others.any(|(_home, other)| Self::is_worse(line, other, FAR))
        };
        let worst = self
            .measured()
            .filter(|(home, line)| !self.told.contains(home) && bad(line))
            .max_by_key(|(_home, line)| line.rank());
        let worst = worst.map(|(home, _line)| *home)?;
        self.leaving.begin(now, PAUSE);
        self.told.insert(worst);
        Some(worst)
    }

    /// Whether a home that was bad is as good as the others again, as far as both were measured.
    pub fn is_mended(&mut self, home: NodeId) -> bool {
        let others = || self.measured().filter(|(other, _line)| **other != home);
        let line = self.lines.get(&home).filter(|line| line.measured >= FEWEST);
        let mended = others().next().is_some()
            && line.is_some_and(|line| {
                !others().any(|(_home, other)| Self::is_worse(line, other, NEAR))
            });
        if mended {
            self.told.remove(&home);
        }
        mended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Measured so often: a round trip, and so many lost of a hundred.
    fn measured(lines: &mut Lines, n: u8, times: u64, rtt: u64, lost: u64) {
        for time in 0..times {
            // Ten packets each; losses spread evenly.
            let lost = (time + 1) * lost / 10 - time * lost / 10;
            lines.note(node(n), millis(rtt), 10, lost);
        }
    }

    #[test]
    fn a_far_home_is_left_once_that_is_sure_and_not_over_and_over() {
        let now = start();
        let mut lines = Lines::default();
        measured(&mut lines, 1, 9, 40, 0);
        measured(&mut lines, 2, u64::from(FEWEST) - 1, 400, 0);
        assert_eq!(lines.worst(now), None, "too early to say");
        measured(&mut lines, 2, 1, 400, 0);
        measured(&mut lines, 3, 9, 340, 0);
        assert_eq!(lines.worst(now), Some(node(2)), "the worst first");
        assert_eq!(lines.worst(now + PAUSE / 2), None);
        lines.set_homes(&[node(1), node(3)]);
        assert_eq!(lines.worst(now + PAUSE), Some(node(3)));
    }

    #[test]
    fn a_home_that_is_a_little_worse_stays() {
        let now = start();
        let mut lines = Lines::default();
        measured(&mut lines, 1, 90, 40, 0);
        measured(&mut lines, 2, 90, 150, 1);
        assert_eq!(lines.worst(now), None);
        // Who was bad counts again when it is near, not when it is a bit less far.
        measured(&mut lines, 2, 90, 170, 0);
        assert!(!lines.is_mended(node(2)) && lines.worst(now).is_none());
        measured(&mut lines, 2, 90, 80, 0);
        assert!(lines.is_mended(node(2)));
    }

    #[test]
    fn a_lossy_home_is_left_where_another_loses_less_and_one_lost_packet_is_none() {
        let now = start();
        let mut lines = Lines::default();
        for n in 1..=3 {
            measured(&mut lines, n, 4, 40, 0);
        }
        lines.note(node(2), millis(40), 10, 1);
        assert_eq!(lines.worst(now), None, "bad luck");
        for n in 1..=3 {
            measured(&mut lines, n, 60, 40, if n == 2 { 5 } else { 0 });
        }
        assert_eq!(lines.worst(now), Some(node(2)));
        let worse = lines.line(node(2)).unwrap().rank();
        assert!(worse > lines.line(node(1)).unwrap().rank());
        // All alike: it is our own line.
        let mut alike = Lines::default();
        for n in 1..=3 {
            measured(&mut alike, n, 40, 400, 5);
        }
        assert_eq!(alike.worst(now), None);
    }

    #[test]
    fn all_homes_are_tried_together_and_seldom() {
        let now = start();
        let mut lines = Lines::default();
        measured(&mut lines, 1, 1, 40, 0);
        assert!(!lines.begin_trial(now), "there is no other home");
        measured(&mut lines, 2, 1, 40, 0);
        assert!(lines.begin_trial(now));
        assert!(!lines.begin_trial(now + TRIAL_PAUSE / 2));
        assert!(lines.begin_trial(now + TRIAL_PAUSE));
        assert!(!lines.begin_trial(now + TRIAL_PAUSE * 2));
        assert!(lines.begin_trial(now + TRIAL_PAUSE * 3));
    }

    /// A trial each: whoever loses is not compared with who was hardly measured.
    #[test]
    fn what_was_hardly_measured_is_no_better_home() {
        let mut lines = Lines::default();
        for n in 1..=2 {
            measured(&mut lines, n, 4, 40, 0);
        }
        lines.note(node(1), millis(40), 900, 45);
        assert_eq!(lines.worst(start()), None);
        lines.note(node(2), millis(40), 900, 3);
        assert_eq!(lines.worst(start()), Some(node(1)));
    }

    #[test]
    fn a_line_that_mends_is_seen_to() {
        let mut lines = Lines::default();
        measured(&mut lines, 1, 40, 40, 0);
        measured(&mut lines, 2, 40, 40, 8);
        assert!(!lines.is_mended(node(2)));
        measured(&mut lines, 2, 500, 40, 0);
        assert!(lines.is_mended(node(2)));
        let line = lines.line(node(2)).unwrap();
        assert!(line.sent <= MOST_PACKETS + 10.0 && line.lost < 1.0);
    }
}
