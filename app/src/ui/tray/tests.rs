//! A bus of one's own, and somebody on it who shows items as a desktop does.

use std::{
    process::{Child, Command as Process, Stdio},
    sync::mpsc,
    time::Instant,
};

use zbus::blocking;

use super::*;
use crate::{
    engine::handle::Phase,
    ui::{model::tests::call, words::with},
};

fn labels(shown: &Shown) -> Vec<&'static str> {
    let lines = shown.lines.iter().filter(|line| line.does != Does::Parts);
    lines.map(|line| line.label).collect()
}

#[test]
fn the_menu_has_what_the_moment_needs_in_the_language_of_the_window() {
    let mut view = View::default();
    let quiet = ["Show the window", "Do not disturb", "Quit"];
    assert_eq!(labels(&Shown::of(&view)), quiet);
    view.call = Some(call(Phase::Incoming));
    let rings = Shown::of(&view);
    let wanted = [quiet[0], "Answer", "Decline", quiet[1], quiet[2]];
    assert_eq!(labels(&rings), wanted);
    assert!(rings.attention && rings.status() == "NeedsAttention");
    let mut talking = call(Phase::Connecting);
    view.call = Some(talking.clone());
    let wanted = [quiet[0], "Mute", "Hang up", quiet[1], quiet[2]];
    assert_eq!(labels(&Shown::of(&view)), wanted);
    let mute = |view: &View| {
        let lines = Shown::of(view).lines;
        let line = lines.into_iter().find(|line| line.label == "Mute").unwrap();
        (line.checked, line.does)
    };
    let tells = |on| Does::Tell(Command::Mute(on));
    assert_eq!(mute(&view), (Some(false), tells(true)));
    talking.muted = true;
    view.call = Some(talking);
    assert_eq!(mute(&view), (Some(true), tells(false)));
    view.do_not_disturb = true;
    let german = with(Language::German, || Shown::of(&view));
    assert!(labels(&german).contains(&"Auflegen"), "{german:?}");
    let quit = german.lines.last().unwrap();
    assert_eq!(quit.does, Does::Tell(Command::Quit));
}

/// Ends with the test.
struct Bus {
    daemon: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.daemon.kill().unwrap_or_default();
        self.daemon.wait().map(drop).unwrap_or_default();
    }
}

impl Bus {
    /// None where there is no daemon, which is a mistake where nothing may be missing.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("bus");
        let address = format!("unix:path={}", place.display());
        let config = folder.path().join("bus.conf");
        let rules = format!(
            "<busconfig><type>session</type><listen>{address}</listen><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>"
        );
        std::fs::write(&config, rules).unwrap();
        let started = Process::new("dbus-daemon")
            .arg("--nofork")
            .arg("--config-file")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(daemon) = started else {
            assert!(std::env::var_os("CI").is_none(), "dbus-daemon is missing");
            eprintln!("skipped: dbus-daemon is not installed");
            return None;
        };
        let bus = Self {
            daemon,
            address,
            _folder: folder,
        };
        wait("the bus", || place.exists());
        Some(bus)
    }

    fn connect(&self) -> blocking::connection::Builder<'_> {
        blocking::connection::Builder::address(self.address.as_str()).unwrap()
    }
}

#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "a bus is another process, which has the real clock"
)]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A desktop that shows items.
struct Watcher(mpsc::SyncSender<String>);

#[interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: String) {
        self.0.send(service).unwrap_or_default();
    }
}

/// A desktop with a tray, and who registers in it.
fn tray(bus: &Bus) -> (blocking::Connection, mpsc::Receiver<String>) {
    let (came, items) = mpsc::sync_channel(8);
    let desktop = bus
        .connect()
        .serve_at(WATCHER_PATH, Watcher(came))
        .unwrap()
        .name(WATCHER)
        .unwrap()
        .build()
        .unwrap();
    (desktop, items)
}

type Child3 = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

/// What a desktop sees of the menu: numbers and labels.
fn read(desktop: &blocking::Connection, item: &str) -> Vec<(i32, String)> {
    let none: Vec<String> = Vec::new();
    let answer = desktop.call_method(
        Some(item),
        MENU_PATH,
        Some(MENU),
        "GetLayout",
        &(ROOT, -1i32, none),
    );
    let answer = answer.unwrap();
    let (_revision, (_root, _of, children)): (u32, Layout) = answer.body().deserialize().unwrap();
    let lines = children.into_iter().map(|child| {
        let (id, of, _none): Child3 = Value::from(child).downcast().unwrap();
        let label = of.get("label").map(|label| label.to_string());
        (id, label.unwrap_or_default().trim_matches('"').to_owned())
    });
    lines.collect()
}

fn title(desktop: &blocking::Connection, item: &str) -> String {
    let proxy = blocking::Proxy::new(desktop, item.to_owned(), ITEM_PATH, ITEM).unwrap();
    // What the last asked may have changed since.
    proxy.get_property("Title").unwrap()
}

#[test]
fn a_desktop_shows_the_menu_and_what_is_pressed_there_is_done() {
    let Some(bus) = Bus::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (shown, view) = watch::channel(View::default());
    let (speaker, spoken) = watch::channel(Language::English);
    let (done, acts) = mpsc::sync_channel(8);
    let act = Box::new(move |does| done.send(does).unwrap_or_default());
    let address = bus.address.clone();
    let serving = runtime.spawn(async move {
        let bus = Builder::address(address.as_str());
        serve(bus, view, spoken, act).await
    });
    // Nobody shows a tray yet: nothing happens, and whoever comes later is told.
    let (desktop, items) = tray(&bus);
    let item = items.recv_timeout(PATIENCE).unwrap();
    assert_eq!(title(&desktop, &item), "ahoy");
    let lines = read(&desktop, &item);
    let labels: Vec<&str> = lines.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(labels, ["Show the window", "", "Do not disturb", "Quit"]);
    let press = |label: &str, event: &str| {
        let lines = read(&desktop, &item);
        let (id, _) = lines.iter().find(|(_, known)| known == label).unwrap();
        let arguments = (*id, event, Value::from(0i32), 0u32);
        let pressed = desktop.call_method(Some(&*item), MENU_PATH, Some(MENU), "Event", &arguments);
        pressed.unwrap();
    };
    press("Do not disturb", "hovered");
    press("Do not disturb", "clicked");
    let told = acts.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told, Does::Tell(Command::DoNotDisturb(true)), "once");
    press("Show the window", "clicked");
    assert_eq!(acts.recv_timeout(PATIENCE).unwrap(), Does::Show);

    // A call changes it.
    shown.send_modify(|view| view.call = Some(call(Phase::Connecting)));
    wait("the call", || {
        read(&desktop, &item)
            .iter()
            .any(|(_, label)| label == "Hang up")
    });
    assert!(title(&desktop, &item).contains("Grace"));
    press("Hang up", "clicked");
    let told = acts.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told, Does::Tell(Command::HangUp));
    speaker.send_replace(Language::Spanish);
    wait("Spanish", || {
        read(&desktop, &item)
            .iter()
            .any(|(_, label)| label == "Colgar")
    });

    // The desktop's tray starts anew, as after a crash.
    drop(items);
    desktop.close().unwrap();
    let (desktop, items) = tray(&bus);
    let item = items.recv_timeout(PATIENCE).unwrap();
    assert!(!read(&desktop, &item).is_empty());
    // With the engine it goes.
    drop(shown);
    runtime.block_on(serving).unwrap().unwrap();
}

#[test]
fn without_a_tray_or_a_bus_nothing_changes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let serve_at = |address: &str| {
        let (shown, view) = watch::channel(View::default());
        let (_speaker, spoken) = watch::channel(Language::English);
        drop(shown);
        let act = Box::new(|_does| {});
        runtime.block_on(serve(Builder::address(address), view, spoken, act))
    };
    assert!(serve_at("unix:path=/nowhere/at/all").is_err());
    let Some(bus) = Bus::start() else { return };
    serve_at(&bus.address).unwrap();
}
