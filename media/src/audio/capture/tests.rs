use std::f64::consts::TAU;

use super::{
    super::{
        BLOCK_SAMPLES,
        ring::ring,
        testing::{Jitter, worst_sine_snr_db},
    },
    *,
};

/// A microphone in virtual time: its clock, what it brings at once, and how late it may call.
struct Device {
    rate_hz: f64,
    callback_samples: usize,
    lateness: Jitter,
    recorded: u64,
    next_call: f64,
    /// Silent before, which costs less.
    speak_from: f64,
}

impl Device {
    fn new(named_rate_hz: u32, drift_ppm: f64, callback_samples: usize, late_millis: f64) -> Self {
        let rate_hz = f64::from(named_rate_hz) * (1.0 + drift_ppm * 1e-6);
        Self {
            rate_hz,
            callback_samples,
            lateness: Jitter::new(7, late_millis * 1e-3),
            recorded: 0,
            next_call: callback_samples as f64 / rate_hz,
            speak_from: 0.0,
        }
    }

    /// Makes the calls that are due by `now`, in seconds. It hears a 1 kHz tone.
    fn run(&mut self, now: f64, writer: &mut super::super::ring::RingWriter) {
        while self.next_call <= now {
            let samples: Vec<f32> = (0..self.callback_samples as u64)
                .map(|n| {
                    let time = (self.recorded + n) as f64 / self.rate_hz;
                    if time < self.speak_from {
                        return 0.0;
                    }
                    (0.5 * (TAU * 1000.0 * time).sin()) as f32
                })
                .collect();
            writer.write_from_device(&samples, 1, Duration::from_secs_f64(self.next_call), |s| s);
            self.recorded += samples.len() as u64;
            let ready = (self.recorded as f64 + self.callback_samples as f64) / self.rate_hz;
            self.next_call = ready + self.lateness.next();
        }
    }
}

struct Outcome {
    stats: CaptureStats,
    waiting_millis: (f64, f64),
    samples: Vec<f32>,
}

/// Minutes of a microphone, asked by our clock every 10 ms and up to 2 ms late.
fn listen(mut device: Device, named_rate_hz: u32, drift: DriftController, seconds: u32) -> Outcome {
    device.speak_from = f64::from(seconds) - 31.0;
    let (mut writer, reader) = ring(named_rate_hz);
    let mut capture = Capture::new(reader, named_rate_hz, drift).unwrap();
    let mut lateness = Jitter::new(11, 2e-3);
    let mut block = SILENCE;
    let (mut least, mut most) = (f64::MAX, f64::MIN);
    let mut samples = Vec::new();
    for tick in 0..seconds * 100 {
        let now = f64::from(tick) * 0.01 + lateness.next();
        device.run(now, &mut writer);
        capture.next_block(Duration::from_secs_f64(now), &mut block);
        if tick > 100 {
            let waiting = capture.stats().waiting_millis;
            (least, most) = (least.min(waiting), most.max(waiting));
        }
        if tick >= (seconds - 30) * 100 {
            samples.extend_from_slice(&block);
        }
    }
    Outcome {
        stats: capture.stats(),
        waiting_millis: (least, most),
        samples,
    }
}

#[test]
fn ten_minutes_of_a_drifting_microphone_lose_nothing_and_sound_right() {
    for (drift_ppm, rate, callback, seconds) in [
        (200.0, 48_000, 480, 600),
        (-200.0, 48_000, 24, 600),
        (-200.0, 44_100, 1024, 120),
        (200.0, 16_000, 160, 120),
    ] {
        let device = Device::new(rate, drift_ppm, callback, 3.0);
        let outcome = listen(device, rate, DriftController::new(), seconds);
        let name = format!("{drift_ppm} ppm, {rate} Hz, {callback} at once");
        let stats = outcome.stats;
        assert_eq!((stats.underruns, stats.resyncs), (0, 0), "{name}");
        assert!(stats.silent_blocks < 6, "{name}: {}", stats.silent_blocks);
        assert!(
            (stats.drift_ppm - drift_ppm).abs() < 30.0,
            "{name}: {stats:?}"
        );
        let (least, most) = outcome.waiting_millis;
        let expected = 10.0 + (callback as f64 / f64::from(rate) * 1e3).max(1.0) + 10.0;
        assert!(
            least > 10.0 && most < expected + 7.0,
            "{name}: {least}..{most} ms"
        );
        let snr = worst_sine_snr_db(&outcome.samples, 1000.0);
        assert!(snr > 60.0, "{name}: {snr:.1} dB");
    }
}

#[test]
fn without_the_controller_the_same_microphone_glitches() {
    for drift_ppm in [200.0, -200.0] {
        let device = Device::new(48_000, drift_ppm, 480, 3.0);
        let stats = listen(device, 48_000, DriftController::disabled(), 240).stats;
        assert!(
            stats.underruns + stats.resyncs > 0,
            "{drift_ppm}: {stats:?}"
        );
    }
}

#[test]
fn a_microphone_that_falls_silent_gives_silence_and_comes_back() {
    let (mut writer, reader) = ring(48_000);
    let mut capture = Capture::new(reader, 48_000, DriftController::new()).unwrap();
    let mut block = SILENCE;
    let mut loud_blocks = 0;
    for tick in 0..300u64 {
        let now = Duration::from_millis(10 * tick);
        if !(100..200).contains(&tick) {
            writer.write_from_device(&[0.5f32; BLOCK_SAMPLES], 1, now, |s| s);
        }
        capture.next_block(now, &mut block);
        if block.iter().all(|s| (s - 0.5).abs() < 0.01) {
            loud_blocks += 1;
        }
    }
    let stats = capture.stats();
    assert_eq!(stats.underruns, 1, "the gap counts once: {stats:?}");
    assert!((185..=198).contains(&loud_blocks), "{loud_blocks}");
}

#[test]
fn sound_that_gathered_while_we_slept_is_skipped_not_played_late() {
    let (mut writer, reader) = ring(48_000);
    let mut capture = Capture::new(reader, 48_000, DriftController::new()).unwrap();
    let mut block = SILENCE;
    for tick in 0..100u64 {
        let now = Duration::from_millis(10 * tick);
        writer.write_from_device(&[0.1f32; BLOCK_SAMPLES], 1, now, |s| s);
        // Nobody asks for 150 ms.
        if !(50..65).contains(&tick) {
            capture.next_block(now, &mut block);
        }
    }
    let stats = capture.stats();
    assert_eq!(stats.resyncs, 1, "{stats:?}");
    assert!(
        stats.waiting_millis < capture.target_millis() + 5.0,
        "{stats:?}"
    );
}

/// A minute of a microphone whose callbacks come up to 45 ms late every five seconds. Returns the counters, the time that
/// was silent once sound flowed, and what a block waited for at the end.
fn stumble(mut capture_loop: CaptureLoop) -> (CaptureStats, Duration, f64) {
    let (mut writer, reader) = ring(48_000);
    let capture = Capture::new(reader, 48_000, DriftController::new()).unwrap();
    capture_loop.set_device(Some(capture));
    let mut ticker = Ticker::new(Duration::from_millis(2));
    let mut block = WideBlock::default();
    let (mut blocks, mut silent) = (0u32, 0u32);
    for millis in 0..60_000u64 {
        let now = Duration::from_millis(millis);
        // 5 ms at once, but for what is held up.
        let stumbles = millis >= 5000;
        let due = match millis % 5000 {
            0..45 if stumbles => 0,
            45 if stumbles => 10,
            _ => 1,
        };
        if millis % 5 == 0 {
            for _ in 0..due {
                writer.write_from_device(&[0.5f32; 240], 1, now, |s| s);
            }
        }
        if ticker.wait(now) > Duration::ZERO {
            continue;
        }
        capture_loop.run(&mut ticker, now, &mut block, |block, _ago| {
            blocks += 1;
            silent += u32::from(millis > 500 && block.mid.iter().any(|s| s.abs() < 0.4));
        });
    }
    assert!((5999..=6001).contains(&blocks), "none is missing: {blocks}");
    let stats = capture_loop.stats().capture;
    (stats, BLOCK_DURATION * silent, stats.waiting_millis)
}

#[test]
fn what_is_late_for_once_is_waited_for_and_costs_neither_sound_nor_delay() {
    let (stats, silent, waiting) = stumble(CaptureLoop::new(None));
    assert_eq!((stats.underruns, stats.resyncs), (0, 0), "{stats:?}");
    assert!(stats.waits > 30, "{stats:?}");
    assert_eq!(silent, Duration::ZERO);
    assert!(waiting < 22.0, "{waiting} ms");

    let (stats, silent, _) = stumble(CaptureLoop::new(None).impatient());
    assert!(stats.underruns > 10, "{stats:?}");
    assert!(silent > Duration::from_millis(200), "{silent:?}");
}

#[test]
fn blocks_that_come_together_tell_how_long_ago_each_was_due() {
    let (mut writer, reader) = ring(48_000);
    let capture = Capture::new(reader, 48_000, DriftController::new()).unwrap();
    let mut capture_loop = CaptureLoop::new(None);
    capture_loop.set_device(Some(capture));
    let mut ticker = Ticker::new(Duration::ZERO);
    let mut block = WideBlock::default();
    let mut last = Vec::new();
    for tick in 0..100u64 {
        let now = Duration::from_millis(10 * tick);
        writer.write_from_device(&[0.5f32; BLOCK_SAMPLES], 1, now, |s| s);
        // Slept through every other beat.
        if tick % 2 == 1 {
            last.clear();
            let waits = capture_loop.run(&mut ticker, now, &mut block, |block, ago| {
                last.push((ago.as_millis(), block.mid[240]));
            });
            assert!(!waits);
        }
    }
    let ago: Vec<u128> = last.iter().map(|(ago, _)| *ago).collect();
    assert_eq!(ago, [10, 0]);
    assert!(last.iter().all(|(_, s)| (s - 0.5).abs() < 0.01), "{last:?}");
    let stats = capture_loop.stats().capture;
    assert_eq!((stats.underruns, stats.resyncs), (0, 0), "{stats:?}");
}
