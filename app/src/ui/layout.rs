//! Where everything stands in a window of any size.

use std::time::Instant;

use eframe::egui::{self, RichText};

use super::{
    Seer, Window, call, echo, files,
    mirror::Sight,
    model, network, parts, scan,
    settings::{Known, Tab},
    shortcuts, sound, words,
};
use crate::{
    engine::{
        handle::{CallView, Command, Phase, View},
        video::view::Received,
    },
    settings::SettingsChange,
};

/// Width of the button that opens the settings, and closes them.
fn settings_width(ui: &egui::Ui) -> f32 {
    const LEAST: f32 = 88.0;
    let open = parts::button_width(ui, words::settings(), None, LEAST);
    parts::button_width(ui, words::done(), None, open)
}

impl Window {
    /// Space at both sides of what is at most so wide.
    pub(super) fn side_margin(&self, available: f32, widest: f32) -> f32 {
        let size = self.tokens.size;
        let least = if available < size.narrow {
            size.margin_small
        } else {
            size.margin
        };
        ((available - widest) / 2.0).max(least)
    }

    pub(super) fn one_column(&mut self, ui: &mut egui::Ui, view: &View, now: Instant) {
        let size = self.tokens.size;
        let side = self.side_margin(ui.available_width(), size.column);
        let margin = egui::vec2(side, side.min(size.margin));
        if self.chat.is_open() {
            // What was said scrolls by itself.
            inset(ui, margin, |ui| {
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

    /// The call, and whom else to call, stay in sight beside the settings.
    pub(super) fn two_columns(&mut self, ui: &mut egui::Ui, view: &View, now: Instant) {
        let size = self.tokens.size;
        let side = self.side_margin(ui.available_width(), size.pair);
        inset(ui, egui::vec2(side, size.margin), |ui| {
            self.header(ui, view);
            ui.add_space(size.gap);
            ui.spacing_mut().item_spacing.x = size.margin_small;
            ui.columns_const(|[left, right]| {
                for column in [&mut *left, &mut *right] {
                    column.spacing_mut().item_spacing.x = size.gap;
                }
                scroll(left, "left", egui::Vec2::ZERO, |ui| {
                    self.call(ui, view, now);
                    self.home(ui, view);
                });
                if self.chat.is_open() {
                    return self.chat_page(right, view);
                }
                scroll(right, "right", egui::Vec2::ZERO, |ui| {
                    self.open_page(ui, view);
                });
            });
        });
    }

    /// The call with its pictures, which take all there is.
    pub(super) fn picture_page(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        call: &CallView,
        now: Instant,
    ) {
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
                .show(ui, |ui| {
                    if let Some(act) = call::other(ui, view, &self.tokens) {
                        self.act(act);
                    }
                    self.reply_card(ui, view);
                    self.call_bar(ui, call, is_short, now);
                });
            if is_open && !has_room {
                return self.beside_pictures(ui, view, call);
            }
            let area = ui.available_rect_before_wrap();
            if self.stage.show(ui, area, call, &self.tokens) {
                shortcuts::toggle_fullscreen(ui.ctx());
            }
        });
    }

    /// What is open beside pictures, under them, or instead of them.
    pub(super) fn beside_pictures(&mut self, ui: &mut egui::Ui, view: &View, call: &CallView) {
        if self.chat.is_open() {
            return self.chat_page(ui, view);
        }
        scroll(ui, "beside", egui::Vec2::ZERO, |ui| {
            let talking = matches!(call.phase, Phase::Talking { .. });
            if self.settings.is_at_sound() && talking {
                self.call_details(ui, view, call);
                ui.add_space(self.tokens.size.gap);
            }
            self.open_page(ui, view);
        });
    }

    pub(super) fn call_details(&mut self, ui: &mut egui::Ui, view: &View, call: &CallView) {
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
    pub(super) fn call_bar(
        &mut self,
        ui: &mut egui::Ui,
        call: &CallView,
        is_short: bool,
        now: Instant,
    ) {
        /// Below this width, buttons have a row of their own.
        const NARROW: f32 = 1080.0;
        const LEAST_WIDTH: f32 = 132.0;
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
                let width = ui.available_width() - settings_width(ui) - gap;
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
                let width = call::widest(ui, &actions).max(LEAST_WIDTH);
                let buttons = count * width + (count - 1.0) * gap;
                let width = ui.available_width() - buttons - settings_width(ui) - 2.0 * gap;
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
            let told = words::words_on_both_sides(call.safety_words.join(" · "));
            parts::caption(ui, &tokens, &told);
            if !call.words_committed {
                parts::caption(ui, &tokens, words::old_words());
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
    pub(super) fn settings_button(&self, ui: &mut egui::Ui, height: f32) -> bool {
        let open = self.settings.open;
        let label = if open {
            words::done()
        } else {
            words::settings()
        };
        let area = egui::vec2(settings_width(ui), height);
        let kind = model::ActionKind::Plain;
        let button = parts::button(ui, &self.tokens, (label, None), kind, area, true);
        button.widget_info(|| {
            let name = if open {
                words::close_settings()
            } else {
                words::settings()
            };
            egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, name)
        });
        button.clicked()
    }

    /// What is beside or under the call, if it is open.
    pub(super) fn open_page(&mut self, ui: &mut egui::Ui, view: &View) {
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
    pub(super) fn shows_pictures(&self, call: &CallView) -> bool {
        let pictures = &call.pictures;
        self.stage.has_picture()
            || pictures.sent.is_some()
            || pictures.received != Received::Nothing
    }

    pub(super) fn call(&mut self, ui: &mut egui::Ui, view: &View, now: Instant) {
        let Some(call) = model::shown_call(view, self.put_away) else {
            return;
        };
        if let Some(act) = call::other(ui, view, &self.tokens) {
            self.act(act);
        }
        let talks_by_key = sound::talks_by_key(view);
        let history = self.history.borrow().clone();
        let done = call::show(ui, view, call, &history, talks_by_key, &self.tokens, now);
        if let Some(act) = done.act {
            self.act(act);
        }
        if done.put_away {
            self.put_away = Some(call.id);
            self.reply.close();
            ui.ctx().request_repaint();
        }
        ui.add_space(self.tokens.size.gap);
        self.reply_card(ui, view);
    }

    /// The sentences to decline with, while they are wanted.
    fn reply_card(&mut self, ui: &mut egui::Ui, view: &View) {
        let tokens = self.tokens;
        if let Some(command) = self.reply.show(ui, view, &tokens) {
            self.send(command);
        }
    }

    pub(super) fn home(&mut self, ui: &mut egui::Ui, view: &View) {
        let tokens = self.tokens;
        let favourites = self.favourites();
        let shelf = self.showable.borrow_and_update().clone();
        let sight = Sight {
            stage: &self.stage,
            mirror: self.mirrored.borrow_and_update().clone(),
            shelf: &shelf,
            camera: self.share.camera.as_ref(),
        };
        let mut scanned = scan::Done::default();
        let scan = &mut self.scan;
        let home = &mut self.home;
        let done = home.show(ui, view, &favourites, &tokens, |ui| {
            scanned = scan.show(ui, &sight, "ahoy:", &tokens);
            scanned.link.take()
        });
        if scanned.camera.is_some() {
            self.share.camera = scanned.camera;
        }
        self.echo_test(ui, view);
        if let Some(command) = done.command {
            self.send(command);
        }
        if let Some(user) = done.open {
            self.open_chat(user);
        }
    }

    /// Offers the echo test while there is no call.
    pub(super) fn echo_test(&self, ui: &mut egui::Ui, view: &View) {
        if view.call.as_ref().is_some_and(|call| !model::is_over(call)) {
            return;
        }
        ui.add_space(self.tokens.size.gap);
        if echo::card(ui, &self.tokens) {
            self.runtime
                .spawn(crate::headless::echo::call_by(self.engine.clone()));
        }
    }

    pub(super) fn chat_page(&mut self, ui: &mut egui::Ui, view: &View) {
        let tokens = self.tokens;
        let favourites = self.favourites();
        let done = self.chat.show(ui, view, &favourites, &tokens);
        let favourite = done.favourite;
        let favourite = favourite.map(|(user, on)| SettingsChange::Favourite(user, on));
        if done.video {
            let user = self.chat.user;
            let target = user.map(model::link_of);
            self.carry_out(target.map(Command::Call).into_iter().collect(), Vec::new());
            let before = view.call.as_ref().map(|call| call.id);
            self.sees_camera = user.map(|user| Seer::Called { user, before });
        }
        if let Some(file) = &done.folder {
            files::open_folder(&self.runtime, file);
        }
        self.carry_out(done.commands, favourite.into_iter().collect());
        if done.choose {
            self.chooser.ask(ui.ctx());
        }
        if let Some(file) = done.keep {
            self.chooser.keep(ui.ctx(), file);
        }
        if done.close {
            self.close_chat();
        }
    }

    pub(super) fn settings_page(&mut self, ui: &mut egui::Ui, view: &View) {
        let devices = self.devices.borrow_and_update().clone();
        let saved = self.saved.borrow().clone();
        let (nat, history) = (self.nat.borrow().clone(), self.history.borrow().clone());
        let own_devices = self.own_devices.borrow_and_update().clone();
        let known = Known {
            devices: &own_devices,
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
        if let Some(wish) = done.wish {
            self.own.wish(wish);
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

    pub(super) fn do_not_disturb(&mut self, ui: &mut egui::Ui, view: &View) {
        let mut undisturbed = view.do_not_disturb;
        let label = words::do_not_disturb();
        if parts::checkbox(ui, &self.tokens, (label, true), &mut undisturbed).clicked() {
            self.send(Command::DoNotDisturb(undisturbed));
        }
    }

    pub(super) fn header(&mut self, ui: &mut egui::Ui, view: &View) {
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

/// What may be longer than the window.
fn scroll(ui: &mut egui::Ui, name: &str, margin: egui::Vec2, contents: impl FnOnce(&mut egui::Ui)) {
    egui::ScrollArea::vertical()
        .id_salt(name)
        .auto_shrink(false)
        .show(ui, |ui| {
            inset(ui, margin, |ui| {
                // Columns would stretch every button.
                ui.with_layout(egui::Layout::top_down(egui::Align::Min), contents);
            });
        });
}

/// Draws at this distance from the sides, and from top and bottom. A frame's margin ends at 127 points, and a wide window has
/// more than that beside its column.
fn inset(ui: &mut egui::Ui, margin: egui::Vec2, contents: impl FnOnce(&mut egui::Ui)) {
    let inside = ui.available_rect_before_wrap().shrink2(margin);
    ui.scope_builder(egui::UiBuilder::new().max_rect(inside), contents);
    ui.add_space(margin.y);
}
