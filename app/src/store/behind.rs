//! A disk that nobody waits for.
//!
//! A database commits by writing pages and waiting until the disk has them: some milliseconds on a good disk, half a second
//! on a busy one. The thread that carries a call's packets must not stand still for that. So what the database writes is
//! queued, and a thread does it in the order in which it came, waits for the disk included: what lies on the disk is at any
//! moment what a slower database would have left there. Reading sees what is queued.
//!
//! Whoever tells somebody else that a thing is kept waits for [`Disk::settled`] before that.
//!
//! What the disk refuses is tried again for as long as the database is open: it may be full for a moment only. What waits is
//! bounded by [`MAX_QUEUED`]: beyond, the database waits as it always did.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    ops::Bound,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use redb::{BackendError, StorageBackend};
use tokio::sync::watch;

/// What is queued is kept in blocks of so many bytes.
const BLOCK: usize = 4096;
/// Bytes that wait at most.
const MAX_QUEUED: usize = 32 << 20;
/// How long after a refusal the disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes another file.
type Beside = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Something that the disk is to do.
enum Job {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
    Beside(Beside),
}

/// Bytes of a place that the file does not have yet.
struct Block {
    bytes: Box<[u8; BLOCK]>,
    /// The job that brings the file up to date with it.
    job: u64,
}

#[derive(Default)]
struct Queue {
    /// The first one is being done.
    jobs: VecDeque<Arc<Job>>,
    queued: usize,
    /// By number: `offset / BLOCK`.
    blocks: BTreeMap<u64, Block>,
    /// The length that the file will have, where that waits.
    len: Option<u64>,
    /// Jobs so far.
    issued: u64,
    done: u64,
    behind: bool,
    closing: bool,
    /// What the disk said when it was tried last.
    refused: Option<String>,
}

struct Shared {
    file: Box<dyn StorageBackend>,
    queue: Mutex<Queue>,
    /// There is something to do, or something was done.
    changed: Condvar,
    done: watch::Sender<u64>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// A file, written at once until [`Disk::write_behind`]. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Shared>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue();
        f.debug_struct("Disk")
            .field("behind", &queue.behind)
            .field("waits", &queue.jobs.len())
            .finish_non_exhaustive()
    }
}

impl Disk {
    pub(crate) fn new(file: impl StorageBackend) -> Self {
        Self(Arc::new(Shared {
            file: Box::new(file),
            queue: Mutex::default(),
            changed: Condvar::new(),
            done: watch::Sender::new(0),
            worker: Mutex::default(),
        }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a thread writes. Where there can be no thread, all stays as it was.
    pub(crate) fn write_behind(&self) {
        let mut worker = self.0.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.is_some() {
            return;
        }
        let disk = self.clone();
        let thread = std::thread::Builder::new().name("ahoy-disk".into());
        match thread.spawn(move || disk.work()) {
            Ok(thread) => {
                *worker = Some(thread);
                self.queue().behind = true;
            }
            Err(error) => {
                tracing::warn!(%error, "the profile is written by the thread of the calls")
            }
        }
    }

    /// Ends when all that was written until now is on the disk, or never will be.
    pub(crate) fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let issued = self.queue().issued;
        let mut done = self.0.done.subscribe();
        async move {
            if done.wait_for(|done| *done >= issued).await.is_err() {
                tracing::debug!("the database is closed");
            }
        }
    }

    /// Writes another file: before what is written from now on, and after all that was.
    ///
    /// # Errors
    /// When it was to be written at once, and could not be.
    pub(crate) fn write_beside(
        &self,
        write: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<()> {
        let mut write = Some(Box::new(write) as Beside);
        let deferred = self.defer(|_queue| match write.take() {
            Some(write) => Ok(Job::Beside(write)),
            None => Err(io::ErrorKind::Other.into()),
        });
        match (deferred, write) {
            (Some(deferred), _) => deferred,
            (None, Some(write)) => write(),
            (None, None) => Ok(()),
        }
    }

    /// Waits until all that was written until now is on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    #[cfg(test)]
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut queue = self.queue();
        let issued = queue.issued;
        while queue.done < issued {
            if let Some(refused) = &queue.refused {
                return Err(io::Error::other(refused.clone()));
            }
            queue = self
                .0
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Does what is queued until the disk is closed, and then what is left of it once.
    fn work(&self) {
        let mut queue = self.queue();
        loop {
            let Some(job) = queue.jobs.front().map(Arc::clone) else {
                if queue.closing {
                    return;
                }
                queue = self
                    .0
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let outcome = match &*job {
                Job::Write(offset, bytes) => self.0.file.write(*offset, bytes),
                Job::SetLen(len) => self.0.file.set_len(*len),
                Job::Sync => self.0.file.sync_data(),
                Job::Beside(write) => write(),
            };
            queue = self.queue();
            if let Err(error) = outcome {
                if queue.refused.is_none() {
                    tracing::error!(%error, "the profile's database cannot be written; trying again");
                }
                queue.refused = Some(error.to_string());
                self.0.changed.notify_all();
                if queue.closing {
                    return;
                }
                queue = self
                    .0
                    .changed
                    .wait_timeout(queue, AGAIN)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
                continue;
            }
            if queue.refused.take().is_some() {
                tracing::info!("the profile's database is written again");
            }
            queue.finish();
            self.0.done.send_replace(queue.done);
            self.0.changed.notify_all();
        }
    }

    /// Queues a job, unless the caller has to do it. Waits while too much waits.
    fn defer(&self, job: impl FnOnce(&mut Queue) -> io::Result<Job>) -> Option<io::Result<()>> {
        let mut queue = self.queue();
        if !queue.behind {
            return None;
        }
        while queue.queued > MAX_QUEUED {
            if let Some(refused) = &queue.refused {
                return Some(Err(io::Error::other(refused.clone())));
            }
            queue = self
                .0
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.issued += 1;
        let job = match job(&mut queue) {
            Ok(job) => job,
            Err(error) => {
                queue.issued -= 1;
                return Some(Err(error));
            }
        };
        if let Job::Write(_, bytes) = &job {
            queue.queued += bytes.len();
        }
        queue.jobs.push_back(Arc::new(job));
        self.0.changed.notify_all();
        Some(Ok(()))
    }

    fn len_of(&self, queue: &Queue) -> io::Result<u64> {
        queue.len.map_or_else(|| self.0.file.len(), Ok)
    }

    /// Reads what the file has of a place; behind its end there is nothing yet, nor where it is to be cut.
    fn read_file(&self, queue: &Queue, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let cuts = queue.jobs.iter().filter_map(|job| match **job {
            Job::SetLen(len) => Some(len),
            Job::Write(..) | Job::Sync | Job::Beside(_) => None,
        });
        let end = cuts.chain([self.0.file.len()?]).min().unwrap_or_default();
        let there = end.saturating_sub(offset);
        let there = usize::try_from(there).map_or(out.len(), |there| there.min(out.len()));
        let (read, nothing) = out.split_at_mut(there);
        nothing.fill(0);
        if read.is_empty() {
            return Ok(());
        }
        self.0.file.read(offset, read)
    }

    /// Puts bytes where reading looks before it looks into the file.
    fn overlay(&self, queue: &mut Queue, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for piece in pieces(offset, bytes.len()) {
            let mut block = match queue.blocks.remove(&piece.block) {
                Some(block) => block,
                None => {
                    let mut fresh = Box::new([0; BLOCK]);
                    if piece.len() < BLOCK {
                        self.read_file(queue, piece.block * BLOCK as u64, &mut fresh[..])?;
                    }
                    Block {
                        bytes: fresh,
                        job: 0,
                    }
                }
            };
            block.job = queue.issued;
            if let (Some(to), Some(from)) = (
                block.bytes.get_mut(piece.from..piece.to),
                bytes.get(piece.at..piece.at + piece.len()),
            ) {
                to.copy_from_slice(from);
            }
            queue.blocks.insert(piece.block, block);
        }
        Ok(())
    }
}

impl Queue {
    /// The first job was done.
    fn finish(&mut self) {
        let Some(job) = self.jobs.pop_front() else {
            return;
        };
        self.done += 1;
        let done = self.done;
        match &*job {
            Job::Write(offset, bytes) => {
                self.queued -= bytes.len();
                for piece in pieces(*offset, bytes.len()) {
                    let is_there = |block: &Block| block.job <= done;
                    if self.blocks.get(&piece.block).is_some_and(is_there) {
                        self.blocks.remove(&piece.block);
                    }
                }
            }
            Job::SetLen(_) => {
                let another = |job: &Arc<Job>| matches!(**job, Job::SetLen(_));
                if !self.jobs.iter().any(another) {
                    self.len = None;
                }
            }
            Job::Sync | Job::Beside(_) => {}
        }
    }
}

/// What of a place lies in one block.
struct Piece {
    block: u64,
    /// Within the block.
    from: usize,
    to: usize,
    /// Within the place.
    at: usize,
}

impl Piece {
    fn len(&self) -> usize {
        self.to - self.from
    }
}

fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let place = offset + at as u64;
        let from = usize::try_from(place % BLOCK as u64).unwrap_or_default();
        let to = BLOCK.min(from + (len - at));
        let piece = Piece {
            block: place / BLOCK as u64,
            from,
            to,
            at,
        };
        at += piece.len();
        Some(piece)
    })
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let queue = self.queue();
        self.len_of(&queue)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let queue = self.queue();
        if queue.blocks.is_empty() && queue.len.is_none() {
            drop(queue);
            return self.0.file.read(offset, out);
        }
        if offset + out.len() as u64 > self.len_of(&queue)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for piece in pieces(offset, out.len()) {
            let Some(to) = out.get_mut(piece.at..piece.at + piece.len()) else {
                continue;
            };
            match queue.blocks.get(&piece.block) {
                Some(block) => {
                    if let Some(from) = block.bytes.get(piece.from..piece.to) {
                        to.copy_from_slice(from);
                    }
                }
                None => self.read_file(&queue, offset + piece.at as u64, to)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let deferred = self.defer(|queue| {
            // What lies behind the end is gone.
            drop(queue.blocks.split_off(&len.div_ceil(BLOCK as u64)));
            if let Some(block) = queue.blocks.get_mut(&(len / BLOCK as u64)) {
                let end = usize::try_from(len % BLOCK as u64).unwrap_or_default();
                block.bytes.iter_mut().skip(end).for_each(|byte| *byte = 0);
            }
            queue.len = Some(len);
            Ok(Job::SetLen(len))
        });
        deferred.unwrap_or_else(|| self.0.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let deferred = self.defer(|_queue| Ok(Job::Sync));
        deferred.unwrap_or_else(|| self.0.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let deferred = self.defer(|queue| {
            self.overlay(queue, offset, data)?;
            Ok(Job::Write(offset, data.to_vec()))
        });
        deferred.unwrap_or_else(|| self.0.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.queue().closing = true;
        self.0.changed.notify_all();
        let worker = self
            .0
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            tracing::error!("the thread that writes the profile ended in disorder");
        }
        let mut queue = self.queue();
        queue.behind = false;
        let refused = queue.refused.take();
        let lost = !queue.jobs.is_empty();
        // Nobody waits for what will not be any more.
        self.0.done.send_replace(queue.issued);
        drop(queue);
        self.0.file.close()?;
        match refused {
            Some(refused) if lost => {
                tracing::error!("the last changes of the profile could not be written: {refused}");
                Err(io::Error::other(refused))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    /// A disk that does one thing for each word that it is given, or refuses to.
    #[derive(Debug)]
    struct Slow {
        memory: InMemoryBackend,
        words: Mutex<mpsc::Receiver<bool>>,
        syncs: mpsc::SyncSender<Vec<u8>>,
    }

    impl Slow {
        fn turn(&self) -> io::Result<()> {
            // Nobody is there to say no.
            match self.words.lock().unwrap().recv().unwrap_or(true) {
                true => Ok(()),
                false => Err(io::ErrorKind::StorageFull.into()),
            }
        }
    }

    impl StorageBackend for Slow {
        fn len(&self) -> io::Result<u64> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.turn()?;
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.turn()?;
            // Nobody looks.
            self.syncs.send(all(self)).unwrap_or_default();
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.turn()?;
            self.memory.write(offset, data)
        }
    }

    fn all(disk: &impl StorageBackend) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(disk.len().unwrap()).unwrap()];
        disk.read(0, &mut bytes).unwrap();
        bytes
    }

    fn slow() -> (Disk, mpsc::SyncSender<bool>, mpsc::Receiver<Vec<u8>>) {
        let (words, heard) = mpsc::sync_channel(100);
        let (syncs, synced) = mpsc::sync_channel(100);
        let disk = Disk::new(Slow {
            memory: InMemoryBackend::new(),
            words: Mutex::new(heard),
            syncs,
        });
        disk.write_behind();
        (disk, words, synced)
    }

    #[derive(Debug, Clone)]
    enum Act {
        Write(u64, Vec<u8>),
        SetLen(u64),
        Sync,
        /// The disk does one thing.
        Turn,
    }

    fn act() -> impl Strategy<Value = Act> {
        let len = 0..40_000_u64;
        let write = (len.clone(), 1..9000_usize, any::<u8>());
        prop_oneof![
            4 => write.prop_map(|(at, len, byte)| Act::Write(at, vec![byte; len])),
            1 => len.prop_map(Act::SetLen),
            1 => Just(Act::Sync),
            4 => Just(Act::Turn),
        ]
    }

    proptest! {
        #[test]
        fn reading_sees_what_waits_and_the_disk_gets_all_of_it_in_its_order(
            acts in prop::collection::vec(act(), 1..60),
        ) {
            let (disk, words, synced) = slow();
            let mut model: Vec<u8> = Vec::new();
            let mut at_syncs = Vec::new();
            for act in acts {
                match act {
                    Act::Write(at, bytes) => {
                        let at = usize::try_from(at).unwrap();
                        let end = at + bytes.len();
                        if end > model.len() {
                            model.resize(end, 0);
                            disk.set_len(end as u64).unwrap();
                        }
                        model[at..end].copy_from_slice(&bytes);
                        disk.write(at as u64, &bytes).unwrap();
                    }
                    Act::SetLen(len) => {
                        model.resize(usize::try_from(len).unwrap(), 0);
                        disk.set_len(len).unwrap();
                    }
                    Act::Sync => {
                        at_syncs.push(model.clone());
                        disk.sync_data().unwrap();
                    }
                    Act::Turn => words.send(true).unwrap(),
                }
                prop_assert!(all(&disk) == model);
            }
            drop(words);
            disk.close().unwrap();
            prop_assert!(all(&disk) == model);
            prop_assert!(synced.try_iter().collect::<Vec<_>>() == at_syncs);
        }
    }

    #[tokio::test]
    async fn who_writes_does_not_wait_and_who_asks_waits_until_it_is_there() {
        let (disk, words, synced) = slow();
        // Nothing waits yet.
        disk.settled().await;
        disk.set_len(8).unwrap();
        disk.write(0, b"a letter").unwrap();
        let (told, beside) = mpsc::sync_channel(1);
        disk.write_beside(move || told.send(()).map_err(io::Error::other))
            .unwrap();
        disk.sync_data().unwrap();
        assert!(beside.try_recv().is_err());
        let settled = tokio::spawn(disk.settled());
        tokio::task::yield_now().await;
        assert!(!settled.is_finished());
        // It is full for a moment.
        for word in [true, false, true, true] {
            words.send(word).unwrap();
        }
        settled.await.unwrap();
        beside.try_recv().unwrap();
        assert_eq!(synced.try_recv().unwrap(), b"a letter");
    }

    #[test]
    fn what_waits_for_a_disk_that_refuses_is_bounded() {
        let (disk, words, _synced) = slow();
        words.send(false).unwrap();
        disk.set_len(1 << 30).unwrap();
        let piece = vec![1; 1 << 20];
        let written = (0..100).take_while(|n| disk.write(n << 20, &piece).is_ok());
        assert_eq!(written.count(), (MAX_QUEUED >> 20) + 1);
        // As it was closed while it refused, that is an error, and nobody waits for ever.
        for _once_before_and_once_after in 0..2 {
            words.send(false).unwrap();
        }
        assert!(disk.close().is_err());
    }

    #[test]
    fn without_a_thread_everything_is_written_at_once() {
        let disk = Disk::new(InMemoryBackend::new());
        disk.set_len(3).unwrap();
        disk.write(0, b"now").unwrap();
        let mut there = [0; 3];
        disk.0.file.read(0, &mut there).unwrap();
        assert_eq!(&there, b"now");
    }
}
