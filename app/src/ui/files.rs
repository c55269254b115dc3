//! Files as lines of a conversation: what they are, how far they are, and what can be done.

use std::{path::Path, time::Duration};

use ahoy_transport::identity::UserId;
use eframe::egui::{self, CornerRadius, RichText, accesskit::Role};

use super::{
    model::ActionKind,
    parts,
    theme::{self, Tokens},
    told, words,
};
use crate::{
    chat::Message,
    engine::{
        files::{FileChange, TransferView},
        people::{ChatView, MAX_SHOWN},
    },
    files::book::{Direction, State},
};

/// What a button of a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAct {
    /// The engine is told.
    Change(FileChange),
    /// The folder opens where it lies.
    Folder,
    /// A copy is to be elsewhere.
    Keep,
}

/// A button of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileButton {
    pub(super) label: &'static str,
    pub(super) act: FileAct,
    pub(super) kind: ActionKind,
}

/// What can be done about a file now, most wanted first.
pub(super) fn buttons(file: &TransferView) -> Vec<FileButton> {
    let button = |label, act, kind| FileButton { label, act, kind };
    let change = |label, change, kind| button(label, FileAct::Change(change), kind);
    let (plain, primary) = (ActionKind::Plain, ActionKind::Primary);
    let folder = || button(words::open_folder(), FileAct::Folder, plain);
    match (file.direction, &file.state) {
        (Direction::Incoming, State::Offered) => vec![
            change(words::accept(), FileChange::Accept, primary),
            change(words::refuse(), FileChange::Refuse, plain),
        ],
        (Direction::Incoming, State::Active) => vec![
            change(words::pause(), FileChange::Pause, plain),
            change(words::cancel(), FileChange::Cancel, plain),
        ],
        (Direction::Incoming, State::Paused) => vec![
            change(words::go_on(), FileChange::Accept, primary),
            change(words::cancel(), FileChange::Cancel, plain),
        ],
        (Direction::Incoming, State::Done) => {
            vec![folder(), button(words::save_as(), FileAct::Keep, plain)]
        }
        // Nobody refused what is too large for the settings.
        (Direction::Incoming, State::Refused) if file.trouble.is_some() => {
            vec![change(
                words::accept_all_the_same(),
                FileChange::Accept,
                plain,
            )]
        }
        (Direction::Outgoing, State::Offered | State::Active | State::Paused) => {
            vec![change(words::take_back(), FileChange::Cancel, plain)]
        }
        (Direction::Outgoing, State::Done | State::Refused | State::Failed)
        | (Direction::Incoming, State::Refused | State::Failed) => Vec::new(),
    }
}

/// How much of it has come or gone, 0 to 1, while that is of interest.
pub(super) fn progress(file: &TransferView) -> Option<f32> {
    let moves = match file.state {
        State::Active | State::Paused => true,
        State::Offered => file.direction == Direction::Outgoing && file.done > 0,
        State::Done | State::Refused | State::Failed => false,
    };
    // A share of a bar: its last digits are nothing to see.
    moves.then(|| (file.done as f64 / file.size.max(1) as f64) as f32)
}

/// How fast it moves and how long that takes yet, where it moves.
pub(super) fn pace(file: &TransferView) -> Option<String> {
    let moves = match file.direction {
        Direction::Incoming => file.state == State::Active,
        Direction::Outgoing => !file.state.is_over(),
    };
    if !moves || file.rate == 0 {
        return None;
    }
    let left = Duration::from_secs(file.size.saturating_sub(file.done).div_ceil(file.rate));
    let left = match left.as_secs() {
        seconds @ 0..60 => words::file_seconds(seconds),
        seconds @ 60..3600 => words::file_minutes(seconds.div_ceil(60)),
        seconds => words::file_hours(words::count(seconds.div_ceil(3600))),
    };
    Some(words::file_pace(words::size(file.rate), left))
}

/// What is wrong is told in another colour.
fn is_wrong(file: &TransferView) -> bool {
    match file.state {
        State::Failed => true,
        State::Paused => file.trouble.is_some(),
        State::Active => file.stats.banned > 0 && file.sources == 0,
        State::Offered | State::Done | State::Refused => false,
    }
}

/// A line of a conversation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    /// What was written, and which it is in its conversation.
    Message(usize, &'a Message),
    /// A file.
    File(&'a TransferView),
}

impl Row<'_> {
    pub(super) fn at_millis(&self) -> u64 {
        match self {
            Self::Message(_, message) => message.at_millis,
            Self::File(file) => file.at_millis,
        }
    }
}

/// All that passed between this person and us, the oldest first.
pub(super) fn rows<'a>(
    chat: Option<&'a ChatView>,
    files: &'a [TransferView],
    user: UserId,
) -> Vec<Row<'a>> {
    let messages = chat.map_or(&[][..], |chat| &chat.messages);
    // Of what was written only the newest is here: files of before would stand where they do not belong.
    let from = match messages.first() {
        Some(first) if messages.len() >= MAX_SHOWN => first.at_millis,
        Some(_) | None => 0,
    };
    let with_user = files
        .iter()
        .filter(|file| file.user == user && file.at_millis >= from);
    let written = messages.iter().enumerate();
    let mut rows: Vec<Row<'_>> = written
        .map(|(index, message)| Row::Message(index, message))
        .chain(with_user.map(Row::File))
        .collect();
    rows.sort_by_key(Row::at_millis);
    rows
}

/// Draws one, at most so wide. What was pressed.
pub(super) fn show(
    ui: &mut egui::Ui,
    file: &TransferView,
    time: &str,
    widest: f32,
    tokens: &Tokens,
) -> Option<FileAct> {
    let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
    let side = match file.direction {
        Direction::Outgoing => egui::Align::Max,
        Direction::Incoming => egui::Align::Min,
    };
    let mut pressed = None;
    ui.with_layout(egui::Layout::top_down(side), |ui| {
        ui.set_max_width(ui.available_width());
        egui::Frame::new()
            .fill(colors.card)
            .stroke(egui::Stroke::new(1.0, colors.line))
            .corner_radius(CornerRadius::same(theme::radius(size.radius)))
            .inner_margin(egui::Margin::symmetric(12, 8))
            .show(ui, |ui| {
                let area = egui::vec2((widest - 24.0).max(1.0), 0.0);
                let lines = egui::Layout::top_down(egui::Align::Min);
                ui.allocate_ui_with_layout(area, lines, |ui| {
                    ui.set_width(area.x);
                    pressed = contents(ui, file, tokens);
                });
            });
        parts::caption(ui, tokens, time);
    });
    pressed
}

fn contents(ui: &mut egui::Ui, file: &TransferView, tokens: &Tokens) -> Option<FileAct> {
    let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
    let title = RichText::new(&file.name).strong();
    ui.add(egui::Label::new(title).wrap());
    let size_of_all = words::size(file.size);
    let whose = match file.direction {
        Direction::Outgoing => words::file_own(size_of_all),
        Direction::Incoming => words::file_theirs(size_of_all),
    };
    parts::caption(ui, tokens, &whose);
    if let Some(part) = progress(file) {
        let percent = (part * 100.0).floor();
        let name = words::file_percent(&file.name, percent);
        parts::progress(ui, tokens, &name, part);
    }
    let told = match pace(file) {
        Some(pace) => words::file_told_pace(told::file(file), pace),
        None => told::file(file),
    };
    let color = if is_wrong(file) {
        colors.danger_text
    } else {
        colors.text_soft
    };
    ui.add(egui::Label::new(RichText::new(told).small().color(color)).wrap());
    let mut pressed = None;
    let offered = buttons(file);
    if !offered.is_empty() {
        ui.horizontal_wrapped(|ui| {
            for FileButton { label, act, kind } in offered {
                let area = egui::vec2(0.0, size.control_height);
                let button = parts::button(ui, tokens, (label, None), kind, area, true);
                button.widget_info(|| {
                    egui::WidgetInfo::labeled(
                        Role::Button,
                        true,
                        words::file_button(label, &file.name),
                    )
                });
                if button.clicked() {
                    pressed = Some(act);
                }
            }
        });
    }
    pressed
}

/// Has the desktop show the folder in which `file` lies. Nothing of the file itself is opened.
pub(super) fn open_folder(runtime: &tokio::runtime::Handle, file: &Path) {
    let Some(folder) = file.parent().map(Path::to_owned) else {
        return;
    };
    runtime.spawn_blocking(move || {
        let opener = if cfg!(target_os = "macos") {
            "open"
        } else if cfg!(windows) {
            "explorer"
        } else {
            "xdg-open"
        };
        let started = std::process::Command::new(opener)
            .arg(&folder)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        if let Err(error) = started {
            tracing::warn!(%error, "{opener} does not show {}", folder.display());
        }
    });
}

#[cfg(test)]
pub(super) mod tests;
