//! The control socket of a running engine: what `ahoy ctl` talks to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::discovery::dht::publisher::PublishEvent;
use ahoy_transport::runtime::{Runtime as _, TokioRuntime};
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};

use super::{
    echo::call_by,
    files,
    message::{line, send, shown as shown_messages},
    pairing::{let_in_here, revoke_here},
    start::{Running, showing},
};
use crate::{
    call::CommandError,
    cli::{CliError, VideoContentFlag, VideoIn},
    control::{
        CallStatus, Command, ControlError, ControlEvent, ControlHandler, EVENT_BACKLOG, ErrorCode,
        HomeStandingStatus, HomeStatus, LendingStatus, MessageStatus, Opened, OtherCallStatus,
        PROTOCOL, Status, Told,
    },
    engine::{
        book::AddressBook,
        handle::{self, CallView, EngineHandle, Event, OtherCall, OtherState, Phase, View},
        lending::LendingView,
        notice::Notice,
        recording::RecordTo,
        video::{Showing, VideoIn as ShownIn, view::Received},
    },
    files::TransferId,
    people::{PeopleAnswer, PeopleError, PeopleRequest},
};

/// A command waits so long for its effect to show.
const SETTLING: Duration = Duration::from_secs(1);

/// Serves while it lives.
#[derive(Debug)]
pub(crate) struct Served {
    #[cfg(unix)]
    stop: tokio::sync::oneshot::Sender<()>,
    #[cfg(unix)]
    server: tokio::task::JoinHandle<()>,
    #[cfg(unix)]
    teller: tokio::task::JoinHandle<()>,
}

impl Served {
    /// Stops, once whoever asked for something has the answer: a script that hung up must hear that it worked.
    #[cfg_attr(
        not(unix),
        expect(clippy::unused_async, reason = "nothing to wait for here")
    )]
    pub(crate) async fn close(self) {
        #[cfg(unix)]
        {
            // Gone already: then nobody waits.
            self.stop.send(()).unwrap_or_default();
            if self.server.await.is_err() {
                tracing::warn!("the control socket ended in disorder");
            }
            self.teller.abort();
        }
    }
}

/// Opens the control socket of the profile that `running` holds.
/// `opener` tells a window that somebody wants to see it.
///
/// # Errors
/// When the socket cannot be made.
#[cfg(unix)]
pub(crate) fn serve(
    running: &Running,
    opener: Option<watch::Sender<Opened>>,
) -> Result<Served, CliError> {
    use crate::control::ControlServer;

    let server = ControlServer::bind(&running.lock)?;
    let (events, _) = broadcast::channel(EVENT_BACKLOG);
    let handler = Handler {
        engine: running.engine.clone(),
        book: Arc::clone(&running.book),
        events: events.clone(),
        opener,
    };
    let book = Arc::clone(&running.book);
    let (engine_events, view) = (running.engine.events(), running.engine.view());
    let (stop, stopped) = tokio::sync::oneshot::channel();
    // Dropped without a word: all ends.
    let stopped = async move { stopped.await.unwrap_or_default() };
    Ok(Served {
        stop,
        server: tokio::spawn(server.run(handler, stopped)),
        teller: tokio::spawn(tell(engine_events, view, book, events)),
    })
}

/// There are no such sockets here.
#[cfg(not(unix))]
pub(crate) fn serve(
    _running: &Running,
    _opener: Option<watch::Sender<Opened>>,
) -> Result<Served, CliError> {
    Ok(Served {})
}

struct Handler {
    engine: EngineHandle,
    book: Arc<dyn AddressBook>,
    events: broadcast::Sender<ControlEvent>,
    /// Tells the window, if there is one.
    opener: Option<watch::Sender<Opened>>,
}

impl ControlHandler for Handler {
    fn handle(&self, command: Command) -> BoxFuture<'_, Result<Option<Told>, ControlError>> {
        Box::pin(async move {
            let told = self.answer(command).await?;
            // Whoever is told that it is done may rely on it.
            self.book.settled().await;
            Ok(told)
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<ControlEvent> {
        self.events.subscribe()
    }
}

impl Handler {
    /// Carries a command out, and says what there is to tell.
    async fn answer(&self, command: Command) -> Result<Option<Told>, ControlError> {
        let refused = |sentence: String| ControlError::new(ErrorCode::UnknownContact, sentence);
        let unchanged = |sentence: String| ControlError::new(ErrorCode::Unavailable, sentence);
        match &command {
            Command::Message { to, text } => {
                let message = send(&self.engine, to, text).await.map_err(refused)?;
                return Ok(Some(Told::Message { message }));
            }
            Command::Messages { with } => {
                let messages = shown_messages(&*self.book, with.as_deref()).map_err(refused)?;
                return Ok(Some(Told::Messages { messages }));
            }
            Command::SendFile { to, file } => {
                let offered = files::offer(&self.engine, to, file)
                    .await
                    .map_err(refused)?;
                let file = files::file_line(&offered);
                return Ok(Some(Told::File { file }));
            }
            Command::Files => {
                let files = files::shown(&self.engine.view().borrow().files);
                return Ok(Some(Told::Files { files }));
            }
            Command::File { file, action } => {
                let id = files::find(&self.engine, file).map_err(refused)?;
                return self.change_file(id, action).await;
            }
            Command::LetIn {
                device,
                noise,
                name,
            } => {
                let (renewer, shelf) = (self.engine.renewer(), self.book.shelf());
                let grant = let_in_here(&renewer, shelf, (device, noise, name));
                let grant = grant.map_err(unchanged)?;
                return Ok(Some(Told::LetIn { grant }));
            }
            Command::Contact { request } => return self.change_people(request).map(Some),
            Command::RevokeDevice { device } => {
                let (renewer, shelf) = (self.engine.renewer(), self.book.shelf());
                let sentence = revoke_here(&renewer, shelf, device);
                let sentence = sentence.map_err(unchanged)?;
                return Ok(Some(Told::Said { sentence }));
            }
            Command::Open { link } => {
                let no_window = || unchanged("ahoy runs here without a window".into());
                let opener = self.opener.as_ref().ok_or_else(no_window)?;
                opener.send_modify(|opened| {
                    opened.count += 1;
                    opened.link.clone_from(link);
                });
                return Ok(None);
            }
            Command::Status
            | Command::Accept
            | Command::Decline
            | Command::Ignore
            | Command::Switch
            | Command::HangUp
            | Command::Mute
            | Command::Unmute
            | Command::ToggleMute
            | Command::PttDown
            | Command::PttUp
            | Command::Hold { .. }
            | Command::Dnd { .. }
            | Command::Camera { .. }
            | Command::Share { .. }
            | Command::Record { .. }
            | Command::Call { .. }
            | Command::Lend { .. }
            | Command::Homes
            | Command::Events => {}
        }
        let before = Before::of(&self.engine.view().borrow());
        let result = self.carry_out(command.clone());
        if result.is_ok() {
            self.settle(&command, &before).await;
            if matches!(command, Command::Lend { .. }) {
                let lending = lending(&self.engine.view().borrow().lending);
                return Ok(Some(Told::Lending { lending }));
            }
            if matches!(command, Command::Record { file: Some(_) }) {
                return is_recorded(&self.engine.view().borrow());
            }
        }
        result
    }

    /// Changes the address book, and has the engine look at it again.
    fn change_people(&self, request: &PeopleRequest) -> Result<Told, ControlError> {
        let answer = self.book.manage(request, TokioRuntime.unix_millis());
        let answer = answer.map_err(|error| {
            let code = match &error {
                PeopleError::Meant(_) => ErrorCode::UnknownContact,
                PeopleError::Cannot(_) | PeopleError::Store(_) => ErrorCode::Unavailable,
            };
            ControlError::new(code, error.to_string())
        })?;
        match (answer, request) {
            (PeopleAnswer::Done { user, sentence }, request) => {
                let blocked = matches!(request, PeopleRequest::Block { .. });
                self.engine
                    .send(handle::Command::PeopleChanged { user, blocked });
                Ok(Told::Said { sentence })
            }
            (PeopleAnswer::List(list), PeopleRequest::List { from }) => {
                let (people, more) = list.page(*from);
                Ok(Told::People { people, more })
            }
            (PeopleAnswer::List(people), _) => Ok(Told::People {
                people,
                more: false,
            }),
        }
    }

    /// Changes what becomes of a file, and says how it stands then.
    async fn change_file(
        &self,
        id: TransferId,
        action: &str,
    ) -> Result<Option<Told>, ControlError> {
        let Some(change) = files::change(action) else {
            let sentence = format!("{action} is not accept, refuse, cancel or pause");
            return Err(ControlError::new(ErrorCode::BadRequest, sentence));
        };
        let mut events = self.engine.events();
        self.engine.send(handle::Command::File(id, change));
        let changed = async {
            loop {
                match events.recv().await {
                    Ok(Event::File(file)) if file.id == id => return Ok(()),
                    Ok(Event::Failed { sentence }) => return Err(sentence),
                    Ok(_other) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                }
            }
        };
        // Nothing changes where it was so already.
        let changed = tokio::time::timeout(SETTLING, changed)
            .await
            .unwrap_or(Ok(()));
        changed.map_err(|sentence| ControlError::new(ErrorCode::Unavailable, sentence))?;
        let view = self.engine.view();
        let view = view.borrow();
        let file = view.files.iter().find(|file| file.id == id);
        Ok(file.map(|file| Told::File {
            file: files::file_line(file),
        }))
    }

    /// Waits until what was asked for shows, so that whoever asks next is told of it.
    async fn settle(&self, command: &Command, before: &Before) {
        let mut view = self.engine.view();
        let call = |view: &View, wanted: &dyn Fn(&CallView) -> bool| match &view.call {
            Some(call) => is_over(call) || wanted(call),
            None => true,
        };
        let shown = view.wait_for(|view| match command {
            Command::Mute | Command::PttUp => call(view, &|call| call.muted),
            Command::Unmute | Command::PttDown => call(view, &|call| !call.muted),
            Command::ToggleMute => muted(view) != before.muted,
            Command::Hold { on } => call(view, &|call| call.held == *on),
            Command::Dnd { on } => view.do_not_disturb == *on,
            Command::Lend { on } => on.is_none_or(|on| view.lending.wanted == on),
            Command::Record { file } => {
                let is_refused = view.notice.is_some() && view.notice != before.notice;
                is_refused || call(view, &|call| call.recording.is_some() == file.is_some())
            }
            Command::Camera { .. } | Command::Share { .. } => true,
            Command::Accept => {
                let waits = view.other.as_ref().is_some_and(|other| other.state.waits());
                !waits && call(view, &|call| call.phase != Phase::Incoming)
            }
            Command::Ignore => {
                let waits = |other: &OtherCall| other.state == OtherState::Waits;
                !view.other.as_ref().is_some_and(waits)
            }
            Command::Switch => view.other != before.other,
            Command::Decline | Command::HangUp if before.other.is_some() => {
                view.other != before.other
            }
            Command::Decline | Command::HangUp => call(view, &|_running| false),
            Command::Status
            | Command::Call { .. }
            | Command::Message { .. }
            | Command::Messages { .. }
            | Command::SendFile { .. }
            | Command::Files
            | Command::File { .. }
            | Command::LetIn { .. }
            | Command::Contact { .. }
            | Command::RevokeDevice { .. }
            | Command::Open { .. }
            | Command::Homes
            | Command::Events => true,
        });
        // The engine is gone, or busy: the command is on its way all the same.
        if tokio::time::timeout(SETTLING, shown).await.is_err() {
            tracing::debug!("the engine takes its time");
        }
    }

    fn carry_out(&self, command: Command) -> Result<Option<Told>, ControlError> {
        let view = self.engine.view().borrow().clone();
        let call = view.call.as_ref().filter(|call| !is_over(call));
        let no_call = || ControlError::new(ErrorCode::NoCall, "there is no call");
        let command = match command {
            Command::Homes => {
                return Ok(Some(Told::Homes {
                    standings: standings(&view),
                }));
            }
            Command::Status => return Ok(Some(Told::Status(Box::new(status(&view))))),
            Command::Accept | Command::Decline => {
                let call = call.ok_or_else(no_call)?;
                let waits = view.other.as_ref().is_some_and(|other| other.state.waits());
                if call.phase != Phase::Incoming && !waits {
                    return Err(ControlError::new(
                        ErrorCode::NotRinging,
                        "no call rings here",
                    ));
                }
                if command == Command::Accept {
                    handle::Command::Accept
                } else {
                    handle::Command::Decline
                }
            }
            Command::Ignore | Command::Switch => {
                let is_switch = command == Command::Switch;
                let fits = |other: &&OtherCall| other.state.waits() != is_switch;
                if view.other.as_ref().filter(fits).is_none() {
                    let sentence = if is_switch {
                        "no other call is on hold"
                    } else {
                        "no call waits"
                    };
                    return Err(ControlError::new(ErrorCode::NoCall, sentence));
                }
                if is_switch {
                    handle::Command::Switch
                } else {
                    handle::Command::Ignore
                }
            }
            Command::HangUp => call
                .ok_or_else(no_call)
                .map(|_call| handle::Command::HangUp)?,
            Command::Mute | Command::PttUp => call
                .ok_or_else(no_call)
                .map(|_call| handle::Command::Mute(true))?,
            Command::Unmute | Command::PttDown => call
                .ok_or_else(no_call)
                .map(|_call| handle::Command::Mute(false))?,
            Command::ToggleMute => {
                let call = call.ok_or_else(no_call)?;
                handle::Command::Mute(!call.muted)
            }
            Command::Hold { on } => call
                .ok_or_else(no_call)
                .map(|_call| handle::Command::Hold(on))?,
            Command::Dnd { on } => handle::Command::DoNotDisturb(on),
            Command::Lend { on: Some(on) } => handle::Command::Lend(on),
            Command::Lend { on: None } => return Ok(None),
            Command::Camera { on, device } => {
                call.ok_or_else(no_call)?;
                let camera = if on {
                    VideoIn::Camera(device)
                } else {
                    VideoIn::Nothing
                };
                handle::Command::Show(shown(&camera, None)?)
            }
            Command::Share {
                source,
                content,
                sound,
            } => {
                call.ok_or_else(no_call)?;
                let Ok(source) = source.parse::<VideoIn>();
                let shown = shown(&source, content.as_deref())?;
                // Nothing that is shown ends the sound as well.
                if shown.is_some() {
                    self.engine.send(handle::Command::ShareSound(sound));
                }
                handle::Command::Show(shown)
            }
            Command::Record { file } => {
                let call = call.ok_or_else(no_call)?;
                if file.is_some() && !matches!(call.phase, Phase::Talking { .. }) {
                    return Err(CommandError::NotTalking.into());
                }
                if file.is_some() && call.recording.is_some() {
                    return Err(ControlError::new(
                        ErrorCode::Unavailable,
                        "this call is recorded already: ahoy ctl record off",
                    ));
                }
                handle::Command::Record(file.map(|path| RecordTo {
                    path,
                    any_number: false,
                }))
            }
            Command::Call { to } => {
                if call.is_some() {
                    return Err(ControlError::new(
                        ErrorCode::InCall,
                        "there is a call already: ahoy ctl hangup",
                    ));
                }
                if to.eq_ignore_ascii_case("echo") && self.book.find(&to).is_err() {
                    tokio::spawn(call_by(self.engine.clone()));
                    return Ok(None);
                }
                handle::Command::Call(to)
            }
            // Answered by the socket itself, or above.
            Command::Events
            | Command::Message { .. }
            | Command::Messages { .. }
            | Command::SendFile { .. }
            | Command::Files
            | Command::File { .. }
            | Command::LetIn { .. }
            | Command::Contact { .. }
            | Command::Open { .. }
            | Command::RevokeDevice { .. } => {
                return Ok(None);
            }
        };
        if self.engine.send(command) {
            Ok(None)
        } else {
            Err(ControlError::new(
                ErrorCode::Unavailable,
                "ahoy is shutting down",
            ))
        }
    }
}

/// What to show of a source.
fn shown(source: &VideoIn, content: Option<&str>) -> Result<Option<Showing>, ControlError> {
    let refused = |sentence: String| ControlError::new(ErrorCode::BadRequest, sentence);
    if !cfg!(feature = "video") {
        return Err(refused("this ahoy was built without pictures".into()));
    }
    if let VideoIn::File(path) = source
        && !path.is_file()
    {
        let path = path.display();
        return Err(refused(format!(
            "there is no film {path}: say camera, screen, screen:NAME, window:TITLE, pattern, none or a FILE.y4m"
        )));
    }
    let content = match content {
        None | Some("auto") => VideoContentFlag::Auto,
        Some("text") => VideoContentFlag::Text,
        Some("motion") => VideoContentFlag::Motion,
        Some(other) => {
            return Err(refused(format!("{other} is not auto, text or motion")));
        }
    };
    showing(source, content).map_err(|error| refused(error.to_string()))
}

/// What was to be seen before a command.
struct Before {
    muted: Option<bool>,
    notice: Option<Notice>,
    other: Option<OtherCall>,
}

impl Before {
    fn of(view: &View) -> Self {
        Self {
            muted: muted(view),
            notice: view.notice.clone(),
            other: view.other.clone(),
        }
    }
}

/// Whether the recording that was asked for has begun, or why not.
fn is_recorded(view: &View) -> Result<Option<Told>, ControlError> {
    let call = view.call.as_ref().filter(|call| !is_over(call));
    if call.is_some_and(|call| call.recording.is_some()) {
        return Ok(None);
    }
    let why = view.notice.as_ref().map(ToString::to_string);
    let why = why.unwrap_or_else(|| "the call is not recorded".into());
    Err(ControlError::new(ErrorCode::Unavailable, why))
}

fn muted(view: &View) -> Option<bool> {
    let call = view.call.as_ref().filter(|call| !is_over(call));
    call.map(|call| call.muted)
}

fn is_over(call: &CallView) -> bool {
    matches!(call.phase, Phase::Ended { .. })
}

fn homes(view: &View) -> Vec<HomeStatus> {
    view.homes
        .iter()
        .map(|home| HomeStatus {
            node: home.node.to_string(),
            registered: home.registered,
        })
        .collect()
}

fn standings(view: &View) -> Vec<HomeStandingStatus> {
    let round = |share: f64| (share * 100.0).round() / 100.0;
    let standing = view.standings.iter().map(|home| HomeStandingStatus {
        node: home.address.to_string(),
        state: if home.registered {
            "registered"
        } else {
            "down"
        }
        .into(),
        kept: round(home.kept),
        broken: round(home.broken),
        score: round(home.least),
        rtt_ms: home.rtt.map(|rtt| round(rtt.as_secs_f64() * 1e3)),
        bad: home.bad,
        why: home.why.clone(),
    });
    standing.collect()
}

fn lending(view: &LendingView) -> LendingStatus {
    LendingStatus {
        wanted: view.wanted,
        state: view.state.word().into(),
        link: view.link.clone(),
        reached_by: view.proofs.0,
        asked: view.proofs.1,
        people: view.people,
        most_people: view.most_people,
        calls: view.calls,
        busy: view.busy,
        helped: view.helped,
        relayed_bytes: view.relayed_bytes,
        since_ms: view.since_millis,
        upload_bps: view.upload_bps,
        sentence: view.sentence(),
    }
}

fn status(view: &View) -> Status {
    Status {
        protocol: PROTOCOL,
        link: view.link.clone().unwrap_or_default(),
        dnd: view.do_not_disturb,
        homes: homes(view),
        call: view
            .call
            .as_ref()
            .filter(|call| !is_over(call))
            .map(call_status),
        other: view.other.as_ref().map(other_status),
    }
}

fn other_status(other: &OtherCall) -> OtherCallStatus {
    OtherCallStatus {
        id: other.id.to_string(),
        user: other.user.to_string(),
        name: other.name.clone(),
        state: match other.state {
            OtherState::Waits => "waits",
            OtherState::Ignored => "ignored",
            OtherState::OnHold => "on_hold",
            OtherState::Reconnecting => "reconnecting",
        }
        .into(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the socket is outside the simulated world: its clients live by the real clock"
)]
fn call_status(call: &CallView) -> CallStatus {
    let now = Instant::now();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    CallStatus {
        id: call.id.to_string(),
        direction: if call.outgoing {
            "outgoing"
        } else {
            "incoming"
        }
        .into(),
        user: call.user.to_string(),
        name: Some(call.name.clone()),
        state: match &call.phase {
            Phase::Calling => "calling",
            Phase::Ringing => "ringing_there",
            Phase::Incoming => "ringing_here",
            Phase::Connecting => "connecting",
            Phase::Talking { .. } => "talking",
            Phase::Reconnecting => "reconnecting",
            Phase::Ended { .. } => "ended",
        }
        .into(),
        gives_up_in_ms: call
            .gives_up_at
            .map(|at| millis(at.saturating_duration_since(now))),
        muted: call.muted,
        held: call.held,
        shown: call.pictures.sent.as_ref().map(|sent| kind(&sent.input)),
        seen: match call.pictures.received {
            Received::Nothing => "nothing",
            Received::Comes => "comes",
            Received::Still => "still",
        }
        .into(),
        picture_trouble: call.pictures.trouble.as_ref().map(ToString::to_string),
        recording: call
            .recording
            .as_ref()
            .map(|recording| recording.path.clone()),
        recorded_there: call.recorded_there,
        safety_words: call.safety_words.clone(),
        words_committed: call.words_committed,
        age_ms: millis(now.saturating_duration_since(call.started)),
    }
}

fn kind(input: &ShownIn) -> String {
    match input {
        ShownIn::Camera { .. } => "camera",
        ShownIn::Screen { target, .. } if target.starts_with("window") => "window",
        ShownIn::Screen { .. } => "screen",
        ShownIn::Pattern { .. } => "pattern",
        ShownIn::File(_) => "film",
    }
    .into()
}

/// What of our record's fate a person should hear of.
fn anomaly(event: &PublishEvent) -> Option<ControlEvent> {
    match event {
        PublishEvent::Hidden { put, readable } => Some(ControlEvent::Anomaly {
            kind: "hidden_record".into(),
            sentence: format!(
                "of {} copies of your record in the DHT others can read {readable}: somebody hides them, or the DHT is \
                 broken; who knows one of your homes reaches you all the same",
                put.stored
            ),
        }),
        // A failure is tried again soon, and is no work of anybody's.
        PublishEvent::Published { .. } | PublishEvent::Failed(_) => None,
    }
}

/// Turns what happens into what clients are told.
async fn tell(
    mut events: broadcast::Receiver<Event>,
    view: watch::Receiver<View>,
    book: Arc<dyn AddressBook>,
    out: broadcast::Sender<ControlEvent>,
) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(count)) => {
                // Nobody listening is fine.
                out.send(ControlEvent::Missed { count }).unwrap_or_default();
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let told = match event {
            Event::Ended {
                call,
                outcome,
                report,
                ..
            } => Some(ControlEvent::Ended {
                id: call.to_string(),
                outcome: outcome.as_str().to_owned(),
                reason: report.reason.clone(),
                duration_ms: report.duration_ms,
            }),
            Event::Ready { .. } | Event::HomeLost { .. } | Event::HomeBack { .. } => {
                Some(ControlEvent::Homes {
                    homes: homes(&view.borrow()),
                })
            }
            Event::Incoming { .. }
            | Event::Ringing { .. }
            | Event::Connected { .. }
            | Event::FirstAudio { .. } => {
                view.borrow().call.as_ref().map(|call| ControlEvent::Call {
                    call: call_status(call),
                })
            }
            Event::Waiting { .. } => {
                view.borrow()
                    .other
                    .as_ref()
                    .map(|other| ControlEvent::Waiting {
                        other: other_status(other),
                    })
            }
            Event::Pictures { call, news } => Some(ControlEvent::Pictures {
                id: call.to_string(),
                kind: news.kind.name().to_owned(),
                sentence: news.sentence,
            }),
            Event::Recording { call, news } => Some(ControlEvent::Recording {
                id: call.to_string(),
                kind: news.kind.name().to_owned(),
                sentence: news.sentence,
            }),
            Event::Message {
                message, request, ..
            } => Some(ControlEvent::Message {
                message: line(&*book, &message),
                request,
            }),
            Event::MessageState {
                id,
                to,
                name,
                state,
            } => Some(ControlEvent::MessageState {
                message: MessageStatus::new(id, to, &name, state),
            }),
            Event::File(file) => Some(ControlEvent::File {
                file: files::file_line(&file),
            }),
            Event::Record(event) => anomaly(&event),
            Event::Anomaly { kind, sentence } => Some(ControlEvent::Anomaly {
                kind: kind.word().into(),
                sentence,
            }),
            Event::Lending(view) => Some(ControlEvent::Lending {
                lending: lending(&view),
            }),
            Event::Request { .. }
            | Event::Failed { .. }
            | Event::Sound { .. }
            | Event::SoundChosen(_) => None,
        };
        if let Some(told) = told {
            // Nobody listening is fine.
            out.send(told).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use ahoy_nat::discovery::dht::PutOutcome;
    use ahoy_transport::identity::RootKey;

    use super::*;
    use crate::engine::memory_book::MemoryBook;

    #[tokio::test]
    async fn a_hidden_record_is_told_and_a_published_one_is_not() {
        let (events, receiver) = broadcast::channel(4);
        let (out, mut told) = broadcast::channel(4);
        let (_view, view) = watch::channel(View::default());
        let user = RootKey::from_seed(&[7; 32]).user();
        let book: Arc<dyn AddressBook> = Arc::new(MemoryBook::new(user, "Eva"));
        let put = PutOutcome {
            copies: 8,
            stored: 6,
        };
        let published = PublishEvent::Published {
            put,
            readable: Some(6),
        };
        events.send(Event::Record(published)).unwrap();
        let hidden = PublishEvent::Hidden { put, readable: 1 };
        events.send(Event::Record(hidden)).unwrap();
        drop(events);
        tell(receiver, view, book, out).await;
        let Ok(ControlEvent::Anomaly { kind, sentence }) = told.try_recv() else {
            panic!("it is told, and first");
        };
        assert_eq!(kind, "hidden_record");
        assert!(sentence.starts_with("of 6 copies of your record in the DHT others can read 1:"));
        assert!(told.try_recv().is_err(), "nothing else is");
    }
}
