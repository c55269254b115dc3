//! The device test: record a few seconds, play them back, and say how loud both were.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    time::Duration,
};

use super::{
    AudioSystem, DeviceError, DeviceEvent, DeviceInfo, Direction, Microphone, Opening, Speaker,
};
use crate::audio::{
    BLOCK_DURATION, BLOCK_SAMPLES, Block, SILENCE,
    level::{Level, Meter},
};

/// Nobody speaks longer into a test.
pub const MAX_TRIAL: Duration = Duration::from_secs(30);

/// How long opening may take. The error that comes before this tells more.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// What is still in buffers when the last block was taken.
const TAIL: Duration = Duration::from_millis(300);

/// Softer than this was no voice: a muted microphone, or none.
const FAINT_DBFS: f32 = -60.0;

/// How far a device test is.
#[derive(Clone, Debug, PartialEq)]
pub enum TrialNews {
    /// This microphone listens: speak.
    Recording(DeviceInfo),
    /// This speaker plays what was said.
    Playing(DeviceInfo),
    /// How loud it is, for a meter; every 10 ms.
    Level {
        /// Of which of the two.
        direction: Direction,
        /// Now.
        level: Level,
    },
}

/// What a device test found.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What was recorded, 48 kHz mono.
    pub recorded: Vec<f32>,
    /// The level of the whole.
    pub level: Level,
    /// The microphone.
    pub microphone: DeviceInfo,
    /// The speaker.
    pub speaker: DeviceInfo,
}

impl Trial {
    /// Nothing was heard that could be a voice.
    #[must_use]
    pub fn is_faint(&self) -> bool {
        self.level.peak_dbfs < FAINT_DBFS
    }
}

/// Records for `length`, [`MAX_TRIAL`] at most, and then plays it. Blocks for twice that time; `on_news` is called on this
/// thread.
///
/// # Errors
/// A device cannot be opened, or went away meanwhile.
pub fn record_and_play(
    system: AudioSystem,
    microphone: impl Into<Opening>,
    speaker: impl Into<Opening>,
    length: Duration,
    mut on_news: impl FnMut(TrialNews),
) -> Result<Trial, DeviceError> {
    let length = length.min(MAX_TRIAL);
    let blocks = usize::try_from(length.as_nanos() / BLOCK_DURATION.as_nanos()).unwrap_or(0);
    let (sender, receiver) = sync_channel(QUEUE);

    let open = Microphone::open(
        system,
        microphone,
        {
            let sender = sender.clone();
            // What finds no room was recorded while this thread slept; the next that does tells of the gap.
            move |block| sender.try_send(Step::Block(*block)).unwrap_or(())
        },
        forward(&sender),
    )?;
    let microphone = open.wait_until_open(OPEN_LIMIT)?;
    on_news(TrialNews::Recording(microphone.clone()));
    let mut recorded = Vec::with_capacity(blocks * BLOCK_SAMPLES);
    let mut meter = Meter::new();
    // What came while the device was being opened is silence.
    while receiver.try_recv().is_ok() {}
    while recorded.len() < blocks * BLOCK_SAMPLES {
        match receiver.recv_timeout(OPEN_LIMIT) {
            Ok(Step::Block(block)) => {
                let level = meter.update(&block);
                recorded.extend_from_slice(&block);
                let direction = Direction::Input;
                on_news(TrialNews::Level { direction, level });
            }
            Ok(Step::Failed(error)) => return Err(error),
            Err(_silent) => return Err(DeviceError::Stalled),
        }
    }
    drop(open);

    let (sender, receiver) = sync_channel(QUEUE);
    let (feed, food) = sync_channel::<Block>(QUEUE);
    let open = Speaker::open(
        system,
        speaker,
        {
            let sender = sender.clone();
            move |block| {
                let Ok(next) = food.try_recv() else {
                    *block = SILENCE;
                    return;
                };
                *block = next;
                sender.try_send(Step::Block(next)).unwrap_or(());
            }
        },
        forward(&sender),
    )?;
    let speaker = open.wait_until_open(OPEN_LIMIT)?;
    on_news(TrialNews::Playing(speaker.clone()));
    let mut meter = Meter::new();
    let tail = usize::try_from(TAIL.as_nanos() / BLOCK_DURATION.as_nanos()).unwrap_or(0);
    let (pieces, _part) = recorded.as_chunks::<BLOCK_SAMPLES>();
    let mut waiting = 0;
    for piece in pieces.iter().chain(std::iter::repeat_n(&SILENCE, tail)) {
        // Half the queue ahead is enough, and none is lost.
        while waiting >= QUEUE / 2 {
            match receiver.recv_timeout(OPEN_LIMIT) {
                Ok(Step::Block(block)) => {
                    waiting -= 1;
                    let direction = Direction::Output;
                    let level = meter.update(&block);
                    on_news(TrialNews::Level { direction, level });
                }
                Ok(Step::Failed(error)) => return Err(error),
                Err(_silent) => return Err(DeviceError::Stalled),
            }
        }
        feed.try_send(*piece).unwrap_or(());
        waiting += 1;
    }
    drop(open);
    Ok(Trial {
        level: Level::of(&recorded),
        recorded,
        microphone,
        speaker,
    })
}

/// Blocks that may wait for this thread or for the speaker.
const QUEUE: usize = 16;

enum Step {
    Block(Block),
    Failed(DeviceError),
}

/// A test has no patience: what goes wrong ends it.
fn forward(sender: &SyncSender<Step>) -> impl FnMut(DeviceEvent) + Send + 'static {
    let sender = sender.clone();
    move |event| match event {
        DeviceEvent::Lost { error, .. } => {
            sender.try_send(Step::Failed(error)).unwrap_or(());
        }
        DeviceEvent::Gone { id } => {
            let error = DeviceError::NotFound { id };
            sender.try_send(Step::Failed(error)).unwrap_or(());
        }
        DeviceEvent::Opened(_)
        | DeviceEvent::Displaced { .. }
        | DeviceEvent::DefaultChanged { .. } => {}
    }
}
