//! `ahoy lock`: what opens the profile.

use std::{io::IsTerminal as _, path::PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{CliError, Exit, Switch, env::Env, unlock};
use crate::{
    passphrase::{self, Cost},
    store::reseal,
    vault::{NewProtection, Protection},
};

/// Set, change or remove the passphrase of this profile, or show what opens it.
///
/// Everything that tells something is sealed in any case. Without a passphrase the key lies in a file beside it: then a
/// single file that goes astray tells nothing, but a stolen disk tells everything. With one, whoever has the disk has to
/// guess it, and needs a quarter of a second for each guess.
///
/// A passphrase that is forgotten is gone, and what is sealed with it: make a backup that the 24 words open.
#[derive(Debug, Clone, Args)]
pub struct LockArgs {
    /// What to do (default: status).
    #[command(subcommand)]
    pub command: Option<LockCommand>,
}

/// What to do about the passphrase.
#[derive(Debug, Clone, Subcommand)]
pub enum LockCommand {
    /// Say what opens the profile.
    Status,
    /// Set a passphrase. It is asked for, or read from standard input.
    On,
    /// Set another one: the present one is asked for first. Whoever knows that opens nothing that is written later.
    Change {
        /// Read the new one from this file.
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Remove it: from then on a key file beside it opens the profile.
    Off,
    /// Let the desktop's keyring open the profile, so that nobody who has logged in types the passphrase; or no more.
    Keyring {
        /// Let it?
        #[arg(value_enum)]
        state: Switch,
    },
}

/// Carries it out; gives back what to print.
pub(super) fn lock(env: &mut Env<'_>, arguments: LockArgs) -> Result<String, CliError> {
    let protection = env.profile.protection()?;
    let has_passphrase = matches!(protection, Some(Protection::Passphrase(_)));
    let no_passphrase =
        || CliError::usage("this profile has no passphrase: `ahoy lock on` sets one");
    match arguments.command.unwrap_or(LockCommand::Status) {
        LockCommand::Status if has_passphrase && env.profile.is_in_keyring() => Ok(format!(
            "{}; the desktop's keyring opens it, too",
            status(protection)
        )),
        LockCommand::Status => Ok(status(protection)),
        LockCommand::On if has_passphrase => Err(CliError::usage(
            "this profile has a passphrase already: `ahoy lock change` sets another one",
        )),
        LockCommand::On => {
            let new = chosen(env, env.passphrase_file.clone())?;
            set(env, &new)?;
            Ok("this profile opens by its passphrase from now on".into())
        }
        LockCommand::Change { .. } | LockCommand::Off if !has_passphrase => Err(no_passphrase()),
        LockCommand::Change {
            new_passphrase_file,
        } => {
            env.profile.load()?;
            let new = chosen(env, new_passphrase_file)?;
            let kept = env.profile.is_in_keyring();
            if kept {
                forget(env);
            }
            set(env, &new)?;
            if kept {
                env.profile.keep_this_in_keyring(&new)?;
            }
            Ok("this profile opens by the new passphrase from now on".into())
        }
        LockCommand::Off => {
            env.profile.load()?;
            if env.profile.is_in_keyring() {
                forget(env);
            }
            reseal(&env.profile.lock()?, NewProtection::KeyFile)?;
            Ok(
                "this profile opens without a passphrase from now on: its key lies beside it"
                    .into(),
            )
        }
        LockCommand::Keyring { state: Switch::On } => {
            env.profile.keep_in_keyring()?;
            Ok(
                "the desktop's keyring opens this profile from now on; its passphrase does, too"
                    .into(),
            )
        }
        LockCommand::Keyring { state: Switch::Off } => {
            env.profile.take_from_keyring()?;
            Ok("the passphrase of this profile is asked for from now on".into())
        }
    }
}

/// What the keyring has opens nothing any more.
fn forget(env: &Env<'_>) {
    if let Err(error) = env.profile.take_from_keyring() {
        tracing::warn!("an old key stays in the keyring, where it opens nothing: {error}");
    }
}

fn status(protection: Option<Protection>) -> String {
    match protection {
        None => {
            "not sealed: whoever reads the files of this profile reads everything in them".into()
        }
        Some(Protection::KeyFile) => {
            "sealed by a key file beside it: that protects single files that go \
             astray, not a disk that is stolen; `ahoy lock on` sets a passphrase"
                .into()
        }
        Some(Protection::Passphrase(cost)) => format!(
            "sealed by a passphrase: each guess takes {} MiB of memory and {} passes over it",
            cost.memory_kib / 1024,
            cost.passes
        ),
    }
}

fn set(env: &Env<'_>, passphrase: &str) -> Result<(), CliError> {
    let lock = env.profile.lock()?;
    let cost = (env.cost)();
    reseal(&lock, NewProtection::Passphrase(passphrase, cost))?;
    Ok(())
}

/// What a guess has to cost: as much as this machine does in a quarter of a second.
pub(super) fn cost_here() -> Cost {
    Cost::tuned(|usual| {
        #[expect(
            clippy::disallowed_methods,
            reason = "how long this takes here is the question"
        )]
        let began = std::time::Instant::now();
        match passphrase::key("how long does it take?", &[0; 16], usual) {
            Ok(_key) => began.elapsed(),
            Err(_cost) => std::time::Duration::MAX,
        }
    })
}

/// A new passphrase: of the file, or typed twice, or from standard input.
fn chosen(env: &mut Env<'_>, file: Option<PathBuf>) -> Result<Zeroizing<String>, CliError> {
    let chosen = match file {
        Some(file) => unlock::read_file(&file)?,
        None if std::io::stdin().is_terminal() => unlock::typed_twice("New passphrase: ")?,
        None => env.read_input()?,
    };
    short(&chosen)?;
    Ok(chosen)
}

fn short(passphrase: &str) -> Result<(), CliError> {
    passphrase::check(passphrase).map_err(|error| CliError::new(Exit::Usage, error))
}
