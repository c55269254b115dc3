//! Honest strangers beside a flood of others, from many networks, against the shipped engine and supernode in virtual time. The
//! numbers are the rows of the threat model, see `threats.txt`.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{sync::Arc, time::Duration};

use ahoy::{
    call::{Ending, Unreachable},
    engine::handle::{Command, Event},
    sim::Conditions,
    supernode::SupernodeConfig,
};
use ahoy_nat::{
    client::NodeClient,
    supernode::{
        protocol::{Consignment, Request},
        puzzle::{PuzzleCounters, PuzzleLimits},
        registry::Limits,
    },
};
use ahoy_tests::{
    by_hand::Callee,
    device::Device,
    pair::{BOB, HOME, ms, secs},
    people::{Home, Phone, Stage},
    threat,
};
use ahoy_transport::{
    endpoint::NodeAuth,
    runtime::{RuntimeExt, Task},
};

const SEED: u64 = 0x0073_7472;
/// Where callers are at home; nobody floods it.
const ELSEWHERE: [u8; 4] = [192, 0, 2, 2];
/// Machines that flood, each in a network of its own.
const FLOODERS: u8 = 40;
/// Honest people who call for the first time, one after another.
const CALLERS: u8 = 5;
/// How long one of them may take.
const BOUND: Duration = Duration::from_secs(15);

/// Everybody's core is 1024 times slower than a laptop's, and 2^10 times less work is asked for, so that the test does in a
/// minute what all of them together would do in hours. What takes how long stays the same.
const HASHES_PER_SECOND: u64 = 5_000;

fn puzzles(enabled: bool) -> PuzzleLimits {
    let usual = PuzzleLimits::default();
    PuzzleLimits {
        enabled,
        least_bits: usual.least_bits - 10,
        most_bits: usual.most_bits - 10,
    }
}

/// A machine at `ip` that hands Bob's device as much as it can. It does the work where that is asked for, or just comes again.
async fn flooder(stage: &Stage, home: &Home, bob: &Phone, ip: [u8; 4], works: bool) -> Task {
    let node = stage.world.add_node("flooder", &[ip.into()]);
    stage.world.set_link(node, Conditions::with_delay(ms(20)));
    let device = Device::new(stage.world.runtime(node));
    let dialled = device.dial(home.address.node, home.addr, NodeAuth::Anonymous);
    let client: NodeClient = dialled.await.unwrap();
    let found = client.lookup(bob.user).await.unwrap();
    let callee = Callee::of(&found[0], bob.user, device.runtime.unix_millis());
    let (to, epoch) = (callee.device.device(), callee.epoch);
    let runtime = Arc::clone(&device.runtime);
    let flooding = async move {
        let device = device;
        loop {
            // Most of them are refused, one way or the other.
            let envelope = vec![ip[0]; 2 << 10];
            if works {
                let _handed_on = client.deliver(to, epoch, envelope).await;
            } else {
                let request = Request::Consign(Consignment::Deliver {
                    to,
                    epoch,
                    mark: None,
                    envelope,
                });
                let _answer = client.request(&request).await;
            }
            device.runtime.sleep(ms(60)).await;
        }
    };
    runtime.spawn_task(flooding)
}

/// What honest strangers met.
#[derive(Debug)]
struct Met {
    /// How long each took to be in Bob's request inbox, of those who got there.
    took: Vec<Duration>,
    /// How the others' calls ended.
    endings: Vec<Ending>,
    puzzles: PuzzleCounters,
}

/// [`CALLERS`] call Bob, whom they never met, while `flooders` flood him.
fn first_calls(seed: u64, flooders: u8, puzzles: PuzzleLimits) -> Met {
    let limits = Limits {
        puzzles,
        ..Limits::default()
    };
    first_calls_at(seed, flooders, true, limits)
}

fn first_calls_at(seed: u64, flooders: u8, works: bool, limits: Limits) -> Met {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    stage.world.set_hash_rate(HASHES_PER_SECOND);
    let director = stage.director;
    let play = async {
        let settings = |config: &mut SupernodeConfig| config.limits = limits;
        let home = stage.home_with("home", HOME, settings).await;
        let elsewhere = stage.home("elsewhere", ELSEWHERE).await;
        let bob = stage.identity();
        let bob = stage.phone("Bob", BOB, &bob, &[&home], |_| {});
        bob.ready().await;
        let mut floods = Vec::new();
        for n in 0..flooders {
            floods.push(flooder(&stage, &home, &bob, [60 + n, n, 0, 1], works).await);
        }
        stage.pass(secs(30)).await;
        let (mut took, mut endings) = (Vec::new(), Vec::new());
        for n in 0..CALLERS {
            let caller = stage.identity();
            let name = format!("Caller {n}");
            let ip = [5, 10 + n, 0, 1];
            let caller = stage.phone(&name, ip, &caller, &[&elsewhere], |_| {});
            caller.ready().await;
            stage.pass(secs(1)).await;
            let began = stage.now();
            caller.call(&bob);
            let from = caller.user;
            let request = |event: &Event| {
                matches!(event, Event::Request { from: who } if *who == from).then_some(())
            };
            let came = bob.wait("a request", secs(60), request);
            let ended = caller.ends(secs(60));
            let first = tokio::select! {
                biased;
                (at, ()) = came => Ok(at - began),
                ended = ended => Err(ended.ending),
            };
            match first {
                Ok(after) => {
                    took.push(after);
                    caller.tell(Command::HangUp);
                }
                Err(ending) => endings.push(ending),
            }
            stage.pass(secs(2)).await;
        }
        let puzzles = home.status().rendezvous.puzzles;
        drop(floods);
        Met {
            took,
            endings,
            puzzles,
        }
    };
    stage.world.block_on(director, play).unwrap()
}

#[test]
fn honest_strangers_get_through_a_flood_from_many_networks() {
    let met = first_calls(SEED, FLOODERS, puzzles(true));
    eprintln!("{met:?}");
    assert_eq!(met.took.len(), usize::from(CALLERS), "{:?}", met.endings);
    let slowest = met.took.iter().max().unwrap();
    assert!(*slowest < BOUND, "{slowest:?}");
    assert!(met.puzzles.proved > 100, "{:?}", met.puzzles);
    threat(
        15,
        format_args!(
            "{} of {CALLERS} first callers get through while {FLOODERS} machines in as many networks flood the device, the slowest after {slowest:?}",
            met.took.len()
        ),
    );
}

#[test]
fn without_puzzles_such_a_flood_keeps_honest_strangers_out() {
    let met = first_calls(SEED, FLOODERS, puzzles(false));
    eprintln!("{met:?}");
    assert!(met.took.len() < usize::from(CALLERS), "{:?}", met.took);
    assert_eq!(met.puzzles, PuzzleCounters::default());
}

#[test]
fn whoever_calls_an_idle_home_is_asked_for_nothing() {
    let calm = first_calls(SEED + 1, 0, puzzles(true));
    let without = first_calls(SEED + 1, 0, puzzles(false));
    assert_eq!(calm.took.len(), usize::from(CALLERS));
    assert_eq!(calm.took, without.took, "no round trip more");
    assert_eq!(calm.puzzles, PuzzleCounters::default());
}

#[test]
fn too_much_work_ends_the_call_and_says_why() {
    let limits = Limits {
        // A line so thin that whoever comes in time fills it, again and again.
        received_bytes_per_second: 1 << 10,
        puzzles: PuzzleLimits {
            least_bits: 24,
            most_bits: 26,
            ..puzzles(true)
        },
        ..Limits::default()
    };
    let met = first_calls_at(SEED + 2, FLOODERS, false, limits);
    let flooded = Ending::Unreachable(Unreachable::Flooded);
    assert_eq!(met.endings, vec![flooded; usize::from(CALLERS)]);
}
