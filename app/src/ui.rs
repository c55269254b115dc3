//! The window: a projection of the engine's [`View`](crate::engine::handle::View), one file per part.
//!
//! Nothing here waits: commands go into a bounded queue, and a change of the view asks for a repaint.

mod call;
mod home;
pub mod model;
pub mod open;
pub mod theme;

use eframe::egui;
use tokio::sync::watch;

use crate::engine::handle::{Command, EngineHandle, Phase, View};
use theme::Tokens;

/// The desktop window on a running engine.
#[derive(Debug)]
pub struct Window {
    engine: EngineHandle,
    view: watch::Receiver<View>,
    tokens: Tokens,
    /// What is typed or pasted into the call field.
    target: String,
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
            target,
        }
    }

    fn send(&self, command: Command) {
        if !self.engine.send(command) {
            tracing::warn!("the engine does not take commands");
        }
    }

    /// Shortcuts of the call: one hand on the keyboard is enough. They rest while a field has the focus.
    fn keys(&self, ui: &egui::Ui, view: &View) {
        if ui.ctx().text_edit_focused() {
            return;
        }
        let Some(call) = &view.call else { return };
        let pressed = |key| ui.input(|input| input.key_pressed(key));
        match call.phase {
            Phase::Incoming if pressed(egui::Key::A) => self.send(Command::Accept),
            Phase::Incoming if pressed(egui::Key::D) => self.send(Command::Decline),
            Phase::Connecting | Phase::Talking { .. } | Phase::Reconnecting
                if pressed(egui::Key::M) =>
            {
                self.send(Command::Mute(!call.muted));
            }
            Phase::Calling
            | Phase::Ringing
            | Phase::Connecting
            | Phase::Talking { .. }
            | Phase::Reconnecting
                if pressed(egui::Key::H) =>
            {
                self.send(Command::HangUp);
            }
            Phase::Incoming
            | Phase::Calling
            | Phase::Ringing
            | Phase::Connecting
            | Phase::Talking { .. }
            | Phase::Reconnecting
            | Phase::Ended { .. } => {}
        }
    }

    /// Draws everything.
    pub fn show(&mut self, ui: &mut egui::Ui, now: std::time::Instant) {
        let view = self.view.borrow_and_update().clone();
        let colors = self.tokens.colors(ui.ctx());
        self.keys(ui, &view);
        let size = self.tokens.size;
        let page = egui::Frame::new()
            .fill(colors.window)
            .inner_margin(size.margin);
        egui::CentralPanel::default().frame(page).show(ui, |ui| {
            egui::ScrollArea::vertical().show(ui, |ui| {
                ui.heading("ahoy");
                ui.colored_label(colors.text_soft, model::reachability(&view.homes));
                ui.add_space(size.gap);
                if let Some(call) = &view.call {
                    for command in call::show(ui, call, &self.tokens, now) {
                        self.send(command);
                    }
                    ui.add_space(size.gap);
                }
                for command in home::show(ui, &view, &mut self.target, &self.tokens) {
                    self.send(command);
                }
            });
        });
        if view
            .call
            .as_ref()
            .is_some_and(|call| matches!(call.phase, Phase::Talking { .. }))
        {
            // The clock of the call.
            ui.ctx()
                .request_repaint_after(std::time::Duration::from_millis(500));
        }
    }
}

impl eframe::App for Window {
    #[expect(
        clippy::disallowed_methods,
        reason = "the window is outside the simulated world: the person's clock is the real one"
    )]
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.show(ui, std::time::Instant::now());
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
            let mut view = window.engine.view();
            let ctx = creation.egui_ctx.clone();
            runtime.spawn(async move {
                while view.changed().await.is_ok() {
                    ctx.request_repaint();
                }
                // The engine is gone: so is the window.
                ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            });
            Ok(Box::new(window))
        }),
    )
}
