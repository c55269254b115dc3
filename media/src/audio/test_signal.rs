//! A signal with the traits of speech that matter to codec and jitter buffer, and a measure of damage.

use crate::time::SAMPLE_RATE_HZ;

/// Voiced syllables with a gliding pitch and formants, some noise, and pauses. Deterministic.
#[derive(Debug)]
pub(crate) struct Speech {
    random: u64,
    at: usize,
    phase: f32,
    resonators: [[f32; 2]; 3],
}

/// A syllable and the pause after it, in samples.
const SYLLABLE: usize = 12_000;
const PAUSE_EVERY: usize = 6;

impl Speech {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            at: 0,
            phase: 0.0,
            resonators: [[0.0; 2]; 3],
        }
    }

    fn noise(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn samples(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.sample()).collect()
    }

    pub(crate) fn sample(&mut self) -> f32 {
        let rate = SAMPLE_RATE_HZ as f32;
        let syllable = self.at / SYLLABLE;
        let within = (self.at % SYLLABLE) as f32 / SYLLABLE as f32;
        self.at += 1;
        let pause = syllable % PAUSE_EVERY == PAUSE_EVERY - 1;
        let envelope = if pause {
            0.0
        } else {
            (within * std::f32::consts::PI).sin().max(0.0).sqrt()
        };
        let pitch =
            110.0 + 25.0 * ((syllable * 7 % 5) as f32 - 2.0) * 0.5 + 15.0 * (within * 3.0).sin();
        self.phase += pitch / rate;
        let mut source = self.noise() * 0.02;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            source += 8.0;
        }
        let vowels = [
            [700.0, 1200.0, 2600.0],
            [300.0, 2300.0, 3000.0],
            [500.0, 900.0, 2500.0],
            [400.0, 1900.0, 2550.0],
        ];
        let formants = vowels[syllable % vowels.len()];
        let mut sum = 0.0;
        for (state, formant) in self.resonators.iter_mut().zip(formants) {
            let radius: f32 = 0.985;
            let angle = 2.0 * std::f32::consts::PI * formant / rate;
            let next = source * (1.0 - radius) + 2.0 * radius * angle.cos() * state[0]
                - radius * radius * state[1];
            *state = [next, state[0]];
            sum += next;
        }
        (sum * envelope * 0.35 + self.noise() * 0.0003).clamp(-0.95, 0.95)
    }
}

/// Mean over 20 ms segments of the signal-to-noise ratio, each within -10..=35 dB; silent segments do not
/// count. The signals must be aligned.
pub(crate) fn segmental_snr_db(clean: &[f32], heard: &[f32]) -> f32 {
    let mut sum = 0.0;
    let mut count = 0.0;
    for (clean, heard) in clean.chunks_exact(960).zip(heard.chunks_exact(960)) {
        let energy: f32 = clean.iter().map(|x| x * x).sum();
        if energy < 960.0 * 1e-5 {
            continue;
        }
        let noise: f32 = clean
            .iter()
            .zip(heard)
            .map(|(a, b)| (a - b) * (a - b))
            .sum();
        sum += (10.0 * (energy / noise.max(1e-9)).log10()).clamp(-10.0, 35.0);
        count += 1.0;
    }
    sum / f32::max(count, 1.0)
}
