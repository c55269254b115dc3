//! Small pieces that several parts of the page are made of.

use eframe::egui::{self, Color32, CornerRadius, RichText};

use super::{
    model::ActionKind,
    theme::{self, Tokens},
    words::{self, Word},
};
use crate::engine::presence::Presence;

/// Where the word before a meter ends.
pub(super) const LABEL_WIDTH: f32 = 84.0;

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

/// How wide a button with this label, and this key beside it, has to be, and no less than `least`.
pub(super) fn button_width(ui: &egui::Ui, label: &str, key: Option<&str>, least: f32) -> f32 {
    let wide = |text: &str, style: egui::TextStyle| {
        let font = style.resolve(ui.style());
        let galley = ui
            .painter()
            .layout_no_wrap(text.to_owned(), font, Color32::PLACEHOLDER);
        galley.size().x
    };
    let key = key.map_or(0.0, |key| {
        wide(key, egui::TextStyle::Small) + ui.spacing().item_spacing.x
    });
    let label = wide(label, egui::TextStyle::Button);
    (label + key + 2.0 * ui.spacing().button_padding.x)
        .ceil()
        .max(least)
}

/// A field of one line. Its hint is what is seen while it is empty, its name what is heard.
pub(super) fn field(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    text: &mut String,
    (hint, name): (&str, &str),
    width: f32,
) -> egui::Response {
    let field = ui.add_sized(
        [width, tokens.size.control_height],
        egui::TextEdit::singleline(text)
            .hint_text(hint)
            .margin(egui::Margin::symmetric(10, 4))
            .align(egui::Align2::LEFT_CENTER),
    );
    field.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::TextInput, true, name));
    field
}

/// A field for what nobody is to read over somebody's shoulder. Its name is its hint, too.
pub(super) fn secret(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    text: &mut String,
    name: &'static str,
    width: f32,
) -> egui::Response {
    let field = egui::TextEdit::singleline(text)
        .password(true)
        .hint_text(name)
        .margin(egui::Margin::symmetric(10, 4))
        .align(egui::Align2::LEFT_CENTER);
    let field = ui.add_sized([width, tokens.size.control_height], field);
    // What could be undone would stay there to be read.
    if let Some(mut state) = egui::TextEdit::load_state(ui.ctx(), field.id) {
        state.clear_undoer();
        state.store(ui.ctx(), field.id);
    }
    let role = egui::accesskit::Role::PasswordInput;
    field.widget_info(|| egui::WidgetInfo::labeled(role, true, name));
    field
}

/// A box with its label, which can be ticked where it is enabled.
pub(super) fn checkbox(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    (label, enabled): (&str, bool),
    ticked: &mut bool,
) -> egui::Response {
    let soft = tokens.colors(ui.ctx()).text_soft;
    ui.scope(|ui| {
        // An empty box is as pale as the page otherwise.
        ui.visuals_mut().widgets.inactive.bg_stroke = egui::Stroke::new(1.0, soft);
        ui.add_enabled(enabled, egui::Checkbox::new(ticked, label))
    })
    .inner
}

/// How many there are that nobody has looked at.
pub(super) fn badge(ui: &mut egui::Ui, tokens: &Tokens, count: usize) {
    const MOST: usize = 99;
    const PADDING: f32 = 2.0;
    let colors = tokens.colors(ui.ctx());
    let text = if count > MOST {
        format!("{MOST}+")
    } else {
        count.to_string()
    };
    let font = egui::TextStyle::Small.resolve(ui.style());
    let galley = ui.painter().layout_no_wrap(text, font, colors.on_fill);
    let height = galley.size().y + 2.0 * PADDING;
    let width = (galley.size().x + 4.0 * PADDING).max(height);
    let (rect, response) = ui.allocate_exact_size(egui::vec2(width, height), egui::Sense::hover());
    let painter = ui.painter();
    let rounding = CornerRadius::same(theme::radius(height / 2.0));
    painter.rect_filled(rect, rounding, colors.accent);
    let corner = rect.center() - galley.size() / 2.0;
    painter.galley(corner, galley, colors.on_fill);
    response.widget_info(|| {
        let name = words::unread(count as u64);
        egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, name)
    });
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

/// Whether a contact can be reached now: a full dot or an empty ring, told by name and by a word under the pointer. Nothing
/// of whom nothing is known.
pub(super) fn presence(ui: &mut egui::Ui, tokens: &Tokens, presence: Presence, name: &str) {
    const DIAMETER: f32 = 8.0;
    const STROKE: f32 = 1.5;
    let Some(word) = presence_word(presence) else {
        return;
    };
    let told = match presence {
        Presence::Reachable => words::is_reachable_now(name),
        Presence::Unknown | Presence::Away => words::is_away_now(name),
    };
    let colors = tokens.colors(ui.ctx());
    let height = ui.text_style_height(&egui::TextStyle::Body);
    let area = egui::vec2(DIAMETER, height);
    let (rect, response) = ui.allocate_exact_size(area, egui::Sense::hover());
    let role = egui::accesskit::Role::Image;
    response.widget_info(|| egui::WidgetInfo::labeled(role, true, told.clone()));
    let (painter, centre) = (ui.painter(), rect.center());
    if presence == Presence::Reachable {
        painter.circle_filled(centre, DIAMETER / 2.0, colors.ok);
    } else {
        let stroke = egui::Stroke::new(STROKE, colors.text_soft);
        painter.circle_stroke(centre, (DIAMETER - STROKE) / 2.0, stroke);
    }
    response.on_hover_text(word);
}

/// The same in words, if anything is known.
pub(super) fn presence_word(presence: Presence) -> Option<&'static str> {
    match presence {
        Presence::Unknown => None,
        Presence::Reachable => Some(words::is_reachable()),
        Presence::Away => Some(words::is_away()),
    }
}

/// What the things below it are about.
pub(super) fn title(ui: &mut egui::Ui, text: &str) {
    ui.add(egui::Label::new(RichText::new(text).strong()));
}

/// Something that is on or off, with a sentence about it. The whole row can be pressed.
pub(super) fn switch(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    (label, sentence): (&'static str, &'static str),
    on: bool,
    enabled: bool,
) -> egui::Response {
    const TRACK: egui::Vec2 = egui::vec2(34.0, 20.0);
    const KNOB_INSET: f32 = 3.0;
    const PADDING: f32 = 6.0;
    const SLIDE_SECONDS: f32 = 0.12;
    let (colors, gap) = (tokens.colors(ui.ctx()), tokens.size.gap);
    let text_width = ui.available_width() - TRACK.x - 2.0 * gap;
    let font = |style: egui::TextStyle| style.resolve(ui.style());
    let color = if enabled {
        colors.text
    } else {
        colors.text_soft
    };
    let layout = |text: &str, style, color| {
        ui.painter()
            .layout(text.to_owned(), font(style), color, text_width)
    };
    let head = layout(label, egui::TextStyle::Body, color);
    let body = layout(sentence, egui::TextStyle::Small, colors.text_soft);
    let height = head.size().y + body.size().y + 2.0 * PADDING;
    let sense = if enabled {
        egui::Sense::click()
    } else {
        egui::Sense::hover()
    };
    let area = egui::vec2(ui.available_width(), height);
    let (rect, response) = ui.allocate_exact_size(area, sense);
    response.widget_info(|| {
        egui::WidgetInfo::selected(egui::accesskit::Role::Switch, enabled, on, label)
    });
    if response.gained_focus() {
        response.scroll_to_me(None);
    }
    let painter = ui.painter();
    if enabled && (response.hovered() || response.has_focus()) {
        let rect = rect.expand2(egui::vec2(PADDING, 0.0));
        let rounding = CornerRadius::same(theme::radius(tokens.size.radius));
        painter.rect_filled(rect, rounding, colors.control);
        if response.has_focus() {
            let stroke = egui::Stroke::new(2.0, colors.text);
            painter.rect_stroke(rect, rounding, stroke, egui::StrokeKind::Inside);
        }
    }
    let corner = rect.min + egui::vec2(0.0, PADDING);
    let below = corner + egui::vec2(0.0, head.size().y);
    painter.galley(corner, head, color);
    painter.galley(below, body, colors.text_soft);

    let slid = ui
        .ctx()
        .animate_bool_with_time(response.id, on, SLIDE_SECONDS);
    let right = egui::pos2(rect.right() - TRACK.x / 2.0, rect.center().y);
    let track = egui::Rect::from_center_size(right, TRACK);
    let fill = if on && enabled {
        colors.accent
    } else {
        colors.line
    };
    let rounding = CornerRadius::same(theme::radius(TRACK.y / 2.0));
    painter.rect_filled(track, rounding, fill);
    if !on {
        // The pale track is told from the card by its edge.
        let stroke = egui::Stroke::new(1.0, colors.text_soft);
        painter.rect_stroke(track, rounding, stroke, egui::StrokeKind::Inside);
    }
    let radius = TRACK.y / 2.0 - KNOB_INSET;
    let travel = TRACK.x - 2.0 * (radius + KNOB_INSET);
    let knob = egui::pos2(
        track.left() + KNOB_INSET + radius + travel * slid,
        track.center().y,
    );
    let knob_color = if on && enabled {
        colors.on_fill
    } else {
        colors.text_soft
    };
    painter.circle_filled(knob, radius, knob_color);
    response
}

/// A level between 0 and 1, with its word before it and its full name for those who hear the page.
pub(super) fn meter(
    ui: &mut egui::Ui,
    (label, name): (&str, &'static str),
    level: f32,
    tokens: &Tokens,
) {
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
                    caption(ui, tokens, label);
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

/// How much of something is done, between 0 and 1. `name` says of what, and how much.
pub(super) fn progress(ui: &mut egui::Ui, tokens: &Tokens, name: &str, part: f32) {
    const THICKNESS: f32 = 6.0;
    let colors = tokens.colors(ui.ctx());
    let area = egui::vec2(ui.available_width(), THICKNESS);
    let (rect, response) = ui.allocate_exact_size(area, egui::Sense::hover());
    let rounding = CornerRadius::same(3);
    ui.painter().rect_filled(rect, rounding, colors.control);
    let mut filled = rect;
    filled.set_width(rect.width() * part.clamp(0.0, 1.0));
    ui.painter().rect_filled(filled, rounding, colors.accent);
    response.widget_info(|| {
        let role = egui::accesskit::Role::ProgressIndicator;
        let mut info = egui::WidgetInfo::labeled(role, true, name);
        info.value = Some(f64::from(part));
        info
    });
}

/// One of several things. Each label is its accessible name; what is `chosen` has the accent. Which was pressed, if it is
/// another one.
pub(super) fn choice(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    (role, labels): (egui::accesskit::Role, &[&str]),
    chosen: usize,
) -> Option<usize> {
    let colors = tokens.colors(ui.ctx());
    let mut picked = None;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().button_padding.x = tokens.size.gap + 2.0;
        ui.spacing_mut().item_spacing.x = tokens.size.gap / 2.0;
        for (index, label) in labels.iter().enumerate() {
            let is_chosen = index == chosen;
            let (fill, text) = if is_chosen {
                (colors.accent, colors.on_fill)
            } else {
                (colors.control, colors.text)
            };
            let button = egui::Button::new(RichText::new(*label).color(text))
                .fill(fill)
                .min_size(egui::vec2(0.0, tokens.size.control_height));
            let response = ui.add(button);
            response.widget_info(|| egui::WidgetInfo::selected(role, true, is_chosen, *label));
            if response.clicked() && !is_chosen {
                picked = Some(index);
            }
        }
    });
    picked
}

/// One of several things, each with what it means: that of the chosen one stands below. Which was pressed, if it is another
/// one. What is `chosen` and not among them is as good as the first.
pub(super) fn explained_choice<T: Copy + PartialEq, const COUNT: usize>(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    options: &[(T, Word, Word); COUNT],
    chosen: T,
) -> Option<T> {
    let at = options.iter().position(|(value, ..)| *value == chosen);
    let at = at.unwrap_or(0);
    let labels = options.each_ref().map(|(_, label, _)| label());
    let role = egui::accesskit::Role::RadioButton;
    let picked = choice(ui, tokens, (role, &labels), at);
    if let Some((_, _, why)) = options.get(at) {
        caption(ui, tokens, why());
    }
    picked
        .and_then(|index| options.get(index))
        .map(|(value, ..)| *value)
}

/// Something that is wrong, and the one thing to do about it. Whether that was pressed.
pub(super) fn banner(ui: &mut egui::Ui, tokens: &Tokens, text: &str, action: &'static str) -> bool {
    let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
    egui::Frame::new()
        .stroke(egui::Stroke::new(1.0, colors.danger_text))
        .corner_radius(CornerRadius::same(theme::radius(size.radius)))
        .inner_margin(size.gap)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.add(egui::Label::new(RichText::new(text).color(colors.danger_text)).wrap());
            let area = egui::vec2(0.0, size.control_height);
            button(ui, tokens, (action, None), ActionKind::Plain, area, true).clicked()
        })
        .inner
}

/// A link as a picture that telephones read. It is made anew only when the text changes.
#[derive(Debug, Default)]
pub(super) struct Qr {
    text: String,
    width: usize,
    dark: Vec<bool>,
}

impl Qr {
    /// Draws it, at most so large. Nothing where the text is too long for one.
    pub(super) fn show(&mut self, ui: &mut egui::Ui, text: &str, name: &'static str, most: f32) {
        /// ISO/IEC 18004 wants so much of white around it.
        const QUIET: usize = 4;
        if self.text != text {
            text.clone_into(&mut self.text);
            let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L);
            (self.width, self.dark) = code.map_or((0, Vec::new()), |code| {
                let dark = |color: &qrcode::Color| *color == qrcode::Color::Dark;
                (code.width(), code.to_colors().iter().map(dark).collect())
            });
        }
        if self.width == 0 {
            return;
        }
        let modules = self.width + 2 * QUIET;
        let pixel = ui.ctx().pixels_per_point();
        // Whole pixels: else its squares are of unequal size.
        let side = (ui.available_width().min(most) * pixel / modules as f32)
            .floor()
            .max(1.0)
            / pixel;
        let area = egui::Vec2::splat(side * modules as f32);
        let (rect, response) = ui.allocate_exact_size(area, egui::Sense::hover());
        let painter = ui.painter();
        // Black on white in both modes: many readers know nothing else.
        painter.rect_filled(
            rect,
            CornerRadius::same(theme::radius(side * 2.0)),
            Color32::WHITE,
        );
        for (index, _dark) in self.dark.iter().enumerate().filter(|(_index, dark)| **dark) {
            let (x, y) = (index % self.width + QUIET, index / self.width + QUIET);
            let corner = rect.min + egui::vec2(x as f32 * side, y as f32 * side);
            let square = egui::Rect::from_min_size(corner, egui::Vec2::splat(side));
            painter.rect_filled(square, CornerRadius::ZERO, Color32::BLACK);
        }
        response
            .widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Image, true, name));
    }
}

/// Things beside each other, as high as a line of text: nothing of it can be pressed.
pub(super) fn text_row<T>(ui: &mut egui::Ui, contents: impl FnOnce(&mut egui::Ui) -> T) -> T {
    let height = ui.text_style_height(&egui::TextStyle::Small);
    ui.scope(|ui| {
        ui.spacing_mut().interact_size.y = height;
        ui.horizontal_top(contents).inner
    })
    .inner
}

/// A line over time, the newest at the right; gaps where nothing was measured. `name` says what it is and what it is now.
pub(super) fn plot(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    (name, now): (&'static str, &str),
    values: &[Option<f32>],
    (steps, least_top): (usize, f32),
) {
    const HEIGHT: f32 = 44.0;
    const INSET: f32 = 3.0;
    let colors = tokens.colors(ui.ctx());
    text_row(ui, |ui| {
        caption(ui, tokens, name);
        let rest = egui::Layout::right_to_left(egui::Align::Min);
        ui.with_layout(rest, |ui| {
            ui.add(egui::Label::new(
                RichText::new(now).small().color(colors.text),
            ));
        });
    });
    let area = egui::vec2(ui.available_width(), HEIGHT);
    let (rect, response) = ui.allocate_exact_size(area, egui::Sense::hover());
    let rounding = CornerRadius::same(theme::radius(tokens.size.gap / 2.0));
    let painter = ui.painter();
    painter.rect_filled(rect, rounding, colors.control);
    let top = values.iter().flatten().copied().fold(least_top, f32::max);
    let inner = rect.shrink(INSET);
    let step = inner.width() / (steps.max(2) - 1) as f32;
    let first = inner.right() - step * values.len().saturating_sub(1) as f32;
    let mut line = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match value {
            Some(value) => {
                let x = first + step * index as f32;
                let y = inner.bottom() - inner.height() * (value / top).clamp(0.0, 1.0);
                line.push(egui::pos2(x, y));
            }
            None => draw_line(painter, &mut line, colors.text),
        }
    }
    draw_line(painter, &mut line, colors.text);
    response.widget_info(|| {
        let told = format!("{name}: {now}");
        egui::WidgetInfo::labeled(egui::accesskit::Role::Image, true, told)
    });
}

fn draw_line(painter: &egui::Painter, line: &mut Vec<egui::Pos2>, color: Color32) {
    let points = std::mem::take(line);
    match points.as_slice() {
        [] => {}
        [point] => {
            painter.circle_filled(*point, 1.0, color);
        }
        _line => {
            painter.add(egui::Shape::line(points, egui::Stroke::new(1.5, color)));
        }
    }
}
