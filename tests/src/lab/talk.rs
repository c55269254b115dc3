//! A supernode and calls between machines of the laboratory, by the program itself.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{Host, Lab, NODE_NAME};
use crate::process::{PATIENCE, Running};

/// The port of everything: UDP, and TCP for those who have nothing else.
pub const NODE_PORT: u16 = 443;

/// What the log of processes in the laboratory tells, from `AHOY_LAB_LOG`.
fn log() -> String {
    std::env::var("AHOY_LAB_LOG").unwrap_or_default()
}

/// A running supernode.
#[derive(Debug)]
pub struct Supernode {
    /// The process.
    pub running: Running,
    /// What others name it by.
    pub link: String,
}

impl Supernode {
    /// Starts one on the lab's public machine, for both families, under its public name.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start(lab: &Lab, folder: &Path) -> Self {
        Self::start_at(&lab.node, NODE_NAME, folder)
    }

    /// Starts one on `host`, which others know as `name`.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start_at(host: &Host, name: &str, folder: &Path) -> Self {
        let listen = format!("[::]:{NODE_PORT}");
        let public = format!("{name}:{NODE_PORT}");
        let arguments = ["supernode", "--listen", &listen, "--public-addr", &public];
        let arguments = arguments
            .into_iter()
            .chain(["--tcp", &listen, "--print-link"]);
        let running = host.start(&folder.join(name), &log(), arguments);
        let link = running.first_line();
        assert!(link.starts_with("ahoy-node:"), "{link}");
        Self { running, link }
    }
}

/// Who calls whom.
#[derive(Debug, Clone)]
pub struct Talk<'a> {
    /// Profiles and reports go to a folder of this name.
    pub name: String,
    /// Where everybody's files are.
    pub folder: &'a Path,
    /// The caller's machine.
    pub from: &'a Host,
    /// The callee's.
    pub to: &'a Host,
    /// Links of supernodes, of the caller and of the callee.
    pub via: [&'a str; 2],
    /// From the first sound to the good-bye.
    pub seconds: u32,
    /// Further options of the caller.
    pub caller: &'a [&'a str],
    /// And of the callee.
    pub callee: &'a [&'a str],
}

/// A call that goes on.
#[derive(Debug)]
pub struct Talking {
    /// The caller.
    pub alice: Running,
    /// The callee.
    pub bob: Running,
    /// The callee's profile.
    pub bob_home: PathBuf,
    bob_report: PathBuf,
    patience: Duration,
}

/// What both report. Absent is what did not come about.
#[derive(Debug, Clone)]
pub struct Talked {
    /// The caller's report.
    pub caller: Value,
    /// The callee's.
    pub callee: Value,
    /// What both said on standard error.
    pub said: String,
}

impl<'a> Talk<'a> {
    /// A call of five seconds through one supernode.
    #[must_use]
    pub fn new(folder: &'a Path, name: &str, from: &'a Host, to: &'a Host, via: &'a str) -> Self {
        Self {
            name: name.to_owned(),
            folder,
            from,
            to,
            via: [via, via],
            seconds: 5,
            caller: &[],
            callee: &["--auto"],
        }
    }

    /// Starts both; returns when the caller dials.
    ///
    /// # Panics
    /// When the callee does not get ready.
    #[must_use]
    pub fn begin(&self) -> Talking {
        let folder = self.folder.join(&self.name);
        std::fs::create_dir_all(&folder).expect("a temporary folder takes folders");
        let (bob_home, bob_report) = (folder.join("bob"), folder.join("bob.json"));
        let report = bob_report.display().to_string();
        let answer = ["answer", "--once", "--via", self.via[1]];
        let answer = answer.into_iter().chain(["--audio-in", "tone"]);
        let answer = answer.chain(["--report", &report]);
        let bob = self
            .to
            .start(&bob_home, &log(), answer.chain(self.callee.iter().copied()));
        let link = bob.first_line();
        let seconds = self.seconds.to_string();
        let call = ["call", &link, "--for", &seconds, "--json"];
        let call = call.into_iter().chain(["--via", self.via[0]]);
        let call = call.chain(["--audio-in", "tone"]);
        let alice = self.from.start(
            &folder.join("alice"),
            &log(),
            call.chain(self.caller.iter().copied()),
        );
        Talking {
            alice,
            bob,
            bob_home,
            bob_report,
            patience: PATIENCE + Duration::from_secs(self.seconds.into()),
        }
    }

    /// The whole call.
    ///
    /// # Panics
    /// When a process does not get ready or does not end.
    #[must_use]
    pub fn run(&self) -> Talked {
        self.begin().end()
    }
}

impl Talking {
    /// Waits for the end.
    ///
    /// # Panics
    /// When the caller does not end.
    #[must_use]
    pub fn end(self) -> Talked {
        let alice = self.alice.finish_within(self.patience);
        let caller = serde_json::from_str(&alice.stdout).unwrap_or(Value::Null);
        // Somebody who was never reached waits on.
        let bob = if caller.is_null() || caller["outcome"] == "unreachable" {
            self.bob.kill()
        } else {
            self.bob.finish_within(PATIENCE).stderr
        };
        let callee = std::fs::read_to_string(&self.bob_report).unwrap_or_default();
        let callee = serde_json::from_str(&callee).unwrap_or(Value::Null);
        let said = format!("alice:\n{}\nbob:\n{bob}\n", alice.stderr);
        Talked {
            caller,
            callee,
            said,
        }
    }
}

impl Talked {
    /// Both say that it was a whole call.
    #[must_use]
    pub fn completed(&self) -> bool {
        self.caller["outcome"] == "completed" && self.callee["outcome"] == "completed"
    }

    /// What carried sound at the end, as the caller and the callee tell it.
    #[must_use]
    pub fn paths(&self) -> [&str; 2] {
        [&self.caller, &self.callee].map(last_path)
    }

    /// Audio packets that the caller and the callee received, and that they missed.
    #[must_use]
    pub fn packets(&self) -> [(u64, u64); 2] {
        [&self.caller, &self.callee].map(|report| {
            let packets = &audio(report)["packets"];
            let count = |name: &str| packets[name].as_u64().unwrap_or_default();
            (count("received"), count("lost"))
        })
    }

    /// The longest silence that the caller and the callee heard.
    #[must_use]
    pub fn gaps(&self) -> [Duration; 2] {
        [&self.caller, &self.callee].map(|report| {
            let millis = audio(report)["longest_gap_ms"].as_u64();
            millis.map_or(Duration::MAX, Duration::from_millis)
        })
    }

    /// How long after placing the call its first sound went directly, by the caller's report.
    #[must_use]
    pub fn direct_after(&self) -> Option<Duration> {
        let paths = self.caller["paths"].as_array()?;
        let direct = paths.iter().find(|path| is_direct(&path["kind"]))?;
        direct["at_ms"].as_u64().map(Duration::from_millis)
    }
}

impl fmt::Display for Talked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(alice, alice_lost), (bob, bob_lost)] = self.packets();
        let gaps = self.gaps().map(|gap| gap.as_millis());
        write!(
            f,
            "{} {:?} received {alice}/{bob} lost {alice_lost}/{bob_lost} longest gap {gaps:?} ms direct after {:?}",
            self.caller["outcome"],
            self.paths(),
            self.direct_after()
        )
    }
}

fn audio(report: &Value) -> &Value {
    &report["participants"][0]["audio"]
}

fn is_direct(kind: &Value) -> bool {
    kind == "direct" || kind == "lan"
}

fn last_path(report: &Value) -> &str {
    let switched = report["network"]["switches"].as_array();
    let switched = switched.and_then(|switches| switches.last()?["to"].as_str());
    let begun = report["paths"].as_array();
    let begun = begun.and_then(|paths| paths.last()?["kind"].as_str());
    switched.or(begun).unwrap_or("none")
}
