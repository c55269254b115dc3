//! Many supernodes die in one moment: those who were registered there find others, and the rest is not overrun. Of the cores that
//! the binary drives, in virtual time. The numbers are the rows of the threat model, see `threats.txt`.

use std::{env, time::Duration};

use ahoy_nat::discovery::{gossip::GossipPolicy, homes::WANTED};
use ahoy_tests::{overlay::Overlay, threat};

const SEED: u64 = 0x6361_7363;
const SUPERNODES: usize = 100;
/// `AHOY_PEOPLE` for another number; the drill that this repeats had ten thousand.
const PEOPLE: usize = 500;
/// How often is looked how they are.
const LOOK: Duration = Duration::from_secs(5);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What became of everybody.
#[derive(Debug)]
struct Drill {
    people: usize,
    /// Reached at any time, in thousandths: the fewest, and those at the end.
    least: usize,
    reached: usize,
    /// When 99 of 100 were reached again, for good.
    settled: Option<Duration>,
    /// People at the fullest supernode before, and at any time after.
    fullest: [usize; 2],
}

/// So many in a hundred of the supernodes die at once, and half of the people start their programs anew in that moment, if
/// `restarts`. What comes of it within `limit`.
fn drill(seed: u64, percent: usize, restarts: bool, takes_others: bool, limit: Duration) -> Drill {
    let people = env::var("AHOY_PEOPLE").map_or(PEOPLE, |people| {
        people.parse().expect("AHOY_PEOPLE is a number")
    });
    let mut world = Overlay::new(seed);
    for n in 0..SUPERNODES {
        let peers: Vec<usize> = (n > 0).then(|| world.pick(n)).into_iter().collect();
        let ip = world.public_ip();
        world.supernode(ip, &peers, GossipPolicy::supernode());
    }
    world.acquaint();
    for n in 0..people {
        let home = world.pick(SUPERNODES);
        world.person(&[home], GossipPolicy::device());
        // Where they are is not looked for here.
        world.set_publishing(false);
        // They do not all look at the same moments.
        if n % 16 == 0 {
            world.pass(secs(1));
        }
    }
    world.pass(secs(20 * 60));
    let homes = |world: &Overlay| world.crowds().iter().sum::<usize>();
    assert!(homes(&world) >= people * WANTED * 99 / 100);
    let fullest = |world: &Overlay| world.crowds().last().copied().unwrap_or(0);
    let before = fullest(&world);
    if !takes_others {
        world.keep_homes();
    }
    world.kill_percent(percent);
    if restarts {
        for person in (0..people).step_by(2) {
            world.restart(person, GossipPolicy::device());
            world.look(person);
        }
    }
    let (mut least, mut reached, mut after, mut settled) = (1000, 0, 0, None);
    let mut passed = Duration::ZERO;
    while passed < limit {
        let there = (0..people).filter(|person| world.is_reachable(*person));
        reached = there.count() * 1000 / people;
        least = least.min(reached);
        settled = (reached >= 990).then(|| settled.unwrap_or(passed));
        after = after.max(fullest(&world));
        world.pass(LOOK);
        passed += LOOK;
    }
    let drill = Drill {
        people,
        least,
        reached,
        settled,
        fullest: [before, after],
    };
    eprintln!("{percent} %: {drill:?}");
    drill
}

#[test]
fn a_third_of_the_supernodes_die_and_the_rest_is_not_overrun() {
    let drill = drill(SEED, 30, true, true, secs(180));
    let settled = drill.settled.expect("99 % are reached");
    assert!(settled <= secs(60), "{settled:?}");
    let [before, after] = drill.fullest;
    assert!(after < 2 * before, "{before} {after}");
    threat(
        25,
        format_args!(
            "30 of {SUPERNODES} supernodes die and half of {} devices start anew: 99 % are reached after {settled:?}, the fullest supernode has {after} instead of {before}",
            drill.people
        ),
    );
}

#[test]
fn most_supernodes_die_and_people_are_reached_again() {
    let most = drill(SEED + 1, 60, false, true, secs(240));
    let settled = most.settled.expect("99 % are reached");
    assert!(settled <= secs(180), "{settled:?}");
    let nearly_all = drill(SEED + 2, 90, false, true, secs(600));
    assert!(nearly_all.reached >= 950, "{nearly_all:?}");
    threat(
        25,
        format_args!(
            "60 % die: {} in a thousand were reached at once, 99 % after {settled:?}; 90 % die: {} at once, {} after ten minutes",
            most.least, nearly_all.least, nearly_all.reached
        ),
    );
}

#[test]
fn without_taking_other_homes_whoever_lost_them_is_lost() {
    let most = drill(SEED + 1, 60, false, false, secs(240));
    assert_eq!(most.settled, None);
    assert!(most.reached < 900, "{most:?}");
    let nearly_all = drill(SEED + 2, 90, false, false, secs(600));
    assert!(nearly_all.reached < 400, "{nearly_all:?}");
}
