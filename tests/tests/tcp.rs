//! Networks that block UDP: everything over one TCP connection, over real sockets on this machine.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ahoy::{
    link::NodeLink,
    supernode::{PortRange, RelaySettings, SupernodeConfig, SupernodeHandle},
};
use ahoy_nat::{
    dial::{NodePlace, Ways},
    home::{Home, HomePolicy, HomeState, HomeUp},
    port::{PortHub, SharedPort},
    supernode::relay::credentials::TurnCredentials,
    turn::{TurnConfig, allocation::TurnAllocation},
};
use ahoy_tests::{
    device::Device,
    person::Person,
    process::{speech, start},
    proxies::{self, Kind, Proxy},
};
use ahoy_transport::{
    datagram::Priority,
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::{Host, NodeKeys},
    mux::{RelayRoute, is_tunnel_address},
    runtime::{Runtime, RuntimeExt, TokioRuntime, timeout},
    sealed::SessionSecret,
    session::{
        LocalDevice, MediaPermit, PathKind, RemoteDevice, Session, SessionConfig, SessionEvent,
        SessionParams,
    },
    tunnel::{
        Tunnel, TunnelTarget,
        frame::PREFACE,
        queue::QueuePolicy,
        server::{TcpLimits, TunnelServer},
    },
};
use bytes::Bytes;
use tokio::sync::mpsc;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(20);
const CALL: [u8; 16] = [7; 16];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn runtime() -> Arc<dyn Runtime> {
    Arc::new(TokioRuntime)
}

fn keys() -> NodeKeys {
    NodeKeys::from_seed(&[7; 32])
}

/// A supernode on loopback, with UDP and TCP.
struct Node {
    handle: SupernodeHandle,
    udp: SocketAddr,
    tcp: SocketAddr,
}

impl Node {
    async fn start() -> Self {
        let config = SupernodeConfig {
            listen: vec![LOOPBACK],
            tcp: vec![LOOPBACK],
            relay: RelaySettings {
                allow_private: true,
                ports: PortRange::ANY,
                ..RelaySettings::default()
            },
            ..SupernodeConfig::default()
        };
        let handle = SupernodeHandle::start(runtime(), config, &keys())
            .await
            .unwrap();
        Self {
            udp: handle.local_addrs()[0],
            tcp: handle.local_tcp_addrs()[0],
            handle,
        }
    }

    fn by_tcp(&self) -> TunnelTarget {
        target(self.tcp)
    }
}

fn target(addr: SocketAddr) -> TunnelTarget {
    TunnelTarget {
        host: Host::Ip(addr.ip()),
        resolved: None,
        port: addr.port(),
        proxy: None,
    }
}

/// A UDP port that takes everything and answers nothing.
fn black_hole() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

fn home(device: &Arc<Device>, place: NodePlace, ways: Ways, policy: HomePolicy) -> Home {
    let (events, mut inbox) = mpsc::channel(64);
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    let registrant: Arc<Device> = Arc::clone(device);
    Home::start_at(
        policy,
        runtime(),
        keys().id(),
        place,
        ways,
        registrant,
        events,
    )
}

async fn up_within(home: &Home, limit: Duration) -> Option<Arc<HomeUp>> {
    timeout(&TokioRuntime, limit, home.wait_up()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_is_swallowed_a_home_is_registered_by_tcp_in_well_under_two_seconds() {
    let node = Node::start().await;
    let (_hole, udp) = black_hole();
    let place = NodePlace {
        udp,
        tcp: Some(node.by_tcp()),
    };
    let device = Device::new(runtime());
    let clock = runtime();
    let begin = clock.now();
    let registered = home(&device, place.clone(), Ways::Both, HomePolicy::default());
    let up = up_within(&registered, PATIENCE).await.unwrap();
    let took = clock.now() - begin;
    eprintln!("registered by TCP after {took:?}");
    assert!(took < ms(1500), "{took:?}");
    assert!(
        took >= ahoy_nat::dial::TCP_AFTER,
        "UDP has its lead: {took:?}"
    );
    assert!(up.client.tunnel().is_some());
    // A TCP connection's address is of no use to anybody.
    assert!(up.registered.observed.ip().is_unspecified());
    let relay = up.registered.relay.clone().unwrap();
    assert!(is_tunnel_address(relay.server));
    let status = node.handle.status();
    assert_eq!(status.tcp[0].counters.tunnels, 1);
    assert_eq!(status.tcp[0].counters.live, 1);
    assert!(status.ports[0].mux.received_tunnelled > 3);
    assert_eq!(status.ports[0].mux.received, 0, "nothing came by UDP");
    assert_eq!(status.rendezvous.registered, 1);

    // Without the tunnel there is no home in that time, nor ever.
    let device = Device::new(runtime());
    let alone = home(&device, place, Ways::Udp, HomePolicy::default());
    assert!(up_within(&alone, ms(1500)).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_works_tcp_is_not_even_tried() {
    let node = Node::start().await;
    let place = NodePlace {
        udp: node.udp,
        tcp: Some(node.by_tcp()),
    };
    let device = Device::new(runtime());
    let registered = home(&device, place, Ways::Both, HomePolicy::default());
    let up = up_within(&registered, PATIENCE).await.unwrap();
    assert!(up.client.tunnel().is_none());
    assert_eq!(node.handle.status().tcp[0].counters.accepted, 0);
}

/// Carries UDP between one client and `to` once it is open.
struct Gate {
    addr: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Gate {
    async fn new(to: SocketAddr) -> Self {
        let outside = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
        let inside = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
        let addr = outside.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        tokio::spawn(async move {
            let (mut one, mut other) = ([0; 2048], [0; 2048]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((count, from)) = outside.recv_from(&mut one) => {
                        client = Some(from);
                        if is_open.load(Ordering::SeqCst) {
                            inside.send_to(&one[..count], to).await.unwrap();
                        }
                    }
                    Ok((count, _from)) = inside.recv_from(&mut other) => {
                        if let Some(client) = client {
                            outside.send_to(&other[..count], client).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { addr, open }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_moves_from_tcp_to_udp_when_that_appears_and_loses_no_call_meanwhile() {
    let node = Node::start().await;
    let gate = Gate::new(node.udp).await;
    let place = NodePlace {
        udp: gate.addr,
        tcp: Some(node.by_tcp()),
    };
    let moves = Device::new(runtime());
    let stays = Device::new(runtime());
    let moving = home(&moves, place.clone(), Ways::Both, HomePolicy::default());
    let policy = HomePolicy {
        upgrade: false,
        ..HomePolicy::default()
    };
    let staying = home(&stays, place, Ways::Both, policy);
    let first = up_within(&moving, PATIENCE).await.unwrap();
    up_within(&staying, PATIENCE).await.unwrap();
    assert!(first.client.tunnel().is_some());

    gate.open.store(true, Ordering::SeqCst);
    let mut state = moving.state();
    let by_udp = |state: &HomeState| match state {
        HomeState::Up(up) => up.client.tunnel().is_none(),
        HomeState::Down => panic!("it was never without registration"),
    };
    let moved = timeout(&TokioRuntime, PATIENCE, state.wait_for(by_udp)).await;
    assert!(moved.is_some(), "it moved up");
    let now = moving.up().unwrap();
    assert_ne!(now.epoch, first.epoch);
    // The old way still answers: a call that began there can be completed.
    first.client.relay_grant().await.unwrap();
    now.client.relay_grant().await.unwrap();
    // Whoever does not look stays where it is.
    assert!(staying.up().unwrap().client.tunnel().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_of_both_kinds_carry_a_home_with_and_without_a_password() {
    let node = Node::start().await;
    let (_hole, udp) = black_hole();
    for kind in [Kind::Http, Kind::Socks5] {
        for login in [None, Some(("bo", "p%40ss"))] {
            let stored = login.map(|(user, _)| (user, "p@ss"));
            let proxy = Proxy::start(kind, stored).await.unwrap();
            let place = NodePlace {
                udp,
                tcp: Some(TunnelTarget {
                    // Only the proxy knows the name.
                    host: proxies::NAME.parse().unwrap(),
                    resolved: None,
                    port: node.tcp.port(),
                    proxy: Some(proxy.url(login).parse().unwrap()),
                }),
            };
            let device = Device::new(runtime());
            let clock = runtime();
            let begin = clock.now();
            let registered = home(&device, place, Ways::Both, HomePolicy::default());
            let up = up_within(&registered, PATIENCE).await.unwrap();
            let took = clock.now() - begin;
            eprintln!("{kind:?}, login {}: {took:?}", login.is_some());
            assert!(took < ms(1500), "{took:?}");
            assert!(up.client.tunnel().is_some());
            assert_eq!(proxy.connected(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses_says_why_in_a_sentence() {
    let node = Node::start().await;
    let device = Device::new(runtime());
    let fail = async |url: String, port: u16| {
        let target = TunnelTarget {
            proxy: Some(url.parse().unwrap()),
            port,
            ..node.by_tcp()
        };
        let opened = Tunnel::open(&device.runtime, device.endpoint.mux(), &target).await;
        opened.unwrap_err().to_string()
    };
    let closed = UdpSocket::bind(LOOPBACK)
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for kind in [Kind::Http, Kind::Socks5] {
        let proxy = Proxy::start(kind, Some(("bo", "secret"))).await.unwrap();
        let text = fail(proxy.url(Some(("bo", "wrong"))), node.tcp.port()).await;
        assert_eq!(text, "the proxy refuses the user name or password");
        let text = fail(proxy.url(None), node.tcp.port()).await;
        assert!(text.contains("wants a user name and password"), "{text}");
        let text = fail(proxy.url(Some(("bo", "secret"))), closed).await;
        assert!(
            text.contains("the proxy cannot reach the supernode"),
            "{text}"
        );
        assert_eq!(proxy.connected(), 0);
    }
    // What answers is a supernode.
    let text = fail(format!("http://{}", node.tcp), 1).await;
    assert!(text.contains("proxy"), "{text}");
    let text = fail(format!("http://127.0.0.1:{closed}"), 1).await;
    assert!(
        text.contains("no TCP connection to the proxy 127.0.0.1:"),
        "{text}"
    );
}

/// A TCP port with tight limits, and what stands behind it.
fn tight(limits: TcpLimits) -> (Endpoint, TunnelServer) {
    let endpoint = Endpoint::bind(runtime(), EndpointConfig::supernode(LOOPBACK)).unwrap();
    let mux = Arc::clone(endpoint.mux());
    let server = TunnelServer::start(runtime(), mux, LOOPBACK, limits).unwrap();
    (endpoint, server)
}

async fn until(mut what: impl FnMut() -> bool) {
    let look = async {
        while !what() {
            TokioRuntime.sleep(ms(10)).await;
        }
    };
    let came = timeout(&TokioRuntime, PATIENCE, look).await;
    assert!(came.is_some(), "it does not come to that");
}

/// Waits for the other side to end the connection.
fn ends(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    matches!(stream.read(&mut buffer), Ok(0) | Err(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_silent_strangers_hold_little_and_not_for_long() {
    let (_endpoint, server) = tight(TcpLimits {
        connections: 6,
        per_source: 4,
        preface: ms(300),
        frame: ms(300),
        idle: ms(600),
    });
    let to = server.local_addr();
    // Four say nothing; the fifth from the same address is closed at once.
    let mut silent: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(to).unwrap()).collect();
    until(|| server.counters().live == 4).await;
    let mut fifth = TcpStream::connect(to).unwrap();
    assert!(ends(&mut fifth));
    assert_eq!(server.counters().refused_source, 1);
    // Others still have room, up to the whole.
    let from = |last: u8| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::from(([127, 0, 0, last], 0)))
            .unwrap();
        socket.connect(to)
    };
    let _others = [from(2).await.unwrap(), from(3).await.unwrap()];
    until(|| server.counters().live == 6 || server.counters().no_preface > 0).await;
    let one_more = from(4).await.unwrap();
    until(|| server.counters().refused_full == 1 || server.counters().no_preface > 0).await;
    drop(one_more);
    for stream in &mut silent {
        assert!(ends(stream));
    }
    until(|| server.counters().live == 0).await;
    assert!(server.counters().no_preface >= 4);

    // Byte by byte: first of the preface, then of a packet.
    let mut drip = TcpStream::connect(to).unwrap();
    drip.write_all(&PREFACE[..3]).unwrap();
    assert!(ends(&mut drip));
    let mut drip = TcpStream::connect(to).unwrap();
    drip.write_all(&PREFACE).unwrap();
    drip.write_all(&[0, 200, 0]).unwrap();
    let mut dripping = drip.try_clone().unwrap();
    let drop_by_drop = move || {
        while dripping.write_all(&[0]).is_ok() {
            std::thread::sleep(ms(50));
        }
    };
    let writer = std::thread::Builder::new()
        .name("drip".into())
        .spawn(drop_by_drop)
        .unwrap();
    assert!(ends(&mut drip));
    until(|| server.counters().slow == 1).await;
    writer.join().unwrap();
    // A tunnel that says nothing more, one that says nonsense, and one that is no client at all.
    let mut idle = TcpStream::connect(to).unwrap();
    idle.write_all(&PREFACE).unwrap();
    assert!(ends(&mut idle));
    for nonsense in [
        &[&PREFACE[..], &[0xff; 9]].concat()[..],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(nonsense).unwrap();
        assert!(ends(&mut stream));
    }
    until(|| server.counters().live == 0).await;
    let counters = server.counters();
    assert_eq!((counters.idle, counters.malformed), (1, 2), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_read_costs_a_queue_of_bounded_length() {
    let node = Node::start().await;
    let mut stream = TcpStream::connect(node.tcp).unwrap();
    stream.write_all(&PREFACE).unwrap();
    // STUN Binding requests, answered each with a little more; nobody reads the answers.
    let mut request = vec![0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend_from_slice(&[7; 12]);
    let flood = request.repeat(1000);
    stream.set_write_timeout(Some(ms(500))).unwrap();
    for _ in 0..200 {
        if stream.write_all(&flood).is_err() {
            break;
        }
    }
    // The supernode is as well as before.
    let place = NodePlace {
        udp: node.udp,
        tcp: Some(node.by_tcp()),
    };
    let device = Device::new(runtime());
    let registered = home(&device, place, Ways::Tcp, HomePolicy::default());
    assert!(up_within(&registered, PATIENCE).await.is_some());
    // What came too fast was dropped on its own account.
    let drops = node.handle.status().ports[0].mux.dropped;
    assert!(drops.tunnel_queue_full > 0, "{drops:?}");
    assert_eq!(drops.other_queue_full, 0, "{drops:?}");
    drop(stream);
    until(|| node.handle.status().tcp[0].counters.live == 1).await;
}

/// Alice behind a tunnel over a line of a given rate, and Bob with UDP, both with allocations on the node's relay.
struct Talk {
    sessions: [Session; 2],
    _hubs: [Arc<PortHub>; 2],
    _allocations: [TurnAllocation; 2],
    tunnel: Tunnel,
}

async fn talk(node: &Node, line: SocketAddr, policy: QueuePolicy) -> Talk {
    let runtime = runtime();
    let people = [Person::generate(&runtime), Person::generate(&runtime)];
    let endpoints = [0, 1].map(|_| {
        let config = EndpointConfig::peer(LOOPBACK);
        Endpoint::bind(Arc::clone(&runtime), config).unwrap()
    });
    let mux = endpoints[0].mux();
    let tunnel = Tunnel::open_with(policy, &runtime, mux, &target(line))
        .await
        .unwrap();
    let servers = [tunnel.addr(), node.udp];
    let mut hubs = Vec::new();
    let mut allocations = Vec::new();
    for (endpoint, server) in endpoints.iter().zip(servers) {
        let dialling = endpoint.connect_node(server, keys().id(), NodeAuth::Anonymous);
        let connection = dialling.await.unwrap();
        let client = ahoy_nat::client::NodeClient::new(Arc::clone(&runtime), connection);
        let grant = client.relay_grant().await.unwrap();
        assert_eq!(grant.server, server);
        let credentials = TurnCredentials {
            username: grant.username,
            password: grant.password,
            realm: grant.realm,
            nonce: grant.nonce,
            lifetime: Duration::from_secs(600),
        };
        let hub = PortHub::start(
            &*runtime,
            Arc::new(SharedPort::new(Arc::clone(endpoint.mux()))),
        );
        let config = TurnConfig::new(server, credentials);
        let allocating = TurnAllocation::allocate(Arc::clone(&runtime), &hub, config);
        allocations.push(allocating.await.unwrap());
        hubs.push(hub);
    }
    let mut sessions = Vec::new();
    for this in 0..2 {
        let params = SessionParams {
            endpoint: endpoints[this].clone(),
            secret: SessionSecret::from_bytes([9; 32]),
            call_id: CALL,
            local: LocalDevice {
                keys: Arc::clone(&people[this].keys),
                certificate: people[this].certificate.clone(),
            },
            remote: RemoteDevice {
                user: people[1 - this].user,
                device: people[1 - this].keys.id(),
                noise_static: people[1 - this].keys.noise_public(),
            },
            // The estimate would keep the line's queue short by itself: what the tunnel's queue does would not show.
            config: SessionConfig {
                estimation: false,
                ..SessionConfig::default()
            },
        };
        let session = if this == 0 {
            Session::caller(params)
        } else {
            Session::callee(params)
        };
        session.open_media(MediaPermit::on_accept(CALL)).unwrap();
        sessions.push(session);
    }
    for this in [1, 0] {
        let peer = allocations[1 - this].relayed_addr();
        let binding = allocations[this].bind_peer(peer).await.unwrap();
        let route = RelayRoute {
            server: binding.server,
            channel: binding.channel,
            peer,
        };
        let remote = endpoints[this].mux().add_relay_route(route).unwrap();
        let kind = [PathKind::Tcp, PathKind::Relay][this];
        sessions[this].add_path(kind, remote).unwrap();
    }
    for session in &sessions {
        let up = async {
            while !matches!(
                session.next_event().await,
                Some(SessionEvent::PathUp { .. })
            ) {}
        };
        timeout(&*runtime, PATIENCE, up).await.unwrap();
    }
    Talk {
        sessions: sessions.try_into().unwrap(),
        _hubs: hubs.try_into().unwrap(),
        _allocations: allocations.try_into().unwrap(),
        tunnel,
    }
}

const VOICE: u64 = 1;
const DATA: u64 = 2;

/// Ten seconds of voice from Alice to Bob beside 1 Mbit/s of other data; how late each voice packet came, in order of
/// lateness, and how many were sent.
async fn voice_beside_data(rate: u32, policy: QueuePolicy) -> (Vec<Duration>, usize) {
    let node = Node::start().await;
    let line = proxies::line(node.tcp, rate).unwrap();
    let talk = talk(&node, line, policy).await;
    let [alice, bob] = &talk.sessions;
    let clock = runtime();
    let begin = clock.now();
    let late: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (log, receiver) = (Arc::clone(&late), bob.clone());
    tokio::spawn(async move {
        while let Some(datagram) = receiver.recv_media().await {
            if datagram.flow == VOICE {
                let sent = u64::from_be_bytes(datagram.payload[..8].try_into().unwrap());
                let arrived = datagram.arrived.saturating_duration_since(begin);
                log.lock()
                    .unwrap()
                    .push(arrived.saturating_sub(Duration::from_micros(sent)));
            }
        }
    });
    let mut sent = 0;
    // 8 ms of 1000 bytes is 1 Mbit/s; every 20 ms 80 bytes of voice, 32 kbit/s.
    for step in 0u64..2500 {
        clock.sleep_until(begin + ms(4 * step)).await;
        let now = clock.now();
        if step % 2 == 0 {
            let data = Bytes::from(vec![7; 1000]);
            alice
                .send_media(DATA, data, Priority::Bulk, now + ms(1000))
                .unwrap();
        }
        if step % 5 == 0 {
            let mut voice = vec![7; 80];
            let micros = u64::try_from((now - begin).as_micros()).unwrap();
            voice[..8].copy_from_slice(&micros.to_be_bytes());
            alice
                .send_media(VOICE, voice.into(), Priority::Audio, now + ms(400))
                .unwrap();
            sent += 1;
        }
    }
    clock.sleep(ms(600)).await;
    eprintln!("{:?}", talk.tunnel.stats());
    let mut late = late.lock().unwrap().clone();
    late.sort();
    (late, sent)
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_beside_a_megabit_of_data_stays_within_150_ms_of_the_network() {
    // The line takes 80 bytes of voice within a millisecond and adds nothing else: what is measured is the wait.
    let (late, sent) = voice_beside_data(2_000_000, QueuePolicy::default()).await;
    let (p50, p95, p99) = (
        percentile(&late, 50),
        percentile(&late, 95),
        percentile(&late, 99),
    );
    eprintln!(
        "2 Mbit/s: {} of {sent}, p50 {p50:?} p95 {p95:?} p99 {p99:?}",
        late.len()
    );
    assert!(p95 < ms(150), "{p95:?}");
    assert!(late.len() * 100 >= sent * 98, "{} of {sent}", late.len());

    // A line that cannot take both: its own buffer is full all the time, and that is the network's part.
    let network = Duration::from_secs(2) * 8 * proxies::LINE_BUFFER / 900_000;
    let (late, sent) = voice_beside_data(900_000, QueuePolicy::default()).await;
    let (p50, p95, p99) = (
        percentile(&late, 50),
        percentile(&late, 95),
        percentile(&late, 99),
    );
    eprintln!(
        "0.9 Mbit/s: {} of {sent}, p50 {p50:?} p95 {p95:?} p99 {p99:?}",
        late.len()
    );
    assert!(p95 < network + ms(150), "{p95:?}");

    // The same without what the queue does.
    let off = QueuePolicy {
        fair: false,
        expire: false,
    };
    let (late, sent) = voice_beside_data(900_000, off).await;
    let p95 = percentile(&late, 95);
    eprintln!("off, 0.9 Mbit/s: {} of {sent}, p95 {p95:?}", late.len());
    assert!(p95 > network + ms(150), "the switch does nothing: {p95:?}");
}

/// A call between two processes; the caller's report.
fn call(folder: &Path, via: &str, options: &[&str]) -> (Option<i32>, String, serde_json::Value) {
    let node = start(
        &folder.join("node"),
        [
            "supernode",
            "--listen",
            "127.0.0.1:0",
            "--tcp",
            "127.0.0.1:0",
            "--print-link",
        ],
    );
    let link = node.first_line();
    let (_hole, hole) = black_hole();
    let parsed: NodeLink = link.parse().unwrap();
    let swallowed = link.replace(
        &format!(":{}?", parsed.0.port),
        &format!(":{}?", hole.port()),
    );
    let via = via.replace("LINK", &link).replace("HOLE", &swallowed);
    let bob = start(
        &folder.join("bob"),
        ["answer", "--via", &link, "--auto", "--once"],
    );
    let person = bob.first_line();
    let clip = speech().display().to_string();
    let arguments = [
        "call",
        &person,
        "--via",
        &via,
        "--for",
        "3",
        "--json",
        "--audio-in",
        &clip,
    ];
    let alice = start(&folder.join("alice"), arguments.iter().chain(options));
    let finished = alice.finish();
    let report = serde_json::from_str(&finished.stdout).unwrap_or_default();
    (finished.code, finished.stderr, report)
}

#[test]
fn a_call_goes_by_tcp_where_that_is_asked_for_and_where_nothing_else_works() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said, report) = call(folder.path(), "HOLE", &["--path", "tcp"]);
    assert_eq!(code, Some(0), "{said}\n{report:#}");
    let paths = report["paths"].as_array().unwrap();
    assert!(
        !paths.is_empty() && paths.iter().all(|path| path["kind"] == "tcp"),
        "{report:#}"
    );
    assert!(
        paths[0]["remote"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:"),
        "{report:#}"
    );
    let packets = &report["participants"][0]["audio"]["packets"];
    assert_eq!(packets["lost"], 0, "{report:#}");
    assert!(packets["received"].as_u64() > Some(100), "{report:#}");
}

#[test]
fn the_command_line_says_what_is_wrong_with_a_proxy_or_a_link_without_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let key = keys().id();
    let link = format!("ahoy-node:{key}@127.0.0.1:9");
    let arguments = ["answer", "--via", &link, "--path", "tcp"];
    let told = start(&folder.path().join("bob"), arguments)
        .finish()
        .expect_code(2);
    assert!(told.stderr.contains("?tcp=443"), "{}", told.stderr);
    let arguments = ["answer", "--via", &link, "--proxy", "https://a:1"];
    let told = start(&folder.path().join("bob"), arguments)
        .finish()
        .expect_code(2);
    assert!(told.stderr.contains("http://"), "{}", told.stderr);
}
