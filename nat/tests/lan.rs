//! Finding each other by multicast between two machines, as the kernel delivers it: two network namespaces and one
//! cable, with no way out.
//!
//! Needs root and `iproute2`. Without them the test says so and passes, except where `CI=true`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::discovery::lan::{LanResponder, Place, find};
use ahoy_transport::{
    identity::{NodeKeys, UserId},
    runtime::{Runtime, TokioRuntime},
};

const ROLE: &str = "AHOY_LAN_ROLE";
const BOB: UserId = UserId([7; 32]);
const PORT: u16 = 4567;
const LIMIT: Duration = Duration::from_secs(2);

fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Two machines and a cable. They are gone when this is dropped.
struct Cable {
    left: String,
    right: String,
}

impl Cable {
    fn new() -> Option<Self> {
        let name = |side| format!("ahoy-lan-{}-{side}", std::process::id());
        let cable = Self {
            left: name("left"),
            right: name("right"),
        };
        let (left, right) = (&cable.left, &cable.right);
        if !(ip(&format!("netns add {left}")) && ip(&format!("netns add {right}"))) {
            let missing = "no network namespaces here, run as root with iproute2";
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
            // Past the capture of test output, so that nobody takes a skipped test for a passed one.
            let text = format!("SKIPPED: {missing}\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        assert!(ip(&format!(
            "link add eth0 netns {left} type veth peer name eth0 netns {right}"
        )));
        for (netns, addr) in [(left, "192.168.9.1/24"), (right, "192.168.9.2/24")] {
            assert!(ip(&format!("-n {netns} addr add {addr} dev eth0")));
            assert!(ip(&format!("-n {netns} link set lo up")));
            assert!(ip(&format!("-n {netns} link set eth0 up")));
        }
        Some(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for netns in [&self.left, &self.right] {
            ip(&format!("netns del {netns}"));
        }
    }
}

/// A copy of this program in a namespace.
struct Elsewhere(Child, BufReader<ChildStdout>);

impl Elsewhere {
    fn start(netns: &str, role: &str) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", netns])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "the_program_elsewhere", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self(child, stdout)
    }

    /// What follows `start` in the next line that begins so.
    fn expect(&mut self, start: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.1.read_line(&mut line).unwrap(),
                0,
                "not said: {start}, but {said}"
            );
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
            said += &line;
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn place() -> Place {
    Place {
        port: PORT,
        node: NodeKeys::from_seed(&[3; 32]).id(),
    }
}

/// No test, but what the other starts in a namespace.
#[test]
fn the_program_elsewhere() {
    let Ok(role) = env::var(ROLE) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        match role.as_str() {
            "answer" => {
                let _responder = LanResponder::start(&runtime, BOB, place());
                println!("\nready");
                // Until killed.
                std::future::pending::<()>().await;
            }
            "find bob" | "find somebody else" => {
                let user = if role == "find bob" {
                    BOB
                } else {
                    UserId([8; 32])
                };
                let started = runtime.now();
                let found = find(&runtime, user, LIMIT).await;
                let took = (runtime.now() - started).as_millis();
                let found: Vec<String> = found
                    .iter()
                    .map(|found| format!("{} {}", found.addr, found.node))
                    .collect();
                println!("\nfound {}", found.join(", "));
                println!("took {took} ms");
            }
            other => panic!("no role {other}"),
        }
    });
}

#[test]
fn a_device_is_found_by_those_who_know_its_owner_and_by_nobody_when_it_does_not_answer() {
    let Some(cable) = Cable::new() else { return };
    let find = |role| {
        let mut finder = Elsewhere::start(&cable.left, role);
        let found = finder.expect("found ");
        let took: u64 = finder
            .expect("took ")
            .trim_end_matches(" ms")
            .parse()
            .unwrap();
        (found, took)
    };
    // Switched off.
    assert_eq!(find("find bob").0, "");
    let mut bob = Elsewhere::start(&cable.right, "answer");
    bob.expect("ready");
    let (found, took) = find("find bob");
    assert_eq!(found, format!("192.168.9.2:{PORT} {}", place().node));
    assert!(took < 1500, "{took} ms");
    println!("found after {took} ms");
    assert_eq!(find("find somebody else").0, "");
}
