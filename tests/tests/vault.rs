//! What a stolen profile tells, and what a kill, a full disk and age do to one: by commands as people and scripts use them.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{collections::BTreeSet, ffi::OsStr, fs, path::Path, time::Duration};

use ahoy::{
    chat::book::ChatBook,
    passphrase::{self, Cost},
    profile::Profile,
    settings::Settings,
    store::Store,
    vault::{Protection, checksum},
};
use ahoy_tests::household::Household;
use ahoy_tests::process::{Finished, Running, binary, run, start, start_in};
use rand_chacha::{ChaCha20Rng, rand_core::RngCore as _, rand_core::SeedableRng as _};
use tempfile::TempDir;

const PASSPHRASE: &str = "five words that nobody knows";
/// Guesses in a second that a core may make at a passphrase.
const MOST_GUESSES: f64 = 20.0;
/// Made by the last version that had no vault: Ada, who called and wrote to Bob, and blocked somebody.
const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/before-the-vault");
const ADA_BEFORE: &str = "gg48zx9x56yu8cgs8n4qxg6o1ym1ou6ubojmbwm6ywd5en7qmmbo";
const BOB_BEFORE: &str = "wt6smf94qzryfy4rzsk5s99z9zkuyc5xorycu19jirpxraursqqo";
const BLOCKED_BEFORE: &str = "zbai8kjtqwmft7ps4c43e9184cc51jwe7yefhuip9ycx4xn9z13y";

/// Runs a command with these variables.
fn run_in(home: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let environment = environment
        .iter()
        .map(|(name, value)| (OsStr::new(*name), OsStr::new(*value)));
    start_in(home, environment, arguments).finish()
}

fn copy_of(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Every byte of a folder and of those in it, by file.
fn image(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            let inner = image(&entry.path());
            files.extend(
                inner
                    .into_iter()
                    .map(|(file, bytes)| (format!("{name}/{file}"), bytes)),
            );
        } else if kind.is_file() {
            files.push((name, fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

/// What must not be found, in all the ways in which somebody may have written it.
#[derive(Default)]
struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    fn add(&mut self, what: &str, bytes: &[u8]) {
        let mut add = |how: &str, bytes: Vec<u8>| self.0.push((format!("{what}, {how}"), bytes));
        add("raw", bytes.to_ascii_lowercase());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        add("hex", hex.into_bytes());
        const RFC: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        const Z: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
        add("base32", digits(bytes, 5, RFC));
        add("z-base-32", digits(bytes, 5, Z));
        const B64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        // Wherever it begins among the others.
        for at in 0..3 {
            let padded = [&vec![0; at][..], bytes].concat();
            let text = digits(&padded, 6, B64);
            add("base64", text[at * 2..].to_ascii_lowercase());
        }
    }

    fn found(&self, image: &[(String, Vec<u8>)]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (file, bytes) in image {
            let lower = bytes.to_ascii_lowercase();
            for (what, canary) in &self.0 {
                if lower.windows(canary.len()).any(|window| window == canary) {
                    found.insert(format!("{what}, in {file}"));
                }
            }
        }
        found
    }
}

/// Whole digits of `bits` bits each; what is left at the end is left out.
fn digits(bytes: &[u8], bits: usize, alphabet: &[u8]) -> Vec<u8> {
    let bit = |at: usize| usize::from(bytes[at / 8] >> (7 - at % 8) & 1);
    let whole = bytes.len() * 8 / bits;
    let digit = |nth: usize| (0..bits).fold(0, |value, at| value << 1 | bit(nth * bits + at));
    (0..whole).map(|nth| alphabet[digit(nth)]).collect()
}

/// Ada's life: a name, a home, a contact, somebody blocked, a call and messages in both directions. Gives back what must
/// not be found in her profile. `locked` says whether a passphrase is set before any of it.
fn a_life(world: &Household, environment: &[(&str, &str)], locked: bool) -> Canaries {
    let home = world.path("ada");
    let ada = |arguments: &[&str]| run_in(&home, environment, arguments);
    ada(&["id"]).expect_code(0);
    if locked {
        ada(&["lock", "on"]).expect_code(0);
    }
    let settings = format!(
        "name = \"Ada Canarina\"\nhomes = [\"{}\"]\nnoise_suppression = false\n",
        world.node
    );
    fs::write(home.join("settings.toml"), settings).unwrap();
    let bob = start(
        &world.path("bob"),
        ["answer", "--auto", "--via", &world.node],
    );
    let bobs_link = bob.first_line();
    ada(&["contact", "add", &bobs_link, "--name", "Bob Canary"]).expect_code(0);
    let stranger = world.run("stranger", &["id"]).expect_code(0).stdout;
    ada(&["contact", "block", stranger.trim()]).expect_code(0);
    ada(&["call", "Bob Canary", "--for", "0.3"]).expect_code(0);
    ada(&["message", "Bob Canary", "the canary sings at noon"]).expect_code(0);

    // She is there herself, is called and written to, and then the device is taken from her.
    let variables = environment
        .iter()
        .map(|(name, value)| (OsStr::new(*name), OsStr::new(*value)));
    let answering = start_in(&home, variables, ["answer", "--auto"]);
    let link = answering.first_line();
    let as_bob = |arguments: &[&str]| world.run("bob", arguments).expect_code(0);
    let said = as_bob(&["message", &link, "and a canary answers"]);
    assert!(!said.stdout.is_empty());
    answering.wait_stderr("and a canary answers");
    answering.kill();
    drop(bob);

    let profile = Profile::at(&home);
    if profile.is_locked().unwrap() {
        profile.unlock(PASSPHRASE).unwrap();
    }
    let identity = profile.load().unwrap().unwrap();
    let bob = Profile::at(world.path("bob")).load().unwrap().unwrap();
    let stranger = Profile::at(world.path("stranger")).load().unwrap().unwrap();
    let mut canaries = Canaries::default();
    for text in [
        "Ada Canarina",
        "Bob Canary",
        "the canary sings at noon",
        "and a canary answers",
    ] {
        canaries.add(text, text.as_bytes());
    }
    canaries.add("her user key", &identity.user().0);
    canaries.add("her device key", &identity.device().id().0);
    canaries.add("her root key", &*identity.root().unwrap().seed());
    canaries.add("her Noise key", &identity.device().noise_public());
    canaries.add("Bob's user key", &bob.user().0);
    canaries.add("Bob's device key", &bob.device().id().0);
    canaries.add("the key of whom she blocked", &stranger.user().0);
    let node = world.node.strip_prefix("ahoy-node:").unwrap();
    canaries.add("her home", &node.as_bytes()[..52]);
    canaries
}

/// Everything that a program may write outside of its profile goes there.
const ELSEWHERE: [&str; 7] = [
    "HOME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
];

#[test]
fn the_profile_of_a_locked_device_tells_nothing() {
    let world = Household::new();
    let file = world.file("passphrase", &format!("{PASSPHRASE}\n"));
    let machine = world.path("machine");
    fs::create_dir(&machine).unwrap();
    let machine = machine.to_str().unwrap();
    let mut environment = ELSEWHERE.map(|name| (name, machine)).to_vec();
    environment.push(("AHOY_PASSPHRASE_FILE", &file));
    let canaries = a_life(&world, &environment, true);
    let mut image = image(&world.path("ada"));
    image.extend(self::image(Path::new(machine)));
    let found = canaries.found(&image);
    assert!(found.is_empty(), "{found:#?}");
    let profile = Profile::at(world.path("ada"));
    let Some(Protection::Passphrase(cost)) = profile.protection().unwrap() else {
        panic!("it opens by a passphrase");
    };
    // What a guess costs is in the file; how long that takes is told, and depends on who else works here.
    assert!(cost.memory_kib >= 64 * 1024 && cost.passes >= 3);
    let took = how_long(cost);
    let guesses = 1.0 / took.as_secs_f64();
    assert!(guesses < MOST_GUESSES, "{guesses}");
    // Any cost is not enough.
    let cheap = Cost {
        memory_kib: 256,
        passes: 1,
    };
    assert!(1.0 / how_long(cheap).as_secs_f64() > MOST_GUESSES);
    let bytes: usize = image.iter().map(|(_file, bytes)| bytes.len()).sum();
    ahoy_tests::threat(
        20,
        format!(
            "0 of {} canaries in {bytes} bytes of {} files; a guess takes {} MiB, {} passes, {:.1} a second and core here",
            canaries.0.len(),
            image.len(),
            cost.memory_kib / 1024,
            cost.passes,
            guesses
        ),
    );
}

#[expect(clippy::disallowed_methods, reason = "tells how long a guess takes")]
fn how_long(cost: Cost) -> Duration {
    let began = std::time::Instant::now();
    passphrase::key(PASSPHRASE, &[0; 16], cost).unwrap();
    began.elapsed()
}

#[test]
fn without_the_vault_the_profile_tells_everything() {
    let world = Household::new();
    let canaries = a_life(&world, &[("AHOY_VAULT", "off")], false);
    let found = canaries.found(&image(&world.path("ada")));
    // Each of them, in one way or the other.
    for what in [
        "Ada Canarina",
        "Bob Canary",
        "sings at noon",
        "answers",
        "user key",
        "device key",
        "root key",
        "Bob's user key",
        "blocked",
        "her home",
    ] {
        assert!(
            found.iter().any(|one| one.contains(what)),
            "{what}: {found:#?}"
        );
    }
}

#[test]
fn a_profile_with_a_passphrase_works_by_every_command_and_by_none_without_it() {
    let world = Household::new();
    let file = world.file("passphrase", PASSPHRASE);
    let wrong = world.file("wrong", "five words that somebody knows");
    let ada = world.path("ada");
    let link = run(&ada, ["id"]).expect_code(0).stdout;
    run(&ada, ["lock", "on", "--passphrase-file", &file]).expect_code(0);
    let before = image(&ada);
    for command in [
        &["id"][..],
        &["contact"],
        &["device"],
        &["messages"],
        &["answer", "--via", &world.node],
        &["call", "somebody", "--via", &world.node],
        &["lock", "off"],
        &["lock", "change"],
    ] {
        let refused = run(&ada, command).expect_code(4);
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
        assert!(refused.stderr.contains("--passphrase-file"), "{refused:?}");
        let mut with_wrong = command.to_vec();
        with_wrong.extend(["--passphrase-file", &wrong]);
        let refused = run(&ada, with_wrong).expect_code(4);
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
        assert!(refused.stderr.contains("not the passphrase"), "{refused:?}");
    }
    assert_eq!(image(&ada), before, "nothing was changed");
    // What needs nothing of it.
    run(&ada, ["lock", "status"]).expect_code(0);

    let variables = [(OsStr::new("AHOY_PASSPHRASE_FILE"), OsStr::new(&file))];
    let answering = start_in(
        &ada,
        variables,
        ["answer", "--auto", "--once", "--via", &world.node],
    );
    let there = answering.first_line();
    assert!(there.starts_with(link.trim()), "{there}");
    run(&ada, ["ctl", "status"]).expect_code(0);
    let called = world.run("bob", &["call", &there, "--for", "0.3"]);
    called.expect_code(0);
    answering.finish().expect_code(0);
    run(&ada, ["lock", "off", "--passphrase-file", &file]).expect_code(0);
    assert_eq!(run(&ada, ["id"]).expect_code(0).stdout, link);
}

/// What the fixture holds, however it is sealed.
fn expect_ada_before(home: &Path, environment: &[(&str, &str)]) {
    let ada = |arguments: &[&str]| run_in(home, environment, arguments).expect_code(0);
    let link = format!("ahoy:{ADA_BEFORE}?name=Ada%20Lovelace\n");
    assert_eq!(ada(&["id"]).stdout, link);
    let contacts = ada(&["contact", "list", "--json"]).json();
    assert_eq!(contacts["contacts"][0]["name"], "Bob Canary");
    let link = contacts["contacts"][0]["link"].as_str().unwrap();
    assert!(link.contains(BOB_BEFORE), "{link}");
    assert_eq!(contacts["blocked"][0], format!("ahoy:{BLOCKED_BEFORE}"));
    let messages = ada(&["messages", "--json"]).json();
    assert_eq!(messages[0]["text"], "meet me at the canary wharf");
    assert_eq!(messages[0]["state"], "waiting");
    let settings = fs::read_to_string(home.join("settings.toml")).unwrap();
    assert!(settings.contains("noise_suppression = false"), "{settings}");
}

#[test]
fn a_profile_from_before_the_vault_is_sealed_and_nothing_is_left_of_it() {
    let folder = TempDir::new().unwrap();
    let home = folder.path().join("ada");
    copy_of(Path::new(BEFORE), &home);
    let mut canaries = Canaries::default();
    let identity = Profile::at(&home).load().unwrap().unwrap();
    canaries.add("root key", &*identity.root().unwrap().seed());
    canaries.add("user key", &identity.user().0);
    for text in [
        "Ada Lovelace",
        "Bob Canary",
        "meet me at the canary wharf",
        BOB_BEFORE,
    ] {
        canaries.add(text, text.as_bytes());
    }
    assert!(canaries.found(&image(&home)).len() >= 6, "they are there");
    // As long as nothing is to be sealed, nothing is.
    expect_ada_before(&home, &[("AHOY_VAULT", "off")]);
    assert!(canaries.found(&image(&home)).len() >= 6);
    for _ in 0..2 {
        expect_ada_before(&home, &[]);
        let found = canaries.found(&image(&home));
        assert!(found.is_empty(), "{found:#?}");
    }
    let status = run(&home, ["lock"]).expect_code(0).stdout;
    assert!(status.contains("key file"), "{status}");
}

/// Kills a command between any two things that it does to files, and looks each time whether the profile is as it was
/// before or as it is afterwards: at every step, or at one of `stride`. Gives back how many kills that took.
fn kill_at_every_step(
    prepared: &Path,
    environment: &[(&str, &str)],
    command: &[&str],
    stride: usize,
    expect: impl Fn(&Path),
) -> usize {
    for (kills, step) in (1..500).step_by(stride).enumerate() {
        let folder = TempDir::new().unwrap();
        let home = folder.path().join("profile");
        copy_of(prepared, &home);
        let at = step.to_string();
        let mut variables = environment.to_vec();
        variables.push(("AHOY_DIE_AT_STEP", &at));
        let ended = run_in(&home, &variables, command);
        expect(&home);
        if ended.code.is_some() {
            ended.expect_code(0);
            return kills;
        }
    }
    panic!("it never ends")
}

/// The fixture is whole, as the next run finds it, with or without a passphrase.
fn whole(home: &Path) {
    let profile = Profile::at(home);
    if profile.is_locked().unwrap() {
        profile.unlock(PASSPHRASE).unwrap();
    }
    let me = profile.load().unwrap().unwrap();
    assert_eq!(me.user().to_string(), ADA_BEFORE);
    let lock = profile.lock().unwrap();
    let store = Store::open(&lock).unwrap();
    assert_eq!(store.rescued(), None);
    let names: Vec<_> = store
        .contacts()
        .unwrap()
        .into_iter()
        .map(|bob| bob.name)
        .collect();
    assert_eq!(names, ["Bob Canary"]);
    assert_eq!(store.blocked().unwrap().len(), 1);
    assert_eq!(ChatBook(&store).messages(None, 10).unwrap().len(), 1);
    assert_eq!(store.calls(10).unwrap().len(), 1);
    let settings = Settings::load(&profile).unwrap();
    assert_eq!(settings.name.as_deref(), Some("Ada Lovelace"));
    assert!(!settings.noise_suppression);
    let me = profile.load().unwrap().unwrap();
    assert_eq!(me.user().to_string(), ADA_BEFORE);
}

#[test]
fn a_kill_at_any_step_of_sealing_leaves_the_old_or_the_new() {
    let folder = TempDir::new().unwrap();
    let passphrase = folder.path().join("passphrase");
    fs::write(&passphrase, PASSPHRASE).unwrap();
    let variables = [("AHOY_PASSPHRASE_FILE", passphrase.to_str().unwrap())];
    let before = kill_at_every_step(Path::new(BEFORE), &[], &["contact"], 1, whole);
    let home = folder.path().join("sealed");
    copy_of(Path::new(BEFORE), &home);
    expect_ada_before(&home, &[]);
    // Each of these takes a second, for the passphrase.
    let locked = kill_at_every_step(&home, &variables, &["lock", "on"], 3, whole);
    run_in(&home, &variables, &["lock", "on"]).expect_code(0);
    let unlocked = kill_at_every_step(&home, &variables, &["lock", "off"], 3, whole);
    println!(
        "{before} kills while it was sealed, {locked} while locked, {unlocked} while unlocked"
    );
    assert!(before >= 30 && locked >= 10 && unlocked >= 10);
}

#[test]
fn a_kill_at_any_step_loses_nothing_that_was_done() {
    let folder = TempDir::new().unwrap();
    let home = folder.path().join("ada");
    let me = run(&home, ["id"]).expect_code(0).stdout;
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut kills = 0;
    let links: Vec<String> = (0..4)
        .map(|n| {
            let other = folder.path().join(format!("other-{n}"));
            run(&other, ["id"]).expect_code(0).stdout.trim().to_owned()
        })
        .collect();
    for (n, link) in links.iter().enumerate() {
        let name = format!("Person {n}");
        for step in 1.. {
            let at = step.to_string();
            let add = ["contact", "add", link, "--name", &name];
            let ended = run_in(&home, &[("AHOY_DIE_AT_STEP", &at)], &add);
            let listed = run(&home, ["contact", "list"]).expect_code(0).stdout;
            let names = listed.lines().filter_map(|line| line.split('\t').next());
            let names: BTreeSet<String> = names.map(str::to_owned).collect();
            assert!(names.is_superset(&done), "step {step}: {names:?}");
            assert_eq!(run(&home, ["id"]).expect_code(0).stdout, me);
            if ended.code.is_some() {
                ended.expect_code(0);
                done.insert(name.clone());
                assert_eq!(names, done);
                break;
            }
            kills += 1;
            if names.contains(&name) {
                run(&home, ["contact", "remove", &name]).expect_code(0);
            }
        }
    }
    println!("{kills} kills while contacts were added");
    assert!(kills >= 12, "{kills}");
}

#[test]
fn a_running_app_that_is_killed_loses_nothing_it_acknowledged() {
    const SEED: u64 = 20;
    const KILLS: usize = 12;
    let world = Household::new();
    let home = world.path("ada");
    let answer = |name: &str| start(&world.path(name), ["answer", "--via", &world.node]);
    let (ada, bob) = (answer("ada"), answer("bob"));
    let (adas_link, bobs_link) = (ada.first_line(), bob.first_line());
    for running in [ada, bob] {
        running.kill();
    }
    run(&home, ["contact", "add", &bobs_link, "--name", "Bob"]).expect_code(0);
    let as_bob = |arguments: &[&str]| world.run("bob", arguments).expect_code(0);
    as_bob(&["contact", "add", &adas_link, "--name", "Ada"]);
    let bob = answer("bob");
    bob.wait_stdout("ahoy:");
    let mut coin = ChaCha20Rng::seed_from_u64(SEED);
    let (mut sent, mut delivered_in_all) = (0, 0);
    for kill in 0..KILLS {
        let ada = answer("ada");
        ada.wait_stdout("ahoy:");
        let now = 1 + coin.next_u32() % 3;
        for nth in 0..now {
            let text = format!("message {sent}");
            sent += 1;
            // The last one is under way when the kill comes.
            let message = start(&world.path("bob"), ["message", "Ada", &text]);
            if nth + 1 < now || coin.next_u32().is_multiple_of(2) {
                // Her mailbox may have enough of Bob's for now: then he keeps it.
                let ended = message.finish();
                assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
            } else {
                message.wait_stderr_lines(1 + coin.next_u32() as usize % 2);
            }
        }
        ada.kill();
        let told = as_bob(&["messages", "Ada", "--json"]).json();
        let delivered = told.as_array().unwrap().iter();
        let delivered: BTreeSet<&str> = delivered
            .filter(|line| line["state"] == "delivered")
            .filter_map(|line| line["text"].as_str())
            .collect();
        let there = run(&home, ["messages", "Bob", "--json"])
            .expect_code(0)
            .json();
        let there: BTreeSet<&str> = there
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|line| line["text"].as_str())
            .collect();
        let lost: Vec<_> = delivered.difference(&there).collect();
        assert!(lost.is_empty(), "kill {kill}, seed {SEED}: {lost:?}");
        assert_eq!(
            run(&home, ["contact"])
                .expect_code(0)
                .stdout
                .lines()
                .count(),
            1
        );
        delivered_in_all = delivered.len();
    }
    println!("{KILLS} kills, {sent} messages, {delivered_in_all} delivered, 0 lost, seed {SEED}");
    assert!(delivered_in_all >= KILLS / 2);
}

#[test]
fn damaged_files_are_mended_or_set_aside_and_a_newer_version_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("whole");
    copy_of(Path::new(BEFORE), &whole);
    expect_ada_before(&whole, &[]);
    let case = |name: &str| {
        let home = folder.path().join(name);
        copy_of(&whole, &home);
        home
    };
    let aside = |home: &Path| {
        let files = image(home).into_iter();
        files
            .map(|(name, _bytes)| name)
            .filter(|name| name.contains(".damaged-20"))
            .collect::<Vec<_>>()
    };
    for name in ["identity", "vault", "vault.key"] {
        for how in ["cut", "flipped", "empty", "gone"] {
            let home = case(&format!("{name}-{how}"));
            let path = home.join(name);
            let mut bytes = fs::read(&path).unwrap();
            match how {
                "cut" => bytes.truncate(bytes.len() / 2),
                "flipped" => bytes[20] ^= 4,
                "empty" => bytes.clear(),
                _gone => {}
            }
            if how == "gone" {
                fs::remove_file(&path).unwrap();
            } else {
                fs::write(&path, bytes).unwrap();
            }
            // Even while nobody has the profile and could mend it.
            let link = run(&home, ["id"]).expect_code(0).stdout;
            assert!(link.contains(ADA_BEFORE), "{name} {how}");
            expect_ada_before(&home, &[]);
        }
    }
    // The database: told, set aside, and people are still there.
    let home = case("database");
    let mut bytes = fs::read(home.join("ahoy.redb")).unwrap();
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    fs::write(home.join("ahoy.redb"), &bytes).unwrap();
    let told = run(&home, ["contact"]).expect_code(0);
    assert!(told.stdout.contains("Bob Canary"), "{told:?}");
    assert!(told.stderr.contains("damaged"), "{told:?}");
    assert_eq!(aside(&home).len(), 1, "{told:?}");
    assert!(told.stderr.contains(&aside(&home)[0]), "{told:?}");
    assert_eq!(run(&home, ["contact"]).expect_code(0).stderr, "");
    // Both of the identity: a sentence, and nobody new.
    let home = case("both");
    for name in ["identity", "identity.copy"] {
        fs::write(home.join(name), "x").unwrap();
    }
    let told = run(&home, ["id"]).expect_code(1);
    assert!(told.stderr.contains("damaged"), "{told:?}");
    // Newer than we know.
    for (name, at) in [("identity", 6), ("vault", 6)] {
        let home = case(&format!("newer-{name}"));
        let mut bytes = fs::read(home.join(name)).unwrap();
        bytes[at] += 1;
        let end = bytes.len() - 8;
        let sum = checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum);
        fs::write(home.join(name), &bytes).unwrap();
        let before = image(&home);
        for command in [&["id"][..], &["contact"], &["call", "Bob Canary"]] {
            let refused = run(&home, command).expect_code(1);
            assert!(refused.stderr.contains("newer version"), "{refused:?}");
        }
        assert_eq!(image(&home), before);
    }
}

/// Runs `ahoy` where files can grow to so many blocks of 512 bytes, as on a disk that is full.
#[cfg(unix)]
fn run_small(home: &Path, blocks: u32, arguments: &str) -> std::process::Output {
    let line = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec '{}' --home '{}' {arguments}",
        binary().display(),
        home.display()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).env_remove("AHOY_HOME");
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_full_disk_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let home = folder.path().join("ada");
    copy_of(Path::new(BEFORE), &home);
    for blocks in [0, 1, 2, 20, 100] {
        let ended = run_small(&home, blocks, "contact verify 'Bob Canary'");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{blocks}: {said}");
        assert!(
            said.contains("File too large") || said.contains("I/O"),
            "{blocks}: {said}"
        );
    }
    expect_ada_before(&home, &[]);
    let listed = run(&home, ["contact"]).expect_code(0).stdout;
    assert!(listed.contains("not verified"), "{listed}");
    for blocks in [0, 1, 20] {
        let ended = run_small(&home, blocks, "contact verify 'Bob Canary'");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        expect_ada_before(&home, &[]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_dies_leaves_no_dump() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let world = Household::new();
    let limit = |running: &Running| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", running.id())).unwrap();
        let line = limits.lines().find(|line| line.contains("core file size"));
        line.unwrap().split_whitespace().nth(4).unwrap().to_owned()
    };
    let usual = start(&world.path("ada"), ["answer", "--via", &world.node]);
    usual.wait_stdout("ahoy:");
    assert_eq!(limit(&usual), "1", "dumps go to {pattern}");
    let variables = [(OsStr::new("AHOY_CORE_DUMPS"), OsStr::new("1"))];
    let open = start_in(
        &world.path("bob"),
        variables,
        ["answer", "--via", &world.node],
    );
    open.wait_stdout("ahoy:");
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let own = own.lines().find(|line| line.contains("core file size"));
    let own = own.unwrap().split_whitespace().nth(4).unwrap();
    assert_eq!(limit(&open), own, "with the switch it is as everywhere");
}

/// Ada's program runs with her profile open and dies of a fault where the system writes what it held to a file. Gives back what
/// that told, and how many such files there are; nothing where the system writes none anyway.
#[cfg(target_os = "linux")]
fn crash(world: &Household, dumps: bool) -> Option<(BTreeSet<String>, usize)> {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    let folder = world.path(&format!("fell, dumps {dumps}"));
    fs::create_dir(&folder).unwrap();
    let line = format!(
        "ulimit -c unlimited || exit 77; exec '{}' --home '{}' answer --audio-in silence --audio-out null --via '{}'",
        binary().display(),
        world.path("ada").display(),
        world.node
    );
    let mut running = Command::new("sh")
        .args(["-c", &line])
        .current_dir(&folder)
        .env_remove("AHOY_HOME")
        .env("AHOY_CORE_DUMPS", if dumps { "1" } else { "" })
        .env("AHOY_DHT_BOOTSTRAP", "none")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut link = String::new();
    let mut said = BufReader::new(running.stdout.take().unwrap());
    said.read_line(&mut link).unwrap();
    let kill = format!("kill -ABRT {}", running.id());
    if !link.is_empty() {
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }
    let ended = running.wait().unwrap();
    if ended.code() == Some(77) {
        return None;
    }
    assert!(link.starts_with("ahoy:"), "{link:?} {ended:?}");
    let identity = Profile::at(world.path("ada")).load().unwrap().unwrap();
    let mut canaries = Canaries::default();
    canaries.add("her root key", &*identity.root().unwrap().seed());
    canaries.add("her user key", &identity.user().0);
    let image = image(&folder);
    Some((canaries.found(&image), image.len()))
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_crashes_leaves_nothing_of_what_it_held() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.starts_with('/') {
        eprintln!("skipped: this system takes dumps elsewhere, {pattern}");
        return;
    }
    let world = Household::new();
    run(&world.path("ada"), ["id"]).expect_code(0);
    let Some((told, dumps)) = crash(&world, true) else {
        eprintln!("skipped: this system permits no dumps");
        return;
    };
    assert!(dumps > 0 && told.len() >= 2, "with the switch: {told:?}");
    let (told, dumps) = crash(&world, false).unwrap();
    assert_eq!((dumps, told), (0, BTreeSet::new()));
    ahoy_tests::threat(
        20,
        "0 dumps after a crash; with dumps permitted both keys are in one",
    );
}
