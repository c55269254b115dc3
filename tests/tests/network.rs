//! A thousand supernodes and more, of the cores that the binary drives, in virtual time: how they come to know each other, how
//! people are found when most are dead or many are hostile, and what each of them has to do for it.

use std::{collections::BTreeSet, time::Duration};

use ahoy_nat::discovery::{
    gossip::GossipPolicy,
    homes::WANTED,
    rendezvous::{Network, PLACES},
    table::TableRules,
};
use ahoy_tests::{overlay::Overlay, threat};

const SEED: u64 = 0x006e_0001;
const PEOPLE: usize = 200;
/// Under attack.
const DEVICES: usize = 50;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// So many supernodes that know two earlier ones each, and learn of all others by themselves.
fn grown(seed: u64, supernodes: usize, policy: GossipPolicy) -> Overlay {
    let mut world = Overlay::new(seed);
    for n in 0..supernodes {
        let peers: BTreeSet<usize> = (0..2).map(|_| world.pick(n)).filter(|_| n > 0).collect();
        let peers: Vec<usize> = peers.into_iter().collect();
        let ip = world.public_ip();
        world.supernode(ip, &peers, policy);
    }
    world
}

/// So many that know each other from before.
fn acquainted(seed: u64, supernodes: usize) -> Overlay {
    let mut world = grown(seed, supernodes, GossipPolicy::supernode());
    world.acquaint();
    world
}

/// People with one supernode in their settings each, who find the other homes by themselves, and publish where they are.
fn populate(world: &mut Overlay, people: usize, policy: GossipPolicy) {
    let honest: Vec<usize> = (0..world.nodes.len())
        .filter(|node| !world.nodes[*node].hostile)
        .collect();
    for _ in 0..people {
        let home = honest[world.pick(honest.len())];
        world.person(&[home], policy);
    }
    world.pass(minutes(20));
    for person in 0..people {
        world.publish(person, true);
    }
}

/// Everybody is looked for by somebody. How many are found, at a home that is up; and by their record alone.
fn search(world: &mut Overlay, walk_on: bool, what: &str) -> (usize, usize) {
    let people = world.people.len();
    let (mut reached, mut found, mut asked, mut hostile) = (0, 0, 0, 0);
    for of in 0..people {
        let reader = (of + 1 + world.pick(people - 1)) % people;
        let search = world.find(reader, of, walk_on);
        asked += search.asked;
        hostile += search.hostile;
        found += usize::from(search.record.is_some());
        let leads = search
            .record
            .is_some_and(|record| world.leads_somewhere(&record));
        reached += usize::from(leads);
    }
    eprintln!(
        "{what}: {found} of {people} records found, {reached} of {people} people reached, {:.1} supernodes asked each, {:.1} of \
         them hostile",
        asked as f64 / people as f64,
        hostile as f64 / people as f64,
    );
    (reached, found)
}

#[test]
fn a_hundred_supernodes_learn_of_each_other_and_of_who_comes_and_goes() {
    let mut world = grown(SEED, 100, GossipPolicy::supernode());
    world.pass(minutes(10));
    let knows = |world: &Overlay| -> Vec<usize> {
        let alive = world.nodes.iter().filter(|node| node.alive);
        alive
            .map(|node| node.gossip.table().live().count())
            .collect()
    };
    assert!(
        knows(&world).iter().all(|known| *known == 99),
        "{:?}",
        knows(&world)
    );
    // One that comes is known within minutes, without knowing more than one.
    let ip = world.public_ip();
    let newcomer = world.supernode(ip, &[50], GossipPolicy::supernode());
    world.pass(minutes(5));
    let all = knows(&world);
    assert!(all.iter().all(|known| *known == 100), "{all:?}");
    // Those that are gone are not handed out for long.
    world.kill_percent(30);
    world.pass(minutes(8 * 60));
    let alive = knows(&world);
    assert!(
        alive.iter().all(|known| *known + 1 == alive.len()),
        "{alive:?}"
    );
    assert_eq!(world.nodes[newcomer].address.port, 4433);
}

#[test]
fn nothing_is_spread_that_was_not_met() {
    // Somebody tells of a hundred supernodes that are not there.
    let spread = |dial_back: bool| {
        let mut policy = GossipPolicy::supernode();
        policy.rules.meet_all = dial_back;
        policy.rules.witnesses = dial_back;
        let mut world = grown(SEED + 1, 50, policy);
        for _ in 0..100 {
            let ip = world.public_ip();
            let lie = world.attacker(ip);
            world.kill(lie);
        }
        let ip = world.public_ip();
        let liar = world.attacker(ip);
        let ip = world.public_ip();
        let listener = world.supernode(ip, &[liar, 3], policy);
        world.pass(minutes(30));
        // Just long enough to ask the one home that it has.
        let somebody = world.person(&[listener], GossipPolicy::device());
        world.pass(Duration::from_secs(3));
        let told = world.people[somebody].gossip.table().nodes();
        let dead = |at: &std::net::SocketAddr| {
            let mut dead = world.nodes.iter().filter(|node| !node.alive);
            dead.any(|node| node.address.socket_addr() == Some(*at))
        };
        told.filter(|known| dead(&known.announcement.addr()))
            .count()
    };
    assert_eq!(spread(true), 0);
    let without = spread(false);
    eprintln!("without dialling back {without} of 100 lies reach a device");
    threat(
        10,
        format!("0 of 100 lies spread; {without} without dialling back"),
    );
    assert!(without >= 50);
}

#[test]
fn people_are_found_with_most_of_a_thousand_supernodes_dead() {
    are_found_with_most_dead(SEED + 2, 1000);
}

fn are_found_with_most_dead(seed: u64, supernodes: usize) {
    let mut world = acquainted(seed, supernodes);
    populate(&mut world, PEOPLE, GossipPolicy::device());
    let up = |world: &Overlay| {
        world
            .people
            .iter()
            .filter(|one| one.homes.up().count() >= WANTED)
            .count()
    };
    eprintln!("{} of {PEOPLE} have {WANTED} homes", up(&world));
    assert!(up(&world) * 100 >= PEOPLE * 99);
    assert_eq!(search(&mut world, true, "all alive").0, PEOPLE);

    // Nobody publishes again: what is there by then has to do.
    world.set_publishing(false);
    let dead = world.kill_percent(60);
    eprintln!("{dead} of {supernodes} die at once");
    let (reached, found) = search(
        &mut world,
        true,
        "60 % dead, at once, nobody published again",
    );
    // 0.6^8 = 1.7 % of records are lost, and 0.6^3 = 22 % of people have no home left.
    assert!(found * 100 >= PEOPLE * 95, "{found}");
    assert!(reached * 100 >= PEOPLE * 65, "{reached}");
    // Homes are chosen again, and told.
    world.set_publishing(true);
    world.pass(minutes(2));
    eprintln!(
        "{} of {PEOPLE} have {WANTED} homes after two minutes",
        up(&world)
    );
    let (reached, _found) = search(&mut world, true, "60 % dead, two minutes later");
    assert!(reached * 100 >= PEOPLE * 99, "{reached}");
}

/// Most supernodes die, records are left again, and most of the rest die. How many records are found.
fn found_after_two_blows(walk_on: bool) -> usize {
    let mut world = acquainted(SEED + 12, 300);
    populate(&mut world, PEOPLE, GossipPolicy::device());
    world.set_publishing(false);
    world.kill_percent(60);
    for person in 0..PEOPLE {
        world.publish(person, walk_on);
    }
    world.kill_percent(60);
    search(
        &mut world,
        walk_on,
        &format!("twice 60 %, walks on: {walk_on}"),
    )
    .1
}

#[test]
fn a_record_is_left_at_eight_that_live_not_at_eight_that_may_be_dead() {
    let (with, without) = (found_after_two_blows(true), found_after_two_blows(false));
    assert!(with * 100 >= PEOPLE * 95, "{with}");
    assert!(without * 100 < PEOPLE * 80, "{without}");
}

#[test]
fn any_third_may_die_and_nearly_everybody_is_reached_at_once() {
    let reached = |seed| {
        let mut world = acquainted(seed, 300);
        populate(&mut world, PEOPLE, GossipPolicy::device());
        world.set_publishing(false);
        world.kill_percent(33);
        search(&mut world, true, "a third dead, at once").0
    };
    for seed in 0..3 {
        let reached = reached(SEED + 10 + seed);
        // Three homes: 0.33^3 = 3.6 % lose all of them, more or less some, since people share homes.
        assert!(reached * 100 >= PEOPLE * 90, "{reached}");
    }
}

/// Supernodes, and an attacker with one, or many, in each of some networks, which publisher and reader know as well as the
/// others. How many people are found.
fn found_among_hostile(honest: usize, hostile: usize, bucketed: bool, in_each: usize) -> usize {
    let mut world = grown(SEED + 3, honest, GossipPolicy::supernode());
    let mut owned = BTreeSet::new();
    while owned.len() < hostile {
        let ip = world.public_ip();
        if owned.insert(Network::of_ip(ip.into())) {
            let [a, b, ..] = ip.octets();
            for _ in 0..in_each {
                let [.., c, d] = world.public_ip().octets();
                world.attacker([a, b, c, d].into());
            }
        }
    }
    let rules = TableRules {
        bucketed,
        ..TableRules::default()
    };
    world.acquaint_by(rules, Duration::ZERO);
    let policy = GossipPolicy {
        rules,
        ..GossipPolicy::device()
    };
    populate(&mut world, PEOPLE, policy);
    let what = format!("{hostile} networks hostile, {in_each} in each, bucketed: {bucketed}");
    search(&mut world, true, &what).1
}

#[test]
fn people_are_found_with_256_networks_hostile() {
    let found = found_among_hostile(1000, 256, true, 1);
    threat(
        9,
        format!("256 hostile networks: {found} of {PEOPLE} found by supernodes alone"),
    );
    assert!(found * 100 >= PEOPLE * 99, "{found}");
}

/// `make network`.
#[test]
#[ignore = "minutes"]
fn many_supernodes_in_each_hostile_network_gain_nothing_where_networks_count() {
    let (with, without) = (
        found_among_hostile(200, 50, true, 30),
        found_among_hostile(200, 50, false, 30),
    );
    assert!(with * 100 >= PEOPLE * 99, "{with}");
    assert!(without * 100 < PEOPLE * 90, "{without}");
}

/// Sybils hold every copy of everybody's record in the DHT, which thus says nothing: supernodes alone have to do.
#[test]
fn the_directory_needs_no_dht() {
    let mut world = acquainted(SEED + 4, 1000);
    populate(&mut world, PEOPLE, GossipPolicy::device());
    let (reached, _found) = search(&mut world, true, "every copy in the DHT is a Sybil's");
    threat(
        9,
        format!("{reached} of {PEOPLE} reached by supernodes alone"),
    );
    assert_eq!(reached, PEOPLE);
}

/// What a supernode has to do per second, and what all that it knows takes: in the median, and at most. A newcomer was told of
/// more than it keeps.
#[derive(Debug, Clone, Copy)]
struct Cost {
    messages: f64,
    bits: f64,
    memory: usize,
    most: usize,
}

/// What it costs each, on average over `span` after `before`. In each hour one in `churn` dies and another one comes, if any.
/// All know each other for so long.
fn cost(
    seed: u64,
    supernodes: usize,
    (policy, known_for): (GossipPolicy, Duration),
    (before, span): (Duration, Duration),
    churn: Option<usize>,
) -> Cost {
    let mut world = grown(seed, supernodes, policy);
    world.acquaint_by(policy.rules, known_for);
    let run = |world: &mut Overlay, span: Duration| {
        let changes = churn.map_or(0, |one_in| {
            supernodes * span.as_secs() as usize / 3600 / one_in
        });
        for _change in 0..changes {
            world.pass(span / changes as u32);
            let dies = world.pick(world.nodes.len());
            world.kill(dies);
            let peers = [world.pick(world.nodes.len()), world.pick(world.nodes.len())];
            let ip = world.public_ip();
            world.supernode(ip, &peers, policy);
        }
        if changes == 0 {
            world.pass(span);
        }
    };
    run(&mut world, before);
    for node in &mut world.nodes {
        node.load = Default::default();
    }
    run(&mut world, span);
    let seconds = span.as_secs_f64() * supernodes as f64;
    let (mut messages, mut bytes) = (0, 0);
    for node in &world.nodes {
        messages += node.load.requests + node.load.asked;
        bytes += node.load.bytes;
    }
    let alive = || world.nodes.iter().filter(|node| node.alive);
    let mut memory: Vec<usize> = alive().map(|node| node.gossip.memory_bytes()).collect();
    let mut known: Vec<usize> = alive().map(|node| node.gossip.table().len()).collect();
    memory.sort_unstable();
    known.sort_unstable();
    let middle = memory.len() / 2;
    let cost = Cost {
        messages: messages as f64 / seconds,
        bits: bytes as f64 * 8.0 / seconds,
        memory: memory[middle],
        most: memory[memory.len() - 1],
    };
    eprintln!(
        "{supernodes} supernodes, one in {churn:?} replaced each hour, fitting {}, patient {}: {:.3} messages/s, {:.0} bit/s, {} \
         known in {} bytes ({} in {} at most), each",
        policy.rules.fitting,
        policy.patient,
        cost.messages,
        cost.bits,
        known[middle],
        cost.memory,
        known[known.len() - 1],
        cost.most
    );
    cost
}

/// Those that know each other since just now, when nobody is new.
fn load(supernodes: usize, seed: u64) -> Cost {
    let new = (GossipPolicy::supernode(), Duration::ZERO);
    cost(seed, supernodes, new, (minutes(1), minutes(20)), None)
}

#[test]
fn the_load_of_each_grows_with_the_network_only_up_to_a_bound() {
    let (small, large) = (load(100, SEED + 5), load(1000, SEED + 6));
    assert!(
        large.messages < 11.0 * small.messages && large.messages < 1.0,
        "{large:?}"
    );
    assert!(large.bits < 20_000.0, "{large:?}");
    assert!(
        small.memory < large.memory && large.memory < 512 << 10,
        "{large:?}"
    );
}

#[test]
fn those_that_have_known_each_other_for_long_ask_each_other_less() {
    let days = (
        Duration::from_secs(3 * 24 * 3600),
        (minutes(240), minutes(480)),
    );
    let cost = |patient| {
        let policy = GossipPolicy {
            patient,
            ..GossipPolicy::supernode()
        };
        cost(SEED + 7, 100, (policy, days.0), days.1, None)
    };
    let (with, without) = (cost(true), cost(false));
    assert!(
        with.messages < 0.6 * without.messages,
        "{with:?} {without:?}"
    );
    assert!(with.bits < 0.6 * without.bits, "{with:?} {without:?}");
}

/// What the network costs each supernode from a hundred to ten thousand of them, after three days, with one in a hundred replaced
/// each hour; and the same of ten thousand without what keeps it small. `make network`.
#[test]
#[ignore = "minutes: ten thousand tables"]
fn ten_thousand_supernodes_cost_each_of_them_no_more_than_two_thousand() {
    let known_for = Duration::from_secs(3 * 24 * 3600);
    let cost = |supernodes, fitting, patient| {
        let mut policy = GossipPolicy::supernode();
        policy.patient = patient;
        policy.rules.fitting = fitting;
        let when = (minutes(30), minutes(30));
        cost(SEED + 8, supernodes, (policy, known_for), when, Some(100))
    };
    let [at_100, at_1000, at_2000, at_10_000] =
        [100, 1000, 2000, 10_000].map(|supernodes| cost(supernodes, true, true));
    let impatient = cost(2000, true, false);
    let unfitting = cost(2000, false, true);
    assert!(at_1000.messages < 10.0 * at_100.messages, "{at_1000:?}");
    assert!(at_10_000.messages < 1.5 * at_2000.messages, "{at_10_000:?}");
    assert!(at_10_000.most < 3 << 20, "{at_10_000:?}");
    assert!(at_10_000.bits < 30_000.0, "{at_10_000:?}");
    assert!(at_10_000.memory * 10 < at_2000.memory * 13, "{at_10_000:?}");
    assert!(
        at_2000.messages * 1.15 < impatient.messages,
        "{impatient:?}"
    );
    assert!(at_2000.messages * 1.3 < unfitting.messages, "{unfitting:?}");
}

/// `make network`.
#[test]
#[ignore = "minutes: ten thousand tables"]
fn people_are_found_with_most_of_ten_thousand_supernodes_dead() {
    are_found_with_most_dead(SEED + 2, 10_000);
}

/// How large a world under attack is.
#[derive(Clone, Copy)]
struct Size {
    honest: usize,
    devices: usize,
}

const FULL: Size = Size {
    honest: 100,
    devices: DEVICES,
};
/// Small enough that every supernode of the attacker is met in seconds.
const SMALL: Size = Size {
    honest: 12,
    devices: 12,
};

/// None of what keeps an attacker's supernodes out of a table.
const NO_DEFENCES: TableRules = TableRules {
    bucketed: false,
    test_before_evict: false,
    witnesses: false,
    anchors: false,
    meet_all: false,
    fitting: false,
};

/// An attacker's supernodes, ten in each of so many networks, are told to everybody for a day, in which the devices restart seven
/// times without homes in their settings. How many devices end with hostile homes alone, and what share of all homes is hostile.
fn eclipse(size: Size, networks: usize, rules: TableRules, feelers: bool) -> (usize, f64) {
    let Size { honest, devices } = size;
    let policy = GossipPolicy {
        rules,
        feelers,
        ..GossipPolicy::device()
    };
    let mut world = acquainted(SEED + 9, honest);
    let mut people = Vec::new();
    for _ in 0..devices {
        // Two honest ones in a link from a friend.
        let homes = [world.pick(honest), world.pick(honest)];
        people.push(world.person(&homes, policy));
    }
    world.pass(minutes(10));
    // The attack begins.
    let owned: Vec<[u8; 2]> = (0..networks)
        .map(|_| {
            let [a, b, ..] = world.public_ip().octets();
            [a, b]
        })
        .collect();
    for n in 0..networks * 10 {
        let [a, b] = owned[n % networks];
        let [.., c, d] = world.public_ip().octets();
        world.attacker([a, b, c, d].into());
    }
    world.flood();
    for _restart in 0..7 {
        world.pass(minutes(3 * 60 + 25));
        for person in &people {
            world.restart(*person, policy);
        }
    }
    world.pass(minutes(10));
    let (mut lost, mut hostile, mut all) = (0, 0, 0);
    for person in &people {
        let homes: Vec<bool> = world.people[*person]
            .homes
            .up()
            .map(|home| world.is_hostile(home.node))
            .collect();
        lost += usize::from(homes.iter().all(|hostile| *hostile));
        hostile += homes.iter().filter(|hostile| **hostile).count();
        all += homes.len();
    }
    let share = hostile as f64 / all.max(1) as f64;
    eprintln!(
        "{networks} networks, {rules:?}, feelers {feelers}: {lost} of {devices} devices with hostile homes alone, {:.0} % of homes",
        100.0 * share
    );
    (lost, share)
}

fn is_not_taken_over(networks: usize) {
    let (lost, share) = eclipse(FULL, networks, TableRules::default(), true);
    assert_eq!(lost, 0);
    assert!(share < 0.5, "{share}");
    threat(
        10,
        format!("{networks} hostile networks: 0 of {DEVICES} devices eclipsed"),
    );
}

#[test]
fn a_flood_of_supernodes_does_not_take_a_device_over() {
    is_not_taken_over(16);
}

/// `make network`.
#[test]
#[ignore = "minutes"]
fn a_flood_from_256_networks_does_not_take_a_device_over() {
    is_not_taken_over(256);
}

#[test]
#[ignore = "many minutes: all of 2560 supernodes are met by each of a hundred"]
fn without_its_defences_a_device_is_taken_over() {
    let (lost, _share) = eclipse(FULL, 256, NO_DEFENCES, false);
    assert!(lost * 3 >= DEVICES, "{lost}");
}

/// The same attack in a world so small that it is over in seconds.
#[test]
fn in_a_small_world_only_the_defences_keep_devices_from_being_taken_over() {
    let (with, share) = eclipse(SMALL, 12, TableRules::default(), true);
    let (without, all) = eclipse(SMALL, 12, NO_DEFENCES, false);
    threat(
        10,
        format!(
            "as many hostile networks as honest ones: {with} of {} devices eclipsed; {without} without the defences",
            SMALL.devices
        ),
    );
    assert!(with == 0 && share < 0.75, "{with} {share}");
    assert!(
        without * 3 >= SMALL.devices && all > share,
        "{without} {all}"
    );
}

#[test]
fn eight_places_are_what_everybody_computes() {
    let mut world = acquainted(SEED + 20, 200);
    populate(&mut world, 20, GossipPolicy::device());
    let kept = (0..20).map(|person| world.publish(person, true));
    assert!(kept.collect::<Vec<_>>().iter().all(|kept| *kept == PLACES));
}
