//! Resampling between two clocks that are named alike: all but all devices run at our own 48 kHz.
//!
//! Where samples come nearly as fast as they go, the place between two samples where the next one is looked for hardly
//! moves, so one filter serves many samples in a row. That is half the work of looking one up for each, and above all it
//! stays within the few lines of memory that a thread finds warm when it wakes up every 10 ms: a general resampler's table
//! of a megabyte is cold each time.

use std::{array, f64::consts::TAU, sync::LazyLock};

use super::super::BLOCK_SAMPLES;

/// Coefficients of a filter.
const TAPS: usize = 64;

/// Filters between one sample and the next; what lies between two filters is a straight line. That is exact to 95 dB.
const PHASES: usize = 256;

/// A filter serves samples that lie this close to where it was made for, in samples: as close as the nearest of 4096.
const NEAR: f64 = 1.0 / 8192.0;

/// Silence that is there at first: the first block then takes as much as it gives.
const BEFORE: usize = TAPS - 1;

/// Samples from the beginning of a filter to its middle.
const MIDDLE: usize = TAPS / 2 - 1;

type Filter = [f32; TAPS];

/// One filter for each phase, and the one that begins a whole sample later.
static FILTERS: LazyLock<Box<[Filter]>> = LazyLock::new(|| {
    (0..=PHASES)
        .map(|phase| filter(phase as f64 / PHASES as f64))
        .collect()
});

/// Looks `phase` of a sample behind the filter's middle: a sinc in a Blackman-Harris window, flat up to 20 kHz. Between
/// clocks so close there is nothing to be removed.
fn filter(phase: f64) -> Filter {
    let weights: [f64; TAPS] = array::from_fn(|n| {
        let at = n as f64 - MIDDLE as f64 - phase;
        let sinc = if at == 0.0 {
            1.0
        } else {
            let angle = at * TAU / 2.0;
            angle.sin() / angle
        };
        let turn = TAU * (0.5 + at / TAPS as f64);
        let window = 0.358_75 - 0.488_29 * turn.cos() + 0.141_28 * (2.0 * turn).cos()
            - 0.011_68 * (3.0 * turn).cos();
        sinc * window
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| (weight / sum) as f32)
}

/// Up to two channels, as one in the first place.
#[derive(Debug)]
pub(super) struct Near {
    /// What is still needed of the past, then what is new. The second is empty while there is none.
    lines: [Vec<f32>; 2],
    /// Where in the lines the next sample is looked for, less the filter's middle; below 1 between blocks.
    at: f64,
    /// How far from sample to sample, now and from the end of the next block on.
    step: f64,
    next_step: f64,
    /// The filter of late, and what it was made for.
    filter: Filter,
    made_for: f64,
}

impl Near {
    /// By how many samples it delays.
    pub(super) const DELAY_SAMPLES: usize = BEFORE - MIDDLE;

    pub(super) fn new() -> Self {
        let room = BEFORE + 2 * BLOCK_SAMPLES;
        let mut lines = [Vec::with_capacity(room), Vec::with_capacity(room)];
        lines[0].resize(BEFORE, 0.0);
        Self {
            lines,
            at: 0.0,
            step: 1.0,
            next_step: 1.0,
            filter: FILTERS[0],
            made_for: 0.0,
        }
    }

    /// Output samples per input sample, once the next block is through.
    pub(super) fn ratio(&self) -> f64 {
        1.0 / self.next_step
    }

    /// Over the next block the ratio moves to this one.
    pub(super) fn set_ratio(&mut self, ratio: f64) {
        self.next_step = 1.0 / ratio;
    }

    /// Where the `n`-th sample of the next block is looked for. Both that count and that convert ask here, so that they
    /// agree to the last bit.
    fn place(&self, n: usize) -> f64 {
        let whole = BLOCK_SAMPLES as f64;
        let n = n as f64;
        let moved = n.min(whole);
        let change = self.next_step - self.step;
        // The step moves evenly over the block and then stays.
        self.at + n * self.step + change * (moved * (moved + 1.0) / (2.0 * whole) + (n - moved))
    }

    /// Input samples that a block of output needs.
    pub(super) fn input_samples(&self) -> usize {
        let last = self.place(BLOCK_SAMPLES - 1) as usize;
        (last + TAPS).saturating_sub(self.lines[0].len())
    }

    /// Takes in samples of the first channel, or of both, of which the second is as long or counts as silence.
    fn take(&mut self, mid: &[f32], side: Option<&[f32]>) {
        let [first, second] = &mut self.lines;
        if let Some(side) = side {
            // What was not there before was silence.
            second.resize(first.len(), 0.0);
            second.extend_from_slice(side.get(..mid.len()).unwrap_or(side));
        } else {
            second.clear();
        }
        first.extend_from_slice(mid);
        if side.is_some() {
            second.resize(first.len(), 0.0);
        }
    }

    /// Gives as many samples as there is room for and input is there, and forgets what is no longer needed. Returns how
    /// many they are.
    fn give(&mut self, mid: &mut [f32], mut side: Option<&mut [f32]>) -> usize {
        let mut given = 0;
        for (n, mid) in mid.iter_mut().enumerate() {
            let at = self.place(n);
            let whole = at as usize;
            if whole + TAPS > self.lines[0].len() {
                break;
            }
            self.follow(at - whole as f64);
            let [first, second] = &self.lines;
            *mid = look(first, whole, &self.filter);
            if let Some(side) = side.as_deref_mut().and_then(|side| side.get_mut(n)) {
                *side = look(second, whole, &self.filter);
            }
            given = n + 1;
        }
        let at = self.place(given);
        let done = (at as usize).min(self.lines[0].len());
        for line in &mut self.lines {
            line.drain(..done.min(line.len()));
        }
        (self.at, self.step) = (at - done as f64, self.next_step);
        given
    }

    /// Has the filter serve a sample at `phase` behind a whole one.
    fn follow(&mut self, phase: f64) {
        if (phase - self.made_for).abs() <= NEAR {
            return;
        }
        // As far ahead as it may be: it serves longer.
        let ahead = if self.step + self.next_step < 2.0 {
            -NEAR
        } else {
            NEAR
        };
        self.made_for = (phase + ahead).clamp(0.0, 1.0);
        let place = self.made_for * PHASES as f64;
        let row = (place as usize).min(PHASES - 1);
        let share = (place - row as f64) as f32;
        let (this, next) = (&FILTERS[row], &FILTERS[row + 1]);
        self.filter = array::from_fn(|n| this[n] + share * (next[n] - this[n]));
    }

    /// A block out of as many samples as [`Self::input_samples`] says; missing ones are silence.
    pub(super) fn fill(
        &mut self,
        [mid, side]: [&[f32]; 2],
        [block, block_side]: [&mut [f32]; 2],
        is_wide: bool,
    ) {
        let wanted = self.input_samples();
        self.take(mid.get(..wanted).unwrap_or(mid), is_wide.then_some(side));
        let line = self.place(BLOCK_SAMPLES - 1) as usize + TAPS;
        for samples in self.lines.iter_mut().take(1 + usize::from(is_wide)) {
            samples.resize(line.max(samples.len()), 0.0);
        }
        self.give(block, is_wide.then_some(block_side));
    }

    /// What a block becomes. Returns how many samples those are.
    pub(super) fn convert(
        &mut self,
        [mid, side]: [&[f32]; 2],
        into: [&mut [f32]; 2],
        is_wide: bool,
    ) -> usize {
        self.take(mid, is_wide.then_some(side));
        let [mid, side] = into;
        self.give(mid, is_wide.then_some(side))
    }
}

/// The sum of each sample from there on by its coefficient, in eight sums that a processor makes side by side; silence
/// beyond the line's end.
fn look(line: &[f32], from: usize, filter: &Filter) -> f32 {
    let Some(samples) = line.get(from..).and_then(<[f32]>::first_chunk::<TAPS>) else {
        return 0.0;
    };
    let mut sums = [0.0f32; 8];
    for (samples, filter) in samples
        .as_chunks::<8>()
        .0
        .iter()
        .zip(filter.as_chunks::<8>().0)
    {
        for ((sum, sample), weight) in sums.iter_mut().zip(samples).zip(filter) {
            *sum += sample * weight;
        }
    }
    sums.iter().sum()
}
