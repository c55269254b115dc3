//! What is known of a person, and what is to become of their entry.

use ahoy_transport::identity::UserId;
use eframe::egui::{self, RichText, accesskit::Role};

use super::{
    model::{self, ActionKind, PersonLines},
    parts,
    theme::Tokens,
    words::{self, Word},
};
use crate::{
    contacts::Ring,
    engine::{
        handle::{CallView, Command, Phase, View},
        people::PeopleChange,
    },
};

/// What the entry remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// What the person shall be called.
    name: String,
    /// What was pressed and has to be pressed again.
    asked: Option<PeopleChange>,
    /// The words were not the same.
    differed: bool,
    copied: bool,
}

/// What the person did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) commands: Vec<Command>,
    /// They stand on top of the list from now on, or no more.
    pub(super) favourite: Option<bool>,
    /// The page is to be closed.
    pub(super) close: bool,
    /// What was written is to be shown.
    pub(super) write: bool,
    /// A file is to be sent.
    pub(super) file: bool,
    /// The call is to begin with the camera.
    pub(super) video: bool,
}

/// How sure it is who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sureness {
    /// The words were compared.
    Verified,
    /// Nobody compared any.
    Unverified,
    /// Two lists of their devices contradict each other: what was compared counts no more.
    Doubtful,
}

impl Sureness {
    pub(super) fn of(lines: &PersonLines) -> Self {
        match (lines.verified, lines.forked) {
            // Whoever compares again knows what they do.
            (true, _) => Self::Verified,
            (false, true) => Self::Doubtful,
            (false, false) => Self::Unverified,
        }
    }

    /// For a person.
    pub(super) fn sentence(self, name: &str) -> String {
        match self {
            Self::Verified => words::sure_verified(name),
            Self::Unverified => words::sure_unverified().into(),
            Self::Doubtful => words::sure_doubtful(name),
        }
    }
}

/// The call with this person whose words can be compared now.
pub(super) fn comparable(view: &View, user: UserId) -> Option<&CallView> {
    let call = view.call.as_ref().filter(|call| call.user == user)?;
    let talks = matches!(call.phase, Phase::Talking { .. });
    (talks && !call.safety_words.is_empty()).then_some(call)
}

impl Entry {
    /// That of somebody, as it is now.
    pub(super) fn of(lines: &PersonLines) -> Self {
        Self {
            name: lines.name.clone(),
            ..Self::default()
        }
    }

    /// All that can be done about a contact.
    pub(super) fn contact(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        user: UserId,
        lines: &PersonLines,
        is_favourite: bool,
        tokens: &Tokens,
    ) -> Done {
        let gap = tokens.size.gap;
        let mut done = Done::default();
        parts::card(ui, tokens, |ui| {
            let presence = model::presence(view, user);
            if let Some(word) = parts::presence_word(presence) {
                ui.horizontal(|ui| {
                    parts::presence(ui, tokens, presence, &lines.name);
                    parts::caption(ui, tokens, word);
                });
            }
            reach(ui, view, lines, tokens, &mut done);
            ui.add_space(gap);
            self.rename(ui, user, lines, tokens, &mut done);
            let favourite = (words::favourite(), words::favourite_why());
            if parts::switch(ui, tokens, favourite, is_favourite, true).clicked() {
                done.favourite = Some(!is_favourite);
            }
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            self.sureness(ui, view, user, lines, tokens, &mut done);
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| ring(ui, user, lines, tokens, &mut done));
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::what_they_learn());
            let hidden = (words::hide_my_address(), words::hide_address_why());
            if parts::switch(ui, tokens, hidden, lines.relay_only, true).clicked() {
                let only = !lines.relay_only;
                let change = PeopleChange::RelayOnly { user, only };
                done.commands.push(Command::People(change));
            }
            parts::caption(ui, tokens, words::their_link());
            let font = egui::TextStyle::Monospace.resolve(ui.style());
            let soft = tokens.colors(ui.ctx()).text_soft;
            let width = ui.available_width();
            let mut link = egui::text::LayoutJob::simple(lines.target.clone(), font, soft, width);
            link.wrap.break_anywhere = true;
            ui.add(egui::Label::new(link));
            let area = egui::vec2(0.0, tokens.size.control_height);
            let label = if self.copied {
                words::copied()
            } else {
                words::copy_their_link()
            };
            let plain = ActionKind::Plain;
            if parts::button(ui, tokens, (label, None), plain, area, true).clicked() {
                ui.ctx().copy_text(lines.target.clone());
                self.copied = true;
            }
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            self.leave(ui, user, lines, tokens, &mut done)
        });
        done
    }

    /// What can be done about a request.
    pub(super) fn stranger(
        &mut self,
        ui: &mut egui::Ui,
        user: UserId,
        lines: &PersonLines,
        tokens: &Tokens,
    ) -> Done {
        let mut done = Done::default();
        let sentence = words::stranger_is();
        parts::caption(ui, tokens, sentence);
        self.rename(ui, user, lines, tokens, &mut done);
        self.leave(ui, user, lines, tokens, &mut done);
        done
    }

    fn rename(
        &mut self,
        ui: &mut egui::Ui,
        user: UserId,
        lines: &PersonLines,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        const LEAST_WIDTH: f32 = 140.0;
        let size = tokens.size;
        let (label, hint) = if lines.is_contact {
            (words::rename(), words::name())
        } else {
            (words::add_to_contacts(), words::name_if_otherwise())
        };
        ui.horizontal(|ui| {
            let button_width = parts::button_width(ui, label, None, LEAST_WIDTH);
            let width = ui.available_width() - button_width - size.gap;
            let words = (hint, words::what_they_are_called());
            let field = parts::field(ui, tokens, &mut self.name, words, width);
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let area = egui::vec2(button_width, size.control_height);
            let kind = if lines.is_contact {
                ActionKind::Plain
            } else {
                ActionKind::Primary
            };
            let possible = !lines.is_contact || !self.name.trim().is_empty();
            let pressed = parts::button(ui, tokens, (label, None), kind, area, possible).clicked();
            if (pressed || entered) && possible {
                let name = self.name.trim().to_owned();
                let change = if lines.is_contact {
                    PeopleChange::Rename { user, name }
                } else {
                    let name = if name.is_empty() {
                        lines.name.clone()
                    } else {
                        name
                    };
                    let link = lines.target.clone();
                    PeopleChange::Add { link, name }
                };
                done.commands.push(Command::People(change));
            }
        });
    }

    /// Whether it is they, and how to find out.
    fn sureness(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        user: UserId,
        lines: &PersonLines,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
        let area = egui::vec2(0.0, size.control_height);
        let sureness = Sureness::of(lines);
        parts::title(ui, &words::is_it_really(&lines.name));
        let color = match sureness {
            Sureness::Verified => colors.ok,
            Sureness::Unverified => colors.text_soft,
            Sureness::Doubtful => colors.danger_text,
        };
        let sentence = RichText::new(sureness.sentence(&lines.name))
            .small()
            .color(color);
        ui.add(egui::Label::new(sentence).wrap());
        let verify = |verified| Command::People(PeopleChange::Verify { user, verified });
        if let Some(call) = comparable(view, user) {
            ui.add_space(size.gap);
            let words = RichText::new(call.safety_words.join(" · ")).strong();
            ui.add(egui::Label::new(words).wrap());
            ui.horizontal_wrapped(|ui| {
                let same = (words::they_are_the_same(), None);
                let primary = ActionKind::Primary;
                if parts::button(ui, tokens, same, primary, area, true).clicked() {
                    self.differed = false;
                    done.commands.push(verify(true));
                }
                let other = (words::they_differ(), None);
                if parts::button(ui, tokens, other, ActionKind::Danger, area, true).clicked() {
                    self.differed = true;
                    done.commands.push(verify(false));
                }
            });
        } else {
            let can_call = model::can_call(view, &lines.target);
            let call = (words::call_to_compare(), None);
            if !lines.verified
                && parts::button(ui, tokens, call, ActionKind::Plain, area, can_call).clicked()
            {
                done.commands.push(Command::Call(lines.target.clone()));
            }
        }
        if self.differed {
            let word = words::words_differed();
            ui.add(egui::Label::new(RichText::new(word).small().color(colors.danger_text)).wrap());
        }
        let compared = (words::words_compared(), words::words_compared_why());
        if parts::switch(ui, tokens, compared, lines.verified, true).clicked() {
            done.commands.push(verify(!lines.verified));
        }
    }

    /// Ways to hear less of them, each asked twice where it cannot be taken back.
    fn leave(
        &mut self,
        ui: &mut egui::Ui,
        user: UserId,
        lines: &PersonLines,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        let size = tokens.size;
        let mut offered = vec![(
            words::block(),
            words::block_them(),
            PeopleChange::Block(user),
        )];
        if lines.is_contact {
            offered.push((
                words::forget(),
                words::forget_contact(),
                PeopleChange::Remove(user),
            ));
        } else if lines.asks {
            offered.push((
                words::put_away(),
                words::put_away_really(),
                PeopleChange::Dismiss(user),
            ));
        }
        let word = match &self.asked {
            Some(PeopleChange::Block(_)) => Some(words::block_means()),
            Some(PeopleChange::Remove(_)) => Some(words::forget_means()),
            Some(_) | None => None,
        };
        if let Some(word) = word {
            parts::caption(ui, tokens, word);
        }
        ui.horizontal_wrapped(|ui| {
            for (label, question, offer) in offered {
                let asked = self.asked.as_ref() == Some(&offer);
                let (label, kind) = if asked {
                    (question, ActionKind::Danger)
                } else {
                    (label, ActionKind::Plain)
                };
                let area = egui::vec2(0.0, size.control_height);
                if !parts::button(ui, tokens, (label, None), kind, area, true).clicked() {
                    continue;
                }
                let gentle = matches!(offer, PeopleChange::Dismiss(_));
                if asked || gentle {
                    self.asked = None;
                    done.close |= !matches!(offer, PeopleChange::Remove(_));
                    done.commands.push(Command::People(offer));
                } else {
                    self.asked = Some(offer);
                }
            }
            if self.asked.is_some() {
                let area = egui::vec2(0.0, size.control_height);
                let keep = (words::keep_as_it_is(), None);
                if parts::button(ui, tokens, keep, ActionKind::Plain, area, true).clicked() {
                    self.asked = None;
                }
            }
        });
    }
}

/// How their calls are told of.
fn ring(ui: &mut egui::Ui, user: UserId, lines: &PersonLines, tokens: &Tokens, done: &mut Done) {
    const RINGS: [(Ring, Word, Word); 3] = [
        (Ring::Usual, words::ring_usual, words::ring_usual_why),
        (Ring::Always, words::ring_always, words::ring_always_why),
        (Ring::Never, words::ring_never, words::ring_never_why),
    ];
    parts::title(ui, words::their_calls());
    if let Some(ring) = parts::explained_choice(ui, tokens, &RINGS, lines.ring) {
        let change = PeopleChange::Ring { user, ring };
        done.commands.push(Command::People(change));
    }
}

/// What can be done with a person.
fn reach(ui: &mut egui::Ui, view: &View, lines: &PersonLines, tokens: &Tokens, done: &mut Done) {
    let area = egui::vec2(0.0, tokens.size.control_height);
    let can_call = model::can_call(view, &lines.target);
    let button = |ui: &mut egui::Ui, label: &str, name: &str, enabled| {
        let plain = ActionKind::Plain;
        let button = parts::button(ui, tokens, (label, None), plain, area, enabled);
        button.widget_info(|| egui::WidgetInfo::labeled(Role::Button, enabled, name));
        button.clicked()
    };
    ui.horizontal_wrapped(|ui| {
        if button(ui, words::voice_call(), words::voice_call(), can_call) {
            done.commands.push(Command::Call(lines.target.clone()));
        }
        if cfg!(feature = "video") && button(ui, words::video_call(), words::video_call(), can_call)
        {
            done.video = true;
        }
        done.write = button(ui, words::messages(), words::messages(), true);
        done.file = button(ui, words::file_dots(), words::send_them_a_file(), true);
    });
}
