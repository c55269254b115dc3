//! Names that strangers and contacts chose to do harm with: in every part of the window they stay on the page, change
//! nothing around them, and take nothing out of it.

use std::{sync::Arc, time::Duration};

use ahoy_media::video::trouble::SourceTrouble;
use ahoy_transport::identity::UserId;

use super::{
    call, chat,
    files::tests::file,
    history::History,
    home::Home,
    model::{
        self,
        tests::{call as call_view, over},
    },
    network, person,
    recents::Recents,
    testing::Reader,
};
use crate::{
    call::CallId,
    chat::{Content, Line, Message, MessageId},
    contacts::Ring,
    engine::{
        files::TransferView,
        handle::{
            CallView, ContactView, OtherCall, OtherState, Phase, RequestView, StatsView, View,
        },
        notice::{SoundTold, SoundWhat},
        people::{ChatView, ConversationView, RecentView},
        video::PictureTrouble,
    },
    files::{
        book::{Direction, State},
        name::harmless,
    },
    link::display_name,
    report::Outcome,
};

const USER: UserId = UserId([7; 32]);

/// What somebody could call themselves.
fn names() -> Vec<String> {
    vec![
        "\u{202e}ecarG".into(),
        "Grace\u{2066}\u{2067}\u{2069}".into(),
        "\u{200b}\u{feff}\u{2060}".into(),
        "Wide ".repeat(200),
        "W".repeat(2000),
        "\u{fdfd}".repeat(64),
        "a\u{0301}\u{0302}\u{0303}\u{0304}".repeat(40),
        "line\nfeed\r\n\tand\u{85}more\u{2028}".into(),
        "%s {} \\ \u{0} <b>bold</b> --icon=x".into(),
        "👩\u{200d}👩\u{200d}👧\u{200d}👦".repeat(20),
        "שלום עולם".into(),
        "نور الهدى".into(),
        String::new(),
    ]
}

fn view(name: &str) -> View {
    let name = name.to_owned();
    // A file is called what the sender called it, made harmless.
    let (incoming, outgoing) = (Direction::Incoming, Direction::Outgoing);
    let files = [
        (incoming, State::Offered),
        (incoming, State::Active),
        (outgoing, State::Refused),
    ];
    let files = (1..)
        .zip(files)
        .map(|(n, (direction, state))| TransferView {
            name: harmless(&name),
            person: name.clone(),
            rate: 5,
            ..file(n, direction, state)
        });
    let files = Arc::new(files.collect());
    let last = Message {
        id: MessageId([1; 16]),
        user: USER,
        at_millis: 1_700_000_000_000,
        content: Content::Text(name.clone()),
        line: Line::Received,
    };
    View {
        contacts: vec![ContactView {
            name: name.clone(),
            user: USER,
            verified: true,
            relay_only: false,
            ring: Ring::Usual,
            forked: false,
        }],
        requests: vec![RequestView {
            name: name.clone(),
            user: UserId([8; 32]),
        }],
        recents: Arc::new(vec![RecentView {
            user: USER,
            name: name.clone(),
            outgoing: false,
            at_millis: 1_700_000_000_000,
            talked_millis: 0,
            outcome: Outcome::NoAnswer,
            elsewhere: false,
            rating: None,
        }]),
        conversations: Arc::new(vec![ConversationView {
            user: USER,
            last: last.clone(),
            unread: 3,
        }]),
        chat: Some(Arc::new(ChatView {
            user: USER,
            name,
            messages: vec![last],
        })),
        files,
        link: Some(format!("ahoy:{}", "y".repeat(400))),
        ..View::default()
    }
}

/// A call that has all that can be said of one.
fn talking(name: &str) -> (CallView, History) {
    let mut call = call_view(Phase::Incoming);
    call.phase = Phase::Talking {
        since: call.started,
    };
    call.name = name.to_owned();
    call.sound_trouble = Some(SoundTold {
        microphone: true,
        what: SoundWhat::Gone,
    });
    let closed = SourceTrouble::WindowClosed {
        window: name.into(),
        comes_back: true,
    };
    call.pictures.trouble = Some(PictureTrouble::Source(closed));
    call.recorded_there = true;
    call.held_there = true;
    call.path = Some("relay");
    call.safety_words = ["one", "two", "three", "four", "five", "six"]
        .map(str::to_owned)
        .into();
    let mut history = History::default();
    for second in 0..4 {
        call.stats = Some(StatsView {
            packets_received: 50 * second,
            packets_lost: 20 * second,
            samples_played: 48_000 * second,
            samples_concealed: 9_000 * second,
            ..StatsView::default()
        });
        history.look(&call, call.started + Duration::from_secs(second));
    }
    (call, history)
}

/// Draws every view that shows a name, at this width and size.
fn draw_all(name: &str, width: f32, check: &mut dyn FnMut(&str, &Reader)) {
    let now = call_view(Phase::Incoming).started;
    let tokens = Reader::new().tokens;
    let mut each = |what: &str, draw: &mut dyn FnMut(&mut eframe::egui::Ui)| {
        let mut reader = Reader::new();
        reader.width = width;
        // The second frame knows how large things were in the first.
        for _ in 0..2 {
            reader.frame(vec![], &mut *draw);
        }
        check(what, &reader);
    };
    let view = view(name);
    let (call, history) = talking(name);
    let mut home = Home::default();
    each("home", &mut |ui| {
        home.show(ui, &view, &[USER], &tokens, |_ui| None);
    });
    let mut recents = Recents::default();
    each("recents", &mut |ui| {
        recents.show(ui, &view, &tokens);
    });
    for is_contact in [true, false] {
        let mut view = view.clone();
        if !is_contact {
            view.contacts.clear();
        }
        let mut page = chat::Page::default();
        page.open(USER);
        each("chat", &mut |ui| {
            page.show(ui, &view, &[], &tokens);
        });
    }
    for phase in [
        call.phase.clone(),
        Phase::Incoming,
        Phase::Calling,
        Phase::Reconnecting,
        over(),
    ] {
        let call = CallView {
            phase,
            ..call.clone()
        };
        each("call", &mut |ui| {
            call::show(ui, &View::default(), &call, &history, false, &tokens, now);
        });
    }
    let mut in_call = View {
        call: Some(CallView { user: USER, ..call }),
        ..view.clone()
    };
    let lines = model::person_lines(&in_call, USER);
    // Its field scrolls by itself.
    let mut entry = person::Entry::default();
    each("person", &mut |ui| {
        entry.contact(ui, &in_call, USER, &lines, true, &tokens);
    });
    for state in [
        OtherState::Waits,
        OtherState::Ignored,
        OtherState::OnHold,
        OtherState::Reconnecting,
    ] {
        in_call.other = Some(OtherCall {
            id: CallId([3; 16]),
            name: name.to_owned(),
            user: USER,
            state,
            started: now,
        });
        each("the other call", &mut |ui| {
            call::other(ui, &in_call, &tokens);
        });
    }
    each("statistics", &mut |ui| {
        network::call(ui, &in_call, &history, &tokens);
    });
}

#[test]
fn hostile_names_stay_on_the_page_and_change_nothing_around_them() {
    for name in names() {
        // As it comes in from links, offers and requests.
        let cleaned = display_name(&name);
        for width in [348.0, 520.0] {
            draw_all(&cleaned, width, &mut |what, reader| {
                reader.assert_inside(what);
                for node in reader.nodes.values() {
                    let texts = [node.label(), node.value()];
                    for text in texts.into_iter().flatten() {
                        let bad =
                            |c: char| crate::link::is_deceptive(c) || (c.is_control() && c != '\n');
                        assert!(!text.contains(bad), "{what}: {text:?}");
                    }
                }
            });
        }
        let call = CallView {
            name: cleaned.clone(),
            ..call_view(Phase::Incoming)
        };
        let title = model::title(Some(&call), 0);
        assert!(title.ends_with("calls you - ahoy"), "{title:?}");
        assert!(!title.contains(char::is_control));
    }
}

#[test]
fn what_is_not_cleaned_would_be_seen() {
    // The test above looks at something: a name as it was sent breaks it.
    let mut broken = 0;
    draw_all("\u{202e}ecarG", 348.0, &mut |_what, reader| {
        let bad = |text: &str| text.contains(crate::link::is_deceptive);
        broken += reader
            .nodes
            .values()
            .filter(|node| node.label().is_some_and(bad) || node.value().is_some_and(bad))
            .count();
    });
    assert!(broken > 3, "{broken}");
}

#[test]
fn at_twice_the_size_in_the_smallest_window_nothing_leaves_the_page() {
    // The least width that the window keeps, less the margins.
    let least = super::LEAST_SIZE[0] - 32.0;
    draw_all("Grace Hopper", least, &mut |what, reader| {
        reader.assert_inside(what);
    });
}
