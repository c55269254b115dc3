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
