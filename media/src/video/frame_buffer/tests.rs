//! A sender of pictures in three layers, a link that loses, delays and repeats, and the buffer, in virtual time.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic, its numbers wrap, and its clock starts somewhere"
)]

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::video::{
    codec::EncodedFrame,
    packet::{OutgoingPacket, Packetizer},
    retransmit::{SentPackets, SentPacketsConfig},
};

/// Of the same seed the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    seed: u64,
    /// Of packets both ways.
    loss: f64,
    /// How many packets are lost in a row, on average.
    burst: f64,
    one_way: Duration,
    /// Up to so much more, for each packet by itself.
    jitter: Duration,
    duplicates: f64,
    layers: u8,
    retransmission: bool,
    /// Packets of parity for so many of a frame, rounded up.
    parity_for: Option<usize>,
}

const LINK: Link = Link {
    seed: 1,
    loss: 0.0,
    burst: 1.0,
    one_way: Duration::from_millis(25),
    jitter: Duration::ZERO,
    duplicates: 0.0,
    layers: 3,
    retransmission: true,
    parity_for: None,
};

#[derive(Debug)]
struct Outcome {
    counters: FrameBufferCounters,
    sent_frames: u64,
    /// Share of the time in which no frame had come for more than 200 ms.
    frozen: f64,
    /// From sending to giving out, of all frames that came, at 95 of 100.
    delay_p95: Duration,
    given: u64,
}

enum Event {
    Packet(Vec<u8>),
    Feedback(Requests),
}

/// A NAL unit of the number of the frame and of its size.
fn unit(number: u64, bytes: usize) -> Vec<u8> {
    let mut unit = vec![0, 0, 0, 1, 0x41];
    unit.extend(number.to_be_bytes().map(|byte| byte | 1));
    unit.extend((0..bytes).map(|n| (n as u8).max(1)));
    unit
}

/// What the encoder does: a cycle of four for three layers, frames one after the other for one.
fn encoded(layers: u8, number: u64, since_key: u64) -> EncodedFrame {
    let (temporal_layer, needs) = match (since_key, layers, since_key % 4) {
        (0, ..) => (0, [0, 0]),
        (_, 1, _) => (0, [1, 0]),
        (.., 0) => (0, [4, 0]),
        (.., 1) => (2, [1, 0]),
        (.., 2) => (1, [2, 0]),
        _ => (2, [1, 3]),
    };
    let bytes = match (since_key, temporal_layer) {
        (0, _) => 20_000,
        (_, 0) => 4_000,
        _ => 1_800,
    };
    EncodedFrame {
        bytes: unit(number, bytes),
        is_key: since_key == 0,
        temporal_layer,
        needs,
        taken: Duration::from_secs(number) / 30,
    }
}

fn run(link: Link, seconds: u64) -> Outcome {
    let start = Instant::now();
    let mut random = Random(link.seed);
    let mut is_lossy = false;
    let mut packetizer = Packetizer::new(VideoCodec::H264, 9, 65_000);
    let mut sent = SentPackets::new(SentPacketsConfig::default());
    let mut buffer = FrameBuffer::new(
        VideoCodec::H264,
        FrameBufferConfig {
            retransmission: link.retransmission,
            ..FrameBufferConfig::default()
        },
    );
    let round_trip = link.one_way * 2;
    buffer.set_round_trip(round_trip);
    let mut events: BTreeMap<(Instant, u64), Event> = BTreeMap::new();
    let mut count = 0;
    let mut lost = |random: &mut Random| {
        // Gilbert: the bad state loses all and lasts `burst` packets on average.
        let change = if is_lossy {
            1.0 / link.burst
        } else {
            link.loss / (1.0 - link.loss) / link.burst
        };
        if random.next() < change {
            is_lossy = !is_lossy;
        }
        is_lossy
    };
    let (mut number, mut since_key, mut next_frame) = (0, 0, start);
    let mut frames: Vec<EncodedFrame> = Vec::new();
    let mut shown: HashSet<u64> = HashSet::new();
    let (mut last_shown, mut last_number) = (start, None);
    let (mut frozen, mut delays) = (Duration::ZERO, Vec::new());
    let end = start + Duration::from_secs(seconds);
    let mut now = start;
    while now < end {
        let mut to_send: Vec<OutgoingPacket> = Vec::new();
        if next_frame <= now {
            let frame = encoded(link.layers, number, since_key);
            let packets = packetizer.packetize(&frame).unwrap();
            for packet in &packets {
                sent.insert(now, packet.clone());
                to_send.push(packet.clone());
            }
            if let Some(parity_for) = link.parity_for {
                let parity = packets.len().div_ceil(parity_for) as u16;
                to_send.extend(parity::protect(&packets, parity, 0).unwrap());
            }
            frames.push(frame);
            number += 1;
            since_key += 1;
            next_frame = start + Duration::from_secs(number) / 30;
        }
        while let Some(event) = events.first_entry().filter(|event| event.key().0 <= now) {
            match event.remove() {
                Event::Packet(bytes) => match ParityPacket::parse(&bytes) {
                    Ok(packet) => buffer.insert_parity(now, &packet),
                    Err(_) => buffer.insert(now, &VideoPacket::parse(&bytes).unwrap()),
                },
                Event::Feedback(requests) => {
                    to_send.extend(sent.answer(now, round_trip, requests.missing));
                    if requests.key_frame {
                        since_key = 0;
                    }
                }
            }
        }
        for packet in to_send {
            if lost(&mut random) {
                continue;
            }
            let copies = if random.next() < link.duplicates {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let at = now + link.one_way + link.jitter.mul_f64(random.next());
                events.insert((at, count), Event::Packet(packet.bytes.clone()));
                count += 1;
            }
        }
        while let Some(frame) = buffer.poll_frame(now) {
            let n = frame.number - (1 << 32);
            assert!(last_number.is_none_or(|last| n > last), "in order");
            last_number = Some(n);
            let original = &frames[n as usize];
            assert_eq!(frame.bytes, original.bytes, "frame {n}");
            if frame.is_key {
                shown.clear();
            }
            let needs = original.needs.iter().filter(|need| **need > 0);
            for need in needs {
                assert!(shown.contains(&(n - u64::from(*need))), "frame {n}");
            }
            shown.insert(n);
            delays.push(now - (start + original.taken));
            let gap = now - last_shown;
            if gap > Duration::from_millis(200) {
                frozen += gap;
            }
            last_shown = now;
        }
        let requests = buffer.poll_requests(now);
        if requests != Requests::default() && !lost(&mut random) {
            events.insert((now + link.one_way, count), Event::Feedback(requests));
            count += 1;
        }
        assert!(buffer.held_frames() <= 128 && buffer.held_bytes() <= 4 << 20);
        let event = events.first_key_value().map(|((at, _), _)| *at);
        let timeout = buffer.poll_timeout(now);
        now = [Some(next_frame), event, timeout]
            .into_iter()
            .flatten()
            .min()
            .unwrap();
    }
    let gap = end - last_shown;
    if gap > Duration::from_millis(200) {
        frozen += gap;
    }
    delays.sort();
    let outcome = Outcome {
        counters: buffer.counters(),
        sent_frames: number,
        frozen: frozen.as_secs_f64() / seconds as f64,
        delay_p95: delays
            .get(delays.len() * 95 / 100)
            .copied()
            .unwrap_or(Duration::MAX),
        given: delays.len() as u64,
    };
    println!("{link:?}\n  {outcome:?}");
    outcome
}

#[test]
fn a_clean_link_gives_each_frame_at_once() {
    for layers in [1, 3] {
        let outcome = run(Link { layers, ..LINK }, 10);
        assert!(outcome.sent_frames - outcome.given <= 1);
        assert_eq!(outcome.delay_p95, LINK.one_way);
        let counters = outcome.counters;
        assert_eq!((counters.requested, counters.key_requests), (0, 0));
        assert_eq!(counters.frames, counters.decodable);
    }
}

#[test]
fn packets_that_change_places_or_come_twice_cost_nothing() {
    let link = Link {
        jitter: Duration::from_millis(6),
        duplicates: 0.2,
        ..LINK
    };
    let outcome = run(link, 20);
    assert!(outcome.sent_frames - outcome.given <= 2);
    let counters = outcome.counters;
    assert_eq!((counters.requested, counters.key_requests), (0, 0));
    assert!(counters.duplicates + counters.late > 100);
}

/// At each loss: how much of the time may be frozen, and how many of the frames may be missing. A key frame is twenty
/// packets: where one in five is lost, and the answer to a request as well, repair takes several round trips.
#[test]
fn loss_is_repaired_by_retransmission_and_not_without() {
    for (loss, frozen, missing) in [(0.05, 0.02, 0.1), (0.1, 0.08, 0.2), (0.2, 0.25, 0.3)] {
        for layers in [1, 3] {
            for seed in 1..=3 {
                let link = Link {
                    seed,
                    loss,
                    layers,
                    jitter: Duration::from_millis(4),
                    ..LINK
                };
                let outcome = run(link, 60);
                assert!(outcome.frozen <= frozen, "{outcome:?}");
                let missed = 1.0 - outcome.given as f64 / outcome.sent_frames as f64;
                assert!(missed <= missing, "{missed}");
                assert!(outcome.counters.recovered > 100);
                let off = Link {
                    retransmission: false,
                    ..link
                };
                let off = run(off, 60);
                assert!(off.frozen > frozen, "the bar must fail: {off:?}");
                assert_eq!((off.counters.requested, off.counters.recovered), (0, 0));
                assert!(off.counters.key_requests > outcome.counters.key_requests);
            }
        }
    }
}

#[test]
fn on_a_long_way_parity_repairs_what_asking_cannot() {
    for layers in [1, 3] {
        for seed in 1..=3 {
            let link = Link {
                seed,
                loss: 0.05,
                layers,
                one_way: Duration::from_millis(100),
                jitter: Duration::from_millis(4),
                parity_for: Some(2),
                ..LINK
            };
            let outcome = run(link, 30);
            assert!(outcome.frozen <= 0.02, "{outcome:?}");
            assert!(outcome.counters.restored > 50);
            let off = run(
                Link {
                    parity_for: None,
                    ..link
                },
                30,
            );
            assert!(off.frozen > 0.05, "the bar must fail: {off:?}");
            assert_eq!(off.counters.restored, 0);
        }
    }
}

#[test]
fn bursts_are_repaired() {
    for seed in 1..=3 {
        let link = Link {
            seed,
            loss: 0.05,
            burst: 4.0,
            ..LINK
        };
        let outcome = run(link, 60);
        assert!(outcome.frozen <= 0.07, "{outcome:?}");
        let off = Link {
            retransmission: false,
            ..link
        };
        let off = run(off, 60);
        assert!(off.frozen > 0.07, "the bar must fail: {off:?}");
    }
}

/// The next frame of the base is there sooner than what is missing of the layers above the frame before.
#[test]
fn higher_layers_that_are_late_are_skipped_on_a_long_way() {
    let link = Link {
        loss: 0.05,
        one_way: Duration::from_millis(100),
        ..LINK
    };
    let three = run(link, 60);
    let one = run(Link { layers: 1, ..link }, 60);
    assert!(three.counters.dropped_incomplete > 0);
    assert!(three.frozen < one.frozen, "{} {}", three.frozen, one.frozen);
}

/// A buffer that has lost its base for good, and what it then asks for.
#[test]
fn key_frames_are_asked_for_at_an_interval_until_one_comes() {
    let start = Instant::now();
    let mut packetizer = Packetizer::new(VideoCodec::H264, 9, 5);
    let mut buffer = FrameBuffer::new(VideoCodec::H264, FrameBufferConfig::default());
    let mut asked = 0;
    for number in 1..=60u64 {
        let now = start + Duration::from_secs(number) / 30;
        for packet in packetizer.packetize(&encoded(1, number, number)).unwrap() {
            buffer.insert(now, &VideoPacket::parse(&packet.bytes).unwrap());
        }
        assert_eq!(buffer.poll_frame(now), None);
        asked += u64::from(buffer.poll_requests(now).key_frame);
    }
    assert!((7..=8).contains(&asked), "{asked} in two seconds");
    assert!(buffer.held_frames() <= 20, "the impatient are dropped");
    let now = start + Duration::from_secs(3);
    for packet in packetizer.packetize(&encoded(1, 61, 0)).unwrap() {
        buffer.insert(now, &VideoPacket::parse(&packet.bytes).unwrap());
    }
    assert!(buffer.poll_frame(now).unwrap().is_key);
    assert_eq!(buffer.poll_requests(now), Requests::default());
    assert_eq!((buffer.held_frames(), buffer.held_bytes()), (0, 0));
    buffer.require_key();
    assert!(buffer.poll_requests(now).key_frame);
}

#[test]
fn a_key_frame_that_is_only_wished_for_stops_nobody() {
    let start = Instant::now();
    let mut packetizer = Packetizer::new(VideoCodec::H264, 9, 5);
    let mut buffer = FrameBuffer::new(VideoCodec::H264, FrameBufferConfig::default());
    let mut asked = Vec::new();
    for number in 0..60u64 {
        let now = start + Duration::from_secs(number) / 30;
        if number == 10 {
            buffer.want_key();
        }
        // It comes with the fortieth.
        let since_key = if number < 40 { number } else { number - 40 };
        let frame = encoded(1, number, since_key);
        for packet in packetizer.packetize(&frame).unwrap() {
            buffer.insert(now, &VideoPacket::parse(&packet.bytes).unwrap());
        }
        assert!(buffer.poll_frame(now).is_some(), "{number}");
        if buffer.poll_requests(now).key_frame {
            asked.push(number);
        }
    }
    assert_eq!(asked.first(), Some(&10), "{asked:?}");
    assert!(asked.len() >= 3 && asked.last() < Some(&40), "{asked:?}");
}

#[test]
fn each_packet_is_asked_for_at_most_so_often() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut packetizer = Packetizer::new(VideoCodec::H264, 9, 5);
    let mut buffer = FrameBuffer::new(VideoCodec::H264, FrameBufferConfig::default());
    buffer.set_round_trip(Duration::from_millis(40));
    let packets = packetizer.packetize(&encoded(1, 0, 0)).unwrap();
    for packet in packets.iter().filter(|packet| packet.sequence != 8) {
        buffer.insert(start, &VideoPacket::parse(&packet.bytes).unwrap());
    }
    let asked: Vec<u64> = (0..600)
        .filter(|millis| buffer.poll_requests(at(*millis)).missing == [8])
        .collect();
    assert_eq!(asked, [8, 58, 108, 158, 208, 258, 308, 358]);
    let missing = packets.iter().find(|packet| packet.sequence == 8).unwrap();
    buffer.insert(at(600), &VideoPacket::parse(&missing.bytes).unwrap());
    assert!(buffer.poll_frame(at(600)).unwrap().is_key);
    assert_eq!(buffer.counters().recovered, 1);
}

#[test]
fn what_waits_for_something_lost_is_known_from_what_comes_as_usual() {
    let start = Instant::now();
    let mut packetizer = Packetizer::new(VideoCodec::H264, 9, 5);
    let mut buffer = FrameBuffer::new(VideoCodec::H264, FrameBufferConfig::default());
    let mut lost = Vec::new();
    let mut given = Vec::new();
    for number in 0..6u64 {
        let now = start + Duration::from_secs(number) / 30;
        let packets = packetizer.packetize(&encoded(1, number, number)).unwrap();
        let (kept, gone) = packets.split_at(packets.len() - usize::from(number == 2));
        lost.extend_from_slice(gone);
        // It is asked for when the frame behind it comes, and is there before the one after.
        let again = if number == 4 { lost.as_slice() } else { &[] };
        for packet in again.iter().chain(kept) {
            buffer.insert(now, &VideoPacket::parse(&packet.bytes).unwrap());
            while let Some(frame) = buffer.poll_frame(now) {
                given.push(frame.is_repaired);
            }
        }
        buffer.poll_requests(now + Duration::from_millis(10));
    }
    assert_eq!(given, [false, false, true, true, false, false]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_strangers_packets_are_bounded_and_never_panic(
        packets in prop::collection::vec(
            (any::<u16>(), 0u16..64, 0u16..6, 1u16..6, any::<bool>(), 0u8..3, (0u8..5, 0u8..5), 0u64..40, any::<bool>()),
            1..400,
        ),
    ) {
        let start = Instant::now();
        let config = FrameBufferConfig { max_bytes: 4000, max_frames: 10, ..FrameBufferConfig::default() };
        let mut buffer = FrameBuffer::new(VideoCodec::H264, config);
        let mut now = start;
        for (sequence, frame, index, count, is_key, temporal_layer, needs, millis, is_near) in packets {
            now += Duration::from_millis(millis);
            let header = crate::packet::rtp::RtpHeader {
                marker: false,
                payload_type: VideoCodec::H264.payload_type(),
                sequence: if is_near { sequence % 256 } else { sequence },
                timestamp: RtpTimestamp(frame.into()),
                ssrc: 1,
            };
            let needs = if is_key { [0; 2] } else { [needs.0 + 1, needs.1] };
            let descriptor = Descriptor { frame, index: index % count, count, is_key, temporal_layer, needs, is_still: false };
            buffer.insert(now, &VideoPacket { header, descriptor, body: &[0x41; 500] });
            let mut last = None;
            while let Some(frame) = buffer.poll_frame(now) {
                prop_assert!(last.is_none_or(|last| frame.number > last));
                last = Some(frame.number);
            }
            let _requests = buffer.poll_requests(now);
            prop_assert!(buffer.poll_timeout(now).is_none_or(|at| at > now));
            prop_assert!(buffer.held_frames() <= 10 && buffer.held_bytes() <= 4000);
            prop_assert!(buffer.missing.len() <= MAX_MISSING);
            let held: usize = buffer.frames.values().map(|frame| frame.bytes).sum();
            prop_assert_eq!(held, buffer.held_bytes());
        }
    }
}
