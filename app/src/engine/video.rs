//! Pictures of one call: from a source through the codec to the session, and back to where they are shown.
//!
//! They travel beside the sound, in flows of their own: packets of pictures in one, and what their receiver asks of
//! their sender in another. The session knows both as datagrams with a class and an expiry.
//!
//! The source is clocked by the runtime, so files and the test pattern work in the simulator too. Encoding and decoding
//! take long: in a program they have threads of their own ([`VideoSettings::threads`]), and the tasks only hand over;
//! in the simulator they are done in no time, where virtual time stands, or take what they are said to
//! ([`VideoSettings::takes`]).

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ahoy_media::{
    rate::Bitrate,
    time::{BLOCK_SAMPLES, RtpTimestamp, duration_of, samples_in},
    video::{
        codec::{Content, VideoCodec},
        frame::Size,
        latest::Latest,
        recv::VideoRecvStats,
        reference::Likeness,
        send::VideoSendStats,
        source::{BLACK_SENTENCE, SourceNews, SourceNewsKind},
        trouble::SourceTrouble,
    },
};
use ahoy_transport::{
    bwe::Estimate,
    datagram::{Priority, Waiting},
};
use bytes::Bytes;
use tokio::sync::watch;

use super::media::BlockLog;
use crate::{
    report::{Percentiles, VideoFrames, VideoPackets, VideoReport},
    signal::{VideoCapabilities, VideoCodecs, VideoFeatures},
};

#[cfg_attr(not(feature = "video"), path = "video/absent.rs")]
mod running;
pub mod view;

pub(super) use running::Video;
#[cfg(all(feature = "video", feature = "window"))]
pub(crate) use running::{Mirror, Told as MirrorTold};

/// The flow that packets of pictures travel in.
pub(super) const PICTURE_FLOW: u64 = 2;
/// The flow of what their receiver asks: see [`ahoy_media::video::feedback`].
pub(super) const REQUEST_FLOW: u64 = 3;

/// The flow of what a sender tells of its clocks: see [`ahoy_media::sync`].
pub(super) const MOMENT_FLOW: u64 = 4;

/// Datagrams that wait for the task that takes them: two key frames of the largest kind.
pub(super) const PICTURE_QUEUE: usize = 2048;

/// A request is of use so long: the next one asks for all that is still missing.
#[cfg(feature = "video")]
const REQUEST_EXPIRY: Duration = Duration::from_millis(300);

/// Pictures whose instants are remembered for a delay measurement: an hour of 30 per second.
#[cfg(feature = "video")]
const MAX_LOGGED: usize = 108_000;

/// Samples of a block.
const BLOCK: i64 = BLOCK_SAMPLES as i64;

/// The largest picture that is shown, and the most per second.
const MAX_SHOWN: (u16, u16, u8) = (3840, 2160, 60);

/// Where a call's pictures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoIn {
    /// A film, over and over.
    File(PathBuf),
    /// The test pattern.
    Pattern {
        /// Of its pictures.
        size: Size,
        /// Pictures per second.
        fps: u32,
    },
    /// A monitor, all of them, or a window, as `ahoy_media::video::screen::ScreenTarget` reads it.
    Screen {
        /// Which.
        target: String,
        /// Pictures per second at most.
        fps: u32,
    },
    /// A camera.
    Camera {
        /// Its id, as `ahoy doctor` tells it; the first that works where none is named.
        id: Option<String>,
        /// Of its pictures, as near as it can.
        size: Size,
        /// Pictures per second, as near as it can.
        fps: u32,
    },
}

impl VideoIn {
    /// Whether people who watch themselves are used to see it as in a mirror. The test pattern stands in for a camera.
    #[must_use]
    pub const fn is_mirrored(&self) -> bool {
        match self {
            Self::Camera { .. } | Self::Pattern { .. } => true,
            Self::File(_) | Self::Screen { .. } => false,
        }
    }
}

/// What is shown to the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Showing {
    /// From where.
    pub input: VideoIn,
    /// Encoded as this; absent: as what moves, but screens as what they seem to show.
    pub content: Option<Content>,
}

/// Where a call's pictures go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoOut {
    /// A file, every picture once.
    File(PathBuf),
    /// A window, the newest one.
    Window(Latest),
    /// They are decoded and forgotten.
    Null,
}

/// Where a window finds pictures.
#[derive(Debug, Clone, Default)]
pub struct WindowPictures {
    /// Of the other side.
    pub theirs: Latest,
    /// What we send, small.
    pub own: Latest,
}

/// How long the work on a picture takes in a simulation, whose time stands still meanwhile: on average, evenly
/// distributed from half to one and a half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CodecTimes {
    /// To encode it.
    pub encode: Duration,
    /// To decode it.
    pub decode: Duration,
}

/// How a device sends and shows pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoSettings {
    /// Source; without one, no pictures are sent.
    pub input: Option<VideoIn>,
    /// Sink; without one, none are asked for.
    pub output: Option<VideoOut>,
    /// Where we see what we send ourselves.
    pub preview: Option<Latest>,
    /// What the other side sends, if it is at hand: what is shown is compared with it, by the numbers in the pictures.
    pub reference: Option<VideoIn>,
    /// Send in this codec and no other.
    pub codec: Option<VideoCodec>,
    /// Send no more than this, of pictures alone; absent: what the line carries and the pictures are worth.
    pub max_rate: Option<Bitrate>,
    /// Encode as this; absent: as what moves, but screens as what they seem to show.
    pub content: Option<Content>,
    /// Encode and decode on threads of their own. Not in the simulator, whose time stands still meanwhile.
    pub threads: bool,
    /// How long that takes where nothing has a thread. Nothing but a simulation has another than none.
    pub takes: CodecTimes,
    /// Ask for lost packets, and send them again.
    pub retransmission: bool,
    /// Send parity where the way is long, and take it.
    pub parity: bool,
    /// Send parity on short ways as well. Off only in tests.
    pub parity_near: bool,
    /// Send parity later where bursts would take it with its frame. Off only in tests.
    pub spread: bool,
    /// One layer in time while next to nothing is lost. Off only in tests.
    pub single_layer: bool,
    /// Go by what really waits to be sent, and let what is late make room. Off only in tests.
    pub follow_queue: bool,
    /// Send what stands still seldom, to those who know of it. Off only in tests.
    pub still: bool,
    /// Show pictures when their sound is heard. Off only in tests.
    pub lip_sync: bool,
    /// Let sound wait a little for pictures that are regularly late. Off only in tests.
    pub sound_wait: bool,
    /// Decode nothing for a window that nobody looks at. Off only in tests.
    pub look_away: bool,
}

impl Default for VideoSettings {
    fn default() -> Self {
        Self {
            input: None,
            output: None,
            preview: None,
            reference: None,
            codec: None,
            max_rate: None,
            content: None,
            threads: true,
            takes: CodecTimes::default(),
            retransmission: true,
            parity: true,
            parity_near: true,
            spread: true,
            single_layer: true,
            follow_queue: true,
            still: true,
            lip_sync: true,
            sound_wait: true,
            look_away: true,
        }
    }
}

impl VideoSettings {
    /// Where windows find pictures.
    #[cfg(feature = "video")]
    fn windows(&self) -> impl Iterator<Item = &Latest> {
        let theirs = match &self.output {
            Some(VideoOut::Window(latest)) => Some(latest),
            Some(VideoOut::File(_) | VideoOut::Null) | None => None,
        };
        theirs.into_iter().chain(&self.preview)
    }

    /// Where it is drawn what comes, if decoding rests while nobody looks there.
    #[cfg(feature = "video")]
    fn watched_window(&self) -> Option<&Latest> {
        match &self.output {
            Some(VideoOut::Window(latest)) if self.look_away => Some(latest),
            Some(VideoOut::Window(_) | VideoOut::File(_) | VideoOut::Null) | None => None,
        }
    }

    /// What comes from now on is seen.
    #[cfg(feature = "video")]
    fn open_windows(&self) {
        self.windows().for_each(|latest| latest.set_hidden(false));
    }

    /// Nothing is seen any more.
    #[cfg(feature = "video")]
    fn close_windows(&self) {
        self.windows().for_each(|latest| latest.set_hidden(true));
    }

    /// What the other side is told that we show. None in a build without codecs.
    #[must_use]
    pub fn shows(&self) -> Option<VideoCapabilities> {
        let (max_width, max_height, max_fps) = MAX_SHOWN;
        let features = [
            (VideoFeatures::RETRANSMISSION, self.retransmission),
            (VideoFeatures::PARITY, self.parity),
            (VideoFeatures::STILL, self.still),
        ]
        .into_iter()
        .filter(|(_, on)| *on)
        .fold(VideoFeatures::NONE, |set, (feature, _)| set.with(feature));
        let wanted = self.output.is_some() && cfg!(feature = "video");
        wanted.then_some(VideoCapabilities {
            codecs: VideoCodecs::AV1.with(VideoCodecs::H264),
            max_width,
            max_height,
            max_fps,
            features,
        })
    }
}

/// Something happened to the pictures of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureNews {
    /// What.
    pub kind: PictureNewsKind,
    /// What, for a person, and what to do, in English.
    pub sentence: String,
    /// The same by type, where it is trouble.
    pub trouble: Option<PictureTrouble>,
}

/// What is wrong with the pictures of a call, and what to do. As text it is English.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureTrouble {
    /// With what we show.
    #[error("{0}")]
    Source(SourceTrouble),
    /// What we show is black to the other side, as Wayland has it.
    #[error("{}", BLACK_SENTENCE)]
    Black,
    /// The other side shows no pictures.
    #[error(
        "The other side shows no pictures, so none are sent; you are heard all the same. It can ask for them with \
         --video-out, if its ahoy was built with pictures."
    )]
    NotShown,
    /// The other side shows none in a codec of ours.
    #[error(
        "The other side shows no pictures in a codec that we may send, so none are sent; you are heard all the same. \
         Leave out --video-codec, or let it update its ahoy."
    )]
    NoCodec,
    /// The encoder refuses ours.
    #[error("Your picture is not sent ({0}); that is tried again with each one.")]
    NotEncoded(String),
    /// The decoder refuses theirs.
    #[error(
        "A picture of the other side cannot be decoded, so the last one stays; a new one is asked for. If that goes on, \
         one of you should update ahoy."
    )]
    Undecodable,
    /// None of ours leave.
    #[error(
        "Your picture is not sent at the moment: the connection carries too little for it, or this machine is busy. You \
         are heard, and it comes back by itself."
    )]
    Stuck,
    /// This program knows none.
    #[error("this ahoy was built without pictures")]
    NotBuilt,
    /// Nobody is there yet.
    #[error("pictures can be shown once you talk")]
    NotYet,
    /// Nobody would see them.
    #[error("the other side shows no pictures; you are heard all the same")]
    NobodySees,
    /// What was to be shown cannot be opened.
    #[error("{0}")]
    Open(String),
}

impl From<SourceNews> for PictureNews {
    fn from(news: SourceNews) -> Self {
        let is_black = news.kind == SourceNewsKind::Black;
        Self {
            kind: PictureNewsKind::Source(news.kind),
            sentence: news.sentence,
            trouble: match news.trouble {
                Some(trouble) => Some(PictureTrouble::Source(trouble)),
                None => is_black.then_some(PictureTrouble::Black),
            },
        }
    }
}

/// What happened to the pictures of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PictureNewsKind {
    /// To the camera, the screen or the window that we show.
    Source(SourceNewsKind),
    /// The other side shows no pictures, or none in a codec of ours: none are sent.
    NotShown,
    /// Pictures of the other side cannot be decoded; new ones were asked for.
    Undecodable,
    /// They can be decoded again.
    Decodable,
    /// Ours cannot be encoded; that is tried again with each.
    NotEncoded,
}

impl PictureNewsKind {
    /// Its name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source(news) => news.name(),
            Self::NotShown => "not_shown",
            Self::Undecodable => "undecodable",
            Self::Decodable => "decodable",
            Self::NotEncoded => "not_encoded",
        }
    }

    /// Whether it is something that a person would want to do something about.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        match self {
            Self::Source(SourceNewsKind::Trouble(_) | SourceNewsKind::Black)
            | Self::NotShown
            | Self::Undecodable
            | Self::NotEncoded => true,
            Self::Source(
                SourceNewsKind::Opened | SourceNewsKind::Back | SourceNewsKind::Content(_),
            )
            | Self::Decodable => false,
        }
    }
}

/// News that wait for the engine, which looks several times a second.
#[cfg(feature = "video")]
const MAX_NEWS: usize = 32;

/// When each picture was taken, or shown. For measuring from camera to screen where both ends share a clock.
#[derive(Debug, Default)]
pub struct PictureLog(Mutex<Vec<(RtpTimestamp, Instant)>>);

impl PictureLog {
    #[cfg(feature = "video")]
    fn record(&self, time: RtpTimestamp, at: Instant) {
        let mut pictures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pictures.len() < MAX_LOGGED {
            pictures.push((time, at));
        }
    }

    /// The pictures so far: what they say of themselves, and when it was.
    #[must_use]
    pub fn pictures(&self) -> Vec<(RtpTimestamp, Instant)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Logs of both ways of one device.
#[derive(Debug, Clone, Default)]
pub struct VideoProbe {
    /// Pictures taken.
    pub taken: Arc<PictureLog>,
    /// Pictures shown.
    pub shown: Arc<PictureLog>,
}

/// A datagram of one of the two flows, and when it came.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "video"),
    expect(dead_code, reason = "nobody takes it in a build without codecs")
)]
pub(super) struct PictureArrival {
    pub(super) flow: u64,
    pub(super) at: Instant,
    pub(super) payload: Bytes,
}

/// The way of pictures to the other side.
#[derive(Clone)]
#[cfg_attr(
    not(feature = "video"),
    expect(dead_code, reason = "nobody sends in a build without codecs")
)]
pub(super) struct PictureLine {
    /// Hands a datagram to the session: in which flow, what, how urgent, and of use until when.
    pub(super) send: Arc<dyn Fn(u64, Bytes, Priority, Instant) + Send + Sync>,
    /// What of pictures waits there for its turn.
    pub(super) waiting: Arc<dyn Fn() -> Waiting + Send + Sync>,
    /// Takes back all packets of pictures that still wait.
    pub(super) withdraw: Arc<dyn Fn() + Send + Sync>,
    /// What the path in use carries.
    pub(super) estimate: watch::Receiver<Option<Estimate>>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct VideoStats {
    /// Of what we send, if anything.
    pub(super) sent: Option<VideoSendStats>,
    /// Of what we show.
    pub(super) received: Option<VideoRecvStats>,
    /// Beside what was sent, if that is at hand.
    pub(super) likeness: Option<Likeness>,
    /// How far pictures were from their sound when they were shown.
    pub(super) skew: Option<Percentiles>,
    /// How much longer than by itself sound waited when they were shown.
    pub(super) sound_waits: Option<Percentiles>,
}

/// Counters as they are reported; `sent_for` is how long we have been sending, `lost` what the session missed.
pub(super) fn report(stats: &VideoStats, sent_for: Duration, lost: Option<u64>) -> VideoReport {
    let round = |value: f64, places: f64| (value * places).round() / places;
    let VideoStats {
        sent,
        received,
        likeness,
        skew,
        sound_waits,
    } = stats;
    let bitrate = |codec_bytes: u64| {
        let seconds = sent_for.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is positive"
        )]
        (seconds > 0.0).then(|| (codec_bytes as f64 * 8.0 / seconds) as u64)
    };
    let size = received.and_then(|received| received.size);
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    VideoReport {
        codec: received
            .and_then(|received| received.codec)
            .map(|codec| codec.name().to_owned()),
        width: size.map(Size::width),
        height: size.map(Size::height),
        fps: received
            .and_then(|received| received.fps())
            .map(|fps| round(fps, 100.0)),
        bitrate_bps: sent.and_then(|sent| bitrate(sent.codec_bytes)),
        frames: VideoFrames {
            sent: sent.map(|sent| sent.frames),
            decoded: received.map(|received| received.decoded),
            rendered: received.map(|received| received.rendered),
            dropped: received.map(|received| received.decoded.saturating_sub(received.rendered)),
            identified: likeness.map(|likeness| likeness.identified),
        },
        packets: VideoPackets {
            sent: sent.map(|sent| sent.packets),
            resent: sent.map(|sent| sent.resent),
            received: received.map(|received| received.buffer.packets),
            lost: lost.filter(|_| received.is_some()),
            recovered: received.map(|received| received.buffer.recovered),
            parity: sent.map(|sent| sent.parity),
            restored: received.map(|received| received.buffer.restored),
            key_requests: received.map(|received| received.buffer.key_requests),
        },
        freezes: received.map(|received| received.freezes),
        frozen_ms: received.map(|received| millis(received.frozen)),
        longest_freeze_ms: received.map(|received| millis(received.longest_freeze)),
        skew_ms: *skew,
        measured_skew_ms: None,
        sound_waits_ms: *sound_waits,
        capture_to_render_ms: None,
        psnr_db: likeness
            .and_then(|likeness| likeness.psnr_db)
            .map(|psnr| round(psnr, 1000.0)),
    }
}

/// From taking to showing, where both ends share a clock.
#[must_use]
pub fn capture_to_render(taken: &VideoProbe, shown: &VideoProbe) -> Option<Percentiles> {
    let taken: BTreeMap<u32, Instant> = taken
        .taken
        .pictures()
        .into_iter()
        .map(|(time, at)| (time.0, at))
        .collect();
    let mut delays = crate::report::Histogram::default();
    for (time, at) in shown.shown.pictures() {
        if let Some(taken) = taken.get(&time.0) {
            delays.record(at.saturating_duration_since(*taken));
        }
    }
    delays.percentiles()
}

/// How far pictures were from their sound when they were shown, by the logs of both ends, where these share a clock:
/// what was taken in one moment by one, beside when the other heard it and saw it.
#[must_use]
pub fn measured_skew(
    (spoken, taken): (&BlockLog, &PictureLog),
    (heard, shown): (&BlockLog, &PictureLog),
) -> Option<Percentiles> {
    let spoken = spoken.blocks();
    let origin = spoken.first()?.time?;
    let samples = |time: RtpTimestamp| i64::from(time.since(origin));
    let heard: BTreeMap<i64, Instant> = heard
        .blocks()
        .into_iter()
        .filter_map(|block| Some((samples(block.time?), block.at)))
        .collect();
    let taken: BTreeMap<u32, Instant> = taken
        .pictures()
        .into_iter()
        .map(|(time, at)| (time.0, at))
        .collect();
    let mut skews = crate::report::Histogram::default();
    for (time, shown) in shown.pictures() {
        let Some(taken) = taken.get(&time.0) else {
            continue;
        };
        // A block is handed over when its last sample was said.
        let block = spoken.partition_point(|block| block.at <= *taken);
        let Some(block) = spoken.get(block) else {
            continue;
        };
        let before_end = samples_in(block.at.saturating_duration_since(*taken));
        let Some(said) = block.time.map(|time| samples(time) + BLOCK - before_end) else {
            continue;
        };
        let Some((first, at)) = heard.range(..=said).next_back() else {
            continue;
        };
        // What was lost was heard by nobody.
        let Some(into) = u64::try_from(said - first)
            .ok()
            .filter(|into| *into < 2 * BLOCK as u64)
        else {
            continue;
        };
        let heard = *at + duration_of(into);
        skews.record(heard.max(shown) - heard.min(shown));
    }
    skews.percentiles()
}
