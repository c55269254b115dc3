//! The page about what is shown to the other side.

use ahoy_media::video::{codec::Content, frame::Size};
use eframe::egui::{self, RichText, accesskit::Role};

use super::{
    model::ActionKind,
    parts,
    shelf::{Item, ShelfView},
    theme::Tokens,
    told,
    words::{self, Word},
};
use crate::engine::{
    handle::CallView,
    video::{Showing, VideoIn},
};

/// Pictures of cameras, as near as they can.
const CAMERA_SIZE: (u32, u32) = (1280, 720);
const FPS: u32 = 30;

/// Ways to encode, with what they are called.
const WAYS: [(Option<Content>, Word); 3] = [
    (None, words::automatic),
    (Some(Content::Text), words::way_text),
    (Some(Content::Motion), words::way_motion),
];

/// A camera.
///
/// # Panics
/// Never: its size is a possible one.
pub(super) fn camera(id: Option<String>) -> Showing {
    let (width, height) = CAMERA_SIZE;
    Showing {
        input: VideoIn::Camera {
            id,
            size: Size::new(width, height).expect("720p is a possible size"),
            fps: FPS,
        },
        content: None,
    }
}

/// What the page remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) open: bool,
    /// What is shown next is encoded so.
    content: Option<Content>,
    /// The camera that was chosen.
    pub(super) camera: Option<String>,
    /// The person wants the sound of other programs to be heard, or no more.
    pub(super) sound: Option<bool>,
    /// The first control takes the keyboard when it is drawn next.
    focus: bool,
}

impl Page {
    /// Opens or closes it.
    pub(super) fn toggle(&mut self) {
        self.open = !self.open;
        self.focus = self.open;
    }

    /// Draws it; what is to be shown from now on, if the person chose something.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        call: &CallView,
        shelf: &ShelfView,
        tokens: &Tokens,
    ) -> Option<Option<Showing>> {
        let mut chosen = None;
        let gap = tokens.size.gap;
        let sent = call.pictures.sent.as_ref();
        if let Some(sent) = sent {
            parts::card(ui, tokens, |ui| {
                let name = name_of(&sent.input, shelf);
                parts::title(ui, &words::they_see(&call.name, name));
                let area = egui::vec2(0.0, tokens.size.control_height);
                let stop = (words::stop_showing(), None);
                let button = parts::button(ui, tokens, stop, ActionKind::Primary, area, true);
                if std::mem::take(&mut self.focus) {
                    button.request_focus();
                }
                if button.clicked() {
                    chosen = Some(None);
                }
            });
            ui.add_space(gap);
        }
        ui.push_id("ways", |ui| {
            parts::card(ui, tokens, |ui| {
                let sound = (words::with_sound(), words::with_sound_why());
                let is_on = call.shares_sound;
                if parts::switch(ui, tokens, sound, is_on, true).clicked() {
                    self.sound = Some(!is_on);
                }
                ui.add_space(gap);
                if let Some(content) = self.ways(ui, call, tokens) {
                    self.content = content;
                    // What is shown already changes with it.
                    if let Some(sent) = sent.filter(|sent| is_screen(&sent.input)) {
                        chosen = Some(Some(Showing {
                            content,
                            ..sent.clone()
                        }));
                    }
                }
            })
        });
        ui.add_space(gap);
        ui.push_id("things", |ui| {
            parts::card(ui, tokens, |ui| {
                if let Some(input) = self.things(ui, sent, shelf, tokens) {
                    if let VideoIn::Camera { id, .. } = &input {
                        self.camera.clone_from(id);
                    }
                    let content = self.content.filter(|_| is_screen(&input));
                    chosen = Some(Some(Showing { input, content }));
                }
            })
        });
        chosen
    }

    /// Automatic, text or motion; what was chosen anew.
    fn ways(&self, ui: &mut egui::Ui, call: &CallView, tokens: &Tokens) -> Option<Option<Content>> {
        let colors = tokens.colors(ui.ctx());
        let shared = call.pictures.sent.as_ref();
        let now = shared
            .filter(|sent| is_screen(&sent.input))
            .map_or(self.content, |sent| sent.content);
        let mut picked = None;
        parts::title(ui, words::how_screens_are_sent());
        ui.horizontal(|ui| {
            let gaps = tokens.size.gap * (WAYS.len() - 1) as f32;
            let width = (ui.available_width() - gaps) / WAYS.len() as f32;
            for (content, label) in WAYS {
                let label = label();
                let is_chosen = now == content;
                let fill = if is_chosen {
                    colors.accent
                } else {
                    colors.control
                };
                let text = if is_chosen {
                    colors.on_fill
                } else {
                    colors.text
                };
                let button = egui::Button::new(RichText::new(label).color(text))
                    .fill(fill)
                    .min_size(egui::vec2(width, tokens.size.control_height));
                let response = ui.add(button);
                response.widget_info(|| {
                    egui::WidgetInfo::selected(Role::RadioButton, true, is_chosen, label)
                });
                if response.clicked() && !is_chosen {
                    picked = Some(content);
                }
            }
        });
        let line = match (now, call.pictures.judged) {
            (None, Some(Content::Text)) => words::judged_text(),
            (None, Some(Content::Motion)) => words::judged_motion(),
            (None, None) => words::judged_nothing(),
            (Some(Content::Text), _) => words::sent_as_text(),
            (Some(Content::Motion), _) => words::sent_as_motion(),
        };
        parts::caption(ui, tokens, line);
        picked
    }

    /// What there is; what was chosen of it.
    fn things(
        &mut self,
        ui: &mut egui::Ui,
        sent: Option<&Showing>,
        shelf: &ShelfView,
        tokens: &Tokens,
    ) -> Option<VideoIn> {
        let mut picked = None;
        let screen = |item: &Item| VideoIn::Screen {
            target: item.id.clone(),
            fps: FPS,
        };
        let camera = |item: &Item| camera(Some(item.id.clone())).input;
        let groups = [
            (words::screens(), &shelf.screens, false),
            (words::windows(), &shelf.windows, false),
            (words::cameras(), &shelf.cameras, true),
        ];
        let mut is_first = true;
        for (title, items, is_camera) in groups {
            if items.is_empty() {
                continue;
            }
            if !is_first {
                ui.add_space(tokens.size.gap);
            }
            is_first = false;
            parts::title(ui, title);
            for item in items {
                // What is before it in the list comes and goes.
                let input = if is_camera {
                    camera(item)
                } else {
                    screen(item)
                };
                let is_shown = sent.is_some_and(|sent| sent.input == input);
                let response = ui.push_id(&item.id, |ui| row(ui, tokens, item, is_shown));
                let response = response.inner;
                if std::mem::take(&mut self.focus) {
                    response.request_focus();
                }
                if response.clicked() && !is_shown {
                    picked = Some(input);
                }
            }
        }
        if !shelf.listed {
            parts::caption(ui, tokens, words::looking_for_screens());
        } else if let Some(error) = &shelf.error {
            parts::caption(ui, tokens, &told::trouble::source(error));
        } else if shelf.windows.is_empty() {
            parts::caption(ui, tokens, words::no_other_window());
        }
        picked
    }
}

/// Whether it is a screen or a window.
pub(super) fn is_screen(input: &VideoIn) -> bool {
    match input {
        VideoIn::Screen { .. } => true,
        VideoIn::File(_) | VideoIn::Pattern { .. } | VideoIn::Camera { .. } => false,
    }
}

/// What a person calls what is shown.
pub(super) fn name_of(input: &VideoIn, shelf: &ShelfView) -> String {
    match input {
        VideoIn::Camera { .. } => words::your_camera().into(),
        VideoIn::Pattern { .. } => words::the_test_pattern().into(),
        VideoIn::File(_) => words::a_film().into(),
        VideoIn::Screen { target, .. } => {
            let known = shelf.windows.iter().find(|item| item.id == *target);
            match known {
                Some(window) => words::your_window(&window.name),
                None if target.starts_with("window") => words::one_of_your_windows().into(),
                None => words::your_screen().into(),
            }
        }
    }
}

fn row(ui: &mut egui::Ui, tokens: &Tokens, item: &Item, is_shown: bool) -> egui::Response {
    let colors = tokens.colors(ui.ctx());
    let (fill, text) = if is_shown {
        (colors.accent, colors.on_fill)
    } else {
        (colors.control, colors.text)
    };
    let area = egui::vec2(ui.available_width(), tokens.size.control_height);
    let line = egui::Layout::left_to_right(egui::Align::Center).with_main_justify(true);
    let response = ui
        .allocate_ui_with_layout(area, line, |ui| {
            let label = RichText::new(&item.name).color(text);
            ui.add(
                egui::Button::new(label)
                    .fill(fill)
                    .truncate()
                    .min_size(area),
            )
        })
        .inner;
    response.widget_info(|| {
        let name = words::show_what(&item.name);
        egui::WidgetInfo::selected(Role::Button, true, is_shown, name)
    });
    if response.gained_focus() {
        response.scroll_to_me(None);
    }
    response
}

#[cfg(test)]
mod tests;
