//! AV1 by libaom, in real time: one pass, no look ahead, constant bitrate.

mod libaom;

use std::time::Duration;

use libaom_sys as sys;

use self::libaom::{Decoder, Encoder, Layers, References, Settings};
use super::{
    codec::{
        Content, EncodedFrame, VideoCodec, VideoConfig, VideoDecoder, VideoEncoder, VideoError,
    },
    frame::Frame,
};

/// What the rate control may borrow: so long a picture may take at the bitrate, in milliseconds. libaom's usual second
/// lets a step down of the bitrate overshoot for as long.
const BUFFER_MILLIS: u32 = 600;

/// The finest and the coarsest quantiser, 0..=63.
const QUANTIZERS: (u32, u32) = (2, 58);

/// A key frame may take this much of a picture's share of the bitrate, in percent.
const MAX_KEY_PERCENT: i32 = 450;

/// Pictures left out one after the other at most: a call rather stutters than stands.
const MAX_DROPPED: i32 = 2;

/// `cpu-used` of libaom for each effort: measured on 720p, 10 has 0.2 dB less than 8 and takes a quarter less time; 11
/// is a fallback, 5 dB worse on screens. From 10 on, a flat block that becomes another flat block may stay as it was.
const SPEEDS: [i32; 4] = [11, 10, 9, 8];

/// The longest time between two pictures that libaom is told, in percent of the usual one.
const MAX_GAP_PERCENT: u64 = 105;

/// Ticks of the clock that libaom is told per second.
const TICKS: u64 = 90_000;

/// The order in which pictures of three layers refer to each other, a cycle of four; slot 0 keeps the last of the base,
/// slot 1 the last of the second.
const THREE: [References; 4] = [
    References {
        temporal_layer: 0,
        from: &[0],
        into: &[0],
    },
    References {
        temporal_layer: 2,
        from: &[0],
        into: &[],
    },
    References {
        temporal_layer: 1,
        from: &[0],
        into: &[1],
    },
    References {
        temporal_layer: 2,
        from: &[1, 0],
        into: &[],
    },
];
const TWO: [References; 2] = [
    References {
        temporal_layer: 0,
        from: &[0],
        into: &[0],
    },
    References {
        temporal_layer: 1,
        from: &[0],
        into: &[],
    },
];
const ONE: [References; 1] = [References {
    temporal_layer: 0,
    from: &[0],
    into: &[0],
}];
/// Replaces all that could be referred to.
const KEY: References = References {
    temporal_layer: 0,
    from: &[],
    into: &[0, 1, 2, 3, 4, 5, 6, 7],
};

fn cycle(layers: u8) -> &'static [References] {
    match layers {
        0 | 1 => &ONE,
        2 => &TWO,
        _ => &THREE,
    }
}

fn shares(layers: u8) -> Layers {
    match layers {
        0 | 1 => Layers {
            count: 1,
            percent: [100; 3],
            one_of: [1; 3],
        },
        2 => Layers {
            count: 2,
            percent: [60, 100, 100],
            one_of: [2, 1, 1],
        },
        _ => Layers {
            count: 3,
            percent: [50, 70, 100],
            one_of: [4, 2, 1],
        },
    }
}

/// Encodes AV1.
pub struct Av1Encoder {
    encoder: Encoder,
    config: VideoConfig,
    /// Place in the cycle of layers of the next picture.
    position: usize,
    /// Pictures that came out.
    count: u64,
    /// Which of these each slot keeps.
    kept: [u64; 8],
    last: Option<Duration>,
    ticks: i64,
    needs_key: bool,
}

impl Av1Encoder {
    /// # Errors
    /// [`VideoError::SetUp`] when memory is short, or a setting is refused.
    pub fn new(config: VideoConfig) -> Result<Self, VideoError> {
        let config = within_limits(config);
        let encoder = set_up(config).map_err(|reason| VideoError::SetUp {
            codec: VideoCodec::Av1,
            reason,
        })?;
        Ok(Self {
            encoder,
            config,
            position: 0,
            count: 0,
            kept: [0; 8],
            last: None,
            ticks: 0,
            needs_key: true,
        })
    }
}

impl Av1Encoder {
    /// How many pictures ago those were that this one refers to. With one layer libaom refers to what it likes, none of
    /// which can be missing if the last is not.
    fn needs(&self, references: References, is_key: bool) -> [u8; 2] {
        if is_key {
            return [0; 2];
        }
        if self.config.temporal_layers == 1 {
            return [1, 0];
        }
        let mut needs = [0; 2];
        for (need, slot) in needs.iter_mut().zip(references.from) {
            let kept = self.kept.get(usize::from(*slot)).copied().unwrap_or(0);
            *need = u8::try_from(self.count.saturating_sub(kept)).unwrap_or(u8::MAX);
        }
        needs
    }
}

fn within_limits(mut config: VideoConfig) -> VideoConfig {
    config.fps = config.fps.clamp(1, 60);
    config.temporal_layers = config.temporal_layers.clamp(1, 3);
    config.threads = config.threads.clamp(1, 8);
    config.effort = config.effort.min(3);
    config
}

fn settings(config: VideoConfig) -> Settings {
    Settings {
        size: config.size,
        threads: config.threads.into(),
        kbps: (config.bitrate.bps() / 1000).max(1),
        buffer_millis: BUFFER_MILLIS,
        quantizers: QUANTIZERS,
        drop_below_percent: match config.content {
            Content::Motion => 30,
            // A picture of text is worth waiting for, and mostly nothing follows it.
            Content::Text => 0,
        },
    }
}

fn speed_of(effort: u8) -> i32 {
    SPEEDS.get(usize::from(effort)).copied().unwrap_or(10)
}

fn set_up(config: VideoConfig) -> Result<Encoder, String> {
    let mut encoder = Encoder::new(settings(config)).map_err(|error| error.to_string())?;
    let is_text = config.content == Content::Text;
    // Columns of tiles, by the power of two, for the threads to share.
    let columns = match (config.size.pixels(), config.threads) {
        (..=400_000, _) | (_, 1) => 0,
        (_, 2 | 3) => 1,
        _ => 2,
    };
    let controls = [
        (sys::AOME_SET_CPUUSED, speed_of(config.effort)),
        (sys::AV1E_SET_TUNE_CONTENT, i32::from(is_text)),
        (sys::AV1E_SET_ENABLE_PALETTE, i32::from(is_text)),
        (sys::AV1E_SET_ENABLE_INTRABC, i32::from(is_text)),
        // Cyclic refresh: the quality of what stands still rises piece by piece.
        (sys::AV1E_SET_AQ_MODE, 3),
        (sys::AOME_SET_MAX_INTRA_BITRATE_PCT, MAX_KEY_PERCENT),
        (sys::AV1E_SET_MAX_CONSEC_FRAME_DROP_CBR, MAX_DROPPED),
        (sys::AV1E_SET_TILE_COLUMNS, columns),
        (sys::AV1E_SET_ROW_MT, i32::from(config.threads > 1)),
        // Decoders lose what depends on pictures that were left out or lost.
        (sys::AV1E_SET_ENABLE_ORDER_HINT, 0),
        (sys::AV1E_SET_ENABLE_REF_FRAME_MVS, 0),
        (sys::AV1E_SET_ENABLE_TPL_MODEL, 0),
        (sys::AV1E_SET_DELTAQ_MODE, 0),
        (sys::AV1E_SET_COEFF_COST_UPD_FREQ, 3),
        (sys::AV1E_SET_MODE_COST_UPD_FREQ, 3),
        (sys::AV1E_SET_MV_COST_UPD_FREQ, 3),
        (sys::AV1E_SET_ENABLE_CDEF, 1),
        (sys::AV1E_SET_ENABLE_RESTORATION, 0),
        (sys::AV1E_SET_ENABLE_OBMC, 0),
        (sys::AV1E_SET_ENABLE_WARPED_MOTION, 0),
        (sys::AV1E_SET_ENABLE_GLOBAL_MOTION, 0),
        (sys::AV1E_SET_ENABLE_CFL_INTRA, 0),
        (sys::AV1E_SET_ENABLE_SMOOTH_INTRA, 0),
        (sys::AV1E_SET_ENABLE_ANGLE_DELTA, 0),
        (sys::AV1E_SET_ENABLE_FILTER_INTRA, 0),
        (sys::AV1E_SET_INTRA_DEFAULT_TX_ONLY, 1),
        (sys::AV1E_SET_DISABLE_TRELLIS_QUANT, 1),
        (sys::AV1E_SET_MAX_REFERENCE_FRAMES, 3),
        (
            sys::AV1E_SET_COLOR_PRIMARIES,
            sys::AOM_CICP_CP_BT_709.cast_signed(),
        ),
        (
            sys::AV1E_SET_TRANSFER_CHARACTERISTICS,
            sys::AOM_CICP_TC_BT_709.cast_signed(),
        ),
        (
            sys::AV1E_SET_MATRIX_COEFFICIENTS,
            sys::AOM_CICP_MC_BT_709.cast_signed(),
        ),
    ];
    for (id, value) in controls {
        encoder
            .set(id, value)
            .map_err(|error| format!("control {id}: {error}"))?;
    }
    encoder
        .set_layers(shares(config.temporal_layers))
        .map_err(|error| format!("layers: {error}"))?;
    Ok(encoder)
}

impl VideoEncoder for Av1Encoder {
    fn codec(&self) -> VideoCodec {
        VideoCodec::Av1
    }

    fn config(&self) -> VideoConfig {
        self.config
    }

    fn configure(&mut self, config: VideoConfig) -> Result<(), VideoError> {
        let failed = |reason| VideoError::Encode {
            codec: VideoCodec::Av1,
            reason,
        };
        let config = within_limits(config);
        let only_rate = VideoConfig {
            bitrate: self.config.bitrate,
            fps: self.config.fps,
            effort: self.config.effort,
            ..config
        } == self.config;
        if only_rate {
            if config.effort != self.config.effort {
                let speed = speed_of(config.effort);
                self.encoder
                    .set(sys::AOME_SET_CPUUSED, speed)
                    .map_err(|error| failed(error.to_string()))?;
            }
            self.encoder
                .change(settings(config))
                .and_then(|()| self.encoder.set_layers(shares(config.temporal_layers)))
                .map_err(|error| failed(error.to_string()))?;
        } else {
            self.encoder = set_up(config).map_err(failed)?;
            self.needs_key = true;
            self.last = None;
            self.ticks = 0;
        }
        self.config = config;
        Ok(())
    }

    fn encode(&mut self, frame: &Frame, key: bool) -> Result<Option<EncodedFrame>, VideoError> {
        let failed = |reason: libaom::Refused| VideoError::Encode {
            codec: VideoCodec::Av1,
            reason: reason.to_string(),
        };
        let key = key || self.needs_key;
        // By its own time, since cameras slow down in the dark; never backwards, and never twice the same. A longer gap is
        // one where pictures were left out because too much waits: whoever overshot must not be given their share.
        let usual = TICKS / u64::from(self.config.fps);
        let longest = (usual * MAX_GAP_PERCENT / 100) as f64;
        let since = self
            .last
            .map_or(Duration::ZERO, |last| frame.taken.saturating_sub(last));
        let ticks = (since.as_secs_f64() * TICKS as f64).clamp(1.0, longest);
        if self.last.is_some() {
            self.ticks += ticks as i64;
        }
        self.last = Some(frame.taken);
        if key {
            self.position = 0;
        }
        let cycle = cycle(self.config.temporal_layers);
        let references = match cycle.get(self.position % cycle.len()) {
            Some(references) if !key => *references,
            Some(_) | None => KEY,
        };
        // One layer is left to libaom: told to refer to the last picture alone, it stops at a third of a bitrate of
        // 400 kbit/s, and 6 dB below what it reaches by itself.
        if self.config.temporal_layers > 1 {
            self.encoder.set_references(references).map_err(failed)?;
        }
        let duration = u32::try_from(usual).unwrap_or(u32::MAX);
        let packet = self
            .encoder
            .encode(frame, self.ticks, duration, key)
            .map_err(failed)?;
        let Some(packet) = packet else {
            return Ok(None);
        };
        // A picture that was left out leaves its place to the next.
        self.position = (self.position + 1) % cycle.len();
        self.needs_key = false;
        let needs = self.needs(references, packet.is_key);
        for slot in references.into {
            if let Some(kept) = self.kept.get_mut(usize::from(*slot)) {
                *kept = self.count;
            }
        }
        self.count += 1;
        Ok(Some(EncodedFrame {
            bytes: packet.bytes,
            is_key: packet.is_key,
            temporal_layer: references.temporal_layer,
            needs,
            taken: frame.taken,
        }))
    }
}

impl std::fmt::Debug for Av1Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Av1Encoder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Decodes AV1.
pub struct Av1Decoder(Decoder);

impl Av1Decoder {
    /// With so many threads, 1..=8.
    ///
    /// # Errors
    /// [`VideoError::SetUp`] when memory is short.
    pub fn new(threads: u8) -> Result<Self, VideoError> {
        Decoder::new(threads.clamp(1, 8).into())
            .map(Self)
            .map_err(|error| VideoError::SetUp {
                codec: VideoCodec::Av1,
                reason: error.to_string(),
            })
    }
}

impl VideoDecoder for Av1Decoder {
    fn codec(&self) -> VideoCodec {
        VideoCodec::Av1
    }

    fn decode(&mut self, bytes: &[u8], frame: &mut Frame) -> Result<bool, VideoError> {
        self.0.decode(bytes, frame).map_err(|error| {
            tracing::debug!(%error, "a picture could not be decoded");
            VideoError::Malformed
        })
    }
}

impl std::fmt::Debug for Av1Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Av1Decoder").finish_non_exhaustive()
    }
}
