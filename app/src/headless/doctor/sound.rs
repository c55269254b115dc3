//! Microphone and speaker.

use super::findings::{Finding, Group};

#[cfg(feature = "devices")]
pub(super) fn examine() -> Vec<Finding> {
    use ahoy_media::audio::device::{AudioSystem, Direction, list};

    let devices = match list(AudioSystem::Best) {
        Ok(devices) => devices,
        Err(error) => {
            return vec![Finding::fail(
                Group::Sound,
                "sound",
                error.to_string(),
                "Neither microphone nor speaker can be used.",
                "Start the sound server, or use files: --audio-in and --audio-out.",
            )];
        }
    };
    [
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
    ]
    .into_iter()
    .map(|(direction, what, without, advice)| {
        let real = devices
            .iter()
            .filter(|device| device.direction == direction && !device.is_pseudo);
        let first = real.clone().next();
        match real.clone().find(|device| device.is_default).or(first) {
            Some(device) => {
                let found = match real.count() {
                    1 => device.name.clone(),
                    many => format!("{}, and {} more", device.name, many - 1),
                };
                Finding::ok(Group::Sound, what, found, "")
            }
            None => Finding::fail(Group::Sound, what, "none found", without, advice),
        }
    })
    .collect()
}

#[cfg(not(feature = "devices"))]
pub(super) fn examine() -> Vec<Finding> {
    vec![Finding::ok(
        Group::Sound,
        "sound",
        "by files alone",
        "This build has no sound devices; --audio-in and --audio-out name files.",
    )]
}
