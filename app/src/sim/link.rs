//! One direction of one link: a drop-tail queue, a rate, then loss, delay and disorder.
//!
//! A packet first passes a policer (if there is one), which drops what comes too fast and delays nothing. Then it
//! waits for the rate (if there is one), in a queue that drops what does not fit. Then it is lost or not, and then
//! it travels. This core knows no sockets and no timers: the network asks it when a
//! packet leaves the queue and when it arrives.

use std::{collections::VecDeque, time::Duration};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

/// IP packets up to this size pass every default link: Ethernet.
pub const DEFAULT_MTU_BYTES: usize = 1500;

/// A duplicate follows its original within this time, or within the jitter where that is longer.
const DUPLICATE_SPREAD: Duration = Duration::from_millis(1);

/// How one direction of a link treats packets. The default is ideal: no delay, no loss, no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// One-way propagation time of every packet.
    pub delay: Duration,
    /// Each packet takes up to this much longer, evenly distributed: the mean grows by half of it.
    pub jitter: Duration,
    /// Whether jitter may let a packet overtake an earlier one. Otherwise packets bunch up behind a late one.
    pub jitter_reorders: bool,
    /// Fraction of packets, 0.0..=1.0, that are held back by [`Self::reorder_by`] and overtaken meanwhile.
    pub reorder: f64,
    /// How long a held-back packet is held back.
    pub reorder_by: Duration,
    /// Fraction of packets, 0.0..=1.0, that arrive twice.
    pub duplicate: f64,
    /// Which packets are lost on the way.
    pub loss: Loss,
    /// Bottleneck rate and its queue; unlimited when absent.
    pub rate: Option<Rate>,
    /// What drops packets that come too fast, before the queue.
    pub policer: Option<Policer>,
    /// Largest IP packet in bytes. Larger ones vanish, as with the don't-fragment bit (RFC 8899).
    pub mtu_bytes: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_reorders: false,
            reorder: 0.0,
            reorder_by: Duration::ZERO,
            duplicate: 0.0,
            loss: Loss::None,
            rate: None,
            policer: None,
            mtu_bytes: DEFAULT_MTU_BYTES,
        }
    }
}

impl Conditions {
    /// Nothing but a one-way delay.
    pub fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }
}

/// A loss process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Nothing is lost.
    None,
    /// Each packet is lost with this probability, 0.0..=1.0, whatever happened to the one before.
    Random(f64),
    /// The Gilbert-Elliott model: a good and a bad state, one transition per packet.
    GilbertElliott {
        /// Probability of going from good to bad at a packet.
        enter: f64,
        /// Probability of going from bad to good at a packet.
        exit: f64,
        /// Loss probability in the good state.
        good: f64,
        /// Loss probability in the bad state.
        bad: f64,
    },
}

impl Loss {
    /// Bursts that lose everything: `fraction` (0.0..1.0) of all packets in bursts of `mean_burst` (>= 1.0)
    /// packets on average.
    pub fn bursts(fraction: f64, mean_burst: f64) -> Self {
        let exit = 1.0 / mean_burst.max(1.0);
        Self::GilbertElliott {
            enter: (fraction * exit / (1.0 - fraction)).min(1.0),
            exit,
            good: 0.0,
            bad: 1.0,
        }
    }
}

/// A bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Capacity in bits per second, IP and UDP headers included. Zero stops the link but keeps its queue.
    pub bits_per_second: u64,
    /// Bytes of whole IP packets that may wait, the one being sent included; the rest is dropped.
    pub queue_bytes: usize,
}

impl Rate {
    /// `bits_per_second` with a queue that takes `queue` to drain when full.
    pub fn with_queue_time(bits_per_second: u64, queue: Duration) -> Self {
        let bytes = u128::from(bits_per_second) * queue.as_nanos() / 8 / NANOS_PER_SECOND;
        Self {
            bits_per_second,
            queue_bytes: usize::try_from(bytes)
                .unwrap_or(usize::MAX)
                .max(DEFAULT_MTU_BYTES),
        }
    }

    fn service_time(self, bytes: usize) -> Option<Duration> {
        time_of(bytes, self.bits_per_second)
    }
}

/// A token bucket without a queue (RFC 2697 with one colour): some providers' way to sell a narrower line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policer {
    /// What passes in the long run, in bits per second, IP and UDP headers included. Zero lets nothing pass.
    pub bits_per_second: u64,
    /// Bytes of whole IP packets that pass at once after a pause.
    pub burst_bytes: usize,
}

/// How long `bytes` take at a rate; none at no rate at all.
fn time_of(bytes: usize, bits_per_second: u64) -> Option<Duration> {
    if bits_per_second == 0 {
        return None;
    }
    let nanos = bytes as u128 * 8 * NANOS_PER_SECOND / u128::from(bits_per_second);
    Some(Duration::from_nanos(
        u64::try_from(nanos).unwrap_or(u64::MAX),
    ))
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Something with a size on the wire.
pub(super) trait WireSize {
    /// Bytes of the whole IP packet.
    fn wire_bytes(&self) -> usize;
}

/// What becomes of a packet offered to a pipe.
pub(super) enum Offer<P> {
    /// It left the queue at once: let it travel.
    Travels(P),
    /// It waits; when a time is given, [`Pipe::serve`] must be called then.
    Waits(Option<Duration>),
    /// It does not fit.
    QueueFull(P),
    /// It is larger than the MTU.
    TooBig(P),
}

/// What becomes of a travelling packet.
pub(super) enum Travel {
    Lost,
    Arrives {
        at: Duration,
        duplicate_at: Option<Duration>,
    },
}

/// The state of one direction of a link.
pub(super) struct Pipe<P> {
    conditions: Conditions,
    rng: ChaCha20Rng,
    /// Whether the Gilbert-Elliott process is in its bad state.
    bad: bool,
    queue: VecDeque<P>,
    queued_bytes: usize,
    /// Whether a call of `serve` is due. Not so while the queue is empty or the rate is zero.
    serving: bool,
    /// When the latest packet in order arrives.
    last_arrival: Duration,
    /// When the policer's bucket is full again.
    bucket_full: Duration,
}

impl<P: WireSize> Pipe<P> {
    pub(super) fn new(conditions: Conditions, rng: ChaCha20Rng) -> Self {
        Self {
            conditions,
            rng,
            bad: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            serving: false,
            last_arrival: Duration::ZERO,
            bucket_full: Duration::ZERO,
        }
    }

    pub(super) fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Changes the conditions for what has not left the queue yet. The packet being sent keeps its old end.
    /// When a time is given, `serve` must be called then.
    pub(super) fn set_conditions(
        &mut self,
        now: Duration,
        conditions: Conditions,
    ) -> Option<Duration> {
        self.conditions = conditions;
        self.schedule_service(now)
    }

    /// Bytes of IP packets that wait.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn offer(&mut self, now: Duration, packet: P) -> Offer<P> {
        let bytes = packet.wire_bytes();
        if bytes > self.conditions.mtu_bytes {
            return Offer::TooBig(packet);
        }
        if !self.is_let_through(now, bytes) {
            return Offer::QueueFull(packet);
        }
        match self.conditions.rate {
            // What still waits from the time when there was a rate goes first.
            None if self.queue.is_empty() => return Offer::Travels(packet),
            None => {}
            Some(rate) if self.queued_bytes + bytes > rate.queue_bytes => {
                return Offer::QueueFull(packet);
            }
            Some(_) => {}
        }
        self.queued_bytes += bytes;
        self.queue.push_back(packet);
        Offer::Waits(self.schedule_service(now))
    }

    /// Takes a packet's bytes from the policer's bucket, if they are there.
    fn is_let_through(&mut self, now: Duration, bytes: usize) -> bool {
        let Some(policer) = self.conditions.policer else {
            return true;
        };
        let time = |bytes| time_of(bytes, policer.bits_per_second);
        let (Some(taken), Some(depth)) = (time(bytes), time(policer.burst_bytes)) else {
            return false;
        };
        let full = self.bucket_full.max(now) + taken;
        let passes = full <= now + depth;
        if passes {
            self.bucket_full = full;
        }
        passes
    }

    /// The packet whose turn has ended, and when the next turn ends.
    pub(super) fn serve(&mut self, now: Duration) -> (Option<P>, Option<Duration>) {
        self.serving = false;
        let packet = self.queue.pop_front();
        if let Some(packet) = &packet {
            self.queued_bytes -= packet.wire_bytes();
        }
        (packet, self.schedule_service(now))
    }

    fn schedule_service(&mut self, now: Duration) -> Option<Duration> {
        if self.serving {
            return None;
        }
        let bytes = self.queue.front()?.wire_bytes();
        let service = match self.conditions.rate {
            Some(rate) => rate.service_time(bytes)?,
            None => Duration::ZERO,
        };
        self.serving = true;
        Some(now + service)
    }

    /// Decides how a packet that left the queue at `now` travels.
    pub(super) fn travel(&mut self, now: Duration) -> Travel {
        if self.loses() {
            return Travel::Lost;
        }
        let jitter = self.up_to(self.conditions.jitter);
        let mut at = now + self.conditions.delay + jitter;
        if self.chance(self.conditions.reorder) {
            at += self.conditions.reorder_by;
        } else if !self.conditions.jitter_reorders {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let duplicate_at = self.chance(self.conditions.duplicate).then(|| {
            let spread = self.conditions.jitter.max(DUPLICATE_SPREAD);
            at + self.up_to(spread)
        });
        Travel::Arrives { at, duplicate_at }
    }

    fn loses(&mut self) -> bool {
        match self.conditions.loss {
            Loss::None => false,
            Loss::Random(fraction) => self.chance(fraction),
            Loss::GilbertElliott {
                enter,
                exit,
                good,
                bad,
            } => {
                let flip = self.chance(if self.bad { exit } else { enter });
                self.bad ^= flip;
                self.chance(if self.bad { bad } else { good })
            }
        }
    }

    /// True with this probability. Certain and impossible things draw nothing.
    fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            false
        } else if probability >= 1.0 {
            true
        } else {
            // The upper 53 bits make an evenly distributed f64 below one.
            ((self.rng.next_u64() >> 11) as f64) / ((1_u64 << 53) as f64) < probability
        }
    }

    /// An evenly distributed time up to `limit`.
    fn up_to(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return Duration::ZERO;
        }
        let drawn = (u128::from(self.rng.next_u64()) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(drawn).unwrap_or(nanos))
    }
}
