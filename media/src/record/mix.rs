//! Both voices on one clock.
//!
//! What we say and what we hear come from devices with clocks of their own, each block with the instant at which it was
//! there. The recording's clock is that of these instants: a side whose clock is faster is made longer or shorter by so
//! little that nobody hears it; where nothing comes, there is silence.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    audio::{
        drift::DriftController,
        resample::{FromBlocks, Quality},
        volume::bend,
        wide::{WideBlock, left_right},
    },
    time::{BLOCK_DURATION, BLOCK_SAMPLES, SAMPLE_RATE_HZ, SampleClock, samples_in},
};

/// A side that is so much late is followed by the blocks that waited: whoever stalls for longer gives the time up, and then
/// there is a gap.
const GAP: Duration = Duration::from_secs(1);

/// A side that is so much early has too many blocks. More than devices hand over in one go.
const EARLY: Duration = Duration::from_millis(300);

/// Where no block of a second was nearer than this to where it should be, its side is moved: no clock does that. What is less is
/// no worse to hear than the cut would be, and goes away as drift does.
const STANDING_MILLIS: f64 = 80.0;
const STANDING_BLOCKS: u32 = 100;

/// A side that gives nothing for so long is silent meanwhile; the other one is not kept waiting. More than [`GAP`].
const HOLD: Duration = Duration::from_millis(1100);

/// If nothing comes from anybody for so long, nothing is written: the file's times tell that it was so.
const PAUSE: Duration = Duration::from_secs(5);

/// How loud a voice is at its own side, ours the left; at the other see [`FAR_GAIN`]. So each has its place, both are heard in each ear, the mix of
/// the two channels is fair, and whoever wants one voice alone can still compute it.
pub const NEAR_GAIN: f32 = 0.8;
/// At the other side.
pub const FAR_GAIN: f32 = 0.4;

/// One of the two voices.
struct Line {
    convert: FromBlocks,
    drift: DriftController,
    /// What it adds to a mono block: left, right.
    place: [f32; 2],
    /// Left and right, from where the mix is.
    samples: VecDeque<[f32; 2]>,
    looked: Option<Instant>,
    /// By how much there was too much sound, in milliseconds: the least and the most of the last blocks.
    least: f64,
    most: f64,
    blocks: u32,
}

impl Line {
    fn new(place: [f32; 2], follow_clocks: bool) -> Self {
        Self {
            convert: FromBlocks::new(SAMPLE_RATE_HZ, Quality::Live)
                .expect("the rate is one of those that are converted"),
            drift: if follow_clocks {
                DriftController::new()
            } else {
                DriftController::disabled()
            },
            place,
            samples: VecDeque::new(),
            looked: None,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            blocks: 0,
        }
    }

    /// Looks at how much too much there is, in milliseconds. `Some`: it is to be moved by so much.
    fn stands(&mut self, excess: f64) -> Option<f64> {
        self.least = self.least.min(excess);
        self.most = self.most.max(excess);
        self.blocks += 1;
        if self.blocks < STANDING_BLOCKS {
            return None;
        }
        let moved = if self.least > STANDING_MILLIS {
            Some(self.least)
        } else {
            Some(self.most).filter(|most| *most < -STANDING_MILLIS)
        };
        self.begin_window();
        moved
    }

    fn begin_window(&mut self) {
        (self.least, self.most, self.blocks) = (f64::INFINITY, f64::NEG_INFINITY, 0);
    }

    /// Cuts so many milliseconds off what waits, or puts silence there.
    fn shift(&mut self, millis: f64) {
        let samples = (millis.abs() * f64::from(SAMPLE_RATE_HZ) / 1000.0) as usize;
        let held = self.samples.len();
        let len = if millis > 0.0 {
            held.saturating_sub(samples)
        } else {
            held + samples
        };
        self.samples.resize(len, [0.0; 2]);
        self.drift.forget_level();
    }

    /// Takes a block that should end so many samples after where the mix is.
    fn push(&mut self, at: Instant, should_end: i64, block: &WideBlock) -> Pushed {
        let block_samples = BLOCK_SAMPLES as i64;
        let held = self.samples.len() as i64;
        let ends = held + block_samples;
        if ends > should_end + samples_in(EARLY) {
            return Pushed::TooMuch;
        }
        let is_placed = self.looked.is_some() && ends + samples_in(GAP) >= should_end;
        if is_placed {
            let excess = (ends - should_end) as f64 * 1000.0 / f64::from(SAMPLE_RATE_HZ);
            let elapsed = self.looked.map_or(BLOCK_DURATION, |looked| {
                at.saturating_duration_since(looked)
            });
            let ppm = self.drift.update(excess, elapsed);
            // There are so many more samples than there should be.
            self.convert.set_correction_ppm(-ppm);
            if let Some(millis) = self.stands(excess) {
                self.shift(millis);
            }
        } else {
            self.begin_window();
            self.drift.forget_level();
            let gap = (should_end - ends).max(0);
            let gap = usize::try_from(gap).unwrap_or(0);
            self.samples.extend(std::iter::repeat_n([0.0; 2], gap));
        }
        self.looked = Some(at);
        let [mid, side] = self.convert.convert_both(&block.mid, block.side());
        if side.is_empty() {
            let place = self.place;
            let placed = mid.iter().map(|sample| place.map(|gain| gain * sample));
            self.samples.extend(placed);
        } else {
            // Music keeps the places it has.
            let both = mid.iter().zip(side);
            let frames = both.map(|(mid, side)| left_right([*mid, *side]));
            self.samples
                .extend(frames.map(|frame| frame.map(|it| it * NEAR_GAIN)));
        }
        Pushed::Taken
    }
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the mix.
    Taken,
    /// There is too much already: it was late, and its place is silent.
    TooMuch,
}

/// Mixes what two sides say.
pub(super) struct Mixer {
    clock: SampleClock,
    /// Samples given out since the origin.
    mixed: i64,
    /// The latest instant that was heard of, in samples since the origin.
    now: i64,
    /// When a block came last, likewise.
    heard: i64,
    /// Ours, theirs.
    lines: [Line; 2],
}

impl Mixer {
    /// Begins at `origin`; without following clocks, they drift apart.
    pub(super) fn new(origin: Instant, follow_clocks: bool) -> Self {
        Self {
            clock: SampleClock::new(origin),
            mixed: 0,
            now: 0,
            heard: 0,
            lines: [
                Line::new([NEAR_GAIN, FAR_GAIN], follow_clocks),
                Line::new([FAR_GAIN, NEAR_GAIN], follow_clocks),
            ],
        }
    }

    /// Takes a block of a side, 0 or 1, that was there at `at`.
    pub(super) fn push(&mut self, side: usize, at: Instant, block: &WideBlock) -> Pushed {
        self.look(at);
        let ends = self.clock.samples_at(at);
        if ends - self.mixed > samples_in(PAUSE) && ends - self.heard > samples_in(PAUSE) {
            for line in &mut self.lines {
                line.samples.clear();
                line.looked = None;
            }
            self.mixed = ends - BLOCK_SAMPLES as i64;
        }
        self.heard = self.heard.max(ends);
        self.lines[side].push(at, ends - self.mixed, block)
    }

    /// It is `at` now.
    pub(super) fn look(&mut self, at: Instant) {
        self.now = self.now.max(self.clock.samples_at(at));
    }

    /// Where the mix is, in samples since the origin.
    pub(super) fn mixed(&self) -> i64 {
        self.mixed
    }

    /// The next samples, if they are there: as many as `frames` has places, left and right in turn. At the end, `all`
    /// that is left, and silence behind it.
    pub(super) fn pull(&mut self, frames: &mut [f32], all: bool) -> bool {
        let wanted = frames.len() / 2;
        let held = || self.lines.iter().map(|line| line.samples.len());
        // What is there before its time may yet turn out to be too much.
        let whole = match self.mixed + wanted as i64 <= self.now {
            true => held().min().unwrap_or(0),
            false => 0,
        };
        let waited = self.now - samples_in(HOLD) - self.mixed;
        let waited = usize::try_from(waited).unwrap_or(0);
        let any = held().max().unwrap_or(0);
        // Where nobody says anything for long, there is nothing to write.
        let is_there = whole >= wanted
            || waited >= wanted && (any > 0 || self.now - self.heard < samples_in(PAUSE))
            || all && any > 0;
        if !is_there {
            return false;
        }
        for frame in frames.chunks_exact_mut(2) {
            let mut mixed = [0.0; 2];
            for line in &mut self.lines {
                let [left, right] = line.samples.pop_front().unwrap_or_default();
                mixed[0] += left;
                mixed[1] += right;
            }
            frame.copy_from_slice(&mixed.map(bend));
        }
        self.mixed += wanted as i64;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audio::test_signal::Speech, time::Block};

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        Instant::now()
    }

    fn pulled(mixer: &mut Mixer, all: bool) -> Vec<[f32; 2]> {
        let mut frames = [0.0; 2 * 960];
        let mut out = Vec::new();
        while mixer.pull(&mut frames, all) {
            out.extend(frames.chunks_exact(2).map(|frame| [frame[0], frame[1]]));
        }
        out
    }

    /// Both voices again, out of the two channels.
    fn taken_apart([left, right]: [f32; 2]) -> [f32; 2] {
        let whole = NEAR_GAIN * NEAR_GAIN - FAR_GAIN * FAR_GAIN;
        [
            (NEAR_GAIN * left - FAR_GAIN * right) / whole,
            (NEAR_GAIN * right - FAR_GAIN * left) / whole,
        ]
    }

    #[test]
    fn each_voice_can_be_taken_out_of_the_mix_at_its_own_time() {
        let begin = start();
        let mut mixer = Mixer::new(begin, true);
        let ours = Speech::new(1).samples(200 * BLOCK_SAMPLES);
        let theirs = Speech::new(2).samples(200 * BLOCK_SAMPLES);
        let mut out = Vec::new();
        for n in 0..200 {
            let at = begin + BLOCK_DURATION * (n + 1);
            let from = n as usize * BLOCK_SAMPLES;
            for (side, speech) in [&ours, &theirs].into_iter().enumerate() {
                // The other side begins after a second, and stops half a second before the end.
                if side == 1 && !(100..150).contains(&n) {
                    continue;
                }
                let block: &Block = speech[from..from + BLOCK_SAMPLES].try_into().unwrap();
                assert_eq!(mixer.push(side, at, &WideBlock::mono(block)), Pushed::Taken);
            }
            out.extend(pulled(&mut mixer, false));
        }
        out.extend(pulled(&mut mixer, true));
        assert!(out.len() >= 200 * BLOCK_SAMPLES, "{}", out.len());
        let delay = FromBlocks::new(SAMPLE_RATE_HZ, Quality::Live)
            .unwrap()
            .delay_samples();
        let errors = |side: usize, range: std::ops::Range<usize>| {
            let said = if side == 0 { &ours } else { &theirs };
            let (mut wrong, mut power) = (0.0, 0.0);
            for n in range {
                let got = taken_apart(out[n + delay])[side];
                wrong += (got - said[n]).powi(2);
                power += said[n].powi(2);
            }
            10.0 * (power / wrong).log10()
        };
        // Converting at a ratio of one is the only loss.
        let second = SAMPLE_RATE_HZ as usize;
        assert!(errors(0, 1000..199 * BLOCK_SAMPLES) > 25.0);
        assert!(errors(1, second + 1000..second * 3 / 2 - 1000) > 25.0);
        let is_silent = |n: usize| taken_apart(out[n])[1].abs() < 1e-3;
        assert!((0..second).all(is_silent));
        assert!((second * 3 / 2 + 1000..second * 19 / 10).all(is_silent));
    }

    /// By how much a side that runs `ppm` fast is away from where it should be at most, in milliseconds.
    fn strays(ppm: f64, follow_clocks: bool) -> f64 {
        let begin = start();
        let mut mixer = Mixer::new(begin, follow_clocks);
        let block = WideBlock::mono(&[0.1; BLOCK_SAMPLES]);
        let tick = BLOCK_DURATION.div_f64(1.0 + ppm * 1e-6);
        let strayed = (1..60_000).map(|n| {
            let at = begin + tick.mul_f64(f64::from(n));
            assert_eq!(mixer.push(0, at, &block), Pushed::Taken);
            pulled(&mut mixer, false);
            let ends = mixer.mixed + mixer.lines[0].samples.len() as i64;
            (ends - mixer.clock.samples_at(at)) as f64 / 48.0
        });
        strayed.map(f64::abs).fold(0.0, f64::max)
    }

    #[test]
    fn a_clock_that_is_too_fast_or_too_slow_is_followed() {
        for ppm in [-200.0, 200.0] {
            let strayed = strays(ppm, true);
            assert!(strayed < 3.0, "{ppm}: {strayed}");
            // Without it, it is moved by a jump now and then.
            let apart = strays(ppm, false);
            assert!(apart > 25.0, "{ppm}: {apart}");
        }
    }

    /// Pushes blocks of both sides at these instants, in hundredths of a second; where those that are marked are in the mix,
    /// in milliseconds, and how many were too much.
    fn marked(ats: impl Iterator<Item = u32>, marks: &[u32]) -> (Vec<f64>, u32) {
        let begin = start();
        let mut mixer = Mixer::new(begin, true);
        let mut out = Vec::new();
        let mut refused = 0;
        for (at, n) in ats.zip(1u32..) {
            let loud = if marks.contains(&n) { 0.5 } else { 0.0 };
            let block = WideBlock::mono(&[loud; BLOCK_SAMPLES]);
            for side in 0..2 {
                let pushed = mixer.push(side, begin + BLOCK_DURATION * at, &block);
                refused += u32::from(pushed == Pushed::TooMuch);
            }
            out.extend(pulled(&mut mixer, false));
        }
        out.extend(pulled(&mut mixer, true));
        let is_loud = |frame: &[f32; 2]| frame[0].abs() > 0.3;
        let edges = out.windows(2).enumerate();
        let begins = edges.filter(|(_, pair)| !is_loud(&pair[0]) && is_loud(&pair[1]));
        let begins = begins.map(|(at, _)| at as f64 / 48.0).collect();
        (begins, refused)
    }

    #[test]
    fn what_comes_all_at_once_after_a_stall_is_where_it_was_said() {
        // For most of a second everything waits, and then it comes.
        let ats = (1..=300).map(|n| if (101..200).contains(&n) { 200 } else { n });
        let (places, refused) = marked(ats, &[150, 290]);
        assert_eq!(refused, 0);
        let [first, second] = places[..] else {
            panic!("{places:?}");
        };
        assert!((first - 1490.0).abs() < 10.0, "{first}");
        assert!((second - 2890.0).abs() < 10.0, "{second}");
    }

    #[test]
    fn a_gap_is_silent_and_what_follows_is_in_its_place() {
        let ats = (1..=100).chain(400..=500);
        let (places, refused) = marked(ats, &[90, 150]);
        assert_eq!(refused, 0);
        let [first, second] = places[..] else {
            panic!("{places:?}");
        };
        assert!((first - 890.0).abs() < 10.0, "{first}");
        assert!((second - 4480.0).abs() < 10.0, "{second}");
    }

    #[test]
    fn more_than_there_can_be_is_left_out_and_shifts_nothing_for_long() {
        let ats = (1..=100)
            .chain(std::iter::repeat_n(100, 100))
            .chain(101..=500);
        let (places, refused) = marked(ats, &[590]);
        assert!(refused >= 2 * 60, "{refused}");
        assert!((places[0] - 4890.0).abs() < 20.0, "{places:?}");
    }

    #[test]
    fn a_pause_of_an_hour_is_not_written() {
        let begin = start();
        let mut mixer = Mixer::new(begin, true);
        let block = WideBlock::SILENCE;
        mixer.push(0, begin + BLOCK_DURATION, &block);
        let hour = Duration::from_secs(3600);
        mixer.look(begin + hour);
        assert!(pulled(&mut mixer, false).len() <= 48_000 * 6);
        mixer.push(0, begin + hour, &block);
        mixer.look(begin + hour + HOLD + BLOCK_DURATION * 2);
        assert!(pulled(&mut mixer, false).len() < 48_000);
        assert!((mixer.mixed() - 48_000 * 3600).abs() < 2 * 48_000);
    }
}
