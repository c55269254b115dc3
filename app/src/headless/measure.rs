//! Mouth to ear, where both ends share a clock: the recording is laid beside what was said, and each window's
//! place in both is turned into instants by the logs of the two sound loops.

use std::time::{Duration, Instant};

use ahoy_media::{
    audio::{
        BLOCK_DURATION, BLOCK_SAMPLES,
        align::{METRIC, align, score},
    },
    time::duration_of,
};

use crate::report::{Histogram, Percentiles, Score};

/// The search ends here: a call that slow has other troubles. One second in samples.
const MAX_DELAY_SAMPLES: usize = 48_000;

/// What was measured about one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Time from the mouth to the ear, devices excluded.
    pub mouth_to_ear: Option<Percentiles>,
    /// How well what was heard matches what was said.
    pub score: Option<Score>,
}

/// Compares what was said with what was heard, both 48 kHz mono from the first block on. `spoken_at` and
/// `heard_at` are the instants at which each block was handed over.
#[must_use]
pub fn measure(
    spoken: &[f32],
    spoken_at: &[Instant],
    heard: &[f32],
    heard_at: &[Instant],
) -> Heard {
    // A file may hold more than was said.
    let spoken = spoken
        .get(..spoken_at.len() * BLOCK_SAMPLES)
        .unwrap_or(spoken);
    // The loops of the two sides did not start in one moment; neither runs ahead by more than the search.
    let Some(alignment) = align(spoken, heard, MAX_DELAY_SAMPLES) else {
        return Heard {
            mouth_to_ear: None,
            score: None,
        };
    };
    let mut delays = Histogram::default();
    for window in &alignment.windows {
        let Some(delay) = window.delay_samples else {
            continue;
        };
        let said = window.start;
        // A block is handed over when its last sample was said, and played from its first sample on.
        let mouth = instant_of(spoken_at, said).and_then(|at| at.checked_sub(BLOCK_DURATION));
        let ear = said
            .checked_add_signed(isize::try_from(delay).unwrap_or(isize::MAX))
            .and_then(|played| instant_of(heard_at, played));
        if let (Some(mouth), Some(ear)) = (mouth, ear) {
            delays.record(ear.saturating_duration_since(mouth));
        }
    }
    Heard {
        mouth_to_ear: delays.percentiles(),
        score: score(spoken, heard, MAX_DELAY_SAMPLES).map(|value| Score {
            metric: METRIC.to_owned(),
            value,
        }),
    }
}

fn instant_of(blocks: &[Instant], sample: usize) -> Option<Instant> {
    let within: Duration = duration_of((sample % BLOCK_SAMPLES) as u64);
    blocks.get(sample / BLOCK_SAMPLES).map(|at| *at + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that looks like itself nowhere else.
    fn speech(samples: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut low = 0.0f32;
        (0..samples)
            .map(|n| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 16) as f32 / 32_768.0 - 1.0;
                low += 0.2 * (noise - low);
                low * (0.2 + 0.8 * ((n / 7_000) % 2) as f32)
            })
            .collect()
    }

    fn ticks(start: Instant, count: usize) -> Vec<Instant> {
        (0..count)
            .map(|n| start + BLOCK_DURATION * u32::try_from(n).unwrap())
            .collect()
    }

    #[test]
    fn delay_is_measured_by_the_clock_and_not_by_the_recordings_beginnings() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let start = Instant::now();
        let spoken = speech(96_000);
        // The listener's loop began 30 ms after the speaker's; the sound took 20 ms more than that.
        let mut heard = vec![0.0; 960];
        heard.extend(&spoken);
        let spoken_at = ticks(start, 220);
        let heard_at = ticks(start + Duration::from_millis(30), 220);
        let measured = measure(&spoken, &spoken_at, &heard, &heard_at);
        // 30 + 20 ms between the loops, and the 10 ms in which the first block was said.
        let p50 = measured.mouth_to_ear.unwrap().p50;
        assert!((p50 - 60.0).abs() < 1.0, "{p50}");
        assert!(measured.score.unwrap().value > 4.5);
    }

    #[test]
    fn unrelated_sound_has_no_delay() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let start = Instant::now();
        let spoken = speech(96_000);
        let silence = vec![0.0; 96_000];
        let at = ticks(start, 220);
        assert_eq!(measure(&spoken, &at, &silence, &at).mouth_to_ear, None);
    }
}
