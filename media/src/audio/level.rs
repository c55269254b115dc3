//! How loud it is.

use super::wide::WideBlock;

/// What silence reads as, in dBFS: the step of a 16-bit sample.
pub const FLOOR_DBFS: f32 = -96.0;

/// How fast a meter falls, in decibels per second. It rises at once.
const FALL_DB_PER_SECOND: f32 = 30.0;

/// A level in decibels relative to full scale, where a sample of 1.0 is 0 dBFS; from [`FLOOR_DBFS`] up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Root mean square. A full-scale sine reads -3 dBFS.
    pub rms_dbfs: f32,
    /// The largest sample, whatever its sign. Above 0 it will clip.
    pub peak_dbfs: f32,
}

impl Level {
    /// Silence.
    pub const SILENCE: Self = Self {
        rms_dbfs: FLOOR_DBFS,
        peak_dbfs: FLOOR_DBFS,
    };

    /// The level of `samples`, nominally in -1.0..=1.0.
    #[must_use]
    pub fn of(samples: &[f32]) -> Self {
        let power: f64 = samples.iter().map(|&s| f64::from(s).powi(2)).sum();
        let rms = (power / samples.len().max(1) as f64).sqrt();
        let peak = samples.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        Self {
            rms_dbfs: to_dbfs(rms),
            peak_dbfs: to_dbfs(f64::from(peak)),
        }
    }
}

impl Level {
    /// The level of both channels, where there are two: the larger peak, and the power that both have on average.
    #[must_use]
    pub fn of_wide(block: &WideBlock) -> Self {
        if !block.is_stereo() {
            return Self::of(&block.mid);
        }
        let power = |sample: f32| f64::from(sample).powi(2);
        let power: f64 = block
            .frames()
            .map(|[left, right]| (power(left) + power(right)) / 2.0)
            .sum();
        let peak = block
            .frames()
            .flatten()
            .fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        Self {
            rms_dbfs: to_dbfs((power / block.mid.len() as f64).sqrt()),
            peak_dbfs: to_dbfs(f64::from(peak)),
        }
    }
}

/// An amplitude in dBFS, from [`FLOOR_DBFS`] up.
fn to_dbfs(amplitude: f64) -> f32 {
    // Written so that NaN reads as silence.
    ((20.0 * amplitude.log10()) as f32).max(FLOOR_DBFS)
}

/// A level for the eye: up at once, down slowly.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    level: Level,
}

impl Meter {
    /// A meter at rest.
    #[must_use]
    pub fn new() -> Self {
        Self {
            level: Level::SILENCE,
        }
    }

    /// Takes the next samples, 48 kHz mono, and shows the level.
    pub fn update(&mut self, samples: &[f32]) -> Level {
        let fall = FALL_DB_PER_SECOND * samples.len() as f32 / super::SAMPLE_RATE_HZ as f32;
        let now = Level::of(samples);
        self.level = Level {
            rms_dbfs: now.rms_dbfs.max(self.level.rms_dbfs - fall),
            peak_dbfs: now.peak_dbfs.max(self.level.peak_dbfs - fall),
        };
        self.level
    }

    /// What it shows.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{SILENCE, source::collect, tone::ToneSource},
        *,
    };

    #[test]
    fn a_full_scale_sine_reads_minus_three_and_zero() {
        let level = Level::of(&collect(&mut ToneSource::new(1000.0, 0.0).unwrap(), 10));
        assert!((level.rms_dbfs + 3.01).abs() < 0.01, "{level:?}");
        assert!(level.peak_dbfs.abs() < 0.01, "{level:?}");
    }

    #[test]
    fn silence_nothing_and_nonsense_read_as_the_floor() {
        assert_eq!(Level::of(&SILENCE), Level::SILENCE);
        assert_eq!(Level::of(&[]), Level::SILENCE);
        assert_eq!(Level::of(&[f32::NAN]).rms_dbfs, FLOOR_DBFS);
    }

    #[test]
    fn a_meter_rises_at_once_and_falls_slowly() {
        let mut meter = Meter::new();
        assert!((meter.update(&[0.1; 480]).rms_dbfs + 20.0).abs() < 0.01);
        let level = meter.update(&SILENCE);
        assert!((level.rms_dbfs + 20.3).abs() < 0.01, "0.3 dB in 10 ms");
        for _ in 0..300 {
            meter.update(&SILENCE);
        }
        assert_eq!(meter.level(), Level::SILENCE);
    }
}
