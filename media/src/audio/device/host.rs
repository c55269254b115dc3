//! Which sound system, which devices, and what to ask them for.

use std::{sync::mpsc, time::Duration};

use cpal::{
    BufferSize, ErrorKind, SampleFormat, StreamConfig,
    traits::{DeviceTrait, HostTrait},
};

use super::{
    AudioSystem, CALLBACK_SAMPLES, DeviceChoice, DeviceError, DeviceInfo, Direction,
    SERVER_MICROPHONE_SAMPLES,
};
use crate::audio::{SAMPLE_RATE_HZ, resample::RATES_HZ};

/// A sound server that needs longer to tell its devices has other troubles.
const LIST_TIMEOUT: Duration = Duration::from_secs(4);

const PULSE: &str = "PulseAudio";
const ALSA: &str = "ALSA";

/// ALSA names dozens of ways to each card, and converters that are no devices. These are the ones to offer.
const ALSA_DEVICES: [&str; 2] = ["default", "plughw:"];

/// The system's devices, without its constructs. Takes a moment, four seconds at the worst: not for a window's thread.
///
/// # Errors
/// The sound system fails or does not answer.
pub fn list(system: AudioSystem) -> Result<Vec<DeviceInfo>, DeviceError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // A hung sound server keeps the thread, not the caller.
    std::thread::Builder::new()
        .name("ahoy-audio-list".into())
        .spawn(move || {
            let devices = open(system).and_then(|host| list_both(&host));
            // The caller may have given up.
            sender.send(devices).unwrap_or(());
        })
        .map_err(|error| DeviceError::System(error.to_string()))?;
    let mut devices = match receiver.recv_timeout(LIST_TIMEOUT) {
        Ok(devices) => devices?,
        Err(mpsc::RecvTimeoutError::Timeout) => return Err(DeviceError::Hung),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            return Err(DeviceError::System("its listing failed".into()));
        }
    };
    devices.retain(|device| !device.is_pseudo);
    Ok(devices)
}

/// Connects to the sound system. May hang.
pub(super) fn open(system: AudioSystem) -> Result<cpal::Host, DeviceError> {
    let hosts = cpal::available_hosts();
    let find = |name: &str| hosts.iter().copied().find(|host| host.name() == name);
    let id = match system {
        AudioSystem::Best => find(PULSE),
        AudioSystem::Alsa => find(ALSA),
    };
    match id {
        Some(id) => cpal::host_from_id(id).map_err(|error| from_cpal(&error)),
        // Without a sound server there is one interface, whatever its name.
        None => hosts
            .first()
            .ok_or_else(|| DeviceError::System("there is none".into()))
            .and_then(|&id| cpal::host_from_id(id).map_err(|error| from_cpal(&error))),
    }
}

/// Whether the sound server that was in use is still to be found. When it died, its clients wait for it to come back:
/// what would be found instead is usually a way to the same server, and worse.
pub(super) fn is_present(host_name: &str) -> bool {
    cpal::available_hosts()
        .iter()
        .any(|host| host.name() == host_name)
}

/// How often it is looked what devices there are. A sound server moves streams: where it is not heard in its own language
/// (`tells`), another microphone may be heard so long. Elsewhere streams stay where they are, and a list is made anew
/// each time.
pub(super) fn list_interval(host_name: Option<&str>, tells: bool) -> Duration {
    match host_name {
        Some(PULSE) if tells => Duration::from_secs(2),
        Some(PULSE) | None => Duration::from_millis(200),
        Some(_) => Duration::from_secs(1),
    }
}

/// Whether this is the sound server whose language we speak.
#[cfg(target_os = "linux")]
pub(super) fn is_pulse(host_name: &str) -> bool {
    host_name == PULSE
}

/// The default alone, for those who follow it: a third of the questions. May hang.
pub(super) fn list_default(
    host: &cpal::Host,
    direction: Direction,
) -> Result<Vec<DeviceInfo>, DeviceError> {
    match find(host, &DeviceChoice::Default, direction) {
        Ok((_device, info)) => Ok(vec![info]),
        // Nobody to ask looks the same; where there is a list, there is only no default.
        Err(DeviceError::None(_)) => list_all(host, &[direction]),
        Err(error) => Err(error),
    }
}

/// All devices, constructs too. May hang.
fn list_both(host: &cpal::Host) -> Result<Vec<DeviceInfo>, DeviceError> {
    list_all(host, &[Direction::Input, Direction::Output])
}

/// The devices of these directions, constructs too. May hang.
pub(super) fn list_all(
    host: &cpal::Host,
    directions: &[Direction],
) -> Result<Vec<DeviceInfo>, DeviceError> {
    let defaults: Vec<_> = directions
        .iter()
        .map(|&direction| (direction, default_id(host, direction)))
        .collect();
    let devices = host.devices().map_err(|error| from_cpal(&error))?;
    let mut found = Vec::new();
    for device in devices {
        // A device that vanishes while it is looked at is not there.
        let (Ok(id), Ok(description)) = (device.id(), device.description()) else {
            continue;
        };
        for (direction, default) in &defaults {
            let supported = match direction {
                Direction::Input => device.supports_input(),
                Direction::Output => device.supports_output(),
            };
            if supported {
                found.push(DeviceInfo {
                    id: id.to_string(),
                    name: description.name().to_owned(),
                    direction: *direction,
                    is_default: default.as_ref() == Some(&id),
                    is_pseudo: is_pseudo(id.host().name(), id.id(), *direction),
                });
            }
        }
    }
    Ok(found)
}

fn default_id(host: &cpal::Host, direction: Direction) -> Option<cpal::DeviceId> {
    match direction {
        Direction::Input => host.default_input_device(),
        Direction::Output => host.default_output_device(),
    }
    .and_then(|device| device.id().ok())
}

fn is_pseudo(host: &str, id: &str, direction: Direction) -> bool {
    match host {
        PULSE => direction == Direction::Input && id.ends_with(".monitor"),
        ALSA => !ALSA_DEVICES.iter().any(|known| id.starts_with(known)),
        _ => false,
    }
}

/// Finds the chosen device. May hang.
pub(super) fn find(
    host: &cpal::Host,
    choice: &DeviceChoice,
    direction: Direction,
) -> Result<(cpal::Device, DeviceInfo), DeviceError> {
    let device = match choice {
        DeviceChoice::Default => match direction {
            Direction::Input => host.default_input_device(),
            Direction::Output => host.default_output_device(),
        }
        .ok_or(DeviceError::None(direction))?,
        DeviceChoice::Id(wanted) => host
            .devices()
            .map_err(|error| from_cpal(&error))?
            .filter(|device| device.id().is_ok_and(|id| id.to_string() == *wanted))
            .find(|device| match direction {
                Direction::Input => device.supports_input(),
                Direction::Output => device.supports_output(),
            })
            .ok_or_else(|| DeviceError::NotFound { id: wanted.clone() })?,
    };
    let id = device.id().map_err(|error| from_cpal(&error))?;
    let name = device
        .description()
        .map_or_else(|_| id.to_string(), |d| d.name().to_owned());
    let info = DeviceInfo {
        id: id.to_string(),
        name,
        direction,
        is_default: *choice == DeviceChoice::Default
            || default_id(host, direction).as_ref() == Some(&id),
        is_pseudo: is_pseudo(id.host().name(), id.id(), direction),
    };
    Ok((device, info))
}

/// What a sound server calls this device, and how many of its channels are used; nothing where there is no server, or
/// not one whose language we speak.
#[cfg(target_os = "linux")]
pub(super) fn server_stream(
    device: &cpal::Device,
    direction: Direction,
) -> Result<Option<(String, u8)>, DeviceError> {
    let id = device.id().map_err(|error| from_cpal(&error))?;
    if !is_pulse(id.host().name()) {
        return Ok(None);
    }
    let channels = own_config(device, direction)?.channels();
    Ok(Some((id.id().to_owned(), if channels > 1 { 2 } else { 1 })))
}

fn own_config(
    device: &cpal::Device,
    direction: Direction,
) -> Result<cpal::SupportedStreamConfig, DeviceError> {
    match direction {
        Direction::Input => device.default_input_config(),
        Direction::Output => device.default_output_config(),
    }
    .map_err(|error| from_cpal(&error))
}

/// What to ask a device for, best first: 48 kHz f32 in blocks of two channels where it has as many, of one else, then what
/// it prefers itself.
pub(super) fn configs(
    device: &cpal::Device,
    direction: Direction,
) -> Result<Vec<(StreamConfig, SampleFormat)>, DeviceError> {
    let served = device.id().is_ok_and(|id| id.host().name() == PULSE);
    let samples = match direction {
        Direction::Input if served => SERVER_MICROPHONE_SAMPLES,
        Direction::Input | Direction::Output => CALLBACK_SAMPLES,
    };
    let own = own_config(device, direction)?;
    let ours = |channels: u16| {
        let config = StreamConfig {
            channels,
            sample_rate: SAMPLE_RATE_HZ,
            buffer_size: BufferSize::Fixed(samples),
        };
        (config, SampleFormat::F32)
    };
    let mut configs = Vec::new();
    if own.channels() > 1 {
        configs.push(ours(2));
    }
    configs.push(ours(1));
    let buffer = |samples: u32| match *own.buffer_size() {
        cpal::SupportedBufferSize::Range { min, max } if min <= max => {
            BufferSize::Fixed(samples.clamp(min, max))
        }
        cpal::SupportedBufferSize::Range { .. } | cpal::SupportedBufferSize::Unknown => {
            BufferSize::Fixed(samples)
        }
    };
    let mut add = |rate: u32| {
        if RATES_HZ.contains(&rate) {
            configs.push((
                StreamConfig {
                    channels: own.channels(),
                    sample_rate: rate,
                    buffer_size: buffer(rate * samples / SAMPLE_RATE_HZ),
                },
                own.sample_format(),
            ));
        }
    };
    add(SAMPLE_RATE_HZ);
    add(own.sample_rate());
    Ok(configs)
}

/// Sorted by what the user can do.
pub(super) fn from_cpal(error: &cpal::Error) -> DeviceError {
    match error.kind() {
        ErrorKind::DeviceBusy => DeviceError::Busy,
        ErrorKind::PermissionDenied => DeviceError::Denied,
        ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated => DeviceError::Lost,
        ErrorKind::UnsupportedConfig
        | ErrorKind::UnsupportedOperation
        | ErrorKind::InvalidInput => DeviceError::Unsupported(error.to_string()),
        ErrorKind::HostUnavailable
        | ErrorKind::ResourceExhausted
        | ErrorKind::BackendError
        | ErrorKind::DeviceChanged
        | ErrorKind::RealtimeDenied
        | ErrorKind::Xrun
        | ErrorKind::Other => DeviceError::System(error.to_string()),
        // The library may add kinds.
        _ => DeviceError::System(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_and_converters_are_not_offered() {
        assert!(is_pseudo(
            PULSE,
            "alsa_output.pci.monitor",
            Direction::Input
        ));
        assert!(!is_pseudo(PULSE, "alsa_input.pci", Direction::Input));
        for name in [
            "lavrate",
            "speex",
            "jack",
            "oss",
            "null",
            "hw:CARD=PCH,DEV=0",
        ] {
            assert!(is_pseudo(ALSA, name, Direction::Output), "{name}");
        }
        assert!(!is_pseudo(ALSA, "default", Direction::Output));
        assert!(!is_pseudo(ALSA, "plughw:CARD=PCH,DEV=0", Direction::Output));
        assert!(!is_pseudo("WASAPI", "{0.0.1}", Direction::Input));
    }
}
