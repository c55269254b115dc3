//! What a call costs this process: CPU time and memory, as the system counts them.

use std::time::Instant;

use ahoy_transport::runtime::Runtime;

use crate::report::Cost;

/// Clock ticks per second in `/proc/self/stat`. Linux fixes it for all programs (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures from its start on. Only where the system tells: Linux.
#[derive(Debug, Clone, Copy)]
pub(super) struct CostMeter {
    started: Instant,
    cpu_ms: f64,
}

impl CostMeter {
    pub(super) fn start(runtime: &dyn Runtime) -> Option<Self> {
        Some(Self {
            started: runtime.now(),
            cpu_ms: process_cpu_ms()?,
        })
    }

    /// CPU per second of call since the start, and the peak of memory.
    pub(super) fn so_far(&self, runtime: &dyn Runtime) -> Cost {
        let seconds = runtime
            .now()
            .saturating_duration_since(self.started)
            .as_secs_f64();
        let used = process_cpu_ms().map(|now| now - self.cpu_ms);
        Cost {
            // Below a second the system's 10 ms ticks are too coarse to mean anything.
            cpu_ms_per_call_second: used.filter(|_| seconds >= 1.0).map(|used| used / seconds),
            peak_rss_bytes: peak_rss_bytes(),
        }
    }
}

/// User and system time of this process, in milliseconds.
fn process_cpu_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, and may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) * 1000.0 / TICKS_PER_SECOND)
}

/// The most memory this process ever had resident, in bytes.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_move_the_counters() {
        let before = process_cpu_ms().unwrap();
        let mut hash = 1u64;
        while process_cpu_ms().unwrap() < before + 30.0 {
            for n in 0..100_000u64 {
                hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
            }
        }
        std::hint::black_box(hash);
        let peak = peak_rss_bytes().unwrap();
        let block = vec![1u8; usize::try_from(peak).unwrap() + (32 << 20)];
        std::hint::black_box(&block);
        assert!(peak_rss_bytes().unwrap() > peak + (16 << 20));
    }
}
