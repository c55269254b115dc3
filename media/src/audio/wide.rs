//! A block of one channel or of two.
//!
//! Two channels are kept as what they have in common, *mid*, and by how much they differ from it, *side*: the left is
//! their sum, the right their difference. Whoever cares for one channel only takes [`WideBlock::mid`], which is the mix,
//! and is all that there is of most sound.

use super::{Block, SILENCE};

/// 10 ms of sound in one channel or in two.
#[derive(Clone, Debug, PartialEq)]
pub struct WideBlock {
    /// The mix of both channels; the one channel where there is one.
    pub mid: Block,
    side: Block,
    is_stereo: bool,
}

impl WideBlock {
    /// Silence in one channel.
    pub const SILENCE: Self = Self {
        mid: SILENCE,
        side: SILENCE,
        is_stereo: false,
    };

    /// One channel.
    #[must_use]
    pub fn mono(mid: &Block) -> Self {
        Self {
            mid: *mid,
            ..Self::SILENCE
        }
    }

    /// Two channels.
    #[must_use]
    pub fn stereo(left: &Block, right: &Block) -> Self {
        let mut this = Self::SILENCE;
        this.set_frames(left.iter().zip(right).map(|(left, right)| [*left, *right]));
        this
    }

    /// What the left channel has more than the mix, and the right less; none where there is one channel.
    #[must_use]
    pub fn side(&self) -> Option<&Block> {
        self.is_stereo.then_some(&self.side)
    }

    /// Whether there are two channels.
    #[must_use]
    pub fn is_stereo(&self) -> bool {
        self.is_stereo
    }

    /// From here on there is one channel.
    pub fn set_mono(&mut self) {
        self.is_stereo = false;
    }

    /// From here on there are two channels: both parts, to be overwritten. What is in the second is left over from
    /// before.
    pub fn set_stereo(&mut self) -> (&mut Block, &mut Block) {
        self.is_stereo = true;
        (&mut self.mid, &mut self.side)
    }

    /// Silence in one channel, from here on.
    pub fn silence(&mut self) {
        self.mid = SILENCE;
        self.is_stereo = false;
    }

    /// Adds another, in two channels if one of them has two; no louder than full scale.
    pub fn add(&mut self, other: &Self) {
        if let Some(added) = other.side() {
            if !self.is_stereo {
                self.side = SILENCE;
            }
            self.is_stereo = true;
            for (sample, added) in self.side.iter_mut().zip(added) {
                *sample += added;
            }
        }
        for (sample, added) in self.mid.iter_mut().zip(&other.mid) {
            *sample += added;
        }
        for (mid, side) in self.mid.iter_mut().zip(&mut self.side) {
            let of_side = if self.is_stereo { *side } else { 0.0 };
            let frame = left_right([*mid, of_side]).map(|sample| sample.clamp(-1.0, 1.0));
            [*mid, *side] = mid_side(frame);
        }
    }

    /// Takes two channels, left and right; silence where there are too few samples.
    pub fn set_frames(&mut self, frames: impl Iterator<Item = [f32; 2]>) {
        let (mid, side) = self.set_stereo();
        let frames = frames.chain(std::iter::repeat([0.0; 2]));
        for ((mid, side), frame) in mid.iter_mut().zip(side).zip(frames) {
            [*mid, *side] = mid_side(frame);
        }
    }

    /// Left and right, the same in both where there is one channel.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = [f32; 2]> {
        let is_stereo = self.is_stereo;
        let both = self.mid.iter().zip(&self.side);
        both.map(move |(mid, side)| left_right([*mid, if is_stereo { *side } else { 0.0 }]))
    }
}

impl Default for WideBlock {
    fn default() -> Self {
        Self::SILENCE
    }
}

/// Mid and side of a left and a right sample.
#[must_use]
pub fn mid_side([left, right]: [f32; 2]) -> [f32; 2] {
    [(left + right) * 0.5, (left - right) * 0.5]
}

/// Left and right of a sample's two parts.
#[must_use]
pub fn left_right([mid, side]: [f32; 2]) -> [f32; 2] {
    [mid + side, mid - side]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_channels_are_taken_apart_and_put_together() {
        let (left, right) = ([0.5; 480], [-0.25; 480]);
        let block = WideBlock::stereo(&left, &right);
        assert_eq!(block.mid, [0.125; 480]);
        assert_eq!(block.side(), Some(&[0.375; 480]));
        assert!(block.frames().all(|frame| frame == [0.5, -0.25]));
        assert_eq!(block.frames().len(), 480);
    }

    #[test]
    fn one_channel_is_the_same_on_both_sides_whatever_was_there_before() {
        let mut block = WideBlock::stereo(&[1.0; 480], &[-1.0; 480]);
        block.set_mono();
        block.mid = [0.25; 480];
        assert_eq!(block.side(), None);
        assert!(block.frames().all(|frame| frame == [0.25, 0.25]));
        block.set_frames([[0.5, 0.0]].into_iter());
        assert_eq!(block.frames().next(), Some([0.5, 0.0]));
        assert_eq!(block.frames().nth(1), Some([0.0, 0.0]));
    }
}
