//! The call card: who, how far, and the buttons for it.

use std::time::Instant;

use ahoy_media::audio::volume::{MAX_PERCENT, NORMAL_PERCENT};
use eframe::egui::{self, RichText};

use super::{
    after,
    history::History,
    model::{self, Act, Action, ActionKind},
    network, parts,
    theme::Tokens,
    words,
};
use crate::engine::handle::{CallView, Command, Phase, View};

/// What the person did with the card.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What a button does.
    pub(super) act: Option<Act>,
    /// They have read how it ended.
    pub(super) put_away: bool,
}

pub(super) fn show(
    ui: &mut egui::Ui,
    view: &View,
    call: &CallView,
    history: &History,
    talks_by_key: bool,
    tokens: &Tokens,
    now: Instant,
) -> Done {
    let size = tokens.size;
    let mut done = Done::default();
    parts::card(ui, tokens, |ui| {
        heading(ui, call, tokens, now);
        recording(ui, call, tokens, now);
        if !model::is_over(call) {
            network::lamp(ui, call, history, tokens);
        }
        if matches!(call.phase, Phase::Talking { .. }) {
            ui.add_space(size.gap);
            done.act = details(ui, call, talks_by_key, tokens);
        }
        done.act = trouble(ui, call, tokens).or(done.act.take());
        ui.add_space(size.gap);
        let actions = model::actions(view, call);
        if actions.is_empty() {
            done.act = after::show(ui, view, call, tokens).or(done.act.take());
            ui.add_space(size.gap);
            let area = egui::vec2(0.0, size.control_height);
            ui.horizontal(|ui| {
                let again = (words::call_again(), None);
                if parts::button(ui, tokens, again, ActionKind::Primary, area, true).clicked() {
                    let command = Command::Call(model::link_of(call.user));
                    done.act = Some(Act::Tell(command));
                }
                let close = (words::close(), None);
                done.put_away =
                    parts::button(ui, tokens, close, ActionKind::Plain, area, true).clicked();
            });
            return;
        }
        done.act = buttons(ui, actions, tokens).or(done.act.take());
    });
    done
}

/// The call beside the one in hand: who, and what can be done.
pub(super) fn other(ui: &mut egui::Ui, view: &View, tokens: &Tokens) -> Option<Act> {
    let (call, other) = model::other_call(view)?;
    let mut act = None;
    parts::card(ui, tokens, |ui| {
        let line = model::other_line(other, &call.name);
        ui.add(egui::Label::new(RichText::new(line)).wrap());
        act = buttons(ui, model::actions_beside(view, other), tokens);
    });
    ui.add_space(tokens.size.gap);
    act
}

/// Who, and how far.
pub(super) fn heading(ui: &mut egui::Ui, call: &CallView, tokens: &Tokens, now: Instant) {
    let colors = tokens.colors(ui.ctx());
    ui.add(egui::Label::new(RichText::new(&call.name).heading()).wrap());
    let line = RichText::new(model::call_line(call, now)).color(colors.text_soft);
    ui.add(egui::Label::new(line).wrap());
}

/// Who records, if anybody, and where the last recording is.
pub(super) fn recording(ui: &mut egui::Ui, call: &CallView, tokens: &Tokens, now: Instant) {
    let colors = tokens.colors(ui.ctx());
    for line in model::recording_lines(call, now) {
        ui.horizontal(|ui| {
            let color = if line.is_on {
                parts::dot(ui, colors.danger);
                colors.danger_text
            } else {
                colors.text_soft
            };
            ui.add(egui::Label::new(RichText::new(line.text).color(color)).wrap());
        });
    }
}

/// The same where there is no room for buttons: keys do it.
pub(super) fn trouble_in_words(ui: &mut egui::Ui, call: &CallView, tokens: &Tokens) {
    let color = tokens.colors(ui.ctx()).danger_text;
    for banner in model::banners(call) {
        ui.add(egui::Label::new(RichText::new(banner.text).color(color)).wrap());
    }
}

/// What is wrong with devices, pictures or the network, each with the one thing to do about it.
pub(super) fn trouble(ui: &mut egui::Ui, call: &CallView, tokens: &Tokens) -> Option<Act> {
    let mut act = None;
    for banner in model::banners(call) {
        if parts::banner(ui, tokens, &banner.text, banner.label) {
            act = Some(banner.act);
        }
    }
    act
}

/// Levels, volume and the words to compare.
pub(super) fn details(
    ui: &mut egui::Ui,
    call: &CallView,
    talks_by_key: bool,
    tokens: &Tokens,
) -> Option<Act> {
    let size = tokens.size;
    let own = if call.muted {
        0.0
    } else {
        model::meter(call.level_in)
    };
    let label = if call.muted {
        words::you_muted()
    } else {
        words::you_meter()
    };
    parts::meter(ui, (label, words::microphone_level()), own, tokens);
    let theirs = model::meter(call.level_out);
    parts::meter(
        ui,
        (words::them_meter(), words::speaker_level()),
        theirs,
        tokens,
    );
    let volume = volume(ui, call, tokens);
    if talks_by_key {
        ui.add_space(size.gap);
        parts::caption(ui, tokens, words::hold_space_to_talk());
    }
    if !call.safety_words.is_empty() {
        ui.add_space(size.gap);
        parts::caption(ui, tokens, words::read_words());
        ui.add(egui::Label::new(call.safety_words.join(" · ")).wrap());
        if !call.words_committed {
            // They were made without commit and reveal.
            parts::caption(ui, tokens, words::old_words());
        }
    }
    volume.map(|percent| Act::Tell(Command::Volume(percent)))
}

/// What the widest of these buttons needs for its word and its key.
pub(super) fn widest(ui: &egui::Ui, actions: &[Action]) -> f32 {
    const LEAST_WIDTH: f32 = 104.0;
    let width = |action: &Action| {
        parts::button_width(ui, action.label, Some(action.key.name()), LEAST_WIDTH)
    };
    actions.iter().map(width).fold(LEAST_WIDTH, f32::max)
}

/// A row of equal buttons, or as many rows as they need.
pub(super) fn buttons(ui: &mut egui::Ui, actions: Vec<Action>, tokens: &Tokens) -> Option<Act> {
    let size = tokens.size;
    // A key that would only be typed into a field is no promise to make.
    let keys_work = !ui.ctx().text_edit_focused();
    let width_of = |columns: usize| {
        let gaps = size.gap * (columns as f32 - 1.0);
        (ui.available_width() - gaps) / columns as f32
    };
    let (count, least) = (actions.len(), widest(ui, &actions));
    let fit = (1..=count)
        .rev()
        .find(|columns| width_of(*columns) >= least);
    // As many in each row, as far as that is possible.
    let rows = count.div_ceil(fit.unwrap_or(1)).max(1);
    let columns = count.div_ceil(rows);
    let area = egui::vec2(width_of(columns), size.call_height);
    let mut done = None;
    for row in actions.chunks(columns) {
        ui.horizontal(|ui| {
            for action in row {
                let key = keys_work.then(|| action.key.name());
                let label = (action.label, key);
                if parts::button(ui, tokens, label, action.kind, area, true).clicked() {
                    done = Some(action.act.clone());
                }
            }
        });
    }
    done
}

/// How loud the other side is heard; what the person set anew.
fn volume(ui: &mut egui::Ui, call: &CallView, tokens: &Tokens) -> Option<u16> {
    const VALUE_WIDTH: f32 = 52.0;
    /// One press of an arrow key.
    const STEP_PERCENT: f64 = 10.0;
    let gap = tokens.size.gap;
    let mut percent = call.volume_percent;
    let height = ui.text_style_height(&egui::TextStyle::Body);
    let response = ui
        .scope(|ui| {
            ui.spacing_mut().interact_size.y = height;
            ui.horizontal(|ui| {
                ui.allocate_ui_with_layout(
                    egui::vec2(parts::LABEL_WIDTH, height),
                    egui::Layout::left_to_right(egui::Align::Center),
                    |ui| {
                        ui.set_min_width(parts::LABEL_WIDTH);
                        parts::caption(ui, tokens, words::volume());
                    },
                );
                ui.spacing_mut().slider_width = ui.available_width() - VALUE_WIDTH - gap;
                let slider = egui::Slider::new(&mut percent, 0..=MAX_PERCENT)
                    .step_by(STEP_PERCENT)
                    .trailing_fill(true)
                    .handle_shape(egui::style::HandleShape::Circle)
                    .show_value(false);
                let response = ui.add(slider);
                parts::caption(ui, tokens, &words::percent(percent));
                response
            })
            .inner
        })
        .inner;
    response.widget_info(|| {
        let name = words::volume_of(&call.name);
        egui::WidgetInfo::slider(true, percent.into(), name)
    });
    if response.double_clicked() {
        percent = NORMAL_PERCENT;
    }
    (percent != call.volume_percent).then_some(percent)
}
