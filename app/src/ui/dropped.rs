//! Files that are dropped on the window, or that somebody wants to send by a key.

use std::path::PathBuf;

use ahoy_transport::identity::UserId;
use eframe::egui;

use super::{Window, chooser::Chosen, model, words};
use crate::engine::{
    handle::{Command, View},
    notice::Notice,
};

impl Window {
    /// Whom a file would go to: whoever is written to, or else talked with.
    pub(super) fn file_partner(&self) -> Option<UserId> {
        let view = self.view.borrow();
        let call = view.call.as_ref().filter(|call| !model::is_over(call));
        let partner = self.chat.user.or(call.map(|call| call.user));
        partner.filter(|user| model::is_contact(&view, *user))
    }

    /// Asks which file is to be sent.
    pub(super) fn send_file(&mut self, ctx: &egui::Context) {
        let Some(user) = self.file_partner() else {
            return self.send(Command::Complain(Notice::Said(words::no_partner().into())));
        };
        if self.chat.user != Some(user) {
            self.open_chat(user);
        }
        self.chat.begin_file();
        self.chooser.ask(ctx);
    }

    /// Takes files that were dropped or chosen.
    pub(super) fn take_files(&mut self, ui: &egui::Ui) {
        if let Some(chosen) = self.chooser.poll() {
            match chosen {
                Chosen::NotKept(why) => self.send(Command::Complain(Notice::Said(why))),
                Chosen::Files(_) | Chosen::Nothing | Chosen::NoDialog | Chosen::Kept => {
                    self.chat.chosen(chosen);
                }
            }
        }
        // That page takes a backup by itself.
        if self.comeback.open && self.welcome.open {
            return;
        }
        let dropped: Vec<PathBuf> = ui.input(|input| {
            let files = input.raw.dropped_files.iter();
            files.map(|file| file.path().to_owned()).collect()
        });
        if dropped.is_empty() {
            return;
        }
        let Some(user) = self.file_partner() else {
            return self.send(Command::Complain(Notice::Said(words::no_partner().into())));
        };
        if self.chat.user != Some(user) {
            self.open_chat(user);
        }
        self.chat.attach(dropped);
    }

    /// Says what becomes of a file that is held over the window.
    pub(super) fn hovering(&self, ui: &egui::Ui, view: &View) {
        if ui.input(|input| input.raw.hovered_files.is_empty()) {
            return;
        }
        let text = match self.file_partner() {
            Some(user) => words::drop_to_send(model::person_lines(view, user).name),
            None => words::no_partner().into(),
        };
        let colors = self.tokens.colors(ui.ctx());
        let screen = ui.ctx().content_rect();
        let layer = egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop"));
        let painter = ui.ctx().layer_painter(layer);
        painter.rect_filled(screen, 0.0, colors.window.gamma_multiply(0.85));
        let font = egui::TextStyle::Heading.resolve(ui.style());
        let width = (screen.width() - 2.0 * self.tokens.size.margin).max(1.0);
        let galley = painter.layout(text, font, colors.text, width);
        painter.galley(screen.center() - galley.size() / 2.0, galley, colors.text);
    }
}
