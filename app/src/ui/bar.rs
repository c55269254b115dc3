//! A small bar over everything else while a screen or a window is shown: what is seen and by whom, and how to end it.
//!
//! It is a window of its own that stays above the others and takes the keyboard from nobody, since whoever shows something
//! works elsewhere. It goes with what is shown; whoever does not want it hides it, until something else is shown.
//!
//! Where a window can keep out of pictures of the screen (Windows, macOS) it does. X11 and Wayland know nothing of the kind:
//! there it is seen in a picture of a whole screen, and never in that of a window. Nor can a window stay above others on
//! Wayland, where the compositor alone decides about that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use eframe::egui::{self, Key, ViewportBuilder, ViewportClass, ViewportCommand, ViewportId};

use super::{
    Window, keys,
    model::{self, Act, Action, ActionKind},
    parts, share,
    shelf::ShelfView,
    shortcuts,
    theme::Tokens,
    words,
};
use crate::{
    engine::{
        handle::{CallView, Command, EngineHandle, View},
        video::Showing,
    },
    keys::CallKey,
};

/// From the top of the screen, in points.
const FROM_TOP: f32 = 8.0;
/// The sentence has so much room.
const SENTENCE_WIDTH: f32 = 260.0;

/// What the bar remembers.
#[derive(Debug, Default)]
pub(super) struct Bar {
    /// What was shown when it was hidden.
    hidden: Option<Showing>,
    /// Somebody wants it hidden.
    hide: Arc<AtomicBool>,
    /// As it was drawn last; it is there.
    drawn: Option<Lines>,
}

/// What stands on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lines {
    sentence: String,
    actions: Vec<Action>,
}

impl Lines {
    /// What is told of a call in which a screen or a window is shown.
    fn of(call: &CallView, shelf: &ShelfView) -> Option<Self> {
        let sent = &call.pictures.sent.as_ref()?.input;
        let is_shared = !model::is_over(call) && share::is_screen(sent);
        let stop = Action {
            label: words::stop_showing(),
            act: Act::Tell(Command::Show(None)),
            key: keys::of(CallKey::Share),
            kind: ActionKind::Danger,
        };
        let mut actions = model::call_actions(call);
        actions.retain(|action| matches!(action.act, Act::Tell(Command::Mute(_))));
        actions.push(stop);
        is_shared.then(|| Self {
            sentence: words::they_see(&call.name, share::name_of(sent, shelf)),
            actions,
        })
    }
}

fn id() -> ViewportId {
    ViewportId::from_hash_of("what is shown")
}

impl Window {
    /// Keeps the bar as it has to be.
    pub(super) fn bar(&mut self, ui: &egui::Ui, view: &View) {
        let call = view.call.as_ref();
        let lines = call.and_then(|call| Lines::of(call, &self.showable.borrow()));
        let sent = call.and_then(|call| call.pictures.sent.as_ref());
        if self.bar.hide.swap(false, Ordering::Relaxed) {
            self.bar.hidden = sent.cloned();
        }
        let Some(lines) = lines else {
            self.bar = Bar::default();
            return;
        };
        if sent.is_some() && self.bar.hidden.as_ref() == sent {
            self.bar.drawn = None;
            return;
        }
        let (tokens, engine) = (self.tokens, self.engine.clone());
        let hide = Arc::clone(&self.bar.hide);
        let drawn = lines.clone();
        let ctx = ui.ctx();
        let draw = move |ui: &mut egui::Ui, class: ViewportClass| {
            frame(ui, class, &drawn, &tokens, &engine, &hide);
        };
        ctx.show_viewport_deferred(id(), builder(ui, &self.tokens), draw);
        let is_new = self.bar.drawn.is_none();
        if is_new {
            ctx.send_viewport_cmd_to(id(), ViewportCommand::ContentProtected(true));
        }
        if self.bar.drawn.as_ref() != Some(&lines) {
            ctx.request_repaint_of(id());
            self.bar.drawn = Some(lines);
        }
    }
}

/// The window that it is.
fn builder(ui: &egui::Ui, tokens: &Tokens) -> ViewportBuilder {
    let size = tokens.size;
    let wide = |label: &str, key: &str| parts::button_width(ui, label, Some(key), 0.0);
    let key = keys::of(CallKey::Mute).name();
    let mute = wide(words::mute(), key).max(wide(words::unmute(), key));
    let stop = wide(words::stop_showing(), keys::of(CallKey::Share).name());
    let hide = wide(words::hide_bar(), words::key_escape());
    let buttons = mute + stop + hide + 3.0 * size.gap;
    let area = egui::vec2(
        SENTENCE_WIDTH + buttons + 2.0 * size.gap,
        size.control_height + 2.0 * size.gap,
    );
    let screen = ui.input(|input| input.viewport().monitor_size);
    let builder = ViewportBuilder::default()
        .with_title(words::bar_title())
        .with_app_id("ahoy")
        .with_inner_size(area)
        .with_decorations(false)
        .with_resizable(false)
        .with_taskbar(false)
        .with_active(false)
        .with_window_type(egui::X11WindowType::Utility)
        .with_always_on_top();
    match screen {
        Some(screen) => {
            builder.with_position(egui::pos2((screen.x - area.x).max(0.0) / 2.0, FROM_TOP))
        }
        None => builder,
    }
}

/// Draws it in its window, and does what is pressed there.
fn frame(
    ui: &mut egui::Ui,
    class: ViewportClass,
    lines: &Lines,
    tokens: &Tokens,
    engine: &EngineHandle,
    hide: &AtomicBool,
) {
    // Inside another window, that one has the keys.
    let has_keys = class != ViewportClass::EmbeddedWindow;
    let colors = tokens.colors(ui.ctx());
    // Told from what is behind it by an edge.
    let page = egui::Frame::new()
        .fill(colors.card)
        .stroke(egui::Stroke::new(1.0, colors.line))
        .inner_margin(tokens.size.gap);
    let done = page.show(ui, |ui| show(ui, lines, has_keys, tokens)).inner;
    if let Some(command) = done.command
        && !engine.send(command)
    {
        tracing::warn!("the engine does not take commands");
    }
    let is_closed = has_keys && ui.input(|input| input.viewport().close_requested());
    if done.hide || is_closed {
        hide.store(true, Ordering::Relaxed);
        ui.ctx().request_repaint_of(ViewportId::ROOT);
    }
    if done.drag && has_keys {
        ui.ctx().send_viewport_cmd(ViewportCommand::StartDrag);
    }
}

/// What the person did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    command: Option<Command>,
    hide: bool,
    /// The bar is to be moved.
    drag: bool,
}

fn show(ui: &mut egui::Ui, lines: &Lines, has_keys: bool, tokens: &Tokens) -> Done {
    let size = tokens.size;
    let mut done = Done::default();
    let area = egui::vec2(ui.available_width(), size.control_height);
    let rest = egui::Layout::right_to_left(egui::Align::Center);
    // Below everything else, so that buttons are pressed and not dragged.
    let ground = egui::Rect::from_min_size(ui.cursor().min, area);
    let ground = ui.interact(ground, ui.scope_id().with("ground"), egui::Sense::drag());
    done.drag = ground.drag_started();
    ui.allocate_ui_with_layout(area, rest, |ui| {
        let least = egui::vec2(0.0, size.control_height);
        let escape = (words::hide_bar(), Some(words::key_escape()));
        let hide = parts::button(ui, tokens, escape, ActionKind::Plain, least, true);
        done.hide = hide.clicked() || has_keys && shortcuts::pressed(ui, Key::Escape);
        for action in lines.actions.iter().rev() {
            let label = (action.label, Some(action.key.name()));
            let button = parts::button(ui, tokens, label, action.kind, least, true);
            let is_wanted = button.clicked() || has_keys && shortcuts::pressed(ui, action.key);
            if is_wanted && let Act::Tell(command) = &action.act {
                done.command = Some(command.clone());
            }
        }
        let line = egui::Layout::left_to_right(egui::Align::Center);
        ui.with_layout(line, |ui| {
            parts::dot(ui, tokens.colors(ui.ctx()).danger);
            ui.add(egui::Label::new(&lines.sentence).truncate());
        });
    });
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{handle::Phase, video::VideoIn},
        ui::{
            model::tests::{call, over},
            testing::Reader,
        },
    };

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs one instant to start from"
    )]
    fn sharing(target: &str, muted: bool) -> CallView {
        let since = std::time::Instant::now();
        let mut call = call(Phase::Talking { since });
        call.muted = muted;
        call.pictures.sent = Some(Showing {
            input: VideoIn::Screen {
                target: target.into(),
                fps: 30,
            },
            content: None,
        });
        call
    }

    fn draw(reader: &mut Reader, lines: &Lines, events: Vec<egui::Event>) -> Done {
        let (tokens, mut done) = (reader.tokens, Done::default());
        reader.frame(events, |ui| {
            let told = show(ui, lines, true, &tokens);
            done = Done {
                command: told.command.or(done.command.take()),
                hide: done.hide || told.hide,
                drag: done.drag || told.drag,
            };
        });
        done
    }

    #[test]
    fn it_is_there_exactly_while_a_screen_or_a_window_is_shown() {
        let shelf = ShelfView::default();
        let mut shown = sharing("screen", false);
        let lines = Lines::of(&shown, &shelf).unwrap();
        assert_eq!(lines.sentence, "Grace sees your screen");
        let window = Lines::of(&sharing("window:1", false), &shelf).unwrap();
        assert_eq!(window.sentence, "Grace sees one of your windows");
        shown.phase = Phase::Reconnecting;
        assert!(Lines::of(&shown, &shelf).is_some(), "it goes on afterwards");
        shown.phase = over();
        assert_eq!(Lines::of(&shown, &shelf), None);
        let camera = CallView {
            pictures: crate::engine::video::view::PicturesView {
                sent: Some(share::camera(None)),
                ..Default::default()
            },
            ..sharing("screen", false)
        };
        assert_eq!(Lines::of(&camera, &shelf), None, "nobody works in a camera");
        let nothing = call(Phase::Connecting);
        assert_eq!(Lines::of(&nothing, &shelf), None);
    }

    #[test]
    fn it_mutes_stops_and_hides_by_name_and_by_key() {
        let shelf = ShelfView::default();
        let cases = [
            (false, "Mute", Key::M, Command::Mute(true)),
            (true, "Unmute", Key::M, Command::Mute(false)),
            (false, "Stop showing it", Key::S, Command::Show(None)),
        ];
        for (muted, name, key, command) in cases {
            let lines = Lines::of(&sharing("screen", muted), &shelf).unwrap();
            let mut reader = Reader::new();
            reader.width = 640.0;
            assert_eq!(draw(&mut reader, &lines, vec![]), Done::default());
            let said = reader.text(|text| text == lines.sentence);
            assert!(said.is_some(), "who sees what");
            let press = reader.press(name);
            let done = draw(&mut reader, &lines, vec![press]);
            assert_eq!(done.command.as_ref(), Some(&command), "{name}");
            let done = draw(&mut reader, &lines, vec![Reader::key(key, true)]);
            assert_eq!(done.command, Some(command), "{name} by its key");
            let press = reader.press("Hide this bar");
            assert!(draw(&mut reader, &lines, vec![press]).hide);
            let escape = Reader::key(Key::Escape, true);
            assert!(draw(&mut reader, &lines, vec![escape]).hide);
        }
    }

    #[test]
    fn nothing_on_it_is_cut_in_any_language_but_a_very_long_name() {
        for language in [
            words::Language::English,
            words::Language::German,
            words::Language::Spanish,
        ] {
            words::speak(language);
            for muted in [false, true] {
                let lines = Lines::of(&sharing("screen", muted), &ShelfView::default()).unwrap();
                let mut reader = Reader::new();
                let tokens = reader.tokens;
                let mut width = 0.0;
                reader.frame(vec![], |ui| {
                    width = builder(ui, &tokens).inner_size.unwrap().x;
                });
                reader.width = width - 2.0 * tokens.size.gap;
                for _ in 0..2 {
                    draw(&mut reader, &lines, vec![]);
                }
                let faults = reader.faults();
                words::speak(words::Language::English);
                assert!(faults.is_empty(), "{language:?}: {faults:?}");
                words::speak(language);
            }
        }
        words::speak(words::Language::English);
        // Whatever somebody is called, the buttons stay where they are.
        let mut call = sharing("screen", false);
        call.name = "W".repeat(64);
        let lines = Lines::of(&call, &ShelfView::default()).unwrap();
        let mut reader = Reader::new();
        reader.width = 640.0;
        draw(&mut reader, &lines, vec![]);
        draw(&mut reader, &lines, vec![]);
        reader.assert_inside("the bar");
        assert!(reader.has("Stop showing it"));
    }
}
