//! The page about one person: what was written, files, and what is to become of their entry.

mod attach;

use std::{collections::BTreeMap, path::PathBuf};

use ahoy_transport::identity::UserId;
use chrono::{DateTime, Local};
use eframe::egui::{self, CornerRadius, RichText};

use super::{
    chooser::Chosen,
    files::{self, FileAct, Row},
    model::{self, ActionKind, PersonLines},
    parts,
    person::{self, Entry},
    theme::{self, Tokens},
    told, words,
};
use crate::{
    chat::{Content, Line, MAX_TEXT_BYTES, Message, MessageId},
    engine::{
        handle::{Command, View},
        people::ChatView,
    },
};
use attach::Attach;

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
    /// The same with the next frame: the key that was pressed now is for something else.
    focus_soon: bool,
    /// The person's entry is shown.
    details: bool,
    entry: Entry,
    attach: Attach,
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
    /// The person is called, and is to see the camera.
    pub(super) video: bool,
    /// The dialog for files is wanted.
    pub(super) choose: bool,
    /// The folder of this file is to be shown.
    pub(super) folder: Option<PathBuf>,
    /// A copy of this file is wanted elsewhere.
    pub(super) keep: Option<PathBuf>,
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

    /// Files are to be sent, once the person says so.
    pub(super) fn attach(&mut self, paths: Vec<PathBuf>) {
        self.details = false;
        self.attach.add(paths);
        self.focus = true;
    }

    /// Somebody wants to send a file, and may say which.
    pub(super) fn begin_file(&mut self) {
        self.details = false;
        self.attach.open();
    }

    /// The dialog for files was closed, or there is none.
    pub(super) fn chosen(&mut self, chosen: Chosen) {
        self.focus |= matches!(chosen, Chosen::Files(_));
        self.attach.chosen(chosen);
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
        self.focus |= std::mem::take(&mut self.focus_soon);
        let chat = view.chat.as_deref().filter(|chat| chat.user == user);
        self.note_read(ui, view, user, chat, &mut done);
        let lines = model::person_lines(view, user);
        self.header(ui, view, &lines, tokens, &mut done);
        ui.add_space(tokens.size.gap);
        let is_favourite = favourites.contains(&user);
        if lines.is_contact && self.details {
            let told = egui::ScrollArea::vertical()
                .id_salt("person")
                .auto_shrink(false)
                .show(ui, |ui| {
                    // Columns would stretch every button.
                    let column = egui::Layout::top_down(egui::Align::Min);
                    let shown = ui.with_layout(column, |ui| {
                        if let Some(notice) = model::notice(view) {
                            ui.add(egui::Label::new(notice).wrap());
                        }
                        let entry = &mut self.entry;
                        entry.contact(ui, view, user, &lines, is_favourite, tokens)
                    });
                    shown.inner
                })
                .inner;
            self.take(user, told, &mut done);
            return done;
        }
        if !lines.is_contact {
            /// Part of the page that may go to what is known of a stranger: what they wrote, and the answer, need the rest.
            const MOST: f32 = 0.45;
            let mut told = person::Done::default();
            egui::ScrollArea::vertical()
                .id_salt("stranger")
                .max_height(ui.available_height() * MOST)
                .show(ui, |ui| {
                    parts::card(ui, tokens, |ui| {
                        told = self.entry.stranger(ui, user, &lines, tokens);
                    });
                });
            self.take(user, told, &mut done);
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
        conversation(ui, (view, user), chat, &lines, tokens, &mut done);
        done
    }

    fn take(&mut self, user: UserId, told: person::Done, done: &mut Done) {
        done.commands.extend(told.commands);
        done.favourite = told.favourite.map(|on| (user, on)).or(done.favourite);
        done.close |= told.close;
        done.video |= told.video;
        if told.write {
            self.details = false;
            self.focus = true;
        }
        if told.file {
            self.begin_file();
            done.choose = true;
        }
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
            let back = parts::button(ui, tokens, (words::back(), None), plain, area, true);
            done.close |= back.clicked();
            let rest = egui::Layout::right_to_left(egui::Align::Center);
            ui.with_layout(rest, |ui| {
                let can_call = model::can_call(view, &lines.target);
                let call = (words::call_them(), None);
                let kind = ActionKind::Primary;
                if parts::button(ui, tokens, call, kind, area, can_call).clicked() {
                    let target = lines.target.clone();
                    done.commands.push(Command::Call(target));
                }
                if lines.is_contact {
                    let label = if self.details {
                        words::done()
                    } else {
                        words::details()
                    };
                    let button = parts::button(ui, tokens, (label, None), plain, area, true);
                    if button.clicked() {
                        self.details = !self.details;
                        self.entry = Entry::of(lines);
                    }
                }
                if lines.verified {
                    ui.colored_label(colors.ok, words::verified());
                } else if lines.forked {
                    ui.colored_label(colors.danger_text, words::careful());
                }
                let name = egui::Layout::left_to_right(egui::Align::Center);
                ui.with_layout(name, |ui| {
                    let name = RichText::new(&lines.name).heading();
                    ui.add(egui::Label::new(name).truncate());
                });
            });
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
        const LEAST_WIDTH: f32 = 104.0;
        /// Where there is little room.
        const LEAST_NARROW: f32 = 64.0;
        const LEAST_FILE: f32 = 52.0;
        const NARROW: f32 = 340.0;
        const MOST_ROWS: usize = 5;
        let size = tokens.size;
        if lines.is_contact {
            let told = self.attach.show(ui, tokens);
            done.choose |= told.choose;
            self.focus_soon |= told.taken;
        }
        if self.drafts.len() >= MAX_DRAFTS && !self.drafts.contains_key(&user) {
            self.drafts.retain(|_user, draft| !draft.is_empty());
        }
        let draft = self.drafts.entry(user).or_default();
        let hint = words::write_to(&lines.name);
        ui.horizontal(|ui| {
            let is_narrow = ui.available_width() < NARROW;
            let (key, least) = if is_narrow {
                (None, LEAST_NARROW)
            } else {
                (Some(words::key_enter()), LEAST_WIDTH)
            };
            let send_width = parts::button_width(ui, words::send(), key, least);
            let file_width = parts::button_width(ui, words::file(), None, LEAST_FILE);
            let mut width = ui.available_width() - send_width - size.gap;
            if lines.is_contact {
                width -= file_width + size.gap;
                let area = egui::vec2(file_width, size.control_height);
                let file = (words::file(), None);
                let button = parts::button(ui, tokens, file, ActionKind::Plain, area, true);
                button.widget_info(|| {
                    let role = egui::accesskit::Role::Button;
                    egui::WidgetInfo::labeled(role, true, words::send_a_file())
                });
                if button.clicked() {
                    self.attach.toggle();
                }
            }
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
                egui::WidgetInfo::labeled(role, true, words::message())
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
            let possible = !draft.trim().is_empty() || !self.attach.is_empty();
            let area = egui::vec2(send_width, size.control_height);
            let key = field.has_focus().then_some(words::key_enter());
            let key = key.filter(|_| !is_narrow);
            let send = (words::send(), key);
            let pressed =
                parts::button(ui, tokens, send, ActionKind::Primary, area, possible).clicked();
            if (entered || pressed) && possible {
                let text = std::mem::take(draft);
                if !text.trim().is_empty() {
                    done.commands.push(Command::Message {
                        id: model::new_message_id(),
                        to: lines.target.clone(),
                        text,
                    });
                }
                let files = self.attach.take().into_iter();
                done.commands.extend(files.map(|path| Command::SendFile {
                    id: model::new_transfer_id(),
                    to: lines.target.clone(),
                    path,
                }));
                self.focus = true;
            }
        });
    }
}

/// What was said and sent, the newest at the bottom.
fn conversation(
    ui: &mut egui::Ui,
    (view, user): (&View, UserId),
    chat: Option<&ChatView>,
    lines: &PersonLines,
    tokens: &Tokens,
    done: &mut Done,
) {
    let name = &lines.name;
    egui::ScrollArea::vertical()
        .id_salt("conversation")
        .auto_shrink(false)
        .stick_to_bottom(true)
        .show(ui, |ui| {
            let rows = files::rows(chat, &view.files, user);
            if rows.is_empty() && chat.is_some() {
                let sentence = words::nothing_written(name);
                parts::caption(ui, tokens, &sentence);
            }
            let now = Local::now();
            let mut day = None;
            for row in rows {
                let at = model::local(row.at_millis());
                if day != Some(at.date_naive()) {
                    day = Some(at.date_naive());
                    ui.vertical_centered(|ui| {
                        parts::caption(ui, tokens, &model::day(&at, &now));
                    });
                }
                match row {
                    Row::Message(index, message) => {
                        let state = chat.and_then(|chat| chat.tells_state(index));
                        let state = state.map(|state| told::delivery(state, name));
                        bubble(ui, message, &at, state.as_deref(), tokens);
                    }
                    Row::File(file) => {
                        let time = words::time_of(&at);
                        let widest = ui.available_width() * WIDEST;
                        let pressed =
                            ui.push_id(file.id, |ui| files::show(ui, file, &time, widest, tokens));
                        match pressed.inner {
                            Some(FileAct::Change(change)) => {
                                done.commands.push(Command::File(file.id, change));
                            }
                            Some(FileAct::Folder) => done.folder.clone_from(&file.path),
                            Some(FileAct::Keep) => done.keep.clone_from(&file.path),
                            None => {}
                        }
                    }
                }
            }
        });
}

/// A line is at most this part of the page.
const WIDEST: f32 = 0.8;

/// One line, ours at the right.
fn bubble(
    ui: &mut egui::Ui,
    message: &Message,
    at: &DateTime<Local>,
    state: Option<&str>,
    tokens: &Tokens,
) {
    let colors = tokens.colors(ui.ctx());
    let is_own = message.line != Line::Received;
    let widest = ui.available_width() * WIDEST;
    let side = if is_own {
        egui::Align::Max
    } else {
        egui::Align::Min
    };
    let time = words::time_of(at);
    let below = match state {
        Some(state) => words::time_and_state(time, state),
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
            (Content::MissedCall, true) => words::you_called_nobody_answered(),
            (Content::MissedCall, false) => words::missed_call(),
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
