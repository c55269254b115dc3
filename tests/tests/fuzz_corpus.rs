//! Every fuzz body on its corpus and on seeded mutations of it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its seed, and so may its helpers"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use ahoy_tests::{
    fuzz::{Body, TARGETS, seeds},
    threat,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

const SEED: u64 = 20_261;
const MUTATIONS: usize = 3_000;
/// For bodies that take milliseconds: they run signatures, a decoder or a small world.
const SLOW_MUTATIONS: usize = 1_000;
const SLOW: &[&str] = &[
    "device_certificate",
    "device_log",
    "follow_up",
    "fork_proof",
    "letter",
    "peer_port",
    "person_record",
    "recv_pipeline",
    "sealed_offer",
    "session_datagram",
    "supernode_port",
    "turn",
    "video_feedback",
    "video_recv",
];

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn mutate(rng: &mut ChaCha20Rng, sample: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=rng.next_u32() % 4 {
        let at = |rng: &mut ChaCha20Rng, len: usize| rng.next_u32() as usize % len.max(1);
        match rng.next_u32() % 4 {
            0 if !bytes.is_empty() => {
                let index = at(rng, bytes.len());
                bytes[index] = rng.next_u32().to_be_bytes()[0];
            }
            1 => bytes.truncate(at(rng, bytes.len() + 1)),
            2 => {
                let index = at(rng, bytes.len() + 1);
                bytes.insert(index, rng.next_u32().to_be_bytes()[1]);
            }
            _ => {
                let mut tail = vec![0; at(rng, 64)];
                rng.fill_bytes(&mut tail);
                bytes.extend(tail);
            }
        }
    }
    bytes
}

fn replay(name: &str, body: Body) {
    println!("{name}, seed {SEED}");
    let mut samples: Vec<Vec<u8>> = fs::read_dir(fuzz_folder().join("corpus").join(name))
        .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"))
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!samples.is_empty(), "the corpus of {name} is empty");
    samples.sort();
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    body(&[]);
    for sample in &samples {
        body(sample);
    }
    let mutations = if SLOW.contains(&name) {
        SLOW_MUTATIONS
    } else {
        MUTATIONS
    };
    for round in 0..mutations {
        body(&mutate(&mut rng, &samples[round % samples.len()]));
    }
}

#[test]
fn no_input_breaks_a_parser() {
    let quick = || TARGETS.iter().filter(|(name, _)| !SLOW.contains(name));
    for (name, body) in quick() {
        replay(name, *body);
    }
    threat(
        18,
        format_args!(
            "0 crashes, {} parsers, {MUTATIONS} mutations each",
            quick().count()
        ),
    );
}

#[test]
fn no_input_breaks_what_stands_behind_the_parsers() {
    for (name, body) in TARGETS.iter().filter(|(name, _)| SLOW.contains(name)) {
        replay(name, *body);
    }
}

#[test]
fn every_body_has_a_libfuzzer_target_and_a_corpus_and_nothing_else_has() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(SLOW.iter().all(|name| names.contains(*name)));
    let files = |folder: &str| -> BTreeSet<String> {
        fs::read_dir(fuzz_folder().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(files("fuzz_targets"), names);
    assert_eq!(files("corpus"), names);
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        let target = fuzz_folder().join(format!("fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(target).unwrap();
        assert!(text.contains(&format!("fuzz::{name}(bytes)")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
}

#[test]
#[ignore = "writes the corpus anew; run it after a format changed"]
fn write_the_corpus() {
    for (target, name, bytes) in seeds::samples() {
        let folder = fuzz_folder().join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}
