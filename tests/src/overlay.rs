//! A network of many supernodes and people, in virtual time: the cores that the binary drives ([`Gossip`], [`Registry`],
//! [`HeldRecords`], [`Visit`], [`Homes`]), each message in the bytes of the protocol, and between them nothing but a delay. No
//! handshakes, no sockets: thousands of nodes run in seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    discovery::{
        announcement::{Announcement, Capabilities},
        gossip::{Errand, Gossip, GossipPolicy, Own, PAGE},
        homes::{HomeChange, Homes},
        record::{RECORD_LIFETIME_MILLIS, Record, RecordFields, RecordRules},
        rendezvous::{DAY_MILLIS, MAX_TRIED, Network, Visit, ranked},
        table::{NodeTable, TableRules},
    },
    supernode::{
        protocol::{Request, Response},
        records::{HeldRecords, MAX_HELD_PER_SOURCE},
        registry::{Answer, Asked, ConnectionKey, Limits, Newcomer, Registry},
        relay::policy::is_reachable,
    },
};
use ahoy_transport::identity::{LogPosition, NodeAddress, NodeId, NodeKeys, RootKey, UserId};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

/// A connection and one round trip.
const EXCHANGE: Duration = Duration::from_millis(120);
/// Until nobody is waited for any more.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A device looks after its homes so often while some are missing, and otherwise.
const LOOK: Duration = Duration::from_secs(5);
/// See [`LOOK`].
const QUIET_LOOK: Duration = Duration::from_secs(60);
/// Unix milliseconds when the world begins.
const BEGIN_MILLIS: u64 = 1_800_000_000_000;

/// What a supernode took in and gave out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Requests answered.
    pub requests: u64,
    /// Requests made.
    pub asked: u64,
    /// Bytes of both, with the answers; handshakes and headers are left out.
    pub bytes: u64,
}

/// A supernode.
#[derive(Debug)]
pub struct Node {
    /// Where it is.
    pub address: NodeAddress,
    /// Whether it runs.
    pub alive: bool,
    /// It tells of its own kind alone, and keeps nothing of what it takes.
    pub hostile: bool,
    /// The core.
    pub gossip: Gossip,
    /// Counted.
    pub load: Load,
    registry: Registry,
    records: HeldRecords,
    next_key: u64,
}

/// A person with one device.
#[derive(Debug)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// The core.
    pub gossip: Gossip,
    /// Where the device is registered.
    pub homes: Homes,
    root: RootKey,
    ip: IpAddr,
    seq: u64,
    told: Vec<NodeAddress>,
    publishes: bool,
    /// When it looks after its homes next.
    look: (Duration, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Node(usize),
    Person(usize),
}

#[derive(Debug)]
enum Happening {
    Wake(Who),
    Outcome(Who, NodeAddress, Option<Vec<Arc<Announcement>>>),
    Homes(usize),
}

/// The world.
#[derive(Debug)]
pub struct Overlay {
    /// Supernodes.
    pub nodes: Vec<Node>,
    /// People.
    pub people: Vec<Person>,
    /// Of the seed.
    pub rng: ChaCha20Rng,
    began: Instant,
    elapsed: Duration,
    by_id: BTreeMap<NodeId, usize>,
    agenda: BTreeMap<(Duration, u64), Happening>,
    wakes: BTreeMap<Who, (Duration, u64)>,
    happened: u64,
    hostile: Vec<Arc<Announcement>>,
    takes_others: bool,
}

/// What a search came to.
#[derive(Debug, Default)]
pub struct Search {
    /// The newest record.
    pub record: Option<Record>,
    /// Supernodes asked.
    pub asked: usize,
    /// Of those, hostile ones.
    pub hostile: usize,
}

impl Overlay {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        eprintln!("seed {seed:#x}");
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let began = Instant::now();
        Self {
            nodes: Vec::new(),
            people: Vec::new(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            began,
            elapsed: Duration::ZERO,
            by_id: BTreeMap::new(),
            agenda: BTreeMap::new(),
            wakes: BTreeMap::new(),
            happened: 0,
            hostile: Vec::new(),
            takes_others: true,
        }
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.began + self.elapsed
    }

    /// The same, as a wall clock shows it.
    #[must_use]
    pub fn millis(&self) -> u64 {
        BEGIN_MILLIS + u64::try_from(self.elapsed.as_millis()).unwrap_or(0)
    }

    fn random(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// One of `count`.
    pub fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.rng.next_u64() % count.max(1) as u64).unwrap_or(0)
    }

    /// A public address anywhere.
    pub fn public_ip(&mut self) -> Ipv4Addr {
        loop {
            let ip = Ipv4Addr::from(self.rng.next_u32());
            if is_reachable(ip.into(), false) {
                return ip;
            }
        }
    }

    fn schedule(&mut self, wait: Duration, what: Happening) -> (Duration, u64) {
        self.happened += 1;
        let key = (self.elapsed + wait, self.happened);
        self.agenda.insert(key, what);
        key
    }

    /// A supernode at `ip` with `peers` in its settings. Returns its number.
    pub fn supernode(&mut self, ip: Ipv4Addr, peers: &[usize], policy: GossipPolicy) -> usize {
        let peers = peers.iter().map(|peer| self.nodes[*peer].address.clone());
        let peers = peers.collect();
        self.node(ip, peers, policy, false)
    }

    /// A supernode of an attacker. It begins to do harm at once.
    pub fn attacker(&mut self, ip: Ipv4Addr) -> usize {
        let at = self.node(ip, Vec::new(), GossipPolicy::supernode(), true);
        let now_millis = self.millis();
        let said = self.nodes[at].gossip.announcement(now_millis);
        self.hostile.extend(said);
        at
    }

    fn node(
        &mut self,
        ip: Ipv4Addr,
        peers: Vec<NodeAddress>,
        policy: GossipPolicy,
        hostile: bool,
    ) -> usize {
        let keys = NodeKeys::from_seed(&self.random());
        let addr = (ip, 4433).into();
        let address = NodeAddress::new(keys.id(), addr);
        let own = Own {
            keys,
            addr,
            tcp: None,
            capabilities: Capabilities::RECORDS,
        };
        let limits = Limits::default();
        let seed = self.random();
        let at = self.nodes.len();
        self.by_id.insert(address.node, at);
        self.nodes.push(Node {
            address,
            alive: true,
            hostile,
            gossip: Gossip::new(policy, Some(own), None, peers, self.now(), seed),
            load: Load::default(),
            records: HeldRecords::new(limits.records, MAX_HELD_PER_SOURCE),
            registry: Registry::new(limits, 1),
            next_key: 0,
        });
        if !hostile {
            self.wake(Who::Node(at));
        }
        at
    }

    /// A person whose device has these homes in its settings.
    pub fn person(&mut self, homes: &[usize], policy: GossipPolicy) -> usize {
        let homes: Vec<NodeAddress> = homes
            .iter()
            .map(|home| self.nodes[*home].address.clone())
            .collect();
        let root = RootKey::from_seed(&self.random());
        let (seed, ip) = (self.random(), self.public_ip().into());
        let at = self.people.len();
        self.people.push(Person {
            user: root.user(),
            root,
            gossip: Gossip::new(policy, None, None, Vec::new(), self.now(), seed),
            homes: Homes::new(&homes, self.now()),
            ip,
            seq: 1,
            told: Vec::new(),
            publishes: true,
            look: (Duration::ZERO, 0),
        });
        self.look_after(at, Duration::ZERO);
        at
    }

    /// The program of a person ends and starts again with what it kept; without homes in its settings.
    pub fn restart(&mut self, person: usize, policy: GossipPolicy) {
        let (seed, now) = (self.random(), self.now());
        let kept = self.people[person].gossip.table().to_bytes();
        let table = NodeTable::from_bytes(policy.rules, None, &kept).ok();
        let anchors = table.as_ref().map(NodeTable::anchors).unwrap_or_default();
        let person = &mut self.people[person];
        person.gossip = Gossip::new(policy, None, table, Vec::new(), now, seed);
        // What served before is tried before anything else.
        person.homes = Homes::resumed(&[], &anchors, now);
        person.told.clear();
    }

    /// The person's device looks after its homes now, as a program does when it starts.
    pub fn look(&mut self, person: usize) {
        let due = self.people[person].look;
        self.agenda.remove(&due);
        self.look_after(person, Duration::ZERO);
    }

    fn look_after(&mut self, person: usize, wait: Duration) {
        self.people[person].look = self.schedule(wait, Happening::Homes(person));
    }

    /// The person's record is not renewed any more, whatever happens.
    pub fn set_publishing(&mut self, publishes: bool) {
        for person in &mut self.people {
            person.publishes = publishes;
        }
    }

    /// Nobody takes other homes in place of dead ones any more. There to show what that is good for.
    pub fn keep_homes(&mut self) {
        self.takes_others = false;
    }

    /// Whether a home of that person can be called now.
    #[must_use]
    pub fn is_reachable(&self, person: usize) -> bool {
        self.people[person]
            .homes
            .up()
            .any(|home| self.is_up(home.node))
    }

    /// People registered at each supernode that runs, the fewest first.
    #[must_use]
    pub fn crowds(&self) -> Vec<usize> {
        let mut crowds = vec![0; self.nodes.len()];
        for home in self.people.iter().flat_map(|person| person.homes.up()) {
            if let Some(at) = self.by_id.get(&home.node) {
                crowds[*at] += 1;
            }
        }
        let running = self.nodes.iter().zip(crowds);
        let mut running: Vec<usize> = running
            .filter(|(node, _crowd)| node.alive)
            .map(|(_node, crowd)| crowd)
            .collect();
        running.sort_unstable();
        running
    }

    /// A supernode dies without a word.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        if let Some(key) = self.wakes.remove(&Who::Node(node)) {
            self.agenda.remove(&key);
        }
    }

    /// So many in a hundred of the supernodes die at once, drawn at random. Returns how many.
    pub fn kill_percent(&mut self, percent: usize) -> usize {
        let mut alive: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].alive)
            .collect();
        let count = alive.len() * percent / 100;
        for _ in 0..count {
            let one = self.pick(alive.len());
            self.kill(alive.swap_remove(one));
        }
        count
    }

    /// Whether a supernode is an attacker's.
    #[must_use]
    pub fn is_hostile(&self, node: NodeId) -> bool {
        let at = self.by_id.get(&node);
        at.is_some_and(|at| self.nodes[*at].hostile)
    }

    /// Each supernode of the attacker says of itself at each honest one that it is there.
    pub fn flood(&mut self) {
        let (now, now_millis) = (self.now(), self.millis());
        let honest = self.nodes.iter_mut().filter(|node| !node.hostile);
        for node in honest {
            for own in &self.hostile {
                let asked = Asked {
                    source: own.addr().ip(),
                    after: None,
                    most: 0,
                    own: Some(Arc::clone(own)),
                };
                node.gossip.answer(now, now_millis, &asked);
            }
        }
        for node in 0..self.nodes.len() {
            if !self.nodes[node].hostile {
                self.wake(Who::Node(node));
            }
        }
    }

    /// All supernodes know each other from before: each has met every other one.
    pub fn acquaint(&mut self) {
        self.acquaint_by(TableRules::default(), Duration::ZERO);
    }

    /// The same, for so long, under these rules, but that supernodes believe in what they met alone.
    pub fn acquaint_by(&mut self, rules: TableRules, known_for: Duration) {
        let rules = TableRules {
            meet_all: true,
            ..rules
        };
        let now_millis = self.millis();
        let met_millis = now_millis.saturating_sub(known_for.as_millis() as u64);
        let said: Vec<Arc<Announcement>> = self
            .nodes
            .iter_mut()
            .filter_map(|node| node.gossip.announcement(now_millis))
            .collect();
        for at in 0..self.nodes.len() {
            let (seed, now) = (self.random(), self.now());
            let node = &mut self.nodes[at];
            if node.hostile {
                continue;
            }
            let me = node.address.node;
            let secret = seed.first_chunk().copied().unwrap_or_default();
            let mut table = NodeTable::new(rules, Some(me), secret);
            let source = Network::V4([100, 0]);
            for said in &said {
                if table.hear(said, &source, now_millis) {
                    table.met(said.node(), None, met_millis);
                    table.met(said.node(), None, now_millis);
                }
            }
            node.gossip.resume(table, now);
            self.wake(Who::Node(at));
        }
    }

    /// Runs on.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.elapsed + duration;
        while let Some(next) = self.agenda.first_entry() {
            let (at, _nth) = *next.key();
            if at > end {
                break;
            }
            let what = next.remove();
            self.elapsed = at;
            match what {
                Happening::Wake(who) => {
                    self.wakes.remove(&who);
                    self.wake(who);
                }
                Happening::Outcome(who, to, told) => {
                    let (now, now_millis) = (self.now(), self.millis());
                    if let Some(gossip) = self.gossip(who) {
                        gossip.handle_outcome(now, now_millis, &to, told.as_deref());
                        self.wake(who);
                    }
                }
                Happening::Homes(person) => self.look_after_homes(person),
            }
        }
        self.elapsed = end;
    }

    fn gossip(&mut self, who: Who) -> Option<&mut Gossip> {
        match who {
            Who::Node(node) => {
                let node = self.nodes.get_mut(node).filter(|node| node.alive)?;
                Some(&mut node.gossip)
            }
            Who::Person(person) => Some(&mut self.people.get_mut(person)?.gossip),
        }
    }

    /// Has a node do what is due, and sees to it that it is woken in time.
    fn wake(&mut self, who: Who) {
        let (now, now_millis) = (self.now(), self.millis());
        while let Some(errand) = self
            .gossip(who)
            .and_then(|gossip| gossip.poll_errand(now, now_millis))
        {
            let told = self.carry(who, &errand);
            let wait = if told.is_some() { EXCHANGE } else { TIMEOUT };
            self.schedule(wait, Happening::Outcome(who, errand.to, told));
        }
        let next = self.gossip(who).and_then(|gossip| gossip.poll_timeout());
        if let Some(old) = self.wakes.remove(&who) {
            self.agenda.remove(&old);
        }
        if let Some((at, _why)) = next {
            // Never at the same instant again: a core that spins would stop the world.
            let wait = at
                .saturating_duration_since(now)
                .max(Duration::from_millis(1));
            let key = self.schedule(wait, Happening::Wake(who));
            self.wakes.insert(who, key);
        }
    }

    fn ip(&self, who: Who) -> IpAddr {
        match who {
            Who::Node(node) => self.nodes[node]
                .address
                .socket_addr()
                .map_or(Ipv4Addr::UNSPECIFIED.into(), |addr| addr.ip()),
            Who::Person(person) => self.people[person].ip,
        }
    }

    fn carry(&mut self, who: Who, errand: &Errand) -> Option<Vec<Arc<Announcement>>> {
        let request = Request::Supernodes {
            after: errand.after.clone(),
            most: errand.most,
            own: errand.own.as_ref().map(|own| own.as_bytes().to_vec()),
        };
        let from = self.ip(who);
        let (at, answer, size) = self.deliver(from, &errand.to, &request)?;
        let Answer::Supernodes(mut asked) = answer else {
            return None;
        };
        // The same bytes; their signature is looked at once for all.
        asked.own.clone_from(&errand.own);
        let told = if self.nodes[at].hostile {
            let start = self.pick(self.hostile.len());
            let own = self
                .hostile
                .iter()
                .filter(|one| one.node() == errand.to.node);
            let others = self.hostile.iter().cycle().skip(start);
            let most = usize::from(errand.most).min(PAGE).min(self.hostile.len());
            own.chain(others.take(most)).cloned().collect()
        } else {
            let (now, now_millis) = (self.now(), self.millis());
            self.nodes[at].gossip.answer(now, now_millis, &asked)
        };
        let answered: usize = told.iter().map(|one| one.as_bytes().len() + 2).sum();
        let bytes = (size + answered + 4) as u64;
        self.nodes[at].load.bytes += bytes;
        if let Who::Node(node) = who {
            self.nodes[node].load.asked += 1;
            self.nodes[node].load.bytes += bytes;
        }
        if !self.nodes[at].hostile {
            self.wake(Who::Node(at));
        }
        Some(told)
    }

    /// Has a supernode's own registry take a request, in its bytes; nothing when nobody is there.
    fn deliver(
        &mut self,
        from: IpAddr,
        to: &NodeAddress,
        request: &Request,
    ) -> Option<(usize, Answer, usize)> {
        let now = self.now();
        let at = *self.by_id.get(&to.node)?;
        let node = self.nodes.get_mut(at)?;
        if !node.alive || node.address.socket_addr() != to.socket_addr() {
            return None;
        }
        let bytes = request.encode();
        node.load.requests += 1;
        node.next_key += 1;
        let key = ConnectionKey(node.next_key);
        let newcomer = Newcomer {
            device: None,
            source: from,
        };
        node.registry.handle_connected(now, key, newcomer).ok()?;
        let answer = node
            .registry
            .meter(now, key, &bytes)
            .and_then(|()| {
                let request = Request::decode(&bytes)
                    .map_err(|_malformed| ahoy_nat::supernode::protocol::Refusal::Malformed)?;
                node.registry.handle_request(now, key, request)
            })
            .ok();
        node.registry.handle_closed(now, key);
        let (answer, _routed) = answer?;
        Some((at, answer, bytes.len()))
    }

    /// Has a supernode keep a record, or say which one it has; nothing when nobody is there.
    fn ask(&mut self, from: IpAddr, to: &NodeAddress, request: &Request) -> Option<Option<Record>> {
        let (at, answer, size) = self.deliver(from, to, request)?;
        let now_millis = self.millis();
        let node = &mut self.nodes[at];
        let held = match answer {
            // It says yes, and forgets it.
            Answer::Publish(record, _source) if node.hostile => Some(record),
            Answer::Publish(record, source) => {
                let user = record.fields().user;
                node.records.publish(&record, source, now_millis);
                node.records.find(user, now_millis).cloned()
            }
            Answer::Find(user) => node.records.find(user, now_millis).cloned(),
            Answer::Respond(_)
            | Answer::Registered
            | Answer::RelayGrant
            | Answer::AllowRelay(_)
            | Answer::Supernodes(_)
            | Answer::Witness(..)
            | Answer::Witnessed(_) => return None,
        };
        let response = Response::Record(held.as_ref().map(|record| record.as_bytes().to_vec()));
        node.load.bytes += (size + response.encode().len()) as u64;
        Some(held)
    }

    /// Goes to the places of `user` as `person` knows them.
    fn visit(
        &mut self,
        person: usize,
        user: UserId,
        request: &Request,
        walk_on: bool,
    ) -> (Vec<Record>, Search) {
        let now_millis = self.millis();
        let known: Vec<NodeAddress> = self.people[person].gossip.table().directory().collect();
        let ranked = ranked(user, now_millis / DAY_MILLIS, &known, MAX_TRIED);
        let mut visit = Visit::new(ranked, walk_on);
        let from = self.people[person].ip;
        let (mut held, mut search) = (Vec::new(), Search::default());
        while let Some(to) = visit.poll() {
            let answer = self.ask(from, &to, request);
            search.asked += 1;
            let at = self.by_id.get(&to.node).and_then(|at| self.nodes.get(*at));
            search.hostile += usize::from(at.is_some_and(|node| node.hostile));
            visit.handle_answer(answer.is_some());
            let gossip = &mut self.people[person].gossip;
            gossip.note(to.node, answer.is_some(), now_millis);
            held.extend(answer.flatten());
        }
        (held, search)
    }

    /// A person's record is signed anew and left where it belongs. Returns at how many supernodes it is said to be.
    pub fn publish(&mut self, person: usize, walk_on: bool) -> usize {
        let now_millis = self.millis();
        let somebody = &mut self.people[person];
        somebody.seq += 1;
        let homes: Vec<NodeAddress> = somebody.homes.up().take(3).cloned().collect();
        let fields = RecordFields {
            user: somebody.user,
            seq: somebody.seq,
            not_after_millis: now_millis + RECORD_LIFETIME_MILLIS,
            log_head: LogPosition {
                n: 0,
                hash: [0; 32],
            },
            homes,
            sealed: vec![],
        };
        let record = Record::issue(fields, &somebody.root);
        let user = somebody.user;
        let request = Request::Publish {
            record: record.as_bytes().to_vec(),
        };
        let (held, _search) = self.visit(person, user, &request, walk_on);
        held.iter().filter(|held| **held == record).count()
    }

    /// `reader` looks for the record of `of`.
    pub fn find(&mut self, reader: usize, of: usize, walk_on: bool) -> Search {
        let user = self.people[of].user;
        let (held, mut search) = self.visit(reader, user, &Request::Find { user }, walk_on);
        let now_millis = self.millis();
        for record in held {
            let newest = search.record.as_ref();
            if RecordRules::default()
                .judge(newest, &record, user, now_millis)
                .is_ok()
            {
                search.record = Some(record);
            }
        }
        search
    }

    /// Whether one of a record's homes can be called now.
    #[must_use]
    pub fn leads_somewhere(&self, record: &Record) -> bool {
        let mut homes = record.fields().homes.iter();
        homes.any(|home| self.is_up(home.node))
    }

    fn is_up(&self, node: NodeId) -> bool {
        let at = self.by_id.get(&node);
        at.is_some_and(|at| self.nodes[*at].alive)
    }

    fn look_after_homes(&mut self, person: usize) {
        let now = self.now();
        let all: Vec<NodeAddress> = self.people[person].homes.homes().cloned().collect();
        for home in all {
            let up = self.is_up(home.node);
            self.people[person].homes.handle(home.node, up, now);
        }
        let takes_others = self.takes_others;
        let Person { homes, gossip, .. } = &mut self.people[person];
        let mut taken = BTreeSet::new();
        while let Some(change) = homes.poll(now, |homes| {
            gossip.draw(|known| {
                let new = !taken.contains(&known.announcement.node());
                takes_others && new && homes.may_take(known, now)
            })
        }) {
            if let HomeChange::Take(address) = change {
                taken.insert(address.node);
            }
        }
        let up: Vec<NodeAddress> = homes.up().cloned().collect();
        let wait = if up.len() < ahoy_nat::discovery::homes::WANTED {
            LOOK
        } else {
            QUIET_LOOK
        };
        if up != self.people[person].told {
            self.people[person].gossip.set_homes(&up);
            self.people[person].told = up;
            self.wake(Who::Person(person));
            if self.people[person].publishes {
                self.publish(person, true);
            }
        }
        self.look_after(person, wait);
    }
}
