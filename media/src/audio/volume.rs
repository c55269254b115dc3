//! How loud one person is heard.
//!
//! Each person in a call has a volume of their own. A change glides, so that it does not click; what a raised volume
//! would push over full scale is bent instead of cut.

use super::{
    SAMPLE_RATE_HZ,
    wide::{WideBlock, left_right, mid_side},
};

/// As it comes in, in percent.
pub const NORMAL_PERCENT: u16 = 100;

/// Four times as much amplitude, 12 dB: a soft voice becomes an ordinary one. More would be mostly noise.
pub const MAX_PERCENT: u16 = 400;

/// How long a change takes, from silence to normal.
const GLIDE_SECONDS: f32 = 0.05;

/// From here on samples are bent, so that none reaches more than full scale.
const KNEE: f32 = 0.8;

/// The volume of one person.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    wanted: f32,
    gain: f32,
}

impl Volume {
    /// As it comes in.
    #[must_use]
    pub fn new() -> Self {
        Self {
            wanted: 1.0,
            gain: 1.0,
        }
    }

    /// From here on `percent` of the amplitude that comes in: 0 is silence, more than [`MAX_PERCENT`] is that.
    pub fn set_percent(&mut self, percent: u16) {
        self.wanted = f32::from(percent.min(MAX_PERCENT)) / f32::from(NORMAL_PERCENT);
    }

    /// What was set, in percent.
    #[must_use]
    pub fn percent(&self) -> u16 {
        (self.wanted * f32::from(NORMAL_PERCENT)).round() as u16
    }

    /// Makes the next samples, 48 kHz mono, louder or softer. Real-time safe. At [`NORMAL_PERCENT`] they stay as they
    /// are, to the bit.
    pub fn apply(&mut self, samples: &mut [f32]) {
        if self.gain == self.wanted && self.wanted == 1.0 {
            return;
        }
        for sample in samples {
            *sample = bend(*sample * self.next_gain());
        }
    }

    /// The same with both channels, where there are two.
    pub fn apply_wide(&mut self, block: &mut WideBlock) {
        if !block.is_stereo() {
            return self.apply(&mut block.mid);
        }
        if self.gain == self.wanted && self.wanted == 1.0 {
            return;
        }
        let (mid, side) = block.set_stereo();
        for (mid, side) in mid.iter_mut().zip(side) {
            let gain = self.next_gain();
            let frame = left_right([*mid, *side]);
            [*mid, *side] = mid_side(frame.map(|sample| bend(sample * gain)));
        }
    }

    fn next_gain(&mut self) -> f32 {
        let step = 1.0 / (GLIDE_SECONDS * SAMPLE_RATE_HZ as f32);
        self.gain += (self.wanted - self.gain).clamp(-step, step);
        self.gain
    }
}

impl Default for Volume {
    fn default() -> Self {
        Self::new()
    }
}

/// The same below the knee, less than full scale above, without a corner between.
pub(crate) fn bend(sample: f32) -> f32 {
    let over = sample.abs() - KNEE;
    if over <= 0.0 {
        return sample;
    }
    let room = 1.0 - KNEE;
    (KNEE + room * over / (over + room)).copysign(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: f32) -> Vec<f32> {
        (0..9600)
            .map(|n| amplitude * (n as f32 * 0.05).sin())
            .collect()
    }

    fn peak(samples: &[f32]) -> f32 {
        samples.iter().fold(0.0, |peak, s| peak.max(s.abs()))
    }

    #[test]
    fn the_normal_volume_changes_nothing() {
        let mut samples = tone(1.3);
        Volume::new().apply(&mut samples);
        assert_eq!(samples, tone(1.3));
    }

    #[test]
    fn a_change_glides_to_what_was_set() {
        for (percent, expected) in [(0, 0.0), (50, 0.1), (200, 0.4), (1000, 0.8)] {
            let mut volume = Volume::new();
            volume.set_percent(percent);
            assert_eq!(volume.percent(), percent.min(MAX_PERCENT));
            let mut samples = tone(0.2);
            volume.apply(&mut samples);
            let jump = samples
                .windows(2)
                .map(|pair| (pair[1] - pair[0]).abs())
                .fold(0.0, f32::max);
            assert!(jump < 0.05, "{percent} %: a step of {jump}");
            let mut samples = tone(0.2);
            volume.apply(&mut samples);
            let end = peak(&samples[7200..]);
            assert!((end - expected).abs() < 0.01, "{percent} %: {end}");
        }
    }

    #[test]
    fn a_loud_voice_made_louder_stays_within_full_scale() {
        let mut volume = Volume::new();
        volume.set_percent(MAX_PERCENT);
        let mut samples = tone(1.0);
        volume.apply(&mut samples);
        assert!(peak(&samples) < 1.0, "{}", peak(&samples));
        assert!(peak(&samples) > 0.95);
    }

    #[test]
    fn both_channels_become_louder_and_neither_leaves_full_scale() {
        let mut volume = Volume::new();
        volume.set_percent(200);
        let mut block = WideBlock::stereo(&[0.9; 480], &[0.1; 480]);
        for _ in 0..10 {
            block = WideBlock::stereo(&[0.9; 480], &[0.1; 480]);
            volume.apply_wide(&mut block);
        }
        for [left, right] in block.frames() {
            assert!((0.9..1.0).contains(&left), "{left}");
            assert!((right - 0.2).abs() < 0.001, "{right}");
        }
    }

    #[test]
    fn bending_has_no_corner_and_keeps_order() {
        let mut last = -2.0f32;
        for n in -2000..=2000 {
            let bent = bend(n as f32 / 1000.0);
            assert!(bent > last || n == -2000, "{n}");
            assert!((bent - last) < 0.0011 || n == -2000, "{n}");
            last = bent;
        }
    }
}
