//! Connection ids that the demultiplexer can tell from ChannelData, and that only their maker could have made.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{fmt, time::Duration};

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use ring::hmac;

use crate::demux::CONNECTION_ID_FIRST_BYTE_MIN;

/// Random part: 31 bits, enough for the 100 000 connections of a full supernode with few retries.
const NONCE_LEN: usize = 4;
/// Authenticating part: a stranger's random short header passes once in 2^32.
const TAG_LEN: usize = 4;

/// What sets the key of ids apart from that of stateless resets.
const KEY_LABEL: &[u8] = b"ahoy/1 connection ids";

/// Length of our connection ids, in bytes.
pub const CONNECTION_ID_LEN: usize = NONCE_LEN + TAG_LEN;

/// Generator of connection ids: `nonce(4) | HMAC-SHA256(key, nonce)(4)`, first byte 0x80 or more.
///
/// [`ConnectionIdGenerator::validate`] lets quinn stay silent towards packets for connections that never were:
/// without it they would be answered with stateless resets.
pub struct ConnectionIds {
    rng: ChaCha20Rng,
    key: hmac::Key,
}

impl ConnectionIds {
    /// A generator of ids that follow from `seed`. It recognises all ids that were made with the same `key`, so
    /// a supernode that keeps its key knows the connections of its earlier runs.
    #[must_use]
    pub fn new(key: &[u8; 32], seed: [u8; 32]) -> Self {
        // The key also makes stateless reset tokens, from ids of 8 bytes.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), KEY_LABEL);
        Self {
            rng: ChaCha20Rng::from_seed(seed),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
        }
    }

    fn tag(&self, nonce: [u8; NONCE_LEN]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        for (to, from) in tag.iter_mut().zip(hmac::sign(&self.key, &nonce).as_ref()) {
            *to = *from;
        }
        tag
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut nonce = self.rng.next_u32().to_be_bytes();
        let [first, ..] = &mut nonce;
        *first |= CONNECTION_ID_FIRST_BYTE_MIN;
        let [n0, n1, n2, n3] = nonce;
        let [t0, t1, t2, t3] = self.tag(nonce);
        ConnectionId::new(&[n0, n1, n2, n3, t0, t1, t2, t3])
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let (nonce, tag) = cid.split_first_chunk::<NONCE_LEN>().ok_or(InvalidCid)?;
        if tag == self.tag(*nonce) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl fmt::Debug for ConnectionIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionIds").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ours_start_high_and_follow_from_the_seed() {
        let mut one = ConnectionIds::new(&[7; 32], [1; 32]);
        let mut same = ConnectionIds::new(&[7; 32], [1; 32]);
        let next_run = ConnectionIds::new(&[7; 32], [2; 32]);
        let other = ConnectionIds::new(&[8; 32], [1; 32]);
        for _ in 0..1000 {
            let cid = one.generate_cid();
            assert_eq!(cid.len(), CONNECTION_ID_LEN);
            assert!(cid.first().unwrap() >= &CONNECTION_ID_FIRST_BYTE_MIN);
            assert!(one.validate(&cid).is_ok());
            assert!(next_run.validate(&cid).is_ok());
            assert!(other.validate(&cid).is_err());
            assert_eq!(cid, same.generate_cid());
        }
        assert!(one.validate(&ConnectionId::new(&[])).is_err());
        assert!(one.validate(&ConnectionId::new(&[0x80; 20])).is_err());
    }
}
