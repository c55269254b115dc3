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
