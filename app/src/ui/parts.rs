//! Small pieces that several parts of the page are made of.

use eframe::egui::{self, Color32, CornerRadius, RichText};

use super::{
    model::ActionKind,
    theme::{self, Tokens},
};

/// A group of things that belong together.
pub(super) fn card(ui: &mut egui::Ui, tokens: &Tokens, contents: impl FnOnce(&mut egui::Ui)) {
    let colors = tokens.colors(ui.ctx());
    egui::Frame::new()
        .fill(colors.card)
        .corner_radius(CornerRadius::same(theme::radius(tokens.size.card_radius)))
        .inner_margin(tokens.size.margin_small)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            contents(ui);
        });
}

/// What a card is about.
pub(super) fn caption(ui: &mut egui::Ui, tokens: &Tokens, text: &str) {
    let soft = tokens.colors(ui.ctx()).text_soft;
    ui.add(egui::Label::new(RichText::new(text).small().color(soft)).wrap());
}

/// A button as its kind looks. `key` is shown on it and is no part of its name.
pub(super) fn button(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    (label, key): (&str, Option<&str>),
    kind: ActionKind,
    size: egui::Vec2,
    enabled: bool,
) -> egui::Response {
    let colors = tokens.colors(ui.ctx());
    let (fill, text, hint) = match kind {
        ActionKind::Primary => (colors.accent, colors.on_fill, colors.on_fill),
        ActionKind::Danger => (colors.danger, colors.on_fill, colors.on_fill),
        ActionKind::Plain => (colors.control, colors.text, colors.text_soft),
    };
    let mut button = egui::Button::new(RichText::new(label).color(text))
        .fill(fill)
        .min_size(size);
    if let Some(key) = key {
        button = button.shortcut_text(RichText::new(key).small().color(hint));
    }
    let response = ui.add_enabled(enabled, button);
    response
        .widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, enabled, label));
    response
}

/// A coloured dot before a line of text.
pub(super) fn dot(ui: &mut egui::Ui, color: Color32) {
    const DIAMETER: f32 = 8.0;
    let height = ui.text_style_height(&egui::TextStyle::Body);
    let size = egui::vec2(DIAMETER, height);
    let (rect, _response) = ui.allocate_exact_size(size, egui::Sense::hover());
    ui.painter()
        .circle_filled(rect.center(), DIAMETER / 2.0, color);
}
