//! The disk, used without keeping anybody waiting who has something urgent to do.

use std::{fs::File, path::Path, sync::mpsc as threads};

use tokio::sync::oneshot;

use crate::{
    engine::notice::FileRefused,
    files::{MAX_SIZE, book::MAX_TRANSFERS, tree::Tree},
};

/// Jobs that wait for the disk: one for each transfer that is opened or completed, and some.
const JOBS: usize = 2 * MAX_TRANSFERS;

type Job = Box<dyn FnOnce() + Send>;

/// Reads and writes, without keeping anybody waiting who has something urgent to do.
#[derive(Debug, Clone)]
pub(super) enum Disk {
    Here,
    Thread(threads::SyncSender<Job>),
}

impl Disk {
    pub(super) fn start(threads: bool) -> Self {
        if !threads {
            return Self::Here;
        }
        let (jobs, queue) = threads::sync_channel::<Job>(JOBS);
        let work = move || queue.iter().for_each(|job| job());
        match std::thread::Builder::new().name("files".into()).spawn(work) {
            Ok(_ends_with_the_queue) => Self::Thread(jobs),
            Err(error) => {
                tracing::warn!(%error, "files have no thread of their own");
                Self::Here
            }
        }
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match self {
            Self::Here => Some(work()),
            Self::Thread(jobs) => {
                let (done, result) = oneshot::channel();
                let job: Job = Box::new(move || {
                    // Nobody waits any more: the engine has ended.
                    done.send(work()).unwrap_or_else(drop);
                });
                jobs.try_send(job).ok()?;
                result.await.ok()
            }
        }
    }
}

/// Reads a file of ours through.
pub(super) fn hash(path: &Path) -> Result<Tree, FileRefused> {
    let wrong = |error: std::io::Error| FileRefused::Unreadable {
        path: path.to_owned(),
        disk: (&error).into(),
    };
    let file = File::open(path).map_err(wrong)?;
    let meta = file.metadata().map_err(wrong)?;
    if !meta.is_file() {
        return Err(FileRefused::NoFile(path.to_owned()));
    }
    if meta.len() > MAX_SIZE {
        return Err(FileRefused::TooLarge(path.to_owned()));
    }
    Tree::of(file, meta.len()).map_err(wrong)
}
