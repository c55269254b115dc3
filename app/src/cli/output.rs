//! Standard output belongs to results.

use std::io::{self, Write};

use serde::Serialize;

use super::CliError;

/// Prints one line of result.
///
/// # Errors
/// When standard output is closed.
pub fn print_line(line: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|error| CliError::failed(format_args!("cannot write the result: {error}")))
}

/// Prints one document as readable JSON.
///
/// # Errors
/// When it is no JSON, or standard output is closed.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    print_line(&to_json(value)?)
}

/// Readable JSON.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value)
        .map_err(|error| CliError::failed(format_args!("cannot write the result: {error}")))
}

/// Prints an error the way clap prints its own.
pub(super) fn print_error(to: &mut impl Write, error: &CliError) -> io::Result<()> {
    writeln!(to, "error: {}", error.message)?;
    to.flush()
}
