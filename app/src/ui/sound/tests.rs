//! The page is worked by the names that a screen reader tells.

use eframe::egui::accesskit::Toggled;

use super::*;
use crate::{
    sound::SoundSwitch,
    ui::{desk::DeviceRow, testing::Reader},
};

/// The page, and what it is about.
struct Bench {
    reader: Reader,
    page: Page,
    view: View,
    desk: DeskView,
}

impl std::ops::Deref for Bench {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Bench {
    fn new() -> Self {
        let device = DeviceRow::named;
        let mut bench = Self {
            reader: Reader::new(),
            page: Page::default(),
            view: View::default(),
            desk: DeskView {
                listed: true,
                devices: vec![
                    device("mic", true, true),
                    device("usb", true, false),
                    device("ear", false, true),
                ],
                ..DeskView::default()
            },
        };
        bench.page.focus = true;
        bench.frame(vec![]);
        bench.frame(vec![]);
        bench
    }

    fn frame(&mut self, events: Vec<egui::Event>) -> Done {
        let mut done = Done::default();
        let tokens = self.reader.tokens;
        self.reader.frame(events, |ui| {
            let told = self.page.show(ui, &self.view, &self.desk, &tokens);
            done = Done {
                change: told.change.or(done.change.take()),
                ask: told.ask.or(done.ask.take()),
            };
        });
        done
    }

    fn press(&mut self, name: &str) -> Done {
        let press = self.reader.press(name);
        self.frame(vec![press])
    }

    fn key(&mut self, key: Key) -> Done {
        let done = self.frame(vec![Reader::key(key, true)]);
        self.frame(vec![Reader::key(key, false)]);
        done
    }
}

fn switched(which: SoundSwitch, on: bool) -> Done {
    Done {
        change: Some(SoundChange::Switch(which, on)),
        ask: None,
    }
}

#[test]
fn every_switch_can_be_found_by_its_name_and_switched() {
    let mut bench = Bench::new();
    for line in model::SWITCHES.iter().flat_map(|(_title, lines)| *lines) {
        let on = bench.view.sound.is_on(line.which);
        let told = bench.node((line.label)()).1.toggled();
        assert_eq!(told == Some(Toggled::True), on, "{}", (line.label)());
        assert_eq!(bench.press((line.label)()), switched(line.which, !on));
    }
}

#[test]
fn music_leaves_the_stages_without_effect_and_says_so() {
    let mut bench = Bench::new();
    bench.view.sound.music = true;
    bench.frame(vec![]);
    let echo = bench.node("Echo cancellation").1;
    assert!(echo.is_disabled());
    assert_eq!(echo.toggled(), Some(Toggled::False));
    assert_eq!(bench.press("Echo cancellation"), Done::default());
    let music = bench.press("Music mode");
    assert_eq!(music, switched(SoundSwitch::Music, false));
}

#[test]
fn the_arrows_choose_a_device_and_a_list_offers_all() {
    let mut bench = Bench::new();
    let chosen = |id: Option<&str>| Done {
        change: Some(SoundChange::Device(
            SoundDevice::Microphone,
            id.map(str::to_owned),
        )),
        ask: None,
    };
    // The page opens with the keyboard on its first control.
    assert_eq!(bench.key(Key::ArrowDown), chosen(Some("mic")));
    bench.view.sound.microphone = Some("mic".into());
    assert_eq!(bench.key(Key::ArrowDown), chosen(Some("usb")));
    assert_eq!(bench.key(Key::ArrowUp), chosen(None));
    bench.press("Microphone");
    bench.frame(vec![]);
    assert_eq!(bench.press("USB"), chosen(Some("usb")));
}

#[test]
fn a_device_that_is_gone_stays_and_is_called_missing() {
    let mut bench = Bench::new();
    bench.view.sound.microphone = Some("usb".into());
    bench.desk.names.insert("usb".into(), "USB".into());
    bench.desk.devices.retain(|device| device.id != "usb");
    bench.frame(vec![]);
    let shown = bench.node("Microphone").1.value();
    assert_eq!(shown, Some("Missing: USB"));
}

#[test]
fn what_is_tried_out_is_what_is_chosen_and_not_in_a_call() {
    let mut bench = Bench::new();
    bench.view.sound.speaker = Some("ear".into());
    let ask = |ask| Done {
        change: None,
        ask: Some(ask),
    };
    bench.frame(vec![]);
    let record = bench.press("Record 3 seconds and play them");
    let expected = Ask::RecordAndPlay {
        microphone: None,
        speaker: Some("ear".into()),
    };
    assert_eq!(record, ask(expected));
    let played = bench.press("Play a sound by the speaker");
    let speaker = Some("ear".into());
    assert_eq!(played, ask(Ask::Ring { speaker }));
    let rung = bench.press("Ring by the device for it");
    assert_eq!(rung, ask(Ask::Ring { speaker: None }));

    bench.desk.trial = TrialView::Playing;
    bench.frame(vec![]);
    assert!(bench.node("Ring by the device for it").1.is_disabled());
}

#[test]
fn nothing_is_wider_than_the_page() {
    for width in [348.0, 420.0, 560.0] {
        let mut bench = Bench::new();
        bench.reader.width = width;
        for device in &mut bench.desk.devices {
            device.name = "A device whose maker ".repeat(3);
        }
        bench.frame(vec![]);
        bench.frame(vec![]);
        for node in bench.nodes.values() {
            if let (Some(name), Some(bounds)) = (node.label(), node.bounds()) {
                assert!(
                    bounds.x1 <= f64::from(width) + 1.0,
                    "{name} ends at {} of {width}",
                    bounds.x1
                );
            }
        }
    }
}
