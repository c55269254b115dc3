//! The page about sound: by which devices, what is done to the voice, and whether it works.

use eframe::egui::{self, EventFilter, Key, RichText, accesskit::Role};

use super::{
    desk::{Ask, DeskView, TrialView},
    model::{self, ActionKind, DeviceOption},
    parts,
    theme::Tokens,
    told, words,
};
use crate::{
    engine::handle::{Phase, View},
    sound::{SoundChange, SoundChoices, SoundDevice},
};

/// What the person did with the page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// For the engine.
    pub(super) change: Option<SoundChange>,
    /// For the desk.
    pub(super) ask: Option<Ask>,
}

/// What the page remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Its first control takes the keyboard when it is shown next.
    pub(super) focus: bool,
}

impl Page {
    /// Draws the devices alone.
    pub(super) fn devices_only(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        desk: &DeskView,
        tokens: &Tokens,
    ) -> Done {
        let mut done = Done::default();
        self.devices(ui, view, desk, tokens, &mut done);
        done
    }

    /// Draws it.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        desk: &DeskView,
        tokens: &Tokens,
    ) -> Done {
        let mut done = Done::default();
        let gap = tokens.size.gap;
        parts::card(ui, tokens, |ui| {
            self.devices(ui, view, desk, tokens, &mut done);
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            if let Some(change) = switches(ui, &view.sound, tokens) {
                done.change = Some(change);
            }
        });
        done
    }

    fn devices(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        desk: &DeskView,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        let (colors, gap) = (tokens.colors(ui.ctx()), tokens.size.gap);
        let sound = &view.sound;
        let in_call = model::is_talking(view);
        let can_try = !in_call
            && !desk.trial.is_running()
            && desk.error.is_none()
            && cfg!(feature = "devices");
        parts::title(ui, words::devices());
        let error = if cfg!(feature = "devices") {
            desk.error.as_ref().map(told::trouble::device)
        } else {
            Some(words::no_sound_built().into())
        };
        if let Some(error) = error {
            ui.add(egui::Label::new(RichText::new(error).color(colors.danger_text)).wrap());
        }
        let focus = std::mem::take(&mut self.focus);
        let pick = |ui: &mut egui::Ui, place, focus, beside| {
            let options = model::device_options(place, desk, sound.device(place));
            picker(ui, tokens, (place, options), focus, beside)
        };

        let (change, _) = pick(ui, SoundDevice::Microphone, focus, None);
        done.change = change.or(done.change.take());
        let level = match &view.call {
            Some(call) if in_call && call.muted => 0.0,
            Some(call) if in_call => model::meter(call.level_in),
            Some(_) | None => desk.level.map_or(0.0, model::meter),
        };
        parts::meter(
            ui,
            (words::level(), words::level_of_microphone()),
            level,
            tokens,
        );
        ui.add_space(gap);

        let beside = Some((words::play_a_sound(), words::play_by_speaker(), can_try));
        let (change, pressed) = pick(ui, SoundDevice::Speaker, false, beside);
        done.change = change.or(done.change.take());
        if pressed {
            let speaker = sound.speaker.clone();
            done.ask = Some(Ask::Ring { speaker });
        }
        ui.add_space(gap);

        let beside = Some((words::ring_test(), words::ring_by_device(), can_try));
        let (change, pressed) = pick(ui, SoundDevice::RingSpeaker, false, beside);
        done.change = change.or(done.change.take());
        if pressed {
            let speaker = sound.ring_speaker.clone();
            done.ask = Some(Ask::Ring { speaker });
        }
        ui.add_space(gap);

        let area = egui::vec2(0.0, tokens.size.control_height);
        let label = match &desk.trial {
            TrialView::None | TrialView::Over(_) => words::record_and_play(),
            TrialView::Opening => words::wait(),
            TrialView::Recording => words::recording_speak(),
            TrialView::Playing => words::playing(),
        };
        let record = (label, None);
        if parts::button(ui, tokens, record, ActionKind::Plain, area, can_try).clicked() {
            done.ask = Some(Ask::RecordAndPlay {
                microphone: sound.microphone.clone(),
                speaker: sound.speaker.clone(),
            });
        }
        match &desk.trial {
            _any if in_call => {
                parts::caption(ui, tokens, words::tests_wait());
            }
            TrialView::Over(outcome) => {
                let color = if outcome.is_bad() {
                    colors.danger_text
                } else {
                    colors.ok
                };
                let text = RichText::new(outcome.sentence()).small().color(color);
                ui.add(egui::Label::new(text).wrap());
            }
            TrialView::None | TrialView::Opening | TrialView::Recording | TrialView::Playing => {
                parts::caption(ui, tokens, words::microphone_listens());
            }
        }
    }
}

/// One choice of a device, and the button beside it, if any: its label, its full name, whether it can be pressed.
fn picker(
    ui: &mut egui::Ui,
    tokens: &Tokens,
    (place, options): (SoundDevice, Vec<DeviceOption>),
    focus: bool,
    beside: Option<(&str, &'static str, bool)>,
) -> (Option<SoundChange>, bool) {
    const LEAST_WIDTH: f32 = 120.0;
    let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
    let name = model::device_place(place);
    parts::caption(ui, tokens, name);
    let chosen = options.iter().position(|option| option.is_chosen);
    let chosen = chosen.unwrap_or(0);
    let mut picked = None;
    let mut pressed = false;
    ui.horizontal(|ui| {
        let button_width = beside.map_or(0.0, |(label, ..)| {
            parts::button_width(ui, label, None, LEAST_WIDTH)
        });
        let gap = if beside.is_some() { size.gap } else { 0.0 };
        let beside_width = button_width + gap;
        let shown = options.get(chosen);
        let (label, missing) = shown.map_or(("", false), |option| (&*option.label, option.missing));
        let color = if missing {
            colors.danger_text
        } else {
            colors.text
        };
        let width = ui.available_width() - beside_width;
        let list = |ui: &mut egui::Ui| {
            for (index, option) in options.iter().enumerate() {
                let text = RichText::new(&option.label);
                if ui.selectable_label(option.is_chosen, text).clicked() {
                    picked = Some(index);
                }
            }
        };
        // It cuts long names to what is there, not to its width.
        let area = egui::vec2(width, size.control_height);
        let line = egui::Layout::left_to_right(egui::Align::Center);
        let combo = ui
            .allocate_ui_with_layout(area, line, |ui| {
                egui::ComboBox::from_id_salt(name)
                    .width(width)
                    .truncate()
                    .selected_text(RichText::new(label).color(color))
                    .show_ui(ui, list)
            })
            .inner;
        let open = combo.inner.is_some();
        let response = combo.response;
        response.widget_info(|| {
            let mut info = egui::WidgetInfo::labeled(Role::ComboBox, true, name);
            info.current_text_value = Some(label.to_owned());
            info
        });
        if focus {
            response.request_focus();
        }
        // Closed, the arrows choose, as they do elsewhere. Open, they go from line to line.
        if response.has_focus() && !open {
            let arrows = EventFilter {
                vertical_arrows: true,
                ..EventFilter::default()
            };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
            let pressed = |key| ui.input(|input| input.key_pressed(key));
            if pressed(Key::ArrowDown) {
                picked = Some((chosen + 1).min(options.len().saturating_sub(1)));
            } else if pressed(Key::ArrowUp) {
                picked = Some(chosen.saturating_sub(1));
            }
        }
        if let Some((label, name, enabled)) = beside {
            let area = egui::vec2(button_width, size.control_height);
            let kind = ActionKind::Plain;
            let button = parts::button(ui, tokens, (label, None), kind, area, enabled);
            button.widget_info(|| egui::WidgetInfo::labeled(Role::Button, enabled, name));
            pressed = button.clicked();
        }
    });
    let change = picked
        .filter(|index| *index != chosen)
        .and_then(|index| options.get(index))
        .map(|option| SoundChange::Device(place, option.id.clone()));
    (change, pressed)
}

fn switches(ui: &mut egui::Ui, sound: &SoundChoices, tokens: &Tokens) -> Option<SoundChange> {
    let mut change = None;
    for (index, (title, switches)) in model::SWITCHES.iter().enumerate() {
        if index > 0 {
            ui.add_space(tokens.size.gap);
        }
        parts::title(ui, title());
        for switch in *switches {
            let idle = sound.music && switch.idle_with_music;
            let on = sound.is_on(switch.which) && !idle;
            if parts::switch(
                ui,
                tokens,
                ((switch.label)(), (switch.sentence)()),
                on,
                !idle,
            )
            .clicked()
            {
                change = Some(SoundChange::Switch(switch.which, !on));
            }
        }
    }
    change
}

/// Whether the space bar opens the microphone: somebody talks by a key.
pub(super) fn talks_by_key(view: &View) -> bool {
    let talking = |phase: &Phase| matches!(phase, Phase::Connecting | Phase::Talking { .. });
    view.sound.push_to_talk && view.call.as_ref().is_some_and(|call| talking(&call.phase))
}

#[cfg(test)]
mod tests;
