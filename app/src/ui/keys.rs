//! What keys do.

use eframe::egui::{self, RichText};

use super::{parts, theme::Tokens};

/// Keys, and what they do. The keys of a call stand on its buttons, too.
pub(super) const SHEET: [(&str, &[(&str, &str)]); 3] = [
    (
        "Everywhere",
        &[
            ("Tab", "To the next thing; with Shift to the one before"),
            ("Space", "Presses what has the frame around it"),
            ("Esc", "Closes what is open"),
            ("Ctrl + ,", "Settings"),
            ("Ctrl + K", "Search, or paste a link"),
            ("Ctrl + 1 … 9", "Writes to the first, second … contact"),
            (
                "Ctrl + O",
                "Sends a file to whom you write to, or talk with",
            ),
            ("Ctrl + /", "This list; so does ?"),
            ("F11", "The whole screen"),
            ("Ctrl + Q", "Ends ahoy"),
        ],
    ),
    (
        "While it rings",
        &[("A", "Answers"), ("D", "Declines"), ("H", "Stops calling")],
    ),
    (
        "In a call",
        &[
            ("M", "Mutes you, or not any more"),
            ("C", "Camera on or off"),
            ("S", "Shows a screen or a window"),
            ("R", "Records the call"),
            ("O", "Puts the other side on hold"),
            ("H", "Hangs up"),
            ("A, D, I", "Answers, declines or ignores whoever else calls"),
            ("W", "Goes on with the call that is on hold"),
            (
                "Space",
                "Lets you be heard while it is held, with push to talk",
            ),
        ],
    ),
];

/// Draws the list.
pub(super) fn sheet(ui: &mut egui::Ui, tokens: &Tokens) {
    const KEY_WIDTH: f32 = 104.0;
    let colors = tokens.colors(ui.ctx());
    for (index, (title, lines)) in SHEET.iter().enumerate() {
        if index > 0 {
            ui.add_space(tokens.size.gap);
        }
        parts::title(ui, title);
        for (keys, what) in *lines {
            ui.horizontal_top(|ui| {
                ui.spacing_mut().interact_size.y = 0.0;
                let height = ui.text_style_height(&egui::TextStyle::Body);
                let area = egui::vec2(KEY_WIDTH, height);
                let line = egui::Layout::left_to_right(egui::Align::Min);
                ui.allocate_ui_with_layout(area, line, |ui| {
                    ui.set_min_width(KEY_WIDTH);
                    ui.add(egui::Label::new(RichText::new(*keys).color(colors.text)));
                });
                let what = RichText::new(*what).color(colors.text_soft);
                ui.add(egui::Label::new(what).wrap());
            });
        }
    }
}
