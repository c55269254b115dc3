//! Relay, TURN client, ICE and QUIC-shaped data on the ports that ship: one per node, over loopback.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    gather::host_candidates,
    ice::{IceCredentials, IceEvent, IceRole, rtc::RtcIceAgent, runner::IceRunner},
    port::{PortHub, RawPort, SharedPort},
    supernode::relay::{
        RelayConfig,
        credentials::CredentialOwner,
        server::{RelayServer, RelayServerConfig},
    },
    turn::{TurnConfig, allocation::TurnAllocation},
};
use ahoy_transport::{
    mux::{MuxConfig, MuxSocket, RelayRoute},
    runtime::{Runtime, RuntimeExt, Task, TokioRuntime, timeout},
};
use quinn::{
    AsyncUdpSocket,
    udp::{RecvMeta, Transmit},
};
use tokio::sync::mpsc;

const VERSION: u32 = 0x6168_6f79;
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const LIMIT: Duration = Duration::from_secs(10);

/// A node's port with something in quinn's place: it keeps what QUIC would get.
struct Node {
    mux: Arc<MuxSocket>,
    hub: Arc<PortHub>,
    quic: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    _reader: Task,
}

fn node(runtime: &Arc<dyn Runtime>, config: MuxConfig) -> Node {
    let mux = MuxSocket::new(
        Arc::clone(runtime),
        runtime.bind_udp(LOOPBACK).unwrap(),
        config,
    )
    .unwrap();
    let (sender, quic) = mpsc::channel(64);
    let reading = Arc::clone(&mux);
    let reader = runtime.spawn_task(async move {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut metas = [RecvMeta::default()];
            std::future::poll_fn(|cx| {
                reading.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut metas)
            })
            .await
            .unwrap();
            let [meta] = metas;
            let train = buffer.get(..meta.len).unwrap_or_default();
            for datagram in train.chunks(meta.stride.max(1)) {
                sender.send((meta.addr, datagram.to_vec())).await.unwrap();
            }
        }
    });
    let port: Arc<dyn RawPort> = Arc::new(SharedPort::new(Arc::clone(&mux)));
    let hub = PortHub::start(&**runtime, port);
    Node {
        mux,
        hub,
        quic,
        _reader: reader,
    }
}

/// What only a QUIC short header looks like here.
fn quic_packet(n: u8) -> Vec<u8> {
    [&[0x45, 0x99, n][..], &[7; 200]].concat()
}

fn send(mux: &MuxSocket, to: SocketAddr, packet: &[u8]) {
    let transmit = Transmit {
        destination: to,
        ecn: None,
        contents: packet,
        segment_size: None,
        src_ip: None,
    };
    mux.try_send(&transmit).unwrap();
}

/// The selection. Pairs that work without being selected come before it.
async fn selection(ice: &IceRunner) -> IceEvent {
    loop {
        let event = ice.event().await;
        if !matches!(event, IceEvent::Valid { .. }) {
            return event;
        }
    }
}

#[tokio::test]
async fn quic_crosses_the_relay_and_then_goes_directly_on_the_same_ports() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let supernode = node(&runtime, MuxConfig::supernode(VERSION));
    let relay_addr = supernode.mux.local_addr();
    let config = RelayServerConfig::new(RelayConfig::new("ahoy", &[relay_addr.ip()]));
    let relay = RelayServer::start(Arc::clone(&runtime), &supernode.hub, config).unwrap();

    // Both allocate, in one round trip each, and bind each other.
    let mut nodes = [1u8, 2].map(|_| node(&runtime, MuxConfig::peer(VERSION)));
    let mut allocations = Vec::new();
    for (n, node) in (1u8..).zip(&nodes) {
        let owner = CredentialOwner::Device([n; 32]);
        let credentials = relay
            .issue_credentials(owner, node.mux.local_addr().ip())
            .unwrap();
        let config = TurnConfig::new(relay_addr, credentials);
        allocations.push(
            TurnAllocation::allocate(Arc::clone(&runtime), &node.hub, config)
                .await
                .unwrap(),
        );
    }
    let [alice, bob] = &mut nodes;
    let [turn_a, turn_b] = allocations.as_slice() else {
        panic!("two allocations")
    };
    let to_bob = turn_a.bind_peer(turn_b.relayed_addr()).await.unwrap();
    let to_alice = turn_b.bind_peer(turn_a.relayed_addr()).await.unwrap();

    // Relay first.
    let route = |mux: &MuxSocket, binding: ahoy_nat::turn::allocation::RelayBinding| {
        let ahoy_nat::turn::allocation::RelayBinding {
            server,
            channel,
            peer,
        } = binding;
        mux.add_relay_route(RelayRoute {
            server,
            channel,
            peer,
        })
        .unwrap()
    };
    let (bob_via_relay, alice_via_relay) = (route(&alice.mux, to_bob), route(&bob.mux, to_alice));
    for n in 0..20 {
        send(&alice.mux, bob_via_relay, &quic_packet(n));
        let (from, packet) = timeout(&*runtime, LIMIT, bob.quic.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!((from, packet), (alice_via_relay, quic_packet(n)));
        send(&bob.mux, alice_via_relay, &quic_packet(n));
        let (from, packet) = timeout(&*runtime, LIMIT, alice.quic.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!((from, packet), (bob_via_relay, quic_packet(n)));
    }
    let relayed = relay.counters();
    assert_eq!(
        (relayed.packets_in_process, relayed.dropped_total()),
        (40, 0)
    );

    // Then ICE finds the direct way, and QUIC takes it once the address is admitted.
    let credentials = |role| IceCredentials::derive(&[9; 32], role, 0);
    let (caller, callee) = (
        credentials(IceRole::Controlling),
        credentials(IceRole::Controlled),
    );
    let ice = |node: &Node, role, local: &IceCredentials, remote: &IceCredentials| {
        let port = node.mux.local_addr().port();
        let seed = runtime.random_array();
        let agent = RtcIceAgent::new(runtime.now(), role, port, local, remote, seed).unwrap();
        IceRunner::start(
            Arc::clone(&runtime),
            &node.hub,
            &local.ufrag,
            Box::new(agent),
        )
        .unwrap()
    };
    let ice_a = ice(alice, IceRole::Controlling, &caller, &callee);
    let ice_b = ice(bob, IceRole::Controlled, &callee, &caller);
    for candidate in host_candidates(&*runtime, alice.mux.local_addr(), true) {
        ice_a.add_local(candidate);
        ice_b.add_remote(candidate);
    }
    for candidate in host_candidates(&*runtime, bob.mux.local_addr(), true) {
        ice_b.add_local(candidate);
        ice_a.add_remote(candidate);
    }
    let (a, b) = (alice.mux.local_addr(), bob.mux.local_addr());
    let event = timeout(&*runtime, LIMIT, selection(&ice_a)).await;
    assert_eq!(
        event,
        Some(IceEvent::Selected {
            local: a,
            remote: b
        })
    );
    let event = timeout(&*runtime, LIMIT, selection(&ice_b)).await;
    assert_eq!(
        event,
        Some(IceEvent::Selected {
            local: b,
            remote: a
        })
    );
    alice.mux.admit(b).unwrap();
    bob.mux.admit(a).unwrap();
    send(&alice.mux, b, &quic_packet(99));
    let (_, packet) = timeout(&*runtime, LIMIT, bob.quic.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(packet, quic_packet(99));
    assert_eq!(
        relay.counters().packets_in_process,
        40,
        "not through the relay"
    );

    // Nothing was lost on the way: no request had to be sent twice.
    for node in [&supernode, alice, bob] {
        assert_eq!(node.mux.stats().dropped.send_blocked, 0);
    }
}
