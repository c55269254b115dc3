//! The voice on its way from a microphone in a room to the codec, through the capture worker's loop: what is left of
//! the echo, of noise and hum, and what it costs near speech. Real speech, rooms by the image method, virtual time; all
//! of it comes from the seed in the scene.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::{path::Path, time::Duration};

use ahoy_media::audio::voice::{Chain, EchoConfig, EchoState, VoiceConfig, VoiceProcessor};

#[path = "room/scene.rs"]
mod scene;
#[path = "room/webrtc.rs"]
mod webrtc;

use scene::{Random, Scene, energy, enhancement_db, similarity_db};
use webrtc::WebrtcChain;

/// Samples that the echo filter and the suppressor delay by.
const CHAIN_DELAY: usize = 96 + 480;

/// A woman's voice, as it ships with ahoy, from `offset` seconds on and round again, at -26 dBFS.
fn speech(offset: f64, seconds: f64) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/ahoy.wav");
    let mut reader = hound::WavReader::open(path).unwrap();
    let all: Vec<f32> = reader
        .samples::<i16>()
        .map(|s| f32::from(s.unwrap()) / 32_768.0)
        .collect();
    let skipped = (offset * 48_000.0) as usize % all.len();
    let count = (seconds * 48_000.0) as usize;
    let mut part: Vec<f32> = all
        .iter()
        .cycle()
        .skip(skipped)
        .take(count)
        .copied()
        .collect();
    let gain = (10f64.powf(-2.6) * part.len() as f64 / energy(&part)).sqrt() as f32;
    part.iter_mut().for_each(|sample| *sample *= gain);
    part
}

/// Everything but the gain, which lifts what little is left of an echo as well.
fn voice() -> VoiceConfig {
    VoiceConfig {
        gain_control: false,
        ..VoiceConfig::default()
    }
}

fn ours(config: VoiceConfig) -> Option<Box<dyn VoiceProcessor>> {
    Some(Box::new(Chain::new(config)))
}

fn with_echo(change: impl FnOnce(&mut EchoConfig)) -> VoiceConfig {
    let mut config = voice();
    change(&mut config.echo);
    config
}

/// The far side alone for 10.5 s.
fn far_alone() -> Scene {
    Scene::new(speech(0.0, 10.5), Vec::new())
}

#[test]
fn an_ordinary_rooms_echo_is_taken_out() {
    let scene = far_alone();
    let (microphone, _) = scene.run(None);
    let erle = |config| {
        let (output, stats) = scene.run(ours(config));
        (enhancement_db(&microphone, &output, 4.0, 10.0), stats)
    };
    let (on, stats) = erle(voice());
    let (filter_alone, _) = erle(with_echo(|echo| echo.residual_suppression = false));
    let (off, _) = erle(VoiceConfig {
        echo_cancellation: false,
        ..voice()
    });
    println!("{on:.1} dB, filter alone {filter_alone:.1} dB, off {off:.1} dB: {stats:?}");
    assert!(on >= 25.0, "{on:.1} dB");
    assert_eq!(stats.voice.echo, EchoState::Present);
    assert_eq!(stats.reference.missing, 0, "{stats:?}");
    assert!(filter_alone < 25.0, "the suppressor adds to it");
    assert!(
        off < 6.0,
        "without the canceller the bar fails: {off:.1} dB"
    );
}

#[test]
fn a_hall_takes_no_more_than_a_little_of_it() {
    let scene = Scene {
        reverberation_seconds: 0.8,
        ..far_alone()
    };
    let (microphone, _) = scene.run(None);
    let (output, _) = scene.run(ours(voice()));
    let erle = enhancement_db(&microphone, &output, 4.0, 10.0);
    let (output, _) = scene.run(ours(with_echo(|echo| echo.residual_suppression = false)));
    let filter_alone = enhancement_db(&microphone, &output, 4.0, 10.0);
    println!("{erle:.1} dB, filter alone {filter_alone:.1} dB");
    assert!(erle >= 20.0, "{erle:.1} dB");
    assert!(filter_alone < 20.0, "the suppressor adds to it");
}

#[test]
fn clocks_that_drift_apart_do_not_bring_the_echo_back() {
    for drift_ppm in [200.0, -200.0] {
        let scene = Scene {
            drift_ppm,
            ..far_alone()
        };
        let (microphone, _) = scene.run(None);
        let (output, stats) = scene.run(ours(voice()));
        let on = enhancement_db(&microphone, &output, 4.0, 10.0);
        let (output, _) = scene.run(ours(with_echo(|echo| echo.drift_correction = false)));
        let off = enhancement_db(&microphone, &output, 4.0, 10.0);
        println!(
            "{drift_ppm} ppm: {on:.1} dB, off {off:.1} dB, {:?}",
            stats.voice
        );
        // 29 dB where the canceller is not told what is done about the clocks on the way. The correction is worth 20 dB.
        assert!(on >= 32.0, "{drift_ppm} ppm: {on:.1} dB");
        assert!(
            off < 25.0,
            "without the correction the bar fails: {off:.1} dB"
        );
    }
}

#[test]
fn an_echo_that_jumps_is_found_again() {
    let scene = Scene {
        delay_step: Some((5.0, Duration::from_millis(37))),
        ..far_alone()
    };
    let (microphone, _) = scene.run(None);
    let (output, stats) = scene.run(ours(voice()));
    let on = enhancement_db(&microphone, &output, 6.5, 10.0);
    let (output, _) = scene.run(ours(with_echo(|echo| echo.room_change_detection = false)));
    let off = enhancement_db(&microphone, &output, 6.5, 10.0);
    println!("{on:.1} dB, off {off:.1} dB, {:?}", stats.voice);
    assert!(stats.voice.room_changes >= 1);
    assert!(on >= 25.0, "{on:.1} dB");
    assert!(off < on - 3.0, "it takes longer without: {off:.1} dB");
}

/// Nothing but the high-pass, in use as it is where there is an echo.
const HIGH_PASS: VoiceConfig = VoiceConfig {
    high_pass: true,
    leave_clean_alone: false,
    ..VoiceConfig::OFF
};

/// What somebody says into a microphone, with the high-pass of `config` but nothing else done.
fn wanted(scene: &Scene, config: VoiceConfig) -> Vec<f32> {
    let alone = Scene {
        echo_db: None,
        noise_dbfs: -120.0,
        ..scene.clone()
    };
    alone.run(ours(config)).0
}

#[test]
fn with_a_headset_near_speech_stays_as_it_is() {
    let scene = Scene {
        echo_db: None,
        near: speech(7.3, 12.0),
        noise_dbfs: -80.0,
        ..Scene::new(speech(0.0, 12.0), Vec::new())
    };
    let wanted = wanted(
        &scene,
        VoiceConfig {
            high_pass: true,
            ..VoiceConfig::OFF
        },
    );
    let similarity = |config| {
        let (output, stats) = scene.run(ours(config));
        let similarity = similarity_db(&wanted, &output, CHAIN_DELAY, 4.0, 12.0);
        (similarity, stats.voice.echo)
    };
    let (on, state) = similarity(voice());
    let (off, _) = similarity(with_echo(|echo| echo.absence_detection = false));
    println!("{on:.1} dB, without looking for an echo {off:.1} dB");
    assert_eq!(state, EchoState::Absent);
    assert!(on >= 30.0, "{on:.1} dB");
    assert!(
        off < 25.0,
        "cancelling what is not there costs speech: {off:.1} dB"
    );
}

#[test]
fn a_clean_voice_is_sent_as_it_is() {
    let scene = Scene {
        echo_db: None,
        near: speech(7.3, 12.0),
        noise_dbfs: -80.0,
        ..Scene::new(speech(0.0, 12.0), Vec::new())
    };
    let (microphone, _) = scene.run(None);
    let similarity = |leave_clean_alone| {
        let (output, stats) = scene.run(ours(VoiceConfig {
            leave_clean_alone,
            ..voice()
        }));
        assert_eq!(stats.voice.high_pass, !leave_clean_alone);
        similarity_db(&microphone, &output, CHAIN_DELAY, 4.0, 12.0)
    };
    let (on, off) = (similarity(true), similarity(false));
    println!("{on:.1} dB, with everything that can be done {off:.1} dB");
    assert!(on >= 40.0, "{on:.1} dB");
    assert!(off < 15.0, "what is done for nothing costs: {off:.1} dB");
}

#[test]
fn rumble_is_taken_out_while_there_is_some() {
    let clean = speech(7.3, 20.0);
    let hum = 4 * 48_000..12 * 48_000;
    let mut near = clean.clone();
    for (n, sample) in near[hum.clone()].iter_mut().enumerate() {
        *sample += 0.05 * (n as f32 / 48_000.0 * 40.0 * std::f32::consts::TAU).sin();
    }
    let mut last = f64::NAN;
    for high_pass in [false, true] {
        let mut chain = Chain::new(VoiceConfig {
            high_pass,
            ..VoiceConfig::OFF
        });
        let mut rumbles = Vec::new();
        let mut output = Vec::new();
        for (n, chunk) in near.as_chunks::<480>().0.iter().enumerate() {
            let mut block = *chunk;
            chain.capture(&mut block);
            output.extend_from_slice(&block);
            if n % 100 == 99 {
                rumbles.push(chain.stats().high_pass);
            }
        }
        // With the hum, and after it.
        let left = energy(&filtered(&output[9 * 48_000..hum.end]));
        println!("{left:.1} left, {rumbles:?}");
        assert_eq!(rumbles[8..12], [high_pass; 4]);
        assert!(!rumbles[3] && !rumbles[16]);
        assert!(output[16 * 48_000..] == clean[16 * 48_000..clean.len()]);
        if high_pass {
            assert!(left < 0.15 * last, "{left:.1} of {last:.1}");
        }
        last = left;
    }
}

/// What lies below 60 Hz, about: each sample the mean of 10 ms, twice.
fn filtered(samples: &[f32]) -> Vec<f32> {
    let mean = |samples: &[f32]| -> Vec<f32> {
        samples
            .windows(480)
            .map(|window| window.iter().sum::<f32>() / 480.0)
            .collect()
    };
    mean(&mean(samples))
}

#[test]
fn a_thump_on_the_desk_is_softened_at_once() {
    let mut near = speech(7.3, 12.0);
    let thump = 8 * 48_000..8 * 48_000 + 14_400;
    for (n, sample) in near[thump.clone()].iter_mut().enumerate() {
        let t = n as f32 / 48_000.0;
        *sample += 0.4 * (t * 25.0 * std::f32::consts::TAU).sin() * (-t / 0.1).exp();
    }
    let lows = |high_pass| {
        let mut chain = Chain::new(VoiceConfig {
            high_pass,
            ..VoiceConfig::OFF
        });
        let mut output = Vec::new();
        for chunk in near.as_chunks::<480>().0 {
            let mut block = *chunk;
            chain.capture(&mut block);
            output.extend_from_slice(&block);
        }
        assert!(!chain.stats().high_pass, "it is over");
        energy(&filtered(&output[thump.clone()]))
    };
    let softer = 10.0 * (lows(false) / lows(true)).log10();
    println!("{softer:.1} dB softer");
    assert!(softer > 6.0, "{softer:.1} dB");
}

#[test]
fn noise_is_turned_down_the_less_the_fainter_it_is_beside_the_voice() {
    // Above nothing but the voice, the same noise is loud or faint.
    for (voice_db, least, most) in [(0.0, -1.0, 6.0), (-30.0, 8.0, 16.0)] {
        let gain = 10f32.powf(voice_db / 20.0);
        let mut near: Vec<f32> = speech(7.3, 14.0).iter().map(|s| gain * s).collect();
        near[10 * 48_000..].fill(0.0);
        let scene = Scene {
            echo_db: None,
            noise_dbfs: -64.0,
            near,
            ..Scene::new(Vec::new(), Vec::new())
        };
        let (microphone, _) = scene.run(None);
        let quieter = |leave_clean_alone| {
            let (output, _) = scene.run(ours(VoiceConfig {
                leave_clean_alone,
                ..voice()
            }));
            let energy = |samples: &[f32]| energy(&samples[12 * 48_000..14 * 48_000 - 480]);
            10.0 * (energy(&microphone) / energy(&output)).log10()
        };
        let (on, all) = (quieter(true), quieter(false));
        println!("voice {voice_db} dB: {on:.1} dB quieter, {all:.1} dB at most");
        assert!((least..most).contains(&on), "{on:.1} dB");
        assert!(all > 8.0, "{all:.1} dB");
    }
}

#[test]
fn an_echo_that_begins_late_is_taken_out_soon() {
    let scene = Scene {
        echo_from: 5.0,
        ..far_alone()
    };
    let (microphone, _) = scene.run(None);
    let (output, stats) = scene.run(ours(voice()));
    let erle = enhancement_db(&microphone, &output, 6.0, 10.0);
    println!("{erle:.1} dB, {:?}", stats.voice);
    assert_eq!(stats.voice.echo, EchoState::Present);
    assert!(erle >= 25.0, "{erle:.1} dB");
}

#[test]
fn while_both_talk_the_near_voice_is_kept_and_the_far_one_is_not() {
    let mut near = speech(7.3, 16.0);
    near[..6 * 48_000].fill(0.0);
    let scene = Scene::new(speech(0.0, 16.0), near);
    let wanted = wanted(&scene, HIGH_PASS);
    let (microphone, _) = scene.run(ours(HIGH_PASS));
    let (output, _) = scene.run(ours(voice()));
    let (webrtc, _) = scene.run(Some(Box::new(WebrtcChain::new(voice()))));
    let before = similarity_db(&wanted, &microphone, 0, 6.5, 16.0);
    let after = similarity_db(&wanted, &output, CHAIN_DELAY, 6.5, 16.0);
    println!("{before:.1} dB unprocessed, {after:.1} dB processed");
    assert!(after >= before + 6.0, "{before:.1} dB became {after:.1} dB");
    // The other chain has no delay that could be told: what counts there is how loud it leaves the near voice.
    let kept =
        |output: &[f32]| 10.0 * (energy(&output[312_000..]) / energy(&wanted[312_000..])).log10();
    println!(
        "near voice: ours {:.1} dB, WebRTC's {:.1} dB",
        kept(&output),
        kept(&webrtc)
    );
    assert!(kept(&output) > kept(&webrtc));
}

#[test]
fn while_both_talk_clocks_may_drift_apart() {
    for drift_ppm in [200.0, -200.0] {
        let mut near = speech(7.3, 16.0);
        near[..6 * 48_000].fill(0.0);
        let scene = Scene {
            drift_ppm,
            ..Scene::new(speech(0.0, 16.0), near)
        };
        let wanted = wanted(&scene, HIGH_PASS);
        let (microphone, _) = scene.run(ours(HIGH_PASS));
        let before = similarity_db(&wanted, &microphone, 0, 6.5, 16.0);
        let after = |config| {
            let (output, _) = scene.run(ours(config));
            similarity_db(&wanted, &output, CHAIN_DELAY, 6.5, 16.0)
        };
        let on = after(voice());
        let off = after(with_echo(|echo| echo.drift_correction = false));
        println!(
            "{drift_ppm} ppm: {before:.1} dB unprocessed, {on:.1} dB, uncorrected {off:.1} dB"
        );
        assert!(on >= before + 4.0, "{before:.1} dB became {on:.1} dB");
        assert!(off < on, "without the correction: {off:.1} dB");
    }
}

#[test]
fn a_voice_that_is_loud_enough_is_not_touched_by_the_gain() {
    for scale in [0.7, 1.0, 2.0] {
        let near: Vec<f32> = speech(7.3, 12.0).iter().map(|s| scale * s).collect();
        let scene = Scene {
            echo_db: None,
            near,
            ..Scene::new(speech(0.0, 12.0), Vec::new())
        };
        let (with, stats) = scene.run(ours(VoiceConfig::default()));
        let (without, _) = scene.run(ours(voice()));
        assert!(with == without, "{scale}: every sample is the same");
        assert_eq!(stats.voice.gain_db, 0.0, "{scale}");
    }
}

#[test]
fn noise_that_nobody_hears_is_left_where_it_is() {
    for (noise_dbfs, louder_than_nothing) in [(-90.0, false), (-62.0, true)] {
        let scene = Scene {
            echo_db: None,
            noise_dbfs,
            ..Scene::new(Vec::new(), speech(7.3, 8.0))
        };
        let run = |noise_suppression| {
            scene.run(ours(VoiceConfig {
                noise_suppression,
                ..VoiceConfig::OFF
            }))
        };
        let ((off, _), (on, _)) = (run(false), run(true));
        let similarity = similarity_db(&off, &on, 480, 2.0, 8.0);
        println!("{noise_dbfs} dBFS: {similarity:.1} dB");
        assert_eq!(similarity < 60.0, louder_than_nothing, "{similarity:.1} dB");
    }
}

#[test]
fn a_far_side_that_pauses_leaves_the_echo_known() {
    let mut far = speech(0.0, 16.0);
    far[5 * 48_000..10 * 48_000].fill(0.0);
    let scene = Scene::new(far, Vec::new());
    let (microphone, _) = scene.run(None);
    let (output, stats) = scene.run(ours(voice()));
    let erle = enhancement_db(&microphone, &output, 10.3, 12.0);
    println!("{erle:.1} dB, {:?}", stats.voice);
    assert_eq!(stats.voice.room_changes, 0);
    assert!(erle >= 25.0, "{erle:.1} dB");
}

#[test]
fn keys_are_softened_and_words_are_not() {
    let mut near = speech(7.3, 12.0);
    near[..6 * 48_000].fill(0.0);
    let mut random = Random::new(11);
    for key in 0..18 {
        let at = 30_000 + key * 14_000;
        for (n, sample) in near[at..at + 480].iter_mut().enumerate() {
            let decay = (-(n as f64) / 96.0).exp();
            *sample += (0.15 * decay * random.next()) as f32;
        }
    }
    let scene = Scene {
        echo_db: None,
        near,
        ..far_alone()
    };
    let run = |click_suppression| {
        scene.run(ours(VoiceConfig {
            click_suppression,
            ..VoiceConfig::OFF
        }))
    };
    let (off, _) = run(false);
    let (on, stats) = run(true);
    let keys = 10.0 * (energy(&off[24_000..280_000]) / energy(&on[24_000..280_000])).log10();
    let words = similarity_db(&off, &on, 120, 6.0, 12.0);
    println!(
        "keys {keys:.1} dB softer, words {words:.1} dB, {} keys",
        stats.voice.clicks
    );
    assert!(keys >= 6.0, "{keys:.1} dB");
    assert!(words >= 15.0, "{words:.1} dB");
    assert!(stats.voice.clicks >= 15, "{} keys", stats.voice.clicks);
}

#[test]
fn behind_the_gate_there_is_silence_until_somebody_speaks() {
    let mut near = speech(7.3, 12.0);
    near[..4 * 48_000].fill(0.0);
    let scene = Scene {
        echo_db: None,
        near,
        ..far_alone()
    };
    let run = |voice_gate| {
        scene.run(ours(VoiceConfig {
            voice_gate,
            ..VoiceConfig::OFF
        }))
    };
    let (off, _) = run(false);
    let (on, stats) = run(true);
    let pause = 48_000..190_000;
    assert_eq!(energy(&on[pause.clone()]), 0.0);
    assert!(energy(&off[pause]) > 0.0, "without it the room is heard");
    let words = similarity_db(&off, &on, 0, 4.0, 12.0);
    println!("{words:.1} dB, {} blocks closed", stats.voice.gated_blocks);
    assert!(words >= 25.0, "{words:.1} dB");
    assert!((300..700).contains(&stats.voice.gated_blocks));
}

#[test]
fn steady_noise_is_turned_down_and_the_voice_is_not() {
    let mut near = speech(7.3, 12.0);
    near[..4 * 48_000].fill(0.0);
    let scene = Scene {
        noise_dbfs: -45.0,
        echo_db: None,
        near,
        ..far_alone()
    };
    let wanted = wanted(
        &scene,
        VoiceConfig {
            high_pass: true,
            ..VoiceConfig::OFF
        },
    );
    let (microphone, _) = scene.run(None);
    for (noise_suppression, name) in [(true, "on"), (false, "off")] {
        let (output, stats) = scene.run(ours(VoiceConfig {
            noise_suppression,
            ..voice()
        }));
        let noise_dbfs = stats.voice.noise_dbfs;
        assert_eq!(noise_dbfs.is_some(), noise_suppression);
        assert!(
            noise_dbfs.is_none_or(|level| (-48.0..-42.0).contains(&level)),
            "{noise_dbfs:?}"
        );
        let quieter = enhancement_db(&microphone, &output, 2.0, 3.5);
        let similarity = similarity_db(&wanted, &output, CHAIN_DELAY, 4.5, 11.5);
        println!("{name}: noise {quieter:.1} dB quieter, voice {similarity:.1} dB");
        assert_eq!(quieter >= 8.0, noise_suppression, "{name}: {quieter:.1} dB");
        assert!(similarity > 15.0, "{name}: {similarity:.1} dB");
    }
}

#[test]
fn a_quiet_voice_is_brought_up_and_hum_is_taken_out() {
    let quiet: Vec<f32> = speech(0.0, 14.0).iter().map(|s| 0.05 * s).collect();
    let mut chains = [true, false].map(|on| {
        Chain::new(VoiceConfig {
            gain_control: on,
            high_pass: on,
            ..VoiceConfig::OFF
        })
    });
    let mut levels = [0.0f64; 2];
    let mut hum = [0.0f64; 2];
    for (n, chunk) in quiet.as_chunks::<480>().0.iter().enumerate() {
        for (k, chain) in chains.iter_mut().enumerate() {
            let mut block = *chunk;
            chain.capture(&mut block);
            if n > 1000 {
                levels[k] += energy(&block);
            }
        }
    }
    for on in [true, false] {
        let mut chain = Chain::new(VoiceConfig {
            high_pass: on,
            ..VoiceConfig::OFF
        });
        for n in 0..200 {
            let mut block = std::array::from_fn(|k| {
                let t = (n * 480 + k) as f32 / 48_000.0;
                0.1 * (t * 30.0 * std::f32::consts::TAU).sin()
            });
            chain.capture(&mut block);
            hum[usize::from(!on)] += energy(&block);
        }
    }
    let lifted = 10.0 * (levels[0] / levels[1]).log10();
    let cut = 10.0 * (hum[1] / hum[0]).log10();
    println!("the voice {lifted:.1} dB up, the hum {cut:.1} dB down");
    assert!(lifted > 8.0, "{lifted:.1} dB");
    assert!(cut > 12.0, "{cut:.1} dB");
}

#[test]
fn for_music_nothing_is_changed() {
    let mut chain = Chain::new(VoiceConfig::OFF);
    let mut random = Random::new(5);
    for _ in 0..100 {
        let far = std::array::from_fn(|_| random.next() as f32);
        let near = std::array::from_fn(|_| random.next() as f32);
        chain.render(&far, 0.0);
        let mut block = near;
        chain.capture(&mut block);
        assert_eq!(block, near);
    }
}

#[test]
fn a_drivers_mistake_does_not_stay() {
    let mut chain = Chain::new(voice());
    let mut block = [f32::NAN; 480];
    chain.render(&[f32::INFINITY; 480], 0.0);
    chain.capture(&mut block);
    let mut heard = 0.0;
    for chunk in speech(0.0, 2.0).as_chunks::<480>().0 {
        block = *chunk;
        chain.capture(&mut block);
        heard += energy(&block);
    }
    assert!(heard.is_finite() && heard > 1.0, "{heard}");
}

/// What WebRTC's chain makes of the same rooms: nothing here depends on it, the figures are for comparison.
#[test]
fn webrtcs_chain_runs_in_the_same_rooms() {
    for reverberation_seconds in [0.3, 0.8] {
        let scene = Scene {
            reverberation_seconds,
            ..far_alone()
        };
        let (microphone, _) = scene.run(None);
        let (output, _) = scene.run(Some(Box::new(WebrtcChain::new(voice()))));
        let erle = enhancement_db(&microphone, &output, 4.0, 10.0);
        println!("{reverberation_seconds} s: {erle:.1} dB");
        assert!(erle > 6.0, "{erle:.1} dB");
    }
}
