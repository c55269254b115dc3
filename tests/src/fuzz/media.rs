//! Media packets from a peer.

use std::time::Duration;

use ahoy_media::{
    packet::{
        parity::{ParityDecoder, ParityPacket},
        red::RedPacket,
        rtp::{MAX_PACKET_BYTES, RtpPacket},
    },
    pipeline::recv::{RecvConfig, RecvPipeline},
    time::{MediaTime, SILENT_BLOCK},
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

/// One packet with copies of earlier ones.
pub fn red(bytes: &[u8]) {
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
