//! Samples, codecs, jitter.
//!
//! Sound travels in *blocks*: 10 ms of 48 kHz mono `f32` in -1.0..=1.0, with a second channel for music. A microphone block goes into a
//! [`pipeline::send::SendPipeline`], which answers with an RTP packet whenever an Opus *frame* is full. The
//! network's packets go into a [`pipeline::recv::RecvPipeline`], and the speaker pulls one block from it every
//! 10 ms. Between the two stands [`audio::neteq`], which hides jitter and loss.
//! What the sender does so that loss can be repaired is decided in [`loss`].
//! Pictures are [`video`]; what keeps them together with the sound is [`sync`]. A call is written to a file by [`record`].
//!
//! Nothing here owns a clock, a thread or a socket: time is an argument.

pub mod audio;
pub mod loss;
pub mod packet;
pub mod pipeline;
pub mod rate;
pub mod record;
pub mod sync;
pub mod time;
pub mod video;
