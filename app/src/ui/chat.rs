//! The page about one person: what was written, and what is to become of their entry.

use std::collections::BTreeMap;

use ahoy_transport::identity::UserId;
use chrono::{DateTime, Local};
use eframe::egui::{self, CornerRadius, RichText};

use super::{
    model::{self, ActionKind, PersonLines},
    parts,
    theme::{self, Tokens},
};
use crate::{
    chat::{Content, Line, MAX_TEXT_BYTES, Message, MessageId},
    engine::{
        handle::{Command, View},
        people::{ChatView, PeopleChange},
    },
};

/// Drafts that are kept while other conversations are read.
const MAX_DRAFTS: usize = 64;

/// What the page remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Whose page it is, if it is open.
    pub(super) user: Option<UserId>,
    drafts: BTreeMap<UserId, String>,
    /// The field takes the keyboard when it is shown next.
    focus: bool,
    /// The person's entry is shown.
    details: bool,
    /// What the person shall be called.
    name: String,
    /// What was pressed and has to be pressed again.
    asked: Option<PeopleChange>,
    /// The line that was told to be read last.
    read: Option<MessageId>,
}

/// What the person did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) commands: Vec<Command>,
    /// They stand on top of the list from now on, or no more.
    pub(super) favourite: Option<(UserId, bool)>,
    /// The page is to be closed.
    pub(super) close: bool,
}

impl Page {
    pub(super) fn is_open(&self) -> bool {
        self.user.is_some()
    }

    pub(super) fn open(&mut self, user: UserId) {
        *self = Self {
            user: Some(user),
            drafts: std::mem::take(&mut self.drafts),
            focus: true,
            ..Self::default()
        };
    }

    pub(super) fn close(&mut self) {
        self.user = None;
    }

    /// Fills all there is.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        favourites: &[UserId],
        tokens: &Tokens,
    ) -> Done {
        let mut done = Done::default();
        let Some(user) = self.user else {
            return done;
        };
        let chat = view.chat.as_deref().filter(|chat| chat.user == user);
        self.note_read(ui, view, user, chat, &mut done);
        let lines = model::person_lines(view, user);
        self.header(ui, view, &lines, tokens, &mut done);
        ui.add_space(tokens.size.gap);
        if !lines.is_contact || self.details {
            parts::card(ui, tokens, |ui| {
                let is_favourite = favourites.contains(&user);
                self.entry(ui, user, &lines, is_favourite, tokens, &mut done);
            });
            ui.add_space(tokens.size.gap);
        }
        let none = egui::Frame::new();
        egui::Panel::bottom("write")
            .frame(none.inner_margin(egui::Margin {
                top: tokens.size.gap as i8,
                ..egui::Margin::ZERO
            }))
            .resizable(false)
            .show_separator_line(false)
            .show(ui, |ui| self.write(ui, user, &lines, tokens, &mut done));
        if let Some(notice) = model::notice(view) {
            ui.add(egui::Label::new(notice).wrap());
        }
        conversation(ui, chat, &lines.name, tokens);
        done
    }

    /// What is seen by somebody who looks here is read.
    fn note_read(
        &mut self,
        ui: &egui::Ui,
        view: &View,
        user: UserId,
        chat: Option<&ChatView>,
        done: &mut Done,
    ) {
        let last = chat.and_then(|chat| chat.messages.last());
        let last = last.map(|message| message.id);
        if model::unread(view, user) > 0
            && last.is_some()
            && last != self.read
            && ui.input(|input| input.focused)
        {
            self.read = last;
            done.commands.push(Command::NoteRead(user));
        }
    }

    fn header(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        lines: &PersonLines,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        let colors = tokens.colors(ui.ctx());
        let area = egui::vec2(0.0, tokens.size.control_height);
        ui.horizontal(|ui| {
            let plain = ActionKind::Plain;
            let back = parts::button(ui, tokens, ("Back", None), plain, area, true);
            done.close |= back.clicked();
            let rest = egui::Layout::right_to_left(egui::Align::Center);
            ui.with_layout(rest, |ui| {
                let can_call = model::can_call(view, &lines.target);
                let call = ("Call", None);
                let kind = ActionKind::Primary;
                if parts::button(ui, tokens, call, kind, area, can_call).clicked() {
                    let target = lines.target.clone();
                    done.commands.push(Command::Call(target));
                }
                if lines.is_contact {
                    let label = if self.details { "Done" } else { "Details" };
                    let button = parts::button(ui, tokens, (label, None), plain, area, true);
                    if button.clicked() {
                        self.details = !self.details;
                        self.asked = None;
                        self.name.clone_from(&lines.name);
                    }
                }
                if lines.verified {
                    ui.colored_label(colors.ok, "verified");
                }
                let name = egui::Layout::left_to_right(egui::Align::Center);
                ui.with_layout(name, |ui| {
                    let name = RichText::new(&lines.name).heading();
                    ui.add(egui::Label::new(name).truncate());
                });
            });
        });
    }

    /// What can be done about a contact's entry, or about a request.
    fn entry(
        &mut self,
        ui: &mut egui::Ui,
        user: UserId,
        lines: &PersonLines,
        is_favourite: bool,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        let size = tokens.size;
        let mut change = |change| done.commands.push(Command::People(change));
        if !lines.is_contact {
            let sentence = "Not one of your contacts: cannot ring, and is not told that you have read anything";
            parts::caption(ui, tokens, sentence);
        }
        let (label, hint) = if lines.is_contact {
            ("Rename", "Name")
        } else {
            ("Add to contacts", "Name, if you call them otherwise")
        };
        ui.horizontal(|ui| {
            const BUTTON_WIDTH: f32 = 140.0;
            let width = ui.available_width() - BUTTON_WIDTH - size.gap;
            let field = parts::field(
                ui,
                tokens,
                &mut self.name,
                (hint, "What they are called"),
                width,
            );
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let area = egui::vec2(BUTTON_WIDTH, size.control_height);
            let kind = if lines.is_contact {
                ActionKind::Plain
            } else {
                ActionKind::Primary
            };
            let possible = !lines.is_contact || !self.name.trim().is_empty();
            let pressed = parts::button(ui, tokens, (label, None), kind, area, possible).clicked();
            if (pressed || entered) && possible {
                let name = self.name.trim().to_owned();
                change(if lines.is_contact {
                    PeopleChange::Rename { user, name }
                } else {
                    let name = if name.is_empty() {
                        lines.name.clone()
                    } else {
                        name
                    };
                    let link = lines.target.clone();
                    PeopleChange::Add { link, name }
                });
            }
        });
        if lines.is_contact {
            let favourite = ("Favourite", "Stands on top of the list.");
            if parts::switch(ui, tokens, favourite, is_favourite, true).clicked() {
                done.favourite = Some((user, !is_favourite));
            }
            let compared = (
                "Safety words compared",
                "You have read the words of a call to each other, and they were the same.",
            );
            if parts::switch(ui, tokens, compared, lines.verified, true).clicked() {
                let verified = !lines.verified;
                change(PeopleChange::Verify { user, verified });
            }
            let hidden = (
                "Hide my address",
                "Calls with this person go through supernodes only, a little later.",
            );
            if parts::switch(ui, tokens, hidden, lines.relay_only, true).clicked() {
                let only = !lines.relay_only;
                change(PeopleChange::RelayOnly { user, only });
            }
        }
        let mut offered = vec![("Block", "Block for good?", PeopleChange::Block(user))];
        if lines.is_contact {
            offered.push(("Forget", "Forget this contact?", PeopleChange::Remove(user)));
        } else if lines.asks {
            offered.push(("Put away", "Put away?", PeopleChange::Dismiss(user)));
        }
        ui.horizontal_wrapped(|ui| {
            for (label, question, offer) in offered {
                let asked = self.asked.as_ref() == Some(&offer);
                let (label, kind) = if asked {
                    (question, ActionKind::Danger)
                } else {
                    (label, ActionKind::Plain)
                };
                let area = egui::vec2(0.0, size.control_height);
                if !parts::button(ui, tokens, (label, None), kind, area, true).clicked() {
                    continue;
                }
                let gentle = matches!(offer, PeopleChange::Dismiss(_));
                if asked || gentle {
                    self.asked = None;
                    done.close |= !matches!(offer, PeopleChange::Remove(_));
                    change(offer);
                } else {
                    self.asked = Some(offer);
                }
            }
        });
    }

    fn write(
        &mut self,
        ui: &mut egui::Ui,
        user: UserId,
        lines: &PersonLines,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        const BUTTON_WIDTH: f32 = 104.0;
        const MOST_ROWS: usize = 5;
        let size = tokens.size;
        if self.drafts.len() >= MAX_DRAFTS && !self.drafts.contains_key(&user) {
            self.drafts.retain(|_user, draft| !draft.is_empty());
        }
        let draft = self.drafts.entry(user).or_default();
        let hint = format!("Write to {}", lines.name);
        ui.horizontal(|ui| {
            let width = ui.available_width() - BUTTON_WIDTH - size.gap;
            let rows = draft.split('\n').count().clamp(1, MOST_ROWS);
            let newline = egui::KeyboardShortcut::new(egui::Modifiers::SHIFT, egui::Key::Enter);
            let field = ui.add_sized(
                [width, size.control_height],
                egui::TextEdit::multiline(draft)
                    .hint_text(hint)
                    .desired_rows(rows)
                    .char_limit(MAX_TEXT_BYTES)
                    .return_key(newline)
                    .margin(egui::Margin::symmetric(10, 8)),
            );
            field.widget_info(|| {
                let role = egui::accesskit::Role::MultilineTextInput;
                egui::WidgetInfo::labeled(role, true, "Message")
            });
            if std::mem::take(&mut self.focus) {
                field.request_focus();
            }
            let entered = field.has_focus()
                && ui.input(|input| {
                    input.events.iter().any(|event| {
                        matches!(event, egui::Event::Key { key: egui::Key::Enter, pressed: true, modifiers, .. }
                            if modifiers.is_none())
                    })
                });
            let possible = !draft.trim().is_empty();
            let area = egui::vec2(BUTTON_WIDTH, size.control_height);
            let key = field.has_focus().then_some("Enter");
            let send = ("Send", key);
            let pressed =
                parts::button(ui, tokens, send, ActionKind::Primary, area, possible).clicked();
            if (entered || pressed) && possible {
                done.commands.push(Command::Message {
                    id: model::new_message_id(),
                    to: lines.target.clone(),
                    text: std::mem::take(draft),
                });
                self.focus = true;
            }
        });
    }
}

/// What was said, the newest at the bottom.
fn conversation(ui: &mut egui::Ui, chat: Option<&ChatView>, name: &str, tokens: &Tokens) {
    egui::ScrollArea::vertical()
        .id_salt("conversation")
        .auto_shrink(false)
        .stick_to_bottom(true)
        .show(ui, |ui| {
            let Some(chat) = chat else { return };
            if chat.messages.is_empty() {
                let sentence = format!(
                    "Nothing written yet. What you write is sealed for {name}'s devices, and waits for up to 14 days if they are off."
                );
                parts::caption(ui, tokens, &sentence);
            }
            let now = Local::now();
            let mut day = None;
            for (index, message) in chat.messages.iter().enumerate() {
                let at = model::local(message.at_millis);
                if day != Some(at.date_naive()) {
                    day = Some(at.date_naive());
                    ui.vertical_centered(|ui| {
                        parts::caption(ui, tokens, &model::day(&at, &now));
                    });
                }
                let state = chat.tells_state(index).map(|state| state.sentence(name));
                bubble(ui, message, &at, state.as_deref(), tokens);
            }
        });
}

/// One line, ours at the right.
fn bubble(
    ui: &mut egui::Ui,
    message: &Message,
    at: &DateTime<Local>,
    state: Option<&str>,
    tokens: &Tokens,
) {
    /// A line is at most this part of the page.
    const WIDEST: f32 = 0.8;
    let colors = tokens.colors(ui.ctx());
    let is_own = message.line != Line::Received;
    let widest = ui.available_width() * WIDEST;
    let side = if is_own {
        egui::Align::Max
    } else {
        egui::Align::Min
    };
    let time = at.format("%H:%M").to_string();
    let below = match state {
        Some(state) => format!("{time} · {state}"),
        None => time,
    };
    ui.with_layout(egui::Layout::top_down(side), |ui| {
        ui.set_max_width(ui.available_width());
        let (fill, color) = if is_own {
            (colors.accent, colors.on_fill)
        } else {
            (colors.control, colors.text)
        };
        let text = match (&message.content, is_own) {
            (Content::Text(text), _) => text.as_str(),
            (Content::MissedCall, true) => "You called, and nobody answered",
            (Content::MissedCall, false) => "Missed call",
        };
        let font = egui::TextStyle::Body.resolve(ui.style());
        let room = widest - 2.0 * f32::from(BUBBLE_MARGIN.left);
        let mut lines = egui::text::LayoutJob::simple(text.to_owned(), font, color, room);
        // A word may be longer than any line.
        lines.wrap.break_anywhere = false;
        let galley = ui.fonts_mut(|fonts| fonts.layout_job(lines));
        egui::Frame::new()
            .fill(fill)
            .corner_radius(CornerRadius::same(theme::radius(tokens.size.radius)))
            .inner_margin(BUBBLE_MARGIN)
            .show(ui, |ui| {
                ui.add(egui::Label::new(galley).selectable(true));
            });
        parts::caption(ui, tokens, &below);
    });
}

/// Between the edge of a line's colour and its text.
const BUBBLE_MARGIN: egui::Margin = egui::Margin::symmetric(12, 8);

#[cfg(test)]
mod tests;
