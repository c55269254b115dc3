//! `ahoy manual` and `ahoy completions`: what the command line says of itself, as packages carry it.

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, CliError};

/// Write manual pages into a folder: one for the program, one for each command.
#[derive(Debug, Clone, Args)]
pub struct ManualArgs {
    /// The folder; made if it is not there.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Print what completes commands and options in a shell.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Which.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

pub(super) fn manual(arguments: &ManualArgs) -> Result<(), CliError> {
    let folder = arguments.folder.display();
    let failed =
        |error: io::Error| CliError::failed(format_args!("cannot write {folder}: {error}"));
    fs::create_dir_all(&arguments.folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &arguments.folder).map_err(failed)
}

pub(super) fn completions(arguments: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ahoy", &mut script);
    let script = String::from_utf8_lossy(&script);
    super::print_line(script.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page_and_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ManualArgs {
            folder: folder.path().join("man"),
        };
        manual(&arguments).unwrap();
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "ahoy", &mut script);
        let script = String::from_utf8(script).unwrap();
        let cli = Cli::command();
        for command in cli
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let name = command.get_name();
            let page = arguments.folder.join(format!("ahoy-{name}.1"));
            let page = fs::read_to_string(page).unwrap();
            assert!(page.starts_with(".ie"), "{name} has no roff page");
            assert!(
                script.contains(&format!("ahoy,{name})")),
                "{name} is not completed"
            );
        }
    }
}
