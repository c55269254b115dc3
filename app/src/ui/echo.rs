//! Somebody to call who is always there: the echo test.

use eframe::egui;

use super::{model::ActionKind, parts, theme::Tokens, words};

/// Draws the card; whether it is to be called.
pub(super) fn card(ui: &mut egui::Ui, tokens: &Tokens) -> bool {
    let mut wanted = false;
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::echo_test());
        parts::caption(ui, tokens, words::echo_test_is());
        let area = egui::vec2(0.0, tokens.size.control_height);
        let label = (words::call_echo_test(), None);
        wanted = parts::button(ui, tokens, label, ActionKind::Plain, area, true).clicked();
    });
    wanted
}

#[cfg(test)]
mod tests {
    use crate::ui::testing::Reader;

    #[test]
    fn it_is_called_by_one_press_and_fits_a_narrow_window() {
        for width in [268.0, 560.0] {
            let mut reader = Reader::new();
            reader.width = width;
            let mut wanted = false;
            let tokens = reader.tokens;
            reader.frame(vec![], |ui| wanted |= super::card(ui, &tokens));
            assert!(!wanted);
            reader.assert_inside("the echo test");
            let press = reader.press("Call the echo test");
            reader.frame(vec![press], |ui| wanted |= super::card(ui, &tokens));
            assert!(wanted);
        }
    }
}
