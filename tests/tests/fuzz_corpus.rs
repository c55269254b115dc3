//! Every fuzz body on its corpus and on seeded mutations of it.

use std::{fs, path::Path};

use ahoy_tests::fuzz::TARGETS;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

const SEED: u64 = 20_261;
const MUTATIONS: usize = 3_000;

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

#[test]
fn no_input_breaks_a_parser() {
    println!("seed {SEED}");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, body) in TARGETS {
        let mut samples: Vec<Vec<u8>> = fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"))
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert!(!samples.is_empty(), "the corpus of {name} is empty");
        samples.sort();
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        for sample in &samples {
            body(sample);
        }
        for round in 0..MUTATIONS {
            body(&mutate(&mut rng, &samples[round % samples.len()]));
        }
    }
}
