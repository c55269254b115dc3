//! `ahoy id`: who one is.

use std::{io::IsTerminal as _, path::PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, device::read_log, env::Env, output::to_json};
use crate::identity::{Identity, root_from_words, words};

/// Show or move your identity.
#[derive(Debug, Clone, Args)]
pub struct IdArgs {
    /// What to do (default: show).
    #[command(subcommand)]
    pub command: Option<IdCommand>,
}

/// What to do with the identity.
#[derive(Debug, Clone, Subcommand)]
pub enum IdCommand {
    /// Print the link to give to others.
    Show {
        /// Print JSON with more than the link.
        #[arg(long)]
        json: bool,
    },
    /// Become somebody new, in a profile that is nobody's yet.
    New,
    /// Print the 24 words that are your identity. Whoever has them is you.
    Export,
    /// Read 24 words from standard input and be who they say, in a profile that is nobody's yet.
    Import {
        /// The device log of your other devices, as `ahoy device log` prints it; without it, this device
        /// starts a new one, and contacts are warned.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Shown {
    link: String,
    user: String,
    device: String,
    homes: Vec<String>,
    devices: usize,
    /// This device still speaks for the person.
    member: bool,
    /// The 24 words can be exported here.
    has_root: bool,
}

/// Carries it out; gives back what to print.
pub(super) fn id(env: &mut Env<'_>, arguments: IdArgs) -> Result<String, CliError> {
    match arguments.command.unwrap_or(IdCommand::Show { json: false }) {
        IdCommand::Show { json } => {
            let identity = env.identity()?;
            let link = env.link(&identity)?.to_string();
            if !json {
                return Ok(link);
            }
            to_json(&Shown {
                link,
                user: identity.user().to_string(),
                device: identity.device().id().to_string(),
                homes: identity
                    .log()
                    .homes()
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                devices: identity.log().devices().len(),
                member: identity.is_member(),
                has_root: identity.root().is_some(),
            })
        }
        IdCommand::New => {
            nobodys(env)?;
            let identity = env.identity()?;
            Ok(env.link(&identity)?.to_string())
        }
        IdCommand::Export => {
            let identity = env.identity()?;
            let root = identity.root().ok_or_else(|| {
                CliError::failed(
                    "this device does not hold the root key: export the words on the device that \
                     made the identity",
                )
            })?;
            tracing::warn!(
                "whoever has these words is you: write them on paper, show them to nobody"
            );
            Ok(words(root).to_string())
        }
        IdCommand::Import { log } => import(env, log),
    }
}

fn import(env: &mut Env<'_>, log: Option<PathBuf>) -> Result<String, CliError> {
    nobodys(env)?;
    if std::io::stdin().is_terminal() {
        tracing::info!("type the 24 words, then Ctrl-D");
    }
    let text = env.read_input()?;
    let root = root_from_words(&text).map_err(CliError::usage)?;
    let identity = match log {
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(|error| {
                let path = path.display();
                CliError::usage(format_args!("--log {path} cannot be read: {error}"))
            })?;
            let log = read_log(&text)?;
            Identity::join(root, log, &mut *env.rng, env.now_millis)?
        }
        None => Identity::start_over(root, &mut *env.rng, env.now_millis),
    };
    let lock = env.profile.lock()?;
    // Somebody may have moved in while the words were typed.
    nobodys(env)?;
    lock.save(&identity)?;
    Ok(env.link(&identity)?.to_string())
}

pub(super) fn nobodys(env: &Env<'_>) -> Result<(), CliError> {
    match env.profile.load()? {
        None => Ok(()),
        Some(identity) => Err(CliError::failed(format_args!(
            "the profile {} belongs to ahoy:{} already: choose another folder with --home",
            env.profile.dir().display(),
            identity.user()
        ))),
    }
}
