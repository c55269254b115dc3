//! What is said and offered, without a window.

use ahoy_transport::identity::{NodeId, UserId};

use super::*;
use crate::{
    call::{CallId, Direction as CallDirection, Ending, Side},
    engine::{
        notice::{Notice, SoundTold, SoundWhat},
        recording::RecordingView,
        video::{PictureTrouble, view::PicturesView},
    },
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
        stats: None,
        sound_trouble: None,
        gives_up_at: None,
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

/// The other side hung up.
pub(in crate::ui) fn over() -> Phase {
    Phase::Ended {
        direction: CallDirection::Outgoing,
        ending: Ending::Completed { by: Side::Remote },
    }
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
    view.contacts.push(ContactView {
        name: "Bo".into(),
        user,
        verified: false,
        relay_only: false,
        ring: Ring::Usual,
        forked: false,
    });
    assert_eq!(addable(&view, &link_of(user)), None);
}

/// What can be done about a call that rings.
fn answering() -> Vec<&'static str> {
    if cfg!(feature = "video") {
        vec!["Answer", "Answer with camera", "Decline"]
    } else {
        vec!["Answer", "Decline"]
    }
}

#[test]
fn every_phase_offers_a_way_out_until_it_is_over() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs one instant to start from"
    )]
    let now = Instant::now();
    let in_call = if cfg!(feature = "video") {
        vec!["Mute", "Camera", "Share", "Hold", "Hang up"]
    } else {
        vec!["Mute", "Hold", "Hang up"]
    };
    let mut talking = in_call.clone();
    talking.insert(talking.len() - 2, "Record");
    let phases = [
        (Phase::Calling, vec!["Cancel"]),
        (Phase::Ringing, vec!["Cancel"]),
        (Phase::Incoming, answering()),
        (Phase::Connecting, in_call.clone()),
        (Phase::Talking { since: now }, talking),
        (Phase::Reconnecting, in_call.clone()),
        (over(), vec![]),
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
        phase: over(),
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
    view.contacts = vec![ContactView {
        user: view.call.as_ref().unwrap().user,
        ring: Ring::Always,
        ..contact(1, "Grace")
    }];
    assert_eq!(wants_attention(&view), Some(CallId([1; 16])));
    view.do_not_disturb = false;
    view.contacts[0].ring = Ring::Never;
    assert_eq!(wants_attention(&view), None);
    view.contacts.clear();
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
    let ended = over();
    let mut view = View {
        call: Some(call(ended)),
        notice: Some(Notice::NotAContact),
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
    view.call = Some(call(over()));
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

fn contact(n: u8, name: &str) -> ContactView {
    ContactView {
        name: name.into(),
        user: UserId([n; 32]),
        verified: false,
        relay_only: false,
        ring: Ring::Usual,
        forked: false,
    }
}

#[test]
fn what_is_typed_finds_contacts_and_nonsense_is_one_sentence() {
    let view = View {
        contacts: vec![contact(1, "Grace Hopper"), contact(2, "Bo")],
        ..View::default()
    };
    let found = |target| -> Vec<&str> {
        let sought = |contact: &&ContactView| is_sought(contact, target);
        let contacts = view.contacts.iter().filter(sought);
        contacts.map(|contact| contact.name.as_str()).collect()
    };
    assert_eq!(found(" hop"), ["Grace Hopper"]);
    assert_eq!(found(""), ["Grace Hopper", "Bo"]);
    assert_eq!(
        found("ahoy:"),
        ["Grace Hopper", "Bo"],
        "a link hides nobody"
    );
    let hint = |target: &str| target_hint(&view, target);
    assert_eq!(hint("  "), None);
    assert_eq!(hint("bo"), None);
    assert!(hint("Nobody").unwrap().contains("paste their ahoy: link"));
    assert!(hint("ahoy:nonsense").unwrap().contains("cannot be used"));
    assert_eq!(hint(&link_of(UserId([9; 32]))), None);
    let keys = ahoy_transport::identity::NodeKeys::from_seed(&[1; 32]);
    let node = format!("ahoy-node:{}@192.0.2.1:443", keys.id());
    assert!(hint(&node).unwrap().contains("Network"));
}

#[test]
fn favourites_stand_on_top() {
    let view = View {
        contacts: vec![contact(1, "Ada"), contact(2, "Bo"), contact(3, "Cy")],
        ..View::default()
    };
    let order = |favourites: &[UserId]| -> Vec<u8> {
        let contacts = in_order(&view, favourites).into_iter();
        contacts.map(|contact| contact.user.0[0]).collect()
    };
    assert_eq!(order(&[]), [1, 2, 3]);
    assert_eq!(order(&[UserId([3; 32]), UserId([7; 32])]), [3, 1, 2]);
}

#[test]
fn a_call_that_lost_its_ways_counts_down() {
    let begin = now();
    let mut gone = call(Phase::Reconnecting);
    gone.gives_up_at = Some(begin + Duration::from_millis(27_400));
    assert!(call_line(&gone, begin).ends_with("for 0:27 more"));
    let wait = next_change(&gone, begin).unwrap();
    let later = begin + wait;
    assert!(
        call_line(&gone, later).ends_with("for 0:26 more"),
        "{wait:?}"
    );
    let end = begin + Duration::from_secs(60);
    assert!(call_line(&gone, end).ends_with("for 0:00 more"));
    assert_eq!(next_change(&gone, end), None, "nothing changes any more");
}

#[test]
fn what_is_wrong_has_one_thing_to_do_about_it() {
    let mut bad = call(Phase::Talking { since: now() });
    assert!(banners(&bad).is_empty());
    bad.sound_trouble = Some(SoundTold {
        microphone: true,
        what: SoundWhat::Gone,
    });
    bad.pictures.trouble = Some(PictureTrouble::Stuck);
    let acts: Vec<Act> = banners(&bad).into_iter().map(|banner| banner.act).collect();
    assert_eq!(acts, [Act::Sound, Act::Share]);
    bad.phase = over();
    assert!(banners(&bad).is_empty());
    let mut held = call(Phase::Talking { since: now() });
    held.held = true;
    assert!(call_line(&held, now()).contains("on hold"));
    assert!(labels(&held).contains(&"Resume"));
    assert_eq!(path_stations(Some("relay")), Some("a supernode"));
    assert_eq!(path_stations(Some("direct")), None);
}

#[test]
fn a_second_call_is_told_and_can_be_answered_declined_ignored_or_switched_to() {
    let other = |state| OtherCall {
        id: CallId([3; 16]),
        name: "Carol".into(),
        user: UserId([4; 32]),
        state,
        started: now(),
    };
    let labels = |state| {
        let actions = other_actions(&other(state)).into_iter();
        actions.map(|action| action.label).collect::<Vec<_>>()
    };
    let mut view = View {
        call: Some(call(Phase::Talking { since: now() })),
        other: Some(other(OtherState::Waits)),
        ..View::default()
    };
    let waiting = [answering(), vec!["Ignore"]].concat();
    assert_eq!(labels(OtherState::Waits), waiting);
    assert_eq!(labels(OtherState::Ignored), answering());
    assert_eq!(labels(OtherState::OnHold), ["Switch"]);
    assert_eq!(labels(OtherState::Reconnecting), ["Switch"]);
    let (_call, shown) = other_call(&view).unwrap();
    let line = other_line(shown, "Grace");
    assert_eq!(line, "Carol calls, too. Answering puts Grace on hold.");
    assert_eq!(wanting(&view), Some((CallId([3; 16]), "Carol")));
    // Keys of the two calls are others.
    let talking = call_actions(view.call.as_ref().unwrap());
    for action in other_actions(&other(OtherState::Waits)) {
        assert!(talking.iter().all(|of_call| of_call.key != action.key));
    }
    view.do_not_disturb = true;
    assert_eq!(wanting(&view), None);
    view.do_not_disturb = false;
    view.other = Some(other(OtherState::Ignored));
    assert_eq!(wanting(&view), None);
    view.call = Some(call(over()));
    assert!(other_call(&view).is_none());
}
