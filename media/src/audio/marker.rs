//! Mouth to ear, measured in the sound itself.
//!
//! Every second or so a short soft chirp is mixed into a pause of what a source gives, rising and falling in turn, so
//! that two neighbours cannot be taken for each other. On the other side a matched filter finds it again: a chirp is thirty
//! milliseconds long and three kilohertz wide, which lifts it 20 dB out of noise, and it survives Opus at 32 kbit/s.
//! Loud speech would bury it; that is why it waits for a pause. Where both ends share a clock, the difference of the times is the whole way: packets,
//! network, jitter buffer. [`MouthToEar`] does the sums.
//!
//! The marker is audible as a faint tick. It is for demonstrations and tests.

use std::{collections::VecDeque, f64::consts::TAU, sync::OnceLock, time::Duration};

use super::{
    BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ, correlate,
    source::{AudioSource, SourceState},
};

/// Blocks from one marker to the next at least: a second.
pub const INTERVAL_BLOCKS: u64 = 100;

/// After so many blocks the marker is mixed in even though there was no pause.
pub const MAX_INTERVAL_BLOCKS: u64 = 300;

/// A block fainter than this is a pause, RMS: -40 dBFS.
const PAUSE_RMS: f32 = 0.01;

/// Samples of one marker, 30 ms.
pub const MARKER_SAMPLES: usize = 1440;

/// Its peak: -26 dBFS, ordinary speech peaks 20 dB higher.
const AMPLITUDE: f64 = 0.05;

/// The chirp runs through the band that every speech codec keeps.
const LOW_HZ: f64 = 700.0;
const HIGH_HZ: f64 = 3800.0;

/// A place where the matched filter answers like this holds a marker. Noise of its band reaches 0.3.
const FOUND_CORRELATION: f32 = 0.5;

/// Where it is fainter than this there is nothing to find, RMS.
const FLOOR_RMS: f32 = 1e-4;

/// The detector looks whenever it has gathered this many samples.
const LOOK_SAMPLES: usize = 9600;

/// Markers that are waited for. Older ones were lost.
const MAX_PENDING: usize = 8;

/// Delays that are kept, a few hours' worth.
const MAX_DELAYS: usize = 16_384;

/// Longer ones would be the marker after next of the same kind.
const MAX_DELAY: Duration = Duration::from_millis(1900);

/// Which way a chirp goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerKind {
    /// From low to high; the first, third… marker.
    Rising,
    /// From high to low.
    Falling,
}

impl MarkerKind {
    /// The kind of the `index`th marker.
    #[must_use]
    pub fn of(index: u64) -> Self {
        if index.is_multiple_of(2) {
            Self::Rising
        } else {
            Self::Falling
        }
    }

    /// The samples of this kind's marker, 48 kHz.
    #[must_use]
    pub fn samples(self) -> &'static [f32; MARKER_SAMPLES] {
        static RISING: OnceLock<[f32; MARKER_SAMPLES]> = OnceLock::new();
        static FALLING: OnceLock<[f32; MARKER_SAMPLES]> = OnceLock::new();
        let rising = RISING.get_or_init(|| {
            let duration = MARKER_SAMPLES as f64 / f64::from(SAMPLE_RATE_HZ);
            let slope = (HIGH_HZ - LOW_HZ) / duration;
            std::array::from_fn(|n| {
                let t = n as f64 / f64::from(SAMPLE_RATE_HZ);
                let window = 0.5 - 0.5 * (TAU * t / duration).cos();
                (AMPLITUDE * window * (TAU * (LOW_HZ * t + 0.5 * slope * t * t)).sin()) as f32
            })
        });
        match self {
            Self::Rising => rising,
            Self::Falling => {
                FALLING.get_or_init(|| std::array::from_fn(|n| rising[MARKER_SAMPLES - 1 - n]))
            }
        }
    }
}

/// Mixes markers into another source, the first into its first block if that is a pause.
#[derive(Debug)]
pub struct MarkerSource<S> {
    source: S,
    /// Markers begun.
    markers: u64,
    /// Blocks since the last one began; `None` before the first.
    since: Option<u64>,
    begun: Option<MarkerKind>,
}

impl<S: AudioSource> MarkerSource<S> {
    /// Marks what `source` gives.
    #[must_use]
    pub fn new(source: S) -> Self {
        Self {
            source,
            markers: 0,
            since: None,
            begun: None,
        }
    }

    /// The marker that begins with the first sample of the block given last, if one does: for
    /// [`MouthToEar::block_sent`].
    #[must_use]
    pub fn begun(&self) -> Option<MarkerKind> {
        self.begun
    }

    fn is_due(&self, block: &Block) -> bool {
        let rms = (block.iter().map(|s| s * s).sum::<f32>() / BLOCK_SAMPLES as f32).sqrt();
        match self.since {
            None => rms < PAUSE_RMS,
            Some(blocks) if blocks < INTERVAL_BLOCKS => false,
            Some(blocks) => rms < PAUSE_RMS || blocks >= MAX_INTERVAL_BLOCKS,
        }
    }
}

impl<S: AudioSource> AudioSource for MarkerSource<S> {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        let state = self.source.next_block(block);
        self.begun = None;
        if state == SourceState::Ended {
            return state;
        }
        if self.is_due(block) {
            self.begun = Some(MarkerKind::of(self.markers));
            self.markers += 1;
            self.since = Some(0);
        }
        if let (Some(since), Some(last)) = (&mut self.since, self.markers.checked_sub(1)) {
            let offset = usize::try_from(*since).map_or(usize::MAX, |n| n * BLOCK_SAMPLES);
            let samples = MarkerKind::of(last).samples();
            for (sample, add) in block.iter_mut().zip(samples.iter().skip(offset)) {
                *sample += add;
            }
            *since += 1;
        }
        state
    }
}

/// A marker that was heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// Which one.
    pub kind: MarkerKind,
    /// Where it begins, in samples since the detector's first.
    pub position: u64,
    /// How much like a marker it is, up to 1.0.
    pub correlation: f32,
}

/// Finds markers in a stream.
#[derive(Debug, Default)]
pub struct Detector {
    samples: Vec<f32>,
    /// Position of `samples[0]`.
    position: u64,
}

impl Detector {
    /// A detector that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next samples, 48 kHz mono, and returns markers once what follows them is known, a fifth of a second
    /// later.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Heard> {
        self.samples.extend_from_slice(samples);
        let mut heard = Vec::new();
        while self.samples.len() >= LOOK_SAMPLES + 2 * MARKER_SAMPLES {
            heard.extend(self.look(LOOK_SAMPLES));
            self.samples.drain(..LOOK_SAMPLES);
            self.position += LOOK_SAMPLES as u64;
        }
        heard
    }

    /// Looks through what is left at the end of a stream.
    pub fn finish(&mut self) -> Vec<Heard> {
        let heard = self.look(self.samples.len());
        self.position += self.samples.len() as u64;
        self.samples.clear();
        heard
    }

    /// Markers that begin within the first `limit` samples. What lies one marker beyond is known too, so that a
    /// peak at the border is reported by the look that it belongs to, and once.
    fn look(&self, limit: usize) -> Vec<Heard> {
        let mut heard = Vec::new();
        // Most of the energy of speech lies below the markers' band, and would only lower the correlation.
        let samples = correlate::band_pass(&self.samples, SAMPLE_RATE_HZ, LOW_HZ, HIGH_HZ);
        for kind in [MarkerKind::Rising, MarkerKind::Falling] {
            let answers = correlate::normalised(&samples, kind.samples(), FLOOR_RMS);
            for (n, &answer) in answers.iter().enumerate().take(limit) {
                let around = n.saturating_sub(MARKER_SAMPLES / 2)
                    ..(n + MARKER_SAMPLES / 2).min(answers.len());
                if answer >= FOUND_CORRELATION && answers[around].iter().all(|&a| a <= answer) {
                    heard.push(Heard {
                        kind,
                        position: self.position + n as u64,
                        correlation: answer,
                    });
                }
            }
        }
        heard.sort_unstable_by_key(|heard| heard.position);
        heard
    }
}

/// Delays from mouth to ear, where one clock tells the time at both.
///
/// Tell it each block that a [`MarkerSource`] gave and when, and each block that the other side played and when: the
/// time of a block's first sample in both cases. What devices add is not in it.
#[derive(Debug, Default)]
pub struct MouthToEar {
    pending: VecDeque<(MarkerKind, Duration)>,
    detector: Detector,
    heard_samples: u64,
    /// When blocks that the detector still looks through were played, with the position of their first sample.
    played: VecDeque<(u64, Duration)>,
    delays: VecDeque<Duration>,
    lost: u64,
}

impl MouthToEar {
    /// Nothing measured yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The marked source gave a block, whose first sample was spoken at `now`, and this marker begins there
    /// ([`MarkerSource::begun`]).
    pub fn block_sent(&mut self, now: Duration, begun: Option<MarkerKind>) {
        let Some(kind) = begun else { return };
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
            self.lost += 1;
        }
        self.pending.push_back((kind, now));
    }

    /// The other side played this block, whose first sample is heard at `now`.
    pub fn block_heard(&mut self, now: Duration, block: &Block) {
        self.played.push_back((self.heard_samples, now));
        self.heard_samples += block.len() as u64;
        for heard in self.detector.push(block) {
            self.note(heard);
        }
    }

    /// Looks through what came last.
    pub fn finish(&mut self) {
        for heard in self.detector.finish() {
            self.note(heard);
        }
    }

    fn note(&mut self, heard: Heard) {
        while let [_, (second, _), ..] = *self.played.make_contiguous()
            && second <= heard.position
        {
            self.played.pop_front();
        }
        let Some(&(position, played)) = self.played.front() else {
            return;
        };
        let offset = heard.position.saturating_sub(position);
        let heard_at =
            played + Duration::from_nanos(offset * 1_000_000_000 / u64::from(SAMPLE_RATE_HZ));
        // The newest marker of that kind that can have been heard by now.
        let sent = self
            .pending
            .iter()
            .rposition(|(kind, sent)| *kind == heard.kind && *sent <= heard_at);
        let Some(index) = sent else { return };
        self.lost += index as u64;
        let Some((_, sent)) = self.pending.drain(..=index).next_back() else {
            return;
        };
        let delay = heard_at.saturating_sub(sent);
        if delay > MAX_DELAY {
            self.lost += 1;
            return;
        }
        if self.delays.len() >= MAX_DELAYS {
            self.delays.pop_front();
        }
        self.delays.push_back(delay);
    }

    /// Markers that were heard.
    #[must_use]
    pub fn measured(&self) -> usize {
        self.delays.len()
    }

    /// Markers that were not, although later ones were.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The delay that `quantile` (0.0..=1.0) of the markers did not exceed.
    #[must_use]
    pub fn delay(&self, quantile: f64) -> Option<Duration> {
        let mut delays: Vec<Duration> = self.delays.iter().copied().collect();
        delays.sort_unstable();
        let last = delays.len().checked_sub(1)?;
        Some(delays[(quantile.clamp(0.0, 1.0) * last as f64).round() as usize])
    }
}

#[cfg(test)]
mod tests;
