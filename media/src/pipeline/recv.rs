//! From RTP packets to the speaker's blocks.

use std::time::{Duration, Instant};

use crate::{
    audio::{
        neteq::{AudioInfo, Inserted, NetEq, NetEqConfig, NetEqStats},
        opus::{OpusError, PacketInfo},
        wide::WideBlock,
    },
    packet::{
        apart::{ApartError, ApartPacket},
        parity::{ParityDecoder, ParityError, ParityPacket},
        red::{RedError, RedPacket},
        rtp::{RtpError, RtpPacket},
        unwrap::{Sequence, SequenceTracker, TimestampUnwrapper},
    },
    sync::sound_wait::Playout,
    time::Block,
};

/// Packets of another SSRC in a row after which the sender is believed to have begun a new stream.
const NEW_STREAM_AFTER: u32 = 3;

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// It is no RTP packet.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// It says that it carries copies, and cannot be read.
    #[error(transparent)]
    Red(#[from] RedError),
    /// What calls itself a copy is none.
    #[error(transparent)]
    Apart(#[from] ApartError),
    /// It says that it carries parity, and cannot be read.
    #[error(transparent)]
    Parity(#[from] ParityError),
    /// It carries something else than our sound.
    #[error("payload type {0} is not the expected one")]
    PayloadType(u8),
    /// It belongs to another stream.
    #[error("SSRC {0:08x} is not the expected one")]
    Ssrc(u32),
    /// Its sequence number is far from all others.
    #[error("the sequence number is implausible")]
    Sequence,
    /// It was received before.
    #[error("the packet is a duplicate")]
    Duplicate,
    /// Its time is over.
    #[error("the packet is late")]
    Late,
    /// What it carries is malformed or implausible.
    #[error("the sound is malformed or implausible")]
    Discarded,
}

/// How to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvConfig {
    /// Expected payload type of plain packets, 0..=127.
    pub payload_type: u8,
    /// And of those with copies.
    pub red_payload_type: u8,
    /// The jitter buffer's settings.
    pub neteq: NetEqConfig,
}

impl Default for RecvConfig {
    fn default() -> Self {
        Self {
            payload_type: crate::packet::rtp::OPUS_PAYLOAD_TYPE,
            red_payload_type: crate::packet::rtp::RED_PAYLOAD_TYPE,
            neteq: NetEqConfig::default(),
        }
    }
}

/// So many packets without a copy between them, and none is to be expected: as good as never by loss.
const NO_COPY_AFTER: u32 = 25;

/// What a packet carries besides itself.
#[derive(Debug)]
enum Extra<'a> {
    Nothing,
    Copies(RedPacket<'a>),
    /// With the samples in the packet; 0 when it is none of Opus.
    Parity(ParityPacket<'a>, i64),
    /// It is a copy itself.
    Apart(ApartPacket<'a>),
}

impl<'a> Extra<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, RecvError> {
        Ok(if ParityPacket::is_meant(bytes) {
            let parity = ParityPacket::parse(bytes)?;
            Self::Parity(parity, span_of(parity.payload))
        } else if ApartPacket::is_meant(bytes) {
            Self::Apart(ApartPacket::parse(bytes)?)
        } else {
            Self::Copies(RedPacket::parse(bytes)?)
        })
    }
}

/// Parses, unwraps, removes duplicates, and plays through the jitter buffer.
#[derive(Debug)]
pub struct RecvPipeline {
    payload_type: u8,
    red_payload_type: u8,
    ssrc: Option<u32>,
    strangers: u32,
    sequence: SequenceTracker,
    parity: ParityDecoder,
    /// How long after their packets copies come that travel by themselves, and since how many packets none came.
    apart: Option<(i64, u32)>,
    timestamps: TimestampUnwrapper,
    neteq: NetEq,
    duplicates: u64,
    refused: u64,
}

impl RecvPipeline {
    /// A pipeline that has received nothing.
    ///
    /// # Errors
    /// [`OpusError::SetUp`] when the decoder cannot be made.
    pub fn new(config: RecvConfig) -> Result<Self, OpusError> {
        Ok(Self {
            payload_type: config.payload_type,
            red_payload_type: config.red_payload_type,
            ssrc: None,
            strangers: 0,
            sequence: SequenceTracker::new(),
            parity: ParityDecoder::new(),
            apart: None,
            timestamps: TimestampUnwrapper::new(),
            neteq: NetEq::new(config.neteq)?,
            duplicates: 0,
            refused: 0,
        })
    }

    /// Takes a packet that arrived `now`.
    ///
    /// # Errors
    /// [`RecvError`] says why it was not taken. It is counted; nothing else need be done.
    pub fn insert_packet(&mut self, now: Instant, bytes: &[u8]) -> Result<(), RecvError> {
        let (packet, extra) = self.check(bytes).inspect_err(|_| self.refused += 1)?;
        if let Extra::Apart(copy) = extra {
            let time = self.timestamps.unwrap(packet.header.timestamp);
            self.apart = Some((copy.after_samples.into(), 0));
            self.neteq.insert_copy(now, time, copy.payload);
            return Ok(());
        }
        match self.sequence.observe(packet.header.sequence) {
            Sequence::New => {}
            // It counts as lost, which is what it is to the listener; whether it is a duplicate nobody knows.
            Sequence::TooOld => return Err(RecvError::Late),
            Sequence::Duplicate => {
                self.duplicates += 1;
                return Err(RecvError::Duplicate);
            }
            Sequence::Suspicious => {
                self.refused += 1;
                return Err(RecvError::Sequence);
            }
            Sequence::Restarted => self.restart(),
        }
        let time = self.timestamps.unwrap(packet.header.timestamp);
        let (payload, furthest) = match &extra {
            Extra::Nothing | Extra::Apart(_) => (packet.payload, self.copy_after()),
            Extra::Copies(red) => {
                let furthest = red.copies().map(|copy| i64::from(copy.back_samples)).max();
                (red.payload(), furthest.unwrap_or(0))
            }
            Extra::Parity(parity, span) => {
                let furthest = parity.which.furthest() as i64;
                (parity.payload, furthest * span)
            }
        };
        let inserted = self.neteq.insert(now, time, payload, furthest);
        match &extra {
            Extra::Nothing | Extra::Apart(_) => {}
            Extra::Copies(red) => {
                for copy in red.copies() {
                    let earlier = time.plus(-i64::from(copy.back_samples));
                    self.neteq.insert_copy(now, earlier, copy.payload);
                }
            }
            Extra::Parity(parity, span) => {
                self.parity.insert(time, *span, parity);
                for (earlier, payload) in self.parity.restored() {
                    self.neteq.insert_copy(now, earlier, payload);
                }
            }
        }
        match inserted {
            Inserted::Accepted => Ok(()),
            Inserted::Late => Err(RecvError::Late),
            Inserted::Discarded => Err(RecvError::Discarded),
        }
    }

    fn check<'a>(&mut self, bytes: &'a [u8]) -> Result<(RtpPacket<'a>, Extra<'a>), RecvError> {
        let packet = RtpPacket::parse(bytes)?;
        let RtpPacket { header, payload } = packet;
        let extra = match header.payload_type {
            plain if plain == self.payload_type => Extra::Nothing,
            red if red == self.red_payload_type => Extra::parse(payload)?,
            other => return Err(RecvError::PayloadType(other)),
        };
        let packet = (packet, extra);
        if *self.ssrc.get_or_insert(header.ssrc) == header.ssrc {
            self.strangers = 0;
            return Ok(packet);
        }
        self.strangers += 1;
        if self.strangers < NEW_STREAM_AFTER {
            return Err(RecvError::Ssrc(header.ssrc));
        }
        self.strangers = 0;
        self.ssrc = Some(header.ssrc);
        self.sequence.restart();
        self.restart();
        Ok(packet)
    }

    /// A packet without anything else came: how long after it its copy will, 0 if none is to be expected.
    fn copy_after(&mut self) -> i64 {
        let Some((after, since)) = &mut self.apart else {
            return 0;
        };
        let after = *after;
        *since += 1;
        if *since > NO_COPY_AFTER {
            self.apart = None;
        }
        after
    }

    fn restart(&mut self) {
        self.parity.clear();
        self.apart = None;
        self.timestamps = TimestampUnwrapper::new();
        self.neteq.restart();
    }

    /// Fills `out` with what plays now, mixed to one channel. Call every 10 ms.
    pub fn get_audio(&mut self, now: Instant, out: &mut Block) -> AudioInfo {
        self.neteq.pull(now, out)
    }

    /// The same with both channels, where there are two.
    pub fn get_wide(&mut self, now: Instant, out: &mut WideBlock) -> AudioInfo {
        self.neteq.pull_wide(now, out)
    }

    /// Changes the least target level, for instance to wait for pictures.
    pub fn set_min_delay(&mut self, min_delay: Duration) {
        self.neteq.set_min_delay(min_delay);
    }

    /// How long the fastest packets wait before they play, at the last block. None while nothing plays.
    #[must_use]
    pub fn playout(&self) -> Option<Playout> {
        self.neteq.playout()
    }

    /// Packets that were not ours: malformed, or of another payload type or stream. In no other counter.
    #[must_use]
    pub fn packets_refused(&self) -> u64 {
        self.refused
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> NetEqStats {
        NetEqStats {
            packets_received: self.sequence.received(),
            packets_lost: self.sequence.lost(),
            packets_duplicate: self.duplicates,
            ..self.neteq.stats()
        }
    }
}

/// Samples in a packet of Opus; 0 when it is none.
fn span_of(payload: &[u8]) -> i64 {
    PacketInfo::parse(payload).map_or(0, |info| info.samples as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        audio::{neteq::AudioKind, test_signal::Speech},
        loss::{Mode, Protection},
        packet::rtp::{MAX_PACKET_BYTES, OPUS_PAYLOAD_TYPE, RtpHeader},
        pipeline::send::{SendConfig, SendPipeline},
        time::{BLOCK_DURATION, BLOCK_SAMPLES, RtpTimestamp, SILENT_BLOCK},
    };

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only way to make an Instant; only differences matter"
        )]
        Instant::now()
    }

    fn packets(config: SendConfig, blocks: usize) -> Vec<Vec<u8>> {
        let mut sender = SendPipeline::new(config).unwrap();
        let speech = Speech::new(1).samples(blocks * BLOCK_SAMPLES);
        let now = start();
        let push = |(n, chunk): (usize, &[f32])| {
            sender
                .push_block(now + BLOCK_DURATION * n as u32, chunk.try_into().unwrap())
                .map(<[u8]>::to_vec)
        };
        speech
            .chunks_exact(BLOCK_SAMPLES)
            .enumerate()
            .filter_map(push)
            .collect()
    }

    #[test]
    fn sound_arrives_across_the_wrap_of_both_counters() {
        let first_timestamp = RtpTimestamp(u32::MAX - 48_000);
        let packets = packets(
            SendConfig {
                first_sequence: 65_500,
                first_timestamp,
                ..SendConfig::new(3)
            },
            400,
        );
        let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
        let mut heard = Vec::new();
        let mut block = SILENT_BLOCK;
        let now = start();
        for (n, packet) in packets.iter().enumerate() {
            let now = now + BLOCK_DURATION * 2 * n as u32;
            receiver.insert_packet(now, packet).unwrap();
            for half in 0..2 {
                let info = receiver.get_audio(now + BLOCK_DURATION * half, &mut block);
                if info.kind != AudioKind::Waiting {
                    assert_eq!(info.kind, AudioKind::Normal);
                    heard.extend_from_slice(&block);
                }
            }
        }
        let stats = receiver.stats();
        assert_eq!(
            (
                stats.packets_received,
                stats.packets_lost,
                stats.packets_duplicate
            ),
            (200, 0, 0)
        );
        assert_eq!(stats.concealed_samples, 0);
        assert!(heard.len() > 390 * BLOCK_SAMPLES);
    }

    /// Each third packet is lost, and its copy comes half a frame later, between two others.
    #[test]
    fn copies_that_travel_by_themselves_repair_sooner_and_no_counter_takes_them_for_packets() {
        let start = start();
        let heard = |copies: bool| {
            let mut sender = SendPipeline::new(SendConfig::new(1)).unwrap();
            sender.protect(Protection {
                mode: Mode::Red,
                loss_percent: 5,
                apart: true,
                ..Protection::default()
            });
            let speech = Speech::new(1).samples(1000 * BLOCK_SAMPLES);
            let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
            let mut out = SILENT_BLOCK;
            for (n, chunk) in speech.chunks_exact(BLOCK_SAMPLES).enumerate() {
                let now = start + BLOCK_DURATION * n as u32;
                if let Some(packet) = sender.push_block(now, chunk.try_into().unwrap()) {
                    let header = RtpPacket::parse(packet).unwrap().header;
                    let is_copy = header.payload_type != OPUS_PAYLOAD_TYPE;
                    let arrives = if is_copy {
                        copies
                    } else {
                        header.sequence % 3 != 2
                    };
                    if arrives {
                        receiver.insert_packet(now, packet).unwrap();
                    }
                }
                receiver.get_audio(now, &mut out);
            }
            receiver.stats()
        };
        let with = heard(true);
        assert_eq!((with.packets_received, with.packets_lost), (334, 166));
        assert_eq!((with.packets_duplicate, with.packets_late), (0, 0));
        assert!(with.frames_recovered_red > 155, "{with:?}");
        // Its own delay and half a frame.
        assert!(with.target_level.as_millis() <= 25, "{with:?}");
        let without = heard(false);
        assert_eq!(without.frames_recovered_red, 0);
        assert!(without.concealed_samples > 10 * with.concealed_samples.max(1000));
    }

    #[test]
    fn what_is_not_ours_is_refused_and_counted() {
        let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
        let ours = packets(SendConfig::new(1), 20);
        let now = start();
        assert_eq!(receiver.insert_packet(now, &ours[0]), Ok(()));
        assert_eq!(
            receiver.insert_packet(now, &ours[0]),
            Err(RecvError::Duplicate)
        );
        assert_eq!(
            receiver.insert_packet(now, &[]),
            Err(RecvError::Rtp(RtpError::Truncated))
        );
        let mut other = ours[1].clone();
        other[1] = 96;
        assert_eq!(
            receiver.insert_packet(now, &other),
            Err(RecvError::PayloadType(96))
        );
        let mut other = ours[1].clone();
        other[11] = 2;
        assert_eq!(receiver.insert_packet(now, &other), Err(RecvError::Ssrc(2)));
        assert_eq!(receiver.packets_refused(), 3);
        let stats = receiver.stats();
        assert_eq!((stats.packets_received, stats.packets_duplicate), (1, 1));
    }

    #[test]
    fn a_sender_that_begins_anew_is_heard_again() {
        let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
        let mut now = start();
        let first_timestamp = RtpTimestamp(0x9000_0000);
        let streams = [
            SendConfig::new(1),
            SendConfig {
                first_sequence: 30_000,
                first_timestamp,
                ..SendConfig::new(1)
            },
            SendConfig {
                first_sequence: 7,
                ..SendConfig::new(2)
            },
        ];
        let mut block = SILENT_BLOCK;
        for stream in streams {
            let mut last = AudioKind::Waiting;
            for packet in packets(stream, 60) {
                let _refused = receiver.insert_packet(now, &packet);
                for _ in 0..2 {
                    last = receiver.get_audio(now, &mut block).kind;
                    now += BLOCK_DURATION;
                }
            }
            assert_eq!(last, AudioKind::Normal, "{stream:?}");
        }
        assert!(receiver.stats().packets_received >= 87);
    }

    /// Any outcome will do.
    fn ignore(_: Result<(), RecvError>) {}

    #[derive(Debug, Clone)]
    enum Op {
        Garbage(Vec<u8>),
        Plausible {
            sequence: u16,
            timestamp: u32,
            payload: Vec<u8>,
        },
        Real {
            skip: u8,
            flip: Option<(u8, u8)>,
        },
        Again(u8),
        Pull {
            count: u8,
            millis: u8,
        },
        Wait {
            millis: u16,
        },
    }

    fn op() -> impl Strategy<Value = Op> {
        let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
        prop_oneof![
            1 => bytes(MAX_PACKET_BYTES + 50).prop_map(Op::Garbage),
            2 => (any::<u16>(), any::<u32>(), bytes(40))
                .prop_map(|(sequence, timestamp, payload)| Op::Plausible { sequence, timestamp, payload }),
            2 => (any::<u16>(), any::<u32>(), bytes(40))
                .prop_map(|(sequence, timestamp, payload)| Op::Plausible { sequence: sequence % 64, timestamp: timestamp % 100_000, payload }),
            20 => (0u8..3, proptest::option::weighted(0.1, (any::<u8>(), any::<u8>()))).prop_map(|(skip, flip)| Op::Real { skip, flip }),
            2 => any::<u8>().prop_map(Op::Again),
            20 => (0u8..8, 0u8..25).prop_map(|(count, millis)| Op::Pull { count, millis }),
            1 => (0u16..3000).prop_map(|millis| Op::Wait { millis }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn no_sequence_of_packets_and_pulls_breaks_anything(ops in prop::collection::vec(op(), 1..250)) {
            let real = packets(SendConfig::new(1), 200);
            let mut next = 0;
            let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
            let mut now = start();
            let mut block = SILENT_BLOCK;
            let mut pulls = 0u64;
            let mut inserted = 0;
            for op in ops {
                inserted += 1;
                match op {
                    Op::Garbage(bytes) => ignore(receiver.insert_packet(now, &bytes)),
                    Op::Plausible { sequence, timestamp, payload } => {
                        let header = RtpHeader {
                            marker: false, payload_type: OPUS_PAYLOAD_TYPE, sequence, timestamp: RtpTimestamp(timestamp), ssrc: 1,
                        };
                        let mut bytes = header.to_bytes().unwrap().to_vec();
                        bytes.extend(payload);
                        ignore(receiver.insert_packet(now, &bytes));
                    }
                    Op::Real { skip, flip } => {
                        next = (next + usize::from(skip)) % real.len();
                        let mut bytes = real[next].clone();
                        if let Some((at, mask)) = flip {
                            let at = usize::from(at) % bytes.len();
                            bytes[at] ^= mask;
                        }
                        ignore(receiver.insert_packet(now, &bytes));
                    }
                    Op::Again(back) => {
                        ignore(receiver.insert_packet(now, &real[next.saturating_sub(usize::from(back))]));
                    }
                    Op::Pull { count, millis } => {
                        for _ in 0..count {
                            receiver.get_audio(now, &mut block);
                            pulls += 1;
                            prop_assert!(block.iter().all(|sample| sample.is_finite() && sample.abs() <= 1.0));
                            now += Duration::from_millis(u64::from(millis));
                        }
                    }
                    Op::Wait { millis } => now += Duration::from_millis(u64::from(millis)),
                }
                let stats = receiver.stats();
                prop_assert!(stats.packets_received + stats.packets_duplicate + receiver.packets_refused() <= inserted);
                prop_assert!(stats.rendered_samples <= pulls * BLOCK_SAMPLES as u64);
                prop_assert!(stats.concealed_samples <= stats.rendered_samples);
                prop_assert!(stats.longest_concealment_samples <= stats.concealed_samples);
            }
        }
    }
}
