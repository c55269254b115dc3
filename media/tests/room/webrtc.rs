//! WebRTC's whole chain, in Rust: what ours is measured by.

use ahoy_media::audio::{
    Block, SAMPLE_RATE_HZ, SILENCE,
    voice::{EchoState, VoiceConfig, VoiceProcessor, VoiceStats},
};
use sonora::{
    AudioProcessing, Config, StreamConfig,
    config::{
        AdaptiveDigital, EchoCanceller, GainController2, HighPassFilter, MaxProcessingRate,
        NoiseSuppression, Pipeline, TransparentModeType,
    },
};

/// WebRTC's echo canceller (AEC3), noise suppression, high-pass and gain control.
pub(crate) struct WebrtcChain {
    inner: AudioProcessing,
    echo: bool,
    blocks: u64,
}

impl std::fmt::Debug for WebrtcChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebrtcChain").finish_non_exhaustive()
    }
}

impl WebrtcChain {
    /// Builds the stages of `config`; its switches within the echo canceller mean nothing here.
    pub(crate) fn new(config: VoiceConfig) -> Self {
        let stream = StreamConfig::new(SAMPLE_RATE_HZ, 1);
        let inner = AudioProcessing::builder()
            .config(Config {
                pipeline: Pipeline {
                    maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
                    ..Pipeline::default()
                },
                high_pass_filter: config.high_pass.then(HighPassFilter::default),
                echo_canceller: config.echo_cancellation.then(|| EchoCanceller {
                    transparent_mode: TransparentModeType::Hmm,
                    ..EchoCanceller::default()
                }),
                noise_suppression: config.noise_suppression.then(NoiseSuppression::default),
                gain_controller2: config.gain_control.then(|| GainController2 {
                    adaptive_digital: Some(AdaptiveDigital::default()),
                    ..GainController2::default()
                }),
                ..Config::default()
            })
            .capture_config(stream)
            .render_config(stream)
            .build();
        Self {
            inner,
            echo: config.echo_cancellation,
            blocks: 0,
        }
    }
}

impl VoiceProcessor for WebrtcChain {
    fn render(&mut self, block: &Block, _shortening_ppm: f64) {
        let mut unused = SILENCE;
        self.inner
            .process_render_f32(&[&block[..]], &mut [&mut unused[..]])
            .expect("one channel, one block");
    }

    fn capture(&mut self, block: &mut Block) {
        self.blocks += 1;
        let input = *block;
        self.inner
            .process_capture_f32(&[&input[..]], &mut [&mut block[..]])
            .expect("one channel, one block");
    }

    fn note_jump(&mut self) {}

    fn configure(&mut self, config: VoiceConfig) {
        *self = Self::new(config);
    }

    fn stats(&self) -> VoiceStats {
        let echo = if self.echo {
            EchoState::Unknown
        } else {
            EchoState::Off
        };
        VoiceStats {
            blocks: self.blocks,
            echo,
            cancelled_db: self
                .inner
                .statistics()
                .echo_return_loss_enhancement
                .map_or(0.0, |db| db as f32),
            ..VoiceStats::default()
        }
    }
}
