//! Standard output belongs to results.

use std::io::{self, Write};

use serde::Serialize;

use super::CliError;

/// Prints one line of result.
///
/// # Errors
/// When standard output is closed.
pub fn print_line(line: &str) -> Result<(), CliError> {
    write_line(line).map_err(not_written)
}

/// Prints one of many lines, as long as somebody reads them: `false` once the pipe is closed, as by `head`.
///
/// # Errors
/// When the line cannot be written for another reason.
pub(super) fn print_while_read(line: &str) -> Result<bool, CliError> {
    match write_line(line) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(not_written(error)),
    }
}

fn write_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())
}

fn not_written(error: impl std::fmt::Display) -> CliError {
    CliError::failed(format_args!("cannot write the result: {error}"))
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
    serde_json::to_string_pretty(value).map_err(not_written)
}

/// Prints an error the way clap prints its own.
pub(super) fn print_error(to: &mut impl Write, error: &CliError) -> io::Result<()> {
    writeln!(to, "error: {}", error.message)?;
    to.flush()
}
