//! `ahoy contact` does the same whether the app runs on the profile or not: every program a process of its own.

use std::path::PathBuf;

use ahoy_tests::process::{Running, run, start, start_in};
use serde_json::Value;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    _supernode: Running,
    node: String,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let arguments = ["supernode", "--listen", "127.0.0.1:0", "--print-link"];
        let supernode = start(&folder.path().join("node"), arguments);
        let node = supernode.first_line();
        Self {
            folder,
            _supernode: supernode,
            node,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn link(&self, name: &str) -> String {
        let shown = run(&self.path(name), ["id", "show"]).expect_code(0);
        shown.stdout.lines().next().expect("a link").to_owned()
    }

    fn says(&self, arguments: &[&str], code: i32) -> String {
        let command = ["contact"].iter().chain(arguments);
        let said = run(&self.path("me"), command).expect_code(code);
        let text = if code == 0 { said.stdout } else { said.stderr };
        text.trim_end().to_owned()
    }

    fn list(&self) -> Value {
        let mut list: Value =
            serde_json::from_str(&self.says(&["list", "--json"], 0)).expect("JSON");
        // The two runs are not at one moment.
        for contact in list["contacts"].as_array_mut().expect("contacts") {
            contact["added_at_millis"] = Value::Null;
        }
        list
    }
}

/// What is said and what stands there after each step.
fn story(world: &World, people: &[String; 2]) -> Vec<(String, Value)> {
    let [ada, bob] = people;
    let key = ada.strip_prefix("ahoy:").expect("a link");
    let key = key.split('?').next().expect("a key");
    let steps: &[(&[&str], i32)] = &[
        (&["add", ada, "--name", "Ada"], 0),
        (&["add", bob, "--name", "Bob"], 0),
        (&["add", "ahoy:nonsense"], 2),
        (&["verify", "ada"], 0),
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
        let said = world.says(arguments, *code);
        told.push((said, world.list()));
    }
    told
}

#[test]
fn contacts_are_changed_alike_with_and_without_the_app() {
    let world = World::new();
    let people = ["ada", "bob"].map(|name| world.link(name));
    let alone = story(&world, &people);
    assert_eq!(alone[0].0, "Ada");
    assert_eq!(alone[4].0, "Bob is called Robert from now on");
    let blocked = &alone[9].1["blocked"];
    assert_eq!(blocked.as_array().map(Vec::len), Some(1), "{blocked}");
    let mine = world.path("me");
    let _was_blocked = run(&mine, ["contact", "remove", &people[0]]);
    let app = start(&mine, ["answer", "--via", &world.node]);
    let own = app.first_line();
    assert_eq!(story(&world, &people), alone);
    assert!(
        world
            .says(&["add", &own], 2)
            .contains("that is your own link")
    );
    // The app knows it without being started anew.
    world.says(&["add", &people[1], "--name", "Bob"], 0);
    let message = run(&mine, ["ctl", "message", "Bob", "hello"]).expect_code(0);
    assert!(message.stdout.contains("queued") || message.stdout.contains("waiting"));
    // And it is written: killed, it leaves the same behind.
    let before = world.list();
    app.kill();
    assert_eq!(world.list(), before);
}

#[test]
fn a_locked_profile_that_runs_needs_its_passphrase_for_contacts_only_once() {
    let world = World::new();
    let (mine, ada) = (world.path("me"), world.link("ada"));
    world.link("me");
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
    assert_eq!(world.says(&["add", &ada, "--name", "Ada"], 0), "Ada");
    let listed = world.says(&["list"], 0);
    assert!(listed.starts_with("Ada\tnot verified\tahoy:"), "{listed}");
}
