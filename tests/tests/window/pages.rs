//! Files in a conversation, one's devices, a person's page and lending, by keyboard, in pages of all sizes.

use super::*;

/// Back over the tabs of the settings, from the first control of the page about sound.
const TABS_BACK_TO_DEVICES: usize = 6;
const TABS_BACK_TO_NETWORK: usize = 4;

#[test]
fn files_devices_and_lending_have_pages_of_all_sizes() {
    let name = "files_devices_and_lending_have_pages_of_all_sizes";
    let Some((_held, dir, screen, node)) = scene(name, &["Xvfb", "xdotool"], WIDE) else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    let folder = dir.path().join("downloads");
    let settings = format!("name = \"Ada\"\ndownload_folder = {folder:?}\n");
    fs::write(ada.home.join("settings.toml"), settings).unwrap();
    let (ada_link, grace_link) = (ada.run(&["id", "show"]), grace.run(&["id", "show"]));
    ada.run(&["contact", "add", &grace_link, "--name", "Grace"]);
    grace.run(&["contact", "add", &ada_link, "--name", "Ada"]);
    let mut answer = ahoy();
    answer.args(["answer", "--via", &node, "--audio-in", "silence"]);
    answer.args(["--audio-out", "null", "--home"]);
    answer.arg(&grace.home).stdout(Stdio::piped());
    let mut answering = Running::start(answer.stderr(Stdio::null()));
    first_line(answering.lines());
    let file = |name: &str, length: usize| {
        let path = dir.path().join(name);
        fs::write(&path, vec![7; length]).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let shoot = |name: &str| {
        std::thread::sleep(DRAWN);
        let pixels = screen.shoot(name);
        assert!(colors_in(&pixels, WIDE.0, 0, 370) > COLORS_OF_A_PAGE);
    };
    let sizes = |window: &Window<'_>, name: &str, theme: &str| {
        for (width, height) in [(380, 420), (900, 600)] {
            window.resize(width, height);
            shoot(&format!("{name}-{width}x{height}-{theme}"));
        }
    };

    for theme in ["light", "dark"] {
        let mut command = ahoy();
        command.args(["--via", &node, "--audio-in", "silence"]);
        command.args(["--audio-out", "null"]);
        command.env("AHOY_THEME", theme);
        let mut window = Window::open(&screen, &ada, 0, &mut command);
        ada.wait_link();
        window.wait_title("ahoy");
        let tabs = |key: &str, count: usize| {
            for _ in 0..count {
                window.press_seen(key);
            }
        };

        // Offered, and taken by the first button of its line.
        let photo = format!("photo-{theme}.jpg");
        grace.run(&["send", "Ada", &file(&photo, 300_000)]);
        window.wait_title("(1) ahoy");
        window.press("ctrl+1");
        sizes(&window, "60-file-offered", theme);
        // In another layout the field is another one.
        window.press("ctrl+1");
        std::thread::sleep(DRAWN);
        // Behind those of the lines before: a folder, a copy, and a file to be taken back.
        tabs("Tab", if theme == "light" { 1 } else { 4 });
        window.press("space");
        wait_until("the file", || folder.join(&photo).is_file());
        sizes(&window, "61-file-here", theme);

        // Sent by its path: this desktop has no dialog.
        window.resize(380, 420);
        window.press("ctrl+1");
        window.press("ctrl+o");
        std::thread::sleep(2 * DRAWN);
        let notes = format!("notes-{theme}.txt");
        window.write(&file(&notes, 2000));
        shoot(&format!("62-file-by-path-380x420-{theme}"));
        window.press("Return");
        shoot(&format!("62-file-attached-380x420-{theme}"));
        window.press("Return");
        wait_until("the offer", || {
            grace.run(&["ctl", "files", "list"]).contains(&notes)
        });
        window.resize(900, 600);
        window.press("ctrl+1");
        shoot(&format!("63-file-sent-900x600-{theme}"));

        // The person's page is two steps back: before the field for a message, and the button for files.
        tabs("shift+Tab", 2);
        window.press("space");
        sizes(&window, "64-person", theme);
        window.resize(WIDE.0, WIDE.1);
        shoot(&format!("64-person-1400x900-{theme}"));
        window.press("Escape");
        std::thread::sleep(DRAWN);

        window.press("ctrl+comma");
        std::thread::sleep(DRAWN);
        tabs("shift+Tab", TABS_BACK_TO_DEVICES);
        window.press("space");
        shoot(&format!("65-devices-1400x900-{theme}"));
        // Over the other tabs, to the first button of the page.
        tabs("Tab", TABS_BACK_TO_DEVICES);
        window.press("space");
        std::thread::sleep(3 * DRAWN);
        shoot(&format!("66-pairing-1400x900-{theme}"));
        sizes(&window, "66-pairing", theme);
        window.resize(WIDE.0, WIDE.1);
        std::thread::sleep(DRAWN);
        window.press("Escape");
        // Both in one picture would close what is closed.
        std::thread::sleep(DRAWN);

        window.press("ctrl+comma");
        std::thread::sleep(DRAWN);
        tabs("shift+Tab", TABS_BACK_TO_NETWORK);
        window.press("space");
        ada.run(&["ctl", "lend", "on"]);
        window.resize(900, 900);
        shoot(&format!("67-lending-900x900-{theme}"));
        sizes(&window, "67-lending", theme);
        ada.run(&["ctl", "lend", "off"]);
        window.press("Escape");
        if theme == "light" {
            tabs("ctrl+plus", 4);
            window.resize(760, 840);
            window.press("ctrl+1");
            shoot("68-files-200-percent-light");
            tabs("ctrl+minus", 4);
        }
        assert_eq!(ada.call_state(), "", "a key went elsewhere");
        window.press("ctrl+q");
        assert_eq!(window.process.exit_code(), Some(0));
    }
}

#[test]
fn a_call_is_said_in_german_as_the_system_says_or_the_person() {
    let name = "a_call_is_said_in_german_as_the_system_says_or_the_person";
    let Some((_held, dir, screen, node)) = scene(name, &["Xvfb", "xdotool"], WIDE) else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    let (ada_link, grace_link) = (ada.run(&["id", "show"]), grace.run(&["id", "show"]));
    ada.run(&["contact", "add", &grace_link, "--name", "Grace"]);
    grace.run(&["contact", "add", &ada_link, "--name", "Ada"]);
    let mut answer = ahoy();
    answer.args(["answer", "--auto", "--via", &node, "--audio-in", "silence"]);
    answer.args(["--audio-out", "null", "--home"]);
    answer.arg(&grace.home).stdout(Stdio::null());
    let _answering = Running::start(answer.stderr(Stdio::null()));
    grace.wait_link();
    for by_system in [true, false] {
        let mut command = ahoy();
        command.args(["--via", &node, "--audio-in", "silence"]);
        command.args(["--audio-out", "null"]);
        if by_system {
            command.env("LC_ALL", "de_DE.UTF-8");
        } else {
            fs::write(ada.home.join("settings.toml"), "language = \"de\"\n").unwrap();
        }
        let mut window = Window::open(&screen, &ada, 0, &mut command);
        ada.wait_link();
        window.wait_title("ahoy");
        window.resize(WIDE.0, WIDE.1);
        ada.run(&["ctl", "call", &grace_link]);
        ada.wait_state("talking");
        window.wait_title("Grace - ahoy");
        window.press("m");
        window.wait_title("du bist stumm");
        window.press("m");
        ada.let_pass(Duration::from_secs(2));
        window.press("ctrl+i");
        std::thread::sleep(DRAWN);
        let how = if by_system { "system" } else { "person" };
        let pixels = screen.shoot(&format!("69-call-in-german-{how}"));
        assert!(colors_in(&pixels, WIDE.0, 0, WIDE.0) > COLORS_OF_A_PAGE);
        window.press("Escape");
        window.press("h");
        window.wait_title("Anruf mit Grace beendet");
        window.press("ctrl+q");
        assert_eq!(window.process.exit_code(), Some(0));
    }
}
