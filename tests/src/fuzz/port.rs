//! The one port as the internet sees it: whatever a stranger sends to a device or a supernode.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ahoy::{
    sim::World,
    supernode::{Status, SupernodeConfig, SupernodeHandle},
};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig},
    identity::NodeKeys,
    runtime::Runtime,
};

use super::turn::Script;
use crate::udp::Udp;

pub(super) const PORT: u16 = 4433;
pub(super) const SEED: u64 = 0x00f0_0001;
/// Between two datagrams: longer than anything takes without delay on the way.
const PACE: Duration = Duration::from_millis(20);
/// Datagrams in one run.
pub(super) const MAX_DATAGRAMS: usize = 16;
/// Longest answer to a STUN request: an error with realm and nonce. RFC 8489 lets a server answer with more than
/// it got; the relay meters it.
const STUN_ANSWER: u64 = 256;

pub(super) fn target() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 1], PORT))
}

pub(super) fn stranger() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], PORT))
}

pub(super) fn node_keys() -> NodeKeys {
    NodeKeys::from_seed(&[0x5e; 32])
}

/// Datagrams `u16 length | bytes` from the stranger to the target; returns how many and how many bytes.
fn send_all(world: &World, from: ahoy::sim::SimNode, bytes: &[u8]) -> (u64, u64) {
    let udp = Udp::bind(&*world.runtime(from), stranger()).expect("the port is free");
    let mut script = Script::new(bytes);
    let mut sent = (0, 0);
    for _ in 0..MAX_DATAGRAMS {
        let Some(len) = script.u16() else { break };
        let datagram = script.bytes(usize::from(len));
        if datagram.is_empty() {
            break;
        }
        // Longer than the network takes is the network's business.
        if udp.send(target(), datagram).is_ok() {
            sent = (sent.0 + 1, sent.1 + datagram.len() as u64);
        }
        world.run_for(PACE).expect("the world goes on");
    }
    world
        .run_for(Duration::from_secs(3))
        .expect("the world goes on");
    sent
}

/// A device stays silent, even towards an address that may speak to it.
pub fn peer_port(bytes: &[u8]) {
    let world = World::new(SEED);
    let device = world.add_node("device", &[target().ip()]);
    let from = world.add_node("stranger", &[stranger().ip()]);
    let runtime: Arc<dyn Runtime> = world.runtime(device);
    let endpoint = Endpoint::bind(runtime, EndpointConfig::peer(target())).expect("a port is free");
    if bytes.first().is_some_and(|first| first & 1 == 0) {
        endpoint.mux().admit(stranger()).expect("there is room");
    }
    send_all(&world, from, bytes.get(1..).unwrap_or_default());
    assert_eq!(world.node_stats(device).sent, 0, "a device is silent");
}

/// A supernode answers, but never with much more than it got.
pub fn supernode_port(bytes: &[u8]) {
    supernode_fed(bytes);
}

/// Feeds a supernode; returns what it then has to say.
pub(super) fn supernode_fed(bytes: &[u8]) -> Status {
    let world = World::new(SEED);
    let home = world.add_node("home", &[target().ip()]);
    let from = world.add_node("stranger", &[stranger().ip()]);
    let config = SupernodeConfig {
        listen: vec![target()],
        ..SupernodeConfig::default()
    };
    let keys = node_keys();
    let starting = SupernodeHandle::start(world.runtime(home), config, &keys);
    let supernode = world
        .block_on(home, starting)
        .expect("it starts")
        .expect("the port is free");
    let (datagrams, received) = send_all(&world, from, bytes);
    let sent = world.node_stats(home).sent_bytes;
    // RFC 9000 section 8.1, and STUN besides.
    assert!(
        sent <= 3 * received + STUN_ANSWER * datagrams,
        "{sent} bytes for {received}"
    );
    supernode.status()
}
