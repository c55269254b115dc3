//! What waits here for devices that are off. Sans-IO.
//!
//! A device that is registered here may keep a box. It stays for as long as [`MailLimits::box_lifetime_secs`] after
//! the device was seen last, with what others need to write to it. A box belongs to a device that proved its key and
//! stands in its person's log; nobody pushes another one's box out, whatever is full. Letters are sealed: what is
//! seen here is for whom one is, when it came, from which address and its size class.
//!
//! A box has two lanes. Who knows the device's [`MailCapability`] marks the letter ([`MailKey::mark`]) and has the
//! contacts' lane; everybody else shares the strangers', which is small, so no flood of strangers takes a contact's
//! room. The key given to one supernode marks letters at that supernode alone.
//!
//! Everything here is in memory. A supernode that starts anew has no boxes until its devices come back, unless it [keeps
//! them](disk): that is what two or three homes are for, and the sender keeps its copy.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_transport::identity::{DeviceId, NodeId, UserId};
use rand_core::CryptoRngCore;
use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::{
    protocol::{MAX_DEVICES, MAX_ENVELOPE, MAX_LETTERS, MAX_MESSAGE, Refusal, Registration},
    relay::limits::TokenBucket,
};
use crate::keyed::hmac_sha256;

pub mod disk;

/// Length of a mark, in bytes.
pub const MARK_LEN: usize = 16;
/// Sources whose strangers' letters are metered at once. When that many wrote lately, new ones wait.
const MAX_SENDERS: usize = 16_384;
/// How often everything is looked through for what has expired.
const SWEEP: Duration = Duration::from_secs(300);
const KEY_LABEL: &[u8] = b"ahoy/1 mail key";
const FINDING_LABEL: &[u8] = b"ahoy/1 finding";
const MARK_LABEL: &[u8] = b"ahoy/1 mail mark";

/// What a device gives to its contacts, so that their letters have a lane of their own. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MailCapability(Zeroizing<[u8; 32]>);

impl MailCapability {
    /// Draws a new one.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        Self(bytes)
    }

    /// The one with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for contacts.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What contacts look for this device's records by: see [`crate::discovery::dht`]. Tells nothing of the capability.
    #[must_use]
    pub fn finding_key(&self) -> [u8; 32] {
        hmac_sha256(&self.0, &[FINDING_LABEL])
    }

    /// What the supernode `home` is told: it can check marks, and make none for another home.
    #[must_use]
    pub fn at(&self, home: NodeId) -> MailKey {
        let key = hmac_sha256(&self.0, &[KEY_LABEL, home.as_bytes()]);
        MailKey(Zeroizing::new(key))
    }
}

impl fmt::Debug for MailCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailCapability(secret)")
    }
}

/// What a box checks marks with. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MailKey(pub(super) Zeroizing<[u8; 32]>);

impl MailKey {
    /// Shows that whoever leaves this envelope in this box is a contact.
    #[must_use]
    pub fn mark(&self, owner: (UserId, DeviceId), envelope: &[u8]) -> [u8; MARK_LEN] {
        let hash = digest::digest(&digest::SHA256, envelope);
        let parts: [&[u8]; 4] = [MARK_LABEL, &owner.0.0, &owner.1.0, hash.as_ref()];
        let mut mark = [0; MARK_LEN];
        for (to, from) in mark.iter_mut().zip(hmac_sha256(&self.0, &parts)) {
            *to = from;
        }
        mark
    }

    fn is_marked(&self, owner: (UserId, DeviceId), envelope: &[u8], mark: &[u8; MARK_LEN]) -> bool {
        // Compared under a fresh MAC, so that time tells nothing of where they differ.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let expected = self.mark(owner, envelope);
        hmac::verify(&key, mark, hmac::sign(&key, &expected).as_ref()).is_ok()
    }
}

impl fmt::Debug for MailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailKey(secret)")
    }
}

/// Bounds on what waits here. The defaults survive a flood on a small machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailLimits {
    /// Boxes; 0: this supernode keeps no mail. Each costs about 3 KiB while its device is off.
    pub boxes: usize,
    /// Of those, opened from one address (IPv6: from one /64).
    pub boxes_per_source: usize,
    /// Seconds for which a box is kept after its device was seen last.
    pub box_lifetime_secs: u64,
    /// Seconds for which a letter waits.
    pub letter_lifetime_secs: u64,
    /// Bytes of all letters.
    pub bytes: usize,
    /// Of those, strangers'.
    pub stranger_bytes: usize,
    /// Of those, in the boxes that were opened from one address.
    pub bytes_per_source: usize,
    /// Letters of contacts in one box.
    pub letters: usize,
    /// Their bytes.
    pub letter_bytes: usize,
    /// Letters of strangers in one box.
    pub stranger_letters: usize,
    /// Of those, left from one address.
    pub stranger_letters_per_source: usize,
    /// Strangers' letters that one address may leave at once.
    pub stranger_burst: u64,
    /// Strangers' letters that one address may leave in an hour.
    pub stranger_letters_per_hour: u64,
    /// Strangers' letters that one device takes in an hour, from everywhere: each wakes it. Twice
    /// [`Self::stranger_letters`] at once.
    pub box_stranger_letters_per_hour: u64,
    /// Contacts and strangers have lanes of their own. Off only to show what they are good for.
    pub lanes: bool,
}

impl Default for MailLimits {
    fn default() -> Self {
        Self {
            boxes: 100_000,
            boxes_per_source: 1_024,
            box_lifetime_secs: 14 * 24 * 3600,
            letter_lifetime_secs: 14 * 24 * 3600,
            bytes: 256 << 20,
            stranger_bytes: 64 << 20,
            bytes_per_source: 32 << 20,
            letters: 256,
            letter_bytes: 1 << 20,
            stranger_letters: 20,
            stranger_letters_per_source: 4,
            stranger_burst: 40,
            stranger_letters_per_hour: 120,
            box_stranger_letters_per_hour: 240,
            lanes: true,
        }
    }
}

/// What has been counted since the start, and what is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailCounters {
    /// Boxes now.
    pub boxes: u64,
    /// Letters that wait now.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Letters left by contacts.
    pub left_by_contacts: u64,
    /// Letters left by strangers.
    pub left_by_strangers: u64,
    /// Letters that were here already.
    pub duplicates: u64,
    /// Letters refused, for whatever reason.
    pub refused: u64,
    /// Letters handed out, the same one perhaps several times.
    pub fetched: u64,
    /// Letters that their devices have.
    pub acknowledged: u64,
    /// Letters whose time was over.
    pub expired: u64,
    /// Boxes whose time was over.
    pub boxes_expired: u64,
}

/// A letter as it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingLetter {
    /// For the acknowledgement.
    pub id: u64,
    /// As it was sealed.
    pub envelope: Vec<u8>,
}

/// What became of a letter that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// It counts as a contact's.
    pub contact: bool,
    /// It was not here yet: worth telling the device.
    pub fresh: bool,
}

/// Whether a letter would be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// It would; its hash.
    For([u8; 32]),
    /// It is here already.
    HasIt,
}

struct Held {
    id: u64,
    hash: [u8; 32],
    source: IpAddr,
    left: Instant,
    envelope: Box<[u8]>,
}

#[derive(Default)]
struct Lane {
    letters: VecDeque<Held>,
    bytes: usize,
}

struct Kept {
    registration: Arc<Registration>,
    key: MailKey,
    source: IpAddr,
    seen: Instant,
    contacts: Lane,
    strangers: Lane,
    /// How many strangers' letters may still come.
    pace: TokenBucket,
}

impl Kept {
    fn lanes(&self) -> [&Lane; 2] {
        [&self.contacts, &self.strangers]
    }

    fn letters(&self) -> impl Iterator<Item = &Held> {
        self.lanes().into_iter().flat_map(|lane| &lane.letters)
    }

    fn bytes(&self) -> usize {
        self.contacts.bytes + self.strangers.bytes
    }
}

#[derive(Default)]
struct Opened {
    boxes: usize,
    bytes: usize,
}

/// The boxes of a supernode.
pub struct Mailbox {
    limits: MailLimits,
    boxes: BTreeMap<(UserId, DeviceId), Kept>,
    /// What the boxes opened from a source come to.
    opened: HashMap<IpAddr, Opened>,
    /// How fast strangers at a source write.
    senders: HashMap<IpAddr, TokenBucket>,
    bytes: usize,
    stranger_bytes: usize,
    next_id: u64,
    next_sweep: Option<Instant>,
    counters: MailCounters,
    /// Somebody keeps the boxes.
    tracks: bool,
    changed: BTreeSet<(UserId, DeviceId)>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("boxes", &self.boxes.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Without boxes. Letters are numbered from `first_id`, a random number, so that an acknowledgement from before
    /// a restart means nothing after it.
    #[must_use]
    pub fn new(limits: MailLimits, first_id: u64) -> Self {
        Self {
            limits,
            boxes: BTreeMap::new(),
            opened: HashMap::new(),
            senders: HashMap::new(),
            bytes: 0,
            stranger_bytes: 0,
            next_id: first_id,
            next_sweep: None,
            counters: MailCounters::default(),
            tracks: false,
            changed: BTreeSet::new(),
        }
    }

    /// Counted since the start, and there now.
    #[must_use]
    pub fn counters(&self) -> MailCounters {
        let waiting = self.boxes.values().map(|kept| kept.letters().count());
        MailCounters {
            boxes: self.boxes.len() as u64,
            waiting: waiting.sum::<usize>() as u64,
            waiting_bytes: self.bytes as u64,
            ..self.counters
        }
    }

    /// Keeps a box for a device that is registered here, from now on under this key. Says how many letters wait.
    ///
    /// Of one person's devices the one that was seen least lately makes room; nobody else's does.
    ///
    /// # Errors
    /// [`Refusal::NoMail`], [`Refusal::Full`].
    pub fn keep(
        &mut self,
        now: Instant,
        owner: (UserId, DeviceId),
        source: IpAddr,
        registration: Arc<Registration>,
        key: MailKey,
    ) -> Result<u32, Refusal> {
        self.sweep(now);
        if let Some(kept) = self.boxes.get_mut(&owner) {
            kept.key = key;
            kept.registration = registration;
            kept.seen = now;
            let waiting = kept.letters().count();
            self.note_change(owner);
            return Ok(u32::try_from(waiting).unwrap_or(u32::MAX));
        }
        if self.limits.boxes == 0 {
            return Err(Refusal::NoMail);
        }
        if self.of_person(owner.0).count() >= MAX_DEVICES {
            let oldest = self.of_person(owner.0);
            let oldest = oldest.min_by_key(|(_owner, kept)| kept.seen);
            if let Some(oldest) = oldest.map(|(owner, _kept)| *owner) {
                self.remove(oldest);
            }
        }
        let from_source = self.opened.get(&source).map_or(0, |opened| opened.boxes);
        if self.boxes.len() >= self.limits.boxes || from_source >= self.limits.boxes_per_source {
            return Err(Refusal::Full);
        }
        self.opened.entry(source).or_default().boxes += 1;
        let kept = Kept {
            registration,
            key,
            source,
            seen: now,
            contacts: Lane::default(),
            strangers: Lane::default(),
            pace: TokenBucket::full(now, box_rate(&self.limits).1),
        };
        self.boxes.insert(owner, kept);
        self.note_change(owner);
        Ok(0)
    }

    /// The device is there, perhaps with a new registration.
    pub fn seen(
        &mut self,
        now: Instant,
        owner: (UserId, DeviceId),
        registration: Option<&Arc<Registration>>,
    ) {
        if let Some(kept) = self.boxes.get_mut(&owner) {
            kept.seen = now;
            if let Some(registration) = registration {
                kept.registration = Arc::clone(registration);
                self.note_change(owner);
            }
        }
    }

    fn of_person(&self, user: UserId) -> impl Iterator<Item = (&(UserId, DeviceId), &Kept)> {
        let first = (user, DeviceId([0; 32]));
        self.boxes.range(first..=(user, DeviceId([0xff; 32])))
    }

    /// The devices of a person that have boxes here. Whether they are on is not told: every epoch is 0.
    #[must_use]
    pub fn boxes(&mut self, now: Instant, user: UserId) -> Vec<Registration> {
        self.sweep(now);
        let registrations = self.of_person(user).map(|(_owner, kept)| Registration {
            epoch: 0,
            ..Registration::clone(&kept.registration)
        });
        registrations.collect()
    }

    /// Leaves an envelope in a box. `from` is where it comes from.
    ///
    /// # Errors
    /// [`Refusal::UnknownDevice`] without such a box, [`Refusal::BoxFull`] when it, or all this supernode may keep,
    /// has no room, [`Refusal::TooFast`].
    pub fn leave(
        &mut self,
        now: Instant,
        from: IpAddr,
        owner: (UserId, DeviceId),
        mark: Option<&[u8; MARK_LEN]>,
        envelope: Vec<u8>,
    ) -> Result<Left, Refusal> {
        self.sweep(now);
        let left = self.put(now, from, owner, mark, envelope);
        match left {
            Ok(Left { fresh: false, .. }) => self.counters.duplicates += 1,
            Ok(Left { contact: true, .. }) => self.counters.left_by_contacts += 1,
            Ok(Left { contact: false, .. }) => self.counters.left_by_strangers += 1,
            Err(_) => self.counters.refused += 1,
        }
        left
    }

    /// Whether a contact marked this envelope for a device that has a box here.
    #[must_use]
    pub fn is_contacts(
        &self,
        owner: (UserId, DeviceId),
        mark: &[u8; MARK_LEN],
        envelope: &[u8],
    ) -> bool {
        let kept = self.boxes.get(&owner).filter(|_kept| self.limits.lanes);
        kept.is_some_and(|kept| kept.key.is_marked(owner, envelope, mark))
    }

    /// How much of the room that strangers have with this device is in use, or of that which all of them have here, in
    /// thousandths. Nothing for a letter that is here already.
    ///
    /// # Errors
    /// Those of [`Self::leave`], of this letter by a stranger who comes from `from`: whatever work is done for it.
    pub fn strangers_load(
        &mut self,
        now: Instant,
        from: IpAddr,
        owner: (UserId, DeviceId),
        envelope: &[u8],
    ) -> Result<u32, Refusal> {
        self.sweep(now);
        let contact = !self.limits.lanes;
        let room = self.room(now, from, owner, contact, envelope);
        if room.inspect_err(|_full| self.counters.refused += 1)? == Room::HasIt {
            return Ok(0);
        }
        let limits = &self.limits;
        let share = |used: usize, of: usize| {
            u32::try_from(used.saturating_mul(1000) / of.max(1)).unwrap_or(1000)
        };
        let kept = self.boxes.get_mut(&owner).ok_or(Refusal::UnknownDevice)?;
        let (rate, burst) = box_rate(limits);
        Ok(share(kept.strangers.letters.len(), limits.stranger_letters)
            .max(share(self.stranger_bytes, limits.stranger_bytes))
            .max(kept.pace.used(now, rate, burst)))
    }

    /// Whether this letter would be taken from there. Nothing is changed.
    fn room(
        &mut self,
        now: Instant,
        from: IpAddr,
        owner: (UserId, DeviceId),
        contact: bool,
        envelope: &[u8],
    ) -> Result<Room, Refusal> {
        let limits = &self.limits;
        let kept = self.boxes.get_mut(&owner).ok_or(Refusal::UnknownDevice)?;
        if envelope.is_empty() || envelope.len() > MAX_ENVELOPE {
            return Err(Refusal::Malformed);
        }
        let hash = hash_of(envelope);
        if kept.letters().any(|letter| letter.hash == hash) {
            return Ok(Room::HasIt);
        }
        let size = envelope.len();
        let in_source = self.opened.get(&kept.source).map_or(0, |of| of.bytes);
        if self.bytes + size > limits.bytes || in_source + size > limits.bytes_per_source {
            return Err(Refusal::BoxFull);
        }
        if contact {
            let lane = &kept.contacts;
            if lane.letters.len() >= limits.letters || lane.bytes + size > limits.letter_bytes {
                return Err(Refusal::BoxFull);
            }
        } else {
            let lane = &kept.strangers;
            let mine = lane.letters.iter().filter(|letter| letter.source == from);
            if lane.letters.len() >= limits.stranger_letters
                || mine.count() >= limits.stranger_letters_per_source
                || self.stranger_bytes + size > limits.stranger_bytes
            {
                return Err(Refusal::BoxFull);
            }
            let (rate, burst) = sender_rate(limits);
            let sender_may = match self.senders.get_mut(&from) {
                Some(bucket) => bucket.holds(now, LETTER, rate, burst),
                None => self.senders.len() < MAX_SENDERS && burst >= LETTER,
            };
            let (rate, burst) = box_rate(limits);
            if !sender_may || !kept.pace.holds(now, LETTER, rate, burst) {
                return Err(Refusal::TooFast);
            }
        }
        Ok(Room::For(hash))
    }

    fn put(
        &mut self,
        now: Instant,
        from: IpAddr,
        owner: (UserId, DeviceId),
        mark: Option<&[u8; MARK_LEN]>,
        envelope: Vec<u8>,
    ) -> Result<Left, Refusal> {
        let marked = |mark| {
            let kept = self.boxes.get(&owner);
            kept.is_some_and(|kept| kept.key.is_marked(owner, &envelope, mark))
        };
        let contact = mark.is_some_and(marked) || !self.limits.lanes;
        let hash = match self.room(now, from, owner, contact, &envelope)? {
            Room::For(hash) => hash,
            Room::HasIt => {
                return Ok(Left {
                    contact,
                    fresh: false,
                });
            }
        };
        let limits = &self.limits;
        let kept = self.boxes.get_mut(&owner).ok_or(Refusal::UnknownDevice)?;
        let size = envelope.len();
        let lane = if contact {
            &mut kept.contacts
        } else {
            let (rate, burst) = sender_rate(limits);
            let sender = self
                .senders
                .entry(from)
                .or_insert_with(|| TokenBucket::full(now, burst));
            sender.take(now, LETTER, rate, burst);
            let (rate, burst) = box_rate(limits);
            kept.pace.take(now, LETTER, rate, burst);
            self.stranger_bytes += size;
            &mut kept.strangers
        };
        lane.bytes += size;
        lane.letters.push_back(Held {
            id: self.next_id,
            hash,
            source: from,
            left: now,
            envelope: envelope.into_boxed_slice(),
        });
        self.next_id = self.next_id.wrapping_add(1);
        self.bytes += size;
        self.opened.entry(kept.source).or_default().bytes += size;
        self.note_change(owner);
        Ok(Left {
            contact,
            fresh: true,
        })
    }

    /// What waits for a device, contacts' letters first, and of each lane the oldest: as much as one message holds.
    /// They stay until they are acknowledged.
    pub fn fetch(&mut self, now: Instant, owner: (UserId, DeviceId)) -> Vec<WaitingLetter> {
        /// A letter's id and length, and what the message needs itself.
        const OVERHEAD: usize = 16;
        self.sweep(now);
        self.seen(now, owner, None);
        let mut room = MAX_MESSAGE - OVERHEAD;
        let mut fetched = Vec::new();
        let kept = self.boxes.get(&owner);
        for letter in kept.into_iter().flat_map(Kept::letters).take(MAX_LETTERS) {
            let Some(left) = room.checked_sub(letter.envelope.len() + OVERHEAD) else {
                break;
            };
            room = left;
            fetched.push(WaitingLetter {
                id: letter.id,
                envelope: letter.envelope.to_vec(),
            });
        }
        self.counters.fetched += fetched.len() as u64;
        fetched
    }

    /// The device has these letters.
    pub fn acknowledge(&mut self, owner: (UserId, DeviceId), ids: &[u64]) {
        let gone = self.retain(owner, |letter| !ids.contains(&letter.id));
        self.counters.acknowledged += gone;
    }

    /// Keeps of a box what `keep` wants, and says how many letters went.
    fn retain(&mut self, owner: (UserId, DeviceId), keep: impl Fn(&Held) -> bool) -> u64 {
        let Some(kept) = self.boxes.get_mut(&owner) else {
            return 0;
        };
        let before = (kept.letters().count(), kept.bytes(), kept.strangers.bytes);
        for lane in [&mut kept.contacts, &mut kept.strangers] {
            lane.letters.retain(|letter| keep(letter));
            lane.bytes = lane.letters.iter().map(|held| held.envelope.len()).sum();
        }
        let freed = before.1 - kept.bytes();
        self.bytes -= freed;
        self.stranger_bytes -= before.2 - kept.strangers.bytes;
        if let Some(opened) = self.opened.get_mut(&kept.source) {
            opened.bytes -= freed;
        }
        let gone = before.0 - kept.letters().count();
        if gone > 0 {
            self.note_change(owner);
        }
        gone as u64
    }

    /// A device goes, with its box and what waits there.
    pub fn remove(&mut self, owner: (UserId, DeviceId)) {
        self.retain(owner, |_all| false);
        let Some(kept) = self.boxes.remove(&owner) else {
            return;
        };
        self.note_change(owner);
        if let Some(opened) = self.opened.get_mut(&kept.source) {
            opened.boxes -= 1;
            if opened.boxes == 0 {
                self.opened.remove(&kept.source);
            }
        }
    }

    /// Lets go of what has expired.
    fn sweep(&mut self, now: Instant) {
        if self.next_sweep.is_some_and(|at| now < at) {
            return;
        }
        self.next_sweep = Some(now + SWEEP);
        let box_lifetime = Duration::from_secs(self.limits.box_lifetime_secs);
        let letter_lifetime = Duration::from_secs(self.limits.letter_lifetime_secs);
        let owners: Vec<(UserId, DeviceId)> = self.boxes.keys().copied().collect();
        for owner in owners {
            self.counters.expired += self.retain(owner, |letter| {
                now.saturating_duration_since(letter.left) < letter_lifetime
            });
            let abandoned = self
                .boxes
                .get(&owner)
                .is_some_and(|kept| now.saturating_duration_since(kept.seen) >= box_lifetime);
            if abandoned {
                self.remove(owner);
                self.counters.boxes_expired += 1;
            }
        }
        let (rate, burst) = sender_rate(&self.limits);
        // Who has not written for long enough is metered from the start again.
        self.senders
            .retain(|_source, bucket| !bucket.clone().take(now, burst, rate, burst));
    }
}

fn hash_of(envelope: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = digest::digest(&digest::SHA256, envelope);
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}

/// What a letter takes of [`sender_rate`] and [`box_rate`].
const LETTER: u64 = 1000;

/// Thousandths of a letter, since rates are in seconds.
fn sender_rate(limits: &MailLimits) -> (u64, u64) {
    (
        limits.stranger_letters_per_hour.saturating_mul(LETTER) / 3600,
        limits.stranger_burst.saturating_mul(LETTER),
    )
}

fn box_rate(limits: &MailLimits) -> (u64, u64) {
    (
        limits.box_stranger_letters_per_hour.saturating_mul(LETTER) / 3600,
        (limits.stranger_letters as u64).saturating_mul(2 * LETTER),
    )
}

#[cfg(test)]
mod tests;
