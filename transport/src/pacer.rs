//! When the next datagram may leave.
//!
//! What can wait leaves at a rate, evenly, so that a picture's burst does not stand in the line's queue where sound
//! comes after it. What cannot wait leaves at once, and is paid for by what can.

use std::time::{Duration, Instant};

/// Faster than the estimate by this much: what an encoder overshoots, and what stands in the queue when the estimate
/// falls, leaves a little sooner than it came. A queue that this makes shows in the estimate.
pub const PACE_FACTOR: f64 = 1.1;

/// What leaves early rather than wake up for each datagram.
const BURST: Duration = Duration::from_millis(4);

/// The most that can be owed: what cannot wait took more than there was.
const DEBT_MAX: Duration = Duration::from_millis(250);

/// Slowest pace, in bits per second: a full datagram in 400 ms.
const SLOWEST_BPS: f64 = 24_000.0;

/// The pace of one path.
///
/// What is owed is counted in bits: what left while next to nothing was to leave, because a queue drained, is little at
/// the pace of afterwards.
#[derive(Debug, Default)]
pub struct Pacer {
    /// When something left last, the bits that were not paid for then, and how many are per second since.
    last: Option<(Instant, f64, f64)>,
}

impl Pacer {
    /// A datagram of `bits` leaves at `now`, at a pace of `bits_per_second`, [`PACE_FACTOR`] not included.
    pub fn sent(&mut self, now: Instant, bits: f64, bits_per_second: f64) {
        let rate = rate_of(bits_per_second);
        let owed = (self.owed(now) + bits).min(DEBT_MAX.as_secs_f64() * rate);
        self.last = Some((now, owed, rate));
    }

    fn owed(&self, now: Instant) -> f64 {
        self.last.map_or(0.0, |(at, owed, rate)| {
            let paid = now.saturating_duration_since(at).as_secs_f64() * rate;
            (owed - paid).max(0.0)
        })
    }

    /// When something that can wait may leave next, if the pace stays at `bits_per_second`; `None` when it may now.
    #[must_use]
    pub fn next(&self, now: Instant, bits_per_second: f64) -> Option<Instant> {
        let takes = self.owed(now) / rate_of(bits_per_second);
        let wait = Duration::try_from_secs_f64(takes)
            .unwrap_or(DEBT_MAX)
            .min(DEBT_MAX)
            .checked_sub(BURST)?;
        (!wait.is_zero()).then_some(now + wait)
    }
}

fn rate_of(bits_per_second: f64) -> f64 {
    (PACE_FACTOR * bits_per_second).max(SLOWEST_BPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::TokioRuntime;

    fn start() -> Instant {
        quinn::Runtime::now(&TokioRuntime)
    }

    #[test]
    fn a_second_carries_the_rate_and_the_factor_more() {
        let begin = start();
        let mut pacer = Pacer::default();
        let (mut now, mut bits) = (begin, 0.0);
        while now < begin + Duration::from_secs(1) {
            match pacer.next(now, 960_000.0) {
                Some(next) => now = next,
                None => {
                    pacer.sent(now, 9600.0, 960_000.0);
                    bits += 9600.0;
                }
            }
        }
        assert!((1_050_000.0..1_080_000.0).contains(&bits), "{bits}");
    }

    #[test]
    fn idle_time_saves_nothing_up_and_debt_has_an_end() {
        let begin = start();
        let mut pacer = Pacer::default();
        pacer.sent(begin, 9600.0, 96_000.0);
        let later = begin + Duration::from_secs(10);
        assert_eq!(pacer.next(later, 96_000.0), None);
        pacer.sent(later, 9600.0, 96_000.0);
        assert!(pacer.next(later, 96_000.0).is_some());
        for _ in 0..100 {
            pacer.sent(later, 9600.0, 96_000.0);
        }
        let next = pacer.next(later, 96_000.0);
        assert_eq!(next, Some(later + DEBT_MAX - BURST));
    }

    #[test]
    fn what_is_owed_at_a_slow_pace_is_soon_paid_at_a_fast_one() {
        let begin = start();
        let mut pacer = Pacer::default();
        // Sound while a queue drains.
        for _ in 0..100 {
            pacer.sent(begin, 1264.0, 18_000.0);
        }
        let slow = pacer.next(begin, 18_000.0);
        assert_eq!(slow, Some(begin + DEBT_MAX - BURST));
        let fast = pacer.next(begin, 360_000.0);
        let wait = fast.map(|at| at - begin);
        assert!(wait < Some(Duration::from_millis(15)), "{wait:?}");
    }
}
