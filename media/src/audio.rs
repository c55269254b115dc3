//! Sound: where it comes from, where it goes, and what is measured on the way.
//!
//! Everything inside passes *blocks*: 10 ms of 48 kHz mono f32, nominally in -1.0..=1.0. An
//! [`AudioSource`](source::AudioSource) is pulled and an [`AudioSink`](sink::AudioSink) is handed one block per
//! tick of the caller's clock; neither has a clock or a thread of its own.

pub mod capture;
pub mod drift;
mod pace;
pub mod playout;
pub mod resample;
pub mod ring;
pub mod sink;
pub mod source;
#[cfg(test)]
mod testing;
pub mod tone;
pub mod wav;

use std::time::Duration;

/// Sample rate of everything between a device or file and the codec, in hertz.
pub const SAMPLE_RATE_HZ: u32 = 48_000;

/// Samples in one block.
pub const BLOCK_SAMPLES: usize = 480;

/// How long one block sounds.
pub const BLOCK_DURATION: Duration = Duration::from_millis(10);

/// 10 ms of 48 kHz mono samples, nominally in -1.0..=1.0.
pub type Block = [f32; BLOCK_SAMPLES];

/// A block of silence.
pub const SILENCE: Block = [0.0; BLOCK_SAMPLES];
