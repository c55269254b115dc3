use std::{
    io,
    sync::{Arc, Mutex},
};

use ahoy_transport::identity::{
    DeviceKeys, Invite, RootKey,
    log::{LogOp, LogSigner},
};
use proptest::prelude::*;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use redb::StorageBackend;

use super::*;
use crate::{call::Direction, contacts::tests::contact, profile::Profile, report::Outcome};

const NOW: u64 = 1_800_000_000_000;

fn store() -> (tempfile::TempDir, ProfileLock, Store) {
    let dir = tempfile::tempdir().unwrap();
    let lock = Profile::at(dir.path()).lock().unwrap();
    let store = Store::open(&lock).unwrap();
    (dir, lock, store)
}

fn user(n: u16) -> UserId {
    let mut id = [7; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    UserId(id)
}

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn device(seed: u8) -> DeviceKeys {
    DeviceKeys::generate(&mut rng(seed), NOW)
}

fn root(seed: u8) -> RootKey {
    RootKey::from_seed(&[seed; 32])
}

/// The log of `contact(seed, _)`, with a second device when asked.
fn log(seed: u8, second: Option<u8>) -> DeviceLog {
    let mut log = DeviceLog::create(&root(seed), &device(seed), NOW);
    if let Some(second) = second {
        let keys = device(second);
        let op = LogOp::AddDevice {
            device: keys.id(),
            noise_static: keys.noise_public(),
            sealed_name: vec![],
        };
        log.append(op, LogSigner::Root(&root(seed)), NOW).unwrap();
    }
    log
}

fn call(n: u64) -> CallRecord {
    CallRecord {
        call_id: [u8::try_from(n % 251).unwrap(); 16],
        peer: user(1),
        direction: Direction::Incoming,
        started_at_millis: n,
        duration_millis: 5,
        outcome: Outcome::NoAnswer,
    }
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let (dir, lock, store) = store();
    store.put_contact(&contact(1, "Bo"), NOW).unwrap();
    store.put_contact(&contact(2, "ann"), NOW).unwrap();
    store.block(user(9), NOW).unwrap();
    store.record_call(&call(1)).unwrap();
    store.record_call(&call(2)).unwrap();
    drop((store, lock));
    let lock = Profile::at(dir.path()).lock().unwrap();
    let store = Store::open(&lock).unwrap();
    assert_eq!(
        store.contacts().unwrap(),
        [contact(2, "ann"), contact(1, "Bo")],
        "by name"
    );
    assert_eq!(
        store.contact(contact(1, "").user).unwrap(),
        Some(contact(1, "Bo"))
    );
    assert_eq!(store.blocked().unwrap(), [user(9)]);
    assert_eq!(store.calls(10).unwrap(), [call(2), call(1)], "newest first");
    assert!(store.remove_contact(contact(1, "").user, NOW).unwrap());
    assert!(!store.remove_contact(contact(1, "").user, NOW).unwrap());
}

#[test]
fn a_second_process_is_told_that_the_profile_is_in_use() {
    let (dir, _lock, _store) = store();
    let error = Profile::at(dir.path()).lock().unwrap_err();
    assert!(error.to_string().contains("already running"), "{error}");
    // And should the lock file be gone, the database's own lock still stands.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.path().join("ahoy.redb"))
        .unwrap();
    assert!(matches!(Store::open_file(file), Err(StoreError::InUse)));
}

#[test]
fn a_profile_from_before_conversations_and_records_keeps_what_it_has() {
    let (_dir, lock, store) = store();
    let known = contact(1, "Bo");
    store.put_contact(&known, NOW).unwrap();
    let txn = store.db.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("schema", 1).unwrap();
    for table in [CHAT, RECORDS, NODES] {
        txn.delete_table(table).unwrap();
    }
    txn.commit().unwrap();
    drop(store);
    let store = Store::open(&lock).unwrap();
    assert_eq!(store.contact(known.user).unwrap(), Some(known));
    assert_eq!(store.record(user(1)).unwrap(), None);
    store.change(vec![(vec![1, 2], Some(vec![3]))]).unwrap();
    store
        .change(vec![(vec![1, 3], None), (vec![2], Some(vec![4]))])
        .unwrap();
    drop(store);
    let store = Store::open(&lock).unwrap();
    assert_eq!(store.scan(&[1]), Ok(vec![(vec![1, 2], vec![3])]));
    assert_eq!(store.get(&[2]), Ok(Some(vec![4])));
}

#[test]
fn a_newer_schema_is_named_and_left_alone() {
    let (_dir, lock, store) = store();
    let txn = store.db.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("schema", 3).unwrap();
    txn.commit().unwrap();
    drop(store);
    for _ in 0..2 {
        let error = Store::open(&lock).unwrap_err();
        assert!(matches!(error, StoreError::Newer(3)), "{error}");
        assert!(error.to_string().contains("update ahoy"));
    }
}

#[test]
fn blocking_undoes_a_contact_and_adding_undoes_a_block() {
    let (_dir, _lock, store) = store();
    let bo = contact(1, "Bo");
    store.put_contact(&bo, NOW).unwrap();
    store.block(bo.user, NOW).unwrap();
    assert_eq!(store.contact(bo.user).unwrap(), None);
    store.put_contact(&bo, NOW).unwrap();
    assert!(store.blocked().unwrap().is_empty());
    assert!(!store.unblock(bo.user, NOW).unwrap());
}

#[test]
fn a_flood_of_strangers_fills_only_the_inbox_it_may() {
    let (_dir, _lock, store) = store();
    let mut added = 0;
    for n in 0..200 {
        added +=
            usize::from(store.add_request(user(n), "x", &[], NOW).unwrap() == InboxOutcome::Added);
    }
    assert_eq!(added, MAX_REQUESTS_PER_DAY);
    assert_eq!(
        store.add_request(user(3), "x", &[], NOW + 1).unwrap(),
        InboxOutcome::Updated
    );
    let again = store.requests().unwrap()[0].clone();
    assert_eq!((again.user, again.attempts), (user(3), 2), "newest first");

    for day in 1..=10 {
        for n in 0..30 {
            let stranger = user(1000 + u16::try_from(day).unwrap() * 100 + n);
            store
                .add_request(stranger, "x", &[0; 9000], NOW + day * DAY_MILLIS)
                .unwrap();
        }
        assert!(store.requests().unwrap().len() <= MAX_REQUESTS);
    }
    assert!(
        store
            .requests()
            .unwrap()
            .iter()
            .all(|request| request.log.is_empty()),
        "no log beyond its bound"
    );
    let much_later = NOW + 50 * DAY_MILLIS;
    store
        .add_request(user(1), "\u{202e}Bo ", &[], much_later)
        .unwrap();
    assert_eq!(
        store.requests().unwrap().len(),
        1,
        "the others' time is over"
    );
    assert_eq!(store.requests().unwrap()[0].name, "Bo");
    assert!(store.remove_request(user(1)).unwrap());
}

#[test]
fn a_request_that_becomes_a_contact_leaves_the_inbox_and_pins_its_log() {
    let (_dir, _lock, store) = store();
    let bo = contact(1, "Bo");
    store
        .add_request(bo.user, "Bo", &log(1, None).to_bytes(), NOW)
        .unwrap();
    store.put_contact(&bo, NOW).unwrap();
    assert!(store.requests().unwrap().is_empty());
    assert_eq!(store.pinned_log(bo.user).unwrap(), Some(log(1, None)));
    assert_eq!(
        store.observe_log(&log(1, None), NOW).unwrap(),
        LogObservation::Same
    );
}

#[test]
fn calls_are_remembered_up_to_their_bound() {
    let (_dir, _lock, store) = store();
    let txn = store.db.begin_write().unwrap();
    for n in 0..MAX_CALLS as u64 {
        txn.open_table(CALLS)
            .unwrap()
            .insert(call(n).key().as_slice(), call(n).to_bytes().as_slice())
            .unwrap();
    }
    txn.commit().unwrap();
    store.record_call(&call(5000)).unwrap();
    let calls = store.calls(usize::MAX).unwrap();
    assert_eq!(calls.len(), MAX_CALLS);
    assert_eq!(calls.first(), Some(&call(5000)));
    assert_eq!(calls.last(), Some(&call(1)), "the oldest went");
}

#[test]
fn a_contacts_device_log_only_grows() {
    let (_dir, _lock, store) = store();
    let bo = contact(2, "Bo");
    assert!(matches!(
        store.observe_log(&log(2, None), NOW),
        Err(StoreError::NotAContact)
    ));
    store.put_contact(&bo, NOW).unwrap();
    assert!(
        store
            .contact(bo.user)
            .unwrap()
            .unwrap()
            .verified_at_millis
            .is_some()
    );
    assert_eq!(
        store.observe_log(&log(2, None), NOW).unwrap(),
        LogObservation::First
    );
    assert_eq!(
        store.observe_log(&log(2, Some(5)), NOW).unwrap(),
        LogObservation::Extended
    );
    assert_eq!(
        store.observe_log(&log(2, None), NOW).unwrap(),
        LogObservation::Rollback
    );
    assert_eq!(store.pinned_log(bo.user).unwrap(), Some(log(2, Some(5))));

    let LogObservation::Fork(proof) = store.observe_log(&log(2, Some(6)), NOW).unwrap() else {
        panic!("no fork seen")
    };
    assert_eq!(store.fork(bo.user).unwrap(), Some(proof));
    assert_eq!(
        store.pinned_log(bo.user).unwrap(),
        Some(log(2, Some(5))),
        "what we knew stays"
    );
    assert_eq!(
        store.contact(bo.user).unwrap().unwrap().verified_at_millis,
        None,
        "no longer verified"
    );
    store.forget_log(bo.user).unwrap();
    assert_eq!(
        store.observe_log(&log(2, Some(6)), NOW).unwrap(),
        LogObservation::First
    );
    eprintln!("threat 8: 0 of 1 older log and 0 of 1 fork taken");
}

fn record_of(root: &RootKey, seq: u64, lasts_millis: u64) -> Record {
    use ahoy_nat::discovery::record::RecordFields;
    use ahoy_transport::identity::LogPosition;
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
    Record::issue(fields, root)
}

#[test]
fn a_records_number_never_goes_down_also_after_a_restart() {
    let (_dir, lock, store) = store();
    let (root, user) = (root(1), root(1).user());
    let keep = |store: &Store, seq| {
        store
            .keep_record(&record_of(&root, seq, 1000), user, NOW)
            .unwrap()
    };
    assert_eq!(store.record(user).unwrap(), None);
    assert_eq!(keep(&store, 5), Ok(()));
    assert_eq!(keep(&store, 4), Err(RecordError::Older));
    drop(store);
    let store = Store::open(&lock).unwrap();
    assert_eq!(keep(&store, 4), Err(RecordError::Older));
    let known = store.record(user).unwrap().unwrap();
    assert_eq!(known.fields().seq, 5);
    assert_eq!(keep(&store, 6), Ok(()));
    let forged = store.keep_record(&record_of(&self::root(2), 7, 1000), user, NOW);
    assert_eq!(forged.unwrap(), Err(RecordError::WrongUser));
}

#[test]
fn records_of_people_who_are_no_contacts_make_room() {
    let (_dir, _lock, store) = store();
    let friend = root(1);
    store.put_contact(&contact(1, "Bo"), NOW).unwrap();
    let end = |n: usize| 1000 + u64::try_from(n).unwrap();
    // The friend's ends first, and stays all the same.
    store
        .keep_record(&record_of(&friend, 1, 10), friend.user(), NOW)
        .unwrap()
        .unwrap();
    let stranger = |n: usize| {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        RootKey::from_seed(&seed)
    };
    store
        .write(|txn| {
            let mut records = txn.open_table(RECORDS)?;
            for n in 1..MAX_RECORDS {
                let root = stranger(n);
                let record = record_of(&root, 1, end(n));
                records.insert(root.user().as_bytes().as_slice(), record.as_bytes())?;
            }
            Ok(())
        })
        .unwrap();
    let new = stranger(MAX_RECORDS);
    let record = record_of(&new, 1, end(MAX_RECORDS));
    store
        .keep_record(&record, new.user(), NOW)
        .unwrap()
        .unwrap();
    assert!(store.record(friend.user()).unwrap().is_some());
    assert!(store.record(new.user()).unwrap().is_some());
    assert!(store.record(stranger(1).user()).unwrap().is_none());
    assert!(store.record(stranger(2).user()).unwrap().is_some());
}

#[test]
fn supernodes_are_remembered_and_no_network_fills_the_memory() {
    use ahoy_transport::identity::NodeKeys;
    let (_dir, lock, store) = store();
    let node = |n: u16, network: u8| {
        let mut seed = [3; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        let [high, low] = n.to_be_bytes();
        let id = NodeKeys::from_seed(&seed).id();
        NodeAddress::new(id, ([10, network, high, low], 4433).into())
    };
    let honest = node(0, 0);
    store
        .keep_nodes(std::slice::from_ref(&honest), NOW)
        .unwrap();
    let flood: Vec<NodeAddress> = (1..=600).map(|n| node(n, 1)).collect();
    store.keep_nodes(&flood, NOW + 1).unwrap();
    drop(store);
    let store = Store::open(&lock).unwrap();
    let known = store.nodes().unwrap();
    assert_eq!(known.len(), 1 + MAX_NODES_PER_NETWORK);
    assert_eq!(known.last(), Some(&honest), "it served before the others");
    // Many networks: the last ones count.
    for network in 2..=130 {
        let some: Vec<NodeAddress> = (0..4)
            .map(|n| node(1000 + n + 4 * u16::from(network), network))
            .collect();
        store.keep_nodes(&some, NOW + u64::from(network)).unwrap();
    }
    let known = store.nodes().unwrap();
    assert_eq!(known.len(), MAX_NODES);
    assert!(!known.contains(&honest));
}

#[test]
fn an_invite_counts_until_it_is_revoked_or_expires() {
    let (_dir, _lock, store) = store();
    let own = log(1, None);
    let (guest, guest_device) = (user(5), device(9).id());
    let invite = Invite::issue(own.user(), LogSigner::Root(&root(1)), NOW + 10, &mut rng(4));
    let proof = invite.present(own.user(), guest_device);
    let facts = |now| {
        store
            .caller_facts(guest, guest_device, Some(&proof), &own, now)
            .unwrap()
    };
    assert!(
        facts(NOW).invited,
        "also when another of our devices issued it"
    );
    store
        .put_invite(&IssuedInvite {
            id: invite.id(),
            label: "for Bo".into(),
            created_at_millis: NOW,
            not_after_millis: NOW + 10,
            revoked: false,
        })
        .unwrap();
    assert!(facts(NOW).invited);
    assert!(!facts(NOW + 10).invited, "expired");
    let other = store
        .caller_facts(guest, device(8).id(), Some(&proof), &own, NOW)
        .unwrap();
    assert!(!other.invited, "another device cannot use it");
    assert!(store.revoke_invite(invite.id(), NOW).unwrap());
    assert!(!facts(NOW).invited, "revoked");
    assert_eq!(store.invites().unwrap().len(), 1);
    assert!(!store.revoke_invite([1; 32], NOW).unwrap());
    assert_eq!(
        store.invites().unwrap().len(),
        2,
        "a revocation of an unknown one is remembered"
    );
    let none = store
        .caller_facts(guest, guest_device, None, &own, NOW)
        .unwrap();
    assert_eq!(
        none,
        CallerFacts {
            blocked: false,
            contact: false,
            invited: false
        }
    );
}

/// A disk that remembers every operation, so that a crash can be put between any two.
#[derive(Debug, Clone, Default)]
struct Disk {
    content: Arc<Mutex<Vec<u8>>>,
    log: Arc<Mutex<Vec<DiskOp>>>,
}

#[derive(Debug, Clone)]
enum DiskOp {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

fn apply(content: &mut Vec<u8>, op: &DiskOp) {
    match op {
        DiskOp::Write(offset, data) => {
            let start = usize::try_from(*offset).unwrap();
            if content.len() < start + data.len() {
                content.resize(start + data.len(), 0);
            }
            content[start..start + data.len()].copy_from_slice(data);
        }
        DiskOp::SetLen(len) => content.resize(usize::try_from(*len).unwrap(), 0),
        DiskOp::Sync => {}
    }
}

impl Disk {
    fn with(content: Vec<u8>) -> Self {
        Self {
            content: Arc::new(Mutex::new(content)),
            log: Arc::default(),
        }
    }

    fn push(&self, op: DiskOp) {
        apply(&mut self.content.lock().unwrap(), &op);
        self.log.lock().unwrap().push(op);
    }

    fn store(&self) -> Result<Store, StoreError> {
        let db = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(self.clone())?;
        Store::prepare(db)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.content.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.push(DiskOp::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.push(DiskOp::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.push(DiskOp::Write(offset, data.to_vec()));
        Ok(())
    }
}

type Dump = Vec<Vec<(Vec<u8>, Vec<u8>)>>;

fn dump(store: &Store) -> Dump {
    TABLES
        .iter()
        .map(|table| {
            store
                .list(*table, |key, value| Ok((key.to_vec(), value.to_vec())))
                .unwrap()
        })
        .collect()
}

/// Kills the program at every disk operation of a busy history, losing any part of what was not yet
/// synchronised, and reopens: what is found is the state before or after the change that was under way.
#[test]
fn a_kill_at_any_moment_leaves_the_state_before_or_after() {
    // Making the database itself is not at risk: it takes its name only when it is whole.
    let fresh = Disk::default();
    drop(fresh.store().unwrap());
    let start = fresh.content.lock().unwrap().clone();
    let disk = Disk::with(start.clone());
    let store = disk.store().unwrap();
    // Each state, with the number of disk operations after which it was promised to be durable.
    let mut states: Vec<(usize, Dump)> = vec![(0, vec![vec![]; TABLES.len()])];
    let steps: [&dyn Fn(); 9] = [
        &|| (),
        &|| store.put_contact(&contact(1, "Bo"), NOW).unwrap(),
        &|| {
            assert_eq!(
                store.observe_log(&log(1, None), NOW).unwrap(),
                LogObservation::First
            )
        },
        &|| store.block(user(9), NOW).unwrap(),
        &|| {
            assert_eq!(
                store.add_request(user(3), "x", &[1; 300], NOW).unwrap(),
                InboxOutcome::Added
            )
        },
        &|| store.record_call(&call(1)).unwrap(),
        &|| {
            assert_eq!(
                store.observe_log(&log(1, Some(5)), NOW).unwrap(),
                LogObservation::Extended
            )
        },
        &|| {
            assert!(matches!(
                store.observe_log(&log(1, Some(6)), NOW).unwrap(),
                LogObservation::Fork(_)
            ))
        },
        &|| store.block(contact(1, "").user, NOW).unwrap(),
    ];
    for step in steps {
        step();
        let done = disk.log.lock().unwrap().len();
        states.push((done, dump(&store)));
    }
    let ops = disk.log.lock().unwrap().clone();
    println!("{} disk operations", ops.len());

    let mut coin = rng(42);
    for crash in 0..=ops.len() {
        let synced = ops[..crash]
            .iter()
            .rposition(|op| matches!(op, DiskOp::Sync))
            .unwrap_or(0);
        for attempt in 0..3 {
            let mut content = start.clone();
            for (at, op) in ops[..crash].iter().enumerate() {
                // The first attempt loses nothing: the program was killed, not the machine.
                if at <= synced || attempt == 0 || coin.next_u32().is_multiple_of(2) {
                    apply(&mut content, op);
                }
            }
            let reopened = Disk::with(content).store().unwrap_or_else(|error| {
                panic!("crash after {crash} operations, attempt {attempt}, seed 42: {error}")
            });
            let found = dump(&reopened);
            let promised = states
                .iter()
                .rposition(|(done, _dump)| *done <= crash)
                .unwrap();
            assert!(
                states[promised..]
                    .iter()
                    .take(2)
                    .any(|(_done, dump)| *dump == found),
                "crash after {crash} operations, attempt {attempt}, seed 42"
            );
        }
    }
}

#[test]
fn a_kill_while_the_database_is_made_leaves_no_trace() {
    let fresh = Disk::default();
    drop(fresh.store().unwrap());
    let whole = fresh.content.lock().unwrap().clone();
    let dir = tempfile::tempdir().unwrap();
    let lock = Profile::at(dir.path()).lock().unwrap();
    for cut in [0, 1, 9, 512, 4096, whole.len() / 2, whole.len()] {
        std::fs::write(dir.path().join("ahoy.redb.new"), &whole[..cut]).unwrap();
        let store = Store::open(&lock).unwrap();
        assert!(store.contacts().unwrap().is_empty());
        assert!(!dir.path().join("ahoy.redb.new").exists());
        drop(store);
        std::fs::remove_file(dir.path().join("ahoy.redb")).unwrap();
    }
}

#[test]
fn a_copy_taken_at_any_moment_opens() {
    let (dir, _lock, store) = store();
    for n in 0..5 {
        store.put_contact(&contact(n, "Bo"), NOW).unwrap();
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("ahoy.redb"), copy.path().join("ahoy.redb")).unwrap();
        let lock = Profile::at(copy.path()).lock().unwrap();
        let copied = Store::open(&lock).unwrap();
        assert_eq!(copied.contacts().unwrap().len(), usize::from(n) + 1);
    }
}

proptest! {
    #[test]
    fn invite_records_round_trip(label in "\\PC{0,60}", created: u64, end: u64, revoked: bool, garbage: Vec<u8>) {
        let invite = IssuedInvite { id: [1; 32], label, created_at_millis: created, not_after_millis: end, revoked };
        prop_assert_eq!(IssuedInvite::from_bytes([1; 32], &invite.to_bytes()), Ok(invite));
        if let Ok(read) = IssuedInvite::from_bytes([1; 32], &garbage) {
            prop_assert_eq!(read.to_bytes(), garbage);
        }
    }
}
