//! The sender's way of pictures: encoded frames in, packets out, and what the receiver asks for.
//!
//! Nothing here encodes: that takes long, and is done elsewhere. For each picture that is taken, ask
//! [`VideoSend::plan`]; encode as it says; give what came out to [`VideoSend::push`], and send the packets. What the
//! receiver says goes to [`VideoSend::handle_feedback`], whose packets are sent too.
//!
//! **The queue.** What is sent waits in the connection, which paces it. [`VideoSend::set_waiting`] tells how much does,
//! and for how long; what was given out since, and the pace, tell the rest. While too much waits
//! ([`VideoSendConfig::max_backlog`]) or waits for too long ([`VideoSendConfig::max_wait`]), pictures are left out before
//! they are encoded, so that an encoder that overshoots, and a line that becomes narrow, make a picture late and not all
//! that come after it. While the network's own queue drains and next to nothing may leave, no more than one picture waits;
//! while nothing does because the line may have become narrow, pictures are made for a narrow one.
//!
//! What is asked for again while it still waits is not put there twice. A key frame makes all before it worthless:
//! [`VideoOut::replaces`] says so, and what waits is to be taken back.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::time::{Duration, Instant};

use super::{
    codec::{Content, EncodedFrame, VideoCodec, VideoConfig},
    feedback::Feedback,
    frame::Size,
    ladder::Ladder,
    layers::LayerChoice,
    packet::{Packetizer, VideoPacket},
    protect::{Line, Protector},
    retransmit::{SentPackets, SentPacketsConfig},
};
use crate::{loss::Loss, rate::Bitrate};

/// With less than this on the wire, no pictures are sent: they would be none, and all is the voice's.
pub const MIN_RATE: Bitrate = Bitrate::kbps(40);

/// No codec is asked for less.
const MIN_CODEC_RATE: Bitrate = Bitrate::kbps(30);

/// A change of the bitrate that is smaller than this is none, in percent: encoders take a while to follow.
const LEAST_CHANGE_PERCENT: u64 = 4;

/// Bytes of a packet's payload that are not the codec's: RTP and the descriptor.
const HEADER_BYTES: usize = crate::packet::rtp::HEADER_BYTES + super::packet::DESCRIPTOR_BYTES;

/// A key frame takes as long as so many pictures.
const KEY_PICTURES: f64 = 4.5;
/// Another one is not chosen instead of sending again what is lost before this and an answer's time.
const KEY_PAUSE: Duration = Duration::from_millis(500);

/// While less than this share of the rate may leave, a queue in the network drains, in percent.
const DRAINING_PERCENT: u64 = 50;
/// For longer than this, a key frame does not wait for it.
const LONGEST_DRAIN: Duration = Duration::from_millis(600);

/// From here on the codec gets less the more waits, to [`LEAST_SHARE`] where pictures are left out.
const SOFT_BACKLOG: f64 = 0.3;
const LEAST_SHARE: f64 = 0.6;
/// And so much while nothing leaves because the line may have become narrow: if it has, what is made now leaves soon after.
const HELD_SHARE: f64 = 0.35;

/// What is lost is not known for so long at the beginning: so much is assumed, and the base has its parity.
const UNKNOWN_FOR: Duration = Duration::from_secs(4);
const UNKNOWN_LOSS: f32 = 0.03;

/// From so much more than is wanted on, in percent, frames have parity whatever the round trip.
const ROOM_PERCENT: u64 = 150;

/// Text has one layer: with several, libaom does not find again what has scrolled, and a page of 720p takes 58 KB a picture
/// instead of 1.5. And it gets more trouble.
const TEXT_LAYERS: u8 = 1;
const TEXT_EFFORT: u8 = 1;
const MAX_EFFORT: u8 = 3;

/// The last packet of a picture is half full, on average.
const WASTED_PACKETS_PER_FRAME: f64 = 0.5;

/// What was sent again lately is counted over so long.
const REPAIR_WINDOW: Duration = Duration::from_secs(1);

/// Each hundredth of loss makes what waits so many hundredths older before pictures are left out, up to this loss: with its
/// parity a picture is longer, and what is sent again goes first.
const WAIT_PER_LOSS: f32 = 10.0;
const WAIT_MOST_LOSS: f32 = 0.2;

/// At most so much of the rate goes to what is sent again, in percent; the encoder gets the rest.
const MAX_REPAIR_PERCENT: u64 = 50;

/// How to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoSendConfig {
    /// How the pictures are encoded.
    pub codec: VideoCodec,
    /// Random.
    pub ssrc: u32,
    /// Random.
    pub first_sequence: u16,
    /// Send packets again that are asked for.
    pub retransmission: bool,
    /// Which ones are kept for that.
    pub sent: SentPacketsConfig,
    /// Send parity where the way is long: the receiver knows what to do with it.
    pub parity: bool,
    /// Send the parity of the base later where bursts would take both.
    pub spread: bool,
    /// From this round trip on. On shorter ways what is asked for comes in time.
    pub parity_from: Duration,
    /// On shorter ones, too, where more may be sent than is wanted; and for the base there, where some hundredths are lost.
    pub parity_near: bool,
    /// One layer in time while next to nothing is lost.
    pub single_layer: bool,
    /// Encode smaller and fewer pictures where the bitrate is not worth more, or the machine is too slow.
    pub ladder: bool,
    /// What the network puts around each packet, in bytes.
    pub overhead_bytes: usize,
    /// More is not seen: of the wire, what is sent because of loss not included.
    pub max_rate: Bitrate,
    /// Pictures are left out when what waits to be sent takes longer than this.
    pub max_backlog: Duration,
    /// And when some of it has waited for longer than this.
    pub max_wait: Duration,
    /// For longer where much is lost.
    pub patient: bool,
    /// A picture of the base is worth sending for this long.
    pub base_expiry: Duration,
    /// Any other.
    pub rest_expiry: Duration,
}

impl VideoSendConfig {
    /// As usual.
    #[must_use]
    pub fn new(codec: VideoCodec, ssrc: u32, first_sequence: u16) -> Self {
        Self {
            codec,
            ssrc,
            first_sequence,
            retransmission: true,
            sent: SentPacketsConfig::default(),
            parity: true,
            spread: true,
            parity_from: Duration::from_millis(100),
            parity_near: true,
            single_layer: true,
            ladder: true,
            overhead_bytes: 64,
            max_rate: Bitrate(u32::MAX),
            max_backlog: Duration::from_millis(200),
            max_wait: Duration::from_millis(150),
            patient: true,
            base_expiry: Duration::from_millis(1500),
            // By then the next of the base overtook it.
            rest_expiry: Duration::from_millis(200),
        }
    }
}

/// How much depends on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// What the receiver misses of the base: nothing behind it can be shown before.
    Repair,
    /// Other pictures are built on this one.
    Base,
    /// Left out, it is missed by few or none.
    Rest,
}

/// A packet for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoOut {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What it is worth.
    pub class: Class,
    /// Until when.
    pub expires: Instant,
    /// What was given out before is of no use any more: where it still waits, it is to be taken back.
    pub replaces: bool,
}

/// What was given out and did not leave yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// What it will take of the wire, in bytes.
    pub bytes: usize,
    /// How long the part that has waited longest does.
    pub age: Duration,
    /// Whether none of it leaves for now: the line may have become narrow, and what is made now may be too much for it.
    pub is_held: bool,
}

/// What to do with a picture that is taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Skip,
    /// Encode it so, as a key frame if `key`.
    Encode {
        /// Size, rate and so on.
        config: VideoConfig,
        /// It must be one.
        key: bool,
    },
}

/// What was done since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VideoSendStats {
    /// Pictures that were taken.
    pub taken: u64,
    /// Of these, those left out because too much waited, or because the rate is too low for any, or for all.
    pub skipped: u64,
    /// Of these, those that were as the one before, and not sent.
    pub unchanged: u64,
    /// Those that the encoder left out, or was not free for.
    pub dropped: u64,
    /// Frames sent.
    pub frames: u64,
    /// Of these, key frames.
    pub key_frames: u64,
    /// Packets, each once.
    pub packets: u64,
    /// What the codec made, in bytes.
    pub codec_bytes: u64,
    /// Packets of parity.
    pub parity: u64,
    /// Packets sent again.
    pub resent: u64,
    /// Key frames that were asked for.
    pub key_requests: u64,
    /// Key frames that were made because to send again what was lost would have taken longer.
    pub repair_keys: u64,
    /// Requests that could not be read.
    pub malformed: u64,
    /// Times that pictures became smaller or fewer, or larger or more.
    pub rungs: u64,
    /// Bits per second that the codec is asked for now.
    pub bitrate_bps: u32,
}

/// Bits that wait, and leave at a pace.
#[derive(Debug, Clone, Copy)]
struct Backlog {
    bits: f64,
    at: Option<Instant>,
}

impl Backlog {
    fn drain(&mut self, now: Instant, pace: Bitrate) {
        let elapsed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.bits = (self.bits - elapsed.as_secs_f64() * f64::from(pace.bps())).max(0.0);
    }
}

/// Sends one stream of pictures.
#[derive(Debug)]
pub struct VideoSend {
    config: VideoSendConfig,
    video: VideoConfig,
    ladder: Ladder,
    layers: LayerChoice,
    packetizer: Packetizer,
    sent: SentPackets,
    round_trip: Duration,
    loss: Loss,
    /// Of all packets, as their reports tell.
    line_loss: Option<Loss>,
    protector: Protector,
    /// What pictures may take of the wire in the long run.
    rate: Bitrate,
    /// And now.
    pace: Bitrate,
    backlog: Backlog,
    /// What was sent again, in bits per second.
    repair: Backlog,
    waiting: Option<Waiting>,
    /// Since when next to nothing may leave.
    draining: Option<Instant>,
    /// Number of the last frame of the base.
    last_base: Option<u16>,
    needs_key: bool,
    last_key: Option<Instant>,
    /// When the first frame was given out.
    first: Option<Instant>,
    is_paused: bool,
    /// Counts pictures, of which the ladder leaves some out.
    turn: u32,
    stats: VideoSendStats,
}

impl VideoSend {
    /// For pictures as `video` says, whose bitrate is what the wire may carry until [`Self::set_rate`] says otherwise.
    #[must_use]
    pub fn new(config: VideoSendConfig, video: VideoConfig) -> Self {
        Self {
            ladder: Ladder::new(config.codec, video.content, video.size, video.fps),
            layers: LayerChoice::new(),
            packetizer: Packetizer::new(config.codec, config.ssrc, config.first_sequence),
            sent: SentPackets::new(config.sent),
            round_trip: Duration::from_millis(100),
            loss: Loss::default(),
            line_loss: None,
            protector: Protector::new(config.first_sequence),
            rate: video.bitrate,
            pace: video.bitrate,
            backlog: Backlog {
                bits: 0.0,
                at: None,
            },
            repair: Backlog {
                bits: 0.0,
                at: None,
            },
            waiting: None,
            draining: None,
            last_base: None,
            needs_key: true,
            last_key: None,
            first: None,
            is_paused: false,
            turn: 0,
            config,
            video,
            stats: VideoSendStats::default(),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> VideoSendStats {
        VideoSendStats {
            bitrate_bps: self.video.bitrate.bps(),
            ..self.stats
        }
    }

    /// Pictures may take `rate` of the wire in the long run, headers and all, and `pace` for now.
    pub fn set_rate(&mut self, now: Instant, rate: Bitrate, pace: Bitrate) {
        self.backlog.drain(now, self.pace);
        self.rate = rate;
        self.pace = pace;
        let usual = u64::from(rate.min(self.config.max_rate).bps());
        let is_draining = u64::from(pace.bps()) * 100 < usual * DRAINING_PERCENT;
        self.draining = is_draining.then(|| self.draining.unwrap_or(now));
    }

    /// Says what waits now. Until it is said again, it is what is given out less what leaves at the pace.
    pub fn set_waiting(&mut self, now: Instant, waiting: Waiting) {
        self.backlog.at = Some(now);
        self.backlog.bits = (waiting.bytes * 8) as f64;
        self.waiting = Some(waiting);
    }

    /// Whether a key frame is there before so many bits of the base could be sent again, behind what waits. Encoders keep
    /// one to so many times a picture's share of the rate.
    fn is_key_sooner(&self, now: Instant, base_bits: f64) -> bool {
        if self.waiting.is_none() || base_bits == 0.0 || self.needs_key {
            return false;
        }
        let is_recent = self
            .last_key
            .is_some_and(|at| now < at + self.round_trip + KEY_PAUSE);
        let rate = f64::from(self.rate.bps().max(1));
        let takes = (self.backlog.bits + base_bits) / rate;
        let fps = f64::from((self.video.fps / self.ladder.rung().one_of).max(1));
        !is_recent && takes > KEY_PICTURES / fps
    }

    /// Whether what waits leaves no room for another picture.
    fn is_full(&self, now: Instant) -> bool {
        // By what goes in the long run: for a moment, while a queue in the network drains, it may be next to nothing.
        let waits = self.waits();
        let Some(waiting) = self.waiting else {
            return waits > self.config.max_backlog;
        };
        if self.needs_key {
            // What waits goes when the key frame comes, and that should be of the moment in which it can leave.
            return self
                .draining
                .is_some_and(|since| now < since + LONGEST_DRAIN);
        }
        waits > self.config.max_backlog
            || waiting.age > self.max_wait()
            || self.draining.is_some() && waiting.bytes > 0
    }

    /// How long some of it may have waited.
    fn max_wait(&self) -> Duration {
        let lost = if self.config.patient {
            self.lost().clamp(0.0, WAIT_MOST_LOSS)
        } else {
            0.0
        };
        self.config.max_wait.mul_f32(1.0 + WAIT_PER_LOSS * lost)
    }

    /// How long what waits takes.
    fn waits(&self) -> Duration {
        let seconds = self.backlog.bits / f64::from(self.rate.bps().max(1));
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// The source has pictures of another size, for which `max_rate` is enough, or shows something else: begins anew at
    /// the top of the ladder.
    pub fn set_source(&mut self, size: Size, content: Content, max_rate: Bitrate) {
        self.config.max_rate = max_rate;
        if (size, content) == (self.video.size, self.video.content) {
            return;
        }
        self.video.size = size;
        self.video.content = content;
        self.ladder = Ladder::new(self.config.codec, content, size, self.video.fps);
    }

    /// The source has so many pictures per second: begins anew at the top of the ladder.
    pub fn set_fps(&mut self, fps: u32) {
        if fps != self.video.fps {
            self.video.fps = fps;
            let (codec, content) = (self.config.codec, self.video.content);
            self.ladder = Ladder::new(codec, content, self.video.size, fps);
        }
    }

    /// How the pictures are encoded that come now: size, rate and so on.
    #[must_use]
    pub fn video(&self) -> VideoConfig {
        let rung = self.ladder.rung();
        let video = VideoConfig {
            size: rung.size,
            fps: (self.video.fps / rung.one_of).max(1),
            effort: match self.video.content {
                Content::Motion => self.video.effort,
                // It hardly takes longer, and is worth several decibels.
                Content::Text => (self.video.effort + TEXT_EFFORT).min(MAX_EFFORT),
            }
            .saturating_sub(self.ladder.effort_less()),
            ..self.video
        };
        match video.content {
            Content::Motion if self.config.single_layer => VideoConfig {
                temporal_layers: self.layers.of(video.temporal_layers),
                ..video
            },
            Content::Motion => video,
            Content::Text => VideoConfig {
                temporal_layers: TEXT_LAYERS,
                ..video
            },
        }
    }

    /// Says how long an answer takes; 100 ms until then.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// Says how much of all that is sent is lost, and in how long runs, as the reports of its packets tell.
    pub fn set_line_loss(&mut self, loss: Option<Loss>) {
        self.line_loss = loss;
    }

    /// Says how much of the sound is lost, as the other side tells.
    pub fn set_loss(&mut self, loss: Loss) {
        self.loss = loss;
    }

    /// Sends no pictures, or pictures again.
    pub fn set_paused(&mut self, is_paused: bool) {
        self.needs_key |= self.is_paused && !is_paused;
        self.is_paused = is_paused;
    }

    /// What is left for the codec of a share of the rate, after headers and what is sent again.
    fn codec_rate(&self, share: f64) -> Bitrate {
        let repair = self.repair.bits / REPAIR_WINDOW.as_secs_f64();
        let most = f64::from(self.config.max_rate.bps());
        let wire = f64::from(self.rate.bps()).min(most + repair) * share;
        let repair = repair.min(wire * MAX_REPAIR_PERCENT as f64 / 100.0);
        let around = (HEADER_BYTES + self.config.overhead_bytes) as f64 * 8.0;
        let full = (crate::packet::rtp::MAX_PACKET_BYTES + self.config.overhead_bytes) as f64 * 8.0;
        let left = wire - repair;
        let fps = self.video.fps / self.ladder.rung().one_of;
        let packets = left / full + WASTED_PACKETS_PER_FRAME * f64::from(fps);
        let codec = (left - packets * around).max(f64::from(MIN_CODEC_RATE.bps()));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is positive"
        )]
        Bitrate(codec as u32)
    }

    /// What to do with a picture that is taken now.
    pub fn plan(&mut self, now: Instant) -> Plan {
        self.stats.taken += 1;
        self.backlog.drain(now, self.pace);
        self.repair.drain(now, Bitrate(self.repair_drain()));
        if self.is_paused || self.rate < MIN_RATE || self.is_full(now) {
            self.stats.skipped += 1;
            return Plan::Skip;
        }
        if self.config.ladder {
            // By what it may have in the long run, not by what waits now.
            let changes = self.ladder.follow(now, self.codec_rate(1.0));
            self.stats.rungs += u64::from(changes);
        }
        self.layers.follow(now, self.lost());
        let full = self.waits().as_secs_f64() / self.config.max_backlog.as_secs_f64().max(1e-3);
        let over = ((full - SOFT_BACKLOG) / (1.0 - SOFT_BACKLOG)).clamp(0.0, 1.0);
        let share = if self.waiting.is_some_and(|waiting| waiting.is_held) {
            HELD_SHARE
        } else {
            1.0 - over * (1.0 - LEAST_SHARE)
        };
        let wanted = self.codec_rate(share);
        let (new, old) = (u64::from(wanted.bps()), u64::from(self.video.bitrate.bps()));
        if new.abs_diff(old) * 100 > old * LEAST_CHANGE_PERCENT {
            self.video.bitrate = wanted;
        }
        // Where pictures become fewer, those between are left out.
        let one_of = self.ladder.rung().one_of;
        self.turn = self.turn.wrapping_add(1);
        if !self.turn.is_multiple_of(one_of) {
            self.stats.skipped += 1;
            return Plan::Skip;
        }
        Plan::Encode {
            config: self.video(),
            key: self.needs_key,
        }
    }

    /// The window of what was sent again forgets so much per second.
    fn repair_drain(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is positive"
        )]
        {
            (self.repair.bits / REPAIR_WINDOW.as_secs_f64()) as u32
        }
    }

    /// Encoding a picture took so long.
    pub fn encoded(&mut self, now: Instant, took: Duration) {
        if self.config.ladder {
            let changes = self.ladder.encoded(now, took);
            self.stats.rungs += u64::from(changes);
        }
    }

    /// The picture is as the one before, and is not sent.
    pub fn unchanged(&mut self) {
        self.stats.unchanged += 1;
    }

    /// Says of the pictures from now on whether what they show stands still. Only to a receiver that knows of it.
    pub fn set_still(&mut self, is_still: bool) {
        self.packetizer.set_still(is_still);
    }

    /// Takes what became of a picture, and gives out its packets in order. `None`: the encoder left it out.
    pub fn push(&mut self, now: Instant, encoded: Option<&EncodedFrame>) -> Vec<VideoOut> {
        let Some(frame) = encoded else {
            self.stats.dropped += 1;
            return Vec::new();
        };
        let packets = match self.packetizer.packetize(frame) {
            Ok(packets) => packets,
            Err(error) => {
                tracing::warn!(%error, "a picture is not sent");
                self.stats.dropped += 1;
                self.needs_key = true;
                return Vec::new();
            }
        };
        if frame.is_key {
            self.needs_key = false;
            self.last_key = Some(now);
            self.stats.key_frames += 1;
            self.sent.clear();
            self.protector.clear();
        }
        self.first.get_or_insert(now);
        self.stats.frames += 1;
        self.stats.codec_bytes += frame.bytes.len() as u64;
        self.backlog.drain(now, self.pace);
        let class = class_of(frame.temporal_layer);
        if class == Class::Base {
            let first = packets
                .first()
                .and_then(|packet| VideoPacket::parse(&packet.bytes).ok());
            self.last_base = first.map(|packet| packet.descriptor.frame);
        }
        let mut out = Vec::with_capacity(packets.len());
        let earlier = self.protector.next_picture();
        let protection = if self.config.parity {
            let (line, spread) = (self.line(now), self.config.spread);
            self.protector.protect(&packets, class, line, spread)
        } else {
            Vec::new()
        };
        for packet in packets {
            self.stats.packets += 1;
            if self.config.retransmission {
                self.sent.insert(now, packet.clone());
            }
            out.push(self.out(now, packet.bytes, class));
        }
        if let Some(first) = out.first_mut() {
            first.replaces = frame.is_key;
        }
        let earlier = earlier.into_iter().map(|packet| (packet, Class::Base));
        let protection = protection.into_iter().map(|packet| (packet, class));
        for (packet, class) in earlier.chain(protection) {
            self.stats.parity += 1;
            self.repair.bits += ((packet.bytes.len() + self.config.overhead_bytes) * 8) as f64;
            out.push(self.out(now, packet.bytes, class));
        }
        out
    }

    /// Which share of what is sent is lost, as far as is known.
    fn lost(&self) -> f32 {
        // What is told of the sound comes late where the way is long; what is known of the line is of all packets.
        let known = self.line_loss.unwrap_or(self.loss);
        self.loss.fraction.max(known.fraction)
    }

    /// What the line does to packets, as far as is known.
    fn line(&self, now: Instant) -> Line {
        let is_first = self.first.is_some_and(|first| now < first + UNKNOWN_FOR);
        let known = self.line_loss.unwrap_or(self.loss);
        let fraction = self.lost();
        Line {
            loss: Loss {
                fraction: if is_first {
                    fraction.max(UNKNOWN_LOSS)
                } else {
                    fraction
                },
                ..known
            },
            is_far: self.round_trip >= self.config.parity_from || !is_first && self.has_room(),
            near: self.config.parity_near,
        }
    }

    /// As long as parity is no more than half as much again, it takes nothing from pictures that are as good as they are to be.
    fn has_room(&self) -> bool {
        let wanted = u64::from(self.config.max_rate.bps());
        self.config.parity_near && u64::from(self.rate.bps()) * 100 >= wanted * ROOM_PERCENT
    }

    fn out(&mut self, now: Instant, bytes: Vec<u8>, class: Class) -> VideoOut {
        self.backlog.bits += ((bytes.len() + self.config.overhead_bytes) * 8) as f64;
        let worth = match class {
            Class::Repair | Class::Base => self.config.base_expiry,
            Class::Rest => self.config.rest_expiry,
        };
        VideoOut {
            bytes,
            class,
            expires: now + worth,
            replaces: false,
        }
    }

    /// The next picture is to stand by itself: somebody wants to begin with it.
    pub fn want_key(&mut self) {
        self.needs_key = true;
    }

    /// Takes a message of the receiver, and gives out packets to send again.
    pub fn handle_feedback(&mut self, now: Instant, bytes: &[u8]) -> Vec<VideoOut> {
        let feedback = match Feedback::decode(bytes) {
            Ok(feedback) => feedback,
            Err(error) => {
                tracing::trace!(%error, "a request is dropped");
                self.stats.malformed += 1;
                return Vec::new();
            }
        };
        if feedback.key_frame {
            self.stats.key_requests += 1;
            // It left before the last one can have arrived.
            let is_answered = self.last_key.is_some_and(|at| now < at + self.round_trip);
            self.needs_key |= !is_answered;
        }
        // A key frame comes: it needs nothing that was before.
        if !self.config.retransmission || self.waiting.is_some() && self.needs_key {
            return Vec::new();
        }
        self.backlog.drain(now, self.pace);
        self.repair.drain(now, Bitrate(self.repair_drain()));
        let is_full = self.waiting.is_some() && self.is_full(now);
        // The answer before may still wait.
        let answered_in = match self.waiting {
            Some(waiting) => self.round_trip + waiting.age,
            None => self.round_trip,
        };
        let answers = self.sent.answer(now, answered_in, feedback.missing);
        let mut out = Vec::with_capacity(answers.len());
        let mut base_bits = 0.0;
        for packet in answers {
            let descriptor = VideoPacket::parse(&packet.bytes)
                .ok()
                .map(|packet| packet.descriptor);
            let is_base = descriptor.is_some_and(|descriptor| descriptor.temporal_layer == 0);
            // The receiver goes on with the base behind it.
            let is_passed = descriptor
                .zip(self.last_base)
                .is_some_and(|(of, base)| !is_base && base.wrapping_sub(of.frame) < u16::MAX / 2);
            if self.waiting.is_some() && !is_base && (is_passed || is_full) {
                continue;
            }
            let bits = ((packet.bytes.len() + self.config.overhead_bytes) * 8) as f64;
            base_bits += if is_base { bits } else { 0.0 };
            out.push((packet, bits, is_base));
        }
        if self.is_key_sooner(now, base_bits) {
            self.needs_key = true;
            self.stats.repair_keys += 1;
            return Vec::new();
        }
        let out: Vec<VideoOut> = out
            .into_iter()
            .map(|(packet, bits, is_base)| {
                self.stats.resent += 1;
                self.repair.bits += bits;
                self.out(
                    now,
                    packet.bytes,
                    if is_base { Class::Repair } else { Class::Rest },
                )
            })
            .collect();
        out
    }
}

fn class_of(temporal_layer: u8) -> Class {
    if temporal_layer == 0 {
        Class::Base
    } else {
        Class::Rest
    }
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers wrap"
)]
mod tests {
    use super::*;
    use crate::video::packet::CLOCK_HZ;

    fn video() -> VideoConfig {
        VideoConfig {
            size: Size::new(640, 360).unwrap(),
            fps: 30,
            bitrate: Bitrate::kbps(500),
            content: Content::Motion,
            temporal_layers: 3,
            threads: 1,
            effort: 1,
        }
    }

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        Instant::now()
    }

    fn frame(number: u64, bytes: usize, is_key: bool, temporal_layer: u8) -> EncodedFrame {
        let mut unit = vec![0, 0, 0, 1, 0x41];
        unit.extend((0..bytes).map(|n| (n as u8).max(1)));
        EncodedFrame {
            bytes: unit,
            is_key,
            temporal_layer,
            needs: if is_key { [0; 2] } else { [1, 0] },
            taken: Duration::from_secs(number) / 30,
        }
    }

    fn send() -> VideoSend {
        // What is given out is what was put in.
        let config = VideoSendConfig {
            parity: false,
            ..VideoSendConfig::new(VideoCodec::H264, 7, 65_530)
        };
        VideoSend::new(config, video())
    }

    fn is_key(plan: Plan) -> bool {
        match plan {
            Plan::Skip => panic!("skipped"),
            Plan::Encode { key, .. } => key,
        }
    }

    #[test]
    fn the_base_is_worth_more_and_longer_and_all_can_be_asked_for_again() {
        let mut send = send();
        let now = start();
        assert!(is_key(send.plan(now)));
        let key = send.push(now, Some(&frame(0, 3000, true, 0)));
        assert_eq!(key.len(), 3);
        assert!(key.iter().all(|packet| packet.class == Class::Base));
        let rest = send.push(now, Some(&frame(1, 100, false, 2)));
        assert_eq!(rest[0].class, Class::Rest);
        assert!(rest[0].expires < key[0].expires);
        let packet = VideoPacket::parse(&rest[0].bytes).unwrap();
        assert_eq!(packet.header.timestamp.0, CLOCK_HZ / 30);
        let feedback = Feedback {
            missing: vec![65_531, 65_533, 90],
            key_frame: false,
        };
        let again = send.handle_feedback(now, &feedback.encode()[0]);
        assert_eq!(again.len(), 2);
        assert_eq!(
            (&again[0].bytes, again[0].class),
            (&key[1].bytes, Class::Repair)
        );
        assert_eq!(
            (&again[1].bytes, again[1].class),
            (&rest[0].bytes, Class::Rest)
        );
        let stats = send.stats();
        assert_eq!((stats.frames, stats.packets, stats.resent), (2, 4, 2));
        let mut off = VideoSend::new(
            VideoSendConfig {
                retransmission: false,
                parity: false,
                ..VideoSendConfig::new(VideoCodec::H264, 7, 65_530)
            },
            video(),
        );
        off.push(now, Some(&frame(0, 3000, true, 0)));
        assert_eq!(off.handle_feedback(now, &feedback.encode()[0]), []);
    }

    #[test]
    fn a_key_frame_is_made_once_for_all_who_ask_before_it_can_have_come() {
        let mut send = send();
        let begin = start();
        let at = |millis| begin + Duration::from_millis(millis);
        send.set_rate(begin, Bitrate::kbps(50_000), Bitrate::kbps(50_000));
        let ask = Feedback {
            key_frame: true,
            ..Feedback::default()
        }
        .encode();
        assert!(is_key(send.plan(at(0))));
        assert_eq!(send.push(at(0), None), []);
        assert!(is_key(send.plan(at(33))), "the encoder left it out");
        send.push(at(33), Some(&frame(1, 3000, true, 0)));
        assert!(!is_key(send.plan(at(66))));
        send.handle_feedback(at(100), &ask[0]);
        assert!(!is_key(send.plan(at(100))));
        send.handle_feedback(at(134), &ask[0]);
        assert!(is_key(send.plan(at(134))));
        assert_eq!(send.stats().key_requests, 2);
        assert_eq!(send.handle_feedback(at(134), &[0xff, 1]), []);
        assert_eq!(send.stats().malformed, 1);
    }

    #[test]
    fn pictures_are_left_out_while_too_much_waits_and_when_the_rate_is_none() {
        let mut send = send();
        let begin = start();
        let rate = Bitrate::kbps(400);
        send.set_rate(begin, rate, rate);
        assert!(is_key(send.plan(begin)));
        // 25 kB: half a second.
        send.push(begin, Some(&frame(0, 25_000, true, 0)));
        let skipped = (1..30)
            .filter(|n| send.plan(begin + Duration::from_millis(33 * n)) == Plan::Skip)
            .count();
        assert!((9..12).contains(&skipped), "{skipped}");
        let none = Bitrate::kbps(20);
        let later = begin + Duration::from_secs(9);
        send.set_rate(later, none, none);
        assert_eq!(send.plan(later), Plan::Skip);
    }

    fn waiting(bytes: usize, millis: u64) -> Waiting {
        Waiting {
            is_held: false,
            bytes,
            age: Duration::from_millis(millis),
        }
    }

    #[test]
    fn pictures_are_left_out_by_what_really_waits() {
        let mut send = send();
        let begin = start();
        let rate = Bitrate::kbps(400);
        send.set_rate(begin, rate, rate);
        // By the model, 25 kB would be half a second; but they have left.
        send.push(begin, Some(&frame(0, 25_000, true, 0)));
        let at = |millis| begin + Duration::from_millis(millis);
        let mut plan = |millis, told| {
            send.set_waiting(at(millis), told);
            send.plan(at(millis))
        };
        assert_ne!(plan(33, waiting(0, 0)), Plan::Skip);
        assert_eq!(plan(66, waiting(12_000, 50)), Plan::Skip, "240 ms");
        assert_ne!(plan(99, waiting(5_000, 140)), Plan::Skip);
        assert_eq!(
            plan(132, waiting(200, 160)),
            Plan::Skip,
            "it does not leave"
        );
        assert_eq!(send.stats().skipped, 2);
    }

    #[test]
    fn where_much_is_lost_what_waits_may_be_older() {
        let skips = |lost, patient, millis| {
            let mut send = send();
            send.config.patient = patient;
            let begin = start();
            let rate = Bitrate::kbps(400);
            send.set_rate(begin, rate, rate);
            send.set_loss(Loss {
                fraction: lost,
                mean_burst: 1.0,
            });
            send.push(begin, Some(&frame(0, 3000, true, 0)));
            send.set_waiting(begin, waiting(2000, millis));
            send.plan(begin) == Plan::Skip
        };
        assert!(skips(0.0, true, 160));
        assert!(!skips(0.2, true, 440));
        assert!(skips(0.2, true, 460));
        assert!(skips(0.9, true, 460));
        assert!(skips(0.2, false, 160));
    }

    #[test]
    fn pictures_that_may_not_leave_are_made_for_a_narrow_line() {
        let mut send = send();
        let begin = start();
        let rate = Bitrate::kbps(1000);
        send.set_rate(begin, rate, rate);
        let at = |millis| begin + Duration::from_millis(millis);
        let mut bitrate = |millis, is_held| {
            let told = Waiting {
                is_held,
                ..waiting(2000, 20)
            };
            send.set_waiting(at(millis), told);
            match send.plan(at(millis)) {
                Plan::Skip => panic!("skipped"),
                Plan::Encode { config, .. } => f64::from(config.bitrate.bps()),
            }
        };
        let usual = bitrate(0, false);
        let held = bitrate(33, true);
        assert!(held < usual * 0.4, "{held} of {usual}");
        assert_eq!(bitrate(66, false), usual);
    }

    #[test]
    fn while_a_queue_drains_one_picture_waits_and_a_key_frame_not_yet() {
        let mut send = send();
        let begin = start();
        let at = |millis| begin + Duration::from_millis(millis);
        let (rate, little) = (Bitrate::kbps(400), Bitrate::kbps(20));
        send.set_rate(begin, rate, rate);
        send.push(begin, Some(&frame(0, 3000, true, 0)));
        send.set_rate(at(500), rate, little);
        send.set_waiting(at(500), waiting(0, 0));
        assert!(!is_key(send.plan(at(500))));
        send.set_waiting(at(533), waiting(900, 33));
        assert_eq!(send.plan(at(533)), Plan::Skip);
        let ask = Feedback {
            key_frame: true,
            ..Feedback::default()
        };
        send.handle_feedback(at(550), &ask.encode()[0]);
        send.set_waiting(at(566), waiting(0, 0));
        assert_eq!(send.plan(at(566)), Plan::Skip, "a key frame would stand");
        // When it may leave, it goes before whatever waits; and it does not wait for ever.
        send.set_waiting(at(1100), waiting(9_000, 500));
        assert!(is_key(send.plan(at(1100))));
        send.set_rate(at(700), rate, rate);
        send.set_waiting(at(700), waiting(9_000, 200));
        assert!(is_key(send.plan(at(700))));
    }

    #[test]
    fn a_key_frame_replaces_what_was_before_it() {
        let mut send = send();
        let now = start();
        let first = send.push(now, Some(&frame(0, 3000, true, 0)));
        assert_eq!(first.iter().filter(|packet| packet.replaces).count(), 1);
        assert!(first[0].replaces);
        let next = send.push(now, Some(&frame(1, 1000, false, 0)));
        assert!(next.iter().all(|packet| !packet.replaces));
        let again = send.push(now, Some(&frame(2, 1000, true, 0)));
        assert!(again[0].replaces);
        let missing = (65_530..=u16::MAX).chain(0..10).collect();
        let all = Feedback {
            missing,
            key_frame: false,
        };
        let later = now + Duration::from_secs(1);
        let answers = send.handle_feedback(later, &all.encode()[0]);
        assert_eq!(answers.len(), again.len(), "none from before");
    }

    #[test]
    fn what_is_asked_for_is_answered_by_whatever_is_there_sooner() {
        for (kbps, sooner) in [(2000, false), (250, true)] {
            let mut send = send();
            let begin = start();
            let rate = Bitrate::kbps(kbps);
            let at = |millis| begin + Duration::from_millis(millis);
            send.set_rate(begin, rate, rate);
            send.push(begin, Some(&frame(0, 3000, true, 0)));
            send.push(begin, Some(&frame(1, 8000, false, 0)));
            send.push(begin, Some(&frame(2, 1000, false, 2)));
            send.push(begin, Some(&frame(3, 1000, false, 0)));
            send.push(begin, Some(&frame(4, 1000, false, 2)));
            send.set_waiting(at(1000), waiting(0, 0));
            let all = Feedback {
                missing: (0..8).collect(),
                key_frame: false,
            };
            let answers = send.handle_feedback(at(1000), &all.encode()[0]);
            let of = |class| answers.iter().filter(|one| one.class == class).count();
            assert_eq!(answers.is_empty(), sooner, "{kbps}");
            assert_eq!(send.stats().repair_keys, u64::from(sooner));
            assert_eq!(is_key(send.plan(at(1010))), sooner);
            if !sooner {
                // The base, and of the rest what has no base behind it.
                assert_eq!(of(Class::Rest), 1, "{answers:?}");
                assert!(of(Class::Repair) >= 6, "{answers:?}");
            }
        }
    }

    #[test]
    fn parity_is_for_long_ways_that_lose_and_for_all_that_lose_much() {
        let now = start();
        for (round_trip, fraction, expected) in [
            (50, 0.02, 0),
            (50, 0.05, 1),
            (200, 0.0, 0),
            (200, 0.05, 3),
            (50, 0.2, 4),
        ] {
            let config = VideoSendConfig::new(VideoCodec::H264, 7, 65_530);
            let mut send = VideoSend::new(config, video());
            send.set_round_trip(Duration::from_millis(round_trip));
            send.set_loss(Loss {
                fraction,
                mean_burst: 1.0,
            });
            let early = send.push(now, Some(&frame(0, 4000, true, 0)));
            let at_first = match round_trip {
                200 => expected.max(2),
                _near => expected,
            };
            assert_eq!(early.len(), 4 + at_first, "nothing is known yet");
            let later = now + UNKNOWN_FOR;
            let out = send.push(later, Some(&frame(1, 4000, true, 0)));
            assert_eq!(out.len(), 4 + expected, "{round_trip} {fraction}");
            assert_eq!(send.stats().parity, (at_first + expected) as u64);
            assert!(out.iter().all(|packet| packet.bytes.len() <= 1150));
        }
    }

    #[test]
    fn where_there_is_room_every_frame_has_parity_on_short_ways_too() {
        let now = start();
        // Of a frame that others need, and of one that none needs.
        for (kbps, near, expected) in [
            (900, true, [2, 1]),
            (890, true, [0, 0]),
            (900, false, [0, 0]),
        ] {
            let config = VideoSendConfig {
                max_rate: Bitrate::kbps(600),
                parity_near: near,
                ..VideoSendConfig::new(VideoCodec::H264, 7, 1)
            };
            let mut send = VideoSend::new(config, video());
            send.set_round_trip(Duration::from_millis(50));
            send.set_loss(Loss {
                fraction: 0.02,
                mean_burst: 1.0,
            });
            send.push(now, Some(&frame(0, 4000, true, 0)));
            let later = now + UNKNOWN_FOR;
            send.set_rate(later, Bitrate::kbps(kbps), Bitrate::kbps(kbps));
            for (n, layer) in [(1, 0), (2, 1)] {
                let out = send.push(later, Some(&frame(n, 4000, false, layer)));
                let parity = expected[usize::from(layer)];
                assert_eq!(out.len(), 4 + parity, "{kbps} {near} {layer}");
            }
        }
    }

    #[test]
    fn a_rate_that_stays_low_makes_pictures_smaller_unless_that_is_off() {
        for ladder in [true, false] {
            let config = VideoSendConfig {
                ladder,
                ..VideoSendConfig::new(VideoCodec::Av1, 1, 1)
            };
            let mut send = VideoSend::new(config, video());
            let begin = start();
            let mut last = None;
            for n in 0..150 {
                let now = begin + Duration::from_millis(33) * n;
                send.set_rate(now, Bitrate::kbps(60), Bitrate::kbps(60));
                if let Plan::Encode { config, .. } = send.plan(now) {
                    last = Some(config.size.to_string());
                }
            }
            let expected = if ladder { "480x270" } else { "640x360" };
            assert_eq!(last.as_deref(), Some(expected));
            assert_eq!(send.stats().rungs > 0, ladder);
        }
    }

    #[test]
    fn another_size_or_content_begins_at_the_top_of_its_ladder_and_fewer_pictures_are_encoded() {
        let mut send = send();
        let begin = start();
        let encoded = |send: &mut VideoSend, from: u32, count: u32, kbps: u32| {
            let mut planned = Vec::new();
            for n in from..from + count {
                let now = begin + Duration::from_millis(33) * n;
                send.set_rate(now, Bitrate::kbps(kbps), Bitrate::kbps(kbps));
                if let Plan::Encode { config, .. } = send.plan(now) {
                    planned.push((config.size.to_string(), config.fps));
                }
            }
            planned
        };
        encoded(&mut send, 0, 300, 60);
        assert!(send.video().size.width() < 640);
        let size = Size::new(800, 600).unwrap();
        send.set_source(size, Content::Text, Bitrate(u32::MAX));
        assert_eq!(send.video().size, size);
        let rungs = send.stats().rungs;
        send.set_source(size, Content::Text, Bitrate(u32::MAX));
        assert_eq!(send.stats().rungs, rungs);
        // Text of that size gets one picture of six, and says so to the codec.
        encoded(&mut send, 400, 300, 55);
        let planned = encoded(&mut send, 700, 60, 55);
        assert_eq!(planned, vec![(String::from("800x600"), 5); 10]);
    }

    #[test]
    fn headers_and_repair_are_taken_from_the_codecs_share() {
        let mut send = send();
        let begin = start();
        let rate = Bitrate::kbps(500);
        send.set_rate(begin, rate, rate);
        let bitrate = |plan| match plan {
            Plan::Skip => panic!("skipped"),
            Plan::Encode { config, .. } => config.bitrate.bps(),
        };
        let all = bitrate(send.plan(begin));
        assert!((430_000..460_000).contains(&all), "{all}");
        send.push(begin, Some(&frame(0, 5000, true, 0)));
        let missing = Feedback {
            missing: (65_530..=u16::MAX).collect(),
            key_frame: false,
        };
        let later = begin + Duration::from_millis(300);
        assert_eq!(send.handle_feedback(later, &missing.encode()[0]).len(), 5);
        let less = bitrate(send.plan(later + Duration::from_millis(100)));
        assert!(less + 20_000 < all, "{less} of {all}");
        let after = bitrate(send.plan(begin + Duration::from_secs(5)));
        assert!(after + 20_000 > all, "{after} of {all}");
    }
}
