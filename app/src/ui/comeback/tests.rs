//! Words and backup files, typed and carried out.

use std::fs;

use ahoy_transport::identity::UserId;
use eframe::egui::Event;

use super::*;
use crate::{backup::seal, contacts::Contact, identity::words, ui::testing::Reader};

const NOW: u64 = 1_800_000_000_000;

/// Somebody who knows Grace, as a backup holds them.
fn somebody() -> Content {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::at(dir.path());
    let lock = profile.lock().unwrap();
    let identity = Identity::create(&mut OsRng, NOW);
    let store = Store::open(&lock).unwrap();
    let link = crate::link::PersonLink::new(UserId([3; 32]));
    let grace = Contact::from_link(&link, Some("Grace"), NOW);
    store.put_contact(&grace, NOW).unwrap();
    Content {
        items: store.items().unwrap(),
        settings: "name = \"Ada\"\n".into(),
        identity,
    }
}

/// A profile as it is a minute after the first start.
fn newcomer() -> (tempfile::TempDir, Profile) {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::at(dir.path());
    profile.open_or_create(&mut OsRng, NOW).unwrap();
    drop(Store::open(&profile.lock().unwrap()).unwrap());
    (dir, profile)
}

#[test]
fn a_backup_brings_people_and_settings_and_words_bring_the_key() {
    let content = somebody();
    let user = content.identity.user();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ada.backup");
    let sealed = seal(
        &content,
        &Key::Passphrase("correct horse battery staple"),
        &mut OsRng,
    )
    .unwrap();
    fs::write(&file, sealed).unwrap();
    let file = file.to_str().unwrap();

    let wrong = brought(file, "", "shut").unwrap_err();
    assert!(!wrong.is_empty());
    let missing = brought("/nowhere/at/all", "", "").unwrap_err();
    assert!(missing.contains("/nowhere/at/all"), "{missing}");
    let few = brought("", "abandon ability", "").unwrap_err();
    assert!(few.contains("24"), "{few}");

    let (_dir, profile) = newcomer();
    let found = brought(file, "", "correct horse battery staple").unwrap();
    move_in(&profile, found, NOW).unwrap();
    assert_eq!(profile.load().unwrap().unwrap().user(), user);
    assert_eq!(
        Settings::load(&profile).unwrap().name.as_deref(),
        Some("Ada")
    );
    let lock = profile.lock().unwrap();
    let contacts = Store::open(&lock).unwrap().contacts().unwrap();
    assert_eq!(contacts.len(), 1);
    drop(lock);

    let (_dir, profile) = newcomer();
    let words = words(content.identity.root().unwrap());
    let found = brought("", &words, "").unwrap();
    move_in(&profile, found, NOW).unwrap();
    assert_eq!(profile.load().unwrap().unwrap().user(), user);
}

#[test]
fn a_profile_that_knows_people_is_never_replaced() {
    let (_dir, profile) = newcomer();
    let before = profile.load().unwrap().unwrap().user();
    {
        let lock = profile.lock().unwrap();
        let store = Store::open(&lock).unwrap();
        let link = crate::link::PersonLink::new(UserId([5; 32]));
        let bo = Contact::from_link(&link, Some("Bo"), NOW);
        store.put_contact(&bo, NOW).unwrap();
    }
    let found = Brought::Backup(Box::new(somebody()));
    let told = move_in(&profile, found, NOW).unwrap_err();
    assert!(told.contains("not replaced"), "{told}");
    assert_eq!(profile.load().unwrap().unwrap().user(), before);
    let lock = profile.lock().unwrap();
    assert_eq!(Store::open(&lock).unwrap().contacts().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_wrong_is_told_where_it_was_typed() {
    let door = Door::default();
    let mut page = Page::new(door.clone(), Profile::at("nowhere"), &Handle::current());
    page.begin();
    let mut reader = Reader::new();
    let tokens = reader.tokens;
    let mut frame = |events: Vec<Event>, press: Option<&str>, focus: Option<&str>| {
        let mut events = events;
        events.extend(press.map(|name| reader.press(name)));
        events.extend(focus.map(|name| reader.focus(name)));
        let mut done = Done::default();
        reader.frame(events, |ui| {
            let told = page.show(ui, &tokens, |_ui| None);
            done = Done {
                back: done.back || told.back,
                ready: told.ready,
            };
        });
        (done, page.state.subscribe())
    };
    frame(vec![], None, None);
    frame(vec![], None, Some("The 24 words"));
    frame(vec![Event::Text("zebra zoo".into())], None, None);
    let (_done, mut state) = frame(vec![], Some("Come back"), None);
    let is_wrong = |state: &State| matches!(state, State::Wrong(_));
    state.wait_for(is_wrong).await.unwrap();
    assert!(door.take().is_none());
    let content = somebody();
    let words = words(content.identity.root().unwrap());
    let typed = words.as_str().to_owned();
    frame(vec![], None, Some("The 24 words"));
    let all = egui::Modifiers::COMMAND;
    let select = Event::Key {
        key: egui::Key::A,
        physical_key: None,
        pressed: true,
        repeat: false,
        modifiers: all,
    };
    frame(vec![select, Event::Text(typed)], None, None);
    let (_done, mut state) = frame(vec![], Some("Come back"), None);
    state
        .wait_for(|state| *state == State::Ready)
        .await
        .unwrap();
    let (done, _state) = frame(vec![], None, None);
    assert!(done.ready);
    assert!(matches!(door.take(), Some(Brought::Words(_))));
}
