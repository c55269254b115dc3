use std::{f32::consts::TAU, fs};

use tempfile::TempDir;

use super::{super::source::collect, *};

/// A file of `frames` frames of a 400 Hz sine, the same on every channel, peaking at 0.5.
fn write_sine(path: &Path, rate: u32, channels: u16, bits: u16, float: bool, frames: u32) {
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: bits,
        sample_format: if float {
            hound::SampleFormat::Float
        } else {
            hound::SampleFormat::Int
        },
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..frames {
        let x = 0.5 * (TAU * 400.0 * n as f32 / rate as f32).sin();
        for _ in 0..channels {
            if float {
                writer.write_sample(x).unwrap();
            } else {
                let full = (1i64 << (bits - 1)) as f32;
                writer.write_sample((x * full) as i32).unwrap();
            }
        }
    }
    writer.finalize().unwrap();
}

#[test]
fn every_rate_width_and_channel_count_plays_as_the_same_sound() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    let reference: Vec<f32> = (0..24_000)
        .map(|n| 0.5 * (TAU * 400.0 * n as f32 / 48_000.0).sin())
        .collect();
    for rate in [8_000, 16_000, 44_100, 48_000, 96_000] {
        for channels in [1, 2, 6] {
            for (bits, float) in [
                (8, false),
                (16, false),
                (24, false),
                (32, false),
                (32, true),
            ] {
                write_sine(&path, rate, channels, bits, float, rate / 2);
                let samples = read_all(&path).unwrap();
                assert_eq!(samples.len(), 24_000, "{rate} Hz");
                // At 44.1 kHz the filter's delay is not a whole number of our samples.
                let tolerance = if bits == 8 || rate == 44_100 {
                    0.02
                } else {
                    2e-3
                };
                // The filter rings where the sound begins and ends abruptly.
                for n in 1500..22_500 {
                    assert!(
                        (samples[n] - reference[n]).abs() < tolerance,
                        "{rate} Hz, {channels} channels, {bits} bits: sample {n} is {} instead of {}",
                        samples[n],
                        reference[n]
                    );
                }
            }
        }
    }
}

#[test]
fn a_file_that_stops_ends_once_and_for_all() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    for rate in [48_000, 44_100] {
        write_sine(&path, rate, 1, 16, false, rate / 100 * 3 - 7);
        let mut source = WavSource::open(&path, AtEnd::Stop).unwrap();
        let mut block = SILENCE;
        for _ in 0..3 {
            assert_eq!(source.next_block(&mut block), SourceState::Playing);
        }
        for _ in 0..3 {
            block = [1.0; BLOCK_SAMPLES];
            assert_eq!(source.next_block(&mut block), SourceState::Ended, "{rate}");
            assert_eq!(block, SILENCE);
        }
    }
}

#[test]
fn a_looping_file_goes_on_without_a_gap() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    // 0.1 s hold forty whole periods, so that the seam cannot be told from the rest.
    for rate in [48_000, 16_000] {
        write_sine(&path, rate, 1, 16, false, rate / 10);
        let mut source = WavSource::open(&path, AtEnd::Loop).unwrap();
        let samples = collect(&mut source, 100);
        assert_eq!(samples.len(), 48_000);
        for (n, sample) in samples.iter().enumerate().skip(1500) {
            let expected = 0.5 * (TAU * 400.0 * (n % 4800) as f32 / 48_000.0).sin();
            assert!(
                (sample - expected).abs() < 5e-3,
                "{rate} Hz, sample {n}: {sample} instead of {expected}"
            );
        }
    }
}

#[test]
fn what_cannot_be_played_says_why_and_what_to_do() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    let message = |path: &Path| WavSource::open(path, AtEnd::Stop).unwrap_err().to_string();

    assert!(message(&path).starts_with("cannot open "));
    for junk in [
        &b""[..],
        b"ID3",
        b"RIFF\x10\0\0\0AVI xxxxxxxxxxxxx",
        &[0xff; 5000],
    ] {
        fs::write(&path, junk).unwrap();
        let message = message(&path);
        assert!(
            message.contains("is not a WAV file") && message.contains("ffmpeg"),
            "{message}"
        );
    }
    write_sine(&path, 48_000, 1, 16, false, 0);
    assert!(message(&path).contains("holds no sound"));
    write_sine(&path, 4_000, 1, 16, false, 10);
    assert!(message(&path).contains("4000 samples per second"));
    write_sine(&path, 48_000, 40, 16, false, 10);
    assert!(message(&path).contains("40 channels"));
    // Format 2: ADPCM.
    write_sine(&path, 48_000, 1, 16, false, 10);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] = 2;
    fs::write(&path, &bytes).unwrap();
    assert!(message(&path).contains("compressed"), "{}", message(&path));
}

#[test]
fn every_truncation_of_a_file_plays_or_is_refused_and_never_panics() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    write_sine(&path, 44_100, 2, 16, false, 1000);
    let whole = fs::read(&path).unwrap();
    for len in (0..100).chain((100..whole.len()).step_by(97)) {
        fs::write(&path, &whole[..len]).unwrap();
        if let Ok(mut source) = WavSource::open(&path, AtEnd::Loop) {
            let mut block = SILENCE;
            for _ in 0..5 {
                if source.next_block(&mut block) == SourceState::Ended {
                    break;
                }
            }
        }
    }
}

#[test]
fn infinities_in_a_float_file_do_not_reach_the_filter() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 44_100,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for sample in [f32::NAN, f32::INFINITY, 0.25].repeat(1000) {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    assert!(read_all(&path).unwrap().iter().all(|s| s.is_finite()));
}

#[test]
fn a_recording_reads_back_as_what_was_written() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.wav");
    let mut sink = WavSink::create(&path).unwrap();
    sink.write_block(&[0.5; BLOCK_SAMPLES]).unwrap();
    sink.write_block(&[-2.0; BLOCK_SAMPLES]).unwrap();
    sink.write_block(&[f32::NAN; BLOCK_SAMPLES]).unwrap();
    drop(sink);
    let reader = hound::WavReader::open(&path).unwrap();
    assert_eq!(
        (
            reader.spec().channels,
            reader.spec().sample_rate,
            reader.spec().bits_per_sample
        ),
        (1, 48_000, 16)
    );
    let samples = read_all(&path).unwrap();
    assert_eq!(samples.len(), 3 * BLOCK_SAMPLES);
    assert!((samples[0] - 0.5).abs() < 1e-4);
    assert!((samples[480] + 1.0).abs() < 1e-4, "clipped");
    assert_eq!(samples[960], 0.0);
}

#[test]
fn a_recording_whose_process_dies_keeps_all_but_the_last_second() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.wav");
    let mut sink = WavSink::create(&path).unwrap();
    assert_eq!(hound::WavReader::open(&path).unwrap().duration(), 0);
    for _ in 0..250 {
        sink.write_block(&[0.5; BLOCK_SAMPLES]).unwrap();
    }
    // What is on disk now is what a killed process leaves.
    let left = dir.path().join("left.wav");
    fs::copy(&path, &left).unwrap();
    let samples = read_all(&left).unwrap();
    assert_eq!(samples.len(), 200 * BLOCK_SAMPLES);
    assert!(samples.iter().all(|s| (s - 0.5).abs() < 1e-4));
    sink.finish().unwrap();
    assert_eq!(read_all(&path).unwrap().len(), 250 * BLOCK_SAMPLES);
}

#[test]
fn a_recording_into_a_missing_folder_says_so() {
    let error = WavSink::create("/nonexistent/folder/out.wav").unwrap_err();
    assert!(error.to_string().contains("choose a folder that exists"));
}

/// Writes 16-bit samples of two channels.
fn write_stereo(path: &Path, rate: u32, frames: impl Iterator<Item = [f32; 2]>) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in frames.flatten() {
        writer.write_sample((sample * 32_768.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

#[test]
fn two_channels_play_as_two_at_every_rate_and_stay_together() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    for rate in [16_000u32, 44_100, 48_000] {
        let tone = |n: u32, hz: f32| 0.5 * (TAU * hz * n as f32 / rate as f32).sin();
        write_stereo(
            &path,
            rate,
            (0..rate).map(|n| [tone(n, 400.0), tone(n, 900.0)]),
        );
        let mut source = WavSource::open(&path, AtEnd::Stop).unwrap();
        let mut block = WideBlock::SILENCE;
        let mut frames = Vec::new();
        while source.next_wide(&mut block) == SourceState::Playing {
            assert!(block.is_stereo());
            frames.extend(block.frames());
        }
        assert!(!block.is_stereo(), "what follows is silence");
        assert_eq!(frames.len(), 48_000, "{rate} Hz");
        for (n, [left, right]) in frames.iter().enumerate().take(46_500).skip(1500) {
            let tone = |hz: f32| 0.5 * (TAU * hz * n as f32 / 48_000.0).sin();
            let off = (left - tone(400.0)).abs().max((right - tone(900.0)).abs());
            assert!(off < 0.04, "{rate} Hz, frame {n}: off by {off}");
        }
        // And the mix is what it always was.
        let mix = read_all(&path).unwrap();
        for (mix, [left, right]) in mix.iter().zip(&frames) {
            assert!((mix - (left + right) * 0.5).abs() < 1e-5);
        }
    }
}

#[test]
fn a_source_that_is_asked_now_for_one_channel_and_now_for_two_moves_on() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.wav");
    write_stereo(&path, 48_000, (0..4800).map(|n| [n as f32 / 9600.0, 0.0]));
    let mut source = WavSource::open(&path, AtEnd::Stop).unwrap();
    let (mut block, mut wide) = (SILENCE, WideBlock::SILENCE);
    for n in 0..5 {
        assert_eq!(source.next_block(&mut block), SourceState::Playing);
        assert_eq!(source.next_wide(&mut wide), SourceState::Playing);
        let first = (n * 960) as f32 / 9600.0;
        assert!((block[0] - first / 2.0).abs() < 1e-4);
        let [left, right] = wide.frames().next().unwrap();
        assert!((left - first - 0.05).abs() < 1e-4 && right.abs() < 1e-6);
    }
}

#[test]
fn a_recording_gets_two_channels_with_the_first_sound_that_has_them() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.wav");
    let blocks_before = 250;
    let mut sink = WavSink::create(&path).unwrap();
    let before = |n: usize| WideBlock::mono(&[n as f32 / 1000.0; BLOCK_SAMPLES]);
    for n in 0..blocks_before {
        sink.write_wide(&before(n)).unwrap();
    }
    let stereo = WideBlock::stereo(&[0.5; BLOCK_SAMPLES], &[-0.25; BLOCK_SAMPLES]);
    for _ in 0..150 {
        sink.write_wide(&stereo).unwrap();
    }
    // What is on disk now is what a killed process leaves.
    let left = dir.path().join("left.wav");
    fs::copy(&path, &left).unwrap();
    assert_eq!(
        hound::WavReader::open(&left).unwrap().duration(),
        350 * BLOCK_SAMPLES as u32
    );
    sink.write_block(&[0.125; BLOCK_SAMPLES]).unwrap();
    sink.write_wide(&WideBlock::mono(&[0.125; BLOCK_SAMPLES]))
        .unwrap();
    drop(sink);
    let mut reader = hound::WavReader::open(&path).unwrap();
    assert_eq!(reader.spec().channels, 2);
    assert_eq!(reader.duration(), 402 * BLOCK_SAMPLES as u32);
    let samples: Vec<f32> = reader
        .samples::<i16>()
        .map(|sample| f32::from(sample.unwrap()) / 32_767.0)
        .collect();
    for (n, frame) in samples.chunks_exact(2).enumerate() {
        let block = n / BLOCK_SAMPLES;
        let expected = match block {
            0..250 => [block as f32 / 1000.0; 2],
            250..400 => [0.5, -0.25],
            _last => [0.125; 2],
        };
        for (sample, expected) in frame.iter().zip(expected) {
            assert!((sample - expected).abs() < 1e-4, "block {block}");
        }
    }
    // And ours reads it.
    assert_eq!(
        WavSource::open(&path, AtEnd::Stop).unwrap().len_samples(),
        402 * BLOCK_SAMPLES as u64
    );
}

#[test]
fn a_recording_that_cannot_be_changed_goes_on_with_the_mix() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.wav");
    let mut sink = WavSink::create(&path).unwrap();
    sink.write_block(&[0.5; BLOCK_SAMPLES]).unwrap();
    sink.finish().unwrap();
    // Somebody took it away: what was recorded goes on where it was.
    let elsewhere = dir.path().join("elsewhere.wav");
    fs::rename(&path, &elsewhere).unwrap();
    let stereo = WideBlock::stereo(&[0.5; BLOCK_SAMPLES], &[0.0; BLOCK_SAMPLES]);
    for _ in 0..10 {
        sink.write_wide(&stereo).unwrap();
    }
    drop(sink);
    let samples = read_all(&elsewhere).unwrap();
    assert_eq!(samples.len(), 11 * BLOCK_SAMPLES);
    assert!((samples[5000] - 0.25).abs() < 1e-4);
}
