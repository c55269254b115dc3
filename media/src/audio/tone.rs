//! A sine tone: the source to test with when there is neither microphone nor file.

use std::f64::consts::TAU;

use super::{
    Block, SAMPLE_RATE_HZ,
    source::{AudioSource, SourceState},
};

/// A tone that cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ToneError {
    /// Above half the sample rate there is nothing, and a tone needs a pitch.
    #[error("a tone of {0} Hz cannot be played: choose something between 20 and 20000 Hz")]
    Frequency(f32),
    /// More than full scale would clip.
    #[error("a tone of {0} dBFS cannot be played: choose a level from -96 to 0 dBFS")]
    Level(f32),
}

/// A sine tone without end.
#[derive(Clone, Debug)]
pub struct ToneSource {
    amplitude: f64,
    /// Turns per sample.
    step: f64,
    /// Turns, 0.0..1.0.
    phase: f64,
}

impl ToneSource {
    /// A sine of `frequency_hz` in 20..=20000 whose peaks reach `level_dbfs` in -96..=0.
    ///
    /// # Errors
    /// One of them lies outside its range.
    pub fn new(frequency_hz: f32, level_dbfs: f32) -> Result<Self, ToneError> {
        if !(20.0..=20_000.0).contains(&frequency_hz) {
            return Err(ToneError::Frequency(frequency_hz));
        }
        if !(-96.0..=0.0).contains(&level_dbfs) {
            return Err(ToneError::Level(level_dbfs));
        }
        Ok(Self {
            amplitude: 10f64.powf(f64::from(level_dbfs) / 20.0),
            step: f64::from(frequency_hz) / f64::from(SAMPLE_RATE_HZ),
            phase: 0.0,
        })
    }
}

impl Default for ToneSource {
    /// 440 Hz at -20 dBFS: unmistakable, and not a shock in headphones.
    fn default() -> Self {
        Self {
            amplitude: 0.1,
            step: 440.0 / f64::from(SAMPLE_RATE_HZ),
            phase: 0.0,
        }
    }
}

impl AudioSource for ToneSource {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        for sample in block {
            *sample = (self.amplitude * (self.phase * TAU).sin()) as f32;
            self.phase = (self.phase + self.step).fract();
        }
        SourceState::Playing
    }
}

#[cfg(test)]
mod tests {
    use super::{super::source::collect, *};

    #[test]
    fn a_tone_has_the_asked_frequency_and_level_and_no_seam_between_blocks() {
        let mut tone = ToneSource::new(1000.0, -6.0206).unwrap();
        let samples = collect(&mut tone, 100);
        let peak = samples.iter().fold(0.0f32, |m, s| m.max(s.abs()));
        assert!((peak - 0.5).abs() < 1e-3, "peak {peak}");
        let rising = samples
            .windows(2)
            .filter(|w| w[0] < 0.0 && w[1] >= 0.0)
            .count();
        assert!((999..=1000).contains(&rising), "{rising} periods in 1 s");
        let jump = samples
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f32::max);
        assert!(jump <= 0.5 * 0.131 + 1e-4, "steepest step {jump}");
    }

    #[test]
    fn impossible_tones_are_refused() {
        assert_eq!(
            ToneSource::new(0.0, -20.0).unwrap_err(),
            ToneError::Frequency(0.0)
        );
        assert!(ToneSource::new(f32::NAN, -20.0).is_err());
        assert!(ToneSource::new(30_000.0, -20.0).is_err());
        assert_eq!(
            ToneSource::new(440.0, 3.0).unwrap_err(),
            ToneError::Level(3.0)
        );
    }
}
