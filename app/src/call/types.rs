//! What goes in and what comes out.

use std::time::{Duration, Instant};

use ahoy_transport::identity::{DeviceId, UserId};

use super::{
    CallId,
    ending::{EndedCall, Unreachable},
    phase::Accepted,
};
use crate::signal::{MediaCapabilities, MediaChoice, Signal};

/// Limits of one call. Each has a reason; the command line sets some.
#[derive(Debug, Clone)]
pub struct CallConfig {
    /// What this device can send and play.
    pub media: MediaCapabilities,
    /// Looking a person up is a round trip or two; after ten seconds nothing will come.
    pub lookup_timeout: Duration,
    /// How long the caller lets it ring: what telephones do.
    pub answer_timeout: Duration,
    /// The callee rings this much longer than `answer_timeout`, so that it is the caller who gives up.
    pub ring_slack: Duration,
    /// From acceptance to the first sound. The session is usually up before; a slow one deserves a while.
    pub connect_timeout: Duration,
    /// How long a call without any path is kept before it counts as lost.
    pub reconnect_timeout: Duration,
    /// Time from placing a call to its first sound, whatever the other limits say. `None`: they decide.
    pub setup_limit: Option<Duration>,
    /// Hang up this long after the first sound. `None`: talk as long as you like.
    pub talk_limit: Option<Duration>,
    /// The microphone is muted until somebody unmutes it: push to talk.
    pub begins_muted: bool,
    /// Who calls during a call waits to be answered, instead of hearing that the person is busy.
    pub call_waiting: bool,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            media: MediaCapabilities::default(),
            lookup_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(60),
            ring_slack: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(20),
            reconnect_timeout: Duration::from_secs(30),
            setup_limit: None,
            talk_limit: None,
            begins_muted: false,
            call_waiting: false,
        }
    }
}

/// Whose idea a call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Placed here.
    Outgoing,
    /// Placed by the other side.
    Incoming,
}

/// A device and the person it belongs to, as proven by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The device.
    pub device: DeviceId,
    /// Its owner.
    pub user: UserId,
}

/// How to tell the person about an incoming call. Blocked callers and strangers never come here: the engine
/// leaves the former unanswered and puts the latter into the request inbox. Whoever is being called from here
/// at this moment is no stranger: that offer always comes here, so that crossing calls meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// Ring.
    Audible,
    /// Show the call without a sound: do-not-disturb, or this contact never rings.
    Silent,
    /// The person talks with somebody else: tell them softly.
    Waiting,
}

impl Alert {
    /// The same for somebody who talks.
    pub(super) fn beside_a_call(self) -> Self {
        match self {
            Self::Audible | Self::Waiting => Self::Waiting,
            Self::Silent => Self::Silent,
        }
    }
}

/// Something that happened outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The look-up answered; once more if other devices were found later. Devices past
    /// [`Calls::MAX_DEVICES`](super::Calls::MAX_DEVICES) are left out.
    Found {
        /// Which call.
        call: CallId,
        /// The verified devices of the person called that are registered somewhere.
        devices: Vec<DeviceId>,
    },
    /// The look-up failed.
    LookupFailed {
        /// Which call.
        call: CallId,
        /// Why.
        why: Unreachable,
    },
    /// A home took the offer for this device.
    Delivered {
        /// Which call.
        call: CallId,
        /// Which device.
        participant: DeviceId,
    },
    /// No home would or could take the offer for this device.
    Refused {
        /// Which call.
        call: CallId,
        /// Which device.
        participant: DeviceId,
        /// Why.
        why: Unreachable,
    },
    /// A valid, fresh, signed offer came in.
    Incoming {
        /// Which call.
        call: CallId,
        /// Who calls.
        from: Peer,
        /// What the caller's device can send and play.
        media: MediaCapabilities,
        /// How to tell the person.
        alert: Alert,
    },
    /// A call-control message, by session or by home.
    Signal {
        /// Which call.
        call: CallId,
        /// The device that sent it, as authenticated by what it came through.
        from: DeviceId,
        /// The message.
        signal: Signal,
    },
    /// The session with a device changed.
    Session {
        /// Which call.
        call: CallId,
        /// Which device.
        participant: DeviceId,
        /// What happened.
        event: SessionEvent,
    },
    /// The first sound from this device was played.
    FirstAudio {
        /// Which call.
        call: CallId,
        /// Which device.
        participant: DeviceId,
    },
    /// Audio or video stopped working here, and the engine could not repair it.
    MediaFailed {
        /// Which call.
        call: CallId,
    },
}

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// Its first connection is up.
    Connected,
    /// Its last path died; it looks for another.
    Reconnecting,
    /// A path is back.
    Restored,
    /// It is over.
    Ended(SessionEnd),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The other side closed it in order.
    ClosedByPeer,
    /// It never came up, or lost its last path for good.
    NoPath,
    /// The other side is not who it should be.
    Authentication,
    /// The other side broke the protocol.
    Protocol,
}

/// Something to do outside, in this order.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Find the devices of this person. Answer with [`Event::Found`] or [`Event::LookupFailed`].
    LookUp {
        /// Which call.
        call: CallId,
        /// Whom.
        user: UserId,
    },
    /// Seal an offer for this device, deliver it, and open the caller's end of the session as answers come.
    SendOffer {
        /// Which call.
        call: CallId,
        /// To which device.
        to: DeviceId,
    },
    /// Open the callee's end of the session.
    OpenSession {
        /// Which call.
        call: CallId,
        /// With which device.
        participant: DeviceId,
    },
    /// Send a call-control message: through the session when it is up, through the homes when not.
    SendSignal {
        /// Which call.
        call: CallId,
        /// To which device.
        to: DeviceId,
        /// The message.
        signal: Signal,
    },
    /// Tell the person that somebody calls.
    StartRinging {
        /// Which call.
        call: CallId,
        /// Who calls.
        from: Peer,
        /// With or without a sound.
        alert: Alert,
    },
    /// Stop telling.
    StopRinging {
        /// Which call.
        call: CallId,
    },
    /// Capture, send, receive and play with this device. Only ever follows an acceptance.
    OpenMedia {
        /// Which call.
        call: CallId,
        /// With which device.
        participant: DeviceId,
        /// What both sides can do.
        media: MediaChoice,
        /// The proof that somebody accepted.
        accepted: Accepted,
    },
    /// Mute or hold changed here.
    SetLocalMedia {
        /// Which call.
        call: CallId,
        /// No sample of the microphone leaves this device.
        muted: bool,
        /// On hold: nothing is sent, nothing is played.
        held: bool,
    },
    /// Mute, hold, what is shown or recorded changed there.
    RemoteMedia {
        /// Which call.
        call: CallId,
        /// Which device.
        participant: DeviceId,
        /// Its microphone is muted.
        muted: bool,
        /// It put us on hold.
        held: bool,
        /// It shows nothing more.
        blank: bool,
        /// It records the call.
        recording: bool,
    },
    /// Send what is queued for this device, then close media and session with it.
    CloseSession {
        /// Which call.
        call: CallId,
        /// With which device.
        participant: DeviceId,
    },
    /// The call reached another state; draw it.
    Changed {
        /// Which call.
        call: CallId,
        /// Its state now.
        state: CallState,
    },
    /// The call is over. Nothing else follows for it but late refusals.
    Ended(EndedCall),
}

/// What a person sees of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Outgoing: looking for the person.
    LookingUp,
    /// Outgoing: found, no device rings yet.
    Calling,
    /// Outgoing: their device rings.
    RingingThere,
    /// Incoming: this device rings.
    RingingHere,
    /// Accepted; no sound yet.
    Connecting,
    /// Sound has come from the other side.
    Talking,
    /// All paths are gone; the call is lost at `until` unless one comes back.
    Reconnecting {
        /// When the call will be given up.
        until: Instant,
    },
}

/// A snapshot of the running call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallInfo {
    /// Which.
    pub call: CallId,
    /// Whose idea it was.
    pub direction: Direction,
    /// The other person.
    pub user: UserId,
    /// Devices on the roster.
    pub participants: Vec<DeviceId>,
    /// Where it stands.
    pub state: CallState,
    /// Muted here.
    pub muted: bool,
    /// Put on hold here.
    pub held: bool,
    /// Recorded here.
    pub recording: bool,
    /// When it was placed or came in.
    pub started: Instant,
}

/// Which timer is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutReason {
    /// The person is still being looked up.
    Lookup,
    /// Nobody answered the outgoing call.
    Answer,
    /// Nobody answered here.
    Ring,
    /// No sound since acceptance.
    Connect,
    /// No path came back.
    Reconnect,
    /// The call has lasted as long as it was asked to.
    TalkLimit,
}

/// A command that makes no sense now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is a call already.
    #[error("there is a call already: hang up first")]
    InCall,
    /// There is no such call.
    #[error("there is no such call")]
    NoCall,
    /// The call is not ringing here.
    #[error("the call is not ringing here")]
    NotRinging,
    /// The other side cannot be told that it is recorded.
    #[error("a call can be recorded once you talk: the other side has to be told")]
    NotTalking,
}
