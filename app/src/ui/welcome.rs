//! The first minute: a name, a look at microphone, speaker and camera, and the card to give to others.
//!
//! Each step can be skipped, none asks for an account, and all can be seen again from the settings.

use eframe::egui::{self, RichText};

use super::{
    desk::{Ask, DeskView},
    ledger::LedgerView,
    mirror::{self, Sight},
    model::ActionKind,
    parts::{self, Qr},
    settings::own_card,
    sound,
    theme::Tokens,
    words,
};
use crate::{
    engine::handle::{Command, View},
    settings::SettingsChange,
};

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Step {
    /// What one is called.
    #[default]
    Name,
    /// Whether one is heard, and hears.
    Sound,
    /// Whether one is seen.
    Camera,
    /// How others reach one.
    Card,
}

impl Step {
    const ALL: &[Self] = if cfg!(feature = "video") {
        &[Self::Name, Self::Sound, Self::Camera, Self::Card]
    } else {
        &[Self::Name, Self::Sound, Self::Card]
    };

    fn title(self) -> &'static str {
        match self {
            Self::Name => words::step_name(),
            Self::Sound => words::step_sound(),
            Self::Camera => words::step_camera(),
            Self::Card => words::step_card(),
        }
    }

    /// Where it stands among all, from 0.
    fn place(self) -> usize {
        let place = Self::ALL.iter().position(|step| *step == self);
        place.unwrap_or_default()
    }

    fn next(self) -> Option<Self> {
        Self::ALL.get(self.place() + 1).copied()
    }

    fn before(self) -> Option<Self> {
        Self::ALL.get(self.place().checked_sub(1)?).copied()
    }
}

/// What the person did.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) commands: Vec<Command>,
    pub(super) changes: Vec<SettingsChange>,
    pub(super) ask: Option<Ask>,
    /// This camera is theirs.
    pub(super) camera: Option<String>,
    /// They have ahoy already, elsewhere.
    pub(super) comes_back: bool,
}

/// What the steps remember.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// They are shown.
    pub(super) open: bool,
    pub(super) step: Step,
    /// The profile is as it was made: nobody loses it who comes back from elsewhere.
    is_new: bool,
    sound: sound::Page,
    name: Option<String>,
    /// The step's first control takes the keyboard when it is drawn next.
    focus: bool,
    qr: Qr,
    copied: bool,
}

impl Page {
    /// Shows the first step, in a profile that is new or not.
    pub(super) fn begin(&mut self, is_new: bool) {
        *self = Self {
            open: true,
            is_new,
            focus: true,
            ..Self::default()
        };
    }

    /// Somebody looks at sound devices.
    pub(super) fn is_at_sound(&self) -> bool {
        self.open && self.step == Step::Sound
    }

    /// Somebody looks at the camera.
    pub(super) fn is_at_camera(&self) -> bool {
        self.open && self.step == Step::Camera
    }

    fn go(&mut self, step: Option<Step>) {
        match step {
            Some(step) => {
                self.step = step;
                self.focus = true;
                self.sound.focus = true;
            }
            None => self.open = false,
        }
    }

    /// Draws the step.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        desk: &DeskView,
        ledger: &LedgerView,
        sight: &Sight<'_>,
        tokens: &Tokens,
    ) -> Done {
        let mut done = Done::default();
        let gap = tokens.size.gap;
        let number = self.step.place() + 1;
        parts::caption(ui, tokens, &words::step_of(number, Step::ALL.len()));
        ui.add(egui::Label::new(RichText::new(self.step.title()).heading()).wrap());
        ui.add_space(gap);
        let mut next = false;
        match self.step {
            Step::Name => {
                parts::card(ui, tokens, |ui| next = self.name(ui, ledger, tokens));
            }
            Step::Sound => {
                parts::caption(ui, tokens, words::sound_step_is());
                parts::card(ui, tokens, |ui| {
                    let told = self.sound.devices_only(ui, view, desk, tokens);
                    done.commands.extend(told.change.map(Command::Sound));
                    done.ask = told.ask;
                });
            }
            Step::Camera => {
                parts::caption(ui, tokens, words::camera_step_is());
                parts::card(ui, tokens, |ui| {
                    done.camera = mirror::show(ui, sight, tokens);
                });
            }
            Step::Card => parts::card(ui, tokens, |ui| {
                own_card(ui, view, &mut self.qr, &mut self.copied, tokens);
            }),
        }
        ui.add_space(gap);
        self.way_on(ui, next, tokens, &mut done);
        done
    }

    /// The field for the name; whether Enter was pressed in it.
    fn name(&mut self, ui: &mut egui::Ui, ledger: &LedgerView, tokens: &Tokens) -> bool {
        let saved = ledger.settings.as_ref();
        let saved = saved.and_then(|settings| settings.name.clone());
        let name = self.name.get_or_insert_with(|| saved.unwrap_or_default());
        parts::caption(ui, tokens, words::name_step_is());
        let width = ui.available_width();
        let words = (words::your_name(), words::your_name());
        let field = parts::field(ui, tokens, name, words, width);
        if std::mem::take(&mut self.focus) {
            field.request_focus();
        }
        field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter))
    }

    fn way_on(&mut self, ui: &mut egui::Ui, next: bool, tokens: &Tokens, done: &mut Done) {
        let area = egui::vec2(72.0, tokens.size.control_height);
        ui.horizontal_wrapped(|ui| {
            let is_last = self.step.next().is_none();
            let label = if is_last {
                words::done()
            } else {
                words::next()
            };
            let primary = parts::button(ui, tokens, (label, None), ActionKind::Primary, area, true);
            let has_no_field = matches!(self.step, Step::Camera | Step::Card);
            if has_no_field && std::mem::take(&mut self.focus) {
                primary.request_focus();
            }
            let onwards = next || primary.clicked();
            let plain = ActionKind::Plain;
            let before = self.step.before();
            let back = before.is_some()
                && parts::button(ui, tokens, (words::back(), None), plain, area, true).clicked();
            let skip = !is_last
                && parts::button(ui, tokens, (words::skip_all(), None), plain, area, true)
                    .clicked();
            if self.step == Step::Name && self.is_new {
                let has = (words::i_have_ahoy(), None);
                done.comes_back = parts::button(ui, tokens, has, plain, area, true).clicked();
            }
            if onwards && self.step == Step::Name {
                let name = self.name.clone().unwrap_or_default();
                done.commands.push(Command::Name(name.clone()));
                done.changes.push(SettingsChange::Name(name));
            }
            if onwards {
                self.go(self.step.next());
            } else if back {
                self.go(before);
            } else if skip {
                self.open = false;
            }
        });
    }
}

#[cfg(test)]
mod tests;
