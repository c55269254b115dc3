//! What the other side says.

use std::time::Instant;

use ahoy_transport::identity::DeviceId;

use super::{Calls, MAX_EARLY_CANCELS, MEMORY, spoken};
use crate::call::{
    CallId, Direction, Ending, Failure, Side,
    phase::{Calling, Common, InCall, Phase},
    types::Action,
};
use crate::signal::{CancelReason, DeclineReason, Signal};

impl Calls {
    pub(super) fn handle_signal(
        &mut self,
        now: Instant,
        call: CallId,
        from: DeviceId,
        signal: Signal,
    ) {
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
                    | Signal::Report(_)
                    | Signal::MailPass { .. }
                    | Signal::Compare(_)
                    | Signal::Handed(_)
                    | Signal::FileTaken(_) => {
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
    pub(super) fn handle_stray_signal(
        &mut self,
        now: Instant,
        call: CallId,
        from: DeviceId,
        signal: &Signal,
    ) {
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
            | Signal::Report(_)
            | Signal::MailPass { .. }
            | Signal::Compare(_)
            | Signal::Handed(_)
            | Signal::FileTaken(_) => {}
        }
    }

    pub(super) fn handle_callee_signal(
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
                let early = calling.early_media.remove(&from);
                self.answered(now, common, calling, from, &media);
                if let Some(early) = early {
                    self.handle_signal(now, call, from, early);
                }
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
            // Each way keeps its own order only.
            state @ Signal::MediaState { .. } => {
                let revision = |signal: &Signal| {
                    let Signal::MediaState { revision, .. } = signal else {
                        return None;
                    };
                    Some(*revision)
                };
                let known = calling.early_media.get(&from);
                if known.is_none_or(|known| revision(known) < revision(&state)) {
                    calling.early_media.insert(from, state);
                }
                None
            }
            Signal::Cancel(_)
            | Signal::Candidates(_)
            | Signal::Report(_)
            | Signal::MailPass { .. }
            | Signal::Compare(_)
            | Signal::Handed(_)
            | Signal::FileTaken(_) => None,
        };
        self.current = Some((common, Phase::Calling(calling)));
        if let Some(ending) = out {
            self.drop_leg(now, call, from, ending, false);
        }
    }

    pub(super) fn handle_member_signal(
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
                blank,
                recording,
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
                        blank,
                        recording,
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
            | Signal::Report(_)
            | Signal::MailPass { .. }
            | Signal::Compare(_)
            | Signal::Handed(_)
            | Signal::FileTaken(_) => {
                self.current = Some((common, Phase::InCall(in_call)));
                return;
            }
        };
        self.leave(now, common, in_call, from, ending, None);
    }
}
