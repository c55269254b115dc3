use std::collections::BTreeSet;

use ahoy_transport::identity::{LogPosition, NodeKeys};

use super::*;
use crate::discovery::record::RECORD_LIFETIME_MILLIS;

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn root() -> RootKey {
    RootKey::from_seed(&[1; 32])
}

fn record(seq: u64) -> Record {
    let fields = RecordFields {
        user: root().user(),
        seq,
        not_after_millis: NOW + RECORD_LIFETIME_MILLIS,
        log_head: LogPosition {
            n: 0,
            hash: [0; 32],
        },
        homes: vec![],
        sealed: vec![],
    };
    Record::issue(fields, &root())
}

#[test]
fn whoever_searches_looks_where_it_was_put() {
    let user = root().user();
    let capability = [9; 32];
    // The clock of whoever searches is wrong by up to an hour, and the last publication up to 66 minutes ago.
    for minute in 0..3 * 24 * 60 {
        let now = NOW + minute * 60_000;
        for published_before in [0, 30, 66] {
            let put: BTreeSet<_> =
                places_to_put(user, Some(&capability), now - published_before * 60_000)
                    .into_iter()
                    .collect();
            for clock in [now - HOUR, now, now + HOUR] {
                let sought = places_to_get(user, Some(&capability), clock);
                let found = sought.iter().filter(|salt| put.contains(*salt)).count();
                assert!(found >= 6, "minute {minute}: {found} of {}", sought.len());
            }
        }
    }
}

#[test]
fn strangers_cannot_tell_where_the_copies_for_contacts_are() {
    let user = root().user();
    let public = places_to_get(user, None, NOW);
    assert_eq!(public.len(), 4);
    let with = |capability: [u8; 32], now| -> Vec<_> {
        let salts = places_to_get(user, Some(&capability), now);
        salts.into_iter().skip(4).collect()
    };
    let (ours, others) = (with([1; 32], NOW), with([2; 32], NOW));
    let tomorrow = with([1; 32], NOW + 24 * HOUR);
    assert_eq!(ours.len(), 2);
    for secret in &ours {
        assert!(!public.contains(secret) && !others.contains(secret) && !tomorrow.contains(secret));
        let (key, salt) = secret.target(user);
        assert!(
            key != user.0 && salt.is_none(),
            "the nodes that keep it learn whose it is"
        );
    }
    let elsewhere = places_to_get(RootKey::from_seed(&[2; 32]).user(), Some(&[1; 32]), NOW);
    assert!(
        !elsewhere.contains(&ours[0]),
        "a capability given to two people"
    );
}

#[test]
fn an_item_is_one_of_its_person_or_none() {
    let user = root().user();
    let genuine = item(&record(7), &root(), &Place::OPEN).unwrap();
    assert_eq!(record_in(&genuine, user), Some(record(7)));
    let other = RootKey::from_seed(&[2; 32]);
    assert_eq!(record_in(&genuine, other.user()), None);
    // Somebody puts our record under their own key, or ours in a number that is not its own.
    assert_eq!(
        record_in(
            &item(&record(7), &other, &Place::OPEN).unwrap(),
            other.user()
        ),
        None
    );
    let raised = DhtItem {
        seq: 8,
        ..genuine.clone()
    };
    assert_eq!(record_in(&raised, user), None);
    let garbage = DhtItem {
        value: vec![1; 100],
        ..genuine
    };
    assert_eq!(record_in(&garbage, user), None);
}

#[test]
fn a_home_that_only_some_can_reach_is_not_for_everybody() {
    let node = NodeKeys::from_seed(&[3; 32]).id();
    let is = |place: &str| is_for_everybody(&format!("{node}@{place}:4433").parse().unwrap());
    for place in [
        "192.168.1.2",
        "127.0.0.1",
        "10.1.2.3",
        "169.254.1.1",
        "[::1]",
        "[fd00::1]",
        "[fe80::1]",
    ] {
        assert!(!is(place), "{place}");
    }
    for place in ["8.8.8.8", "[2001:db8::1]", "node.example"] {
        assert!(is(place), "{place}");
    }
}

#[test]
fn a_copy_for_contacts_shows_nobody_else_whose_it_is() {
    let (user, capability) = (root().user(), [9; 32]);
    let hidden = places_to_put(user, Some(&capability), NOW).pop().unwrap();
    let lies = |record: &Record, place: &Place| item(record, &root(), place).unwrap();
    let copy = lies(&record(7), &hidden);
    assert_eq!(hidden.record_in(&copy, user), Some(record(7)));
    assert!(copy.value.len() <= 1000, "BEP 44");
    assert_eq!(copy.key, hidden.target(user).0);
    // What everybody can read has the person's key in it, and this has not.
    let shows = |item: &DhtItem| {
        let bytes = [item.key.as_slice(), &item.value, &item.signature].concat();
        bytes.windows(32).any(|window| window == user.as_bytes())
    };
    assert!(shows(&lies(&record(7), &Place::OPEN)));
    assert!(!shows(&copy));
    // The same record is the same item, and another one shares no part of its stream of key.
    assert_eq!(lies(&record(7), &hidden), copy);
    assert_ne!(lies(&record(8), &hidden).value[..12], copy.value[..12]);
    // With another capability, for another person, altered, or in another number it is nothing.
    let other = places_to_put(user, Some(&[8; 32]), NOW).pop().unwrap();
    assert_eq!(other.record_in(&copy, user), None);
    let elsewhere = RootKey::from_seed(&[2; 32]).user();
    assert_eq!(hidden.record_in(&copy, elsewhere), None);
    for at in 0..copy.value.len() {
        let mut altered = copy.clone();
        altered.value[at] ^= 1;
        assert_eq!(hidden.record_in(&altered, user), None, "byte {at}");
    }
    let raised = DhtItem { seq: 8, ..copy };
    assert_eq!(hidden.record_in(&raised, user), None);
    let short = DhtItem {
        value: vec![0; 11],
        ..raised
    };
    assert_eq!(hidden.record_in(&short, user), None);
}
