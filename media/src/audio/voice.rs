//! What becomes of the microphone's sound before it is sent: the speaker's echo, noise and hum are taken out of it, and
//! it is brought to a level.
//!
//! ```text
//! microphone -> high-pass -> echo filter -> suppressor (residual echo, noise) -> clicks -> gain -> gate -> codec
//!                                ^
//!     speaker <- mix ------------+  what was handed to the speaker, by `reference`
//! ```
//!
//! Each stage has a switch; those against clicks and for the gate are off unless somebody wants them. Without any the
//! sound passes through as it is, without delay; the echo filter costs 2 ms, the suppressor 10 ms, that against clicks
//! 2.5 ms. What is clean is left as it is: where there is no echo, with a headset, the echo filter steps aside by itself,
//! and so does the high-pass if there is no rumble; noise is taken out the less the further it is below the voice.
//!
//! A [`VoiceProcessor`] takes blocks and has neither clock nor thread. [`Chain`] is ours; the tests hold WebRTC's beside
//! it.

mod alignment;
mod bands;
mod chain;
mod clicks;
mod echo_filter;
mod gain;
mod gate;
mod high_pass;
mod least;
mod presence;
mod speech;
mod suppressor;

use std::fmt;

use super::Block;

pub use self::{chain::Chain, presence::EchoState};

/// Which stages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoiceConfig {
    /// Takes out what lies below speech.
    pub high_pass: bool,
    /// Takes out what comes from the speaker.
    pub echo_cancellation: bool,
    /// Takes out steady noise.
    pub noise_suppression: bool,
    /// Brings a quiet or loud voice to a usual level.
    pub gain_control: bool,
    /// Takes the edge off keys that are struck while nobody speaks.
    pub click_suppression: bool,
    /// Sends silence while nobody speaks.
    pub voice_gate: bool,
    /// Where there is no echo, the high-pass and what is against noise do less, down to nothing, the cleaner the sound is
    /// already.
    pub leave_clean_alone: bool,
    /// How the echo is taken out.
    pub echo: EchoConfig,
}

impl VoiceConfig {
    /// Everything off: for music, and for files.
    pub const OFF: Self = Self {
        high_pass: false,
        echo_cancellation: false,
        noise_suppression: false,
        gain_control: false,
        click_suppression: false,
        voice_gate: false,
        leave_clean_alone: true,
        echo: EchoConfig {
            residual_suppression: true,
            absence_detection: true,
            room_change_detection: true,
            drift_correction: true,
        },
    };

    /// Whether nothing is done at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        let Self {
            high_pass,
            echo_cancellation,
            noise_suppression,
            gain_control,
            click_suppression,
            voice_gate,
            leave_clean_alone: _,
            echo: _,
        } = *self;
        !(high_pass
            || echo_cancellation
            || noise_suppression
            || gain_control
            || click_suppression
            || voice_gate)
    }
}

impl Default for VoiceConfig {
    fn default() -> Self {
        Self {
            high_pass: true,
            echo_cancellation: true,
            noise_suppression: true,
            gain_control: true,
            ..Self::OFF
        }
    }
}

/// Switches within the echo canceller, for measuring what each is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoConfig {
    /// Suppresses what the filter leaves.
    pub residual_suppression: bool,
    /// Steps aside where there is no echo.
    pub absence_detection: bool,
    /// Begins anew when the echo comes by another way.
    pub room_change_detection: bool,
    /// Follows the difference of the devices' clocks.
    pub drift_correction: bool,
}

/// What was done to the voice so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VoiceStats {
    /// Blocks processed.
    pub blocks: u64,
    /// Whether there is an echo.
    pub echo: EchoState,
    /// By how much the echo filter made the microphone quieter while the far side talked, in decibels; averaged over
    /// seconds.
    pub cancelled_db: f32,
    /// Times that the echo filter began anew because the echo came by another way.
    pub room_changes: u64,
    /// How much faster than the microphone's the speaker's clock seems to run, beyond what the workers correct already,
    /// in parts per million.
    pub drift_ppm: f64,
    /// Whether the high-pass is in use: there is rumble, or may be.
    pub high_pass: bool,
    /// Level of the steady noise, in dBFS, where that is looked for.
    pub noise_dbfs: Option<f32>,
    /// By how much the voice is turned up now, in decibels.
    pub gain_db: f32,
    /// Keys that were heard and softened.
    pub clicks: u64,
    /// Blocks of which nothing was sent, because nobody spoke.
    pub gated_blocks: u64,
}

/// Makes a voice fit to be sent.
pub trait VoiceProcessor: Send + fmt::Debug {
    /// Takes the next 10 ms that were handed to the speaker; once before each [`Self::capture`]. The way from there to
    /// the microphone gets shorter meanwhile by this much of the time that passes, in parts per million, as far as
    /// that is our own doing.
    fn render(&mut self, block: &Block, shortening_ppm: f64);

    /// Processes the next 10 ms of the microphone in place. They may come out delayed.
    fn capture(&mut self, block: &mut Block);

    /// The way from speaker to microphone may have another length from here on: a ring ran empty, a device was opened.
    fn note_jump(&mut self);

    /// From the next block on these are the stages. One that stays keeps what it has learnt.
    fn configure(&mut self, config: VoiceConfig);

    /// Whether the sound passes through as it is, without delay.
    fn is_off(&self) -> bool {
        false
    }

    /// What was done so far.
    fn stats(&self) -> VoiceStats;
}
