//! What lies below speech: hum, the rumble of a desk, an offset.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use super::super::{Block, SAMPLE_RATE_HZ};

/// Half of the power passes here. The deepest voices begin at 80 Hz.
const CUT_HZ: f64 = 70.0;

/// A Butterworth high-pass of second order.
#[derive(Debug)]
pub(super) struct HighPass {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl HighPass {
    pub(super) fn new() -> Self {
        let w = TAU * CUT_HZ / f64::from(SAMPLE_RATE_HZ);
        let alpha = w.sin() / (2.0 * FRAC_1_SQRT_2);
        let a0 = 1.0 + alpha;
        let b = f64::midpoint(1.0, w.cos()) / a0;
        Self {
            b: [b, -2.0 * b, b],
            a: [-2.0 * w.cos() / a0, (1.0 - alpha) / a0],
            state: [0.0; 2],
        }
    }

    pub(super) fn run(&mut self, block: &mut Block) {
        let [b0, b1, b2] = self.b;
        let [a1, a2] = self.a;
        let [mut s1, mut s2] = self.state;
        for sample in block {
            let x = f64::from(*sample);
            let y = b0 * x + s1;
            s1 = b1 * x - a1 * y + s2;
            s2 = b2 * x - a2 * y;
            *sample = y as f32;
        }
        self.state = [s1, s2];
    }
}
