//! Calls that ring here, and calls that cross.

use std::time::Instant;

use ahoy_transport::identity::DeviceId;

use super::Calls;
use crate::call::{
    CallId, Direction, Ending, Failure, LostReason, Side,
    phase::{Accepted, Calling, Common, Crossed, InCall, LookingUp, Member, Phase, Ringing},
    types::{Action, Alert, Peer},
};
use crate::signal::{CancelReason, DeclineReason, MediaCapabilities, Signal};

impl Calls {
    pub(super) fn handle_incoming(
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
            Phase::InCall(in_call)
                if common.direction == Direction::Incoming
                    && in_call.members.len() == 1
                    && in_call
                        .members
                        .get(&from.device)
                        .is_some_and(Member::is_unheard) =>
            {
                // We accepted what was already cancelled, as above, and the person calls again.
                let gone = Ending::Cancelled { by: Side::Remote };
                self.leave(now, common, in_call, from.device, gone, None);
                self.ring(now, call, from, &media, alert);
            }
            Phase::InCall(in_call) if in_call.members.contains_key(&from.device) => {
                // The late offer of a crossing call that lost, or a device that does not know yet that it
                // lost this call. Neither is a missed call.
                self.send(call, from.device, Signal::Busy);
                self.remember_over(now, call);
                self.current = Some((common, Phase::InCall(in_call)));
            }
            phase @ Phase::InCall(_) if self.may_wait() => {
                self.beside(now, (common, phase), |calls, now| {
                    calls.ring(now, call, from, &media, alert.beside_a_call());
                });
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

    pub(super) fn ring(
        &mut self,
        now: Instant,
        call: CallId,
        from: Peer,
        media: &MediaCapabilities,
        alert: Alert,
    ) {
        let mut common = Common::new(now, call, Direction::Incoming, from.user).muted(&self.config);
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
        let alert = if self.aside.is_some() {
            alert.beside_a_call()
        } else {
            alert
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
    pub(super) fn repeat_answer(&mut self, common: Common, phase: Phase, device: DeviceId) {
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

    pub(super) fn stop_ringing(
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

    pub(super) fn take_crossed(
        &mut self,
        now: Instant,
        ours: Common,
        calling: Calling,
        theirs: Crossed,
    ) {
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

    pub(super) fn take_crossed_while_looking(
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

    pub(super) fn join(
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
    pub(super) fn resume(
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

    pub(super) fn forget_crossed(
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
}
