//! Records of people that a supernode keeps for whoever looks for them. Sans-IO.
//!
//! Anybody may leave a record here: it is signed, so only its person can make one, and only the newest counts. What
//! strangers can fill is bounded, in all and by where they come from, so that one of them drives out nobody else's.

use std::{collections::BTreeMap, net::IpAddr};

use ahoy_transport::identity::UserId;

use crate::discovery::record::{Record, RecordRules};

/// Records kept at once. At about a kilobyte each: 64 MB when full.
pub const MAX_HELD: usize = 65_536;
/// Of those, from one source: a household, or a carrier's NAT with some people behind it who use this one.
pub const MAX_HELD_PER_SOURCE: usize = 64;

#[derive(Debug)]
struct Held {
    record: Record,
    source: IpAddr,
}

/// The records. `source` is an IPv4 address, or an IPv6 /64 with the rest zeroed.
#[derive(Debug)]
pub struct HeldRecords {
    capacity: usize,
    per_source: usize,
    held: BTreeMap<UserId, Held>,
    sources: BTreeMap<IpAddr, usize>,
}

impl HeldRecords {
    /// An empty table with these bounds.
    #[must_use]
    pub fn new(capacity: usize, per_source: usize) -> Self {
        Self {
            capacity,
            per_source,
            held: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Takes a record in, if it counts and there is room for one from there. Says whether it is the one held now.
    pub fn publish(&mut self, record: &Record, source: IpAddr, now_millis: u64) -> bool {
        let user = record.fields().user;
        let known = self.held.get(&user);
        let rules = RecordRules::default();
        let last = known.map(|held| &held.record);
        if rules.judge(last, record, user, now_millis).is_err() {
            return false;
        }
        let from_here = known.is_some_and(|held| held.source == source);
        let is_new = known.is_none();
        let used = self.sources.get(&source).copied().unwrap_or(0);
        if !from_here && used >= self.per_source {
            self.drop_expired(now_millis);
            if self.sources.get(&source).copied().unwrap_or(0) >= self.per_source {
                return false;
            }
        }
        if is_new && self.held.len() >= self.capacity {
            self.drop_expired(now_millis);
            if self.held.len() >= self.capacity {
                return false;
            }
        }
        self.forget(user);
        *self.sources.entry(source).or_insert(0) += 1;
        let record = record.clone();
        self.held.insert(user, Held { record, source });
        true
    }

    /// The newest record of `user`, if it still counts.
    #[must_use]
    pub fn find(&self, user: UserId, now_millis: u64) -> Option<&Record> {
        let record = &self.held.get(&user)?.record;
        // Its signature was looked at when it came.
        (record.fields().not_after_millis > now_millis).then_some(record)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn forget(&mut self, user: UserId) {
        if let Some(held) = self.held.remove(&user)
            && let Some(used) = self.sources.get_mut(&held.source)
        {
            *used -= 1;
            if *used == 0 {
                self.sources.remove(&held.source);
            }
        }
    }

    fn drop_expired(&mut self, now_millis: u64) {
        let over: Vec<UserId> = self
            .held
            .iter()
            .filter(|(_user, held)| held.record.fields().not_after_millis <= now_millis)
            .map(|(user, _held)| *user)
            .collect();
        for user in over {
            self.forget(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::{LogPosition, RootKey};

    use super::*;
    use crate::discovery::record::RecordFields;

    const NOW: u64 = 1_800_000_000_000;

    fn source(last: u8) -> IpAddr {
        [198, 51, 100, last].into()
    }

    fn record(person: u8, seq: u64, lasts_millis: u64) -> Record {
        let root = RootKey::from_seed(&[person; 32]);
        let fields = RecordFields {
            user: root.user(),
            seq,
            not_after_millis: NOW + lasts_millis,
            log_head: LogPosition {
                n: 0,
                hash: [0; 32],
            },
            homes: vec![],
            sealed: vec![],
        };
        Record::issue(fields, &root)
    }

    #[test]
    fn the_newest_valid_record_is_kept_until_it_ends() {
        let mut held = HeldRecords::new(10, 10);
        let user = record(1, 1, 1).fields().user;
        assert!(held.publish(&record(1, 2, 1000), source(1), NOW));
        assert!(held.publish(&record(1, 2, 1000), source(2), NOW), "again");
        assert!(!held.publish(&record(1, 1, 2000), source(1), NOW), "older");
        assert!(!held.publish(&record(2, 1, 0), source(1), NOW), "expired");
        let mut forged = record(1, 3, 1000).as_bytes().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let forged = Record::from_bytes(&forged).unwrap();
        assert!(!held.publish(&forged, source(1), NOW));
        assert_eq!(held.find(user, NOW + 999), Some(&record(1, 2, 1000)));
        assert_eq!(held.find(user, NOW + 1000), None);
        assert_eq!((held.len(), held.sources.len()), (1, 1));
    }

    #[test]
    fn a_flood_from_one_place_takes_its_share_alone() {
        let mut held = HeldRecords::new(10, 4);
        let flood = (1..=100)
            .filter(|person| held.publish(&record(*person, 1, 1000), source(1), NOW))
            .count();
        assert_eq!(flood, 4);
        assert!(held.publish(&record(200, 1, 1000), source(2), NOW));
        // Without the share of each place it has all of it.
        let mut open = HeldRecords::new(10, usize::MAX);
        for person in 1..=100 {
            open.publish(&record(person, 1, 1000), source(1), NOW);
        }
        assert!(!open.publish(&record(200, 1, 1000), source(2), NOW));
        // What is over makes room.
        assert!(held.publish(&record(50, 1, 5000), source(1), NOW + 1000));
        assert_eq!(held.len(), 1);
        assert_eq!(held.sources, BTreeMap::from([(source(1), 1)]));
    }
}
