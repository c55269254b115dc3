//! The program as people and scripts use it: supernode, answerer and caller are processes of their own that know
//! each other by the links they print.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ahoy_media::audio::{
    align::{align, score},
    wav::read_all,
};
use ahoy_tests::household::Household;
use ahoy_tests::process::{Finished, binary, run, speech, start, start_with};
use serde_json::Value;

/// Samples in a second.
const RATE: usize = 48_000;
/// Measured: 4.1 alone, less on a busy machine, where the first third of a second may be lost. What
/// somebody else said stays below [`OTHER`].
const GOOD: f64 = 3.0;
const OTHER: f64 = 2.5;
/// A call without a window needs no more memory; it counts the pages of the program, and that of a development build holds window and
/// pictures, too.
const HEADLESS_BYTES: u64 = 64_000_000;

fn said() -> String {
    speech().display().to_string()
}

/// How well a recording matches the first `seconds` of the clip.
fn heard(recording: &Path, seconds: usize) -> f64 {
    let clip = read_all(speech()).expect("the clip can be read");
    let recorded = read_all(recording).expect("the recording can be read");
    score(&clip[..seconds * RATE], &recorded, RATE).expect("the clip is not silent")
}

fn audio(report: &Value) -> &Value {
    &report["participants"][0]["audio"]
}

fn kinds(report: &Value) -> Vec<&str> {
    let paths = report["paths"].as_array().expect("there were paths");
    paths
        .iter()
        .filter_map(|path| path["kind"].as_str())
        .collect()
}

/// A call of six seconds between two processes; what both report.
fn six_seconds(world: &Household, options: &[&str]) -> (Finished, Value) {
    let clip = said();
    let (heard_by_bob, heard_by_alice) = (world.text("bob.wav"), world.text("alice.wav"));
    let (bob_report, alice_report) = (world.text("bob.json"), world.text("alice.json"));
    let (bob, link) = world.answer(
        "bob",
        &[
            "--auto",
            "--once",
            "--audio-in",
            &clip,
            "--audio-out",
            &heard_by_bob,
            "--report",
            &bob_report,
        ],
    );
    let common = [
        "--for",
        "6",
        "--json",
        "--audio-in",
        &clip,
        "--audio-out",
        &heard_by_alice,
        "--report",
        &alice_report,
    ];
    let options: Vec<&str> = common.iter().chain(options).copied().collect();
    let alice = world.call("alice", &link, &options).finish().expect_code(0);
    let bob = bob.finish().expect_code(0);
    assert_eq!(bob.stdout, format!("{link}\n"), "one link and nothing else");

    let report = alice.json();
    assert_eq!(report, world.report("alice.json"));
    assert_eq!(report["schema"], 1);
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_eq!(report["security"]["post_quantum"], true);
    assert_eq!(audio(&report)["packets"]["lost"], 0, "{report:#}");
    assert!(
        audio(&report)["packets"]["received"].as_u64() > Some(250),
        "{report:#}"
    );
    assert!(!kinds(&report).is_empty(), "{report:#}");
    // What each says of itself, the other heard.
    assert!(
        report["remote"]["participants"][0]["audio"]["packets"]["received"].as_u64() > Some(200)
    );
    let theirs = world.report("bob.json");
    assert_eq!(theirs["outcome"], "completed");
    for report in [&report, &theirs] {
        let peak = report["cost"]["peak_rss_bytes"].as_u64();
        assert!(peak.is_some_and(|peak| peak < HEADLESS_BYTES), "{report:#}");
        assert!(
            report["cost"]["cpu_ms_per_call_second"].as_f64() > Some(0.0),
            "{report:#}"
        );
    }
    assert_eq!(
        theirs["security"]["safety_words"],
        report["security"]["safety_words"]
    );
    assert_eq!(
        report["security"]["safety_words"].as_array().map(Vec::len),
        Some(6)
    );

    for recording in ["alice.wav", "bob.wav"] {
        let score = heard(&world.path(recording), 5);
        eprintln!("{recording}: {score:.2}");
        assert!(score > GOOD, "{recording}: {score}");
        let clip = read_all(speech()).expect("the clip can be read");
        let recorded = read_all(world.path(recording)).expect("the recording can be read");
        let other = ahoy_media::audio::align::score(&clip[8 * RATE..13 * RATE], &recorded, RATE);
        assert!(
            other < Some(OTHER),
            "{recording} beside other words: {other:?}"
        );
    }
    (alice, report)
}

/// One scene at a time: each is several processes that speak in real time, and two together starve each other on
/// a small machine.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn two_processes_talk_by_a_printed_link() {
    let _alone = alone();
    let mut world = Household::new();
    let (alice, report) = six_seconds(&world, &[]);
    assert!(kinds(&report).contains(&"direct"), "{report:#}");
    // A handful of sentences, none of them for machines, no colours: it is no terminal.
    let lines: Vec<&str> = alice.stderr.lines().collect();
    assert!((3..=6).contains(&lines.len()), "{}", alice.stderr);
    assert!(!alice.stderr.contains('\u{1b}'), "{}", alice.stderr);
    assert!(!alice.stderr.contains("Id("), "{}", alice.stderr);
    let supernode = world.take_supernode();
    assert_eq!(supernode.stdout_lines().join("\n"), world.node);
}

#[cfg(unix)]
#[test]
fn relay_only_stays_on_the_relay() {
    let _alone = alone();
    let mut world = Household::new();
    let (_alice, report) = six_seconds(&world, &["--path", "relay"]);
    assert!(
        kinds(&report).iter().all(|kind| *kind == "relay"),
        "{report:#}"
    );
    let place = world.node.rsplit_once('@').map(|(_key, place)| place);
    assert_eq!(report["paths"][0]["remote"].as_str(), place);
    let supernode = world.take_supernode();
    supernode.interrupt();
    let told = supernode.finish().expect_code(0).stderr;
    let relayed: u64 = told
        .lines()
        .find_map(|line| {
            line.strip_prefix("relayed ")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or_else(|| panic!("the supernode says nothing of what it relayed: {told}"));
    // Fifty packets a second each way.
    assert!(relayed > 500, "{told}");
}

#[test]
fn a_call_that_cannot_be_says_why_and_ends_with_its_code() {
    let _alone = alone();
    let mut world = Household::new();
    let home = world.path("caller");
    let call = |link: &str, options: &[&str]| run(&home, ["call", link].iter().chain(options));
    let (bob, link) = world.answer("bob", &["--auto", "--audio-in", "silence"]);

    let me = world.run("stranger", &["id", "show"]).expect_code(0);
    let (_key, homes) = link.split_once('?').expect("a link with its home");
    let nobody = format!("{}?{homes}", me.stdout.trim());
    let report = world.text("nobody.json");
    let failed = call(&nobody, &["--report", &report])
        .expect_code(3)
        .expect_stderr("not online");
    assert_eq!(failed.stdout, "");
    assert_eq!(world.report("nobody.json")["outcome"], "unreachable");

    let malformed = link.replacen("ahoy:", "ahoy:x", 1);
    call(&malformed, &[])
        .expect_code(2)
        .expect_stderr("was the link cut off?");
    call(&world.node, &[])
        .expect_code(2)
        .expect_stderr("supernode");
    call("Nobody", &[]).expect_code(2).expect_stderr("Nobody");
    let missing = call(&link, &["--audio-in", "missing.wav"]).expect_code(2);
    missing.expect_stderr("there is no sound file missing.wav");
    call(&link, &["--report", "/nowhere/report.json"])
        .expect_code(2)
        .expect_stderr("--report");
    run(&home, ["call"]).expect_code(2);

    // A file that is there and holds no sound is the media's fault.
    let broken = world.text("broken.wav");
    std::fs::write(&broken, "no sound").expect("a file can be written");
    call(&link, &["--audio-in", &broken, "--for", "1"])
        .expect_code(5)
        .expect_stderr("broken.wav");

    let blocked = run(&home, ["id", "show"]).expect_code(0).stdout;
    let (carol, carols_link) = {
        world
            .run("carol", &["contact", "block", blocked.trim()])
            .expect_code(0);
        world.answer("carol", &["--auto", "--audio-in", "silence"])
    };
    // Being blocked looks like not being answered.
    call(&carols_link, &["--timeout", "1"]).expect_code(6);
    drop(carol);

    #[cfg(unix)]
    {
        bob.interrupt();
        bob.finish().expect_code(0);
        call(&link, &[]).expect_code(3).expect_stderr("not online");
    }
    // Nobody serves at that address any more.
    drop(world.take_supernode());
    call(&link, &[])
        .expect_code(3)
        .expect_stderr("No supernode");
}

#[test]
fn one_profile_serves_one_process_and_shows_its_link_meanwhile() {
    let _alone = alone();
    let world = Household::new();
    let (_bob, link) = world.answer("bob", &["--auto", "--audio-in", "silence"]);
    let home = world.path("bob");
    let shown = run(&home, ["id", "show"]).expect_code(0).stdout;
    assert!(
        link.starts_with(shown.trim()),
        "{shown} is not the beginning of {link}"
    );
    let second = run(
        &home,
        [
            "answer",
            "--auto",
            "--via",
            &world.node,
            "--audio-in",
            "silence",
        ],
    );
    second.expect_code(1).expect_stderr("already running");
}

#[test]
fn a_second_caller_hears_that_the_person_is_busy() {
    let _alone = alone();
    let world = Household::new();
    let (bob, link) = world.answer("bob", &["--auto", "--audio-in", "tone"]);
    let first = world.call("alice", &link, &["--for", "600", "--audio-in", "tone"]);
    first.wait_stderr("sound from the other side");
    let second = run(
        &world.path("carol"),
        ["call", &link, "--audio-in", "silence"],
    );
    second.expect_code(1).expect_stderr("is in another call");
    drop((first, bob));
}

#[cfg(target_os = "linux")]
#[test]
fn ctl_answers_a_second_call_and_switches_between_the_two() {
    use ahoy_tests::{process::PATIENCE, sound_server::wait_until};

    let _alone = alone();
    let world = Household::new();
    let bob_home = world.path("bob");
    let ctl = |arguments: &[&str]| run(&bob_home, ["ctl"].iter().chain(arguments));
    for name in ["alice", "carol"] {
        let link = run(&world.path(name), ["id", "show"]).expect_code(0).stdout;
        run(&bob_home, ["contact", "add", link.trim(), "--name", name]).expect_code(0);
    }
    let (bob, link) = world.answer("bob", &["--audio-in", "tone", "--audio-out", "null"]);
    let quiet = ["--audio-in", "tone", "--audio-out", "null"];
    let wait = |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        wait_until(what, PATIENCE, || wanted(&ctl(&["status"]).json()));
    };
    let alice = world.call("alice", &link, &quiet);
    bob.wait_stderr("calls: ahoy ctl accept, or ahoy ctl decline");
    ctl(&["switch"])
        .expect_code(1)
        .expect_stderr("no other call");
    ctl(&["ignore"])
        .expect_code(1)
        .expect_stderr("no call waits");
    ctl(&["accept"]).expect_code(0);
    wait("the first call", &|status| {
        status["call"]["state"] == "talking"
    });
    let carol = world.call("carol", &link, &quiet);
    bob.wait_stderr("calls, too: ahoy ctl accept");
    ctl(&["ignore"]).expect_code(0);
    let status = ctl(&["status"]).json();
    assert_eq!(status["other"]["name"], "carol");
    assert_eq!(status["other"]["state"], "ignored");
    ctl(&["accept"]).expect_code(0);
    let status = ctl(&["status"]).json();
    assert_eq!(status["call"]["name"], "carol");
    assert_eq!(status["other"]["name"], "alice");
    assert_eq!(status["other"]["state"], "on_hold");
    ctl(&["switch"]).expect_code(0);
    let status = ctl(&["status"]).json();
    assert_eq!(status["call"]["name"], "alice");
    assert_eq!(status["call"]["held"], false);
    assert_eq!(status["other"]["name"], "carol");
    ctl(&["hangup"]).expect_code(0);
    alice.finish().expect_code(0);
    wait("the other call", &|status| {
        status["call"]["name"] == "carol"
    });
    assert_eq!(ctl(&["status"]).json()["call"]["held"], true);
    ctl(&["hangup"]).expect_code(0);
    carol.finish().expect_code(0);
}

#[test]
fn the_echo_test_answers_where_there_is_no_network_and_plays_back_what_it_hears() {
    let _alone = alone();
    let world = Household::new();
    let heard = world.text("heard.wav");
    // Nothing but the loopback, where that can be had.
    let alone = "ip link set lo up && exec \"$0\" \"$@\"";
    let inside = ["--map-root-user", "--net", "sh", "-c", alone];
    let is_possible = std::process::Command::new("unshare")
        .args(inside)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success());
    let mut command = if is_possible {
        let mut command = std::process::Command::new("unshare");
        command.args(inside).arg(binary());
        command
    } else {
        eprintln!("no namespace of its own: the network is there");
        std::process::Command::new(binary())
    };
    let talk = [
        "echo",
        "--for",
        "10",
        "--json",
        "--audio-in",
        "tone",
        "--audio-out",
        &heard,
    ];
    let home = world.path("alice");
    command.arg("--home").arg(&home).args(talk);
    let done = command.output().expect("ahoy runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&done.stdout).expect("a report");
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_eq!(report["security"]["post_quantum"], true);

    let heard = read_all(&heard).expect("what was heard");
    let clip = read_all(speech()).expect("the clip");
    let greeting = score(&clip[..4 * RATE], &heard[..6 * RATE], RATE).expect("no silence");
    assert!(greeting > 3.0, "{greeting}");
    // Of the tone nothing comes back before the sentence is over and three seconds have passed.
    let hum = |from: usize, to: usize| {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (at, sample) in heard[from * RATE..to * RATE].iter().enumerate() {
            let phase = std::f64::consts::TAU * 440.0 * at as f64 / RATE as f64;
            sine += f64::from(*sample) * phase.sin();
            cosine += f64::from(*sample) * phase.cos();
        }
        (sine.hypot(cosine)) / ((to - from) * RATE) as f64
    };
    assert!(hum(5, 7) < 0.005, "{}", hum(5, 7));
    assert!(hum(8, 10) > 0.05, "{}", hum(8, 10));
}

#[cfg(unix)]
#[test]
fn ctl_steers_a_running_answer() {
    let _alone = alone();
    let world = Household::new();
    let alices = world.run("alice", &["id", "show"]).expect_code(0).stdout;
    let bob_home = world.path("bob");
    let ctl = |arguments: &[&str]| run(&bob_home, ["ctl"].iter().chain(arguments));
    ctl(&["status"]).expect_code(1).expect_stderr("not running");
    run(
        &bob_home,
        ["contact", "add", alices.trim(), "--name", "Alice"],
    )
    .expect_code(0);
    let (bob, link) = world.answer("bob", &["--audio-in", "tone"]);
    let events = start(&bob_home, ["ctl", "events"]);
    let mut first_event = std::process::Command::new("bash")
        .args([
            "-c",
            "set -o pipefail; \"$0\" --home \"$1\" ctl events | head -n 1",
        ])
        .arg(binary())
        .arg(&bob_home)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("bash runs");

    let idle = ctl(&["status"]).expect_code(0).json();
    assert_eq!(idle["link"], link.as_str());
    assert_eq!(idle["homes"][0]["registered"], true);
    assert!(idle["call"].is_null(), "{idle:#}");
    ctl(&["accept"]).expect_code(1).expect_stderr("no call");
    ctl(&["hangup"]).expect_code(1).expect_stderr("no call");

    // Declined.
    let alice = world.call("alice", &link, &["--audio-in", "tone"]);
    bob.wait_stderr("calls: ahoy ctl accept, or ahoy ctl decline");
    assert_eq!(ctl(&["status"]).json()["call"]["state"], "ringing_here");
    ctl(&["decline"]).expect_code(0);
    alice.finish().expect_code(1).expect_stderr("declined");

    // Nobody answers in time.
    let alice = world.call("alice", &link, &["--audio-in", "tone", "--timeout", "1"]);
    alice.finish().expect_code(6);
    while !ctl(&["status"]).json()["call"].is_null() {
        // Her cancel is on its way; else its ringing ends by itself.
    }

    // Accepted, muted, hung up.
    let alice = world.call("alice", &link, &["--audio-in", "tone", "--json"]);
    while ctl(&["accept"]).code != Some(0) {
        // The call before is just being taken off the screen.
        assert!(
            !alice.stderr_so_far().contains("error"),
            "{}",
            alice.stderr_so_far()
        );
    }
    alice.wait_stderr("sound from the other side");
    while ctl(&["status"]).json()["call"]["state"] != "talking" {
        // She may hear him before he hears her.
        assert!(
            !alice.stderr_so_far().contains("hung up"),
            "{}",
            alice.stderr_so_far()
        );
    }
    ctl(&["mute"]).expect_code(0);
    let talking = ctl(&["status"]).expect_code(0).json();
    assert_eq!(talking["call"]["muted"], true, "{talking:#}");
    assert_eq!(talking["call"]["name"], "Alice", "{talking:#}");
    ctl(&["unmute"]).expect_code(0);
    assert_eq!(ctl(&["status"]).json()["call"]["muted"], false);
    ctl(&["hangup"]).expect_code(0);
    let alice = alice.finish().expect_code(0).expect_stderr("hung up");
    assert_eq!(alice.json()["outcome"], "completed");

    events.wait_stdout("ringing_here");
    events.wait_stdout("\"completed\"");
    for line in events.stdout_lines() {
        serde_json::from_str::<Value>(&line).expect("each happening is a line of JSON");
    }
    bob.interrupt();
    bob.finish().expect_code(0);
    events.finish().expect_code(0);
    let first_event = first_event.wait().expect("it has a status");
    assert!(
        first_event.success(),
        "nobody reads on, and that is no error"
    );
}

#[cfg(unix)]
#[test]
fn a_supernode_that_is_killed_and_restarted_is_found_again_while_the_call_goes_on() {
    let _alone = alone();
    let mut world = Household::new();
    let (bob, link) = world.answer("bob", &["--auto", "--once", "--audio-in", "tone"]);
    let options = ["--via", &world.node, "--audio-in", "tone", "--json"];
    let alice = world.call("alice", &link, &options);
    alice.wait_stderr("sound from the other side");
    let place = world
        .node
        .rsplit_once('@')
        .expect("a node link has an address")
        .1
        .to_owned();
    world.take_supernode().kill();
    let node = world.node.clone();
    world.serve(&place, &[]);
    assert_eq!(world.node, node, "the same key at the same place");
    bob.wait_stderr("registered again");
    alice.wait_stderr("registered again");
    world.run("alice", &["ctl", "hangup"]).expect_code(0);
    let report = alice.finish().expect_code(0).json();
    assert_eq!(report["outcome"], "completed");
    let gap = audio(&report)["longest_gap_ms"].as_u64();
    assert!(gap < Some(300), "{report:#}");
    bob.finish().expect_code(0);
}

#[test]
fn a_profile_survives_being_killed_at_any_moment() {
    let _alone = alone();
    let world = Household::new();
    let home = world.path("bob");
    let link = run(&home, ["id", "show"]).expect_code(0).stdout;
    // Moments are told apart by how much has been said, not by a clock: any seed gives others.
    let mut state = std::process::id();
    for _ in 0..6 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let lines = 1 + usize::try_from(state >> 16).expect("it is small") % 200;
        let arguments = [
            "answer",
            "--auto",
            "--via",
            &world.node,
            "--audio-in",
            "silence",
        ];
        let bob = start_with(&home, "trace", arguments);
        bob.wait_stderr_lines(lines);
        bob.kill();
        let after = run(&home, ["id", "show"]).expect_code(0).stdout;
        assert_eq!(after, link, "killed after {lines} lines");
        run(&home, ["contact", "list"]).expect_code(0);
    }
}

#[test]
fn an_echo_answers_with_what_it_hears() {
    let _alone = alone();
    let world = Household::new();
    let (_echo, link) = world.answer("echo", &["--auto", "--echo"]);
    let (clip, recording) = (said(), world.text("echo.wav"));
    let options = ["--for", "5", "--audio-in", &clip, "--audio-out", &recording];
    world.call("alice", &link, &options).finish().expect_code(0);
    let clip = read_all(speech()).expect("the clip can be read");
    let recorded = read_all(&recording).expect("the recording can be read");
    let clip = &clip[..4 * RATE];
    let found = align(clip, &recorded, RATE).expect("what was said came back");
    let delay = found.delay_millis(0.5).expect("a delay");
    let score = score(clip, &recorded, RATE).expect("the clip is not silent");
    eprintln!("back after {delay:.0} ms, score {score:.2}");
    // Two jitter buffers and two codecs: 2.5 on a busy machine, 3.1 on an idle one.
    assert!((40.0..400.0).contains(&delay), "{delay}");
    assert!(score > 2.0, "{score}");
}

fn demo(options: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let out = folder.path().join("out").display().to_string();
    let arguments = ["demo", "--json", "--for", "4", "--out", &out];
    let report = run(folder.path(), arguments.iter().chain(options))
        .expect_code(0)
        .json();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["outcome"], "completed");
    assert_eq!(audio(&report)["packets"]["lost"], 0);
    assert!(
        audio(&report)["score"]["value"].as_f64() > Some(GOOD),
        "{report:#}"
    );
    assert!(
        audio(&report)["mouth_to_ear_ms"]["p50"].as_f64() < Some(120.0),
        "{report:#}"
    );
    assert!(
        report["cost"]["cpu_ms_per_call_second"].as_f64() > Some(0.0),
        "{report:#}"
    );
    // Two people and a supernode in one process.
    assert!(
        report["cost"]["peak_rss_bytes"]
            .as_u64()
            .is_some_and(|peak| peak < HEADLESS_BYTES),
        "{report:#}"
    );
    report
}

#[test]
fn the_demonstration_reports_a_good_call() {
    let _alone = alone();
    let report = demo(&[]);
    assert!(kinds(&report).contains(&"direct"), "{report:#}");
}

#[test]
fn the_demonstration_can_stay_on_the_relay() {
    let _alone = alone();
    let report = demo(&["--relay-only"]);
    assert!(
        kinds(&report).iter().all(|kind| *kind == "relay"),
        "{report:#}"
    );
}
