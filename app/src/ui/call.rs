//! The call card: who, how far, and the buttons for it.

use std::time::Instant;

use eframe::egui::{self, CornerRadius, RichText};

use super::{
    model::{self, ActionKind},
    theme::{self, Tokens},
};
use crate::engine::handle::{CallView, Command, Phase};

pub(super) fn show(
    ui: &mut egui::Ui,
    call: &CallView,
    tokens: &Tokens,
    now: Instant,
) -> Vec<Command> {
    let colors = tokens.colors(ui.ctx());
    let size = tokens.size;
    let mut commands = Vec::new();
    egui::Frame::new()
        .fill(colors.card)
        .corner_radius(CornerRadius::same(theme::radius(size.card_radius)))
        .inner_margin(size.margin)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.heading(&call.name);
            ui.colored_label(colors.text_soft, model::call_line(call, now));
            if matches!(call.phase, Phase::Talking { .. }) {
                meter(
                    ui,
                    "Microphone level",
                    if call.muted {
                        0.0
                    } else {
                        model::meter(call.level_in)
                    },
                    tokens,
                );
                meter(ui, "Speaker level", model::meter(call.level_out), tokens);
                if !call.safety_words.is_empty() {
                    ui.colored_label(
                        colors.text_soft,
                        format!("Safety words: {}", call.safety_words.join(" · ")),
                    );
                }
            }
            let actions = model::call_actions(call);
            if actions.is_empty() {
                return;
            }
            ui.add_space(size.gap);
            ui.horizontal(|ui| {
                for action in actions {
                    let (fill, text) = match action.kind {
                        ActionKind::Primary => (colors.accent, colors.on_fill),
                        ActionKind::Danger => (colors.danger, colors.on_fill),
                        ActionKind::Plain => (colors.control, colors.text),
                    };
                    let button = egui::Button::new(RichText::new(action.label).color(text))
                        .fill(fill)
                        .min_size(egui::vec2(120.0, size.call_height));
                    if ui.add(button).clicked() {
                        commands.push(action.command);
                    }
                }
            });
        });
    commands
}

fn meter(ui: &mut egui::Ui, name: &'static str, level: f32, tokens: &Tokens) {
    let colors = tokens.colors(ui.ctx());
    let (rect, response) =
        ui.allocate_exact_size(egui::vec2(ui.available_width(), 6.0), egui::Sense::hover());
    let rounding = CornerRadius::same(3);
    ui.painter().rect_filled(rect, rounding, colors.control);
    let mut filled = rect;
    filled.set_width(rect.width() * level);
    ui.painter().rect_filled(filled, rounding, colors.ok);
    response.widget_info(|| {
        let mut info = egui::WidgetInfo::labeled(egui::accesskit::Role::Meter, true, name);
        info.value = Some(f64::from(level));
        info
    });
}
