//! Microphone and speaker.

use serde::Serialize;

use super::findings::{Finding, Group};
use crate::settings::Settings;

/// One device, as settings refer to it.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    id: String,
    name: String,
    /// `microphone` or `speaker`.
    kind: &'static str,
    /// The system uses it where nothing else is said.
    is_default: bool,
}

/// What was heard when somebody spoke.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    /// The id of the microphone that listened.
    microphone: String,
    /// The id of the speaker that played it.
    speaker: String,
    seconds: u64,
    rms_dbfs: f32,
    peak_dbfs: f32,
    /// Too faint for a voice.
    faint: bool,
}

#[cfg(feature = "devices")]
pub(super) use self::devices::{examine, try_out};

#[cfg(feature = "devices")]
mod devices {
    use std::time::Duration;

    use ahoy_media::audio::device::{
        AudioSystem, DeviceError, DeviceInfo, Direction, TrialNews, list, record_and_play,
    };

    use super::{Device, Finding, Group, Settings, Trial};
    use crate::engine::media::device_choice;

    /// How long it listens.
    const LISTEN: Duration = Duration::from_secs(3);

    /// Both directions: what is missing without a device, and what to do about it.
    const DIRECTIONS: [(Direction, &str, &str, &str); 2] = [
        (
            Direction::Input,
            "microphone",
            "Others would not hear you.",
            "Plug one in, or speak from a file: --audio-in FILE.wav",
        ),
        (
            Direction::Output,
            "speaker",
            "You would hear nobody.",
            "Plug one in, or write to a file: --audio-out FILE.wav",
        ),
    ];

    /// Whether there is something to speak into and to hear by, and what of it the settings choose.
    pub(in super::super) fn examine(settings: &Settings) -> (Vec<Device>, Vec<Finding>) {
        match list(AudioSystem::Best) {
            Ok(devices) => judge(&devices, settings),
            Err(error) => (Vec::new(), vec![no_system(&error)]),
        }
    }

    fn no_system(error: &DeviceError) -> Finding {
        Finding::fail(
            Group::Sound,
            "sound",
            error.to_string(),
            "Neither microphone nor speaker can be used.",
            "Start the sound server, or use files: --audio-in and --audio-out.",
        )
    }

    fn judge(devices: &[DeviceInfo], settings: &Settings) -> (Vec<Device>, Vec<Finding>) {
        let mut findings = Vec::new();
        for (direction, what, without, advice) in DIRECTIONS {
            let mut there: Vec<&DeviceInfo> = devices
                .iter()
                .filter(|device| device.direction == direction && !device.is_pseudo)
                .collect();
            let chosen = match direction {
                Direction::Input => settings.microphone.as_ref(),
                Direction::Output => settings.speaker.as_ref(),
            };
            let is_chosen = |device: &DeviceInfo| chosen == Some(&device.id);
            // What a call would use comes first.
            there.sort_by_key(|device| (!is_chosen(device), !device.is_default));
            if there.is_empty() {
                findings.push(Finding::fail(
                    Group::Sound,
                    what,
                    "none found",
                    without,
                    advice,
                ));
                continue;
            }
            if let Some(id) = chosen
                && !there.iter().any(|device| is_chosen(device))
            {
                let setting = format!("{what} in settings.toml");
                findings.push(Finding::fail(
                    Group::Sound,
                    what,
                    format!("{id}, chosen by {setting}, is not there"),
                    format!("Nothing takes its place. {without}"),
                    format!("Plug it in, or name one of the following as {setting}, or none."),
                ));
            }
            findings.extend(there.iter().map(|device| {
                let mut found = device.name.clone();
                if device.is_default {
                    found.push_str(", the system's default");
                }
                if is_chosen(device) {
                    found.push_str(", chosen in the settings");
                }
                Finding::ok(Group::Sound, what, found, &device.id)
            }));
        }
        findings.extend(missing_ring_speaker(devices, settings));
        let devices = devices
            .iter()
            .filter(|device| !device.is_pseudo)
            .map(|device| Device {
                id: device.id.clone(),
                name: device.name.clone(),
                kind: match device.direction {
                    Direction::Input => "microphone",
                    Direction::Output => "speaker",
                },
                is_default: device.is_default,
            });
        (devices.collect(), findings)
    }

    fn missing_ring_speaker(devices: &[DeviceInfo], settings: &Settings) -> Option<Finding> {
        let id = settings.ring_speaker.as_ref()?;
        let there = devices
            .iter()
            .any(|device| device.direction == Direction::Output && device.id == *id);
        (!there).then(|| {
            Finding::note(
                Group::Sound,
                "ringing",
                format!("{id}, chosen by ring_speaker in settings.toml, is not there"),
                "Calls come in without a sound.",
            )
            .advise("Plug it in, or choose another speaker, or none for the system's default.")
        })
    }

    /// Listens, and plays what it heard, by the devices that a call would use. Blocks for twice that time. `tell` is
    /// told what to do.
    pub(in super::super) fn try_out(
        settings: &Settings,
        tell: impl Fn(&str),
    ) -> (Option<Trial>, Finding) {
        let news = |news| match news {
            TrialNews::Recording(device) => tell(&format!(
                "Speak: {} listens for {} seconds.",
                device.name,
                LISTEN.as_secs()
            )),
            TrialNews::Playing(device) => tell(&format!("{} plays what was heard.", device.name)),
            TrialNews::Level { .. } => {}
        };
        let tried = record_and_play(
            AudioSystem::Best,
            device_choice(settings.microphone.as_ref()),
            device_choice(settings.speaker.as_ref()),
            LISTEN,
            news,
        );
        let trial = match tried {
            Ok(trial) => trial,
            Err(error) => {
                let finding = Finding::fail(
                    Group::Sound,
                    "trial",
                    error.to_string(),
                    "In a call you would not be heard, or hear nobody.",
                    "Choose another device in settings.toml; `ahoy doctor` names them.",
                );
                return (None, finding);
            }
        };
        let (rms_dbfs, peak_dbfs) = (trial.level.rms_dbfs, trial.level.peak_dbfs);
        let level = format!("{rms_dbfs:.0} dBFS, {peak_dbfs:.0} dBFS at its loudest");
        let finding = if trial.is_faint() {
            Finding::fail(
                Group::Sound,
                "trial",
                format!("next to nothing: {level}"),
                "Others would not hear you.",
                "Is the microphone muted, or another one meant? `ahoy doctor` names them.",
            )
        } else {
            Finding::ok(
                Group::Sound,
                "trial",
                level,
                "If you did not hear yourself now, choose another speaker.",
            )
        };
        let trial = Trial {
            faint: trial.is_faint(),
            microphone: trial.microphone.id,
            speaker: trial.speaker.id,
            seconds: LISTEN.as_secs(),
            rms_dbfs,
            peak_dbfs,
        };
        (Some(trial), finding)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::headless::doctor::findings::Standing;

        fn device(id: &str, direction: Direction, is_default: bool) -> DeviceInfo {
            DeviceInfo {
                id: id.into(),
                name: format!("the {id}"),
                direction,
                is_default,
                is_pseudo: id.ends_with("monitor"),
            }
        }

        #[test]
        fn each_device_is_named_with_its_id_and_the_one_in_use_first() {
            let devices = [
                device("monitor", Direction::Input, false),
                device("camera", Direction::Input, true),
                device("headset", Direction::Input, false),
                device("box", Direction::Output, true),
            ];
            let settings = Settings {
                microphone: Some("headset".into()),
                ring_speaker: Some("box".into()),
                ..Settings::default()
            };
            let (told, findings) = judge(&devices, &settings);
            let ids: Vec<&str> = told.iter().map(|device| device.id.as_str()).collect();
            assert_eq!(ids, ["camera", "headset", "box"]);
            let lines: Vec<(&str, &str, &str)> = findings
                .iter()
                .map(|one| (one.what(), one.found.as_str(), one.meaning.as_str()))
                .collect();
            assert_eq!(
                lines,
                [
                    (
                        "microphone",
                        "the headset, chosen in the settings",
                        "headset"
                    ),
                    ("microphone", "the camera, the system's default", "camera"),
                    ("speaker", "the box, the system's default", "box"),
                ]
            );
            assert!(findings.iter().all(|one| one.standing == Standing::Ok));
        }

        #[test]
        fn what_the_settings_choose_and_is_not_there_is_told() {
            let devices = [
                device("camera", Direction::Input, true),
                device("box", Direction::Output, true),
            ];
            let settings = Settings {
                microphone: Some("headset".into()),
                speaker: Some("camera".into()),
                ring_speaker: Some("horn".into()),
                ..Settings::default()
            };
            let (_told, findings) = judge(&devices, &settings);
            let standings: Vec<(&str, Standing)> = findings
                .iter()
                .map(|one| (one.what(), one.standing))
                .collect();
            assert_eq!(
                standings,
                [
                    ("microphone", Standing::Fail),
                    ("microphone", Standing::Ok),
                    ("speaker", Standing::Fail),
                    ("speaker", Standing::Ok),
                    ("ringing", Standing::Note),
                ]
            );
        }
    }
}

#[cfg(not(feature = "devices"))]
pub(super) fn examine(_settings: &Settings) -> (Vec<Device>, Vec<Finding>) {
    let files = Finding::ok(
        Group::Sound,
        "sound",
        "by files alone",
        "This build has no sound devices; --audio-in and --audio-out name files.",
    );
    (Vec::new(), vec![files])
}

#[cfg(not(feature = "devices"))]
pub(super) fn try_out(_settings: &Settings, _tell: impl Fn(&str)) -> (Option<Trial>, Finding) {
    let none = Finding::fail(
        Group::Sound,
        "trial",
        "this build has no sound devices",
        "It calls by files alone: --audio-in and --audio-out.",
        "Build ahoy with its default features.",
    );
    (None, none)
}
