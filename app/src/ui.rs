//! The window: a projection of the engine's [`View`], one file per part.
//!
//! Nothing here waits: commands go into a bounded queue, and a change of the view asks for a repaint. While
//! nothing happens nothing is drawn; only the clock of a call asks for the next second.

mod call;
mod chat;
mod comeback;
mod desk;
mod history;
mod home;
#[cfg(test)]
mod hostile;
mod keys;
mod ledger;
pub mod model;
mod network;
mod notify;
pub mod open;
mod pace;
mod parts;
mod recents;
mod record;
mod settings;
mod share;
mod shelf;
mod sound;
mod stage;
#[cfg(test)]
mod testing;
pub mod theme;
mod unlock;
mod welcome;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ahoy_transport::identity::UserId;
use eframe::egui::{self, RichText, UserAttentionType, ViewportCommand};
use tokio::sync::watch;

use crate::{
    call::CallId,
    control::Opened,
    engine::{
        handle::{CallView, Command, EngineHandle, Phase, View},
        nat::NatReports,
        video::{WindowPictures, view::Received},
    },
    profile::Profile,
    settings::{SCALES, Settings, SettingsChange},
};
use comeback::Door;
use desk::{Desk, DeskView};
use history::History;
use home::Home;
use ledger::{Ledger, LedgerView};
use model::Act;
use pace::{Pace, Part};
use settings::{Known, Tab};
use shelf::{Shelf, ShelfView};
use stage::Stage;
use theme::Tokens;

/// Asks for a theme: `dark` or `light`. Without it the system decides, where it says anything.
const THEME_VARIABLE: &str = "AHOY_THEME";

/// What a window is opened with.
#[derive(Debug)]
pub struct Opening {
    /// What it shows and tells.
    pub engine: EngineHandle,
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
}

/// The desktop window on a running engine.
#[derive(Debug)]
pub struct Window {
    engine: EngineHandle,
    view: watch::Receiver<View>,
    desk: Desk,
    devices: watch::Receiver<DeskView>,
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
    /// What is in force of the settings about looks.
    look: Option<(egui::ThemePreference, u16)>,
    /// The theme that was asked for by `AHOY_THEME`, whatever the settings say.
    forced_theme: Option<egui::ThemePreference>,
    chat: chat::Page,
    stage: Stage,
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
            profile,
            target,
            pictures,
            opened,
            is_first,
            door,
        } = opening;
        let view = engine.view();
        let ledger = Ledger::start(runtime, profile);
        let mut welcome = welcome::Page::default();
        if is_first && target.is_empty() {
            welcome.begin(true);
        }
        let desk = Desk::start(runtime);
        let shelf = Shelf::start(runtime);
        let pace = Pace::default();
        Self {
            devices: desk.shown(),
            desk,
            settings: settings::Page::default(),
            welcome,
            comeback: comeback::Page::new(door, runtime),
            saved: ledger.shown(),
            ledger,
            history: history::start(runtime, view.clone()),
            nat: engine.nat(),
            view,
            opened,
            quits: Arc::default(),
            hidden: false,
            look: None,
            forced_theme: model::forced_theme(std::env::var(THEME_VARIABLE).ok().as_deref()),
            chat: chat::Page::default(),
            stage: Stage::new(pictures, ctx, pace.clone()),
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

    fn send(&self, command: Command) {
        if !self.engine.send(command) {
            tracing::warn!("the engine does not take commands");
        }
    }

    /// Tells the window system what a task bar shows. A call that rings asks for attention and never takes the
    /// keyboard away from whatever the person is typing.
    fn tell_system(&mut self, ctx: &egui::Context) {
        let view = self.view.borrow();
        let unread = view.conversations.iter().map(|line| line.unread).sum();
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

    /// Shortcuts: one hand on the keyboard is enough. Those of the call rest while a field has the focus.
    fn keys(&mut self, ui: &egui::Ui, view: &View) {
        let settings = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, egui::Key::Comma);
        if ui.input_mut(|input| input.consume_shortcut(&settings)) {
            self.toggle_settings(Tab::Sound);
        }
        self.other_shortcuts(ui);
        let favourites = self.favourites();
        let contacts = model::in_order(view, &favourites);
        for (key, contact) in CONTACT_KEYS.into_iter().zip(contacts) {
            let shortcut = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, key);
            if ui.input_mut(|input| input.consume_shortcut(&shortcut)) {
                self.open_chat(contact.user);
            }
        }
        // A list that is open takes the key first.
        let has_popup = egui::Popup::is_any_open(ui.ctx());
        if !has_popup && ui.input(|input| input.key_pressed(egui::Key::Escape)) {
            self.settings.close();
            self.welcome.open = false;
            self.comeback.close();
            self.share.open = false;
            self.close_chat();
        }
        if ui.input(|input| input.key_pressed(egui::Key::F11)) {
            toggle_fullscreen(ui.ctx());
        }
        let typing = ui.ctx().text_edit_focused();
        self.talk_by_key(ui, view, typing);
        if typing {
            return;
        }
        let asks = |event: &egui::Event| matches!(event, egui::Event::Text(text) if text == "?");
        if ui.input(|input| input.events.iter().any(asks)) {
            self.open_settings(Tab::Keys);
        }
        let Some(call) = &view.call else { return };
        let pressed = |key| {
            ui.input(|input| {
                input.events.iter().any(|event| {
                    // A key that is held down is one wish.
                    matches!(event, egui::Event::Key { key: which, pressed: true, repeat: false, modifiers, .. }
                        if *which == key && modifiers.is_none())
                })
            })
        };
        for action in model::call_actions(call) {
            if pressed(action.key) {
                self.act(action.act);
            }
        }
    }

    /// Does what a button does.
    fn act(&mut self, act: Act) {
        match act {
            Act::Tell(command) => self.send(command),
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

    /// Shortcuts that work everywhere, also while something is typed.
    fn other_shortcuts(&mut self, ui: &egui::Ui) {
        let pressed = |key| {
            let shortcut = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, key);
            ui.input_mut(|input| input.consume_shortcut(&shortcut))
        };
        if pressed(egui::Key::Slash) {
            self.open_settings(Tab::Keys);
        }
        if pressed(egui::Key::I) {
            self.open_settings(Tab::Call);
        }
        if pressed(egui::Key::K) {
            self.settings.close();
            self.share.open = false;
            self.welcome.open = false;
            self.close_chat();
            self.home.focus_target = true;
        }
        for (key, step) in [
            (egui::Key::Plus, 25),
            (egui::Key::Equals, 25),
            (egui::Key::Minus, -25),
        ] {
            if pressed(key)
                && let Some((_theme, percent)) = self.look
            {
                let percent = percent.saturating_add_signed(step);
                let percent = percent.clamp(*SCALES.start(), *SCALES.end());
                self.ledger.change(SettingsChange::Scale(percent));
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

    /// Follows the settings about looks.
    fn dress(&mut self, ctx: &egui::Context) {
        let look = match &self.saved.borrow().settings {
            Some(settings) => {
                let theme = settings::theme_of(settings.theme);
                (self.forced_theme.unwrap_or(theme), settings.scale_percent)
            }
            None => return,
        };
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

    /// Opens the microphone while the space bar is held, where somebody talks by a key. A window that the keyboard has
    /// left hears of no key that is let go: it is muted, too.
    fn talk_by_key(&mut self, ui: &egui::Ui, view: &View, typing: bool) {
        let possible = sound::talks_by_key(view) && !typing;
        let held = possible
            && ui.input_mut(|input| {
                // The control that has the focus would take the key for itself.
                input.events.retain(
                |event| !matches!(event, egui::Event::Key { key, .. } if *key == egui::Key::Space),
            );
                input.focused && input.key_down(egui::Key::Space)
            });
        if held != self.talks {
            self.talks = held;
            if sound::talks_by_key(view) {
                self.send(Command::Mute(!held));
            }
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
        self.stage.look();
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
        let at_sound =
            self.settings.is_at_sound() || self.shows_welcome(&view) && self.welcome.is_at_sound();
        let listen = at_sound && !model::is_talking(&view);
        let microphone = listen.then(|| view.sound.microphone.clone());
        self.desk.look(at_sound, microphone);
        self.shelf.look(self.share.open);
        if let Some(call) = &view.call
            && let Some(wait) = model::next_change(call, now)
        {
            ui.ctx().request_repaint_after(wait);
        }
    }

    /// Space at both sides of what is at most so wide.
    fn side_margin(&self, available: f32, widest: f32) -> f32 {
        let size = self.tokens.size;
        let least = if available < size.narrow {
            size.margin_small
        } else {
            size.margin
        };
        ((available - widest) / 2.0).max(least)
    }

    fn one_column(&mut self, ui: &mut egui::Ui, view: &View, now: Instant) {
        let size = self.tokens.size;
        let side = self.side_margin(ui.available_width(), size.column);
        let margin = egui::vec2(side, side.min(size.margin)).into();
        if self.chat.is_open() {
            // What was said scrolls by itself.
            egui::Frame::new().inner_margin(margin).show(ui, |ui| {
                self.call(ui, view, now);
                self.chat_page(ui, view);
            });
            return;
        }
        scroll(ui, "page", margin, |ui| {
            self.header(ui, view);
            ui.add_space(size.gap);
            self.call(ui, view, now);
            if self.is_page_open() {
                self.open_page(ui, view);
            } else if self.shows_welcome(view) {
                self.first_steps(ui, view);
            } else {
                self.home(ui, view);
            }
        });
    }

    fn shows_welcome(&self, view: &View) -> bool {
        self.welcome.open && model::shown_call(view, self.put_away).is_none()
    }

    fn first_steps(&mut self, ui: &mut egui::Ui, view: &View) {
        let devices = self.devices.borrow_and_update().clone();
        let saved = self.saved.borrow().clone();
        let tokens = self.tokens;
        if self.comeback.open {
            let done = self.comeback.show(ui, &tokens);
            if done.ready {
                self.quits.store(true, Ordering::Relaxed);
                ui.ctx().send_viewport_cmd(ViewportCommand::Close);
            }
            return;
        }
        let done = self.welcome.show(ui, view, &devices, &saved, &tokens);
        if done.comes_back {
            self.comeback.begin();
        }
        self.carry_out(done.commands, done.changes);
        if let Some(ask) = done.ask {
            self.desk.ask(ask);
        }
    }

    fn carry_out(&self, commands: Vec<Command>, changes: Vec<SettingsChange>) {
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

    /// What is beside or under the call, if it is open.
    fn open_page(&mut self, ui: &mut egui::Ui, view: &View) {
        if self.settings.open {
            self.settings_page(ui, view);
        } else if self.chat.is_open() {
            self.chat_page(ui, view);
        } else if let Some(call) = &view.call {
            let shelf = self.showable.borrow_and_update().clone();
            if let Some(wanted) = self.share.show(ui, call, &shelf, &self.tokens) {
                self.send(Command::Show(wanted));
            }
            if let Some(on) = self.share.sound.take() {
                self.send(Command::ShareSound(on));
            }
        }
    }

    /// Pictures are seen, or on their way.
    fn shows_pictures(&self, call: &CallView) -> bool {
        let pictures = &call.pictures;
        self.stage.has_picture()
            || pictures.sent.is_some()
            || pictures.received != Received::Nothing
    }

    /// The call with its pictures, which take all there is.
    fn picture_page(&mut self, ui: &mut egui::Ui, view: &View, call: &CallView, now: Instant) {
        /// Beside pictures, a page is so wide.
        const SIDE_WIDTH: f32 = 340.0;
        /// A window of less height has no room for both.
        const SHORT: f32 = 560.0;
        let size = self.tokens.size;
        let margin = egui::Margin::same(size.margin_small as i8);
        let none = egui::Frame::new();
        egui::Frame::new().inner_margin(margin).show(ui, |ui| {
            let is_wide = ui.available_width() >= size.two_columns;
            let is_open = self.is_page_open();
            let is_short = ui.available_height() < SHORT;
            let has_room = is_wide || !is_short;
            if is_open && has_room {
                let margin = size.margin_small as i8;
                let (side, space) = if is_wide {
                    let side = egui::Panel::right("beside").exact_size(SIDE_WIDTH);
                    let left = egui::Margin {
                        left: margin,
                        ..egui::Margin::ZERO
                    };
                    (side, left)
                } else {
                    let height = ui.available_height() / 2.0;
                    let side = egui::Panel::bottom("below").exact_size(height);
                    let top = egui::Margin {
                        top: margin,
                        ..egui::Margin::ZERO
                    };
                    (side, top)
                };
                side.frame(none.inner_margin(space))
                    .resizable(false)
                    .show_separator_line(false)
                    .show(ui, |ui| self.beside_pictures(ui, view, call));
            }
            egui::Panel::bottom("call")
                .frame(none.inner_margin(egui::Margin {
                    top: size.margin_small as i8,
                    ..egui::Margin::ZERO
                }))
                .resizable(false)
                .show_separator_line(false)
                .show(ui, |ui| self.call_bar(ui, call, is_short, now));
            if is_open && !has_room {
                return self.beside_pictures(ui, view, call);
            }
            let area = ui.available_rect_before_wrap();
            if self.stage.show(ui, area, call, &self.tokens) {
                toggle_fullscreen(ui.ctx());
            }
        });
    }

    /// What is open beside pictures, under them, or instead of them.
    fn beside_pictures(&mut self, ui: &mut egui::Ui, view: &View, call: &CallView) {
        if self.chat.is_open() {
            return self.chat_page(ui, view);
        }
        scroll(ui, "beside", egui::Margin::ZERO, |ui| {
            let talking = matches!(call.phase, Phase::Talking { .. });
            if self.settings.is_at_sound() && talking {
                self.call_details(ui, view, call);
                ui.add_space(self.tokens.size.gap);
            }
            self.open_page(ui, view);
        });
    }

    fn call_details(&mut self, ui: &mut egui::Ui, view: &View, call: &CallView) {
        let (tokens, talks_by_key) = (self.tokens, sound::talks_by_key(view));
        let mut act = None;
        parts::card(ui, &tokens, |ui| {
            act = call::details(ui, call, talks_by_key, &tokens);
        });
        if let Some(act) = act {
            self.act(act);
        }
    }

    /// What is under the pictures: who, and what can be done.
    fn call_bar(&mut self, ui: &mut egui::Ui, call: &CallView, is_short: bool, now: Instant) {
        /// Below this width, buttons have a row of their own.
        const NARROW: f32 = 1080.0;
        const BUTTON_WIDTH: f32 = 132.0;
        let tokens = self.tokens;
        let gap = tokens.size.gap;
        call::recording(ui, call, &tokens, now);
        let mut act = None;
        if is_short {
            call::trouble_in_words(ui, call, &tokens);
        } else {
            act = call::trouble(ui, call, &tokens);
        }
        let actions = model::call_actions(call);
        let mut sound = false;
        if ui.available_width() < NARROW {
            ui.horizontal(|ui| {
                let width = ui.available_width() - SETTINGS_WIDTH - gap;
                let height = ui.available_height();
                let column = egui::Layout::top_down(egui::Align::Min);
                ui.allocate_ui_with_layout(egui::vec2(width, height), column, |ui| {
                    ui.set_min_width(width);
                    call::heading(ui, call, &tokens, now);
                });
                sound = self.settings_button(ui, tokens.size.control_height);
            });
            act = call::buttons(ui, actions, &tokens).or(act);
        } else {
            ui.horizontal(|ui| {
                let count = actions.len() as f32;
                let buttons = count * BUTTON_WIDTH + (count - 1.0) * gap;
                let width = ui.available_width() - buttons - SETTINGS_WIDTH - 2.0 * gap;
                let column = egui::Layout::top_down(egui::Align::Min);
                let area = egui::vec2(width, tokens.size.call_height);
                ui.allocate_ui_with_layout(area, column, |ui| {
                    ui.set_min_width(width);
                    ui.spacing_mut().item_spacing.y = gap / 4.0;
                    let name = RichText::new(&call.name).heading();
                    ui.add(egui::Label::new(name).truncate());
                    let soft = tokens.colors(ui.ctx()).text_soft;
                    let line = RichText::new(model::call_line(call, now))
                        .small()
                        .color(soft);
                    ui.add(egui::Label::new(line).truncate());
                });
                sound = self.settings_button(ui, tokens.size.call_height);
                let rest = egui::vec2(buttons, tokens.size.call_height);
                ui.allocate_ui_with_layout(rest, column, |ui| {
                    ui.set_max_width(buttons);
                    act = call::buttons(ui, actions, &tokens).or(act.take());
                });
            });
        }
        if !is_short {
            network::lamp(ui, call, &self.history.borrow(), &tokens);
        }
        if !call.safety_words.is_empty() {
            let words = format!(
                "The same words on both sides: {}",
                call.safety_words.join(" · ")
            );
            parts::caption(ui, &tokens, &words);
            if !call.words_committed {
                parts::caption(ui, &tokens, call::OLD_WORDS);
            }
        }
        if sound {
            self.toggle_settings(Tab::Sound);
        }
        if let Some(act) = act {
            self.act(act);
        }
    }

    /// Opens the settings, and closes them.
    fn settings_button(&self, ui: &mut egui::Ui, height: f32) -> bool {
        let open = self.settings.open;
        let label = if open { "Done" } else { "Settings" };
        let area = egui::vec2(SETTINGS_WIDTH, height);
        let kind = model::ActionKind::Plain;
        let button = parts::button(ui, &self.tokens, (label, None), kind, area, true);
        button.widget_info(|| {
            let name = if open {
                "Close the settings"
            } else {
                "Settings"
            };
            egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, name)
        });
        button.clicked()
    }

    /// The call, and whom else to call, stay in sight beside the settings.
    fn two_columns(&mut self, ui: &mut egui::Ui, view: &View, now: Instant) {
        let size = self.tokens.size;
        let side = self.side_margin(ui.available_width(), size.pair);
        egui::Frame::new()
            .inner_margin(egui::vec2(side, size.margin))
            .show(ui, |ui| {
                self.header(ui, view);
                ui.add_space(size.gap);
                ui.spacing_mut().item_spacing.x = size.margin_small;
                ui.columns_const(|[left, right]| {
                    for column in [&mut *left, &mut *right] {
                        column.spacing_mut().item_spacing.x = size.gap;
                    }
                    scroll(left, "left", egui::Margin::ZERO, |ui| {
                        self.call(ui, view, now);
                        self.home(ui, view);
                    });
                    if self.chat.is_open() {
                        return self.chat_page(right, view);
                    }
                    scroll(right, "right", egui::Margin::ZERO, |ui| {
                        self.open_page(ui, view);
                    });
                });
            });
    }

    fn call(&mut self, ui: &mut egui::Ui, view: &View, now: Instant) {
        let Some(call) = model::shown_call(view, self.put_away) else {
            return;
        };
        let talks_by_key = sound::talks_by_key(view);
        let history = self.history.borrow().clone();
        let done = call::show(ui, call, &history, talks_by_key, &self.tokens, now);
        if let Some(act) = done.act {
            self.act(act);
        }
        if done.put_away {
            self.put_away = Some(call.id);
            ui.ctx().request_repaint();
        }
        ui.add_space(self.tokens.size.gap);
    }

    fn home(&mut self, ui: &mut egui::Ui, view: &View) {
        let tokens = self.tokens;
        let favourites = self.favourites();
        let done = self.home.show(ui, view, &favourites, &tokens);
        if let Some(command) = done.command {
            self.send(command);
        }
        if let Some(user) = done.open {
            self.open_chat(user);
        }
    }

    fn chat_page(&mut self, ui: &mut egui::Ui, view: &View) {
        let tokens = self.tokens;
        let favourites = self.favourites();
        let done = self.chat.show(ui, view, &favourites, &tokens);
        let favourite = done.favourite;
        let favourite = favourite.map(|(user, on)| SettingsChange::Favourite(user, on));
        self.carry_out(done.commands, favourite.into_iter().collect());
        if done.close {
            self.close_chat();
        }
    }

    fn settings_page(&mut self, ui: &mut egui::Ui, view: &View) {
        let devices = self.devices.borrow_and_update().clone();
        let saved = self.saved.borrow().clone();
        let (nat, history) = (self.nat.borrow().clone(), self.history.borrow().clone());
        let known = Known {
            desk: &devices,
            ledger: &saved,
            nat: &nat,
            history: &history,
        };
        let done = self.settings.show(ui, view, known, &self.tokens);
        self.carry_out(done.commands, done.changes);
        if let Some(ask) = done.ask {
            self.desk.ask(ask);
        }
        if done.first_steps {
            self.settings.close();
            self.comeback.close();
            self.welcome.begin(false);
        }
        if let Some(notice) = model::notice(view) {
            ui.add(egui::Label::new(notice).wrap());
        }
    }

    fn do_not_disturb(&self, ui: &mut egui::Ui, view: &View) {
        let colors = self.tokens.colors(ui.ctx());
        ui.scope(|ui| {
            // An empty box is as pale as the page otherwise.
            ui.visuals_mut().widgets.inactive.bg_stroke = egui::Stroke::new(1.0, colors.text_soft);
            let mut undisturbed = view.do_not_disturb;
            if ui.checkbox(&mut undisturbed, "Do not disturb").clicked() {
                self.send(Command::DoNotDisturb(undisturbed));
            }
        });
    }

    fn header(&mut self, ui: &mut egui::Ui, view: &View) {
        /// Below this there is no room for everything in one line.
        const NARROW: f32 = 330.0;
        let colors = self.tokens.colors(ui.ctx());
        let is_narrow = ui.available_width() < NARROW;
        ui.horizontal(|ui| {
            ui.add(egui::Label::new(RichText::new("ahoy").heading()));
            let rest = egui::Layout::right_to_left(egui::Align::Center);
            ui.with_layout(rest, |ui| {
                if self.settings_button(ui, self.tokens.size.control_height) {
                    self.toggle_settings(Tab::Sound);
                }
                if !is_narrow {
                    self.do_not_disturb(ui, view);
                }
            });
        });
        if is_narrow {
            self.do_not_disturb(ui, view);
        }
        ui.horizontal_top(|ui| {
            let reachable = model::is_reachable(&view.homes);
            let color = if reachable {
                colors.ok
            } else {
                colors.text_soft
            };
            parts::dot(ui, color);
            let line = RichText::new(model::reachability(&view.homes)).color(colors.text_soft);
            ui.add(egui::Label::new(line).wrap());
        });
    }
}

/// With the command key, each opens the page of a contact, in the order of the list.
const CONTACT_KEYS: [egui::Key; 9] = [
    egui::Key::Num1,
    egui::Key::Num2,
    egui::Key::Num3,
    egui::Key::Num4,
    egui::Key::Num5,
    egui::Key::Num6,
    egui::Key::Num7,
    egui::Key::Num8,
    egui::Key::Num9,
];

/// The window is no smaller than this in points, width and height, where things have their usual size.
const USUAL_LEAST_SIZE: [f32; 2] = [380.0, 420.0];
/// And no smaller than this in points, however large they are drawn.
const LEAST_SIZE: [f32; 2] = [300.0, 240.0];

/// Width of the button that opens the settings.
const SETTINGS_WIDTH: f32 = 88.0;

fn toggle_fullscreen(ctx: &egui::Context) {
    let is_full = ctx.input(|input| input.viewport().fullscreen.unwrap_or(false));
    ctx.send_viewport_cmd(ViewportCommand::Fullscreen(!is_full));
}

/// What may be longer than the window.
fn scroll(
    ui: &mut egui::Ui,
    name: &str,
    margin: egui::Margin,
    contents: impl FnOnce(&mut egui::Ui),
) {
    egui::ScrollArea::vertical()
        .id_salt(name)
        .auto_shrink(false)
        .show(ui, |ui| {
            egui::Frame::new().inner_margin(margin).show(ui, |ui| {
                // Columns would stretch every button.
                ui.with_layout(egui::Layout::top_down(egui::Align::Min), contents);
            });
        });
}

impl eframe::App for Window {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.tell_system(ctx);
        self.look_outside(ctx);
        self.dress(ctx);
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
                    gone.request_repaint();
                }
                // The engine is gone: so is the window.
                quits.store(true, Ordering::Relaxed);
                gone.send_viewport_cmd(ViewportCommand::Close);
            });
            repaint_with(&runtime, ctx, window.desk.shown());
            repaint_with(&runtime, ctx, window.shelf.shown());
            repaint_with(&runtime, ctx, window.ledger.shown());
            repaint_with(&runtime, ctx, window.opened.clone());
            repaint_with(&runtime, ctx, window.nat.clone());
            notify::start(&runtime, window.engine.clone(), ctx);
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
            ctx.request_repaint();
        }
    });
}
