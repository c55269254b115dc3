//! The call state machine: what happens between "call her" and "the call has ended".
//!
//! [`Calls`] is sans-IO. Commands of the local person are methods ([`Calls::place`], [`Calls::accept`], …);
//! everything else that happens comes in through [`Calls::handle`] and [`Calls::handle_timeout`]. After each
//! of them, drain [`Calls::poll_action`] until it is empty, then wait no longer than [`Calls::poll_timeout`].
//!
//! A call is a roster of devices; a call between two people is a roster of one. While it is being placed,
//! every device of the person called is on the roster, the first that accepts stays. Whether the person has
//! accepted (the phase) and whether a path is up (the session of each member) are separate facts.
//!
//! Signals may be lost, repeated and reordered: each phase ends by a timer if nothing else ends it, a second
//! copy of anything changes nothing, and calls that have ended are remembered for a while, so that a late
//! offer does not ring.
//!
//! # Crossing calls
//! Two people who call each other at the same moment want to talk: the call with the lower [`CallId`]
//! survives and connects without ringing, the other one ends as [`Ending::Merged`]. The side whose call
//! survives keeps the other's offer in hand and takes it if its own offer cannot be delivered.
//!
//! # Consent
//! [`Action::OpenMedia`] carries an [`Accepted`], which exists only because the state of ringing
//! or of calling was consumed by an acceptance: no media without one.

use std::fmt;

mod ending;
mod machine;
mod phase;
mod types;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use ending::{EndedCall, Ending, Failure, LostReason, Side, Timeline, Unreachable};
pub use machine::Calls;
pub use phase::Accepted;
pub use types::{
    Action, Alert, CallConfig, CallInfo, CallState, CommandError, Direction, Event, Peer,
    SessionEnd, SessionEvent, TimeoutReason,
};

/// One call: 16 random bytes, drawn by the caller. The order decides which of two crossing calls survives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub [u8; Self::LEN]);

impl CallId {
    /// Length in bytes.
    pub const LEN: usize = 16;
}

impl fmt::Display for CallId {
    /// 26 characters of z-base-32.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z32::encode(&self.0))
    }
}

impl fmt::Debug for CallId {
    /// The first characters: enough to follow one call through a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = z32::encode(&self.0);
        write!(f, "CallId({}…)", text.get(..6).unwrap_or(&text))
    }
}
