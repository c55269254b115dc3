//! Two calls at once: the one in hand, and one aside that waits to be answered or is on hold.
//!
//! Everything else knows one call alone. What is about the call aside is done with the two changed over, and they are
//! changed back afterwards. A call aside takes the place of the one in hand when that ends: one that waited rings then, one
//! on hold stays on hold, since nobody is heard who did not ask for it.

use std::{mem, time::Instant};

use super::Calls;
use crate::call::{
    CallId,
    phase::{Common, Phase},
    types::{CommandError, Event, Peer},
};

impl Calls {
    /// Goes on with the call aside, which is taken off hold, and puts the one in hand on hold.
    ///
    /// # Errors
    /// [`CommandError::NoCall`] when none is on hold aside.
    pub fn switch(&mut self) -> Result<(), CommandError> {
        let call = match &self.aside {
            Some((common, Phase::InCall(_))) => common.call,
            Some((_, Phase::LookingUp(_) | Phase::Calling(_) | Phase::Ringing(_))) | None => {
                return Err(CommandError::NoCall);
            }
        };
        self.bring_forward(call)?;
        self.set_held(call, false)?;
        self.show();
        Ok(())
    }

    /// Makes the call aside the one in hand, and puts that on hold; nothing where it is in hand already.
    pub(super) fn bring_forward(&mut self, call: CallId) -> Result<(), CommandError> {
        if !self.is_aside(call) {
            return Ok(());
        }
        if let Some((common, _)) = &self.current {
            self.set_held(common.call, true)?;
        }
        mem::swap(&mut self.current, &mut self.aside);
        Ok(())
    }

    /// It waits aside to be answered.
    pub(super) fn waits(&self, call: CallId) -> bool {
        matches!(&self.aside, Some((common, Phase::Ringing(_))) if common.call == call)
    }

    fn is_aside(&self, call: CallId) -> bool {
        let aside = self.aside.as_ref();
        aside.is_some_and(|(common, _)| common.call == call)
    }

    /// Does something that is about `call`, whichever of the two that is.
    pub(super) fn about<T>(&mut self, call: CallId, act: impl FnOnce(&mut Self) -> T) -> T {
        let is_aside = self.is_aside(call);
        if is_aside {
            mem::swap(&mut self.current, &mut self.aside);
        }
        let done = act(self);
        if is_aside {
            mem::swap(&mut self.current, &mut self.aside);
        }
        if self.current.is_none() {
            self.current = self.aside.take();
        }
        done
    }

    /// The call that an event is about. A device that calls anew is told by what it has to do with the calls there are.
    pub(super) fn whose(&self, event: &Event) -> CallId {
        match event {
            Event::Incoming { call, from, .. } => match &self.aside {
                Some((common, phase)) if phase.has(*from) => common.call,
                Some(_) | None => *call,
            },
            Event::Found { call, .. }
            | Event::LookupFailed { call, .. }
            | Event::Delivered { call, .. }
            | Event::Refused { call, .. }
            | Event::Signal { call, .. }
            | Event::Session { call, .. }
            | Event::FirstAudio { call, .. }
            | Event::MediaFailed { call } => *call,
        }
    }

    /// Whether somebody who calls now may wait aside.
    pub(super) fn may_wait(&self) -> bool {
        self.config.call_waiting && self.aside.is_none()
    }

    /// Puts the call in hand aside for as long as `act` makes another one, which then waits aside.
    pub(super) fn beside(
        &mut self,
        now: Instant,
        in_hand: (Common, Phase),
        act: impl FnOnce(&mut Self, Instant),
    ) {
        act(self, now);
        self.aside = self.current.replace(in_hand);
    }
}

impl Phase {
    /// This device rings here, or is in this call.
    fn has(&self, peer: Peer) -> bool {
        match self {
            Self::LookingUp(_) | Self::Calling(_) => false,
            Self::Ringing(ringing) => ringing.from.device == peer.device,
            Self::InCall(in_call) => in_call.members.keys().any(|device| *device == peer.device),
        }
    }
}
