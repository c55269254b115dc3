//! How long sound waits for pictures that are regularly late.
//!
//! To encode and to decode a picture takes longer than for sound, so that on a good line pictures are ready only after
//! their sound was heard. Pictures that come after their sound are noticed from 45 ms on, those before it only from 125 ms on
//! (ITU-R BT.1359), and a conversation does not notice a delay of less than 150 ms from mouth to ear (ITU-T G.114). So
//! sound gives pictures some of what is left of these.
//!
//! Whoever shows pictures tells by [`SoundWait::picture`] how early each could have been shown; whoever plays the sound tells
//! by [`SoundWait::playout`], each 10 ms, where it is, and sets the jitter buffer's least delay to what is answered. The
//! jitter buffer gets there by stretching, so that nothing is cut and nothing invented.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Pictures that are later than most do not count: of so many, in percent, the latest is waited for.
const WAITED_FOR_PERCENT: usize = 90;

/// And not quite: a picture that is behind its sound by less than half of what is noticed is on time.
const TOLERATED_MICROS: i64 = 20_000;

/// Sound waits no longer than this for pictures, beyond what it needs itself. On two busy cores, a tenth of the pictures of
/// 720p are ready 40 ms (H.264) to 100 ms (AV1) after their sound: this and what is tolerated.
pub const MOST: Duration = Duration::from_millis(80);

/// And not at all where it would come later than this from mouth to ear.
pub const LATEST: Duration = Duration::from_millis(150);

/// Of that, capture, a frame of 20 ms, the codec's look-ahead and the way to the speaker.
const ENDS: Duration = Duration::from_millis(35);

/// Pictures of so long count.
const WINDOW: Duration = Duration::from_secs(10);
const MAX_PICTURES: usize = 600;

/// That few say nothing.
const FEWEST: usize = 12;

/// So often it is looked at how late they are.
const LOOK_EVERY: usize = 8;

/// After so long without a picture there are none to wait for.
const STOPPED_AFTER: Duration = Duration::from_secs(2);

/// More is waited in steps of so much, and so often: for 60 ms more it takes a second and a half.
const UP_STEP: Duration = Duration::from_millis(10);
const UP_EVERY: Duration = Duration::from_millis(250);

/// Less is waited more slowly, once so much less was enough for so long.
const DOWN_STEP: Duration = Duration::from_millis(5);
const DOWN_EVERY: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(3);

/// Less than this is not worth a change.
const LEAST_CHANGE: Duration = Duration::from_millis(5);

/// How long the fastest packets of sound wait before they play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Playout {
    /// Now.
    pub level: Duration,
    /// If nobody asked for more.
    pub own: Duration,
}

/// Says how long the fastest packets of sound should wait at least.
#[derive(Debug, Clone, Default)]
pub struct SoundWait {
    playout: Option<Playout>,
    way: Duration,
    /// How long sound would have had to wait for each picture, in microseconds; may be negative.
    needed: VecDeque<(Instant, i64)>,
    since_look: usize,
    /// What the pictures of late want.
    wanted: Duration,
    last_picture: Option<Instant>,
    /// What sound waits at least.
    granted: Duration,
    changed: Option<Instant>,
    /// Since when less is enough.
    enough: Option<Instant>,
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl SoundWait {
    /// The sound's fastest packets are so long on their way.
    pub fn set_way(&mut self, way: Duration) {
        self.way = way;
    }

    /// A picture is shown `now` that could have been shown so many seconds before its sound was heard; negative where
    /// that would have been after it.
    pub fn picture(&mut self, now: Instant, lead: f64) {
        let Some(playout) = self.playout else { return };
        let lead = Duration::try_from_secs_f64(lead.abs())
            .ok()
            .filter(|lead| *lead <= super::LONGEST_WAIT)
            .map(|abs| micros(abs) * if lead < 0.0 { -1 } else { 1 });
        // What is further away is not its sound.
        let Some(lead) = lead else { return };
        self.last_picture = Some(now);
        while let Some((at, _)) = self.needed.front()
            && (now.saturating_duration_since(*at) > WINDOW || self.needed.len() >= MAX_PICTURES)
        {
            self.needed.pop_front();
        }
        self.needed.push_back((now, micros(playout.level) - lead));
        self.since_look += 1;
        if self.since_look >= LOOK_EVERY {
            self.since_look = 0;
            self.look();
        }
    }

    fn look(&mut self) {
        let mut needed: Vec<i64> = self.needed.iter().map(|(_, needed)| *needed).collect();
        self.wanted = Duration::ZERO;
        if needed.len() < FEWEST {
            return;
        }
        let nth = (needed.len() - 1) * WAITED_FOR_PERCENT / 100;
        let (_, late, _) = needed.select_nth_unstable(nth);
        let wanted = u64::try_from(*late - TOLERATED_MICROS).unwrap_or(0);
        self.wanted = Duration::from_micros(wanted);
    }

    /// Sound plays so; how long its fastest packets should wait at least. Call it every 10 ms.
    pub fn playout(&mut self, now: Instant, playout: Option<Playout>) -> Duration {
        self.playout = playout;
        let Some(Playout { own, .. }) = playout else {
            return self.granted;
        };
        let comes = self
            .last_picture
            .is_some_and(|at| now.saturating_duration_since(at) < STOPPED_AFTER);
        if !comes {
            self.needed.clear();
            self.wanted = Duration::ZERO;
        }
        let most = LATEST.saturating_sub(ENDS + self.way);
        let wanted = self.wanted.min(own + MOST).min(most);
        let waits = self.granted.max(own);
        let since = self
            .changed
            .map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        if wanted > waits + LEAST_CHANGE {
            self.enough = None;
            if since >= UP_EVERY {
                self.granted = wanted.min(waits + UP_STEP);
                self.changed = Some(now);
            }
        } else if wanted.max(own) + SLACK < self.granted || self.is_over(wanted) {
            let enough = *self.enough.get_or_insert(now);
            if now.saturating_duration_since(enough) >= PATIENCE && since >= DOWN_EVERY {
                self.granted = self.granted.saturating_sub(DOWN_STEP).max(wanted);
                self.changed = Some(now);
            }
        } else {
            self.enough = None;
        }
        self.granted
    }

    /// Nobody waits for anything any more, but for a rest that would stay.
    fn is_over(&self, wanted: Duration) -> bool {
        wanted.is_zero() && !self.granted.is_zero()
    }

    /// How much longer sound waits than it would by itself.
    #[must_use]
    pub fn extra(&self) -> Duration {
        self.playout.map_or(Duration::ZERO, |playout| {
            self.granted.saturating_sub(playout.own)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sound that waits as it is told, and pictures that are ready at a time of their own.
    struct Scene {
        wait: SoundWait,
        now: Instant,
        tick: u64,
        level: Duration,
        own: Duration,
        /// The largest change of what is asked for within a second, each way.
        history: Vec<Duration>,
    }

    impl Scene {
        fn new(own: u64) -> Self {
            #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
            let now = Instant::now();
            let own = Duration::from_millis(own);
            Self {
                wait: SoundWait::default(),
                now,
                tick: 0,
                level: own,
                own,
                history: Vec::new(),
            }
        }

        /// For so many seconds; pictures, 33 per second, are ready as `ready` says, in milliseconds after their sound would
        /// be heard if none of it waited. What sound waits at the end, in milliseconds.
        fn run(&mut self, seconds: u64, ready: impl Fn(u64) -> Option<u64>) -> u64 {
            for _ in 0..seconds * 100 {
                self.now += Duration::from_millis(10);
                self.tick += 1;
                let playout = Playout {
                    level: self.level,
                    own: self.own,
                };
                let least = self.wait.playout(self.now, Some(playout));
                self.history.push(least);
                // It takes the jitter buffer a while.
                let aim = least.max(self.own);
                let step = Duration::from_millis(2);
                self.level = if aim > self.level {
                    aim.min(self.level + step)
                } else {
                    aim.max(self.level.saturating_sub(step))
                };
                if self.tick.is_multiple_of(3)
                    && let Some(ready) = ready(self.tick / 3)
                {
                    let lead = self.level.as_secs_f64() - ready as f64 / 1000.0;
                    self.wait.picture(self.now, lead);
                }
            }
            u64::try_from(self.history.last().unwrap().as_millis()).unwrap()
        }
    }

    #[test]
    fn sound_waits_for_pictures_that_are_late_in_steps_and_no_more_when_there_are_none() {
        let mut scene = Scene::new(10);
        assert_eq!(scene.run(5, |_| None), 0);
        let waits = scene.run(5, |_| Some(70));
        assert!((45..=50).contains(&waits), "{waits}");
        assert_eq!(scene.wait.extra(), Duration::from_millis(waits - 10));
        let later = scene.history.iter().skip(24);
        for (before, after) in scene.history.iter().zip(later) {
            let most = (*before).max(scene.own) + UP_STEP;
            assert!(*after <= most, "{before:?} {after:?}");
        }
        // A still moment changes nothing, an end does; and slowly.
        assert_eq!(scene.run(1, |_| None), waits);
        let later = scene.run(6, |_| None);
        assert!((10..waits).contains(&later), "{later}");
        assert_eq!(scene.run(5, |_| None), 0);
        assert_eq!(scene.wait.extra(), Duration::ZERO);
    }

    #[test]
    fn pictures_that_are_soon_enough_or_late_once_cost_the_sound_nothing() {
        let mut scene = Scene::new(20);
        assert_eq!(scene.run(20, |_| Some(40)), 0);
        // One of twenty is very late.
        let waits = scene.run(30, |n| Some(if n.is_multiple_of(20) { 400 } else { 30 }));
        assert_eq!(waits, 0);
    }

    #[test]
    fn it_does_not_go_to_and_fro() {
        let mut scene = Scene::new(10);
        scene.run(10, |n| Some(40 + n * 7 % 40));
        scene.history.clear();
        scene.run(60, |n| Some(40 + n * 7 % 40));
        scene.history.dedup();
        assert!(scene.history.len() <= 3, "{:?}", scene.history);
    }

    #[test]
    fn it_waits_no_longer_than_it_may_and_less_on_a_long_way() {
        let mut scene = Scene::new(10);
        assert_eq!(scene.run(20, |_| Some(300)), 90);
        scene.wait.set_way(Duration::from_millis(70));
        let waits = scene.run(30, |_| Some(300));
        assert!((45..=55).contains(&waits), "{waits}");
        // Where the sound needs all of that itself, nothing is left.
        let mut scene = Scene::new(60);
        scene.wait.set_way(Duration::from_millis(70));
        assert_eq!(scene.run(20, |_| Some(300)), 0);
    }

    #[test]
    fn what_is_far_away_or_no_number_says_nothing() {
        let mut scene = Scene::new(10);
        assert_eq!(scene.run(10, |_| Some(900)), 0);
        for lead in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
            scene.wait.picture(scene.now, lead);
        }
        assert_eq!(scene.run(5, |_| None), 0);
    }
}
