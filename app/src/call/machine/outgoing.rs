//! Calls we place, until somebody answers.

use std::{
    collections::{BTreeMap, btree_map},
    time::Instant,
};

use ahoy_transport::identity::DeviceId;

use super::Calls;
use crate::call::{
    CallId, Ending, Failure, Unreachable,
    phase::{Calling, Common, Leg, LookingUp, Phase},
    types::Action,
};
use crate::signal::{CancelReason, DeclineReason, MediaCapabilities, Signal};

impl Calls {
    pub(super) fn handle_found(&mut self, now: Instant, call: CallId, mut devices: Vec<DeviceId>) {
        let Ok((mut common, phase)) = self.take(call) else {
            return;
        };
        devices.sort_unstable();
        devices.dedup();
        let looking = match phase {
            Phase::LookingUp(looking) => looking,
            Phase::Calling(mut calling) => {
                // Found later than others.
                for device in devices {
                    if calling.legs.len() < Self::MAX_DEVICES
                        && let btree_map::Entry::Vacant(entry) = calling.legs.entry(device)
                    {
                        entry.insert(Leg::default());
                        self.actions
                            .push_back(Action::SendOffer { call, to: device });
                    }
                }
                self.current = Some((common, Phase::Calling(calling)));
                return;
            }
            other @ (Phase::Ringing(_) | Phase::InCall(_)) => {
                self.current = Some((common, other));
                return;
            }
        };
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
            early_media: BTreeMap::new(),
            verdict: None,
        };
        self.current = Some((common, Phase::Calling(calling)));
    }

    pub(super) fn handle_lookup_failed(&mut self, now: Instant, call: CallId, why: Unreachable) {
        let Ok((common, phase)) = self.take(call) else {
            return;
        };
        if let Phase::LookingUp(looking) = phase {
            self.give_up_looking(now, common, looking, Ending::Unreachable(why));
        } else {
            self.current = Some((common, phase));
        }
    }

    pub(super) fn give_up_looking(
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
    pub(super) fn drop_leg(
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

    pub(super) fn stop_calling(
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

    pub(super) fn answered(
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
}
