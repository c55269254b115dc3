//! The work that takes long: encoding and decoding, each one step of a thread or of a simulation.

use std::time::Duration;

use super::{
    av1::{Av1Decoder, Av1Encoder},
    codec::{EncodedFrame, VideoCodec, VideoConfig, VideoDecoder, VideoEncoder, VideoError},
    frame::{Frame, MIN_SIDE, Size},
    h264::{H264Decoder, H264Encoder},
    recv::DecodableFrame,
    scale::Scaler,
};

/// # Errors
/// It could not be set up.
pub fn encoder(
    codec: VideoCodec,
    config: VideoConfig,
) -> Result<Box<dyn VideoEncoder>, VideoError> {
    Ok(match codec {
        VideoCodec::Av1 => Box::new(Av1Encoder::new(config)?),
        VideoCodec::H264 => Box::new(H264Encoder::new(config)?),
    })
}

/// Encodes as it is told, scaling pictures to the size that is wanted.
#[derive(Debug)]
pub struct EncodeStage {
    codec: VideoCodec,
    /// With what it was told last: it keeps to what it cannot do, such as layers, so its own settings are no measure.
    encoder: Option<(VideoConfig, Box<dyn VideoEncoder>)>,
    scaler: Scaler,
    scaled: Option<Frame>,
}

impl EncodeStage {
    /// Sets the codec up with the first picture.
    #[must_use]
    pub fn new(codec: VideoCodec) -> Self {
        Self {
            codec,
            encoder: None,
            scaler: Scaler::default(),
            scaled: None,
        }
    }

    /// Encodes a picture of any size. `None` if the rate control left it out.
    ///
    /// # Errors
    /// The codec refused; with the next picture it begins anew.
    pub fn encode(
        &mut self,
        config: VideoConfig,
        key: bool,
        frame: &Frame,
    ) -> Result<Option<EncodedFrame>, VideoError> {
        let result = self.try_encode(config, key, frame);
        if result.is_err() {
            self.encoder = None;
        }
        result
    }

    fn try_encode(
        &mut self,
        config: VideoConfig,
        key: bool,
        frame: &Frame,
    ) -> Result<Option<EncodedFrame>, VideoError> {
        let encoder = match &mut self.encoder {
            Some((told, encoder)) => {
                if *told != config {
                    encoder.configure(config)?;
                    *told = config;
                }
                encoder
            }
            none => {
                let (_told, encoder) = none.insert((config, encoder(self.codec, config)?));
                encoder
            }
        };
        if frame.size() == config.size {
            return encoder.encode(frame, key);
        }
        let scaled = self
            .scaled
            .get_or_insert_with(|| Frame::black(config.size, frame.taken));
        scaled.resize(config.size);
        self.scaler.scale(frame, scaled);
        encoder.encode(scaled, key)
    }
}

/// Decodes what comes, in whatever codec it is.
#[derive(Debug)]
pub struct DecodeStage {
    threads: u8,
    decoder: Option<Box<dyn VideoDecoder>>,
    picture: Frame,
}

impl DecodeStage {
    /// With so many threads, 1..=8.
    ///
    /// # Panics
    /// Never: the size is a possible one.
    #[must_use]
    pub fn new(threads: u8) -> Self {
        let size = Size::new(MIN_SIDE, MIN_SIDE).expect("the least side is a possible one");
        Self {
            threads,
            decoder: None,
            picture: Frame::black(size, Duration::ZERO),
        }
    }

    /// Decodes a frame, taken at `taken` on its sender's clock. `None` if there is nothing to show in it.
    ///
    /// # Errors
    /// [`VideoError::Malformed`]: until the next key frame, what follows may be too.
    pub fn decode(
        &mut self,
        frame: &DecodableFrame,
        taken: Duration,
    ) -> Result<Option<&Frame>, VideoError> {
        let decoder = match &mut self.decoder {
            Some(decoder) if decoder.codec() == frame.codec => decoder,
            other => other.insert(match frame.codec {
                VideoCodec::Av1 => Box::new(Av1Decoder::new(self.threads)?),
                VideoCodec::H264 => Box::new(H264Decoder::new()?),
            }),
        };
        let shown = decoder.decode(&frame.frame.bytes, &mut self.picture)?;
        self.picture.taken = taken;
        Ok(shown.then_some(&self.picture))
    }
}
