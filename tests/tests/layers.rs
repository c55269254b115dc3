//! Who may depend on whom, read from what cargo resolves.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// The test crates see everything and ship nothing.
const TEST_CRATES: [&str; 2] = ["ahoy-fuzz", "ahoy-tests"];

/// Crates of other TLS and certificate stacks, by the beginning of their names.
const TLS_PREFIXES: [&str; 10] = [
    "rustls",
    "webpki",
    "openssl",
    "native-tls",
    "boring",
    "x509",
    "rcgen",
    "aws-lc",
    "s2n-",
    "schannel",
];

const DEVICE_CRATES: [&str; 4] = ["cpal", "alsa", "alsa-sys", "pulseaudio"];

/// What cameras, screens and pictures need.
const PICTURE_CRATES: [&str; 5] = ["libaom-sys", "memmap2", "openh264", "x11rb", "zune-jpeg"];

/// Crates that open or tune sockets; everyone else gets sockets from a `Runtime`.
const SOCKET_CRATES: [&str; 4] = ["quinn-udp", "socket2", "mio", "if-addrs"];

/// What the supernode does without: graphics, sound, codecs.
const NOT_IN_A_SUPERNODE: [&str; 9] = [
    "ahoy-media",
    "cpal",
    "alsa",
    "opus",
    "opusic-sys",
    "eframe",
    "egui",
    "winit",
    "glow",
];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--locked", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Normal dependencies of every crate, on this machine's platform.
struct Graph {
    members: BTreeSet<String>,
    /// Crate names to the names they depend on. Versions of one name are one.
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// What cargo resolves for the whole workspace, with default features.
    fn load() -> Self {
        // Without a platform cargo would want to download what only other systems need.
        let version = Command::new("rustc").arg("-vV").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap();
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap();
        let text = cargo(&[
            "metadata",
            "--format-version",
            "1",
            "--filter-platform",
            host,
        ]);
        let metadata: Value = serde_json::from_str(&text).unwrap();

        let names: BTreeMap<&str, &str> = metadata["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|package| {
                (
                    package["id"].as_str().unwrap(),
                    package["name"].as_str().unwrap(),
                )
            })
            .collect();
        let members = metadata["workspace_members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| names[id.as_str().unwrap()].to_owned())
            .collect();
        let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let from = names[node["id"].as_str().unwrap()];
            let targets = edges.entry(from.to_owned()).or_default();
            for dependency in node["deps"].as_array().unwrap() {
                let kinds = dependency["dep_kinds"].as_array().unwrap();
                if kinds.iter().any(|kind| kind["kind"].is_null()) {
                    targets.insert(names[dependency["pkg"].as_str().unwrap()].to_owned());
                }
            }
        }
        Self { members, edges }
    }

    /// Everything that `name` needs at run time, itself included.
    fn closure(&self, name: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.edges.get_key_value(name).unwrap().0.as_str()];
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(self.edges[next].iter().map(String::as_str));
            }
        }
        found
    }

    /// Who depends on `name` directly.
    fn dependents(&self, name: &str) -> BTreeSet<&str> {
        self.edges
            .iter()
            .filter(|(_, targets)| targets.contains(name))
            .map(|(from, _)| from.as_str())
            .collect()
    }
}

#[test]
fn the_crates_of_the_workspace_depend_on_each_other_as_designed_and_not_otherwise() {
    let graph = Graph::load();
    let mut found = BTreeSet::new();
    for from in graph
        .members
        .iter()
        .filter(|name| !TEST_CRATES.contains(&name.as_str()))
    {
        for to in graph.edges[from].intersection(&graph.members) {
            found.insert((from.as_str(), to.as_str()));
        }
    }
    let designed = BTreeSet::from([
        ("ahoy", "ahoy-media"),
        ("ahoy", "ahoy-nat"),
        ("ahoy", "ahoy-transport"),
        ("ahoy-nat", "ahoy-transport"),
    ]);
    assert_eq!(found, designed);
}

#[test]
fn nothing_under_transport_and_nat_speaks_tls() {
    let graph = Graph::load();
    for name in ["ahoy-transport", "ahoy-nat"] {
        let closure = graph.closure(name);
        assert!(closure.contains("snow"), "the closure is not empty");
        let tls: Vec<&&str> = closure
            .iter()
            .filter(|found| TLS_PREFIXES.iter().any(|prefix| found.starts_with(prefix)))
            .collect();
        assert!(tls.is_empty(), "{name} pulls in {tls:?}");
    }
}

#[test]
fn sound_devices_come_in_through_media_alone() {
    let graph = Graph::load();
    for name in DEVICE_CRATES {
        for dependent in graph.dependents(name) {
            let allowed = dependent == "ahoy-media" || DEVICE_CRATES.contains(&dependent);
            assert!(allowed, "{dependent} depends on {name}");
        }
    }
    assert!(graph.dependents("cpal").contains("ahoy-media"));
    for name in ["ahoy-transport", "ahoy-nat"] {
        let closure = graph.closure(name);
        assert!(DEVICE_CRATES.iter().all(|device| !closure.contains(device)));
    }
}

#[test]
fn sockets_come_in_through_transport_alone() {
    let graph = Graph::load();
    for name in SOCKET_CRATES {
        for dependent in graph.dependents(name) {
            let ours = graph.members.contains(dependent) && !TEST_CRATES.contains(&dependent);
            assert!(
                !ours || dependent == "ahoy-transport",
                "{dependent} depends on {name}"
            );
        }
    }
    assert!(graph.dependents("if-addrs").contains("ahoy-transport"));
}

#[test]
fn a_supernode_has_no_graphics_audio_or_codec_library() {
    let tree = |features: &[&str]| -> BTreeSet<String> {
        let mut args = vec!["tree", "-p", "ahoy", "-e", "normal", "--prefix", "none"];
        args.extend(features);
        cargo(&args)
            .lines()
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    };
    let supernode = tree(&["--no-default-features"]);
    assert!(supernode.contains("ahoy-nat"), "{supernode:?}");
    for name in NOT_IN_A_SUPERNODE {
        assert!(!supernode.contains(name), "a supernode contains {name}");
    }
    let headless = tree(&["--no-default-features", "--features", "voice"]);
    assert!(headless.contains("ahoy-media") && headless.contains("opus"));
    for name in DEVICE_CRATES.into_iter().chain(PICTURE_CRATES) {
        assert!(
            !headless.contains(name),
            "a headless caller contains {name}"
        );
        assert!(!supernode.contains(name), "a supernode contains {name}");
    }
    // They come with pictures, which need no sound device.
    let seen = tree(&["--no-default-features", "--features", "video"]);
    assert!(
        PICTURE_CRATES.iter().all(|name| seen.contains(*name)),
        "{seen:?}"
    );
    assert!(!seen.contains("cpal"));
}
