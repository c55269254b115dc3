//! What loss means: a line that loses, or one that is full.
//!
//! Asked by an experiment. Loss that a lower rate does not heal has nothing to do with the rate.

use std::collections::VecDeque;

/// Datagrams whose fate is remembered: those of the last seconds.
const KEPT: f64 = 8.0;
const KEPT_DATAGRAMS: usize = 8192;

/// Seconds over which loss is looked at, and datagrams that must have left in them.
const WINDOW: f64 = 1.0;
/// The same to see how long its runs are: bursts are rare.
const RUNS_WINDOW: f64 = 4.0;
const DATAGRAMS_LEAST: u32 = 30;
/// Loss beyond the line's own that is looked into: at least this, and three standard deviations of chance.
const SUSPICIOUS: f64 = 0.05;
/// The same once a line is known to be policed, with one deviation: there a trial in vain costs a tenth of a second's
/// rate, and the loss that would be waited for costs sound.
const SUSPICIOUS_POLICED: f64 = 0.03;
/// A trial lasts at least so long, in seconds, and until so many runs of loss would have come in it if it changed
/// nothing: that none of them comes by chance has odds of 1 to 50. But it has an end.
const TRIAL: f64 = 0.5;
const TRIAL_RUNS: f64 = 4.0;
const TRIAL_MOST: f64 = 5.0;
/// Share of what arrived that a trial sends, and on a line that is known to be policed.
const TRIAL_SHARE: f64 = 0.8;
const TRIAL_SHARE_POLICED: f64 = 0.9;
/// Loss that falls to less than this share in a trial was ours.
const HEALED: f64 = 0.4;
/// How fast the line's own loss is forgotten, per second.
const FORGET: f64 = 0.1;

#[derive(Debug, Clone, Copy)]
struct Trial {
    since: f64,
    before: f64,
    carried: f64,
    loss: Loss,
}

/// How what left in some time fared.
#[derive(Debug, Clone, Copy, Default)]
struct Loss {
    sent: u32,
    lost: u32,
    /// Uninterrupted sequences of lost ones.
    runs: u32,
}

impl Loss {
    fn fraction(self) -> f64 {
        f64::from(self.lost) / f64::from(self.sent.max(1))
    }

    fn runs_fraction(self) -> f64 {
        f64::from(self.runs) / f64::from(self.sent.max(1))
    }

    /// Lost ones one after the other, on average; 0 where none are.
    fn mean_run(self) -> f64 {
        f64::from(self.lost) / f64::from(self.runs.max(1))
    }

    /// A standard deviation of [`Self::fraction`]: losses that come in runs are as many chances as there are runs.
    fn deviation(self) -> f64 {
        let fraction = self.fraction();
        (fraction * (1.0 - fraction) * self.mean_run().max(1.0) / f64::from(self.sent.max(1)))
            .sqrt()
    }
}

/// What loss says about the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    Nothing,
    /// A trial is wanted.
    Try,
    /// The line loses whatever is sent: back to the rate before.
    Random {
        before: f64,
    },
    /// The line is full, carrying so much.
    Full {
        carried: f64,
    },
}

#[derive(Debug, Default)]
pub(super) struct LossJudge {
    /// When each left, and whether it was lost; in the order in which they left.
    fates: VecDeque<(f64, bool)>,
    /// What left before this is not looked at.
    fresh_from: f64,
    /// The line's own share of loss.
    inherent: f64,
    policed: bool,
    trial: Option<Trial>,
    judged: f64,
    latest: f64,
    mean_run: f64,
}

impl LossJudge {
    pub(super) fn told(&mut self, sent: f64, lost: bool) {
        // Loss is told later than arrival, so that the place is near the end.
        let after = self.fates.iter().rev().take_while(|(at, _)| *at > sent);
        let place = self.fates.len() - after.count();
        self.fates.insert(place, (sent, lost));
        while self.fates.len() > KEPT_DATAGRAMS
            || self.fates.front().is_some_and(|(at, _)| sent - at > KEPT)
        {
            self.fates.pop_front();
        }
    }

    /// What left before `at` says nothing about now.
    pub(super) fn forget(&mut self, at: f64) {
        self.fresh_from = at;
        self.trial = None;
    }

    /// Whether a trial is under way, in which the rate is to stay.
    pub(super) fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    /// Share lost of what left in the last second that is known.
    pub(super) fn fraction(&self) -> f64 {
        self.latest
    }

    /// How many of them were lost one after the other in the last four seconds that are known, on average; 0 where none
    /// were.
    pub(super) fn mean_run(&self) -> f64 {
        self.mean_run
    }

    fn between(&self, from: f64, to: f64) -> Loss {
        let mut loss = Loss::default();
        let mut before = false;
        let fates = self.fates.iter();
        for (_, lost) in fates.filter(|(sent, _)| *sent >= from && *sent < to) {
            loss.sent += 1;
            loss.lost += u32::from(*lost);
            loss.runs += u32::from(*lost && !before);
            before = *lost;
        }
        loss
    }

    /// Judges what left before `settled`, whose fate is known whole. `used`: we send what we may. `policed`: the
    /// line is known to answer with loss.
    pub(super) fn judge(&mut self, at: f64, settled: f64, used: bool, policed: bool) -> Verdict {
        let elapsed = (at - self.judged).clamp(0.0, 1.0);
        self.judged = at;
        self.policed = policed;
        self.latest = self.between(settled - WINDOW, settled).fraction();
        self.mean_run = self.between(settled - RUNS_WINDOW, settled).mean_run();
        if let Some(trial) = self.trial {
            return self.judge_trial(&trial, settled);
        }
        let loss = self.between((settled - WINDOW).max(self.fresh_from), settled);
        if loss.sent < DATAGRAMS_LEAST {
            return Verdict::Nothing;
        }
        let fraction = loss.fraction();
        let (least, deviations) = if policed {
            (SUSPICIOUS_POLICED, 1.0)
        } else {
            (SUSPICIOUS, 3.0)
        };
        if used && fraction > self.inherent + least.max(deviations * loss.deviation()) {
            return Verdict::Try;
        }
        self.inherent += (fraction - self.inherent) * FORGET * elapsed;
        Verdict::Nothing
    }

    /// Begins a trial at `capacity` while `carried` arrives; what to send in it.
    pub(super) fn begin(&mut self, at: f64, settled: f64, capacity: f64, carried: f64) -> f64 {
        self.trial = Some(Trial {
            since: at,
            before: capacity,
            carried,
            loss: self.between((settled - WINDOW).max(self.fresh_from), settled),
        });
        let share = if self.policed {
            TRIAL_SHARE_POLICED
        } else {
            TRIAL_SHARE
        };
        capacity.min(share * carried)
    }

    fn judge_trial(&mut self, trial: &Trial, settled: f64) -> Verdict {
        // What had been waiting for its turn left in the meantime.
        let from = trial.since + 0.05;
        let loss = self.between(from, settled);
        let lasted = settled - from;
        let runs = f64::from(loss.sent) * trial.loss.runs_fraction();
        if lasted < TRIAL || runs < TRIAL_RUNS && lasted < TRIAL_MOST {
            return Verdict::Nothing;
        }
        let (before, carried) = (trial.before, trial.carried);
        self.trial = None;
        self.fresh_from = from;
        if loss.fraction() < HEALED * trial.loss.fraction() {
            return Verdict::Full { carried };
        }
        self.inherent = loss.fraction().max(trial.loss.fraction());
        Verdict::Random { before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells of `seconds` of a hundred datagrams a second, and judges every 50 ms.
    fn tell(
        judge: &mut LossJudge,
        from: f64,
        seconds: f64,
        lost: impl Fn(u32) -> bool,
    ) -> Vec<(f64, Verdict)> {
        let mut verdicts = Vec::new();
        let mut number = 0_u32;
        let mut at = from;
        while at < from + seconds {
            judge.told(at, lost(number));
            number += 1;
            at += 0.01;
            if number.is_multiple_of(5) {
                match judge.judge(at, at, true, false) {
                    Verdict::Nothing => {}
                    Verdict::Try => {
                        judge.begin(at, at, 1e6, 9e5);
                        verdicts.push((at, Verdict::Try));
                    }
                    other @ (Verdict::Random { .. } | Verdict::Full { .. }) => {
                        verdicts.push((at, other));
                    }
                }
            }
        }
        verdicts
    }

    #[test]
    fn loss_that_stays_is_the_lines_and_is_asked_about_once() {
        let mut judge = LossJudge::default();
        let verdicts = tell(&mut judge, 0.0, 30.0, |number| number.is_multiple_of(8));
        assert_eq!(verdicts.len(), 2, "{verdicts:?}");
        assert_eq!(verdicts[0].1, Verdict::Try);
        assert_eq!(verdicts[1].1, Verdict::Random { before: 1e6 });
        assert!(verdicts[1].0 < 2.0, "{verdicts:?}");
    }

    #[test]
    fn loss_that_goes_was_ours() {
        let mut judge = LossJudge::default();
        let verdicts = tell(&mut judge, 0.0, 0.35, |number| number.is_multiple_of(4));
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        let verdicts = tell(&mut judge, 0.35, 2.0, |_none| false);
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        assert_eq!(verdicts[0].1, Verdict::Full { carried: 9e5 });
    }

    #[test]
    fn rare_bursts_are_no_reason_to_ask() {
        let mut judge = LossJudge::default();
        // Eight in a row of every hundred.
        let verdicts = tell(&mut judge, 0.0, 30.0, |number| number % 100 < 8);
        assert_eq!(verdicts, []);
        assert!((judge.mean_run() - 8.0).abs() < 0.5, "{}", judge.mean_run());
    }
}
