//! Pitch-synchronous time stretching (WSOLA): one period of the waveform is cut out or played twice, where
//! the waveform resembles itself so well that nobody hears it. Also the joint after invented sound.
//!
//! Where there are two channels, the place is one that suits both, and the same is done to both: nothing moves from left
//! to right.

/// Shortest period: 2.5 ms, 400 Hz.
pub(super) const MIN_LAG: usize = 120;

/// Longest period: 15 ms, 67 Hz.
pub(super) const MAX_LAG: usize = 720;

/// Samples of the cross-fade: 5 ms.
pub(super) const FADE: usize = 240;

/// Samples compared, half of them before the cut: 10 ms.
const COMPARED: usize = 480;

/// The first, coarse search looks at every sixth sample, that is at 8 kHz.
const COARSE: usize = 6;

/// Above this similarity a fade adds amplitudes; below, the parts are strangers and a fade adds powers.
const COHERENT: f32 = 0.5;

/// Similarity above which concealment is worth lengthening until it is in step with what follows.
const WORTH_BRIDGING: f32 = 0.5;

/// When stretching is inaudible.
#[derive(Debug, Clone, Copy)]
pub(super) struct Criteria {
    /// Least normalised correlation, -1.0..=1.0.
    pub(super) correlation: f32,
    /// Mean square below which any place will do: silence.
    pub(super) silence: f32,
    /// Longest period to cut or insert, in samples.
    pub(super) max_lag: usize,
}

/// Samples in their order, of one channel or of two.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) mid: Vec<f32>,
    /// As long as `mid`, or empty where there is one channel.
    pub(super) side: Vec<f32>,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.mid.len()
    }

    pub(super) fn channels_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        [&mut self.mid, &mut self.side]
            .into_iter()
            .filter(|channel| !channel.is_empty())
    }

    pub(super) fn channels(&self) -> Channels<'_> {
        Channels([&self.mid, &self.side])
    }
}

/// The same stretch of both channels; the second is empty where there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channels<'a>(pub(super) [&'a [f32]; 2]);

impl<'a> Channels<'a> {
    fn len(self) -> usize {
        self.0[0].len()
    }

    fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        self.0.into_iter().filter(|channel| !channel.is_empty())
    }

    fn range(self, range: std::ops::Range<usize>) -> Self {
        Self(
            self.0
                .map(|channel| channel.get(range.clone()).unwrap_or_default()),
        )
    }
}

#[derive(Debug, Clone, Copy)]
enum Towards {
    Future,
    Past,
}

/// Removes one period right after `at` and returns its length. `line` must reach [`FADE`] plus the largest
/// lag beyond `at`; a smaller lag is used when it does not.
pub(super) fn accelerate(line: &mut Line, at: usize, criteria: Criteria) -> Option<usize> {
    let max_lag = criteria
        .max_lag
        .min(MAX_LAG)
        .min(line.len().checked_sub(at + FADE)?);
    let (lag, similarity) = find(line.channels(), at, Towards::Future, max_lag, criteria)?;
    for line in line.channels_mut() {
        for n in 0..FADE {
            let (out, into) = fade(n, similarity);
            line[at + lag + n] = line[at + n] * out + line[at + lag + n] * into;
        }
        line.copy_within(at + lag.., at);
        line.truncate(line.len() - lag);
    }
    Some(lag)
}

/// Plays the period before `at` once more and returns its length. `line` must hold [`FADE`] samples after
/// `at`, and capacity for the period.
pub(super) fn expand(line: &mut Line, at: usize, criteria: Criteria) -> Option<usize> {
    line.len().checked_sub(at + FADE)?;
    let (lag, similarity) = find(
        line.channels(),
        at,
        Towards::Past,
        criteria.max_lag.min(MAX_LAG),
        criteria,
    )?;
    for line in line.channels_mut() {
        let mut faded = [0.0; FADE];
        for (n, sample) in faded.iter_mut().enumerate() {
            let (out, into) = fade(n, similarity);
            *sample = line[at + n] * out + line[at - lag + n] * into;
        }
        let len = line.len();
        line.resize(len + lag, 0.0);
        line.copy_within(at..len, at + lag);
        line.copy_within(at - lag..at, at);
        line[at..at + FADE].copy_from_slice(&faded);
    }
    Some(lag)
}

/// Joins `fresh`, newly decoded, to the invented end of `line`: prolongs the end periodically until it is in
/// step with `fresh`, and fades. Writes the prolongation to `bridge` and returns its length, zero when
/// `bridged` is off or nothing is in step.
pub(super) fn join(
    line: Channels<'_>,
    mut fresh: [&mut [f32]; 2],
    bridge: &mut [[f32; MAX_LAG]; 2],
    bridged: bool,
) -> usize {
    if fresh[0].len() < FADE || line.len() < COMPARED + MAX_LAG {
        return 0;
    }
    let at = line.len() - COMPARED / 2;
    let (lag, similarity) = search(line, at, Towards::Past, MAX_LAG);
    let period = line.range(line.len() - lag..line.len());
    let mut best = (0, -1.0);
    if bridged && similarity > WORTH_BRIDGING {
        // Every second sample is enough for a place; the fade forgives the rest.
        for shift in (0..lag).step_by(2) {
            let mut sums = [1e-9f32; 3];
            for (period, fresh) in period.iter().zip(&fresh) {
                for (n, b) in fresh.iter().enumerate().take(FADE).step_by(2) {
                    let a = period[(shift + n) % lag];
                    sums = [sums[0] + a * b, sums[1] + a * a, sums[2] + b * b];
                }
            }
            let similarity = sums[0] / (sums[1] * sums[2]).sqrt();
            if similarity > best.1 {
                best = (shift, similarity);
            }
        }
    }
    let (shift, similarity) = if best.1 > WORTH_BRIDGING {
        best
    } else {
        (0, 0.0)
    };
    for ((period, bridge), fresh) in period.iter().zip(bridge).zip(&mut fresh) {
        for (n, sample) in bridge[..shift].iter_mut().enumerate() {
            *sample = period[n % lag];
        }
        for (n, sample) in fresh.iter_mut().take(FADE).enumerate() {
            let (out, into) = fade(n, similarity);
            *sample = period[(shift + n) % lag] * out + *sample * into;
        }
    }
    shift
}

/// Fades from `old`, what would have come, to `fresh`, which comes in its place and goes on like it.
pub(super) fn take_over(old: &[f32; FADE], fresh: &mut [f32]) {
    for (n, (old, fresh)) in old.iter().zip(fresh).enumerate() {
        let (out, into) = fade(n, COHERENT);
        *fresh = old * out + *fresh * into;
    }
}

/// The weights of the old and the new at sample `n` of a fade.
fn fade(n: usize, similarity: f32) -> (f32, f32) {
    let into = (n as f32 + 0.5) / FADE as f32;
    if similarity >= COHERENT {
        (1.0 - into, into)
    } else {
        ((1.0 - into).sqrt(), into.sqrt())
    }
}

/// The lag that meets the criteria best.
fn find(
    line: Channels<'_>,
    at: usize,
    towards: Towards,
    max_lag: usize,
    criteria: Criteria,
) -> Option<(usize, f32)> {
    if max_lag < MIN_LAG || at < COMPARED / 2 + MAX_LAG {
        return None;
    }
    let near = line.range(at - COMPARED / 2..at + COMPARED / 2);
    let far = line.range(match towards {
        Towards::Future => at + COMPARED / 2..at + COMPARED / 2 + max_lag,
        Towards::Past => at - COMPARED / 2 - max_lag..at - COMPARED / 2,
    });
    let loudest = near
        .iter()
        .chain(far.iter())
        .flatten()
        .fold(0.0f32, |most, sample| most.max(sample * sample));
    if loudest < criteria.silence * 16.0
        && mean_square(near).max(mean_square(far)) < criteria.silence
    {
        return Some((max_lag, 0.0));
    }
    let (lag, similarity) = search(line, at, towards, max_lag);
    (similarity >= criteria.correlation).then_some((lag, similarity))
}

/// Of left and right.
fn mean_square(channels: Channels<'_>) -> f32 {
    let power = |samples: &[f32]| {
        samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
    };
    channels.iter().map(power).sum()
}

/// The lag at which `line` around `at` resembles itself most, and how much.
fn search(line: Channels<'_>, at: usize, towards: Towards, max_lag: usize) -> (usize, f32) {
    const POINTS: usize = (COMPARED + MAX_LAG) / COARSE;
    let start = match towards {
        Towards::Future => at - COMPARED / 2,
        Towards::Past => at - COMPARED / 2 - max_lag / COARSE * COARSE,
    };
    let points = (COMPARED + max_lag) / COARSE;
    let mut coarse = [[0.0; POINTS]; 2];
    for (coarse, line) in coarse.iter_mut().zip(line.iter()) {
        for (point, samples) in coarse[..points]
            .iter_mut()
            .zip(line[start..].chunks_exact(COARSE))
        {
            *point = samples.iter().sum();
        }
    }
    let [first, second] = &coarse;
    let count = line.iter().count();
    let coarse = Channels([first, if count > 1 { second } else { &[] }]);
    let window = COMPARED / COARSE;
    let mut best = (MIN_LAG, -1.0);
    for lag in MIN_LAG / COARSE..=max_lag / COARSE {
        let (here, there) = match towards {
            Towards::Future => (0, lag),
            Towards::Past => (max_lag / COARSE, max_lag / COARSE - lag),
        };
        let similarity = correlation(
            coarse.range(here..here + window),
            coarse.range(there..there + window),
        );
        if similarity > best.1 {
            best = (lag * COARSE, similarity);
        }
    }
    let around = best.0.saturating_sub(COARSE).max(MIN_LAG)..=(best.0 + COARSE).min(max_lag);
    best.1 = -1.0;
    for lag in around {
        let there = match towards {
            Towards::Future => at - COMPARED / 2 + lag,
            Towards::Past => at - COMPARED / 2 - lag,
        };
        let here = at - COMPARED / 2;
        let similarity = correlation(
            line.range(here..here + COMPARED),
            line.range(there..there + COMPARED),
        );
        if similarity > best.1 {
            best = (lag, similarity);
        }
    }
    best
}

fn correlation(a: Channels<'_>, b: Channels<'_>) -> f32 {
    let mut sums = [1e-12f32; 3];
    for (a, b) in a.0.into_iter().zip(b.0) {
        for (a, b) in a.iter().zip(b) {
            sums = [sums[0] + a * b, sums[1] + a * a, sums[2] + b * b];
        }
    }
    sums[0] / (sums[1] * sums[2]).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::test_signal::Speech;

    const CRITERIA: Criteria = Criteria {
        correlation: 0.9,
        silence: 1e-6,
        max_lag: MAX_LAG,
    };

    fn mono(samples: &[f32]) -> Line {
        Line {
            mid: samples.to_vec(),
            side: Vec::new(),
        }
    }

    /// Of one channel, and nothing of the other.
    fn one(samples: &[f32]) -> Channels<'_> {
        Channels([samples, &[]])
    }

    fn tone(period: f32, len: usize) -> Vec<f32> {
        (0..len)
            .map(|n| (n as f32 / period * std::f32::consts::TAU).sin() * 0.5)
            .collect()
    }

    fn noise(len: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next() * 0.3).collect()
    }

    /// The largest step between neighbours: a click is a large one.
    fn roughest(line: &[f32]) -> f32 {
        line.windows(2)
            .map(|pair| (pair[1] - pair[0]).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn whole_periods_go_and_come_without_a_trace() {
        for period in [130.0, 217.3, 480.0, 700.0] {
            let original = tone(period, 4800);
            let mut shorter = mono(&original);
            let lag = accelerate(&mut shorter, 2880, CRITERIA).unwrap();
            assert_eq!(shorter.len(), original.len() - lag);
            assert!(
                (lag as f32 / period)
                    .fract()
                    .min(1.0 - (lag as f32 / period).fract())
                    < 0.05,
                "{lag} of {period}"
            );
            assert!(roughest(&shorter.mid) < roughest(&original) * 1.05);
            let mut longer = mono(&original);
            let lag = expand(&mut longer, 2880, CRITERIA).unwrap();
            assert_eq!(longer.len(), original.len() + lag);
            assert!(roughest(&longer.mid) < roughest(&original) * 1.05);
            assert_eq!(longer.mid[..2880], original[..2880]);
            assert_eq!(longer.mid[2880 + lag + FADE..], original[2880 + FADE..]);
        }
    }

    #[test]
    fn loud_noise_is_left_alone_and_silence_is_cut_anywhere() {
        let mut line = mono(&noise(4800));
        assert_eq!(accelerate(&mut line, 2880, CRITERIA), None);
        assert_eq!(expand(&mut line, 2880, CRITERIA), None);
        let quiet: Vec<f32> = noise(4800).iter().map(|sample| sample * 0.001).collect();
        let mut quiet = mono(&quiet);
        assert_eq!(accelerate(&mut quiet, 2880, CRITERIA), Some(MAX_LAG));
        assert_eq!(expand(&mut quiet, 2880, CRITERIA), Some(MAX_LAG));
    }

    #[test]
    fn the_lag_never_exceeds_what_is_asked_or_there() {
        let mut line = mono(&tone(200.0, 2880 + FADE + 300));
        assert!(accelerate(&mut line, 2880, CRITERIA).unwrap() <= 300);
        let mut line = mono(&tone(200.0, 2880 + FADE + 100));
        assert_eq!(accelerate(&mut line, 2880, CRITERIA), None);
        let mut line = mono(&tone(200.0, 4800));
        assert_eq!(
            accelerate(
                &mut line,
                2880,
                Criteria {
                    max_lag: 100,
                    ..CRITERIA
                }
            ),
            None
        );
        assert!(
            accelerate(
                &mut line,
                2880,
                Criteria {
                    max_lag: 250,
                    ..CRITERIA
                }
            )
            .unwrap()
                <= 250
        );
    }

    #[test]
    fn voiced_speech_offers_a_place_most_of_the_time() {
        let speech = Speech::new(5).samples(96_000);
        let (mut places, mut tried) = (0, 0);
        for at in (2880..90_000).step_by(960) {
            tried += 1;
            places += usize::from(
                accelerate(&mut mono(&speech[at - 2880..at + 960]), 2880, CRITERIA).is_some(),
            );
        }
        assert!(places * 2 > tried, "{places} of {tried}");
    }

    #[test]
    fn a_joint_is_in_step_and_smooth() {
        let all = tone(300.0, 9600);
        let mut bridge = [[0.0; MAX_LAG]; 2];
        for offset in [0, 77, 150, 299] {
            let mut fresh = all[4800 + offset..].to_vec();
            let shift = join(one(&all[..4800]), [&mut fresh, &mut []], &mut bridge, true);
            let mut line = all[..4800].to_vec();
            line.extend_from_slice(&bridge[0][..shift]);
            line.extend_from_slice(&fresh);
            assert!(
                roughest(&line) < roughest(&all) * 1.1,
                "offset {offset}: {}",
                roughest(&line)
            );
            assert!(
                (shift + 300 - offset) % 300 < 8 || (shift + 300 - offset) % 300 > 292,
                "{shift} for {offset}"
            );
        }
    }

    #[test]
    fn without_a_bridge_nothing_is_inserted() {
        let all = tone(300.0, 9600);
        let mut fresh = all[4900..].to_vec();
        assert_eq!(
            join(
                one(&all[..4800]),
                [&mut fresh, &mut []],
                &mut [[0.0; MAX_LAG]; 2],
                false
            ),
            0
        );
    }

    /// Two channels with the same waveform, the right one 7 samples later and softer.
    fn stereo(len: usize) -> (Vec<f32>, Vec<f32>) {
        let all = Speech::new(3).samples(len + 7);
        let right = all[..len].iter().map(|sample| sample * 0.5).collect();
        (all[7..].to_vec(), right)
    }

    fn wide(left: &[f32], right: &[f32]) -> Line {
        let frames = || left.iter().zip(right);
        Line {
            mid: frames().map(|(left, right)| (left + right) * 0.5).collect(),
            side: frames().map(|(left, right)| (left - right) * 0.5).collect(),
        }
    }

    fn left_and_right(line: &Line) -> (Vec<f32>, Vec<f32>) {
        let frames = || line.mid.iter().zip(&line.side);
        (
            frames().map(|(mid, side)| mid + side).collect(),
            frames().map(|(mid, side)| mid - side).collect(),
        )
    }

    #[test]
    fn both_channels_are_cut_and_lengthened_in_the_same_place() {
        let (left, right) = stereo(96_000);
        let (mut shorter, mut longer) = (0, 0);
        for at in (2880..90_000).step_by(960) {
            let range = at - 2880..at + 960 + MAX_LAG;
            let line = || wide(&left[range.clone()], &right[range.clone()]);
            for is_shorter in [true, false] {
                let mut line = line();
                let found = if is_shorter {
                    accelerate(&mut line, 2880, CRITERIA)
                } else {
                    expand(&mut line, 2880, CRITERIA)
                };
                if found.is_none() {
                    continue;
                }
                let count = if is_shorter {
                    &mut shorter
                } else {
                    &mut longer
                };
                *count += 1;
                assert_eq!(line.mid.len(), line.side.len());
                // What is right is still what was left 7 samples before, but for the noise of the sums.
                let (left, right) = left_and_right(&line);
                for (n, right) in right.iter().enumerate().skip(7) {
                    let in_fade = (2880..2880 + MAX_LAG + FADE + 7).contains(&n);
                    let tolerance = if in_fade { 0.05 } else { 1e-5 };
                    let off = (right - left[n - 7] * 0.5).abs();
                    assert!(off < tolerance, "at {at}, sample {n}: {off}");
                }
            }
        }
        assert!(shorter > 20 && longer > 20, "{shorter}, {longer}");
    }

    #[test]
    fn what_is_in_the_difference_alone_is_not_taken_for_silence() {
        let (tone, hiss) = (tone(217.3, 4800), noise(4800));
        let opposite = |samples: &[f32]| Line {
            mid: vec![0.0; samples.len()],
            side: samples.to_vec(),
        };
        assert_eq!(accelerate(&mut opposite(&hiss), 2880, CRITERIA), None);
        let mut line = opposite(&tone);
        let lag = accelerate(&mut line, 2880, CRITERIA).unwrap();
        assert!(
            (lag as f32 / 217.3 - (lag as f32 / 217.3).round()).abs() < 0.05,
            "{lag}"
        );
        assert!(roughest(&line.side) < roughest(&tone) * 1.05);
        assert!(line.mid.iter().all(|sample| *sample == 0.0));
    }

    #[test]
    fn a_joint_is_the_same_in_both_channels() {
        let all = tone(300.0, 9600);
        let softer: Vec<f32> = all.iter().map(|sample| sample * 0.5).collect();
        let mut bridge = [[0.0; MAX_LAG]; 2];
        let (mut mid, mut side) = (all[4877..].to_vec(), softer[4877..].to_vec());
        let line = Channels([&all[..4800], &softer[..4800]]);
        let shift = join(line, [&mut mid, &mut side], &mut bridge, true);
        assert!(shift > 0);
        for (mid, side) in mid
            .iter()
            .zip(&side)
            .chain(bridge[0].iter().zip(&bridge[1]))
        {
            assert!((mid * 0.5 - side).abs() < 1e-6);
        }
    }
}
