//! Making a backup: everything that the person is and has here, in one file that a passphrase opens, or the 24 words.
//!
//! It is the file that `ahoy backup` makes of a profile on which nothing runs. Here the engine runs on it, so who the person
//! is comes from the engine, and what they have from its book.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use eframe::egui::{self, RichText};
use rand_core::OsRng;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    chooser::{self, Chosen},
    devices::DevicesView,
    model::ActionKind,
    parts,
    theme::Tokens,
    words::{self, Language},
};
use crate::{
    backup::{BackupError, Content, Key, seal},
    engine::sentence,
    headless::pairing::Inside,
    profile::{Profile, write_private},
    settings::Settings,
};

/// What a dialog proposes.
const USUAL_NAME: &str = "ahoy.backup";

/// A passphrase that is on its way; logs do not see it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is to open the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OpenedBy {
    Passphrase(Secret),
    /// The 24 words, which this device holds or does not.
    Words,
}

/// What the person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Forget what came of the one before.
    Begin,
    /// Say by the desktop's dialog where the file is to be.
    Choose,
    /// Make it there.
    Make { file: PathBuf, by: OpenedBy },
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Idle,
    /// A passphrase takes a second, on purpose.
    Making,
    /// It is there, so many bytes long.
    Made {
        file: PathBuf,
        bytes: usize,
    },
    NotMade(WhyNot),
}

/// Why there is no backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WhyNot {
    /// A file has that name, and nobody said that it may go.
    IsThere(PathBuf),
    /// The passphrase is too short to keep anybody out.
    Short,
    /// This device does not hold the words.
    NoWords,
    /// What the system says, in English.
    Other(String),
}

/// What the desktop's dialog brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Place {
    #[default]
    Unasked,
    Asking,
    At(PathBuf),
    /// There is none here: the person writes where.
    NoDialog,
}

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BackupView {
    pub(super) state: State,
    pub(super) place: Place,
}

impl WhyNot {
    fn other(error: impl fmt::Display) -> Self {
        Self::Other(sentence::of(&error.to_string()))
    }

    fn sentence(&self) -> String {
        match self {
            Self::IsThere(file) => words::backup_is_there(file.display()),
            Self::Short => words::backup_short(crate::passphrase::MIN_CHARS as u64),
            Self::NoWords => words::backup_no_words().into(),
            Self::Other(error) => words::backup_not_made(error),
        }
    }
}

impl From<BackupError> for WhyNot {
    fn from(error: BackupError) -> Self {
        if error == BackupError::Short {
            Self::Short
        } else {
            Self::other(error)
        }
    }
}

/// Does what was asked, beside the window, which sees in `view` what comes of it.
pub(super) fn begin(
    ask: Ask,
    profile: Profile,
    inside: Inside,
    view: &watch::Sender<DevicesView>,
    language: Language,
) {
    let told = view.clone();
    match ask {
        Ask::Begin => view.send_modify(|view| view.backup = BackupView::default()),
        Ask::Choose => {
            view.send_modify(|view| view.backup.place = Place::Asking);
            // Whoever closes the window needs no answer.
            tokio::task::spawn_blocking(move || {
                let chosen = words::with(language, || chooser::place(USUAL_NAME));
                told.send_modify(|view| view.backup.place = place_of(chosen));
            });
        }
        Ask::Make { file, by } => {
            if view.borrow().backup.state == State::Making {
                return;
            }
            view.send_modify(|view| view.backup.state = State::Making);
            tokio::task::spawn_blocking(move || {
                let state = match make(&profile, &inside, &file, &by) {
                    Ok(bytes) => State::Made { file, bytes },
                    Err(why) => State::NotMade(why),
                };
                told.send_modify(|view| view.backup.state = state);
            });
        }
    }
}

fn place_of(chosen: Chosen) -> Place {
    match chosen {
        Chosen::Files(files) => files.into_iter().next().map_or(Place::Unasked, Place::At),
        Chosen::NoDialog => Place::NoDialog,
        Chosen::Nothing | Chosen::Kept | Chosen::NotKept(_) => Place::Unasked,
    }
}

/// Writes everything into `file`, which must not be there; its length in bytes.
fn make(profile: &Profile, inside: &Inside, file: &Path, by: &OpenedBy) -> Result<usize, WhyNot> {
    if file.exists() {
        return Err(WhyNot::IsThere(file.to_owned()));
    }
    let identity = inside.renewer.look(Clone::clone);
    let identity = identity.ok_or_else(|| WhyNot::other("this ahoy does not know its keys"))?;
    let settings = Settings::load(profile).and_then(|settings| settings.to_text());
    let content = Content {
        settings: settings.map_err(WhyNot::other)?,
        items: inside.book.items().map_err(WhyNot::Other)?,
        identity,
    };
    let key = match by {
        OpenedBy::Passphrase(Secret(passphrase)) => Key::Passphrase(passphrase),
        OpenedBy::Words => Key::Words(content.identity.root().ok_or(WhyNot::NoWords)?),
    };
    let sealed = seal(&content, &key, &mut OsRng)?;
    write_private(file, &sealed).map_err(WhyNot::other)?;
    Ok(sealed.len())
}

/// What the form remembers.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The form is shown.
    open: bool,
    file: String,
    /// What the dialog brought last, and stands in the field already.
    brought: Option<PathBuf>,
    by_words: bool,
    passphrase: Zeroizing<String>,
    again: Zeroizing<String>,
    /// The field for the file takes the keyboard when it is drawn next.
    focus: bool,
    /// The backup was asked for.
    asked: bool,
}

impl Page {
    /// Draws it; what the person wants.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &BackupView,
        tokens: &Tokens,
    ) -> Option<Ask> {
        let area = egui::vec2(0.0, tokens.size.control_height);
        parts::title(ui, words::backup());
        parts::caption(ui, tokens, words::backup_is());
        if !self.open {
            self.told(ui, view, tokens);
            let begin = (words::make_backup_dots(), None);
            if parts::button(ui, tokens, begin, ActionKind::Plain, area, true).clicked() {
                *self = Self {
                    open: true,
                    focus: true,
                    ..Self::default()
                };
                return Some(Ask::Begin);
            }
            return None;
        }
        let mut ask = self.place(ui, view, tokens);
        ui.add_space(tokens.size.gap);
        let words = (words::backup_by_words(), words::backup_by_words_why());
        if parts::switch(ui, tokens, words, self.by_words, true).clicked() {
            self.by_words = !self.by_words;
        }
        if !self.by_words {
            let width = ui.available_width();
            let name = words::backup_passphrase();
            parts::secret(ui, tokens, &mut self.passphrase, name, width);
            ui.add_space(tokens.size.gap);
            let name = words::backup_passphrase_again();
            parts::secret(ui, tokens, &mut self.again, name, width);
            if !self.again.is_empty() && *self.again != *self.passphrase {
                parts::caption(ui, tokens, words::backup_differs());
            }
        }
        ui.add_space(tokens.size.gap);
        self.told(ui, view, tokens);
        let is_making = view.state == State::Making;
        let is_opened =
            self.by_words || !self.passphrase.is_empty() && *self.passphrase == *self.again;
        let possible = !is_making && is_opened && !self.file.trim().is_empty();
        ui.horizontal_wrapped(|ui| {
            let label = if is_making {
                words::backup_making()
            } else {
                words::make_backup()
            };
            let primary = ActionKind::Primary;
            if parts::button(ui, tokens, (label, None), primary, area, possible).clicked() {
                self.asked = true;
                ask = Some(self.make());
            }
            let cancel = (words::cancel(), None);
            if parts::button(ui, tokens, cancel, ActionKind::Plain, area, !is_making).clicked() {
                *self = Self::default();
            }
        });
        if self.asked && matches!(view.state, State::Made { .. }) {
            // The form has done its work.
            *self = Self::default();
        }
        ask
    }

    fn path(&self) -> PathBuf {
        let typed = Path::new(self.file.trim());
        // Whoever reads where it is finds it there, from wherever ahoy was started.
        std::path::absolute(typed).unwrap_or_else(|_no_folder| typed.to_owned())
    }

    fn make(&self) -> Ask {
        let by = if self.by_words {
            OpenedBy::Words
        } else {
            OpenedBy::Passphrase(Secret(self.passphrase.clone()))
        };
        Ask::Make {
            file: self.path(),
            by,
        }
    }

    /// Where the file is to be.
    fn place(&mut self, ui: &mut egui::Ui, view: &BackupView, tokens: &Tokens) -> Option<Ask> {
        const LEAST_BUTTON: f32 = 88.0;
        match &view.place {
            Place::At(path) if self.brought.as_ref() != Some(path) => {
                self.brought = Some(path.clone());
                self.file = path.to_string_lossy().into_owned();
            }
            Place::At(_) => {}
            // The next choice counts, though it be the same one.
            Place::Asking | Place::Unasked | Place::NoDialog => self.brought = None,
        }
        let size = tokens.size;
        let choose = words::choose();
        let button_width = parts::button_width(ui, choose, None, LEAST_BUTTON);
        let mut wanted = false;
        ui.horizontal(|ui| {
            let width = ui.available_width() - button_width - size.gap;
            let names = (words::path_to_backup(), words::backup_file());
            let field = parts::field(ui, tokens, &mut self.file, names, width);
            if std::mem::take(&mut self.focus) {
                field.request_focus();
            }
            let area = egui::vec2(button_width, size.control_height);
            let is_free = view.place != Place::Asking;
            let button =
                parts::button(ui, tokens, (choose, None), ActionKind::Plain, area, is_free);
            button.widget_info(|| {
                let role = egui::accesskit::Role::Button;
                egui::WidgetInfo::labeled(role, is_free, words::backup_choose())
            });
            wanted = button.clicked();
        });
        if view.place == Place::NoDialog {
            parts::caption(ui, tokens, words::backup_no_dialog());
        }
        wanted.then_some(Ask::Choose)
    }

    /// What came of it.
    fn told(&self, ui: &mut egui::Ui, view: &BackupView, tokens: &Tokens) {
        let colors = tokens.colors(ui.ctx());
        let text = match &view.state {
            State::Idle | State::Making => return,
            State::Made { file, bytes } => {
                let size = words::size(*bytes as u64);
                RichText::new(words::backup_made(file.display(), size))
            }
            State::NotMade(why) => RichText::new(why.sentence()).color(colors.danger_text),
        };
        ui.add(egui::Label::new(text).wrap());
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui::Event;

    use super::*;
    use crate::ui::testing::Reader;

    struct Bench {
        reader: Reader,
        page: Page,
        view: BackupView,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self {
                reader: Reader::new(),
                page: Page::default(),
                view: BackupView::default(),
            };
            bench.frame(vec![]);
            assert_eq!(bench.press("Make a backup…"), Some(Ask::Begin));
            bench.frame(vec![]);
            bench
        }

        fn frame(&mut self, events: Vec<Event>) -> Option<Ask> {
            let Self { reader, page, view } = self;
            let (tokens, mut ask) = (reader.tokens, None);
            reader.frame(events, |ui| {
                ask = page.show(ui, view, &tokens).or(ask.take());
            });
            ask
        }

        fn press(&mut self, name: &str) -> Option<Ask> {
            let press = self.reader.press(name);
            self.frame(vec![press])
        }

        fn write(&mut self, field: &str, text: &str) {
            let focus = self.reader.focus(field);
            self.frame(vec![focus]);
            self.frame(vec![Event::Text(text.to_owned())]);
        }
    }

    #[test]
    fn nothing_is_made_until_it_is_known_where_and_what_opens_it() {
        let mut bench = Bench::new();
        assert_eq!(bench.press("Make the backup"), None, "nowhere");
        bench.write("Backup file", "/tmp/ada.backup");
        assert_eq!(bench.press("Make the backup"), None, "anybody opens it");
        bench.write("Passphrase for it", "correct horse");
        bench.write("The same passphrase again", "correct hose");
        assert_eq!(bench.press("Make the backup"), None, "a slip");
        let told = "These are not the same.";
        assert!(bench.reader.text(|text| text == told).is_some());
        bench.page.again.clear();
        bench.write("The same passphrase again", "correct horse");
        let ask = bench.press("Make the backup").unwrap();
        assert!(!format!("{ask:?}").contains("horse"), "{ask:?}");
        let by = OpenedBy::Passphrase(Secret(Zeroizing::new("correct horse".into())));
        let file = PathBuf::from("/tmp/ada.backup");
        assert_eq!(ask, Ask::Make { file, by });
        bench.press("The 24 words open it");
        let ask = bench.press("Make the backup");
        assert!(matches!(
            ask,
            Some(Ask::Make {
                by: OpenedBy::Words,
                ..
            })
        ));
    }

    #[test]
    fn a_dialog_brings_a_place_or_the_person_is_told_to_write_it() {
        let mut bench = Bench::new();
        assert_eq!(
            bench.press("Choose where the backup is kept"),
            Some(Ask::Choose)
        );
        bench.view.place = place_of(Chosen::Files(vec!["/media/stick/ahoy.backup".into()]));
        bench.frame(vec![]);
        assert_eq!(bench.page.file, "/media/stick/ahoy.backup");
        // What is typed afterwards stays.
        bench.page.file.push('2');
        bench.frame(vec![]);
        assert_eq!(bench.page.file, "/media/stick/ahoy.backup2");
        bench.view.place = place_of(Chosen::NoDialog);
        bench.frame(vec![]);
        assert!(
            bench
                .reader
                .text(|text| text.contains("has no dialog"))
                .is_some()
        );
        assert_eq!(place_of(Chosen::Nothing), Place::Unasked);
    }

    #[test]
    fn what_came_of_it_is_told_and_what_was_typed_is_forgotten() {
        let mut bench = Bench::new();
        bench.write("Backup file", "/tmp/ada.backup");
        for why in [
            WhyNot::IsThere("/tmp/ada.backup".into()),
            WhyNot::Short,
            WhyNot::NoWords,
            WhyNot::Other("No space is left.".into()),
        ] {
            bench.view.state = State::NotMade(why.clone());
            bench.frame(vec![]);
            let told = why.sentence();
            assert!(bench.reader.text(|text| text == told).is_some(), "{told}");
            assert_eq!(bench.page.file, "/tmp/ada.backup", "it can be mended");
        }
        bench.press("The 24 words open it");
        assert!(bench.press("Make the backup").is_some());
        bench.view.state = State::Made {
            file: "/tmp/ada.backup".into(),
            bytes: 12_000,
        };
        bench.frame(vec![]);
        bench.frame(vec![]);
        let told = bench.reader.text(|text| text.contains("/tmp/ada.backup"));
        assert!(told.unwrap().contains("12.0 kB"));
        assert!(bench.page.passphrase.is_empty() && !bench.page.open);
    }
}
