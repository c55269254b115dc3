//! What an incoming call sounds like: two soft strokes of a bell every three seconds. And what whoever talks hears of another
//! call, or of a connection that is gone: the same bell, lower, softer and less often.
//!
//! Made, not recorded, so that there is nothing to license and nothing to load.

use std::f64::consts::TAU;

use super::{
    Block, SAMPLE_RATE_HZ,
    source::{AudioSource, SourceState},
};

/// When strokes come, how high and how loud.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    /// From one pair of strokes to the next.
    period_seconds: f64,
    /// When the strokes of a pair begin, and their pitches.
    strokes: [(f64, f64); 2],
    /// Loudest sample of a stroke; with its overtone, and the one before still sounding, below full scale.
    amplitude: f64,
}

/// A fifth apart.
const RING: Pattern = Pattern {
    period_seconds: 3.0,
    strokes: [(0.0, 659.26), (0.35, 987.77)],
    amplitude: 0.3,
};

/// For whoever talks: they hear it and what is said to them.
const WAITING: Pattern = Pattern {
    period_seconds: 4.0,
    strokes: [(0.0, 493.88), (0.25, 659.26)],
    amplitude: 0.06,
};

/// Falling, since something is gone.
const RECONNECTING: Pattern = Pattern {
    period_seconds: 2.5,
    strokes: [(0.0, 329.63), (0.3, 246.94)],
    amplitude: 0.05,
};

/// A stroke falls to a third in this time.
const DECAY_SECONDS: f64 = 0.3;

/// It does not begin with a click.
const ATTACK_SECONDS: f64 = 0.008;

/// An octave and a fifth above, for the colour of a bell.
const OVERTONE: f64 = 3.0;
const OVERTONE_SHARE: f64 = 0.25;

/// One of these sounds, without end.
#[derive(Clone, Copy, Debug)]
pub struct RingTone {
    pattern: Pattern,
    samples: u64,
}

impl RingTone {
    /// Somebody calls. From its beginning, as the others.
    #[must_use]
    pub fn ring() -> Self {
        Self::of(RING)
    }

    /// Somebody calls whoever talks already.
    #[must_use]
    pub fn waiting() -> Self {
        Self::of(WAITING)
    }

    /// The connection of a call is gone.
    #[must_use]
    pub fn reconnecting() -> Self {
        Self::of(RECONNECTING)
    }

    fn of(pattern: Pattern) -> Self {
        let samples = 0;
        Self { pattern, samples }
    }
}

impl AudioSource for RingTone {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        for sample in block {
            let pattern = &self.pattern;
            let time = self.samples as f64 / f64::from(SAMPLE_RATE_HZ) % pattern.period_seconds;
            self.samples += 1;
            let strokes = pattern.strokes.iter().filter(|(start, _)| time >= *start);
            let sum: f64 = strokes.map(|(start, hz)| stroke(time - start, *hz)).sum();
            *sample = (pattern.amplitude * sum) as f32;
        }
        SourceState::Playing
    }
}

fn stroke(time: f64, hz: f64) -> f64 {
    let envelope = (-time / DECAY_SECONDS).exp() * (time / ATTACK_SECONDS).min(1.0);
    let wave = (TAU * hz * time).sin() + OVERTONE_SHARE * (TAU * OVERTONE * hz * time).sin();
    envelope * wave
}

#[cfg(test)]
mod tests {
    use super::{
        super::{BLOCK_SAMPLES, level::Level, source::collect},
        *,
    };

    #[test]
    fn it_rings_twice_and_pauses_and_never_clips_or_clicks() {
        let samples = collect(&mut RingTone::ring(), 600);
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

    #[test]
    fn who_talks_is_told_softly() {
        let loudest = |mut tone: RingTone| Level::of(&collect(&mut tone, 300)).peak_dbfs;
        let ring = loudest(RingTone::ring());
        for tone in [RingTone::waiting(), RingTone::reconnecting()] {
            let level = loudest(tone);
            assert!(level < ring - 12.0 && level > -30.0, "{level}");
        }
    }
}
