//! Calls out of a room in which the speaker is heard in the microphone: what the other side hears of itself, of the room
//! and of the person in it, through the whole path.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::path::Path;

use ahoy::{
    engine::{handle::Command, media::AudioIn},
    report::{AudioReport, Outcome},
};
use ahoy_media::audio::{
    BLOCK_SAMPLES, Block, SILENCE,
    room::{Room, impulse_response},
    sink::AudioSink,
    voice::VoiceConfig,
    wav::{WavSink, read_all},
};
use ahoy_tests::{
    pair::{audio, loud_blocks, plan, secs},
    people::SPEECH,
};

const SEED: u64 = 0x20_0a;

/// An ordinary room, the speaker as loud in the microphone as half of what it plays (-6 dB).
const REVERBERATION_SECONDS: f64 = 0.3;
const ECHO_DB: f64 = -6.0;

fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|&s| f64::from(s).powi(2)).sum()
}

fn blocks(samples: &[f32]) -> impl Iterator<Item = Block> {
    samples.chunks(BLOCK_SAMPLES).map(|chunk| {
        let mut block = SILENCE;
        block[..chunk.len()].copy_from_slice(chunk);
        block
    })
}

fn write(path: &Path, samples: &[f32]) {
    let mut sink = WavSink::create(path).unwrap();
    for block in blocks(samples) {
        sink.write_block(&block).unwrap();
    }
    sink.finish().unwrap();
}

/// The room's impulse response, converters and drivers first: 40 ms.
fn write_room(path: &Path) {
    let mut response = impulse_response(REVERBERATION_SECONDS, SEED);
    let speech = read_all(SPEECH).unwrap();
    let mut probe = Room::new(&response);
    let heard: f64 = blocks(&speech)
        .map(|block| energy(&probe.pass(&block)))
        .sum();
    let scale = (energy(&speech) / heard * 10f64.powf(ECHO_DB / 10.0)).sqrt() as f32;
    response.iter_mut().for_each(|tap| *tap *= scale);
    response.splice(..0, vec![0.0; 1920]);
    write(path, &response);
}

/// What Bob does in his room while Alice talks to him for 12 s.
#[derive(Clone, Copy, PartialEq)]
enum Bob {
    Listens,
    Speaks,
}

/// What Alice heard, from the first sound on, and what Bob's report says of his microphone's sound.
fn call(bob: Bob, in_room: bool, voice: VoiceConfig) -> (Vec<f32>, AudioReport) {
    let folder = tempfile::tempdir().unwrap();
    let room = folder.path().join("room.wav");
    let later = folder.path().join("later.wav");
    write_room(&room);
    let mut speech = read_all(SPEECH).unwrap();
    // Not in step with Alice, who says the same.
    speech.rotate_left(350_000);
    write(&later, &speech);
    let pair = plan(SEED).configure(move |name, config| {
        if name == "Bob" {
            config.audio.room = in_room.then(|| room.clone());
            config.audio.voice = voice;
            config.audio.input = match bob {
                Bob::Listens => AudioIn::Silence,
                Bob::Speaks => AudioIn::File(later.clone()),
            };
        }
    });
    pair.run(async |pair| {
        pair.talk().await;
        pair.pass(secs(11)).await;
        let [alice, bob] = pair.hang_up().await;
        assert_eq!(alice.report.outcome, Outcome::Completed);
        let heard = read_all(&pair.alice.recording).unwrap();
        (heard, audio(&bob.report).clone())
    })
}

/// By how many decibels the median 100 ms from 4 to 10 s is quieter than without processing, where there is something.
fn quieter_db(before: &[f32], after: &[f32]) -> f64 {
    let range = 4 * 48_000..10 * 48_000;
    let mut gains: Vec<f64> = before[range.clone()]
        .chunks(4800)
        .zip(after[range].chunks(4800))
        .filter(|(before, _)| energy(before) > 0.05)
        .map(|(before, after)| 10.0 * (energy(before) / energy(after).max(1e-9)).log10())
        .collect();
    gains.sort_by(f64::total_cmp);
    gains[gains.len() / 2]
}

#[test]
fn who_calls_somebody_in_a_room_does_not_hear_themselves() {
    let (echo, report) = call(Bob::Listens, true, VoiceConfig::OFF);
    assert_eq!(report.voice, None, "nothing was done");
    let (heard, report) = call(Bob::Listens, true, VoiceConfig::default());
    let on = quieter_db(&echo, &heard);
    let without = VoiceConfig {
        echo_cancellation: false,
        ..VoiceConfig::default()
    };
    let (heard, report_without) = call(Bob::Listens, true, without);
    let off = quieter_db(&echo, &heard);
    let (voice, voice_without) = (report.voice.unwrap(), report_without.voice.unwrap());
    println!("{on:.1} dB quieter, {off:.1} dB without the canceller; {voice:?}");
    assert!(on >= 25.0, "{on:.1} dB");
    assert_eq!(voice.echo, "present");
    assert!(voice.cancelled_db.unwrap() > 10.0, "{voice:?}");
    assert!(
        off < 6.0,
        "without the canceller the bar fails: {off:.1} dB"
    );
    assert_eq!(voice_without.echo, "off");
    assert_eq!(voice_without.cancelled_db, None);
}

#[test]
fn who_speaks_in_the_room_is_heard_as_loud_as_before() {
    let (wanted, _) = call(Bob::Speaks, false, VoiceConfig::OFF);
    let (heard, report) = call(Bob::Speaks, true, VoiceConfig::default());
    let voice = report.voice.unwrap();
    let change = -quieter_db(&wanted, &heard);
    println!("{change:.1} dB; {voice:?}");
    assert!((-3.0..3.0).contains(&change), "{change:.1} dB");
    assert_eq!(voice.gain_db, 0.0, "a usual voice is left alone");
}

#[test]
fn files_are_sent_as_they_are() {
    let (plain, report) = call(Bob::Speaks, false, VoiceConfig::OFF);
    assert_eq!(report.voice, None);
    let (same, report) = call(Bob::Speaks, false, VoiceConfig::default());
    assert_eq!(report.voice, None, "there is no microphone");
    assert!(plain == same, "every sample is the same");
}

#[test]
fn push_to_talk_is_heard_only_while_somebody_pushes() {
    for begins_muted in [true, false] {
        let pair = plan(SEED).limits(|limits| limits.begins_muted = begins_muted);
        pair.run(async |pair| {
            pair.talk().await;
            pair.pass(secs(4)).await;
            assert_eq!(loud_blocks(&pair.alice) > 0, !begins_muted);
            pair.bob.tell(Command::Mute(false));
            pair.pass(secs(4)).await;
            let pushed = loud_blocks(&pair.alice);
            assert!(pushed > 50, "{pushed} blocks");
            pair.bob.tell(Command::Mute(true));
            pair.pass(secs(1)).await;
            let released = loud_blocks(&pair.alice);
            pair.pass(secs(2)).await;
            assert_eq!(loud_blocks(&pair.alice), released);
            pair.hang_up().await;
        });
    }
}
