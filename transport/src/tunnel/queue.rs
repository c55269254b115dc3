//! What waits for a TCP connection that does not take it now.
//!
//! TCP keeps order and loses nothing, so whatever is written delays all that follows. Therefore little is written
//! ahead, and what waits here behaves as on a router that is good to voice: each flow has a queue of its own and they
//! take turns (in the manner of RFC 8290), packets that waited too long are dropped, and all of it is bounded. QUIC
//! sees the loss and slows down.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::demux::{Kind, classify};

/// A packet that waited this long is not sent any more: with the bytes that wait in the system, voice stays within
/// 150 ms of what the network takes.
pub const FRAME_LIFETIME: Duration = Duration::from_millis(110);

/// A bulky packet sooner, so that a flow that wants more than the line takes loses these, and not the voice between
/// them.
pub const BULKY_LIFETIME: Duration = Duration::from_millis(60);

/// What is longer is bulky: 20 ms of voice at the highest rate, with everything around it, is not.
const BULKY_BYTES: usize = 600;

/// The first few packets of a flow may wait longer: on a thin line a handshake's flight needs it.
const PATIENT_FRAMES: usize = 4;
/// So long.
const PATIENT_LIFETIME: Duration = Duration::from_secs(1);

/// Bytes that wait at most, over all flows: what 5 Mbit/s send in [`FRAME_LIFETIME`].
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// Flows that are told apart; more share one. A call has one or two, each with a channel of its own.
const MAX_FLOWS: usize = 32;

/// How a queue behaves. The switches are there to show what they are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Flows take turns; without it the first come is the first sent.
    pub fair: bool,
    /// Packets that waited too long are dropped.
    pub expire: bool,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            fair: true,
            expire: true,
        }
    }
}

/// What a queue did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Packets taken out to be written.
    pub sent: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
    /// Packets dropped because they had waited too long.
    pub expired: u64,
    /// Packets dropped because the queue was full.
    pub overflowed: u64,
    /// Longest that a packet has waited before it was written.
    pub longest_wait: Duration,
}

/// Whose packets take turns: what the demultiplexer can tell without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowKey {
    /// STUN and TURN control: few and small.
    Stun,
    /// QUIC to or from the supernode itself.
    Node,
    /// One relayed peer.
    Channel([u8; 2]),
    /// Everything, where flows are not told apart.
    All,
}

impl FlowKey {
    fn of(datagram: &[u8]) -> Self {
        match (classify(datagram, true), datagram) {
            (Kind::Stun, _) => Self::Stun,
            (Kind::ChannelData, [high, low, ..]) => Self::Channel([*high, *low]),
            (Kind::ChannelData | Kind::Quic, _) => Self::Node,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    datagram: Vec<u8>,
}

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// The queue in front of one TCP connection.
#[derive(Debug)]
pub struct FrameQueue {
    policy: QueuePolicy,
    /// Flows with packets; the first one's turn is next.
    flows: VecDeque<Flow>,
    bytes: usize,
    stats: QueueStats,
}

impl FrameQueue {
    /// An empty one.
    #[must_use]
    pub fn new(policy: QueuePolicy) -> Self {
        Self {
            policy,
            flows: VecDeque::new(),
            bytes: 0,
            stats: QueueStats::default(),
        }
    }

    /// Adds a datagram; the oldest of the flow with the most goes where there is no room.
    pub fn push(&mut self, now: Instant, datagram: &[u8]) {
        let mut key = if self.policy.fair {
            FlowKey::of(datagram)
        } else {
            FlowKey::All
        };
        let known = self.flows.iter().any(|flow| flow.key == key);
        if !known && self.flows.len() >= MAX_FLOWS {
            key = FlowKey::All;
        }
        let waiting = Waiting {
            since: now,
            datagram: datagram.to_vec(),
        };
        self.bytes += datagram.len();
        match self.flows.iter_mut().find(|flow| flow.key == key) {
            Some(flow) => {
                flow.bytes += datagram.len();
                flow.waiting.push_back(waiting);
            }
            None => self.flows.push_back(Flow {
                key,
                bytes: datagram.len(),
                waiting: VecDeque::from([waiting]),
            }),
        }
        while self.bytes > MAX_QUEUED_BYTES {
            self.drop_oldest_of_fullest();
        }
    }

    fn drop_oldest_of_fullest(&mut self) {
        let fullest = self.flows.iter_mut().max_by_key(|flow| flow.bytes);
        let Some(dropped) = fullest.and_then(Flow::take) else {
            return;
        };
        self.bytes -= dropped.datagram.len();
        self.stats.overflowed += 1;
        self.flows.retain(|flow| !flow.waiting.is_empty());
    }

    /// The next datagram that is still worth writing.
    pub fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        loop {
            let mut flow = self.flows.pop_front()?;
            while let Some(next) = flow.take() {
                self.bytes -= next.datagram.len();
                let waited = now.saturating_duration_since(next.since);
                let lifetime = if flow.waiting.len() < PATIENT_FRAMES {
                    PATIENT_LIFETIME
                } else if next.datagram.len() > BULKY_BYTES {
                    BULKY_LIFETIME
                } else {
                    FRAME_LIFETIME
                };
                if self.policy.expire && waited > lifetime {
                    self.stats.expired += 1;
                    continue;
                }
                self.stats.sent += 1;
                self.stats.sent_bytes += next.datagram.len() as u64;
                self.stats.longest_wait = self.stats.longest_wait.max(waited);
                if !flow.waiting.is_empty() {
                    self.flows.push_back(flow);
                }
                return Some(next.datagram);
            }
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.stats
    }
}

impl Flow {
    fn take(&mut self) -> Option<Waiting> {
        let taken = self.waiting.pop_front()?;
        self.bytes -= taken.datagram.len();
        Some(taken)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::runtime::TokioRuntime;

    fn start() -> Instant {
        quinn::Runtime::now(&TokioRuntime)
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A packet of a relayed flow.
    fn on_channel(channel: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0x40, channel, 0, 0];
        datagram.resize(len, 7);
        datagram
    }

    /// How long voice waits beside a flow that wants twice what the line takes: 1 Mbit/s, 1200 bytes in 9.6 ms.
    fn voice_waits(policy: QueuePolicy) -> (Duration, QueueStats) {
        let mut queue = FrameQueue::new(policy);
        let (mut now, begin) = (start(), start());
        let mut line_free = now;
        let mut sent_voice = VecDeque::new();
        let mut longest = Duration::ZERO;
        for step in 0..4000u64 {
            now = begin + millis(step);
            if step % 5 == 0 {
                queue.push(now, &on_channel(1, 1200));
            }
            if step % 20 == 0 {
                queue.push(now, &on_channel(2, 130));
                sent_voice.push_back(now);
            }
            while line_free <= now {
                let Some(datagram) = queue.pop(now) else {
                    break;
                };
                line_free = now + Duration::from_micros(datagram.len() as u64 * 8);
                if datagram.len() < 1000 {
                    let since = sent_voice.pop_front().unwrap();
                    longest = longest.max(now - since);
                }
            }
        }
        (longest, queue.stats())
    }

    #[test]
    fn voice_does_not_wait_behind_a_flow_that_wants_more_than_the_line() {
        let (fair, stats) = voice_waits(QueuePolicy::default());
        assert!(fair <= millis(25), "{fair:?}");
        assert!(stats.expired > 100, "{stats:?}");
        let (unfair, stats) = voice_waits(QueuePolicy {
            fair: false,
            expire: false,
        });
        assert!(unfair > millis(200), "{unfair:?}");
        assert!(stats.overflowed > 0 && stats.expired == 0, "{stats:?}");
    }

    #[test]
    fn nothing_old_is_sent_and_a_short_flight_has_time() {
        let begin = start();
        let mut queue = FrameQueue::new(QueuePolicy::default());
        for _ in 0..10 {
            queue.push(begin, &on_channel(1, 100));
        }
        let mut sent = 0;
        while queue.pop(begin + millis(111)).is_some() {
            sent += 1;
        }
        assert_eq!(sent, PATIENT_FRAMES);
        for _ in 0..PATIENT_FRAMES {
            queue.push(begin, &on_channel(1, 100));
        }
        assert_eq!(queue.pop(begin + millis(1001)), None);
        assert!(queue.is_empty());
        assert_eq!(queue.stats().expired, 10);
    }

    proptest! {
        /// Order within a flow, bounds, and counters that add up, whatever is pushed and popped.
        #[test]
        fn a_queue_is_bounded_and_keeps_each_flows_order(
            ops in vec((0u8..3, 4usize..1500, any::<bool>(), 0u64..40), 1..600),
            fair: bool,
        ) {
            let mut now = start();
            let mut queue = FrameQueue::new(QueuePolicy { fair, expire: true });
            let (mut pushed, mut popped) = (0u64, 0u64);
            let mut last = [0u64; 3];
            for (flow, len, push, wait) in ops {
                now += millis(wait);
                if push {
                    pushed += 1;
                    let mut datagram = on_channel(flow, len + 8);
                    datagram[4..12].copy_from_slice(&pushed.to_be_bytes());
                    queue.push(now, &datagram);
                } else if let Some(datagram) = queue.pop(now) {
                    popped += 1;
                    let flow = usize::from(datagram[1]);
                    let number = u64::from_be_bytes(datagram[4..12].try_into().unwrap());
                    prop_assert!(number > last[flow]);
                    last[flow] = number;
                }
                prop_assert!(queue.bytes <= MAX_QUEUED_BYTES);
                let held: usize = queue.flows.iter().map(|flow| flow.bytes).sum();
                prop_assert_eq!(held, queue.bytes);
            }
            let stats = queue.stats();
            let waiting: u64 = queue.flows.iter().map(|flow| flow.waiting.len() as u64).sum();
            prop_assert_eq!(stats.sent, popped);
            prop_assert_eq!(pushed, popped + waiting + stats.expired + stats.overflowed);
        }
    }
}
