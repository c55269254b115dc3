//! What the engine tells a person, by type: the window says it in the person's language, commands in English by
//! [`Display`](std::fmt::Display).

use std::path::PathBuf;

use ahoy_media::{
    audio::device_error::{DeviceError, Direction},
    record::RecordError,
};
use ahoy_nat::supernode::protocol::Refusal;

use super::{media::MediaError, video::PictureTrouble};
use crate::{
    call::CommandError,
    chat::outbox::OutboxFull,
    contacts::NameError,
    disk::DiskTrouble,
    files::{MAX_SIZE, TransferId, readable},
    link::LinkError,
    store::{StoreError, rescue::Rescued},
};

/// What went wrong, or is out of the ordinary, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Somebody outside of the engine says it, in a language that the person chose.
    #[error("{0}")]
    Said(String),
    /// What was chosen cannot be saved.
    #[error("this holds until ahoy is closed: {0}")]
    NotSaved(String),
    /// Files of the profile were damaged, and mended as far as they could be.
    #[error(transparent)]
    Rescued(#[from] Rescued),
    /// The echo test does not begin.
    #[error("{0}")]
    NoEcho(String),

    // --- people ---
    /// A link is none.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A name stands for nobody, or for several.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A supernode was called.
    #[error("that is a supernode's link: use it with --via, and call a person's link (ahoy:…)")]
    NodeToCall,
    /// A supernode was to be a contact.
    #[error("that is a supernode's link: a person's begins with ahoy:")]
    NodeToAdd,
    /// Somebody called or wrote to themselves.
    #[error("that is your own link: ask the other person for theirs")]
    OwnLink,
    /// Somebody was to be their own contact.
    #[error("that is your own link: give it to others")]
    OwnLinkToAdd,
    /// Only contacts have what was to be changed.
    #[error("that person is no contact of yours")]
    NotAContact,
    /// Whoever was declined with a message is a stranger.
    #[error("only contacts are written to: the call was declined without a word")]
    DeclinedSilently,
    /// A name of nothing.
    #[error("a contact needs a name")]
    NoName,
    /// The profile's database.
    #[error("{0}")]
    Profile(String),

    // --- calls ---
    /// It makes no sense now.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The exchange behind the safety words was broken.
    #[error(
        "This call has no safety words: the other side broke the exchange behind them. Somebody may sit between you; do \
         not trust this call."
    )]
    NoSafetyWords,
    /// A device does not open.
    #[error(transparent)]
    Device(DeviceError),
    /// Sound cannot be set up otherwise: a file, a codec.
    #[error("{0}")]
    Media(String),
    /// Something happened to a microphone or a speaker.
    #[error("{0}")]
    Sound(SoundTold),
    /// Pictures.
    #[error("{0}")]
    Pictures(PictureTrouble),
    /// A recording.
    #[error("{0}")]
    Recording(#[from] RecordTrouble),

    // --- messages and files ---
    /// A message of nothing.
    #[error("there is nothing to say in that message")]
    NothingToSay,
    /// Too much waits already.
    #[error(transparent)]
    OutboxFull(#[from] OutboxFull),
    /// The database does not take a message.
    #[error("the message cannot be kept, and is not sent: {0}")]
    MessageNotKept(String),
    /// A stranger was sent a file.
    #[error("files go to contacts alone: add this person first, with ahoy contact add")]
    FilesToContacts,
    /// A file.
    #[error("{0}")]
    File(#[from] FileRefused),

    // --- the network, and devices of people ---
    /// There is nothing to lend with.
    #[error("this ahoy cannot lend anything")]
    CannotLend,
    /// A supernode of a private network does not let us in.
    #[error("{text}")]
    ShutOut {
        /// Why.
        why: Refusal,
        /// The same in English.
        text: String,
    },
    /// Our pass has ended, or is about to.
    #[error("{}", pass_ends(*.0))]
    PassEnds(
        /// In so many days; 0 is now.
        u64,
    ),
    /// Another device of ours has taken this one out.
    #[error(
        "Another device of yours took this one out: it no longer speaks for you, and nobody is reached from here."
    )]
    TakenOut,
    /// There are two lists of our own devices.
    #[error(
        "There are two lists of your own devices that contradict each other: somebody else has your key or one of your \
         devices. Make a new identity and tell your contacts."
    )]
    OwnFork,
    /// There are two lists of somebody's devices.
    #[error(
        "The device list of {name} contradicts the one seen before: somebody may be posing as {name}. Ask them by another \
         way. The proof is kept: ahoy device check"
    )]
    Fork {
        /// What they are called here.
        name: String,
    },
    /// Supernodes have signed another list than the newest record speaks of.
    #[error(
        "There are two device lists of {name}, and supernodes in {networks} networks have signed the one that {name}'s \
         newest record does not speak of: somebody may be posing as {name}. Compare the safety words in the call, or ask \
         them by another way."
    )]
    Contradicted {
        /// What they are called here.
        name: String,
        /// In so many networks.
        networks: usize,
    },
    /// Supernodes have signed a longer one.
    #[error(
        "Supernodes in {networks} networks have signed a longer device list of {name} than the newest record speaks of: \
         it may lead to a device that {name} has taken out. Ask them by another way."
    )]
    Behind {
        /// What they are called here.
        name: String,
        /// In so many networks.
        networks: usize,
    },
    /// Nobody has signed it.
    #[error(
        "No supernode has signed the device list of {name}, although it is hours old. That is so where their supernodes \
         are of an older version, or where somebody shows it to you alone. Compare the safety words in the call."
    )]
    Unwitnessed {
        /// What they are called here.
        name: String,
    },
}

fn pass_ends(days: u64) -> String {
    match days {
        0 => "Your invite to the private network has ended: nobody there can call you, or be called. Ask whoever runs it \
              for a new one."
            .into(),
        days => format!(
            "Your invite to the private network ends in {}: ask whoever runs it for a new one before.",
            crate::network::days(days)
        ),
    }
}

impl From<StoreError> for Notice {
    fn from(error: StoreError) -> Self {
        Self::Profile(error.to_string())
    }
}

impl From<MediaError> for Notice {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Device(error) => Self::Device(error),
            other @ (MediaError::Wav(_)
            | MediaError::Send(_)
            | MediaError::Opus(_)
            | MediaError::Tone(_)
            | MediaError::Devices(_)
            | MediaError::Y4m(_)
            | MediaError::Pictures(_)) => Self::Media(other.to_string()),
        }
    }
}

/// Something happened to a microphone or a speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoundTold {
    /// It is the microphone; else the speaker.
    pub microphone: bool,
    /// What.
    pub what: SoundWhat,
}

/// What happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SoundWhat {
    /// Sound flows by this one.
    Opened(String),
    /// It stopped working, or cannot be opened; that is tried again.
    Lost(DeviceError),
    /// The chosen one is not there any more, and nothing took its place.
    Gone,
    /// The sound system may have used another one for a moment.
    Displaced,
    /// The system's default is this one now, and is used.
    Followed(String),
    /// Other programs are heard only where there are devices.
    OthersNeedDevices,
    /// Other programs cannot be heard.
    OthersUnheard(String),
}

impl std::fmt::Display for SoundTold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = if self.microphone {
            Direction::Input
        } else {
            Direction::Output
        };
        match &self.what {
            SoundWhat::Opened(name) => write!(f, "{direction}: {name}"),
            SoundWhat::Lost(error) => write!(f, "{direction}: {error}"),
            SoundWhat::Gone => write!(
                f,
                "the chosen {direction} is gone, and nothing takes its place: plug it in or choose another"
            ),
            SoundWhat::Displaced => write!(
                f,
                "the system may have used another {direction} for a moment; the chosen one is back"
            ),
            SoundWhat::Followed(name) => {
                write!(f, "the {direction} is now {name}, as the system says")
            }
            SoundWhat::OthersNeedDevices => f.write_str(
                "what other programs play is heard only in calls with a microphone or speaker",
            ),
            SoundWhat::OthersUnheard(why) => {
                write!(f, "what other programs play cannot be heard: {why}")
            }
        }
    }
}

/// Why nothing is recorded, or no more. Its English is that of [`RecordError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordTrouble {
    /// It is recorded.
    #[error("this call is recorded already")]
    Already,
    /// Another call is.
    #[error("the call that is on hold is recorded: switch to it and end that first")]
    OtherCall,
    /// There is something of this name.
    #[error("{text}")]
    Exists {
        /// The file.
        path: PathBuf,
        /// In English.
        text: String,
    },
    /// It cannot be created.
    #[error("{text}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the disk says.
        disk: DiskTrouble,
        /// In English.
        text: String,
    },
    /// It cannot be written any more.
    #[error("{text}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the disk says.
        disk: DiskTrouble,
        /// In English.
        text: String,
    },
    /// Otherwise.
    #[error("{0}")]
    Other(String),
}

impl From<&RecordError> for RecordTrouble {
    fn from(error: &RecordError) -> Self {
        let text = error.to_string();
        match error {
            RecordError::Exists { path } => Self::Exists {
                path: path.clone(),
                text,
            },
            RecordError::Create { path, source } => Self::Create {
                path: path.clone(),
                disk: source.into(),
                text,
            },
            RecordError::Write { path, source } => Self::Write {
                path: path.clone(),
                disk: source.into(),
                text,
            },
            RecordError::Opus(_) | RecordError::Thread(_) => Self::Other(text),
        }
    }
}

/// Why a file is not sent, or does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileRefused {
    /// It cannot be read.
    #[error("cannot read {}: {disk}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the disk says.
        disk: DiskTrouble,
    },
    /// It is a folder, say.
    #[error("{} is no file", .0.display())]
    NoFile(PathBuf),
    /// No file of that size is sent.
    #[error("{} is larger than {}", .0.display(), readable(MAX_SIZE))]
    TooLarge(PathBuf),
    /// Too much is to be read and written.
    #[error("the disk is busy: try again")]
    Busy,
    /// Too many files are on their way.
    #[error("too many files are on their way to this person: cancel some")]
    TooMany,
    /// There is none by that number.
    #[error("there is no file {0} on its way; see ahoy files")]
    Unknown(TransferId),
    /// It is our own.
    #[error("a file of yours can only be cancelled, and before it arrived")]
    Ours,
    /// It is complete.
    #[error("that file is all there")]
    Complete,
    /// It was refused.
    #[error("you did not want that file, and {person} knows: ask to be sent it again")]
    Refused {
        /// Who knows.
        person: String,
    },
    /// There is no place for it.
    #[error("there is no folder for files: set download_folder")]
    NoFolder,
    /// It is paused, or was not begun.
    #[error("that file does not move")]
    Still,
}
