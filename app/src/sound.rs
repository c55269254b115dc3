//! What a person chooses about sound: by which devices, and what is done to their voice.

#[cfg(feature = "voice")]
use ahoy_media::audio::voice::{EchoConfig, VoiceConfig};

/// Everything that is chosen about sound. What is in force: the settings, and what the command line says beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoundChoices {
    /// The microphone, and no other, by its id; the system's default where none is named.
    pub microphone: Option<String>,
    /// The same for the speaker.
    pub speaker: Option<String>,
    /// The same for the speaker by which calls ring.
    pub ring_speaker: Option<String>,
    /// See [`SoundSwitch::EchoCancellation`].
    pub echo_cancellation: bool,
    /// See [`SoundSwitch::NoiseSuppression`].
    pub noise_suppression: bool,
    /// See [`SoundSwitch::GainControl`].
    pub gain_control: bool,
    /// See [`SoundSwitch::HighPass`].
    pub high_pass: bool,
    /// See [`SoundSwitch::ClickSuppression`].
    pub click_suppression: bool,
    /// See [`SoundSwitch::VoiceGate`].
    pub voice_gate: bool,
    /// See [`SoundSwitch::PushToTalk`].
    pub push_to_talk: bool,
    /// See [`SoundSwitch::Music`].
    pub music: bool,
    /// See [`SoundSwitch::ReconnectTone`].
    pub reconnect_tone: bool,
}

impl Default for SoundChoices {
    fn default() -> Self {
        Self {
            microphone: None,
            speaker: None,
            ring_speaker: None,
            echo_cancellation: true,
            noise_suppression: true,
            gain_control: true,
            high_pass: true,
            click_suppression: false,
            voice_gate: false,
            push_to_talk: false,
            music: false,
            reconnect_tone: true,
        }
    }
}

/// Something that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoundSwitch {
    /// Takes out of the microphone's sound what comes from the speaker.
    EchoCancellation,
    /// Takes steady noise out of it.
    NoiseSuppression,
    /// Brings a quiet or loud voice to a usual level.
    GainControl,
    /// Takes hum and rumble out of it.
    HighPass,
    /// Softens keys that are struck while nobody speaks.
    ClickSuppression,
    /// Sends silence while nobody speaks.
    VoiceGate,
    /// Calls begin with the microphone muted.
    PushToTalk,
    /// Sends sound as it is, in two channels where there are two, whatever else is set.
    Music,
    /// Plays a soft sound while the connection of a call is gone.
    ReconnectTone,
}

/// The place of a device in a person's choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoundDevice {
    /// What they speak into.
    Microphone,
    /// What they hear others by.
    Speaker,
    /// What calls ring by.
    RingSpeaker,
}

/// One choice that is made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SoundChange {
    /// Another device, by its id; the system's default without one.
    Device(SoundDevice, Option<String>),
    /// Something is on from now on, or off.
    Switch(SoundSwitch, bool),
}

impl SoundChoices {
    /// The chosen device of this place.
    #[must_use]
    pub fn device(&self, place: SoundDevice) -> Option<&String> {
        match place {
            SoundDevice::Microphone => self.microphone.as_ref(),
            SoundDevice::Speaker => self.speaker.as_ref(),
            SoundDevice::RingSpeaker => self.ring_speaker.as_ref(),
        }
    }

    /// Whether this is on.
    #[must_use]
    pub fn is_on(&self, switch: SoundSwitch) -> bool {
        match switch {
            SoundSwitch::EchoCancellation => self.echo_cancellation,
            SoundSwitch::NoiseSuppression => self.noise_suppression,
            SoundSwitch::GainControl => self.gain_control,
            SoundSwitch::HighPass => self.high_pass,
            SoundSwitch::ClickSuppression => self.click_suppression,
            SoundSwitch::VoiceGate => self.voice_gate,
            SoundSwitch::PushToTalk => self.push_to_talk,
            SoundSwitch::Music => self.music,
            SoundSwitch::ReconnectTone => self.reconnect_tone,
        }
    }

    /// Makes the choice.
    pub fn apply(&mut self, change: &SoundChange) {
        match change {
            SoundChange::Device(place, id) => {
                let device = match place {
                    SoundDevice::Microphone => &mut self.microphone,
                    SoundDevice::Speaker => &mut self.speaker,
                    SoundDevice::RingSpeaker => &mut self.ring_speaker,
                };
                device.clone_from(id);
            }
            SoundChange::Switch(switch, on) => {
                *match switch {
                    SoundSwitch::EchoCancellation => &mut self.echo_cancellation,
                    SoundSwitch::NoiseSuppression => &mut self.noise_suppression,
                    SoundSwitch::GainControl => &mut self.gain_control,
                    SoundSwitch::HighPass => &mut self.high_pass,
                    SoundSwitch::ClickSuppression => &mut self.click_suppression,
                    SoundSwitch::VoiceGate => &mut self.voice_gate,
                    SoundSwitch::PushToTalk => &mut self.push_to_talk,
                    SoundSwitch::Music => &mut self.music,
                    SoundSwitch::ReconnectTone => &mut self.reconnect_tone,
                } = *on;
            }
        }
    }

    /// What is done to the microphone's sound, the echo canceller working like `echo`.
    #[cfg(feature = "voice")]
    #[must_use]
    pub fn voice(&self, echo: EchoConfig) -> VoiceConfig {
        if self.music {
            return VoiceConfig {
                echo,
                ..VoiceConfig::OFF
            };
        }
        VoiceConfig {
            high_pass: self.high_pass,
            echo_cancellation: self.echo_cancellation,
            noise_suppression: self.noise_suppression,
            gain_control: self.gain_control,
            click_suppression: self.click_suppression,
            voice_gate: self.voice_gate,
            leave_clean_alone: true,
            echo,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_changes_one_thing() {
        use SoundSwitch::*;
        let all = [
            EchoCancellation,
            NoiseSuppression,
            GainControl,
            HighPass,
            ClickSuppression,
            VoiceGate,
            PushToTalk,
            Music,
            ReconnectTone,
        ];
        for switch in all {
            let before = SoundChoices::default();
            let mut after = before.clone();
            after.apply(&SoundChange::Switch(switch, !before.is_on(switch)));
            let changed: Vec<_> = all
                .into_iter()
                .filter(|which| before.is_on(*which) != after.is_on(*which))
                .collect();
            assert_eq!(changed, [switch]);
        }
        let places = [
            SoundDevice::Microphone,
            SoundDevice::Speaker,
            SoundDevice::RingSpeaker,
        ];
        for place in places {
            let mut choices = SoundChoices::default();
            choices.apply(&SoundChange::Device(place, Some("x".into())));
            let chosen = places.map(|place| choices.device(place).is_some());
            assert_eq!(chosen, places.map(|which| which == place));
            choices.apply(&SoundChange::Device(place, None));
            assert_eq!(choices, SoundChoices::default());
        }
    }
}
