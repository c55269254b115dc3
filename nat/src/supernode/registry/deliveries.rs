//! Which deliveries are under way, so that answers find their way back. Sans-IO.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::ConnectionKey;

/// How long a delivery can be answered: longer than any ringing.
pub(super) const DELIVERY_LIFETIME: Duration = Duration::from_secs(180);
/// Deliveries remembered at once, over all connections, by contacts and as many by strangers; the oldest go first. At 100
/// bytes each: 12 MB.
pub(super) const MAX_DELIVERIES: usize = 65_536;

/// Whose envelopes: each kind has a room of its own, so that no flood of strangers takes a contact's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Strangers,
    Contacts,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    id: u64,
    pub(super) from: ConnectionKey,
    pub(super) to: ConnectionKey,
    made: Instant,
}

/// Deliveries of both lanes.
pub(super) struct Deliveries {
    /// Ids are even by strangers and odd by contacts, and consecutive among themselves.
    strangers: VecDeque<Delivery>,
    contacts: VecDeque<Delivery>,
    next_by_stranger: u64,
    next_by_contact: u64,
}

impl Deliveries {
    /// None yet. Ids begin at about `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            strangers: VecDeque::new(),
            contacts: VecDeque::new(),
            next_by_stranger: first & !1,
            next_by_contact: first | 1,
        }
    }

    pub(super) fn remember(
        &mut self,
        now: Instant,
        from: ConnectionKey,
        to: ConnectionKey,
        lane: Lane,
    ) -> u64 {
        let (queue, next) = match lane {
            Lane::Strangers => (&mut self.strangers, &mut self.next_by_stranger),
            Lane::Contacts => (&mut self.contacts, &mut self.next_by_contact),
        };
        drop_over(queue, now);
        while queue.len() >= MAX_DELIVERIES {
            queue.pop_front();
        }
        let (id, made) = (*next, now);
        *next = next.wrapping_add(2);
        queue.push_back(Delivery { id, from, to, made });
        id
    }

    /// How much of the strangers' room is in use, in thousandths.
    pub(super) fn strangers_load(&mut self, now: Instant) -> u32 {
        drop_over(&mut self.strangers, now);
        u32::try_from(self.strangers.len() * 1000 / MAX_DELIVERIES).unwrap_or(1000)
    }

    /// The delivery of that number, if it can be answered still.
    pub(super) fn get(&self, now: Instant, id: u64) -> Option<Delivery> {
        let queue = if id & 1 == 0 {
            &self.strangers
        } else {
            &self.contacts
        };
        // The queue's front tells where each one stands.
        let age = id.wrapping_sub(queue.front()?.id) / 2;
        let known = queue.get(usize::try_from(age).ok()?)?;
        (!is_over(now, known.made)).then_some(*known)
    }
}

/// Lets go of those that nobody can answer any more.
fn drop_over(queue: &mut VecDeque<Delivery>, now: Instant) {
    while queue
        .front()
        .is_some_and(|oldest| is_over(now, oldest.made))
    {
        queue.pop_front();
    }
}

fn is_over(now: Instant, made: Instant) -> bool {
    now.saturating_duration_since(made) >= DELIVERY_LIFETIME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_their_own_room_alone() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let now = Instant::now();
        for first in [7, 8, u64::MAX, u64::MAX - 1] {
            let mut deliveries = Deliveries::new(first);
            let (alice, bob) = (ConnectionKey(1), ConnectionKey(2));
            let early = deliveries.remember(now, alice, bob, Lane::Contacts);
            let last = deliveries.remember(now, alice, bob, Lane::Strangers);
            let mut ids = vec![];
            for n in 0..MAX_DELIVERIES as u64 + 10 {
                ids.push(deliveries.remember(now, ConnectionKey(n), bob, Lane::Strangers));
            }
            assert_eq!(deliveries.strangers.len(), MAX_DELIVERIES);
            let from = |id| deliveries.get(now, id).map(|delivery| delivery.from);
            assert_eq!(from(early), Some(alice));
            assert_eq!(from(last), None, "the oldest went");
            assert_eq!(from(ids[9]), None);
            for n in [10, 11, 5000] {
                assert_eq!(from(ids[n]), Some(ConnectionKey(n as u64)));
            }
            assert_eq!(from(early.wrapping_add(2)), None, "not made yet");
            assert_eq!(deliveries.strangers_load(now), 1000);
            let later = now + DELIVERY_LIFETIME;
            assert!(deliveries.get(later, early).is_none());
            assert_eq!(deliveries.strangers_load(later), 0);
        }
    }
}
