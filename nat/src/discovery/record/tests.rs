use ahoy_transport::identity::NodeKeys;
use proptest::{collection::vec, prelude::*};

use super::*;

const NOW: u64 = 1_800_000_000_000;

fn root(seed: u8) -> RootKey {
    RootKey::from_seed(&[seed; 32])
}

fn home(last: u8) -> NodeAddress {
    let node = NodeKeys::from_seed(&[last; 32]).id();
    NodeAddress::new(node, ([192, 0, 2, last], 4433).into())
}

fn fields(seq: u64) -> RecordFields {
    RecordFields {
        user: root(1).user(),
        seq,
        not_after_millis: NOW + RECORD_LIFETIME_MILLIS,
        log_head: LogPosition {
            n: 2,
            hash: [9; 32],
        },
        homes: vec![home(1), home(2)],
        sealed: vec![],
    }
}

fn record(seq: u64) -> Record {
    Record::issue(fields(seq), &root(1))
}

#[test]
fn a_record_has_these_bytes() {
    let record = record(258);
    let mut golden = vec![1];
    golden.extend_from_slice(root(1).user().as_bytes());
    golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 2]);
    golden.put_u64(NOW + RECORD_LIFETIME_MILLIS);
    golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 2]);
    golden.extend_from_slice(&[9; 32]);
    golden.push(2);
    for home in [home(1), home(2)] {
        golden.put_varint(home.to_string().len() as u64);
        golden.extend_from_slice(home.to_string().as_bytes());
    }
    golden.push(0);
    golden.put_bytes(&root(1).sign(DOMAIN, &golden));
    assert_eq!(record.as_bytes(), golden);
    assert_eq!(Record::from_bytes(&golden), Ok(record));
}

#[test]
fn forged_records_are_refused_each_for_its_reason() {
    let user = root(1).user();
    let genuine = record(5);
    assert_eq!(genuine.verify(user, NOW), Ok(()));

    let others = Record::issue(fields(5), &root(2));
    assert_eq!(others.verify(user, NOW), Err(RecordError::WrongUser));
    // Signed by another, in the name of this one: the name has to stand in it.
    let mut claimed = others.as_bytes().to_vec();
    claimed[1..33].copy_from_slice(user.as_bytes());
    let claimed = Record::from_bytes(&claimed).unwrap();
    assert_eq!(claimed.verify(user, NOW), Err(RecordError::WrongSignature));
    // Homes swapped, number raised, life prolonged: each byte before the signature counts.
    for at in [40, 48, 60, 100, genuine.as_bytes().len() - 1] {
        let mut changed = genuine.as_bytes().to_vec();
        changed[at] ^= 1;
        if let Ok(changed) = Record::from_bytes(&changed) {
            assert_eq!(
                changed.verify(user, NOW),
                Err(RecordError::WrongSignature),
                "{at}"
            );
        }
    }
    let end = NOW + RECORD_LIFETIME_MILLIS;
    assert_eq!(genuine.verify(user, end - 1), Ok(()));
    assert_eq!(genuine.verify(user, end), Err(RecordError::Expired));
    let eternal = RecordFields {
        not_after_millis: NOW + 400 * RECORD_LIFETIME_MILLIS,
        ..fields(6)
    };
    let eternal = Record::issue(eternal, &root(1));
    assert_eq!(eternal.verify(user, NOW), Err(RecordError::TooLong));
    // A signature for something else with the same bytes.
    let mut bytes = fields(5).unsigned(&[]);
    let signature = root(1).sign(Domain::new("ahoy/1 log entry"), &bytes);
    bytes.put_bytes(&signature);
    let other = Record::from_bytes(&bytes).unwrap();
    assert_eq!(other.verify(user, NOW), Err(RecordError::WrongSignature));
}

/// Everybody serves the record before the newest, and later one that nobody renewed.
fn believed(rules: RecordRules) -> (u64, bool) {
    let user = root(1).user();
    let mut cache = RecordCache::with_rules(4, rules);
    assert_eq!(cache.offer(&record(7), user, NOW), Ok(true));
    assert_eq!(cache.offer(&record(7), user, NOW), Ok(false), "no news");
    for _everybody in 0..20 {
        let outcome = cache.offer(&record(6), user, NOW + 1);
        assert_eq!(outcome.is_err(), rules.monotonic);
    }
    let seq = cache.current(user, NOW + 2).unwrap().fields().seq;
    let later = NOW + RECORD_LIFETIME_MILLIS;
    (seq, cache.current(user, later).is_some())
}

#[test]
fn an_older_record_is_refused_and_an_expired_one_is_not_used() {
    assert_eq!(believed(RecordRules::default()), (7, false));
    // Without the rules the attacks succeed.
    let forgetful = RecordRules {
        monotonic: false,
        ..RecordRules::default()
    };
    assert_eq!(believed(forgetful).0, 6);
    let timeless = RecordRules {
        expiry: false,
        ..RecordRules::default()
    };
    assert!(believed(timeless).1);
}

#[test]
fn an_expired_record_still_tells_that_older_ones_are_old() {
    let user = root(1).user();
    let mut cache = RecordCache::new(4);
    cache.offer(&record(7), user, NOW).unwrap();
    let later = NOW + RECORD_LIFETIME_MILLIS + 1;
    let fresh_but_older = Record::issue(
        RecordFields {
            not_after_millis: later + 1000,
            ..fields(6)
        },
        &root(1),
    );
    assert_eq!(
        cache.offer(&fresh_but_older, user, later),
        Err(RecordError::Older)
    );
    assert_eq!(cache.last(user).map(|last| last.fields().seq), Some(7));
    let contradiction = Record::issue(
        RecordFields {
            homes: vec![],
            ..fields(7)
        },
        &root(1),
    );
    assert_eq!(
        cache.offer(&contradiction, user, NOW),
        Err(RecordError::Conflict)
    );
}

#[test]
fn a_cache_is_bounded_and_keeps_what_lasts_longest() {
    let mut cache = RecordCache::new(3);
    for seed in 1..=10 {
        let fields = RecordFields {
            not_after_millis: NOW + u64::from(seed),
            ..fields(1)
        };
        let record = Record::issue(fields, &root(seed));
        assert_eq!(cache.offer(&record, root(seed).user(), NOW), Ok(true));
        assert!(cache.len() <= 3);
    }
    let there: Vec<bool> = (1..=10)
        .map(|seed| cache.last(root(seed).user()).is_some())
        .collect();
    assert_eq!(
        there,
        [
            false, false, false, false, false, false, false, true, true, true
        ]
    );
}

#[test]
fn the_sealed_part_opens_for_contacts_alone() {
    let capability = [5; 32];
    let user = root(1).user();
    let sealed = seal(&capability, user, 3, b"for contacts");
    let record = Record::issue(
        RecordFields {
            sealed,
            ..fields(3)
        },
        &root(1),
    );
    let has = |needle: &[u8]| {
        record
            .as_bytes()
            .windows(needle.len())
            .any(|window| window == needle)
    };
    assert!(!has(b"for contacts"));
    assert_eq!(
        open(&capability, record.fields()).as_deref(),
        Some(&b"for contacts"[..])
    );
    assert_eq!(open(&[6; 32], record.fields()), None);
    let moved = RecordFields {
        seq: 4,
        ..record.fields().clone()
    };
    assert_eq!(open(&capability, &moved), None, "it belongs to its record");
    assert_eq!(open(&capability, &fields(3)), None, "there is none");
}

#[test]
fn what_is_too_long_is_left_out() {
    let long = |last: u8| {
        let node = NodeKeys::from_seed(&[last; 32]).id();
        let label = "a".repeat(60);
        format!("{node}@{label}.{label}.{label}.{label}:4433")
            .parse()
            .unwrap()
    };
    let fields = RecordFields {
        homes: vec![long(1), long(2), long(3), long(4)],
        sealed: vec![1; MAX_SEALED_LEN],
        ..fields(1)
    };
    let record = Record::issue(fields, &root(1));
    assert!(record.as_bytes().len() <= MAX_RECORD_LEN);
    assert_eq!(record.fields().homes, [long(1), long(2)]);
    assert!(record.fields().sealed.is_empty());
    assert_eq!(Record::from_bytes(record.as_bytes()), Ok(record));
}

proptest! {
    #[test]
    fn records_round_trip(
        seed: u8,
        seq: u64,
        not_after_millis: u64,
        n: u64,
        hash: [u8; 32],
        homes in vec(1_u8..250, 0..=MAX_RECORD_HOMES),
        sealed in vec(any::<u8>(), 0..=MAX_SEALED_LEN),
    ) {
        let fields = RecordFields {
            user: root(seed).user(),
            seq,
            not_after_millis,
            log_head: LogPosition { n, hash },
            homes: homes.into_iter().map(home).collect(),
            sealed,
        };
        let record = Record::issue(fields.clone(), &root(seed));
        prop_assert!(record.as_bytes().len() <= MAX_RECORD_LEN);
        prop_assert_eq!(record.fields(), &fields);
        prop_assert_eq!(record.authentic(fields.user), Ok(()));
        prop_assert_eq!(Record::from_bytes(record.as_bytes()), Ok(record));
    }

    #[test]
    fn damage_never_panics_and_never_counts(cut: prop::sample::Index, flip: prop::sample::Index, bit in 0_u8..8) {
        let whole = record(3);
        let bytes = whole.as_bytes();
        prop_assert!(Record::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        let mut changed = bytes.to_vec();
        let at = flip.index(changed.len());
        changed[at] ^= 1 << bit;
        if let Ok(changed) = Record::from_bytes(&changed) {
            prop_assert!(changed.verify(root(1).user(), NOW).is_err());
        }
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..900), versioned: bool) {
        let mut bytes = bytes;
        if versioned && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(record) = Record::from_bytes(&bytes) {
            prop_assert_eq!(record.as_bytes(), bytes);
        }
    }
}

fn signed(n: u8, head: LogPosition) -> Cosigned {
    Cosigned::issue(&NodeKeys::from_seed(&[n; 32]), root(1).user(), head, NOW)
}

#[test]
fn witnesses_of_its_own_head_stand_in_a_record_as_far_as_there_is_room() {
    let head = fields(1).log_head;
    let other = LogPosition { n: 3, ..head };
    let witnesses = [
        signed(1, head),
        signed(2, other),
        signed(1, head),
        signed(3, head),
        signed(4, head),
        signed(5, head),
    ];
    let record = Record::issue_witnessed(fields(1), &witnesses, &root(1));
    let kept = [&witnesses[0], &witnesses[3], &witnesses[4]];
    assert_eq!(record.witnesses().iter().collect::<Vec<_>>(), kept);
    assert_eq!(record.as_bytes().first(), Some(&2));
    assert_eq!(record.verify(root(1).user(), NOW), Ok(()));
    let read = Record::from_bytes(record.as_bytes()).unwrap();
    assert_eq!(read, record);
    assert!(read.witnesses().iter().all(Cosigned::is_authentic));
    // Without any it has the bytes that it always had.
    let without = Record::issue_witnessed(fields(1), &[signed(2, other)], &root(1));
    assert_eq!(without, Record::issue(fields(1), &root(1)));
    // None is no number of witnesses.
    let mut none = fields(1).unsigned(&[]);
    none[0] = 2;
    none.put_u8(0);
    none.put_bytes(&[0; SIGNATURE_LEN]);
    assert_eq!(Record::from_bytes(&none), Err(WireError::Undefined));
    // Homes are more important, and all of it fits.
    let full = RecordFields {
        homes: vec![home(1), home(2), home(3)],
        sealed: vec![1; MAX_SEALED_LEN],
        ..fields(1)
    };
    let record = Record::issue_witnessed(full, &witnesses, &root(1));
    assert_eq!(record.fields().homes.len(), 3);
    assert!(record.as_bytes().len() <= MAX_RECORD_LEN);
    let bare = RecordFields {
        sealed: vec![],
        ..record.fields().clone()
    };
    let record = Record::issue_witnessed(bare, &witnesses, &root(1));
    assert_eq!(
        (record.fields().homes.len(), record.witnesses().len()),
        (3, 3)
    );
}
