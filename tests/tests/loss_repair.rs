//! Real calls on lossy lines: what the sender does about it, and what of it repaired what, as the reports tell. Each
//! way to repair is held against the same call without it.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use ahoy::{
    report::{AudioReport, Outcome},
    sim::{Conditions, Loss},
};
use ahoy_media::loss::Modes;
use ahoy_tests::{
    pair::{audio, plan, secs},
    people::DIRECT,
};

const SEED: u64 = 0x1055;
/// As on a line without room for copies between packets.
const NOT_APART: Modes = Modes {
    apart: false,
    ..Modes::ALL
};

/// A call over a line with `loss`, 12 s of speech long: what each of both heard.
fn call(seed: u64, loss: Loss, protections: Modes) -> [AudioReport; 2] {
    let pair = plan(seed).configure(move |_name, config| config.audio.protections = protections);
    pair.run(async |pair| {
        let conditions = Conditions {
            delay: DIRECT,
            loss,
            ..Conditions::default()
        };
        pair.stage.between(&pair.alice, &pair.bob, &conditions);
        pair.talk().await;
        pair.pass(secs(12)).await;
        // What follows is heard by both, so that no loss at the end goes unnoticed.
        let clean = Conditions::with_delay(DIRECT);
        pair.stage.between(&pair.alice, &pair.bob, &clean);
        pair.pass(secs(1)).await;
        pair.hang_up().await.map(|ended| {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            let audio = audio(&ended.report).clone();
            eprintln!(
                "seed {seed}, {loss:?}, {protections:?}: {:?}, recovered {:?}, concealed {:?} ms, buffer {:?}",
                audio.packets, audio.recovered, audio.concealed_ms, audio.jitter_buffer_ms
            );
            audio
        })
    })
}

/// What was repaired by each way in both directions, and what of the lost sound was not, in milliseconds of each
/// second lost.
fn sums(heard: &[AudioReport; 2]) -> ([u64; 3], u64) {
    let sum = |field: fn(&AudioReport) -> Option<u64>| -> u64 {
        heard.iter().map(|audio| field(audio).unwrap()).sum()
    };
    let repaired = [
        sum(|audio| audio.recovered.fec),
        sum(|audio| audio.recovered.red),
        sum(|audio| audio.recovered.dred),
    ];
    let lost = sum(|audio| audio.packets.lost) * 20;
    assert!(lost > 0);
    (repaired, sum(|audio| audio.concealed_ms) * 1000 / lost)
}

#[test]
fn a_little_loss_is_repaired_from_in_band_copies() {
    let loss = Loss::Random(0.035);
    // Chance makes it look like more at times: whole copies are left out.
    let fec_alone = Modes {
        fec: true,
        ..Modes::NONE
    };
    let ([fec, red, dred], concealed) = sums(&call(SEED, loss, fec_alone));
    assert!(fec >= 10, "{fec} frames");
    assert_eq!((red, dred), (0, 0));
    let (repaired, without) = sums(&call(SEED, loss, Modes::NONE));
    assert_eq!(repaired, [0; 3]);
    assert!(
        concealed < 800 && without > 900,
        "{concealed} and {without}"
    );
}

#[test]
fn random_loss_is_repaired_from_whole_copies() {
    let loss = Loss::Random(0.13);
    let ([_fec, red, _dred], concealed) = sums(&call(SEED + 1, loss, Modes::ALL));
    assert!(red >= 50, "{red} frames");
    let red_off = Modes {
        red: false,
        ..Modes::ALL
    };
    let ([_, red, _], without) = sums(&call(SEED + 1, loss, red_off));
    assert_eq!(red, 0);
    assert!(concealed < 450, "{concealed}");
    assert!(without > concealed + 100, "{concealed} and {without}");
}

#[test]
fn heavy_random_loss_is_repaired_from_parity() {
    let loss = Loss::Random(0.3);
    let parity_off = Modes {
        parity: false,
        ..NOT_APART
    };
    // One call has good or bad luck: three have less.
    let mean = |modes| {
        let calls = [4, 40, 41].map(|n| sums(&call(SEED + n, loss, modes)));
        let whole = calls.iter().map(|([_fec, whole, _dred], _)| whole);
        let concealed = calls.iter().map(|(_, concealed)| concealed);
        (whole.sum::<u64>() / 3, concealed.sum::<u64>() / 3)
    };
    let (whole, concealed) = mean(NOT_APART);
    assert!(whole >= 200, "{whole} frames");
    let (_, without) = mean(parity_off);
    assert!(without > concealed + 25, "{concealed} and {without}");
}

/// In the next packet they come half a frame later.
#[test]
fn where_much_is_lost_copies_travel_by_themselves_and_nobody_waits_as_long() {
    for loss in [Loss::Random(0.2), Loss::bursts(0.1, 3.0)] {
        let wait = |modes| -> f64 {
            let calls = [5, 50, 51].map(|n| call(SEED + n, loss, modes));
            let heard = calls.iter().flatten();
            let waits = heard.map(|audio| audio.jitter_buffer_ms.unwrap().p50);
            waits.sum::<f64>() / 6.0
        };
        let (apart, next) = (wait(Modes::ALL), wait(NOT_APART));
        assert!(apart + 3.0 < next, "{loss:?}: {apart} and {next} ms");
    }
}

#[test]
fn bursts_are_repaired_from_copies_further_away() {
    let loss = Loss::bursts(0.12, 9.0);
    let ([_fec, red, _dred], concealed) = sums(&call(SEED + 2, loss, Modes::ALL));
    assert!(red >= 15, "{red} frames");
    let (repaired, without) = sums(&call(SEED + 2, loss, Modes::NONE));
    assert_eq!(repaired, [0; 3]);
    assert!(without > concealed + 150, "{concealed} and {without}");
}

#[test]
fn bursts_without_copies_are_repaired_by_deep_redundancy() {
    let loss = Loss::bursts(0.12, 9.0);
    let no_copies = Modes {
        red: false,
        ..Modes::ALL
    };
    let ([_fec, red, dred], concealed) = sums(&call(SEED + 2, loss, no_copies));
    assert!(dred >= 15, "{dred} frames");
    assert_eq!(red, 0);
    let (repaired, without) = sums(&call(SEED + 2, loss, Modes::NONE));
    assert_eq!(repaired, [0; 3]);
    assert!(without > concealed + 150, "{concealed} and {without}");
}

#[test]
fn on_a_clean_line_nothing_is_spent_on_repairs() {
    let heard = call(SEED + 3, Loss::None, Modes::ALL);
    for audio in &heard {
        assert_eq!(audio.packets.lost, Some(0));
        assert_eq!(audio.recovered.fec, Some(0));
        assert_eq!(audio.recovered.red, Some(0));
        assert_eq!(audio.recovered.dred, Some(0));
        assert_eq!(audio.concealed_ms, Some(0));
    }
}
