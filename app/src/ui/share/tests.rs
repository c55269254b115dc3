//! The page is worked by the names that a screen reader tells.

use ahoy_media::video::trouble::SourceTrouble;
use eframe::egui::Key;

use super::*;
use crate::{
    engine::{handle::Phase, video::view::PicturesView},
    ui::{model, testing::Reader},
};

struct Bench {
    reader: Reader,
    page: Page,
    call: CallView,
    shelf: ShelfView,
}

type Wanted = Option<Option<Showing>>;

fn item(id: &str, name: &str) -> Item {
    Item {
        id: id.into(),
        name: name.into(),
    }
}

fn screen(target: &str, content: Option<Content>) -> Showing {
    Showing {
        input: VideoIn::Screen {
            target: target.into(),
            fps: FPS,
        },
        content,
    }
}

impl Bench {
    fn new(sent: Option<Showing>) -> Self {
        let call = CallView {
            pictures: PicturesView {
                sent,
                ..PicturesView::default()
            },
            ..model::tests::call(Phase::Reconnecting)
        };
        let mut bench = Self {
            reader: Reader::new(),
            page: Page::default(),
            call,
            shelf: ShelfView {
                listed: true,
                screens: vec![item("screen:HDMI-1", "Screen HDMI-1 (1920x1080)")],
                windows: vec![
                    item("window:0x200001", "Letter to Bo"),
                    item(
                        "window:0x200002",
                        "Letter to Bo, the second, which has a title that is too long by far",
                    ),
                ],
                cameras: vec![item("usb-1", "Cam 3000")],
                error: None,
            },
        };
        bench.page.toggle();
        bench.frame(vec![]);
        bench.frame(vec![]);
        bench
    }

    fn frame(&mut self, events: Vec<egui::Event>) -> Wanted {
        let mut wanted = None;
        let tokens = self.reader.tokens;
        self.reader.frame(events, |ui| {
            let told = self.page.show(ui, &self.call, &self.shelf, &tokens);
            wanted = told.or(wanted.take());
        });
        wanted
    }

    fn press(&mut self, name: &str) -> Wanted {
        let press = self.reader.press(name);
        self.frame(vec![press])
    }
}

#[test]
fn everything_there_is_can_be_found_by_its_name_and_shown() {
    let mut bench = Bench::new(None);
    let wanted = bench.press("Show Screen HDMI-1 (1920x1080)");
    assert_eq!(wanted, Some(Some(screen("screen:HDMI-1", None))));
    let wanted = bench.press("Show Letter to Bo");
    assert_eq!(wanted, Some(Some(screen("window:0x200001", None))));
    let wanted = bench.press("Show Cam 3000");
    assert_eq!(wanted, Some(Some(camera(Some("usb-1".into())))));
    assert_eq!(
        bench.page.camera.as_deref(),
        Some("usb-1"),
        "the next time, too"
    );
}

#[test]
fn how_screens_are_sent_is_chosen_before_or_while_they_are_and_cameras_do_not_care() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.press("Text"), None, "nothing is shown yet");
    let text = Some(Content::Text);
    let wanted = bench.press("Show Letter to Bo");
    assert_eq!(wanted, Some(Some(screen("window:0x200001", text))));
    assert_eq!(
        bench.press("Show Cam 3000"),
        Some(Some(camera(Some("usb-1".into()))))
    );

    let shown = screen("screen:HDMI-1", None);
    let mut bench = Bench::new(Some(shown));
    let motion = Some(Content::Motion);
    let wanted = bench.press("Motion");
    assert_eq!(wanted, Some(Some(screen("screen:HDMI-1", motion))));
    // What is shown already is not begun again.
    assert_eq!(bench.press("Show Screen HDMI-1 (1920x1080)"), None);
    assert_eq!(bench.press("Stop showing it"), Some(None));
}

#[test]
fn the_first_key_chooses_the_first_screen_or_stops_what_is_shown() {
    for (sent, wanted) in [
        (None, Some(Some(screen("screen:HDMI-1", None)))),
        (Some(camera(None)), Some(None)),
    ] {
        let mut bench = Bench::new(sent);
        let got = bench.frame(vec![Reader::key(Key::Enter, true)]);
        assert_eq!(got, wanted);
    }
}

#[test]
fn a_display_that_cannot_be_seen_has_its_sentence_and_cameras_are_still_there() {
    let mut bench = Bench::new(None);
    bench.shelf = ShelfView {
        error: Some(SourceTrouble::NoDisplay { wayland: false }),
        cameras: bench.shelf.cameras,
        ..ShelfView::default()
    };
    bench.shelf.listed = true;
    bench.frame(vec![]);
    let values: Vec<_> = bench
        .reader
        .nodes
        .values()
        .filter_map(|node| node.value())
        .collect();
    let told = told::trouble::source(&SourceTrouble::NoDisplay { wayland: false });
    assert!(values.contains(&told.as_str()), "{values:?}");
    bench.reader.node("Show Cam 3000");
}

#[test]
fn nothing_is_wider_than_the_page() {
    let mut bench = Bench::new(Some(screen("window:0x200002", None)));
    for width in [280.0, 340.0, 720.0] {
        bench.reader.width = width;
        bench.frame(vec![]);
        bench.frame(vec![]);
        for node in bench.reader.nodes.values() {
            if let Some(bounds) = node.bounds() {
                assert!(
                    bounds.x1 <= f64::from(width) + 1.0,
                    "{:?} at {width}",
                    node.label()
                );
            }
        }
    }
}
