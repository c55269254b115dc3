//! A thread for work that takes long, and a short queue before it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

/// Does jobs one after the other on a thread of its own. Dropping it waits for the job in hand, and forgets the others.
#[derive(Debug)]
pub struct Worker<J> {
    jobs: Option<SyncSender<J>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Worker<J> {
    /// Starts the thread `name`, before which up to `waiting` jobs wait.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        name: &str,
        waiting: usize,
        mut run: impl FnMut(J) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<J>(waiting);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                while let Ok(job) = queue.recv() {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    run(job);
                }
            }
        })?;
        Ok(Self {
            jobs: Some(jobs),
            stop,
            thread: Some(thread),
        })
    }

    /// Hands a job over, unless too many wait.
    ///
    /// # Errors
    /// Gives the job back.
    pub fn offer(&self, job: J) -> Result<(), J> {
        match &self.jobs {
            Some(jobs) => jobs.try_send(job).map_err(|refused| match refused {
                TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
            }),
            None => Err(job),
        }
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker of pictures panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_does_not_fit_is_given_back_and_what_waits_at_the_end_is_not_done() {
        let (go, gate) = sync_channel::<()>(4);
        let (done, seen) = sync_channel::<u32>(4);
        let gate = Mutex::new(gate);
        let worker = Worker::start("work", 1, move |job: u32| {
            gate.lock().unwrap().recv().unwrap();
            done.send(job).unwrap();
        })
        .unwrap();
        assert_eq!(worker.offer(1), Ok(()));
        // The first may still wait, or be in hand.
        let accepted: Vec<u32> = (2..=9).filter(|job| worker.offer(*job).is_ok()).collect();
        assert!(accepted.len() <= 2, "{accepted:?}");
        go.send(()).unwrap();
        assert_eq!(seen.recv(), Ok(1));
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        drop(worker);
        assert!(seen.iter().count() <= accepted.len());
    }
}
