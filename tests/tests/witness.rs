//! Supernodes as witnesses of device lists: whoever makes a second list with stolen keys is found out by the owner, and by
//! those who call. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use ahoy::{
    engine::{
        book::AddressBook,
        config::EngineConfig,
        handle::{Anomaly, Command, Event},
        witness::read_witnesses,
    },
    sim::Conditions,
};
use ahoy_tests::{
    pair::secs,
    people::{Home, Phone, Stage},
    threat,
};
use ahoy_transport::identity::NodeAddress;

const SEED: u64 = 0x0007_0001;
const HOMES: [[u8; 4]; 3] = [[203, 0, 113, 1], [192, 0, 2, 2], [11, 22, 0, 3]];
const ALICE: [u8; 4] = [198, 51, 100, 1];
const THIEF: [u8; 4] = [198, 51, 100, 66];
const BOB: [u8; 4] = [5, 9, 100, 2];
/// Homes are registered at anew by then.
const RENEWED: Duration = Duration::from_secs(31 * 60);

fn told(phone: &Phone) -> bool {
    phone.events().into_iter().any(
        |(_at, event)| matches!(event, Event::Anomaly { kind, .. } if kind == Anomaly::ForkedList),
    )
}

/// Somebody has Alice's keys from before she added a device, and adds one of their own. Whether Alice hears of it, and Bob,
/// who calls her and knows nothing of her devices.
fn forked(seed: u64, witnesses: bool) -> (bool, bool, usize) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let mut homes: Vec<Home> = Vec::new();
        for (n, ip) in HOMES.into_iter().enumerate() {
            let name = format!("home {n}");
            homes.push(if witnesses {
                stage.home(&name, ip).await
            } else {
                stage.nosy_home(&name, ip).0
            });
        }
        let homes: Vec<&Home> = homes.iter().collect();
        let mut alice = stage.identity();
        let mut stolen = alice.clone();
        let _tablet = stage.second_device(&mut alice);
        let thief = stage.second_device(&mut stolen);
        let bob = stage.identity();
        let alice = stage.phone("Alice", ALICE, &alice, &homes, |_config| {});
        alice.ready().await;
        stage.pass(secs(5)).await;
        let signed = read_witnesses(&alice.book.witnesses());
        for signed in &signed {
            assert_eq!((signed.user(), signed.head().n), (alice.user, 1));
        }
        // The thief is at one of her homes.
        let _thief = stage.phone("Thief", THIEF, &thief, &homes[..1], |_config| {});
        stage.pass(secs(5)).await;
        let bob = stage.phone("Bob", BOB, &bob, &homes[1..], |_config| {});
        bob.ready().await;
        bob.call(&alice);
        stage.pass(secs(5)).await;
        bob.tell(Command::HangUp);
        bob.ends(secs(5)).await;
        let bobs = told(&bob);
        stage.pass(RENEWED).await;
        if witnesses {
            let refused: u64 = homes
                .iter()
                .map(|home| home.status().rendezvous.witness.forked)
                .sum();
            assert!(refused >= 1, "it is not signed");
        }
        (told(&alice), bobs, signed.len())
    };
    stage.world.block_on(director, play).unwrap()
}

#[test]
fn a_second_list_is_refused_and_both_who_own_and_who_call_are_told() {
    let (alice, bob, signed) = forked(SEED, true);
    println!("Alice told: {alice}, Bob told: {bob}, {signed} witnesses");
    assert_eq!(signed, 3, "one of each network");
    assert!(alice, "by the home that has seen both");
    assert!(bob, "in his first call");
    threat(
        7,
        "witnesses: 3 of different networks sign; a second list is refused, its owner and a first caller are told",
    );
}

#[test]
fn without_witnesses_neither_hears_of_it() {
    let (alice, bob, signed) = forked(SEED, false);
    assert_eq!((alice, bob, signed), (false, false, 0));
}

/// Where the thief's own supernode is.
const THIEFS_HOME: [u8; 4] = [45, 9, 0, 1];
const BOBS_HOME: [u8; 4] = [62, 9, 0, 1];

/// What Bob met who calls Alice by her name alone and never did before, while a thief of her key shows another device list, a
/// supernode of the thief's own and a newer record that leads there.
#[derive(Debug)]
struct Split {
    /// How many supernodes signed the end of the list that Alice's record speaks of.
    countersigned: usize,
    /// Whether the newest record of all is the thief's.
    thiefs_is_newest: bool,
    /// Bob's call went to the thief's device. It does so all the same: Bob has nothing else to go by, and is warned.
    reached_the_thief: bool,
    doubted: bool,
}

fn split_view(seed: u64, witnesses: bool) -> Split {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let mut homes: Vec<Home> = Vec::new();
        for (n, ip) in HOMES.into_iter().enumerate() {
            homes.push(stage.home(&format!("home {n}"), ip).await);
        }
        let homes: Vec<&Home> = homes.iter().collect();
        let thiefs_home = stage.home("thief's home", THIEFS_HOME).await;
        let finding = |config: &mut EngineConfig| {
            config.finding.supernodes = true;
            config.finding.witnesses = witnesses;
        };
        let mut alice = stage.identity();
        let mut stolen = alice.clone();
        let _tablet = stage.second_device(&mut alice);
        let thief = stage.second_device(&mut stolen);
        let alice = stage.phone("Alice", ALICE, &alice, &homes, finding);
        alice.ready().await;
        stage.pass(secs(60)).await;
        // The thief leaves the record where the own supernode is, and no other keeps it from those who look there.
        let thief = stage.phone("Thief", THIEF, &thief, &[&thiefs_home], finding);
        thief.ready().await;
        stage.pass(secs(60)).await;
        let record = |phone: &Phone| phone.book.known_record(phone.user).unwrap();
        let (honest, theirs) = (record(&alice), record(&thief));
        // The thief's supernode is the first to answer.
        for home in &homes {
            let far = Conditions::with_delay(Duration::from_millis(300));
            stage.world.set_link(home.node, far);
        }

        let bob = stage.identity();
        // Neither of them is at his home.
        let bobs_home = stage.home("Bob's home", BOBS_HOME).await;
        let bob = stage.phone("Bob", BOB, &bob, &[&bobs_home], finding);
        let known = homes.iter().copied().chain([&thiefs_home]);
        let known: Vec<NodeAddress> = known.map(|home| home.address.clone()).collect();
        bob.book.keep_nodes(&known, stage.now_millis());
        bob.ready().await;
        bob.tell(Command::Call(format!("ahoy:{}", alice.user)));
        stage.pass(secs(20)).await;
        let rang = |phone: &Phone| {
            let events = phone.events().into_iter();
            let requests = events.filter(|(_at, event)| matches!(event, Event::Request { .. }));
            requests.count() > 0
        };
        let events = bob.events();
        let doubted = events.iter().any(|(_at, event)| {
            matches!(event, Event::Anomaly { kind, .. } if *kind == Anomaly::DoubtfulList)
        });
        Split {
            countersigned: honest.witnesses().len(),
            thiefs_is_newest: theirs.fields().seq > honest.fields().seq,
            reached_the_thief: rang(&thief),
            doubted,
        }
    };
    stage.world.block_on(director, play).unwrap()
}

/// Whoever is led to the thief by the newer record hears of it exactly where records are countersigned.
fn is_told_of_two_lists(countersign: bool, networks: usize) -> Split {
    let split = split_view(SEED + 1, countersign);
    assert_eq!(split.countersigned, networks, "{split:?}");
    assert!(
        split.thiefs_is_newest && split.reached_the_thief,
        "{split:?}"
    );
    assert_eq!(split.doubted, countersign, "{split:?}");
    split
}

#[test]
fn two_device_lists_of_one_person_are_told_by_what_supernodes_signed() {
    println!("{:?}", is_told_of_two_lists(true, 3));
    threat(
        7,
        "a first caller who is shown a thief's newer record is told: 3 networks of witnesses signed the other list",
    );
}

#[test]
fn without_countersigned_records_nobody_notices() {
    println!("{:?}", is_told_of_two_lists(false, 0));
}
