//! Timers that fire together.
//!
//! A call has a dozen timers: three QUIC connections, reports, checks, the sound's own 10 ms. Each at its own instant
//! would be a wake-up of its own, two hundred a second for nothing. So a timer that has time is rounded up to the next
//! *beat*, one every 10 ms, the same for the whole process. What is due soon fires when it is due: an acknowledgement
//! that QUIC sends later than it promised (25 ms) counts as a longer round trip.

use std::{
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use quinn::AsyncTimer;
use tokio::time::Sleep;

use super::TokioRuntime;

/// The time between two beats: a block of sound.
pub(super) const BEAT: Duration = Duration::from_millis(10);

/// Who waits for less than this is punctual.
const SOON: Duration = Duration::from_millis(30);

/// The first beat, some time before `now`.
fn first_beat(now: Instant) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    *FIRST.get_or_init(|| now)
}

/// `at` if it is soon after `now`, else the first of the beats counted from `first` that is not before it.
fn on_beat(first: Instant, now: Instant, at: Instant) -> Instant {
    if at.saturating_duration_since(now) <= SOON {
        return at;
    }
    let since = at.saturating_duration_since(first).as_nanos();
    let over = u64::try_from(since % BEAT.as_nanos()).unwrap_or(0);
    if over == 0 {
        return at;
    }
    at + (BEAT - Duration::from_nanos(over))
}

/// The last beat that is not after `now`. Who works every 10 ms from then on shares their wake-ups with what waits.
pub(super) fn last_beat(now: Instant) -> Instant {
    let since = now.saturating_duration_since(first_beat(now)).as_nanos();
    let over = u64::try_from(since % BEAT.as_nanos()).unwrap_or(0);
    now.checked_sub(Duration::from_nanos(over)).unwrap_or(now)
}

/// A timer of tokio's that waits for the beat.
#[derive(Debug)]
pub(super) struct BeatTimer {
    at: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl BeatTimer {
    pub(super) fn new(now: Instant, at: Instant) -> Self {
        let at = on_beat(first_beat(now), now, at);
        Self {
            at,
            sleep: Box::pin(tokio::time::sleep_until(at.into())),
        }
    }

    fn reset(&mut self, now: Instant, at: Instant) {
        let at = on_beat(first_beat(now), now, at);
        // The same beat as before: the timer stays as it is, fired or not.
        if at == self.at {
            return;
        }
        if at > self.at {
            // tokio leaves a timer that moves to later where it is, and wakes up in vain to move it then: as with every
            // acknowledgement that left with other news before its time. A new one takes the old one's place at once;
            // whoever resets polls again.
            self.sleep.set(tokio::time::sleep_until(at.into()));
        } else {
            self.sleep.as_mut().reset(at.into());
        }
        self.at = at;
    }
}

impl AsyncTimer for BeatTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        let now = quinn::Runtime::now(&TokioRuntime);
        Self::reset(&mut self, now, at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        AsyncTimer::poll(self.sleep.as_mut(), cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_time_waits_for_the_beat_and_never_fires_early() {
        let first = quinn::Runtime::now(&TokioRuntime);
        let micros = Duration::from_micros;
        for (now, at, expected) in [
            // Due soon: as it is.
            (3_000, 3_000, 3_000),
            (3_000, 12_345, 12_345),
            (3_000, 33_000, 33_000),
            // Later: the next beat.
            (3_000, 33_001, 40_000),
            (3_000, 40_000, 40_000),
            (3_000, 40_001, 50_000),
            (7_777, 1_000_001, 1_010_000),
            // Over already.
            (50_000, 20_001, 20_001),
        ] {
            let fires = on_beat(first, first + micros(now), first + micros(at));
            assert_eq!(fires, first + micros(expected), "{at} seen at {now}");
        }
    }

    #[test]
    fn who_starts_with_a_beat_stays_on_it() {
        let first = first_beat(quinn::Runtime::now(&TokioRuntime));
        for micros in [0, 1, 9_999, 10_000, 123_456] {
            let now = first + Duration::from_micros(micros);
            let beat = last_beat(now);
            assert!(beat <= now && now < beat + BEAT);
            // As the timer of whoever works at each block from there.
            assert_eq!(on_beat(first, now, beat + 5 * BEAT), beat + 5 * BEAT);
        }
    }

    #[tokio::test]
    async fn timers_share_beats_also_when_they_are_reset() {
        let now = quinn::Runtime::now(&TokioRuntime);
        let at = |millis| now + Duration::from_millis(millis);
        let mut timers = [41, 43, 46, 49].map(|millis| BeatTimer::new(now, at(millis)));
        timers.sort_by_key(|timer| timer.at);
        let [first, .., last] = &timers;
        // The four may lie on both sides of one beat.
        assert!(last.at - first.at == BEAT || last.at == first.at);
        let [timer, ..] = &mut timers;
        timer.reset(now, at(1_000));
        let beat = timer.at;
        assert!((at(1_000)..at(1_010)).contains(&beat));
        assert_eq!(timer.sleep.deadline(), beat.into());
        timer.reset(at(500), beat);
        assert_eq!((timer.at, timer.sleep.deadline()), (beat, beat.into()));
        timer.reset(at(500), at(505));
        assert_eq!(timer.sleep.deadline(), at(505).into());
        // What is over is over at once.
        timer.reset(at(505), now);
        std::future::poll_fn(|cx| AsyncTimer::poll(Pin::new(&mut *timer), cx)).await;
    }
}
