//! Decoded sound on its way to the speaker: what was played, what comes next, and what kind of sound it is.

use super::stretch::{Channels, Line};
use crate::audio::wide::{WideBlock, left_right};

/// Played samples kept: 60 ms, enough for two periods of the lowest pitch.
pub(super) const HISTORY_SAMPLES: usize = 2880;

/// Samples that may wait: the longest packet twice over, and a stretch.
const FUTURE_SAMPLES: usize = 2 * 5760 + 1440;

/// Room to move before the samples are shifted down.
const SLACK_SAMPLES: usize = 4800;

/// Samples that there is room for.
const CAPACITY_SAMPLES: usize = HISTORY_SAMPLES + SLACK_SAMPLES + FUTURE_SAMPLES;

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
    line: Line,
    next: usize,
    segments: Vec<Segment>,
    /// Samples at the end of the history that are natural: decoded or recovered, not invented.
    natural_history: usize,
}

impl SyncBuffer {
    pub(super) fn new() -> Self {
        let mut mid = Vec::with_capacity(CAPACITY_SAMPLES);
        mid.resize(HISTORY_SAMPLES, 0.0);
        Self {
            line: Line {
                mid,
                side: Vec::new(),
            },
            next: HISTORY_SAMPLES,
            segments: Vec::with_capacity(SEGMENTS),
            natural_history: 0,
        }
    }

    /// Whether there are two channels.
    pub(super) fn is_wide(&self) -> bool {
        !self.line.side.is_empty()
    }

    /// From here on there are two channels, of which everything so far has the same in both. Allocates, once.
    pub(super) fn widen(&mut self) {
        if !self.is_wide() {
            let Line { mid, side } = &mut self.line;
            side.reserve_exact(CAPACITY_SAMPLES);
            side.resize(mid.len(), 0.0);
        }
    }

    /// From here on there is one channel: the mix of both.
    pub(super) fn narrow(&mut self) {
        self.line.side.clear();
    }

    /// Samples not played yet.
    pub(super) fn future_len(&self) -> usize {
        self.line.len() - self.next
    }

    /// Samples that may be appended.
    pub(super) fn room(&self) -> usize {
        FUTURE_SAMPLES.saturating_sub(self.future_len())
    }

    /// The whole line, and the index of the next sample to play.
    pub(super) fn line(&self) -> (Channels<'_>, usize) {
        (self.line.channels(), self.next)
    }

    /// The line, so that whoever stretches it can do so in place. Reports the change with [`Self::resized`].
    pub(super) fn line_mut(&mut self) -> (&mut Line, usize) {
        (&mut self.line, self.next)
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

    /// Appends sound; what exceeds [`Self::room`] is dropped. Without a second channel, it is the same in both.
    pub(super) fn push(&mut self, [samples, side]: [&[f32]; 2], origin: Origin) {
        let samples = &samples[..samples.len().min(self.room())];
        if samples.is_empty() {
            return;
        }
        if self.next > HISTORY_SAMPLES + SLACK_SAMPLES - 480 {
            let from = self.next - HISTORY_SAMPLES;
            for line in self.line.channels_mut() {
                line.copy_within(from.., 0);
                line.truncate(line.len() - from);
            }
            self.next = HISTORY_SAMPLES;
        }
        let is_wide = self.is_wide();
        self.line.mid.extend_from_slice(samples);
        if is_wide {
            let side = &side[..side.len().min(samples.len())];
            self.line.side.extend_from_slice(side);
            self.line.side.resize(self.line.mid.len(), 0.0);
        }
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
    pub(super) fn pull(&mut self, out: &mut WideBlock) -> Mix {
        let len = out.mid.len().min(self.future_len());
        let range = self.next..self.next + len;
        // Two loud strangers may exceed the range in a fade.
        if let Some(side) = self.line.side.get(range.clone()).filter(|_| self.is_wide()) {
            let frames = self.line.mid[range].iter().zip(side);
            let clamped = frames.map(|(mid, side)| {
                let frame = left_right([*mid, *side]);
                frame.map(|sample| sample.clamp(-1.0, 1.0))
            });
            out.set_frames(clamped);
        } else {
            out.set_mono();
            for (out, sample) in out.mid.iter_mut().zip(&self.line.mid[range]) {
                *out = sample.clamp(-1.0, 1.0);
            }
            out.mid[len..].fill(0.0);
        }
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

    #[test]
    fn samples_come_out_in_order_and_say_where_they_came_from() {
        let mut buffer = SyncBuffer::new();
        let ramp: Vec<f32> = (0..960).map(|n| n as f32 / 1000.0).collect();
        buffer.push([&ramp[..700], &[]], Origin::Decoded);
        buffer.push([&ramp[700..], &[]], Origin::Concealed);
        let mut out = WideBlock::SILENCE;
        assert_eq!(buffer.pull(&mut out), Mix::default());
        assert_eq!(out.mid[..], ramp[..480]);
        let mix = buffer.pull(&mut out);
        assert_eq!(out.mid[..], ramp[480..]);
        assert!(!out.is_stereo());
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
        let mut out = WideBlock::SILENCE;
        let mut capacity = buffer.line.mid.capacity();
        for n in 0..10_000usize {
            match n % 3000 {
                1000 => buffer.widen(),
                2000 => buffer.narrow(),
                _ordinary => {}
            }
            let kind = if n % 3 == 0 {
                Origin::Concealed
            } else {
                Origin::Decoded
            };
            buffer.push([&[0.5; 5760], &[0.25; 5760]], kind);
            buffer.pull(&mut out);
            assert!(buffer.future_len() <= FUTURE_SAMPLES);
            assert_eq!(out.is_stereo(), buffer.is_wide());
        }
        capacity -= buffer.line.mid.capacity();
        assert_eq!(capacity, 0);
        assert_eq!(buffer.line.side.capacity(), buffer.line.mid.capacity());
        assert!(buffer.segments.len() <= SEGMENTS);
    }
}
