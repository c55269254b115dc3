//! Lip sync: what was taken at one moment is heard and seen at one moment.
//!
//! Sound and pictures have clocks of their own, in their packets' timestamps. The sender tells now and then which two of
//! these belong together, a [`Moment`]; the receiver knows which sound plays when, and so when a picture is due. It waits
//! for no more than [`LONGEST_WAIT`], whatever was told. Sound waits for pictures that are regularly late, a little: see
//! [`sound_wait`].
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  V=0  |0 0 0 T|  sound's timestamp, 48 kHz                    :
//! :               |  picture's timestamp, 90 kHz                  :
//! :               |
//! ```
//!
//! `T`: the pictures are text, or stand still. Nobody reads lips there, so sound need not wait for them.
//!
//! It says what two sender reports say (RFC 3550 section 6.4.1), without a clock of the day. What is lost is told again a
//! second later.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod sound_wait;

use std::time::{Duration, Instant};

use crate::time::{RtpTimestamp, SAMPLE_RATE_HZ};

/// Ticks of the pictures' clock per second.
const PICTURE_HZ: i64 = 90_000;

/// A picture is held back for its sound no longer than this: what is further away is not its sound.
pub const LONGEST_WAIT: Duration = Duration::from_millis(600);

/// A clock that has not been set for so long has stopped.
const STOPPED_AFTER: Duration = Duration::from_secs(1);

/// A moment says nothing about pictures further from it than this: somebody began anew.
const FARTHEST: i64 = 30 * PICTURE_HZ;

const VERSION: u8 = 0;
const TEXT: u8 = 0x01;

/// Bytes of a [`Moment`] on the wire.
pub const MOMENT_BYTES: usize = 9;

/// Which sound and which picture were taken at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Of the sound, 48 kHz.
    pub sound: RtpTimestamp,
    /// Of the picture, 90 kHz.
    pub picture: RtpTimestamp,
    /// What is shown is text.
    pub is_text: bool,
}

/// Why bytes are no [`Moment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// They are too few, or too many.
    #[error("a moment has {MOMENT_BYTES} bytes")]
    Length,
    /// They are of a later version.
    #[error("version {0} of moments is not known")]
    Version(u8),
}

impl Moment {
    /// As it is sent.
    #[must_use]
    pub fn encode(self) -> [u8; MOMENT_BYTES] {
        let [a, b, c, d] = self.sound.0.to_be_bytes();
        let [e, f, g, h] = self.picture.0.to_be_bytes();
        [
            VERSION << 4 | if self.is_text { TEXT } else { 0 },
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
        ]
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`MomentError`] says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MomentError> {
        let [head, a, b, c, d, e, f, g, h] =
            *<&[u8; MOMENT_BYTES]>::try_from(bytes).map_err(|_other| MomentError::Length)?;
        if head >> 4 != VERSION {
            return Err(MomentError::Version(head >> 4));
        }
        Ok(Self {
            sound: RtpTimestamp(u32::from_be_bytes([a, b, c, d])),
            picture: RtpTimestamp(u32::from_be_bytes([e, f, g, h])),
            is_text: head & TEXT != 0,
        })
    }

    /// The sound that was taken at the same moment as the picture of this timestamp. `None`: it is too far away to tell.
    fn sound_of(self, picture: RtpTimestamp) -> Option<RtpTimestamp> {
        let ticks = i64::from(picture.since(self.picture));
        if ticks.abs() > FARTHEST {
            return None;
        }
        let samples = ticks * i64::from(SAMPLE_RATE_HZ) / PICTURE_HZ;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "timestamps wrap"
        )]
        Some(self.sound.plus(samples as u32))
    }
}

/// Which sound is taken, or heard, when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SoundClock(Option<(Instant, RtpTimestamp)>);

impl SoundClock {
    /// The sample of this timestamp is the one of this instant.
    pub fn set(&mut self, at: Instant, sample: RtpTimestamp) {
        self.0 = Some((at, sample));
    }

    /// The sample of `now`. `None` while there is no sound.
    #[must_use]
    pub fn sample_at(&self, now: Instant) -> Option<RtpTimestamp> {
        let (at, sample) = self.running(now)?;
        let samples = crate::time::samples_in(now.saturating_duration_since(at));
        let samples = u32::try_from(samples).ok()?;
        Some(sample.plus(samples))
    }

    /// When the sample of this timestamp is heard if all goes on as now, in seconds from `now`: negative for what is
    /// past. `None` while there is no sound.
    fn seconds_until(&self, now: Instant, sample: RtpTimestamp) -> Option<f64> {
        let (at, known) = self.running(now)?;
        let ahead = f64::from(sample.since(known)) / f64::from(SAMPLE_RATE_HZ);
        Some(ahead - now.saturating_duration_since(at).as_secs_f64())
    }

    fn running(&self, now: Instant) -> Option<(Instant, RtpTimestamp)> {
        self.0
            .filter(|(at, _)| now.saturating_duration_since(*at) < STOPPED_AFTER)
    }
}

/// Says when pictures are due.
#[derive(Debug, Clone, Copy, Default)]
pub struct LipSync {
    moment: Option<Moment>,
}

impl LipSync {
    /// The sender told which sound belongs to which picture.
    pub fn learn(&mut self, moment: Moment) {
        self.moment = Some(moment);
    }

    /// Whether the sender said that what it shows is text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.moment.is_some_and(|moment| moment.is_text)
    }

    /// How long a picture that could be shown `now` still has to wait for its sound, where `heard` says which sound plays
    /// when. Nothing while there is no sound, or nothing is known.
    #[must_use]
    pub fn wait(&self, now: Instant, picture: RtpTimestamp, heard: &SoundClock) -> Duration {
        self.lead(now, picture, heard)
            .and_then(|lead| Duration::try_from_secs_f64(lead).ok())
            .filter(|wait| *wait <= LONGEST_WAIT)
            .unwrap_or(Duration::ZERO)
    }

    /// By how many seconds a picture that is shown `now` is before its sound; negative where it comes after it.
    #[must_use]
    pub fn lead(&self, now: Instant, picture: RtpTimestamp, heard: &SoundClock) -> Option<f64> {
        let sound = self.moment?.sound_of(picture)?;
        heard.seconds_until(now, sound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        Instant::now()
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_again(sound: u32, picture: u32, is_text: bool) {
            let moment = Moment { sound: RtpTimestamp(sound), picture: RtpTimestamp(picture), is_text };
            prop_assert_eq!(Moment::decode(&moment.encode()), Ok(moment));
        }

        #[test]
        fn garbage_makes_nobody_wait_for_long(bytes: Vec<u8>, picture: u32, heard: u32, later in 0u64..5000) {
            let mut sync = LipSync::default();
            if let Ok(moment) = Moment::decode(&bytes) {
                sync.learn(moment);
            }
            let mut clock = SoundClock::default();
            let begin = start();
            clock.set(begin, RtpTimestamp(heard));
            let now = begin + Duration::from_millis(later);
            prop_assert!(sync.wait(now, RtpTimestamp(picture), &clock) <= LONGEST_WAIT);
        }
    }

    #[test]
    fn the_bytes_stay_as_they_are() {
        let moment = Moment {
            sound: RtpTimestamp(0x0102_0304),
            picture: RtpTimestamp(0xfffe_fdfc),
            is_text: false,
        };
        assert_eq!(moment.encode(), [0, 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc]);
        let text = Moment {
            is_text: true,
            ..moment
        };
        assert_eq!(text.encode(), [1, 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc]);
        assert_eq!(Moment::decode(&[0x10; 9]), Err(MomentError::Version(1)));
        assert_eq!(Moment::decode(&[0; 8]), Err(MomentError::Length));
        assert_eq!(Moment::decode(&[0; 10]), Err(MomentError::Length));
    }

    #[test]
    fn a_picture_waits_for_its_sound_across_the_wrap_of_both_clocks() {
        let begin = start();
        let mut sync = LipSync::default();
        let mut heard = SoundClock::default();
        let picture = RtpTimestamp(u32::MAX - 100);
        // Two seconds after the moment that was told.
        let shown = picture.plus(180_000);
        assert_eq!(sync.wait(begin, shown, &heard), Duration::ZERO);
        sync.learn(Moment {
            sound: RtpTimestamp(u32::MAX - 50),
            picture,
            is_text: false,
        });
        assert_eq!(sync.wait(begin, shown, &heard), Duration::ZERO);
        // Its sound is heard in 150 ms.
        heard.set(begin, RtpTimestamp(u32::MAX - 50).plus(96_000 - 7_200));
        assert_eq!(sync.wait(begin, shown, &heard), Duration::from_millis(150));
        let later = begin + Duration::from_millis(100);
        let wait = sync.wait(later, shown, &heard).as_secs_f64();
        assert!((wait - 0.05).abs() < 1e-6, "{wait}");
        let late = begin + Duration::from_millis(200);
        assert_eq!(sync.wait(late, shown, &heard), Duration::ZERO);
        let lead = sync.lead(late, shown, &heard).unwrap();
        assert!((lead + 0.05).abs() < 1e-6, "{lead}");
    }

    #[test]
    fn nobody_waits_for_a_sound_that_is_far_away_or_has_stopped() {
        let begin = start();
        let mut sync = LipSync::default();
        sync.learn(Moment {
            sound: RtpTimestamp(0),
            picture: RtpTimestamp(0),
            is_text: false,
        });
        let mut heard = SoundClock::default();
        heard.set(begin, RtpTimestamp(0));
        let in_500 = RtpTimestamp(45_000);
        assert_eq!(sync.wait(begin, in_500, &heard), Duration::from_millis(500));
        assert_eq!(
            sync.wait(begin, RtpTimestamp(90_000), &heard),
            Duration::ZERO
        );
        let stopped = begin + Duration::from_secs(1);
        assert_eq!(sync.lead(stopped, RtpTimestamp(90_000), &heard), None);
        assert_eq!(heard.sample_at(stopped), None);
        let half = begin + Duration::from_millis(500);
        assert_eq!(heard.sample_at(half), Some(RtpTimestamp(24_000)));
    }
}
