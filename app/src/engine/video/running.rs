//! Pictures that run.

mod eye;
mod hands;
#[cfg(feature = "window")]
mod mirror;
mod open;
mod preview;
#[cfg(feature = "window")]
mod scan;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ahoy_media::{
    loss::Loss,
    rate::Bitrate,
    record::{RecordTap, Side},
    sync::{LONGEST_WAIT, LipSync, Moment},
    time::RtpTimestamp,
    video::{
        codec::{Content, VideoCodec, VideoConfig},
        frame::{Frame, Size},
        frame_buffer::{FrameBufferConfig, ReceivedFrame},
        latest::Latest,
        packet::{CLOCK_HZ, timestamp},
        recv::{DecodableFrame, PictureClock, VideoRecv, VideoRecvConfig},
        reference::Reference,
        send::{Class, Plan, VideoOut as Packet, VideoSend, VideoSendConfig, Waiting},
        sink::VideoSink,
        source::{SourceNewsKind, VideoSource},
        stage::{DecodeStage, EncodeStage},
    },
};
use ahoy_transport::{
    bwe::Estimate,
    datagram::Priority,
    runtime::{Runtime, RuntimeExt, Task},
};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

#[cfg(feature = "window")]
pub(crate) use self::mirror::{Mirror, Told};
use self::{
    eye::{Eye, Look},
    hands::Hands,
    open::{open_show, open_source},
    preview::Preview,
};
use super::{
    MAX_NEWS, MOMENT_FLOW, PICTURE_FLOW, PictureArrival, PictureLine, PictureNews, PictureNewsKind,
    PictureTrouble, REQUEST_EXPIRY, REQUEST_FLOW, Showing, VideoIn, VideoOut, VideoProbe,
    VideoSettings, VideoStats,
};
use crate::{
    engine::media::{MediaError, SoundClocks},
    report::Histogram,
    signal::{VideoCapabilities, VideoCodecs, VideoFeatures},
};

/// Frames that wait for the decoder: what comes at once after a gap. More wait in the frame buffer.
const DECODE_QUEUE: usize = 4;

/// Datagrams that are taken in one go before frames are looked for.
const TAKEN_AT_ONCE: usize = 64;

/// Pictures are not made up for after the machine slept, or was too busy for so long.
const MAX_CATCH_UP: Duration = Duration::from_millis(500);

/// Of what the voice leaves, pictures take so much at most, in percent: the rest is for what is asked for again, and for
/// an estimate that is a little too high.
const SHARE_PERCENT: u64 = 95;

/// More than this for each pixel and picture is not seen, in thousandths of a bit.
const MAX_MILLIBITS_PER_PIXEL: u64 = 150;

/// A picture that has come is not held back while the one before it stands for longer than this, and twice as long as it
/// should: where the sound was late all at once, pictures become slower, and do not stop.
const LONGEST_STILL: Duration = Duration::from_millis(100);

/// Frames that wait for their sound at most: what comes at once behind a gap, and the longest wait at 60 per second.
const MAX_HELD: usize = 64;

/// The sender's clocks are told so often at first, since what is told may be lost, and later.
const MOMENTS_AT_FIRST: u32 = 10;
const MOMENT_EVERY_AT_FIRST: Duration = Duration::from_millis(200);
const MOMENT_EVERY: Duration = Duration::from_secs(1);

/// How long decoding takes is a mean over so many frames, of which none counts more than this.
const DECODING_MEAN_OF: u32 = 16;
const MAX_DECODING: Duration = Duration::from_millis(100);

/// Layers in time.
const TEMPORAL_LAYERS: u8 = 3;

/// Threads that encode, and that decode, where there are threads.
const CODEC_THREADS: u8 = 2;

/// What is expected of a source before there is one.
const USUAL_SIZE: (u32, u32) = (1280, 720);
const USUAL_INTERVAL: Duration = Duration::from_millis(33);

/// A change of the source waits so long for an encoder that is busy.
const CHANGE_RETRY: Duration = Duration::from_millis(5);

/// While none are sent, pictures are taken so often for those who watch themselves.
const GLANCE_EVERY: Duration = Duration::from_millis(66);

/// How much trouble the encoder takes: see [`VideoConfig::effort`].
const EFFORT: u8 = 2;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct SendHalf {
    pipeline: VideoSend,
    /// What the path carries, and what the voice takes of it.
    capacity: Option<Estimate>,
    voice: Bitrate,
    /// Of the source.
    fps: u32,
    /// No more is sent, whatever it shows.
    limit: Option<Bitrate>,
    /// There is one.
    has_source: bool,
    /// There was one.
    had_source: bool,
    is_held: bool,
}

/// What is worth sending of pictures of this size, and may be.
fn most(size: Size, fps: u32, limit: Option<Bitrate>) -> Bitrate {
    let pixels = size.pixels() as u64 * u64::from(fps);
    let worth = Bitrate(u32::try_from(pixels * MAX_MILLIBITS_PER_PIXEL / 1000).unwrap_or(u32::MAX));
    limit.map_or(worth, |limit| worth.min(limit))
}

impl SendHalf {
    /// The source has pictures of this size, and shows this.
    fn set_source(&mut self, size: Size, content: Content) {
        self.pipeline
            .set_source(size, content, most(size, self.fps, self.limit));
    }

    /// Another source gives pictures, or none does. What comes next stands by itself.
    fn change_source(&mut self, source: Option<(Size, u32, Content)>) {
        self.has_source = false;
        self.pause();
        if let Some((size, fps, content)) = source {
            self.has_source = true;
            self.had_source = true;
            self.fps = fps;
            self.pipeline.set_fps(fps);
            self.set_source(size, content);
            self.pause();
        }
    }

    fn pause(&mut self) {
        self.pipeline.set_paused(self.is_held || !self.has_source);
    }

    fn share(&mut self, now: Instant) {
        let Some(estimate) = self.capacity else {
            return;
        };
        let left = |bps: u64| {
            let left = bps.saturating_sub(self.voice.bps().into()) * SHARE_PERCENT / 100;
            Bitrate(u32::try_from(left).unwrap_or(u32::MAX))
        };
        let rate = left(estimate.capacity_bps);
        // Nothing passes while a queue drains, but the codec need not hear of it.
        let pace = left(estimate.target_bps);
        self.pipeline.set_rate(now, rate, pace);
        let loss = Loss {
            fraction: f32::from(estimate.lost_permille) / 1000.0,
            mean_burst: f32::from(estimate.lost_in_a_row_tenths) / 10.0,
        };
        self.pipeline.set_line_loss(Some(loss));
    }
}

struct RecvHalf {
    pipeline: VideoRecv,
    clock: PictureClock,
    sync: LipSync,
    /// From giving a frame to the decoder until its picture is shown.
    decoding: Duration,
    skew: Histogram,
    sound_waits: Histogram,
}

/// Where pictures are shown.
struct Show {
    sink: Box<dyn VideoSink>,
    reference: Option<Reference>,
    errors: u64,
}

struct Shared {
    /// None where the other side shows nothing of ours.
    send: Option<Mutex<SendHalf>>,
    /// Another source, or none from now on, for the task that takes pictures.
    change: Mutex<Option<Option<Next>>>,
    changed: Notify,
    /// Where we see what we send.
    preview: Option<Latest>,
    recv: Option<Mutex<RecvHalf>>,
    /// None once it is over: then the recording is complete.
    show: Mutex<Option<Show>>,
    last_shown: Mutex<VideoStats>,
    probe: Option<VideoProbe>,
    line: PictureLine,
    news: Mutex<VecDeque<PictureNews>>,
    follow_queue: bool,
    /// Sound waits for pictures, and not these alone for it.
    sound_wait: bool,
    clocks: SoundClocks,
    /// Where it is drawn what comes, if that is to rest while nobody looks.
    window: Option<Latest>,
    /// Where pictures are recorded, of both sides.
    tap: Mutex<Option<RecordTap>>,
    /// The decoder has room again, or refused something.
    wake: Notify,
}

impl Shared {
    fn tell(&self, news: PictureNews) {
        let mut waiting = lock(&self.news);
        if waiting.len() < MAX_NEWS {
            waiting.push_back(news);
        }
    }

    fn tell_trouble(&self, kind: PictureNewsKind, trouble: PictureTrouble) {
        self.tell(PictureNews {
            kind,
            sentence: trouble.to_string(),
            trouble: Some(trouble),
        });
    }

    fn send_all(&self, packets: Vec<Packet>) {
        for Packet {
            bytes,
            class,
            expires,
            replaces,
        } in packets
        {
            if replaces && self.follow_queue {
                (self.line.withdraw)();
            }
            let priority = match class {
                Class::Repair => Priority::Repair,
                Class::Base => Priority::VideoBase,
                Class::Rest => Priority::Video,
            };
            (self.line.send)(PICTURE_FLOW, bytes.into(), priority, expires);
        }
    }

    /// Lets the sender know what waits to leave.
    fn look_at_queue(&self, now: Instant, send: &mut SendHalf) {
        if self.follow_queue {
            let waiting = (self.line.waiting)();
            let waiting = Waiting {
                bytes: waiting.wire_bytes,
                age: waiting
                    .since
                    .map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
                is_held: waiting.is_held,
            };
            send.pipeline.set_waiting(now, waiting);
        }
    }

    /// Tells the other side which sound belongs to the picture of `taken`, if there is sound.
    fn tell_moment(&self, now: Instant, taken: Duration, is_text: bool) -> bool {
        let Some(sound) = lock(&self.clocks.taken).sample_at(now) else {
            return false;
        };
        let picture = timestamp(taken);
        let moment = Moment {
            sound,
            picture,
            is_text,
        }
        .encode();
        let payload = Bytes::copy_from_slice(&moment);
        (self.line.send)(
            MOMENT_FLOW,
            payload,
            Priority::Request,
            now + REQUEST_EXPIRY,
        );
        true
    }

    /// Records a picture of the other side that is shown `now`, by so many seconds before its sound. What is recorded need
    /// not wait: it is put where its sound is.
    fn record(&self, now: Instant, lead: Option<f64>, frame: &DecodableFrame, size: Size) {
        let Some(tap) = &*lock(&self.tap) else { return };
        let lead = lead.filter(|lead| lead.abs() < LONGEST_WAIT.as_secs_f64());
        let lead = lead.unwrap_or(0.0);
        let by = Duration::try_from_secs_f64(lead.abs()).unwrap_or_default();
        let at = if lead > 0.0 {
            now + by
        } else {
            now.checked_sub(by).unwrap_or(now)
        };
        let ReceivedFrame { bytes, is_key, .. } = &frame.frame;
        tap.picture(Side::Theirs, at, frame.codec, bytes, *is_key, size);
    }

    /// Whether what comes is decoded: somebody looks, or wants to keep it.
    fn is_watched(&self) -> bool {
        let is_drawn = self.window.as_ref().is_none_or(Latest::is_watched);
        is_drawn || lock(&self.tap).is_some()
    }

    /// How long a frame still waits before it goes to the decoder, so that its picture is shown with its sound.
    fn wait(&self, now: Instant, recv: &RecvHalf, frame: &DecodableFrame) -> Duration {
        let heard = *lock(&self.clocks.heard);
        recv.sync
            .wait(now, frame.frame.timestamp, &heard)
            .saturating_sub(recv.decoding)
    }
}

/// What the thread that encodes does.
enum Job {
    /// Take pictures from there from now on. That ends the one before.
    Source(Option<Next>),
    /// Take a picture and send it: it was due at the instant.
    Shot(Shot, Instant),
    /// Take a picture for whoever watches themselves.
    Glance { index: u64, taken: Duration },
}

/// A source that is to be looked at.
struct Next {
    eye: Eye,
    input: VideoIn,
}

/// A picture to be encoded.
struct Shot {
    /// Which one of the source's.
    index: u64,
    taken: Duration,
    config: VideoConfig,
    key: bool,
}

/// Pictures that run. Dropping it ends them.
pub(in crate::engine) struct Video {
    shared: Arc<Shared>,
    tasks: Vec<Task>,
    settings: VideoSettings,
    theirs: Option<VideoCapabilities>,
    showing: Option<Showing>,
}

impl std::fmt::Debug for Video {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Video").finish_non_exhaustive()
    }
}

/// In which codec to send to whom shows those. `None`: in none of ours.
fn choose(theirs: &VideoCapabilities, wanted: Option<VideoCodec>) -> Option<VideoCodec> {
    let shown = |codec: VideoCodec| {
        theirs.codecs.contains(match codec {
            VideoCodec::Av1 => VideoCodecs::AV1,
            VideoCodec::H264 => VideoCodecs::H264,
        })
    };
    // The better picture first.
    let ours = [VideoCodec::Av1, VideoCodec::H264];
    ours.into_iter()
        .filter(|codec| wanted.is_none_or(|wanted| wanted == *codec))
        .find(|codec| shown(*codec))
}

/// The largest size of this shape that the other side shows.
fn within(size: Size, theirs: &VideoCapabilities) -> Option<Size> {
    let (width, height) = (size.width(), size.height());
    let (most_wide, most_high) = (u32::from(theirs.max_width), u32::from(theirs.max_height));
    if width <= most_wide && height <= most_high {
        return Some(size);
    }
    let by_width = f64::from(most_wide) / f64::from(width);
    let by_height = f64::from(most_high) / f64::from(height);
    let factor = by_width.min(by_height);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a side"
    )]
    let part = |side: u32| (f64::from(side) * factor) as u32;
    Size::rounded_down(part(width), part(height)).ok()
}

fn not_shown(theirs: Option<&VideoCapabilities>) -> PictureTrouble {
    match theirs {
        None => PictureTrouble::NotShown,
        Some(_) => PictureTrouble::NoCodec,
    }
}

impl Video {
    /// Starts pictures both ways, as far as they are wanted: the other side shows `theirs`. `None`: not at all.
    pub(in crate::engine) fn start(
        runtime: &Arc<dyn Runtime>,
        settings: &VideoSettings,
        theirs: Option<&VideoCapabilities>,
        line: PictureLine,
        clocks: SoundClocks,
        arrivals: mpsc::Receiver<PictureArrival>,
        probe: Option<&VideoProbe>,
    ) -> Result<Option<Self>, MediaError> {
        // A file that cannot be read is said even where nobody wants to see it.
        let source = settings.input.as_ref().map(open_source).transpose()?;
        let show = open_show(settings)?;
        let codec = theirs.and_then(|theirs| choose(theirs, settings.codec));
        if settings.input.is_none() && show.is_none() && codec.is_none() {
            return Ok(None);
        }
        let is_unseen = settings.input.is_some() && codec.is_none();
        let half = match (theirs, codec) {
            (Some(theirs), Some(codec)) => {
                let (config, video) = plan(&**runtime, settings, theirs, codec)?;
                Some(Mutex::new(SendHalf {
                    pipeline: VideoSend::new(config, video),
                    capacity: None,
                    voice: Bitrate(0),
                    fps: video.fps,
                    limit: settings.max_rate,
                    has_source: false,
                    had_source: false,
                    is_held: false,
                }))
            }
            (Some(_) | None, _) => None,
        };
        let recv = show.is_some().then(|| {
            Mutex::new(RecvHalf {
                pipeline: VideoRecv::new(VideoRecvConfig {
                    buffer: FrameBufferConfig {
                        retransmission: settings.retransmission,
                        ..FrameBufferConfig::default()
                    },
                }),
                clock: PictureClock::default(),
                sync: LipSync::default(),
                decoding: Duration::ZERO,
                skew: Histogram::default(),
                sound_waits: Histogram::default(),
            })
        });
        settings.open_windows();
        let shared = Arc::new(Shared {
            send: half,
            change: Mutex::default(),
            changed: Notify::new(),
            preview: settings.preview.clone(),
            recv,
            show: Mutex::new(show),
            last_shown: Mutex::default(),
            probe: probe.cloned(),
            line,
            news: Mutex::default(),
            follow_queue: settings.follow_queue,
            sound_wait: settings.sound_wait && settings.lip_sync,
            clocks,
            window: settings.watched_window().cloned(),
            tap: Mutex::default(),
            wake: Notify::new(),
        });
        if let Some(window) = &shared.window {
            let shared = Arc::downgrade(&shared);
            window.on_look_again(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.wake.notify_one();
                }
            });
        }
        if is_unseen {
            shared.tell_trouble(PictureNewsKind::NotShown, not_shown(theirs));
        }
        let mut tasks = Vec::new();
        if let Some(codec) = codec {
            let encode = encoding(runtime, &shared, codec);
            let hands = settings.hands(runtime, "encode", 1, settings.takes.encode, encode)?;
            let run = take_pictures(Arc::clone(runtime), Arc::clone(&shared), hands);
            tasks.push(runtime.spawn_task(run));
            let estimate = shared.line.estimate.clone();
            let run = follow(Arc::clone(runtime), Arc::clone(&shared), estimate);
            tasks.push(runtime.spawn_task(run));
        }
        let threads = if settings.threads { CODEC_THREADS } else { 1 };
        let decode = decoding(runtime, &shared, threads);
        let takes = settings.takes.decode;
        let hands = settings.hands(runtime, "decode", DECODE_QUEUE, takes, decode)?;
        let (lip_sync, run_shared) = (settings.lip_sync, Arc::clone(&shared));
        let run = receive(Arc::clone(runtime), run_shared, arrivals, hands, lip_sync);
        tasks.push(runtime.spawn_task(run));
        let mut this = Self {
            shared,
            tasks,
            settings: settings.clone(),
            theirs: theirs.copied(),
            showing: None,
        };
        if let (Some(input), Some(source)) = (settings.input.clone(), source) {
            let content = settings.content;
            this.begin(Showing { input, content }, source);
        }
        Ok(Some(this))
    }

    /// What is sent, from now on.
    pub(in crate::engine) fn showing(&self) -> Option<&Showing> {
        self.showing.as_ref()
    }

    /// Sends this from now on instead of what was sent before, or nothing. `false`: the other side shows none of ours.
    pub(in crate::engine) fn show(&mut self, wanted: Option<Showing>) -> Result<bool, MediaError> {
        let Some(wanted) = wanted else {
            self.end_source();
            return Ok(true);
        };
        if self.shared.send.is_none() {
            let trouble = not_shown(self.theirs.as_ref());
            self.shared.tell_trouble(PictureNewsKind::NotShown, trouble);
            return Ok(false);
        }
        let source = open_source(&wanted.input)?;
        self.begin(wanted, source);
        Ok(true)
    }

    fn begin(&mut self, wanted: Showing, source: Box<dyn VideoSource>) {
        let (Some(send), Some(theirs)) = (&self.shared.send, self.theirs) else {
            return;
        };
        let fps = rate_of(source.interval());
        let size = within(source.size(), &theirs);
        let eye = Eye::new(source, theirs, wanted.content);
        // What cannot be shown in any size is told by its eye.
        let size = size.unwrap_or_else(|| lock(send).pipeline.video().size);
        lock(send).change_source(Some((size, fps, eye.content())));
        tracing::debug!(%size, fps, "pictures are sent");
        if let Some(preview) = &self.shared.preview {
            preview.set_hidden(false);
        }
        let input = wanted.input.clone();
        self.showing = Some(wanted);
        *lock(&self.shared.change) = Some(Some(Next { eye, input }));
        self.shared.changed.notify_one();
    }

    fn end_source(&mut self) {
        if self.showing.take().is_none() {
            return;
        }
        if let Some(send) = &self.shared.send {
            lock(send).change_source(None);
        }
        if let Some(preview) = &self.shared.preview {
            preview.set_hidden(true);
        }
        // What is on its way would only bring back what is to go.
        (self.shared.line.withdraw)();
        *lock(&self.shared.change) = Some(None);
        self.shared.changed.notify_one();
    }

    /// The other side shows nothing more, or something again.
    pub(in crate::engine) fn set_blank(&self, is_blank: bool) {
        if let Some(VideoOut::Window(latest)) = &self.settings.output {
            latest.set_hidden(is_blank);
        }
    }

    /// The voice takes so much of the wire.
    pub(in crate::engine) fn follow_voice(&self, now: Instant, on_wire: Bitrate) {
        if let Some(send) = &self.shared.send {
            let mut send = lock(send);
            send.voice = on_wire;
            send.share(now);
        }
    }

    /// What is sent and shown goes there too from now on, or nowhere else.
    pub(in crate::engine) fn set_tap(&self, tap: Option<RecordTap>) {
        *lock(&self.shared.tap) = tap;
    }

    /// The next picture of this side should be one to begin with.
    pub(in crate::engine) fn want_key(&self, side: Side) {
        match side {
            Side::Ours => {
                if let Some(send) = &self.shared.send {
                    lock(send).pipeline.want_key();
                }
            }
            Side::Theirs => {
                if let Some(recv) = &self.shared.recv {
                    lock(recv).pipeline.want_key();
                    self.shared.wake.notify_one();
                }
            }
        }
    }

    /// How long an answer takes.
    pub(in crate::engine) fn set_round_trip(&self, round_trip: Duration) {
        if let Some(send) = &self.shared.send {
            lock(send).pipeline.set_round_trip(round_trip);
        }
        if let Some(recv) = &self.shared.recv {
            lock(recv).pipeline.set_round_trip(round_trip);
        }
    }

    /// How much of what we send is lost, as the other side tells.
    pub(in crate::engine) fn set_loss(&self, loss: Loss) {
        if let Some(send) = &self.shared.send {
            lock(send).pipeline.set_loss(loss);
        }
    }

    /// Sends no pictures, or pictures again.
    pub(in crate::engine) fn set_paused(&self, _now: Instant, is_paused: bool) {
        if let Some(send) = &self.shared.send {
            let mut send = lock(send);
            send.is_held = is_paused;
            send.pause();
        }
    }

    /// What happened since it was asked last.
    pub(in crate::engine) fn take_news(&self) -> Vec<PictureNews> {
        lock(&self.shared.news).drain(..).collect()
    }

    /// Counters so far.
    pub(in crate::engine) fn stats(&self, now: Instant) -> VideoStats {
        let shown = lock(&self.shared.show).as_ref().map(Show::stats);
        let shown = shown.unwrap_or_else(|| *lock(&self.shared.last_shown));
        VideoStats {
            sent: self
                .shared
                .send
                .as_ref()
                .map(|send| lock(send))
                .filter(|send| send.had_source)
                .map(|send| send.pipeline.stats()),
            received: self
                .shared
                .recv
                .as_ref()
                .map(|recv| lock(recv).pipeline.stats(now)),
            skew: self
                .shared
                .recv
                .as_ref()
                .and_then(|recv| lock(recv).skew.percentiles()),
            sound_waits: self
                .shared
                .recv
                .as_ref()
                .and_then(|recv| lock(recv).sound_waits.percentiles()),
            ..shown
        }
    }

    /// Ends it: nothing is shown any more, recordings are complete, and the counters stay as they are.
    pub(in crate::engine) fn stop(&mut self) {
        self.tasks.clear();
        if let Some(show) = lock(&self.shared.show).take() {
            *lock(&self.shared.last_shown) = show.stats();
        }
        self.settings.close_windows();
    }
}

impl Show {
    fn stats(&self) -> VideoStats {
        VideoStats {
            likeness: self.reference.as_ref().map(Reference::likeness),
            ..VideoStats::default()
        }
    }

    fn show(&mut self, picture: &Frame) {
        if let Some(reference) = &mut self.reference {
            reference.compare(picture);
        }
        if let Err(error) = self.sink.show(picture) {
            self.errors += 1;
            if self.errors == 1 {
                tracing::warn!(%error, "the recording stops");
            }
        }
    }
}

/// Pictures per second, 1 to 60.
fn rate_of(interval: Duration) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 240, and positive"
    )]
    let fps = (1.0 / interval.as_secs_f64()).round() as u32;
    fps.clamp(1, 60)
}

/// How to send pictures to whom shows those, whatever the source will be.
fn plan(
    runtime: &dyn Runtime,
    settings: &VideoSettings,
    theirs: &VideoCapabilities,
    codec: VideoCodec,
) -> Result<(VideoSendConfig, VideoConfig), MediaError> {
    let (width, height) = USUAL_SIZE;
    let size = Size::new(width, height).ok();
    let size = size.and_then(|size| within(size, theirs)).ok_or_else(|| {
        MediaError::Pictures("the other side shows no picture of any size".into())
    })?;
    let fps = rate_of(USUAL_INTERVAL);
    let random: [u8; 6] = runtime.random_array();
    let [a, b, c, d, e, f] = random;
    let config = VideoSendConfig {
        max_rate: most(size, fps, settings.max_rate),
        retransmission: settings.retransmission
            && theirs.features.contains(VideoFeatures::RETRANSMISSION),
        parity: settings.parity && theirs.features.contains(VideoFeatures::PARITY),
        parity_near: settings.parity_near,
        spread: settings.spread,
        single_layer: settings.single_layer,
        ..VideoSendConfig::new(
            codec,
            u32::from_be_bytes([a, b, c, d]),
            u16::from_be_bytes([e, f]),
        )
    };
    let video = VideoConfig {
        size,
        fps,
        bitrate: Bitrate(ahoy_transport::bwe::INITIAL_BPS as u32),
        content: settings.content.unwrap_or(Content::Motion),
        temporal_layers: TEMPORAL_LAYERS,
        threads: if settings.threads { CODEC_THREADS } else { 1 },
        effort: EFFORT,
    };
    Ok((config, video))
}

/// Counts the pictures of a source.
struct Count {
    interval: Duration,
    /// When the first was due, since pictures of any source are taken.
    begin: Duration,
    index: u64,
    /// When one was taken last.
    looked: Duration,
}

impl Count {
    fn taken(&self) -> Duration {
        self.begin + self.interval.mul_f64(self.index as f64)
    }
}

/// Pictures by the runtime's clock.
async fn take_pictures(runtime: Arc<dyn Runtime>, shared: Arc<Shared>, mut hands: Hands<Job>) {
    let Some(send) = &shared.send else { return };
    let origin = runtime.now();
    let mut source: Option<Count> = None;
    let mut moments = 0u32;
    let mut told_text = false;
    let mut next_moment = origin;
    loop {
        match &source {
            Some(count) => tokio::select! {
                biased;
                () = shared.changed.notified() => {}
                () = runtime.sleep_until(origin + count.taken()) => {}
            },
            None => shared.changed.notified().await,
        }
        let change = lock(&shared.change).take();
        if let Some(change) = change {
            let interval = change.as_ref().map(|next| next.eye.interval());
            let mut job = Job::Source(change);
            while let Err(refused) = hands.offer(job) {
                job = refused;
                runtime.sleep(CHANGE_RETRY).await;
            }
            let begin = runtime.now().saturating_duration_since(origin);
            source = interval.map(|interval| Count {
                interval,
                begin,
                index: 0,
                looked: begin,
            });
            continue;
        }
        let Some(count) = &mut source else { continue };
        let (index, taken) = (count.index, count.taken());
        let now = runtime.now();
        if now < origin + taken {
            continue;
        }
        if now.saturating_duration_since(origin + taken) > MAX_CATCH_UP {
            let since = now.saturating_duration_since(origin + count.begin);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a number of pictures"
            )]
            let missed_to = (since.as_secs_f64() / count.interval.as_secs_f64()) as u64;
            count.index = missed_to.max(index + 1);
            continue;
        }
        if let Some(probe) = &shared.probe {
            probe.taken.record(timestamp(taken), now);
        }
        let is_text = lock(send).pipeline.video().content == Content::Text;
        let is_due = now >= next_moment || is_text != told_text;
        let picture = now.saturating_duration_since(origin);
        if is_due && shared.tell_moment(now, picture, is_text) {
            moments = moments.saturating_add(1);
            told_text = is_text;
            next_moment = now
                + if moments < MOMENTS_AT_FIRST {
                    MOMENT_EVERY_AT_FIRST
                } else {
                    MOMENT_EVERY
                };
        }
        let plan = {
            let mut half = lock(send);
            shared.look_at_queue(now, &mut half);
            half.pipeline.plan(now)
        };
        if let Plan::Encode { config, key } = plan {
            count.looked = taken;
            let shot = Shot {
                index,
                taken,
                config,
                key,
            };
            if hands.offer(Job::Shot(shot, now)).is_err() {
                // The encoder is not free: this picture is not sent.
                lock(send).pipeline.push(now, None);
            }
        } else if shared.preview.is_some() && taken >= count.looked + GLANCE_EVERY {
            count.looked = taken;
            if hands.offer(Job::Glance { index, taken }).is_err() {
                tracing::trace!("the encoder is not free");
            }
        }
        count.index += 1;
    }
}

/// Takes a picture from the source and sends it.
fn encoding(
    runtime: &Arc<dyn Runtime>,
    shared: &Arc<Shared>,
    codec: VideoCodec,
) -> impl FnMut(Job) + Send + 'static {
    let (runtime, shared) = (Arc::clone(runtime), Arc::clone(shared));
    let mut stage = EncodeStage::new(codec);
    let mut is_failing = false;
    let mut source: Option<Eye> = None;
    let mut preview = shared.preview.clone().map(Preview::new);
    move |job| {
        let Some(send) = &shared.send else { return };
        let (shot, at) = match job {
            Job::Source(next) => {
                if let Some(preview) = &mut preview {
                    match &next {
                        Some(next) => preview.begin(&next.input),
                        None => preview.clear(),
                    }
                }
                source = next.map(|next| next.eye);
                is_failing = false;
                return;
            }
            Job::Shot(shot, at) => (Ok(shot), at),
            Job::Glance { index, taken } => (Err((index, taken)), runtime.now()),
        };
        let Some(eye) = &mut source else { return };
        let seen = match &shot {
            Ok(shot) => eye.look(shot),
            Err((index, taken)) => eye.glance(*index, *taken),
        };
        let mut is_gone = false;
        for news in eye.take_news() {
            is_gone |= matches!(news.kind, SourceNewsKind::Trouble(_));
            shared.tell(news.into());
        }
        if let Some(preview) = &mut preview {
            match seen {
                Look::Picture { .. } => preview.show(eye.frame()),
                Look::Nothing if is_gone => preview.clear(),
                Look::Nothing | Look::Same => {}
            }
        }
        let Ok(shot) = shot else { return };
        let mut config = shot.config;
        let still = match seen {
            Look::Nothing => return,
            Look::Same => return lock(send).pipeline.unchanged(),
            Look::Picture {
                size,
                content,
                is_still,
            } => {
                if (size, content) != (config.size, config.content) {
                    let mut send = lock(send);
                    send.set_source(size, content);
                    config = send.pipeline.video();
                }
                is_still
            }
        };
        let began = runtime.now();
        let encoded = stage.encode(config, shot.key, eye.frame());
        let now = runtime.now();
        match &encoded {
            Ok(_) => is_failing = false,
            Err(error) if !is_failing => {
                is_failing = true;
                shared.tell_trouble(
                    PictureNewsKind::NotEncoded,
                    PictureTrouble::NotEncoded(error.to_string()),
                );
            }
            Err(error) => tracing::debug!(%error, "a picture is not sent"),
        }
        if let (Ok(Some(encoded)), Some(tap)) = (&encoded, &*lock(&shared.tap)) {
            let (bytes, is_key) = (&encoded.bytes, encoded.is_key);
            tap.picture(Side::Ours, at, codec, bytes, is_key, config.size);
        }
        let mut send = lock(send);
        let took = now.saturating_duration_since(began);
        send.pipeline.encoded(now, took);
        let encoded = encoded.ok().flatten();
        send.pipeline.set_still(still);
        let packets = send.pipeline.push(now, encoded.as_ref());
        drop(send);
        shared.send_all(packets);
    }
}

/// What is sent follows what the path carries.
async fn follow(
    runtime: Arc<dyn Runtime>,
    shared: Arc<Shared>,
    mut estimate: watch::Receiver<Option<Estimate>>,
) {
    let Some(send) = &shared.send else { return };
    loop {
        let known = *estimate.borrow_and_update();
        if known.is_some() {
            let mut send = lock(send);
            send.capacity = known;
            send.share(runtime.now());
        }
        if estimate.changed().await.is_err() {
            return;
        }
    }
}

/// What comes of both flows, until the session ends.
async fn receive(
    runtime: Arc<dyn Runtime>,
    shared: Arc<Shared>,
    mut arrivals: mpsc::Receiver<PictureArrival>,
    mut hands: Hands<Decoding>,
    lip_sync: bool,
) {
    // In order.
    let mut held: VecDeque<Held> = VecDeque::new();
    let mut due: Option<Instant> = None;
    // When the last one went to the decoder, and what it says of when it was taken.
    let mut last: Option<(Instant, RtpTimestamp)> = None;
    loop {
        let timeout = shared
            .recv
            .as_ref()
            .and_then(|recv| lock(recv).pipeline.poll_timeout(runtime.now()))
            .into_iter()
            .chain(due)
            .min()
            .unwrap_or_else(|| runtime.now() + Duration::from_secs(3600));
        tokio::select! {
            biased;
            arrival = arrivals.recv() => {
                let Some(arrival) = arrival else { return };
                take(&runtime, &shared, arrival);
                for _ in 1..TAKEN_AT_ONCE {
                    let Ok(arrival) = arrivals.try_recv() else { break };
                    take(&runtime, &shared, arrival);
                }
            }
            () = shared.wake.notified() => {}
            () = runtime.sleep_until(timeout) => {}
        }
        let Some(recv) = &shared.recv else { continue };
        due = None;
        let is_watched = shared.is_watched();
        lock(recv).pipeline.set_watched(runtime.now(), is_watched);
        loop {
            let now = runtime.now();
            if !is_watched {
                let mut recv = lock(recv);
                // Taken, so that what comes is still told from what is missing.
                while held.pop_front().is_some() || recv.pipeline.poll_frame(now).is_some() {
                    recv.pipeline.unwatched();
                }
                break;
            }
            while held.len() < MAX_HELD
                && let Some(frame) = lock(recv).pipeline.poll_frame(now)
            {
                held.push_back(Held {
                    since: now,
                    waited: None,
                    frame,
                });
            }
            let Some(mut next) = held.pop_front() else {
                break;
            };
            let timestamp = next.frame.frame.timestamp;
            let longest = last.map_or(next.since, |(at, before)| {
                let usual = u32::try_from(timestamp.since(before)).unwrap_or(0);
                let usual = Duration::from_secs(usual.into()) / CLOCK_HZ;
                (at + LONGEST_STILL.max(usual * 2)).min(next.since + LONGEST_WAIT)
            });
            let at = (now + shared.wait(now, &lock(recv), &next.frame)).min(longest);
            if lip_sync && next.waited.is_none() && now < at && held.len() + 1 < MAX_HELD {
                due = Some(at);
                held.push_front(next);
                break;
            }
            // Whatever comes now is the decoder's: it is not free.
            let waited = now.saturating_duration_since(next.since);
            let offered = Decoding {
                offered: now,
                waited: *next.waited.get_or_insert(waited),
                frame: next.frame,
            };
            if let Err(Decoding { frame, .. }) = hands.offer(offered) {
                held.push_front(Held { frame, ..next });
                break;
            }
            last = Some((now, timestamp));
        }
        let now = runtime.now();
        let messages = lock(recv).pipeline.poll_feedback(now);
        for message in messages {
            (shared.line.send)(
                REQUEST_FLOW,
                message.into(),
                Priority::Request,
                now + REQUEST_EXPIRY,
            );
        }
    }
}

fn take(runtime: &Arc<dyn Runtime>, shared: &Shared, arrival: PictureArrival) {
    let PictureArrival { flow, at, payload } = arrival;
    if flow == PICTURE_FLOW {
        if let Some(recv) = &shared.recv {
            lock(recv).pipeline.insert_packet(at, &payload);
        }
    } else if flow == MOMENT_FLOW {
        match (Moment::decode(&payload), &shared.recv) {
            (Ok(moment), Some(recv)) => lock(recv).sync.learn(moment),
            (Ok(_), None) => {}
            (Err(error), _) => tracing::trace!(%error, "what is told of clocks is dropped"),
        }
    } else if let Some(send) = &shared.send {
        let now = runtime.now();
        let packets = {
            let mut send = lock(send);
            shared.look_at_queue(now, &mut send);
            send.pipeline.handle_feedback(now, &payload)
        };
        shared.send_all(packets);
    }
}

/// A frame that waits for its sound, or for the decoder.
struct Held {
    /// All that it needs is there since then.
    since: Instant,
    /// How long it waited for its sound, once that is over.
    waited: Option<Duration>,
    frame: DecodableFrame,
}

/// A frame for the decoder.
struct Decoding {
    /// When it was handed over.
    offered: Instant,
    /// How long it waited for its sound before: all the rest was needed.
    waited: Duration,
    frame: DecodableFrame,
}

/// Decodes a frame and shows the picture.
fn decoding(
    runtime: &Arc<dyn Runtime>,
    shared: &Arc<Shared>,
    threads: u8,
) -> impl FnMut(Decoding) + Send + 'static {
    let (runtime, shared) = (Arc::clone(runtime), Arc::clone(shared));
    let mut stage = DecodeStage::new(threads);
    let mut is_failing = false;
    move |job| {
        let Decoding {
            offered,
            waited,
            frame,
        } = job;
        let Some(recv) = &shared.recv else { return };
        let taken = lock(recv).clock.taken(frame.frame.timestamp);
        match stage.decode(&frame, taken) {
            Ok(Some(picture)) => {
                if is_failing {
                    is_failing = false;
                    shared.tell(PictureNews {
                        kind: PictureNewsKind::Decodable,
                        sentence: "The other side can be seen again.".into(),
                        trouble: None,
                    });
                }
                // Whoever stops counts what was shown until then, and no more.
                let mut show = lock(&shared.show);
                if let Some(show) = &mut *show {
                    show.show(picture);
                    let now = runtime.now();
                    let mut recv = lock(recv);
                    recv.pipeline.decoded(true);
                    let is_still = frame.frame.is_still;
                    recv.pipeline.rendered(now, picture.size(), is_still);
                    let heard = *lock(&shared.clocks.heard);
                    let lead = recv.sync.lead(now, frame.frame.timestamp, &heard);
                    if let Some(lead) = lead {
                        recv.skew
                            .record(Duration::try_from_secs_f64(lead.abs()).unwrap_or_default());
                        let mut wait = lock(&shared.clocks.wait);
                        recv.sound_waits.record(wait.extra());
                        // What a line loses makes some late, and not all: sound does not wait for these.
                        let is_regular = !frame.frame.is_repaired;
                        if shared.sound_wait && is_regular && !recv.sync.is_text() {
                            wait.picture(now, lead + waited.as_secs_f64());
                        }
                    }
                    shared.record(now, lead, &frame, picture.size());
                    let took = now.saturating_duration_since(offered).min(MAX_DECODING);
                    recv.decoding =
                        (recv.decoding * (DECODING_MEAN_OF - 1) + took) / DECODING_MEAN_OF;
                    if let Some(probe) = &shared.probe {
                        probe.shown.record(frame.frame.timestamp, now);
                    }
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, number = frame.frame.number, "a key frame is needed");
                if !is_failing {
                    is_failing = true;
                    shared.tell_trouble(PictureNewsKind::Undecodable, PictureTrouble::Undecodable);
                }
                lock(recv).pipeline.decoded(false);
            }
        }
        shared.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
