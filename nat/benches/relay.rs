//! What a relayed packet costs this relay, and what it costs coturn, in one run: `make bench-relay`.
//!
//! coturn's own tester drives both alike: pairs of clients with an allocation each talk to each other through channels
//! (`turnutils_uclient -y`). Both relays use one thread. The cost is the CPU time of the relay's threads, system calls
//! included, divided by the packets that arrived; on loopback that contains the kernel's delivery to the receiver.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints what it measured"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    port::{PortHub, RawPort, UdpPort},
    supernode::relay::{
        RelayConfig,
        server::{RelayServer, RelayServerConfig},
    },
};
use ahoy_transport::runtime::{Runtime, TokioRuntime};

const USER: &str = "user";
const PASSWORD: &str = "secret";
const REALM: &str = "ahoy";
/// Clients of one run; they talk in pairs.
const CLIENTS: u64 = 20;
/// Packets of each client.
const PACKETS: u64 = 3000;
/// Milliseconds between two packets of a client: 4000 packets a second in all, below what loses any.
const INTERVAL: &str = "5";
const PAYLOADS: [u64; 2] = [200, 1200];
/// Runs of each, in turn, so that both meet the same machine.
const ROUNDS: usize = 3;
/// CPU of ours over coturn's that we want to stay below.
const GOAL: f64 = 0.4;

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// CPU time of all threads of a process so far, in nanoseconds.
fn cpu_nanos(process: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks
        .filter_map(|task| {
            // A thread may end meanwhile.
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

fn figure(text: &str, name: &str) -> u64 {
    let at = text.rfind(name).unwrap_or_else(|| panic!("{name}: {text}"));
    let digits: String = text[at + name.len()..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

/// Talks through the relay at `port`, which runs in `process`: nanoseconds per packet, and packets lost of 1000.
fn drive(process: &str, port: u16, payload: u64) -> (f64, f64) {
    let before = cpu_nanos(process);
    let output = Command::new("turnutils_uclient")
        .args(["-y", "-c", "-u", USER, "-w", PASSWORD, "-z", INTERVAL])
        .args(["-m", &CLIENTS.to_string(), "-n", &PACKETS.to_string()])
        .args(["-l", &payload.to_string(), "-p", &port.to_string()])
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let spent = cpu_nanos(process) - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let sent = figure(&text, "tot_send_msgs=") as f64;
    let arrived = figure(&text, "tot_recv_msgs=") as f64;
    (spent as f64 / arrived, 1000.0 * (sent - arrived) / sent)
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

fn coturn(folder: &str) -> (Process, u16) {
    let port = free_port();
    let process = Command::new("turnserver")
        .args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"])
        .args(["--log-file", "stdout", "--simple-log"])
        .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
        .args(["--allow-loopback-peers", "--no-multicast-peers"])
        .args(["--relay-threads", "1", "--lt-cred-mech", "--realm", REALM])
        .args(["--user", &format!("{USER}:{PASSWORD}")])
        .args(["--listening-port", &port.to_string()])
        .args(["--pidfile", &format!("{folder}/turnserver.pid")])
        .args(["--userdb", &format!("{folder}/turnserver.db")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (Process(process), port)
}

/// This relay on one thread of this process, which does nothing else meanwhile.
async fn serve(port: std::sync::mpsc::SyncSender<u16>) {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let socket = runtime.bind_udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let socket = Arc::new(UdpPort::new(socket.unwrap()).await.unwrap());
    let addr = socket.local_addr();
    let hub = PortHub::start(&*runtime, socket);
    let mut relay = RelayConfig::new(REALM, &[addr.ip()]);
    // The tester keeps to no limit of ours, and numbers its channels as RFC 5766 did.
    relay.shared_port = false;
    relay.limits.bytes_per_second = u64::MAX >> 24;
    relay.limits.allocations_per_source = u32::MAX;
    relay.limits.allocations_per_credential = u32::MAX;
    let server = RelayServer::start(runtime, &hub, RelayServerConfig::new(relay)).unwrap();
    server.add_user(USER, PASSWORD);
    port.send(addr.port()).unwrap();
    std::future::pending().await
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    for tool in ["turnserver", "turnutils_uclient"] {
        let there = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
        if !there {
            println!("{tool} is missing: install the package coturn");
            return;
        }
    }
    let (tell_port, port) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("relay".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(serve(tell_port));
        })
        .unwrap();
    let ours = port.recv().unwrap();
    let folder = std::env::temp_dir().join(format!("ahoy-bench-relay-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (process, theirs) = coturn(&folder.display().to_string());
    let coturn = process.0.id().to_string();
    // It has no other way to say that it listens than to do so.
    std::thread::sleep(Duration::from_secs(1));

    println!(
        "{CLIENTS} clients of one relay talk in pairs, {PACKETS} packets each, one every {INTERVAL} ms; \
         middle of {ROUNDS} runs"
    );
    println!("payload   ahoy ns/packet   coturn ns/packet   ratio   lost of 1000 (ahoy, coturn)");
    for payload in PAYLOADS {
        let (mut a, mut b, mut lost) = (Vec::new(), Vec::new(), (0.0, 0.0));
        for _ in 0..ROUNDS {
            let (cost, missing) = drive("self", ours, payload);
            a.push(cost);
            lost.0 = missing.max(lost.0);
            let (cost, missing) = drive(&coturn, theirs, payload);
            b.push(cost);
            lost.1 = missing.max(lost.1);
        }
        let (a, b) = (middle(a), middle(b));
        let ratio = a / b;
        let verdict = if ratio <= GOAL {
            ""
        } else {
            "  above the goal"
        };
        println!(
            "{payload:7}   {a:14.0}   {b:16.0}   {ratio:5.2}   {:.1}, {:.1}{verdict}",
            lost.0, lost.1
        );
    }
    fs::remove_dir_all(&folder).unwrap();
}
