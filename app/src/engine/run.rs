//! The engine's one task: it owns all state of calls and orders what the parts do.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_media::audio::volume::NORMAL_PERCENT;
use ahoy_nat::{
    client::{NodeClient, RequestError},
    discovery::{dht::publisher::PublishEvent, door::LanDoor},
    gather::Gatherer,
    home::{Home, HomeEvent, HomeUp},
    netmon::NetworkState,
    port::PortHub,
    portmap::PortMapper,
    supernode::{protocol::Push, witness::Testimony},
    workbench::Workbench,
};
use ahoy_transport::{
    connection::ConnectionStats,
    endpoint::Endpoint,
    identity::{DeviceId, NodeAddress, NodeId, UserId, VerifiedDevice, log::MAX_HOMES},
    runtime::{Runtime, RuntimeExt, Task, timeout},
    sealed::{CallTag, OfferGuard},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::{broadcast, mpsc, watch};

mod actions;
mod files;
mod legs;
mod mail;
mod offers;
mod own;
mod people;
mod presence;
mod record;
mod reply;
mod show;

use offers::Offered;
use people::Conversations;
use presence::Presences;

use super::{
    book::{AddressBook, Person},
    config::{EngineConfig, Me, PathPolicy},
    cost::CostMeter,
    directory::{Findings, Target},
    files::{Files, FilesNews, ToFiles},
    handle::{BlockedView, Command, ContactView, Event, RequestView, View},
    homes::HomeChooser,
    leg::{Farewell, Leg, LegContext, LegEvent, SprayGate},
    lending::{Lender, LendingView},
    mail::{Delivery, Posted},
    media::{Media, SoundDevices},
    nat::NatScout,
    notice::{Notice, SoundTold},
    people::{MAX_RECENT, RecentView},
    presence::Heard,
    reach::MAX_RELAYED,
    relays::{RelaySource, Relays},
    rendezvous::Rendezvous,
    renewal::Renewer,
    trust::{Exchange, Trust},
    video::{PictureTrouble, Showing, Video, view::PictureWatch},
    witness::Witnesses,
};
use crate::{
    call::{CallConfig, CallId, CallState, Calls},
    report::{PathKind, ReportBuilder},
    sound::{SoundChange, SoundSwitch},
};

/// Happenings that wait for the engine. Producers wait when it is full; none of them is a packet.
pub(super) const EVENT_QUEUE: usize = 256;
/// How often levels and path are shown, and counters collected.
const TICK: Duration = Duration::from_millis(200);
/// Every so many ticks the other side is told what we measured.
const TICKS_PER_REPORT: u32 = 5;
/// After this long without a home it counts that this network can call us: more than a connection and its first lost
/// packets take.
const HOMES_FIRST: Duration = Duration::from_secs(5);
/// The same where no packet leaves this network: a home within it answers at once.
const HOMES_FIRST_ALONE: Duration = Duration::from_millis(400);
/// Calls whose legs may exist at once: the one in hand, and those just ending.
const MAX_SLOTS: usize = 8;
/// People whose volume is remembered.
const MAX_VOLUMES: usize = 256;
/// A program that ends waits so long for what must be said: a session's last words have two seconds.
const FAREWELLS: Duration = Duration::from_millis(2500);

/// What the parts tell the engine.
#[derive(Debug)]
pub(super) enum Internal {
    Home(NodeId, HomeEvent),
    GuestPush(Push),
    /// What became of our record.
    Published(PublishEvent),
    /// What a supernode has seen of somebody's device list.
    Testimony {
        node: NodeId,
        user: UserId,
        said: Testimony,
    },
    /// Records of a person that were met in a look-up.
    Records {
        user: UserId,
        records: Vec<ahoy_nat::discovery::record::Record>,
    },
    /// What came of asking a contact whether they are there, unless they answered.
    PresenceAsked(UserId, Heard),
    /// Our pass to a private network counts for so many milliseconds still, which is not long.
    PassEnds(u64),
    /// A home took an envelope for ourselves after so long, or did not.
    Probed {
        node: NodeId,
        mark: [u8; 16],
        taken: Option<Exchange>,
    },
    /// The line to a home was measured by many packets.
    Tried(NodeId, ConnectionStats),
    /// Interfaces, addresses or the way out changed, or the machine woke up.
    NetworkChanged(NetworkState),
    Found {
        call: CallId,
        findings: Findings,
    },
    /// Another supernode's answer after somebody was found; nothing after the last.
    FoundMore {
        call: CallId,
        findings: Option<Findings>,
    },
    Delivered {
        call: CallId,
        device: DeviceId,
        node: NodeId,
        result: Result<(), RequestError>,
    },
    Leg {
        call: CallId,
        device: DeviceId,
        event: LegEvent,
    },
    /// Letters came from one of our homes.
    Letters(Delivery),
    /// Nothing more waits at that home.
    Fetched(NodeId),
    /// An attempt to send something is over.
    Posted(Posted),
    /// Something about files.
    Files(FilesNews),
}

/// One call and everything that belongs to it.
struct Slot {
    user: UserId,
    name: String,
    started: Instant,
    /// Where the person called is to be looked up; empty for incoming calls.
    person: Option<Person>,
    targets: BTreeMap<DeviceId, Target>,
    /// Supernodes that were asked have not all answered.
    searching: Option<Task>,
    /// What each device was offered.
    offered: BTreeMap<DeviceId, Offered>,
    /// Connections and readers that live as long as the call.
    _guests: Vec<(NodeClient, Task)>,
    legs: BTreeMap<DeviceId, Leg>,
    retried: Vec<DeviceId>,
    media: Option<(DeviceId, Media)>,
    /// Pictures of the same participant.
    video: Option<Video>,
    /// What is to be told of them.
    pictures: PictureWatch,
    /// The other side put us on hold.
    held_there: bool,
    /// It waits, and the person wants to hear no more of it.
    ignored: bool,
    /// It is the echo test, in this very program.
    echo: bool,
    report: ReportBuilder,
    cost: Option<CostMeter>,
    path: Option<PathKind>,
    talking_since: Option<Instant>,
    first_audio_told: bool,
    /// How loud the other side is heard.
    volume_percent: u16,
    /// A recording was begun because every call is recorded.
    recorded_by_itself: bool,
    /// What keeps sound from flowing here: by the microphone or the speaker, and why.
    sound_trouble: Option<SoundTold>,
    /// What we recorded last, complete.
    recorded: Option<PathBuf>,
    /// The other side records.
    recorded_there: bool,
}

/// The engine's state. See [`run`](Self::run).
pub(super) struct Engine {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) config: EngineConfig,
    /// Who we are, when that is renewed.
    me: watch::Receiver<Me>,
    /// Changes that.
    renewer: Renewer,
    pub(super) book: Arc<dyn AddressBook>,
    pub(super) endpoint: Endpoint,
    /// Where the work is done that flooded supernodes ask for.
    bench: Workbench,
    pub(super) hub: Arc<PortHub>,
    nat: NatScout,
    spray_gate: SprayGate,
    pub(super) relays: Relays,
    pub(super) gatherer: Arc<Gatherer>,
    pub(super) homes: Vec<Home>,
    /// Which these are, where others may be added to those of the settings.
    pub(super) choice: Option<HomeChooser>,
    /// Homes that we are registered at, best first, for whoever publishes them.
    pub(super) homes_up: watch::Sender<Vec<NodeAddress>>,
    /// Supernodes that hold records.
    pub(super) rendezvous: Option<Rendezvous>,
    /// Where others in this network deliver.
    pub(super) door: Option<LanDoor>,
    /// Asks the router to let others in.
    pub(super) mapper: Option<PortMapper>,
    pub(super) calls: Calls,
    slots: BTreeMap<CallId, Slot>,
    guard: OfferGuard,
    tags: BTreeMap<CallTag, (CallId, DeviceId)>,
    pub(super) rng: ChaCha20Rng,
    pub(super) inbox: mpsc::Sender<Internal>,
    /// What still has to be said has the others of these senders.
    farewell: mpsc::Sender<Farewell>,
    farewells: mpsc::Receiver<Farewell>,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<View>,
    events: broadcast::Sender<Event>,
    began: Instant,
    ready: bool,
    pub(super) home_was_up: BTreeMap<NodeId, bool>,
    people: People,
    conversations: Conversations,
    /// The recording of the call in hand.
    recording: Option<record::Recording>,
    /// Recordings whose files are being completed.
    ending_recordings: Vec<record::EndingRecording>,
    /// How loud people are heard, where that was set since the engine runs.
    volumes: BTreeMap<UserId, u16>,
    mail: mail::Mail,
    files: Files,
    /// Sessions for files alone; each has a slot too.
    file_links: BTreeMap<CallId, files::FileLink>,
    ticks: u32,
    pub(super) trust: Trust,
    pub(super) witnesses: Witnesses,
    presences: Presences,
    /// Serves others.
    pub(super) lender: Option<Lender>,
    /// As it was told last.
    lending: LendingView,
}

/// The address book as it is shown. It is read when it changes, since it may lie on a disk.
struct People {
    contacts: Vec<ContactView>,
    requests: Vec<RequestView>,
    blocked: Vec<BlockedView>,
    recents: Arc<Vec<RecentView>>,
}

impl People {
    fn read(book: &dyn AddressBook) -> Self {
        let (contacts, requests) = (book.contacts(), book.requests());
        let calls = book.calls(MAX_RECENT);
        let name_of = |user: UserId| {
            let contact = contacts.iter().find(|contact| contact.user == user);
            let request = requests.iter().find(|request| request.user == user);
            match contact {
                Some(contact) => contact.name.clone(),
                None => book.display_name(user, request.map_or("", |request| &request.name)),
            }
        };
        let recents = calls
            .iter()
            .map(|call| RecentView::new(call, name_of(call.peer)));
        Self {
            recents: Arc::new(recents.collect()),
            contacts,
            requests,
            blocked: book.blocked(),
        }
    }
}

impl Engine {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        mut config: EngineConfig,
        me: watch::Receiver<Me>,
        renewer: Renewer,
        book: Arc<dyn AddressBook>,
        endpoint: Endpoint,
        hub: Arc<PortHub>,
        nat: NatScout,
        files: Files,
        inbox: mpsc::Sender<Internal>,
        commands: mpsc::Receiver<Command>,
        view: watch::Sender<View>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        let rng = ChaCha20Rng::from_seed(runtime.random_array());
        config.limits.media.video = config.video.shows();
        let limits: CallConfig = config.limits.clone();
        let (farewell, farewells) = mpsc::channel(1);
        let mail = mail::Mail::new(config.upkeep.every_device);
        Self {
            farewell,
            farewells,
            relays: Relays::new(Arc::clone(&runtime), Arc::clone(&hub)),
            bench: Workbench::new(Arc::clone(&runtime), config.upkeep.one_search),
            gatherer: Arc::new(Gatherer::start(
                &runtime,
                &hub,
                endpoint.local_addr(),
                config.allow_loopback,
            )),
            people: People::read(&*book),
            conversations: Conversations::default(),
            began: runtime.now(),
            runtime,
            config,
            me,
            renewer,
            book,
            endpoint,
            hub,
            nat,
            spray_gate: SprayGate::default(),
            homes: Vec::new(),
            choice: None,
            homes_up: watch::Sender::default(),
            rendezvous: None,
            door: None,
            mapper: None,
            calls: Calls::new(limits),
            slots: BTreeMap::new(),
            guard: OfferGuard::new(),
            tags: BTreeMap::new(),
            rng,
            inbox,
            commands,
            view,
            events,
            ready: false,
            home_was_up: BTreeMap::new(),
            recording: None,
            ending_recordings: Vec::new(),
            volumes: BTreeMap::new(),
            mail,
            files,
            file_links: BTreeMap::new(),
            ticks: 0,
            trust: Trust::default(),
            witnesses: Witnesses::default(),
            presences: Presences::default(),
            lender: None,
            lending: LendingView::default(),
        }
    }

    /// Runs until the last handle is gone or somebody quits.
    pub(super) async fn run(mut self, mut happenings: mpsc::Receiver<Internal>) {
        self.show();
        self.open_mail();
        self.open_conversations();
        self.show();
        self.tell_own_devices();
        self.watch_pass();
        self.post_due();
        let mut tick = self.runtime.sleep(TICK);
        loop {
            let deadline = self.calls.poll_timeout().map(|(at, _reason)| at);
            let wait = deadline.unwrap_or_else(|| self.runtime.now() + Duration::from_secs(3600));
            let timer = self.runtime.sleep_until(wait);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Quit) | None => break,
                    Some(command) => {
                        self.handle_command(command);
                        self.drain();
                        // Whoever asked looks for the effect.
                        self.show();
                    }
                },
                Some(happening) = happenings.recv() => self.handle(happening),
                Ok(()) = self.me.changed() => {
                    self.take_me();
                }
                () = timer => {
                    let now = self.runtime.now();
                    self.calls.handle_timeout(now);
                }
                () = &mut tick => {
                    tick.reset(self.runtime.now() + TICK);
                    self.look_at_door();
                    self.look_after_homes();
                    self.look_at_lending();
                    self.look_at_trust();
                    self.leave_draining_relays();
                    self.post_due();
                    self.look_at_own();
                    self.look_at_presence();
                    self.handle_tick();
                }
            }
            self.drain();
        }
        self.finish_mail(&mut happenings).await;
        self.shut_down().await;
    }

    /// Says good-bye to whoever we talk with, then to the homes.
    async fn shut_down(mut self) {
        let now = self.runtime.now();
        while let Some(info) = self.calls.current() {
            let ended = match info.state {
                CallState::RingingHere => self.calls.decline(now, info.call),
                CallState::LookingUp
                | CallState::Calling
                | CallState::RingingThere
                | CallState::Connecting
                | CallState::Talking
                | CallState::Reconnecting { .. } => self.calls.hang_up(now, info.call),
            };
            self.drain();
            if let Err(error) = ended {
                tracing::debug!(%error, "nothing to end");
                break;
            }
        }
        self.finish_recordings().await;
        self.keep_trust();
        if let Some(lender) = self.lender.take() {
            lender.close().await;
        }
        // Else the other side rings on, or waits for us to come back.
        drop(self.farewell);
        let said = self.farewells.recv();
        if timeout(&*self.runtime, FAREWELLS, said).await.is_none() {
            tracing::debug!("not everything was said");
        }
        self.slots.clear();
        self.homes.clear();
        self.door = None;
        if let Some(mapper) = self.mapper.take() {
            mapper.close().await;
        }
        self.endpoint.close(
            ahoy_transport::connection::CloseCode::Done,
            "the program ends",
        );
        self.endpoint.wait_idle().await;
    }

    // --- what the person wants -------------------------------------------------------------------

    fn handle_command(&mut self, command: Command) {
        // Nobody did anything.
        if let Command::Look(seen) = command {
            return self.look_at_people(seen);
        }
        let now = self.runtime.now();
        // What went wrong before is no news once the person does something else.
        self.view
            .send_if_modified(|view| view.notice.take().is_some());
        let current = self.calls.current();
        let call = current.as_ref().map(|info| info.call);
        let result = match (command, call) {
            (Command::Call(target), _) => return self.place(&target, false),
            (Command::Echo(link), _) => return self.place(&link, true),
            (Command::Accept, Some(call)) => self.calls.accept(now, self.ringing().unwrap_or(call)),
            (Command::Decline, Some(call)) => {
                self.calls.decline(now, self.ringing().unwrap_or(call))
            }
            (Command::DeclineSaying { call, to, id, text }, _) => {
                return self.decline_saying(call, to, id, &text);
            }
            (Command::Ignore, Some(_call)) => return self.ignore(),
            (Command::Switch, Some(_call)) => self.calls.switch(),
            (Command::HangUp, Some(call)) => {
                self.tell_report(call);
                self.calls.hang_up(now, call)
            }
            (Command::Mute(muted), Some(call)) => self.calls.set_muted(call, muted),
            (Command::Volume(percent), Some(call)) => {
                if let Some(slot) = self.slots.get_mut(&call) {
                    slot.volume_percent = percent;
                    if self.volumes.len() < MAX_VOLUMES || self.volumes.contains_key(&slot.user) {
                        self.volumes.insert(slot.user, percent);
                    }
                    if let Some((_device, media)) = &slot.media {
                        media.set_volume(percent);
                    }
                }
                return;
            }
            (Command::Hold(held), Some(call)) => self.calls.set_held(call, held),
            (Command::Show(wanted), Some(call)) => return self.show_pictures(call, wanted),
            (Command::ShareSound(on), Some(call)) => {
                if let Some(slot) = self.slots.get_mut(&call)
                    && let Some((_device, media)) = &mut slot.media
                {
                    media.share_sound(on);
                }
                return self.collect(call);
            }
            (Command::Record(wanted), Some(call)) => return self.record(call, wanted),
            (Command::Sound(change), call) => {
                self.change_sound(call, change);
                return;
            }
            (Command::Name(name), _) => return self.rename(&name),
            (Command::Strangers(strangers), _) => return self.book.set_strangers(strangers),
            (Command::PeopleChanged { user, blocked }, _) => {
                return self.people_changed(user, blocked);
            }
            (Command::Complain(notice), _) => return self.fail(notice),
            (Command::Message { id, to, text }, _) => return self.write_message(id, &to, &text),
            (Command::SendFile { id, to, path }, _) => return self.send_file(id, &to, path),
            (Command::File(id, change), _) => {
                self.files.tell(ToFiles::Change(id, change));
                return;
            }
            (Command::OpenChat(user), _) => return self.open_chat(user),
            (Command::NoteRead(user), _) => return self.note_read(user),
            (Command::People(change), _) => return self.change_people(&change),
            (Command::Lend(on), _) => return self.lend(on),
            (Command::Rate(call, rating), _) => return self.rate(call, rating),
            (Command::CallWaiting(on), _) => {
                self.calls.config_mut().call_waiting = on;
                return;
            }
            (Command::Presence(on), _) => return self.set_presence(on),
            (Command::DoNotDisturb(on), _) => {
                self.view.send_modify(|view| view.do_not_disturb = on);
                return;
            }
            (
                Command::Accept
                | Command::Decline
                | Command::Ignore
                | Command::Switch
                | Command::HangUp
                | Command::Mute(_)
                | Command::Volume(_)
                | Command::Hold(_)
                | Command::Show(_)
                | Command::ShareSound(_)
                | Command::Record(_),
                None,
            )
            | (Command::Look(_) | Command::Quit, _) => return,
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    /// Stays here: in the history, and in the report of the call.
    fn rate(&mut self, call: CallId, rating: Option<u8>) {
        self.book.rate(call, rating);
        self.people = People::read(&*self.book);
        self.view.send_modify(|view| {
            if let Some(last) = view.last.as_mut().filter(|last| last.id == call) {
                Arc::make_mut(last).report.rating = rating;
            }
        });
        self.show();
    }

    /// The call that rings here, or waits.
    fn ringing(&self) -> Option<CallId> {
        let calls = [self.calls.current(), self.calls.aside()];
        let mut calls = calls.into_iter().flatten();
        let ringing = calls.find(|info| info.state == CallState::RingingHere);
        ringing.map(|info| info.call)
    }

    /// The person wants to hear no more of who waits.
    fn ignore(&mut self) {
        let aside = self.calls.aside().map(|info| info.call);
        if let Some(slot) = aside.and_then(|call| self.slots.get_mut(&call)) {
            slot.ignored = true;
        }
    }

    /// Changes what the other side sees.
    fn show_pictures(&mut self, call: CallId, wanted: Option<Showing>) {
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        slot.pictures.begin();
        if wanted.is_none()
            && let Some((_device, media)) = &mut slot.media
        {
            media.share_sound(false);
        }
        let shown = match &mut slot.video {
            Some(video) => {
                let shown = video.show(wanted);
                shown.map_err(|error| PictureTrouble::Open(error.to_string()))
            }
            None if wanted.is_none() => Ok(true),
            None if !cfg!(feature = "video") => Err(PictureTrouble::NotBuilt),
            None if slot.media.is_none() => Err(PictureTrouble::NotYet),
            None => Err(PictureTrouble::NobodySees),
        };
        let is_blank = slot
            .video
            .as_ref()
            .is_none_or(|video| video.showing().is_none());
        match shown {
            Ok(true) => {}
            Ok(false) => self.collect(call),
            Err(trouble) => {
                slot.pictures.complain(trouble.clone());
                self.fail(Notice::Pictures(trouble));
            }
        }
        self.tell_blank(call, is_blank);
    }

    /// Tells the other side to take our picture away, or to expect one.
    fn tell_blank(&mut self, call: CallId, is_blank: bool) {
        if let Err(error) = self.calls.set_blank(call, is_blank) {
            tracing::debug!(%error, "the other side is not told");
        }
    }

    fn change_sound(&mut self, call: Option<CallId>, change: SoundChange) {
        let config = &mut self.config;
        config.sound.apply(&change);
        config.audio.devices = SoundDevices {
            microphone: config.sound.microphone.clone(),
            speaker: config.sound.speaker.clone(),
        };
        config.audio.voice = config.sound.voice(config.audio.voice.echo);
        config.audio.music = config.sound.music;
        for slot in self.slots.values_mut() {
            if let Some((_device, media)) = &mut slot.media {
                media.configure(&config.audio.devices, config.audio.voice);
                media.set_music(config.audio.music);
            }
        }
        self.calls.config_mut().begins_muted = config.sound.push_to_talk;
        // Who talks by a key is muted without it, from now on. Nobody is unmuted by a setting.
        if let (SoundChange::Switch(SoundSwitch::PushToTalk, true), Some(call)) = (&change, call)
            && let Err(error) = self.calls.set_muted(call, true)
        {
            tracing::debug!(%error, "not muted");
        }
        self.publish(Event::SoundChosen(change));
    }

    /// Calls somebody; the `echo` test is in this program, and nobody else is asked about it.
    fn place(&mut self, target: &str, echo: bool) {
        let person = match self.book.find(target) {
            Ok(person) => person,
            Err(notice) => return self.fail(notice),
        };
        if person.user == self.config.me.user {
            return self.fail(Notice::OwnLink);
        }
        let now = self.runtime.now();
        let fresh = CallId(self.runtime.random_array());
        match self.calls.place(now, fresh, person.user) {
            // Otherwise it was the call that rings from that person, and is answered now.
            Ok(call) if call == fresh => {
                let mut slot = Slot::new(now, person.user, person.name.clone());
                slot.person = Some(person);
                slot.echo = echo;
                self.insert_slot(call, slot);
            }
            Ok(_answered) => {}
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, notice: impl Into<Notice>) {
        let notice = notice.into();
        let sentence = notice.to_string();
        tracing::debug!(sentence, "command failed");
        self.view.send_modify(|view| view.notice = Some(notice));
        self.publish(Event::Failed { sentence });
    }

    /// Serves others, or no more.
    fn lend(&self, on: bool) {
        match &self.lender {
            Some(lender) => lender.set(on),
            None if on => self.fail(Notice::CannotLend),
            None => {}
        }
    }

    /// As it stands now.
    pub(super) fn lending(&self) -> LendingView {
        let view = self.lender.as_ref().map(Lender::view);
        view.unwrap_or_default()
    }

    fn look_at_lending(&mut self) {
        let now = self.lending();
        let is_news = (now.wanted, now.state, now.busy)
            != (self.lending.wanted, self.lending.state, self.lending.busy);
        if now != self.lending {
            self.lending = now;
            self.show();
        }
        if is_news {
            self.publish(Event::Lending(Box::new(self.lending.clone())));
        }
    }

    pub(super) fn publish(&self, event: Event) {
        // Nobody listening is fine: the view tells the same.
        self.events.send(event).unwrap_or_default();
    }

    fn insert_slot(&mut self, call: CallId, mut slot: Slot) {
        if let Some(percent) = self.volumes.get(&slot.user) {
            slot.volume_percent = *percent;
        }
        self.slots.insert(call, slot);
        // Links for files are counted where they are made.
        while self.slots.len() > MAX_SLOTS + self.file_links.len() {
            let oldest = self
                .slots
                .iter()
                .filter(|(call, _slot)| self.calls.info(**call).is_none())
                .filter(|(call, _slot)| !self.file_links.contains_key(call))
                .min_by_key(|(_call, slot)| slot.started)
                .map(|(call, _slot)| *call);
            let Some(oldest) = oldest else { return };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, call: CallId) {
        self.slots.remove(&call);
        self.file_links.remove(&call);
        self.tags.retain(|_tag, (of, _device)| *of != call);
    }

    // --- what happens outside --------------------------------------------------------------------

    fn handle(&mut self, happening: Internal) {
        match happening {
            Internal::Home(node, event) => self.handle_home(node, event),
            Internal::GuestPush(push) => self.handle_push(None, push),
            Internal::Published(event) => self.publish(Event::Record(event)),
            Internal::Testimony { node, user, said } => self.handle_testimony(node, user, &said),
            Internal::Records { user, records } => self.weigh_records(user, &records),
            Internal::PresenceAsked(user, heard) => self.presence_asked(user, heard),
            Internal::PassEnds(left) => self.tell_pass_ends(left),
            Internal::Probed { node, mark, taken } => self.handle_probed(node, mark, taken),
            Internal::Tried(node, stats) => self.handle_tried(node, stats),
            Internal::NetworkChanged(state) => self.handle_network(&state),
            Internal::Found { call, findings } => self.handle_found(call, findings),
            Internal::FoundMore { call, findings } => self.handle_found_more(call, findings),
            Internal::Delivered {
                call,
                device,
                node,
                result,
            } => self.handle_delivered(call, device, node, result),
            Internal::Leg {
                call,
                device,
                event,
            } => self.handle_leg(call, device, event),
            Internal::Letters(delivery) => self.handle_letters(delivery),
            Internal::Fetched(node) => self.handle_fetched(node),
            Internal::Posted(posted) => self.handle_posted(posted),
            Internal::Files(news) => self.handle_files(news),
        }
    }

    fn handle_home(&mut self, node: NodeId, event: HomeEvent) {
        match event {
            HomeEvent::Registered(registered) => {
                // Through a tunnel nothing was learnt about UDP, which may not even be wanted.
                if !registered.observed.ip().is_unspecified() {
                    if let Some(lender) = &self.lender {
                        lender.note_observed(registered.observed.ip());
                    }
                    let up = self.home(node);
                    if let Some(home) = up.as_ref().and_then(|up| up.client.connection()) {
                        self.gatherer
                            .note(home.remote_address(), registered.observed);
                    }
                    self.nat.measure();
                }
                self.each_leg(|leg| leg.handle_home_up(node));
                self.ask_for_witness(node);
                self.trust.note_up(node, true, self.runtime.now());
                let was_up = self.home_was_up.insert(node, true);
                if was_up == Some(false) {
                    self.publish(Event::HomeBack { node });
                }
                if was_up != Some(true) {
                    self.hurry_mail();
                    self.hurry_presence();
                    self.files.tell(ToFiles::Hurry);
                }
                self.become_ready();
            }
            HomeEvent::Lost { reason, closed } => {
                tracing::debug!(?node, reason, "home lost");
                let notice = closed.map(|why| Notice::ShutOut { why, text: reason });
                if let Some(notice) = notice
                    && self.view.borrow().notice.as_ref() != Some(&notice)
                {
                    self.tell_person(notice);
                }
                self.trust.note_up(node, false, self.runtime.now());
                self.each_leg(|leg| leg.handle_home_lost(node));
                if self.home_was_up.insert(node, false) == Some(true) {
                    self.publish(Event::HomeLost { node });
                }
            }
            HomeEvent::Incoming { delivery, envelope } => {
                self.handle_push(Some(node), Push::Incoming { delivery, envelope });
            }
            HomeEvent::ReplyTo { delivery, payload } => {
                self.handle_push(Some(node), Push::ReplyTo { delivery, payload });
            }
            HomeEvent::Draining => self.handle_draining(node),
            HomeEvent::Mail => self.fetch_mail(node),
        }
        self.note_homes();
        self.show();
    }

    /// Whoever publishes us learns where we are registered now.
    pub(super) fn note_homes(&self) {
        let homes = self.config.homes.iter().map(|(address, _addr)| address);
        let up: Vec<NodeAddress> = homes
            .filter(|home| self.home_was_up.get(&home.node) == Some(&true))
            .cloned()
            .collect();
        if let Some(rendezvous) = &self.rendezvous {
            let clients = self.homes.iter();
            let clients = clients.filter_map(|home| Some((home.node(), home.up()?.client.clone())));
            rendezvous.set_ours(&up, clients.collect());
            let news: Vec<NodeAddress> = {
                let known = self.homes_up.borrow();
                let news = up.iter().filter(|home| !known.contains(home));
                news.cloned().collect()
            };
            rendezvous.note(&news);
        }
        self.homes_up.send_if_modified(|known| {
            let is_news = *known != up;
            *known = up;
            is_news
        });
    }

    /// Homes first: whatever a leg needs of them waits for them.
    fn handle_network(&mut self, state: &NetworkState) {
        self.gatherer.refresh();
        if let Some(mapper) = &self.mapper {
            mapper.poke();
        }
        if let Some(door) = &self.door {
            door.network_changed();
        }
        if !state.networks.is_offline() {
            self.homes.iter().for_each(Home::kick);
        }
        if self.config.path != PathPolicy::Tcp {
            self.nat.measure_anew();
        }
        self.each_leg(|leg| leg.network_changed(state));
    }

    /// Where no home answers, this network can call us. Whoever started us listens by the first tick.
    fn look_at_door(&mut self) {
        if self.ready || self.door.is_none() {
            return;
        }
        let waited = self.runtime.now().saturating_duration_since(self.began);
        // Each has said why not, none has been there.
        let mut homes = self.homes.iter();
        let in_vain = homes.all(|home| self.home_was_up.get(&home.node()) == Some(&false));
        if !in_vain && waited < HOMES_FIRST {
            let networks = self.runtime.networks();
            let alone = networks.route_v4.is_none() && networks.route_v6.is_none();
            if !alone || waited < HOMES_FIRST_ALONE {
                return;
            }
        }
        if !self.homes.is_empty() {
            tracing::warn!("no supernode answers: only people in this network can call so far");
        }
        self.become_ready();
    }

    /// What callers in this network are shown of us is as new as what homes have.
    fn renew_door(&mut self) {
        if let Some(door) = &mut self.door {
            let epoch = u64::from_be_bytes(self.runtime.random_array());
            let renewed = door.renew(self.config.me.registration(epoch));
            if let Err(error) = renewed {
                tracing::warn!(%error, "callers in this network see an old certificate");
            }
        }
    }

    /// Somebody can call us now.
    fn become_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            let link = self.link();
            self.view.send_modify(|view| view.link = Some(link.clone()));
            self.publish(Event::Ready { link });
        }
    }

    /// Our link with the homes we have.
    fn link(&self) -> String {
        let homes = self.config.homes.iter().map(|(address, _addr)| address);
        let mut homes: Vec<NodeAddress> = homes.cloned().collect();
        // Those that answer come first, and of the others only as many as a link holds.
        if homes.len() > MAX_HOMES {
            homes.sort_by_key(|home| self.home_was_up.get(&home.node) != Some(&true));
            homes.truncate(MAX_HOMES);
        }
        self.book.my_link(homes)
    }

    // --- small helpers ---------------------------------------------------------------------------

    pub(super) fn home(&self, node: NodeId) -> Option<Arc<HomeUp>> {
        let door = self.door.as_ref();
        if let Some(door) = door.filter(|door| door.place().node == node) {
            return Some(door.up());
        }
        self.homes.iter().find(|home| home.node() == node)?.up()
    }

    fn leg(&mut self, call: CallId, device: DeviceId) -> Option<&mut Leg> {
        self.slots.get_mut(&call)?.legs.get_mut(&device)
    }

    pub(super) fn any_leg(&self, which: impl Fn(&Leg) -> bool) -> bool {
        let mut slots = self.slots.values();
        slots.any(|slot| slot.legs.values().any(&which))
    }

    pub(super) fn each_leg(&mut self, mut tell: impl FnMut(&mut Leg)) {
        for slot in self.slots.values_mut() {
            slot.legs.values_mut().for_each(&mut tell);
        }
    }

    /// Relays are those of our homes. Who has none uses the one that is `lent`, if any.
    fn leg_context(
        &self,
        call: CallId,
        device: VerifiedDevice,
        lent: Option<RelaySource>,
    ) -> LegContext {
        // Relays out there do not reach what is in this program.
        let echo = self.slots.get(&call).is_some_and(|slot| slot.echo);
        let mut sources = if echo {
            Vec::new()
        } else {
            self.relay_sources()
        };
        let now_millis = self.runtime.unix_millis();
        sources.sort_by_key(|source| (!source.is_up(), self.trust.rank(source.node(), now_millis)));
        sources.truncate(MAX_RELAYED);
        if !sources.iter().any(RelaySource::is_up) {
            sources.extend(lent);
        }
        LegContext {
            runtime: Arc::clone(&self.runtime),
            endpoint: self.endpoint.clone(),
            hub: Arc::clone(&self.hub),
            relays: self.relays.clone(),
            me: self.config.me.clone(),
            call,
            device,
            contact: self.shares_files(device.user()),
            verified: self.book.is_verified(device.user()),
            path: if echo {
                PathPolicy::Auto
            } else if self.book.relay_only(device.user()) {
                PathPolicy::Relay
            } else {
                self.config.path
            },
            upkeep: self.config.upkeep,
            nat: self.nat.reports(),
            guess_ports: self.config.guess_ports,
            gate: self.spray_gate.clone(),
            gatherer: Arc::clone(&self.gatherer),
            sources,
            inbox: self.inbox.clone(),
            files: self.files.tell.clone(),
            farewell: self.farewell.downgrade(),
            bench: self.bench.clone(),
        }
    }
}

impl Slot {
    fn new(now: Instant, user: UserId, name: String) -> Self {
        Self {
            user,
            name,
            started: now,
            person: None,
            targets: BTreeMap::new(),
            searching: None,
            offered: BTreeMap::new(),
            _guests: Vec::new(),
            legs: BTreeMap::new(),
            retried: Vec::new(),
            media: None,
            video: None,
            pictures: PictureWatch::default(),
            held_there: false,
            ignored: false,
            echo: false,
            report: ReportBuilder::default(),
            cost: None,
            path: None,
            talking_since: None,
            first_audio_told: false,
            volume_percent: NORMAL_PERCENT,
            recorded_by_itself: false,
            sound_trouble: None,
            recorded: None,
            recorded_there: false,
        }
    }
}
