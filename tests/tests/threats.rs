//! The threat model's table: that each of its tests exists and tells a figure, and the run that prints it.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use ahoy_tests::written::text_of;
use serde_json::Value;

const TABLE: &str = include_str!("../threats.txt");
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Where cargo wrote what it has built, see `make test-threats`.
const BUILT: &str = "AHOY_TEST_BINARIES";
/// Rows that the table does not have: groups and updates, which are not built and come with issues of their own.
const LATER: [u8; 3] = [22, 23, 24];
const LAST_ROW: u8 = 25;

/// One line of the table.
#[derive(Debug, Clone, Copy)]
struct Line {
    row: u8,
    promise: &'static str,
    proof: Proof,
}

#[derive(Debug, Clone, Copy)]
enum Proof {
    Test {
        file: &'static str,
        name: &'static str,
        /// How the attack was seen to succeed.
        without: &'static str,
        /// What the test leaves out of the promise.
        lacking: &'static str,
    },
    NotBuilt(&'static str),
}

fn lines() -> Vec<Line> {
    let lines = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &'static str| {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let proof = match fields[2..] {
            ["not built", why] => Proof::NotBuilt(why),
            [file, name, without, lacking] => Proof::Test {
                file,
                name,
                without,
                lacking,
            },
            _ => panic!("fields are missing: {line}"),
        };
        Line {
            row: fields[0].parse().unwrap(),
            promise: fields[1],
            proof,
        }
    };
    lines.map(read).collect()
}

#[test]
fn every_row_has_a_test_that_exists_and_tells_a_figure() {
    let lines = lines();
    for row in (1..=LAST_ROW).filter(|row| !LATER.contains(row)) {
        assert!(lines.iter().any(|line| line.row == row), "row {row}");
    }
    for line in &lines {
        let Proof::Test {
            file,
            name,
            without,
            ..
        } = line.proof
        else {
            continue;
        };
        let source = fs::read_to_string(Path::new(WORKSPACE).join(file)).unwrap();
        let text = text_of(&source, name);
        let text = text.unwrap_or_else(|| panic!("row {}: no test {name} in {file}", line.row));
        let text: String = text.split_whitespace().collect();
        let told = [
            format!("threat({},", line.row),
            format!("threat{}:", line.row),
        ];
        assert!(
            told.iter().any(|told| text.contains(told)),
            "row {}: {name} tells no figure",
            line.row
        );
        assert!(!without.is_empty(), "row {}: seen to fail?", line.row);
        if !without.contains(' ') {
            assert!(text_of(&source, without).is_some(), "no {without}");
        }
    }
}

/// Test programs by the file of their root, relative to the workspace.
fn programs(built: &str) -> BTreeMap<String, String> {
    let root = fs::canonicalize(WORKSPACE).unwrap();
    let artifacts = built
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = |artifact: Value| {
        let of_test = artifact["profile"]["test"] == true;
        let program = artifact["executable"].as_str().filter(|_| of_test)?;
        let source = Path::new(artifact["target"]["src_path"].as_str()?);
        let source = source.strip_prefix(&root).ok()?.to_str()?;
        Some((source.to_owned(), program.to_owned()))
    };
    artifacts.filter_map(program).collect()
}

/// The root of the crate that the test in `file` belongs to.
fn root_of(file: &str) -> String {
    match file.split_once("/src/") {
        Some((package, _)) => format!("{package}/src/lib.rs"),
        None => file.to_owned(),
    }
}

/// What one test told: its figure, or why there is none.
fn run(program: &str, row: u8, name: &str) -> Result<String, String> {
    let list = |args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        )
    };
    // A unit test stands in a module: its whole name.
    let (_, all) = list(&[name, "--list"]);
    let whole = all
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .find(|whole| *whole == name || whole.ends_with(&format!("::{name}")));
    let Some(whole) = whole else {
        return Err("is not in the program that was built".to_owned());
    };
    let (passed, output) = list(&["--exact", whole, "--nocapture"]);
    if !passed {
        eprintln!("{output}");
        return Err("FAILED".to_owned());
    }
    let mark = format!("threat {row}: ");
    let figures: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split_once(&mark))
        .map(|(_, figure)| figure)
        .collect();
    if figures.is_empty() {
        return Err("told no figure".to_owned());
    }
    Ok(figures.join("; "))
}

#[test]
#[ignore = "runs tests of the whole workspace: make test-threats"]
#[expect(
    clippy::disallowed_methods,
    reason = "tells how long real programs take"
)]
fn the_table() {
    let built = env::var(BUILT).expect("make test-threats names what was built");
    let programs = programs(&fs::read_to_string(built).unwrap());
    let mut failed = 0;
    println!("| row | promise | test | figure |\n|---|---|---|---|");
    for line in lines() {
        let (test, told) = match line.proof {
            Proof::NotBuilt(why) => (String::new(), format!("not built: {why}")),
            Proof::Test {
                file,
                name,
                lacking,
                ..
            } => {
                let began = Instant::now();
                let told = match programs.get(&root_of(file)) {
                    Some(program) => run(program, line.row, name),
                    None => Err(format!("{file} was not built")),
                };
                failed += u32::from(told.is_err());
                let mut told = told.unwrap_or_else(|why| why);
                let took = began.elapsed();
                if took > Duration::from_secs(30) {
                    told += &format!(" ({} s)", took.as_secs());
                }
                if !lacking.is_empty() {
                    told += &format!(" — without: {lacking}");
                }
                (name.to_owned(), told)
            }
        };
        println!("| {} | {} | {test} | {told} |", line.row, line.promise);
    }
    assert_eq!(failed, 0, "tests that failed or told nothing");
}
