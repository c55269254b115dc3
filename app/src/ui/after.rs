//! What can be done about a call that is over: say how it was, and take its report along.

use eframe::egui::{self, accesskit::Role};

use super::{
    model::{Act, ActionKind},
    parts,
    theme::Tokens,
    words,
};
use crate::{
    contacts::MAX_RATING,
    engine::handle::{CallView, Command, View},
};

const RATINGS: [fn() -> &'static str; MAX_RATING as usize] = [
    words::rating_bad,
    words::rating_poor,
    words::rating_fair,
    words::rating_good,
    words::rating_excellent,
];

/// Draws it under a call that is over, if anything was said in it.
pub(super) fn show(
    ui: &mut egui::Ui,
    view: &View,
    call: &CallView,
    tokens: &Tokens,
) -> Option<Act> {
    let last = view.last.as_ref().filter(|last| last.id == call.id)?;
    let mut act = None;
    let area = egui::vec2(0.0, tokens.size.control_height);
    ui.add_space(tokens.size.gap);
    parts::caption(ui, tokens, words::how_was_it());
    ui.horizontal_wrapped(|ui| {
        for (rating, word) in (1..=MAX_RATING).zip(RATINGS) {
            let word = word();
            let is_chosen = last.report.rating == Some(rating);
            let kind = if is_chosen {
                ActionKind::Primary
            } else {
                ActionKind::Plain
            };
            let button = parts::button(ui, tokens, (word, None), kind, area, true);
            button.widget_info(|| {
                let name = words::rating_of(word, rating, MAX_RATING);
                egui::WidgetInfo::selected(Role::Button, true, is_chosen, name)
            });
            if button.clicked() {
                let said = (!is_chosen).then_some(rating);
                act = Some(Act::Tell(Command::Rate(call.id, said)));
            }
        }
    });
    ui.add_space(tokens.size.gap);
    let copy = (words::copy_report(), None);
    if parts::button(ui, tokens, copy, ActionKind::Plain, area, true).clicked() {
        ui.ctx().copy_text(last.report.to_json());
    }
    parts::caption(ui, tokens, words::report_is());
    act
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        call::{Direction, EndedCall, Ending, Side, Timeline},
        engine::handle::LastCall,
        report::ReportBuilder,
        ui::{
            model::tests::{call, over as ended},
            testing::Reader,
        },
    };

    /// A call that is over, rated so.
    fn over(rating: Option<u8>) -> (View, CallView) {
        let call = call(ended());
        let ended = EndedCall {
            call: call.id,
            direction: Direction::Outgoing,
            user: call.user,
            participant: None,
            ending: Ending::Completed { by: Side::Remote },
            timeline: Timeline {
                started: call.started,
                found: None,
                ringing: None,
                connected: None,
                accepted: Some(call.started),
                first_audio: Some(call.started),
            },
            ended: call.started,
        };
        let mut report = ReportBuilder::default().finish(&ended);
        report.rating = rating;
        let last = Some(Arc::new(LastCall {
            id: call.id,
            report,
        }));
        let view = View {
            last,
            ..View::default()
        };
        (view, call)
    }

    #[test]
    fn a_call_is_rated_and_no_more_and_its_report_is_copied() {
        for width in [268.0, 560.0] {
            let mut reader = Reader::new();
            reader.width = width;
            let tokens = reader.tokens;
            let mut press = |rating, name: &str| {
                let (view, call) = over(rating);
                let mut act = None;
                reader.frame(vec![], |ui| {
                    show(ui, &view, &call, &tokens);
                });
                reader.assert_inside("a call that is over");
                let pressed = reader.press(name);
                reader.frame(vec![pressed], |ui| {
                    act = show(ui, &view, &call, &tokens).or(act.take());
                });
                act
            };
            let id = over(None).1.id;
            let rate = |rating| Some(Act::Tell(Command::Rate(id, rating)));
            assert_eq!(press(None, "Good: 4 of 5"), rate(Some(4)));
            assert_eq!(press(Some(4), "Good: 4 of 5"), rate(None));
            assert_eq!(press(Some(4), "Bad: 1 of 5"), rate(Some(1)));
            assert_eq!(press(None, "Copy the report"), None);
            // Of another call there is nothing to say.
            let (view, mut call) = over(None);
            call.id = crate::call::CallId([9; 16]);
            reader.frame(vec![], |ui| {
                show(ui, &view, &call, &tokens);
            });
            assert!(
                reader
                    .nodes
                    .values()
                    .all(|node| node.label() != Some("Copy the report"))
            );
        }
    }
}
