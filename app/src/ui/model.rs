//! What the window says and offers for a [`View`], decided without a window.

use std::time::{Duration, Instant};

use ahoy_transport::identity::UserId;
use chrono::{DateTime, Datelike as _, Local, TimeZone};
use eframe::egui::{Key, ThemePreference};
use rand_core::{OsRng, RngCore as _};

use super::{
    desk::DeskView,
    keys, told,
    words::{self, Word},
};
use crate::{
    call::CallId,
    chat::{Content, Line, MessageId},
    contacts::Ring,
    engine::{
        files::TransferView,
        handle::{CallView, Command, ContactView, HomeView, OtherCall, OtherState, Phase, View},
        people::ConversationView,
        presence::Presence,
        sentence::clock,
        video::{VideoIn, view::Received},
    },
    files::{
        TransferId,
        book::{Direction, State},
    },
    keys::CallKey,
    link::{Link, PersonLink},
    sound::{SoundDevice, SoundSwitch},
};

/// A button of the call card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What stands on it; also its accessible name.
    pub label: &'static str,
    /// What it does.
    pub act: Act,
    /// The key that does the same, alone and while no field is typed into.
    pub key: Key,
    /// How it looks.
    pub kind: ActionKind,
}

/// What a button does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The engine is told.
    Tell(Command),
    /// The call that rings is answered, and its caller sees the camera.
    AnswerSeen,
    /// The sentences appear with which the call that rings can be declined.
    Reply,
    /// The camera is shown.
    Camera,
    /// The page opens, or closes, where people choose what else to show.
    Share,
    /// The call is recorded, in the person's folder of films.
    Record,
    /// The page about sound opens.
    Sound,
}

/// How a button looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// The thing most people want now.
    Primary,
    /// It ends something.
    Danger,
    /// Neither.
    Plain,
}

/// Whether we can be called, in one line.
#[must_use]
pub fn reachability(homes: &[HomeView]) -> String {
    let up = homes.iter().filter(|home| home.registered).count();
    match (homes.len(), up) {
        (0, _) => words::no_supernode().into(),
        (_, 0) => words::looking_for_supernodes().into(),
        (all, up) => words::reachable(all as u64, up),
    }
}

/// The call in one line under the name.
#[must_use]
pub fn call_line(call: &CallView, now: Instant) -> String {
    match &call.phase {
        Phase::Calling => words::phase_calling().into(),
        Phase::Ringing => words::phase_ringing().into(),
        Phase::Incoming => words::phase_incoming().into(),
        Phase::Connecting => words::phase_connecting().into(),
        Phase::Talking { since } => {
            let clock = clock(now.saturating_duration_since(*since));
            if call.held {
                return words::talking_on_hold(clock, &call.name);
            }
            if call.held_there {
                return words::talking_held_there(clock, &call.name);
            }
            match call.path {
                Some(path) => words::talking_by_path(clock, told::path(path)),
                None => words::talking(clock),
            }
        }
        Phase::Reconnecting => match call.gives_up_at {
            Some(until) => words::reconnecting_for(clock(until.saturating_duration_since(now))),
            None => words::reconnecting().into(),
        },
        Phase::Ended { direction, ending } => told::ended(&call.name, *direction, *ending),
    }
}

/// A button, with its key as the person has chosen it.
fn action(label: &'static str, key: CallKey, act: Act, kind: ActionKind) -> Action {
    Action {
        label,
        act,
        key: keys::of(key),
        kind,
    }
}

/// What can be done about the call now, most wanted first.
#[must_use]
pub fn call_actions(call: &CallView) -> Vec<Action> {
    let (plain, primary) = (ActionKind::Plain, ActionKind::Primary);
    let danger = |label, key, command| action(label, key, Act::Tell(command), ActionKind::Danger);
    let mute = if call.muted {
        let unmute = Act::Tell(Command::Mute(false));
        action(words::unmute(), CallKey::Mute, unmute, primary)
    } else {
        action(
            words::mute(),
            CallKey::Mute,
            Act::Tell(Command::Mute(true)),
            plain,
        )
    };
    match call.phase {
        Phase::Incoming => answers(),
        Phase::Calling | Phase::Ringing => {
            vec![danger(words::cancel(), CallKey::HangUp, Command::HangUp)]
        }
        Phase::Connecting | Phase::Talking { .. } | Phase::Reconnecting => {
            let mut actions = vec![mute];
            if cfg!(feature = "video") {
                let sent = call.pictures.sent.as_ref().map(|sent| &sent.input);
                let (camera, share) = match sent {
                    Some(VideoIn::Camera { .. }) => (true, false),
                    Some(VideoIn::Screen { .. } | VideoIn::File(_) | VideoIn::Pattern { .. }) => {
                        (false, true)
                    }
                    None => (false, false),
                };
                actions.push(if camera {
                    let stop = Act::Tell(Command::Show(None));
                    action(words::stop_camera(), CallKey::Camera, stop, primary)
                } else {
                    action(words::camera(), CallKey::Camera, Act::Camera, plain)
                });
                actions.push(if share {
                    action(words::sharing(), CallKey::Share, Act::Share, primary)
                } else {
                    action(words::share(), CallKey::Share, Act::Share, plain)
                });
            }
            if call.recording.is_some() {
                let stop = Act::Tell(Command::Record(None));
                actions.push(action(
                    words::stop_recording(),
                    CallKey::Record,
                    stop,
                    primary,
                ));
            } else if matches!(call.phase, Phase::Talking { .. }) {
                // Before, nobody is there to be told.
                actions.push(action(words::record(), CallKey::Record, Act::Record, plain));
            }
            let (label, kind) = if call.held {
                (words::resume(), primary)
            } else {
                (words::hold(), plain)
            };
            let hold = Act::Tell(Command::Hold(!call.held));
            actions.push(action(label, CallKey::Hold, hold, kind));
            actions.push(danger(words::hang_up(), CallKey::HangUp, Command::HangUp));
            actions
        }
        Phase::Ended { .. } => Vec::new(),
    }
}

/// What can be done about a call that rings, or waits, whoever calls.
fn answers() -> Vec<Action> {
    let accept = Act::Tell(Command::Accept);
    let mut answers = vec![action(
        words::answer(),
        CallKey::Answer,
        accept,
        ActionKind::Primary,
    )];
    if cfg!(feature = "video") {
        let label = words::answer_seen();
        answers.push(action(
            label,
            CallKey::AnswerSeen,
            Act::AnswerSeen,
            ActionKind::Primary,
        ));
    }
    let decline = Act::Tell(Command::Decline);
    answers.push(action(
        words::decline(),
        CallKey::Decline,
        decline,
        ActionKind::Danger,
    ));
    answers
}

/// Declining with a message, where somebody rings or waits whom one writes to: strangers are told nothing.
fn reply(view: &View, user: UserId) -> Option<Action> {
    let (_call, rings, _name) = ringing(view)?;
    let label = words::decline_saying();
    let may_write = rings == user && is_contact(view, user);
    may_write.then(|| action(label, CallKey::DeclineSaying, Act::Reply, ActionKind::Plain))
}

/// What can be done about the call in hand, as far as `view` knows who it is.
#[must_use]
pub fn actions(view: &View, call: &CallView) -> Vec<Action> {
    let mut actions = call_actions(call);
    if call.phase == Phase::Incoming {
        actions.extend(reply(view, call.user));
    }
    actions
}

/// What can be done about the call beside it, likewise.
#[must_use]
pub fn actions_beside(view: &View, other: &OtherCall) -> Vec<Action> {
    let mut actions = other_actions(other);
    if other.state.waits() {
        actions.extend(reply(view, other.user));
    }
    actions
}

/// The call that is answered or declined now, if any: the one that rings, or else the one that waits; who calls, and as whom.
#[must_use]
pub fn ringing(view: &View) -> Option<(CallId, UserId, &str)> {
    let call = view.call.as_ref()?;
    if call.phase == Phase::Incoming {
        return Some((call.id, call.user, &call.name));
    }
    let (_call, other) = other_call(view)?;
    let waits = other.state.waits();
    waits.then_some((other.id, other.user, &other.name))
}

/// What there is to say of the call beside the one in hand, called `name`.
#[must_use]
pub fn other_line(other: &OtherCall, name: &str) -> String {
    let them = &other.name;
    match other.state {
        OtherState::Waits => words::other_waits(them, name),
        OtherState::Ignored => words::other_ignored(them),
        OtherState::OnHold => words::other_on_hold(them),
        OtherState::Reconnecting => words::other_reconnecting(them),
    }
}

/// What can be done about the call beside the one in hand.
#[must_use]
pub fn other_actions(other: &OtherCall) -> Vec<Action> {
    let plain = |label, key, command| action(label, key, Act::Tell(command), ActionKind::Plain);
    match other.state {
        OtherState::Waits => {
            let mut actions = answers();
            let label = words::ignore();
            actions.push(plain(label, CallKey::Ignore, Command::Ignore));
            actions
        }
        OtherState::Ignored => answers(),
        OtherState::OnHold | OtherState::Reconnecting => {
            vec![plain(
                words::switch_calls(),
                CallKey::Switch,
                Command::Switch,
            )]
        }
    }
}

/// The call beside the one in hand, while there is one to be beside.
#[must_use]
pub fn other_call(view: &View) -> Option<(&CallView, &OtherCall)> {
    let call = view.call.as_ref().filter(|call| !is_over(call))?;
    Some((call, view.other.as_ref()?))
}

/// Something that is wrong in a call, and the one thing to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    /// What is wrong.
    pub text: String,
    /// What stands on its button.
    pub label: &'static str,
    /// What that does.
    pub act: Act,
}

/// What is wrong in the call now.
#[must_use]
pub fn banners(call: &CallView) -> Vec<Banner> {
    let mut banners = Vec::new();
    if is_over(call) {
        return banners;
    }
    if let Some(trouble) = &call.sound_trouble {
        banners.push(Banner {
            text: told::trouble::sound(trouble),
            label: words::choose_device(),
            act: Act::Sound,
        });
    }
    if let Some(trouble) = &call.pictures.trouble {
        banners.push(Banner {
            text: told::trouble::pictures(trouble),
            label: words::choose_to_show(),
            act: Act::Share,
        });
    }
    banners
}

/// What is between the two sides, as far as it is known.
pub(super) fn path_stations(path: Option<&str>) -> Option<&'static str> {
    match path {
        Some("relay") => Some(words::station_supernode()),
        Some("tcp") => Some(words::station_tcp()),
        Some("lan") => Some(words::station_lan()),
        Some(_direct) => None,
        None => Some(words::station_none()),
    }
}

/// A line about recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingLine {
    /// What it says.
    pub text: String,
    /// It goes on now, so it has the red mark.
    pub is_on: bool,
}

/// Who records the call, and where the last recording is.
#[must_use]
pub fn recording_lines(call: &CallView, now: Instant) -> Vec<RecordingLine> {
    let on = |text| RecordingLine { text, is_on: true };
    let mut lines = Vec::new();
    if let Some(recording) = &call.recording {
        let time = now.saturating_duration_since(recording.since);
        lines.push(on(words::recording_for(clock(time))));
    } else if let Some(path) = &call.recorded {
        lines.push(RecordingLine {
            text: words::recorded_to(path.display()),
            is_on: false,
        });
    }
    if call.recorded_there && !is_over(call) {
        lines.push(on(words::records_there(&call.name)));
    }
    lines
}

/// What stands over the picture of the other side, or where it would be, if there is something to be said.
#[must_use]
pub fn stage_words(call: &CallView) -> Option<String> {
    let name = &call.name;
    match (&call.phase, call.pictures.received) {
        (Phase::Reconnecting, _) => Some(words::reconnecting().to_owned()),
        _held if call.held => Some(words::stage_held(name)),
        _held if call.held_there => Some(words::stage_held_there(name)),
        (_, Received::Still) => Some(words::stage_still(name)),
        (_, Received::Nothing | Received::Comes) => None,
    }
}

/// The call to show: the one of `view`, unless it is over and was put away.
#[must_use]
pub fn shown_call(view: &View, put_away: Option<CallId>) -> Option<&CallView> {
    view.call
        .as_ref()
        .filter(|call| !is_over(call) || put_away != Some(call.id))
}

/// The call that wants the person's attention: it rings or waits, and they let calls disturb them.
#[must_use]
pub fn wants_attention(view: &View) -> Option<CallId> {
    wanting(view).map(|(call, _name)| call)
}

/// The same, and who it is.
#[must_use]
pub fn wanting(view: &View) -> Option<(CallId, &str)> {
    let call = view.call.as_ref()?;
    if call.phase == Phase::Incoming {
        let wants = view.is_heard(call.user);
        return wants.then_some((call.id, &call.name));
    }
    let (_call, other) = other_call(view)?;
    let wants = other.state == OtherState::Waits && view.is_heard(other.user);
    wants.then_some((other.id, &other.name))
}

/// What stands in the window's title, where a task bar shows it while another window has the focus.
#[must_use]
pub fn title(call: Option<&CallView>, unread: usize) -> String {
    let Some(call) = call else {
        return match unread {
            0 => "ahoy".into(),
            unread => words::title_unread(unread),
        };
    };
    let name = &call.name;
    match &call.phase {
        Phase::Calling | Phase::Ringing => words::title_calling(name),
        Phase::Incoming => words::title_incoming(name),
        Phase::Connecting | Phase::Reconnecting => words::title_connecting(name),
        Phase::Talking { .. } if call.muted => words::title_muted(name),
        Phase::Talking { .. } => words::title_talking(name),
        Phase::Ended { .. } => words::title_ended(name),
    }
}

/// How long what is shown of `call` stays true if nothing happens: its clock counts seconds.
#[must_use]
pub fn next_change(call: &CallView, now: Instant) -> Option<Duration> {
    match call.phase {
        Phase::Talking { since } => {
            let second = Duration::from_secs(1);
            let talked = now.saturating_duration_since(since);
            Some(second - Duration::from_nanos(talked.subsec_nanos().into()))
        }
        Phase::Reconnecting => {
            let left = call.gives_up_at?.saturating_duration_since(now);
            let part = Duration::from_nanos(left.subsec_nanos().into());
            // At the whole second it still says the same.
            Some(part + Duration::from_millis(1)).filter(|_| !left.is_zero())
        }
        Phase::Calling
        | Phase::Ringing
        | Phase::Incoming
        | Phase::Connecting
        | Phase::Ended { .. } => None,
    }
}

/// What is shown of a person on their page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonLines {
    /// What they are called here.
    pub name: String,
    /// Reaches them, whatever others are called.
    pub target: String,
    /// In the address book.
    pub is_contact: bool,
    /// Safety words were compared.
    pub verified: bool,
    /// Never learns our address.
    pub relay_only: bool,
    /// How their calls are told of.
    pub ring: Ring,
    /// Two lists of their devices contradict each other.
    pub forked: bool,
    /// Waits in the request inbox.
    pub asks: bool,
}

/// What is known of a person.
#[must_use]
pub fn person_lines(view: &View, user: UserId) -> PersonLines {
    let contact = view.contacts.iter().find(|contact| contact.user == user);
    let request = view.requests.iter().find(|request| request.user == user);
    let called = view.chat.as_ref().filter(|chat| chat.user == user);
    let name = contact
        .map(|contact| &contact.name)
        .or(request.map(|request| &request.name))
        .or(called.map(|chat| &chat.name));
    PersonLines {
        name: name.cloned().unwrap_or_default(),
        target: link_of(user),
        is_contact: contact.is_some(),
        verified: contact.is_some_and(|contact| contact.verified),
        relay_only: contact.is_some_and(|contact| contact.relay_only),
        ring: contact.map(|contact| contact.ring).unwrap_or_default(),
        forked: contact.is_some_and(|contact| contact.forked),
        asks: request.is_some(),
    }
}

/// Names a person for a command.
#[must_use]
pub fn link_of(user: UserId) -> String {
    PersonLink::new(user).to_string()
}

/// Whether a person is in the address book.
#[must_use]
pub fn is_contact(view: &View, user: UserId) -> bool {
    view.contacts.iter().any(|contact| contact.user == user)
}

/// Whether a contact can be reached now, as far as that is known.
#[must_use]
pub fn presence(view: &View, user: UserId) -> Presence {
    view.presences.get(&user).copied().unwrap_or_default()
}

/// The address book as it is shown: favourites first.
#[must_use]
pub fn in_order<'a>(view: &'a View, favourites: &[UserId]) -> Vec<&'a ContactView> {
    let is_one = |contact: &&ContactView| favourites.contains(&contact.user);
    let (mut first, rest): (Vec<_>, Vec<_>) = view.contacts.iter().partition(is_one);
    first.extend(rest);
    first
}

/// Whether what is typed is a link, or begins to be one.
fn is_link(target: &str) -> bool {
    let target = target.trim().to_lowercase();
    target.starts_with("ahoy:") || target.starts_with("ahoy-node:")
}

/// Whether this contact is among those that `target` looks for. A link looks for nobody in the list.
#[must_use]
pub fn is_sought(contact: &ContactView, target: &str) -> bool {
    let sought = target.trim().to_lowercase();
    is_link(target) || contact.name.to_lowercase().contains(&sought)
}

/// What is to be said of what was typed or pasted, if that is neither a name nor a person's link.
#[must_use]
pub fn target_hint(view: &View, target: &str) -> Option<String> {
    let target = target.trim();
    if target.is_empty() {
        return None;
    }
    if !is_link(target) {
        let is_known = view
            .contacts
            .iter()
            .any(|contact| is_sought(contact, target));
        return (!is_known).then(|| words::not_a_contact_name().into());
    }
    match target.parse() {
        Ok(Link::Person(_)) => None,
        Ok(Link::Node(_)) => Some(words::is_supernode_link().into()),
        Err(error) => Some(told::trouble::link(&error)),
    }
}

/// Whose link this is, if they can be added to the address book.
#[must_use]
pub fn addable(view: &View, target: &str) -> Option<UserId> {
    match target.trim().parse() {
        Ok(Link::Person(link)) => Some(link.user).filter(|user| !is_contact(view, *user)),
        Ok(Link::Node(_)) | Err(_) => None,
    }
}

fn conversation(view: &View, user: UserId) -> Option<&ConversationView> {
    view.conversations.iter().find(|line| line.user == user)
}

/// How many messages of a person nobody has read here.
#[must_use]
pub fn unread(view: &View, user: UserId) -> usize {
    conversation(view, user).map_or(0, |line| line.unread)
}

/// Files that a person offers and that nobody has answered.
#[must_use]
pub fn offered(view: &View, user: UserId) -> usize {
    let from_them = view.files.iter().filter(|file| file.user == user);
    from_them.filter(|file| is_offered(file)).count()
}

/// What nobody has read or answered here, of everybody.
#[must_use]
pub fn all_unread(view: &View) -> usize {
    let written: usize = view.conversations.iter().map(|line| line.unread).sum();
    let offered = view.files.iter().filter(|file| is_offered(file));
    written + offered.count()
}

/// Waits for an answer.
#[must_use]
pub fn is_offered(file: &TransferView) -> bool {
    file.direction == Direction::Incoming && file.state == State::Offered
}

/// What was said or sent last, in one line.
#[must_use]
pub fn last_line(view: &View, user: UserId) -> Option<String> {
    let with_user = view.files.iter().filter(|file| file.user == user);
    let file = with_user.max_by_key(|file| (file.at_millis, file.id));
    let written = conversation(view, user).map(|line| line.last.at_millis);
    if let Some(file) = file.filter(|file| written.is_none_or(|at| at <= file.at_millis)) {
        return Some(match file.direction {
            Direction::Outgoing => words::you_said(&file.name),
            Direction::Incoming => file.name.clone(),
        });
    }
    let last = &conversation(view, user)?.last;
    let own = last.line != Line::Received;
    Some(match &last.content {
        Content::Text(text) => {
            let line = text.lines().next().unwrap_or_default();
            if own {
                words::you_said(line)
            } else {
                line.to_owned()
            }
        }
        Content::MissedCall if own => words::you_called().into(),
        Content::MissedCall => words::missed_call().into(),
    })
}

/// A time as the person's clocks show it.
#[must_use]
pub fn local(at_millis: u64) -> DateTime<Local> {
    let millis = i64::try_from(at_millis).unwrap_or(i64::MAX);
    let at = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    at.with_timezone(&Local)
}

/// The day of a line.
#[must_use]
pub fn day<Zone: TimeZone>(at: &DateTime<Zone>, now: &DateTime<Zone>) -> String {
    let passed = now.date_naive().signed_duration_since(at.date_naive());
    match passed.num_days() {
        0 => words::today().into(),
        1 => words::yesterday().into(),
        2..7 => words::weekday(at.weekday()).into(),
        _ => words::day_of(at),
    }
}

/// Names a message that is about to be written.
#[must_use]
pub fn new_message_id() -> MessageId {
    let mut id = [0; 16];
    OsRng.fill_bytes(&mut id);
    MessageId(id)
}

/// Names a file that is about to be sent.
#[must_use]
pub fn new_transfer_id() -> TransferId {
    TransferId(new_message_id().0)
}

/// Which colours `AHOY_THEME` asks for: `dark`, `light`, and anything else is what the system says.
#[must_use]
pub fn theme_preference(variable: Option<&str>) -> ThemePreference {
    match variable {
        Some("dark") => ThemePreference::Dark,
        Some("light") => ThemePreference::Light,
        Some(_) | None => ThemePreference::System,
    }
}

/// The colours that `AHOY_THEME` asks for, if any.
#[must_use]
pub fn forced_theme(variable: Option<&str>) -> Option<ThemePreference> {
    variable.map(|asked| theme_preference(Some(asked)))
}

/// Whether it has ended.
#[must_use]
pub fn is_over(call: &CallView) -> bool {
    matches!(call.phase, Phase::Ended { .. })
}

/// Whether any home reaches us now.
#[must_use]
pub fn is_reachable(homes: &[HomeView]) -> bool {
    homes.iter().any(|home| home.registered)
}

/// What went wrong last, while it still matters: a call that goes on has answered it.
#[must_use]
pub fn notice(view: &View) -> Option<String> {
    let going_on = view.call.as_ref().is_some_and(|call| !is_over(call));
    let notice = view.notice.as_ref().filter(|_| !going_on);
    notice.map(told::trouble::notice)
}

/// Whether a new call can be placed.
#[must_use]
pub fn can_call(view: &View, target: &str) -> bool {
    let busy = view.call.as_ref().is_some_and(|call| !is_over(call));
    !busy && !target.trim().is_empty()
}

/// Whether sound flows both ways, or is to flow again.
#[must_use]
pub fn is_talking(view: &View) -> bool {
    view.call.as_ref().is_some_and(|call| match call.phase {
        Phase::Connecting | Phase::Talking { .. } | Phase::Reconnecting => true,
        Phase::Calling | Phase::Ringing | Phase::Incoming | Phase::Ended { .. } => false,
    })
}

/// A switch of the page about sound.
#[derive(Debug, Clone, Copy)]
pub struct SwitchLine {
    /// What it switches.
    pub which: SoundSwitch,
    /// Its name.
    pub label: Word,
    /// What it is good for.
    pub sentence: Word,
    /// Music mode leaves it without effect.
    pub idle_with_music: bool,
}

const fn switch(
    which: SoundSwitch,
    label: Word,
    sentence: Word,
    idle_with_music: bool,
) -> SwitchLine {
    SwitchLine {
        which,
        label,
        sentence,
        idle_with_music,
    }
}

/// The switches of the page about sound, in groups.
pub const SWITCHES: [(Word, &[SwitchLine]); 3] = [
    (
        words::your_voice,
        &[
            switch(
                SoundSwitch::EchoCancellation,
                words::echo_cancellation,
                words::echo_cancellation_why,
                true,
            ),
            switch(
                SoundSwitch::NoiseSuppression,
                words::noise_suppression,
                words::noise_suppression_why,
                true,
            ),
            switch(
                SoundSwitch::GainControl,
                words::gain_control,
                words::gain_control_why,
                true,
            ),
            switch(
                SoundSwitch::HighPass,
                words::high_pass,
                words::high_pass_why,
                true,
            ),
            switch(
                SoundSwitch::ClickSuppression,
                words::click_suppression,
                words::click_suppression_why,
                true,
            ),
        ],
    ),
    (
        words::what_is_sent,
        &[
            switch(
                SoundSwitch::VoiceGate,
                words::voice_gate,
                words::voice_gate_why,
                true,
            ),
            switch(
                SoundSwitch::PushToTalk,
                words::push_to_talk,
                words::push_to_talk_why,
                false,
            ),
            switch(
                SoundSwitch::Music,
                words::music_mode,
                words::music_mode_why,
                false,
            ),
        ],
    ),
    (
        words::what_you_hear,
        &[switch(
            SoundSwitch::ReconnectTone,
            words::reconnect_tone,
            words::reconnect_tone_why,
            false,
        )],
    ),
];

/// A line of a choice of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOption {
    /// The device; none stands for the system's default.
    pub id: Option<String>,
    /// What stands there.
    pub label: String,
    /// It is what is chosen.
    pub is_chosen: bool,
    /// It is chosen, and not there.
    pub missing: bool,
}

/// What a place for a device is called.
#[must_use]
pub fn device_place(place: SoundDevice) -> &'static str {
    match place {
        SoundDevice::Microphone => words::microphone(),
        SoundDevice::Speaker => words::speaker(),
        SoundDevice::RingSpeaker => words::calls_ring_by(),
    }
}

/// What can be chosen for a place: the system's default first, then what there is, last what is chosen and missing.
#[must_use]
pub(super) fn device_options(
    place: SoundDevice,
    desk: &DeskView,
    chosen: Option<&String>,
) -> Vec<DeviceOption> {
    let microphone = place == SoundDevice::Microphone;
    let there = || {
        desk.devices
            .iter()
            .filter(|device| device.microphone == microphone)
    };
    let default = there().find(|device| device.is_default);
    let mut options = vec![DeviceOption {
        id: None,
        label: default.map_or_else(
            || words::system_default().to_owned(),
            |device| words::system_default_is(&device.name),
        ),
        is_chosen: chosen.is_none(),
        missing: false,
    }];
    options.extend(there().map(|device| DeviceOption {
        id: Some(device.id.clone()),
        label: device.name.clone(),
        is_chosen: chosen == Some(&device.id),
        missing: false,
    }));
    if let Some(id) = chosen.filter(|id| !there().any(|device| device.id == **id)) {
        let name = desk.names.get(id).unwrap_or(id);
        options.push(DeviceOption {
            id: Some(id.clone()),
            label: if desk.listed {
                words::device_missing(name)
            } else {
                name.clone()
            },
            is_chosen: true,
            missing: desk.listed,
        });
    }
    options
}

/// Level of a meter, 0 to 1, from dBFS: -60 is empty, 0 is full.
#[must_use]
pub fn meter(dbfs: f32) -> f32 {
    ((dbfs + 60.0) / 60.0).clamp(0.0, 1.0)
}

#[cfg(test)]
pub(super) mod tests;
