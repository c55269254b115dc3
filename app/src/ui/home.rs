//! The page under the call: whom to call, how to be called, people and requests.

use eframe::egui::{self, CornerRadius, RichText};

use super::{
    model,
    theme::{self, Tokens},
};
use crate::engine::handle::{Command, View};

pub(super) fn show(
    ui: &mut egui::Ui,
    view: &View,
    target: &mut String,
    tokens: &Tokens,
) -> Vec<Command> {
    let colors = tokens.colors(ui.ctx());
    let size = tokens.size;
    let mut commands = Vec::new();

    card(ui, tokens, |ui| {
        ui.label("Call somebody");
        ui.horizontal(|ui| {
            let width = (ui.available_width() - 96.0).max(120.0);
            let field = ui.add_sized(
                [width, size.control_height],
                egui::TextEdit::singleline(target)
                    .hint_text("Name, or an ahoy: link")
                    .align(egui::Align2::LEFT_CENTER),
            );
            field.widget_info(|| {
                egui::WidgetInfo::labeled(
                    egui::accesskit::Role::TextInput,
                    true,
                    "Name or link to call",
                )
            });
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let button = egui::Button::new(RichText::new("Call").color(colors.on_fill))
                .fill(colors.accent)
                .min_size(egui::vec2(80.0, size.control_height));
            let clicked = ui
                .add_enabled(model::can_call(view, target), button)
                .clicked();
            if (clicked || entered) && model::can_call(view, target) {
                commands.push(Command::Call(target.trim().to_owned()));
            }
        });
        if let Some(notice) = &view.notice {
            ui.label(notice);
        }
    });

    if let Some(link) = &view.link {
        card(ui, tokens, |ui| {
            ui.label("Your link: whoever has it can ask to call you");
            ui.add(
                egui::Label::new(RichText::new(link).monospace().color(colors.text_soft)).wrap(),
            );
            if ui.button("Copy link").clicked() {
                ui.ctx().copy_text(link.clone());
            }
        });
    }

    if !view.contacts.is_empty() {
        card(ui, tokens, |ui| {
            ui.label("Contacts");
            for contact in &view.contacts {
                ui.horizontal(|ui| {
                    let button = ui.add_enabled(
                        model::can_call(view, &contact.name),
                        egui::Button::new(format!("Call {}", contact.name)),
                    );
                    if button.clicked() {
                        commands.push(Command::Call(contact.name.clone()));
                    }
                    if contact.verified {
                        ui.colored_label(colors.ok, "verified");
                    }
                });
            }
        });
    }

    if !view.requests.is_empty() {
        card(ui, tokens, |ui| {
            ui.label("People you do not know asked to call you");
            for request in &view.requests {
                ui.colored_label(
                    colors.text_soft,
                    format!("{} — {}", request.name, request.user),
                );
            }
            ui.colored_label(
                colors.text_soft,
                "To let one of them ring: ahoy contact add, with their link",
            );
        });
    }
    commands
}

fn card(ui: &mut egui::Ui, tokens: &Tokens, contents: impl FnOnce(&mut egui::Ui)) {
    let colors = tokens.colors(ui.ctx());
    egui::Frame::new()
        .fill(colors.card)
        .corner_radius(CornerRadius::same(theme::radius(tokens.size.card_radius)))
        .inner_margin(16.0)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            contents(ui);
        });
    ui.add_space(tokens.size.gap);
}
