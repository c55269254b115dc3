//! The sender's side of retransmission: what was sent lately, to be sent again when it is asked for.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::packet::OutgoingPacket;

/// How much to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentPacketsConfig {
    /// Older packets are of no use to anybody.
    pub max_age: Duration,
    /// Bytes of packets that are kept at most.
    pub max_bytes: usize,
    /// A packet is sent again no sooner than this after it was last sent, or than a round trip if that is longer: the
    /// answer before is still under way.
    pub min_interval: Duration,
}

impl Default for SentPacketsConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(2),
            max_bytes: 2 << 20,
            min_interval: Duration::from_millis(5),
        }
    }
}

/// What became of requests, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentPacketsCounters {
    /// Packets sent again.
    pub answered: u64,
    /// Requests for packets that are not here any more, or never were.
    pub unknown: u64,
    /// Requests that came before the answer to the one before can have arrived.
    pub too_soon: u64,
}

#[derive(Debug)]
struct Sent {
    packet: OutgoingPacket,
    first: Instant,
    last: Instant,
}

/// Packets that were sent lately.
#[derive(Debug)]
pub struct SentPackets {
    config: SentPacketsConfig,
    /// With consecutive sequence numbers.
    packets: VecDeque<Sent>,
    bytes: usize,
    counters: SentPacketsCounters,
}

impl SentPackets {
    /// Empty.
    #[must_use]
    pub fn new(config: SentPacketsConfig) -> Self {
        Self {
            config,
            packets: VecDeque::new(),
            bytes: 0,
            counters: SentPacketsCounters::default(),
        }
    }

    /// What became of requests.
    #[must_use]
    pub fn counters(&self) -> SentPacketsCounters {
        self.counters
    }

    /// Bytes of packets kept.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a packet that is sent now for the first time. Those before it go if they do not precede it.
    pub fn insert(&mut self, now: Instant, packet: OutgoingPacket) {
        let last = self.packets.back().map(|sent| sent.packet.sequence);
        if last.is_some_and(|last| last.wrapping_add(1) != packet.sequence) {
            self.clear();
        }
        self.bytes += packet.bytes.len();
        self.packets.push_back(Sent {
            packet,
            first: now,
            last: now,
        });
        self.expire(now);
    }

    /// Keeps none of those before: nobody needs them any more.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.bytes = 0;
    }

    fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.packets.front() {
            // Numbers would become ambiguous after half of their range.
            let is_kept = self.bytes <= self.config.max_bytes
                && self.packets.len() <= usize::from(u16::MAX / 2)
                && now.saturating_duration_since(oldest.first) <= self.config.max_age;
            if is_kept {
                return;
            }
            self.bytes -= oldest.packet.bytes.len();
            self.packets.pop_front();
        }
    }

    /// The packets with these numbers, as far as they are here and were not sent within the last round trip.
    pub fn answer(
        &mut self,
        now: Instant,
        round_trip: Duration,
        sequences: impl IntoIterator<Item = u16>,
    ) -> Vec<OutgoingPacket> {
        self.expire(now);
        let interval = self.config.min_interval.max(round_trip);
        let mut answers = Vec::new();
        for sequence in sequences {
            let oldest = self.packets.front().map(|sent| sent.packet.sequence);
            let sent = oldest.and_then(|oldest| {
                let place = usize::from(sequence.wrapping_sub(oldest));
                self.packets.get_mut(place)
            });
            let Some(sent) = sent else {
                self.counters.unknown += 1;
                continue;
            };
            // What was sent once may have been lost on the spot, and its loss was seen by what came behind it.
            let was_answered = sent.last > sent.first;
            if was_answered && now < sent.last + interval {
                self.counters.too_soon += 1;
                continue;
            }
            // At the same instant as the first time only in tests; it must count as an answer there, too.
            sent.last = now.max(sent.first + Duration::from_nanos(1));
            self.counters.answered += 1;
            answers.push(sent.packet.clone());
        }
        answers
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "the numbers of a test wrap, and its clock starts somewhere"
)]
mod tests {
    use super::*;

    fn packet(sequence: u16) -> OutgoingPacket {
        OutgoingPacket {
            sequence,
            bytes: vec![sequence as u8; 1000],
        }
    }

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    #[test]
    fn what_is_asked_for_is_sent_again_once_per_round_trip() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut sent = SentPackets::new(SentPacketsConfig::default());
        for (n, sequence) in (65_530..=u16::MAX).chain(0..10).enumerate() {
            sent.insert(at(n as u64), packet(sequence));
        }
        assert_eq!(
            sent.answer(at(60), ROUND_TRIP, [65_535, 0, 3, 500]),
            [65_535, 0, 3].map(packet)
        );
        assert_eq!(sent.answer(at(159), ROUND_TRIP, [65_535, 0, 3]), []);
        assert_eq!(sent.answer(at(160), ROUND_TRIP, [0, 0]), [packet(0)]);
        let expected = SentPacketsCounters {
            answered: 4,
            unknown: 1,
            too_soon: 4,
        };
        assert_eq!(sent.counters(), expected);
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let config = SentPacketsConfig {
            max_bytes: 10_000,
            ..SentPacketsConfig::default()
        };
        let mut sent = SentPackets::new(config);
        for sequence in 0..1000 {
            sent.insert(at(sequence.into()), packet(sequence));
            assert!(sent.held_bytes() <= 10_000);
        }
        assert_eq!(sent.answer(at(1000), ROUND_TRIP, [989, 990]), [packet(990)]);
        assert_eq!(sent.answer(at(2996), ROUND_TRIP, [995, 996]), [packet(996)]);
        sent.insert(at(2997), packet(7));
        assert_eq!(sent.answer(at(2998), ROUND_TRIP, [999, 7]), [packet(7)]);
        assert_eq!(sent.held_bytes(), 1000);
    }
}
