//! Recorded and invented networks played through sender and receiver in virtual time. Delay and damage are
//! judged in one and the same run: either alone is easy.

use std::time::{Duration, Instant};

use super::{AudioKind, NetEqConfig, NetEqStats};
use crate::{
    audio::{
        level::Level,
        opus::{EncoderConfig, FrameDuration},
        test_signal::Speech,
    },
    loss::{Mode, Protection},
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendPipeline},
    },
    time::{BLOCK_SAMPLES, SAMPLE_RATE_HZ, SILENT_BLOCK},
};

/// What Opus looks ahead, in samples.
const LOOKAHEAD: i64 = 312;

/// What the network does to the packet of a number: its delay in milliseconds, or nothing arrives.
type Network = fn(u64) -> Option<f64>;

struct Scene {
    seconds: u64,
    network: Network,
    neteq: NetEqConfig,
    encoder: EncoderConfig,
    protection: Protection,
    /// The sender's clock runs this much faster.
    drift_ppm: f64,
    /// Every how many packets one arrives twice.
    duplicate_every: u64,
    /// How far into its 10 ms the receiver's pull comes.
    pull_phase_millis: f64,
    /// The least target level changes in this second to so much.
    min_delay_at: Option<(f64, Duration)>,
    /// Blocks that the device pulls at once.
    pull_burst: u64,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            seconds: 30,
            network: |_| Some(40.0),
            neteq: NetEqConfig::default(),
            encoder: EncoderConfig::default(),
            protection: Protection::default(),
            drift_ppm: 0.0,
            duplicate_every: u64::MAX,
            pull_phase_millis: 3.0,
            min_delay_at: None,
            pull_burst: 1,
        }
    }
}

/// What the listener got.
#[derive(Debug)]
struct Heard {
    /// Mouth to ear without the network's 40 ms, in milliseconds: at which delay, second by second.
    delays: Vec<(f64, f64)>,
    kinds: Vec<AudioKind>,
    /// How loud each block was in which sound was stretched, beside the loudest of all: ratios of amplitudes.
    stretched: Vec<f32>,
    stats: NetEqStats,
    /// Mean segmental SNR of what was heard, aligned.
    snr_db: f64,
}

impl Heard {
    /// Quantile of the delay between two seconds of the call.
    fn delay(&self, from: f64, to: f64, quantile: f64) -> f64 {
        let within = |(at, _): &&(f64, f64)| *at >= from && *at < to;
        let mut delays: Vec<_> = self
            .delays
            .iter()
            .filter(within)
            .map(|(_, delay)| *delay)
            .collect();
        delays.sort_by(f64::total_cmp);
        delays[((delays.len() - 1) as f64 * quantile) as usize]
    }

    fn settled(&self, quantile: f64) -> f64 {
        self.delay(5.0, f64::INFINITY, quantile)
    }

    fn concealed_percent(&self) -> f64 {
        self.stats.concealed_fraction() * 100.0
    }

    fn print(&self, name: &str) {
        println!(
            "{name}: delay p50 {:.1} p95 {:.1} ms, concealed {:.2} %, SNR {:.2} dB, {:?}",
            self.settled(0.5),
            self.settled(0.95),
            self.concealed_percent(),
            self.snr_db,
            self.stats
        );
    }
}

/// A number in 0.0..1.0 that depends on `n` and `salt` alone.
fn random(n: u64, salt: u64) -> f64 {
    let mut x = n
        .wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x1234_5678);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn play(scene: &Scene) -> Heard {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make an Instant; only differences matter"
    )]
    let origin = Instant::now();
    let at = |millis: f64| origin + Duration::from_secs_f64(millis / 1000.0);
    let slow = 1.0 / (1.0 + scene.drift_ppm * 1e-6);

    let clean = Speech::new(11).samples((scene.seconds * u64::from(SAMPLE_RATE_HZ)) as usize);
    let mut sender = SendPipeline::new(SendConfig {
        encoder: scene.encoder,
        ..SendConfig::new(1)
    })
    .unwrap();
    sender.protect(scene.protection);
    let mut arrivals = Vec::new();
    for (block, samples) in clean.chunks_exact(BLOCK_SAMPLES).enumerate() {
        let sent = (block + 1) as f64 * 10.0 * slow;
        let Some(packet) = sender
            .push_block(at(sent), samples.try_into().unwrap())
            .map(<[u8]>::to_vec)
        else {
            continue;
        };
        let number = sender.stats().packets - 1;
        if let Some(delay) = (scene.network)(number) {
            arrivals.push((sent + delay, packet.clone()));
            if number % scene.duplicate_every == scene.duplicate_every - 1 {
                arrivals.push((sent + delay + 7.0, packet));
            }
        }
    }
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));

    let mut receiver = RecvPipeline::new(RecvConfig {
        neteq: scene.neteq,
        ..RecvConfig::default()
    })
    .unwrap();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut heard = Heard {
        delays: Vec::new(),
        kinds: Vec::new(),
        stretched: Vec::new(),
        stats: receiver.stats(),
        snr_db: 0.0,
    };
    let (mut sum, mut count, mut near) = (0.0, 0.0, 0);
    let (mut loudest, mut stretched) = (1e-9f32, 0);
    let mut block = SILENT_BLOCK;
    for pull in 0..scene.seconds * 100 {
        let millis =
            (pull / scene.pull_burst * scene.pull_burst) as f64 * 10.0 + scene.pull_phase_millis;
        while let Some((arrival, packet)) = arrivals.next_if(|(arrival, _)| *arrival <= millis) {
            let _any = receiver.insert_packet(at(arrival), &packet);
        }
        if let Some((second, min_delay)) = scene.min_delay_at
            && millis >= second * 1000.0
        {
            receiver.set_min_delay(min_delay);
        }
        let info = receiver.get_audio(at(millis), &mut block);
        heard.kinds.push(info.kind);
        let stats = receiver.stats();
        let level = 10f32.powf(Level::of(&block).rms_dbfs / 20.0);
        loudest = loudest.max(level);
        let so_far = stats.accelerated_samples + stats.expanded_samples;
        if std::mem::replace(&mut stretched, so_far) != so_far {
            heard.stretched.push(level);
        }
        let Some(time) = info.time else { continue };
        let captured = time.0 as f64 / 48.0 * slow;
        let speaker = pull as f64 * 10.0 + scene.pull_phase_millis;
        heard.delays.push((
            millis / 1000.0,
            speaker - captured + LOOKAHEAD as f64 / 48.0 - 40.0,
        ));
        if pull % 5 == 0 && pull > 500 {
            let (snr, found) = aligned_snr(&clean, time.0 - LOOKAHEAD, near, &block);
            if let Some(snr) = snr {
                sum += snr;
                count += 1.0;
                near = found;
            }
        }
    }
    for level in &mut heard.stretched {
        *level /= loudest;
    }
    heard.stats = receiver.stats();
    heard.snr_db = sum / f64::max(count, 1.0);
    heard
}

/// SNR of a block where it fits best within 15 ms, and where that was. None in silence.
fn aligned_snr(clean: &[f32], at: i64, near: i64, block: &[f32]) -> (Option<f64>, i64) {
    let error = |shift: i64, step: usize| {
        let from = usize::try_from(at + shift).ok()?;
        let reference = clean.get(from..from + BLOCK_SAMPLES)?;
        let (mut energy, mut noise) = (1e-9, 1e-9);
        for (a, b) in reference.iter().zip(block).step_by(step) {
            energy += f64::from(a * a);
            noise += f64::from((a - b) * (a - b));
        }
        Some((noise, energy))
    };
    let mut best: Option<(f64, f64, i64)> = None;
    let around = (near - 24..=near + 24).chain((-720..=720).step_by(3));
    for shift in around {
        if let Some((noise, energy)) = error(shift, 4)
            && best.is_none_or(|(least, _, _)| noise < least)
        {
            best = Some((noise, energy, shift));
        }
    }
    match best {
        Some((noise, energy, shift)) if energy > 120.0 * 1e-5 => (
            Some((10.0 * (energy / noise).log10()).clamp(-10.0, 35.0)),
            shift,
        ),
        _silent => (None, near),
    }
}

fn switched(change: impl FnOnce(&mut NetEqConfig)) -> NetEqConfig {
    let mut config = NetEqConfig::default();
    change(&mut config);
    config
}

#[test]
fn a_clean_link_settles_at_one_frame_and_a_few_milliseconds() {
    for (frame, most) in [
        (FrameDuration::Ms20, 42.0),
        (FrameDuration::Ms10, 32.0),
        (FrameDuration::Ms60, 82.0),
    ] {
        for pull_phase_millis in [0.5, 3.0, 6.0, 9.5] {
            let encoder = EncoderConfig {
                frame,
                ..EncoderConfig::default()
            };
            let heard = play(&Scene {
                encoder,
                pull_phase_millis,
                seconds: 12,
                ..Scene::default()
            });
            heard.print(&format!("clean {frame:?} {pull_phase_millis}"));
            assert!(heard.settled(0.5) <= most, "{} ms", heard.settled(0.5));
            assert!(
                heard.settled(0.95) <= most + 5.0,
                "{} ms",
                heard.settled(0.95)
            );
            assert_eq!(heard.stats.concealed_samples, 0);
        }
    }
}

#[test]
fn a_clean_call_begins_at_its_level_and_its_voice_is_left_alone() {
    let mut untouched = 0;
    for phase in 0..10 {
        let heard = play(&Scene {
            pull_phase_millis: f64::from(phase) + 0.5,
            seconds: 8,
            ..Scene::default()
        });
        heard.print(&format!("beginning, pulled at {phase}.5 ms"));
        let stretched = heard.stats.accelerated_samples + heard.stats.expanded_samples;
        // A pull that comes late in its 10 ms begins a block too high. That goes in a pause, or not yet.
        assert!(stretched <= BLOCK_SAMPLES as u64, "{stretched} samples");
        assert!(
            heard.stretched.iter().all(|level| *level < 0.1),
            "in the midst of speech: {:?}",
            heard.stretched
        );
        untouched += u32::from(stretched == 0);
        // And the listener does not pay for it with delay, not even at first.
        let first = heard.delay(0.0, 1.0, 0.95);
        assert!(first < 47.0, "{first} ms");
    }
    assert!(untouched >= 5, "{untouched} of 10 were left alone");
}

/// 40..=100 ms, evenly spread; packets overtake one another.
fn jittery(n: u64) -> Option<f64> {
    Some(40.0 + 60.0 * random(n, 1))
}

#[test]
fn jitter_is_hidden_at_the_price_of_its_range() {
    let clean = play(&Scene::default());
    let heard = play(&Scene {
        network: jittery,
        ..Scene::default()
    });
    heard.print("jitter");
    assert!(heard.settled(0.5) < 26.5 + 60.0 + 15.0);
    assert!(heard.settled(0.95) < 26.5 + 60.0 + 25.0);
    assert!(heard.concealed_percent() < 1.0);
    assert!(
        heard.snr_db > clean.snr_db - 1.0,
        "{} of {} dB",
        heard.snr_db,
        clean.snr_db
    );
    assert_eq!(heard.stats.packets_lost, 0);
    // Most of the delay is there within a second and a half.
    assert!(
        heard.delay(1.5, 2.5, 0.5) > 60.0,
        "{}",
        heard.delay(1.5, 2.5, 0.5)
    );

    let fixed = play(&Scene {
        network: jittery,
        neteq: switched(|c| c.adaptive_target = false),
        ..Scene::default()
    });
    fixed.print("jitter, fixed target");
    assert!(fixed.concealed_percent() > 3.0);
}

#[test]
fn missing_delay_is_built_up_by_stretching_and_not_by_gaps() {
    let min_delay_at = Some((6.0, Duration::from_millis(100)));
    let heard = play(&Scene {
        min_delay_at,
        seconds: 15,
        ..Scene::default()
    });
    heard.print("more delay wanted");
    assert!(heard.delay(5.5, 6.0, 0.95) < 42.0);
    assert!(
        heard.delay(8.0, 15.0, 0.05) > 120.0,
        "{}",
        heard.delay(8.0, 15.0, 0.05)
    );
    assert!(
        heard.delay(8.0, 15.0, 0.95) < 145.0,
        "{}",
        heard.delay(8.0, 15.0, 0.95)
    );
    assert_eq!(heard.stats.concealed_samples, 0);
    let neteq = switched(|c| c.preemptive_expand = false);
    let without = play(&Scene {
        min_delay_at,
        neteq,
        seconds: 15,
        ..Scene::default()
    });
    without.print("more delay wanted, no expand");
    assert!(without.delay(8.0, 15.0, 0.95) < 50.0);
}

/// Every two seconds the radio sleeps for 100 ms and then delivers all at once.
fn bursty(n: u64) -> Option<f64> {
    Some(
        40.0 + if n % 100 < 5 {
            100.0 - 20.0 * (n % 100) as f64
        } else {
            0.0
        },
    )
}

#[test]
fn repeated_bursts_are_expected_after_a_few() {
    let heard = play(&Scene {
        network: bursty,
        ..Scene::default()
    });
    heard.print("bursts");
    assert!(heard.settled(0.5) < 26.5 + 100.0 + 20.0);
    assert!(heard.concealed_percent() < 2.0);
    let fixed = play(&Scene {
        network: bursty,
        neteq: switched(|c| c.adaptive_target = false),
        ..Scene::default()
    });
    fixed.print("bursts, fixed target");
    assert!(fixed.concealed_percent() > 2.0 * heard.concealed_percent());
}

/// One stall of 300 ms, ten seconds into the call; what waited comes at once.
fn stalled(n: u64) -> Option<f64> {
    Some(
        40.0 + if (500..515).contains(&n) {
            300.0 - 20.0 * (n - 500) as f64
        } else {
            0.0
        },
    )
}

#[test]
fn after_a_stall_the_delay_comes_back_by_acceleration() {
    let heard = play(&Scene {
        network: stalled,
        seconds: 20,
        ..Scene::default()
    });
    heard.print("stall");
    assert!(
        heard.delay(12.5, 20.0, 0.95) < 60.0,
        "{} ms",
        heard.delay(12.5, 20.0, 0.95)
    );
    assert!(heard.stats.longest_gap() < Duration::from_millis(320));
    assert_eq!(heard.stats.packets_discarded + heard.stats.packets_late, 0);
    let without = play(&Scene {
        network: stalled,
        seconds: 20,
        neteq: switched(|c| c.accelerate = false),
        ..Scene::default()
    });
    without.print("stall, no accelerate");
    assert!(
        without.delay(12.5, 20.0, 0.5) > 200.0,
        "{} ms",
        without.delay(12.5, 20.0, 0.5)
    );
}

#[test]
fn five_percent_of_random_loss_is_restored_from_copies() {
    let network: Network = |n| (random(n, 2) >= 0.05).then_some(40.0);
    let encoder = EncoderConfig {
        fec: true,
        expected_loss_percent: 10,
        ..EncoderConfig::default()
    };
    let heard = play(&Scene {
        network,
        encoder,
        ..Scene::default()
    });
    heard.print("loss 5 %");
    let without = play(&Scene {
        network,
        encoder,
        neteq: switched(|c| c.fec = false),
        ..Scene::default()
    });
    without.print("loss 5 %, no copies");
    assert!(heard.settled(0.5) < 68.0);
    assert!(heard.concealed_percent() < 1.5 && without.concealed_percent() > 4.0);
    assert!(heard.stats.frames_recovered_fec * 10 > heard.stats.packets_lost * 7);
    assert!(heard.snr_db > without.snr_db);
    assert!(
        (50..=110).contains(&heard.stats.packets_lost),
        "{} lost",
        heard.stats.packets_lost
    );
}

#[test]
fn ten_percent_of_random_loss_is_restored_from_whole_copies() {
    let scene = Scene {
        network: |n| (random(n, 2) >= 0.1).then_some(40.0),
        protection: Protection {
            mode: Mode::Red,
            loss_percent: 0,
            ..Protection::default()
        },
        ..Scene::default()
    };
    let heard = play(&scene);
    heard.print("loss 10 %, whole copies");
    let without = play(&Scene {
        neteq: switched(|c| c.red = false),
        ..scene
    });
    without.print("loss 10 %, whole copies unused");
    assert!(heard.settled(0.5) < 26.5 + 40.0 + 20.0);
    assert!(heard.concealed_percent() < 2.0 && without.concealed_percent() > 8.0);
    assert!(heard.stats.frames_recovered_red * 10 > heard.stats.packets_lost * 8);
    assert_eq!(without.stats.frames_recovered_red, 0);
    assert!(heard.snr_db > without.snr_db + 0.2);
}

/// One packet in ten is lost, three in a row.
fn threes(n: u64) -> Option<f64> {
    (n % 30 >= 3 || n < 100).then_some(40.0)
}

#[test]
fn bursts_are_spoken_again_from_deep_redundancy() {
    let scene = Scene {
        network: threes,
        protection: Protection {
            mode: Mode::Dred,
            loss_percent: 15,
            ..Protection::default()
        },
        ..Scene::default()
    };
    let heard = play(&scene);
    heard.print("bursts, deep redundancy");
    let without = play(&Scene {
        neteq: switched(|c| c.dred = false),
        ..scene
    });
    without.print("bursts, deep redundancy unused");
    // A wait as long as most of a burst.
    assert!(heard.settled(0.5) < 26.5 + 50.0 + 20.0);
    assert!(heard.concealed_percent() < 3.5 && without.concealed_percent() > 8.5);
    assert!(heard.stats.frames_recovered_dred * 10 > heard.stats.packets_lost * 6);
    assert_eq!(without.stats.frames_recovered_dred, 0);
}

#[test]
fn one_late_packet_does_not_move_time() {
    let scene = Scene {
        network: |n| Some(if n == 500 { 55.0 } else { 40.0 }),
        seconds: 14,
        ..Scene::default()
    };
    let moved = |heard: &Heard| heard.delay(10.2, 10.9, 0.5) - heard.delay(8.0, 10.0, 0.5);
    let stretched = |heard: &Heard| heard.stats.accelerated_samples + heard.stats.expanded_samples;
    let heard = play(&scene);
    heard.print("one late packet");
    assert_eq!(heard.stats.concealed_samples, 480);
    assert_eq!(stretched(&heard), 0);
    assert!(moved(&heard).abs() < 0.1, "{}", moved(&heard));
    assert_eq!(heard.stats.packets_late, 0);
    let without = play(&Scene {
        neteq: switched(|c| c.keep_time = false),
        ..scene
    });
    without.print("one late packet, played whole");
    assert!(moved(&without) > 0.5, "{}", moved(&without));
    assert!(stretched(&without) > 0 && without.stats.concealed_samples > 480);
}

#[test]
fn reordered_and_repeated_packets_cost_delay_and_no_sound() {
    let network: Network = |n| Some(if n % 10 == 3 { 75.0 } else { 40.0 });
    let heard = play(&Scene {
        network,
        duplicate_every: 7,
        ..Scene::default()
    });
    heard.print("reordering");
    assert!(heard.settled(0.5) < 26.5 + 35.0 + 15.0);
    assert!(heard.concealed_percent() < 0.5);
    assert_eq!(heard.stats.packets_lost, 0);
    assert!((213..=214).contains(&heard.stats.packets_duplicate));
}

#[test]
fn drifting_clocks_do_not_add_up() {
    let encoder = EncoderConfig {
        complexity: 0,
        ..EncoderConfig::default()
    };
    let still = switched(|c| {
        c.accelerate = false;
        c.preemptive_expand = false;
    });
    for drift_ppm in [100.0, -100.0] {
        let scene = Scene {
            drift_ppm,
            encoder,
            seconds: 240,
            ..Scene::default()
        };
        let heard = play(&scene);
        heard.print(&format!("drift {drift_ppm}"));
        assert!(
            heard.delay(200.0, 240.0, 0.5) < 45.0,
            "{} ms",
            heard.delay(200.0, 240.0, 0.5)
        );
        assert!(heard.concealed_percent() < 0.05);
        let without = play(&Scene {
            neteq: still,
            ..scene
        });
        without.print(&format!("drift {drift_ppm}, no stretching"));
        let worse = if drift_ppm > 0.0 {
            without.delay(200.0, 240.0, 0.5) > 55.0
        } else {
            without.stats.concealed_samples > heard.stats.concealed_samples
        };
        assert!(worse, "{} ms", without.delay(200.0, 240.0, 0.5));
    }
}

#[test]
fn a_device_that_pulls_two_blocks_at_once_costs_ten_milliseconds_and_no_restlessness() {
    let heard = play(&Scene {
        pull_burst: 2,
        ..Scene::default()
    });
    heard.print("pulls in pairs");
    assert!(heard.settled(0.5) < 52.0);
    assert_eq!(heard.stats.concealed_samples, 0);
    assert!(heard.stats.accelerated_samples + heard.stats.expanded_samples < 48 * 100);
}

#[test]
fn a_longer_route_is_followed_and_left_again() {
    let network: Network = |n| {
        Some(if (500..1000).contains(&n) {
            140.0
        } else {
            40.0
        })
    };
    let heard = play(&Scene {
        network,
        ..Scene::default()
    });
    heard.print("route");
    assert!(
        heard.delay(12.0, 20.0, 0.5) < 100.0 + 50.0,
        "{}",
        heard.delay(12.0, 20.0, 0.5)
    );
    assert!(
        heard.delay(23.0, 30.0, 0.5) < 50.0,
        "{}",
        heard.delay(23.0, 30.0, 0.5)
    );
    assert!(heard.stats.longest_gap() < Duration::from_millis(150));
    assert!(heard.concealed_percent() < 1.0);
}

#[test]
fn a_queue_that_fills_and_drains_leaves_no_delay_behind() {
    // From second 10 on it grows to 800 ms within two seconds, stays for three, and drains as fast as packets can.
    let network: Network = |n| {
        Some(
            40.0 + match n {
                500..600 => (n - 500) as f64 * 8.0,
                600..750 => 800.0,
                750..790 => 800.0 - (n - 749) as f64 * 20.0,
                _ => 0.0,
            }
            .max(0.0),
        )
    };
    let heard = play(&Scene {
        network,
        seconds: 25,
        ..Scene::default()
    });
    heard.print("queue");
    assert!(
        heard.delay(17.5, 25.0, 0.95) < 80.0,
        "{} ms",
        heard.delay(17.5, 25.0, 0.95)
    );
    // While it grows, sound is slowed down rather than chopped up.
    assert!(heard.concealed_percent() < 0.5);
    let neteq = switched(|c| c.preemptive_expand = false);
    let without = play(&Scene {
        network,
        neteq,
        seconds: 25,
        ..Scene::default()
    });
    without.print("queue, no expand");
    assert!(without.concealed_percent() > 2.0);
}

#[test]
fn a_long_outage_fades_to_noise_and_ends_at_once() {
    let network: Network = |n| (!(500..600).contains(&n)).then_some(40.0);
    let heard = play(&Scene {
        network,
        seconds: 15,
        ..Scene::default()
    });
    heard.print("outage");
    assert!(heard.kinds.contains(&AudioKind::ComfortNoise));
    let gap = heard.stats.longest_gap();
    assert!(
        gap > Duration::from_millis(1980) && gap < Duration::from_millis(2050),
        "{gap:?}"
    );
    assert_eq!(heard.stats.concealment_events, 1);
    assert!(heard.delay(12.5, 15.0, 0.95) < 45.0);
    // And the same when everything comes after all, two seconds late.
    let late: Network = |n| {
        Some(if (500..600).contains(&n) {
            2040.0 - (n - 500) as f64 * 20.0
        } else {
            40.0
        })
    };
    let heard = play(&Scene {
        network: late,
        seconds: 18,
        ..Scene::default()
    });
    heard.print("late outage");
    assert!(
        heard.delay(14.0, 18.0, 0.95) < 60.0,
        "{} ms",
        heard.delay(14.0, 18.0, 0.95)
    );
}
