//! "I have ahoy already": 24 words or a backup file take the place of the key that this device made a minute ago.
//!
//! Everything is read and opened before the window goes, so that what is wrong is told where it was typed. Then the
//! engine ends, the profile becomes that person's, and ahoy starts anew on it. A profile that has met anybody is never
//! replaced.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use ahoy_transport::identity::RootKey;
use eframe::egui::{self, RichText};
use rand_core::OsRng;
use tokio::{runtime::Handle, sync::watch};
use zeroize::Zeroizing;

use super::{model::ActionKind, parts, theme::Tokens};
use crate::{
    backup::{Content, Key, MAX_BACKUP, is_by_words, open},
    identity::{Identity, root_from_words},
    profile::Profile,
    settings::Settings,
    store::Store,
};

/// Who comes back.
pub(super) enum Brought {
    /// By the words alone: contacts are shown that the device log began anew.
    Words(RootKey),
    /// With everything.
    Backup(Box<Content>),
}

impl fmt::Debug for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Words(_) => "Words",
            Self::Backup(_) => "Backup",
        })
    }
}

/// Where the window leaves who comes back, for after its end.
#[derive(Debug, Clone, Default)]
pub struct Door(Arc<Mutex<Option<Brought>>>);

impl Door {
    fn leave(&self, brought: Brought) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(brought);
    }

    /// Who stands there.
    pub(super) fn take(&self) -> Option<Brought> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum State {
    #[default]
    Typing,
    /// A passphrase takes a second, on purpose.
    Opening,
    /// For a person.
    Wrong(String),
    /// Somebody stands at the door.
    Ready,
}

/// What the form remembers.
#[derive(Debug)]
pub(super) struct Page {
    /// It is shown.
    pub(super) open: bool,
    words: Zeroizing<String>,
    file: String,
    passphrase: Zeroizing<String>,
    focus: bool,
    door: Door,
    state: watch::Sender<State>,
    runtime: Handle,
}

/// What the person did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// They are new here after all.
    pub(super) back: bool,
    /// Somebody stands at the door: the window is to end.
    pub(super) ready: bool,
}

impl Page {
    /// A form that leaves who comes back at `door`.
    pub(super) fn new(door: Door, runtime: &Handle) -> Self {
        Self {
            open: false,
            words: Zeroizing::default(),
            file: String::new(),
            passphrase: Zeroizing::default(),
            focus: false,
            door,
            state: watch::Sender::new(State::Typing),
            runtime: runtime.clone(),
        }
    }

    /// Shows it.
    pub(super) fn begin(&mut self) {
        self.open = true;
        self.focus = true;
    }

    /// Forgets what was typed.
    pub(super) fn close(&mut self) {
        *self = Self::new(self.door.clone(), &self.runtime);
    }

    /// Draws it.
    pub(super) fn show(&mut self, ui: &mut egui::Ui, tokens: &Tokens) -> Done {
        let mut done = Done::default();
        let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
        let state = self.state.borrow().clone();
        ui.add(egui::Label::new(RichText::new("Welcome back").heading()).wrap());
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, "A backup file");
            parts::caption(
                ui,
                tokens,
                "Brings contacts, messages and settings, too. Drop the file on this window, or write where it is.",
            );
            let dropped = ui.input(|input| {
                let file = input.raw.dropped_files.first();
                file.map(|file| file.path().to_owned())
            });
            if let Some(path) = dropped {
                self.file = path.to_string_lossy().into_owned();
            }
            let width = ui.available_width();
            let words = ("/path/to/backup", "Backup file");
            let field = parts::field(ui, tokens, &mut self.file, words, width);
            if std::mem::take(&mut self.focus) {
                field.request_focus();
            }
            ui.add_space(size.gap);
            let field = egui::TextEdit::singleline(&mut *self.passphrase)
                .password(true)
                .hint_text("Its passphrase")
                .margin(egui::Margin::symmetric(10, 4))
                .align(egui::Align2::LEFT_CENTER);
            let field = ui.add_sized([width, size.control_height], field);
            field.widget_info(|| {
                egui::WidgetInfo::labeled(
                    egui::accesskit::Role::PasswordInput,
                    true,
                    "Its passphrase",
                )
            });
        });
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, "24 words");
            parts::caption(
                ui,
                tokens,
                "They bring back who you are, or open a backup that was made for them. Alone, they make contacts see that you began anew.",
            );
            let field = egui::TextEdit::multiline(&mut *self.words)
                .hint_text("the words, with spaces between them")
                .desired_rows(3)
                .desired_width(ui.available_width())
                .margin(egui::Margin::symmetric(10, 8));
            let field = ui.add(field);
            field.widget_info(|| {
                let role = egui::accesskit::Role::MultilineTextInput;
                egui::WidgetInfo::labeled(role, true, "The 24 words")
            });
        });
        ui.add_space(size.gap);
        parts::caption(
            ui,
            tokens,
            "Another device of yours that still works lets this one in instead: ahoy device pair there, ahoy device join here.",
        );
        if let State::Wrong(sentence) = &state {
            ui.add(egui::Label::new(RichText::new(sentence).color(colors.danger_text)).wrap());
        }
        let area = egui::vec2(88.0, size.control_height);
        ui.horizontal(|ui| {
            let is_free = matches!(state, State::Typing | State::Wrong(_));
            let possible = !self.file.trim().is_empty() || !self.words.trim().is_empty();
            let label = if is_free { "Come back" } else { "Opening…" };
            let go = (label, None);
            let kind = ActionKind::Primary;
            if parts::button(ui, tokens, go, kind, area, is_free && possible).clicked() {
                self.open_it(ui.ctx());
            }
            let back = ("I am new here", None);
            if parts::button(ui, tokens, back, ActionKind::Plain, area, is_free).clicked() {
                self.close();
                done.back = true;
            }
        });
        done.ready = state == State::Ready;
        done
    }

    /// Reads what was typed, on a thread that may take its time.
    fn open_it(&self, ctx: &egui::Context) {
        self.state.send_replace(State::Opening);
        let (file, words) = (self.file.trim().to_owned(), self.words.clone());
        let passphrase = self.passphrase.clone();
        let (door, state, ctx) = (self.door.clone(), self.state.clone(), ctx.clone());
        self.runtime.spawn_blocking(move || {
            let told = match brought(&file, &words, &passphrase) {
                Ok(brought) => {
                    door.leave(brought);
                    State::Ready
                }
                Err(sentence) => State::Wrong(sentence),
            };
            state.send_replace(told);
            ctx.request_repaint();
        });
    }
}

/// Who is meant by what was typed.
fn brought(file: &str, words: &str, passphrase: &str) -> Result<Brought, String> {
    let root = || root_from_words(words).map_err(|error| error.to_string());
    if file.is_empty() {
        return Ok(Brought::Words(root()?));
    }
    let sealed =
        read(Path::new(file)).map_err(|error| format!("{file} cannot be read: {error}"))?;
    let content = if is_by_words(&sealed).map_err(|error| error.to_string())? {
        let root = root()?;
        open(&sealed, &Key::Words(&root))
    } else {
        open(&sealed, &Key::Passphrase(passphrase))
    };
    let content = content.map_err(|error| error.to_string())?;
    Settings::from_text(&content.settings, Path::new(file)).map_err(|error| error.to_string())?;
    Ok(Brought::Backup(Box::new(content)))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BACKUP).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes `profile`, on which nothing runs any more, that of whoever was `brought`.
///
/// # Errors
/// A sentence. A profile that knows people, or has messages or calls, stays as it is.
pub(super) fn move_in(profile: &Profile, brought: &Brought, now_millis: u64) -> Result<(), String> {
    let told = |error: &dyn fmt::Display| error.to_string();
    let lock = profile.lock().map_err(|error| told(&error))?;
    {
        let store = Store::open(&lock).map_err(|error| told(&error))?;
        let contacts = store.contacts().map_err(|error| told(&error))?;
        let calls = store.calls(1).map_err(|error| told(&error))?;
        let requests = store.requests().map_err(|error| told(&error))?;
        if !contacts.is_empty() || !calls.is_empty() || !requests.is_empty() {
            return Err("this profile knows people already: it was not replaced".into());
        }
    }
    // What was drawn for the key of a minute ago is nobody's.
    match std::fs::remove_file(profile.database_path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(&error)),
        Err(_) | Ok(()) => {}
    }
    let identity = match brought {
        Brought::Words(root) => Identity::start_over(root.clone(), &mut OsRng, now_millis),
        Brought::Backup(content) => {
            let store = Store::open(&lock).map_err(|error| told(&error))?;
            store
                .replace_items(&content.items)
                .map_err(|error| told(&error))?;
            let path = profile.settings_path();
            let settings = Settings::from_text(&content.settings, &path);
            let settings = settings.map_err(|error| told(&error))?;
            settings.save(profile).map_err(|error| told(&error))?;
            content.identity.clone()
        }
    };
    // With the identity the profile is theirs: it comes last.
    lock.save(&identity).map_err(|error| told(&error))
}

#[cfg(test)]
mod tests;
