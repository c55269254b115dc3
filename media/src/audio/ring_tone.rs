//! What an incoming call sounds like: two soft strokes of a bell every three seconds.
//!
//! Made, not recorded, so that there is nothing to license and nothing to load.

use std::f64::consts::TAU;

use super::{
    Block, SAMPLE_RATE_HZ,
    source::{AudioSource, SourceState},
};

/// From one pair of strokes to the next.
const PERIOD_SECONDS: f64 = 3.0;

/// When the strokes of a pair begin, and their pitches: a fifth apart.
const STROKES: [(f64, f64); 2] = [(0.0, 659.26), (0.35, 987.77)];

/// A stroke falls to a third in this time.
const DECAY_SECONDS: f64 = 0.3;

/// It does not begin with a click.
const ATTACK_SECONDS: f64 = 0.008;

/// Loudest sample of a stroke; with its overtone, and the one before still sounding, below full scale.
const AMPLITUDE: f64 = 0.3;

/// An octave and a fifth above, for the colour of a bell.
const OVERTONE: f64 = 3.0;
const OVERTONE_SHARE: f64 = 0.25;

/// The ring, without end.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingTone {
    samples: u64,
}

impl RingTone {
    /// From its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl AudioSource for RingTone {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        for sample in block {
            let time = self.samples as f64 / f64::from(SAMPLE_RATE_HZ) % PERIOD_SECONDS;
            self.samples += 1;
            *sample = STROKES
                .iter()
                .filter(|(start, _)| time >= *start)
                .map(|(start, hz)| stroke(time - start, *hz))
                .sum::<f64>() as f32;
        }
        SourceState::Playing
    }
}

fn stroke(time: f64, hz: f64) -> f64 {
    let envelope = (-time / DECAY_SECONDS).exp() * (time / ATTACK_SECONDS).min(1.0);
    let wave = (TAU * hz * time).sin() + OVERTONE_SHARE * (TAU * OVERTONE * hz * time).sin();
    AMPLITUDE * envelope * wave
}

#[cfg(test)]
mod tests {
    use super::{
        super::{BLOCK_SAMPLES, level::Level, source::collect},
        *,
    };

    #[test]
    fn it_rings_twice_and_pauses_and_never_clips_or_clicks() {
        let samples = collect(&mut RingTone::new(), 600);
        let level = |from: f64, to: f64| {
            let at = |seconds: f64| (seconds * 48_000.0) as usize;
            Level::of(&samples[at(from)..at(to)])
        };
        assert_eq!(samples.len(), 600 * BLOCK_SAMPLES);
        assert!(level(0.0, 6.0).peak_dbfs < -3.0);
        assert!(level(0.0, 0.3).rms_dbfs > -25.0);
        assert!(level(0.4, 0.7).rms_dbfs > -25.0);
        assert!(level(2.5, 3.0).rms_dbfs < -60.0);
        assert_eq!(level(0.0, 3.0), level(3.0, 6.0));
        let jump = samples
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).abs())
            .fold(0.0, f32::max);
        assert!(jump < 0.15, "{jump}");
    }
}
