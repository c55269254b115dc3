//! What capture and playout share: the margin for lateness, the 10 ms beat, the thread.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    BLOCK_DURATION,
    priority::{self, ThreadPriority},
    ring::RingWatch,
};

/// Lateness that is allowed for at first, in milliseconds.
const MARGIN_START_MILLIS: f64 = 6.0;

/// Each time that was not enough, allow for what was missing and half as much again, within these limits.
const MARGIN_STEP_FACTOR: f64 = 1.5;
const MARGIN_STEP_MILLIS: std::ops::RangeInclusive<f64> = 1.5..=10.0;

/// More than this is not lateness but a device that does not work.
const MARGIN_MAX_MILLIS: f64 = 60.0;

/// Less than this is asking for trouble, however punctual everybody is.
const MARGIN_LEAST_MILLIS: f64 = 3.0;

/// The margin is to be so many times what of it was needed of late, and this much more: what comes next may be worse.
const MARGIN_FACTOR: f64 = 1.5;
const MARGIN_RESERVE_MILLIS: f64 = 1.5;

/// What was needed is remembered for six stretches of ten seconds.
const STRETCHES: usize = 6;
const STRETCH: Duration = Duration::from_secs(10);

/// What is usual is what suffices for all but one block in a hundred, and this much more.
const USUAL_SHARE: f32 = 0.99;
const USUAL_RESERVE_MILLIS: f64 = 1.0;
/// It is no more than this, in milliseconds, and known in pieces of one.
const USUAL_MAX_MILLIS: usize = 40;
/// What was needed counts half after so many blocks: 14 s.
const USUAL_KEPT: f32 = 0.9995;
/// And is not known before so many: 5 s.
const USUAL_AFTER: f32 = 400.0;

/// How fast the margin moves to where it should be: a part of the way per second, within these limits. The ring
/// follows by a change of pitch of 40 to 300 parts per million, at most half a cent.
const MARGIN_PER_SECOND: f64 = 0.035;
const MARGIN_MILLIS_PER_SECOND: std::ops::RangeInclusive<f64> = 0.04..=0.3;
/// A margin this close to where it should be stays where it is.
const MARGIN_CLOSE_MILLIS: f64 = 0.5;

/// A ring this far from its level is brought back at once; the drift correction would need minutes.
pub(super) const RESYNC_MILLIS: f64 = 30.0;

/// What a device is taken to move at once until it shows, in milliseconds.
const CALLBACK_START_MILLIS: f64 = 10.0;

/// Whatever it calls with, what it moves at once is taken for this, in milliseconds.
const CALLBACK_RANGE_MILLIS: std::ops::RangeInclusive<f64> = 1.0..=50.0;

/// After a wait longer than this the beat starts anew instead of catching up: the machine slept.
const MAX_CATCH_UP_BLOCKS: u32 = 5;

/// What the device moves at once, for the target of a ring; zero while that is not known. Pieces of 24 samples in quick succession, as one
/// sound server gives them, count as one millisecond.
pub(super) fn expected_callback_millis(largest_callback_millis: f64) -> f64 {
    if largest_callback_millis == 0.0 {
        return CALLBACK_START_MILLIS;
    }
    largest_callback_millis.clamp(*CALLBACK_RANGE_MILLIS.start(), *CALLBACK_RANGE_MILLIS.end())
}

/// How much sound the device has moved since its last call without our seeing it, in milliseconds: no more than
/// twice what it moves at once, else it has stalled.
pub(super) fn since_callback_millis(
    watch: &RingWatch,
    now: Duration,
    samples_per_milli: f64,
) -> f64 {
    let Some(last) = watch.last_callback() else {
        return 0.0;
    };
    let callback = watch.stats().largest_callback_samples as f64 / samples_per_milli;
    let elapsed = now.saturating_sub(last).as_secs_f64() * 1e3;
    elapsed.min(2.0 * expected_callback_millis(callback))
}

/// What a margin is to be enough for.
#[derive(Clone, Copy, Debug)]
enum Enough {
    /// Whatever happened of late: where too little is heard.
    Always {
        /// The most that was needed in each stretch, the one under way first.
        needed: [f64; STRETCHES],
        stretch_left: Duration,
        /// A whole stretch has passed.
        known: bool,
    },
    /// Nearly everything: where too little is only waited for. How often was it needed, by milliseconds.
    Usually([f32; USUAL_MAX_MILLIS]),
    /// Nothing that happens changes it, but that it was too little.
    Fixed,
}

/// How much lateness is allowed for: more when it was too little, slowly less when most of it was never needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margin {
    millis: f64,
    enough: Enough,
}

impl Margin {
    /// One that is enough for the worst of the last minute.
    pub(super) fn new() -> Self {
        Self {
            millis: MARGIN_START_MILLIS,
            enough: Enough::Always {
                needed: [0.0; STRETCHES],
                stretch_left: STRETCH,
                known: false,
            },
        }
    }

    /// One that is enough for what is usual.
    pub(super) fn usual() -> Self {
        Self {
            millis: MARGIN_START_MILLIS,
            enough: Enough::Usually([0.0; USUAL_MAX_MILLIS]),
        }
    }

    /// One that only grows: what there would be without looking.
    pub(super) fn fixed() -> Self {
        Self {
            millis: MARGIN_START_MILLIS,
            enough: Enough::Fixed,
        }
    }

    pub(super) fn millis(&self) -> f64 {
        self.millis
    }

    /// It was too little by so much.
    pub(super) fn grow(&mut self, missing_millis: f64) {
        self.note(0.0);
        let step = (MARGIN_STEP_FACTOR * missing_millis)
            .clamp(*MARGIN_STEP_MILLIS.start(), *MARGIN_STEP_MILLIS.end());
        self.millis = (self.millis + step).min(MARGIN_MAX_MILLIS);
    }

    /// So much of it was left at the worst moment of a block. Moves it, and returns how much faster the ring is to be
    /// emptied meanwhile, in parts per million.
    pub(super) fn pass(&mut self, spare_millis: f64, elapsed: Duration) -> f64 {
        self.note(spare_millis);
        let (goal, known) = match &mut self.enough {
            Enough::Always {
                needed,
                stretch_left,
                known,
            } => {
                *stretch_left = stretch_left.saturating_sub(elapsed);
                if stretch_left.is_zero() {
                    *stretch_left = STRETCH;
                    *known = true;
                    needed.rotate_right(1);
                    needed[0] = 0.0;
                }
                let most = needed.iter().fold(0.0f64, |most, &n| most.max(n));
                (MARGIN_FACTOR * most + MARGIN_RESERVE_MILLIS, *known)
            }
            Enough::Usually(counts) => {
                let all: f32 = counts.iter().sum();
                let mut left = all * (1.0 - USUAL_SHARE);
                let more = counts.iter().rev().take_while(|&&count| {
                    left -= count;
                    left >= 0.0
                });
                let usual = USUAL_MAX_MILLIS - more.count();
                (usual as f64 + USUAL_RESERVE_MILLIS, all > USUAL_AFTER)
            }
            Enough::Fixed => return 0.0,
        };
        let goal = goal.clamp(MARGIN_LEAST_MILLIS, MARGIN_MAX_MILLIS);
        let less = self.millis - goal;
        // What was never needed in a moment may be needed in the next.
        if less.abs() < MARGIN_CLOSE_MILLIS || (less > 0.0 && !known) {
            return 0.0;
        }
        let per_second = (MARGIN_PER_SECOND * less.abs())
            .clamp(
                *MARGIN_MILLIS_PER_SECOND.start(),
                *MARGIN_MILLIS_PER_SECOND.end(),
            )
            .copysign(less);
        self.millis -= per_second * elapsed.as_secs_f64();
        1e3 * per_second
    }

    /// So much of it was left, or missing where negative. Remembers it, and moves nothing.
    pub(super) fn note(&mut self, spare_millis: f64) {
        let now_needed = self.millis - spare_millis;
        match &mut self.enough {
            Enough::Always { needed, .. } => needed[0] = needed[0].max(now_needed),
            Enough::Usually(counts) => {
                for count in counts.iter_mut() {
                    *count *= USUAL_KEPT;
                }
                counts[(now_needed.max(0.0) as usize).min(USUAL_MAX_MILLIS - 1)] += 1.0;
            }
            Enough::Fixed => {}
        }
    }
}

/// The 10 ms beat of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticker {
    next: Duration,
}

impl Ticker {
    pub(super) fn new(now: Duration) -> Self {
        Self { next: now }
    }

    /// How many blocks are due at `now`.
    pub(super) fn due_blocks(&mut self, now: Duration) -> u32 {
        if now < self.next {
            return 0;
        }
        let late = (now - self.next).as_nanos() / BLOCK_DURATION.as_nanos();
        let due = u32::try_from(late + 1).unwrap_or(u32::MAX);
        if due > MAX_CATCH_UP_BLOCKS {
            self.next = now + BLOCK_DURATION;
            return 1;
        }
        self.next += BLOCK_DURATION * due;
        due
    }

    /// The beats of the blocks that were just said to be due, the oldest first.
    pub(super) fn beats(&self, due_blocks: u32) -> impl Iterator<Item = Duration> + use<> {
        let next = self.next;
        (1..=due_blocks)
            .rev()
            .map(move |before| next.saturating_sub(BLOCK_DURATION * before))
    }

    /// How long to sleep from `now` until the next block is due.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }
}

/// A named thread that does something every 10 ms until its handle is dropped, or at every so many of them as it says
/// each time.
#[derive(Debug)]
pub(super) struct WorkerHandle<S> {
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<S>>,
    priority: ThreadPriority,
    thread: Option<JoinHandle<()>>,
}

impl<S: Copy + Default + Send + 'static> WorkerHandle<S> {
    /// Starts the thread. `tick` is given the beat and the clock, and tells how many beats are to be slept through.
    pub(super) fn start(
        name: &str,
        raise_priority: bool,
        now: impl Fn() -> Duration + Send + 'static,
        mut tick: impl FnMut(&mut Ticker, &dyn Fn() -> Duration, &mut S) -> u32 + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stats = Arc::new(Mutex::new(S::default()));
        let (told, priority) = sync_channel(1);
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let (stop, stats) = (Arc::clone(&stop), Arc::clone(&stats));
            move || {
                let priority = if raise_priority {
                    priority::raise()
                } else {
                    ThreadPriority::Ordinary
                };
                told.send(priority).unwrap_or(());
                let mut ticker = Ticker::new(now());
                let mut current = S::default();
                while !stop.load(Ordering::Acquire) {
                    let beats = tick(&mut ticker, &now, &mut current);
                    *stats.lock().unwrap_or_else(PoisonError::into_inner) = current;
                    // Unparked only to stop.
                    std::thread::park_timeout(ticker.wait(now()) + BLOCK_DURATION * beats);
                }
            }
        })?;
        Ok(Self {
            stop,
            stats,
            priority: priority.recv().unwrap_or_default(),
            thread: Some(thread),
        })
    }

    pub(super) fn priority(&self) -> ThreadPriority {
        self.priority
    }

    pub(super) fn stats(&self) -> S {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for WorkerHandle<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Dropped from within its own callback it cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("an audio worker panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_late_worker_catches_up_and_keeps_the_beat() {
        let mut ticker = Ticker::new(Duration::ZERO);
        assert_eq!(ticker.due_blocks(Duration::ZERO), 1);
        assert_eq!(ticker.due_blocks(9 * MS), 0);
        assert_eq!(ticker.wait(9 * MS), MS);
        assert_eq!(ticker.due_blocks(32 * MS), 3);
        let beats: Vec<Duration> = ticker.beats(3).collect();
        assert_eq!(beats, [10 * MS, 20 * MS, 30 * MS]);
        assert_eq!(ticker.wait(32 * MS), 8 * MS, "the beat is still the same");
    }

    #[test]
    fn after_the_machine_slept_the_beat_starts_anew() {
        let mut ticker = Ticker::new(Duration::ZERO);
        assert_eq!(ticker.due_blocks(Duration::from_secs(3600)), 1);
        assert_eq!(ticker.due_blocks(Duration::from_secs(3600) + 10 * MS), 1);
    }

    /// Seconds in which `spare` is left of it each time.
    fn pass(margin: &mut Margin, seconds: u32, spare: impl Fn(f64) -> f64) {
        for _ in 0..seconds * 100 {
            let spare = spare(margin.millis());
            margin.pass(spare, BLOCK_DURATION);
        }
    }

    #[test]
    fn a_margin_grows_at_once_and_shrinks_slowly_to_what_is_needed() {
        let mut margin = Margin::new();
        for _ in 0..100 {
            margin.grow(1.0);
        }
        assert_eq!(margin.millis(), MARGIN_MAX_MILLIS);
        pass(&mut margin, 49, |millis| millis - 2.0);
        assert_eq!(
            margin.millis(),
            MARGIN_MAX_MILLIS,
            "what was needed is not forgotten so soon"
        );
        pass(&mut margin, 100, |millis| millis - 2.0);
        assert!(margin.millis() > 30.0, "{}", margin.millis());
        pass(&mut margin, 200, |millis| millis - 2.0);
        assert!((4.5..5.1).contains(&margin.millis()), "{}", margin.millis());
        pass(&mut margin, 300, |millis| millis);
        assert!((3.0..3.6).contains(&margin.millis()), "{}", margin.millis());
    }

    #[test]
    fn a_margin_grows_by_what_was_missing() {
        let grown_by = |missing_millis| {
            let mut margin = Margin::new();
            margin.grow(missing_millis);
            margin.millis() - MARGIN_START_MILLIS
        };
        assert_eq!(grown_by(0.2), 1.5);
        assert_eq!(grown_by(4.0), 6.0);
        assert_eq!(grown_by(40.0), 10.0);
    }

    #[test]
    fn a_margin_grows_before_it_is_used_up() {
        let mut margin = Margin::new();
        pass(&mut margin, 300, |millis| millis - 0.2);
        let before = margin.millis();
        assert!(before < 3.6, "{before}");
        margin.pass(margin.millis() - 2.9, BLOCK_DURATION);
        pass(&mut margin, 40, |millis| millis - 0.2);
        assert!(margin.millis() > before + 1.5, "{}", margin.millis());
    }

    #[test]
    fn a_usual_margin_does_not_mind_what_happens_once() {
        let mut margin = Margin::usual();
        for second in 0..120 {
            pass(&mut margin, 1, |millis| millis - 3.2);
            if second % 10 == 0 {
                margin.pass(margin.millis() - 30.0, BLOCK_DURATION);
            }
        }
        assert!((4.5..5.6).contains(&margin.millis()), "{}", margin.millis());
        for _ in 0..120 * 50 {
            margin.pass(margin.millis() - 3.2, BLOCK_DURATION);
            margin.pass(margin.millis() - 12.5, BLOCK_DURATION);
        }
        assert!(
            (13.0..14.6).contains(&margin.millis()),
            "what happens all the time it does: {}",
            margin.millis()
        );
        pass(&mut margin, 300, |millis| millis - 3.2);
        assert!((4.5..5.6).contains(&margin.millis()), "{}", margin.millis());
    }

    #[test]
    fn a_fixed_margin_stays_however_punctual_everybody_is() {
        let mut margin = Margin::fixed();
        pass(&mut margin, 120, |millis| millis);
        assert_eq!(margin.millis(), MARGIN_START_MILLIS);
    }
}
