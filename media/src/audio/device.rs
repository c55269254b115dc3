//! Microphones and speakers.
//!
//! ```text
//! device callback -> ring -> Capture (10 ms, drift-corrected) -> voice -> on_block      thread ahoy-capture
//!                                                                  ^ reference
//! device callback <- ring <- Playout (10 ms, drift-corrected) <----+---- pull           thread ahoy-playout
//! ```
//!
//! A sound server that speaks for itself is asked by the workers and not waited for by threads: see `pulse`.
//!
//! A callback copies between the device's buffer and a lock-free ring, adds to counters and notes the time. All that
//! can fail or hang happens elsewhere: a thread per stream (`ahoy-stream`) opens it and closes it, a thread per handle
//! (`ahoy-device`) watches over both. Sound systems are known to hang when their server dies, to call back a hundred
//! thousand times a second with the same error, and to move a running microphone to another one without a word; see
//! `supervision` for what is done about it.
//!
//! A chosen device that disappears is not replaced: the microphone falls silent and an event says so. Who chose
//! "the default" follows it.

mod host;
#[cfg(target_os = "linux")]
mod pulse;
mod stream;
mod supervision;
mod supervisor;
mod trial;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use self::{
    stream::{InputStream, OutputStream},
    supervisor::Supervisor,
};
use super::{
    Block,
    capture::{CaptureStats, CaptureWorker, Voice},
    playout::{PlayoutStats, PlayoutWorker},
    priority::ThreadPriority,
    reference::{ReferenceStats, ReferenceWriter},
    ring::RingStats,
    ring_tone::RingTone,
    source::AudioSource as _,
    voice::{VoiceConfig, VoiceStats},
    wide::WideBlock,
};

pub use super::device_error::{DeviceError, Direction};

pub use self::{
    host::list,
    trial::{MAX_TRIAL, Trial, TrialNews, record_and_play},
};

/// Samples per callback that are asked for, 10 ms at 48 kHz. Never the system's default: that is 2 s on one of them.
pub const CALLBACK_SAMPLES: u32 = 480;

/// The same for the microphone of a sound server, which waits until it has as much. Its speakers are asked for no less:
/// half of their buffer runs dry when the machine is busy.
const SERVER_MICROPHONE_SAMPLES: u32 = 240;

/// Which of the system's sound interfaces is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudioSystem {
    /// The sound server where there is one (PulseAudio, or PipeWire in its place), else the system's own interface.
    #[default]
    Best,
    /// Linux: ALSA, even though a sound server runs. Elsewhere the same as `Best`.
    Alsa,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Names the device across restarts, for settings: `pulseaudio:alsa_input.usb-…`.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Whether it is what [`DeviceChoice::Default`] means now.
    pub is_default: bool,
    /// Not a thing on the desk but a construct of the sound system: the monitor of a speaker, a rate converter.
    pub is_pseudo: bool,
}

/// Which device to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// Whatever the system calls its default, also when that changes.
    #[default]
    Default,
    /// The device with this [`DeviceInfo::id`], and no other.
    Id(String),
}

/// Which device, and what is done about it while it is open. A [`DeviceChoice`] becomes one with everything on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The device.
    pub choice: DeviceChoice,
    /// Watch the list of devices: follow the default, fall silent when the chosen one leaves, notice at once when it
    /// is back. Without it a sound server puts another microphone in its place, and nobody is told.
    pub watch_devices: bool,
    /// Let the threads of this device go before others, where the system allows it.
    pub raise_priority: bool,
    /// Speak to a sound server in its own language, where we know it. Without it all goes through cpal, which costs
    /// more time, of the processor and on the way.
    pub speak_directly: bool,
}

impl From<DeviceChoice> for Opening {
    fn from(choice: DeviceChoice) -> Self {
        Self {
            choice,
            watch_devices: true,
            raise_priority: true,
            speak_directly: true,
        }
    }
}

/// What happened to a device that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// Sound flows to or from this device.
    Opened(DeviceInfo),
    /// Sound has stopped, or cannot be had. It is tried again and again; the same error is told once until sound flows.
    Lost {
        /// Why.
        error: DeviceError,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The chosen device is no longer there. Nothing takes its place; it is opened when it comes back.
    Gone {
        /// Its id.
        id: String,
    },
    /// The chosen device is no longer the system's default, and whatever was open there may have been moved to the new
    /// one a moment ago: for as long as a fifth of a second another microphone may have been heard. It is opened anew.
    Displaced {
        /// Its id.
        id: String,
    },
    /// The system's default has changed, and ahoy follows it.
    DefaultChanged {
        /// The new one.
        to: DeviceInfo,
    },
}

/// Counters of an opened device. They count over all its reopenings, except for those of the ring, which is new each
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Times it was opened.
    pub opened: u64,
    /// Times it was lost or could not be opened; attempts that fail the same way again are not counted.
    pub failed: u64,
    /// Errors that the sound system reported while it was open, also harmless ones.
    pub errors: u64,
    /// The ring of the stream that is open.
    pub ring: RingStats,
    /// Whether the sound system's threads in this process go before others.
    pub stream_priority: ThreadPriority,
    /// Whether the thread that makes or takes the blocks does.
    pub worker_priority: ThreadPriority,
}

/// Where the devices' time begins, the same for all of them: what is played is compared with what is recorded.
static CLOCK_START: OnceLock<Instant> = OnceLock::new();

/// The clock that callbacks and workers share.
#[derive(Clone, Copy, Debug)]
struct DeviceClock {
    start: Instant,
}

impl DeviceClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "devices exist in real time only; what they feed takes time as an argument"
    )]
    fn new() -> Self {
        Self {
            start: *CLOCK_START.get_or_init(Instant::now),
        }
    }

    /// Real-time safe where the system's monotonic clock is.
    fn now(self) -> Duration {
        self.start.elapsed()
    }
}

/// What other programs play, as long as it is held: see [`OthersMix`].
#[derive(Debug)]
pub struct Others {
    #[cfg(target_os = "linux")]
    _news: pulse::Stream,
}

/// Mixes what other programs play with something else. What this program plays is not among it.
#[derive(Debug)]
pub struct OthersMix {
    #[cfg(target_os = "linux")]
    inner: pulse::others::OthersMix,
}

impl Others {
    /// Listens to all other programs from now on. Takes a moment.
    ///
    /// # Errors
    /// There is no sound server that tells programs apart (PulseAudio, or PipeWire in its place), or it refuses.
    pub fn open() -> Result<(Self, OthersMix), DeviceError> {
        #[cfg(target_os = "linux")]
        {
            let (news, inner) = pulse::others::others(DeviceClock::new())?;
            Ok((Self { _news: news }, OthersMix { inner }))
        }
        #[cfg(not(target_os = "linux"))]
        Err(DeviceError::Unsupported(
            "this system does not tell programs apart".into(),
        ))
    }
}

impl OthersMix {
    /// Adds what they played in the 10 ms that ended `ago`. To be called every 10 ms, from real time.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(
            unused_variables,
            clippy::needless_pass_by_ref_mut,
            reason = "there is none"
        )
    )]
    pub fn mix_into(&mut self, block: &mut WideBlock, ago: Duration) {
        #[cfg(target_os = "linux")]
        self.inner.mix_into(block, ago);
    }
}

/// An open microphone. Dropping it closes the device.
#[derive(Debug)]
pub struct Microphone {
    // Dropped in this order: no stream outlives its worker.
    supervisor: Supervisor<InputStream>,
    worker: CaptureWorker,
}

impl Microphone {
    /// Opens a microphone in the background and from now on calls `on_block` every 10 ms with 48 kHz mono sound, silence
    /// while there is none, on a thread of its own. `on_event` is called on another; neither may block for long.
    ///
    /// # Errors
    /// The system has no thread to give. What happens to the device comes as an event.
    pub fn open(
        system: AudioSystem,
        opening: impl Into<Opening>,
        mut on_block: impl FnMut(&Block) + Send + 'static,
        on_event: impl FnMut(DeviceEvent) + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let on_block = move |block: &WideBlock, _ago| {
            on_block(&block.mid);
            0
        };
        Self::open_with_voice(system, opening, None, on_block, on_event)
    }

    /// As [`Self::open`], and does `voice` to the sound first. While that does nothing, there are both channels of a
    /// microphone that has two. `on_block` is told how long ago its block was due, and tells how many more have to come
    /// until something is made of them: two may come together then.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_voice(
        system: AudioSystem,
        opening: impl Into<Opening>,
        voice: Option<Voice>,
        on_block: impl FnMut(&WideBlock, Duration) -> usize + Send + 'static,
        on_event: impl FnMut(DeviceEvent) + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let opening = opening.into();
        let clock = DeviceClock::new();
        let (cores, receiver) = std::sync::mpsc::sync_channel(supervisor::CORE_QUEUE);
        let worker = CaptureWorker::start(
            receiver,
            opening.raise_priority,
            voice,
            move || clock.now(),
            on_block,
        )
        .map_err(|error| DeviceError::System(error.to_string()))?;
        let supervisor = Supervisor::start(system, opening, clock, cores, on_event)?;
        Ok(Self { supervisor, worker })
    }

    /// Blocks until the device is open for the first time, an attempt has failed, or `limit` is over.
    ///
    /// # Errors
    /// Why the attempt failed. Further ones are made all the same.
    pub fn wait_until_open(&self, limit: Duration) -> Result<DeviceInfo, DeviceError> {
        self.supervisor.wait_until_open(limit)
    }

    /// Sound comes from this device from now on, and no block is missing meanwhile but for silence. Never waits.
    pub fn choose(&self, choice: DeviceChoice) {
        self.supervisor.choose(choice);
    }

    /// From now on this is done to the voice, where it was opened with something to do it. Never waits; a stage that
    /// stays keeps what it has learnt.
    pub fn configure_voice(&self, config: VoiceConfig) {
        self.worker.configure_voice(config);
    }

    /// The device's counters.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        DeviceStats {
            worker_priority: self.worker.priority(),
            ..self.supervisor.stats()
        }
    }

    /// The counters of the way from the ring to blocks.
    #[must_use]
    pub fn capture_stats(&self) -> CaptureStats {
        self.worker.stats().capture
    }

    /// What was done to the voice.
    #[must_use]
    pub fn voice_stats(&self) -> VoiceStats {
        self.worker.stats().voice
    }

    /// What came from the speaker's side for the echo canceller.
    #[must_use]
    pub fn reference_stats(&self) -> ReferenceStats {
        self.worker.stats().reference
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        let (device, capture) = (self.stats(), self.capture_stats());
        tracing::debug!(?device, ?capture, "microphone closed");
    }
}

/// An open speaker. Dropping it closes the device.
#[derive(Debug)]
pub struct Speaker {
    supervisor: Supervisor<OutputStream>,
    worker: PlayoutWorker,
}

impl Speaker {
    /// Opens a speaker in the background and from now on calls `pull` every 10 ms for the next 48 kHz mono block, also
    /// while there is no device, on a thread of its own. `on_event` is called on another; neither may block for long.
    ///
    /// # Errors
    /// The system has no thread to give. What happens to the device comes as an event.
    pub fn open(
        system: AudioSystem,
        opening: impl Into<Opening>,
        mut pull: impl FnMut(&mut Block) + Send + 'static,
        on_event: impl FnMut(DeviceEvent) + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let pull = move |block: &mut WideBlock| {
            block.set_mono();
            pull(&mut block.mid);
        };
        Self::open_with_reference(system, opening, None, pull, on_event)
    }

    /// As [`Self::open`] with blocks of one channel or two, and puts what the speaker is given, mixed to one, into
    /// `reference` for the microphone's echo canceller.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_reference(
        system: AudioSystem,
        opening: impl Into<Opening>,
        reference: Option<ReferenceWriter>,
        pull: impl FnMut(&mut WideBlock) + Send + 'static,
        on_event: impl FnMut(DeviceEvent) + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let opening = opening.into();
        let clock = DeviceClock::new();
        let (cores, receiver) = std::sync::mpsc::sync_channel(supervisor::CORE_QUEUE);
        let worker = PlayoutWorker::start(
            receiver,
            opening.raise_priority,
            reference,
            move || clock.now(),
            pull,
        )
        .map_err(|error| DeviceError::System(error.to_string()))?;
        let supervisor = Supervisor::start(system, opening, clock, cores, on_event)?;
        Ok(Self { supervisor, worker })
    }

    /// As [`Microphone::wait_until_open`].
    ///
    /// # Errors
    /// Why the attempt failed. Further ones are made all the same.
    pub fn wait_until_open(&self, limit: Duration) -> Result<DeviceInfo, DeviceError> {
        self.supervisor.wait_until_open(limit)
    }

    /// As [`Microphone::choose`].
    pub fn choose(&self, choice: DeviceChoice) {
        self.supervisor.choose(choice);
    }

    /// The device's counters.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        DeviceStats {
            worker_priority: self.worker.priority(),
            ..self.supervisor.stats()
        }
    }

    /// The counters of the way from blocks to the ring.
    #[must_use]
    pub fn playout_stats(&self) -> PlayoutStats {
        self.worker.stats()
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let (device, playout) = (self.stats(), self.playout_stats());
        tracing::debug!(?device, ?playout, "speaker closed");
    }
}

/// Rings, by a speaker of its own choice: whoever wears a headset may want to hear a call come in by the loudspeakers.
/// Dropping it ends the ringing.
#[derive(Debug)]
pub struct Ringer {
    speaker: Speaker,
}

impl Ringer {
    /// Starts to ring as soon as the device is open. `on_event` as for [`Speaker::open`].
    ///
    /// # Errors
    /// As [`Speaker::open`].
    pub fn start(
        system: AudioSystem,
        opening: impl Into<Opening>,
        mut tone: RingTone,
        on_event: impl FnMut(DeviceEvent) + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let pull = move |block: &mut Block| {
            // It has no end.
            let _state = tone.next_block(block);
        };
        Speaker::open(system, opening, pull, on_event).map(|speaker| Self { speaker })
    }

    /// As [`Microphone::wait_until_open`].
    ///
    /// # Errors
    /// Why the attempt failed. Further ones are made all the same.
    pub fn wait_until_open(&self, limit: Duration) -> Result<DeviceInfo, DeviceError> {
        self.speaker.wait_until_open(limit)
    }
}
