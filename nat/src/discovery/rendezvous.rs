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

    fn of_ip(ip: IpAddr) -> Self {
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

    fn bytes(&self) -> Vec<u8> {
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
    let best = ranked.into_iter().take(PLACES);
    best.map(|(_score, node)| node.clone()).collect()
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
