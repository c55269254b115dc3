//! Two channels through sender, network and receiver in virtual time.

use std::{
    f64::consts::TAU,
    time::{Duration, Instant},
};

use super::{AudioKind, NetEqConfig, NetEqStats};
use crate::{
    audio::{
        opus::{Content, EncoderConfig},
        test_signal::Speech,
        wide::WideBlock,
    },
    loss::{Mode, Protection},
    packet::rtp::{OPUS_PAYLOAD_TYPE, RtpHeader, RtpPacket},
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendPipeline},
    },
    time::{BLOCK_DURATION, BLOCK_SAMPLES, RtpTimestamp},
};

/// The tones of the two channels.
const LEFT_HZ: f64 = 500.0;
const RIGHT_HZ: f64 = 1700.0;

const MUSIC: Content = Content::Music { stereo: true };

type Frames = Vec<[f32; 2]>;

struct Scene {
    sound: Frames,
    /// What is sent from which block on.
    contents: Vec<(usize, Content)>,
    protection: Protection,
    /// Milliseconds until a packet arrives, or nothing.
    network: fn(u64) -> Option<f64>,
    neteq: NetEqConfig,
    /// Least delay from which block on.
    min_delay: Option<(usize, Duration)>,
}

impl Scene {
    fn music(sound: Frames) -> Self {
        Self {
            sound,
            contents: vec![(0, MUSIC)],
            protection: Protection::default(),
            network: |_| Some(40.0),
            neteq: NetEqConfig::default(),
            min_delay: None,
        }
    }
}

struct Heard {
    frames: Frames,
    /// Of each block.
    is_stereo: Vec<bool>,
    kinds: Vec<AudioKind>,
    stats: NetEqStats,
}

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make an Instant; only differences matter"
    )]
    Instant::now()
}

fn random(n: u64, salt: u64) -> f64 {
    let mut x = n
        .wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x1234_5678);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn play(scene: &Scene) -> Heard {
    let origin = start();
    let at = |millis: f64| origin + Duration::from_secs_f64(millis / 1000.0);
    let mut sender = SendPipeline::new(SendConfig::new(1)).unwrap();
    sender.protect(scene.protection);
    let mut arrivals = Vec::new();
    for (block, frames) in scene.sound.chunks_exact(BLOCK_SAMPLES).enumerate() {
        for (_at, content) in scene.contents.iter().filter(|(at, _)| *at == block) {
            sender.configure(EncoderConfig::of(*content));
        }
        let sent = (block + 1) as f64 * 10.0;
        let mut wide = WideBlock::SILENCE;
        wide.set_frames(frames.iter().copied());
        let Some(packet) = sender.push_wide(at(sent), &wide).map(<[u8]>::to_vec) else {
            continue;
        };
        if let Some(delay) = (scene.network)(sender.stats().packets - 1) {
            arrivals.push((sent + delay, packet));
        }
    }
    assert_eq!(sender.stats().failed_frames, 0);
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut receiver = RecvPipeline::new(RecvConfig {
        neteq: scene.neteq,
        ..RecvConfig::default()
    })
    .unwrap();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut heard = Heard {
        frames: Vec::new(),
        is_stereo: Vec::new(),
        kinds: Vec::new(),
        stats: receiver.stats(),
    };
    let mut block = WideBlock::SILENCE;
    for pull in 0..scene.sound.len() / BLOCK_SAMPLES {
        let millis = pull as f64 * 10.0 + 3.0;
        while let Some((arrival, packet)) = arrivals.next_if(|(arrival, _)| *arrival <= millis) {
            let _late = receiver.insert_packet(at(arrival), &packet);
        }
        if let Some((from, min_delay)) = scene.min_delay
            && pull == from
        {
            receiver.set_min_delay(min_delay);
        }
        heard
            .kinds
            .push(receiver.get_wide(at(millis), &mut block).kind);
        heard.is_stereo.push(block.is_stereo());
        heard.frames.extend(block.frames());
    }
    heard.stats = receiver.stats();
    heard
}

/// A tone on the left and another on the right.
fn two_tones(seconds: usize) -> Frames {
    let tone = |n: usize, hz: f64| ((n as f64 * hz / 48_000.0 * TAU).sin() * 0.3) as f32;
    (0..seconds * 48_000)
        .map(|n| [tone(n, LEFT_HZ), tone(n, RIGHT_HZ)])
        .collect()
}

/// Power of a frequency, of whatever phase, over windows of 20 ms.
fn power(samples: impl Iterator<Item = f32>, hz: f64) -> f64 {
    let (mut sum, mut windows) = (0.0, 0.0);
    let samples: Vec<f32> = samples.collect();
    for window in samples.chunks_exact(960) {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (n, sample) in window.iter().enumerate() {
            let (s, c) = (n as f64 * hz / 48_000.0 * TAU).sin_cos();
            sine += f64::from(*sample) * s;
            cosine += f64::from(*sample) * c;
        }
        sum += sine * sine + cosine * cosine;
        windows += 1.0;
    }
    sum / f64::max(windows, 1.0)
}

/// How much louder each tone is where it belongs, in decibels: the lesser of the two.
fn separation_db(frames: &[[f32; 2]]) -> f64 {
    let of = |channel: usize, hz| power(frames.iter().map(|frame| frame[channel]), hz);
    let left = of(0, LEFT_HZ) / of(1, LEFT_HZ);
    let right = of(1, RIGHT_HZ) / of(0, RIGHT_HZ);
    10.0 * left.min(right).log10()
}

/// 40..=90 ms, and a tenth is lost.
fn bad_line(n: u64) -> Option<f64> {
    (random(n, 2) >= 0.1).then(|| 40.0 + 50.0 * random(n, 1))
}

#[test]
fn left_stays_left_over_a_bad_line() {
    let copies = Protection {
        mode: Mode::Red,
        loss_percent: 5,
        ..Protection::default()
    };
    for (name, protection, least_db) in [
        ("repaired", copies, 25.0),
        ("not repaired", Protection::default(), 20.0),
    ] {
        let heard = play(&Scene {
            network: bad_line,
            protection,
            ..Scene::music(two_tones(12))
        });
        let separation = separation_db(&heard.frames[48_000..]);
        println!("{name}: {separation:.1} dB, {:?}", heard.stats);
        assert!(separation > least_db, "{name}: {separation:.1} dB");
        assert!(heard.stats.packets_lost > 30);
        assert!(heard.stats.expanded_samples + heard.stats.accelerated_samples > 0);
        let repaired = heard.stats.frames_recovered_red > 30;
        assert_eq!(repaired, protection.mode == Mode::Red, "{:?}", heard.stats);
    }
}

#[test]
fn without_music_or_a_place_for_it_both_sides_are_the_same() {
    let clean = play(&Scene::music(two_tones(5)));
    let separation = separation_db(&clean.frames[48_000..]);
    assert!(separation > 35.0, "{separation:.1} dB");
    let voice = Scene {
        contents: vec![(0, Content::Voice)],
        ..Scene::music(two_tones(5))
    };
    let one_channel = Scene {
        contents: vec![(0, Content::Music { stereo: false })],
        ..Scene::music(two_tones(5))
    };
    let deaf = Scene {
        neteq: NetEqConfig {
            stereo: false,
            ..NetEqConfig::default()
        },
        ..Scene::music(two_tones(5))
    };
    for scene in [voice, one_channel, deaf] {
        let heard = play(&scene);
        assert!(heard.is_stereo.iter().all(|is_stereo| !is_stereo));
        assert!(heard.frames.iter().all(|[left, right]| left == right));
        let mix = power(heard.frames[48_000..].iter().map(|frame| frame[0]), LEFT_HZ);
        assert!(mix > 100.0, "{mix}");
    }
}

/// The lag within a millisecond at which right is most like left.
fn lag_between(frames: &[[f32; 2]]) -> i64 {
    let mut best = (f32::MIN, 0);
    for lag in -48i64..=48 {
        let sum: f32 = (48..frames.len() - 48)
            .step_by(3)
            .map(|n| frames[n][0] * frames[(n as i64 + lag) as usize][1])
            .sum();
        if sum > best.0 {
            best = (sum, lag);
        }
    }
    best.1
}

#[test]
fn stretching_and_concealing_moves_nothing_from_left_to_right() {
    // The same voice on both sides, the right one 13 samples later, and something of its own.
    let voice = Speech::new(21).samples(14 * 48_000 + 13);
    let sound: Frames = (0..14 * 48_000)
        .map(|n| {
            let own = (n as f32 * 0.3).sin() * 0.01;
            [voice[n + 13] * 0.6, voice[n] * 0.4 + own]
        })
        .collect();
    let heard = play(&Scene {
        network: |n| (random(n, 5) >= 0.05).then(|| 40.0 + 40.0 * random(n, 6)),
        min_delay: Some((600, Duration::from_millis(150))),
        ..Scene::music(sound)
    });
    println!("{:?}", heard.stats);
    assert!(heard.stats.expanded_samples > 2400, "{:?}", heard.stats);
    assert!(heard.stats.concealed_samples > 4800);
    let mut seen = 0;
    for (n, second) in heard.frames.chunks_exact(24_000).enumerate().skip(2) {
        let loud = second.iter().map(|frame| frame[0].powi(2)).sum::<f32>() > 24.0;
        if loud {
            seen += 1;
            assert_eq!(lag_between(second), 13, "half second {n}");
        }
    }
    assert!(seen > 15, "{seen}");
}

/// The softest and the loudest 5 ms of what one channel has between two blocks, in decibels beside the mean.
fn ripple_db(frames: &[[f32; 2]], channel: usize, blocks: std::ops::Range<usize>) -> (f64, f64) {
    let range = blocks.start * BLOCK_SAMPLES..blocks.end * BLOCK_SAMPLES;
    let powers: Vec<f64> = frames[range]
        .chunks_exact(240)
        .map(|part| {
            let power: f64 = part
                .iter()
                .map(|frame| f64::from(frame[channel]).powi(2))
                .sum();
            power / 240.0
        })
        .collect();
    let mean = powers.iter().sum::<f64>() / powers.len() as f64;
    let db = |power: f64| 10.0 * (power / mean).log10();
    let least = powers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = powers.iter().copied().fold(0.0, f64::max);
    (db(least), db(most))
}

#[test]
fn music_is_switched_on_and_off_in_the_midst_of_sound_without_a_gap() {
    // The same tone on both sides, whose level a mix does not change; and something that differs, or there would be
    // one channel.
    let sound: Frames = (0..12 * 48_000)
        .map(|n| {
            let common = ((n as f64 * 600.0 / 48_000.0 * TAU).sin() * 0.3) as f32;
            let own = ((n as f64 * 2000.0 / 48_000.0 * TAU).sin() * 0.05) as f32;
            [common + own, common - own]
        })
        .collect();
    let heard = play(&Scene {
        contents: vec![(0, Content::Voice), (300, MUSIC), (700, Content::Voice)],
        ..Scene::music(sound)
    });
    println!("{:?}", heard.stats);
    let first = heard.is_stereo.iter().position(|is_stereo| *is_stereo);
    let last = heard.is_stereo.iter().rposition(|is_stereo| *is_stereo);
    let (first, last) = (first.unwrap(), last.unwrap());
    assert!((300..320).contains(&first), "stereo from block {first}");
    // A second longer than there was any.
    assert!((790..830).contains(&last), "stereo until block {last}");
    assert_eq!(heard.stats.concealed_samples, 0);
    for (name, blocks) in [("on", 280..330), ("off", 680..730), ("narrow", 780..840)] {
        for channel in [0, 1] {
            let (least, most) = ripple_db(&heard.frames, channel, blocks.clone());
            println!("{name}, channel {channel}: {least:.1}..{most:.1} dB");
            assert!(
                least > -5.0 && most < 2.0,
                "{name}: {least:.1}..{most:.1} dB"
            );
        }
    }
}

#[test]
fn a_second_channel_that_is_the_same_is_not_sent() {
    let mut sound = two_tones(6);
    for frame in &mut sound[..96_000] {
        *frame = [frame[0]; 2];
    }
    for frame in &mut sound[192_000..] {
        *frame = [frame[0]; 2];
    }
    let heard = play(&Scene::music(sound));
    assert!(heard.is_stereo[..200].iter().all(|is_stereo| !is_stereo));
    assert!(heard.is_stereo[220..400].iter().all(|is_stereo| *is_stereo));
    assert_eq!(heard.stats.concealed_samples, 0);
    // A second later nothing differs, and another later nothing is believed to differ.
    assert!(!heard.is_stereo.last().unwrap() || heard.is_stereo.len() <= 620);
}

#[test]
fn no_sequence_of_packets_is_too_odd() {
    let frames = two_tones(3);
    for seed in 0..6u64 {
        let origin = start();
        let mut sender = SendPipeline::new(SendConfig::new(1)).unwrap();
        let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
        let mut block = WideBlock::SILENCE;
        let (mut stereo, mut played) = (0, 0);
        for (n, frames) in frames.chunks_exact(BLOCK_SAMPLES).enumerate() {
            let now = origin + BLOCK_DURATION * n as u32;
            let salt = seed * 1000 + n as u64;
            if n % 9 == 0 {
                let stereo = random(salt, 1) < 0.5;
                let content = if random(salt, 2) < 0.5 {
                    Content::Voice
                } else {
                    Content::Music { stereo }
                };
                sender.configure(EncoderConfig::of(content));
            }
            let mut wide = WideBlock::SILENCE;
            wide.set_frames(frames.iter().copied());
            if let Some(packet) = sender.push_wide(now, &wide) {
                let mut bytes = packet.to_vec();
                let (what, where_) = (random(salt, 3), random(salt, 4));
                if what < 0.2 {
                    // Damaged.
                    let at = 12 + (where_ * (bytes.len() - 12) as f64) as usize;
                    bytes[at] ^= 1 << (salt % 8);
                } else if what < 0.3 {
                    // Says two channels and has one, or the other way round.
                    bytes[12] ^= 4;
                } else if what < 0.4 {
                    bytes.truncate(12 + (where_ * 20.0) as usize);
                } else if what < 0.5 {
                    // Invented from beginning to end.
                    let header = RtpPacket::parse(&bytes).unwrap().header;
                    let len = (where_ * 200.0) as u64;
                    let noise = (0..len).map(|k| (random(salt * 300 + k, 7) * 256.0) as u8);
                    bytes.truncate(12);
                    bytes.extend(noise);
                    assert_eq!(header.payload_type, OPUS_PAYLOAD_TYPE);
                }
                let _odd = receiver.insert_packet(now, &bytes);
            }
            let info = receiver.get_wide(now, &mut block);
            played += usize::from(info.kind != AudioKind::Waiting);
            stereo += usize::from(block.is_stereo());
            for frame in block.frames() {
                assert!(
                    frame.iter().all(|sample| sample.abs() <= 1.0 + 1e-6),
                    "seed {seed}"
                );
            }
        }
        assert!(
            stereo > 50 && played > 250,
            "seed {seed}: {stereo} of {played}"
        );
    }
    // And one that is two channels of silence from the first byte on.
    let header = RtpHeader {
        marker: true,
        payload_type: OPUS_PAYLOAD_TYPE,
        sequence: 1,
        timestamp: RtpTimestamp(0),
        ssrc: 1,
    };
    let mut bytes = header.to_bytes().unwrap().to_vec();
    bytes.push(31 << 3 | 4);
    let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
    receiver.insert_packet(start(), &bytes).unwrap();
    let mut block = WideBlock::SILENCE;
    for n in 0..50 {
        receiver.get_wide(start() + BLOCK_DURATION * n, &mut block);
    }
}
