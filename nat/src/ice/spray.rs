//! A direct path where ICE finds none: one side's NAT gives out another port for each remote endpoint, and the other
//! side's lets nobody in but endpoints that were sent to. The port that would be let in must be guessed.
//!
//! The *hard* side, whose mapping depends on the remote endpoint, opens many holes: sockets that each send to the one
//! outside address of the *easy* side, so that its NAT maps each to another port. The easy side sends probes to ports of
//! the hard side's outside address. As soon as a probe meets a hole both NATs let both in, and the socket behind that
//! hole is from then on the hard side's port towards the easy side. It does not matter which of the two was first:
//! holes send again now and then, and a probe opens the easy side's filter.
//!
//! ```text
//!  hard                     NAT                                      NAT                   easy
//!  socket 0 ---------------> :40311 ---------------------------------> x   <-- :9 <------- one port
//!  socket 1 ---------------> :11874 <================================= | === :11874 <-----
//!  ...                                                                 x   <-- :52001 <---
//! ```
//!
//! # Odds and budget
//!
//! With `k` holes among the `P` = 64512 ports above 1023, each probe misses with `1 - k/P`. [`HOLES`] = 250 and the
//! [`MAX_PROBES`] = 1400 that fit into the time miss all with 0.4 %, and on average 258 probes, 2.6 s, do. NATs that
//! count or keep ports, or give out a block of them to each customer, are told by two observations of a STUN server,
//! and the ports that follow from that are tried first ([`Guess`]).
//!
//! More than this no one run costs, and one runs at a time:
//!
//! | | hard side | easy side |
//! |---|---|---|
//! | packets per second | 100 ([`SEND_GAP`]) | 100 |
//! | flows that the NAT remembers | [`MAX_HARD_FLOWS`] = 256 | [`MAX_PROBES`] = 1400 |
//! | seconds | 14 ([`SPRAY_FOR`]) | 14 |
//!
//! The hard side is the careful one because carriers give each customer some 1000 ports, and sometimes only 512; tables
//! of home routers have 4096 entries and up. A 100 small packets per second are 60 kbit/s.
//!
//! [`Hard`] and [`Easy`] are without socket and clock; [`HardSpray`] and [`EasySpray`] run them. Their packets are
//! STUN Binding requests and responses (RFC 8489) with keys that only these two have ([`SprayKeys`]).

use std::time::Duration;

use ring::hkdf;
use zeroize::Zeroizing;

mod easy;
mod hard;
mod runner;
mod wire;

pub use easy::{Easy, EasyEvent, EasyTransmit};
pub use hard::{Hard, HardEvent, HardPlan, HardTransmit};
pub use runner::{EasySpray, HardSpray, SprayEvent};

/// Sockets that the hard side opens.
pub const HOLES: u16 = 250;

/// Most flows of the hard side: its holes, and two observations with a spare for each.
pub const MAX_HARD_FLOWS: u64 = 256;

/// Gap between two packets of one side: 100 per second, as many as two calls.
pub const SEND_GAP: Duration = Duration::from_millis(10);

/// How long one run lasts.
pub const SPRAY_FOR: Duration = Duration::from_secs(14);

/// Most ports that the easy side tries, which are its flows: what fits into the time.
pub const MAX_PROBES: u64 = 1400;

/// How often a hole that nothing came through sends again: a lost packet, or a NAT that forgets after 10 s, must not
/// cost the hole.
pub const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// Ports of a guess that are tried before others: each of a range that was counted, and of a block enough to meet some
/// of the holes for sure.
pub const MAX_GUESSES: usize = 300;

/// Ports below are not given out.
const FIRST_PORT: u16 = 1024;

/// What a side has spent so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SprayCost {
    /// Datagrams sent.
    pub packets: u64,
    /// Flows that its NAT has to remember: pairs of a socket and a remote endpoint.
    pub flows: u64,
}

/// Ports that the hard side's NAT will probably give out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guess {
    /// The lowest.
    pub first: u16,
    /// How many from there.
    pub count: u16,
}

/// Steps between two mappings in a row that count as counting.
const MAX_STEP: u16 = 8;
/// Two random ports are this close once in 60 times; two of one customer's block always.
const NEAR: u16 = 512;

impl Guess {
    /// What two fresh sockets' outside ports say about the next [`HOLES`] ones, which leave from the ports after
    /// `inside`; each pair is an inside port and its outside port. Nothing if they seem drawn at random.
    #[must_use]
    pub fn from_observed(inside: u16, observed: [(u16, u16); 2]) -> Option<Self> {
        let [(inside0, first), (inside1, second)] = observed;
        if inside0 == first && inside1 == second {
            return Some(Self {
                first: inside,
                count: HOLES,
            });
        }
        let apart = first.abs_diff(second);
        let (low, high) = (first.min(second), first.max(second));
        // Others behind the same NAT take some of them.
        let room = (HOLES + HOLES / 5).saturating_mul(apart);
        let (from, to) = match apart {
            0 => return None,
            1..=MAX_STEP if second > first => (second, second.saturating_add(room)),
            1..=MAX_STEP => (second.saturating_sub(room), second),
            _ if apart <= NEAR => (low.saturating_sub(NEAR), high.saturating_add(NEAR)),
            _ => return None,
        };
        let from = from.max(FIRST_PORT);
        Some(Self {
            first: from,
            count: to.saturating_sub(from).saturating_add(1),
        })
    }

    /// The last port of it.
    fn last(self) -> u16 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }
}

/// Who of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpraySide {
    /// Its mapping depends on the remote endpoint.
    Hard,
    /// Its mapping does not.
    Easy,
}

/// What both sides know each other's packets by in one run.
#[derive(Clone)]
pub struct SprayKeys {
    hard: SideKey,
    easy: SideKey,
    /// Of the hard side's and the easy side's requests.
    tags: [wire::Tag; 2],
}

#[derive(Clone)]
struct SideKey {
    ufrag: String,
    key: Zeroizing<[u8; 16]>,
}

impl SprayKeys {
    /// The keys of run number `run`, from a secret that both sides have: HKDF-SHA-256 with the label `ahoy/1 spray`, the
    /// side and the number; 5 bytes of user fragment in hexadecimal, 16 of key, and 8 that transaction ids begin with.
    #[must_use]
    pub fn derive(secret: &[u8; 32], run: u32) -> Self {
        let side = |name: &'static [u8; 1]| {
            let info: [&[u8]; 3] = [b"ahoy/1 spray", name, &run.to_be_bytes()];
            let mut bytes = Zeroizing::new([0; 29]);
            hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
                .extract(secret)
                .expand(&info, super::Length(29))
                .and_then(|okm| okm.fill(bytes.as_mut()))
                .expect("29 bytes are fewer than HKDF-SHA-256 gives");
            let (ufrag, rest) = bytes.split_at(5);
            let (key, tag) = rest.split_at(16);
            let mut side = SideKey {
                ufrag: super::hex(ufrag),
                key: Zeroizing::new([0; 16]),
            };
            side.key.copy_from_slice(key);
            let mut prefix = [0; 8];
            prefix.copy_from_slice(tag);
            (side, prefix)
        };
        let (hard, hard_tag) = side(b"h");
        let (easy, easy_tag) = side(b"e");
        Self {
            hard,
            easy,
            tags: [hard_tag, easy_tag],
        }
    }

    /// How the port tells this run's packets apart.
    fn ufrag(&self, side: SpraySide) -> &str {
        &self.of(side).ufrag
    }

    fn of(&self, side: SpraySide) -> &SideKey {
        match side {
            SpraySide::Hard => &self.hard,
            SpraySide::Easy => &self.easy,
        }
    }
}

impl std::fmt::Debug for SprayKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SprayKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
