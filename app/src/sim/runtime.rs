//! What a simulated node sees: the [`Runtime`] that shipped code takes its clock, tasks and sockets from.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ahoy_transport::runtime::{Job, NetworkChanges, Networks, Runtime, RuntimeExt, Working};
use quinn::{
    AsyncTimer, AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

use super::{
    Event, Shared, SimNode,
    executor::{EventKey, lock},
    network::SharedInbox,
};

/// 2026-01-01 00:00:00 UTC in milliseconds: when every world begins.
pub const EPOCH_MILLIS: u64 = 1_767_225_600_000;

/// Segments that one send may carry, so that segmentation offload is exercised as on a real Linux.
const MAX_SEGMENTS: usize = 10;

/// The runtime of one life of one node. After [`World::kill`](super::World::kill) it does nothing any more.
pub struct SimRuntime {
    shared: Arc<Shared>,
    node: SimNode,
    incarnation: u64,
    clock_offset_millis: i64,
    rng: Arc<Mutex<ChaCha20Rng>>,
}

impl SimRuntime {
    pub(super) fn new(shared: &Arc<Shared>, node: SimNode) -> Self {
        let network = lock(&shared.network);
        let state = network.node(node);
        Self {
            shared: Arc::clone(shared),
            node,
            incarnation: state.incarnation,
            clock_offset_millis: state.clock_offset_millis,
            rng: Arc::clone(&state.rng),
        }
    }

    /// The node this runtime belongs to.
    pub fn node(&self) -> SimNode {
        self.node
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.shared.executor.elapsed()
    }

    fn is_running(&self) -> bool {
        lock(&self.shared.network).is_running(self.node, self.incarnation)
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime")
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl quinn::Runtime for SimRuntime {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(SimTimer {
            shared: Arc::clone(&self.shared),
            deadline: self.shared.executor.since_start(deadline),
            key: None,
        })
    }

    /// Futures of a dead node are dropped at once.
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if self.is_running() {
            self.shared.executor.spawn(self.node, future);
        }
    }

    fn wrap_udp_socket(&self, _socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a real socket has no place in a simulation",
        ))
    }

    fn now(&self) -> Instant {
        self.shared.executor.now()
    }
}

impl Runtime for SimRuntime {
    fn unix_millis(&self) -> u64 {
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        EPOCH_MILLIS
            .saturating_add(elapsed)
            .saturating_add_signed(self.clock_offset_millis)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        lock(&self.rng).fill_bytes(bytes);
    }

    fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let mut network = lock(&self.shared.network);
        if !network.is_running(self.node, self.incarnation) {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        let (id, local, inbox) = network.bind(self.node, addr)?;
        drop(network);
        Ok(Arc::new(SimSocket {
            shared: Arc::clone(&self.shared),
            node: self.node,
            incarnation: self.incarnation,
            id,
            local,
            inbox,
        }))
    }

    fn interface_addrs(&self) -> Vec<IpAddr> {
        lock(&self.shared.network).interface_addrs(self.node)
    }

    fn is_neighbour(&self, ip: IpAddr) -> bool {
        lock(&self.shared.network).is_neighbour(self.node, ip.to_canonical())
    }

    fn networks(&self) -> Networks {
        lock(&self.shared.network).networks(self.node)
    }

    fn network_changes(&self) -> NetworkChanges {
        lock(&self.shared.network).network_changes(self.node)
    }

    fn work(&self, job: Job) -> Working<'_> {
        Box::pin(async move {
            let hashes = job();
            let rate = self.shared.hashes_per_second.load(Ordering::Relaxed).max(1);
            let micros = hashes.saturating_mul(1_000_000) / rate;
            let _working = AtWork::begin(&self.shared, self.node, hashes);
            self.sleep(Duration::from_micros(micros)).await;
        })
    }

    fn suspended(&self) -> Duration {
        lock(&self.shared.network).slept(self.node)
    }
}

/// A job of a node, until it is dropped.
struct AtWork<'a> {
    shared: &'a Shared,
    node: SimNode,
}

impl<'a> AtWork<'a> {
    fn begin(shared: &'a Shared, node: SimNode, hashes: u64) -> Self {
        let mut all = lock(&shared.worked);
        let worked = all.entry(node).or_default();
        worked.hashes += hashes;
        worked.at_once += 1;
        worked.most_at_once = worked.most_at_once.max(worked.at_once);
        Self { shared, node }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if let Some(worked) = lock(&self.shared.worked).get_mut(&self.node) {
            worked.at_once -= 1;
        }
    }
}

struct SimTimer {
    shared: Arc<Shared>,
    deadline: Duration,
    /// Where the timer stands in the timeline, if it does.
    key: Option<EventKey>,
}

impl SimTimer {
    fn cancel(&mut self) {
        if let Some(key) = self.key.take() {
            self.shared.executor.cancel(key);
        }
    }
}

impl AsyncTimer for SimTimer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.cancel();
        self.deadline = self.shared.executor.since_start(deadline);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.executor.elapsed() >= self.deadline {
            self.cancel();
            return Poll::Ready(());
        }
        let armed = self
            .key
            .is_some_and(|key| self.shared.executor.rearm(key, cx.waker()));
        if !armed {
            let event = Event::Wake(cx.waker().clone());
            self.key = Some(self.shared.executor.schedule(self.deadline, event));
        }
        Poll::Pending
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for SimTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTimer")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A UDP socket of a node. It has room for one waiting receiver, like tokio's.
struct SimSocket {
    shared: Arc<Shared>,
    node: SimNode,
    incarnation: u64,
    id: u64,
    local: SocketAddr,
    inbox: SharedInbox,
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut network = lock(&self.shared.network);
        if network.is_running(self.node, self.incarnation) {
            network.send(&self.shared.executor, self.node, self.local, transmit);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = lock(&self.inbox);
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(received) = inbox.pop() else {
                break;
            };
            // What does not fit is cut off, as the kernel does it.
            let len = received.contents.len().min(buf.len());
            buf[..len].copy_from_slice(&received.contents[..len]);
            *meta = RecvMeta {
                addr: received.src,
                len,
                stride: len,
                ecn: received.ecn,
                dst_ip: Some(received.dst_ip),
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        let old = inbox.waker.replace(cx.waker().clone());
        drop(inbox);
        drop(old);
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        MAX_SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        // Socket ids are never reused, so this cannot hit a socket of the node's next life.
        lock(&self.shared.network).unbind(self.node, self.id, self.local.port());
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSocket")
            .field("node", &self.node)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// The simulated network takes every datagram at once: queues that fill up are on the links.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
