use eframe::egui::Event;

use super::*;
use crate::ui::testing::Reader;

fn row(n: u8, this: bool) -> DeviceRow {
    DeviceRow {
        id: DeviceId([n; 32]),
        name: Some(if this {
            "laptop".into()
        } else {
            format!("telephone {n}")
        }),
        this,
        added_at_millis: 1_700_000_000_000,
    }
}

struct Bench {
    reader: Reader,
    page: Page,
    known: DevicesView,
}

impl Bench {
    fn new(pairing: Pairing) -> Self {
        let mut bench = Self {
            reader: Reader::new(),
            page: Page::default(),
            known: DevicesView {
                rows: vec![row(1, true), row(2, false)],
                pairing,
                ..DevicesView::default()
            },
        };
        bench.frame(vec![]);
        bench
    }

    fn frame(&mut self, events: Vec<Event>) -> Option<Wish> {
        let Self {
            reader,
            page,
            known,
        } = self;
        let (tokens, view) = (reader.tokens, View::default());
        let mut wish = None;
        reader.frame(events, |ui| {
            wish = page.show(ui, &view, known, &tokens).or(wish.take());
        });
        wish
    }

    fn press(&mut self, name: &str) -> Option<Wish> {
        let press = self.reader.press(name);
        let wish = self.frame(vec![press]);
        self.frame(vec![]);
        wish
    }
}

fn asked() -> Pairing {
    Pairing::Asked {
        who: "telephone (abc…)".into(),
        code: "123 456".into(),
    }
}

#[test]
fn each_step_of_pairing_offers_a_way_on_and_a_way_out() {
    let waiting = || Pairing::Waiting(format!("ahoy-pair:{}", "y".repeat(200)));
    let giving = || Pairing::Giving("telephone".into());
    let failed = || Pairing::Failed(WhyNobody::Expired);
    let done = || Pairing::Done("telephone".into());
    let cases = [
        (Pairing::Idle, "Add a device", Wish::Pair(vec![])),
        (Pairing::Preparing, "Cancel", Wish::Stop),
        (waiting(), "Cancel", Wish::Stop),
        (asked(), "The same digits", Wish::Answer(true)),
        (asked(), "Other digits", Wish::Answer(false)),
        (giving(), "Cancel", Wish::Stop),
        (done(), "Add another device", Wish::Pair(vec![])),
        (failed(), "Try again", Wish::Pair(vec![])),
    ];
    for (pairing, name, expected) in cases {
        let mut bench = Bench::new(pairing);
        assert_eq!(bench.press(name), Some(expected), "{name}");
    }
    let bench = Bench::new(asked());
    assert!(bench.reader.text(|text| text == "123 456").is_some());
}

#[test]
fn a_device_is_taken_out_when_that_was_asked_twice_and_this_one_never() {
    let mut bench = Bench::new(Pairing::Idle);
    assert!(!bench.reader.has("Take out laptop"));
    assert_eq!(bench.press("Take out telephone 2"), None);
    assert_eq!(bench.press("Keep it"), None);
    assert_eq!(bench.press("Take out telephone 2"), None);
    let expected = Wish::Remove(DeviceId([2; 32]));
    assert_eq!(bench.press("Take it out"), Some(expected));
}

#[test]
fn nothing_is_cut_off_on_a_narrow_page() {
    for pairing in [
        Pairing::Waiting(format!("ahoy-pair:{}", "y".repeat(400))),
        asked(),
        Pairing::Failed(WhyNobody::Other("W".repeat(80))),
    ] {
        let mut bench = Bench::new(pairing);
        bench.known.rows[1].name = Some("W".repeat(64));
        bench.known.taken_out = Some(Ok(()));
        for width in [268.0, 348.0, 900.0] {
            bench.reader.width = width;
            bench.frame(vec![]);
            bench.frame(vec![]);
            bench.reader.assert_inside("devices");
        }
    }
}
