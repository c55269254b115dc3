//! One UDP port for STUN, TURN and QUIC.
//!
//! [`MuxSocket`] stands between quinn and the real socket. Every received datagram, one by one also when the
//! kernel hands them over in trains (GRO), goes one of three ways:
//!
//! ```text
//!             +--------------------+  QUIC that passes the filter        +-------+
//!  socket --> | MuxSocket::poll_recv| ---------------------------------> | quinn |
//!             +--------------------+  ChannelData of a relay route: data |       |
//!                |                    from the route's synthetic address +-------+
//!                | STUN, and ChannelData of clients that our own relay serves
//!                v
//!             recv_other (bounded queue)
//! ```
//!
//! A [tunnel](crate::tunnel) is a TCP connection that stands beside the socket: it has a synthetic address too, and
//! what is sent to and comes from there goes the same ways.
//!
//! A [side port](SidePort) is a further socket that stands for this one towards one remote address.
//!
//! quinn knows relayed peers by synthetic IPv6 addresses ([`RelayRoute`]); what it sends there leaves as
//! ChannelData. All addresses that quinn sees are IPv6, so that one endpoint reaches IPv4 hosts, IPv6 hosts and
//! relayed peers; addresses in this interface are the usual ones.
//!
//! An address that cannot be reached looks like loss, never like an I/O error: quinn would give up the whole
//! connection, and with a wrong first datagram from the network even the endpoint.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use tokio::sync::Notify;

use crate::{
    demux::{CHANNEL_HEADER_LEN, Kind, channel_header, classify, parse_channel_data},
    runtime::{Runtime, RuntimeExt},
    tunnel::queue::QueuePolicy,
};

mod cid;
mod filter;
mod routes;
mod sides;
mod tunnels;

pub use cid::{CONNECTION_ID_LEN, ConnectionIds};
pub use filter::MAX_ADMITTED;
use filter::{Filter, Refusal};
use routes::RelayRoutes;
pub use routes::{MAX_RELAY_ROUTES, RelayRoute, is_relay_address};
pub use sides::{MAX_SIDE_PORTS, SidePort};
use sides::{Side, Sides};
use tunnels::Tunnels;
pub use tunnels::{MAX_TUNNELS, is_tunnel_address, seen_address, speaks_only_turn, tunnel_origin};
pub(crate) use tunnels::{TunnelEnd, TunnelPort};

/// Datagrams that wait for [`MuxSocket::recv_other`] on a peer: some tens of milliseconds of a busy ICE agent
/// and TURN client.
pub const PEER_OTHER_QUEUE: usize = 256;

/// The same on a supernode, whose relay may take its traffic from here.
pub const SUPERNODE_OTHER_QUEUE: usize = 4096;

/// Most addresses from which ChannelData is accepted for our own relay.
pub const MAX_CHANNEL_SOURCES: usize = 1 << 16;

/// A bounded table has no room left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the table is full")]
pub struct TableFull;

/// Settings of a [`MuxSocket`].
#[derive(Debug, Clone, Copy)]
pub struct MuxConfig {
    /// The one QUIC version that passes.
    pub version: u32,
    /// Whether QUIC is let in only from admitted addresses and relay routes.
    pub admission: bool,
    /// Whether an Initial with a token must come from a source that we sent a Retry.
    pub retry_memory: bool,
    /// Length of the queue behind [`MuxSocket::recv_other`].
    pub other_queue: usize,
}

impl MuxConfig {
    /// A device: silent, and closed to addresses that nobody vouched for.
    #[must_use]
    pub fn peer(version: u32) -> Self {
        Self {
            version,
            admission: true,
            retry_memory: true,
            other_queue: PEER_OTHER_QUEUE,
        }
    }

    /// A supernode: open to every address.
    #[must_use]
    pub fn supernode(version: u32) -> Self {
        Self {
            version,
            admission: false,
            retry_memory: false,
            other_queue: SUPERNODE_OTHER_QUEUE,
        }
    }
}

/// A datagram that is not QUIC: STUN, or ChannelData for our own relay.
#[derive(Debug, Clone)]
pub struct OtherDatagram {
    /// Who sent it. A relay route's address when it came through that route.
    pub from: SocketAddr,
    /// Its payload.
    pub bytes: Bytes,
    /// The local address it was sent to, where the system tells.
    pub local: Option<IpAddr>,
    /// When it was taken from the socket.
    pub arrived: Instant,
}

/// Counters of a [`MuxSocket`] since it was made. They count UDP payloads; a train counts each of its datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MuxStats {
    /// Datagrams taken from the socket.
    pub received: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Datagrams handed to QUIC, through relay routes included.
    pub received_quic: u64,
    /// Datagrams handed to QUIC that came through a relay route.
    pub received_relayed: u64,
    /// Datagrams queued for [`MuxSocket::recv_other`].
    pub received_other: u64,
    /// Datagrams given to the socket.
    pub sent: u64,
    /// Bytes of those, relay framing included.
    pub sent_bytes: u64,
    /// Datagrams of QUIC, through relay routes included.
    pub sent_quic: u64,
    /// Datagrams of QUIC that left through a relay route.
    pub sent_relayed: u64,
    /// Datagrams of [`MuxSocket::send_other`].
    pub sent_other: u64,
    /// Datagrams taken from tunnels. They are not in `received`.
    pub received_tunnelled: u64,
    /// Datagrams given to tunnels. They are not in `sent`.
    pub sent_tunnelled: u64,
    /// What was dropped, by reason.
    pub dropped: MuxDrops,
}

/// Datagrams that a [`MuxSocket`] dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MuxDrops {
    /// QUIC from an address that nobody admitted.
    pub not_admitted: u64,
    /// QUIC of another version, Version Negotiation included.
    pub foreign_version: u64,
    /// QUIC with a destination connection id under 8 bytes.
    pub short_connection_id: u64,
    /// An Initial with a token from a source without a Retry of ours.
    pub token_without_retry: u64,
    /// A QUIC long header that ends early, or ChannelData whose length does not fit.
    pub malformed: u64,
    /// ChannelData on a channel without a relay route.
    pub unknown_channel: u64,
    /// STUN or ChannelData that found the queue full.
    pub other_queue_full: u64,
    /// From a tunnel of which too many datagrams wait already.
    pub tunnel_queue_full: u64,
    /// Sent to a relay route or a tunnel that is gone, or to an IPv6 host from an IPv4 socket.
    pub no_route: u64,
    /// Refused by the operating system.
    pub send_failed: u64,
    /// [`MuxSocket::send_other`] while the socket took nothing and [`MAX_WAITING_OTHER`] waited already.
    pub send_blocked: u64,
}

/// Datagrams of [`MuxSocket::send_other`] that wait for the socket. STUN repeats what is lost; this is for the first
/// few of a fresh socket.
pub const MAX_WAITING_OTHER: usize = 32;

/// The socket that quinn gets. See the [module](self).
pub struct MuxSocket {
    /// For the task that sends what waits.
    this: Weak<Self>,
    inner: Arc<dyn AsyncUdpSocket>,
    runtime: Arc<dyn Runtime>,
    local: SocketAddr,
    other_queue: usize,
    other_ready: Notify,
    state: Mutex<State>,
}

struct State {
    filter: Filter,
    routes: RelayRoutes,
    tunnels: Tunnels,
    sides: Sides,
    channel_sources: HashSet<SocketAddr>,
    /// With the tunnel that it came out of, if any.
    other: VecDeque<(OtherDatagram, Option<Arc<TunnelPort>>)>,
    /// Datagrams of [`MuxSocket::send_other`] that the socket did not take yet. While there are any, a task waits
    /// until it does.
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Datagrams of a train that could not stay in its buffer: another source or another size. Emptied before
    /// the next read, so one read bounds it.
    held: VecDeque<Held>,
    /// QUIC from tunnels; each tunnel may have a few here.
    tunnelled: VecDeque<(Arc<TunnelPort>, Held)>,
    /// Tunnels and the socket take turns, so that neither starves the other.
    tunnels_turn: bool,
    /// Who waits for packets, and is not woken by the socket when a tunnel brings one or a side port is new.
    reader: Option<Waker>,
    stats: MuxStats,
}

struct Held {
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    dst_ip: Option<IpAddr>,
    bytes: Vec<u8>,
}

/// Where one received datagram goes.
enum Verdict {
    /// To quinn: the last `len` of bytes from `skip` on, as if from `from`.
    Quic {
        from: SocketAddr,
        skip: usize,
        len: usize,
    },
    /// To the other queue, likewise.
    Other {
        from: SocketAddr,
        skip: usize,
        len: usize,
    },
    Drop,
}

impl MuxSocket {
    /// Wraps `inner`.
    ///
    /// # Errors
    /// When `inner` does not know its own address.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        inner: Arc<dyn AsyncUdpSocket>,
        config: MuxConfig,
    ) -> io::Result<Arc<Self>> {
        let local = inner.local_addr()?;
        Ok(Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            inner,
            runtime,
            local,
            other_queue: config.other_queue,
            other_ready: Notify::new(),
            state: Mutex::new(State {
                filter: Filter::new(config.version, config.admission, config.retry_memory),
                routes: RelayRoutes::default(),
                tunnels: Tunnels::default(),
                sides: Sides::default(),
                channel_sources: HashSet::new(),
                other: VecDeque::new(),
                waiting: VecDeque::new(),
                held: VecDeque::new(),
                tunnelled: VecDeque::new(),
                tunnels_turn: false,
                reader: None,
                stats: MuxStats::default(),
            }),
        }))
    }

    /// The address the port is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        canonical(self.local)
    }

    /// Lets QUIC in from `address`. Counted: each call needs its own [`revoke`](Self::revoke).
    ///
    /// # Errors
    /// When [`MAX_ADMITTED`] other addresses are admitted.
    pub fn admit(&self, address: SocketAddr) -> Result<(), TableFull> {
        self.lock().filter.admit(canonical(address))
    }

    /// Takes one [`admit`](Self::admit) back.
    pub fn revoke(&self, address: SocketAddr) {
        self.lock().filter.revoke(canonical(address));
    }

    /// Makes the peer behind a bound channel reachable; returns the address under which QUIC knows it. The same
    /// server and channel keep their address.
    ///
    /// # Errors
    /// When there are [`MAX_RELAY_ROUTES`].
    pub fn add_relay_route(&self, route: RelayRoute) -> Result<SocketAddr, TableFull> {
        self.lock().routes.add(RelayRoute {
            server: canonical(route.server),
            ..route
        })
    }

    /// Forgets a route. What QUIC still sends there is dropped.
    pub fn remove_relay_route(&self, address: SocketAddr) -> Option<RelayRoute> {
        self.lock().routes.remove(address)
    }

    /// The route behind a synthetic address.
    #[must_use]
    pub fn relay_route(&self, address: SocketAddr) -> Option<RelayRoute> {
        self.lock().routes.get(address)
    }

    /// Makes `socket` stand for this port towards `remote`: what is sent there leaves by it, and only what comes from
    /// there by it is heard.
    ///
    /// # Errors
    /// When there are [`MAX_SIDE_PORTS`].
    pub fn add_side_port(
        &self,
        remote: SocketAddr,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> Result<SidePort, TableFull> {
        let remote = canonical(remote);
        let is_v4 = socket.local_addr().is_ok_and(|local| local.is_ipv4());
        let mut state = self.lock();
        let id = state.sides.add(remote, socket, is_v4)?;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(SidePort {
            mux: Weak::clone(&self.this),
            id,
            remote,
        })
    }

    /// Makes a tunnel to `peer` a place to send to; returns its address.
    pub(crate) fn add_tunnel(
        &self,
        end: TunnelEnd,
        peer: SocketAddr,
        policy: QueuePolicy,
    ) -> Result<(SocketAddr, Arc<TunnelPort>), TableFull> {
        self.lock().tunnels.add(end, peer, policy)
    }

    /// Forgets a tunnel. What is sent there from now on is dropped.
    pub(crate) fn remove_tunnel(&self, address: SocketAddr) {
        self.lock().tunnels.remove(address);
    }

    /// The other end of the TCP connection behind a tunnel's address, while it is open: a supernode, its client, or a
    /// proxy between them.
    #[must_use]
    pub fn tunnel_peer(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.lock().tunnels.get(address).map(|port| port.peer())
    }

    /// Whether `address` has an allocation on our own relay.
    #[must_use]
    pub fn is_channel_source(&self, address: SocketAddr) -> bool {
        self.lock().channel_sources.contains(&canonical(address))
    }

    /// A datagram came out of a tunnel.
    pub(crate) fn tunnel_input(&self, from: SocketAddr, port: &Arc<TunnelPort>, datagram: &[u8]) {
        let now = self.runtime.now();
        let mut state = self.lock();
        state.stats.received_tunnelled += 1;
        match state.judge(now, datagram, from) {
            Verdict::Quic { from, skip, len } => {
                if !port.take_credit() {
                    state.stats.dropped.tunnel_queue_full += 1;
                    return;
                }
                state.stats.received_quic += 1;
                state.stats.received_relayed += u64::from(skip != 0);
                let held = Held {
                    from,
                    ecn: None,
                    dst_ip: None,
                    bytes: datagram.get(skip..skip + len).unwrap_or_default().to_vec(),
                };
                state.tunnelled.push_back((Arc::clone(port), held));
                let reader = state.reader.take();
                drop(state);
                if let Some(reader) = reader {
                    reader.wake();
                }
            }
            Verdict::Other { from, skip, len } => {
                if state.other.len() >= self.other_queue {
                    state.stats.dropped.other_queue_full += 1;
                    return;
                }
                // One tunnel must not fill the queue for all.
                if !port.take_credit() {
                    state.stats.dropped.tunnel_queue_full += 1;
                    return;
                }
                state.stats.received_other += 1;
                let datagram = OtherDatagram {
                    from,
                    bytes: Bytes::copy_from_slice(
                        datagram.get(skip..skip + len).unwrap_or_default(),
                    ),
                    local: None,
                    arrived: now,
                };
                state.other.push_back((datagram, Some(Arc::clone(port))));
                drop(state);
                self.other_ready.notify_one();
            }
            Verdict::Drop => {}
        }
    }

    /// For our own relay: hands ChannelData from `address`, which has an allocation, to
    /// [`recv_other`](Self::recv_other).
    ///
    /// # Errors
    /// When there are [`MAX_CHANNEL_SOURCES`].
    pub fn add_channel_source(&self, address: SocketAddr) -> Result<(), TableFull> {
        let mut state = self.lock();
        if state.channel_sources.len() >= MAX_CHANNEL_SOURCES {
            return Err(TableFull);
        }
        state.channel_sources.insert(canonical(address));
        Ok(())
    }

    /// Takes [`add_channel_source`](Self::add_channel_source) back.
    pub fn remove_channel_source(&self, address: SocketAddr) {
        self.lock().channel_sources.remove(&canonical(address));
    }

    /// Sends a datagram that is not QUIC, at once or as soon as the socket takes it: a fresh one does not until the
    /// runtime has looked at it. A relay route's address works too.
    pub fn send_other(&self, to: SocketAddr, bytes: &[u8]) {
        if self.try_send_other(to, bytes).is_ok() {
            return;
        }
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING_OTHER {
            state.stats.dropped.send_blocked += 1;
            return;
        }
        state.waiting.push_back((to, bytes.to_vec()));
        if state.waiting.len() == 1
            && let Some(this) = self.this.upgrade()
        {
            drop(state);
            self.runtime.spawn_task(this.send_waiting()).detach();
        }
    }

    /// # Errors
    /// When the socket takes nothing now.
    fn try_send_other(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let sent = self.send(&Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: None,
        })?;
        if let Sent::Yes { .. } = sent {
            self.lock().stats.sent_other += 1;
        }
        Ok(())
    }

    async fn send_waiting(self: Arc<Self>) {
        let mut poller = Arc::clone(&self.inner).create_io_poller();
        loop {
            let writable = std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await;
            if let Err(error) = writable {
                tracing::debug!(%error, "the port does not say when it takes packets");
                self.lock().waiting.clear();
                return;
            }
            loop {
                let Some((to, bytes)) = self.lock().waiting.front().cloned() else {
                    return;
                };
                if self.try_send_other(to, &bytes).is_err() {
                    break;
                }
                let mut state = self.lock();
                state.waiting.pop_front();
                // Whoever sends next finds nobody waiting, and starts another task if need be.
                if state.waiting.is_empty() {
                    return;
                }
            }
        }
    }

    /// The next datagram that is not QUIC. One task should ask.
    pub async fn recv_other(&self) -> OtherDatagram {
        loop {
            if let Some((datagram, tunnel)) = self.lock().other.pop_front() {
                if let Some(tunnel) = tunnel {
                    tunnel.return_credit();
                }
                return datagram;
            }
            self.other_ready.notified().await;
        }
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> MuxStats {
        self.lock().stats
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere does not make tables and counters wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `address` as the inner socket wants it.
    fn outward(&self, address: SocketAddr) -> Option<SocketAddr> {
        let address = canonical(address);
        match (self.local, address) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) => Some(address),
            (SocketAddr::V4(_), SocketAddr::V6(_)) => None,
            (SocketAddr::V6(_), _any) => Some(mapped(address)),
        }
    }

    /// Sends `transmit`; the only error is that the socket is full.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<Sent> {
        let destination = canonical(transmit.destination);
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        let relayed = is_relay_address(destination);
        if !relayed {
            return self.send_as_is(transmit, destination);
        }
        let Some(route) = self.lock().routes.get(destination) else {
            self.lock().stats.dropped.no_route += 1;
            return Ok(Sent::Dropped);
        };
        let mut framed =
            Vec::with_capacity(transmit.contents.len() + CHANNEL_HEADER_LEN * segments(transmit));
        for data in transmit.contents.chunks(segment.max(1)) {
            // quinn's datagrams end at 65 527 bytes.
            let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
            framed.extend_from_slice(&channel_header(route.channel, len));
            framed.extend_from_slice(data);
        }
        let framed = Transmit {
            destination: route.server,
            ecn: transmit.ecn,
            contents: &framed,
            segment_size: transmit.segment_size.map(|size| size + CHANNEL_HEADER_LEN),
            // quinn cannot know which local address reaches the server.
            src_ip: None,
        };
        let sent = self.send_as_is(&framed, route.server)?;
        Ok(match sent {
            Sent::Yes { .. } => Sent::Yes { relayed },
            Sent::Dropped => Sent::Dropped,
        })
    }

    fn send_as_is(&self, transmit: &Transmit<'_>, destination: SocketAddr) -> io::Result<Sent> {
        let count = segments(transmit) as u64;
        if is_tunnel_address(destination) {
            return Ok(self.send_tunnelled(transmit, destination));
        }
        let side = self.lock().sides.get(destination).cloned();
        if let Some(side) = side {
            return Ok(self.send_aside(transmit, &side));
        }
        let Some(outward) = self.outward(destination) else {
            self.lock().stats.dropped.no_route += count;
            return Ok(Sent::Dropped);
        };
        let result = self.inner.try_send(&Transmit {
            destination: outward,
            ..transmit.clone()
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            result => Ok(self.count_sent(transmit, result)),
        }
    }
}

impl MuxSocket {
    /// Whoever waits until a packet can be sent waits for the port itself, so a side port that is full loses it.
    fn send_aside(&self, transmit: &Transmit<'_>, side: &Side) -> Sent {
        let destination = if side.is_v4 {
            side.remote
        } else {
            mapped(side.remote)
        };
        let result = side.socket.try_send(&Transmit {
            destination,
            // The port's own, which need not be this socket's.
            src_ip: None,
            ..transmit.clone()
        });
        self.count_sent(transmit, result)
    }

    /// Notes what became of a packet that was handed to the system.
    fn count_sent(&self, transmit: &Transmit<'_>, result: io::Result<()>) -> Sent {
        let count = segments(transmit) as u64;
        let mut state = self.lock();
        match result {
            Ok(()) => {
                state.stats.sent += count;
                state.stats.sent_bytes += transmit.contents.len() as u64;
                Sent::Yes { relayed: false }
            }
            Err(error) => {
                tracing::debug!(%error, "a datagram did not leave");
                state.stats.dropped.send_failed += count;
                Sent::Dropped
            }
        }
    }

    /// Reads from the side ports; what is not from whom it is for is dropped.
    fn poll_sides(
        &self,
        cx: &mut Context<'_>,
        sides: &[Arc<Side>],
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        for side in sides {
            let count = match side.socket.poll_recv(cx, bufs, metas) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a side port does not receive");
                    continue;
                }
                Poll::Pending => continue,
            };
            let now = self.runtime.now();
            let mut state = self.lock();
            let mut woke_other = false;
            for (buf, meta) in bufs.iter_mut().zip(metas.iter_mut()).take(count) {
                if canonical(meta.addr) == side.remote {
                    woke_other |= state.sort(now, self.other_queue, buf, meta);
                } else {
                    state.stats.dropped.not_admitted += 1;
                    meta.len = 0;
                }
            }
            drop(state);
            if woke_other {
                self.other_ready.notify_one();
            }
            return Poll::Ready(count);
        }
        Poll::Pending
    }

    fn send_tunnelled(&self, transmit: &Transmit<'_>, destination: SocketAddr) -> Sent {
        let count = segments(transmit) as u64;
        let mut state = self.lock();
        let Some(port) = state.tunnels.get(destination).cloned() else {
            state.stats.dropped.no_route += count;
            return Sent::Dropped;
        };
        state.stats.sent_tunnelled += count;
        drop(state);
        let now = self.runtime.now();
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        for datagram in transmit.contents.chunks(segment.max(1)) {
            port.push(now, datagram);
        }
        Sent::Yes { relayed: false }
    }
}

/// What became of a transmit.
#[derive(Debug, Clone, Copy)]
enum Sent {
    Yes { relayed: bool },
    Dropped,
}

impl State {
    fn judge(&mut self, now: Instant, datagram: &[u8], from: SocketAddr) -> Verdict {
        let whole = datagram.len();
        let is_server = self.routes.is_server(from);
        let is_client = self.channel_sources.contains(&from);
        let kind = match (classify(datagram, is_server || is_client), datagram) {
            (Kind::Quic, [0x40..=0x7f, ..]) if is_client && speaks_only_turn(from) => {
                Kind::ChannelData
            }
            (Kind::Quic, _) if speaks_only_turn(from) => {
                self.stats.dropped.not_admitted += 1;
                return Verdict::Drop;
            }
            (kind, _) => kind,
        };
        match kind {
            Kind::Stun => Verdict::Other {
                from,
                skip: 0,
                len: whole,
            },
            Kind::Quic => self.judge_quic(now, datagram, from, 0),
            Kind::ChannelData if is_client => Verdict::Other {
                from,
                skip: 0,
                len: whole,
            },
            Kind::ChannelData => {
                let Some((channel, len)) = parse_channel_data(datagram) else {
                    self.stats.dropped.malformed += 1;
                    return Verdict::Drop;
                };
                let Some(address) = self.routes.address(from, channel) else {
                    self.stats.dropped.unknown_channel += 1;
                    return Verdict::Drop;
                };
                // The length was checked against the datagram.
                let data = datagram
                    .get(CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + len)
                    .unwrap_or_default();
                match classify(data, false) {
                    Kind::Stun => Verdict::Other {
                        from: address,
                        skip: CHANNEL_HEADER_LEN,
                        len,
                    },
                    Kind::Quic | Kind::ChannelData => {
                        self.judge_quic(now, data, address, CHANNEL_HEADER_LEN)
                    }
                }
            }
        }
    }

    fn judge_quic(&mut self, now: Instant, data: &[u8], from: SocketAddr, skip: usize) -> Verdict {
        let Err(refusal) = self.filter.check(now, data, from) else {
            return Verdict::Quic {
                from,
                skip,
                len: data.len(),
            };
        };
        let dropped = &mut self.stats.dropped;
        match refusal {
            Refusal::NotAdmitted => dropped.not_admitted += 1,
            Refusal::ForeignVersion => dropped.foreign_version += 1,
            Refusal::ShortConnectionId => dropped.short_connection_id += 1,
            Refusal::TokenWithoutRetry => dropped.token_without_retry += 1,
            Refusal::Malformed => dropped.malformed += 1,
        }
        tracing::trace!(?refusal, "datagram kept from QUIC");
        Verdict::Drop
    }

    /// Sorts one received train in place; what quinn may have stays at the start of `buffer`.
    fn sort(
        &mut self,
        now: Instant,
        other_queue: usize,
        buffer: &mut [u8],
        meta: &mut RecvMeta,
    ) -> bool {
        let from = canonical(meta.addr);
        let total = meta.len.min(buffer.len());
        let stride = if meta.stride == 0 { total } else { meta.stride };
        let mut train = Train::default();
        let mut woke_other = false;
        let mut start = 0;
        // Nobody on the network may pose as a relay route or a tunnel.
        let is_posing = is_relay_address(from) || is_tunnel_address(from);
        while start < total {
            let end = (start + stride).min(total);
            let Some(datagram) = buffer.get(start..end) else {
                break;
            };
            self.stats.received += 1;
            self.stats.received_bytes += datagram.len() as u64;
            let verdict = if is_posing {
                self.stats.dropped.not_admitted += 1;
                Verdict::Drop
            } else {
                self.judge(now, datagram, from)
            };
            match verdict {
                Verdict::Quic {
                    from: source,
                    skip,
                    len,
                } => {
                    self.stats.received_quic += 1;
                    self.stats.received_relayed += u64::from(skip != 0);
                    if train.takes(source, len) {
                        buffer.copy_within(start + skip..start + skip + len, train.len);
                        train.len += len;
                    } else {
                        self.held.push_back(Held {
                            from: source,
                            ecn: meta.ecn,
                            dst_ip: meta.dst_ip,
                            bytes: datagram.get(skip..skip + len).unwrap_or_default().to_vec(),
                        });
                    }
                }
                Verdict::Other {
                    from: source,
                    skip,
                    len,
                } => {
                    if self.other.len() >= other_queue {
                        self.stats.dropped.other_queue_full += 1;
                    } else {
                        self.stats.received_other += 1;
                        woke_other = true;
                        let datagram = OtherDatagram {
                            from: source,
                            bytes: Bytes::copy_from_slice(
                                datagram.get(skip..skip + len).unwrap_or_default(),
                            ),
                            local: meta.dst_ip,
                            arrived: now,
                        };
                        self.other.push_back((datagram, None));
                    }
                }
                Verdict::Drop => {}
            }
            start = end;
        }
        // quinn skips an empty buffer.
        meta.len = train.len;
        meta.stride = train.stride;
        if let Some(source) = train.from {
            meta.addr = mapped(source);
        }
        woke_other
    }

    /// Hands held datagrams over, one per buffer; returns how many.
    fn release(&mut self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Some(held) = self.held.pop_front() else {
                break;
            };
            *meta = held.put(buf);
            count += 1;
        }
        count
    }

    /// The same with what came out of tunnels.
    fn release_tunnelled(&mut self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Some((port, held)) = self.tunnelled.pop_front() else {
                break;
            };
            port.return_credit();
            *meta = held.put(buf);
            count += 1;
        }
        count
    }
}

impl Held {
    /// Copies the datagram. Buffers are as long as any that are received.
    fn put(&self, buf: &mut [u8]) -> RecvMeta {
        let len = self.bytes.len().min(buf.len());
        if let (Some(to), Some(bytes)) = (buf.get_mut(..len), self.bytes.get(..len)) {
            to.copy_from_slice(bytes);
        }
        RecvMeta {
            addr: mapped(self.from),
            len,
            stride: len,
            ecn: self.ecn,
            dst_ip: self.dst_ip,
        }
    }
}

/// The datagrams that stay in a receive buffer: one source, equal sizes, only the last may be shorter.
#[derive(Debug, Default)]
struct Train {
    from: Option<SocketAddr>,
    stride: usize,
    len: usize,
    closed: bool,
}

impl Train {
    /// Whether a datagram of `len` bytes from `from` fits behind the ones taken; if so it is expected there.
    fn takes(&mut self, from: SocketAddr, len: usize) -> bool {
        if self.from.is_none() {
            self.from = Some(from);
            self.stride = len;
            self.closed = len == 0;
            return len > 0;
        }
        let fits = self.from == Some(from) && !self.closed && len > 0 && len <= self.stride;
        self.closed |= fits && len < self.stride;
        fits
    }
}

impl AsyncUdpSocket for MuxSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let count = segments(transmit) as u64;
        let sent = self.send(transmit)?;
        let mut state = self.lock();
        if let Sent::Yes { relayed } = sent {
            state.stats.sent_quic += count;
            state.stats.sent_relayed += if relayed { count } else { 0 };
        }
        let now = self.runtime.now();
        state
            .filter
            .note_sent(now, transmit.contents, canonical(transmit.destination));
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        {
            let mut state = self.lock();
            let mut released = state.release(bufs, metas);
            state.tunnels_turn = !state.tunnels_turn;
            if released == 0 && state.tunnels_turn {
                released = state.release_tunnelled(bufs, metas);
            }
            if released > 0 {
                return Poll::Ready(Ok(released));
            }
            let (sides, first) = state.sides.take_turn();
            drop(state);
            if first && let Poll::Ready(count) = self.poll_sides(cx, &sides, bufs, metas) {
                return Poll::Ready(Ok(count));
            }
        }
        let count = match self.inner.poll_recv(cx, bufs, metas) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                let mut state = self.lock();
                let released = state.release_tunnelled(bufs, metas);
                if released > 0 {
                    return Poll::Ready(Ok(released));
                }
                state.reader = Some(cx.waker().clone());
                // One that is added from now on wakes the reader.
                let sides = state.sides.all();
                drop(state);
                return self.poll_sides(cx, &sides, bufs, metas).map(Ok);
            }
        };
        let now = self.runtime.now();
        let mut state = self.lock();
        let mut woke_other = false;
        for (buf, meta) in bufs.iter_mut().zip(metas.iter_mut()).take(count) {
            woke_other |= state.sort(now, self.other_queue, buf, meta);
        }
        drop(state);
        if woke_other {
            self.other_ready.notify_one();
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(mapped(self.local))
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for MuxSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxSocket")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// `address` with an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) turned back into IPv4.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => v6
            .ip()
            .to_ipv4_mapped()
            .map_or(address, |ip| SocketAddr::from((ip, v6.port()))),
    }
}

/// `address` as quinn and dual-stack sockets see it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => {
            SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
        }
        SocketAddr::V6(_) => address,
    }
}

/// How many datagrams a transmit carries.
fn segments(transmit: &Transmit<'_>) -> usize {
    transmit
        .segment_size
        .map_or(1, |size| transmit.contents.len().div_ceil(size.max(1)))
}

#[cfg(test)]
mod tests;
