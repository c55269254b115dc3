//! Helpers of the tests in this module.

use std::f64::consts::TAU;

/// Numbers from zero to a limit, the same ones for the same seed: a xorshift generator.
pub(super) struct Jitter {
    state: u64,
    limit: f64,
}

impl Jitter {
    pub(super) fn new(seed: u64, limit: f64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            limit,
        }
    }

    pub(super) fn next(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.limit * (self.state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Power of the best fitting sine of that frequency against what is left, in decibels.
pub(super) fn sine_snr_db(samples: &[f32], frequency_hz: f64, rate_hz: f64) -> f64 {
    let w = TAU * frequency_hz / rate_hz;
    let (mut ss, mut sc, mut cc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, &x) in samples.iter().enumerate() {
        let (s, c) = (w * n as f64).sin_cos();
        ss += s * s;
        sc += s * c;
        cc += c * c;
        xs += f64::from(x) * s;
        xc += f64::from(x) * c;
    }
    let det = ss * cc - sc * sc;
    let (a, b) = ((xs * cc - xc * sc) / det, (xc * ss - xs * sc) / det);
    let (mut signal, mut noise) = (0.0, 0.0);
    for (n, &x) in samples.iter().enumerate() {
        let (s, c) = (w * n as f64).sin_cos();
        let fit = a * s + b * c;
        signal += fit * fit;
        noise += (f64::from(x) - fit).powi(2);
    }
    10.0 * (signal / noise.max(1e-30)).log10()
}

/// The worst window of 20 ms. `frequency_hz` as if `samples` had 48 kHz; in each window it may be off by up to
/// 50 parts per million, a twelfth of a cent.
pub(super) fn worst_sine_snr_db(samples: &[f32], frequency_hz: f64) -> f64 {
    assert!(samples.len() > 9600);
    samples
        .chunks_exact(960)
        .map(|window| {
            (-5..=5)
                .map(|k| {
                    let frequency_hz = frequency_hz * (1.0 + f64::from(k) * 1e-5);
                    sine_snr_db(window, frequency_hz, 48_000.0)
                })
                .fold(f64::NEG_INFINITY, f64::max)
        })
        .fold(f64::INFINITY, f64::min)
}

/// Something like speech: voiced syllables with gliding pitch and changing formants, noise bursts and pauses between
/// them, peaking near 0.5. No two seeds give the same.
pub(super) fn speech(seed: u64, seconds: usize) -> Vec<f32> {
    let mut random = Jitter::new(seed.wrapping_add(1000), 1.0);
    let mut samples = Vec::new();
    while samples.len() < seconds * 48_000 {
        let len = 4800 + (random.next() * 7200.0) as usize;
        let pitch = 90.0 + 140.0 * random.next();
        let glide = 0.8 + 0.4 * random.next();
        let formants = [
            300.0 + 500.0 * random.next(),
            900.0 + 1500.0 * random.next(),
            2500.0 + 1500.0 * random.next(),
        ];
        let hiss = 0.02 + 0.1 * random.next();
        let mut phase = 0.0;
        for n in 0..len {
            let t = n as f64 / len as f64;
            let envelope = (std::f64::consts::PI * t).sin();
            let frequency = pitch * (1.0 + (glide - 1.0) * t);
            phase += frequency / 48_000.0;
            let mut voiced = 0.0;
            for harmonic in 1..=30 {
                let hz = frequency * f64::from(harmonic);
                let gain: f64 = formants
                    .iter()
                    .map(|f| 1.0 / (1.0 + ((hz - f) / 150.0).powi(2)))
                    .sum();
                voiced += gain * (TAU * phase * f64::from(harmonic)).sin();
            }
            let noise = hiss * (random.next() - 0.5) * (1.0 - envelope);
            samples.push((0.12 * envelope * voiced + noise) as f32);
        }
        samples.extend(std::iter::repeat_n(0.0, (random.next() * 4000.0) as usize));
    }
    samples.truncate(seconds * 48_000);
    samples
}
