//! The supernode on the network: accepted connections, their requests, and what is pushed to them.
//!
//! Everything is decided in [`Registry`] and in the relay; this only moves messages. It ends when dropped.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ahoy_transport::{
    connection::{CloseCode, Connection, MessageReceiver, MessageSender},
    endpoint::NodeListener,
    runtime::{Runtime, RuntimeExt, Task, timeout},
};
use tokio::sync::mpsc;

use super::{
    protocol::{MAX_MESSAGE, Push, Refusal, RelayGrant, Request, Response},
    registry::{Answer, ConnectionKey, Limits, Registry, RegistryCounters},
    relay::{
        counters::RelayCounters, credentials::CredentialOwner, server::RelayServer, source_key,
    },
};

/// How long a request may take to arrive whole: a slow link, not a stalled one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pushes that wait for one connection. A device gets a handful per call.
const PUSH_QUEUE: usize = 32;
/// Most connections at once, registered or not.
const MAX_CONNECTIONS: usize = 120_000;

/// A running rendezvous. It ends when this is dropped.
#[derive(Debug)]
pub struct Supernode {
    shared: Arc<Shared>,
    _acceptor: Task,
}

/// What has been counted since the start, and what is there now.
#[derive(Debug, Clone)]
pub struct SupernodeStatus {
    /// Connections open now.
    pub connections: usize,
    /// Devices registered now.
    pub registered: usize,
    /// Counted by the registry.
    pub registry: RegistryCounters,
    /// Pushes that were dropped because the connection did not take them in time.
    pub pushes_dropped: u64,
    /// Counted by the relay, if there is one.
    pub relay: Option<RelayCounters>,
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    relay: Option<Arc<RelayServer>>,
    /// The relay's address as clients reach it; unspecified when it is wherever they reach us.
    relay_addr: SocketAddr,
    state: Mutex<State>,
    pushes_dropped: AtomicU64,
}

struct State {
    registry: Registry,
    pushes: HashMap<ConnectionKey, Outbox>,
    next_key: u64,
}

struct Outbox {
    connection: Connection,
    queue: mpsc::Sender<Push>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supernode").finish_non_exhaustive()
    }
}

impl Supernode {
    /// Serves the connections that `incoming` accepts. `relay` is handed out to clients; it listens on the
    /// same port.
    #[must_use]
    pub fn start(
        runtime: Arc<dyn Runtime>,
        incoming: NodeListener,
        limits: Limits,
        relay: Option<Arc<RelayServer>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            relay,
            relay_addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            state: Mutex::new(State {
                registry: Registry::new(limits, u64::from_be_bytes(runtime.random_array())),
                pushes: HashMap::new(),
                next_key: 0,
            }),
            pushes_dropped: AtomicU64::new(0),
            runtime,
        });
        let acceptor = shared
            .runtime
            .spawn_task(accept(Arc::clone(&shared), incoming));
        Self {
            shared,
            _acceptor: acceptor,
        }
    }

    /// Counters and sizes.
    #[must_use]
    pub fn status(&self) -> SupernodeStatus {
        let state = self.shared.lock();
        SupernodeStatus {
            connections: state.registry.connections(),
            registered: state.registry.registered(),
            registry: state.registry.counters(),
            pushes_dropped: self.shared.pushes_dropped.load(Ordering::Relaxed),
            relay: self.shared.relay.as_ref().map(|relay| relay.counters()),
        }
    }

    /// Tells everybody to register elsewhere; running relays go on.
    pub fn drain(&self) {
        if let Some(relay) = &self.shared.relay {
            relay.set_draining(true);
        }
        let state = self.shared.lock();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "everybody is told the same at once"
        )]
        for outbox in state.pushes.values() {
            if outbox.queue.try_send(Push::Draining).is_err() {
                self.shared.pushes_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Supernode {
    fn drop(&mut self) {
        // Tasks of connections hold the state; closing the connections ends them.
        let mut state = self.shared.lock();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "everybody is told the same at once"
        )]
        for (_key, outbox) in state.pushes.drain() {
            outbox
                .connection
                .close(CloseCode::Draining, "the supernode stops");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request. Nothing here waits, so the answer and the push are one step.
    fn answer(&self, key: ConnectionKey, connection: &Connection, bytes: &[u8]) -> Response {
        let Ok(request) = Request::decode(bytes) else {
            return Response::Refused(Refusal::Malformed);
        };
        let now = self.runtime.now();
        let mut state = self.lock();
        let (answer, routed) = match state.registry.handle_request(now, key, request) {
            Ok(done) => done,
            Err(refusal) => return Response::Refused(refusal),
        };
        if let Some(routed) = routed {
            let queued = state
                .pushes
                .get(&routed.to)
                .is_some_and(|outbox| outbox.queue.try_send(routed.push).is_ok());
            if !queued {
                self.pushes_dropped.fetch_add(1, Ordering::Relaxed);
                return Response::Refused(Refusal::Full);
            }
        }
        drop(state);
        match answer {
            Answer::Respond(response) => response,
            Answer::Registered => Response::Registered {
                observed: connection.remote_address(),
                now_millis: self.runtime.unix_millis(),
                relay: self.grant(connection).ok(),
            },
            Answer::RelayGrant => match self.grant(connection) {
                Ok(grant) => Response::Relay(grant),
                Err(refusal) => Response::Refused(refusal),
            },
        }
    }

    fn grant(&self, connection: &Connection) -> Result<RelayGrant, Refusal> {
        let relay = self.relay.as_ref().ok_or(Refusal::NoRelay)?;
        let observed = connection.remote_address().ip();
        let owner = match connection.peer().device {
            Some(device) => CredentialOwner::Device(device.0),
            None => CredentialOwner::Anonymous(source_key(observed)),
        };
        let credentials = relay
            .issue_credentials(owner, observed)
            .map_err(|_quota_or_table| Refusal::Full)?;
        Ok(RelayGrant {
            server: self.relay_addr,
            username: credentials.username,
            password: credentials.password,
            realm: credentials.realm,
            nonce: credentials.nonce,
            lifetime_secs: u32::try_from(credentials.lifetime.as_secs()).unwrap_or(u32::MAX),
        })
    }
}

async fn accept(shared: Arc<Shared>, mut incoming: NodeListener) {
    while let Some(connection) = incoming.accept().await {
        let peer = connection.peer();
        let (queue, pushes) = mpsc::channel(PUSH_QUEUE);
        let key = {
            let mut state = shared.lock();
            if state.pushes.len() >= MAX_CONNECTIONS {
                drop(state);
                connection.close(CloseCode::Overloaded, "full");
                continue;
            }
            let key = ConnectionKey(state.next_key);
            state.next_key += 1;
            let device = peer.user.zip(peer.device);
            state
                .registry
                .handle_connected(shared.runtime.now(), key, device);
            let outbox = Outbox {
                connection: connection.clone(),
                queue,
            };
            state.pushes.insert(key, outbox);
            key
        };
        tracing::debug!(key = key.0, device = ?peer.device, "connected");
        let serving = serve(Arc::clone(&shared), key, connection, pushes);
        shared.runtime.spawn_task(serving).detach();
    }
}

/// One connection, to its end.
async fn serve(
    shared: Arc<Shared>,
    key: ConnectionKey,
    connection: Connection,
    mut pushes: mpsc::Receiver<Push>,
) {
    let reason = loop {
        tokio::select! {
            biased;
            Some(push) = pushes.recv() => {
                if let Err(error) = send_push(&connection, &push).await {
                    tracing::debug!(key = key.0, %error, "a push is lost");
                }
            }
            stream = connection.accept_bi() => match stream {
                Ok((sender, receiver)) => {
                    handle_stream(&shared, key, &connection, sender, receiver).await;
                }
                Err(reason) => break reason,
            },
        }
    };
    tracing::debug!(key = key.0, %reason, "gone");
    let mut state = shared.lock();
    state.registry.handle_closed(key);
    state.pushes.remove(&key);
}

async fn send_push(
    connection: &Connection,
    push: &Push,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = connection.open_uni().await?;
    stream.send(&push.encode()).await?;
    stream.finish();
    Ok(())
}

/// A client that stalls its own request stalls only itself: requests of one connection are taken in turn.
async fn handle_stream(
    shared: &Shared,
    key: ConnectionKey,
    connection: &Connection,
    mut sender: MessageSender,
    mut receiver: MessageReceiver,
) {
    let received = timeout(
        &*shared.runtime,
        REQUEST_TIMEOUT,
        receiver.recv(MAX_MESSAGE),
    )
    .await;
    let Some(Ok(Some(request))) = received else {
        tracing::debug!(key = key.0, "a request did not arrive whole");
        return;
    };
    let response = shared.answer(key, connection, &request);
    if let Err(error) = sender.send(&response.encode()).await {
        tracing::debug!(key = key.0, %error, "a response is lost");
    }
    sender.finish();
}
