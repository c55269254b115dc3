//! `ahoy send` and `ahoy files`: by the app that runs on the profile, or else by an engine of its own.

use std::{path::Path, time::Duration};

use ahoy_transport::runtime::{RuntimeExt as _, TokioRuntime};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    message::asked,
    start::{Running, book_at_rest, start},
};
use crate::{
    call::CallConfig,
    cli::{
        AudioIn, AudioOut, CliError, Exit, FilesArgs, MediaFlags, SendPlan, listed, print_json,
        print_line,
    },
    control::{Command as Ask, FileLine, Told},
    engine::{
        book::AddressBook as _,
        config::Answering,
        files::{FileChange, TransferView},
        handle::{Command, EngineHandle, Event},
    },
    files::{
        TransferId,
        book::{Direction, FileBook, State},
        name::harmless,
    },
    profile::Profile,
};

/// A large file takes its time until it is read through.
const READING: Duration = Duration::from_secs(120);
/// The letters of the last files leave, and those who have them say so.
const LINGER: Duration = Duration::from_millis(500);
/// Of files, what the control socket carries in a line.
const SHOWN_BYTES: usize = 40 * 1024;

/// A transfer as programs see it.
pub(super) fn file_line(view: &TransferView) -> FileLine {
    let moves = matches!(view.state, State::Active);
    FileLine {
        id: view.id.to_string(),
        direction: direction(view.direction).into(),
        user: view.user.to_string(),
        person: view.person.clone(),
        name: view.name.clone(),
        at_ms: view.at_millis,
        size: view.size,
        done: Some(view.done),
        rate: moves.then_some(view.rate),
        sources: moves.then_some(view.sources),
        banned: view.stats.banned,
        state: view.state.word().into(),
        path: view.path.clone(),
        sentence: view.sentence.clone(),
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outgoing => "outgoing",
        Direction::Incoming => "incoming",
    }
}

/// All that fits a line, the newest if not all.
pub(super) fn shown(files: &[TransferView]) -> Vec<FileLine> {
    let mut room = SHOWN_BYTES;
    let newest = files.iter().rev().map(file_line).take_while(|line| {
        let path = line.path.as_ref().map_or(0, |path| path.as_os_str().len());
        let texts = line.name.len() + line.person.len() + line.sentence.len() + path;
        let size = 400 + 2 * texts;
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    });
    let mut lines: Vec<FileLine> = newest.collect();
    lines.reverse();
    lines
}

/// The file that an id, or its beginning, stands for.
///
/// # Errors
/// A sentence: none, or several.
pub(super) fn find(engine: &EngineHandle, id: &str) -> Result<TransferId, String> {
    let view = engine.view();
    let view = view.borrow();
    let mut found = view.files.iter().filter(|file| {
        let whole = file.id.to_string();
        !id.is_empty() && whole.starts_with(id)
    });
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(file.id),
        (None, _) => Err(format!("no file is called {id}; see ahoy files")),
        (Some(_), Some(_)) => Err(format!("several files begin with {id}: say more of it")),
    }
}

/// What a word asks for.
pub(super) fn change(word: &str) -> Option<FileChange> {
    Some(match word {
        "accept" => FileChange::Accept,
        "refuse" => FileChange::Refuse,
        "cancel" => FileChange::Cancel,
        "pause" => FileChange::Pause,
        _ => return None,
    })
}

/// Offers a file, and waits until it is read through.
///
/// # Errors
/// Why not, as a sentence.
pub(super) async fn offer(
    engine: &EngineHandle,
    to: &str,
    path: &Path,
) -> Result<TransferView, String> {
    let mut events = engine.events();
    let id = TransferId(TokioRuntime.random_array());
    let command = Command::SendFile {
        id,
        to: to.into(),
        path: path.into(),
    };
    if !engine.send(command) {
        return Err("ahoy is shutting down".into());
    }
    let offered = async {
        loop {
            let event = next(&mut events).await?;
            if let Event::Failed { sentence } = event {
                return Err(sentence);
            }
            if let Event::File(file) = event
                && file.id == id
            {
                return Ok(*file);
            }
        }
    };
    tokio::time::timeout(READING, offered)
        .await
        .unwrap_or_else(|_late| Err("the file takes long to read; see ahoy files".into()))
}

async fn next(events: &mut broadcast::Receiver<Event>) -> Result<Event, String> {
    loop {
        match events.recv().await {
            Ok(event) => return Ok(event),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err("the engine stopped".into()),
        }
    }
}

/// Sends files.
///
/// # Errors
/// Exit code 2 when nobody is called so or a file cannot be read, 1 when a file has not arrived.
pub async fn send(profile: &Profile, plan: SendPlan) -> Result<(), CliError> {
    let other = || CliError::failed("the app on this profile is of another version");
    let ask = |path: &Path| Ask::SendFile {
        to: plan.to.clone(),
        file: path.into(),
    };
    let Some((first, rest)) = plan.files.split_first() else {
        return Ok(());
    };
    match asked(profile, ask(first)).await? {
        Some(Told::File { file }) => {
            print_line(&format!("{}: {}", file.name, file.sentence))?;
            for path in rest {
                match asked(profile, ask(path)).await? {
                    Some(Told::File { file }) => {
                        print_line(&format!("{}: {}", file.name, file.sentence))?;
                    }
                    Some(_) | None => return Err(other()),
                }
            }
            Ok(())
        }
        Some(_) => Err(other()),
        None => send_here(profile, plan).await,
    }
}

async fn send_here(profile: &Profile, plan: SendPlan) -> Result<(), CliError> {
    let media = MediaFlags {
        audio_in: Some(AudioIn::Silence),
        audio_out: Some(AudioOut::Null),
        via: plan.via,
        no_portmap: true,
        ..MediaFlags::default()
    };
    let media = media.plan()?;
    let limits = CallConfig::default();
    let person = Answering::Person;
    let running = start(profile, &media, false, person, limits, None, None).await?;
    let control = super::control::serve(&running, None)?;
    let Running {
        engine,
        mut events,
        ending,
        lock,
        ..
    } = running;
    let sending = async {
        let mut open = Vec::new();
        for path in &plan.files {
            let file = offer(&engine, &plan.to, path).await;
            let file = file.map_err(CliError::usage)?;
            tracing::info!("{}: {}", file.name, file.sentence);
            open.push(file.id);
        }
        while !open.is_empty() {
            let Event::File(file) = next(&mut events).await.map_err(CliError::failed)? else {
                continue;
            };
            if !open.contains(&file.id) || !file.state.is_over() {
                continue;
            }
            open.retain(|id| *id != file.id);
            print_line(&format!("{}: {}", file.name, file.sentence))?;
            if file.state != State::Done {
                return Err(CliError::failed(file.sentence));
            }
        }
        tokio::time::sleep(LINGER).await;
        Ok(())
    };
    let limit = async {
        match plan.limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let unfinished = "not all of it has arrived: it goes on when ahoy runs again";
    let sent = tokio::select! {
        sent = sending => sent,
        _interrupted = tokio::signal::ctrl_c() => Err(CliError::new(Exit::Failed, unfinished)),
        () = limit => Err(CliError::new(Exit::Failed, unfinished)),
    };
    control.close().await;
    engine.send(Command::Quit);
    ending.wait().await;
    drop(lock);
    sent
}

/// Shows files.
///
/// # Errors
/// When the profile cannot be read.
pub async fn files(profile: &Profile, arguments: FilesArgs) -> Result<(), CliError> {
    let lines = match asked(profile, Ask::Files).await? {
        Some(Told::Files { files }) => files,
        Some(_) => {
            return Err(CliError::failed(
                "the app on this profile is of another version",
            ));
        }
        None => at_rest(profile)?,
    };
    if arguments.json {
        print_json(&lines)
    } else if lines.is_empty() {
        Ok(())
    } else {
        print_line(&listed(&lines))
    }
}

/// What the profile says while nothing runs.
fn at_rest(profile: &Profile) -> Result<Vec<FileLine>, CliError> {
    let (_lock, book) = book_at_rest(profile)?;
    let all = FileBook(book.shelf()).all().map_err(CliError::failed)?;
    let line = |transfer: crate::files::book::Transfer| {
        let sentence = match (&transfer.trouble, &transfer.state) {
            (Some(trouble), _) => trouble.to_string(),
            (None, State::Offered | State::Active) => "it goes on when ahoy runs".into(),
            (None, State::Paused | State::Done | State::Refused | State::Failed) => String::new(),
        };
        FileLine {
            id: transfer.id.to_string(),
            direction: direction(transfer.direction).into(),
            user: transfer.user.to_string(),
            person: book.display_name(transfer.user, ""),
            name: harmless(&transfer.offer.name),
            at_ms: transfer.at_millis,
            size: transfer.offer.size,
            done: (transfer.state == State::Done).then_some(transfer.offer.size),
            rate: None,
            sources: None,
            banned: 0,
            state: transfer.state.word().into(),
            path: transfer.path,
            sentence,
        }
    };
    Ok(all.into_iter().map(line).collect())
}
