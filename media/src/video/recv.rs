//! The receiver's way of pictures: packets in, frames to decode and requests out.
//!
//! Nothing here decodes: that takes long, and is done elsewhere. After each [`VideoRecv::insert_packet`], and at
//! [`VideoRecv::poll_timeout`], drain [`VideoRecv::poll_frame`] as far as the decoder has room, then send what
//! [`VideoRecv::poll_feedback`] gives. Say what became of each frame by [`VideoRecv::decoded`], and of each picture by
//! [`VideoRecv::rendered`].

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::time::{Duration, Instant};

use super::{
    codec::VideoCodec,
    feedback::Feedback,
    frame::Size,
    frame_buffer::{FrameBuffer, FrameBufferConfig, FrameBufferCounters, ReceivedFrame},
    packet::{
        VideoPacket,
        parity::{self, ParityPacket},
    },
};
use crate::time::RtpTimestamp;

/// A picture that stands still for longer than this is frozen.
pub const FREEZE: Duration = Duration::from_millis(200);

/// Unless its sender said that what it shows stands still: that is sent again at least once a second, and here one of these
/// may be lost.
pub const STILL_FREEZE: Duration = Duration::from_millis(2200);

/// How to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VideoRecvConfig {
    /// What to wait for.
    pub buffer: FrameBufferConfig,
}

/// A frame for the decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodableFrame {
    /// Which decoder.
    pub codec: VideoCodec,
    /// What it is to decode.
    pub frame: ReceivedFrame,
}

/// What was seen since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VideoRecvStats {
    /// What became of packets and frames before the decoder.
    pub buffer: FrameBufferCounters,
    /// Packets that could not be read.
    pub malformed: u64,
    /// Pictures that came out of the decoder.
    pub decoded: u64,
    /// Frames that it refused.
    pub undecodable: u64,
    /// Pictures shown.
    pub rendered: u64,
    /// How often the picture stood still for longer than [`FREEZE`].
    pub freezes: u64,
    /// How long that took in all.
    pub frozen: Duration,
    /// The longest of it.
    pub longest_freeze: Duration,
    /// Frames that were not decoded, since nobody looked.
    pub unwatched: u64,
    /// When the first picture was shown, and the last.
    pub shown: Option<(Instant, Instant)>,
    /// What the last one shows stands still, as its sender says.
    pub is_still: bool,
    /// Of the last picture.
    pub size: Option<Size>,
    /// Of the last packet.
    pub codec: Option<VideoCodec>,
}

/// Receives one stream of pictures.
#[derive(Debug)]
pub struct VideoRecv {
    config: VideoRecvConfig,
    round_trip: Option<Duration>,
    buffer: Option<(VideoCodec, FrameBuffer)>,
    /// Of buffers before.
    past: FrameBufferCounters,
    stats: VideoRecvStats,
    is_away: bool,
}

/// Whose packets these are.
fn codec_of(payload_type: u8) -> Option<VideoCodec> {
    [VideoCodec::Av1, VideoCodec::H264]
        .into_iter()
        .find(|codec| codec.payload_type() == payload_type)
}

impl VideoRecv {
    /// Takes what comes, in whatever codec.
    #[must_use]
    pub fn new(config: VideoRecvConfig) -> Self {
        Self {
            config,
            round_trip: None,
            buffer: None,
            past: FrameBufferCounters::default(),
            stats: VideoRecvStats::default(),
            is_away: false,
        }
    }

    /// What was seen so far. A picture that stands still now counts for as long as it has.
    #[must_use]
    pub fn stats(&self, now: Instant) -> VideoRecvStats {
        let mut stats = self.stats;
        if let Some((_first, last)) = stats.shown
            && !self.is_away
        {
            note_gap(&mut stats, now.saturating_duration_since(last));
        }
        let current = self
            .buffer
            .as_ref()
            .map(|(_codec, buffer)| buffer.counters());
        stats.buffer = self.past.plus(current.unwrap_or_default());
        stats
    }

    /// Says how long an answer takes.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
        if let Some((_codec, buffer)) = &mut self.buffer {
            buffer.set_round_trip(round_trip);
        }
    }

    /// Takes a packet as it came.
    pub fn insert_packet(&mut self, now: Instant, bytes: &[u8]) {
        if bytes
            .get(1)
            .is_some_and(|second| second & 0x7f == parity::PAYLOAD_TYPE)
        {
            self.insert_parity(now, bytes);
            return;
        }
        let packet = VideoPacket::parse(bytes);
        let codec = packet
            .as_ref()
            .ok()
            .and_then(|packet| codec_of(packet.header.payload_type));
        let (Ok(packet), Some(codec)) = (packet, codec) else {
            self.stats.malformed += 1;
            return;
        };
        if self.buffer.as_ref().is_some_and(|(of, _)| *of != codec) {
            // Only a key frame can begin with another codec, so a packet that is late changes nothing.
            if !packet.descriptor.is_key {
                self.stats.malformed += 1;
                return;
            }
            if let Some((_codec, buffer)) = self.buffer.take() {
                self.past = self.past.plus(buffer.counters());
            }
        }
        let (_codec, buffer) = self.buffer.get_or_insert_with(|| {
            let mut buffer = FrameBuffer::new(codec, self.config.buffer);
            if let Some(round_trip) = self.round_trip {
                buffer.set_round_trip(round_trip);
            }
            (codec, buffer)
        });
        self.stats.codec = Some(codec);
        buffer.insert(now, &packet);
    }

    fn insert_parity(&mut self, now: Instant, bytes: &[u8]) {
        match (ParityPacket::parse(bytes), &mut self.buffer) {
            (Ok(packet), Some((codec, buffer))) if packet.payload_type == codec.payload_type() => {
                buffer.insert_parity(now, &packet);
            }
            // What it belongs to has not begun, or is over.
            (Ok(_), _) => {}
            (Err(_), _) => self.stats.malformed += 1,
        }
    }

    /// The next frame that can be decoded, in order. `None` until more comes.
    pub fn poll_frame(&mut self, now: Instant) -> Option<DecodableFrame> {
        let (codec, buffer) = self.buffer.as_mut()?;
        let frame = buffer.poll_frame(now)?;
        Some(DecodableFrame {
            codec: *codec,
            frame,
        })
    }

    /// What to tell the sender now, as messages. What was given out counts as told.
    pub fn poll_feedback(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let Some((_codec, buffer)) = &mut self.buffer else {
            return Vec::new();
        };
        let requests = buffer.poll_requests(now);
        Feedback {
            missing: requests.missing,
            key_frame: requests.key_frame,
        }
        .encode()
    }

    /// When to poll again if nothing comes before.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let (_codec, buffer) = self.buffer.as_ref()?;
        buffer.poll_timeout(now)
    }

    /// Asks for a key frame, without stopping before it: somebody wants to begin with one.
    pub fn want_key(&mut self) {
        if let Some((_codec, buffer)) = &mut self.buffer {
            buffer.want_key();
        }
    }

    /// Nobody looks from `now` on, or somebody does again, who needs a key frame to begin with. No picture stands still too
    /// long while nobody looks.
    pub fn set_watched(&mut self, now: Instant, is_watched: bool) {
        if self.is_away != is_watched {
            return;
        }
        self.is_away = !is_watched;
        if !is_watched {
            if let Some((_first, last)) = self.stats.shown {
                note_gap(&mut self.stats, now.saturating_duration_since(last));
            }
            return;
        }
        if let Some((_first, last)) = &mut self.stats.shown {
            *last = now;
        }
        if let Some((_codec, buffer)) = &mut self.buffer {
            buffer.require_key();
        }
    }

    /// A frame was thrown away, since nobody looks.
    pub fn unwatched(&mut self) {
        self.stats.unwatched += 1;
    }

    /// The decoder took a frame, and a picture came out; or it refused, and nothing goes on before a key frame.
    pub fn decoded(&mut self, is_picture: bool) {
        if is_picture {
            self.stats.decoded += 1;
            return;
        }
        self.stats.undecodable += 1;
        if let Some((_codec, buffer)) = &mut self.buffer {
            buffer.require_key();
        }
    }

    /// A picture of this size is shown from `now` on; what it shows stands still, if its sender says so.
    pub fn rendered(&mut self, now: Instant, size: Size, is_still: bool) {
        let first = match self.stats.shown {
            Some((first, last)) => {
                note_gap(&mut self.stats, now.saturating_duration_since(last));
                first
            }
            None => now,
        };
        self.stats.shown = Some((first, now));
        self.stats.is_still = is_still;
        self.stats.rendered += 1;
        self.stats.size = Some(size);
    }
}

fn note_gap(stats: &mut VideoRecvStats, gap: Duration) {
    let usual = if stats.is_still { STILL_FREEZE } else { FREEZE };
    if gap > usual {
        stats.freezes += 1;
        stats.frozen += gap;
        stats.longest_freeze = stats.longest_freeze.max(gap);
    }
}

impl VideoRecvStats {
    /// Pictures shown per second, from the first to the last.
    #[must_use]
    pub fn fps(&self) -> Option<f64> {
        let (first, last) = self.shown?;
        let seconds = last.saturating_duration_since(first).as_secs_f64();
        (seconds > 0.0).then(|| self.rendered.saturating_sub(1) as f64 / seconds)
    }
}

/// Counts pictures' time of 90 kHz without wrapping, from the first one on.
#[derive(Debug, Clone, Copy, Default)]
pub struct PictureClock {
    last: Option<(RtpTimestamp, i64)>,
}

impl PictureClock {
    /// When the picture of this timestamp was taken, on the sender's clock of pictures; the first has what it says.
    pub fn taken(&mut self, timestamp: RtpTimestamp) -> Duration {
        let ticks = match self.last {
            Some((last, ticks)) => ticks + i64::from(timestamp.since(last)),
            None => i64::from(timestamp.0),
        };
        self.last = Some((timestamp, ticks));
        let ticks = u64::try_from(ticks).unwrap_or(0);
        let hz = u64::from(super::packet::CLOCK_HZ);
        Duration::from_secs(ticks / hz) + Duration::from_nanos(ticks % hz * 1_000_000_000 / hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{
        codec::EncodedFrame,
        packet::{Packetizer, timestamp},
    };

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        Instant::now()
    }

    fn packets(codec: VideoCodec, is_key: bool) -> Vec<Vec<u8>> {
        let bytes = match codec {
            VideoCodec::H264 => vec![0, 0, 0, 1, 0x41, 9, 9, 9],
            VideoCodec::Av1 => vec![0x32, 2, 7, 7],
        };
        let frame = EncodedFrame {
            bytes,
            is_key,
            temporal_layer: 0,
            needs: if is_key { [0; 2] } else { [1, 0] },
            taken: Duration::ZERO,
        };
        let packets = Packetizer::new(codec, 4, 100).packetize(&frame).unwrap();
        packets.into_iter().map(|packet| packet.bytes).collect()
    }

    #[test]
    fn a_picture_that_stands_still_is_counted_even_while_it_does() {
        let mut recv = VideoRecv::new(VideoRecvConfig::default());
        let begin = start();
        let size = Size::new(320, 180).unwrap();
        let at = |millis| begin + Duration::from_millis(millis);
        for millis in [0, 33, 66, 300, 333, 800] {
            recv.decoded(true);
            recv.rendered(at(millis), size, false);
        }
        let stats = recv.stats(at(900));
        assert_eq!((stats.rendered, stats.decoded), (6, 6));
        assert_eq!(
            (stats.freezes, stats.frozen, stats.longest_freeze),
            (2, Duration::from_millis(701), Duration::from_millis(467))
        );
        assert!((stats.fps().unwrap() - 6.25).abs() < 1e-9);
        assert_eq!(recv.stats(at(1800)).freezes, 3);
        assert_eq!(recv.stats(at(900)), stats);
    }

    #[test]
    fn what_stands_still_is_not_frozen_unless_nothing_comes_at_all() {
        let size = Size::new(320, 180).unwrap();
        let begin = start();
        let at = |millis| begin + Duration::from_millis(millis);
        for (is_still, freezes) in [(true, 0), (false, 2)] {
            let mut recv = VideoRecv::new(VideoRecvConfig::default());
            for millis in [0, 750, 2250] {
                recv.rendered(at(millis), size, is_still);
            }
            assert_eq!(recv.stats(at(2300)).freezes, freezes);
            assert_eq!(recv.stats(at(4500)).freezes, freezes + 1);
            // What moves again is counted as usual.
            recv.rendered(at(2300), size, false);
            assert_eq!(recv.stats(at(2600)).freezes, freezes + 1);
        }
    }

    #[test]
    fn another_codec_begins_with_a_key_frame_and_no_other_packet_changes_anything() {
        let mut recv = VideoRecv::new(VideoRecvConfig::default());
        let now = start();
        for packet in packets(VideoCodec::Av1, true) {
            recv.insert_packet(now, &packet);
        }
        assert_eq!(
            recv.poll_frame(now).map(|frame| frame.codec),
            Some(VideoCodec::Av1)
        );
        for packet in packets(VideoCodec::H264, false) {
            recv.insert_packet(now, &packet);
        }
        assert_eq!(recv.stats(now).malformed, 1);
        for packet in packets(VideoCodec::H264, true) {
            recv.insert_packet(now, &packet);
        }
        assert_eq!(
            recv.poll_frame(now).map(|frame| frame.codec),
            Some(VideoCodec::H264)
        );
        let stats = recv.stats(now);
        assert_eq!((stats.buffer.frames, stats.buffer.decodable), (2, 2));
        assert_eq!(recv.poll_feedback(now), Vec::<Vec<u8>>::new());
        recv.decoded(false);
        let asked = recv.poll_feedback(now);
        assert_eq!(
            asked,
            [[1]],
            "a frame that the decoder refuses asks for a key frame"
        );
        for bytes in [&[][..], &[0x80; 30], &[0xff; 1200]] {
            recv.insert_packet(now, bytes);
        }
        assert_eq!(recv.stats(now).malformed, 4);
    }

    #[test]
    fn the_clock_of_pictures_does_not_wrap() {
        let mut clock = PictureClock::default();
        // 2^32 ticks last 13 hours and a quarter.
        for second in 47_700..47_750 {
            let taken = Duration::from_secs(second);
            assert_eq!(clock.taken(timestamp(taken)), taken);
        }
    }
}
