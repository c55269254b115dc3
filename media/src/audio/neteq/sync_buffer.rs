//! Decoded sound on its way to the speaker: what was played, what comes next, and what kind of sound it is.

use crate::time::Block;

/// Played samples kept: 60 ms, enough for two periods of the lowest pitch.
pub(super) const HISTORY_SAMPLES: usize = 2880;

/// Samples that may wait: the longest packet twice over, and a stretch.
const FUTURE_SAMPLES: usize = 2 * 5760 + 1440;

/// Room to move before the samples are shifted down.
const SLACK_SAMPLES: usize = 4800;

/// Stretches of one kind that may wait. Neighbours of one kind merge; one more than fits is merged too.
const SEGMENTS: usize = 32;

/// Where a sample came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A received frame.
    Decoded,
    /// The sender announced silence (DTX), and this is it.
    Quiet,
    /// The copy of a lost frame in a later packet.
    Recovered,
    /// Invented.
    Concealed,
    /// Noise, because nothing came for long.
    Noise,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    origin: Origin,
    len: usize,
}

/// Samples per origin in a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mix {
    pub(super) quiet: usize,
    pub(super) recovered: usize,
    /// Concealed or noise.
    pub(super) concealed: usize,
    pub(super) noise: usize,
}

/// A line of samples: history, then future.
#[derive(Debug)]
pub(super) struct SyncBuffer {
    samples: Vec<f32>,
    next: usize,
    segments: Vec<Segment>,
    /// Samples at the end of the history that are natural: decoded or recovered, not invented.
    natural_history: usize,
}

impl SyncBuffer {
    pub(super) fn new() -> Self {
        let mut samples = Vec::with_capacity(HISTORY_SAMPLES + SLACK_SAMPLES + FUTURE_SAMPLES);
        samples.resize(HISTORY_SAMPLES, 0.0);
        Self {
            samples,
            next: HISTORY_SAMPLES,
            segments: Vec::with_capacity(SEGMENTS),
            natural_history: 0,
        }
    }

    /// Samples not played yet.
    pub(super) fn future_len(&self) -> usize {
        self.samples.len() - self.next
    }

    /// Samples that may be appended.
    pub(super) fn room(&self) -> usize {
        FUTURE_SAMPLES.saturating_sub(self.future_len())
    }

    /// The whole line, and the index of the next sample to play.
    pub(super) fn line(&self) -> (&[f32], usize) {
        (&self.samples, self.next)
    }

    /// The line, so that whoever stretches it can do so in place. Reports the change with [`Self::resized`].
    pub(super) fn line_mut(&mut self) -> (&mut Vec<f32>, usize) {
        (&mut self.samples, self.next)
    }

    /// The first waiting stretch of sound became this much longer or shorter.
    pub(super) fn resized(&mut self, by: isize) {
        if let Some(first) = self.segments.first_mut() {
            first.len = first.len.saturating_add_signed(by);
        }
    }

    /// Everything that waits is natural sound, and so are the last samples played: 0 when something invented
    /// waits, else how many.
    pub(super) fn natural_run(&self) -> usize {
        let natural = |origin| matches!(origin, Origin::Decoded | Origin::Recovered);
        if self.segments.iter().all(|segment| natural(segment.origin)) {
            self.natural_history
        } else {
            0
        }
    }

    /// Appends sound; what exceeds [`Self::room`] is dropped.
    pub(super) fn push(&mut self, samples: &[f32], origin: Origin) {
        let samples = &samples[..samples.len().min(self.room())];
        if samples.is_empty() {
            return;
        }
        if self.next > HISTORY_SAMPLES + SLACK_SAMPLES - 480 {
            let from = self.next - HISTORY_SAMPLES;
            self.samples.copy_within(from.., 0);
            self.samples.truncate(self.samples.len() - from);
            self.next = HISTORY_SAMPLES;
        }
        self.samples.extend_from_slice(samples);
        let full = self.segments.len() == SEGMENTS;
        match self.segments.last_mut() {
            Some(last) if last.origin == origin || full => {
                last.origin = last.origin.max(origin);
                last.len += samples.len();
            }
            Some(_) | None => self.segments.push(Segment {
                origin,
                len: samples.len(),
            }),
        }
    }

    /// Takes the next block. Missing samples are silence; [`Self::future_len`] tells beforehand.
    pub(super) fn pull(&mut self, out: &mut Block) -> Mix {
        let len = out.len().min(self.future_len());
        for (out, sample) in out
            .iter_mut()
            .zip(&self.samples[self.next..self.next + len])
        {
            // Two loud strangers may exceed the range in a fade.
            *out = sample.clamp(-1.0, 1.0);
        }
        out[len..].fill(0.0);
        self.next += len;
        let mut mix = Mix::default();
        let mut left = len;
        while left > 0 && !self.segments.is_empty() {
            let Segment { origin, len } = self.segments[0];
            let part = len.min(left);
            left -= part;
            match origin {
                Origin::Decoded => {}
                Origin::Quiet => mix.quiet += part,
                Origin::Recovered => mix.recovered += part,
                Origin::Concealed => mix.concealed += part,
                Origin::Noise => {
                    mix.concealed += part;
                    mix.noise += part;
                }
            }
            self.natural_history = match origin {
                Origin::Decoded | Origin::Recovered => {
                    (self.natural_history + part).min(HISTORY_SAMPLES)
                }
                Origin::Quiet | Origin::Concealed | Origin::Noise => 0,
            };
            if part == len {
                self.segments.remove(0);
            } else {
                self.segments[0].len -= part;
            }
        }
        mix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SILENT_BLOCK;

    #[test]
    fn samples_come_out_in_order_and_say_where_they_came_from() {
        let mut buffer = SyncBuffer::new();
        let ramp: Vec<f32> = (0..960).map(|n| n as f32 / 1000.0).collect();
        buffer.push(&ramp[..700], Origin::Decoded);
        buffer.push(&ramp[700..], Origin::Concealed);
        let mut out = SILENT_BLOCK;
        assert_eq!(buffer.pull(&mut out), Mix::default());
        assert_eq!(out[..], ramp[..480]);
        let mix = buffer.pull(&mut out);
        assert_eq!(out[..], ramp[480..]);
        assert_eq!(
            mix,
            Mix {
                concealed: 260,
                ..Mix::default()
            }
        );
        assert_eq!(buffer.natural_run(), 0);
    }

    #[test]
    fn the_line_never_grows_however_long_it_runs() {
        let mut buffer = SyncBuffer::new();
        let capacity = buffer.samples.capacity();
        let mut out = SILENT_BLOCK;
        for n in 0..10_000usize {
            let kind = if n % 3 == 0 {
                Origin::Concealed
            } else {
                Origin::Decoded
            };
            buffer.push(&[0.5; 5760], kind);
            buffer.pull(&mut out);
            assert!(buffer.future_len() <= FUTURE_SAMPLES);
        }
        assert_eq!(buffer.samples.capacity(), capacity);
        assert!(buffer.segments.len() <= SEGMENTS);
    }
}
