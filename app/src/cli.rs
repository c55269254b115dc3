//! The command line: what may be said, and what it means.
//!
//! Scripts rely on it. JSON stands alone on standard output, and so does what a command exists to print (a
//! link, a list); everything else goes to standard error. The process ends with an [`Exit`] code.
//!
//! Each command's arguments are a struct that clap fills, turned by its `plan` into plain values that have
//! been checked. A command is offered only when there is an engine behind it.

use std::{ffi::OsString, io, process::ExitCode};

use clap::{Args, Parser};

mod assertion;
mod call;
mod ctl;
mod demo;
mod exit;
mod log;
mod media;
mod output;
mod sim;
mod supernode;
mod values;

#[cfg(test)]
mod tests;

pub use assertion::{Assertion, AssertionFailure, junit};
pub use call::{AnswerArgs, AnswerPlan, AutoAnswer, CallArgs, CallPlan, Target};
pub use ctl::{CtlArgs, CtlCommand, Switch, ctl};
pub use demo::{DemoArgs, DemoPlan, DoctorArgs};
pub use exit::{CliError, Exit};
pub use media::{AudioIn, AudioOut, MediaFlags, MediaPlan, PathChoice};
pub use output::{print_json, print_line};
pub use sim::{LinkProfile, Print, SimArgs, SimPlan};
pub use supernode::{SupernodeArgs, SupernodePlan};

use crate::link::Link;

/// Peer-to-peer calls: no account, no phone number, no company server.
#[derive(Debug, Parser)]
#[command(name = "ahoy", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub common: Common,
    /// A link to open: ahoy:… or ahoy-node:…
    #[arg(value_name = "LINK", value_parser = values::any_link)]
    pub link: Option<Link>,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Folder of the profile to use (default: AHOY_HOME, or the platform's data folder).
    #[arg(long, value_name = "DIR", global = true)]
    pub home: Option<std::path::PathBuf>,
    /// Say nothing but errors and results.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Runs the command that `arguments` (with the program's name first) ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
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
    match run(&cli) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            // Nothing can be done when even standard error is closed.
            let told = output::print_error(&mut io::stderr().lock(), &error);
            told.map_or(Exit::Failed, |()| error.exit).into()
        }
    }
}

fn run(_cli: &Cli) -> Result<(), CliError> {
    Err(CliError::usage(
        "this build has no window: see `ahoy --help` for what it can do",
    ))
}
