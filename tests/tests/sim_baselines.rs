//! What a call comes to over every profile of `ahoy sim`, against what it came to when the baselines were taken.
//!
//! The figures stand in `tests/baselines/sim/`, one file a profile, so that a change that makes calls worse shows
//! as a failure, and one that is meant to shows as a difference for a person to read. `make baselines` renews them.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{collections::BTreeMap, fs, path::PathBuf, thread};

use ahoy::{
    cli::{Cli, Command, LinkProfile, SimPlan},
    headless::sim::{Simulated, simulate},
    report::Outcome,
};
use clap::Parser as _;
use serde_json::{Value, json};

/// Set to anything, it makes the tests write what they would compare with.
const RENEW: &str = "AHOY_RENEW_BASELINES";
/// One call says little about a lossy link: each figure is the mean over these.
const SEEDS: [u64; 4] = [1, 2, 3, 4];
/// The drop of capacity and what follows it fit.
const SECONDS: &str = "30";

/// Which way is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worse {
    Higher,
    Lower,
}

/// A figure that is watched: a name, which way is worse, and by how much it may become so. What is allowed is the
/// larger of the two, and there because any change of one packet changes which packets are lost after it.
struct Watched {
    name: &'static str,
    worse: Worse,
    by_share: f64,
    by: f64,
}

const fn higher(name: &'static str, by_share: f64, by: f64) -> Watched {
    Watched {
        name,
        worse: Worse::Higher,
        by_share,
        by,
    }
}

const WATCHED: [Watched; 12] = [
    Watched {
        name: "packets_received",
        worse: Worse::Lower,
        by_share: 0.02,
        by: 10.0,
    },
    // Of some 1500 packets. Bursts make losses differ by a third between seeds.
    higher("packets_lost", 0.35, 6.0),
    higher("concealed_ms", 0.35, 120.0),
    higher("mouth_to_ear_p50_ms", 0.10, 6.0),
    higher("mouth_to_ear_p95_ms", 0.15, 12.0),
    // The worst of all seeds.
    higher("longest_gap_ms", 0.40, 60.0),
    higher("switches", 0.50, 1.0),
    higher("bytes_sent", 0.10, 0.0),
    higher("bytes_received", 0.15, 0.0),
    higher("connect_ms", 0.15, 15.0),
    higher("ring_ms", 0.15, 15.0),
    higher("accept_to_first_audio_ms", 0.15, 20.0),
];

fn command(profile: LinkProfile, seed: u64) -> Vec<String> {
    let profile = profile.as_str();
    let seed = seed.to_string();
    [
        "--profile",
        profile,
        "--for",
        SECONDS,
        "--codec",
        "none",
        "--seed",
        &seed,
    ]
    .map(String::from)
    .to_vec()
}

fn plan(flags: &[String]) -> SimPlan {
    let line = ["ahoy", "sim"]
        .into_iter()
        .chain(flags.iter().map(String::as_str));
    let Some(Command::Sim(arguments)) = Cli::try_parse_from(line).unwrap().command else {
        panic!("another command than sim");
    };
    arguments.plan().unwrap()
}

/// The figures of one call.
fn figures(simulated: &Simulated) -> BTreeMap<&'static str, f64> {
    let report = &simulated.report;
    assert_eq!(report.outcome, Outcome::Completed, "{}", report.to_json());
    let audio = report.participants[0].audio.as_ref().unwrap();
    let ear = audio.mouth_to_ear_ms.unwrap();
    let network = report.network.as_ref().unwrap();
    BTreeMap::from([
        ("packets_received", audio.packets.received.unwrap() as f64),
        ("packets_lost", audio.packets.lost.unwrap() as f64),
        ("concealed_ms", audio.concealed_ms.unwrap() as f64),
        ("mouth_to_ear_p50_ms", ear.p50),
        ("mouth_to_ear_p95_ms", ear.p95),
        ("longest_gap_ms", audio.longest_gap_ms.unwrap() as f64),
        ("switches", network.switches.len() as f64),
        ("bytes_sent", simulated.wire.sent_bytes as f64),
        ("bytes_received", simulated.wire.received_bytes as f64),
        ("connect_ms", report.setup.connect_ms.unwrap()),
        ("ring_ms", report.setup.ring_ms.unwrap()),
        (
            "accept_to_first_audio_ms",
            report.setup.accept_to_first_audio_ms.unwrap(),
        ),
    ])
}

/// The figures of a profile: means over all seeds, but of gaps the longest.
fn measure(profile: LinkProfile) -> BTreeMap<&'static str, f64> {
    let calls = SEEDS.map(|seed| {
        let run = move || figures(&simulate(&plan(&command(profile, seed)), |_line| {}).unwrap());
        thread::Builder::new()
            .name(format!("seed {seed}"))
            .spawn(run)
            .unwrap()
    });
    let calls = calls.map(|call| call.join().unwrap());
    let names = WATCHED.iter().map(|watched| watched.name);
    names
        .map(|name| {
            let each = calls.iter().map(|figures| figures[name]);
            let figure = if name == "longest_gap_ms" {
                each.fold(0.0, f64::max)
            } else {
                each.sum::<f64>() / SEEDS.len() as f64
            };
            (name, (figure * 10.0).round() / 10.0)
        })
        .collect()
}

fn file(profile: LinkProfile) -> PathBuf {
    let name = format!("{}.json", profile.as_str());
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("baselines/sim")
        .join(name)
}

fn write(profile: LinkProfile, figures: &BTreeMap<&'static str, f64>) {
    let command = command(profile, 0)
        .join(" ")
        .replace("--seed 0", "--seed N");
    let all = json!({
        "command": format!("ahoy sim {command}, the mean over N = {SEEDS:?}, of longest_gap_ms the longest"),
        "figures": figures,
    });
    let path = file(profile);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    fs::write(path, text).unwrap();
}

/// What has become worse than allowed, a sentence each.
fn complaints(profile: &str, now: &BTreeMap<&'static str, f64>, baseline: &Value) -> Vec<String> {
    let judge = |watched: &Watched| {
        let is = now[watched.name];
        let Some(was) = baseline["figures"][watched.name].as_f64() else {
            return Some(format!(
                "{profile}: {} is not in the baseline",
                watched.name
            ));
        };
        let slack = (was * watched.by_share).max(watched.by);
        let (limit, holds) = match watched.worse {
            Worse::Higher => (was + slack, is <= was + slack),
            Worse::Lower => (was - slack, is >= was - slack),
        };
        (!holds).then(|| {
            format!(
                "{profile}: {} is {is}, was {was}, and may be {limit:.1}",
                watched.name
            )
        })
    };
    WATCHED.iter().filter_map(judge).collect()
}

fn compare(profile: LinkProfile) {
    let now = measure(profile);
    eprintln!("{}: {now:?}", profile.as_str());
    if std::env::var_os(RENEW).is_some() {
        return write(profile, &now);
    }
    let path = file(profile);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let baseline = serde_json::from_str(&text).unwrap_or(Value::Null);
    let complaints = complaints(profile.as_str(), &now, &baseline);
    assert!(
        complaints.is_empty(),
        "calls became worse than {} allows:\n  {}\nFind out why; if it is meant, renew the figures with `make \
         baselines` and say why in the commit.",
        path.display(),
        complaints.join("\n  ")
    );
}

#[test]
fn a_clean_line_is_as_good_as_it_was() {
    compare(LinkProfile::Clean);
}

#[test]
fn wifi_is_as_good_as_it_was() {
    compare(LinkProfile::Wifi);
}

#[test]
fn lte_is_as_good_as_it_was() {
    compare(LinkProfile::Lte);
}

#[test]
fn international_is_as_good_as_it_was() {
    compare(LinkProfile::International);
}

#[test]
fn burst20_is_as_good_as_it_was() {
    compare(LinkProfile::Burst20);
}

#[test]
fn bufferbloat_is_as_good_as_it_was() {
    compare(LinkProfile::Bufferbloat);
}

#[test]
fn a_drop_of_capacity_is_as_bad_as_it_was_and_no_worse() {
    compare(LinkProfile::CapacityDrop);
}

#[test]
fn satellite_is_as_good_as_it_was() {
    compare(LinkProfile::Satellite);
}

#[test]
fn every_profile_has_a_baseline() {
    if std::env::var_os(RENEW).is_some() {
        return;
    }
    for profile in LinkProfile::ALL {
        assert!(file(profile).is_file(), "{profile:?}: run `make baselines`");
    }
}

#[test]
fn what_is_worse_is_told_and_what_is_better_is_not() {
    let figures = |factor: f64| -> BTreeMap<&'static str, f64> {
        let figures = WATCHED.iter();
        figures
            .map(|watched| (watched.name, 1000.0 * factor))
            .collect()
    };
    let baseline = json!({ "figures": figures(1.0) });
    assert_eq!(complaints("lte", &figures(1.0), &baseline), [""; 0]);
    let told = complaints("lte", &figures(1.6), &baseline);
    assert_eq!(told.len(), WATCHED.len() - 1, "{told:?}");
    assert!(
        told[0].contains("lte: packets_lost is 1600, was 1000, and may be 1350"),
        "{told:?}"
    );
    let told = complaints("lte", &figures(0.5), &baseline);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("packets_received is 500"), "{told:?}");
    assert_eq!(
        complaints("lte", &figures(1.0), &Value::Null).len(),
        WATCHED.len()
    );
}
