//! The page of all settings, in tabs; the first one is about sound.

use eframe::egui::{self, RichText, accesskit::Role};

use super::{
    desk::DeskView,
    devices,
    history::History,
    keys,
    ledger::{LedgerView, NotSaved},
    lending,
    model::{self, ActionKind},
    network,
    parts::{self, Qr},
    sound,
    theme::Tokens,
    told,
    words::{self, Word},
};
use crate::{
    contacts::Strangers,
    engine::{
        handle::{Command, View},
        nat::NatReports,
        people::PeopleChange,
    },
    link::{Link, NodeLink},
    proxy::ProxyChoice,
    settings::{
        LanguageChoice, PathPolicy, SCALES, Settings, SettingsChange, SettingsSwitch, ThemeChoice,
    },
};

/// A button beside a field is no narrower.
const LEAST_BUTTON: f32 = 88.0;

/// A part of the page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tab {
    /// Devices, and what is done to the voice.
    #[default]
    Sound,
    /// Name and link.
    You,
    /// What else speaks for the person.
    Devices,
    /// Who may call, and who learns what.
    Privacy,
    /// How calls get through.
    Network,
    /// What is measured of the call.
    Call,
    /// Colours and sizes.
    Look,
    /// What keys do.
    Keys,
}

impl Tab {
    const ALL: [Self; 8] = [
        Self::Sound,
        Self::You,
        Self::Devices,
        Self::Privacy,
        Self::Network,
        Self::Call,
        Self::Look,
        Self::Keys,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Sound => words::tab_sound(),
            Self::You => words::tab_you(),
            Self::Devices => words::tab_devices(),
            Self::Privacy => words::tab_privacy(),
            Self::Network => words::tab_network(),
            Self::Call => words::tab_call(),
            Self::Look => words::tab_look(),
            Self::Keys => words::tab_keys(),
        }
    }
}

/// What the person did with the page.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Done {
    /// For the engine.
    pub(super) commands: Vec<Command>,
    /// For the file.
    pub(super) changes: Vec<SettingsChange>,
    /// For the desk.
    pub(super) ask: Option<super::desk::Ask>,
    /// About one's devices.
    pub(super) wish: Option<devices::Wish>,
    /// The first steps are to be shown again.
    pub(super) first_steps: bool,
}

/// What the page shows beside the view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) desk: &'a DeskView,
    pub(super) ledger: &'a LedgerView,
    pub(super) nat: &'a NatReports,
    pub(super) history: &'a History,
    pub(super) devices: &'a devices::DevicesView,
}

/// What the page remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// It is shown.
    pub(super) open: bool,
    pub(super) tab: Tab,
    pub(super) sound: sound::Page,
    /// What is typed and not saved yet; none: what is saved stands there.
    name: Option<String>,
    home: String,
    proxy: Option<String>,
    /// What was wrong with what was typed last.
    wrong: Option<String>,
    scale: Option<u16>,
    qr: Qr,
    copied: bool,
    devices: devices::Page,
    keys: keys::Page,
    /// The list of devices was asked for.
    listed: bool,
}

impl Page {
    /// Opens it there.
    pub(super) fn open_at(&mut self, tab: Tab) {
        let before = std::mem::take(self);
        *self = Self {
            open: true,
            tab,
            qr: before.qr,
            ..Self::default()
        };
        self.sound.focus = true;
    }

    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// The next key is chosen for something, and does nothing else.
    pub(super) fn takes_key(&self) -> bool {
        self.open && self.tab == Tab::Keys && self.keys.takes_key()
    }

    /// Somebody looks at sound devices.
    pub(super) fn is_at_sound(&self) -> bool {
        self.open && self.tab == Tab::Sound
    }

    /// Draws it.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        known: Known<'_>,
        tokens: &Tokens,
    ) -> Done {
        let mut done = Done::default();
        let labels = Tab::ALL.map(Tab::label);
        let chosen = Tab::ALL.iter().position(|tab| *tab == self.tab);
        let tabs = (Role::Tab, &labels[..]);
        if let Some(index) = parts::choice(ui, tokens, tabs, chosen.unwrap_or(0)) {
            self.tab = Tab::ALL.get(index).copied().unwrap_or_default();
            self.wrong = None;
            self.listed = false;
        }
        ui.add_space(tokens.size.gap);
        let ledger = known.ledger;
        let danger = tokens.colors(ui.ctx()).danger_text;
        // In a place of its own, there or not: else the field below would lose the keyboard when a sentence comes.
        ui.scope(|ui| {
            let not_saved = ledger.error.as_ref().map(NotSaved::sentence);
            for error in [&not_saved, &self.wrong].into_iter().flatten() {
                ui.add(egui::Label::new(RichText::new(error).color(danger)).wrap());
            }
            if ledger.waits_for_start {
                parts::caption(ui, tokens, words::waits_for_start());
            }
        });
        match self.tab {
            Tab::Sound => {
                let told = self.sound.show(ui, view, known.desk, tokens);
                done.commands.extend(told.change.map(Command::Sound));
                done.ask = told.ask;
            }
            Tab::Keys => parts::card(ui, tokens, |ui| {
                let saved = ledger.settings.as_ref();
                let choices = saved.map(|settings| settings.keys.clone());
                let chosen = self.keys.show(ui, &choices.unwrap_or_default(), tokens);
                done.changes.extend(chosen.map(SettingsChange::Keys));
            }),
            Tab::Call => network::call(ui, view, known.history, tokens),
            Tab::Devices => {
                done.wish = self.devices.show(ui, view, known.devices, tokens);
                if !std::mem::replace(&mut self.listed, true) {
                    done.wish = done.wish.take().or(Some(devices::Wish::Look));
                }
            }
            Tab::You | Tab::Privacy | Tab::Network | Tab::Look => {
                let Some(settings) = &ledger.settings else {
                    parts::caption(ui, tokens, words::settings_being_read());
                    return done;
                };
                match self.tab {
                    Tab::You => self.you(ui, view, settings, tokens, &mut done),
                    Tab::Privacy => privacy(ui, view, settings, tokens, &mut done),
                    Tab::Network => self.network(ui, view, known, settings, tokens, &mut done),
                    Tab::Look => self.look(ui, settings, tokens, &mut done),
                    Tab::Sound | Tab::Devices | Tab::Call | Tab::Keys => {}
                }
            }
        }
        done
    }

    fn you(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        settings: &Settings,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        let button_width = parts::button_width(ui, words::save(), None, LEAST_BUTTON);
        let size = tokens.size;
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::your_name());
            parts::caption(ui, tokens, words::name_stands());
            let saved = settings.name.clone().unwrap_or_default();
            let name = self.name.get_or_insert_with(|| saved.clone());
            ui.horizontal(|ui| {
                let width = ui.available_width() - button_width - size.gap;
                let words = (words::name(), words::your_name());
                let field = parts::field(ui, tokens, name, words, width);
                let entered =
                    field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
                let area = egui::vec2(button_width, size.control_height);
                let differs = *name != saved;
                let save = (words::save(), None);
                let pressed =
                    parts::button(ui, tokens, save, ActionKind::Primary, area, differs).clicked();
                if (pressed || entered) && differs {
                    done.commands.push(Command::Name(name.clone()));
                    done.changes.push(SettingsChange::Name(name.clone()));
                }
            });
        });
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::your_card());
            own_card(ui, view, &mut self.qr, &mut self.copied, tokens);
        });
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::first_steps());
            parts::caption(ui, tokens, words::first_steps_are());
            let area = egui::vec2(0.0, size.control_height);
            let again = (words::show_again(), None);
            done.first_steps =
                parts::button(ui, tokens, again, ActionKind::Plain, area, true).clicked();
        });
    }

    fn network(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        known: Known<'_>,
        settings: &Settings,
        tokens: &Tokens,
        done: &mut Done,
    ) {
        let gap = tokens.size.gap;
        parts::card(ui, tokens, |ui| network::here(ui, view, known.nat, tokens));
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| self.homes(ui, settings, tokens, done));
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            let told = lending::show(ui, &view.lending, &settings.lend, tokens);
            done.commands.extend(told.on.map(Command::Lend));
            done.changes.extend(told.changes);
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::how_calls_get_through());
            switches(ui, settings, &GETTING_THROUGH, tokens, done);
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| self.proxy(ui, settings, tokens, done));
    }

    /// Supernodes of the settings.
    fn homes(&mut self, ui: &mut egui::Ui, settings: &Settings, tokens: &Tokens, done: &mut Done) {
        let button_width = [words::add(), words::remove()]
            .map(|label| parts::button_width(ui, label, None, LEAST_BUTTON))
            .into_iter()
            .fold(0.0, f32::max);
        let size = tokens.size;
        parts::title(ui, words::supernodes_of_choice());
        parts::caption(ui, tokens, words::supernodes_are());
        let area = egui::vec2(button_width, size.control_height);
        for home in &settings.homes {
            let text = home.to_string();
            let row = egui::vec2(ui.available_width(), size.control_height);
            let line = egui::Layout::right_to_left(egui::Align::Center);
            ui.allocate_ui_with_layout(row, line, |ui| {
                let remove = (words::remove(), None);
                let button = parts::button(ui, tokens, remove, ActionKind::Plain, area, true);
                button.widget_info(|| {
                    egui::WidgetInfo::labeled(Role::Button, true, words::remove_what(&text))
                });
                if button.clicked() {
                    done.changes.push(SettingsChange::RemoveHome(home.clone()));
                }
                let line = egui::Layout::left_to_right(egui::Align::Center);
                ui.with_layout(line, |ui| {
                    let address = text.rsplit('@').next().unwrap_or_default();
                    ui.add(egui::Label::new(address).truncate());
                });
            });
        }
        ui.horizontal(|ui| {
            let width = ui.available_width() - button_width - size.gap;
            let words = (words::node_link_hint(), words::link_of_supernode());
            let field = parts::field(ui, tokens, &mut self.home, words, width);
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let possible = !self.home.trim().is_empty();
            let pressed = parts::button(
                ui,
                tokens,
                (words::add(), None),
                ActionKind::Plain,
                area,
                possible,
            )
            .clicked();
            if (entered || pressed) && possible {
                match node_link(&self.home) {
                    Ok(link) => {
                        self.wrong = None;
                        self.home.clear();
                        done.changes.push(SettingsChange::AddHome(link));
                    }
                    Err(sentence) => self.wrong = Some(sentence),
                }
            }
        });
    }

    fn proxy(&mut self, ui: &mut egui::Ui, settings: &Settings, tokens: &Tokens, done: &mut Done) {
        let button_width = parts::button_width(ui, words::save(), None, LEAST_BUTTON);
        let size = tokens.size;
        parts::title(ui, words::proxy());
        parts::caption(ui, tokens, words::proxy_is());
        let saved = settings.proxy.as_ref().map(ToString::to_string);
        let saved = saved.unwrap_or_default();
        let proxy = self.proxy.get_or_insert_with(|| saved.clone());
        ui.horizontal(|ui| {
            let width = ui.available_width() - button_width - size.gap;
            let words = (words::proxy_hint(), words::proxy());
            parts::field(ui, tokens, proxy, words, width);
            let area = egui::vec2(button_width, size.control_height);
            let differs = *proxy != saved;
            let save = (words::save(), None);
            let button = parts::button(ui, tokens, save, ActionKind::Plain, area, differs);
            button.widget_info(|| {
                egui::WidgetInfo::labeled(Role::Button, differs, words::save_proxy())
            });
            if button.clicked() {
                let typed = proxy.trim();
                let choice = match typed {
                    "" => Ok(None),
                    typed => typed.parse::<ProxyChoice>().map(Some),
                };
                match choice {
                    Ok(choice) => {
                        self.wrong = None;
                        done.changes.push(SettingsChange::Proxy(choice));
                    }
                    Err(error) => self.wrong = Some(error.to_string()),
                }
            }
        });
    }

    fn look(&mut self, ui: &mut egui::Ui, settings: &Settings, tokens: &Tokens, done: &mut Done) {
        let gap = tokens.size.gap;
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::colours());
            const THEMES: [ThemeChoice; 3] =
                [ThemeChoice::System, ThemeChoice::Dark, ThemeChoice::Light];
            let chosen = THEMES.iter().position(|theme| *theme == settings.theme);
            let labels = (
                Role::RadioButton,
                &[words::as_the_system(), words::dark(), words::light()][..],
            );
            if let Some(index) = parts::choice(ui, tokens, labels, chosen.unwrap_or(0))
                && let Some(theme) = THEMES.get(index)
            {
                done.changes.push(SettingsChange::Theme(*theme));
            }
            ui.add_space(gap);
            parts::title(ui, words::scale_title());
            parts::caption(ui, tokens, words::size_is());
            let mut percent = self.scale.unwrap_or(settings.scale_percent);
            let response = ui
                .horizontal(|ui| {
                    const VALUE_WIDTH: f32 = 52.0;
                    ui.spacing_mut().slider_width = ui.available_width() - VALUE_WIDTH - gap;
                    let slider = egui::Slider::new(&mut percent, SCALES)
                        .step_by(25.0)
                        .trailing_fill(true)
                        .handle_shape(egui::style::HandleShape::Circle)
                        .show_value(false);
                    let response = ui.add(slider);
                    parts::caption(ui, tokens, &words::percent(percent));
                    response
                })
                .inner;
            response.widget_info(|| {
                egui::WidgetInfo::slider(true, percent.into(), words::size_of_everything())
            });
            // While it is dragged, the slider would run away under the pointer.
            self.scale = Some(percent).filter(|_| response.dragged());
            if self.scale.is_none() && percent != settings.scale_percent {
                done.changes.push(SettingsChange::Scale(percent));
            }
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::language_title());
            let chosen = LANGUAGES
                .iter()
                .position(|(choice, _)| *choice == settings.language);
            let names = LANGUAGES.map(|(_, name)| name());
            let labels = (Role::RadioButton, &names[..]);
            if let Some(index) = parts::choice(ui, tokens, labels, chosen.unwrap_or(0))
                && let Some((choice, _)) = LANGUAGES.get(index)
            {
                done.changes.push(SettingsChange::Language(*choice));
            }
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::the_window());
            switches(ui, settings, &WINDOW, tokens, done);
        });
    }
}

/// The link that reaches the person, to be shown and copied.
pub(super) fn own_card(
    ui: &mut egui::Ui,
    view: &View,
    qr: &mut Qr,
    copied: &mut bool,
    tokens: &Tokens,
) {
    const QR_SIDE: f32 = 240.0;
    let Some(link) = &view.link else {
        parts::caption(ui, tokens, words::no_link_yet());
        return;
    };
    parts::caption(ui, tokens, words::card_is());
    qr.show(ui, link, words::your_link_qr(), QR_SIDE);
    let area = egui::vec2(0.0, tokens.size.control_height);
    let label = if *copied {
        words::copied()
    } else {
        words::copy_your_link()
    };
    if parts::button(ui, tokens, (label, None), ActionKind::Primary, area, true).clicked() {
        ui.ctx().copy_text(link.clone());
        *copied = true;
    }
}

/// The supernode that a text names.
fn node_link(text: &str) -> Result<NodeLink, String> {
    match text.trim().parse::<Link>() {
        Ok(Link::Node(link)) => Ok(link),
        Ok(Link::Person(_)) => Err(words::is_person_link().into()),
        Err(error) => Err(words::no_supernode_link(told::trouble::link_part(&error))),
    }
}

/// Each by its own name: whoever reads no other finds it.
const LANGUAGES: [(LanguageChoice, Word); 4] = [
    (LanguageChoice::System, words::as_the_system),
    (LanguageChoice::En, || "English"),
    (LanguageChoice::De, || "Deutsch"),
    (LanguageChoice::Es, || "Español"),
];

/// A switch, its name and its sentence.
type SwitchLine = (SettingsSwitch, Word, Word);

const GETTING_THROUGH: [SwitchLine; 3] = [
    (
        SettingsSwitch::PortMapping,
        words::port_mapping,
        words::port_mapping_why,
    ),
    (
        SettingsSwitch::LanDiscovery,
        words::lan_discovery,
        words::lan_discovery_why,
    ),
    (
        SettingsSwitch::GuessPorts,
        words::guess_ports,
        words::guess_ports_why,
    ),
];

const FINDING: [SwitchLine; 3] = [
    (
        SettingsSwitch::Directory,
        words::directory,
        words::directory_why,
    ),
    (SettingsSwitch::Dht, words::dht, words::dht_why),
    (
        SettingsSwitch::DhtPublish,
        words::dht_publish,
        words::dht_publish_why,
    ),
];

const FILES: [SwitchLine; 1] = [(
    SettingsSwitch::AcceptFiles,
    words::accept_files,
    words::accept_files_why,
)];

const DURING_CALLS: [SwitchLine; 1] = [(
    SettingsSwitch::CallWaiting,
    words::call_waiting,
    words::call_waiting_why,
)];

const CONTACTS: [SwitchLine; 1] = [(
    SettingsSwitch::Presence,
    words::presence_switch,
    words::presence_switch_why,
)];

const OPENING: [SwitchLine; 1] = [(SettingsSwitch::Keyring, words::keyring, words::keyring_why)];

const WINDOW: [SwitchLine; 2] = [
    (
        SettingsSwitch::KeepRunning,
        words::keep_running,
        words::keep_running_why,
    ),
    (
        SettingsSwitch::Autostart,
        words::autostart,
        words::autostart_why,
    ),
];

fn switches(
    ui: &mut egui::Ui,
    settings: &Settings,
    lines: &[SwitchLine],
    tokens: &Tokens,
    done: &mut Done,
) {
    for (which, label, sentence) in lines {
        let on = settings.is_on(*which);
        if parts::switch(ui, tokens, (label(), sentence()), on, true).clicked() {
            if *which == SettingsSwitch::CallWaiting {
                done.commands.push(Command::CallWaiting(!on));
            }
            if *which == SettingsSwitch::Presence {
                done.commands.push(Command::Presence(!on));
            }
            done.changes.push(SettingsChange::Switch(*which, !on));
        }
    }
}

fn privacy(ui: &mut egui::Ui, view: &View, settings: &Settings, tokens: &Tokens, done: &mut Done) {
    const STRANGERS: [(Strangers, Word, Word); 3] = [
        (
            Strangers::Inbox,
            words::strangers_ask,
            words::strangers_ask_why,
        ),
        (
            Strangers::Ring,
            words::strangers_ring,
            words::strangers_ring_why,
        ),
        (
            Strangers::Drop,
            words::strangers_drop,
            words::strangers_drop_why,
        ),
    ];
    const PATHS: [(PathPolicy, Word, Word); 4] = [
        (PathPolicy::Auto, words::automatic, words::path_auto_why),
        (
            PathPolicy::Relay,
            words::hide_my_address,
            words::path_relay_why,
        ),
        (
            PathPolicy::Direct,
            words::path_direct_only,
            words::path_direct_why,
        ),
        (PathPolicy::Tcp, words::path_tcp_only, words::path_tcp_why),
    ];
    let gap = tokens.size.gap;
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::when_strangers_call());
        let picked = parts::explained_choice(ui, tokens, &STRANGERS, settings.strangers);
        if let Some(which) = picked {
            done.commands.push(Command::Strangers(which));
            done.changes.push(SettingsChange::Strangers(which));
        }
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::while_you_talk());
        switches(ui, settings, &DURING_CALLS, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::your_contacts());
        switches(ui, settings, &CONTACTS, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::ways_calls_take());
        if let Some(which) = parts::explained_choice(ui, tokens, &PATHS, settings.path) {
            done.changes.push(SettingsChange::Path(which));
        }
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::finding());
        switches(ui, settings, &FINDING, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::files());
        switches(ui, settings, &FILES, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| blocked(ui, view, tokens, done));
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::what_opens_profile());
        switches(ui, settings, &OPENING, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::messages_and_history());
        parts::caption(ui, tokens, words::history_is());
    });
}

/// Whom nobody wants to hear from, and how to hear from them again.
fn blocked(ui: &mut egui::Ui, view: &View, tokens: &Tokens, done: &mut Done) {
    let size = tokens.size;
    parts::title(ui, words::blocked_people());
    if view.blocked.is_empty() {
        parts::caption(ui, tokens, words::nobody_blocked());
        return;
    }
    parts::caption(ui, tokens, words::blocked_means());
    for person in &view.blocked {
        let row = egui::vec2(ui.available_width(), size.control_height);
        let line = egui::Layout::right_to_left(egui::Align::Center);
        ui.push_id(person.user, |ui| {
            ui.allocate_ui_with_layout(row, line, |ui| {
                let area = egui::vec2(0.0, size.control_height);
                let plain = ActionKind::Plain;
                let button = parts::button(ui, tokens, (words::unblock(), None), plain, area, true);
                button.widget_info(|| {
                    let name = words::unblock_whom(&person.name);
                    egui::WidgetInfo::labeled(Role::Button, true, name)
                });
                if button.clicked() {
                    let change = PeopleChange::Unblock(person.user);
                    done.commands.push(Command::People(change));
                }
                let line = egui::Layout::left_to_right(egui::Align::Center);
                ui.with_layout(line, |ui| {
                    ui.add(egui::Label::new(&person.name).truncate());
                });
            });
        });
    }
}

/// What the engine and the window are told when the person is done with a setting; [`model`] decides the rest.
pub(super) fn theme_of(choice: ThemeChoice) -> egui::ThemePreference {
    match choice {
        ThemeChoice::System => model::theme_preference(None),
        ThemeChoice::Dark => egui::ThemePreference::Dark,
        ThemeChoice::Light => egui::ThemePreference::Light,
    }
}

#[cfg(test)]
mod tests;
