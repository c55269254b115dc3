//! The jitter buffer: packets come when the network likes, a block leaves every 10 ms.
//!
//! Named after the one in WebRTC, with whose vocabulary it agrees. Three things work together:
//!
//! * the **delay manager** learns from arrivals how long packets must wait so that hardly any comes too late;
//! * the **playout** decodes the next frame when the speaker needs it. When the frame is missing, it takes the
//!   best of what came: the whole copy in a later packet (RED), the coarse one in the packet after (in-band FEC),
//!   what a neural network speaks again from the features in the next packet (deep redundancy). Else it lets Opus
//!   invent a continuation, which fades to faint noise after 200 ms. When the frame then comes after all, a single
//!   one is taken up where time has got to; of several in a row the first is still played whole, and what was
//!   invented in its place becomes additional delay;
//! * **time stretching** removes surplus delay (*accelerate*) or builds up missing delay (*pre-emptive
//!   expand*) by whole pitch periods. Invented sound is never stretched, and a small surplus waits for a pause:
//!   a clean call begins at about the level where it stays, and its voice is left alone.
//!
//! Sound has one channel until the first packet with two is played; from there on the same is done to both, so that
//! nothing moves from left to right. A second without such a packet, and it is one channel again.
//!
//! Time is an argument; nothing is allocated once the buffer exists, but once when a second channel comes. The *playout delay* of this module is
//! local time minus the media time that plays: the same scale as the transit of a packet, so the two
//! subtract to the time that a packet waits.

mod delay_manager;
mod packet_buffer;
mod stats;
#[cfg(test)]
mod stereo_tests;
mod stretch;
mod sync_buffer;
#[cfg(test)]
mod trace_tests;

use std::time::{Duration, Instant};

pub use self::stats::NetEqStats;
use self::{
    delay_manager::{DelayConfig, DelayManager, Reach},
    packet_buffer::{Arrived, Insert, PacketBuffer},
    stats::DelayDistribution,
    stretch::{Criteria, FADE, MAX_LAG, MIN_LAG, take_over},
    sync_buffer::{Mix, Origin, SyncBuffer},
};
use crate::{
    audio::{
        opus::{
            Codec, DecoderConfig, MAX_DRED, MAX_PACKET_SAMPLES, OpusDecoder, OpusError, PacketInfo,
        },
        wide::{WideBlock, mid_side},
    },
    rate::Bitrate,
    sync::sound_wait::Playout,
    time::{
        BLOCK_SAMPLES, Block, MediaTime, SAMPLES_PER_MILLI, SampleClock, duration_of, samples_in,
    },
};

/// Invented sound is left as it is for so long: 100 ms. Longer, and it begins to buzz.
const FADE_FROM_SAMPLES: usize = 4800;

/// And after so long it has become faint noise: 200 ms.
const FADE_UNTIL_SAMPLES: usize = 9600;

/// A backlog that would add more delay than this is not played faster but cut: 400 ms.
const MAX_SURPLUS_SAMPLES: i64 = 400 * SAMPLES_PER_MILLI;

/// What is left of a backlog that is cut: 100 ms, which acceleration removes within half a second.
const KEPT_SURPLUS_SAMPLES: i64 = 100 * SAMPLES_PER_MILLI;

/// Surplus above which sound is accelerated as fast as it goes.
const HURRY_SAMPLES: i64 = 60 * SAMPLES_PER_MILLI;

/// Missing delay that is tolerated, so that a pull clock that wobbles does not make us stretch to and fro: 3 ms.
const TOLERANCE_SAMPLES: i64 = 3 * SAMPLES_PER_MILLI;

/// Pulls between two stretches when there is no hurry, and when there is.
const CALM_INTERVAL: u32 = 4;
const HURRIED_INTERVAL: u32 = 1;

/// Less surplus than this waits for a pause, where nobody hears it go: 20 ms. Periods cut out of a voice are
/// heard, each a little, and every call begins with some surplus.
const SMALL_SURPLUS_SAMPLES: i64 = 20 * SAMPLES_PER_MILLI;

/// But not for longer than this many pulls, since not everybody pauses: 3 s.
const PATIENCE_PULLS: u32 = 300;

/// What is this much fainter than the loudest sound lately is a pause: -30 dB, as a ratio of powers.
const PAUSE: f32 = 1e-3;

/// Similarity that makes a stretch inaudible, and one that makes it bearable when delay is the worse evil.
const INAUDIBLE: f32 = 0.9;
const BEARABLE: f32 = 0.6;

/// A packet that claims to be this far from all others is not believed: 5 s.
const IMPLAUSIBLE_SAMPLES: i64 = 5000 * SAMPLES_PER_MILLI;

/// Unless so many come in a row: then the sender's clock has jumped.
const IMPLAUSIBLE_IN_A_ROW: u32 = 5;

/// Playout delays remembered; the least counts, since a device may pull several blocks at once.
const LEVELS: usize = 4;

/// Steps of one pull at most: a block of the shortest frames, twice.
const MAX_STEPS: usize = 8;

/// Speech is made again from features in pieces of at most 20 ms.
const RESPOKEN_SAMPLES: usize = 960;

/// Opus invents, and speaks again, in steps of 2.5 ms.
const OPUS_STEP_SAMPLES: usize = 120;

/// A frame that is late by no more than this, and the only one for [`ALONE_SAMPLES`], does not move time: 20 ms.
const MOVES_TIME_FROM_SAMPLES: i64 = 20 * SAMPLES_PER_MILLI;
const ALONE_SAMPLES: u64 = 48_000;

/// Two channels become one when this much came without a second: 1 s.
const NARROW_AFTER_SAMPLES: usize = 48_000;

/// Amplitude of the noise in long gaps at most: -50 dBFS.
const MAX_NOISE: f32 = 0.003;

/// How to trade delay against damage. The switches exist to show what each part is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetEqConfig {
    /// What is inside the packets.
    pub codec: Codec,
    /// Remove surplus delay by stretching.
    pub accelerate: bool,
    /// Build up missing delay by stretching.
    pub preemptive_expand: bool,
    /// Learn the target level; off, it stays at `start_delay`.
    pub adaptive_target: bool,
    /// Of the decoder: see [`DecoderConfig::complexity`].
    pub decoder_complexity: u8,
    /// Of the decoder: see [`DecoderConfig::enhance_below`].
    pub enhance_below: Bitrate,
    /// Use the coarse copies of lost frames in the packets after them, and wait for them when packets are lost.
    pub fec: bool,
    /// The same for whole copies in later packets.
    pub red: bool,
    /// The same for deep redundancy.
    pub dred: bool,
    /// Play two channels where they come; off, their mix.
    pub stereo: bool,
    /// Let a frame that is late alone not move the time of all that follow.
    pub keep_time: bool,
    /// Target level before anything is known. Little, since surplus can only go by stretching: a settled call on a
    /// clean line has 5 to 15 ms.
    pub start_delay: Duration,
    /// Least target level.
    pub min_delay: Duration,
    /// Greatest target level.
    pub max_delay: Duration,
}

impl Default for NetEqConfig {
    fn default() -> Self {
        Self {
            codec: Codec::Opus,
            accelerate: true,
            preemptive_expand: true,
            adaptive_target: true,
            decoder_complexity: DecoderConfig::default().complexity,
            enhance_below: DecoderConfig::default().enhance_below,
            fec: true,
            red: true,
            dred: true,
            stereo: true,
            keep_time: true,
            start_delay: Duration::from_millis(10),
            min_delay: Duration::ZERO,
            max_delay: Duration::from_millis(800),
        }
    }
}

/// What a block consists of: the worst that is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AudioKind {
    /// Nothing was received yet, or not long enough ago: silence.
    Waiting,
    /// Received sound.
    Normal,
    /// The sender said that it is silent.
    Quiet,
    /// Lost sound restored from a later packet.
    Recovered,
    /// Invented sound.
    Concealed,
    /// Faint noise, because nothing came for long.
    ComfortNoise,
}

/// What was pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioInfo {
    /// The worst in the block.
    pub kind: AudioKind,
    /// The sender's media time of the first sample; none while waiting.
    pub time: Option<MediaTime>,
}

/// What became of an inserted packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It will be played.
    Accepted,
    /// Its time is over.
    Late,
    /// It is malformed, implausible, or one of the same time is there.
    Discarded,
}

/// The jitter buffer of one stream.
#[derive(Debug)]
pub struct NetEq {
    config: NetEqConfig,
    decoder: OpusDecoder,
    clock: Option<SampleClock>,
    packets: PacketBuffer,
    delay: DelayManager,
    sync: SyncBuffer,
    playing: bool,
    /// Media time after the last sample in `sync`.
    end: MediaTime,
    /// Media time after the last sample that came from a packet. Between this and `end` is invention.
    received_end: MediaTime,
    /// Samples invented since then.
    invented: usize,
    quiet: bool,
    /// The next decoded sound does not continue the last.
    rejoin: bool,
    frame_span: i64,
    /// How far back the deep redundancy reaches that the decoder holds, and of which packet it is.
    dred: Option<(MediaTime, usize)>,
    /// Samples rendered when a late frame did not move time.
    kept_time_at: Option<u64>,
    levels: [i64; LEVELS],
    since_stretch: u32,
    /// Pulls in a row with surplus.
    surplus_for: u32,
    implausible: u32,
    noise: Noise,
    loudness: Loudness,
    made: Made,
    /// Samples decoded since the last packet with two channels.
    since_stereo: usize,
    delays: DelayDistribution,
    counters: NetEqStats,
}

impl NetEq {
    /// An empty buffer.
    ///
    /// # Errors
    /// [`OpusError::SetUp`] when the decoder cannot be made.
    pub fn new(config: NetEqConfig) -> Result<Self, OpusError> {
        let delay_config = DelayConfig {
            adaptive: config.adaptive_target,
            start: samples_in(config.start_delay).max(1),
            min: samples_in(config.min_delay.min(config.max_delay)),
            max: samples_in(config.max_delay),
        };
        Ok(Self {
            config,
            decoder: OpusDecoder::with(DecoderConfig {
                codec: config.codec,
                complexity: config.decoder_complexity,
                enhance_below: config.enhance_below,
            })?,
            clock: None,
            packets: PacketBuffer::new(),
            delay: DelayManager::new(delay_config),
            sync: SyncBuffer::new(),
            playing: false,
            end: MediaTime(0),
            received_end: MediaTime(0),
            invented: 0,
            quiet: false,
            rejoin: false,
            frame_span: 960,
            dred: None,
            kept_time_at: None,
            levels: [i64::MAX; LEVELS],
            since_stretch: 0,
            surplus_for: 0,
            implausible: 0,
            noise: Noise::new(),
            loudness: Loudness::default(),
            made: Made::new(),
            since_stereo: 0,
            delays: DelayDistribution::new(),
            counters: NetEqStats::default(),
        })
    }

    /// Changes the least target level, for instance to wait for pictures. Reached by stretching, at about a
    /// quarter of real time.
    pub fn set_min_delay(&mut self, min_delay: Duration) {
        self.delay.set_min(samples_in(min_delay));
    }

    /// How long the fastest packets wait before they play, at the last pull. None while nothing plays.
    #[must_use]
    pub fn playout(&self) -> Option<Playout> {
        let fastest = self.delay.fastest().filter(|_| self.playing)?;
        let level = self.levels.last().filter(|level| **level < i64::MAX)?;
        let span = |samples: i64| duration_of(u64::try_from(samples).unwrap_or(0));
        Some(Playout {
            level: span(level.saturating_sub(fastest)),
            own: span(self.delay.own_target()),
        })
    }

    /// The sender began anew: its media times have nothing to do with the earlier ones. Counters go on.
    pub fn restart(&mut self) {
        self.packets.clear();
        self.delay.reset();
        self.dred = None;
        self.playing = false;
        self.implausible = 0;
    }

    /// Counters and state. Losses and duplicates are the caller's to count: it sees the sequence numbers.
    #[must_use]
    pub fn stats(&self) -> NetEqStats {
        NetEqStats {
            buffer_delay_p50: self.delays.quantile(0.5),
            buffer_delay_p95: self.delays.quantile(0.95),
            target_level: duration_of(self.delay.target().cast_unsigned()),
            ..self.counters
        }
    }

    /// Takes a packet that arrived `now` and whose first sample is of `time`. With it came a copy of what lies
    /// `copy_distance` samples before it, or none if that is 0. The caller has removed duplicates.
    pub fn insert(
        &mut self,
        now: Instant,
        time: MediaTime,
        payload: &[u8],
        copy_distance: i64,
    ) -> Inserted {
        let arrival = self
            .clock
            .get_or_insert_with(|| SampleClock::new(now))
            .samples_at(now);
        self.counters.packets_received += 1;
        let Ok(info) = PacketInfo::parse(payload) else {
            return self.discard();
        };
        if self.delay.distance(arrival, time) > IMPLAUSIBLE_SAMPLES {
            self.implausible += 1;
            if self.implausible < IMPLAUSIBLE_IN_A_ROW {
                return self.discard();
            }
            self.restart();
        }
        self.implausible = 0;
        let span = info.samples as i64;
        self.delay.on_packet(arrival, time, span);
        if self.playing && time.plus(span) <= self.received_end {
            self.counters.packets_late += 1;
            return Inserted::Late;
        }
        let packet = Arrived {
            time,
            arrival,
            info,
            is_copy: false,
            reach: self.reach(&info, copy_distance),
            payload,
        };
        match self.packets.insert(&packet) {
            Insert::Stored => Inserted::Accepted,
            Insert::Displaced => {
                self.counters.packets_discarded += 1;
                Inserted::Accepted
            }
            Insert::Refused => self.discard(),
        }
    }

    /// What a packet is good for when those before it are lost.
    fn reach(&self, info: &PacketInfo, copy_distance: i64) -> Reach {
        if self.config.red && copy_distance > 0 {
            Reach::Exactly(copy_distance)
        } else if self.config.dred && info.has_dred {
            Reach::UpTo(samples_in(MAX_DRED))
        } else if self.config.fec && info.has_fec {
            Reach::Exactly(info.frame_samples as i64)
        } else {
            Reach::Nothing
        }
    }

    /// Takes the copy of the packet of `time` that came `now` with a later packet. Useless copies are many, and
    /// not counted.
    pub fn insert_copy(&mut self, now: Instant, time: MediaTime, payload: &[u8]) {
        let (Some(clock), Ok(info)) = (self.clock, PacketInfo::parse(payload)) else {
            return;
        };
        let is_due = if self.playing {
            time.plus(info.samples as i64) > self.received_end
        } else {
            // Playout begins with what came by itself.
            self.packets.first().is_some_and(|first| first.time < time)
        };
        if !self.config.red || !is_due {
            return;
        }
        let copy = Arrived {
            time,
            arrival: clock.samples_at(now),
            info,
            is_copy: true,
            reach: Reach::Nothing,
            payload,
        };
        match self.packets.insert(&copy) {
            Insert::Stored | Insert::Refused => {}
            Insert::Displaced => self.counters.packets_discarded += 1,
        }
    }

    fn discard(&mut self) -> Inserted {
        self.counters.packets_discarded += 1;
        Inserted::Discarded
    }

    /// Fills `out` with what plays now, mixed to one channel. Call every 10 ms.
    pub fn pull(&mut self, now: Instant, out: &mut Block) -> AudioInfo {
        let mut pulled = WideBlock::SILENCE;
        let info = self.pull_wide(now, &mut pulled);
        *out = pulled.mid;
        info
    }

    /// The same with both channels, where there are two.
    pub fn pull_wide(&mut self, now: Instant, out: &mut WideBlock) -> AudioInfo {
        let now = self.clock.map(|clock| clock.samples_at(now));
        let Some(now) = now.filter(|now| self.playing || self.start(*now)) else {
            out.silence();
            return AudioInfo {
                kind: AudioKind::Waiting,
                time: None,
            };
        };
        self.cut_backlog(now);
        self.fill(now, BLOCK_SAMPLES);
        self.stretch(now);
        let time = self.playing_time();
        let mix = self.sync.pull(out);
        self.account(mix, out);
        AudioInfo {
            kind: kind_of(mix),
            time: Some(time),
        }
    }

    /// Begins when the first packet has waited long enough.
    fn start(&mut self, now: i64) -> bool {
        let (Some(wanted), Some(first)) = (self.delay.wanted(), self.packets.first()) else {
            return false;
        };
        let level = now.saturating_sub(first.time.0);
        if level < wanted {
            return false;
        }
        tracing::debug!(level, wanted, "playout starts");
        self.playing = true;
        self.received_end = first.time;
        // What is left from before a restart plays first.
        self.end = first.time;
        self.levels = [i64::MAX; LEVELS];
        self.invented = 0;
        self.quiet = false;
        self.rejoin = self.counters.rendered_samples > 0;
        true
    }

    fn playing_time(&self) -> MediaTime {
        self.end.plus(-(self.sync.future_len() as i64))
    }

    /// Drops the oldest waiting packets when playing them all would take the listener far behind.
    fn cut_backlog(&mut self, now: i64) {
        let Some(wanted) = self.delay.wanted() else {
            return;
        };
        let played_from = now.saturating_add(self.sync.future_len() as i64);
        let mut limit = MAX_SURPLUS_SAMPLES;
        while let (Some(first), Some(last)) = (self.packets.first(), self.packets.end()) {
            let surplus = played_from
                .saturating_sub(first.time.0)
                .saturating_sub(wanted);
            if surplus.min(last.since(first.time)) <= limit {
                break;
            }
            limit = KEPT_SURPLUS_SAMPLES;
            self.packets.drop_first();
            self.counters.packets_discarded += 1;
        }
        if limit == KEPT_SURPLUS_SAMPLES
            && let Some(first) = self.packets.first()
        {
            let first = first.time;
            if first > self.end {
                self.moved_by(self.end.since(first));
                self.end = first;
                self.received_end = first;
                self.rejoin = true;
            }
        }
    }

    /// Decodes or invents until `wanted` samples wait.
    fn fill(&mut self, now: i64, wanted: usize) {
        for _ in 0..MAX_STEPS {
            if self.sync.future_len() >= wanted {
                return;
            }
            self.step(now);
        }
    }

    /// One frame, or a bit of invention in its place.
    fn step(&mut self, now: i64) {
        while let Some(first) = self.packets.first()
            && first.end() <= self.received_end
        {
            self.packets.drop_first();
            self.counters.packets_late += 1;
        }
        let Some(first) = self.packets.first() else {
            return self.invent(BLOCK_SAMPLES);
        };
        let gap = first.time.since(self.end);
        if gap <= 0 {
            return self.decode(now);
        }
        let gap = usize::try_from(gap).unwrap_or(usize::MAX);
        if self.config.fec && first.info.has_fec && gap <= first.info.frame_samples {
            return self.recover(gap);
        }
        if self.config.dred
            && first.info.has_dred
            && gap >= OPUS_STEP_SAMPLES
            && self.dred_reach() >= gap
        {
            return self.respeak(gap);
        }
        self.invent(gap.min(BLOCK_SAMPLES));
    }

    /// How many samples back the deep redundancy of the first packet reaches.
    fn dred_reach(&mut self) -> usize {
        let Some(first) = self.packets.first() else {
            return 0;
        };
        if let Some((of, reach)) = self.dred
            && of == first.time
        {
            return reach;
        }
        // All of it: it comes in steps of 40 ms, and the last one begun is missing where less is asked for. Nothing
        // is there when it cannot be read.
        let all = usize::try_from(samples_in(MAX_DRED)).unwrap_or(0);
        let reach = self.decoder.read_dred(first.payload(), all).unwrap_or(0);
        self.dred = Some((first.time, reach));
        reach
    }

    /// Speaks the beginning of the `gap` before the first packet again, from the features in it.
    fn respeak(&mut self, gap: usize) {
        let len = gap.min(RESPOKEN_SAMPLES) / OPUS_STEP_SAMPLES * OPUS_STEP_SAMPLES;
        let respoken = self.made.by(&mut self.decoder, len, |decoder, out| {
            decoder.decode_dred(gap, out)
        });
        if respoken.is_err() {
            return self.invent(len.min(BLOCK_SAMPLES));
        }
        self.on_frames_until(self.end.plus(len as i64));
        self.counters.frames_recovered_dred += 1;
        self.append(0, len, Origin::Recovered, false);
    }

    /// Decodes the first packet. It may begin in the past, where something was invented in its place: then
    /// it plays all the same, and later.
    fn decode(&mut self, now: i64) {
        let Some(first) = self.packets.first() else {
            return;
        };
        let (time, arrival, info) = (first.time, first.arrival, first.info);
        let (is_copy, reach) = (first.is_copy, first.reach);
        let before = if info.is_stereo { self.widen() } else { None };
        let Some(first) = self.packets.first() else {
            return;
        };
        let decoded = self
            .made
            .by(&mut self.decoder, MAX_PACKET_SAMPLES, |decoder, out| {
                decoder.decode(first.payload(), out)
            });
        self.packets.drop_first();
        let Ok(len) = decoded else {
            self.counters.packets_discarded += 1;
            return self.invent(BLOCK_SAMPLES);
        };
        if let Some(before) = before {
            let [mid, side] = self.made.parts(0, len);
            take_over(&before, mid);
            take_over(&[0.0; FADE], side);
        }
        self.follow_channels(info.is_stereo, len);
        let from = time.max(self.received_end).min(self.end);
        self.on_frames_until(from);
        let back = self.end.since(from);
        let from = if self.keeps_time(back, time.plus(len as i64)) {
            self.kept_time_at = Some(self.counters.rendered_samples);
            self.rejoin = true;
            self.end
        } else {
            from
        };
        let back = self.end.since(from);
        let skipped = usize::try_from(from.since(time))
            .unwrap_or(usize::MAX)
            .min(len);
        if back > 0 {
            self.moved_by(back);
            self.end = from;
            self.rejoin = true;
        }
        self.frame_span = info.samples as i64;
        if is_copy {
            self.delay.on_missing(self.frame_span);
            self.counters.frames_recovered_red += 1;
        } else {
            let waited = now
                .saturating_add(self.sync.future_len() as i64)
                .saturating_sub(arrival);
            self.delays.record(waited, len as u64);
            self.delay.on_received(self.frame_span, reach);
        }
        self.quiet = info.is_dtx;
        let origin = match (self.quiet, is_copy) {
            (true, _) => Origin::Quiet,
            (false, true) => Origin::Recovered,
            (false, false) => Origin::Decoded,
        };
        self.append(skipped, len, origin, back > 0);
    }

    /// Makes a place for two channels, before the first packet of them is decoded. Returns what would have come next if
    /// there was something before: the new decoder knows nothing of it.
    fn widen(&mut self) -> Option<[f32; FADE]> {
        if !self.config.stereo || self.config.codec == Codec::Null || self.decoder.channels() > 1 {
            return None;
        }
        let mut before = [0.0; FADE];
        let continued = !self.rejoin && self.counters.rendered_samples > 0;
        let before = (continued && self.decoder.conceal(&mut before).is_ok()).then_some(before);
        if let Err(error) = self.decoder.widen() {
            tracing::warn!(%error, "one channel is played");
            self.config.stereo = false;
            return None;
        }
        self.made.widen();
        before
    }

    /// A frame of `len` samples was decoded: there are two channels from now on, or have been none for long.
    fn follow_channels(&mut self, is_stereo: bool, len: usize) {
        if is_stereo {
            self.since_stereo = 0;
            if self.decoder.channels() > 1 {
                self.sync.widen();
            }
        } else if self.sync.is_wide() {
            self.since_stereo += len;
            if self.since_stereo >= NARROW_AFTER_SAMPLES {
                self.sync.narrow();
            }
        }
    }

    /// Whether a frame that ends at `until` and in whose place `back` samples were invented is taken up where time
    /// has got to. One that is late alone says nothing about those that follow; and to play it from its beginning
    /// would put all that follows out of time, which is heard, and cost delay, which goes by being heard again.
    fn keeps_time(&self, back: i64, until: MediaTime) -> bool {
        let left = until.since(self.end);
        let is_alone = self
            .kept_time_at
            .is_none_or(|at| self.counters.rendered_samples.saturating_sub(at) >= ALONE_SAMPLES);
        self.config.keep_time
            && (1..=MOVES_TIME_FROM_SAMPLES).contains(&back)
            && (left == 0 || left >= FADE as i64)
            && is_alone
            && self.delay.growing().is_none()
    }

    /// Restores the `gap` before the first packet from the coarse copy in it.
    fn recover(&mut self, gap: usize) {
        let Some(first) = self.packets.first() else {
            return;
        };
        let (time, span) = (first.time, first.info.frame_samples);
        let restored = self.made.by(&mut self.decoder, span, |decoder, out| {
            decoder.decode_fec(first.payload(), out)
        });
        if restored.is_err() {
            self.counters.packets_discarded += 1;
            self.packets.drop_first();
            return self.invent(gap.min(BLOCK_SAMPLES));
        }
        self.on_frames_until(time);
        self.counters.frames_recovered_fec += 1;
        // The part that was invented before the copy arrived does not continue into the copy by itself.
        self.rejoin |= gap < span;
        self.append(span - gap, span, Origin::Recovered, false);
    }

    /// Sound between the last received and `time` did not come in time.
    fn on_frames_until(&mut self, time: MediaTime) {
        let missing = time.since(self.received_end) / self.frame_span.max(120);
        if !self.quiet {
            // More than a second says nothing that a second does not.
            for _ in 0..missing.min(50) {
                self.delay.on_missing(self.frame_span);
            }
        }
    }

    /// Appends what was made from `from` to `to`, joined to what was there when it does not continue it.
    fn append(&mut self, from: usize, to: usize, origin: Origin, bridged: bool) {
        // A frame of which nothing is left only moves the decoder on; the next one is joined.
        if to > from && std::mem::take(&mut self.rejoin) {
            let mut bridge = [[0.0; MAX_LAG]; 2];
            let fresh = self.made.parts(from, to);
            let inserted = stretch::join(self.sync.line().0, fresh, &mut bridge, bridged);
            let bridge = bridge.each_ref().map(|bridge| &bridge[..inserted]);
            self.sync.push(bridge, Origin::Concealed);
            self.moved_by(inserted as i64);
        }
        self.sync.push(self.made.both(from, to), origin);
        self.end = self.end.plus((to - from) as i64);
        self.received_end = self.received_end.max(self.end);
        self.invented = 0;
    }

    /// Appends `len` samples that nobody sent.
    fn invent(&mut self, len: usize) {
        let silent = self.invented >= FADE_UNTIL_SAMPLES && !self.quiet;
        let asked = len.next_multiple_of(OPUS_STEP_SAMPLES);
        let made = !silent
            && self
                .made
                .by(&mut self.decoder, asked, OpusDecoder::conceal)
                .is_ok();
        let [samples, side] = self.made.parts(0, len);
        if !made {
            samples.fill(0.0);
            side.fill(0.0);
        }
        let mut origin = if silent {
            Origin::Noise
        } else {
            Origin::Concealed
        };
        if self.quiet {
            origin = Origin::Quiet;
        } else {
            let fade = |n: usize| {
                let beyond = (self.invented + n).saturating_sub(FADE_FROM_SAMPLES) as f32;
                (1.0 - beyond / (FADE_UNTIL_SAMPLES - FADE_FROM_SAMPLES) as f32).max(0.0)
            };
            for (n, sample) in samples.iter_mut().enumerate() {
                *sample = *sample * fade(n) + self.noise.next() * (1.0 - fade(n));
            }
            for (n, sample) in side.iter_mut().enumerate() {
                *sample *= fade(n);
            }
            self.rejoin |= silent;
        }
        self.invented = self.invented.saturating_add(len);
        self.sync.push(self.made.both(0, len), origin);
        self.end = self.end.plus(len as i64);
    }

    /// The playout delay changed by so much.
    fn moved_by(&mut self, samples: i64) {
        for level in &mut self.levels {
            *level = level.saturating_add(samples);
        }
    }

    /// Moves the playout delay towards the wanted one.
    ///
    /// A frame is needed at the pull in which what waits runs short. When it then begins in the middle of
    /// the block, it waits longer than it must; so the aim is the least delay, not below the wanted one, at
    /// which frames begin with a block.
    fn stretch(&mut self, now: i64) {
        let level = now.saturating_sub(self.playing_time().0);
        self.levels.rotate_left(1);
        self.levels[LEVELS - 1] = level;
        self.since_stretch = self.since_stretch.saturating_add(1);
        let Some(wanted) = self.delay.wanted() else {
            return;
        };
        let natural = self.sync.natural_run();
        if self.since_stretch < HURRIED_INTERVAL || natural < FADE + MAX_LAG {
            return;
        }
        let block = BLOCK_SAMPLES as i64;
        let level = self.levels.iter().copied().min().unwrap_or(level);
        let begins = level - self.sync.future_len() as i64 % block;
        let missing = wanted - begins;
        if missing > TOLERANCE_SAMPLES && self.config.preemptive_expand {
            self.expand(missing);
            return;
        }
        let surplus = level - (wanted + (begins - wanted).rem_euclid(block));
        if surplus < MIN_LAG as i64 {
            self.surplus_for = 0;
        } else if self.config.accelerate {
            self.surplus_for = self.surplus_for.saturating_add(1);
            // A delay that the packets on hand do not show is none: they are late, and will be needed.
            let ahead = self
                .packets
                .end()
                .unwrap_or(self.end)
                .max(self.end)
                .since(self.playing_time());
            let spare = ahead - self.frame_span - self.delay.target() + block;
            self.accelerate(now, surplus.min(spare));
        }
    }

    fn criteria(&self, by: i64) -> Option<Criteria> {
        let hurry = by >= HURRY_SAMPLES || self.delay.growing().is_some();
        let interval = if hurry {
            HURRIED_INTERVAL
        } else {
            CALM_INTERVAL
        };
        let background = (self.noise.floor * 2.0).max(0.001).powi(2);
        let silence = background.max(self.loudness.loudest * PAUSE);
        let correlation = if hurry { BEARABLE } else { INAUDIBLE };
        (self.since_stretch >= interval).then_some(Criteria {
            correlation,
            silence,
            max_lag: MAX_LAG,
        })
    }

    fn expand(&mut self, missing: i64) {
        let Some(criteria) = self
            .criteria(missing)
            .filter(|_| self.sync.room() >= MAX_LAG)
        else {
            return;
        };
        let (line, at) = self.sync.line_mut();
        if let Some(lag) = stretch::expand(line, at, criteria) {
            self.sync.resized(lag.cast_signed());
            self.moved_by(lag as i64);
            self.counters.expanded_samples += lag as u64;
            self.since_stretch = 0;
            let rendered = self.counters.rendered_samples;
            tracing::debug!(rendered, missing, lag, "expanded");
        }
    }

    fn accelerate(&mut self, now: i64, surplus: i64) {
        let Some(mut criteria) = self.criteria(surplus) else {
            return;
        };
        if surplus < SMALL_SURPLUS_SAMPLES && self.surplus_for < PATIENCE_PULLS {
            // Nothing is that similar: only a pause will do.
            criteria.correlation = f32::INFINITY;
        }
        while self.sync.future_len() < BLOCK_SAMPLES + MAX_LAG
            && self
                .packets
                .first()
                .is_some_and(|first| first.time == self.end)
        {
            self.decode(now);
        }
        let left = self.sync.future_len().saturating_sub(BLOCK_SAMPLES);
        let max_lag = left.min(usize::try_from(surplus).unwrap_or(0));
        if self.sync.natural_run() == 0 {
            return;
        }
        let (line, at) = self.sync.line_mut();
        if let Some(lag) = stretch::accelerate(
            line,
            at,
            Criteria {
                max_lag,
                ..criteria
            },
        ) {
            self.sync.resized(-lag.cast_signed());
            self.moved_by(-(lag as i64));
            self.counters.accelerated_samples += lag as u64;
            self.since_stretch = 0;
            let rendered = self.counters.rendered_samples;
            tracing::debug!(rendered, surplus, lag, "accelerated");
        }
    }

    fn account(&mut self, mix: Mix, out: &WideBlock) {
        let counters = &mut self.counters;
        counters.rendered_samples += BLOCK_SAMPLES as u64;
        if mix.concealed == 0 {
            counters.current_concealment_samples = 0;
            if mix.recovered == 0 && mix.quiet == 0 {
                let power = power_of(out);
                self.noise.listen(power);
                self.loudness.listen(power);
            }
            return;
        }
        if counters.current_concealment_samples == 0 {
            counters.concealment_events += 1;
        }
        counters.concealed_samples += mix.concealed as u64;
        counters.current_concealment_samples += mix.concealed as u64;
        counters.longest_concealment_samples = counters
            .longest_concealment_samples
            .max(counters.current_concealment_samples);
    }
}

fn kind_of(mix: Mix) -> AudioKind {
    match mix {
        Mix { noise: 1.., .. } => AudioKind::ComfortNoise,
        Mix { concealed: 1.., .. } => AudioKind::Concealed,
        Mix { recovered: 1.., .. } => AudioKind::Recovered,
        Mix { quiet: 1.., .. } => AudioKind::Quiet,
        Mix { .. } => AudioKind::Normal,
    }
}

/// Mean square of left and right.
fn power_of(block: &WideBlock) -> f32 {
    let power = |block: &Block| {
        block.iter().map(|sample| sample * sample).sum::<f32>() / BLOCK_SAMPLES as f32
    };
    power(&block.mid) + block.side().map_or(0.0, power)
}

/// What the decoder made last: what both channels have in common, and what they differ by.
#[derive(Debug)]
struct Made {
    mid: Vec<f32>,
    /// Empty where the decoder makes one channel.
    side: Vec<f32>,
    /// Both as the decoder gives them.
    frames: Vec<f32>,
}

impl Made {
    fn new() -> Self {
        Self {
            mid: vec![0.0; MAX_PACKET_SAMPLES],
            side: Vec::new(),
            frames: Vec::new(),
        }
    }

    fn widen(&mut self) {
        self.side.resize(MAX_PACKET_SAMPLES, 0.0);
        self.frames.resize(2 * MAX_PACKET_SAMPLES, 0.0);
    }

    /// Lets `make` fill the room for `len` samples, and returns how many it made.
    fn by(
        &mut self,
        decoder: &mut OpusDecoder,
        len: usize,
        make: impl FnOnce(&mut OpusDecoder, &mut [f32]) -> Result<usize, OpusError>,
    ) -> Result<usize, OpusError> {
        if self.side.is_empty() {
            return make(decoder, &mut self.mid[..len]);
        }
        let made = make(decoder, &mut self.frames[..2 * len])?;
        let (frames, _odd) = self.frames.as_chunks();
        let parts = self.mid.iter_mut().zip(&mut self.side);
        for ((mid, side), frame) in parts.zip(frames).take(made) {
            [*mid, *side] = mid_side(*frame);
        }
        Ok(made)
    }

    /// Some of both; nothing of the second where the decoder makes one channel.
    fn parts(&mut self, from: usize, to: usize) -> [&mut [f32]; 2] {
        let Self { mid, side, .. } = self;
        [
            mid.get_mut(from..to).unwrap_or_default(),
            side.get_mut(from..to).unwrap_or_default(),
        ]
    }

    /// The same, to be read.
    fn both(&self, from: usize, to: usize) -> [&[f32]; 2] {
        [&self.mid, &self.side].map(|part| part.get(from..to).unwrap_or_default())
    }
}

/// How loud the sender speaks, so that a pause is known from speech at any level.
#[derive(Debug, Default)]
struct Loudness {
    /// Mean square of the loudest block lately.
    loudest: f32,
}

impl Loudness {
    fn listen(&mut self, power: f32) {
        // Falls by 4 dB in a second.
        self.loudest = power.max(self.loudest * 0.99);
    }
}

/// Faint noise, as loud as the quietest moments of the sender, so that a long gap does not sound like a
/// dead line.
#[derive(Debug)]
struct Noise {
    /// Root mean square of the quietest blocks lately.
    floor: f32,
    random: u32,
    low: f32,
}

impl Noise {
    fn new() -> Self {
        Self {
            floor: 0.0,
            random: 0x2545_f491,
            low: 0.0,
        }
    }

    fn listen(&mut self, power: f32) {
        let level = power.sqrt();
        // Rises by 8 dB in a second, so that speech does not pass for background.
        self.floor = level.min(self.floor * 1.01 + 1e-6).min(MAX_NOISE);
    }

    fn next(&mut self) -> f32 {
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let white = (self.random >> 8) as f32 / (1 << 23) as f32 - 1.0;
        // One pole: less hiss. The factor keeps the level.
        self.low = self.low * 0.8 + white * 0.2;
        self.low * 5.2 * self.floor
    }
}
