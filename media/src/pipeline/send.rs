//! From the microphone's blocks to RTP packets.

use std::time::{Duration, Instant};

use crate::{
    audio::opus::{EncoderConfig, FrameDuration, OpusEncoder, OpusError},
    packet::rtp::{HEADER_BYTES, MAX_PACKET_BYTES, OPUS_PAYLOAD_TYPE, RtpError, RtpHeader},
    time::{BLOCK_SAMPLES, Block, RtpTimestamp, SILENT_BLOCK, samples_in},
};

/// A pause in the blocks longer than this is a hole in the recording, and media time jumps over it. No
/// capture ring holds a second: shorter pauses are followed by the blocks that waited.
const HOLE: Duration = Duration::from_secs(1);

/// How to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendConfig {
    /// The stream's identifier, chosen at random (RFC 3550 section 8.1).
    pub ssrc: u32,
    /// 0..=127.
    pub payload_type: u8,
    /// Chosen at random (RFC 3550 section 5.1).
    pub first_sequence: u16,
    /// Chosen at random.
    pub first_timestamp: RtpTimestamp,
    /// The codec's settings.
    pub encoder: EncoderConfig,
}

impl SendConfig {
    /// Opus with default settings in the stream `ssrc`.
    #[must_use]
    pub fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            payload_type: OPUS_PAYLOAD_TYPE,
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
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendStats {
    /// Packets made.
    pub packets: u64,
    /// Their bytes, RTP headers included.
    pub bytes: u64,
    /// Frames that the codec refused: our bug, and silence for the listener.
    pub failed_frames: u64,
}

/// Collects blocks, encodes frames, writes packets.
#[derive(Debug)]
pub struct SendPipeline {
    encoder: OpusEncoder,
    header: RtpHeader,
    pending: Vec<f32>,
    next_config: Option<EncoderConfig>,
    last_push: Option<Instant>,
    muted: bool,
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
        Ok(Self {
            encoder: OpusEncoder::new(config.encoder)?,
            header,
            pending: Vec::with_capacity(FrameDuration::Ms60.samples()),
            next_config: None,
            last_push: None,
            muted: false,
            packet: [0; MAX_PACKET_BYTES],
            stats: SendStats::default(),
        })
    }

    /// What was sent so far.
    #[must_use]
    pub fn stats(&self) -> SendStats {
        self.stats
    }

    /// The codec's settings, those of the next frame.
    #[must_use]
    pub fn encoder_config(&self) -> EncoderConfig {
        self.next_config.unwrap_or(self.encoder.config())
    }

    /// Changes the codec's settings from the next frame on.
    pub fn configure(&mut self, config: EncoderConfig) {
        self.next_config = Some(config);
    }

    /// Whether silence is sent in place of what is pushed.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// Sends silence from now on, or sound again. Not a sample pushed before that has not left yet leaves
    /// after: the frame under way is wiped and the codec forgets. Packets go on in the same size and pace,
    /// so nobody on the way learns of it.
    pub fn set_muted(&mut self, muted: bool) {
        if muted && !self.muted {
            self.pending.fill(0.0);
            if let Err(error) = self.encoder.reset() {
                tracing::error!(%error, "the encoder cannot be reset");
            }
        }
        self.muted = muted;
    }

    /// Media time of the next block to be pushed.
    #[must_use]
    pub fn next_timestamp(&self) -> RtpTimestamp {
        // At most a frame of 60 ms is pending.
        self.header
            .timestamp
            .plus(u32::try_from(self.pending.len()).unwrap_or(0))
    }

    /// Takes the block that was captured until `now`, and returns a packet when a frame is full.
    pub fn push_block(&mut self, now: Instant, block: &Block) -> Option<&[u8]> {
        self.jump_over_holes(now);
        if self.pending.is_empty()
            && let Some(config) = self.next_config.take()
            && let Err(error) = self.encoder.configure(config)
        {
            tracing::error!(%error, ?config, "the encoder keeps its settings");
        }
        self.pending
            .extend_from_slice(if self.muted { &SILENT_BLOCK } else { block });
        let frame = self.encoder.config().frame.samples();
        if self.pending.len() < frame {
            return None;
        }
        let encoded = self
            .encoder
            .encode(&self.pending[..frame], &mut self.packet[HEADER_BYTES..]);
        self.pending.clear();
        let header = self.header;
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self
            .header
            .timestamp
            .plus(u32::try_from(frame).unwrap_or(0));
        match encoded
            .map_err(SendError::from)
            .and_then(|len| Ok((len, header.to_bytes()?)))
        {
            Ok((len, bytes)) => {
                self.packet[..HEADER_BYTES].copy_from_slice(&bytes);
                self.header.marker = false;
                let len = len + HEADER_BYTES;
                self.stats.packets += 1;
                self.stats.bytes += len as u64;
                Some(&self.packet[..len])
            }
            Err(error) => {
                tracing::error!(%error, "a frame is lost");
                self.stats.failed_frames += 1;
                None
            }
        }
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
                failed_frames: 0
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
