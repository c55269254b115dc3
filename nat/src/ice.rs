//! Finding a direct path by ICE (RFC 8445), behind a trait that several agents fit.
//!
//! ICE has one job here: find a pair of addresses that works. The relay lives outside of it and carries the
//! call meanwhile; whether a path is still alive is judged by the QUIC connection on it, so what an agent says
//! about that is a hint. There is no restart inside an agent: a new try is a new agent with the credentials of
//! the next generation, and the old path stays in use until the new agent has selected another.
//!
//! An [`IceAgent`] takes packets and time and gives packets, events and a deadline; drain its outputs after
//! each call. [`runner::IceRunner`] does so on the shared port.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ring::hkdf;
use zeroize::Zeroizing;

use crate::candidate::Candidate;

mod pacer;
pub mod restart;
pub mod rtc;
pub mod runner;
pub mod spray;

/// How long an agent tries before it says [`IceEvent::Failed`]. A pair that works does so within two round
/// trips; what is not there after this needs something to change.
pub const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Silence of the selected pair that gives the [`IceEvent::Disconnected`] hint: five unanswered checks, which
/// random loss of 5 % each way makes once in a day.
pub const DISCONNECTED_AFTER: Duration = Duration::from_secs(2);

/// Silence of the selected pair that ends the right to send there (RFC 7675 section 5.1).
pub const CONSENT_EXPIRES_AFTER: Duration = Duration::from_secs(30);

/// Remote candidates per agent, those found by their checks included. Above it, checks from new addresses are
/// ignored: only the peer itself could make that many.
pub const MAX_REMOTE_CANDIDATES: usize = 32;

/// Checks that one side sends in any second while it looks for a pair: one in 5 ms, which is the least gap that
/// RFC 8445 (section 14.2) allows. After a second without anything new it is one in 50 ms.
pub const MAX_CHECKS_PER_SECOND: u32 = 200;

/// Packets that one side sends to addresses of the other in any second while a path is set up: its own checks, an
/// answer to each of theirs, nominations and keep-alives. With 100 bytes each that is 360 kbit/s for a second, less
/// than one picture of a video call.
pub const SETUP_PACKETS_PER_SECOND: u32 = 2 * MAX_CHECKS_PER_SECOND + 50;

/// Mappings that one try may make in the router before one side: a check for each in the fast second, and one in
/// 50 ms until [`CHECK_LIMIT`]. It needs machines with a dozen addresses on either side; two with one address each
/// make [`ORDINARY_FLOWS`]. The smallest routers keep some thousands, and a page of news takes a hundred.
pub const SETUP_FLOWS: u32 = MAX_CHECKS_PER_SECOND + 20 * 9;

/// Addresses of the other side that an ordinary call tries: its own one at home, and where the internet sees it.
pub const ORDINARY_FLOWS: u32 = 2;

/// Username fragment and password of one side (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4 to 256 characters of the ICE alphabet. Also how the port tells agents apart.
    pub ufrag: String,
    /// At least 22 characters, 128 bits.
    pub pwd: String,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

impl IceCredentials {
    /// The credentials of one role in try number `generation`, from a secret that both sides have:
    /// HKDF-SHA-256 with the label `ahoy/1 ice`, the role and the generation; 5 bytes of ufrag and 16 of
    /// password, in hexadecimal.
    #[must_use]
    pub fn derive(secret: &[u8; 32], role: IceRole, generation: u32) -> Self {
        let info: [&[u8]; 3] = [
            b"ahoy/1 ice",
            match role {
                IceRole::Controlling => b"c",
                IceRole::Controlled => b"d",
            },
            &generation.to_be_bytes(),
        ];
        let mut bytes = Zeroizing::new([0; 21]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(secret)
            .expand(&info, Length(21))
            .and_then(|okm| okm.fill(bytes.as_mut()))
            .expect("21 bytes are fewer than HKDF-SHA-256 gives");
        let (ufrag, pwd) = bytes.split_at(5);
        Self {
            ufrag: hex(ufrag),
            pwd: hex(pwd),
        }
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who nominates (RFC 8445 section 6.1.1): the session's caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IceRole {
    /// The caller.
    Controlling,
    /// The callee.
    Controlled,
}

/// What an agent found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceEvent {
    /// Checks of both sides on this pair were answered. Comes once per pair, a round trip before the selection;
    /// the other side knows as soon as our answer is there.
    Valid {
        /// Our address, the port's own.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// This pair is used. Comes once.
    Selected {
        /// Our address, the port's own.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// Hint: no check was answered for [`DISCONNECTED_AFTER`].
    Disconnected,
    /// Hint: checks are answered again.
    Recovered,
    /// The peer's consent to packets on the selected pair has expired (RFC 7675 section 5.1): no check was
    /// answered for [`CONSENT_EXPIRES_AFTER`]. The agent is silent from now on.
    ConsentExpired {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// No pair was found within [`CHECK_LIMIT`]. Checks stop; one from the peer, or a new candidate, starts
    /// them again.
    Failed,
}

/// A STUN packet to send on the shared port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceTransmit {
    /// The address of ours to send from.
    pub local: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// One datagram.
    pub contents: Vec<u8>,
}

/// An ICE agent without sockets or clock.
pub trait IceAgent: Send + fmt::Debug {
    /// Adds an address of ours. Host candidates only count with the port that the agent's packets come in on.
    fn add_local(&mut self, now: Instant, candidate: Candidate);

    /// Adds an address of the peer's, at any time.
    fn add_remote(&mut self, now: Instant, candidate: Candidate);

    /// A packet from the port, which reached `local` if the system tells. Returns false for packets of others.
    fn handle_input(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        packet: &[u8],
    ) -> bool;

    /// Sends and gives up what is due.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`Self::handle_timeout`] has work next.
    fn poll_timeout(&mut self) -> Option<Instant>;

    /// The next packet to send.
    fn poll_transmit(&mut self) -> Option<IceTransmit>;

    /// The next event.
    fn poll_event(&mut self) -> Option<IceEvent>;
}

#[cfg(test)]
mod tests;
