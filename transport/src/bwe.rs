//! What one path carries: the estimate that media follows.
//!
//! Fed by the fates of datagrams that the other side reports every 50 ms ([`PacketReport`]), it knows nothing of
//! QUIC's congestion window and does not look at it. It has three parts and a rule:
//!
//! - **Delay** (`delay`): the one-way delay over the least that was seen lately is the queue, and its gradient says
//!   where the queue will be when an answer takes effect. A queue that grows under our own load ends the growth: what
//!   arrived meanwhile is what the line carries, the estimate becomes a little less, and less still is sent until the
//!   queue is gone. A queue that does not answer is not ours, and becomes the new normal.
//! - **Silence** (`in_flight`): a line that becomes narrow all at once delays the reports too, or what they are about. As
//!   soon as one is late by what reports of this line usually are, nothing that can wait leaves, and the first that tells
//!   of a queue then is believed at once.
//! - **Loss** (`loss`): loss alone proves nothing. When it rises under our load, less is sent for a moment: loss that
//!   stays is the line's, and costs no rate; loss that goes was a policer or a queue too short to see.
//! - **Growth** only while the application uses what it has, by its own media: no padding is sent. What was not used
//!   was not proven, and is neither taken away.
//!
//! All rates are bits per second of whole IP packets: the datagrams' own bytes and what [`wire_bytes`] adds to them.
//! An estimator belongs to one connection, so a new path starts anew.

use std::time::{Duration, Instant};

use crate::feedback::PacketReport;

mod delay;
mod in_flight;
mod loss;
mod rate;

use delay::{Delay, Group};
use in_flight::InFlight;
use loss::{LossJudge, Verdict};
use rate::{Arrivals, LeastOf, Sent};

/// IPv4 20, UDP 8, QUIC's short header 11, its tag 16 and the head of a DATAGRAM frame 3 bytes around each datagram.
pub const PACKET_OVERHEAD_BYTES: usize = 58;

/// The head of a DATAGRAM frame that shares another one's packet.
const FRAME_OVERHEAD_BYTES: usize = 3;

/// What a datagram of `bytes` costs on the wire, by IPv4: with a packet of its own, or `joined` to another's.
#[must_use]
pub const fn wire_bytes(bytes: usize, joined: bool) -> usize {
    bytes
        + if joined {
            FRAME_OVERHEAD_BYTES
        } else {
            PACKET_OVERHEAD_BYTES
        }
}

/// Estimate of a path that nothing is known of, in bits per second: voice four times over, and a picture to begin
/// with. Where it is too much, a second of it puts 20 kB into a queue before the first answer; where it is too
/// little, it doubles three times a second.
pub const INITIAL_BPS: u64 = 300_000;

/// What a new connection takes over of another's estimate, at most: the way to the same address may be another one by now,
/// such as a telephone's. Pictures go on with it.
pub const HEIR_MAX_BPS: u64 = 1_500_000;

/// Never estimated below this, in bits per second: voice at its least, 6 kbit/s in frames of 60 ms, and the reports.
pub const MIN_BPS: u64 = 24_000;

/// Never estimated above this, in bits per second: what two reports of each datagram can keep up with.
pub const MAX_BPS: u64 = 45_000_000;

/// What is sent over so long against the estimate says whether the application uses it.
const USE_WINDOW: f64 = 0.25;
/// The application is what limits the rate when it sends less than this share of the estimate. It would be more, but
/// while the estimate doubles, the window sees the past.
const USED_SHARE: f64 = 0.7;
/// Who sends so much loads a line that becomes narrow, whatever share of the estimate it is, in bits per second: five
/// voices. A queue that comes up steeply is made by such media, and while it does, what arrives is what the line carries
/// if more than that is sent, by so much.
const LOADS_BPS: f64 = 300_000.0;
const OVERLOADS: f64 = 1.25;

/// Growth until a queue first shows, per second: doubling in 350 ms, three answers of an ordinary line.
const START_GROWTH: f64 = 2.0;
/// Growth close to what the line last carried, in bits per second and second, and as a share per second. That most
/// of it is the same for everybody is what makes calls that share a line equal.
const NEAR_STEP: f64 = 40_000.0;
const NEAR_GROWTH: f64 = 0.02;
/// But no faster than this: the queue that it makes before the answer to it takes effect stays under 60 ms.
const NEAR_GROWTH_MAX: f64 = 0.12;
/// The same where a policer answers with loss instead of a queue.
const POLICED_GROWTH: f64 = 0.01;
/// Growth beyond, where the line turned out to carry more than before: at first, and how it rises, per second, to
/// the most. From 400 kbit/s to 2 Mbit/s takes five seconds in all.
const FAR_GROWTH: f64 = 0.25;
const FAR_GROWTH_RISE: f64 = 0.5;
const FAR_GROWTH_MAX: f64 = 1.0;
/// Close is up to this much over what the line last carried.
const NEAR: f64 = 1.1;
/// The estimate outruns what arrives at most so much while it grows. Half of what is sent may get lost.
const OUTRUN: f64 = 2.2;

/// A queue is ours, and too long, from here on, in seconds: more than a full packet of 500 kbit/s. Twice the noise of
/// the line comes on top.
const QUEUE_LIMIT: f64 = 0.03;
/// The same while the application uses little. It would take much to come from us.
const IDLE_QUEUE_LIMIT: f64 = 0.1;
/// So many reports in a row must say so: under our load, and otherwise.
const CONFIRM: u32 = 2;
const IDLE_CONFIRM: u32 = 4;
/// One suffices when the queue grows so fast (seconds per second), and will be this long when an answer takes effect.
const STEEP: f64 = 0.15;
const STEEP_QUEUE: f64 = 0.07;
/// Until an answer takes effect, in seconds: a report's interval and a round trip.
const LOOKAHEAD: f64 = 0.1;
/// And so much more at most where reports are late, in seconds.
const LATE_MAX: f64 = 0.3;
/// Where reports were late as well, one suffices that tells of so much of a queue, in seconds.
const LATE_QUEUE: f64 = 0.03;
/// A queue shorter than this is gone.
const QUEUE_GONE: f64 = 0.01;

/// Share of what the line carried that the estimate becomes, and the same where there is no queue to drain.
const BACK_OFF: f64 = 0.92;
const POLICED_BACK_OFF: f64 = 0.93;
/// A queue of so many seconds is to drain with nothing but the most urgent sent; a shorter one with more.
const DRAIN_ALL: f64 = 0.15;
/// Least share of the estimate that is sent while a queue drains.
const DRAIN_FLOOR: f64 = 0.05;
/// A queue that less than this share of the first answer does not shorten is not ours.
const DEEPEST: f64 = 0.5;
/// Progress is looked at in such steps, in seconds.
const PROGRESS_EVERY: f64 = 0.5;
/// A queue that has not become a tenth shorter in so many seconds of draining is not ours.
const FOREIGN_AFTER: f64 = 2.0;

/// What a capacity sample must span at least, in seconds, and what is taken when it does not.
const SAMPLE_LEAST: f64 = 0.08;
const SAMPLE_ELSE: f64 = 0.2;
/// So many seconds after the cut all of it has come.
const SAMPLE_MOST: f64 = 1.0;

/// Reports of what is under way come so long after the shortest time they ever took, at most, before it counts that
/// the line is stuck: an interval of reports, and one lost report.
const LOOP_SLACK: f64 = 0.13;
/// Assumed until the first report, in seconds.
const LOOP_UNKNOWN: f64 = 0.3;

/// What is known of a path's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// What the path carries for us, in bits per second of whole IP packets; [`INITIAL_BPS`] until it is known
    /// better. With little to send it is what was proven, and may be more in truth.
    pub capacity_bps: u64,
    /// What to send now, in the same unit: the capacity, less what drains a queue.
    pub target_bps: u64,
    /// How long packets waited lately: one-way delay over the least of the last half minute.
    pub queue_delay: Duration,
    /// Of 1000 datagrams of the last second, how many were lost.
    pub lost_permille: u16,
    /// Ten times the mean number that were lost one after the other in the last four seconds; 0 where none were.
    pub lost_in_a_row_tenths: u16,
    /// Whether anything is behind it: [`INITIAL_BPS`] was used or refuted.
    pub proven: bool,
}

/// A queue under way to be drained.
#[derive(Debug, Clone, Copy)]
struct Drain {
    /// When sending was cut, by our clock.
    cut: f64,
    /// When the queue began, by the receiver's clock.
    onset: f64,
    /// The estimate before.
    before: f64,
    /// The shortest queue so far, and when it was.
    least: (f64, f64),
    /// What the line carried since the onset.
    carried: f64,
    /// Whether the application used the estimate when it began, so that what arrived is what the line carries.
    used: bool,
    /// What was sent when what met the queue left, in bits per second: who sends more than arrives fills it.
    loading: f64,
    /// The first estimate that was made of it.
    first: f64,
}

/// The estimator of one path. See the [module](self).
#[derive(Debug)]
pub struct Bandwidth {
    origin: Instant,
    /// Whether it counts that a report is late.
    alert: bool,
    capacity: f64,
    target: f64,
    proven: bool,
    starting: bool,
    /// What the line carried when it was last full, and whether it showed by loss.
    full_at: Option<f64>,
    policed: bool,
    /// Since when the estimate is far beyond that.
    beyond_since: Option<f64>,
    drain: Option<Drain>,
    over: u32,
    delay: Delay,
    arrivals: Arrivals,
    sent: Sent,
    loss: LossJudge,
    in_flight: InFlight,
    /// From a datagram's leaving to the report of its arrival.
    round: LeastOf,
    reported: Option<f64>,
    /// A report was late under our load, and none since told of no queue.
    alarmed: bool,
}

impl Bandwidth {
    /// The estimator of a path that came up at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::with(now, true)
    }

    /// The same, to which it may be all one that a report is late. Only in tests.
    #[must_use]
    pub fn with(now: Instant, alert: bool) -> Self {
        Self {
            alert,
            origin: now,
            capacity: INITIAL_BPS as f64,
            target: INITIAL_BPS as f64,
            proven: false,
            starting: true,
            full_at: None,
            policed: false,
            beyond_since: None,
            drain: None,
            over: 0,
            delay: Delay::default(),
            arrivals: Arrivals::default(),
            sent: Sent::default(),
            loss: LossJudge::default(),
            in_flight: InFlight::default(),
            round: LeastOf::new(10),
            reported: None,
            alarmed: false,
        }
    }

    /// Takes the place of `before`, whose connection went by the same path: stands where that one does, though no higher
    /// than [`HEIR_MAX_BPS`], if that is more than is known here. What was sent and arrived by this one's own connection
    /// until now stays known: its delays and its numbers have nothing to do with the other's.
    pub fn inherit(&mut self, before: &Self) {
        let capacity = before.capacity.min(HEIR_MAX_BPS as f64);
        if self.drain.is_some() || capacity <= self.capacity {
            return;
        }
        self.capacity = capacity;
        self.target = capacity;
        self.proven |= before.proven;
        self.starting = before.starting || capacity < before.capacity;
        self.full_at = before.full_at;
        self.policed = before.policed;
    }

    /// Until when it counts that the report about what left first is late; `None` where it is not.
    fn late_until(&self, at: f64) -> Option<f64> {
        let (from, until) = self.in_flight.late().filter(|_| self.alert)?;
        (at > from && at < until).then_some(until)
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.origin).as_secs_f64()
    }

    /// A datagram that costs `bytes` on the wire ([`wire_bytes`]) leaves. Every one that the path's
    /// [`SentLog`](crate::feedback::SentLog) numbers, in the same order and with the same bytes.
    pub fn sent(&mut self, now: Instant, bytes: usize) {
        let at = self.seconds(now);
        let bits = bits(bytes);
        self.sent.add(at, bits);
        self.in_flight.sent(at, bits);
    }

    /// The other side told what became of datagrams.
    pub fn handle(&mut self, now: Instant, reports: &[PacketReport]) {
        let at = self.seconds(now);
        let mut newest: Option<(u64, f64)> = None;
        let mut group = None;
        for report in reports {
            let sent = self.seconds(report.sent);
            self.loss.told(sent, report.arrived.is_none());
            let Some(arrived) = report.arrived else {
                continue;
            };
            let arrived = arrived.as_secs_f64();
            self.arrivals.add(arrived, sent, bits(report.bytes));
            group = Delay::join(group, sent, arrived);
            if newest.is_none_or(|(sequence, _)| report.sequence > sequence) {
                newest = Some((report.sequence, sent));
            }
        }
        let mut late = false;
        if let Some((sequence, sent)) = newest {
            if self.reported.is_none() {
                // What left before the other side was there says nothing about the line.
                self.loss.forget(sent);
            }
            late = self.late_until(at).is_some();
            self.in_flight.arrived(at, sequence);
            self.round.add(at, at - sent);
        }
        let Some(group) = group else {
            return;
        };
        let sending = self.sent.rate(at, USE_WINDOW);
        // A queue was filled by what was sent when its packets left.
        let loading = newest.map_or(0.0, |(_, sent)| self.sent.rate(sent, USE_WINDOW));
        let loading = loading.max(sending);
        let loads = loading >= LOADS_BPS;
        let edge = self.is_edge(group, late && loads);
        if edge {
            self.delay.close_with(at, group);
        } else if !self.delay.add(at, group) {
            return;
        }
        let since = self.reported.replace(at).unwrap_or(at);
        let used = sending >= USED_SHARE * self.capacity;
        self.proven |= used && !self.starting;
        let trouble = self.is_congested(at, used, used || loads) || edge;
        if self.drain.is_some() {
            self.go_on_draining(at);
        } else if trouble {
            self.begin_draining(at, used, loading);
        } else {
            self.look_at_loss(at, used);
            if used && !self.loss.is_trying() {
                // A late report stands for the time it took, within reason.
                self.grow(at, (at - since).min(0.2));
            }
        }
        self.capacity = self.capacity.clamp(MIN_BPS as f64, MAX_BPS as f64);
        self.target = self.capacity * self.drain_share();
    }

    /// Whether a report that was `late` under our load tells of a queue, or one behind it: the line became narrow all at
    /// once, and nobody needs to see more of it.
    fn is_edge(&mut self, report: Group, late: bool) -> bool {
        let waited = self.delay.waited(report);
        self.alarmed = (self.alarmed || late) && waited > QUEUE_GONE;
        self.alarmed && self.drain.is_none() && waited > LATE_QUEUE + 2.0 * self.delay.noise()
    }

    /// Whether our load makes a queue. We use the estimate, or at least load a line that became narrow.
    fn is_congested(&mut self, at: f64, used: bool, loads: bool) -> bool {
        let noise = 2.0 * self.delay.noise();
        let limit = if used { QUEUE_LIMIT } else { IDLE_QUEUE_LIMIT };
        if self.delay.queue() > limit + noise {
            self.over += 1;
        } else {
            self.over = 0;
        }
        // Where the way back has a queue too, what is told is of a while ago.
        let late = self.delay.newest_sent().map_or(0.0, |sent| at - sent) - self.round_time();
        let ahead = LOOKAHEAD + late.clamp(0.0, LATE_MAX);
        let steep = loads
            && self.delay.rises()
            && self.delay.gradient() > STEEP
            && self.delay.predicted(ahead) > STEEP_QUEUE + noise;
        steep || self.over >= if used { CONFIRM } else { IDLE_CONFIRM }
    }

    fn begin_draining(&mut self, at: f64, used: bool, loading: f64) {
        let mut drain = Drain {
            cut: at,
            onset: self.delay.onset(),
            before: self.capacity,
            least: (self.delay.queue(), at),
            carried: 0.0,
            used,
            loading,
            first: 0.0,
        };
        self.sample(at, &mut drain);
        if !drain.used {
            // It carried little because little was sent: media may just have come here, or gone.
            drain.carried = drain.carried.max(self.sent.most(at, USE_WINDOW));
        }
        drain.first = self.capacity.min(BACK_OFF * drain.carried);
        self.capacity = drain.first;
        self.drain = Some(drain);
        self.starting = false;
        self.proven = true;
        self.over = 0;
        self.loss.forget(at);
    }

    /// What the line carried, by what arrived until now.
    fn sample(&self, at: f64, drain: &mut Drain) {
        let carried = self.carried_since(drain.onset, drain.cut);
        drain.used |= drain.loading >= LOADS_BPS.max(OVERLOADS * carried);
        if drain.used || at <= drain.cut {
            drain.carried = carried;
        }
    }

    /// What arrived per second since `onset` of what left before `cut`, in bits.
    fn carried_since(&self, onset: f64, cut: f64) -> f64 {
        self.arrivals
            .rate_since(onset, cut, SAMPLE_LEAST)
            .unwrap_or_else(|| self.arrivals.rate(SAMPLE_ELSE))
    }

    fn go_on_draining(&mut self, at: f64) {
        let Some(mut drain) = self.drain else {
            return;
        };
        let queue = self.delay.queue();
        // What was under way when we cut makes the sample better, until all of it is there.
        if at - drain.cut < SAMPLE_MOST {
            self.sample(at, &mut drain);
            if drain.used {
                self.capacity = drain.before.min(BACK_OFF * drain.carried);
            }
        }
        if queue < 0.9 * drain.least.0 {
            drain.least = (queue, at);
        }
        let stuck = at - drain.least.1;
        if self.delay.latest() < QUEUE_GONE + self.delay.noise() {
            self.ended(at, drain.carried, false);
            return;
        }
        if stuck > FOREIGN_AFTER {
            // It does not answer to us: others fill it, or the way is longer now. What was cut for it comes back.
            self.delay.forget_least();
            self.capacity = self.capacity.max(drain.first);
            self.ended(at, drain.carried, false);
            return;
        }
        if stuck > PROGRESS_EVERY + self.round_time()
            && at - drain.cut > PROGRESS_EVERY + self.round_time()
        {
            // The line carries still less than it seemed.
            drain.before = self.capacity;
            drain.cut = at;
            drain.onset = self.arrivals.newest() - PROGRESS_EVERY;
            drain.carried = self.carried_since(drain.onset, at);
            // What is sent meanwhile is little, and says no more than this.
            drain.used = false;
            drain.loading = 0.0;
            let less = (BACK_OFF * drain.carried).max(DEEPEST * drain.first);
            self.capacity = self.capacity.min(less);
        }
        self.drain = Some(drain);
    }

    /// The line was full, carrying so much.
    fn ended(&mut self, at: f64, carried: f64, policed: bool) {
        self.drain = None;
        self.full_at = Some(carried);
        self.policed = policed;
        self.beyond_since = None;
        self.starting = false;
        self.proven = true;
        self.loss.forget(at);
    }

    fn look_at_loss(&mut self, at: f64, used: bool) {
        let settled = at - self.round_time() - 2.0 * SAMPLE_LEAST - LOOP_SLACK;
        let carried = self.arrivals.rate(PROGRESS_EVERY);
        match self.loss.judge(at, settled, used, self.policed) {
            Verdict::Nothing => {}
            Verdict::Try => {
                self.capacity = self.loss.begin(at, settled, self.capacity, carried);
            }
            Verdict::Random { before } => {
                self.capacity = before;
                self.policed = false;
            }
            Verdict::Full { carried } => {
                self.capacity = POLICED_BACK_OFF * carried;
                self.ended(at, carried, true);
            }
        }
    }

    fn grow(&mut self, at: f64, elapsed: f64) {
        let near = (NEAR_STEP / self.capacity + NEAR_GROWTH).min(NEAR_GROWTH_MAX);
        let per_second = match self.full_at {
            None if self.starting => START_GROWTH,
            None => near,
            Some(full_at) if self.capacity < NEAR * full_at => {
                self.beyond_since = None;
                if self.policed { POLICED_GROWTH } else { near }
            }
            Some(_) => {
                let since = *self.beyond_since.get_or_insert(at);
                (FAR_GROWTH + FAR_GROWTH_RISE * (at - since)).min(FAR_GROWTH_MAX)
            }
        };
        // A queue that shows slows growth before it ends it.
        let clear =
            1.0 - (self.delay.predicted(LOOKAHEAD) / (QUEUE_LIMIT + 2.0 * self.delay.noise()));
        let grown = self.capacity * (1.0 + per_second * elapsed * clear.clamp(0.0, 1.0));
        let arriving = self.arrivals.rate(USE_WINDOW);
        self.capacity = self.capacity.max(grown.min(OUTRUN * arriving));
    }

    /// Share of the estimate that may be sent while a queue drains.
    fn drain_share(&self) -> f64 {
        if self.drain.is_none() {
            return 1.0;
        }
        let ahead = self.delay.predicted(LOOKAHEAD).max(0.0);
        (1.0 - (ahead - QUEUE_GONE) / DRAIN_ALL).clamp(DRAIN_FLOOR, 1.0)
    }

    fn round_time(&self) -> f64 {
        self.round.least().unwrap_or(LOOP_UNKNOWN)
    }

    /// Rate at which what can wait is to leave, in bits per second of whole IP packets.
    #[must_use]
    pub fn pace_bps(&self) -> f64 {
        self.target
    }

    /// Until when nothing that can wait is to leave, because more is under way than the path takes in, or a report is
    /// late: the line got stuck or much narrower, and no report has said so yet. `None` when it may.
    #[must_use]
    pub fn stuck_until(&self, now: Instant) -> Option<Instant> {
        let at = self.seconds(now);
        let allowed =
            self.capacity * (self.round_time() + LOOP_SLACK) + 2.0 * bits(wire_bytes(1200, false));
        let until = self
            .late_until(at)
            .or_else(|| self.in_flight.above(at, allowed))?;
        // Rounding must not make it now.
        let until = Duration::try_from_secs_f64(until + 0.001).unwrap_or_default();
        Some(self.origin + until)
    }

    /// What is known now.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let whole = |rate: f64| rate.round().clamp(0.0, MAX_BPS as f64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits"
        )]
        let bps = |rate: f64| whole(rate) as u64;
        let queue = self.delay.queue().clamp(0.0, 60.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=1000"
        )]
        let lost = (1000.0 * self.loss.fraction()).clamp(0.0, 1000.0) as u16;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=10000"
        )]
        let in_a_row = (10.0 * self.loss.mean_run()).clamp(0.0, 10_000.0) as u16;
        Estimate {
            capacity_bps: bps(self.capacity),
            target_bps: bps(self.target),
            queue_delay: Duration::try_from_secs_f64(queue).unwrap_or_default(),
            lost_permille: lost,
            lost_in_a_row_tenths: in_a_row,
            proven: self.proven,
        }
    }
}

fn bits(bytes: usize) -> f64 {
    (bytes * 8) as f64
}

#[cfg(test)]
mod tests;
