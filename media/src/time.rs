//! Media time: 48 kHz samples, whatever the codec does inside (RFC 7587 section 4.1).

use std::time::{Duration, Instant};

/// Samples per second of everything in this crate, and the RTP clock rate of Opus.
pub const SAMPLE_RATE_HZ: u32 = 48_000;

/// Samples in a block: 10 ms.
pub const BLOCK_SAMPLES: usize = 480;

/// How long a block plays.
pub const BLOCK_DURATION: Duration = Duration::from_millis(10);

/// Samples per millisecond.
pub const SAMPLES_PER_MILLI: i64 = 48;

/// 10 ms of sound: 480 mono samples in -1.0..=1.0.
pub type Block = [f32; BLOCK_SAMPLES];

/// A block of digital silence.
pub const SILENT_BLOCK: Block = [0.0; BLOCK_SAMPLES];

/// The time that `samples` last.
#[must_use]
pub fn duration_of(samples: u64) -> Duration {
    let rate = u64::from(SAMPLE_RATE_HZ);
    let nanos = (samples % rate) * 1_000_000_000 / rate;
    Duration::from_secs(samples / rate) + Duration::from_nanos(nanos)
}

/// Whole samples in `duration`, rounded to the nearest; saturates far beyond any call.
#[must_use]
pub fn samples_in(duration: Duration) -> i64 {
    let nanos = duration.as_nanos();
    let samples = (nanos * u128::from(SAMPLE_RATE_HZ) + 500_000_000) / 1_000_000_000;
    i64::try_from(samples)
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}

/// The timestamp field of an RTP packet (RFC 3550 section 5.1): samples modulo 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RtpTimestamp(pub u32);

impl RtpTimestamp {
    /// The timestamp `samples` later.
    #[must_use]
    pub fn plus(self, samples: u32) -> Self {
        Self(self.0.wrapping_add(samples))
    }

    /// Samples from `earlier` to `self`, by the shorter way round.
    #[must_use]
    pub fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// A point on a sender's media clock that does not wrap: samples since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// The point `samples` later; negative goes back. Saturates.
    #[must_use]
    pub fn plus(self, samples: i64) -> Self {
        Self(self.0.saturating_add(samples))
    }

    /// Samples from `earlier` to `self`.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The RTP timestamp of this point.
    #[must_use]
    pub fn rtp(self) -> RtpTimestamp {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "RTP timestamps are media time modulo 2^32"
        )]
        RtpTimestamp(self.0.cast_unsigned() as u32)
    }
}

/// Counts local time in samples, so that arrival times and media times subtract.
#[derive(Debug, Clone, Copy)]
pub struct SampleClock {
    origin: Instant,
}

impl SampleClock {
    /// A clock that reads zero at `origin`.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self { origin }
    }

    /// Samples since the origin; zero before it.
    #[must_use]
    pub fn samples_at(&self, now: Instant) -> i64 {
        samples_in(now.saturating_duration_since(self.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_subtract_across_the_wrap() {
        let before = RtpTimestamp(u32::MAX - 479);
        let after = before.plus(960);
        assert_eq!(after, RtpTimestamp(480));
        assert_eq!(after.since(before), 960);
        assert_eq!(before.since(after), -960);
    }

    #[test]
    fn durations_and_samples_agree() {
        assert_eq!(samples_in(BLOCK_DURATION), 480);
        assert_eq!(duration_of(480), BLOCK_DURATION);
        assert_eq!(
            duration_of(48_000 * 3600 + 48),
            Duration::from_millis(3_600_001)
        );
        assert_eq!(samples_in(Duration::from_secs(3600)), 48_000 * 3600);
        assert!(samples_in(Duration::MAX) > 0);
    }

    #[test]
    fn media_time_knows_its_rtp_timestamp() {
        assert_eq!(MediaTime(-1).rtp(), RtpTimestamp(u32::MAX));
        assert_eq!(MediaTime((1 << 32) + 5).rtp(), RtpTimestamp(5));
    }
}
