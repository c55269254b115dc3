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
#[derive(Debug, Default)]
pub struct Pacer {
    /// When everything that left is paid for.
    paid: Option<Instant>,
}

impl Pacer {
    /// A datagram of `bits` leaves at `now`, at a pace of `bits_per_second`, [`PACE_FACTOR`] not included.
    pub fn sent(&mut self, now: Instant, bits: f64, bits_per_second: f64) {
        let rate = (PACE_FACTOR * bits_per_second).max(SLOWEST_BPS);
        let cost = Duration::try_from_secs_f64(bits / rate).unwrap_or(DEBT_MAX);
        let from = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some((from + cost).min(now + DEBT_MAX));
    }

    /// When something that can wait may leave next; `None` when it may now.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let next = self.paid?.checked_sub(BURST)?;
        (next > now).then_some(next)
    }
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
            match pacer.next(now) {
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
        assert_eq!(pacer.next(later), None);
        pacer.sent(later, 9600.0, 96_000.0);
        assert!(pacer.next(later).is_some());
        for _ in 0..100 {
            pacer.sent(later, 9600.0, 96_000.0);
        }
        assert_eq!(pacer.next(later), Some(later + DEBT_MAX - BURST));
    }
}
