//! How calls end. Every ending has a name, a place in the report and a sentence.

use std::{
    fmt,
    time::{Duration, Instant},
};

use ahoy_transport::identity::{DeviceId, UserId};

use super::{CallId, Direction};
use crate::{contacts::CallRecord, report::Outcome};

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The person at this device.
    Local,
    /// The other side.
    Remote,
}

/// Why nobody was asked to answer.
///
/// Being blocked is not among the reasons: it looks like [`Ending::NoAnswer`], on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unreachable {
    /// Nothing says where this person is: no home is known, and nobody in the own network answers.
    Unknown,
    /// None of the person's devices is registered.
    Offline,
    /// The person's home has no room for the call now.
    HomeBusy,
    /// Strangers flood the person's home, and it asks for more work than is done for one call.
    Flooded,
    /// No path to the home, or none between the two devices.
    NoRoute,
    /// The homes' answers about the person were not genuine.
    Untrusted,
    /// The person's homes serve a private network that this device is no member of.
    Private,
}

/// Why a running call was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostReason {
    /// All paths died and none came back in time.
    Path,
    /// The other device started anew, and called again.
    PeerRestarted,
}

/// What broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The other device could not prove who it is.
    Authentication,
    /// The microphone, speaker, camera or codec failed, here or there.
    Media,
    /// The other side broke the protocol.
    Protocol,
    /// The session was up, but no media came before the time limit.
    TimeLimit,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was answered, heard, and hung up.
    Completed {
        /// Who hung up.
        by: Side,
    },
    /// Somebody said no.
    Declined {
        /// Who said no. `Local` is this device.
        by: Side,
    },
    /// The person called is in another call.
    Busy,
    /// It rang, or seemed to, until the time limit.
    NoAnswer,
    /// It was given up before anybody heard anything.
    Cancelled {
        /// Who gave up.
        by: Side,
    },
    /// Another device of the person called took the call.
    AnsweredElsewhere,
    /// Another device of the person called declined it.
    DeclinedElsewhere,
    /// Nobody was asked to answer.
    Unreachable(Unreachable),
    /// It ran, and all paths died.
    Lost(LostReason),
    /// Something broke.
    Failed(Failure),
    /// Both called each other; the call goes on under the other id.
    Merged {
        /// The call that goes on.
        into: CallId,
    },
}

impl Ending {
    /// The report's word for it.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Completed { .. } => Outcome::Completed,
            Self::Declined { .. } | Self::DeclinedElsewhere => Outcome::Declined,
            Self::Busy => Outcome::Busy,
            Self::NoAnswer => Outcome::NoAnswer,
            Self::Cancelled { .. } | Self::AnsweredElsewhere | Self::Merged { .. } => {
                Outcome::Cancelled
            }
            Self::Unreachable(_) => Outcome::Unreachable,
            Self::Lost(_) => Outcome::Lost,
            Self::Failed(_) => Outcome::Failed,
        }
    }

    /// Which of two devices' endings tells the caller more about the person called.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Declined { .. } | Self::DeclinedElsewhere => 6,
            Self::Busy => 5,
            Self::NoAnswer => 4,
            Self::Failed(_) => 3,
            Self::Unreachable(
                Unreachable::NoRoute
                | Unreachable::HomeBusy
                | Unreachable::Flooded
                | Unreachable::Untrusted
                | Unreachable::Private,
            ) => 2,
            Self::Unreachable(Unreachable::Offline) => 1,
            Self::Unreachable(Unreachable::Unknown)
            | Self::Completed { .. }
            | Self::Cancelled { .. }
            | Self::AnsweredElsewhere
            | Self::Lost(_)
            | Self::Merged { .. } => 0,
        }
    }
}

impl fmt::Display for Ending {
    /// The report's `reason`: a few plain words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed { by: Side::Local } => "hung up here",
            Self::Completed { by: Side::Remote } => "the other side hung up",
            Self::Declined { by: Side::Local } => "declined here",
            Self::Declined { by: Side::Remote } => "the other side declined",
            Self::Busy => "in another call",
            Self::NoAnswer => "nobody answered",
            Self::Cancelled { by: Side::Local } => "cancelled here",
            Self::Cancelled { by: Side::Remote } => "the other side cancelled",
            Self::AnsweredElsewhere => "answered on another device",
            Self::DeclinedElsewhere => "declined on another device",
            Self::Unreachable(Unreachable::Unknown) => "no such person found",
            Self::Unreachable(Unreachable::Offline) => "not online",
            Self::Unreachable(Unreachable::HomeBusy) => "the other side's supernode is full",
            Self::Unreachable(Unreachable::Flooded) => "strangers flood the other side's supernode",
            Self::Unreachable(Unreachable::NoRoute) => "no route to the other side",
            Self::Unreachable(Unreachable::Untrusted) => {
                "a supernode answered falsely about the other side"
            }
            Self::Unreachable(Unreachable::Private) => "the other side is in a private network",
            Self::Lost(LostReason::Path) => "the connection was lost",
            Self::Lost(LostReason::PeerRestarted) => "the other side started anew",
            Self::Failed(Failure::Authentication) => "the other side is not who it should be",
            Self::Failed(Failure::Media) => "audio or video could not be set up",
            Self::Failed(Failure::Protocol) => "the other side broke the protocol",
            Self::Failed(Failure::TimeLimit) => "no media before the time limit",
            Self::Merged { .. } => "both called at once",
        })
    }
}

/// When the steps of a call happened. Absent = it did not get so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    /// The person placed it, or its offer came in.
    pub started: Instant,
    /// The devices of the person called are known.
    pub found: Option<Instant>,
    /// A device rings.
    pub ringing: Option<Instant>,
    /// The first session between the two devices is up.
    pub connected: Option<Instant>,
    /// It was accepted, here or there.
    pub accepted: Option<Instant>,
    /// The first sound from the other side was played.
    pub first_audio: Option<Instant>,
}

impl Timeline {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            found: None,
            ringing: None,
            connected: None,
            accepted: None,
            first_audio: None,
        }
    }

    /// From acceptance to `end`; zero when nobody accepted.
    #[must_use]
    pub fn talked(&self, end: Instant) -> Duration {
        self.accepted.map_or(Duration::ZERO, |accepted| {
            end.saturating_duration_since(accepted)
        })
    }
}

impl EndedCall {
    /// As the history keeps it. `unix_millis` is when the call was placed or came in.
    #[must_use]
    pub fn record(&self, unix_millis: u64) -> CallRecord {
        let talked = self.timeline.talked(self.ended).as_millis();
        CallRecord {
            call_id: self.call.0,
            peer: self.user,
            direction: self.direction,
            started_at_millis: unix_millis,
            duration_millis: u64::try_from(talked).unwrap_or(u64::MAX),
            // Somebody answered on another device: nobody missed it.
            outcome: if self.ending == Ending::AnsweredElsewhere {
                Outcome::Completed
            } else {
                self.ending.outcome()
            },
            elsewhere: self.direction == Direction::Incoming
                && matches!(
                    self.ending,
                    Ending::AnsweredElsewhere | Ending::DeclinedElsewhere
                ),
            rating: None,
        }
    }

    /// The same, at a time after its end, in Unix milliseconds, of which only how long ago the call began is taken.
    #[must_use]
    pub fn record_at(&self, now_millis: u64) -> CallRecord {
        let since_start = self.ended.saturating_duration_since(self.timeline.started);
        let since_start = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        self.record(now_millis.saturating_sub(since_start))
    }
}

/// A call that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedCall {
    /// Which.
    pub call: CallId,
    /// Whose idea it was.
    pub direction: Direction,
    /// The other person.
    pub user: UserId,
    /// The device it was talked with, or that ended it; absent when there was none.
    pub participant: Option<DeviceId>,
    /// How it ended.
    pub ending: Ending,
    /// When its steps happened.
    pub timeline: Timeline,
    /// When it ended.
    pub ended: Instant,
}
