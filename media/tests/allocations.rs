//! The audio path allocates nothing once it runs: a pull or a push must never wait for the allocator.

#![expect(unsafe_code, reason = "a counting allocator is one")]
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::sync_channel,
    },
    time::{Duration, Instant},
};

use ahoy_media::{
    audio::{
        capture::{Capture, CaptureLoop, CaptureWorker, Voice},
        drift::DriftController,
        neteq::{AudioKind, NetEqStats},
        opus::{Content, EncoderConfig},
        playout::{Playout, PlayoutLoop, PlayoutWorker},
        reference::reference,
        ring::ring,
        voice::{Chain, EchoState, VoiceConfig},
        wide::WideBlock,
    },
    loss::{Mode, Protection},
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendPipeline},
    },
    time::{BLOCK_DURATION, SILENT_BLOCK},
};

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator; counting touches a thread-local that needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What was allocated while packets were made, and while they were played, of one channel or of two.
fn in_any_weather(encoder: EncoderConfig) -> (NetEqStats, [u64; 2]) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make an Instant; only differences matter"
    )]
    let mut now = Instant::now();
    let mut sender = SendPipeline::new(SendConfig {
        encoder,
        ..SendConfig::new(1)
    })
    .unwrap();
    let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
    let mut waiting = [[0; 400]; 64];
    let mut due = [(0u32, 0usize); 64];
    let (mut send, mut receive) = (0, 0);
    let mut kinds = [false; 6];
    let mut block = WideBlock::SILENCE;
    let mut out = WideBlock::SILENCE;
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    for n in 0..6000u32 {
        block.set_frames((0..480).map(|k| {
            let t = (n * 480 + k) as f32 / 48_000.0;
            // Now and then both channels are the same for a while.
            let apart = if n % 1000 < 500 { 1.0 } else { 0.5 };
            [apart, 0.5].map(|share| (t * 900.0).sin() * 0.4 * share * (t * 3.0).sin())
        }));
        // Each way to repair loss for a while.
        if let Some(mode) = match n {
            1600 | 2600 => Some(Mode::Red),
            3100 => Some(Mode::Parity),
            4600 => Some(Mode::Dred),
            _ordinary => None,
        } {
            sender.protect(Protection {
                mode,
                loss_percent: 15,
                apart: n == 2600,
                ..Protection::default()
            });
        }
        let before = ALLOCATIONS.get();
        let packet = sender.push_wide(now, &block);
        send += ALLOCATIONS.get() - before;
        let slot = n as usize % 64;
        due[slot] = (0, 0);
        // Loss, jitter, and an outage of half a second now and then.
        if let Some(packet) = packet
            && random() % 10 != 0
            && n % 1500 < 1450
        {
            waiting[slot][..packet.len()].copy_from_slice(packet);
            due[slot] = (n + random() % 6, packet.len());
        }
        let before = ALLOCATIONS.get();
        for slot in 0..64 {
            if due[slot].1 > 0 && due[slot].0 <= n {
                let _late = receiver.insert_packet(now, &waiting[slot][..due[slot].1]);
                due[slot].1 = 0;
            }
        }
        match n {
            3000 => receiver.set_min_delay(Duration::from_millis(200)),
            4000 => receiver.set_min_delay(Duration::ZERO),
            _ordinary => {}
        }
        let info = receiver.get_wide(now + Duration::from_millis(3), &mut out);
        receive += ALLOCATIONS.get() - before;
        kinds[info.kind as usize] = true;
        now += BLOCK_DURATION;
        if n < 100 {
            (send, receive) = (0, 0);
        }
    }
    let stats = receiver.stats();
    for kind in [
        AudioKind::Normal,
        AudioKind::Recovered,
        AudioKind::Concealed,
        AudioKind::ComfortNoise,
    ] {
        assert!(kinds[kind as usize], "{kind:?} was not tried: {stats:?}");
    }
    assert!(
        stats.accelerated_samples > 0 && stats.expanded_samples > 0,
        "{stats:?}"
    );
    assert!(stats.frames_recovered_red > 100, "{stats:?}");
    (stats, [send, receive])
}

#[test]
fn neither_sending_nor_receiving_allocates_in_any_weather() {
    let voice = EncoderConfig {
        fec: true,
        expected_loss_percent: 10,
        ..EncoderConfig::default()
    };
    let (stats, allocated) = in_any_weather(voice);
    assert!(stats.frames_recovered_dred > 10, "{stats:?}");
    assert_eq!(allocated, [0, 0], "{stats:?}");
    let music = EncoderConfig::of(Content::Music { stereo: true });
    let (stats, allocated) = in_any_weather(music);
    assert_eq!(allocated, [0, 0], "{stats:?}");
}

#[test]
fn neither_the_microphone_nor_the_speaker_allocates_with_everything_on() {
    let (writer, reader) = reference();
    let mut capture = CaptureLoop::new(Some(Voice {
        processor: Box::new(Chain::new(VoiceConfig {
            click_suppression: true,
            voice_gate: true,
            ..VoiceConfig::default()
        })),
        reference: Some(reader),
    }));
    let (mut microphone, ring_reader) = ring(48_000);
    capture.set_device(Some(
        Capture::new(ring_reader, 48_000, DriftController::new()).unwrap(),
    ));
    let mut playout = PlayoutLoop::new(Some(writer));
    let (ring_writer, mut speaker) = ring(48_000);
    playout.set_device(Some(
        Playout::new(ring_writer, 48_000, DriftController::new()).unwrap(),
    ));
    let mut state = 1u32;
    let mut allocated = 0;
    let mut out = SILENT_BLOCK;
    for n in 0..2000u32 {
        let now = BLOCK_DURATION * n;
        let mut far = SILENT_BLOCK;
        for sample in &mut far {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = (state >> 16) as f32 / 655_360.0 - 0.05;
        }
        let mut heard = SILENT_BLOCK;
        let before = ALLOCATIONS.get();
        speaker.read_to_device(&mut heard, 1, now, |sample| sample);
        // A microphone that stalls, and comes back.
        if !(1500..1510).contains(&n) {
            microphone.write_from_device(&heard, 1, now, |sample| 0.5 * sample);
        }
        playout.play_block(now, now, &far);
        capture.next_block(now, now, &mut out);
        allocated += ALLOCATIONS.get() - before;
        if n < 100 {
            allocated = 0;
        }
    }
    assert_eq!(capture.stats().voice.echo, EchoState::Present);
    assert_eq!(allocated, 0);
}

/// What the device's thread does for one call, in every format that is asked for.
fn every_callback(now: Duration, allocated: &mut u64) {
    let (mut microphone, mut taken) = ring(48_000);
    let (mut given, mut speaker) = ring(48_000);
    given.write(std::iter::repeat_n(0.25, 700));
    let mut floats = [0.5f32; 960];
    let mut shorts = [7i16; 960];
    let mut longs = [7i32; 960];
    let before = ALLOCATIONS.get();
    for channels in [1, 2, 6] {
        microphone.write_from_device(&floats, channels, now, |s| s);
        microphone.write_from_device(&shorts, channels, now, |s| f32::from(s) / 32_768.0);
        microphone.write_from_device(&longs, channels, now, |s| s as f32 / 2_147_483_648.0);
        speaker.read_to_device(&mut floats, channels, now, |s| s);
        speaker.read_to_device(&mut shorts, channels, now, |s| (s * 32_767.0) as i16);
        speaker.read_to_device(&mut longs, channels, now, |s| (s * 2_147_483_000.0) as i32);
    }
    *allocated += ALLOCATIONS.get() - before;
    // Both a full and an empty ring were met.
    assert!(microphone.watch().stats().dropped_samples == 0);
    assert!(speaker.watch().stats().missing_samples > 0);
    taken.skip(usize::MAX);
}

/// Counts what is logged on the threads that it watches.
#[derive(Default)]
struct Log {
    events: Arc<AtomicU64>,
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        self.events.fetch_add(1, Ordering::Relaxed);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, _event: &tracing::Event<'_>) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}

#[test]
fn no_callback_allocates_or_logs_in_any_format() {
    let log = Log::default();
    let events = Arc::clone(&log.events);
    let mut allocated = 0;
    tracing::subscriber::with_default(log, || {
        for n in 0..100 {
            every_callback(BLOCK_DURATION * n, &mut allocated);
        }
        assert_eq!(events.load(Ordering::Relaxed), 0);
        tracing::trace!("the log is looked at");
    });
    assert_eq!(events.load(Ordering::Relaxed), 1);
    assert_eq!(allocated, 0);
}

/// A lock that the worker held would show here: the callbacks would wait for it, and this test for them.
#[test]
fn no_callback_waits_for_a_worker_that_is_stuck() {
    const CALLS: u32 = 1000;
    let (stuck, is_stuck) = sync_channel(2);
    let (release, released) = sync_channel::<()>(0);
    let released = Arc::new(Mutex::new(released));
    let stick = move |at: &'static str| {
        stuck.try_send(at).unwrap_or(());
        // Until the other end is gone.
        released.lock().unwrap().recv().unwrap_err();
    };
    let clock = || Duration::from_millis(10);
    let (captures, capture) = sync_channel(1);
    let (mut microphone, reader) = ring(48_000);
    let core = Capture::new(reader, 48_000, DriftController::new()).unwrap();
    captures.send(Some(core)).unwrap();
    let capture = CaptureWorker::start(capture, false, None, clock, {
        let stick = stick.clone();
        move |_block, _ago| {
            stick("microphone");
            0
        }
    })
    .unwrap();
    let (playouts, playout) = sync_channel(1);
    let (writer, mut speaker) = ring(48_000);
    let core = Playout::new(writer, 48_000, DriftController::new()).unwrap();
    playouts.send(Some(core)).unwrap();
    let playout =
        PlayoutWorker::start(playout, false, None, clock, move |_block| stick("speaker")).unwrap();
    // Whichever of them has the lock of this test, the other waits for it: both are stuck.
    is_stuck.recv_timeout(PATIENCE).unwrap();
    is_stuck.recv_timeout(PATIENCE).unwrap();

    let (done, is_done) = sync_channel(1);
    let callbacks = std::thread::Builder::new()
        .spawn(move || {
            let mut samples = [0.0f32; 480];
            for _ in 0..CALLS {
                microphone.write_from_device(&samples, 1, clock(), |s| s);
                speaker.read_to_device(&mut samples, 1, clock(), |s| s);
            }
            done.send([microphone.watch(), speaker.watch()].map(|watch| watch.stats().callbacks))
        })
        .unwrap();
    let calls = is_done.recv_timeout(PATIENCE);
    drop(release);
    drop((capture, playout));
    assert_eq!(calls, Ok([u64::from(CALLS); 2]));
    callbacks.join().unwrap().unwrap();
}
