//! From 48 to 16 kHz and back, with linear phase: the echo is looked for where speech is.

use std::f64::consts::PI;

use super::{
    super::{BLOCK_SAMPLES, Block},
    echo_filter::{LOW_SAMPLES, LowBlock},
};

const FACTOR: usize = BLOCK_SAMPLES / LOW_SAMPLES;

/// Odd, so that the delay is a whole number of samples.
const TAPS: usize = 97;

/// Samples at 48 kHz that each way delays.
const DELAY: usize = TAPS / 2;

/// Half of the amplitude passes here, all of it below 6.8 kHz, nothing from 8.4 kHz on.
const CUT_HZ: f64 = 7_600.0;

/// Samples at 48 kHz that down and up again delay.
pub(super) const ROUND_TRIP_SAMPLES: usize = 2 * DELAY;

/// A sinc in a Kaiser window (beta 5.65: 60 dB).
fn filter() -> [f32; TAPS] {
    let bessel = |x: f64| {
        let (mut sum, mut term) = (1.0, 1.0);
        for k in 1..30 {
            term *= (x / (2.0 * f64::from(k))).powi(2);
            sum += term;
        }
        sum
    };
    let mut taps = [0.0f64; TAPS];
    for (n, tap) in taps.iter_mut().enumerate() {
        let t = n as f64 - DELAY as f64;
        let x = 2.0 * CUT_HZ / 48_000.0 * t;
        let sinc = if t == 0.0 {
            1.0
        } else {
            (PI * x).sin() / (PI * x)
        };
        let side = 1.0 - (t / (DELAY as f64 + 1.0)).powi(2);
        *tap = sinc * bessel(5.65 * side.sqrt());
    }
    let sum: f64 = taps.iter().sum();
    taps.map(|tap| (tap / sum) as f32)
}

/// A third of what a [`Decimator`] looks at.
const PHASE_SAMPLES: usize = (TAPS - 1 + BLOCK_SAMPLES) / FACTOR;

/// 48 kHz to 16 kHz.
#[derive(Debug)]
pub(super) struct Decimator {
    taps: [f32; TAPS],
    /// The last samples, then the block.
    line: [f32; TAPS - 1 + BLOCK_SAMPLES],
}

impl Decimator {
    pub(super) fn new() -> Self {
        Self {
            taps: filter(),
            line: [0.0; TAPS - 1 + BLOCK_SAMPLES],
        }
    }

    pub(super) fn run(&mut self, block: &Block, low: &mut LowBlock) {
        self.line[TAPS - 1..].copy_from_slice(block);
        // Every third sample on its own, so that a tap works on neighbours: a processor does several at once.
        let mut phases = [[0.0; PHASE_SAMPLES]; FACTOR];
        for (n, samples) in self.line.as_chunks::<FACTOR>().0.iter().enumerate() {
            for (phase, &sample) in phases.iter_mut().zip(samples) {
                phase[n] = sample;
            }
        }
        low.fill(0.0);
        // The filter is symmetric: backwards is forwards.
        for (n, &tap) in self.taps.iter().enumerate() {
            let window = &phases[n % FACTOR][n / FACTOR..][..LOW_SAMPLES];
            for (out, sample) in low.iter_mut().zip(window) {
                *out += tap * sample;
            }
        }
        self.line.copy_within(BLOCK_SAMPLES.., 0);
    }
}

/// 16 kHz to 48 kHz.
#[derive(Debug)]
pub(super) struct Interpolator {
    /// The filter's taps for each of the three samples between two.
    phases: [[f32; TAPS / FACTOR + 1]; FACTOR],
    line: [f32; TAPS / FACTOR + LOW_SAMPLES],
}

impl Interpolator {
    pub(super) fn new() -> Self {
        let taps = filter();
        let mut phases = [[0.0; TAPS / FACTOR + 1]; FACTOR];
        for (n, &tap) in taps.iter().enumerate() {
            // Oldest first, as the line has it.
            phases[n % FACTOR][TAPS / FACTOR - n / FACTOR] = FACTOR as f32 * tap;
        }
        Self {
            phases,
            line: [0.0; TAPS / FACTOR + LOW_SAMPLES],
        }
    }

    pub(super) fn run(&mut self, low: &LowBlock, block: &mut Block) {
        self.line[TAPS / FACTOR..].copy_from_slice(low);
        for (k, phase) in self.phases.iter().enumerate() {
            let mut sums: LowBlock = [0.0; LOW_SAMPLES];
            for (n, &tap) in phase.iter().enumerate() {
                for (sum, sample) in sums.iter_mut().zip(&self.line[n..][..LOW_SAMPLES]) {
                    *sum += tap * sample;
                }
            }
            for (out, sum) in block.iter_mut().skip(k).step_by(FACTOR).zip(sums) {
                *out = sum;
            }
        }
        self.line.copy_within(LOW_SAMPLES.., 0);
    }
}

/// Holds samples back for [`ROUND_TRIP_SAMPLES`].
#[derive(Debug)]
pub(super) struct Delay {
    line: [f32; ROUND_TRIP_SAMPLES + BLOCK_SAMPLES],
}

impl Delay {
    pub(super) fn new() -> Self {
        Self {
            line: [0.0; ROUND_TRIP_SAMPLES + BLOCK_SAMPLES],
        }
    }

    pub(super) fn run(&mut self, block: &mut Block) {
        self.line[ROUND_TRIP_SAMPLES..].copy_from_slice(block);
        block.copy_from_slice(&self.line[..BLOCK_SAMPLES]);
        self.line.copy_within(BLOCK_SAMPLES.., 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::SILENCE, *};

    #[test]
    fn what_goes_down_and_up_again_is_what_was_held_back() {
        for (hz, least) in [(200.0, 50.0), (3_000.0, 50.0), (6_500.0, 40.0)] {
            let (mut down, mut up, mut delay) =
                (Decimator::new(), Interpolator::new(), Delay::new());
            let mut low = [0.0; LOW_SAMPLES];
            let mut back = SILENCE;
            let (mut signal, mut error) = (0.0f64, 0.0f64);
            for n in 0..100 {
                let mut block: Block = std::array::from_fn(|k| {
                    let t = (n * BLOCK_SAMPLES + k) as f64 / 48_000.0;
                    (0.5 * (2.0 * PI * hz * t).sin()) as f32
                });
                down.run(&block, &mut low);
                up.run(&low, &mut back);
                delay.run(&mut block);
                if n > 2 {
                    for (a, b) in block.iter().zip(&back) {
                        signal += f64::from(*a).powi(2);
                        error += f64::from(a - b).powi(2);
                    }
                }
            }
            let snr = 10.0 * (signal / error).log10();
            assert!(snr > least, "{hz} Hz: {snr:.1} dB");
        }
    }
}
