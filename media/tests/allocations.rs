//! The audio path allocates nothing once it runs: a pull or a push must never wait for the allocator.

#![expect(unsafe_code, reason = "a counting allocator is one")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant},
};

use ahoy_media::{
    audio::{
        capture::{Capture, CaptureLoop, Voice},
        drift::DriftController,
        neteq::AudioKind,
        opus::EncoderConfig,
        playout::{Playout, PlayoutLoop},
        reference::reference,
        ring::ring,
        voice::{Chain, EchoState, VoiceConfig},
    },
    loss::{Mode, Protection},
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendPipeline},
    },
    time::{BLOCK_DURATION, SILENT_BLOCK},
};

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

#[test]
fn neither_sending_nor_receiving_allocates_in_any_weather() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make an Instant; only differences matter"
    )]
    let mut now = Instant::now();
    let encoder = EncoderConfig {
        fec: true,
        expected_loss_percent: 10,
        ..EncoderConfig::default()
    };
    let mut sender = SendPipeline::new(SendConfig {
        encoder,
        ..SendConfig::new(1)
    })
    .unwrap();
    let mut receiver = RecvPipeline::new(RecvConfig::default()).unwrap();
    let mut waiting = [[0; 200]; 64];
    let mut due = [(0u32, 0usize); 64];
    let (mut send, mut receive) = (0, 0);
    let mut kinds = [false; 6];
    let mut block = SILENT_BLOCK;
    let mut out = SILENT_BLOCK;
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    for n in 0..6000u32 {
        for (k, sample) in block.iter_mut().enumerate() {
            let t = (n * 480 + k as u32) as f32 / 48_000.0;
            *sample = (t * 900.0).sin() * 0.3 * (t * 3.0).sin();
        }
        // Each way to repair loss for a while.
        if let Some(mode) = match n {
            1600 => Some(Mode::Red),
            3100 => Some(Mode::Parity),
            4600 => Some(Mode::Dred),
            _ordinary => None,
        } {
            sender.protect(Protection {
                mode,
                loss_percent: 15,
                ..Protection::default()
            });
        }
        let before = ALLOCATIONS.get();
        let packet = sender.push_block(now, &block);
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
        let info = receiver.get_audio(now + Duration::from_millis(3), &mut out);
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
    assert!(
        stats.frames_recovered_red > 100 && stats.frames_recovered_dred > 10,
        "{stats:?}"
    );
    assert_eq!((send, receive), (0, 0), "{stats:?}");
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
