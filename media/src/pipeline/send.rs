//! From the microphone's blocks to RTP packets.

use std::time::{Duration, Instant};

use crate::{
    audio::{
        opus::{
            EncoderConfig, FrameDuration, MAX_ENCODED_BYTES, OpusEncoder, OpusError, RateControl,
        },
        wide::{WideBlock, left_right},
    },
    loss::{Copies, MAX_RED_DISTANCE, Mode, Protection},
    packet::{
        apart::ApartPacket,
        parity::{ParityError, ParityPacket},
        red::{RedCopy, RedError, RedPacket},
        rtp::{
            HEADER_BYTES, MAX_PACKET_BYTES, OPUS_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, RtpError,
            RtpHeader,
        },
    },
    time::{BLOCK_SAMPLES, Block, RtpTimestamp, SILENT_BLOCK, samples_in},
};

/// A pause in the blocks longer than this is a hole in the recording, and media time jumps over it. No
/// capture ring holds a second: shorter pauses are followed by the blocks that waited.
const HOLE: Duration = Duration::from_secs(1);

/// Music whose two channels were the same for so long is sent as one, with all the bits for it: 1 s. A microphone of one
/// channel that is asked for two looks like this.
const MONO_AFTER_SAMPLES: usize = 48_000;

/// How to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendConfig {
    /// The stream's identifier, chosen at random (RFC 3550 section 8.1).
    pub ssrc: u32,
    /// Of plain packets, 0..=127.
    pub payload_type: u8,
    /// Of packets that carry copies, 0..=127.
    pub red_payload_type: u8,
    /// Chosen at random (RFC 3550 section 5.1).
    pub first_sequence: u16,
    /// Chosen at random.
    pub first_timestamp: RtpTimestamp,
    /// The codec's settings. The bitrate is for everything that is done about loss, too.
    pub encoder: EncoderConfig,
}

impl SendConfig {
    /// Opus with default settings in the stream `ssrc`.
    #[must_use]
    pub fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            payload_type: OPUS_PAYLOAD_TYPE,
            red_payload_type: RED_PAYLOAD_TYPE,
            first_sequence: 0,
            first_timestamp: RtpTimestamp(0),
            encoder: EncoderConfig::default(),
        }
    }
}

/// Why there is no pipeline, or no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The codec refused.
    #[error(transparent)]
    Opus(#[from] OpusError),
    /// The header cannot be written.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// The copy cannot be written.
    #[error(transparent)]
    Red(#[from] RedError),
    /// The parity cannot be written.
    #[error(transparent)]
    Parity(#[from] ParityError),
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendStats {
    /// Packets made.
    pub packets: u64,
    /// Of these, packets for which Opus was asked for in-band copies.
    pub packets_fec: u64,
    /// Packets with a whole copy of an earlier one or parity over some, or room for it.
    pub packets_red: u64,
    /// Packets for which Opus was asked for deep redundancy.
    pub packets_dred: u64,
    /// Their bytes, RTP headers included.
    pub bytes: u64,
    /// Frames that the codec refused: our bug, and silence for the listener.
    pub failed_frames: u64,
}

/// A packet that was sent, kept to be sent again.
#[derive(Debug)]
struct Kept {
    timestamp: RtpTimestamp,
    len: usize,
    bytes: [u8; MAX_ENCODED_BYTES],
}

impl Kept {
    /// The payload, if it is that of `distance` packets before the one of `now`: after a hole in the recording nobody
    /// waits for what was before it. Empty where none is kept.
    fn before(&self, now: RtpTimestamp, distance: usize, frame: FrameDuration) -> Option<&[u8]> {
        let since = usize::try_from(now.since(self.timestamp));
        (since == Ok(distance * frame.samples())).then_some(&self.bytes[..self.len])
    }
}

/// Samples of a frame: of what both channels have in common, and of what they differ by.
#[derive(Debug, Default)]
struct Samples {
    mid: Vec<f32>,
    /// Only of music; of as many samples then.
    side: Vec<f32>,
}

impl Samples {
    fn new() -> Self {
        Self {
            mid: Vec::with_capacity(FrameDuration::Ms60.samples()),
            side: Vec::new(),
        }
    }

    fn push(&mut self, mid: &Block, side: Option<&Block>, is_music: bool) {
        self.mid.extend_from_slice(mid);
        if is_music {
            self.side.extend_from_slice(side.unwrap_or(&SILENT_BLOCK));
        }
    }

    fn clear(&mut self) {
        self.mid.clear();
        self.side.clear();
    }

    fn silence(&mut self) {
        self.mid.fill(0.0);
        self.side.fill(0.0);
    }

    /// Left and right, one after the other.
    fn interleave(&self, frames: &mut Vec<f32>) {
        frames.clear();
        let side = self.side.iter().chain(std::iter::repeat(&0.0));
        let both = self.mid.iter().zip(side);
        frames.extend(both.flat_map(|(mid, side)| left_right([*mid, *side])));
    }
}

/// Collects blocks, encodes frames, writes packets.
#[derive(Debug)]
pub struct SendPipeline {
    encoder: OpusEncoder,
    /// As asked for, before anything is done about loss.
    base: EncoderConfig,
    protection: Protection,
    /// Either of the two changed since the last frame.
    is_changed: bool,
    /// What is done in the frame under way.
    mode: Mode,
    copies: Copies,
    apart: bool,
    header: RtpHeader,
    red_payload_type: u8,
    pending: Samples,
    /// The frame before, which another encoder has to hear first.
    previous: Samples,
    /// Left and right of a frame of music.
    frames: Vec<f32>,
    /// Samples since the two channels were not the same.
    same_for: usize,
    last_push: Option<Instant>,
    muted: bool,
    encoded: [u8; MAX_ENCODED_BYTES],
    /// The last packets, the oldest first. Empty but where copies are sent.
    kept: [Kept; MAX_RED_DISTANCE],
    packet: [u8; MAX_PACKET_BYTES],
    stats: SendStats,
}

impl SendPipeline {
    /// A pipeline that has sent nothing.
    ///
    /// # Errors
    /// [`SendError`] when a setting is out of range or the codec cannot be made.
    pub fn new(config: SendConfig) -> Result<Self, SendError> {
        let header = RtpHeader {
            marker: true,
            payload_type: config.payload_type,
            sequence: config.first_sequence,
            timestamp: config.first_timestamp,
            ssrc: config.ssrc,
        };
        header.to_bytes()?;
        RtpHeader {
            payload_type: config.red_payload_type,
            ..header
        }
        .to_bytes()?;
        let encoder = OpusEncoder::new(config.encoder)?;
        Ok(Self {
            base: encoder.config(),
            encoder,
            protection: Protection::default(),
            is_changed: false,
            mode: Mode::Plain,
            copies: Copies::default(),
            apart: false,
            header,
            red_payload_type: config.red_payload_type,
            pending: Samples::new(),
            previous: Samples::new(),
            frames: Vec::new(),
            same_for: MONO_AFTER_SAMPLES,
            last_push: None,
            muted: false,
            encoded: [0; MAX_ENCODED_BYTES],
            kept: std::array::from_fn(|_| Kept {
                timestamp: RtpTimestamp(0),
                len: 0,
                bytes: [0; MAX_ENCODED_BYTES],
            }),
            packet: [0; MAX_PACKET_BYTES],
            stats: SendStats::default(),
        })
    }

    /// What was sent so far.
    #[must_use]
    pub fn stats(&self) -> SendStats {
        self.stats
    }

    /// The codec's settings as asked for, from the next frame on.
    #[must_use]
    pub fn encoder_config(&self) -> EncoderConfig {
        self.base
    }

    /// Changes the codec's settings from the next frame on.
    pub fn configure(&mut self, config: EncoderConfig) {
        self.is_changed |= self.base != config;
        self.base = config;
    }

    /// What is done about loss from the next frame on.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Changes what is done about loss, from the next frame on and within the same bitrate.
    pub fn protect(&mut self, protection: Protection) {
        self.is_changed |= self.protection != protection;
        self.protection = protection;
    }

    /// Whether silence is sent in place of what is pushed.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// Sends silence from now on, or sound again. Not a sample pushed before that has not left yet leaves
    /// after: the frame under way is wiped and the codec forgets. Packets go on in the same size and pace,
    /// so nobody on the way learns of it.
    /// Copies of what left before are not sent either.
    pub fn set_muted(&mut self, muted: bool) {
        if muted && !self.muted {
            self.pending.silence();
            self.previous.silence();
            if let Err(error) = self.encoder.reset() {
                tracing::error!(%error, "the encoder cannot be reset");
            }
            self.forget_packets();
        }
        self.muted = muted;
    }

    /// Media time of the next block to be pushed.
    #[must_use]
    pub fn next_timestamp(&self) -> RtpTimestamp {
        // At most a frame of 60 ms is pending.
        self.header
            .timestamp
            .plus(u32::try_from(self.pending.mid.len()).unwrap_or(0))
    }

    /// How many more blocks have to come until there is a packet.
    #[must_use]
    pub fn missing_blocks(&self) -> usize {
        let frame = self.encoder.config().frame.samples();
        frame.saturating_sub(self.pending.mid.len()) / BLOCK_SAMPLES
    }

    /// Takes the block that was captured until `now`, and returns a packet when a frame is full.
    pub fn push_block(&mut self, now: Instant, block: &Block) -> Option<&[u8]> {
        self.push(now, block, None)
    }

    /// The same with both channels, where there are two and music is sent; else their mix goes out.
    pub fn push_wide(&mut self, now: Instant, block: &WideBlock) -> Option<&[u8]> {
        self.push(now, &block.mid, block.side())
    }

    fn push(&mut self, now: Instant, mid: &Block, side: Option<&Block>) -> Option<&[u8]> {
        self.jump_over_holes(now);
        if self.pending.mid.is_empty() && std::mem::take(&mut self.is_changed) {
            self.apply();
        }
        let (mid, side) = if self.muted {
            (&SILENT_BLOCK, None)
        } else {
            (mid, side)
        };
        let content = self.encoder.config().content;
        self.pending.push(mid, side, content.is_music());
        let frame = self.encoder.config().frame.samples();
        if self.pending.mid.len() < frame {
            return self.copy_apart();
        }
        let encoded = if content.is_music() {
            self.encode_music(content.is_stereo())
        } else {
            self.encoder
                .encode(&self.pending.mid[..frame], &mut self.encoded)
        };
        std::mem::swap(&mut self.pending, &mut self.previous);
        self.pending.clear();
        let header = self.header;
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self
            .header
            .timestamp
            .plus(u32::try_from(frame).unwrap_or(0));
        match encoded
            .map_err(SendError::from)
            .and_then(|len| self.write(header, len))
        {
            Ok(len) => {
                self.header.marker = false;
                self.count(len);
                Some(&self.packet[..len])
            }
            Err(error) => {
                tracing::error!(%error, "a frame is lost");
                self.stats.failed_frames += 1;
                None
            }
        }
    }

    /// The copy that leaves in the middle of a frame, if copies do and there is one.
    fn copy_apart(&mut self) -> Option<&[u8]> {
        let frame = self.encoder.config().frame;
        let half = self.pending.mid.len() * 2 == frame.samples();
        if !(half && self.apart && self.mode == Mode::Red) {
            return None;
        }
        let back = usize::from(self.copies.distance.max(1));
        let kept = &self.kept[MAX_RED_DISTANCE.checked_sub(back)?];
        // What was forgotten is empty.
        let payload = kept.before(self.header.timestamp, back, frame);
        let payload = payload.filter(|payload| !payload.is_empty())?;
        let len = u16::try_from(back).ok().and_then(|packets| {
            let header = RtpHeader {
                payload_type: self.red_payload_type,
                sequence: self.header.sequence.wrapping_sub(packets),
                timestamp: kept.timestamp,
                marker: false,
                ..self.header
            };
            let after = back * frame.samples() - frame.samples() / 2;
            let copy = ApartPacket {
                after_samples: u32::try_from(after).ok()?,
                payload,
            };
            let (head, body) = self.packet.split_at_mut(HEADER_BYTES);
            head.copy_from_slice(&header.to_bytes().ok()?);
            Some(HEADER_BYTES + copy.write(body).ok()?)
        })?;
        self.stats.packets_red += 1;
        self.stats.bytes += len as u64;
        Some(&self.packet[..len])
    }

    /// Encodes the frame that is full, in two channels where they are not the same.
    fn encode_music(&mut self, is_stereo: bool) -> Result<usize, OpusError> {
        let is_same = self.pending.side.iter().all(|sample| *sample == 0.0);
        self.same_for = if is_same {
            self.same_for.saturating_add(self.pending.side.len())
        } else {
            0
        };
        self.encoder
            .set_mono(!is_stereo || self.same_for >= MONO_AFTER_SAMPLES)?;
        self.pending.interleave(&mut self.frames);
        self.encoder.encode(&self.frames, &mut self.encoded)
    }

    /// What was sent last, for an encoder that has not heard it.
    fn prime(&mut self) {
        self.same_for = MONO_AFTER_SAMPLES;
        if self.previous.mid.is_empty() {
            return;
        }
        let primed = if self.encoder.config().content.is_music() {
            self.previous.interleave(&mut self.frames);
            self.encoder.prime(&self.frames, &mut self.encoded)
        } else {
            self.encoder.prime(&self.previous.mid, &mut self.encoded)
        };
        if let Err(error) = primed {
            tracing::error!(%error, "there is a gap in the sound");
        }
    }

    /// Puts the settings that changed into force.
    fn apply(&mut self) {
        let config = self.protection.encoder(self.base);
        let was_music = self.encoder.config().content.is_music();
        if let Err(error) = self.encoder.configure(config) {
            tracing::error!(%error, ?config, "the encoder keeps its settings");
            return;
        }
        if config.content.is_music() != was_music {
            self.prime();
        }
        self.mode = self.protection.mode;
        self.copies = self.protection.copies;
        self.apart = self.protection.apart;
        if !self.mode.repeats() {
            self.forget_packets();
        }
    }

    fn forget_packets(&mut self) {
        for kept in &mut self.kept {
            kept.len = 0;
            kept.bytes.fill(0);
        }
    }

    fn count(&mut self, len: usize) {
        self.stats.packets += 1;
        self.stats.bytes += len as u64;
        match self.mode {
            Mode::Plain => {}
            Mode::Fec => self.stats.packets_fec += 1,
            // Counted when it leaves.
            Mode::Red if self.apart => {}
            Mode::Red | Mode::Parity => self.stats.packets_red += 1,
            Mode::Dred => self.stats.packets_dred += 1,
        }
    }

    /// Writes the packet of the `encoded` bytes just made, and returns its length.
    fn write(&mut self, header: RtpHeader, encoded: usize) -> Result<usize, SendError> {
        let payload = &self.encoded[..encoded];
        let (head, body) = self.packet.split_at_mut(HEADER_BYTES);
        if !self.mode.repeats() || self.apart {
            head.copy_from_slice(&header.to_bytes()?);
            body[..encoded].copy_from_slice(payload);
            if self.apart {
                keep(&mut self.kept, header.timestamp, payload);
            }
            return Ok(HEADER_BYTES + encoded);
        }
        let header = RtpHeader {
            payload_type: self.red_payload_type,
            ..header
        };
        head.copy_from_slice(&header.to_bytes()?);
        let config = self.encoder.config();
        let len = if self.mode == Mode::Parity {
            let earlier = |back: usize| {
                let kept = &self.kept[MAX_RED_DISTANCE.checked_sub(back)?];
                kept.before(header.timestamp, back, config.frame)
            };
            ParityPacket::write(earlier, payload, body)?
        } else {
            let copies = self.copies.distances().map(|distance| {
                let kept = &self.kept[MAX_RED_DISTANCE - distance];
                copy_of(kept, header.timestamp, distance, encoded, config)
            });
            RedPacket::new(copies, payload).write(body)?
        };
        keep(&mut self.kept, header.timestamp, payload);
        Ok(HEADER_BYTES + len)
    }

    fn jump_over_holes(&mut self, now: Instant) {
        let pause = self
            .last_push
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last_push = Some(now);
        if pause < HOLE {
            return;
        }
        let blocks = samples_in(pause) / BLOCK_SAMPLES as i64 - 1;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "RTP timestamps are media time modulo 2^32"
        )]
        let skipped = (blocks * BLOCK_SAMPLES as i64) as u32;
        self.header.timestamp = self.header.timestamp.plus(skipped);
        self.header.marker = true;
    }
}

/// To be sent again.
fn keep(kept: &mut [Kept; MAX_RED_DISTANCE], timestamp: RtpTimestamp, payload: &[u8]) {
    kept.rotate_left(1);
    let newest = &mut kept[MAX_RED_DISTANCE - 1];
    newest.timestamp = timestamp;
    newest.len = payload.len();
    newest.bytes[..payload.len()].copy_from_slice(payload);
}

/// The copy, from `distance` packets before, to send with a packet of `encoded` bytes; or filling: all packets are to
/// have the same size.
fn copy_of(
    kept: &Kept,
    now: RtpTimestamp,
    distance: usize,
    encoded: usize,
    config: EncoderConfig,
) -> RedCopy<'_> {
    let is_constant = config.rate_control == RateControl::Constant;
    let fits = kept.len == encoded || !is_constant && kept.len > 0;
    let payload = kept
        .before(now, distance, config.frame)
        .filter(|_payload| fits);
    match payload {
        Some(payload) => RedCopy {
            back_samples: now.since(kept.timestamp).unsigned_abs(),
            payload,
        },
        None => RedCopy {
            back_samples: 0,
            payload: if is_constant {
                &FILLING[..encoded]
            } else {
                &[]
            },
        },
    }
}

/// What stands in place of a copy where nothing can be copied.
const FILLING: [u8; MAX_ENCODED_BYTES] = [0; MAX_ENCODED_BYTES];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audio::test_signal::Speech, packet::rtp::RtpPacket, time::BLOCK_DURATION};

    fn blocks(count: usize) -> Vec<Block> {
        let samples = Speech::new(7).samples(count * BLOCK_SAMPLES);
        samples
            .chunks_exact(BLOCK_SAMPLES)
            .map(|chunk| chunk.try_into().unwrap())
            .collect()
    }

    /// Pushes a block every 10 ms and returns the packets.
    fn send(pipeline: &mut SendPipeline, start: Instant, blocks: &[Block]) -> Vec<Vec<u8>> {
        let push = |(n, block)| {
            pipeline
                .push_block(start + BLOCK_DURATION * n as u32, block)
                .map(<[u8]>::to_vec)
        };
        blocks.iter().enumerate().filter_map(push).collect()
    }

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only way to make an Instant; only differences matter"
        )]
        Instant::now()
    }

    #[test]
    fn packets_are_numbered_across_the_wrap_of_both_counters() {
        let first_timestamp = RtpTimestamp(u32::MAX - 1000);
        let config = SendConfig {
            first_sequence: u16::MAX - 1,
            first_timestamp,
            ..SendConfig::new(9)
        };
        let mut pipeline = SendPipeline::new(config).unwrap();
        let packets = send(&mut pipeline, start(), &blocks(8));
        let headers: Vec<_> = packets
            .iter()
            .map(|bytes| RtpPacket::parse(bytes).unwrap().header)
            .collect();
        assert_eq!(
            headers
                .iter()
                .map(|header| header.sequence)
                .collect::<Vec<_>>(),
            [65534, 65535, 0, 1]
        );
        assert!(
            headers
                .windows(2)
                .all(|pair| pair[1].timestamp.since(pair[0].timestamp) == 960)
        );
        assert!(
            headers
                .iter()
                .all(|header| header.ssrc == 9 && header.payload_type == OPUS_PAYLOAD_TYPE)
        );
        assert!(headers[0].marker && !headers[1].marker);
    }

    #[test]
    fn speech_and_silence_and_mute_look_the_same_from_outside() {
        let mut pipeline = SendPipeline::new(SendConfig::new(1)).unwrap();
        let mut blocks = blocks(200);
        blocks.extend(std::iter::repeat_n(SILENT_BLOCK, 200));
        let mut packets = send(&mut pipeline, start(), &blocks);
        pipeline.set_muted(true);
        packets.extend(send(&mut pipeline, start(), &blocks));
        assert_eq!(packets.len(), 400);
        assert!(
            packets
                .iter()
                .all(|packet| packet.len() == HEADER_BYTES + 80)
        );
        assert_eq!(
            pipeline.stats(),
            SendStats {
                packets: 400,
                bytes: 400 * 92,
                ..SendStats::default()
            }
        );
    }

    #[test]
    fn what_is_muted_is_encoded_from_zeros() {
        let blocks = blocks(201);
        let mut talking = SendPipeline::new(SendConfig::new(1)).unwrap();
        // An odd number: half a frame of speech is pending when the mute comes.
        send(&mut talking, start(), &blocks);
        talking.set_muted(true);
        let muted = send(&mut talking, start(), &blocks);
        let mut silent = SendPipeline::new(SendConfig::new(1)).unwrap();
        let zeros = send(&mut silent, start(), &vec![SILENT_BLOCK; 202]);
        assert_eq!(muted.len(), zeros.len());
        for (muted, zeros) in muted.iter().zip(&zeros) {
            assert_eq!(
                RtpPacket::parse(muted).unwrap().payload,
                RtpPacket::parse(zeros).unwrap().payload
            );
        }
    }

    const TWO_BEFORE: Copies = Copies {
        count: 1,
        distance: 2,
    };

    const PROTECTED: [Protection; 5] = [
        Protection {
            mode: Mode::Plain,
            loss_percent: 0,
            copies: TWO_BEFORE,
            apart: false,
        },
        Protection {
            mode: Mode::Fec,
            loss_percent: 10,
            copies: TWO_BEFORE,
            apart: false,
        },
        Protection {
            mode: Mode::Red,
            loss_percent: 0,
            copies: TWO_BEFORE,
            apart: false,
        },
        Protection {
            mode: Mode::Red,
            loss_percent: 5,
            copies: Copies {
                count: 2,
                distance: 1,
            },
            apart: false,
        },
        Protection {
            mode: Mode::Dred,
            loss_percent: 20,
            copies: TWO_BEFORE,
            apart: false,
        },
    ];

    const APART: Protection = Protection {
        mode: Mode::Red,
        loss_percent: 5,
        copies: TWO_BEFORE,
        apart: true,
    };

    #[test]
    fn every_way_to_protect_has_one_size_in_speech_silence_and_mute() {
        let mut sound = blocks(100);
        sound.extend(std::iter::repeat_n(SILENT_BLOCK, 60));
        for protection in PROTECTED {
            for kilobits in [30, 32, 33, 64] {
                for frame in [
                    FrameDuration::Ms10,
                    FrameDuration::Ms20,
                    FrameDuration::Ms40,
                    FrameDuration::Ms60,
                ] {
                    let config = EncoderConfig {
                        bitrate: crate::rate::Bitrate::kbps(kilobits),
                        frame,
                        ..EncoderConfig::default()
                    };
                    let mut pipeline = SendPipeline::new(SendConfig {
                        encoder: config,
                        ..SendConfig::new(1)
                    })
                    .unwrap();
                    pipeline.protect(protection);
                    let mut packets = send(&mut pipeline, start(), &sound);
                    pipeline.set_muted(true);
                    packets.extend(send(&mut pipeline, start(), &sound));
                    let sizes: std::collections::BTreeSet<_> =
                        packets.iter().map(Vec::len).collect();
                    let whole = HEADER_BYTES + config.packet_bytes();
                    assert_eq!(sizes.len(), 1, "{protection:?} {config:?}: {sizes:?}");
                    // Parts that are equal leave a byte or two unused.
                    assert!(sizes.iter().all(|size| (whole - 2..=whole).contains(size)));
                }
            }
        }
    }

    #[test]
    fn a_copy_is_the_packet_before_the_last_and_none_is_of_another_kind() {
        let mut pipeline = SendPipeline::new(SendConfig::new(1)).unwrap();
        let blocks = blocks(20);
        send(&mut pipeline, start(), &blocks[..4]);
        pipeline.protect(PROTECTED[2]);
        let mut packets = send(&mut pipeline, start(), &blocks[4..12]);
        pipeline.set_muted(true);
        packets.extend(send(&mut pipeline, start(), &blocks[12..18]));
        let packets: Vec<_> = packets
            .iter()
            .map(|bytes| RedPacket::parse(RtpPacket::parse(bytes).unwrap().payload).unwrap())
            .collect();
        let copies: Vec<_> = packets
            .iter()
            .map(|packet| packet.copies().next().map(|copy| copy.payload.to_vec()))
            .collect();
        let own = |n: usize| Some(packets[n].payload().to_vec());
        assert_eq!(
            copies,
            [None, None, own(0), own(1), None, None, own(4)],
            "nothing from before the change, nothing from before the mute"
        );
        assert!(
            packets
                .iter()
                .all(|packet| packet.copies().all(|copy| copy.back_samples == 1920))
        );
        pipeline.protect(PROTECTED[0]);
        let plain = send(&mut pipeline, start(), &blocks[18..]);
        assert_eq!(
            RtpPacket::parse(&plain[0]).unwrap().header.payload_type,
            OPUS_PAYLOAD_TYPE
        );
        assert_eq!(
            (pipeline.stats().packets, pipeline.stats().packets_red),
            (10, 7)
        );
    }

    #[test]
    fn copies_that_travel_by_themselves_leave_between_packets_and_all_have_one_size() {
        let mut pipeline = SendPipeline::new(SendConfig::new(1)).unwrap();
        pipeline.protect(APART);
        let blocks = blocks(20);
        // In the middle of a frame of two blocks one leaves, once there is a packet two before.
        let mut packets = send(&mut pipeline, start(), &blocks[..12]);
        pipeline.set_muted(true);
        packets.extend(send(&mut pipeline, start(), &blocks[12..18]));
        let parsed: Vec<_> = packets
            .iter()
            .map(|bytes| RtpPacket::parse(bytes).unwrap())
            .collect();
        let own: Vec<_> = parsed
            .iter()
            .filter(|packet| packet.header.payload_type == OPUS_PAYLOAD_TYPE)
            .collect();
        let kinds: Vec<_> = parsed
            .iter()
            .map(|packet| packet.header.payload_type == RED_PAYLOAD_TYPE)
            .collect();
        let (p, c) = (false, true);
        assert_eq!(
            kinds,
            [p, p, c, p, c, p, c, p, c, p, p, p, c, p],
            "none of what was said before the mute"
        );
        for (at, copy) in parsed.iter().enumerate().filter(|(at, _)| kinds[*at]) {
            let header = copy.header;
            let earlier = own
                .iter()
                .find(|packet| packet.header.sequence == header.sequence);
            let earlier = earlier.unwrap();
            let copy = ApartPacket::parse(copy.payload).unwrap();
            assert_eq!(copy.payload, earlier.payload);
            assert_eq!(header.timestamp, earlier.header.timestamp);
            assert_eq!(copy.after_samples, 1440);
            assert_eq!(packets[at].len(), packets[0].len() + 2);
        }
        let both = packets[0].len() + packets[2].len() - 2 * HEADER_BYTES;
        let whole = pipeline.encoder_config().packet_bytes();
        assert!((whole - 2..=whole).contains(&both), "{both} {whole}");
        let stats = pipeline.stats();
        assert_eq!((stats.packets, stats.packets_red), (9, 5));
    }

    #[test]
    fn settings_change_between_frames() {
        let mut pipeline = SendPipeline::new(SendConfig::new(1)).unwrap();
        let blocks = blocks(7);
        assert!(send(&mut pipeline, start(), &blocks[..1]).is_empty());
        let config = EncoderConfig {
            frame: FrameDuration::Ms60,
            ..pipeline.encoder_config()
        };
        pipeline.configure(config);
        assert_eq!(pipeline.encoder_config(), config);
        assert_eq!(send(&mut pipeline, start(), &blocks[1..2]).len(), 1);
        assert!(send(&mut pipeline, start(), &blocks[..5]).is_empty());
        assert_eq!(
            send(&mut pipeline, start(), &blocks[..1])[0].len(),
            HEADER_BYTES + 240
        );
    }

    #[test]
    fn a_hole_in_the_recording_is_a_hole_in_media_time() {
        let mut pipeline = SendPipeline::new(SendConfig::new(1)).unwrap();
        let blocks = blocks(4);
        let now = start();
        send(&mut pipeline, now, &blocks[..2]);
        let packets = send(&mut pipeline, now + Duration::from_secs(5), &blocks[2..]);
        let header = RtpPacket::parse(&packets[0]).unwrap().header;
        assert_eq!(header.timestamp, RtpTimestamp(48_000 * 5));
        assert!(header.marker);
        assert_eq!(header.sequence, 1);
    }
}
