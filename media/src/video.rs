//! Pictures: where they come from, what becomes of them on the way, where they go.
//!
//! A picture travels as a [`frame::Frame`]: I420, 8 bits, with the time at which it was taken. Codecs stand behind
//! [`codec::VideoEncoder`] and [`codec::VideoDecoder`], and are compiled with the feature `video`; everything else here
//! needs none.

#[cfg(feature = "video")]
pub mod av1;
#[cfg(all(feature = "video", target_os = "linux"))]
pub mod camera;
pub mod codec;
pub mod content;
pub mod feedback;
pub mod frame;
pub mod frame_buffer;
#[cfg(feature = "video")]
pub mod h264;
pub mod ladder;
pub mod latest;
mod layers;
pub mod live;
pub mod packet;
pub mod pattern;
mod protect;
pub mod quality;
pub mod recv;
pub mod reference;
pub mod retransmit;
pub mod scale;
#[cfg(feature = "video")]
pub mod screen;
pub mod send;
pub mod sink;
pub mod source;
#[cfg(feature = "video")]
pub mod stage;
pub mod trouble;
pub mod worker;
pub mod y4m;
