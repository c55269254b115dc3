//! What keys do, and which of them the person has chosen otherwise.
//!
//! As the language, the keys belong to the thread that draws: what is offered asks for them by [`of`].

use std::cell::RefCell;

use eframe::egui::{self, Key, RichText, accesskit::Role};

use super::{
    model::ActionKind,
    parts,
    theme::Tokens,
    words::{self, Word},
};
use crate::keys::{CallKey, KeyChoices, KeyError};

thread_local! {
    static CHOSEN: RefCell<KeyChoices> = RefCell::default();
}

/// The key that does this.
pub(super) fn of(which: CallKey) -> Key {
    let key = CHOSEN.with_borrow(|chosen| chosen.key(which));
    // There is one for each letter and each digit.
    Key::from_name(key.encode_utf8(&mut [0; 4])).unwrap_or(Key::F35)
}

/// These keys count from now on.
pub(super) fn choose(choices: &KeyChoices) {
    CHOSEN.with_borrow_mut(|chosen| {
        if chosen != choices {
            chosen.clone_from(choices);
        }
    });
}

/// What is pressed for a line of the list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pressed {
    /// The same for everybody.
    Fixed(Word),
    /// What the person chooses here.
    Chosen(CallKey),
    /// What they choose elsewhere in the list.
    Same(&'static [CallKey]),
}

/// Keys, and what they do. The keys of a call stand on its buttons, too.
pub(super) const SHEET: [(Word, &[(Pressed, Word)]); 3] = [
    (
        words::keys_everywhere,
        &[
            (Pressed::Fixed(words::key_tab), words::key_tab_does),
            (Pressed::Fixed(words::key_space), words::key_space_does),
            (Pressed::Fixed(words::key_escape), words::key_escape_does),
            (Pressed::Fixed(words::key_settings), words::settings),
            (Pressed::Fixed(words::key_search), words::key_search_does),
            (
                Pressed::Fixed(words::key_contacts),
                words::key_contacts_does,
            ),
            (Pressed::Fixed(words::key_file), words::key_file_does),
            (Pressed::Fixed(words::key_list), words::key_list_does),
            (
                Pressed::Fixed(words::key_whole_screen),
                words::key_whole_screen_does,
            ),
            (Pressed::Fixed(words::key_quit), words::key_quit_does),
        ],
    ),
    (
        words::keys_ringing,
        &[
            (Pressed::Chosen(CallKey::Answer), words::key_answers),
            (
                Pressed::Chosen(CallKey::AnswerSeen),
                words::key_answers_seen,
            ),
            (Pressed::Chosen(CallKey::Decline), words::key_declines),
            (
                Pressed::Chosen(CallKey::DeclineSaying),
                words::key_declines_saying,
            ),
            (Pressed::Same(&[CallKey::HangUp]), words::key_stops_calling),
        ],
    ),
    (
        words::keys_call,
        &[
            (Pressed::Chosen(CallKey::Mute), words::key_mutes),
            (Pressed::Chosen(CallKey::Camera), words::key_camera),
            (Pressed::Chosen(CallKey::Share), words::key_shares),
            (Pressed::Chosen(CallKey::Record), words::key_records),
            (Pressed::Chosen(CallKey::Hold), words::key_holds),
            (Pressed::Chosen(CallKey::HangUp), words::key_hangs_up),
            (
                Pressed::Same(&[
                    CallKey::Answer,
                    CallKey::AnswerSeen,
                    CallKey::Decline,
                    CallKey::DeclineSaying,
                ]),
                words::key_other_does,
            ),
            (Pressed::Chosen(CallKey::Ignore), words::key_ignores),
            (Pressed::Chosen(CallKey::Switch), words::key_switches),
            (Pressed::Fixed(words::key_space), words::key_talks),
        ],
    ),
];

/// What this does, as the list says it.
fn does(which: CallKey) -> &'static str {
    let mut lines = SHEET.into_iter().flat_map(|(_title, lines)| lines);
    let line = lines.find(|(pressed, _)| matches!(pressed, Pressed::Chosen(own) if *own == which));
    line.map_or("", |(_pressed, what)| what())
}

/// What the list remembers.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The next key that is pressed shall do this.
    asked: Option<CallKey>,
    /// Why the last one does not.
    wrong: Option<KeyError>,
}

impl Page {
    /// Keys are not for anything else now.
    pub(super) fn takes_key(&self) -> bool {
        self.asked.is_some()
    }

    /// Draws the list; what is chosen from now on.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        choices: &KeyChoices,
        tokens: &Tokens,
    ) -> Option<KeyChoices> {
        let mut chosen = self.take_key(ui, choices);
        parts::caption(ui, tokens, words::keys_are_chosen());
        if let Some(wrong) = self.wrong {
            let told = match wrong {
                KeyError::Unfit => words::key_unfit().to_owned(),
                KeyError::Taken(key, which) => words::key_taken(key, does(which)),
            };
            let color = tokens.colors(ui.ctx()).danger_text;
            ui.add(egui::Label::new(RichText::new(told).color(color)).wrap());
        }
        for (title, lines) in SHEET {
            ui.add_space(tokens.size.gap);
            parts::title(ui, title());
            for (pressed, what) in lines {
                self.line(ui, *pressed, what(), choices, tokens);
            }
        }
        ui.add_space(tokens.size.gap);
        let area = egui::vec2(0.0, tokens.size.control_height);
        let usual = (words::keys_usual(), None);
        let possible = !choices.are_usual();
        if parts::button(ui, tokens, usual, ActionKind::Plain, area, possible).clicked() {
            *self = Self::default();
            chosen = Some(KeyChoices::default());
        }
        chosen
    }

    /// Takes the key that was asked for.
    fn take_key(&mut self, ui: &egui::Ui, choices: &KeyChoices) -> Option<KeyChoices> {
        let which = self.asked?;
        let pressed = ui.input(|input| {
            input.events.iter().find_map(|event| {
                let egui::Event::Key {
                    key,
                    pressed: true,
                    repeat: false,
                    modifiers,
                    ..
                } = event
                else {
                    return None;
                };
                modifiers.is_none().then_some(*key)
            })
        })?;
        // Whoever goes elsewhere by keyboard chooses nothing.
        self.asked = None;
        if matches!(pressed, Key::Tab | Key::Escape | Key::Enter | Key::Space) {
            return None;
        }
        let mut letters = pressed.name().chars();
        let letter = letters.next().filter(|_| letters.next().is_none());
        let chosen = letter.ok_or(KeyError::Unfit);
        match chosen.and_then(|letter| choices.with(which, letter)) {
            Ok(chosen) => {
                self.wrong = None;
                Some(chosen)
            }
            Err(wrong) => {
                self.wrong = Some(wrong);
                None
            }
        }
    }

    fn line(
        &mut self,
        ui: &mut egui::Ui,
        pressed: Pressed,
        what: &str,
        choices: &KeyChoices,
        tokens: &Tokens,
    ) {
        const KEY_WIDTH: f32 = 104.0;
        let colors = tokens.colors(ui.ctx());
        let key_of = |which: CallKey| choices.key(which).to_string();
        let height = match pressed {
            Pressed::Chosen(_) => tokens.size.control_height,
            Pressed::Fixed(_) | Pressed::Same(_) => ui.text_style_height(&egui::TextStyle::Body),
        };
        ui.horizontal_top(|ui| {
            ui.spacing_mut().interact_size.y = 0.0;
            let area = egui::vec2(KEY_WIDTH, height);
            let line = egui::Layout::left_to_right(egui::Align::Center);
            ui.allocate_ui_with_layout(area, line, |ui| {
                ui.set_min_width(KEY_WIDTH);
                let text = match pressed {
                    Pressed::Fixed(word) => word().to_owned(),
                    Pressed::Same(which) => {
                        let keys: Vec<_> = which.iter().copied().map(key_of).collect();
                        keys.join(", ")
                    }
                    Pressed::Chosen(which) => {
                        self.key(ui, which, what, &key_of(which), area, tokens);
                        return;
                    }
                };
                ui.add(egui::Label::new(RichText::new(text).color(colors.text)));
            });
            let rest = egui::vec2(ui.available_width(), height);
            ui.allocate_ui_with_layout(rest, line.with_main_wrap(true), |ui| {
                let what = RichText::new(what).color(colors.text_soft);
                ui.add(egui::Label::new(what).wrap());
            });
        });
    }

    /// The button by which another key is chosen.
    fn key(
        &mut self,
        ui: &mut egui::Ui,
        which: CallKey,
        what: &str,
        key: &str,
        area: egui::Vec2,
        tokens: &Tokens,
    ) {
        let is_asked = self.asked == Some(which);
        let (label, kind) = if is_asked {
            (words::key_press(), ActionKind::Primary)
        } else {
            (key, ActionKind::Plain)
        };
        let button = parts::button(ui, tokens, (label, None), kind, area, true);
        button.widget_info(|| {
            let name = if is_asked {
                words::key_press_for(what)
            } else {
                words::key_change(what, key)
            };
            egui::WidgetInfo::labeled(Role::Button, true, name)
        });
        if button.clicked() {
            self.asked = (!is_asked).then_some(which);
            self.wrong = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui::Event;

    use super::*;
    use crate::ui::testing::Reader;

    struct Bench {
        reader: Reader,
        page: Page,
        choices: KeyChoices,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self {
                reader: Reader::new(),
                page: Page::default(),
                choices: KeyChoices::default(),
            };
            bench.frame(vec![]);
            bench
        }

        fn frame(&mut self, events: Vec<Event>) {
            let Self {
                reader,
                page,
                choices,
            } = self;
            let tokens = reader.tokens;
            let mut chosen = None;
            reader.frame(events, |ui| {
                chosen = page.show(ui, choices, &tokens).or(chosen.take());
            });
            if let Some(chosen) = chosen {
                self.choices = chosen;
                self.frame(vec![]);
            }
        }

        /// Presses the button of what is called so, and then a key.
        fn choose(&mut self, name: &str, key: Key) {
            let press = self.reader.press(name);
            self.frame(vec![press]);
            assert!(self.page.takes_key(), "{name}");
            self.frame(vec![]);
            self.frame(vec![Reader::key(key, true)]);
            assert!(!self.page.takes_key(), "{name}");
            self.frame(vec![]);
        }

        fn says(&self, text: &str) -> bool {
            self.reader.text(|told| told == text).is_some()
        }
    }

    #[test]
    fn another_key_is_chosen_by_pressing_it_and_the_usual_ones_come_back() {
        let mut bench = Bench::new();
        bench.choose("Mutes you, or not any more: M. Choose another key", Key::K);
        assert_eq!(bench.choices.key(CallKey::Mute), 'K');
        choose(&bench.choices);
        assert_eq!(of(CallKey::Mute), Key::K);
        assert_eq!(of(CallKey::Camera), Key::C);
        let name = "Mutes you, or not any more: K. Choose another key";
        assert!(bench.reader.has(name));
        let press = bench.reader.press("The usual keys");
        bench.frame(vec![press]);
        choose(&bench.choices);
        for which in CallKey::ALL {
            let usual = which.usual().to_string();
            assert_eq!(of(which).name(), usual);
        }
    }

    #[test]
    fn a_key_that_does_something_else_is_refused_with_what_it_does() {
        let mut bench = Bench::new();
        let mute = "Mutes you, or not any more: M. Choose another key";
        bench.choose(mute, Key::C);
        assert!(bench.says("C does something else already: Camera on or off"));
        bench.choose(mute, Key::Comma);
        assert!(bench.says("Only letters from A to Z and digits can be chosen."));
        // Who goes on with Tab has chosen nothing, and is told nothing.
        bench.choose(mute, Key::Tab);
        assert!(bench.choices.are_usual());
        bench.choose(mute, Key::Num5);
        assert_eq!(bench.choices.key(CallKey::Mute), '5');
        assert!(!bench.says("Only letters from A to Z and digits can be chosen."));
    }

    #[test]
    fn each_choice_has_a_line_of_its_own() {
        for which in CallKey::ALL {
            assert!(!does(which).is_empty(), "{which:?}");
        }
        let lines = SHEET.into_iter().flat_map(|(_title, lines)| lines);
        let chosen = lines.filter(|(pressed, _)| matches!(pressed, Pressed::Chosen(_)));
        assert_eq!(chosen.count(), CallKey::ALL.len());
    }
}
