use opus::{Application, Bitrate, Channels, Decoder, Encoder};

use super::{
    super::{
        SILENCE,
        source::{SampleSource, SilenceSource, collect},
        testing::{Jitter, speech},
    },
    *,
};

/// Opus at 32 kbit/s, 20 ms frames, every `lose_every`th of them lost and concealed.
fn through_opus(samples: &[f32], lose_every: usize) -> Vec<f32> {
    let mut encoder = Encoder::new(48_000, Channels::Mono, Application::Voip).unwrap();
    encoder.set_bitrate(Bitrate::Bits(32_000)).unwrap();
    encoder.set_vbr(false).unwrap();
    let mut decoder = Decoder::new(48_000, Channels::Mono).unwrap();
    let mut decoded = Vec::new();
    let mut frame = [0.0; 960];
    for (n, samples) in samples.chunks_exact(960).enumerate() {
        let packet = encoder.encode_vec_float(samples, 1500).unwrap();
        let lost = n % lose_every == lose_every - 1;
        let packet = if lost { &[][..] } else { &packet[..] };
        decoder.decode_float(packet, &mut frame, false).unwrap();
        decoded.extend_from_slice(&frame);
    }
    decoded
}

/// What a marked source gave, and which markers began with which block.
fn mark(source: impl AudioSource, blocks: usize) -> (Vec<f32>, Vec<Option<MarkerKind>>) {
    let mut source = MarkerSource::new(source);
    let (mut samples, mut begun) = (Vec::new(), Vec::new());
    let mut block = SILENCE;
    for _ in 0..blocks {
        if source.next_block(&mut block) == SourceState::Playing {
            samples.extend_from_slice(&block);
            begun.push(source.begun());
        }
    }
    (samples, begun)
}

/// Plays what a marked source gave to the other side, `blocks` later.
fn measure(samples: &[f32], begun: &[Option<MarkerKind>], blocks: usize) -> MouthToEar {
    let mut meter = MouthToEar::new();
    let at = |block: usize| Duration::from_millis(10 * block as u64);
    for n in 0..begun.len() + blocks {
        meter.block_sent(at(n), begun.get(n).copied().flatten());
        let heard = n
            .checked_sub(blocks)
            .and_then(|n| samples.as_chunks().0.get(n))
            .unwrap_or(&SILENCE);
        meter.block_heard(at(n), heard);
    }
    meter.finish();
    meter
}

/// Opus answers this much later than it was asked, in milliseconds.
const OPUS_DELAY_MILLIS: f64 = 6.5;

fn millis(duration: Option<Duration>) -> f64 {
    duration.unwrap().as_secs_f64() * 1e3
}

#[test]
fn every_marker_in_silence_is_found_to_the_sample_and_once() {
    let samples = collect(&mut MarkerSource::new(SilenceSource), 1000);
    let mut detector = Detector::new();
    let mut heard = Vec::new();
    for block in samples.chunks(BLOCK_SAMPLES) {
        heard.extend(detector.push(block));
    }
    heard.extend(detector.finish());
    let found: Vec<_> = heard.iter().map(|h| (h.kind, h.position)).collect();
    let expected: Vec<_> = (0..10)
        .map(|n| {
            (
                MarkerKind::of(n),
                n * INTERVAL_BLOCKS * BLOCK_SAMPLES as u64,
            )
        })
        .collect();
    assert_eq!(found, expected);
    assert!(heard.iter().all(|h| h.correlation > 0.999));
}

#[test]
fn a_marker_is_found_wherever_it_lies_to_the_detectors_looks() {
    for shift in (0..LOOK_SAMPLES + 2000).step_by(1237) {
        let mut samples = vec![0.0; shift];
        samples.extend_from_slice(MarkerKind::Falling.samples());
        samples.extend(vec![0.0; 20_000]);
        let mut detector = Detector::new();
        let mut heard = detector.push(&samples);
        heard.extend(detector.finish());
        assert_eq!(heard.len(), 1, "at {shift}: {heard:?}");
        assert_eq!(heard[0].position, shift as u64);
    }
}

#[test]
fn the_delay_through_opus_is_measured_in_silence() {
    let (samples, begun) = mark(SilenceSource, 1000);
    let meter = measure(&through_opus(&samples, usize::MAX), &begun, 12);
    assert_eq!((meter.measured(), meter.lost()), (10, 0));
    for quantile in [0.0, 0.5, 0.95] {
        let delay = millis(meter.delay(quantile));
        assert!((delay - 120.0 - OPUS_DELAY_MILLIS).abs() < 1.0, "{delay}");
    }
}

#[test]
fn under_speech_and_loss_enough_markers_are_found_and_none_at_a_wrong_place() {
    let (samples, begun) = mark(SampleSource::new(speech(1, 15)), 1500);
    let sent = begun.iter().flatten().count();
    let meter = measure(&through_opus(&samples, 10), &begun, 25);
    println!("{} of {sent} markers found", meter.measured());
    assert!(sent >= 8, "{sent} sent");
    assert!(
        2 * meter.measured() >= sent,
        "{} of {sent}",
        meter.measured()
    );
    for quantile in [0.0, 0.5, 1.0] {
        let delay = millis(meter.delay(quantile));
        assert!((delay - 250.0 - OPUS_DELAY_MILLIS).abs() < 2.0, "{delay}");
    }
}

#[test]
fn a_delay_of_more_than_a_second_is_not_taken_for_the_next_markers() {
    let (samples, begun) = mark(SilenceSource, 1000);
    let meter = measure(&samples, &begun, 130);
    assert!(meter.measured() >= 9);
    assert!((millis(meter.delay(0.5)) - 1300.0).abs() < 0.1);
}

#[test]
fn speech_noise_and_silence_hold_no_markers() {
    let mut jitter = Jitter::new(4, 1.0);
    let noise: Vec<f32> = (0..200_000).map(|_| jitter.next() as f32 - 0.5).collect();
    for (name, samples) in [
        ("speech", speech(2, 8)),
        ("speech through Opus", through_opus(&speech(3, 8), 10)),
        ("noise", noise),
        ("silence", vec![0.0; 200_000]),
    ] {
        let mut detector = Detector::new();
        let mut heard = detector.push(&samples);
        heard.extend(detector.finish());
        assert_eq!(heard, [], "{name}");
    }
}

#[test]
fn without_markers_sent_nothing_is_measured() {
    let meter = measure(&speech(5, 5), &[None; 500], 10);
    assert_eq!((meter.measured(), meter.delay(0.5)), (0, None));
}

#[test]
fn markers_that_never_arrive_are_bounded_and_counted() {
    let mut meter = MouthToEar::new();
    for n in 0..20 {
        meter.block_sent(Duration::from_secs(n), Some(MarkerKind::of(n)));
    }
    assert_eq!(meter.pending.len(), MAX_PENDING);
    assert_eq!(meter.lost(), 20 - MAX_PENDING as u64);
}
