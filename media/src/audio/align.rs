//! Received sound beside what was sent: how much later it came, and how much of it is left.
//!
//! [`align`] finds the delay of the whole and of each quarter of a second: a jitter buffer stretches and shrinks, so
//! one number does not do. [`score`] compares what it aligned.
//!
//! # The score
//!
//! `ahoy-sd/1` runs from 1.0 (nothing in common) to 5.0 (the same). It is **not PESQ**, not a standard and not a
//! listener's opinion; it is there to tell a good call from a bad one and a better build from a worse one, with
//! nothing but the samples. For every 20 ms frame in which the sender speaks, both sides' power in 24 bands between
//! 100 Hz and 7.5 kHz, even on the Bark scale, is compared in decibels, after a common level difference has been taken
//! out. Differences below what a band masks are free, and no band counts more than 30 dB. Frames of windows that
//! cannot be found on the other side count as if all was lost. With the mean distortion *d* in decibels the score is
//! 1 + 4·exp(−*d* / 1.4). The constant was chosen so that speech through Opus at 32 kbit/s lands near 4.2 and falls
//! with plain concealed loss about as PESQ-WB does: near 3 at 10 %, near 2 at 20 %.

use realfft::RealFftPlanner;

use super::{SAMPLE_RATE_HZ, correlate};

/// Name of the metric of [`score`], with its version.
pub const METRIC: &str = "ahoy-sd/1";

/// Sent sound is looked for in pieces of this many samples, a quarter of a second: longer than a syllable, shorter than
/// a jitter buffer's adaptation.
pub const WINDOW_SAMPLES: usize = 12_000;

/// How far a window's delay may lie from the whole's, in samples: half a second.
const WINDOW_SEARCH_SAMPLES: usize = 24_000;

/// Below this a window has not been found: strangers reach 0.2 at times.
const FOUND_CORRELATION: f32 = 0.5;

/// Sent sound fainter than this is a pause, RMS: -50 dBFS.
const PAUSE_RMS: f32 = 0.003;

/// Frames of the score.
const FRAME_SAMPLES: usize = 960;
const FFT_SAMPLES: usize = 1024;
const BANDS: usize = 24;
const LOWEST_HZ: f64 = 100.0;
const HIGHEST_HZ: f64 = 7500.0;

/// A band this far below the loudest one of its frame is not heard beside it.
const MASKED_DB: f64 = 40.0;

/// Differences that nobody hears.
const FREE_DB: f64 = 1.5;

/// No band counts more than this.
const MAX_BAND_DB: f64 = 30.0;

/// Distortion at which the score has lost 63 % of its four points.
const DECAY_DB: f64 = 1.4;

/// Where one window of what was sent is in what was received.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowDelay {
    /// Where the window begins in what was sent, in samples.
    pub start: usize,
    /// How much later it lies in what was received, in samples. `None` if it was not found.
    pub delay_samples: Option<i64>,
    /// How well it agrees there, 0.0..=1.0.
    pub correlation: f32,
}

/// How received sound lies beside what was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// Delay of the whole, in samples.
    pub delay_samples: i64,
    /// How well the whole agrees there, 0.0..=1.0. Stretching and shrinking lower it.
    pub correlation: f32,
    /// Each window in which the sender speaks.
    pub windows: Vec<WindowDelay>,
}

impl Alignment {
    /// The share of windows that were found, 0.0..=1.0.
    #[must_use]
    pub fn found_fraction(&self) -> f64 {
        let found = self.delays().count();
        found as f64 / self.windows.len().max(1) as f64
    }

    /// How well the best window agrees, 0.0..=1.0.
    #[must_use]
    pub fn best_correlation(&self) -> f32 {
        let each = self.windows.iter().map(|window| window.correlation);
        each.fold(0.0, f32::max)
    }

    /// The delay that `quantile` (0.0..=1.0) of the found windows do not exceed, in milliseconds.
    #[must_use]
    pub fn delay_millis(&self, quantile: f64) -> Option<f64> {
        let mut delays: Vec<i64> = self.delays().collect();
        delays.sort_unstable();
        let last = delays.len().checked_sub(1)?;
        let index = (quantile.clamp(0.0, 1.0) * last as f64).round() as usize;
        Some(delays[index] as f64 * 1e3 / f64::from(SAMPLE_RATE_HZ))
    }

    fn delays(&self) -> impl Iterator<Item = i64> {
        self.windows.iter().filter_map(|w| w.delay_samples)
    }
}

/// Finds `sent` in `received`, both 48 kHz mono, beginning up to `max_delay_samples` later than it begins there.
/// `None` if it is not there.
#[must_use]
pub fn align(sent: &[f32], received: &[f32], max_delay_samples: usize) -> Option<Alignment> {
    // Room at both ends, so that every delay can be tried in full.
    let mut padded = received.to_vec();
    padded.resize(sent.len() + max_delay_samples, 0.0);
    let whole = correlate::find(&padded, sent, 1e-5)?;
    let delay_samples = i64::try_from(whole.position).ok()?;
    let mut windows = Vec::new();
    for (index, window) in sent.chunks_exact(WINDOW_SAMPLES).enumerate() {
        if rms(window) < PAUSE_RMS {
            continue;
        }
        let start = index * WINDOW_SAMPLES;
        let from = (start + whole.position).saturating_sub(WINDOW_SEARCH_SAMPLES);
        let to = (start + whole.position + WINDOW_SAMPLES + WINDOW_SEARCH_SAMPLES)
            .min(received.len())
            .max(from);
        let found = received
            .get(from..to)
            .and_then(|part| correlate::find(part, window, 0.1 * PAUSE_RMS));
        let correlation = found.map_or(0.0, |found| found.correlation.max(0.0));
        let delay_samples = found
            .filter(|found| found.correlation >= FOUND_CORRELATION)
            .and_then(|found| i64::try_from(from + found.position).ok())
            .zip(i64::try_from(start).ok())
            .map(|(position, start)| position - start);
        windows.push(WindowDelay {
            start,
            delay_samples,
            correlation,
        });
    }
    let alignment = Alignment {
        delay_samples,
        correlation: whole.correlation.max(0.0),
        windows,
    };
    // Either the whole agrees, or its parts do at changing delays.
    (alignment.correlation >= FOUND_CORRELATION || alignment.found_fraction() >= 0.5)
        .then_some(alignment)
}

/// How much of `sent` is left in `received` by the metric [`METRIC`], 1.0..=5.0. `None` if nothing was sent but
/// pauses.
///
/// `max_delay_samples` as for [`align`].
#[must_use]
pub fn score(sent: &[f32], received: &[f32], max_delay_samples: usize) -> Option<f64> {
    if sent
        .chunks_exact(WINDOW_SAMPLES)
        .all(|window| rms(window) < PAUSE_RMS)
    {
        return None;
    }
    let Some(alignment) = align(sent, received, max_delay_samples) else {
        return Some(1.0 + 4.0 * (-MAX_BAND_DB / DECAY_DB).exp());
    };
    let mut bands = Bands::new();
    let mut pairs = Vec::new();
    let mut lost_frames = 0usize;
    // Windows that were not found are looked for where the one before was: they may hold half a syllable.
    let mut delay = alignment.delay_samples;
    for window in &alignment.windows {
        delay = window.delay_samples.unwrap_or(delay);
        for frame in (window.start..window.start + WINDOW_SAMPLES).step_by(FRAME_SAMPLES) {
            let Some(sent) = sent.get(frame..frame + FRAME_SAMPLES) else {
                continue;
            };
            if rms(sent) < PAUSE_RMS {
                continue;
            }
            let begin = i64::try_from(frame)
                .unwrap_or(i64::MAX)
                .saturating_add(delay);
            let heard = usize::try_from(begin)
                .ok()
                .and_then(|begin| received.get(begin..begin + FRAME_SAMPLES));
            match heard {
                Some(heard) => pairs.push((bands.of(sent), bands.of(heard))),
                None => lost_frames += 1,
            }
        }
    }
    let distortion = distortion_db(&pairs, lost_frames);
    Some(1.0 + 4.0 * (-distortion / DECAY_DB).exp())
}

/// The mean difference of pairs of band levels in decibels.
fn distortion_db(pairs: &[([f64; BANDS], [f64; BANDS])], lost_frames: usize) -> f64 {
    let frames = pairs.len() + lost_frames;
    if frames == 0 {
        return MAX_BAND_DB;
    }
    // The louder or quieter setting of a volume is no distortion. The median does not care about gaps.
    let mut differences: Vec<f64> = pairs
        .iter()
        .flat_map(|(sent, heard)| {
            let floor = loudest(sent) - MASKED_DB / 2.0;
            sent.iter()
                .zip(heard)
                .filter(move |(sent, _)| **sent > floor)
                .map(|(sent, heard)| heard - sent)
        })
        .collect();
    differences.sort_unstable_by(f64::total_cmp);
    let gain = differences
        .get(differences.len() / 2)
        .copied()
        .unwrap_or(0.0);
    // A gain that large is a gap in most frames.
    let gain = gain.clamp(-20.0, 20.0);
    let mut sum = lost_frames as f64 * MAX_BAND_DB;
    for (sent, heard) in pairs {
        let floor = loudest(sent) - MASKED_DB;
        let mut frame = 0.0;
        for (sent, heard) in sent.iter().zip(heard) {
            let difference = (heard - gain).max(floor) - sent.max(floor);
            frame += (difference.abs() - FREE_DB).clamp(0.0, MAX_BAND_DB);
        }
        sum += frame / BANDS as f64;
    }
    sum / frames as f64
}

fn loudest(bands: &[f64; BANDS]) -> f64 {
    bands.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn rms(samples: &[f32]) -> f32 {
    let power: f32 = samples.iter().map(|s| s * s).sum();
    (power / samples.len().max(1) as f32).sqrt()
}

/// Power in bands even on the Bark scale.
struct Bands {
    fft: std::sync::Arc<dyn realfft::RealToComplex<f32>>,
    window: [f32; FRAME_SAMPLES],
    input: Vec<f32>,
    spectrum: Vec<realfft::num_complex::Complex<f32>>,
    /// First bin of each band, and one past the last.
    edges: [usize; BANDS + 1],
}

impl Bands {
    fn new() -> Self {
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(FFT_SAMPLES);
        let (lowest, highest) = (bark(LOWEST_HZ), bark(HIGHEST_HZ));
        let mut edges = [0; BANDS + 1];
        let mut bin = 1;
        for (n, edge) in edges.iter_mut().enumerate() {
            let wanted = lowest + (highest - lowest) * n as f64 / BANDS as f64;
            while bark(bin as f64 * f64::from(SAMPLE_RATE_HZ) / FFT_SAMPLES as f64) < wanted {
                bin += 1;
            }
            *edge = bin;
        }
        // The lowest bands are narrower than a bin: each gets one of its own.
        for n in 1..=BANDS {
            edges[n] = edges[n].max(edges[n - 1] + 1);
        }
        Self {
            input: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            fft,
            window: std::array::from_fn(|n| {
                let turn = (n as f32 + 0.5) / FRAME_SAMPLES as f32;
                0.5 - 0.5 * (std::f32::consts::TAU * turn).cos()
            }),
            edges,
        }
    }

    /// Levels of `frame` in decibels, of [`FRAME_SAMPLES`] samples.
    fn of(&mut self, frame: &[f32]) -> [f64; BANDS] {
        self.input.fill(0.0);
        for ((input, sample), weight) in self.input.iter_mut().zip(frame).zip(&self.window) {
            *input = sample * weight;
        }
        self.fft
            .process(&mut self.input, &mut self.spectrum)
            .expect("the plan made both buffers' sizes");
        std::array::from_fn(|n| {
            let bins = &self.spectrum[self.edges[n]..self.edges[n + 1]];
            let power: f32 = bins.iter().map(|x| x.norm_sqr()).sum();
            10.0 * f64::from(power / bins.len() as f32).max(1e-9).log10()
        })
    }
}

/// Traunmüller's Bark scale.
fn bark(hz: f64) -> f64 {
    26.81 * hz / (1960.0 + hz) - 0.53
}

#[cfg(test)]
mod tests;
