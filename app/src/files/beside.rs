//! How fast a file goes beside a call: as fast as the line carries without anything having to wait. Sans-IO.
//!
//! The estimate of the path lets media fill the line until a queue of 30 ms shows. For sound that is played 10 ms after it
//! came that is too late: while the queue comes up, it runs dry once. So a file beside a call backs off at a queue of 12 ms
//! already, and comes up slowly to where it last met one. It is the same thought as in LEDBAT (RFC 6817), fed by the
//! session's own reports; besides, the session sends it after everything else.

use std::time::{Duration, Instant};

use ahoy_transport::bwe::Estimate;

/// Bytes per second to begin with, and at least.
const FIRST: f64 = 25_000.0;
const LEAST: f64 = 8_000.0;
/// Growth as a share per second; and close to where a queue showed.
const GROWTH: f64 = 0.3;
const NEAR_GROWTH: f64 = 0.03;
/// Close is from this share on, and no longer beyond the other.
const NEAR: f64 = 0.85;
const BEYOND: f64 = 1.15;
/// What the line carries is not taken whole.
const SHARE: f64 = 0.85;
/// A queue of so many seconds more than there was lately without us is too long.
const TOO_LONG: f64 = 0.012;
/// It is looked at as smoothed over so many seconds, and beside the least of twice so many.
const SMOOTH: f64 = 0.1;
const LATELY: Duration = Duration::from_secs(5);
/// Share that is left after a queue, not oftener than an answer takes.
const BACK_OFF: f64 = 0.8;
const ANSWER: Duration = Duration::from_millis(300);
/// What may leave at once, in seconds of the rate; and at least, in bytes.
const BURST: f64 = 0.01;
const BURST_LEAST: f64 = 1300.0;

/// The pace of what one device is sent beside a call.
#[derive(Debug)]
pub struct Beside {
    rate: f64,
    allowance: f64,
    at: Instant,
    /// Smoothed queue, in seconds.
    queue: f64,
    /// Its least in this window and in the one before.
    least: (f64, f64),
    window: Instant,
    /// Where a queue showed last.
    met: Option<f64>,
    backed_off: Option<Instant>,
}

impl Beside {
    /// From now on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            rate: FIRST,
            allowance: 0.0,
            at: now,
            queue: 0.0,
            least: (f64::INFINITY, f64::INFINITY),
            window: now,
            met: None,
            backed_off: None,
        }
    }

    /// Bytes per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Time has passed in which there was more to send.
    pub fn pass(&mut self, now: Instant, estimate: Option<Estimate>) {
        let passed = now
            .saturating_duration_since(self.at)
            .as_secs_f64()
            .min(0.5);
        self.at = now;
        if let Some(estimate) = estimate {
            self.look(now, passed, &estimate);
        }
        let burst = (self.rate * BURST).max(BURST_LEAST);
        self.allowance = (self.allowance + self.rate * passed).min(burst);
    }

    fn look(&mut self, now: Instant, passed: f64, estimate: &Estimate) {
        let share = 1.0 - (-passed / SMOOTH).exp();
        self.queue += share * (estimate.queue_delay.as_secs_f64() - self.queue);
        if now.saturating_duration_since(self.window) > LATELY {
            self.window = now;
            self.least = (self.queue, self.least.0);
        }
        self.least.0 = self.least.0.min(self.queue);
        let usual = self.least.0.min(self.least.1);
        if self.queue > usual + TOO_LONG {
            let waits = self
                .backed_off
                .is_some_and(|at| now.saturating_duration_since(at) < ANSWER);
            if !waits {
                self.met = Some(self.rate);
                self.rate *= BACK_OFF;
                self.backed_off = Some(now);
            }
        } else {
            let near = self
                .met
                .is_some_and(|met| self.rate > NEAR * met && self.rate < BEYOND * met);
            self.rate *= 1.0 + passed * if near { NEAR_GROWTH } else { GROWTH };
        }
        let most = SHARE * estimate.target_bps as f64 / 8.0;
        self.rate = self.rate.min(most).max(LEAST);
    }

    /// Whether so many bytes may leave now.
    pub fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes as f64;
        let may = self.allowance >= bytes;
        if may {
            self.allowance -= bytes;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some moment to begin at")]
    fn some_moment() -> Instant {
        Instant::now()
    }

    /// A line with a queue, looked at every 5 ms for a minute; `others` is what else goes there, by second. Gives the bytes
    /// that left, and the longest queue in seconds.
    fn on_a_line(bytes_per_second: f64, others: impl Fn(u32) -> f64) -> (f64, f64) {
        let (mut now, step) = (some_moment(), Duration::from_millis(5));
        let mut beside = Beside::new(now);
        let (mut sent, mut queued, mut longest) = (0.0, 0.0_f64, 0.0_f64);
        // What is known of the queue is 100 ms old.
        let mut known = std::collections::VecDeque::from(vec![0.0; 20]);
        for nth in 0..12_000 {
            now += step;
            let queue = known.pop_front().unwrap_or(0.0);
            let estimate = Estimate {
                capacity_bps: 45_000_000,
                target_bps: 45_000_000,
                queue_delay: Duration::from_secs_f64(queue),
                lost_permille: 0,
                lost_in_a_row_tenths: 0,
                proven: true,
            };
            beside.pass(now, Some(estimate));
            while beside.take(1100) {
                sent += 1100.0;
                queued += 1100.0;
            }
            queued += others(nth / 200) * 0.005;
            queued = (queued - bytes_per_second * 0.005).max(0.0);
            longest = longest.max(queued / bytes_per_second);
            known.push_back(queued / bytes_per_second);
        }
        (sent, longest)
    }

    #[test]
    fn it_fills_a_line_without_a_queue_that_matters() {
        for rate in [50_000.0, 200_000.0, 1_000_000.0] {
            let (sent, longest) = on_a_line(rate, |_second| 4_000.0);
            let share = sent / 60.0 / (rate - 4_000.0);
            println!("{rate} bytes per second: {share:.2} of it, queue at most {longest:.3} s");
            assert!(share > 0.6, "{share}");
            assert!(longest < 0.035, "{longest}");
        }
    }

    #[test]
    fn it_makes_way() {
        // Pictures come after half a minute, and take three quarters.
        let (_, longest) = on_a_line(
            200_000.0,
            |second| if second < 30 { 0.0 } else { 150_000.0 },
        );
        assert!(longest < 0.4, "{longest}");
        let (sent, _) = on_a_line(200_000.0, |_| 190_000.0);
        assert!(sent / 60.0 < 25_000.0, "{sent}");
    }
}
