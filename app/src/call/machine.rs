//! [`Calls`]: the calls of this device, at most one of them alive.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use ahoy_transport::identity::{DeviceId, UserId};
use tracing::debug;

use super::{
    CallId, Direction, EndedCall, Ending, Failure, LostReason, Side, Timeline, Unreachable,
    phase::{
        Accepted, Calling, Common, Crossed, Health, InCall, Leg, LookingUp, Member, Phase, Ringing,
    },
    types::{
        Action, Alert, CallConfig, CallInfo, CallState, CommandError, Event, Peer, SessionEnd,
        SessionEvent, TimeoutReason,
    },
};
use crate::signal::{
    CancelReason, DeclineReason, HangUpReason, MediaCapabilities, MediaChoice, Signal,
};

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
    current: Option<(Common, Phase)>,
    actions: VecDeque<Action>,
    /// Calls that are over, oldest first.
    over: VecDeque<(CallId, Instant)>,
    /// Cancels that overtook their offer, oldest first.
    early_cancels: VecDeque<(CallId, DeviceId, Instant)>,
    /// The last state the outside was told.
    shown: Option<(CallId, CallState)>,
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
            actions: VecDeque::new(),
            over: VecDeque::new(),
            early_cancels: VecDeque::new(),
            shown: None,
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
        let (_, phase) = self.current.as_ref()?;
        match phase {
            Phase::LookingUp(looking) => Some((looking.deadline, TimeoutReason::Lookup)),
            Phase::Calling(calling) => Some((calling.deadline, TimeoutReason::Answer)),
            Phase::Ringing(ringing) => Some((ringing.deadline, TimeoutReason::Ring)),
            Phase::InCall(in_call) => {
                let members = in_call.members.values();
                members
                    .filter_map(Member::next_timeout)
                    .chain(in_call.talk_until.map(|at| (at, TimeoutReason::TalkLimit)))
                    .min_by_key(|(at, _)| *at)
            }
        }
    }

    /// When the steps of the running call happened, if that is `call`.
    #[must_use]
    pub fn timeline(&self, call: CallId) -> Option<Timeline> {
        let (common, _phase) = self.current.as_ref()?;
        (common.call == call).then_some(common.timeline)
    }

    /// The running call.
    #[must_use]
    pub fn current(&self) -> Option<CallInfo> {
        let (common, phase) = self.current.as_ref()?;
        Some(CallInfo {
            call: common.call,
            direction: common.direction,
            user: common.user,
            participants: phase.participants(),
            state: phase.state(),
            muted: common.muted,
            held: common.held,
            started: common.timeline.started,
        })
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
            Some(_) => return Err(CommandError::InCall),
        }
        let common = Common::new(now, call, Direction::Outgoing, user);
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

    /// Answers the call that rings here.
    ///
    /// # Errors
    /// [`CommandError::NoCall`] when it is gone, [`CommandError::NotRinging`] when it does not ring here.
    pub fn accept(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
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
                return self.decline(now, call);
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

    fn set_local_media(
        &mut self,
        call: CallId,
        change: impl FnOnce(&mut Common),
    ) -> Result<(), CommandError> {
        let (mut common, phase) = self.take(call)?;
        let before = (common.muted, common.held);
        change(&mut common);
        if before != (common.muted, common.held) {
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
        self.show();
    }

    /// Ends whatever is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, reason)) = self.poll_timeout()
            && at <= now
        {
            let Some((common, phase)) = self.current.take() else {
                return;
            };
            debug!(call = ?common.call, ?reason, "a limit of the call is over");
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
        self.show();
    }

    // ---- outgoing ----

    fn handle_found(&mut self, now: Instant, call: CallId, mut devices: Vec<DeviceId>) {
        let Ok((mut common, phase)) = self.take(call) else {
            return;
        };
        let Phase::LookingUp(looking) = phase else {
            self.current = Some((common, phase));
            return;
        };
        devices.sort_unstable();
        devices.dedup();
        devices.truncate(Self::MAX_DEVICES);
        if devices.is_empty() {
            let ending = Ending::Unreachable(Unreachable::Offline);
            self.give_up_looking(now, common, looking, ending);
            return;
        }
        common.timeline.found = Some(now);
        for device in &devices {
            self.actions
                .push_back(Action::SendOffer { call, to: *device });
        }
        let limit = self.within_setup(self.config.answer_timeout);
        let calling = Calling {
            legs: devices
                .into_iter()
                .map(|device| (device, Leg::default()))
                .collect(),
            deadline: common.timeline.started + limit,
            crossed: looking.crossed,
            verdict: None,
        };
        self.current = Some((common, Phase::Calling(calling)));
    }

    fn handle_lookup_failed(&mut self, now: Instant, call: CallId, why: Unreachable) {
        let Ok((common, phase)) = self.take(call) else {
            return;
        };
        if let Phase::LookingUp(looking) = phase {
            self.give_up_looking(now, common, looking, Ending::Unreachable(why));
        } else {
            self.current = Some((common, phase));
        }
    }

    fn give_up_looking(
        &mut self,
        now: Instant,
        common: Common,
        mut looking: LookingUp,
        ending: Ending,
    ) {
        match looking.crossed.take() {
            Some(crossed) => self.take_crossed_while_looking(now, common, looking, crossed),
            None => self.finish(now, common, None, ending),
        }
    }

    /// One device called is out of the race; the call goes on while others are in it.
    fn drop_leg(
        &mut self,
        now: Instant,
        call: CallId,
        device: DeviceId,
        ending: Ending,
        tell: bool,
    ) {
        let Ok((common, phase)) = self.take(call) else {
            return;
        };
        let Phase::Calling(mut calling) = phase else {
            self.current = Some((common, phase));
            return;
        };
        if calling.legs.remove(&device).is_none() {
            self.current = Some((common, Phase::Calling(calling)));
            return;
        }
        if tell {
            self.send(call, device, Signal::Cancel(CancelReason::Over));
        }
        self.close(call, device);
        calling.learn(ending);
        if !calling.legs.is_empty() {
            self.current = Some((common, Phase::Calling(calling)));
        } else if let Some(crossed) = calling.crossed.take() {
            self.take_crossed(now, common, calling, crossed);
        } else {
            let ending = calling.verdict.unwrap_or(ending);
            self.finish(now, common, Some(device), ending);
        }
    }

    fn stop_calling(
        &mut self,
        now: Instant,
        common: Common,
        calling: Calling,
        participant: Option<DeviceId>,
        ending: Ending,
        tell: CancelReason,
    ) {
        for device in calling.legs.into_keys() {
            self.send(common.call, device, Signal::Cancel(tell));
            self.close(common.call, device);
        }
        self.forget_crossed(now, calling.crossed, Some(DeclineReason::Person));
        self.finish(now, common, participant, ending);
    }

    fn answered(
        &mut self,
        now: Instant,
        common: Common,
        calling: Calling,
        device: DeviceId,
        media: &MediaCapabilities,
    ) {
        let call = common.call;
        let Some(media) = self.config.media.negotiate(media) else {
            self.current = Some((common, Phase::Calling(calling)));
            self.drop_leg(now, call, device, Ending::Failed(Failure::Media), true);
            return;
        };
        let mut calling = calling;
        let crossed = calling.crossed.take();
        let mut common = common;
        common.timeline.accepted = Some(now);
        let connect_by = self.connect_deadline(now, &common);
        let (in_call, accepted, others) = calling.answered(call, device, connect_by);
        for other in others {
            self.send(call, other, Signal::Cancel(CancelReason::AnsweredElsewhere));
            self.close(call, other);
        }
        self.forget_crossed(now, crossed, None);
        self.enter(common, in_call, accepted, media, false);
    }

    // ---- incoming ----

    fn handle_incoming(
        &mut self,
        now: Instant,
        call: CallId,
        from: Peer,
        media: MediaCapabilities,
        alert: Alert,
    ) {
        self.forget_old(now);
        if self.is_over(call) {
            return;
        }
        if let Some(early) = self
            .early_cancels
            .iter()
            .position(|(cancelled, by, _)| *cancelled == call && *by == from.device)
        {
            self.early_cancels.remove(early);
            let common = Common::new(now, call, Direction::Incoming, from.user);
            self.finish(
                now,
                common,
                Some(from.device),
                Ending::Cancelled { by: Side::Remote },
            );
            return;
        }
        let Some((common, phase)) = self.current.take() else {
            self.ring(now, call, from, &media, alert);
            return;
        };
        if common.call == call {
            self.repeat_answer(common, phase, from.device);
            return;
        }
        match phase {
            Phase::LookingUp(mut looking) if common.user == from.user => {
                let crossed = Crossed { call, from, media };
                if call < common.call {
                    self.take_crossed_while_looking(now, common, looking, crossed);
                } else {
                    looking.crossed = Some(crossed);
                    self.current = Some((common, Phase::LookingUp(looking)));
                }
            }
            Phase::Calling(mut calling) if common.user == from.user => {
                let crossed = Crossed { call, from, media };
                if call < common.call {
                    self.take_crossed(now, common, calling, crossed);
                } else {
                    calling.crossed = Some(crossed);
                    self.current = Some((common, Phase::Calling(calling)));
                }
            }
            Phase::Ringing(ringing) if ringing.from.device == from.device => {
                // A device has one call: the first one's cancel is late or lost.
                let gone = Ending::Cancelled { by: Side::Remote };
                self.stop_ringing(now, common, &ringing, gone, None);
                self.ring(now, call, from, &media, alert);
            }
            Phase::InCall(in_call) if in_call.waits_for(from.device) => {
                self.resume(now, common, in_call, call, from, &media);
            }
            Phase::InCall(in_call) if in_call.members.contains_key(&from.device) => {
                // The late offer of a crossing call that lost, or a device that does not know yet that it
                // lost this call. Neither is a missed call.
                self.send(call, from.device, Signal::Busy);
                self.remember_over(now, call);
                self.current = Some((common, Phase::InCall(in_call)));
            }
            phase @ (Phase::LookingUp(_)
            | Phase::Calling(_)
            | Phase::Ringing(_)
            | Phase::InCall(_)) => {
                self.current = Some((common, phase));
                self.send(call, from.device, Signal::Busy);
                let missed = Common::new(now, call, Direction::Incoming, from.user);
                self.finish(now, missed, Some(from.device), Ending::Busy);
            }
        }
    }

    fn ring(
        &mut self,
        now: Instant,
        call: CallId,
        from: Peer,
        media: &MediaCapabilities,
        alert: Alert,
    ) {
        let mut common = Common::new(now, call, Direction::Incoming, from.user);
        let Some(media) = self.config.media.negotiate(media) else {
            self.send(
                call,
                from.device,
                Signal::Decline(DeclineReason::Incompatible),
            );
            self.finish(
                now,
                common,
                Some(from.device),
                Ending::Failed(Failure::Media),
            );
            return;
        };
        common.timeline.ringing = Some(now);
        let ringing = Ringing {
            from,
            media,
            deadline: now + self.config.answer_timeout + self.config.ring_slack,
            session_up: false,
        };
        self.current = Some((common, Phase::Ringing(ringing)));
        self.send(call, from.device, Signal::Ringing);
        self.actions.push_back(Action::OpenSession {
            call,
            participant: from.device,
        });
        self.actions
            .push_back(Action::StartRinging { call, from, alert });
    }

    /// The offer came again: so may our answer.
    fn repeat_answer(&mut self, common: Common, phase: Phase, device: DeviceId) {
        match &phase {
            Phase::Ringing(ringing) if ringing.from.device == device => {
                self.send(common.call, device, Signal::Ringing);
            }
            Phase::InCall(in_call)
                if common.direction == Direction::Incoming
                    && in_call.members.get(&device).is_some_and(Member::is_unheard) =>
            {
                let media = self.config.media.clone();
                self.send(common.call, device, Signal::Accept(media));
            }
            Phase::LookingUp(_) | Phase::Calling(_) | Phase::Ringing(_) | Phase::InCall(_) => {}
        }
        self.current = Some((common, phase));
    }

    fn stop_ringing(
        &mut self,
        now: Instant,
        common: Common,
        ringing: &Ringing,
        ending: Ending,
        tell: Option<Signal>,
    ) {
        self.actions
            .push_back(Action::StopRinging { call: common.call });
        if let Some(signal) = tell {
            self.send(common.call, ringing.from.device, signal);
        }
        self.close(common.call, ringing.from.device);
        self.finish(now, common, Some(ringing.from.device), ending);
    }

    // ---- crossing calls ----

    fn take_crossed(&mut self, now: Instant, ours: Common, calling: Calling, theirs: Crossed) {
        let common = Common::joined(now, &ours, &theirs);
        let connect_by = self.connect_deadline(now, &common);
        let device = theirs.from.device;
        let (in_call, accepted, called) = calling.cross(theirs.call, device, connect_by);
        for other in called {
            self.send(ours.call, other, Signal::Cancel(CancelReason::Merged));
            self.close(ours.call, other);
        }
        self.join(now, ours, theirs, common, in_call, accepted);
    }

    fn take_crossed_while_looking(
        &mut self,
        now: Instant,
        ours: Common,
        looking: LookingUp,
        theirs: Crossed,
    ) {
        let common = Common::joined(now, &ours, &theirs);
        let connect_by = self.connect_deadline(now, &common);
        let (in_call, accepted) = looking.cross(theirs.call, theirs.from.device, connect_by);
        self.join(now, ours, theirs, common, in_call, accepted);
    }

    fn join(
        &mut self,
        now: Instant,
        ours: Common,
        theirs: Crossed,
        common: Common,
        in_call: InCall,
        accepted: Accepted,
    ) {
        let into = theirs.call;
        let device = theirs.from.device;
        self.finish(now, ours, Some(device), Ending::Merged { into });
        let Some(media) = self.config.media.negotiate(&theirs.media) else {
            self.send(into, device, Signal::Decline(DeclineReason::Incompatible));
            self.finish(now, common, Some(device), Ending::Failed(Failure::Media));
            return;
        };
        self.actions.push_back(Action::OpenSession {
            call: into,
            participant: device,
        });
        self.enter(common, in_call, accepted, media, true);
    }

    /// The device in the call calls again while we wait for it: go on at once.
    fn resume(
        &mut self,
        now: Instant,
        old: Common,
        in_call: InCall,
        call: CallId,
        from: Peer,
        media: &MediaCapabilities,
    ) {
        let crossed = Crossed {
            call,
            from,
            media: media.clone(),
        };
        let mut common = Common::joined(now, &old, &crossed);
        common.timeline.started = now;
        let connect_by = self.connect_deadline(now, &common);
        self.close(old.call, from.device);
        let (next, accepted) = in_call.resumed(call, from.device, connect_by);
        let lost = Ending::Lost(LostReason::PeerRestarted);
        self.finish(now, old, Some(from.device), lost);
        let Some(media) = self.config.media.negotiate(media) else {
            self.send(
                call,
                from.device,
                Signal::Decline(DeclineReason::Incompatible),
            );
            self.finish(
                now,
                common,
                Some(from.device),
                Ending::Failed(Failure::Media),
            );
            return;
        };
        self.actions.push_back(Action::OpenSession {
            call,
            participant: from.device,
        });
        self.enter(common, next, accepted, media, true);
    }

    fn forget_crossed(
        &mut self,
        now: Instant,
        crossed: Option<Crossed>,
        tell: Option<DeclineReason>,
    ) {
        if let Some(crossed) = crossed {
            if let Some(reason) = tell {
                self.send(crossed.call, crossed.from.device, Signal::Decline(reason));
            }
            self.remember_over(now, crossed.call);
        }
    }

    // ---- accepted ----

    fn enter(
        &mut self,
        common: Common,
        in_call: InCall,
        accepted: Accepted,
        media: MediaChoice,
        answer: bool,
    ) {
        let call = common.call;
        let participant = accepted.participant();
        if answer {
            let media = self.config.media.clone();
            self.send(call, participant, Signal::Accept(media));
        }
        let (muted, held) = (common.muted, common.held);
        if muted || held {
            self.actions
                .push_back(Action::SetLocalMedia { call, muted, held });
        }
        self.actions.push_back(Action::OpenMedia {
            call,
            participant,
            media,
            accepted,
        });
        if muted || held {
            self.send(call, participant, common.media_state());
        }
        self.current = Some((common, Phase::InCall(in_call)));
    }

    fn hang_up_all(
        &mut self,
        now: Instant,
        common: Common,
        in_call: InCall,
        ending: impl Fn(bool) -> Ending,
        tell: HangUpReason,
    ) {
        let mut last = None;
        for (device, _) in in_call.members {
            self.send(common.call, device, Signal::HangUp(tell));
            self.close(common.call, device);
            last = Some(device);
        }
        let heard = common.timeline.first_audio.is_some();
        self.finish(now, common, last, ending(heard));
    }

    /// One member leaves; the call ends with the last.
    fn leave(
        &mut self,
        now: Instant,
        common: Common,
        mut in_call: InCall,
        device: DeviceId,
        ending: Ending,
        tell: Option<HangUpReason>,
    ) {
        if in_call.members.remove(&device).is_none() {
            self.current = Some((common, Phase::InCall(in_call)));
            return;
        }
        if let Some(reason) = tell {
            self.send(common.call, device, Signal::HangUp(reason));
        }
        self.close(common.call, device);
        if in_call.members.is_empty() {
            self.finish(now, common, Some(device), ending);
        } else {
            self.current = Some((common, Phase::InCall(in_call)));
        }
    }

    fn in_call_timeout(
        &mut self,
        now: Instant,
        common: Common,
        in_call: InCall,
        reason: TimeoutReason,
    ) {
        if reason == TimeoutReason::TalkLimit {
            self.hang_up_all(
                now,
                common,
                in_call,
                spoken(Side::Local),
                HangUpReason::Person,
            );
            return;
        }
        let due = in_call
            .members
            .iter()
            .find_map(|(device, member)| match member.next_timeout() {
                Some((at, why)) if at <= now => Some((*device, member.session, why)),
                Some(_) | None => None,
            });
        let Some((device, session, why)) = due else {
            self.current = Some((common, Phase::InCall(in_call)));
            return;
        };
        let (ending, tell) = match (why, session) {
            (TimeoutReason::Connect, Health::Opening) => (
                Ending::Unreachable(Unreachable::NoRoute),
                HangUpReason::NoPath,
            ),
            (TimeoutReason::Connect, Health::Up | Health::Down(_)) => {
                (Ending::Failed(Failure::TimeLimit), HangUpReason::TimeLimit)
            }
            (
                TimeoutReason::Reconnect
                | TimeoutReason::Lookup
                | TimeoutReason::Answer
                | TimeoutReason::Ring
                | TimeoutReason::TalkLimit,
                _,
            ) => (Ending::Lost(LostReason::Path), HangUpReason::NoPath),
        };
        self.leave(now, common, in_call, device, ending, Some(tell));
    }

    fn handle_first_audio(&mut self, now: Instant, call: CallId, participant: DeviceId) {
        let talk_limit = self.config.talk_limit;
        let Some((common, Phase::InCall(in_call))) = &mut self.current else {
            return;
        };
        if common.call != call {
            return;
        }
        let Some(member) = in_call.members.get_mut(&participant) else {
            return;
        };
        member.connect_by = None;
        member.session = Health::Up;
        common.timeline.connected.get_or_insert(now);
        common.timeline.first_audio.get_or_insert(now);
        if in_call.talk_until.is_none() {
            in_call.talk_until = talk_limit.map(|limit| now + limit);
        }
    }

    fn handle_media_failed(&mut self, now: Instant, call: CallId) {
        let Ok((common, phase)) = self.take(call) else {
            return;
        };
        let ending = Ending::Failed(Failure::Media);
        match phase {
            Phase::LookingUp(looking) => {
                self.forget_crossed(now, looking.crossed, Some(DeclineReason::Incompatible));
                self.finish(now, common, None, ending);
            }
            Phase::Calling(calling) => {
                self.stop_calling(now, common, calling, None, ending, CancelReason::Over);
            }
            Phase::Ringing(ringing) => {
                let tell = Signal::Decline(DeclineReason::Incompatible);
                self.stop_ringing(now, common, &ringing, ending, Some(tell));
            }
            Phase::InCall(in_call) => {
                self.hang_up_all(now, common, in_call, |_| ending, HangUpReason::Media);
            }
        }
    }

    // ---- signals ----

    fn handle_signal(&mut self, now: Instant, call: CallId, from: DeviceId, signal: Signal) {
        self.forget_old(now);
        let Ok((common, phase)) = self.take(call) else {
            self.handle_stray_signal(now, call, from, &signal);
            return;
        };
        match phase {
            Phase::LookingUp(_) => self.current = Some((common, phase)),
            Phase::Calling(calling) => {
                self.handle_callee_signal(now, common, calling, from, signal);
            }
            Phase::Ringing(ringing) => {
                let ending = match &signal {
                    Signal::Cancel(CancelReason::AnsweredElsewhere) => Ending::AnsweredElsewhere,
                    Signal::Cancel(CancelReason::DeclinedElsewhere) => Ending::DeclinedElsewhere,
                    Signal::Cancel(CancelReason::NoAnswer) => Ending::NoAnswer,
                    Signal::Cancel(
                        CancelReason::Person | CancelReason::Merged | CancelReason::Over,
                    )
                    | Signal::HangUp(_) => Ending::Cancelled { by: Side::Remote },
                    Signal::Ringing
                    | Signal::Accept(_)
                    | Signal::Decline(_)
                    | Signal::Busy
                    | Signal::MediaState { .. }
                    | Signal::Candidates(_)
                    | Signal::Report(_) => {
                        self.current = Some((common, Phase::Ringing(ringing)));
                        return;
                    }
                };
                if ringing.from.device == from {
                    self.stop_ringing(now, common, &ringing, ending, None);
                } else {
                    self.current = Some((common, Phase::Ringing(ringing)));
                }
            }
            Phase::InCall(in_call) if in_call.members.contains_key(&from) => {
                self.handle_member_signal(now, common, in_call, from, signal);
            }
            Phase::InCall(in_call) => {
                // Another device of the person called has not heard that this one took the call.
                if common.direction == Direction::Outgoing
                    && matches!(signal, Signal::Accept(_) | Signal::Ringing)
                {
                    self.send(call, from, Signal::Cancel(CancelReason::AnsweredElsewhere));
                }
                self.current = Some((common, Phase::InCall(in_call)));
            }
        }
    }

    /// A signal of a call that is not the running one.
    fn handle_stray_signal(&mut self, now: Instant, call: CallId, from: DeviceId, signal: &Signal) {
        match signal {
            Signal::Cancel(_) => {
                let crossed = match &mut self.current {
                    Some((_, Phase::LookingUp(looking))) => Some(&mut looking.crossed),
                    Some((_, Phase::Calling(calling))) => Some(&mut calling.crossed),
                    Some((_, Phase::Ringing(_) | Phase::InCall(_))) | None => None,
                };
                if let Some(crossed) = crossed
                    && crossed
                        .as_ref()
                        .is_some_and(|it| it.call == call && it.from.device == from)
                {
                    *crossed = None;
                    self.remember_over(now, call);
                } else if !self.is_over(call) {
                    if self.early_cancels.len() == MAX_EARLY_CANCELS {
                        self.early_cancels.pop_front();
                    }
                    self.early_cancels.push_back((call, from, now + MEMORY));
                }
            }
            Signal::Accept(_) | Signal::Ringing if self.is_over(call) => {
                // It missed our cancel.
                self.send(call, from, Signal::Cancel(CancelReason::Over));
            }
            Signal::Accept(_)
            | Signal::Ringing
            | Signal::Decline(_)
            | Signal::Busy
            | Signal::HangUp(_)
            | Signal::MediaState { .. }
            | Signal::Candidates(_)
            | Signal::Report(_) => {}
        }
    }

    fn handle_callee_signal(
        &mut self,
        now: Instant,
        mut common: Common,
        mut calling: Calling,
        from: DeviceId,
        signal: Signal,
    ) {
        let call = common.call;
        let Some(leg) = calling.legs.get_mut(&from) else {
            if matches!(signal, Signal::Accept(_) | Signal::Ringing) {
                self.send(call, from, Signal::Cancel(CancelReason::Over));
            }
            self.current = Some((common, Phase::Calling(calling)));
            return;
        };
        leg.delivered = true;
        let out = match signal {
            Signal::Accept(media) => {
                self.answered(now, common, calling, from, &media);
                return;
            }
            Signal::Decline(DeclineReason::Person) => {
                calling.legs.remove(&from);
                self.close(call, from);
                let ending = Ending::Declined { by: Side::Remote };
                let tell = CancelReason::DeclinedElsewhere;
                self.stop_calling(now, common, calling, Some(from), ending, tell);
                return;
            }
            Signal::Ringing => {
                leg.ringing = true;
                common.timeline.ringing.get_or_insert(now);
                None
            }
            Signal::Decline(DeclineReason::Incompatible) => Some(Ending::Failed(Failure::Media)),
            Signal::Busy => Some(Ending::Busy),
            Signal::HangUp(reason) => Some(reason.ending(false)),
            Signal::Cancel(_)
            | Signal::MediaState { .. }
            | Signal::Candidates(_)
            | Signal::Report(_) => None,
        };
        self.current = Some((common, Phase::Calling(calling)));
        if let Some(ending) = out {
            self.drop_leg(now, call, from, ending, false);
        }
    }

    fn handle_member_signal(
        &mut self,
        now: Instant,
        common: Common,
        mut in_call: InCall,
        from: DeviceId,
        signal: Signal,
    ) {
        let heard = common.timeline.first_audio.is_some();
        let ending = match signal {
            Signal::Cancel(CancelReason::AnsweredElsewhere) if !heard => Ending::AnsweredElsewhere,
            Signal::Cancel(CancelReason::DeclinedElsewhere) if !heard => Ending::DeclinedElsewhere,
            Signal::Cancel(_) => spoken(Side::Remote)(heard),
            Signal::HangUp(reason) => reason.ending(heard),
            Signal::Decline(_) if !heard => Ending::Declined { by: Side::Remote },
            Signal::Busy if !heard => Ending::Busy,
            Signal::MediaState {
                revision,
                muted,
                held,
            } => {
                if let Some(member) = in_call.members.get_mut(&from)
                    && revision > member.revision
                {
                    member.revision = revision;
                    if held {
                        // Nothing will be heard until it is taken off; that is no failure.
                        member.connect_by = None;
                    }
                    let call = common.call;
                    let participant = from;
                    self.actions.push_back(Action::RemoteMedia {
                        call,
                        participant,
                        muted,
                        held,
                    });
                }
                self.current = Some((common, Phase::InCall(in_call)));
                return;
            }
            Signal::Ringing
            | Signal::Accept(_)
            | Signal::Decline(_)
            | Signal::Busy
            | Signal::Candidates(_)
            | Signal::Report(_) => {
                self.current = Some((common, Phase::InCall(in_call)));
                return;
            }
        };
        self.leave(now, common, in_call, from, ending, None);
    }

    // ---- sessions ----

    fn handle_session(
        &mut self,
        now: Instant,
        call: CallId,
        participant: DeviceId,
        event: SessionEvent,
    ) {
        let Ok((mut common, mut phase)) = self.take(call) else {
            return;
        };
        if phase.participants().contains(&participant) && event == SessionEvent::Connected {
            common.timeline.connected.get_or_insert(now);
        }
        let up = matches!(event, SessionEvent::Connected | SessionEvent::Restored);
        match &mut phase {
            Phase::LookingUp(_) => {}
            Phase::Calling(calling) => {
                if let Some(leg) = calling.legs.get_mut(&participant) {
                    leg.session_up = up;
                }
            }
            Phase::Ringing(ringing) => {
                if ringing.from.device == participant {
                    ringing.session_up = up;
                }
            }
            Phase::InCall(in_call) => {
                if let Some(member) = in_call.members.get_mut(&participant) {
                    let until = now + self.config.reconnect_timeout;
                    member.session = match (event, member.session) {
                        (SessionEvent::Connected | SessionEvent::Restored, _) => Health::Up,
                        // A path that never came up has its own limit.
                        (SessionEvent::Reconnecting, Health::Opening) => Health::Opening,
                        (SessionEvent::Reconnecting, Health::Up) => Health::Down(until),
                        (SessionEvent::Reconnecting, down @ Health::Down(_)) => down,
                        (SessionEvent::Ended(_), session) => session,
                    };
                }
            }
        }
        match event {
            SessionEvent::Ended(end) => {
                self.handle_session_end(now, common, phase, participant, end);
            }
            SessionEvent::Connected | SessionEvent::Restored | SessionEvent::Reconnecting => {
                self.current = Some((common, phase));
            }
        }
    }

    fn handle_session_end(
        &mut self,
        now: Instant,
        common: Common,
        phase: Phase,
        participant: DeviceId,
        end: SessionEnd,
    ) {
        let call = common.call;
        let broken = match end {
            SessionEnd::ClosedByPeer => None,
            SessionEnd::NoPath => Some(Ending::Unreachable(Unreachable::NoRoute)),
            SessionEnd::Authentication => Some(Ending::Failed(Failure::Authentication)),
            SessionEnd::Protocol => Some(Ending::Failed(Failure::Protocol)),
        };
        match phase {
            Phase::LookingUp(_) => self.current = Some((common, phase)),
            Phase::Calling(_) => {
                self.current = Some((common, phase));
                // Closed in order, and its last word was lost: all we know is that nobody answered.
                let ending = broken.unwrap_or(Ending::NoAnswer);
                self.drop_leg(now, call, participant, ending, broken.is_some());
            }
            Phase::Ringing(ringing) if ringing.from.device == participant => {
                let ending = broken.unwrap_or(Ending::Cancelled { by: Side::Remote });
                let tell = broken.map(|_| Signal::HangUp(HangUpReason::NoPath));
                self.stop_ringing(now, common, &ringing, ending, tell);
            }
            Phase::Ringing(_) => self.current = Some((common, phase)),
            Phase::InCall(in_call) => {
                let heard = common.timeline.first_audio.is_some();
                let was_up = common.timeline.connected.is_some();
                let (ending, tell) = match end {
                    SessionEnd::ClosedByPeer => (spoken(Side::Remote)(heard), None),
                    SessionEnd::NoPath if was_up => {
                        (Ending::Lost(LostReason::Path), Some(HangUpReason::NoPath))
                    }
                    SessionEnd::NoPath => (
                        Ending::Unreachable(Unreachable::NoRoute),
                        Some(HangUpReason::NoPath),
                    ),
                    SessionEnd::Authentication => (
                        Ending::Failed(Failure::Authentication),
                        Some(HangUpReason::Protocol),
                    ),
                    SessionEnd::Protocol => (
                        Ending::Failed(Failure::Protocol),
                        Some(HangUpReason::Protocol),
                    ),
                };
                self.leave(now, common, in_call, participant, ending, tell);
            }
        }
    }

    // ---- common ----

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

    /// Tells the outside when the state has changed.
    fn show(&mut self) {
        let state = self
            .current
            .as_ref()
            .map(|(common, phase)| (common.call, phase.state()));
        if state != self.shown {
            self.shown = state;
            if let Some((call, state)) = state {
                self.actions.push_back(Action::Changed { call, state });
            }
        }
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
            revision: 0,
        }
    }

    /// Their call, with what was set on ours.
    fn joined(now: Instant, ours: &Self, theirs: &Crossed) -> Self {
        let mut common = Self::new(now, theirs.call, Direction::Incoming, theirs.from.user);
        common.timeline.started = ours.timeline.started.min(now);
        common.timeline.accepted = Some(now);
        common.muted = ours.muted;
        common.held = ours.held;
        common.revision = 1;
        common
    }

    fn media_state(&self) -> Signal {
        Signal::MediaState {
            revision: self.revision,
            muted: self.muted,
            held: self.held,
        }
    }
}

impl Phase {
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
