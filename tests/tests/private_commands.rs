//! `ahoy network` as a family uses it: a network is made, people are let in by links, one of them is sent away. Every program a
//! process of its own.

use std::path::{Path, PathBuf};

use ahoy_tests::process::{Finished, Running, run, start};
use tempfile::TempDir;

struct Family {
    folder: TempDir,
    first: Running,
    second: Running,
    /// Links of both.
    nodes: [String; 2],
}

fn one_line(finished: Finished) -> String {
    let finished = finished.expect_code(0);
    finished.stdout.trim_end().to_owned()
}

fn serve(home: &Path, network: Option<&str>) -> (Running, String) {
    let mut arguments = vec!["supernode", "--listen", "127.0.0.1:0", "--print-link"];
    arguments.extend(network.iter().flat_map(|name| ["--network", name]));
    let running = start(home, arguments);
    let link = running.first_line();
    (running, link)
}

impl Family {
    /// Whoever makes the network runs its first supernode; the second one has been let in.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = |name: &str| folder.path().join(name);
        run(&path("owner"), ["network", "new", "Smith family"]).expect_code(0);
        let (first, one) = serve(&path("owner"), Some("Smith family"));
        let invite = ["network", "invite", "cellar", "--supernode", "--node", &one];
        let link = one_line(run(&path("owner"), invite));
        run(&path("cellar"), ["network", "join", &link]).expect_code(0);
        let (second, two) = serve(&path("cellar"), Some("Smith family"));
        Self {
            folder,
            first,
            second,
            nodes: [one, two],
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn invite(&self, who: &str) -> String {
        let [one, two] = &self.nodes;
        let invite = ["network", "invite", who, "--node", one, "--node", two];
        one_line(run(&self.path("owner"), invite))
    }

    fn let_in(&self, who: &str) -> String {
        let link = self.invite(who);
        let joined = run(&self.path(who), ["network", "join", &link]).expect_code(0);
        let said = "this profile is a device of Smith family for 365 days from now\n";
        assert_eq!(joined.stdout, said);
        link
    }

    fn call(&self, who: &str, whom: &str, more: &[&str]) -> Finished {
        let call = ["call", whom, "--for", "0.3", "--timeout", "8"];
        run(&self.path(who), call.iter().chain(more))
    }
}

#[test]
fn a_family_calls_each_other_by_its_own_supernodes_and_nobody_else_does() {
    let family = Family::new();
    let _link = family.let_in("alice");
    let bobs = family.let_in("bob");
    let bob = start(&family.path("bob"), ["answer", "--auto"]);
    let link = bob.first_line();
    let _talked = family.call("alice", &link, &[]).expect_code(0);

    // Whoever has no invite, by a supernode of the family and by one for everybody.
    let refused = "it serves a private network only: ask for an invite, and `ahoy network join` it";
    let [one, _] = &family.nodes;
    let (_public, public) = serve(&family.path("public"), None);
    for via in [one, &public] {
        let told = family.call("eve", &link, &["--via", via]).expect_code(4);
        let told = told.expect_stderr("is in a private network, and this device is not let in");
        let _told = told.expect_stderr(refused);
    }
    // Somebody found the link in Bob's mail.
    run(&family.path("mallory"), ["network", "join", &bobs]).expect_code(0);
    let taken = family.call("mallory", &link, &[]).expect_code(4);
    let _told = taken.expect_stderr("was used by somebody else before");
    // A member goes nowhere else, whatever is named.
    let only = ["--via", &public, "--path", "relay"];
    let _talked = family.call("alice", &link, &only).expect_code(0);

    // Bob's device is lost.
    let told = run(&family.path("owner"), ["network", "revoke", "bob"]).expect_code(0);
    assert!(
        told.stdout
            .ends_with("is taken back: 2 of 2 supernodes told\n"),
        "{}",
        told.stdout
    );
    bob.wait_stderr("your invite to the private network was taken back");
    let _offline = family.call("alice", &link, &[]).expect_code(3);
    let listed = one_line(run(&family.path("owner"), ["network"]));
    let line = |who: &str| listed.lines().find(|line| line.contains(who));
    assert!(line("bob").is_some_and(|line| line.ends_with("taken back")));
    assert!(line("alice").is_some_and(|line| line.ends_with("365 days left")));

    // Somebody comes for a few days.
    let [one, _two] = &family.nodes;
    let short = ["network", "invite", "guest", "--node", one, "--for", "3"];
    let link = one_line(run(&family.path("owner"), short));
    run(&family.path("guest"), ["network", "join", &link]).expect_code(0);
    let shown = |name: &str| run(&family.path(name), ["network"]).expect_code(0).stdout;
    let owners = shown("owner");
    let ends: Vec<&str> = owners
        .lines()
        .filter(|line| line.ends_with("ends soon"))
        .collect();
    assert!(ends.len() == 1 && ends[0].contains("guest"), "{owners}");
    let guests = shown("guest");
    assert!(
        guests
            .lines()
            .any(|line| line.contains("3 days left: ends soon")),
        "{guests}"
    );
    let listed_json = ["network", "list", "--json"];
    let json = run(&family.path("guest"), listed_json)
        .expect_code(0)
        .json();
    assert_eq!(json["ends_soon"], true);
    let guest = start(&family.path("guest"), ["answer", "--auto"]);
    guest.wait_stderr("Your invite to the private network ends in 3 days");
    drop(guest);

    // After a restart they know it still, although the owner is not asked.
    let Family {
        folder,
        first,
        second,
        nodes,
    } = family;
    first.interrupt();
    first.finish().expect_code(0);
    let cellar = folder.path().join("cellar");
    second.kill();
    let at = nodes[1].rsplit_once('@').expect("a link").1;
    let again = ["supernode", "--listen", at, "--network", "Smith family"];
    let again = start(&cellar, again.iter().chain(&["--print-link"]));
    assert_eq!(again.first_line(), nodes[1]);
    drop(bob);
    let bob = start(&folder.path().join("bob"), ["answer", "--auto"]);
    bob.wait_stderr("your invite to the private network was taken back");
}

#[test]
fn what_cannot_be_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = |name: &str| folder.path().join(name);
    let told = |name: &str, arguments: &[&str], code: i32, sentence: &str| {
        let _told = run(&path(name), arguments)
            .expect_code(code)
            .expect_stderr(sentence);
    };
    told("a", &["network"], 2, "is in no private network");
    told(
        "a",
        &["network", "join", "ahoy:x"],
        2,
        "no invite to a private network",
    );
    run(&path("a"), ["network", "new", "A"]).expect_code(0);
    told(
        "a",
        &["network", "new", "B"],
        2,
        "is in the network \"A\" already",
    );
    told(
        "a",
        &["network", "invite"],
        2,
        "a device has to know where to begin",
    );
    told("a", &["network", "leave"], 2, "say --for-good");
    told(
        "a",
        &["network", "revoke", "Nobody"],
        2,
        "no invite is called",
    );
    let serve = |network| ["supernode", "--listen", "127.0.0.1:0", "--network", network];
    told(
        "a",
        &serve("B"),
        2,
        "belongs to the network \"A\", not to \"B\"",
    );
    told("b", &serve("A"), 2, "belongs to no private network");
    let node = "ahoy-node:8su9penmojgm7u5d8cmi54tduysc3tdw5866snbczx5caqkaxzwy@127.0.0.1:9";
    let link = one_line(run(&path("a"), ["network", "invite", "b", "--node", node]));
    let cut = &link[..link.len() - 3];
    told(
        "b",
        &["network", "join", cut],
        2,
        "the invite cannot be used",
    );
    run(&path("b"), ["network", "join", &link]).expect_code(0);
    told("b", &serve("A"), 2, "is for a device");
    told("b", &["network", "invite"], 1, "does not hold the key");
    // What was given away is secret: nothing of it stands in the clear.
    let settings = std::fs::read_to_string(path("b").join("settings.toml")).unwrap_or_default();
    assert!(!settings.contains("network ="), "{settings}");
    told(
        "a",
        &["network", "revoke", "b"],
        3,
        "no supernode could be told",
    );
}
