//! When what is sent again. Sans-IO.
//!
//! Every entry is tried at once, then until homes have it with growing waits, then now and then until its reader says
//! that it arrived: a home that started anew has forgotten it. After [`LIFETIME_MILLIS`] it is given up.
//!
//! A person may have several devices. With the first one that has it a message is delivered; for the others it stays here, and is
//! left again now and then, until each has said so. Such entries take no room that messages wait for: of too many the oldest go.
//!
//! What was sealed for a device stays what it is, so that a home knows a copy by its bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ahoy_nat::supernode::protocol::MAX_ENVELOPE;
use ahoy_transport::{
    identity::{DeviceId, NodeAddress, UserId},
    sealed::MAX_LETTER_BODY,
    wire::{Reader, WireError, Writer},
};

use super::{MessageId, MessageState, Obstacle, put_homes, read_homes};

/// How long something is tried; also as long as homes keep it.
pub const LIFETIME_MILLIS: u64 = 14 * 24 * 60 * 60 * 1000;
/// Most entries at once, and most of them to one person.
pub const MAX_OUTGOING: usize = 1_000;
/// Most entries to one person.
pub const MAX_OUTGOING_PER_PERSON: usize = 200;
/// Entries for one person that some of the person's devices have.
pub const MAX_LINGERING_PER_PERSON: usize = 50;
/// Attempts at once.
pub const MAX_POSTING: usize = 4;
/// Of these for what some device has.
const MAX_POSTING_LINGERING: usize = 2;
/// At the start what some device has waits so long at most.
const LINGERING_AT_FIRST: Duration = Duration::from_secs(10 * 60);
/// Homes that an entry names.
pub const MAX_PLACES: usize = 8;
/// Devices of one person.
const MAX_DEVICES: usize = 16;
/// First wait after an attempt that left it nowhere; each further one doubles it. All waits are drawn between a half
/// and the whole, so that those who wait for a home that comes back do not come in one moment.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(30 * 60);
/// How often it is left again where it may be forgotten: a supernode that started anew has it back within hours.
const CHECK: Duration = Duration::from_secs(3 * 3600);
const VERSION: u8 = 1;
/// Of an entry that some devices have.
const LINGERING_VERSION: u8 = 2;

/// Something to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Names it.
    pub id: MessageId,
    /// To whom.
    pub user: UserId,
    /// To this device alone, and without waiting for an answer unless `awaits`: a receipt.
    pub only: Option<DeviceId>,
    /// Although it is for one device, it is left again until that one has it.
    pub awaits: bool,
    /// When it was written, Unix milliseconds.
    pub at_millis: u64,
    /// The encoded [`super::note::Note`].
    pub note: Vec<u8>,
    /// Where the person may have boxes, as known when it was written; at most [`MAX_PLACES`].
    pub homes: Vec<NodeAddress>,
    /// What was sealed for which device.
    pub sealed: BTreeMap<DeviceId, Vec<u8>>,
    /// Devices that said that they have it.
    pub has: BTreeSet<DeviceId>,
    /// When the first of them did, Unix milliseconds; 0 before.
    pub delivered_millis: u64,
}

impl Outgoing {
    /// Nothing of it has been sealed yet.
    #[must_use]
    pub fn new(
        id: MessageId,
        user: UserId,
        only: Option<DeviceId>,
        at_millis: u64,
        note: Vec<u8>,
        mut homes: Vec<NodeAddress>,
    ) -> Self {
        homes.truncate(MAX_PLACES);
        Self {
            id,
            user,
            only,
            awaits: false,
            at_millis,
            note,
            homes,
            sealed: BTreeMap::new(),
            has: BTreeSet::new(),
            delivered_millis: 0,
        }
    }

    /// Whether it is still to be left for that device.
    #[must_use]
    pub fn is_for(&self, device: DeviceId) -> bool {
        self.only.is_none_or(|only| only == device) && !self.has.contains(&device)
    }

    /// What was sealed for a device that has it is not kept any more.
    fn forget_sealed(&mut self) {
        self.sealed
            .retain(|device, _sealed| !self.has.contains(device));
    }

    /// The same, for one device that has to say that it has it.
    #[must_use]
    pub fn awaiting(mut self) -> Self {
        self.awaits = true;
        self
    }

    /// As it is stored, under its id:
    ///
    /// ```text
    /// | ver=1 | user 32 | u8 one device: 1, 2 if it has to answer | device 32 | at u64 | note | u8 count, homes | u8 count, each: device 32, envelope |
    ///                                            each: varint length, bytes
    /// | ver=2 | … the same … | delivered u64 | u8 count, devices that have it, each 32 |
    /// ```
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let lingers = !self.has.is_empty();
        let mut bytes = vec![if lingers { LINGERING_VERSION } else { VERSION }];
        bytes.put_bytes(&self.user.0);
        bytes.put_u8(u8::from(self.only.is_some()) + u8::from(self.awaits));
        bytes.put_bytes(&self.only.map_or([0; 32], |device| device.0));
        bytes.put_u64(self.at_millis);
        bytes.put_var_bytes(&self.note);
        put_homes(&mut bytes, &self.homes, MAX_PLACES);
        let sealed = self.sealed.iter().take(MAX_DEVICES);
        bytes.put_u8(u8::try_from(sealed.len()).unwrap_or(0));
        for (device, envelope) in sealed {
            bytes.put_bytes(&device.0);
            bytes.put_var_bytes(envelope);
        }
        if lingers {
            bytes.put_u64(self.delivered_millis);
            let has = self.has.iter().take(MAX_DEVICES);
            bytes.put_u8(u8::try_from(has.len()).unwrap_or(0));
            has.for_each(|device| bytes.put_bytes(&device.0));
        }
        bytes
    }

    pub(super) fn from_bytes(id: MessageId, bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let lingers = match reader.u8()? {
            VERSION => false,
            LINGERING_VERSION => true,
            other => return Err(WireError::Version(other)),
        };
        let user = UserId(reader.array()?);
        let (is_one, awaits) = match reader.u8()? {
            0 => (false, false),
            1 => (true, false),
            _ => (true, true),
        };
        let device = DeviceId(reader.array()?);
        let at_millis = reader.u64()?;
        let note = reader.var_bytes(MAX_LETTER_BODY)?.to_vec();
        let homes = read_homes(&mut reader, MAX_PLACES)?;
        let count = usize::from(reader.u8()?).min(MAX_DEVICES);
        let mut sealed = BTreeMap::new();
        for _nth in 0..count {
            let device = DeviceId(reader.array()?);
            sealed.insert(device, reader.var_bytes(MAX_ENVELOPE)?.to_vec());
        }
        let (mut delivered_millis, mut has) = (0, BTreeSet::new());
        if lingers {
            delivered_millis = reader.u64()?;
            let count = usize::from(reader.u8()?).min(MAX_DEVICES);
            for _nth in 0..count {
                has.insert(DeviceId(reader.array()?));
            }
        }
        reader.finish()?;
        Ok(Self {
            id,
            user,
            only: is_one.then_some(device),
            awaits,
            at_millis,
            note,
            homes,
            sealed,
            has,
            delivered_millis,
        })
    }
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// So many homes have it now.
    Left(u8),
    /// None has.
    Nowhere(Obstacle),
}

/// What an attempt, a receipt or the time has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The entry, as it is to be kept if it stays.
    pub entry: Outgoing,
    /// What its message shows now.
    pub state: MessageState,
    /// Nothing more is to be done for it.
    pub done: bool,
    /// The state is another one than before; if not, only what is kept has changed.
    pub is_news: bool,
}

#[derive(Debug)]
struct Pending {
    entry: Outgoing,
    due: Instant,
    failures: u32,
    posting: bool,
    waits: bool,
}

impl Pending {
    /// Some device has it.
    fn lingers(&self) -> bool {
        !self.entry.has.is_empty()
    }

    /// Each of the person's `devices` has it; where these are not known, each for which it was sealed, which is known after an
    /// attempt alone.
    fn is_everywhere(&self, devices: Option<&BTreeSet<DeviceId>>) -> bool {
        let has_all = match devices {
            Some(devices) => devices.is_subset(&self.entry.has),
            None => self.entry.sealed.is_empty(),
        };
        !self.posting && self.lingers() && has_all
    }

    /// Nobody took it: it is tried again after a while that grows.
    fn back_off(&mut self, now: Instant, draw: u32) {
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_BACKOFF * (1 << (self.failures - 1).min(10));
        self.due = now + drawn(doubled.min(LAST_BACKOFF), draw);
    }

    fn delivered(&self, done: bool) -> Change {
        Change {
            entry: self.entry.clone(),
            state: MessageState::Delivered {
                at_millis: self.entry.delivered_millis,
            },
            done,
            is_news: false,
        }
    }
}

/// Everything that is to be sent.
#[derive(Debug)]
pub struct Outbox {
    pending: BTreeMap<MessageId, Pending>,
    /// What devices people have to whom something goes, as far as that is known.
    devices: BTreeMap<UserId, BTreeSet<DeviceId>>,
    every_device: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            devices: BTreeMap::new(),
            every_device: true,
        }
    }
}

/// No more may wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many messages wait here to be sent; try again when some have gone")]
pub struct OutboxFull;

impl Outbox {
    /// The same, for which the first device that has something is as good as all.
    #[must_use]
    pub fn of_first_devices(self) -> Self {
        Self {
            every_device: false,
            ..self
        }
    }

    /// These are the person's devices now. Those that were taken out get nothing more.
    pub fn learn_devices(&mut self, user: UserId, devices: BTreeSet<DeviceId>) {
        let writes = |pending: &Pending| pending.entry.user == user;
        if devices.is_empty() || !self.pending.values().any(writes) {
            self.devices.remove(&user);
        } else {
            self.devices.insert(user, devices);
        }
    }

    /// Whether one more to `user` has room.
    ///
    /// # Errors
    /// [`OutboxFull`].
    pub fn has_room(&self, user: UserId) -> Result<(), OutboxFull> {
        let waiting = || self.pending.values().filter(|pending| !pending.lingers());
        let to_user = waiting()
            .filter(|pending| pending.entry.user == user)
            .count();
        if waiting().count() >= MAX_OUTGOING || to_user >= MAX_OUTGOING_PER_PERSON {
            Err(OutboxFull)
        } else {
            Ok(())
        }
    }

    /// To be sent at once; what some device has after a while, since homes most likely have it for the others.
    pub fn push(&mut self, now: Instant, entry: Outgoing) {
        let mut pending = Pending {
            due: now,
            failures: 0,
            posting: false,
            waits: false,
            entry,
        };
        if pending.lingers() {
            // The id was drawn.
            let [a, b, c, d, ..] = pending.entry.id.0;
            pending.due = now + drawn(LINGERING_AT_FIRST, u32::from_be_bytes([a, b, c, d]));
        }
        self.pending.insert(pending.entry.id, pending);
    }

    /// Attempts are under way.
    #[must_use]
    pub fn is_posting(&self) -> bool {
        self.pending.values().any(|pending| pending.posting)
    }

    /// Entries that wait here or at homes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The next one to try now. [`Self::handle_posted`] must follow.
    pub fn poll_post(&mut self, now: Instant) -> Option<Outgoing> {
        let posting = self.pending.values().filter(|pending| pending.posting);
        if posting.count() >= MAX_POSTING {
            return None;
        }
        // One after the other to each person, in the order in which they were written. What nobody has goes before what some
        // device has, and waits for none of that.
        let posting = |pending: &&Pending| pending.posting;
        let posting: Vec<(UserId, bool)> = self
            .pending
            .values()
            .filter(posting)
            .map(|pending| (pending.entry.user, pending.lingers()))
            .collect();
        let lingering = posting.iter().filter(|(_, lingers)| *lingers).count();
        let may = |pending: &Pending| {
            let user = pending.entry.user;
            if pending.lingers() {
                lingering < MAX_POSTING_LINGERING && posting.iter().all(|(busy, _)| *busy != user)
            } else {
                !posting.contains(&(user, false))
            }
        };
        let next = self
            .pending
            .values_mut()
            .filter(|pending| !pending.posting && pending.due <= now && may(pending))
            .min_by_key(|pending| (pending.lingers(), pending.entry.at_millis, pending.entry.id))?;
        next.posting = true;
        Some(next.entry.clone())
    }

    /// An attempt is over. `sealed` is what was sealed for which device; `draw` is a random number.
    pub fn handle_posted(
        &mut self,
        now: Instant,
        id: MessageId,
        attempt: Attempt,
        sealed: BTreeMap<DeviceId, Vec<u8>>,
        draw: u32,
    ) -> Option<Change> {
        let pending = self.pending.get_mut(&id)?;
        pending.posting = false;
        pending.entry.sealed = sealed;
        pending.entry.forget_sealed();
        let devices = self.devices.get(&pending.entry.user);
        if let Some(devices) = devices {
            let sealed = &mut pending.entry.sealed;
            sealed.retain(|device, _sealed| devices.contains(device));
        }
        if pending.lingers() {
            let is_told = match attempt {
                Attempt::Left(_) => {
                    pending.failures = 0;
                    pending.waits = true;
                    pending.due = now + drawn(CHECK, draw);
                    true
                }
                // Whom it is still for is known only where devices are.
                Attempt::Nowhere(_) => {
                    pending.back_off(now, draw);
                    devices.is_some()
                }
            };
            let done = is_told && pending.is_everywhere(devices);
            let change = pending.delivered(done);
            if done {
                self.pending.remove(&id);
            }
            return Some(change);
        }
        let state = match attempt {
            Attempt::Left(homes) => {
                pending.failures = 0;
                pending.waits = true;
                pending.due = now + drawn(CHECK, draw);
                MessageState::Waiting(homes)
            }
            Attempt::Nowhere(obstacle) => {
                pending.back_off(now, draw);
                // Where it was left before it may still be.
                if pending.waits {
                    return None;
                }
                MessageState::Queued(Some(obstacle))
            }
        };
        // A receipt is not answered.
        let done = pending.entry.only.is_some() && !pending.entry.awaits && pending.waits;
        let entry = pending.entry.clone();
        if done {
            self.pending.remove(&id);
        }
        Some(Change {
            entry,
            state,
            done,
            is_news: true,
        })
    }

    /// The device of `from` has this. Comes with what it changes: the entry itself first, then perhaps an older one to the same
    /// person that makes room.
    pub fn handle_receipt(
        &mut self,
        (from, device): (UserId, DeviceId),
        id: MessageId,
        now_millis: u64,
    ) -> Vec<Change> {
        let every_device = self.every_device;
        let pending = self.pending.get_mut(&id);
        let Some(pending) = pending.filter(|pending| pending.entry.user == from) else {
            return Vec::new();
        };
        let entry = &mut pending.entry;
        if !entry.has.insert(device) {
            return Vec::new();
        }
        let is_news = entry.has.len() == 1;
        if is_news {
            entry.delivered_millis = now_millis;
        }
        entry.forget_sealed();
        let devices = self.devices.get(&from);
        let done = !every_device || entry.only.is_some() || pending.is_everywhere(devices);
        let mut changes = vec![Change {
            is_news,
            ..pending.delivered(done)
        }];
        if done {
            self.pending.remove(&id);
            return changes;
        }
        let lingering = self.pending.values().filter(|pending| pending.lingers());
        let lingering = lingering.filter(|pending| pending.entry.user == from);
        let lingering: Vec<&Pending> = lingering.collect();
        let oldest = lingering
            .iter()
            .min_by_key(|pending| (pending.entry.at_millis, pending.entry.id));
        if lingering.len() > MAX_LINGERING_PER_PERSON
            && let Some(oldest) = oldest.map(|pending| pending.entry.id)
            && let Some(oldest) = self.pending.remove(&oldest)
        {
            changes.push(oldest.delivered(true));
        }
        changes
    }

    /// Those that nobody fetched in time.
    pub fn take_expired(&mut self, now_millis: u64) -> Vec<Change> {
        let is_old = |pending: &Pending| {
            now_millis.saturating_sub(pending.entry.at_millis) >= LIFETIME_MILLIS
        };
        let old = self.pending.iter().filter(|(_id, pending)| is_old(pending));
        let old: Vec<MessageId> = old.map(|(id, _pending)| *id).collect();
        let gone = old.into_iter().filter_map(|id| self.pending.remove(&id));
        gone.map(|pending| {
            if pending.lingers() {
                return pending.delivered(true);
            }
            Change {
                entry: pending.entry,
                state: MessageState::Expired,
                done: true,
                is_news: true,
            }
        })
        .collect()
    }

    /// The network is back: whatever is only here is tried at once.
    pub fn hurry(&mut self, now: Instant) {
        for pending in self.pending.values_mut() {
            if !pending.waits {
                pending.due = now;
            }
        }
    }

    /// Forgets what was for `user`.
    pub fn forget(&mut self, user: UserId) {
        self.devices.remove(&user);
        self.pending
            .retain(|_id, pending| pending.entry.user != user);
    }
}

fn drawn(most: Duration, draw: u32) -> Duration {
    most / 2 + (most / 2).mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BO: UserId = UserId([2; 32]);
    const FIRST: DeviceId = DeviceId([3; 32]);
    const SECOND: DeviceId = DeviceId([4; 32]);
    const SEALED: BTreeMap<DeviceId, Vec<u8>> = BTreeMap::new();

    fn now() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        Instant::now()
    }

    fn entry(n: u8) -> Outgoing {
        let id = MessageId([n; 16]);
        Outgoing::new(id, BO, None, 1000 + u64::from(n), vec![n], vec![])
    }

    fn state(change: Option<Change>) -> Option<(MessageState, bool)> {
        change.map(|change| (change.state, change.done))
    }

    #[test]
    fn what_no_home_takes_is_tried_again_with_growing_waits() {
        let start = now();
        let mut outbox = Outbox::default();
        outbox.push(start, entry(1));
        let mut at = start;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let posted = outbox.poll_post(at).unwrap();
            assert!(outbox.poll_post(at).is_none(), "one attempt at a time");
            let attempt = Attempt::Nowhere(Obstacle::NoRoute);
            let change = outbox.handle_posted(at, posted.id, attempt, SEALED, u32::MAX);
            let queued = MessageState::Queued(Some(Obstacle::NoRoute));
            assert_eq!(state(change), Some((queued, false)));
            let due = outbox.pending[&posted.id].due;
            waits.push((due - at).as_secs());
            assert!(outbox.poll_post(due - Duration::from_millis(1)).is_none());
            at = due;
        }
        assert_eq!(
            waits,
            [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800, 1800]
        );
        // Drawn, so that not everybody comes at once.
        let posted = outbox.poll_post(at).unwrap();
        let attempt = Attempt::Nowhere(Obstacle::NoRoute);
        outbox.handle_posted(at, posted.id, attempt, SEALED, 0);
        assert_eq!(outbox.pending[&posted.id].due - at, LAST_BACKOFF / 2);
        outbox.hurry(at);
        assert!(outbox.poll_post(at).is_some(), "the network is back");
    }

    #[test]
    fn what_waits_is_left_again_now_and_then_until_it_arrived() {
        let start = now();
        let mut outbox = Outbox::default();
        outbox.push(start, entry(1));
        let mut at = start;
        for _ in 0..3 {
            let posted = outbox.poll_post(at).unwrap();
            let sealed = BTreeMap::from([(DeviceId([3; 32]), vec![8])]);
            let change = outbox.handle_posted(at, posted.id, Attempt::Left(2), sealed.clone(), 0);
            assert_eq!(change.as_ref().unwrap().entry.sealed, sealed);
            assert_eq!(state(change), Some((MessageState::Waiting(2), false)));
            outbox.hurry(at);
            assert!(
                outbox
                    .poll_post(at + CHECK / 2 - Duration::from_secs(1))
                    .is_none()
            );
            at += CHECK / 2;
        }
        // A home that does not answer now may have it all the same: what was said stays true.
        let posted = outbox.poll_post(at).unwrap();
        let attempt = Attempt::Nowhere(Obstacle::NoRoute);
        assert_eq!(
            outbox.handle_posted(at, posted.id, attempt, SEALED, 0),
            None
        );
        let other = UserId([9; 32]);
        assert_eq!(
            outbox.handle_receipt((other, FIRST), posted.id, 7),
            [],
            "not theirs"
        );
        let delivered = MessageState::Delivered { at_millis: 7 };
        let mut changes = outbox.handle_receipt((BO, FIRST), posted.id, 7);
        assert_eq!(state(changes.pop()), Some((delivered, true)));
        assert!(outbox.is_empty());
        assert_eq!(outbox.handle_receipt((BO, FIRST), posted.id, 8), []);
    }

    fn both() -> BTreeMap<DeviceId, Vec<u8>> {
        BTreeMap::from([(FIRST, vec![1]), (SECOND, vec![2])])
    }

    #[test]
    fn for_a_second_device_it_is_left_again_until_that_one_has_it() {
        let start = now();
        let mut outbox = Outbox::default();
        outbox.push(start, entry(1));
        let posted = outbox.poll_post(start).unwrap();
        let id = posted.id;
        let delivered = MessageState::Delivered { at_millis: 7 };
        // The first one reads it before all homes have it.
        let mut early = outbox.handle_receipt((BO, FIRST), id, 7);
        assert_eq!(state(early.pop()), Some((delivered, false)));
        let change = outbox
            .handle_posted(start, id, Attempt::Left(3), both(), 0)
            .unwrap();
        assert_eq!((change.state, change.done), (delivered, false));
        let kept = Outgoing::from_bytes(id, &change.entry.to_bytes()).unwrap();
        assert_eq!(kept, change.entry);
        assert!(!kept.is_for(FIRST) && kept.is_for(SECOND));
        assert_eq!(kept.sealed.keys().copied().collect::<Vec<_>>(), [SECOND]);
        // Nobody knows better for a while, and it goes on saying what it said.
        let at = start + CHECK / 2;
        assert_eq!(outbox.poll_post(at).map(|entry| entry.id), Some(id));
        let nowhere = Attempt::Nowhere(Obstacle::NoRoute);
        let change = outbox
            .handle_posted(at, id, nowhere, kept.sealed, 0)
            .unwrap();
        assert_eq!((change.state, change.done), (delivered, false));
        assert!(!change.is_news);
        assert_eq!(outbox.handle_receipt((BO, FIRST), id, 8), [], "again");
        let mut last = outbox.handle_receipt((BO, SECOND), id, 9);
        assert_eq!(state(last.pop()), Some((delivered, true)));
        assert!(outbox.is_empty());
        // It never looks as if it had been in vain.
        outbox.push(start, entry(1));
        outbox.poll_post(start).unwrap();
        outbox.handle_posted(start, id, Attempt::Left(3), both(), 0);
        outbox.handle_receipt((BO, FIRST), id, 7);
        let old = outbox.take_expired(1001 + LIFETIME_MILLIS);
        assert_eq!((old[0].state, old[0].done), (delivered, true));
        // The old way.
        let mut outbox = Outbox::default().of_first_devices();
        outbox.push(start, entry(1));
        outbox.poll_post(start).unwrap();
        outbox.handle_posted(start, id, Attempt::Left(3), both(), 0);
        assert!(outbox.handle_receipt((BO, FIRST), id, 7)[0].done);
    }

    #[test]
    fn a_device_for_which_nothing_could_be_sealed_gets_it_later() {
        let start = now();
        let mut outbox = Outbox::default();
        let id = entry(1).id;
        outbox.push(start, entry(1));
        outbox.learn_devices(BO, BTreeSet::from([FIRST, SECOND]));
        outbox.poll_post(start).unwrap();
        // The home that has the second one's box was not reached.
        let first = BTreeMap::from([(FIRST, vec![1])]);
        outbox.handle_posted(start, id, Attempt::Left(1), first, 0);
        assert!(!outbox.handle_receipt((BO, FIRST), id, 7)[0].done);
        let at = start + CHECK;
        assert!(outbox.poll_post(at).is_some());
        let nowhere = Attempt::Nowhere(Obstacle::NoRoute);
        let change = outbox.handle_posted(at, id, nowhere, SEALED, u32::MAX);
        assert!(!change.unwrap().done);
        let again = at + FIRST_BACKOFF;
        assert!(outbox.poll_post(again).is_some(), "soon, and not in hours");
        outbox.handle_posted(again, id, Attempt::Left(1), both(), 0);
        // The second one is taken out: nobody is missing any more.
        outbox.learn_devices(BO, BTreeSet::from([FIRST]));
        outbox.poll_post(again + CHECK).unwrap();
        let change = outbox.handle_posted(again + CHECK, id, Attempt::Left(1), both(), 0);
        assert!(change.unwrap().done);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_nobody_has_waits_for_nothing_that_somebody_has() {
        let start = now();
        let mut outbox = Outbox::default();
        for n in 1..=9 {
            let mut old = entry(n);
            old.user = UserId([n; 32]);
            old.has = BTreeSet::from([FIRST]);
            outbox.push(start, old);
        }
        assert!(outbox.poll_post(start).is_none(), "homes have it");
        let at = start + LINGERING_AT_FIRST;
        let under_way = std::iter::from_fn(|| outbox.poll_post(at)).count();
        assert_eq!(under_way, MAX_POSTING_LINGERING);
        let mut new = entry(20);
        new.user = UserId([1; 32]);
        outbox.push(at, new.clone());
        assert_eq!(outbox.poll_post(at).map(|entry| entry.id), Some(new.id));
    }

    #[test]
    fn what_a_device_that_is_off_for_long_has_not_got_takes_no_room() {
        let now = now();
        let mut outbox = Outbox::default();
        let mut gone = Vec::new();
        for n in 0..MAX_OUTGOING_PER_PERSON as u64 + 10 {
            assert_eq!(outbox.has_room(BO), Ok(()));
            let mut one = entry(1);
            one.id.0[..8].copy_from_slice(&n.to_be_bytes());
            one.at_millis = n;
            outbox.push(now, one.clone());
            outbox.poll_post(now).unwrap();
            outbox.handle_posted(now, one.id, Attempt::Left(1), both(), 0);
            let changes = outbox.handle_receipt((BO, FIRST), one.id, 7);
            gone.extend(changes.into_iter().skip(1));
        }
        assert_eq!(outbox.len(), MAX_LINGERING_PER_PERSON);
        assert!(gone.iter().all(|change| change.done));
        assert_eq!(gone[0].entry.at_millis, 0, "the oldest goes first");
    }

    #[test]
    fn a_receipt_is_not_waited_for() {
        let now = now();
        let mut outbox = Outbox::default();
        let mut receipt = entry(1);
        receipt.only = Some(DeviceId([4; 32]));
        outbox.push(now, receipt.clone());
        outbox.poll_post(now).unwrap();
        let attempt = Attempt::Nowhere(Obstacle::NoRoute);
        let change = outbox.handle_posted(now, receipt.id, attempt, SEALED, 0);
        assert!(!change.unwrap().done);
        outbox.hurry(now);
        outbox.poll_post(now).unwrap();
        let change = outbox.handle_posted(now, receipt.id, Attempt::Left(1), SEALED, 0);
        assert!(change.unwrap().done);
        assert!(outbox.is_empty());
    }

    #[test]
    fn nothing_is_tried_for_ever() {
        let now = now();
        let mut outbox = Outbox::default();
        outbox.push(now, entry(1));
        assert!(outbox.take_expired(1001 + LIFETIME_MILLIS - 1).is_empty());
        let expired = outbox.take_expired(1001 + LIFETIME_MILLIS);
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].state, MessageState::Expired);
        assert!(outbox.poll_post(now).is_none());
    }

    #[test]
    fn one_person_is_written_to_in_order_and_several_at_once() {
        let now = now();
        let mut outbox = Outbox::default();
        for n in [3, 1, 2] {
            outbox.push(now, entry(n));
        }
        for n in 10..20 {
            let mut other = entry(n);
            other.user = UserId([n; 32]);
            outbox.push(now, other);
        }
        assert_eq!(outbox.poll_post(now).unwrap().id, entry(1).id);
        let others = std::iter::from_fn(|| outbox.poll_post(now));
        let others: Vec<MessageId> = others.map(|entry| entry.id).collect();
        assert_eq!(others, [10, 11, 12].map(|n| entry(n).id), "so many at once");
        outbox.handle_posted(now, entry(1).id, Attempt::Left(1), SEALED, 0);
        assert_eq!(outbox.poll_post(now).unwrap().id, entry(2).id);
    }

    #[test]
    fn the_outbox_is_bounded() {
        let now = now();
        let mut outbox = Outbox::default();
        for n in 0..MAX_OUTGOING_PER_PERSON as u64 {
            assert_eq!(outbox.has_room(BO), Ok(()));
            let mut one = entry(1);
            one.id.0[..8].copy_from_slice(&n.to_be_bytes());
            outbox.push(now, one);
        }
        assert_eq!(outbox.has_room(BO), Err(OutboxFull));
        let other = UserId([9; 32]);
        assert_eq!(outbox.has_room(other), Ok(()));
        for n in 0..(MAX_OUTGOING - MAX_OUTGOING_PER_PERSON) as u64 {
            let mut one = entry(2);
            one.user.0[..8].copy_from_slice(&n.to_be_bytes());
            one.id.0[..8].copy_from_slice(&n.to_be_bytes());
            outbox.push(now, one);
        }
        assert_eq!(outbox.has_room(other), Err(OutboxFull));
        outbox.forget(BO);
        assert_eq!(outbox.has_room(BO), Ok(()));
    }
}
