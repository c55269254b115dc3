//! The first steps are worked by the names that a screen reader tells.

use eframe::egui::{Event, Key};

use super::*;
use crate::{
    engine::video::WindowPictures,
    settings::Settings,
    ui::{mirror::MirrorView, pace::Pace, shelf::ShelfView, stage::Stage, testing::Reader},
};

struct Bench {
    reader: Reader,
    page: Page,
    view: View,
    stage: Stage,
}

impl Bench {
    fn new() -> Self {
        let mut page = Page::default();
        page.begin(true);
        let view = View {
            link: Some(format!("ahoy:{}", "y".repeat(52))),
            ..View::default()
        };
        let reader = Reader::new();
        let mut bench = Self {
            stage: Stage::new(WindowPictures::default(), &reader.ctx, Pace::default()),
            reader,
            page,
            view,
        };
        bench.frame(vec![]);
        bench.frame(vec![]);
        bench
    }

    fn frame(&mut self, events: Vec<Event>) -> Done {
        let mut done = Done::default();
        let tokens = self.reader.tokens;
        let ledger = LedgerView {
            settings: Some(Settings::default()),
            ..LedgerView::default()
        };
        let desk = DeskView::default();
        let shelf = ShelfView::default();
        self.reader.frame(events, |ui| {
            if !self.page.open {
                return;
            }
            let sight = Sight {
                stage: &self.stage,
                mirror: MirrorView::default(),
                shelf: &shelf,
                camera: None,
            };
            let page = &mut self.page;
            let told = page.show(ui, &self.view, &desk, &ledger, &sight, &tokens);
            done.commands.extend(told.commands);
            done.changes.extend(told.changes);
            done.ask = told.ask.or(done.ask.take());
            done.comes_back |= told.comes_back;
        });
        done
    }

    fn press(&mut self, name: &str) -> Done {
        let press = self.reader.press(name);
        self.frame(vec![press])
    }
}

#[test]
fn by_keyboard_a_name_is_given_and_all_steps_are_seen() {
    let mut bench = Bench::new();
    // The field has the keyboard.
    bench.frame(vec![Event::Text("Ada".into())]);
    let done = bench.frame(vec![Reader::key(Key::Enter, true)]);
    assert_eq!(done.commands, [Command::Name("Ada".into())]);
    assert_eq!(done.changes, [SettingsChange::Name("Ada".into())]);
    assert_eq!(bench.page.step, Step::Sound);
    bench.frame(vec![]);
    let done = bench.press("Record 3 seconds and play them");
    assert!(matches!(done.ask, Some(Ask::RecordAndPlay { .. })));
    bench.press("Next");
    if cfg!(feature = "video") {
        assert_eq!(bench.page.step, Step::Camera);
        assert!(bench.page.is_at_camera());
        bench.frame(vec![]);
        bench.frame(vec![]);
        // What leads on has the keyboard.
        bench.frame(vec![Reader::key(Key::Enter, true)]);
        assert!(!bench.page.is_at_camera());
    }
    assert_eq!(bench.page.step, Step::Card);
    bench.frame(vec![]);
    bench.reader.node("Your link as a QR code");
    bench.press("Copy your link");
    bench.frame(vec![]);
    bench.press("Done");
    assert!(!bench.page.open);
}

#[test]
fn nobody_has_to() {
    let mut bench = Bench::new();
    assert!(bench.press("I have ahoy already").comes_back);
    assert_eq!(bench.press("Skip all"), Done::default());
    assert!(!bench.page.open);
    // And back again.
    bench.page.begin(false);
    bench.frame(vec![]);
    bench.press("Next");
    bench.frame(vec![]);
    bench.press("Back");
    assert_eq!(bench.page.step, Step::Name);
}

#[test]
fn nothing_is_wider_than_the_page() {
    for width in [268.0, 348.0, 560.0] {
        for step in Step::ALL.iter().copied() {
            let mut bench = Bench::new();
            bench.reader.width = width;
            bench.page.step = step;
            bench.frame(vec![]);
            bench.frame(vec![]);
            bench.reader.assert_inside(&format!("{step:?}"));
        }
    }
}
