//! What left and was not reported yet, and how long that usually takes.

use std::collections::VecDeque;

/// After so many seconds nothing is under way any more: it is lost, or its reports are.
const GIVEN_UP: f64 = 1.0;
/// Datagrams under way that are kept.
const KEPT: usize = 4096;

/// The usual age and its deviation are learnt over so many reports.
const MEMORY: f64 = 16.0;
/// A report is late from so many deviations over the usual age on, and from so many seconds over it.
const DEVIATIONS: f64 = 4.0;
const LATE_LEAST: f64 = 0.015;
/// What is later by more than so many seconds is an event, and teaches no more than this: a way that became longer is
/// known after some reports all the same.
const EVENT: f64 = 0.15;
/// Nobody waits for a late report any longer than this, in seconds.
const WAIT: f64 = 0.3;

/// How old the oldest datagram under way usually is when a report comes, and the mean deviation of that, in seconds.
#[derive(Debug, Clone, Copy)]
struct Usual {
    age: f64,
    deviation: f64,
}

/// Datagrams younger than the newest that is known to have arrived.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    usual: Option<Usual>,
    /// Number of the first in `sent`.
    first: u64,
    sent: VecDeque<(f64, f64)>,
    bits: f64,
}

impl InFlight {
    pub(super) fn sent(&mut self, at: f64, bits: f64) {
        self.sent.push_back((at, bits));
        self.bits += bits;
        while self.sent.len() > KEPT
            || self
                .sent
                .front()
                .is_some_and(|(sent, _)| at - sent > GIVEN_UP)
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, bits)) = self.sent.pop_front() {
            self.first += 1;
            self.bits -= bits;
        }
    }

    /// The datagram of this number arrived, as is known at `at`; what is older has arrived or is lost.
    pub(super) fn arrived(&mut self, at: f64, sequence: u64) {
        // What others overtook teaches nothing about what left since.
        if let Some((oldest, _)) = self.sent.front()
            && sequence >= self.first
        {
            self.learn(at - oldest);
        }
        while self.first <= sequence && !self.sent.is_empty() {
            self.pop();
        }
    }

    fn learn(&mut self, age: f64) {
        let Some(usual) = &mut self.usual else {
            self.usual = Some(Usual {
                age,
                deviation: age / 2.0,
            });
            return;
        };
        let off = (age - usual.age).min(EVENT);
        usual.age += off / MEMORY;
        usual.deviation += (off.abs() - usual.deviation) / MEMORY;
    }

    /// From when until when it counts that the report about the oldest datagram under way is late.
    pub(super) fn late(&self) -> Option<(f64, f64)> {
        let (oldest, _) = self.sent.front()?;
        let usual = self.usual?;
        let from = oldest + usual.age + (DEVIATIONS * usual.deviation).max(LATE_LEAST);
        Some((from, from + WAIT))
    }

    /// When no more than `allowed` bits are under way if nothing is reported; `None` when that is so now.
    pub(super) fn above(&self, at: f64, allowed: f64) -> Option<f64> {
        let mut left = self.bits;
        for (sent, bits) in &self.sent {
            let until = sent + GIVEN_UP;
            if until <= at {
                left -= bits;
                continue;
            }
            if left <= allowed {
                return None;
            }
            left -= bits;
            if left <= allowed {
                return Some(until);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a datagram every 10 ms and hears of it 70 ms later at the latest, every 20 ms, until `end`.
    fn steady(end: f64) -> InFlight {
        let mut in_flight = InFlight::default();
        for n in 0_u32.. {
            let at = 0.01 * f64::from(n);
            if at > end {
                break;
            }
            in_flight.sent(at, 1000.0);
            if n.is_multiple_of(2) && n >= 6 {
                in_flight.arrived(at, u64::from(n - 6));
            }
        }
        in_flight
    }

    #[test]
    fn a_report_is_late_when_it_takes_longer_than_they_do() {
        let in_flight = steady(2.0);
        // What left at 1.95 is under way, and a report of it was due at 2.02.
        let (from, until) = in_flight.late().unwrap();
        assert!(from > 2.02 && from < 2.05, "{from}");
        assert!((until - from - WAIT).abs() < 1e-9);
        assert_eq!(InFlight::default().late(), None);
    }

    #[test]
    fn reports_that_come_as_they_like_are_waited_for_longer() {
        let regular = steady(2.0).late().unwrap().0;
        let mut in_flight = InFlight::default();
        for n in 0_u32..=200 {
            let at = 0.01 * f64::from(n);
            in_flight.sent(at, 1000.0);
            if matches!(n % 10, 3 | 4 | 9) && n >= 6 {
                in_flight.arrived(at, u64::from(n - 6));
            }
        }
        let irregular = in_flight.late().unwrap().0;
        assert!(irregular > regular + 0.03, "{irregular} {regular}");
    }
}
