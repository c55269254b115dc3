//! The call card: who, how far, and the buttons for it.

use std::time::Instant;

use eframe::egui::{self, CornerRadius, RichText};

use super::{
    model::{self, ActionKind},
    parts,
    theme::Tokens,
};
use crate::engine::handle::{CallView, Command, Phase};

/// What the person did with the card.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// For the engine.
    pub(super) command: Option<Command>,
    /// They have read how it ended.
    pub(super) put_away: bool,
}

pub(super) fn show(ui: &mut egui::Ui, call: &CallView, tokens: &Tokens, now: Instant) -> Done {
    let colors = tokens.colors(ui.ctx());
    let size = tokens.size;
    let mut done = Done::default();
    parts::card(ui, tokens, |ui| {
        ui.add(egui::Label::new(RichText::new(&call.name).heading()).wrap());
        ui.add(
            egui::Label::new(RichText::new(model::call_line(call, now)).color(colors.text_soft))
                .wrap(),
        );
        if matches!(call.phase, Phase::Talking { .. }) {
            ui.add_space(size.gap);
            let own = if call.muted {
                0.0
            } else {
                model::meter(call.level_in)
            };
            let label = if call.muted { "You (muted)" } else { "You" };
            meter(ui, (label, "Microphone level"), own, tokens);
            let theirs = model::meter(call.level_out);
            meter(ui, ("Them", "Speaker level"), theirs, tokens);
            if !call.safety_words.is_empty() {
                ui.add_space(size.gap);
                parts::caption(
                    ui,
                    tokens,
                    "Read these words to each other. The same on both sides: nobody is in between.",
                );
                ui.add(egui::Label::new(call.safety_words.join(" · ")).wrap());
            }
        }
        ui.add_space(size.gap);
        let actions = model::call_actions(call);
        if actions.is_empty() {
            let close = egui::vec2(0.0, size.control_height);
            done.put_away =
                parts::button(ui, tokens, ("Close", None), ActionKind::Plain, close, true)
                    .clicked();
            return;
        }
        // A key that would only be typed into a field is no promise to make.
        let keys_work = !ui.ctx().text_edit_focused();
        let count = actions.len() as f32;
        let width = (ui.available_width() - size.gap * (count - 1.0)) / count;
        ui.horizontal(|ui| {
            for action in actions {
                let key = keys_work.then(|| action.key.name());
                let area = egui::vec2(width, size.call_height);
                if parts::button(ui, tokens, (action.label, key), action.kind, area, true).clicked()
                {
                    done.command = Some(action.command);
                }
            }
        });
    });
    done
}

/// A level between 0 and 1, with its word before it and its full name for those who hear the page.
fn meter(ui: &mut egui::Ui, (label, name): (&str, &'static str), level: f32, tokens: &Tokens) {
    const LABEL_WIDTH: f32 = 84.0;
    const THICKNESS: f32 = 6.0;
    let colors = tokens.colors(ui.ctx());
    let height = ui.text_style_height(&egui::TextStyle::Small);
    ui.scope(|ui| {
        // A line of text is no control.
        ui.spacing_mut().interact_size.y = height;
        ui.horizontal(|ui| {
            ui.allocate_ui_with_layout(
                egui::vec2(LABEL_WIDTH, height),
                egui::Layout::left_to_right(egui::Align::Center),
                |ui| {
                    ui.set_min_width(LABEL_WIDTH);
                    parts::caption(ui, tokens, label);
                },
            );
            let area = egui::vec2(ui.available_width(), THICKNESS);
            let (rect, response) = ui.allocate_exact_size(area, egui::Sense::hover());
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
        });
    });
}
