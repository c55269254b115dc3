//! From wrapping counters to numbers that only grow, and which packets were seen before.

#![warn(clippy::indexing_slicing)]

use crate::time::{MediaTime, RtpTimestamp};

/// Packets behind the newest whose arrival is remembered, to tell a duplicate from a late packet. More than
/// 10 s of 10 ms packets: nothing that old can still be played.
const WINDOW: u64 = 1024;

/// A jump further than this, forwards or back, is a new start and not a loss (RFC 3550 appendix A.1).
const MAX_DROPOUT: i64 = 3000;

/// What a sequence number says about its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// The first of its number: play it.
    New,
    /// Its number was seen before.
    Duplicate,
    /// So old that nobody knows whether it was seen before.
    TooOld,
    /// A jump that one packet alone does not prove; it is dropped, and the next in order starts anew.
    Suspicious,
    /// The sender began again: two consecutive numbers far from all others. This packet is the first.
    Restarted,
}

/// Unwraps sequence numbers, finds duplicates and counts what is missing (RFC 3550 section 6.4.1,
/// appendices A.1 and A.3).
#[derive(Debug)]
pub struct SequenceTracker {
    highest: u64,
    lowest: u64,
    seen: [u64; (WINDOW / 64) as usize],
    received: u64,
    expected_before: u64,
    suspect: Option<u16>,
    started: bool,
}

impl Default for SequenceTracker {
    fn default() -> Self {
        Self::new()
    }
}

impl SequenceTracker {
    /// Has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            highest: 0,
            lowest: 0,
            seen: [0; (WINDOW / 64) as usize],
            received: 0,
            expected_before: 0,
            suspect: None,
            started: false,
        }
    }

    /// Distinct packets received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets that the sender sent, as far as the numbers tell: from the lowest to the highest.
    #[must_use]
    pub fn expected(&self) -> u64 {
        if self.started {
            self.expected_before + (self.highest - self.lowest + 1)
        } else {
            self.expected_before
        }
    }

    /// Expected minus received. A packet under way counts as lost until it is here.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Takes the sequence number of the next packet.
    pub fn observe(&mut self, sequence: u16) -> Sequence {
        if !self.started {
            self.begin(sequence);
            return Sequence::New;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low 16 bits are the wire's"
        )]
        let low = self.highest as u16;
        let step = i64::from(sequence.wrapping_sub(low).cast_signed());
        if step.abs() > MAX_DROPOUT {
            if self.suspect == Some(sequence) {
                self.expected_before = self.expected();
                self.begin(sequence);
                return Sequence::Restarted;
            }
            self.suspect = Some(sequence.wrapping_add(1));
            return Sequence::Suspicious;
        }
        self.suspect = None;
        // The count starts at 2^32, so a step back of at most MAX_DROPOUT does not pass zero.
        let extended = self.highest.saturating_add_signed(step);
        if step > 0 {
            for skipped in self.highest + 1..=extended {
                self.mark(skipped, false);
            }
            self.highest = extended;
        } else if self.highest - extended >= WINDOW {
            return Sequence::TooOld;
        } else if self.is_marked(extended) {
            return Sequence::Duplicate;
        } else {
            self.lowest = self.lowest.min(extended);
        }
        self.mark(extended, true);
        self.received += 1;
        Sequence::New
    }

    /// The next packet begins a new numbering. Counts go on.
    pub fn restart(&mut self) {
        self.expected_before = self.expected();
        self.started = false;
    }

    fn begin(&mut self, sequence: u16) {
        self.started = true;
        self.suspect = None;
        self.highest = (1 << 32) + u64::from(sequence);
        self.lowest = self.highest;
        self.seen = [0; (WINDOW / 64) as usize];
        self.mark(self.highest, true);
        self.received += 1;
    }

    fn mark(&mut self, extended: u64, seen: bool) {
        let bit = 1 << (extended % 64);
        if let Some(word) = self.seen.get_mut(((extended % WINDOW) / 64) as usize) {
            *word = if seen { *word | bit } else { *word & !bit };
        }
    }

    fn is_marked(&self, extended: u64) -> bool {
        let word = self
            .seen
            .get(((extended % WINDOW) / 64) as usize)
            .copied()
            .unwrap_or(0);
        word & (1 << (extended % 64)) != 0
    }
}

/// Unwraps RTP timestamps: each is taken to be the nearest to the one before.
#[derive(Debug, Default)]
pub struct TimestampUnwrapper {
    last: Option<MediaTime>,
}

impl TimestampUnwrapper {
    /// Starts wherever the first timestamp is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The media time of `timestamp`.
    pub fn unwrap(&mut self, timestamp: RtpTimestamp) -> MediaTime {
        let time = match self.last {
            None => MediaTime(i64::from(timestamp.0)),
            Some(last) => last.plus(i64::from(timestamp.since(last.rtp()))),
        };
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_run_on_across_the_wrap() {
        let mut tracker = SequenceTracker::new();
        for n in 0..200_000u32 {
            assert_eq!(tracker.observe((65_000 + n) as u16), Sequence::New);
        }
        assert_eq!((tracker.received(), tracker.lost()), (200_000, 0));
    }

    #[test]
    fn loss_is_what_never_came_and_reordering_is_no_loss() {
        let mut tracker = SequenceTracker::new();
        for sequence in [10, 12, 11, 15, 12, 9] {
            tracker.observe(sequence);
        }
        assert_eq!(tracker.expected(), 7);
        assert_eq!(tracker.received(), 5);
        assert_eq!(tracker.lost(), 2);
        assert_eq!(tracker.observe(11), Sequence::Duplicate);
        assert_eq!(tracker.observe(13), Sequence::New);
        assert_eq!(tracker.lost(), 1);
    }

    #[test]
    fn one_wild_number_is_ignored_and_two_in_a_row_start_anew() {
        let mut tracker = SequenceTracker::new();
        tracker.observe(1);
        assert_eq!(tracker.observe(30_000), Sequence::Suspicious);
        assert_eq!(tracker.observe(2), Sequence::New);
        assert_eq!(tracker.observe(40_000), Sequence::Suspicious);
        assert_eq!(tracker.observe(40_001), Sequence::Restarted);
        assert_eq!(tracker.observe(40_002), Sequence::New);
        assert_eq!((tracker.received(), tracker.lost()), (4, 0));
    }

    #[test]
    fn timestamps_run_on_across_the_wrap_and_back() {
        let mut unwrapper = TimestampUnwrapper::new();
        let first = unwrapper.unwrap(RtpTimestamp(u32::MAX - 959));
        assert_eq!(unwrapper.unwrap(RtpTimestamp(0)).since(first), 960);
        assert_eq!(unwrapper.unwrap(RtpTimestamp(u32::MAX - 959)), first);
        assert_eq!(unwrapper.unwrap(RtpTimestamp(960)).since(first), 1920);
    }

    proptest! {
        #[test]
        fn the_tracker_agrees_with_a_set(start in any::<u16>(), steps in prop::collection::vec(0i32..400, 1..300)) {
            let mut tracker = SequenceTracker::new();
            let mut model = HashSet::new();
            for (n, jitter) in steps.iter().enumerate() {
                let number = n as i32 - jitter;
                let known = !model.insert(number);
                let seen = tracker.observe(start.wrapping_add(number as u16));
                prop_assert_eq!(seen, if known { Sequence::Duplicate } else { Sequence::New });
            }
            let spread = model.iter().max().unwrap() - model.iter().min().unwrap() + 1;
            prop_assert_eq!(tracker.received(), model.len() as u64);
            prop_assert_eq!(tracker.expected(), spread as u64);
        }

        #[test]
        fn random_numbers_never_panic(numbers in prop::collection::vec((any::<u16>(), any::<u32>()), 1..500)) {
            let mut tracker = SequenceTracker::new();
            let mut unwrapper = TimestampUnwrapper::new();
            for (sequence, timestamp) in numbers {
                tracker.observe(sequence);
                let time = unwrapper.unwrap(RtpTimestamp(timestamp));
                prop_assert_eq!(time.rtp(), RtpTimestamp(timestamp));
            }
            prop_assert!(tracker.expected() >= tracker.received());
        }
    }
}
