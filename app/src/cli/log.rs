//! Logs go to standard error.

use std::io;

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` decides what is told, else `quiet`; a second start changes nothing.
pub(super) fn start(quiet: bool) {
    let usual = if quiet { "error" } else { "warn,ahoy=info" };
    // A broken RUST_LOG must not keep anybody from calling.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "logging had started before");
    }
}
