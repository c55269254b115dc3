use std::f64::consts::TAU;

use super::{
    super::{
        BLOCK_SAMPLES,
        capture::{Capture, CaptureLoop, Voice},
        reference::reference,
        ring::{RingReader, ring},
        testing::{Jitter, speech, worst_sine_snr_db},
        voice::{Chain, VoiceConfig},
    },
    *,
};

/// A speaker in virtual time. Its buffer of one callback hides its own lateness, as real ones do.
struct Device {
    rate_hz: f64,
    callback_samples: usize,
    lateness: Jitter,
    played: u64,
    next_call: f64,
    heard: Vec<f32>,
    hear_from: f64,
}

impl Device {
    fn new(named_rate_hz: u32, drift_ppm: f64, callback_samples: usize, late_millis: f64) -> Self {
        Self {
            rate_hz: f64::from(named_rate_hz) * (1.0 + drift_ppm * 1e-6),
            callback_samples,
            lateness: Jitter::new(3, late_millis * 1e-3),
            played: 0,
            next_call: 0.05,
            heard: Vec::new(),
            hear_from: f64::INFINITY,
        }
    }

    fn run(&mut self, now: f64, reader: &mut RingReader) {
        while self.next_call <= now {
            let mut samples = vec![0.0; self.callback_samples];
            reader.read_to_device(
                &mut samples,
                1,
                Duration::from_secs_f64(self.next_call),
                |s| s,
            );
            if now >= self.hear_from {
                self.heard.extend_from_slice(&samples);
            }
            self.played += samples.len() as u64;
            self.next_call = 0.05 + self.played as f64 / self.rate_hz + self.lateness.next();
        }
    }
}

struct Outcome {
    stats: PlayoutStats,
    missing_samples: u64,
    waiting_millis: (f64, f64),
    heard: Vec<f32>,
}

/// Minutes of a 1 kHz tone given by our clock every 10 ms, up to 2 ms late.
fn play(mut device: Device, named_rate_hz: u32, drift: DriftController, seconds: u32) -> Outcome {
    device.hear_from = f64::from(seconds) - 30.0;
    let (writer, mut reader) = ring(named_rate_hz);
    let mut playout = Playout::new(writer, named_rate_hz, drift).unwrap();
    let mut lateness = Jitter::new(5, 2e-3);
    let (mut least, mut most) = (f64::MAX, f64::MIN);
    // A whole number of periods fits into a block.
    let block: Block =
        std::array::from_fn(|n| (0.5 * (TAU * 1000.0 * n as f64 / 48_000.0).sin()) as f32);
    for tick in 0..seconds * 100 {
        let now = f64::from(tick) * 0.01 + lateness.next();
        device.run(now, &mut reader);
        playout.play_block(Duration::from_secs_f64(now), &block);
        if tick > 200 {
            let waiting = playout.stats().waiting_millis;
            (least, most) = (least.min(waiting), most.max(waiting));
        }
    }
    Outcome {
        stats: playout.stats(),
        missing_samples: reader.watch().stats().missing_samples,
        waiting_millis: (least, most),
        heard: device.heard,
    }
}

#[test]
fn ten_minutes_on_a_drifting_speaker_leave_no_gap_and_sound_right() {
    for (drift_ppm, rate, callback, seconds) in [
        (200.0, 48_000, 480, 600),
        (-200.0, 48_000, 480, 600),
        (-200.0, 44_100, 1024, 120),
        (200.0, 16_000, 160, 120),
    ] {
        let device = Device::new(rate, drift_ppm, callback, 3.0);
        let hz_at_device = f64::from(rate) * (1.0 + drift_ppm * 1e-6);
        let outcome = play(device, rate, DriftController::new(), seconds);
        let name = format!("{drift_ppm} ppm, {rate} Hz, {callback} at once");
        let stats = outcome.stats;
        assert_eq!(outcome.missing_samples, 0, "{name}: {stats:?}");
        assert_eq!(
            (stats.underruns, stats.discarded_blocks, stats.resyncs),
            (0, 0, 0),
            "{name}"
        );
        assert!(
            (stats.drift_ppm - drift_ppm).abs() < 30.0,
            "{name}: {stats:?}"
        );
        let (least, most) = outcome.waiting_millis;
        assert!(
            least > 0.0 && most < 10.0 + 7.0,
            "{name}: {least}..{most} ms"
        );
        // The pitch is right by the true clock.
        let snr = worst_sine_snr_db(&outcome.heard, 1000.0 * 48_000.0 / hz_at_device);
        assert!(snr > 60.0, "{name}: {snr:.1} dB");
    }
}

#[test]
fn without_the_controller_the_same_speaker_glitches() {
    for drift_ppm in [200.0, -200.0] {
        let device = Device::new(48_000, drift_ppm, 480, 3.0);
        let outcome = play(device, 48_000, DriftController::disabled(), 240);
        let stats = outcome.stats;
        assert!(
            outcome.missing_samples + stats.resyncs + stats.discarded_blocks > 0,
            "{drift_ppm}: {stats:?}"
        );
    }
}

#[test]
fn a_stalled_speaker_gathers_no_more_than_its_ring_and_recovers() {
    let (writer, mut reader) = ring(48_000);
    let mut playout = Playout::new(writer, 48_000, DriftController::new()).unwrap();
    let mut out = [0.0f32; BLOCK_SAMPLES];
    for tick in 0..1000u64 {
        let now = Duration::from_millis(10 * tick);
        playout.play_block(now, &[0.5; BLOCK_SAMPLES]);
        if !(300..600).contains(&tick) {
            reader.read_to_device(&mut out, 1, now, |s| s);
        }
    }
    let stats = playout.stats();
    assert!(stats.discarded_blocks > 200, "{stats:?}");
    assert!(
        stats.waiting_millis < playout.target_millis() + RESYNC_MILLIS + 1.0,
        "{stats:?}"
    );
    assert_eq!(stats.underruns, 0);
}

/// Seconds of speech on a device that stops for 20 ms after ten of them; what waited at last, and the counters.
fn hiccup(change: impl Fn(Playout) -> Playout) -> (f64, PlayoutStats, u64) {
    let (writer, mut reader) = ring(48_000);
    let mut playout = change(Playout::new(writer, 48_000, DriftController::new()).unwrap());
    let mut out = [0.0f32; BLOCK_SAMPLES];
    let speech = speech(1, 20);
    for (tick, block) in (0..).zip(speech.as_chunks::<BLOCK_SAMPLES>().0) {
        let now = Duration::from_millis(10 * tick);
        playout.play_block(now, block);
        if !(1000..1002).contains(&tick) {
            reader.read_to_device(&mut out, 1, now, |s| s);
        }
    }
    let waiting = playout.stats().waiting_millis - playout.target_millis();
    let missing = reader.watch().stats().missing_samples;
    (waiting, playout.stats(), missing)
}

#[test]
fn what_a_device_that_stopped_has_left_is_taken_out_of_pauses() {
    let (surplus, stats, missing) = hiccup(|playout| playout);
    assert!((-1.0..4.0).contains(&surplus), "{surplus:.1} ms, {stats:?}");
    assert!((4..10).contains(&stats.cuts), "{stats:?}");
    assert_eq!((stats.underruns, missing), (0, 0), "{stats:?}");
    let (surplus, stats, _) = hiccup(Playout::with_whole_pauses);
    assert!(surplus > 10.0, "{surplus:.1} ms, {stats:?}");
}

#[test]
fn a_cut_is_not_heard_and_needs_a_pause() {
    let mut surplus = Surplus::new(true);
    let (loud, soft) = ([0.3; BLOCK_SAMPLES], [0.01; BLOCK_SAMPLES]);
    let loudly = (0..500)
        .map(|_| surplus.cut_millis(12.0, &loud, None))
        .sum::<f64>();
    assert_eq!(loudly, 0.0);
    let softly: Vec<f64> = (0..5)
        .map(|_| surplus.cut_millis(12.0, &soft, None))
        .collect();
    assert_eq!(softly, [4.0, 4.0, 2.0, 0.0, 0.0]);

    let (writer, mut reader) = ring(48_000);
    let mut playout = Playout::new(writer, 48_000, DriftController::new()).unwrap();
    let mut heard = Vec::new();
    let mut out = [0.0f32; BLOCK_SAMPLES];
    for tick in 0..1000u64 {
        let now = Duration::from_millis(10 * tick);
        // A slow hum, loud for three seconds and softer by 26 dB for the rest.
        let gain = if tick < 600 { 0.4 } else { 0.02 };
        let block = std::array::from_fn(|n| {
            let at = (480 * tick) as f64 + n as f64;
            (gain * (TAU * 100.0 * at / 48_000.0).sin()) as f32
        });
        playout.play_block(now, &block);
        if !(300..302).contains(&tick) {
            reader.read_to_device(&mut out, 1, now, |s| s);
            heard.extend_from_slice(&out);
        }
    }
    assert!(playout.stats().cuts > 2, "{:?}", playout.stats());
    let step = heard[48_000 * 6 + 4800..]
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .fold(0.0, f32::max);
    assert!(step < 0.002, "a click of {step}");
}

#[test]
fn when_we_were_late_the_gap_is_made_up_with_silence_and_the_margin_grows() {
    let (writer, mut reader) = ring(48_000);
    let mut playout = Playout::new(writer, 48_000, DriftController::new()).unwrap();
    let mut out = [0.0f32; BLOCK_SAMPLES];
    let mut targets = Vec::new();
    for tick in 0..200u64 {
        let now = Duration::from_millis(10 * tick);
        if !(50..60).contains(&tick) {
            playout.play_block(now, &[0.5; BLOCK_SAMPLES]);
        }
        reader.read_to_device(&mut out, 1, now, |s| s);
        targets.push(playout.target_millis());
    }
    let stats = playout.stats();
    assert_eq!(stats.underruns, 1, "{stats:?}");
    assert!(targets[199] > targets[40] + 2.0);
    assert!(
        out.iter().all(|s| (s - 0.5).abs() < 0.01),
        "and sound is back"
    );
}

/// Left and right from a microphone's callback to a speaker's, through both loops, with nothing done to the voice or
/// with something. What the speaker played, once it settled.
fn round_trip(voice: VoiceConfig, rate_hz: u32) -> Vec<[f32; 2]> {
    let (mut microphone, reader) = ring(rate_hz);
    let (writer, mut speaker) = ring(rate_hz);
    let mut capture = CaptureLoop::new(Some(Voice {
        processor: Box::new(Chain::new(voice)),
        reference: None,
    }));
    capture.set_device(Some(
        Capture::new(reader, rate_hz, DriftController::new()).unwrap(),
    ));
    let (told, mut rendered) = reference();
    let mut playout = PlayoutLoop::new(Some(told));
    playout.set_device(Some(
        Playout::new(writer, rate_hz, DriftController::new()).unwrap(),
    ));
    let frames = rate_hz as usize / 100;
    let mut block = WideBlock::SILENCE;
    let (mut played, mut buffer) = (Vec::new(), vec![0.0f32; 2 * frames]);
    for n in 0..300usize {
        let now = BLOCK_DURATION * n as u32;
        let tone = |k: usize, hz: f32| {
            let t = (n * frames + k) as f32 / rate_hz as f32;
            (t * hz * std::f32::consts::TAU).sin() * 0.3
        };
        let said: Vec<f32> = (0..frames)
            .flat_map(|k| [tone(k, 500.0), tone(k, 1500.0)])
            .collect();
        microphone.write_from_device(&said, 2, now, |sample| sample);
        speaker.read_to_device(&mut buffer, 2, now, |sample| sample);
        capture.next_wide(now, now, &mut block);
        playout.play_wide(now, now, &block);
        let mut heard = SILENCE;
        let _told = rendered.read(now, &mut heard);
        if n >= 200 {
            played.extend(buffer.as_chunks().0);
        }
    }
    assert!(rendered.stats().blocks > 250);
    played
}

#[test]
fn two_channels_go_from_a_microphone_to_a_speaker_unless_the_voice_is_processed() {
    let energy = |frames: &[[f32; 2]], channel: usize, hz: f32, rate: f32| {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (n, frame) in frames.iter().enumerate() {
            let (s, c) = (n as f32 * hz / rate * std::f32::consts::TAU).sin_cos();
            sine += frame[channel] * s;
            cosine += frame[channel] * c;
        }
        sine * sine + cosine * cosine
    };
    for rate in [44_100, 48_000] {
        let played = round_trip(VoiceConfig::OFF, rate);
        let of = |channel, hz| energy(&played, channel, hz, rate as f32);
        let left = 10.0 * (of(0, 500.0) / of(1, 500.0)).log10();
        let right = 10.0 * (of(1, 1500.0) / of(0, 1500.0)).log10();
        assert!(
            left > 35.0 && right > 35.0,
            "{rate} Hz: {left:.1}, {right:.1} dB"
        );
        let gate = VoiceConfig {
            high_pass: true,
            ..VoiceConfig::OFF
        };
        let played = round_trip(gate, rate);
        assert!(played.iter().all(|[left, right]| left == right));
        assert!(energy(&played, 0, 500.0, rate as f32) > 100.0);
    }
}
