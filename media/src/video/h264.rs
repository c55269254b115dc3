//! H.264 by OpenH264: constrained baseline, constant bitrate, one layer.

use openh264::{
    OpenH264API,
    decoder::{DecodeOptions, Decoder, DecoderConfig, Flush},
    encoder::{
        BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, Profile, QpRange,
        RateControlMode, UsageType,
    },
    formats::{YUVSlices, YUVSource as _},
};

use super::{
    codec::{
        Content, EncodedFrame, VideoCodec, VideoConfig, VideoDecoder, VideoEncoder, VideoError,
    },
    frame::{Frame, Plane, Size},
};

/// Encodes H.264.
pub struct H264Encoder {
    encoder: Encoder,
    config: VideoConfig,
    /// The highest bitrate that its layer may have, in bits per second.
    most: u32,
    needs_key: bool,
    pictures: u64,
}

fn failed(reason: impl std::fmt::Display) -> VideoError {
    VideoError::Encode {
        codec: VideoCodec::H264,
        reason: reason.to_string(),
    }
}

fn set_up(config: VideoConfig) -> Result<Encoder, VideoError> {
    let settings = EncoderConfig::new()
        .bitrate(BitRate::from_bps(config.bitrate.bps()))
        .max_frame_rate(FrameRate::from_hz(config.fps as f32))
        .rate_control_mode(RateControlMode::Bitrate)
        // Without this the bitrate is not kept.
        .skip_frames(true)
        .profile(Profile::Baseline)
        .usage_type(match config.content {
            Content::Motion => UsageType::CameraVideoRealTime,
            Content::Text => UsageType::ScreenContentRealTime,
        })
        .complexity(match config.effort {
            0 => Complexity::Low,
            1 | 2 => Complexity::Medium,
            _ => Complexity::High,
        })
        .qp(QpRange::new(12, 48))
        .scene_change_detect(false)
        .num_threads(config.threads.into());
    Encoder::with_api_config(OpenH264API::from_source(), settings).map_err(|error| {
        VideoError::SetUp {
            codec: VideoCodec::H264,
            reason: error.to_string(),
        }
    })
}

impl H264Encoder {
    /// # Errors
    /// [`VideoError::SetUp`] when memory is short, or a setting is refused.
    pub fn new(config: VideoConfig) -> Result<Self, VideoError> {
        let config = within_limits(config);
        Ok(Self {
            encoder: set_up(config)?,
            most: config.bitrate.bps(),
            config,
            needs_key: true,
            pictures: 0,
        })
    }
}

fn within_limits(mut config: VideoConfig) -> VideoConfig {
    config.fps = config.fps.clamp(1, 60);
    config.temporal_layers = 1;
    config.threads = config.threads.clamp(1, 8);
    config.effort = config.effort.min(3);
    config
}

/// Sets the bitrate of an encoder that has begun: the crate has no function for it. `most` is what its only layer may have,
/// which is what it began with until more is wanted; an encoder that is to have more than that refuses.
#[expect(unsafe_code, reason = "a C library is called")]
fn set_bitrate(encoder: &mut Encoder, bps: u32, most: &mut u32) -> Result<(), VideoError> {
    let info = |layer, bps: u32| openh264_sys2::SBitrateInfo {
        iLayer: layer,
        iBitrate: i32::try_from(bps).unwrap_or(i32::MAX),
    };
    let mut set = |option, mut info: openh264_sys2::SBitrateInfo| {
        // SAFETY: the encoder is alive; both options take a pointer to this structure, which outlives the call.
        let code = unsafe { encoder.raw_api().set_option(option, (&raw mut info).cast()) };
        match code {
            0 => Ok(()),
            code => Err(failed(format!("{bps} bit/s were refused: {code}"))),
        }
    };
    if bps > *most {
        let more = bps.saturating_mul(2).min(i32::MAX.cast_unsigned());
        let layer = openh264_sys2::SPATIAL_LAYER_0;
        set(openh264_sys2::ENCODER_OPTION_MAX_BITRATE, info(layer, more))?;
        *most = more;
    }
    let all = openh264_sys2::SPATIAL_LAYER_ALL;
    set(openh264_sys2::ENCODER_OPTION_BITRATE, info(all, bps))
}

impl VideoEncoder for H264Encoder {
    fn codec(&self) -> VideoCodec {
        VideoCodec::H264
    }

    fn config(&self) -> VideoConfig {
        self.config
    }

    fn configure(&mut self, config: VideoConfig) -> Result<(), VideoError> {
        let config = within_limits(config);
        let only_rate = VideoConfig {
            bitrate: self.config.bitrate,
            ..config
        } == self.config;
        if only_rate && self.pictures > 0 {
            set_bitrate(&mut self.encoder, config.bitrate.bps(), &mut self.most)?;
        } else if config != self.config {
            self.encoder = set_up(config)?;
            self.most = config.bitrate.bps();
            self.needs_key = true;
            self.pictures = 0;
        }
        self.config = config;
        Ok(())
    }

    fn encode(&mut self, frame: &Frame, key: bool) -> Result<Option<EncodedFrame>, VideoError> {
        let size = frame.size();
        if size != self.config.size {
            return Err(failed("the picture has another size"));
        }
        if key && !self.needs_key {
            self.encoder.force_intra_frame();
        }
        let [y, u, v] = Plane::ALL.map(|plane| frame.plane(plane));
        let (width, height) = size.of(Plane::Y);
        let source = YUVSlices::new((y, u, v), (width, height), (width, width / 2, width / 2));
        let taken = u64::try_from(frame.taken.as_millis()).unwrap_or(u64::MAX);
        let stream = self
            .encoder
            .encode_at(&source, openh264::Timestamp::from_millis(taken))
            .map_err(failed)?;
        self.pictures += 1;
        let is_key = match stream.frame_type() {
            FrameType::IDR => true,
            FrameType::I | FrameType::P | FrameType::IPMixed => false,
            FrameType::Skip => return Ok(None),
            FrameType::Invalid => return Err(failed("nothing came out")),
        };
        self.needs_key = false;
        Ok(Some(EncodedFrame {
            bytes: stream.to_vec(),
            is_key,
            temporal_layer: 0,
            needs: if is_key { [0; 2] } else { [1, 0] },
            taken: frame.taken,
        }))
    }
}

impl std::fmt::Debug for H264Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H264Encoder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Decodes H.264.
pub struct H264Decoder(Decoder);

impl H264Decoder {
    /// # Errors
    /// [`VideoError::SetUp`] when memory is short.
    pub fn new() -> Result<Self, VideoError> {
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        Decoder::with_api_config(OpenH264API::from_source(), config)
            .map(Self)
            .map_err(|error| VideoError::SetUp {
                codec: VideoCodec::H264,
                reason: error.to_string(),
            })
    }
}

impl VideoDecoder for H264Decoder {
    fn codec(&self) -> VideoCodec {
        VideoCodec::H264
    }

    fn decode(&mut self, bytes: &[u8], frame: &mut Frame) -> Result<bool, VideoError> {
        let options = DecodeOptions::new().flush_after_decode(Flush::NoFlush);
        let decoded = self
            .0
            .decode_with_options(bytes, options)
            .map_err(|error| {
                tracing::debug!(%error, "a picture could not be decoded");
                VideoError::Malformed
            })?;
        let Some(picture) = decoded else {
            return Ok(false);
        };
        let (width, height) = picture.dimensions();
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let size = Size::rounded_down(side(width), side(height))
            .map_err(|_too_large| VideoError::Malformed)?;
        frame.resize(size);
        let (y, u, v) = picture.strides();
        frame.copy_rows(Plane::Y, picture.y(), y);
        frame.copy_rows(Plane::U, picture.u(), u);
        frame.copy_rows(Plane::V, picture.v(), v);
        Ok(true)
    }
}

impl std::fmt::Debug for H264Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H264Decoder").finish_non_exhaustive()
    }
}
