//! The simulated world does what it says: the same bytes for the same seed, and every impairment as asked.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use ahoy::sim::{
    Conditions, DropReason, EPOCH_MILLIS, Fault, Limits, LinkId, Loss, PacketEvent, Policer, Rate,
    SimError, SimNode, TraceHash, World,
};
use ahoy_tests::{plain_quic, udp::Udp};
use ahoy_transport::runtime::{Runtime, RuntimeExt, timeout};
use bytes::Bytes;
use quinn::udp::EcnCodepoint;

const SEED: u64 = 0x00a0_0001;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn runtime(world: &World, node: SimNode) -> Arc<dyn Runtime> {
    world.runtime(node)
}

/// Two nodes, 10.0.0.1 and 10.0.0.2, with `conditions` on the link of the first in both directions.
fn two_nodes(seed: u64, conditions: Conditions) -> (World, SimNode, SimNode) {
    let world = World::new(seed);
    let a = world.add_node("alice", &["10.0.0.1".parse().unwrap()]);
    let b = world.add_node("bob", &["10.0.0.2".parse().unwrap()]);
    world.set_link(a, conditions);
    (world, a, b)
}

/// Echoes QUIC datagrams on port 4433 of `node` for ever.
fn serve_quic_echo(world: &World, node: SimNode) {
    let runtime = runtime(world, node);
    drop(world.spawn(node, async move {
        let endpoint = plain_quic::endpoint(&runtime, addr("0.0.0.0:4433")).unwrap();
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else {
                continue;
            };
            while let Ok(datagram) = connection.read_datagram().await {
                connection.send_datagram(datagram).unwrap();
            }
        }
    }));
}

/// Sends `count` datagrams, one every 20 ms, to the echo and returns how many came back.
async fn quic_echo_client(runtime: Arc<dyn Runtime>, count: u32) -> u32 {
    let endpoint = plain_quic::endpoint(&runtime, addr("0.0.0.0:0")).unwrap();
    let config = plain_quic::client_config(&runtime);
    let connection = endpoint
        .connect_with(config, addr("10.0.0.2:4433"), "bob")
        .unwrap()
        .await
        .unwrap();
    let reader = connection.clone();
    let receive = async {
        let mut echoed = 0;
        while let Some(Ok(_)) = timeout(&*runtime, ms(500), reader.read_datagram()).await {
            echoed += 1;
        }
        echoed
    };
    let send = async {
        for number in 0..count {
            let mut payload = vec![0; 120];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            connection.send_datagram(Bytes::from(payload)).unwrap();
            runtime.sleep(ms(20)).await;
        }
    };
    let (echoed, ()) = tokio::join!(biased; receive, send);
    connection.close(plain_quic::DONE, b"");
    endpoint.wait_idle().await;
    echoed
}

#[test]
fn udp_travels_between_two_nodes_after_exactly_the_delay() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(20)));
    let (alice, bob) = (runtime(&world, a), runtime(&world, b));
    let server = Udp::bind(&*bob, addr("10.0.0.2:5000")).unwrap();
    drop(world.spawn(b, async move {
        while let Ok(datagram) = server.recv().await {
            server.send(datagram.from, &datagram.contents).unwrap();
        }
    }));
    let reply = world
        .block_on(a, async move {
            let socket = Udp::bind(&*alice, addr("0.0.0.0:0")).unwrap();
            socket.send(addr("10.0.0.2:5000"), b"hello").unwrap();
            socket.recv().await.unwrap()
        })
        .unwrap();
    assert_eq!(reply.contents, b"hello");
    assert_eq!(reply.from, addr("10.0.0.2:5000"));
    assert_eq!(world.elapsed(), ms(40));
}

#[test]
fn quic_datagrams_are_echoed_between_two_nodes() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(20)));
    serve_quic_echo(&world, b);
    let echoed = world
        .block_on(a, quic_echo_client(runtime(&world, a), 100))
        .unwrap();
    assert_eq!(echoed, 100);
}

/// Set for the process that the test below starts.
const CHILD: &str = "AHOY_SIM_TEST_CHILD";

#[test]
fn another_process_gives_the_same_bytes() {
    let hash = format!("{:?}", lossy_run(SEED));
    if std::env::var_os(CHILD).is_some() {
        eprintln!("{hash}");
        return;
    }
    // Addresses in memory and the seeds of hash maps differ there.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "another_process_gives_the_same_bytes",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        printed.contains(&hash),
        "{hash} (seed {SEED}), but {printed}"
    );
}

fn lossy_run(seed: u64) -> (TraceHash, u32) {
    let (world, a, b) = two_nodes(
        seed,
        Conditions {
            delay: ms(20),
            jitter: ms(10),
            jitter_reorders: true,
            reorder: 0.02,
            reorder_by: ms(5),
            duplicate: 0.02,
            loss: Loss::bursts(0.05, 3.0),
            ..Conditions::default()
        },
    );
    serve_quic_echo(&world, b);
    let echoed = world
        .block_on(a, quic_echo_client(runtime(&world, a), 500))
        .unwrap();
    (world.trace_hash(), echoed)
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let first = lossy_run(SEED);
    let second = lossy_run(SEED);
    let other = lossy_run(SEED + 1);
    println!("seed {SEED}: {first:?}");
    assert_eq!(first, second);
    assert_ne!(first.0.shape, other.0.shape);
    assert_ne!(first.0.bytes, other.0.bytes);
}

#[test]
fn ten_minutes_of_datagrams_take_about_a_second() {
    // Wall-clock time is only reported: a slow machine is no defect.
    #[expect(clippy::disallowed_methods, reason = "measures the simulation itself")]
    let start = std::time::Instant::now();
    let (world, a, b) = two_nodes(
        SEED,
        Conditions {
            delay: ms(20),
            loss: Loss::Random(0.05),
            ..Conditions::default()
        },
    );
    serve_quic_echo(&world, b);
    let echoed = world
        .block_on(a, quic_echo_client(runtime(&world, a), 30_000))
        .unwrap();
    println!(
        "{:?} of virtual time, {} packets, {echoed} of 30000 echoed, in {:?}",
        world.elapsed(),
        world.stats().sent,
        start.elapsed()
    );
    assert!(world.elapsed() > Duration::from_secs(600));
    let fraction = f64::from(echoed) / 30_000.0;
    assert!((fraction - 0.95 * 0.95).abs() < 0.01, "echoed {fraction}");
}

// Impairments, measured with plain datagrams from alice to bob.

const BOB: &str = "10.0.0.2:5000";

/// Reads and forgets everything that comes to port 5000 of `node`.
fn drain(world: &World, node: SimNode) {
    let runtime = runtime(world, node);
    drop(world.spawn(node, async move {
        let socket = Udp::bind(&*runtime, addr("0.0.0.0:5000")).unwrap();
        while socket.recv().await.is_ok() {}
    }));
}

/// Sends `count` numbered datagrams of `bytes` UDP payload from `node` to bob, one each `interval`.
async fn send_numbered(runtime: Arc<dyn Runtime>, count: u32, bytes: usize, interval: Duration) {
    let socket = Udp::bind(&*runtime, addr("0.0.0.0:0")).unwrap();
    for number in 0..count {
        let mut payload = vec![0; bytes];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        socket.send(addr(BOB), &payload).unwrap();
        runtime.sleep(interval).await;
    }
}

fn number(packet: &PacketEvent) -> u32 {
    u32::from_be_bytes(*packet.contents.first_chunk().unwrap())
}

/// A log of what happens to packets on their way to bob.
fn log_of(world: &World) -> Arc<Mutex<Vec<PacketEvent>>> {
    let log = Arc::<Mutex<Vec<PacketEvent>>>::default();
    let shared = Arc::clone(&log);
    world.observe(move |packet| shared.lock().unwrap().push(packet.clone()));
    log
}

/// The fate of `count` datagrams of `bytes` bytes, in the order in which they met it.
fn measure(
    conditions: &Conditions,
    count: u32,
    bytes: usize,
    interval: Duration,
) -> Vec<PacketEvent> {
    let (world, a, b) = two_nodes(SEED, Conditions::default());
    world.set_conditions(LinkId::Uplink(a), conditions.clone());
    let log = log_of(&world);
    drain(&world, b);
    world
        .block_on(a, send_numbered(runtime(&world, a), count, bytes, interval))
        .unwrap();
    world.run_for(Duration::from_secs(60)).unwrap();
    let log = std::mem::take(&mut *log.lock().unwrap());
    eprintln!("seed {SEED}: {:?}", world.stats());
    log
}

fn travel_times(log: &[PacketEvent]) -> Vec<Duration> {
    log.iter()
        .filter(|packet| packet.dropped.is_none())
        .map(|packet| packet.at - packet.sent_at)
        .collect()
}

/// Fraction of arrivals that a later-sent packet has overtaken.
fn overtaken(log: &[PacketEvent]) -> f64 {
    let mut highest = 0;
    let mut late = 0;
    for packet in log {
        let number = number(packet);
        if number < highest {
            late += 1;
        }
        highest = highest.max(number);
    }
    f64::from(late) / log.len() as f64
}

/// Fraction lost, and mean number of packets lost in a row.
fn losses(log: &[PacketEvent]) -> (f64, f64) {
    let mut lost = 0_u32;
    let mut bursts = 0_u32;
    let mut before = false;
    for packet in log {
        let now = packet.dropped == Some(DropReason::Lost);
        lost += u32::from(now);
        bursts += u32::from(now && !before);
        before = now;
    }
    (
        f64::from(lost) / log.len() as f64,
        f64::from(lost) / f64::from(bursts.max(1)),
    )
}

#[track_caller]
fn assert_near(measured: f64, expected: f64, tolerance: f64) {
    assert!(
        (measured - expected).abs() <= tolerance,
        "measured {measured}, expected {expected} +- {tolerance} (seed {SEED})"
    );
}

#[test]
fn an_ideal_link_delivers_everything_once_in_order_and_at_once() {
    let log = measure(&Conditions::default(), 1000, 100, ms(1));
    assert_eq!(log.len(), 1000);
    assert_eq!(losses(&log).0, 0.0);
    assert_eq!(overtaken(&log), 0.0);
    assert!(travel_times(&log).iter().all(Duration::is_zero));
}

#[test]
fn random_loss_loses_the_asked_fraction_without_memory() {
    let lossy = |loss| Conditions {
        loss,
        ..Conditions::default()
    };
    let (fraction, burst) = losses(&measure(&lossy(Loss::Random(0.2)), 20_000, 100, ms(1)));
    assert_near(fraction, 0.2, 0.01);
    // Independent losses come in runs of 1 / (1 - p).
    assert_near(burst, 1.25, 0.05);
    let (fraction, _) = losses(&measure(&lossy(Loss::Random(1.0)), 100, 100, ms(1)));
    assert_eq!(fraction, 1.0);
}

#[test]
fn gilbert_elliott_loss_has_the_asked_fraction_and_mean_burst() {
    for (asked, length) in [(0.1, 8.0), (0.2, 3.0)] {
        let conditions = Conditions {
            loss: Loss::bursts(asked, length),
            ..Conditions::default()
        };
        let (fraction, burst) = losses(&measure(&conditions, 40_000, 100, ms(1)));
        assert_near(fraction, asked, 0.015);
        assert_near(burst, length, 0.1 * length);
    }
}

#[test]
fn gilbert_elliott_loss_can_be_partial_in_both_states() {
    let conditions = Conditions {
        loss: Loss::GilbertElliott {
            enter: 0.1,
            exit: 0.1,
            good: 0.02,
            bad: 0.5,
        },
        ..Conditions::default()
    };
    let (fraction, _) = losses(&measure(&conditions, 40_000, 100, ms(1)));
    assert_near(fraction, 0.26, 0.02);
}

#[test]
fn jitter_spreads_the_delay_and_reorders_only_where_allowed() {
    let mut conditions = Conditions {
        delay: ms(20),
        jitter: ms(10),
        jitter_reorders: true,
        ..Conditions::default()
    };
    let log = measure(&conditions, 10_000, 100, ms(2));
    let times = travel_times(&log);
    let mean = times.iter().map(Duration::as_secs_f64).sum::<f64>() / times.len() as f64;
    assert_near(mean, 0.025, 0.0002);
    assert!(times.iter().min().unwrap() < &Duration::from_micros(20_020));
    assert!(times.iter().max().unwrap() > &Duration::from_micros(29_980));
    assert!(times.iter().all(|time| (ms(20)..=ms(30)).contains(time)));
    assert!(overtaken(&log) > 0.3, "{}", overtaken(&log));

    conditions.jitter_reorders = false;
    let log = measure(&conditions, 10_000, 100, ms(2));
    assert_eq!(overtaken(&log), 0.0);
    assert!(
        travel_times(&log)
            .iter()
            .all(|time| (ms(20)..=ms(30)).contains(time))
    );
}

#[test]
fn reordering_holds_back_the_asked_fraction() {
    let conditions = Conditions {
        delay: ms(20),
        reorder: 0.1,
        reorder_by: ms(5),
        ..Conditions::default()
    };
    let log = measure(&conditions, 10_000, 100, ms(2));
    let late = travel_times(&log)
        .iter()
        .filter(|time| **time == ms(25))
        .count();
    assert_near(late as f64 / 10_000.0, 0.1, 0.01);
    assert_near(overtaken(&log), 0.1, 0.015);
}

#[test]
fn duplication_delivers_the_asked_fraction_twice() {
    let conditions = Conditions {
        duplicate: 0.1,
        ..Conditions::default()
    };
    let log = measure(&conditions, 10_000, 100, ms(2));
    let copies = log.iter().filter(|packet| packet.duplicate).count();
    assert_near(copies as f64 / 10_000.0, 0.1, 0.01);
    assert_eq!(log.len(), 10_000 + copies);
}

#[test]
fn a_policer_drops_what_comes_too_fast_and_delays_nothing() {
    let conditions = Conditions {
        delay: ms(20),
        policer: Some(Policer {
            bits_per_second: 1_000_000,
            burst_bytes: 12_500,
        }),
        ..Conditions::default()
    };
    let passed = |log: &[PacketEvent]| {
        assert!(travel_times(log).iter().all(|time| *time == ms(20)));
        travel_times(log).len()
    };
    // IP packets of 1250 bytes, 10 ms each at that rate.
    assert_eq!(passed(&measure(&conditions, 500, 1222, ms(10))), 500);
    // Twice the rate: half of them, and the ten that the bucket held.
    let log = measure(&conditions, 1000, 1222, ms(5));
    assert_near(passed(&log) as f64, 510.0, 2.0);
    let dropped = log.iter().filter(|packet| packet.dropped.is_some());
    assert!(dropped.clone().count() > 0);
    assert!(
        dropped
            .clone()
            .all(|packet| packet.dropped == Some(DropReason::QueueFull))
    );
}

#[test]
fn a_rate_limited_link_delays_by_its_queue_and_drops_the_tail() {
    // 1222 bytes of payload make IP packets of 1250 bytes: 10 ms each at 1 Mbit/s.
    let rate = Rate {
        bits_per_second: 1_000_000,
        queue_bytes: 12_500,
    };
    let conditions = Conditions {
        rate: Some(rate),
        ..Conditions::default()
    };
    // One every 20 ms: half the capacity, nothing waits.
    let log = measure(&conditions, 500, 1222, ms(20));
    assert!(travel_times(&log).iter().all(|time| *time == ms(10)));
    assert_eq!(log.len(), 500);

    // One every 5 ms: twice the capacity. The queue fills to its ten packets and half is dropped.
    let log = measure(&conditions, 2000, 1222, ms(5));
    let times = travel_times(&log);
    assert_eq!(times.iter().min(), Some(&ms(10)));
    let longest = times.iter().max().copied().unwrap();
    assert!((ms(90)..=ms(100)).contains(&longest), "{longest:?}");
    let dropped = log
        .iter()
        .filter(|packet| packet.dropped == Some(DropReason::QueueFull))
        .count();
    assert_near(dropped as f64 / 2000.0, 0.5, 0.02);
    // What gets through comes exactly at the rate.
    let arrivals: Vec<Duration> = log
        .iter()
        .filter(|packet| packet.dropped.is_none())
        .map(|packet| packet.at)
        .collect();
    assert!(
        arrivals
            .windows(2)
            .skip(20)
            .all(|pair| pair[1] - pair[0] == ms(10))
    );
}

#[test]
fn a_rate_change_holds_for_what_already_waits() {
    let (world, a, b) = two_nodes(SEED, Conditions::default());
    let uplink = LinkId::Uplink(a);
    let rate = |bits_per_second| {
        Some(Rate {
            bits_per_second,
            queue_bytes: 100_000,
        })
    };
    world.apply(Fault::Rate {
        link: uplink,
        rate: rate(1_000_000),
    });
    // Ten packets of 10 ms each; after 35 ms the capacity falls to a tenth, and later it returns.
    world.at(
        ms(35),
        Fault::Rate {
            link: uplink,
            rate: rate(100_000),
        },
    );
    world.at(
        ms(250),
        Fault::Rate {
            link: uplink,
            rate: None,
        },
    );
    let log = log_of(&world);
    drain(&world, b);
    world
        .block_on(a, send_numbered(runtime(&world, a), 10, 1222, ms(0)))
        .unwrap();
    assert_eq!(world.queued_bytes(uplink), 12_500);
    world.run_for(Duration::from_secs(2)).unwrap();
    let arrivals: Vec<u128> = log
        .lock()
        .unwrap()
        .iter()
        .map(|packet| packet.at.as_millis())
        .collect();
    assert_eq!(arrivals, [10, 20, 30, 40, 140, 240, 340, 340, 340, 340]);
    assert_eq!(world.queued_bytes(uplink), 0);
}

#[test]
fn packets_above_the_mtu_vanish() {
    let conditions = Conditions {
        mtu_bytes: 1280,
        ..Conditions::default()
    };
    let fits = measure(&conditions, 10, 1280 - 28, ms(1));
    assert!(fits.iter().all(|packet| packet.dropped.is_none()));
    let too_big = measure(&conditions, 10, 1280 - 27, ms(1));
    assert!(
        too_big
            .iter()
            .all(|packet| packet.dropped == Some(DropReason::TooBig))
    );
}

#[test]
fn ecn_marks_and_segments_pass() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(1)));
    let (alice, bob) = (runtime(&world, a), runtime(&world, b));
    let sender = Udp::bind(&*alice, addr("10.0.0.1:7000")).unwrap();
    let receiver = Udp::bind(&*bob, addr(BOB)).unwrap();
    sender
        .send_as(addr(BOB), b"aaaabbbbcc", Some(4), Some(EcnCodepoint::Ect1))
        .unwrap();
    for expected in [&b"aaaa"[..], b"bbbb", b"cc"] {
        let datagram = world.block_on(b, receiver.recv()).unwrap().unwrap();
        assert_eq!(datagram.contents, expected);
        assert_eq!(datagram.ecn, Some(EcnCodepoint::Ect1));
        assert_eq!(datagram.from, addr("10.0.0.1:7000"));
        assert_eq!(datagram.to, Some("10.0.0.2".parse().unwrap()));
    }
}

#[test]
fn a_socket_that_nobody_reads_drops_and_counts_what_does_not_fit() {
    let (world, a, b) = two_nodes(SEED, Conditions::default());
    let bob = runtime(&world, b);
    let socket = Udp::bind(&*bob, addr(BOB)).unwrap();
    world
        .block_on(a, send_numbered(runtime(&world, a), 1000, 768, ms(1)))
        .unwrap();
    // 768 bytes and 256 of bookkeeping: 208 fit into 212 992.
    assert_eq!(world.node_stats(b).delivered, 208);
    assert_eq!(
        world.node_stats(a).dropped_by(DropReason::ReceiveQueueFull),
        792
    );
    let first = world.block_on(b, socket.recv()).unwrap().unwrap();
    assert_eq!(first.contents[..4], [0; 4]);
}

#[test]
fn a_pair_override_replaces_both_links_in_one_direction() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(50)));
    world.set_conditions(
        LinkId::Pair { from: a, to: b },
        Conditions::with_delay(ms(3)),
    );
    assert_eq!(round_trip(&world, a, b), Some(ms(53)));
    // Only looking at the other direction must not change it.
    let back = LinkId::Pair { from: b, to: a };
    assert_eq!(world.conditions(back), None);
    assert_eq!(round_trip(&world, a, b), Some(ms(53)));
}

// Faults.

/// One datagram there and one back, or nothing within a second.
fn round_trip(world: &World, a: SimNode, b: SimNode) -> Option<Duration> {
    let (alice, bob) = (runtime(world, a), runtime(world, b));
    let server = Udp::bind(&*bob, addr(BOB)).unwrap();
    let start = world.elapsed();
    world
        .block_on(a, async {
            let client = Udp::bind(&*alice, addr("0.0.0.0:0")).unwrap();
            client.send(addr(BOB), b"there").unwrap();
            let there_and_back = async {
                let datagram = server.recv().await.unwrap();
                server.send(datagram.from, b"back").unwrap();
                client.recv().await.unwrap()
            };
            timeout(&*alice, Duration::from_secs(1), there_and_back).await
        })
        .unwrap()
        .map(|_| world.elapsed() - start)
}

#[test]
fn faults_happen_at_their_time_and_can_be_undone() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(10)));
    assert_eq!(round_trip(&world, a, b), Some(ms(20)));

    world.apply(Fault::BlackHole { from: b, to: a });
    assert_eq!(round_trip(&world, a, b), None);
    assert_eq!(world.node_stats(b).dropped_by(DropReason::Blocked), 1);
    assert_eq!(world.node_stats(a).dropped_by(DropReason::Blocked), 0);
    world.apply(Fault::Heal);
    assert_eq!(round_trip(&world, a, b), Some(ms(20)));

    world.apply(Fault::Partition {
        left: vec![a],
        right: vec![b],
    });
    assert_eq!(round_trip(&world, a, b), None);
    assert_eq!(world.node_stats(a).dropped_by(DropReason::Blocked), 1);
    let heal_at = world.elapsed() + ms(5);
    world.at(heal_at, Fault::Heal);
    world.run_for(ms(5)).unwrap();
    assert_eq!(round_trip(&world, a, b), Some(ms(20)));

    for node in [a, b] {
        world.apply(Fault::LinkDown(node));
        assert_eq!(round_trip(&world, a, b), None);
        assert_eq!(world.runtime(node).interface_addrs().len(), 1);
        world.apply(Fault::LinkUp(node));
        assert_eq!(round_trip(&world, a, b), Some(ms(20)));
    }
    assert_eq!(world.node_stats(a).dropped_by(DropReason::LinkDown), 2);

    world.apply(Fault::Conditions {
        link: LinkId::Uplink(a),
        conditions: Conditions::with_delay(ms(30)),
    });
    assert_eq!(round_trip(&world, a, b), Some(ms(40)));
}

#[test]
fn a_trace_changes_the_link_as_time_goes_on() {
    let (world, a, b) = two_nodes(SEED, Conditions::default());
    world.play(
        LinkId::Uplink(a),
        [(0, 10), (100, 80), (200, 20)].map(|(at, delay)| {
            (
                ms(at),
                Conditions {
                    delay: ms(delay),
                    jitter_reorders: true,
                    ..Conditions::default()
                },
            )
        }),
    );
    let log = log_of(&world);
    drain(&world, b);
    world.run_for(Duration::ZERO).unwrap();
    world
        .block_on(a, send_numbered(runtime(&world, a), 6, 100, ms(50)))
        .unwrap();
    world.run_for(ms(100)).unwrap();
    let mut log = log.lock().unwrap().clone();
    log.sort_by_key(number);
    let times: Vec<u128> = travel_times(&log).iter().map(Duration::as_millis).collect();
    assert_eq!(times, [10, 10, 80, 80, 20, 20]);
}

#[test]
fn a_node_that_changes_networks_keeps_its_wildcard_socket_and_loses_its_old_address() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(10)));
    let (alice, bob) = (runtime(&world, a), runtime(&world, b));
    let client = Udp::bind(&*alice, addr("0.0.0.0:6000")).unwrap();
    let server = Udp::bind(&*bob, addr(BOB)).unwrap();
    world.apply(Fault::Addresses {
        node: a,
        addresses: vec!["192.0.2.9".parse().unwrap()],
    });
    client.send(addr(BOB), b"from elsewhere").unwrap();
    let datagram = world.block_on(b, server.recv()).unwrap().unwrap();
    assert_eq!(datagram.from, addr("192.0.2.9:6000"));
    server.send(addr("10.0.0.1:6000"), b"nobody").unwrap();
    world.run_for(ms(50)).unwrap();
    assert_eq!(world.node_stats(b).dropped_by(DropReason::NoRoute), 1);
    assert_eq!(
        alice.interface_addrs(),
        ["127.0.0.1", "192.0.2.9"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap())
    );
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_killed_node_is_silent_at_once_and_comes_back_empty() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(10)));
    let old = runtime(&world, b);
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = SetOnDrop(Arc::clone(&dropped));
    let task_runtime = Arc::clone(&old);
    let outcome = world.spawn(b, async move {
        let _guard = guard;
        let socket = Udp::bind(&*task_runtime, addr("0.0.0.0:9")).unwrap();
        loop {
            socket.send(addr("10.0.0.1:9"), b"alive").unwrap();
            task_runtime.sleep(ms(10)).await;
        }
    });
    let server = Udp::bind(&*old, addr(BOB)).unwrap();
    world.at(ms(95), Fault::Kill(b));
    world.run_for(ms(94)).unwrap();
    assert_eq!(world.node_stats(b).sent, 10);
    assert!(!dropped.load(Ordering::Relaxed));
    world.run_for(ms(500)).unwrap();
    assert_eq!(world.node_stats(b).sent, 10);
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!(world.task_count(b), 0);
    assert!(!world.is_alive(b));
    let mut outcome = outcome;
    assert!(outcome.try_recv().is_err());

    // Nothing works in the old life, and nobody answers.
    server.send(addr("10.0.0.1:9"), b"ghost").unwrap();
    assert_eq!(world.node_stats(b).sent, 10);
    assert_eq!(
        old.bind_udp(addr(BOB)).unwrap_err().kind(),
        io::ErrorKind::NetworkDown
    );
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = SetOnDrop(Arc::clone(&dropped));
    old.spawn(Box::pin(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    }));
    assert!(dropped.load(Ordering::Relaxed));
    world
        .block_on(a, send_numbered(runtime(&world, a), 3, 100, ms(1)))
        .unwrap();
    world.run_for(ms(50)).unwrap();
    assert_eq!(world.node_stats(a).dropped_by(DropReason::NodeDown), 3);

    // The next life has the address, the free port, and other randomness.
    let before: [u8; 32] = old.random_array();
    let new = world.restart(b);
    assert_ne!(before, new.random_array::<32>());
    assert_eq!(round_trip(&world, a, b), Some(ms(20)));
    drop(server);
    assert!(new.bind_udp(addr(BOB)).is_ok());
}

#[test]
fn a_restart_in_the_timeline_runs_the_boot_program() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(10)));
    let boots = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&boots);
    world.set_boot(b, move |runtime| {
        counter.fetch_add(1, Ordering::Relaxed);
        let server = Udp::bind(&*runtime, addr(BOB)).unwrap();
        runtime
            .spawn_task(async move {
                while let Ok(datagram) = server.recv().await {
                    server.send(datagram.from, b"reborn").unwrap();
                }
            })
            .detach();
    });
    world.at(ms(10), Fault::Restart(b));
    world.at(ms(20), Fault::Restart(b));
    world.run_for(ms(30)).unwrap();
    assert_eq!(boots.load(Ordering::Relaxed), 2);
    let alice = runtime(&world, a);
    let reply = world
        .block_on(a, async {
            let socket = Udp::bind(&*alice, addr("0.0.0.0:0")).unwrap();
            socket.send(addr(BOB), b"anyone?").unwrap();
            socket.recv().await.unwrap()
        })
        .unwrap();
    assert_eq!(reply.contents, b"reborn");
}

#[test]
fn a_quic_peer_that_is_killed_says_no_word() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(10)));
    serve_quic_echo(&world, b);
    let client = world.spawn(a, quic_echo_client(runtime(&world, a), 100));
    world.run_for(ms(1000)).unwrap();
    let sent = world.node_stats(b).sent;
    assert!(sent > 40, "the echo was talking: {sent}");
    world.kill(b);
    let echoed = world.block_on(a, client).unwrap().unwrap();
    assert_eq!(world.node_stats(b).sent, sent);
    assert!((40..55).contains(&echoed), "{echoed}");
}

// Sockets, clocks, errors.

#[test]
fn binding_follows_the_rules_of_an_operating_system() {
    let world = World::new(SEED);
    let ips = ["10.0.0.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
    let a = world.add_node("alice", &ips);
    let runtime = runtime(&world, a);
    let bind = |text: &str| runtime.bind_udp(addr(text));
    let kind = |text: &str| bind(text).unwrap_err().kind();

    let first = bind("10.0.0.1:0").unwrap();
    let second = bind("0.0.0.0:0").unwrap();
    let ports = [&first, &second].map(|socket| socket.local_addr().unwrap().port());
    assert!(ports[0] >= 49_152 && ports[0] != ports[1]);

    assert_eq!(kind("10.0.0.9:80"), io::ErrorKind::AddrNotAvailable);
    let wildcard = bind("0.0.0.0:80").unwrap();
    assert_eq!(kind("10.0.0.1:80"), io::ErrorKind::AddrInUse);
    assert_eq!(kind("0.0.0.0:80"), io::ErrorKind::AddrInUse);
    assert_eq!(kind("[::]:80"), io::ErrorKind::AddrInUse);
    let six = bind("[2001:db8::1]:80").unwrap();
    drop(wildcard);
    let four = bind("10.0.0.1:80").unwrap();
    let loopback = bind("127.0.0.1:80").unwrap();
    assert_eq!(kind("[::]:80"), io::ErrorKind::AddrInUse);
    drop((six, four, loopback));
    assert!(bind("[::]:80").is_ok());
}

#[test]
fn loopback_stays_inside_and_the_ipv6_wildcard_speaks_ipv4() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(10)));
    let (alice, bob) = (runtime(&world, a), runtime(&world, b));
    let inside = Udp::bind(&*bob, addr("127.0.0.1:70")).unwrap();
    let dual = Udp::bind(&*bob, addr("[::]:71")).unwrap();
    dual.send(addr("127.0.0.1:70"), b"hello").unwrap();
    let datagram = world.block_on(b, inside.recv()).unwrap().unwrap();
    assert_eq!(datagram.from, addr("127.0.0.1:71"));
    assert_eq!(world.elapsed(), Duration::ZERO);

    let client = Udp::bind(&*alice, addr("10.0.0.1:72")).unwrap();
    client.send(addr("127.0.0.1:70"), b"not mine").unwrap();
    client.send(addr("10.0.0.2:71"), b"mapped").unwrap();
    let datagram = world.block_on(b, dual.recv()).unwrap().unwrap();
    assert_eq!(datagram.from, addr("[::ffff:10.0.0.1]:72"));
    dual.send(datagram.from, b"back").unwrap();
    let datagram = world.block_on(a, client.recv()).unwrap().unwrap();
    assert_eq!(datagram.from, addr("10.0.0.2:71"));
    assert_eq!(world.node_stats(a).dropped_by(DropReason::NoSocket), 1);
}

#[test]
fn clocks_and_randomness_belong_to_a_node() {
    let (world, a, b) = two_nodes(SEED, Conditions::default());
    world.set_clock_offset_millis(b, -90_000);
    world.run_for(ms(1500)).unwrap();
    assert_eq!(runtime(&world, a).unix_millis(), EPOCH_MILLIS + 1500);
    assert_eq!(
        runtime(&world, b).unix_millis(),
        EPOCH_MILLIS + 1500 - 90_000
    );
    let [first, second] = [a, a].map(|node| world.runtime(node).random_array::<32>());
    assert_ne!(first, second, "two handles share one stream");
    let other = World::new(SEED);
    let twin = other.add_node("alice", &[]);
    assert_eq!(first, other.runtime(twin).random_array::<32>());
    assert_ne!(first, world.runtime(b).random_array::<32>());
}

#[test]
fn timers_fire_in_order_of_deadline_and_then_of_registration() {
    let (world, a, _) = two_nodes(SEED, Conditions::default());
    let order = Arc::<Mutex<Vec<(u32, u128)>>>::default();
    for (name, after) in [(1, 30), (2, 10), (3, 30), (4, 20), (5, 10)] {
        let runtime = world.runtime(a);
        let order = Arc::clone(&order);
        drop(world.spawn(a, async move {
            runtime.sleep(ms(after)).await;
            let at = runtime.elapsed().as_millis();
            order.lock().unwrap().push((name, at));
        }));
    }
    world.run_for(ms(100)).unwrap();
    assert_eq!(
        *order.lock().unwrap(),
        [(2, 10), (5, 10), (4, 20), (1, 30), (3, 30)]
    );
}

#[test]
fn a_timer_can_be_moved_both_ways() {
    let (world, a, _) = two_nodes(SEED, Conditions::default());
    let runtime = world.runtime(a);
    let start = quinn::Runtime::now(&*runtime);
    let woken = world
        .block_on(a, async {
            let mut sleep = runtime.sleep(ms(100));
            assert_eq!(timeout(&*runtime, ms(10), &mut sleep).await, None);
            sleep.reset(start + ms(20));
            (&mut sleep).await;
            let early = runtime.elapsed();
            sleep.reset(start + ms(300));
            (&mut sleep).await;
            (early, runtime.elapsed())
        })
        .unwrap();
    assert_eq!(woken, (ms(20), ms(300)));
}

#[test]
fn waiting_for_nothing_is_a_named_deadlock() {
    let (world, a, _) = two_nodes(SEED, Conditions::default());
    let runtime = world.runtime(a);
    let error = world
        .block_on(a, async {
            runtime.sleep(ms(5)).await;
            std::future::pending::<()>().await;
        })
        .unwrap_err();
    assert!(matches!(error, SimError::Deadlock { at, .. } if at == ms(5)));
    let text = error.to_string();
    assert!(
        text.contains(&SEED.to_string()) && text.contains("alice"),
        "{text}"
    );
}

#[test]
fn a_run_that_never_ends_is_stopped_by_its_limits() {
    let (world, a, b) = two_nodes(SEED, Conditions::default());
    world.set_limits(Limits {
        time: Duration::from_secs(10),
        ..Limits::default()
    });
    let runtime = world.runtime(a);
    let ticking = async {
        loop {
            runtime.sleep(ms(30)).await;
        }
    };
    let error = world
        .block_on::<_>(a, ticking)
        .map(|(): ()| ())
        .unwrap_err();
    assert!(matches!(error, SimError::TimeUp { at, .. } if at == Duration::from_secs(10)));

    let error = world
        .block_on(a, async {
            loop {
                tokio::task::yield_now().await;
            }
        })
        .map(|(): ()| ())
        .unwrap_err();
    assert!(matches!(error, SimError::BusyLoop { .. }), "{error}");

    world.at(world.elapsed() + ms(1), Fault::Kill(b));
    let error = world.block_on(b, std::future::pending::<()>()).unwrap_err();
    assert!(matches!(error, SimError::NodeKilled { ref node, .. } if node == "bob"));
}

#[test]
fn run_until_stops_as_soon_as_its_condition_holds() {
    let (world, a, b) = two_nodes(SEED, Conditions::with_delay(ms(10)));
    drain(&world, b);
    drop(world.spawn(a, send_numbered(runtime(&world, a), 100, 100, ms(10))));
    world
        .run_until(Duration::from_secs(5), || world.stats().delivered >= 5)
        .unwrap();
    assert_eq!(world.elapsed(), ms(50));
    let error = world
        .run_until(ms(100), || world.stats().delivered >= 50)
        .unwrap_err();
    assert!(matches!(error, SimError::TimeUp { at, .. } if at == ms(150)));
    let late = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&late);
    world.call_at(ms(200), move |world| {
        assert_eq!(world.elapsed(), ms(200));
        shared.store(true, Ordering::Relaxed);
    });
    world.run_for(ms(60)).unwrap();
    assert!(late.load(Ordering::Relaxed));
}

#[test]
fn an_observer_of_one_node_sees_only_its_packets() {
    let (world, a, b) = two_nodes(SEED, Conditions::default());
    let c = world.add_node("carol", &["10.0.0.3".parse().unwrap()]);
    drain(&world, b);
    let count = Arc::new(AtomicU32::new(0));
    let shared = Arc::clone(&count);
    world.observe_node(c, move |packet| {
        assert_eq!(packet.from, c);
        shared.fetch_add(1, Ordering::Relaxed);
    });
    for (node, packets) in [(a, 7), (c, 4)] {
        let client = send_numbered(runtime(&world, node), packets, 100, ms(1));
        world.block_on(node, client).unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 4);
    assert_eq!(world.stats().delivered, 11);
}

#[test]
fn faults_and_restarts_are_part_of_what_the_seed_repeats() {
    let run = |seed| {
        let conditions = Conditions {
            delay: ms(15),
            jitter: ms(8),
            loss: Loss::Random(0.1),
            rate: Some(Rate::with_queue_time(300_000, ms(200))),
            ..Conditions::default()
        };
        let (world, a, b) = two_nodes(seed, conditions);
        world.at(ms(700), Fault::LinkDown(a));
        world.at(ms(900), Fault::LinkUp(a));
        world.at(ms(1500), Fault::Restart(b));
        serve_quic_echo(&world, b);
        drop(world.spawn(a, quic_echo_client(runtime(&world, a), 200)));
        world.run_for(Duration::from_secs(10)).unwrap();
        (world.trace_hash(), world.stats())
    };
    let first = run(SEED);
    println!("seed {SEED}: {first:?}");
    assert_eq!(first, run(SEED));
    assert_ne!(first.0, run(SEED + 1).0);
}
