//! How many layers in time pictures have: as many as the line asks for.
//!
//! With layers, half of the pictures or more can be lost, and nothing but they are missed. They cost almost 1 dB, since
//! most pictures refer to one that is further away. So where next to nothing is lost there is one; the first losses are
//! repaired by what is asked for again. A change takes a key frame, so it comes soon when it helps, and seldom.

use std::time::{Duration, Instant};

/// From this share of lost packets on there are layers.
const LOSSY: f32 = 0.01;
/// Below this one, for so long, there is one again.
const CLEAN: f32 = 0.002;
const CLEAN_FOR: Duration = Duration::from_secs(20);

/// Chooses between one layer and several.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerChoice {
    is_lossy: bool,
    clean_since: Option<Instant>,
}

impl LayerChoice {
    /// One layer, until something is lost.
    pub(super) const fn new() -> Self {
        Self {
            is_lossy: false,
            clean_since: None,
        }
    }

    /// This share of what is sent is lost, 0..=1.
    pub(super) fn follow(&mut self, now: Instant, lost: f32) {
        if lost >= LOSSY {
            self.is_lossy = true;
        }
        if lost >= CLEAN {
            self.clean_since = None;
            return;
        }
        let since = *self.clean_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= CLEAN_FOR {
            self.is_lossy = false;
        }
    }

    /// Of as many layers as there may be.
    pub(super) const fn of(self, most: u8) -> u8 {
        if self.is_lossy { most } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_come_with_losses_and_go_long_after_them() {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut choice = LayerChoice::new();
        choice.follow(at(0), 0.005);
        assert_eq!(choice.of(3), 1);
        choice.follow(at(1), 0.02);
        assert_eq!(choice.of(3), 3);
        for second in 2..60 {
            // Now and then something is lost.
            choice.follow(at(second), if second % 15 == 0 { 0.004 } else { 0.0 });
            assert_eq!(choice.of(3), 3, "{second}");
        }
        for second in 60..90 {
            choice.follow(at(second), 0.001);
            assert_eq!(choice.of(3), if second < 66 { 3 } else { 1 }, "{second}");
        }
    }
}
