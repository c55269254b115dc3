//! Samples, codecs, jitter.
