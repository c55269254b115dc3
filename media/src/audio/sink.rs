//! Where blocks go: a file, memory, nowhere; a speaker looks the same.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Block, wide::WideBlock};

/// Why a sink took no more.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The recording could not be written: the disk is full, or the file went away.
    #[error(
        "cannot write the recording {path}: {source}; make room or choose another place for it"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A WAV file holds at most 4 GiB, that is twelve hours.
    #[error("the recording {path} has reached the size a WAV file can have; start a new one")]
    Full {
        /// The file.
        path: PathBuf,
    },
}

/// Takes 10 ms each time there are some.
pub trait AudioSink: Send + fmt::Debug {
    /// Takes 10 ms of 48 kHz mono sound. Samples beyond -1.0..=1.0 are clipped where the destination needs it.
    ///
    /// # Errors
    /// The destination cannot take it; the call need not end for that.
    fn write_block(&mut self, block: &Block) -> Result<(), SinkError>;

    /// The same with two channels, where they are there and the sink has a place for them: else their mix.
    ///
    /// # Errors
    /// As [`Self::write_block`].
    fn write_wide(&mut self, block: &WideBlock) -> Result<(), SinkError> {
        self.write_block(&block.mid)
    }

    /// Brings everything taken so far to its destination. Writing may go on afterwards.
    ///
    /// # Errors
    /// As [`Self::write_block`].
    fn finish(&mut self) -> Result<(), SinkError>;
}

impl<S: AudioSink + ?Sized> AudioSink for Box<S> {
    fn write_block(&mut self, block: &Block) -> Result<(), SinkError> {
        (**self).write_block(block)
    }

    fn write_wide(&mut self, block: &WideBlock) -> Result<(), SinkError> {
        (**self).write_wide(block)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        (**self).finish()
    }
}

/// Takes everything, keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl AudioSink for NullSink {
    fn write_block(&mut self, _: &Block) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Keeps what it was given in memory, up to a limit. Clones share the same samples, so that one can be read
/// while the other is written.
#[derive(Clone, Debug)]
pub struct SampleSink {
    samples: Arc<Mutex<Vec<f32>>>,
    limit_samples: usize,
}

impl SampleSink {
    /// Keeps the first `limit_samples` samples.
    #[must_use]
    pub fn new(limit_samples: usize) -> Self {
        Self {
            samples: Arc::default(),
            limit_samples,
        }
    }

    /// A copy of what came so far: 48 kHz mono.
    #[must_use]
    pub fn samples(&self) -> Vec<f32> {
        self.samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl AudioSink for SampleSink {
    fn write_block(&mut self, block: &Block) -> Result<(), SinkError> {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.limit_samples.saturating_sub(samples.len());
        samples.extend_from_slice(&block[..room.min(block.len())]);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_in_memory_keeps_no_more_than_its_limit() {
        let mut sink = SampleSink::new(500);
        let reader = sink.clone();
        sink.write_block(&[0.25; 480]).unwrap();
        assert_eq!(reader.samples().len(), 480);
        sink.write_block(&[0.5; 480]).unwrap();
        sink.write_block(&[0.5; 480]).unwrap();
        sink.finish().unwrap();
        assert_eq!(reader.samples().len(), 500);
        assert_eq!(reader.samples()[499], 0.5);
    }
}
