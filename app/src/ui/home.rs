//! The page under the call: whom to call, how to be called, people and requests.

use eframe::egui;

use super::{
    model::{self, ActionKind},
    parts,
    theme::Tokens,
};
use crate::engine::handle::{Command, ContactView, RequestView, View};

/// What the page remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Home {
    /// What is typed or pasted into the call field.
    pub(super) target: String,
    /// The field takes the keyboard when it is shown next.
    pub(super) focus_target: bool,
    /// The link that was copied last.
    pub(super) copied: Option<String>,
}

impl Home {
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        tokens: &Tokens,
    ) -> Option<Command> {
        let gap = tokens.size.gap;
        let mut command = None;
        parts::card(ui, tokens, |ui| {
            command = self.call_somebody(ui, view, tokens)
        });
        if !view.contacts.is_empty() {
            ui.add_space(gap);
            parts::card(ui, tokens, |ui| {
                parts::caption(ui, tokens, "Contacts");
                for contact in &view.contacts {
                    if contact_row(ui, contact, view, tokens) {
                        command = Some(Command::Call(contact.name.clone()));
                    }
                }
            });
        }
        if let Some(link) = &view.link {
            ui.add_space(gap);
            parts::card(ui, tokens, |ui| self.own_link(ui, link, tokens));
        }
        if !view.requests.is_empty() {
            ui.add_space(gap);
            parts::card(ui, tokens, |ui| requests(ui, &view.requests, tokens));
        }
        command
    }

    fn call_somebody(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        tokens: &Tokens,
    ) -> Option<Command> {
        const BUTTON_WIDTH: f32 = 88.0;
        const NAME: &str = "Name or link to call";
        let size = tokens.size;
        let mut command = None;
        parts::caption(ui, tokens, "Call somebody");
        ui.horizontal(|ui| {
            let width = ui.available_width() - BUTTON_WIDTH - size.gap;
            let field = ui.add_sized(
                [width, size.control_height],
                egui::TextEdit::singleline(&mut self.target)
                    .hint_text("Name, or an ahoy: link")
                    .margin(egui::Margin::symmetric(10, 4))
                    .align(egui::Align2::LEFT_CENTER),
            );
            field.widget_info(|| {
                egui::WidgetInfo::labeled(egui::accesskit::Role::TextInput, true, NAME)
            });
            if std::mem::take(&mut self.focus_target) {
                field.request_focus();
            }
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let can_call = model::can_call(view, &self.target);
            let area = egui::vec2(BUTTON_WIDTH, size.control_height);
            let key = field.has_focus().then_some("Enter");
            let clicked = parts::button(
                ui,
                tokens,
                ("Call", key),
                ActionKind::Primary,
                area,
                can_call,
            )
            .clicked();
            if (clicked || entered) && can_call {
                command = Some(Command::Call(self.target.trim().to_owned()));
            }
        });
        if let Some(notice) = model::notice(view) {
            ui.add(egui::Label::new(notice).wrap());
        }
        command
    }

    fn own_link(&mut self, ui: &mut egui::Ui, link: &str, tokens: &Tokens) {
        let colors = tokens.colors(ui.ctx());
        parts::caption(ui, tokens, "Your link: whoever has it can ask to call you");
        let font = egui::TextStyle::Monospace.resolve(ui.style());
        let width = ui.available_width();
        let mut lines =
            egui::text::LayoutJob::simple(link.to_owned(), font, colors.text_soft, width);
        // Full lines: a link has no words.
        lines.wrap.break_anywhere = true;
        ui.add(egui::Label::new(lines));
        let label = if self.copied.as_deref() == Some(link) {
            "Copied"
        } else {
            "Copy link"
        };
        let area = egui::vec2(0.0, tokens.size.control_height);
        if parts::button(ui, tokens, (label, None), ActionKind::Plain, area, true).clicked() {
            ui.ctx().copy_text(link.to_owned());
            self.copied = Some(link.to_owned());
        }
    }
}

/// A line of the address book; whether they are to be called.
fn contact_row(ui: &mut egui::Ui, contact: &ContactView, view: &View, tokens: &Tokens) -> bool {
    let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
    let line = egui::Layout::right_to_left(egui::Align::Center);
    let area = egui::vec2(ui.available_width(), size.control_height);
    ui.allocate_ui_with_layout(area, line, |ui| {
        let area = egui::vec2(0.0, size.control_height);
        let enabled = model::can_call(view, &contact.name);
        let button = parts::button(ui, tokens, ("Call", None), ActionKind::Plain, area, enabled);
        button.widget_info(|| {
            let name = format!("Call {}", contact.name);
            egui::WidgetInfo::labeled(egui::accesskit::Role::Button, enabled, name)
        });
        if contact.verified {
            ui.colored_label(colors.ok, "verified");
        }
        let line = egui::Layout::left_to_right(egui::Align::Center);
        ui.with_layout(line, |ui| {
            ui.add(egui::Label::new(&contact.name).truncate());
        });
        button.clicked()
    })
    .inner
}

fn requests(ui: &mut egui::Ui, requests: &[RequestView], tokens: &Tokens) {
    parts::caption(ui, tokens, "People you do not know asked to call you");
    for request in requests {
        ui.add(egui::Label::new(&request.name).truncate());
        parts::caption(ui, tokens, &request.user.to_string());
    }
    parts::caption(
        ui,
        tokens,
        "To let one of them ring, close ahoy and run: ahoy contact add, with their link",
    );
}
