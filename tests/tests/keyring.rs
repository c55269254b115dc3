//! A profile that the desktop's keyring opens: GNOME's own, on a private bus, asked by commands as people use them.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use ahoy_tests::{
    process::{Finished, has_tool, start_in},
    sound_server::{Process, wait_until},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const PASSPHRASE: &str = "five words that nobody knows";
const ANOTHER: &str = "six words that nobody at all knows";
const TOOLS: [&str; 2] = ["dbus-daemon", "gnome-keyring-daemon"];

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>ADDRESS</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// A session with a keyring, which a password opens.
struct Desktop {
    folder: TempDir,
    _bus: Process,
    keyring: Option<Process>,
}

impl Desktop {
    /// None where something of it is not installed.
    fn start() -> Option<Self> {
        if let Some(missing) = TOOLS.iter().find(|tool| !has_tool(tool)) {
            assert!(std::env::var_os("CI").is_none(), "{missing} is missing");
            eprintln!("skipped: {missing} is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder.path(), mode).unwrap();
        // Nobody is started by being asked for.
        let config = folder.path().join("bus.conf");
        fs::write(&config, BUS.replace("ADDRESS", &bus(folder.path()))).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg("--config-file").arg(config);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let bus = Process::start(&mut command);
        wait_until("the bus", PATIENCE, || folder.path().join("bus").exists());
        let mut desktop = Self {
            folder,
            _bus: bus,
            keyring: None,
        };
        desktop.log_in();
        Some(desktop)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let here = self.folder.path().display().to_string();
        vec![
            ("DBUS_SESSION_BUS_ADDRESS", bus(self.folder.path())),
            ("XDG_RUNTIME_DIR", here.clone()),
            ("XDG_DATA_HOME", here),
        ]
    }

    /// Somebody logs in: the keyring starts and is open.
    fn log_in(&mut self) {
        // One that ran before has the name until it is gone.
        self.keyring = None;
        wait_until("the keyring to go", PATIENCE, || !self.has_keyring());
        let mut command = Command::new("gnome-keyring-daemon");
        command.args(["--foreground", "--components=secrets", "--unlock"]);
        command.envs(self.environment());
        let (reader, mut writer) = std::io::pipe().unwrap();
        command.stdin(reader);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.keyring = Some(Process::start(&mut command));
        writer.write_all(b"open sesame").unwrap();
        drop((command, writer));
        wait_until("the keyring", PATIENCE, || self.has_keyring());
    }

    /// The keyring is killed: as where there is none.
    fn log_out(&mut self) {
        self.keyring = None;
        wait_until("the keyring to go", PATIENCE, || !self.has_keyring());
    }

    fn has_keyring(&self) -> bool {
        let asked = self.dbus_send(&[
            "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.NameHasOwner",
            "string:org.freedesktop.secrets",
        ]);
        asked.contains("boolean true")
    }

    /// Nobody opens anything by it until somebody types its password.
    fn lock(&self) {
        self.dbus_send(&[
            "--dest=org.freedesktop.secrets",
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service.Lock",
            "array:objpath:/org/freedesktop/secrets/collection/login",
        ]);
    }

    fn dbus_send(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("dbus-send");
        command.args(["--session", "--print-reply"]).args(arguments);
        let output = command.envs(self.environment()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command there, which nobody tells a passphrase.
    fn run(&self, home: &Path, arguments: &[&str]) -> Finished {
        let environment = self.environment();
        let environment = environment
            .iter()
            .map(|(name, value)| (OsStr::new(*name), OsStr::new(value.as_str())));
        start_in(home, environment, arguments).finish()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("ada")
    }
}

fn bus(folder: &Path) -> String {
    format!("unix:path={}", folder.join("bus").display())
}

#[test]
fn the_keyring_opens_a_profile_and_where_it_does_not_the_passphrase_does() {
    let Some(mut desktop) = Desktop::start() else {
        return;
    };
    let home = desktop.home();
    let passphrase = desktop.file("passphrase", PASSPHRASE);
    let another = desktop.file("another", ANOTHER);
    let by = |desktop: &Desktop, file: &str, arguments: &[&str]| {
        desktop.run(&home, &[&["--passphrase-file", file], arguments].concat())
    };
    let user = desktop.run(&home, &["id", "show"]).expect_code(0).stdout;
    // There is nothing to keep without a passphrase.
    let refused = desktop.run(&home, &["lock", "keyring", "on"]);
    refused.expect_code(2).expect_stderr("ahoy lock on");
    by(&desktop, &passphrase, &["lock", "on"]).expect_code(0);
    desktop.run(&home, &["id", "show"]).expect_code(4);
    by(&desktop, &another, &["lock", "keyring", "on"]).expect_code(4);
    desktop.run(&home, &["id", "show"]).expect_code(4);

    by(&desktop, &passphrase, &["lock", "keyring", "on"]).expect_code(0);
    let shown = desktop.run(&home, &["id", "show"]).expect_code(0);
    assert_eq!(shown.stdout, user);
    let status = desktop.run(&home, &["lock"]).expect_code(0).stdout;
    assert!(status.contains("keyring opens it, too"), "{status}");
    // What lies there is of no use to whoever has the files and not the session.
    let left = fs::read(home.join("keyring")).unwrap();
    assert!(left.len() < 100);

    // It outlives a log-out, and nobody is asked after the next log-in.
    desktop.log_out();
    let without = desktop.run(&home, &["id", "show"]);
    without
        .expect_code(4)
        .expect_stderr("no keyring answers here; the passphrase opens this profile");
    by(&desktop, &passphrase, &["id", "show"]).expect_code(0);
    desktop.log_in();
    desktop.run(&home, &["id", "show"]).expect_code(0);

    desktop.lock();
    let locked = desktop.run(&home, &["id", "show"]);
    locked
        .expect_code(4)
        .expect_stderr("the desktop's keyring is locked");
    by(&desktop, &passphrase, &["id", "show"]).expect_code(0);
    desktop.log_in();

    // Another passphrase is kept instead of the old one.
    let change = ["lock", "change", "--new-passphrase-file", &another];
    desktop.run(&home, &change).expect_code(0);
    desktop.run(&home, &["id", "show"]).expect_code(0);
    by(&desktop, &another, &["id", "show"]).expect_code(0);

    desktop
        .run(&home, &["lock", "keyring", "off"])
        .expect_code(0);
    desktop.run(&home, &["id", "show"]).expect_code(4);
    // What was kept is gone from there: a mark that came back finds nothing.
    fs::write(home.join("keyring"), left).unwrap();
    let gone = desktop.run(&home, &["id", "show"]);
    gone.expect_code(4)
        .expect_stderr("does not have the key of this profile");
    by(&desktop, &another, &["id", "show"]).expect_code(0);
}
