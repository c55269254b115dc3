//! The adaptive filter: what of the speaker's sound comes back into the microphone, and how.
//!
//! A partitioned-block frequency-domain Kalman filter at 16 kHz. Each bin of each partition carries what is believed
//! of the room there and how uncertain that belief is. The step is what the uncertainty allows against what else is
//! heard at the moment, so that a near voice stops the learning by itself: no double-talk detector, and nothing is
//! unlearned while both talk. The uncertainty also says how much echo is left, for the suppressor behind.
//!
//! After G. Enzner, P. Vary, "Frequency-domain adaptive Kalman filter for acoustic echo control in hands-free
//! telephones" (2006), and F. Kuech, E. Mabande, G. Enzner, "State-space architecture of the partitioned-block-based
//! acoustic echo controller" (2014).

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

/// Samples of a block at 16 kHz: 10 ms.
pub(super) const LOW_SAMPLES: usize = 160;

/// Bins of a block's transform, 50 Hz apart.
pub(super) const LOW_BINS: usize = LOW_SAMPLES + 1;

/// A block at 16 kHz.
pub(super) type LowBlock = [f32; LOW_SAMPLES];

const FFT_SAMPLES: usize = 2 * LOW_SAMPLES;

/// Bins of a partition in memory: a multiple of what a processor does at once.
const STRIDE: usize = 168;

/// Ten milliseconds each. What devices and their rings delay (100 ms and more) and what a room rings (300 ms) fit in
/// together, so that nobody has to find out the delay first.
const PARTITIONS: usize = 48;

/// What is believed of the room fades by this much a block: rooms change, people move.
const FORGET: f32 = 0.9995;

/// The power that each bin of each partition may have at first: nothing is known.
const INITIAL_UNCERTAINTY: f32 = 0.05;

/// Power below which a bin is taken for empty: -80 dBFS of white noise.
const FLOOR: f32 = 1e-8 * LOW_SAMPLES as f32;

/// How fast the estimate of what else is heard follows.
const NEAR_SMOOTHING: f32 = 0.5;

/// How much of what is left counts as something else than echo. The rest of it is echo that was missed.
const NEAR_WEIGHT: f32 = 0.5;

/// Partitions whose circular part is removed per block, in turn. All of them would cost more than the rest together.
const CONSTRAINED_PER_BLOCK: usize = 12;

pub(super) struct EchoFilter {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    time: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    /// Spectra of the reference, the newest at `head`.
    x_re: Vec<f32>,
    x_im: Vec<f32>,
    head: usize,
    w_re: Vec<f32>,
    w_im: Vec<f32>,
    /// Of `w`: its expected squared error.
    uncertainty: Vec<f32>,
    /// Power of what is heard besides the echo.
    near: Vec<f32>,
    /// Power of the echo that is expected to be left.
    residual: Vec<f32>,
    before: LowBlock,
    next_constrained: usize,
    /// Blocks since anything was heard from the speaker.
    silent_blocks: usize,
    /// Power that may appear out of nothing, per bin, partition and block.
    curiosity: f32,
}

impl std::fmt::Debug for EchoFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EchoFilter").finish_non_exhaustive()
    }
}

impl EchoFilter {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(FFT_SAMPLES);
        let inverse = planner.plan_fft_inverse(FFT_SAMPLES);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        let all = PARTITIONS * STRIDE;
        Self {
            time: forward.make_input_vec(),
            spectrum: forward.make_output_vec(),
            scratch: vec![Complex::default(); scratch],
            forward,
            inverse,
            x_re: vec![0.0; all],
            x_im: vec![0.0; all],
            head: 0,
            w_re: vec![0.0; all],
            w_im: vec![0.0; all],
            uncertainty: vec![INITIAL_UNCERTAINTY; all],
            near: vec![0.0; STRIDE],
            residual: vec![0.0; STRIDE],
            before: [0.0; LOW_SAMPLES],
            next_constrained: 0,
            // Nothing has been heard yet.
            silent_blocks: PARTITIONS + 1,
            curiosity: 0.0,
        }
    }

    /// Forgets the room.
    pub(super) fn reset(&mut self) {
        self.w_re.fill(0.0);
        self.w_im.fill(0.0);
        self.uncertainty.fill(INITIAL_UNCERTAINTY);
    }

    /// The room may be another one: what is believed of it is kept, and doubted.
    pub(super) fn doubt(&mut self) {
        for (uncertainty, (re, im)) in self
            .uncertainty
            .iter_mut()
            .zip(self.w_re.iter().zip(&self.w_im))
        {
            *uncertainty = uncertainty.max(re * re + im * im);
        }
    }

    /// How much may change unseen, per bin and partition, as a power: more finds a new echo sooner and disturbs more.
    pub(super) fn set_curiosity(&mut self, power: f32) {
        self.curiosity = power;
    }

    /// Takes the next 10 ms of the reference and tells the echo that is expected with it.
    pub(super) fn estimate(&mut self, reference: &LowBlock, echo: &mut LowBlock) {
        let power: f32 = reference.iter().map(|sample| sample * sample).sum();
        if power > FLOOR {
            self.silent_blocks = 0;
        } else {
            self.silent_blocks = self.silent_blocks.saturating_add(1);
            if self.is_idle() {
                // Nothing of it rings any more, and nothing can be learnt.
                self.fall_silent();
                echo.fill(0.0);
                return;
            }
        }
        self.head = (self.head + PARTITIONS - 1) % PARTITIONS;
        self.time[..LOW_SAMPLES].copy_from_slice(&self.before);
        self.time[LOW_SAMPLES..].copy_from_slice(reference);
        self.before = *reference;
        self.transform();
        let at = self.head * STRIDE;
        for (bin, value) in self.spectrum.iter().enumerate() {
            self.x_re[at + bin] = value.re;
            self.x_im[at + bin] = value.im;
        }

        let mut sum_re = [0.0f32; STRIDE];
        let mut sum_im = [0.0f32; STRIDE];
        let mut residual = [0.0f32; STRIDE];
        for partition in 0..PARTITIONS {
            let x = self.slot(partition);
            let w = partition * STRIDE;
            let (x_re, x_im) = (row(&self.x_re, x), row(&self.x_im, x));
            let (w_re, w_im) = (row(&self.w_re, w), row(&self.w_im, w));
            let uncertainty = row(&self.uncertainty, w);
            for bin in 0..STRIDE {
                sum_re[bin] += x_re[bin] * w_re[bin] - x_im[bin] * w_im[bin];
                sum_im[bin] += x_re[bin] * w_im[bin] + x_im[bin] * w_re[bin];
                let power = x_re[bin] * x_re[bin] + x_im[bin] * x_im[bin];
                residual[bin] += 0.5 * power * uncertainty[bin];
            }
        }
        self.residual.copy_from_slice(&residual);
        for (bin, value) in self.spectrum.iter_mut().enumerate() {
            *value = Complex::new(sum_re[bin], sum_im[bin]);
        }
        self.back();
        echo.copy_from_slice(&self.time[LOW_SAMPLES..]);
    }

    /// Whether the speaker has been silent for so long that there is no echo.
    pub(super) fn is_idle(&self) -> bool {
        self.silent_blocks > PARTITIONS
    }

    fn fall_silent(&mut self) {
        if self.silent_blocks == PARTITIONS + 1 {
            self.x_re.fill(0.0);
            self.x_im.fill(0.0);
            self.residual.fill(0.0);
            self.before.fill(0.0);
        }
    }

    /// Power of the echo that the last estimate is expected to have missed, per bin, as a block's transform has it.
    pub(super) fn residual(&self) -> &[f32] {
        &self.residual[..LOW_BINS]
    }

    /// Learns from what the last estimate left over.
    pub(super) fn adapt(&mut self, error: &LowBlock) {
        if self.is_idle() {
            return;
        }
        self.time[..LOW_SAMPLES].fill(0.0);
        self.time[LOW_SAMPLES..].copy_from_slice(error);
        self.transform();
        let mut e_re = [0.0f32; STRIDE];
        let mut e_im = [0.0f32; STRIDE];
        let mut scale = [0.0f32; STRIDE];
        for (bin, value) in self.spectrum.iter().enumerate() {
            e_re[bin] = value.re;
            e_im[bin] = value.im;
            let power = value.norm_sqr();
            let near = &mut self.near[bin];
            *near += (1.0 - NEAR_SMOOTHING) * (power - *near);
            scale[bin] = 1.0 / (self.residual[bin] + NEAR_WEIGHT * *near + FLOOR);
        }
        let keep = FORGET * FORGET;
        let curiosity = self.curiosity;
        for partition in 0..PARTITIONS {
            let x = self.slot(partition);
            let w = partition * STRIDE;
            let (x_re, x_im) = (row(&self.x_re, x), row(&self.x_im, x));
            let (w_re, w_im) = (row_mut(&mut self.w_re, w), row_mut(&mut self.w_im, w));
            let uncertainty = row_mut(&mut self.uncertainty, w);
            for bin in 0..STRIDE {
                let gain = uncertainty[bin] * scale[bin];
                w_re[bin] += gain * (x_re[bin] * e_re[bin] + x_im[bin] * e_im[bin]);
                w_im[bin] += gain * (x_re[bin] * e_im[bin] - x_im[bin] * e_re[bin]);
                let power = x_re[bin] * x_re[bin] + x_im[bin] * x_im[bin];
                let room = w_re[bin] * w_re[bin] + w_im[bin] * w_im[bin];
                uncertainty[bin] = keep * (1.0 - 0.5 * gain * power).max(0.0) * uncertainty[bin]
                    + (1.0 - keep) * (room + curiosity);
            }
        }
        for _ in 0..CONSTRAINED_PER_BLOCK {
            self.constrain(self.next_constrained);
            self.next_constrained = (self.next_constrained + 1) % PARTITIONS;
        }
    }

    fn slot(&self, partition: usize) -> usize {
        (self.head + partition) % PARTITIONS * STRIDE
    }

    /// A partition answers within its 10 ms: what a product of transforms wraps around is taken out.
    fn constrain(&mut self, partition: usize) {
        let w = partition * STRIDE;
        for (bin, value) in self.spectrum.iter_mut().enumerate() {
            *value = Complex::new(self.w_re[w + bin], self.w_im[w + bin]);
        }
        self.back();
        self.time[LOW_SAMPLES..].fill(0.0);
        self.transform();
        for (bin, value) in self.spectrum.iter().enumerate() {
            self.w_re[w + bin] = value.re;
            self.w_im[w + bin] = value.im;
        }
    }

    fn transform(&mut self) {
        self.forward
            .process_with_scratch(&mut self.time, &mut self.spectrum, &mut self.scratch)
            .expect("the plan made all buffers' sizes");
    }

    fn back(&mut self) {
        // The inverse wants what a real signal's transform has: no imaginary part at both ends.
        self.spectrum[0].im = 0.0;
        self.spectrum[LOW_BINS - 1].im = 0.0;
        self.inverse
            .process_with_scratch(&mut self.spectrum, &mut self.time, &mut self.scratch)
            .expect("the plan made all buffers' sizes");
        for value in &mut self.time {
            *value /= FFT_SAMPLES as f32;
        }
    }
}

/// A partition's bins. Their number is known to the compiler, which then does several at once.
fn row(all: &[f32], at: usize) -> &[f32; STRIDE] {
    all[at..]
        .first_chunk()
        .expect("there are as many rows as partitions")
}

fn row_mut(all: &mut [f32], at: usize) -> &mut [f32; STRIDE] {
    all[at..]
        .first_chunk_mut()
        .expect("there are as many rows as partitions")
}
