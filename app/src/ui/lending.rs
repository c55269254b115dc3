//! What this machine does for others, and within which bounds.

use eframe::egui::{self, RichText, accesskit::Role};

use super::{
    model, parts,
    theme::Tokens,
    told,
    words::{self, Word},
};
use crate::{
    engine::lending::{LendingState, LendingView},
    settings::{Lend, SettingsChange, SettingsSwitch},
};

/// What the person did.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Done {
    /// Lend from now on, or no more.
    pub(super) on: Option<bool>,
    pub(super) changes: Vec<SettingsChange>,
}

/// Most that is passed on, in kilobits per second.
const UPLOADS: [(u32, Word); 4] = [
    (500, words::mbit_half),
    (2000, words::mbit_2),
    (10_000, words::mbit_10),
    (50_000, words::mbit_50),
];
/// Most devices that are registered at once.
const PEOPLE: [(u16, Word); 4] = [
    (10, words::people_10),
    (50, words::people_50),
    (200, words::people_200),
    (1000, words::people_1000),
];

/// What was done so far, if anything was.
pub(super) fn done_so_far(view: &LendingView) -> Option<String> {
    let since = view.since_millis?;
    let since = words::moment_of(&model::local(since));
    let bytes = words::size(view.relayed_bytes);
    Some(words::lending_done(since, view.helped, bytes))
}

/// What is going on now, if anything is.
pub(super) fn now(view: &LendingView) -> Option<String> {
    (view.state == LendingState::Lending).then(|| {
        let kbps = words::count(view.upload_bps / 1000);
        words::lending_now(view.people, view.most_people, view.calls, kbps)
    })
}

/// Draws the card's contents.
pub(super) fn show(
    ui: &mut egui::Ui,
    view: &LendingView,
    settings: &Lend,
    tokens: &Tokens,
) -> Done {
    let mut done = Done::default();
    let colors = tokens.colors(ui.ctx());
    parts::title(ui, words::lend());
    let lend = (words::lend_switch(), words::lend_switch_why());
    if parts::switch(ui, tokens, lend, view.wanted, true).clicked() {
        done.on = Some(!view.wanted);
    }
    let color = match view.state {
        LendingState::Lending => colors.ok,
        LendingState::Failed | LendingState::Unreachable => colors.danger_text,
        LendingState::Off
        | LendingState::Looking
        | LendingState::Metered
        | LendingState::Stopping => colors.text_soft,
    };
    parts::text_row(ui, |ui| {
        parts::dot(ui, color);
        let told = told::lending(view);
        let text = match view.state {
            LendingState::Failed | LendingState::Unreachable => colors.danger_text,
            LendingState::Off
            | LendingState::Looking
            | LendingState::Lending
            | LendingState::Metered
            | LendingState::Stopping => colors.text_soft,
        };
        ui.add(egui::Label::new(RichText::new(told).small().color(text)).wrap());
    });
    for line in [now(view), done_so_far(view)].into_iter().flatten() {
        parts::caption(ui, tokens, &line);
    }
    ui.add_space(tokens.size.gap);
    parts::caption(ui, tokens, words::lend_most());
    let labels = UPLOADS.map(|(_, label)| label());
    let chosen = UPLOADS
        .iter()
        .position(|(rate, _)| *rate == settings.upload);
    let none = UPLOADS.len();
    let choice = (Role::RadioButton, &labels[..]);
    let picked = parts::choice(ui, tokens, choice, chosen.unwrap_or(none));
    if let Some((rate, _)) = picked.and_then(|index| UPLOADS.get(index)) {
        done.changes.push(SettingsChange::LendUpload(*rate));
    }
    parts::caption(ui, tokens, words::lend_people());
    let labels = PEOPLE.map(|(_, label)| label());
    let chosen = PEOPLE
        .iter()
        .position(|(people, _)| *people == settings.people);
    let choice = (Role::RadioButton, &labels[..]);
    let picked = parts::choice(ui, tokens, choice, chosen.unwrap_or(PEOPLE.len()));
    if let Some((people, _)) = picked.and_then(|index| PEOPLE.get(index)) {
        done.changes.push(SettingsChange::LendPeople(*people));
    }
    let metered = (words::lend_metered(), words::lend_metered_why());
    if parts::switch(ui, tokens, metered, settings.metered, true).clicked() {
        let change = SettingsChange::Switch(SettingsSwitch::LendMetered, !settings.metered);
        done.changes.push(change);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::Reader;

    fn lending() -> LendingView {
        LendingView {
            wanted: true,
            state: LendingState::Lending,
            people: 3,
            calls: 2,
            helped: 7,
            relayed_bytes: 12_000_000,
            since_millis: Some(1_700_000_000_000),
            upload_bps: 2_000_000,
            most_people: 50,
            ..LendingView::default()
        }
    }

    #[test]
    fn what_it_did_is_told_and_nothing_where_it_did_nothing() {
        let view = lending();
        let told = done_so_far(&view).unwrap();
        assert!(
            told.contains("7 people were helped, and 12.0 MB of their calls"),
            "{told}"
        );
        let now = now(&view).unwrap();
        assert!(now.contains("3 of at most 50 devices"), "{now}");
        let off = LendingView::default();
        assert_eq!((super::now(&off), done_so_far(&off)), (None, None));
    }

    #[test]
    fn the_switch_and_the_bounds_are_told_on_pages_of_all_widths() {
        let mut reader = Reader::new();
        let tokens = reader.tokens;
        let states = [
            LendingState::Off,
            LendingState::Looking,
            LendingState::Unreachable,
            LendingState::Lending,
            LendingState::Metered,
            LendingState::Stopping,
            LendingState::Failed,
        ];
        for (width, state) in [300.0, 420.0, 900.0]
            .into_iter()
            .flat_map(|width| states.map(|state| (width, state)))
        {
            reader.width = width;
            let view = LendingView { state, ..lending() };
            let settings = Lend::default();
            let mut all = Done::default();
            let mut draw = |reader: &mut Reader, events| {
                reader.frame(events, |ui| {
                    let done = show(ui, &view, &settings, &tokens);
                    all.on = done.on.or(all.on);
                    all.changes.extend(done.changes);
                });
            };
            draw(&mut reader, vec![]);
            reader.assert_inside(state.word());
            let press = reader.press("Help others to call");
            draw(&mut reader, vec![press]);
            let press = reader.press("10 Mbit/s");
            draw(&mut reader, vec![press]);
            let press = reader.press("200 devices");
            draw(&mut reader, vec![press]);
            assert_eq!(all.on, Some(false));
            let expected = [
                SettingsChange::LendUpload(10_000),
                SettingsChange::LendPeople(200),
            ];
            assert_eq!(all.changes, expected);
        }
    }
}
