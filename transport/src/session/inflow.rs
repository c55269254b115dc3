//! Whether so much comes by a connection that its sender should hear of it sooner than usual.
//!
//! Where pictures come, a line that becomes narrow fills its queue within a tenth of a second, and the sound stands in it.
//! What the sender learns 30 ms sooner is a third of that queue. Where only sound comes there is no such queue, and a
//! report more often would be for nothing.

use std::time::{Duration, Instant};

use crate::bwe::wire_bytes;

/// What comes is counted over so long.
const WINDOW: Duration = Duration::from_millis(100);

/// From so much on it is much, in bits per second: four voices.
const MUCH_BPS: f64 = 250_000.0;

/// Much is much for so long after: pictures of a still screen come now and then.
const LASTS: Duration = Duration::from_millis(400);

/// What comes by one connection.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    /// Since when bytes are counted, and how many they are.
    counted: Option<(Instant, usize)>,
    much_at: Option<Instant>,
}

impl Inflow {
    /// A datagram of `bytes` came.
    pub(super) fn arrived(&mut self, now: Instant, bytes: usize) {
        let (since, before) = self.counted.unwrap_or((now, 0));
        let all = before + wire_bytes(bytes, false);
        let time = now.saturating_duration_since(since);
        if time < WINDOW {
            self.counted = Some((since, all));
            return;
        }
        self.counted = Some((now, 0));
        if (all * 8) as f64 > MUCH_BPS * time.as_secs_f64() {
            self.much_at = Some(now);
        }
    }

    /// Whether it was much lately.
    pub(super) fn is_much(&self, now: Instant) -> bool {
        self.much_at
            .is_some_and(|at| now.saturating_duration_since(at) < LASTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::TokioRuntime;

    #[test]
    fn pictures_are_much_and_a_voice_is_not() {
        let begin = quinn::Runtime::now(&TokioRuntime);
        let at = |millis| begin + Duration::from_millis(millis);
        let mut inflow = Inflow::default();
        for n in 0..100 {
            inflow.arrived(at(20 * n), 100);
            assert!(!inflow.is_much(at(20 * n)));
        }
        for n in 0..30 {
            inflow.arrived(at(2000 + 10 * n), 1000);
        }
        assert!(inflow.is_much(at(2300)));
        for n in 0..50 {
            inflow.arrived(at(2300 + 20 * n), 100);
        }
        assert!(!inflow.is_much(at(3300)));
    }
}
