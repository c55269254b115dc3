//! Keeps the reference in step with the microphone.
//!
//! Speaker and microphone have crystals of their own. Both are brought to our clock, but that takes a minute, and until
//! then the echo slides against the reference by some samples a second: more than a filter of half a second can follow.
//! What is done about it on the way is known; what is not, the clocks' difference, stays the same. How far the echo has
//! slid shows in what the filter leaves: the part of it that looks like the estimate's slope. A control loop nudges the
//! rate of the reference until that is gone.

use super::{
    super::{
        BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ,
        resample::{Quality, ToBlocks},
    },
    echo_filter::LowBlock,
};

/// Samples that wait on average: the echo may slide by 10 ms in all.
const WAITING: usize = BLOCK_SAMPLES;

const CAPACITY: usize = 4 * BLOCK_SAMPLES;

/// Two crystals differ by no more.
const MAX_PPM: f64 = 400.0;

/// ppm per sample at 16 kHz that the filter lags, and per second of it.
const PROPORTIONAL: f64 = 100.0;
const INTEGRAL: f64 = 150.0;

/// How long the lag is averaged, in blocks.
const AVERAGE_BLOCKS: f64 = 30.0;

/// Passes what changes slowly enough for a slope to tell a shift: half at about 900 Hz.
const SMOOTHING: f64 = 0.3;

/// What else is heard makes a shift uncertain: the squared frequency, in radians per sample, where it counts as much as
/// the estimate itself.
const DOUBT: f64 = 0.04;

/// Power below which there is nothing to look at.
const QUIET: f64 = 1e-7;

#[derive(Debug)]
pub(super) struct Alignment {
    enabled: bool,
    resampler: ToBlocks,
    waiting: Vec<f32>,
    filled: usize,
    integral_ppm: f64,
    ppm: f64,
    /// What of it is our own doing, and needs no looking for.
    known_ppm: f64,
    product: f64,
    power: f64,
    estimate_before: [f64; 2],
    left_before: [f64; 2],
}

impl Alignment {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            resampler: ToBlocks::new(SAMPLE_RATE_HZ, Quality::Live)
                .expect("our own rate is one that is converted"),
            waiting: vec![0.0; CAPACITY],
            filled: WAITING,
            integral_ppm: 0.0,
            ppm: 0.0,
            known_ppm: 0.0,
            product: 0.0,
            power: 0.0,
            estimate_before: [0.0; 2],
            left_before: [0.0; 2],
        }
    }

    /// How much faster than the microphone's the speaker's clock seems to run, in parts per million.
    pub(super) fn ppm(&self) -> f64 {
        self.ppm
    }

    /// From here on the echo comes earlier and earlier, by this much, whatever the clocks do.
    pub(super) fn expect(&mut self, shortening_ppm: f64) {
        if self.enabled {
            self.known_ppm = shortening_ppm;
        }
    }

    /// Takes 10 ms of the reference and leaves 10 ms in its place, about 10 ms later; tells whether the two lost each
    /// other.
    pub(super) fn run(&mut self, block: &mut Block) -> bool {
        let mut jumped = false;
        if self.filled + BLOCK_SAMPLES > CAPACITY {
            self.filled = WAITING;
            jumped = true;
        }
        self.waiting[self.filled..self.filled + BLOCK_SAMPLES].copy_from_slice(block);
        self.filled += BLOCK_SAMPLES;
        self.resampler.set_correction_ppm(self.ppm + self.known_ppm);
        let wanted = self.resampler.input_samples();
        if wanted > self.filled {
            self.waiting.copy_within(..self.filled, WAITING);
            self.waiting[..WAITING].fill(0.0);
            self.filled += WAITING;
            jumped = true;
        }
        self.resampler.fill(&self.waiting[..wanted], block);
        self.waiting.copy_within(wanted..self.filled, 0);
        self.filled -= wanted;
        jumped
    }

    /// Looks at the estimate and at what it left.
    pub(super) fn look(&mut self, estimate: &LowBlock, left: &LowBlock) {
        if !self.enabled {
            return;
        }
        let (mut product, mut slope_power, mut left_power) = (0.0, 0.0, 0.0);
        let [mut before, mut estimated] = self.estimate_before;
        let [mut rest_before, mut rest] = self.left_before;
        for (&estimate, &left) in estimate.iter().zip(left) {
            let smooth = estimated + SMOOTHING * (f64::from(estimate) - estimated);
            let rest_next = rest + SMOOTHING * (f64::from(left) - rest);
            // The slope at the sample in the middle, and what is left there.
            let slope = 0.5 * (smooth - before);
            product += rest * slope;
            slope_power += slope * slope;
            left_power += rest * rest;
            (before, estimated) = (estimated, smooth);
            (rest_before, rest) = (rest, rest_next);
        }
        self.estimate_before = [before, estimated];
        self.left_before = [rest_before, rest];
        let keep = 1.0 - 1.0 / AVERAGE_BLOCKS;
        let power = slope_power + DOUBT * left_power;
        if slope_power < QUIET {
            return;
        }
        self.product = keep * self.product + product;
        self.power = keep * self.power + power;
        // Positive when the echo comes earlier than the estimate: the reference must go faster.
        let lead = (self.product / self.power).clamp(-3.0, 3.0);
        self.integral_ppm = (self.integral_ppm + 0.01 * INTEGRAL * lead).clamp(-MAX_PPM, MAX_PPM);
        self.ppm = (self.integral_ppm + PROPORTIONAL * lead).clamp(-MAX_PPM, MAX_PPM);
    }
}
