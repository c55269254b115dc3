//! Supernodes that come to know each other, as shipped, in virtual time.

use std::{collections::BTreeSet, time::Duration};

use ahoy::{sim::Limits, supernode::Peer};
use ahoy_tests::people::{Home, Stage};
use ahoy_transport::identity::NodeId;

const SEED: u64 = 0x6d65_6574;
const NODES: [[u8; 4]; 3] = [[203, 0, 113, 1], [192, 0, 2, 2], [198, 18, 0, 3]];

/// Whoever heard of itself from others would count, dial and ask itself.
#[test]
fn each_knows_all_others_and_not_itself() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED, folder.path());
    stage.world.set_limits(Limits {
        time: Duration::from_secs(2 * 3600),
        ..Limits::default()
    });
    let play = async {
        let mut homes: Vec<Home> = Vec::new();
        for (n, ip) in NODES.into_iter().enumerate() {
            let before: Vec<_> = homes.iter().map(|home| home.address.clone()).collect();
            let name = format!("home {n}");
            let home = stage.home_with(&name, ip, |config| {
                config.network.peers = before.into_iter().map(Peer).collect();
            });
            homes.push(home.await);
        }
        stage.pass(Duration::from_secs(3600)).await;
        let all: BTreeSet<NodeId> = homes.iter().map(|home| home.address.node).collect();
        for home in &homes {
            let others = all.iter().filter(|node| **node != home.address.node);
            assert_eq!(home.known(), others.copied().collect::<Vec<_>>());
        }
    };
    stage.world.block_on(stage.director, play).unwrap();
}
