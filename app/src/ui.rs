//! The window: a projection of the engine's [`View`], one file per part.
//!
//! Nothing here waits: commands go into a bounded queue, and a change of the view asks for a repaint. While
//! nothing happens nothing is drawn; only the clock of a call asks for the next second.

mod call;
mod home;
pub mod model;
pub mod open;
mod parts;
pub mod theme;

use std::time::Instant;

use eframe::egui::{self, RichText, UserAttentionType, ViewportCommand};
use tokio::sync::watch;

use crate::{
    call::CallId,
    engine::handle::{Command, EngineHandle, View},
};
use home::Home;
use theme::Tokens;

/// Asks for a theme: `dark` or `light`. Without it the system decides, where it says anything.
const THEME_VARIABLE: &str = "AHOY_THEME";

/// The desktop window on a running engine.
#[derive(Debug)]
pub struct Window {
    engine: EngineHandle,
    view: watch::Receiver<View>,
    tokens: Tokens,
    home: Home,
    /// The ended call that the person has read about.
    put_away: Option<CallId>,
    /// The call that the window system was asked to point at.
    pointed_at: Option<CallId>,
    title: String,
}

impl Window {
    /// A window on `engine`; `target` is what the call field holds at first.
    #[must_use]
    pub fn new(engine: EngineHandle, target: String) -> Self {
        let view = engine.view();
        Self {
            engine,
            view,
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
        let title = model::title(model::shown_call(&view, self.put_away));
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

    /// Shortcuts of the call: one hand on the keyboard is enough. They rest while a field has the focus.
    fn keys(&self, ui: &egui::Ui, view: &View) {
        if ui.ctx().text_edit_focused() {
            return;
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
                self.send(action.command);
            }
        }
    }

    /// Draws everything.
    pub fn show(&mut self, ui: &mut egui::Ui, now: Instant) {
        let view = self.view.borrow_and_update().clone();
        let colors = self.tokens.colors(ui.ctx());
        self.keys(ui, &view);
        if ui.input_mut(|input| input.consume_key(egui::Modifiers::COMMAND, egui::Key::Q)) {
            ui.ctx().send_viewport_cmd(ViewportCommand::Close);
        }
        let size = self.tokens.size;
        let margin = if ui.available_width() < size.narrow {
            size.margin_small
        } else {
            size.margin
        };
        let page = egui::Frame::new().fill(colors.window);
        egui::CentralPanel::default().frame(page).show(ui, |ui| {
            egui::ScrollArea::vertical()
                .auto_shrink(false)
                .show(ui, |ui| {
                    egui::Frame::new().inner_margin(margin).show(ui, |ui| {
                        self.page(ui, &view, now);
                    });
                });
        });
        if let Some(call) = &view.call
            && let Some(wait) = model::next_change(call, now)
        {
            ui.ctx().request_repaint_after(wait);
        }
    }

    fn page(&mut self, ui: &mut egui::Ui, view: &View, now: Instant) {
        let (tokens, gap) = (self.tokens, self.tokens.size.gap);
        self.header(ui, view);
        ui.add_space(gap);
        if let Some(call) = model::shown_call(view, self.put_away) {
            let done = call::show(ui, call, &tokens, now);
            if let Some(command) = done.command {
                self.send(command);
            }
            if done.put_away {
                self.put_away = Some(call.id);
                ui.ctx().request_repaint();
            }
            ui.add_space(gap);
        }
        if let Some(command) = self.home.show(ui, view, &tokens) {
            self.send(command);
        }
    }

    fn header(&self, ui: &mut egui::Ui, view: &View) {
        let colors = self.tokens.colors(ui.ctx());
        ui.horizontal(|ui| {
            ui.add(egui::Label::new(RichText::new("ahoy").heading()));
            let rest = egui::Layout::right_to_left(egui::Align::Center);
            ui.with_layout(rest, |ui| {
                // An empty box is as pale as the page otherwise.
                ui.visuals_mut().widgets.inactive.bg_stroke =
                    egui::Stroke::new(1.0, colors.text_soft);
                let mut undisturbed = view.do_not_disturb;
                if ui.checkbox(&mut undisturbed, "Do not disturb").clicked() {
                    self.send(Command::DoNotDisturb(undisturbed));
                }
            });
        });
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

impl eframe::App for Window {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.tell_system(ctx);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the window is outside the simulated world: the person's clock is the real one"
    )]
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.show(ui, Instant::now());
    }

    fn on_exit(&mut self, _gl: Option<&eframe::glow::Context>) {
        self.send(Command::Quit);
    }
}

/// Opens the window and returns when it is closed. Must run on the main thread; `runtime` carries the wait
/// for the next view.
///
/// # Errors
/// When no window can be opened: no display, or no OpenGL.
pub fn run(
    engine: EngineHandle,
    target: String,
    runtime: &tokio::runtime::Handle,
) -> eframe::Result {
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("ahoy")
            .with_app_id("ahoy")
            .with_inner_size([520.0, 640.0])
            .with_min_inner_size([380.0, 420.0]),
        renderer: eframe::Renderer::Glow,
        ..Default::default()
    };
    let runtime = runtime.clone();
    eframe::run_native(
        "ahoy",
        options,
        Box::new(move |creation| {
            let window = Window::new(engine, target);
            window.tokens.apply(&creation.egui_ctx);
            let asked = std::env::var(THEME_VARIABLE).ok();
            let theme = model::theme_preference(asked.as_deref());
            creation.egui_ctx.set_theme(theme);
            let mut view = window.engine.view();
            let ctx = creation.egui_ctx.clone();
            runtime.spawn(async move {
                while view.changed().await.is_ok() {
                    ctx.request_repaint();
                }
                // The engine is gone: so is the window.
                ctx.send_viewport_cmd(ViewportCommand::Close);
            });
            Ok(Box::new(window))
        }),
    )
}
