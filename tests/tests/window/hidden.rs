//! A window that is not there until somebody calls.

use super::*;

#[test]
fn a_hidden_start_rings_and_only_then_opens_a_window() {
    let name = "a_hidden_start_rings_and_only_then_opens_a_window";
    let Some((_held, dir, screen, node)) = scene(name, &["Xvfb", "xdotool"], WIDE) else {
        return;
    };
    let (ada, grace) = (Person::new(&dir, "ada"), Person::new(&dir, "grace"));
    grace.run(&["contact", "add", &ada.run(&["id", "show"]), "--name", "Ada"]);
    let quiet = ["--audio-in", "silence", "--audio-out", "null"];
    let hidden = || {
        let mut command = ahoy();
        command.args(["--hidden", "--via", &node]).args(quiet);
        command.arg("--home").arg(&grace.home);
        command.env("DISPLAY", &screen.display);
        Running::start(&mut command)
    };
    let windows = |process: &Running| {
        let pid = process.id().to_string();
        screen.xdotool(&["search", "--onlyvisible", "--pid", &pid])
    };

    let mut process = hidden();
    let link = grace.wait_link();
    assert_eq!(windows(&process).unwrap_or_default(), "", "nobody called");
    let mut command = ahoy();
    command.args(["call", &link, "--home"]).arg(&ada.home);
    let _caller = Running::start(command.args(quiet));
    grace.wait_state("ringing_here");
    let mut id = String::new();
    wait_until("a window", || {
        id = windows(&process).unwrap_or_default();
        !id.is_empty()
    });
    let window = Window {
        screen: &screen,
        process,
        id: id.lines().last().unwrap().to_owned(),
    };
    window.wait_title("Ada calls you");
    window.press("a");
    grace.wait_state("talking");
    window.press("ctrl+q");
    process = window.process;
    assert_eq!(process.exit_code(), Some(0));

    // Started again it shows the window that it had not.
    process = hidden();
    grace.wait_link();
    let mut again = ahoy();
    again.arg("--home").arg(&grace.home);
    let again = again.env("DISPLAY", &screen.display).status().unwrap();
    assert!(again.success());
    wait_until("a window", || {
        windows(&process).is_some_and(|found| !found.is_empty())
    });

    // Whoever ends the session waits for nobody.
    drop(process);
    let mut process = hidden();
    grace.wait_link();
    Command::new("kill")
        .arg(process.id().to_string())
        .status()
        .unwrap();
    assert_eq!(process.exit_code(), Some(0));
}
