//! Recording on a thread of its own, and the ends that hand over to it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use super::{RecordConfig, RecordError, RecordStats, RecordedPicture, Recording, Shelf, Side};
use crate::{
    audio::wide::WideBlock,
    video::{codec::VideoCodec, frame::Size},
};

/// Blocks and pictures that wait for the disk: one and a half seconds of both sides.
const QUEUE: usize = 384;

/// Bytes of pictures that wait for the disk.
const QUEUE_BYTES: usize = 16 << 20;

/// How a recording is.
#[derive(Debug, Clone, Default)]
pub struct RecordStatus {
    /// The first file.
    pub path: PathBuf,
    /// What is in the files.
    pub stats: RecordStats,
    /// Why it has stopped by itself.
    pub error: Option<Arc<RecordError>>,
    /// Nothing more is written.
    pub is_over: bool,
}

enum Job {
    Sound(Side, Instant, WideBlock),
    Picture(Side, RecordedPicture),
    End,
}

enum Way {
    Thread(SyncSender<Job>),
    /// Where time stands still meanwhile, and there are no threads.
    Here(Mutex<Option<Recording>>),
}

struct Shared {
    way: Way,
    status: Mutex<RecordStatus>,
    over: Condvar,
    closed: AtomicBool,
    waiting_bytes: AtomicUsize,
    sound_dropped: AtomicU64,
    pictures_dropped: AtomicU64,
    /// What comes of this side is of no use before a key frame.
    broken: [AtomicBool; 2],
    /// There was one.
    begun: [AtomicBool; 2],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn broken(&self, side: Side) -> &AtomicBool {
        &self.broken[side.index()]
    }

    /// Does a job, unless there is nothing to write to any more.
    fn work(&self, recording: &mut Option<Recording>, job: Job) {
        let Some(open) = recording else { return };
        let done = match job {
            Job::Sound(side, at, block) => open.sound(side, at, &block),
            Job::Picture(side, picture) => open.picture(side, picture).map(|is_taken| {
                if !is_taken {
                    self.broken(side).store(true, Ordering::Release);
                }
            }),
            Job::End => {
                let done = open.finish();
                let stats = open.stats();
                *recording = None;
                self.end(stats, done.err());
                return;
            }
        };
        let stats = open.stats();
        match done {
            Ok(()) => lock(&self.status).stats = stats,
            Err(error) => {
                *recording = None;
                self.end(stats, Some(error));
            }
        }
    }

    fn end(&self, stats: RecordStats, error: Option<RecordError>) {
        self.closed.store(true, Ordering::Release);
        let mut status = lock(&self.status);
        status.stats = stats;
        status.error = error.map(Arc::new);
        status.is_over = true;
        self.over.notify_all();
    }

    /// Hands a job over; `false`: too many wait.
    fn offer(&self, job: Job) -> bool {
        match &self.way {
            Way::Thread(queue) => queue.try_send(job).is_ok(),
            Way::Here(recording) => {
                self.work(&mut lock(recording), job);
                true
            }
        }
    }

    fn run(&self, mut recording: Option<Recording>, queue: &Receiver<Job>) {
        while recording.is_some() {
            // Whoever closes wakes up this thread if it waits here.
            let Ok(job) = queue.recv() else { return };
            self.take(&mut recording, job);
            while self.closed.load(Ordering::Acquire) {
                match queue.try_recv() {
                    Ok(job) => self.take(&mut recording, job),
                    Err(_empty) => {
                        self.work(&mut recording, Job::End);
                        return;
                    }
                }
            }
        }
    }

    fn take(&self, recording: &mut Option<Recording>, job: Job) {
        if let Job::Picture(_, picture) = &job {
            let bytes = picture.bytes.len();
            self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        self.work(recording, job);
    }
}

/// Hands over what is to be recorded. Never waits. Copies are the same end.
#[derive(Clone)]
pub struct RecordTap(Arc<Shared>);

impl std::fmt::Debug for RecordTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordTap").finish_non_exhaustive()
    }
}

impl RecordTap {
    /// 10 ms of a side, of which the last sample was there at `at`.
    pub fn sound(&self, side: Side, at: Instant, block: &WideBlock) {
        let shared = &self.0;
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        if !shared.offer(Job::Sound(side, at, block.clone())) {
            shared.sound_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A picture of a side, as its codec gives it, and when it was taken or shown.
    pub fn picture(
        &self,
        side: Side,
        at: Instant,
        codec: VideoCodec,
        bytes: &[u8],
        is_key: bool,
        size: Size,
    ) {
        let shared = &self.0;
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        let broken = shared.broken(side);
        if broken.load(Ordering::Acquire) && !is_key {
            if shared.begun[side.index()].load(Ordering::Acquire) {
                shared.pictures_dropped.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        shared.begun[side.index()].store(true, Ordering::Release);
        let (more, bytes) = (bytes.len(), bytes.to_vec());
        let picture = RecordedPicture {
            at,
            codec,
            bytes,
            is_key,
            size,
        };
        // What is done at once may find out that this picture is no beginning either.
        broken.store(false, Ordering::Release);
        let is_thread = matches!(shared.way, Way::Thread(_));
        let waiting = if is_thread {
            shared.waiting_bytes.fetch_add(more, Ordering::AcqRel)
        } else {
            0
        };
        let fits = waiting + more <= QUEUE_BYTES;
        if !fits || !shared.offer(Job::Picture(side, picture)) {
            shared.waiting_bytes.fetch_sub(more, Ordering::AcqRel);
            shared.pictures_dropped.fetch_add(1, Ordering::Relaxed);
            broken.store(true, Ordering::Release);
        }
    }
}

/// A recording that goes on by itself. Dropping it ends the file too, without waiting for it.
#[derive(Debug)]
pub struct Recorder {
    tap: RecordTap,
}

impl Recorder {
    /// Begins in the first file of `shelf`, on a thread of its own or not.
    ///
    /// # Errors
    /// There is no file, or no thread.
    pub fn start(
        config: RecordConfig,
        shelf: Box<dyn Shelf>,
        now: Instant,
        threads: bool,
    ) -> Result<Self, RecordError> {
        let recording = Recording::begin(config, shelf, now)?;
        let status = RecordStatus {
            path: recording.path().to_owned(),
            stats: recording.stats(),
            ..RecordStatus::default()
        };
        let shared = |way| {
            Arc::new(Shared {
                way,
                status: Mutex::new(status),
                over: Condvar::new(),
                closed: AtomicBool::new(false),
                waiting_bytes: AtomicUsize::new(0),
                sound_dropped: AtomicU64::new(0),
                pictures_dropped: AtomicU64::new(0),
                broken: [true, true].map(AtomicBool::new),
                begun: [false, false].map(AtomicBool::new),
            })
        };
        let shared = if threads {
            let (jobs, queue) = sync_channel(QUEUE);
            let shared = shared(Way::Thread(jobs));
            let worker = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("record".into())
                .spawn(move || worker.run(Some(recording), &queue))
                .map_err(RecordError::Thread)?;
            shared
        } else {
            shared(Way::Here(Mutex::new(Some(recording))))
        };
        Ok(Self {
            tap: RecordTap(shared),
        })
    }

    /// An end to hand over by.
    #[must_use]
    pub fn tap(&self) -> RecordTap {
        self.tap.clone()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> RecordStatus {
        let shared = &self.tap.0;
        let mut status = lock(&shared.status).clone();
        status.stats.sound_dropped += shared.sound_dropped.load(Ordering::Relaxed);
        status.stats.pictures_dropped += shared.pictures_dropped.load(Ordering::Relaxed);
        status
    }

    /// Whether pictures of this side are of no use before a key frame.
    #[must_use]
    pub fn wants_key(&self, side: Side) -> bool {
        let shared = &self.tap.0;
        !shared.closed.load(Ordering::Acquire) && shared.broken(side).load(Ordering::Acquire)
    }

    /// Takes nothing more, and ends the file behind what waits.
    pub fn close(&self) {
        let shared = &self.tap.0;
        if shared.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Where there is no room for it, the thread is busy and looks at what is closed afterwards.
        if !shared.offer(Job::End) {
            tracing::trace!("the recording has more to write");
        }
    }

    /// Waits until the file is complete, for so long at most. How it is then.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> RecordStatus {
        let shared = &self.tap.0;
        let status = lock(&shared.status);
        drop(
            shared
                .over
                .wait_timeout_while(status, patience, |status| !status.is_over),
        );
        self.status()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close();
    }
}
