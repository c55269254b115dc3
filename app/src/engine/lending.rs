//! Lending: this machine serves others as a supernode while its owner's own calls go on as before.
//!
//! It is the very supernode of `ahoy supernode` ([`SupernodeHandle`]) on a port and with a key of its own, so nobody who uses
//! it learns whose machine it is. Whether others get in is measured before anybody is told of it
//! ([`ahoy_nat::supernode::promotion`]); what it gives is bounded by the supernode's own limits; and it stops politely: those
//! who use it hear of it and move, for at most [`DRAIN`].

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    client::NodeClient,
    client::RequestError,
    dial::dial,
    discovery::{
        announcement::Capabilities,
        gossip::{GossipPolicy, Own},
        table::NodeTable,
    },
    portmap::{PortMapper, library::LibraryRouter, manager::Policy},
    supernode::{
        mailbox::MailLimits,
        promotion::{Answer, Ask, Promotion, PromotionPolicy, Standing},
        protocol::Refusal,
        registry::Limits,
        relay::{limits::RelayLimits, policy::is_reachable},
    },
};
use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::{NodeAddress, NodeId, NodeKeys},
    runtime::{Runtime, RuntimeExt, Task, timeout},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{config::Reaching, rendezvous::Rendezvous};
use crate::{
    link::NodeLink,
    supernode::{NetworkSettings, RelaySettings, StartError, SupernodeConfig, SupernodeHandle},
};

/// Those who use it have so long to move before it stops.
pub const DRAIN: Duration = Duration::from_secs(60);
/// The same when the whole program ends.
const DRAIN_AT_END: Duration = Duration::from_secs(3);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// While the way out is metered, it is looked at so often.
const LOOK_AT_METER: Duration = Duration::from_secs(15);
/// A port that could not be had is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// A connection to a supernode, its own dial, and the answer.
const ASKING: Duration = Duration::from_secs(10);
/// Supernodes that are told at once of a new one; others hear of it from them.
const INTRODUCED: usize = 8;
/// Addresses at which others saw us that are tried.
const MAX_OBSERVED: usize = 4;
/// Of the upload that is lent, in percent: from here on no new calls are taken, below the second they are again.
const BUSY_PERCENT: u64 = 85;
/// See [`BUSY_PERCENT`].
const IDLE_PERCENT: u64 = 60;
/// Relayed addresses for each person who may be registered: a call on two paths, and its successor.
const ALLOCATIONS_A_PERSON: usize = 4;
/// Connections beside those of registered people: look-ups and deliveries by their callers.
const GUESTS_A_PERSON: usize = 4;
/// Records of others held. Places are many; each costs a kilobyte.
const RECORDS: usize = 4096;

/// What is lent, and how.
#[derive(Debug, Clone)]
pub struct LendSettings {
    /// From the start on.
    pub on: bool,
    /// The supernode's own keys: not the device's.
    pub keys: NodeKeys,
    /// Where it listens; where the port is taken, at another one.
    pub listen: SocketAddr,
    /// Most that is passed on for others, bits per second.
    pub upload_bps: u64,
    /// People registered at once.
    pub people: usize,
    /// Also where the way out is [metered](ahoy_transport::runtime::Networks::is_metered).
    pub metered: bool,
    /// Whether it is measured that others get in.
    pub promotion: PromotionPolicy,
    /// For private and loopback addresses too: labs, and machines without a way out.
    pub allow_private: bool,
    /// Ask the router to let others in.
    pub port_mapping: bool,
}

impl LendSettings {
    /// The usual ones for this key.
    #[must_use]
    pub fn new(keys: NodeKeys, listen: SocketAddr) -> Self {
        Self {
            on: false,
            keys,
            listen,
            upload_bps: 2_000_000,
            people: 50,
            metered: false,
            promotion: PromotionPolicy::default(),
            allow_private: false,
            port_mapping: false,
        }
    }

    fn supernode(&self, listen: SocketAddr) -> SupernodeConfig {
        let bytes_per_second = (self.upload_bps / 8).max(1);
        let people = self.people.max(1);
        let guests = people * GUESTS_A_PERSON + 16;
        let defaults = RelayLimits::default();
        SupernodeConfig {
            listen: vec![listen],
            port_mapping: false,
            relay: RelaySettings {
                allow_private: self.allow_private,
                limits: RelayLimits {
                    allocations: people * ALLOCATIONS_A_PERSON,
                    bytes_per_second: defaults.bytes_per_second.min(bytes_per_second),
                    total_bytes_per_second: Some(bytes_per_second),
                    ..defaults
                },
                ..RelaySettings::default()
            },
            network: NetworkSettings {
                peers: Vec::new(),
                // Not before it is known to be reached.
                announce: false,
            },
            limits: Limits {
                connections: people + guests,
                anonymous_connections: guests,
                registrations: people,
                records: RECORDS,
                // Letters would be gone with a machine that is switched off.
                mail: MailLimits {
                    boxes: 0,
                    ..MailLimits::default()
                },
                ..Limits::default()
            },
            ..SupernodeConfig::default()
        }
    }
}

/// How far lending has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LendingState {
    /// Not wanted.
    #[default]
    Off,
    /// Others are asked whether they get in.
    Looking,
    /// They do not: nobody is told of it.
    Unreachable,
    /// It serves.
    Lending,
    /// The way out is metered: it waits.
    Metered,
    /// Those who use it are moving.
    Stopping,
    /// It does not start.
    Failed,
}

impl LendingState {
    /// In a word, for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Looking => "looking",
            Self::Unreachable => "unreachable",
            Self::Lending => "lending",
            Self::Metered => "metered",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// Lending as it is shown. Counters are of this run of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LendingView {
    /// The owner wants it.
    pub wanted: bool,
    /// How far it has come.
    pub state: LendingState,
    /// The link to this supernode, while it serves.
    pub link: Option<String>,
    /// Networks that reached it, while that is asked, and networks that were asked.
    pub proofs: (usize, usize),
    /// Devices registered here now.
    pub people: usize,
    /// Ends of calls that are relayed now.
    pub calls: u64,
    /// No new calls for the moment: what is lent is in use.
    pub busy: bool,
    /// People who were registered here, each once.
    pub helped: u64,
    /// Bytes of their calls that were passed on.
    pub relayed_bytes: u64,
    /// Since when others are told of it, Unix milliseconds.
    pub since_millis: Option<u64>,
    /// Most that is passed on, bits per second.
    pub upload_bps: u64,
    /// Most devices registered at once.
    pub most_people: usize,
    /// Why it does not start, for a person.
    pub problem: Option<String>,
}

impl LendingView {
    /// For the person.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.state {
            LendingState::Off => "you lend nothing".into(),
            LendingState::Looking => {
                "other supernodes are asked whether they reach this machine; nobody else is told of it yet".into()
            }
            LendingState::Unreachable => format!(
                "of {} networks that were asked {} reach this machine, so nobody is told of it: let UDP in at your router \
                 or firewall",
                self.proofs.1, self.proofs.0
            ),
            LendingState::Lending if self.busy => {
                "you lend, and all that you lend is in use: no new calls for the moment".into()
            }
            LendingState::Lending => format!(
                "you lend: {} people are registered here, {} were helped so far",
                self.people, self.helped
            ),
            LendingState::Metered => {
                "nothing is lent while this machine is in a network that is paid by the byte".into()
            }
            LendingState::Stopping => "those who use this machine are moving to others".into(),
            LendingState::Failed => self
                .problem
                .clone()
                .unwrap_or_else(|| "lending does not start".into()),
        }
    }
}

/// Whom to ask, and how.
pub(super) struct Surroundings {
    pub(super) runtime: Arc<dyn Runtime>,
    /// Asks from here: not from the port that is to be dialled.
    pub(super) endpoint: Endpoint,
    pub(super) reaching: Reaching,
    pub(super) homes: watch::Receiver<Vec<NodeAddress>>,
    pub(super) rendezvous: Option<Rendezvous>,
}

/// Lends while it lives and is told to.
#[derive(Debug)]
pub(super) struct Lender {
    runtime: Arc<dyn Runtime>,
    node: NodeId,
    wanted: watch::Sender<bool>,
    observed: watch::Sender<Vec<IpAddr>>,
    view: watch::Receiver<LendingView>,
    _task: Task,
}

impl Lender {
    pub(super) fn start(settings: LendSettings, around: Surroundings) -> Self {
        let runtime = Arc::clone(&around.runtime);
        let node = settings.keys.id();
        let (wanted, is_wanted) = watch::channel(settings.on);
        let (observed, seen) = watch::channel(Vec::new());
        let first = LendingView {
            wanted: settings.on,
            upload_bps: settings.upload_bps,
            most_people: settings.people,
            ..LendingView::default()
        };
        let (view, shown) = watch::channel(first);
        let lending = Lending {
            settings,
            around,
            wanted: is_wanted,
            observed: seen,
            view,
            before: Totals::default(),
        };
        Self {
            node,
            wanted,
            observed,
            view: shown,
            _task: runtime.spawn_task(lending.run()),
            runtime,
        }
    }

    /// The supernode that it is.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// From now on, or no more.
    pub(super) fn set(&self, on: bool) {
        self.wanted.send_replace(on);
    }

    pub(super) fn view(&self) -> LendingView {
        LendingView {
            wanted: *self.wanted.borrow(),
            ..self.view.borrow().clone()
        }
    }

    /// Somebody saw us there.
    pub(super) fn note_observed(&self, ip: IpAddr) {
        self.observed.send_if_modified(|seen| {
            let ip = ip.to_canonical();
            let is_news = seen.first() != Some(&ip);
            seen.retain(|known| *known != ip);
            seen.insert(0, ip);
            seen.truncate(MAX_OBSERVED);
            is_news
        });
    }

    /// The program ends.
    pub(super) async fn close(self) {
        self.set(false);
        let mut view = self.view.clone();
        let over = view.wait_for(|view| view.state == LendingState::Off);
        if timeout(&*self.runtime, DRAIN_AT_END, over).await.is_none() {
            tracing::info!("some people did not move in time");
        }
    }
}

/// Counted by supernodes that have stopped.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    helped: u64,
    relayed_bytes: u64,
}

struct Lending {
    settings: LendSettings,
    around: Surroundings,
    wanted: watch::Receiver<bool>,
    observed: watch::Receiver<Vec<IpAddr>>,
    view: watch::Sender<LendingView>,
    before: Totals,
}

/// Why a supernode is not lent any more.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    Unwanted,
    Metered,
    Abandoned,
}

/// Who was asked, and what came of it.
type Asking = BoxFuture<'static, (Ask, Answer)>;

/// A supernode that is lent.
struct Open {
    supernode: SupernodeHandle,
    mapper: Option<PortMapper>,
    announced: Option<SocketAddr>,
    since_millis: Option<u64>,
    busy: bool,
    /// What had been passed on, and when.
    measured: (Instant, u64),
}

impl Lending {
    async fn run(mut self) {
        loop {
            if self.wanted.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            if self.is_metered() {
                self.show_state(LendingState::Metered);
                self.wait(LOOK_AT_METER).await;
                if !*self.wanted.borrow() {
                    self.show_state(LendingState::Off);
                }
                continue;
            }
            let mut open = match self.open().await {
                Ok(open) => open,
                Err(error) => {
                    tracing::warn!(%error, "nothing can be lent");
                    self.view.send_modify(|view| {
                        view.state = LendingState::Failed;
                        view.problem = Some(error.to_string());
                    });
                    self.wait(AGAIN).await;
                    if !*self.wanted.borrow() {
                        self.show_state(LendingState::Off);
                    }
                    continue;
                }
            };
            let over = self.lend(&mut open).await;
            let metered = over == Over::Metered;
            self.stop(open).await;
            self.show_state(if metered {
                LendingState::Metered
            } else {
                LendingState::Off
            });
            if over == Over::Abandoned {
                return;
            }
        }
    }

    fn is_metered(&self) -> bool {
        !self.settings.metered && self.around.runtime.networks().is_metered()
    }

    /// Waits, or until something else is wanted.
    async fn wait(&mut self, duration: Duration) {
        tokio::select! {
            biased;
            changed = self.wanted.changed() => {
                // Nobody can want anything any more: the caller sees it too.
                changed.unwrap_or_default();
            }
            () = self.around.runtime.sleep(duration) => {}
        }
    }

    fn show_state(&self, state: LendingState) {
        self.view.send_modify(|view| {
            view.state = state;
            view.link = None;
            view.people = 0;
            view.calls = 0;
            view.busy = false;
            view.since_millis = None;
            view.proofs = (0, 0);
            view.problem = None;
        });
    }

    async fn open(&self) -> Result<Open, StartError> {
        let runtime = &self.around.runtime;
        let start = |listen| {
            let config = self.settings.supernode(listen);
            SupernodeHandle::start(Arc::clone(runtime), config, &self.settings.keys)
        };
        let listen = self.settings.listen;
        let supernode = match start(listen).await {
            Err(StartError::Bind { .. }) if listen.port() != 0 => {
                start(SocketAddr::new(listen.ip(), 0)).await?
            }
            started => started?,
        };
        let port = supernode.local_addrs().first().map(SocketAddr::port);
        let mapper = port.filter(|_| self.settings.port_mapping).map(|port| {
            let router = Arc::new(LibraryRouter::new(&**runtime));
            PortMapper::start(Arc::clone(runtime), router, port, Policy::default())
        });
        Ok(Open {
            supernode,
            mapper,
            announced: None,
            since_millis: None,
            busy: false,
            measured: (runtime.now(), 0),
        })
    }

    async fn lend(&mut self, open: &mut Open) -> Over {
        let runtime = Arc::clone(&self.around.runtime);
        let mut promotion = Promotion::new(self.settings.promotion, runtime.now());
        let mut asking: FuturesUnordered<Asking> = FuturesUnordered::new();
        loop {
            if !*self.wanted.borrow() {
                return Over::Unwanted;
            }
            if self.is_metered() {
                return Over::Metered;
            }
            let now = runtime.now();
            promotion.set_candidates(&self.candidates(open), now);
            promotion.handle_timeout(now);
            while let Some(ask) = promotion.poll_ask(now, |fresh| self.draw(fresh)) {
                tracing::debug!(whom = %ask.whom, addr = %ask.addr, "can you reach this machine?");
                asking.push(self.ask(ask));
            }
            self.follow(open, promotion.standing());
            open.measure(now, self.settings.upload_bps);
            self.show(open, &promotion, now);
            tokio::select! {
                biased;
                changed = self.wanted.changed() => if changed.is_err() {
                    return Over::Abandoned;
                },
                Some((ask, answer)) = asking.next(), if !asking.is_empty() => {
                    tracing::debug!(whom = %ask.whom, ?answer, "asked");
                    promotion.handle_answer(runtime.now(), &ask, answer);
                }
                () = runtime.sleep(LOOK) => {}
            }
        }
    }

    /// Where others may reach it, best first: addresses of this machine, what the router says, and where others see us, in
    /// case somebody forwards the port by hand.
    fn candidates(&self, open: &Open) -> Vec<SocketAddr> {
        let Some(local) = open.supernode.local_addrs().first().copied() else {
            return Vec::new();
        };
        let port = local.port();
        if !local.ip().is_unspecified() {
            // Nothing else leads there.
            return vec![local];
        }
        let private = self.settings.allow_private;
        let own = self.around.runtime.interface_addrs();
        let mut own: Vec<IpAddr> = own
            .into_iter()
            .filter(|ip| is_reachable(*ip, private))
            .collect();
        // Not everybody has IPv6.
        own.sort_by_key(|ip| (!is_reachable(*ip, false), ip.is_loopback(), ip.is_ipv6()));
        let mapped = open.mapper.as_ref().map(|mapper| {
            let mapped = mapper.candidates();
            let mapped = mapped.borrow();
            mapped.iter().map(|candidate| candidate.addr).collect()
        });
        let mapped: Vec<SocketAddr> = mapped.unwrap_or_default();
        let observed = self.observed.borrow().clone();
        let observed = observed.into_iter().filter(|ip| is_reachable(*ip, private));
        let at_port = |ip| SocketAddr::new(ip, port);
        own.into_iter()
            .map(at_port)
            .chain(mapped)
            .chain(observed.map(at_port))
            .collect()
    }

    /// Somebody to ask: anybody that is known, else one of our homes.
    fn draw(&self, fresh: &dyn Fn(&NodeAddress) -> bool) -> Option<NodeAddress> {
        let me = self.settings.keys.id();
        let other = |node: &NodeAddress| node.node != me && fresh(node);
        let drawn =
            self.around.rendezvous.as_ref().and_then(|rendezvous| {
                rendezvous.draw(|known| other(&known.announcement.address()))
            });
        drawn.or_else(|| {
            let homes = self.around.homes.borrow();
            homes.iter().find(|home| other(home)).cloned()
        })
    }

    fn ask(&self, ask: Ask) -> Asking {
        let runtime = Arc::clone(&self.around.runtime);
        let (endpoint, reaching) = (self.around.endpoint.clone(), self.around.reaching.clone());
        let me = NodeAddress::new(self.settings.keys.id(), ask.addr);
        async move {
            let asking = async {
                let place = reaching.locate(&*runtime, &ask.whom).await.ok()?;
                let (whom, auth) = (ask.whom.node, NodeAuth::Anonymous);
                let dialled = dial(&endpoint, whom, &place, auth, reaching.ways).await;
                let client = NodeClient::dialled(Arc::clone(&runtime), dialled.ok()?);
                let said = client.allow_relay(me).await;
                client.close();
                Some(said)
            };
            let answer = match timeout(&*runtime, ASKING, asking).await.flatten() {
                Some(Ok(_lifetime)) => Answer::Reached,
                Some(Err(RequestError::Refused(Refusal::UnprovenRelay))) => Answer::NotReached,
                Some(Err(_)) | None => Answer::Silence,
            };
            (ask, answer)
        }
        .boxed()
    }

    /// Others are told, or not any more.
    fn follow(&self, open: &mut Open, standing: Standing) {
        let reached = match standing {
            Standing::Reachable(addr) => Some(addr),
            Standing::Unknown | Standing::Unreachable => None,
        };
        if reached == open.announced {
            return;
        }
        let gossiper = open.supernode.gossiper();
        let Some(addr) = reached else {
            tracing::warn!("others do not reach this machine any more: nobody is told of it");
            gossiper.with(|gossip| gossip.retire());
            open.announced = None;
            open.since_millis = None;
            return;
        };
        tracing::info!(%addr, "this machine is lent");
        let runtime = &self.around.runtime;
        let keys = self.settings.keys.clone();
        let known = self.around.rendezvous.as_ref().and_then(Rendezvous::table);
        let rules = GossipPolicy::supernode().rules;
        let table =
            known.and_then(|table| NodeTable::from_bytes(rules, Some(keys.id()), &table).ok());
        let mut told: Vec<NodeAddress> = self.around.homes.borrow().clone();
        while told.len() < INTRODUCED
            && let Some(another) = self.draw(&|node| !told.contains(node))
        {
            told.push(another);
        }
        let own = Own {
            keys,
            addr,
            tcp: None,
            capabilities: Capabilities::RELAY.with(Capabilities::RECORDS),
        };
        gossiper.with(|gossip| {
            if let Some(table) = table.filter(|_| open.announced.is_none()) {
                gossip.resume(table, runtime.now());
            }
            gossip.set_own(own);
            gossip.introduce(told);
        });
        open.announced = Some(addr);
        open.since_millis.get_or_insert(runtime.unix_millis());
    }

    fn show(&self, open: &Open, promotion: &Promotion, now: Instant) {
        let status = open.supernode.status().rendezvous;
        let relayed: u64 = status
            .relays
            .iter()
            .map(|relay| relay.bytes_passed_on)
            .sum();
        let calls = status.relays.iter().map(|relay| relay.allocations_live);
        let shown = LendingView {
            wanted: true,
            state: match promotion.standing() {
                Standing::Unknown => LendingState::Looking,
                Standing::Unreachable => LendingState::Unreachable,
                Standing::Reachable(_addr) => LendingState::Lending,
            },
            link: open.announced.map(|addr| {
                let address = NodeAddress::new(self.settings.keys.id(), addr);
                NodeLink(address).to_string()
            }),
            proofs: promotion.proofs(now),
            people: status.registered,
            calls: calls.sum(),
            busy: open.busy,
            helped: self.before.helped + status.registry.people,
            relayed_bytes: self.before.relayed_bytes + relayed,
            since_millis: open.since_millis,
            upload_bps: self.settings.upload_bps,
            most_people: self.settings.people,
            problem: None,
        };
        self.view.send_if_modified(|view| {
            let is_news = *view != shown;
            *view = shown;
            is_news
        });
    }

    /// Politely: see [`SupernodeHandle::wind_down`].
    async fn stop(&mut self, open: Open) {
        self.view.send_modify(|view| {
            view.state = LendingState::Stopping;
            view.link = None;
        });
        open.supernode.gossiper().with(|gossip| gossip.retire());
        let cut_off = open.supernode.wind_down(DRAIN).await;
        if cut_off > 0 {
            tracing::warn!("{cut_off} relayed calls were cut off");
        }
        let status = open.supernode.status().rendezvous;
        self.before.helped += status.registry.people;
        self.before.relayed_bytes += status
            .relays
            .iter()
            .map(|relay| relay.bytes_passed_on)
            .sum::<u64>();
        let before = self.before;
        self.view.send_modify(|view| {
            view.helped = before.helped;
            view.relayed_bytes = before.relayed_bytes;
        });
        if let Some(mapper) = open.mapper {
            mapper.close().await;
        }
    }
}

impl Open {
    /// Takes no new calls while most of what is lent is in use.
    fn measure(&mut self, now: Instant, upload_bps: u64) {
        let (at, before) = self.measured;
        let passed = now.saturating_duration_since(at);
        if passed < LOOK {
            return;
        }
        let relays = self.supernode.status().rendezvous.relays;
        let bytes: u64 = relays.iter().map(|relay| relay.bytes_passed_on).sum();
        self.measured = (now, bytes);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        let bps = (bytes - before).saturating_mul(8_000) / millis;
        let percent = bps.saturating_mul(100) / upload_bps.max(1);
        let busy = if self.busy {
            percent > IDLE_PERCENT
        } else {
            percent >= BUSY_PERCENT
        };
        if busy != self.busy {
            self.busy = busy;
            tracing::info!(busy, bps, "what is lent is in use");
            self.supernode.set_busy(busy);
        }
    }
}
