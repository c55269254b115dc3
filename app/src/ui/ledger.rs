//! The settings as the window shows and changes them.
//!
//! A disk takes its time: a task of the runtime reads and writes. What was chosen is shown at once; should it not be
//! saved, that is told, and what stands in the file is shown again.

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::words;
use crate::{
    autostart,
    profile::Profile,
    settings::{Settings, SettingsChange, SettingsSwitch},
};

/// Choices that wait to be saved. A person makes one at a time; a slider is let go before it counts.
const QUEUE: usize = 64;

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LedgerView {
    /// What stands in the file; none before it was read, and where it cannot be.
    pub(super) settings: Option<Settings>,
    /// Why something was not saved.
    pub(super) error: Option<NotSaved>,
    /// Something was chosen that the running engine does not know.
    pub(super) waits_for_start: bool,
}

/// Why something was not saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotSaved {
    /// Only whoever knows the passphrase lets the keyring have it.
    NeedsPassphrase,
    /// What the system or the file says, in English.
    Other(String),
}

impl NotSaved {
    fn other(error: impl std::fmt::Display) -> Self {
        Self::Other(error.to_string())
    }

    /// For a person.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::NeedsPassphrase => words::not_saved(words::keyring_needs_passphrase()),
            Self::Other(error) => words::not_saved(error),
        }
    }
}

/// The near end.
#[derive(Debug)]
pub(super) struct Ledger {
    changes: mpsc::Sender<SettingsChange>,
    shown: watch::Receiver<LedgerView>,
}

impl Ledger {
    /// Reads the settings of `profile`; the task ends with this.
    pub(super) fn start(runtime: &Handle, profile: Profile) -> Self {
        let (changes, queue) = mpsc::channel(QUEUE);
        let (view, shown) = watch::channel(LedgerView::default());
        runtime.spawn(keep(profile, queue, view));
        Self { changes, shown }
    }

    /// What is known, and a way to wait for more.
    pub(super) fn shown(&self) -> watch::Receiver<LedgerView> {
        self.shown.clone()
    }

    /// Has a choice saved.
    pub(super) fn change(&self, change: SettingsChange) {
        if self.changes.try_send(change).is_err() {
            tracing::warn!("a setting is not saved: too many at once");
        }
    }
}

async fn keep(
    profile: Profile,
    mut queue: mpsc::Receiver<SettingsChange>,
    view: watch::Sender<LedgerView>,
) {
    let read = |profile: &Profile| Settings::load(profile).map_err(NotSaved::other);
    note(&view, by_disk(profile.clone(), read).await);
    while let Some(change) = queue.recv().await {
        let waits = waits_for_start(&change);
        let saved = by_disk(profile.clone(), move |profile| save(profile, &change)).await;
        if saved.is_ok() && waits {
            view.send_modify(|view| view.waits_for_start = true);
        }
        note(&view, saved);
    }
}

/// Saves a choice where it belongs, and says what stands there then.
fn save(profile: &Profile, change: &SettingsChange) -> Result<Settings, NotSaved> {
    if let SettingsChange::Switch(SettingsSwitch::Autostart, on) = change {
        let usual = Profile::locate(None, None).map(|usual| usual.dir().to_owned());
        let home = std::path::absolute(profile.dir()).map_err(NotSaved::other)?;
        let is_usual = usual.is_ok_and(|usual| usual == home);
        let home = (!is_usual).then_some(&*home);
        autostart::set(*on, home).map_err(NotSaved::other)?;
        return Settings::load(profile).map_err(NotSaved::other);
    }
    if let SettingsChange::Switch(SettingsSwitch::Keyring, on) = change {
        if *on {
            return Err(NotSaved::NeedsPassphrase);
        }
        profile.take_from_keyring().map_err(NotSaved::other)?;
        return Settings::load(profile).map_err(NotSaved::other);
    }
    Settings::change(profile, change).map_err(NotSaved::other)
}

async fn by_disk(
    profile: Profile,
    work: impl FnOnce(&Profile) -> Result<Settings, NotSaved> + Send + 'static,
) -> Result<Settings, NotSaved> {
    let work = move || {
        work(&profile).map(|settings| Settings {
            autostart: autostart::is_on(),
            keyring: profile.is_in_keyring(),
            ..settings
        })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(NotSaved::other(error)),
    }
}

fn note(view: &watch::Sender<LedgerView>, done: Result<Settings, NotSaved>) {
    view.send_modify(|view| match done {
        Ok(settings) => {
            view.settings = Some(settings);
            view.error = None;
        }
        Err(error) => view.error = Some(error),
    });
}

/// Whether the engine asks for this only when it starts.
pub(super) fn waits_for_start(change: &SettingsChange) -> bool {
    use crate::settings::SettingsSwitch as Switch;
    match change {
        SettingsChange::Path(_)
        | SettingsChange::AddHome(_)
        | SettingsChange::RemoveHome(_)
        | SettingsChange::Proxy(_)
        | SettingsChange::LendUpload(_)
        | SettingsChange::LendPeople(_)
        | SettingsChange::Switch(
            Switch::PortMapping
            | Switch::LanDiscovery
            | Switch::Dht
            | Switch::DhtPublish
            | Switch::Directory
            | Switch::GuessPorts
            | Switch::LendMetered
            | Switch::AcceptFiles,
            _,
        ) => true,
        SettingsChange::Name(_)
        | SettingsChange::Strangers(_)
        | SettingsChange::Theme(_)
        | SettingsChange::Language(_)
        | SettingsChange::Scale(_)
        | SettingsChange::Keys(_)
        | SettingsChange::Favourite(..)
        | SettingsChange::Switch(
            Switch::KeepRunning
            | Switch::CallWaiting
            | Switch::Presence
            | Switch::Autostart
            | Switch::Keyring,
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ThemeChoice;

    #[tokio::test]
    async fn what_is_chosen_is_saved_and_what_cannot_be_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path());
        let ledger = Ledger::start(&Handle::current(), profile.clone());
        let mut shown = ledger.shown();
        shown
            .wait_for(|view| view.settings.is_some())
            .await
            .unwrap();
        ledger.change(SettingsChange::Theme(ThemeChoice::Dark));
        ledger.change(SettingsChange::Switch(SettingsSwitch::Dht, false));
        let view = shown
            .wait_for(|view| view.settings.as_ref().is_some_and(|set| !set.dht))
            .await
            .unwrap()
            .clone();
        assert!(view.waits_for_start, "the engine asks once");
        assert_eq!(view.error, None);
        let saved = Settings::load(&profile).unwrap();
        assert_eq!(saved.theme, ThemeChoice::Dark);
        let told = view.settings.map(|settings| Settings {
            autostart: false,
            ..settings
        });
        assert_eq!(Some(saved), told);

        std::fs::write(profile.settings_path(), "colour = 3\n").unwrap();
        ledger.change(SettingsChange::Theme(ThemeChoice::Light));
        let view = shown.wait_for(|view| view.error.is_some()).await.unwrap();
        assert!(view.error.as_ref().unwrap().sentence().contains("colour"));
        let kept = std::fs::read_to_string(profile.settings_path()).unwrap();
        assert_eq!(kept, "colour = 3\n", "what nobody understands stays");
    }
}
