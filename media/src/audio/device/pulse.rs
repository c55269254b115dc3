//! Streams of a PulseAudio server, or of PipeWire in its place, by the server's own protocol.
//!
//! cpal would do, and is what is used elsewhere. Its streams ask the server for its delay after each callback, and name
//! buffers by which the server's device works in pieces of half a millisecond: together a third of a core. And a speaker
//! behind it has two buffers, of which ours is the one that is not needed: here a block is written to the server as soon
//! as it is there, what the server asks for tells how much of it was played, and so the server's buffer is our ring.
//!
//! One connection and one thread per stream. The messages are those of the crate `pulseaudio`, of which cpal's host is
//! made too.

use std::{
    ffi::{CStr, CString},
    io::{BufReader, Read as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use cpal::ErrorKind;
use pulseaudio::protocol::{
    AuthParams, AuthReply, ChannelMap, Command, CommandReply, CorkStreamParams,
    CreatePlaybackStreamReply, CreateRecordStreamReply, DESCRIPTOR_SIZE, Descriptor,
    DescriptorFlags, MAX_VERSION, PlaybackStreamParams, Prop, Props, ProtocolError, PulseError,
    RecordStreamParams, SampleFormat, SampleSpec, SetClientNameReply, SubscriptionMask,
    encode_descriptor, read_ack_message, read_descriptor, read_reply_message,
    stream::{BufferAttr, StreamFlags},
    write_command_message,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{SendFlags, send},
};

use super::{DeviceClock, DeviceError, stream::Failure};
use crate::audio::{
    SAMPLE_RATE_HZ,
    ring::{RING_DURATION, RingWatch, RingWriter, SpeakerBuffer},
    wide::left_right,
};

/// What the server's microphone is to bring at once: 5 ms. It works in such pieces for us.
const RECORDED_SAMPLES: u32 = 240;

/// What the server's speaker is to take at once, and to tell of: 10 ms. Half of that would be played 5 ms sooner, and wake
/// up two processes twice as often.
const PLAYED_SAMPLES: u32 = 480;

/// How much the server would like to hold. It gets what the playout finds right, which is less.
const HELD_SAMPLES: u32 = 4800;

/// A server that needs longer for an answer has other troubles.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// What is read at once: some fragments.
const READ_BYTES: usize = 16 * 1024;

/// A message longer than this is not one of ours.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Control messages are for this channel.
const CONTROL: u32 = u32::MAX;

const SAMPLE_BYTES: usize = size_of::<f32>();

/// A stream that is open. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Stream {
    socket: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Ends the thread, which may be told so by the server too.
        self.socket.shutdown(Shutdown::Both).unwrap_or(());
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("a sound stream panicked");
        }
    }
}

/// Records from the source of this name, with one channel or two at 48 kHz, into `writer`.
pub(super) fn record(
    name: &str,
    channels: u8,
    mut writer: RingWriter,
    clock: DeviceClock,
    failure: Arc<Failure>,
) -> Result<Stream, DeviceError> {
    let mut connection = Connection::open()?;
    let (sample_spec, channel_map) = format(channels);
    let created: CreateRecordStreamReply =
        connection.ask(&Command::CreateRecordStream(RecordStreamParams {
            sample_spec,
            channel_map,
            source_name: Some(c_string(name)?),
            buffer_attr: BufferAttr {
                max_length: u32::MAX,
                fragment_size: RECORDED_SAMPLES * frame_bytes(channels) as u32,
                ..BufferAttr::default()
            },
            flags: FLAGS,
            ..RecordStreamParams::default()
        }))?;
    let mut samples = Vec::with_capacity(READ_BYTES / SAMPLE_BYTES);
    connection.run(created.channel, move |event| match event {
        Event::Sound(bytes) => {
            samples.clear();
            let (whole, _rest) = bytes.as_chunks::<SAMPLE_BYTES>();
            samples.extend(whole.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            writer.write_from_device(&samples, usize::from(channels), clock.now(), |s| s);
        }
        Event::Wanted(_) | Event::Changed => {}
        Event::Moved(name) => failure.note_moved(name),
        Event::Trouble(kind) | Event::Ended(kind) => failure.note(kind),
    })
}

/// Plays on the sink of this name, with one channel or two at 48 kHz, what is put into the buffer.
pub(super) fn play(
    name: &str,
    channels: u8,
    clock: DeviceClock,
    failure: Arc<Failure>,
) -> Result<(Stream, ServerBuffer), DeviceError> {
    let mut connection = Connection::open()?;
    let (sample_spec, channel_map) = format(channels);
    let frame = frame_bytes(channels);
    let created: CreatePlaybackStreamReply =
        connection.ask(&Command::CreatePlaybackStream(PlaybackStreamParams {
            sample_spec,
            channel_map,
            sink_name: Some(c_string(name)?),
            buffer_attr: BufferAttr {
                max_length: u32::MAX,
                target_length: HELD_SAMPLES * frame as u32,
                // It plays from the first sample on, and silence where there is none: what is late stays countable.
                pre_buffering: 0,
                minimum_request_length: PLAYED_SAMPLES * frame as u32,
                ..BufferAttr::default()
            },
            flags: StreamFlags {
                start_corked: true,
                ..FLAGS
            },
            ..PlaybackStreamParams::default()
        }))?;
    let level = Arc::<Level>::default();
    let watch = RingWatch::default();
    let mut begin = Vec::new();
    let uncork = Command::CorkPlaybackStream(CorkStreamParams {
        channel: created.channel,
        cork: false,
    });
    write_command_message(&mut begin, connection.sequence, &uncork, connection.version)
        .map_err(|error| from_protocol(&error))?;
    let buffer = ServerBuffer {
        socket: connection.socket()?,
        channel: created.channel,
        channels,
        level: Arc::clone(&level),
        watch: watch.clone(),
        begin,
        message: Vec::new(),
        sent: 0,
    };
    // It is ready, which is as good as a first call.
    watch.note_callback(clock.now(), 0);
    let stream = connection.run(created.channel, move |event| match event {
        Event::Wanted(bytes) => {
            let samples = bytes / frame;
            let missing = level.take(samples);
            watch.note_missing(missing);
            watch.note_callback(clock.now(), samples);
        }
        Event::Sound(_) | Event::Changed => {}
        Event::Moved(name) => failure.note_moved(name),
        Event::Trouble(kind) | Event::Ended(kind) => failure.note(kind),
    })?;
    Ok((stream, buffer))
}

/// Tells, on a thread of its own, that there may be other devices or another default; with `false` that it tells no
/// more.
pub(super) fn watch(
    mut on_change: impl FnMut(bool) + Send + 'static,
) -> Result<Stream, DeviceError> {
    let mut connection = Connection::open()?;
    let mask = SubscriptionMask::SINK | SubscriptionMask::SOURCE | SubscriptionMask::SERVER;
    connection.tell(&Command::Subscribe(mask))?;
    connection.run(CONTROL, move |event| match event {
        Event::Changed => on_change(true),
        Event::Ended(_) => on_change(false),
        Event::Sound(_) | Event::Wanted(_) | Event::Moved(_) | Event::Trouble(_) => {}
    })
}

/// What the server's device moves is set by the pieces that are asked for, and not by half of what the buffer holds.
const FLAGS: StreamFlags = StreamFlags {
    start_corked: false,
    no_remap_channels: false,
    no_remix_channels: false,
    fix_format: false,
    fix_rate: false,
    fix_channels: false,
    no_move: false,
    variable_rate: false,
    peak_detect: false,
    start_muted: None,
    adjust_latency: false,
    early_requests: true,
    no_inhibit_auto_suspend: false,
    fail_on_suspend: false,
    relative_volume: false,
    passthrough: false,
};

fn frame_bytes(channels: u8) -> usize {
    SAMPLE_BYTES * usize::from(channels)
}

fn format(channels: u8) -> (SampleSpec, ChannelMap) {
    let spec = SampleSpec {
        format: SampleFormat::Float32Le,
        channels,
        sample_rate: SAMPLE_RATE_HZ,
    };
    let map = if channels == 1 {
        ChannelMap::mono()
    } else {
        ChannelMap::stereo()
    };
    (spec, map)
}

fn c_string(name: &str) -> Result<CString, DeviceError> {
    CString::new(name).map_err(|error| DeviceError::System(error.to_string()))
}

fn from_io(error: &std::io::Error) -> DeviceError {
    DeviceError::System(error.to_string())
}

fn from_protocol(error: &ProtocolError) -> DeviceError {
    let is =
        |told: PulseError| matches!(error, ProtocolError::ServerError(error) if *error == told);
    if is(PulseError::AccessDenied) || is(PulseError::AuthKey) {
        DeviceError::Denied
    } else if is(PulseError::Busy) {
        DeviceError::Busy
    } else if is(PulseError::NoEntity) {
        DeviceError::Lost
    } else {
        DeviceError::System(error.to_string())
    }
}

/// What the server says.
enum Event<'a> {
    /// It was recorded.
    Sound(&'a [u8]),
    /// So many bytes more may come: as many were played.
    Wanted(usize),
    /// The stream is at the device of this name from now on.
    Moved(&'a CStr),
    /// Of no consequence.
    Trouble(ErrorKind),
    /// There may be other devices.
    Changed,
    /// Nothing comes any more.
    Ended(ErrorKind),
}

struct Connection {
    reader: BufReader<UnixStream>,
    version: u16,
    sequence: u32,
}

impl Connection {
    fn open() -> Result<Self, DeviceError> {
        let path = pulseaudio::socket_path_from_env().ok_or(DeviceError::Lost)?;
        let socket = UnixStream::connect(path).map_err(|error| from_io(&error))?;
        socket
            .set_read_timeout(Some(ANSWER_LIMIT))
            .map_err(|error| from_io(&error))?;
        let mut connection = Self {
            reader: BufReader::with_capacity(READ_BYTES, socket),
            version: MAX_VERSION,
            sequence: 0,
        };
        let cookie = pulseaudio::cookie_path_from_env()
            .and_then(|path| std::fs::read(path).ok())
            .unwrap_or_default();
        let auth: AuthReply = connection.ask(&Command::Auth(AuthParams {
            version: MAX_VERSION,
            supports_shm: false,
            supports_memfd: false,
            cookie,
        }))?;
        connection.version = auth.version.min(MAX_VERSION);
        let mut props = Props::new();
        props.set(Prop::ApplicationName, c"ahoy");
        props.set(Prop::MediaRole, c"phone");
        let _named: SetClientNameReply = connection.ask(&Command::SetClientName(props))?;
        Ok(connection)
    }

    fn socket(&self) -> Result<UnixStream, DeviceError> {
        let socket = self.reader.get_ref();
        socket.try_clone().map_err(|error| from_io(&error))
    }

    fn ask<R: CommandReply>(&mut self, command: &Command) -> Result<R, DeviceError> {
        let sequence = self.sequence;
        self.sequence += 1;
        write_command_message(self.reader.get_mut(), sequence, command, self.version)
            .and_then(|()| read_reply_message::<R>(&mut self.reader, self.version))
            .map(|(_sequence, reply)| reply)
            .map_err(|error| from_protocol(&error))
    }

    /// Asks for something that is only acknowledged.
    fn tell(&mut self, command: &Command) -> Result<(), DeviceError> {
        let sequence = self.sequence;
        self.sequence += 1;
        write_command_message(self.reader.get_mut(), sequence, command, self.version)
            .and_then(|()| read_ack_message(&mut self.reader))
            .map(|_sequence| ())
            .map_err(|error| from_protocol(&error))
    }

    /// Hands on what comes for this channel, on a thread of its own, until the server or the stream ends.
    fn run(
        mut self,
        channel: u32,
        mut on_event: impl FnMut(Event<'_>) + Send + 'static,
    ) -> Result<Stream, DeviceError> {
        let socket = self.socket()?;
        socket
            .set_read_timeout(None)
            .map_err(|error| from_io(&error))?;
        let thread = std::thread::Builder::new()
            .name("ahoy-pulse".into())
            .spawn(move || {
                let mut payload = Vec::with_capacity(READ_BYTES);
                let kind = loop {
                    match self.read(&mut payload) {
                        Ok(CONTROL) => {
                            if let Err(kind) = self.control(&payload, &mut on_event) {
                                break kind;
                            }
                        }
                        Ok(to) if to == channel => on_event(Event::Sound(&payload)),
                        Ok(_other) => {}
                        Err(kind) => break kind,
                    }
                };
                on_event(Event::Ended(kind));
            })
            .map_err(|error| from_io(&error))?;
        Ok(Stream {
            socket,
            thread: Some(thread),
        })
    }

    fn control(
        &self,
        payload: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ErrorKind> {
        match Command::read_tag_prefixed(&mut &payload[..], self.version) {
            Ok((_sequence, Command::Request(request))) => {
                on_event(Event::Wanted(request.length as usize));
            }
            Ok((_sequence, Command::RecordStreamMoved(moved))) => {
                on_event(Event::Moved(&moved.device_name));
            }
            Ok((_sequence, Command::PlaybackStreamMoved(moved))) => {
                on_event(Event::Moved(&moved.device_name));
            }
            Ok((_sequence, Command::SubscribeEvent(_))) => on_event(Event::Changed),
            Ok((_sequence, Command::PlaybackStreamKilled(_) | Command::RecordStreamKilled(_))) => {
                return Err(ErrorKind::DeviceNotAvailable);
            }
            Ok((_sequence, Command::Overflow(_) | Command::Underflow(_))) => {
                on_event(Event::Trouble(ErrorKind::Xrun));
            }
            // Acknowledgements, and what servers tell that is of no consequence here.
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    /// Until something can be read. Whoever only reads is woken up too when the server has taken what was written to
    /// it: a hundred times a second.
    fn wait(&self) {
        let mut wanted = [PollFd::new(self.reader.get_ref(), PollFlags::IN)];
        // What is wrong with the connection, reading tells.
        poll(&mut wanted, None).unwrap_or(0);
    }

    /// The next message and which channel it is for.
    fn read(&mut self, payload: &mut Vec<u8>) -> Result<u32, ErrorKind> {
        const LOST: ErrorKind = ErrorKind::DeviceNotAvailable;
        if self.reader.buffer().is_empty() {
            self.wait();
        }
        let descriptor = read_descriptor(&mut self.reader).map_err(|_broken| LOST)?;
        let length = descriptor.length as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(ErrorKind::StreamInvalidated);
        }
        payload.resize(length, 0);
        self.reader.read_exact(payload).map_err(|_broken| LOST)?;
        Ok(descriptor.channel)
    }
}

/// How far the buffer was filled and emptied, in samples since the stream began.
#[derive(Debug, Default)]
struct Level {
    written: AtomicI64,
    played: AtomicI64,
}

impl Level {
    /// What is there and not played; what is missing already, if negative.
    fn samples(&self) -> i64 {
        self.written.load(Ordering::Acquire) - self.played.load(Ordering::Acquire)
    }

    /// So many were played. Returns how many of them were not there.
    fn take(&self, samples: usize) -> usize {
        let before = self.samples().max(0);
        let taken = i64::try_from(samples).unwrap_or(i64::MAX);
        self.played.fetch_add(taken, Ordering::AcqRel);
        usize::try_from(taken - before).unwrap_or(0)
    }
}

/// The server's buffer of a stream. What is written late was played as silence, and counts as missing.
#[derive(Debug)]
pub(super) struct ServerBuffer {
    socket: UnixStream,
    channel: u32,
    channels: u8,
    level: Arc<Level>,
    watch: RingWatch,
    /// Lets the stream play, once there is something.
    begin: Vec<u8>,
    /// What is on its way to the server, and how much of it has left.
    message: Vec<u8>,
    sent: usize,
}

impl ServerBuffer {
    /// Sends what the server takes of the message, without waiting. Whether that was all.
    fn flush(&mut self) -> bool {
        while let Some(rest) = self
            .message
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            match send(
                &self.socket,
                rest,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(bytes) => self.sent += bytes,
                Err(rustix::io::Errno::INTR) => {}
                // A server that does not read, or is gone: the stream's thread finds out.
                Err(_) => return false,
            }
        }
        true
    }
}

impl SpeakerBuffer for ServerBuffer {
    fn watch(&self) -> &RingWatch {
        &self.watch
    }

    fn filled_samples(&self) -> usize {
        usize::try_from(self.level.samples()).unwrap_or(0)
    }

    fn put(&mut self, samples: &mut dyn ExactSizeIterator<Item = [f32; 2]>) -> usize {
        let wanted = samples.len();
        let level = self.level.samples();
        let capacity = SAMPLE_RATE_HZ as usize * RING_DURATION.as_millis() as usize / 1000;
        let fits = capacity
            .saturating_sub(usize::try_from(level).unwrap_or(0))
            .min(wanted);
        if fits == 0 || !self.flush() {
            self.watch.note_dropped(wanted);
            return 0;
        }
        self.watch.note_dropped(wanted - fits);
        // The server has played silence where we were late, and throws away what comes for that time.
        let late = usize::try_from(-level).unwrap_or(0);
        let frame = frame_bytes(self.channels);
        let mut header = [0; DESCRIPTOR_SIZE];
        encode_descriptor(
            &mut header,
            &Descriptor {
                length: ((late + fits) * frame) as u32,
                channel: self.channel,
                offset: 0,
                flags: DescriptorFlags::empty(),
            },
        );
        self.sent = 0;
        self.message.clear();
        self.message.extend_from_slice(&header);
        self.message.resize(DESCRIPTOR_SIZE + late * frame, 0);
        for both in samples.take(fits) {
            let [left, right] = left_right(both).map(|s| s.clamp(-1.0, 1.0));
            let mid = both[0].clamp(-1.0, 1.0);
            if self.channels == 1 {
                self.message.extend_from_slice(&mid.to_le_bytes());
            } else {
                self.message.extend_from_slice(&left.to_le_bytes());
                self.message.extend_from_slice(&right.to_le_bytes());
            }
        }
        self.message.append(&mut self.begin);
        let written = i64::try_from(late + fits).unwrap_or(0);
        self.level.written.fetch_add(written, Ordering::AcqRel);
        // What is left of it goes before the next.
        self.flush();
        fits
    }
}
