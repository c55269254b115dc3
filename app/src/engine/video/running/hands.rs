//! Who does the work that takes long: a thread, nobody in no time, or a model of a thread in virtual time.

use std::{sync::Arc, time::Duration};

use ahoy_media::video::worker::Worker;
use ahoy_transport::runtime::{Runtime, RuntimeExt as _, Task};
use tokio::sync::mpsc;

use crate::engine::{media::MediaError, video::VideoSettings};

/// A worker's thread, or nobody's: then it is done on the spot, or when as much virtual time has passed as it would take.
pub(super) enum Hands<J> {
    Thread(Worker<J>),
    Here(Box<dyn FnMut(J) + Send>),
    Modelled(
        mpsc::Sender<J>,
        #[expect(dead_code, reason = "held, not read")] Task,
    ),
}

impl<J: Send + 'static> Hands<J> {
    /// A job, or none if too many wait.
    pub(super) fn offer(&mut self, job: J) -> Result<(), J> {
        match self {
            Self::Thread(worker) => worker.offer(job),
            Self::Here(work) => {
                work(job);
                Ok(())
            }
            Self::Modelled(jobs, _) => jobs.try_send(job).map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job) => {
                    job
                }
            }),
        }
    }
}

impl VideoSettings {
    /// Does `work`, which would take so long on average, and for which `waiting` jobs may wait beside the one in hand.
    pub(super) fn hands<J: Send + 'static>(
        &self,
        runtime: &Arc<dyn Runtime>,
        name: &str,
        waiting: usize,
        takes: Duration,
        work: impl FnMut(J) + Send + 'static,
    ) -> Result<Hands<J>, MediaError> {
        if self.threads {
            let worker = Worker::start(name, waiting, work);
            return Ok(Hands::Thread(worker.map_err(|error| {
                MediaError::Pictures(format!("no thread is left for pictures: {error}"))
            })?));
        }
        if takes.is_zero() {
            return Ok(Hands::Here(Box::new(work)));
        }
        let (jobs, queue) = mpsc::channel(waiting);
        let task = runtime.spawn_task(model(Arc::clone(runtime), queue, takes, work));
        Ok(Hands::Modelled(jobs, task))
    }
}

/// As a thread does them: one after the other, and each takes half of its usual time to one and a half of it.
async fn model<J: Send + 'static>(
    runtime: Arc<dyn Runtime>,
    mut queue: mpsc::Receiver<J>,
    takes: Duration,
    mut work: impl FnMut(J) + Send + 'static,
) {
    while let Some(job) = queue.recv().await {
        let chance = f64::from(u32::from_be_bytes(runtime.random_array())) / f64::from(u32::MAX);
        runtime.sleep(takes.mul_f64(0.5 + chance)).await;
        work(job);
    }
}
