//! A TURN allocation on the shared port: a thin shell around [`TurnClient`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ahoy_transport::{
    runtime::{Runtime, RuntimeExt, Task},
    tunnel::Tunnel,
};
use tokio::sync::{Notify, mpsc};

use super::{TurnClient, TurnConfig, TurnError, TurnEvent};
use crate::port::{Inbound, PortHub, RawPort, Subscription, TopicLease, lock};

/// A channel to a peer through a relay: what the port needs to frame and unframe data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayBinding {
    /// The TURN server.
    pub server: SocketAddr,
    /// The channel number, with a low byte under 0x80.
    pub channel: u16,
    /// The peer at the other end of the relay.
    pub peer: SocketAddr,
}

/// An allocation that is kept alive as long as this is. Dropping it tells the server once; use
/// [`Self::close`] to make sure that it heard.
#[derive(Debug)]
pub struct TurnAllocation {
    shared: Arc<Shared>,
    relayed: SocketAddr,
    mapped: SocketAddr,
    /// What the server is reached through; open as long as the allocation.
    tunnel: Option<Arc<Tunnel>>,
    _driver: Task,
    _lease: TopicLease,
}

#[derive(Debug)]
struct Shared {
    runtime: Arc<dyn Runtime>,
    port: Arc<dyn RawPort>,
    server: SocketAddr,
    state: Mutex<State>,
    /// Something in `state` changed: waiters look again.
    changed: Notify,
    /// The deadline may have moved: the driver looks again.
    rearm: Notify,
}

#[derive(Debug)]
struct State {
    client: TurnClient,
    allocated: Option<(SocketAddr, SocketAddr)>,
    bindings: BTreeMap<SocketAddr, Result<u16, TurnError>>,
    ended: Option<TurnError>,
}

impl TurnAllocation {
    /// Allocates on `config.server` through the port behind `hub`.
    ///
    /// # Errors
    /// When the port has an allocation there already, or the server refuses or does not answer.
    pub async fn allocate(
        runtime: Arc<dyn Runtime>,
        hub: &Arc<PortHub>,
        config: TurnConfig,
    ) -> Result<Self, TurnError> {
        let Subscription { lease, packets } = hub.subscribe_server(config.server)?;
        hub.port().ready().await;
        let shared = Arc::new(Shared {
            port: Arc::clone(hub.port()),
            server: config.server,
            state: Mutex::new(State {
                client: TurnClient::new(runtime.now(), config, runtime.random_array()),
                allocated: None,
                bindings: BTreeMap::new(),
                ended: None,
            }),
            changed: Notify::new(),
            rearm: Notify::new(),
            runtime,
        });
        shared.drain(&mut lock(&shared.state));
        let driver = shared
            .runtime
            .spawn_task(drive(Arc::clone(&shared), packets));
        let (relayed, mapped) = shared
            .wait(|state| state.allocated.map(Ok).or(state.ended.map(Err)))
            .await?;
        Ok(Self {
            shared,
            relayed,
            mapped,
            tunnel: None,
            _driver: driver,
            _lease: lease,
        })
    }

    /// Keeps `tunnel`, which the server is reached through, open as long as the allocation; they end together.
    #[must_use]
    pub fn through(mut self, tunnel: Option<Arc<Tunnel>>) -> Self {
        self.tunnel = tunnel;
        self
    }

    /// What peers send to.
    #[must_use]
    pub fn relayed_addr(&self) -> SocketAddr {
        self.relayed
    }

    /// This port as the server sees it.
    #[must_use]
    pub fn mapped_addr(&self) -> SocketAddr {
        self.mapped
    }

    /// The TURN server.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.shared.server
    }

    /// Installs a permission and a channel for `peer` and keeps them alive.
    ///
    /// # Errors
    /// When the server refuses the peer (403: nobody vouched for it) or the allocation ended.
    pub async fn bind_peer(&self, peer: SocketAddr) -> Result<RelayBinding, TurnError> {
        {
            let mut state = lock(&self.shared.state);
            state.bindings.remove(&peer);
            state.client.bind_peer(self.shared.runtime.now(), peer)?;
            self.shared.drain(&mut state);
        }
        let channel = self
            .shared
            .wait(|state| state.bindings.get(&peer).copied().or(state.ended.map(Err)))
            .await?;
        Ok(RelayBinding {
            server: self.shared.server,
            channel,
            peer,
        })
    }

    /// Stops keeping the channel to `peer` alive.
    pub fn release_peer(&self, peer: SocketAddr) {
        let mut state = lock(&self.shared.state);
        state.client.release_peer(peer);
        state.bindings.remove(&peer);
    }

    /// Whether `peer` is still bound; the error why not.
    #[must_use]
    pub fn binding(&self, peer: SocketAddr) -> Option<Result<u16, TurnError>> {
        lock(&self.shared.state).bindings.get(&peer).copied()
    }

    /// Asks the server at once whether the allocation is still there; [`Self::ended`] tells if not. For when the
    /// server may have restarted, or this machine has slept: otherwise only the next refresh notices.
    pub fn probe(&self) {
        let mut state = lock(&self.shared.state);
        state.client.probe(self.shared.runtime.now());
        self.shared.drain(&mut state);
    }

    /// Whether the allocation is lost.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let closed = self
            .tunnel
            .as_ref()
            .is_some_and(|tunnel| tunnel.has_ended());
        closed || lock(&self.shared.state).ended.is_some()
    }

    /// Waits until the allocation is lost, and says why.
    pub async fn ended(&self) -> TurnError {
        let closed = async {
            match &self.tunnel {
                Some(tunnel) => tunnel.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            error = self.shared.wait(|state| state.ended) => error,
            () = closed => TurnError::Timeout,
        }
    }

    /// Gives the allocation back and waits until the server knows, or does not answer.
    pub async fn close(self) {
        {
            let mut state = lock(&self.shared.state);
            state.client.close(self.shared.runtime.now());
            self.shared.drain(&mut state);
        }
        self.ended().await;
    }
}

impl Drop for TurnAllocation {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.client.close(self.shared.runtime.now());
        self.shared.drain(&mut state);
    }
}

impl Shared {
    /// Carries out what the client wants, until only its deadline is left.
    fn drain(&self, state: &mut State) {
        while let Some(packet) = state.client.poll_transmit() {
            self.port.send(self.server, None, &packet);
        }
        while let Some(event) = state.client.poll_event() {
            match event {
                TurnEvent::Allocated { relayed, mapped } => {
                    state.allocated = Some((relayed, mapped))
                }
                TurnEvent::Bound { peer, channel } => {
                    state.bindings.insert(peer, Ok(channel));
                }
                TurnEvent::PeerFailed { peer, error } => {
                    tracing::debug!(%error, "the relay does not serve a peer");
                    state.bindings.insert(peer, Err(error));
                }
                TurnEvent::Ended(error) => {
                    tracing::debug!(%error, "the allocation ended");
                    state.ended = Some(error);
                }
            }
            self.changed.notify_waiters();
        }
        self.rearm.notify_one();
    }

    /// Waits until `look` finds what it looks for.
    async fn wait<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        loop {
            // Made before looking: it hears of every change after this line.
            let changed = self.changed.notified();
            if let Some(found) = look(&lock(&self.state)) {
                return found;
            }
            changed.await;
        }
    }
}

async fn drive(shared: Arc<Shared>, mut packets: mpsc::Receiver<Inbound>) {
    loop {
        let deadline = lock(&shared.state).client.poll_timeout();
        let timer = async {
            match deadline {
                Some(deadline) => shared.runtime.sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            inbound = packets.recv() => {
                let Some(inbound) = inbound else { return };
                let mut state = lock(&shared.state);
                state.client.handle_input(shared.runtime.now(), inbound.from, &inbound.bytes);
                shared.drain(&mut state);
            }
            () = shared.rearm.notified() => {}
            () = timer => {
                let mut state = lock(&shared.state);
                state.client.handle_timeout(shared.runtime.now());
                shared.drain(&mut state);
            }
        }
    }
}
