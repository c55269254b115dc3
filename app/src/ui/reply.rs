//! Declining a call with a message: a few sentences that are ready, and the person's own.

use ahoy_transport::identity::UserId;
use eframe::egui;

use super::{
    model::{self, ActionKind},
    parts,
    theme::Tokens,
    words::{self, Word},
};
use crate::{
    call::CallId,
    chat::MAX_TEXT_BYTES,
    engine::handle::{CallView, Command, OtherCall, View},
};

/// What people say who cannot talk.
const READY: [Word; 3] = [words::reply_back, words::reply_later, words::reply_write];

/// Whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Caller {
    call: CallId,
    user: UserId,
    name: String,
}

/// What the sentences remember.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Who calls, while they are shown.
    caller: Option<Caller>,
    /// What is typed.
    own: String,
    /// The first sentence takes the keyboard when it is drawn next.
    focus: bool,
}

impl Page {
    /// Shows them for this call.
    pub(super) fn open(&mut self, call: CallId, user: UserId, name: &str) {
        let is_open = self
            .caller
            .as_ref()
            .is_some_and(|caller| caller.call == call);
        if is_open {
            // What is typed there stays.
            return;
        }
        let name = name.to_owned();
        *self = Self {
            caller: Some(Caller { call, user, name }),
            own: String::new(),
            focus: true,
        };
    }

    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    /// Draws them while the call rings, or something is typed that whoever gave up may still be told.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        tokens: &Tokens,
    ) -> Option<Command> {
        let caller = self.caller.clone()?;
        let rings = model::ringing(view).is_some_and(|(call, ..)| call == caller.call);
        let is_contact = model::is_contact(view, caller.user);
        let is_it = |call: &CallView| call.id == caller.call && !model::is_over(call);
        let is_held = |other: &OtherCall| other.id == caller.call;
        let is_answered = !rings
            && (view.call.as_ref().is_some_and(is_it) || view.other.as_ref().is_some_and(is_held));
        if !is_contact || is_answered || !rings && self.own.trim().is_empty() {
            self.close();
            return None;
        }
        let size = tokens.size;
        let mut said = None;
        parts::card(ui, tokens, |ui| {
            parts::title(ui, &words::reply_title(&caller.name));
            let row = egui::vec2(ui.available_width(), size.control_height);
            for sentence in READY {
                let label = (sentence(), None);
                let button = parts::button(ui, tokens, label, ActionKind::Plain, row, true);
                if std::mem::take(&mut self.focus) {
                    button.request_focus();
                }
                if button.clicked() {
                    said = Some(sentence().to_owned());
                }
            }
            said = self.own(ui, tokens).or(said.take());
        });
        ui.add_space(size.gap);
        let text = said?;
        self.close();
        Some(Command::DeclineSaying {
            call: caller.call,
            to: caller.user,
            id: model::new_message_id(),
            text,
        })
    }

    /// The field for other words, and what sends them.
    fn own(&mut self, ui: &mut egui::Ui, tokens: &Tokens) -> Option<String> {
        const LEAST_BUTTON: f32 = 88.0;
        let size = tokens.size;
        let send = words::reply_send();
        let button_width = parts::button_width(ui, send, None, LEAST_BUTTON);
        let mut sent = false;
        ui.horizontal(|ui| {
            let width = ui.available_width() - button_width - size.gap;
            let names = (words::reply_own(), words::reply_own());
            let field = parts::field(ui, tokens, &mut self.own, names, width);
            // Typing goes on where it ends.
            let most = self.own.floor_char_boundary(MAX_TEXT_BYTES);
            self.own.truncate(most);
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let possible = !self.own.trim().is_empty();
            let area = egui::vec2(button_width, size.control_height);
            let kind = ActionKind::Danger;
            let pressed = parts::button(ui, tokens, (send, None), kind, area, possible).clicked();
            sent = possible && (entered || pressed);
        });
        sent.then(|| std::mem::take(&mut self.own))
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui::{Event, Key};

    use super::*;
    use crate::{
        contacts::Ring,
        engine::handle::{ContactView, OtherCall, OtherState, Phase},
        ui::{
            model::tests::{call, over},
            testing::Reader,
        },
    };

    struct Bench {
        reader: Reader,
        page: Page,
        view: View,
    }

    impl Bench {
        fn new(is_contact: bool) -> Self {
            let ringing = call(Phase::Incoming);
            let contact = ContactView {
                name: ringing.name.clone(),
                user: ringing.user,
                verified: false,
                relay_only: false,
                ring: Ring::Usual,
                forked: false,
            };
            let mut page = Page::default();
            page.open(ringing.id, ringing.user, &ringing.name);
            let view = View {
                call: Some(ringing),
                contacts: is_contact.then_some(contact).into_iter().collect(),
                ..View::default()
            };
            let mut bench = Self {
                reader: Reader::new(),
                page,
                view,
            };
            bench.frame(vec![]);
            bench.frame(vec![]);
            bench
        }

        fn frame(&mut self, events: Vec<Event>) -> Option<(CallId, UserId, String)> {
            let Self { reader, page, view } = self;
            let (tokens, mut command) = (reader.tokens, None);
            reader.frame(events, |ui| {
                command = page.show(ui, view, &tokens).or(command.take());
            });
            command.map(|command| {
                let Command::DeclineSaying { call, to, text, .. } = command else {
                    panic!("{command:?}");
                };
                (call, to, text)
            })
        }
    }

    #[test]
    fn the_first_sentence_has_the_keyboard_and_each_declines() {
        let mut bench = Bench::new(true);
        let said = bench.frame(vec![Reader::key(Key::Enter, true)]);
        let ringing = bench.view.call.clone().unwrap();
        let back = String::from("I will call you back soon.");
        assert_eq!(said, Some((ringing.id, ringing.user, back)));
        bench.frame(vec![]);
        assert!(!bench.reader.has("Decline and send"), "it was said");
        for sentence in READY {
            let mut bench = Bench::new(true);
            let press = bench.reader.press(sentence());
            let (_call, _to, text) = bench.frame(vec![press]).unwrap();
            assert_eq!(text, sentence());
        }
    }

    #[test]
    fn own_words_are_sent_also_to_whoever_gave_up_while_they_were_typed() {
        let mut bench = Bench::new(true);
        let press = bench.reader.press("Decline and send");
        assert_eq!(bench.frame(vec![press]), None, "nothing is said yet");
        let focus = bench.reader.focus("Your own words");
        bench.frame(vec![focus]);
        bench.frame(vec![Event::Text("In a meeting".into())]);
        bench.view.call = Some(call(over()));
        bench.frame(vec![]);
        let said = bench.frame(vec![Reader::key(Key::Enter, true)]);
        assert_eq!(said.unwrap().2, "In a meeting");
        // Where nothing was typed, it goes with the call.
        let mut bench = Bench::new(true);
        bench.view.call = Some(call(over()));
        bench.frame(vec![]);
        bench.frame(vec![]);
        assert!(!bench.reader.has("Decline and send"));
    }

    #[test]
    fn strangers_are_told_nothing_and_who_waits_is() {
        let mut bench = Bench::new(false);
        bench.frame(vec![]);
        assert!(!bench.reader.has("Decline and send"));
        let view = &bench.view;
        let ringing = view.call.clone().unwrap();
        let offers = |view: &View, call| {
            let mut actions = model::actions(view, call).into_iter();
            actions.any(|action| action.act == model::Act::Reply)
        };
        assert!(!offers(view, &ringing), "a stranger");
        let bench = Bench::new(true);
        assert!(offers(&bench.view, &ringing), "a contact");
        let waiting = OtherCall {
            id: CallId([3; 16]),
            name: ringing.name.clone(),
            user: ringing.user,
            state: OtherState::Waits,
            started: ringing.started,
        };
        let beside = View {
            call: Some(call(Phase::Reconnecting)),
            other: Some(waiting.clone()),
            ..bench.view
        };
        let labels: Vec<_> = model::actions_beside(&beside, &waiting)
            .into_iter()
            .map(|action| action.label)
            .collect();
        assert!(labels.contains(&"Decline with a message"), "{labels:?}");
        assert_eq!(model::ringing(&beside).unwrap().0, waiting.id);
    }
}
