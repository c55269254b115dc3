//! Percentiles of durations, in bounded memory.

use std::time::Duration;

use super::Percentiles;

/// Values are kept to one part in `2^SUB_BITS`: better than 1 % after taking the middle of a bucket.
const SUB_BITS: u32 = 6;
/// Longest duration told apart, in microseconds: over an hour. Longer ones count as this.
const MAX_MICROS: u64 = (1 << 32) - 1;
/// Buckets that exist for [`MAX_MICROS`]; the memory never grows past this.
const MAX_BUCKETS: usize = ((33 - SUB_BITS as usize) << SUB_BITS) + (1 << SUB_BITS);

/// Counts durations in buckets whose width grows with the value.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Grown as far as values need, at most [`MAX_BUCKETS`].
    counts: Vec<u64>,
    total: u64,
    max_micros: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(MAX_MICROS);
        let micros = micros.min(MAX_MICROS);
        let bucket = bucket_of(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max_micros = self.max_micros.max(micros);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The value that `percent` of all are not above, in milliseconds. `None` when nothing was counted.
    #[must_use]
    pub fn percentile_millis(&self, percent: u8) -> Option<f64> {
        // The nearest rank: the smallest value with at least that many at or below it.
        let rank = (self.total * u64::from(percent.min(100)))
            .div_ceil(100)
            .max(1);
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                let (low, width) = bounds_of(bucket);
                let middle = (low + width / 2).min(self.max_micros);
                return Some(round(middle as f64 / 1000.0));
            }
        }
        None
    }

    /// Median and 95th percentile in milliseconds. `None` when nothing was counted.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50: self.percentile_millis(50)?,
            p95: self.percentile_millis(95)?,
        })
    }
}

/// Hundredths are as exact as any of these numbers gets.
pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn bucket_of(micros: u64) -> usize {
    let magnitude = (u64::BITS - micros.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let position = micros >> magnitude;
    // Each magnitude above the first adds the upper half of its positions.
    let bucket = (u64::from(magnitude) << SUB_BITS) + position;
    usize::try_from(bucket)
        .unwrap_or(MAX_BUCKETS)
        .min(MAX_BUCKETS)
}

/// The lowest value of a bucket, and how many values it holds.
fn bounds_of(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    let sub = 1 << SUB_BITS;
    if bucket < 2 * sub {
        return (bucket, 1);
    }
    let magnitude = (bucket >> SUB_BITS) - 1;
    let position = bucket - (magnitude << SUB_BITS);
    (position << magnitude, 1 << magnitude)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket(micros in 0..=MAX_MICROS) {
            let (low, width) = bounds_of(bucket_of(micros));
            prop_assert!(low <= micros && micros < low + width, "{low} {micros} {width}");
            prop_assert!(bucket_of(micros) < MAX_BUCKETS);
        }

        #[test]
        fn percentiles_agree_with_a_sorted_list(
            values in prop::collection::vec(0u64..20_000_000, 1..200),
            percent in 1u8..=100,
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(Duration::from_micros(*value));
            }
            let mut sorted = values;
            sorted.sort_unstable();
            let rank = (sorted.len() * usize::from(percent)).div_ceil(100).max(1);
            let exact = sorted[rank - 1] as f64 / 1000.0;
            let told = histogram.percentile_millis(percent).unwrap();
            prop_assert!((told - exact).abs() <= exact * 0.01 + 0.006, "{told} for {exact}");
        }
    }

    #[test]
    fn nothing_counted_is_nothing_told() {
        assert_eq!(Histogram::default().percentiles(), None);
    }

    #[test]
    fn memory_stays_bounded_whatever_comes() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        histogram.record(Duration::ZERO);
        assert!(histogram.counts.len() <= MAX_BUCKETS);
        assert_eq!(histogram.percentile_millis(1), Some(0.0));
    }
}
