//! The phases of a call. Each owns its data, and a step that cannot be undone consumes the phase before it.

use std::{collections::BTreeMap, time::Instant};

use ahoy_transport::{
    identity::{DeviceId, UserId},
    session::MediaPermit,
};

use super::{CallId, Ending, types::Peer};
use crate::signal::{MediaCapabilities, MediaChoice, Signal};

/// Proof that a person wants to be heard in this call: whoever rang accepted, or whoever called was
/// answered. Not clonable, and made only by consuming a phase below.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    call: CallId,
    participant: DeviceId,
}

impl Accepted {
    /// The call that was accepted.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }

    /// The device it was accepted with.
    #[must_use]
    pub fn participant(&self) -> DeviceId {
        self.participant
    }

    /// What the session asks for before it lets a sample through.
    #[must_use]
    pub fn permit(&self) -> MediaPermit {
        MediaPermit::on_accept(self.call.0)
    }
}

/// A call in hand.
#[derive(Debug)]
pub(super) enum Phase {
    /// Outgoing, devices unknown.
    LookingUp(LookingUp),
    /// Outgoing, devices known, nobody accepted.
    Calling(Calling),
    /// Incoming, nobody accepted.
    Ringing(Ringing),
    /// Accepted.
    InCall(InCall),
}

/// An offer of the person we are calling, that crossed ours and has the higher id.
#[derive(Debug)]
pub(super) struct Crossed {
    pub(super) call: CallId,
    pub(super) from: Peer,
    pub(super) media: MediaCapabilities,
}

#[derive(Debug)]
pub(super) struct LookingUp {
    pub(super) deadline: Instant,
    pub(super) crossed: Option<Crossed>,
}

#[derive(Debug)]
pub(super) struct Calling {
    pub(super) legs: BTreeMap<DeviceId, Leg>,
    pub(super) deadline: Instant,
    pub(super) crossed: Option<Crossed>,
    /// What devices say of their media and came before their answer, which goes by another way; the newest of each.
    pub(super) early_media: BTreeMap<DeviceId, Signal>,
    /// The most telling ending among the devices that are out.
    pub(super) verdict: Option<Ending>,
}

/// One device of the person called.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leg {
    /// A home took the offer.
    pub(super) delivered: bool,
    /// The device says that it rings.
    pub(super) ringing: bool,
    /// Its session is up.
    pub(super) session_up: bool,
}

#[derive(Debug)]
pub(super) struct Ringing {
    pub(super) from: Peer,
    pub(super) media: MediaChoice,
    pub(super) deadline: Instant,
    pub(super) session_up: bool,
}

#[derive(Debug)]
pub(super) struct InCall {
    pub(super) members: BTreeMap<DeviceId, Member>,
    /// From the first sound on.
    pub(super) talk_until: Option<Instant>,
}

/// One device in the call.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) session: Health,
    /// No first sound by then: the member leaves. Off once heard.
    pub(super) connect_by: Option<Instant>,
    /// Newest mute and hold revision seen.
    pub(super) revision: u32,
}

/// The session with one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Not up yet.
    Opening,
    /// At least one path works.
    Up,
    /// No path; given up at the instant.
    Down(Instant),
}

impl InCall {
    fn new(participant: DeviceId, session_up: bool, connect_by: Instant) -> Self {
        let session = if session_up {
            Health::Up
        } else {
            Health::Opening
        };
        let member = Member {
            session,
            connect_by: Some(connect_by),
            revision: 0,
        };
        Self {
            members: BTreeMap::from([(participant, member)]),
            talk_until: None,
        }
    }

    /// The device in the call lost it and calls again while we still hold it: the person here is waiting
    /// for exactly that.
    pub(super) fn resumed(
        self,
        call: CallId,
        participant: DeviceId,
        connect_by: Instant,
    ) -> (Self, Accepted) {
        let next = Self::new(participant, false, connect_by);
        (next, Accepted { call, participant })
    }
}

impl Ringing {
    /// The person here accepts.
    pub(super) fn accept(self, call: CallId, connect_by: Instant) -> (InCall, Accepted) {
        let participant = self.from.device;
        let next = InCall::new(participant, self.session_up, connect_by);
        (next, Accepted { call, participant })
    }
}

impl LookingUp {
    /// The person here wants to call whoever calls now.
    pub(super) fn cross(
        self,
        call: CallId,
        participant: DeviceId,
        connect_by: Instant,
    ) -> (InCall, Accepted) {
        let next = InCall::new(participant, false, connect_by);
        (next, Accepted { call, participant })
    }
}

impl Calling {
    /// The device accepted. Gives back the other devices, which must be told.
    pub(super) fn answered(
        mut self,
        call: CallId,
        participant: DeviceId,
        connect_by: Instant,
    ) -> (InCall, Accepted, Vec<DeviceId>) {
        let session_up = self
            .legs
            .remove(&participant)
            .is_some_and(|leg| leg.session_up);
        let next = InCall::new(participant, session_up, connect_by);
        let others = self.legs.into_keys().collect();
        (next, Accepted { call, participant }, others)
    }

    /// The person here wants to call whoever calls now. Gives back the devices that were called.
    pub(super) fn cross(
        self,
        call: CallId,
        participant: DeviceId,
        connect_by: Instant,
    ) -> (InCall, Accepted, Vec<DeviceId>) {
        let next = InCall::new(participant, false, connect_by);
        let called = self.legs.into_keys().collect();
        (next, Accepted { call, participant }, called)
    }

    /// Remembers `ending` when it tells more than what is known.
    pub(super) fn learn(&mut self, ending: Ending) {
        if self
            .verdict
            .is_none_or(|known| known.rank() < ending.rank())
        {
            self.verdict = Some(ending);
        }
    }
}

/// What all phases of one call have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) call: CallId,
    pub(super) direction: super::Direction,
    pub(super) user: UserId,
    pub(super) timeline: super::Timeline,
    pub(super) muted: bool,
    pub(super) held: bool,
    /// The other side was told to take our picture away.
    pub(super) blank: bool,
    /// It is recorded here.
    pub(super) recording: bool,
    /// Counts changes of these four.
    pub(super) revision: u32,
}
