//! A home: a supernode where this device keeps itself registered, for as long as the [`Home`] lives.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ahoy_transport::{
    connection::Connection,
    identity::NodeId,
    runtime::{Runtime, RuntimeExt, Task, timeout},
};
use tokio::sync::{mpsc, watch};

use crate::{
    client::{NodeClient, Registered},
    supernode::protocol::{Push, Registration},
};

/// First wait after a failure. A supernode that restarts is back within a second or two.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait after failures. All waits are drawn between a half and the whole, so that the clients of a
/// supernode that comes back do not come back in one moment.
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// Registrations are renewed this often: credentials of the relay and nonces grow old, certificates too.
const RENEWAL: Duration = Duration::from_secs(15 * 60);
/// A connection attempt that takes longer is started anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a home does with a supernode: connect as this device, and be registered as it.
pub trait Registrant: Send + Sync + std::fmt::Debug + 'static {
    /// A connection that shows this device's certificate.
    fn connect(
        &self,
        node: NodeId,
        addr: SocketAddr,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Connection, ConnectFailure>> + Send + '_>>;

    /// What to register under a fresh epoch.
    fn registration(&self, epoch: u64) -> Registration;
}

/// Why no connection to a supernode came up, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectFailure(pub String);

/// What a home reports.
#[derive(Debug, Clone)]
pub enum HomeEvent {
    /// Registered, for the first time or again.
    Registered(Registered),
    /// Not registered any more, or not yet; the home keeps trying.
    Lost {
        /// Why, for a person.
        reason: String,
    },
    /// An envelope for this device.
    Incoming {
        /// For [`NodeClient::reply`].
        delivery: u64,
        /// As it was sealed.
        envelope: Vec<u8>,
    },
    /// An answer to a delivery of ours.
    ReplyTo {
        /// Which delivery.
        delivery: u64,
        /// As it was encrypted.
        payload: Vec<u8>,
    },
    /// The supernode stops soon.
    Draining,
}

/// How a home stands.
#[derive(Debug, Clone)]
pub enum HomeState {
    /// No registration.
    Down,
    /// Registered.
    Up(Arc<HomeUp>),
}

/// A registration that stands.
#[derive(Debug)]
pub struct HomeUp {
    /// For requests.
    pub client: NodeClient,
    /// The epoch that senders must know.
    pub epoch: u64,
    /// What the registration brought.
    pub registered: Registered,
}

/// Keeps the registration until dropped.
#[derive(Debug)]
pub struct Home {
    node: NodeId,
    addr: SocketAddr,
    state: watch::Receiver<HomeState>,
    _task: Task,
}

impl Home {
    /// Starts to register at `node`. `event` is called from the home's task and must not block; `false`
    /// from it ends the home.
    pub fn start(
        runtime: Arc<dyn Runtime>,
        node: NodeId,
        addr: SocketAddr,
        registrant: Arc<dyn Registrant>,
        events: mpsc::Sender<(NodeId, HomeEvent)>,
    ) -> Self {
        let (publish, state) = watch::channel(HomeState::Down);
        let keeper = Keeper {
            runtime: Arc::clone(&runtime),
            node,
            addr,
            registrant,
            events,
            publish,
        };
        Self {
            node,
            addr,
            state,
            _task: runtime.spawn_task(keeper.run()),
        }
    }

    /// The supernode.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it is reached.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The registration, if it stands.
    #[must_use]
    pub fn up(&self) -> Option<Arc<HomeUp>> {
        match &*self.state.borrow() {
            HomeState::Up(up) => Some(Arc::clone(up)),
            HomeState::Down => None,
        }
    }
}

struct Keeper {
    runtime: Arc<dyn Runtime>,
    node: NodeId,
    addr: SocketAddr,
    registrant: Arc<dyn Registrant>,
    events: mpsc::Sender<(NodeId, HomeEvent)>,
    publish: watch::Sender<HomeState>,
}

/// Nobody listens any more.
struct Abandoned;

impl Keeper {
    async fn run(self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let reason = match self.stay_registered(&mut backoff).await {
                Ok(reason) => reason,
                Err(Abandoned) => return,
            };
            self.publish.send_replace(HomeState::Down);
            if self.report(HomeEvent::Lost { reason }).await.is_err() {
                return;
            }
            self.runtime.sleep(self.jittered(backoff)).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// Between a half and the whole of `wait`.
    fn jittered(&self, wait: Duration) -> Duration {
        let [random] = self.runtime.random_array();
        wait / 2 + (wait / 2).mul_f64(f64::from(random) / 255.0)
    }

    async fn report(&self, event: HomeEvent) -> Result<(), Abandoned> {
        self.events
            .send((self.node, event))
            .await
            .map_err(|_closed| Abandoned)
    }

    /// Connects, registers, and serves until that is over; `Ok` says why.
    async fn stay_registered(&self, backoff: &mut Duration) -> Result<String, Abandoned> {
        let connecting = self.registrant.connect(self.node, self.addr);
        let connection = match timeout(&*self.runtime, CONNECT_TIMEOUT, connecting).await {
            Some(Ok(connection)) => connection,
            Some(Err(failure)) => return Ok(failure.to_string()),
            None => return Ok("the supernode does not answer".into()),
        };
        let client = NodeClient::new(Arc::clone(&self.runtime), connection);
        loop {
            let epoch = u64::from_be_bytes(self.runtime.random_array());
            let registered = match client.register(self.registrant.registration(epoch)).await {
                Ok(registered) => registered,
                Err(error) => {
                    client.close();
                    return Ok(error.to_string());
                }
            };
            *backoff = FIRST_BACKOFF;
            self.publish.send_replace(HomeState::Up(Arc::new(HomeUp {
                client: client.clone(),
                epoch,
                registered: registered.clone(),
            })));
            self.report(HomeEvent::Registered(registered)).await?;
            if let Some(reason) = self.serve(&client).await? {
                return Ok(reason);
            }
        }
    }

    /// Hands pushes on until the connection is over (`Some`: why) or the registration is due again (`None`).
    async fn serve(&self, client: &NodeClient) -> Result<Option<String>, Abandoned> {
        let renewal = self.runtime.sleep(self.jittered(RENEWAL * 2));
        tokio::pin!(renewal);
        loop {
            let push = tokio::select! {
                biased;
                push = client.next_push() => push,
                () = self.events.closed() => return Err(Abandoned),
                () = &mut renewal => return Ok(None),
            };
            let event = match push {
                Ok(Push::Incoming { delivery, envelope }) => {
                    HomeEvent::Incoming { delivery, envelope }
                }
                Ok(Push::ReplyTo { delivery, payload }) => HomeEvent::ReplyTo { delivery, payload },
                Ok(Push::Draining) => HomeEvent::Draining,
                Err(lost) => return Ok(Some(lost.to_string())),
            };
            self.report(event).await?;
        }
    }
}
