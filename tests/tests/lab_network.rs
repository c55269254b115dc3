//! Thirty supernodes, each a process, on a machine that has all addresses: they learn of each other, people find their homes and
//! each other through them, and most of them are killed.

#![expect(clippy::print_stdout, reason = "a test tells what it saw")]

#[cfg(target_os = "linux")]
mod network {
    use std::{
        path::Path,
        time::{Duration, Instant},
    };

    use ahoy_tests::{
        lab::{Lab, runner::now},
        process::{Finished, Running, run},
    };

    const SUPERNODES: usize = 30;
    /// It is the last one that would be killed.
    const LAST: usize = 29 * 7 % SUPERNODES;

    struct World {
        lab: Lab,
        folder: tempfile::TempDir,
        nodes: Vec<Option<Running>>,
        links: Vec<String>,
        began: Instant,
    }

    impl World {
        /// All of 20.0.0.0/8 is here, so each supernode has a network of its own; each knows the one before it.
        fn new() -> Self {
            let lab = Lab::new();
            lab.node
                .tool("ip", &["route", "add", "local", "20.0.0.0/8", "dev", "lo"]);
            let mut world = Self {
                lab,
                folder: tempfile::tempdir().expect("a temporary folder can be made"),
                nodes: Vec::new(),
                links: Vec::new(),
                began: now(),
            };
            for n in 0..SUPERNODES {
                let listen = format!("20.{n}.0.1:4433");
                let mut arguments = vec!["supernode", "--listen", &listen, "--print-link"];
                let before = world.links.last().cloned();
                if let Some(before) = &before {
                    arguments.extend(["--peer", before]);
                }
                let home = world.folder.path().join(format!("node-{n}"));
                let running = world.start(&home, &arguments);
                world.links.push(running.first_line());
                world.nodes.push(Some(running));
            }
            world
        }

        fn start(&self, home: &Path, arguments: &[&str]) -> Running {
            let log = std::env::var("AHOY_LAB_LOG").unwrap_or_else(|_unset| "info".into());
            self.lab.node.start(home, &log, arguments)
        }

        fn home(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(name)
        }

        fn tell(&self, what: &str) {
            println!("{:5.1} s: {what}", self.began.elapsed().as_secs_f64());
        }

        /// Kills without a word until `left` are left. None of them may have died of anything else.
        fn kill(&mut self, left: usize) {
            // In an order that mixes old and new ones, and begins with the home of Bob's settings.
            let alive: Vec<usize> = (0..SUPERNODES)
                .map(|n| n * 7 % SUPERNODES)
                .filter(|n| self.nodes[*n].is_some())
                .collect();
            let going = alive.len() - left;
            for n in &alive[..going] {
                if let Some(running) = self.nodes[*n].take() {
                    let said = running.kill();
                    assert!(!said.contains("panicked"), "supernode {n}: {said}");
                }
            }
            self.tell(&format!("{going} more are dead, {left} are left"));
        }

        /// Somebody who was there from the beginning calls Bob, by name alone: nothing but the network tells where he is.
        fn call(&self, bob: &str, alice: &Path, via: &str, seconds: &str) -> Finished {
            let mut arguments = vec!["call", bob, "--for", seconds, "--timeout", "30", "--no-dht"];
            arguments.extend(["--no-lan", "--no-portmap"]);
            arguments.extend(["--audio-in", "tone", "--audio-out", "null"]);
            if !via.is_empty() {
                arguments.extend(["--via", via]);
            }
            self.start(alice, &arguments)
                .finish_within(Duration::from_secs(120))
        }
    }

    pub(crate) fn calls_and_finding_go_on_while_supernodes_are_killed() {
        let mut world = World::new();
        world.tell("thirty supernodes run");
        let bob_home = world.home("bob");
        let bob = run(&bob_home, ["id", "show"]).expect_code(0).stdout;
        let bob = bob
            .split_whitespace()
            .find(|word| word.starts_with("ahoy:"));
        let bob = bob.expect("an id is a link").to_owned();
        let bob = bob.split('?').next().unwrap_or(&bob).to_owned();
        let via = world.links[0].clone();
        let answering = world.start(
            &bob_home,
            &[
                "answer",
                "--auto",
                "--via",
                &via,
                "--no-dht",
                "--no-lan",
                "--no-portmap",
                "--audio-in",
                "tone",
                "--audio-out",
                "null",
            ],
        );
        let _link = answering.first_line();
        answering.wait_stderr_times("another home", 2);
        world.tell("Bob has three homes, two of which he found himself");
        let alice = world.home("alice");
        // Through another supernode than any he named.
        let via = world.links[1].clone();
        // As long as thirty that start at once take to learn of each other.
        // His record may be where nobody looks any more who knows more supernodes than he did; he leaves another one when he
        // has other homes.
        let started = now();
        while world.call(&bob, &alice, &via, "40").code != Some(0) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "not found: {}",
                answering.stderr_so_far()
            );
        }
        world.tell("Alice found and called him by name");
        for (percent, left) in [(30, 21), (60, 12), (90, 3)] {
            world.kill(left);
            let dead = now();
            let mut tries = 0;
            loop {
                tries += 1;
                let called = world.call(&bob, &alice, &world.links[LAST], "2");
                if called.code == Some(0) {
                    break;
                }
                // A home is missed after half a minute of silence and more; then one after the other is tried.
                assert!(
                    dead.elapsed() < Duration::from_secs(150),
                    "{percent} % dead: {}{}\n{}",
                    called.stdout,
                    called.stderr,
                    answering.stderr_so_far()
                );
            }
            world.tell(&format!("{percent} % dead: called, at try {tries}"));
        }
        // The home of his settings is dead. The calls may all have come through before he missed it.
        answering.wait_stderr_times_within("another home", 3, Duration::from_secs(120));
        world.tell("Bob has another home");
        let said = answering.stderr_so_far();
        assert!(!said.contains("panicked"), "{said}");
        for running in world.nodes.iter_mut().filter_map(Option::take) {
            let said = running.kill();
            assert!(!said.contains("panicked"), "{said}");
        }
        world.tell("nobody crashed");
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use ahoy_tests::lab::runner::{Test, main};
    main(&[Test::new(
        "calls_and_finding_go_on_while_supernodes_are_killed",
        network::calls_and_finding_go_on_while_supernodes_are_killed,
    )])
}

#[cfg(not(target_os = "linux"))]
fn main() {}
