//! How much of our sound the other side does not get, and how many packets in a row: what redundancy to send follows
//! from both.
//!
//! Judged by the reports of every connection: a packet is lost when all the datagrams that carried it are. Repairs
//! are not seen here, and are not to be: whoever stops repairing because nothing seems lost has learnt nothing.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, VecDeque};

use crate::feedback::PacketReport;

/// The loss is that of about the last so many packets: 4 s of 20 ms frames.
const MEMORY_PACKETS: f32 = 200.0;

/// Before so many were judged, the rest are taken to have arrived: the first packet lost is not 100 % of loss.
const PRIOR_PACKETS: f32 = 50.0;

/// The bursts are the last ten or so, none much older than this many packets: 20 s of 20 ms frames.
const BURSTS_KEPT: f32 = 0.9;
const BURST_MEMORY_PACKETS: f32 = 1000.0;

/// So many bursts of the least length are taken to have come before: a single long one proves nothing.
const PRIOR_BURSTS: f32 = 2.0;

/// A packet nobody tells about is given up when the fate of one so far behind it is known: reports tell of the
/// arrived at once, and of the lost after another report or two.
const PATIENCE_PACKETS: u64 = 32;

/// Datagrams and packets whose fate is not known, at most: 20 s of 20 ms frames.
const MAX_IN_FLIGHT: usize = 1024;

/// Loss of our sound, before any repair.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossStats {
    /// Packets whose fate is known.
    pub judged: u64,
    /// Of these, lost.
    pub lost: u64,
    /// Runs of packets lost one after the other.
    pub bursts: u64,
    /// Part that was lost lately, 0.0..=1.0.
    pub fraction: f32,
    /// Mean length of the bursts lately, in packets; 1 until there were some.
    pub mean_burst: f32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Packet {
    /// Datagrams whose fate is not known.
    waiting: u8,
    arrived: bool,
    known: bool,
}

/// Follows the packets of one flow.
#[derive(Debug, Default)]
pub(super) struct LossMeter {
    /// The packet that each datagram carries, by connection and the low bits of its link sequence.
    datagrams: BTreeMap<(u32, u16), u64>,
    /// The first of `packets`.
    first: u64,
    packets: VecDeque<Packet>,
    newest_known: u64,
    run: u64,
    judged: u64,
    lost: u64,
    bursts: u64,
    /// Forgetful sums: packets, lost ones; bursts, and what was lost in them.
    weight: f32,
    lost_weight: f32,
    burst_weight: f32,
    burst_lost: f32,
}

impl LossMeter {
    /// A datagram with packet `sequence` leaves.
    pub(super) fn sent(&mut self, connection: u32, link_sequence: u16, sequence: u64) {
        if self.packets.is_empty() {
            self.first = sequence;
        }
        // Older than all: its fate was given up.
        let Some(place) = sequence.checked_sub(self.first) else {
            return;
        };
        if place >= MAX_IN_FLIGHT as u64 || self.datagrams.len() >= MAX_IN_FLIGHT {
            // Nobody reports any more. What is known stays, the rest begins anew.
            self.packets.clear();
            self.datagrams.clear();
            self.run = 0;
            return;
        }
        while self.packets.len() as u64 <= place {
            self.packets.push_back(Packet::default());
        }
        if let Some(packet) = self.packet(sequence) {
            packet.waiting = packet.waiting.saturating_add(1);
            // A later copy of a lost packet makes it wait again.
            packet.known = packet.arrived;
            self.datagrams.insert((connection, link_sequence), sequence);
        }
    }

    /// What became of datagrams of any connection.
    pub(super) fn handle(&mut self, reports: &[PacketReport]) {
        for report in reports {
            let [.., high, low] = report.sequence.to_be_bytes();
            let key = (report.connection, u16::from_be_bytes([high, low]));
            let Some(sequence) = self.datagrams.remove(&key) else {
                continue;
            };
            let Some(packet) = self.packet(sequence) else {
                continue;
            };
            packet.waiting = packet.waiting.saturating_sub(1);
            packet.arrived |= report.arrived.is_some();
            packet.known = packet.arrived || packet.waiting == 0;
            if packet.known {
                self.newest_known = self.newest_known.max(sequence);
            }
        }
        self.judge();
    }

    /// A connection is gone: nobody will tell of what it carried.
    pub(super) fn link_down(&mut self, connection: u32) {
        self.datagrams
            .retain(|(other, _sequence), _packet| *other != connection);
    }

    fn packet(&mut self, sequence: u64) -> Option<&mut Packet> {
        let place = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.packets.get_mut(place)
    }

    /// Counts the packets whose fate is known, in order: bursts are bursts only in order.
    fn judge(&mut self) {
        while let Some(packet) = self.packets.front() {
            let given_up = self.first + PATIENCE_PACKETS <= self.newest_known;
            if !packet.known && !given_up {
                return;
            }
            let (known, arrived) = (packet.known, packet.arrived);
            self.packets.pop_front();
            self.first += 1;
            if known {
                self.count(!arrived);
            }
        }
    }

    fn count(&mut self, lost: bool) {
        let keep = 1.0 - 1.0 / MEMORY_PACKETS;
        self.weight = self.weight * keep + 1.0;
        self.lost_weight = self.lost_weight * keep + f32::from(u8::from(lost));
        let keep = 1.0 - 1.0 / BURST_MEMORY_PACKETS;
        self.burst_weight *= keep;
        self.burst_lost *= keep;
        self.judged += 1;
        if lost {
            self.lost += 1;
            self.run += 1;
            return;
        }
        let run = std::mem::take(&mut self.run);
        if run > 0 {
            self.bursts += 1;
            // Nobody needs to tell bursts of more than some seconds apart.
            let run = f32::from(u16::try_from(run).unwrap_or(u16::MAX));
            self.burst_weight = self.burst_weight * BURSTS_KEPT + 1.0;
            self.burst_lost = self.burst_lost * BURSTS_KEPT + run;
        }
    }

    pub(super) fn stats(&self) -> LossStats {
        LossStats {
            judged: self.judged,
            lost: self.lost,
            bursts: self.bursts,
            fraction: self.lost_weight / self.weight.max(PRIOR_PACKETS),
            mean_burst: (self.burst_lost + PRIOR_BURSTS) / (self.burst_weight + PRIOR_BURSTS),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::runtime::TokioRuntime;

    fn report(connection: u32, sequence: u64, arrived: bool, now: Instant) -> PacketReport {
        PacketReport {
            connection,
            sequence,
            bytes: 100,
            sent: now,
            arrived: arrived.then_some(Duration::ZERO),
        }
    }

    fn low(sequence: u64) -> u16 {
        u16::try_from(sequence % 0x1_0000).unwrap()
    }

    /// Sends packets by one connection; `lost` tells which are.
    fn run(packets: u64, lost: impl Fn(u64) -> bool) -> LossMeter {
        let now = quinn::Runtime::now(&TokioRuntime);
        let mut meter = LossMeter::default();
        for n in 0..packets {
            meter.sent(1, low(n * 3), n + 7);
            // Losses are told five packets later than arrivals.
            let mut news = vec![report(1, n * 3, true, now)];
            news.retain(|_| !lost(n));
            if let Some(earlier) = n.checked_sub(5).filter(|n| lost(*n)) {
                news.push(report(1, earlier * 3, false, now));
            }
            meter.handle(&news);
        }
        meter
    }

    /// Depends on `n` alone, and looks like chance.
    fn chance(n: u64) -> f64 {
        let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn random_loss_has_its_fraction_and_short_bursts() {
        for percent in [0, 5, 10, 20, 30] {
            let part = f64::from(percent) / 100.0;
            let stats = run(3000, |n| chance(n) < part).stats();
            println!("{percent} %: {stats:?}");
            assert!((f64::from(stats.fraction) - part).abs() < 0.06, "{stats:?}");
            assert!(stats.mean_burst < 1.9, "{stats:?}");
            assert!(stats.judged >= 2994);
            let exact = (0..2990).filter(|n| chance(*n) < part).count() as u64;
            assert!(stats.lost >= exact && stats.lost <= exact + 10);
        }
    }

    #[test]
    fn bursts_are_known_by_their_length() {
        for (burst, every) in [(3, 30), (8, 80)] {
            let stats = run(2000, |n| n % every < burst).stats();
            println!("{burst} of {every}: {stats:?}");
            assert!((0.07..0.14).contains(&stats.fraction), "{stats:?}");
            let length = burst as f32;
            assert!(
                (length * 0.75..=length).contains(&stats.mean_burst),
                "{stats:?}"
            );
        }
        // Soon, too: two bursts of three in a second.
        let stats = run(60, |n| n % 30 < 3).stats();
        assert!(stats.mean_burst > 1.9 && stats.fraction > 0.05, "{stats:?}");
    }

    #[test]
    fn a_few_losses_in_the_beginning_are_no_catastrophe_and_old_ones_are_forgotten() {
        let stats = run(10, |n| n == 0).stats();
        assert!(
            stats.fraction <= 0.02 && stats.mean_burst <= 1.0,
            "{stats:?}"
        );
        let stats = run(2000, |n| n < 500 && n % 5 == 0).stats();
        assert!(stats.fraction < 0.001 && stats.lost == 100, "{stats:?}");
    }

    #[test]
    fn a_packet_is_lost_only_when_every_copy_is() {
        let now = quinn::Runtime::now(&TokioRuntime);
        let mut meter = LossMeter::default();
        for n in 0..100u64 {
            meter.sent(1, low(n), n);
            meter.sent(2, low(n), n);
            // Every second dies on the first connection, every fourth on both.
            meter.handle(&[report(1, n, n % 2 != 0, now), report(2, n, n % 4 != 0, now)]);
        }
        let stats = meter.stats();
        assert_eq!((stats.judged, stats.lost), (100, 25));
    }

    #[test]
    fn what_nobody_tells_of_is_not_counted_and_holds_up_nothing_for_long() {
        let now = quinn::Runtime::now(&TokioRuntime);
        let mut meter = LossMeter::default();
        for n in 0..200 {
            meter.sent(1, low(n), n);
            if n % 10 != 0 {
                meter.handle(&[report(1, n, true, now)]);
            }
        }
        meter.sent(2, 0, 200);
        meter.link_down(2);
        let stats = meter.stats();
        assert_eq!(stats.lost, 0);
        assert!(stats.judged > 140, "{stats:?}");
        assert!(meter.datagrams.len() <= 20);
    }

    proptest! {
        #[test]
        fn no_order_of_events_breaks_the_count(
            steps in prop::collection::vec((0u64..40, 1u32..4, any::<u16>(), any::<bool>(), 0u8..20), 1..3000),
        ) {
            let now = quinn::Runtime::now(&TokioRuntime);
            let mut meter = LossMeter::default();
            let mut sequence = 0;
            for (step, connection, link, arrived, kind) in steps {
                match kind {
                    0 => meter.link_down(connection),
                    1..=9 => meter.handle(&[report(connection, u64::from(link % 256), arrived, now)]),
                    _ => {
                        sequence += step;
                        meter.sent(connection, link % 256, sequence.saturating_sub(20));
                    }
                }
                let stats = meter.stats();
                prop_assert!((0.0..=1.0).contains(&stats.fraction));
                prop_assert!(stats.mean_burst >= 0.99 && stats.mean_burst.is_finite());
                prop_assert!(stats.lost <= stats.judged && stats.bursts <= stats.lost);
                prop_assert!(meter.packets.len() <= MAX_IN_FLIGHT && meter.datagrams.len() <= MAX_IN_FLIGHT);
            }
        }
    }
}
