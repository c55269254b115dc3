//! Calls of the last days, and a way to call back.

use std::time::Duration;

use ahoy_transport::identity::UserId;
use chrono::{DateTime, TimeZone};
use eframe::egui::{self, RichText};

use super::{
    model::{self, ActionKind},
    parts,
    theme::Tokens,
    words,
};
use crate::{
    engine::{
        handle::{Command, View},
        people::RecentView,
        sentence::clock,
    },
    report::Outcome,
};

/// Lines that are shown until somebody asks for all.
const FEW: usize = 4;

/// What the card remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Recents {
    all: bool,
}

/// What the person did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) command: Option<Command>,
    pub(super) open: Option<UserId>,
}

/// One call in a line: what became of it, when, and how long it was.
#[must_use]
fn line<Zone: TimeZone>(call: &RecentView, at: &DateTime<Zone>, now: &DateTime<Zone>) -> String
where
    Zone::Offset: std::fmt::Display,
{
    let what = if call.is_missed() {
        words::recent_missed()
    } else if call.outgoing {
        match call.outcome {
            Outcome::Completed | Outcome::Lost => words::recent_outgoing(),
            Outcome::Declined => words::recent_declined_there(),
            Outcome::Busy => words::recent_busy(),
            Outcome::NoAnswer => words::recent_no_answer(),
            Outcome::Cancelled => words::recent_cancelled(),
            Outcome::Unreachable => words::recent_not_reached(),
            Outcome::Failed => words::recent_failed(),
        }
    } else if call.elsewhere {
        match call.outcome {
            Outcome::Declined => words::recent_declined_elsewhere(),
            Outcome::Completed
            | Outcome::Busy
            | Outcome::NoAnswer
            | Outcome::Cancelled
            | Outcome::Unreachable
            | Outcome::Lost
            | Outcome::Failed => words::recent_answered_elsewhere(),
        }
    } else if call.outcome == Outcome::Declined {
        words::recent_declined()
    } else {
        words::recent_incoming()
    };
    let day = model::day(at, now);
    let time = words::time_of(at);
    let mut line = format!("{what} · {day} {time}");
    if call.talked_millis > 0 {
        let talked = clock(Duration::from_millis(call.talked_millis));
        line.push_str(&format!(" · {talked}"));
    }
    if let Some(rating) = call.rating {
        line.push_str(" · ");
        line.push_str(&words::recent_rated(rating));
    }
    line
}

impl Recents {
    /// Draws them; nothing where nobody called yet.
    pub(super) fn show(&mut self, ui: &mut egui::Ui, view: &View, tokens: &Tokens) -> Done {
        let mut done = Done::default();
        if view.recents.is_empty() {
            return done;
        }
        let size = tokens.size;
        parts::card(ui, tokens, |ui| {
            parts::caption(ui, tokens, words::recent_calls());
            let count = if self.all { view.recents.len() } else { FEW };
            let now = chrono::Local::now();
            for (index, call) in view.recents.iter().take(count).enumerate() {
                ui.push_id(index, |ui| row(ui, call, view, tokens, &now, &mut done));
            }
            if view.recents.len() > FEW {
                let label = if self.all {
                    words::show_fewer()
                } else {
                    words::show_all_calls()
                };
                let area = egui::vec2(0.0, size.control_height);
                let plain = ActionKind::Plain;
                if parts::button(ui, tokens, (label, None), plain, area, true).clicked() {
                    self.all = !self.all;
                }
            }
        });
        done
    }
}

fn row(
    ui: &mut egui::Ui,
    call: &RecentView,
    view: &View,
    tokens: &Tokens,
    now: &DateTime<chrono::Local>,
    done: &mut Done,
) {
    let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
    let text_height = ui.text_style_height(&egui::TextStyle::Body)
        + ui.text_style_height(&egui::TextStyle::Small);
    let height = size.control_height.max(text_height);
    let layout = egui::Layout::right_to_left(egui::Align::Center);
    ui.allocate_ui_with_layout(egui::vec2(ui.available_width(), height), layout, |ui| {
        let area = egui::vec2(0.0, size.control_height);
        let target = model::link_of(call.user);
        let can_call = model::can_call(view, &target);
        let named = |button: egui::Response, name: String, enabled: bool| {
            button.widget_info(|| {
                egui::WidgetInfo::labeled(egui::accesskit::Role::Button, enabled, name.clone())
            });
            button.clicked()
        };
        let plain = ActionKind::Plain;
        let back = parts::button(
            ui,
            tokens,
            (words::call_them(), None),
            plain,
            area,
            can_call,
        );
        if named(back, words::call_back(&call.name), can_call) {
            done.command = Some(Command::Call(target));
        }
        if !model::is_contact(view, call.user) {
            let look = parts::button(ui, tokens, (words::look(), None), plain, area, true);
            if named(look, words::look_at(&call.name), true) {
                done.open = Some(call.user);
            }
        }
        let column = egui::Layout::top_down(egui::Align::Min);
        ui.with_layout(column, |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            ui.add_space((height - text_height) / 2.0);
            ui.add(egui::Label::new(&call.name).truncate());
            let color = if call.is_missed() {
                colors.danger_text
            } else {
                colors.text_soft
            };
            let line = line(call, &model::local(call.at_millis), now);
            ui.add(egui::Label::new(RichText::new(line).small().color(color)).truncate());
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(outgoing: bool, outcome: Outcome, talked_millis: u64) -> RecentView {
        RecentView {
            user: UserId([1; 32]),
            name: "Grace".into(),
            outgoing,
            at_millis: 0,
            talked_millis,
            outcome,
            elsewhere: false,
            rating: None,
        }
    }

    #[test]
    fn a_line_tells_what_became_of_a_call_and_when() {
        let at = |day, hour| {
            chrono::Utc
                .with_ymd_and_hms(2026, 3, day, hour, 5, 0)
                .unwrap()
        };
        let told = |call: RecentView| line(&call, &at(19, 14), &at(20, 9));
        let rated = RecentView {
            rating: Some(4),
            ..call(true, Outcome::Completed, 72_000)
        };
        assert_eq!(told(rated), "Outgoing · Yesterday 14:05 · 1:12 · 4 of 5");
        assert_eq!(
            told(call(true, Outcome::Completed, 72_000)),
            "Outgoing · Yesterday 14:05 · 1:12"
        );
        assert_eq!(
            told(call(false, Outcome::Cancelled, 0)),
            "Missed · Yesterday 14:05"
        );
        for (outcome, what) in [
            (Outcome::Declined, "Declined on another device"),
            (Outcome::Completed, "Answered on another device"),
        ] {
            let elsewhere = RecentView {
                elsewhere: true,
                ..call(false, outcome, 0)
            };
            assert!(!elsewhere.is_missed());
            assert_eq!(told(elsewhere), format!("{what} · Yesterday 14:05"));
        }
        assert_eq!(
            told(call(false, Outcome::Declined, 0)),
            "Declined · Yesterday 14:05"
        );
        assert_eq!(
            told(call(true, Outcome::NoAnswer, 0)),
            "No answer · Yesterday 14:05"
        );
        // Answered on another device: nobody missed it.
        assert!(!call(false, Outcome::Completed, 0).is_missed());
        assert!(!call(true, Outcome::NoAnswer, 0).is_missed());
        assert!(call(false, Outcome::Busy, 0).is_missed());
    }
}
