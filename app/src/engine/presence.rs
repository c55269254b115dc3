//! Whether contacts can be reached now: whom to ask when, and what is known of each.
//!
//! A device asks a contact's device as a call asks it to ring: it looks the contact up at the homes that it knows, and leaves a
//! sealed question there, which nobody but that device can open. It answers contacts alone, and only where its owner lets
//! contacts know; who switches that off neither answers nor asks. Silence of somebody who is registered therefore means nothing,
//! and is shown as nothing.
//!
//! Whoever asks has shown that they are there, so one question serves both sides.
//!
//! Asked is only while the window is looked at: one contact at a time, [`GAP`] apart, each every [`INTERVAL`] and less and
//! less often ([`LONGEST`]) while nobody answers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ahoy_transport::identity::UserId;

/// Between two questions to one contact who answers. Drawn anew each time between three quarters of it and the whole, so
/// that neither homes nor contacts see a pattern.
pub const INTERVAL: Duration = Duration::from_secs(4 * 60);
/// Between two questions to one who does not, in the end: it doubles each time.
pub const LONGEST: Duration = Duration::from_secs(32 * 60);
/// Between two questions to anybody: 30 in a minute at most, whatever the address book holds.
pub const GAP: Duration = Duration::from_secs(2);
/// Between two questions to one contact at the least, however often the window is opened.
pub const SOONEST: Duration = Duration::from_secs(60);
/// What was learnt counts so long: one question may be lost.
pub const FRESH: Duration = Duration::from_secs(9 * 60);
/// Contacts that are asked; those further down are not. With [`GAP`] all of them are asked in time.
pub const MAX_WATCHED: usize = 100;
/// Questions of one contact that are answered in [`INTERVAL`]; more are for somebody's fun.
pub const MAX_ANSWERS: u32 = 8;
/// Contacts that are answered in [`INTERVAL`].
const MAX_ANSWERED: usize = 1000;

/// What is known of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// Nothing, be it that they do not tell, or that nobody could be asked.
    #[default]
    Unknown,
    /// A device of theirs answered just now.
    Reachable,
    /// They let us know otherwise, and no device of theirs is there.
    Away,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A device of theirs answered, or asked us.
    Here,
    /// One is registered, and does not answer: that is nobody's business.
    Silent,
    /// Their homes say that none is registered.
    Nobody,
    /// None of their homes could be asked.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    presence: Presence,
    /// They have answered before, so that their absence may be told.
    tells: bool,
    heard_at: Option<Instant>,
    next_at: Instant,
    wait: Duration,
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub struct Watch {
    people: BTreeMap<UserId, Known>,
    last_asked: Option<Instant>,
    /// Who is being asked.
    asking: Option<UserId>,
    /// How often each contact was answered since when.
    answered: BTreeMap<UserId, (u32, Instant)>,
}

impl Watch {
    /// These are the contacts that may be asked, in the order of their importance; all others are forgotten.
    pub fn set_people(&mut self, now: Instant, people: impl IntoIterator<Item = UserId>) {
        let mut before = std::mem::take(&mut self.people);
        for user in people.into_iter().take(MAX_WATCHED) {
            let known = before.remove(&user).unwrap_or(Known {
                presence: Presence::Unknown,
                tells: false,
                heard_at: None,
                next_at: now,
                wait: INTERVAL,
            });
            self.people.insert(user, known);
        }
        if self
            .asking
            .is_some_and(|user| !self.people.contains_key(&user))
        {
            self.asking = None;
        }
    }

    /// Nothing is known any more: the owner has switched it off.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Somebody begins to look: what is not fresh is asked again, and nobody more often than every [`SOONEST`].
    pub fn hurry(&mut self, now: Instant) {
        for known in self.people.values_mut() {
            let soonest = known.heard_at.map_or(now, |at| (at + SOONEST).max(now));
            known.next_at = known.next_at.min(soonest);
        }
    }

    /// Whom to ask now, if anybody. They count as being asked until [`Self::heard`].
    pub fn next(&mut self, now: Instant) -> Option<UserId> {
        let is_early = self.last_asked.is_some_and(|last| now < last + GAP);
        if self.asking.is_some() || is_early {
            return None;
        }
        let due = self.people.iter().filter(|(_, known)| known.next_at <= now);
        let (user, _) = due.min_by_key(|(_, known)| known.next_at)?;
        self.last_asked = Some(now);
        self.asking = Some(*user);
        self.asking
    }

    /// What came of asking `user`, or that they asked us ([`Heard::Here`]). `random` draws the time of the next question.
    pub fn heard(&mut self, now: Instant, user: UserId, heard: Heard, random: u32) {
        if self.asking == Some(user) {
            self.asking = None;
        }
        let Some(known) = self.people.get_mut(&user) else {
            return;
        };
        known.heard_at = Some(now);
        known.presence = match heard {
            Heard::Here => Presence::Reachable,
            Heard::Nobody if known.tells => Presence::Away,
            Heard::Nobody | Heard::Silent | Heard::Nothing => Presence::Unknown,
        };
        match heard {
            Heard::Here => known.tells = true,
            Heard::Silent => known.tells = false,
            Heard::Nobody | Heard::Nothing => {}
        }
        known.wait = match heard {
            Heard::Here => INTERVAL,
            Heard::Nobody if known.tells => INTERVAL,
            Heard::Nobody | Heard::Silent | Heard::Nothing => (known.wait * 2).min(LONGEST),
        };
        let part = f64::from(random) / f64::from(u32::MAX);
        known.next_at = now + known.wait.mul_f64(0.75 + part / 4.0);
    }

    /// Whether a question of this contact is to be answered: not every one in a flood.
    pub fn may_answer(&mut self, now: Instant, user: UserId) -> bool {
        let is_old = |since: Instant| now.saturating_duration_since(since) >= INTERVAL;
        if !self.answered.contains_key(&user) && self.answered.len() >= MAX_ANSWERED {
            self.answered.retain(|_, (_, since)| !is_old(*since));
            if self.answered.len() >= MAX_ANSWERED {
                return false;
            }
        }
        let (count, since) = self.answered.entry(user).or_insert((0, now));
        if is_old(*since) {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        *count <= MAX_ANSWERS
    }

    /// What is known, as far as it still counts. Who is unknown is not in it.
    pub fn view(&self, now: Instant) -> BTreeMap<UserId, Presence> {
        let counts = |known: &&Known| {
            let heard = known.heard_at;
            heard.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
        };
        let known = self.people.iter();
        let known = known.filter(|(_, known)| counts(known));
        let known = known.map(|(user, known)| (*user, known.presence));
        known
            .filter(|(_, presence)| *presence != Presence::Unknown)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: UserId = UserId([1; 32]);
    const BOB: UserId = UserId([2; 32]);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        Instant::now()
    }

    fn told(watch: &Watch, now: Instant, user: UserId) -> Presence {
        watch.view(now).get(&user).copied().unwrap_or_default()
    }

    #[test]
    fn one_is_asked_at_a_time_and_nobody_more_often_than_every_few_minutes() {
        let (mut watch, mut now) = (Watch::default(), start());
        let people: Vec<UserId> = (0..=u8::MAX).map(|n| UserId([n; 32])).collect();
        watch.set_people(now, people);
        let begin = now;
        let mut asked: BTreeMap<UserId, Vec<Instant>> = BTreeMap::new();
        while now < begin + Duration::from_secs(3600) {
            if let Some(user) = watch.next(now) {
                assert_eq!(watch.next(now), None, "one at a time");
                asked.entry(user).or_default().push(now);
                watch.heard(now, user, Heard::Here, 0);
            }
            now += Duration::from_millis(500);
        }
        assert_eq!(asked.len(), MAX_WATCHED);
        let all: usize = asked.values().map(Vec::len).sum();
        assert!(all <= 3600 / 2, "{all} in an hour");
        for times in asked.values() {
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.min() >= Some(INTERVAL.mul_f64(0.75)));
        }
    }

    #[test]
    fn whoever_does_not_answer_is_asked_less_and_less() {
        let (mut watch, mut now) = (Watch::default(), start());
        watch.set_people(now, [ADA]);
        let mut waits = Vec::new();
        let mut last = now;
        while waits.len() < 6 {
            if watch.next(now) == Some(ADA) {
                waits.push((now - last).as_secs() / 60);
                last = now;
                watch.heard(now, ADA, Heard::Silent, u32::MAX);
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(waits, [0, 8, 16, 32, 32, 32]);
        // Whoever opens the window sees what is so now; whoever does it all day asks no more than once a minute.
        watch.hurry(now);
        assert_eq!(watch.next(now), None);
        assert_eq!(watch.next(last + SOONEST), Some(ADA));
        now = last + SOONEST;
        watch.heard(now, ADA, Heard::Here, u32::MAX);
        assert_eq!(watch.next(now + INTERVAL), Some(ADA));
    }

    #[test]
    fn absence_is_told_of_those_alone_who_tell_their_presence() {
        let (mut watch, now) = (Watch::default(), start());
        watch.set_people(now, [ADA, BOB]);
        for user in [ADA, BOB] {
            watch.heard(now, user, Heard::Nobody, 0);
            assert_eq!(told(&watch, now, user), Presence::Unknown);
        }
        watch.heard(now, ADA, Heard::Here, 0);
        assert_eq!(told(&watch, now, ADA), Presence::Reachable);
        watch.heard(now, ADA, Heard::Nobody, 0);
        assert_eq!(told(&watch, now, ADA), Presence::Away);
        // They have switched it off: from then on nothing is told of them, whether they are there or not.
        watch.heard(now, ADA, Heard::Silent, 0);
        assert_eq!(told(&watch, now, ADA), Presence::Unknown);
        watch.heard(now, ADA, Heard::Nobody, 0);
        assert_eq!(told(&watch, now, ADA), Presence::Unknown);
        // What is old is nothing.
        watch.heard(now, BOB, Heard::Here, 0);
        assert_eq!(told(&watch, now + FRESH / 2, BOB), Presence::Reachable);
        assert_eq!(told(&watch, now + FRESH, BOB), Presence::Unknown);
        watch.forget();
        assert_eq!(told(&watch, now, BOB), Presence::Unknown);
    }

    #[test]
    fn a_flood_of_questions_is_answered_a_few_times() {
        let (mut watch, now) = (Watch::default(), start());
        let answers = (0..1000).filter(|_| watch.may_answer(now, ADA)).count();
        assert_eq!(answers, MAX_ANSWERS as usize);
        assert!(watch.may_answer(now + INTERVAL, ADA));
        let crowd = (0..5000u32).map(|n| {
            let mut key = [9; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            UserId(key)
        });
        let answers = crowd
            .filter(|user| watch.may_answer(now + INTERVAL, *user))
            .count();
        assert_eq!(answers, MAX_ANSWERED - 1);
    }
}
