use std::{
    io,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
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
use crate::{
    call::Direction,
    chat::{Content, Line, Message, MessageId},
    contacts::tests::contact,
    passphrase::Cost,
    profile::Profile,
    report::Outcome,
    vault::{NewProtection, Vault},
};

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
        elsewhere: false,
        rating: None,
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
    assert!(matches!(
        Store::open_file(file, Sealer::PLAIN),
        Err(StoreError::InUse)
    ));
}

#[test]
fn a_profile_from_before_conversations_and_records_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let known = contact(1, "Bo");
    let plain = Profile::at(dir.path()).unsealed().lock().unwrap();
    let store = Store::open(&plain).unwrap();
    store.put_contact(&known, NOW).unwrap();
    let txn = store.db.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("schema", 1).unwrap();
    for table in [CHAT, RECORDS, NODES] {
        txn.delete_table(table).unwrap();
    }
    txn.commit().unwrap();
    drop((store, plain));
    let bytes = || std::fs::read(dir.path().join("ahoy.redb")).unwrap();
    let tells = || bytes().windows(2).any(|window| window == b"Bo");
    assert!(tells(), "the same search finds it without a vault");
    let lock = Profile::at(dir.path()).lock().unwrap();
    let store = Store::open(&lock).unwrap();
    assert!(store.sealer.seals());
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
    txn.open_table(META).unwrap().insert("schema", 4).unwrap();
    txn.commit().unwrap();
    drop(store);
    for _ in 0..2 {
        let error = Store::open(&lock).unwrap_err();
        assert!(matches!(error, StoreError::Newer(4)), "{error}");
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
    let full = store.write(|txn| {
        let mut calls = txn.table(CALLS)?;
        for n in 0..MAX_CALLS as u64 {
            calls.insert(&call(n).key(), &call(n).to_bytes())?;
        }
        Ok(())
    });
    full.unwrap();
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
            let mut records = txn.table(RECORDS)?;
            for n in 1..MAX_RECORDS {
                let root = stranger(n);
                let record = record_of(&root, 1, end(n));
                records.insert(root.user().as_bytes(), record.as_bytes())?;
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

/// One for all disks: what one wrote another reads.
static VAULT: LazyLock<Vault> =
    LazyLock::new(|| Vault::create(NewProtection::KeyFile).unwrap().vault);

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
        Store::open_on(self.clone(), Sealer::pending(VAULT.again()))
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
    kill_at_any_moment(false);
}

/// The same where nobody waits for the disk: one of the states, and the last once it is settled.
#[test]
fn a_kill_while_the_disk_lags_behind_leaves_a_state_that_was() {
    kill_at_any_moment(true);
}

fn kill_at_any_moment(behind: bool) {
    // Making the database itself is not at risk: it takes its name only when it is whole.
    let fresh = Disk::default();
    drop(fresh.store().unwrap());
    let start = fresh.content.lock().unwrap().clone();
    let disk = Disk::with(start.clone());
    let store = disk.store().unwrap();
    if behind {
        store.write_behind();
    }
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
        states.push((if behind { 0 } else { done }, dump(&store)));
    }
    store.disk.flush().unwrap();
    if let Some((done, _last)) = states.last_mut() {
        *done = disk.log.lock().unwrap().len();
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
            let promised = if behind && crash < ops.len() {
                0
            } else {
                let is_promised = |(done, _dump): &(usize, Dump)| *done <= crash;
                states.iter().rposition(is_promised).unwrap()
            };
            assert!(
                states[promised..]
                    .iter()
                    .take(if behind { states.len() } else { 2 })
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
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
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

/// Opens the same profile again, as the next run does.
fn again(dir: &Path) -> (ProfileLock, Store) {
    let lock = Profile::at(dir).lock().unwrap();
    let store = Store::open(&lock).unwrap();
    (lock, store)
}

fn message(user: UserId, n: u8, text: &str) -> Message {
    Message {
        id: MessageId([n; 16]),
        user,
        at_millis: NOW + u64::from(n),
        line: Line::Received,
        content: Content::Text(text.into()),
    }
}

#[test]
fn each_record_opens_in_its_place_alone() {
    let (_dir, _lock, store) = store();
    store.put_contact(&contact(1, "Bo"), NOW).unwrap();
    store.put_contact(&contact(2, "Ann"), NOW).unwrap();
    let txn = store.db.begin_write().unwrap();
    {
        let mut contacts = txn.open_table(CONTACTS).unwrap();
        let all: Vec<_> = contacts.iter().unwrap().map(Result::unwrap).collect();
        let (bo, ann) = (all[0].0.value().to_vec(), all[1].1.value().to_vec());
        drop(all);
        contacts.insert(bo.as_slice(), ann.as_slice()).unwrap();
    }
    txn.commit().unwrap();
    let closed = store.contacts().unwrap_err();
    assert!(
        matches!(closed, StoreError::Closed { table: "contacts" }),
        "{closed}"
    );
}

#[test]
fn conversations_are_read_counted_and_forgotten_one_by_one() {
    let (dir, lock, store) = store();
    let book = ChatBook(&store);
    let (bo, ann) = (user(1), user(2));
    for n in 0..20 {
        book.receive(&message(bo, n, "to be forgotten"), false)
            .unwrap();
        book.receive(&message(ann, 100 + n, "to stay"), false)
            .unwrap();
    }
    assert_eq!(book.messages(Some(bo), usize::MAX).unwrap().len(), 20);
    assert_eq!((book.unread(bo), book.unread(ann)), (Ok(20), Ok(20)));
    let all = book.messages(None, usize::MAX).unwrap();
    assert_eq!(all.len(), 40);
    assert!(all.is_sorted_by_key(|message| message.at_millis));

    // Whoever has the database as it was, and the key of the vault, but no key of this conversation.
    let before = std::fs::read(dir.path().join("ahoy.redb")).unwrap();
    let keys = |path: &str| std::fs::read(dir.path().join(path)).unwrap();
    let (all_keys, copy) = (keys("chat.keys"), keys("chat.keys.copy"));
    assert_eq!(all_keys, copy);
    store.block(bo, NOW + 1000).unwrap();
    assert!(book.messages(Some(bo), usize::MAX).unwrap().is_empty());
    assert_eq!(book.unread(ann), Ok(20));
    assert_eq!(keys("chat.keys").len(), all_keys.len() - 48, "one key went");
    drop((store, lock));
    std::fs::write(dir.path().join("ahoy.redb"), &before).unwrap();
    let (lock, store) = again(dir.path());
    assert!(
        store.rescued().is_some(),
        "what was forgotten does not open"
    );
    let book = ChatBook(&store);
    assert!(book.messages(Some(bo), usize::MAX).unwrap().is_empty());
    assert_eq!(book.messages(Some(ann), usize::MAX).unwrap().len(), 20);
    drop((store, lock));
    // The same attack with the key that was wiped.
    std::fs::write(dir.path().join("ahoy.redb"), &before).unwrap();
    std::fs::write(dir.path().join("chat.keys"), &all_keys).unwrap();
    let (_lock, store) = again(dir.path());
    let book = ChatBook(&store);
    assert_eq!(book.messages(Some(bo), usize::MAX).unwrap().len(), 20);
    eprintln!(
        "threat 20: 0 of 20 messages of who was forgotten open, 20 with the key that was wiped"
    );
}

#[test]
fn a_damaged_database_is_set_aside_and_everything_that_can_be_read_is_kept() {
    let mut coin = rng(7);
    let (mut rescued, mut whole) = (0, 0);
    for attempt in 0..60 {
        let (dir, lock, store) = store();
        let people: Vec<Contact> = (1..20).map(|n| contact(n, &format!("P{n:02}"))).collect();
        for person in &people {
            store.put_contact(person, NOW).unwrap();
        }
        let book = ChatBook(&store);
        for n in 0..30 {
            book.receive(&message(people[0].user, n, "hello"), false)
                .unwrap();
        }
        drop((store, lock));
        let path = dir.path().join("ahoy.redb");
        let mut bytes = std::fs::read(&path).unwrap();
        let good = bytes.clone();
        match attempt {
            0 => bytes.clear(),
            1 => bytes.truncate(good.len() / 2),
            2 => bytes.truncate(100),
            3 => bytes.fill(0xa5),
            _ => {
                for _ in 0..1 + coin.next_u32() % 4 {
                    let at = coin.next_u32() as usize % bytes.len();
                    bytes[at] ^= 1 << (coin.next_u32() % 8);
                }
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let (lock, store) = again(dir.path());
        assert_eq!(
            store.contacts().unwrap(),
            people,
            "attempt {attempt}, seed 7"
        );
        match store.rescued() {
            Some(told) => {
                rescued += 1;
                let told = told.to_string();
                assert!(told.contains("ahoy.redb.damaged-20"), "{told}");
                let aside = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
                let aside = aside
                    .filter(|entry| entry.file_name().to_string_lossy().contains(".damaged-"))
                    .map(|entry| std::fs::read(entry.path()).unwrap());
                assert_eq!(aside.collect::<Vec<_>>().len(), 1);
            }
            None => {
                // In a page that nothing uses.
                whole += 1;
                assert_eq!(ChatBook(&store).messages(None, 100).unwrap().len(), 30);
            }
        }
        drop((store, lock));
        let (_lock, store) = again(dir.path());
        assert!(store.rescued().is_none(), "once is enough");
    }
    println!("{rescued} of 60 rescued, {whole} hit nothing");
    assert!(rescued >= 10, "seed 7 hits something");
}

/// What a database says of itself comes first, and may be what is damaged.
#[test]
fn a_database_that_says_something_wrong_of_itself_is_rescued() {
    let (dir, lock, store) = store();
    let ann = contact(1, "Ann");
    store.put_contact(&ann, NOW).unwrap();
    ChatBook(&store)
        .receive(&message(ann.user, 1, "hello"), false)
        .unwrap();
    drop((store, lock));
    let path = dir.path().join("ahoy.redb");
    let good = std::fs::read(&path).unwrap();
    // The keys of conversations that are lost are wiped.
    let keys = ["chat.keys", "chat.keys.copy"].map(|name| dir.path().join(name));
    let key_bytes = keys.each_ref().map(|path| std::fs::read(path).unwrap());
    let mut named = b"schema".to_vec();
    named.extend(SEALED_SCHEMA.to_le_bytes());
    let places = |what: &[u8]| {
        let windows = good.windows(what.len()).enumerate();
        windows
            .filter(|(_at, there)| *there == what)
            .map(|(at, _there)| at)
            .collect::<Vec<_>>()
    };
    // The version of the format in both places for what was committed last, and each byte of what the profile's version is.
    let mut flips: Vec<(Vec<usize>, u8)> = (0..8).map(|bit| (vec![64, 192], 1 << bit)).collect();
    let schemas: Vec<usize> = places(&named).iter().map(|at| at + 6).collect();
    assert!(!schemas.is_empty(), "where it says its version");
    for bit in 0..8 {
        flips.push((schemas.clone(), 1 << bit));
        flips.push((schemas.iter().map(|at| at + 3).collect(), 1 << bit));
    }
    for (at, flip) in flips {
        let mut bytes = good.clone();
        for at in &at {
            bytes[*at] ^= flip;
        }
        std::fs::write(&path, &bytes).unwrap();
        for (path, bytes) in keys.iter().zip(&key_bytes) {
            std::fs::write(path, bytes).unwrap();
        }
        let (lock, store) = again(dir.path());
        let told = store.rescued().map(|told| told.read);
        assert!(told.is_some(), "{at:?} {flip}");
        assert_eq!(store.contacts().unwrap(), std::slice::from_ref(&ann));
        if !at.contains(&64) {
            let said = ChatBook(&store).messages(None, 100).unwrap();
            assert_eq!(said.len(), 1, "{at:?} {flip}: all else is whole");
        }
        drop((store, lock));
    }
}

#[test]
fn everything_is_sealed_anew_or_stays_as_it_was() {
    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
    };
    let (dir, lock, store) = store();
    let profile = Profile::at(dir.path());
    let me = profile.open_or_create(&mut rng(1), NOW).unwrap();
    let bo = contact(1, "Bo");
    store.put_contact(&bo, NOW).unwrap();
    let said = message(bo.user, 1, "hello");
    ChatBook(&store).receive(&said, false).unwrap();
    let settings = Settings {
        name: Some("Ada".into()),
        ..Settings::default()
    };
    settings.save(&profile).unwrap();
    drop(store);
    let expect = |profile: &Profile, lock: &ProfileLock| {
        let store = Store::open(lock).unwrap();
        assert_eq!(store.contacts().unwrap(), std::slice::from_ref(&bo));
        let messages = ChatBook(&store).messages(None, 10).unwrap();
        assert_eq!(messages, std::slice::from_ref(&said));
        assert_eq!(profile.load().unwrap().unwrap().user(), me.user());
        assert_eq!(Settings::load(profile).unwrap(), settings);
    };
    let words = "five words that nobody knows";
    reseal(&lock, NewProtection::Passphrase(words, CHEAP)).unwrap();
    expect(lock.profile(), &lock);
    drop(lock);

    assert!(!dir.path().join("vault.key").exists());
    let locked = Profile::at(dir.path());
    assert!(locked.is_locked().unwrap());
    assert!(matches!(locked.load(), Err(ProfileError::Locked)));
    let wrong = locked.unlock("five words that somebody knows");
    assert!(matches!(wrong, Err(ProfileError::WrongPassphrase)));
    assert!(locked.is_locked().unwrap());
    locked.unlock(words).unwrap();
    let lock = locked.lock().unwrap();
    expect(&locked, &lock);
    let others = "other words that nobody knows";
    reseal(&lock, NewProtection::Passphrase(others, CHEAP)).unwrap();
    drop(lock);
    let locked = Profile::at(dir.path());
    assert!(locked.unlock(words).is_err(), "the old one opens nothing");
    locked.unlock(others).unwrap();
    let lock = locked.lock().unwrap();
    expect(&locked, &lock);
    let short = reseal(&lock, NewProtection::Passphrase("short", CHEAP)).unwrap_err();
    assert!(short.to_string().contains("too short"), "{short}");
    reseal(&lock, NewProtection::KeyFile).unwrap();
    drop(lock);
    let open = Profile::at(dir.path());
    assert!(!open.is_locked().unwrap());
    expect(&open, &open.lock().unwrap());
}

#[test]
#[ignore = "tells how long it takes: cargo test --release --lib -- --ignored --nocapture ten_thousand_messages"]
#[expect(clippy::disallowed_methods, reason = "tells how long it takes")]
fn ten_thousand_messages_are_opened_and_read() {
    use std::time::Instant;

    let (dir, lock, store) = store();
    let people: Vec<Contact> = (1..101).map(|n| contact(n, &format!("P{n:03}"))).collect();
    for person in &people {
        store.put_contact(person, NOW).unwrap();
    }
    // Through a shelf in memory, and from there in one go: each alone waits for the disk.
    let shelf = shelf::MemoryShelf::default();
    for n in 0..10_000_u64 {
        let user = people[n as usize % people.len()].user;
        let mut one = message(
            user,
            0,
            "a message as long as most of them are, more or less",
        );
        one.id.0[..8].copy_from_slice(&n.to_be_bytes());
        one.at_millis += n;
        ChatBook(&shelf).receive(&one, false).unwrap();
    }
    let all = shelf.scan(&[]).unwrap().into_iter();
    let said = all.map(|(key, value)| ("chat".to_owned(), key, value));
    let mut items = store.items().unwrap();
    items.extend(said);
    store.replace_items(&items).unwrap();
    drop((store, lock));
    let size = std::fs::metadata(dir.path().join("ahoy.redb"))
        .unwrap()
        .len();
    let began = Instant::now();
    let (_lock, store) = again(dir.path());
    let opened = began.elapsed();
    let began = Instant::now();
    assert_eq!(
        ChatBook(&store).messages(None, usize::MAX).unwrap().len(),
        10_000
    );
    let read = began.elapsed();
    println!("{size} bytes: opened and checked in {opened:?}, all messages read in {read:?}");
}
