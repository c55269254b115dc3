//! What keys do.

use eframe::egui::{self, RichText};

use super::{
    parts,
    theme::Tokens,
    words::{self, Word},
};

/// Keys, and what they do. The keys of a call stand on its buttons, too.
pub(super) const SHEET: [(Word, &[(Word, Word)]); 3] = [
    (
        words::keys_everywhere,
        &[
            (words::key_tab, words::key_tab_does),
            (words::key_space, words::key_space_does),
            (words::key_escape, words::key_escape_does),
            (words::key_settings, words::settings),
            (words::key_search, words::key_search_does),
            (words::key_contacts, words::key_contacts_does),
            (words::key_file, words::key_file_does),
            (words::key_list, words::key_list_does),
            (words::key_whole_screen, words::key_whole_screen_does),
            (words::key_quit, words::key_quit_does),
        ],
    ),
    (
        words::keys_ringing,
        &[
            (|| "A", words::key_answers),
            (|| "V", words::key_answers_seen),
            (|| "D", words::key_declines),
            (|| "T", words::key_declines_saying),
            (|| "H", words::key_stops_calling),
        ],
    ),
    (
        words::keys_call,
        &[
            (|| "M", words::key_mutes),
            (|| "C", words::key_camera),
            (|| "S", words::key_shares),
            (|| "R", words::key_records),
            (|| "O", words::key_holds),
            (|| "H", words::key_hangs_up),
            (|| "A, V, D, T, I", words::key_other_does),
            (|| "W", words::key_switches),
            (words::key_space, words::key_talks),
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
        parts::title(ui, title());
        for (keys, what) in *lines {
            ui.horizontal_top(|ui| {
                ui.spacing_mut().interact_size.y = 0.0;
                let height = ui.text_style_height(&egui::TextStyle::Body);
                let area = egui::vec2(KEY_WIDTH, height);
                let line = egui::Layout::left_to_right(egui::Align::Min);
                ui.allocate_ui_with_layout(area, line, |ui| {
                    ui.set_min_width(KEY_WIDTH);
                    ui.add(egui::Label::new(RichText::new(keys()).color(colors.text)));
                });
                let what = RichText::new(what()).color(colors.text_soft);
                ui.add(egui::Label::new(what).wrap());
            });
        }
    }
}
