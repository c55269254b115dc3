//! Which datagrams may reach QUIC at all.
//!
//! Two filters. *Admission*: a peer lets QUIC in only from addresses that it dials, that ICE has validated, or
//! that a relay permission covers. *Silence*: quinn by itself answers a foreign version, a short connection id
//! and an old token before we are asked; whoever scans for us would hear those answers.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{TableFull, routes::is_relay_address};
use crate::demux::{LongType, is_long_header, parse_long_header};

/// Most admitted addresses at once: homes, relays and every candidate pair of a few calls.
pub const MAX_ADMITTED: usize = 1024;

/// How long a token counts as the answer to a Retry of ours. A client answers within a round trip and repeats
/// for a few probe timeouts.
const RETRY_MEMORY: Duration = Duration::from_secs(10);

/// Most sources of which we remember a Retry. Peers send none; this bounds an endpoint in both roles.
const MAX_RETRIES: usize = 4096;

/// RFC 9000 section 7.2: a client's first destination connection id has at least 8 bytes; ours always have 8.
const MIN_DESTINATION_ID_LEN: usize = 8;

/// Why a datagram was kept from QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NotAdmitted,
    ForeignVersion,
    ShortConnectionId,
    TokenWithoutRetry,
    Malformed,
}

/// State of both filters.
#[derive(Debug)]
pub(super) struct Filter {
    version: u32,
    /// Off: QUIC is open to every address, as on a supernode.
    admission: bool,
    /// Off: tokens pass, and quinn judges them. A supernode under a flood of forged sources could not remember
    /// its Retries.
    retry_memory: bool,
    admitted: HashMap<SocketAddr, usize>,
    retries: HashMap<SocketAddr, Instant>,
    retries_in_order: VecDeque<(Instant, SocketAddr)>,
}

impl Filter {
    pub(super) fn new(version: u32, admission: bool, retry_memory: bool) -> Self {
        Self {
            version,
            admission,
            retry_memory,
            admitted: HashMap::new(),
            retries: HashMap::new(),
            retries_in_order: VecDeque::new(),
        }
    }

    pub(super) fn admit(&mut self, address: SocketAddr) -> Result<(), TableFull> {
        if self.admitted.len() >= MAX_ADMITTED && !self.admitted.contains_key(&address) {
            return Err(TableFull);
        }
        *self.admitted.entry(address).or_default() += 1;
        Ok(())
    }

    pub(super) fn revoke(&mut self, address: SocketAddr) {
        if let Some(count) = self.admitted.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.admitted.remove(&address);
            }
        }
    }

    /// Looks at a datagram on its way out, to learn which sources were sent a Retry.
    pub(super) fn note_sent(&mut self, now: Instant, datagram: &[u8], to: SocketAddr) {
        if !self.retry_memory || !is_long_header(datagram) {
            return;
        }
        let Some(header) = parse_long_header(datagram) else {
            return;
        };
        if header.packet_type != LongType::Retry || header.version != self.version {
            return;
        }
        self.forget_old_retries(now);
        self.retries.insert(to, now);
        self.retries_in_order.push_back((now, to));
    }

    fn forget_old_retries(&mut self, now: Instant) {
        while let Some((at, address)) = self.retries_in_order.front().copied() {
            let old = now.saturating_duration_since(at) > RETRY_MEMORY;
            if !old && self.retries_in_order.len() < MAX_RETRIES {
                return;
            }
            self.retries_in_order.pop_front();
            // A later Retry to the same source has its own entry.
            if self.retries.get(&address) == Some(&at) {
                self.retries.remove(&address);
            }
        }
    }

    /// Judges a datagram that looks like QUIC.
    pub(super) fn check(
        &self,
        now: Instant,
        datagram: &[u8],
        from: SocketAddr,
    ) -> Result<(), Refusal> {
        if self.admission && !is_relay_address(from) && !self.admitted.contains_key(&from) {
            return Err(Refusal::NotAdmitted);
        }
        if !is_long_header(datagram) {
            return Ok(());
        }
        // The version first: what follows it is only known for ours.
        let version = datagram.get(1..5).ok_or(Refusal::Malformed)?;
        if version != self.version.to_be_bytes() {
            return Err(Refusal::ForeignVersion);
        }
        let header = parse_long_header(datagram).ok_or(Refusal::Malformed)?;
        if header.destination_id.len() < MIN_DESTINATION_ID_LEN {
            return Err(Refusal::ShortConnectionId);
        }
        // After a Retry every Initial of the client carries the token, each with its own destination id: only
        // the source tells them from a stranger's copy.
        let asked = || {
            self.retries
                .get(&from)
                .is_some_and(|at| now.saturating_duration_since(*at) <= RETRY_MEMORY)
        };
        if self.retry_memory && !header.token.is_empty() && !asked() {
            return Err(Refusal::TokenWithoutRetry);
        }
        Ok(())
    }
}
