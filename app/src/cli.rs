//! The command line: what may be said, and what it means.
//!
//! Scripts rely on it. JSON stands alone on standard output, and so does what a command exists to print (a
//! link, a list); everything else goes to standard error. The process ends with an [`Exit`] code.
//!
//! Each command's arguments are a struct that clap fills, turned by its `plan` into plain values that have
//! been checked. A command is offered only when there is an engine behind it.

use std::{ffi::OsString, io, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ContextKind};

mod assertion;
mod backup;
mod call;
mod contact;
mod ctl;
mod demo;
mod device;
mod env;
mod exit;
#[cfg(feature = "voice")]
mod files;
mod guard;
mod id;
mod lock;
mod log;
mod manual;
mod media;
#[cfg(feature = "voice")]
mod message;
mod network;
mod output;
mod sim;
mod supernode;
mod unlock;
mod values;

#[cfg(test)]
mod own_data_tests;
#[cfg(test)]
mod tests;

pub use assertion::{Assertion, AssertionFailure, junit};
pub use backup::{BackupArgs, RestoreArgs};
pub use call::{AnswerArgs, AnswerPlan, AutoAnswer, CallArgs, CallPlan, EchoArgs, Target};
pub use contact::{ContactArgs, ContactCommand};
pub use ctl::{CtlArgs, CtlCommand, Switch, ctl};
pub use demo::{DemoArgs, DemoPlan, DoctorArgs};
pub use device::{DeviceArgs, DeviceCommand};
pub use exit::{CliError, Exit};
#[cfg(feature = "voice")]
pub use files::{FilesArgs, SendArgs, SendPlan, listed};
pub use id::{IdArgs, IdCommand};
pub use lock::{LockArgs, LockCommand};
pub use manual::{CompletionsArgs, ManualArgs};
pub use media::{
    AudioIn, AudioOut, MediaFlags, MediaPlan, VideoCodecFlag, VideoContentFlag, VideoFlags,
    VideoIn, VideoOut, VideoPlan, VoiceFlags,
};
#[cfg(feature = "voice")]
pub use message::{MessageArgs, MessagePlan, MessagesArgs, MessagesPlan, told};
pub use network::{NetworkArgs, NetworkCommand};
pub use output::{print_json, print_line};
pub use sim::{
    Action, LinkProfile, Party, Print, SimArgs, SimCodec, SimPlan, Statement, Step, VideoPart, Way,
};
pub use supernode::{SupernodeArgs, SupernodePlan};
pub use unlock::PASSPHRASE_FILE_VARIABLE;

use self::env::Env;
#[cfg(feature = "voice")]
use crate::headless;
use crate::{link::Link, profile::Profile};

/// Peer-to-peer calls: no account, no phone number, no company server.
#[derive(Debug, Parser)]
#[command(name = "ahoy", version)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub common: Common,
    /// A link to open: ahoy:… or ahoy-node:…
    #[arg(value_name = "LINK", value_parser = values::any_link)]
    pub link: Option<Link>,
    /// Start without a window, which opens when somebody calls or starts ahoy again.
    #[cfg(feature = "window")]
    #[arg(long)]
    pub hidden: bool,
    /// Media options of the window.
    #[cfg(feature = "window")]
    #[command(flatten)]
    pub media: MediaFlags,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done. Each has an engine behind it.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show or move your identity.
    Id(IdArgs),
    /// People you know.
    Contact(ContactArgs),
    /// Your devices.
    Device(DeviceArgs),
    /// Write everything that you are and have here into one encrypted file.
    Backup(BackupArgs),
    /// Become who a backup file holds.
    Restore(RestoreArgs),
    /// Set, change or remove the passphrase of this profile.
    Lock(LockArgs),
    /// Wait for calls, without a window. Prints the link to give to others once it can be called.
    #[cfg(feature = "voice")]
    Answer(AnswerArgs),
    /// Call somebody, without a window.
    #[cfg(feature = "voice")]
    Call(CallArgs),
    /// Call the echo test, which is always there: it plays back what you say.
    #[cfg(feature = "voice")]
    Echo(EchoArgs),
    /// Write to somebody, who may be off.
    #[cfg(feature = "voice")]
    Message(MessageArgs),
    /// Show what was written, and who called in vain.
    #[cfg(feature = "voice")]
    Messages(MessagesArgs),
    /// Send files to a contact.
    #[cfg(feature = "voice")]
    Send(SendArgs),
    /// Show files that were offered, are on their way, came or went.
    #[cfg(feature = "voice")]
    Files(FilesArgs),
    /// Two people call each other on this machine, over real sockets and a supernode of their own.
    #[cfg(feature = "voice")]
    Demo(DemoArgs),
    /// Two people call each other over a simulated network, in virtual time.
    #[cfg(feature = "voice")]
    Sim(SimArgs),
    /// Find out what works here, and what to do about the rest.
    #[cfg(feature = "voice")]
    Doctor(DoctorArgs),
    /// Help others to find each other and to get through.
    Supernode(SupernodeArgs),
    /// Make or join a network of supernodes that serve nobody else.
    Network(NetworkArgs),
    /// Talk to the app that runs on this profile.
    #[cfg(unix)]
    Ctl(CtlArgs),
    /// Write manual pages into a folder.
    #[command(hide = true)]
    Manual(ManualArgs),
    /// Print what completes commands and options in a shell.
    Completions(CompletionsArgs),
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Folder of the profile to use (default: AHOY_HOME, or the platform's data folder).
    #[arg(long, value_name = "DIR", global = true)]
    pub home: Option<std::path::PathBuf>,
    /// Read the profile's passphrase from this file (default: AHOY_PASSPHRASE_FILE, or it is asked for).
    #[arg(long, value_name = "FILE", global = true)]
    pub passphrase_file: Option<std::path::PathBuf>,
    /// Say nothing but errors and results.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// What `arguments` ask for. A word that is neither a command nor a link is most likely a command misspelt: clap, which
/// takes any first word for a link, is asked again as if none could stand there, and names the nearest.
fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(&arguments).map_err(|error| {
        let word = arguments
            .get(1..)
            .unwrap_or_default()
            .iter()
            .find_map(|word| word.to_str().filter(|word| !word.starts_with('-')));
        let cli = Cli::command();
        let is_command = |word: &str| cli.find_subcommand(word).is_some() || word == "help";
        if word.is_none_or(|word| is_command(word) || values::any_link(word).is_ok()) {
            return error;
        }
        let without_link = clap::Command::new("ahoy")
            .subcommands(cli.get_subcommands().cloned())
            .args(
                cli.get_arguments()
                    .filter(|one| !one.is_positional())
                    .cloned(),
            );
        match without_link.try_get_matches_from(&arguments) {
            Err(nearest) if nearest.get(ContextKind::SuggestedSubcommand).is_some() => nearest,
            _ => error,
        }
    })
}

/// Runs the command that `arguments` (with the program's name first) ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(arguments.into_iter().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return match error.print() {
                Ok(()) => exit.into(),
                Err(_closed) => Exit::Failed.into(),
            };
        }
    };
    log::start(cli.common.quiet);
    // Whoever lends a supernode or looks at a simulation has nobody's secrets in there.
    let has_secrets = match cli.command {
        Some(Command::Supernode(_) | Command::Manual(_) | Command::Completions(_)) | None => false,
        #[cfg(feature = "voice")]
        Some(Command::Demo(_) | Command::Sim(_)) => false,
        Some(_) => true,
    };
    guard::start(has_secrets);
    match run(cli) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            // Nothing can be done when even standard error is closed.
            let told = output::print_error(&mut io::stderr().lock(), &error);
            told.map_or(Exit::Failed, |()| error.exit).into()
        }
    }
}

/// The profile that the options and the environment name.
fn profile(common: &Common) -> Result<Profile, CliError> {
    Ok(unlock::profile(common)?)
}

/// Runs a command that talks to the network.
fn wait_for<T>(command: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    wait_by(&mut tokio::runtime::Builder::new_multi_thread(), command)
}

/// Runs one person's call. One thread is enough for its network and its files, and a fifth cheaper than two that wake
/// each other at every packet; microphone and speaker have threads of their own.
#[cfg(feature = "voice")]
fn wait_for_call(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    wait_by(&mut tokio::runtime::Builder::new_current_thread(), command)
}

fn wait_by<T>(
    builder: &mut tokio::runtime::Builder,
    command: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let runtime = builder
        .enable_all()
        .thread_name("ahoy")
        .build()
        .map_err(|error| CliError::failed(format_args!("the system gives no threads: {error}")))?;
    runtime.block_on(command)
}

fn run(cli: Cli) -> Result<(), CliError> {
    if cli.link.is_some() && cli.command.is_some() {
        return Err(CliError::usage("give a link or a command, not both"));
    }
    let result = match cli.command {
        Some(Command::Id(arguments)) => id::id(&mut Env::real(&cli.common)?, arguments)?,
        Some(Command::Contact(arguments)) => {
            contact::contact(&mut Env::real(&cli.common)?, arguments)?
        }
        #[cfg(feature = "voice")]
        Some(Command::Device(DeviceArgs {
            command:
                Some(DeviceCommand::Pair {
                    yes,
                    with_root,
                    lifetime,
                    lan,
                    via,
                }),
        })) => {
            let plan = headless::pairing::PairPlan {
                yes,
                with_root,
                lifetime,
                lan,
                via,
            };
            return wait_for_call(headless::pairing::pair(&profile(&cli.common)?, plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Device(DeviceArgs {
            command: Some(DeviceCommand::Join { link, name }),
        })) => {
            let plan = headless::pairing::JoinPlan { link, name };
            return wait_for_call(headless::pairing::join(&profile(&cli.common)?, plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Device(DeviceArgs {
            command: Some(DeviceCommand::Revoke { device, via }),
        })) => {
            let profile = profile(&cli.common)?;
            return wait_for_call(headless::pairing::revoke(&profile, &device, via));
        }
        Some(Command::Device(arguments)) => {
            device::device(&mut Env::real(&cli.common)?, arguments)?
        }
        Some(Command::Backup(arguments)) => {
            backup::backup(&mut Env::real(&cli.common)?, &arguments)?
        }
        Some(Command::Restore(arguments)) => {
            backup::restore(&mut Env::real(&cli.common)?, &arguments)?
        }
        Some(Command::Lock(arguments)) => lock::lock(&mut Env::real(&cli.common)?, arguments)?,
        #[cfg(feature = "voice")]
        Some(Command::Answer(arguments)) => {
            let (profile, plan) = (profile(&cli.common)?, arguments.plan()?);
            return wait_for_call(headless::call::answer(&profile, plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Call(arguments)) => {
            let (profile, plan) = (profile(&cli.common)?, arguments.plan()?);
            return wait_for_call(headless::call::call(&profile, plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Echo(arguments)) => {
            let (profile, plan) = (profile(&cli.common)?, arguments.plan()?);
            return wait_for_call(headless::call::call(&profile, plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Message(arguments)) => {
            let (profile, plan) = (profile(&cli.common)?, arguments.plan()?);
            return wait_for_call(headless::message::message(&profile, plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Messages(arguments)) => {
            let profile = profile(&cli.common)?;
            return wait_for_call(headless::message::messages(&profile, arguments.plan()));
        }
        #[cfg(feature = "voice")]
        Some(Command::Send(arguments)) => {
            let (profile, plan) = (profile(&cli.common)?, arguments.plan()?);
            return wait_for_call(headless::files::send(&profile, plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Files(arguments)) => {
            let profile = profile(&cli.common)?;
            return wait_for_call(headless::files::files(&profile, arguments));
        }
        #[cfg(feature = "voice")]
        Some(Command::Demo(arguments)) => {
            let plan = arguments.plan()?;
            return wait_for(headless::demo::demo(plan));
        }
        #[cfg(feature = "voice")]
        Some(Command::Sim(arguments)) => return headless::sim::sim(&arguments.plan()?),
        #[cfg(feature = "voice")]
        Some(Command::Doctor(arguments)) => {
            let profile = profile(&cli.common)?;
            return wait_for(headless::doctor::doctor(&profile, &arguments));
        }
        Some(Command::Supernode(arguments)) => {
            let (profile, plan) = (profile(&cli.common)?, arguments.plan()?);
            return wait_for(supernode::serve(&profile, plan));
        }
        Some(Command::Network(arguments)) => {
            let mut env = Env::real(&cli.common)?;
            return wait_for(network::network(&mut env, arguments));
        }
        #[cfg(unix)]
        Some(Command::Ctl(arguments)) => {
            let profile = profile(&cli.common)?;
            return wait_for(ctl(profile.dir(), arguments));
        }
        Some(Command::Manual(arguments)) => return manual::manual(&arguments),
        Some(Command::Completions(arguments)) => return manual::completions(&arguments),
        #[cfg(feature = "window")]
        None => {
            let (profile, media) = (profile(&cli.common)?, cli.media.plan()?);
            let target = cli.link.map(|link| link.to_string()).unwrap_or_default();
            return crate::ui::open::open(&profile, &media, target, cli.hidden);
        }
        #[cfg(not(feature = "window"))]
        None => {
            return Err(CliError::usage(
                "this build has no window: see `ahoy --help` for what it can do",
            ));
        }
    };
    // An empty list is no line.
    if result.is_empty() {
        Ok(())
    } else {
        print_line(&result)
    }
}
