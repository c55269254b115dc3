//! Lets through only what is spoken: where nobody speaks there is silence.

use super::{
    super::{Block, level::Level},
    speech::SpeechMeter,
};

/// How long it stays open after the last speech, in blocks: words have pauses in them, and soft ends.
const HOLD_BLOCKS: u32 = 35;

/// How fast it closes, per block; it opens within one.
const CLOSING_STEP: f32 = 0.1;

#[derive(Debug)]
pub(super) struct Gate {
    meter: SpeechMeter,
    open_for: u32,
    share: f32,
    closed_blocks: u64,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            meter: SpeechMeter::new(),
            open_for: 0,
            share: 0.0,
            closed_blocks: 0,
        }
    }

    /// Blocks of which nothing was let through.
    pub(super) fn closed_blocks(&self) -> u64 {
        self.closed_blocks
    }

    /// Takes 10 ms; `near` tells whether what is heard in them comes from here.
    pub(super) fn run(&mut self, block: &mut Block, near: bool) {
        if self.meter.look(Level::of(block).rms_dbfs) && near {
            self.open_for = HOLD_BLOCKS;
        } else {
            self.open_for = self.open_for.saturating_sub(1);
        }
        let before = self.share;
        self.share = if self.open_for > 0 {
            1.0
        } else {
            (before - CLOSING_STEP).max(0.0)
        };
        if before == 1.0 && self.share == 1.0 {
            return;
        }
        self.closed_blocks += u64::from(before == 0.0 && self.share == 0.0);
        let slope = (self.share - before) / block.len() as f32;
        for (n, sample) in block.iter_mut().enumerate() {
            // Open after a quarter of a block: consonants begin words.
            let share = if slope > 0.0 {
                (before + 4.0 * slope * n as f32).min(1.0)
            } else {
                before + slope * n as f32
            };
            *sample *= share;
        }
    }
}
