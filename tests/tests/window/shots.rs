//! Pictures of every screen, for people to look at: of running programs in a real call, in both themes, as most screens and
//! as fine ones, in a small and a large window. `make shots`.

use super::*;

/// Windows, in points.
const SIZES: [(usize, usize); 2] = [(900, 600), (1400, 900)];
/// The tabs of the settings, from the last to the second, as the keyboard comes to them from the first.
const TABS: [&str; 7] = [
    "keys", "look", "call", "network", "privacy", "devices", "you",
];

/// One of them.
#[derive(Clone, Copy)]
struct Look {
    theme: &'static str,
    scale: usize,
    size: (usize, usize),
}

impl Look {
    fn name(self, what: &str) -> String {
        let (width, height) = self.size;
        format!("{}/{}x-{width}x{height}-{what}", self.theme, self.scale)
    }

    fn program(self) -> Command {
        let mut command = ahoy();
        command.env("AHOY_THEME", self.theme);
        command.env("WINIT_X11_SCALE_FACTOR", self.scale.to_string());
        command
    }

    fn open<'a>(self, screen: &'a Screen, person: &Person, command: &mut Command) -> Window<'a> {
        let window = Window::open(screen, person, 0, command);
        window.resize(screen.width, screen.height);
        // Out of sight.
        screen.xdotool(&["mousemove", "99999", "99999"]);
        window.focus();
        window
    }

    /// Keeps the picture, which is not blank.
    #[track_caller]
    fn shoot(self, screen: &Screen, what: &str) {
        // A window that is still being laid out is drawn twice or more.
        std::thread::sleep(Duration::from_millis(400));
        let pixels = screen.shoot(&self.name(what));
        let count = colors_in(&pixels, screen.width, 0, screen.width);
        assert!(count > COLORS_OF_A_PAGE, "{what} has {count} colours");
    }
}

#[test]
#[ignore = "minutes, for people to look at: make shots"]
fn shots_of_every_screen() {
    assert!(has_tools("shots", &["Xvfb", "xdotool"]));
    let only = env::var("AHOY_SHOTS").unwrap_or_default();
    for theme in ["dark", "light"] {
        for scale in [1, 2] {
            for size in SIZES {
                let look = Look { theme, scale, size };
                if look.name("").contains(&only) {
                    shoot_all(look);
                }
            }
        }
    }
}

fn shoot_all(look: Look) {
    let size = (look.size.0 * look.scale, look.size.1 * look.scale);
    let Some((_held, dir, screen, node)) = scene("shots", &["Xvfb", "xdotool"], size) else {
        return;
    };
    let shots = env::current_exe().unwrap();
    let shots = shots.ancestors().nth(3).unwrap().join("window-shots");
    fs::create_dir_all(shots.join(look.theme)).unwrap();
    let people = ["ada", "grace", "carol"].map(|name| Person::new(&dir, name));
    let [ada, grace, carol] = &people;
    let speech = dir.path().join("speech.wav");
    write_restless_speech(&speech, 60);
    let quiet = ["--audio-in", "silence", "--audio-out", "null"];

    // Somebody new, and somebody whose profile has a passphrase.
    let new = Person::new(&dir, "new");
    let mut command = look.program();
    let mut window = look.open(&screen, &new, command.args(["--via", &node]).args(quiet));
    new.wait_link();
    look.shoot(&screen, "welcome");
    window.press("ctrl+q");
    window.process.exit_code();
    let passphrase = dir.path().join("passphrase");
    fs::write(&passphrase, "five words that nobody knows").unwrap();
    let file = passphrase.to_str().unwrap();
    new.run(&["--passphrase-file", file, "lock", "on"]);
    drop(window);
    let mut command = look.program();
    let window = Window::open(&screen, &new, 0, &mut command);
    window.wait_title("ahoy");
    look.shoot(&screen, "unlock");
    drop(window);

    for (person, name) in [(grace, "Grace"), (carol, "Carol")] {
        let link = person.run(&["id", "show"]);
        ada.run(&["contact", "add", &link, "--name", name]);
        let link = ada.run(&["id", "show"]);
        person.run(&["contact", "add", &link, "--name", "Ada"]);
    }
    let mut command = ahoy();
    command.args(["answer", "--auto", "--via", &node, "--audio-in"]);
    command.arg(&speech).args(["--audio-out", "null"]);
    command.args(["--video-in", "pattern", "--video-size", "640x360"]);
    let _grace = Running::start(command.arg("--home").arg(&grace.home).stdout(Stdio::null()));
    let grace_link = grace.wait_link();
    let mut command = look.program();
    command.args(["--via", &node, "--audio-in"]).arg(&speech);
    let mut window = look.open(&screen, ada, command.args(["--audio-out", "null"]));
    let link = ada.wait_link();
    look.shoot(&screen, "home");
    let carol_calls = || {
        let mut command = ahoy();
        command.args(["call", &link, "--home"]).arg(&carol.home);
        Running::start(command.args(quiet).stdout(Stdio::null()))
    };

    // Somebody calls, and is turned away.
    let caller = carol_calls();
    ada.wait_state("ringing_here");
    look.shoot(&screen, "incoming");
    window.press("d");
    wait_until("its end", || ada.call_state().is_empty());
    drop(caller);
    window.press("Tab");
    look.shoot(&screen, "declined");

    // A call with pictures, during which somebody else calls.
    ada.run(&["ctl", "call", &grace_link]);
    ada.wait_state("talking");
    ada.wait_call("pictures", |call| call["seen"] == "comes");
    ada.let_pass(Duration::from_secs(4));
    look.shoot(&screen, "call");
    let caller = carol_calls();
    wait_until("who waits", || {
        ada.status()
            .is_some_and(|status| status["other"]["state"] == "waits")
    });
    look.shoot(&screen, "waiting");
    ada.run(&["ctl", "decline"]);
    drop(caller);
    window.press("ctrl+i");
    look.shoot(&screen, "statistics");
    window.press("Escape");
    window.press("s");
    look.shoot(&screen, "share");
    window.press("Escape");
    window.press("h");
    wait_until("its end", || ada.call_state().is_empty());
    window.wait_title("ended");
    look.shoot(&screen, "ended");

    // At rest.
    for text in ["Tea at four?", "I bring the film of the harbour."] {
        ada.run(&["ctl", "message", &grace_link, text]);
    }
    window.press("ctrl+2");
    look.shoot(&screen, "conversation");
    window.press("Escape");
    window.press("ctrl+comma");
    look.shoot(&screen, "settings-sound");
    for tab in TABS {
        window.press_seen("shift+Tab");
        window.press("space");
        look.shoot(&screen, &format!("settings-{tab}"));
    }
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));
}
