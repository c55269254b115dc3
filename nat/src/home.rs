//! A home: a supernode where this device keeps itself registered, for as long as the [`Home`] lives.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_transport::{
    connection::ConnectionLost,
    identity::NodeId,
    runtime::{Runtime, RuntimeExt, Sleep, Task, timeout},
};
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    client::{NodeClient, Registered, RequestError},
    dial::{Dialled, NodePlace, Ways},
    supernode::{
        mailbox::MailKey,
        protocol::{Push, Refusal, Registration},
    },
};

/// First wait after a failure. A supernode that restarts is back within a second or two.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait after failures. All waits are drawn between a half and the whole, so that the clients of a
/// supernode that comes back do not come back in one moment.
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// When the supernode itself ended the connection, it ended all of them at that moment: the first wait is drawn
/// from nothing to this. What makes clients notice a crash is their own keep-alive, at a different moment each.
const CLOSED_SPREAD: Duration = Duration::from_secs(3);
/// A registration that held this long was a success: the next failure starts with the first wait again.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Registrations are renewed after this at the latest, and after half of it at the earliest: credentials of the
/// relay live two hours, nonces one, and a certificate is renewed meanwhile.
const RENEWAL: Duration = Duration::from_secs(30 * 60);
/// A connection attempt that takes longer is started anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After a change of networks, a supernode that does not answer over the old connection for this long is connected
/// to anew: a round trip across the world, and one packet lost on it.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);
/// While a home is reached through a tunnel, UDP is tried again after this at the latest, and after half of it at the
/// earliest: nobody who talks waits long for the better way, and a network that blocks UDP sees two packets a minute.
const UDP_PROBE: Duration = Duration::from_secs(30);
/// The first time sooner: UDP may only have been slower than TCP.
const FIRST_UDP_PROBE: Duration = Duration::from_secs(4);
/// A registration that was moved to a better connection: what was sent over the old one is answered there, so it stays
/// for as long as a call rings.
const MOVED_FROM_KEPT: Duration = Duration::from_secs(120);

/// Future of [`Registrant::dial`].
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Dialled, ConnectFailure>> + Send + 'a>>;

/// What a home does with a supernode: connect as this device, and be registered as it.
pub trait Registrant: Send + Sync + std::fmt::Debug + 'static {
    /// A connection that shows this device's certificate.
    fn dial<'a>(&'a self, node: NodeId, place: &'a NodePlace, ways: Ways) -> Dialling<'a>;

    /// What to register under a fresh epoch.
    fn registration(&self, epoch: u64) -> Registration;

    /// Under which key contacts' letters are known there; `None`: no box is wanted.
    fn mail_key(&self, node: NodeId) -> Option<MailKey> {
        let _no_home_differs = node;
        None
    }
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
        /// The supernode serves a private network that this device is not let into.
        closed: Option<Refusal>,
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
    /// Letters wait in the box of this device: for [`NodeClient::fetch`].
    Mail,
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

/// How a home behaves. The switches are there to show what they are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HomePolicy {
    /// Try again after a failure; without it a home is lost for ever with its first connection.
    pub retry: bool,
    /// Draw waits at random; without it the homes of a supernode that comes back arrive in one moment.
    pub jitter: bool,
    /// Try UDP again while a tunnel is used; without it a home once reached by TCP stays there.
    pub upgrade: bool,
}

impl Default for HomePolicy {
    fn default() -> Self {
        Self {
            retry: true,
            jitter: true,
            upgrade: true,
        }
    }
}

/// Keeps the registration until dropped.
#[derive(Debug)]
pub struct Home {
    node: NodeId,
    addr: SocketAddr,
    state: watch::Receiver<HomeState>,
    kicked: Arc<Notify>,
    _task: Task,
}

impl Home {
    /// Starts to register at `node`, by UDP. The home waits where `events` is full, and ends when nobody takes them
    /// any more.
    pub fn start(
        runtime: Arc<dyn Runtime>,
        node: NodeId,
        addr: SocketAddr,
        registrant: Arc<dyn Registrant>,
        events: mpsc::Sender<(NodeId, HomeEvent)>,
    ) -> Self {
        Self::start_with(
            HomePolicy::default(),
            runtime,
            node,
            addr,
            registrant,
            events,
        )
    }

    /// As [`Self::start`], under another policy.
    pub fn start_with(
        policy: HomePolicy,
        runtime: Arc<dyn Runtime>,
        node: NodeId,
        addr: SocketAddr,
        registrant: Arc<dyn Registrant>,
        events: mpsc::Sender<(NodeId, HomeEvent)>,
    ) -> Self {
        let place = NodePlace::by_udp(addr);
        Self::start_at(policy, runtime, node, place, Ways::Udp, registrant, events)
    }

    /// As [`Self::start_with`], by all `ways` that may be tried.
    pub fn start_at(
        policy: HomePolicy,
        runtime: Arc<dyn Runtime>,
        node: NodeId,
        place: NodePlace,
        ways: Ways,
        registrant: Arc<dyn Registrant>,
        events: mpsc::Sender<(NodeId, HomeEvent)>,
    ) -> Self {
        let (publish, state) = watch::channel(HomeState::Down);
        let kicked = Arc::new(Notify::new());
        let addr = place.udp;
        let keeper = Keeper {
            policy,
            runtime: Arc::clone(&runtime),
            node,
            place,
            ways,
            registrant,
            events,
            publish,
            kicked: Arc::clone(&kicked),
        };
        Self {
            node,
            addr,
            state,
            kicked,
            _task: runtime.spawn_task(keeper.run()),
        }
    }

    /// The supernode.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it is reached by UDP.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How it stands, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<HomeState> {
        self.state.clone()
    }

    /// The registration, if it stands.
    #[must_use]
    pub fn up(&self) -> Option<Arc<HomeUp>> {
        match &*self.state.borrow() {
            HomeState::Up(up) => Some(Arc::clone(up)),
            HomeState::Down => None,
        }
    }

    /// The networks changed: registers again at once, over the connection there is if that still carries, else over
    /// a new one; whoever waits for the next attempt waits no longer.
    pub fn kick(&self) {
        self.kicked.notify_one();
    }

    /// Waits for the registration. It never ends for a home that was given up.
    pub async fn wait_up(&self) -> Arc<HomeUp> {
        let mut state = self.state.clone();
        loop {
            if let HomeState::Up(up) = &*state.borrow_and_update() {
                return Arc::clone(up);
            }
            if state.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }
}

struct Keeper {
    policy: HomePolicy,
    runtime: Arc<dyn Runtime>,
    node: NodeId,
    place: NodePlace,
    ways: Ways,
    registrant: Arc<dyn Registrant>,
    events: mpsc::Sender<(NodeId, HomeEvent)>,
    publish: watch::Sender<HomeState>,
    kicked: Arc<Notify>,
}

/// Nobody listens any more.
struct Abandoned;

/// How a time at a supernode ended.
struct Ended {
    reason: String,
    /// When the registration began, if it came to that.
    since: Option<Instant>,
    /// The supernode ended it, and so everybody else's.
    by_supernode: bool,
    /// The networks changed, so the next attempt has other chances and need not wait.
    kicked: bool,
    /// The supernode does not let this device in.
    closed: Option<Refusal>,
}

impl Ended {
    fn before_it_began(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            since: None,
            by_supernode: false,
            kicked: false,
            closed: None,
        }
    }
}

impl Keeper {
    async fn run(self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let ended = match self.stay_registered().await {
                Ok(ended) => ended,
                Err(Abandoned) => return,
            };
            self.publish.send_replace(HomeState::Down);
            let (reason, closed) = (ended.reason, ended.closed);
            let lost = HomeEvent::Lost { reason, closed };
            if self.report(lost).await.is_err() || !self.policy.retry {
                return;
            }
            let stable = ended
                .since
                .is_some_and(|since| self.runtime.now() - since >= STABLE_AFTER);
            if stable {
                backoff = FIRST_BACKOFF;
            }
            let wait = if ended.by_supernode && backoff == FIRST_BACKOFF {
                self.drawn(Duration::ZERO, CLOSED_SPREAD)
            } else {
                self.drawn(backoff / 2, backoff)
            };
            let kicked = ended.kicked || self.wait(wait).await;
            backoff = if kicked {
                FIRST_BACKOFF
            } else {
                (backoff * 2).min(LAST_BACKOFF)
            };
        }
    }

    /// Says whether the networks changed meanwhile.
    async fn wait(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.kicked.notified() => true,
            () = self.runtime.sleep(wait) => false,
        }
    }

    /// A time between the two.
    fn drawn(&self, least: Duration, most: Duration) -> Duration {
        if !self.policy.jitter {
            return most;
        }
        let random = u32::from_be_bytes(self.runtime.random_array());
        least + (most - least).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    async fn report(&self, event: HomeEvent) -> Result<(), Abandoned> {
        self.events
            .send((self.node, event))
            .await
            .map_err(|_closed| Abandoned)
    }

    /// Connects, registers, and serves until that is over.
    async fn stay_registered(&self) -> Result<Ended, Abandoned> {
        let dialling = self.registrant.dial(self.node, &self.place, self.ways);
        let dialling = timeout(&*self.runtime, CONNECT_TIMEOUT, dialling);
        let connected = tokio::select! {
            biased;
            connected = dialling => connected,
            () = self.kicked.notified() => {
                return Ok(Ended {
                    kicked: true,
                    ..Ended::before_it_began("the networks changed")
                });
            }
        };
        let dialled = match connected {
            Some(Ok(dialled)) => dialled,
            Some(Err(failure)) => return Ok(Ended::before_it_began(failure)),
            None => return Ok(Ended::before_it_began("the supernode does not answer")),
        };
        let client = NodeClient::dialled(Arc::clone(&self.runtime), dialled);
        if let Err(error) = self.register(&client).await? {
            client.close();
            let closed = error.refusal().filter(|refusal| refusal.is_about_a_pass());
            return Ok(Ended {
                closed,
                ..Ended::before_it_began(error)
            });
        }
        let since = Some(self.runtime.now());
        let lost = self.serve(client).await?;
        Ok(Ended {
            reason: lost.to_string(),
            since,
            by_supernode: matches!(lost, Loss::Connection(ConnectionLost::ClosedByPeer(_))),
            kicked: matches!(lost, Loss::Networks),
            closed: None,
        })
    }

    /// Registers under a fresh epoch.
    async fn register(&self, client: &NodeClient) -> Result<Result<(), RequestError>, Abandoned> {
        let epoch = u64::from_be_bytes(self.runtime.random_array());
        let registered = match client.register(self.registrant.registration(epoch)).await {
            Ok(registered) => registered,
            Err(error) => return Ok(Err(error)),
        };
        self.publish.send_replace(HomeState::Up(Arc::new(HomeUp {
            client: client.clone(),
            epoch,
            registered: registered.clone(),
        })));
        self.report(HomeEvent::Registered(registered)).await?;
        Ok(Ok(()))
    }

    /// Has the home keep our box, and says whether something waits in it.
    fn look_for_mail(&self, client: &NodeClient) -> Option<Looking> {
        let key = self.registrant.mail_key(self.node)?;
        let (client, node) = (client.clone(), self.node);
        Some(Box::pin(async move {
            match client.keep_box(key).await {
                Ok(waiting) => waiting > 0,
                Err(error) => {
                    // Calls come through all the same.
                    tracing::info!(?node, %error, "no mailbox there");
                    false
                }
            }
        }))
    }

    /// Hands pushes on, renews the registration and moves it to a better connection, until that is over.
    async fn serve(&self, client: NodeClient) -> Result<Loss, Abandoned> {
        let mut client = Closing(client);
        let mut renewal = pin!(self.renewal());
        let mut upgrade = pin!(self.upgrade(client.tunnel().is_some(), FIRST_UDP_PROBE));
        // Kept while the registration is renewed: a push that is half read is not lost.
        let mut push = next_push(&client);
        let mut before = Before(None);
        let mut mail = self.look_for_mail(&client);
        loop {
            let received = tokio::select! {
                biased;
                received = &mut push => {
                    push = next_push(&client);
                    match received {
                        Ok(received) => received,
                        Err(lost) => return Ok(Loss::Connection(lost)),
                    }
                }
                received = before.next_push() => received,
                waits = async {
                    match &mut mail {
                        Some(looking) => looking.await,
                        None => std::future::pending().await,
                    }
                } => {
                    mail = None;
                    if waits {
                        self.report(HomeEvent::Mail).await?;
                    }
                    continue;
                }
                () = self.events.closed() => return Err(Abandoned),
                () = self.kicked.notified() => {
                    let registering = self.register(&client);
                    match timeout(&*self.runtime, PROBE_TIMEOUT, registering).await {
                        Some(registered) => {
                            if let Err(error) = registered? {
                                return Ok(Loss::Registration(error));
                            }
                        }
                        None => return Ok(Loss::Networks),
                    }
                    renewal.set(self.renewal());
                    // With what contacts mark their letters may be new, too.
                    mail = self.look_for_mail(&client);
                    // Perhaps UDP works in the new network.
                    upgrade.set(self.upgrade(client.tunnel().is_some(), Duration::ZERO));
                    continue;
                }
                better = &mut upgrade => {
                    let better = NodeClient::dialled(Arc::clone(&self.runtime), better);
                    match self.register(&better).await? {
                        Ok(()) => {
                            tracing::debug!(node = ?self.node, "the home is reached by UDP now");
                            upgrade.set(self.upgrade(false, UDP_PROBE));
                            let push = std::mem::replace(&mut push, next_push(&better));
                            let until = self.runtime.sleep(MOVED_FROM_KEPT);
                            let client = std::mem::replace(&mut client, Closing(better));
                            before = Before(Some((client, push, until)));
                        }
                        Err(error) => {
                            tracing::debug!(%error, "the home stays behind the tunnel");
                            better.close();
                            upgrade.set(self.upgrade(true, UDP_PROBE));
                        }
                    }
                    continue;
                }
                () = &mut renewal => {
                    if let Err(error) = self.register(&client).await? {
                        return Ok(Loss::Registration(error));
                    }
                    renewal.set(self.renewal());
                    mail = self.look_for_mail(&client);
                    continue;
                }
            };
            self.report(match received {
                Push::Incoming { delivery, envelope } => HomeEvent::Incoming { delivery, envelope },
                Push::ReplyTo { delivery, payload } => HomeEvent::ReplyTo { delivery, payload },
                Push::Draining => HomeEvent::Draining,
                Push::Mail => HomeEvent::Mail,
            })
            .await?;
        }
    }

    /// A connection by UDP, once that works. It never ends where there is nothing to gain.
    async fn upgrade(&self, tunnelled: bool, within: Duration) -> Dialled {
        if !tunnelled || !self.policy.upgrade || !self.ways.udp() {
            std::future::pending::<()>().await;
        }
        let mut wait = self.drawn(within / 2, within);
        loop {
            self.runtime.sleep(wait).await;
            let dialling = self.registrant.dial(self.node, &self.place, Ways::Udp);
            match timeout(&*self.runtime, CONNECT_TIMEOUT, dialling).await {
                Some(Ok(dialled)) => return dialled,
                Some(Err(_)) | None => wait = self.drawn(UDP_PROBE / 2, UDP_PROBE),
            }
        }
    }

    fn renewal(&self) -> Sleep {
        self.runtime.sleep(self.drawn(RENEWAL / 2, RENEWAL))
    }
}

/// A client that says good-bye when it goes.
struct Closing(NodeClient);

impl std::ops::Deref for Closing {
    type Target = NodeClient;

    fn deref(&self) -> &NodeClient {
        &self.0
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Whether letters wait is being asked.
type Looking = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A push that is being waited for.
type NextPush = Pin<Box<dyn Future<Output = Result<Push, ConnectionLost>> + Send>>;

fn next_push(client: &NodeClient) -> NextPush {
    let client = client.clone();
    Box::pin(async move { client.next_push().await })
}

/// The connection before the present one.
struct Before(Option<(Closing, NextPush, Sleep)>);

impl Before {
    /// The next push by it. It never ends when there is no such connection any more.
    async fn next_push(&mut self) -> Push {
        if let Some((client, push, until)) = &mut self.0 {
            let received = tokio::select! {
                biased;
                received = &mut *push => Some(received),
                () = until => None,
            };
            if let Some(Ok(received)) = received {
                *push = next_push(client);
                return received;
            }
            self.0 = None;
        }
        std::future::pending().await
    }
}

/// What ends a registration that stood.
#[derive(Debug, thiserror::Error)]
enum Loss {
    #[error(transparent)]
    Connection(ConnectionLost),
    #[error(transparent)]
    Registration(RequestError),
    #[error("the networks changed, and the old connection does not carry any more")]
    Networks,
}
