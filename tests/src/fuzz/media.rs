//! Media packets from a peer.

use std::time::Duration;

use ahoy_media::{
    packet::{
        apart::ApartPacket,
        parity::{ParityDecoder, ParityPacket},
        red::RedPacket,
        rtp::{MAX_PACKET_BYTES, RtpPacket},
    },
    pipeline::recv::{RecvConfig, RecvPipeline},
    rate::Bitrate,
    sync::Moment,
    time::{MediaTime, SILENT_BLOCK},
    video::{
        codec::{Content, EncodedFrame, VideoCodec, VideoConfig},
        feedback::Feedback,
        frame::Size,
        recv::{VideoRecv, VideoRecvConfig},
        send::{VideoSend, VideoSendConfig},
    },
};

use super::turn::{Script, origin};

/// One RTP packet.
pub fn rtp(bytes: &[u8]) {
    if let Ok(packet) = RtpPacket::parse(bytes) {
        let mut out = [0; MAX_PACKET_BYTES];
        let len = packet.write(&mut out).expect("it was read from as much");
        assert_eq!(RtpPacket::parse(&out[..len]), Ok(packet));
    }
}

/// One packet with copies of earlier ones, or a copy that travels by itself.
pub fn red(bytes: &[u8]) {
    if let Ok(copy) = ApartPacket::parse(bytes) {
        let mut out = vec![0; bytes.len()];
        let len = copy.write(&mut out).expect("it was read from as much");
        assert_eq!(out.get(..len), Some(bytes));
    }
    if let Ok(packet) = RedPacket::parse(bytes) {
        let mut out = vec![0; bytes.len()];
        let len = packet.write(&mut out).expect("it was read from as much");
        assert_eq!(out.get(..len), Some(bytes));
    }
}

/// Packets with parity, each after its length and number, into the decoder that restores what is missing.
pub fn parity(bytes: &[u8]) {
    let mut decoder = ParityDecoder::new();
    let mut rest = bytes;
    while let [len, number, tail @ ..] = rest {
        let (packet, after) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = after;
        let Ok(packet) = ParityPacket::parse(packet) else {
            continue;
        };
        let time = MediaTime(i64::from(*number) * 960);
        decoder.insert(time, 960, &packet);
        let mut restored = decoder.restored();
        assert!(restored.all(|(_time, payload)| payload.len() == packet.payload.len()));
    }
}

/// A stream of packets into the receiver, which decodes them with the speaker pulling.
pub fn recv_pipeline(bytes: &[u8]) {
    let mut pipeline = RecvPipeline::new(RecvConfig::default()).expect("a decoder");
    let mut now = origin();
    let mut script = Script::new(bytes);
    let mut block = SILENT_BLOCK;
    while let Some((op, arg)) = script.op() {
        // A header that fits, so that payloads, sequence numbers and timestamps are what varies.
        let packet = script.bytes(usize::from(op));
        let _accepted: bool = pipeline.insert_packet(now, packet).is_ok();
        for _ in 0..arg % 4 {
            now += Duration::from_millis(10);
            pipeline.get_audio(now, &mut block);
            assert!(
                block
                    .iter()
                    .all(|sample| sample.is_finite() && sample.abs() <= 4.0)
            );
        }
    }
}

/// What a receiver of pictures asks of a sender that has sent some.
pub fn video_feedback(bytes: &[u8]) {
    if let Ok(feedback) = Feedback::decode(bytes) {
        // Numbers may come twice, and flags be of later versions; what is asked for stays.
        let mut read = Feedback::default();
        for message in feedback.encode() {
            let part = Feedback::decode(&message).expect("just written");
            read.missing.extend(part.missing);
            read.key_frame |= part.key_frame;
        }
        assert_eq!(read.key_frame, feedback.key_frame);
        assert!(
            feedback
                .missing
                .iter()
                .all(|one| read.missing.contains(one))
        );
    }
    let now = origin();
    let mut send = VideoSend::new(
        VideoSendConfig::new(VideoCodec::H264, 1, 65_534),
        VideoConfig {
            size: Size::new(320, 180).expect("a possible size"),
            fps: 30,
            bitrate: Bitrate::kbps(2000),
            content: Content::Motion,
            temporal_layers: 1,
            threads: 1,
            effort: 1,
        },
    );
    let mut sent = 0;
    for number in 0..4u8 {
        let mut unit = vec![0, 0, 0, 1, 0x41];
        unit.extend([number + 1; 1500]);
        let frame = EncodedFrame {
            bytes: unit,
            is_key: number == 0,
            temporal_layer: 0,
            needs: if number == 0 { [0; 2] } else { [1, 0] },
            taken: Duration::from_millis(33) * u32::from(number),
        };
        sent += send.push(now, Some(&frame)).len();
    }
    let later = now + Duration::from_secs(1);
    assert!(
        send.handle_feedback(later, bytes).len() <= sent,
        "each once"
    );
    assert!(
        send.handle_feedback(later, bytes).is_empty(),
        "and not again"
    );
}

/// Packets of pictures and of their parity, each after its length, into the receiver.
pub fn video_recv(bytes: &[u8]) {
    let config = VideoRecvConfig::default();
    let mut recv = VideoRecv::new(config);
    let mut now = origin();
    let mut script = Script::new(bytes);
    let mut given = 0;
    while let Some((op, len)) = script.op() {
        recv.insert_packet(now, script.bytes(usize::from(len % 1200)));
        now += Duration::from_millis(u64::from(op) % 128);
        while let Some(frame) = recv.poll_frame(now) {
            given += frame.frame.bytes.len();
        }
        for message in recv.poll_feedback(now) {
            assert!(Feedback::decode(&message).is_ok());
        }
        if op & 0x80 != 0 {
            recv.decoded(false);
        }
        assert!(recv.poll_timeout(now).is_none_or(|at| at > now));
    }
    // Length prefixes are four bytes where packets have at least as many around what they carry.
    assert!(
        given <= 4 * bytes.len() + 64,
        "{given} bytes of {}",
        bytes.len()
    );
}

/// Which sound belongs to which picture.
pub fn moment(bytes: &[u8]) {
    if let Ok(moment) = Moment::decode(bytes) {
        assert_eq!(Moment::decode(&moment.encode()), Ok(moment));
    }
}
