//! `ahoy ctl`: tells the running app what to do.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::{CliError, Exit, output::print_while_read, print_json};
use crate::control::{Command, ControlClient, ControlError, ControlSocketError, ErrorCode};

/// Talk to the app that runs on this profile.
#[derive(Debug, Clone, Args)]
pub struct CtlArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What a running app can be told.
#[derive(Debug, Clone, Subcommand)]
pub enum CtlCommand {
    /// What is going on? Prints JSON.
    Status,
    /// Accept the call that rings. During a call: the one that waits; the first is put on hold.
    Accept,
    /// Decline the call that rings, or waits.
    Decline,
    /// Hear no more of the call that waits, without declining it.
    Ignore,
    /// Go on with the call that is on hold, and put this one on hold.
    Switch,
    /// End the call.
    #[command(name = "hangup")]
    HangUp,
    /// Mute the microphone.
    Mute,
    /// Unmute the microphone.
    Unmute,
    /// Mute or unmute, whichever it is not.
    ToggleMute,
    /// Push to talk: the key is down.
    PttDown,
    /// Push to talk: the key is up.
    PttUp,
    /// Put the other side on hold, or take it off again.
    Hold {
        /// On hold?
        #[arg(value_enum, default_value_t)]
        state: Switch,
    },
    /// Show a camera to the other side, or nothing any more.
    Camera {
        /// Show it?
        #[arg(value_enum, default_value_t)]
        state: Switch,
        /// Which, as `ahoy doctor` tells it; the first that works where none is named.
        #[arg(long)]
        id: Option<String>,
    },
    /// Show something else to the other side: a screen, a window, a film.
    Share {
        /// screen, screen:NAME, screen:all, screen:pick, window:TITLE, window:0xNUMBER, pattern, a FILE.y4m, or off.
        source: String,
        /// Whether to send it sharp or smoothly: auto, text or motion.
        #[arg(long, default_value = "auto")]
        content: String,
        /// What other programs play is heard too: the sound of a film, say.
        #[arg(long)]
        sound: bool,
    },
    /// Record the call to a file that every player opens; the other side is told.
    Record {
        /// The file, such as call.mkv, which must not be there yet; off: no more.
        #[arg(value_name = "FILE|off")]
        file: PathBuf,
    },
    /// Do not disturb: calls come in without a sound.
    Dnd {
        /// Undisturbed?
        #[arg(value_enum, default_value_t)]
        state: Switch,
    },
    /// Call somebody from the running app.
    Call {
        /// Whom: the name of a contact, an ahoy: link, or echo for the echo test.
        #[arg(value_name = "NAME|LINK")]
        to: String,
    },
    /// Write to somebody. Prints JSON: how far it got.
    Message {
        /// To whom: the name of a contact, or an ahoy: link.
        #[arg(value_name = "NAME|LINK")]
        to: String,
        /// What to say.
        text: String,
    },
    /// Print what was written, as JSON.
    Messages {
        /// With whom (default: everybody).
        #[arg(value_name = "NAME|LINK")]
        with: Option<String>,
    },
    /// Offer a file to a contact. Prints JSON.
    Send {
        /// To whom: the name of a contact, or an ahoy: link.
        #[arg(value_name = "NAME|LINK")]
        to: String,
        /// What.
        file: PathBuf,
    },
    /// Files that are offered or on their way.
    #[command(subcommand)]
    Files(CtlFiles),
    /// What is thought of the supernodes that calls come by. Prints JSON.
    Homes,
    /// Help others with this machine while ahoy runs, as a supernode; what may be used is in the settings. Prints JSON.
    Lend {
        /// Begin, stop, or only tell.
        #[arg(value_enum, default_value_t)]
        state: Lending,
    },
    /// Print happenings as they come, one line of JSON each.
    Events,
}

/// What becomes of a file.
#[derive(Debug, Clone, Subcommand)]
pub enum CtlFiles {
    /// Print all of them, as JSON.
    List,
    /// Fetch it, or go on with it.
    Accept(FileId),
    /// Do not fetch it.
    Refuse(FileId),
    /// No more of it: what came is thrown away. Or, of yours: send it no more.
    Cancel(FileId),
    /// No more of it for now.
    Pause(FileId),
}

/// Which file.
#[derive(Debug, Clone, Args)]
pub struct FileId {
    /// Its id, or the beginning of it, as `ahoy files` shows it.
    pub id: String,
}

impl From<CtlFiles> for Command {
    fn from(command: CtlFiles) -> Self {
        let (file, action) = match command {
            CtlFiles::List => return Self::Files,
            CtlFiles::Accept(which) => (which.id, "accept"),
            CtlFiles::Refuse(which) => (which.id, "refuse"),
            CtlFiles::Cancel(which) => (which.id, "cancel"),
            CtlFiles::Pause(which) => (which.id, "pause"),
        };
        Self::File {
            file,
            action: action.into(),
        }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Switch {
    /// On.
    #[default]
    On,
    /// Off.
    Off,
}

/// On, off, or how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Lending {
    /// On.
    On,
    /// Off.
    Off,
    /// Only tell.
    #[default]
    Status,
}

impl From<CtlCommand> for Command {
    fn from(command: CtlCommand) -> Self {
        match command {
            CtlCommand::Status => Self::Status,
            CtlCommand::Accept => Self::Accept,
            CtlCommand::Decline => Self::Decline,
            CtlCommand::Ignore => Self::Ignore,
            CtlCommand::Switch => Self::Switch,
            CtlCommand::HangUp => Self::HangUp,
            CtlCommand::Mute => Self::Mute,
            CtlCommand::Unmute => Self::Unmute,
            CtlCommand::ToggleMute => Self::ToggleMute,
            CtlCommand::PttDown => Self::PttDown,
            CtlCommand::PttUp => Self::PttUp,
            CtlCommand::Hold { state } => Self::Hold {
                on: state == Switch::On,
            },
            CtlCommand::Record { file } => Self::Record {
                // The app runs in another folder.
                file: (file != Path::new("off"))
                    .then(|| std::path::absolute(&file).unwrap_or(file)),
            },
            CtlCommand::Dnd { state } => Self::Dnd {
                on: state == Switch::On,
            },
            CtlCommand::Homes => Self::Homes,
            CtlCommand::Lend { state } => Self::Lend {
                on: match state {
                    Lending::On => Some(true),
                    Lending::Off => Some(false),
                    Lending::Status => None,
                },
            },
            CtlCommand::Camera { state, id } => Self::Camera {
                on: state == Switch::On,
                device: id,
            },
            CtlCommand::Share {
                source,
                content,
                sound,
            } => Self::Share {
                source: named_source(source),
                content: Some(content),
                sound,
            },
            CtlCommand::Call { to } => Self::Call { to },
            CtlCommand::Message { to, text } => Self::Message { to, text },
            CtlCommand::Messages { with } => Self::Messages { with },
            CtlCommand::Send { to, file } => Self::SendFile {
                to,
                file: std::path::absolute(&file).unwrap_or(file),
            },
            CtlCommand::Files(command) => command.into(),
            CtlCommand::Events => Self::Events,
        }
    }
}

/// A source as the app understands it, which runs in another folder.
fn named_source(source: String) -> String {
    if source == "off" {
        return "none".into();
    }
    if Path::new(&source).is_file()
        && let Ok(path) = std::path::absolute(&source)
    {
        return path.to_string_lossy().into_owned();
    }
    source
}

/// Why the running app did not do it.
#[cfg(unix)]
pub(super) fn refused(error: ControlError) -> CliError {
    let exit = match error.code {
        ErrorCode::BadRequest | ErrorCode::UnknownContact => Exit::Usage,
        ErrorCode::NoCall
        | ErrorCode::NotRinging
        | ErrorCode::NotTalking
        | ErrorCode::InCall
        | ErrorCode::Unavailable => Exit::Failed,
    };
    CliError::new(exit, error.message)
}

/// Tells the app that runs on the profile in `folder`, and prints what it answers.
///
/// # Errors
/// When no app runs there, or it refuses.
#[cfg(unix)]
pub async fn ctl(folder: &Path, arguments: CtlArgs) -> Result<(), CliError> {
    let command = Command::from(arguments.command);
    let mut client = ControlClient::connect(folder).await?;
    let answer = client.request(command.clone()).await?;
    if let Some(error) = answer.error {
        return Err(refused(error));
    }
    if let Some(told) = answer.result {
        print_json(&told)?;
    }
    if command == Command::Events {
        loop {
            match client.next_event().await {
                Ok(event) => {
                    let line = serde_json::to_string(&event).map_err(CliError::failed)?;
                    if !print_while_read(&line)? {
                        return Ok(());
                    }
                }
                // The app has ended, and so has what there was to tell.
                Err(ControlSocketError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
