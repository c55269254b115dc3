//! The page under the call: whom to call, how to be called, people and requests.

use ahoy_transport::identity::UserId;
use eframe::egui::{self, RichText};

use super::{
    model::{self, ActionKind},
    parts,
    recents::Recents,
    theme::Tokens,
    words,
};
use crate::engine::{
    handle::{Command, ContactView, View},
    people::PeopleChange,
};

/// What the page remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Home {
    /// What is typed or pasted into the call field.
    pub(super) target: String,
    /// The field takes the keyboard when it is shown next.
    pub(super) focus_target: bool,
    /// Somebody who was added just now: their page opens once they are a contact.
    pub(super) added: Option<UserId>,
    /// The link that was copied last.
    pub(super) copied: Option<String>,
    /// It is shown as a picture, too.
    pub(super) shows_qr: bool,
    pub(super) qr: parts::Qr,
    pub(super) recents: Recents,
}

/// What the person did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The engine is told.
    pub(super) command: Option<Command>,
    /// Whose page is to be opened.
    pub(super) open: Option<UserId>,
}

impl Home {
    /// Draws it. `scan` draws what reads a link from a code.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        favourites: &[UserId],
        tokens: &Tokens,
        scan: impl FnOnce(&mut egui::Ui) -> Option<String>,
    ) -> Done {
        let gap = tokens.size.gap;
        let mut done = Done::default();
        let added = self.added.filter(|user| model::is_contact(view, *user));
        if added.is_some() {
            self.added = None;
            done.open = added;
        }
        parts::card(ui, tokens, |ui| {
            done.command = self.call_somebody(ui, view, tokens);
            // Enter calls whoever's link it is: nobody is called by what a camera sees.
            if let Some(link) = scan(ui) {
                self.target = link;
                self.focus_target = true;
            }
        });
        if !view.requests.is_empty() {
            ui.add_space(gap);
            parts::card(ui, tokens, |ui| requests(ui, view, tokens, &mut done));
        }
        if !view.contacts.is_empty() {
            ui.add_space(gap);
            parts::card(ui, tokens, |ui| {
                parts::caption(ui, tokens, words::contacts());
                let contacts = model::in_order(view, favourites);
                let sought = |contact: &&&ContactView| model::is_sought(contact, &self.target);
                for contact in contacts.iter().filter(sought) {
                    ui.push_id(contact.user, |ui| {
                        let is_favourite = favourites.contains(&contact.user);
                        contact_row(ui, contact, is_favourite, view, tokens, &mut done);
                    });
                }
            });
        }
        if !view.recents.is_empty() {
            ui.add_space(gap);
            let told = self.recents.show(ui, view, tokens);
            done.command = told.command.or(done.command.take());
            done.open = told.open.or(done.open.take());
        }
        if let Some(link) = &view.link {
            ui.add_space(gap);
            parts::card(ui, tokens, |ui| self.own_link(ui, link, tokens));
        }
        done
    }

    fn call_somebody(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        tokens: &Tokens,
    ) -> Option<Command> {
        const LEAST_WIDTH: f32 = 88.0;
        let enter = Some(words::key_enter());
        let button_width = parts::button_width(ui, words::call_them(), enter, LEAST_WIDTH);
        let size = tokens.size;
        let mut command = None;
        parts::caption(ui, tokens, words::call_somebody());
        ui.horizontal(|ui| {
            let width = ui.available_width() - button_width - size.gap;
            let names = (words::name_or_link_hint(), words::name_or_link());
            let field = parts::field(ui, tokens, &mut self.target, names, width);
            if std::mem::take(&mut self.focus_target) {
                field.request_focus();
            }
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let can_call = model::can_call(view, &self.target);
            let area = egui::vec2(button_width, size.control_height);
            let key = field.has_focus().then_some(words::key_enter());
            let clicked = parts::button(
                ui,
                tokens,
                (words::call_them(), key),
                ActionKind::Primary,
                area,
                can_call,
            )
            .clicked();
            if (clicked || entered) && can_call {
                let target = self.target.trim().to_owned();
                // What names nobody stays, to be mended.
                if model::target_hint(view, &target).is_none() {
                    self.target.clear();
                }
                command = Some(Command::Call(target));
            }
        });
        if let Some(user) = model::addable(view, &self.target) {
            let area = egui::vec2(0.0, size.control_height);
            let add = (words::add_to_contacts(), None);
            if parts::button(ui, tokens, add, ActionKind::Plain, area, true).clicked() {
                command = Some(Command::People(PeopleChange::Add {
                    link: std::mem::take(&mut self.target),
                    name: String::new(),
                }));
                self.added = Some(user);
            }
        }
        if let Some(hint) = model::target_hint(view, &self.target) {
            parts::caption(ui, tokens, &hint);
        }
        if let Some(notice) = model::notice(view) {
            ui.add(egui::Label::new(notice).wrap());
        }
        command
    }

    fn own_link(&mut self, ui: &mut egui::Ui, link: &str, tokens: &Tokens) {
        let colors = tokens.colors(ui.ctx());
        parts::caption(ui, tokens, words::your_link());
        let font = egui::TextStyle::Monospace.resolve(ui.style());
        let width = ui.available_width();
        let mut lines =
            egui::text::LayoutJob::simple(link.to_owned(), font, colors.text_soft, width);
        // Full lines: a link has no words.
        lines.wrap.break_anywhere = true;
        ui.add(egui::Label::new(lines));
        let label = if self.copied.as_deref() == Some(link) {
            words::copied()
        } else {
            words::copy_link()
        };
        let area = egui::vec2(0.0, tokens.size.control_height);
        let plain = ActionKind::Plain;
        ui.horizontal_wrapped(|ui| {
            if parts::button(ui, tokens, (label, None), plain, area, true).clicked() {
                ui.ctx().copy_text(link.to_owned());
                self.copied = Some(link.to_owned());
            }
            let label = if self.shows_qr {
                words::hide_qr()
            } else {
                words::show_qr()
            };
            if parts::button(ui, tokens, (label, None), plain, area, true).clicked() {
                self.shows_qr = !self.shows_qr;
            }
        });
        if self.shows_qr {
            const QR_SIDE: f32 = 240.0;
            self.qr.show(ui, link, words::your_link_qr(), QR_SIDE);
        }
    }
}

/// A line of the address book: who, what they said last, and what can be done.
fn contact_row(
    ui: &mut egui::Ui,
    contact: &ContactView,
    is_favourite: bool,
    view: &View,
    tokens: &Tokens,
    done: &mut Done,
) {
    let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
    let unread = model::unread(view, contact.user) + model::offered(view, contact.user);
    let line = egui::Layout::right_to_left(egui::Align::Center);
    let height = size
        .control_height
        .max(ui.text_style_height(&egui::TextStyle::Body) * 2.0);
    ui.allocate_ui_with_layout(egui::vec2(ui.available_width(), height), line, |ui| {
        let area = egui::vec2(0.0, size.control_height);
        let enabled = model::can_call(view, &contact.name);
        let named = |button: &egui::Response, name: String, enabled: bool| {
            let role = egui::accesskit::Role::Button;
            button.widget_info(|| egui::WidgetInfo::labeled(role, enabled, name.clone()));
            button.clicked()
        };
        let plain = ActionKind::Plain;
        let call = parts::button(ui, tokens, (words::call_them(), None), plain, area, enabled);
        if named(&call, words::call_whom(&contact.name), enabled) {
            done.command = Some(Command::Call(model::link_of(contact.user)));
        }
        let write = parts::button(ui, tokens, (words::write(), None), plain, area, true);
        if named(&write, words::write_to(&contact.name), true) {
            done.open = Some(contact.user);
        }
        if unread > 0 {
            parts::badge(ui, tokens, unread);
        }
        if contact.verified {
            ui.colored_label(colors.ok, words::verified());
        } else if contact.forked {
            ui.colored_label(colors.danger_text, words::careful());
        }
        let line = egui::Layout::top_down(egui::Align::Min);
        ui.with_layout(line, |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            let last = model::last_line(view, contact.user);
            let shown = if is_favourite {
                format!("★ {}", contact.name)
            } else {
                contact.name.clone()
            };
            let name = if unread > 0 {
                RichText::new(shown).strong()
            } else {
                RichText::new(shown)
            };
            if last.is_none() {
                // One line stands in the middle of its row.
                let text = ui.text_style_height(&egui::TextStyle::Body);
                ui.add_space((height - text) / 2.0);
            }
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = size.gap / 2.0;
                let presence = model::presence(view, contact.user);
                parts::presence(ui, tokens, presence, &contact.name);
                ui.add(egui::Label::new(name).truncate());
            });
            if let Some(last) = last {
                let last = RichText::new(last).small().color(colors.text_soft);
                ui.add(egui::Label::new(last).truncate());
            }
        });
    });
}

/// Strangers who called or wrote.
fn requests(ui: &mut egui::Ui, view: &View, tokens: &Tokens, done: &mut Done) {
    parts::caption(ui, tokens, words::requests());
    let area = egui::vec2(0.0, tokens.size.control_height);
    for request in &view.requests {
        let line = egui::Layout::right_to_left(egui::Align::Center);
        let row = egui::vec2(ui.available_width(), tokens.size.control_height);
        ui.allocate_ui_with_layout(row, line, |ui| {
            let look = parts::button(
                ui,
                tokens,
                (words::look(), None),
                ActionKind::Plain,
                area,
                true,
            );
            look.widget_info(|| {
                let name = words::look_at_request(&request.name);
                egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, name)
            });
            if look.clicked() {
                done.open = Some(request.user);
            }
            let unread = model::unread(view, request.user);
            if unread > 0 {
                parts::badge(ui, tokens, unread);
            }
            let line = egui::Layout::left_to_right(egui::Align::Center);
            ui.with_layout(line, |ui| {
                ui.add(egui::Label::new(&request.name).truncate());
                let key = request.user.to_string();
                let key: String = key.chars().take(8).chain(['…']).collect();
                parts::caption(ui, tokens, &key);
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::Reader;

    #[test]
    fn who_can_be_reached_is_told_by_name_and_of_whom_nothing_is_known_nothing_is_told() {
        use crate::{engine::presence::Presence, ui::words::Language};

        let contact = |n: u8, name: &str| ContactView {
            name: name.into(),
            user: UserId([n; 32]),
            verified: false,
            relay_only: false,
            ring: Default::default(),
            forked: false,
        };
        let mut view = View {
            contacts: vec![contact(1, "Ada"), contact(2, "Bo"), contact(3, "Cleo")],
            ..View::default()
        };
        let (mut reader, mut home) = (Reader::new(), Home::default());
        let tokens = reader.tokens;
        let mut told = |view: &View, language| {
            words::speak(language);
            reader.frame(vec![], |ui| {
                drop(home.show(ui, view, &[], &tokens, |_ui| None))
            });
            words::speak(Language::English);
            let said: Vec<String> = reader.said().map(str::to_owned).collect();
            said
        };
        let all = told(&view, Language::English);
        assert!(
            !all.iter().any(|said| said.contains("reached now")),
            "{all:?}"
        );
        let known = [
            (UserId([1; 32]), Presence::Reachable),
            (UserId([2; 32]), Presence::Away),
        ];
        view.presences = std::sync::Arc::new(known.into());
        for (language, ada, bo) in [
            (
                Language::English,
                "Ada can be reached now",
                "Bo cannot be reached now",
            ),
            (
                Language::German,
                "Ada ist jetzt erreichbar",
                "Bo ist jetzt nicht erreichbar",
            ),
            (
                Language::Spanish,
                "Ada está localizable ahora",
                "Bo no está localizable ahora",
            ),
        ] {
            let all = told(&view, language);
            for wanted in [ada, bo] {
                assert!(all.iter().any(|said| said == wanted), "{wanted}: {all:?}");
            }
            let cleo = [ada, bo].map(|told| told.replace("Ada", "Cleo").replace("Bo", "Cleo"));
            assert!(!all.iter().any(|said| cleo.contains(said)), "{all:?}");
        }
    }

    #[test]
    fn the_field_is_empty_once_somebody_is_called_and_keeps_what_names_nobody() {
        let link = model::link_of(UserId([3; 32]));
        for (typed, left) in [(&*link, ""), ("Zoe", "Zoe"), ("ahoy:x", "ahoy:x")] {
            let (mut reader, view) = (Reader::new(), View::default());
            let tokens = reader.tokens;
            let mut home = Home {
                target: typed.to_owned(),
                ..Home::default()
            };
            let draw = |reader: &mut Reader, home: &mut Home, events| {
                let mut command = None;
                reader.frame(events, |ui| {
                    let done = home.show(ui, &view, &[], &tokens, |_ui| None);
                    command = done.command.or(command.take());
                });
                command
            };
            draw(&mut reader, &mut home, vec![]);
            let press = reader.press("Call");
            let command = draw(&mut reader, &mut home, vec![press]);
            assert_eq!(command, Some(Command::Call(typed.to_owned())));
            assert_eq!(home.target, left);
        }
    }
}
