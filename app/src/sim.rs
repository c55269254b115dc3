//! The simulated world: virtual time, virtual machines and a virtual network for the shipped code.
//!
//! A [`World`] holds nodes. Each node has a [`SimRuntime`], and everything that takes its clock, timers,
//! tasks, randomness and sockets from it runs here unchanged. One thread polls all tasks of all nodes; when
//! none is ready, the clock jumps to the next event, so ten minutes of a call take about a second. The same
//! seed gives the same packets, byte by byte.
//!
//! ```
//! use std::time::Duration;
//! use ahoy::sim::{Conditions, World};
//! use ahoy_transport::runtime::{Runtime, RuntimeExt};
//!
//! let world = World::new(7);
//! let alice = world.add_node("alice", &["10.0.0.1".parse().unwrap()]);
//! let bob = world.add_node("bob", &["10.0.0.2".parse().unwrap()]);
//! world.set_link(alice, Conditions::with_delay(Duration::from_millis(20)));
//! let runtime = world.runtime(alice);
//! let slept = world
//!     .block_on(alice, async move {
//!         runtime.sleep(Duration::from_secs(3600)).await;
//!         runtime.elapsed()
//!     })
//!     .unwrap();
//! assert_eq!(slept, Duration::from_secs(3600));
//! # let _ = bob;
//! ```
//!
//! People sit behind address translators: [`World::add_site`] makes a node and whatever stands between it and
//! the internet by a name such as `symmetric` or `cgnat`; [`World::add_nat`], [`World::add_nat_behind`] and
//! [`World::add_node_behind`] build any other house. What happens to them is a [`Fault`], now
//! ([`World::apply`]) or later ([`World::at`]):
//!
//! | what happened | fault |
//! |---|---|
//! | the direct path is cut, the relay still works | [`Fault::Partition`] of the two, ended by [`Fault::Mend`] |
//! | one direction only | [`Fault::BlackHole`], [`Fault::EndBlackHole`] |
//! | the cable is pulled out | [`Fault::LinkDown`], [`Fault::LinkUp`] |
//! | the line is dead and nobody tells | [`Fault::UpstreamDown`], [`Fault::UpstreamUp`] |
//! | the router rebooted, its bindings are gone | [`Fault::NatReboot`], or [`Fault::NatDown`] and [`Fault::NatUp`] |
//! | the provider gave the router another address | [`Fault::NatAddresses`] |
//! | another address, same network | [`Fault::Addresses`] |
//! | from Wi-Fi to the telephone network | [`World::move_site`] or [`Fault::Attach`] |
//! | UDP is blocked from now on, or no longer | [`Fault::NatConfig`] with `udp_blocked` |
//! | the laptop sleeps | [`Fault::Suspend`], [`Fault::Resume`] |
//! | the supernode dies, comes back | [`Fault::Kill`], [`Fault::Restart`] |
//!
//! ```
//! use ahoy::sim::{Fault, NatKind, World};
//!
//! let world = World::new(7);
//! let alice = world.add_site("alice", NatKind::Port, 1);
//! let bob = world.add_site("bob", NatKind::CgnatSym, 2);
//! // Bob's phone leaves the Wi-Fi of his flat for Alice's.
//! let guest = vec!["192.168.1.77".parse().unwrap()];
//! world.at(world.elapsed(), Fault::Attach { node: bob.node, behind: alice.router(), addresses: guest });
//! ```
//!
//! Interfaces that change ring [`Runtime::network_changes`](ahoy_transport::runtime::Runtime::network_changes).
//! A fault must not come from within a task of the node that it kills: use [`World::at`] there.
//!
//! Code in the simulation must not use tokio's timers, tasks or sockets, real clocks or operating system
//! randomness, and must not let the order of a hash map decide anything. `tokio::sync` is fine, as long as
//! the world does not itself run inside a tokio runtime: that would bring its cooperation budget with it.

mod executor;
mod link;
mod nat;
mod network;
mod runtime;
mod site;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use executor::{Executor, SimTask, lock};
use network::{Hop, Network, Packet};

pub use link::{Conditions, DEFAULT_MTU_BYTES, Loss, Policer, Rate};
pub use nat::{
    DEFAULT_BINDING_TIMEOUT, DEFAULT_MAX_BINDINGS, Dependence, NatConfig, NatKind, NatStats,
    PortAllocation, SimNat,
};
pub use network::{
    DropReason, Fault, LinkId, NetworkStats, PacketEvent, RECEIVE_QUEUE_BYTES, SimNode, TraceHash,
};
pub use runtime::{EPOCH_MILLIS, SimRuntime};
pub use site::Site;

/// What a core of a laptop does, in round numbers: see [`World::set_hash_rate`].
const HASHES_PER_SECOND: u64 = 5_000_000;

/// What is due at some time.
enum Event {
    Wake(Waker),
    /// The packet in front of a link's queue has been sent.
    Served(LinkId),
    Arrived(Hop, Packet),
    Fault(Fault),
    Call(Box<dyn FnOnce(&World) + Send>),
}

/// What all handles of a world share.
struct Shared {
    seed: u64,
    executor: Executor,
    network: Mutex<Network>,
    /// What a core does, see [`World::set_hash_rate`].
    hashes_per_second: AtomicU64,
    worked: Mutex<BTreeMap<SimNode, Worked>>,
}

/// What a node took of its processor by [`work`](ahoy_transport::runtime::Runtime::work).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worked {
    /// Hashes of one block.
    pub hashes: u64,
    /// Jobs that ran beside each other at most.
    pub most_at_once: usize,
    at_once: usize,
}

type Observer = Box<dyn FnMut(&PacketEvent) + Send>;
type Boot = Box<dyn FnMut(Arc<SimRuntime>) + Send>;

/// When a run gives up, so that a defect ends a test instead of hanging it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Virtual time that one [`World::block_on`] may take.
    pub time: Duration,
    /// Polls and events of one run, in all.
    pub steps: u64,
    /// Polls and events at one instant of one run: more is a loop that never waits.
    pub steps_per_instant: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Longer than any scenario, and still seconds to minutes of real time.
            time: Duration::from_secs(2 * 3600),
            // Hours of a busy call: some 10^5 steps a minute.
            steps: 1_000_000_000,
            steps_per_instant: 1_000_000,
        }
    }
}

/// Why a run stopped before it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// No task is ready and no event is due: nothing will ever happen again.
    #[error("deadlock after {at:?} (seed {seed}): no task is ready and no timer is set; {waiting}")]
    Deadlock {
        /// The seed of the world.
        seed: u64,
        /// Time since the world began.
        at: Duration,
        /// How many tasks of which nodes wait for ever.
        waiting: String,
    },
    /// The time allowed to the run is over.
    #[error("not done after {at:?} of virtual time (seed {seed}); {waiting}")]
    TimeUp {
        /// The seed of the world.
        seed: u64,
        /// Time since the world began.
        at: Duration,
        /// How many tasks of which nodes are alive.
        waiting: String,
    },
    /// Too much happened without the clock moving.
    #[error("busy loop after {at:?} (seed {seed}): {steps} steps and the clock stands still")]
    BusyLoop {
        /// The seed of the world.
        seed: u64,
        /// Time since the world began.
        at: Duration,
        /// Polls and events at this instant.
        steps: u64,
    },
    /// Too much happened in one run.
    #[error("gave up after {at:?} (seed {seed}) and {steps} steps")]
    TooManySteps {
        /// The seed of the world.
        seed: u64,
        /// Time since the world began.
        at: Duration,
        /// Polls and events of this run.
        steps: u64,
    },
    /// The node on which [`World::block_on`] ran was killed.
    #[error("node {node} was killed after {at:?} (seed {seed}) while something waited on it")]
    NodeKilled {
        /// The seed of the world.
        seed: u64,
        /// Time since the world began.
        at: Duration,
        /// The name of the node.
        node: String,
    },
}

/// A simulated world. It lives on one thread; dropping it ends everything in it.
///
/// A panic in the simulation prints the seed on its way out.
pub struct World {
    shared: Arc<Shared>,
    limits: Mutex<Limits>,
    observers: Mutex<Vec<Observer>>,
    boots: Mutex<BTreeMap<SimNode, Boot>>,
}

impl World {
    /// An empty world. All its randomness comes from `seed`.
    ///
    /// # Panics
    /// Inside a tokio runtime, whose cooperation budget would stall tasks for no reason visible here.
    pub fn new(seed: u64) -> Self {
        assert!(
            tokio::runtime::Handle::try_current().is_err(),
            "a simulated world must not run inside a tokio runtime"
        );
        Self {
            shared: Arc::new(Shared {
                seed,
                executor: Executor::new(),
                network: Mutex::new(Network::new(seed)),
                hashes_per_second: AtomicU64::new(HASHES_PER_SECOND),
                worked: Mutex::default(),
            }),
            limits: Mutex::default(),
            observers: Mutex::default(),
            boots: Mutex::default(),
        }
    }

    /// The seed of this world.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.shared.executor.elapsed()
    }

    /// Replaces the limits of later runs.
    pub fn set_limits(&self, limits: Limits) {
        *lock(&self.limits) = limits;
    }

    // Nodes.

    /// Adds a running node with an ideal link. `addresses` does not name loopback, which every node has.
    ///
    /// # Panics
    /// If another node has one of the addresses.
    pub fn add_node(&self, name: &str, addresses: &[IpAddr]) -> SimNode {
        lock(&self.shared.network).add_node(name, None, addresses)
    }

    /// The runtime of the node's present life. Every call returns a handle to the same stream of randomness.
    pub fn runtime(&self, node: SimNode) -> Arc<SimRuntime> {
        Arc::new(SimRuntime::new(&self.shared, node))
    }

    /// How far the node's wall clock is ahead (or, negative, behind). Holds for runtimes taken afterwards.
    pub fn set_clock_offset_millis(&self, node: SimNode, offset_millis: i64) {
        lock(&self.shared.network)
            .node_mut(node)
            .clock_offset_millis = offset_millis;
    }

    /// What the node runs whenever it is restarted. It is not run now.
    pub fn set_boot(&self, node: SimNode, boot: impl FnMut(Arc<SimRuntime>) + Send + 'static) {
        lock(&self.boots).insert(node, Box::new(boot));
    }

    /// Ends the node at once: its sockets are gone, its tasks dropped, and nothing they do in dropping gets
    /// out. Does nothing to a dead node.
    pub fn kill(&self, node: SimNode) {
        let inboxes = lock(&self.shared.network).kill(node);
        drop(inboxes);
        // The dead have nothing to wake up for.
        self.shared.executor.unpark(node);
        // Dropping a future may wake others, or spawn: a dead node spawns nothing, so one pass is enough.
        for future in self.shared.executor.take_tasks(node) {
            drop(future);
        }
        self.notify_observers();
    }

    /// Starts a dead node again, runs its boot program if it has one, and returns the new runtime. A living
    /// node is killed first.
    pub fn restart(&self, node: SimNode) -> Arc<SimRuntime> {
        self.kill(node);
        lock(&self.shared.network).restart(node);
        let runtime = self.runtime(node);
        let boot = lock(&self.boots).remove(&node);
        if let Some(mut boot) = boot {
            boot(Arc::clone(&runtime));
            // Unless the program set another one.
            lock(&self.boots).entry(node).or_insert(boot);
        }
        runtime
    }

    /// Whether the node has not been killed, or was restarted since.
    pub fn is_alive(&self, node: SimNode) -> bool {
        lock(&self.shared.network).node(node).alive
    }

    fn is_asleep(&self, node: SimNode) -> bool {
        lock(&self.shared.network).is_asleep(node)
    }

    /// How many tasks of the node have not ended.
    pub fn task_count(&self, node: SimNode) -> usize {
        self.shared.executor.task_count(node)
    }

    // The network.

    /// How many hashes of one block a core of each node does in a second, from now on: what
    /// [`work`](ahoy_transport::runtime::Runtime::work) takes. At first some million, as a laptop does.
    pub fn set_hash_rate(&self, per_second: u64) {
        self.shared
            .hashes_per_second
            .store(per_second, Ordering::Relaxed);
    }

    /// What a node has taken of its processor for jobs so far.
    pub fn worked(&self, node: SimNode) -> Worked {
        lock(&self.shared.worked)
            .get(&node)
            .copied()
            .unwrap_or_default()
    }

    /// Sets the same conditions for both directions of a node's link. Each direction has the whole delay, so
    /// two nodes with 20 ms each see a round trip of 80 ms.
    pub fn set_link(&self, node: SimNode, conditions: Conditions) {
        self.set_conditions(LinkId::Uplink(node), conditions.clone());
        self.set_conditions(LinkId::Downlink(node), conditions);
    }

    /// Sets the conditions of one direction of a link, now.
    pub fn set_conditions(&self, link: LinkId, conditions: Conditions) {
        lock(&self.shared.network).set_conditions(&self.shared.executor, link, conditions);
    }

    /// The conditions of one direction of a link; none for a pair without an override.
    pub fn conditions(&self, link: LinkId) -> Option<Conditions> {
        lock(&self.shared.network).conditions(link).cloned()
    }

    /// Bytes of whole IP packets that wait for the rate of a link direction.
    pub fn queued_bytes(&self, link: LinkId) -> usize {
        lock(&self.shared.network).queued_bytes(link)
    }

    /// Lets `fault` happen now.
    pub fn apply(&self, fault: Fault) {
        self.change(fault);
        self.ring();
    }

    fn change(&self, fault: Fault) {
        let mut network = lock(&self.shared.network);
        let executor = &self.shared.executor;
        match fault {
            Fault::LinkDown(node) => network.set_link_up(node, false),
            Fault::LinkUp(node) => network.set_link_up(node, true),
            Fault::Kill(node) => {
                drop(network);
                self.kill(node);
            }
            Fault::Restart(node) => {
                drop(network);
                self.restart(node);
            }
            Fault::BlackHole { from, to } => network.block(from, to),
            Fault::EndBlackHole { from, to } => network.unblock(from, to),
            Fault::Partition { left, right } => {
                for a in left {
                    for b in &right {
                        network.block(a, *b);
                        network.block(*b, a);
                    }
                }
            }
            Fault::Mend { left, right } => {
                for a in left {
                    for b in &right {
                        network.unblock(a, *b);
                        network.unblock(*b, a);
                    }
                }
            }
            Fault::Heal => network.heal(),
            Fault::UpstreamDown(node) => network.set_upstream_up(node, false),
            Fault::UpstreamUp(node) => network.set_upstream_up(node, true),
            Fault::Conditions { link, conditions } => {
                network.set_conditions(executor, link, conditions);
            }
            Fault::Rate { link, rate } => {
                let conditions = Conditions {
                    rate,
                    ..network.conditions(link).cloned().unwrap_or_default()
                };
                network.set_conditions(executor, link, conditions);
            }
            Fault::Suspend(node) => network.suspend(executor.elapsed(), node),
            Fault::Resume(node) => {
                network.resume(executor.elapsed(), node);
                executor.unpark(node);
            }
            Fault::Addresses { node, addresses } => network.set_addresses(node, addresses),
            Fault::Attach {
                node,
                behind,
                addresses,
            } => network.attach(node, behind, addresses),
            Fault::NatReboot(nat) => {
                let router = network.nat_mut(nat);
                router.set_up(false);
                router.set_up(true);
            }
            Fault::NatDown(nat) => network.nat_mut(nat).set_up(false),
            Fault::NatUp(nat) => network.nat_mut(nat).set_up(true),
            Fault::NatConfig { nat, config } => network.nat_mut(nat).set_config(config),
            Fault::NatAddresses { nat, addresses } => network.set_nat_addresses(nat, addresses),
        }
    }

    /// Tells nodes whose networks have changed.
    fn ring(&self) {
        let bells = lock(&self.shared.network).take_bells();
        for bell in bells {
            bell.send_modify(|rings| *rings += 1);
        }
    }

    /// Lets `fault` happen at `at`, counted from the beginning of the world, or now if that has passed.
    pub fn at(&self, at: Duration, fault: Fault) {
        self.shared.executor.schedule(at, Event::Fault(fault));
    }

    /// Calls `action` at `at`, counted from the beginning of the world, or now if that has passed.
    pub fn call_at(&self, at: Duration, action: impl FnOnce(&Self) + Send + 'static) {
        self.shared
            .executor
            .schedule(at, Event::Call(Box::new(action)));
    }

    /// Plays a recorded trace on one direction of a link: each entry holds from its time on, counted from now.
    pub fn play(&self, link: LinkId, trace: impl IntoIterator<Item = (Duration, Conditions)>) {
        let start = self.elapsed();
        for (at, conditions) in trace {
            self.at(start + at, Fault::Conditions { link, conditions });
        }
    }

    /// Shows every packet that arrives or is dropped to `observer`, after the fact and in order.
    pub fn observe(&self, observer: impl FnMut(&PacketEvent) + Send + 'static) {
        lock(&self.shared.network).observed = true;
        lock(&self.observers).push(Box::new(observer));
    }

    /// Shows the packets from and to `node` to `observer`.
    pub fn observe_node(
        &self,
        node: SimNode,
        mut observer: impl FnMut(&PacketEvent) + Send + 'static,
    ) {
        self.observe(move |packet| {
            if packet.from == node || packet.to == Some(node) {
                observer(packet);
            }
        });
    }

    /// Counters of the whole network.
    pub fn stats(&self) -> NetworkStats {
        lock(&self.shared.network).stats().clone()
    }

    /// Counters of one node: what it sent, what became of that, and what reached it.
    pub fn node_stats(&self, node: SimNode) -> NetworkStats {
        lock(&self.shared.network).node_stats(node).clone()
    }

    /// A digest of all that has happened on the network so far.
    pub fn trace_hash(&self) -> TraceHash {
        lock(&self.shared.network).trace_hash()
    }

    // Running.

    /// Starts `future` on `node`. Its result comes by the returned receiver, which reports an error when the
    /// node is killed first. Dropping the receiver does not stop the future.
    pub fn spawn<T: Send + 'static>(
        &self,
        node: SimNode,
        future: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        if self.is_alive(node) {
            let task = Box::pin(async move {
                // Nobody has to be interested in the result.
                drop(sender.send(future.await));
            });
            self.shared.executor.spawn(node, task);
        }
        receiver
    }

    /// Runs the world until `future` is done, as a task of `node`.
    ///
    /// # Errors
    /// When it can never be done, the limits are exceeded, or the node is killed.
    pub fn block_on<F: Future>(&self, node: SimNode, future: F) -> Result<F::Output, SimError> {
        let mut future = pin!(future);
        let root = self.shared.executor.new_root(node);
        let waker = Waker::from(Arc::clone(&root));
        let incarnation = lock(&self.shared.network).node(node).incarnation;
        waker.wake_by_ref();

        let mut run = self.begin_run();
        let deadline = self.elapsed().saturating_add(run.limits.time);
        loop {
            while let Some(task) = self.shared.executor.next_ready() {
                run.step(self)?;
                if self.is_asleep(task.node()) {
                    self.shared.executor.park(task);
                    continue;
                }
                if !Arc::ptr_eq(&task, &root) {
                    self.poll(&task);
                    continue;
                }
                root.begin_poll();
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                self.notify_observers();
                if let Poll::Ready(output) = polled {
                    return Ok(output);
                }
            }
            if !lock(&self.shared.network).is_running(node, incarnation) {
                return Err(self.node_killed(node));
            }
            self.advance(&mut run, deadline)?;
        }
    }

    /// Runs the world until `condition` holds. It is asked whenever no task is ready, before the next event.
    ///
    /// # Errors
    /// When it does not hold after `limit` of virtual time, can never hold, or the limits are exceeded.
    pub fn run_until(
        &self,
        limit: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<(), SimError> {
        let mut run = self.begin_run();
        let deadline = self.elapsed().saturating_add(limit);
        loop {
            self.run_ready(&mut run)?;
            if condition() {
                return Ok(());
            }
            self.advance(&mut run, deadline)?;
        }
    }

    /// Runs the world for exactly this long. It is no error if nothing happens.
    ///
    /// # Errors
    /// When the limits are exceeded.
    pub fn run_for(&self, duration: Duration) -> Result<(), SimError> {
        let mut run = self.begin_run();
        let end = self.elapsed().saturating_add(duration);
        loop {
            self.run_ready(&mut run)?;
            match self.shared.executor.next_event_at() {
                Some(at) if at <= end => self.advance(&mut run, end)?,
                Some(_) | None => {
                    self.shared.executor.advance(end);
                    return Ok(());
                }
            }
        }
    }

    fn begin_run(&self) -> Run {
        Run {
            limits: *lock(&self.limits),
            steps: 0,
            instant: self.elapsed(),
            steps_at_instant: 0,
        }
    }

    fn run_ready(&self, run: &mut Run) -> Result<(), SimError> {
        while let Some(task) = self.shared.executor.next_ready() {
            run.step(self)?;
            if self.is_asleep(task.node()) {
                self.shared.executor.park(task);
                continue;
            }
            self.poll(&task);
        }
        Ok(())
    }

    fn poll(&self, task: &Arc<SimTask>) {
        self.shared.executor.poll(task);
        self.notify_observers();
    }

    /// Goes to the next event, if it is due by `deadline`, and lets it happen.
    fn advance(&self, run: &mut Run, deadline: Duration) -> Result<(), SimError> {
        let executor = &self.shared.executor;
        match executor.next_event_at() {
            None => {
                return Err(SimError::Deadlock {
                    seed: self.seed(),
                    at: self.elapsed(),
                    waiting: self.waiting(),
                });
            }
            Some(at) if at > deadline => {
                executor.advance(deadline);
                return Err(SimError::TimeUp {
                    seed: self.seed(),
                    at: self.elapsed(),
                    waiting: self.waiting(),
                });
            }
            Some(_) => {}
        }
        if let Some(event) = executor.take_event() {
            run.step(self)?;
            self.happen(event);
            self.notify_observers();
        }
        Ok(())
    }

    fn happen(&self, event: Event) {
        let executor = &self.shared.executor;
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Served(link) => lock(&self.shared.network).served(executor, link),
            Event::Arrived(hop, packet) => {
                let waker = lock(&self.shared.network).arrived(executor, &hop, packet);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Event::Fault(fault) => {
                tracing::debug!(?fault, at = ?self.elapsed(), "simulated fault");
                self.apply(fault);
            }
            Event::Call(action) => action(self),
        }
    }

    fn notify_observers(&self) {
        let ended = {
            let mut network = lock(&self.shared.network);
            if !network.observed {
                return;
            }
            network.take_ended()
        };
        if ended.is_empty() {
            return;
        }
        let mut observers = lock(&self.observers);
        for packet in &ended {
            for observer in observers.iter_mut() {
                observer(packet);
            }
        }
    }

    fn node_killed(&self, node: SimNode) -> SimError {
        SimError::NodeKilled {
            seed: self.seed(),
            at: self.elapsed(),
            node: lock(&self.shared.network).node(node).name.clone(),
        }
    }

    /// Which nodes have tasks, for an error message.
    fn waiting(&self) -> String {
        let network = lock(&self.shared.network);
        let nodes: Vec<String> = network
            .nodes()
            .map(|node| {
                let state = network.node(node);
                let dead = if state.alive { "" } else { ", dead" };
                let count = self.task_count(node);
                format!("{} ({count} tasks{dead})", state.name)
            })
            .collect();
        format!("waiting: {}", nodes.join(", "))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "simulated world: seed {} failed after {:?} of virtual time",
                self.seed(),
                self.elapsed()
            );
        }
        // Tasks and events hold runtimes, which hold the world: break the circle.
        let nodes: Vec<SimNode> = lock(&self.shared.network).nodes().collect();
        for node in nodes {
            self.kill(node);
        }
        drop(self.shared.executor.take_events());
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}

/// The bookkeeping of one run.
struct Run {
    limits: Limits,
    steps: u64,
    instant: Duration,
    steps_at_instant: u64,
}

impl Run {
    fn step(&mut self, world: &World) -> Result<(), SimError> {
        let at = world.elapsed();
        if at != self.instant {
            self.instant = at;
            self.steps_at_instant = 0;
        }
        self.steps += 1;
        self.steps_at_instant += 1;
        if self.steps_at_instant > self.limits.steps_per_instant {
            return Err(SimError::BusyLoop {
                seed: world.seed(),
                at,
                steps: self.steps_at_instant,
            });
        }
        if self.steps > self.limits.steps {
            return Err(SimError::TooManySteps {
                seed: world.seed(),
                at,
                steps: self.steps,
            });
        }
        Ok(())
    }
}

/// A generator of its own for each purpose, so that one more draw here changes nothing there.
fn seeded_rng(seed: u64, purpose: &str, which: [u64; 2]) -> ChaCha20Rng {
    let mut hash = Sha256::new();
    hash.update(b"ahoy simulated world");
    hash.update(seed.to_be_bytes());
    for number in which {
        hash.update(number.to_be_bytes());
    }
    hash.update(purpose.as_bytes());
    ChaCha20Rng::from_seed(hash.finalize().into())
}
