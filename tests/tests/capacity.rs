//! How many devices one supernode holds: what each costs of its memory, connection included, and how fast an
//! envelope gets through the crowd. The supernode is the program itself in a process of its own.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak"
)]

use std::{env, path::Path, sync::Arc, time::Duration};

use ahoy_tests::{
    crowd::{Crowd, quantile, resident_bytes},
    process::{Running, start},
};
use ahoy_transport::{
    identity::NodeAddress,
    runtime::{Runtime, RuntimeExt, TokioRuntime},
};

/// What one device may cost of a supernode's memory, loosely: a build for tests keeps more than an optimised one.
/// From run to run it is 34 to 39 KiB.
const BAR_BYTES: u64 = 42 << 10;
/// How long delivery may take in a crowd, for 99 of 100.
const DELAY_BAR: Duration = Duration::from_millis(50);
/// Devices that are there before the counting begins: what a supernode has once is not theirs.
const FIRST: usize = 100;
/// Bytes of an envelope: an offer with its signatures and keys.
const ENVELOPE_BYTES: usize = 4096;
/// Time from one delivery to the next: a busy hour of ten thousand devices has a call every second.
const BETWEEN: Duration = Duration::from_millis(10);

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn supernode(home: &Path) -> (Running, NodeAddress) {
    let running = start(
        home,
        ["supernode", "--listen", "127.0.0.1:0", "--print-link"],
    );
    let line = running.first_line();
    let address = line.strip_prefix("ahoy-node:").unwrap().parse().unwrap();
    (running, address)
}

struct Measured {
    /// What each device costs, when all are there and after they were idle for a while.
    bytes_each: [u64; 2],
    /// How long envelopes took, the shortest first.
    delays: Vec<Duration>,
}

fn measure(devices: usize, deliveries: usize, idle: Duration) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let (running, address) = supernode(folder.path());
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let mut crowd = Crowd::new(Arc::clone(&runtime));
            crowd.grow(&address, FIRST).await;
            let before = resident_bytes(running.id()).unwrap();
            crowd.grow(&address, FIRST + devices).await;
            let each = |bytes: u64| bytes.saturating_sub(before) / devices as u64;
            let full = each(resident_bytes(running.id()).unwrap());
            runtime.sleep(idle).await;
            let later = each(resident_bytes(running.id()).unwrap());
            let mut delays = Vec::new();
            for number in 0..deliveries {
                // Steps without a divisor in common with the number of devices meet all of them.
                let (from, to) = (number * 7919 % devices, (number * 104_729 + 1) % devices);
                if from == to {
                    continue;
                }
                delays.push(crowd.deliver(from, to, ENVELOPE_BYTES).await);
                runtime.sleep(BETWEEN).await;
            }
            delays.sort_unstable();
            let measured = Measured {
                bytes_each: [full, later],
                delays,
            };
            let [full, later] = measured.bytes_each.map(|bytes| bytes as f64 / 1024.0);
            eprintln!("{devices} devices: {full:.1} KiB each, {later:.1} after {idle:?}");
            if !measured.delays.is_empty() {
                let [p50, p99] = [0.5, 0.99].map(|fraction| quantile(&measured.delays, fraction));
                eprintln!(
                    "{} deliveries: p50 {p50:.2?}, p99 {p99:.2?}",
                    measured.delays.len()
                );
            }
            measured
        })
}

#[test]
fn a_thousand_devices_cost_a_supernode_no_more_than_they_may() {
    let measured = measure(1000, 100, Duration::ZERO);
    assert!(measured.bytes_each[0] <= BAR_BYTES);
}

/// `make bench-capacity`: `AHOY_DEVICES` devices, then `AHOY_IDLE_SECONDS` of nothing but keep-alives, then
/// `AHOY_DELIVERIES` envelopes. `AHOY_BAR_KIB` is what each device may cost after that.
#[test]
#[ignore = "minutes, and wants an optimised supernode"]
fn ten_thousand_devices_are_served_in_time() {
    let idle = Duration::from_secs(number("AHOY_IDLE_SECONDS", 30) as u64);
    let measured = measure(
        number("AHOY_DEVICES", 10_000),
        number("AHOY_DELIVERIES", 2000),
        idle,
    );
    let bar = number("AHOY_BAR_KIB", 36) as u64;
    assert!(measured.bytes_each[1] <= bar << 10);
    assert!(quantile(&measured.delays, 0.99) < DELAY_BAR);
}
