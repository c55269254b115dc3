//! What the sender does about loss.
//!
//! All redundancy comes out of one and the same budget, so that protecting a call never makes congestion worse: a
//! mode only says how the bits are shared between the sound and what repairs it. PESQ-WB at 32 kbit/s in all chose
//! the modes:
//!
//! | loss | best |
//! |---|---|
//! | up to 1 % | nothing: concealment is good enough |
//! | random, up to 5 % | in-band FEC: a coarse copy of the previous frame, a few bits |
//! | random, up to a quarter | RED: a whole copy, two packets later, at half the bitrate |
//! | in bursts, or more | deep redundancy: the last second as features, from which a network speaks |

use std::time::{Duration, Instant};

use crate::{
    audio::opus::{EncoderConfig, MAX_DRED, MIN_DRED_LOSS_PERCENT, min_dred_bitrate},
    packet::red,
    rate::{Bitrate, MIN_AUDIO_BITRATE},
};

/// Packets between a packet and the one that carries its copy, the latter included. With 2 a loss of two in a row is
/// survived, and the listener waits for 40 ms.
pub const RED_DISTANCE: usize = 2;

/// Below this codec bitrate Opus makes no in-band copy, measured with libopus 1.6.1.
pub const MIN_FEC_BITRATE: Bitrate = Bitrate::kbps(20);

/// Told to Opus at least when in-band copies are wanted: below 6 % it makes none at 32 kbit/s.
pub const MIN_FEC_LOSS_PERCENT: u8 = 6;

/// Half of less than this is no longer worth hearing.
const MIN_RED_BITRATE: Bitrate = Bitrate::kbps(20);

/// Fractions at which each mode begins to be worth its price, and at which it no longer is.
const FEC: Band = Band {
    enter: 0.01,
    leave: 0.005,
};
const RED: Band = Band {
    enter: 0.05,
    leave: 0.03,
};
const DRED: Band = Band {
    enter: 0.26,
    leave: 0.2,
};

/// Mean burst, in packets, from which copies die together with what they are copies of.
const BURSTY: Band = Band {
    enter: 2.0,
    leave: 1.6,
};

/// The line must have been better for so long before less is done about it.
const CALM: Duration = Duration::from_secs(8);

/// Opus is told the loss in steps of so many percent: each change of its settings costs it a little.
const LOSS_STEP_PERCENT: u8 = 5;

struct Band {
    enter: f32,
    leave: f32,
}

impl Band {
    fn holds(&self, value: f32, is_in: bool) -> bool {
        value > if is_in { self.leave } else { self.enter }
    }
}

/// What is done about loss, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mode {
    /// Nothing.
    #[default]
    Plain,
    /// In-band copies of the previous frame (RFC 6716 section 2.1.7).
    Fec,
    /// A whole copy in a later packet: see [`red`].
    Red,
    /// Deep redundancy.
    Dred,
}

/// Which modes may be used: what is switched on here, and what the other side understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// [`Mode::Fec`].
    pub fec: bool,
    /// [`Mode::Red`].
    pub red: bool,
    /// [`Mode::Dred`].
    pub dred: bool,
}

impl Modes {
    /// Whatever helps.
    pub const ALL: Self = Self {
        fec: true,
        red: true,
        dred: true,
    };
    /// Nothing is ever done.
    pub const NONE: Self = Self {
        fec: false,
        red: false,
        dred: false,
    };

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            fec: self.fec && other.fec,
            red: self.red && other.red,
            dred: self.dred && other.dred,
        }
    }

    fn has(self, mode: Mode) -> bool {
        match mode {
            Mode::Plain => true,
            Mode::Fec => self.fec,
            Mode::Red => self.red,
            Mode::Dred => self.dred,
        }
    }
}

/// What became of our packets lately, as the other side told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Part of the packets that did not arrive, 0.0..=1.0.
    pub fraction: f32,
    /// Packets lost in a row, on average; about 1.1 for 10 % at random.
    pub mean_burst: f32,
}

/// How to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// What is done.
    pub mode: Mode,
    /// The loss to be prepared for, 0..=100.
    pub loss_percent: u8,
}

impl Protection {
    /// The codec's settings, so that packets with everything in them have the bitrate of `base`.
    #[must_use]
    pub fn encoder(&self, base: EncoderConfig) -> EncoderConfig {
        match self.mode {
            Mode::Plain => base,
            Mode::Fec => EncoderConfig {
                fec: true,
                expected_loss_percent: self.loss_percent.max(MIN_FEC_LOSS_PERCENT),
                dred: Duration::ZERO,
                ..base
            },
            Mode::Red => {
                let bytes = base.packet_bytes().saturating_sub(red::ONE_COPY_BYTES) / 2;
                let bitrate = EncoderConfig::bitrate_of(bytes, base.frame);
                EncoderConfig {
                    bitrate: bitrate.max(MIN_AUDIO_BITRATE),
                    fec: false,
                    expected_loss_percent: 0,
                    dred: Duration::ZERO,
                    ..base
                }
            }
            Mode::Dred => EncoderConfig {
                fec: false,
                expected_loss_percent: self.loss_percent.max(MIN_DRED_LOSS_PERCENT),
                dred: MAX_DRED,
                ..base
            },
        }
    }
}

/// Decides what is done: at once when the line gets worse, slowly when it gets better.
#[derive(Debug)]
pub struct LossPolicy {
    allowed: Modes,
    current: Protection,
    /// Since when less would do, and the most that was wanted since.
    calmer: Option<(Instant, Protection)>,
}

impl LossPolicy {
    /// A policy that does nothing yet.
    #[must_use]
    pub fn new(allowed: Modes) -> Self {
        Self {
            allowed,
            current: Protection::default(),
            calmer: None,
        }
    }

    /// What is done.
    #[must_use]
    pub fn current(&self) -> Protection {
        self.current
    }

    /// What to do from now on about `loss` with the settings `base`, whose bitrate is for everything. Call it a few
    /// times a second.
    pub fn update(&mut self, now: Instant, loss: Loss, base: EncoderConfig) -> Protection {
        let wanted = self.wanted(loss, base);
        let rank = |protection: Protection| (protection.mode, protection.loss_percent);
        // What the budget no longer allows goes at once.
        let is_possible = self.is_possible(self.current.mode, base);
        if rank(wanted) >= rank(self.current) || !is_possible {
            self.calmer = None;
            self.change(wanted, loss);
            return self.current;
        }
        let (since, most) = match self.calmer {
            Some((since, most)) if rank(most) >= rank(wanted) => (since, most),
            Some((since, _)) => (since, wanted),
            None => (now, wanted),
        };
        self.calmer = Some((since, most));
        if now.saturating_duration_since(since) >= CALM {
            self.calmer = None;
            self.change(most, loss);
        }
        self.current
    }

    fn change(&mut self, to: Protection, loss: Loss) {
        if to.mode != self.current.mode {
            let Loss {
                fraction,
                mean_burst,
            } = loss;
            tracing::info!(?to, fraction, mean_burst, "what is done about loss changes");
        }
        self.current = to;
    }

    fn is_possible(&self, mode: Mode, base: EncoderConfig) -> bool {
        let least = match mode {
            Mode::Plain => MIN_AUDIO_BITRATE,
            Mode::Fec => MIN_FEC_BITRATE,
            Mode::Red => MIN_RED_BITRATE,
            Mode::Dred => min_dred_bitrate(base.frame),
        };
        self.allowed.has(mode) && base.bitrate >= least
    }

    fn wanted(&self, loss: Loss, base: EncoderConfig) -> Protection {
        let is_in = |mode: Mode| self.current.mode >= mode;
        // What is no number is no loss.
        let fraction = loss.fraction.clamp(0.0, 1.0);
        let bursty = FEC.holds(fraction, is_in(Mode::Fec))
            && BURSTY.holds(loss.mean_burst, is_in(Mode::Dred));
        let ideal = if bursty || DRED.holds(fraction, is_in(Mode::Dred)) {
            Mode::Dred
        } else if RED.holds(fraction, is_in(Mode::Red)) {
            Mode::Red
        } else if FEC.holds(fraction, is_in(Mode::Fec)) {
            Mode::Fec
        } else {
            Mode::Plain
        };
        // The next best below, or what does too much above: a copy where in-band ones cannot be.
        let order = match ideal {
            Mode::Plain => [Mode::Plain; 3],
            Mode::Fec => [Mode::Fec, Mode::Red, Mode::Plain],
            Mode::Red => [Mode::Red, Mode::Fec, Mode::Dred],
            Mode::Dred => [Mode::Dred, Mode::Red, Mode::Fec],
        };
        let mode = order
            .into_iter()
            .find(|mode| self.is_possible(*mode, base))
            .unwrap_or(Mode::Plain);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 100"
        )]
        let percent = (fraction * 100.0).ceil() as u8;
        let stepped = percent.next_multiple_of(LOSS_STEP_PERCENT);
        Protection {
            mode,
            loss_percent: match mode {
                Mode::Plain | Mode::Red => 0,
                Mode::Fec => stepped.max(MIN_FEC_LOSS_PERCENT),
                Mode::Dred => stepped.max(MIN_DRED_LOSS_PERCENT),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only way to make an Instant; only differences matter"
        )]
        Instant::now()
    }

    fn loss(percent: f32, mean_burst: f32) -> Loss {
        Loss {
            fraction: percent / 100.0,
            mean_burst,
        }
    }

    fn base(kilobits: u32) -> EncoderConfig {
        EncoderConfig {
            bitrate: Bitrate::kbps(kilobits),
            ..EncoderConfig::default()
        }
    }

    fn first(allowed: Modes, loss: Loss, kilobits: u32) -> Mode {
        let mut policy = LossPolicy::new(allowed);
        policy.update(start(), loss, base(kilobits)).mode
    }

    #[test]
    fn each_line_gets_what_sounds_best_on_it() {
        for (percent, burst, want) in [
            (0.0, 0.0, Mode::Plain),
            (0.9, 1.0, Mode::Plain),
            (0.9, 8.0, Mode::Plain),
            (3.0, 1.0, Mode::Fec),
            (10.0, 1.1, Mode::Red),
            (20.0, 1.3, Mode::Red),
            (30.0, 1.4, Mode::Dred),
            (3.0, 3.0, Mode::Dred),
            (10.0, 8.0, Mode::Dred),
            (f32::NAN, f32::NAN, Mode::Plain),
        ] {
            let got = first(Modes::ALL, loss(percent, burst), 32);
            assert_eq!(got, want, "{percent} %, bursts of {burst}");
        }
    }

    #[test]
    fn what_cannot_be_is_replaced_by_the_next_best() {
        let heavy = loss(10.0, 3.0);
        assert_eq!(first(Modes::ALL, heavy, 31), Mode::Red);
        assert_eq!(first(Modes::ALL, heavy, 19), Mode::Plain);
        let without = |off: fn(&mut Modes)| {
            let mut modes = Modes::ALL;
            off(&mut modes);
            modes
        };
        assert_eq!(first(without(|m| m.dred = false), heavy, 32), Mode::Red);
        let random = loss(10.0, 1.1);
        assert_eq!(first(without(|m| m.red = false), random, 32), Mode::Fec);
        let light = loss(3.0, 1.0);
        assert_eq!(first(without(|m| m.fec = false), light, 32), Mode::Red);
        for loss in [heavy, random, light] {
            assert_eq!(first(Modes::NONE, loss, 64), Mode::Plain);
        }
    }

    #[test]
    fn more_is_done_at_once_and_less_after_a_while() {
        let mut policy = LossPolicy::new(Modes::ALL);
        let start = start();
        let mut update = |seconds: f32, percent: f32, burst: f32| {
            let now = start + Duration::from_secs_f32(seconds);
            policy.update(now, loss(percent, burst), base(32)).mode
        };
        assert_eq!(update(0.0, 0.0, 0.0), Mode::Plain);
        assert_eq!(update(0.2, 2.0, 1.0), Mode::Fec);
        assert_eq!(update(0.4, 6.0, 1.0), Mode::Red);
        assert_eq!(update(0.6, 6.0, 2.5), Mode::Dred);
        // Better, but for a moment; then in truth.
        assert_eq!(update(1.0, 6.0, 1.0), Mode::Dred);
        assert_eq!(update(8.0, 6.0, 2.5), Mode::Dred);
        assert_eq!(update(8.2, 0.0, 1.0), Mode::Dred);
        assert_eq!(update(12.0, 6.0, 1.0), Mode::Dred);
        assert_eq!(update(16.0, 0.0, 1.0), Mode::Dred);
        // Down to the most that was wanted meanwhile, no further.
        assert_eq!(update(16.3, 0.0, 1.0), Mode::Red);
        assert_eq!(update(16.5, 0.0, 1.0), Mode::Red);
        assert_eq!(update(24.6, 0.0, 1.0), Mode::Plain);
    }

    #[test]
    fn a_loss_that_wavers_about_a_threshold_changes_the_mode_once() {
        let mut policy = LossPolicy::new(Modes::ALL);
        let mut changes = 0;
        let mut mode = Mode::Plain;
        for tick in 0..3000u32 {
            let wave = (tick as f32 * 0.37).sin() + (tick as f32 * 0.011).sin();
            let now = start() + Duration::from_millis(200) * tick;
            let next = policy
                .update(now, loss(5.0 + 1.0 * wave, 1.1), base(32))
                .mode;
            changes += u32::from(std::mem::replace(&mut mode, next) != next);
        }
        assert!(changes <= 2, "{changes} changes");
    }

    proptest! {
        #[test]
        fn everything_together_never_costs_more_than_the_budget(
            kilobits in 6u32..=128,
            blocks in 0usize..4,
            percent in 0.0f32..100.0,
            burst in 0.0f32..20.0,
        ) {
            use crate::audio::opus::FrameDuration::{Ms10, Ms20, Ms40, Ms60};
            let base = EncoderConfig { frame: [Ms10, Ms20, Ms40, Ms60][blocks], ..base(kilobits) };
            let mut policy = LossPolicy::new(Modes::ALL);
            let protection = policy.update(start(), loss(percent, burst), base);
            let encoder = protection.encoder(base);
            let bytes = match protection.mode {
                Mode::Red => 2 * encoder.packet_bytes() + red::ONE_COPY_BYTES,
                Mode::Plain | Mode::Fec | Mode::Dred => encoder.packet_bytes(),
            };
            prop_assert!(bytes <= base.packet_bytes(), "{bytes} of {}", base.packet_bytes());
            prop_assert!(!(encoder.fec && encoder.dred > Duration::ZERO));
        }
    }
}
