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
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::{AbortHandle, Abortable, FutureExt as _};
use quinn::{AsyncTimer, AsyncUdpSocket};

use crate::identity::{Host, NodeAddress};

mod beat;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod linux_udp;
mod networks;
mod tcp;
mod tokio_runtime;
mod tokio_tcp;

pub use networks::{NetworkChanges, Networks, Route};
pub use tcp::{Connecting, TcpListener, TcpStream};
pub use tokio_runtime::TokioRuntime;

/// Clock, timers, tasks, randomness and sockets of one node.
///
/// `now`, `new_timer` and `spawn` come from [`quinn::Runtime`].
pub trait Runtime: quinn::Runtime {
    /// Wall-clock time in milliseconds since 1970-01-01 UTC. For expiry only, never for intervals.
    fn unix_millis(&self) -> u64;

    /// Fills `bytes` from the operating system's generator, or from the simulation's seed.
    fn fill_random(&self, bytes: &mut [u8]);

    /// An instant not long ago from which whoever works every 10 ms should count, so that they share wake-ups with the
    /// timers. A runtime to which a wake-up costs nothing, like the simulator's, says now.
    fn beat(&self) -> Instant {
        self.now()
    }

    /// Binds a UDP socket. Port 0 picks a free one.
    ///
    /// # Errors
    /// Whatever the operating system answers: the address is taken, or not ours.
    fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Binds a UDP socket that shares its port with others and speaks multicast: it joins `group` at those of our
    /// addresses, and sends multicasts from the address that it is bound to, within this network alone.
    ///
    /// # Errors
    /// Whatever the operating system answers; a runtime without multicast, like the simulator's, has none.
    fn bind_multicast(
        &self,
        addr: SocketAddrV4,
        group: Ipv4Addr,
        interfaces: &[Ipv4Addr],
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _unused = (addr, group, interfaces);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens a TCP connection, with small buffers and without Nagle's algorithm (RFC 896).
    ///
    /// A runtime without TCP answers that it has none.
    ///
    /// # Errors
    /// Whatever the operating system answers: refused, unreachable, timed out.
    fn connect_tcp(&self, _addr: SocketAddr) -> Connecting<'_> {
        Box::pin(std::future::ready(Err(tcp::unsupported())))
    }

    /// Listens for TCP connections. Port 0 picks a free one; `[::]` takes IPv4 too.
    ///
    /// # Errors
    /// Whatever the operating system answers: the address is taken, or not ours.
    fn listen_tcp(&self, _addr: SocketAddr) -> io::Result<Arc<dyn TcpListener>> {
        Err(tcp::unsupported())
    }

    /// Addresses of this node's interfaces that are up, loopback included, link-local excluded.
    fn interface_addrs(&self) -> Vec<IpAddr>;

    /// Whether `ip` is another node's in a network that this node is in, so that no router lies between. A runtime
    /// that does not know how far its networks reach says no.
    fn is_neighbour(&self, _ip: IpAddr) -> bool {
        false
    }

    /// The networks this node is in. A runtime that knows no routes shows its addresses alone.
    fn networks(&self) -> Networks {
        Networks::of_addrs(self.interface_addrs())
    }

    /// Rings from now on when [`Self::networks`] or [`Self::suspended`] may say something else. A runtime that
    /// cannot tell never rings, and is looked at now and then.
    fn network_changes(&self) -> NetworkChanges {
        NetworkChanges::never()
    }

    /// How long this node has slept since some moment in the past; [`quinn::Runtime::now`] may stand still
    /// meanwhile.
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }

    /// Runs a job that takes the processor for a while where nothing that must go on waits for it, and ends when it is done. The
    /// job says how many hashes of one block it took. A runtime without threads runs it at once; the simulator's lets the time
    /// pass that it would have taken.
    fn work(&self, job: Job) -> Working<'_> {
        Box::pin(async move {
            job();
        })
    }

    /// The addresses of `host`, an IP address or a DNS name, each with `port`; best first and never empty.
    ///
    /// A runtime without a name service, like the simulator's, knows IP addresses alone.
    ///
    /// # Errors
    /// When the name has no address or nobody can be asked.
    fn resolve(&self, host: &str, port: u16) -> Resolving<'_> {
        let resolved = match host.parse() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_not_an_ip) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("looking up the name {host:?} needs the real network"),
            )),
        };
        Box::pin(std::future::ready(resolved))
    }
}

/// What [`Runtime::work`] runs.
pub type Job = Box<dyn FnOnce() -> u64 + Send>;

/// Future of [`Runtime::work`].
pub type Working<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Future of [`Runtime::resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Where a node listens, best address first and never empty.
///
/// # Errors
/// As [`Runtime::resolve`].
pub async fn resolve_node(
    runtime: &dyn Runtime,
    address: &NodeAddress,
) -> io::Result<Vec<SocketAddr>> {
    match &address.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, address.port)]),
        Host::Name(name) => runtime.resolve(name, address.port).await,
    }
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
        // Aborted is how a task is meant to end when its owner goes away. Mapped, and not awaited in a block, which would have
        // room for the future twice.
        let future = Abortable::new(future, registration).map(|ended| ended.unwrap_or(()));
        self.spawn(Box::pin(future));
        Task {
            handle: Some(handle),
        }
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
    /// Nothing once it is detached.
    handle: Option<AbortHandle>,
}

impl Task {
    /// Lets the task run on after the handle is gone.
    pub fn detach(mut self) {
        // Dropped: what the handle shares with the task would outlive it, with the task's own memory.
        self.handle = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::task::{ArcWake, waker};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    /// The default methods over the real runtime's required ones.
    #[derive(Debug, Default)]
    struct WithoutNames(TokioRuntime, Spawned);

    /// The task that was spawned last, for whoever polls it.
    #[derive(Default)]
    struct Spawned(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

    impl fmt::Debug for Spawned {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Spawned").finish_non_exhaustive()
        }
    }

    impl quinn::Runtime for WithoutNames {
        fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
            quinn::Runtime::new_timer(&self.0, deadline)
        }
        fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
            *self.1.0.lock().unwrap() = Some(future);
        }
        fn wrap_udp_socket(
            &self,
            socket: std::net::UdpSocket,
        ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
            quinn::Runtime::wrap_udp_socket(&self.0, socket)
        }
    }

    impl Runtime for WithoutNames {
        fn unix_millis(&self) -> u64 {
            self.0.unix_millis()
        }
        fn fill_random(&self, bytes: &mut [u8]) {
            self.0.fill_random(bytes);
        }
        fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
            self.0.bind_udp(addr)
        }
        fn interface_addrs(&self) -> Vec<IpAddr> {
            self.0.interface_addrs()
        }
    }

    #[test]
    fn addresses_need_no_name_service_and_names_do() {
        let runtime = WithoutNames::default();
        for host in ["192.0.2.7", "2001:db8::7"] {
            let expected = vec![SocketAddr::new(host.parse().unwrap(), 9)];
            assert_eq!(block_on(runtime.resolve(host, 9)).unwrap(), expected);
            assert_eq!(block_on(TokioRuntime.resolve(host, 9)).unwrap(), expected);
        }
        let error = block_on(runtime.resolve("node.example", 9)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("real network"), "{error}");
    }

    struct Wakes;

    impl ArcWake for Wakes {
        fn wake_by_ref(_this: &Arc<Self>) {}
    }

    #[test]
    fn nothing_is_left_of_a_detached_task_when_it_has_ended() {
        let runtime = WithoutNames::default();
        let wakes = Arc::new(Wakes);
        let waker = waker(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let spawned = || runtime.1.0.lock().unwrap().take().unwrap();
        let (told, tell) = tokio::sync::oneshot::channel::<()>();
        runtime.spawn_task(tell.map(|_told| ())).detach();
        let mut detached = spawned();
        assert!(detached.as_mut().poll(&mut cx).is_pending(), "it runs on");
        told.send(()).unwrap();
        assert!(detached.as_mut().poll(&mut cx).is_ready());
        drop(detached);
        // A task's waker holds its memory; ours, and the one that was made of it.
        assert_eq!(Arc::strong_count(&wakes), 2);
        let kept = runtime.spawn_task(std::future::pending());
        let mut ending = spawned();
        assert!(ending.as_mut().poll(&mut cx).is_pending());
        drop(kept);
        assert!(
            ending.as_mut().poll(&mut cx).is_ready(),
            "it ends with its handle"
        );
    }

    #[test]
    fn the_real_runtime_asks_the_system() {
        let addrs = block_on(TokioRuntime.resolve("localhost", 9)).unwrap();
        assert!(!addrs.is_empty() && addrs.iter().all(|addr| addr.ip().is_loopback()));
    }

    #[test]
    fn a_node_at_an_address_is_there() {
        let node = crate::identity::NodeKeys::from_seed(&[7; 32]).id();
        let addr = SocketAddr::from(([192, 0, 2, 7], 4433));
        let address = NodeAddress::new(node, addr);
        let found = block_on(resolve_node(&WithoutNames::default(), &address)).unwrap();
        assert_eq!(found, vec![addr]);
    }
}
