//! Whether somebody speaks: whatever stands out of the noise.

/// Speech stands out of the noise by this, and is no quieter than [`QUIETEST_DBFS`].
const ABOVE_NOISE_DB: f32 = 10.0;
const QUIETEST_DBFS: f32 = -62.0;

/// The noise before anything was heard.
const FIRST_NOISE_DBFS: f32 = -50.0;

/// How fast the noise may seem to rise, per block; it falls at once.
const NOISE_RISE_DB: f32 = 0.03;

#[derive(Debug)]
pub(super) struct SpeechMeter {
    noise_dbfs: f32,
}

impl SpeechMeter {
    pub(super) fn new() -> Self {
        Self {
            noise_dbfs: FIRST_NOISE_DBFS,
        }
    }

    /// The level of what is heard when nobody speaks.
    pub(super) fn noise_dbfs(&self) -> f32 {
        self.noise_dbfs
    }

    /// Takes the level of 10 ms and tells whether there is speech in them.
    pub(super) fn look(&mut self, level_dbfs: f32) -> bool {
        self.noise_dbfs = level_dbfs.min(self.noise_dbfs + NOISE_RISE_DB);
        level_dbfs > self.noise_dbfs + ABOVE_NOISE_DB && level_dbfs > QUIETEST_DBFS
    }
}
