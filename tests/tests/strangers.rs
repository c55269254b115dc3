//! Honest strangers beside a flood of others, from many networks, against the shipped engine and supernode in virtual time. The
//! numbers are the rows of the threat model, see `threats.txt`.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{array, sync::Arc, time::Duration};

use ahoy::{
    call::{Ending, Unreachable},
    engine::handle::{Command, Event},
    sim::{Conditions, Worked},
    supernode::SupernodeConfig,
};
use ahoy_nat::{
    client::NodeClient,
    supernode::{
        protocol::{Consignment, Request},
        puzzle::{MOST_BITS, MOST_WORK, PuzzleCounters, PuzzleLimits},
        registry::Limits,
    },
};
use ahoy_tests::{
    by_hand::Callee,
    device::Device,
    nosy::Handing,
    pair::{ALICE, BOB, CAROL, HOME, ms, secs},
    people::{Home, Phone, Stage},
    threat,
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::DeviceId,
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

/// A machine at `ip` that hands Bob's devices as much as it can. It does the work where that is asked for, or just comes again.
async fn flooder(stage: &Stage, home: &Home, bob: &Phone, ip: [u8; 4], works: bool) -> Task {
    let node = stage.world.add_node("flooder", &[ip.into()]);
    stage.world.set_link(node, Conditions::with_delay(ms(20)));
    let device = Device::new(stage.world.runtime(node));
    let dialled = device.dial(home.address.node, home.addr, NodeAuth::Anonymous);
    let client: NodeClient = dialled.await.unwrap();
    let found = client.lookup(bob.user).await.unwrap();
    let now_millis = device.runtime.unix_millis();
    let callees: Vec<(DeviceId, u64)> = found
        .iter()
        .map(|found| Callee::of(found, bob.user, now_millis))
        .map(|callee| (callee.device.device(), callee.epoch))
        .collect();
    let runtime = Arc::clone(&device.runtime);
    let flooding = async move {
        let device = device;
        for (to, epoch) in callees.into_iter().cycle() {
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

/// Supernodes where both of Bob's devices are at home, which say that strangers flood them.
const HOMES: [[u8; 4]; 3] = [HOME, [192, 0, 2, 3], [192, 0, 2, 4]];
/// A core that finds a proof of [`USUAL_BITS`] in two seconds.
const SLOW_HASHES_PER_SECOND: u64 = 16_000;
const USUAL_BITS: u8 = 15;
/// As many tries as are made between two looks at who else wants the core.
const PIECE: u64 = 1 << 14;

/// What it took somebody to call Bob's two devices, at three homes that ask for so many bits each.
#[derive(Debug)]
struct Took {
    /// Until one of the devices rang, or the call ended.
    waited: Duration,
    /// How it ended before anything rang.
    ending: Option<Ending>,
    /// By then.
    then: Worked,
    /// A while after Bob answered.
    talking: Worked,
    /// A minute after the call was over.
    after: Worked,
}

fn call_to_two_devices(seed: u64, bits: [u8; 3], one_search: bool) -> Took {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    stage.world.set_hash_rate(SLOW_HASHES_PER_SECOND);
    let director = stage.director;
    let play = async {
        let asking = |n: usize| Handing::ForWork(bits[n]);
        let homes: [Home; 3] =
            array::from_fn(|n| stage.choosy_home(asking(n), &format!("home {n}"), HOMES[n]));
        let homes = homes.each_ref();
        let elsewhere = stage.home("elsewhere", ELSEWHERE).await;
        let mut bobs = stage.identity();
        let second = stage.second_device(&mut bobs);
        let desk = stage.phone("desk", BOB, &bobs, &homes, |_| {});
        let pocket = stage.phone("pocket", CAROL, &second, &homes, |_| {});
        let alice = stage.identity();
        let alice = stage.phone("Alice", ALICE, &alice, &[&elsewhere], |config| {
            config.upkeep.one_search = one_search;
        });
        // They ring, and yet no home knows her: she never called nor wrote.
        for bob in [&desk, &pocket] {
            bob.book.add_contact(alice.user, "Alice");
        }
        for phone in [&desk, &pocket, &alice] {
            phone.ready().await;
        }
        stage.pass(secs(2)).await;
        let began = stage.now();
        alice.call(&desk);
        let rings = |event: &Event| matches!(event, Event::Incoming { .. }).then_some(());
        let (one, other) = (
            desk.wait("ringing", secs(60), rings),
            pocket.wait("ringing", secs(60), rings),
        );
        let ringing = tokio::select! {
            biased;
            _ = one => Ok(&desk),
            _ = other => Ok(&pocket),
            ended = alice.ends(secs(60)) => Err(ended.ending),
        };
        let waited = stage.now() - began;
        let worked = || stage.world.worked(alice.node);
        let then = worked();
        if let Ok(ringing) = ringing {
            ringing.tell(Command::Accept);
            alice.hears().await;
        }
        stage.pass(secs(20)).await;
        let talking = worked();
        if ringing.is_ok() {
            alice.tell(Command::HangUp);
        }
        stage.pass(secs(60)).await;
        Took {
            waited,
            ending: ringing.err(),
            then,
            talking,
            after: worked(),
        }
    };
    stage.world.block_on(director, play).unwrap()
}

#[test]
fn whoever_calls_two_devices_at_three_flooded_homes_searches_for_one_proof_at_a_time() {
    let took = call_to_two_devices(SEED + 3, [USUAL_BITS; 3], true);
    eprintln!("{took:?}");
    assert_eq!(took.ending, None);
    assert!(took.waited < secs(10), "{:?}", took.waited);
    assert_eq!(took.after.most_at_once, 1);
    // Once somebody has answered, nobody works for the other homes of that device; the other device, which rings perhaps, is told
    // that it need not, and that is over after a while, too.
    let cancel = MOST_WORK.as_secs() * SLOW_HASHES_PER_SECOND;
    assert!(
        took.talking.hashes <= took.then.hashes + cancel + 6 * PIECE,
        "{took:?}"
    );
    assert_eq!(took.talking, took.after);
}

#[test]
fn without_a_line_such_a_call_takes_as_many_cores_as_there_are_homes_and_devices() {
    let took = call_to_two_devices(SEED + 3, [USUAL_BITS; 3], false);
    eprintln!("{took:?}");
    assert!(took.after.most_at_once >= 6, "{took:?}");
}

#[test]
fn a_home_that_asks_for_the_hardest_work_keeps_no_other_from_being_answered() {
    let took = call_to_two_devices(SEED + 4, [MOST_BITS, USUAL_BITS, MOST_BITS], true);
    eprintln!("{took:?}");
    assert_eq!(took.ending, None);
    assert!(took.waited < secs(10), "{:?}", took.waited);
}

#[test]
fn homes_that_all_ask_for_the_hardest_work_get_a_quarter_of_a_minute_of_one_core() {
    let took = call_to_two_devices(SEED + 5, [MOST_BITS; 3], true);
    eprintln!("{took:?}");
    let flooded = Ending::Unreachable(Unreachable::Flooded);
    assert_eq!(took.ending, Some(flooded));
    assert!(took.waited < MOST_WORK + secs(1), "{:?}", took.waited);
    // Six searches end in that moment, each perhaps in its piece.
    let most = MOST_WORK.as_secs() * SLOW_HASHES_PER_SECOND + 6 * PIECE;
    assert!(took.then.hashes <= most, "{took:?}");
    let without = call_to_two_devices(SEED + 5, [MOST_BITS; 3], false);
    eprintln!("{without:?}");
    assert!(without.then.hashes > 3 * most, "{without:?}");
}
