//! Each call rings once, however many homes deliver it, and a cancel may overtake it.
//!
//! Sans-IO: every method takes the time. Everything here is bounded, for strangers fill it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{CallId, CallTag, MAX_OFFER_AGE_MILLIS, MAX_OFFER_AHEAD_MILLIS};
use crate::identity::DeviceId;

/// How long a call id is remembered. An offer can be opened while its date lies within
/// [`MAX_OFFER_AGE_MILLIS`] and [`MAX_OFFER_AHEAD_MILLIS`] of now, which is 4 minutes; the rest allows for a
/// wall clock that is set back meanwhile. After a restart the registration's epoch is new, so nothing older
/// opens.
pub const CALL_MEMORY: Duration =
    Duration::from_millis(MAX_OFFER_AGE_MILLIS + MAX_OFFER_AHEAD_MILLIS + 360_000);
/// Calls remembered at most, of known people and of strangers each: a flood by strangers costs no contact
/// its call, and 512 genuine calls in ten minutes are nobody's life.
pub const MAX_REMEMBERED_CALLS: usize = 512;
/// How long a follow-up waits for its offer, in milliseconds: two homes' queues differ by less.
pub const HELD_MILLIS: u64 = 60_000;
/// Calls whose early follow-ups are held at most.
pub const MAX_HELD_CALLS: usize = 64;
/// Early follow-ups held per call at most: a cancel, and a few lists of candidates.
pub const MAX_HELD_PER_CALL: usize = 4;
/// Longest early follow-up that is held, in bytes; so all of them take at most 512 KiB.
const MAX_HELD_LEN: usize = 2048;

/// How well the caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A contact, or somebody with a valid invite.
    Known,
    /// Anybody else.
    Stranger,
}

/// What to do with an opened offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is the first of its call. Follow-ups that came before it are handed over, oldest first: open them
    /// before ringing, one may be the cancel.
    New {
        /// Unopened envelopes.
        early: Vec<Vec<u8>>,
    },
    /// The call is known already.
    Duplicate,
    /// Too many calls from known people at once: drop it.
    Full,
}

struct Seen {
    sender: DeviceId,
    call: CallId,
    at: Instant,
}

struct Held {
    tag: CallTag,
    at: Instant,
    envelopes: Vec<Vec<u8>>,
}

/// Lets each call through once and keeps follow-ups that overtake their offer.
#[derive(Default)]
pub struct OfferGuard {
    known: VecDeque<Seen>,
    strangers: VecDeque<Seen>,
    held: VecDeque<Held>,
}

impl OfferGuard {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about an offer that opened.
    ///
    /// When full, strangers' oldest calls are forgotten (a stranger does not ring, so a repetition does no
    /// harm), but known people's are not.
    pub fn admit(
        &mut self,
        now: Instant,
        sender: DeviceId,
        call: CallId,
        tag: CallTag,
        standing: Standing,
    ) -> Admission {
        self.forget(now);
        if self
            .known
            .iter()
            .chain(&self.strangers)
            .any(|seen| seen.sender == sender && seen.call == call)
        {
            return Admission::Duplicate;
        }
        let seen = Seen {
            sender,
            call,
            at: now,
        };
        match standing {
            Standing::Known if self.known.len() >= MAX_REMEMBERED_CALLS => return Admission::Full,
            Standing::Known => self.known.push_back(seen),
            Standing::Stranger => {
                if self.strangers.len() >= MAX_REMEMBERED_CALLS {
                    self.strangers.pop_front();
                }
                self.strangers.push_back(seen);
            }
        }
        let early = self
            .held
            .iter()
            .position(|held| held.tag == tag)
            .and_then(|at| self.held.remove(at))
            .map(|held| held.envelopes)
            .unwrap_or_default();
        Admission::New { early }
    }

    /// Keeps a follow-up to a call of which nothing is known yet. Returns whether it was kept.
    pub fn hold(&mut self, now: Instant, tag: CallTag, envelope: &[u8]) -> bool {
        self.forget(now);
        if envelope.len() > MAX_HELD_LEN {
            return false;
        }
        if let Some(held) = self.held.iter_mut().find(|held| held.tag == tag) {
            let room = held.envelopes.len() < MAX_HELD_PER_CALL;
            // The same envelope by another home.
            let repeated = held.envelopes.iter().any(|known| known == envelope);
            if room && !repeated {
                held.envelopes.push(envelope.to_vec());
            }
            return room || repeated;
        }
        if self.held.len() >= MAX_HELD_CALLS {
            self.held.pop_front();
        }
        self.held.push_back(Held {
            tag,
            at: now,
            envelopes: vec![envelope.to_vec()],
        });
        true
    }

    fn forget(&mut self, now: Instant) {
        for list in [&mut self.known, &mut self.strangers] {
            while list
                .front()
                .is_some_and(|seen| now >= seen.at + CALL_MEMORY)
            {
                list.pop_front();
            }
        }
        let limit = Duration::from_millis(HELD_MILLIS);
        while self.held.front().is_some_and(|held| now >= held.at + limit) {
            self.held.pop_front();
        }
    }
}

impl std::fmt::Debug for OfferGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfferGuard")
            .field("known", &self.known.len())
            .field("strangers", &self.strangers.len())
            .field("held", &self.held.len())
            .finish()
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to start from; none is compared with a clock"
)]
mod tests {
    use super::*;

    const ALICE: DeviceId = DeviceId([1; 32]);
    const NEW: Admission = Admission::New { early: vec![] };

    fn id(n: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        id
    }

    #[test]
    fn a_call_by_two_homes_rings_once() {
        let (mut guard, start) = (OfferGuard::new(), Instant::now());
        assert_eq!(
            guard.admit(start, ALICE, id(1), id(9), Standing::Known),
            NEW
        );
        assert_eq!(
            guard.admit(start, ALICE, id(1), id(9), Standing::Known),
            Admission::Duplicate
        );
        assert_eq!(
            guard.admit(start, ALICE, id(1), id(9), Standing::Stranger),
            Admission::Duplicate
        );
        assert_eq!(
            guard.admit(start, ALICE, id(2), id(8), Standing::Known),
            NEW
        );
    }

    #[test]
    fn nobody_can_use_up_anothers_call_id() {
        let (mut guard, start) = (OfferGuard::new(), Instant::now());
        let mallory = DeviceId([2; 32]);
        assert_eq!(
            guard.admit(start, mallory, id(1), id(9), Standing::Stranger),
            NEW
        );
        assert_eq!(
            guard.admit(start, ALICE, id(1), id(9), Standing::Known),
            NEW
        );
    }

    #[test]
    fn a_call_is_remembered_for_as_long_as_its_offer_can_be_opened() {
        let (mut guard, start) = (OfferGuard::new(), Instant::now());
        guard.admit(start, ALICE, id(1), id(9), Standing::Known);
        let late = start + Duration::from_millis(MAX_OFFER_AGE_MILLIS + MAX_OFFER_AHEAD_MILLIS);
        assert_eq!(
            guard.admit(late, ALICE, id(1), id(9), Standing::Known),
            Admission::Duplicate
        );
        assert_eq!(
            guard.admit(start + CALL_MEMORY, ALICE, id(1), id(9), Standing::Known),
            NEW
        );
    }

    #[test]
    fn a_cancel_that_overtakes_its_offer_waits_for_it_a_minute() {
        let (mut guard, start) = (OfferGuard::new(), Instant::now());
        assert!(guard.hold(start, id(9), b"cancel"));
        assert!(guard.hold(start, id(9), b"cancel"), "by another home, too");
        assert!(guard.hold(start, id(9), b"candidates"));
        let early = vec![b"cancel".to_vec(), b"candidates".to_vec()];
        assert_eq!(
            guard.admit(
                start + Duration::from_secs(59),
                ALICE,
                id(1),
                id(9),
                Standing::Known
            ),
            Admission::New { early }
        );
        assert!(guard.hold(start, id(7), b"cancel"));
        let late = start + Duration::from_millis(HELD_MILLIS);
        assert_eq!(guard.admit(late, ALICE, id(2), id(7), Standing::Known), NEW);
    }

    #[test]
    fn a_flood_by_strangers_costs_no_contact_its_call() {
        let (mut guard, start) = (OfferGuard::new(), Instant::now());
        guard.admit(start, ALICE, id(0), id(0), Standing::Known);
        for n in 1..5000 {
            guard.admit(start, DeviceId([9; 32]), id(n), id(n), Standing::Stranger);
            guard.hold(start, id(n + 10_000), &[0; 512]);
        }
        assert_eq!(guard.strangers.len(), MAX_REMEMBERED_CALLS);
        assert_eq!(guard.held.len(), MAX_HELD_CALLS);
        assert_eq!(
            guard.admit(start, ALICE, id(0), id(0), Standing::Known),
            Admission::Duplicate
        );
        assert_eq!(
            guard.admit(start, ALICE, id(6000), id(1), Standing::Known),
            NEW
        );
    }

    #[test]
    fn every_table_has_its_bound() {
        let (mut guard, start) = (OfferGuard::new(), Instant::now());
        for n in 0..MAX_REMEMBERED_CALLS as u64 {
            assert_eq!(
                guard.admit(start, ALICE, id(n), id(n), Standing::Known),
                NEW
            );
        }
        assert_eq!(
            guard.admit(start, ALICE, id(9999), id(0), Standing::Known),
            Admission::Full
        );
        for n in 0..10u8 {
            assert_eq!(
                guard.hold(start, id(1), &[n; 512]),
                usize::from(n) < MAX_HELD_PER_CALL
            );
        }
        assert!(!guard.hold(start, id(2), &[0; MAX_HELD_LEN + 1]));
    }
}
