//! Opus (RFC 6716), 48 kHz: voices in one channel, music in two.
//!
//! The encoder is constant-bitrate unless told otherwise: packet sizes of variable-bitrate speech tell an
//! eavesdropper what is said, whatever the cipher.

mod libopus;

use std::time::Duration;

use self::libopus::{Decoder, Dred, Encoder, Kind, Refused, Setting, Source};
use crate::{
    rate::{Bitrate, MAX_AUDIO_BITRATE, MIN_AUDIO_BITRATE},
    time::{SAMPLE_RATE_HZ, duration_of},
};

/// Samples of the longest Opus packet: 120 ms (RFC 6716 section 3.2.5).
pub const MAX_PACKET_SAMPLES: usize = 5760;

/// Bytes of the largest packet that our encoder may make: 60 ms at the highest bitrate, and a little.
pub const MAX_ENCODED_BYTES: usize = 1000;

/// How much sound one packet of ours holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameDuration {
    /// 10 ms, for low delay.
    Ms10,
    /// 20 ms, the default.
    Ms20,
    /// 40 ms, for thin links.
    Ms40,
    /// 60 ms, for the thinnest.
    Ms60,
}

impl FrameDuration {
    /// In 10 ms blocks.
    #[must_use]
    pub const fn blocks(self) -> usize {
        match self {
            Self::Ms10 => 1,
            Self::Ms20 => 2,
            Self::Ms40 => 4,
            Self::Ms60 => 6,
        }
    }

    /// In samples of 48 kHz.
    #[must_use]
    pub const fn samples(self) -> usize {
        self.blocks() * crate::time::BLOCK_SAMPLES
    }

    /// As time.
    #[must_use]
    pub fn duration(self) -> Duration {
        duration_of(self.samples() as u64)
    }
}

/// Whether all packets have the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateControl {
    /// Every packet has the same size: an eavesdropper learns nothing from it. The default.
    Constant,
    /// A little better sound for the same bits, and sizes that leak what is said.
    Variable,
}

/// What is inside the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Codec {
    /// Sound, by Opus.
    #[default]
    Opus,
    /// Nothing: packets that look like constant-bitrate Opus from outside and cost next to no time. For
    /// simulations of the network, where nobody listens.
    Null,
}

/// What the sound is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Content {
    /// A voice, in one channel.
    #[default]
    Voice,
    /// Anything else. Nothing is done that suits voices only: no in-band copies, no deep redundancy, no sparing of
    /// silence or of high frequencies.
    Music {
        /// In two channels where there are two; else what is mixed of them.
        stereo: bool,
    },
}

impl Content {
    /// Whether it is music.
    #[must_use]
    pub const fn is_music(self) -> bool {
        matches!(self, Self::Music { .. })
    }

    /// Whether it may have two channels.
    #[must_use]
    pub const fn is_stereo(self) -> bool {
        matches!(self, Self::Music { stereo: true })
    }

    /// How many samples of what the encoder is given belong together: music is always given in two channels.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Voice => 1,
            Self::Music { .. } => 2,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Voice => Kind::Voice,
            Self::Music { .. } => Kind::Music,
        }
    }
}

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderConfig {
    /// What to put into the packets. Cannot be changed later.
    pub codec: Codec,
    /// What it is.
    pub content: Content,
    /// Of the codec alone, without headers; clamped to 6..=128 kbit/s.
    pub bitrate: Bitrate,
    /// Sound per packet.
    pub frame: FrameDuration,
    /// Packet sizes.
    pub rate_control: RateControl,
    /// 0 (cheapest) to 10 (best).
    pub complexity: u8,
    /// Nothing above 8 kHz: at low bitrates the bits are better spent below.
    pub wideband: bool,
    /// Put a coarse copy of the previous frame into each packet, when Opus finds it worth the bits (RFC 6716
    /// section 2.1.7). Takes effect only with a non-zero `expected_loss_percent`.
    pub fec: bool,
    /// 0..=100. Opus spends more on robustness as it rises.
    pub expected_loss_percent: u8,
    /// How much of the past each packet carries as coarse features from which a neural network speaks again
    /// (deep redundancy, draft-ietf-mlcodec-opus-dred): at most a second, in steps of 10 ms; zero for none. Its
    /// bits come out of `bitrate`, of which less than [`min_dred_bitrate`] leaves none for it. Takes effect only
    /// with an `expected_loss_percent` of [`MIN_DRED_LOSS_PERCENT`] or more, and `fec` must be off: the two
    /// compete.
    pub dred: Duration,
    /// Send next to nothing in silence. Off by default: when somebody speaks is nobody's business.
    pub dtx: bool,
}

/// Below this bitrate deep redundancy reaches not far enough to be worth it, measured with libopus 1.6.1.
#[must_use]
pub const fn min_dred_bitrate(frame: FrameDuration) -> Bitrate {
    match frame {
        // What it costs in each packet comes twice as often.
        FrameDuration::Ms10 => Bitrate::kbps(48),
        FrameDuration::Ms20 | FrameDuration::Ms40 | FrameDuration::Ms60 => Bitrate::kbps(32),
    }
}

/// Told to Opus less, it makes no deep redundancy or next to none.
pub const MIN_DRED_LOSS_PERCENT: u8 = 15;

/// With less of it, deep redundancy reaches half as far.
const DRED_COMPLEXITY: u8 = 7;

/// The furthest that deep redundancy reaches back: libopus takes 104 steps of 10 ms, and speaks of a second.
pub const MAX_DRED: Duration = Duration::from_secs(1);

/// What a decoder does beyond RFC 6716: see [`DecoderConfig::complexity`].
pub const DEEP_CONCEALMENT_FROM: u8 = 5;

/// What is missing between two channels of sound is continued as it was: the network knows voices only.
const STEREO_COMPLEXITY: u8 = DEEP_CONCEALMENT_FROM - 1;

/// Enough for music in two channels at a constant bitrate.
const MUSIC_BITRATE: Bitrate = Bitrate::kbps(128);

/// How to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderConfig {
    /// What is inside the packets.
    pub codec: Codec,
    /// 0..=10. From 5 on, what is missing is invented by a neural network; from 6 on, speech at low bitrates is
    /// enhanced by another (LACE), from 7 on by a better one (NoLACE).
    pub complexity: u8,
    /// Speech at this bitrate and above is not enhanced: it sounds no better for it, and enhancing takes twice as
    /// long as decoding. [`Bitrate`]`(u32::MAX)` enhances always.
    pub enhance_below: Bitrate,
}

/// NoLACE raises PESQ-WB of four voices by 0.04 at 24 kbit/s, by 0.02 at 30 and by nothing at 32 (libopus 1.6.1,
/// `media/examples/loop.rs`).
const ENHANCE_BELOW: Bitrate = Bitrate::kbps(30);

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            codec: Codec::Opus,
            // Everything that helps; 0.2 ms for 20 ms of sound.
            complexity: 7,
            enhance_below: ENHANCE_BELOW,
        }
    }
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            codec: Codec::Opus,
            content: Content::Voice,
            bitrate: Bitrate::kbps(32),
            frame: FrameDuration::Ms20,
            rate_control: RateControl::Constant,
            // PESQ-WB of four voices 4.41 at 32 kbit/s, 0.02 less than at 9 and 10, and 0.01 less at 10 % loss with copies;
            // a tenth less work. From 7 on Opus listens for music, which is told to it here.
            complexity: 6,
            wideband: false,
            fec: false,
            expected_loss_percent: 0,
            dred: Duration::ZERO,
            dtx: false,
        }
    }
}

impl EncoderConfig {
    /// Good settings for `content`.
    #[must_use]
    pub fn of(content: Content) -> Self {
        match content {
            Content::Voice => Self::default(),
            Content::Music { .. } => Self {
                content,
                bitrate: MUSIC_BITRATE,
                complexity: 10,
                ..Self::default()
            },
        }
    }

    /// Bytes of each packet at a constant bitrate.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        let bits =
            u64::from(self.bitrate.bps()) * self.frame.samples() as u64 / u64::from(SAMPLE_RATE_HZ);
        // libopus rounds half bytes up.
        usize::try_from((bits + 4) / 8).unwrap_or(usize::MAX).max(1)
    }

    /// The bitrate at which packets have so many bytes.
    #[must_use]
    pub fn bitrate_of(bytes: usize, frame: FrameDuration) -> Bitrate {
        Bitrate::of_packets(bytes, frame.duration())
    }
}

/// Why Opus refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpusError {
    /// A codec state could not be made.
    #[error("the Opus codec could not be set up: {0}")]
    SetUp(String),
    /// The encoder refused a setting or a frame: our mistake.
    #[error("the Opus encoder failed: {0}")]
    Encode(String),
    /// The packet is no Opus packet, or a broken one.
    #[error("the Opus packet is malformed")]
    Malformed,
    /// The frame handed over does not have the configured duration.
    #[error("a frame of {got} samples was given where {want} were due")]
    FrameSize {
        /// Samples given.
        got: usize,
        /// Samples that the configuration asks for.
        want: usize,
    },
}

/// Encodes frames of one stream.
#[derive(Debug)]
pub struct OpusEncoder {
    /// Absent with [`Codec::Null`].
    encoder: Option<Encoder>,
    config: EncoderConfig,
    /// Music goes out in one channel.
    is_mono: bool,
    /// The next frame depends on none before it.
    is_alone: bool,
}

impl OpusEncoder {
    /// An encoder that does what `config` says.
    ///
    /// # Errors
    /// [`OpusError::SetUp`] when memory is short, [`OpusError::Encode`] when a setting is refused.
    pub fn new(config: EncoderConfig) -> Result<Self, OpusError> {
        let encoder = match config.codec {
            Codec::Opus => Some(new_encoder(config.content)?),
            Codec::Null => None,
        };
        let mut this = Self {
            encoder,
            config,
            is_mono: false,
            is_alone: false,
        };
        this.configure(config)?;
        Ok(this)
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> EncoderConfig {
        self.config
    }

    /// Changes the settings from the next frame on.
    ///
    /// # Errors
    /// [`OpusError::Encode`] when a setting is refused.
    pub fn configure(&mut self, mut config: EncoderConfig) -> Result<(), OpusError> {
        config.bitrate = config.bitrate.clamp(MIN_AUDIO_BITRATE, MAX_AUDIO_BITRATE);
        config.complexity = config.complexity.min(10);
        config.expected_loss_percent = config.expected_loss_percent.min(100);
        config.dred = config.dred.min(MAX_DRED);
        if config.content.is_music() {
            config.wideband = false;
            config.fec = false;
            config.dred = Duration::ZERO;
            config.dtx = false;
        }
        if config.content.kind() != self.config.content.kind() && self.encoder.is_some() {
            self.encoder = Some(new_encoder(config.content)?);
            (self.is_mono, self.is_alone) = (false, false);
        }
        self.apply(config)
            .map_err(|error| OpusError::Encode(error.to_string()))?;
        self.config = config;
        Ok(())
    }

    fn apply(&mut self, config: EncoderConfig) -> Result<(), Refused> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        let tens = i32::try_from(config.dred.as_millis() / 10).unwrap_or(0);
        [
            Setting::Bitrate(config.bitrate.bps().cast_signed()),
            Setting::Variable(config.rate_control == RateControl::Variable),
            Setting::Complexity(i32::from(if config.dred.is_zero() {
                config.complexity
            } else {
                config.complexity.max(DRED_COMPLEXITY)
            })),
            Setting::Wideband(config.wideband),
            Setting::Fec(config.fec),
            Setting::LossPercent(i32::from(config.expected_loss_percent)),
            Setting::Dtx(config.dtx),
            Setting::Dred(tens),
        ]
        .into_iter()
        .try_for_each(|setting| encoder.set(setting))
    }

    /// Puts music into one channel, or back into two where the bitrate is enough for them. For sound that has nothing
    /// in the second, or a listener who has no place for it.
    ///
    /// # Errors
    /// [`OpusError::Encode`] when Opus refuses.
    pub fn set_mono(&mut self, is_mono: bool) -> Result<(), OpusError> {
        if self.is_mono == is_mono || !self.config.content.is_music() {
            return Ok(());
        }
        self.is_mono = is_mono;
        self.set(Setting::Mono(is_mono))
    }

    /// Hears `frame`, which was sent before by other settings, so that what comes next continues it: without, the
    /// codec's own delay would be a gap. The next frame can be decoded without this one.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn prime(&mut self, frame: &[f32], out: &mut [u8]) -> Result<(), OpusError> {
        self.set(Setting::Alone(true))?;
        if let Some(encoder) = &mut self.encoder {
            encoder
                .encode(frame, out)
                .map_err(|error| OpusError::Encode(error.to_string()))?;
        }
        self.is_alone = true;
        Ok(())
    }

    fn set(&mut self, setting: Setting) -> Result<(), OpusError> {
        self.encoder
            .as_mut()
            .map_or(Ok(()), |encoder| encoder.set(setting))
            .map_err(|error| OpusError::Encode(error.to_string()))
    }

    /// Forgets all sound that went in before.
    ///
    /// # Errors
    /// [`OpusError::Encode`] when Opus refuses.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        encoder
            .reset()
            .map_err(|error| OpusError::Encode(error.to_string()))
    }

    /// The codec's own delay in samples: what it looks ahead.
    #[must_use]
    pub fn lookahead_samples(&mut self) -> usize {
        self.encoder
            .as_mut()
            .and_then(|encoder| encoder.lookahead().ok())
            .unwrap_or(0)
    }

    /// Encodes one frame, of [`Content::channels`] interleaved, and returns the bytes written to `out`.
    ///
    /// # Errors
    /// [`OpusError::FrameSize`] or [`OpusError::Encode`]: the caller's mistake.
    pub fn encode(&mut self, frame: &[f32], out: &mut [u8]) -> Result<usize, OpusError> {
        let want = self.config.frame.samples() * self.config.content.channels();
        if frame.len() != want {
            return Err(OpusError::FrameSize {
                got: frame.len(),
                want,
            });
        }
        let Some(encoder) = &mut self.encoder else {
            return self.encode_nothing(out);
        };
        let encoded = encoder
            .encode(frame, out)
            .map_err(|error| OpusError::Encode(error.to_string()))?;
        if std::mem::take(&mut self.is_alone) {
            self.set(Setting::Alone(false))?;
        }
        Ok(encoded)
    }

    /// A packet as long as Opus would make it at a constant bitrate.
    fn encode_nothing(&self, out: &mut [u8]) -> Result<usize, OpusError> {
        let packet = out
            .get_mut(..self.config.packet_bytes())
            .ok_or_else(|| OpusError::Encode(String::from("there is no room for the packet")))?;
        packet.fill(0);
        // One frame of wideband SILK, in which zeros mean that no copy is there (RFC 6716 sections 3.1, 4.2.4).
        packet[0] = match self.config.frame {
            FrameDuration::Ms10 => 8 << 3,
            FrameDuration::Ms20 => 9 << 3,
            FrameDuration::Ms40 => 10 << 3,
            FrameDuration::Ms60 => 11 << 3,
        };
        Ok(packet.len())
    }
}

fn new_encoder(content: Content) -> Result<Encoder, OpusError> {
    Encoder::new(content.kind()).map_err(|error| OpusError::SetUp(error.to_string()))
}

/// Decodes packets of one stream, in order, and invents what is missing between them.
///
/// To one channel, whatever is in the packets, until [`Self::widen`] asks for two. All lengths are of one channel; two
/// are interleaved, and need twice the room.
#[derive(Debug)]
pub struct OpusDecoder {
    /// Absent with [`Codec::Null`].
    decoder: Option<Decoder>,
    /// The deep redundancy read last. Absent with [`Codec::Null`].
    dred: Option<Dred>,
    config: DecoderConfig,
    is_enhancing: bool,
    /// In force.
    complexity: u8,
}

impl OpusDecoder {
    /// A decoder with default settings that has heard nothing.
    ///
    /// # Errors
    /// [`OpusError::SetUp`] when memory is short.
    pub fn new() -> Result<Self, OpusError> {
        Self::with(DecoderConfig::default())
    }

    /// A decoder that does what `config` says. All that comes out of [`Codec::Null`] is silence.
    ///
    /// # Errors
    /// [`OpusError::SetUp`] when memory is short.
    pub fn with(config: DecoderConfig) -> Result<Self, OpusError> {
        let failed = |error: Refused| OpusError::SetUp(error.to_string());
        Ok(match config.codec {
            Codec::Opus => Self {
                decoder: Some(Decoder::new(false, config.complexity).map_err(failed)?),
                dred: Some(Dred::new().map_err(failed)?),
                config,
                is_enhancing: true,
                complexity: config.complexity,
            },
            Codec::Null => Self {
                decoder: None,
                dred: None,
                config,
                is_enhancing: false,
                complexity: config.complexity,
            },
        })
    }

    /// Decodes to two channels from now on, and forgets all sound; never with [`Codec::Null`]. Allocates.
    ///
    /// # Errors
    /// [`OpusError::SetUp`] when memory is short.
    pub fn widen(&mut self) -> Result<(), OpusError> {
        if let Some(decoder) = &mut self.decoder {
            *decoder = Decoder::new(true, self.complexity)
                .map_err(|error| OpusError::SetUp(error.to_string()))?;
        }
        Ok(())
    }

    /// How many channels there are: one or two.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.decoder.as_ref().map_or(1, Decoder::channels)
    }

    /// Decodes `packet` to the front of `out` and returns the number of samples.
    ///
    /// # Errors
    /// [`OpusError::Malformed`] when the bytes are no packet, or one longer than `out`.
    pub fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, OpusError> {
        if packet.is_empty() {
            return Err(OpusError::Malformed);
        }
        let Some(decoder) = &mut self.decoder else {
            let samples = PacketInfo::parse(packet)?.samples;
            let silence = out.get_mut(..samples).ok_or(OpusError::Malformed)?;
            silence.fill(0.0);
            return Ok(samples);
        };
        let info = PacketInfo::parse(packet)?;
        // Where the bitrate goes up and down at the border, the sound should not.
        let border = self.config.enhance_below.bps() / 10 * if self.is_enhancing { 10 } else { 9 };
        self.is_enhancing = !info.is_stereo && info.speech_bitrate.bps() < border;
        let complexity = self.config.complexity.min(if info.is_stereo {
            STEREO_COMPLEXITY
        } else if self.is_enhancing {
            u8::MAX
        } else {
            DEEP_CONCEALMENT_FROM
        });
        if complexity != self.complexity {
            decoder
                .set_complexity(complexity)
                .map_err(|_error| OpusError::Malformed)?;
            self.complexity = complexity;
        }
        let decoded = decoder.decode(Source::Packet(packet), out);
        self.tame(decoded, out)
    }

    /// Fills `missing` with the frame before `next`, from the copy that `next` carries. Without a copy, or
    /// when `missing` is shorter than a frame, Opus conceals instead. A multiple of 2.5 ms.
    ///
    /// # Errors
    /// [`OpusError::Malformed`] when the bytes are no packet.
    pub fn decode_fec(&mut self, next: &[u8], missing: &mut [f32]) -> Result<usize, OpusError> {
        if next.is_empty() {
            return Err(OpusError::Malformed);
        }
        self.fill(Source::CopyIn(next), missing)
    }

    /// Fills `missing` with what could have followed. A multiple of 2.5 ms.
    ///
    /// # Errors
    /// [`OpusError::Malformed`] when the length is not allowed.
    pub fn conceal(&mut self, missing: &mut [f32]) -> Result<usize, OpusError> {
        self.fill(Source::Nothing, missing)
    }

    /// Reads the deep redundancy of a packet that will be decoded later, as far as it covers the `wanted`
    /// samples before that packet. Returns how many samples back it reaches, zero when there is none.
    ///
    /// # Errors
    /// [`OpusError::Malformed`] when the bytes are no packet.
    pub fn read_dred(&mut self, packet: &[u8], wanted: usize) -> Result<usize, OpusError> {
        let Some(dred) = &mut self.dred else {
            return Ok(0);
        };
        dred.parse(packet, wanted)
            .map_err(|_error| OpusError::Malformed)
    }

    /// Fills `missing` from the deep redundancy read last; its first sample lies `before` samples before the
    /// packet that carried it. A multiple of 2.5 ms.
    ///
    /// # Errors
    /// [`OpusError::Malformed`] when the length is not allowed, or nothing was read.
    pub fn decode_dred(&mut self, before: usize, missing: &mut [f32]) -> Result<usize, OpusError> {
        let (Some(decoder), Some(dred)) = (&mut self.decoder, &self.dred) else {
            missing.fill(0.0);
            return Ok(missing.len());
        };
        let decoded = decoder.decode(Source::Past(dred, before), missing);
        self.tame(decoded, missing)
    }

    fn fill(&mut self, source: Source<'_>, missing: &mut [f32]) -> Result<usize, OpusError> {
        let Some(decoder) = &mut self.decoder else {
            missing.fill(0.0);
            return Ok(missing.len());
        };
        let decoded = decoder.decode(source, missing);
        self.tame(decoded, missing)
    }

    /// Malicious packets decode to sound of any loudness, and to numbers that are none and would stay in the
    /// decoder's memory.
    fn tame(
        &mut self,
        decoded: Result<usize, Refused>,
        out: &mut [f32],
    ) -> Result<usize, OpusError> {
        // The message adds nothing to "malformed", and would allocate.
        let len = decoded.map_err(|_error| OpusError::Malformed)?;
        let len_of_all = len * self.channels();
        let samples = out.get_mut(..len_of_all).ok_or(OpusError::Malformed)?;
        if samples.iter().any(|sample| !sample.is_finite()) {
            self.reset()?;
            return Err(OpusError::Malformed);
        }
        for sample in samples {
            *sample = sample.clamp(-1.0, 1.0);
        }
        Ok(len)
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// [`OpusError::SetUp`] when Opus refuses.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        decoder
            .reset()
            .map_err(|error| OpusError::SetUp(error.to_string()))
    }
}

/// What the first bytes of an Opus packet say (RFC 6716 section 3), read without decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketInfo {
    /// Samples in the whole packet, 120..=5760.
    pub samples: usize,
    /// Samples in each frame of it.
    pub frame_samples: usize,
    /// The packet holds a copy of the `frame_samples` before it.
    pub has_fec: bool,
    /// The packet holds deep redundancy.
    pub has_dred: bool,
    /// There are two channels in it.
    pub is_stereo: bool,
    /// What its own sound was encoded at, without copies of what was before: a rough guess where there are some.
    pub speech_bitrate: Bitrate,
    /// Nothing is in it: the sender is silent and will not send for a while.
    pub is_dtx: bool,
}

impl PacketInfo {
    /// Reads the table of contents, the frame lengths, the first frame's redundancy flag, and what the padding begins
    /// with.
    ///
    /// # Errors
    /// [`OpusError::Malformed`] when the packet ends early or is longer than 120 ms.
    pub fn parse(packet: &[u8]) -> Result<Self, OpusError> {
        let parts = libopus::parts(packet).map_err(|_error| OpusError::Malformed)?;
        let frame_samples = opus::packet::get_samples_per_frame(packet, SAMPLE_RATE_HZ)
            .map_err(|_error| OpusError::Malformed)?;
        let samples = frame_samples * parts.frames;
        if samples == 0 || samples > MAX_PACKET_SAMPLES {
            return Err(OpusError::Malformed);
        }
        let toc = packet.first().copied().unwrap_or_default();
        // RFC 6716 section 3.1: configurations below 16 are SILK or begin with it.
        let (has_silk, stereo) = (toc >> 3 < 16, toc & 4 != 0);
        let first = parts.first.first();
        let has_fec =
            has_silk && first.is_some_and(|byte| low_bitrate_flag(*byte, frame_samples, stereo));
        let bytes = packet.len().saturating_sub(parts.padding.len());
        // A copy is coarser than what it copies.
        let bytes = if has_fec { bytes * 2 / 3 } else { bytes };
        let duration = Duration::from_secs(samples as u64) / SAMPLE_RATE_HZ;
        Ok(Self {
            samples,
            frame_samples,
            has_fec,
            is_stereo: stereo,
            speech_bitrate: Bitrate::of_packets(bytes, duration),
            has_dred: starts_with_dred(parts.padding),
            is_dtx: packet.len() <= 2,
        })
    }
}

/// RFC 6716 section 4.2.3: the range coder starts with one voice-activity bit per 20 ms, then the flag,
/// then the same for the second channel; uncoded, so they are the first bits of the first byte.
fn low_bitrate_flag(byte: u8, frame_samples: usize, stereo: bool) -> bool {
    let parts = frame_samples.div_ceil(960);
    let flag = |skipped: usize| byte >> (7 - skipped) & 1 != 0;
    flag(parts) || (stereo && flag(2 * parts + 1))
}

/// Extensions lie in the padding (draft-ietf-mlcodec-opus-extension); libopus writes its own one last, after filling
/// bytes of extension 0. Whoever arranges them otherwise is not recognised, and repaired without.
fn starts_with_dred(padding: &[u8]) -> bool {
    /// Extension 126, without or with a length, and the experiment's mark.
    const EXTENSION: u8 = 126 << 1;
    const MARK: [u8; 2] = [b'D', 12];
    let fill = padding.iter().take_while(|byte| **byte == 1).count();
    match padding.get(fill..) {
        Some([EXTENSION, data @ ..]) => data.starts_with(&MARK),
        Some([id, data @ ..]) if *id == EXTENSION | 1 => {
            let lacing = data.iter().take_while(|byte| **byte == 255).count() + 1;
            data.get(lacing..)
                .is_some_and(|data| data.starts_with(&MARK))
        }
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests;
