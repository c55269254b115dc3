//! One open stream: the thread that keeps it, its callbacks, its errors.

#[cfg(target_os = "linux")]
use std::ffi::CStr;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{JoinHandle, Thread},
    time::Duration,
};

use cpal::{
    ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig,
    traits::{DeviceTrait, StreamTrait},
};

#[cfg(target_os = "linux")]
use super::pulse;
use super::{AudioSystem, DeviceChoice, DeviceClock, DeviceError, DeviceInfo, Direction, host};
use crate::audio::{
    SAMPLE_RATE_HZ,
    capture::Capture,
    drift::DriftController,
    playout::Playout,
    priority::{self, ThreadPriority},
    ring::{RingReader, RingWatch, RingWriter, SpeakerBuffer, ring},
};

/// How long a stream may take to come into being.
const BUILD_TIMEOUT: Duration = Duration::from_secs(3);

/// Errors of no consequence that are let through at full speed. Some backends repeat the same one a hundred thousand
/// times a second; from here on each waits.
const FLOOD_ERRORS: u64 = 64;

/// How long a flooding backend's error thread sleeps per error.
const FLOOD_SLEEP: Duration = Duration::from_millis(20);

/// What a stream's error callback leaves behind. It sets numbers and wakes the supervisor, once.
#[derive(Debug)]
pub(super) struct Failure {
    errors: AtomicU64,
    fatal: AtomicU8,
    /// Where the sound system has put the stream, until somebody looks.
    moved: Mutex<Option<String>>,
    supervisor: Thread,
}

const FATAL_NONE: u8 = 0;
const FATAL_LOST: u8 = 1;
const FATAL_BUSY: u8 = 2;
const FATAL_DENIED: u8 = 3;
const FATAL_UNSUPPORTED: u8 = 4;
const FATAL_SYSTEM: u8 = 5;

impl Failure {
    pub(super) fn new(supervisor: Thread) -> Self {
        Self {
            errors: AtomicU64::new(0),
            fatal: AtomicU8::new(FATAL_NONE),
            moved: Mutex::new(None),
            supervisor,
        }
    }

    /// The error callback.
    pub(super) fn note(&self, kind: ErrorKind) {
        let count = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        let fatal = match kind {
            // The stream plays on.
            ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => FATAL_NONE,
            ErrorKind::DeviceNotAvailable
            | ErrorKind::StreamInvalidated
            | ErrorKind::HostUnavailable => FATAL_LOST,
            ErrorKind::DeviceBusy => FATAL_BUSY,
            ErrorKind::PermissionDenied => FATAL_DENIED,
            ErrorKind::UnsupportedConfig
            | ErrorKind::UnsupportedOperation
            | ErrorKind::InvalidInput => FATAL_UNSUPPORTED,
            // Seen both as a hiccup and as the end. A few are a hiccup.
            ErrorKind::BackendError | ErrorKind::Other | ErrorKind::ResourceExhausted
                if count < FLOOD_ERRORS =>
            {
                FATAL_NONE
            }
            ErrorKind::BackendError | ErrorKind::Other | ErrorKind::ResourceExhausted => {
                FATAL_SYSTEM
            }
            // The library may add kinds.
            _ => FATAL_SYSTEM,
        };
        if fatal != FATAL_NONE
            && self
                .fatal
                .compare_exchange(FATAL_NONE, fatal, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.supervisor.unpark();
        }
        if count > FLOOD_ERRORS {
            // The stream is being given up or is useless; without this it would take a whole core meanwhile.
            std::thread::sleep(FLOOD_SLEEP);
        }
    }

    /// The stream is at the device of this name now, and goes on there. Seldom: it may wait for a moment.
    #[cfg(target_os = "linux")]
    pub(super) fn note_moved(&self, name: &CStr) {
        let name = name.to_string_lossy().into_owned();
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
        self.supervisor.unpark();
    }

    pub(super) fn take_moved(&self) -> Option<String> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.take()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn fatal(&self) -> Option<DeviceError> {
        match self.fatal.load(Ordering::Acquire) {
            FATAL_NONE => None,
            FATAL_LOST => Some(DeviceError::Lost),
            FATAL_BUSY => Some(DeviceError::Busy),
            FATAL_DENIED => Some(DeviceError::Denied),
            FATAL_UNSUPPORTED => Some(DeviceError::Unsupported("it changed its format".into())),
            FATAL_SYSTEM.. => Some(DeviceError::System("it reports errors only".into())),
        }
    }
}

/// What differs between microphones and speakers.
pub(super) trait StreamKind: 'static {
    /// What the worker gets.
    type Core: Send + std::fmt::Debug + 'static;
    /// Which way.
    const DIRECTION: Direction;

    /// Opens a stream and the ring behind it.
    fn build(
        device: &cpal::Device,
        config: StreamConfig,
        format: SampleFormat,
        clock: DeviceClock,
        failure: Arc<Failure>,
    ) -> Result<(cpal::Stream, Self::Core, RingWatch), DeviceError>;

    /// The same with a sound server, in its own language: 48 kHz, and no more than two channels.
    #[cfg(target_os = "linux")]
    fn build_directly(
        name: &str,
        channels: u8,
        clock: DeviceClock,
        failure: Arc<Failure>,
    ) -> Result<(pulse::Stream, Self::Core, RingWatch), DeviceError>;
}

/// A stream, whoever opened it. Dropping it closes it.
#[expect(dead_code, reason = "held, not read")]
enum OpenStream {
    #[cfg(target_os = "linux")]
    Direct(pulse::Stream),
    Cpal(cpal::Stream),
}

/// Microphones.
#[derive(Debug)]
pub(super) struct InputStream;

/// Speakers.
#[derive(Debug)]
pub(super) struct OutputStream;

impl StreamKind for InputStream {
    type Core = Capture;
    const DIRECTION: Direction = Direction::Input;

    fn build(
        device: &cpal::Device,
        config: StreamConfig,
        format: SampleFormat,
        clock: DeviceClock,
        failure: Arc<Failure>,
    ) -> Result<(cpal::Stream, Capture, RingWatch), DeviceError> {
        if format == SampleFormat::F32 {
            build_input::<f32>(device, config, clock, failure)
        } else if format == SampleFormat::I16 {
            build_input::<i16>(device, config, clock, failure)
        } else if format == SampleFormat::I32 {
            build_input::<i32>(device, config, clock, failure)
        } else {
            Err(DeviceError::Unsupported(format.to_string()))
        }
    }

    #[cfg(target_os = "linux")]
    fn build_directly(
        name: &str,
        channels: u8,
        clock: DeviceClock,
        failure: Arc<Failure>,
    ) -> Result<(pulse::Stream, Capture, RingWatch), DeviceError> {
        microphone(|writer| pulse::record(name, channels, writer, clock, failure))
    }
}

/// What is recorded by a stream of a sound server.
#[cfg(target_os = "linux")]
pub(super) fn microphone(
    record: impl FnOnce(RingWriter) -> Result<(pulse::Stream, pulse::ServerMicrophone), DeviceError>,
) -> Result<(pulse::Stream, Capture, RingWatch), DeviceError> {
    let (writer, reader) = ring(SAMPLE_RATE_HZ);
    let (capture, watch) = capture(reader, SAMPLE_RATE_HZ)?;
    let (stream, microphone) = record(writer)?;
    Ok((stream, capture.fetched_by(microphone), watch))
}

fn capture(reader: RingReader, rate_hz: u32) -> Result<(Capture, RingWatch), DeviceError> {
    let watch = reader.watch().clone();
    Capture::new(reader, rate_hz, DriftController::new())
        .map(|capture| (capture, watch))
        .map_err(|error| DeviceError::Unsupported(error.to_string()))
}

fn build_input<T>(
    device: &cpal::Device,
    config: StreamConfig,
    clock: DeviceClock,
    failure: Arc<Failure>,
) -> Result<(cpal::Stream, Capture, RingWatch), DeviceError>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let (mut writer, reader) = ring(config.sample_rate);
    let (capture, watch) = capture(reader, config.sample_rate)?;
    let channels = usize::from(config.channels);
    let stream = device
        .build_input_stream::<T, _, _>(
            config,
            move |data, _| {
                writer.write_from_device(data, channels, clock.now(), f32::from_sample_);
            },
            move |error| failure.note(error.kind()),
            Some(BUILD_TIMEOUT),
        )
        .map_err(|error| host::from_cpal(&error))?;
    Ok((stream, capture, watch))
}

impl StreamKind for OutputStream {
    type Core = Playout;
    const DIRECTION: Direction = Direction::Output;

    fn build(
        device: &cpal::Device,
        config: StreamConfig,
        format: SampleFormat,
        clock: DeviceClock,
        failure: Arc<Failure>,
    ) -> Result<(cpal::Stream, Playout, RingWatch), DeviceError> {
        if format == SampleFormat::F32 {
            build_output::<f32>(device, config, clock, failure)
        } else if format == SampleFormat::I16 {
            build_output::<i16>(device, config, clock, failure)
        } else if format == SampleFormat::I32 {
            build_output::<i32>(device, config, clock, failure)
        } else {
            Err(DeviceError::Unsupported(format.to_string()))
        }
    }

    #[cfg(target_os = "linux")]
    fn build_directly(
        name: &str,
        channels: u8,
        clock: DeviceClock,
        failure: Arc<Failure>,
    ) -> Result<(pulse::Stream, Playout, RingWatch), DeviceError> {
        let (stream, buffer) = pulse::play(name, channels, clock, failure)?;
        let (playout, watch) = playout(buffer, SAMPLE_RATE_HZ)?;
        Ok((stream, playout, watch))
    }
}

fn playout(
    buffer: impl SpeakerBuffer + 'static,
    rate_hz: u32,
) -> Result<(Playout, RingWatch), DeviceError> {
    let watch = buffer.watch().clone();
    Playout::new(buffer, rate_hz, DriftController::new())
        .map(|playout| (playout, watch))
        .map_err(|error| DeviceError::Unsupported(error.to_string()))
}

fn build_output<T>(
    device: &cpal::Device,
    config: StreamConfig,
    clock: DeviceClock,
    failure: Arc<Failure>,
) -> Result<(cpal::Stream, Playout, RingWatch), DeviceError>
where
    T: SizedSample + FromSample<f32>,
{
    let (writer, mut reader) = ring(config.sample_rate);
    let (playout, watch) = playout(writer, config.sample_rate)?;
    let channels = usize::from(config.channels);
    let stream = device
        .build_output_stream::<T, _, _>(
            config,
            move |data, _| {
                reader.read_to_device(data, channels, clock.now(), |sample| {
                    T::from_sample_(sample.clamp(-1.0, 1.0))
                });
            },
            move |error| failure.note(error.kind()),
            Some(BUILD_TIMEOUT),
        )
        .map_err(|error| host::from_cpal(&error))?;
    Ok((stream, playout, watch))
}

/// A stream that has come to life.
#[derive(Debug)]
pub(super) struct Opened<C> {
    pub(super) info: DeviceInfo,
    pub(super) host_name: &'static str,
    pub(super) core: C,
    pub(super) watch: RingWatch,
}

/// The thread that opens a stream, keeps it, and closes it. All of that may hang, and then the thread is left behind.
#[derive(Debug)]
pub(super) struct StreamKeeper<C> {
    pub(super) opened: Receiver<Result<Opened<C>, DeviceError>>,
    pub(super) failure: Arc<Failure>,
    pub(super) priority: ThreadPriority,
    close: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl<C: Send + 'static> StreamKeeper<C> {
    /// Starts to open the chosen device. `pinned_host` is the sound server that was in use before, if any.
    pub(super) fn start<K: StreamKind<Core = C>>(
        system: AudioSystem,
        choice: DeviceChoice,
        pinned_host: Option<&'static str>,
        clock: DeviceClock,
        raise_priority: bool,
        speak_directly: bool,
    ) -> std::io::Result<Self> {
        let supervisor = std::thread::current();
        let failure = Arc::new(Failure::new(supervisor.clone()));
        let (report, opened) = sync_channel(1);
        let (close, closed) = sync_channel::<()>(1);
        let (told, priority) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("ahoy-stream".into())
            .spawn({
                let failure = Arc::clone(&failure);
                move || {
                    // Before the sound system's library starts its threads, which are to inherit it.
                    let priority = if raise_priority {
                        priority::raise()
                    } else {
                        ThreadPriority::Ordinary
                    };
                    told.send(priority).unwrap_or(());
                    let opened = open::<K>(
                        system,
                        &choice,
                        pinned_host,
                        speak_directly,
                        clock,
                        &failure,
                    );
                    let stream = match opened {
                        Ok((stream, opened)) => {
                            report.send(Ok(opened)).unwrap_or(());
                            Some(stream)
                        }
                        Err(error) => {
                            report.send(Err(error)).unwrap_or(());
                            None
                        }
                    };
                    supervisor.unpark();
                    if stream.is_some() {
                        // Ends when the supervisor lets go of its end.
                        closed.recv().unwrap_or(());
                    }
                    drop(stream);
                }
            })?;
        Ok(Self {
            opened,
            failure,
            priority: priority.recv().unwrap_or_default(),
            close,
            thread,
        })
    }

    /// Tells the thread to close the stream. The handle shows when it has.
    pub(super) fn close(self) -> JoinHandle<()> {
        drop(self.close);
        self.thread
    }
}

fn open<K: StreamKind>(
    system: AudioSystem,
    choice: &DeviceChoice,
    pinned_host: Option<&'static str>,
    speak_directly: bool,
    clock: DeviceClock,
    failure: &Arc<Failure>,
) -> Result<(OpenStream, Opened<K::Core>), DeviceError> {
    if pinned_host.is_some_and(|name| !host::is_present(name)) {
        return Err(DeviceError::Lost);
    }
    let host = host::open(system)?;
    let host_name = host.id().name();
    let (device, info) = host::find(&host, choice, K::DIRECTION)?;
    let (stream, core, watch) = open_device::<K>(&device, speak_directly, clock, failure)?;
    let opened = Opened {
        info,
        host_name,
        core,
        watch,
    };
    Ok((stream, opened))
}

fn open_device<K: StreamKind>(
    device: &cpal::Device,
    speak_directly: bool,
    clock: DeviceClock,
    failure: &Arc<Failure>,
) -> Result<(OpenStream, K::Core, RingWatch), DeviceError> {
    let mut last = DeviceError::None(K::DIRECTION);
    #[cfg(target_os = "linux")]
    if speak_directly && let Some((name, channels)) = host::server_stream(device, K::DIRECTION)? {
        match K::build_directly(&name, channels, clock, Arc::clone(failure)) {
            Ok((stream, core, watch)) => return Ok((OpenStream::Direct(stream), core, watch)),
            Err(error) if may_do_otherwise(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    for (config, format) in host::configs(device, K::DIRECTION)? {
        match K::build(device, config, format, clock, Arc::clone(failure)) {
            Ok((stream, core, watch)) => {
                stream.play().map_err(|error| host::from_cpal(&error))?;
                return Ok((OpenStream::Cpal(stream), core, watch));
            }
            Err(error) if may_do_otherwise(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Whether another configuration may do.
fn may_do_otherwise(error: &DeviceError) -> bool {
    match error {
        DeviceError::Unsupported(_) | DeviceError::System(_) => true,
        DeviceError::None(_)
        | DeviceError::NotFound { .. }
        | DeviceError::Busy
        | DeviceError::Denied
        | DeviceError::Lost
        | DeviceError::Stalled
        | DeviceError::Hung => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_errors_are_counted_and_a_fatal_one_stays() {
        let failure = Failure::new(std::thread::current());
        failure.note(ErrorKind::Xrun);
        failure.note(ErrorKind::BackendError);
        assert_eq!(failure.fatal(), None);
        failure.note(ErrorKind::StreamInvalidated);
        failure.note(ErrorKind::DeviceBusy);
        assert_eq!(failure.fatal(), Some(DeviceError::Lost));
        assert_eq!(failure.errors(), 4);
    }

    #[test]
    fn a_flood_of_unknown_errors_is_fatal_and_slowed_down() {
        let clock = DeviceClock::new();
        let failure = Failure::new(std::thread::current());
        for _ in 0..FLOOD_ERRORS + 2 {
            failure.note(ErrorKind::BackendError);
        }
        assert!(matches!(failure.fatal(), Some(DeviceError::System(_))));
        assert!(clock.now() >= 2 * FLOOD_SLEEP);
    }
}
