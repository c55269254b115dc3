//! The `ahoy` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ahoy::cli::main(std::env::args_os())
}
