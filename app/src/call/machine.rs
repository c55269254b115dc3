//! [`Calls`]: the calls of this device: one in hand, and one aside that waits to be answered or is on hold.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use ahoy_transport::identity::{DeviceId, UserId};
use tracing::debug;

mod incoming;
mod outgoing;
mod signals;
mod talking;
mod waiting;

use super::{
    CallId, Direction, EndedCall, Ending, Failure, LostReason, Side, Timeline, Unreachable,
    phase::{Common, Crossed, Health, InCall, Leg, LookingUp, Member, Phase},
    types::{Action, CallConfig, CallInfo, CallState, CommandError, Event, TimeoutReason},
};
use crate::signal::{CancelReason, DeclineReason, HangUpReason, Signal};

/// How long a call that is over is remembered. Offers are fresh for less than this.
const MEMORY: Duration = Duration::from_secs(120);
/// How many calls that are over are remembered: more than one person rings or is rung in [`MEMORY`].
const MAX_REMEMBERED: usize = 256;
/// How many cancels are kept that came before their offer. Only known peers can send one.
const MAX_EARLY_CANCELS: usize = 64;

/// The call state machine of one device. The [module](super) tells how to drive it.
#[derive(Debug)]
pub struct Calls {
    config: CallConfig,
    /// The call in hand.
    current: Option<(Common, Phase)>,
    /// Beside a call in hand: one that rings, or is on hold. See [`waiting`].
    aside: Option<(Common, Phase)>,
    actions: VecDeque<Action>,
    /// Calls that are over, oldest first.
    over: VecDeque<(CallId, Instant)>,
    /// Cancels that overtook their offer, oldest first.
    early_cancels: VecDeque<(CallId, DeviceId, Instant)>,
    /// The last states the outside was told, of the call in hand and of the one aside.
    shown: [Option<(CallId, CallState)>; 2],
}

impl Calls {
    /// How many devices of one person are called at once. More than anybody owns; less than a flood.
    pub const MAX_DEVICES: usize = 16;

    /// A device without a call.
    #[must_use]
    pub fn new(config: CallConfig) -> Self {
        Self {
            config,
            current: None,
            aside: None,
            actions: VecDeque::new(),
            over: VecDeque::new(),
            early_cancels: VecDeque::new(),
            shown: [None; 2],
        }
    }

    /// The limits; changes count for calls that start later.
    pub fn config_mut(&mut self) -> &mut CallConfig {
        &mut self.config
    }

    /// The next thing to do outside.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, TimeoutReason)> {
        let calls = self.current.iter().chain(&self.aside);
        calls
            .filter_map(|(_, phase)| phase.next_timeout())
            .min_by_key(|(at, _)| *at)
    }

    /// When the steps of the call happened, if that is alive.
    #[must_use]
    pub fn timeline(&self, call: CallId) -> Option<Timeline> {
        let mut calls = self.current.iter().chain(&self.aside);
        let found = calls.find(|(common, _phase)| common.call == call);
        found.map(|(common, _phase)| common.timeline)
    }

    /// The call in hand.
    #[must_use]
    pub fn current(&self) -> Option<CallInfo> {
        self.current.as_ref().map(info_of)
    }

    /// The call aside: it rings, or is on hold.
    #[must_use]
    pub fn aside(&self) -> Option<CallInfo> {
        self.aside.as_ref().map(info_of)
    }

    /// This call, if it is alive.
    #[must_use]
    pub fn info(&self, call: CallId) -> Option<CallInfo> {
        let mut calls = self.current.iter().chain(&self.aside);
        calls.find(|(common, _)| common.call == call).map(info_of)
    }

    /// Calls a person. `call` is fresh and random. Returns the id under which the call goes on: another one
    /// when that person is calling at this moment, which counts as accepting.
    ///
    /// # Errors
    /// [`CommandError::InCall`] when there is a call already.
    pub fn place(
        &mut self,
        now: Instant,
        call: CallId,
        user: UserId,
    ) -> Result<CallId, CommandError> {
        match &self.current {
            None => {}
            Some((common, Phase::Ringing(_))) if common.user == user => {
                let ringing = common.call;
                self.accept(now, ringing)?;
                return Ok(ringing);
            }
            Some(_) => {
                let aside = self.aside.as_ref();
                let theirs = aside.filter(|(common, _)| common.user == user);
                let theirs = theirs.map(|(common, _)| common.call);
                let Some(waiting) = theirs.filter(|call| self.waits(*call)) else {
                    return Err(CommandError::InCall);
                };
                self.accept(now, waiting)?;
                return Ok(waiting);
            }
        }
        let common = Common::new(now, call, Direction::Outgoing, user).muted(&self.config);
        let deadline = now + self.within_setup(self.config.lookup_timeout);
        let looking = LookingUp {
            deadline,
            crossed: None,
        };
        self.current = Some((common, Phase::LookingUp(looking)));
        self.actions.push_back(Action::LookUp { call, user });
        self.show();
        Ok(call)
    }

    /// Answers the call that rings here. The call in hand is put on hold for one that waits.
    ///
    /// # Errors
    /// [`CommandError::NoCall`] when it is gone, [`CommandError::NotRinging`] when it does not ring here.
    pub fn accept(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        if self.waits(call) {
            self.bring_forward(call)?;
        }
        match self.take(call)? {
            (mut common, Phase::Ringing(ringing)) => {
                common.timeline.accepted = Some(now);
                let media = ringing.media;
                let connect_by = self.connect_deadline(now, &common);
                let (in_call, accepted) = ringing.accept(call, connect_by);
                self.actions.push_back(Action::StopRinging { call });
                self.enter(common, in_call, accepted, media, true);
                self.show();
                Ok(())
            }
            other @ (_, Phase::LookingUp(_) | Phase::Calling(_) | Phase::InCall(_)) => {
                self.current = Some(other);
                Err(CommandError::NotRinging)
            }
        }
    }

    /// Says no to the call that rings here.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn decline(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        self.about(call, |calls| calls.decline_taken(now, call))
    }

    fn decline_taken(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        match self.take(call)? {
            (common, Phase::Ringing(ringing)) => {
                self.stop_ringing(
                    now,
                    common,
                    &ringing,
                    Ending::Declined { by: Side::Local },
                    Some(Signal::Decline(DeclineReason::Person)),
                );
                Ok(())
            }
            other @ (_, Phase::LookingUp(_) | Phase::Calling(_) | Phase::InCall(_)) => {
                self.current = Some(other);
                Err(CommandError::NotRinging)
            }
        }
    }

    /// Ends the call, whatever it is doing: gives up calling, declines, hangs up.
    ///
    /// # Errors
    /// [`CommandError::NoCall`] when it is gone.
    pub fn hang_up(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        self.about(call, |calls| calls.hang_up_taken(now, call))
    }

    fn hang_up_taken(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        match self.take(call)? {
            (common, Phase::LookingUp(looking)) => {
                self.forget_crossed(now, looking.crossed, Some(DeclineReason::Person));
                self.finish(now, common, None, Ending::Cancelled { by: Side::Local });
            }
            (common, Phase::Calling(calling)) => {
                self.stop_calling(
                    now,
                    common,
                    calling,
                    None,
                    Ending::Cancelled { by: Side::Local },
                    CancelReason::Person,
                );
            }
            (common, phase @ Phase::Ringing(_)) => {
                self.current = Some((common, phase));
                return self.decline_taken(now, call);
            }
            (common, Phase::InCall(in_call)) => {
                self.hang_up_all(
                    now,
                    common,
                    in_call,
                    spoken(Side::Local),
                    HangUpReason::Person,
                );
            }
        }
        Ok(())
    }

    /// Mutes or unmutes the microphone for this call.
    ///
    /// # Errors
    /// [`CommandError::NoCall`] when it is gone.
    pub fn set_muted(&mut self, call: CallId, muted: bool) -> Result<(), CommandError> {
        self.set_local_media(call, |common| common.muted = muted)
    }

    /// Puts the other side on hold, or takes it off again.
    ///
    /// # Errors
    /// [`CommandError::NoCall`] when it is gone.
    pub fn set_held(&mut self, call: CallId, held: bool) -> Result<(), CommandError> {
        self.set_local_media(call, |common| common.held = held)
    }

    /// Has the other side take our picture away, or expect one again.
    ///
    /// # Errors
    /// [`CommandError::NoCall`] when it is gone.
    pub fn set_blank(&mut self, call: CallId, blank: bool) -> Result<(), CommandError> {
        self.set_local_media(call, |common| common.blank = blank)
    }

    /// Whether this call can be recorded now: the other side is there to be told.
    ///
    /// # Errors
    /// [`CommandError::NotTalking`] before anything was heard and while no path works, [`CommandError::NoCall`] when it
    /// is gone.
    pub fn may_record(&self, call: CallId) -> Result<(), CommandError> {
        match &self.current {
            Some((common, Phase::InCall(in_call))) if common.call == call => {
                match in_call.state() {
                    CallState::Talking => Ok(()),
                    CallState::LookingUp
                    | CallState::Calling
                    | CallState::RingingThere
                    | CallState::RingingHere
                    | CallState::Connecting
                    | CallState::Reconnecting { .. } => Err(CommandError::NotTalking),
                }
            }
            Some((common, Phase::LookingUp(_) | Phase::Calling(_) | Phase::Ringing(_)))
                if common.call == call =>
            {
                Err(CommandError::NotTalking)
            }
            Some(_) | None => Err(CommandError::NoCall),
        }
    }

    /// Has the other side know that this call is recorded here, or is no more.
    ///
    /// # Errors
    /// As [`Self::may_record`]; it can end whenever there is a call.
    pub fn set_recording(&mut self, call: CallId, recording: bool) -> Result<(), CommandError> {
        if recording {
            self.may_record(call)?;
        }
        self.set_local_media(call, |common| common.recording = recording)
    }

    fn set_local_media(
        &mut self,
        call: CallId,
        change: impl FnOnce(&mut Common),
    ) -> Result<(), CommandError> {
        self.about(call, |calls| calls.set_taken_media(call, change))
    }

    fn set_taken_media(
        &mut self,
        call: CallId,
        change: impl FnOnce(&mut Common),
    ) -> Result<(), CommandError> {
        let (mut common, phase) = self.take(call)?;
        let before = common.media_state();
        change(&mut common);
        if before != common.media_state() {
            common.revision += 1;
            self.actions.push_back(Action::SetLocalMedia {
                call,
                muted: common.muted,
                held: common.held,
            });
            if let Phase::InCall(in_call) = &phase {
                for device in in_call.members.keys() {
                    self.send(call, *device, common.media_state());
                }
            }
        }
        self.current = Some((common, phase));
        Ok(())
    }

    /// Takes in something that happened outside. Events of calls that are over change nothing.
    pub fn handle(&mut self, now: Instant, event: Event) {
        let about = self.whose(&event);
        self.about(about, |calls| calls.handle_taken(now, event));
        self.show();
    }

    fn handle_taken(&mut self, now: Instant, event: Event) {
        match event {
            Event::Found { call, devices } => self.handle_found(now, call, devices),
            Event::LookupFailed { call, why } => self.handle_lookup_failed(now, call, why),
            Event::Delivered { call, participant } => {
                if let Some(leg) = self.leg_mut(call, participant) {
                    leg.delivered = true;
                }
            }
            Event::Refused {
                call,
                participant,
                why,
            } => {
                self.drop_leg(now, call, participant, Ending::Unreachable(why), false);
            }
            Event::Incoming {
                call,
                from,
                media,
                alert,
            } => {
                self.handle_incoming(now, call, from, media, alert);
            }
            Event::Signal { call, from, signal } => self.handle_signal(now, call, from, signal),
            Event::Session {
                call,
                participant,
                event,
            } => {
                self.handle_session(now, call, participant, event);
            }
            Event::FirstAudio { call, participant } => {
                self.handle_first_audio(now, call, participant);
            }
            Event::MediaFailed { call } => self.handle_media_failed(now, call),
        }
    }

    /// Ends whatever is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((call, reason)) = self.due(now) {
            debug!(?call, ?reason, "a limit of the call is over");
            self.about(call, |calls| calls.time_is_up(now, reason));
        }
        self.show();
    }

    /// The call whose limit is over, and which.
    fn due(&self, now: Instant) -> Option<(CallId, TimeoutReason)> {
        let mut calls = self.current.iter().chain(&self.aside);
        calls.find_map(|(common, phase)| {
            let (at, reason) = phase.next_timeout()?;
            (at <= now).then_some((common.call, reason))
        })
    }

    /// A limit of the call in hand is over.
    fn time_is_up(&mut self, now: Instant, reason: TimeoutReason) {
        let Some((common, phase)) = self.current.take() else {
            return;
        };
        match phase {
            Phase::LookingUp(looking) => self.give_up_looking(
                now,
                common,
                looking,
                Ending::Unreachable(Unreachable::NoRoute),
            ),
            Phase::Calling(mut calling) => {
                let heard_of = calling
                    .legs
                    .values()
                    .any(|leg| leg.delivered || leg.ringing);
                calling.learn(if heard_of {
                    Ending::NoAnswer
                } else {
                    Ending::Unreachable(Unreachable::NoRoute)
                });
                let ending = calling.verdict.unwrap_or(Ending::NoAnswer);
                self.stop_calling(now, common, calling, None, ending, CancelReason::NoAnswer);
            }
            Phase::Ringing(ringing) => {
                self.stop_ringing(now, common, &ringing, Ending::NoAnswer, None);
            }
            Phase::InCall(in_call) => self.in_call_timeout(now, common, in_call, reason),
        }
    }

    /// Takes the running call out, if it is this one.
    fn take(&mut self, call: CallId) -> Result<(Common, Phase), CommandError> {
        self.current
            .take_if(|(common, _)| common.call == call)
            .ok_or(CommandError::NoCall)
    }

    fn leg_mut(&mut self, call: CallId, device: DeviceId) -> Option<&mut Leg> {
        match &mut self.current {
            Some((common, Phase::Calling(calling))) if common.call == call => {
                calling.legs.get_mut(&device)
            }
            Some((_, Phase::LookingUp(_) | Phase::Calling(_) | Phase::Ringing(_)))
            | Some((_, Phase::InCall(_)))
            | None => None,
        }
    }

    fn send(&mut self, call: CallId, to: DeviceId, signal: Signal) {
        self.actions
            .push_back(Action::SendSignal { call, to, signal });
    }

    fn close(&mut self, call: CallId, participant: DeviceId) {
        self.actions
            .push_back(Action::CloseSession { call, participant });
    }

    fn finish(
        &mut self,
        now: Instant,
        common: Common,
        participant: Option<DeviceId>,
        ending: Ending,
    ) {
        self.remember_over(now, common.call);
        self.actions.push_back(Action::Ended(EndedCall {
            call: common.call,
            direction: common.direction,
            user: common.user,
            participant,
            ending,
            timeline: common.timeline,
            ended: now,
        }));
    }

    fn remember_over(&mut self, now: Instant, call: CallId) {
        if self.over.len() == MAX_REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((call, now + MEMORY));
    }

    fn is_over(&self, call: CallId) -> bool {
        self.over.iter().any(|(over, _)| *over == call)
    }

    fn forget_old(&mut self, now: Instant) {
        while self.over.front().is_some_and(|(_, until)| *until <= now) {
            self.over.pop_front();
        }
        while self
            .early_cancels
            .front()
            .is_some_and(|(_, _, until)| *until <= now)
        {
            self.early_cancels.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.over.len() + self.early_cancels.len()
    }

    fn within_setup(&self, limit: Duration) -> Duration {
        self.config
            .setup_limit
            .map_or(limit, |setup| setup.min(limit))
    }

    fn connect_deadline(&self, now: Instant, common: &Common) -> Instant {
        let usual = now + self.config.connect_timeout;
        match self.config.setup_limit {
            Some(limit) => usual.min(common.timeline.started + limit),
            None => usual,
        }
    }

    /// Tells the outside when a state has changed.
    fn show(&mut self) {
        let state = |call: &Option<(Common, Phase)>| {
            let call = call.as_ref();
            call.map(|(common, phase)| (common.call, phase.state()))
        };
        let states = [state(&self.current), state(&self.aside)];
        for (state, shown) in states.into_iter().zip(self.shown) {
            if let Some((call, state)) = state.filter(|_| state != shown) {
                self.actions.push_back(Action::Changed { call, state });
            }
        }
        self.shown = states;
    }
}

fn info_of((common, phase): &(Common, Phase)) -> CallInfo {
    CallInfo {
        call: common.call,
        direction: common.direction,
        user: common.user,
        participants: phase.participants(),
        state: phase.state(),
        muted: common.muted,
        held: common.held,
        recording: common.recording,
        started: common.timeline.started,
    }
}

/// How a call ends that somebody hung up: completed once anything was heard, cancelled before.
fn spoken(by: Side) -> impl Fn(bool) -> Ending {
    move |heard| {
        if heard {
            Ending::Completed { by }
        } else {
            Ending::Cancelled { by }
        }
    }
}

impl HangUpReason {
    /// What it means to the side that was told.
    fn ending(self, heard: bool) -> Ending {
        match self {
            Self::Person => spoken(Side::Remote)(heard),
            Self::NoPath if heard => Ending::Lost(LostReason::Path),
            Self::NoPath => Ending::Unreachable(Unreachable::NoRoute),
            Self::Media => Ending::Failed(Failure::Media),
            Self::Protocol => Ending::Failed(Failure::Protocol),
            Self::TimeLimit => Ending::Failed(Failure::TimeLimit),
        }
    }
}

impl Common {
    fn new(now: Instant, call: CallId, direction: Direction, user: UserId) -> Self {
        Self {
            call,
            direction,
            user,
            timeline: Timeline::new(now),
            muted: false,
            held: false,
            blank: false,
            recording: false,
            revision: 0,
        }
    }

    /// With the microphone as calls begin.
    fn muted(mut self, config: &CallConfig) -> Self {
        if config.begins_muted {
            self.muted = true;
            // The other side takes it for unmuted until told.
            self.revision = 1;
        }
        self
    }

    /// Their call, with what was set on ours.
    fn joined(now: Instant, ours: &Self, theirs: &Crossed) -> Self {
        let mut common = Self::new(now, theirs.call, Direction::Incoming, theirs.from.user);
        common.timeline.started = ours.timeline.started.min(now);
        common.timeline.accepted = Some(now);
        common.muted = ours.muted;
        common.held = ours.held;
        // Whoever comes back is still recorded, and has to be told.
        common.recording = ours.recording;
        common.revision = 1;
        common
    }

    fn media_state(&self) -> Signal {
        Signal::MediaState {
            revision: self.revision,
            muted: self.muted,
            held: self.held,
            blank: self.blank,
            recording: self.recording,
        }
    }
}

impl Phase {
    fn next_timeout(&self) -> Option<(Instant, TimeoutReason)> {
        match self {
            Self::LookingUp(looking) => Some((looking.deadline, TimeoutReason::Lookup)),
            Self::Calling(calling) => Some((calling.deadline, TimeoutReason::Answer)),
            Self::Ringing(ringing) => Some((ringing.deadline, TimeoutReason::Ring)),
            Self::InCall(in_call) => {
                let members = in_call.members.values();
                members
                    .filter_map(Member::next_timeout)
                    .chain(in_call.talk_until.map(|at| (at, TimeoutReason::TalkLimit)))
                    .min_by_key(|(at, _)| *at)
            }
        }
    }

    fn participants(&self) -> Vec<DeviceId> {
        match self {
            Self::LookingUp(_) => Vec::new(),
            Self::Calling(calling) => calling.legs.keys().copied().collect(),
            Self::Ringing(ringing) => vec![ringing.from.device],
            Self::InCall(in_call) => in_call.members.keys().copied().collect(),
        }
    }

    fn state(&self) -> CallState {
        match self {
            Self::LookingUp(_) => CallState::LookingUp,
            Self::Calling(calling) if calling.legs.values().any(|leg| leg.ringing) => {
                CallState::RingingThere
            }
            Self::Calling(_) => CallState::Calling,
            Self::Ringing(_) => CallState::RingingHere,
            Self::InCall(in_call) => in_call.state(),
        }
    }
}

impl InCall {
    fn state(&self) -> CallState {
        let members: &BTreeMap<DeviceId, Member> = &self.members;
        let down = members.values().map(|member| match member.session {
            Health::Down(until) => Some(until),
            Health::Opening | Health::Up => None,
        });
        // Only when all are gone; `min` of an option is none as soon as one is.
        match down.min().flatten() {
            Some(until) => CallState::Reconnecting { until },
            None if members.values().all(Member::is_unheard) => CallState::Connecting,
            None => CallState::Talking,
        }
    }

    /// This device is the only one in the call, and all its paths are gone.
    fn waits_for(&self, device: DeviceId) -> bool {
        self.members.len() == 1
            && self
                .members
                .get(&device)
                .is_some_and(|member| matches!(member.session, Health::Down(_)))
    }
}

impl Member {
    fn is_unheard(&self) -> bool {
        self.connect_by.is_some()
    }

    fn next_timeout(&self) -> Option<(Instant, TimeoutReason)> {
        let reconnect = match self.session {
            Health::Down(until) => Some((until, TimeoutReason::Reconnect)),
            Health::Opening | Health::Up => None,
        };
        let connect = self.connect_by.map(|at| (at, TimeoutReason::Connect));
        reconnect
            .into_iter()
            .chain(connect)
            .min_by_key(|(at, _)| *at)
    }
}
