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

/// Loss above which it is worth to wait for copies in later packets, and below which it is not.
const WAIT_FOR_COPY_FROM: f64 = 0.02;
const WAIT_FOR_COPY_UNTIL: f64 = 0.01;

/// What packets carry is believed for so long after the last that carried it: 5 s. Opus makes no copies of pauses.
const REACH_MEMORY_SAMPLES: i64 = 5 * 48_000;

/// Bursts of loss are remembered with this time constant: 10 s. They are rare, a second holds one or two.
const BURST_MEMORY_SAMPLES: f64 = 10.0 * 48_000.0;

/// Part of the lost sound that may lie too deep in its burst to be restored: every further part costs everybody delay.
const UNRESTORED: f64 = 0.25;

/// Nobody waits longer than this for redundancy that reaches over bursts: 60 ms. Delay hurts more than the rest.
const MAX_BURST_WAIT_SAMPLES: i64 = 60 * 48;

/// Resolution and range of the burst lengths: 10 ms, 400 ms.
const BURST_BUCKET_SAMPLES: i64 = 480;
const BURST_BUCKETS: usize = 40;

/// How long a packet takes to bring back sound that was lost before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reach {
    /// It brings nothing back.
    #[default]
    Nothing,
    /// It carries a copy of what lies exactly so many samples before it.
    Exactly(i64),
    /// It carries everything from so many samples before it on.
    UpTo(i64),
}

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
    reach: Reach,
    /// Since a packet carried that much.
    reach_age: i64,
    bursts: Bursts,
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
            reach: Reach::Nothing,
            reach_age: 0,
            bursts: Bursts::new(),
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
        self.own_target().clamp(self.config.min, self.config.max)
    }

    /// The same if nobody asked for a least one.
    pub(super) fn own_target(&self) -> i64 {
        let wanted = if self.config.adaptive {
            self.target
        } else {
            self.config.start
        };
        // The packet with the copy is as likely to be late as any other.
        let copy = if self.waits_for_copy {
            self.wait(self.reach)
        } else {
            0
        };
        (wanted + copy).clamp(0, self.config.max)
    }

    /// The playout delay to aim at, on the scale of transits. None before the first packet.
    pub(super) fn wanted(&self) -> Option<i64> {
        let settled = self.fastest()? + self.target();
        Some(self.growing().map_or(settled, |ahead| settled.max(ahead)))
    }

    /// The transit of the fastest packets, on the route that is in use.
    pub(super) fn fastest(&self) -> Option<i64> {
        let base = self.least(BASE_WINDOWS)?;
        let level = self.least(LEVEL_WINDOWS).unwrap_or(base);
        Some(if level > base + self.target() {
            level
        } else {
            base
        })
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

    /// How long to wait for what `reach` promises.
    fn wait(&self, reach: Reach) -> i64 {
        match reach {
            Reach::Nothing => 0,
            Reach::Exactly(distance) => distance,
            Reach::UpTo(most) => self.bursts.wait().min(most).min(MAX_BURST_WAIT_SAMPLES),
        }
    }

    /// A frame of `span` samples was played that had come in time, in a packet that would have brought back what
    /// `reach` says.
    pub(super) fn on_received(&mut self, span: i64, reach: Reach) {
        self.on_frame(false, span);
        self.bursts.end();
        self.reach_age = self.reach_age.saturating_add(span);
        let better = match (reach, self.reach) {
            (Reach::Exactly(new), Reach::Exactly(old)) | (Reach::UpTo(new), Reach::UpTo(old)) => {
                new >= old
            }
            (Reach::Nothing, _) => false,
            (Reach::Exactly(_) | Reach::UpTo(_), _) => true,
        };
        if better || self.reach_age > REACH_MEMORY_SAMPLES {
            self.reach = reach;
            self.reach_age = 0;
        }
        self.waits_for_copy &= self.reach != Reach::Nothing;
    }

    /// A frame of `span` samples had not come when it was needed, whatever was played in its place.
    pub(super) fn on_missing(&mut self, span: i64) {
        self.on_frame(true, span);
        self.bursts.missing(span);
    }

    fn on_frame(&mut self, lost: bool, span: i64) {
        self.bursts.age(span);
        let keep = (-(span as f64) / LOSS_MEMORY_SAMPLES).exp();
        self.loss = self.loss * keep + if lost { 1.0 - keep } else { 0.0 };
        let threshold = if self.waits_for_copy {
            WAIT_FOR_COPY_UNTIL
        } else {
            WAIT_FOR_COPY_FROM
        };
        self.waits_for_copy =
            self.config.adaptive && self.reach != Reach::Nothing && self.loss > threshold;
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

/// How long the bursts of loss were lately.
#[derive(Debug)]
struct Bursts {
    /// Sound lost in bursts of each length.
    lost: [f64; BURST_BUCKETS],
    /// The burst that lasts.
    current: i64,
    /// Since the last burst was noted.
    age: i64,
}

impl Bursts {
    fn new() -> Self {
        Self {
            lost: [0.0; BURST_BUCKETS],
            current: 0,
            age: 0,
        }
    }

    fn age(&mut self, span: i64) {
        self.age = self.age.saturating_add(span);
    }

    fn missing(&mut self, span: i64) {
        self.current = self.current.saturating_add(span);
    }

    fn end(&mut self) {
        if self.current == 0 {
            return;
        }
        let keep = (-(self.age as f64) / BURST_MEMORY_SAMPLES).exp();
        for lost in &mut self.lost {
            *lost *= keep;
        }
        let bucket = usize::try_from((self.current - 1) / BURST_BUCKET_SAMPLES)
            .unwrap_or(BURST_BUCKETS)
            .min(BURST_BUCKETS - 1);
        self.lost[bucket] += self.current as f64;
        (self.current, self.age) = (0, 0);
    }

    /// After how long a wait all but [`UNRESTORED`] of what is lost can be restored.
    fn wait(&self) -> i64 {
        let total: f64 = self.lost.iter().sum();
        let lengths = || (1i64..).map(|n| n * BURST_BUCKET_SAMPLES);
        let deeper = |wait: i64| -> f64 {
            let beyond =
                |(lost, length): (&f64, i64)| lost * (length - wait).max(0) as f64 / length as f64;
            self.lost.iter().zip(lengths()).map(beyond).sum()
        };
        lengths()
            .take(BURST_BUCKETS)
            .find(|wait| deeper(*wait) <= total * UNRESTORED)
            .unwrap_or(0)
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

    /// 20 s of 20 ms frames, those lost for which `lost` says so.
    fn lose(manager: &mut DelayManager, reach: Reach, lost: impl Fn(i64) -> bool) {
        for n in 0..1000 {
            if lost(n) {
                manager.on_missing(960);
            } else {
                manager.on_received(960, reach);
            }
        }
    }

    #[test]
    fn loss_is_worth_waiting_for_when_packets_carry_copies() {
        for (reach, want) in [
            (Reach::Exactly(960), 25 * MILLI),
            (Reach::Exactly(1920), 45 * MILLI),
            (Reach::Nothing, 5 * MILLI),
        ] {
            let mut manager = DelayManager::new(CONFIG);
            feed(&mut manager, 0, 2000, |_| 0);
            lose(&mut manager, reach, |n| n % 20 == 0);
            assert_eq!(manager.target(), want);
            lose(&mut manager, reach, |_| false);
            assert_eq!(manager.target(), 5 * MILLI);
        }
    }

    #[test]
    fn the_wait_for_what_reaches_over_bursts_is_as_long_as_bursts_are() {
        for (burst, reach, want) in [
            (1, 48_000, 20),
            (2, 48_000, 30),
            (3, 48_000, 50),
            (8, 48_000, 60),
            (3, 960, 20),
        ] {
            let mut manager = DelayManager::new(CONFIG);
            feed(&mut manager, 0, 2000, |_| 0);
            lose(&mut manager, Reach::UpTo(reach), |n| n % 50 < burst);
            assert_eq!(manager.target() / MILLI - 5, want, "bursts of {burst}");
        }
    }

    #[test]
    fn another_kind_of_copies_is_waited_for_at_once_and_a_pause_changes_nothing() {
        let mut manager = DelayManager::new(CONFIG);
        feed(&mut manager, 0, 2000, |_| 0);
        lose(&mut manager, Reach::Exactly(1920), |n| n % 10 == 0);
        manager.on_received(960, Reach::UpTo(48_000));
        assert_eq!(manager.target(), 25 * MILLI);
        manager.on_received(960, Reach::Exactly(960));
        assert_eq!(manager.target(), 25 * MILLI);
        for _ in 0..50 {
            manager.on_received(960, Reach::Nothing);
        }
        assert_eq!(manager.target(), 25 * MILLI);
    }
}
