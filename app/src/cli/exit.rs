//! How the process ends.

use std::{fmt, process::ExitCode};

use crate::{
    call::{Ending, Failure, Unreachable},
    control::ControlSocketError,
    identity::IdentityError,
    profile::ProfileError,
    settings::SettingsError,
    store::StoreError,
};

/// The exit codes, a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// An assertion or the call failed, or whatever has no code of its own.
    Failed = 1,
    /// What was asked for makes no sense; a malformed link too.
    Usage = 2,
    /// No route to the peer.
    NoRoute = 3,
    /// The peer is not who it should be.
    Authentication = 4,
    /// Audio or video could not be set up.
    Media = 5,
    /// The time limit came before any media.
    TimeLimit = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Ending> for Exit {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Completed { .. } => Self::Done,
            Ending::Unreachable(Unreachable::Untrusted | Unreachable::Private) => {
                Self::Authentication
            }
            Ending::Unreachable(
                Unreachable::Unknown
                | Unreachable::Offline
                | Unreachable::HomeBusy
                | Unreachable::Flooded
                | Unreachable::NoRoute,
            ) => Self::NoRoute,
            Ending::NoAnswer | Ending::Failed(Failure::TimeLimit) => Self::TimeLimit,
            Ending::Failed(Failure::Authentication) => Self::Authentication,
            Ending::Failed(Failure::Media) => Self::Media,
            Ending::Declined { .. }
            | Ending::Busy
            | Ending::Cancelled { .. }
            | Ending::AnsweredElsewhere
            | Ending::DeclinedElsewhere
            | Ending::Lost(_)
            | Ending::Failed(Failure::Protocol)
            | Ending::Merged { .. } => Self::Failed,
        }
    }
}

/// Why a command failed: the code for scripts, a sentence for people that says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// How the process ends.
    pub exit: Exit,
    /// What went wrong, and what to do.
    pub message: String,
}

impl CliError {
    /// An error with its code and its sentence.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }

    /// [`Exit::Usage`].
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// [`Exit::Failed`].
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }
}

macro_rules! failed_by {
    ($($error:ident),*) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::failed(error)
            }
        }
    )*};
}
failed_by!(ControlSocketError, IdentityError);

impl From<ProfileError> for CliError {
    fn from(error: ProfileError) -> Self {
        let exit = match error {
            ProfileError::WrongPassphrase | ProfileError::Locked => Exit::Authentication,
            ProfileError::NoPassphrase(_) | ProfileError::NoPassphraseSet => Exit::Usage,
            ProfileError::NoHome
            | ProfileError::Io { .. }
            | ProfileError::Damaged(_)
            | ProfileError::Newer(_)
            | ProfileError::NoVault(_)
            | ProfileError::NoKey(_)
            | ProfileError::Vault(..)
            | ProfileError::Keyring(_)
            | ProfileError::Identity(_)
            | ProfileError::InUse(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        if let SettingsError::Profile(error) = error {
            error.into()
        } else {
            Self::failed(error)
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        if let StoreError::Profile(error) = error {
            error.into()
        } else if let StoreError::Settings(error) = error {
            (*error).into()
        } else {
            Self::failed(error)
        }
    }
}
