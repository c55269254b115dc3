//! What the voice may cost, from the estimate of its path.
//!
//! Where the line carries what the person chose, that is what is sent. Where it does not, the codec gets less and
//! its frames get longer, since short ones cost more in headers than in sound.

use std::time::{Duration, Instant};

use ahoy_media::{
    audio::opus::{EncoderConfig, FrameDuration},
    rate::{AudioBudget, Bitrate},
};

/// What else a call takes of a path, in bits per second: 25 reports about the other direction per second, of some 40
/// bytes in a packet of sound, and the checks of this way and of the other.
const REPORTS: Bitrate = Bitrate(15_000);

/// Less than this change is none: a new packet size is worth it only for more.
const LEAST_CHANGE: f64 = 0.06;

/// More is sent only after there was room for it so long, and then by no more than the step: what one step too many
/// puts into a queue is gone before the next.
const RAISE_AFTER: Duration = Duration::from_secs(3);
const RAISE_STEP: f64 = 1.2;

/// Settings of the voice that follow an estimate.
#[derive(Debug)]
pub(super) struct VoiceRate {
    chosen: EncoderConfig,
    /// What is sent on the wire now.
    now: Bitrate,
    /// What the path was last found to carry, where that was less than what was chosen then.
    known: Option<Bitrate>,
    room_since: Option<Instant>,
    /// There is room for the headers of as many packets again.
    has_room: bool,
    /// They are sent.
    apart: bool,
}

impl VoiceRate {
    /// A voice with the settings that the person chose.
    pub(super) fn new(chosen: EncoderConfig) -> Self {
        Self {
            chosen,
            now: on_wire(chosen.bitrate, chosen.frame),
            known: None,
            room_since: None,
            has_room: false,
            apart: false,
        }
    }

    /// The person chose other settings. What is known of the path holds on; where it set no limit, nothing is known of
    /// it yet.
    pub(super) fn choose(&mut self, chosen: EncoderConfig) -> (Bitrate, FrameDuration) {
        let most = on_wire(chosen.bitrate, chosen.frame);
        self.chosen = chosen;
        self.take(self.known.map_or(most, |known| known.min(most)))
    }

    /// What the voice and the reports take of the wire now.
    pub(super) fn on_wire(&self) -> Bitrate {
        let apart = if self.apart {
            headers(self.chosen.frame).bps()
        } else {
            0
        };
        Bitrate(self.now.bps() + REPORTS.bps() + apart)
    }

    /// Whether the line carries what was chosen and the headers of as many packets again, as far as is known. Three
    /// times as much begins it: what lies between is nobody's.
    pub(super) fn has_room(&self) -> bool {
        self.has_room
    }

    /// Whether they are sent.
    pub(super) fn set_apart(&mut self, apart: bool) {
        self.apart = apart;
    }

    /// Other bitrate and frames, when `capacity_bps` on the wire calls for them.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        capacity_bps: u64,
    ) -> Option<(Bitrate, FrameDuration)> {
        let most = on_wire(self.chosen.bitrate, self.chosen.frame);
        let capacity = Bitrate(u32::try_from(capacity_bps).unwrap_or(u32::MAX));
        let spare = capacity.saturating_sub(REPORTS).saturating_sub(most).bps();
        let times = if self.has_room { 1 } else { 3 };
        self.has_room = spare >= headers(self.chosen.frame).bps() * times;
        let room = capacity.saturating_sub(REPORTS).min(most);
        let (is, may) = (f64::from(self.now.bps()), f64::from(room.bps()));
        if may < is * (1.0 - LEAST_CHANGE) {
            self.room_since = None;
            self.known = Some(room);
            return Some(self.take(room));
        }
        let worth_it = may > is * (1.0 + LEAST_CHANGE) || room == most && self.now != most;
        if !worth_it {
            self.room_since = None;
            return None;
        }
        let since = *self.room_since.get_or_insert(now);
        if now.saturating_duration_since(since) < RAISE_AFTER {
            return None;
        }
        self.room_since = None;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is positive"
        )]
        let step = Bitrate((is * RAISE_STEP) as u32);
        let room = room.min(step);
        self.known = (room < most).then_some(room);
        Some(self.take(room))
    }

    fn take(&mut self, room: Bitrate) -> (Bitrate, FrameDuration) {
        let most = on_wire(self.chosen.bitrate, self.chosen.frame);
        let settings = if room >= most {
            self.chosen
        } else {
            self.within(room)
        };
        self.now = room;
        (settings.bitrate, settings.frame)
    }

    fn within(&self, room: Bitrate) -> EncoderConfig {
        let budget = AudioBudget {
            target: room,
            overhead_bytes: AudioBudget::TYPICAL_OVERHEAD_BYTES,
            low_delay: self.chosen.frame == FrameDuration::Ms10,
        };
        let settings = budget.settings(self.chosen);
        // Never shorter frames than the person chose.
        let frame = if settings.frame.duration() < self.chosen.frame.duration() {
            self.chosen.frame
        } else {
            settings.frame
        };
        EncoderConfig {
            bitrate: budget
                .codec_bitrate(frame)
                .clamp(ahoy_media::rate::MIN_AUDIO_BITRATE, self.chosen.bitrate),
            frame,
            ..self.chosen
        }
    }
}

/// What a voice costs on the wire.
fn on_wire(codec: Bitrate, frame: FrameDuration) -> Bitrate {
    Bitrate(codec.bps().saturating_add(headers(frame).bps()))
}

/// What the headers of its packets cost.
fn headers(frame: FrameDuration) -> Bitrate {
    Bitrate::of_packets(AudioBudget::TYPICAL_OVERHEAD_BYTES, frame.duration())
}

#[cfg(test)]
mod tests {
    use ahoy_media::audio::opus::Content;
    use ahoy_transport::runtime::TokioRuntime;

    use super::*;

    fn start() -> Instant {
        quinn::Runtime::now(&TokioRuntime)
    }

    #[test]
    fn what_fits_is_left_alone() {
        let mut rate = VoiceRate::new(EncoderConfig::default());
        for second in 0..10 {
            let now = start() + Duration::from_secs(second);
            assert_eq!(rate.follow(now, 300_000), None);
            assert_eq!(rate.follow(now, 77_000), None);
        }
    }

    #[test]
    fn a_narrow_line_gets_longer_frames_at_once_and_short_ones_step_by_step() {
        let mut rate = VoiceRate::new(EncoderConfig::default());
        let begin = start();
        let (bitrate, frame) = rate.follow(begin, 50_000).unwrap();
        assert_eq!(frame, FrameDuration::Ms40);
        assert!(bitrate >= Bitrate::kbps(16), "{bitrate:?}");
        let (bitrate, frame) = rate.follow(begin, 30_000).unwrap();
        assert_eq!(
            (bitrate, frame),
            (ahoy_media::rate::MIN_AUDIO_BITRATE, FrameDuration::Ms60)
        );
        let mut raises = Vec::new();
        for tenth in 0..400 {
            let now = begin + Duration::from_millis(100 * tenth);
            raises.extend(rate.follow(now, 300_000).map(|taken| (tenth, taken)));
        }
        assert!(raises.len() > 3, "{raises:?}");
        assert!(raises[0].0 >= 30, "{raises:?}");
        let chosen = EncoderConfig::default();
        let last = raises.last().unwrap().1;
        assert_eq!(last, (chosen.bitrate, chosen.frame));
        assert!(raises.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 30));
    }

    #[test]
    fn long_frames_that_were_chosen_stay_long() {
        let chosen = EncoderConfig {
            frame: FrameDuration::Ms60,
            ..EncoderConfig::default()
        };
        let mut rate = VoiceRate::new(chosen);
        let (bitrate, frame) = rate.follow(start(), 50_000).unwrap();
        assert_eq!(frame, FrameDuration::Ms60);
        assert!(bitrate < chosen.bitrate);
    }

    #[test]
    fn another_choice_keeps_to_what_is_known_of_the_path() {
        let music = EncoderConfig::of(Content::Music { stereo: true });
        let voice = EncoderConfig::default();
        let mut rate = VoiceRate::new(voice);
        assert_eq!(rate.choose(music), (music.bitrate, music.frame));
        let (narrow, _frame) = rate.follow(start(), 80_000).unwrap();
        assert!(narrow < Bitrate::kbps(40), "{narrow:?}");
        // A voice has room there, and music has no more than before.
        let (again, frame) = rate.choose(voice);
        assert!(again >= Bitrate::kbps(30), "{again:?}");
        assert_eq!(frame, voice.frame);
        let (again, _frame) = rate.choose(music);
        assert!(again < Bitrate::kbps(50), "{again:?}");
    }

    #[test]
    fn a_small_change_is_none() {
        let mut rate = VoiceRate::new(EncoderConfig::default());
        assert!(rate.follow(start(), 60_000).is_some());
        assert_eq!(rate.follow(start(), 58_500), None);
        assert_eq!(rate.follow(start(), 61_000), None);
    }
}
