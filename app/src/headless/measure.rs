//! Mouth to ear, where both ends share a clock: the recording is laid beside what was said, and each window's
//! place in both is turned into instants by the logs of the two sound loops.

use std::time::{Duration, Instant};

use ahoy_media::{
    audio::{
        BLOCK_DURATION, BLOCK_SAMPLES, SAMPLE_RATE_HZ,
        align::{METRIC, align, score},
    },
    time::duration_of,
};

use crate::{
    engine::media::LoggedBlock,
    report::{Histogram, Percentiles, Score},
};

/// The search ends here: past the queue of a bloated link and the longest jitter buffer. Three seconds in samples.
const MAX_DELAY_SAMPLES: usize = 144_000;

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
    // The loops of the two sides did not start in one moment, and either may be the first: put what was heard
    // on the speaker's time, or nothing would be found before its beginning.
    let lead = lead_samples(spoken_at, heard_at);
    let heard = shifted(heard, lead);
    let Some(alignment) = align(spoken, &heard, MAX_DELAY_SAMPLES) else {
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
        let ear = isize::try_from(delay - lead)
            .ok()
            .and_then(|later| said.checked_add_signed(later))
            .and_then(|played| instant_of(heard_at, played));
        if let (Some(mouth), Some(ear)) = (mouth, ear) {
            delays.record(ear.saturating_duration_since(mouth));
        }
    }
    // What was on its way when the listener hung up is not lost.
    let end = usize::try_from(alignment.delay_samples)
        .map_or(0, |delay| heard.len().saturating_sub(delay));
    let audible = spoken.get(..end).unwrap_or(spoken);
    Heard {
        mouth_to_ear: delays.percentiles(),
        score: score(audible, &heard, MAX_DELAY_SAMPLES).map(|value| Score {
            metric: METRIC.to_owned(),
            value,
        }),
    }
}

/// The same by what the packets say of themselves, where there is no sound to compare: exact, and without the
/// codec's own delay.
#[must_use]
pub fn by_media_time(spoken: &[LoggedBlock], heard: &[LoggedBlock]) -> Option<Percentiles> {
    let origin = spoken.first()?.time?;
    let mut delays = Histogram::default();
    for block in heard {
        let Some(time) = block.time else {
            continue;
        };
        // Sounds of before the first block are none of ours.
        let Ok(samples) = usize::try_from(time.since(origin)) else {
            continue;
        };
        let Some(said) = spoken.get(samples / BLOCK_SAMPLES) else {
            continue;
        };
        // A block is handed over when its last sample was said, and played from its first sample on.
        let into = duration_of((samples % BLOCK_SAMPLES) as u64);
        let mouth = said
            .at
            .checked_sub(BLOCK_DURATION)
            .map(|start| start + into);
        if let Some(mouth) = mouth {
            delays.record(block.at.saturating_duration_since(mouth));
        }
    }
    delays.percentiles()
}

/// By how many samples the listener's loop began after the speaker's; negative when it was the first.
fn lead_samples(spoken_at: &[Instant], heard_at: &[Instant]) -> i64 {
    let (Some(spoken), Some(heard)) = (spoken_at.first(), heard_at.first()) else {
        return 0;
    };
    let samples = |time: Duration| {
        let samples = time.as_secs_f64() * f64::from(SAMPLE_RATE_HZ);
        samples.round() as i64
    };
    match heard.checked_duration_since(*spoken) {
        Some(later) => samples(later),
        None => -samples(spoken.saturating_duration_since(*heard)),
    }
}

/// `sound` after `lead` samples of silence, or without its first `-lead` samples.
fn shifted(sound: &[f32], lead: i64) -> Vec<f32> {
    let count = usize::try_from(lead.unsigned_abs()).unwrap_or(usize::MAX);
    if lead < 0 {
        return sound.get(count..).unwrap_or_default().to_vec();
    }
    // Longer than any search: nothing would be found either way.
    let mut shifted = vec![0.0; count.min(MAX_DELAY_SAMPLES)];
    shifted.extend_from_slice(sound);
    shifted
}

fn instant_of(blocks: &[Instant], sample: usize) -> Option<Instant> {
    let within: Duration = duration_of((sample % BLOCK_SAMPLES) as u64);
    blocks.get(sample / BLOCK_SAMPLES).map(|at| *at + within)
}

#[cfg(test)]
mod tests {
    use ahoy_media::time::RtpTimestamp;

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
    fn a_listener_who_starts_after_the_sound_has_come_still_knows_the_delay() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let start = Instant::now();
        let spoken = speech(96_000);
        // 20 ms on the way, and the listener's loop begins 200 ms late: the first 180 ms are never heard.
        let heard = &spoken[8_640..];
        let spoken_at = ticks(start, 220);
        let heard_at = ticks(start + Duration::from_millis(200), 220);
        let measured = measure(&spoken, &spoken_at, heard, &heard_at);
        let p50 = measured.mouth_to_ear.unwrap().p50;
        assert!((p50 - 30.0).abs() < 1.0, "{p50}");
    }

    #[test]
    fn packets_tell_the_delay_themselves_across_the_wrap_of_their_clock() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let start = Instant::now();
        let first = RtpTimestamp(u32::MAX - 1000);
        let log = |at: Vec<Instant>, from: RtpTimestamp| -> Vec<LoggedBlock> {
            let time = |n: usize| from.plus((n * BLOCK_SAMPLES) as u32);
            let blocks = at.into_iter().enumerate();
            blocks
                .map(|(n, at)| LoggedBlock {
                    at,
                    time: Some(time(n)),
                })
                .collect()
        };
        let spoken = log(ticks(start, 100), first);
        // Heard from the middle of the second block on, 70 ms after the first was handed over.
        let mut heard = log(
            ticks(start + Duration::from_millis(70), 50),
            first.plus(720),
        );
        heard[3].time = None;
        let delay = by_media_time(&spoken, &heard).unwrap();
        // The second block's middle was said 5 ms after the first was handed over.
        assert!((delay.p50 - 65.0).abs() < 1.0, "{delay:?}");
        assert_eq!(by_media_time(&[], &heard), None);
        assert_eq!(by_media_time(&spoken, &[]), None);
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
