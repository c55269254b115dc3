//! Where blocks come from: a file, a tone, silence; a microphone looks the same.

use std::fmt;

use super::{Block, SILENCE, wide::WideBlock};

/// What a source had to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SourceState {
    /// The block holds the next 10 ms.
    Playing,
    /// There is nothing left. The block is silence, now and from here on.
    Ended,
}

/// Gives the next 10 ms each time it is asked.
///
/// A source has no clock: whoever pulls it decides how fast it plays.
pub trait AudioSource: Send + fmt::Debug {
    /// Overwrites all of `block` with the next 10 ms of 48 kHz mono sound.
    ///
    /// A source that ends fills the rest of its last block with silence, calls that block
    /// [`SourceState::Playing`], and says [`SourceState::Ended`] from the next one on.
    fn next_block(&mut self, block: &mut Block) -> SourceState;

    /// The same with two channels, where the source has them. One or the other each time: both move on.
    fn next_wide(&mut self, block: &mut WideBlock) -> SourceState {
        block.set_mono();
        self.next_block(&mut block.mid)
    }
}

impl<S: AudioSource + ?Sized> AudioSource for Box<S> {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        (**self).next_block(block)
    }

    fn next_wide(&mut self, block: &mut WideBlock) -> SourceState {
        (**self).next_wide(block)
    }
}

/// Silence without end.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilenceSource;

impl AudioSource for SilenceSource {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        *block = SILENCE;
        SourceState::Playing
    }
}

/// Samples from memory, once.
#[derive(Clone, Debug)]
pub struct SampleSource {
    samples: Vec<f32>,
    position: usize,
}

impl SampleSource {
    /// Plays `samples`, 48 kHz mono, once.
    #[must_use]
    pub fn new(samples: Vec<f32>) -> Self {
        Self {
            samples,
            position: 0,
        }
    }
}

impl AudioSource for SampleSource {
    fn next_block(&mut self, block: &mut Block) -> SourceState {
        *block = SILENCE;
        let rest = self.samples.get(self.position..).unwrap_or_default();
        if rest.is_empty() {
            return SourceState::Ended;
        }
        let count = rest.len().min(block.len());
        block[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        SourceState::Playing
    }
}

/// Pulls `source` until it ends or `limit_blocks` have come, and returns the samples.
pub fn collect(source: &mut dyn AudioSource, limit_blocks: usize) -> Vec<f32> {
    let mut samples = Vec::new();
    let mut block = SILENCE;
    for _ in 0..limit_blocks {
        match source.next_block(&mut block) {
            SourceState::Playing => samples.extend_from_slice(&block),
            SourceState::Ended => break,
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_from_memory_come_once_and_end_in_silence() {
        let mut source = SampleSource::new(vec![0.5; 500]);
        let mut block = [1.0; 480];
        assert_eq!(source.next_block(&mut block), SourceState::Playing);
        assert_eq!(block, [0.5; 480]);
        assert_eq!(source.next_block(&mut block), SourceState::Playing);
        assert_eq!(block[..20], [0.5; 20]);
        assert_eq!(block[20..], [0.0; 460]);
        block = [1.0; 480];
        assert_eq!(source.next_block(&mut block), SourceState::Ended);
        assert_eq!(block, SILENCE, "an ended source leaves silence behind");
    }

    #[test]
    fn silence_overwrites_what_was_in_the_block() {
        let mut block = [0.7; 480];
        assert_eq!(SilenceSource.next_block(&mut block), SourceState::Playing);
        assert_eq!(block, SILENCE);
    }
}
