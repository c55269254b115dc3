//! Relay, TURN client and ICE in virtual time: what a round trip costs, two homes, a home that dies.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy::sim::{Conditions, SimNode, TraceHash, World};
use ahoy_nat::{
    gather::host_candidates,
    ice::{IceCredentials, IceEvent, IceRole, rtc::RtcIceAgent, runner::IceRunner},
    port::{PortHub, RawPort, Subscription, UdpPort},
    supernode::relay::{
        RelayConfig,
        credentials::CredentialOwner,
        server::{RelayServer, RelayServerConfig},
    },
    turn::{TurnConfig, TurnError, allocation::TurnAllocation},
};
use ahoy_transport::runtime::{Runtime, RuntimeExt};

const SEED: u64 = 0x00a0_0003;

/// One way between a device and anything else.
const ONE_WAY: Duration = Duration::from_millis(20);

/// Two supernodes in a data centre, two devices at home.
struct Net {
    world: World,
    homes: [SimNode; 2],
    devices: [SimNode; 2],
}

fn net(seed: u64) -> Net {
    let world = World::new(seed);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let homes = [
        world.add_node("home a", &[ip("203.0.113.1")]),
        world.add_node("home b", &[ip("203.0.113.2")]),
    ];
    let devices = [
        world.add_node("alice", &[ip("198.51.100.1")]),
        world.add_node("bob", &[ip("198.51.100.2")]),
    ];
    for device in devices {
        world.set_link(device, Conditions::with_delay(ONE_WAY));
    }
    Net {
        world,
        homes,
        devices,
    }
}

impl Net {
    fn runtime(&self, node: SimNode) -> Arc<dyn Runtime> {
        self.world.runtime(node)
    }

    async fn port(&self, node: SimNode, port: u16) -> (Arc<dyn Runtime>, Arc<PortHub>) {
        let runtime = self.runtime(node);
        let socket = runtime
            .bind_udp(SocketAddr::new([0, 0, 0, 0].into(), port))
            .unwrap();
        let hub = PortHub::start(&*runtime, Arc::new(UdpPort::new(socket).await.unwrap()));
        (runtime, hub)
    }

    async fn relay(&self, n: usize) -> Relay {
        let (runtime, hub) = self.port(self.homes[n], 3478).await;
        let ip = public(&*runtime);
        let config = RelayServerConfig::new(RelayConfig::new("ahoy", &[ip]));
        let server = RelayServer::start(runtime, &hub, config).unwrap();
        Relay {
            addr: SocketAddr::new(ip, 3478),
            server,
            _hub: hub,
        }
    }

    async fn device(&self, n: usize, relay: &Relay) -> Device {
        let (runtime, hub) = self.port(self.devices[n], 7000).await;
        let ip = public(&*runtime);
        let owner = CredentialOwner::Device([u8::try_from(n).unwrap(); 32]);
        let credentials = relay.server.issue_credentials(owner, ip).unwrap();
        let config = TurnConfig::new(relay.addr, credentials);
        let data = hub.subscribe_relay().unwrap();
        let turn = TurnAllocation::allocate(Arc::clone(&runtime), &hub, config)
            .await
            .unwrap();
        Device {
            runtime,
            port: Arc::clone(hub.port()),
            _hub: hub,
            data,
            turn,
        }
    }
}

/// The node's address on the network.
fn public(runtime: &dyn Runtime) -> IpAddr {
    let mut addrs = runtime.interface_addrs().into_iter();
    addrs.find(|ip| !ip.is_loopback()).unwrap()
}

struct Relay {
    addr: SocketAddr,
    server: RelayServer,
    _hub: Arc<PortHub>,
}

struct Device {
    runtime: Arc<dyn Runtime>,
    port: Arc<dyn RawPort>,
    _hub: Arc<PortHub>,
    /// ChannelData that arrives.
    data: Subscription,
    turn: TurnAllocation,
}

fn channel(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&number.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

/// Alice and Bob bind each other, exchange a packet each way, and say how long everything took.
async fn call(net: &Net, relays: [&Relay; 2]) -> [Duration; 4] {
    let start = net.world.elapsed();
    let alice = net.device(0, relays[0]).await;
    let allocated = net.world.elapsed() - start;
    let mut bob = net.device(1, relays[1]).await;
    let until = alice.runtime.now() + Duration::from_secs(60);
    assert!(
        relays[0]
            .server
            .allow_address(bob.turn.relayed_addr(), until)
    );
    assert!(
        relays[1]
            .server
            .allow_address(alice.turn.relayed_addr(), until)
    );

    let start = net.world.elapsed();
    let to_bob = alice.turn.bind_peer(bob.turn.relayed_addr()).await.unwrap();
    let bound = net.world.elapsed() - start;
    let to_alice = bob.turn.bind_peer(alice.turn.relayed_addr()).await.unwrap();

    let start = net.world.elapsed();
    alice
        .port
        .send(to_bob.server, None, &channel(to_bob.channel, b"ahoy"));
    let arrived = bob.data.packets.recv().await.unwrap();
    assert_eq!(arrived.bytes, channel(to_alice.channel, b"ahoy"));
    let one_way = net.world.elapsed() - start;

    let start = net.world.elapsed();
    alice.turn.close().await;
    let closed = net.world.elapsed() - start;
    [allocated, bound, one_way, closed]
}

#[test]
fn through_one_home_each_step_of_the_set_up_takes_one_round_trip() {
    let net = net(SEED);
    let steps = net
        .world
        .block_on(net.devices[0], async {
            let relay = net.relay(0).await;
            let steps = call(&net, [&relay, &relay]).await;
            let counters = relay.server.counters();
            assert_eq!(
                (counters.packets_in_process, counters.dropped_total()),
                (1, 0)
            );
            steps
        })
        .unwrap();
    assert_eq!(steps, [2, 2, 2, 2].map(|legs| legs * ONE_WAY));
}

#[test]
fn through_two_homes_it_costs_the_same_and_data_crosses_both_relays() {
    let net = net(SEED);
    let steps = net
        .world
        .block_on(net.devices[0], async {
            let relays = [net.relay(0).await, net.relay(1).await];
            let steps = call(&net, [&relays[0], &relays[1]]).await;
            for relay in &relays {
                let counters = relay.server.counters();
                assert_eq!(counters.packets_in_process, 0);
                assert_eq!(counters.dropped_total(), 0);
            }
            assert_eq!(relays[0].server.counters().traffic.bytes_from_client, 4);
            assert_eq!(relays[1].server.counters().traffic.bytes_to_client, 4);
            steps
        })
        .unwrap();
    assert_eq!(steps, [2, 2, 2, 2].map(|legs| legs * ONE_WAY));
}

#[test]
fn a_relay_of_another_home_that_nobody_named_is_refused() {
    let net = net(SEED);
    let refused = net
        .world
        .block_on(net.devices[0], async {
            let relays = [net.relay(0).await, net.relay(1).await];
            let alice = net.device(0, &relays[0]).await;
            let bob = net.device(1, &relays[1]).await;
            alice.turn.bind_peer(bob.turn.relayed_addr()).await
        })
        .unwrap();
    assert_eq!(refused, Err(TurnError::Refused(403)));
}

#[test]
fn a_dead_home_is_noticed_at_the_latest_by_the_next_refresh_of_a_channel() {
    let net = net(SEED);
    let (failed, took) = net
        .world
        .block_on(net.devices[0], async {
            let relay = net.relay(0).await;
            let alice = net.device(0, &relay).await;
            let bob = net.device(1, &relay).await;
            let peer = bob.turn.relayed_addr();
            alice.turn.bind_peer(peer).await.unwrap();
            net.world.kill(net.homes[0]);
            let start = net.world.elapsed();
            let ended = alice.turn.ended().await;
            (ended, net.world.elapsed() - start)
        })
        .unwrap();
    assert_eq!(failed, TurnError::Timeout);
    // Refresh after 300 s of 600, then 39.5 s of retransmissions.
    assert!(
        (Duration::from_secs(339)..Duration::from_secs(340)).contains(&took),
        "{took:?}"
    );
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

/// Runs ICE between the devices until both have a pair: when, which, and all that was sent.
fn ice(seed: u64) -> (Duration, [IceEvent; 2], TraceHash) {
    let net = net(seed);
    let events = net
        .world
        .block_on(net.devices[0], async {
            let credentials = |role| IceCredentials::derive(&[1; 32], role, 0);
            let (caller, callee) = (
                credentials(IceRole::Controlling),
                credentials(IceRole::Controlled),
            );
            let mut runners = Vec::new();
            let mut candidates = Vec::new();
            let mut hubs = Vec::new();
            for (n, role, local, remote) in [
                (0, IceRole::Controlling, &caller, &callee),
                (1, IceRole::Controlled, &callee, &caller),
            ] {
                let (runtime, hub) = net.port(net.devices[n], 7000).await;
                let agent = RtcIceAgent::new(
                    runtime.now(),
                    role,
                    7000,
                    local,
                    remote,
                    runtime.random_array(),
                )
                .unwrap();
                candidates.push(host_candidates(&*runtime, hub.port().local_addr(), false));
                let runner = IceRunner::start(runtime, &hub, &local.ufrag, Box::new(agent));
                runners.push(runner.unwrap());
                hubs.push(hub);
            }
            for n in 0..2 {
                for candidate in &candidates[n] {
                    runners[n].add_local(*candidate);
                    runners[1 - n].add_remote(*candidate);
                }
            }
            [selection(&runners[0]).await, selection(&runners[1]).await]
        })
        .unwrap();
    (net.world.elapsed(), events, net.world.trace_hash())
}

#[test]
fn ice_finds_the_direct_path_within_two_round_trips_and_repeats_exactly() {
    let (took, [a, b], trace) = ice(SEED);
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (alice, bob) = (addr("198.51.100.1:7000"), addr("198.51.100.2:7000"));
    let selected = |local, remote| IceEvent::Selected { local, remote };
    assert_eq!([a, b], [selected(alice, bob), selected(bob, alice)]);
    // 80 ms of round trip between the devices.
    assert!(took <= Duration::from_millis(200), "{took:?}");
    // Addresses, times and sizes; rtc-ice draws transaction ids elsewhere.
    assert_eq!(ice(SEED).2.shape, trace.shape);
}
