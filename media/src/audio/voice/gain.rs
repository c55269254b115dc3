//! Brings a voice to its level: digitally, slowly, and only where it is far from it.
//!
//! A voice that is loud enough is left alone to the last bit: a gain that follows every word does more harm than one
//! that is a few decibels off.

use super::{
    super::{BLOCK_DURATION, Block, level::Level},
    speech::SpeechMeter,
};

/// Where speech should lie on average, pauses left out.
const TARGET_DBFS: f32 = -22.0;

/// So far from it nobody minds: the gain begins to move beyond this, and then moves until it is near.
const LEFT_ALONE_DB: f32 = 8.0;
const NEAR_ENOUGH_DB: f32 = 1.0;

/// Nobody is turned up or down further than this.
const MAX_GAIN_DB: f32 = 24.0;
const MIN_GAIN_DB: f32 = -12.0;

/// Noise is turned up to this at most.
const MAX_NOISE_DBFS: f32 = -50.0;

/// The gain moves no faster, in decibels per second of speech.
const UP_DB_PER_SECOND: f32 = 4.0;
const DOWN_DB_PER_SECOND: f32 = 12.0;

/// Speech over which its level is averaged, and how much of it there must have been first, in blocks.
const AVERAGE_BLOCKS: u32 = 300;
const FIRST_BLOCKS: u32 = 150;

/// Peaks that were turned up bend from here on, so that they end below full scale.
const KNEE: f32 = 0.7;

#[derive(Debug)]
pub(super) struct Gain {
    meter: SpeechMeter,
    speech_power: f32,
    speech_blocks: u32,
    gain_db: f32,
    moving: bool,
    factor: f32,
}

impl Gain {
    pub(super) fn new() -> Self {
        Self {
            meter: SpeechMeter::new(),
            speech_power: 0.0,
            speech_blocks: 0,
            gain_db: 0.0,
            moving: false,
            factor: 1.0,
        }
    }

    /// In use now, in decibels.
    pub(super) fn db(&self) -> f32 {
        self.gain_db
    }

    /// Takes 10 ms; `near` tells whether what is heard in them comes from here.
    pub(super) fn run(&mut self, block: &mut Block, near: bool) {
        let level = Level::of(block).rms_dbfs;
        if self.meter.look(level) && near {
            self.follow(level);
        }
        let before = self.factor;
        self.factor = 10f32.powf(self.gain_db / 20.0);
        let slope = (self.factor - before) / block.len() as f32;
        if slope == 0.0 && before == 1.0 {
            return;
        }
        for (n, sample) in block.iter_mut().enumerate() {
            let factor = before + slope * n as f32;
            *sample = bent(*sample * factor, sample.abs());
        }
    }

    fn follow(&mut self, level_dbfs: f32) {
        self.speech_blocks = (self.speech_blocks + 1).min(AVERAGE_BLOCKS);
        let power = 10f32.powf(level_dbfs / 10.0);
        self.speech_power += (power - self.speech_power) / self.speech_blocks as f32;
        if self.speech_blocks < FIRST_BLOCKS {
            return;
        }
        let speech_dbfs = 10.0 * self.speech_power.log10();
        let most = (MAX_NOISE_DBFS - self.meter.noise_dbfs()).clamp(0.0, MAX_GAIN_DB);
        let wanted = (TARGET_DBFS - speech_dbfs).clamp(MIN_GAIN_DB, most);
        let off = wanted - self.gain_db;
        let limit = if self.moving {
            NEAR_ENOUGH_DB
        } else {
            LEFT_ALONE_DB
        };
        self.moving = off.abs() > limit;
        if self.moving {
            let seconds = BLOCK_DURATION.as_secs_f32();
            self.gain_db += off.clamp(-DOWN_DB_PER_SECOND * seconds, UP_DB_PER_SECOND * seconds);
        }
    }
}

/// What was turned up to more than [`KNEE`], and by more than nothing, ends softly below full scale.
fn bent(sample: f32, before: f32) -> f32 {
    let size = sample.abs();
    if size <= KNEE.max(before) {
        return sample;
    }
    let from = KNEE.max(before.min(0.99));
    let room = 1.0 - from;
    (from + room * ((size - from) / room).tanh()).copysign(sample)
}
