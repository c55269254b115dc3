//! A call in one network without any supernode and without a way out of it: two machines, one cable, the program
//! itself on both.
//!
//! Needs root and `iproute2`. Without them the tests say so and pass, except where `CI=true`.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell what it saw, and so may its helpers"
)]

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ahoy_tests::process::{Finished, Running, run, start_by};
use serde_json::Value;

/// How long they talk.
const SECONDS: &str = "3";
/// Packets of 20 ms that have to arrive at each side in that time: the rest is for a busy machine.
const ENOUGH: u64 = 100;
/// No route to the other side.
const NO_ROUTE: i32 = 3;
const USAGE: i32 = 2;
/// Supernodes that are not there.
const NOBODY: &str =
    "ahoy-node:hp7ijepm5r79dntoknqbfot819wg8mewmzp3qh615hjexckzgd8y@192.168.9.77:4433";
const NOWHERE: &str =
    "ahoy-node:hp7ijepm5r79dntoknqbfot819wg8mewmzp3qh615hjexckzgd8y@node.invalid:4433";

fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A machine: a namespace and a profile.
struct Machine {
    netns: String,
    home: PathBuf,
}

impl Machine {
    fn start(&self, arguments: &[&str]) -> Running {
        start_by(&self.home, None, arguments, |command| {
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", &self.netns]);
            inside.arg(command.get_program()).args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => inside.env(name, value),
                    None => inside.env_remove(name),
                };
            }
            inside.stdin(Stdio::null());
            inside.stdout(Stdio::piped()).stderr(Stdio::piped());
            inside.spawn()
        })
    }

    /// Waits for one call. Gives back the link, too.
    fn answer(&self, further: &[&str]) -> (Running, String) {
        let report = self.report().display().to_string();
        let arguments = ["answer", "--auto", "--once", "--audio-in", "tone"];
        let arguments = [&arguments[..], &["--report", &report], further].concat();
        let running = self.start(&arguments);
        let link = running.first_line();
        assert!(link.starts_with("ahoy:"), "{link:?}");
        (running, link)
    }

    fn call(&self, whom: &str, further: &[&str]) -> Finished {
        let arguments = ["call", whom, "--for", SECONDS, "--timeout", "15", "--json"];
        let arguments = [&arguments[..], &["--audio-in", "tone"], further].concat();
        self.start(&arguments).finish()
    }

    fn report(&self) -> PathBuf {
        self.home.join("report.json")
    }

    fn set(&self, settings: &str) {
        fs::write(self.home.join("settings.toml"), settings).unwrap();
    }

    /// Whether somebody here listens to multicast DNS.
    fn listens(&self) -> bool {
        // Sockets of a namespace, in hex: 5353 is 14E9.
        let shown = Command::new("ip")
            .args(["netns", "exec", &self.netns, "cat", "/proc/net/udp"])
            .output()
            .unwrap();
        assert!(shown.status.success());
        String::from_utf8_lossy(&shown.stdout).contains(":14E9 ")
    }
}

/// Two machines and a cable. They are gone when this is dropped.
struct Cable {
    alice: Machine,
    bob: Machine,
    _folder: tempfile::TempDir,
}

impl Cable {
    fn new(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let machine = |who| Machine {
            netns: format!("ahoy-{test}-{}-{who}", std::process::id()),
            home: {
                let home = folder.path().join(who);
                fs::create_dir(&home).unwrap();
                home
            },
        };
        let cable = Self {
            alice: machine("alice"),
            bob: machine("bob"),
            _folder: folder,
        };
        let (alice, bob) = (&cable.alice.netns, &cable.bob.netns);
        if !(ip(&format!("netns add {alice}")) && ip(&format!("netns add {bob}"))) {
            let missing = "no network namespaces here, run as root with iproute2";
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
            // Past the capture of test output, so that nobody takes a skipped test for a passed one.
            let text = format!("SKIPPED: {missing}\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        assert!(ip(&format!(
            "link add eth0 netns {alice} type veth peer name eth0 netns {bob}"
        )));
        for (netns, addr) in [(alice, "192.168.9.1/24"), (bob, "192.168.9.2/24")] {
            assert!(ip(&format!("-n {netns} addr add {addr} dev eth0")));
            assert!(ip(&format!("-n {netns} link set lo up")));
            assert!(ip(&format!("-n {netns} link set eth0 up")));
        }
        // The kernel takes a moment to see that the cable is in.
        for netns in [alice, bob] {
            let is_up = || {
                let shown = Command::new("ip")
                    .args(["-n", netns, "link", "show", "dev", "eth0"])
                    .output();
                String::from_utf8_lossy(&shown.unwrap().stdout).contains("state UP")
            };
            assert!((0..1000).any(|_look| is_up()), "no carrier");
        }
        Some(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for machine in [&self.alice, &self.bob] {
            ip(&format!("netns del {}", machine.netns));
        }
    }
}

fn read(report: &Path) -> Value {
    serde_json::from_slice(&fs::read(report).unwrap()).unwrap()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "these are real processes")]
    Instant::now()
}

/// Both heard each other, and by the local network alone.
#[track_caller]
fn check_talk(cable: &Cable, called: Finished, waiting: Running) {
    let called = called.expect_code(0);
    let _answered = waiting.finish().expect_code(0);
    let reports = [
        serde_json::from_str(&called.stdout).unwrap(),
        read(&cable.bob.report()),
    ];
    for report in &reports {
        let received = &report["participants"][0]["audio"]["packets"]["received"];
        let paths = report["paths"].as_array().unwrap();
        println!(
            "{} received {received} by {paths:?}, set up {}",
            report["outcome"], report["setup"]
        );
        assert_eq!(report["outcome"], "completed");
        assert!(received.as_u64().unwrap() >= ENOUGH, "{report:#}");
        assert!(!paths.is_empty(), "{report:#}");
        assert!(paths.iter().all(|path| path["kind"] == "lan"), "{paths:#?}");
    }
}

/// Nobody was found, which has its exit code and a sentence that says what to do.
#[track_caller]
fn check_not_found(called: Finished) {
    let called = called.expect_code(NO_ROUTE);
    let said = &called.stderr;
    assert!(
        said.contains("names no supernode") && said.contains("lan_discovery"),
        "{said}"
    );
    let report: Value = serde_json::from_str(&called.stdout).unwrap();
    assert_eq!(report["outcome"], "unreachable", "{report:#}");
}

#[test]
fn two_people_in_one_network_call_each_other_without_a_supernode() {
    let Some(cable) = Cable::new("lan-call") else {
        return;
    };
    let (waiting, link) = cable.bob.answer(&[]);
    // Nobody but this network is named in it.
    assert!(!link.contains("home="), "{link}");
    let called = cable.alice.call(&link, &[]);
    check_talk(&cable, called, waiting);

    // And by name, as a contact.
    let add = ["contact", "add", &link, "--name", "Bob"];
    let _added = run(&cable.alice.home, add).expect_code(0);
    let (waiting, _same) = cable.bob.answer(&[]);
    let called = cable.alice.call("Bob", &[]);
    check_talk(&cable, called, waiting);
}

#[test]
fn supernodes_that_do_not_answer_are_not_waited_for() {
    let Some(cable) = Cable::new("lan-dead") else {
        return;
    };
    // One that no packet reaches, and one whose name nobody knows.
    for node in [NOBODY, NOWHERE] {
        cable.bob.set(&format!("homes = [{node:?}]\n"));
        let began = now();
        let (waiting, link) = cable.bob.answer(&[]);
        let ready = began.elapsed();
        assert!(link.contains("home="), "{link}");
        waiting.wait_stderr("only people in this network can call");
        println!("ready after {ready:?} though no packet leaves this network");
        // Where one leaves, supernodes have five seconds first.
        assert!(ready < Duration::from_secs(4), "{ready:?}");
        let called = cable.alice.call(&link, &[]);
        check_talk(&cable, called, waiting);
        // What cannot be said now is kept, and that is said, too.
        let kept = cable.alice.start(&["message", &link, "Call me"]);
        let kept = kept.finish().expect_code(NO_ROUTE);
        assert!(kept.stderr.contains("it is kept here"), "{}", kept.stderr);
        let messages = cable.alice.start(&["messages", "--json"]).finish();
        let said = messages.expect_code(0).stdout;
        assert!(
            said.contains("Call me") && said.contains("queued"),
            "{said}"
        );
    }
}

#[test]
fn whoever_switched_it_off_is_not_found_and_finds_nobody() {
    let Some(cable) = Cable::new("lan-off") else {
        return;
    };
    let (alice, bob) = (&cable.alice, &cable.bob);
    // Without a supernode either nobody could call him, and the program says so.
    for off in [["--no-lan", "--no-portmap"], ["--path", "relay"]] {
        let refused = bob.start(&[&["answer", "--auto"], &off[..]].concat());
        let refused = refused.finish().expect_code(USAGE);
        let said = &refused.stderr;
        assert!(
            said.contains("nobody could call you") && said.contains("lan_discovery"),
            "{said}"
        );
    }
    bob.set("lan_discovery = false\n");
    let refused = bob.start(&["answer", "--auto"]);
    let _refused = refused.finish().expect_code(USAGE);

    // A supernode that is not there has him wait all the same, silent.
    let id = run(&bob.home, ["id", "show"]);
    let link = id.stdout.lines().find(|line| line.starts_with("ahoy:"));
    let link = link.unwrap().to_owned();
    let deaf = |off: &[&str]| {
        let arguments = [&["answer", "--auto", "--via", NOBODY], off].concat();
        let silent = bob.start(&arguments);
        let heard = alice.call(&link, &[]);
        let listens = bob.listens();
        drop(silent);
        check_not_found(heard);
        assert!(!listens, "{off:?}: somebody listens");
    };
    deaf(&[]);
    bob.set("");
    deaf(&["--no-lan"]);
    deaf(&["--path", "relay"]);

    // The same person with it on is there at once; only a caller who has it off does not look.
    let (waiting, link) = bob.answer(&[]);
    assert!(bob.listens());
    check_not_found(alice.call(&link, &["--no-lan"]));
    check_not_found(alice.call(&link, &["--path", "relay"]));
    alice.set("lan_discovery = false\n");
    check_not_found(alice.call(&link, &[]));
    alice.set("");
    let called = alice.call(&link, &[]);
    check_talk(&cable, called, waiting);
}
