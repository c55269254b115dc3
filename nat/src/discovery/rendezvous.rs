//! Where a person's record is among many supernodes, without anybody who says so: a ranking of *networks* that everybody
//! computes alike.
//!
//! Each network (a /16 of IPv4, a /32 of IPv6, a domain) that holds a known supernode gets a score,
//! SHA-256(label | user | day | network); the record is at one supernode in each of the [`PLACES`] best. Publisher and
//! reader go there directly, all at once. Networks are ranked, not keys: a key costs nothing, so whoever could place one
//! near a person would sit at all places; a network has one place however many supernodes somebody runs in it. Each side
//! knows other supernodes, and most of the best networks are the same for both all the same.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ahoy_transport::identity::{Host, NodeAddress, UserId};
use ring::digest;

/// Supernodes that hold one record.
pub const PLACES: usize = 8;
/// Places move each day, so that nobody is at the same person's for long.
pub const DAY_MILLIS: u64 = 24 * 3_600_000;

/// What counts as one network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// The first 16 bits.
    V4([u8; 2]),
    /// The first 32 bits.
    V6([u8; 4]),
    /// The last two labels of a name.
    Domain(String),
}

impl Network {
    /// In which a supernode is.
    #[must_use]
    pub fn of(node: &NodeAddress) -> Self {
        match &node.host {
            Host::Ip(ip) => Self::of_ip(*ip),
            Host::Name(name) => {
                let mut labels: Vec<&str> = name.rsplit('.').take(2).collect();
                labels.reverse();
                Self::Domain(labels.join("."))
            }
        }
    }

    /// In which an address is.
    #[must_use]
    pub fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, _, _] = ip.octets();
        Self::V4([a, b])
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = ip.octets();
        Self::V6([a, b, c, d])
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::V4(bytes) => [&[4], &bytes[..]].concat(),
            Self::V6(bytes) => [&[6], &bytes[..]].concat(),
            Self::Domain(name) => [&[0], name.as_bytes()].concat(),
        }
    }
}

fn score(user: UserId, day: u64, what: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"ahoy rendezvous 1\0");
    context.update(user.as_bytes());
    context.update(&day.to_be_bytes());
    context.update(what);
    let mut score = [0; 32];
    score
        .iter_mut()
        .zip(context.finish().as_ref())
        .for_each(|(to, from)| *to = *from);
    score
}

/// At which of the `known` supernodes the record of `user` is on a day (since 1970): at most [`PLACES`], each in a network
/// of its own, best first.
#[must_use]
pub fn places<'a>(
    user: UserId,
    day: u64,
    known: impl IntoIterator<Item = &'a NodeAddress>,
) -> Vec<NodeAddress> {
    ranked(user, day, known, PLACES)
}

/// As [`places`], and those that come next where some of them are dead: `most` in all.
#[must_use]
pub fn ranked<'a>(
    user: UserId,
    day: u64,
    known: impl IntoIterator<Item = &'a NodeAddress>,
    most: usize,
) -> Vec<NodeAddress> {
    // In each network the one with the best key: there, keys may be chosen, by its owner alone.
    let mut networks: BTreeMap<Network, ([u8; 32], &NodeAddress)> = BTreeMap::new();
    for node in known {
        let theirs = score(user, day, node.node.as_bytes());
        let best = networks.entry(Network::of(node)).or_insert((theirs, node));
        if theirs < best.0 {
            *best = (theirs, node);
        }
    }
    let mut ranked: Vec<([u8; 32], &NodeAddress)> = networks
        .iter()
        .map(|(network, (_key, node))| (score(user, day, &network.bytes()), *node))
        .collect();
    ranked.sort_by_key(|(score, _node)| *score);
    let best = ranked.into_iter().take(most);
    best.map(|(_score, node)| node.clone()).collect()
}

/// Supernodes tried for one record when many are dead.
pub const MAX_TRIED: usize = 32;

/// Going to the [`PLACES`] of a record: for each supernode that does not answer the next one takes its place, so that a record
/// is at eight that live, and who looks for it goes past the dead ones to those that had it before they died. Sans-IO.
#[derive(Debug, Clone)]
pub struct Visit {
    next: std::vec::IntoIter<NodeAddress>,
    under_way: usize,
    answered: usize,
    walk_on: bool,
}

impl Visit {
    /// To the places among `ranked`, the best first; see [`ranked`]. Without `walk_on` only the first eight are tried.
    #[must_use]
    pub fn new(ranked: Vec<NodeAddress>, walk_on: bool) -> Self {
        let mut ranked = ranked;
        ranked.truncate(if walk_on { MAX_TRIED } else { PLACES });
        Self {
            next: ranked.into_iter(),
            under_way: 0,
            answered: 0,
            walk_on,
        }
    }

    /// The next one to ask now.
    pub fn poll(&mut self) -> Option<NodeAddress> {
        let enough = self.walk_on && self.under_way + self.answered >= PLACES;
        if enough {
            return None;
        }
        let next = self.next.next()?;
        self.under_way += 1;
        Some(next)
    }

    /// One that was asked answered, whatever it said, or did not.
    pub fn handle_answer(&mut self, answered: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        self.answered += usize::from(answered);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ahoy_transport::identity::{NodeKeys, RootKey};
    use rand_chacha::{
        ChaCha20Rng,
        rand_core::{RngCore, SeedableRng},
    };

    use super::*;

    const SEED: u64 = 0x0067_0001;

    fn node(rng: &mut ChaCha20Rng, network: [u8; 2]) -> NodeAddress {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let id = NodeKeys::from_seed(&seed).id();
        let rest = rng.next_u32().to_be_bytes();
        NodeAddress::new(
            id,
            ([network[0], network[1], rest[0], rest[1]], 4433).into(),
        )
    }

    fn network(rng: &mut ChaCha20Rng) -> [u8; 2] {
        let bytes = rng.next_u32().to_be_bytes();
        [bytes[0], bytes[1]]
    }

    #[test]
    fn each_place_is_in_a_network_of_its_own_and_everybody_computes_the_same() {
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let user = RootKey::from_seed(&[1; 32]).user();
        let mut known: Vec<NodeAddress> = (0..100)
            .map(|n| node(&mut rng, [10, (n / 8) as u8]))
            .collect();
        let first = places(user, 1, &known);
        let networks: BTreeSet<Network> = first.iter().map(Network::of).collect();
        assert_eq!((first.len(), networks.len()), (PLACES, PLACES));
        known.reverse();
        assert_eq!(places(user, 1, &known), first, "in whatever order");
        assert_ne!(places(user, 2, &known), first, "other days, other places");
        assert_eq!(
            places(user, 1, &known[..3]).len(),
            1,
            "one network, one place"
        );
        assert!(places(user, 1, []).is_empty());
    }

    #[test]
    fn networks_are_told_apart_as_they_are_given_out() {
        let id = NodeKeys::from_seed(&[1; 32]).id();
        let of = |place: &str| Network::of(&format!("{id}@{place}:1").parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.99.9"));
        assert_ne!(of("192.0.2.1"), of("192.1.2.1"));
        assert_eq!(of("[2001:db8:1::1]"), of("[2001:db8:ffff::2]"));
        assert_ne!(of("[2001:db8::1]"), of("[2001:db9::1]"));
        assert_eq!(of("a.b.example.org"), of("c.example.org"));
        assert_eq!(of("[::ffff:192.0.2.1]"), of("192.0.2.1"));
    }

    #[test]
    fn who_does_not_answer_is_passed_by_and_eight_that_answer_are_enough() {
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let user = RootKey::from_seed(&[1; 32]).user();
        let known: Vec<NodeAddress> = (0..100).map(|n| node(&mut rng, [10, n])).collect();
        let order = ranked(user, 1, &known, 100);
        assert_eq!(&order[..PLACES], places(user, 1, &known));
        let visited = |dead: &dyn Fn(usize) -> bool, walk_on| {
            let mut visit = Visit::new(order.clone(), walk_on);
            let (mut asked, mut answered) = (0, 0);
            loop {
                let now: Vec<NodeAddress> = std::iter::from_fn(|| visit.poll()).collect();
                if now.is_empty() {
                    return (asked, answered);
                }
                assert!(now.len() <= PLACES);
                for node in now {
                    let at = order.iter().position(|other| *other == node).unwrap();
                    answered += usize::from(!dead(at));
                    asked += 1;
                    visit.handle_answer(!dead(at));
                }
            }
        };
        assert_eq!(visited(&|_at| false, true), (8, 8));
        assert_eq!(visited(&|at| at % 2 == 0, true), (16, 8));
        assert_eq!(visited(&|_at| true, true), (MAX_TRIED, 0));
        assert_eq!(visited(&|at| at % 2 == 0, false), (8, 4));
    }

    /// What a search comes to.
    #[derive(Default)]
    struct Outcome {
        found: usize,
        hostile_places: usize,
    }

    /// A thousand supernodes, a third or more of them dead after the record was put, and an attacker with one supernode in
    /// each of `hostile` networks, who owns each network that one is in. Publisher and reader each miss a tenth of all.
    fn search(hostile: usize, dead_percent: u32, by_key: bool) -> Outcome {
        const PEOPLE: usize = 200;
        println!("seed {SEED:#x}");
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let mut nodes: Vec<NodeAddress> = Vec::new();
        for _ in 0..1000 {
            let at = network(&mut rng);
            nodes.push(node(&mut rng, at));
        }
        let mut owned = BTreeSet::new();
        while owned.len() < hostile {
            let at = network(&mut rng);
            if owned.insert(Network::V4(at)) {
                nodes.push(node(&mut rng, at));
            }
        }
        let mut outcome = Outcome::default();
        for person in 0..PEOPLE {
            let user = RootKey::from_seed(&[person as u8; 32]).user();
            let view = |rng: &mut ChaCha20Rng| {
                let seen = nodes.iter().filter(|_| !rng.next_u32().is_multiple_of(10));
                if by_key {
                    // Whoever grinds keys is nearest to everybody: what the ranking of networks is there for.
                    let mut ranked: Vec<&NodeAddress> = seen.collect();
                    ranked.sort_by_key(|node| {
                        let is_owned = owned.contains(&Network::of(node));
                        (!is_owned, score(user, 1, node.node.as_bytes()))
                    });
                    ranked.into_iter().take(PLACES).cloned().collect()
                } else {
                    places(user, 1, seen)
                }
            };
            let put: Vec<NodeAddress> = view(&mut rng);
            let asked: Vec<NodeAddress> = view(&mut rng);
            let is_hostile = |node: &&NodeAddress| owned.contains(&Network::of(node));
            outcome.hostile_places += put.iter().filter(is_hostile).count();
            let alive: BTreeSet<&NodeAddress> = nodes
                .iter()
                .filter(|_| rng.next_u32() % 100 >= dead_percent)
                .collect();
            let holds = |node: &&NodeAddress| {
                put.contains(node) && alive.contains(*node) && !is_hostile(node)
            };
            outcome.found += usize::from(asked.iter().any(|node| holds(&node)));
        }
        println!(
            "{hostile} hostile networks, {dead_percent} % dead, by key {by_key}: {} of {PEOPLE} found, {:.1} of {PLACES} places hostile",
            outcome.found,
            outcome.hostile_places as f64 / PEOPLE as f64,
        );
        outcome
    }

    #[test]
    fn people_are_found_with_most_supernodes_dead_and_many_networks_hostile() {
        // 0.6 to the power of the seven places that both sides share: three in a hundred miss.
        assert!(search(0, 60, false).found >= 188);
        assert!(search(256, 0, false).found >= 199);
        assert!(search(256, 33, false).found >= 190);
        assert!(search(16, 60, false).found >= 185);
        // Ranked by keys, the same attacker has all places of everybody.
        assert_eq!(search(256, 0, true).found, 0);
    }
}
