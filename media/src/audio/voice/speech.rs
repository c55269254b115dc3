//! Whether somebody speaks: whatever stands out of the noise.

/// Speech stands out of the noise by this, and is no quieter than [`QUIETEST_DBFS`].
const ABOVE_NOISE_DB: f32 = 10.0;
const QUIETEST_DBFS: f32 = -62.0;

/// The noise before anything was heard.
const FIRST_NOISE_DBFS: f32 = -50.0;

/// How fast the noise may seem to rise, per block; it falls at once, when three blocks in a row are so quiet. One alone may
/// be what a microphone that just opened has of its first block.
const NOISE_RISE_DB: f32 = 0.03;

/// Less makes no difference to what counts as speech, and from no sound at all it would be a long way up.
const LEAST_NOISE_DBFS: f32 = QUIETEST_DBFS - ABOVE_NOISE_DB;

#[derive(Debug)]
pub(super) struct SpeechMeter {
    noise_dbfs: f32,
    /// Of the two blocks before.
    before_dbfs: [f32; 2],
}

impl SpeechMeter {
    pub(super) fn new() -> Self {
        Self {
            noise_dbfs: FIRST_NOISE_DBFS,
            before_dbfs: [FIRST_NOISE_DBFS; 2],
        }
    }

    /// The level of what is heard when nobody speaks.
    pub(super) fn noise_dbfs(&self) -> f32 {
        self.noise_dbfs
    }

    /// Takes the level of 10 ms and tells whether there is speech in them.
    pub(super) fn look(&mut self, level_dbfs: f32) -> bool {
        let [older, newer] = self.before_dbfs;
        self.before_dbfs = [newer, level_dbfs];
        let lasting_dbfs = level_dbfs.max(older).max(newer);
        let risen_dbfs = self.noise_dbfs + NOISE_RISE_DB;
        self.noise_dbfs = lasting_dbfs.min(risen_dbfs).max(LEAST_NOISE_DBFS);
        level_dbfs > self.noise_dbfs + ABOVE_NOISE_DB && level_dbfs > QUIETEST_DBFS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microphone_that_just_opened_does_not_speak() {
        let mut meter = SpeechMeter::new();
        for level in [-200.0, -200.0, -200.0, -90.0, -66.0] {
            assert!(!meter.look(level));
        }
        // It may be taken for a voice for some seconds, as long as the noise seems to rise, and no longer.
        let spoken = (0..1000).filter(|_| meter.look(-55.0)).count();
        assert!(spoken < 300, "{spoken} blocks");
    }

    #[test]
    fn one_quiet_block_among_others_is_not_what_the_room_sounds_like() {
        let mut meter = SpeechMeter::new();
        for level in [-53.0, -53.0, -90.0, -53.0] {
            assert!(!meter.look(level));
        }
        assert!(meter.look(-40.0), "a voice stands out of it");
        for _ in 0..3 {
            meter.look(-70.0);
        }
        assert!(meter.noise_dbfs() <= -70.0, "and a room that is quiet is");
    }
}
