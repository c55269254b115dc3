use proptest::prelude::*;

use super::*;
use crate::audio::test_signal::{Speech, segmental_snr_db};

const NULL: DecoderConfig = DecoderConfig {
    codec: Codec::Null,
    complexity: 0,
    enhance_below: Bitrate(0),
};

/// What `mode` is in the tables of losses.
fn deep(bitrate: Bitrate, frame: FrameDuration) -> EncoderConfig {
    EncoderConfig {
        bitrate,
        frame,
        dred: MAX_DRED,
        expected_loss_percent: MIN_DRED_LOSS_PERCENT,
        ..EncoderConfig::default()
    }
}

fn encode_all(config: EncoderConfig, signal: &[f32]) -> Vec<Vec<u8>> {
    let mut encoder = OpusEncoder::new(config).unwrap();
    let mut out = [0; MAX_ENCODED_BYTES];
    let encode = |frame: &[f32]| {
        let len = encoder.encode(frame, &mut out).unwrap();
        out[..len].to_vec()
    };
    signal
        .chunks_exact(config.frame.samples())
        .map(encode)
        .collect()
}

fn decode_all(packets: &[Vec<u8>]) -> Vec<f32> {
    decode_all_by(DecoderConfig::default(), packets)
}

fn decode_all_by(config: DecoderConfig, packets: &[Vec<u8>]) -> Vec<f32> {
    let mut decoder = OpusDecoder::with(config).unwrap();
    let mut out = [0.0; MAX_PACKET_SAMPLES];
    let mut all = Vec::new();
    for packet in packets {
        let len = decoder.decode(packet, &mut out).unwrap();
        all.extend_from_slice(&out[..len]);
    }
    all
}

#[test]
fn speech_survives_the_codec_in_every_frame_duration() {
    let speech = Speech::new(1).samples(96_000);
    for frame in [
        FrameDuration::Ms10,
        FrameDuration::Ms20,
        FrameDuration::Ms40,
        FrameDuration::Ms60,
    ] {
        let config = EncoderConfig {
            frame,
            ..EncoderConfig::default()
        };
        let lookahead = OpusEncoder::new(config).unwrap().lookahead_samples();
        let decoded = decode_all(&encode_all(config, &speech));
        let snr = segmental_snr_db(&speech[..90_000], &decoded[lookahead..]);
        assert!(snr > 4.0, "{frame:?}: {snr:.1} dB");
    }
}

#[test]
fn speech_is_enhanced_where_that_is_heard() {
    let speech = Speech::new(6).samples(96_000);
    let [never, always] = [0, u32::MAX].map(|bps| DecoderConfig {
        enhance_below: Bitrate(bps),
        ..DecoderConfig::default()
    });
    for (kilobits, expected) in [(20, always), (26, always), (32, never), (40, never)] {
        let config = EncoderConfig {
            bitrate: Bitrate::kbps(kilobits),
            ..EncoderConfig::default()
        };
        let packets = encode_all(config, &speech);
        let [heard, expected, never, always] = [DecoderConfig::default(), expected, never, always]
            .map(|config| decode_all_by(config, &packets));
        assert!(never != always, "{kilobits} kbit/s");
        // The first packet is decoded as it should be, too.
        assert!(heard == expected, "{kilobits} kbit/s");
    }
}

#[test]
fn packets_with_nothing_in_them_look_like_any_other() {
    let speech = Speech::new(4).samples(5760);
    for kilobits in [6, 32, 64] {
        for frame in [
            FrameDuration::Ms10,
            FrameDuration::Ms20,
            FrameDuration::Ms40,
            FrameDuration::Ms60,
        ] {
            let config = EncoderConfig {
                bitrate: Bitrate::kbps(kilobits),
                frame,
                ..EncoderConfig::default()
            };
            let empty = EncoderConfig {
                codec: Codec::Null,
                ..config
            };
            let [full, null] = [config, empty].map(|config| encode_all(config, &speech));
            let lengths = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).collect::<Vec<_>>();
            assert_eq!(
                lengths(&full),
                lengths(&null),
                "{kilobits} kbit/s, {frame:?}"
            );
            let info = PacketInfo::parse(&null[0]).unwrap();
            assert_eq!((info.samples, info.has_fec), (frame.samples(), false));
            assert!(!info.is_dtx);
            let mut out = vec![1.0; frame.samples()];
            let mut decoder = OpusDecoder::with(NULL).unwrap();
            assert_eq!(decoder.decode(&null[0], &mut out), Ok(frame.samples()));
            assert!(out.iter().all(|sample| *sample == 0.0));
            assert!(decoder.decode(&[], &mut out).is_err());
        }
    }
}

#[test]
fn constant_bitrate_gives_speech_and_silence_the_same_size() {
    let mut signal = Speech::new(2).samples(96_000);
    signal.resize(192_000, 0.0);
    for kilobits in [6, 12, 24, 32, 64, 128] {
        for fec in [false, true] {
            for frame in [
                FrameDuration::Ms10,
                FrameDuration::Ms20,
                FrameDuration::Ms40,
                FrameDuration::Ms60,
            ] {
                let bitrate = Bitrate::kbps(kilobits);
                let expected_loss_percent = if fec { 10 } else { 0 };
                let config = EncoderConfig {
                    bitrate,
                    fec,
                    frame,
                    expected_loss_percent,
                    ..EncoderConfig::default()
                };
                let packets = encode_all(config, &signal);
                let want = bitrate.bps() as usize * frame.blocks() / 800;
                let sizes: std::collections::BTreeSet<_> = packets.iter().map(Vec::len).collect();
                assert_eq!(
                    sizes.len(),
                    1,
                    "{kilobits} kbit/s {frame:?} fec {fec}: {sizes:?}"
                );
                assert!(
                    sizes.iter().all(|size| size.abs_diff(want) <= 1),
                    "{sizes:?}, not {want}"
                );
            }
        }
    }
}

#[test]
fn deep_redundancy_does_not_change_the_size_of_packets() {
    let mut signal = Speech::new(2).samples(96_000);
    signal.resize(192_000, 0.0);
    for kilobits in [6, 16, 24, 32, 48, 64, 128] {
        for frame in [
            FrameDuration::Ms10,
            FrameDuration::Ms20,
            FrameDuration::Ms40,
            FrameDuration::Ms60,
        ] {
            for expected_loss_percent in [0, 5, 15, 30] {
                let config = EncoderConfig {
                    expected_loss_percent,
                    ..deep(Bitrate::kbps(kilobits), frame)
                };
                let sizes: std::collections::BTreeSet<_> =
                    encode_all(config, &signal).iter().map(Vec::len).collect();
                let want = config.packet_bytes();
                assert_eq!(
                    sizes,
                    [want].into(),
                    "{kilobits} kbit/s {frame:?}, {expected_loss_percent} %"
                );
            }
        }
    }
}

#[test]
fn deep_redundancy_is_seen_from_outside_and_reaches_over_a_burst() {
    let speech = Speech::new(3).samples(96_000);
    for frame in [
        FrameDuration::Ms10,
        FrameDuration::Ms20,
        FrameDuration::Ms60,
    ] {
        let config = deep(min_dred_bitrate(frame), frame);
        let mut decoder = OpusDecoder::new().unwrap();
        let mut least = usize::MAX;
        for (n, packet) in encode_all(config, &speech).iter().enumerate() {
            let reach = decoder.read_dred(packet, 48_000).unwrap();
            let info = PacketInfo::parse(packet).unwrap();
            assert_eq!(info.has_dred, reach > 0, "packet {n}");
            if n * frame.samples() > 24_000 {
                least = least.min(reach);
            }
        }
        println!("{frame:?}: {} ms", least / 48);
        assert!(least >= 48 * 80, "{frame:?}: {} ms", least / 48);
        let plain = EncoderConfig {
            dred: Duration::ZERO,
            ..config
        };
        for packet in encode_all(plain, &speech) {
            assert_eq!(decoder.read_dred(&packet, 48_000), Ok(0));
            assert!(!PacketInfo::parse(&packet).unwrap().has_dred);
        }
    }
}

#[test]
fn a_burst_is_spoken_again_from_deep_redundancy() {
    let speech = Speech::new(4).samples(144_000);
    let packets = encode_all(deep(Bitrate::kbps(40), FrameDuration::Ms20), &speech);
    let lost = |n: usize| n % 20 >= 17 && n + 3 < packets.len();
    // Power of each 20 ms, which even a vocoder should keep.
    let run = |deep: bool| {
        let mut decoder = OpusDecoder::with(DecoderConfig {
            complexity: if deep { 7 } else { 0 },
            ..DecoderConfig::default()
        })
        .unwrap();
        let mut out = [0.0; MAX_PACKET_SAMPLES];
        let (mut error, mut count) = (0.0, 0);
        for (n, packet) in packets.iter().enumerate() {
            if !lost(n) {
                decoder.decode(packet, &mut out).unwrap();
                continue;
            }
            let next = (n..packets.len()).find(|next| !lost(*next)).unwrap();
            let before = (next - n) * 960;
            let reach = if deep {
                decoder.read_dred(&packets[next], before).unwrap()
            } else {
                0
            };
            if reach >= before {
                decoder.decode_dred(before, &mut out[..960]).unwrap();
            } else {
                decoder.conceal(&mut out[..960]).unwrap();
            }
            let power = |samples: &[f32]| {
                (samples.iter().map(|s| s * s).sum::<f32>() / 960.0 + 1e-7).log10() * 10.0
            };
            let said = &speech[(n * 960).saturating_sub(312)..][..960];
            error += (power(said) - power(&out[..960])).abs();
            count += 1;
        }
        error / count as f32
    };
    let (with, without) = (run(true), run(false));
    println!("off by {with:.1} dB with, {without:.1} dB without");
    assert!(
        with < without * 0.8,
        "{with:.1} dB, {without:.1} dB without"
    );
}

#[test]
fn variable_bitrate_tells_speech_from_silence() {
    let mut signal = Speech::new(2).samples(48_000);
    signal.resize(96_000, 0.0);
    let config = EncoderConfig {
        rate_control: RateControl::Variable,
        ..EncoderConfig::default()
    };
    let packets = encode_all(config, &signal);
    let bytes = |range: &[Vec<u8>]| range.iter().map(Vec::len).sum::<usize>() / range.len();
    let (speech, silence) = (bytes(&packets[..40]), bytes(&packets[60..]));
    assert!(
        speech * 2 > silence * 3,
        "{speech} bytes in speech, {silence} in silence"
    );
}

#[test]
fn packet_info_agrees_with_libopus() {
    let speech = Speech::new(3).samples(96_000);
    for kilobits in [8, 16, 32, 96] {
        for frame in [
            FrameDuration::Ms10,
            FrameDuration::Ms20,
            FrameDuration::Ms40,
            FrameDuration::Ms60,
        ] {
            for fec in [false, true] {
                let config = EncoderConfig {
                    bitrate: Bitrate::kbps(kilobits),
                    frame,
                    fec,
                    expected_loss_percent: if fec { 20 } else { 0 },
                    ..EncoderConfig::default()
                };
                let mut copies = 0;
                for packet in encode_all(config, &speech) {
                    let info = PacketInfo::parse(&packet).unwrap();
                    assert_eq!(info.samples, frame.samples());
                    assert_eq!(
                        info.frame_samples,
                        opus::packet::get_samples_per_frame(&packet, 48_000).unwrap()
                    );
                    copies += usize::from(info.has_fec);
                }
                assert!(fec || copies == 0, "{config:?}");
                if fec && kilobits >= 32 {
                    assert!(copies > 20, "{copies} copies with {config:?}");
                }
            }
        }
    }
}

#[test]
fn the_copy_in_the_next_packet_beats_concealment() {
    let speech = Speech::new(4).samples(96_000);
    let config = EncoderConfig {
        fec: true,
        expected_loss_percent: 20,
        ..EncoderConfig::default()
    };
    let packets = encode_all(config, &speech);
    let run = |use_fec: bool| {
        let mut decoder = OpusDecoder::new().unwrap();
        let mut all = Vec::new();
        let mut out = [0.0; MAX_PACKET_SAMPLES];
        for (n, packet) in packets.iter().enumerate() {
            let len = match (n % 5 == 4 && n + 1 < packets.len(), use_fec) {
                (false, _) => decoder.decode(packet, &mut out),
                (true, true) => decoder.decode_fec(&packets[n + 1], &mut out[..960]),
                (true, false) => decoder.conceal(&mut out[..960]),
            };
            all.extend_from_slice(&out[..len.unwrap()]);
        }
        segmental_snr_db(&speech[..90_000], &all[312..])
    };
    let (with, without) = (run(true), run(false));
    assert!(
        with > without + 0.3,
        "with {with:.1} dB, without {without:.1} dB"
    );
}

/// Left and right, one after the other: a tone on each.
fn two_tones(samples: usize) -> Vec<f32> {
    let tone = |n: usize, hz: f32| (n as f32 * hz / 48_000.0 * std::f32::consts::TAU).sin() * 0.3;
    (0..samples)
        .flat_map(|n| [tone(n, 500.0), tone(n, 1500.0)])
        .collect()
}

#[test]
fn music_keeps_two_channels_and_packets_of_one_size() {
    let music = EncoderConfig::of(Content::Music { stereo: true });
    let sound = two_tones(48_000);
    let mut encoder = OpusEncoder::new(music).unwrap();
    let mut decoder = OpusDecoder::new().unwrap();
    decoder.widen().unwrap();
    assert_eq!(decoder.channels(), 2);
    let mut bytes = [0; MAX_ENCODED_BYTES];
    let mut out = vec![0.0; 2 * MAX_PACKET_SAMPLES];
    let mut heard = Vec::new();
    for (n, frame) in sound.chunks_exact(1920).enumerate() {
        encoder.set_mono(n >= 40).unwrap();
        let len = encoder.encode(frame, &mut bytes).unwrap();
        assert_eq!(len, music.packet_bytes());
        let info = PacketInfo::parse(&bytes[..len]).unwrap();
        assert_eq!(info.is_stereo, n < 40, "packet {n}");
        assert!(!info.has_fec && !info.has_dred);
        assert_eq!(decoder.decode(&bytes[..len], &mut out), Ok(960));
        heard.extend_from_slice(&out[..1920]);
    }
    let error = |from: usize| {
        let pairs = sound[from..].iter().zip(&heard[from + 624..]).take(19_200);
        pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>() / 19_200.0
    };
    assert!(error(9600) < 1e-4, "{}", error(9600));
    assert!(
        heard[90_000..]
            .chunks_exact(2)
            .all(|frame| frame[0] == frame[1])
    );
    // Whoever has one channel hears the mix.
    let mut mono = OpusDecoder::new().unwrap();
    let len = OpusEncoder::new(music)
        .unwrap()
        .encode(&sound[..1920], &mut bytes)
        .unwrap();
    assert_eq!(mono.decode(&bytes[..len], &mut out), Ok(960));
}

#[test]
fn what_is_for_voices_only_is_not_done_to_music() {
    let config = EncoderConfig {
        content: Content::Music { stereo: true },
        wideband: true,
        fec: true,
        dtx: true,
        dred: MAX_DRED,
        ..EncoderConfig::default()
    };
    let config = OpusEncoder::new(config).unwrap().config();
    assert!(!config.wideband && !config.fec && !config.dtx);
    assert_eq!(config.dred, Duration::ZERO);
}

proptest! {
    #[test]
    fn garbage_is_refused_or_bounded(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let theirs = opus::packet::parse(&bytes);
        if let Ok(info) = PacketInfo::parse(&bytes) {
            prop_assert!(info.samples >= 120 && info.samples <= MAX_PACKET_SAMPLES);
        } else {
            prop_assert!(theirs.is_err(), "libopus accepts what we refuse");
        }
        let mut decoder = OpusDecoder::new().unwrap();
        let mut out = [0.0; MAX_PACKET_SAMPLES];
        if let Ok(len) = decoder.decode(&bytes, &mut out) {
            prop_assert_eq!(len, PacketInfo::parse(&bytes).unwrap().samples);
        }
        if let Ok(len) = decoder.decode_fec(&bytes, &mut out[..960]) {
            prop_assert_eq!(len, 960);
        }
        if let Ok(reach) = decoder.read_dred(&bytes, 48_000) && reach > 0 {
            prop_assert_eq!(decoder.decode_dred(960, &mut out[..960]), Ok(960));
        }
        decoder.widen().unwrap();
        let mut wide = vec![9.0; 2 * MAX_PACKET_SAMPLES];
        if let Ok(len) = decoder.decode(&bytes, &mut wide) {
            prop_assert_eq!(len, PacketInfo::parse(&bytes).unwrap().samples);
            prop_assert!(wide[..2 * len].iter().all(|sample| sample.abs() <= 1.0));
        }
        if let Ok(len) = decoder.decode_fec(&bytes, &mut wide[..1920]) {
            prop_assert_eq!(len, 960);
        }
        prop_assert_eq!(decoder.conceal(&mut wide[..1920]), Ok(960));
    }
}
