//! From a device's or a file's sample rate to ours and back, by a ratio that can be nudged while it runs.
//!
//! [`ToBlocks`] makes 48 kHz blocks out of what a microphone or a file gives; [`FromBlocks`] makes what a speaker
//! wants out of 48 kHz blocks. Both allocate nothing after their construction. Each works on one channel, or on two that
//! stay together, of which the second costs nothing while there is none.
//!
//! Two devices never agree on what 48 kHz is. The correction in parts per million says how much faster than its
//! name the *device's* clock runs, as seen from ours.

use rubato::{
    Adjustable, Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType,
    WindowFunction, audioadapter_buffers::direct::SequentialSlice,
};

use self::near::Near;
use super::{BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ};

mod near;

/// Sample rates that are converted, in hertz: telephone speech to studio converters.
pub const RATES_HZ: std::ops::RangeInclusive<u32> = 8_000..=384_000;

/// The correction goes no further than this, in parts per million. Crystals are within 100; what lies beyond 1000
/// is a device that does something else than run a little fast.
pub const MAX_CORRECTION_PPM: f64 = 1000.0;

/// Headroom over [`MAX_CORRECTION_PPM`] for rounding inside the ratio.
const MAX_RELATIVE_RATIO: f64 = 1.0 + 2.0 * MAX_CORRECTION_PPM * 1e-6;

/// A rate outside [`RATES_HZ`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sample rate of {0} Hz is not supported: use 8000 to 384000 Hz")]
pub struct RateError(pub u32);

/// How much the filter may cost and delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// 64 taps: delays by 32 samples of the input, 0.7 ms at 48 kHz. For live sound. Between 48 kHz and nearly 48 kHz it
    /// costs half as much.
    Live,
    /// 256 taps: keeps everything up to 96 % of the band, delays by 128 samples of the input. For files.
    File,
}

impl Quality {
    fn parameters(self) -> SincInterpolationParameters {
        match self {
            // Of filters that lie so close the nearest is good enough, and a fourth of the work of a curve between them.
            Self::Live => SincInterpolationParameters::new(64, WindowFunction::Blackman2)
                .interpolation(SincInterpolationType::Nearest)
                .oversampling_factor(4096),
            Self::File => SincInterpolationParameters::new(256, WindowFunction::BlackmanHarris2),
        }
    }
}

fn build(
    from_hz: u32,
    to_hz: u32,
    quality: Quality,
    fixed: FixedAsync,
) -> Result<Async<f32>, RateError> {
    for rate in [from_hz, to_hz] {
        if !RATES_HZ.contains(&rate) {
            return Err(RateError(rate));
        }
    }
    let ratio = f64::from(to_hz) / f64::from(from_hz);
    Ok(Async::new_sinc(
        ratio,
        MAX_RELATIVE_RATIO,
        &quality.parameters(),
        BLOCK_SAMPLES,
        2,
        fixed,
    )
    .expect("the rates are in range, so the ratio is finite and positive"))
}

/// How it is done.
enum Way {
    /// Between clocks of the same name, live.
    Near(Box<Near>),
    /// From any rate to any other.
    Sinc(Async<f32>),
}

/// More than a block becomes, or is made of, between clocks of the same name: a thousandth, what the places round to,
/// and one.
const MAX_NEAR_SAMPLES: usize = BLOCK_SAMPLES + 4;

impl Way {
    fn new(
        from_hz: u32,
        to_hz: u32,
        quality: Quality,
        fixed: FixedAsync,
    ) -> Result<Self, RateError> {
        if quality == Quality::Live && from_hz == to_hz && RATES_HZ.contains(&from_hz) {
            return Ok(Self::Near(Box::new(Near::new())));
        }
        build(from_hz, to_hz, quality, fixed).map(Self::Sinc)
    }

    fn ratio(&self) -> f64 {
        match self {
            Self::Near(near) => near.ratio(),
            Self::Sinc(inner) => inner.resample_ratio(),
        }
    }

    fn set_ratio(&mut self, relative: f64) {
        match self {
            Self::Near(near) => near.set_ratio(relative),
            Self::Sinc(inner) => inner
                .set_resample_ratio_relative(relative, true)
                .expect("the correction is clamped to what the resampler was built for"),
        }
    }

    /// The general resampler steps before it looks, so its first output lies one step later than half the filter. To
    /// the nearest whole sample.
    fn delay_samples(&self, quality: Quality) -> usize {
        match self {
            Self::Near(_) => Near::DELAY_SAMPLES,
            Self::Sinc(inner) => {
                let half_filter = quality.parameters().sinc_len as f64 / 2.0;
                (half_filter * inner.resample_ratio() - 1.0)
                    .round()
                    .max(0.0) as usize
            }
        }
    }
}

/// Blocks for which a second channel that is no more is still silence: until the filter has forgotten it.
const FORGOTTEN_AFTER: u8 = 3;

/// Which channels there are.
#[derive(Debug)]
struct Channels {
    indexing: rubato::Indexing,
    /// Blocks until the second is left out.
    kept_for: u8,
}

impl Channels {
    fn new() -> Self {
        Self {
            indexing: rubato::Indexing::new().active_channels_mask(vec![true, false]),
            kept_for: 0,
        }
    }

    /// The next block has a second channel or not. Returns whether one is to be converted.
    fn follow(&mut self, has_side: bool) -> bool {
        let Some([_first, second]) = self.indexing.active_channels_mask.as_deref_mut() else {
            return false;
        };
        self.kept_for = if has_side {
            FORGOTTEN_AFTER
        } else {
            self.kept_for.saturating_sub(1)
        };
        *second = self.kept_for > 0;
        *second
    }
}

/// Puts the samples of two channels one behind the other.
fn line_up(line: &mut Vec<f32>, [mid, side]: [&[f32]; 2]) {
    line.clear();
    line.extend_from_slice(mid);
    line.extend_from_slice(side.get(..mid.len()).unwrap_or(side));
    line.resize(2 * mid.len(), 0.0);
}

/// Makes 48 kHz blocks out of samples at another rate, or at nearly the same one.
pub struct ToBlocks {
    way: Way,
    quality: Quality,
    channels: Channels,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl ToBlocks {
    /// Converts from `from_hz`, in [`RATES_HZ`].
    ///
    /// # Errors
    /// The rate lies outside.
    pub fn new(from_hz: u32, quality: Quality) -> Result<Self, RateError> {
        let mut made = Self {
            way: Way::new(from_hz, SAMPLE_RATE_HZ, quality, FixedAsync::Output)?,
            input: Vec::new(),
            output: vec![0.0; 2 * BLOCK_SAMPLES],
            quality,
            channels: Channels::new(),
        };
        made.input.reserve_exact(2 * made.max_input_samples());
        Ok(made)
    }

    /// Input samples that the next [`Self::fill`] takes. Changes from block to block.
    #[must_use]
    pub fn input_samples(&self) -> usize {
        match &self.way {
            Way::Near(near) => near.input_samples(),
            Way::Sinc(inner) => inner.input_frames_next(),
        }
    }

    /// The most that [`Self::input_samples`] can ever be.
    #[must_use]
    pub fn max_input_samples(&self) -> usize {
        match &self.way {
            Way::Near(_) => MAX_NEAR_SAMPLES,
            Way::Sinc(inner) => inner.input_frames_max(),
        }
    }

    /// By how many 48 kHz samples the filter delays.
    #[must_use]
    pub fn delay_samples(&self) -> usize {
        self.way.delay_samples(self.quality)
    }

    /// Output samples per input sample, correction included.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.way.ratio()
    }

    /// The device's clock runs `ppm` parts per million fast; clamped to [`MAX_CORRECTION_PPM`]. The ratio moves there
    /// over the next block. Ask [`Self::input_samples`] afterwards.
    pub fn set_correction_ppm(&mut self, ppm: f64) {
        let ppm = ppm.clamp(-MAX_CORRECTION_PPM, MAX_CORRECTION_PPM);
        self.way.set_ratio(1.0 / (1.0 + ppm * 1e-6));
    }

    /// Turns exactly [`Self::input_samples`] samples into the next block. Missing ones count as silence, further
    /// ones are not read.
    pub fn fill(&mut self, input: &[f32], block: &mut Block) {
        self.fill_both([input, &[]], block, None);
    }

    /// The same with two channels, whose samples are as many. Without a place for the second it is left out.
    pub fn fill_both(&mut self, input: [&[f32]; 2], mid: &mut Block, side: Option<&mut Block>) {
        let frames = input[0].len();
        let is_wide = self.channels.follow(side.is_some());
        let wanted = self.input_samples();
        match &mut self.way {
            Way::Near(near) => near.fill(
                input,
                self.output.split_at_mut(BLOCK_SAMPLES).into(),
                is_wide,
            ),
            Way::Sinc(inner) => {
                self.channels.indexing.partial_len = (frames < wanted).then_some(frames);
                line_up(&mut self.input, input);
                let input = SequentialSlice::new(&self.input, 2, frames).expect("two channels");
                let mut output = SequentialSlice::new_mut(&mut self.output, 2, BLOCK_SAMPLES)
                    .expect("two blocks");
                inner
                    .process_into_buffer(&input, &mut output, Some(&self.channels.indexing))
                    .expect(
                        "the input is what was asked for or marked as partial, the output is a block",
                    );
            }
        }
        let (first, second) = self.output.split_at(BLOCK_SAMPLES);
        mid.copy_from_slice(first);
        if let Some(side) = side.filter(|_| is_wide) {
            side.copy_from_slice(second);
        }
    }
}

impl std::fmt::Debug for ToBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToBlocks")
            .field("ratio", &self.ratio())
            .finish_non_exhaustive()
    }
}

/// Makes samples at another rate, or at nearly the same one, out of 48 kHz blocks.
pub struct FromBlocks {
    way: Way,
    quality: Quality,
    channels: Channels,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl FromBlocks {
    /// Converts to `to_hz`, in [`RATES_HZ`].
    ///
    /// # Errors
    /// The rate lies outside.
    pub fn new(to_hz: u32, quality: Quality) -> Result<Self, RateError> {
        let mut made = Self {
            way: Way::new(SAMPLE_RATE_HZ, to_hz, quality, FixedAsync::Input)?,
            quality,
            channels: Channels::new(),
            input: Vec::with_capacity(2 * BLOCK_SAMPLES),
            output: Vec::new(),
        };
        made.output.resize(2 * made.max_output_samples(), 0.0);
        Ok(made)
    }

    /// The most that one block can become.
    #[must_use]
    pub fn max_output_samples(&self) -> usize {
        match &self.way {
            Way::Near(_) => MAX_NEAR_SAMPLES,
            Way::Sinc(inner) => inner.output_frames_max(),
        }
    }

    /// By how many output samples the filter delays.
    #[must_use]
    pub fn delay_samples(&self) -> usize {
        self.way.delay_samples(self.quality)
    }

    /// Output samples per input sample, correction included.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.way.ratio()
    }

    /// The device's clock runs `ppm` parts per million fast; clamped to [`MAX_CORRECTION_PPM`]. The ratio moves there
    /// over the next block.
    pub fn set_correction_ppm(&mut self, ppm: f64) {
        let ppm = ppm.clamp(-MAX_CORRECTION_PPM, MAX_CORRECTION_PPM);
        self.way.set_ratio(1.0 + ppm * 1e-6);
    }

    /// Converts one block. How many samples it becomes changes from block to block.
    pub fn convert(&mut self, block: &Block) -> &[f32] {
        self.convert_both(block, None)[0]
    }

    /// The same with two channels, where there are two. Both become as many samples; no second, or nothing of it.
    pub fn convert_both(&mut self, mid: &Block, side: Option<&Block>) -> [&[f32]; 2] {
        let is_wide = self.channels.follow(side.is_some());
        let side = side.map_or(&[][..], |side| side);
        let frames = self.output.len() / 2;
        let written = match &mut self.way {
            Way::Near(near) => near.convert(
                [mid, side],
                self.output.split_at_mut(frames).into(),
                is_wide,
            ),
            Way::Sinc(inner) => {
                line_up(&mut self.input, [mid, side]);
                let input =
                    SequentialSlice::new(&self.input, 2, BLOCK_SAMPLES).expect("two blocks");
                let mut output =
                    SequentialSlice::new_mut(&mut self.output, 2, frames).expect("two halves");
                let (_, written) = inner
                    .process_into_buffer(&input, &mut output, Some(&self.channels.indexing))
                    .expect("the output has room for the most a block can become");
                written
            }
        };
        let (mid, side) = self.output.split_at(frames);
        [&mid[..written], &side[..if is_wide { written } else { 0 }]]
    }
}

impl std::fmt::Debug for FromBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromBlocks")
            .field("ratio", &self.ratio())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::{super::testing::sine_snr_db, *};

    fn sine(frequency_hz: f64, rate_hz: f64, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| (0.5 * (TAU * frequency_hz * n as f64 / rate_hz).sin()) as f32)
            .collect()
    }

    fn to_blocks(resampler: &mut ToBlocks, input: &[f32]) -> Vec<f32> {
        let (mut output, mut position, mut block) = (Vec::new(), 0, [0.0; BLOCK_SAMPLES]);
        while position + resampler.input_samples() <= input.len() {
            let wanted = resampler.input_samples();
            resampler.fill(&input[position..position + wanted], &mut block);
            position += wanted;
            output.extend_from_slice(&block);
        }
        output
    }

    #[test]
    fn a_sine_keeps_more_than_60_db_from_every_common_rate_and_back() {
        for rate in [8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000] {
            for quality in [Quality::Live, Quality::File] {
                let mut up = ToBlocks::new(rate, quality).unwrap();
                let output = to_blocks(&mut up, &sine(1000.0, f64::from(rate), rate as usize));
                assert!(output.len() > 45_000, "{rate} Hz: {} samples", output.len());
                let snr = sine_snr_db(&output[4800..], 1000.0, 48_000.0);
                assert!(snr > 60.0, "{rate} Hz {quality:?} to 48 kHz: {snr:.1} dB");

                let mut down = FromBlocks::new(rate, quality).unwrap();
                let mut output = Vec::new();
                for block in sine(1000.0, 48_000.0, 48_000).as_chunks().0 {
                    output.extend_from_slice(down.convert(block));
                }
                assert!(output.len().abs_diff(rate as usize) < 300);
                let snr = sine_snr_db(&output[rate as usize / 10..], 1000.0, f64::from(rate));
                assert!(snr > 60.0, "48 kHz to {rate} Hz {quality:?}: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_removed_instead_of_folded() {
        let mut down = FromBlocks::new(16_000, Quality::Live).unwrap();
        let mut output = Vec::new();
        for block in sine(11_000.0, 48_000.0, 48_000).as_chunks().0 {
            output.extend_from_slice(down.convert(block));
        }
        let peak = output[1600..].iter().fold(0.0f32, |m, s| m.max(s.abs()));
        assert!(peak < 0.5e-3, "an 11 kHz tone left {peak} at 16 kHz");
    }

    #[test]
    fn the_correction_changes_how_much_is_consumed_by_just_that() {
        let mut resampler = ToBlocks::new(48_000, Quality::Live).unwrap();
        resampler.set_correction_ppm(500.0);
        let input = sine(1000.0, 48_024.0, 48_024 * 10);
        let output = to_blocks(&mut resampler, &input);
        // One block and the filter are still inside.
        let consumed = input.len() - 480..=input.len();
        let expected = (output.len() as f64 * 1.0005).round() as usize;
        assert!(consumed.contains(&expected), "{expected} of {consumed:?}");
        let snr = sine_snr_db(&output[48_000..96_000], 1000.0, 48_000.0);
        assert!(
            snr > 60.0,
            "a device 500 ppm fast sounds right: {snr:.1} dB"
        );
    }

    #[test]
    fn the_delay_is_what_it_says_at_every_rate() {
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000] {
            for quality in [Quality::Live, Quality::File] {
                let mut up = ToBlocks::new(rate, quality).unwrap();
                let input = sine(400.0, f64::from(rate), rate as usize / 2);
                let output = &to_blocks(&mut up, &input)[up.delay_samples()..];
                // Half a sample of slope, and a little.
                for (n, expected) in (2000..20_000).zip(&sine(400.0, 48_000.0, 20_000)[2000..]) {
                    assert!(
                        (output[n] - expected).abs() < 0.5 * 0.0524 * 0.55,
                        "{rate} Hz {quality:?}: sample {n} is {} instead of {expected}",
                        output[n]
                    );
                }
            }
        }
    }

    #[test]
    fn two_channels_stay_together_and_the_first_is_as_it_is_alone() {
        for rate in [44_100, 48_000] {
            let mut alone = FromBlocks::new(rate, Quality::Live).unwrap();
            let mut both = FromBlocks::new(rate, Quality::Live).unwrap();
            let mut back = ToBlocks::new(rate, Quality::Live).unwrap();
            for resampler in [&mut alone, &mut both] {
                resampler.set_correction_ppm(120.0);
            }
            back.set_correction_ppm(120.0);
            let (mut mids, mut sides) = (Vec::new(), Vec::new());
            for (n, mid) in sine(700.0, 48_000.0, 48_000)
                .as_chunks()
                .0
                .iter()
                .enumerate()
            {
                let side = mid.map(|sample| sample * 0.5);
                // There is none at first, and none for a while in the middle.
                let has_side = n >= 20 && !(50..60).contains(&n);
                let expected = alone.convert(mid);
                let [first, second] = both.convert_both(mid, has_side.then_some(&side));
                assert_eq!(expected.len(), first.len());
                // To the bit while there is one channel; two are summed up in another order.
                let tolerance = if n < 20 { 0.0 } else { 1e-5 };
                for (expected, first) in expected.iter().zip(first) {
                    assert!((expected - first).abs() <= tolerance, "block {n}");
                }
                assert_eq!(
                    second.len(),
                    if has_side || (50..52).contains(&n) {
                        first.len()
                    } else {
                        0
                    }
                );
                mids.extend_from_slice(first);
                sides.extend_from_slice(second);
                sides.resize(mids.len(), 0.0);
                let settled = (22..50).contains(&n) || n > 62;
                for (first, second) in first.iter().zip(second).filter(|_| settled) {
                    assert!((first * 0.5 - second).abs() < 1e-6, "block {n}");
                }
            }
            let (mut at, mut mid, mut side) = (0, [0.0; 480], [0.0; 480]);
            let mut n = 0;
            while at + back.input_samples() <= mids.len() {
                let range = at..at + back.input_samples();
                at = range.end;
                let parts = [&mids[range.clone()], &sides[range]];
                back.fill_both(parts, &mut mid, Some(&mut side));
                n += 1;
                for (mid, side) in mid.iter().zip(&side).filter(|_| n > 65) {
                    assert!((mid * 0.5 - side).abs() < 1e-6, "block {n}");
                }
            }
        }
    }

    #[test]
    fn rates_outside_the_range_are_refused() {
        assert_eq!(ToBlocks::new(0, Quality::Live).unwrap_err(), RateError(0));
        assert_eq!(
            FromBlocks::new(400_000, Quality::File).unwrap_err(),
            RateError(400_000)
        );
    }

    #[test]
    fn a_short_last_piece_counts_as_followed_by_silence() {
        let mut resampler = ToBlocks::new(44_100, Quality::Live).unwrap();
        let mut block = [9.0; BLOCK_SAMPLES];
        for _ in 0..3 {
            resampler.fill(&[], &mut block);
        }
        assert_eq!(block, [0.0; BLOCK_SAMPLES]);
    }
}
