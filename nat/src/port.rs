//! The one UDP port, as this crate sees it: STUN, TURN and ChannelData, never QUIC.
//!
//! [`RawPort`] is what the shells need of the port. [`PortHub`] is its only reader and hands each packet to
//! whoever it is for: the relay, the client of one TURN server, an ICE agent.

mod shared;

pub use shared::SharedPort;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
};

use ahoy_transport::runtime::{Runtime, RuntimeExt, Task};
use bytes::{Bytes, BytesMut};
use quinn::{
    AsyncUdpSocket,
    udp::{RecvMeta, Transmit},
};
use tokio::sync::mpsc;

use crate::stun::{Kind, classify};

/// Packets that wait for a TURN client or an ICE agent: both get a handful per second, and retransmit.
const CLIENT_QUEUE: usize = 64;

/// Packets that wait for the relay: 20 ms at 100 000 packets per second.
const RELAY_QUEUE: usize = 2048;

/// ICE agents and TURN servers on one port at once: calls and homes of one person, with slack.
const MAX_SUBSCRIPTIONS: usize = 64;

/// Longest receive: what the system may hand over in one train.
const RECEIVE_BUFFER_BYTES: usize = 1 << 16;

/// A received packet.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Who sent it.
    pub from: SocketAddr,
    /// Which of our addresses it reached, if the system tells.
    pub local: Option<IpAddr>,
    /// One datagram.
    pub bytes: Bytes,
}

/// Sending and receiving what is not QUIC on the one port.
pub trait RawPort: Send + Sync + fmt::Debug + 'static {
    /// Sends a datagram, or drops it when the socket's buffer is full. `local` picks the source address on
    /// hosts with several, where the port can.
    fn send(&self, to: SocketAddr, local: Option<IpAddr>, bytes: &[u8]);

    /// Waits until a new port takes packets: until the runtime has looked at a socket once, it says that it
    /// would block, and the first packet would be lost and cost a retransmission timeout.
    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// The next packet. Only one task asks. It never ends: a port that fails has nothing to say any more.
    fn recv(&self) -> Pin<Box<dyn Future<Output = Inbound> + Send + '_>>;

    /// ChannelData from `client` belongs to the relay from now on.
    fn add_channel_source(&self, client: SocketAddr);

    /// Takes [`Self::add_channel_source`] back.
    fn remove_channel_source(&self, client: SocketAddr);

    /// Address and port of the socket.
    fn local_addr(&self) -> SocketAddr;
}

/// A [`RawPort`] that has a whole socket to itself: a relay without QUIC, tools and tests.
#[derive(Debug)]
pub struct UdpPort {
    socket: Arc<dyn AsyncUdpSocket>,
    local_addr: SocketAddr,
    receive: Mutex<Receive>,
}

#[derive(Debug)]
struct Receive {
    buffer: Vec<u8>,
    ready: VecDeque<Inbound>,
}

impl UdpPort {
    /// Takes the socket over.
    ///
    /// # Errors
    /// When the socket does not know its own address or broke already.
    pub async fn new(socket: Arc<dyn AsyncUdpSocket>) -> io::Result<Self> {
        writable(&socket).await?;
        Ok(Self {
            local_addr: socket.local_addr()?,
            socket,
            receive: Mutex::new(Receive {
                buffer: vec![0; RECEIVE_BUFFER_BYTES],
                ready: VecDeque::new(),
            }),
        })
    }
}

impl RawPort for UdpPort {
    fn send(&self, to: SocketAddr, local: Option<IpAddr>, bytes: &[u8]) {
        send_datagram(&*self.socket, to, local, bytes);
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        // `new` has waited.
        Box::pin(std::future::ready(()))
    }

    fn recv(&self) -> Pin<Box<dyn Future<Output = Inbound> + Send + '_>> {
        Box::pin(std::future::poll_fn(|cx| {
            let mut receive = lock(&self.receive);
            let Receive { buffer, ready } = &mut *receive;
            loop {
                if let Some(inbound) = ready.pop_front() {
                    return Poll::Ready(inbound);
                }
                let polled = poll_train(&*self.socket, cx, buffer, |from, local, bytes| {
                    ready.push_back(Inbound {
                        from,
                        local,
                        bytes: Bytes::copy_from_slice(bytes),
                    });
                });
                match polled {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        tracing::error!(%error, "the UDP port does not receive any more");
                        return Poll::Pending;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        }))
    }

    fn add_channel_source(&self, _client: SocketAddr) {}

    fn remove_channel_source(&self, _client: SocketAddr) {}

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// Waits until a new socket takes packets. Until the runtime has looked at it once, a socket says that it
/// would block, and its first packet would be lost.
pub(crate) async fn writable(socket: &Arc<dyn AsyncUdpSocket>) -> io::Result<()> {
    let mut poller = Arc::clone(socket).create_io_poller();
    std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await
}

/// Sends one datagram. Returns false when it was dropped: relayed media is late when it has to wait.
pub(crate) fn send_datagram(
    socket: &dyn AsyncUdpSocket,
    to: SocketAddr,
    local: Option<IpAddr>,
    bytes: &[u8],
) -> bool {
    let transmit = Transmit {
        destination: to,
        ecn: None,
        contents: bytes,
        segment_size: None,
        src_ip: local,
    };
    match socket.try_send(&transmit) {
        Ok(()) => true,
        Err(error) => {
            tracing::trace!(%error, "a datagram was not sent");
            false
        }
    }
}

/// Receives one train and calls `each` for every datagram in it.
pub(crate) fn poll_train(
    socket: &dyn AsyncUdpSocket,
    cx: &mut std::task::Context<'_>,
    buffer: &mut [u8],
    mut each: impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
) -> Poll<io::Result<()>> {
    loop {
        let mut meta = [RecvMeta::default()];
        let received = socket.poll_recv(cx, &mut [IoSliceMut::new(buffer)], &mut meta);
        match received {
            Poll::Pending => return Poll::Pending,
            // Windows reports that an earlier datagram was refused; receiving goes on.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(count)) => {
                let [meta] = meta;
                if count > 0 {
                    let train = buffer.get(..meta.len).unwrap_or_default();
                    for datagram in train.chunks(meta.stride.max(1)) {
                        each(meta.addr, meta.dst_ip, datagram);
                    }
                }
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Why a subscription was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// Somebody else gets these packets already. For a TURN server: one port has one allocation there.
    #[error("these packets already go elsewhere")]
    Taken,
    /// The port serves as many agents and servers as it may.
    #[error("the port has too many users")]
    Full,
}

/// Which packets a subscription gets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Topic {
    Relay,
    Server(SocketAddr),
    Agent(String),
    Transaction([u8; 12]),
    Prober,
}

/// First bytes of a prober's transaction ids, random so that nobody else can answer.
pub(crate) type ProbeTag = [u8; 8];

#[derive(Debug, Default)]
struct Subscribers {
    relay: Option<mpsc::Sender<Inbound>>,
    servers: HashMap<SocketAddr, mpsc::Sender<Inbound>>,
    /// By local ufrag.
    agents: BTreeMap<String, mpsc::Sender<Inbound>>,
    /// By STUN transaction id.
    transactions: BTreeMap<[u8; 12], mpsc::Sender<Inbound>>,
    prober: Option<(ProbeTag, mpsc::Sender<Inbound>)>,
    counters: HubCounters,
}

/// What the hub did with packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Packets handed on.
    pub delivered: u64,
    /// Packets that nobody wanted.
    pub unclaimed: u64,
    /// Packets whose reader was too slow.
    pub overflowed: u64,
}

/// Reads the port and hands each packet to its owner.
#[derive(Debug)]
pub struct PortHub {
    port: Arc<dyn RawPort>,
    subscribers: Mutex<Subscribers>,
    _reader: Task,
}

impl PortHub {
    /// Becomes the only reader of `port`.
    #[must_use]
    pub fn start(runtime: &dyn Runtime, port: Arc<dyn RawPort>) -> Arc<Self> {
        Arc::new_cyclic(|hub: &Weak<Self>| {
            let (hub, reading) = (hub.clone(), Arc::clone(&port));
            Self {
                port,
                subscribers: Mutex::default(),
                _reader: runtime.spawn_task(async move {
                    loop {
                        let inbound = reading.recv().await;
                        let Some(hub) = hub.upgrade() else { return };
                        lock(&hub.subscribers).dispatch(inbound);
                    }
                }),
            }
        })
    }

    /// The port, for sending.
    #[must_use]
    pub fn port(&self) -> &Arc<dyn RawPort> {
        &self.port
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> HubCounters {
        lock(&self.subscribers).counters
    }

    /// Requests, Send indications and ChannelData: the packets of a STUN and TURN server.
    ///
    /// # Errors
    /// When somebody else has them, or the port has too many users.
    pub fn subscribe_relay(self: &Arc<Self>) -> Result<Subscription, SubscribeError> {
        let mut subscribers = lock(&self.subscribers);
        if subscribers.relay.is_some() {
            return Err(SubscribeError::Taken);
        }
        let (sender, packets) = mpsc::channel(RELAY_QUEUE);
        subscribers.relay = Some(sender);
        Ok(Subscription {
            lease: TopicLease {
                topic: Topic::Relay,
                hub: Arc::clone(self),
            },
            packets,
        })
    }

    /// Responses and indications from one STUN or TURN server.
    ///
    /// # Errors
    /// When somebody else has them, or the port has too many users.
    pub fn subscribe_server(
        self: &Arc<Self>,
        server: SocketAddr,
    ) -> Result<Subscription, SubscribeError> {
        let mut subscribers = lock(&self.subscribers);
        if subscribers.servers.contains_key(&server) {
            return Err(SubscribeError::Taken);
        }
        if subscribers.servers.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::Full);
        }
        let (sender, packets) = mpsc::channel(CLIENT_QUEUE);
        subscribers.servers.insert(server, sender);
        Ok(Subscription {
            lease: TopicLease {
                topic: Topic::Server(server),
                hub: Arc::clone(self),
            },
            packets,
        })
    }

    /// Connectivity checks for the agent with this local ufrag, and every response that no server sent.
    ///
    /// # Errors
    /// When somebody else has them, or the port has too many users.
    pub fn subscribe_agent(self: &Arc<Self>, ufrag: &str) -> Result<Subscription, SubscribeError> {
        let mut subscribers = lock(&self.subscribers);
        if subscribers.agents.contains_key(ufrag) {
            return Err(SubscribeError::Taken);
        }
        if subscribers.agents.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::Full);
        }
        let (sender, packets) = mpsc::channel(CLIENT_QUEUE);
        subscribers.agents.insert(ufrag.to_owned(), sender);
        Ok(Subscription {
            lease: TopicLease {
                topic: Topic::Agent(ufrag.to_owned()),
                hub: Arc::clone(self),
            },
            packets,
        })
    }

    /// The response to one request, from whomever it comes.
    ///
    /// # Errors
    /// When somebody else waits for it, or the port has too many users.
    pub fn subscribe_transaction(
        self: &Arc<Self>,
        id: [u8; 12],
    ) -> Result<Subscription, SubscribeError> {
        let mut subscribers = lock(&self.subscribers);
        if subscribers.transactions.contains_key(&id) {
            return Err(SubscribeError::Taken);
        }
        if subscribers.transactions.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::Full);
        }
        let (sender, packets) = mpsc::channel(CLIENT_QUEUE);
        subscribers.transactions.insert(id, sender);
        Ok(Subscription {
            lease: TopicLease {
                topic: Topic::Transaction(id),
                hub: Arc::clone(self),
            },
            packets,
        })
    }

    /// Messages whose transaction id begins with `tag`, requests that came back to us included.
    ///
    /// # Errors
    /// When somebody probes already.
    pub(crate) fn subscribe_prober(
        self: &Arc<Self>,
        tag: ProbeTag,
    ) -> Result<Subscription, SubscribeError> {
        let mut subscribers = lock(&self.subscribers);
        if subscribers.prober.is_some() {
            return Err(SubscribeError::Taken);
        }
        let (sender, packets) = mpsc::channel(CLIENT_QUEUE);
        subscribers.prober = Some((tag, sender));
        Ok(Subscription {
            lease: TopicLease {
                topic: Topic::Prober,
                hub: Arc::clone(self),
            },
            packets,
        })
    }
}

/// The transaction id of a STUN message (RFC 8489 section 5).
fn transaction(packet: &[u8]) -> Option<&[u8; 12]> {
    packet.get(8..20)?.try_into().ok()
}

impl Subscribers {
    /// Whoever probes, if the packet is part of that. The transaction id begins at byte 8.
    fn prober(&self, inbound: &Inbound) -> Option<&mpsc::Sender<Inbound>> {
        let (tag, prober) = self.prober.as_ref()?;
        let is_stun = inbound.bytes.first().is_some_and(|byte| byte & 0xc0 == 0);
        (is_stun && inbound.bytes.get(8..16) == Some(&tag[..])).then_some(prober)
    }

    fn dispatch(&mut self, inbound: Inbound) {
        if let Some(prober) = self.prober(&inbound) {
            let taken = prober.try_send(inbound).is_ok();
            self.counters.note(taken);
            return;
        }
        let Self {
            relay,
            servers,
            agents,
            transactions,
            prober: _,
            counters,
        } = self;
        let kind = classify(&inbound.bytes);
        let agent = match kind {
            Kind::Request { ufrag: Some(ufrag) } => agents.get(ufrag),
            Kind::Request { ufrag: None }
            | Kind::Response
            | Kind::Indication
            | Kind::ChannelData
            | Kind::Other => None,
        };
        let target = match kind {
            // Checks for an agent that is gone go to nobody: a STUN server must not answer them.
            Kind::Request { ufrag: Some(_) } => agent,
            Kind::Request { ufrag: None } | Kind::ChannelData => relay.as_ref(),
            Kind::Indication => servers.get(&inbound.from).or(relay.as_ref()),
            Kind::Response => match transaction(&inbound.bytes)
                .and_then(|id| transactions.get(id))
                .or_else(|| servers.get(&inbound.from))
            {
                Some(asked) => Some(asked),
                None => {
                    // An agent knows its own transactions; several calls at once are rare.
                    for agent in agents.values() {
                        counters.note(agent.try_send(inbound.clone()).is_ok());
                    }
                    return;
                }
            },
            Kind::Other => None,
        };
        match target {
            Some(target) => counters.note(target.try_send(inbound).is_ok()),
            None => counters.unclaimed += 1,
        }
    }
}

impl HubCounters {
    fn note(&mut self, delivered: bool) {
        if delivered {
            self.delivered += 1;
        } else {
            self.overflowed += 1;
        }
    }
}

/// Packets of one topic. They come as long as the lease lives.
#[derive(Debug)]
pub struct Subscription {
    /// Gives the topic back when dropped, at once, wherever the receiver is.
    pub lease: TopicLease,
    /// The packets; it ends with the lease.
    pub packets: mpsc::Receiver<Inbound>,
}

/// The right to a topic's packets. A task that is told to end drops what it holds only when it runs next, so
/// the lease belongs to the handle and the receiver to the task.
#[derive(Debug)]
pub struct TopicLease {
    topic: Topic,
    hub: Arc<PortHub>,
}

impl Drop for TopicLease {
    fn drop(&mut self) {
        let mut subscribers = lock(&self.hub.subscribers);
        match &self.topic {
            Topic::Relay => subscribers.relay = None,
            Topic::Server(server) => drop(subscribers.servers.remove(server)),
            Topic::Agent(ufrag) => drop(subscribers.agents.remove(ufrag)),
            Topic::Transaction(id) => drop(subscribers.transactions.remove(id)),
            Topic::Prober => subscribers.prober = None,
        }
    }
}

/// The packet as bytes that may be changed, without a copy if nobody else holds it.
pub(crate) fn into_mut(bytes: Bytes) -> BytesMut {
    bytes
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

/// Locks, also after a panic elsewhere: the tables stay usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
