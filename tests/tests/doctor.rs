//! `ahoy doctor` as people and scripts run it.

use std::path::Path;

use ahoy_tests::process::{Finished, Running, run, start};
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// A profile with these homes.
fn profile(home: &Path, links: &[&str]) {
    std::fs::create_dir_all(home).expect("the temporary folder is ours");
    let list: Vec<String> = links.iter().map(|link| format!("{link:?}")).collect();
    let settings = format!("homes = [{}]\n", list.join(", "));
    std::fs::write(home.join("settings.toml"), settings).expect("the temporary folder is ours");
}

fn supernode(home: &Path, listen: &str) -> (Running, String) {
    let running = start(home, ["supernode", "--listen", listen, "--print-link"]);
    let link = running.first_line();
    (running, link)
}

fn finding<'a>(report: &'a Value, what: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("findings are a list");
    findings
        .iter()
        .find(|finding| finding["what"] == what)
        .unwrap_or_else(|| panic!("nothing was found about {what}: {report:#}"))
}

/// What holds of every report, and of every way to end.
fn sound(finished: &Finished) -> Value {
    let report = finished.json();
    assert_eq!(report["schema"], 1);
    let findings = report["findings"].as_array().expect("findings are a list");
    let fails = findings
        .iter()
        .filter(|finding| finding["standing"] == "fail");
    let mut failed = 0;
    for fail in fails {
        failed += 1;
        assert!(
            fail["meaning"].is_string() && fail["advice"].is_string(),
            "{fail:#}"
        );
    }
    assert_eq!(report["ok"], failed == 0);
    assert_eq!(finished.code, Some(i32::from(failed > 0)), "{report:#}");
    assert!(report["verdict"].is_string());
    report
}

/// Plain text in columns, whose lines fit a terminal.
fn text(finished: &Finished) -> &str {
    let text = finished.stdout.as_str();
    assert!(!text.contains('\x1b'), "colours are for terminals:\n{text}");
    for line in text.lines().filter(|line| !line.contains("://")) {
        assert!(line.chars().count() <= 80, "too long: {line}");
    }
    text
}

#[test]
fn a_supernode_that_answers_is_measured_and_told_of() {
    let folder = folder();
    let home = folder.path().join("me");
    let (_first, one) = supernode(&folder.path().join("one"), "127.0.0.1:0");
    let (_second, two) = supernode(&folder.path().join("two"), "127.0.0.1:0");
    profile(&home, &[&one, &two]);
    let report = sound(&run(&home, ["doctor", "--json"]));
    for supernode in report["supernodes"].as_array().expect("two") {
        assert_eq!(supernode["reached_by_udp"], true);
        assert_eq!(supernode["relays"], true);
        let rtt = supernode["rtt_ms"].as_f64().expect("it was measured");
        assert!(rtt < 1000.0, "{rtt} ms on one machine");
        let offset = supernode["clock_offset_ms"].as_i64().expect("it was told");
        assert!(offset.abs() < 1000, "{offset} ms on one machine");
    }
    assert_eq!(finding(&report, "clock")["standing"], "ok");
    assert_eq!(finding(&report, "UDP")["standing"], "ok");
    let nat = &report["nat_v4"];
    assert_eq!(nat["translated"], false);
    assert_eq!(nat["inside"], true);
    assert_eq!(nat["mapping_by_port"], false);
    assert_eq!(nat["filtering_by_port"], false);
    assert_eq!(nat["supernodes_asked"], 2);
    // The person's own identity was not made by looking.
    assert_eq!(finding(&report, "identity")["found"], "none yet");

    let shown = run(&home, ["doctor"]);
    let shown = text(&shown);
    for title in ["You\n", "Sound\n", "Network\n", "Supernodes\n"] {
        assert!(shown.contains(title), "{shown}");
    }
    assert!(shown.contains("answers by UDP in"), "{shown}");
}

#[test]
fn without_a_supernode_it_says_what_to_do() {
    let folder = folder();
    let finished = run(folder.path(), ["doctor", "--json"]).expect_code(1);
    let report = sound(&finished);
    let none = finding(&report, "supernodes");
    assert_eq!(none["standing"], "fail");
    assert!(
        none["advice"]
            .as_str()
            .is_some_and(|advice| advice.contains("ahoy-node:"))
    );
    assert_eq!(finding(&report, "clock")["standing"], "unknown");
    assert!(report["nat_v4"].is_null());
    let finished = run(folder.path(), ["doctor"]).expect_code(1);
    assert!(
        text(&finished).contains("  FAIL   supernodes"),
        "{}",
        finished.stdout
    );
    finished.expect_stderr("keeps calls from working");
}

#[test]
fn a_supernode_that_is_gone_is_named_and_does_not_hide_the_others() {
    let folder = folder();
    let home = folder.path().join("me");
    let (gone, first) = supernode(&folder.path().join("one"), "127.0.0.1:0");
    let (_stays, second) = supernode(&folder.path().join("two"), "127.0.0.1:0");
    gone.kill();
    profile(&home, &[&first, &second]);
    let report = sound(&run(&home, ["doctor", "--json"]).expect_code(1));
    let reached = |n: usize| report["supernodes"][n]["reached_by_udp"].clone();
    assert_eq!((reached(0), reached(1)), (false.into(), true.into()));
    let name = report["supernodes"][0]["address"]
        .as_str()
        .expect("it has one");
    let fail = finding(&report, name);
    assert_eq!(fail["standing"], "fail");
    assert!(
        report["supernodes"][0]["rtt_ms"].is_null(),
        "absent, not zero"
    );
    let verdict = report["verdict"].as_str().expect("it has one");
    assert!(verdict.contains(name), "{verdict}");
}

#[test]
fn a_supernode_with_another_key_is_told_from_a_silent_one() {
    let folder = folder();
    let home = folder.path().join("me");
    let (_first, one) = supernode(&folder.path().join("one"), "127.0.0.1:0");
    let (_second, two) = supernode(&folder.path().join("two"), "127.0.0.1:0");
    // The key of the one, the place of the other.
    let (key, _) = one.split_once('@').expect("a link has a key and a place");
    let (_, place) = two.split_once('@').expect("a link has a key and a place");
    profile(&home, &[&format!("{key}@{place}")]);
    let report = sound(&run(&home, ["doctor", "--json"]).expect_code(1));
    let name = report["supernodes"][0]["address"]
        .as_str()
        .expect("it has one");
    let meaning = finding(&report, name)["meaning"]
        .as_str()
        .unwrap_or_default();
    println!("{meaning}");
    assert!(
        !meaning.contains("drops UDP") || meaning.contains("key"),
        "{meaning}"
    );
}
