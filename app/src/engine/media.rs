//! Sound of one call: from a source through the codec to the session, and back to a sink.
//!
//! Files, tones and silence are clocked by the runtime, 10 ms a tick, so they work in the simulator too.
//! Microphone and speaker have clocks and threads of their own (feature `devices`); both ways share
//! one half that sends and one that receives.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

#[cfg(feature = "devices")]
use ahoy_media::audio::device::DeviceChoice;
use ahoy_media::{
    audio::{
        BLOCK_DURATION,
        device_error::DeviceError,
        level::Level,
        neteq::{AudioKind, NetEqConfig, NetEqStats},
        opus::{Codec, Content, EncoderConfig, FrameDuration, OpusError},
        room::RoomDevices,
        sink::{AudioSink, NullSink},
        source::{AudioSource, SampleSource, SilenceSource, SourceState},
        tone::ToneSource,
        voice::{VoiceConfig, VoiceStats},
        volume::Volume,
        wav::{AtEnd, WavSink, WavSource, read_all},
        wide::WideBlock,
    },
    loss::{Loss, LossPolicy, Modes},
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendError, SendPipeline, SendStats},
    },
    rate::Bitrate,
    record::{RecordTap, Side},
    sync::{SoundClock, sound_wait::SoundWait},
    time::{BLOCK_SAMPLES, MediaTime, RtpTimestamp},
};
use ahoy_transport::runtime::{Runtime, RuntimeExt};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    echo::{self, EchoLine},
    notice::{SoundTold, SoundWhat},
    voice_rate::VoiceRate,
};

/// Packets that wait for the sound loop: it looks every 10 ms, and two seconds of sound is all a jitter
/// buffer would take.
pub(super) const PACKET_QUEUE: usize = 128;
/// A clocked loop that fell further behind than this gives the time up: the machine slept.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);
/// Blocks whose instants are remembered for a delay measurement: an hour.
const MAX_LOGGED_BLOCKS: usize = 360_000;
/// News of devices that wait for the engine, which looks several times a second.
const MAX_NEWS: usize = 32;
/// The tone of `--audio-in tone`: concert pitch, well below full scale.
const TONE_HZ: f32 = 440.0;
const TONE_DBFS: f32 = -12.0;

/// Where a call's sound comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioIn {
    /// The default microphone.
    Microphone,
    /// A WAV file, then silence.
    File(PathBuf),
    /// 440 Hz.
    Tone,
    /// Nothing to hear.
    Silence,
    /// A sentence, then silence.
    Greeting,
}

/// Where a call's sound goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioOut {
    /// The default speaker.
    Speaker,
    /// A WAV file.
    File(PathBuf),
    /// Nowhere.
    Null,
    /// Back to where it came from. There is no source then.
    Echo,
    /// The same some seconds later, once the source is over: the echo test.
    EchoLater,
}

/// Which sound devices are used, by the ids that `ahoy doctor --json` tells; the system's default where none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoundDevices {
    /// The microphone, and no other.
    pub microphone: Option<String>,
    /// The speaker.
    pub speaker: Option<String>,
}

/// Something happened to a sound device in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoundNews {
    /// What.
    pub kind: SoundNewsKind,
    /// It is the microphone; else the speaker.
    pub microphone: bool,
    /// What, for a person, in English.
    pub sentence: String,
    /// The same by type.
    pub told: SoundTold,
}

impl SoundNews {
    /// Of what happened to the microphone, or else the speaker.
    #[must_use]
    pub fn of(microphone: bool, what: SoundWhat) -> Self {
        let kind = match &what {
            SoundWhat::Opened(_) => SoundNewsKind::Opened,
            SoundWhat::Lost(_) | SoundWhat::OthersNeedDevices | SoundWhat::OthersUnheard(_) => {
                SoundNewsKind::Lost
            }
            SoundWhat::Gone => SoundNewsKind::Gone,
            SoundWhat::Displaced => SoundNewsKind::Displaced,
            SoundWhat::Followed(_) => SoundNewsKind::Followed,
        };
        let told = SoundTold { microphone, what };
        Self {
            kind,
            microphone,
            sentence: told.to_string(),
            told,
        }
    }
}

/// What happened to a sound device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoundNewsKind {
    /// Sound flows by it.
    Opened,
    /// It stopped working, or cannot be opened; that is tried again.
    Lost,
    /// The chosen one is not there any more, and nothing took its place.
    Gone,
    /// The sound system may have used another one for a moment.
    Displaced,
    /// The system's default is another one now, and is used.
    Followed,
}

/// How a device sends and plays sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioSettings {
    /// Source.
    pub input: AudioIn,
    /// Sink.
    pub output: AudioOut,
    /// Sends two channels where there are two, and nothing that suits voices only.
    pub music: bool,
    /// Lets the other side hear what other programs play.
    pub share_sound: bool,
    /// Bitrate of the sound and of all that is done about its loss, in bits per second, 6 000 to 128 000; absent: 32 000
    /// for a voice, 128 000 for music.
    pub bitrate_bps: Option<u32>,
    /// Sound per packet: 10, 20, 40 or 60 ms.
    pub frame_millis: u16,
    /// What may be done about loss of what we send, as far as the other side understands it.
    pub protections: Modes,
    /// By which devices, where the source is a microphone and the sink a speaker.
    pub devices: SoundDevices,
    /// What is inside the packets. Both sides of a call must have the same: nothing but a simulation has
    /// another one than Opus.
    pub codec: Codec,
    /// What is done to the microphone's sound. Files are sent as they are: nobody is in a room with them.
    pub voice: VoiceConfig,
    /// By how many millionths the sound's clock, both ways, is faster than the runtime's. Nothing but a simulation has
    /// another one: devices have clocks of their own.
    pub clock_ppm: i32,
    /// Unless this is a room: a WAV file with its impulse response, in which files sound as if they were microphone and
    /// speaker. Nothing but a simulation has one.
    pub room: Option<PathBuf>,
}

impl Default for AudioSettings {
    fn default() -> Self {
        Self {
            input: AudioIn::Microphone,
            output: AudioOut::Speaker,
            music: false,
            share_sound: false,
            bitrate_bps: None,
            frame_millis: 20,
            protections: Modes::ALL,
            devices: SoundDevices::default(),
            codec: Codec::Opus,
            voice: VoiceConfig::default(),
            clock_ppm: 0,
            room: None,
        }
    }
}

/// Which sound is taken and heard when: what pictures go by. And how long it waits for them.
#[derive(Debug, Clone, Default)]
pub(super) struct SoundClocks {
    /// Ours.
    pub(super) taken: Arc<Mutex<SoundClock>>,
    /// The other side's.
    pub(super) heard: Arc<Mutex<SoundClock>>,
    /// What is heard waits so for pictures.
    pub(super) wait: Arc<Mutex<SoundWait>>,
}

/// Why there is no sound. The text is for a person.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A file.
    #[error("{0}")]
    Wav(#[from] ahoy_media::audio::wav::WavError),
    /// The codec.
    #[error("{0}")]
    Send(#[from] SendError),
    /// The codec.
    #[error("{0}")]
    Opus(#[from] OpusError),
    /// A tone that cannot be.
    #[error("{0}")]
    Tone(#[from] ahoy_media::audio::tone::ToneError),
    /// A sound device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Devices, otherwise.
    #[error("{0}")]
    Devices(String),
    /// A film.
    #[error("{0}")]
    Y4m(#[from] ahoy_media::video::y4m::Y4mError),
    /// Pictures, otherwise.
    #[error("{0}")]
    Pictures(String),
}

/// A block that was taken from the source or handed to the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedBlock {
    /// When.
    pub at: Instant,
    /// The sender's media time of its first sample; none where the block was not received.
    pub time: Option<RtpTimestamp>,
}

/// When each block was taken from the source, or handed to the sink. For measuring mouth to ear where both
/// ends share a clock.
#[derive(Debug, Default)]
pub struct BlockLog(Mutex<Vec<LoggedBlock>>);

impl BlockLog {
    fn record(&self, at: Instant, time: Option<RtpTimestamp>) {
        let mut blocks = lock(&self.0);
        if blocks.len() < MAX_LOGGED_BLOCKS {
            blocks.push(LoggedBlock { at, time });
        }
    }

    /// The blocks so far.
    #[must_use]
    pub fn blocks(&self) -> Vec<LoggedBlock> {
        lock(&self.0).clone()
    }

    /// The instants so far, one a block.
    #[must_use]
    pub fn instants(&self) -> Vec<Instant> {
        lock(&self.0).iter().map(|block| block.at).collect()
    }
}

/// Logs of both ways of one device.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// Blocks taken from the source.
    pub spoken: Arc<BlockLog>,
    /// Blocks handed to the sink.
    pub heard: Arc<BlockLog>,
}

/// What the sound loop counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct MediaStats {
    /// Sent.
    pub sent: SendStats,
    /// Received and played.
    pub received: NetEqStats,
    /// When the first received sound was played.
    pub first_audio: Option<Instant>,
    /// Level of our sound, dBFS.
    pub level_in: f32,
    /// Level of theirs, dBFS.
    pub level_out: f32,
    /// What was done to our voice; none without a microphone, and where everything is off.
    pub voice: Option<VoiceStats>,
    /// Blocks the sink refused: a full disk.
    pub sink_errors: u64,
}

/// Hands a packet to the session.
pub(super) type Outgoing = Arc<dyn Fn(Instant, Bytes) + Send + Sync>;

/// A received packet and when it came.
pub(super) type Arrival = (Instant, Bytes);

/// Adds what is to be heard beside the microphone to the 10 ms that ended so long ago.
type Beside = Box<dyn FnMut(&mut WideBlock, Duration) + Send>;

struct SendHalf {
    pipeline: SendPipeline,
    /// The voice is not to be heard.
    muted: bool,
    /// Nothing is.
    held: bool,
    /// What other programs play is to be heard, and what brings it, once that is there.
    wants_beside: bool,
    beside: Option<Beside>,
    mixed: Box<WideBlock>,
    rate: VoiceRate,
    policy: LossPolicy,
    outgoing: Outgoing,
    level: f32,
    probe: Option<Arc<BlockLog>>,
    clock: Arc<Mutex<SoundClock>>,
    /// Where what we say is recorded.
    tap: Option<RecordTap>,
}

impl SendHalf {
    fn set_silent(&mut self, muted: bool, held: bool) {
        (self.muted, self.held) = (muted, held);
        // What was said before that and has not left never does, also where other sound goes on.
        self.pipeline.set_muted(muted || held);
        if self.beside.is_some() {
            self.pipeline.set_muted(held);
        }
    }

    /// From now on this is heard too. Returns what was before.
    fn set_beside(&mut self, beside: Option<Beside>) -> Option<Beside> {
        let before = std::mem::replace(&mut self.beside, beside);
        self.set_silent(self.muted, self.held);
        before
    }

    /// Takes the block that ended `ago`, at `now`.
    fn push(&mut self, now: Instant, ago: Duration, block: &WideBlock) {
        // It is handed over when its last sample was taken.
        let first = self.pipeline.next_timestamp();
        lock(&self.clock).set(now, first.plus(BLOCK_SAMPLES as u32));
        if let Some(probe) = &self.probe {
            probe.record(now, Some(self.pipeline.next_timestamp()));
        }
        self.level = Level::of_wide(block).rms_dbfs;
        let block = match &mut self.beside {
            Some(beside) => {
                if self.muted {
                    self.mixed.silence();
                } else {
                    self.mixed.as_mut().clone_from(block);
                }
                beside(&mut self.mixed, ago);
                &*self.mixed
            }
            None => block,
        };
        if let Some(tap) = &self.tap {
            // What is sent: nothing that was said while muted.
            let sent = if self.pipeline.is_muted() {
                &WideBlock::SILENCE
            } else {
                block
            };
            tap.sound(Side::Ours, now, sent);
        }
        if let Some(packet) = self.pipeline.push_wide(now, block) {
            (self.outgoing)(now, Bytes::copy_from_slice(packet));
        }
    }
}

struct RecvHalf {
    pipeline: RecvPipeline,
    arrivals: mpsc::Receiver<Arrival>,
    first_audio: Option<Instant>,
    level: f32,
    volume: Volume,
    probe: Option<Arc<BlockLog>>,
    clock: Arc<Mutex<SoundClock>>,
    /// Where what we hear is recorded.
    tap: Option<RecordTap>,
    wait: Arc<Mutex<SoundWait>>,
}

impl RecvHalf {
    fn pull(&mut self, now: Instant, block: &mut WideBlock) {
        while let Ok((arrived, packet)) = self.arrivals.try_recv() {
            if let Err(error) = self.pipeline.insert_packet(arrived, &packet) {
                tracing::trace!(%error, "packet not played");
            }
        }
        let info = self.pipeline.get_wide(now, block);
        if let Some(tap) = &self.tap {
            // However loud it is heard here. It plays from now on.
            tap.sound(Side::Theirs, now + BLOCK_DURATION, block);
        }
        self.volume.apply_wide(block);
        self.level = Level::of_wide(block).rms_dbfs;
        let received = match info.kind {
            AudioKind::Normal | AudioKind::Quiet | AudioKind::Recovered => {
                self.first_audio.get_or_insert(now);
                true
            }
            AudioKind::Waiting | AudioKind::Concealed | AudioKind::ComfortNoise => false,
        };
        let time = info.time.filter(|_| received).map(MediaTime::rtp);
        if let Some(time) = time {
            lock(&self.clock).set(now, time);
        }
        let least = lock(&self.wait).playout(now, self.pipeline.playout());
        self.pipeline.set_min_delay(least);
        if let Some(probe) = &self.probe {
            probe.record(now, time);
        }
    }
}

struct Shared {
    send: Mutex<SendHalf>,
    recv: Mutex<RecvHalf>,
    sink_errors: Mutex<u64>,
    /// Of files in a room; devices count for themselves.
    voice: Mutex<Option<VoiceStats>>,
    news: Mutex<VecDeque<SoundNews>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sound that runs. Dropping it closes devices and finishes recordings.
#[derive(Debug)]
pub(super) struct Media {
    shared: Arc<Shared>,
    running: Running,
    settings: AudioSettings,
    /// Channels that the other side can play.
    channels: u8,
    clocks: SoundClocks,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Media").finish_non_exhaustive()
    }
}

/// What keeps the sound going.
#[derive(Debug)]
enum Running {
    Clocked(#[expect(dead_code, reason = "held, not read")] ahoy_transport::runtime::Task),
    #[cfg(feature = "devices")]
    Devices(devices::Open),
}

impl Media {
    /// Starts sound both ways. `outgoing` takes packets for the session, `arrivals` gives the received ones; the
    /// other side understands the `understood` ways to repair loss, and plays so many `channels`.
    ///
    /// # Errors
    /// A file or device that cannot be opened, with what to do about it.
    pub(super) fn start(
        runtime: &Arc<dyn Runtime>,
        settings: &AudioSettings,
        understood: Modes,
        channels: u8,
        outgoing: Outgoing,
        arrivals: mpsc::Receiver<Arrival>,
        probe: Option<&Probe>,
    ) -> Result<Self, MediaError> {
        let encoder = encoder(settings, channels);
        let clocks = SoundClocks::default();
        let send = SendPipeline::new(SendConfig {
            first_sequence: u16::from_be_bytes(runtime.random_array()),
            first_timestamp: RtpTimestamp(u32::from_be_bytes(runtime.random_array())),
            encoder,
            ..SendConfig::new(u32::from_be_bytes(runtime.random_array()))
        })?;
        let shared = Arc::new(Shared {
            send: Mutex::new(SendHalf {
                pipeline: send,
                muted: false,
                held: false,
                wants_beside: false,
                beside: None,
                mixed: Box::default(),
                rate: VoiceRate::new(encoder),
                policy: LossPolicy::new(protections(settings, understood)),
                outgoing,
                level: f32::NEG_INFINITY,
                probe: probe.map(|probe| Arc::clone(&probe.spoken)),
                clock: Arc::clone(&clocks.taken),
                tap: None,
            }),
            recv: Mutex::new(RecvHalf {
                pipeline: RecvPipeline::new(RecvConfig {
                    neteq: NetEqConfig {
                        codec: settings.codec,
                        ..NetEqConfig::default()
                    },
                    ..RecvConfig::default()
                })?,
                arrivals,
                first_audio: None,
                level: f32::NEG_INFINITY,
                volume: Volume::new(),
                probe: probe.map(|probe| Arc::clone(&probe.heard)),
                clock: Arc::clone(&clocks.heard),
                tap: None,
                wait: Arc::clone(&clocks.wait),
            }),
            sink_errors: Mutex::new(0),
            voice: Mutex::new(None),
            news: Mutex::default(),
        });
        let source = open_source(&settings.input)?;
        let sink = open_sink(&settings.output)?;
        let running = match (source, sink) {
            (Source::Clocked(source), Sink::Clocked(sink)) => {
                let run = run_clocked(
                    Arc::clone(runtime),
                    Arc::clone(&shared),
                    source,
                    sink,
                    open_room(settings)?,
                    block_by(settings.clock_ppm),
                );
                Running::Clocked(runtime.spawn_task(run))
            }
            #[cfg(feature = "devices")]
            (source, sink) => Running::Devices(devices::open(
                runtime,
                &shared,
                source,
                sink,
                settings.voice,
                &settings.devices,
            )?),
        };
        let mut this = Self {
            shared,
            running,
            settings: AudioSettings {
                share_sound: false,
                ..settings.clone()
            },
            channels,
            clocks,
        };
        this.share_sound(settings.share_sound);
        Ok(this)
    }

    /// Which sound is taken and heard when.
    pub(super) fn clocks(&self) -> SoundClocks {
        self.clocks.clone()
    }

    /// Sends silence in place of the voice, or of everything, or sound again.
    pub(super) fn set_silent(&self, muted: bool, held: bool) {
        lock(&self.shared.send).set_silent(muted, held);
    }

    /// Lets the other side hear what other programs play, from now on or no more. If that is not possible there is news of
    /// it.
    pub(super) fn share_sound(&mut self, shared: bool) {
        let was_shared = std::mem::replace(&mut self.settings.share_sound, shared);
        // What could not be opened is tried again.
        if was_shared == shared && (!shared || self.shares_sound()) {
            return;
        }
        let before = {
            let mut send = lock(&self.shared.send);
            send.wants_beside = shared;
            send.set_beside(None)
        };
        drop(before);
        self.configure_encoder();
        if shared {
            #[cfg(feature = "devices")]
            if matches!(self.running, Running::Devices(_)) {
                return devices::share_others(&self.shared);
            }
            tell(
                &self.shared,
                SoundNews::of(true, SoundWhat::OthersNeedDevices),
            );
        }
    }

    /// Whether the other side hears what other programs play.
    pub(super) fn shares_sound(&self) -> bool {
        lock(&self.shared.send).beside.is_some()
    }

    /// What is said and heard goes there too from now on, or nowhere else.
    pub(super) fn set_tap(&self, tap: Option<RecordTap>) {
        lock(&self.shared.send).tap.clone_from(&tap);
        lock(&self.shared.recv).tap = tap;
    }

    /// The other side's sound comes by a way that takes so long.
    pub(super) fn set_way(&self, way: Duration) {
        lock(&self.clocks.wait).set_way(way);
    }

    /// The other side is heard at this volume, in percent of what it sends.
    pub(super) fn set_volume(&self, percent: u16) {
        lock(&self.shared.recv).volume.set_percent(percent);
    }

    /// Sends music from now on, or a voice again. What the path carries is still kept to.
    pub(super) fn set_music(&mut self, music: bool) {
        if std::mem::replace(&mut self.settings.music, music) != music {
            self.configure_encoder();
        }
    }

    /// As what is sent is to be encoded, and the path carries it.
    fn configure_encoder(&self) {
        let chosen = encoder(&self.settings, self.channels);
        let mut send = lock(&self.shared.send);
        let (bitrate, frame) = send.rate.choose(chosen);
        send.pipeline.configure(EncoderConfig {
            bitrate,
            frame,
            ..chosen
        });
    }

    /// Uses these devices from now on, and does this to the microphone's sound. Never waits.
    #[cfg_attr(
        not(feature = "devices"),
        allow(
            unused_variables,
            clippy::needless_pass_by_ref_mut,
            reason = "there are no devices to change"
        )
    )]
    pub(super) fn configure(&mut self, devices: &SoundDevices, voice: VoiceConfig) {
        match &mut self.running {
            // Files are sent as they are.
            Running::Clocked(_) => {}
            #[cfg(feature = "devices")]
            Running::Devices(open) => open.configure(devices, voice),
        }
    }

    /// What happened to the sound devices since the last time.
    pub(super) fn take_news(&self) -> VecDeque<SoundNews> {
        std::mem::take(&mut *lock(&self.shared.news))
    }

    /// The path carries so much, in bits per second on the wire.
    pub(super) fn follow(&self, now: Instant, capacity_bps: u64) {
        let mut send = lock(&self.shared.send);
        if let Some((bitrate, frame)) = send.rate.follow(now, capacity_bps) {
            tracing::debug!(capacity_bps, ?bitrate, ?frame, "the voice follows the path");
            let config = EncoderConfig {
                bitrate,
                frame,
                ..send.pipeline.encoder_config()
            };
            send.pipeline.configure(config);
        }
    }

    /// What the voice takes of the wire: pictures get what is left.
    pub(super) fn on_wire(&self) -> Bitrate {
        lock(&self.shared.send).rate.on_wire()
    }

    /// Does what is best about the loss that the other side told of, from the next frame on.
    pub(super) fn adapt(&self, now: Instant, loss: Loss) {
        let mut send = lock(&self.shared.send);
        let base = send.pipeline.encoder_config();
        let has_room = send.rate.has_room();
        send.policy.set_room(has_room);
        let protection = send.policy.update(now, loss, base);
        send.rate.set_apart(protection.apart);
        send.pipeline.protect(protection);
    }

    /// Counters so far.
    pub(super) fn stats(&self) -> MediaStats {
        let send = lock(&self.shared.send);
        let recv = lock(&self.shared.recv);
        MediaStats {
            sent: send.pipeline.stats(),
            received: recv.pipeline.stats(),
            first_audio: recv.first_audio,
            level_in: send.level,
            level_out: recv.level,
            voice: match &self.running {
                Running::Clocked(_) => *lock(&self.shared.voice),
                #[cfg(feature = "devices")]
                Running::Devices(open) => open.voice_stats(),
            },
            sink_errors: *lock(&self.shared.sink_errors),
        }
    }
}

/// What may be done about loss. Packets with nothing in them can be copied whole, and that is all.
fn protections(settings: &AudioSettings, understood: Modes) -> Modes {
    let possible = match settings.codec {
        Codec::Opus => Modes::ALL,
        Codec::Null => Modes {
            red: true,
            parity: true,
            apart: true,
            ..Modes::NONE
        },
    };
    settings.protections.and(understood).and(possible)
}

/// Keeps what happened until it is asked for.
fn tell(shared: &Shared, told: SoundNews) {
    let mut news = lock(&shared.news);
    if news.len() < MAX_NEWS {
        news.push_back(told);
    }
}

/// How to encode, while the path carries it.
fn encoder(settings: &AudioSettings, channels: u8) -> EncoderConfig {
    let content = if settings.music || settings.share_sound {
        Content::Music {
            stereo: channels > 1,
        }
    } else {
        Content::Voice
    };
    let good = EncoderConfig::of(content);
    EncoderConfig {
        codec: settings.codec,
        bitrate: settings.bitrate_bps.map_or(good.bitrate, Bitrate),
        frame: frame_duration(settings.frame_millis),
        ..good
    }
}

/// The nearest frame duration that Opus has here.
fn frame_duration(millis: u16) -> FrameDuration {
    match millis {
        0..=10 => FrameDuration::Ms10,
        11..=20 => FrameDuration::Ms20,
        21..=40 => FrameDuration::Ms40,
        41.. => FrameDuration::Ms60,
    }
}

enum Source {
    Clocked(Box<dyn AudioSource>),
    #[cfg(feature = "devices")]
    Microphone,
}

enum Sink {
    Clocked(ClockedSink),
    #[cfg(feature = "devices")]
    Speaker,
}

enum ClockedSink {
    Write(Box<dyn AudioSink>),
    /// What is heard is said again.
    Echo,
    /// The same, later.
    Later(EchoLine),
}

fn open_source(input: &AudioIn) -> Result<Source, MediaError> {
    Ok(match input {
        #[cfg(feature = "devices")]
        AudioIn::Microphone => Source::Microphone,
        #[cfg(not(feature = "devices"))]
        AudioIn::Microphone => return Err(no_devices("--audio-in")),
        AudioIn::File(path) => Source::Clocked(Box::new(WavSource::open(path, AtEnd::Stop)?)),
        AudioIn::Tone => Source::Clocked(Box::new(ToneSource::new(TONE_HZ, TONE_DBFS)?)),
        AudioIn::Silence => Source::Clocked(Box::new(SilenceSource)),
        AudioIn::Greeting => Source::Clocked(Box::new(SampleSource::new(echo::greeting()))),
    })
}

fn open_sink(output: &AudioOut) -> Result<Sink, MediaError> {
    Ok(match output {
        #[cfg(feature = "devices")]
        AudioOut::Speaker => Sink::Speaker,
        #[cfg(not(feature = "devices"))]
        AudioOut::Speaker => return Err(no_devices("--audio-out")),
        AudioOut::File(path) => Sink::Clocked(ClockedSink::Write(Box::new(WavSink::create(path)?))),
        AudioOut::Null => Sink::Clocked(ClockedSink::Write(Box::new(NullSink))),
        AudioOut::Echo => Sink::Clocked(ClockedSink::Echo),
        AudioOut::EchoLater => Sink::Clocked(ClockedSink::Later(EchoLine::default())),
    })
}

/// The room in which files sound, if there is one, and what is done to what is heard there.
fn open_room(settings: &AudioSettings) -> Result<Option<(RoomDevices, bool)>, MediaError> {
    let Some(path) = &settings.room else {
        return Ok(None);
    };
    let devices = RoomDevices::new(&read_all(path)?, settings.voice)
        .map_err(|error| MediaError::Devices(error.to_string()))?;
    Ok(Some((devices, !settings.voice.is_off())))
}

#[cfg(not(feature = "devices"))]
fn no_devices(flag: &str) -> MediaError {
    MediaError::Devices(format!(
        "this ahoy was built without sound devices: name a file with {flag} FILE.wav"
    ))
}

/// How long ten milliseconds take on a clock that is so many millionths faster.
fn block_by(clock_ppm: i32) -> Duration {
    BLOCK_DURATION.div_f64(1.0 + f64::from(clock_ppm.clamp(-10_000, 10_000)) / 1e6)
}

/// Ten milliseconds at a time, by the runtime's clock.
async fn run_clocked(
    runtime: Arc<dyn Runtime>,
    shared: Arc<Shared>,
    mut source: Box<dyn AudioSource>,
    mut sink: ClockedSink,
    mut room: Option<(RoomDevices, bool)>,
    tick: Duration,
) {
    let mut spoken = Box::<WideBlock>::default();
    let mut heard = Box::<WideBlock>::default();
    let mut next = runtime.beat() + tick;
    // Two, so that while one fires the other already waits for the instant after: a runtime that has to be told of an
    // earlier instant than it waits for wakes itself up for it, each time.
    let mut ticks = [next, next + tick].map(|at| runtime.sleep_until(at));
    // What two recordings are aligned by.
    tracing::debug!("sound flows from the next 10 ms on");
    loop {
        (&mut ticks[0]).await;
        ticks.swap(0, 1);
        let now = runtime.now();
        if now.saturating_duration_since(next) > MAX_CATCH_UP {
            next = now;
            ticks[0].reset(next + tick);
        }
        next += tick;
        ticks[1].reset(next + tick);
        lock(&shared.recv).pull(now, &mut heard);
        let written = match &mut sink {
            ClockedSink::Write(sink) => {
                // What an ended source leaves is silence.
                let _state = source.next_wide(&mut spoken);
                sink.write_wide(&heard)
            }
            ClockedSink::Echo => {
                spoken.clone_from(&heard);
                Ok(())
            }
            ClockedSink::Later(line) => {
                if source.next_wide(&mut spoken) == SourceState::Ended {
                    line.pass(&heard, &mut spoken);
                }
                Ok(())
            }
        };
        if let Err(error) = written {
            let mut errors = lock(&shared.sink_errors);
            *errors += 1;
            if *errors == 1 {
                tracing::warn!(%error, "the recording stops");
            }
        }
        if let Some((devices, processed)) = &mut room {
            devices.run(&heard.mid, &mut spoken.mid);
            spoken.set_mono();
            *lock(&shared.voice) = processed.then(|| devices.stats().voice);
        }
        lock(&shared.send).push(now, Duration::ZERO, &spoken);
    }
}

/// The device of this id; the system's default where none is named.
#[cfg(feature = "devices")]
pub(crate) fn device_choice(id: Option<&String>) -> DeviceChoice {
    id.map_or(DeviceChoice::Default, |id| DeviceChoice::Id(id.clone()))
}

#[cfg(feature = "devices")]
mod devices {
    //! Microphone and speaker, each on its own clock and threads; a file beside one of them is played or
    //! written by that one's clock.

    use std::{sync::Arc, time::Duration};

    use ahoy_media::audio::{
        capture::Voice,
        device::{AudioSystem, DeviceEvent, Direction, Microphone, Others, Speaker},
        reference::reference,
        voice::{Chain, VoiceConfig, VoiceStats},
        wide::WideBlock,
    };
    use ahoy_transport::runtime::{Runtime, RuntimeExt, Task};

    use super::{
        ClockedSink, MediaError, Shared, Sink, SoundDevices, SoundNews, SoundWhat, Source,
        device_choice, lock,
    };

    /// Open devices; dropping them closes them.
    #[derive(Debug)]
    pub(super) struct Open {
        microphone: Option<Microphone>,
        speaker: Option<Speaker>,
        clocked: Option<Task>,
        /// What is done to the microphone's sound.
        voice: VoiceConfig,
    }

    impl Open {
        pub(super) fn configure(&mut self, devices: &SoundDevices, voice: VoiceConfig) {
            self.voice = possible(voice, self.speaker.is_some());
            if let Some(microphone) = &self.microphone {
                microphone.choose(device_choice(devices.microphone.as_ref()));
                microphone.configure_voice(self.voice);
            }
            if let Some(speaker) = &self.speaker {
                speaker.choose(device_choice(devices.speaker.as_ref()));
            }
        }

        pub(super) fn voice_stats(&self) -> Option<VoiceStats> {
            let processed = !self.voice.is_off();
            let microphone = self.microphone.as_ref().filter(|_| processed)?;
            Some(microphone.voice_stats())
        }
    }

    /// Without a speaker there is nothing that could come back.
    fn possible(voice: VoiceConfig, has_speaker: bool) -> VoiceConfig {
        VoiceConfig {
            echo_cancellation: voice.echo_cancellation && has_speaker,
            ..voice
        }
    }

    /// Passes on what happens to a device.
    fn tell(
        shared: &Arc<Shared>,
        direction: Direction,
    ) -> impl FnMut(DeviceEvent) + Send + 'static {
        let shared = Arc::clone(shared);
        move |event| {
            let what = match event {
                DeviceEvent::Opened(device) => SoundWhat::Opened(device.name),
                DeviceEvent::Lost { error, .. } => SoundWhat::Lost(error),
                DeviceEvent::Gone { .. } => SoundWhat::Gone,
                DeviceEvent::Displaced { .. } => SoundWhat::Displaced,
                DeviceEvent::DefaultChanged { to } => SoundWhat::Followed(to.name),
            };
            let microphone = direction == Direction::Input;
            super::tell(&shared, SoundNews::of(microphone, what));
        }
    }

    /// Opens what brings the sound of other programs, on a thread of its own: that takes a moment.
    pub(super) fn share_others(shared: &Arc<Shared>) {
        let shared = Arc::clone(shared);
        let open = {
            let shared = Arc::clone(&shared);
            move || match Others::open() {
                Ok((others, mut mix)) => {
                    let beside = Box::new(move |block: &mut WideBlock, ago| {
                        let _held = &others;
                        mix.mix_into(block, ago);
                    });
                    let before = {
                        let mut send = lock(&shared.send);
                        if send.wants_beside {
                            send.set_beside(Some(beside))
                        } else {
                            Some(beside as _)
                        }
                    };
                    drop(before);
                }
                Err(error) => cannot_share(&shared, &error.to_string()),
            }
        };
        let thread = std::thread::Builder::new().name("ahoy-others".into());
        if let Err(error) = thread.spawn(open) {
            cannot_share(&shared, &error.to_string());
        }
    }

    fn cannot_share(shared: &Shared, why: &str) {
        let what = SoundWhat::OthersUnheard(why.to_owned());
        super::tell(shared, SoundNews::of(true, what));
    }

    pub(super) fn open(
        runtime: &Arc<dyn Runtime>,
        shared: &Arc<Shared>,
        source: Source,
        sink: Sink,
        voice: VoiceConfig,
        devices: &SoundDevices,
    ) -> Result<Open, MediaError> {
        let has_speaker = matches!(sink, Sink::Speaker);
        let voice = possible(voice, has_speaker);
        let mut open = Open {
            microphone: None,
            speaker: None,
            clocked: None,
            voice,
        };
        // Also where nothing is done to the sound yet: that may be switched on in the middle of the call.
        let (writer, reader) = if has_speaker {
            let (writer, reader) = reference();
            (Some(writer), Some(reader))
        } else {
            (None, None)
        };
        let mut file_source = None;
        match source {
            Source::Microphone => {
                let heard = Arc::clone(shared);
                let (shared, runtime) = (Arc::clone(shared), Arc::clone(runtime));
                let on_block = move |block: &WideBlock, ago| {
                    let now = runtime.now();
                    let taken = now.checked_sub(ago).unwrap_or(now);
                    let mut send = lock(&shared.send);
                    send.push(taken, ago, block);
                    send.pipeline.missing_blocks()
                };
                let voice = Voice {
                    processor: Box::new(Chain::new(voice)),
                    reference: reader,
                };
                let microphone = Microphone::open_with_voice(
                    AudioSystem::Best,
                    device_choice(devices.microphone.as_ref()),
                    Some(voice),
                    on_block,
                    tell(&heard, Direction::Input),
                )?;
                open.microphone = Some(microphone);
            }
            Source::Clocked(source) => file_source = Some(source),
        }
        match sink {
            Sink::Speaker => {
                let heard = Arc::clone(shared);
                let (shared, runtime) = (Arc::clone(shared), Arc::clone(runtime));
                let mut spoken = Box::<WideBlock>::default();
                let pull = move |block: &mut WideBlock| {
                    let now = runtime.now();
                    lock(&shared.recv).pull(now, block);
                    if let Some(source) = &mut file_source {
                        let _state = source.next_wide(&mut spoken);
                        lock(&shared.send).push(now, Duration::ZERO, &spoken);
                    }
                };
                let speaker = Speaker::open_with_reference(
                    AudioSystem::Best,
                    device_choice(devices.speaker.as_ref()),
                    writer.filter(|_| open.microphone.is_some()),
                    pull,
                    tell(&heard, Direction::Output),
                )?;
                open.speaker = Some(speaker);
            }
            Sink::Clocked(sink) => {
                let run = write_clocked(Arc::clone(runtime), Arc::clone(shared), sink);
                open.clocked = Some(runtime.spawn_task(run));
            }
        }
        Ok(open)
    }

    /// A microphone beside a file: the runtime's clock writes the file.
    async fn write_clocked(runtime: Arc<dyn Runtime>, shared: Arc<Shared>, mut sink: ClockedSink) {
        let mut heard = Box::<WideBlock>::default();
        let mut next = runtime.now();
        loop {
            next += super::BLOCK_DURATION;
            runtime.sleep_until(next).await;
            let now = runtime.now();
            lock(&shared.recv).pull(now, &mut heard);
            match &mut sink {
                ClockedSink::Write(sink) => {
                    if let Err(error) = sink.write_wide(&heard) {
                        *lock(&shared.sink_errors) += 1;
                        tracing::debug!(%error, "a block is not recorded");
                    }
                }
                ClockedSink::Echo => lock(&shared.send).push(now, Duration::ZERO, &heard),
                ClockedSink::Later(line) => {
                    let mut earlier = WideBlock::default();
                    line.pass(&heard, &mut earlier);
                    lock(&shared.send).push(now, Duration::ZERO, &earlier);
                }
            }
        }
    }
}
