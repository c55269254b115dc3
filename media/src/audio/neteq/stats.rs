//! What the jitter buffer did.

use std::time::Duration;

use crate::time::duration_of;

/// Width of a delay bucket.
const BUCKET_SAMPLES: i64 = 48;

/// Buckets of 1 ms; longer delays count as the last.
const BUCKETS: usize = 2000;

/// Counters since the start of the stream, and the state right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetEqStats {
    /// Distinct packets that arrived, also those too late to play.
    pub packets_received: u64,
    /// Expected minus received, before any repair. A packet under way counts until it is here.
    pub packets_lost: u64,
    /// Arrived after their time had been played or concealed.
    pub packets_late: u64,
    /// Arrived again. Not in `packets_received`.
    pub packets_duplicate: u64,
    /// Arrived and thrown away unplayed: malformed sound, an overflow, or a backlog too long to catch up with.
    pub packets_discarded: u64,
    /// Lost frames restored from the coarse copy in the packet after (in-band FEC).
    pub frames_recovered_fec: u64,
    /// Lost frames restored from the whole copy in a later packet (RED).
    pub frames_recovered_red: u64,
    /// Lost frames spoken again from the features in a later packet (deep redundancy).
    pub frames_recovered_dred: u64,
    /// Samples handed to the speaker since the first sound.
    pub rendered_samples: u64,
    /// Of these, invented ones: concealment and the noise of long gaps. Restored frames do not count.
    pub concealed_samples: u64,
    /// Separate stretches of invented sound.
    pub concealment_events: u64,
    /// Longest unbroken stretch of invented sound.
    pub longest_concealment_samples: u64,
    /// The stretch of invented sound that lasts until now: when the sender has hung up it is no fault.
    pub current_concealment_samples: u64,
    /// Samples removed to shorten the delay.
    pub accelerated_samples: u64,
    /// Samples inserted to lengthen the delay.
    pub expanded_samples: u64,
    /// From the arrival of a packet until its first sample plays, weighted by length: median.
    pub buffer_delay_p50: Duration,
    /// The same, 95th percentile.
    pub buffer_delay_p95: Duration,
    /// Playout delay that the recent jitter asks for, beyond the fastest packet.
    pub target_level: Duration,
}

impl NetEqStats {
    /// Invented sound.
    #[must_use]
    pub fn concealed(&self) -> Duration {
        duration_of(self.concealed_samples)
    }

    /// Longest unbroken stretch of invented sound.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        duration_of(self.longest_concealment_samples)
    }

    /// Invented part of all that was played, 0.0..=1.0.
    #[must_use]
    pub fn concealed_fraction(&self) -> f64 {
        if self.rendered_samples == 0 {
            0.0
        } else {
            self.concealed_samples as f64 / self.rendered_samples as f64
        }
    }
}

/// Buffer delays, weighted by the samples that had them.
#[derive(Debug)]
pub(super) struct DelayDistribution {
    buckets: Vec<u64>,
    total: u64,
}

impl DelayDistribution {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            total: 0,
        }
    }

    /// `samples` waited for `delay` samples.
    pub(super) fn record(&mut self, delay: i64, samples: u64) {
        let bucket = usize::try_from(delay.max(0) / BUCKET_SAMPLES)
            .unwrap_or(BUCKETS)
            .min(BUCKETS - 1);
        self.buckets[bucket] += samples;
        self.total += samples;
    }

    /// The delay that `fraction` of the samples did not exceed, to a millisecond.
    pub(super) fn quantile(&self, fraction: f64) -> Duration {
        let wanted = (self.total as f64 * fraction).ceil() as u64;
        let mut sum = 0;
        for (millis, count) in self.buckets.iter().enumerate() {
            sum += count;
            if sum >= wanted && sum > 0 {
                return Duration::from_millis(millis as u64);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_weigh_by_length() {
        let mut delays = DelayDistribution::new();
        assert_eq!(delays.quantile(0.5), Duration::ZERO);
        delays.record(10 * 48, 940);
        delays.record(100 * 48, 60);
        delays.record(-5, 0);
        assert_eq!(delays.quantile(0.5), Duration::from_millis(10));
        assert_eq!(delays.quantile(0.95), Duration::from_millis(100));
        delays.record(i64::MAX, 10_000);
        assert_eq!(delays.quantile(0.95), Duration::from_millis(1999));
    }
}
