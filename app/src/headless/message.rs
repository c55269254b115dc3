//! `ahoy message` and `ahoy messages`: by the app that runs on the profile, or else by an engine of its own for as
//! long as that takes.

use std::time::Duration;

use ahoy_transport::runtime::{RuntimeExt as _, TokioRuntime};
use tokio::sync::broadcast::{self, error::RecvError};

use super::start::{Running, book_at_rest, start};
use crate::{
    call::CallConfig,
    chat::{Content, Line, Message, MessageId, MessageState, Obstacle, book::ChatBook},
    cli::{
        AudioIn, AudioOut, CliError, Exit, MediaFlags, MessagePlan, MessagesPlan, print_json,
        print_line, told,
    },
    control::{Command as Ask, MessageLine, MessageStatus, Told},
    engine::{
        book::AddressBook,
        config::Answering,
        handle::{Command, EngineHandle, Event},
    },
    profile::Profile,
};

/// An attempt takes no longer.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Whoever is there has said so by then: a few round trips and a look at a home.
const ANSWER: Duration = Duration::from_secs(3);
/// Messages that are shown at most.
const SHOWN: usize = 500;
/// Of those, what the control socket carries in a line, in bytes of text and names.
const SHOWN_BYTES: usize = 24 * 1024;

/// Sends a message and waits until it is known how far it got: delivered, or what holds after a moment.
///
/// # Errors
/// Why it is not even kept, as a sentence.
pub(super) async fn send(
    engine: &EngineHandle,
    to: &str,
    text: &str,
) -> Result<MessageStatus, String> {
    let mut events = engine.events();
    let id = MessageId(TokioRuntime.random_array());
    let command = Command::Message {
        id,
        to: to.into(),
        text: text.into(),
    };
    if !engine.send(command) {
        return Err("ahoy is shutting down".into());
    }
    let mut last: Option<MessageStatus> = None;
    let tried = follow(&mut events, id, &mut last, |state| match state {
        MessageState::Queued(None) => false,
        MessageState::Queued(Some(_))
        | MessageState::Waiting(_)
        | MessageState::Delivered { .. }
        | MessageState::Expired => true,
    });
    // Longer than that is an answer too: it is on its way.
    if let Ok(Err(sentence)) = tokio::time::timeout(ATTEMPT, tried).await {
        return Err(sentence);
    }
    if last.as_ref().is_some_and(|last| last.state == "waiting") {
        let delivered = follow(&mut events, id, &mut last, |state| {
            matches!(state, MessageState::Delivered { .. })
        });
        // It waits: that is an answer too.
        tokio::time::timeout(ANSWER, delivered)
            .await
            .unwrap_or(Ok(()))?;
    }
    last.ok_or_else(|| "ahoy does not answer; see ahoy messages".into())
}

async fn follow(
    events: &mut broadcast::Receiver<Event>,
    id: MessageId,
    last: &mut Option<MessageStatus>,
    enough: impl Fn(&MessageState) -> bool,
) -> Result<(), String> {
    loop {
        match events.recv().await {
            Ok(Event::MessageState {
                id: of,
                to,
                name,
                state,
            }) if of == id => {
                *last = Some(MessageStatus::new(id, to, &name, state));
                if enough(&state) {
                    return Ok(());
                }
            }
            Ok(Event::Failed { sentence }) if last.is_none() => return Err(sentence),
            Ok(_other) => {}
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err("the engine stopped".into()),
        }
    }
}

/// Sends a message.
///
/// # Errors
/// Exit code 3 when nobody took it yet, 2 when nobody is called so.
pub async fn message(profile: &Profile, plan: MessagePlan) -> Result<(), CliError> {
    let MessagePlan { to, text, via } = plan;
    let ask = Ask::Message {
        to: to.clone(),
        text: text.clone(),
    };
    let status = match asked(profile, ask).await? {
        Some(Told::Message { message }) => message,
        Some(_) => {
            return Err(CliError::failed(
                "the app on this profile is of another version",
            ));
        }
        None => {
            let media = MediaFlags {
                audio_in: Some(AudioIn::Silence),
                audio_out: Some(AudioOut::Null),
                via,
                no_portmap: true,
                ..MediaFlags::default()
            };
            let person = Answering::Person;
            let limits = CallConfig::default();
            let media = media.plan()?;
            let Running {
                engine,
                events,
                ending,
                ..
            } = start(profile, &media, false, person, limits, None, None).await?;
            // Nobody listens to what happened before.
            drop(events);
            let sent = send(&engine, &to, &text).await;
            engine.send(Command::Quit);
            ending.wait().await;
            sent.map_err(CliError::usage)?
        }
    };
    match status.obstacle {
        None => print_line(&status.sentence),
        Some(Obstacle::Untrusted) => Err(CliError::new(Exit::Authentication, status.sentence)),
        Some(Obstacle::Unknown | Obstacle::NoRoute | Obstacle::NoBox | Obstacle::Full) => {
            Err(CliError::new(Exit::NoRoute, status.sentence))
        }
    }
}

/// Shows what was written.
///
/// # Errors
/// When nobody is called so, or the profile cannot be read.
pub async fn messages(profile: &Profile, plan: MessagesPlan) -> Result<(), CliError> {
    let MessagesPlan { with, json } = plan;
    let ask = Ask::Messages { with: with.clone() };
    let lines = match asked(profile, ask).await? {
        Some(Told::Messages { messages }) => messages,
        Some(_) => {
            return Err(CliError::failed(
                "the app on this profile is of another version",
            ));
        }
        None => {
            let (_lock, book) = book_at_rest(profile)?;
            lines(&book, with.as_deref(), usize::MAX).map_err(CliError::usage)?
        }
    };
    if json {
        print_json(&lines)
    } else if lines.is_empty() {
        Ok(())
    } else {
        print_line(&told(&lines))
    }
}

/// Asks the app that runs on the profile; `None` when there is none.
#[cfg(unix)]
pub(super) async fn asked(profile: &Profile, ask: Ask) -> Result<Option<Told>, CliError> {
    use crate::control::{ControlClient, ControlSocketError};

    let mut client = match ControlClient::connect(profile.dir()).await {
        Ok(client) => client,
        Err(ControlSocketError::NotRunning) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let answer = client.request(ask).await?;
    match (answer.result, answer.error) {
        (_, Some(error)) => Err(CliError::usage(error.message)),
        (Some(told), None) => Ok(Some(told)),
        (None, None) => Err(CliError::failed("the app on this profile says nothing")),
    }
}

/// There are no such sockets here.
#[cfg(not(unix))]
#[expect(clippy::unused_async, reason = "nothing to ask here")]
pub(super) async fn asked(_profile: &Profile, _ask: Ask) -> Result<Option<Told>, CliError> {
    Ok(None)
}

/// The newest messages with somebody, or with everybody, oldest first.
///
/// # Errors
/// A sentence.
pub(super) fn shown(
    book: &dyn AddressBook,
    with: Option<&str>,
) -> Result<Vec<MessageLine>, String> {
    lines(book, with, SHOWN_BYTES)
}

fn lines(
    book: &dyn AddressBook,
    with: Option<&str>,
    max_bytes: usize,
) -> Result<Vec<MessageLine>, String> {
    let user = with.map(|with| book.find(with)).transpose();
    let user = user.map_err(|notice| notice.to_string())?;
    let user = user.map(|person| person.user);
    let messages = ChatBook(book.shelf()).messages(user, SHOWN);
    let messages = messages.map_err(|error| error.to_string())?;
    let mut room = max_bytes;
    let newest = messages.iter().rev().map(|message| line(book, message));
    let mut lines: Vec<MessageLine> = newest
        .take_while(|line| {
            // Ids and field names, and twice the text: line feeds and quotes take two bytes.
            let size = 300 + 2 * line.text.as_ref().map_or(0, String::len) + 2 * line.name.len();
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        })
        .collect();
    lines.reverse();
    Ok(lines)
}

/// A message as programs see it.
pub(super) fn line(book: &dyn AddressBook, message: &Message) -> MessageLine {
    let (state, homes) = match message.line {
        Line::Received => (None, None),
        Line::Sent(state @ MessageState::Waiting(homes)) => (Some(state), Some(homes)),
        Line::Sent(state) => (Some(state), None),
    };
    MessageLine {
        id: message.id.to_string(),
        user: message.user.to_string(),
        name: book.display_name(message.user, ""),
        at_ms: message.at_millis,
        kind: match message.content {
            Content::Text(_) => "text",
            Content::MissedCall => "missed_call",
        }
        .into(),
        text: match &message.content {
            Content::Text(text) => Some(text.clone()),
            Content::MissedCall => None,
        },
        state: state.map(|state| state.word().into()),
        homes,
    }
}
