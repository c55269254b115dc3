//! Streams of a PulseAudio server, or of PipeWire in its place, by the server's own protocol.
//!
//! cpal would do, and is what is used elsewhere. Its streams ask the server for its delay after each callback, and name
//! buffers by which the server's device works in pieces of half a millisecond: together a third of a core. And a speaker
//! behind it has two buffers, of which ours is the one that is not needed: here a block is written to the server as soon
//! as it is there, what the server asks for tells how much of it was played, and so the server's buffer is our ring.
//!
//! One connection per stream and no thread: a worker that wakes up for its own reasons takes in what the server has said
//! meanwhile. Threads that wait for that cost more than what they do. The messages are those of the crate `pulseaudio`, of
//! which cpal's host is made too.

mod inbox;
pub(super) mod others;

use std::{
    ffi::CString, io::BufReader, net::Shutdown, os::unix::net::UnixStream, sync::Arc,
    thread::JoinHandle, time::Duration,
};

use pulseaudio::protocol::{
    AuthParams, AuthReply, ChannelMap, Command, CommandReply, CorkStreamParams,
    CreatePlaybackStreamReply, CreateRecordStreamReply, DESCRIPTOR_SIZE, Descriptor,
    DescriptorFlags, MAX_VERSION, PlaybackStreamParams, Prop, Props, ProtocolError, PulseError,
    RecordStreamParams, SampleFormat, SampleSpec, SetClientNameReply, SubscriptionMask,
    encode_descriptor, read_ack_message, read_reply_message,
    stream::{BufferAttr, StreamFlags},
    write_command_message,
};
use rustix::net::{SendFlags, send};

use self::inbox::{Arrivals, Event, Inbox};
use super::{DeviceClock, DeviceError, stream::Failure};
use crate::audio::{
    SAMPLE_RATE_HZ,
    ring::{Inlet, RING_DURATION, RingWatch, RingWriter, SpeakerBuffer},
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

/// Control messages are for this channel.
const CONTROL: u32 = u32::MAX;

const SAMPLE_BYTES: usize = size_of::<f32>();

/// A stream that is open. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Stream {
    socket: UnixStream,
    /// Of who listens for news.
    thread: Option<JoinHandle<()>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Whoever listens learns of it by that.
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
    writer: RingWriter,
    clock: DeviceClock,
    failure: Arc<Failure>,
) -> Result<(Stream, ServerMicrophone), DeviceError> {
    record_from(Some(name), None, channels, writer, clock, failure)
}

/// Records from the source of this name, or what the stream of this number plays.
fn record_from(
    name: Option<&str>,
    played: Option<u32>,
    channels: u8,
    writer: RingWriter,
    clock: DeviceClock,
    failure: Arc<Failure>,
) -> Result<(Stream, ServerMicrophone), DeviceError> {
    let mut connection = Connection::open()?;
    let (sample_spec, channel_map) = format(channels);
    let created: CreateRecordStreamReply =
        connection.ask(&Command::CreateRecordStream(RecordStreamParams {
            sample_spec,
            channel_map,
            source_name: name.map(c_string).transpose()?,
            direct_on_input_index: played,
            buffer_attr: BufferAttr {
                max_length: u32::MAX,
                fragment_size: RECORDED_SAMPLES * frame_bytes(channels) as u32,
                ..BufferAttr::default()
            },
            flags: FLAGS,
            ..RecordStreamParams::default()
        }))?;
    let (stream, inbox) = connection.open_stream(created.channel)?;
    let microphone = ServerMicrophone {
        inbox,
        channels,
        samples: Vec::with_capacity(RECORDED_SAMPLES as usize * usize::from(channels)),
        writer,
        arrivals: Arrivals::default(),
        clock,
        failure,
    };
    Ok((stream, microphone))
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
    let watch = RingWatch::default();
    let mut begin = Vec::new();
    let uncork = Command::CorkPlaybackStream(CorkStreamParams {
        channel: created.channel,
        cork: false,
    });
    write_command_message(&mut begin, connection.sequence, &uncork, connection.version)
        .map_err(|error| from_protocol(&error))?;
    // It is ready, which is as good as a first call.
    watch.note_callback(clock.now(), 0);
    let socket = connection.socket()?;
    let (stream, inbox) = connection.open_stream(created.channel)?;
    let buffer = ServerBuffer {
        inbox,
        socket,
        channel: created.channel,
        channels,
        level: Level::default(),
        arrivals: Arrivals::default(),
        clock,
        failure,
        watch,
        begin,
        message: Vec::new(),
        sent: 0,
    };
    Ok((stream, buffer))
}

/// Tells, on a thread of its own, that there may be other devices or another default; with `false` that it tells no
/// more.
pub(super) fn watch(on_change: impl FnMut(bool) + Send + 'static) -> Result<Stream, DeviceError> {
    let mask = SubscriptionMask::SINK | SubscriptionMask::SOURCE | SubscriptionMask::SERVER;
    follow(mask, on_change)
}

/// The same with what is in `mask`.
fn follow(
    mask: SubscriptionMask,
    mut on_change: impl FnMut(bool) + Send + 'static,
) -> Result<Stream, DeviceError> {
    let mut connection = Connection::open()?;
    connection.tell(&Command::Subscribe(mask))?;
    let (mut stream, mut inbox) = connection.open_stream(CONTROL)?;
    let thread = std::thread::Builder::new()
        .name("ahoy-pulse".into())
        .spawn(move || {
            while !inbox.is_over() {
                inbox.fetch(None, |event, _| match event {
                    Event::Changed => on_change(true),
                    Event::Ended(_) => on_change(false),
                    Event::Sound(_) | Event::Wanted(_) | Event::Moved(_) | Event::Trouble(_) => {}
                });
            }
        })
        .map_err(|error| from_io(&error))?;
    stream.thread = Some(thread);
    Ok(stream)
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
            reader: BufReader::new(socket),
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
        props.set(
            Prop::ApplicationProcessId,
            &*c_string(&std::process::id().to_string())?,
        );
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

    /// From here on there are only news, and what comes for this channel.
    fn open_stream(self, channel: u32) -> Result<(Stream, Inbox), DeviceError> {
        let stream = Stream {
            socket: self.socket()?,
            thread: None,
        };
        let begun = self.reader.buffer().to_vec();
        let inbox = Inbox::new(self.reader.into_inner(), self.version, channel, begun);
        Ok((stream, inbox))
    }
}

/// The server's end of a microphone.
#[derive(Debug)]
pub(super) struct ServerMicrophone {
    inbox: Inbox,
    channels: u8,
    samples: Vec<f32>,
    writer: RingWriter,
    arrivals: Arrivals,
    clock: DeviceClock,
    failure: Arc<Failure>,
}

impl Inlet for ServerMicrophone {
    fn fetch(&mut self, limit: Duration) {
        let channels = usize::from(self.channels);
        self.inbox
            .fetch(Some(limit), |event, expected| match event {
                Event::Sound(bytes) => {
                    self.samples.clear();
                    let (whole, _rest) = bytes.as_chunks::<SAMPLE_BYTES>();
                    let samples = whole.iter().map(|&bytes| f32::from_le_bytes(bytes));
                    self.samples.extend(samples);
                    let frames = self.samples.len() / channels;
                    let came = self.arrivals.note(self.clock.now(), frames, expected);
                    self.writer
                        .write_from_device(&self.samples, channels, came, |s| s);
                }
                Event::Wanted(_) | Event::Changed => {}
                Event::Moved(name) => self.failure.note_moved(name),
                Event::Trouble(kind) | Event::Ended(kind) => self.failure.note(kind),
            });
    }

    fn is_unsure(&self) -> bool {
        self.arrivals.are_unsure()
    }
}

/// How far the buffer was filled and emptied, in samples since the stream began.
#[derive(Debug, Default)]
struct Level {
    written: i64,
    played: i64,
}

impl Level {
    /// What is there and not played; what is missing already, if negative.
    fn samples(&self) -> i64 {
        self.written - self.played
    }

    /// So many were played. Returns how many of them were not there.
    fn take(&mut self, samples: usize) -> usize {
        let before = self.samples().max(0);
        let taken = i64::try_from(samples).unwrap_or(i64::MAX);
        self.played += taken;
        usize::try_from(taken - before).unwrap_or(0)
    }
}

/// The server's buffer of a stream. What is written late was played as silence, and counts as missing.
#[derive(Debug)]
pub(super) struct ServerBuffer {
    inbox: Inbox,
    socket: UnixStream,
    channel: u32,
    channels: u8,
    level: Level,
    arrivals: Arrivals,
    clock: DeviceClock,
    failure: Arc<Failure>,
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
                // A server that does not read, or is gone: what is heard of it tells.
                Err(_) => return false,
            }
        }
        true
    }
}

impl Inlet for ServerBuffer {
    fn fetch(&mut self, limit: Duration) {
        let frame = frame_bytes(self.channels);
        self.inbox
            .fetch(Some(limit), |event, expected| match event {
                Event::Wanted(bytes) => {
                    let samples = bytes / frame;
                    let missing = self.level.take(samples);
                    self.watch.note_missing(missing);
                    let came = self.arrivals.note(self.clock.now(), samples, expected);
                    self.watch.note_callback(came, samples);
                }
                Event::Sound(_) | Event::Changed => {}
                Event::Moved(name) => self.failure.note_moved(name),
                Event::Trouble(kind) | Event::Ended(kind) => self.failure.note(kind),
            });
    }

    fn is_unsure(&self) -> bool {
        self.arrivals.are_unsure()
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
        self.level.written += written;
        // What is left of it goes before the next.
        self.flush();
        fits
    }
}
