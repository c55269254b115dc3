//! The engine: everything between the person and the network, on one task.
//!
//! It owns the endpoint, the homes and the calls. The call state machine ([`crate::call`]) decides; a *leg*
//! per device of the other side carries out: envelopes through the homes, a relay, ICE, the session, sound.
//! Whatever takes time runs in small tasks that report back, so the engine itself never waits. It takes
//! clock, randomness and sockets from a [`Runtime`], so the simulator runs this very code.

use std::{io, sync::Arc};

use ahoy_nat::{
    dial::{NodePlace, Ways, dial},
    discovery::{
        dht::{
            Dht,
            publisher::{PublishEvent, Publishable, Publisher},
        },
        door::LanDoor,
        homes::Homes,
    },
    home::{ConnectFailure, Dialling, Home, HomeEvent, Registrant},
    netmon::NetMonitor,
    port::{PortHub, SharedPort},
    portmap::{PortMapper, library::LibraryRouter, manager::Policy},
    supernode::{mailbox::MailKey, protocol::Registration},
};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::{NodeAddress, NodeId},
    runtime::{Runtime, RuntimeExt},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::{broadcast, mpsc, watch};

pub mod book;
pub mod config;
mod cost;
pub mod directory;
pub(crate) mod echo;
pub mod files;
mod finding;
pub mod handle;
mod homes;
mod leg;
pub mod lending;
mod mail;
pub mod media;
pub mod memory_book;
pub mod nat;
pub mod notice;
mod pass;
pub mod people;
pub mod presence;
pub mod profile_book;
pub mod reach;
pub mod recording;
mod relays;
mod rendezvous;
pub mod renewal;
mod run;
pub mod sentence;
mod trust;
pub mod video;
mod voice_rate;
pub mod witness;

use book::AddressBook;
use config::{EngineConfig, Me, Reaching};
use files::Files;
use finding::OwnRecord;
use handle::{COMMAND_QUEUE, EngineHandle, View};
use homes::{HomeChooser, HomeOpener};
use lending::{Lender, Surroundings};
use nat::NatScout;
use rendezvous::Rendezvous;
use renewal::Renewer;
use run::{EVENT_QUEUE, Engine, Internal};
use trust::Trust;

use crate::chat::book::ChatBook;

/// Registers this device at its homes.
#[derive(Debug)]
struct Device {
    endpoint: Endpoint,
    /// Who we are, as of now.
    me: watch::Receiver<Me>,
    /// Our homes, and how they are found.
    homes: Vec<NodeAddress>,
    reaching: Reaching,
    /// Knows with what contacts mark their letters, which changes when a device is lost; none where conversations cannot be
    /// kept.
    mail: Option<Arc<dyn AddressBook>>,
}

impl Device {
    /// Where a home is that could not be looked up when the engine was started.
    async fn locate(&self, node: NodeId) -> Result<NodePlace, ConnectFailure> {
        let address = self.homes.iter().find(|home| home.node == node);
        let address = address.ok_or_else(|| ConnectFailure("no home of ours".into()))?;
        self.reaching
            .locate(&**self.endpoint.runtime(), address)
            .await
            .map_err(|error| ConnectFailure(format!("its name has no address: {error}")))
    }
}

impl Registrant for Device {
    fn dial<'a>(&'a self, node: NodeId, place: &'a NodePlace, ways: Ways) -> Dialling<'a> {
        Box::pin(async move {
            let auth = {
                let me = self.me.borrow();
                NodeAuth::Device {
                    keys: Arc::clone(&me.keys),
                    certificate: me.certificate.clone(),
                }
            };
            let located;
            let place = if place.udp.ip().is_unspecified() {
                located = self.locate(node).await?;
                &located
            } else {
                place
            };
            dial(&self.endpoint, node, place, auth, ways)
                .await
                .map_err(|error| ConnectFailure(error.to_string()))
        })
    }

    fn registration(&self, epoch: u64) -> Registration {
        self.me.borrow().registration(epoch)
    }

    fn mail_key(&self, node: NodeId) -> Option<MailKey> {
        let own = ChatBook(self.mail.as_ref()?.shelf()).drawn_capability();
        let own = own.inspect_err(|error| tracing::error!(%error, "no mailbox"));
        Some(own.ok()??.at(node))
    }
}

/// Ends when the engine has ended.
#[derive(Debug)]
pub struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Waits until the engine has said good-bye everywhere.
    pub async fn wait(mut self) {
        if self.0.wait_for(|over| *over).await.is_err() {
            tracing::debug!("the engine is gone without a word");
        }
    }
}

/// Publishes our record: at supernodes, and in the DHT if there is one and this device may show itself there, since its
/// nodes see where it comes from.
fn publish(
    runtime: &Arc<dyn Runtime>,
    config: &EngineConfig,
    me: &watch::Receiver<Me>,
    book: &Arc<dyn AddressBook>,
    rendezvous: Option<&Rendezvous>,
    homes: &watch::Receiver<Vec<NodeAddress>>,
    events: &mpsc::Sender<PublishEvent>,
) -> Vec<Publisher> {
    let dht = config.finding.dht.clone();
    let dht = dht.filter(|_| config.path.allows_direct());
    let directory = rendezvous.map(|rendezvous| Arc::new(rendezvous.clone()) as Arc<dyn Dht>);
    let who = Arc::new(OwnRecord {
        me: me.clone(),
        book: Arc::clone(book),
        hand_on: config.finding.hand_on,
        witnesses: config.finding.witnesses,
    });
    let tables = directory.into_iter().chain(dht);
    let publishers = tables.map(|table| {
        let who = Arc::clone(&who) as Arc<dyn Publishable>;
        let (homes, events) = (homes.clone(), events.clone());
        Publisher::start(runtime, table, who, homes, config.finding.publish, events)
    });
    publishers.collect()
}

fn open_door(
    runtime: &Arc<dyn Runtime>,
    config: &EngineConfig,
    events: mpsc::Sender<(NodeId, HomeEvent)>,
) -> Option<LanDoor> {
    if !config.lan_discovery || !config.path.allows_direct() {
        return None;
    }
    let me = &config.me;
    let registration = me.registration(u64::from_be_bytes(runtime.random_array()));
    LanDoor::open(runtime, me.user, me.keys.id(), registration, events)
        .inspect_err(|error| tracing::warn!(%error, "not to be found in this network"))
        .ok()
}

/// Starts an engine. It runs until somebody sends [`handle::Command::Quit`] or all handles are gone.
///
/// # Errors
/// When the port cannot be bound.
pub fn start(
    runtime: &Arc<dyn Runtime>,
    config: EngineConfig,
    book: Arc<dyn AddressBook>,
) -> io::Result<(EngineHandle, Ending)> {
    let endpoint = Endpoint::bind(Arc::clone(runtime), EndpointConfig::peer(config.listen))?;
    if let Some(access) = &config.finding.access {
        endpoint.set_access(Arc::clone(access));
    }
    let hub = PortHub::start(
        &**runtime,
        Arc::new(SharedPort::new(Arc::clone(endpoint.mux()))),
    );
    let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
    let (view, shown) = watch::channel(View::default());
    let (events, _) = broadcast::channel(handle::EVENT_QUEUE);
    let (inbox, happenings) = mpsc::channel::<Internal>(EVENT_QUEUE);
    let (renewer, me) = Renewer::new(config.me.clone());

    let (home_events, mut from_homes) = mpsc::channel(EVENT_QUEUE);
    let registrant: Arc<dyn Registrant> = Arc::new(Device {
        endpoint: endpoint.clone(),
        me: me.clone(),
        homes: config.homes.iter().map(|(home, _)| home.clone()).collect(),
        reaching: config.reaching(),
        mail: ChatBook(book.shelf())
            .own_capability(&mut ChaCha20Rng::from_seed(runtime.random_array()))
            .inspect_err(|error| tracing::error!(%error, "no mailbox"))
            .ok()
            .filter(|_| config.mailbox)
            .map(|_drawn| Arc::clone(&book)),
    });
    let opener = HomeOpener {
        runtime: Arc::clone(runtime),
        reaching: config.reaching(),
        registrant,
        events: home_events.clone(),
    };
    let homes: Vec<Home> = config
        .homes
        .iter()
        .map(|(address, addr)| opener.open(address, *addr))
        .collect();
    let door = open_door(runtime, &config, home_events);
    let forward = inbox.clone();
    let forwarder = runtime.spawn_task(async move {
        while let Some((node, event)) = from_homes.recv().await {
            if forward.send(Internal::Home(node, event)).await.is_err() {
                return;
            }
        }
    });

    let watcher = config.upkeep.watch_networks.then(|| {
        let (mut monitor, tell) = (NetMonitor::start(runtime), inbox.clone());
        runtime.spawn_task(async move {
            loop {
                let state = monitor.changed().await;
                if tell.send(Internal::NetworkChanged(state)).await.is_err() {
                    return;
                }
            }
        })
    });

    let nat = NatScout::start(runtime, &hub, homes.iter().map(Home::state).collect());
    let handle = EngineHandle::new(
        commands,
        shown,
        events.clone(),
        renewer.clone(),
        nat.reports(),
    );
    let mapper = config.port_mapping.then(|| {
        let router = Arc::new(LibraryRouter::new(&**runtime));
        let port = endpoint.local_addr().port();
        PortMapper::start(Arc::clone(runtime), router, port, Policy::default())
    });

    let (homes_up, up) = watch::channel(Vec::new());
    let (publications, mut published) = mpsc::channel(EVENT_QUEUE);
    let mut rendezvous = config.finding.supernodes.then(|| {
        let (runtime, endpoint) = (Arc::clone(runtime), endpoint.clone());
        Rendezvous::new(runtime, endpoint, config.reaching(), Arc::clone(&book))
    });
    let gossiping = rendezvous
        .as_mut()
        .filter(|_| config.finding.gossip)
        .map(Rendezvous::gossip);
    let own_homes: Vec<NodeAddress> = config.homes.iter().map(|(home, _)| home.clone()).collect();
    let choice = gossiping.as_ref().map(|_| {
        let before = rendezvous.as_ref().map(Rendezvous::anchors);
        Homes::resumed(&own_homes, &before.unwrap_or_default(), runtime.now())
    });
    let publisher = publish(
        runtime,
        &config,
        &me,
        &book,
        rendezvous.as_ref(),
        &up,
        &publications,
    );
    drop(publications);
    let lender = config.lend.clone().map(|settings| {
        let around = Surroundings {
            runtime: Arc::clone(runtime),
            endpoint: endpoint.clone(),
            reaching: config.reaching(),
            homes: up.clone(),
            rendezvous: rendezvous.clone(),
        };
        Lender::start(settings, around)
    });
    let tell = inbox.clone();
    let publishing = runtime.spawn_task(async move {
        while let Some(event) = published.recv().await {
            if tell.send(Internal::Published(event)).await.is_err() {
                return;
            }
        }
    });
    let (over, ending) = watch::channel(false);
    let files = Files::start(
        runtime,
        config.files.clone(),
        Arc::clone(&book),
        (config.me.user, config.me.keys.id()),
        inbox.clone(),
    );
    let mut engine = Engine::new(
        Arc::clone(runtime),
        config,
        me,
        renewer,
        book,
        endpoint,
        hub,
        nat,
        files,
        inbox,
        command_queue,
        view,
        events,
    );
    engine.homes = homes;
    engine.homes_up = homes_up;
    engine.choice = choice.map(|choice| HomeChooser::new(choice, opener));
    let keeping = rendezvous.clone();
    engine.rendezvous = rendezvous;
    engine.door = door;
    engine.lender = lender;
    engine.trust = Trust::resumed(engine.book.reputation().as_deref());
    let mapped = mapper.as_ref().map(|mapper| {
        let (mut mapped, gatherer) = (mapper.candidates(), Arc::clone(&engine.gatherer));
        runtime.spawn_task(async move {
            while mapped.changed().await.is_ok() {
                gatherer.extra(mapped.borrow_and_update().clone());
            }
        })
    });
    engine.mapper = mapper;
    runtime
        .spawn_task(async move {
            engine.run(happenings).await;
            if let Some(known) = keeping {
                known.keep();
            }
            drop((forwarder, watcher, mapped, publisher, publishing, gossiping));
            over.send_replace(true);
        })
        .detach();
    Ok((handle, Ending(ending)))
}
