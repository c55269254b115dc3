//! What the filter leaves of the echo, and noise: one gain per 50 Hz and 10 ms, for both.
//!
//! The echo that is left is told from near speech by two things. The filter says how uncertain it is; and where the
//! residual was least against the echo's estimate within the last seconds, nobody spoke: that ratio is what the
//! filter leaves in that band. Noise is what never goes away. What the gain digs below the noise is filled up again,
//! so that the other side hears a steady room and not a hole where the echo was.
//!
//! Taking out noise costs speech, and where the voice is far above it in a band nobody hears the noise: there it is taken
//! out the less the further it is below, and in the end not at all.

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

use super::{
    super::{BLOCK_SAMPLES, Block},
    VoiceConfig,
    echo_filter::LOW_BINS,
    least::Least,
};

/// Two blocks at a time.
const WINDOW: usize = 2 * BLOCK_SAMPLES;

const BINS: usize = WINDOW / 2 + 1;

/// Up to here, 6.8 kHz, the filter removes echo. Above, what becomes of the band below is done too.
const CANCELLED_BINS: usize = 136;

/// The band that speaks for those above.
const HIGH_FROM_BIN: usize = 70;

/// A block at 16 kHz has a transform of this power against that of a window at 48 kHz.
const LOW_POWER: f32 = 9.0;

/// The least gain against echo: -46 dB.
const ECHO_FLOOR: f32 = 0.005;

/// The least gain against noise, in decibels. Less leaves more noise, more takes consonants along.
const NOISE_FLOOR_DB: f32 = -15.0;

/// So far below the voice of its band, in decibels, all is done against noise that can be; this far, nothing.
const LOUD_NOISE_DB: f32 = 22.0;
const FAINT_NOISE_DB: f32 = 34.0;

/// What is this many times stronger than the noise of its band is the voice.
const VOICE_FACTOR: f32 = 10.0;

/// Blocks of voice over which its power in a band is averaged, and how many there must have been first.
const VOICE_BLOCKS: f32 = 300.0;
const FIRST_VOICE_BLOCKS: f32 = 30.0;

/// Noise below this is heard by nobody, and taking it out would only cost speech: nothing is done about it. Ten decibels
/// louder all is done that can be.
const INAUDIBLE_NOISE_DBFS: f32 = -80.0;
const AUDIBLE_NOISE_DBFS: f32 = -70.0;

/// The residual echo is taken for this much more than it was at its least.
const LEAK_BIAS: f32 = 2.5;

/// How much of the last window's echo still rings in this one.
const TAIL: f32 = 0.5;

/// How much the last window's outcome says about this one.
const DECISION: f32 = 0.9;

/// Edges of the bands in which the filter's residual is judged, in bins of 50 Hz.
const BANDS: [usize; 17] = [
    2,
    5,
    8,
    11,
    14,
    18,
    22,
    27,
    32,
    38,
    45,
    53,
    62,
    74,
    90,
    110,
    CANCELLED_BINS,
];
const BAND_COUNT: usize = BANDS.len() - 1;

/// Edges of the bands in which the noise is held against the voice: the same ones, and those above. What lies below the
/// first is rumble, about which the noise of a voice's band says more than its own.
const NOISE_BANDS: [usize; BAND_COUNT + 4] = {
    let mut edges = [BINS; BAND_COUNT + 4];
    let mut n = 0;
    while n <= BAND_COUNT {
        edges[n] = BANDS[n];
        n += 1;
    }
    edges[BAND_COUNT + 1] = 180;
    edges[BAND_COUNT + 2] = 240;
    edges
};
const NOISE_BAND_COUNT: usize = NOISE_BANDS.len() - 1;

/// The least is looked for within this many stretches of [`STRETCH_BLOCKS`]: what the filter leaves changes, noise is
/// what is there in a pause, and some sentences have none for four seconds.
const LEAK_STRETCHES: usize = 8;
const NOISE_STRETCHES: usize = 12;
const STRETCH_BLOCKS: u32 = 40;

/// Sound that begins has no noise yet that could be measured.
const SETTLING_BLOCKS: u32 = 5;

/// Power of a bin that no microphone is quiet enough for: -120 dBFS of white noise.
const SILENT: f32 = 1e-12 * BLOCK_SAMPLES as f32;

/// Power of a window below which nothing is heard: -80 dBFS of white noise.
const QUIET: f32 = 1e-8 * BLOCK_SAMPLES as f32;

pub(super) struct Suppressor {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    time: Vec<f32>,
    scratch: Vec<Complex<f32>>,
    rest: Vec<Complex<f32>>,
    echo: Vec<Complex<f32>>,
    rest_before: Block,
    echo_before: Block,
    overlap: Block,
    uncertainty_before: [f32; LOW_BINS],
    echo_power: Vec<f32>,
    /// Power of the echo that is taken to be left, where there is a filter.
    residual: Vec<f32>,
    clean_power: Vec<f32>,
    gains: Vec<f32>,
    band_rest: [f32; BAND_COUNT],
    band_echo: [f32; BAND_COUNT],
    leak: [Least<LEAK_STRETCHES>; BAND_COUNT],
    noise: Vec<f32>,
    noise_smooth: Vec<f32>,
    noise_least: Vec<Least<NOISE_STRETCHES>>,
    noise_known: bool,
    sounding_blocks: u32,
    blocks: u32,
    random: u32,
    /// Against noise, beside echo.
    against_noise: bool,
    /// As far as it is not too faint beside the voice, unless there is an echo.
    leave_clean_alone: bool,
    echo_is_present: bool,
    /// Power of the voice in each band, and the blocks over which that was averaged.
    voice: [f32; NOISE_BAND_COUNT],
    voice_blocks: [f32; NOISE_BAND_COUNT],
    /// The least gain against noise, for each bin.
    floors: Vec<f32>,
    /// How much of the noise is worth taking out.
    noise_share: f32,
}

impl std::fmt::Debug for Suppressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppressor").finish_non_exhaustive()
    }
}

impl Suppressor {
    /// Whether noise is taken out beside what is left of the echo.
    pub(super) fn set_against_noise(&mut self, against_noise: bool) {
        self.against_noise = against_noise;
    }

    pub(super) fn new(config: VoiceConfig) -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(WINDOW);
        let inverse = planner.plan_fft_inverse(WINDOW);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        let window = (0..WINDOW)
            .map(|n| (std::f32::consts::PI * (n as f32 + 0.5) / WINDOW as f32).sin())
            .collect();
        Self {
            window,
            time: forward.make_input_vec(),
            scratch: vec![Complex::default(); scratch],
            rest: forward.make_output_vec(),
            echo: forward.make_output_vec(),
            forward,
            inverse,
            rest_before: [0.0; BLOCK_SAMPLES],
            echo_before: [0.0; BLOCK_SAMPLES],
            overlap: [0.0; BLOCK_SAMPLES],
            uncertainty_before: [0.0; LOW_BINS],
            echo_power: vec![0.0; BINS],
            residual: vec![0.0; CANCELLED_BINS],
            clean_power: vec![0.0; BINS],
            gains: vec![1.0; BINS],
            band_rest: [0.0; BAND_COUNT],
            band_echo: [0.0; BAND_COUNT],
            leak: [Least::new(1.0); BAND_COUNT],
            noise: vec![0.0; BINS],
            noise_smooth: vec![0.0; BINS],
            noise_least: vec![Least::new(f32::INFINITY); BINS],
            noise_known: false,
            sounding_blocks: 0,
            blocks: 0,
            random: 1,
            against_noise: config.noise_suppression,
            leave_clean_alone: config.leave_clean_alone,
            echo_is_present: false,
            voice: [0.0; NOISE_BAND_COUNT],
            voice_blocks: [0.0; NOISE_BAND_COUNT],
            floors: vec![amplitude(NOISE_FLOOR_DB); BINS],
            noise_share: 0.0,
        }
    }

    /// Level of the noise, where that is taken out and known.
    pub(super) fn noise_dbfs(&self) -> Option<f32> {
        if !self.against_noise || !self.noise_known {
            return None;
        }
        // A window has half of its samples' power, and each bin stands for two but the first and the last.
        let power = 4.0 * self.noise.iter().sum::<f32>() / (WINDOW * WINDOW) as f32;
        Some(10.0 * power.max(1e-12).log10())
    }

    /// The filter begins anew: what it leaves over is not known any more.
    pub(super) fn forget_leak(&mut self) {
        self.leak = [Least::new(1.0); BAND_COUNT];
    }

    /// Whether there is an echo in this room, be it silent at the moment. What is left of it is like noise, and the voice
    /// is not clean whatever is done: then all is done against noise that can be.
    pub(super) fn note_echo(&mut self, present: bool) {
        self.echo_is_present = present;
    }

    /// Takes 10 ms of what the filter left in `block`, with the echo that it took out and the power per bin that it
    /// may have missed, all of the same time; `None` where there is no echo to care about. Leaves the 10 ms before.
    pub(super) fn run(&mut self, block: &mut Block, echo: Option<(&Block, &[f32])>) {
        analyse(
            &self.forward,
            &self.window,
            &mut self.time,
            &mut self.scratch,
            &mut self.rest_before,
            block,
            &mut self.rest,
        );
        if let Some((echo, _)) = echo {
            analyse(
                &self.forward,
                &self.window,
                &mut self.time,
                &mut self.scratch,
                &mut self.echo_before,
                echo,
                &mut self.echo,
            );
        } else {
            self.echo_before.fill(0.0);
            self.echo.fill(Complex::default());
        }
        // A device that gives nothing at all says nothing about the noise of the room.
        let silent = self.rest.iter().all(|bin| bin.norm_sqr() < SILENT);
        self.sounding_blocks = if silent {
            0
        } else {
            self.sounding_blocks.saturating_add(1)
        };
        if self.sounding_blocks > SETTLING_BLOCKS {
            self.follow_noise();
        }
        self.follow_leak();
        self.blocks += 1;
        self.find_gains(echo.map(|(_, uncertainty)| uncertainty));
        if self.against_noise && self.leave_clean_alone && self.sounding_blocks > SETTLING_BLOCKS {
            self.find_floors();
        }
        self.apply(!silent);
        self.synthesise(block);
    }

    fn follow_noise(&mut self) {
        let turn = self.blocks % STRETCH_BLOCKS == STRETCH_BLOCKS - 1;
        let stretch = (self.blocks / STRETCH_BLOCKS) as usize;
        for bin in 0..BINS {
            let power = self.rest[bin].norm_sqr();
            let smooth = &mut self.noise_smooth[bin];
            *smooth = if self.noise_known {
                0.75 * *smooth + 0.25 * power
            } else {
                power
            };
            let least = &mut self.noise_least[bin];
            least.note(*smooth);
            let value = least.value();
            let noise = &mut self.noise[bin];
            // Not far above its least: that is noise as it goes up and down.
            if *smooth < 5.0 * value {
                *noise += 0.08 * (power.min(8.0 * value) - *noise);
            }
            *noise = noise.clamp(value, 4.0 * value);
            if turn {
                least.turn(stretch);
            }
        }
        self.noise_known = true;
        self.noise_share = self.noise_dbfs().map_or(0.0, |level| {
            let range = AUDIBLE_NOISE_DBFS - INAUDIBLE_NOISE_DBFS;
            ((level - INAUDIBLE_NOISE_DBFS) / range).clamp(0.0, 1.0)
        });
    }

    /// How far down noise is taken next time, from how far it is below the voice.
    fn find_floors(&mut self) {
        let power = |of: &[Complex<f32>]| -> f32 { of.iter().map(|x| x.norm_sqr()).sum() };
        let clean: f32 = self.clean_power[..CANCELLED_BINS].iter().sum();
        // What an echo leaves is no voice.
        let near = clean > power(&self.echo[..CANCELLED_BINS]) + self.residual.iter().sum::<f32>();
        for band in 0..NOISE_BAND_COUNT {
            let bins = NOISE_BANDS[band]..NOISE_BANDS[band + 1];
            let voice: f32 = self.clean_power[bins.clone()].iter().sum();
            let noise: f32 = self.noise[bins.clone()].iter().sum();
            if near && voice > VOICE_FACTOR * noise {
                let blocks = &mut self.voice_blocks[band];
                *blocks = (*blocks + 1.0).min(VOICE_BLOCKS);
                self.voice[band] += (voice - self.voice[band]) / *blocks;
            }
            // Where no voice was ever heard there is only noise, and what was heard for a moment may be anything.
            let below_db = if self.echo_is_present || self.voice_blocks[band] < FIRST_VOICE_BLOCKS {
                0.0
            } else {
                10.0 * (self.voice[band] / noise.max(SILENT)).max(1.0).log10()
            };
            let range = FAINT_NOISE_DB - LOUD_NOISE_DB;
            let depth = ((FAINT_NOISE_DB - below_db) / range).clamp(0.0, 1.0);
            let from = if band == 0 { 0 } else { bins.start };
            self.floors[from..bins.end].fill(amplitude(depth * NOISE_FLOOR_DB));
        }
    }

    fn follow_leak(&mut self) {
        let turn = self.blocks % STRETCH_BLOCKS == STRETCH_BLOCKS - 1;
        let stretch = (self.blocks / STRETCH_BLOCKS) as usize;
        for band in 0..BAND_COUNT {
            let bins = BANDS[band]..BANDS[band + 1];
            let sum = |of: &[Complex<f32>]| -> f32 {
                of[bins.clone()].iter().map(|x| x.norm_sqr()).sum()
            };
            let (rest, echo) = (sum(&self.rest), sum(&self.echo));
            let noise: f32 = self.noise[bins.clone()].iter().sum();
            let quiet = QUIET * bins.len() as f32;
            let (band_rest, band_echo) = (&mut self.band_rest[band], &mut self.band_echo[band]);
            *band_rest = 0.7 * *band_rest + 0.3 * rest;
            *band_echo = 0.7 * *band_echo + 0.3 * echo;
            // Only an echo well above the noise tells what is left of it.
            if *band_echo > 10.0 * (noise + quiet) {
                self.leak[band].note((*band_rest - noise).max(0.1 * noise) / *band_echo);
            }
            if turn && self.leak[band].is_noted() {
                self.leak[band].turn(stretch);
            }
        }
    }

    fn find_gains(&mut self, uncertainty: Option<&[f32]>) {
        let mut residual = [0.0f32; BINS];
        self.residual.fill(0.0);
        if let Some(uncertainty) = uncertainty {
            for band in 0..BAND_COUNT {
                let leak = (LEAK_BIAS * self.leak[band].value()).min(1.0);
                let from = if band == 0 { 0 } else { BANDS[band] };
                for bin in from..BANDS[band + 1] {
                    let power = self.echo[bin].norm_sqr();
                    let tail = &mut self.echo_power[bin];
                    *tail = power.max(TAIL * *tail);
                    let believed = uncertainty[bin].max(self.uncertainty_before[bin]) * LOW_POWER;
                    residual[bin] = (leak * *tail).max(believed);
                }
            }
            self.uncertainty_before
                .copy_from_slice(&uncertainty[..LOW_BINS]);
            self.residual.copy_from_slice(&residual[..CANCELLED_BINS]);
        } else {
            self.echo_power.fill(0.0);
            self.uncertainty_before.fill(0.0);
        }
        let (mut wanted, mut heard) = (QUIET, QUIET);
        for (bin, &echo) in residual.iter().enumerate() {
            let power = self.rest[bin].norm_sqr();
            let noise = self.noise_share * self.noise[bin];
            let unwanted = echo + noise;
            if unwanted <= 1e-12 {
                self.gains[bin] = 1.0;
            } else {
                let after = power / unwanted;
                let before = DECISION * self.clean_power[bin] / unwanted
                    + (1.0 - DECISION) * (after - 1.0).max(0.0);
                let floor = (echo * ECHO_FLOOR + noise * self.floors[bin]) / unwanted;
                self.gains[bin] = (before / (1.0 + before)).max(floor);
            }
            if (HIGH_FROM_BIN..CANCELLED_BINS).contains(&bin) {
                wanted += self.gains[bin] * self.gains[bin] * power;
                heard += (self.rest[bin] + self.echo[bin]).norm_sqr();
            }
        }
        if uncertainty.is_some() {
            // Nothing is cancelled up there: what is not the near voice below is not above either.
            let share = (wanted / heard).min(1.0);
            let gain = if share > 0.5 {
                1.0
            } else {
                (2.0 * share).max(ECHO_FLOOR)
            };
            for bin in CANCELLED_BINS..BINS {
                self.gains[bin] *= gain;
            }
        }
        for bin in 0..BINS {
            let gain = self.gains[bin];
            self.clean_power[bin] = gain * gain * self.rest[bin].norm_sqr();
        }
    }

    fn apply(&mut self, fill: bool) {
        for bin in 0..BINS {
            let gain = self.gains[bin];
            let left = self.clean_power[bin];
            self.rest[bin] *= gain;
            let floor = if self.against_noise {
                self.floors[bin]
            } else {
                1.0
            };
            let missing = floor * floor * self.noise[bin] - left;
            if fill && missing > 0.0 && gain < 0.5 {
                self.random = self
                    .random
                    .wrapping_mul(1_664_525)
                    .wrapping_add(1_013_904_223);
                let turn = (self.random >> 8) as f32 / (1u32 << 24) as f32 * std::f32::consts::TAU;
                self.rest[bin] += Complex::from_polar(missing.sqrt(), turn);
            }
        }
    }

    fn synthesise(&mut self, block: &mut Block) {
        self.rest[0].im = 0.0;
        self.rest[BINS - 1].im = 0.0;
        self.inverse
            .process_with_scratch(&mut self.rest, &mut self.time, &mut self.scratch)
            .expect("the plan made all buffers' sizes");
        for (sample, window) in self.time.iter_mut().zip(&self.window) {
            *sample *= window / WINDOW as f32;
        }
        for (n, sample) in block.iter_mut().enumerate() {
            *sample = self.overlap[n] + self.time[n];
        }
        self.overlap.copy_from_slice(&self.time[BLOCK_SAMPLES..]);
    }
}

fn amplitude(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

fn analyse(
    forward: &Arc<dyn RealToComplex<f32>>,
    window: &[f32],
    time: &mut [f32],
    scratch: &mut [Complex<f32>],
    before: &mut Block,
    block: &Block,
    spectrum: &mut [Complex<f32>],
) {
    for n in 0..BLOCK_SAMPLES {
        time[n] = before[n] * window[n];
        time[BLOCK_SAMPLES + n] = block[n] * window[BLOCK_SAMPLES + n];
    }
    *before = *block;
    forward
        .process_with_scratch(time, spectrum, scratch)
        .expect("the plan made all buffers' sizes");
}
