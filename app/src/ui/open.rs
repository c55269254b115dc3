//! `ahoy` and `ahoy LINK`: the engine on a thread of its own, the window on the main one.

use std::sync::mpsc;

use crate::{
    call::CallConfig,
    cli::{CliError, Exit, MediaPlan},
    engine::{config::Answering, video::WindowPictures},
    headless::{control::serve, start::start},
    profile::Profile,
};

/// Opens the window and stays until it is closed.
///
/// # Errors
/// When there is no display, or another process runs on the profile.
pub fn open(profile: &Profile, media: &MediaPlan, target: String) -> Result<(), CliError> {
    if !has_display() {
        return Err(CliError::usage(
            "there is no display to open a window on: use `ahoy call` and `ahoy answer`, or set DISPLAY",
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("ahoy-engine")
        .build()
        .map_err(|error| CliError::failed(format_args!("the system gives no threads: {error}")))?;
    let pictures = WindowPictures::default();
    let running = runtime.block_on(start(
        profile,
        media,
        false,
        Answering::Person,
        CallConfig::default(),
        None,
        Some(&pictures),
    ))?;
    let control = {
        let _inside = runtime.enter();
        serve(&running)?
    };
    #[cfg(feature = "devices")]
    let ringing = (media.audio_out == crate::cli::AudioOut::Speaker)
        .then(|| runtime.spawn(crate::headless::ring::ring(running.engine.view())));
    let shown = super::run(running.engine.clone(), target, pictures, runtime.handle());
    #[cfg(feature = "devices")]
    if let Some(ringing) = ringing {
        ringing.abort();
    }
    runtime.block_on(control.close());
    // The window's end told the engine to quit; it says good-bye to whoever we talk with.
    let (over, ended) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        running.ending.wait().await;
        over.send(()).unwrap_or_default();
    });
    if ended
        .recv_timeout(std::time::Duration::from_secs(3))
        .is_err()
    {
        tracing::warn!("the engine took too long to stop");
    }
    shown.map_err(|error| {
        CliError::new(
            Exit::Usage,
            format_args!(
                "the window cannot be opened: {error}; `ahoy call` and `ahoy answer` need none"
            ),
        )
    })
}

#[cfg(all(unix, not(target_os = "macos")))]
fn has_display() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("DISPLAY") || set("WAYLAND_DISPLAY")
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn has_display() -> bool {
    true
}
