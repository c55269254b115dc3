//! What a receiver tells about the datagrams of one connection, in the manner of RFC 8888.
//!
//! A report goes out every 50 ms, also in silence. It names the connection it is about, so that it can travel
//! another way when that connection's own way back is dead.
//!
//! ```text
//!  | ver=1 | about (u32) | age (u16) | timestamp (u32) | begin (u16) | count (u16) | count x (u16) |
//!
//!  one report per datagram, for link sequences begin, begin + 1, …   (RFC 8888 section 3.1)
//!   15  14 13  12                 0
//!  +---+-----+--------------------+
//!  | R | ECN | arrival offset     |
//!  +---+-----+--------------------+
//! ```
//!
//! *Age*: milliseconds since anything arrived on that connection; 65535 for that long or longer. *Timestamp*:
//! the receiver's clock in units of 250 µs, any origin, wrapping. *Arrival offset*: how long before the
//! timestamp the datagram arrived, in the same units; 0x1ffe means that long or longer.
//!
//! Departures from RFC 8888: the time unit (1/1024 s is coarse against the gradients that matter), one
//! connection instead of an SSRC, and ECN stays 0, because quinn does not tell datagrams' marks. Every datagram
//! is reported twice, so one lost report loses nothing; more often where reports come sooner than every 40 ms, so that
//! what is overtaken by others has as much time to arrive as ever.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::wire::{Reader, WireError, Writer};

/// Most datagrams in one report: it fits one datagram. At 1200 bytes and two reports each, 46 Mbit/s.
pub const MAX_REPORTS: usize = 480;

/// Datagrams that were sent and are not judged yet: four seconds at a thousand a second.
const MAX_UNJUDGED: usize = 4096;

/// What was reported is let go no more often than this.
const TURN: Duration = Duration::from_millis(40);

/// Unit of times on the wire.
const TICK: Duration = Duration::from_micros(250);

const VERSION: u8 = 1;
const RECEIVED: u16 = 0x8000;
const OFFSET_MAX: u16 = 0x1ffe;

/// A report about one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// Number of the connection in its session.
    pub about: u32,
    /// Time since anything arrived on it, to the millisecond, at most 65 535 ms.
    pub age: Duration,
    /// The receiver's clock, in ticks of 250 µs.
    pub timestamp: u32,
    /// Link sequence of the first report.
    pub begin: u16,
    /// For each datagram whether it arrived, and then how many ticks before [`Self::timestamp`].
    pub arrivals: Vec<Option<u16>>,
}

impl Feedback {
    /// Reads a report.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let about = reader.u32()?;
        let age = Duration::from_millis(u64::from(reader.u16()?));
        let timestamp = reader.u32()?;
        let begin = reader.u16()?;
        let count = usize::from(reader.u16()?);
        if count > MAX_REPORTS {
            return Err(WireError::TooLong);
        }
        let mut arrivals = Vec::with_capacity(count);
        for _ in 0..count {
            let report = reader.u16()?;
            let received = report & RECEIVED != 0;
            arrivals.push(received.then_some((report & 0x1fff).min(OFFSET_MAX)));
        }
        reader.finish()?;
        Ok(Self {
            about,
            age,
            timestamp,
            begin,
            arrivals,
        })
    }

    /// The report as it is sent, without the datagram's head.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(15 + 2 * self.arrivals.len());
        out.put_u8(VERSION);
        out.put_u32(self.about);
        out.put_u16(u16::try_from(self.age.as_millis()).unwrap_or(u16::MAX));
        out.put_u32(self.timestamp);
        out.put_u16(self.begin);
        out.put_u16(u16::try_from(self.arrivals.len()).unwrap_or(u16::MAX));
        for arrival in &self.arrivals {
            out.put_u16(arrival.map_or(0, |offset| RECEIVED | offset.min(OFFSET_MAX)));
        }
        out
    }
}

/// The full number whose low 16 bits are `low`, nearest to `near`.
fn extend(low: u16, near: u64) -> u64 {
    let candidate = near & !0xffff | u64::from(low);
    if candidate + 0x8000 < near {
        candidate + 0x1_0000
    } else if candidate > near + 0x8000 && candidate >= 0x1_0000 {
        candidate - 0x1_0000
    } else {
        candidate
    }
}

/// The receiving side: arrivals that are still to be reported.
#[derive(Debug)]
pub struct ArrivalLog {
    origin: Instant,
    /// First datagram in `arrivals`; all earlier ones were reported twice.
    begin: u64,
    arrivals: VecDeque<Option<Instant>>,
    /// First datagram that no report covered when reported ones were last let go, and when that was.
    fresh: u64,
    turned: Instant,
    last: Instant,
}

impl ArrivalLog {
    /// An empty log of a connection that came up at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            begin: 0,
            arrivals: VecDeque::new(),
            fresh: 0,
            turned: now,
            last: now,
        }
    }

    /// Notes a datagram.
    pub fn arrived(&mut self, link_sequence: u16, now: Instant) {
        self.last = now;
        let next = self.begin + self.arrivals.len() as u64;
        let sequence = extend(link_sequence, next);
        let Some(place) = sequence.checked_sub(self.begin) else {
            return;
        };
        if place >= 0x8000 {
            // Nothing that was sent is so far ahead.
            return;
        }
        while place >= self.arrivals.len() as u64 {
            self.arrivals.push_back(None);
        }
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(arrival) = self.arrivals.get_mut(place) {
            arrival.get_or_insert(now);
        }
        while self.arrivals.len() > MAX_REPORTS {
            self.arrivals.pop_front();
            self.begin += 1;
        }
    }

    /// When anything arrived last.
    #[must_use]
    pub fn last_arrival(&self) -> Instant {
        self.last
    }

    /// A report of everything not yet reported twice, or only just.
    pub fn report(&mut self, about: u32, now: Instant) -> Feedback {
        let timestamp = ticks(now.saturating_duration_since(self.origin));
        let [high, low] = {
            let [.., high, low] = self.begin.to_be_bytes();
            [high, low]
        };
        let feedback = Feedback {
            about,
            age: now.saturating_duration_since(self.last),
            timestamp: wrap(timestamp),
            begin: u16::from_be_bytes([high, low]),
            arrivals: self
                .arrivals
                .iter()
                .map(|arrival| {
                    arrival.map(|at| {
                        let offset = ticks(now.saturating_duration_since(at));
                        u16::try_from(offset).unwrap_or(OFFSET_MAX).min(OFFSET_MAX)
                    })
                })
                .collect(),
        };
        if now.saturating_duration_since(self.turned) >= TURN {
            self.turned = now;
            let next = self.begin + self.arrivals.len() as u64;
            let reported = std::mem::replace(&mut self.fresh, next);
            while self.begin < reported {
                self.arrivals.pop_front();
                self.begin += 1;
            }
        }
        feedback
    }
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX)
}

/// The low 32 bits.
fn wrap(value: u64) -> u32 {
    let [.., a, b, c, d] = value.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// What became of one datagram that was sent, for an estimate of the path's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketReport {
    /// Connection it went by.
    pub connection: u32,
    /// Its place among the datagrams of that connection.
    pub sequence: u64,
    /// What [`SentLog::sent`] was told of its size, in bytes.
    pub bytes: usize,
    /// When it was handed to QUIC.
    pub sent: Instant,
    /// When it arrived by the receiver's clock, whose origin is arbitrary; `None` if it was lost.
    pub arrived: Option<Duration>,
}

/// The sending side: datagrams whose fate is unknown.
#[derive(Debug, Default)]
pub struct SentLog {
    first: u64,
    sent: VecDeque<Sent>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    bytes: usize,
    reported: bool,
    /// Whether a report spoke of it: what none did may have arrived.
    covered: bool,
}

impl SentLog {
    /// Numbers a datagram of `bytes` that leaves now.
    pub fn sent(&mut self, bytes: usize, now: Instant) -> u16 {
        let sequence = self.first + self.sent.len() as u64;
        self.sent.push_back(Sent {
            at: now,
            bytes,
            reported: false,
            covered: false,
        });
        if self.sent.len() > MAX_UNJUDGED {
            self.sent.pop_front();
            self.first += 1;
        }
        let [.., high, low] = sequence.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Learns from a report; each datagram is told once: when it is known to have arrived, or when no later
    /// report can say so. One that every report about was lost of is not told at all.
    pub fn handle(&mut self, feedback: &Feedback, out: &mut Vec<PacketReport>) {
        let next = self.first + self.sent.len() as u64;
        let begin = extend(feedback.begin, next);
        // A report of what was never sent is a lie or a defect; it teaches nothing.
        if begin > next || begin + feedback.arrivals.len() as u64 > next {
            return;
        }
        for (place, arrival) in feedback.arrivals.iter().enumerate() {
            let sequence = begin + place as u64;
            let Some(entry) = self.entry(sequence) else {
                continue;
            };
            entry.covered = true;
            let Some(offset) = arrival else {
                continue;
            };
            if entry.reported {
                continue;
            }
            entry.reported = true;
            let ticks = feedback.timestamp.wrapping_sub(u32::from(*offset));
            out.push(PacketReport {
                connection: feedback.about,
                sequence,
                bytes: entry.bytes,
                sent: entry.at,
                arrived: Some(TICK * ticks),
            });
        }
        while self.first < begin
            && let Some(entry) = self.sent.pop_front()
        {
            if entry.covered && !entry.reported {
                out.push(PacketReport {
                    connection: feedback.about,
                    sequence: self.first,
                    bytes: entry.bytes,
                    sent: entry.at,
                    arrived: None,
                });
            }
            self.first += 1;
        }
    }

    fn entry(&mut self, sequence: u64) -> Option<&mut Sent> {
        let place = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.sent.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::TokioRuntime;

    fn start() -> Instant {
        quinn::Runtime::now(&TokioRuntime)
    }

    #[test]
    fn numbers_are_extended_to_the_nearest() {
        assert_eq!(extend(5, 3), 5);
        assert_eq!(extend(0xffff, 0x1_0002), 0xffff);
        assert_eq!(extend(1, 0xffff), 0x1_0001);
        assert_eq!(extend(0xffff, 2), 0xffff);
    }

    /// However often it is reported: what others overtake is not lost yet.
    #[test]
    fn what_comes_30_ms_late_is_told_as_arrived() {
        let begin = start();
        let at = |millis: u64| begin + Duration::from_millis(millis);
        for every in [10, 20, 50] {
            let mut sender = SentLog::default();
            let mut receiver = ArrivalLog::new(begin);
            let mut told = Vec::new();
            for milli in 0..1000 {
                if milli % 10 == 0 {
                    sender.sent(100, at(milli));
                }
                // Every fifth is overtaken by three others.
                let low = |n: u64| u16::try_from(n).unwrap();
                if milli % 10 == 5 && milli / 10 % 5 != 0 {
                    receiver.arrived(low(milli / 10), at(milli));
                }
                if milli % 50 == 35 {
                    receiver.arrived(low(milli / 50 * 5), at(milli));
                }
                if milli % every == 7 {
                    sender.handle(&receiver.report(1, at(milli)), &mut told);
                }
            }
            assert!(told.len() > 80, "{every}: {}", told.len());
            assert!(
                told.iter().all(|report| report.arrived.is_some()),
                "{every}"
            );
        }
    }

    proptest! {
        #[test]
        fn reports_round_trip(
            about: u32,
            age in 0u64..=65_535,
            timestamp: u32,
            begin: u16,
            arrivals in prop::collection::vec(prop::option::of(0u16..=OFFSET_MAX), 0..=MAX_REPORTS),
        ) {
            let feedback = Feedback { about, age: Duration::from_millis(age), timestamp, begin, arrivals };
            let bytes = feedback.encode();
            prop_assert!(bytes.len() + 3 <= crate::endpoint::MAX_DATAGRAM);
            prop_assert_eq!(Feedback::decode(&bytes), Ok(feedback));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            if let Ok(feedback) = Feedback::decode(&bytes) {
                let mut out = Vec::new();
                let mut log = SentLog::default();
                log.sent(100, start());
                log.handle(&feedback, &mut out);
                prop_assert!(out.len() <= 1);
            }
        }

        /// Whatever the network does, each datagram's fate is told once, and truly, as long as no two reports in
        /// a row are lost.
        #[test]
        fn every_fate_is_told_once_and_truly(
            fates in prop::collection::vec((any::<bool>(), 0u8..4), 1..2000),
            every in 1usize..50,
        ) {
            let origin = start();
            let mut sender = SentLog::default();
            let mut receiver = ArrivalLog::new(origin);
            let mut told: std::collections::BTreeMap<u64, bool> = std::collections::BTreeMap::new();
            let mut lost_report = false;
            let mut now = origin;
            for (index, (arrives, network)) in fates.iter().enumerate() {
                now += Duration::from_millis(1);
                let low = sender.sent(100, now);
                if *arrives {
                    receiver.arrived(low, now + Duration::from_millis(20));
                }
                if index % every == 0 {
                    let report = receiver.report(3, now + Duration::from_millis(30));
                    let lose = *network == 0 && !lost_report;
                    lost_report = lose;
                    if lose {
                        continue;
                    }
                    let mut out = Vec::new();
                    sender.handle(&Feedback::decode(&report.encode()).unwrap(), &mut out);
                    for report in out {
                        prop_assert_eq!(told.insert(report.sequence, report.arrived.is_some()), None);
                        if let Some(at) = report.arrived {
                            let took = origin + at - report.sent;
                            let expected = Duration::from_millis(20);
                            prop_assert!(took.abs_diff(expected) <= 2 * TICK);
                        }
                    }
                }
            }
            for (sequence, arrived) in told {
                let index = usize::try_from(sequence).unwrap();
                prop_assert_eq!(fates.get(index).map(|fate| fate.0), Some(arrived));
            }
        }
    }

    #[test]
    fn what_every_report_about_was_lost_of_is_not_called_lost() {
        let origin = start();
        let (mut sender, mut receiver) = (SentLog::default(), ArrivalLog::new(origin));
        let mut out = Vec::new();
        for (n, lost) in [true, true, true, false, false, false]
            .into_iter()
            .enumerate()
        {
            let now = origin + TURN * u32::try_from(n + 1).unwrap();
            for arrives in [true, false] {
                let low = sender.sent(100, origin);
                if arrives {
                    receiver.arrived(low, origin);
                }
            }
            // The second of each pair shows as missing once something follows it.
            let report = receiver.report(0, now);
            if !lost {
                sender.handle(&report, &mut out);
            }
        }
        let of = |arrived: bool| -> Vec<u64> {
            let these = out.iter().filter(|one| one.arrived.is_some() == arrived);
            these.map(|one| one.sequence).collect()
        };
        assert_eq!(of(true), [4, 6, 8, 10]);
        assert_eq!(of(false), [3, 5]);
    }

    #[test]
    fn age_is_told_in_silence() {
        let origin = start();
        let mut log = ArrivalLog::new(origin);
        log.arrived(0, origin + Duration::from_millis(10));
        let report = log.report(7, origin + Duration::from_millis(130));
        assert_eq!((report.about, report.age), (7, Duration::from_millis(120)));
        assert_eq!(report.arrivals, vec![Some(480)]);
        assert_eq!(
            log.report(7, origin + Duration::from_millis(180))
                .arrivals
                .len(),
            1
        );
        let third = log.report(7, origin + Duration::from_secs(100));
        assert_eq!((third.arrivals.len(), third.begin), (0, 1));
        assert_eq!(
            Feedback::decode(&third.encode()).unwrap().age.as_millis(),
            65_535
        );
    }
}
