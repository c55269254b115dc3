//! The first minute, settings, closing and coming back: one window, by keyboard.

use x11rb::{
    protocol::xproto::{ClientMessageEvent, ConnectionExt as _, EventMask},
    rust_connection::RustConnection,
    wrapper::ConnectionExt as _,
};

use super::*;

#[test]
fn a_newcomer_gives_a_name_and_a_second_start_hands_its_link_over() {
    let name = "a_newcomer_gives_a_name_and_a_second_start_hands_its_link_over";
    let Some((_held, dir, screen, node)) = scene(name, &["Xvfb", "xdotool"], WIDE) else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    let grace_link = grace.run(&["id", "show"]);
    let start = || {
        let mut command = ahoy();
        command.args(["--via", &node, "--audio-in", "silence"]);
        command.args(["--audio-out", "null"]);
        command
    };
    let mut window = Window::open(&screen, &ada, 0, start().env("AHOY_THEME", "light"));
    let before = ada.wait_link();
    assert!(!before.contains("name="), "{before}");
    let shoot = |name: &str| {
        let pixels = screen.shoot(name);
        assert!(colors_in(&pixels, WIDE.0, 0, 500) > COLORS_OF_A_PAGE);
    };
    // The field has the keyboard.
    window.focus();
    std::thread::sleep(DRAWN);
    shoot("40-first-name-light");
    window.write("Ada");
    window.press("Return");
    wait_until("the name in the link", || {
        ada.wait_link().contains("name=Ada")
    });
    let settings = ada.home.join("settings.toml");
    // Names are sealed.
    wait_until("the settings", || settings.is_file());
    let open = fs::read_to_string(&settings).unwrap();
    assert!(!open.contains("Ada"), "{open}");
    shoot("41-first-sound-light");
    window.press("Escape");

    // Settings: the list of keys, then the rest.
    window.resize(900, 600);
    window.press("ctrl+slash");
    std::thread::sleep(DRAWN);
    shoot("42-keys-900x600-light");
    window.press("Escape");
    window.press("ctrl+i");
    std::thread::sleep(DRAWN);
    shoot("43-no-call-900x600-light");
    // Twice as large: the same settings, and the smallest window.
    for percent in [125, 150, 175, 200] {
        window.press("ctrl+plus");
        let line = format!("scale_percent = {percent}");
        wait_until(&line, || {
            fs::read_to_string(&settings).unwrap().contains(&line)
        });
    }
    window.press("Escape");
    window.resize(520, 640);
    std::thread::sleep(DRAWN);
    shoot("44-home-200-percent-light");
    for _ in 0..4 {
        window.press("ctrl+minus");
        std::thread::sleep(DRAWN);
    }
    wait_until("the usual size", || {
        !fs::read_to_string(&settings)
            .unwrap()
            .contains("scale_percent")
    });

    // Closed, it runs on; started again, it is there, and has the link that it was started by.
    let is_visible = || {
        let pid = window.process.id().to_string();
        screen
            .xdotool(&["search", "--onlyvisible", "--pid", &pid])
            .is_some_and(|found| !found.is_empty())
    };
    close(&screen, &window.id);
    wait_until("the window to go", || !is_visible());
    assert!(ada.status().is_some(), "closed, and ahoy has ended");
    let mut second = start();
    second.arg(&grace_link).arg("--home").arg(&ada.home);
    second.env("DISPLAY", &screen.display);
    let mut second = Running::start(&mut second);
    assert_eq!(second.exit_code(), Some(0));
    wait_until("the window to come back", is_visible);
    std::thread::sleep(DRAWN);
    shoot("45-handed-over-light");
    window.focus();
    let mut answering = Running::start(
        ahoy()
            .args(["answer", "--auto", "--once", "--via", &node, "--home"])
            .arg(&grace.home)
            .args(["--audio-in", "tone", "--audio-out", "null"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let reachable = first_line(answering.lines());
    let mut third = start();
    third.arg(&reachable).arg("--home").arg(&ada.home);
    third.env("DISPLAY", &screen.display);
    assert_eq!(Running::start(&mut third).exit_code(), Some(0));
    std::thread::sleep(DRAWN);
    window.press("Return");
    ada.wait_state("talking");
    ada.let_pass(Duration::from_secs(5));
    window.resize(900, 600);
    window.press("ctrl+i");
    ada.let_pass(Duration::from_secs(4));
    shoot("46-statistics-900x600-light");
    window.press("Escape");
    window.press("o");
    ada.wait_call("the other side on hold", |call| call["held"] == true);
    shoot("47-on-hold-900x600-light");
    window.press("o");
    ada.wait_call("the call to go on", |call| call["held"] == false);
    window.press("h");
    window.wait_title("ended");
    wait_until("the end of the call", || ada.call_state().is_empty());
    std::thread::sleep(DRAWN);
    shoot("48-ended-with-recents-900x600-light");

    // Whoever wants it to end with its window says so.
    ada.run(&["ctl", "status"]);
    let text = fs::read_to_string(&settings).unwrap();
    assert!(text.contains("keep_running = true") || !text.contains("keep_running"));
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));
}

#[test]
fn a_closed_window_comes_back_when_somebody_calls() {
    let name = "a_closed_window_comes_back_when_somebody_calls";
    let Some((_held, dir, screen, node)) =
        scene(name, &["Xvfb", "xdotool"], (SCREEN_WIDTH, SCREEN_HEIGHT))
    else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    let grace_link = grace.run(&["id", "show"]);
    ada.run(&["contact", "add", &grace_link, "--name", "Grace"]);
    // A desktop whose notifications are seen by their arguments.
    let tools = dir.path().join("bin");
    let told = dir.path().join("told");
    fs::create_dir(&tools).unwrap();
    let notifier = tools.join("notify-send");
    // They decline once they have seen the window.
    let seen = dir.path().join("seen");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nwhile [ ! -e {} ]; do sleep 0.1; done\necho decline\n",
        told.display(),
        seen.display()
    );
    fs::write(&notifier, script).unwrap();
    make_executable(&notifier);
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools).chain(env::split_paths(&path));
    let mut command = ahoy();
    command.args([
        "--via",
        &node,
        "--audio-in",
        "silence",
        "--audio-out",
        "null",
    ]);
    command.env("PATH", env::join_paths(paths).unwrap());
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    let link = ada.wait_link();
    window.wait_title("ahoy");
    let pid = window.process.id().to_string();
    let is_visible = || {
        screen
            .xdotool(&["search", "--onlyvisible", "--pid", &pid])
            .is_some_and(|found| !found.is_empty())
    };
    close(&screen, &window.id);
    wait_until("the window to go", || !is_visible());

    let mut events = ada.events();
    let call = ahoy()
        .args(["call", &link, "--via", &node, "--audio-in", "silence"])
        .args(["--audio-out", "null", "--for", "5", "--home"])
        .arg(&grace.home)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut call = Running(call);
    wait_until("the window to come back", is_visible);
    screen.shoot("50-called-back-dark");
    fs::write(seen, "").unwrap();
    // Nobody looks at it, so the desktop is told, and somebody declines there.
    assert_eq!(ended(&mut events).0, "declined");
    assert_eq!(call.exit_code(), Some(1));
    let told = fs::read_to_string(told).unwrap();
    assert!(told.contains("Grace\u{2069} calls you"), "{told}");
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));
}

#[test]
fn whoever_has_ahoy_already_comes_back_by_words() {
    let name = "whoever_has_ahoy_already_comes_back_by_words";
    let Some((_held, dir, screen, node)) =
        scene(name, &["Xvfb", "xdotool"], (SCREEN_WIDTH, SCREEN_HEIGHT))
    else {
        return;
    };
    let (before, after) = (Person::new(&dir, "before"), Person::new(&dir, "after"));
    let link = before.run(&["id", "show"]);
    let words = before.run(&["id", "export"]);
    let mut command = ahoy();
    command.args([
        "--via",
        &node,
        "--audio-in",
        "silence",
        "--audio-out",
        "null",
    ]);
    let window = Window::open(&screen, &after, 0, &mut command);
    let fresh = after.wait_link();
    assert!(!fresh.starts_with(&link));
    window.wait_title("ahoy");
    window.focus();
    // Name, next, skip, and the one that is meant.
    for _ in 0..3 {
        window.press("Tab");
        std::thread::sleep(DRAWN);
    }
    window.press("space");
    std::thread::sleep(DRAWN);
    // The other device's link, its code by the camera, file, passphrase, words.
    for _ in 0..4 {
        window.press("Tab");
        std::thread::sleep(DRAWN);
    }
    window.write(&words);
    screen.shoot("49-come-back-dark");
    window.press("Tab");
    std::thread::sleep(DRAWN);
    window.press("space");
    wait_until("the person of the words", || {
        let told = after.status();
        told.is_some_and(|status| {
            let now = status["link"].as_str().unwrap_or_default();
            now.starts_with(&link)
        })
    });
    assert_eq!(after.run(&["id", "show"]), link);
}

/// What a window's closing button asks of it.
fn close(screen: &Screen, id: &str) {
    let (connection, _screen) = RustConnection::connect(Some(&screen.display)).unwrap();
    let window = id.parse().unwrap();
    let atom = |name: &str| {
        let asked = connection.intern_atom(false, name.as_bytes()).unwrap();
        asked.reply().unwrap().atom
    };
    let message = [atom("WM_DELETE_WINDOW"), 0, 0, 0, 0];
    let event = ClientMessageEvent::new(32, window, atom("WM_PROTOCOLS"), message);
    connection
        .send_event(false, window, EventMask::NO_EVENT, event)
        .unwrap();
    connection.sync().unwrap();
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
