//! `id`, `contact` and `device` on real profiles.

use std::{io::Cursor, sync::Arc};

use ahoy_transport::identity::{RootKey, UserId};
use clap::Parser as _;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::Value;
use zeroize::Zeroizing;

use super::*;
use crate::{identity::words, passphrase::Cost, profile::Profile};

const NOW: u64 = 1_800_000_000_000;

struct Person {
    folder: tempfile::TempDir,
    seed: u64,
}

impl Person {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            seed: 0,
        }
    }

    fn profile(&self) -> Profile {
        Profile::at(self.folder.path().join("profile"))
    }

    /// The profile of somebody who types this passphrase.
    fn knowing(&self, passphrase: &str) -> Profile {
        let passphrase = passphrase.to_owned();
        self.profile()
            .asking(Arc::new(move || Ok(Zeroizing::new(passphrase.clone()))))
    }

    /// Runs `ahoy LINE` with `input` typed.
    fn says(&mut self, line: &str, input: &str) -> Result<String, CliError> {
        let profile = self.profile();
        self.says_in(profile, line, input)
    }

    fn says_in(&mut self, profile: Profile, line: &str, input: &str) -> Result<String, CliError> {
        self.seed += 1;
        // Every person and every run draws other numbers.
        let place = self.folder.path().as_os_str().as_encoded_bytes();
        let seed = place.iter().fold(self.seed, |seed, byte| {
            seed.wrapping_mul(257).wrapping_add(u64::from(*byte))
        });
        let mut env = Env {
            profile,
            now_millis: NOW + self.seed,
            rng: Box::new(ChaCha20Rng::seed_from_u64(seed)),
            input: Box::new(Cursor::new(input.to_owned())),
            passphrase_file: None,
            cost: Box::new(|| Cost {
                memory_kib: 64,
                passes: 1,
            }),
        };
        let words = std::iter::once("ahoy").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| CliError::usage(error.to_string()))?;
        match cli.command.unwrap() {
            Command::Id(arguments) => id::id(&mut env, arguments),
            Command::Contact(arguments) => contact::contact(&mut env, arguments),
            Command::Device(arguments) => device::device(&mut env, arguments),
            Command::Backup(arguments) => backup::backup(&mut env, &arguments),
            Command::Restore(arguments) => backup::restore(&mut env, &arguments),
            Command::Lock(arguments) => lock::lock(&mut env, arguments),
            Command::Supernode(_) | Command::Network(_) => {
                panic!("a supernode is not about one's own data")
            }
            Command::Manual(_) | Command::Completions(_) => panic!("nobody's data is in there"),
            #[cfg(feature = "voice")]
            Command::Answer(_)
            | Command::Call(_)
            | Command::Echo(_)
            | Command::Message(_)
            | Command::Messages(_)
            | Command::Send(_)
            | Command::Files(_)
            | Command::Demo(_)
            | Command::Sim(_)
            | Command::Doctor(_) => {
                panic!("a call is not about one's own data")
            }
            #[cfg(unix)]
            Command::Ctl(_) => panic!("the running app is not about one's own data"),
        }
    }

    fn ok(&mut self, line: &str) -> String {
        self.says(line, "").unwrap()
    }

    fn fails(&mut self, line: &str) -> CliError {
        self.says(line, "").unwrap_err()
    }

    /// Keeps a text in a file and gives its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn other(seed: u8) -> UserId {
    RootKey::from_seed(&[seed; 32]).user()
}

#[test]
fn the_first_use_makes_somebody_who_stays_the_same() {
    let mut me = Person::new();
    let link = me.ok("id");
    assert!(link.starts_with("ahoy:"));
    assert_eq!(me.ok("id show"), link);
    let shown: Value = serde_json::from_str(&me.ok("id show --json")).unwrap();
    assert_eq!(shown["link"], link.as_str());
    assert_eq!(
        (&shown["devices"], &shown["member"]),
        (&Value::from(1), &Value::from(true))
    );
    let taken = me.fails("id new");
    assert_eq!(taken.exit, Exit::Failed);
    assert!(taken.message.contains("--home"), "{taken}");
    let mut somebody = Person::new();
    assert_ne!(somebody.ok("id new"), link);
}

#[test]
fn showing_the_link_works_while_the_app_runs() {
    let mut me = Person::new();
    let link = me.ok("id");
    let lock = me.profile().lock().unwrap();
    assert_eq!(me.ok("id show"), link);
    let busy = me.fails("contact list");
    assert!(busy.message.contains("already running"), "{busy}");
    drop(lock);
    assert_eq!(me.ok("contact list"), "");
}

#[test]
fn twenty_four_words_move_a_person_to_another_machine() {
    let mut old = Person::new();
    let link = old.ok("id");
    let words = old.ok("id export");
    assert_eq!(words.split_whitespace().count(), 24);
    let log = old.ok("device log");
    let mut new = Person::new();
    let log = new.file("log.txt", &log);
    assert_eq!(
        new.says(&format!("id import --log {log}"), &words),
        Ok(link)
    );
    assert_eq!(new.ok("device list").lines().count(), 2);
    // The old device does not know yet; it takes in what the new one added.
    assert_eq!(old.ok("device list").lines().count(), 1);
    let joined = old.file("joined.txt", &new.ok("device log"));
    assert_eq!(
        old.ok(&format!("device add {joined}")),
        "2 devices speak for you now"
    );
    assert!(old.ok(&format!("device add {joined}")).contains("knew"));
    let listed: Value = serde_json::from_str(&old.ok("device list --json")).unwrap();
    assert_eq!(
        (&listed[0]["this"], &listed[1]["this"]),
        (&Value::from(true), &Value::from(false))
    );
    // And takes it out again.
    let id = listed[1]["id"].as_str().unwrap().to_owned();
    let this = listed[0]["id"].as_str().unwrap().to_owned();
    assert!(
        old.fails(&format!("device revoke {this}"))
            .message
            .contains("this device")
    );
    assert_eq!(old.fails("device revoke 0").exit, Exit::Usage);
    assert!(
        old.ok(&format!("device revoke {}", &id[..12]))
            .contains(&id)
    );
    assert_eq!(old.ok("device list").lines().count(), 1);
    // The new device learns of it, and shows that it speaks for nobody now.
    let after = new.file("after.txt", &old.ok("device log"));
    new.ok(&format!("device add {after}"));
    let shown: Value = serde_json::from_str(&new.ok("id show --json")).unwrap();
    assert_eq!(shown["member"], Value::from(false));
    let stale = old.file("stale.txt", &std::fs::read_to_string(&joined).unwrap());
    assert!(
        old.fails(&format!("device add {stale}"))
            .message
            .contains("older")
    );
}

#[test]
fn words_and_logs_that_are_none_are_refused_and_nothing_is_made() {
    let mut me = Person::new();
    let wrong = me.says("id import", "one two three").unwrap_err();
    assert_eq!(wrong.exit, Exit::Usage);
    let root = RootKey::from_seed(&[4; 32]);
    let junk = me.file("junk.txt", "ahoy-log:xyz:abc");
    let line = format!("id import --log {junk}");
    assert_eq!(me.says(&line, &words(&root)).unwrap_err().exit, Exit::Usage);
    let theirs = me.file("theirs.txt", &Person::new().ok("device log"));
    let line = format!("id import --log {theirs}");
    assert_eq!(
        me.says(&line, &words(&root)).unwrap_err().exit,
        Exit::Failed
    );
    assert!(me.profile().load().unwrap().is_none());
    assert_eq!(
        me.says("id import", &words(&root)),
        Ok(format!("ahoy:{}", root.user()))
    );
    let taken = me.says("id import", &words(&root)).unwrap_err();
    assert!(taken.message.contains("belongs to"), "{taken}");
    assert_eq!(me.fails(&format!("device add {theirs}")).exit, Exit::Usage);
}

#[test]
fn a_contact_is_added_found_by_name_verified_blocked_and_forgotten() {
    let mut me = Person::new();
    let eva = format!("ahoy:{}", other(1));
    assert_eq!(me.ok(&format!("contact add {eva} --name Eva")), "Eva");
    assert_eq!(me.ok("contact"), format!("Eva\tnot verified\t{eva}"));
    assert_eq!(me.ok("contact verify eva"), "Eva is verified");
    // Adding the same person again takes nothing back.
    assert_eq!(me.ok(&format!("contact add {eva}")), "Eva");
    assert_eq!(me.ok("contact list"), format!("Eva\tverified\t{eva}"));
    assert_eq!(
        me.ok(&format!("contact verify {eva} --undo")),
        "Eva is no longer verified"
    );
    assert!(me.ok("contact block Eva").contains(&eva));
    let listed: Value = serde_json::from_str(&me.ok("contact list --json")).unwrap();
    assert_eq!(listed["contacts"], Value::Array(Vec::new()));
    assert_eq!(listed["blocked"][0], eva.as_str());
    assert_eq!(me.fails("contact block Eva --undo").exit, Exit::Usage);
    assert!(
        me.ok(&format!("contact block {eva} --undo"))
            .contains("no longer")
    );
    assert_eq!(
        me.fails(&format!("contact block {eva} --undo")).exit,
        Exit::Failed
    );
    me.ok(&format!("contact add {eva} --name Eva"));
    assert_eq!(me.ok("contact remove Eva"), "Eva is forgotten");
    assert_eq!(me.fails("contact remove Eva").exit, Exit::Usage);
}

#[test]
fn a_person_blocks_strangers_by_link_but_not_itself() {
    let mut me = Person::new();
    let own = me.ok("id");
    assert_eq!(me.fails(&format!("contact add {own}")).exit, Exit::Usage);
    assert_eq!(me.fails(&format!("contact block {own}")).exit, Exit::Usage);
    me.ok(&format!("contact block ahoy:{}", other(9)));
    assert_eq!(me.fails("contact add ahoy:cut-off").exit, Exit::Usage);
}

#[test]
fn a_backup_brings_everything_back_and_only_with_its_passphrase() {
    let mut me = Person::new();
    let link = me.ok("id");
    let eva = format!("ahoy:{}", other(1));
    me.ok(&format!("contact add {eva} --name Eva"));
    me.ok("contact verify Eva");
    let file = me.file("backup", "").replace("backup", "kept.ahoy");
    let backup = format!("backup {file}");
    let short = me.says(&backup, "short\n").unwrap_err();
    assert_eq!(short.exit, Exit::Usage);
    assert!(!std::path::Path::new(&file).exists());
    me.says(&backup, "five words that nobody knows\n").unwrap();
    let again = me.says(&backup, "five words that nobody knows\n");
    assert_eq!(
        again.unwrap_err().exit,
        Exit::Usage,
        "nothing is written over"
    );

    let restore = format!("restore {file}");
    let mut new = Person::new();
    let wrong = new
        .says(&restore, "five words that somebody knows")
        .unwrap_err();
    assert_eq!(wrong.exit, Exit::Authentication);
    assert!(wrong.message.contains("not the passphrase"), "{wrong}");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = format!("{file}.damaged");
    std::fs::write(&damaged, &bytes).unwrap();
    let damaged = new.says(
        &format!("restore {damaged}"),
        "five words that nobody knows",
    );
    assert_eq!(damaged.unwrap_err().exit, Exit::Authentication);
    let junk = new.file("junk", "no backup at all");
    let none = new.says(&format!("restore {junk}"), "five words that nobody knows");
    assert_eq!(none.unwrap_err().exit, Exit::Usage);
    assert!(
        new.profile().load().unwrap().is_none(),
        "nothing was changed"
    );

    let restored = new.says(&restore, "five words that nobody knows\n");
    assert_eq!(restored, Ok(link));
    assert_eq!(new.ok("contact list"), format!("Eva\tverified\t{eva}"));
    assert_eq!(new.ok("device list"), me.ok("device list"));
    assert_eq!(new.ok("id export"), me.ok("id export"));
    let taken = new.says(&restore, "five words that nobody knows");
    assert!(taken.unwrap_err().message.contains("belongs to"));
}

#[test]
fn the_24_words_open_a_backup_that_was_made_for_them() {
    let mut me = Person::new();
    let link = me.ok("id");
    let words = me.ok("id export");
    let file = me.file("backup", "").replace("backup", "words.ahoy");
    me.ok(&format!("backup {file} --words"));
    let mut new = Person::new();
    let restore = format!("restore {file}");
    let other = Person::new().ok("id export");
    let wrong = new.says(&restore, &other).unwrap_err();
    assert_eq!(wrong.exit, Exit::Authentication, "{wrong}");
    assert_eq!(new.says(&restore, &words), Ok(link));
}

#[test]
fn a_device_takes_new_keys_and_stays_the_persons() {
    let mut me = Person::new();
    let link = me.ok("id");
    let old = me.ok("device list");
    let old = old.split('\t').next().unwrap().to_owned();
    let said = me.ok("device rotate");
    assert!(said.contains(&old), "{said}");
    assert_eq!(me.ok("id"), link);
    let shown: Value = serde_json::from_str(&me.ok("id show --json")).unwrap();
    assert_eq!(shown["member"], Value::from(true));
    assert_ne!(shown["device"], old.as_str());
    let log = me.profile().load().unwrap().unwrap().log().clone();
    assert!(log.was_revoked(old.parse().unwrap()));
    assert_eq!(log.devices().len(), 1);
    // Without the root key, by its own word.
    let profile = me.profile();
    let identity = profile.load().unwrap().unwrap();
    let bytes = identity.verified(NOW + 1000).unwrap();
    assert_eq!(bytes.device(), identity.device().id());
}

#[test]
fn a_passphrase_is_set_changed_and_taken_away() {
    const OLD: &str = "five words that nobody knows";
    const NEW: &str = "other words that nobody knows";
    let mut me = Person::new();
    assert!(me.ok("lock").contains("not sealed"), "nothing is there yet");
    let link = me.ok("id");
    let eva = format!("ahoy:{}", other(1));
    me.ok(&format!("contact add {eva} --name Eva"));
    assert!(me.ok("lock status").contains("key file"));
    for line in ["lock off", "lock change"] {
        assert_eq!(me.fails(line).exit, Exit::Usage);
    }
    assert_eq!(me.says("lock on", "short").unwrap_err().exit, Exit::Usage);
    let busy = me.profile().lock().unwrap();
    let taken = me.says("lock on", OLD).unwrap_err();
    assert!(taken.message.contains("already running"), "{taken}");
    drop(busy);
    me.says("lock on", OLD).unwrap();
    assert!(me.ok("lock status").contains("by a passphrase"));
    let locked = me.fails("id");
    assert_eq!(locked.exit, Exit::Authentication);
    assert!(locked.message.contains("--passphrase-file"), "{locked}");

    let mut as_if = |passphrase: &str, line: &str, input: &str| {
        let profile = me.knowing(passphrase);
        me.says_in(profile, line, input)
    };
    let files = |folder: &std::path::Path| {
        let entries = std::fs::read_dir(folder.join("profile")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = paths
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        all.sort();
        all
    };
    for line in ["id", "contact list", "lock off", "lock change", "backup x"] {
        let wrong = as_if(NEW, line, NEW).unwrap_err();
        assert_eq!(wrong.exit, Exit::Authentication, "{line}");
        assert!(wrong.message.contains("not the passphrase"), "{wrong}");
    }
    assert_eq!(as_if(OLD, "id", ""), Ok(link.clone()));
    assert!(as_if(OLD, "contact list", "").unwrap().contains("Eva"));
    let again = as_if(OLD, "lock on", NEW).unwrap_err();
    assert_eq!(again.exit, Exit::Usage);
    as_if(OLD, "lock change", NEW).unwrap();
    assert!(as_if(OLD, "id", "").is_err());
    assert_eq!(as_if(NEW, "id", ""), Ok(link.clone()));
    as_if(NEW, "lock off", "").unwrap();
    assert_eq!(me.ok("id"), link);
    assert!(me.ok("contact list").contains("Eva"));
    // What a wrong passphrase leaves is what was there.
    me.says("lock on", OLD).unwrap();
    let before = files(me.folder.path());
    let profile = me.knowing(NEW);
    assert!(me.says_in(profile, "contact add x", "").is_err());
    let profile = me.knowing(NEW);
    assert!(me.says_in(profile, "id", "").is_err());
    assert_eq!(files(me.folder.path()), before);
}
