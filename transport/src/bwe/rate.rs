//! Rates and minima over the last seconds.

use std::collections::VecDeque;

/// What is kept, in seconds, and in datagrams: those of 45 Mbit/s for a little under a second.
const KEPT: f64 = 3.0;
const KEPT_DATAGRAMS: usize = 4096;

/// What left.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<(f64, f64)>);

impl Sent {
    pub(super) fn add(&mut self, at: f64, bits: f64) {
        self.0.push_back((at, bits));
        while self.0.len() > KEPT_DATAGRAMS
            || self.0.front().is_some_and(|(first, _)| at - first > KEPT)
        {
            self.0.pop_front();
        }
    }

    /// Bits per second over the last `span` seconds before `at`.
    pub(super) fn rate(&self, at: f64, span: f64) -> f64 {
        let before = self.0.iter().rev().skip_while(|(sent, _)| *sent > at);
        let recent = before.take_while(|(sent, _)| at - sent < span);
        recent.map(|(_, bits)| bits).sum::<f64>() / span
    }

    /// The most bits per second over any `span` seconds of those kept, taken in steps of `span` back from `at`.
    pub(super) fn most(&self, at: f64, span: f64) -> f64 {
        let (mut most, mut sum, mut end) = (0.0f64, 0.0, at);
        for (sent, bits) in self.0.iter().rev() {
            while end - sent >= span {
                most = most.max(sum / span);
                sum = 0.0;
                end -= span;
            }
            sum += bits;
        }
        most.max(sum / span)
    }
}

#[derive(Debug, Clone, Copy)]
struct Arrived {
    at: f64,
    sent: f64,
    bits: f64,
}

/// What arrived, by the receiver's clock.
#[derive(Debug)]
pub(super) struct Arrivals {
    all: VecDeque<Arrived>,
    newest: f64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            all: VecDeque::new(),
            newest: f64::NEG_INFINITY,
        }
    }
}

impl Arrivals {
    pub(super) fn add(&mut self, at: f64, sent: f64, bits: f64) {
        self.newest = self.newest.max(at);
        self.all.push_back(Arrived { at, sent, bits });
        while self.all.len() > KEPT_DATAGRAMS
            || self
                .all
                .front()
                .is_some_and(|first| self.newest - first.at > KEPT)
        {
            self.all.pop_front();
        }
    }

    /// When the newest arrived.
    pub(super) fn newest(&self) -> f64 {
        self.newest
    }

    /// Bits per second over the `span` seconds before the newest arrival.
    pub(super) fn rate(&self, span: f64) -> f64 {
        let recent = self.all.iter().filter(|one| self.newest - one.at < span);
        recent.map(|one| one.bits).sum::<f64>() / span
    }

    /// Bits per second of what left until `cut` and arrived after `onset`, up to its newest. `None` when that is
    /// less than `least` seconds.
    pub(super) fn rate_since(&self, onset: f64, cut: f64, least: f64) -> Option<f64> {
        let of = || {
            let all = self.all.iter();
            all.filter(move |one| one.at > onset && one.sent <= cut)
        };
        // What was kept may begin later than the onset.
        let first = self.all.front().map(|one| one.at)?.max(onset);
        let span = of().map(|one| one.at).fold(first, f64::max) - first;
        (span >= least).then(|| of().map(|one| one.bits).sum::<f64>() / span)
    }
}

/// The least of the last so many seconds, to the second.
#[derive(Debug)]
pub(super) struct LeastOf {
    seconds: usize,
    /// The second, and its least.
    each: VecDeque<(f64, f64)>,
}

impl LeastOf {
    pub(super) fn new(seconds: usize) -> Self {
        Self {
            seconds,
            each: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, at: f64, value: f64) {
        let second = at.floor();
        match self.each.back_mut() {
            Some((last, least)) if *last >= second => *least = least.min(value),
            Some(_) | None => self.each.push_back((second, value)),
        }
        if self.each.len() > self.seconds {
            self.each.pop_front();
        }
    }

    pub(super) fn least(&self) -> Option<f64> {
        self.each.iter().map(|(_, least)| *least).reduce(f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_of_any_stretch() {
        let mut sent = Sent::default();
        for n in 0..200 {
            // 50 kbit/s for a second, and 5 for another.
            sent.add(0.01 * f64::from(n), if n < 100 { 500.0 } else { 50.0 });
        }
        assert!((sent.rate(2.0, 0.25) - 5_000.0).abs() < 300.0);
        assert!((sent.most(2.0, 0.25) - 50_000.0).abs() < 3_000.0);
        assert_eq!(Sent::default().most(2.0, 0.25), 0.0);
    }
}
