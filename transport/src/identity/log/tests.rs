use proptest::prelude::*;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::*;
use crate::identity::{CertificateError, CertificateFields, DeviceCertificate, NodeKeys};

const NOW: u64 = 1_800_000_000_000;

fn root(seed: u8) -> RootKey {
    RootKey::from_seed(&[seed; 32])
}

fn device(seed: u8) -> DeviceKeys {
    DeviceKeys::generate(&mut ChaCha20Rng::from_seed([seed; 32]), NOW)
}

fn add(keys: &DeviceKeys) -> LogOp {
    LogOp::AddDevice {
        device: keys.id(),
        noise_static: keys.noise_public(),
        sealed_name: vec![],
    }
}

fn home(seed: u8) -> NodeAddress {
    NodeAddress::new(
        NodeKeys::from_seed(&[seed; 32]).id(),
        "192.0.2.1:443".parse().unwrap(),
    )
}

/// Root 1; devices 1 (first) and 2 (added by 1); homes set.
fn log() -> DeviceLog {
    let mut log = DeviceLog::create(&root(1), &device(1), NOW);
    log.append(add(&device(2)), LogSigner::Device(&device(1)), NOW + 1)
        .unwrap();
    log.append(
        LogOp::SetHomes(vec![home(1)]),
        LogSigner::Device(&device(2)),
        NOW + 2,
    )
    .unwrap();
    log
}

fn reread(log: &DeviceLog) -> Result<DeviceLog, LogError> {
    DeviceLog::from_bytes(log.user, &log.to_bytes())
}

#[test]
fn a_log_tells_devices_and_homes_at_its_head() {
    let mut log = log();
    let ids = |log: &DeviceLog| {
        log.devices()
            .iter()
            .map(|known| known.device)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&log), [device(1).id(), device(2).id()]);
    assert_eq!(log.homes(), [home(1)]);
    log.append(
        LogOp::RevokeDevice(device(1).id()),
        LogSigner::Device(&device(2)),
        NOW + 3,
    )
    .unwrap();
    assert_eq!(ids(&log), [device(2).id()]);
    assert!(log.was_revoked(device(1).id()));
    assert_eq!(log.head().n, 3);
    assert_eq!(reread(&log).unwrap(), log);
}

#[test]
fn only_those_in_the_set_may_sign() {
    let mut log = log();
    let stranger = device(9);
    assert_eq!(
        log.append(add(&stranger), LogSigner::Device(&stranger), NOW),
        Err(LogError::NotEntitled(3))
    );
    assert_eq!(
        log.append(add(&stranger), LogSigner::Root(&root(9)), NOW),
        Err(LogError::WrongSignature(3))
    );
    log.append(
        LogOp::RevokeDevice(device(2).id()),
        LogSigner::Root(&root(1)),
        NOW + 3,
    )
    .unwrap();
    assert_eq!(
        log.append(add(&stranger), LogSigner::Device(&device(2)), NOW),
        Err(LogError::NotEntitled(4)),
        "a revoked device signs nothing"
    );
    assert_eq!(
        log.append(add(&device(2)), LogSigner::Root(&root(1)), NOW),
        Err(LogError::DeviceKnown(4)),
        "a revoked device does not come back"
    );
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let mut log = log();
    let owner = root(1);
    let by = LogSigner::Root(&owner);
    assert_eq!(
        log.append(add(&device(1)), by, NOW),
        Err(LogError::DeviceKnown(3))
    );
    assert_eq!(
        log.append(LogOp::RevokeDevice(device(9).id()), by, NOW),
        Err(LogError::NoSuchDevice(3))
    );
    assert_eq!(
        log.append(LogOp::SetHomes((0..5).map(home).collect()), by, NOW),
        Err(LogError::Malformed(WireError::TooLong))
    );
    for seed in 3..=16 {
        log.append(add(&device(seed)), by, NOW).unwrap();
    }
    assert_eq!(log.append(add(&device(17)), by, NOW), Err(LogError::Full));
}

#[test]
fn a_log_begins_with_the_root_adding_a_device() {
    let mut log = DeviceLog::empty(root(1).user());
    assert_eq!(reread(&log), Err(LogError::Empty));
    assert_eq!(
        log.append(LogOp::SetHomes(vec![]), LogSigner::Root(&root(1)), NOW),
        Err(LogError::NotEntitled(0))
    );
    assert_eq!(
        log.append(add(&device(1)), LogSigner::Device(&device(1)), NOW),
        Err(LogError::NotEntitled(0))
    );
}

#[test]
fn a_clock_that_is_behind_does_not_break_the_log() {
    let mut log = log();
    log.append(add(&device(3)), LogSigner::Device(&device(1)), 5)
        .unwrap();
    assert_eq!(log.devices()[2].added_at_millis, NOW + 2);
}

#[test]
fn a_new_root_takes_over_with_its_own_consent() {
    let mut log = log();
    let op = log.rotate_root(&root(2));
    let LogOp::RotateRoot { root: new, .. } = op else {
        panic!("another op")
    };
    assert_eq!(
        log.append(op.clone(), LogSigner::Device(&device(1)), NOW),
        Err(LogError::NotEntitled(3)),
        "no device rotates the root"
    );
    assert_eq!(
        log.append(
            LogOp::RotateRoot {
                root: new,
                proof: [0; 64]
            },
            LogSigner::Root(&root(1)),
            NOW
        ),
        Err(LogError::WrongSignature(3)),
        "nobody makes another's key a root"
    );
    log.append(op, LogSigner::Root(&root(1)), NOW + 3).unwrap();
    assert_eq!(log.root(), &root(2).user().0);
    assert_eq!(
        log.append(add(&device(3)), LogSigner::Root(&root(1)), NOW),
        Err(LogError::WrongSignature(4)),
        "the old root is out"
    );
    log.append(add(&device(3)), LogSigner::Root(&root(2)), NOW + 4)
        .unwrap();
    assert_eq!(
        reread(&log).unwrap().user(),
        root(1).user(),
        "the person keeps the name"
    );
}

#[test]
fn certificates_follow_the_log() {
    let mut log = log();
    let user = log.user();
    let fields = CertificateFields::for_device(user, &device(2), log.head(), NOW);
    let by_root = DeviceCertificate::issue_by_root(fields, &root(1));
    let by_itself = DeviceCertificate::issue_by_device(fields, &device(2));
    assert!(by_root.verify_in_log(NOW, user, &log).is_ok());
    assert!(by_itself.verify_in_log(NOW, user, &log).is_ok());

    let op = log.rotate_root(&root(2));
    log.append(op, LogSigner::Root(&root(1)), NOW).unwrap();
    assert_eq!(
        by_root.verify_in_log(NOW, user, &log),
        Err(CertificateError::NotInLog),
        "the old root's word counts no longer"
    );
    let by_new_root = DeviceCertificate::issue_by_root(fields, &root(2));
    assert!(by_new_root.verify_in_log(NOW, user, &log).is_ok());

    log.append(
        LogOp::RevokeDevice(device(2).id()),
        LogSigner::Root(&root(2)),
        NOW,
    )
    .unwrap();
    for certificate in [by_itself, by_new_root] {
        assert_eq!(
            certificate.verify_in_log(NOW, user, &log),
            Err(CertificateError::NotInLog)
        );
    }
}

#[test]
fn extension_rollback_and_claimed_heads_are_recognised() {
    let (old, mut new) = (log(), log());
    assert_eq!(old.compare(&new), LogRelation::Same);
    new.append(add(&device(3)), LogSigner::Root(&root(1)), NOW + 3)
        .unwrap();
    assert_eq!(old.compare(&new), LogRelation::Extends);
    assert_eq!(new.compare(&old), LogRelation::Rollback);
    let stranger = DeviceLog::create(&root(9), &device(9), NOW);
    assert_eq!(old.compare(&stranger), LogRelation::OtherUser);

    assert_eq!(new.check_head(new.head()), HeadCheck::Same);
    assert_eq!(new.check_head(old.head()), HeadCheck::Older);
    assert_eq!(old.check_head(new.head()), HeadCheck::Newer);
    assert_eq!(
        new.check_head(LogPosition {
            n: 2,
            hash: [0; 32]
        }),
        HeadCheck::Conflict
    );
    assert_eq!(
        new.check_head(LogPosition {
            n: u64::MAX,
            hash: [0; 32]
        }),
        HeadCheck::Newer
    );
}

#[test]
fn two_logs_from_one_place_are_a_proof_that_convinces_anybody() {
    let (mut shown_to_bob, mut shown_to_carol) = (log(), log());
    shown_to_bob
        .append(add(&device(3)), LogSigner::Device(&device(1)), NOW + 3)
        .unwrap();
    shown_to_carol
        .append(add(&device(4)), LogSigner::Device(&device(2)), NOW + 3)
        .unwrap();
    shown_to_carol
        .append(add(&device(5)), LogSigner::Device(&device(4)), NOW + 4)
        .unwrap();

    let LogRelation::Fork(proof) = shown_to_bob.compare(&shown_to_carol) else {
        panic!("no fork seen")
    };
    let LogRelation::Fork(same) = shown_to_carol.compare(&shown_to_bob) else {
        panic!("no fork seen")
    };
    assert_eq!(proof, same, "whoever finds it makes the same proof");
    let offline = ForkProof::from_bytes(proof.as_bytes()).unwrap();
    assert_eq!((offline.user(), offline.n()), (root(1).user(), 3));

    for at in 0..proof.as_bytes().len() {
        let mut changed = proof.as_bytes().to_vec();
        changed[at] ^= 1;
        assert!(ForkProof::from_bytes(&changed).is_err(), "byte {at}");
    }
    eprintln!(
        "threat 7: 1 proof of {} bytes verifies offline, none of its alterations does",
        proof.as_bytes().len()
    );
}

#[test]
fn two_first_entries_are_a_fork_too() {
    let one = DeviceLog::create(&root(1), &device(1), NOW);
    let other = DeviceLog::create(&root(1), &device(2), NOW);
    let LogRelation::Fork(proof) = one.compare(&other) else {
        panic!("no fork seen")
    };
    assert_eq!(ForkProof::from_bytes(proof.as_bytes()).unwrap().n(), 0);
}

#[test]
fn a_proof_against_somebody_cannot_be_made_up() {
    let one = log();
    let mut other = log();
    other
        .append(add(&device(3)), LogSigner::Root(&root(1)), NOW + 3)
        .unwrap();
    // The same entry twice.
    let entry = other.entries[3].clone();
    let prefix = one.to_bytes();
    let build = |first: &[u8], second: &[u8]| {
        let mut bytes = vec![VERSION];
        bytes.put_u32(u32::try_from(prefix.len()).unwrap());
        bytes.put_bytes(&prefix);
        for entry in [first, second] {
            bytes.put_u16(u16::try_from(entry.len()).unwrap());
            bytes.put_bytes(entry);
        }
        bytes
    };
    assert_eq!(
        ForkProof::from_bytes(&build(&entry.bytes, &entry.bytes)),
        Err(ForkError::NoFork)
    );
    // An entry that nobody entitled signed.
    let mut forged = entry.bytes.clone();
    forged[60] ^= 1;
    assert_eq!(
        ForkProof::from_bytes(&build(&entry.bytes, &forged)),
        Err(ForkError::Log(LogError::WrongSignature(3)))
    );
}

#[test]
fn every_changed_byte_of_a_log_is_noticed() {
    let log = log();
    let bytes = log.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(
            DeviceLog::from_bytes(log.user, &changed).is_err(),
            "byte {at}"
        );
    }
}

#[test]
fn entries_cannot_be_left_out_or_swapped() {
    let log = log();
    for order in [&[0usize, 2][..], &[0, 2, 1], &[1], &[0, 1, 1]] {
        let mut forged = log.clone();
        forged.entries = order.iter().map(|n| log.entries[*n].clone()).collect();
        assert!(
            matches!(
                reread(&forged),
                Err(LogError::Broken(_) | LogError::NotEntitled(_))
            ),
            "{order:?}"
        );
    }
}

#[test]
fn a_log_holds_no_more_than_its_bound() {
    let mut log = DeviceLog::create(&root(1), &device(1), NOW);
    for _ in 1..MAX_LOG_ENTRIES {
        // Verified one by one elsewhere: here only the count matters.
        log.entries.push(log.entries[0].clone());
    }
    assert_eq!(
        log.append(add(&device(2)), LogSigner::Root(&root(1)), NOW),
        Err(LogError::Full)
    );
}

#[test]
fn the_bytes_stay_what_they_are() {
    let log = log();
    let bytes = log.to_bytes();
    assert_eq!(bytes[0], 1);
    assert_eq!(bytes[1..33], root(1).user().0);
    assert_eq!(bytes[33..35], [0, 3]);
    // Entry 0: length, version, n, previous, time, op.
    assert_eq!(bytes[35..37], [0, 180]);
    assert_eq!(bytes[37], 1);
    assert_eq!(bytes[38..46], [0; 8]);
    assert_eq!(bytes[46..78], [0; 32]);
    assert_eq!(bytes[78..86], NOW.to_be_bytes());
    assert_eq!(bytes[86], 1);
    assert_eq!(bytes[87..119], device(1).id().0);
    assert_eq!(bytes[119..151], device(1).noise_public());
    assert_eq!(bytes[151..153], [0, 0], "no name, signed by the root");
    assert_eq!(
        z32::encode(&log.head().hash),
        "oi3sqizcdc4fdbf49xkpxcg6q8mympdmze5frzs91wmkecydjp8o"
    );
    assert_eq!(
        z32::encode(&Sha256::digest(&bytes)),
        "76rwnj6gr8h4ttbt8okfitf9n4e54gwxchyaxmpssrwabkimpijo"
    );
}

#[derive(Debug, Clone)]
enum TestOp {
    Add(u8),
    Revoke(u8),
    Rotate(u8),
    Homes(u8),
}

fn test_op() -> impl Strategy<Value = TestOp> {
    prop_oneof![
        (1u8..6).prop_map(TestOp::Add),
        (1u8..6).prop_map(TestOp::Revoke),
        (1u8..4).prop_map(TestOp::Rotate),
        (0u8..5).prop_map(TestOp::Homes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is done by whomever: what the log accepts, it reads back to the same state.
    #[test]
    fn logs_round_trip_after_any_history(steps in prop::collection::vec((test_op(), 0u8..9), 0..24)) {
        let mut log = DeviceLog::create(&root(1), &device(1), NOW);
        for (op, signer) in steps {
            let op = match op {
                TestOp::Add(seed) => add(&device(seed)),
                TestOp::Revoke(seed) => LogOp::RevokeDevice(device(seed).id()),
                TestOp::Rotate(seed) => log.rotate_root(&root(seed)),
                TestOp::Homes(count) => LogOp::SetHomes((0..count).map(home).collect()),
            };
            let before = log.head();
            let outcome = match signer {
                0..3 => log.append(op, LogSigner::Root(&root(signer + 1)), NOW),
                _ => log.append(op, LogSigner::Device(&device(signer - 2)), NOW),
            };
            prop_assert_eq!(outcome.is_ok(), log.head() != before);
        }
        let again = reread(&log).unwrap();
        prop_assert_eq!(again.to_bytes(), log.to_bytes());
        prop_assert_eq!(again.devices(), log.devices());
        prop_assert_eq!(again.homes(), log.homes());
        prop_assert_eq!(again.root(), log.root());
    }

    #[test]
    fn garbage_is_no_log(mut bytes in prop::collection::vec(any::<u8>(), 0..400), start in 0usize..500) {
        let whole = log().to_bytes();
        let mut spliced = whole[..start.min(whole.len() - 1)].to_vec();
        spliced.append(&mut bytes.clone());
        prop_assert!(DeviceLog::from_bytes(root(1).user(), &bytes).is_err());
        if spliced != whole {
            prop_assert!(DeviceLog::from_bytes(root(1).user(), &spliced).is_err());
        }
        bytes.insert(0, 1);
        prop_assert!(ForkProof::from_bytes(&bytes).is_err());
    }
}
