//! What keys do, wherever the window is.

use eframe::egui::{self, ViewportCommand};

use super::{Window, model, settings::Tab, sound};
use crate::{
    engine::handle::{Command, View},
    settings::{SCALES, SettingsChange},
};

/// With the command key, each opens the page of a contact, in the order of the list.
const CONTACT_KEYS: [egui::Key; 9] = [
    egui::Key::Num1,
    egui::Key::Num2,
    egui::Key::Num3,
    egui::Key::Num4,
    egui::Key::Num5,
    egui::Key::Num6,
    egui::Key::Num7,
    egui::Key::Num8,
    egui::Key::Num9,
];

impl Window {
    /// Shortcuts: one hand on the keyboard is enough. Those of the call rest while a field has the focus.
    pub(super) fn keys(&mut self, ui: &egui::Ui, view: &View) {
        let settings = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, egui::Key::Comma);
        if ui.input_mut(|input| input.consume_shortcut(&settings)) {
            self.toggle_settings(Tab::Sound);
        }
        self.other_shortcuts(ui);
        let favourites = self.favourites();
        let contacts = model::in_order(view, &favourites);
        for (key, contact) in CONTACT_KEYS.into_iter().zip(contacts) {
            let shortcut = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, key);
            if ui.input_mut(|input| input.consume_shortcut(&shortcut)) {
                self.open_chat(contact.user);
            }
        }
        // A list that is open takes the key first.
        let has_popup = egui::Popup::is_any_open(ui.ctx());
        if !has_popup && ui.input(|input| input.key_pressed(egui::Key::Escape)) {
            self.settings.close();
            self.welcome.open = false;
            self.comeback.close();
            self.share.open = false;
            self.reply.close();
            self.close_chat();
        }
        if ui.input(|input| input.key_pressed(egui::Key::F11)) {
            toggle_fullscreen(ui.ctx());
        }
        let typing = ui.ctx().text_edit_focused() || self.settings.takes_key();
        self.talk_by_key(ui, view, typing);
        if typing {
            return;
        }
        let asks = |event: &egui::Event| matches!(event, egui::Event::Text(text) if text == "?");
        if ui.input(|input| input.events.iter().any(asks)) {
            self.open_settings(Tab::Keys);
        }
        let Some(call) = &view.call else { return };
        let other =
            model::other_call(view).map(|(_call, other)| model::actions_beside(view, other));
        for action in model::actions(view, call)
            .into_iter()
            .chain(other.into_iter().flatten())
        {
            if pressed(ui, action.key) {
                self.act(action.act);
            }
        }
    }

    /// Shortcuts that work everywhere, also while something is typed.
    pub(super) fn other_shortcuts(&mut self, ui: &egui::Ui) {
        let pressed = |key| {
            let shortcut = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, key);
            ui.input_mut(|input| input.consume_shortcut(&shortcut))
        };
        if pressed(egui::Key::Slash) {
            self.open_settings(Tab::Keys);
        }
        if pressed(egui::Key::O) {
            self.send_file(ui.ctx());
        }
        if pressed(egui::Key::I) {
            self.open_settings(Tab::Call);
        }
        if pressed(egui::Key::K) {
            self.settings.close();
            self.share.open = false;
            self.welcome.open = false;
            self.close_chat();
            self.home.focus_target = true;
        }
        for (key, step) in [
            (egui::Key::Plus, 25),
            (egui::Key::Equals, 25),
            (egui::Key::Minus, -25),
        ] {
            if pressed(key)
                && let Some((_theme, percent)) = self.look
            {
                let percent = percent.saturating_add_signed(step);
                let percent = percent.clamp(*SCALES.start(), *SCALES.end());
                self.ledger.change(SettingsChange::Scale(percent));
            }
        }
    }

    /// Opens the microphone while the space bar is held, where somebody talks by a key. A window that the keyboard has
    /// left hears of no key that is let go: it is muted, too.
    pub(super) fn talk_by_key(&mut self, ui: &egui::Ui, view: &View, typing: bool) {
        let possible = sound::talks_by_key(view) && !typing;
        let held = possible
            && ui.input_mut(|input| {
                // The control that has the focus would take the key for itself.
                input.events.retain(
                |event| !matches!(event, egui::Event::Key { key, .. } if *key == egui::Key::Space),
            );
                input.focused && input.key_down(egui::Key::Space)
            });
        if held != self.talks {
            self.talks = held;
            if sound::talks_by_key(view) {
                self.send(Command::Mute(!held));
            }
        }
    }
}

/// Whether this key was pressed alone. One that is held down is one wish.
pub(super) fn pressed(ui: &egui::Ui, key: egui::Key) -> bool {
    ui.input(|input| {
        input.events.iter().any(|event| {
            matches!(event, egui::Event::Key { key: which, pressed: true, repeat: false, modifiers, .. }
                if *which == key && modifiers.is_none())
        })
    })
}

pub(super) fn toggle_fullscreen(ctx: &egui::Context) {
    let is_full = ctx.input(|input| input.viewport().fullscreen.unwrap_or(false));
    ctx.send_viewport_cmd(ViewportCommand::Fullscreen(!is_full));
}
