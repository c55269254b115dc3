//! What the 14 points promise of calls, played by two windows on running engines.

use eframe::egui::accesskit::Toggled;

use super::*;
#[cfg(feature = "video")]
use crate::engine::video::{Showing, VideoIn};
use crate::{
    backup::{Key as BackupKey, open},
    identity::root_from_words,
    keys::{CallKey, KeyChoices},
};

/// Two people who know each other.
fn friends(meeting: &Meeting) -> (Person, Person) {
    let (mut ada, mut grace) = (meeting.open("Ada", false), meeting.open("Grace", false));
    let (to_ada, to_grace) = (ada.link(), grace.link());
    ada.add(&to_grace);
    grace.add(&to_ada);
    for person in [&mut ada, &mut grace] {
        person.press("Back");
    }
    (ada, grace)
}

/// The same, and Ada has called.
fn talking(meeting: &Meeting) -> (Person, Person) {
    let (mut ada, mut grace) = friends(meeting);
    ada.press("Call Grace");
    grace.press("Answer");
    ada.wait("sound", |reader| reader.has("Record"));
    (ada, grace)
}

#[test]
fn a_missed_call_is_called_back_and_a_declined_one_called_again() {
    let meeting = Meeting::new();
    let (mut ada, mut grace) = friends(&meeting);
    ada.press("Call Grace");
    ada.says("Ringing…");
    grace.says("calls you");
    ada.press("Cancel");
    ada.says("You cancelled the call.");
    grace.says("Ada called and gave up.");
    grace.press("Close");
    grace.says("Missed · Today");

    grace.press("Call Ada back");
    ada.says("calls you");
    ada.press("Decline");
    grace.says("Ada declined.");
    grace.press("Call again");
    ada.press("Answer");
    grace.says("end-to-end encrypted");
    grace.press("Hang up");
    grace.says("You hung up.");
    ada.says("Grace hung up.");
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[test]
fn muting_holding_and_rating_are_told_by_name() {
    let meeting = Meeting::new();
    let (mut ada, mut grace) = talking(&meeting);
    for name in ["Mute", "Camera", "Share", "Hang up"] {
        assert!(ada.reader.has(name), "{name}");
    }
    ada.press("Mute");
    ada.wait("silence", |reader| {
        reader.has("Unmute") && !reader.has("Mute")
    });
    ada.says("You (muted)");
    ada.press("Unmute");
    ada.wait("sound", |reader| reader.has("Mute"));
    grace.wait("sound", |reader| reader.has("Record"));
    grace.press("Hold");
    ada.says("Grace has put you on hold");
    grace.says("on hold: Ada hears nothing");
    grace.press("Resume");
    ada.says("end-to-end encrypted");
    ada.press("Hang up");
    ada.press("Good: 4 of 5");
    ada.wait("the rating", |reader| {
        let mut nodes = reader.nodes.values();
        let good = nodes.find(|node| node.label() == Some("Good: 4 of 5"));
        good.is_some_and(|node| {
            node.is_selected() == Some(true) || node.toggled() == Some(Toggled::True)
        })
    });
    ada.press("Close");
    ada.says("4 of 5");
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[test]
fn nobody_rings_who_does_not_want_to_be_disturbed() {
    let meeting = Meeting::new();
    let (mut ada, mut grace) = friends(&meeting);
    let wants = |person: &Person| model::wants_attention(&person.window.view.borrow()).is_some();
    ada.press("Call Grace");
    grace.says("calls you");
    assert!(wants(&grace), "a call rings");
    ada.press("Cancel");
    grace.press("Close");
    grace.press("Do not disturb");
    grace.wait("peace", |reader| {
        let mut nodes = reader.nodes.values();
        let peace = nodes.find(|node| node.label() == Some("Do not disturb"));
        peace.is_some_and(|node| node.toggled() == Some(Toggled::True))
    });
    ada.press("Close");
    ada.press("Call Grace");
    for _ in 0..20 {
        grace.frame(vec![]);
        std::thread::sleep(STEP);
        assert!(!wants(&grace), "she did not want to be disturbed");
    }
    ada.press("Cancel");
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[test]
fn a_call_is_answered_with_the_camera_and_one_declined_with_a_message() {
    let meeting = Meeting::new();
    let (mut ada, mut grace) = friends(&meeting);
    ada.press("Call Grace");
    grace.says("calls you");
    if cfg!(feature = "video") {
        grace.tap(Key::V);
        // It may not be there, which is told; what was wanted is plain.
        grace.wait("the camera", |reader| reader.has("Stop camera"));
        grace.press("Hang up");
        for person in [&mut ada, &mut grace] {
            person.press("Close");
        }
        // The next one hears, and sees nothing.
        ada.press("Call Grace");
        grace.press("Answer");
        grace.wait("sound", |reader| reader.has("Record"));
        assert!(grace.reader.has("Camera"), "nobody asked for it");
        grace.press("Hang up");
        for person in [&mut ada, &mut grace] {
            person.press("Close");
        }
        ada.press("Call Grace");
        grace.says("calls you");
    }
    grace.tap(Key::T);
    grace.press("I will call you back soon.");
    ada.says("Grace declined.");
    grace.says("You declined the call from Ada.");
    ada.says("I will call you back soon.");
    grace.press("Close");
    grace.says("You: I will call you back soon.");
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[cfg(feature = "video")]
#[test]
fn the_camera_is_looked_at_in_its_step_and_let_go_with_it() {
    let meeting = Meeting::new();
    let mut new = meeting.open("new", true);
    assert_eq!(new.window.mirror.wanted(), None, "nobody asked for it");
    new.press("Next");
    assert_eq!(new.window.mirror.wanted(), None);
    new.press("Next");
    // A machine that tests may have one, and somebody may use it.
    let opens = words::mirror_opens();
    new.wait("a picture, or why there is none", |reader| {
        let says = |sentence: &str| reader.text(|text| text == sentence).is_some();
        says("Are you seen well?") && !says(opens)
    });
    assert!(new.window.mirror.wanted().is_some());
    new.press("Next");
    new.frame(vec![]);
    assert_eq!(new.window.mirror.wanted(), None, "the step is left");
    // And so it is where a call comes, or the steps are closed.
    new.press("Back");
    new.frame(vec![]);
    assert!(new.window.mirror.wanted().is_some());
    new.press("Skip all");
    new.frame(vec![]);
    assert_eq!(new.window.mirror.wanted(), None, "all steps are left");
    meeting.close(new);
}

#[cfg(feature = "video")]
#[test]
fn codes_are_read_while_somebody_waits_for_one_and_the_camera_is_let_go_with_the_page() {
    let meeting = Meeting::new();
    let mut ada = meeting.open("Ada", false);
    let scans = |person: &Person| person.window.mirror.wanted().map(|wanted| wanted.scans);
    ada.wait("home", |reader| reader.has(words::scan_code()));
    assert_eq!(scans(&ada), None, "nobody asked for it");
    let pressed = |ada: &mut Person, name: &str| {
        ada.press(name);
        ada.frame(vec![]);
        scans(ada)
    };
    assert_eq!(pressed(&mut ada, words::scan_code()), Some(true));
    let stopped = pressed(&mut ada, words::scan_stop());
    assert_eq!(stopped, None, "it was put away");
    assert_eq!(pressed(&mut ada, words::scan_code()), Some(true));
    ada.window.scan.close();
    ada.frame(vec![]);
    assert_eq!(scans(&ada), None, "nobody sees the window, or a call came");
    assert_eq!(pressed(&mut ada, words::scan_code()), Some(true));
    let elsewhere = pressed(&mut ada, words::settings());
    assert_eq!(elsewhere, None, "another page is shown");
    meeting.close(ada);

    // A device that is to be let in reads the other one's code.
    let mut new = meeting.open("new", true);
    new.press(words::i_have_ahoy());
    new.press(words::scan_code());
    new.frame(vec![]);
    assert_eq!(scans(&new), Some(true));
    new.press(words::i_am_new());
    new.frame(vec![]);
    assert_eq!(scans(&new), None);
    meeting.close(new);
}

#[test]
fn a_backup_is_made_in_the_window_and_holds_everything() {
    let meeting = Meeting::new();
    let (mut ada, grace) = (meeting.open("Ada", false), meeting.open("Grace", false));
    let to_grace = grace.link();
    ada.link();
    ada.add(&to_grace);
    ada.keys(Key::Comma);
    ada.press("Devices");
    let taken = meeting.file("taken.backup", b"somebody else's");
    let make = |ada: &mut Person, file: &std::path::Path| {
        ada.press("Make a backup…");
        ada.write("Backup file", file.to_str().unwrap());
    };
    make(&mut ada, &taken);
    for field in ["Passphrase for it", "The same passphrase again"] {
        ada.write(field, "short");
    }
    ada.press("Make the backup");
    ada.says("is there already");
    ada.press("Cancel");
    assert_eq!(fs::read(&taken).unwrap(), b"somebody else's");

    let file = meeting.dir.path().join("ada.backup");
    make(&mut ada, &file);
    for field in ["Passphrase for it", "The same passphrase again"] {
        ada.write(field, "short");
    }
    ada.press("Make the backup");
    ada.says("too short");
    assert!(!file.exists());
    for field in ["Passphrase for it", "The same passphrase again"] {
        ada.write(field, " but long enough");
    }
    ada.press("Make the backup");
    ada.says("The backup is in");
    let opened = open(
        &fs::read(&file).unwrap(),
        &BackupKey::Passphrase("short but long enough"),
    )
    .unwrap();
    assert!(opened.settings.contains("Ada"));
    let is_grace = |(table, _key, value): &(String, Vec<u8>, Vec<u8>)| {
        table == "contacts" && value.windows(5).any(|part| part == b"Grace")
    };
    assert!(opened.items.iter().any(is_grace), "whom she knows");

    // The 24 words, which this device holds, open another one.
    let by_words = meeting.dir.path().join("words.backup");
    make(&mut ada, &by_words);
    ada.press("The 24 words open it");
    ada.press("Make the backup");
    // The path stands in its field, too.
    ada.says("words.backup, ");
    let words = crate::identity::words(opened.identity.root().unwrap());
    let root = root_from_words(&words).unwrap();
    let again = open(&fs::read(&by_words).unwrap(), &BackupKey::Words(&root)).unwrap();
    assert_eq!(again.identity.user(), opened.identity.user());
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[cfg(feature = "video")]
#[test]
fn a_bar_floats_over_what_is_shared_and_stops_it() {
    let meeting = Meeting::new();
    let (mut ada, grace) = talking(&meeting);
    assert!(!ada.reader.has("Stop showing it"), "nothing is shown");
    // There may be no screen here: what was wanted is plain all the same.
    let share = |ada: &mut Person| {
        ada.window.send(Command::Show(Some(Showing {
            input: VideoIn::Screen {
                target: "screen".into(),
                fps: 5,
            },
            content: None,
        })));
        ada.wait("the bar", |reader| reader.has("Stop showing it"));
    };
    share(&mut ada);
    ada.says("Grace sees your screen");
    ada.press("Stop showing it");
    ada.wait("its end", |reader| !reader.has("Stop showing it"));
    let shown = ada.window.view.borrow().call.clone().unwrap().pictures.sent;
    assert_eq!(shown, None);

    // Hidden, it stays away until something else is shown.
    share(&mut ada);
    ada.press("Hide this bar");
    ada.wait("no bar", |reader| !reader.has("Stop showing it"));
    let sent = ada.window.view.borrow().call.clone().unwrap().pictures.sent;
    assert!(sent.is_some(), "it is shown all the same");
    ada.window.send(Command::Show(None));
    ada.wait("its end", |reader| reader.has("Share"));
    share(&mut ada);
    ada.press("Hang up");
    ada.wait("its end", |reader| !reader.has("Stop showing it"));
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[test]
fn another_key_is_chosen_and_does_it_in_a_call() {
    let meeting = Meeting::new();
    let (mut ada, mut grace) = talking(&meeting);
    ada.keys(Key::Slash);
    ada.press("Mutes you, or not any more: M. Choose another key");
    ada.frame(vec![]);
    // What it did before it does not do while it is chosen.
    ada.tap(Key::H);
    ada.says("H does something else already: Hangs up");
    ada.press("Mutes you, or not any more: M. Choose another key");
    ada.frame(vec![]);
    ada.tap(Key::K);
    let is_chosen = |settings: &Settings| settings.keys.key(CallKey::Mute) == 'K';
    let mut saved = ada.window.saved.clone();
    let chosen = saved.wait_for(|saved| saved.settings.as_ref().is_some_and(is_chosen));
    drop(meeting.runtime.block_on(chosen).unwrap());
    let ctx = ada.reader.ctx.clone();
    ada.window.dress(&ctx);
    ada.keys(Key::Slash);
    ada.tap(Key::Escape);
    ada.tap(Key::M);
    ada.tap(Key::K);
    ada.wait("silence", |reader| reader.has("Unmute"));
    keys::choose(&KeyChoices::default());
    ada.press("Hang up");
    grace.says("hung up");
    meeting.close(grace);
    // It is there at the next start.
    let profile = meeting.close(ada);
    assert!(is_chosen(&Settings::load(&profile).unwrap()));
}
