//! What capture and playout share: the margin for lateness, the 10 ms beat, the thread.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{BLOCK_DURATION, ring::RingWatch};

/// Lateness that is allowed for at first, in milliseconds.
pub(super) const MARGIN_START_MILLIS: f64 = 8.0;

/// Each time that was not enough, allow for this much more.
const MARGIN_STEP_MILLIS: f64 = 5.0;

/// More than this is not lateness but a device that does not work.
const MARGIN_MAX_MILLIS: f64 = 60.0;

/// A margin that was not used shrinks again, slowly: a second late rustle costs more than a little delay.
const MARGIN_SHRINK_MILLIS_PER_SECOND: f64 = 0.1;

/// A ring this far from its level is brought back at once; the drift correction would need minutes.
pub(super) const RESYNC_MILLIS: f64 = 30.0;

/// What a device is taken to move at once until it shows, in milliseconds: what it is asked for.
const CALLBACK_START_MILLIS: f64 = 10.0;

/// Whatever it calls with, what it moves at once is taken for this, in milliseconds.
const CALLBACK_RANGE_MILLIS: std::ops::RangeInclusive<f64> = 2.0..=50.0;

/// After a wait longer than this the beat starts anew instead of catching up: the machine slept.
const MAX_CATCH_UP_BLOCKS: u32 = 5;

/// What the device moves at once, for the target of a ring; zero while that is not known. Pieces of 24 samples in quick succession, as one
/// sound server gives them, count as a few milliseconds.
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

/// How much lateness is allowed for: grows at once when it was too little, shrinks slowly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margin {
    least_millis: f64,
    millis: f64,
}

impl Margin {
    pub(super) fn new(millis: f64) -> Self {
        Self {
            least_millis: millis,
            millis,
        }
    }

    pub(super) fn millis(&self) -> f64 {
        self.millis
    }

    pub(super) fn grow(&mut self) {
        self.millis = (self.millis + MARGIN_STEP_MILLIS).min(MARGIN_MAX_MILLIS);
    }

    pub(super) fn shrink(&mut self, elapsed: Duration) {
        let less = MARGIN_SHRINK_MILLIS_PER_SECOND * elapsed.as_secs_f64();
        self.millis = (self.millis - less).max(self.least_millis);
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

/// A named thread that does something every 10 ms until its handle is dropped.
#[derive(Debug)]
pub(super) struct WorkerHandle<S> {
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<S>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Copy + Default + Send + 'static> WorkerHandle<S> {
    pub(super) fn start(
        name: &str,
        now: impl Fn() -> Duration + Send + 'static,
        mut tick: impl FnMut(&mut Ticker, Duration, &mut S) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stats = Arc::new(Mutex::new(S::default()));
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let (stop, stats) = (Arc::clone(&stop), Arc::clone(&stats));
            move || {
                let mut ticker = Ticker::new(now());
                let mut current = S::default();
                while !stop.load(Ordering::Acquire) {
                    tick(&mut ticker, now(), &mut current);
                    *stats.lock().unwrap_or_else(PoisonError::into_inner) = current;
                    // Unparked only to stop.
                    std::thread::park_timeout(ticker.wait(now()));
                }
            }
        })?;
        Ok(Self {
            stop,
            stats,
            thread: Some(thread),
        })
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

    #[test]
    fn a_margin_grows_at_once_and_shrinks_slowly_to_where_it_began() {
        let mut margin = Margin::new(8.0);
        for _ in 0..100 {
            margin.grow();
        }
        assert_eq!(margin.millis(), MARGIN_MAX_MILLIS);
        margin.shrink(Duration::from_secs(10));
        assert!((margin.millis() - (MARGIN_MAX_MILLIS - 1.0)).abs() < 1e-9);
        margin.shrink(Duration::from_secs(10_000));
        assert_eq!(margin.millis(), 8.0);
    }
}
