//! `ahoy` and `ahoy LINK`: the engine on a thread of its own, the window on the main one.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use ahoy_transport::runtime::{Runtime as _, TokioRuntime};
use tokio::sync::watch;

use super::{
    Opening,
    comeback::{self, Door},
    model,
    words::Language,
};
use crate::{
    call::CallConfig,
    cli::{CliError, Exit, MediaPlan},
    control::Opened,
    engine::{
        config::Answering,
        handle::{Command, View},
        video::WindowPictures,
    },
    headless::{control::serve, start::start},
    profile::Profile,
    settings::Settings,
};

/// Opens the window and stays until it is closed; a `hidden` one is opened when there is something to see.
///
/// # Errors
/// When there is no display, or another process runs on the profile.
pub fn open(
    profile: &Profile,
    media: &MediaPlan,
    target: String,
    hidden: bool,
) -> Result<(), CliError> {
    if !has_display() {
        return Err(CliError::usage(
            "there is no display to open a window on: use `ahoy call` and `ahoy answer`, or set DISPLAY",
        ));
    }
    if !super::unlock::ask(profile)? {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("ahoy-engine")
        .build()
        .map_err(|error| CliError::failed(format_args!("the system gives no threads: {error}")))?;
    if runtime.block_on(is_open_already(profile, &target)) {
        tracing::info!("ahoy runs already: its window has the link");
        return Ok(());
    }
    // Who runs on an empty profile is new here.
    let is_first = !profile.identity_path().exists();
    let pictures = WindowPictures::default();
    let running = runtime.block_on(start(
        profile,
        media,
        false,
        Answering::Person,
        CallConfig {
            call_waiting: true,
            ..CallConfig::default()
        },
        None,
        Some(&pictures),
    ))?;
    let (opener, opened) = watch::channel(Opened::default());
    let control = {
        let _inside = runtime.enter();
        serve(&running, Some(opener.clone()))?
    };
    let spoken = watch::Sender::new(Language::of(Settings::language_of(profile)));
    #[cfg(all(feature = "tray", target_os = "linux"))]
    super::tray::start(
        runtime.handle(),
        running.engine.clone(),
        opener,
        spoken.subscribe(),
    );
    #[cfg(not(all(feature = "tray", target_os = "linux")))]
    drop(opener);
    #[cfg(feature = "devices")]
    let ringing = (media.audio_out == crate::cli::AudioOut::Speaker)
        .then(|| runtime.spawn(crate::headless::ring::ring(running.engine.view())));
    // Until then nothing is drawn, and no graphics are loaded.
    if hidden && !runtime.block_on(is_wanted(running.engine.view(), opened.clone())) {
        running.engine.send(Command::Quit);
        runtime.block_on(control.close());
        runtime.block_on(running.ending.wait());
        return Ok(());
    }
    let door = Door::default();
    let opening = Opening {
        engine: running.engine.clone(),
        book: Arc::clone(&running.book),
        profile: profile.clone(),
        target,
        pictures,
        opened,
        is_first,
        door: door.clone(),
        spoken,
    };
    let shown = super::run(opening, runtime.handle());
    #[cfg(feature = "devices")]
    if let Some(ringing) = ringing {
        ringing.abort();
    }
    runtime.block_on(control.close());
    // The window's end told the engine to quit; it says good-bye to whoever we talk with.
    let (over, ended) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // All of it: what is left behind would hold the profile's lock.
        let running = running;
        running.ending.wait().await;
        over.send(()).unwrap_or_default();
    });
    if ended.recv_timeout(Duration::from_secs(3)).is_err() {
        tracing::warn!("the engine took too long to stop");
    }
    if let Some(brought) = door.take() {
        let now_millis = TokioRuntime.unix_millis();
        // What still runs on the profile holds its lock.
        runtime.shutdown_timeout(Duration::from_secs(3));
        comeback::move_in(profile, brought, now_millis).map_err(CliError::failed)?;
        return start_anew();
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

/// Waits until somebody calls, starts ahoy again, or asks it to end: then nobody wants to see it any more.
async fn is_wanted(mut view: watch::Receiver<View>, mut opened: watch::Receiver<Opened>) -> bool {
    tokio::select! {
        called = view.wait_for(|view| model::wants_attention(view).is_some()) => called.is_ok(),
        again = opened.changed() => again.is_ok(),
        interrupted = stopped() => {
            tracing::debug!(?interrupted, "nobody saw it");
            false
        }
    }
}

/// The session ends.
async fn stopped() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut asked = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _asked = asked.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Starts ahoy again, as it was started: another person's engine has nothing of the one before.
fn start_anew() -> Result<(), CliError> {
    let failed = |error| CliError::failed(format_args!("start ahoy again, please: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut again = std::process::Command::new(program);
    again.args(std::env::args_os().skip(1));
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;

        Err(failed(again.exec()))
    }
    #[cfg(not(unix))]
    {
        again.spawn().map(drop).map_err(failed)
    }
}

/// Hands `target` to the window that runs on the profile, if one does.
#[cfg(unix)]
async fn is_open_already(profile: &Profile, target: &str) -> bool {
    use crate::control::{Command, ControlClient};

    // Nobody is there, or nobody who understands: then starting says what is in the way.
    let Ok(mut running) = ControlClient::connect(profile.dir()).await else {
        return false;
    };
    let link = target.to_owned();
    let answer = running.request(Command::Open { link }).await;
    answer.is_ok_and(|answer| answer.ok)
}

/// There are no such sockets here.
#[cfg(not(unix))]
async fn is_open_already(_profile: &Profile, _target: &str) -> bool {
    false
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
