//! Whole windows on running engines, which meet at a supernode of this machine: worked by the names that a screen reader tells.

mod points;
mod tongues;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use ahoy_transport::{
    identity::NodeKeys,
    runtime::{Runtime as _, TokioRuntime},
};
use eframe::egui::{Event, Key, Modifiers};
use rand_core::OsRng;

use super::{
    comeback::{self, Door},
    testing::Reader,
    *,
};
use crate::{
    call::CallConfig,
    cli::{AudioIn, AudioOut, MediaFlags},
    engine::config::Answering,
    headless::start::{Running, start},
    link::NodeLink,
    store::Store,
    supernode::{RelaySettings, SupernodeConfig, SupernodeHandle},
};

/// A busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// Where they meet.
struct Meeting {
    runtime: tokio::runtime::Runtime,
    link: NodeLink,
    _supernode: SupernodeHandle,
    dir: tempfile::TempDir,
}

impl Meeting {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = SupernodeConfig {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            port_mapping: false,
            relay: RelaySettings {
                allow_private: true,
                ..RelaySettings::default()
            },
            ..SupernodeConfig::default()
        };
        let keys = NodeKeys::generate(&mut OsRng);
        let supernode = runtime
            .block_on(SupernodeHandle::start(
                Arc::new(TokioRuntime),
                config,
                &keys,
            ))
            .unwrap();
        Self {
            link: supernode.links().remove(0),
            _supernode: supernode,
            runtime,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Opens the window of somebody, who is new here or not.
    fn open(&self, name: &str, is_first: bool) -> Person {
        let home = self.dir.path().join(name);
        let profile = Profile::at(&home);
        if !profile.identity_path().exists() && !is_first {
            fs::create_dir_all(&home).unwrap();
            let folder = home.join("files");
            let settings = format!("name = {name:?}\ndownload_folder = {folder:?}\n");
            fs::write(profile.settings_path(), settings).unwrap();
        }
        let media = MediaFlags {
            audio_in: Some(AudioIn::Silence),
            audio_out: Some(AudioOut::Null),
            via: vec![self.link.clone()],
            no_portmap: true,
            no_lan: true,
            no_dht: true,
            ..MediaFlags::default()
        };
        let plan = media.plan().unwrap();
        let pictures = WindowPictures::default();
        let started = start(
            &profile,
            &plan,
            false,
            Answering::Person,
            CallConfig::default(),
            None,
            Some(&pictures),
        );
        let running = self.runtime.block_on(started).unwrap();
        let door = Door::default();
        let (_opener, opened) = watch::channel(Opened::default());
        let opening = Opening {
            engine: running.engine.clone(),
            book: Arc::clone(&running.book),
            profile: profile.clone(),
            target: String::new(),
            pictures,
            opened,
            is_first,
            door: door.clone(),
            spoken: watch::Sender::default(),
        };
        let reader = Reader::new();
        let window = Window::new(opening, &reader.ctx, self.runtime.handle());
        // Whatever the system of whoever tests it does.
        words::speak(Language::English);
        let mut person = Person {
            reader,
            window,
            running,
            door,
            profile,
        };
        person.frame(vec![]);
        person
    }

    /// Closes the window, and ahoy with it.
    fn close(&self, person: Person) -> Profile {
        let Person {
            window,
            running,
            profile,
            ..
        } = person;
        running.engine.send(Command::Quit);
        drop(window);
        self.runtime.block_on(async move {
            // All of it: what is left would hold the profile's lock.
            let running = running;
            running.ending.wait().await;
        });
        // Tasks that are about to end hold it for a moment.
        let is_free = (0..PATIENCE.as_millis() / STEP.as_millis()).any(|_| {
            std::thread::sleep(STEP);
            let lock = profile.lock();
            lock.is_ok_and(|lock| Store::open(&lock).is_ok())
        });
        assert!(is_free, "something runs on {:?}", profile.dir());
        profile
    }
}

struct Person {
    reader: Reader,
    window: Window,
    running: Running,
    door: Door,
    profile: Profile,
}

impl Person {
    #[expect(
        clippy::disallowed_methods,
        reason = "whole windows run in the real world, by its clock"
    )]
    fn frame(&mut self, events: Vec<Event>) {
        let Self { reader, window, .. } = self;
        reader.frame(events, |ui| window.show(ui, Instant::now()));
    }

    /// Draws until that is so.
    #[track_caller]
    fn wait(&mut self, what: &str, wanted: impl Fn(&Reader) -> bool) {
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            self.frame(vec![]);
            if wanted(&self.reader) {
                return;
            }
            std::thread::sleep(STEP);
        }
        let seen: Vec<_> = self
            .reader
            .nodes
            .values()
            .filter_map(|node| node.label().or(node.value()))
            .collect();
        panic!("waited {PATIENCE:?} for {what:?}; there is {seen:#?}");
    }

    /// Presses what is called that, once it is there.
    #[track_caller]
    fn press(&mut self, name: &str) {
        self.wait(name, |reader| reader.has(name));
        let press = self.reader.press(name);
        self.frame(vec![press]);
    }

    /// Waits until a text says that.
    #[track_caller]
    fn says(&mut self, part: &str) -> String {
        let says = |reader: &Reader| reader.text(|text| text.contains(part));
        self.wait(part, |reader| says(reader).is_some());
        says(&self.reader).unwrap()
    }

    /// Writes into the field that is called that.
    #[track_caller]
    fn write(&mut self, field: &str, text: &str) {
        self.wait(field, |reader| reader.has(field));
        let focus = self.reader.focus(field);
        self.frame(vec![focus]);
        self.frame(vec![Event::Text(text.to_owned())]);
    }

    fn keys(&mut self, key: Key) {
        let press = |pressed| Event::Key {
            key,
            physical_key: None,
            pressed,
            repeat: false,
            modifiers: Modifiers::COMMAND,
        };
        self.frame(vec![press(true)]);
        self.frame(vec![press(false)]);
    }

    /// Presses a key, and lets it go.
    fn tap(&mut self, key: Key) {
        self.frame(vec![Reader::key(key, true)]);
        self.frame(vec![Reader::key(key, false)]);
    }

    /// The link that reaches them.
    #[track_caller]
    fn link(&self) -> String {
        let mut view = self.running.engine.view();
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            if let Some(link) = view.borrow_and_update().link.clone() {
                return link;
            }
            std::thread::sleep(STEP);
        }
        panic!("nobody reaches {:?}", self.profile.dir());
    }

    /// Adds a contact by link; their page opens.
    #[track_caller]
    fn add(&mut self, link: &str) {
        self.write("Name or link to call", link);
        self.press("Add to contacts");
        self.wait("Message", |reader| reader.has("Message"));
    }
}

#[test]
fn a_file_goes_over_one_is_refused_and_one_goes_in_a_call_whose_words_are_compared() {
    let meeting = Meeting::new();
    let (mut ada, mut grace) = (meeting.open("Ada", false), meeting.open("Grace", false));
    let (to_ada, to_grace) = (ada.link(), grace.link());
    ada.add(&to_grace);
    grace.add(&to_ada);

    // Dropped on the window, and sent when the person says so.
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let photo = meeting.file("photo.jpg", &content);
    ada.reader.dropped = vec![photo];
    ada.frame(vec![]);
    ada.wait("photo.jpg", |reader| reader.has("Do not send photo.jpg"));
    assert!(ada.window.view.borrow().files.is_empty(), "not before");
    ada.press("Send");
    grace.press("Accept: photo.jpg");
    grace.wait("photo.jpg", |reader| reader.has("Open folder: photo.jpg"));
    let folder = grace.profile.dir().join("files");
    assert_eq!(fs::read(folder.join("photo.jpg")).unwrap(), content);
    ada.says("Grace has it");

    // By its path; nobody wants it, and the sender hears of that.
    let unwanted = meeting.file("advert.txt", b"buy");
    ada.press("Send a file");
    let path = unwanted.to_str().unwrap().to_owned();
    ada.write("Where the file is", &path);
    ada.press("Send");
    grace.press("Refuse: advert.txt");
    ada.says("Grace does not want it");
    assert!(!folder.join("advert.txt").exists());

    // In a call.
    ada.press("Call");
    grace.press("Answer");
    ada.wait("sound", |reader| reader.has("Record"));
    let notes = meeting.file("notes.txt", b"what was said");
    ada.reader.dropped = vec![notes];
    ada.press("Send");
    grace.press("Accept: notes.txt");
    grace.wait("notes.txt", |reader| reader.has("Open folder: notes.txt"));
    ada.press("Details");
    ada.press("They are the same");
    ada.says("Verified: you have compared");
    ada.press("Hang up");
    grace.says("hung up");

    // All of it is still there at the next start.
    meeting.close(grace);
    let mut grace = meeting.open("Grace", false);
    grace.press("Write to Ada");
    grace.wait("photo.jpg", |reader| {
        ["photo.jpg", "notes.txt"]
            .iter()
            .all(|name| reader.has(&format!("Open folder: {name}")))
    });
    grace.says("not wanted");
    for person in [ada, grace] {
        meeting.close(person);
    }
}

#[test]
fn a_second_window_becomes_a_device_by_link_and_digits_and_is_taken_out() {
    let meeting = Meeting::new();
    let mut ada = meeting.open("Ada", false);
    let link = ada.link();
    let mut second = meeting.open("second", true);
    second.press("I have ahoy already");

    ada.keys(Key::Comma);
    ada.press("Devices");
    ada.says("this device · since");
    ada.press("Add a device");
    let pairing = ada.says("ahoy-pair:");
    second.write("Link of your other device", &pairing);
    second.press("Join");
    ada.wait("digits", |reader| reader.has("The same digits"));
    second.wait("digits", |reader| reader.text(is_code).is_some());
    let shown = ada.reader.text(is_code);
    assert!(shown.is_some() && shown == second.reader.text(is_code));
    ada.press("The same digits");
    ada.says("is one of your devices now");
    ada.says("another device · since");
    let brought = (0..PATIENCE.as_millis() / STEP.as_millis()).find_map(|_| {
        second.frame(vec![]);
        std::thread::sleep(STEP);
        second.door.take()
    });
    let profile = meeting.close(second);
    let now_millis = TokioRuntime.unix_millis();
    comeback::move_in(&profile, brought.unwrap(), now_millis).unwrap();

    let mut second = meeting.open("second", false);
    let user = |link: &str| link.split('?').next().unwrap().to_owned();
    assert_eq!(user(&second.link()), user(&link), "it is the same person");
    second.keys(Key::Comma);
    second.press("Devices");
    second.says("another device · since");

    // Lost: it speaks for her no more.
    let name = {
        let names = ada.reader.nodes.values().filter_map(|node| node.label());
        let mut names = names.filter(|name| name.starts_with("Take out "));
        names.next().unwrap().to_owned()
    };
    ada.press(&name);
    ada.press("Take it out");
    ada.says("It speaks for you no more");
    ada.wait("one device", |reader| {
        reader
            .text(|text| text.starts_with("another device"))
            .is_none()
    });
    for person in [ada, second] {
        meeting.close(person);
    }
}

/// Six digits, as both screens show them.
fn is_code(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    text.len() == 7 && digits == 6
}

#[test]
fn lending_begins_and_ends_by_its_switch_and_a_blocked_person_is_unblocked() {
    let meeting = Meeting::new();
    let (mut ada, grace) = (meeting.open("Ada", false), meeting.open("Grace", false));
    let to_grace = grace.link();
    ada.link();
    ada.add(&to_grace);
    ada.press("Details");
    ada.press("Block");
    ada.press("Block them?");
    ada.wait("home", |reader| reader.has("Name or link to call"));
    ada.keys(Key::Comma);
    ada.press("Privacy");
    ada.press("Unblock Grace");
    ada.says("You have blocked nobody");

    ada.press("Network");
    ada.says("You lend nothing");
    ada.press("Help others to call");
    ada.wait("lending", |reader| {
        reader
            .text(|text| text.contains("You lend nothing"))
            .is_none()
    });
    let settings = || fs::read_to_string(ada.profile.settings_path()).unwrap();
    let saved = (0..PATIENCE.as_millis() / STEP.as_millis()).any(|_| {
        std::thread::sleep(STEP);
        settings().contains("on = true")
    });
    assert!(saved, "{}", settings());
    ada.press("Help others to call");
    ada.says("You lend nothing");
    for person in [ada, grace] {
        meeting.close(person);
    }
}
