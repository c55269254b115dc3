//! Files that are about to be sent: dropped, chosen in the desktop's dialog, or written as a path.

use std::path::PathBuf;

use eframe::egui::{self, accesskit::Role};

use crate::{
    files::name::harmless,
    ui::{chooser::Chosen, model::ActionKind, parts, theme::Tokens, words},
};

/// Files that go at once. The engine bounds what is on its way.
const MAX_ATTACHED: usize = 20;

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Attach {
    /// In the order they came.
    pub(super) files: Vec<PathBuf>,
    /// The field for a path is shown.
    is_open: bool,
    typed: String,
    focus: bool,
    /// What is to be said, for a person.
    word: Option<&'static str>,
}

/// What the person did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The dialog is wanted.
    pub(super) choose: bool,
    /// A path was written: what is left is to send it.
    pub(super) taken: bool,
}

impl Attach {
    /// Shows the field, or hides it.
    pub(super) fn toggle(&mut self) {
        self.is_open = !self.is_open;
        self.focus = self.is_open;
        self.word = None;
    }

    pub(super) fn open(&mut self) {
        self.is_open = true;
        self.focus = true;
    }

    /// These are to be sent, too.
    pub(super) fn add(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            if self.files.len() >= MAX_ATTACHED {
                self.word = Some(words::attach_many());
            } else if !self.files.contains(&path) {
                self.files.push(path);
            }
        }
    }

    /// The dialog was closed, or there is none.
    pub(super) fn chosen(&mut self, chosen: Chosen) {
        match chosen {
            Chosen::Files(files) => {
                self.is_open = false;
                self.add(files);
            }
            Chosen::Nothing => self.is_open = false,
            Chosen::Kept | Chosen::NotKept(_) => {}
            Chosen::NoDialog => {
                self.open();
                self.word = Some(words::attach_no_dialog());
            }
        }
    }

    /// What goes now. Nothing waits any more.
    pub(super) fn take(&mut self) -> Vec<PathBuf> {
        self.take_typed();
        self.is_open = false;
        self.word = None;
        std::mem::take(&mut self.files)
    }

    /// Whether there is anything to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.typed.trim().is_empty()
    }

    fn take_typed(&mut self) {
        let typed = std::mem::take(&mut self.typed);
        let typed = typed.trim();
        if !typed.is_empty() {
            self.add([PathBuf::from(typed)]);
        }
    }

    /// Draws what waits, and the field.
    pub(super) fn show(&mut self, ui: &mut egui::Ui, tokens: &Tokens) -> Done {
        let mut done = Done::default();
        let size = tokens.size;
        let area = egui::vec2(0.0, size.control_height);
        if let Some(word) = self.word {
            parts::caption(ui, tokens, word);
        }
        let mut removed = None;
        for (index, path) in self.files.iter().enumerate() {
            let name = harmless(&path.file_name().unwrap_or_default().to_string_lossy());
            let row = egui::vec2(ui.available_width(), size.control_height);
            let line = egui::Layout::right_to_left(egui::Align::Center);
            ui.push_id(index, |ui| {
                ui.allocate_ui_with_layout(row, line, |ui| {
                    let plain = ActionKind::Plain;
                    let button =
                        parts::button(ui, tokens, (words::remove(), None), plain, area, true);
                    button.widget_info(|| {
                        egui::WidgetInfo::labeled(Role::Button, true, words::do_not_send(&name))
                    });
                    if button.clicked() {
                        removed = Some(index);
                    }
                    let line = egui::Layout::left_to_right(egui::Align::Center);
                    ui.with_layout(line, |ui| {
                        ui.add(egui::Label::new(&name).truncate());
                    });
                });
            });
        }
        if let Some(index) = removed {
            self.files.remove(index);
        }
        if self.is_open {
            const LEAST_WIDTH: f32 = 88.0;
            let button_width = parts::button_width(ui, words::choose(), None, LEAST_WIDTH);
            ui.horizontal(|ui| {
                let width = ui.available_width() - button_width - size.gap;
                let words = (words::path_to_file(), words::where_file_is());
                let field = parts::field(ui, tokens, &mut self.typed, words, width);
                if std::mem::take(&mut self.focus) {
                    field.request_focus();
                }
                let entered =
                    field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
                if entered {
                    self.take_typed();
                    self.is_open = false;
                    self.word = None;
                    done.taken = true;
                }
                let area = egui::vec2(button_width, size.control_height);
                let choose = (words::choose(), None);
                let plain = ActionKind::Plain;
                let button = parts::button(ui, tokens, choose, plain, area, true);
                done.choose = button.clicked();
            });
        }
        done
    }
}
