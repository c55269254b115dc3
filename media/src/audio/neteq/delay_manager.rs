//! How late may a packet be? Learns it from arrivals.
//!
//! The *transit* of a packet is its arrival minus its media time: an unknown constant plus what the network
//! added. The least transit of the last two seconds is the base; what exceeds it is the *relative delay*.
//! Relative delays enter a histogram that forgets, and a high quantile of it is the target level: packets
//! are played when the fastest possible packet would have waited that long.
//!
//! Two things are not jitter and must not raise the target for long: a queue that grows (one long excursion,
//! of which only the beginning counts) and a route that became longer (all recent packets are late, so the
//! level moves without the histogram).

use crate::time::MediaTime;

/// Length of the windows in which extremes are kept: 250 ms.
const WINDOW_SAMPLES: i64 = 12_000;

/// Windows that make up the base: 2 s. Longer, and clock drift or a longer route would look like jitter;
/// shorter, and a burst would look like a route.
const BASE_WINDOWS: i64 = 8;

/// Windows that say where the level is now: at least 250 ms, at most 500 ms.
const LEVEL_WINDOWS: i64 = 2;

/// Resolution of the histogram: 5 ms.
const BUCKET_SAMPLES: i64 = 240;

/// Range of the histogram: 1 s. Nobody talks across more.
const BUCKETS: usize = 200;

/// Part of the packets that may come too late.
const TAIL: f64 = 0.01;

/// The histogram forgets with this time constant: 8 s.
const MEMORY_SAMPLES: f64 = 8.0 * 48_000.0;

/// The loss is that of the last four seconds: copies should be waited for soon.
const LOSS_MEMORY_SAMPLES: f64 = 4.0 * 48_000.0;

/// Of one unbroken run of packets beyond the target, only this much sound counts: 60 ms. With the memory
/// above, a single excursion of whatever length stays below the quantile; two within some seconds do not.
const EXCURSION_SAMPLES: i64 = 2880;

/// So many packets are believed at once, whatever they say.
const BEGINNING_PACKETS: f64 = 25.0;

/// The target falls at most by a bucket in this time: 200 ms.
const FALL_SAMPLES: i64 = 9600;

/// Loss above which it is worth to wait for the copy in the next packet, and below which it is not.
const WAIT_FOR_COPY_FROM: f64 = 0.02;
const WAIT_FOR_COPY_UNTIL: f64 = 0.01;

#[derive(Debug, Clone, Copy)]
struct Window {
    index: i64,
    least: i64,
}

/// Learns the playout delay. All values in samples.
#[derive(Debug)]
pub(super) struct DelayManager {
    config: DelayConfig,
    windows: [Window; BASE_WINDOWS as usize],
    newest: i64,
    newest_transit: i64,
    newest_span: i64,
    histogram: Histogram,
    excursion: i64,
    target: i64,
    lowered_at: i64,
    loss: f64,
    waits_for_copy: bool,
    copy_distance: i64,
}

/// Bounds of the target level, in samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct DelayConfig {
    /// Off: the target stays at `start`.
    pub(super) adaptive: bool,
    pub(super) start: i64,
    pub(super) min: i64,
    pub(super) max: i64,
}

impl DelayManager {
    pub(super) fn new(config: DelayConfig) -> Self {
        Self {
            config,
            windows: [Window {
                index: i64::MIN,
                least: 0,
            }; BASE_WINDOWS as usize],
            newest: i64::MIN,
            newest_transit: 0,
            newest_span: 0,
            histogram: Histogram::new(config.start),
            excursion: 0,
            target: config.start,
            lowered_at: 0,
            loss: 0.0,
            waits_for_copy: false,
            copy_distance: 0,
        }
    }

    /// Forgets everything: the sender's clock is another.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.config);
    }

    /// Changes the least target level.
    pub(super) fn set_min(&mut self, min: i64) {
        self.config.min = min.clamp(0, self.config.max);
    }

    /// The level beyond the fastest packet at which packets are played.
    pub(super) fn target(&self) -> i64 {
        let wanted = if self.config.adaptive {
            self.target
        } else {
            self.config.start
        };
        // The packet with the copy is as likely to be late as any other.
        let copy = if self.waits_for_copy {
            self.copy_distance
        } else {
            0
        };
        (wanted + copy).clamp(self.config.min, self.config.max)
    }

    /// The playout delay to aim at, on the scale of transits. None before the first packet.
    pub(super) fn wanted(&self) -> Option<i64> {
        let base = self.least(BASE_WINDOWS)?;
        let level = self.least(LEVEL_WINDOWS).unwrap_or(base);
        let target = self.target();
        let settled = if level > base + target {
            level + target
        } else {
            base + target
        };
        Some(self.growing().map_or(settled, |ahead| settled.max(ahead)))
    }

    /// While a queue grows: what the packet after the newest will need. Sound is stretched towards it, which
    /// is better than a gap at each packet.
    pub(super) fn growing(&self) -> Option<i64> {
        (self.config.adaptive && self.excursion > EXCURSION_SAMPLES)
            .then(|| self.newest_transit.saturating_add(self.newest_span))
    }

    /// How far the transit of such a packet is from what is known; zero before the first packet.
    pub(super) fn distance(&self, arrival: i64, time: MediaTime) -> i64 {
        self.least(BASE_WINDOWS).map_or(0, |base| {
            arrival
                .saturating_sub(time.0)
                .saturating_sub(base)
                .saturating_abs()
        })
    }

    /// A packet of `span` samples arrived.
    pub(super) fn on_packet(&mut self, arrival: i64, time: MediaTime, span: i64) {
        let transit = arrival.saturating_sub(time.0);
        let index = arrival.div_euclid(WINDOW_SAMPLES);
        self.newest_transit = transit;
        self.newest_span = span;
        self.newest = self.newest.max(index);
        let window = &mut self.windows[index.rem_euclid(BASE_WINDOWS) as usize];
        if window.index == index {
            window.least = window.least.min(transit);
        } else if window.index < index {
            *window = Window {
                index,
                least: transit,
            };
        }
        let Some(base) = self.least(BASE_WINDOWS) else {
            return;
        };
        let relative = transit.saturating_sub(base).max(0);
        if relative > self.target() {
            self.excursion += span;
            if self.excursion > EXCURSION_SAMPLES {
                return;
            }
        } else {
            self.excursion = 0;
        }
        self.histogram.add(relative, span, self.excursion > 0);
        let wanted = self.histogram.quantile();
        if wanted >= self.target {
            self.target = wanted;
            self.lowered_at = arrival;
        } else if arrival - self.lowered_at >= FALL_SAMPLES {
            self.target -= BUCKET_SAMPLES;
            self.lowered_at = arrival;
        }
    }

    /// One frame was played, or known to be lost; `copy_distance` is how far behind a packet carries a copy,
    /// zero when packets carry none.
    pub(super) fn on_frame(&mut self, lost: bool, span: i64, copy_distance: i64) {
        let keep = (-(span as f64) / LOSS_MEMORY_SAMPLES).exp();
        self.loss = self.loss * keep + if lost { 1.0 - keep } else { 0.0 };
        if !lost {
            // Opus makes no copies of pauses: what packets carry is forgotten slowly, within five seconds.
            self.copy_distance = copy_distance.max(self.copy_distance - span / 256);
        }
        let threshold = if self.waits_for_copy {
            WAIT_FOR_COPY_UNTIL
        } else {
            WAIT_FOR_COPY_FROM
        };
        self.waits_for_copy =
            self.config.adaptive && self.copy_distance > 0 && self.loss > threshold;
    }

    fn least(&self, windows: i64) -> Option<i64> {
        let from = self.newest.saturating_sub(windows);
        self.windows
            .iter()
            .filter(|window| window.index > from)
            .map(|window| window.least)
            .min()
    }
}

/// Relative delays, the recent ones weighing more.
#[derive(Debug)]
struct Histogram {
    mass: [f64; BUCKETS],
    packets: f64,
}

impl Histogram {
    fn new(start: i64) -> Self {
        let mut mass = [0.0; BUCKETS];
        mass[Self::bucket(start - 1)] = 1.0;
        Self { mass, packets: 0.0 }
    }

    fn bucket(relative: i64) -> usize {
        usize::try_from(relative.max(0) / BUCKET_SAMPLES)
            .unwrap_or(BUCKETS)
            .min(BUCKETS - 1)
    }

    fn add(&mut self, relative: i64, span: i64, excursion: bool) {
        self.packets += 1.0;
        let mut keep = (-(span as f64) / MEMORY_SAMPLES).exp();
        if !excursion || self.packets < BEGINNING_PACKETS {
            // In the beginning each packet weighs as one of few: the initial guess is gone after 13.
            keep = keep.min(1.0 - 2.0 / (self.packets + 2.0));
        }
        for mass in &mut self.mass {
            *mass *= keep;
        }
        self.mass[Self::bucket(relative)] += 1.0 - keep;
    }

    /// The upper edge of the first bucket beyond which no more than [`TAIL`] lies.
    fn quantile(&self) -> i64 {
        let mut tail = 0.0;
        for bucket in (0..BUCKETS).rev() {
            tail += self.mass[bucket];
            if tail > TAIL {
                return (bucket as i64 + 1) * BUCKET_SAMPLES;
            }
        }
        BUCKET_SAMPLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: i64 = 48;
    const CONFIG: DelayConfig = DelayConfig {
        adaptive: true,
        start: 20 * MILLI,
        min: 0,
        max: 1000 * MILLI,
    };

    /// Feeds 20 ms packets from `from` to `to` milliseconds with the delay that `delay` says.
    fn feed(manager: &mut DelayManager, from: i64, to: i64, delay: impl Fn(i64) -> i64) {
        for n in from / 20..to / 20 {
            let sent = n * 960;
            manager.on_packet(sent + delay(n) * MILLI, MediaTime(sent), 960);
        }
    }

    /// 0..=`most` ms, evenly spread and without order.
    fn jitter(most: i64) -> impl Fn(i64) -> i64 {
        move |n| (n.wrapping_mul(0x5851_f42d) >> 7).rem_euclid(most + 1)
    }

    #[test]
    fn a_clean_link_needs_one_bucket() {
        let mut manager = DelayManager::new(CONFIG);
        assert_eq!(manager.target(), 20 * MILLI);
        feed(&mut manager, 0, 2000, |_| 50);
        assert_eq!(manager.target(), 5 * MILLI);
        assert_eq!(manager.wanted(), Some(55 * MILLI));
    }

    #[test]
    fn the_target_rises_within_a_second_and_falls_within_a_minute() {
        let mut manager = DelayManager::new(CONFIG);
        feed(&mut manager, 0, 10_000, |_| 0);
        feed(&mut manager, 10_000, 11_200, jitter(60));
        let risen = manager.target();
        assert!(risen >= 45 * MILLI, "{} ms", risen / MILLI);
        feed(&mut manager, 11_200, 30_000, jitter(60));
        assert!(
            (55 * MILLI..=65 * MILLI).contains(&manager.target()),
            "{} ms",
            manager.target() / MILLI
        );
        feed(&mut manager, 30_000, 35_000, |_| 0);
        assert!(
            manager.target() > 40 * MILLI,
            "fell too fast: {} ms",
            manager.target() / MILLI
        );
        feed(&mut manager, 35_000, 90_000, |_| 0);
        assert_eq!(manager.target(), 5 * MILLI);
    }

    #[test]
    fn one_growing_queue_is_no_jitter_but_repeated_bursts_are() {
        let mut manager = DelayManager::new(CONFIG);
        feed(&mut manager, 0, 20_000, |_| 0);
        feed(&mut manager, 20_000, 22_000, |n| (n - 1000) * 8);
        feed(&mut manager, 22_000, 22_400, |_| 0);
        assert!(
            manager.target() <= 20 * MILLI,
            "{} ms",
            manager.target() / MILLI
        );
        // Every 2 s five packets wait for one another.
        feed(&mut manager, 22_400, 32_400, |n| {
            if n % 100 < 5 { 100 - 20 * (n % 100) } else { 0 }
        });
        assert!(
            manager.target() >= 80 * MILLI,
            "{} ms",
            manager.target() / MILLI
        );
    }

    #[test]
    fn a_longer_route_moves_the_level_and_not_the_target() {
        let mut manager = DelayManager::new(CONFIG);
        feed(&mut manager, 0, 10_000, |_| 10);
        feed(&mut manager, 10_000, 10_600, |_| 110);
        let wanted = manager.wanted().unwrap();
        assert!(
            (110 * MILLI..=135 * MILLI).contains(&wanted),
            "{} ms",
            wanted / MILLI
        );
        feed(&mut manager, 10_600, 14_000, |_| 110);
        assert!(
            manager.target() <= 20 * MILLI,
            "{} ms",
            manager.target() / MILLI
        );
        assert!(manager.wanted().unwrap() <= 130 * MILLI);
    }

    #[test]
    fn the_target_stays_within_its_bounds_and_still_when_told_to() {
        let mut manager = DelayManager::new(DelayConfig {
            min: 40 * MILLI,
            max: 50 * MILLI,
            ..CONFIG
        });
        feed(&mut manager, 0, 3000, |_| 0);
        assert_eq!(manager.target(), 40 * MILLI);
        feed(&mut manager, 3000, 9000, jitter(200));
        assert_eq!(manager.target(), 50 * MILLI);
        let mut still = DelayManager::new(DelayConfig {
            adaptive: false,
            ..CONFIG
        });
        feed(&mut still, 0, 9000, jitter(200));
        assert_eq!(still.target(), 20 * MILLI);
    }

    #[test]
    fn loss_is_worth_waiting_for_when_packets_carry_copies() {
        for (copies, want) in [(960, 25 * MILLI), (0, 5 * MILLI)] {
            let mut manager = DelayManager::new(CONFIG);
            feed(&mut manager, 0, 2000, |_| 0);
            for n in 0..1000 {
                manager.on_frame(n % 20 == 0, 960, copies);
            }
            assert_eq!(manager.target(), want);
            for _ in 0..2000 {
                manager.on_frame(false, 960, copies);
            }
            assert_eq!(manager.target(), 5 * MILLI);
        }
    }
}
