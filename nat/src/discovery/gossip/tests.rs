use std::net::Ipv4Addr;

use super::*;
use crate::discovery::table::MAX_HEARD_PER_SOURCE;

const NOW: u64 = 1_800_000_000_000;

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of virtual time"
    )]
    Instant::now()
}

fn keys(n: u32) -> NodeKeys {
    let mut seed = [5; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    NodeKeys::from_seed(&seed)
}

fn own(n: u32, ip: Ipv4Addr) -> Own {
    Own {
        keys: keys(n),
        addr: (ip, 4433).into(),
        tcp: None,
        capabilities: Capabilities::RECORDS,
    }
}

/// Supernodes that come, say that they are there and are pushed out by others: each waits to be met, though it is gone.
#[test]
fn however_many_come_and_go_what_waits_to_be_met_is_bounded() {
    let policy = GossipPolicy::supernode();
    let now = start();
    let me = own(0, [20, 0, 0, 1].into());
    let mut gossip = Gossip::new(policy, Some(me), None, Vec::new(), now, [1; 32]);
    let comes = MAX_DUE as u32 + 2_000;
    for n in 1..=comes {
        let [.., a, b] = (n % 5_000).to_be_bytes();
        let ip = Ipv4Addr::from([20 + a, b, 1, 1]);
        let said = own(n, ip);
        let said = Announcement::issue(&said.keys, said.addr, None, said.capabilities, NOW);
        let asked = Asked {
            // From many networks, so that none is at its own bound.
            source: [100, (n % 60) as u8, 0, 1].into(),
            after: None,
            most: 0,
            own: Some(Arc::new(said)),
        };
        gossip.answer(now, NOW, &asked);
        // Time for a dial or two of those that wait.
        if n % 64 == 0 {
            gossip.table.missed(keys(n).id());
            gossip.table.missed(keys(n).id());
        }
    }
    println!(
        "{comes} came, {} were new, {} are known, {} wait",
        gossip.counters().heard,
        gossip.table().len(),
        gossip.due.len()
    );
    assert!(gossip.counters().heard > 2 * MAX_HEARD_PER_SOURCE as u64);
    assert!(gossip.due.len() <= MAX_DUE);
    assert!(gossip.memory_bytes() < 8 << 20);
}
