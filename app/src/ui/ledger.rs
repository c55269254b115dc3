//! The settings as the window shows and changes them.
//!
//! A disk takes its time: a task of the runtime reads and writes. What was chosen is shown at once; should it not be
//! saved, that is told, and what stands in the file is shown again.

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    profile::Profile,
    settings::{Settings, SettingsChange, SettingsError},
};

/// Choices that wait to be saved. A person makes one at a time; a slider is let go before it counts.
const QUEUE: usize = 64;

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LedgerView {
    /// What stands in the file; none before it was read, and where it cannot be.
    pub(super) settings: Option<Settings>,
    /// Why something was not saved, for a person.
    pub(super) error: Option<String>,
    /// Something was chosen that the running engine does not know.
    pub(super) waits_for_start: bool,
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
    let read = profile.clone();
    note(&view, by_disk(move || Settings::load(&read)).await);
    while let Some(change) = queue.recv().await {
        let waits = waits_for_start(&change);
        let profile = profile.clone();
        let saved = by_disk(move || Settings::change(&profile, &change)).await;
        if saved.is_ok() && waits {
            view.send_modify(|view| view.waits_for_start = true);
        }
        note(&view, saved);
    }
}

async fn by_disk(
    work: impl FnOnce() -> Result<Settings, SettingsError> + Send + 'static,
) -> Result<Settings, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn note(view: &watch::Sender<LedgerView>, done: Result<Settings, String>) {
    view.send_modify(|view| match done {
        Ok(settings) => {
            view.settings = Some(settings);
            view.error = None;
        }
        Err(error) => view.error = Some(format!("This is not saved: {error}")),
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
        | SettingsChange::Scale(_)
        | SettingsChange::Favourite(..)
        | SettingsChange::Switch(Switch::KeepRunning | Switch::CallWaiting, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SettingsSwitch, ThemeChoice};

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
        assert_eq!(Some(saved), view.settings);

        std::fs::write(profile.settings_path(), "colour = 3\n").unwrap();
        ledger.change(SettingsChange::Theme(ThemeChoice::Light));
        let view = shown.wait_for(|view| view.error.is_some()).await.unwrap();
        assert!(view.error.as_ref().unwrap().contains("colour"));
        let kept = std::fs::read_to_string(profile.settings_path()).unwrap();
        assert_eq!(kept, "colour = 3\n", "what nobody understands stays");
    }
}
