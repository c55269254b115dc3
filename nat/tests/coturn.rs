//! Interoperability with coturn: its tester against our relay, our client against its server.
//!
//! Needs the Debian package `coturn`. Without it the tests say so and pass, except where `CI=true`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    port::{PortHub, RawPort, SharedPort, UdpPort},
    supernode::relay::{
        RelayConfig,
        counters::RelayCounters,
        credentials::TurnCredentials,
        server::{RelayServer, RelayServerConfig},
    },
    turn::{TurnConfig, TurnError, allocation::TurnAllocation},
};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig},
    runtime::{Runtime, TokioRuntime, timeout},
    tunnel::server::{TcpLimits, TunnelServer},
};
use common::{LOOPBACK, TappedPort, channel};

const USER: &str = "user";
const PASSWORD: &str = "secret";
const REALM: &str = "ahoy";

/// Whether `program` can run. Loudly not, where it may be missing.
fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{program} is missing: install coturn"
        );
        // Past the capture of test output, so that nobody takes a skipped test for a passed one.
        let text = format!(
            "SKIPPED: {program} is missing, install the package coturn
"
        );
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    found
}

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    UdpSocket::bind(LOOPBACK)
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A plain TURN server on loopback with one fixed user.
async fn relay(runtime: &Arc<dyn Runtime>) -> (Arc<PortHub>, SocketAddr, RelayServer) {
    let port = Arc::new(
        UdpPort::new(runtime.bind_udp(LOOPBACK).unwrap())
            .await
            .unwrap(),
    );
    let addr = port.local_addr();
    let hub = PortHub::start(&**runtime, port);
    let mut relay = RelayConfig::new(REALM, &[addr.ip()]);
    relay.switches.open_peers = true;
    relay.shared_port = false;
    let server =
        RelayServer::start(Arc::clone(runtime), &hub, RelayServerConfig::new(relay)).unwrap();
    server.add_user(USER, PASSWORD);
    (hub, addr, server)
}

/// The same behind the one port of a supernode, reached by TCP.
fn tcp_relay(runtime: &Arc<dyn Runtime>) -> (Arc<PortHub>, TunnelServer, SocketAddr, RelayServer) {
    let config = EndpointConfig::supernode(LOOPBACK);
    let endpoint = Endpoint::bind(Arc::clone(runtime), config).unwrap();
    let mux = Arc::clone(endpoint.mux());
    let hub = PortHub::start(&**runtime, Arc::new(SharedPort::new(Arc::clone(&mux))));
    let mut relay = RelayConfig::new(REALM, &[LOOPBACK.ip()]);
    relay.switches.open_peers = true;
    let config = RelayServerConfig::new(relay);
    let server = RelayServer::start(Arc::clone(runtime), &hub, config).unwrap();
    server.add_user(USER, PASSWORD);
    let limits = TcpLimits::default();
    let listener = TunnelServer::start(Arc::clone(runtime), mux, LOOPBACK, limits).unwrap();
    let addr = listener.local_addr();
    (hub, listener, addr, server)
}

/// Runs coturn's tester with `options` against a fresh relay; gives what it printed and what we counted.
async fn uclient(options: &[&str]) -> (String, RelayCounters) {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let (_hub, addr, server) = relay(&runtime).await;
    let text = tester(&*runtime, options, addr).await;
    (text, server.counters())
}

async fn tester(runtime: &dyn Runtime, options: &[&str], addr: SocketAddr) -> String {
    let mut command = Command::new("turnutils_uclient");
    command
        .args(options)
        .args(["-u", USER, "-w", PASSWORD, "-p", &addr.port().to_string()])
        .arg("127.0.0.1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let tester = async {
        let process = tokio::task::spawn_blocking(move || {
            let mut process = Process(command.spawn().unwrap());
            let mut text = String::new();
            process
                .0
                .stdout
                .take()
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            process
                .0
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            text
        });
        process.await.unwrap()
    };
    timeout(runtime, Duration::from_secs(60), tester)
        .await
        .expect("the tester ends")
}

/// The last `tot_recv_msgs=…` and such in the tester's output.
fn figure(text: &str, name: &str) -> u64 {
    let start = text
        .rfind(name)
        .unwrap_or_else(|| panic!("no {name} in: {text}"))
        + name.len();
    let digits: String = text[start..]
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no figure after {name} in: {text}"))
}

fn assert_nothing_lost(text: &str, sent: u64) {
    assert_eq!(figure(text, "tot_send_msgs="), sent, "{text}");
    assert_eq!(figure(text, "tot_recv_msgs="), sent, "{text}");
    assert_eq!(figure(text, "Total lost packets"), 0, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tester_talks_to_itself_over_channels_and_nothing_crosses_a_relay_socket() {
    if !has("turnutils_uclient") {
        return;
    }
    let (text, counters) = uclient(&["-y", "-c", "-n", "50", "-m", "2", "-l", "500"]).await;
    assert_nothing_lost(&text, 100);
    assert!(counters.packets_in_process >= 100, "{counters:?}");
    assert_eq!(
        counters.packets_in_process,
        counters.traffic.packets_from_client
    );
    assert!(counters.allocations_opened >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tester_talks_to_itself_with_send_indications_and_extra_requests() {
    if !has("turnutils_uclient") {
        return;
    }
    let (text, counters) = uclient(&["-y", "-c", "-s", "-G", "-X", "-n", "50", "-l", "500"]).await;
    // Two clients, since each needs another one.
    assert_nothing_lost(&text, 100);
    assert!(counters.packets_in_process >= 100, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tester_talks_to_a_peer_outside() {
    if !has("turnutils_uclient") || !has("turnutils_peer") {
        return;
    }
    let port = free_port().to_string();
    let _peer = Process(
        Command::new("turnutils_peer")
            .args(["-L", "127.0.0.1", "-p", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    for method in [&["-D"][..], &["-s"]] {
        let options = [
            &[
                "-e",
                "127.0.0.1",
                "-r",
                &port,
                "-c",
                "-n",
                "50",
                "-l",
                "500",
            ],
            method,
        ]
        .concat();
        let (text, counters) = uclient(&options).await;
        assert_nothing_lost(&text, 50);
        assert_eq!(counters.packets_in_process, 0);
        assert!(counters.traffic.packets_to_client >= 50, "{counters:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tester_talks_to_itself_by_tcp_on_the_port_of_the_tunnels() {
    if !has("turnutils_uclient") {
        return;
    }
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    // An odd length: over TCP, ChannelData is padded.
    for method in [&["-c"][..], &["-c", "-s"]] {
        let (_hub, listener, addr, server) = tcp_relay(&runtime);
        let options = [
            &["-t", "-y", "-n", "50", "-m", "2", "-l", "501"][..],
            method,
        ]
        .concat();
        let text = tester(&*runtime, &options, addr).await;
        assert_nothing_lost(&text, 100);
        let counters = server.counters();
        assert!(counters.packets_in_process >= 100, "{counters:?}");
        let tcp = listener.counters();
        assert!(tcp.turn_clients >= 2 && tcp.tunnels == 0, "{tcp:?}");
        assert_eq!((tcp.malformed, tcp.refused_full), (0, 0), "{tcp:?}");
    }
}

/// coturn's server on loopback, and its address.
fn turnserver() -> (Process, SocketAddr) {
    let port = free_port();
    let process = Command::new("turnserver")
        .args([
            "-n",
            "--no-cli",
            "--no-tls",
            "--no-dtls",
            "--log-file",
            "stdout",
            "--simple-log",
        ])
        .args([
            "--listening-ip",
            "127.0.0.1",
            "--relay-ip",
            "127.0.0.1",
            "--allow-loopback-peers",
            "--no-multicast-peers",
        ])
        .args([
            "--lt-cred-mech",
            "--realm",
            REALM,
            "--user",
            &format!("{USER}:{PASSWORD}"),
        ])
        .args(["--listening-port", &port.to_string()])
        .args([
            "--pidfile",
            &format!("{}/turnserver-{port}.pid", std::env::temp_dir().display()),
        ])
        .args([
            "--userdb",
            &format!("{}/turnserver-{port}.db", std::env::temp_dir().display()),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (Process(process), SocketAddr::new(LOOPBACK.ip(), port))
}

fn login(password: &str) -> TurnCredentials {
    TurnCredentials {
        username: USER.to_owned(),
        password: password.to_owned(),
        realm: String::new(),
        nonce: String::new(),
        lifetime: Duration::from_secs(3600),
    }
}

#[tokio::test]
async fn two_of_our_clients_talk_through_coturn() {
    if !has("turnserver") {
        return;
    }
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let (_server, addr) = turnserver();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (port, data) = TappedPort::bind(&*runtime).await;
        let hub = PortHub::start(&*runtime, Arc::clone(&port));
        // The first Allocate may come before the server listens: it is sent again.
        let allocation = TurnAllocation::allocate(
            Arc::clone(&runtime),
            &hub,
            TurnConfig::new(addr, login(PASSWORD)),
        )
        .await
        .unwrap();
        assert_eq!(allocation.mapped_addr(), port.local_addr());
        clients.push((port, data, allocation));
    }
    let [(port_a, data_a, alice), (port_b, data_b, bob)] =
        <[_; 2]>::try_from(clients).ok().unwrap();
    let to_bob = alice.bind_peer(bob.relayed_addr()).await.unwrap();
    let to_alice = bob.bind_peer(alice.relayed_addr()).await.unwrap();
    for n in 0..50u8 {
        port_a.send(addr, None, &channel(to_bob.channel, &[n; 400]));
        assert_eq!(data_b.next().await, channel(to_alice.channel, &[n; 400]));
        port_b.send(addr, None, &channel(to_alice.channel, &[n; 100]));
        assert_eq!(data_a.next().await, channel(to_bob.channel, &[n; 100]));
    }
    alice.close().await;
    bob.close().await;
}

#[tokio::test]
async fn coturn_refuses_a_wrong_password_and_a_multicast_peer_by_name() {
    if !has("turnserver") {
        return;
    }
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let (_server, addr) = turnserver();
    let (port, _data) = TappedPort::bind(&*runtime).await;
    let hub = PortHub::start(&*runtime, port);
    let allocate = |password| {
        TurnAllocation::allocate(
            Arc::clone(&runtime),
            &hub,
            TurnConfig::new(addr, login(password)),
        )
    };
    assert_eq!(allocate("wrong").await.err(), Some(TurnError::Unauthorized));
    let allocation = allocate(PASSWORD).await.unwrap();
    let refused = allocation.bind_peer("224.0.0.1:9".parse().unwrap()).await;
    assert_eq!(refused, Err(TurnError::Refused(403)));
    allocation.close().await;
    // The port is free for the next allocation.
    allocate(PASSWORD).await.unwrap().close().await;
}
