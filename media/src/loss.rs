//! What the sender does about loss.
//!
//! All redundancy comes out of one and the same budget, so that protecting a call never makes congestion worse: a
//! mode only says how the bits are shared between the sound and what repairs it. PESQ-WB of speech at 32 kbit/s in
//! all, through this crate's own sender and receiver, chose the modes:
//!
//! | loss | best | what it costs the listener |
//! |---|---|---|
//! | up to 1 % | nothing: concealment is good enough | |
//! | random, up to 5 % | in-band FEC: a coarse copy of the previous frame, a few bits | a frame of delay |
//! | random, up to 28 % | a whole copy in the next packet (RED), at half the bitrate | a frame of delay |
//! | random, more | the sum of two earlier packets (parity), at half the bitrate | three frames |
//! | in bursts | a whole copy two packets later, beyond most of them; three where they are long or many | two or three frames |
//! | random above 14 %, or in bursts | where there is room: the copy in a packet of its own, between two others | half a frame less |
//! | in very long bursts | deep redundancy: the last second as features, from which a network speaks | up to 60 ms |
//!
//! Nobody waits for more than 60 ms of a burst. Of one of eight packets copies bring back as much in that time as deep
//! redundancy does, and sound better: PESQ-WB 2.95 against 2.79 at 10 % in bursts of 8, 3.11 against 3.16 in bursts
//! of 20.
//!
//! Where half the bitrate or less is left to the sound, only what is below 8 kHz is sent: at 15 kbit/s that is worth
//! 0.2.
//!
//! Music is repaired by copies and parity alone: what else there is knows voices only. It keeps all its frequencies, and
//! copies begin where a voice would get in-band ones.

use std::time::{Duration, Instant};

use crate::{
    audio::opus::{
        EncoderConfig, FrameDuration, MAX_DRED, MIN_DRED_LOSS_PERCENT, RateControl,
        min_dred_bitrate,
    },
    packet::{apart, parity, red},
    rate::{Bitrate, MIN_AUDIO_BITRATE},
};

/// Packets kept to be sent again at most: what the furthest copy needs.
pub(crate) const MAX_RED_DISTANCE: usize = 8;

/// Below this codec bitrate Opus makes no in-band copy, measured with libopus 1.6.1.
pub const MIN_FEC_BITRATE: Bitrate = Bitrate::kbps(20);

/// Told to Opus at least when in-band copies are wanted: below 6 % it makes none at 32 kbit/s.
pub const MIN_FEC_LOSS_PERCENT: u8 = 6;

/// Half of less than this is no longer worth hearing.
const MIN_RED_BITRATE: Bitrate = Bitrate::kbps(20);

/// Loss that Opus is told with whole copies, of which few are lost together with what they are copies of: sound then
/// depends less on what was before it.
const RED_LOSS_PERCENT: u8 = 5;

/// Fractions at which each mode begins to be worth its price, and at which it no longer is.
const FEC: Band = Band {
    enter: 0.01,
    leave: 0.005,
};
const RED: Band = Band {
    enter: 0.05,
    leave: 0.03,
};
// At 30 % it is worth 0.4, and costs 40 ms more than copies between packets, with which ahoy would be later than WebRTC is there:
// it is for lines that have no room for these.
const PARITY: Band = Band {
    enter: 0.28,
    leave: 0.24,
};

/// Mean bursts, in packets and beside those that chance makes, from which the copy in the next packet and in the one
/// after die together with what they are copies of (the latter where there are many bursts, or long ones), and from which
/// no copy is far enough.
const BURSTY: Band = Band {
    enter: 1.4,
    leave: 1.25,
};
const VERY_BURSTY: Band = Band {
    enter: 1.9,
    leave: 1.6,
};
const MANY_BURSTS: Band = Band {
    enter: 0.14,
    leave: 0.1,
};
const LONG_BURSTS: Band = Band {
    enter: 4.2,
    leave: 3.4,
};
const VERY_LONG_BURSTS: Band = Band {
    enter: 12.0,
    leave: 9.0,
};

/// Where copies travel by themselves: their headers are another 29 kbit/s. They do in all bursts.
const APART: Band = Band {
    enter: 0.14,
    leave: 0.1,
};
/// Twice as many packets: as many again in a burst that lasts for a time, none in one that takes so many packets. Nobody knows
/// which it is.
const BURSTS_APART: f32 = 0.75;

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
    /// The sum of two earlier packets in each: see [`parity`].
    Parity,
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
    /// [`Mode::Parity`].
    pub parity: bool,
    /// [`Mode::Dred`].
    pub dred: bool,
    /// Copies of [`Mode::Red`] in packets of their own.
    pub apart: bool,
}

impl Modes {
    /// Whatever helps.
    pub const ALL: Self = Self {
        fec: true,
        red: true,
        parity: true,
        dred: true,
        apart: true,
    };
    /// Nothing is ever done.
    pub const NONE: Self = Self {
        fec: false,
        red: false,
        parity: false,
        dred: false,
        apart: false,
    };

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            fec: self.fec && other.fec,
            red: self.red && other.red,
            parity: self.parity && other.parity,
            dred: self.dred && other.dred,
            apart: self.apart && other.apart,
        }
    }

    fn has(self, mode: Mode) -> bool {
        match mode {
            Mode::Plain => true,
            Mode::Fec => self.fec,
            Mode::Red => self.red,
            Mode::Parity => self.parity,
            Mode::Dred => self.dred,
        }
    }
}

impl Mode {
    /// Whether each packet carries something of earlier ones beside itself.
    pub(crate) fn repeats(self) -> bool {
        match self {
            Self::Red | Self::Parity => true,
            Self::Plain | Self::Fec | Self::Dred => false,
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
    /// With [`Mode::Red`], which earlier packets are sent again.
    pub copies: Copies,
    /// With [`Mode::Red`], the copy leaves by itself, half a frame sooner.
    pub apart: bool,
}

/// Which earlier packets each packet carries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copies {
    /// How many.
    pub count: u8,
    /// The first is the packet so many before, the next that so many before it, and so on. A burst shorter than this
    /// is survived by one copy; the listener waits for the furthest.
    pub distance: u8,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            count: 1,
            distance: 1,
        }
    }
}

impl Copies {
    /// How many packets before its own each copy is from, none too far to be kept, the furthest first.
    pub(crate) fn distances(self) -> impl ExactSizeIterator<Item = usize> {
        let (count, distance) = (usize::from(self.count), usize::from(self.distance.max(1)));
        let count = count.min(MAX_RED_DISTANCE / distance).min(red::MAX_COPIES);
        (0..count).map(move |n| (count - n) * distance)
    }
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
            Mode::Red if self.apart => self.parted(base, 2, apart::OVERHEAD_BYTES),
            Mode::Red => {
                let count = self.copies.distances().len();
                self.parted(base, count + 1, red::overhead_bytes(count))
            }
            Mode::Parity => self.parted(base, 2, parity::OVERHEAD_BYTES),
            Mode::Dred => EncoderConfig {
                wideband: true,
                fec: false,
                expected_loss_percent: self.loss_percent.max(MIN_DRED_LOSS_PERCENT),
                dred: MAX_DRED,
                ..base
            },
        }
    }

    /// A packet in so many equal parts, one of them the sound, and some more bytes.
    fn parted(&self, base: EncoderConfig, parts: usize, overhead_bytes: usize) -> EncoderConfig {
        let bytes = base.packet_bytes().saturating_sub(overhead_bytes) / parts;
        let bitrate = EncoderConfig::bitrate_of(bytes, base.frame);
        EncoderConfig {
            bitrate: bitrate.max(MIN_AUDIO_BITRATE),
            wideband: !base.content.is_music(),
            fec: false,
            expected_loss_percent: self.loss_percent,
            dred: Duration::ZERO,
            ..base
        }
    }
}

/// Decides what is done: at once when the line gets worse, slowly when it gets better.
#[derive(Debug)]
pub struct LossPolicy {
    allowed: Modes,
    current: Protection,
    has_room: bool,
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
            has_room: false,
            calmer: None,
        }
    }

    /// Whether the line carries the headers of twice as many packets.
    pub fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
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
        let rank = |protection: Protection| {
            let Protection {
                mode,
                loss_percent,
                copies,
                apart,
            } = protection;
            // A copy from further back is more than parity: it is for bursts, over which parity does not reach.
            let level = match mode {
                Mode::Parity => Mode::Red,
                Mode::Plain | Mode::Fec | Mode::Red | Mode::Dred => mode,
            };
            (level, copies, mode, apart, loss_percent)
        };
        // What the budget no longer allows goes at once.
        let is_possible = self.is_possible(self.current.mode, base)
            && (!self.current.apart || self.may_be_apart(base));
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
            Mode::Red | Mode::Parity => MIN_RED_BITRATE,
            Mode::Dred => min_dred_bitrate(base.frame),
        };
        // Parity is over packets of one and the same size.
        let is_constant = base.rate_control == RateControl::Constant;
        let is_for_voices = matches!(mode, Mode::Fec | Mode::Dred);
        self.allowed.has(mode)
            && base.bitrate >= least
            && (is_constant || mode != Mode::Parity)
            && !(is_for_voices && base.content.is_music())
    }

    /// Between two packets of 20 ms there is a moment when nothing else leaves.
    fn may_be_apart(&self, base: EncoderConfig) -> bool {
        self.allowed.apart && self.has_room && base.frame == FrameDuration::Ms20
    }

    fn wanted(&self, loss: Loss, base: EncoderConfig) -> Protection {
        let is_in = |mode: Mode| self.current.mode >= mode;
        // What is no number is no loss.
        let fraction = loss.fraction.clamp(0.0, 1.0);
        // Chance alone makes bursts of 1 / (1 - fraction).
        let was_apart = self.current.apart;
        let packets = if was_apart { BURSTS_APART } else { 1.0 };
        let mean_burst = loss.mean_burst * (1.0 - fraction) * packets;
        let in_bursts = |band: &Band, is_in: bool| band.holds(mean_burst, is_in);
        let copies = self.copies(fraction, mean_burst);
        let is_lossy = FEC.holds(fraction, is_in(Mode::Fec));
        let ideal = if is_lossy && in_bursts(&VERY_LONG_BURSTS, is_in(Mode::Dred)) {
            Mode::Dred
        } else if PARITY.holds(fraction, is_in(Mode::Parity))
            && copies.distance < 3
            && !self.may_be_apart(base)
        {
            Mode::Parity
        } else if RED.holds(fraction, is_in(Mode::Red))
            || is_lossy && in_bursts(&BURSTY, is_in(Mode::Red))
        {
            Mode::Red
        } else if is_lossy {
            Mode::Fec
        } else {
            Mode::Plain
        };
        // The next best below, or what does too much above: a copy where in-band ones cannot be.
        let order = match ideal {
            Mode::Plain => [Mode::Plain; 3],
            Mode::Fec => [Mode::Fec, Mode::Red, Mode::Plain],
            Mode::Red if copies.distance > 1 => [Mode::Red, Mode::Dred, Mode::Fec],
            Mode::Red => [Mode::Red, Mode::Fec, Mode::Dred],
            Mode::Parity => [Mode::Parity, Mode::Red, Mode::Fec],
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
                Mode::Plain => 0,
                Mode::Red | Mode::Parity => RED_LOSS_PERCENT,
                Mode::Fec => stepped.max(MIN_FEC_LOSS_PERCENT),
                Mode::Dred => stepped.max(MIN_DRED_LOSS_PERCENT),
            },
            copies: if mode == Mode::Red {
                copies
            } else {
                Copies::default()
            },
            apart: mode == Mode::Red
                && (copies.distance > 1 || APART.holds(fraction, was_apart))
                && self.may_be_apart(base),
        }
    }

    /// Which packets to send again, if any are.
    fn copies(&self, fraction: f32, mean_burst: f32) -> Copies {
        let current = match self.current.mode {
            Mode::Red => self.current.copies,
            Mode::Plain | Mode::Fec | Mode::Parity | Mode::Dred => Copies::default(),
        };
        let furthest = current.distance >= 3;
        // Where copies are lost as well, more of them have to reach further than most bursts.
        let many = VERY_BURSTY.holds(mean_burst, furthest) && MANY_BURSTS.holds(fraction, furthest);
        let distance = if many || LONG_BURSTS.holds(mean_burst, furthest) {
            3
        } else if BURSTY.holds(mean_burst, current.distance >= 2) {
            // One packet further would be worth 0.05, and cost everybody 24 ms.
            2
        } else {
            1
        };
        Copies { count: 1, distance }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::opus::Content;

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
    fn copies_travel_by_themselves_where_much_is_lost_and_the_line_has_room() {
        let apart = |modes: Modes, room: bool, percent: f32, burst: f32, base: EncoderConfig| {
            let mut policy = LossPolicy::new(modes);
            policy.set_room(room);
            let got = policy.update(start(), loss(percent, burst), base);
            assert_eq!(got.mode, Mode::Red);
            got.apart
        };
        let all = Modes::ALL;
        assert!(apart(all, true, 20.0, 1.25, base(32)));
        assert!(apart(all, true, 30.0, 1.4, base(32)), "no parity then");
        assert!(apart(all, true, 10.0, 3.0, base(32)));
        assert!(!apart(all, true, 10.0, 1.1, base(32)), "the next will do");
        assert!(!apart(all, false, 20.0, 1.25, base(32)));
        let off = Modes {
            apart: false,
            ..Modes::ALL
        };
        assert!(!apart(off, true, 20.0, 1.25, base(32)));
        let short = EncoderConfig {
            frame: FrameDuration::Ms10,
            ..base(32)
        };
        assert!(!apart(all, true, 20.0, 1.25, short), "nothing lies between");
        // At once when the room is gone, and slowly when less is lost.
        let mut policy = LossPolicy::new(all);
        policy.set_room(true);
        let mut update = |second: u64, percent: f32, room: bool| {
            policy.set_room(room);
            let now = start() + Duration::from_secs(second);
            policy.update(now, loss(percent, 1.1), base(32)).apart
        };
        assert!(update(0, 16.0, true) && update(1, 11.0, true) && update(2, 8.0, true));
        assert!(!update(3, 16.0, false));
        assert!(update(4, 16.0, true));
        assert!(update(5, 8.0, true) && !update(14, 8.0, true));
    }

    #[test]
    fn each_line_gets_what_sounds_best_on_it() {
        for (percent, burst, want, copies) in [
            (0.0, 0.0, Mode::Plain, (1, 1)),
            (0.9, 1.0, Mode::Plain, (1, 1)),
            (0.9, 8.0, Mode::Plain, (1, 1)),
            (3.0, 1.0, Mode::Fec, (1, 1)),
            (10.0, 1.1, Mode::Red, (1, 1)),
            (20.0, 1.3, Mode::Red, (1, 1)),
            (30.0, 1.4, Mode::Parity, (1, 1)),
            (3.0, 1.7, Mode::Red, (1, 2)),
            (3.0, 3.0, Mode::Red, (1, 2)),
            (10.0, 3.0, Mode::Red, (1, 2)),
            (20.0, 3.0, Mode::Red, (1, 3)),
            (30.0, 1.8, Mode::Parity, (1, 1)),
            (30.0, 2.4, Mode::Parity, (1, 1)),
            (30.0, 3.2, Mode::Red, (1, 3)),
            (10.0, 8.0, Mode::Red, (1, 3)),
            (10.0, 20.0, Mode::Dred, (1, 1)),
            (f32::NAN, f32::NAN, Mode::Plain, (1, 1)),
        ] {
            let mut policy = LossPolicy::new(Modes::ALL);
            let got = policy.update(start(), loss(percent, burst), base(32));
            let Copies { count, distance } = got.copies;
            assert_eq!(
                (got.mode, (count, distance)),
                (want, copies),
                "{percent} %, bursts of {burst}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_replaced_by_the_next_best() {
        let heavy = loss(10.0, 20.0);
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
        let bursts = loss(10.0, 3.0);
        assert_eq!(first(without(|m| m.red = false), bursts, 32), Mode::Dred);
        let light = loss(3.0, 1.0);
        assert_eq!(first(without(|m| m.fec = false), light, 32), Mode::Red);
        for loss in [heavy, random, light] {
            assert_eq!(first(Modes::NONE, loss, 64), Mode::Plain);
        }
    }

    #[test]
    fn music_is_repaired_by_copies_and_keeps_its_frequencies() {
        let music = EncoderConfig::of(Content::Music { stereo: true });
        for (percent, burst, want) in [
            (0.5, 1.0, Mode::Plain),
            (3.0, 1.0, Mode::Red),
            (10.0, 1.1, Mode::Red),
            (30.0, 1.4, Mode::Parity),
            (10.0, 8.0, Mode::Red),
        ] {
            let mut policy = LossPolicy::new(Modes::ALL);
            let got = policy.update(start(), loss(percent, burst), music);
            assert_eq!(got.mode, want, "{percent} %, bursts of {burst}");
            let encoder = got.encoder(music);
            assert!(!encoder.wideband && !encoder.fec && encoder.dred.is_zero());
            assert_eq!(encoder.content, music.content);
        }
        // What a voice was repaired by does not stay when music begins.
        let mut policy = LossPolicy::new(Modes::ALL);
        assert_eq!(
            policy.update(start(), loss(3.0, 1.0), base(32)).mode,
            Mode::Fec
        );
        assert_eq!(
            policy.update(start(), loss(3.0, 1.0), music).mode,
            Mode::Red
        );
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
        assert_eq!(update(0.6, 6.0, 13.5), Mode::Dred);
        // Better, but for a moment; then in truth.
        assert_eq!(update(1.0, 6.0, 1.0), Mode::Dred);
        assert_eq!(update(8.0, 6.0, 13.5), Mode::Dred);
        assert_eq!(update(8.2, 0.0, 1.0), Mode::Dred);
        assert_eq!(update(12.0, 6.0, 1.0), Mode::Dred);
        assert_eq!(update(16.0, 0.0, 1.0), Mode::Dred);
        // Down to the most that was wanted meanwhile, no further.
        assert_eq!(update(16.3, 0.0, 1.0), Mode::Red);
        assert_eq!(update(16.5, 0.0, 1.0), Mode::Red);
        assert_eq!(update(24.6, 0.0, 1.0), Mode::Plain);
    }

    #[test]
    fn bursts_that_show_themselves_later_get_their_copies_at_once() {
        let mut policy = LossPolicy::new(Modes::ALL);
        let mut update = |seconds: u64, percent: f32, burst: f32| {
            let now = start() + Duration::from_secs(seconds);
            let got = policy.update(now, loss(percent, burst), base(32));
            (got.mode, got.copies.distance)
        };
        assert_eq!(update(0, 30.0, 1.3), (Mode::Parity, 1));
        assert_eq!(update(1, 30.0, 3.5), (Mode::Red, 3));
        assert_eq!(update(2, 30.0, 1.3), (Mode::Red, 3));
        assert_eq!(update(11, 30.0, 1.3), (Mode::Parity, 1));
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

    #[test]
    fn a_budget_that_shrinks_takes_copies_with_it_at_once() {
        let mut policy = LossPolicy::new(Modes::ALL);
        let heavy = loss(30.0, 1.3);
        assert_eq!(policy.update(start(), heavy, base(32)).mode, Mode::Parity);
        assert_eq!(policy.update(start(), heavy, base(19)).mode, Mode::Plain);
    }

    proptest! {
        #[test]
        fn everything_together_never_costs_more_than_the_budget(
            kilobits in 6u32..=40,
            blocks in 0usize..4,
            percent in 0.0f32..50.0,
            burst in 0.5f32..6.0,
            room in any::<bool>(),
        ) {
            use crate::audio::opus::FrameDuration::{Ms10, Ms20, Ms40, Ms60};
            let base = EncoderConfig { frame: [Ms10, Ms20, Ms40, Ms60][blocks], ..base(kilobits) };
            let mut policy = LossPolicy::new(Modes::ALL);
            policy.set_room(room);
            let protection = policy.update(start(), loss(percent, burst), base);
            let encoder = protection.encoder(base);
            let bytes = match protection.mode {
                Mode::Red if protection.apart => 2 * encoder.packet_bytes() + apart::OVERHEAD_BYTES,
                Mode::Red => {
                    let copies = protection.copies.distances().len();
                    (copies + 1) * encoder.packet_bytes() + red::overhead_bytes(copies)
                },
                Mode::Parity => 2 * encoder.packet_bytes() + parity::OVERHEAD_BYTES,
                Mode::Plain | Mode::Fec | Mode::Dred => encoder.packet_bytes(),
            };
            prop_assert!(bytes <= base.packet_bytes(), "{bytes} of {}", base.packet_bytes());
            prop_assert!(!(encoder.fec && encoder.dred > Duration::ZERO));
        }
    }
}
