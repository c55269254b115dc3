//! Sound: where it comes from, where it goes, and what is measured on the way.
//!
//! Everything inside passes *blocks*: 10 ms of 48 kHz mono f32, nominally in -1.0..=1.0; music may have two channels,
//! in a [`WideBlock`](wide::WideBlock). An
//! [`AudioSource`](source::AudioSource) is pulled and an [`AudioSink`](sink::AudioSink) is handed one block per
//! tick of the caller's clock; neither has a clock or a thread of its own.

pub mod align;
pub mod capture;
mod correlate;
#[cfg(feature = "devices")]
pub mod device;
pub mod device_error;
pub mod drift;
pub mod level;
pub mod marker;
pub mod neteq;
pub mod opus;
mod pace;
pub mod playout;
pub mod priority;
pub mod reference;
pub mod resample;
pub mod ring;
pub mod ring_tone;
pub mod room;
pub mod sink;
pub mod source;
#[cfg(test)]
pub(crate) mod test_signal;
#[cfg(test)]
mod testing;
pub mod tone;
pub mod voice;
pub mod volume;
pub mod wav;
pub mod wide;

pub use crate::time::{
    BLOCK_DURATION, BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ, SILENT_BLOCK as SILENCE,
};
