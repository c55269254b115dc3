//! Clock, timers, tasks, randomness and sockets, as one argument.
//!
//! [`Runtime`] extends [`quinn::Runtime`]: the same object drives quinn and us. [`TokioRuntime`] is the real
//! one; the simulator brings its own. Code that runs under the simulator must not use `tokio::time`,
//! `tokio::spawn`, `tokio::net` nor an unbiased `tokio::select!` (its start branch is random);
//! `tokio::sync` is fine.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::{AbortHandle, Abortable};
use quinn::{AsyncTimer, AsyncUdpSocket};

mod tokio_runtime;

pub use tokio_runtime::TokioRuntime;

/// Clock, timers, tasks, randomness and sockets of one node.
///
/// `now`, `new_timer` and `spawn` come from [`quinn::Runtime`].
pub trait Runtime: quinn::Runtime {
    /// Wall-clock time in milliseconds since 1970-01-01 UTC. For expiry only, never for intervals.
    fn unix_millis(&self) -> u64;

    /// Fills `bytes` from the operating system's generator, or from the simulation's seed.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Binds a UDP socket. Port 0 picks a free one.
    ///
    /// # Errors
    /// Whatever the operating system answers: the address is taken, or not ours.
    fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Addresses of this node's interfaces that are up, loopback included, link-local excluded.
    fn interface_addrs(&self) -> Vec<IpAddr>;
}

/// What every caller of a [`Runtime`] wants, built on the trait's few primitives.
pub trait RuntimeExt: Runtime {
    /// Sleeps until `deadline`.
    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep {
            timer: self.new_timer(deadline),
        }
    }

    /// Sleeps for `duration`.
    fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// 32 random bytes: a key, an id or the seed of a generator.
    fn random_array<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes);
        bytes
    }

    /// Runs `future` in the background until it ends or the returned [`Task`] is dropped.
    fn spawn_task(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let (handle, registration) = AbortHandle::new_pair();
        let future = Abortable::new(future, registration);
        self.spawn(Box::pin(async move {
            // Aborted is how a task is meant to end when its owner goes away.
            future.await.unwrap_or(());
        }));
        Task { handle }
    }
}

impl<R: Runtime + ?Sized> RuntimeExt for R {}

/// Waits for `future`, or gives up after `limit` and returns `None`. A ready future wins over the limit.
pub async fn timeout<F: Future>(
    runtime: &dyn Runtime,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    let sleep = runtime.sleep(limit);
    tokio::select! {
        biased;
        output = future => Some(output),
        () = sleep => None,
    }
}

/// A background task that ends with its handle.
#[derive(Debug)]
#[must_use = "dropping the handle ends the task"]
pub struct Task {
    handle: AbortHandle,
}

impl Task {
    /// Lets the task run on after the handle is gone.
    pub fn detach(self) {
        std::mem::forget(self);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Future of [`RuntimeExt::sleep_until`].
pub struct Sleep {
    timer: Pin<Box<dyn AsyncTimer>>,
}

impl Sleep {
    /// Moves the deadline.
    pub fn reset(&mut self, deadline: Instant) {
        self.timer.as_mut().reset(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}
