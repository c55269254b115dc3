//! A supernode's TCP port: tunnels, and TURN over TCP for standard clients (RFC 8656 section 2.1).
//!
//! Strangers connect here, so everything is bounded: connections, in all and by source; the time that the first bytes
//! may take, and any packet that has begun; idle time; and what waits for a client that does not read
//! ([`queue`](super::queue)).

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    driver::{Carrier, End, Limits},
    frame::{Framing, PREFACE},
    queue::QueuePolicy,
};
use crate::{
    mux::{MuxSocket, TunnelEnd},
    runtime::{Runtime, RuntimeExt, Task, TcpListener, TcpStream, timeout},
};

/// A client sends its first eight bytes with or right after the handshake; half a round trip to the moon and back.
pub const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
/// A packet that has begun is whole within this: a slow line, not a slow attack.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// A tunnel or TURN client that says nothing for so long is gone: QUIC's keep-alives come every 15 s at least.
pub const IDLE: Duration = Duration::from_secs(60);
/// A TURN client that has an allocation may be silent for the longest lifetime that one has without a refresh, and a
/// little more (RFC 8656 section 3.2).
const IDLE_WITH_ALLOCATION: Duration = Duration::from_secs(660);
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What strangers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections at once.
    pub connections: usize,
    /// Of those, from one source: an IPv4 address, or a /64 of IPv6.
    pub per_source: usize,
    /// How long the first bytes may take.
    pub preface: Duration,
    /// How long a packet that has begun may take.
    pub frame: Duration,
    /// How long a connection may be silent.
    pub idle: Duration,
}

impl Default for TcpLimits {
    /// 4096 connections hold at most 80 KiB each; a company of 256 people may sit behind one address.
    fn default() -> Self {
        Self {
            connections: 4096,
            per_source: 256,
            preface: PREFACE_DEADLINE,
            frame: FRAME_DEADLINE,
            idle: IDLE,
        }
    }
}

/// What has been counted since the start, and what is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Of those, open now.
    pub live: u64,
    /// Tunnels that were opened.
    pub tunnels: u64,
    /// TURN clients without a tunnel.
    pub turn_clients: u64,
    /// Connections refused because there were too many.
    pub refused_full: u64,
    /// Connections refused because their source had too many.
    pub refused_source: u64,
    /// Connections ended because their first bytes did not come in time.
    pub no_preface: u64,
    /// Connections ended because they spoke neither protocol.
    pub malformed: u64,
    /// Connections ended because they were idle.
    pub idle: u64,
    /// Connections ended because a packet of theirs did not end.
    pub slow: u64,
    /// Connections ended because they did not read.
    pub stalled: u64,
    /// Failed accepts.
    pub accept_failed: u64,
    /// Packets written to connections that have ended.
    pub packets_sent: u64,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// Packets for those that waited too long and were dropped.
    pub packets_expired: u64,
    /// Packets for those that found no room and were dropped.
    pub packets_overflowed: u64,
}

/// A TCP port that serves. It and all its connections end when this is dropped.
#[derive(Debug)]
pub struct TunnelServer {
    local: SocketAddr,
    shared: Arc<Shared>,
    _accept: Task,
}

#[derive(Debug)]
struct Shared {
    runtime: Arc<dyn Runtime>,
    mux: Arc<MuxSocket>,
    limits: TcpLimits,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: HashMap<u64, Task>,
    by_source: HashMap<IpAddr, usize>,
    counters: TcpCounters,
}

impl TunnelServer {
    /// Listens on `addr` for the port behind `mux`; port 0 takes a free one.
    ///
    /// # Errors
    /// Whatever the operating system answers: the address is taken, or not ours.
    pub fn start(
        runtime: Arc<dyn Runtime>,
        mux: Arc<MuxSocket>,
        addr: SocketAddr,
        limits: TcpLimits,
    ) -> io::Result<Self> {
        let listener = runtime.listen_tcp(addr)?;
        let local = listener.local_addr();
        let shared = Arc::new(Shared {
            runtime: Arc::clone(&runtime),
            mux,
            limits,
            next: AtomicU64::new(0),
            state: Mutex::default(),
        });
        let accept = runtime.spawn_task(accept(Arc::clone(&shared), listener));
        Ok(Self {
            local,
            shared,
            _accept: accept,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Counters so far.
    #[must_use]
    pub fn counters(&self) -> TcpCounters {
        let state = self.shared.lock();
        TcpCounters {
            live: state.connections.len() as u64,
            ..state.counters
        }
    }
}

impl Drop for TunnelServer {
    fn drop(&mut self) {
        // Connections hold what they share; their tasks would otherwise live on with it.
        let ended = std::mem::take(&mut self.shared.lock().connections);
        drop(ended);
    }
}

/// Whom a connection counts for.
fn source(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

async fn accept(shared: Arc<Shared>, listener: Arc<dyn TcpListener>) {
    loop {
        let accepted = poll_fn(|cx| listener.poll_accept(cx)).await;
        match accepted {
            Ok(stream) => shared.admit(stream),
            Err(error) => {
                tracing::warn!(%error, "a TCP connection cannot be accepted");
                shared.lock().counters.accept_failed += 1;
                shared.runtime.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the connection, or closes it at once.
    fn admit(self: &Arc<Self>, stream: Arc<dyn TcpStream>) {
        let source = source(stream.peer_addr());
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.connections.len() >= self.limits.connections {
            state.counters.refused_full += 1;
            return;
        }
        let of_source = state.by_source.entry(source).or_default();
        if *of_source >= self.limits.per_source {
            state.counters.refused_source += 1;
            return;
        }
        *of_source += 1;
        state.counters.accepted += 1;
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let guard = Admitted {
            shared: Arc::downgrade(self),
            key,
            source,
        };
        // It starts when this lock is free: its end finds it in the table.
        let shared = Arc::clone(self);
        let task = self.runtime.spawn_task(async move {
            let _admitted = guard;
            shared.serve(stream).await;
        });
        state.connections.insert(key, task);
    }

    async fn serve(&self, stream: Arc<dyn TcpStream>) {
        let opening = open(&*stream);
        let opened = timeout(&*self.runtime, self.limits.preface, opening).await;
        let (framing, early) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(_closed)) => return,
            None => {
                self.lock().counters.no_preface += 1;
                return;
            }
        };
        {
            let mut state = self.lock();
            match framing {
                Framing::Tunnel => state.counters.tunnels += 1,
                Framing::Turn => state.counters.turn_clients += 1,
            }
        }
        let end = match framing {
            Framing::Tunnel => TunnelEnd::Supernode,
            Framing::Turn => TunnelEnd::Turn,
        };
        let policy = QueuePolicy::default();
        let added = self.mux.add_tunnel(end, stream.peer_addr(), policy);
        let Ok((addr, port)) = added else {
            self.lock().counters.refused_full += 1;
            return;
        };
        let carrier = Carrier {
            runtime: Arc::clone(&self.runtime),
            mux: Arc::clone(&self.mux),
            stream,
            framing,
            addr,
            port,
            limits: Limits {
                idle: self.limits.idle,
                frame: self.limits.frame,
                idle_with_allocation: IDLE_WITH_ALLOCATION.max(self.limits.idle),
            },
        };
        let _place = Place(&carrier);
        let end = carrier.run(&[], &early).await;
        tracing::debug!(%end, ?framing, "a TCP client is gone");
        let sent = carrier.port.stats();
        let mut state = self.lock();
        let counters = &mut state.counters;
        match end {
            End::Closed | End::Io(_) => {}
            End::Frame(_) => counters.malformed += 1,
            End::Idle => counters.idle += 1,
            End::SlowFrame => counters.slow += 1,
            End::Stalled => counters.stalled += 1,
        }
        counters.packets_sent += sent.sent;
        counters.bytes_sent += sent.sent_bytes;
        counters.packets_expired += sent.expired;
        counters.packets_overflowed += sent.overflowed;
    }
}

/// Takes a tunnel out of the mux, also when its task is ended from outside.
struct Place<'a>(&'a Carrier);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.mux.remove_tunnel(self.0.addr);
    }
}

/// A connection's place in the table.
struct Admitted {
    shared: Weak<Shared>,
    key: u64,
    source: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut state = shared.lock();
        if let Some(count) = state.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                state.by_source.remove(&self.source);
            }
        }
        let task = state.connections.remove(&self.key);
        drop(state);
        drop(task);
    }
}

/// Reads until the protocol is known; returns what belongs to it already.
async fn open(stream: &dyn TcpStream) -> io::Result<(Framing, Vec<u8>)> {
    let mut begun = Vec::new();
    let mut buffer = [0; 256];
    loop {
        let count = poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        begun.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let is_tunnel = begun.iter().zip(&PREFACE).all(|(a, b)| a == b);
        if !is_tunnel {
            return Ok((Framing::Turn, begun));
        }
        if begun.len() >= PREFACE.len() {
            return Ok((Framing::Tunnel, begun.split_off(PREFACE.len())));
        }
    }
}
