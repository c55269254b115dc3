//! What the window says and offers for a [`View`], decided without a window.

use std::time::{Duration, Instant};

use ahoy_transport::identity::UserId;
use chrono::{DateTime, Local, TimeZone};
use eframe::egui::{Key, ThemePreference};
use rand_core::{OsRng, RngCore as _};

use super::desk::DeskView;
use crate::{
    call::CallId,
    chat::{Content, Line, MessageId},
    engine::{
        handle::{CallView, Command, HomeView, Phase, View},
        people::ConversationView,
        sentence::clock,
        video::{VideoIn, view::Received},
    },
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
    /// The camera is shown.
    Camera,
    /// The page opens, or closes, where people choose what else to show.
    Share,
    /// The call is recorded, in the person's folder of films.
    Record,
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
        (0, _) => "No supernode yet: paste a friend's link to call, or start with --via".into(),
        (_, 0) => "Looking for your supernodes…".into(),
        (1, 1) => "Reachable through 1 supernode".into(),
        (all, up) => format!("Reachable through {up} of {all} supernodes"),
    }
}

/// The call in one line under the name.
#[must_use]
pub fn call_line(call: &CallView, now: Instant) -> String {
    match &call.phase {
        Phase::Calling => "Calling…".into(),
        Phase::Ringing => "Ringing…".into(),
        Phase::Incoming => "calls you".into(),
        Phase::Connecting => "Connecting…".into(),
        Phase::Talking { since } => {
            let clock = clock(now.saturating_duration_since(*since));
            match call.path {
                Some(path) => format!("{clock} · {path} · end-to-end encrypted"),
                None => format!("{clock} · end-to-end encrypted"),
            }
        }
        Phase::Reconnecting => "The connection is gone. Reconnecting…".into(),
        Phase::Ended { sentence } => sentence.clone(),
    }
}

/// What can be done about the call now, most wanted first.
#[must_use]
pub fn call_actions(call: &CallView) -> Vec<Action> {
    let action = |label, key, act, kind| Action {
        label,
        act,
        key,
        kind,
    };
    let (plain, primary) = (ActionKind::Plain, ActionKind::Primary);
    let danger = |label, key, command| action(label, key, Act::Tell(command), ActionKind::Danger);
    let mute = if call.muted {
        let unmute = Act::Tell(Command::Mute(false));
        action("Unmute", Key::M, unmute, primary)
    } else {
        action("Mute", Key::M, Act::Tell(Command::Mute(true)), plain)
    };
    match call.phase {
        Phase::Incoming => vec![
            action("Answer", Key::A, Act::Tell(Command::Accept), primary),
            danger("Decline", Key::D, Command::Decline),
        ],
        Phase::Calling | Phase::Ringing => vec![danger("Cancel", Key::H, Command::HangUp)],
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
                    action("Stop camera", Key::C, stop, primary)
                } else {
                    action("Camera", Key::C, Act::Camera, plain)
                });
                actions.push(if share {
                    action("Sharing", Key::S, Act::Share, primary)
                } else {
                    action("Share", Key::S, Act::Share, plain)
                });
            }
            if call.recording.is_some() {
                let stop = Act::Tell(Command::Record(None));
                actions.push(action("Stop recording", Key::R, stop, primary));
            } else if matches!(call.phase, Phase::Talking { .. }) {
                // Before, nobody is there to be told.
                actions.push(action("Record", Key::R, Act::Record, plain));
            }
            actions.push(danger("Hang up", Key::H, Command::HangUp));
            actions
        }
        Phase::Ended { .. } => Vec::new(),
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
        lines.push(on(format!("Recording {}", clock(time))));
    } else if let Some(path) = &call.recorded {
        lines.push(RecordingLine {
            text: format!("Recorded to {}", path.display()),
            is_on: false,
        });
    }
    if call.recorded_there && !is_over(call) {
        lines.push(on(format!("{} is recording", call.name)));
    }
    lines
}

/// What stands over the picture of the other side, or where it would be, if there is something to be said.
#[must_use]
pub fn stage_words(call: &CallView) -> Option<String> {
    let name = &call.name;
    match (&call.phase, call.pictures.received) {
        (Phase::Reconnecting, _) => Some("The connection is gone. Reconnecting…".into()),
        _held if call.held => Some(format!("You have put {name} on hold")),
        _held if call.held_there => Some(format!("{name} has put you on hold")),
        (_, Received::Still) => Some(format!(
            "No new picture comes from {name}: the connection may carry too little for it"
        )),
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

/// The call that wants the person's attention: it rings, and they let calls disturb them.
#[must_use]
pub fn wants_attention(view: &View) -> Option<CallId> {
    let call = view.call.as_ref()?;
    (call.phase == Phase::Incoming && !view.do_not_disturb).then_some(call.id)
}

/// What stands in the window's title, where a task bar shows it while another window has the focus.
#[must_use]
pub fn title(call: Option<&CallView>, unread: usize) -> String {
    let Some(call) = call else {
        return match unread {
            0 => "ahoy".into(),
            unread => format!("({unread}) ahoy"),
        };
    };
    let name = &call.name;
    match &call.phase {
        Phase::Calling | Phase::Ringing => format!("Calling {name} - ahoy"),
        Phase::Incoming => format!("{name} calls you - ahoy"),
        Phase::Connecting | Phase::Reconnecting => format!("Connecting to {name} - ahoy"),
        Phase::Talking { .. } if call.muted => format!("{name} (you are muted) - ahoy"),
        Phase::Talking { .. } => format!("{name} - ahoy"),
        Phase::Ended { .. } => format!("Call with {name} ended - ahoy"),
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
        Phase::Calling
        | Phase::Ringing
        | Phase::Incoming
        | Phase::Connecting
        | Phase::Reconnecting
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

/// What was said last, in one line.
#[must_use]
pub fn last_line(view: &View, user: UserId) -> Option<String> {
    let last = &conversation(view, user)?.last;
    let own = last.line != Line::Received;
    Some(match &last.content {
        Content::Text(text) => {
            let line = text.lines().next().unwrap_or_default();
            if own {
                format!("You: {line}")
            } else {
                line.to_owned()
            }
        }
        Content::MissedCall if own => "You called".into(),
        Content::MissedCall => "Missed call".into(),
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
    let (at, today) = (at.date_naive(), now.date_naive());
    match today.signed_duration_since(at).num_days() {
        0 => "Today".into(),
        1 => "Yesterday".into(),
        2..7 => at.format("%A").to_string(),
        _ => at.format("%-d %B %Y").to_string(),
    }
}

/// Names a message that is about to be written.
#[must_use]
pub fn new_message_id() -> MessageId {
    let mut id = [0; 16];
    OsRng.fill_bytes(&mut id);
    MessageId(id)
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
pub fn notice(view: &View) -> Option<&str> {
    let going_on = view.call.as_ref().is_some_and(|call| !is_over(call));
    view.notice.as_deref().filter(|_| !going_on)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchLine {
    /// What it switches.
    pub which: SoundSwitch,
    /// Its name.
    pub label: &'static str,
    /// What it is good for.
    pub sentence: &'static str,
    /// Music mode leaves it without effect.
    pub idle_with_music: bool,
}

const fn switch(
    which: SoundSwitch,
    label: &'static str,
    sentence: &'static str,
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
pub const SWITCHES: [(&str, &[SwitchLine]); 2] = [
    (
        "Your voice",
        &[
            switch(
                SoundSwitch::EchoCancellation,
                "Echo cancellation",
                "Others do not hear themselves from your speaker.",
                true,
            ),
            switch(
                SoundSwitch::NoiseSuppression,
                "Noise suppression",
                "Takes out fans, traffic and other steady noise.",
                true,
            ),
            switch(
                SoundSwitch::GainControl,
                "Automatic gain",
                "Makes a soft voice louder and a loud one softer.",
                true,
            ),
            switch(
                SoundSwitch::HighPass,
                "High-pass filter",
                "Takes out hum and rumble below the voice.",
                true,
            ),
            switch(
                SoundSwitch::ClickSuppression,
                "Click suppression",
                "Softens keys that are struck while nobody speaks.",
                true,
            ),
        ],
    ),
    (
        "What is sent",
        &[
            switch(
                SoundSwitch::VoiceGate,
                "Voice gate",
                "Sends silence while nobody speaks.",
                true,
            ),
            switch(
                SoundSwitch::PushToTalk,
                "Push to talk",
                "You are muted unless you hold the space bar.",
                false,
            ),
            switch(
                SoundSwitch::Music,
                "Music mode",
                "Sends sound as it is, in stereo; what is above does nothing.",
                false,
            ),
        ],
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
        SoundDevice::Microphone => "Microphone",
        SoundDevice::Speaker => "Speaker",
        SoundDevice::RingSpeaker => "Calls ring by",
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
            || "System default".to_owned(),
            |device| format!("System default ({})", device.name),
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
                format!("Missing: {name}")
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
pub(super) mod tests {
    use ahoy_transport::identity::{NodeId, UserId};

    use super::*;
    use crate::{
        call::CallId,
        engine::{recording::RecordingView, video::view::PicturesView},
        ui::desk::DeviceRow,
    };

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs one instant to start from"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    pub(in crate::ui) fn call(phase: Phase) -> CallView {
        CallView {
            id: CallId([1; 16]),
            name: "Grace".into(),
            user: UserId([2; 32]),
            outgoing: true,
            started: now(),
            phase,
            muted: false,
            held: false,
            held_there: false,
            pictures: PicturesView::default(),
            shares_sound: false,
            recording: None,
            recorded_there: false,
            recorded: None,
            path: Some("direct"),
            rtt: None,
            search: None,
            safety_words: Vec::new(),
            words_committed: false,
            volume_percent: 100,
            level_in: -20.0,
            level_out: -20.0,
        }
    }

    fn labels(call: &CallView) -> Vec<&'static str> {
        call_actions(call)
            .into_iter()
            .map(|action| action.label)
            .collect()
    }

    #[test]
    fn days_are_named_as_people_do() {
        let at = |day, hour| {
            let at = chrono::Utc.with_ymd_and_hms(2026, 3, day, hour, 0, 0);
            at.unwrap()
        };
        let now = at(20, 0);
        assert_eq!(day(&at(20, 0), &now), "Today");
        assert_eq!(day(&at(19, 23), &now), "Yesterday");
        assert_eq!(day(&at(14, 1), &now), "Saturday");
        assert_eq!(day(&at(13, 23), &now), "13 March 2026");
        // A clock that is ahead.
        assert_eq!(day(&at(21, 1), &now), "21 March 2026");
    }

    #[test]
    fn only_links_of_people_who_are_no_contacts_can_be_added() {
        let user = UserId([3; 32]);
        let mut view = View::default();
        assert_eq!(addable(&view, &format!(" {}", link_of(user))), Some(user));
        assert_eq!(addable(&view, "Grace"), None);
        assert_eq!(addable(&view, "ahoy:nonsense"), None);
        view.contacts.push(crate::engine::handle::ContactView {
            name: "Bo".into(),
            user,
            verified: false,
            relay_only: false,
        });
        assert_eq!(addable(&view, &link_of(user)), None);
    }

    #[test]
    fn every_phase_offers_a_way_out_until_it_is_over() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let now = Instant::now();
        let in_call = if cfg!(feature = "video") {
            vec!["Mute", "Camera", "Share", "Hang up"]
        } else {
            vec!["Mute", "Hang up"]
        };
        let mut talking = in_call.clone();
        talking.insert(talking.len() - 1, "Record");
        let phases = [
            (Phase::Calling, vec!["Cancel"]),
            (Phase::Ringing, vec!["Cancel"]),
            (Phase::Incoming, vec!["Answer", "Decline"]),
            (Phase::Connecting, in_call.clone()),
            (Phase::Talking { since: now }, talking),
            (Phase::Reconnecting, in_call.clone()),
            (
                Phase::Ended {
                    sentence: "Grace declined.".into(),
                },
                vec![],
            ),
        ];
        for (phase, expected) in phases {
            assert_eq!(labels(&call(phase)), expected);
        }
        let muted = CallView {
            muted: true,
            ..call(Phase::Connecting)
        };
        assert_eq!(labels(&muted)[0], "Unmute");
    }

    #[test]
    fn who_records_is_seen_and_how_long_and_where_it_went() {
        let begin = now();
        let quiet = call(Phase::Talking { since: begin });
        assert!(recording_lines(&quiet, begin).is_empty());
        let later = begin + Duration::from_secs(72);
        let both = CallView {
            recording: Some(RecordingView {
                path: "call.mkv".into(),
                since: begin,
            }),
            recorded_there: true,
            ..quiet
        };
        let texts = |call: &CallView| -> Vec<String> {
            let lines = recording_lines(call, later).into_iter();
            lines.map(|line| line.text).collect()
        };
        assert_eq!(texts(&both), ["Recording 1:12", "Grace is recording"]);
        assert!(labels(&both).contains(&"Stop recording"));
        // It can be ended while the connection is gone.
        let gone = CallView {
            phase: Phase::Reconnecting,
            ..both.clone()
        };
        assert!(labels(&gone).contains(&"Stop recording"));
        let over = CallView {
            recording: None,
            recorded: Some("call.mkv".into()),
            phase: Phase::Ended {
                sentence: "Grace hung up.".into(),
            },
            ..both
        };
        assert_eq!(texts(&over), ["Recorded to call.mkv"]);
        assert!(recording_lines(&over, later).iter().all(|line| !line.is_on));
    }

    #[test]
    fn keys_of_one_moment_do_different_things() {
        for phase in [
            Phase::Incoming,
            Phase::Ringing,
            Phase::Talking { since: now() },
        ] {
            let keys: Vec<_> = call_actions(&call(phase))
                .into_iter()
                .map(|action| action.key)
                .collect();
            for (index, key) in keys.iter().enumerate() {
                assert!(!keys[..index].contains(key), "{key:?} twice in {keys:?}");
            }
        }
        let key = |muted| {
            let talking = CallView {
                muted,
                ..call(Phase::Talking { since: now() })
            };
            call_actions(&talking)[0].key
        };
        assert_eq!(key(true), key(false), "one key mutes and unmutes");
    }

    #[test]
    fn only_a_call_that_may_disturb_wants_attention() {
        let mut view = View {
            call: Some(call(Phase::Incoming)),
            ..View::default()
        };
        assert_eq!(wants_attention(&view), Some(CallId([1; 16])));
        view.do_not_disturb = true;
        assert_eq!(wants_attention(&view), None);
        view.do_not_disturb = false;
        view.call = Some(call(Phase::Ringing));
        assert_eq!(wants_attention(&view), None, "they ring, we do not");
    }

    #[test]
    fn the_title_tells_a_task_bar_what_goes_on() {
        assert_eq!(title(None, 0), "ahoy");
        assert_eq!(title(None, 2), "(2) ahoy");
        assert_eq!(
            title(Some(&call(Phase::Incoming)), 3),
            "Grace calls you - ahoy"
        );
        let talking = call(Phase::Talking { since: now() });
        assert_eq!(title(Some(&talking), 0), "Grace - ahoy");
        let muted = CallView {
            muted: true,
            ..talking
        };
        assert!(title(Some(&muted), 0).contains("muted"));
    }

    #[test]
    fn an_ended_call_stays_until_it_is_put_away() {
        let ended = Phase::Ended {
            sentence: "Grace declined.".into(),
        };
        let mut view = View {
            call: Some(call(ended)),
            notice: Some("There is no such contact.".into()),
            ..View::default()
        };
        assert!(shown_call(&view, None).is_some());
        assert!(shown_call(&view, Some(CallId([1; 16]))).is_none());
        assert!(notice(&view).is_some());
        view.call = Some(call(Phase::Ringing));
        assert!(
            shown_call(&view, Some(CallId([1; 16]))).is_some(),
            "nobody can put a call away that goes on"
        );
        assert_eq!(notice(&view), None);
    }

    #[test]
    fn only_the_clock_of_a_call_asks_to_be_drawn_again() {
        let since = now();
        let talking = call(Phase::Talking { since });
        let at = since + Duration::from_millis(2300);
        assert_eq!(next_change(&talking, at), Some(Duration::from_millis(700)));
        assert_eq!(next_change(&call(Phase::Ringing), since), None);
    }

    #[test]
    fn the_theme_follows_the_system_unless_told() {
        assert_eq!(theme_preference(None), ThemePreference::System);
        assert_eq!(theme_preference(Some("light")), ThemePreference::Light);
        assert_eq!(theme_preference(Some("dark")), ThemePreference::Dark);
        assert_eq!(theme_preference(Some("pink")), ThemePreference::System);
    }

    #[test]
    fn the_line_tells_time_and_path() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let since = Instant::now();
        let line = call_line(
            &call(Phase::Talking { since }),
            since + Duration::from_secs(75),
        );
        assert_eq!(line, "1:15 · direct · end-to-end encrypted");
    }

    #[test]
    fn devices_are_offered_by_place_and_a_chosen_one_that_is_gone_stays() {
        let device = DeviceRow::named;
        let mut desk = DeskView {
            listed: true,
            devices: vec![
                device("mic", true, true),
                device("usb", true, false),
                device("ear", false, true),
            ],
            ..DeskView::default()
        };
        let labels = |desk: &DeskView, place, chosen: Option<&str>| {
            let chosen = chosen.map(str::to_owned);
            let options = device_options(place, desk, chosen.as_ref());
            assert_eq!(options.iter().filter(|one| one.is_chosen).count(), 1);
            options
                .into_iter()
                .map(|one| format!("{}{}", if one.is_chosen { "*" } else { "" }, one.label))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            labels(&desk, SoundDevice::Microphone, None),
            ["*System default (MIC)", "MIC", "USB"]
        );
        assert_eq!(
            labels(&desk, SoundDevice::RingSpeaker, Some("ear")),
            ["System default (EAR)", "*EAR"]
        );
        desk.names.insert("usb".into(), "USB".into());
        desk.devices.remove(1);
        assert_eq!(
            labels(&desk, SoundDevice::Microphone, Some("usb")),
            ["System default (MIC)", "MIC", "*Missing: USB"]
        );
        assert_eq!(
            labels(&DeskView::default(), SoundDevice::Microphone, Some("usb")),
            ["System default", "*usb"],
            "before there is a list nothing is missing"
        );
    }

    #[test]
    fn a_second_call_waits_for_the_first_to_end() {
        let mut view = View::default();
        assert!(can_call(&view, "ahoy:x"));
        assert!(!can_call(&view, "  "));
        view.call = Some(call(Phase::Ringing));
        assert!(!can_call(&view, "ahoy:x"));
        view.call = Some(call(Phase::Ended {
            sentence: String::new(),
        }));
        assert!(can_call(&view, "ahoy:x"));
    }

    #[test]
    fn reachability_counts_homes_that_answered() {
        let home = |registered| HomeView {
            node: NodeId([3; 32]),
            registered,
        };
        assert!(reachability(&[]).contains("--via"));
        assert!(reachability(&[home(false)]).starts_with("Looking"));
        assert_eq!(reachability(&[home(true)]), "Reachable through 1 supernode");
        assert_eq!(
            reachability(&[home(true), home(false)]),
            "Reachable through 1 of 2 supernodes"
        );
    }
}
