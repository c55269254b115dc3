//! Brings a voice to its level: digitally, slowly, and only while somebody near speaks.

use super::super::{BLOCK_DURATION, Block, level::Level};

/// Where the louder half of speech should lie.
const TARGET_DBFS: f32 = -23.0;

/// So near is near enough.
const TOLERANCE_DB: f32 = 2.0;

/// Nobody is turned up or down further than this.
const MAX_GAIN_DB: f32 = 24.0;
const MIN_GAIN_DB: f32 = -12.0;

/// Noise is turned up to this at most.
const MAX_NOISE_DBFS: f32 = -50.0;

/// The gain moves no faster, in decibels per second.
const UP_DB_PER_SECOND: f32 = 6.0;
const DOWN_DB_PER_SECOND: f32 = 24.0;

/// Speech stands out of the noise by this, and is no quieter than [`QUIETEST_DBFS`].
const ABOVE_NOISE_DB: f32 = 10.0;
const QUIETEST_DBFS: f32 = -62.0;

/// How fast the noise may seem to rise; it falls at once.
const NOISE_RISE_DB_PER_SECOND: f32 = 3.0;

/// What loud and what quiet blocks of speech count for its level.
const LOUDER_WEIGHT: f32 = 0.08;
const QUIETER_WEIGHT: f32 = 0.006;

/// Peaks end here.
const CEILING: f32 = 0.97;

#[derive(Debug)]
pub(super) struct Gain {
    noise_dbfs: f32,
    speech_dbfs: f32,
    gain_db: f32,
    factor: f32,
}

impl Gain {
    pub(super) fn new() -> Self {
        Self {
            noise_dbfs: MAX_NOISE_DBFS,
            speech_dbfs: TARGET_DBFS,
            gain_db: 0.0,
            factor: 1.0,
        }
    }

    /// Takes 10 ms; `near` tells whether what is heard in them comes from here.
    pub(super) fn run(&mut self, block: &mut Block, near: bool) {
        let level = Level::of(block).rms_dbfs;
        let seconds = BLOCK_DURATION.as_secs_f32();
        if level.is_finite() {
            let risen = self.noise_dbfs + NOISE_RISE_DB_PER_SECOND * seconds;
            self.noise_dbfs = level.max(-100.0).min(risen);
            let speech = level > self.noise_dbfs + ABOVE_NOISE_DB && level > QUIETEST_DBFS;
            if speech && near {
                self.follow(level, seconds);
            }
        }
        let peak = block.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        let wanted = 10f32
            .powf(self.gain_db / 20.0)
            .min(CEILING / peak.max(1e-6));
        let before = self.factor.min(CEILING / peak.max(1e-6));
        let slope = (wanted - before) / block.len() as f32;
        for (n, sample) in block.iter_mut().enumerate() {
            *sample *= before + slope * n as f32;
        }
        self.factor = wanted;
    }

    fn follow(&mut self, level: f32, seconds: f32) {
        let weight = if level > self.speech_dbfs {
            LOUDER_WEIGHT
        } else {
            QUIETER_WEIGHT
        };
        self.speech_dbfs += weight * (level - self.speech_dbfs);
        let most = (MAX_NOISE_DBFS - self.noise_dbfs).clamp(0.0, MAX_GAIN_DB);
        let wanted = (TARGET_DBFS - self.speech_dbfs).clamp(MIN_GAIN_DB, most);
        let off = wanted - self.gain_db;
        if off.abs() > TOLERANCE_DB {
            self.gain_db += off.clamp(-DOWN_DB_PER_SECOND * seconds, UP_DB_PER_SECOND * seconds);
        }
    }
}
