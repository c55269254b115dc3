//! Whole windows in each language: nothing is cut, lies over something else, or stays English.

use std::collections::BTreeSet;

use eframe::egui;

use super::*;
use crate::{
    files::readable,
    settings::LanguageChoice,
    ui::words::{self, Language},
};

/// A window of 900 by 600 points as it is, with everything twice as large, and both of them as high as their pages.
const SIZES: [(f32, f32); 4] = [
    (900.0, 600.0),
    (450.0, 300.0),
    (900.0, 4000.0),
    (450.0, 4000.0),
];
/// The words of all languages.
const WORDS: [(Language, &str); 3] = [
    (
        Language::English,
        include_str!("../../../../assets/words/en.ftl"),
    ),
    (
        Language::German,
        include_str!("../../../../assets/words/de.ftl"),
    ),
    (
        Language::Spanish,
        include_str!("../../../../assets/words/es.ftl"),
    ),
];

/// What is the same in English and this language: it is no English that was left.
fn same_words(language: Language) -> BTreeSet<String> {
    let lines = |of: Language| {
        let words = WORDS.iter().find(|(known, _)| *known == of);
        let lines = words.into_iter().flat_map(|(_, text)| text.lines());
        lines.filter_map(|line| line.split_once(" = "))
    };
    let english: BTreeSet<_> = lines(Language::English).collect();
    let same = lines(language).filter(|line| english.contains(line));
    same.map(|(_id, text)| text.to_owned()).collect()
}

/// The same in all languages.
const UNITS: [&str; 2] = ["ms", "kbit/s"];

/// Whether it has a word at all.
fn is_worded(text: &str) -> bool {
    let letters = |word: &str| word.chars().filter(|letter| letter.is_alphabetic()).count();
    let mut words = text.split_whitespace().filter(|word| !UNITS.contains(word));
    words.any(|word| letters(word) > 1)
}

struct Survey {
    /// What nobody translates: names, links, keys.
    data: BTreeSet<String>,
    faults: Vec<String>,
    pages: usize,
}

impl Survey {
    fn new(data: &[&str]) -> Self {
        Self {
            data: data.iter().map(|text| (*text).to_owned()).collect(),
            faults: Vec::new(),
            pages: 0,
        }
    }

    /// Looks at what is drawn, in all languages and sizes.
    fn look(&mut self, what: &str, reader: &mut Reader, mut draw: impl FnMut(&mut egui::Ui)) {
        let before = (reader.width, reader.height);
        let mut said: Vec<(Language, BTreeSet<String>)> = Vec::new();
        for (language, _) in WORDS {
            words::speak(language);
            let mut all = BTreeSet::new();
            for (width, height) in SIZES {
                (reader.width, reader.height) = (width, height);
                // The second frame knows how large things were in the first, and the third what scrolls.
                for _ in 0..3 {
                    reader.frame(vec![], &mut draw);
                }
                for fault in reader.faults() {
                    let fault = format!("{what}, {language:?}, {width} x {height}: {fault}");
                    self.faults.push(fault);
                }
                all.extend(reader.said().map(str::to_owned));
            }
            said.push((language, all));
        }
        words::speak(Language::English);
        (reader.width, reader.height) = before;
        reader.frame(vec![], &mut draw);
        let english = said.remove(0).1;
        for (language, all) in said {
            let same = same_words(language);
            let left = all.intersection(&english);
            let left = left.filter(|text| is_worded(text) && !same.contains(*text));
            // A long link is in pieces.
            let is_data = |text: &str| self.data.iter().any(|data| data.contains(text));
            for text in left.filter(|text| !is_data(text)) {
                self.faults
                    .push(format!("{what}, {language:?}: {text:?} is English"));
            }
        }
        self.pages += 1;
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "whole windows run in the real world, by its clock"
    )]
    fn look_at(&mut self, what: &str, person: &mut Person) {
        let Person { reader, window, .. } = person;
        self.look(what, reader, |ui| window.show(ui, Instant::now()));
    }

    #[track_caller]
    fn end(self) {
        let faults: BTreeSet<_> = self.faults.into_iter().collect();
        assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
    }
}

#[test]
fn the_survey_finds_what_is_cut_what_overlaps_and_what_is_english() {
    let mut reader = Reader::new();
    let mut found = |draw: &mut dyn FnMut(&mut egui::Ui)| {
        let mut survey = Survey::new(&["Ada"]);
        survey.look("a canary", &mut reader, draw);
        survey.faults.join("\n")
    };
    let well = found(&mut |ui| {
        ui.label(words::settings());
        ui.label("Ada");
        ui.label("12 %");
        ui.add(egui::Label::new(words::devices_are()).wrap());
    });
    assert_eq!(well, "");
    let english = found(&mut |ui| {
        ui.label("Nobody translated this");
    });
    assert!(english.contains("is English"), "{english}");
    let unheard = found(&mut |ui| {
        let button = ui.button("…");
        button.widget_info(|| {
            egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, "Unheard")
        });
    });
    assert!(unheard.contains("is English"), "{unheard}");
    let cut = found(&mut |ui| {
        ui.set_max_width(60.0);
        ui.add(egui::Label::new(words::devices_are()).truncate());
    });
    assert!(cut.contains("is cut"), "{cut}");
    let beyond = found(&mut |ui| {
        ui.add(egui::Label::new(words::devices_are()).extend());
    });
    assert!(beyond.contains("beyond the edge"), "{beyond}");
    let over = found(&mut |ui| {
        let at = ui.label(words::settings()).rect;
        let font = egui::TextStyle::Body.resolve(ui.style());
        let color = ui.visuals().text_color();
        let corner = egui::Align2::LEFT_TOP;
        ui.painter()
            .text(at.min, corner, words::contacts(), font, color);
    });
    assert!(over.contains("overlap"), "{over}");
}

#[test]
fn every_page_is_said_in_german_and_spanish_and_fits_at_twice_the_size() {
    let meeting = Meeting::new();
    let (mut ada, mut grace) = (meeting.open("Ada", false), meeting.open("Grace", false));
    let mut new = meeting.open("new", true);
    let (to_ada, to_grace) = (ada.link(), grace.link());
    let host = crate::headless::pairing::host_name();
    let data = ["ahoy", "Ada", "Grace", &to_ada, &to_grace, &host];
    let mut survey = Survey::new(&data);
    new.link();
    let steps: &[&str] = if cfg!(feature = "video") {
        &["name", "sound", "camera", "card"]
    } else {
        &["name", "sound", "card"]
    };
    for step in steps {
        if *step == "camera" {
            // What there is belongs to this machine, and it may take a moment.
            new.wait("a camera, or none", |reader| {
                reader.has(words::own_picture())
                    || reader.text(|text| text == words::mirror_opens()).is_none()
            });
            let shelf = new.window.showable.borrow().clone();
            survey
                .data
                .extend(shelf.cameras.into_iter().map(|item| item.name));
        }
        survey.look_at(&format!("first steps: {step}"), &mut new);
        new.press(if *step == "card" { "Back" } else { "Next" });
    }
    for _ in 2..steps.len() {
        new.press("Back");
    }
    new.press("I have ahoy already");
    survey.look_at("come back", &mut new);
    meeting.close(new);

    survey.look_at("home, alone", &mut ada);
    survey.data.insert("Zoe".to_owned());
    ada.write("Name or link to call", "Zoe");
    survey.look_at("home, nobody found", &mut ada);
    ada.window.home.target.clear();
    ada.add(&to_grace);
    survey
        .data
        .insert(model::link_of(ada.window.chat.user.unwrap()));
    survey.look_at("conversation, empty", &mut ada);
    // She is a stranger to Grace as yet.
    ada.write("Message", "Ahoy");
    ada.press("Send");
    survey.data.insert("Ahoy".to_owned());
    ada.says("until Grace comes online");
    grace.wait("her request", |reader| {
        reader.has("Look at the request of Ada")
    });
    let stranger = grace.window.view.borrow().requests[0].user.to_string();
    survey
        .data
        .insert(format!("{}…", stranger.chars().take(8).collect::<String>()));
    grace.press("Look at the request of Ada");
    survey
        .data
        .insert(model::link_of(grace.window.chat.user.unwrap()));
    survey.look_at("request", &mut grace);
    grace.press("Add to contacts");
    let photo = meeting.file("photo.jpg", &[7; 300_000]);
    survey.data.insert("photo.jpg".to_owned());
    assert_eq!(readable(300_000), "300.0 kB");
    ada.reader.dropped = vec![photo];
    ada.frame(vec![]);
    survey.look_at("file, to be sent", &mut ada);
    ada.press("Send");
    grace.wait("the file", |reader| reader.has("Accept: photo.jpg"));
    survey.look_at("file, offered", &mut grace);
    survey.look_at("file, not accepted yet", &mut ada);
    grace.press("Accept: photo.jpg");
    grace.wait("photo.jpg", |reader| reader.has("Open folder: photo.jpg"));
    ada.says("Grace has it");
    survey.look_at("file, here", &mut grace);
    survey.look_at("file, there", &mut ada);
    ada.press("Details");
    survey.look_at("person", &mut ada);
    ada.press("Block");
    survey.look_at("person, to be blocked", &mut ada);
    ada.press("Keep as it is");
    ada.press("Done");
    ada.press("Back");
    survey.look_at("home", &mut ada);

    ada.keys(Key::Comma);
    let tabs = [
        "Sound", "You", "Devices", "Privacy", "Network", "Call", "Look", "Keys",
    ];
    let language_names = ["English", "Deutsch", "Español"];
    survey.data.extend(language_names.map(str::to_owned));
    let devices = ada.window.devices.borrow().clone();
    survey.data.extend(devices.names.into_values());
    for tab in tabs {
        ada.press(tab);
        if tab == "Devices" {
            ada.says("this device");
        }
        survey.look_at(&format!("settings: {tab}"), &mut ada);
        if tab == "Devices" {
            ada.press("Make a backup…");
            survey.look_at("settings: a backup", &mut ada);
        }
    }
    ada.keys(Key::Comma);

    ada.press("Call Grace");
    grace.wait("the call", |reader| reader.has("Answer"));
    ada.says("Ringing");
    survey.look_at("calling", &mut ada);
    survey.look_at("called", &mut grace);
    grace.press("Decline with a message");
    survey.look_at("called, to be declined", &mut grace);
    grace.tap(Key::Escape);
    grace.press("Answer");
    ada.wait("sound", |reader| reader.has("Record"));
    ada.says(" · end-to-end encrypted");
    ada.wait("words", |reader| {
        reader
            .text(|text| text.matches(" · ").count() == 5)
            .is_some()
    });
    let call = ada.window.view.borrow().call.clone().unwrap();
    assert_eq!(call.safety_words.len(), 6);
    survey.data.insert(call.safety_words.join(" · "));
    survey.look_at("in a call", &mut ada);
    ada.press("Hold");
    ada.wait("the hold", |reader| reader.has("Resume"));
    survey.look_at("holding", &mut ada);
    grace.says("has put you on hold");
    survey.look_at("on hold", &mut grace);
    ada.press("Resume");
    ada.keys(Key::I);
    survey.look_at("statistics", &mut ada);
    ada.keys(Key::Comma);
    ada.press("Share");
    ada.wait("a list", |reader| {
        reader.text(|text| text.contains("DISPLAY")).is_some() || reader.has("Screens")
    });
    let shelf = ada.window.showable.borrow().clone();
    let items = [shelf.screens, shelf.windows, shelf.cameras]
        .into_iter()
        .flatten();
    survey.data.extend(items.map(|item| item.name));
    survey.look_at("sharing", &mut ada);
    ada.press("Hang up");
    ada.wait("its end", |reader| reader.has("Call again"));
    survey.look_at("over", &mut ada);
    assert!(survey.pages >= 30, "{} pages", survey.pages);
    survey.end();
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[test]
fn a_wide_window_keeps_its_column_in_the_middle() {
    let meeting = Meeting::new();
    let mut ada = meeting.open("Ada", false);
    ada.link();
    let width = 2400.0;
    ada.reader.width = width;
    for _ in 0..3 {
        ada.frame(vec![]);
    }
    let column = f64::from(ada.reader.tokens.size.column);
    let (left, right) = (
        f64::from(width) / 2.0 - column / 2.0,
        f64::from(width) / 2.0 + column / 2.0,
    );
    let bounds = |name: &str| ada.reader.node(name).1.bounds().unwrap();
    assert!(bounds("Name or link to call").x0 >= left, "{left}");
    let settings = bounds("Settings").x1;
    assert!((settings - right).abs() < 2.0, "{settings}, not {right}");
    meeting.close(ada);
}

/// Waits until this language is in the settings on the disk.
fn is_saved(meeting: &Meeting, person: &Person, language: LanguageChoice) {
    let mut settings = person.window.saved.clone();
    let chosen = settings.wait_for(|saved| {
        let saved = saved.settings.as_ref();
        saved.is_some_and(|saved| saved.language == language)
    });
    meeting.runtime.block_on(chosen).unwrap();
}

#[test]
fn a_language_is_chosen_and_spoken_at_once() {
    let meeting = Meeting::new();
    let mut ada = meeting.open("Ada", false);
    ada.keys(Key::Comma);
    ada.press("Look");
    ada.press("Deutsch");
    is_saved(&meeting, &ada, LanguageChoice::De);
    let ctx = ada.reader.ctx.clone();
    ada.window.dress(&ctx);
    ada.wait("German", |reader| reader.has("Einstellungen schließen"));
    assert_eq!(*ada.window.spoken.borrow(), Language::German);
    ada.press("English");
    is_saved(&meeting, &ada, LanguageChoice::En);
    ada.window.dress(&ctx);
    ada.wait("English", |reader| reader.has("Close the settings"));
    // It is there at the next start, also for whoever is asked for a passphrase.
    let profile = meeting.close(ada);
    assert_eq!(Settings::language_of(&profile), LanguageChoice::En);
}
