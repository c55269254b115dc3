//! The newest picture, for whoever draws it.
//!
//! No queue: a picture that was not drawn before the next came is of no use any more. Whoever decodes copies each
//! picture once, into memory that is used again; whoever draws takes the newest without waiting for anybody.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use super::{frame::Frame, sink::VideoSink, y4m::Y4mError};

/// Pictures whose memory is kept: one is drawn, one is the newest, and one is written.
const KEPT: usize = 3;

/// Nobody looks where so many pictures came and none was taken: two seconds of a face, and longer of a screen. A window that
/// is minimised, covered or closed draws nothing.
pub const UNSEEN: u32 = 60;

/// A picture to be drawn.
#[derive(Debug, Clone)]
pub struct Newest {
    /// Grows with each picture.
    pub number: u64,
    /// The picture.
    pub frame: Arc<Frame>,
    /// It is to be drawn as a mirror would show it.
    pub is_mirrored: bool,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Newest>,
    number: u64,
    spare: Vec<Arc<Frame>>,
    is_hidden: bool,
    /// Pictures that came since somebody looked.
    unseen: u32,
    again: Option<Again>,
}

type Wake = Box<dyn Fn() + Send + Sync>;

/// Called when somebody looks again.
#[derive(Clone)]
struct Again(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Again").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: OnceLock<Wake>,
}

/// A place for one picture. Copies are the same place.
#[derive(Clone, Default)]
pub struct Latest(Arc<Inner>);

impl std::fmt::Debug for Latest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latest").finish_non_exhaustive()
    }
}

impl PartialEq for Latest {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Latest {}

impl Latest {
    /// Calls `wake` after each change, on the thread that makes it. The first one counts.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        if self.0.wake.set(Box::new(wake)).is_err() {
            tracing::debug!("somebody is woken already");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(wake) = self.0.wake.get() {
            wake();
        }
    }

    /// Puts a copy of a picture there. While nothing is to be seen, it is as if it had not come.
    pub fn put(&self, frame: &Frame, is_mirrored: bool) {
        let spare = {
            let mut state = self.state();
            if state.is_hidden {
                return;
            }
            // Nobody draws this one any more.
            let free = |kept: &mut Arc<Frame>| Arc::get_mut(kept).is_some();
            let at = state.spare.iter_mut().position(free);
            at.map(|at| state.spare.swap_remove(at))
        };
        let copy = match spare {
            Some(mut spare) => {
                Arc::make_mut(&mut spare).assign(frame);
                spare
            }
            None => Arc::new(frame.clone()),
        };
        {
            let mut state = self.state();
            if state.is_hidden {
                return;
            }
            state.number += 1;
            state.unseen = state.unseen.saturating_add(1);
            let newest = Newest {
                number: state.number,
                frame: copy,
                is_mirrored,
            };
            let before = state.newest.replace(newest);
            if let Some(before) = before
                && state.spare.len() < KEPT
            {
                state.spare.push(before.frame);
            }
        }
        self.wake();
    }

    /// Takes the picture away, and the memory of those before.
    pub fn clear(&self) {
        let was_there = {
            let mut state = self.state();
            state.spare.clear();
            state.newest.take().is_some()
        };
        if was_there {
            self.wake();
        }
    }

    /// Lets nothing be seen, whatever comes, or what comes from now on.
    pub fn set_hidden(&self, is_hidden: bool) {
        self.state().is_hidden = is_hidden;
        if is_hidden {
            self.clear();
        }
    }

    /// Whether somebody looks: of the last [`UNSEEN`] pictures one was taken.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.state().unseen < UNSEEN
    }

    /// Calls `again` when somebody looks after nobody did, on the thread that does, from now on and in place of what was
    /// called before. It counts as looked at until then.
    pub fn on_look_again(&self, again: impl Fn() + Send + Sync + 'static) {
        let mut state = self.state();
        state.unseen = 0;
        state.again = Some(Again(Arc::new(again)));
    }

    /// Brings `seen` up to date; `false` where somebody changes it in this moment, and will say so when that is done.
    /// Never waits.
    pub fn look(&self, seen: &mut Option<Newest>) -> bool {
        let mut state = match self.0.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let number = |newest: &Option<Newest>| newest.as_ref().map(|newest| newest.number);
        if number(seen) != number(&state.newest) {
            *seen = state.newest.clone();
        }
        let was_unseen = std::mem::take(&mut state.unseen) >= UNSEEN;
        let again = state.again.clone().filter(|_| was_unseen);
        drop(state);
        if let Some(Again(again)) = again {
            again();
        }
        true
    }
}

/// Pictures of the other side, as they become due.
#[derive(Debug)]
pub struct LatestSink(pub Latest);

impl VideoSink for LatestSink {
    fn show(&mut self, frame: &Frame) -> Result<(), Y4mError> {
        self.0.put(frame, false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::video::{
        frame::{Plane, Size},
        pattern::{TestPattern, read},
    };

    fn pattern(width: u32, height: u32) -> TestPattern {
        TestPattern::new(Size::new(width, height).unwrap())
    }

    fn number(seen: &Option<Newest>) -> Option<u16> {
        read(&seen.as_ref()?.frame)
    }

    #[test]
    fn only_the_newest_is_there_and_each_change_wakes_once() {
        let latest = Latest::default();
        let woken = Arc::new(AtomicU32::new(0));
        latest.on_change({
            let woken = Arc::clone(&woken);
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut seen = None;
        assert!(latest.look(&mut seen) && seen.is_none());
        let mut pattern = pattern(320, 180);
        for _ in 0..5 {
            latest.put(&pattern.next_frame(Duration::ZERO), false);
        }
        assert!(latest.look(&mut seen));
        assert_eq!(number(&seen), Some(4));
        assert_eq!(woken.load(Ordering::Relaxed), 5);
        latest.clear();
        latest.clear();
        assert!(latest.look(&mut seen) && seen.is_none());
        assert_eq!(woken.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn what_is_drawn_does_not_change_and_memory_is_used_again() {
        let latest = Latest::default();
        let (mut small, mut large) = (pattern(320, 180), pattern(640, 360));
        latest.put(&small.next_frame(Duration::ZERO), true);
        let mut drawn = None;
        latest.look(&mut drawn);
        let mut places = std::collections::BTreeSet::new();
        for at in 0..40u16 {
            let from = if at % 10 == 9 { &mut large } else { &mut small };
            let frame = from.next_frame(Duration::ZERO);
            latest.put(&frame, false);
            let mut seen = None;
            latest.look(&mut seen);
            let seen = seen.unwrap();
            assert_eq!(*seen.frame, frame);
            places.insert(seen.frame.plane(Plane::Y).as_ptr().addr());
        }
        assert!(drawn.as_ref().unwrap().is_mirrored);
        assert_eq!(number(&drawn), Some(0), "somebody still draws it");
        // Each place may be made larger once.
        assert!(places.len() <= 2 * KEPT, "{} places", places.len());
    }

    #[test]
    fn what_is_hidden_stays_away_until_something_comes_behind_that() {
        let latest = Latest::default();
        let mut pattern = pattern(320, 180);
        let mut next = || latest.put(&pattern.next_frame(Duration::ZERO), false);
        let mut seen = None;
        next();
        latest.set_hidden(true);
        next();
        assert!(latest.look(&mut seen) && seen.is_none());
        latest.set_hidden(false);
        assert!(latest.look(&mut seen) && seen.is_none());
        next();
        assert!(latest.look(&mut seen));
        assert_eq!(number(&seen), Some(2));
    }

    #[test]
    fn nobody_looks_where_pictures_pile_up_and_whoever_does_again_is_told_of_once() {
        let latest = Latest::default();
        let told = Arc::new(AtomicU32::new(0));
        latest.on_look_again({
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
        let frame = pattern(320, 180).next_frame(Duration::ZERO);
        let mut seen = None;
        for _ in 1..UNSEEN {
            latest.put(&frame, false);
        }
        assert!(latest.is_watched(), "a window may draw seldom");
        latest.look(&mut seen);
        assert_eq!(told.load(Ordering::Relaxed), 0);
        for _ in 0..UNSEEN {
            latest.put(&frame, false);
        }
        assert!(!latest.is_watched());
        latest.look(&mut seen);
        latest.look(&mut seen);
        assert!(latest.is_watched());
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_draws_waits_for_nobody() {
        let latest = Latest::default();
        latest.put(&pattern(320, 180).next_frame(Duration::ZERO), false);
        let mut seen = None;
        let held = latest.state();
        assert!(!latest.look(&mut seen) && seen.is_none());
        drop(held);
        assert!(latest.look(&mut seen) && seen.is_some());
    }
}
