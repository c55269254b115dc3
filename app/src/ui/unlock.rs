//! The page before all others, of a profile that opens by a passphrase: a window of its own, which goes when it is open.
//!
//! Trying takes its time, on a thread of its own: what is shown is told by [`Unlock`], which knows no window.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use eframe::egui::{self, RichText, TextEdit, ViewportCommand};
use zeroize::Zeroize as _;

use super::{
    model::{self, ActionKind},
    parts,
    theme::Tokens,
    words::{self, Language},
};
use crate::{
    cli::CliError,
    profile::{Profile, ProfileError},
    settings::Settings,
};

const SIZE: [f32; 2] = [420.0, 300.0];

/// How far it is.
#[derive(Debug, Default)]
enum State {
    /// Somebody types. What was wrong with what was typed before, for a person.
    #[default]
    Asks,
    Wrong(String),
    Trying(Receiver<Result<(), ProfileError>>),
    Open,
}

/// What was typed, and what became of it.
#[derive(Debug, Default)]
struct Unlock {
    typed: String,
    /// The desktop's keyring is to open it from now on.
    keep: bool,
    state: State,
}

impl Unlock {
    /// Whether there is something to try.
    fn can_try(&self) -> bool {
        !self.typed.trim().is_empty() && !self.is_trying()
    }

    fn is_trying(&self) -> bool {
        matches!(self.state, State::Trying(_))
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    fn wrong(&self) -> Option<&str> {
        match &self.state {
            State::Wrong(sentence) => Some(sentence),
            State::Asks | State::Trying(_) | State::Open => None,
        }
    }

    /// Tries what was typed: `begin` starts it and says how to learn what came of it. It is typed anew if it was wrong.
    fn submit(&mut self, begin: impl FnOnce(String) -> Receiver<Result<(), ProfileError>>) {
        if self.can_try() {
            let typed = std::mem::take(&mut self.typed);
            self.state = State::Trying(begin(typed));
        }
    }

    /// Looks what came of it.
    fn look(&mut self) {
        let State::Trying(outcome) = &self.state else {
            return;
        };
        self.state = match outcome.try_recv() {
            Ok(Ok(())) => State::Open,
            Ok(Err(error)) => State::Wrong(told(&error)),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => State::Wrong(words::trying_failed().into()),
        };
    }
}

impl Drop for Unlock {
    fn drop(&mut self) {
        self.typed.zeroize();
    }
}

fn told(error: &ProfileError) -> String {
    if matches!(error, ProfileError::WrongPassphrase) {
        words::wrong_passphrase().into()
    } else {
        error.to_string()
    }
}

/// Draws it. Says whether somebody wants what was typed to be tried.
fn show(ui: &mut egui::Ui, tokens: &Tokens, unlock: &mut Unlock) -> bool {
    ui.add_space(tokens.size.margin);
    parts::title(ui, words::profile_is_locked());
    parts::caption(ui, tokens, words::locked_means());
    ui.add_space(tokens.size.gap);
    let trying = unlock.is_trying();
    let field = TextEdit::singleline(&mut unlock.typed)
        .password(true)
        .hint_text(words::passphrase())
        .desired_width(f32::INFINITY);
    let field = ui.add_enabled(!trying, field);
    field.widget_info(|| {
        egui::WidgetInfo::labeled(
            egui::accesskit::Role::PasswordInput,
            !trying,
            words::passphrase(),
        )
    });
    let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
    let has_none = ui.memory(|memory| memory.focused().is_none());
    if has_none && !trying && !entered {
        field.request_focus();
    }
    if let Some(wrong) = unlock.wrong() {
        let danger = tokens.colors(ui.ctx()).danger_text;
        ui.add(egui::Label::new(RichText::new(wrong).color(danger)).wrap());
    }
    ui.add_space(tokens.size.gap);
    if cfg!(all(feature = "keyring", target_os = "linux")) {
        let keep = (words::keep_in_keyring(), !trying);
        parts::checkbox(ui, tokens, keep, &mut unlock.keep);
        ui.add_space(tokens.size.gap);
    }
    let label = if trying {
        words::opening()
    } else {
        words::open()
    };
    let size = egui::vec2(ui.available_width(), tokens.size.control_height);
    let can_try = unlock.can_try();
    let button = parts::button(
        ui,
        tokens,
        (label, None),
        ActionKind::Primary,
        size,
        can_try,
    );
    can_try && (entered || button.clicked())
}

struct Page {
    profile: Profile,
    tokens: Tokens,
    unlock: Unlock,
}

impl eframe::App for Page {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.unlock.look();
        if self.unlock.is_open() {
            ui.ctx().send_viewport_cmd(ViewportCommand::Close);
        }
        let margin = self.tokens.size.margin;
        let wants = egui::CentralPanel::default()
            .frame(egui::Frame::central_panel(ui.style()).inner_margin(margin))
            .show(ui, |ui| show(ui, &self.tokens, &mut self.unlock));
        if wants.inner {
            let (profile, ctx) = (self.profile.clone(), ui.ctx().clone());
            let keep = self.unlock.keep;
            self.unlock
                .submit(|typed| try_out(profile, typed, keep, ctx));
        }
    }
}

fn try_out(
    profile: Profile,
    mut typed: String,
    keep: bool,
    ctx: egui::Context,
) -> Receiver<Result<(), ProfileError>> {
    let (tell, outcome) = sync_channel(1);
    let tried = std::thread::Builder::new()
        .name("ahoy-unlock".into())
        .spawn(move || {
            let opened = profile.unlock(&typed);
            // It is open all the same; the settings show whether it is kept.
            if keep
                && opened.is_ok()
                && let Err(error) = profile.keep_this_in_keyring(&typed)
            {
                tracing::warn!("{error}");
            }
            typed.zeroize();
            // The window may be closed by now.
            tell.send(opened).unwrap_or_default();
            ctx.request_repaint();
        });
    if let Err(error) = tried {
        tracing::error!(%error, "no thread to try a passphrase on");
    }
    outcome
}

/// Asks for the passphrase if the profile has one, and comes back when it is open. `false`: the window was closed instead.
pub(super) fn ask(profile: &Profile) -> Result<bool, CliError> {
    if !profile.is_locked()? {
        return Ok(true);
    }
    words::speak(Language::of(Settings::language_of(profile)));
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("ahoy")
            .with_app_id("ahoy")
            .with_inner_size(SIZE),
        renderer: eframe::Renderer::Glow,
        // The real one follows.
        run_and_return: true,
        ..Default::default()
    };
    let asked = profile.clone();
    let shown = eframe::run_native(
        "ahoy",
        options,
        Box::new(move |creation| {
            let tokens = Tokens::load();
            tokens.apply(&creation.egui_ctx);
            let theme = std::env::var(super::THEME_VARIABLE).ok();
            let theme = model::theme_preference(theme.as_deref());
            creation.egui_ctx.set_theme(theme);
            Ok(Box::new(Page {
                profile: asked,
                tokens,
                unlock: Unlock::default(),
            }))
        }),
    );
    shown.map_err(|error| CliError::usage(format_args!("the window cannot be opened: {error}")))?;
    Ok(!profile.is_locked()?)
}

#[cfg(test)]
mod tests {
    use eframe::egui::{Event, Key};

    use super::*;
    use crate::ui::testing::Reader;

    fn draw(reader: &mut Reader, unlock: &mut Unlock, events: Vec<Event>) -> bool {
        let tokens = Tokens::load();
        let mut wants = false;
        reader.frame(events, |ui| wants |= show(ui, &tokens, unlock));
        wants
    }

    #[test]
    fn what_is_typed_is_tried_and_a_wrong_one_is_said() {
        let mut unlock = Unlock::default();
        unlock.submit(|_nothing| panic!("nothing was typed"));
        unlock.typed = "five words".into();
        let (tell, outcome) = sync_channel(1);
        unlock.submit(|typed| {
            assert_eq!(typed, "five words");
            outcome
        });
        unlock.look();
        assert!(unlock.is_trying() && !unlock.can_try() && unlock.typed.is_empty());
        unlock.typed = "six".into();
        unlock.submit(|_again| panic!("one after the other"));
        tell.send(Err(ProfileError::WrongPassphrase)).unwrap();
        unlock.look();
        assert!(unlock.wrong().unwrap().contains("not the passphrase"));
        assert!(unlock.can_try() && !unlock.is_open());
        let (tell, outcome) = sync_channel(1);
        unlock.submit(|_typed| outcome);
        tell.send(Ok(())).unwrap();
        unlock.look();
        assert!(unlock.is_open() && unlock.wrong().is_none());
    }

    #[test]
    fn a_thread_that_dies_is_said_too() {
        let mut unlock = Unlock::default();
        unlock.typed = "five words".into();
        unlock.submit(|_typed| sync_channel(1).1);
        unlock.look();
        assert!(unlock.wrong().is_some());
    }

    #[test]
    fn the_page_is_worked_by_keys_and_by_names() {
        let (mut reader, mut unlock) = (Reader::new(), Unlock::default());
        // The field has the keyboard from the start.
        for _ in 0..2 {
            assert!(!draw(&mut reader, &mut unlock, vec![]));
        }
        reader.node(words::passphrase());
        let typed = vec![Event::Text("five words".into())];
        assert!(!draw(&mut reader, &mut unlock, typed));
        assert_eq!(unlock.typed, "five words");
        let enter = vec![Reader::key(Key::Enter, true)];
        assert!(draw(&mut reader, &mut unlock, enter));
        draw(
            &mut reader,
            &mut unlock,
            vec![Reader::key(Key::Enter, false)],
        );
        let press = vec![reader.press(words::open())];
        assert!(draw(&mut reader, &mut unlock, press));
        let (_tell, outcome) = sync_channel(1);
        unlock.submit(|_typed| outcome);
        draw(&mut reader, &mut unlock, vec![]);
        reader.node(words::opening());
    }
}
