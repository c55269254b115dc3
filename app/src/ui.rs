//! The window: a projection of the engine's [`View`], one file per part.
//!
//! Nothing here waits: commands go into a bounded queue, and a change of the view asks for a repaint. While
//! nothing happens nothing is drawn; only the clock of a call asks for the next second.

mod after;
mod backup;
mod bar;
mod call;
mod chat;
mod chooser;
mod comeback;
mod desk;
mod devices;
mod dropped;
mod echo;
mod files;
#[cfg(test)]
mod flows;
mod history;
mod home;
#[cfg(test)]
mod hostile;
mod keys;
mod layout;
mod ledger;
mod lending;
mod mirror;
pub mod model;
mod network;
mod notify;
pub mod open;
mod pace;
mod parts;
mod person;
mod recents;
mod record;
mod reply;
mod scan;
mod settings;
mod share;
mod shelf;
mod shortcuts;
mod sound;
mod stage;
#[cfg(test)]
mod testing;
pub mod theme;
mod told;
#[cfg(all(feature = "tray", target_os = "linux"))]
mod tray;
mod unlock;
mod welcome;
mod words;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ahoy_transport::identity::UserId;
use eframe::egui::{self, UserAttentionType, ViewportCommand};
use tokio::sync::watch;

use crate::{
    call::CallId,
    control::Opened,
    engine::{
        book::AddressBook,
        handle::{CallView, Command, EngineHandle, OtherCall, Phase, View},
        nat::NatReports,
        video::WindowPictures,
    },
    headless::pairing::Inside,
    profile::Profile,
    settings::{LanguageChoice, Settings, SettingsChange},
};
use chooser::Chooser;
use comeback::Door;
use desk::{Desk, DeskView};
use devices::{Devices, DevicesView};
use history::History;
use home::Home;
use ledger::{Ledger, LedgerView};
use mirror::{Mirror, MirrorView, Sight, Wanted};
use model::Act;
use pace::{Pace, Part};
use settings::Tab;
use shelf::{Shelf, ShelfView};
use stage::Stage;
use theme::Tokens;
use words::Language;

/// Asks for a theme: `dark` or `light`. Without it the system decides, where it says anything.
const THEME_VARIABLE: &str = "AHOY_THEME";

/// What a window is opened with.
#[derive(Debug)]
pub struct Opening {
    /// What it shows and tells.
    pub engine: EngineHandle,
    /// The people of the profile, and its devices' names.
    pub book: Arc<dyn AddressBook>,
    /// Where the settings are.
    pub profile: Profile,
    /// What the call field holds at first.
    pub target: String,
    /// Where pictures come.
    pub pictures: WindowPictures,
    /// Told when somebody starts ahoy again.
    pub opened: watch::Receiver<Opened>,
    /// Nobody was here before: the first steps are shown.
    pub is_first: bool,
    /// Where the window leaves who comes back from elsewhere.
    pub door: Door,
    /// What language it speaks, for others who speak.
    spoken: watch::Sender<Language>,
}

/// Somebody who is to see the camera once they talk with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seer {
    /// They are called with it.
    Called {
        user: UserId,
        /// The call that was shown then, which is another one.
        before: Option<CallId>,
    },
    /// This call of theirs is answered with it.
    Answered(CallId),
}

impl Seer {
    /// Whether this is the call that was meant.
    fn is_in(self, call: &CallView) -> bool {
        match self {
            Self::Called { user, before } => call.user == user && before != Some(call.id),
            Self::Answered(id) => call.id == id,
        }
    }
}

/// The desktop window on a running engine.
#[derive(Debug)]
pub struct Window {
    engine: EngineHandle,
    view: watch::Receiver<View>,
    desk: Desk,
    devices: watch::Receiver<DeskView>,
    own: Devices,
    own_devices: watch::Receiver<DevicesView>,
    tokens: Tokens,
    home: Home,
    settings: settings::Page,
    welcome: welcome::Page,
    comeback: comeback::Page,
    ledger: Ledger,
    saved: watch::Receiver<LedgerView>,
    history: watch::Receiver<History>,
    nat: watch::Receiver<NatReports>,
    /// Somebody started ahoy again, perhaps by a link.
    opened: watch::Receiver<Opened>,
    /// The window goes, and all of ahoy with it.
    quits: Arc<AtomicBool>,
    /// The window is closed, and ahoy runs.
    hidden: bool,
    /// The engine knows that somebody looks at the window.
    looked_at: bool,
    /// What is in force of the settings about looks.
    look: Option<(egui::ThemePreference, u16)>,
    language: Option<LanguageChoice>,
    /// The language, for those who speak on other threads.
    spoken: watch::Sender<Language>,
    /// The theme that was asked for by `AHOY_THEME`, whatever the settings say.
    forced_theme: Option<egui::ThemePreference>,
    chat: chat::Page,
    chooser: Chooser,
    /// Whoever is called or answered with the camera, until they see it.
    sees_camera: Option<Seer>,
    reply: reply::Page,
    bar: bar::Bar,
    runtime: tokio::runtime::Handle,
    stage: Stage,
    mirror: Mirror,
    mirrored: watch::Receiver<MirrorView>,
    scan: scan::Scan,
    share: share::Page,
    shelf: Shelf,
    showable: watch::Receiver<ShelfView>,
    pace: Pace,
    /// The space bar is held, and with it the microphone open.
    talks: bool,
    /// The ended call that the person has read about.
    put_away: Option<CallId>,
    /// The call that the window system was asked to point at.
    pointed_at: Option<CallId>,
    title: String,
}

impl Window {
    /// The window that `opening` asks for. `runtime` carries what takes time.
    #[must_use]
    pub fn new(opening: Opening, ctx: &egui::Context, runtime: &tokio::runtime::Handle) -> Self {
        let Opening {
            engine,
            book,
            profile,
            target,
            pictures,
            opened,
            is_first,
            door,
            spoken,
        } = opening;
        let view = engine.view();
        let inside = Inside {
            renewer: engine.renewer(),
            book,
        };
        let own = Devices::start(runtime, profile.clone(), inside);
        let comeback = comeback::Page::new(door, profile.clone(), runtime);
        let ledger = Ledger::start(runtime, profile.clone());
        let mut welcome = welcome::Page::default();
        if is_first && target.is_empty() {
            welcome.begin(true);
        }
        // Not a frame in another one.
        let language = Language::of(Settings::language_of(&profile));
        words::speak(language);
        spoken.send_replace(language);
        let desk = Desk::start(runtime);
        let shelf = Shelf::start(runtime);
        let pace = Pace::default();
        let stage = Stage::new(pictures, ctx, pace.clone());
        let mirror = Mirror::start(runtime, stage.mirror_place());
        Self {
            devices: desk.shown(),
            desk,
            settings: settings::Page::default(),
            welcome,
            comeback,
            own_devices: own.shown(),
            own,
            saved: ledger.shown(),
            ledger,
            history: history::start(runtime, view.clone()),
            nat: engine.nat(),
            view,
            opened,
            quits: Arc::default(),
            hidden: false,
            looked_at: false,
            look: None,
            language: None,
            spoken,
            forced_theme: model::forced_theme(std::env::var(THEME_VARIABLE).ok().as_deref()),
            chat: chat::Page::default(),
            chooser: Chooser::new(runtime),
            sees_camera: None,
            reply: reply::Page::default(),
            bar: bar::Bar::default(),
            runtime: runtime.clone(),
            stage,
            mirrored: mirror.shown(),
            scan: scan::Scan::default(),
            mirror,
            share: share::Page::default(),
            showable: shelf.shown(),
            shelf,
            pace,
            talks: false,
            tokens: Tokens::load(),
            home: Home {
                // Whoever opened a link wants to call: Enter does it. Otherwise keys belong to the call.
                focus_target: !target.is_empty(),
                target,
                ..Home::default()
            },
            put_away: None,
            pointed_at: None,
            title: String::new(),
            engine,
        }
    }

    fn send(&mut self, command: Command) {
        if matches!(command, Command::Call(_) | Command::Accept) {
            // Whoever begins to talk without the camera does not show it because of a call that came to nothing.
            self.sees_camera = None;
        }
        if !self.engine.send(command) {
            tracing::warn!("the engine does not take commands");
        }
    }

    /// Tells the window system what a task bar shows. A call that rings asks for attention and never takes the
    /// keyboard away from whatever the person is typing.
    fn tell_system(&mut self, ctx: &egui::Context) {
        let view = self.view.borrow();
        let unread = model::all_unread(&view);
        let title = model::title(model::shown_call(&view, self.put_away), unread);
        if title != self.title {
            ctx.send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
        let wants = model::wants_attention(&view);
        if wants != self.pointed_at {
            let attention = match wants {
                Some(_) => UserAttentionType::Critical,
                None => UserAttentionType::Reset,
            };
            ctx.send_viewport_cmd(ViewportCommand::RequestUserAttention(attention));
            self.pointed_at = wants;
        }
    }

    /// Does what a button does.
    fn act(&mut self, act: Act) {
        match act {
            Act::Tell(command) => self.send(command),
            Act::AnswerSeen => {
                let ringing = model::ringing(&self.view.borrow()).map(|(call, ..)| call);
                self.send(Command::Accept);
                self.sees_camera = ringing.map(Seer::Answered);
            }
            Act::Reply => {
                let view = self.view.borrow();
                if let Some((call, user, name)) = model::ringing(&view) {
                    self.reply.open(call, user, name);
                }
            }
            Act::Camera => {
                let camera = share::camera(self.share.camera.clone());
                self.send(Command::Show(Some(camera)));
            }
            Act::Record => {
                let name = self
                    .view
                    .borrow()
                    .call
                    .as_ref()
                    .map(|call| call.name.clone());
                let to = record::to_own_folder(&name.unwrap_or_default());
                self.send(Command::Record(Some(to)));
            }
            Act::Share => {
                self.settings.close();
                self.close_chat();
                self.share.toggle();
            }
            Act::Sound => self.open_settings(Tab::Sound),
        }
    }

    fn open_chat(&mut self, user: UserId) {
        self.share.open = false;
        self.settings.close();
        self.welcome.open = false;
        self.chat.open(user);
        self.send(Command::OpenChat(Some(user)));
    }

    fn close_chat(&mut self) {
        if self.chat.is_open() {
            self.chat.close();
            self.send(Command::OpenChat(None));
        }
    }

    fn open_settings(&mut self, tab: Tab) {
        self.share.open = false;
        self.welcome.open = false;
        self.close_chat();
        self.settings.open_at(tab);
    }

    /// Opens the settings there, or closes them, wherever they are open.
    fn toggle_settings(&mut self, tab: Tab) {
        if self.settings.open {
            self.settings.close();
        } else {
            self.open_settings(tab);
        }
    }

    /// Whoever was called with the camera sees it once they have answered.
    fn show_camera(&mut self, view: &View) {
        let Some(seer) = self.sees_camera else { return };
        let is_answered = matches!(seer, Seer::Answered(_));
        match view.call.as_ref().filter(|call| seer.is_in(call)) {
            Some(call) => match call.phase {
                Phase::Talking { .. } => {
                    self.sees_camera = None;
                    self.act(Act::Camera);
                }
                Phase::Ended { .. } => self.sees_camera = None,
                // They call by themselves: whoever answers decides anew.
                Phase::Incoming if !is_answered => self.sees_camera = None,
                Phase::Calling
                | Phase::Ringing
                | Phase::Incoming
                | Phase::Connecting
                | Phase::Reconnecting => {}
            },
            None => {
                let waits = |other: &OtherCall| seer == Seer::Answered(other.id);
                if is_answered && !view.other.as_ref().is_some_and(waits) {
                    // It was over before it was answered.
                    self.sees_camera = None;
                }
            }
        }
    }

    /// Who stands on top of the list.
    fn favourites(&self) -> Vec<UserId> {
        let saved = self.saved.borrow();
        let settings = saved.settings.as_ref();
        settings.map_or_else(Vec::new, |settings| settings.favourites.clone())
    }

    /// Shows the window again, as whoever started ahoy anew expects.
    fn come_back(&mut self, ctx: &egui::Context) {
        if self.hidden {
            self.hidden = false;
            ctx.send_viewport_cmd(ViewportCommand::Visible(true));
        }
    }

    /// Somebody started ahoy again, or a call came: whoever closed the window sees it again.
    fn look_outside(&mut self, ctx: &egui::Context) {
        if self.opened.has_changed().unwrap_or(false) {
            let opened = self.opened.borrow_and_update().clone();
            self.come_back(ctx);
            ctx.send_viewport_cmd(ViewportCommand::Focus);
            if !opened.link.is_empty() {
                self.settings.close();
                self.share.open = false;
                self.welcome.open = false;
                self.close_chat();
                self.home.target = opened.link;
                self.home.focus_target = true;
            }
        }
        if model::wants_attention(&self.view.borrow()).is_some() {
            self.come_back(ctx);
        }
        let keeps_running = match &self.saved.borrow().settings {
            Some(settings) => settings.keep_running,
            None => Settings::default().keep_running,
        };
        if ctx.input(|input| input.viewport().close_requested())
            && keeps_running
            && !self.quits.load(Ordering::Relaxed)
        {
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            ctx.send_viewport_cmd(ViewportCommand::Visible(false));
            self.hidden = true;
        }
    }

    /// Whether somebody may look at the window.
    fn is_seen(&self, ctx: &egui::Context) -> bool {
        let minimised = ctx.input(|input| input.viewport().minimized);
        !self.hidden && minimised != Some(true)
    }

    /// What goes on though nothing is drawn: devices are let go, and a camera that was promised is shown, or no longer promised.
    fn go_on_unseen(&mut self, ctx: &egui::Context) {
        if !self.is_seen(ctx) {
            self.scan.close();
            self.mirror.look(None);
            self.desk.look(false, None);
            self.shelf.look(false);
        }
        if self.sees_camera.is_some() {
            let view = self.view.borrow().clone();
            self.show_camera(&view);
        }
    }

    /// Contacts are asked whether they are there while somebody may look, and only then.
    fn tell_looked_at(&mut self, ctx: &egui::Context) {
        let looked_at = self.is_seen(ctx);
        if looked_at != self.looked_at {
            self.looked_at = looked_at;
            self.send(Command::Look(looked_at));
        }
    }

    /// Follows the settings about looks.
    fn dress(&mut self, ctx: &egui::Context) {
        let (look, choice) = match &self.saved.borrow().settings {
            Some(settings) => {
                let theme = settings::theme_of(settings.theme);
                let theme = self.forced_theme.unwrap_or(theme);
                keys::choose(&settings.keys);
                ((theme, settings.scale_percent), settings.language)
            }
            None => return,
        };
        if self.language != Some(choice) {
            self.language = Some(choice);
            let language = Language::of(choice);
            words::speak(language);
            self.spoken.send_replace(language);
        }
        if self.look != Some(look) {
            self.look = Some(look);
            ctx.set_theme(look.0);
            let zoom = f32::from(look.1) / 100.0;
            ctx.set_zoom_factor(zoom);
            // What is drawn larger needs room: as much as a small window has, and no more than a small screen.
            let least =
                std::array::from_fn(|side| (USUAL_LEAST_SIZE[side] / zoom).max(LEAST_SIZE[side]));
            ctx.send_viewport_cmd(ViewportCommand::MinInnerSize(least.into()));
        }
    }

    /// Draws everything.
    pub fn show(&mut self, ui: &mut egui::Ui, now: Instant) {
        let view = self.view.borrow_and_update().clone();
        let colors = self.tokens.colors(ui.ctx());
        self.keys(ui, &view);
        if ui.input_mut(|input| input.consume_key(egui::Modifiers::COMMAND, egui::Key::Q)) {
            self.quits.store(true, Ordering::Relaxed);
            ui.ctx().send_viewport_cmd(ViewportCommand::Close);
        }
        self.take_files(ui);
        self.show_camera(&view);
        // A window that is closed is drawn now and then on X11, and so is one whose bar is seen.
        let is_seen = self.is_seen(ui.ctx());
        if is_seen {
            self.stage.look();
        }
        let call = view.call.as_ref().filter(|call| !model::is_over(call));
        // There is nobody to show anything to.
        self.share.open &= model::is_talking(&view);
        let page = egui::Frame::new().fill(colors.window);
        egui::CentralPanel::default().frame(page).show(ui, |ui| {
            if let Some(call) = call.filter(|call| self.shows_pictures(call)) {
                self.picture_page(ui, &view, call, now);
            } else if self.is_page_open() && ui.available_width() >= self.tokens.size.two_columns {
                self.two_columns(ui, &view, now);
            } else {
                self.one_column(ui, &view, now);
            }
        });
        self.hovering(ui, &view);
        self.bar(ui, &view);
        let at_sound = is_seen
            && (self.settings.is_at_sound()
                || self.shows_welcome(&view) && self.welcome.is_at_sound());
        let listen = at_sound && !model::is_talking(&view);
        let microphone = listen.then(|| view.sound.microphone.clone());
        self.desk.look(at_sound, microphone);
        if !is_seen || call.is_some() {
            // It does not go on by itself when they come back, and a call may want the camera.
            self.scan.close();
        }
        let scans = self.scan.is_wanted();
        let at_camera = is_seen && self.shows_welcome(&view) && self.welcome.is_at_camera();
        let looks = scans || at_camera;
        self.shelf.look(self.share.open || looks);
        let wanted = looks.then(|| Wanted {
            camera: share::camera(self.share.camera.clone()).input,
            scans,
        });
        self.mirror.look(wanted);
        if let Some(call) = &view.call
            && let Some(wait) = model::next_change(call, now)
        {
            ui.ctx().request_repaint_after(wait);
        }
    }

    fn shows_welcome(&self, view: &View) -> bool {
        self.welcome.open && model::shown_call(view, self.put_away).is_none()
    }

    fn first_steps(&mut self, ui: &mut egui::Ui, view: &View) {
        let devices = self.devices.borrow_and_update().clone();
        let saved = self.saved.borrow().clone();
        let tokens = self.tokens;
        let shelf = self.showable.borrow_and_update().clone();
        let sight = Sight {
            stage: &self.stage,
            mirror: self.mirrored.borrow_and_update().clone(),
            shelf: &shelf,
            camera: self.share.camera.as_ref(),
        };
        if self.comeback.open {
            let mut scanned = scan::Done::default();
            let scan = &mut self.scan;
            let done = self.comeback.show(ui, &tokens, |ui| {
                scanned = scan.show(ui, &sight, crate::pairing::SCHEME, &tokens);
                scanned.link.take()
            });
            if scanned.camera.is_some() {
                self.share.camera = scanned.camera;
            }
            if done.ready {
                self.quits.store(true, Ordering::Relaxed);
                ui.ctx().send_viewport_cmd(ViewportCommand::Close);
            }
            return;
        }
        let welcome = &mut self.welcome;
        let done = welcome.show(ui, view, &devices, &saved, &sight, &tokens);
        if done.camera.is_some() {
            self.share.camera = done.camera;
        }
        self.echo_test(ui, view);
        if done.comes_back {
            self.comeback.begin();
        }
        self.carry_out(done.commands, done.changes);
        if let Some(ask) = done.ask {
            self.desk.ask(ask);
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>, changes: Vec<SettingsChange>) {
        for command in commands {
            self.send(command);
        }
        for change in changes {
            self.ledger.change(change);
        }
    }

    fn is_page_open(&self) -> bool {
        self.settings.open || self.share.open || self.chat.is_open()
    }
}

/// The window is no smaller than this in points, width and height, where things have their usual size.
const USUAL_LEAST_SIZE: [f32; 2] = [380.0, 420.0];
/// And no smaller than this in points, however large they are drawn.
const LEAST_SIZE: [f32; 2] = [300.0, 240.0];

impl eframe::App for Window {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.dress(ctx);
        self.tell_system(ctx);
        self.look_outside(ctx);
        self.tell_looked_at(ctx);
        self.go_on_unseen(ctx);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the window is outside the simulated world: the person's clock is the real one"
    )]
    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
        // Of the frame before.
        let whole = frame.info().cpu_usage;
        if let Some(whole) = whole.and_then(|whole| Duration::try_from_secs_f32(whole).ok()) {
            let part = if self.stage.has_picture() {
                Part::Pictures
            } else {
                Part::Rest
            };
            self.pace.note(part, whole);
        }
        let pace = self.pace.clone();
        pace.time(Part::Page, || self.show(ui, Instant::now()));
    }

    fn on_exit(&mut self, gl: Option<&eframe::glow::Context>) {
        if let Some(gl) = gl {
            self.stage.destroy(gl);
        }
        self.pace.tell();
        self.send(Command::Quit);
    }
}

/// Opens the window and returns when it is closed. Must run on the main thread; `runtime` carries the wait
/// for the next view.
///
/// # Errors
/// When no window can be opened: no display, or no OpenGL.
pub fn run(opening: Opening, runtime: &tokio::runtime::Handle) -> eframe::Result {
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("ahoy")
            .with_app_id("ahoy")
            .with_inner_size([520.0, 640.0])
            .with_min_inner_size(USUAL_LEAST_SIZE),
        renderer: eframe::Renderer::Glow,
        ..Default::default()
    };
    let runtime = runtime.clone();
    eframe::run_native(
        "ahoy",
        options,
        Box::new(move |creation| {
            let ctx = &creation.egui_ctx;
            let window = Window::new(opening, ctx, &runtime);
            window.tokens.apply(ctx);
            // The settings count here: see `Window::dress`.
            ctx.options_mut(|options| options.zoom_with_keyboard = false);
            ctx.set_theme(window.forced_theme.unwrap_or(egui::ThemePreference::System));
            let mut view = window.engine.view();
            let (gone, quits) = (ctx.clone(), Arc::clone(&window.quits));
            runtime.spawn(async move {
                while view.changed().await.is_ok() {
                    gone.request_repaint_of(egui::ViewportId::ROOT);
                }
                // The engine is gone: so is the window.
                quits.store(true, Ordering::Relaxed);
                gone.send_viewport_cmd(ViewportCommand::Close);
            });
            repaint_with(&runtime, ctx, window.desk.shown());
            repaint_with(&runtime, ctx, window.shelf.shown());
            repaint_with(&runtime, ctx, window.mirror.shown());
            repaint_with(&runtime, ctx, window.ledger.shown());
            repaint_with(&runtime, ctx, window.own.shown());
            repaint_with(&runtime, ctx, window.opened.clone());
            repaint_with(&runtime, ctx, window.nat.clone());
            let spoken = window.spoken.subscribe();
            notify::start(&runtime, window.engine.clone(), spoken, ctx);
            Ok(Box::new(window))
        }),
    )
}

/// Draws anew whenever there is something new. Ends with whoever tells it.
fn repaint_with<T: Send + Sync + 'static>(
    runtime: &tokio::runtime::Handle,
    ctx: &egui::Context,
    mut news: watch::Receiver<T>,
) {
    let ctx = ctx.clone();
    runtime.spawn(async move {
        while news.changed().await.is_ok() {
            // Not of the bar, which may be drawn in this moment.
            ctx.request_repaint_of(egui::ViewportId::ROOT);
        }
    });
}
