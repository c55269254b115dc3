//! Stateless nonces (RFC 8489 section 9.2): the server holds no state for strangers.
//!
//! ```text
//! nonce = hex( u32 expiry in seconds since the relay started | HMAC-SHA256(key, expiry | source IP)[..12] )
//! ```
//! The source address inside keeps a captured request from being replayed from elsewhere within the
//! nonce's life. It does not start with `obMatJos2`, so it announces no RFC 8489 security feature.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use ring::hmac;

/// How long a nonce is good for: RFC 8656 section 5 recommends at most one hour.
pub(super) const NONCE_LIFETIME: Duration = Duration::from_secs(3600);

const MAC_BYTES: usize = 12;

#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
    epoch: Instant,
}

impl Nonces {
    pub(super) fn new(now: Instant, key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            epoch: now,
        }
    }

    /// A nonce that `source` may use for [`NONCE_LIFETIME`].
    pub(super) fn issue(&self, now: Instant, source: IpAddr) -> String {
        let expiry = self.seconds(now + NONCE_LIFETIME);
        self.text(expiry, source)
    }

    /// Whether this relay gave `nonce` to `source` and it has not expired.
    pub(super) fn is_fresh(&self, now: Instant, source: IpAddr, nonce: &str) -> bool {
        let Some(expiry) = nonce
            .get(..8)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        else {
            return false;
        };
        // A nonce is public; it only has to be unforgeable, and a guess costs a packet.
        expiry > self.seconds(now) && self.text(expiry, source) == nonce
    }

    fn seconds(&self, at: Instant) -> u32 {
        u32::try_from(at.saturating_duration_since(self.epoch).as_secs()).unwrap_or(u32::MAX)
    }

    fn text(&self, expiry: u32, source: IpAddr) -> String {
        let mut input = expiry.to_be_bytes().to_vec();
        match source.to_canonical() {
            IpAddr::V4(v4) => input.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => input.extend_from_slice(&v6.octets()),
        }
        let tag = hmac::sign(&self.key, &input);
        let mut text = format!("{expiry:08x}");
        for byte in tag.as_ref().iter().take(MAC_BYTES) {
            text.push_str(&format!("{byte:02x}"));
        }
        text
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
    fn a_nonce_is_good_for_its_source_until_it_expires() {
        let start = Instant::now();
        let nonces = Nonces::new(start, &[7; 32]);
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let nonce = nonces.issue(start, here);
        assert!(nonces.is_fresh(start, here, &nonce));
        assert!(nonces.is_fresh(start, "::ffff:192.0.2.1".parse().unwrap(), &nonce));
        assert!(!nonces.is_fresh(start, there, &nonce));
        assert!(!nonces.is_fresh(start + NONCE_LIFETIME, here, &nonce));
        assert!(!Nonces::new(start, &[8; 32]).is_fresh(start, here, &nonce));
        for garbage in ["", "zzzzzzzz", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "ffffffff"] {
            assert!(!nonces.is_fresh(start, here, garbage));
        }
    }
}
