//! The table of the 14 points: that each of its tests exists, and that each point has one.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{fs, path::Path};

use ahoy_tests::written::text_of;

const TABLE: &str = include_str!("../points.txt");
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const LAST_POINT: u8 = 14;
/// Calls of more than two are not built: no test can tick them.
const WITHOUT_TEST: [u8; 1] = [7];

/// Point, promise, file and name of the test; or why there is none.
type Line = (
    u8,
    &'static str,
    Result<(&'static str, &'static str), &'static str>,
);

fn lines() -> Vec<Line> {
    let lines = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &'static str| {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [point, promise, file, name] = fields[..] else {
            panic!("four fields, not: {line}");
        };
        let proof = if file == "not built" {
            Err(name)
        } else {
            Ok((file, name))
        };
        (point.parse().unwrap(), promise, proof)
    };
    lines.map(read).collect()
}

/// Whether the test is there. One of a window may stand in a part of its file.
fn is_there(file: &str, name: &str) -> bool {
    let path = Path::new(WORKSPACE).join(file);
    let mut files = vec![path.clone()];
    if let Ok(parts) = fs::read_dir(path.with_extension("")) {
        files.extend(parts.map(|part| part.unwrap().path()));
    }
    let mut texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts.any(|text| text_of(&text, name).is_some())
}

#[test]
fn every_point_is_ticked_by_a_test_that_exists() {
    let lines = lines();
    for point in 1..=LAST_POINT {
        let mut own = lines.iter().filter(|(of, ..)| *of == point);
        let is_ticked = own.any(|(.., proof)| proof.is_ok());
        assert_eq!(is_ticked, !WITHOUT_TEST.contains(&point), "point {point}");
    }
    for (point, promise, proof) in lines {
        if let Ok((file, name)) = proof {
            assert!(
                is_there(file, name),
                "{point}, {promise}: no test {name} in {file}"
            );
        }
    }
}

#[test]
fn a_test_that_is_not_there_would_be_missed() {
    assert!(is_there(
        "tests/tests/points.rs",
        "a_test_that_is_not_there_would_be_missed"
    ));
    // A helper is no test, and what was never written is none either.
    assert!(!is_there("tests/tests/points.rs", "is_there"));
    assert!(!is_there("tests/tests/points.rs", "nobody_wrote_this"));
    assert!(!is_there("tests/tests/no_such_file.rs", "is_there"));
}

#[test]
#[ignore = "prints the table: make test-points"]
fn the_table() {
    println!("| point | promise | test |\n|---|---|---|");
    for (point, promise, proof) in lines() {
        let told = match proof {
            Ok((_file, name)) => name.to_owned(),
            Err(why) => format!("not built: {why}"),
        };
        println!("| {point} | {promise} | {told} |");
    }
}
