//! Several devices of one person tell each other what they are to know, through homes that hold nothing but sealed
//! letters. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::convert::Infallible;

use ahoy::{
    call::{Ending, Unreachable},
    chat::book::ChatBook,
    engine::{
        book::AddressBook,
        handle::{Command, Event},
    },
    identity::Identity,
    report::Outcome,
    sim::Limits,
};
use ahoy_nat::{
    discovery::record::{RECORD_LIFETIME_MILLIS, Record, RecordFields},
    supernode::mailbox::MailCapability,
};
use ahoy_tests::{
    device::Device,
    pair::{ALICE, BOB, CAROL, HOME, SOON, secs},
    people::{Phone, Stage},
    threat,
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::{DeviceSet as _, UserId, log::LogOp},
};

const SEED: u64 = 0x6f77_6e64;
/// The engine looks every five seconds, and a letter takes less than one.
const TOLD: u64 = 8;

fn play(seed: u64, play: impl AsyncFnOnce(&Stage)) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + seed, folder.path());
    // A device is off for hours.
    stage.world.set_limits(Limits {
        time: secs(12 * 3600),
        ..Limits::default()
    });
    let director = stage.director;
    stage.world.block_on(director, play(&stage)).unwrap();
}

fn stranger(n: u8) -> UserId {
    UserId([n; 32])
}

fn names(phone: &Phone) -> Vec<String> {
    let mut names: Vec<String> = phone
        .book
        .contacts()
        .into_iter()
        .map(|contact| contact.name)
        .collect();
    names.sort();
    names
}

/// What an app does with its identity, but for the disk.
fn keep(phone: &Phone, identity: &Identity) {
    let name = phone.name.clone();
    let save = |_identity: &Identity| Ok::<_, Infallible>(());
    phone.engine.renewer().keep(identity.clone(), name, save);
}

#[test]
fn what_one_device_learns_the_other_knows_when_it_comes_online() {
    play(1, async |stage| {
        let home = stage.home("home", HOME).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let desk = stage.phone("desk", BOB, &first, &[&home], |_| {});
        let pocket = stage.phone("pocket", CAROL, &second, &[&home], |_| {});
        desk.ready().await;
        pocket.ready().await;
        stage.pass(secs(2)).await;
        stage.switch_off(&pocket);
        let now = || stage.now_millis();
        for n in 1..=60 {
            let name = format!("Friend {n:02}");
            assert!(desk.book.note_contact(stranger(n), &name, now()));
        }
        stage.pass(secs(TOLD)).await;
        assert!(desk.book.note_contact(stranger(1), "Renamed", now()));
        assert!(desk.book.note_block(stranger(2), now()));
        stage.pass(secs(TOLD)).await;
        assert_eq!(names(&pocket).len(), 0, "it is off");
        let pocket = stage.switch_on(&pocket, &second, &[&home]);
        pocket.ready().await;
        stage.pass(secs(TOLD)).await;
        assert_eq!(names(&pocket), names(&desk));
        assert_eq!(names(&pocket).len(), 59);
        assert!(names(&pocket).contains(&"Renamed".to_owned()));
        assert!(pocket.book.is_blocked(stranger(2)));
        // And back, both on.
        assert!(pocket.book.note_contact(stranger(2), "Forgiven", now()));
        stage.pass(secs(TOLD)).await;
        assert!(names(&desk).contains(&"Forgiven".to_owned()));
        assert!(!desk.book.is_blocked(stranger(2)));
    });
}

#[test]
fn nobody_but_an_own_device_is_believed_about_contacts() {
    play(2, async |stage| {
        let home = stage.home("home", HOME).await;
        let bobs = stage.identity();
        let bob = stage.phone("Bob", BOB, &bobs, &[&home], |_| {});
        let mallory = stage.phone("Mallory", CAROL, &stage.identity(), &[&home], |_| {});
        bob.befriend(&mallory);
        bob.ready().await;
        mallory.ready().await;
        // A letter of that kind from a contact: Mallory takes Bob for a device of her own.
        let shared = ahoy::chat::note::Note {
            written_at_millis: stage.now_millis(),
            name: String::new(),
            invite: Vec::new(),
            capability: None,
            homes: Vec::new(),
            says: ahoy::chat::note::Says::Shared({
                let entry = ahoy::sync::Entry {
                    field: ahoy::sync::Field::Standing,
                    user: mallory.user,
                    stamp: stage.now_millis(),
                    value: vec![2],
                };
                let mut bytes = Vec::new();
                entry.put(&mut bytes);
                bytes
            }),
        };
        let entry = ahoy::chat::outbox::Outgoing::new(
            ahoy::chat::MessageId([1; 16]),
            bob.user,
            None,
            stage.now_millis(),
            shared.encode(),
            vec![home.address.clone()],
        );
        let book = ChatBook(mallory.book.shelf());
        book.put_outgoing(&entry).unwrap();
        stage.switch_off(&mallory);
        stage.pass(secs(1)).await;
        let again = Identity::clone(&stage.identity());
        // She is another person by now; what lay in her outbox goes all the same.
        let _mallory = stage.switch_on(&mallory, &again, &[&home]);
        stage.pass(secs(TOLD)).await;
        assert_eq!(names(&bob), ["Mallory"]);
        assert!(!bob.book.is_blocked(mallory.user));
    });
}

/// Bob's desk turns a call away, or takes it: what do the recent calls of his pocket say?
fn turn_away(seed: u64, accepts: bool) -> (Ending, Outcome, bool) {
    let mut told = None;
    play(seed, async |stage| {
        let home = stage.home("home", HOME).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let alice = stage.phone("Alice", ALICE, &stage.identity(), &[&home], |_| {});
        let desk = stage.phone("desk", BOB, &first, &[&home], |_| {});
        let pocket = stage.phone("pocket", CAROL, &second, &[&home], |_| {});
        for phone in [&desk, &pocket] {
            phone.book.add_contact(alice.user, "Alice");
        }
        for phone in [&alice, &desk, &pocket] {
            phone.ready().await;
        }
        alice.call(&desk);
        desk.rings().await;
        pocket.rings().await;
        desk.tell(if accepts {
            Command::Accept
        } else {
            Command::Decline
        });
        let ended = pocket.ends(SOON).await;
        let view = pocket.engine.view().borrow().clone();
        let recent = view.recents.first().unwrap();
        assert!(!recent.is_missed());
        told = Some((ended.ending, recent.outcome, recent.elsewhere));
        if accepts {
            alice.hears().await;
        }
    });
    told.unwrap()
}

#[test]
fn a_call_that_another_device_took_or_turned_away_is_shown_as_such() {
    assert_eq!(
        turn_away(6, false),
        (Ending::DeclinedElsewhere, Outcome::Declined, true)
    );
    assert_eq!(
        turn_away(7, true),
        (Ending::AnsweredElsewhere, Outcome::Completed, true)
    );
}

/// Whether a letter counts as a contact's that is marked with what a lost device knows: before that was taken out, and after; and
/// one that is marked with what its person tells contacts since.
fn marks_of_a_lost_device(seed: u64) -> [bool; 3] {
    let mut told = None;
    play(seed, async |stage| {
        let home = stage.home("home", HOME).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let desk = stage.phone("desk", BOB, &first, &[&home], |_| {});
        keep(&desk, &first);
        desk.ready().await;
        stage.pass(secs(2)).await;
        let node = stage.world.add_node("thief", &[CAROL.into()]);
        let thief = Device::new(stage.world.runtime(node));
        let dialled = thief.dial(home.address.node, home.addr, NodeAuth::Anonymous);
        let client = dialled.await.unwrap();
        let owner = (desk.user, first.device().id());
        let leave = async |capability: &MailCapability, n: u8| {
            let envelope = vec![n; 600];
            let mark = capability.at(home.address.node).mark(owner, &envelope);
            client.leave(owner, Some(mark), envelope).await.unwrap()
        };
        let known = ChatBook(desk.book.shelf()).drawn_capability();
        let known = known.unwrap().unwrap();
        let before = leave(&known, 1).await;
        let changed = MailCapability::from_bytes([9; 32]);
        let change = ChatBook::capability_set(&changed);
        desk.book.shelf().change(vec![change]).unwrap();
        let now_millis = stage.now_millis();
        let op = LogOp::RevokeDevice(second.device().id());
        let renewer = desk.engine.renewer();
        let revoked = renewer.change(|identity| identity.append(op, now_millis));
        revoked.unwrap();
        stage.pass(secs(5)).await;
        told = Some([before, leave(&known, 2).await, leave(&changed, 3).await]);
    });
    told.unwrap()
}

#[test]
fn a_lost_device_counts_as_no_contact_from_its_revocation_on() {
    assert_eq!(marks_of_a_lost_device(20), [true, false, true]);
}

/// Bob's pocket is stolen. His desk takes it out of the log, or does not; how do the thief's calls end?
fn steal(seed: u64, revoked: bool) -> (Ending, bool) {
    let mut told = None;
    play(seed, async |stage| {
        let home = stage.home("home", HOME).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let alice = stage.phone("Alice", ALICE, &stage.identity(), &[&home], |_| {});
        let desk = stage.phone("desk", BOB, &first, &[&home], |_| {});
        let pocket = stage.phone("pocket", CAROL, &second, &[&home], |_| {});
        keep(&desk, &first);
        keep(&pocket, &second);
        alice.book.add_contact(desk.user, "Bob");
        desk.book.add_contact(alice.user, "Alice");
        pocket.book.add_contact(alice.user, "Alice");
        for phone in [&alice, &desk, &pocket] {
            phone.ready().await;
        }
        if revoked {
            let now_millis = stage.now_millis();
            let op = LogOp::RevokeDevice(second.device().id());
            let changed = desk
                .engine
                .renewer()
                .change(|identity| identity.append(op, now_millis));
            changed.unwrap();
            stage.pass(secs(TOLD)).await;
        }
        // Alice calls Bob: by that she learns of it, and the pocket does not ring.
        alice.call(&desk);
        desk.rings().await;
        stage.pass(secs(1)).await;
        let pocket_rang = pocket
            .events()
            .iter()
            .any(|(_at, event)| matches!(event, Event::Incoming { .. }));
        alice.tell(Command::HangUp);
        alice.ends(SOON).await;
        desk.ends(SOON).await;
        // The thief calls her.
        pocket.call(&alice);
        stage.pass(secs(3)).await;
        let rang = alice
            .events()
            .iter()
            .any(|(_at, event)| matches!(event, Event::Incoming { .. }));
        assert_eq!(rang, !revoked, "Alice's telephone");
        pocket.tell(Command::HangUp);
        let theirs = pocket.ends(SOON).await.ending;
        let known = alice.book.known_log(desk.user).unwrap();
        assert_eq!(known.was_revoked(second.device().id()), revoked);
        let keys = second.device();
        assert_eq!(known.has_device(keys.id(), &keys.noise_public()), !revoked);
        told = Some((theirs, pocket_rang));
    });
    told.unwrap()
}

#[test]
fn a_stolen_device_that_was_taken_out_reaches_nobody_and_is_not_reached() {
    let (theirs, pocket_rang) = steal(3, true);
    assert!(!pocket_rang);
    assert!(
        matches!(
            theirs,
            Ending::Cancelled { .. } | Ending::NoAnswer | Ending::Unreachable(Unreachable::NoRoute)
        ),
        "{theirs:?}"
    );
    threat(
        21,
        "a revoked device rings nobody who was told by its owner's next call, and no home takes it",
    );
}

/// The thief's device stays at a home that nobody tells; Alice, who never saw a log of Bob's, asks both homes.
#[test]
fn a_home_that_was_not_told_does_not_make_a_lost_device_ring() {
    play(4, async |stage| {
        let told = stage.home("told", HOME).await;
        let other = stage.home("other", [192, 0, 2, 2]).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let alice = stage.phone("Alice", ALICE, &stage.identity(), &[&told], |_| {});
        let mut link = ahoy::link::PersonLink::new(first.user());
        link.homes = vec![told.address.clone(), other.address.clone()];
        let pocket = stage.phone("pocket", CAROL, &second, &[&other], |_| {});
        let now_millis = stage.now_millis();
        let op = LogOp::RevokeDevice(second.device().id());
        first.append(op, now_millis).unwrap();
        let desk = stage.phone("desk", BOB, &first, &[&told], |_| {});
        desk.book.add_contact(alice.user, "Alice");
        pocket.book.add_contact(alice.user, "Alice");
        for phone in [&alice, &desk, &pocket] {
            phone.ready().await;
        }
        alice.tell(Command::Call(link.to_string()));
        desk.rings().await;
        stage.pass(secs(2)).await;
        let ends = pocket.events().into_iter().filter_map(|(at, event)| {
            if let Event::Incoming { .. } = event {
                return Some((at, true));
            }
            matches!(event, Event::Ended { .. }).then_some((at, false))
        });
        let rang: Vec<_> = ends.collect();
        // It may ring for the moment in which the other home had not answered yet.
        assert!(rang.len() != 1, "it rings on: {rang:?}");
        desk.tell(Command::Accept);
        alice.hears().await;
        alice.tell(Command::HangUp);
        assert!(matches!(
            alice.ends(SOON).await.ending,
            Ending::Completed { .. }
        ));
    });
}

/// Bob's desk took the pocket out, left its record, and is off. The thief's device is at a home that nobody told, with the
/// list from before. Does it ring when Alice calls Bob?
fn call_behind_a_record(seed: u64, heads: bool) -> (bool, Ending) {
    let mut told = None;
    play(seed, async |stage| {
        let home = stage.home("home", HOME).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let alice = stage.phone("Alice", ALICE, &stage.identity(), &[&home], |config| {
            config.finding.heads = heads;
        });
        let pocket = stage.phone("pocket", CAROL, &second, &[&home], |_| {});
        alice.book.add_contact(pocket.user, "Bob");
        pocket.book.add_contact(alice.user, "Alice");
        let now_millis = stage.now_millis();
        let op = LogOp::RevokeDevice(second.device().id());
        first.append(op, now_millis).unwrap();
        let fields = RecordFields {
            user: first.user(),
            seq: now_millis,
            not_after_millis: now_millis + RECORD_LIFETIME_MILLIS,
            log_head: first.log().head(),
            homes: vec![home.address.clone()],
            sealed: Vec::new(),
        };
        let record = Record::issue(fields, first.root().unwrap());
        alice.book.keep_record(&record, now_millis);
        for phone in [&alice, &pocket] {
            phone.ready().await;
        }
        alice.call(&pocket);
        stage.pass(secs(4)).await;
        let rang = pocket
            .events()
            .iter()
            .any(|(_at, event)| matches!(event, Event::Incoming { .. }));
        alice.tell(Command::HangUp);
        told = Some((rang, alice.ends(SOON).await.ending));
    });
    told.unwrap()
}

#[test]
fn a_list_that_ends_before_the_persons_record_says_so_is_not_enough() {
    let (rang, ending) = call_behind_a_record(5, true);
    assert!(!rang);
    assert_eq!(ending, Ending::Unreachable(Unreachable::Offline));
    threat(
        8,
        "a device list older than the head in the person's record leads to no device",
    );
}

#[test]
fn without_the_records_head_a_stolen_device_rings() {
    let (rang, _ending) = call_behind_a_record(5, false);
    assert!(rang);
}

#[test]
fn a_stolen_device_that_nobody_took_out_calls_and_is_called() {
    let (_theirs, pocket_rang) = steal(3, false);
    assert!(pocket_rang);
}

/// Bob's desk, which holds his key, goes off for hours, and the supernodes forget what they held. His pocket, which does not hold
/// it, stays on. Whether Carol, who knows his key alone, reaches him.
fn hours_without_the_key(seed: u64, hand_on: bool) -> bool {
    let mut rang = false;
    play(seed, async |stage| {
        let home = stage.home("home", HOME).await;
        let directory = stage.home("directory", [192, 0, 2, 77]).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let known = [directory.address.clone()];
        let millis = stage.now_millis();
        let phone = |name, ip, identity: &Identity, at, signs: bool| {
            let phone = stage.phone(name, ip, identity, &[at], |config| {
                config.finding.supernodes = true;
                config.finding.hand_on = hand_on;
                if !signs {
                    config.me.root = None;
                }
            });
            phone.book.keep_nodes(&known, millis);
            phone
        };
        let desk = phone("desk", BOB, &first, &home, true);
        let pocket = phone("pocket", CAROL, &second, &home, false);
        desk.ready().await;
        pocket.ready().await;
        stage.pass(secs(60)).await;
        stage.switch_off(&desk);
        stage.pass(secs(4 * 3600)).await;
        for node in [&home, &directory] {
            stage.kill(node);
            stage.restart(node).await;
        }
        stage.pass(secs(2 * 3600)).await;
        let carol = phone("Carol", ALICE, &stage.identity(), &directory, true);
        carol.ready().await;
        carol.befriend(&pocket);
        carol.tell(Command::Call(format!("ahoy:{}", pocket.user)));
        let ending = carol.wait("ringing, or the end", secs(60), |event| {
            if matches!(event, Event::Ended { .. }) {
                return Some(false);
            }
            matches!(event, Event::Ringing { .. }).then_some(true)
        });
        rang = ending.await.1;
    });
    rang
}

#[test]
fn a_device_without_the_key_keeps_its_person_findable() {
    assert!(hours_without_the_key(9, true));
}

#[test]
fn without_a_record_handed_on_nobody_finds_a_device_without_the_key() {
    assert!(!hours_without_the_key(9, false));
}
