//! The congestion window of a peer connection.
//!
//! Media paces itself by an estimate of the path's capacity (delay gradient and loss, from our own feedback);
//! quinn's window must not throttle it a second time, and must not grow stale while media is limited by the
//! encoder. So the window follows the media rate, ignores single losses, and only *persistent congestion*
//! (RFC 9002 section 7.6) closes it: then nothing at all gets through, whatever the estimate says.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory},
};

/// Window while no rate is known: a second of 2 Mbit/s, more than any start of a call sends.
const DEFAULT_WINDOW_BYTES: u64 = 256 * 1024;
/// Below this, sound would wait for what a line holds that has just become narrow: the estimate lets no more than
/// some 50 kB of 2 Mbit/s get under way, and the window is not to be what stops sound then.
const MIN_WINDOW_BYTES: u64 = 128 * 1024;
/// Bound on what a wrong estimate can put into a path's queue.
const MAX_WINDOW_BYTES: u64 = 2 * 1024 * 1024;
/// RFC 9002 section 7.2: the minimum window, in datagrams.
const COLLAPSED_DATAGRAMS: u64 = 2;

/// Media rate that a connection's window is to carry, in bits per second; 0 while unknown. Shared with whoever
/// estimates it.
#[derive(Debug, Default)]
pub(crate) struct MediaRate(AtomicU64);

impl MediaRate {
    pub(crate) fn set(&self, bits_per_second: u64) {
        self.0.store(bits_per_second, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What limits what a connection between two devices has in flight, beside the estimate of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CongestionWindow {
    /// Twice what the media rate has in flight; closed by persistent congestion.
    #[default]
    Follows,
    /// So many bytes, whatever happens: for showing that media does not depend on it.
    Fixed(u64),
}

/// Makes a [`FixedWindow`] of so many bytes.
#[derive(Debug)]
pub(crate) struct FixedWindowFactory(pub(crate) u64);

impl ControllerFactory for FixedWindowFactory {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(FixedWindow(self.0))
    }
}

#[derive(Debug, Clone)]
struct FixedWindow(u64);

impl Controller for FixedWindow {
    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        _is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
    }

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        self.0
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.0
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Makes the [`MediaWindow`] of one connection.
#[derive(Debug)]
pub(crate) struct MediaWindowFactory(pub(crate) Arc<MediaRate>);

impl ControllerFactory for MediaWindowFactory {
    fn build(self: Arc<Self>, _now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(MediaWindow {
            rate: Arc::clone(&self.0),
            mtu: u64::from(current_mtu),
            smoothed_rtt: None,
            opening: None,
        })
    }
}

#[derive(Debug, Clone)]
struct MediaWindow {
    rate: Arc<MediaRate>,
    mtu: u64,
    smoothed_rtt: Option<Duration>,
    /// The window since persistent congestion, until it has grown back.
    opening: Option<u64>,
}

impl MediaWindow {
    /// Twice what the media rate has in flight.
    fn permitted(&self) -> u64 {
        let (rate, Some(rtt)) = (self.rate.get(), self.smoothed_rtt) else {
            return DEFAULT_WINDOW_BYTES;
        };
        if rate == 0 {
            return DEFAULT_WINDOW_BYTES;
        }
        let rtt_micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let in_flight = (rate / 8).saturating_mul(rtt_micros) / 1_000_000;
        (2 * in_flight).clamp(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES)
    }

    fn acked(&mut self, bytes: u64, smoothed_rtt: Duration) {
        self.smoothed_rtt = Some(smoothed_rtt);
        let permitted = self.permitted();
        // Slow start, RFC 9002 section 7.3.1.
        self.opening = self
            .opening
            .map(|window| window + bytes)
            .filter(|window| *window < permitted);
    }
}

impl Controller for MediaWindow {
    fn on_ack(
        &mut self,
        _now: Instant,
        _sent: Instant,
        bytes: u64,
        _app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acked(bytes, rtt.get());
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
        if is_persistent_congestion {
            self.opening = Some(COLLAPSED_DATAGRAMS * self.mtu);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
    }

    fn window(&self) -> u64 {
        self.opening.unwrap_or_else(|| self.permitted())
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        DEFAULT_WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::TokioRuntime;

    #[test]
    fn only_persistent_congestion_closes_the_window_and_acks_open_it_again() {
        let now = quinn::Runtime::now(&TokioRuntime);
        let rate = Arc::new(MediaRate::default());
        let mut window = MediaWindow {
            rate: Arc::clone(&rate),
            mtu: 1200,
            smoothed_rtt: None,
            opening: None,
        };
        assert_eq!(window.window(), DEFAULT_WINDOW_BYTES);
        window.on_congestion_event(now, now, false, 12_000);
        assert_eq!(window.window(), DEFAULT_WINDOW_BYTES);
        window.on_congestion_event(now, now, true, 12_000);
        assert_eq!(window.window(), 2400);
        let rtt = Duration::from_millis(100);
        window.acked(1200, rtt);
        assert_eq!(window.window(), 3600);
        window.acked(DEFAULT_WINDOW_BYTES, rtt);
        assert_eq!(window.window(), DEFAULT_WINDOW_BYTES);
        // 8 Mbit/s over 100 ms: 100 kB in flight.
        rate.set(8_000_000);
        assert_eq!(window.window(), 200_000);
        rate.set(1);
        assert_eq!(window.window(), MIN_WINDOW_BYTES);
    }
}
