//! What the page about sound knows of microphones and speakers, and tries out by them.
//!
//! Everything that takes time happens in tasks of the runtime: the window tells what it wants to see, and is told when
//! there is something new. While nobody looks, nothing is asked and no microphone is open.

#![cfg_attr(
    not(feature = "devices"),
    allow(dead_code, reason = "there are no devices to know of")
)]

use std::collections::BTreeMap;

use ahoy_media::audio::device_error::DeviceError;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{told, words};

/// Trials that wait. A person presses one button.
const ASK_QUEUE: usize = 4;

/// A microphone or a speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceRow {
    /// Names it in the settings.
    pub(super) id: String,
    /// Names it for people.
    pub(super) name: String,
    /// It is a microphone.
    pub(super) microphone: bool,
    /// What is used where none is chosen.
    pub(super) is_default: bool,
}

#[cfg(test)]
impl DeviceRow {
    /// One whose name is its id in capitals.
    pub(super) fn named(id: &str, microphone: bool, is_default: bool) -> Self {
        Self {
            id: id.into(),
            name: id.to_uppercase(),
            microphone,
            is_default,
        }
    }
}

/// How far a trial is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum TrialView {
    /// None was made.
    #[default]
    None,
    /// A device is being opened.
    Opening,
    /// Somebody should speak.
    Recording,
    /// What was said, or a ring, is being played.
    Playing,
    /// It is over, and this is what came of it.
    Over(Outcome),
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The microphone heard somebody.
    Heard {
        /// Its name.
        microphone: String,
        /// How far the loudest was below full scale, in whole decibels.
        decibels: i32,
    },
    /// It heard next to nothing.
    Faint {
        /// Its name.
        microphone: String,
    },
    /// The speaker played a sound.
    Played {
        /// Its name.
        speaker: String,
    },
    /// A device does not work.
    Failed(DeviceError),
    /// The trial itself did not work.
    Broken(String),
}

impl Outcome {
    /// Something is wrong.
    pub(super) fn is_bad(&self) -> bool {
        match self {
            Self::Heard { .. } | Self::Played { .. } => false,
            Self::Faint { .. } | Self::Failed(_) | Self::Broken(_) => true,
        }
    }

    /// For a person.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Heard {
                microphone,
                decibels,
            } => words::heard_you(microphone, decibels),
            Self::Faint { microphone } => words::heard_nothing(microphone),
            Self::Played { speaker } => words::played_sound(speaker),
            Self::Failed(error) => told::trouble::device(error),
            Self::Broken(error) => words::test_failed(error),
        }
    }
}

impl TrialView {
    /// Devices are in use by it.
    pub(super) fn is_running(&self) -> bool {
        match self {
            Self::None | Self::Over(_) => false,
            Self::Opening | Self::Recording | Self::Playing => true,
        }
    }
}

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct DeskView {
    /// There is a list: before, nothing is missing.
    pub(super) listed: bool,
    /// The devices there are.
    pub(super) devices: Vec<DeviceRow>,
    /// Names of devices that were there since the window was opened.
    pub(super) names: BTreeMap<String, String>,
    /// Why there is no list.
    pub(super) error: Option<DeviceError>,
    /// Level of the microphone, or of what is played in a trial, in dBFS.
    pub(super) level: Option<f32>,
    /// The last trial.
    pub(super) trial: TrialView,
}

/// What the window wants to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    /// The list.
    devices: bool,
    /// The level of this microphone.
    listen: Option<Option<String>>,
}

/// Something to try out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Record what the microphone hears, and play it.
    RecordAndPlay {
        microphone: Option<String>,
        speaker: Option<String>,
    },
    /// Play a sound.
    Ring { speaker: Option<String> },
}

/// The near end.
#[derive(Debug)]
pub(super) struct Desk {
    wanted: watch::Sender<Wanted>,
    asks: mpsc::Sender<Ask>,
    shown: watch::Receiver<DeskView>,
}

impl Desk {
    /// Starts the tasks; they end with this.
    pub(super) fn start(runtime: &Handle) -> Self {
        let (wanted, _) = watch::channel(Wanted::default());
        let (asks, queue) = mpsc::channel(ASK_QUEUE);
        let (view, shown) = watch::channel(DeskView::default());
        #[cfg(feature = "devices")]
        devices::start(runtime, &wanted, queue, view);
        #[cfg(not(feature = "devices"))]
        {
            drop((runtime, queue, view));
        }
        Self {
            wanted,
            asks,
            shown,
        }
    }

    /// What is known, and a way to wait for more.
    pub(super) fn shown(&self) -> watch::Receiver<DeskView> {
        self.shown.clone()
    }

    /// Somebody looks at the devices, and at the level of the microphone to `listen` to.
    pub(super) fn look(&self, devices: bool, listen: Option<Option<String>>) {
        let wanted = Wanted { devices, listen };
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// Tries something out; not while something else is.
    pub(super) fn ask(&self, ask: Ask) {
        if self.asks.try_send(ask).is_err() {
            tracing::debug!("a trial is under way");
        }
    }
}

#[cfg(feature = "devices")]
mod devices {
    use std::{sync::Arc, time::Duration};

    use ahoy_media::audio::{
        Block,
        device::{
            AudioSystem, DeviceError, DeviceEvent, DeviceInfo, Direction, Microphone, Ringer,
            TrialNews, list, record_and_play,
        },
        level::Meter,
        ring_tone::RingTone,
    };
    use tokio::{
        runtime::Handle,
        sync::{Mutex, mpsc, watch},
        task::spawn_blocking,
    };

    use super::{Ask, DeskView, DeviceRow, Outcome, TrialView, Wanted};
    use crate::engine::media::device_choice;

    /// How old the list may be.
    const LIST_INTERVAL: Duration = Duration::from_secs(1);
    /// How long a trial listens.
    const LISTEN: Duration = Duration::from_secs(3);
    /// How long it rings: one pair of strokes and their fading.
    const RING: Duration = Duration::from_millis(1800);
    /// How long a speaker may take to open.
    const OPEN_LIMIT: Duration = Duration::from_secs(5);
    /// A meter is drawn so often, in blocks of 10 ms.
    const BLOCKS_PER_LEVEL: u32 = 10;
    /// Names that are remembered of devices that were pulled out.
    const MAX_NAMES: usize = 64;

    /// One of meter and trial has the devices at a time: not every system shares a microphone.
    type InUse = Arc<Mutex<()>>;

    pub(super) fn start(
        runtime: &Handle,
        wanted: &watch::Sender<Wanted>,
        queue: mpsc::Receiver<Ask>,
        view: watch::Sender<DeskView>,
    ) {
        let (in_use, busy) = (InUse::default(), watch::channel(false).0);
        runtime.spawn(keep_list(wanted.subscribe(), view.clone()));
        runtime.spawn(listen(
            wanted.subscribe(),
            busy.subscribe(),
            Arc::clone(&in_use),
            view.clone(),
        ));
        runtime.spawn(try_out(queue, busy, in_use, view));
    }

    async fn keep_list(mut wanted: watch::Receiver<Wanted>, view: watch::Sender<DeskView>) {
        while wanted.wait_for(|wanted| wanted.devices).await.is_ok() {
            match spawn_blocking(|| list(AudioSystem::Best)).await {
                Ok(listed) => note_list(&view, listed),
                Err(error) => tracing::error!(%error, "listing devices"),
            }
            tokio::time::sleep(LIST_INTERVAL).await;
        }
    }

    fn note_list(view: &watch::Sender<DeskView>, listed: Result<Vec<DeviceInfo>, DeviceError>) {
        view.send_if_modified(|view| {
            let before = view.clone();
            match listed {
                Ok(devices) => {
                    view.listed = true;
                    view.error = None;
                    view.devices = devices.into_iter().map(row).collect();
                    for device in &view.devices {
                        if view.names.len() < MAX_NAMES || view.names.contains_key(&device.id) {
                            view.names.insert(device.id.clone(), device.name.clone());
                        }
                    }
                }
                Err(error) => {
                    view.devices.clear();
                    view.error = Some(error);
                }
            }
            *view != before
        });
    }

    fn row(device: DeviceInfo) -> DeviceRow {
        DeviceRow {
            microphone: device.direction == Direction::Input,
            id: device.id,
            name: device.name,
            is_default: device.is_default,
        }
    }

    /// Keeps the microphone open whose level is wanted, while no trial needs it.
    async fn listen(
        mut wanted: watch::Receiver<Wanted>,
        mut busy: watch::Receiver<bool>,
        in_use: InUse,
        view: watch::Sender<DeskView>,
    ) {
        loop {
            let microphone = match wanted.wait_for(|wanted| wanted.listen.is_some()).await {
                Ok(wanted) => wanted.listen.clone().flatten(),
                Err(_closed) => return,
            };
            if busy.wait_for(|busy| !busy).await.is_err() {
                return;
            }
            let used = in_use.lock().await;
            let (choice, told) = (device_choice(microphone.as_ref()), view.clone());
            let open = spawn_blocking(move || {
                let mut meter = Meter::new();
                let mut blocks = 0;
                let on_block = move |block: &Block| {
                    let level = meter.update(block).rms_dbfs;
                    blocks += 1;
                    if blocks % BLOCKS_PER_LEVEL == 0 {
                        told.send_modify(|view| view.level = Some(level));
                    }
                };
                Microphone::open(AudioSystem::Best, choice, on_block, |event| {
                    tracing::debug!(?event, "the microphone of the level meter");
                })
            });
            let open = open.await;
            tokio::select! {
                over = wanted.wait_for(|wanted| wanted.listen != Some(microphone.clone())) => {
                    if over.is_err() {
                        tracing::debug!("the window is closed");
                    }
                }
                trial = busy.wait_for(|busy| *busy) => {
                    if trial.is_err() {
                        tracing::debug!("the window is closed");
                    }
                }
            }
            // Closing takes a moment.
            if spawn_blocking(move || drop(open)).await.is_err() {
                tracing::error!("the level meter's microphone was closed in disorder");
            }
            drop(used);
            view.send_modify(|view| view.level = None);
        }
    }

    async fn try_out(
        mut queue: mpsc::Receiver<Ask>,
        busy: watch::Sender<bool>,
        in_use: InUse,
        view: watch::Sender<DeskView>,
    ) {
        while let Some(ask) = queue.recv().await {
            busy.send_replace(true);
            view.send_modify(|view| view.trial = TrialView::Opening);
            let used = in_use.lock().await;
            let told = view.clone();
            let done = match ask {
                Ask::RecordAndPlay {
                    microphone,
                    speaker,
                } => spawn_blocking(move || record(microphone, speaker, &told)).await,
                Ask::Ring { speaker } => ring(speaker, &told).await,
            };
            drop(used);
            let trial =
                done.unwrap_or_else(|error| TrialView::Over(Outcome::Broken(error.to_string())));
            view.send_modify(|view| {
                view.trial = trial;
                view.level = None;
            });
            // What was pressed meanwhile was not meant for later.
            while queue.try_recv().is_ok() {}
            busy.send_replace(false);
        }
    }

    fn failed(error: DeviceError) -> TrialView {
        TrialView::Over(Outcome::Failed(error))
    }

    fn record(
        microphone: Option<String>,
        speaker: Option<String>,
        view: &watch::Sender<DeskView>,
    ) -> TrialView {
        let mut blocks = 0;
        let trial = record_and_play(
            AudioSystem::Best,
            device_choice(microphone.as_ref()),
            device_choice(speaker.as_ref()),
            LISTEN,
            |news| match news {
                TrialNews::Recording(_) => {
                    view.send_modify(|view| view.trial = TrialView::Recording);
                }
                TrialNews::Playing(_) => {
                    view.send_modify(|view| view.trial = TrialView::Playing);
                }
                TrialNews::Level { level, .. } => {
                    blocks += 1;
                    if blocks % BLOCKS_PER_LEVEL == 0 {
                        view.send_modify(|view| view.level = Some(level.rms_dbfs));
                    }
                }
            },
        );
        match trial {
            Ok(trial) if trial.is_faint() => TrialView::Over(Outcome::Faint {
                microphone: trial.microphone.name,
            }),
            Ok(trial) => TrialView::Over(Outcome::Heard {
                microphone: trial.microphone.name,
                decibels: -trial.level.peak_dbfs.round() as i32,
            }),
            Err(error) => failed(error),
        }
    }

    async fn ring(
        speaker: Option<String>,
        view: &watch::Sender<DeskView>,
    ) -> Result<TrialView, tokio::task::JoinError> {
        let opened = spawn_blocking(move || {
            let ringer = Ringer::start(
                AudioSystem::Best,
                device_choice(speaker.as_ref()),
                RingTone::ring(),
                |event: DeviceEvent| tracing::debug!(?event, "the speaker of a test"),
            )?;
            let speaker = ringer.wait_until_open(OPEN_LIMIT)?;
            Ok::<_, DeviceError>((ringer, speaker.name))
        });
        let (ringer, name) = match opened.await? {
            Ok(opened) => opened,
            Err(error) => return Ok(failed(error)),
        };
        view.send_modify(|view| view.trial = TrialView::Playing);
        tokio::time::sleep(RING).await;
        spawn_blocking(move || drop(ringer)).await?;
        Ok(TrialView::Over(Outcome::Played { speaker: name }))
    }
}
