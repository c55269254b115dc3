use std::{
    collections::BTreeSet,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use eframe::egui::{Event, Key, accesskit::Toggled};

use super::*;
use crate::{
    chat::MessageState,
    contacts::Ring,
    engine::{
        handle::{ContactView, RequestView},
        people::{ConversationView, PeopleChange},
        presence::Presence,
    },
    ui::testing::Reader,
};

const GRACE: UserId = UserId([7; 32]);

struct Scene {
    reader: Reader,
    page: Page,
    view: View,
}

impl Deref for Scene {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

fn message(n: u8, line: Line, text: &str) -> Message {
    Message {
        id: MessageId([n; 16]),
        user: GRACE,
        at_millis: 1_700_000_000_000 + u64::from(n) * 60_000,
        content: Content::Text(text.into()),
        line,
    }
}

impl Scene {
    fn new(is_contact: bool) -> Self {
        let waiting = Line::Sent(MessageState::Waiting(2));
        let messages = vec![
            message(1, Line::Received, "Are you there?"),
            message(2, waiting, "On my way"),
        ];
        let last = messages[1].clone();
        let mut view = View {
            chat: Some(Arc::new(ChatView {
                user: GRACE,
                name: "Grace".into(),
                messages,
            })),
            conversations: Arc::new(vec![ConversationView {
                user: GRACE,
                last,
                unread: 1,
            }]),
            ..View::default()
        };
        if is_contact {
            view.contacts.push(ContactView {
                name: "Grace".into(),
                user: GRACE,
                verified: false,
                relay_only: false,
                ring: Ring::Usual,
                forked: false,
            });
        } else {
            view.requests.push(RequestView {
                name: "Grace".into(),
                user: GRACE,
            });
        }
        let mut page = Page::default();
        page.open(GRACE);
        Self {
            reader: Reader::new(),
            page,
            view,
        }
    }

    fn frame(&mut self, events: Vec<Event>) -> Done {
        let Self { reader, page, view } = self;
        let mut all = Done::default();
        let tokens = reader.tokens;
        reader.frame(events, |ui| {
            let done = page.show(ui, view, &[], &tokens);
            all.commands.extend(done.commands);
            all.close |= done.close;
        });
        all
    }

    fn press(&mut self, name: &str) -> Done {
        let press = self.reader.press(name);
        self.frame(vec![press])
    }
}

fn people(done: &Done) -> Vec<&PeopleChange> {
    let people = done.commands.iter().filter_map(|command| {
        if let Command::People(change) = command {
            Some(change)
        } else {
            None
        }
    });
    people.collect()
}

#[test]
fn what_was_said_is_shown_with_its_state_and_read_once() {
    let mut scene = Scene::new(true);
    let done = scene.frame(vec![Event::WindowFocused(true)]);
    let done = [done, scene.frame(vec![])];
    // A text is there as a whole and as its lines.
    let texts: BTreeSet<&str> = scene
        .nodes
        .values()
        .filter_map(|node| node.value())
        .collect();
    let count = |end: &str| texts.iter().filter(|text| text.ends_with(end)).count();
    assert_eq!(count("Are you there?"), 1, "{texts:?}");
    assert_eq!(count("On my way"), 1);
    assert_eq!(count("waits at 2 homes until Grace comes online"), 1);
    let read = done.iter().flat_map(|done| &done.commands);
    let read = read.filter(|command| **command == Command::NoteRead(GRACE));
    assert_eq!(read.count(), 1);
}

#[test]
fn enter_sends_and_shift_enter_begins_a_line() {
    let mut scene = Scene::new(true);
    scene.frame(vec![]);
    scene.frame(vec![Event::Text("Hello".into())]);
    let mut shifted = Reader::key(Key::Enter, true);
    if let Event::Key { modifiers, .. } = &mut shifted {
        *modifiers = egui::Modifiers::SHIFT;
    }
    scene.frame(vec![shifted]);
    scene.frame(vec![Event::Text("there".into())]);
    let done = scene.frame(vec![Reader::key(Key::Enter, true)]);
    let sent = done.commands.iter().find_map(|command| {
        if let Command::Message { to, text, .. } = command {
            Some((to.clone(), text.clone()))
        } else {
            None
        }
    });
    let (to, text) = sent.expect("it is sent");
    assert_eq!(text, "Hello\nthere");
    assert_eq!(to, model::link_of(GRACE));
    // Nothing is left, so nothing can be sent.
    let done = scene.frame(vec![Reader::key(Key::Enter, true)]);
    assert!(done.commands.is_empty(), "{done:?}");
}

#[test]
fn whom_to_block_is_asked_twice() {
    let mut scene = Scene::new(true);
    scene.frame(vec![]);
    scene.press("Details");
    scene.frame(vec![]);
    assert!(people(&scene.press("Block")).is_empty());
    scene.frame(vec![]);
    let done = scene.press("Block them?");
    assert_eq!(people(&done), [&PeopleChange::Block(GRACE)]);
    assert!(done.close);
}

#[test]
fn a_request_becomes_a_contact_or_is_put_away() {
    let mut scene = Scene::new(false);
    scene.frame(vec![]);
    let done = scene.press("Add to contacts");
    let link = model::link_of(GRACE);
    let name = String::from("Grace");
    assert_eq!(people(&done), [&PeopleChange::Add { link, name }]);
    let done = scene.press("Put away");
    assert_eq!(people(&done), [&PeopleChange::Dismiss(GRACE)]);
}

#[test]
fn a_contact_is_renamed_verified_and_hidden_from() {
    let mut scene = Scene::new(true);
    scene.frame(vec![]);
    scene.press("Details");
    scene.frame(vec![]);
    let done = scene.press("Safety words compared");
    let (user, verified, only) = (GRACE, true, true);
    assert_eq!(people(&done), [&PeopleChange::Verify { user, verified }]);
    let done = scene.press("Hide my address");
    assert_eq!(people(&done), [&PeopleChange::RelayOnly { user, only }]);
    let done = scene.press("Rename");
    let name = String::from("Grace");
    assert_eq!(people(&done), [&PeopleChange::Rename { user, name }]);
    let told = "Grace can be reached now";
    assert!(!scene.has(told));
    scene.view.presences = Arc::new([(GRACE, Presence::Reachable)].into());
    scene.frame(vec![]);
    assert!(scene.has(told));
}

#[test]
fn how_their_calls_are_told_of_is_shown_and_chosen() {
    let rings = [
        (Ring::Usual, words::ring_usual(), words::ring_usual_why()),
        (Ring::Always, words::ring_always(), words::ring_always_why()),
        (Ring::Never, words::ring_never(), words::ring_never_why()),
    ];
    for (chosen, _label, why) in rings {
        let mut scene = Scene::new(true);
        scene.view.contacts[0].ring = chosen;
        scene.frame(vec![]);
        scene.press("Details");
        scene.frame(vec![]);
        assert!(scene.text(|text| text == why).is_some(), "{why}");
        for (ring, label, _why) in rings {
            let is_chosen = scene.node(label).1.toggled() == Some(Toggled::True);
            assert_eq!(is_chosen, ring == chosen, "{label} where it is {chosen:?}");
            let done = scene.press(label);
            let user = GRACE;
            let expected = (ring != chosen).then_some(PeopleChange::Ring { user, ring });
            let expected: Vec<_> = expected.iter().collect();
            assert_eq!(people(&done), expected, "{label} where it is {chosen:?}");
        }
    }
}
