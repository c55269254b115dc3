//! Why a microphone or a speaker does not work: known also where no devices are built in, since whoever tells of it is.

use std::fmt;

/// Which way sound goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A microphone.
    Input,
    /// A speaker.
    Output,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "microphone",
            Self::Output => "speaker",
        })
    }
}

/// Why there is no sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The system has none at all.
    #[error("no {0} found: plug one in, or choose a file instead")]
    None(Direction),
    /// The chosen one is not there.
    #[error("the chosen device {id} is not there: plug it in or choose another one")]
    NotFound {
        /// The id that was asked for.
        id: String,
    },
    /// Somebody else holds it.
    #[error("the device is in use by another program: close that one or choose another device")]
    Busy,
    /// The system forbids it.
    #[error("the system does not let ahoy use the device: allow it in the privacy settings")]
    Denied,
    /// It cannot do anything that we can.
    #[error("the device offers no usable sound format ({0}): choose another device")]
    Unsupported(String),
    /// It was pulled out, or the sound server went away.
    #[error("the device went away")]
    Lost,
    /// It is open and neither gives nor takes sound.
    #[error("the device has stopped working")]
    Stalled,
    /// The sound system does not answer.
    #[error("the sound system does not answer: restart it, or the machine")]
    Hung,
    /// There is no sound system, or it fails in a way of its own.
    #[error("the sound system fails: {0}")]
    System(String),
}
