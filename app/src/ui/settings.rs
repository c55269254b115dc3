//! The page of all settings, in tabs; the first one is about sound.

use eframe::egui::{self, RichText, accesskit::Role};

use super::{
    desk::DeskView,
    devices,
    history::History,
    keys,
    ledger::LedgerView,
    lending,
    model::{self, ActionKind},
    network,
    parts::{self, Qr},
    sound,
    theme::Tokens,
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
    settings::{PathPolicy, SCALES, Settings, SettingsChange, SettingsSwitch, ThemeChoice},
};

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
            Self::Sound => "Sound",
            Self::You => "You",
            Self::Devices => "Devices",
            Self::Privacy => "Privacy",
            Self::Network => "Network",
            Self::Call => "Call",
            Self::Look => "Look",
            Self::Keys => "Keys",
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
            for error in [&ledger.error, &self.wrong].into_iter().flatten() {
                ui.add(egui::Label::new(RichText::new(error).color(danger)).wrap());
            }
            if ledger.waits_for_start {
                parts::caption(
                    ui,
                    tokens,
                    "Some of what you chose holds from the next start of ahoy on.",
                );
            }
        });
        match self.tab {
            Tab::Sound => {
                let told = self.sound.show(ui, view, known.desk, tokens);
                done.commands.extend(told.change.map(Command::Sound));
                done.ask = told.ask;
            }
            Tab::Keys => parts::card(ui, tokens, |ui| keys::sheet(ui, tokens)),
            Tab::Call => network::call(ui, view, known.history, tokens),
            Tab::Devices => {
                done.wish = self.devices.show(ui, view, known.devices, tokens);
                if !std::mem::replace(&mut self.listed, true) {
                    done.wish = done.wish.take().or(Some(devices::Wish::Look));
                }
            }
            Tab::You | Tab::Privacy | Tab::Network | Tab::Look => {
                let Some(settings) = &ledger.settings else {
                    parts::caption(ui, tokens, "The settings are being read…");
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
        const BUTTON_WIDTH: f32 = 88.0;
        let size = tokens.size;
        parts::card(ui, tokens, |ui| {
            parts::title(ui, "Your name");
            parts::caption(
                ui,
                tokens,
                "Stands in your link, and people who do not know you see it when you call.",
            );
            let saved = settings.name.clone().unwrap_or_default();
            let name = self.name.get_or_insert_with(|| saved.clone());
            ui.horizontal(|ui| {
                let width = ui.available_width() - BUTTON_WIDTH - size.gap;
                let words = ("Name", "Your name");
                let field = parts::field(ui, tokens, name, words, width);
                let entered =
                    field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
                let area = egui::vec2(BUTTON_WIDTH, size.control_height);
                let differs = *name != saved;
                let save = ("Save", None);
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
            parts::title(ui, "Your card");
            own_card(ui, view, &mut self.qr, &mut self.copied, tokens);
        });
        ui.add_space(size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, "First steps");
            parts::caption(
                ui,
                tokens,
                "Name, sound check and card, one after the other.",
            );
            let area = egui::vec2(0.0, size.control_height);
            let again = ("Show them again", None);
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
            parts::title(ui, "How calls get through");
            switches(ui, settings, &GETTING_THROUGH, tokens, done);
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| self.proxy(ui, settings, tokens, done));
    }

    /// Supernodes of the settings.
    fn homes(&mut self, ui: &mut egui::Ui, settings: &Settings, tokens: &Tokens, done: &mut Done) {
        const BUTTON_WIDTH: f32 = 88.0;
        let size = tokens.size;
        parts::title(ui, "Supernodes of your choice");
        parts::caption(
            ui,
            tokens,
            "Where you register, so that calls find you. Anybody can run one and give you its link.",
        );
        let area = egui::vec2(BUTTON_WIDTH, size.control_height);
        for home in &settings.homes {
            let text = home.to_string();
            let row = egui::vec2(ui.available_width(), size.control_height);
            let line = egui::Layout::right_to_left(egui::Align::Center);
            ui.allocate_ui_with_layout(row, line, |ui| {
                let remove = ("Remove", None);
                let button = parts::button(ui, tokens, remove, ActionKind::Plain, area, true);
                button.widget_info(|| {
                    egui::WidgetInfo::labeled(Role::Button, true, format!("Remove {text}"))
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
            let width = ui.available_width() - BUTTON_WIDTH - size.gap;
            let words = ("ahoy-node:… link", "Link of a supernode");
            let field = parts::field(ui, tokens, &mut self.home, words, width);
            let entered =
                field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let possible = !self.home.trim().is_empty();
            let pressed =
                parts::button(ui, tokens, ("Add", None), ActionKind::Plain, area, possible)
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
        const BUTTON_WIDTH: f32 = 88.0;
        let size = tokens.size;
        parts::title(ui, "Proxy");
        parts::caption(
            ui,
            tokens,
            "What TCP connections to supernodes go through; empty: as the system says; none: nothing.",
        );
        let saved = settings.proxy.as_ref().map(ToString::to_string);
        let saved = saved.unwrap_or_default();
        let proxy = self.proxy.get_or_insert_with(|| saved.clone());
        ui.horizontal(|ui| {
            let width = ui.available_width() - BUTTON_WIDTH - size.gap;
            let words = ("socks5://host:port", "Proxy");
            parts::field(ui, tokens, proxy, words, width);
            let area = egui::vec2(BUTTON_WIDTH, size.control_height);
            let differs = *proxy != saved;
            let save = ("Save", None);
            let button = parts::button(ui, tokens, save, ActionKind::Plain, area, differs);
            button
                .widget_info(|| egui::WidgetInfo::labeled(Role::Button, differs, "Save the proxy"));
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
            parts::title(ui, "Colours");
            const THEMES: [ThemeChoice; 3] =
                [ThemeChoice::System, ThemeChoice::Dark, ThemeChoice::Light];
            let chosen = THEMES.iter().position(|theme| *theme == settings.theme);
            let labels = (Role::RadioButton, &["As the system", "Dark", "Light"][..]);
            if let Some(index) = parts::choice(ui, tokens, labels, chosen.unwrap_or(0))
                && let Some(theme) = THEMES.get(index)
            {
                done.changes.push(SettingsChange::Theme(*theme));
            }
            ui.add_space(gap);
            parts::title(ui, "Size");
            parts::caption(ui, tokens, "Of everything: text, buttons and gaps.");
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
                    parts::caption(ui, tokens, &format!("{percent} %"));
                    response
                })
                .inner;
            response.widget_info(|| {
                egui::WidgetInfo::slider(true, percent.into(), "Size of everything")
            });
            // While it is dragged, the slider would run away under the pointer.
            self.scale = Some(percent).filter(|_| response.dragged());
            if self.scale.is_none() && percent != settings.scale_percent {
                done.changes.push(SettingsChange::Scale(percent));
            }
        });
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, "The window");
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
        parts::caption(
            ui,
            tokens,
            "You have no link yet: it comes as soon as a supernode answers, or somebody in your network can be told.",
        );
        return;
    };
    parts::caption(
        ui,
        tokens,
        "Whoever has this link can ask to call you. Send it, or let a telephone read the picture.",
    );
    qr.show(ui, link, "Your link as a QR code", QR_SIDE);
    let area = egui::vec2(0.0, tokens.size.control_height);
    let label = if *copied { "Copied" } else { "Copy your link" };
    if parts::button(ui, tokens, (label, None), ActionKind::Primary, area, true).clicked() {
        ui.ctx().copy_text(link.clone());
        *copied = true;
    }
}

/// The supernode that a text names.
fn node_link(text: &str) -> Result<NodeLink, String> {
    match text.trim().parse::<Link>() {
        Ok(Link::Node(link)) => Ok(link),
        Ok(Link::Person(_)) => {
            Err("That is a person's link: a supernode's begins with ahoy-node:".into())
        }
        Err(error) => Err(format!("That is no supernode's link: {error}")),
    }
}

/// A switch, its name and its sentence.
type SwitchLine = (SettingsSwitch, &'static str, &'static str);

const GETTING_THROUGH: [SwitchLine; 3] = [
    (
        SettingsSwitch::PortMapping,
        "Ask the router for a port",
        "Calls more often go directly, by PCP, NAT-PMP or UPnP.",
    ),
    (
        SettingsSwitch::LanDiscovery,
        "Find people in this network",
        "Calls within it need no supernode and no internet.",
    ),
    (
        SettingsSwitch::GuessPorts,
        "Guess ports",
        "A direct way through stubborn routers, for some hundred packets.",
    ),
];

const FINDING: [SwitchLine; 3] = [
    (
        SettingsSwitch::Directory,
        "Supernodes find people",
        "Leave word of where you are at other supernodes, and ask them for others.",
    ),
    (
        SettingsSwitch::Dht,
        "The public table finds people",
        "Its nodes see your address, and whom you look for.",
    ),
    (
        SettingsSwitch::DhtPublish,
        "Be found by the public table",
        "Its nodes, which may be anybody's, see which address you have.",
    ),
];

const FILES: [SwitchLine; 1] = [(
    SettingsSwitch::AcceptFiles,
    "Take files without asking",
    "What contacts offer comes at once, into your folder for downloads.",
)];

const DURING_CALLS: [SwitchLine; 1] = [(
    SettingsSwitch::CallWaiting,
    "Let others wait",
    "Who calls while you talk can be answered or declined; else they hear that you are busy.",
)];

const OPENING: [SwitchLine; 1] = [(
    SettingsSwitch::Keyring,
    "The desktop's keyring opens this profile",
    "Whoever has logged in is not asked for its passphrase, which opens it all the same.",
)];

const WINDOW: [SwitchLine; 2] = [
    (
        SettingsSwitch::KeepRunning,
        "Ring while the window is closed",
        "Closing it only hides it: start ahoy again to see it, and Ctrl+Q ends it.",
    ),
    (
        SettingsSwitch::Autostart,
        "Start with the session",
        "Without a window, which opens when somebody calls.",
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
        if parts::switch(ui, tokens, (label, sentence), on, true).clicked() {
            if *which == SettingsSwitch::CallWaiting {
                done.commands.push(Command::CallWaiting(!on));
            }
            done.changes.push(SettingsChange::Switch(*which, !on));
        }
    }
}

fn privacy(ui: &mut egui::Ui, view: &View, settings: &Settings, tokens: &Tokens, done: &mut Done) {
    const STRANGERS: [(Strangers, &str, &str); 3] = [
        (
            Strangers::Inbox,
            "Ask first",
            "Strangers wait among the requests, silently.",
        ),
        (Strangers::Ring, "Ring", "Strangers ring like anybody."),
        (
            Strangers::Drop,
            "Nobody",
            "Strangers find nobody here, and you do not hear of them.",
        ),
    ];
    const PATHS: [(PathPolicy, &str, &str); 4] = [
        (
            PathPolicy::Auto,
            "Automatic",
            "Through a supernode at once, directly as soon as that works.",
        ),
        (
            PathPolicy::Relay,
            "Hide my address",
            "Only through supernodes: the other side never learns where you are.",
        ),
        (
            PathPolicy::Direct,
            "Direct only",
            "Never through a supernode; where there is no direct way there is no call.",
        ),
        (
            PathPolicy::Tcp,
            "TCP only",
            "Only through supernodes and by TCP, where nothing else is let through.",
        ),
    ];
    let gap = tokens.size.gap;
    parts::card(ui, tokens, |ui| {
        parts::title(ui, "When somebody calls whom you do not know");
        let chosen = STRANGERS
            .iter()
            .position(|(which, ..)| *which == settings.strangers);
        let chosen = chosen.unwrap_or(0);
        let labels = STRANGERS.map(|(_, label, _)| label);
        if let Some(index) = parts::choice(ui, tokens, (Role::RadioButton, &labels), chosen)
            && let Some((which, ..)) = STRANGERS.get(index)
        {
            done.commands.push(Command::Strangers(*which));
            done.changes.push(SettingsChange::Strangers(*which));
        }
        parts::caption(ui, tokens, STRANGERS[chosen].2);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, "While you talk");
        switches(ui, settings, &DURING_CALLS, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, "Ways that calls take");
        let chosen = PATHS.iter().position(|(which, ..)| *which == settings.path);
        let chosen = chosen.unwrap_or(0);
        let labels = PATHS.map(|(_, label, _)| label);
        if let Some(index) = parts::choice(ui, tokens, (Role::RadioButton, &labels), chosen)
            && let Some((which, ..)) = PATHS.get(index)
        {
            done.changes.push(SettingsChange::Path(*which));
        }
        parts::caption(ui, tokens, PATHS[chosen].2);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, "Finding and being found");
        switches(ui, settings, &FINDING, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, "Files");
        switches(ui, settings, &FILES, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| blocked(ui, view, tokens, done));
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, "What opens this profile");
        switches(ui, settings, &OPENING, tokens, done);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, "Messages and history");
        parts::caption(
            ui,
            tokens,
            "What you write waits sealed at the supernodes of the other side until their device takes it. What is written and whom you called stays in this profile.",
        );
    });
}

/// Whom nobody wants to hear from, and how to hear from them again.
fn blocked(ui: &mut egui::Ui, view: &View, tokens: &Tokens, done: &mut Done) {
    let size = tokens.size;
    parts::title(ui, "Blocked people");
    if view.blocked.is_empty() {
        parts::caption(ui, tokens, "You have blocked nobody.");
        return;
    }
    parts::caption(
        ui,
        tokens,
        "They are not told, and reach nobody here. Once unblocked they are strangers, who have to ask.",
    );
    for person in &view.blocked {
        let row = egui::vec2(ui.available_width(), size.control_height);
        let line = egui::Layout::right_to_left(egui::Align::Center);
        ui.push_id(person.user, |ui| {
            ui.allocate_ui_with_layout(row, line, |ui| {
                let area = egui::vec2(0.0, size.control_height);
                let plain = ActionKind::Plain;
                let button = parts::button(ui, tokens, ("Unblock", None), plain, area, true);
                button.widget_info(|| {
                    let name = format!("Unblock {}", person.name);
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
