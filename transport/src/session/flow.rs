//! Counting and de-duplicating one received flow, whichever connections its packets take.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Packets behind the newest whose copies are still recognised: ten seconds of sound, a second of video. An older
/// packet counts as late, and is dropped.
const WINDOW: u64 = 1024;
const WORDS: usize = 16;

/// Counters of one flow in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Packets sent, copies not counted.
    pub sent: u64,
    /// Packets that should have come: first to newest sequence number, both included.
    pub expected: u64,
    /// Packets that came, copies not counted.
    pub received: u64,
    /// [`Self::expected`] less [`Self::received`], that is before any repair.
    pub lost: u64,
    /// Copies of packets that had come.
    pub duplicate: u64,
    /// Packets that came after one with a higher number; they count as received.
    pub reordered: u64,
    /// Packets so far behind the newest that nobody knows whether they are copies; dropped.
    pub late: u64,
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    New,
    Duplicate,
    Late,
}

/// The receiving side of one flow.
#[derive(Debug, Default)]
pub(super) struct FlowReceiver {
    first: u64,
    newest: Option<u64>,
    /// Bit of packet `s`: word `s / 64 % 16`, bit `s % 64`.
    seen: [u64; WORDS],
    received: u64,
    duplicate: u64,
    reordered: u64,
    late: u64,
}

impl FlowReceiver {
    fn slot(sequence: u64) -> (usize, u64) {
        let word = usize::try_from(sequence / 64 % WORDS as u64).unwrap_or(0);
        (word, 1 << (sequence % 64))
    }

    pub(super) fn arrived(&mut self, sequence: u64) -> Arrival {
        let Some(newest) = self.newest else {
            self.newest = Some(sequence);
            self.first = sequence;
            self.mark(sequence);
            return Arrival::New;
        };
        if sequence > newest {
            if sequence - newest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for passed in newest + 1..=sequence {
                    let (word, bit) = Self::slot(passed);
                    if let Some(word) = self.seen.get_mut(word) {
                        *word &= !bit;
                    }
                }
            }
            self.newest = Some(sequence);
            self.mark(sequence);
            return Arrival::New;
        }
        if newest - sequence >= WINDOW {
            self.late += 1;
            return Arrival::Late;
        }
        let (word, bit) = Self::slot(sequence);
        if self.seen.get(word).is_some_and(|word| word & bit != 0) {
            self.duplicate += 1;
            return Arrival::Duplicate;
        }
        self.first = self.first.min(sequence);
        self.reordered += 1;
        self.mark(sequence);
        Arrival::New
    }

    fn mark(&mut self, sequence: u64) {
        let (word, bit) = Self::slot(sequence);
        if let Some(word) = self.seen.get_mut(word) {
            *word |= bit;
        }
        self.received += 1;
    }

    pub(super) fn stats(&self) -> FlowStats {
        let expected = self.newest.map_or(0, |newest| newest - self.first + 1);
        FlowStats {
            sent: 0,
            expected,
            received: self.received,
            lost: expected.saturating_sub(self.received),
            duplicate: self.duplicate,
            reordered: self.reordered,
            late: self.late,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set of everything that ever came.
        #[test]
        fn the_window_agrees_with_a_set(steps in prop::collection::vec((-1500i64..1500, 1usize..4), 1..300)) {
            let mut flow = FlowReceiver::default();
            let mut seen = BTreeSet::new();
            let mut at = 5000_i64;
            let (mut duplicate, mut late, mut reordered) = (0, 0, 0);
            for (step, times) in steps {
                at = (at + step).max(0);
                let sequence = u64::try_from(at).unwrap();
                for _ in 0..times {
                    let newest = seen.last().copied().unwrap_or(sequence);
                    let expected = if newest >= sequence + WINDOW {
                        late += 1;
                        Arrival::Late
                    } else if seen.contains(&sequence) {
                        duplicate += 1;
                        Arrival::Duplicate
                    } else {
                        reordered += u64::from(sequence < newest);
                        seen.insert(sequence);
                        Arrival::New
                    };
                    prop_assert_eq!(flow.arrived(sequence), expected);
                }
            }
            let expected = seen.last().unwrap() - seen.first().unwrap() + 1;
            let received = seen.len() as u64;
            prop_assert_eq!(
                flow.stats(),
                FlowStats { sent: 0, expected, received, lost: expected - received, duplicate, reordered, late }
            );
        }
    }
}
