//! Accepted calls: sessions, media, hanging up.

use std::time::Instant;

use ahoy_transport::identity::DeviceId;

use super::{Calls, spoken};
use crate::call::{
    CallId, Ending, Failure, LostReason, Side, Unreachable,
    phase::{Accepted, Common, Health, InCall, Phase},
    types::{Action, SessionEnd, SessionEvent, TimeoutReason},
};
use crate::signal::{CancelReason, DeclineReason, HangUpReason, MediaChoice, Signal};

impl Calls {
    pub(super) fn enter(
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
        if muted || held || common.recording {
            self.send(call, participant, common.media_state());
        }
        self.current = Some((common, Phase::InCall(in_call)));
    }

    pub(super) fn hang_up_all(
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
    pub(super) fn leave(
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

    pub(super) fn in_call_timeout(
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

    pub(super) fn handle_first_audio(&mut self, now: Instant, call: CallId, participant: DeviceId) {
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

    pub(super) fn handle_media_failed(&mut self, now: Instant, call: CallId) {
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

    pub(super) fn handle_session(
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
                // What was said before went by envelopes, which may be lost. Who knows it takes no notice.
                if event == SessionEvent::Connected
                    && let Phase::InCall(in_call) = &phase
                    && in_call.members.contains_key(&participant)
                    && common.revision > 0
                {
                    self.send(call, participant, common.media_state());
                }
                self.current = Some((common, phase));
            }
        }
    }

    pub(super) fn handle_session_end(
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
}
