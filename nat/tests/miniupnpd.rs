//! Port mapping against a real router: miniupnpd and the kernel's NAT, in network namespaces.
//!
//! ```text
//! outside 31.0.0.2 ── 31.0.0.1 router 192.168.77.1 ── 192.168.77.2 home
//! ```
//! Needs root and the Debian packages `miniupnpd-nftables`, `nftables` and `iproute2`. Without them the tests say so
//! and pass, except where `CI=true`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "the process at home tells its parent")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    time::Duration,
};

use ahoy_nat::portmap::{
    PortMapper, Router, RouterFuture,
    library::LibraryRouter,
    manager::{Gateway, Lease, MapError, MapRequest, Policy, Protocol},
};
use ahoy_transport::runtime::{Runtime, TokioRuntime};

/// The router's address outside: one that miniupnpd takes for public. Nothing leaves the namespaces.
const ROUTER: Ipv4Addr = Ipv4Addr::new(31, 0, 0, 1);
const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is asked for, and how often: the lifetime passes within the test.
const LIFETIME: Duration = Duration::from_secs(3);
const KEEP: Duration = Duration::from_secs(1);
/// Tells the copy of this program at home what to do.
const ROLE: &str = "AHOY_PORT_MAPPING_AT_HOME";

const FIREWALL: &str = r#"
flush ruleset
table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward {
        type filter hook forward priority 0; policy drop;
        jump miniupnpd
        ct state established,related accept
        iifname "lan" accept
    }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting {
        type nat hook postrouting priority 100;
        jump postrouting_miniupnpd
        oifname "wan" masquerade
    }
}
"#;

/// Whether this can run here. Loudly not, where something may be missing.
fn possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(try_it)
}

fn try_it() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| {
        let mut places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        places.any(|dir| dir.join(program).is_file())
    };
    let missing = ["ip", "nft", "miniupnpd", "bash"]
        .into_iter()
        .find(|program| !has(program))
        .map(|program| format!("{program} is missing, install miniupnpd-nftables and nftables"))
        .or_else(|| {
            let name = format!("ahoy-probe-{}", std::process::id());
            let made = quietly("ip", &["netns", "add", &name]);
            quietly("ip", &["netns", "del", &name]);
            (!made).then(|| "no network namespaces here, run as root".to_owned())
        });
    let Some(missing) = missing else { return true };
    assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
    // Past the capture of test output, so that nobody takes a skipped test for a passed one.
    let text = format!("SKIPPED: {missing}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    false
}

fn quietly(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A home, its router, and the world.
struct Place {
    name: String,
    daemon: Option<Process>,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = Self {
            name: format!("ahoy-pm-{}-{number}", std::process::id()),
            daemon: None,
        };
        let (home, router, world) = (place.at("home"), place.at("router"), place.at("world"));
        for netns in [&home, &router, &world] {
            run(&format!("ip netns add {netns}"));
            run(&format!("ip -n {netns} link set lo up"));
        }
        let link = |side: &str, netns: &str| {
            run(&format!(
                "ip link add {side} netns {router} type veth peer name eth0 netns {netns}"
            ));
            run(&format!("ip -n {router} link set {side} up"));
            run(&format!("ip -n {netns} link set eth0 up"));
        };
        run(&format!(
            "ip netns exec {router} bash -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"
        ));
        link("lan", &home);
        link("wan", &world);
        for (netns, device, addr) in [
            (&router, "lan", "192.168.77.1/24"),
            (&router, "wan", "31.0.0.1/24"),
            (&home, "eth0", "192.168.77.2/24"),
            (&world, "eth0", "31.0.0.2/24"),
        ] {
            run(&format!("ip -n {netns} addr add {addr} dev {device}"));
        }
        run(&format!("ip -n {home} route add default via 192.168.77.1"));
        place
    }

    fn at(&self, who: &str) -> String {
        format!("{}-{who}", self.name)
    }

    /// Switches the router on, with empty tables, and returns when it listens.
    fn switch_on(&mut self, options: &str) {
        self.switch_off();
        let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&self.name);
        let pid_file = config.with_extension("pid");
        let text = format!(
            "ext_ifname=wan\nlistening_ip=lan\nmin_lifetime=2\nmax_lifetime=3600\n\
             secure_mode=yes\nuuid=5fb3c2c4-5b0e-4d0e-8a0a-2f2f2f2f2f2f\n{options}\n\
             allow 1024-65535 192.168.77.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        );
        std::fs::write(&config, text).unwrap();
        let rules = config.with_extension("nft");
        std::fs::write(&rules, FIREWALL).unwrap();
        let router = self.at("router");
        run(&format!(
            "ip netns exec {router} nft -f {}",
            rules.display()
        ));
        let daemon = Command::new("ip")
            .args(["netns", "exec", &router, "miniupnpd", "-d", "-f"])
            .arg(&config)
            .arg("-P")
            .arg(&pid_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.daemon = Some(Process(daemon));
        // Who asks before that takes it for a router without this protocol.
        for (option, port) in [("enable_natpmp=yes", 5351), ("enable_upnp=yes", 1900)] {
            if options.contains(option) {
                self.wait_for_port(port);
            }
        }
    }

    /// Until somebody at the router listens on this UDP port.
    fn wait_for_port(&self, port: u16) {
        let router = self.at("router");
        let runtime = TokioRuntime;
        let deadline = quinn::Runtime::now(&runtime) + PATIENCE;
        let wanted = format!(":{port:04X} ");
        while quinn::Runtime::now(&runtime) < deadline {
            let output = Command::new("ip")
                .args(["netns", "exec", &router, "cat", "/proc/net/udp"])
                .output()
                .unwrap();
            if String::from_utf8_lossy(&output.stdout).contains(&wanted) {
                return;
            }
        }
        panic!("miniupnpd does not listen on port {port}");
    }

    /// Without a word to anybody.
    fn switch_off(&mut self) {
        // `ip netns exec` has become the daemon itself.
        self.daemon = None;
    }

    /// Sends a packet from outside.
    fn send(&self, to: SocketAddr, text: &str) {
        let (netns, ip, port) = (self.at("world"), to.ip(), to.port());
        run(&format!(
            "ip netns exec {netns} bash -c 'echo -n {text} > /dev/udp/{ip}/{port}'"
        ));
    }

    /// Sends from outside until one arrives.
    fn send_until_received(&self, home: &mut Home, to: SocketAddr, text: &str) {
        let tries = PATIENCE.as_millis() / 100;
        for n in 0..tries {
            let text = format!("{text}-{n}");
            self.send(to, &text);
            let wanted = format!("received {text}");
            if home.says(Duration::from_millis(100), |line| line.starts_with(&wanted)) {
                return;
            }
        }
        panic!(
            "nothing from outside arrives through {to}: {:#?}",
            home.said
        );
    }

    /// The router's redirections to home.
    fn rules(&self) -> String {
        let router = self.at("router");
        let output = Command::new("ip")
            .args(["netns", "exec", &router, "nft", "list", "ruleset"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let redirections = text.lines().filter(|line| line.contains("dnat"));
        redirections
            .map(|line| line.trim().to_owned() + "\n")
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.daemon = None;
        for who in ["home", "router", "world"] {
            quietly("ip", &["netns", "del", &self.at(who)]);
        }
        let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&self.name);
        for path in [
            config.with_extension("nft"),
            config.with_extension("pid"),
            config,
        ] {
            drop(std::fs::remove_file(path));
        }
    }
}

fn run(command: &str) {
    let output = Command::new("bash").args(["-c", command]).output().unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The program at home: a copy of this one, in the namespace.
struct Home {
    _process: Process,
    stdin: ChildStdin,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Home {
    fn start(place: &Place, protocols: &str) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &place.at("home")])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "the_program_at_home", "--nocapture"])
            .env(ROLE, protocols)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(4096);
        std::thread::Builder::new()
            .name("home".into())
            .spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    if sender.send(line.unwrap()).is_err() {
                        return;
                    }
                }
            })
            .unwrap();
        Self {
            _process: Process(child),
            stdin,
            lines,
            said: Vec::new(),
        }
    }

    /// Whether a line comes within `limit`.
    fn says(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        let runtime = TokioRuntime;
        let deadline = quinn::Runtime::now(&runtime) + limit;
        loop {
            let left = deadline.saturating_duration_since(quinn::Runtime::now(&runtime));
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.said.push(line);
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// What follows `start` in the next line that begins so.
    fn expect(&mut self, start: &str) -> String {
        let found = self.says(PATIENCE, |line| line.starts_with(start));
        assert!(found, "not said: {start:?}, but {:#?}", self.said);
        self.said.last().unwrap()[start.len()..].trim().to_owned()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").unwrap();
    }
}

/// Speaks to the router, and to the parent about it.
#[derive(Debug)]
struct Telling(LibraryRouter);

impl Router for Telling {
    fn gateway(&self) -> Option<Gateway> {
        self.0.gateway()
    }

    fn map(&self, request: MapRequest) -> RouterFuture<Result<Lease, MapError>> {
        let answer = self.0.map(request);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(lease) => println!("granted {} {}", request.protocol, lease.external),
                Err(error) => println!("denied {} {error}", request.protocol),
            }
            answer
        })
    }

    fn unmap(&self, lease: Lease) -> RouterFuture<()> {
        let unmapping = self.0.unmap(lease);
        Box::pin(async move {
            unmapping.await;
            println!("unmapped");
        })
    }
}

/// No test, but what the others start in a namespace.
#[test]
fn the_program_at_home() {
    let Ok(role) = env::var(ROLE) else { return };
    let protocols: Vec<Protocol> = role
        .split(',')
        .filter_map(|name| match name {
            "pcp" => Some(Protocol::Pcp),
            "natpmp" => Some(Protocol::NatPmp),
            "upnp" => Some(Protocol::Upnp),
            _ => None,
        })
        .collect();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .await
            .unwrap();
        let port = socket.local_addr().unwrap().port();
        // After the test harness's own words.
        println!("\nport {port}");
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let policy = Policy {
            protocols,
            lifetime: LIFETIME,
            keep: KEEP,
            keep_upnp: KEEP,
            retry_renewal: Duration::from_millis(500),
            first_retry: Duration::from_secs(1),
            last_retry: Duration::from_secs(1),
        };
        let router = Arc::new(Telling(LibraryRouter::new(&*runtime)));
        let mapper = PortMapper::start(runtime, router, port, policy);
        let mut status = mapper.status();
        let (commands, mut told) = tokio::sync::mpsc::channel(16);
        let listening = move || {
            for line in std::io::stdin().lines() {
                if commands.blocking_send(line.unwrap()).is_err() {
                    return;
                }
            }
        };
        let listener = std::thread::Builder::new().name("commands".into());
        drop(listener.spawn(listening).unwrap());
        let mut packet = [0; 1500];
        loop {
            tokio::select! {
                biased;
                Ok(()) = status.changed() => {
                    let status = status.borrow_and_update().clone();
                    match status.mapped() {
                        Some(external) => println!("mapped {external}"),
                        None => println!("status {status}"),
                    }
                }
                Ok((length, _from)) = socket.recv_from(&mut packet) => {
                    println!("received {}", String::from_utf8_lossy(&packet[..length]));
                }
                command = told.recv() => match command.as_deref() {
                    Some("poke") => mapper.poke(),
                    Some(_) | None => break,
                },
            }
        }
        mapper.close().await;
        println!("closed");
    });
}

/// Mapped, used, renewed, restored after a restart of the router, given back.
fn whole_life(protocol: &str, protocols: &str, options: &str) {
    if !possible() {
        return;
    }
    let mut place = Place::new();
    place.switch_on(options);
    let mut home = Home::start(&place, protocols);
    let port: u16 = home.expect("port ").parse().unwrap();
    let external: SocketAddr = home.expect("mapped ").parse().unwrap();
    assert_eq!(external.ip(), ROUTER);
    let granted = format!("granted {protocol} {external}");
    assert!(home.said.contains(&granted), "{:#?}", home.said);
    let rules = place.rules();
    assert!(
        rules.contains(&format!("dnat ip to {HOME}:{port}")),
        "{rules}"
    );
    place.send_until_received(&mut home, external, "hello");

    // Longer than the first lifetime: four renewals, at least 0.9 s apart.
    for _ in 0..4 {
        assert_eq!(
            home.expect(&format!("granted {protocol} ")),
            external.to_string()
        );
    }
    place.send_until_received(&mut home, external, "renewed");

    place.switch_off();
    home.expect("denied ");
    place.switch_on(options);
    assert!(place.rules().is_empty());
    home.expect(&format!("granted {protocol} "));
    place.send_until_received(&mut home, external, "restarted");

    home.tell("close");
    home.expect("unmapped");
    home.expect("closed");
    assert_eq!(place.rules(), "");
}

#[test]
fn pcp_maps_renews_restores_and_gives_back() {
    whole_life(
        "PCP",
        "pcp,natpmp,upnp",
        "enable_natpmp=yes\nenable_upnp=yes",
    );
}

#[test]
fn nat_pmp_maps_renews_restores_and_gives_back() {
    whole_life("NAT-PMP", "natpmp", "enable_natpmp=yes\nenable_upnp=no");
}

#[test]
fn upnp_maps_renews_restores_and_gives_back() {
    // The router closed the port of the others, so these fail first.
    whole_life(
        "UPnP",
        "pcp,natpmp,upnp",
        "enable_natpmp=no\nenable_upnp=yes",
    );
}

#[test]
fn without_a_mapping_nothing_from_outside_arrives() {
    if !possible() {
        return;
    }
    let mut place = Place::new();
    place.switch_on("enable_natpmp=yes\nenable_upnp=yes");
    let mut home = Home::start(&place, "none");
    let port: u16 = home.expect("port ").parse().unwrap();
    for _ in 0..5 {
        place.send((ROUTER, port).into(), "outside");
    }
    // What comes from the own network arrives, and nothing came before it.
    let router = place.at("router");
    run(&format!(
        "ip netns exec {router} bash -c 'echo -n inside > /dev/udp/{HOME}/{port}'"
    ));
    assert_eq!(home.expect("received "), "inside");
}

#[test]
fn a_router_that_maps_nothing_costs_nothing_and_another_one_is_asked() {
    if !possible() {
        return;
    }
    let mut place = Place::new();
    place.switch_on("enable_natpmp=no\nenable_upnp=no");
    let mut home = Home::start(&place, "pcp,natpmp,upnp");
    home.expect("denied PCP no answer");
    home.expect("denied NAT-PMP no answer");
    home.expect("denied UPnP no answer");
    home.expect("status none: no answer");
    // The same device behind another router.
    place.switch_on("enable_natpmp=yes\nenable_upnp=no");
    let netns = place.at("home");
    run(&format!("ip -n {netns} route del default"));
    home.tell("poke");
    home.expect("status no router");
    run(&format!("ip -n {netns} route add default via 192.168.77.1"));
    home.tell("poke");
    let external: SocketAddr = home.expect("mapped ").parse().unwrap();
    place.send_until_received(&mut home, external, "moved");
}
