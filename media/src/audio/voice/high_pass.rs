//! What lies below speech: hum, the rumble of a desk, an offset.
//!
//! A filter that takes it out turns the phase of the deepest voices, and leaves them thinner. So it is in use only while
//! there is something to take out: a rumble that goes on and is not far below the voice, or a thump that is louder than
//! all above it.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use super::{
    super::{BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ, level::Level},
    least::Least,
    speech::SpeechMeter,
};

/// Half of the power passes here. The deepest voices begin at 80 Hz.
const CUT_HZ: f64 = 70.0;

/// Rumble is what lies below this.
const RUMBLE_HZ: f64 = 60.0;

/// It is looked for in sums of so many samples: at 6 kHz.
const SUMMED: usize = 8;

/// Rumble is taken out from so far below the voice on, -18 dB, and left when it is further below than that, -21 dB. At the
/// level of speech nobody hears 50 Hz that are so faint.
const RUMBLES: f32 = 0.016;
const RUMBLES_NO_MORE: f32 = 0.008;

/// Rumble goes up and down with its own slow waves: it is averaged over 100 ms.
const RUMBLE_SMOOTHING: f32 = 0.1;

/// A thump is louder than all above it, and than this share of the voice. The filter stays for so many blocks after it.
const THUMP: f32 = 0.1;
const THUMP_BLOCKS: u32 = 100;

/// The average says nothing before.
const SETTLING_BLOCKS: u32 = 25;

/// How long a rumble is looked for in the pauses between words: three seconds.
const STRETCHES: usize = 6;
const STRETCH_BLOCKS: u32 = 50;

/// Speech over which its level is averaged, and how much of it there must have been before anything is left alone, in
/// blocks.
const AVERAGE_BLOCKS: u32 = 300;
const FIRST_BLOCKS: u32 = 30;

/// How fast the filter comes and goes, per block: 50 ms.
const FADE_STEP: f32 = 0.2;

/// A Butterworth section of second order, or one of those that make up a higher one.
#[derive(Debug)]
struct Section {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Section {
    fn new(b: [f64; 3], w: f64, quality: f64) -> Self {
        let alpha = w.sin() / (2.0 * quality);
        let a0 = 1.0 + alpha;
        Self {
            b: b.map(|b| b / a0),
            a: [-2.0 * w.cos() / a0, (1.0 - alpha) / a0],
            state: [0.0; 2],
        }
    }

    fn high_pass(cut_hz: f64, rate_hz: f64, quality: f64) -> Self {
        let w = TAU * cut_hz / rate_hz;
        let b = f64::midpoint(1.0, w.cos());
        Self::new([b, -2.0 * b, b], w, quality)
    }

    fn low_pass(cut_hz: f64, rate_hz: f64, quality: f64) -> Self {
        let w = TAU * cut_hz / rate_hz;
        let b = f64::midpoint(1.0, -w.cos());
        Self::new([b, 2.0 * b, b], w, quality)
    }

    fn step(&mut self, x: f64) -> f64 {
        let [b0, b1, b2] = self.b;
        let [a1, a2] = self.a;
        let y = b0 * x + self.state[0];
        self.state = [b1 * x - a1 * y + self.state[1], b2 * x - a2 * y];
        y
    }
}

/// The filter, which comes and goes.
#[derive(Debug)]
pub(super) struct HighPass {
    filter: Section,
    rumble: Rumble,
    /// In use whether there is anything to take out or not.
    always: bool,
    share: f32,
}

impl HighPass {
    pub(super) fn new(leave_clean_alone: bool) -> Self {
        Self {
            filter: Section::high_pass(CUT_HZ, f64::from(SAMPLE_RATE_HZ), FRAC_1_SQRT_2),
            rumble: Rumble::new(),
            always: !leave_clean_alone,
            share: 1.0,
        }
    }

    /// Whether anything is taken out.
    pub(super) fn is_in_use(&self) -> bool {
        self.share > 0.0
    }

    /// Takes 10 ms; with an echo in the room the filter is in use whether there is rumble or not, for what is left of the
    /// echo down there is not clean either.
    pub(super) fn run(&mut self, block: &mut Block, echo_is_present: bool) {
        let mut passed = *block;
        for sample in &mut passed {
            *sample = self.filter.step(f64::from(*sample)) as f32;
        }
        let rumbles = self.rumble.look(block, &passed);
        let wanted = if self.always || echo_is_present || rumbles {
            1.0
        } else {
            0.0
        };
        let before = self.share;
        self.share += (wanted - before).clamp(-FADE_STEP, FADE_STEP);
        if before == 1.0 && self.share == 1.0 {
            *block = passed;
        } else if before > 0.0 || self.share > 0.0 {
            let slope = (self.share - before) / block.len() as f32;
            for (n, (sample, passed)) in block.iter_mut().zip(passed).enumerate() {
                *sample += (before + slope * n as f32) * (passed - *sample);
            }
        }
    }
}

/// Whether there is rumble.
#[derive(Debug)]
struct Rumble {
    low_pass: [Section; 2],
    meter: SpeechMeter,
    /// Power of the voice, and over how much speech that was averaged.
    speech_power: f32,
    speech_blocks: u32,
    /// Power of what goes on below it, and the least of that.
    low_power: f32,
    least: Least<STRETCHES>,
    blocks: u32,
    thump_blocks: u32,
    rumbles: bool,
}

impl Rumble {
    fn new() -> Self {
        let rate_hz = f64::from(SAMPLE_RATE_HZ) / SUMMED as f64;
        // The two qualities of a Butterworth filter of fourth order.
        let section = |quality| Section::low_pass(RUMBLE_HZ, rate_hz, quality);
        Self {
            low_pass: [section(0.541_196), section(1.306_563)],
            meter: SpeechMeter::new(),
            speech_power: 0.0,
            speech_blocks: 0,
            low_power: 0.0,
            least: Least::new(f32::INFINITY),
            blocks: 0,
            thump_blocks: 0,
            // Until more is known.
            rumbles: true,
        }
    }

    /// Takes 10 ms, and what of them passed the filter.
    fn look(&mut self, block: &Block, passed: &Block) -> bool {
        let mut sum = 0.0;
        for samples in block.as_chunks::<SUMMED>().0 {
            let mean = samples.iter().sum::<f32>() / SUMMED as f32;
            let [first, second] = &mut self.low_pass;
            sum += second.step(first.step(f64::from(mean))).powi(2);
        }
        let low = sum as f32 / (BLOCK_SAMPLES / SUMMED) as f32;
        let level = Level::of(passed).rms_dbfs;
        let high = 10f32.powf(level / 10.0);
        if self.meter.look(level) {
            self.speech_blocks = (self.speech_blocks + 1).min(AVERAGE_BLOCKS);
            self.speech_power += (high - self.speech_power) / self.speech_blocks as f32;
        }
        self.low_power += RUMBLE_SMOOTHING * (low - self.low_power);
        if self.blocks >= SETTLING_BLOCKS {
            self.least.note(self.low_power);
        }
        self.blocks += 1;
        if self.blocks.is_multiple_of(STRETCH_BLOCKS) {
            self.least.turn((self.blocks / STRETCH_BLOCKS) as usize);
        }
        self.thump_blocks = if low > high && low > THUMP * self.speech_power {
            THUMP_BLOCKS
        } else {
            self.thump_blocks.saturating_sub(1)
        };
        if self.speech_blocks >= FIRST_BLOCKS {
            let limit = if self.rumbles {
                RUMBLES_NO_MORE
            } else {
                RUMBLES
            };
            self.rumbles = self.least.value() > limit * self.speech_power;
        }
        self.rumbles || self.thump_blocks > 0
    }
}
