//! The supernode on the network: accepted connections, their requests, and what is pushed to them.
//!
//! Everything is decided in [`Registry`] and in the relay; this only moves messages. It ends when dropped.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ahoy_transport::{
    connection::{CloseCode, Connection, MessageReceiver, MessageSender},
    endpoint::{Endpoint, NetworkAccess, NodeAuth, NodeListener},
    identity::{DeviceId, NodeAddress, NodeKeys, UserId, log::DeviceLog, network::NetworkRole},
    mux::seen_address,
    noise::PeerIdentity,
    runtime::{Runtime, RuntimeExt, Task, timeout},
};
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use crate::discovery::{
    announcement::Announcement,
    gossip::{GossipCounters, shell::Gossiper},
    record::Record,
};

use super::{
    admission::check_registration,
    closed::{Admitted, Closed, ClosedNews},
    mailbox::{
        MailCounters,
        disk::{BoxChange, KeptBox},
    },
    protocol::{MAX_MESSAGE, Push, Refusal, RelayGrant, Request, Response},
    puzzle::PuzzleCounters,
    records::{HeldRecords, MAX_HELD_PER_SOURCE},
    registry::{
        Answer, Asked, ConnectionKey, Limits, Newcomer, NoRoom, Registry, RegistryCounters,
    },
    relay::{
        counters::RelayCounters, credentials::CredentialOwner, server::RelayServer, source_key,
    },
    vouch::{Asker, Decision, VOUCHED_FOR, Vouching},
    witness::{Testimony, Witness, WitnessCounters},
};

/// How long a request may take to arrive whole, and a response or push to be taken: a slow link, not a stalled
/// one.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long another supernode may take to prove its key; the client that named it waits meanwhile.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);
/// What changed in boxes is written so often at the least, and as soon as somebody waits to be told that a letter is kept.
const KEEP_MAIL: Duration = Duration::from_secs(1);
/// What could not be written is written again after [`KEEP_MAIL`], then after twice as long each time, up to this.
const MAX_KEEP_MAIL: Duration = Duration::from_secs(64);
/// Pushes that wait for one connection. A device gets a handful per call.
const PUSH_QUEUE: usize = 32;
/// Bytes of all pushes that wait, over all connections. Devices that stopped reading must not fill the memory.
const MAX_QUEUED_PUSH_BYTES: usize = 64 << 20;

/// A running rendezvous. It ends when this is dropped.
#[derive(Debug)]
pub struct Supernode {
    shared: Arc<Shared>,
    acceptors: Mutex<Vec<Task>>,
}

/// A relay as the clients of one listener reach it.
#[derive(Debug, Clone)]
pub struct ReachableRelay {
    /// The relay.
    pub server: Arc<RelayServer>,
    /// Where it is reached. An unspecified IP address stands for the one that the client reached us at, and
    /// port 0 for the port.
    pub addr: SocketAddr,
    /// Where other supernodes are asked from for proof of their keys, so that the relay serves theirs. Without it,
    /// calls stay among this supernode's own relayed addresses.
    pub prover: Option<Endpoint>,
}

impl ReachableRelay {
    /// A relay on the listener's own port, for this supernode's own relayed addresses.
    #[must_use]
    pub fn on_same_port(server: Arc<RelayServer>) -> Self {
        Self {
            server,
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            prover: None,
        }
    }
}

/// What has been counted since the start, and what is there now.
#[derive(Debug, Clone)]
pub struct SupernodeStatus {
    /// Connections open now.
    pub connections: usize,
    /// Of those, anonymous ones.
    pub anonymous: usize,
    /// Devices registered now.
    pub registered: usize,
    /// Records of people held now.
    pub records: usize,
    /// Counted by the registry.
    pub registry: RegistryCounters,
    /// Counted of the work that strangers did while there were too many of them.
    pub puzzles: PuzzleCounters,
    /// Counted by the boxes of devices that may be off.
    pub mail: MailCounters,
    /// Pushes that were dropped because the connection did not take them in time.
    pub pushes_dropped: u64,
    /// Connections closed because they did not take what they had asked for.
    pub stalled: u64,
    /// Other supernodes that were asked for proof of their keys.
    pub proofs_asked: u64,
    /// What it did as a witness.
    pub witness: WitnessCounters,
    /// Refusals that clients were told.
    pub refusals: RefusalCounters,
    /// Other supernodes that it knows of.
    pub supernodes: usize,
    /// Counted by what tells of them.
    pub gossip: GossipCounters,
    /// Counted by the relays of the listeners, each once, in the order in which they were given.
    pub relays: Vec<RelayCounters>,
}

/// Refusals since the start, by reason. They count responses, so what a stalled connection did not take is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalCounters([u64; Refusal::ALL.len()]);

impl RefusalCounters {
    /// Those for one reason.
    #[must_use]
    pub fn of(&self, reason: Refusal) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    fn count(&mut self, reason: Refusal) {
        if let Some(counter) = self.0.get_mut(reason as usize) {
            *counter += 1;
        }
    }
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    state: Mutex<State>,
    queued_bytes: Arc<AtomicUsize>,
    pushes_dropped: AtomicU64,
    stalled: AtomicU64,
    /// Another supernode was asked for its key: who waits for that looks again.
    vouched: Notify,
    /// What is known of other supernodes, if others may ask for it.
    gossip: OnceLock<Gossiper>,
    /// Who may come, if not everybody.
    closed: OnceLock<Private>,
    /// Where boxes outlive this process, if anywhere.
    keeping: OnceLock<Keeping>,
}

/// Boxes on their way to where they outlive this process. Those who left a letter wait for it together: one write is for all
/// that came while the one before it ran.
#[derive(Debug)]
struct Keeping {
    keeper: Arc<dyn MailKeeper>,
    /// Whoever leaves a letter waits.
    wait: bool,
    /// Who left a letter last, as a number.
    asked: AtomicU64,
    more: Notify,
    /// Up to whom all is written, and up to whom it was tried in vain.
    done: watch::Sender<(u64, u64)>,
}

impl Keeping {
    fn new(keeper: Arc<dyn MailKeeper>, wait: bool) -> Self {
        Self {
            keeper,
            wait,
            asked: AtomicU64::new(0),
            more: Notify::new(),
            done: watch::channel((0, 0)).0,
        }
    }

    /// Waits until what changed before this call is written. Says whether it is.
    async fn kept(&self) -> bool {
        if !self.wait {
            return true;
        }
        let turn = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut done = self.done.subscribe();
        self.more.notify_one();
        let over = |(written, failed): &(u64, u64)| *written >= turn || *failed >= turn;
        match done.wait_for(over).await {
            Ok(over) => over.0 >= turn,
            Err(_this_is_gone) => false,
        }
    }
}

/// What makes a supernode one of a private network.
#[derive(Debug)]
struct Private {
    core: Mutex<Closed>,
    /// Learns of the network's supernodes.
    access: Arc<NetworkAccess>,
}

impl Private {
    fn core(&self) -> MutexGuard<'_, Closed> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a connection was judged, once it asked for something. Boxed: most supernodes judge nobody.
type Judged = Arc<OnceLock<Box<Result<Option<Admitted>, Refusal>>>>;

/// Keeps boxes over restarts.
pub trait MailKeeper: Send + Sync + fmt::Debug + 'static {
    /// All that are kept, each with its key.
    fn boxes(&self) -> Vec<KeptBox>;
    /// Keeps these changes, all or none. Says whether they are where no crash undoes them.
    fn keep(&self, changes: Vec<BoxChange>) -> bool;
    /// The same, where a disk is not to be waited for.
    fn keep_soon(self: Arc<Self>, changes: Vec<BoxChange>) -> BoxFuture<'static, bool>;
}

struct State {
    registry: Registry,
    records: HeldRecords,
    vouching: Vouching,
    clients: HashMap<ConnectionKey, Outbox>,
    relays: Vec<Arc<RelayServer>>,
    refusals: RefusalCounters,
    /// Signs device lists, if it has keys for that.
    witness: Option<Witness>,
    next_key: u64,
}

struct Outbox {
    /// None for the device in this process.
    connection: Option<Connection>,
    queue: Arc<PushQueue>,
    judged: Judged,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Pushes for one connection, taken by one task. A channel would have room for all of them from the start, and most
/// connections wait for their first push for hours.
#[derive(Default)]
struct PushQueue {
    state: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    pushes: VecDeque<QueuedPush>,
    closed: bool,
}

impl PushQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room.
    fn put(&self, push: QueuedPush) -> bool {
        let mut waiting = self.lock();
        let room = !waiting.closed && waiting.pushes.len() < PUSH_QUEUE;
        if room {
            waiting.pushes.push_back(push);
            drop(waiting);
            self.more.notify_one();
        }
        room
    }

    /// No more will come.
    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    /// The next one; `None` when no more will come.
    async fn next(&self) -> Option<QueuedPush> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(push) = waiting.pushes.pop_front() {
                    if waiting.pushes.is_empty() {
                        waiting.pushes = VecDeque::new();
                    }
                    return Some(push);
                }
                if waiting.closed {
                    return None;
                }
            }
            // A permit is kept for whoever comes late.
            self.more.notified().await;
        }
    }
}

impl fmt::Debug for PushQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushQueue").finish_non_exhaustive()
    }
}

/// An encoded push that counts towards [`MAX_QUEUED_PUSH_BYTES`] for as long as it exists.
struct QueuedPush {
    bytes: Vec<u8>,
    budget: Arc<AtomicUsize>,
}

impl QueuedPush {
    fn new(push: &Push, budget: &Arc<AtomicUsize>) -> Option<Self> {
        let bytes = push.encode();
        let taken = budget.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        // From here on the drop gives the bytes back.
        let queued = Self {
            bytes,
            budget: Arc::clone(budget),
        };
        (taken <= MAX_QUEUED_PUSH_BYTES).then_some(queued)
    }
}

impl Drop for QueuedPush {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supernode").finish_non_exhaustive()
    }
}

impl Supernode {
    /// A rendezvous that nobody can reach yet: see [`Self::serve`].
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, limits: Limits) -> Self {
        let first_delivery = u64::from_be_bytes(runtime.random_array());
        let mut registry = Registry::new(limits.clone(), first_delivery);
        registry.start_puzzles(runtime.now(), runtime.random_array());
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    records: HeldRecords::new(limits.records, MAX_HELD_PER_SOURCE),
                    registry,
                    vouching: Vouching::new(runtime.now()),
                    clients: HashMap::new(),
                    relays: Vec::new(),
                    refusals: RefusalCounters::default(),
                    witness: None,
                    next_key: 0,
                }),
                queued_bytes: Arc::default(),
                pushes_dropped: AtomicU64::new(0),
                stalled: AtomicU64::new(0),
                vouched: Notify::new(),
                gossip: OnceLock::new(),
                closed: OnceLock::new(),
                keeping: OnceLock::new(),
                runtime,
            }),
            acceptors: Mutex::default(),
        }
    }

    /// Serves the connections that `incoming` accepts, too. `relay` is handed out to these clients.
    pub fn serve(&self, incoming: NodeListener, relay: Option<ReachableRelay>) {
        if let Some(relay) = &relay {
            let mut state = self.shared.lock();
            if !state
                .relays
                .iter()
                .any(|known| Arc::ptr_eq(known, &relay.server))
            {
                state.relays.push(Arc::clone(&relay.server));
            }
        }
        let accepting = accept(Arc::clone(&self.shared), incoming, relay);
        let task = self.shared.runtime.spawn_task(accepting);
        self.acceptors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
    }

    /// Answers who asks for other supernodes by what `gossip` knows. Only the first call counts.
    pub fn set_gossip(&self, gossip: Gossiper) {
        self.shared.gossip.get_or_init(|| gossip);
    }

    /// Serves the members of a private network alone, from now on. Only the first call counts. `access` is what this supernode's
    /// own endpoints show to the others.
    pub fn set_closed(&self, closed: Closed, access: Arc<NetworkAccess>) {
        self.shared.closed.get_or_init(|| Private {
            core: Mutex::new(closed),
            access,
        });
    }

    /// Looks into what is known of the private network's members, if there is one, or changes it; whoever may not stay is sent
    /// away.
    pub fn with_closed<T>(&self, look: impl FnOnce(&mut Closed) -> T) -> Option<T> {
        let closed = self.shared.closed.get()?;
        let looked = look(&mut closed.core());
        self.shared.enforce();
        Some(looked)
    }

    /// Takes in the boxes that `keeper` has, and has it keep what becomes of them from now on. `wait`: nobody is told that a letter
    /// waits before it is kept.
    pub fn keep_mail(&self, keeper: Arc<dyn MailKeeper>, wait: bool) {
        let runtime = &self.shared.runtime;
        {
            let (now, now_millis) = (runtime.now(), runtime.unix_millis());
            let kept = keeper.boxes();
            let mut state = self.shared.lock();
            let mailbox = state.registry.mailbox();
            for (key, bytes) in kept {
                if let Err(error) = mailbox.restore(now, now_millis, &key, &bytes) {
                    tracing::warn!(%error, "a box is lost");
                }
            }
            mailbox.track();
        }
        self.shared
            .keeping
            .get_or_init(|| Keeping::new(keeper, wait));
        let task = runtime.spawn_task(Arc::clone(&self.shared).keep_boxes());
        let mut tasks = self
            .acceptors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tasks.push(task);
    }

    /// Signs device lists with these keys from now on.
    pub fn set_witness(&self, keys: NodeKeys) {
        self.shared.lock().witness = Some(Witness::new(keys));
    }

    /// Makes a device of this process a client, without a connection. The device need not prove itself, and is not
    /// metered.
    ///
    /// # Errors
    /// When there is no room.
    pub fn attach(&self, user: UserId, device: DeviceId) -> Result<LocalClient, NoRoom> {
        let queue = Arc::<PushQueue>::default();
        let mut state = self.shared.lock();
        let key = ConnectionKey(state.next_key);
        let newcomer = Newcomer {
            device: Some((user, device)),
            source: Ipv4Addr::LOCALHOST.into(),
        };
        let now = self.shared.runtime.now();
        state.registry.handle_connected(now, key, newcomer)?;
        state.next_key += 1;
        let outbox = Outbox {
            connection: None,
            queue: Arc::clone(&queue),
            judged: Judged::default(),
        };
        state.clients.insert(key, outbox);
        Ok(LocalClient {
            shared: Arc::clone(&self.shared),
            key,
            pushes: queue,
        })
    }

    /// Counters and sizes.
    #[must_use]
    pub fn status(&self) -> SupernodeStatus {
        let gossip = self.shared.gossip.get();
        let (supernodes, gossip) = gossip.map_or_else(Default::default, |gossip| {
            gossip.with(|core| (core.table().len(), core.counters()))
        });
        let state = self.shared.lock();
        SupernodeStatus {
            supernodes,
            gossip,
            connections: state.registry.connections(),
            anonymous: state.registry.anonymous(),
            registered: state.registry.registered(),
            records: state.records.len(),
            registry: state.registry.counters(),
            puzzles: state.registry.puzzles(),
            mail: state.registry.mail(),
            pushes_dropped: self.shared.pushes_dropped.load(Ordering::Relaxed),
            stalled: self.shared.stalled.load(Ordering::Relaxed),
            proofs_asked: state.vouching.dialled(),
            witness: state
                .witness
                .as_ref()
                .map_or_else(Default::default, Witness::counters),
            refusals: state.refusals,
            relays: state.relays.iter().map(|relay| relay.counters()).collect(),
        }
    }

    /// The relays take no new calls for the moment, or do again.
    pub fn set_busy(&self, busy: bool) {
        for relay in &self.shared.lock().relays {
            relay.set_draining(busy);
        }
    }

    /// Tells everybody to register elsewhere; running relays go on.
    pub fn drain(&self) {
        let state = self.shared.lock();
        for relay in &state.relays {
            relay.set_draining(true);
        }
        #[expect(
            clippy::iter_over_hash_type,
            reason = "everybody is told the same at once"
        )]
        for outbox in state.clients.values() {
            self.shared.push(outbox, &Push::Draining);
        }
    }

    /// Closes all connections and takes no more. Relays are not touched.
    pub fn stop(&self) {
        self.acceptors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(keeping) = self.shared.keeping.get() {
            while let Some(changes) = self.shared.changed_boxes() {
                if !keeping.keeper.keep(changes) {
                    break;
                }
            }
        }
        // Tasks of connections hold the state; closing the connections ends them.
        let mut state = self.shared.lock();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "everybody is told the same at once"
        )]
        for (_key, outbox) in state.clients.drain() {
            if let Some(connection) = &outbox.connection {
                connection.close(CloseCode::Draining, "the supernode stops");
            }
        }
    }
}

impl Drop for Supernode {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A device in the supernode's own process. It is gone when this is dropped.
#[derive(Debug)]
pub struct LocalClient {
    shared: Arc<Shared>,
    key: ConnectionKey,
    pushes: Arc<PushQueue>,
}

impl LocalClient {
    /// Asks; the answer is there at once. No relay is to be had.
    ///
    /// # Errors
    /// As over a connection.
    pub fn request(&self, request: Request) -> Result<Response, Refusal> {
        let shared = &self.shared;
        match shared.route(self.key, request)? {
            Answer::Respond(response) => Ok(response),
            Answer::Registered => Ok(Response::Registered {
                // Nothing was sent, so nothing was seen.
                observed: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                now_millis: shared.runtime.unix_millis(),
                relay: None,
            }),
            Answer::Publish(record, source) => Ok(shared.take_in(&record, source)),
            Answer::Find(user) => Ok(shared.find(user)),
            Answer::Supernodes(asked) => Ok(shared.tell_of_others(&asked)),
            Answer::Witness(user, log) => Ok(shared.witness(user, &log)),
            Answer::Witnessed(user) => Ok(shared.witnessed(user)),
            Answer::RelayGrant | Answer::AllowRelay(_) => Err(Refusal::NoRelay),
        }
    }

    /// The next push, or `None` when the supernode has stopped.
    pub async fn next_push(&self) -> Option<Push> {
        let queued = self.pushes.next().await?;
        // It was encoded here.
        Push::decode(&queued.bytes).ok()
    }
}

impl Drop for LocalClient {
    fn drop(&mut self) {
        let now = self.shared.runtime.now();
        let mut state = self.shared.lock();
        state.registry.handle_closed(now, self.key);
        state.clients.remove(&self.key);
    }
}

impl Private {
    /// A supernode is heard of only by itself, under its own key, and with the network's word that it is one.
    fn hear_of(&self, admitted: Admitted, shown: &PeerIdentity, own: &mut Option<Vec<u8>>) {
        let node = own
            .as_ref()
            .and_then(|own| Announcement::from_bytes(own).ok())
            .map(|own| own.node());
        match node {
            Some(node)
                if admitted.role == NetworkRole::Supernode
                    && shown.noise_static.is_some()
                    && node.noise_static() == shown.noise_static =>
            {
                self.access.learn(node);
            }
            Some(node) => {
                tracing::debug!(?node, "somebody tells of a supernode that is not theirs");
                *own = None;
            }
            None => {}
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, outbox: &Outbox, push: &Push) -> bool {
        let queued =
            QueuedPush::new(push, &self.queued_bytes).is_some_and(|push| outbox.queue.put(push));
        if !queued {
            self.pushes_dropped.fetch_add(1, Ordering::Relaxed);
        }
        queued
    }

    /// Boxes that changed since they were taken last.
    fn changed_boxes(&self) -> Option<Vec<BoxChange>> {
        let (now, now_millis) = (self.runtime.now(), self.runtime.unix_millis());
        let changes = self.lock().registry.mailbox().take_changes(now, now_millis);
        (!changes.is_empty()).then_some(changes)
    }

    /// Has changed boxes written, as long as this runs.
    async fn keep_boxes(self: Arc<Self>) {
        let Some(keeping) = self.keeping.get() else {
            return;
        };
        let mut wait = KEEP_MAIL;
        loop {
            tokio::select! {
                biased;
                () = keeping.more.notified() => {}
                () = self.runtime.sleep(wait) => {}
            }
            // Whoever asked before this line has changed its box before it.
            let asked = keeping.asked.load(Ordering::Acquire);
            let mut again: Vec<Vec<u8>> = Vec::new();
            while let Some(changes) = self.changed_boxes() {
                let keys: Vec<Vec<u8>> = changes.iter().map(|(key, _box)| key.clone()).collect();
                if !Arc::clone(&keeping.keeper).keep_soon(changes).await {
                    again.extend(keys);
                }
            }
            let written = again.is_empty();
            wait = if written {
                KEEP_MAIL
            } else {
                (wait * 2).min(MAX_KEEP_MAIL)
            };
            self.lock().registry.mailbox().put_back(&again);
            keeping.done.send_modify(|(up_to, failed)| {
                *(if written { up_to } else { failed }) = asked;
            });
        }
    }

    /// Answers one request. Nothing here waits, so the answer and the push are one step; what has to wait comes
    /// back as [`Answer::AllowRelay`].
    fn answer(
        &self,
        key: ConnectionKey,
        connection: &Connection,
        judged: &Judged,
        relay: Option<&ReachableRelay>,
        bytes: &[u8],
    ) -> Result<Reply, Refusal> {
        self.lock().registry.meter(self.runtime.now(), key, bytes)?;
        let mut request = Request::decode(bytes).map_err(|_malformed| Refusal::Malformed);
        let admitted = self
            .admit(connection, judged)
            .inspect_err(|_refused| self.lock().registry.note_refused())?;
        if let Some((closed, admitted)) = admitted {
            if let Ok(Request::News {
                seq,
                after,
                revoked,
            }) = &request
            {
                let news = self.tell_news(closed, admitted, (*seq, *after), revoked.as_deref());
                return Ok(Reply::Now(Response::News(news)));
            }
            if let Ok(Request::Supernodes { own, .. }) = &mut request {
                closed.hear_of(admitted, connection.identity(), own);
            }
        }
        if let Ok(Request::Register(registration)) = &request {
            // Signatures take milliseconds: not under the lock.
            let revoked = check_registration(
                self.runtime.unix_millis(),
                connection.identity(),
                registration,
            )
            .inspect_err(|_refused| self.lock().registry.note_refused())?;
            if !revoked.devices.is_empty() {
                self.lock().registry.note_revoked(&revoked);
            }
        }
        let request = request.inspect_err(|_malformed| self.lock().registry.note_refused())?;
        Ok(Reply::Now(match self.route(key, request)? {
            Answer::Respond(response) => response,
            Answer::Registered => Response::Registered {
                observed: seen_address(connection.remote_address()),
                now_millis: self.runtime.unix_millis(),
                relay: grant(connection, relay).ok(),
            },
            Answer::Publish(record, source) => self.take_in(&record, source),
            Answer::Find(user) => self.find(user),
            Answer::Supernodes(asked) => self.tell_of_others(&asked),
            Answer::Witness(user, log) => self.witness(user, &log),
            Answer::Witnessed(user) => self.witnessed(user),
            Answer::RelayGrant => Response::Relay(grant(connection, relay)?),
            Answer::AllowRelay(other) => return Ok(Reply::AfterProof(other)),
        }))
    }

    /// Whether this connection may ask for anything, and as whom. Judged once; from then on only what may change is.
    fn admit(
        &self,
        connection: &Connection,
        judged: &Judged,
    ) -> Result<Option<(&Private, Admitted)>, Refusal> {
        let Some(closed) = self.closed.get() else {
            return Ok(None);
        };
        let now_millis = self.runtime.unix_millis();
        let judge = || Box::new(closed.core().admit(connection.identity(), now_millis));
        match **judged.get_or_init(judge) {
            Ok(Some(admitted)) => {
                closed.core().still(&admitted, now_millis)?;
                Ok(Some((closed, admitted)))
            }
            // Nobody is judged.
            Ok(None) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// What is known of the network's invites, after taking in a list of revoked ones.
    fn tell_news(
        &self,
        closed: &Private,
        admitted: Admitted,
        (seq, after): (Option<u64>, u64),
        revoked: Option<&[u8]>,
    ) -> ClosedNews {
        let mut core = closed.core();
        let taken = revoked.map(|list| core.take_list(list));
        let news = core.news(admitted.role, seq, after);
        drop(core);
        match taken {
            Some(Ok(true)) => self.enforce(),
            Some(Err(error)) => tracing::debug!(%error, "a list that is not ours"),
            Some(Ok(false)) | None => {}
        }
        news
    }

    /// Sends those away who may not stay.
    fn enforce(&self) {
        let Some(closed) = self.closed.get() else {
            return;
        };
        let now_millis = self.runtime.unix_millis();
        let state = self.lock();
        let core = closed.core();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "all of them are told the same at once"
        )]
        for outbox in state.clients.values() {
            let judged = outbox.judged.get().map(|judged| &**judged);
            let Some(Ok(Some(admitted))) = judged else {
                continue;
            };
            if let (Err(refusal), Some(connection)) =
                (core.still(admitted, now_millis), &outbox.connection)
            {
                tracing::info!(%refusal, "a member is sent away");
                connection.close(CloseCode::NotAllowed, "not a member any more");
            }
        }
    }

    /// Keeps a record that counts, and answers with the one that is held now.
    fn take_in(&self, record: &Record, source: IpAddr) -> Response {
        let now_millis = self.runtime.unix_millis();
        self.lock().records.publish(record, source, now_millis);
        self.find(record.fields().user)
    }

    fn find(&self, user: UserId) -> Response {
        let now_millis = self.runtime.unix_millis();
        let state = self.lock();
        let found = state.records.find(user, now_millis);
        Response::Record(found.map(|record| record.as_bytes().to_vec()))
    }

    /// Signs the end of a list, if it is the first of its person or goes on from the one before.
    fn witness(&self, user: UserId, bytes: &[u8]) -> Response {
        // Signatures take milliseconds: not under the lock.
        let log = DeviceLog::from_bytes(user, bytes);
        let now_millis = self.runtime.unix_millis();
        let testimony = match (log, &mut self.lock().witness) {
            (Ok(log), Some(witness)) => witness.handle_shown(log, bytes, now_millis),
            (Err(_), _) | (_, None) => Testimony::default(),
        };
        Response::Testimony(testimony)
    }

    fn witnessed(&self, user: UserId) -> Response {
        let now_millis = self.runtime.unix_millis();
        let mut state = self.lock();
        let witness = state.witness.as_mut();
        let said = witness.map(|witness| witness.handle_asked(user, now_millis));
        Response::Testimony(said.unwrap_or_default())
    }

    fn tell_of_others(&self, asked: &Asked) -> Response {
        let told = self.gossip.get().map(|gossip| {
            let (now, now_millis) = (self.runtime.now(), self.runtime.unix_millis());
            gossip.with(|core| core.answer(now, now_millis, asked))
        });
        let told = told.unwrap_or_default();
        let told = told.iter().map(|told| told.as_bytes().to_vec());
        Response::Supernodes(told.collect())
    }

    /// Has the registry decide, and hands on what comes of it: one step.
    fn route(&self, key: ConnectionKey, request: Request) -> Result<Answer, Refusal> {
        let now = self.runtime.now();
        let mut state = self.lock();
        let (answer, routed) = state.registry.handle_request(now, key, request)?;
        if let Some(routed) = routed {
            let queued = state
                .clients
                .get(&routed.to)
                .is_some_and(|outbox| self.push(outbox, &routed.push));
            // A letter waits all the same, whether its device heard of it or not.
            if !queued && routed.push != Push::Mail {
                return Err(Refusal::Full);
            }
        }
        Ok(answer)
    }

    /// Has `other` prove its key, unless it has done so, and opens the relays of this supernode towards it.
    async fn allow_relay(
        self: &Arc<Self>,
        key: ConnectionKey,
        asker: Asker,
        relay: Option<&ReachableRelay>,
        other: NodeAddress,
    ) -> Result<Response, Refusal> {
        let relay = relay.ok_or(Refusal::NoRelay)?;
        let prover = relay.prover.as_ref().ok_or(Refusal::UnprovenRelay)?;
        let addr = other.socket_addr().ok_or(Refusal::UnprovenRelay)?;
        relay.server.may_allow(addr.ip()).map_err(|refusal| {
            tracing::debug!(%refusal, "a relay that nobody can vouch for");
            Refusal::UnprovenRelay
        })?;
        loop {
            // Made before looking: it hears of every dial that ends after this line.
            let vouched = self.vouched.notified();
            let decision = {
                let now = self.runtime.now();
                let mut state = self.lock();
                let State {
                    registry, vouching, ..
                } = &mut *state;
                vouching.handle_request(now, asker, &other, || registry.meter_proof(now, key))?
            };
            match decision {
                Decision::Allowed(left) => {
                    return Ok(Response::RelayAllowed {
                        lifetime_secs: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
                    });
                }
                Decision::Dial(addr) => {
                    // On its own, since others may wait for it when this client is gone. Their number is bounded.
                    let proof = Arc::clone(self).prove(prover.clone(), addr, other.clone());
                    self.runtime.spawn_task(proof).detach();
                }
                Decision::Wait => {}
            }
            vouched.await;
        }
    }

    /// Dials another supernode without a name: the handshake fails unless it has the key.
    async fn prove(self: Arc<Self>, prover: Endpoint, addr: SocketAddr, other: NodeAddress) {
        let dialling = prover.connect_node(addr, other.node, NodeAuth::Anonymous);
        let proven = match timeout(&*self.runtime, PROOF_TIMEOUT, dialling).await {
            Some(Ok(connection)) => {
                connection.close(CloseCode::Done, "thank you");
                true
            }
            Some(Err(error)) => {
                tracing::debug!(node = ?other.node, %error, "another relay did not prove its key");
                false
            }
            None => false,
        };
        let now = self.runtime.now();
        let until = now + VOUCHED_FOR;
        let mut state = self.lock();
        // A list that is full of other supernodes' addresses is as good as no proof.
        let allowed = proven
            && state
                .relays
                .iter()
                .all(|relay| relay.allow_node(addr.ip(), until));
        state
            .vouching
            .handle_dialled(now, &other, allowed.then_some(until));
        drop(state);
        self.vouched.notify_waiters();
    }
}

/// When a request is answered.
enum Reply {
    /// At once.
    Now(Response),
    /// When this supernode has proved its key.
    AfterProof(NodeAddress),
}

fn grant(connection: &Connection, relay: Option<&ReachableRelay>) -> Result<RelayGrant, Refusal> {
    let relay = relay.ok_or(Refusal::NoRelay)?;
    let observed = connection.remote_address().ip();
    // By the key that the handshake proved: anybody can put another's device id into an own certificate.
    let owner = match connection.identity().noise_static {
        Some(noise_static) => CredentialOwner::Device(noise_static),
        None => CredentialOwner::Anonymous(source_key(observed)),
    };
    let credentials = relay
        .server
        .issue_credentials(owner, observed)
        .map_err(|_quota_or_table| Refusal::Full)?;
    Ok(RelayGrant {
        server: relay.addr,
        username: credentials.username,
        password: credentials.password,
        realm: credentials.realm,
        nonce: credentials.nonce,
        lifetime_secs: u32::try_from(credentials.lifetime.as_secs()).unwrap_or(u32::MAX),
    })
}

async fn accept(shared: Arc<Shared>, mut incoming: NodeListener, relay: Option<ReachableRelay>) {
    while let Some(connection) = incoming.accept().await {
        let peer = connection.peer();
        let newcomer = Newcomer {
            device: peer.user.zip(peer.device),
            source: source_key(connection.remote_address().ip()),
        };
        let pushes = Arc::<PushQueue>::default();
        let judged = Judged::default();
        let key = {
            let mut state = shared.lock();
            let key = ConnectionKey(state.next_key);
            let now = shared.runtime.now();
            if let Err(full) = state.registry.handle_connected(now, key, newcomer) {
                drop(state);
                tracing::debug!(%full, "a client is sent away");
                connection.close(CloseCode::Overloaded, "full");
                continue;
            }
            state.next_key += 1;
            let outbox = Outbox {
                connection: Some(connection.clone()),
                queue: Arc::clone(&pushes),
                judged: Arc::clone(&judged),
            };
            state.clients.insert(key, outbox);
            key
        };
        tracing::debug!(key = key.0, device = ?peer.device, "connected");
        let client = Client {
            shared: Arc::clone(&shared),
            key,
            connection,
            judged,
            relay: relay.clone(),
        };
        shared.runtime.spawn_task(client.serve(pushes)).detach();
    }
}

/// One connection.
struct Client {
    shared: Arc<Shared>,
    key: ConnectionKey,
    connection: Connection,
    judged: Judged,
    relay: Option<ReachableRelay>,
}

impl Drop for Client {
    fn drop(&mut self) {
        let now = self.shared.runtime.now();
        let mut state = self.shared.lock();
        state.registry.handle_closed(now, self.key);
        state.clients.remove(&self.key);
    }
}

impl Client {
    /// To the end of the connection. Requests of one connection are taken in turn: a client that stalls its own
    /// request stalls only itself.
    ///
    /// What a request or a push takes on its way is boxed: it would be room in every task that waits.
    async fn serve(self, pushes: Arc<PushQueue>) {
        // One at a time: a client that wants more waits, or is refused.
        let mut proof: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
        let reason = loop {
            tokio::select! {
                biased;
                () = async {
                    match &mut proof {
                        Some(proof) => proof.await,
                        None => std::future::pending().await,
                    }
                } => proof = None,
                push = pushes.next() => match push {
                    Some(push) => Box::pin(self.send_push(&push)).await,
                    // The supernode stops, which closes the connection.
                    None => break self.connection.closed().await,
                },
                stream = self.connection.accept_bi() => match stream {
                    Ok((sender, receiver)) => {
                        let handling = Box::pin(self.handle_stream(sender, receiver));
                        if let Some((sender, other)) = handling.await {
                            if proof.is_none() {
                                proof = Some(Box::pin(self.handle_proof(sender, other)));
                            } else {
                                let refused = Response::Refused(Refusal::TooFast);
                                Box::pin(self.respond(sender, refused)).await;
                            }
                        }
                    }
                    Err(reason) => break reason,
                },
            }
        };
        tracing::debug!(key = self.key.0, %reason, "gone");
    }

    async fn send_push(&self, push: &QueuedPush) {
        let sending = async {
            let mut stream = self.connection.open_uni().await.ok()?;
            stream.send(&push.bytes).await.ok()?;
            stream.finish();
            Some(())
        };
        match timeout(&*self.shared.runtime, STREAM_TIMEOUT, sending).await {
            Some(Some(())) => {}
            Some(None) => tracing::debug!(key = self.key.0, "a push is lost"),
            None => self.close_stalled(),
        }
    }

    /// Answers a request, or hands back what can be answered only when another supernode has proved its key.
    async fn handle_stream(
        &self,
        sender: MessageSender,
        mut receiver: MessageReceiver,
    ) -> Option<(MessageSender, NodeAddress)> {
        let receiving = receiver.recv(MAX_MESSAGE);
        let received = timeout(&*self.shared.runtime, STREAM_TIMEOUT, receiving).await;
        let Some(Ok(Some(request))) = received else {
            tracing::debug!(key = self.key.0, "a request did not arrive whole");
            return None;
        };
        let reply = self
            .shared
            .answer(
                self.key,
                &self.connection,
                &self.judged,
                self.relay.as_ref(),
                &request,
            )
            .unwrap_or_else(|refusal| Reply::Now(Response::Refused(refusal)));
        match reply {
            // It is not said that a letter waits before it does so over a crash, too.
            Reply::Now(left @ Response::Left { .. }) => match self.shared.keeping.get() {
                Some(keeping) if !keeping.kept().await => {
                    self.respond(sender, Response::Refused(Refusal::NoMail))
                        .await;
                }
                Some(_) | None => self.respond(sender, left).await,
            },
            // Nor that one is gone before it does not come back.
            Reply::Now(gone @ Response::Acknowledged) => {
                if let Some(keeping) = self.shared.keeping.get()
                    && !keeping.kept().await
                {
                    tracing::debug!(key = self.key.0, "letters may come twice");
                }
                self.respond(sender, gone).await;
            }
            Reply::Now(response) => self.respond(sender, response).await,
            Reply::AfterProof(other) => return Some((sender, other)),
        }
        None
    }

    async fn handle_proof(&self, sender: MessageSender, other: NodeAddress) {
        let asker = match self.connection.peer().device {
            Some(_device) => Asker::Device,
            None => Asker::Stranger,
        };
        let response = self
            .shared
            .allow_relay(self.key, asker, self.relay.as_ref(), other)
            .await
            .unwrap_or_else(|refusal| {
                self.shared.lock().registry.note_refused();
                Response::Refused(refusal)
            });
        self.respond(sender, response).await;
    }

    async fn respond(&self, mut sender: MessageSender, response: Response) {
        if let Response::Refused(reason) = &response {
            self.shared.lock().refusals.count(*reason);
        }
        let response = response.encode();
        match timeout(
            &*self.shared.runtime,
            STREAM_TIMEOUT,
            sender.send(&response),
        )
        .await
        {
            Some(Ok(())) => sender.finish(),
            Some(Err(error)) => tracing::debug!(key = self.key.0, %error, "a response is lost"),
            None => self.close_stalled(),
        }
    }

    /// It asks and does not listen.
    fn close_stalled(&self) {
        self.shared.stalled.fetch_add(1, Ordering::Relaxed);
        self.connection
            .close(CloseCode::Overloaded, "nothing is read");
    }
}
