//! What every codec does for us.

use std::time::Duration;

use super::frame::{Frame, Size};
use crate::rate::Bitrate;

/// How pictures are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// AV1, Main profile, 8 bits: the better picture.
    Av1,
    /// H.264, constrained baseline: less work.
    H264,
}

impl VideoCodec {
    /// Its name in reports and in offers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Av1 => "av1",
            Self::H264 => "h264",
        }
    }
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Content {
    /// A camera's picture, or a film: everything moves a little.
    #[default]
    Motion,
    /// Text and drawings: sharp, and mostly still.
    Text,
}

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoConfig {
    /// Of the pictures that will come.
    pub size: Size,
    /// Pictures per second that will come, 1..=60.
    pub fps: u32,
    /// Of the codec alone, without headers.
    pub bitrate: Bitrate,
    /// What is shown.
    pub content: Content,
    /// Layers in time, 1..=3: the pictures of all but the first can be left out without harm to the others.
    pub temporal_layers: u8,
    /// Threads that encode, 1..=8.
    pub threads: u8,
    /// How much trouble is taken, 0 (least) to 3 (most); what that means depends on the codec.
    pub effort: u8,
}

/// One encoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// As the codec gives them: a temporal unit of OBUs for AV1, an Annex B access unit for H.264.
    pub bytes: Vec<u8>,
    /// It can be decoded without any other.
    pub is_key: bool,
    /// 0 for the base.
    pub temporal_layer: u8,
    /// How many encoded pictures ago those were that it refers to, 0 for none; these need others in turn.
    pub needs: [u8; 2],
    /// When the picture was taken.
    pub taken: Duration,
}

/// Why a codec refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VideoError {
    /// A codec state could not be made.
    #[error("the {codec} codec could not be set up: {reason}", codec = codec.name())]
    SetUp {
        /// Which one.
        codec: VideoCodec,
        /// What it said.
        reason: String,
    },
    /// A picture or a setting was refused: our mistake.
    #[error("the {codec} encoder failed: {reason}", codec = codec.name())]
    Encode {
        /// Which one.
        codec: VideoCodec,
        /// What it said.
        reason: String,
    },
    /// The bytes are no picture, or need one that never came. A key frame helps.
    #[error("the picture could not be decoded")]
    Malformed,
}

/// Encodes the pictures of one stream, one by one, none twice, without looking ahead.
pub trait VideoEncoder: Send + std::fmt::Debug {
    /// Which codec this is.
    fn codec(&self) -> VideoCodec;

    /// The settings in force.
    fn config(&self) -> VideoConfig;

    /// Changes the settings from the next picture on. Another size or other layers begin with a key frame.
    ///
    /// # Errors
    /// A setting is refused; the one before stays in force.
    fn configure(&mut self, config: VideoConfig) -> Result<(), VideoError>;

    /// Encodes a picture of the configured size; as a key frame if `key`. `None` if the rate control left it out.
    ///
    /// # Errors
    /// [`VideoError::Encode`]: the caller's mistake, or memory is short.
    fn encode(&mut self, frame: &Frame, key: bool) -> Result<Option<EncodedFrame>, VideoError>;
}

/// Decodes the pictures of one stream, in order.
pub trait VideoDecoder: Send + std::fmt::Debug {
    /// Which codec this is.
    fn codec(&self) -> VideoCodec;

    /// Decodes one encoded picture into `frame`, whose size becomes that of the picture and whose time stays. `false`
    /// if there was nothing to show in it.
    ///
    /// # Errors
    /// [`VideoError::Malformed`]: until the next key frame, what follows may be too.
    fn decode(&mut self, bytes: &[u8], frame: &mut Frame) -> Result<bool, VideoError>;
}

#[cfg(all(test, feature = "video"))]
mod tests;
