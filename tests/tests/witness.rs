//! Supernodes as witnesses of device lists: whoever makes a second list with stolen keys is found out by the owner, and by
//! those who call. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use ahoy::engine::{
    handle::{Anomaly, Command, Event},
    witness::read_witnesses,
};
use ahoy_tests::{
    pair::secs,
    people::{Home, Phone, Stage},
    threat,
};

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
