//! The stages in their order.

use super::{
    super::{Block, SILENCE},
    EchoState, VoiceConfig, VoiceProcessor, VoiceStats,
    alignment::Alignment,
    bands::{Decimator, Delay, Interpolator},
    clicks::Clicks,
    echo_filter::{EchoFilter, LOW_SAMPLES, LowBlock},
    gain::Gain,
    gate::Gate,
    high_pass::HighPass,
    presence::{Finding, Presence},
    suppressor::Suppressor,
};

/// How fast the canceller steps aside and comes back, per block: 50 ms.
const FADE_STEP: f32 = 0.2;

/// What the filter looks out for while there is an echo, and while there is none: then it disturbs nobody.
const CURIOSITY_PRESENT: f32 = 1e-5;
const CURIOSITY_ABSENT: f32 = 0.05;

/// How long levels are averaged for the figure of what was cancelled, in blocks.
const AVERAGE_BLOCKS: f32 = 200.0;

/// Of what the microphone hears this much is left when somebody near speaks.
const NEAR_SHARE: f32 = 0.2;

/// Power, with what was before counting for half.
fn followed(before: f32, block: &Block) -> f32 {
    0.5 * before + 0.5 * block.iter().map(|s| s * s).sum::<f32>()
}

/// Our own chain.
#[derive(Debug)]
pub struct Chain {
    high_pass: Option<HighPass>,
    echo: Option<Box<EchoStage>>,
    suppressor: Option<Box<Suppressor>>,
    clicks: Option<Box<Clicks>>,
    gain: Option<Gain>,
    gate: Option<Gate>,
    /// Power of the last blocks before and after the echo was taken out.
    heard_power: f32,
    kept_power: f32,
    blocks: u64,
}

impl Chain {
    /// Builds the stages of `config`.
    #[must_use]
    pub fn new(config: VoiceConfig) -> Self {
        Self {
            high_pass: config
                .high_pass
                .then(|| HighPass::new(config.leave_clean_alone)),
            echo: config
                .echo_cancellation
                .then(|| Box::new(EchoStage::new(config))),
            suppressor: suppresses(config).then(|| Box::new(Suppressor::new(config))),
            clicks: config.click_suppression.then(|| Box::new(Clicks::new())),
            gain: config.gain_control.then(Gain::new),
            gate: config.voice_gate.then(Gate::new),
            heard_power: 0.0,
            kept_power: 0.0,
            blocks: 0,
        }
    }
}

fn suppresses(config: VoiceConfig) -> bool {
    config.noise_suppression || (config.echo_cancellation && config.echo.residual_suppression)
}

impl VoiceProcessor for Chain {
    fn render(&mut self, block: &Block, shortening_ppm: f64) {
        if let Some(echo) = &mut self.echo {
            echo.alignment.expect(shortening_ppm);
            echo.reference = *block;
            for sample in &mut echo.reference {
                if !sample.is_finite() {
                    *sample = 0.0;
                }
            }
        }
    }

    fn capture(&mut self, block: &mut Block) {
        self.blocks += 1;
        for sample in block.iter_mut() {
            // A driver's mistake must not stay in the filters for ever.
            if !sample.is_finite() {
                *sample = 0.0;
            }
        }
        let echo_is_present = self
            .echo
            .as_ref()
            .is_some_and(|echo| echo.presence.state() == EchoState::Present);
        if let Some(high_pass) = &mut self.high_pass {
            high_pass.run(block, echo_is_present);
        }
        self.heard_power = followed(self.heard_power, block);
        if let Some(echo) = &mut self.echo {
            if echo.run(block) == Finding::OtherRoom
                && let Some(suppressor) = &mut self.suppressor
            {
                suppressor.forget_leak();
            }
            if let Some(suppressor) = &mut self.suppressor {
                let cares = echo.config.echo.residual_suppression
                    && echo.share > 0.0
                    && !echo.filter.is_idle();
                let missed = cares.then(|| (&echo.echo, echo.filter.residual()));
                suppressor.note_echo(echo_is_present);
                suppressor.run(block, missed);
            }
        } else if let Some(suppressor) = &mut self.suppressor {
            suppressor.run(block, None);
        }
        self.kept_power = followed(self.kept_power, block);
        let near = self.kept_power > NEAR_SHARE * self.heard_power;
        if let Some(clicks) = &mut self.clicks {
            clicks.run(block);
        }
        if let Some(gain) = &mut self.gain {
            gain.run(block, near);
        }
        if let Some(gate) = &mut self.gate {
            gate.run(block, near);
        }
    }

    fn note_jump(&mut self) {
        if let Some(echo) = &mut self.echo {
            echo.filter.doubt();
        }
    }

    fn configure(&mut self, config: VoiceConfig) {
        fn keep<T>(stage: &mut Option<T>, wanted: bool, make: impl FnOnce() -> T) {
            if !wanted {
                *stage = None;
            } else if stage.is_none() {
                *stage = Some(make());
            }
        }
        keep(&mut self.high_pass, config.high_pass, || {
            HighPass::new(config.leave_clean_alone)
        });
        keep(&mut self.echo, config.echo_cancellation, || {
            Box::new(EchoStage::new(config))
        });
        if let Some(echo) = &mut self.echo {
            echo.config = config;
        }
        keep(&mut self.suppressor, suppresses(config), || {
            Box::new(Suppressor::new(config))
        });
        if let Some(suppressor) = &mut self.suppressor {
            suppressor.set_against_noise(config.noise_suppression);
        }
        keep(&mut self.clicks, config.click_suppression, || {
            Box::new(Clicks::new())
        });
        keep(&mut self.gain, config.gain_control, Gain::new);
        keep(&mut self.gate, config.voice_gate, Gate::new);
    }

    fn is_off(&self) -> bool {
        self.high_pass.is_none()
            && self.echo.is_none()
            && self.suppressor.is_none()
            && self.clicks.is_none()
            && self.gain.is_none()
            && self.gate.is_none()
    }

    fn stats(&self) -> VoiceStats {
        let stats = VoiceStats {
            blocks: self.blocks,
            high_pass: self.high_pass.as_ref().is_some_and(HighPass::is_in_use),
            noise_dbfs: self.suppressor.as_ref().and_then(|s| s.noise_dbfs()),
            gain_db: self.gain.as_ref().map_or(0.0, Gain::db),
            clicks: self.clicks.as_ref().map_or(0, |clicks| clicks.count()),
            gated_blocks: self.gate.as_ref().map_or(0, Gate::closed_blocks),
            ..VoiceStats::default()
        };
        match &self.echo {
            Some(echo) => VoiceStats {
                echo: echo.presence.state(),
                cancelled_db: echo.cancelled_db(),
                room_changes: echo.room_changes,
                drift_ppm: echo.alignment.ppm(),
                ..stats
            },
            None => stats,
        }
    }
}

#[derive(Debug)]
struct EchoStage {
    config: VoiceConfig,
    reference: Block,
    /// The estimate of the last block at 48 kHz.
    echo: Block,
    alignment: Alignment,
    reference_down: Decimator,
    microphone_down: Decimator,
    up: Interpolator,
    delay: Delay,
    filter: EchoFilter,
    presence: Presence,
    /// How much of the estimate is taken out.
    share: f32,
    room_changes: u64,
    heard_power: f32,
    left_power: f32,
}

impl EchoStage {
    fn new(config: VoiceConfig) -> Self {
        let mut filter = EchoFilter::new();
        filter.set_curiosity(CURIOSITY_PRESENT);
        Self {
            config,
            reference: SILENCE,
            echo: SILENCE,
            alignment: Alignment::new(config.echo.drift_correction),
            reference_down: Decimator::new(),
            microphone_down: Decimator::new(),
            up: Interpolator::new(),
            delay: Delay::new(),
            filter,
            presence: Presence::new(),
            share: 1.0,
            room_changes: 0,
            heard_power: 0.0,
            left_power: 0.0,
        }
    }

    fn run(&mut self, block: &mut Block) -> Finding {
        let mut reference: LowBlock = [0.0; LOW_SAMPLES];
        let mut microphone = reference;
        let mut estimate = reference;
        if self.alignment.run(&mut self.reference) {
            self.filter.doubt();
        }
        self.reference_down.run(&self.reference, &mut reference);
        // Nothing comes from the speaker until the next block says so.
        self.reference = SILENCE;
        self.microphone_down.run(block, &mut microphone);
        self.filter.estimate(&reference, &mut estimate);
        let left: LowBlock = std::array::from_fn(|n| microphone[n] - estimate[n]);
        self.filter.adapt(&left);
        self.alignment.look(&estimate, &left);
        let mut finding = self
            .presence
            .look(&reference, &microphone, &estimate, &left);
        if finding == Finding::OtherRoom {
            if self.config.echo.room_change_detection {
                self.filter.reset();
                self.room_changes += 1;
            } else {
                finding = Finding::Nothing;
            }
        }
        self.average(&reference, &microphone, &left);
        self.up.run(&estimate, &mut self.echo);
        self.delay.run(block);
        self.fade(block);
        finding
    }

    /// Takes the estimate out of the sound, as far as there is an echo.
    fn fade(&mut self, block: &mut Block) {
        let absent =
            self.config.echo.absence_detection && self.presence.state() == EchoState::Absent;
        let (wanted, curiosity) = if absent {
            (0.0, CURIOSITY_ABSENT)
        } else {
            (1.0, CURIOSITY_PRESENT)
        };
        self.filter.set_curiosity(curiosity);
        let before = self.share;
        self.share += (wanted - before).clamp(-FADE_STEP, FADE_STEP);
        let slope = (self.share - before) / block.len() as f32;
        for (n, (sample, echo)) in block.iter_mut().zip(&mut self.echo).enumerate() {
            *echo *= before + slope * n as f32;
            *sample -= *echo;
        }
    }

    fn average(&mut self, reference: &LowBlock, microphone: &LowBlock, left: &LowBlock) {
        let power = |block: &LowBlock| block.iter().map(|s| s * s).sum::<f32>();
        if power(reference) > 1e-5 {
            let weight = 1.0 / AVERAGE_BLOCKS;
            self.heard_power += weight * (power(microphone) - self.heard_power);
            self.left_power += weight * (power(left) - self.left_power);
        }
    }

    fn cancelled_db(&self) -> f32 {
        if self.left_power > 0.0 {
            10.0 * (self.heard_power / self.left_power).log10()
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{level::Level, test_signal::Speech};

    /// Steady noise, audible and no voice.
    fn noise(seed: &mut u32, block: &mut Block) {
        for sample in block {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = 0.02 * (*seed as f32 / u32::MAX as f32 - 0.5);
        }
    }

    fn level_of_noise(chain: &mut Chain, seed: &mut u32, blocks: u32) -> f32 {
        let mut block = SILENCE;
        let mut last = Vec::new();
        for n in 0..blocks {
            noise(seed, &mut block);
            chain.capture(&mut block);
            if n + 50 >= blocks {
                last.extend_from_slice(&block);
            }
        }
        Level::of(&last).rms_dbfs
    }

    #[test]
    fn a_stage_can_be_switched_while_sound_flows() {
        let with = VoiceConfig {
            noise_suppression: true,
            ..VoiceConfig::OFF
        };
        let (mut chain, mut seed) = (Chain::new(VoiceConfig::OFF), 1);
        let loud = level_of_noise(&mut chain, &mut seed, 300);
        chain.configure(with);
        let soft = level_of_noise(&mut chain, &mut seed, 800);
        assert!(loud - soft > 10.0, "{loud} dBFS became {soft}");
        assert!(chain.stats().noise_dbfs.is_some());
        chain.configure(VoiceConfig::OFF);
        let again = level_of_noise(&mut chain, &mut seed, 100);
        assert!((again - loud).abs() < 0.5, "{loud} dBFS, then {again}");
        assert_eq!(chain.stats().noise_dbfs, None);
        let speech = Speech::new(3).samples(480);
        let mut block: Block = speech[..].try_into().unwrap();
        chain.capture(&mut block);
        assert_eq!(block[..], speech[..], "off means untouched");
    }

    #[test]
    fn a_stage_that_stays_keeps_what_it_has_learnt() {
        let config = VoiceConfig {
            gain_control: true,
            ..VoiceConfig::default()
        };
        let (mut chain, mut seed) = (Chain::new(config), 1);
        level_of_noise(&mut chain, &mut seed, 500);
        let known = chain.stats().noise_dbfs;
        assert!(known.is_some());
        chain.configure(VoiceConfig {
            high_pass: false,
            ..config
        });
        assert_eq!(chain.stats().noise_dbfs, known);
        assert_eq!(chain.stats().blocks, 500);
    }
}
