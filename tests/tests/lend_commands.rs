//! `ahoy ctl lend` as a person uses it: every program a process of its own, supernodes in three networks of this machine.

use std::path::PathBuf;

use ahoy_tests::process::{Running, run, speech, start};
use serde_json::Value;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    _supernodes: Vec<Running>,
    nodes: Vec<String>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let start = |n: usize| {
            let listen = format!("127.{n}.0.1:0");
            let arguments = ["supernode", "--listen", &listen, "--print-link"];
            start(&folder.path().join(format!("node {n}")), arguments)
        };
        let supernodes: Vec<Running> = (1..=3).map(start).collect();
        let nodes = supernodes.iter().map(Running::first_line).collect();
        Self {
            folder,
            _supernodes: supernodes,
            nodes,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lend(&self, state: &str) -> Value {
        let told = run(&self.path("eva"), ["ctl", "lend", state]).expect_code(0);
        told.json()["lending"].clone()
    }

    /// Asks until lending stands like this; each asking is a process, so that takes its time.
    fn stands(&self, state: &str) -> Value {
        let mut lending = Value::Null;
        for _ in 0..100 {
            lending = self.lend("status");
            if lending["state"] == state {
                return lending;
            }
        }
        panic!("it never is {state}: {lending:#}");
    }
}

#[test]
fn a_running_app_lends_its_machine_two_people_call_by_it_and_it_stops() {
    let world = World::new();
    let via: Vec<&str> = world
        .nodes
        .iter()
        .flat_map(|node| ["--via", node.as_str()])
        .collect();
    let answer = |name: &str, via: &[&str]| {
        let arguments = ["answer", "--auto"].iter().chain(via).copied();
        let running = start(&world.path(name), arguments);
        let link = running.first_line();
        (running, link)
    };
    let (eva, _link) = answer("eva", &via);
    assert_eq!(world.lend("status")["state"], "off");
    assert_eq!(world.lend("on")["wanted"], true);
    let lending = world.stands("lending");
    assert_eq!(lending["reached_by"], 3, "{lending:#}");
    let lent = lending["link"].as_str().expect("a link").to_owned();
    let (bob, bobs_link) = answer("bob", &["--via", &lent]);
    let speech = speech();
    let speech = speech.display().to_string();
    let call = [
        "call",
        &bobs_link,
        "--via",
        &lent,
        "--path",
        "relay",
        "--for",
        "3",
        "--audio-in",
        &speech,
        "--audio-out",
        "null",
    ];
    run(&world.path("alice"), call).expect_code(0);
    let lending = world.lend("status");
    assert_eq!(lending["helped"], 2, "{lending:#}");
    let relayed = lending["relayed_bytes"].as_u64().expect("a number");
    assert!(relayed > 10_000, "{lending:#}");
    // By now it is written down.
    let settings = std::fs::read_to_string(world.path("eva").join("settings.toml"));
    assert!(settings.expect("saved").contains("on = true"));

    world.lend("off");
    let lending = world.stands("off");
    assert!(
        lending["relayed_bytes"].as_u64() >= Some(relayed),
        "{lending:#}"
    );
    let homes = run(&world.path("eva"), ["ctl", "homes"]).expect_code(0);
    let homes = homes.json();
    let homes = homes["standings"].as_array().expect("a list");
    assert_eq!(homes.len(), 3, "{homes:#?}");
    assert!(homes.iter().all(|home| home["bad"] == false));
    bob.interrupt();
    eva.interrupt();
}
