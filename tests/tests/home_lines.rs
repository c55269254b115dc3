//! Homes whose lines are bad are left for better ones, as measured; and none is where all are alike. Virtual time, shipped engine and
//! supernodes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use ahoy::{
    engine::config::Finding,
    sim::{Conditions, Limits, Loss},
    supernode::Peer,
};
use ahoy_nat::discovery::homes::WANTED;
use ahoy_tests::people::{ACCESS, Home, Phone, Stage};
use ahoy_transport::identity::NodeId;

const SEED: u64 = 0x006c_696e;
const NODES: [[u8; 4]; 6] = [
    [203, 0, 113, 1],
    [192, 0, 2, 2],
    [198, 18, 0, 3],
    [100, 20, 0, 4],
    [100, 30, 0, 5],
    [100, 40, 0, 6],
];
const BOB: [u8; 4] = [198, 51, 100, 2];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lossy() -> Conditions {
    Conditions {
        loss: Loss::Random(0.05),
        ..Conditions::with_delay(Duration::ZERO)
    }
}

/// 300 ms there and back.
fn far() -> Conditions {
    Conditions::with_delay(Duration::from_millis(150))
}

/// Where Bob is registered.
fn registered(bob: &Phone) -> Vec<NodeId> {
    let view = bob.engine.view();
    let view = view.borrow();
    let up = view.standings.iter().filter(|home| home.registered);
    up.map(|home| home.address.node).collect()
}

/// Bob finds homes by himself. Then something happens, and two hours pass. His homes before and at each ten minutes after.
fn live(
    seed: u64,
    better_homes: bool,
    happens: impl Fn(&Stage, &[Home], &Phone),
) -> Vec<Vec<NodeId>> {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + seed, folder.path());
    stage.world.set_limits(Limits {
        time: secs(4 * 3600),
        ..Limits::default()
    });
    let play = async {
        let mut homes: Vec<Home> = Vec::new();
        for (n, ip) in NODES.into_iter().enumerate() {
            let first = homes.first().map(|home| home.address.clone());
            let name = format!("home {n}");
            let home = stage.home_with(&name, ip, |config| {
                config.network.peers = first.into_iter().map(Peer).collect();
            });
            homes.push(home.await);
        }
        let bob = stage.identity();
        let bob = stage.phone("Bob", BOB, &bob, &[&homes[0]], |config| {
            config.finding = Finding {
                supernodes: true,
                gossip: true,
                ..Finding::default()
            };
            config.upkeep.better_homes = better_homes;
        });
        bob.ready().await;
        stage.pass(secs(300)).await;
        let mut seen = vec![registered(&bob)];
        assert_eq!(seen[0].len(), WANTED, "{seen:?}");
        happens(&stage, &homes, &bob);
        for _time in 0..12 {
            stage.pass(secs(600)).await;
            seen.push(registered(&bob));
        }
        seen
    };
    stage.world.block_on(stage.director, play).unwrap()
}

/// The line of the last home that he took becomes such one. Whether it is left, and how many changes there were.
fn spoilt(seed: u64, better_homes: bool, line: &Conditions) -> (bool, usize) {
    let seen = live(seed, better_homes, |stage, homes, bob| {
        let own = homes[0].address.node;
        let taken: Vec<NodeId> = registered(bob)
            .into_iter()
            .filter(|home| *home != own)
            .collect();
        let last = homes
            .iter()
            .find(|home| Some(&home.address.node) == taken.last());
        stage.world.set_link(last.unwrap().node, line.clone());
    });
    let spoilt = *seen[0].last().unwrap();
    let last = seen.last().unwrap();
    assert_eq!(last.len(), WANTED);
    let changes = seen.windows(2).map(|pair| {
        let new = pair[1].iter().filter(|home| !pair[0].contains(home));
        new.count()
    });
    (!last.contains(&spoilt), changes.sum())
}

/// A lost packet of the few that are sent anyway begins a trial by many.
#[test]
fn a_lossy_home_is_left_for_a_better_one() {
    const SEEDS: std::ops::Range<u64> = 10..18;
    let homes: Vec<(bool, usize)> = SEEDS.map(|seed| spoilt(seed, true, &lossy())).collect();
    let left = homes.iter().filter(|(left, _)| *left).count();
    eprintln!("5 % lost: {left} of {} left in two hours", homes.len());
    assert_eq!(left, homes.len(), "{homes:?}");
    assert!(homes.iter().all(|(_, changes)| *changes <= 2), "{homes:?}");
    for seed in SEEDS.take(3) {
        let unmeasured = spoilt(seed, false, &lossy());
        assert_eq!(unmeasured, (false, 0), "unmeasured it stays");
    }
}

#[test]
fn a_far_home_is_left_for_a_near_one() {
    let (left, changes) = spoilt(2, true, &far());
    eprintln!("300 ms farther: {changes} changes in two hours");
    assert!(left && changes <= 2, "{changes}");
    assert_eq!(spoilt(2, false, &far()), (false, 0), "unmeasured it stays");
}

/// His own access loses packets, or is slow: no other home would be better.
#[test]
fn homes_stay_where_all_are_alike() {
    let left = |seed: u64, line: Conditions| -> usize {
        let line = Conditions {
            delay: line.delay + ACCESS,
            ..line
        };
        let seen = live(seed, true, |stage, _homes, bob| {
            stage.world.set_link(bob.node, line.clone())
        });
        // One may be away for a moment, and another one stand in for it.
        let stays =
            |homes: &Vec<NodeId>| seen[0].iter().filter(|home| homes.contains(home)).count();
        seen.iter().map(|homes| seen[0].len() - stays(homes)).sum()
    };
    const SEEDS: std::ops::Range<u64> = 20..27;
    let far: Vec<usize> = SEEDS.map(|seed| left(seed, far())).collect();
    assert_eq!(far, [0; 7]);
    let lossy: Vec<usize> = SEEDS.map(|seed| left(seed, lossy())).collect();
    assert_eq!(lossy, [0; 7]);
}
