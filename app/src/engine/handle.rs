//! How a window, a script or a test talks to a running engine: commands in, a view and events out.
//!
//! The view is the whole visible state, replaced at each change; whoever draws it needs nothing else. Events
//! are what happened, for those who wait for something.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ahoy_nat::discovery::dht::publisher::PublishEvent;
use ahoy_transport::identity::{NodeAddress, NodeId, UserId};
use tokio::sync::{broadcast, mpsc, watch};

use super::{
    files::{FileChange, TransferView},
    lending::LendingView,
    media::SoundNews,
    nat::NatReports,
    notice::{Notice, SoundTold},
    people::{ChatView, ConversationView, PeopleChange, RecentView},
    presence::Presence,
    recording::{RecordTo, RecordingNews, RecordingView},
    renewal::Renewer,
    video::{PictureNews, Showing, view::PicturesView},
};
use crate::{
    call::{CallId, Direction, Ending},
    chat::{Message, MessageId, MessageState},
    contacts::{Ring, Strangers},
    files::TransferId,
    report::{Outcome, Report, Search},
    sound::{SoundChange, SoundChoices},
};

/// Commands that wait for the engine. A person cannot click faster.
pub const COMMAND_QUEUE: usize = 64;
/// Events that a slow listener may fall behind before it loses the oldest.
pub const EVENT_QUEUE: usize = 256;

/// What the person, or a script, wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Call a contact by name, or a person by link.
    Call(String),
    /// Call the echo test, which this program has started, by its link.
    Echo(String),
    /// Answer the call that rings; the one in hand is put on hold for one that waits.
    Accept,
    /// Do not answer the call that rings, or waits.
    Decline,
    /// Do not answer this call, and write to whoever calls if they are a contact; also where they have given up meanwhile.
    DeclineSaying {
        /// The call that rings, or waits.
        call: CallId,
        /// Who calls.
        to: UserId,
        /// Names the message; random.
        id: MessageId,
        /// What they are told.
        text: String,
    },
    /// Hear no more of the call that waits, which goes on waiting.
    Ignore,
    /// Go on with the call that is on hold, and put the one in hand on hold.
    Switch,
    /// End the call, or stop calling.
    HangUp,
    /// Send silence, or the microphone again.
    Mute(bool),
    /// Hear the other side at this volume, in percent of what it sends: 0 to 400.
    Volume(u16),
    /// Put the other side on hold, or take it off again.
    Hold(bool),
    /// Show this to the other side from now on, instead of what was shown before, or nothing.
    Show(Option<Showing>),
    /// Let the other side hear what other programs play, or no more. Ends with what is shown.
    ShareSound(bool),
    /// Record the call there from now on, or no more. Refused while the other side cannot be told.
    Record(Option<RecordTo>),
    /// Note how good the person found a call that is over, 1 to 5, or nothing.
    Rate(CallId, Option<u8>),
    /// Calls come in without a sound, or ring again.
    DoNotDisturb(bool),
    /// Who calls during a call waits, from now on, or hears that the person is busy.
    CallWaiting(bool),
    /// Contacts may know whether this device is there, and are asked; or neither.
    Presence(bool),
    /// Somebody looks at the window from now on, or nobody does: contacts are asked only then.
    Look(bool),
    /// Serve others as a supernode from now on, or no more.
    Lend(bool),
    /// Another microphone, without echo cancellation, and so on: from now on, also in a call that goes on.
    Sound(SoundChange),
    /// Write to a contact by name, or to a person by link.
    Message {
        /// Names the message; random.
        id: MessageId,
        /// To whom.
        to: String,
        /// What.
        text: String,
    },
    /// Offer a file to a contact.
    SendFile {
        /// Names the transfer; random.
        id: TransferId,
        /// To whom: a contact by name, or by link.
        to: String,
        /// Which.
        path: PathBuf,
    },
    /// Fetch a file that is offered, or do not, and so on.
    File(TransferId, FileChange),
    /// Show the conversation with this person from now on, or none.
    OpenChat(Option<UserId>),
    /// What this person wrote was read.
    NoteRead(UserId),
    /// Change the address book.
    People(PeopleChange),
    /// Somebody else changed it, who holds the profile, too.
    PeopleChanged {
        /// About whom.
        user: UserId,
        /// They are never to be heard of again.
        blocked: bool,
    },
    /// What the person is called from now on: in their link, and where they call strangers.
    Name(String),
    /// What becomes of calls by people who are no contacts, from now on.
    Strangers(Strangers),
    /// Something went wrong outside of the engine.
    Complain(Notice),
    /// Close everything.
    Quit,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Registered at a home for the first time: this link reaches us.
    Ready {
        /// The `ahoy:` link with the homes that answered.
        link: String,
    },
    /// A home is lost; the engine keeps trying.
    HomeLost {
        /// Which.
        node: NodeId,
    },
    /// A home is there again.
    HomeBack {
        /// Which.
        node: NodeId,
    },
    /// Lending began, ended, or is in the way of something.
    Lending(Box<LendingView>),
    /// Something is out of the ordinary that somebody may be behind.
    Anomaly {
        /// What.
        kind: Anomaly,
        /// For a person.
        sentence: String,
    },
    /// What became of our record, by which others find us where no known home answers.
    Record(PublishEvent),
    /// Somebody calls.
    Incoming {
        /// Which call.
        call: CallId,
        /// Who, as their certificate proves.
        from: UserId,
    },
    /// Somebody calls during a call, and waits.
    Waiting {
        /// Which call.
        call: CallId,
        /// Who, as their certificate proves.
        from: UserId,
    },
    /// A stranger called; the call waits in the request inbox and does not ring.
    Request {
        /// Who, as their certificate proves.
        from: UserId,
    },
    /// Somebody wrote, or called while nobody could answer here.
    Message {
        /// What the writer is called here.
        name: String,
        /// What came.
        message: Message,
        /// A stranger's: it waits in the request inbox.
        request: bool,
    },
    /// Something became of a message of ours, or of word that we called.
    MessageState {
        /// Which.
        id: MessageId,
        /// To whom.
        to: UserId,
        /// What that person is called here.
        name: String,
        /// What.
        state: MessageState,
    },
    /// A file was offered, or something became of one. What it is doing is in the view.
    File(Box<TransferView>),
    /// The other side rings.
    Ringing {
        /// Which call.
        call: CallId,
    },
    /// Both sides agreed; sound flows.
    Connected {
        /// Which call.
        call: CallId,
    },
    /// The first sound of the other side left the speaker.
    FirstAudio {
        /// Which call.
        call: CallId,
        /// When.
        at: Instant,
    },
    /// Something happened to the microphone or the speaker of a call.
    Sound {
        /// Which call.
        call: CallId,
        /// What.
        news: SoundNews,
    },
    /// Something happened to the pictures of a call.
    Pictures {
        /// Which call.
        call: CallId,
        /// What.
        news: PictureNews,
    },
    /// Something happened to the recordings of a call, here or there.
    Recording {
        /// Which call.
        call: CallId,
        /// What.
        news: RecordingNews,
    },
    /// The person has chosen something about sound.
    SoundChosen(SoundChange),
    /// The call is over.
    Ended {
        /// Which call.
        call: CallId,
        /// How, in the report's word.
        outcome: Outcome,
        /// How, exactly.
        ending: Ending,
        /// How, for a person.
        sentence: String,
        /// What was measured.
        report: Box<Report>,
    },
    /// A command could not be carried out.
    Failed {
        /// What is wrong and what to do, for a person.
        sentence: String,
    },
}

/// What is out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anomaly {
    /// Two lists of one person's devices contradict each other.
    ForkedList,
    /// Supernodes signed another device list of a person than the newest record speaks of, or nobody signed that one.
    DoubtfulList,
    /// Our pass to a private network is about to end, or has ended.
    PassEnds,
    /// A supernode showed what nobody signed, or throws away what it says it handed on.
    DishonestSupernode,
}

impl Anomaly {
    /// In a word, for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ForkedList => "forked_list",
            Self::DoubtfulList => "doubtful_list",
            Self::PassEnds => "pass_ends",
            Self::DishonestSupernode => "dishonest_supernode",
        }
    }
}

/// Everything that can be shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The link that reaches us, once a home answered.
    pub link: Option<String>,
    /// The homes and how they are.
    pub homes: Vec<HomeView>,
    /// What is thought of them.
    pub standings: Vec<HomeStanding>,
    /// People in the address book, by name.
    pub contacts: Vec<ContactView>,
    /// Which of them can be reached now; who is not in it may be anywhere.
    pub presences: Arc<BTreeMap<UserId, Presence>>,
    /// Strangers who called.
    pub requests: Vec<RequestView>,
    /// People whom nobody wants to hear from.
    pub blocked: Vec<BlockedView>,
    /// Conversations, those with news first.
    pub conversations: Arc<Vec<ConversationView>>,
    /// Calls, the newest first.
    pub recents: Arc<Vec<RecentView>>,
    /// The conversation that is open.
    pub chat: Option<Arc<ChatView>>,
    /// Files on their way, and those that came or went; the oldest first.
    pub files: Arc<Vec<TransferView>>,
    /// Calls come in without a sound.
    pub do_not_disturb: bool,
    /// What is chosen about sound.
    pub sound: SoundChoices,
    /// What this machine does for others.
    pub lending: LendingView,
    /// The call that goes on, rings, or just ended.
    pub call: Option<CallView>,
    /// Beside the call that goes on: one that waits, or is on hold.
    pub other: Option<OtherCall>,
    /// The call that ended last, if anything was said in it.
    pub last: Option<Arc<LastCall>>,
    /// The last thing that went wrong.
    pub notice: Option<Notice>,
}

impl View {
    /// Whether a call of this person makes a sound and asks for attention.
    #[must_use]
    pub fn is_heard(&self, user: UserId) -> bool {
        let contact = self.contacts.iter().find(|contact| contact.user == user);
        let ring = contact.map(|contact| contact.ring).unwrap_or_default();
        ring.is_heard(self.do_not_disturb)
    }
}

/// A call that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct LastCall {
    /// Which call.
    pub id: CallId,
    /// What was measured, without what names people, devices and places.
    pub report: Report,
}

/// A supernode where we are, or want to be, registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeView {
    /// The supernode's key.
    pub node: NodeId,
    /// Registered there now.
    pub registered: bool,
}

/// What is thought of a home: see [`ahoy_nat::discovery::reputation`].
#[derive(Debug, Clone, PartialEq)]
pub struct HomeStanding {
    /// The supernode.
    pub address: NodeAddress,
    /// Registered there now.
    pub registered: bool,
    /// Words that it kept, as far as they still count.
    pub kept: f64,
    /// Words that it broke, likewise.
    pub broken: f64,
    /// Share of words that it keeps, at the least: 0 to 1.
    pub least: f64,
    /// Its round trip.
    pub rtt: Option<Duration>,
    /// It is not to be used.
    pub bad: bool,
    /// It showed something that nobody signed, not long ago.
    pub lied: bool,
    /// Why, for a person.
    pub why: String,
}

/// A line of the address book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactView {
    /// As the owner of this profile calls them.
    pub name: String,
    /// Their key.
    pub user: UserId,
    /// Compared by safety words.
    pub verified: bool,
    /// Never learns our address.
    pub relay_only: bool,
    /// How their calls are told of.
    pub ring: Ring,
    /// Two lists of their devices were seen that contradict each other.
    pub forked: bool,
}

/// Somebody who is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedView {
    /// What they were called here, or the start of their key.
    pub name: String,
    /// Their key.
    pub user: UserId,
}

/// A line of the request inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestView {
    /// As they call themselves.
    pub name: String,
    /// Their key.
    pub user: UserId,
}

/// A call beside the one in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCall {
    /// Which call.
    pub id: CallId,
    /// As in [`CallView::name`].
    pub name: String,
    /// Their key.
    pub user: UserId,
    /// What it does.
    pub state: OtherState,
    /// When it was placed or came in.
    pub started: Instant,
}

/// What a call beside the one in hand does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherState {
    /// It waits to be answered.
    Waits,
    /// The same, and the person wants to hear no more of it.
    Ignored,
    /// It is on hold.
    OnHold,
    /// It is on hold, and no path works for the moment.
    Reconnecting,
}

impl OtherState {
    /// Somebody waits to be answered.
    #[must_use]
    pub fn waits(self) -> bool {
        match self {
            Self::Waits | Self::Ignored => true,
            Self::OnHold | Self::Reconnecting => false,
        }
    }
}

/// The call as the person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct CallView {
    /// Which call.
    pub id: CallId,
    /// Contact name, or what they call themselves, or the start of their key.
    pub name: String,
    /// Their key.
    pub user: UserId,
    /// We placed it.
    pub outgoing: bool,
    /// When it was placed or came in.
    pub started: Instant,
    /// How far it has come.
    pub phase: Phase,
    /// We send silence.
    pub muted: bool,
    /// We put the other side on hold.
    pub held: bool,
    /// The other side put us on hold.
    pub held_there: bool,
    /// What is seen, both ways.
    pub pictures: PicturesView,
    /// The other side hears what other programs play.
    pub shares_sound: bool,
    /// We record it.
    pub recording: Option<RecordingView>,
    /// The other side records it.
    pub recorded_there: bool,
    /// What we recorded of it last, complete.
    pub recorded: Option<PathBuf>,
    /// Where the media goes now: `direct`, `relay`, …
    pub path: Option<&'static str>,
    /// Its round trip, as measured last.
    pub rtt: Option<Duration>,
    /// What was counted since sound flows.
    pub stats: Option<StatsView>,
    /// What keeps sound from flowing here: a device that was pulled out, say.
    pub sound_trouble: Option<SoundTold>,
    /// While it is reconnecting: when it is given up.
    pub gives_up_at: Option<Instant>,
    /// What finding direct paths has cost so far; absent while none was looked for.
    pub search: Option<Search>,
    /// Words to compare aloud, once the keys are agreed.
    pub safety_words: Vec<String>,
    /// They were made by commit and reveal: nobody in between could try keys beforehand.
    pub words_committed: bool,
    /// How loud the other side is heard, in percent of what it sends.
    pub volume_percent: u16,
    /// Level of our own sound, dBFS.
    pub level_in: f32,
    /// Level of their sound, dBFS.
    pub level_out: f32,
}

/// What was counted in a call since its sound began. All but the last group only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StatsView {
    /// Voice packets that we sent.
    pub packets_sent: u64,
    /// Their bytes, without what the network adds.
    pub bytes_sent: u64,
    /// Voice packets that came.
    pub packets_received: u64,
    /// Voice packets that did not, before any repair.
    pub packets_lost: u64,
    /// Voice packets that came too late to be played.
    pub packets_late: u64,
    /// Frames that were lost and restored from what other packets had of them.
    pub frames_recovered: u64,
    /// Samples played, at 48 kHz.
    pub samples_played: u64,
    /// Of these, invented ones.
    pub samples_concealed: u64,
    /// From the arrival of a packet until it plays, the median.
    pub buffer: Duration,
    /// The part of our packets that is lost on the way there, 0 to 1, as measured last.
    pub loss_there: Option<f32>,
    /// What the path in use carries, in bits per second, as estimated last.
    pub capacity_bps: Option<u64>,
    /// Frames of pictures that we sent.
    pub pictures_sent: Option<u64>,
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// We look for them and wait for their device to ring.
    Calling,
    /// Their device rings.
    Ringing,
    /// Our device rings.
    Incoming,
    /// Answered; the first sound is on its way.
    Connecting,
    /// Sound flows.
    Talking {
        /// Since when.
        since: Instant,
    },
    /// No path works for the moment.
    Reconnecting,
    /// Over: see [`sentence::ended`](super::sentence::ended).
    Ended {
        /// Who had called whom.
        direction: Direction,
        /// How.
        ending: Ending,
    },
}

/// The near end of a running engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    events: broadcast::Sender<Event>,
    nat: watch::Receiver<NatReports>,
    /// Listens since before the engine ran, until somebody wants it.
    first_listener: Arc<Mutex<Option<broadcast::Receiver<Event>>>>,
    renewer: Renewer,
}

impl EngineHandle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        view: watch::Receiver<View>,
        events: broadcast::Sender<Event>,
        renewer: Renewer,
        nat: watch::Receiver<NatReports>,
    ) -> Self {
        Self {
            renewer,
            commands,
            view,
            nat,
            first_listener: Arc::new(Mutex::new(Some(events.subscribe()))),
            events,
        }
    }

    /// Asks the engine to do something. Never waits; `false` when the engine is gone or hopelessly behind.
    pub fn send(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// For whoever keeps the identity.
    #[must_use]
    pub fn renewer(&self) -> Renewer {
        self.renewer.clone()
    }

    /// The state to show, and a way to wait for the next.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// How the NATs in front of this device behave, as measured last.
    #[must_use]
    pub fn nat(&self) -> watch::Receiver<NatReports> {
        self.nat.clone()
    }

    /// What happens from now on. Who asks first also hears what happened since the engine began: it may have
    /// registered before anybody could ask.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        let first = self
            .first_listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.unwrap_or_else(|| self.events.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::{engine::config::Me, identity::Identity};

    #[test]
    fn the_first_listener_hears_what_happened_before_it_asked() {
        let (commands, _queue) = mpsc::channel(1);
        let (_view, shown) = watch::channel(View::default());
        let (events, _) = broadcast::channel(4);
        let identity = Identity::create(&mut OsRng, 0);
        let (renewer, _me) = Renewer::new(Me::of(&identity, "Bo"));
        let handle = EngineHandle::new(
            commands,
            shown,
            events.clone(),
            renewer,
            watch::channel(NatReports::default()).1,
        );
        let link = String::from("ahoy:");
        events.send(Event::Ready { link }).unwrap();
        assert!(matches!(
            handle.events().try_recv(),
            Ok(Event::Ready { .. })
        ));
        assert!(handle.events().try_recv().is_err());
    }
}
