//! One peer device, all the connections to it.
//!
//! A session owns one connection per path and dials anew where one died. Media packets are numbered by the
//! sender, may come by any connection, also twice, and are handed over once. Control messages are numbered and
//! acknowledged: delivered once and in order as long as the session lives. [`core`] decides all that without a
//! socket; this module dials, accepts, and carries bytes between the core and QUIC.
//!
//! **Numbers and keys.** The session's caller dials every connection. Each attempt has a number *n*, and psk, tag
//! and MAC key derived from the session's secret and *n*. The callee waits for a window of numbers, from any of
//! the session's paths, so the caller can go on with *n* + 1 when an attempt got stuck. Once the caller has seen
//! the callee's Hello on some connection, it names that connection the *root*: its exporter enters the keys of
//! all later ones, so whoever learns the session's secret afterwards cannot join. An attempt without root and
//! one with root never share a key; until a connection with root has come up, the caller tries both in turn.
//!
//! **Accept.** Media is neither sent nor delivered before [`Session::open_media`], which takes a
//! [`MediaPermit`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ring::hmac;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    bwe::Estimate,
    connection::{
        Admission, CloseCode, Connection, ConnectionLost, MessageReceiver, MessageSender,
        RecvError, SendError,
    },
    datagram::{Priority, Waiting},
    endpoint::{AcceptedPeer, Endpoint, Expectation, ExpectedPeer, PeerHandshake},
    feedback::PacketReport,
    identity::DeviceCertificate,
    mux::{TableFull, canonical},
    noise::{Pattern, PeerSecrets, Refusal, VerifiedPeer, VerifyPeer},
    runtime::{Runtime, RuntimeExt, Task, timeout},
    sealed::SessionSecret,
};

mod control;
pub mod core;
mod flow;
mod inflow;
mod loss;
mod select;
mod types;
mod wire;

pub use self::core::{ControlError, MediaDatagram, SendMediaError, SessionConfig};
use self::core::{Core, Notice, Outgoing};
pub use control::{MAX_UNACKNOWLEDGED, RESEND_AFTER};
pub use flow::FlowStats;
pub use loss::LossStats;
pub use select::{DUPLICATE_AFTER, MOVE_AFTER, STOP_AFTER, SwitchReason};
pub use types::{
    LocalDevice, PathId, PathKind, PathStats, RemoteDevice, SessionEnd, SessionEvent,
    SessionParams, SessionStats, Switch,
};
pub use wire::MAX_CONTROL_MESSAGE;

/// Paths that a session may have: two homes on each side, every pair of interfaces worth trying.
pub const MAX_PATHS: usize = 32;

/// Numbers beyond the highest that came up which the callee waits for, and which the caller uses in turn.
const NUMBER_WINDOW: u32 = 16;

/// An attempt that did not come up by then is given up: three repetitions of its first flight.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait between attempts on one path, doubling from the first to the second.
const REDIAL_AFTER: Duration = Duration::from_millis(250);
const REDIAL_AFTER_MAX: Duration = Duration::from_secs(4);

/// How long a connection is listened to whose path has another: three round trips, between these.
const RETIRED_AT_LEAST: Duration = Duration::from_millis(500);
const RETIRED_AT_MOST: Duration = Duration::from_secs(3);

/// Exporters that are kept to name a root among.
const MAX_EXPORTERS: usize = 64;

/// Connections that came in and are not taken yet.
const ACCEPT_QUEUE: usize = 16;

const ROOT_LABEL: &[u8] = b"ahoy/1 session root";
const PSK_LABEL: &[u8] = b"ahoy/1 session psk";
const SAFETY_LABEL: &[u8] = b"ahoy/1 safety words";

/// The right to let media pass in one call.
///
/// Only the step in which a person (or the one setting that stands for a person, `answer --auto`) accepts makes
/// one: on the callee's side when *accept* is pressed, on the caller's when the callee's *accept* has come, for
/// placing the call was consent. A session that carries files alone has one too: it takes what the person at one end
/// sent and the one at the other end accepted. Nothing else may call [`on_accept`](Self::on_accept); it is not `Clone`.
#[derive(Debug)]
pub struct MediaPermit {
    call_id: [u8; 16],
}

impl MediaPermit {
    /// The call was accepted.
    #[must_use]
    pub fn on_accept(call_id: [u8; 16]) -> Self {
        Self { call_id }
    }
}

/// A [`MediaPermit`] of another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the permit belongs to another call")]
pub struct WrongCall;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Caller,
    Callee,
}

/// A session; a handle, cheap to clone. When the last one goes, the session ends.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    _tasks: Vec<Task>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

struct Shared {
    /// For what must not keep the session alive.
    me: Weak<Self>,
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    role: Role,
    secret: SessionSecret,
    call_id: [u8; 16],
    local: LocalDevice,
    remote: RemoteDevice,
    /// For connections that come in.
    accepted: mpsc::Sender<AcceptedPeer>,
    driver: Notify,
    /// Control messages came.
    received: Notify,
    /// Control messages left, or were taken by the other side.
    control: Notify,
    media: Notify,
    events: Notify,
    estimate: watch::Sender<Option<Estimate>>,
    state: Mutex<State>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("remote", &self.remote.device)
            .finish_non_exhaustive()
    }
}

struct State {
    core: Core,
    paths: BTreeMap<PathId, Path>,
    next_path: u32,
    links: BTreeMap<u32, Link>,
    /// Root secrets that connections would give; see the module's documentation.
    exporters: BTreeMap<u32, [u8; 32]>,
    root: Option<[u8; 32]>,
    /// Caller: a connection whose keys contain the root has come up.
    root_is_shared: bool,
    next_number: u32,
    /// The highest number that came up, plus one.
    after_highest: u32,
    /// Caller: numbers of attempts under way, and whether their keys contain the root.
    dialling: BTreeMap<u32, bool>,
    /// Callee: numbers that served.
    used: BTreeSet<u32>,
    expectations: BTreeMap<(u32, bool), Expectation>,
    /// When the driver wakes by itself.
    driver_wakes: Option<Instant>,
}

struct Path {
    kind: PathKind,
    remote: SocketAddr,
    link: Option<u32>,
    /// Dial at once, also beside a living connection.
    redial: Arc<Notify>,
    _admission: Admission,
    _dial: Option<Task>,
}

struct Link {
    connection: Connection,
    path: PathId,
    frames: Arc<Notify>,
    datagrams: Arc<Notify>,
    /// Another has taken its place.
    retire: Arc<Notify>,
    _task: Task,
}

impl Session {
    /// The side that placed the call. It dials.
    #[must_use]
    pub fn caller(params: SessionParams) -> Self {
        Self::new(params, Role::Caller)
    }

    /// The side that was called. It waits to be dialled.
    #[must_use]
    pub fn callee(params: SessionParams) -> Self {
        Self::new(params, Role::Callee)
    }

    fn new(params: SessionParams, role: Role) -> Self {
        let runtime = Arc::clone(params.endpoint.runtime());
        let (accepted, incoming) = mpsc::channel(ACCEPT_QUEUE);
        let shared = Arc::new_cyclic(|me| Shared {
            me: Weak::clone(me),
            state: Mutex::new(State {
                core: Core::new(params.config, runtime.now()),
                paths: BTreeMap::new(),
                next_path: 0,
                links: BTreeMap::new(),
                exporters: BTreeMap::new(),
                root: None,
                root_is_shared: false,
                next_number: 0,
                after_highest: 0,
                dialling: BTreeMap::new(),
                used: BTreeSet::new(),
                expectations: BTreeMap::new(),
                driver_wakes: None,
            }),
            runtime: Arc::clone(&runtime),
            endpoint: params.endpoint,
            role,
            secret: params.secret,
            call_id: params.call_id,
            local: params.local,
            remote: params.remote,
            accepted,
            driver: Notify::new(),
            received: Notify::new(),
            control: Notify::new(),
            media: Notify::new(),
            events: Notify::new(),
            estimate: watch::Sender::new(None),
        });
        let mut tasks = vec![runtime.spawn_task(drive(Arc::clone(&shared)))];
        if role == Role::Callee {
            shared.expect(&mut shared.lock());
            tasks.push(runtime.spawn_task(take_incoming(Arc::clone(&shared), incoming)));
        }
        Self {
            inner: Arc::new(Inner {
                shared,
                _tasks: tasks,
            }),
        }
    }

    /// Adds a path to the other side at `remote`: the caller dials there until it is removed, the callee lets the
    /// caller in from there. The address is admitted meanwhile. A path that exists is returned as it is.
    ///
    /// # Errors
    /// When there are [`MAX_PATHS`], or too many addresses are admitted.
    pub fn add_path(&self, kind: PathKind, remote: SocketAddr) -> Result<PathId, TableFull> {
        let shared = &self.inner.shared;
        let remote = canonical(remote);
        let mut state = shared.lock();
        let known = state.paths.iter().find(|(_, path)| path.remote == remote);
        if let Some((path, _)) = known {
            return Ok(*path);
        }
        if state.paths.len() >= MAX_PATHS {
            return Err(TableFull);
        }
        let admission = Admission::new(shared.endpoint.mux(), remote)?;
        let id = PathId(state.next_path);
        state.next_path += 1;
        let redial = Arc::new(Notify::new());
        let dial = (shared.role == Role::Caller && state.core.end().is_none()).then(|| {
            let task = dial_path(Arc::clone(shared), id, remote, Arc::clone(&redial));
            shared.runtime.spawn_task(task)
        });
        let path = Path {
            kind,
            remote,
            link: None,
            redial,
            _admission: admission,
            _dial: dial,
        };
        state.paths.insert(id, path);
        Ok(id)
    }

    /// The way under a path changed, although the other side's address there is the same: the caller makes a new
    /// connection at once and leaves the old one when that is up. The callee has nothing to do.
    pub fn renew_path(&self, path: PathId) {
        let state = self.inner.shared.lock();
        if let Some(path) = state.paths.get(&path) {
            path.redial.notify_one();
        }
    }

    /// Gives a path up; its connection is closed.
    pub fn remove_path(&self, path: PathId) {
        let shared = &self.inner.shared;
        let mut state = shared.lock();
        state.paths.remove(&path);
        // Also one that is only listened to any more.
        let links = state.links.iter().filter(|(_, link)| link.path == path);
        for number in links.map(|(number, _)| *number).collect::<Vec<_>>() {
            shared.drop_link(&mut state, number, ConnectionLost::ClosedHere);
        }
        shared.settle(&mut state);
    }

    /// Sends a control message of at most [`MAX_CONTROL_MESSAGE`] bytes; waits while too many are unacknowledged.
    ///
    /// # Errors
    /// When it is too long or the session has ended.
    pub async fn send_control(&self, message: Bytes) -> Result<(), ControlError> {
        let shared = &self.inner.shared;
        wait_on(&shared.control, || {
            let mut state = shared.lock();
            let sent = state.core.send_control(message.clone());
            if sent == Err(ControlError::Full) {
                return None;
            }
            shared.settle(&mut state);
            Some(sent)
        })
        .await
    }

    /// The next control message, once and in order. `None` when the session has ended.
    pub async fn recv_control(&self) -> Option<Bytes> {
        let shared = &self.inner.shared;
        wait_on(&shared.received, || {
            let mut state = shared.lock();
            if let Some(message) = state.core.recv_control() {
                // The acknowledgement wants to go.
                shared.settle(&mut state);
                return Some(Some(message));
            }
            state.core.end().map(|_| None)
        })
        .await
    }

    /// Waits until the other application has taken every control message, or the session has ended. Says which:
    /// `true` when all was taken.
    pub async fn control_delivered(&self) -> bool {
        let shared = &self.inner.shared;
        wait_on(&shared.control, || {
            let state = shared.lock();
            if state.core.control_is_delivered() {
                return Some(true);
            }
            state.core.end().map(|_| false)
        })
        .await
    }

    /// Lets media pass, both ways. Media that came before was dropped.
    ///
    /// # Errors
    /// When the permit is another call's.
    pub fn open_media(&self, permit: MediaPermit) -> Result<(), WrongCall> {
        let MediaPermit { call_id } = permit;
        if call_id != self.inner.shared.call_id {
            return Err(WrongCall);
        }
        self.inner.shared.lock().core.open_media();
        Ok(())
    }

    /// Sends a media packet of at most [`MAX_MEDIA_PAYLOAD`](crate::datagram::MAX_MEDIA_PAYLOAD) bytes. Never
    /// waits: what `expires` before its turn is dropped.
    ///
    /// # Errors
    /// When it cannot be sent at all; counted too.
    pub fn send_media(
        &self,
        flow: u64,
        payload: Bytes,
        priority: Priority,
        expires: Instant,
    ) -> Result<(), SendMediaError> {
        let shared = &self.inner.shared;
        let mut state = shared.lock();
        let now = shared.runtime.now();
        let sent = state.core.send_media(now, flow, payload, priority, expires);
        shared.settle(&mut state);
        sent
    }

    /// What was handed over of a flow and did not leave yet, on the connection that media goes by.
    #[must_use]
    pub fn waiting(&self, flow: u64) -> Waiting {
        let shared = &self.inner.shared;
        shared.lock().core.waiting(shared.runtime.now(), flow)
    }

    /// Takes back what waits of a flow; how many packets that are.
    pub fn withdraw(&self, flow: u64) -> usize {
        self.inner.shared.lock().core.withdraw(flow)
    }

    /// The next media packet, each once. `None` when the session has ended.
    pub async fn recv_media(&self) -> Option<MediaDatagram> {
        let shared = &self.inner.shared;
        wait_on(&shared.media, || {
            let mut state = shared.lock();
            if let Some(packet) = state.core.recv_media() {
                return Some(Some(packet));
            }
            state.core.end().map(|_| None)
        })
        .await
    }

    /// The next event. `None` after [`SessionEvent::Ended`].
    pub async fn next_event(&self) -> Option<SessionEvent> {
        let shared = &self.inner.shared;
        wait_on(&shared.events, || {
            let mut state = shared.lock();
            if let Some(event) = state.core.poll_event() {
                return Some(Some(event));
            }
            state.core.end().map(|_| None)
        })
        .await
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let state = self.inner.shared.lock();
        let mut stats = state.core.stats();
        for (id, path) in &state.paths {
            let Some(stats) = stats.paths.get_mut(id) else {
                continue;
            };
            stats.remote = Some(path.remote);
            let link = path.link.and_then(|link| state.links.get(&link));
            stats.rtt = link.map(|link| link.connection.rtt());
            stats.min_rtt = link.map(|link| link.connection.stats().min_rtt);
        }
        stats
    }

    /// Fates of datagrams sent since the last call, for an estimate of the paths' capacity.
    #[must_use]
    pub fn take_packet_reports(&self) -> Vec<PacketReport> {
        self.inner.shared.lock().core.take_packet_reports()
    }

    /// What the path that media goes by carries, as it changes: what media is to follow. None while there is no
    /// path, or nothing is estimated.
    #[must_use]
    pub fn watch_estimate(&self) -> watch::Receiver<Option<Estimate>> {
        self.inner.shared.estimate.subscribe()
    }

    /// Tells the congestion windows which media rate to carry, in bits per second. For tests: the estimate of each
    /// path does so as soon as there is one.
    pub fn set_media_rate(&self, bits_per_second: u64) {
        for link in self.inner.shared.lock().links.values() {
            link.connection.set_media_rate(bits_per_second);
        }
    }

    /// 32 bytes that only both ends of this session know, from the root connection's exporter. `None` until both
    /// sides know which connection that is.
    #[must_use]
    pub fn exporter(&self, label: &[u8]) -> Option<[u8; 32]> {
        let root = self.inner.shared.lock().root?;
        Some(derive(&root, label))
    }

    /// The bytes behind the safety words; see [`Self::exporter`].
    #[must_use]
    pub fn safety_secret(&self) -> Option<[u8; 32]> {
        self.exporter(SAFETY_LABEL)
    }

    /// How the session ended, if it did.
    #[must_use]
    pub fn end(&self) -> Option<SessionEnd> {
        self.inner.shared.lock().core.end()
    }

    /// Ends the session and tells the other side on every connection.
    pub fn close(&self) {
        self.inner.shared.close();
    }
}

/// Asks `ready` until it answers, each time `notify` was rung.
async fn wait_on<T>(notify: &Notify, mut ready: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut rung = pin!(notify.notified());
        // Registered before asking, so nothing is missed in between.
        rung.as_mut().enable();
        if let Some(answer) = ready() {
            return answer;
        }
        rung.await;
    }
}

fn derive(root: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, root), label);
    let mut output = [0; 32];
    output.copy_from_slice(tag.as_ref());
    output
}

/// Accepts the one device, by the key it proved.
#[derive(Debug)]
struct ExpectedDevice(RemoteDevice);

impl VerifyPeer for ExpectedDevice {
    fn verify(
        &self,
        _pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        let expected = &self.0;
        if noise_static != Some(&expected.noise_static) {
            return Err(Refusal::UnexpectedPeer);
        }
        let certificate =
            DeviceCertificate::from_bytes(credential).map_err(|_unreadable| Refusal::Malformed)?;
        let fields = certificate.fields();
        if fields.device != expected.device
            || fields.user != expected.user
            || fields.noise_static != expected.noise_static
        {
            return Err(Refusal::WrongKey);
        }
        Ok(VerifiedPeer {
            device: Some(expected.device),
            user: Some(expected.user),
            node: None,
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The core's invariants hold between its calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.core.close();
        self.settle(&mut state);
    }

    /// Acts on what a call of the core brought about: notices, and wakes whoever has something to do.
    fn settle(&self, state: &mut State) {
        let now = self.runtime.now();
        while let Some(notice) = state.core.poll_notice() {
            self.notice(state, notice);
        }
        for (number, link) in &state.links {
            if state.core.has_frame(now, *number) {
                link.frames.notify_one();
            }
            if state.core.has_datagram(now, *number) {
                link.datagrams.notify_one();
            }
        }
        self.tell_estimate(state);
        // Cheap: seldom does anybody wait for that.
        self.control.notify_waiters();
        if state.core.has_control() {
            self.received.notify_waiters();
        }
        if state.core.has_media() {
            self.media.notify_waiters();
        }
        if state.core.has_event() {
            self.events.notify_waiters();
        }
        if state.core.end().is_some() {
            self.received.notify_waiters();
            self.media.notify_waiters();
            self.events.notify_waiters();
            self.wind_up(state);
        }
        let next = state.core.poll_timeout(now).map(|(at, _)| at);
        if next.is_none() || state.driver_wakes.is_none_or(|wakes| next < Some(wakes)) {
            self.driver.notify_one();
        }
    }

    /// What a path carries goes to its window, and to whoever follows it.
    fn tell_estimate(&self, state: &State) {
        let estimate = state.core.estimate();
        let news = self.estimate.send_if_modified(|told| {
            let news = *told != estimate;
            *told = estimate;
            news
        });
        if !news {
            return;
        }
        for (number, link) in &state.links {
            if let Some(estimate) = state.core.estimate_of(*number) {
                link.connection.set_media_rate(estimate.capacity_bps);
            }
        }
    }

    /// The session is over: closes what is open.
    fn wind_up(&self, state: &mut State) {
        state.expectations.clear();
        state.paths.clear();
        while let Some((_, link)) = state.links.pop_first() {
            link.connection.close(CloseCode::SessionOver, "");
        }
    }

    fn notice(&self, state: &mut State, notice: Notice) {
        match (notice, self.role) {
            (Notice::Retired(number), _) => {
                if let Some(link) = state.links.get(&number) {
                    link.retire.notify_one();
                }
            }
            (Notice::Confirmed(number), Role::Caller) => {
                if state.root.is_none()
                    && let Some(root) = state.exporters.get(&number)
                {
                    state.root = Some(*root);
                    state.core.set_root(number);
                    // The callee soon expects nothing without the root any more: what is on its way goes again.
                    for path in state.paths.values().filter(|path| path.link.is_none()) {
                        path.redial.notify_one();
                    }
                }
            }
            (Notice::Root(number), Role::Callee) => {
                if state.root.is_none() {
                    state.root = state.exporters.get(&number).copied();
                    self.expect(state);
                }
            }
            // Only the caller names a root; the callee knows that its connections live.
            (Notice::Confirmed(_), Role::Callee) | (Notice::Root(_), Role::Caller) => {}
        }
    }

    fn handshake(&self, number: u32, root: Option<&[u8; 32]>) -> PeerHandshake {
        let psk_root = root.map(|root| derive(root, PSK_LABEL));
        let mut context = self.call_id.to_vec();
        context.extend_from_slice(&number.to_be_bytes());
        PeerHandshake {
            local_static: self.local.keys.noise_static().clone(),
            credential: self.local.certificate.as_bytes().to_vec(),
            context,
            verifier: Arc::new(ExpectedDevice(self.remote)),
            secrets: PeerSecrets::derive(self.secret.as_bytes(), number, psk_root.as_ref()),
        }
    }

    /// Callee: brings the numbers that are waited for up to date.
    fn expect(&self, state: &mut State) {
        let from = state.after_highest.saturating_sub(NUMBER_WINDOW);
        let with_root = state.root.is_some();
        let wanted: Vec<u32> = (from..state.after_highest.saturating_add(NUMBER_WINDOW))
            .filter(|number| !state.used.contains(number) && (*number > 0 || !with_root))
            .collect();
        state
            .expectations
            .retain(|(number, root), _| *root == with_root && wanted.contains(number));
        state.used.retain(|number| *number >= from);
        for number in wanted {
            if state.expectations.contains_key(&(number, with_root)) {
                continue;
            }
            let shared = Weak::clone(&self.me);
            let expected = ExpectedPeer {
                number,
                handshake: self.handshake(number, state.root.as_ref()),
                source: Arc::new(move |from| {
                    shared
                        .upgrade()
                        .is_some_and(|shared| shared.path_to(from).is_some())
                }),
                accepted: self.accepted.clone(),
            };
            match self.endpoint.expect_peer(expected) {
                Ok(expectation) => {
                    state.expectations.insert((number, with_root), expectation);
                }
                Err(TableFull) => {
                    tracing::warn!("too many calls at once to wait for another connection");
                    return;
                }
            }
        }
    }

    fn path_to(&self, remote: SocketAddr) -> Option<PathId> {
        let state = self.lock();
        let mut paths = state.paths.iter();
        paths
            .find(|(_, path)| path.remote == remote)
            .map(|(id, _)| *id)
    }

    /// Caller: number and keys of the next attempt, the `attempt`th on its path.
    fn next_dial(&self, attempt: u32) -> (u32, PeerHandshake) {
        let mut state = self.lock();
        let window = state.after_highest..state.after_highest.saturating_add(NUMBER_WINDOW);
        let mut number = state.next_number;
        // There are fewer paths than would fill two windows; a number in use twice would only cost an attempt.
        for _ in 0..NUMBER_WINDOW {
            if !window.contains(&number) {
                number = window.start;
            }
            if !state.dialling.contains_key(&number) {
                break;
            }
            number += 1;
        }
        state.next_number = number.saturating_add(1);
        // The callee may or may not have been told the root.
        let with_root = number > 0 && (state.root_is_shared || attempt.is_multiple_of(2));
        let root = state.root.filter(|_| with_root);
        state.dialling.insert(number, root.is_some());
        (number, self.handshake(number, root.as_ref()))
    }

    fn dial_failed(&self, number: u32) {
        self.lock().dialling.remove(&number);
    }

    /// A connection is complete.
    fn link_up(self: &Arc<Self>, number: u32, path: PathId, connection: Connection) {
        let mut state = self.lock();
        let now = self.runtime.now();
        let with_root = state.dialling.remove(&number);
        let known = state.paths.get(&path).map(|path| (path.kind, path.link));
        let Some((kind, old)) = known.filter(|_| state.core.end().is_none()) else {
            connection.close(CloseCode::Replaced, "the path is gone");
            return;
        };
        state.root_is_shared |= with_root == Some(true);
        state.after_highest = state.after_highest.max(number.saturating_add(1));
        state.used.insert(number);
        state
            .exporters
            .insert(number, connection.exporter(ROOT_LABEL, &self.call_id));
        if state.exporters.len() > MAX_EXPORTERS {
            state.exporters.pop_first();
        }
        state
            .core
            .link_up(now, number, path, kind, connection.rtt());
        if let Some(path) = state.paths.get_mut(&path) {
            path.link = Some(number);
        }
        let frames = Arc::new(Notify::new());
        let datagrams = Arc::new(Notify::new());
        let retire = Arc::new(Notify::new());
        let task = run_link(
            Arc::clone(self),
            number,
            connection.clone(),
            Arc::clone(&frames),
            Arc::clone(&datagrams),
            Arc::clone(&retire),
        );
        let link = Link {
            connection,
            path,
            frames,
            datagrams,
            retire,
            _task: self.runtime.spawn_task(task),
        };
        state.links.insert(number, link);
        if let Some(old) = old {
            self.hand_over(&mut state, old, number);
        }
        if self.role == Role::Callee {
            self.expect(&mut state);
        }
        self.settle(&mut state);
    }

    /// Sends nothing by a connection any more whose path has `heir` on both sides, and listens for what is under way.
    /// Closed at once, it would lose what the other side sent in the last half of a round trip: pictures stand still for it.
    fn hand_over(&self, state: &mut State, number: u32, heir: u32) {
        let now = self.runtime.now();
        let still_heard = state.core.link_replaced(now, number, heir);
        let Some(link) = state.links.get(&number).filter(|_| still_heard) else {
            return self.drop_link(state, number, ConnectionLost::ClosedHere);
        };
        let path = link.path;
        // One before it has had its time.
        let mut before = state.links.range(..number);
        let before = before.find(|(_, link)| link.path == path);
        if let Some(before) = before.map(|(before, _)| *before) {
            self.drop_link(state, before, ConnectionLost::ClosedHere);
        }
    }

    /// Forgets a connection, and closes it if it still lives.
    fn drop_link(&self, state: &mut State, number: u32, reason: ConnectionLost) {
        let Some(link) = state.links.remove(&number) else {
            return;
        };
        if let Some(path) = state.paths.get_mut(&link.path)
            && path.link == Some(number)
        {
            // Where it never came to its inheritance, the one before it still has it.
            let mut others = state.links.iter();
            let before = others
                .rfind(|(other, before)| before.path == link.path && state.core.has_link(**other));
            path.link = before.map(|(before, _)| *before);
        }
        link.connection.close(CloseCode::Replaced, "");
        state.core.link_down(self.runtime.now(), number, reason);
    }
}

/// Keeps the core's time.
async fn drive(shared: Arc<Shared>) {
    loop {
        let wakes = {
            let mut state = shared.lock();
            state.core.handle_timeout(shared.runtime.now());
            // So that settling does not ring for the driver itself.
            state.driver_wakes = Some(shared.runtime.now());
            shared.settle(&mut state);
            let wakes = state.core.poll_timeout(shared.runtime.now());
            state.driver_wakes = wakes.map(|(at, _)| at);
            wakes
        };
        let Some((at, reason)) = wakes else {
            return;
        };
        tracing::trace!(?reason, "session waits");
        tokio::select! {
            biased;
            () = shared.driver.notified() => {}
            () = shared.runtime.sleep_until(at) => {}
        }
    }
}

/// Caller: keeps a connection on one path.
async fn dial_path(shared: Arc<Shared>, path: PathId, remote: SocketAddr, redial: Arc<Notify>) {
    let mut attempt = 0;
    let mut wait = REDIAL_AFTER;
    let mut living: Option<Connection> = None;
    loop {
        let (number, handshake) = shared.next_dial(attempt);
        let dial = shared
            .endpoint
            .connect_peer(remote, shared.remote.noise_static, handshake);
        let dialled = tokio::select! {
            biased;
            dialled = timeout(&*shared.runtime, DIAL_TIMEOUT, dial) => dialled,
            // What left may have gone the old way.
            () = redial.notified() => {
                shared.dial_failed(number);
                wait = REDIAL_AFTER;
                continue;
            }
        };
        match dialled {
            Some(Ok(connection)) => {
                attempt = 0;
                wait = REDIAL_AFTER;
                shared.link_up(number, path, connection.clone());
                living = Some(connection);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, number, "a path does not come up");
                shared.dial_failed(number);
                attempt += 1;
            }
            None => {
                shared.dial_failed(number);
                attempt += 1;
            }
        }
        if let Some(connection) = &living {
            tokio::select! {
                biased;
                _reason = connection.closed() => living = None,
                () = redial.notified() => continue,
            }
        }
        tokio::select! {
            biased;
            () = redial.notified() => wait = REDIAL_AFTER,
            () = shared.runtime.sleep(wait) => wait = (wait * 2).min(REDIAL_AFTER_MAX),
        }
    }
}

/// Callee: takes connections as they come in.
async fn take_incoming(shared: Arc<Shared>, mut incoming: mpsc::Receiver<AcceptedPeer>) {
    while let Some(AcceptedPeer { number, connection }) = incoming.recv().await {
        match shared.path_to(connection.remote_address()) {
            Some(path) => shared.link_up(number, path, connection),
            None => connection.close(CloseCode::Replaced, "the path is gone"),
        }
    }
}

/// Carries bytes between one connection and the core until the connection is gone.
async fn run_link(
    shared: Arc<Shared>,
    number: u32,
    connection: Connection,
    frames: Arc<Notify>,
    datagrams: Arc<Notify>,
    retire: Arc<Notify>,
) {
    let retired = async {
        retire.notified().await;
        let wait = (3 * connection.rtt()).clamp(RETIRED_AT_LEAST, RETIRED_AT_MOST);
        shared.runtime.sleep(wait).await;
        LinkEnded::Lost(ConnectionLost::ClosedHere)
    };
    let control = async {
        let opened = match shared.role {
            Role::Caller => connection.open_bi().await,
            Role::Callee => connection.accept_bi().await,
        };
        let (sender, receiver) = match opened {
            Ok(stream) => stream,
            Err(reason) => return LinkEnded::Lost(reason),
        };
        tokio::select! {
            biased;
            ended = read_frames(&shared, number, receiver) => ended,
            ended = write_frames(&shared, number, sender, &frames) => ended,
        }
    };
    let ended = tokio::select! {
        biased;
        ended = recv_datagrams(&shared, number, &connection) => ended,
        ended = send_datagrams(&shared, number, &connection, &datagrams) => ended,
        ended = control => ended,
        ended = retired => ended,
    };
    let reason = match ended {
        LinkEnded::Lost(reason) => reason,
        LinkEnded::Violation => {
            connection.close(CloseCode::ProtocolViolation, "");
            ConnectionLost::ClosedHere
        }
    };
    let mut state = shared.lock();
    shared.drop_link(&mut state, number, reason);
    shared.settle(&mut state);
}

/// Why a connection's task stopped.
enum LinkEnded {
    Lost(ConnectionLost),
    Violation,
}

async fn read_frames(shared: &Shared, number: u32, mut receiver: MessageReceiver) -> LinkEnded {
    loop {
        let frame = match receiver.recv(wire::MAX_FRAME).await {
            Ok(Some(frame)) => frame,
            // The control stream lives as long as its connection.
            Ok(None) | Err(RecvError::Cut | RecvError::TooLong) => return LinkEnded::Violation,
            Err(RecvError::Lost(reason)) => return LinkEnded::Lost(reason),
        };
        let mut state = shared.lock();
        let now = shared.runtime.now();
        if state.core.handle_frame(now, number, &frame).is_err() {
            return LinkEnded::Violation;
        }
        shared.settle(&mut state);
    }
}

async fn write_frames(
    shared: &Shared,
    number: u32,
    mut sender: MessageSender,
    ready: &Notify,
) -> LinkEnded {
    loop {
        let frame = shared.lock().core.poll_frame(shared.runtime.now(), number);
        let Some(frame) = frame else {
            ready.notified().await;
            continue;
        };
        match sender.send(&frame).await {
            Ok(()) => {}
            Err(SendError::Lost(reason)) => return LinkEnded::Lost(reason),
            Err(
                SendError::Stopped
                | SendError::TooLong
                | SendError::Finished
                | SendError::Unsupported,
            ) => return LinkEnded::Violation,
        }
    }
}

async fn recv_datagrams(shared: &Shared, number: u32, connection: &Connection) -> LinkEnded {
    loop {
        let datagram = match connection.recv_datagram().await {
            Ok(datagram) => datagram,
            Err(reason) => return LinkEnded::Lost(reason),
        };
        let mut state = shared.lock();
        let now = shared.runtime.now();
        state.core.handle_datagram(now, number, &datagram);
        shared.settle(&mut state);
    }
}

async fn send_datagrams(
    shared: &Shared,
    number: u32,
    connection: &Connection,
    ready: &Notify,
) -> LinkEnded {
    loop {
        let (next, due) = {
            let mut state = shared.lock();
            let now = shared.runtime.now();
            let next = state.core.poll_datagram(now, number);
            let due = state.core.datagram_due(now, number);
            (next, due)
        };
        let Some(Outgoing {
            bytes,
            expires,
            share,
        }) = next
        else {
            let paced = async {
                match due {
                    Some(due) => shared.runtime.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = ready.notified() => {}
                () = paced => {}
            }
            continue;
        };
        let sent = if connection.datagram_room() >= bytes.len() {
            connection.send_datagram(bytes)
        } else {
            tokio::select! {
                biased;
                sent = connection.send_datagram_wait(bytes) => sent,
                () = shared.runtime.sleep_until(expires) => {
                    shared.lock().core.withdrawn(share);
                    Ok(())
                }
            }
        };
        match sent {
            // The format's bounds are below QUIC's.
            Ok(()) | Err(SendError::TooLong) => {}
            Err(SendError::Lost(reason)) => return LinkEnded::Lost(reason),
            Err(SendError::Stopped | SendError::Finished | SendError::Unsupported) => {
                return LinkEnded::Violation;
            }
        }
    }
}
