//! An ICE agent on the shared port: a thin shell around any [`IceAgent`].

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ahoy_transport::runtime::{Runtime, RuntimeExt, Task};
use tokio::sync::{Notify, mpsc};

use super::{IceAgent, IceEvent};
use crate::{
    candidate::Candidate,
    port::{Inbound, PortHub, RawPort, SubscribeError, Subscription, TopicLease, lock},
};

/// A running agent. It ends when this is dropped; the pair it found stays what it is.
#[derive(Debug)]
pub struct IceRunner {
    shared: Arc<Shared>,
    _driver: Task,
    _lease: TopicLease,
}

#[derive(Debug)]
struct Shared {
    runtime: Arc<dyn Runtime>,
    port: Arc<dyn RawPort>,
    state: Mutex<State>,
    /// An event came in.
    event: Notify,
    /// The deadline may have moved: the driver looks again.
    rearm: Notify,
}

#[derive(Debug)]
struct State {
    agent: Box<dyn IceAgent>,
    /// At most [`MAX_EVENTS`]: while nobody reads, the newest takes the place of the one before, so that the
    /// selection and the present state stay.
    events: VecDeque<IceEvent>,
    spent: u64,
    flows: BTreeSet<SocketAddr>,
}

/// What finding a pair cost the network and the routers on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IceCost {
    /// STUN packets sent: checks, answers and keep-alives.
    pub packets: u64,
    /// Remote addresses that they went to, so mappings that a router may have made.
    pub flows: u64,
}

/// Events that wait for [`IceRunner::event`].
const MAX_EVENTS: usize = 16;

impl IceRunner {
    /// Runs `agent`, whose local username fragment is `ufrag`, on the port behind `hub`.
    ///
    /// # Errors
    /// When another agent has this fragment, or the port has too many users.
    pub fn start(
        runtime: Arc<dyn Runtime>,
        hub: &Arc<PortHub>,
        ufrag: &str,
        agent: Box<dyn IceAgent>,
    ) -> Result<Self, SubscribeError> {
        let Subscription { lease, packets } = hub.subscribe_agent(ufrag)?;
        let shared = Arc::new(Shared {
            port: Arc::clone(hub.port()),
            state: Mutex::new(State {
                agent,
                events: VecDeque::new(),
                spent: 0,
                flows: BTreeSet::new(),
            }),
            event: Notify::new(),
            rearm: Notify::new(),
            runtime,
        });
        shared.drain(&mut lock(&shared.state));
        let driver = shared
            .runtime
            .spawn_task(drive(Arc::clone(&shared), packets));
        Ok(Self {
            shared,
            _driver: driver,
            _lease: lease,
        })
    }

    /// Adds an address of ours.
    pub fn add_local(&self, candidate: Candidate) {
        let mut state = lock(&self.shared.state);
        state.agent.add_local(self.shared.runtime.now(), candidate);
        self.shared.drain(&mut state);
    }

    /// Adds an address of the peer's.
    pub fn add_remote(&self, candidate: Candidate) {
        let mut state = lock(&self.shared.state);
        state.agent.add_remote(self.shared.runtime.now(), candidate);
        self.shared.drain(&mut state);
    }

    /// What was spent so far.
    #[must_use]
    pub fn cost(&self) -> IceCost {
        let state = lock(&self.shared.state);
        IceCost {
            packets: state.spent,
            flows: state.flows.len() as u64,
        }
    }

    /// The next event. One task should ask.
    pub async fn event(&self) -> IceEvent {
        loop {
            let changed = self.shared.event.notified();
            if let Some(event) = lock(&self.shared.state).events.pop_front() {
                return event;
            }
            changed.await;
        }
    }
}

impl Shared {
    /// Carries out what the agent wants, until only its deadline is left.
    fn drain(&self, state: &mut State) {
        while let Some(packet) = state.agent.poll_transmit() {
            state.spent += 1;
            // The agent bounds its remote candidates.
            state.flows.insert(packet.to);
            self.port
                .send(packet.to, Some(packet.local.ip()), &packet.contents);
        }
        while let Some(event) = state.agent.poll_event() {
            tracing::debug!(?event, "ICE");
            if state.events.len() >= MAX_EVENTS {
                state.events.pop_back();
            }
            state.events.push_back(event);
            self.event.notify_one();
        }
        self.rearm.notify_one();
    }
}

async fn drive(shared: Arc<Shared>, mut packets: mpsc::Receiver<Inbound>) {
    loop {
        let deadline = lock(&shared.state).agent.poll_timeout();
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
                let now = shared.runtime.now();
                state.agent.handle_input(now, inbound.from, inbound.local, &inbound.bytes);
                shared.drain(&mut state);
            }
            () = shared.rearm.notified() => {}
            () = timer => {
                let mut state = lock(&shared.state);
                state.agent.handle_timeout(shared.runtime.now());
                shared.drain(&mut state);
            }
        }
    }
}
