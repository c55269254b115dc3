//! The life of a person's devices by the commands that a person uses: a new one, a lost one, a stolen one, a forked
//! log, a rolled-back log. Every program is a process of its own.

#![cfg(unix)]

use std::{fs, io::Write as _, path::Path};

use ahoy::identity::Identity;
use ahoy::profile::Profile;
use ahoy_tests::{
    household::Household,
    process::{Running, binary, run, start},
    threat,
};
use ahoy_transport::identity::{DeviceId, log::LogOp};
use serde_json::Value;

/// What calls somebody for a second, and gives up after so many.
fn call_to<'a>(house: &'a Household, whom: &'a str, seconds: &'a str) -> Vec<&'a str> {
    let fixed = [
        "call",
        "--via",
        &house.node,
        whom,
        "--for",
        "1",
        "--timeout",
    ];
    fixed.into_iter().chain([seconds]).collect()
}

/// A link of the device `old`, which lets the first in.
fn pair(house: &Household, old: &str, options: &[&str]) -> (Running, String) {
    let arguments = ["device", "pair", "--via", &house.node].into_iter();
    let pairing = start(&house.path(old), arguments.chain(options.iter().copied()));
    let link = pairing.first_line();
    assert!(link.starts_with("ahoy-pair:"), "{link}");
    (pairing, link)
}

/// `new` becomes a device of the person of `old`.
fn join(house: &Household, old: &str, new: &str) {
    let (pairing, link) = pair(house, old, &["--yes"]);
    let joined = house.run(new, &["device", "join", &link, "--name", new]);
    let joined = joined.expect_code(0);
    assert!(joined.stdout.starts_with("ahoy:"), "{}", joined.stdout);
    let paired = pairing.finish().expect_code(0);
    // Both show the same code.
    let code = |told: &str| -> Option<String> {
        let (_before, after) = told.split_once("the code ")?;
        after.get(..7).map(str::to_owned)
    };
    assert!(code(&joined.stderr).is_some(), "{}", joined.stderr);
    assert_eq!(code(&joined.stderr), code(&paired.stderr));
}

fn devices(house: &Household, name: &str) -> Vec<Value> {
    let listed = house.run(name, &["device", "list", "--json"]);
    let listed = listed.expect_code(0).json();
    listed.as_array().expect("a list").clone()
}

fn identity(house: &Household, name: &str) -> Identity {
    let loaded = Profile::at(house.path(name)).load();
    loaded.expect("it can be read").expect("it is there")
}

fn end(running: Running) {
    running.interrupt();
    let _told = running.finish().expect_code(0);
}

#[test]
fn a_new_device_holds_what_the_old_one_has_and_both_ring() {
    let world = Household::new();
    let (alice, alices_link) = world.answer("alice", &[]);
    end(alice);
    let stranger = world.says("mallory", &["id", "show"]);
    world.says("desk", &["contact", "add", &alices_link, "--name", "Alice"]);
    world.says("desk", &["contact", "verify", "Alice"]);
    world.says("desk", &["contact", "block", &stranger]);
    join(&world, "desk", "phone");

    let list = |name: &str| {
        world
            .run(name, &["contact", "list", "--json"])
            .expect_code(0)
            .json()
    };
    let contact = list("phone")["contacts"][0].clone();
    assert_eq!(contact["name"], "Alice");
    assert_eq!(contact["verified"], true);
    assert_eq!(list("phone")["blocked"], list("desk")["blocked"]);
    for name in ["desk", "phone"] {
        let devices = devices(&world, name);
        assert_eq!(devices.len(), 2, "{devices:?}");
        assert!(devices.iter().any(|device| device["name"] == "phone"));
    }
    let shown = |name: &str| {
        world
            .run(name, &["id", "show", "--json"])
            .expect_code(0)
            .json()
    };
    assert_eq!(shown("phone")["user"], shown("desk")["user"]);
    assert_eq!(shown("phone")["has_root"], false, "the root key stays");
    world.run("phone", &["id", "export"]).expect_code(1);

    // Both ring; one answers, the other stops.
    let (desk, link) = world.answer("desk", &["--once"]);
    let (phone, _same) = world.answer("phone", &["--once"]);
    world.says("alice", &["contact", "add", &link, "--name", "Bob"]);
    let call = ["call", "--via", &world.node, "Bob", "--for", "2", "--json"];
    let alice = start(&world.path("alice"), call);
    for (name, other) in [("desk", "phone"), ("phone", "desk")] {
        let ringing = |name: &str| {
            for _try in 0..200 {
                let status = world.run(name, &["ctl", "status"]).expect_code(0).json();
                if status["call"]["state"] == "ringing_here" {
                    return true;
                }
            }
            false
        };
        assert!(ringing(name), "{name} rings, beside {other}");
    }
    world.run("phone", &["ctl", "accept"]).expect_code(0);
    let called = alice.finish().expect_code(0).json();
    assert_eq!(called["outcome"], "completed");
    assert_eq!(called["security"]["words_committed"], true, "{called:#}");
    desk.wait_stderr("Answered on another of your devices");
    drop((desk, phone));
}

#[test]
fn a_pairing_link_serves_once_in_its_time_and_whoever_was_asked_for() {
    let world = Household::new();
    // Used twice: the second comes when all is done.
    let (pairing, link) = pair(&world, "desk", &["--yes"]);
    world
        .run("phone", &["device", "join", &link])
        .expect_code(0);
    let _paired = pairing.finish().expect_code(0);
    world
        .run("second", &["device", "join", &link])
        .expect_code(3)
        .expect_stderr("nobody waits behind that link");
    assert!(
        Profile::at(world.path("second"))
            .load()
            .expect("readable")
            .is_none()
    );
    // Expired.
    let (pairing, link) = pair(&world, "desk", &["--yes", "--for", "1"]);
    pairing
        .finish()
        .expect_code(6)
        .expect_stderr("the link has expired");
    world
        .run("second", &["device", "join", &link])
        .expect_code(3)
        .expect_stderr("nobody waits behind that link");
    // A wrong secret, of the right form.
    let (pairing, link) = pair(&world, "desk", &["--yes", "--for", "5"]);
    let (scheme, rest) = link.split_once(':').expect("a scheme");
    let first = if rest.starts_with('y') { 'b' } else { 'y' };
    let wrong = format!("{scheme}:{first}{}", &rest[1..]);
    world
        .run("second", &["device", "join", &wrong])
        .expect_code(3)
        .expect_stderr("nobody waits behind that link");
    world
        .run("second", &["device", "join", "ahoy-pair:x"])
        .expect_code(2);
    // Whoever is somebody already does not become another.
    world
        .run("phone", &["device", "join", &link])
        .expect_code(1)
        .expect_stderr("belongs to");
    pairing.finish().expect_code(6);
    // Nobody says yes: no answer on standard input is a no.
    let (pairing, link) = pair(&world, "desk", &[]);
    world
        .run("second", &["device", "join", &link])
        .expect_code(4)
        .expect_stderr("did not let this one in");
    pairing.finish().expect_code(1);
    assert_eq!(devices(&world, "desk").len(), 2, "the first one alone");
}

#[test]
fn without_any_supernode_two_devices_meet_in_their_network() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let pairing = start(&old, ["device", "pair", "--yes", "--lan"]);
    let link = pairing.first_line();
    run(&new, ["device", "join", &link]).expect_code(0);
    pairing.finish().expect_code(0);
    let shown = |home: &Path| run(home, ["id", "show", "--json"]).expect_code(0).json();
    assert_eq!(shown(&new)["user"], shown(&old)["user"]);
    assert_eq!(shown(&new)["devices"], 2);
}

#[test]
fn a_running_app_lets_a_new_device_in_and_takes_a_lost_one_out() {
    let world = Household::new();
    let (desk, _link) = world.answer("desk", &[]);
    join(&world, "desk", "phone");
    assert_eq!(devices(&world, "phone").len(), 2);
    // The app itself uses the longer list: a device that joins there later sees both.
    world
        .run("desk", &["device", "revoke", "nobody"])
        .expect_code(2)
        .expect_stderr("no device of yours");
    let said = world.says("desk", &["device", "revoke", "phone"]);
    assert!(said.ends_with("no longer speaks for you"), "{said}");
    assert_eq!(devices(&world, "desk").len(), 1);
    end(desk);
    assert_eq!(devices(&world, "desk").len(), 1, "and it is saved");
}

#[test]
fn a_stolen_device_keeps_trying_and_reaches_nobody() {
    let world = Household::new();
    let (alice, alices_link) = world.answer("alice", &[]);
    world.says("desk", &["contact", "add", &alices_link, "--name", "Alice"]);
    join(&world, "desk", "phone");
    let (desk, bobs_link) = world.answer("desk", &[]);
    end(alice);
    world.says("alice", &["contact", "add", &bobs_link, "--name", "Bob"]);
    let (alice, _link) = world.answer("alice", &["--auto", "--contacts-only"]);
    end(desk);

    // Before: it speaks for Bob.
    let call = call_to(&world, &alices_link, "5");
    world.run("phone", &call).expect_code(0);
    // Lost, said on the desk.
    let revoke = ["device", "revoke", "phone", "--via", &world.node];
    world.run("desk", &revoke).expect_code(0);
    // It is no client of the home any more: nobody can call it there.
    let stolen = start(
        &world.path("phone"),
        ["answer", "--via", &world.node, "--no-lan"],
    );
    // Bob calls Alice, by which she learns of it.
    world.run("desk", &call).expect_code(0);
    // The thief calls, and calls again.
    let stolen_says = stolen.stdout_lines();
    assert!(stolen_says.is_empty(), "{stolen_says:?}");
    drop(stolen);
    for _try in 0..2 {
        let refused = world.run("phone", &call);
        assert_ne!(refused.code, Some(0), "{}", refused.stderr);
    }
    // And writes.
    let message = ["message", "--via", &world.node, &alices_link, "it is me"];
    let _kept_or_left = world.run("phone", &message);
    end(alice);
    let read = world
        .run("alice", &["messages", "--json"])
        .expect_code(0)
        .json();
    let texts = read.as_array().expect("a list").iter();
    let texts: Vec<_> = texts.filter(|line| line["text"] == "it is me").collect();
    assert!(texts.is_empty(), "{texts:?}");
    threat(
        21,
        "by commands: after revoke and one call, 2 of 2 calls and 1 of 1 letters of the stolen device are refused",
    );
}

/// Two lists that contradict each other, as a thief of the root key would make them.
fn two_stories(folder: &Path) -> (Identity, Identity) {
    let profile = Profile::at(folder);
    let start = profile.load().expect("readable").expect("somebody");
    let story = |n: u8| {
        let mut identity = start.clone();
        let op = LogOp::AddDevice {
            device: DeviceId([n; 32]),
            noise_static: [9; 32],
            sealed_name: Vec::new(),
        };
        // The root may add whom it likes.
        identity.append(op, 1_900_000_000_000).expect("it may");
        identity
    };
    (story(1), story(2))
}

#[test]
fn a_forked_list_is_proved_told_and_verified_offline() {
    let world = Household::new();
    world.says("bob", &["id", "show"]);
    let (one, other) = two_stories(&world.path("bob"));
    let bob = Profile::at(world.path("bob"));
    bob.lock().expect("free").save(&one).expect("saved");
    let (running, bobs_link) = world.answer("bob", &["--auto"]);
    world.says("alice", &["contact", "add", &bobs_link, "--name", "Bob"]);
    world.says("alice", &["contact", "verify", "Bob"]);
    let call = call_to(&world, "Bob", "8");
    // Alice sees the first story.
    world.run("alice", &call).expect_code(0);
    end(running);
    world.run("alice", &["device", "check"]).expect_code(0);
    // And then the second.
    bob.lock().expect("free").save(&other).expect("saved");
    let (running, _link) = world.answer("bob", &["--auto"]);
    world
        .run("alice", &call)
        .expect_code(4)
        .expect_stderr("contradicts the one seen before");
    end(running);
    let listed = world.says("alice", &["device", "check"]);
    assert!(listed.starts_with("Bob\tforked"), "{listed}");
    let contacts = world
        .run("alice", &["contact", "list", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(
        contacts["contacts"][0]["verified"], false,
        "and is not verified any more"
    );
    // The proof convinces somebody who knows neither.
    let proof = world.path("proof").display().to_string();
    world.says("alice", &["device", "check", &proof, "--of", "Bob"]);
    let checked = world.says("carol", &["device", "check", &proof]);
    assert!(checked.starts_with("proved: "), "{checked}");
    let mut bytes = fs::read(&proof).expect("it was written");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&proof, &bytes).expect("it can be changed");
    world
        .run("carol", &["device", "check", &proof])
        .expect_code(4)
        .expect_stderr("proves nothing");
    threat(
        7,
        "by commands: noticed in the first call, told, kept, verified offline; a changed proof is refused",
    );
}

#[test]
fn a_rolled_back_list_does_not_bring_a_device_back() {
    let world = Household::new();
    let (alice, alices_link) = world.answer("alice", &[]);
    world.says("desk", &["contact", "add", &alices_link, "--name", "Alice"]);
    join(&world, "desk", "phone");
    let (desk, bobs_link) = world.answer("desk", &[]);
    end(alice);
    end(desk);
    world.says("alice", &["contact", "add", &bobs_link, "--name", "Bob"]);
    let old = identity(&world, "desk");
    world
        .run("desk", &["device", "revoke", "phone", "--via", &world.node])
        .expect_code(0);
    let (desk, _link) = world.answer("desk", &["--auto"]);
    let call = call_to(&world, "Bob", "5");
    world.run("alice", &call).expect_code(0);
    end(desk);
    // Somebody puts the list of before into the desk's profile: an old backup, or a supernode's game.
    let profile = Profile::at(world.path("desk"));
    profile.lock().expect("free").save(&old).expect("saved");
    assert_eq!(devices(&world, "desk").len(), 2);
    let (desk, _link) = world.answer("desk", &["--auto"]);
    world.run("alice", &call).expect_code(0);
    end(desk);
    // Alice still knows better: the phone is refused.
    let (alice, _link) = world.answer("alice", &["--auto", "--contacts-only"]);
    let refused = world.run("phone", &call_to(&world, &alices_link, "3"));
    assert_ne!(refused.code, Some(0), "{}", refused.stderr);
    end(alice);
    threat(
        8,
        "by commands: a device list from before a revocation brings no device back",
    );
}

/// Everything in a folder, and what is in that.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("it can be read") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it has one").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

#[test]
fn a_home_that_goes_back_to_before_gives_a_stolen_device_nothing() {
    let mut world = Household::new();
    let (desk, alices_link) = world.answer("desk", &[]);
    let (bob, bobs_link) = world.answer("bob", &[]);
    end(desk);
    end(bob);
    world.says("bob", &["contact", "add", &alices_link, "--name", "Alice"]);
    world.says("desk", &["contact", "add", &bobs_link, "--name", "Bob"]);
    join(&world, "desk", "phone");
    let there = |world: &Household, name: &str| world.answer(name, &["--auto", "--no-lan"]).0;
    for name in ["desk", "phone"] {
        end(there(&world, name));
    }
    // Before: what Bob writes waits for both.
    let write = |world: &Household, text: &str| {
        let arguments = ["message", "--via", &world.node, "Alice", text];
        let sent = world.run("bob", &arguments).expect_code(0);
        assert_eq!(sent.stdout, "waits at 1 home until Alice comes online\n");
    };
    write(&world, "come at eight");
    for name in ["phone", "desk"] {
        let running = there(&world, name);
        running.wait_stderr("Bob: come at eight");
        end(running);
    }
    let (node, state, before) = (world.node.clone(), world.path("node"), world.path("before"));
    let at = node.rsplit_once('@').expect("a link").1.to_owned();
    let stop = |world: &mut Household| end(world.take_supernode());
    stop(&mut world);
    copy(&state, &before);
    world.serve(&at, &[]);

    // The phone is stolen, and Bob talks with Alice afterwards.
    let revoke = ["device", "revoke", "phone", "--via", &node];
    world.run("desk", &revoke).expect_code(0);
    let desk = there(&world, "desk");
    world
        .run("bob", &call_to(&world, "Alice", "8"))
        .expect_code(0);
    end(desk);

    // The home forgets all of that, and the thief is let in there.
    stop(&mut world);
    fs::remove_dir_all(&state).expect("it can be removed");
    copy(&before, &state);
    world.serve(&at, &[]);
    assert_eq!(world.node, node);
    let stolen = there(&world, "phone");
    write(&world, "the key is under the mat");
    let refused = world.run("bob", &call_to(&world, "Alice", "5"));
    assert_ne!(refused.code, Some(0), "{}", refused.stderr);
    end(stolen);
    let texts = |name: &str| {
        let read = world
            .run(name, &["messages", "--json"])
            .expect_code(0)
            .json();
        let read = read.as_array().expect("a list").iter();
        let texts = read.filter_map(|line| line["text"].as_str().map(str::to_owned));
        texts.collect::<Vec<String>>()
    };
    assert_eq!(texts("phone"), ["come at eight"]);
    let desk = there(&world, "desk");
    desk.wait_stderr("Bob: the key is under the mat");
    end(desk);
    threat(
        21,
        "by commands: by a home that was put back to before, 0 of 1 calls and 0 of 1 letters reach a device that was taken out",
    );
}

/// Runs `ahoy` with something typed.
fn typed(home: &Path, arguments: &[&str], input: &str) -> std::process::Output {
    let mut command = std::process::Command::new(binary());
    command.arg("--home").arg(home).args(arguments);
    command.env_remove("AHOY_HOME").env_remove("RUST_LOG");
    let piped = std::process::Stdio::piped;
    let child = command.stdin(piped()).stdout(piped()).stderr(piped());
    let mut child = child.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn whoever_takes_new_keys_or_comes_back_from_a_backup_is_called_as_before() {
    let world = Household::new();
    let (desk, bobs_link) = world.answer("desk", &["--auto"]);
    world.says("alice", &["contact", "add", &bobs_link, "--name", "Bob"]);
    world.says("alice", &["contact", "verify", "Bob"]);
    let call = [call_to(&world, "Bob", "8"), vec!["--json"]].concat();
    world.run("alice", &call).expect_code(0);
    end(desk);
    // New keys: the same person, still verified.
    let before = devices(&world, "desk")[0]["id"].clone();
    world.says("desk", &["device", "rotate"]);
    assert_ne!(devices(&world, "desk")[0]["id"], before);
    let (desk, _link) = world.answer("desk", &["--auto"]);
    let called = world.run("alice", &call).expect_code(0).json();
    assert_eq!(called["security"]["verified"], true, "{called:#}");
    end(desk);
    // The desk burns; what was written down comes back elsewhere.
    let file = world.path("kept.ahoy").display().to_string();
    let passphrase = "five words that nobody knows\n";
    let kept = typed(&world.path("desk"), &["backup", &file], passphrase);
    assert!(kept.status.success(), "{kept:?}");
    fs::remove_dir_all(world.path("desk")).expect("it burns");
    let wrong = typed(&world.path("new"), &["restore", &file], "five words\n");
    assert_eq!(wrong.status.code(), Some(4));
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(said.contains("not the passphrase"), "{said}");
    let restored = typed(&world.path("new"), &["restore", &file], passphrase);
    assert!(restored.status.success(), "{restored:?}");
    let (new, _link) = world.answer("new", &["--auto"]);
    let called = world.run("alice", &call).expect_code(0).json();
    assert_eq!(called["security"]["verified"], true, "{called:#}");
    end(new);
}
