//! `ahoy message` and `ahoy messages` as people and scripts use them: every program a process of its own, the reader
//! one that is not there when it is written to.

use std::path::PathBuf;

use ahoy_tests::process::{Running, run, start};
use serde_json::Value;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    supernode: Running,
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
            supernode,
            node,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Somebody waits for calls; comes with their link.
    fn answer(&self, name: &str) -> (Running, String) {
        let answering = start(&self.path(name), ["answer", "--via", &self.node]);
        let link = answering.first_line();
        (answering, link)
    }

    fn add(&self, name: &str, link: &str, called: &str) {
        let arguments = ["contact", "add", link, "--name", called];
        let added = run(&self.path(name), arguments).expect_code(0);
        assert_eq!(added.stdout, format!("{called}\n"));
    }

    fn messages(&self, name: &str) -> Vec<Value> {
        let listed = run(&self.path(name), ["messages", "--json"]).expect_code(0);
        listed.json().as_array().expect("a list").clone()
    }
}

#[test]
fn a_message_waits_for_somebody_who_is_off_and_its_sender_learns_that_it_arrived() {
    let world = World::new();
    let (bob, bobs_link) = world.answer("bob");
    let (alice, alices_link) = world.answer("alice");
    for running in [bob, alice] {
        running.interrupt();
        let ended = running.finish().expect_code(0);
        assert!(!ended.stdout.is_empty());
    }
    world.add("alice", &bobs_link, "Bob");
    world.add("bob", &alices_link, "Alice");

    let message = ["message", "--via", &world.node, "bob", "come at eight"];
    let sent = run(&world.path("alice"), message).expect_code(0);
    assert_eq!(sent.stdout, "waits at 1 home until Bob comes online\n");
    let lines = world.messages("alice");
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["state"], &lines[0]["homes"]),
        (&"waiting".into(), &1.into())
    );

    // Bob comes, and is told; what he has is there although he is killed at once.
    let (bob, _) = world.answer("bob");
    bob.wait_stderr("Alice: come at eight");
    bob.kill();
    let lines = world.messages("bob");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["text"], "come at eight");
    assert_eq!(lines[0]["name"], "Alice");
    assert!(lines[0].get("state").is_none());

    // He is killed before he could say that he has it, perhaps; when he comes again he does.
    let (bob, _) = world.answer("bob");
    let (alice, _) = world.answer("alice");
    let mut reported = false;
    for _ in 0..60 {
        reported = world.messages("alice")[0]["state"] == "delivered";
        if reported {
            break;
        }
    }
    assert!(reported, "{:?}", world.messages("alice"));
    // Both are there: through the running app, as it says itself.
    let message = ["message", "Bob", "or at nine"];
    let sent = run(&world.path("alice"), message).expect_code(0);
    assert_eq!(sent.stdout, "delivered\n");
    bob.wait_stderr("Alice: or at nine");
    let listed = run(&world.path("bob"), ["messages", "alice"]).expect_code(0);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].ends_with("  Alice: or at nine"), "{lines:?}");
    let answer = run(
        &world.path("bob"),
        ["ctl", "message", "Alice", "nine is fine"],
    );
    let answer = answer.expect_code(0).json();
    assert_eq!(answer["message"]["state"], "delivered", "{answer:#}");
    alice.wait_stderr("Bob: nine is fine");
}

/// What waits at a supernode is there after that was killed and started again.
#[test]
fn a_restarted_supernode_still_has_what_waits() {
    let world = World::new();
    let (bob, bobs_link) = world.answer("bob");
    let (alice, alices_link) = world.answer("alice");
    for running in [bob, alice] {
        running.interrupt();
        running.finish().expect_code(0);
    }
    world.add("alice", &bobs_link, "Bob");
    world.add("bob", &alices_link, "Alice");
    let message = ["message", "--via", &world.node, "bob", "come at eight"];
    let sent = run(&world.path("alice"), message).expect_code(0);
    assert_eq!(sent.stdout, "waits at 1 home until Bob comes online\n");
    let (_key, at) = world.node.rsplit_once('@').expect("a link");
    let at = at.to_owned();
    let arguments = ["supernode", "--listen", &at, "--print-link"];
    let World {
        folder,
        supernode,
        node,
    } = world;
    supernode.interrupt();
    supernode.finish().expect_code(0);
    let again = start(&folder.path().join("node"), arguments);
    assert_eq!(again.first_line(), node);
    let bob = start(&folder.path().join("bob"), ["answer", "--via", &node]);
    bob.wait_stderr("Alice: come at eight");
    // Alice is off: her copy did not go once more.
    bob.interrupt();
    again.kill();
}

#[test]
fn what_cannot_be_left_is_kept_and_goes_later() {
    let world = World::new();
    // Carol has never been anywhere.
    let carol = run(&world.path("carol"), ["id", "show"]).expect_code(0);
    let carol = carol.stdout.lines().next().expect("her link").to_owned();
    let alice = world.path("alice");
    let message = ["message", "--via", &world.node, &carol, "hello?"];
    let kept = run(&alice, message).expect_code(3);
    let kept = kept
        .expect_stderr("no home keeps a mailbox")
        .expect_stderr("it is kept here");
    assert_eq!(kept.stdout, "");
    let lines = world.messages("alice");
    assert_eq!(lines[0]["state"], "queued", "{lines:?}");
    let (carol, link) = world.answer("carol");
    let (_alice, _) = world.answer("alice");
    carol.wait_stderr("somebody unknown wrote");
    // Nothing can be said to nobody, and nobody can be said nothing.
    run(&alice, ["message", "Nobody", "hello"]).expect_code(2);
    run(&alice, ["message", &link, " "]).expect_code(2);
    run(&alice, ["message", &link, &"x".repeat(4097)]).expect_code(2);
    // A call in vain is told later, though the caller's program ends at once.
    let (dora, doras_link) = world.answer("dora");
    dora.interrupt();
    let _ended = dora.finish().expect_code(0);
    let call = ["call", "--via", &world.node, &doras_link];
    let called = run(&world.path("emil"), call).expect_code(3);
    let _said = called.expect_stderr("online");
    let (dora, _) = world.answer("dora");
    dora.wait_stderr("somebody unknown wrote");
    let lines = world.messages("dora");
    assert_eq!(lines[0]["kind"], "missed_call", "{lines:?}");
    // To a stranger, however often, and whoever it is that listens: it waits, and no more is said.
    let sent = run(&alice, ["message", &link, "it is me"]).expect_code(0);
    assert!(
        sent.stdout.starts_with("waits at 1 home until "),
        "{}",
        sent.stdout
    );
    drop(world.supernode);
}
