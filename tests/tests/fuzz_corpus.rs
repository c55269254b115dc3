//! Every fuzz body on its corpus and on seeded mutations of it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its seed, and so may its helpers"
)]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
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
    "pairing",
    "peer_port",
    "person_record",
    "private_network",
    "recv_pipeline",
    "sealed_offer",
    "session_datagram",
    "supernode_port",
    "turn",
    "video_feedback",
    "video_recv",
];

/// What the long run of quick parsers may add to the memory of the process.
const MAX_GROWTH_KIB: u64 = 64 << 10;

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

/// The corpus of a body, in an order of its own.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let mut samples: Vec<Vec<u8>> = fs::read_dir(fuzz_folder().join("corpus").join(name))
        .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"))
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!samples.is_empty(), "the corpus of {name} is empty");
    samples.sort();
    samples
}

fn replay(name: &str, body: Body) {
    println!("{name}, seed {SEED}");
    let samples = corpus(name);
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

/// One body under way in the long run.
struct Run {
    name: &'static str,
    body: Body,
    samples: Vec<Vec<u8>>,
    rng: ChaCha20Rng,
    executions: u64,
    busy: Duration,
}

impl Run {
    fn new(name: &'static str, body: Body, seed: u64) -> Self {
        Self {
            samples: corpus(name),
            rng: ChaCha20Rng::seed_from_u64(seed),
            name,
            body,
            executions: 0,
            busy: Duration::ZERO,
        }
    }

    /// Inputs for so long. One that breaks something is left in the folder for finds.
    #[expect(clippy::disallowed_methods, reason = "what is bounded is real time")]
    fn run_for(&mut self, slice: Duration) {
        let began = Instant::now();
        while began.elapsed() < slice {
            for _ in 0..16 {
                let number = self.rng.next_u32() as usize;
                let sample = &self.samples[number % self.samples.len()];
                let mut input = mutate(&mut self.rng, sample);
                if number >> 16 & 7 == 0 {
                    // The head of one and the tail of another.
                    let other = &self.samples[(number >> 8) % self.samples.len()];
                    input.truncate(input.len() / 2);
                    input.extend_from_slice(&other[other.len() / 2..]);
                }
                let body = self.body;
                if catch_unwind(|| body(&input)).is_err() {
                    let folder = fuzz_folder().join("artifacts").join(self.name);
                    fs::create_dir_all(&folder).unwrap();
                    let file = folder.join(format!("run-{}", self.executions));
                    fs::write(&file, &input).unwrap();
                    panic!("{} breaks; the input is {}", self.name, file.display());
                }
                self.executions += 1;
            }
        }
        self.busy += began.elapsed();
    }
}

/// `make fuzz-long`: `FUZZ_EXECUTIONS` in all, most by the bodies that are fast; each of the others has
/// `FUZZ_SLOW_SECONDS`. `FUZZ_SEED` begins elsewhere.
#[test]
#[ignore = "an hour"]
fn a_hundred_million_inputs_break_nothing() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let wanted = number("FUZZ_EXECUTIONS", 100_000_000);
    let slow_for = Duration::from_secs(number("FUZZ_SLOW_SECONDS", 20));
    let seed = number("FUZZ_SEED", SEED);
    println!("seed {seed}");
    let runs = TARGETS.iter().zip(0..).map(|((name, body), offset)| {
        let run = Run::new(name, *body, seed.wrapping_add(offset));
        (SLOW.contains(name), run)
    });
    let (slow, fast): (Vec<_>, Vec<_>) = runs.partition(|(slow, _)| *slow);
    let (mut slow, mut fast) = (slow, fast);
    for (_, run) in &mut slow {
        run.run_for(slow_for);
        println!("{:20} {:>12}", run.name, run.executions);
    }
    let of_slow: u64 = slow.iter().map(|(_, run)| run.executions).sum();
    let memory = peak_memory();
    loop {
        for (_, run) in &mut fast {
            run.run_for(Duration::from_secs(1));
        }
        let done: u64 = fast.iter().map(|(_, run)| run.executions).sum();
        println!("{} so far", of_slow + done);
        if of_slow + done >= wanted {
            break;
        }
    }
    for (_, run) in slow.iter().chain(&fast) {
        let rate = run.executions as f64 / run.busy.as_secs_f64();
        println!(
            "{:20} {:>12} {rate:>9.0} per second",
            run.name, run.executions
        );
    }
    let total: u64 = slow
        .iter()
        .chain(&fast)
        .map(|(_, run)| run.executions)
        .sum();
    println!("{:20} {total:>12}, {} parsers", "in all", TARGETS.len());
    // Parsers keep nothing, however often they are called.
    if let (Some(before), Some(after)) = (memory, peak_memory()) {
        assert!(after < before + MAX_GROWTH_KIB, "{before} to {after} KiB");
    }
}

/// The most memory this process ever had, in KiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
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
