//! People with telephones in a simulated world: the shipped engine and supernode, files for sound, and a log of
//! everything that happened to whom and when.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ahoy::{
    call::CallConfig,
    chat::MessageId,
    engine::{
        self, Ending,
        config::{Answering, EngineConfig, Finding, Me, PathPolicy, Upkeep},
        handle::{Command, EngineHandle, Event},
        media::{AudioIn, AudioOut, AudioSettings, Probe},
        memory_book::MemoryBook,
    },
    identity::Identity,
    link::PersonLink,
    report::Report,
    sim::{Conditions, LinkId, PacketEvent, SimNode, SimRuntime, World},
    supernode::{SupernodeConfig, SupernodeHandle},
};
use ahoy_nat::supernode::MailKeeper;
use ahoy_transport::{
    identity::{NodeAddress, NodeId, NodeKeys, UserId},
    runtime::{Runtime, RuntimeExt, Task, timeout},
};
use quinn::Runtime as _;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::{Notify, broadcast};

use crate::nosy::{self, Handing, Record};

/// Port of every supernode.
pub const NODE_PORT: u16 = 4433;
/// Port of every telephone.
pub const PHONE_PORT: u16 = 7000;
/// What everybody says unless told otherwise: twelve seconds of speech.
pub const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/ahoy.wav");
/// One way between a device and the middle of the network.
pub const ACCESS: Duration = Duration::from_millis(20);
/// One way between two devices where no relay lies between.
pub const DIRECT: Duration = Duration::from_millis(20);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world, and somebody in it who only watches.
#[derive(Debug)]
pub struct Stage {
    /// The world.
    pub world: World,
    /// A node without a part in the play; tests run there.
    pub director: SimNode,
    runtime: Arc<SimRuntime>,
    began: Instant,
    folder: PathBuf,
}

/// A supernode and what is needed to start it again.
#[derive(Debug)]
pub struct Home {
    /// Where it runs.
    pub node: SimNode,
    /// How it is named in links.
    pub address: NodeAddress,
    /// Where it is.
    pub addr: SocketAddr,
    keys: NodeKeys,
    config: SupernodeConfig,
    handle: Mutex<Option<SupernodeHandle>>,
}

/// What happened to one telephone, by the world's clock.
#[derive(Debug, Default)]
struct Log {
    events: Mutex<Vec<(Duration, Event)>>,
    /// Events that somebody has waited for already.
    seen: Mutex<usize>,
    more: Notify,
}

/// One device of a person.
#[derive(Debug)]
pub struct Phone {
    /// Where it runs.
    pub node: SimNode,
    /// Its address.
    pub addr: SocketAddr,
    /// Whose it is.
    pub user: UserId,
    /// What its owner is called.
    pub name: String,
    /// Whom it knows.
    pub book: Arc<MemoryBook>,
    /// The engine.
    pub engine: EngineHandle,
    /// When it spoke and heard.
    pub probe: Probe,
    /// What it heard.
    pub recording: PathBuf,
    /// Runs until the engine has ended.
    pub ending: Ending,
    link: PersonLink,
    log: Arc<Log>,
    runtime: Arc<SimRuntime>,
    _watcher: Task,
}

/// How a call ended at one side.
#[derive(Debug, Clone)]
pub struct Ended {
    /// By the world's clock.
    pub at: Duration,
    /// In the report's words.
    pub report: Report,
    /// Exactly.
    pub ending: ahoy::call::Ending,
    /// For a person.
    pub sentence: String,
}

impl Stage {
    /// An empty world. Recordings go to `folder`.
    #[must_use]
    pub fn new(seed: u64, folder: &Path) -> Self {
        eprintln!("seed {seed:#x}");
        // Shown when RUST_LOG asks for it, for whoever looks for a defect. Only the first start counts.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer();
        logs.try_init().unwrap_or_default();
        let world = World::new(seed);
        let director = world.add_node("director", &[]);
        let runtime = world.runtime(director);
        Self {
            began: runtime.now(),
            world,
            director,
            runtime,
            folder: folder.to_owned(),
        }
    }

    /// Time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.world.elapsed()
    }

    /// `instant` as time since the world began.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.began)
    }

    /// Lets the world run on.
    pub async fn pass(&self, duration: Duration) {
        self.runtime.sleep(duration).await;
    }

    /// Waits at most `limit` for `future`.
    pub async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        timeout(&*self.runtime, limit, future).await
    }

    /// A supernode at `ip`, on an ideal link.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn home(&self, name: &str, ip: [u8; 4]) -> Home {
        self.home_with(name, ip, |_config| {}).await
    }

    /// A supernode with other settings than the usual ones.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn home_with(
        &self,
        name: &str,
        ip: [u8; 4],
        adjust: impl FnOnce(&mut SupernodeConfig),
    ) -> Home {
        let mut config = SupernodeConfig {
            listen: vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), NODE_PORT)],
            ..SupernodeConfig::default()
        };
        adjust(&mut config);
        let ip = IpAddr::from(ip);
        let node = self.world.add_node(name, &[ip]);
        let keys = NodeKeys::generate(&mut rng(&self.world.runtime(node)));
        let addr = SocketAddr::new(ip, NODE_PORT);
        let home = Home {
            node,
            address: NodeAddress::new(keys.id(), addr),
            addr,
            keys,
            config,
            handle: Mutex::new(None),
        };
        self.start(&home).await;
        home
    }

    /// A supernode at `ip` that writes down all it can read, and does not relay.
    #[must_use]
    pub fn nosy_home(&self, name: &str, ip: [u8; 4]) -> (Home, Record) {
        self.home_that(Handing::On, name, ip)
    }

    /// A supernode at `ip` that says that it handed on what it threw away, and does not relay.
    #[must_use]
    pub fn dropping_home(&self, name: &str, ip: [u8; 4]) -> Home {
        self.home_that(Handing::Nowhere, name, ip).0
    }

    /// The same, which throws away only some of it.
    #[must_use]
    pub fn choosy_home(&self, handing: Handing, name: &str, ip: [u8; 4]) -> Home {
        self.home_that(handing, name, ip).0
    }

    fn home_that(&self, handing: Handing, name: &str, ip: [u8; 4]) -> (Home, Record) {
        let ip = IpAddr::from(ip);
        let node = self.world.add_node(name, &[ip]);
        let keys = NodeKeys::generate(&mut rng(&self.world.runtime(node)));
        let addr = SocketAddr::new(ip, NODE_PORT);
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), NODE_PORT);
        let record = nosy::serve(self.world.runtime(node), any, &keys, handing);
        let home = Home {
            node,
            address: NodeAddress::new(keys.id(), addr),
            addr,
            config: SupernodeConfig::default(),
            keys,
            handle: Mutex::new(None),
        };
        (home, record)
    }

    /// A supernode that somebody else runs on `node`, for links that lead to it.
    ///
    /// # Panics
    /// When the address is a name.
    #[must_use]
    pub fn known_home(&self, node: SimNode, address: NodeAddress) -> Home {
        #[expect(clippy::expect_used, reason = "there are no names in these worlds")]
        let addr = address.socket_addr().expect("an address");
        Home {
            node,
            addr,
            address,
            config: SupernodeConfig::default(),
            keys: NodeKeys::from_seed(&[0; 32]),
            handle: Mutex::new(None),
        }
    }

    /// Starts a supernode that does not run.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(&self, home: &Home) {
        let runtime: Arc<dyn Runtime> = self.world.runtime(home.node);
        let started = SupernodeHandle::start(runtime, home.config.clone(), &home.keys).await;
        #[expect(clippy::expect_used, reason = "without it there is no test")]
        let handle = started.expect("a supernode starts");
        *lock(&home.handle) = Some(handle);
    }

    /// The supernode dies without a word.
    pub fn kill(&self, home: &Home) {
        self.world.kill(home.node);
        *lock(&home.handle) = None;
    }

    /// A dead supernode comes back with the same key.
    pub async fn restart(&self, home: &Home) {
        self.world.restart(home.node);
        self.start(home).await;
    }

    /// The world's clock, Unix milliseconds.
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        self.runtime.unix_millis()
    }

    /// A person's identity, drawn from the world's randomness.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let now_millis = self.runtime.unix_millis();
        Identity::create(&mut rng(&self.runtime), now_millis)
    }

    /// Another device of the same person, and the log that both share.
    ///
    /// # Panics
    /// When the log takes no second device.
    #[must_use]
    pub fn second_device(&self, first: &mut Identity) -> Identity {
        #[expect(clippy::expect_used, reason = "a new identity holds its root key")]
        let root = first.root().expect("the first device has the root").clone();
        let now_millis = self.runtime.unix_millis();
        let mut rng = rng(&self.runtime);
        #[expect(clippy::expect_used, reason = "a log of one device has room")]
        let second = Identity::join(root, first.log().clone(), &mut rng, now_millis)
            .expect("a second device joins");
        #[expect(clippy::expect_used, reason = "it is the same log, longer")]
        first
            .adopt(second.log().clone(), now_millis)
            .expect("the first device takes the longer log");
        second
    }

    /// A telephone at `ip` that speaks from [`SPEECH`] and records what it hears, [`ACCESS`] away from the middle.
    ///
    /// # Panics
    /// When its engine does not start.
    pub fn phone(
        &self,
        name: &str,
        ip: [u8; 4],
        identity: &Identity,
        homes: &[&Home],
        adjust: impl FnOnce(&mut EngineConfig),
    ) -> Phone {
        let ip = IpAddr::from(ip);
        let node = self.world.add_node(name, &[ip]);
        self.world.set_link(node, Conditions::with_delay(ACCESS));
        self.phone_on(name, node, ip, identity, homes, adjust)
    }

    /// A telephone on a node that is there, with its link: behind a router, say.
    ///
    /// # Panics
    /// When its engine does not start.
    pub fn phone_on(
        &self,
        name: &str,
        node: SimNode,
        ip: IpAddr,
        identity: &Identity,
        homes: &[&Home],
        adjust: impl FnOnce(&mut EngineConfig),
    ) -> Phone {
        let book = Arc::new(MemoryBook::new(identity.user(), name));
        self.phone_of(book, name, node, ip, identity, homes, adjust)
    }

    /// The telephone dies without a word.
    pub fn switch_off(&self, phone: &Phone) {
        self.world.kill(phone.node);
    }

    /// A telephone that was switched off is there again, with all it had written down.
    ///
    /// # Panics
    /// When its engine does not start.
    pub fn switch_on(&self, phone: &Phone, identity: &Identity, homes: &[&Home]) -> Phone {
        self.switch_on_with(phone, identity, homes, |_config| {})
    }

    /// The same with other settings than the usual ones.
    ///
    /// # Panics
    /// As [`Self::switch_on`].
    pub fn switch_on_with(
        &self,
        phone: &Phone,
        identity: &Identity,
        homes: &[&Home],
        adjust: impl FnOnce(&mut EngineConfig),
    ) -> Phone {
        self.world.restart(phone.node);
        self.phone_of(
            Arc::clone(&phone.book),
            &phone.name,
            phone.node,
            phone.addr.ip(),
            identity,
            homes,
            adjust,
        )
    }

    fn phone_of(
        &self,
        book: Arc<MemoryBook>,
        name: &str,
        node: SimNode,
        ip: IpAddr,
        identity: &Identity,
        homes: &[&Home],
        adjust: impl FnOnce(&mut EngineConfig),
    ) -> Phone {
        let homes: Vec<(NodeAddress, SocketAddr)> = homes
            .iter()
            .map(|home| (home.address.clone(), home.addr))
            .collect();
        let mut link = PersonLink::new(identity.user());
        link.homes = homes
            .iter()
            .map(|(address, _addr)| address.clone())
            .collect();
        let probe = Probe::default();
        let recording = self.folder.join(format!("heard-by-{name}.wav"));
        let mut config = EngineConfig {
            me: Me::of(identity, name),
            listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PHONE_PORT),
            homes,
            path: PathPolicy::Auto,
            proxy: None,
            audio: AudioSettings {
                input: AudioIn::File(SPEECH.into()),
                output: AudioOut::File(recording.clone()),
                ..AudioSettings::default()
            },
            video: engine::video::VideoSettings::default(),
            recording: engine::recording::RecordSettings {
                file: None,
                threads: false,
            },
            files: engine::files::FilesSettings {
                folder: Some(self.folder.join(format!("files-of-{name}"))),
                threads: false,
                ..engine::files::FilesSettings::default()
            },
            sound: ahoy::sound::SoundChoices::default(),
            answering: Answering::Person,
            limits: CallConfig::default(),
            allow_loopback: false,
            port_mapping: false,
            upkeep: Upkeep::default(),
            lan_discovery: false,
            mailbox: true,
            finding: Finding::default(),
            lend: None,
            guess_ports: true,
            probe: Some(probe.clone()),
            video_probe: None,
            measure_cost: false,
        };
        adjust(&mut config);
        let runtime: Arc<dyn Runtime> = self.world.runtime(node);
        let started = engine::start(&runtime, config, Arc::clone(&book) as Arc<_>);
        #[expect(clippy::expect_used, reason = "without it there is no test")]
        let (engine, ending) = started.expect("an engine starts");
        let log = Arc::new(Log::default());
        let (events, written, clock) =
            (engine.events(), Arc::clone(&log), Arc::clone(&self.runtime));
        let watcher = self
            .runtime
            .spawn_task(async move { watch(events, &written, &clock).await });
        Phone {
            node,
            addr: SocketAddr::new(ip, PHONE_PORT),
            user: identity.user(),
            name: name.to_owned(),
            book,
            engine,
            probe,
            recording,
            ending,
            link,
            log,
            runtime: Arc::clone(&self.runtime),
            _watcher: watcher,
        }
    }

    /// Lays a line between two telephones that is shorter than the way through the middle: [`DIRECT`].
    pub fn shortcut(&self, a: &Phone, b: &Phone) {
        self.between(a, b, &Conditions::with_delay(DIRECT));
    }

    /// Conditions of both directions between two telephones, instead of those of their links.
    pub fn between(&self, a: &Phone, b: &Phone, conditions: &Conditions) {
        for (from, to) in [(a.node, b.node), (b.node, a.node)] {
            self.world
                .set_conditions(LinkId::Pair { from, to }, conditions.clone());
        }
    }

    /// Collects every packet from now on.
    #[must_use]
    pub fn wiretap(&self) -> Wiretap {
        let tap = Wiretap::default();
        let packets = Arc::clone(&tap.packets);
        self.world
            .observe(move |packet| lock(&packets).push(packet.clone()));
        tap
    }
}

impl Home {
    /// Its counters, while it runs.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn status(&self) -> ahoy::supernode::Status {
        #[expect(clippy::expect_used, reason = "a test asks only a running supernode")]
        let status = lock(&self.handle).as_ref().expect("it runs").status();
        status
    }

    /// Has `keeper` keep its boxes.
    ///
    /// # Panics
    /// When it does not run.
    pub fn keep_mail(&self, keeper: Arc<dyn MailKeeper>) {
        #[expect(clippy::expect_used, reason = "a test asks only a running supernode")]
        lock(&self.handle)
            .as_ref()
            .expect("it runs")
            .keep_mail(keeper);
    }

    /// The supernodes that it knows.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn known(&self) -> Vec<NodeId> {
        #[expect(clippy::expect_used, reason = "a test asks only a running supernode")]
        let gossiper = lock(&self.handle)
            .as_ref()
            .expect("it runs")
            .gossiper()
            .clone();
        gossiper.with(|gossip| {
            let known = gossip.table().nodes();
            known.map(|known| known.announcement.node()).collect()
        })
    }
}

/// Everything that was on the wires.
#[derive(Debug, Clone, Default)]
pub struct Wiretap {
    packets: Arc<Mutex<Vec<PacketEvent>>>,
}

impl Wiretap {
    /// The packets so far, in the order of their ends.
    #[must_use]
    pub fn packets(&self) -> Vec<PacketEvent> {
        lock(&self.packets).clone()
    }
}

fn rng(runtime: &Arc<SimRuntime>) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(runtime.random_array())
}

async fn watch(mut events: broadcast::Receiver<Event>, log: &Log, clock: &SimRuntime) {
    loop {
        match events.recv().await {
            Ok(event) => {
                lock(&log.events).push((clock.elapsed(), event));
                log.more.notify_waiters();
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                panic!("{missed} events were missed")
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl Phone {
    /// The link that reaches its owner.
    #[must_use]
    pub fn link(&self) -> String {
        self.link.to_string()
    }

    /// Both know each other.
    pub fn befriend(&self, other: &Self) {
        self.book.add_contact(other.user, &other.name);
        other.book.add_contact(self.user, &self.name);
    }

    /// Gives the engine a command.
    ///
    /// # Panics
    /// When it takes none.
    pub fn tell(&self, command: Command) {
        assert!(self.engine.send(command), "{}'s engine is gone", self.name);
    }

    /// Calls somebody by link.
    pub fn call(&self, other: &Self) {
        self.tell(Command::Call(other.link()));
    }

    /// Calls somebody who accepts, and waits until their voice is heard.
    pub async fn talk_to(&self, other: &Self) {
        self.call(other);
        other.rings().await;
        other.tell(Command::Accept);
        self.hears().await;
    }

    /// Writes to `other`, who is a contact, and waits until their device says that it has it.
    ///
    /// # Panics
    /// When none says so within 30 s.
    pub async fn write_to(&self, other: &Self) {
        let id = MessageId(self.runtime.random_array());
        self.tell(Command::Message {
            id,
            to: other.link(),
            text: "ahoy".into(),
        });
        let is_there = |event: &Event| {
            let Event::MessageState { id: of, state, .. } = event else {
                return None;
            };
            (*of == id && state.word() == "delivered").then_some(())
        };
        let limit = Duration::from_secs(30);
        self.wait("the message", limit, is_there).await;
    }

    /// Everything that happened so far.
    #[must_use]
    pub fn events(&self) -> Vec<(Duration, Event)> {
        lock(&self.log.events).clone()
    }

    /// The first event that `pick` wants among those that came after the last one waited for.
    ///
    /// # Panics
    /// When none comes within `limit`.
    pub async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        pick: impl Fn(&Event) -> Option<T>,
    ) -> (Duration, T) {
        let waiting = async {
            loop {
                let more = self.log.more.notified();
                {
                    let events = lock(&self.log.events);
                    let mut seen = lock(&self.log.seen);
                    while let Some((at, event)) = events.get(*seen) {
                        *seen += 1;
                        if let Some(found) = pick(event) {
                            return (*at, found);
                        }
                    }
                }
                more.await;
            }
        };
        match timeout(&*self.runtime, limit, waiting).await {
            Some(found) => found,
            None => panic!("{}: {what} did not happen in {limit:?}", self.name),
        }
    }

    /// Waits until it is registered.
    pub async fn ready(&self) -> Duration {
        let ready = |event: &Event| matches!(event, Event::Ready { .. }).then_some(());
        self.wait("registration", Duration::from_secs(10), ready)
            .await
            .0
    }

    /// Waits until it rings.
    pub async fn rings(&self) -> Duration {
        let rings = |event: &Event| matches!(event, Event::Incoming { .. }).then_some(());
        self.wait("ringing", Duration::from_secs(10), rings).await.0
    }

    /// Waits until it hears that the other side rings.
    pub async fn hears_ringing(&self) -> Duration {
        let rings = |event: &Event| matches!(event, Event::Ringing { .. }).then_some(());
        self.wait("the other side's ringing", Duration::from_secs(10), rings)
            .await
            .0
    }

    /// Waits for the first sound, and says when it was played.
    pub async fn hears(&self) -> Instant {
        let hears = |event: &Event| {
            let Event::FirstAudio { at, .. } = event else {
                return None;
            };
            Some(*at)
        };
        self.wait("sound", Duration::from_secs(30), hears).await.1
    }

    /// Waits until the call is over.
    pub async fn ends(&self, limit: Duration) -> Ended {
        let ends = |event: &Event| {
            let Event::Ended {
                ending,
                sentence,
                report,
                ..
            } = event
            else {
                return None;
            };
            Some((*ending, sentence.clone(), Report::clone(report)))
        };
        let (at, (ending, sentence, report)) = self.wait("an ending", limit, ends).await;
        Ended {
            at,
            report,
            ending,
            sentence,
        }
    }
}

impl Phone {
    /// Strangers who wait in the inbox: what they call themselves, and who they are.
    #[must_use]
    pub fn book_requests(&self) -> Vec<(String, UserId)> {
        let view = self.engine.view();
        let requests = view.borrow().requests.clone();
        requests
            .into_iter()
            .map(|request| (request.name, request.user))
            .collect()
    }
}
