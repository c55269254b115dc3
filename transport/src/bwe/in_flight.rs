//! What left and was not reported yet.

use std::collections::VecDeque;

/// After so many seconds nothing is under way any more: it is lost, or its reports are.
const GIVEN_UP: f64 = 1.0;
/// Datagrams under way that are kept.
const KEPT: usize = 4096;

/// Datagrams younger than the newest that is known to have arrived.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Number of the first in `sent`.
    first: u64,
    sent: VecDeque<(f64, f64)>,
    bits: f64,
}

impl InFlight {
    pub(super) fn sent(&mut self, at: f64, bits: f64) {
        self.sent.push_back((at, bits));
        self.bits += bits;
        while self.sent.len() > KEPT
            || self
                .sent
                .front()
                .is_some_and(|(sent, _)| at - sent > GIVEN_UP)
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, bits)) = self.sent.pop_front() {
            self.first += 1;
            self.bits -= bits;
        }
    }

    /// The datagram of this number arrived; what is older has arrived or is lost.
    pub(super) fn arrived(&mut self, sequence: u64) {
        while self.first <= sequence && !self.sent.is_empty() {
            self.pop();
        }
    }

    /// When no more than `allowed` bits are under way if nothing is reported; `None` when that is so now.
    pub(super) fn above(&self, at: f64, allowed: f64) -> Option<f64> {
        let mut left = self.bits;
        for (sent, bits) in &self.sent {
            let until = sent + GIVEN_UP;
            if until <= at {
                left -= bits;
                continue;
            }
            if left <= allowed {
                return None;
            }
            left -= bits;
            if left <= allowed {
                return Some(until);
            }
        }
        None
    }
}
