//! What one credential, one address and one allocation may take, and the token bucket that meters bytes.

use std::time::{Duration, Instant};

/// Allocations on the whole relay. Each holds a socket and a few kilobytes; this many fit the usual
/// file-descriptor limit of a service with room to spare.
const ALLOCATIONS: usize = 4096;

/// Allocations per credential: two calls at once, each with a make-before-break successor, and slack for a
/// client that restarted and left some behind.
const ALLOCATIONS_PER_CREDENTIAL: u32 = 8;

/// Allocations per source address (IPv4 address or IPv6 /64): a household or a small office behind one NAT.
const ALLOCATIONS_PER_SOURCE: u32 = 64;

/// Permissions per allocation: one per relay of the other side and some for changes; a call needs two.
const PERMISSIONS_PER_ALLOCATION: usize = 32;

/// Channels per allocation: a call needs one per peer relay; groups use a forwarder instead.
const CHANNELS_PER_ALLOCATION: usize = 32;

/// Bytes per second that one allocation may relay, both directions together: 1080p video both ways and a
/// file. More than that is somebody else's traffic.
const BYTES_PER_SECOND: u64 = 4_000_000;

/// Replies to unauthenticated requests per second and source: a client needs three to set up; above that
/// the relay would be a reflector.
const UNAUTHENTICATED_REPLIES_PER_SECOND: u64 = 100;

/// Bounds on everything that strangers can make the relay hold or send.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayLimits {
    /// Allocations on the whole relay; above it Allocate gets 508.
    pub allocations: usize,
    /// Allocations per credential; above it Allocate gets 486.
    pub allocations_per_credential: u32,
    /// Allocations per source address (IPv4 address or IPv6 /64); above it Allocate gets 486.
    pub allocations_per_source: u32,
    /// Live permissions per allocation; above it CreatePermission gets 508.
    pub permissions_per_allocation: usize,
    /// Live channels per allocation; above it ChannelBind gets 508.
    pub channels_per_allocation: usize,
    /// Payload bytes per second and allocation, both directions together, with one second of burst.
    pub bytes_per_second: u64,
    /// Payload bytes per second that all allocations together pass on, each packet once, with one second of burst; absent:
    /// no bound but the line's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes_per_second: Option<u64>,
    /// Binding, 401 and 438 replies per second and source, with two seconds of burst.
    pub unauthenticated_replies_per_second: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            allocations: ALLOCATIONS,
            allocations_per_credential: ALLOCATIONS_PER_CREDENTIAL,
            allocations_per_source: ALLOCATIONS_PER_SOURCE,
            permissions_per_allocation: PERMISSIONS_PER_ALLOCATION,
            channels_per_allocation: CHANNELS_PER_ALLOCATION,
            bytes_per_second: BYTES_PER_SECOND,
            total_bytes_per_second: None,
            unauthenticated_replies_per_second: UNAUTHENTICATED_REPLIES_PER_SECOND,
        }
    }
}

/// A token bucket: `rate` tokens per second, at most `burst` saved up.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    /// In millionths of a token, so that slow rates lose nothing to rounding.
    micro_tokens: u64,
    refilled: Instant,
}

const MICRO: u64 = 1_000_000;

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn full(now: Instant, burst: u64) -> Self {
        Self {
            micro_tokens: burst.saturating_mul(MICRO),
            refilled: now,
        }
    }

    /// How much of the burst is used up, in thousandths.
    pub(crate) fn used(&mut self, now: Instant, rate: u64, burst: u64) -> u32 {
        // Counts up to now.
        self.take(now, 0, rate, burst);
        let left = self.micro_tokens / MICRO;
        let used = burst.saturating_sub(left).saturating_mul(1000);
        u32::try_from(used / burst.max(1)).unwrap_or(1000)
    }

    /// Whether `amount` could be taken.
    pub(crate) fn holds(&mut self, now: Instant, amount: u64, rate: u64, burst: u64) -> bool {
        // Counts up to now.
        self.take(now, 0, rate, burst);
        self.micro_tokens >= amount.saturating_mul(MICRO)
    }

    /// Takes `amount`, or nothing and returns false.
    pub(crate) fn take(&mut self, now: Instant, amount: u64, rate: u64, burst: u64) -> bool {
        let passed = now
            .saturating_duration_since(self.refilled)
            .min(Duration::from_secs(3600));
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        self.refilled = self.refilled.max(now);
        self.micro_tokens = self
            .micro_tokens
            .saturating_add(micros.saturating_mul(rate))
            .min(burst.saturating_mul(MICRO));
        match self.micro_tokens.checked_sub(amount.saturating_mul(MICRO)) {
            Some(left) => {
                self.micro_tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of virtual time"
    )]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start, 10);
        assert!(bucket.take(start, 10, 5, 10));
        assert!(!bucket.take(start, 1, 5, 10));
        assert!(bucket.take(start + Duration::from_millis(200), 1, 5, 10));
        assert!(!bucket.take(start + Duration::from_millis(399), 1, 5, 10));
        assert!(bucket.take(start + Duration::from_millis(400), 1, 5, 10));
        assert!(!bucket.take(start + Duration::from_secs(3600), 11, 5, 10));
        let later = start + Duration::from_secs(7200);
        assert_eq!(bucket.used(later, 5, 10), 0);
        assert!(bucket.take(later, 7, 5, 10));
        assert_eq!(bucket.used(later, 5, 10), 700);
        let last = later + Duration::from_secs(1);
        assert_eq!(bucket.used(last, 5, 10), 200);
        assert!(bucket.holds(last, 8, 5, 10) && !bucket.holds(last, 9, 5, 10));
        assert!(bucket.take(last, 8, 5, 10), "looking takes nothing");
    }
}
