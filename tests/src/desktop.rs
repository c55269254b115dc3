//! A desktop with Wayland's way of showing screens: the real portal and the real PipeWire on a private bus, asked by a
//! person who is a program, about a screen that is a film.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ahoy_media::video::{frame::Size, pattern::TestPattern};
use zbus::{
    blocking::{Connection, connection::Builder},
    interface,
    object_server::{ObjectServer, SignalEmitter},
    zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value},
};

use crate::{
    display::to_pixels,
    process::has_tool,
    sound_server::{Process, wait_until},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What must be installed, where the portal itself is not in the path.
const TOOLS: [&str; 6] = [
    "dbus-daemon",
    "pipewire",
    "python3",
    "pw-dump",
    "wireplumber",
    "/usr/libexec/xdg-desktop-portal",
];

/// What is not installed of it.
#[must_use]
pub fn missing_tools() -> Vec<&'static str> {
    TOOLS.into_iter().filter(|tool| !has_tool(tool)).collect()
}

type Results = HashMap<String, OwnedValue>;

/// Sessions of what is shown, and what the person who is asked says.
#[derive(Debug, Default)]
struct Asked {
    /// The node that is picked; nobody picks anything where there is none.
    node: Option<u32>,
    /// Times that the dialog was shown.
    dialogs: u32,
    /// What was picked before is to be shown again.
    is_known: bool,
    session: Option<OwnedObjectPath>,
}

type SharedAsked = Arc<Mutex<Asked>>;

fn owned(value: impl Into<Value<'static>>) -> OwnedValue {
    value.into().try_to_owned().expect("no file is in it")
}

/// What the portal calls to ask a person: `org.freedesktop.impl.portal.ScreenCast`.
struct Backend(SharedAsked);

impl Backend {
    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[interface(name = "org.freedesktop.impl.portal.ScreenCast")]
impl Backend {
    #[zbus(out_args("response", "results"))]
    async fn create_session(
        &self,
        #[zbus(object_server)] server: &ObjectServer,
        _handle: OwnedObjectPath,
        session: OwnedObjectPath,
        _app: String,
        _options: Results,
    ) -> (u32, Results) {
        self.asked().session = Some(session.clone());
        let added = server.at(session, Session).await;
        (u32::from(added.is_err()), Results::new())
    }

    #[zbus(out_args("response", "results"))]
    fn select_sources(
        &self,
        _handle: OwnedObjectPath,
        _session: OwnedObjectPath,
        _app: String,
        options: Results,
    ) -> (u32, Results) {
        self.asked().is_known = options.contains_key("restore_data");
        (0, Results::new())
    }

    #[zbus(out_args("response", "results"))]
    fn start(
        &self,
        _handle: OwnedObjectPath,
        _session: OwnedObjectPath,
        _app: String,
        _parent: String,
        _options: Results,
    ) -> (u32, Results) {
        let mut asked = self.asked();
        asked.dialogs += u32::from(!asked.is_known);
        let Some(node) = asked.node else {
            // As a person who closes the dialog.
            return (1, Results::new());
        };
        let streams = vec![(node, HashMap::<String, Value<'static>>::new())];
        let known = ("test", 1u32, Value::from("picked"));
        let results = [
            ("streams", owned(streams)),
            ("persist_mode", owned(1u32)),
            ("restore_data", owned(known)),
        ];
        let named = results.map(|(name, value)| (name.to_owned(), value));
        (0, named.into())
    }

    #[zbus(property)]
    fn available_source_types(&self) -> u32 {
        3
    }

    #[zbus(property)]
    fn available_cursor_modes(&self) -> u32 {
        3
    }

    #[zbus(property, name = "version")]
    fn version(&self) -> u32 {
        4
    }
}

/// One session of it.
struct Session;

#[interface(name = "org.freedesktop.impl.portal.Session")]
impl Session {
    fn close(&self) {}

    #[zbus(signal)]
    async fn closed(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;

    #[zbus(property, name = "version")]
    fn version(&self) -> u32 {
        1
    }
}

/// A desktop that ends with its handle.
pub struct Desktop {
    folder: tempfile::TempDir,
    asked: SharedAsked,
    backend: Connection,
    processes: Vec<Process>,
}

impl std::fmt::Debug for Desktop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desktop").finish_non_exhaustive()
    }
}

impl Desktop {
    /// Starts it, with a screen of that size, on which the numbers 0 to 99 come and go, ten a second.
    ///
    /// # Panics
    /// When something of it does not start.
    #[must_use]
    pub fn start(size: Size) -> Self {
        let folder = tempfile::tempdir().expect("a folder for sockets");
        let here = folder.path();
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(here, mode).expect("it is ours");
        fs::write(here.join("test.portal"), PORTAL).expect("it is ours");
        let mut processes = Vec::new();
        let mut run = |program: &str, arguments: &[&str], input: Stdio| {
            let mut command = Command::new(program);
            command.args(arguments).envs(environment(here));
            command.env("XDG_CURRENT_DESKTOP", "ahoytest");
            command.env("XDG_DESKTOP_PORTAL_DIR", here);
            command.stdin(input).stdout(Stdio::null());
            if std::env::var_os("AHOY_TEST_LOUD").is_none() {
                command.stderr(Stdio::null());
            }
            processes.push(Process::start(&mut command));
        };
        let address = format!("--address={}", bus(here));
        let bus_options = ["--session", "--nofork", &address];
        run("dbus-daemon", &bus_options, Stdio::null());
        wait_until("the bus", PATIENCE, || here.join("bus").exists());
        run("pipewire", &[], Stdio::null());
        wait_until("PipeWire", PATIENCE, || here.join("pipewire-0").exists());
        run("wireplumber", &[], Stdio::null());
        let asked = SharedAsked::default();
        let backend = Builder::address(bus(here).as_str())
            .and_then(|builder| builder.name("org.freedesktop.impl.portal.desktop.ahoytest"))
            .and_then(|builder| {
                let backend = Backend(Arc::clone(&asked));
                builder.serve_at("/org/freedesktop/portal/desktop", backend)
            })
            .and_then(Builder::build)
            .expect("a bus that was just started");
        run("/usr/libexec/xdg-desktop-portal", &[], Stdio::null());
        let [width, height] = [size.width(), size.height()].map(|side| side.to_string());
        run(
            "python3",
            &["-c", SCREEN, &width, &height, "10"],
            film(size),
        );
        let desktop = Self {
            folder,
            asked,
            backend,
            processes,
        };
        wait_until("the portal", PATIENCE, || {
            let dbus = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
            let answer = desktop.backend.call_method(
                Some(dbus.0),
                dbus.1,
                Some(dbus.0),
                "NameHasOwner",
                &"org.freedesktop.portal.Desktop",
            );
            answer.is_ok_and(|answer| answer.body().deserialize().is_ok_and(|is: bool| is))
        });
        desktop
    }

    /// For programs that run on it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(self.folder.path())
    }

    /// The person picks the screen when they are asked, or nothing.
    ///
    /// # Panics
    /// When there is no screen.
    pub fn pick(&self, picks: bool) {
        let mut node = None;
        if picks {
            wait_until("the screen", PATIENCE, || {
                node = self.node();
                node.is_some()
            });
        }
        self.asked().node = node;
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the person was asked.
    #[must_use]
    pub fn dialogs(&self) -> u32 {
        self.asked().dialogs
    }

    /// The person ends what is shown, by the button that desktops have for it.
    ///
    /// # Panics
    /// When nothing is.
    pub fn end(&self) {
        let session = self.asked().session.clone().expect("something is shown");
        let ended = self.backend.emit_signal(
            None::<&str>,
            ObjectPath::from(session),
            "org.freedesktop.impl.portal.Session",
            "Closed",
            &(),
        );
        ended.expect("the bus is there");
    }

    /// The screen goes, and what gives it.
    pub fn unplug(&mut self) {
        self.processes.pop();
    }

    fn node(&self) -> Option<u32> {
        let mut command = Command::new("pw-dump");
        let said = command.envs(self.environment()).output().ok()?;
        let all: serde_json::Value = serde_json::from_slice(&said.stdout).ok()?;
        let is_ours = |it: &&serde_json::Value| it["info"]["props"]["node.name"] == "test-screen";
        let id = all.as_array()?.iter().find(is_ours)?["id"].as_u64()?;
        u32::try_from(id).ok()
    }
}

const PORTAL: &str = "[portal]\nDBusName=org.freedesktop.impl.portal.desktop.ahoytest\n\
    Interfaces=org.freedesktop.impl.portal.ScreenCast\nUseIn=ahoytest\n";

/// Gives a screen as compositors do, which no program of the distribution does rightly: that of GStreamer promises memory
/// and has none.
const SCREEN: &str = include_str!("desktop/screen.py");

fn bus(folder: &Path) -> String {
    format!("unix:path={}", folder.join("bus").display())
}

fn environment(folder: &Path) -> Vec<(String, String)> {
    let here = folder.display().to_string();
    [
        ("DBUS_SESSION_BUS_ADDRESS", bus(folder)),
        ("XDG_RUNTIME_DIR", here.clone()),
        ("XDG_CONFIG_HOME", here.clone()),
        ("XDG_STATE_HOME", here),
        ("WAYLAND_DISPLAY", "wayland-test".to_owned()),
        ("DISPLAY", String::new()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What is on the screen, as raw pixels, for as long as somebody reads.
fn film(size: Size) -> Stdio {
    let (reader, mut writer) = std::io::pipe().expect("two more descriptors");
    let mut pattern = TestPattern::new(size);
    let play = move || {
        for number in (0..100).cycle() {
            pattern.set_number(number);
            let pixels = to_pixels(&pattern.next_frame(Duration::ZERO));
            if writer.write_all(&pixels).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("screen".into());
    thread.spawn(play).expect("one more thread");
    reader.into()
}

/// As [`crate::process::start_in`] wants it.
#[must_use]
pub fn as_os(environment: &[(String, String)]) -> Vec<(&OsStr, &OsStr)> {
    let environment = environment.iter();
    environment
        .map(|(name, value)| (OsStr::new(name), OsStr::new(value)))
        .collect()
}
