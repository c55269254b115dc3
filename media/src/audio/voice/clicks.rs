//! Takes the edge off keys that are struck while nobody speaks.
//!
//! A key is a few milliseconds of everything above 800 Hz, out of nothing. So is the beginning of some words: what goes
//! on for longer than a key is let through, what is voiced is never touched, and below 800 Hz nothing is.

use std::f32::consts::{FRAC_1_SQRT_2, TAU};

use super::{
    super::{BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ, level::Level},
    speech::SpeechMeter,
};

/// Looked at together: 2.5 ms, by which the sound is delayed too.
const PIECE: usize = BLOCK_SAMPLES / 4;

/// Voices have their tone below, keys their noise above.
const SPLIT_HZ: f32 = 800.0;

/// A key stands out of the noise by this power, and is louder than -70 dBFS.
const STANDS_OUT: f32 = 10.0;
const AUDIBLE: f32 = 1e-7;

/// Keys are no longer than this, in pieces: 60 ms.
const LONGEST: u32 = 24;

/// Tone makes a voice when it lasts for so many blocks, and for so many nothing is done then.
const VOICED_BLOCKS: u32 = 3;
const VOICE_HOLD_BLOCKS: u32 = 20;

/// The least gain: -26 dB.
const FLOOR: f32 = 0.05;

/// How fast the noise is followed, per piece.
const FOLLOWING: f32 = 0.02;

#[derive(Debug)]
pub(super) struct Clicks {
    b: [f32; 3],
    a: [f32; 2],
    state: [f32; 2],
    low: [f32; PIECE + BLOCK_SAMPLES],
    high: [f32; PIECE + BLOCK_SAMPLES],
    meter: SpeechMeter,
    voiced: u32,
    hold: u32,
    noise: f32,
    lasting: u32,
    /// Of the piece that comes out next.
    next: f32,
    gain: f32,
    count: u64,
}

impl Clicks {
    pub(super) fn new() -> Self {
        let w = TAU * SPLIT_HZ / SAMPLE_RATE_HZ as f32;
        let alpha = w.sin() / (2.0 * FRAC_1_SQRT_2);
        let a0 = 1.0 + alpha;
        let b = 0.5 * (1.0 - w.cos()) / a0;
        Self {
            b: [b, 2.0 * b, b],
            a: [-2.0 * w.cos() / a0, (1.0 - alpha) / a0],
            state: [0.0; 2],
            low: [0.0; PIECE + BLOCK_SAMPLES],
            high: [0.0; PIECE + BLOCK_SAMPLES],
            meter: SpeechMeter::new(),
            voiced: 0,
            hold: 0,
            noise: 0.0,
            lasting: 0,
            next: 1.0,
            gain: 1.0,
            count: 0,
        }
    }

    /// Keys that were heard.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes 10 ms and leaves what was there 2.5 ms before.
    pub(super) fn run(&mut self, block: &mut Block) {
        self.low.copy_within(BLOCK_SAMPLES.., 0);
        self.high.copy_within(BLOCK_SAMPLES.., 0);
        self.split(block);
        if self.meter.look(Level::of(&self.low[PIECE..]).rms_dbfs) {
            self.voiced += 1;
        } else {
            self.voiced = 0;
        }
        self.hold = if self.voiced >= VOICED_BLOCKS {
            VOICE_HOLD_BLOCKS
        } else {
            self.hold.saturating_sub(1)
        };
        for (piece, out) in block.chunks_exact_mut(PIECE).enumerate() {
            let at = piece * PIECE;
            let coming = &self.high[at + PIECE..at + 2 * PIECE];
            let power = coming.iter().map(|s| s * s).sum::<f32>() / PIECE as f32;
            let following = self.judge(power);
            // As low as what comes needs it before it comes.
            let end = self.next.min(following);
            self.next = following;
            let slope = (end - self.gain) / PIECE as f32;
            for (n, sample) in out.iter_mut().enumerate() {
                let gain = self.gain + slope * n as f32;
                *sample = self.low[at + n] + gain * self.high[at + n];
            }
            self.gain = end;
        }
    }

    fn split(&mut self, block: &Block) {
        let [b0, b1, b2] = self.b;
        let [a1, a2] = self.a;
        let [mut s1, mut s2] = self.state;
        for (n, &x) in block.iter().enumerate() {
            let y = b0 * x + s1;
            s1 = b1 * x - a1 * y + s2;
            s2 = b2 * x - a2 * y;
            self.low[PIECE + n] = y;
            self.high[PIECE + n] = x - y;
        }
        self.state = [s1, s2];
    }

    fn judge(&mut self, power: f32) -> f32 {
        let stands_out = power > STANDS_OUT * self.noise && power > AUDIBLE;
        if self.hold > 0 {
            self.lasting = LONGEST;
            return 1.0;
        }
        if !stands_out {
            self.lasting = 0;
            self.noise += FOLLOWING * (power - self.noise);
            return 1.0;
        }
        self.lasting += 1;
        if self.lasting > LONGEST {
            // No key after all.
            self.noise += FOLLOWING * (power - self.noise);
            return 1.0;
        }
        self.count += u64::from(self.lasting == 1);
        (self.noise / power).sqrt().max(FLOOR)
    }
}
