//! Homes that throw away what they say they handed on: calls come through all the same, and such a home is found out and
//! replaced. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures, and so may its helpers"
)]

use std::{net::IpAddr, time::Duration};

use ahoy::engine::{
    book::AddressBook as _,
    config::Finding,
    handle::{Anomaly, Command, Event, HomeStanding},
};
use ahoy_nat::discovery::reputation::Reputation;
use ahoy_tests::{
    nosy::Handing,
    pair::secs,
    people::{Home, Phone, Stage},
    threat,
};

const SEED: u64 = 0x0016_0001;
const BAD: [u8; 4] = [203, 0, 113, 9];
const GOOD: [[u8; 4]; 4] = [
    [192, 0, 2, 2],
    [11, 22, 0, 3],
    [45, 33, 0, 4],
    [62, 5, 0, 5],
];
const ALICE: [u8; 4] = [198, 51, 100, 1];
const BOB: [u8; 4] = [5, 9, 100, 2];
/// A home that is not worth its place has to be replaced by then.
const BAR: Duration = Duration::from_secs(10 * 60);
/// A call has to ring by then.
const RINGS: Duration = Duration::from_secs(2);

/// What became of a bad home, and of the calls meanwhile.
#[derive(Debug)]
struct Outcome {
    /// After so long it was found out.
    found: Option<Duration>,
    /// Good homes at the end.
    good: usize,
    slowest: Duration,
    standings: Vec<HomeStanding>,
}

fn standings(phone: &Phone) -> Vec<HomeStanding> {
    phone.engine.view().borrow().standings.clone()
}

/// Bob has a home that hands on like this, and a good one, which knows others. Alice calls him every two minutes.
fn live(seed: u64, handing: Handing, watch: bool) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let bad = stage.choosy_home(handing, "bad", BAD);
        let mut good: Vec<Home> = Vec::new();
        for (n, ip) in GOOD.into_iter().enumerate() {
            let first = good.first().map(|home| home.address.clone());
            let name = format!("good {n}");
            let home = stage.home_with(&name, ip, |config| {
                let peers = first.into_iter().map(ahoy::supernode::Peer);
                config.network.peers = peers.collect();
            });
            good.push(home.await);
        }
        let (alice, bob) = (stage.identity(), stage.identity());
        let finding = || Finding {
            supernodes: true,
            gossip: true,
            ..Finding::default()
        };
        let alice = stage.phone("Alice", ALICE, &alice, &[&good[0], &good[1]], |config| {
            config.finding = finding();
        });
        let bob = stage.phone("Bob", BOB, &bob, &[&bad, &good[0]], |config| {
            config.finding = finding();
            config.upkeep.watch_homes = watch;
        });
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        stage.pass(secs(30)).await;
        let began = stage.now();
        let mut slowest = Duration::ZERO;
        while stage.now() < began + BAR - secs(60) {
            let placed = stage.now();
            alice.call(&bob);
            let rang = bob.rings().await;
            slowest = slowest.max(rang.saturating_sub(placed));
            bob.tell(Command::Accept);
            alice.hears().await;
            stage.pass(secs(6)).await;
            alice.tell(Command::HangUp);
            alice.ends(secs(5)).await;
            stage.pass(secs(110)).await;
        }
        let found = bob.events().into_iter().find_map(|(at, event)| {
            let dishonest = Anomaly::DishonestSupernode;
            let is_it = matches!(event, Event::Anomaly { kind, .. } if kind == dishonest);
            is_it.then(|| at.saturating_sub(began))
        });
        stage.pass(secs(30)).await;
        let standings = standings(&bob);
        let is_bad = |home: &&HomeStanding| home.address.node == bad.address.node;
        let good = standings
            .iter()
            .filter(|home| !is_bad(home) && home.registered);
        if found.is_some() {
            assert!(standings.iter().find(is_bad).is_none_or(|home| home.bad));
            // Nobody who is honest is suspected.
            assert!(
                standings
                    .iter()
                    .filter(|home| !is_bad(home))
                    .all(|home| !home.bad)
            );
            let kept = bob.book.reputation().unwrap();
            let kept = Reputation::from_bytes(&kept).unwrap();
            let score = kept.score(bad.address.node, stage.now_millis());
            assert!(score.is_bad(), "over restarts: {score:?}");
        }
        Outcome {
            found,
            good: good.count(),
            slowest,
            standings,
        }
    };
    stage.world.block_on(director, play).unwrap()
}

/// It is found out and replaced, and calls ring meanwhile; the figures.
fn replaced(what: &str, seed: u64, handing: Handing) -> String {
    let outcome = live(seed, handing, true);
    println!("{what}: {outcome:#?}");
    let found = outcome.found.expect("it is found out");
    assert!(found < BAR && outcome.slowest < RINGS);
    assert!(outcome.good >= 3, "others take its place");
    format!(
        "{what}: found out after {found:?}, the slowest call rang after {:?}",
        outcome.slowest
    )
}

#[test]
fn a_home_that_drops_everything_is_replaced() {
    threat(16, replaced("drops all", SEED, Handing::Nowhere));
}

#[test]
fn a_home_that_drops_half_is_replaced() {
    threat(16, replaced("drops half", SEED + 1, Handing::Half));
}

#[test]
fn a_home_that_drops_one_contacts_calls_is_replaced() {
    let handing = Handing::NotFrom(IpAddr::from(ALICE));
    threat(16, replaced("drops one contact's", SEED + 2, handing));
}

#[test]
fn a_home_that_hands_everything_on_is_kept() {
    let outcome = live(SEED + 3, Handing::On, true);
    println!("{outcome:#?}");
    assert_eq!(outcome.found, None);
    let its = outcome
        .standings
        .iter()
        .filter(|home| home.kept >= 3.0 && !home.bad);
    assert_eq!(its.count(), outcome.standings.len(), "it was looked at");
}

#[test]
fn without_looking_a_home_that_drops_everything_is_kept() {
    let outcome = live(SEED, Handing::Nowhere, false);
    assert_eq!(outcome.found, None);
    assert!(
        outcome.good < 3,
        "it takes the place of a good one: {outcome:?}"
    );
}
