//! The relay over sockets: a thin shell around [`Relay`].

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, Weak},
    task::{Poll, ready},
    time::Instant,
};

use ahoy_transport::runtime::{Runtime, RuntimeExt, Task};
use quinn::AsyncUdpSocket;
use tokio::sync::{Notify, mpsc};

use super::{
    AllocationId, Forward, Relay, RelayConfig, RelayEvent, Transmit, Via,
    counters::{RelayCounters, Traffic},
    credentials::{CredentialError, CredentialOwner, TurnCredentials},
    policy::PeerRefusal,
};
use crate::{
    port::{
        Inbound, PortHub, RawPort, SubscribeError, Subscription, TopicLease, into_mut, lock,
        poll_train, send_datagram, writable,
    },
    stun::is_channel_data,
};

/// Ports of relayed addresses: the dynamic range, as RFC 8656 section 7.2 recommends.
pub const RELAY_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Ports tried for one allocation. At half a full range, all of them are taken once in 2^32.
const PORT_ATTEMPTS: usize = 32;

/// Bytes of one receive on a relayed socket: the longest train that the system hands over (GRO).
const RECEIVE_BUFFER_BYTES: usize = 1 << 16;

/// How the relay's sockets are bound.
#[derive(Debug, Clone)]
pub struct RelayServerConfig {
    /// The relay itself.
    pub relay: RelayConfig,
    /// Local address of IPv4 allocations; unspecified for all interfaces.
    pub bind_v4: Ipv4Addr,
    /// Local address of IPv6 allocations.
    pub bind_v6: Ipv6Addr,
    /// Ports of allocations; `0..=0` lets the system choose.
    pub ports: RangeInclusive<u16>,
    /// The second port, where clients find out how their NAT behaves; 0 lets the system choose, none does without.
    pub second_port: Option<u16>,
}

impl RelayServerConfig {
    /// Binds to all interfaces, in [`RELAY_PORTS`].
    #[must_use]
    pub fn new(relay: RelayConfig) -> Self {
        Self {
            relay,
            bind_v4: Ipv4Addr::UNSPECIFIED,
            bind_v6: Ipv6Addr::UNSPECIFIED,
            ports: RELAY_PORTS,
            second_port: Some(0),
        }
    }
}

/// A running relay. It ends when this is dropped.
#[derive(Debug)]
pub struct RelayServer {
    shared: Arc<Shared>,
    _port_reader: Task,
    _timer: Task,
    _second: Option<Task>,
    _lease: TopicLease,
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    port: Arc<dyn RawPort>,
    second: Option<Arc<dyn AsyncUdpSocket>>,
    config: RelayServerConfig,
    state: Mutex<State>,
    /// Rung when the earliest deadline moved forward.
    deadline_moved: Notify,
}

struct State {
    relay: Relay,
    sockets: HashMap<AllocationId, RelayedSocket>,
    /// One for all relayed sockets: it would otherwise be the largest part of each allocation.
    buffer: Vec<u8>,
    armed: Option<Instant>,
}

/// The socket of one allocation with the task that reads it.
struct RelayedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    _task: Task,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl RelayServer {
    /// Serves STUN and TURN on the port behind `hub`.
    ///
    /// # Errors
    /// When a relay already does.
    pub fn start(
        runtime: Arc<dyn Runtime>,
        hub: &Arc<PortHub>,
        config: RelayServerConfig,
    ) -> Result<Self, SubscribeError> {
        let Subscription { lease, packets } = hub.subscribe_relay()?;
        let relay = Relay::new(runtime.now(), config.relay.clone(), runtime.random_array());
        let shared = Arc::new(Shared {
            port: Arc::clone(hub.port()),
            second: open_second(&*runtime, hub.port().local_addr().ip(), &config),
            config,
            state: Mutex::new(State {
                relay,
                sockets: HashMap::new(),
                buffer: vec![0; RECEIVE_BUFFER_BYTES],
                armed: None,
            }),
            deadline_moved: Notify::new(),
            runtime,
        });
        let port_reader = shared
            .runtime
            .spawn_task(read_port(Arc::downgrade(&shared), packets));
        let timer = shared.runtime.spawn_task(keep_time(Arc::clone(&shared)));
        let second = shared.second.clone().map(|socket| {
            let serving = run_second(Arc::downgrade(&shared), socket);
            shared.runtime.spawn_task(serving)
        });
        Ok(Self {
            _second: second,
            shared,
            _port_reader: port_reader,
            _timer: timer,
            _lease: lease,
        })
    }

    /// Draws credentials for a client that was seen at `observed`.
    ///
    /// # Errors
    /// When the owner's quota or the table is full.
    pub fn issue_credentials(
        &self,
        owner: CredentialOwner,
        observed: IpAddr,
    ) -> Result<TurnCredentials, CredentialError> {
        let now = self.shared.runtime.now();
        lock(&self.shared.state)
            .relay
            .issue_credentials(now, owner, observed)
    }

    /// See [`Relay::add_user`].
    pub fn add_user(&self, username: &str, password: &str) {
        lock(&self.shared.state).relay.add_user(username, password);
    }

    /// Allows relaying towards a supernode that proved its key there, until `until`. Returns false
    /// when the list is full.
    #[must_use]
    pub fn allow_node(&self, ip: IpAddr, until: Instant) -> bool {
        let now = self.shared.runtime.now();
        lock(&self.shared.state)
            .relay
            .policy_mut()
            .allow_node(now, ip, until)
    }

    /// Whether an address could be allowed at all.
    ///
    /// # Errors
    /// Why nobody can vouch for it.
    pub fn may_allow(&self, ip: IpAddr) -> Result<(), PeerRefusal> {
        lock(&self.shared.state).relay.policy_mut().may_allow(ip)
    }

    /// Allows relaying towards an address that the other party of a call registered, until `until`. Returns
    /// false when the list is full.
    #[must_use]
    pub fn allow_address(&self, addr: SocketAddr, until: Instant) -> bool {
        let now = self.shared.runtime.now();
        lock(&self.shared.state)
            .relay
            .policy_mut()
            .allow_address(now, addr, until)
    }

    /// While draining, new allocations are refused and running ones go on.
    pub fn set_draining(&self, draining: bool) {
        lock(&self.shared.state).relay.set_draining(draining);
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> RelayCounters {
        lock(&self.shared.state).relay.counters().clone()
    }

    /// Traffic of the live allocation with this relayed address.
    #[must_use]
    pub fn traffic(&self, relayed: SocketAddr) -> Option<Traffic> {
        lock(&self.shared.state).relay.traffic(relayed)
    }
}

/// Feeds the relay from the port. It holds the relay weakly, so that dropping the server ends everything.
async fn read_port(shared: Weak<Shared>, mut packets: mpsc::Receiver<Inbound>) {
    while let Some(inbound) = packets.recv().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = shared.runtime.now();
        let mut guard = lock(&shared.state);
        let state = &mut *guard;
        if is_channel_data(&inbound.bytes) {
            let mut packet = into_mut(inbound.bytes);
            if let Some(Forward { via, to, contents }) =
                state.relay.forward(now, inbound.from, &mut packet)
            {
                let sent = send(&shared, &state.sockets, via, to, contents);
                if !sent {
                    state.relay.note_send_failure();
                }
            }
        } else {
            state
                .relay
                .handle_input(now, inbound.from, inbound.local, &inbound.bytes);
        }
        drain(&shared, state, now);
    }
}

/// The second port, at the address of the first. A relay works without it.
fn open_second(
    runtime: &dyn Runtime,
    ip: IpAddr,
    config: &RelayServerConfig,
) -> Option<Arc<dyn AsyncUdpSocket>> {
    let port = config.second_port?;
    runtime
        .bind_udp(SocketAddr::new(ip, port))
        .inspect_err(|error| tracing::warn!(%error, port, "no second port for looking at NATs"))
        .ok()
}

/// Serves the second port as soon as it takes packets.
async fn run_second(shared: Weak<Shared>, socket: Arc<dyn AsyncUdpSocket>) {
    let usable = async {
        writable(&socket).await?;
        Ok::<_, io::Error>(socket.local_addr()?.port())
    };
    match (usable.await, shared.upgrade()) {
        (Ok(port), Some(shared)) => lock(&shared.state).relay.set_second_port(Some(port)),
        (Err(error), _) => {
            tracing::warn!(%error, "the second port is of no use");
            return;
        }
        (Ok(_), None) => return,
    }
    loop {
        let running = std::future::poll_fn(|cx| {
            let Some(shared) = shared.upgrade() else {
                return Poll::Ready(false);
            };
            let mut guard = lock(&shared.state);
            let State { relay, buffer, .. } = &mut *guard;
            let now = shared.runtime.now();
            let received = ready!(poll_train(&*socket, cx, buffer, |from, local, packet| {
                relay.handle_second_input(now, from, local, packet);
            }));
            let failed = received.is_err();
            if let Err(error) = received {
                tracing::warn!(%error, "the second port failed");
                relay.set_second_port(None);
            }
            drain(&shared, &mut guard, now);
            Poll::Ready(!failed)
        })
        .await;
        if !running {
            return;
        }
    }
}

/// Completes the allocation once its socket takes packets, then feeds the relay from it.
async fn run_relayed(
    shared: Weak<Shared>,
    id: AllocationId,
    socket: Arc<dyn AsyncUdpSocket>,
    port: u16,
) {
    let usable = writable(&socket).await;
    {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = shared.runtime.now();
        let mut state = lock(&shared.state);
        state
            .relay
            .handle_relay_opened(now, id, usable.ok().map(|()| port));
        drain(&shared, &mut state, now);
    }
    loop {
        let running = std::future::poll_fn(|cx| {
            let Some(shared) = shared.upgrade() else {
                return Poll::Ready(false);
            };
            let mut guard = lock(&shared.state);
            let State { relay, buffer, .. } = &mut *guard;
            let now = shared.runtime.now();
            let received = ready!(poll_train(&*socket, cx, buffer, |from, _local, payload| {
                relay.handle_relayed_input(now, id, from, payload);
            }));
            if let Err(error) = received {
                tracing::warn!(%error, "a relayed socket failed");
                relay.handle_relay_failed(id);
            }
            drain(&shared, &mut guard, now);
            Poll::Ready(true)
        })
        .await;
        if !running {
            return;
        }
    }
}

/// Ends expired allocations.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let deadline = {
            let mut state = lock(&shared.state);
            state.armed = state.relay.poll_timeout();
            state.armed
        };
        let moved = shared.deadline_moved.notified();
        match deadline {
            None => moved.await,
            Some(deadline) => {
                tokio::select! {
                    biased;
                    () = moved => {}
                    () = shared.runtime.sleep_until(deadline) => {
                        let now = shared.runtime.now();
                        let mut state = lock(&shared.state);
                        state.relay.handle_timeout(now);
                        drain(&shared, &mut state, now);
                    }
                }
            }
        }
    }
}

fn send(
    shared: &Shared,
    sockets: &HashMap<AllocationId, RelayedSocket>,
    via: Via,
    to: SocketAddr,
    contents: &[u8],
) -> bool {
    match via {
        Via::Port(local) => {
            shared.port.send(to, local, contents);
            true
        }
        Via::SecondPort(local) => shared
            .second
            .as_ref()
            .is_some_and(|socket| send_datagram(&**socket, to, local, contents)),
        Via::Relayed(id) => sockets
            .get(&id)
            .is_some_and(|relayed| send_datagram(&*relayed.socket, to, None, contents)),
    }
}

/// Carries out everything the relay wants, until only its deadline is left.
fn drain(shared: &Arc<Shared>, state: &mut State, now: Instant) {
    loop {
        while let Some(Transmit { via, to, contents }) = state.relay.poll_transmit() {
            if !send(shared, &state.sockets, via, to, &contents) {
                state.relay.note_send_failure();
            }
            state.relay.recycle(contents);
        }
        match state.relay.poll_event() {
            None => break,
            Some(RelayEvent::OpenRelay {
                allocation,
                ipv6,
                even,
            }) => match open(shared, ipv6, even) {
                Ok((socket, port)) => {
                    let task = shared.runtime.spawn_task(run_relayed(
                        Arc::downgrade(shared),
                        allocation,
                        Arc::clone(&socket),
                        port,
                    ));
                    state.sockets.insert(
                        allocation,
                        RelayedSocket {
                            socket,
                            _task: task,
                        },
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "no socket for an allocation");
                    state.relay.handle_relay_opened(now, allocation, None);
                }
            },
            Some(RelayEvent::CloseRelay { allocation }) => {
                state.sockets.remove(&allocation);
            }
            Some(RelayEvent::ClientAdded { client }) => shared.port.add_channel_source(client),
            Some(RelayEvent::ClientRemoved { client }) => shared.port.remove_channel_source(client),
        }
    }
    let earlier = match (state.relay.poll_timeout(), state.armed) {
        (Some(wanted), Some(armed)) => wanted < armed,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if earlier {
        shared.deadline_moved.notify_one();
    }
}

fn open(shared: &Shared, ipv6: bool, even: bool) -> io::Result<(Arc<dyn AsyncUdpSocket>, u16)> {
    let config = &shared.config;
    let ip = if ipv6 {
        IpAddr::V6(config.bind_v6)
    } else {
        IpAddr::V4(config.bind_v4)
    };
    let (first, last) = (*config.ports.start(), *config.ports.end());
    let mut last_error = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_ATTEMPTS {
        // Random, so that an outsider cannot guess which ports are in use (RFC 8656 section 21.1.4).
        let random = u32::from_be_bytes(shared.runtime.random_array());
        let span = u32::from(last.saturating_sub(first)) + 1;
        let port = first.saturating_add(u16::try_from(random % span).unwrap_or(0));
        match shared.runtime.bind_udp(SocketAddr::new(ip, port)) {
            Ok(socket) => {
                let port = socket.local_addr()?.port();
                if !even || port % 2 == 0 {
                    return Ok((socket, port));
                }
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}
