//! Samples, codecs, jitter.

pub mod audio;
