//! Logs go to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` decides what is told, else `quiet`; a second start changes nothing.
///
/// Whoever sets `RUST_LOG` looks for something, and gets times and levels with it. Everybody else gets
/// sentences.
pub(super) fn start(quiet: bool) {
    let usual = if quiet { "error" } else { "warn,ahoy=info" };
    // A broken RUST_LOG must not keep anybody from calling.
    let asked = EnvFilter::try_from_default_env().ok();
    let detailed = asked.is_some();
    let filter = asked.unwrap_or_else(|| EnvFilter::new(usual));
    // https://no-color.org
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !plain)
        .with_target(false);
    let started = if detailed {
        logs.try_init()
    } else {
        logs.without_time().with_level(false).try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging had started before");
    }
}
