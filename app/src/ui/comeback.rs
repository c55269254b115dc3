//! "I have ahoy already": another device, 24 words or a backup file take the place of the key that this device made a minute
//! ago.
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

use super::{devices::digits, model::ActionKind, parts, theme::Tokens, words};
use crate::{
    backup::{Content, Key, MAX_BACKUP, is_by_words, open},
    cli::{CliError, Exit},
    engine::sentence,
    headless::pairing::{JoinPlan, Joined, be_let_in},
    identity::{Identity, root_from_words},
    pairing::PairLink,
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
    /// As one more device of whoever let it in.
    Device(Box<Joined>),
}

impl fmt::Debug for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Words(_) => "Words",
            Self::Backup(_) => "Backup",
            Self::Device(_) => "Device",
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
    /// The other device is being looked for.
    Joining,
    /// It is there, and its person compares these digits.
    Comparing(String),
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
    /// What another device shows.
    link: Zeroizing<String>,
    focus: bool,
    door: Door,
    state: watch::Sender<State>,
    /// Ends what goes on when it is dropped.
    going: Option<Going>,
    profile: Profile,
    runtime: Handle,
}

/// A task that ends with this.
#[derive(Debug)]
struct Going(tokio::task::JoinHandle<()>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
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
    pub(super) fn new(door: Door, profile: Profile, runtime: &Handle) -> Self {
        Self {
            open: false,
            words: Zeroizing::default(),
            file: String::new(),
            passphrase: Zeroizing::default(),
            link: Zeroizing::default(),
            focus: false,
            door,
            state: watch::Sender::new(State::Typing),
            going: None,
            profile,
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
        *self = Self::new(self.door.clone(), self.profile.clone(), &self.runtime);
    }

    /// Draws it. `scan` draws what reads a link from a code.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        tokens: &Tokens,
        scan: impl FnOnce(&mut egui::Ui) -> Option<String>,
    ) -> Done {
        let mut done = Done::default();
        let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
        let state = self.state.borrow().clone();
        ui.add(egui::Label::new(RichText::new(words::welcome_back()).heading()).wrap());
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| self.device(ui, &state, tokens, scan));
        if matches!(state, State::Joining | State::Comparing(_)) {
            return done;
        }
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::a_backup_file());
            parts::caption(ui, tokens, words::backup_brings());
            let dropped = ui.input(|input| {
                let file = input.raw.dropped_files.first();
                file.map(|file| file.path().to_owned())
            });
            if let Some(path) = dropped {
                self.file = path.to_string_lossy().into_owned();
            }
            let width = ui.available_width();
            let words = (words::path_to_backup(), words::backup_file());
            parts::field(ui, tokens, &mut self.file, words, width);
            ui.add_space(size.gap);
            let name = words::its_passphrase();
            parts::secret(ui, tokens, &mut self.passphrase, name, width);
        });
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::words_24());
            parts::caption(ui, tokens, words::words_bring());
            let field = egui::TextEdit::multiline(&mut *self.words)
                .hint_text(words::words_hint())
                .desired_rows(3)
                .desired_width(ui.available_width())
                .margin(egui::Margin::symmetric(10, 8));
            let field = ui.add(field);
            field.widget_info(|| {
                let role = egui::accesskit::Role::MultilineTextInput;
                egui::WidgetInfo::labeled(role, true, words::the_24_words())
            });
        });
        ui.add_space(size.gap);
        if let State::Wrong(sentence) = &state {
            ui.add(egui::Label::new(RichText::new(sentence).color(colors.danger_text)).wrap());
        }
        let area = egui::vec2(88.0, size.control_height);
        ui.horizontal(|ui| {
            let is_free = is_free(&state);
            let possible = !self.file.trim().is_empty() || !self.words.trim().is_empty();
            let label = if is_free {
                words::come_back()
            } else {
                words::opening()
            };
            let go = (label, None);
            let kind = ActionKind::Primary;
            if parts::button(ui, tokens, go, kind, area, is_free && possible).clicked() {
                self.open_it(ui.ctx());
            }
            let back = (words::i_am_new(), None);
            if parts::button(ui, tokens, back, ActionKind::Plain, area, is_free).clicked() {
                self.close();
                done.back = true;
            }
        });
        done.ready = state == State::Ready;
        done
    }

    /// Another device that still works, which is the easiest way.
    fn device(
        &mut self,
        ui: &mut egui::Ui,
        state: &State,
        tokens: &Tokens,
        scan: impl FnOnce(&mut egui::Ui) -> Option<String>,
    ) {
        let size = tokens.size;
        let area = egui::vec2(0.0, size.control_height);
        parts::title(ui, words::another_device_of_yours());
        match state {
            State::Joining => {
                parts::caption(ui, tokens, words::looking_for_device());
            }
            State::Comparing(code) => {
                ui.add(egui::Label::new(words::same_digits_there()).wrap());
                digits(ui, code, tokens);
                parts::caption(ui, tokens, words::say_so_there());
            }
            State::Typing | State::Opening | State::Wrong(_) | State::Ready => {
                parts::caption(ui, tokens, words::device_brings());
                let width = ui.available_width();
                let words = (words::pair_link(), words::link_of_other_device());
                let field = parts::field(ui, tokens, &mut self.link, words, width);
                if std::mem::take(&mut self.focus) {
                    field.request_focus();
                }
                let entered =
                    field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
                let possible = is_free(state) && !self.link.trim().is_empty();
                let join = (words::join(), None);
                let primary = ActionKind::Primary;
                let pressed = parts::button(ui, tokens, join, primary, area, possible).clicked();
                if possible && (pressed || entered) {
                    self.join(ui.ctx());
                }
                if let Some(link) = scan(ui) {
                    self.link = Zeroizing::new(link);
                    self.focus = true;
                }
                return;
            }
        }
        let cancel = (words::cancel(), None);
        if parts::button(ui, tokens, cancel, ActionKind::Plain, area, true).clicked() {
            self.going = None;
            self.state.send_replace(State::Typing);
        }
    }

    /// Asks the device behind the link to be let in.
    fn join(&mut self, ctx: &egui::Context) {
        let link = match self.link.trim().parse::<PairLink>() {
            Ok(link) => link,
            Err(_no_link) => {
                let wrong = words::no_pair_link();
                self.state.send_replace(State::Wrong(wrong.into()));
                return;
            }
        };
        self.state.send_replace(State::Joining);
        let (profile, door) = (self.profile.clone(), self.door.clone());
        let (state, ctx, language) = (self.state.clone(), ctx.clone(), words::language());
        self.going = Some(Going(self.runtime.spawn(async move {
            let told = match joined(profile, link, &state, &ctx).await {
                Ok(joined) => {
                    door.leave(Brought::Device(Box::new(joined)));
                    State::Ready
                }
                Err(error) => State::Wrong(words::with(language, || why_not(&error))),
            };
            state.send_replace(told);
            ctx.request_repaint();
        })));
    }

    /// Reads what was typed, on a thread that may take its time.
    fn open_it(&self, ctx: &egui::Context) {
        self.state.send_replace(State::Opening);
        let (file, words) = (self.file.trim().to_owned(), self.words.clone());
        let passphrase = self.passphrase.clone();
        let (door, state, ctx) = (self.door.clone(), self.state.clone(), ctx.clone());
        let language = words::language();
        self.runtime.spawn_blocking(move || {
            let brought = words::with(language, || brought(&file, &words, &passphrase));
            let told = match brought {
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

fn is_free(state: &State) -> bool {
    matches!(state, State::Typing | State::Wrong(_))
}

/// Everything that the other device gives. It hears at once that all has come: what is left to do here is to write it down.
async fn joined(
    profile: Profile,
    link: PairLink,
    state: &watch::Sender<State>,
    ctx: &egui::Context,
) -> Result<Joined, CliError> {
    let settings = tokio::task::spawn_blocking(move || Settings::load(&profile));
    let settings = settings.await.map_err(CliError::failed)??;
    let mut shows = |code: &str| {
        state.send_replace(State::Comparing(code.to_owned()));
        ctx.request_repaint();
    };
    let plan = JoinPlan { link, name: None };
    let (joined, mut way) = be_let_in(&settings, &plan, &mut shows).await?;
    way.thank().await;
    Ok(joined)
}

/// Nothing of the command line, which says the same for those who type.
fn why_not(error: &CliError) -> String {
    match error.exit {
        Exit::NoRoute => words::pair_no_route().into(),
        Exit::Authentication => words::pair_not_let_in().into(),
        Exit::TimeLimit => words::pair_too_late().into(),
        Exit::Done | Exit::Failed | Exit::Usage | Exit::Media => sentence::of(&error.message),
    }
}

/// Who is meant by what was typed.
fn brought(file: &str, words: &str, passphrase: &str) -> Result<Brought, String> {
    let root = || root_from_words(words).map_err(|error| error.to_string());
    if file.is_empty() {
        return Ok(Brought::Words(root()?));
    }
    let sealed = read(Path::new(file)).map_err(|error| words::cannot_be_read(file, error))?;
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
pub(super) fn move_in(profile: &Profile, brought: Brought, now_millis: u64) -> Result<(), String> {
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
        Brought::Device(joined) => {
            let settings = Settings::load(profile).map_err(|error| told(&error))?;
            let moved = joined.move_in(&lock, settings, now_millis);
            return moved.map(drop).map_err(|error| told(&error));
        }
        Brought::Words(root) => Identity::start_over(root, &mut OsRng, now_millis),
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
