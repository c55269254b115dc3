//! The NATs of a real kernel, found out by probes: a client, a router and a server in namespaces of their own.
//!
//! The test runs itself again under `unshare`; where that is not permitted, or `nft` is missing, it says so and
//! passes.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

mod namespace;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use ahoy_nat::{
    behaviour::{Dependence, Known, NatBehaviour, ProbePlan, measure},
    port::{PortHub, UdpPort},
    supernode::relay::{
        RelayConfig,
        server::{RelayServer, RelayServerConfig},
    },
};
use ahoy_transport::runtime::{Runtime, TokioRuntime};
use namespace::{inside, ip, run};

const SERVERS: [&str; 2] = ["203.0.113.1:4433", "203.0.113.2:4433"];
/// Tells the test what it is, one level further in.
const ROLE: &str = "AHOY_TEST_ROLE";

/// A process that keeps a network namespace.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo there && exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut line = String::new();
        // From then on the namespace is there.
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self(child)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.0.id().to_string(), program]);
        command
    }

    #[track_caller]
    fn ip(&self, arguments: &str) {
        let mut command = self.command("ip");
        let status = command.args(arguments.split_whitespace()).status();
        assert!(status.unwrap().success(), "ip {arguments}");
    }

    /// This test, in this namespace, as `role`.
    fn play(&self, role: &str) -> Child {
        self.command(std::env::current_exe().unwrap().to_str().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(|_status| ()).unwrap_or_default();
    }
}

const NAME: &str = "a_kernels_nats_are_told_apart";

fn block_on<T>(scene: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(scene)
}

async fn hub(runtime: &Arc<dyn Runtime>, addr: SocketAddr) -> Arc<PortHub> {
    let port = UdpPort::new(runtime.bind_udp(addr).unwrap()).await.unwrap();
    PortHub::start(&**runtime, Arc::new(port))
}

/// Two relays, until standard input ends.
fn serve() {
    block_on(async {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let mut relays = Vec::new();
        for text in SERVERS {
            let addr: SocketAddr = text.parse().unwrap();
            let hub = hub(&runtime, addr).await;
            let config = RelayServerConfig::new(RelayConfig::new("test", &[addr.ip()]));
            relays.push(RelayServer::start(Arc::clone(&runtime), &hub, config).unwrap());
        }
        println!("\nready");
        let (over, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("until the end".into())
            .spawn(move || {
                std::io::stdin().read_line(&mut String::new()).unwrap_or(0);
                over.send(()).unwrap_or_default();
            })
            .unwrap();
        ended.await.unwrap_or_default();
    });
}

fn probe() {
    let found: NatBehaviour = block_on(async {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let hub = hub(&runtime, "0.0.0.0:5000".parse().unwrap()).await;
        let plan = ProbePlan {
            servers: SERVERS.iter().map(|text| text.parse().unwrap()).collect(),
            own_addrs: runtime
                .interface_addrs()
                .into_iter()
                .collect::<BTreeSet<_>>(),
            own_port: hub.port().local_addr().port(),
        };
        measure(&*runtime, &hub, plan).await.unwrap()
    });
    println!(
        "\nfound {}|{}|{}|{}|{:?}",
        found.translated, found.mapping, found.filtering, found.port_preserved, found.hairpin
    );
}

/// A client behind a router with these rules for what leaves.
fn through(rules: &str) -> String {
    let (client, router, server) = (Namespace::new(), Namespace::new(), Namespace::new());
    for (name, inner, net) in [
        ("home", &client, "192.168.0"),
        ("wide", &server, "203.0.113"),
    ] {
        router.ip(&format!("link add {name} type veth peer name uplink"));
        router.ip(&format!("link set uplink netns {}", inner.0.id()));
        router.ip(&format!("addr add {net}.254/24 dev {name}"));
        router.ip(&format!("link set {name} up"));
    }
    client.ip("addr add 192.168.0.7/24 dev uplink");
    client.ip("link set uplink up");
    client.ip("route add default via 192.168.0.254");
    for last in [1, 2] {
        server.ip(&format!("addr add 203.0.113.{last}/24 dev uplink"));
    }
    server.ip("link set uplink up");
    let forward = router
        .command("sysctl")
        .args(["-qw", "net.ipv4.ip_forward=1"])
        .status();
    assert!(forward.unwrap().success(), "the router does not forward");
    if !rules.is_empty() {
        let mut nft = router
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let table = format!(
            "table ip nat {{\nchain out {{\ntype nat hook postrouting priority 100\noifname wide {rules}\n}}\n}}\n"
        );
        nft.stdin
            .take()
            .unwrap()
            .write_all(table.as_bytes())
            .unwrap();
        assert!(nft.wait().unwrap().success(), "nft refuses {rules}");
    } else {
        server.ip("route add 192.168.0.0/24 via 203.0.113.254");
    }
    let mut serving = server.play("server");
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap() == "ready"));
    let said = client.play("client").wait_with_output().unwrap();
    drop(serving.stdin.take());
    serving.kill().unwrap_or_default();
    serving.wait().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let found = said.lines().find_map(|line| line.strip_prefix("found "));
    found.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_kernels_nats_are_told_apart() {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => return serve(),
        Ok(_client) => return probe(),
        Err(_) => {}
    }
    if !inside(NAME) {
        return;
    }
    ip("link set lo up");
    let open = Known {
        least: Dependence::EndpointIndependent,
        most: Dependence::AddressDependent,
    };
    let public = through("");
    println!("no NAT: {public}");
    assert_eq!(
        public,
        format!("false|endpoint-independent|{open}|true|None")
    );
    if !run("nft", "list tables") {
        println!("SKIPPED the rest of {NAME}: there is no nft here; install nftables");
        return;
    }
    let home = through("masquerade");
    println!("masquerade: {home}");
    assert_eq!(
        home,
        "true|endpoint-independent|address-and-port-dependent|true|Some(false)"
    );
    let hard = through("masquerade fully-random");
    println!("masquerade fully-random: {hard}");
    assert_eq!(
        hard,
        "true|address-and-port-dependent|address-and-port-dependent|false|Some(false)"
    );
}
