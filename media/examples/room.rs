//! Plays scenes in a simulated room through the capture loop and writes what comes out, for others to score:
//! `room FAR.wav NEAR.wav DIRECTORY [SCENE [parts]]`. Both files 48 kHz mono; with `parts` by less
//! than whole chains too.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool for a developer's hand"
)]
#![allow(dead_code, reason = "the scene is shared with the tests")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ahoy_media::audio::{
    voice::{Chain, VoiceConfig, VoiceProcessor},
    wav::read_all,
};

#[path = "../tests/room/scene.rs"]
mod scene;
#[path = "../tests/room/webrtc.rs"]
mod webrtc;

use scene::{Scene, enhancement_db, similarity_db};
use webrtc::WebrtcChain;

fn write(path: &Path, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in samples {
        writer
            .write_sample((sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16)
            .unwrap();
    }
    writer.finalize().unwrap();
}

fn looped(speech: &[f32], from: f64, seconds: f64) -> Vec<f32> {
    let skipped = (from * 48_000.0) as usize % speech.len();
    let count = (seconds * 48_000.0) as usize;
    let samples = speech.iter().copied().cycle();
    samples.skip(skipped).take(count).collect()
}

fn level(speech: &mut [f32], dbfs: f64) {
    let rms = (scene::energy(speech) / speech.len() as f64).sqrt();
    let gain = (10f64.powf(dbfs / 20.0) / rms) as f32;
    for sample in speech {
        *sample *= gain;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let read = |path: &String| read_all(path).unwrap();
    let (far, near) = (read(&arguments[0]), read(&arguments[1]));
    let directory = Path::new(&arguments[2]);
    let only = arguments.get(3).map_or("", String::as_str);
    let parts = arguments.get(4).is_some();
    std::fs::create_dir_all(directory).unwrap();
    // The far side alone for 10.8 s, then both.
    let mut far = looped(&far, 0.0, 22.0);
    level(&mut far, -26.0);
    // Not in step, should it be the same file.
    let mut voice = looped(&near, 7.3, 22.0);
    level(&mut voice, -26.0);
    let mut near = voice.clone();
    near[..518_400].fill(0.0);
    let base = Scene::new(far.clone(), near.clone());
    let scenes = [
        ("room", base.clone()),
        (
            "large",
            Scene {
                reverberation_seconds: 0.8,
                ..base.clone()
            },
        ),
        (
            "faster",
            Scene {
                drift_ppm: 200.0,
                ..base.clone()
            },
        ),
        (
            "slower",
            Scene {
                drift_ppm: -200.0,
                ..base.clone()
            },
        ),
        (
            "bent",
            Scene {
                bent: true,
                ..base.clone()
            },
        ),
        (
            "loud",
            Scene {
                echo_db: Some(3.0),
                ..base.clone()
            },
        ),
        (
            "step",
            Scene {
                delay_step: Some((6.0, Duration::from_millis(37))),
                ..base.clone()
            },
        ),
        (
            "headset",
            Scene {
                echo_db: None,
                near: voice.clone(),
                ..base.clone()
            },
        ),
        (
            "booth",
            Scene {
                echo_db: None,
                near: voice.clone(),
                noise_dbfs: -90.0,
                ..base.clone()
            },
        ),
        (
            "quiet-far",
            Scene {
                far: vec![0.0; far.len()],
                near: voice,
                ..base
            },
        ),
    ];
    let without_gain = VoiceConfig {
        gain_control: false,
        ..VoiceConfig::default()
    };
    let only_echo = VoiceConfig {
        noise_suppression: false,
        ..without_gain
    };
    let filter_only = VoiceConfig {
        echo: ahoy_media::audio::voice::EchoConfig {
            residual_suppression: false,
            ..only_echo.echo
        },
        ..only_echo
    };
    for (name, scene) in scenes {
        if !name.contains(only) {
            continue;
        }
        let (microphone, _) = scene.run(None);
        let (wanted, _) = Scene {
            echo_db: None,
            noise_dbfs: -120.0,
            ..scene.clone()
        }
        .run(None);
        write(&directory.join(format!("{name}-mic.wav")), &microphone);
        write(&directory.join(format!("{name}-wanted.wav")), &wanted);
        type Make = fn(VoiceConfig) -> Box<dyn VoiceProcessor>;
        let ours: Make = |config| Box::new(Chain::new(config));
        let theirs: Make = |config| Box::new(WebrtcChain::new(config));
        for (chain, make, config) in [
            ("filter", ours, filter_only),
            ("echo", ours, only_echo),
            ("ours", ours, without_gain),
            ("gain", ours, VoiceConfig::default()),
            ("webrtc-echo", theirs, only_echo),
            ("webrtc", theirs, without_gain),
            ("webrtc-gain", theirs, VoiceConfig::default()),
        ] {
            if !parts && ["filter", "echo", "webrtc-echo"].contains(&chain) {
                continue;
            }
            let start = Instant::now();
            let (output, stats) = scene.run(Some(make(config)));
            let took = start.elapsed();
            write(&directory.join(format!("{name}-{chain}.wav")), &output);
            let erle: Vec<String> = [
                (0.5, 1.0),
                (1.0, 2.0),
                (2.0, 4.0),
                (4.0, 10.0),
                (6.0, 7.0),
                (7.0, 10.0),
            ]
            .iter()
            .map(|&(from, to)| format!("{:5.1}", enhancement_db(&microphone, &output, from, to)))
            .collect();
            let similarity = (0..3)
                .map(|n| similarity_db(&wanted, &output, [0, 96, 576][n], 11.0, 21.5))
                .fold(f64::NEG_INFINITY, f64::max);
            println!(
                "{name:9} {chain:12} ERLE {} dB, similarity {similarity:5.1} dB, {:?} {:4.1} dB {} changes, {:.0} ppm, {:.2} s",
                erle.join(" "),
                stats.voice.echo,
                stats.voice.cancelled_db,
                stats.voice.room_changes,
                stats.voice.drift_ppm,
                took.as_secs_f64(),
            );
        }
    }
}
