//! A menu in the desktop's tray, for whoever closed the window: show it, what a call needs, do not disturb, quit.
//!
//! It is a StatusNotifierItem with a menu of `com.canonical.dbusmenu`, spoken over the session's bus. Where nobody on the bus
//! shows such items, or there is no bus, nothing is there and nothing changes; who comes later is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::{runtime::Handle, sync::watch};
use zbus::{
    Connection,
    connection::Builder,
    fdo::DBusProxy,
    interface,
    zvariant::{ObjectPath, OwnedValue, Value},
};

use super::{
    model::{self, Act},
    words::{self, Language},
};
use crate::{
    control::Opened,
    engine::handle::{Command, EngineHandle, View},
};

/// Whoever shows items.
const WATCHER: &str = "org.kde.StatusNotifierWatcher";
const WATCHER_PATH: &str = "/StatusNotifierWatcher";
const ITEM_PATH: &str = "/StatusNotifierItem";
const ITEM: &str = "org.kde.StatusNotifierItem";
const MENU_PATH: &str = "/StatusNotifierItem/Menu";
const MENU: &str = "com.canonical.dbusmenu";
/// Somebody on the bus may take so long to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Everything is in the menu's root.
const ROOT: i32 = 0;
/// Side of the icon that is drawn where the desktop's theme has none of ours, in pixels.
const ICON_SIDE: i32 = 24;
/// Its colour: alpha, red, green, blue.
const ICON_COLOUR: [u8; 4] = [255, 45, 125, 210];

/// Numbers of lines.
mod id {
    pub(super) const SHOW: i32 = 1;
    pub(super) const BEFORE_CALL: i32 = 2;
    pub(super) const BEHIND_CALL: i32 = 3;
    pub(super) const ANSWER: i32 = 10;
    pub(super) const DECLINE: i32 = 11;
    pub(super) const MUTE: i32 = 12;
    pub(super) const HANG_UP: i32 = 13;
    pub(super) const QUIET: i32 = 20;
    pub(super) const QUIT: i32 = 21;
}

/// What a line of the menu does.
#[derive(Debug, Clone, PartialEq)]
enum Does {
    /// The window comes back.
    Show,
    /// The engine is told.
    Tell(Command),
    /// Nothing: it is a line between others.
    Parts,
}

/// A line of the menu.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    /// Its number on the bus, which means the same as long as ahoy runs: whoever aims at a line presses no other that has
    /// taken its place meanwhile.
    id: i32,
    label: &'static str,
    /// It is on or off.
    checked: Option<bool>,
    does: Does,
}

/// What is shown.
#[derive(Debug, Clone, Default, PartialEq)]
struct Shown {
    title: String,
    /// Somebody calls.
    attention: bool,
    lines: Vec<Line>,
}

impl Shown {
    /// Of what the engine shows, in the language of the thread.
    fn of(view: &View) -> Self {
        let line = |id, label, checked, does| Line {
            id,
            label,
            checked,
            does,
        };
        let call = view.call.as_ref().filter(|call| !model::is_over(call));
        let mut lines = vec![line(id::SHOW, words::tray_show(), None, Does::Show)];
        let calls = call.map(model::call_actions).unwrap_or_default();
        let calls: Vec<Line> = calls
            .into_iter()
            .filter_map(|action| match action.act {
                Act::Tell(Command::Mute(on)) => Some(line(
                    id::MUTE,
                    words::mute(),
                    Some(!on),
                    Does::Tell(Command::Mute(on)),
                )),
                Act::Tell(command @ (Command::Accept | Command::Decline | Command::HangUp)) => {
                    let id = if command == Command::Accept {
                        id::ANSWER
                    } else if command == Command::Decline {
                        id::DECLINE
                    } else {
                        id::HANG_UP
                    };
                    Some(line(id, action.label, None, Does::Tell(command)))
                }
                Act::Tell(_)
                | Act::AnswerSeen
                | Act::Reply
                | Act::Camera
                | Act::Share
                | Act::Record
                | Act::Sound => None,
            })
            .collect();
        if !calls.is_empty() {
            lines.push(line(id::BEFORE_CALL, "", None, Does::Parts));
            lines.extend(calls);
        }
        lines.push(line(id::BEHIND_CALL, "", None, Does::Parts));
        let quiet = view.do_not_disturb;
        lines.push(line(
            id::QUIET,
            words::do_not_disturb(),
            Some(quiet),
            Does::Tell(Command::DoNotDisturb(!quiet)),
        ));
        let quit = Does::Tell(Command::Quit);
        lines.push(line(id::QUIT, words::tray_quit(), None, quit));
        Self {
            title: model::title(call, model::all_unread(view)),
            attention: model::wants_attention(view).is_some(),
            lines,
        }
    }

    fn status(&self) -> &'static str {
        if self.attention {
            "NeedsAttention"
        } else {
            "Active"
        }
    }
}

/// What both objects on the bus know.
struct Shared {
    shown: Mutex<(Shown, u32)>,
    act: Box<dyn Fn(Does) + Send + Sync>,
}

impl Shared {
    fn shown(&self) -> MutexGuard<'_, (Shown, u32)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what line `id` does, if it is there.
    fn press(&self, id: i32) {
        let does = {
            let shown = self.shown();
            let line = shown.0.lines.iter().find(|line| line.id == id);
            line.map(|line| line.does.clone())
        };
        if let Some(does) = does {
            (self.act)(does);
        }
    }
}

fn owned(value: Value<'_>) -> OwnedValue {
    // Only open files cannot be had twice, and there are none.
    value
        .try_to_owned()
        .unwrap_or_else(|_file| OwnedValue::from(false))
}

type Properties = HashMap<String, Value<'static>>;

fn properties(line: &Line) -> Properties {
    let mut of: Properties = HashMap::new();
    if line.does == Does::Parts {
        of.insert("type".into(), "separator".into());
        return of;
    }
    // An underscore would mark a key.
    of.insert("label".into(), line.label.replace('_', "__").into());
    if let Some(checked) = line.checked {
        of.insert("toggle-type".into(), "checkmark".into());
        of.insert("toggle-state".into(), i32::from(checked).into());
    }
    of
}

fn numbered(lines: &[Line]) -> impl Iterator<Item = (i32, &Line)> {
    lines.iter().map(|line| (line.id, line))
}

/// Pictures of a size, as the bus has them: width, height, and four bytes for each pixel.
type Pixels = Vec<(i32, i32, Vec<u8>)>;

/// A disc, for desktops whose theme does not have our icon.
fn disc() -> Pixels {
    let middle = (ICON_SIDE - 1) as f32 / 2.0;
    let radius = ICON_SIDE as f32 / 2.0 - 1.0;
    let mut pixels = Vec::new();
    for y in 0..ICON_SIDE {
        for x in 0..ICON_SIDE {
            let far = (x as f32 - middle).hypot(y as f32 - middle);
            let is_in = far <= radius;
            pixels.extend(if is_in { ICON_COLOUR } else { [0; 4] });
        }
    }
    vec![(ICON_SIDE, ICON_SIDE, pixels)]
}

/// `org.kde.StatusNotifierItem`.
struct Item(Arc<Shared>);

#[interface(name = "org.kde.StatusNotifierItem")]
impl Item {
    fn activate(&self, _x: i32, _y: i32) {
        (self.0.act)(Does::Show);
    }

    fn secondary_activate(&self, _x: i32, _y: i32) {
        (self.0.act)(Does::Show);
    }

    fn context_menu(&self, _x: i32, _y: i32) {}

    fn scroll(&self, _delta: i32, _orientation: String) {}

    #[zbus(property)]
    fn category(&self) -> String {
        "Communications".into()
    }

    #[zbus(property)]
    fn id(&self) -> String {
        "ahoy".into()
    }

    #[zbus(property)]
    fn title(&self) -> String {
        self.0.shown().0.title.clone()
    }

    #[zbus(property)]
    fn status(&self) -> String {
        self.0.shown().0.status().into()
    }

    #[zbus(property)]
    fn window_id(&self) -> i32 {
        0
    }

    #[zbus(property)]
    fn icon_name(&self) -> String {
        "ahoy".into()
    }

    #[zbus(property)]
    fn icon_pixmap(&self) -> Pixels {
        disc()
    }

    #[zbus(property)]
    fn attention_icon_name(&self) -> String {
        "ahoy".into()
    }

    #[zbus(property)]
    fn tool_tip(&self) -> (String, Pixels, String, String) {
        (
            "ahoy".into(),
            Vec::new(),
            self.0.shown().0.title.clone(),
            String::new(),
        )
    }

    #[zbus(property)]
    fn item_is_menu(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn menu(&self) -> ObjectPath<'static> {
        ObjectPath::from_static_str_unchecked(MENU_PATH)
    }
}

/// `com.canonical.dbusmenu`.
struct Menu(Arc<Shared>);

type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

#[interface(name = "com.canonical.dbusmenu")]
impl Menu {
    #[zbus(out_args("revision", "layout"))]
    fn get_layout(&self, parent: i32, depth: i32, _names: Vec<String>) -> (u32, Layout) {
        let shown = self.0.shown();
        let (shown, revision) = (&shown.0, shown.1);
        if parent != ROOT {
            let line = numbered(&shown.lines).find(|(id, _)| *id == parent);
            let of = line.map(|(_, line)| properties(line)).unwrap_or_default();
            let of = of.into_iter().map(|(name, value)| (name, owned(value)));
            return (revision, (parent, of.collect(), Vec::new()));
        }
        let children = numbered(&shown.lines).filter(|_| depth != 0);
        let children = children.map(|(id, line)| {
            let none: Vec<Value<'static>> = Vec::new();
            owned(Value::from((id, properties(line), none)))
        });
        let submenu = owned(Value::from("submenu"));
        let of = HashMap::from([("children-display".to_owned(), submenu)]);
        (revision, (ROOT, of, children.collect()))
    }

    fn get_group_properties(
        &self,
        ids: Vec<i32>,
        _names: Vec<String>,
    ) -> Vec<(i32, HashMap<String, OwnedValue>)> {
        let shown = self.0.shown();
        let wanted = numbered(&shown.0.lines).filter(|(id, _)| ids.is_empty() || ids.contains(id));
        let of = wanted.map(|(id, line)| {
            let of = properties(line).into_iter();
            (id, of.map(|(name, value)| (name, owned(value))).collect())
        });
        of.collect()
    }

    fn get_property(&self, id: i32, name: String) -> zbus::fdo::Result<OwnedValue> {
        let shown = self.0.shown();
        let mut lines = numbered(&shown.0.lines);
        let line = lines.find(|(known, _)| *known == id);
        let mut of = line.map(|(_, line)| properties(line)).unwrap_or_default();
        let value = of.remove(&name).map(owned);
        value.ok_or_else(|| zbus::fdo::Error::InvalidArgs("there is none".into()))
    }

    fn event(&self, id: i32, event: String, _data: OwnedValue, _timestamp: u32) {
        if event == "clicked" {
            self.0.press(id);
        }
    }

    fn event_group(&self, events: Vec<(i32, String, OwnedValue, u32)>) -> Vec<i32> {
        for (id, event, data, timestamp) in events {
            self.event(id, event, data, timestamp);
        }
        Vec::new()
    }

    fn about_to_show(&self, _id: i32) -> bool {
        false
    }

    #[zbus(out_args("updates", "errors"))]
    fn about_to_show_group(&self, _ids: Vec<i32>) -> (Vec<i32>, Vec<i32>) {
        (Vec::new(), Vec::new())
    }

    #[zbus(property)]
    fn version(&self) -> u32 {
        3
    }

    #[zbus(property)]
    fn text_direction(&self) -> String {
        "ltr".into()
    }

    #[zbus(property)]
    fn status(&self) -> String {
        "normal".into()
    }

    #[zbus(property)]
    fn icon_theme_path(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Shows the menu while `engine` runs. To show the window is the same as starting ahoy again.
pub(super) fn start(
    runtime: &Handle,
    engine: EngineHandle,
    opener: watch::Sender<Opened>,
    spoken: watch::Receiver<Language>,
) {
    let view = engine.view();
    let act = move |does| match does {
        Does::Show => opener.send_modify(|opened| {
            opened.count += 1;
            opened.link.clear();
        }),
        Does::Tell(command) => {
            if !engine.send(command) {
                tracing::warn!("the engine does not take commands");
            }
        }
        Does::Parts => {}
    };
    runtime.spawn(async move {
        let bus = Builder::session();
        if let Err(error) = serve(bus, view, spoken, Box::new(act)).await {
            tracing::debug!(%error, "no menu in the tray");
        }
    });
}

async fn serve(
    bus: zbus::Result<Builder<'_>>,
    mut view: watch::Receiver<View>,
    mut spoken: watch::Receiver<Language>,
    act: Box<dyn Fn(Does) + Send + Sync>,
) -> zbus::Result<()> {
    let now = |view: &mut watch::Receiver<View>, spoken: &mut watch::Receiver<Language>| {
        let language = *spoken.borrow_and_update();
        words::with(language, || Shown::of(&view.borrow_and_update()))
    };
    let shared = Arc::new(Shared {
        shown: Mutex::new((now(&mut view, &mut spoken), 1)),
        act,
    });
    let bus = bus?
        .serve_at(ITEM_PATH, Item(Arc::clone(&shared)))?
        .serve_at(MENU_PATH, Menu(Arc::clone(&shared)))?
        .method_timeout(PATIENCE)
        .build()
        .await?;
    let daemon = DBusProxy::new(&bus).await?;
    let mut owners = daemon
        .receive_name_owner_changed_with_args(&[(0, WATCHER)])
        .await?;
    register(&bus).await;
    loop {
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return Ok(()) },
            Ok(()) = spoken.changed() => {}
            Some(change) = owners.next() => {
                // Whoever shows items started, or started anew.
                if change.args().is_ok_and(|args| args.new_owner().is_some()) {
                    register(&bus).await;
                }
                continue;
            }
        }
        let new = now(&mut view, &mut spoken);
        let (before, revision) = {
            let mut shown = shared.shown();
            if shown.0 == new {
                continue;
            }
            let before = std::mem::replace(&mut shown.0, new.clone());
            shown.1 = shown.1.wrapping_add(1);
            (before, shown.1)
        };
        if before.title != new.title {
            tell(&bus, ITEM_PATH, ITEM, "NewTitle", &()).await;
            tell(&bus, ITEM_PATH, ITEM, "NewToolTip", &()).await;
        }
        if before.attention != new.attention {
            tell(&bus, ITEM_PATH, ITEM, "NewStatus", &new.status()).await;
        }
        if before.lines != new.lines {
            tell(&bus, MENU_PATH, MENU, "LayoutUpdated", &(revision, ROOT)).await;
        }
    }
}

/// Where nobody shows items this fails, and that is all.
async fn register(bus: &Connection) {
    let own = bus.unique_name().map(ToString::to_string);
    let own = own.unwrap_or_default();
    let asked = bus.call_method(
        Some(WATCHER),
        WATCHER_PATH,
        Some(WATCHER),
        "RegisterStatusNotifierItem",
        &own,
    );
    if let Err(error) = asked.await {
        tracing::debug!(%error, "nobody shows a tray");
    }
}

async fn tell<T: serde::Serialize + zbus::zvariant::DynamicType + Sync>(
    bus: &Connection,
    path: &str,
    interface: &str,
    signal: &str,
    body: &T,
) {
    let told = bus.emit_signal(None::<&str>, path, interface, signal, body);
    if let Err(error) = told.await {
        tracing::debug!(%error, signal, "the tray is not told");
    }
}

#[cfg(test)]
mod tests;
