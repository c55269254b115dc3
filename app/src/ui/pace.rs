//! How long the thread that draws takes for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::report::Histogram;

/// Part of what a frame takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of a frame with pictures of people or screens in it: layout, shapes, uploads, and what the driver does of
    /// drawing before it returns. Not the wait for the screen.
    Pictures,
    /// All of any other frame.
    Rest,
    /// Of these, deciding what stands where.
    Page,
    /// And handing pictures to the driver.
    Paint,
}

impl Part {
    const ALL: [Self; 4] = [Self::Pictures, Self::Rest, Self::Page, Self::Paint];
}

/// What was counted since the window opened. Copies are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Arc<Mutex<[Histogram; Part::ALL.len()]>>);

impl Pace {
    /// Something took so long. Only ever called on the thread that draws, so nobody waits here.
    pub(super) fn note(&self, part: Part, took: Duration) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [pictures, rest, page, paint] = &mut *parts;
        let times = match part {
            Part::Pictures => pictures,
            Part::Rest => rest,
            Part::Page => page,
            Part::Paint => paint,
        };
        times.record(took);
    }

    /// Does something, and notes how long it took.
    #[expect(
        clippy::disallowed_methods,
        reason = "what drawing takes is measured by the real clock"
    )]
    pub(super) fn time<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.note(part, began.elapsed());
        done
    }

    /// Tells the log.
    pub(super) fn tell(&self) {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, times) in Part::ALL.into_iter().zip(&*parts) {
            if let Some(millis) = times.percentiles() {
                let count = times.count();
                let (p50, p95) = (millis.p50, millis.p95);
                tracing::debug!(?part, count, p50, p95, "drawing, in milliseconds");
            }
        }
    }
}
