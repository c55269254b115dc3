//! Tasks, the clock and everything that is due later, on one thread and in one order.
//!
//! Ready tasks are polled first in, first out. When none is left, the clock jumps to the next event. Events
//! due at the same instant happen in the order in which they were scheduled. Nothing else decides an order,
//! so two runs that start alike stay alike.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use super::{Event, SimNode};

/// What a node runs in the background.
pub(super) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Locks, whether or not a panicking test left the lock poisoned: what is inside is only inspected then.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an event stands in the timeline: when it is due, and how many were scheduled before it.
pub(super) type EventKey = (Duration, u64);

/// Virtual time: one real instant, taken once, plus nanoseconds that only the executor moves.
#[derive(Debug)]
struct Clock {
    base: Instant,
    nanos: AtomicU64,
}

/// The single-threaded executor of one world.
pub(super) struct Executor {
    clock: Clock,
    ready: Arc<ReadyQueue>,
    tasks: Mutex<BTreeMap<(SimNode, u64), Arc<SimTask>>>,
    /// Ready tasks of nodes that are asleep, in the order in which they became ready.
    asleep: Mutex<Vec<Arc<SimTask>>>,
    timeline: Mutex<BTreeMap<EventKey, Event>>,
    next_task: AtomicU64,
    next_event: AtomicU64,
}

type ReadyQueue = Mutex<VecDeque<Arc<SimTask>>>;

/// One spawned future, or the place in the ready queue of the future that `block_on` holds on its stack.
pub(super) struct SimTask {
    node: SimNode,
    id: u64,
    /// Absent while it is being polled, after it ended or was killed, and always for `block_on`.
    future: Mutex<Option<BoxFuture>>,
    queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl Wake for SimTask {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let ready = Arc::clone(&self.ready);
            lock(&ready).push_back(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Arc::clone(self).wake();
    }
}

impl SimTask {
    /// Whose task it is.
    pub(super) fn node(&self) -> SimNode {
        self.node
    }

    /// Allows the next wake to queue this task again. Must come before the poll that it announces.
    pub(super) fn begin_poll(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }
}

impl Executor {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be made from the real clock; nothing but its origin enters the simulation"
    )]
    pub(super) fn new() -> Self {
        Self {
            clock: Clock {
                base: Instant::now(),
                nanos: AtomicU64::new(0),
            },
            ready: Arc::default(),
            tasks: Mutex::default(),
            asleep: Mutex::default(),
            timeline: Mutex::default(),
            next_task: AtomicU64::new(0),
            next_event: AtomicU64::new(0),
        }
    }

    /// Time since the world began.
    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.nanos.load(Ordering::Relaxed))
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.base + self.elapsed()
    }

    /// When `instant` is, counted from the beginning of the world; instants before it count as the beginning.
    pub(super) fn since_start(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.clock.base)
    }

    /// Moves the clock forward to `to`; it never goes back.
    pub(super) fn advance(&self, to: Duration) {
        // 584 years of nanoseconds fit: a run limit ends every simulation long before.
        let nanos = u64::try_from(to.as_nanos()).unwrap_or(u64::MAX);
        self.clock.nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    /// Schedules `event`, not before the present.
    pub(super) fn schedule(&self, at: Duration, event: Event) -> EventKey {
        let key = (
            at.max(self.elapsed()),
            self.next_event.fetch_add(1, Ordering::Relaxed),
        );
        lock(&self.timeline).insert(key, event);
        key
    }

    /// Takes back an event that has not happened yet.
    pub(super) fn cancel(&self, key: EventKey) {
        let event = lock(&self.timeline).remove(&key);
        drop(event);
    }

    /// Replaces the waker of a timer that is still scheduled; false when it has fired meanwhile.
    pub(super) fn rearm(&self, key: EventKey, waker: &Waker) -> bool {
        let old = {
            let mut timeline = lock(&self.timeline);
            match timeline.get_mut(&key) {
                Some(Event::Wake(old)) if !old.will_wake(waker) => mem::replace(old, waker.clone()),
                found => return found.is_some(),
            }
        };
        // Dropped with the lock released: a waker may own anything.
        drop(old);
        true
    }

    /// When the next event is due.
    pub(super) fn next_event_at(&self) -> Option<Duration> {
        lock(&self.timeline).keys().next().map(|(at, _)| *at)
    }

    /// Takes the next event out of the timeline and moves the clock to it.
    pub(super) fn take_event(&self) -> Option<Event> {
        let ((at, _), event) = lock(&self.timeline).pop_first()?;
        self.advance(at);
        Some(event)
    }

    fn new_task(&self, node: SimNode, future: Option<BoxFuture>) -> Arc<SimTask> {
        Arc::new(SimTask {
            node,
            id: self.next_task.fetch_add(1, Ordering::Relaxed),
            future: Mutex::new(future),
            queued: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        })
    }

    /// A place in the ready queue for a future that the caller holds and polls.
    pub(super) fn new_root(&self, node: SimNode) -> Arc<SimTask> {
        self.new_task(node, None)
    }

    pub(super) fn spawn(&self, node: SimNode, future: BoxFuture) {
        let task = self.new_task(node, Some(future));
        lock(&self.tasks).insert((node, task.id), Arc::clone(&task));
        task.wake();
    }

    pub(super) fn next_ready(&self) -> Option<Arc<SimTask>> {
        lock(&self.ready).pop_front()
    }

    /// Keeps a ready task until its node wakes up.
    pub(super) fn park(&self, task: Arc<SimTask>) {
        lock(&self.asleep).push(task);
    }

    /// Makes the parked tasks of `node` ready.
    pub(super) fn unpark(&self, node: SimNode) {
        let parked = mem::take(&mut *lock(&self.asleep));
        let (awake, asleep) = parked.into_iter().partition(|task| task.node == node);
        *lock(&self.asleep) = asleep;
        // They are marked as queued already.
        lock(&self.ready).extend::<Vec<_>>(awake);
    }

    /// Polls a spawned task once, and forgets it when it has ended.
    pub(super) fn poll(&self, task: &Arc<SimTask>) {
        task.begin_poll();
        let Some(mut future) = lock(&task.future).take() else {
            return;
        };
        let waker = Waker::from(Arc::clone(task));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => *lock(&task.future) = Some(future),
            Poll::Ready(()) => {
                lock(&self.tasks).remove(&(task.node, task.id));
            }
        }
    }

    /// Takes all futures of `node`. The caller drops them, in this order, with no lock held.
    pub(super) fn take_tasks(&self, node: SimNode) -> Vec<BoxFuture> {
        let mut tasks = lock(&self.tasks);
        let mut after = tasks.split_off(&(node, 0));
        let mut rest = after.split_off(&(node.next(), 0));
        tasks.append(&mut rest);
        drop(tasks);
        after
            .into_values()
            .filter_map(|task| lock(&task.future).take())
            .collect()
    }

    /// Takes everything that is scheduled. The caller drops it with no lock held.
    pub(super) fn take_events(&self) -> BTreeMap<EventKey, Event> {
        mem::take(&mut *lock(&self.timeline))
    }

    /// How many tasks of `node` have not ended.
    pub(super) fn task_count(&self, node: SimNode) -> usize {
        lock(&self.tasks).range((node, 0)..(node.next(), 0)).count()
    }
}
