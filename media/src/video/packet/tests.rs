#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers wrap"
)]

use proptest::prelude::*;

use super::*;
use crate::packet::rtp::MAX_PACKET_BYTES;

const CODECS: [VideoCodec; 2] = [VideoCodec::Av1, VideoCodec::H264];

/// OBUs of a temporal unit, after its delimiter: with their sizes, some with an extension.
fn temporal_unit() -> impl Strategy<Value = Vec<u8>> {
    let obu = (
        prop::sample::select(vec![1u8, 3, 4, 5, 6, 7]),
        prop::option::of(any::<u8>()),
        prop_oneof![0usize..40, 1000usize..1300, 0usize..9000],
        any::<u8>(),
    );
    prop::collection::vec(obu, 1..8).prop_map(|obus| {
        let mut unit = vec![0x12, 0];
        for (kind, extension, size, fill) in obus {
            unit.push(kind << 3 | 2 | if extension.is_some() { 4 } else { 0 });
            unit.extend(extension);
            let mut rest = size;
            while rest >= 0x80 {
                unit.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            unit.push(rest as u8);
            unit.extend((0..size).map(|n| fill.wrapping_add(n as u8)));
        }
        unit
    })
}

/// NAL units behind start codes of four bytes.
fn access_unit() -> impl Strategy<Value = Vec<u8>> {
    let unit = (
        0u8..4,
        prop::sample::select(vec![1u8, 5, 6, 7, 8]),
        prop_oneof![1usize..40, 1100usize..1140, 1usize..9000],
        any::<u8>(),
    );
    prop::collection::vec(unit, 1..8).prop_map(|units| {
        let mut bytes = Vec::new();
        for (importance, kind, size, fill) in units {
            bytes.extend_from_slice(&[0, 0, 0, 1, importance << 5 | kind]);
            bytes.extend((0..size).map(|n| fill.wrapping_add(n as u8).max(1)));
        }
        bytes
    })
}

fn frame(bytes: Vec<u8>, is_key: bool) -> EncodedFrame {
    EncodedFrame {
        bytes,
        is_key,
        temporal_layer: if is_key { 0 } else { 2 },
        needs: if is_key { [0; 2] } else { [1, 3] },
        taken: Duration::from_millis(1500),
    }
}

fn check(codec: VideoCodec, bytes: &[u8], is_key: bool, sequence: u16) {
    let mut packetizer = Packetizer::new(codec, 77, sequence);
    packetizer.skip();
    let packets = packetizer
        .packetize(&frame(bytes.to_vec(), is_key))
        .unwrap();
    let mut bodies = Vec::new();
    for (n, packet) in packets.iter().enumerate() {
        assert!(packet.bytes.len() <= MAX_PACKET_BYTES);
        let parsed = VideoPacket::parse(&packet.bytes).unwrap();
        assert_eq!(parsed.header.sequence, sequence.wrapping_add(n as u16));
        assert_eq!(parsed.header.sequence, packet.sequence);
        assert_eq!(parsed.header.timestamp, RtpTimestamp(135_000));
        assert_eq!(parsed.header.marker, n + 1 == packets.len());
        assert_eq!(parsed.header.payload_type, codec.payload_type());
        let descriptor = parsed.descriptor;
        assert_eq!((descriptor.frame, descriptor.is_key), (1, is_key));
        assert_eq!(usize::from(descriptor.index), n);
        assert_eq!(usize::from(descriptor.count), packets.len());
        assert_eq!(descriptor.needs, if is_key { [0; 2] } else { [1, 3] });
        bodies.push(parsed.body);
    }
    assert_eq!(join(codec, bodies.iter().copied()).as_deref(), Some(bytes));
    // Nothing is mistaken for a whole frame if the first, or the last of several fragments is missing.
    if bodies.len() > 1 {
        let without = |missing: usize| {
            let kept = bodies
                .iter()
                .enumerate()
                .filter(move |(n, _)| *n != missing);
            join(codec, kept.map(|(_, body)| *body))
        };
        assert_ne!(without(0).as_deref(), Some(bytes));
        assert_ne!(without(bodies.len() - 1).as_deref(), Some(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn av1_comes_out_as_it_went_in(unit in temporal_unit(), is_key in any::<bool>(), sequence in any::<u16>()) {
        check(VideoCodec::Av1, &unit, is_key, sequence);
    }

    #[test]
    fn h264_comes_out_as_it_went_in(unit in access_unit(), is_key in any::<bool>(), sequence in any::<u16>()) {
        check(VideoCodec::H264, &unit, is_key, sequence);
    }

    #[test]
    fn garbage_is_refused_or_read_and_never_panics(
        mut bytes in prop::collection::vec(any::<u8>(), 0..1300),
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
    ) {
        let parsed = VideoPacket::parse(&bytes).is_ok();
        prop_assert!(!parsed || bytes.len() <= MAX_PACKET_BYTES);
        if let Some(flags) = bytes.first_mut() {
            *flags = 0x80;
        }
        if let Some(flags) = bytes.get_mut(12) {
            *flags &= 0x0b;
        }
        if let Ok(packet) = VideoPacket::parse(&bytes) {
            prop_assert!(packet.descriptor.is_valid() && packet.descriptor.index < packet.descriptor.count);
        }
        for codec in CODECS {
            let bytes: usize = bodies.iter().map(Vec::len).sum();
            if let Some(joined) = join(codec, bodies.iter().map(Vec::as_slice)) {
                prop_assert!(joined.len() <= 2 + 8 * bytes);
            }
            let mut packetizer = Packetizer::new(codec, 1, 0);
            let _outcome = packetizer.packetize(&frame(bodies.concat(), false));
        }
    }

    #[test]
    fn fragments_that_are_damaged_never_panic(
        unit in temporal_unit(),
        nal in access_unit(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, any::<u8>()), 1..8),
    ) {
        let av1 = av1::split(&unit, true, 200).unwrap();
        let h264 = h264::split(&nal, 200).unwrap();
        for (codec, mut bodies) in [(VideoCodec::Av1, av1), (VideoCodec::H264, h264)] {
            prop_assert!(bodies.iter().all(|body| body.len() <= 200));
            for (index, at, value) in &damage {
                let body = index.get_mut(&mut bodies);
                match body.get_mut(*at) {
                    Some(byte) => *byte = *value,
                    None => body.clear(),
                }
            }
            let _outcome = join(codec, bodies.iter().map(Vec::as_slice));
        }
    }
}

/// Sequence header of 2 bytes and frame of 3, as the AV1 specification's section 4.5 lays them out.
#[test]
fn golden_bytes() {
    let unit = [0x12, 0, 0x0a, 2, 0xaa, 0xbb, 0x32, 3, 1, 2, 3];
    let packets = av1::split(&unit, true, 100).unwrap();
    assert_eq!(
        packets,
        [[0x28, 3, 0x08, 0xaa, 0xbb, 0x30, 1, 2, 3]],
        "two elements, the last without length, a sequence begins"
    );
    let nals = [
        0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 4,
    ];
    let packets = h264::split(&nals, 100).unwrap();
    assert_eq!(
        packets,
        [[0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3, 0, 2, 0x65, 4]]
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut packetizer = Packetizer::new(VideoCodec::Av1, 1, 0);
    let unit = vec![0x12, 0, 0x32, 3, 1, 2, 3];
    let packets = packetizer.packetize(&frame(unit, true)).unwrap();
    let good = packets[0].bytes.clone();
    assert!(VideoPacket::parse(&good).is_ok());
    let refused = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        VideoPacket::parse(&bytes).unwrap_err()
    };
    assert_eq!(refused(12, 0x18), PacketError::Version(1));
    // What stands still is said by a bit of its own.
    packetizer.set_still(true);
    let still = packetizer.packetize(&frame(vec![0x12, 0, 0x32, 3, 1, 2, 3], true));
    let still = still.unwrap()[0].bytes.clone();
    assert_eq!((good[12], still[12]), (0x08, 0x0c));
    assert!(VideoPacket::parse(&still).unwrap().descriptor.is_still);
    assert!(!VideoPacket::parse(&good).unwrap().descriptor.is_still);
    for (at, value) in [
        (12, 0x00),
        (12, 0x04),
        (12, 0x0b),
        (16, 1),
        (17, 0xff),
        (18, 0),
        (19, 1),
    ] {
        assert_eq!(refused(at, value), PacketError::Descriptor, "{at} {value}");
    }
    for len in 12..=21 {
        assert!(VideoPacket::parse(&good[..len]).is_err(), "{len} bytes");
    }
    let empty = Packetizer::new(VideoCodec::H264, 1, 0).packetize(&frame(Vec::new(), true));
    assert_eq!(empty, Err(PacketizeError::Malformed(VideoCodec::H264)));
}

/// Frames of all lengths: any packets that are as many as the frame has make it.
#[test]
fn any_packets_that_are_enough_make_the_frame() {
    for (bytes, parity) in [(10, 1), (1121, 1), (1500, 2), (9000, 3), (60_000, 20)] {
        let mut unit = vec![0, 0, 0, 1, 0x41];
        unit.extend((0..bytes).map(|n: u32| (n * 7) as u8 | 1));
        let mut packetizer = Packetizer::new(VideoCodec::H264, 5, 65_534);
        let packets = packetizer.packetize(&frame(unit.clone(), true)).unwrap();
        let protection = parity::protect(&packets, parity, 9).unwrap();
        assert_eq!(protection.len(), usize::from(parity));
        let bodies: Vec<&[u8]> = packets
            .iter()
            .map(|packet| VideoPacket::parse(&packet.bytes).unwrap().body)
            .collect();
        let shards: Vec<parity::ParityPacket<'_>> = protection
            .iter()
            .map(|packet| parity::ParityPacket::parse(&packet.bytes).unwrap())
            .collect();
        assert!(protection.iter().all(|packet| packet.bytes.len() <= 1150));
        assert_eq!((shards[0].first_sequence, shards[0].ssrc), (65_534, 5));
        let count = packets.len() as u16;
        // The first ones are lost, as many as there is parity.
        let came = (0..count).zip(bodies.iter().copied()).skip(parity.into());
        let restored = parity::restore(
            count,
            parity,
            came.clone(),
            shards
                .iter()
                .map(|packet| (packet.descriptor.index, packet.shard)),
        )
        .unwrap();
        let mut all: std::collections::BTreeMap<u16, Vec<u8>> = restored.into_iter().collect();
        all.extend(came.map(|(index, body)| (index, body.to_vec())));
        assert_eq!(
            join(VideoCodec::H264, all.values().map(Vec::as_slice)),
            Some(unit)
        );
        let too_few = parity::restore(
            count,
            parity,
            (0..count)
                .zip(bodies.iter().copied())
                .skip(usize::from(parity) + 1),
            shards
                .iter()
                .map(|packet| (packet.descriptor.index, packet.shard)),
        );
        assert!(too_few.is_none() || count == parity);
    }
}

proptest! {
    #[test]
    fn parity_that_is_damaged_never_panics(at in 0usize..60, value: u8, cut in 0usize..60) {
        let mut packetizer = Packetizer::new(VideoCodec::H264, 5, 1);
        let unit = [vec![0, 0, 0, 1, 0x41], vec![7; 3000]].concat();
        let packets = packetizer.packetize(&frame(unit, true)).unwrap();
        let mut bytes = parity::protect(&packets, 2, 9).unwrap()[0].bytes.clone();
        bytes[at] = value;
        bytes.truncate(bytes.len() - cut);
        if let Ok(packet) = parity::ParityPacket::parse(&bytes) {
            let body = VideoPacket::parse(&packets[1].bytes).unwrap().body;
            let _restored = parity::restore(
                packet.descriptor.count,
                packet.parity,
                [(1, body)].into_iter(),
                [(packet.descriptor.index, packet.shard)].into_iter(),
            );
        }
    }
}
