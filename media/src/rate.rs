//! From a target bitrate on the wire to encoder settings.

use std::time::Duration;

use crate::audio::opus::{EncoderConfig, FrameDuration};

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bitrate(pub u32);

impl Bitrate {
    /// `kilobits` thousand bits per second; saturates.
    #[must_use]
    pub const fn kbps(kilobits: u32) -> Self {
        Self(kilobits.saturating_mul(1000))
    }

    /// Bits per second.
    #[must_use]
    pub const fn bps(self) -> u32 {
        self.0
    }

    /// What `bytes` per packet cost when a packet leaves every `interval`.
    #[must_use]
    pub fn of_packets(bytes: usize, interval: Duration) -> Self {
        let nanos = interval.as_nanos().max(1);
        let bits = (bytes as u128)
            .saturating_mul(8)
            .saturating_mul(1_000_000_000);
        Self(u32::try_from(bits / nanos).unwrap_or(u32::MAX))
    }

    /// Less `other`, not below zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Lowest Opus bitrate that we ask for: below it speech is no longer intelligible in one go.
pub const MIN_AUDIO_BITRATE: Bitrate = Bitrate::kbps(6);

/// Highest Opus bitrate that we ask for: mono speech gains nothing above it.
pub const MAX_AUDIO_BITRATE: Bitrate = Bitrate::kbps(128);

/// Where the codec alone begins to sound good; longer frames are used until it can have this much.
const COMFORTABLE_CODEC_BITRATE: Bitrate = Bitrate::kbps(16);

/// What the network offers to the audio stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AudioBudget {
    /// Everything on the wire, headers included.
    pub target: Bitrate,
    /// Bytes that each packet carries besides the Opus packet: RTP, QUIC, UDP and IP.
    pub overhead_bytes: usize,
    /// Prefer 10 ms frames when they are affordable.
    pub low_delay: bool,
}

impl AudioBudget {
    /// Bytes around the Opus packet on an IPv4 path: IP 20, UDP 8, QUIC short header with packet number and
    /// tag about 29, DATAGRAM frame and flow id 4, RTP 12.
    pub const TYPICAL_OVERHEAD_BYTES: usize = 73;

    /// What frames of `duration` leave for the codec.
    #[must_use]
    pub fn codec_bitrate(&self, duration: FrameDuration) -> Bitrate {
        self.target.saturating_sub(Bitrate::of_packets(
            self.overhead_bytes,
            duration.duration(),
        ))
    }

    /// The settings to use now. What the user chose (rate control, complexity, DTX) is taken from `base`; what is
    /// done about loss is not decided here but in [`loss`](crate::loss), within the bitrate that comes out.
    ///
    /// Short frames cost packets, and packets cost headers: at 40 kbit/s on the wire 10 ms frames leave
    /// nothing to the codec, 20 ms frames 11 kbit/s and 60 ms frames 30 kbit/s.
    #[must_use]
    pub fn settings(&self, base: EncoderConfig) -> EncoderConfig {
        let mut ladder = [
            FrameDuration::Ms20,
            FrameDuration::Ms40,
            FrameDuration::Ms60,
        ]
        .into_iter();
        let short =
            self.low_delay && self.codec_bitrate(FrameDuration::Ms10) >= COMFORTABLE_CODEC_BITRATE;
        let frame = if short {
            FrameDuration::Ms10
        } else {
            ladder
                .find(|frame| self.codec_bitrate(*frame) >= COMFORTABLE_CODEC_BITRATE)
                .unwrap_or(FrameDuration::Ms60)
        };
        let bitrate = self
            .codec_bitrate(frame)
            .clamp(MIN_AUDIO_BITRATE, MAX_AUDIO_BITRATE);
        EncoderConfig {
            bitrate,
            frame,
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(kilobits: u32) -> AudioBudget {
        AudioBudget {
            target: Bitrate::kbps(kilobits),
            overhead_bytes: AudioBudget::TYPICAL_OVERHEAD_BYTES,
            low_delay: false,
        }
    }

    #[test]
    fn headers_are_paid_before_the_codec() {
        let settings = budget(80).settings(EncoderConfig::default());
        assert_eq!(settings.frame, FrameDuration::Ms20);
        assert_eq!(settings.bitrate, Bitrate(80_000 - 73 * 8 * 50));
    }

    #[test]
    fn a_thin_link_gets_longer_frames_and_never_less_than_speech_needs() {
        assert_eq!(
            budget(40).settings(EncoderConfig::default()).frame,
            FrameDuration::Ms40
        );
        assert_eq!(
            budget(28).settings(EncoderConfig::default()).frame,
            FrameDuration::Ms60
        );
        let least = budget(1).settings(EncoderConfig::default());
        assert_eq!(
            (least.frame, least.bitrate),
            (FrameDuration::Ms60, MIN_AUDIO_BITRATE)
        );
    }

    #[test]
    fn low_delay_takes_short_frames_only_where_they_fit() {
        let wide = AudioBudget {
            low_delay: true,
            ..budget(100)
        };
        assert_eq!(
            wide.settings(EncoderConfig::default()).frame,
            FrameDuration::Ms10
        );
        let thin = AudioBudget {
            low_delay: true,
            ..budget(64)
        };
        assert_eq!(
            thin.settings(EncoderConfig::default()).frame,
            FrameDuration::Ms20
        );
    }

    #[test]
    fn settings_never_leave_their_range() {
        for kilobits in (0..2000).step_by(7) {
            let settings = budget(kilobits).settings(EncoderConfig::default());
            assert!((MIN_AUDIO_BITRATE..=MAX_AUDIO_BITRATE).contains(&settings.bitrate));
        }
    }
}
