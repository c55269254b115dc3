//! What the person set: `settings.toml` in the profile, fit to be edited by hand.
//!
//! A file that cannot be read is never overwritten, and nothing in it is guessed at. What a program changes in it leaves
//! the rest as it stands there, comments included.
//!
//! What tells of people and places ([`PRIVATE`]) is sealed, in a file of its own. Written into `settings.toml` by hand it
//! counts all the same, before what was sealed, and is taken out of there and sealed when the profile is opened next.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ahoy_nat::discovery::dht::mainline::DhtEntry;
use ahoy_transport::identity::UserId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::{Table, de::DeTable};
use toml_edit::{DocumentMut, Item};

use crate::{
    contacts::Strangers,
    keys::KeyChoices,
    link::{NodeLink, display_name},
    network::Membership,
    profile::{Profile, ProfileError, SettingsTexts, sealing::SealedFile},
    proxy::ProxyChoice,
    sound::{SoundChange, SoundChoices},
};

const VERSION: u32 = 1;
/// Settings that tell who somebody is and where they can be found.
pub const PRIVATE: [&str; 6] = [
    "name",
    "homes",
    "proxy",
    "dht_bootstrap",
    "favourites",
    "network",
];

/// Which ways media may take: in settings, on the command line and here.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum PathPolicy {
    /// Through a relay at once, directly as soon as that works.
    #[default]
    Auto,
    /// Directly or not at all.
    Direct,
    /// Only through relays: the other side never learns this address.
    Relay,
    /// Only through relays, and these only by TCP: nothing is sent by UDP.
    Tcp,
}

impl PathPolicy {
    /// Whether the two sides may reach each other without a relay.
    #[must_use]
    pub fn allows_direct(self) -> bool {
        match self {
            Self::Auto | Self::Direct => true,
            Self::Relay | Self::Tcp => false,
        }
    }
}

impl fmt::Display for PathPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Tcp => "tcp",
        })
    }
}

/// Which colours the window has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThemeChoice {
    /// As the system says.
    #[default]
    System,
    /// Dark ones.
    Dark,
    /// Light ones.
    Light,
}

/// Which language the window speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LanguageChoice {
    /// As the system says, where that is one of the others; else English.
    #[default]
    System,
    /// English.
    En,
    /// German.
    De,
    /// Spanish.
    Es,
}

/// How large the window may draw things, in percent.
pub const SCALES: std::ops::RangeInclusive<u16> = 75..=200;
/// The usual.
const NORMAL_SCALE: u16 = 100;
/// Favourites that are kept.
pub const MAX_FAVOURITES: usize = 64;

/// One setting that is chosen anew, beside those of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsChange {
    /// What the person wants to be called; empty for nothing.
    Name(String),
    /// What becomes of strangers' calls.
    Strangers(Strangers),
    /// Which ways media may take.
    Path(PathPolicy),
    /// Something is on from now on, or off.
    Switch(SettingsSwitch, bool),
    /// Register there too.
    AddHome(NodeLink),
    /// Register there no more.
    RemoveHome(NodeLink),
    /// What TCP connections go through.
    Proxy(Option<ProxyChoice>),
    /// Which colours the window has.
    Theme(ThemeChoice),
    /// Which language the window speaks.
    Language(LanguageChoice),
    /// How large things are drawn, in percent; see [`SCALES`].
    Scale(u16),
    /// Which keys do what in a call.
    Keys(KeyChoices),
    /// Somebody stands on top of the list, or no more.
    Favourite(UserId, bool),
    /// See [`Lend::upload`].
    LendUpload(u32),
    /// See [`Lend::people`].
    LendPeople(u16),
}

/// Something that is on or off, beside what is so about sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsSwitch {
    /// See [`Settings::port_mapping`].
    PortMapping,
    /// See [`Settings::lan_discovery`].
    LanDiscovery,
    /// See [`Settings::dht`].
    Dht,
    /// See [`Settings::dht_publish`].
    DhtPublish,
    /// See [`Settings::directory`].
    Directory,
    /// See [`Settings::guess_ports`].
    GuessPorts,
    /// See [`Settings::keep_running`].
    KeepRunning,
    /// See [`Lend::metered`].
    LendMetered,
    /// See [`Settings::accept_files`].
    AcceptFiles,
    /// See [`Settings::call_waiting`].
    CallWaiting,
    /// See [`Settings::presence`].
    Presence,
    /// See [`Settings::autostart`].
    Autostart,
    /// See [`Settings::keyring`].
    Keyring,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A newer program wrote it.
    #[error("{} has version {version}, which this program does not know; update ahoy", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Something in it is wrong; the message names the line.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// Settings that cannot be written down: our mistake.
    #[error("the settings cannot be written: {0}")]
    Serialize(#[from] toml::ser::Error),
    /// What was sealed opens, and is not what it should be.
    #[error("the sealed settings are damaged: {0}")]
    Sealed(Box<toml::de::Error>),
}

/// The settings. Every field may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The format's version, 1.
    pub version: u32,
    /// What the person wants to be called; put into links.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "name")]
    pub name: Option<String>,
    /// What becomes of calls by people who are no contacts.
    pub strangers: Strangers,
    /// Which ways media may take.
    pub path: PathPolicy,
    /// Asks the router to let others in (PCP, NAT-PMP, UPnP).
    pub port_mapping: bool,
    /// Finds people in the own network, and is found there, without a supernode.
    pub lan_discovery: bool,
    /// Finds people by the DHT where no known home answers. Its nodes see this address, and who is looked for.
    pub dht: bool,
    /// Leave word of where we are at supernodes that are not ours, look people up there, and learn of supernodes from those that
    /// are known.
    pub directory: bool,
    /// Is found by the public DHT, too. Its nodes, which may be anybody's, then see which address this person has.
    pub dht_publish: bool,
    /// Where to enter the DHT, as in `host:port`; empty: the public one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dht_bootstrap: Vec<DhtEntry>,
    /// Guesses ports where no direct way to the other side is found otherwise; that costs some hundred flows.
    pub guess_ports: bool,
    /// Takes out of the microphone's sound what comes from the speaker.
    pub echo_cancellation: bool,
    /// Takes steady noise out of it.
    pub noise_suppression: bool,
    /// Brings a quiet or loud voice to a usual level.
    pub gain_control: bool,
    /// Takes hum and rumble out of it.
    pub high_pass: bool,
    /// Softens keys that are struck while nobody speaks.
    pub click_suppression: bool,
    /// Sends silence while nobody speaks.
    pub voice_gate: bool,
    /// Begins calls with the microphone muted: `ahoy ctl ptt-down` and `ptt-up` let it be heard.
    pub push_to_talk: bool,
    /// Sends sound as it is, in two channels where there are two, whatever else is set: for music.
    pub music: bool,
    /// Plays a soft sound while the connection of a call is gone.
    pub reconnect_tone: bool,
    /// The microphone, and no other, by the id that `ahoy doctor --json` tells; else the system's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microphone: Option<String>,
    /// The same for the speaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
    /// The same for the speaker by which calls ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_speaker: Option<String>,
    /// Where files of others go; else the system's folder for downloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_folder: Option<PathBuf>,
    /// Fetches what contacts offer without asking.
    pub accept_files: bool,
    /// Largest file that is taken, in MB (a million bytes).
    pub largest_file_mb: u32,
    /// Where to register, best first; `ahoy-node:` links.
    #[serde(serialize_with = "write_homes", deserialize_with = "read_homes")]
    pub homes: Vec<NodeLink>,
    /// Which colours the window has.
    #[serde(skip_serializing_if = "is_usual")]
    pub theme: ThemeChoice,
    /// Which language the window speaks; the command line stays as it is.
    #[serde(skip_serializing_if = "is_of_system")]
    pub language: LanguageChoice,
    /// How large the window draws things, in percent of the usual.
    #[serde(skip_serializing_if = "is_normal", deserialize_with = "scale")]
    pub scale_percent: u16,
    /// Closing the window leaves ahoy running, so that calls come in.
    pub keep_running: bool,
    /// Who calls during a call waits to be answered, instead of hearing that the person is busy.
    pub call_waiting: bool,
    /// Contacts see whether this device is there, and it is seen of them; else neither.
    pub presence: bool,
    /// Ahoy starts with the session, without a window. That is a file of the desktop's ([`crate::autostart`]), not one of
    /// these settings: whoever shows them looks it up.
    #[serde(skip)]
    pub autostart: bool,
    /// The desktop's keyring opens the profile. None of these settings either: see [`Profile::is_in_keyring`].
    #[serde(skip)]
    pub keyring: bool,
    /// Who stands on top of the list.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_people",
        deserialize_with = "read_people"
    )]
    pub favourites: Vec<UserId>,
    /// What TCP connections to supernodes go through, as in `http://user:password@host:port` or `socks5://host:port`;
    /// `none` for nothing, whatever the environment says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyChoice>,
    /// The private network that this profile belongs to; `ahoy network` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Membership>,
    /// Keys that do something else in a call than usual.
    #[serde(skip_serializing_if = "KeyChoices::are_usual")]
    pub keys: KeyChoices,
    /// What this machine does for others.
    pub lend: Lend,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: VERSION,
            name: None,
            strangers: Strangers::default(),
            path: PathPolicy::default(),
            port_mapping: true,
            lan_discovery: true,
            dht: true,
            directory: true,
            dht_publish: false,
            dht_bootstrap: vec![],
            guess_ports: true,
            echo_cancellation: true,
            noise_suppression: true,
            gain_control: true,
            high_pass: true,
            click_suppression: false,
            voice_gate: false,
            push_to_talk: false,
            music: false,
            reconnect_tone: true,
            microphone: None,
            speaker: None,
            ring_speaker: None,
            download_folder: None,
            accept_files: false,
            largest_file_mb: 4_000,
            homes: vec![],
            theme: ThemeChoice::default(),
            language: LanguageChoice::default(),
            scale_percent: NORMAL_SCALE,
            keep_running: true,
            call_waiting: true,
            presence: true,
            autostart: false,
            keyring: false,
            favourites: vec![],
            proxy: None,
            network: None,
            keys: KeyChoices::default(),
            lend: Lend::default(),
        }
    }
}

/// What this machine does for others: the supernode's work, in bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lend {
    /// Whether it does.
    pub on: bool,
    /// Most that it passes on for others, kilobits per second.
    pub upload: u32,
    /// People that are registered here at once.
    pub people: u16,
    /// The UDP port; where it is taken, another one.
    pub port: u16,
    /// Also in networks that are paid by the byte.
    pub metered: bool,
}

impl Default for Lend {
    fn default() -> Self {
        Self {
            on: false,
            upload: 2000,
            people: 50,
            port: crate::supernode::DEFAULT_PORT,
            metered: false,
        }
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    version: Option<u32>,
}

impl Settings {
    /// Reads the profile's settings; the defaults where there are none.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load(profile: &Profile) -> Result<Self, SettingsError> {
        let path = profile.settings_path();
        let text = read(&path)?.unwrap_or_default();
        // The version first: a newer file's other fields mean nothing to us.
        if let Ok(VersionOnly {
            version: Some(version),
        }) = toml::from_str(&text)
            && version > VERSION
        {
            return Err(SettingsError::Newer { path, version });
        }
        // Whatever is wrong in there is told with its line.
        let settings = Self::parse(&text, path)?;
        let Some(sealed) = sealed(profile)? else {
            return Ok(settings);
        };
        let mut all: Table = toml::from_str(&text).unwrap_or_default();
        for (key, value) in sealed {
            all.entry(key).or_insert(value);
        }
        let settings = all.try_into();
        settings.map_err(|error| SettingsError::Sealed(Box::new(error)))
    }

    /// The language that the window speaks, of which nothing is sealed: for whoever is asked for the passphrase. The
    /// system's where nothing else can be read.
    #[must_use]
    pub fn language_of(profile: &Profile) -> LanguageChoice {
        #[derive(Deserialize)]
        struct LanguageOnly {
            #[serde(default)]
            language: LanguageChoice,
        }
        let text = read(&profile.settings_path()).ok().flatten();
        let read = text.and_then(|text| toml::from_str::<LanguageOnly>(&text).ok());
        read.map_or_else(LanguageChoice::default, |only| only.language)
    }

    fn parse(text: &str, path: PathBuf) -> Result<Self, SettingsError> {
        toml::from_str(text).map_err(|source| SettingsError::Invalid {
            path,
            source: Box::new(source),
        })
    }

    /// The settings as they stood in a backup; `path` is for the error.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn from_text(text: &str, path: &Path) -> Result<Self, SettingsError> {
        Self::parse(text, path.to_owned())
    }

    /// As they are written down.
    ///
    /// # Errors
    /// Our mistake.
    pub fn to_text(&self) -> Result<String, SettingsError> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// What is chosen about sound.
    #[must_use]
    pub fn sound(&self) -> SoundChoices {
        SoundChoices {
            microphone: self.microphone.clone(),
            speaker: self.speaker.clone(),
            ring_speaker: self.ring_speaker.clone(),
            echo_cancellation: self.echo_cancellation,
            noise_suppression: self.noise_suppression,
            gain_control: self.gain_control,
            high_pass: self.high_pass,
            click_suppression: self.click_suppression,
            voice_gate: self.voice_gate,
            push_to_talk: self.push_to_talk,
            music: self.music,
            reconnect_tone: self.reconnect_tone,
        }
    }

    /// These settings with other choices about sound.
    #[must_use]
    pub fn with_sound(self, choices: SoundChoices) -> Self {
        let SoundChoices {
            microphone,
            speaker,
            ring_speaker,
            echo_cancellation,
            noise_suppression,
            gain_control,
            high_pass,
            click_suppression,
            voice_gate,
            push_to_talk,
            music,
            reconnect_tone,
        } = choices;
        Self {
            microphone,
            speaker,
            ring_speaker,
            echo_cancellation,
            noise_suppression,
            gain_control,
            high_pass,
            click_suppression,
            voice_gate,
            push_to_talk,
            music,
            reconnect_tone,
            ..self
        }
    }

    /// Makes one choice about sound in the profile's settings, and leaves everything else as it is there now.
    ///
    /// # Errors
    /// When they cannot be read or written; then they are as they were.
    pub fn change_sound(profile: &Profile, change: &SoundChange) -> Result<(), SettingsError> {
        Self::edit(profile, |settings| {
            let mut choices = settings.sound();
            choices.apply(change);
            settings.with_sound(choices)
        })
        .map(drop)
    }

    /// Makes one choice in the profile's settings, and leaves everything else as it is there now. Returns what stands
    /// there then.
    ///
    /// # Errors
    /// When they cannot be read or written; then they are as they were.
    pub fn change(profile: &Profile, change: &SettingsChange) -> Result<Self, SettingsError> {
        Self::edit(profile, |mut settings| {
            settings.apply(change);
            settings
        })
    }

    fn edit(profile: &Profile, edit: impl FnOnce(Self) -> Self) -> Result<Self, SettingsError> {
        /// Choices about sound and others are saved by two tasks of one process. Other processes are kept away by the
        /// profile's lock.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = edit(Self::load(profile)?);
        settings.save(profile)?;
        Ok(settings)
    }

    /// Puts the profile into a private network, or takes it out of it, and leaves everything else as it is there now.
    ///
    /// # Errors
    /// When they cannot be read or written; then they are as they were.
    pub fn change_network(
        profile: &Profile,
        network: Option<Membership>,
    ) -> Result<(), SettingsError> {
        Self::edit(profile, |settings| Self {
            network,
            ..settings
        })
        .map(drop)
    }

    /// Makes the choice.
    pub fn apply(&mut self, change: &SettingsChange) {
        match change {
            SettingsChange::Name(name) => {
                self.name = Some(display_name(name)).filter(|name| !name.is_empty());
            }
            SettingsChange::Strangers(strangers) => self.strangers = *strangers,
            SettingsChange::Path(path) => self.path = *path,
            SettingsChange::Switch(which, on) => *self.switch(*which) = *on,
            SettingsChange::AddHome(link) => {
                self.homes.retain(|home| home.0.node != link.0.node);
                self.homes.push(link.clone());
            }
            SettingsChange::RemoveHome(link) => self.homes.retain(|home| home != link),
            SettingsChange::Proxy(proxy) => self.proxy.clone_from(proxy),
            SettingsChange::Theme(theme) => self.theme = *theme,
            SettingsChange::Language(language) => self.language = *language,
            SettingsChange::Scale(percent) => {
                self.scale_percent = (*percent).clamp(*SCALES.start(), *SCALES.end());
            }
            SettingsChange::Favourite(user, is_one) => {
                self.favourites.retain(|favourite| favourite != user);
                if *is_one && self.favourites.len() < MAX_FAVOURITES {
                    self.favourites.push(*user);
                }
            }
            SettingsChange::Keys(keys) => self.keys.clone_from(keys),
            SettingsChange::LendUpload(kilobits) => self.lend.upload = *kilobits,
            SettingsChange::LendPeople(people) => self.lend.people = *people,
        }
    }

    fn switch(&mut self, which: SettingsSwitch) -> &mut bool {
        match which {
            SettingsSwitch::PortMapping => &mut self.port_mapping,
            SettingsSwitch::LanDiscovery => &mut self.lan_discovery,
            SettingsSwitch::Dht => &mut self.dht,
            SettingsSwitch::DhtPublish => &mut self.dht_publish,
            SettingsSwitch::Directory => &mut self.directory,
            SettingsSwitch::GuessPorts => &mut self.guess_ports,
            SettingsSwitch::KeepRunning => &mut self.keep_running,
            SettingsSwitch::LendMetered => &mut self.lend.metered,
            SettingsSwitch::AcceptFiles => &mut self.accept_files,
            SettingsSwitch::CallWaiting => &mut self.call_waiting,
            SettingsSwitch::Presence => &mut self.presence,
            SettingsSwitch::Autostart => &mut self.autostart,
            SettingsSwitch::Keyring => &mut self.keyring,
        }
    }

    /// Whether this is on.
    #[must_use]
    pub fn is_on(&self, which: SettingsSwitch) -> bool {
        *self.clone().switch(which)
    }

    /// Notes in the profile's settings whether this machine serves others, and leaves everything else as it is there now.
    ///
    /// # Errors
    /// When they cannot be read or written; then they are as they were.
    pub fn change_lending(profile: &Profile, on: bool) -> Result<(), SettingsError> {
        Self::edit(profile, |mut settings| {
            settings.lend.on = on;
            settings
        })
        .map(drop)
    }

    /// Replaces the profile's settings. What does not change keeps its place in the file, its spelling and its comments.
    ///
    /// # Errors
    /// When they cannot be written; then the old ones are still there.
    pub fn save(&self, profile: &Profile) -> Result<(), SettingsError> {
        let text = self.to_text()?;
        let known = sealed(profile)?;
        let there = read(&profile.settings_path())?;
        let beside = |text: String| {
            let before = there.as_deref().unwrap_or_default();
            merged(before, &text).unwrap_or(text)
        };
        profile.write_settings(|seals| {
            if !seals {
                return Ok(SettingsTexts {
                    open: Some(beside(text)),
                    private: None,
                });
            }
            let (open, private) = split(&text)?;
            // Whatever stays as it is stays where it is: then a kill in between changes nothing by halves.
            Ok(SettingsTexts {
                private: (known.as_ref() != Some(&private))
                    .then(|| toml::to_string_pretty(&private))
                    .transpose()?,
                open: Some(beside(open)).filter(|open| Some(open) != there.as_ref()),
            })
        })
    }

    /// The private ones as they are to be sealed, for a vault that does not count yet; `None` when there are no settings.
    pub(crate) fn private_text(profile: &Profile) -> Result<Option<String>, SettingsError> {
        let Some(sealed) = sealed(profile)? else {
            return Ok(None);
        };
        Ok(Some(toml::to_string_pretty(&sealed)?))
    }

    /// Seals what somebody wrote into `settings.toml` by hand, or an older version did. Everything else in there stays as it
    /// was written. A file that is wrong is left alone: whoever reads it says so.
    pub(crate) fn take_in(profile: &Profile) -> Result<(), SettingsError> {
        let Some(text) = read(&profile.settings_path())? else {
            return Ok(());
        };
        let Ok(table) = toml::from_str::<Table>(&text) else {
            return Ok(());
        };
        if profile.protection()?.is_none() || !PRIVATE.iter().any(|key| table.contains_key(*key)) {
            return Ok(());
        }
        let settings = match Self::load(profile) {
            Ok(settings) => settings,
            Err(SettingsError::Invalid { .. } | SettingsError::Newer { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let (all_open, private) = split(&settings.to_text()?)?;
        profile.write_settings(|_seals| {
            Ok(SettingsTexts {
                open: Some(without_private(&text).unwrap_or(all_open)),
                private: Some(toml::to_string_pretty(&private)?),
            })
        })
    }
}

fn read(path: &Path) -> Result<Option<String>, SettingsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// What was sealed; `None` when nothing was.
fn sealed(profile: &Profile) -> Result<Option<Table>, SettingsError> {
    let Some(content) = profile.read_sealed(SealedFile::Settings)? else {
        return Ok(None);
    };
    let text = str::from_utf8(&content).unwrap_or_default();
    let table = toml::from_str(text);
    table
        .map(Some)
        .map_err(|error| SettingsError::Sealed(Box::new(error)))
}

/// Settings as text for everybody, and those that are private.
fn split(text: &str) -> Result<(String, Table), SettingsError> {
    let mut open: Table =
        toml::from_str(text).map_err(|error| SettingsError::Sealed(Box::new(error)))?;
    let private = PRIVATE
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), open.remove(*key)?)))
        .collect();
    Ok((toml::to_string_pretty(&open)?, private))
}

/// The text without its private settings, and otherwise as it was written; `None` if it is written so that it cannot be cut.
fn without_private(text: &str) -> Option<String> {
    let parsed = DeTable::parse(text).ok()?;
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    for (key, value) in parsed.get_ref() {
        if PRIVATE.contains(&key.get_ref().as_ref()) {
            let from = text
                .get(..key.span().start)?
                .rfind('\n')
                .map_or(0, |at| at + 1);
            let rest = text.get(value.span().end..)?;
            let to = rest
                .find('\n')
                .map_or(text.len(), |at| value.span().end + at + 1);
            cuts.push((from, to));
        }
    }
    cuts.sort_unstable();
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for (from, to) in cuts {
        kept.push_str(text.get(at..from)?);
        at = to;
    }
    kept.push_str(text.get(at..)?);
    let mut meant: Table = toml::from_str(text).ok()?;
    meant.retain(|key: &str, _value| !PRIVATE.contains(&key));
    (toml::from_str::<Table>(&kept).ok()? == meant).then_some(kept)
}

/// The document `before` with what `wanted` says; none where one of them is no document, or they say different things
/// in the end.
fn merged(before: &str, wanted: &str) -> Option<String> {
    let mut document: DocumentMut = before.parse().ok()?;
    let new: DocumentMut = wanted.parse().ok()?;
    if document.is_empty() {
        return None;
    }
    let gone: Vec<String> = document
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| !new.contains_key(key))
        .collect();
    for key in gone {
        document.remove(&key);
    }
    for (key, item) in new.iter() {
        match document.get_mut(key) {
            Some(old) if is_same(old, item) => {}
            Some(old) => {
                let mut item = item.clone();
                if let (Some(old), Some(new)) = (old.as_value(), item.as_value_mut()) {
                    *new.decor_mut() = old.decor().clone();
                }
                *old = item;
            }
            None => {
                document.insert(key, item.clone());
            }
        }
    }
    let text = document.to_string();
    let read = |text: &str| toml::from_str::<Settings>(text).ok();
    (read(&text)? == read(wanted)?).then_some(text)
}

/// Whether two values say the same, however they are spelt.
fn is_same(one: &Item, other: &Item) -> bool {
    let value = |item: &Item| -> Option<Table> {
        let mut document = DocumentMut::new();
        document.insert("value", item.clone());
        toml::from_str(&document.to_string()).ok()
    };
    value(one).is_some_and(|one| Some(one) == value(other))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_usual(theme: &ThemeChoice) -> bool {
    *theme == ThemeChoice::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_of_system(language: &LanguageChoice) -> bool {
    *language == LanguageChoice::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_normal(scale: &u16) -> bool {
    *scale == NORMAL_SCALE
}

fn scale<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let percent = u16::deserialize(deserializer)?;
    if SCALES.contains(&percent) {
        Ok(percent)
    } else {
        Err(de::Error::custom(format_args!(
            "a scale is {} to {} percent",
            SCALES.start(),
            SCALES.end()
        )))
    }
}

fn write_people<S: Serializer>(people: &[UserId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(people.iter().map(ToString::to_string))
}

fn read_people<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<UserId>, D::Error> {
    let keys = Vec::<String>::deserialize(deserializer)?;
    keys.iter()
        .take(MAX_FAVOURITES)
        .map(|key| key.parse().map_err(de::Error::custom))
        .collect()
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name
        .map(|name| display_name(&name))
        .filter(|name| !name.is_empty()))
}

fn write_homes<S: Serializer>(homes: &[NodeLink], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(homes.iter().map(ToString::to_string))
}

fn read_homes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeLink>, D::Error> {
    let links = Vec::<String>::deserialize(deserializer)?;
    links
        .iter()
        .map(|link| link.parse().map_err(de::Error::custom))
        .collect()
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::{NodeAddress, NodeKeys};

    use super::*;
    use crate::sound::{SoundDevice, SoundSwitch};

    fn with(text: &str) -> (tempfile::TempDir, Result<Settings, SettingsError>) {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path());
        fs::write(profile.settings_path(), text).unwrap();
        (dir, Settings::load(&profile))
    }

    #[test]
    fn settings_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path());
        assert_eq!(Settings::load(&profile).unwrap(), Settings::default());
        let node = NodeKeys::from_seed(&[1; 32]).id();
        let settings = Settings {
            name: Some("Zoë".into()),
            strangers: Strangers::Drop,
            path: PathPolicy::Relay,
            dht: false,
            directory: false,
            dht_publish: true,
            dht_bootstrap: vec!["192.0.2.7:6881".parse().unwrap()],
            proxy: Some("socks5://bo:p%40ss@proxy.example:1080".parse().unwrap()),
            homes: vec![NodeLink(NodeAddress::new(
                node,
                "192.0.2.1:443".parse().unwrap(),
            ))],
            ..Settings::default()
        };
        settings.save(&profile).unwrap();
        assert_eq!(Settings::load(&profile).unwrap(), settings);
        let text = fs::read_to_string(profile.settings_path()).unwrap();
        assert!(text.contains("strangers = \"drop\""), "{text}");
        for private in ["ahoy-node:", "Zoë", "proxy.example", "192.0.2.7"] {
            assert!(!text.contains(private), "{text}");
        }
        // Without a vault there is nothing to seal it with.
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path()).unsealed();
        settings.save(&profile).unwrap();
        assert_eq!(Settings::load(&profile).unwrap(), settings);
        let text = fs::read_to_string(profile.settings_path()).unwrap();
        assert!(
            text.contains("ahoy-node:") && text.contains("Zoë"),
            "{text}"
        );
    }

    #[test]
    fn what_somebody_writes_by_hand_counts_and_is_sealed_and_all_else_stays_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path());
        let first = Settings {
            name: Some("Zoë".into()),
            proxy: Some(ProxyChoice::Never),
            ..Settings::default()
        };
        first.save(&profile).unwrap();
        let by_hand = "# mine\nname = \"Ada\" # me\nvoice_gate = true\n\
            homes = [\n  # none\n]\nmusic = true";
        fs::write(profile.settings_path(), by_hand).unwrap();
        let expected = Settings {
            name: Some("Ada".into()),
            voice_gate: true,
            music: true,
            ..first
        };
        assert_eq!(Settings::load(&profile).unwrap(), expected);
        for _ in 0..2 {
            Settings::take_in(&profile).unwrap();
            let text = fs::read_to_string(profile.settings_path()).unwrap();
            assert_eq!(text, "# mine\nvoice_gate = true\nmusic = true");
            assert_eq!(Settings::load(&profile).unwrap(), expected);
        }
        // Where it cannot be cut out, the file is written anew.
        assert_eq!(
            without_private("a = 1\nname = \"Ada\""),
            Some("a = 1\n".into())
        );
        assert_eq!(without_private("name = "), None);
        // A mistake is shown by whoever reads it, and the file left alone.
        fs::write(
            profile.settings_path(),
            "name = \"Ada\"\ncolour = \"red\"\n",
        )
        .unwrap();
        Settings::take_in(&profile).unwrap();
        assert!(Settings::load(&profile).is_err());
        let text = fs::read_to_string(profile.settings_path()).unwrap();
        assert!(text.contains("Ada"));
    }

    #[test]
    fn a_mistake_is_shown_with_its_line_and_the_file_left_alone() {
        for (text, expected) in [
            ("version = 1\nstrangers = \"maybe\"\n", "line 2"),
            ("colour = \"red\"\n", "unknown field"),
            ("homes = [\"ahoy:x\"]\n", "characters instead of 52"),
            ("dht_bootstrap = [\"dht.example\"]\n", "has no port"),
            ("name = ", "line 1"),
        ] {
            let (dir, outcome) = with(text);
            let message = outcome.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(message.contains("settings.toml"), "{message}");
            assert_eq!(
                fs::read_to_string(dir.path().join("settings.toml")).unwrap(),
                text
            );
        }
    }

    #[test]
    fn what_a_program_changes_leaves_comments_where_they_are() {
        let before = "# Mine.\nversion = 1 # so far\n\n# Who may ring.\nstrangers = \"drop\"\n";
        let (dir, _outcome) = with(before);
        let profile = Profile::at(dir.path());
        let user = UserId([7; 32]);
        for change in [
            SettingsChange::Strangers(Strangers::Ring),
            SettingsChange::Switch(SettingsSwitch::Dht, false),
            SettingsChange::Favourite(user, true),
            SettingsChange::Scale(900),
        ] {
            Settings::change(&profile, &change).unwrap();
        }
        let text = fs::read_to_string(profile.settings_path()).unwrap();
        assert!(
            text.starts_with(
                "# Mine.\nversion = 1 # so far\n\n# Who may ring.\nstrangers = \"ring\"\n"
            ),
            "{text}"
        );
        let settings = Settings::load(&profile).unwrap();
        assert_eq!(settings.favourites, [user]);
        assert_eq!(settings.scale_percent, 200);
        assert!(!settings.is_on(SettingsSwitch::Dht) && settings.is_on(SettingsSwitch::Directory));
        // What tells of people is sealed, in another file.
        Settings::change(&profile, &SettingsChange::Name("Bo".into())).unwrap();
        assert_eq!(Settings::load(&profile).unwrap().name.unwrap(), "Bo");
        let text = fs::read_to_string(profile.settings_path()).unwrap();
        assert!(
            !text.contains("name =") && !text.contains("favourites") && text.contains("# Who may"),
            "{text}"
        );
    }

    #[test]
    fn every_setting_comes_back_from_beside_comments() {
        let node = NodeKeys::from_seed(&[1; 32]).id();
        let home = NodeLink(NodeAddress::new(node, "192.0.2.1:443".parse().unwrap()));
        let mut settings = Settings::default();
        let (dir, _outcome) = with("# All mine.\nversion = 1\npath = \"auto\" # any\n");
        let profile = Profile::at(dir.path());
        for change in [
            SettingsChange::Name("Bo".into()),
            SettingsChange::Path(PathPolicy::Relay),
            SettingsChange::AddHome(home.clone()),
            SettingsChange::AddHome(home.clone()),
            SettingsChange::Proxy(Some("socks5://proxy.example:1080".parse().unwrap())),
            SettingsChange::Theme(ThemeChoice::Dark),
            SettingsChange::Switch(SettingsSwitch::KeepRunning, false),
        ] {
            settings.apply(&change);
            let saved = Settings::change(&profile, &change).unwrap();
            assert_eq!(saved, settings);
            assert_eq!(Settings::load(&profile).unwrap(), settings);
        }
        assert_eq!(settings.homes.len(), 1);
        settings.apply(&SettingsChange::RemoveHome(home));
        assert!(settings.homes.is_empty());
        let text = fs::read_to_string(profile.settings_path()).unwrap();
        assert!(
            text.contains("# All mine.") && text.contains("# any"),
            "{text}"
        );
    }

    #[test]
    fn a_scale_that_nobody_could_read_is_refused() {
        let (_dir, outcome) = with("scale_percent = 1000\n");
        assert!(outcome.unwrap_err().to_string().contains("75 to 200"));
    }

    #[test]
    fn a_newer_version_is_named() {
        let (_dir, outcome) = with("version = 2\nwarp = 9\n");
        assert!(matches!(
            outcome,
            Err(SettingsError::Newer { version: 2, .. })
        ));
    }

    #[cfg(feature = "voice")]
    #[test]
    fn each_stage_for_the_voice_has_its_switch_and_music_has_none_of_them() {
        use ahoy_media::audio::voice::VoiceConfig;

        let voice = |text: &str| {
            let echo = VoiceConfig::default().echo;
            with(text).1.unwrap().sound().voice(echo)
        };
        let expected = VoiceConfig {
            echo_cancellation: false,
            ..VoiceConfig::default()
        };
        assert_eq!(voice("echo_cancellation = false\n"), expected);
        assert!(voice("music = true\n").is_off());
        let text = "noise_suppression = false\ngain_control = false\nhigh_pass = false\n";
        let expected = VoiceConfig {
            echo_cancellation: true,
            ..VoiceConfig::OFF
        };
        assert_eq!(voice(text), expected);
    }

    #[test]
    fn a_choice_about_sound_is_saved_and_nothing_else_is_touched() {
        assert_eq!(Settings::default().sound(), SoundChoices::default());
        let (dir, _outcome) = with("name = \"Bo\"\nvoice_gate = true\n");
        let profile = Profile::at(dir.path());
        let microphone = SoundChange::Device(SoundDevice::Microphone, Some("alsa:x".into()));
        Settings::change_sound(&profile, &microphone).unwrap();
        Settings::change_sound(&profile, &SoundChange::Switch(SoundSwitch::Music, true)).unwrap();
        let expected = Settings {
            name: Some("Bo".into()),
            voice_gate: true,
            microphone: Some("alsa:x".into()),
            music: true,
            ..Settings::default()
        };
        assert_eq!(Settings::load(&profile).unwrap(), expected);
        let (dir, _outcome) = with("colour = \"red\"\n");
        let profile = Profile::at(dir.path());
        Settings::change_sound(&profile, &microphone).unwrap_err();
        let text = fs::read_to_string(profile.settings_path()).unwrap();
        assert_eq!(text, "colour = \"red\"\n");
    }

    #[test]
    fn what_is_lent_is_saved_and_nothing_else_is_touched() {
        let (dir, outcome) = with("name = \"Bo\"\n[lend]\nupload = 500\n");
        assert!(!outcome.unwrap().lend.on, "nobody lends who was not asked");
        let profile = Profile::at(dir.path());
        Settings::change_lending(&profile, true).unwrap();
        let expected = Settings {
            name: Some("Bo".into()),
            lend: Lend {
                on: true,
                upload: 500,
                ..Lend::default()
            },
            ..Settings::default()
        };
        assert_eq!(Settings::load(&profile).unwrap(), expected);
    }

    #[test]
    fn names_are_cleaned() {
        let (_dir, outcome) = with("name = \"a\\u202eb\"\n");
        assert_eq!(outcome.unwrap().name.as_deref(), Some("ab"));
    }
}
