//! `ahoy message` and `ahoy messages` as people and scripts use them: every program a process of its own, the reader
//! one that is not there when it is written to.

use ahoy_tests::household::Household;
use ahoy_tests::process::run;
use serde_json::Value;

fn add(house: &Household, name: &str, link: &str, called: &str) {
    let arguments = ["contact", "add", link, "--name", called];
    let added = house.run(name, &arguments).expect_code(0);
    assert_eq!(added.stdout, format!("{called}\n"));
}

fn messages(house: &Household, name: &str) -> Vec<Value> {
    let listed = house.run(name, &["messages", "--json"]).expect_code(0);
    listed.json().as_array().expect("a list").clone()
}

#[test]
fn a_message_waits_for_somebody_who_is_off_and_its_sender_learns_that_it_arrived() {
    let world = Household::new();
    let (bob, bobs_link) = world.answer("bob", &[]);
    let (alice, alices_link) = world.answer("alice", &[]);
    for running in [bob, alice] {
        running.interrupt();
        let ended = running.finish().expect_code(0);
        assert!(!ended.stdout.is_empty());
    }
    add(&world, "alice", &bobs_link, "Bob");
    add(&world, "bob", &alices_link, "Alice");

    let message = ["message", "--via", &world.node, "bob", "come at eight"];
    let sent = world.run("alice", &message).expect_code(0);
    assert_eq!(sent.stdout, "waits at 1 home until Bob comes online\n");
    let lines = messages(&world, "alice");
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["state"], &lines[0]["homes"]),
        (&"waiting".into(), &1.into())
    );

    // Bob comes, and is told; what he has is there although he is killed at once.
    let (bob, _) = world.answer("bob", &[]);
    bob.wait_stderr("Alice: come at eight");
    bob.kill();
    let lines = messages(&world, "bob");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["text"], "come at eight");
    assert_eq!(lines[0]["name"], "Alice");
    assert!(lines[0].get("state").is_none());

    // He is killed before he could say that he has it, perhaps; when he comes again he does.
    let (bob, _) = world.answer("bob", &[]);
    let (alice, _) = world.answer("alice", &[]);
    let mut reported = false;
    for _ in 0..60 {
        reported = messages(&world, "alice")[0]["state"] == "delivered";
        if reported {
            break;
        }
    }
    assert!(reported, "{:?}", messages(&world, "alice"));
    // Both are there: through the running app, as it says itself.
    let message = ["message", "Bob", "or at nine"];
    let sent = world.run("alice", &message).expect_code(0);
    assert_eq!(sent.stdout, "delivered\n");
    bob.wait_stderr("Alice: or at nine");
    let listed = world.run("bob", &["messages", "alice"]).expect_code(0);
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
    let mut world = Household::new();
    let (bob, bobs_link) = world.answer("bob", &[]);
    let (alice, alices_link) = world.answer("alice", &[]);
    for running in [bob, alice] {
        running.interrupt();
        running.finish().expect_code(0);
    }
    add(&world, "alice", &bobs_link, "Bob");
    add(&world, "bob", &alices_link, "Alice");
    let message = ["message", "--via", &world.node, "bob", "come at eight"];
    let sent = world.run("alice", &message).expect_code(0);
    assert_eq!(sent.stdout, "waits at 1 home until Bob comes online\n");
    let (_key, at) = world.node.rsplit_once('@').expect("a link");
    let (node, at) = (world.node.clone(), at.to_owned());
    let supernode = world.take_supernode();
    supernode.interrupt();
    supernode.finish().expect_code(0);
    world.serve(&at, &[]);
    assert_eq!(world.node, node);
    let (bob, _link) = world.answer("bob", &[]);
    bob.wait_stderr("Alice: come at eight");
    // Alice is off: her copy did not go once more.
    bob.interrupt();
}

#[test]
fn what_cannot_be_left_is_kept_and_goes_later() {
    let world = Household::new();
    // Carol has never been anywhere.
    let carol = world.run("carol", &["id", "show"]).expect_code(0);
    let carol = carol.stdout.lines().next().expect("her link").to_owned();
    let alice = world.path("alice");
    let message = ["message", "--via", &world.node, &carol, "hello?"];
    let kept = run(&alice, message).expect_code(3);
    let kept = kept
        .expect_stderr("no home keeps a mailbox")
        .expect_stderr("it is kept here");
    assert_eq!(kept.stdout, "");
    let lines = messages(&world, "alice");
    assert_eq!(lines[0]["state"], "queued", "{lines:?}");
    let (carol, link) = world.answer("carol", &[]);
    let (_alice, _) = world.answer("alice", &[]);
    carol.wait_stderr("somebody unknown wrote");
    // Nothing can be said to nobody, and nobody can be said nothing.
    run(&alice, ["message", "Nobody", "hello"]).expect_code(2);
    run(&alice, ["message", &link, " "]).expect_code(2);
    run(&alice, ["message", &link, &"x".repeat(4097)]).expect_code(2);
    // A call in vain is told later, though the caller's program ends at once.
    let (dora, doras_link) = world.answer("dora", &[]);
    dora.interrupt();
    let _ended = dora.finish().expect_code(0);
    let call = ["call", "--via", &world.node, &doras_link];
    let called = world.run("emil", &call).expect_code(3);
    let _said = called.expect_stderr("online");
    let (dora, _) = world.answer("dora", &[]);
    dora.wait_stderr("somebody unknown wrote");
    let lines = messages(&world, "dora");
    assert_eq!(lines[0]["kind"], "missed_call", "{lines:?}");
    // To a stranger, however often, and whoever it is that listens: it waits, and no more is said.
    let sent = run(&alice, ["message", &link, "it is me"]).expect_code(0);
    assert!(
        sent.stdout.starts_with("waits at 1 home until "),
        "{}",
        sent.stdout
    );
    drop(world);
}
