//! Talking to the app that runs on a profile: one line of JSON each way, over a local socket.
//!
//! ```text
//! -> {"id":1,"command":"status"}
//! <- {"id":1,"ok":true,"result":{"protocol":1,…}}
//! -> {"id":2,"command":"hang_up"}
//! <- {"id":2,"ok":false,"error":{"code":"no_call","message":"there is no call"}}
//! -> {"id":3,"command":"events"}
//! <- {"id":3,"ok":true}
//! <- {"event":"call","call":{…}}
//! ```
//!
//! Answers come in the order of the requests; after `events`, happenings come between them. A line is UTF-8,
//! ends with a line feed and has at most [`MAX_LINE_BYTES`]; `id` is optional and comes back as it was.
//!
//! The protocol and the splitting of lines are here and in [`codec`] and know no socket; the socket is in
//! the file of each system. The engine implements [`ControlHandler`].

use std::{fmt, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use ahoy_transport::identity::UserId;

use crate::{
    call::{CommandError, EndedCall},
    chat::{MessageId, MessageState, Obstacle},
    people::{List, PeopleRequest},
};

pub mod codec;
#[cfg(unix)]
mod unix;

#[cfg(unix)]
#[cfg(test)]
mod tests;

#[cfg(unix)]
pub use unix::{ControlClient, ControlServer, socket_path};

/// The version that `status` tells.
pub const PROTOCOL: u32 = 1;
/// Longest line in either direction. A status with every home and a call fits many times.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// Clients at once: scripts, key bindings and a status bar, with room.
pub const MAX_CLIENTS: usize = 16;
/// Happenings kept for a client that reads slowly; older ones are counted and left out.
pub const EVENT_BACKLOG: usize = 64;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// What a running app can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// What is going on? Answered with a [`Status`].
    Status,
    /// Accept the call that rings.
    Accept,
    /// Decline the call that rings, or waits.
    Decline,
    /// Hear no more of the call that waits.
    Ignore,
    /// Go on with the call that is on hold.
    Switch,
    /// End the call, whatever it is doing.
    HangUp,
    /// Mute the microphone.
    Mute,
    /// Unmute the microphone.
    Unmute,
    /// Mute or unmute, whichever it is not.
    ToggleMute,
    /// Push to talk: the key is down.
    PttDown,
    /// Push to talk: the key is up.
    PttUp,
    /// Put the other side on hold, or take it off again.
    Hold {
        /// On hold?
        on: bool,
    },
    /// Do not disturb: calls come in without a sound.
    Dnd {
        /// Undisturbed?
        on: bool,
    },
    /// Show a camera, or nothing.
    Camera {
        /// Show it?
        on: bool,
        /// Which, as `ahoy doctor` tells it; absent: the first that works.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// Show something else: `screen`, `screen:NAME`, `screen:all`, `screen:pick`, `window:TITLE`, `pattern` or a film by its
    /// whole path; `none` for nothing.
    Share {
        /// What.
        source: String,
        /// `auto`, `text` or `motion`; absent: `auto`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// What other programs play is heard too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sound: bool,
    },
    /// Record the call, or no more.
    Record {
        /// To this file, by its whole path; absent: no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
    },
    /// Call a contact or a link.
    Call {
        /// A contact's name or an `ahoy:` link.
        to: String,
    },
    /// Write to a contact or a link. Answered with [`Told::Message`] once it is known how far it got, within seconds.
    Message {
        /// A contact's name or an `ahoy:` link.
        to: String,
        /// What to say.
        text: String,
    },
    /// What was written? Answered with [`Told::Messages`], the newest that a line holds.
    Messages {
        /// A contact's name or an `ahoy:` link; absent: everybody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<String>,
    },
    /// Offer a file to a contact. Answered with [`Told::File`] once it is read through.
    SendFile {
        /// A contact's name or an `ahoy:` link.
        to: String,
        /// Its whole path.
        file: PathBuf,
    },
    /// Which files are there? Answered with [`Told::Files`], the newest that a line holds.
    Files,
    /// What becomes of a file. Answered with [`Told::File`].
    File {
        /// Its id, or the beginning of it.
        file: String,
        /// `accept`, `refuse`, `cancel` or `pause`.
        action: String,
    },
    /// The address book. Answered with [`Told::Said`] or [`Told::People`].
    Contact {
        /// What about it.
        request: PeopleRequest,
    },
    /// A new device of the person, let in by whoever sits there. Answered with [`Told::LetIn`].
    LetIn {
        /// Its id, in z-base-32.
        device: String,
        /// Its Noise static public key, likewise.
        noise: String,
        /// What it calls itself.
        name: String,
    },
    /// A device of the person is lost. Answered with [`Told::Said`].
    RevokeDevice {
        /// Its name, or the beginning of its id.
        device: String,
    },
    /// Show the window, with this in its call field.
    Open {
        /// An `ahoy:` or `ahoy-node:` link; empty: nothing.
        #[serde(default)]
        link: String,
    },
    /// What is thought of the homes? Answered with [`Told::Homes`].
    Homes,
    /// Serve others as a supernode, or no more. Answered with [`Told::Lending`], at once.
    Lend {
        /// Serve? Absent: leave it as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<bool>,
    },
    /// Send happenings from now on. Answered by the server itself.
    Events,
}

/// Somebody started the app while it runs: the window is to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// How often that was so.
    pub count: u64,
    /// The link that it was started by; empty: none.
    pub link: String,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// As in the request; absent when the request could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Whether it was done.
    pub ok: bool,
    /// What was asked for, if it was something to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Told>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ControlError>,
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Told {
    /// What was written.
    Messages {
        /// Oldest first.
        messages: Vec<MessageLine>,
    },
    /// How far a message got.
    Message {
        /// That.
        message: MessageStatus,
    },
    /// Files.
    Files {
        /// The oldest first.
        files: Vec<FileLine>,
    },
    /// One file.
    File {
        /// That.
        file: FileLine,
    },
    /// People.
    People {
        /// A page of them.
        people: List,
        /// There are more.
        more: bool,
    },
    /// What the new device is given.
    LetIn {
        /// A [`crate::pairing::Grant`], in z-base-32.
        grant: String,
    },
    /// That it was done.
    Said {
        /// For a person.
        sentence: String,
    },
    /// What is thought of homes.
    Homes {
        /// All of them.
        standings: Vec<HomeStandingStatus>,
    },
    /// What this machine does for others.
    Lending {
        /// As it stands now.
        lending: LendingStatus,
    },
    /// What is going on.
    Status(Box<Status>),
}

/// A line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageLine {
    /// Names the message.
    pub id: String,
    /// The other person's key.
    pub user: String,
    /// What the other person is called here.
    pub name: String,
    /// When it was written, or the call begun, Unix milliseconds.
    pub at_ms: u64,
    /// `text` or `missed_call`.
    pub kind: String,
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of a message of ours: `queued`, `waiting`, `delivered` or `expired`. Absent: theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// At so many homes it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homes: Option<u8>,
}

/// A file on its way, or at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLine {
    /// Names the transfer.
    pub id: String,
    /// `incoming` or `outgoing`.
    pub direction: String,
    /// The other person's key.
    pub user: String,
    /// What the other person is called here.
    pub person: String,
    /// What the file is called here.
    pub name: String,
    /// When it was offered, Unix milliseconds.
    pub at_ms: u64,
    /// Bytes in all.
    pub size: u64,
    /// Bytes that are there; of a file of ours, that were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Devices that send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<usize>,
    /// Devices that sent what is false, and are not asked any more.
    #[serde(default)]
    pub banned: u64,
    /// `offered`, `active`, `paused`, `done`, `refused` or `failed`.
    pub state: String,
    /// Where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// For a person.
    pub sentence: String,
}

/// What became of a message of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageStatus {
    /// Names the message.
    pub id: String,
    /// To whom: the person's key.
    pub to: String,
    /// `queued`, `waiting`, `delivered` or `expired`.
    pub state: String,
    /// At so many homes it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homes: Option<u8>,
    /// Why it is only here so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
    /// For a person.
    pub sentence: String,
}

impl MessageStatus {
    /// The state of a message to `to`, who is called `name`.
    #[must_use]
    pub fn new(id: MessageId, to: UserId, name: &str, state: MessageState) -> Self {
        let (homes, obstacle) = match state {
            MessageState::Waiting(homes) => (Some(homes), None),
            MessageState::Queued(obstacle) => (None, obstacle),
            MessageState::Delivered { .. } | MessageState::Expired => (None, None),
        };
        Self {
            id: id.to_string(),
            to: to.to_string(),
            state: state.word().into(),
            homes,
            obstacle,
            sentence: state.sentence(name),
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: one sentence.
    pub message: String,
}

/// Why a command was not carried out, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The line was no request.
    BadRequest,
    /// There is no such call.
    NoCall,
    /// The call does not ring here.
    NotRinging,
    /// Nobody is there to be told yet, or for the moment.
    NotTalking,
    /// There is a call already.
    InCall,
    /// The name or link is not known.
    UnknownContact,
    /// Too many clients, or the app is shutting down.
    Unavailable,
}

/// What is going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The person's link.
    pub link: String,
    /// Do not disturb.
    pub dnd: bool,
    /// Supernodes, and whether the device is registered there.
    pub homes: Vec<HomeStatus>,
    /// The call, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallStatus>,
    /// The one beside it, which waits or is on hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherCallStatus>,
}

/// A call beside the one in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherCallStatus {
    /// Its id.
    pub id: String,
    /// The other person's key.
    pub user: String,
    /// What the other person is called here.
    pub name: String,
    /// `waits`, `ignored`, `on_hold` or `reconnecting`.
    pub state: String,
}

/// One supernode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeStatus {
    /// Its link.
    pub node: String,
    /// Calls can come in through it.
    pub registered: bool,
}

/// What is thought of one home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeStandingStatus {
    /// Its link.
    pub node: String,
    /// `registered` or `down`.
    pub state: String,
    /// Words that it kept, as far as they still count: half after a week.
    pub kept: f64,
    /// Words that it broke, likewise.
    pub broken: f64,
    /// Share of words that it keeps, at the least: 0 to 1.
    pub score: f64,
    /// Its round trip, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// It is not to be used.
    pub bad: bool,
    /// Why, for a person.
    pub why: String,
}

/// What this machine does for others. Counters are of this run of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingStatus {
    /// The owner wants it.
    pub wanted: bool,
    /// `off`, `looking`, `unreachable`, `lending`, `metered`, `stopping` or `failed`.
    pub state: String,
    /// The link to this supernode, while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Networks that reached it when they were asked.
    pub reached_by: usize,
    /// Networks that were asked.
    pub asked: usize,
    /// Devices registered here now.
    pub people: usize,
    /// Most of them at once.
    pub most_people: usize,
    /// Ends of calls that are relayed now.
    pub calls: u64,
    /// What is lent is in use: no new calls for the moment.
    pub busy: bool,
    /// People who were registered here, each once.
    pub helped: u64,
    /// Bytes of their calls that were passed on.
    pub relayed_bytes: u64,
    /// Since when others are told of it, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Most that is passed on, bits per second.
    pub upload_bps: u64,
    /// For a person.
    pub sentence: String,
}

/// The running call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStatus {
    /// Its id.
    pub id: String,
    /// `incoming` or `outgoing`.
    pub direction: String,
    /// The other person's key.
    pub user: String,
    /// What the other person is called here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `looking_up`, `calling`, `ringing_there`, `ringing_here`, `connecting`, `talking`, `reconnecting`.
    pub state: String,
    /// While reconnecting: milliseconds until the call is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives_up_in_ms: Option<u64>,
    /// The microphone is muted.
    pub muted: bool,
    /// The other side is on hold.
    pub held: bool,
    /// Since it was placed or came in.
    pub age_ms: u64,
    /// What is shown to the other side: `camera`, `screen`, `window`, `pattern` or `film`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// What is seen of the other side: `nothing`, `comes`, or `still` where no new picture comes.
    pub seen: String,
    /// What is wrong with pictures, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture_trouble: Option<String>,
    /// The file that it is recorded to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<PathBuf>,
    /// The other side says that it records.
    #[serde(default)]
    pub recorded_there: bool,
    /// To be read to each other by both people; none yet where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub safety_words: Vec<String>,
    /// The words were made by commit and reveal. False: the other side runs an older ahoy.
    #[serde(default)]
    pub words_committed: bool,
}

/// A happening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ControlEvent {
    /// A call began or changed.
    Call {
        /// As it stands now.
        call: CallStatus,
    },
    /// Somebody calls during a call, and waits.
    Waiting {
        /// As it stands now.
        other: OtherCallStatus,
    },
    /// A call ended.
    Ended {
        /// Its id.
        id: String,
        /// The report's word.
        outcome: String,
        /// In a few words.
        reason: String,
        /// From acceptance to the end.
        duration_ms: u64,
    },
    /// Something happened to the pictures of a call: a window was closed, a camera pulled out.
    Pictures {
        /// The call's id.
        id: String,
        /// In a word, such as `gone`, `busy`, `back`.
        kind: String,
        /// For a person.
        sentence: String,
    },
    /// The call is recorded, here or there, or is no more.
    Recording {
        /// The call's id.
        id: String,
        /// `started`, `finished` or `failed`; `started_there` or `stopped_there`.
        kind: String,
        /// For a person.
        sentence: String,
    },
    /// Somebody wrote, or called while nobody could answer here: its `kind` says which.
    Message {
        /// What came.
        message: MessageLine,
        /// A stranger's: it waits in the request inbox.
        request: bool,
    },
    /// Something became of a message of ours.
    MessageState {
        /// What.
        message: MessageStatus,
    },
    /// A file was offered, or something became of one.
    File {
        /// Which, and how it stands.
        file: FileLine,
    },
    /// A home came or went.
    Homes {
        /// All of them.
        homes: Vec<HomeStatus>,
    },
    /// Lending began or ended, or is in the way of something.
    Lending {
        /// As it stands now.
        lending: LendingStatus,
    },
    /// Something is out of the ordinary that somebody may be behind.
    Anomaly {
        /// In a word: `hidden_record`, `forked_list` or `dishonest_supernode`.
        kind: String,
        /// For a person.
        sentence: String,
    },
    /// The client was too slow.
    Missed {
        /// So many happenings were left out.
        count: u64,
    },
}

/// A line from the app: an answer or a happening.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// An answer.
    Response(Response),
    /// A happening.
    Event(ControlEvent),
}

/// The app behind the socket.
pub trait ControlHandler: Send + Sync + 'static {
    /// Carries a command out. `Some` for what there is to tell. Never called with [`Command::Events`].
    fn handle(&self, command: Command) -> BoxFuture<'_, Result<Option<Told>, ControlError>>;

    /// Happenings from now on. The channel holds [`EVENT_BACKLOG`].
    fn subscribe(&self) -> broadcast::Receiver<ControlEvent>;
}

impl<H: ControlHandler + ?Sized> ControlHandler for Arc<H> {
    fn handle(&self, command: Command) -> BoxFuture<'_, Result<Option<Told>, ControlError>> {
        (**self).handle(command)
    }

    fn subscribe(&self) -> broadcast::Receiver<ControlEvent> {
        (**self).subscribe()
    }
}

/// Why the app on a profile could not be reached, or the socket not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlSocketError {
    /// Nothing answers.
    #[error("ahoy is not running on this profile: start `ahoy` or `ahoy answer` first")]
    NotRunning,
    /// The other end closed.
    #[error("ahoy has closed the control socket")]
    Closed,
    /// The other end does not speak this protocol.
    #[error("what answers on the control socket is not ahoy, or of another version")]
    Protocol,
    /// The socket is in nobody's folder but ours; somebody else stands behind it.
    #[error("the control socket {0} belongs to another user: remove it")]
    ForeignOwner(PathBuf),
    /// The operating system refused.
    #[error("control socket {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
}

impl ControlError {
    /// An error with its sentence.
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }
}

impl From<CommandError> for ControlError {
    fn from(error: CommandError) -> Self {
        let code = match error {
            CommandError::InCall => ErrorCode::InCall,
            CommandError::NoCall => ErrorCode::NoCall,
            CommandError::NotRinging => ErrorCode::NotRinging,
            CommandError::NotTalking => ErrorCode::NotTalking,
        };
        Self::new(code, error)
    }
}

impl Response {
    /// The answer to a request that was or was not carried out.
    #[must_use]
    pub fn new(id: Option<u64>, result: Result<Option<Told>, ControlError>) -> Self {
        let (result, error) = match result {
            Ok(told) => (told, None),
            Err(error) => (None, Some(error)),
        };
        Self {
            id,
            ok: error.is_none(),
            result,
            error,
        }
    }
}

impl ControlEvent {
    /// The end of a call.
    #[must_use]
    pub fn ended(ended: &EndedCall) -> Self {
        let talked = ended.timeline.talked(ended.ended);
        Self::Ended {
            id: ended.call.to_string(),
            outcome: String::from(ended.ending.outcome().as_str()),
            reason: ended.ending.to_string(),
            duration_ms: u64::try_from(talked.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
