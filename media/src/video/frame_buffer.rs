//! The receiver's frames: packets in, in any order and more than once; frames out that can be decoded, in order.
//!
//! Nothing here knows a socket or a clock. After each [`FrameBuffer::insert`], and at [`FrameBuffer::poll_timeout`], drain
//! [`FrameBuffer::poll_frame`] until it has none, then take [`FrameBuffer::poll_requests`] and send what it says.
//!
//! **What is waited for.** A frame goes out as soon as it is whole and all that it needs has gone out. If packets between
//! the frame before and it are missing, these belong to frames that it does not need, so higher layers in time: it waits
//! for them no longer than packets take to change places, and then skips them. A frame that needs one which is not here
//! waits as long as that one can still come: until each missing packet was asked for the permitted number of times and
//! every answer is overdue, at most [`FrameBufferConfig::patience`]. Then it is
//! dropped, and if what is missing is of the base, all the others with it, and a key frame is asked for.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    codec::VideoCodec,
    packet::{
        self, Descriptor, VideoPacket,
        parity::{self, ParityPacket},
    },
};
use crate::time::RtpTimestamp;

/// Frames that went out and are remembered: a frame can need one that is 255 before it.
const REMEMBERED: usize = 256;

/// A jump of sequence numbers further than this is no loss that could be repaired: all begins anew.
const MAX_JUMP: u64 = 1024;

/// Missing packets that are kept in mind.
const MAX_MISSING: usize = 1024;

/// An answer is overdue after this many round trips, in percent; only then a packet is asked for again.
const OVERDUE_PERCENT: u32 = 125;

/// No packet is asked for again sooner than this: timers of the other side, and round trips in one room.
const MIN_OVERDUE: Duration = Duration::from_millis(10);

/// How to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameBufferConfig {
    /// Payload bytes that are kept at most. The oldest frame goes first.
    pub max_bytes: usize,
    /// Frames that are kept at most.
    pub max_frames: usize,
    /// Ask for missing packets again.
    pub retransmission: bool,
    /// How often for each.
    pub max_requests: u8,
    /// How much later than its successors a packet may come without being missed.
    pub reordering: Duration,
    /// A frame that is whole waits at most so long for what it needs.
    pub patience: Duration,
    /// Key frames are asked for no more often than this, and no more often than one and a half round trips.
    pub key_interval: Duration,
}

impl Default for FrameBufferConfig {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 20,
            max_frames: 128,
            retransmission: true,
            max_requests: 8,
            reordering: Duration::from_millis(8),
            patience: Duration::from_millis(600),
            key_interval: Duration::from_millis(250),
        }
    }
}

/// What was seen, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameBufferCounters {
    /// Packets taken.
    pub packets: u64,
    /// Packets that were here already.
    pub duplicates: u64,
    /// Packets of frames that had gone out, or had been let go.
    pub late: u64,
    /// Packets that contradict others of their frame, or are of another codec.
    pub malformed: u64,
    /// Packets that came after they were asked for again.
    pub recovered: u64,
    /// Packets made from parity.
    pub restored: u64,
    /// Packets asked for again, each time counted.
    pub requested: u64,
    /// Frames of which at least one packet came.
    pub frames: u64,
    /// Frames given out.
    pub decodable: u64,
    /// Frames that were not whole when a later one went out.
    pub dropped_incomplete: u64,
    /// Frames that needed one which never came.
    pub dropped_undecodable: u64,
    /// Frames that memory had no room for.
    pub dropped_full: u64,
    /// Frames whose payloads could not be put together.
    pub dropped_malformed: u64,
    /// Key frames asked for.
    pub key_requests: u64,
}

impl FrameBufferCounters {
    /// What two buffers saw, one after the other.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            duplicates: self.duplicates + other.duplicates,
            late: self.late + other.late,
            malformed: self.malformed + other.malformed,
            recovered: self.recovered + other.recovered,
            restored: self.restored + other.restored,
            requested: self.requested + other.requested,
            frames: self.frames + other.frames,
            decodable: self.decodable + other.decodable,
            dropped_incomplete: self.dropped_incomplete + other.dropped_incomplete,
            dropped_undecodable: self.dropped_undecodable + other.dropped_undecodable,
            dropped_full: self.dropped_full + other.dropped_full,
            dropped_malformed: self.dropped_malformed + other.dropped_malformed,
            key_requests: self.key_requests + other.key_requests,
        }
    }
}

/// A frame that can be decoded now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// As its decoder takes it.
    pub bytes: Vec<u8>,
    /// It starts a sequence.
    pub is_key: bool,
    /// 0 for the base.
    pub temporal_layer: u8,
    /// When the picture was taken, 90 kHz.
    pub timestamp: RtpTimestamp,
    /// Counts frames from an arbitrary start and does not wrap; what is missing between two was skipped.
    pub number: u64,
    /// When its first packet came.
    pub first_arrival: Instant,
    /// It is later than others: something of it was lost, or of what it needs, and came again.
    pub is_repaired: bool,
    /// What it shows stands still: the next one may be long in coming.
    pub is_still: bool,
}

/// What the sender should be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// Sequence numbers of packets to send again.
    pub missing: Vec<u16>,
    /// Only a key frame helps.
    pub key_frame: bool,
}

#[derive(Debug)]
struct Assembly {
    descriptor: Descriptor,
    timestamp: RtpTimestamp,
    first_sequence: u64,
    bodies: BTreeMap<u16, Vec<u8>>,
    /// How many packets of parity there are, and those that came.
    parity: u16,
    shards: BTreeMap<u16, Vec<u8>>,
    bytes: usize,
    first_arrival: Instant,
    last_arrival: Instant,
    /// When the last packet came.
    whole: Option<Instant>,
    /// Something of it, or of what it needs, was lost and came again.
    is_repaired: bool,
}

impl Assembly {
    fn end(&self) -> u64 {
        self.first_sequence + u64::from(self.descriptor.count)
    }

    /// Makes the missing packets from parity: their places in the frame. Parity that makes none is of no use.
    fn restore(&mut self) -> Vec<u16> {
        let restored = parity::restore(
            self.descriptor.count,
            self.parity,
            self.bodies
                .iter()
                .map(|(index, body)| (*index, body.as_slice())),
            self.shards
                .iter()
                .map(|(index, shard)| (*index, shard.as_slice())),
        );
        let shards = std::mem::take(&mut self.shards);
        self.bytes -= shards.values().map(Vec::len).sum::<usize>();
        let mut places = Vec::new();
        for (index, body) in restored.unwrap_or_default() {
            self.bytes += body.len();
            self.bodies.insert(index, body);
            places.push(index);
        }
        places
    }
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Instant,
    requests: u8,
    last: Option<Instant>,
}

/// Whether a frame can go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// All that it needs has gone out.
    Ready,
    /// Something that it needs has not yet.
    Waits,
    /// Something that it needs was passed over.
    Never,
}

/// Puts frames together.
#[derive(Debug)]
pub struct FrameBuffer {
    codec: VideoCodec,
    config: FrameBufferConfig,
    round_trip: Duration,
    ssrc: Option<u32>,
    frames: BTreeMap<u64, Assembly>,
    bytes: usize,
    missing: BTreeMap<u64, Missing>,
    highest_sequence: Option<u64>,
    highest_frame: Option<u64>,
    /// Behind the last packet of the frame that went out last.
    passed_sequence: u64,
    /// Frames up to this one are done with.
    passed_frame: Option<u64>,
    given: VecDeque<u64>,
    needs_key: bool,
    /// Somebody would like to have one, and goes on without.
    wants_key: bool,
    last_key_request: Option<Instant>,
    counters: FrameBufferCounters,
}

/// The number nearest to `near` whose low 16 bits are `low`. Numbering starts at 2^32, so nothing gets below zero.
fn unwrapped(near: Option<u64>, low: u16) -> u64 {
    let Some(near) = near else {
        return (1 << 32) + u64::from(low);
    };
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits")]
    let step = low.wrapping_sub(near as u16).cast_signed();
    near.saturating_add_signed(step.into())
}

impl FrameBuffer {
    /// Empty; the first frame that goes out is a key frame.
    #[must_use]
    pub fn new(codec: VideoCodec, config: FrameBufferConfig) -> Self {
        Self {
            codec,
            config,
            round_trip: Duration::from_millis(100),
            ssrc: None,
            frames: BTreeMap::new(),
            bytes: 0,
            missing: BTreeMap::new(),
            highest_sequence: None,
            highest_frame: None,
            passed_sequence: 0,
            passed_frame: None,
            given: VecDeque::new(),
            needs_key: true,
            wants_key: false,
            last_key_request: None,
            counters: FrameBufferCounters::default(),
        }
    }

    /// What was seen.
    #[must_use]
    pub fn counters(&self) -> FrameBufferCounters {
        self.counters
    }

    /// Payload bytes kept.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Frames kept, whole or not.
    #[must_use]
    pub fn held_frames(&self) -> usize {
        self.frames.len()
    }

    /// Says how long an answer takes; 100 ms until then.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// Asks for a key frame. What comes before it goes out as ever.
    pub fn want_key(&mut self) {
        self.wants_key = true;
    }

    /// The decoder refused the last frame: nothing goes out before the next key frame.
    pub fn require_key(&mut self) {
        self.let_go();
    }

    /// Takes a packet.
    pub fn insert(&mut self, now: Instant, packet: &VideoPacket<'_>) {
        let VideoPacket {
            header,
            descriptor,
            body,
        } = *packet;
        self.counters.packets += 1;
        if header.payload_type != self.codec.payload_type() {
            self.counters.malformed += 1;
            return;
        }
        let sequence = self.place(header.ssrc, header.sequence);
        let was_asked_for = self.note_sequence(now, sequence);
        let Some(first_sequence) = sequence.checked_sub(descriptor.index.into()) else {
            self.counters.malformed += 1;
            return;
        };
        let Some((number, frame)) = self.frame(now, descriptor, header.timestamp, first_sequence)
        else {
            return;
        };
        if frame.bodies.contains_key(&descriptor.index) {
            self.counters.duplicates += 1;
            return;
        }
        frame.is_repaired |= was_asked_for;
        frame.bodies.insert(descriptor.index, body.to_vec());
        frame.bytes += body.len();
        self.bytes += body.len();
        self.complete(now, number);
    }

    /// Takes a packet of parity.
    pub fn insert_parity(&mut self, now: Instant, packet: &ParityPacket<'_>) {
        let ParityPacket {
            ssrc,
            timestamp,
            descriptor,
            first_sequence,
            payload_type,
            parity,
            shard,
        } = *packet;
        self.counters.packets += 1;
        // With parity alone nothing begins: its frame's packets went before it.
        if payload_type != self.codec.payload_type() || self.ssrc != Some(ssrc) {
            self.counters.malformed += 1;
            return;
        }
        let first_sequence = self.place(ssrc, first_sequence);
        let last = first_sequence + u64::from(descriptor.count) - 1;
        // It says which packets there are, but none of them came by it.
        if self.highest_sequence.is_some_and(|highest| last > highest) {
            self.note_sequence(now, last);
            self.note_missing(now, last);
        }
        let Some((number, frame)) = self.frame(now, descriptor, timestamp, first_sequence) else {
            return;
        };
        let is_first = frame.shards.is_empty();
        let same_len = frame
            .shards
            .values()
            .all(|known| known.len() == shard.len());
        if !(is_first || frame.parity == parity && same_len) {
            self.counters.malformed += 1;
            return;
        }
        if frame.whole.is_some() || frame.shards.contains_key(&descriptor.index) {
            return;
        }
        frame.parity = parity;
        frame.shards.insert(descriptor.index, shard.to_vec());
        frame.bytes += shard.len();
        self.bytes += shard.len();
        self.complete(now, number);
    }

    /// The place of a sequence number among all; another stream begins anew.
    fn place(&mut self, ssrc: u32, sequence: u16) -> u64 {
        if self.ssrc.is_some_and(|known| known != ssrc) {
            self.restart();
        }
        self.ssrc = Some(ssrc);
        unwrapped(self.highest_sequence, sequence)
    }

    /// The frame that a packet belongs to, unless it is done with, or the packet contradicts others.
    fn frame(
        &mut self,
        now: Instant,
        descriptor: Descriptor,
        timestamp: RtpTimestamp,
        first_sequence: u64,
    ) -> Option<(u64, &mut Assembly)> {
        let number = unwrapped(self.highest_frame, descriptor.frame);
        if self.passed_frame.is_some_and(|passed| number <= passed) {
            self.counters.late += 1;
            return None;
        }
        self.highest_frame = self.highest_frame.max(Some(number));
        let frame = self.frames.entry(number).or_insert_with(|| {
            self.counters.frames += 1;
            Assembly {
                descriptor,
                timestamp,
                first_sequence,
                bodies: BTreeMap::new(),
                parity: 0,
                shards: BTreeMap::new(),
                bytes: 0,
                first_arrival: now,
                last_arrival: now,
                whole: None,
                is_repaired: false,
            }
        });
        let same = Descriptor {
            index: descriptor.index,
            ..frame.descriptor
        };
        if same != descriptor
            || frame.first_sequence != first_sequence
            || frame.timestamp != timestamp
        {
            self.counters.malformed += 1;
            return None;
        }
        frame.last_arrival = now;
        Some((number, frame))
    }

    /// Something of a frame came: it may be whole, or can be made so; and memory may be full.
    fn complete(&mut self, now: Instant, number: u64) {
        if let Some(frame) = self.frames.get_mut(&number) {
            let count = usize::from(frame.descriptor.count);
            let is_enough = frame.bodies.len() + frame.shards.len() >= count;
            if frame.bodies.len() < count && is_enough {
                let before = frame.bytes;
                let restored = frame.restore();
                self.bytes = self.bytes - before + frame.bytes;
                self.counters.restored += restored.len() as u64;
                frame.is_repaired |= !restored.is_empty();
                for index in restored {
                    self.missing
                        .remove(&(frame.first_sequence + u64::from(index)));
                }
            }
            if frame.bodies.len() == count {
                frame.whole.get_or_insert(now);
            }
        }
        while self.bytes > self.config.max_bytes || self.frames.len() > self.config.max_frames {
            let Some((evicted, frame)) = self.frames.pop_first() else {
                break;
            };
            self.counters.dropped_full += 1;
            self.bytes -= frame.bytes;
            self.passed_frame = self.passed_frame.max(Some(evicted));
            self.pass(frame.end());
        }
    }

    /// Another sender, or the same one begins again.
    fn restart(&mut self) {
        self.let_go();
        self.highest_sequence = None;
        self.highest_frame = None;
        self.passed_frame = None;
        self.passed_sequence = 0;
        self.given.clear();
    }

    /// A packet of this number came. Whether it was asked for.
    fn note_sequence(&mut self, now: Instant, sequence: u64) -> bool {
        let Some(highest) = self.highest_sequence else {
            self.highest_sequence = Some(sequence);
            return false;
        };
        if sequence <= highest {
            let was = self.missing.remove(&sequence);
            let was_asked_for = was.is_some_and(|was| was.requests > 0);
            self.counters.recovered += u64::from(was_asked_for);
            return was_asked_for;
        }
        self.highest_sequence = Some(sequence);
        if sequence - highest > MAX_JUMP {
            self.let_go();
            return false;
        }
        for missing in (highest + 1).max(self.passed_sequence)..sequence {
            let new = Missing {
                since: now,
                requests: 0,
                last: None,
            };
            self.missing.insert(missing, new);
        }
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_first();
        }
        false
    }

    /// The packet of this number is known to be there, and did not come.
    fn note_missing(&mut self, now: Instant, sequence: u64) {
        if sequence >= self.passed_sequence {
            let new = Missing {
                since: now,
                requests: 0,
                last: None,
            };
            self.missing.entry(sequence).or_insert(new);
        }
    }

    /// Packets before `sequence` are waited for no longer.
    fn pass(&mut self, sequence: u64) {
        self.passed_sequence = self.passed_sequence.max(sequence);
        self.missing = self.missing.split_off(&self.passed_sequence);
    }

    /// Everything before the next key frame is dropped, and what is missing of it forgotten.
    fn let_go(&mut self) {
        let key = self
            .frames
            .iter()
            .find(|(_, frame)| frame.descriptor.is_key)
            .map(|(number, frame)| (*number, frame.first_sequence));
        let later = match key {
            Some((number, sequence)) => {
                self.pass(sequence);
                self.frames.split_off(&number)
            }
            None => {
                self.missing.clear();
                BTreeMap::new()
            }
        };
        for (number, frame) in std::mem::replace(&mut self.frames, later) {
            self.counters.dropped_undecodable += 1;
            self.bytes -= frame.bytes;
            self.passed_frame = self.passed_frame.max(Some(number));
        }
        self.needs_key = true;
    }

    /// Whether this frame's base is here. What it needs furthest back is of the base; what else it needs is of a layer
    /// above, which comes back by itself.
    fn has_base(&self, number: u64) -> bool {
        let Some(frame) = self.frames.get(&number) else {
            return false;
        };
        let furthest = frame.descriptor.needs.iter().max().copied().unwrap_or(0);
        self.given
            .contains(&number.saturating_sub(u64::from(furthest)))
    }

    fn readiness(&self, number: u64, frame: &Assembly) -> Readiness {
        if frame.descriptor.is_key {
            return Readiness::Ready;
        }
        if self.needs_key {
            return Readiness::Waits;
        }
        let mut readiness = Readiness::Ready;
        for need in frame.descriptor.needs.iter().filter(|need| **need > 0) {
            let needed = number.saturating_sub(u64::from(*need));
            if self.given.contains(&needed) {
                continue;
            }
            if self.passed_frame.is_some_and(|passed| needed <= passed) {
                return Readiness::Never;
            }
            readiness = Readiness::Waits;
        }
        readiness
    }

    /// When packet `missing` is asked for next, or is given up if it was asked for often enough.
    fn due(&self, missing: &Missing) -> Instant {
        match missing.last {
            None => missing.since + self.config.reordering,
            Some(last) => last + self.overdue(),
        }
    }

    fn overdue(&self) -> Duration {
        (self.round_trip * OVERDUE_PERCENT / 100).max(MIN_OVERDUE)
    }

    fn max_requests(&self) -> u8 {
        if self.config.retransmission {
            self.config.max_requests
        } else {
            0
        }
    }

    /// When the last hope for packets before `sequence` ends; `None` if there is none.
    fn hope(&self, sequence: u64) -> Option<Instant> {
        self.missing
            .range(..sequence)
            .map(|(_, missing)| {
                let left = u32::from(self.max_requests().saturating_sub(missing.requests));
                self.due(missing) + self.overdue() * left
            })
            .max()
    }

    /// The next frame that can be decoded, in order. `None` until more comes.
    pub fn poll_frame(&mut self, now: Instant) -> Option<ReceivedFrame> {
        loop {
            if self.needs_key {
                self.drop_impatient(now);
            }
            let mut ready = None;
            let mut lost = None;
            let mut has_waited = false;
            let mut behind_gap = None;
            for (number, frame) in &self.frames {
                let Some(whole) = frame.whole else { continue };
                match self.readiness(*number, frame) {
                    Readiness::Ready => {
                        let gap = self.missing.range(..frame.first_sequence).next().is_some();
                        lost = None;
                        if !gap || now >= whole + self.config.reordering {
                            ready = Some(*number);
                        } else {
                            behind_gap = Some(*number);
                        }
                        break;
                    }
                    Readiness::Never => lost = lost.or(Some(*number)),
                    // The first one that waits says whether there is hope for those behind it, too.
                    Readiness::Waits if self.needs_key || has_waited => {}
                    Readiness::Waits => {
                        has_waited = true;
                        behind_gap = Some(*number);
                        let hope = self.hope(frame.first_sequence);
                        if hope.is_none_or(|hope| now >= hope)
                            || now >= whole + self.config.patience
                        {
                            lost = lost.or(Some(*number));
                        }
                    }
                }
            }
            // All behind it wait too.
            if let Some(number) = behind_gap {
                for frame in self.frames.range_mut(number..).map(|(_, frame)| frame) {
                    frame.is_repaired |= frame.whole.is_some();
                }
            }
            if let Some(number) = ready {
                if let Some(frame) = self.give(number) {
                    return Some(frame);
                }
            } else if let Some(number) = lost {
                if !self.has_base(number) {
                    self.let_go();
                } else if let Some(frame) = self.frames.remove(&number) {
                    self.counters.dropped_undecodable += 1;
                    self.bytes -= frame.bytes;
                }
            } else {
                return None;
            }
        }
    }

    /// Frames that wait for a key frame in front of them, which would have come by now.
    fn drop_impatient(&mut self, now: Instant) {
        while let Some(first) = self.frames.first_entry() {
            let frame = first.get();
            if frame.descriptor.is_key || now < frame.last_arrival + self.config.patience {
                return;
            }
            self.counters.dropped_undecodable += 1;
            self.bytes -= frame.bytes;
            let (end, number) = (frame.end(), *first.key());
            first.remove();
            self.passed_frame = self.passed_frame.max(Some(number));
            self.pass(end);
        }
    }

    /// Takes a frame out, and drops those before it.
    fn give(&mut self, number: u64) -> Option<ReceivedFrame> {
        let later = self.frames.split_off(&(number + 1));
        let mut earlier = std::mem::replace(&mut self.frames, later);
        let frame = earlier.remove(&number)?;
        for dropped in earlier.values() {
            self.bytes -= dropped.bytes;
            if dropped.whole.is_some() {
                self.counters.dropped_undecodable += 1;
            } else {
                self.counters.dropped_incomplete += 1;
            }
        }
        self.bytes -= frame.bytes;
        self.passed_frame = self.passed_frame.max(Some(number));
        self.pass(frame.end());
        let Some(bytes) = packet::join(self.codec, frame.bodies.values().map(Vec::as_slice)) else {
            self.counters.dropped_malformed += 1;
            return None;
        };
        if frame.descriptor.is_key {
            self.needs_key = false;
            self.wants_key = false;
            self.given.clear();
        }
        self.given.push_back(number);
        if self.given.len() > REMEMBERED {
            self.given.pop_front();
        }
        self.counters.decodable += 1;
        Some(ReceivedFrame {
            bytes,
            is_key: frame.descriptor.is_key,
            temporal_layer: frame.descriptor.temporal_layer,
            timestamp: frame.timestamp,
            number,
            first_arrival: frame.first_arrival,
            is_repaired: frame.is_repaired,
            is_still: frame.descriptor.is_still,
        })
    }

    /// Whether a key frame is on its way: one has begun, and its rest can still come.
    fn key_is_coming(&self, now: Instant) -> bool {
        self.frames.values().any(|frame| {
            frame.descriptor.is_key
                && (self.hope(frame.end()).is_some_and(|hope| now < hope)
                    || now < frame.last_arrival + self.config.key_interval)
        })
    }

    fn key_due(&self, now: Instant) -> Option<Instant> {
        let is_wished = self.needs_key || self.wants_key;
        if !is_wished || self.ssrc.is_none() || self.key_is_coming(now) {
            return None;
        }
        let interval = self.config.key_interval.max(self.round_trip * 3 / 2);
        Some(self.last_key_request.map_or(now, |last| last + interval))
    }

    /// What to tell the sender now. Each call that returns something counts as told.
    pub fn poll_requests(&mut self, now: Instant) -> Requests {
        let mut requests = Requests::default();
        let most = self.max_requests();
        let due: Vec<u64> = self
            .missing
            .iter()
            .filter(|(_, missing)| missing.requests < most && self.due(missing) <= now)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in due {
            if let Some(missing) = self.missing.get_mut(&sequence) {
                missing.requests += 1;
                missing.last = Some(now);
                self.counters.requested += 1;
                #[expect(clippy::cast_possible_truncation, reason = "the wire's 16 bits")]
                requests.missing.push(sequence as u16);
            }
        }
        if self.key_due(now).is_some_and(|due| due <= now) {
            self.last_key_request = Some(now);
            self.counters.key_requests += 1;
            requests.key_frame = true;
        }
        requests
    }

    /// When to poll again if nothing comes before. `None` if there is nothing to wait for.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let missing = self.missing.values().map(|missing| self.due(missing));
        let waiting = self
            .frames
            .values()
            .filter_map(|frame| frame.whole)
            .flat_map(|at| [at + self.config.reordering, at + self.config.patience]);
        let keys = self
            .frames
            .values()
            .filter(|frame| frame.descriptor.is_key)
            .map(|frame| frame.last_arrival + self.config.key_interval);
        missing
            .chain(waiting)
            .chain(keys)
            .chain(self.key_due(now))
            .filter(|at| *at > now)
            .min()
    }
}

#[cfg(test)]
mod tests;
