//! How large pictures are encoded, and how many: as the bitrate is worth it, and as this machine can.
//!
//! Fewer pixels that are right look better than many that are not. A rung has a part of the sides and of the pictures; it
//! is left for the one below when its pixels have fewer bits than they need, and for the one above when that one's had
//! more for a while. Each change costs a key frame, so it goes down soon, up slowly, and not at all for a moment.

use std::time::{Duration, Instant};

use super::{
    codec::{Content, VideoCodec},
    frame::Size,
};
use crate::rate::Bitrate;

/// Parts of the sides in sixteenths, and of how many pictures one is encoded.
const RUNGS: [(u32, u32); 6] = [(16, 1), (12, 1), (8, 1), (6, 1), (4, 1), (4, 2)];

/// The same for text, which cannot be read when it is small, and can when it moves in steps.
const TEXT_RUNGS: [(u32, u32); 6] = [(16, 1), (16, 2), (16, 3), (16, 6), (12, 6), (8, 6)];

/// Pictures are not made smaller than this, in pixels each way: nobody is known on them.
const LEAST_SIDE: u32 = 90;

/// With fewer bits per pixel than this, in ten-thousandths, a rung is left. AV1 at 720p has 36 dB with as many.
const LEAST_AV1: u64 = 100;
const LEAST_H264: u64 = 200;

/// A rung is entered from below with so much more, in percent.
const ENTER_PERCENT: u64 = 140;

/// So long too little, and so long enough, until something changes.
const DOWN_AFTER: Duration = Duration::from_millis(500);
const UP_AFTER: Duration = Duration::from_secs(4);

/// Where there is so much more than the rung above needs, in percent, it was no lack of bits but a moment: a line that
/// lost so much at the beginning that the estimate waited.
const FAR_PERCENT: u64 = 300;
const UP_AFTER_FAR: Duration = Duration::from_millis(1200);

/// At the beginning an estimate is low because nothing is known yet.
const GRACE: Duration = Duration::from_millis(1500);

/// An encoder that takes more than this share of the time between two pictures will be late with some, in percent.
const BUSY_PERCENT: u32 = 85;

/// Before pictures become smaller for that, the encoder takes so much less trouble: see
/// [`VideoConfig::effort`](super::codec::VideoConfig::effort). It costs 0.2 dB, and a size several.
const LESS_EFFORT: u8 = 1;

/// For so long it must be, until something is done; pictures become smaller when it was done in vain for as long again.
const LATE_FOR: Duration = Duration::from_millis(400);

/// No picture counts as one that took longer than so many times the time between two.
const MOST_INTERVALS: u32 = 2;

/// With all its trouble, encoding takes so much longer.
const MORE_TROUBLE: f64 = 1.25;

/// One that would take less on the rung above can do more: twice the pixels take at most twice as long.
const IDLE_PERCENT: u64 = 60;

/// After a step down for want of time, more is tried only after this, and after twice as long when that was too much.
const RETRY_AFTER: Duration = Duration::from_secs(8);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(128);

/// The time that encoding takes is a mean over so many pictures, or over as many as there are: the first, from which a
/// stream begins, takes several times as long as any other, and says nothing of them.
const MEAN_OF: u32 = 12;

/// What to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Of the pictures.
    pub size: Size,
    /// Of so many pictures, one is encoded.
    pub one_of: u32,
}

/// Chooses among rungs.
#[derive(Debug)]
pub struct Ladder {
    rungs: Vec<Rung>,
    fps: u32,
    least: u64,
    at: usize,
    began: Option<Instant>,
    too_little: Option<Instant>,
    enough: Option<Instant>,
    /// Less trouble is taken; only where that changes with nothing else.
    effort_less: u8,
    can_do_less: bool,
    /// Above this one this machine is too slow.
    fastest: usize,
    /// Time per picture as of late, and the mean of how many it is.
    takes: Option<Duration>,
    mean_of: u32,
    late_since: Option<Instant>,
    retry_at: Option<Instant>,
    retry_after: Duration,
    /// When more was tried last.
    tried: Option<Instant>,
}

impl Ladder {
    /// For pictures of this size and rate in this codec.
    #[must_use]
    pub fn new(codec: VideoCodec, content: Content, size: Size, fps: u32) -> Self {
        let part = |side: u32, part: u32| side * part / 16;
        let mut rungs = vec![Rung { size, one_of: 1 }];
        let wanted = match content {
            Content::Motion => RUNGS,
            Content::Text => TEXT_RUNGS,
        };
        for (parts, one_of) in wanted.into_iter().skip(1) {
            let (width, height) = (part(size.width(), parts), part(size.height(), parts));
            if (width.min(height) >= LEAST_SIDE || parts == 16)
                && let Ok(size) = Size::rounded_down(width, height)
            {
                rungs.push(Rung { size, one_of });
            }
        }
        if rungs.len() == 1 {
            rungs.push(Rung { size, one_of: 2 });
        }
        Self {
            rungs,
            fps,
            least: match codec {
                VideoCodec::Av1 => LEAST_AV1,
                VideoCodec::H264 => LEAST_H264,
            },
            at: 0,
            began: None,
            too_little: None,
            enough: None,
            effort_less: 0,
            can_do_less: codec == VideoCodec::Av1,
            fastest: 0,
            takes: None,
            mean_of: 0,
            late_since: None,
            retry_at: None,
            retry_after: RETRY_AFTER,
            tried: None,
        }
    }

    /// The rung in use.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.rungs.get(self.at).copied().unwrap_or(self.rungs[0])
    }

    /// How much less trouble the encoder is to take than it would.
    #[must_use]
    pub fn effort_less(&self) -> u8 {
        self.effort_less
    }

    /// What a rung needs at least, in bits per second.
    fn needs(&self, at: usize) -> u64 {
        self.rungs.get(at).map_or(u64::MAX, |rung| {
            let pictures = u64::from((self.fps / rung.one_of).max(1));
            rung.size.pixels() as u64 * pictures * self.least / 10_000
        })
    }

    /// The codec may have so much. Says whether the rung is another one now.
    pub fn follow(&mut self, now: Instant, bitrate: Bitrate) -> bool {
        let began = *self.began.get_or_insert(now);
        let before = self.at;
        let bps = u64::from(bitrate.bps());
        let is_less = bps < self.needs(self.at) && self.at + 1 < self.rungs.len();
        let in_grace = now < began + GRACE;
        if is_less && !in_grace {
            let since = *self.too_little.get_or_insert(now);
            if now >= since + DOWN_AFTER {
                self.at += 1;
                self.too_little = None;
                self.enough = None;
            }
        } else {
            self.too_little = None;
        }
        let above = self
            .at
            .checked_sub(1)
            .filter(|above| *above >= self.fastest);
        let is_more = above.is_some_and(|above| bps * 100 >= self.needs(above) * ENTER_PERCENT);
        if is_more {
            let since = *self.enough.get_or_insert(now);
            let is_far = above.is_some_and(|above| bps * 100 >= self.needs(above) * FAR_PERCENT);
            if now >= since + if is_far { UP_AFTER_FAR } else { UP_AFTER } {
                self.at -= 1;
                self.enough = None;
            }
        } else {
            self.enough = None;
        }
        let is_less = self.effort_less > 0 || self.fastest > 0;
        if self.retry_at.is_some_and(|at| now >= at) && is_less {
            if self.could_do(self.at) {
                self.effort_less = 0;
                self.tried = Some(now);
            }
            while self.fastest > 0 && self.could_do(self.fastest - 1) {
                self.fastest -= 1;
                self.tried = Some(now);
            }
            self.retry_at = Some(now + self.retry_after);
        }
        if self.at != before {
            self.forget_times();
        }
        self.at != before
    }

    /// What pictures of another rung took says nothing of those that come.
    fn forget_times(&mut self) {
        self.late_since = None;
        self.takes = None;
        self.mean_of = 0;
    }

    /// Between two pictures that are encoded on a rung.
    fn interval_of(&self, rung: Rung) -> Duration {
        Duration::from_secs(1) * rung.one_of / self.fps.max(1)
    }

    /// Between two pictures that are encoded.
    fn interval(&self) -> Duration {
        self.interval_of(self.rung())
    }

    /// Whether pictures of another rung would be encoded in time, by what they take here.
    fn could_do(&self, other: usize) -> bool {
        let (Some(other), Some(takes)) = (self.rungs.get(other).copied(), self.takes) else {
            return false;
        };
        let pixels = |rung: Rung| rung.size.pixels() as f64;
        let mut there = takes.mul_f64(pixels(other) / pixels(self.rung()).max(1.0));
        if self.effort_less > 0 {
            there = there.mul_f64(MORE_TROUBLE);
        }
        there.as_nanos() * 100 < self.interval_of(other).as_nanos() * u128::from(IDLE_PERCENT)
    }

    /// Encoding a picture took so long. Says whether the rung is another one now.
    pub fn encoded(&mut self, now: Instant, took: Duration) -> bool {
        let interval = self.interval();
        // A moment in which the machine did something else, however long, is that of one picture.
        let took = took.min(interval * MOST_INTERVALS);
        self.mean_of = (self.mean_of + 1).min(MEAN_OF);
        let before = self.takes.unwrap_or(took);
        let mean = (before * (self.mean_of - 1) + took) / self.mean_of;
        self.takes = Some(mean);
        if mean <= interval * BUSY_PERCENT / 100 {
            self.late_since = None;
            return false;
        }
        let since = *self.late_since.get_or_insert(now);
        if now < since + LATE_FOR {
            return false;
        }
        tracing::debug!(?mean, size = %self.rung().size, "encoding takes too long");
        let is_smaller = !self.can_do_less || self.effort_less > 0;
        if is_smaller {
            if self.at + 1 >= self.rungs.len() {
                return false;
            }
            self.at += 1;
            self.fastest = self.at;
        } else {
            self.effort_less = LESS_EFFORT;
        }
        self.forget_times();
        let was_too_much = self
            .tried
            .take()
            .is_some_and(|at| now < at + self.retry_after * 2);
        self.retry_after = if was_too_much {
            (self.retry_after * 2).min(MAX_RETRY_AFTER)
        } else {
            RETRY_AFTER
        };
        self.retry_at = Some(now + self.retry_after);
        is_smaller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        Instant::now()
    }

    fn ladder() -> Ladder {
        Ladder::new(
            VideoCodec::Av1,
            Content::Motion,
            Size::new(1280, 720).unwrap(),
            30,
        )
    }

    /// Follows a bitrate for so long; when what became another rung.
    fn follow(ladder: &mut Ladder, from: Instant, millis: u64, kbps: u32) -> Vec<(u64, String)> {
        let mut changes = Vec::new();
        for at in (0..millis).step_by(33) {
            if ladder.follow(from + Duration::from_millis(at), Bitrate::kbps(kbps)) {
                let Rung { size, one_of } = ladder.rung();
                changes.push((at, format!("{size}/{one_of}")));
            }
        }
        changes
    }

    #[test]
    fn a_low_estimate_at_the_beginning_changes_nothing_and_one_that_stays_does() {
        let mut ladder = ladder();
        let begin = start();
        assert_eq!(follow(&mut ladder, begin, 1500, 100), []);
        assert_eq!(
            follow(&mut ladder, begin + Duration::from_secs(2), 4000, 400),
            []
        );
        let later = begin + Duration::from_secs(10);
        let changes = follow(&mut ladder, later, 5000, 100);
        let sizes: Vec<&str> = changes.iter().map(|(_, size)| size.as_str()).collect();
        assert_eq!(sizes, ["960x540/1", "640x360/1"]);
        assert!(changes[0].0 >= 500 && changes[1].0 < 1200, "{changes:?}");
        // 400 kbit/s are enough for 720p, but not at once.
        let changes = follow(&mut ladder, later + Duration::from_secs(20), 10_000, 400);
        assert_eq!(
            changes
                .iter()
                .map(|(_, size)| size.as_str())
                .collect::<Vec<_>>(),
            ["960x540/1", "1280x720/1"]
        );
        assert!(changes[0].0 >= 4000, "{changes:?}");
    }

    #[test]
    fn a_dip_changes_nothing_and_a_rate_between_two_rungs_does_not_go_to_and_fro() {
        let mut ladder = ladder();
        let begin = start();
        assert_eq!(follow(&mut ladder, begin, 5000, 900), []);
        assert_eq!(
            follow(&mut ladder, begin + Duration::from_secs(5), 400, 60),
            []
        );
        assert_eq!(
            follow(&mut ladder, begin + Duration::from_secs(6), 400, 900),
            []
        );
        let changes = follow(&mut ladder, begin + Duration::from_secs(10), 60_000, 270);
        assert_eq!(changes.len(), 1, "{changes:?}");
    }

    #[test]
    fn an_encoder_that_is_too_slow_gets_less_within_a_second_and_more_is_tried_later() {
        let mut ladder = ladder();
        let begin = start();
        let mut changed = None;
        for n in 0..90u32 {
            let now = begin + Duration::from_millis(33) * n;
            if ladder.encoded(now, Duration::from_millis(40)) {
                changed.get_or_insert(n);
                break;
            }
        }
        assert!(changed.is_some_and(|n| n <= 30), "{changed:?}");
        assert_eq!(ladder.rung().size.to_string(), "960x540");
        // However much the line carries, and as long as it takes that long.
        let later = begin + Duration::from_secs(3);
        for n in 0..60u32 {
            ladder.encoded(
                later + Duration::from_millis(33) * n,
                Duration::from_millis(22),
            );
        }
        assert_eq!(follow(&mut ladder, later, 17_000, 3000), []);
        for n in 0..60u32 {
            ladder.encoded(
                later + Duration::from_millis(33) * n,
                Duration::from_millis(5),
            );
        }
        let changes = follow(&mut ladder, later + Duration::from_secs(18), 30_000, 3000);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(ladder.rung().size.to_string(), "1280x720");
    }

    #[test]
    fn a_moment_in_which_the_machine_does_something_else_changes_nothing() {
        let mut ladder = ladder();
        let begin = start();
        for n in 0..300u32 {
            let now = begin + Duration::from_millis(33) * n;
            // Ten pictures were left out after each of these.
            let took = if n % 75 == 0 { 400 } else { 17 };
            assert!(!ladder.encoded(now, Duration::from_millis(took)), "{n}");
            assert_eq!(ladder.effort_less(), 0);
        }
        assert_eq!(ladder.rung().size.to_string(), "1280x720");
    }

    #[test]
    fn a_first_picture_that_takes_long_does_not_make_pictures_small() {
        let mut ladder = ladder();
        let begin = start();
        for n in 0..90u32 {
            let now = begin + Duration::from_millis(33) * n;
            let took = if n == 0 { 75 } else { 14 };
            assert!(!ladder.encoded(now, Duration::from_millis(took)), "{n}");
        }
        assert_eq!(ladder.rung().size.to_string(), "1280x720");
    }

    #[test]
    fn where_less_trouble_is_enough_pictures_stay_as_they_are() {
        let mut ladder = ladder();
        let begin = start();
        for n in 0..90u32 {
            let now = begin + Duration::from_millis(33) * n;
            let took = if ladder.effort_less() == 0 { 31 } else { 26 };
            assert!(!ladder.encoded(now, Duration::from_millis(took)));
        }
        assert_eq!(ladder.rung().size.to_string(), "1280x720");
        assert_eq!(ladder.effort_less(), 1);
        // No more is tried than is likely to succeed.
        follow(&mut ladder, begin + Duration::from_secs(3), 20_000, 600);
        assert_eq!(ladder.effort_less(), 1);
        for n in 0..360u32 {
            let now = begin + Duration::from_secs(30) + Duration::from_millis(33) * n;
            assert!(!ladder.encoded(now, Duration::from_millis(14)));
            ladder.follow(now, Bitrate::kbps(600));
        }
        assert_eq!(ladder.effort_less(), 0);
    }

    #[test]
    fn an_encoder_that_was_too_slow_for_a_moment_has_its_pictures_back_in_half_a_minute() {
        let mut ladder = ladder();
        let begin = start();
        let mut rungs = Vec::new();
        for n in 0..900u32 {
            let now = begin + Duration::from_millis(33) * n;
            // Something else kept the machine busy for a second.
            let took = match (n, ladder.rung().size.width()) {
                (60..90, _) => 60,
                (_, 1280) => 16,
                (_, 960) => 10,
                _ => 5,
            };
            let changes = [
                ladder.follow(now, Bitrate::kbps(550)),
                ladder.encoded(now, Duration::from_millis(took)),
            ];
            if changes.contains(&true) {
                rungs.push((n * 33, ladder.rung().size.to_string()));
            }
        }
        assert!(rungs[0].0 < 3000 && rungs.len() >= 2, "{rungs:?}");
        assert!(
            rungs.last().is_some_and(|(at, _)| *at < 25_000),
            "{rungs:?}"
        );
        assert_eq!(ladder.rung().size.to_string(), "1280x720", "{rungs:?}");
    }

    #[test]
    fn where_there_is_far_more_than_enough_a_rung_is_climbed_in_a_second() {
        let mut ladder = ladder();
        let begin = start();
        follow(&mut ladder, begin, 2000, 900);
        let at = |seconds| begin + Duration::from_secs(seconds);
        follow(&mut ladder, at(3), 5000, 30);
        assert_eq!(ladder.rung().size.to_string(), "320x180");
        let changes = follow(&mut ladder, at(10), 10_000, 900);
        assert!(changes.len() >= 3, "{changes:?}");
        assert!(changes.iter().all(|(_, size)| size.ends_with("/1")));
        assert!((1000..1500).contains(&changes[0].0), "{changes:?}");
        assert_eq!(ladder.rung().size.to_string(), "1280x720");
        assert!(
            changes.last().is_some_and(|(at, _)| *at < 5500),
            "{changes:?}"
        );
    }

    #[test]
    fn small_pictures_become_fewer_and_not_smaller() {
        let size = Size::new(160, 90).unwrap();
        let mut ladder = Ladder::new(VideoCodec::H264, Content::Motion, size, 30);
        let begin = start();
        follow(&mut ladder, begin, 2000, 500);
        follow(&mut ladder, begin + Duration::from_secs(3), 5000, 5);
        assert_eq!(
            ladder.rung(),
            Rung {
                size: Size::new(160, 90).unwrap(),
                one_of: 2
            }
        );
    }
    #[test]
    fn text_becomes_fewer_pictures_long_before_it_becomes_smaller() {
        let size = Size::new(1920, 1080).unwrap();
        let mut ladder = Ladder::new(VideoCodec::Av1, Content::Text, size, 30);
        let begin = start();
        follow(&mut ladder, begin, 2000, 3000);
        let at = |seconds| begin + Duration::from_secs(seconds);
        let changes = follow(&mut ladder, at(3), 10_000, 150);
        let rungs: Vec<&str> = changes.iter().map(|(_, rung)| rung.as_str()).collect();
        assert_eq!(rungs, ["1920x1080/2", "1920x1080/3", "1920x1080/6"]);
        follow(&mut ladder, at(20), 10_000, 40);
        assert_eq!(ladder.rung().size.to_string(), "960x540");
        // Small text is not made smaller, and still becomes fewer.
        let small = Size::new(160, 90).unwrap();
        let mut ladder = Ladder::new(VideoCodec::Av1, Content::Text, small, 30);
        follow(&mut ladder, begin, 9000, 1);
        assert_eq!(
            ladder.rung(),
            Rung {
                size: small,
                one_of: 6
            }
        );
    }
}
