//! Relay and TURN client together, over real sockets on loopback.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ahoy_nat::{
    port::{PortHub, RawPort, UdpPort},
    supernode::relay::{
        RelayConfig,
        counters::Drop,
        credentials::CredentialOwner,
        server::{RelayServer, RelayServerConfig},
    },
    turn::{TurnConfig, TurnError, allocation::TurnAllocation},
};
use ahoy_transport::runtime::{Runtime, TokioRuntime, timeout};
use common::{Data, LIMIT, LOOPBACK, TappedPort, channel};

struct Node {
    _hub: Arc<PortHub>,
    addr: SocketAddr,
    server: RelayServer,
}

async fn node(runtime: &Arc<dyn Runtime>, change: impl FnOnce(&mut RelayConfig)) -> Node {
    let port = Arc::new(
        UdpPort::new(runtime.bind_udp(LOOPBACK).unwrap())
            .await
            .unwrap(),
    );
    let addr = port.local_addr();
    let hub = PortHub::start(&**runtime, port);
    let mut relay = RelayConfig::new("ahoy", &[addr.ip()]);
    change(&mut relay);
    let config = RelayServerConfig::new(relay);
    let server = RelayServer::start(Arc::clone(runtime), &hub, config).unwrap();
    Node {
        _hub: hub,
        addr,
        server,
    }
}

struct Client {
    hub: Arc<PortHub>,
    port: Arc<dyn RawPort>,
    data: Data,
    allocation: TurnAllocation,
}

async fn client(runtime: &Arc<dyn Runtime>, node: &Node, owner: u8) -> Client {
    let (port, data) = TappedPort::bind(&**runtime).await;
    let hub = PortHub::start(&**runtime, Arc::clone(&port));
    let owner = CredentialOwner::Device([owner; 32]);
    let credentials = node
        .server
        .issue_credentials(owner, port.local_addr().ip())
        .unwrap();
    let config = TurnConfig::new(node.addr, credentials);
    let allocation = TurnAllocation::allocate(Arc::clone(runtime), &hub, config)
        .await
        .unwrap();
    assert_eq!(allocation.mapped_addr(), port.local_addr());
    Client {
        hub,
        port,
        data,
        allocation,
    }
}

#[tokio::test]
async fn two_clients_of_one_relay_exchange_data_and_the_counters_agree() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let node = node(&runtime, |_| {}).await;
    let (alice, bob) = (
        client(&runtime, &node, 1).await,
        client(&runtime, &node, 2).await,
    );
    let (a, b) = (
        alice.allocation.relayed_addr(),
        bob.allocation.relayed_addr(),
    );
    let to_bob = alice.allocation.bind_peer(b).await.unwrap();
    let to_alice = bob.allocation.bind_peer(a).await.unwrap();
    for n in 0..100u8 {
        alice
            .port
            .send(to_bob.server, None, &channel(to_bob.channel, &[n; 100]));
        assert_eq!(bob.data.next().await, channel(to_alice.channel, &[n; 100]));
        bob.port
            .send(to_alice.server, None, &channel(to_alice.channel, &[n; 50]));
        assert_eq!(alice.data.next().await, channel(to_bob.channel, &[n; 50]));
    }
    let counters = node.server.counters();
    assert_eq!(
        (counters.packets_in_process, counters.dropped_total()),
        (200, 0)
    );
    assert_eq!(
        (
            counters.traffic.bytes_from_client,
            counters.traffic.bytes_to_client
        ),
        (15_000, 15_000)
    );
    let traffic = node.server.traffic(a).unwrap();
    assert_eq!(
        (traffic.bytes_from_client, traffic.bytes_to_client),
        (10_000, 5_000)
    );

    // Gone is gone, and the place is free again.
    bob.allocation.close().await;
    assert_eq!(node.server.counters().allocations_live, 1);
    assert_eq!(node.server.traffic(b), None);
}

#[tokio::test]
async fn two_relays_on_private_addresses_need_both_the_switch_and_the_registration() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    for (allow_private, registered) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let (here, there) = (
            node(&runtime, |config| {
                config.switches.allow_private = allow_private
            })
            .await,
            node(&runtime, |config| {
                config.switches.allow_private = allow_private
            })
            .await,
        );
        let (alice, bob) = (
            client(&runtime, &here, 1).await,
            client(&runtime, &there, 2).await,
        );
        let (a, b) = (
            alice.allocation.relayed_addr(),
            bob.allocation.relayed_addr(),
        );
        if registered {
            let until = runtime.now() + Duration::from_secs(60);
            assert!(here.server.allow_address(b, until));
            assert!(there.server.allow_address(a, until));
        }
        // The relays share the loopback address, so a binding is granted for allocations of the same relay;
        // what counts is whether data leaves.
        let to_bob = alice.allocation.bind_peer(b).await.unwrap();
        let to_alice = bob.allocation.bind_peer(a).await.unwrap();
        alice
            .port
            .send(to_bob.server, None, &channel(to_bob.channel, b"ahoy"));
        if allow_private && registered {
            assert_eq!(bob.data.next().await, channel(to_alice.channel, b"ahoy"));
            bob.port
                .send(to_alice.server, None, &channel(to_alice.channel, b"aye"));
            assert_eq!(alice.data.next().await, channel(to_bob.channel, b"aye"));
            assert_eq!(here.server.traffic(a).unwrap().bytes_from_client, 4);
            assert_eq!(there.server.traffic(b).unwrap().bytes_to_client, 4);
        } else {
            let dropped = async {
                while here.server.counters().dropped(Drop::NoSuchRelayedAddress) == 0 {
                    tokio::task::yield_now().await;
                }
            };
            timeout(&*runtime, LIMIT, dropped)
                .await
                .expect("the packet is dropped");
            assert_eq!(here.server.traffic(a).unwrap().bytes_from_client, 0);
        }
    }
}

#[tokio::test]
async fn a_refused_peer_and_a_second_allocation_on_one_port_are_named() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let node = node(&runtime, |_| {}).await;
    let alice = client(&runtime, &node, 1).await;
    let refused = alice
        .allocation
        .bind_peer("8.8.8.8:5000".parse().unwrap())
        .await;
    assert_eq!(refused.unwrap_err(), TurnError::Refused(403));
    let owner = CredentialOwner::Device([3; 32]);
    let credentials = node.server.issue_credentials(owner, LOOPBACK.ip()).unwrap();
    let config = TurnConfig::new(node.addr, credentials);
    let second = TurnAllocation::allocate(Arc::clone(&runtime), &alice.hub, config).await;
    assert!(matches!(second, Err(TurnError::Port(_))));
}

#[tokio::test]
async fn dropping_a_client_or_a_server_leaves_nothing_running() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let node = node(&runtime, |_| {}).await;
    let alice = client(&runtime, &node, 1).await;
    let bob = client(&runtime, &node, 2).await;
    let relayed = alice.allocation.relayed_addr();
    drop(alice);
    // Bob's round trip comes after Alice's last packet.
    let binding = bob.allocation.bind_peer(relayed).await;
    assert!(
        binding.is_ok(),
        "this relay's own address may always be named"
    );
    assert_eq!(node.server.counters().allocations_live, 1);
    let socket = bob.allocation.relayed_addr();
    drop(node);
    let freed = async {
        while runtime.bind_udp(socket).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(&*runtime, LIMIT, freed)
        .await
        .expect("the relayed socket is closed");
}
