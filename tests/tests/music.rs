//! Music in two channels, from one person's file to the other's recording: what each hears, and what is sent for it. Over
//! a simulated network, and once between processes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{f64::consts::TAU, path::Path};

use ahoy::{
    engine::{
        config::EngineConfig,
        handle::Command,
        media::{AudioIn, SoundDevices},
    },
    report::Outcome,
    sim::{Conditions, Loss, Rate},
    sound::{SoundChange, SoundSwitch},
};
use ahoy_tests::{
    pair::{Pair, audio, ms, plan, secs},
    people::{DIRECT, Ended, Phone},
    process::start,
};

/// The tones of the two channels.
const LEFT_HZ: f64 = 500.0;
const RIGHT_HZ: f64 = 1700.0;

const RATE: usize = 48_000;

/// A tone on the left, another on the right.
fn write_music(path: &Path, seconds: usize) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..seconds * RATE {
        for hz in [LEFT_HZ, RIGHT_HZ] {
            let sample = (n as f64 * hz / RATE as f64 * TAU).sin() * 0.3;
            writer.write_sample((sample * 32_767.0) as i16).unwrap();
        }
    }
    writer.finalize().unwrap();
}

/// What was recorded: left and right, the same where there is one channel; and how many there are.
fn recorded(path: &Path) -> (u16, Vec<[f32; 2]>) {
    let mut reader = hound::WavReader::open(path).unwrap();
    let channels = reader.spec().channels;
    let samples: Vec<f32> = reader
        .samples::<i16>()
        .map(|sample| f32::from(sample.unwrap()) / 32_767.0)
        .collect();
    let frame = |frame: &[f32]| [frame[0], *frame.last().unwrap()];
    let frames = samples.chunks_exact(channels.into()).map(frame);
    (channels, frames.collect())
}

/// Power of a frequency in one channel, in windows of 20 ms.
fn power(frames: &[[f32; 2]], channel: usize, hz: f64) -> f64 {
    frames
        .chunks_exact(960)
        .map(|window| {
            let (mut sine, mut cosine) = (0.0, 0.0);
            for (n, frame) in window.iter().enumerate() {
                let (s, c) = (n as f64 * hz / RATE as f64 * TAU).sin_cos();
                sine += f64::from(frame[channel]) * s;
                cosine += f64::from(frame[channel]) * c;
            }
            sine * sine + cosine * cosine
        })
        .sum()
}

/// How much louder each tone is where it belongs than on the other side, in decibels: the lesser of the two.
fn separation_db(frames: &[[f32; 2]]) -> f64 {
    let left = power(frames, 0, LEFT_HZ) / power(frames, 1, LEFT_HZ);
    let right = power(frames, 1, RIGHT_HZ) / power(frames, 0, RIGHT_HZ);
    10.0 * left.min(right).log10()
}

fn says(config: &mut EngineConfig, clip: &Path, music: bool) {
    config.audio.input = AudioIn::File(clip.into());
    config.audio.music = music;
    config.sound.music = music;
    config.audio.devices = SoundDevices::default();
}

/// Alice says what is in a file of two channels, as music or not, while Bob says something ordinary. What Bob recorded,
/// Alice's channels, and both reports.
fn call(
    seed: u64,
    music: bool,
    conditions: &Conditions,
    during: impl AsyncFnOnce(&Pair),
) -> (u16, Vec<[f32; 2]>, u16, [Ended; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("music.wav");
    write_music(&clip, 60);
    let pair = plan(seed).configure(move |name, config| {
        if name == "Alice" {
            says(config, &clip, music);
        }
    });
    pair.run(async |pair| {
        pair.stage.between(&pair.alice, &pair.bob, conditions);
        pair.talk().await;
        during(pair).await;
        let ended = pair.hang_up().await;
        for ended in &ended {
            assert_eq!(ended.report.outcome, Outcome::Completed);
        }
        pair.pass(secs(1)).await;
        let (channels, frames) = recorded(&pair.bob.recording);
        let (back, _frames) = recorded(&pair.alice.recording);
        (channels, frames, back, ended)
    })
}

/// Where sound begins in a recording.
fn begin(frames: &[[f32; 2]]) -> usize {
    frames
        .iter()
        .position(|frame| frame[0].abs() > 0.05)
        .unwrap()
}

fn bad_line() -> Conditions {
    Conditions {
        delay: DIRECT,
        jitter: ms(20),
        loss: Loss::Random(0.05),
        ..Conditions::default()
    }
}

#[test]
fn left_and_right_arrive_over_a_bad_line() {
    let (channels, frames, back, [alice, bob]) = call(0x5701, true, &bad_line(), async |pair| {
        pair.pass(secs(12)).await
    });
    assert_eq!(channels, 2);
    // Whoever says nothing of music is heard in one channel.
    assert_eq!(back, 1);
    let heard = &frames[begin(&frames) + RATE / 2..][..10 * RATE];
    let separation = separation_db(heard);
    let [sent, received] = [&alice, &bob].map(|ended| audio(&ended.report).clone());
    eprintln!("{separation:.1} dB; sent {sent:?}; received {received:?}");
    assert!(separation > 25.0, "{separation:.1} dB");
    assert!(received.packets.lost.unwrap() > 10, "{received:?}");
    let repaired = received.recovered;
    assert!(repaired.red.unwrap() > 5, "{repaired:?}");
    assert_eq!((repaired.fec, repaired.dred), (Some(0), Some(0)));
}

#[test]
fn without_music_the_same_file_is_heard_in_one_channel() {
    let (channels, frames, back, _ended) = call(0x5702, false, &bad_line(), async |pair| {
        pair.pass(secs(6)).await
    });
    assert_eq!((channels, back), (1, 1));
    let heard = &frames[begin(&frames) + RATE / 2..];
    assert!(separation_db(heard).abs() < 0.1);
    assert!(power(heard, 0, LEFT_HZ) > 1.0, "the mix is heard");
}

/// What Alice sends to Bob on the wire, in bits per second, between two seconds of the call.
async fn wire_bps(pair: &Pair, from: u64, to: u64) -> u64 {
    let tap = pair.stage.wiretap();
    pair.pass(secs(from)).await;
    let before = tap.packets().len();
    pair.pass(secs(to - from)).await;
    let bytes: usize = tap.packets()[before..]
        .iter()
        .filter(|packet| packet.from == pair.alice.node && packet.to == Some(pair.bob.node))
        .map(|packet| packet.contents.len() + 28)
        .sum();
    bytes as u64 * 8 / (to - from)
}

#[test]
fn music_has_the_bits_for_it_where_the_line_carries_them_and_gives_way_where_it_does_not() {
    let clean = Conditions::with_delay(DIRECT);
    let narrow = Conditions {
        rate: Some(Rate::with_queue_time(140_000, ms(300))),
        ..Conditions::with_delay(DIRECT)
    };
    let mut sent = Vec::new();
    for (name, music, conditions) in [
        ("music", true, &clean),
        ("a voice", false, &clean),
        ("music on a narrow line", true, &narrow),
    ] {
        let mut bps = 0;
        let (channels, frames, _back, [_alice, bob]) =
            call(0x5703, music, conditions, async |pair| {
                bps = wire_bps(pair, 12, 18).await;
            });
        let end = &frames[frames.len() - 4 * RATE..frames.len() - RATE];
        let separation = separation_db(end);
        let heard = audio(&bob.report);
        eprintln!(
            "{name}: {bps} bits per second, {separation:.1} dB, concealed {:?} ms of {:?}",
            heard.concealed_ms, heard.packets
        );
        assert_eq!(channels, if music { 2 } else { 1 });
        assert!(heard.packets.lost.unwrap() < 20, "{name}");
        // Opus, at less than 100 kbit/s, mixes some of the channels' high notes: still two channels, a mix has none.
        let least = if conditions.rate.is_some() {
            10.0
        } else {
            25.0
        };
        if music {
            assert!(separation > least, "{separation:.1} dB");
        }
        sent.push(bps);
    }
    let [music, voice, narrow] = sent[..] else {
        panic!("three calls");
    };
    assert!((160_000..200_000).contains(&music), "{music}");
    assert!((70_000..100_000).contains(&voice), "{voice}");
    assert!((90_000..140_000).contains(&narrow), "{narrow}");
}

/// Turns music on or off at one person's.
fn switch(phone: &Phone, on: bool) {
    phone.tell(Command::Sound(SoundChange::Switch(SoundSwitch::Music, on)));
}

#[test]
fn music_is_turned_on_and_off_in_the_midst_of_a_call() {
    let clean = Conditions::with_delay(DIRECT);
    let (channels, frames, _back, [_alice, bob]) = call(0x5704, false, &clean, async |pair| {
        pair.pass(secs(4)).await;
        switch(&pair.alice, true);
        pair.pass(secs(6)).await;
        switch(&pair.alice, false);
        pair.pass(secs(6)).await;
    });
    assert_eq!(channels, 2);
    let begin = begin(&frames);
    let second = |n: usize| &frames[begin + n * RATE..][..2 * RATE];
    let [before, during, after] = [1, 6, 13].map(|n| separation_db(second(n)));
    eprintln!("{before:.1}, {during:.1}, {after:.1} dB");
    assert!(before.abs() < 0.1 && after.abs() < 0.1);
    assert!(during > 35.0, "{during:.1} dB");
    // Nobody hears a gap: no 20 ms from the first sound to the last are softer than a voice is, or louder than music is,
    // whose two channels have twice the power of the mix.
    let all = &frames[begin + RATE / 2..begin + 15 * RATE];
    let power_of = |window: &[[f32; 2]]| -> f64 {
        let powers = window
            .iter()
            .flatten()
            .map(|sample| f64::from(sample * sample));
        powers.sum()
    };
    let powers: Vec<f64> = all.chunks_exact(960).map(power_of).collect();
    let voice = powers[..100].iter().sum::<f64>() / 100.0;
    let beside = |power: f64| 10.0 * (power / voice).log10();
    let softest = beside(powers.iter().copied().fold(f64::INFINITY, f64::min));
    let loudest = beside(powers.iter().copied().fold(0.0, f64::max));
    eprintln!("{softest:.1} to {loudest:.1} dB beside the voice");
    assert!(
        softest > -4.0 && loudest < 5.0,
        "{softest:.1} to {loudest:.1} dB"
    );
    let received = audio(&bob.report);
    assert!(received.concealed_ms.unwrap() <= 20, "{received:?}");
}

#[test]
fn two_processes_send_music_where_the_command_line_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_music(&path("said.wav"), 30);
    let of = |file: &str| path(file).to_string_lossy().into_owned();
    let listen = ["supernode", "--listen", "127.0.0.1:0", "--print-link"];
    let supernode = start(&path("node"), listen);
    let node = supernode.first_line();
    for (music, channels, least_db) in [(true, 2, 40.0), (false, 1, 0.0)] {
        let name = if music { "music" } else { "voice" };
        let heard = of(&format!("{name}.wav"));
        let answer = ["answer", "--via", &node, "--auto", "--once"];
        let silence = ["--audio-in", "silence", "--audio-out", &heard];
        let bob = start(&path(&format!("bob-{name}")), answer.iter().chain(&silence));
        let link = bob.first_line();
        let said = of("said.wav");
        let mut call = vec!["call", &link, "--audio-in", &said, "--audio-out", "null"];
        call.extend(["--for", "4"]);
        call.extend(music.then_some("--music"));
        start(&path(&format!("alice-{name}")), call)
            .finish()
            .expect_code(0);
        bob.finish().expect_code(0);
        let (heard_channels, frames) = recorded(Path::new(&heard));
        let middle = &frames[begin(&frames) + RATE / 2..][..2 * RATE];
        let separation = separation_db(middle);
        assert_eq!(heard_channels, channels, "{name}");
        assert!(separation >= least_db - 0.1, "{name}: {separation:.1} dB");
    }
}
