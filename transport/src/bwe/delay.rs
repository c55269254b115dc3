//! The queue on the way, from one-way delays.
//!
//! The arrivals that one report tells, or several where reports come often, make a group, and the least delay of a group
//! stands for it: what jitter adds, it adds to some packets of a group and not to all, while a queue holds every packet
//! up. The two clocks' offset cancels against the least delay of the last half minute; 200 ppm between them are 6 ms by
//! then.

use std::collections::VecDeque;

use super::rate::LeastOf;

/// Seconds over which the least delay is the way's own.
const LEAST_OVER: usize = 30;
/// Groups that a gradient is drawn through: a quarter of a second.
const GROUPS: usize = 5;
/// A gradient needs so many, and so many seconds between them.
const GROUPS_LEAST: usize = 3;
const SPAN_LEAST: f64 = 0.08;
const SPAN_MOST: f64 = 0.8;
/// Noise is the mean step between neighbouring groups; it is learnt over so many.
const NOISE_MEMORY: f64 = 32.0;
/// A longer step is an event, not noise.
const NOISE_STEP_MAX: f64 = 0.1;
/// A group with a queue shorter than this was before the queue.
const BEFORE_QUEUE: f64 = 0.01;
/// Seconds between the newest arrivals of two groups: reports come every 50 ms, of packets every 20 ms.
const APART: f64 = 0.03;

/// What one report told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Group {
    /// When its newest packet left, by our clock.
    sent: f64,
    /// The least delay in it, clocks' offset included.
    delay: f64,
    /// When its newest packet arrived, by the receiver's clock.
    arrived: f64,
}

#[derive(Debug)]
pub(super) struct Delay {
    least: LeastOf,
    groups: VecDeque<Group>,
    /// What reports told since, too little for a group.
    open: Option<Group>,
    noise: f64,
    onset: f64,
}

impl Default for Delay {
    fn default() -> Self {
        Self {
            least: LeastOf::new(LEAST_OVER),
            groups: VecDeque::new(),
            open: None,
            noise: 0.0,
            onset: f64::NEG_INFINITY,
        }
    }
}

impl Delay {
    /// `group` with one more packet.
    pub(super) fn join(group: Option<Group>, sent: f64, arrived: f64) -> Option<Group> {
        let delay = arrived - sent;
        Some(match group {
            None => Group {
                sent,
                delay,
                arrived,
            },
            Some(group) => Group {
                sent: group.sent.max(sent),
                delay: group.delay.min(delay),
                arrived: group.arrived.max(arrived),
            },
        })
    }

    /// Takes what a report told. Whether that made a group: where reports come often, several make one.
    pub(super) fn add(&mut self, at: f64, report: Group) -> bool {
        let open = self.with_open(report);
        let before = self.groups.back().map(|group| group.arrived);
        let is_group = before.is_none_or(|before| open.arrived - before >= APART);
        if is_group {
            self.close(at, open);
        } else {
            self.open = Some(open);
        }
        is_group
    }

    /// Takes what a report told, which ends a group however little it is.
    pub(super) fn close_with(&mut self, at: f64, report: Group) {
        let group = self.with_open(report);
        self.close(at, group);
    }

    fn with_open(&mut self, report: Group) -> Group {
        self.open.take().map_or(report, |open| Group {
            sent: open.sent.max(report.sent),
            delay: open.delay.min(report.delay),
            arrived: open.arrived.max(report.arrived),
        })
    }

    fn close(&mut self, at: f64, group: Group) {
        if let Some(before) = self.groups.back() {
            let step = (group.delay - before.delay).abs();
            if step < NOISE_STEP_MAX {
                self.noise += (step - self.noise) / NOISE_MEMORY;
            }
        }
        self.least.add(at, group.delay);
        self.groups.push_back(group);
        if self.groups.len() > GROUPS {
            self.groups.pop_front();
        }
        if self.latest() < BEFORE_QUEUE + self.noise {
            self.onset = group.arrived;
        }
    }

    /// What the packets of one report waited at least, in seconds.
    pub(super) fn waited(&self, report: Group) -> f64 {
        self.over_least(report.delay)
    }

    /// Seconds by which neighbouring groups differ when nothing is the matter.
    pub(super) fn noise(&self) -> f64 {
        self.noise
    }

    fn over_least(&self, delay: f64) -> f64 {
        (delay - self.least.least().unwrap_or(delay)).max(0.0)
    }

    /// When the newest packet that is known to have arrived left, by our clock.
    pub(super) fn newest_sent(&self) -> Option<f64> {
        self.groups.back().map(|group| group.sent)
    }

    /// The queue that the newest group met, in seconds.
    pub(super) fn latest(&self) -> f64 {
        self.groups
            .back()
            .map_or(0.0, |group| self.over_least(group.delay))
    }

    /// The queue that the newest two groups both met at least, in seconds.
    pub(super) fn queue(&self) -> f64 {
        let newest = self.groups.iter().rev().take(2);
        let least = newest.map(|group| group.delay).reduce(f64::min);
        least.map_or(0.0, |delay| self.over_least(delay))
    }

    /// Whether each of the newest three groups waited longer than the one before.
    pub(super) fn rises(&self) -> bool {
        let mut newest = self.groups.iter().rev().map(|group| group.delay);
        match (newest.next(), newest.next(), newest.next()) {
            (Some(last), Some(middle), Some(first)) => last > middle && middle >= first,
            _too_few => false,
        }
    }

    /// How fast the queue grows, in seconds per second: the least squares through the newest groups.
    pub(super) fn gradient(&self) -> f64 {
        let newest = self.groups.back().map_or(0.0, |group| group.sent);
        let near = || {
            let groups = self.groups.iter();
            groups.filter(move |group| newest - group.sent <= SPAN_MOST)
        };
        let oldest = near().map(|group| group.sent).fold(newest, f64::min);
        let count = near().count();
        if count < GROUPS_LEAST || newest - oldest < SPAN_LEAST {
            return 0.0;
        }
        let mean = |value: fn(&Group) -> f64| near().map(value).sum::<f64>() / count as f64;
        let (sent, delay) = (mean(|group| group.sent), mean(|group| group.delay));
        let (mut across, mut along) = (0.0, 0.0);
        for group in near() {
            across += (group.sent - sent) * (group.delay - delay);
            along += (group.sent - sent) * (group.sent - sent);
        }
        if along > 0.0 { across / along } else { 0.0 }
    }

    /// The queue in `ahead` seconds, if it goes on like this.
    pub(super) fn predicted(&self, ahead: f64) -> f64 {
        self.latest() + self.gradient() * ahead
    }

    /// When the newest packet arrived that met no queue, by the receiver's clock.
    pub(super) fn onset(&self) -> f64 {
        self.onset
    }

    /// What the newest groups waited is the way's own from now on.
    pub(super) fn forget_least(&mut self) {
        self.least = LeastOf::new(LEAST_OVER);
        let newest = self.groups.iter().rev().take(2);
        if let (Some(delay), Some(group)) = (
            newest.map(|group| group.delay).reduce(f64::min),
            self.groups.back(),
        ) {
            self.least.add(group.sent, delay);
        }
    }
}
