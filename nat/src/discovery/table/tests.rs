use ahoy_transport::identity::NodeKeys;
use proptest::prelude::*;
use rand_core::SeedableRng;

use super::*;
use crate::discovery::announcement::{ANNOUNCEMENT_LIFETIME_MILLIS, Capabilities};

const NOW: u64 = 1_800_000_000_000;

fn keys(n: u32) -> NodeKeys {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    NodeKeys::from_seed(&seed)
}

/// Supernode `n` at a machine of the network `a.b`.
fn says(n: u32, network: [u8; 2], now_millis: u64) -> Arc<Announcement> {
    let [a, b] = network;
    let [.., c, d] = n.to_be_bytes();
    let addr = ([a, b, c, d], 4433).into();
    let said = Announcement::issue(&keys(n), addr, None, Capabilities::default(), now_millis);
    Arc::new(said)
}

fn teller(n: u8) -> Network {
    Network::V4([100, n])
}

fn device() -> NodeTable {
    NodeTable::new(TableRules::default(), None, [7; 8])
}

fn supernode() -> NodeTable {
    let rules = TableRules {
        meet_all: true,
        ..TableRules::default()
    };
    NodeTable::new(rules, Some(keys(0).id()), [7; 8])
}

fn live(table: &NodeTable) -> usize {
    table.live().count()
}

/// What is counted beside the entries says what the entries say.
fn is_sound(table: &NodeTable) {
    let firm = table.nodes.iter().filter(|entry| table.is_firm(entry));
    assert_eq!(table.nodes.len() - firm.count(), table.heard_count);
    assert_eq!(table.heard.values().sum::<usize>(), table.heard_count);
    assert_eq!(table.order.len(), table.networks.len());
    let seats = table.networks.values().map(|seats| seats.iter().count());
    assert_eq!(seats.sum::<usize>(), table.nodes.len());
    let held = table.nodes.entries.iter().flatten().count();
    assert_eq!(held, table.nodes.len());
    let names: Vec<NodeId> = table
        .nodes()
        .map(|known| known.announcement.node())
        .collect();
    assert!(names.is_sorted());
    assert!(table.directory.len() <= DIRECTORY_NETWORKS);
    assert!(table.own.len() <= OWN_NETWORKS);
    assert!(table.heard_count <= MAX_HEARD);
    for (network, seats) in &table.networks {
        let network = *network;
        assert!(seats.iter().next().is_some());
        let firm = table.sitting(network).any(|entry| table.is_firm(entry));
        let kept = table.directory.contains(&(public_rank(network), network))
            || table.own.contains(&(table.own_rank(network), network));
        let anchor = table.sitting(network).any(|entry| entry.anchor);
        assert!(firm == kept || anchor, "{network:?}");
    }
}

#[test]
fn a_supernode_believes_and_hands_out_only_what_it_met() {
    let mut table = supernode();
    let one = says(1, [20, 1], NOW);
    for n in 0..10 {
        table.hear(&one, &teller(n), NOW);
    }
    assert_eq!((live(&table), table.len()), (0, 1));
    assert!(table.page(None, 10, NOW).is_empty());
    table.met(one.node(), None, NOW);
    assert_eq!(live(&table), 1);
    assert_eq!(table.page(None, 10, NOW), [Arc::clone(&one)]);
    // Not for longer than it was met lately, and not when it fails.
    assert!(table.page(None, 10, NOW + FRESH_MILLIS).is_empty());
    assert_eq!(table.missed(one.node()), Some(1));
    assert!(table.page(None, 10, NOW).is_empty());
    is_sound(&table);
    // Its own name is nobody else's.
    assert!(!table.hear(&says(0, [20, 2], NOW), &teller(1), NOW));
}

#[test]
fn a_page_has_one_of_each_network_and_pages_cover_all() {
    let mut table = supernode();
    for n in 0..120 {
        let said = says(n + 1, [20, (n / 4) as u8], NOW);
        table.hear(&said, &teller(1), NOW);
        table.met(said.node(), None, NOW);
    }
    let (mut after, mut told) = (None, Vec::new());
    loop {
        let page = table.page(after.as_ref(), 8, NOW);
        let Some(last) = page.last() else { break };
        after = Some(Network::of_ip(last.addr().ip()));
        told.extend(page);
    }
    let networks: BTreeSet<Network> = told
        .iter()
        .map(|told| Network::of_ip(told.addr().ip()))
        .collect();
    assert_eq!((told.len(), networks.len()), (30, 30));
}

#[test]
fn what_one_liar_tells_does_not_count_once_others_tell() {
    for (witnesses, counting) in [(true, 0), (false, 1)] {
        let rules = TableRules {
            witnesses,
            ..TableRules::default()
        };
        let mut table = NodeTable::new(rules, None, [7; 8]);
        for n in 1..=4 {
            table.hear(&says(1, [20, 1], NOW), &teller(n), NOW);
            table.heard_out(&teller(n));
        }
        let lie = says(66, [66, 66], NOW);
        table.hear(&lie, &teller(66), NOW);
        let believed = table
            .live()
            .filter(|known| known.announcement.node() == lie.node());
        assert_eq!(believed.count(), counting);
        assert_eq!(live(&table), 1 + counting);
        is_sound(&table);
    }
    // Where hardly anybody tells, one is enough, and that is taken back later.
    let mut table = device();
    table.hear(&says(66, [66, 66], NOW), &teller(66), NOW);
    assert_eq!(live(&table), 1);
    table.heard_out(&teller(66));
    for n in 1..=2 {
        table.hear(&says(1, [20, 1], NOW), &teller(n), NOW);
        table.heard_out(&teller(n));
    }
    assert_eq!((table.need(), live(&table)), (2, 1));
    is_sound(&table);
}

#[test]
fn a_network_has_its_seats_and_nobody_is_pushed_out_by_hearsay() {
    for (test_before_evict, survivors) in [(true, SEATS), (false, 0)] {
        let rules = TableRules {
            test_before_evict,
            ..TableRules::default()
        };
        let mut table = NodeTable::new(rules, None, [7; 8]);
        let good: Vec<_> = (1..=SEATS as u32).map(|n| says(n, [20, 1], NOW)).collect();
        for said in &good {
            table.hear(said, &teller(1), NOW);
            table.met(said.node(), None, NOW);
        }
        for n in 100..200 {
            table.hear(&says(n, [20, 1], NOW), &teller(2), NOW);
        }
        let there = good.iter().filter(|said| table.get(said.node()).is_some());
        assert_eq!(there.count(), survivors);
        assert_eq!(table.len(), SEATS);
        is_sound(&table);
    }
    // One that fails makes room.
    let mut table = device();
    for n in 1..=SEATS as u32 {
        table.hear(&says(n, [20, 1], NOW), &teller(1), NOW);
    }
    table.missed(keys(2).id());
    assert!(table.hear(&says(9, [20, 1], NOW), &teller(1), NOW));
    assert!(table.get(keys(2).id()).is_none());
}

#[test]
fn whoever_moves_has_to_be_met_again_and_cannot_be_moved_by_others() {
    let mut table = supernode();
    let here = says(1, [20, 1], NOW);
    table.hear(&here, &teller(1), NOW);
    table.met(here.node(), None, NOW);
    // A forged move, an older one, then a true one.
    let mut forged = says(1, [30, 1], NOW + 1).as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Arc::new(Announcement::from_bytes(&forged).unwrap());
    table.hear(&forged, &teller(2), NOW);
    table.hear(&says(1, [30, 1], NOW - 1), &teller(2), NOW);
    assert_eq!(table.get(here.node()).unwrap().announcement, &here);
    let there = says(1, [30, 1], NOW + 1);
    assert!(table.hear(&there, &teller(2), NOW));
    let known = table.get(here.node()).unwrap();
    assert!(!known.tried && known.announcement.addr() == there.addr());
    is_sound(&table);
}

#[test]
fn one_teller_fills_its_share_of_what_was_only_heard() {
    let mut table = supernode();
    for n in 0..2 * MAX_HEARD_PER_SOURCE as u32 {
        let [.., a, b] = n.to_be_bytes();
        table.hear(&says(n + 1, [20 + a, b], NOW), &teller(1), NOW);
    }
    assert_eq!(table.len(), MAX_HEARD_PER_SOURCE);
    assert!(table.hear(&says(60_000, [200, 1], NOW), &teller(2), NOW));
    is_sound(&table);
}

#[test]
fn of_more_networks_than_fit_everybody_keeps_the_same_and_some_of_their_own() {
    const NETWORKS: u32 = 1_600;
    let mut tables = [[1; 8], [2; 8]].map(|secret| {
        let mut table = NodeTable::new(TableRules::default(), None, secret);
        let mut order: Vec<u32> = (0..NETWORKS).collect();
        if secret == [2; 8] {
            order.reverse();
        }
        for n in order {
            let [.., a, b] = n.to_be_bytes();
            let said = says(n + 1, [20 + a, b], NOW);
            table.hear(&said, &teller(1), NOW);
            table.met(said.node(), None, NOW);
        }
        is_sound(&table);
        table
    });
    let [one, two] = tables.each_ref().map(|table| {
        table
            .directory()
            .map(|node| node.node)
            .collect::<BTreeSet<NodeId>>()
    });
    assert_eq!(one.len(), DIRECTORY_NETWORKS);
    assert_eq!(one, two);
    for table in &tables {
        assert_eq!(table.len(), DIRECTORY_NETWORKS + OWN_NETWORKS);
    }
    let others = |table: &NodeTable| -> BTreeSet<NodeId> {
        let all = table.nodes().map(|known| known.announcement.node());
        all.filter(|node| !one.contains(node)).collect()
    };
    assert!(others(&tables[0]) != others(&tables[1]));
    // When one of them is gone the next takes its place.
    let gone = *one.first().unwrap();
    for _ in 0..FAILURES_UNTIL_FORGOTTEN {
        tables[0].missed(gone);
    }
    assert_eq!(tables[0].directory().count(), DIRECTORY_NETWORKS - 1);
    is_sound(&tables[0]);
}

#[test]
fn a_table_outlives_a_restart_with_its_anchors() {
    let mut table = device();
    for n in 1..=20 {
        let said = says(n, [20, n as u8], NOW);
        table.hear(&said, &teller(1), NOW);
        if n % 2 == 0 {
            table.met(said.node(), None, NOW + u64::from(n));
        }
    }
    table.set_anchors(&[keys(8).id(), keys(4).id()]);
    let kept = table.to_bytes();
    let again = NodeTable::from_bytes(TableRules::default(), None, &kept).unwrap();
    is_sound(&again);
    assert_eq!(again.to_bytes(), kept);
    assert_eq!(live(&again), 20);
    let anchors: Vec<NodeId> = again.anchors().iter().map(|node| node.node).collect();
    assert_eq!(
        anchors,
        [keys(4).id(), keys(8).id()],
        "the longest known first"
    );
    let forgetful = TableRules {
        anchors: false,
        ..TableRules::default()
    };
    let without = NodeTable::from_bytes(forgetful, None, &kept).unwrap();
    assert!(without.anchors().is_empty());
    // Anchors stay whatever happens.
    let mut again = again;
    for _ in 0..2 * FAILURES_UNTIL_FORGOTTEN {
        again.missed(keys(4).id());
        again.missed(keys(6).id());
    }
    assert!(again.get(keys(4).id()).is_some() && again.get(keys(6).id()).is_none());
}

#[test]
fn draws_are_among_networks_not_among_supernodes() {
    let mut table = device();
    // One network of four, nine of one each.
    for n in 1..=4 {
        table.hear(&says(n, [66, 66], NOW), &teller(1), NOW);
    }
    for n in 5..=13 {
        table.hear(&says(n, [20, n as u8], NOW), &teller(1), NOW);
    }
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let drawn = (0..10_000).filter_map(|_| table.draw(&mut rng, |_any| true));
    let crowded = drawn
        .filter(|node| Network::of(node) == Network::V4([66, 66]))
        .count();
    // The gaps between ten ranks differ; without buckets it would be 3077 of 10 000.
    println!("{crowded} of 10 000");
    assert!(crowded < 2_500);
    assert!(table.draw(&mut rng, |known| known.tried).is_none());
}

#[derive(Debug, Clone)]
enum Op {
    Hear(u32, u8, u8),
    Met(u32),
    Missed(u32),
    Anchor(u32),
    Save,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..60u32, 0..12u8, 0..8u8).prop_map(|(n, network, teller)| Op::Hear(n, network, teller)),
        2 => (0..60u32).prop_map(Op::Met),
        3 => (0..60u32).prop_map(Op::Missed),
        1 => (0..60u32).prop_map(Op::Anchor),
        1 => Just(Op::Save),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_the_table_adds_up(ops in prop::collection::vec(op(), 1..150), meet_all: bool) {
        let rules = TableRules { meet_all, ..TableRules::default() };
        let mut table = NodeTable::new(rules, None, [3; 8]);
        let mut now = NOW;
        for op in ops {
            now += 1000;
            match op {
                Op::Hear(n, network, from) => {
                    table.hear(&says(n, [20, network], now), &teller(from), now);
                }
                Op::Met(n) => table.met(keys(n).id(), None, now),
                Op::Missed(n) => { table.missed(keys(n).id()); }
                Op::Anchor(n) => table.set_anchors(&[keys(n).id()]),
                Op::Save => table = NodeTable::from_bytes(rules, None, &table.to_bytes()).unwrap(),
            }
            is_sound(&table);
        }
    }

    #[test]
    fn garbage_in_the_profile_is_an_error_or_a_sound_table(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(table) = NodeTable::from_bytes(TableRules::default(), None, &bytes) {
            is_sound(&table);
        }
    }
}

#[test]
fn what_is_over_is_not_taken() {
    let mut table = device();
    let old = says(1, [20, 1], NOW - ANNOUNCEMENT_LIFETIME_MILLIS);
    assert!(!table.hear(&old, &teller(1), NOW));
    assert!(table.is_empty());
}

/// A network far behind in both rankings, once the table is full.
fn behind(table: &NodeTable) -> [u8; 2] {
    let mut networks = (0..u16::MAX).map(u16::to_be_bytes);
    let far = |network: &[u8; 2]| !table.fits(Bucket::of(&Network::V4(*network)));
    networks.find(|network| far(network)).unwrap()
}

fn full(rules: TableRules) -> NodeTable {
    let mut table = NodeTable::new(rules, None, [7; 8]);
    for n in 0..2_000u32 {
        let [.., a, b] = n.to_be_bytes();
        let said = says(n + 1, [20 + a, b], NOW);
        table.hear(&said, &teller(1), NOW);
        table.met(said.node(), None, NOW);
    }
    table
}

#[test]
fn who_would_not_be_kept_is_not_heard_of_and_a_home_is_kept_wherever_it_is() {
    for fitting in [true, false] {
        let rules = TableRules {
            meet_all: true,
            fitting,
            ..TableRules::default()
        };
        let mut table = full(rules);
        is_sound(&table);
        let far = says(50_000, behind(&table), NOW);
        // Without the rule it is heard of as something new, as often as it is met and forgotten.
        for _time in 0..3 {
            assert_eq!(table.hear(&far, &teller(2), NOW), !fitting);
            table.met(far.node(), None, NOW);
            assert!(table.get(far.node()).is_none());
        }
        table.set_anchors(&[far.node()]);
        assert!(table.hear(&far, &teller(2), NOW));
        table.met(far.node(), None, NOW);
        assert!(table.get(far.node()).is_some_and(|known| known.anchor));
        is_sound(&table);
        let again = NodeTable::from_bytes(rules, None, &table.to_bytes()).unwrap();
        assert_eq!(again.anchors().len(), 1);
    }
}

/// Those that count take two thirds of what they took as strings and lists of their own, and no flood makes it more than the
/// bounds say.
#[test]
fn a_table_stays_small_whatever_is_told() {
    let mut table = full(TableRules::default());
    let each = table.memory_bytes() / table.len();
    println!("{each} bytes for each");
    assert!(each <= 260, "{each}");
    for n in 0..60_000u32 {
        let [_, a, b, c] = n.wrapping_mul(40_503).to_be_bytes();
        table.hear(&says(n + 100_000, [a | 1, b], NOW), &teller(c % 64), NOW);
    }
    is_sound(&table);
    let most = (DIRECTORY_NETWORKS + OWN_NETWORKS) * SEATS + MAX_HEARD;
    assert!(table.len() <= most && table.memory_bytes() <= most * each);
}

#[test]
fn nobody_knows_itself() {
    let mut table = supernode();
    let one = says(1, [20, 1], NOW);
    table.hear(&one, &teller(1), NOW);
    table.set_me(one.node());
    assert!(table.is_empty() && !table.hear(&one, &teller(1), NOW));
    is_sound(&table);
}
