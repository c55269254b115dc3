//! Boxes as they are kept over restarts: what changed since the last time, box by box. Whoever keeps them writes all changes of
//! one [`Mailbox::take_changes`] or none, so a crash costs what came since, and no box is ever half.
//!
//! ```text
//! key:    | person (32) | device (32) |
//! box:    | ver=1 | mail key (32) | source | u64 seen, Unix ms | registration | varint letters | letters |
//! letter: | u8 contact's | u64 id | source | u64 left, Unix ms | varint length, envelope |
//! source: | u8 4 or 6 | IP address |
//! ```

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use ahoy_transport::{
    identity::{DeviceId, UserId},
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

use super::{Held, Kept, Lane, MailKey, Mailbox, box_rate, hash_of};
use crate::supernode::{
    protocol::{MAX_ENVELOPE, Registration},
    relay::limits::TokenBucket,
};

/// Boxes of one [`Mailbox::take_changes`]; the others come with the next.
const MOST_CHANGES: usize = 1024;
/// Letters of one box that are read: more are none of ours.
const MOST_LETTERS: u64 = 4096;
const VERSION: u8 = 1;

/// A box as it is kept: its key, and what it is.
pub type KeptBox = (Vec<u8>, Vec<u8>);
/// A box that changed: its key, and what it is now; nothing when it is gone.
pub type BoxChange = (Vec<u8>, Option<Vec<u8>>);

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            out.put_u8(4);
            out.put_bytes(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.put_u8(6);
            out.put_bytes(&v6.octets());
        }
    }
}

fn read_ip(reader: &mut Reader<'_>) -> Result<IpAddr, WireError> {
    match reader.u8()? {
        4 => Ok(IpAddr::from(reader.array::<4>()?)),
        6 => Ok(IpAddr::from(reader.array::<16>()?)),
        _undefined => Err(WireError::Undefined),
    }
}

/// Wall-clock time of an instant, and back; an instant before the machine's start is its start.
#[derive(Clone, Copy)]
struct Clock {
    now: Instant,
    now_millis: u64,
}

impl Clock {
    fn millis(self, at: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(at).as_millis();
        self.now_millis
            .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }

    fn instant(self, millis: u64) -> Instant {
        let ago = Duration::from_millis(self.now_millis.saturating_sub(millis));
        // A machine that runs for less than that does not know earlier instants: what waits there waits longer.
        let mut back = ago;
        while !back.is_zero() {
            if let Some(at) = self.now.checked_sub(back) {
                return at;
            }
            back /= 2;
        }
        self.now
    }
}

fn key_of((user, device): (UserId, DeviceId)) -> Vec<u8> {
    [user.as_bytes().as_slice(), device.as_bytes()].concat()
}

impl Mailbox {
    /// Remembers from now on which boxes change.
    pub fn track(&mut self) {
        self.tracks = true;
    }

    pub(super) fn note_change(&mut self, owner: (UserId, DeviceId)) {
        if self.tracks {
            self.changed.insert(owner);
        }
    }

    /// What has changed since the last time, or as much of it as is written at once.
    pub fn take_changes(&mut self, now: Instant, now_millis: u64) -> Vec<BoxChange> {
        let clock = Clock { now, now_millis };
        let mut changes = Vec::new();
        while changes.len() < MOST_CHANGES
            && let Some(owner) = self.changed.pop_first()
        {
            let kept = self.boxes.get(&owner);
            changes.push((key_of(owner), kept.map(|kept| write(kept, clock))));
        }
        changes
    }

    /// What was taken of these boxes was not written: it is taken again. Of boxes that are gone only so many are remembered as
    /// could be there; the others' time is over by itself.
    pub fn put_back(&mut self, keys: &[Vec<u8>]) {
        for key in keys {
            let owner = key
                .split_first_chunk()
                .and_then(|(user, device)| Some((UserId(*user), DeviceId(*device.first_chunk()?))));
            if let Some(owner) = owner
                && (self.boxes.contains_key(&owner) || self.changed.len() < self.limits.boxes)
            {
                self.note_change(owner);
            }
        }
    }

    /// Takes in a box that was kept, as far as there is room for it.
    ///
    /// # Errors
    /// When the bytes are no box of this version.
    pub fn restore(
        &mut self,
        now: Instant,
        now_millis: u64,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<(), WireError> {
        let mut reader = Reader::new(key);
        let owner = (UserId(reader.array()?), DeviceId(reader.array()?));
        reader.finish()?;
        let kept = read(bytes, Clock { now, now_millis }, box_rate(&self.limits).1)?;
        let of_source = self.opened.get(&kept.source);
        let (boxes, in_source) = of_source.map_or((0, 0), |of| (of.boxes, of.bytes));
        let size = kept.bytes();
        let fits = self.boxes.len() < self.limits.boxes
            && boxes < self.limits.boxes_per_source
            && self.bytes + size <= self.limits.bytes
            && in_source + size <= self.limits.bytes_per_source
            && self.stranger_bytes + kept.strangers.bytes <= self.limits.stranger_bytes;
        if !fits || self.boxes.contains_key(&owner) {
            return Ok(());
        }
        let opened = self.opened.entry(kept.source).or_default();
        opened.boxes += 1;
        opened.bytes += size;
        self.bytes += size;
        self.stranger_bytes += kept.strangers.bytes;
        self.boxes.insert(owner, kept);
        Ok(())
    }
}

fn write(kept: &Kept, clock: Clock) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.put_bytes(&*kept.key.0);
    put_ip(&mut out, kept.source);
    out.put_u64(clock.millis(kept.seen));
    kept.registration.encode_to(&mut out);
    out.put_varint(kept.letters().count() as u64);
    for (lane, contact) in [(&kept.contacts, 1), (&kept.strangers, 0)] {
        for letter in &lane.letters {
            out.put_u8(contact);
            out.put_u64(letter.id);
            put_ip(&mut out, letter.source);
            out.put_u64(clock.millis(letter.left));
            out.put_var_bytes(&letter.envelope);
        }
    }
    out
}

fn read(bytes: &[u8], clock: Clock, burst: u64) -> Result<Kept, WireError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => {}
        other => return Err(WireError::Version(other)),
    }
    let key = MailKey(Zeroizing::new(reader.array()?));
    let source = read_ip(&mut reader)?;
    let seen = clock.instant(reader.u64()?);
    let registration = Registration::decode_from(&mut reader)?;
    let mut kept = Kept {
        registration: registration.into(),
        key,
        source,
        seen,
        contacts: Lane::default(),
        strangers: Lane::default(),
        pace: TokenBucket::full(clock.now, burst),
    };
    let count = reader.varint()?;
    if count > MOST_LETTERS {
        return Err(WireError::TooLong);
    }
    for _letter in 0..count {
        let lane = match reader.u8()? {
            0 => &mut kept.strangers,
            1 => &mut kept.contacts,
            _undefined => return Err(WireError::Undefined),
        };
        let id = reader.u64()?;
        let source = read_ip(&mut reader)?;
        let left = clock.instant(reader.u64()?);
        let envelope = reader.var_bytes(MAX_ENVELOPE)?;
        lane.bytes += envelope.len();
        lane.letters.push_back(Held {
            id,
            hash: hash_of(envelope),
            source,
            left,
            envelope: envelope.into(),
        });
    }
    reader.finish()?;
    Ok(kept)
}
