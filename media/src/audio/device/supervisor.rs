//! The thread that does what [`Supervision`] decides.

use std::{
    marker::PhantomData,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TryRecvError, TrySendError},
    },
    thread::{JoinHandle, Thread},
    time::Duration,
};

#[cfg(target_os = "linux")]
use super::pulse;
use super::{
    AudioSystem, DeviceChoice, DeviceClock, DeviceError, DeviceEvent, DeviceInfo, DeviceStats,
    Direction, Opening, host,
    stream::{StreamKeeper, StreamKind},
    supervision::{Action, Supervision},
};
use crate::audio::ring::RingWatch;

/// Rings on their way to the worker. It looks every 10 ms, and there is one per reopening.
pub(super) const CORE_QUEUE: usize = 8;

/// How often the watchdog looks when nothing wakes it.
const POLL: Duration = Duration::from_millis(100);

/// Threads that hang in the sound system are left behind, this many at most.
const MAX_ABANDONED: usize = 4;

/// How long closing may keep the owner of a handle waiting. A microphone should be off when it says so.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// What the thread shares with the handle.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// What is to be open from now on, until the thread has seen it.
    wanted: Mutex<Option<DeviceChoice>>,
    stats: Mutex<DeviceStats>,
    first: Mutex<Option<Result<DeviceInfo, DeviceError>>>,
    first_came: Condvar,
}

/// Keeps one device open.
#[derive(Debug)]
pub(super) struct Supervisor<K> {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    kind: PhantomData<K>,
}

impl<K: StreamKind> Supervisor<K> {
    /// Starts the thread. The worker gets a core for each stream that opens, and `None` for each that ends.
    pub(super) fn start(
        system: AudioSystem,
        opening: Opening,
        clock: DeviceClock,
        cores: SyncSender<Option<K::Core>>,
        on_event: impl FnMut(DeviceEvent) + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let shared = Arc::<Shared>::default();
        let thread = std::thread::Builder::new()
            .name("ahoy-device".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    Shell::<K> {
                        system,
                        watch_devices: opening.watch_devices,
                        raise_priority: opening.raise_priority,
                        speak_directly: opening.speak_directly,
                        choice: opening.choice.clone(),
                        clock,
                        supervision: Supervision::new(opening.choice, K::DIRECTION, clock.now()),
                        shared,
                        cores,
                        keeper: None,
                        watch: None,
                        host_name: None,
                        abandoned: Vec::new(),
                        past_errors: 0,
                    }
                    .run(on_event);
                }
            })
            .map_err(|error| DeviceError::System(error.to_string()))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            kind: PhantomData,
        })
    }
}

impl<K> Supervisor<K> {
    pub(super) fn stats(&self) -> DeviceStats {
        *lock(&self.shared.stats)
    }

    /// Another device from now on. Never waits.
    pub(super) fn choose(&self, choice: DeviceChoice) {
        *lock(&self.shared.wanted) = Some(choice);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    pub(super) fn wait_until_open(&self, limit: Duration) -> Result<DeviceInfo, DeviceError> {
        let first = lock(&self.shared.first);
        let (first, _) = self
            .shared
            .first_came
            .wait_timeout_while(first, limit, |first| first.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        first.clone().unwrap_or(Err(DeviceError::Hung))
    }
}

impl<K> Drop for Supervisor<K> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Dropped from within its own callback it cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a device supervisor panicked");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Shell<K: StreamKind> {
    system: AudioSystem,
    choice: DeviceChoice,
    watch_devices: bool,
    raise_priority: bool,
    speak_directly: bool,
    clock: DeviceClock,
    supervision: Supervision,
    shared: Arc<Shared>,
    cores: SyncSender<Option<K::Core>>,
    keeper: Option<StreamKeeper<K::Core>>,
    watch: Option<RingWatch>,
    /// The sound system that was in use when a stream was last open.
    host_name: Option<&'static str>,
    abandoned: Vec<JoinHandle<()>>,
    past_errors: u64,
}

impl<K: StreamKind> Shell<K> {
    fn run(mut self, mut on_event: impl FnMut(DeviceEvent)) {
        let mut lister = self.lister();
        while !self.shared.stop.load(Ordering::Acquire) {
            let wanted = lock(&self.shared.wanted).take();
            if let Some(choice) = wanted.filter(|choice| *choice != self.choice) {
                self.choice = choice.clone();
                // What the old one lists is about the old choice.
                lister = self.lister();
                self.supervision.handle_choice(self.clock.now(), choice);
            } else {
                self.look_at_stream();
            }
            match lister.as_ref().and_then(Lister::poll) {
                Some(Ok(devices)) => self.supervision.handle_list(self.clock.now(), &devices),
                Some(Err(Unreachable)) => self.supervision.handle_no_list(),
                None => {}
            }
            let last_callback = self.watch.as_ref().and_then(RingWatch::last_callback);
            self.supervision
                .handle_timeout(self.clock.now(), last_callback);
            while let Some(action) = self.supervision.poll_action() {
                match action {
                    Action::Open => self.open(),
                    Action::Close => self.close(),
                }
            }
            while let Some(event) = self.supervision.poll_event() {
                self.note(&event);
                on_event(event);
            }
            self.publish();
            std::thread::park_timeout(POLL);
        }
        self.close();
        let deadline = self.clock.now() + CLOSE_LIMIT;
        while self.clock.now() < deadline && !self.abandoned.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn lister(&self) -> Option<Lister> {
        self.watch_devices
            .then(|| Lister::start(self.system, K::DIRECTION, &self.choice, self.speak_directly))
            .flatten()
    }

    fn look_at_stream(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let now = self.clock.now();
        match keeper.opened.try_recv() {
            Ok(Ok(opened)) => {
                self.host_name = Some(opened.host_name);
                self.watch = Some(opened.watch);
                self.send(Some(opened.core));
                self.supervision.handle_opened(now, opened.info);
            }
            Ok(Err(error)) => self.supervision.handle_failed(now, error),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                let moved = keeper.failure.take_moved();
                if let Some(name) = moved.filter(|_| self.watch_devices) {
                    self.supervision.handle_moved(now, &name);
                }
                if let Some(error) = keeper.failure.fatal() {
                    self.supervision.handle_failed(now, error);
                }
            }
        }
    }

    fn open(&mut self) {
        self.abandoned.retain(|thread| !thread.is_finished());
        if self.abandoned.len() >= MAX_ABANDONED {
            self.supervision
                .handle_failed(self.clock.now(), DeviceError::Hung);
            return;
        }
        match StreamKeeper::start::<K>(
            self.system,
            self.choice.clone(),
            self.host_name,
            self.clock,
            self.raise_priority,
            self.speak_directly,
        ) {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(error) => self
                .supervision
                .handle_failed(self.clock.now(), DeviceError::System(error.to_string())),
        }
    }

    fn close(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            self.past_errors += keeper.failure.errors();
            self.abandoned.push(keeper.close());
        }
        if self.watch.take().is_some() {
            self.send(None);
        }
    }

    fn send(&self, core: Option<K::Core>) {
        match self.cores.try_send(core) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::warn!("the audio worker does not answer"),
            // It ends together with this thread.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    fn note(&self, event: &DeviceEvent) {
        let mut stats = lock(&self.shared.stats);
        let outcome = match event {
            DeviceEvent::Opened(info) => {
                stats.opened += 1;
                tracing::info!(direction = %K::DIRECTION, name = info.name, "device opened");
                Some(Ok(info.clone()))
            }
            DeviceEvent::Lost { error, retry_in } => {
                stats.failed += 1;
                tracing::warn!(direction = %K::DIRECTION, %error, ?retry_in, "device lost");
                Some(Err(error.clone()))
            }
            DeviceEvent::Gone { id } => {
                stats.failed += 1;
                tracing::warn!(direction = %K::DIRECTION, id, "chosen device gone");
                Some(Err(DeviceError::NotFound { id: id.clone() }))
            }
            DeviceEvent::Displaced { id } => {
                tracing::warn!(direction = %K::DIRECTION, id, "chosen device fetched back");
                None
            }
            DeviceEvent::DefaultChanged { to } => {
                tracing::info!(direction = %K::DIRECTION, name = to.name, "default changed");
                None
            }
        };
        drop(stats);
        if let Some(outcome) = outcome {
            lock(&self.shared.first).get_or_insert(outcome);
            self.shared.first_came.notify_all();
        }
    }

    fn publish(&self) {
        let mut stats = lock(&self.shared.stats);
        stats.errors = self.past_errors;
        if let Some(keeper) = &self.keeper {
            stats.errors += keeper.failure.errors();
            stats.stream_priority = keeper.priority;
        }
        if let Some(watch) = &self.watch {
            stats.ring = watch.stats();
        }
    }
}

/// There is nobody to ask for a list.
#[derive(Debug)]
struct Unreachable;

type List = Result<Vec<DeviceInfo>, Unreachable>;

/// The thread that lists the devices when the sound system says that they have changed, or now and then. It may hang
/// with the sound server; then there are no lists.
struct Lister {
    /// The newest that nobody has seen.
    list: Arc<Mutex<Option<List>>>,
    stop: Arc<AtomicBool>,
    thread: Thread,
}

impl Lister {
    fn start(
        system: AudioSystem,
        direction: Direction,
        choice: &DeviceChoice,
        speak_directly: bool,
    ) -> Option<Self> {
        let follow = *choice == DeviceChoice::Default;
        let newest = Arc::<Mutex<Option<List>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let supervisor = std::thread::current();
        let thread = std::thread::Builder::new()
            .name("ahoy-audio-list".into())
            .spawn({
                let (stop, newest) = (Arc::clone(&stop), Arc::clone(&newest));
                move || {
                    let mut connection = None;
                    let mut host_name = None;
                    let mut last = None;
                    let mut changes = Changes::default();
                    loop {
                        let tells = speak_directly && changes.are_told(host_name);
                        std::thread::park_timeout(host::list_interval(host_name, tells));
                        if stop.load(Ordering::Acquire) {
                            return;
                        }
                        let list = list(system, direction, follow, &mut connection, &mut host_name);
                        let devices = list.as_ref().ok().cloned();
                        *lock(&newest) = Some(list);
                        // The supervisor looks now and then anyway; news it should have at once.
                        if devices != last {
                            last = devices;
                            supervisor.unpark();
                        }
                    }
                }
            });
        match thread {
            Ok(handle) => Some(Self {
                list: newest,
                stop,
                thread: handle.thread().clone(),
            }),
            Err(error) => {
                tracing::warn!(%error, "devices are not watched");
                None
            }
        }
    }

    fn poll(&self) -> Option<List> {
        lock(&self.list).take()
    }
}

impl Drop for Lister {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The connection by which a sound server tells of changes, if it does.
#[derive(Debug, Default)]
struct Changes {
    #[cfg(target_os = "linux")]
    told: Option<(pulse::Stream, Arc<AtomicBool>)>,
}

impl Changes {
    /// Sees to it that this thread is woken when there are other devices, and tells whether it will be. To be asked before
    /// each list, so that no change falls between the two.
    #[cfg(target_os = "linux")]
    fn are_told(&mut self, host_name: Option<&str>) -> bool {
        let is_alive = |alive: &AtomicBool| alive.load(Ordering::Acquire);
        self.told = self.told.take().filter(|(_, alive)| is_alive(alive));
        if self.told.is_none() && host_name.is_some_and(host::is_pulse) {
            let alive = Arc::new(AtomicBool::new(true));
            let thread = std::thread::current();
            let lives = Arc::clone(&alive);
            let on_change = move |goes_on| {
                lives.fetch_and(goes_on, Ordering::AcqRel);
                thread.unpark();
            };
            self.told = pulse::watch(on_change).ok().map(|stream| (stream, alive));
            // What has changed before is not told.
            std::thread::current().unpark();
        }
        self.told.is_some()
    }

    #[cfg(not(target_os = "linux"))]
    fn are_told(&mut self, _host_name: Option<&str>) -> bool {
        false
    }
}

/// Asks the sound system that was asked before, by the same connection while that lasts. May hang.
fn list(
    system: AudioSystem,
    direction: Direction,
    follow: bool,
    connection: &mut Option<cpal::Host>,
    host_name: &mut Option<&'static str>,
) -> List {
    // What another sound system lists would not name the devices in use.
    if host_name.is_some_and(|name| !host::is_present(name)) {
        *connection = None;
        return Err(Unreachable);
    }
    if connection.is_none() {
        *connection = host::open(system).ok();
    }
    let devices = connection.as_ref().and_then(|host| {
        host_name.get_or_insert(host.id().name());
        if follow {
            host::list_default(host, direction).ok()
        } else {
            host::list_all(host, &[direction]).ok()
        }
    });
    if devices.is_none() {
        // A connection to a server that died is of no use any more.
        *connection = None;
    }
    devices.ok_or(Unreachable)
}
