//! `ahoy contact` does the same whether the app runs on the profile or not: every program a process of its own.

use ahoy_tests::household::Household;
use ahoy_tests::process::{run, start, start_in};
use serde_json::Value;

fn link(house: &Household, name: &str) -> String {
    let shown = house.says(name, &["id", "show"]);
    shown.lines().next().expect("a link").to_owned()
}

fn says(house: &Household, arguments: &[&str], code: i32) -> String {
    let said = house.run("me", &[&["contact"], arguments].concat());
    let said = said.expect_code(code);
    let text = if code == 0 { said.stdout } else { said.stderr };
    text.trim_end().to_owned()
}

fn list(house: &Household) -> Value {
    let told = says(house, &["list", "--json"], 0);
    let mut list: Value = serde_json::from_str(&told).expect("JSON");
    // The two runs are not at one moment.
    for contact in list["contacts"].as_array_mut().expect("contacts") {
        contact["added_at_millis"] = Value::Null;
    }
    list
}

/// What is said and what stands there after each step.
fn story(world: &Household, people: &[String; 2]) -> Vec<(String, Value)> {
    let [ada, bob] = people;
    let key = ada.strip_prefix("ahoy:").expect("a link");
    let key = key.split('?').next().expect("a key");
    let steps: &[(&[&str], i32)] = &[
        (&["add", ada, "--name", "Ada"], 0),
        (&["add", bob, "--name", "Bob"], 0),
        (&["add", "ahoy:nonsense"], 2),
        (&["verify", "ada"], 0),
        (&["ring", "ada", "never"], 0),
        (&["ring", "ada", "seldom"], 2),
        (&["ring", "carol", "always"], 2),
        (&["rename", "Bob", "Robert"], 0),
        (&["rename", "Bob", "Rob"], 2),
        (&["rename", "Robert", "  "], 2),
        (&["list"], 0),
        (&["verify", "Ada", "--undo"], 0),
        (&["block", "Ada"], 0),
        (&["unblock", "Ada"], 2),
        (&["unblock", key], 0),
        (&["unblock", key], 1),
        (&["block", ada], 0),
        (&["block", ada, "--undo"], 0),
        (&["remove", "Robert"], 0),
        (&["remove", "Robert"], 2),
    ];
    let mut told = Vec::new();
    for (arguments, code) in steps {
        let said = says(world, arguments, *code);
        told.push((said, list(world)));
    }
    told
}

#[test]
fn contacts_are_changed_alike_with_and_without_the_app() {
    let world = Household::new();
    let people = ["ada", "bob"].map(|name| link(&world, name));
    let alone = story(&world, &people);
    assert_eq!(alone[0].0, "Ada");
    assert_eq!(alone[4].0, "calls of Ada are shown without a sound");
    assert_eq!(alone[7].0, "Bob is called Robert from now on");
    let blocked = &alone[12].1["blocked"];
    assert_eq!(blocked.as_array().map(Vec::len), Some(1), "{blocked}");
    let mine = world.path("me");
    let _was_blocked = run(&mine, ["contact", "remove", &people[0]]);
    let app = start(&mine, ["answer", "--via", &world.node]);
    let own = app.first_line();
    assert_eq!(story(&world, &people), alone);
    assert!(says(&world, &["add", &own], 2).contains("that is your own link"));
    // The app knows it without being started anew.
    says(&world, &["add", &people[1], "--name", "Bob"], 0);
    let message = run(&mine, ["ctl", "message", "Bob", "hello"]).expect_code(0);
    assert!(message.stdout.contains("queued") || message.stdout.contains("waiting"));
    // And it is written: killed, it leaves the same behind.
    let before = list(&world);
    app.kill();
    assert_eq!(list(&world), before);
}

#[test]
fn a_locked_profile_that_runs_needs_its_passphrase_for_contacts_only_once() {
    let world = Household::new();
    let (mine, ada) = (world.path("me"), link(&world, "ada"));
    link(&world, "me");
    let secret = world.path("passphrase");
    std::fs::write(&secret, "correct horse battery staple\n").expect("it can be written");
    let secret = secret.as_os_str();
    let lock = [
        "lock".as_ref(),
        "on".as_ref(),
        "--passphrase-file".as_ref(),
        secret,
    ];
    run(&mine, lock).expect_code(0);
    let refused = run(&mine, ["contact", "list"]);
    assert_ne!(refused.code, Some(0), "nobody told the passphrase");
    let environment = [("AHOY_PASSPHRASE_FILE".as_ref(), secret)];
    let app = start_in(&mine, environment, ["answer", "--via", &world.node]);
    let _link = app.first_line();
    assert_eq!(says(&world, &["add", &ada, "--name", "Ada"], 0), "Ada");
    let listed = says(&world, &["list"], 0);
    assert!(listed.starts_with("Ada\tnot verified\tahoy:"), "{listed}");
}
