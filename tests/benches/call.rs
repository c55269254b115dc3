//! What a spoken call costs: a supernode, a person who answers and one who calls as processes of their own, twenty
//! seconds of speech both ways with codec and encryption over loopback, by the relay and directly.
//!
//! Processor time and memory are the system's (`/proc`), taken twice a second from outside; beside them stands what
//! each person's own report says of the same call, and the two must agree.
//!
//! `make bench-call`, or `AHOY_BIN=… cargo bench -p ahoy-tests --bench call`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench may panic and print, and measures real time"
)]

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ahoy_media::audio::{
    BLOCK_SAMPLES,
    sink::AudioSink as _,
    wav::{WavSink, read_all},
};
use ahoy_tests::process::{Running, speech, start};
use serde_json::Value;

/// How long they talk.
const TALK: Duration = Duration::from_secs(20);
/// Calls by each kind of path.
const ROUNDS: usize = 3;
/// Time between two looks at the counters.
const LOOK: Duration = Duration::from_millis(500);
/// Media begins and ends between two looks; what lies this close to either is left out.
const MARGIN: Duration = Duration::from_secs(1);
/// The whole scene, or something hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// A clock tick of `/proc/*/stat`, the same on every Linux.
const TICK_MILLIS: f64 = 10.0;
/// The report's processor time may differ this much from the system's: it includes the first and last second.
const AGREE: f64 = 0.25;
/// And its peak of memory this much: the report is written before the process ends.
const AGREE_RSS: f64 = 0.1;

/// One look at a process.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    cpu_millis: f64,
}

/// A process as the system sees it.
struct Watched {
    name: &'static str,
    process: Running,
    looks: Vec<Look>,
    peak_rss_bytes: u64,
    ended: Option<Instant>,
}

impl Watched {
    fn new(name: &'static str, process: Running) -> Self {
        Self {
            name,
            process,
            looks: Vec::new(),
            peak_rss_bytes: 0,
            ended: None,
        }
    }

    fn look(&mut self) {
        let folder = Path::new("/proc").join(self.process.id().to_string());
        let stat = fs::read_to_string(folder.join("stat")).unwrap();
        // The second field is the program's name in parentheses, and may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
        let at = Instant::now();
        self.looks.push(Look {
            at,
            cpu_millis: (ticks(12) + ticks(13)) * TICK_MILLIS,
        });
        // An ended process stays a zombie until it is waited for, and has no memory any more.
        if fields[1] == "Z" {
            self.ended.get_or_insert(at);
            return;
        }
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = peak.and_then(|peak| peak.trim().strip_suffix(" kB")) {
            self.peak_rss_bytes = kib.parse::<u64>().unwrap() * 1024;
        }
    }

    /// Processor time per second between two instants.
    fn cpu_per_second(&self, from: Instant, to: Instant) -> f64 {
        let within: Vec<&Look> = self
            .looks
            .iter()
            .filter(|look| (from..=to).contains(&look.at))
            .collect();
        let [first, .., last] = within.as_slice() else {
            panic!("{} was hardly seen", self.name);
        };
        (last.cpu_millis - first.cpu_millis) / (last.at - first.at).as_secs_f64()
    }
}

/// What one process cost in one call.
struct Cost {
    name: &'static str,
    cpu_millis_per_second: f64,
    peak_rss_bytes: u64,
    /// The same two, as its report says; a supernode writes none.
    reported: Option<(f64, u64)>,
}

fn call(folder: &Path, said: &str, path: &str) -> Vec<Cost> {
    let text = |name: &str| folder.join(name).display().to_string();
    let supernode = start(
        &folder.join("node"),
        ["supernode", "--listen", "127.0.0.1:0", "--print-link"],
    );
    let node = supernode.first_line();
    let (bob_heard, alice_heard) = (text("bob.wav"), text("alice.wav"));
    let (bob_report, alice_report) = (text("bob.json"), text("alice.json"));
    let common = ["--audio-in", said, "--path", path];
    let answer = ["answer", "--auto", "--once", "--via", &node]
        .into_iter()
        .chain(["--audio-out", &bob_heard, "--report", &bob_report])
        .chain(common);
    let bob = start(&folder.join("bob"), answer);
    let link = bob.first_line();
    let seconds = TALK.as_secs().to_string();
    let caller = ["call", &link, "--for", &seconds]
        .into_iter()
        .chain(["--audio-out", &alice_heard, "--report", &alice_report])
        .chain(common);
    let alice = start(&folder.join("alice"), caller);

    let began = Instant::now();
    let mut processes = [
        Watched::new("supernode", supernode),
        Watched::new("callee", bob),
        Watched::new("caller", alice),
    ];
    while processes[1..].iter().any(|person| person.ended.is_none()) {
        assert!(began.elapsed() < LIMIT, "the call does not end");
        for process in &mut processes {
            process.look();
        }
        thread::sleep(LOOK);
    }

    let reports = [&bob_report, &alice_report].map(|file| -> Value {
        let text = fs::read_to_string(file).unwrap();
        serde_json::from_str(&text).unwrap()
    });
    for report in &reports {
        assert_eq!(report["outcome"], "completed", "{report:#}");
        let lost = &report["participants"][0]["audio"]["packets"]["lost"];
        assert_eq!(lost, 0, "{report:#}");
        let kinds = report["paths"].as_array().unwrap();
        let last = kinds.last().unwrap()["kind"].as_str().unwrap();
        assert_eq!(last == "relay", path == "relay", "{report:#}");
    }
    let ended = processes[2].ended.unwrap();
    let (from, to) = (ended - TALK + MARGIN, ended - MARGIN);
    let costs = processes.iter().enumerate().map(|(n, process)| Cost {
        name: process.name,
        cpu_millis_per_second: process.cpu_per_second(from, to),
        peak_rss_bytes: process.peak_rss_bytes,
        reported: n.checked_sub(1).map(|person| {
            let cost = &reports[person]["cost"];
            let cpu = cost["cpu_ms_per_call_second"].as_f64();
            (cpu.unwrap(), cost["peak_rss_bytes"].as_u64().unwrap())
        }),
    });
    costs.collect()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    // The clip is shorter than the call.
    let said = folder.path().join("said.wav");
    let clip = read_all(speech()).unwrap();
    let mut sink = WavSink::create(&said).unwrap();
    for block in clip.repeat(2).chunks_exact(BLOCK_SAMPLES) {
        sink.write_block(block.try_into().unwrap()).unwrap();
    }
    sink.finish().unwrap();
    let said = said.display().to_string();

    println!("path    process     CPU ms per call second (its report)   peak MiB (its report)");
    for path in ["relay", "auto"] {
        for round in 0..ROUNDS {
            let scene = folder.path().join(format!("{path}{round}"));
            fs::create_dir(&scene).unwrap();
            for cost in call(&scene, &said, path) {
                let way = if path == "relay" { "relay" } else { "direct" };
                print!(
                    "{way:6}  {:9}  {:7.1}",
                    cost.name, cost.cpu_millis_per_second
                );
                let Some((cpu, peak)) = cost.reported else {
                    println!("{:33}{:6.1}", "", mebibytes(cost.peak_rss_bytes));
                    continue;
                };
                println!(
                    " ({cpu:.1}){:24}{:6.1} ({:.1})",
                    "",
                    mebibytes(cost.peak_rss_bytes),
                    mebibytes(peak)
                );
                let ratio = cpu / cost.cpu_millis_per_second;
                assert!((ratio - 1.0).abs() < AGREE, "the report of CPU is wrong");
                let ratio = peak as f64 / cost.peak_rss_bytes as f64;
                assert!(
                    (ratio - 1.0).abs() < AGREE_RSS,
                    "the report of memory is wrong"
                );
            }
        }
    }
}
