//! `ahoy call` and `ahoy answer`.

use std::{path::Path, time::Duration};

use ahoy_transport::identity::NodeId;
#[cfg(feature = "devices")]
use ahoy_transport::runtime::{RuntimeExt as _, TokioRuntime};
use tokio::sync::broadcast::error::RecvError;

use super::{
    control::serve,
    echo::call_by,
    start::{Running, start},
};
use crate::{
    call::{CallConfig, CallId, Ending},
    chat::Content,
    cli::{AnswerPlan, AutoAnswer, CallPlan, CliError, Exit, Target, print_json, print_line},
    engine::{
        config::Answering,
        files::TransferView,
        handle::{Command, Event},
    },
    files::book::{Direction, State},
    profile::Profile,
    report::Report,
};

/// A caller gives its homes this long to take it; the call goes on without them.
const REGISTRATION: Duration = Duration::from_secs(3);

/// Calls somebody and stays until the call is over.
///
/// # Errors
/// Why there was no call, or no completed one, with its exit code.
pub async fn call(profile: &Profile, plan: CallPlan) -> Result<(), CliError> {
    let limits = CallConfig {
        setup_limit: plan.setup_limit,
        talk_limit: plan.talk_limit,
        ..CallConfig::default()
    };
    let record = plan.record.as_deref();
    let person = Answering::Person;
    let mut running = start(profile, &plan.media, false, person, limits, record, None).await?;
    let control = serve(&running, None)?;
    let echo = match &plan.to {
        _whoever if plan.echo => true,
        Target::Name(name) => name.eq_ignore_ascii_case("echo") && running.book.find(name).is_err(),
        Target::Link(_) => false,
    };
    if echo {
        tokio::spawn(call_by(running.engine.clone()));
    } else if running.homes > 0 {
        // Registered, our own relay is ready; but the other side's serves as well.
        let ready = wait_ready(&mut running);
        if tokio::time::timeout(REGISTRATION, ready).await.is_err() {
            tracing::warn!("our own supernodes do not answer; calling through the other side's");
        }
    }
    match &plan.to {
        _in_this_program if echo => {}
        Target::Link(link) => drop(running.engine.send(Command::Call(link.to_string()))),
        Target::Name(name) => drop(running.engine.send(Command::Call(name.clone()))),
    }
    let mut reached = false;
    let result = loop {
        let event = tokio::select! {
            biased;
            event = running.events.recv() => event,
            interrupted = tokio::signal::ctrl_c() => {
                if interrupted.is_err() || !running.engine.send(Command::HangUp) {
                    break Err(CliError::failed("interrupted"));
                }
                continue;
            }
        };
        match event {
            Ok(Event::Ringing { .. }) => {
                reached = true;
                tracing::info!("ringing");
            }
            Ok(Event::Connected { .. }) => {
                reached = true;
                tracing::info!("answered");
            }
            Ok(Event::FirstAudio { .. }) => tracing::info!("sound from the other side"),
            // Once they were reached, the call's ending tells the outcome.
            Ok(Event::Failed { sentence }) if reached => {
                tracing::warn!("{sentence}");
            }
            Ok(Event::Failed { sentence }) => break Err(CliError::usage(sentence)),
            Ok(Event::HomeLost { node }) => home_lost(node),
            Ok(Event::HomeBack { node }) => home_back(node),
            Ok(Event::Incoming { .. }) => {
                // One call at a time.
                running.engine.send(Command::Decline);
            }
            Ok(Event::Ended { call, .. }) if !is_shown(&running, call) => {
                // Somebody else was turned away, or both called at once and the other call goes on.
            }
            Ok(Event::Ended {
                ending,
                sentence,
                report,
                ..
            }) => {
                if let Some(path) = &plan.report {
                    save(path, &report)?;
                }
                if plan.json {
                    print_json(&report)?;
                }
                break over(ending, sentence, &report);
            }
            Ok(
                Event::Ready { .. }
                | Event::Waiting { .. }
                | Event::Request { .. }
                | Event::Sound { .. }
                | Event::Pictures { .. }
                | Event::Recording { .. }
                | Event::Lending(_)
                | Event::Anomaly { .. }
                | Event::SoundChosen(_)
                | Event::Record(_)
                | Event::Message { .. }
                | Event::MessageState { .. }
                | Event::File(_),
            )
            | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break Err(CliError::failed("the engine stopped")),
        }
    };
    control.close().await;
    quit(running).await;
    result
}

/// Whether it is this call that the person sees, running or over.
fn is_shown(running: &Running, call: CallId) -> bool {
    let view = running.engine.view();
    let shown = view.borrow().call.as_ref().map(|shown| shown.id);
    shown == Some(call)
}

fn home_lost(node: NodeId) {
    tracing::warn!("lost the supernode {node}; trying again");
}

fn home_back(node: NodeId) {
    tracing::info!("registered again at the supernode {node}");
}

/// A call's ending as a command's. What went wrong is told once, by whoever ends with the error.
fn over(ending: Ending, sentence: String, report: &Report) -> Result<(), CliError> {
    let exit = Exit::from(ending);
    if exit == Exit::Done {
        tracing::info!("{sentence} {}", report.verdict);
        Ok(())
    } else {
        Err(CliError::new(exit, sentence))
    }
}

async fn wait_ready(running: &mut Running) {
    while let Ok(event) = running.events.recv().await {
        if matches!(event, Event::Ready { .. }) {
            return;
        }
    }
}

async fn quit(running: Running) {
    running.engine.send(Command::Quit);
    running.ending.wait().await;
}

fn save(path: &Path, report: &Report) -> Result<(), CliError> {
    report.write(path).map_err(|error| {
        let path = path.display();
        CliError::failed(format_args!("cannot write the report to {path}: {error}"))
    })
}

/// Whether somebody sits before the speaker and is to answer.
#[cfg(feature = "devices")]
fn rings(plan: &AnswerPlan) -> bool {
    plan.auto == AutoAnswer::Nobody
        && !plan.echo
        && plan.media.audio_out == crate::cli::AudioOut::Speaker
}

/// Waits for calls. Prints this device's link once it can be called.
///
/// # Errors
/// What is in the way of being called; with `--once` how the call failed.
pub async fn answer(profile: &Profile, plan: AnswerPlan) -> Result<(), CliError> {
    let answering = match plan.auto {
        AutoAnswer::Nobody => Answering::Person,
        AutoAnswer::Contacts => Answering::Contacts,
        AutoAnswer::Everybody => Answering::Everybody,
    };
    let limits = CallConfig {
        call_waiting: true,
        ..CallConfig::default()
    };
    let record = plan.record.as_deref();
    let (media, echo) = (&plan.media, plan.echo);
    let mut running = start(profile, media, echo, answering, limits, record, None).await?;
    if running.homes == 0 && !running.lan {
        return Err(CliError::usage(
            "nobody could call you: name a supernode with --via ahoy-node:…, or run one (ahoy supernode --print-link); \
             in your own network you could be called without one, but that is switched off (lan_discovery in the \
             settings, --no-lan or --path)",
        ));
    }
    let control = serve(&running, None)?;
    #[cfg(feature = "devices")]
    let _ringing = rings(&plan).then(|| {
        let ring = super::ring::ring(running.engine.view());
        TokioRuntime.spawn_task(ring)
    });
    let result = loop {
        let event = tokio::select! {
            biased;
            event = running.events.recv() => event,
            _interrupted = tokio::signal::ctrl_c() => break Ok(()),
        };
        if matches!(event, Ok(Event::Message { .. })) {
            // Whatever is shown here is there afterwards, also when this is killed.
            running.book.settled().await;
        }
        match event {
            Ok(Event::Ready { link }) => print_line(&link)?,
            Ok(Event::HomeLost { node }) => home_lost(node),
            Ok(Event::HomeBack { node }) => home_back(node),
            Ok(Event::Request { from }) => tracing::warn!(
                "somebody unknown called: {from}. To let them ring: ahoy contact add ahoy:{from}"
            ),
            Ok(Event::Message {
                message,
                request: true,
                ..
            }) => {
                let from = message.user;
                tracing::warn!(
                    "somebody unknown wrote: {from}. To read it: ahoy messages ahoy:{from}. To let them ring: ahoy \
                     contact add ahoy:{from}"
                );
            }
            Ok(Event::Message { name, message, .. }) => match message.content {
                Content::Text(text) => tracing::info!("{name}: {}", text.replace('\n', " ")),
                Content::MissedCall => tracing::info!("{name} called while nobody could answer"),
            },
            Ok(Event::Incoming { from, .. }) if answering == Answering::Person => {
                tracing::warn!("{from} calls: ahoy ctl accept, or ahoy ctl decline");
            }
            Ok(Event::Incoming { from, .. }) => tracing::info!("{from} calls"),
            Ok(Event::Waiting { from, .. }) => tracing::warn!(
                "{from} calls, too: ahoy ctl accept, ahoy ctl decline, or ahoy ctl ignore"
            ),
            Ok(Event::Connected { .. }) => tracing::info!("connected"),
            Ok(Event::File(file)) => tell_file(&file),
            Ok(Event::Failed { sentence }) => tracing::warn!("{sentence}"),
            Ok(Event::Ended { call, .. }) if plan.once && !is_shown(&running, call) => {
                // Somebody else was turned away, or both called at once and the other call goes on.
            }
            Ok(Event::Ended {
                ending,
                sentence,
                report,
                ..
            }) => {
                if let Some(path) = &plan.report {
                    save(path, &report)?;
                }
                if plan.once {
                    break over(ending, sentence, &report);
                }
                tracing::info!("{sentence} {}", report.verdict);
            }
            Ok(
                Event::Ringing { .. }
                | Event::FirstAudio { .. }
                | Event::Sound { .. }
                | Event::Pictures { .. }
                | Event::Recording { .. }
                | Event::Lending(_)
                | Event::Anomaly { .. }
                | Event::SoundChosen(_)
                | Event::Record(_)
                | Event::MessageState { .. },
            )
            | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break Err(CliError::failed("the engine stopped")),
        }
    };
    control.close().await;
    quit(running).await;
    result
}

/// What becomes of a file, for whoever looks at the terminal.
fn tell_file(file: &TransferView) {
    let (name, sentence) = (&file.name, &file.sentence);
    match (file.direction, &file.state) {
        (Direction::Incoming, State::Offered) => {
            tracing::warn!("{name}: {sentence}: ahoy ctl files accept {}", file.id);
        }
        (Direction::Incoming, State::Done) => {
            let place = file.path.as_deref().unwrap_or(Path::new(""));
            tracing::warn!("{name}: {sentence}: {}", place.display());
        }
        (_, State::Failed | State::Paused) => tracing::warn!("{name}: {sentence}"),
        (_, _) => tracing::info!("{name}: {sentence}"),
    }
}
