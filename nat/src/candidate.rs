//! Candidates (RFC 8445 section 5.1) as both sides exchange them.
//!
//! ```text
//! list      = u8 version (1) | varint count (at most 16) | candidate…
//! candidate = u8 kind (0 host, 1 server-reflexive, 2 mapped)
//!           | u8 family (4 or 6) | 4 or 16 address bytes | u16 port
//!           | u32 priority
//! ```
//! Foundations, components and transports are not sent: there is one component over UDP, and a foundation
//! follows from kind and address. Relayed candidates are not here either: the relay lives outside ICE.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::net::{IpAddr, SocketAddr};

use ahoy_transport::wire::{Reader, WireError, Writer};

/// Version of the list format.
const VERSION: u8 = 1;

/// Candidates per list: every address of a machine with a VPN and a few virtual networks, mapped ones too.
/// Each costs the other side checks against all of its own, so there must not be many.
pub const MAX_CANDIDATES: usize = 16;

/// How a candidate's address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CandidateKind {
    /// An address of one of our interfaces.
    Host,
    /// Our address as a STUN server sees it.
    ServerReflexive,
    /// An address that a NAT promised us by PCP, NAT-PMP or UPnP.
    Mapped,
}

impl CandidateKind {
    /// Type preference (RFC 8445 section 5.1.2.2).
    fn preference(self) -> u32 {
        match self {
            Self::Host => 126,
            // Like the peer-reflexive one that it would otherwise be discovered as.
            Self::Mapped => 110,
            Self::ServerReflexive => 100,
        }
    }
}

/// A transport address that the peer may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// How it was found.
    pub kind: CandidateKind,
    /// Where to send.
    pub addr: SocketAddr,
    /// Priority (RFC 8445 section 5.1.2); higher is tried first.
    pub priority: u32,
}

impl Candidate {
    /// A candidate with the priority of its kind. `local_preference` orders candidates of one kind: 65535 for
    /// the best (RFC 8445 section 5.1.2.1).
    #[must_use]
    pub fn new(kind: CandidateKind, addr: SocketAddr, local_preference: u16) -> Self {
        let priority = (kind.preference() << 24) | (u32::from(local_preference) << 8) | 255;
        Self {
            kind,
            addr,
            priority,
        }
    }

    /// Whether anything could ever be sent there: a port, a unicast address, and no link-local one, which means
    /// nothing without the interface.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let ip = match self.addr.ip() {
            IpAddr::V4(v4) => {
                !v4.is_unspecified()
                    && !v4.is_multicast()
                    && !v4.is_broadcast()
                    && !v4.is_link_local()
            }
            IpAddr::V6(v6) => {
                !v6.is_unspecified()
                    && !v6.is_multicast()
                    && !v6.is_unicast_link_local()
                    && v6.to_ipv4_mapped().is_none()
            }
        };
        ip && self.addr.port() != 0
    }
}

/// Writes a list. At most [`MAX_CANDIDATES`], the best ones, are written.
#[must_use]
pub fn encode_candidates(candidates: &[Candidate]) -> Vec<u8> {
    let mut best: Vec<&Candidate> = candidates.iter().collect();
    best.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
    best.truncate(MAX_CANDIDATES);
    let mut out = Vec::new();
    out.put_u8(VERSION);
    out.put_varint(best.len() as u64);
    for candidate in best {
        out.put_u8(match candidate.kind {
            CandidateKind::Host => 0,
            CandidateKind::ServerReflexive => 1,
            CandidateKind::Mapped => 2,
        });
        match candidate.addr.ip() {
            IpAddr::V4(v4) => {
                out.put_u8(4);
                out.put_bytes(&v4.octets());
            }
            IpAddr::V6(v6) => {
                out.put_u8(6);
                out.put_bytes(&v6.octets());
            }
        }
        out.put_u16(candidate.addr.port());
        out.put_u32(candidate.priority);
    }
    out
}

/// Reads a list. Candidates that cannot be used are left out, since a peer with odd interfaces is no attacker.
///
/// # Errors
/// When the bytes are not such a list, or it is longer than [`MAX_CANDIDATES`].
pub fn decode_candidates(bytes: &[u8]) -> Result<Vec<Candidate>, WireError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => {}
        other => return Err(WireError::Version(other)),
    }
    let count = reader.varint()?;
    if count > MAX_CANDIDATES as u64 {
        return Err(WireError::TooLong);
    }
    let mut candidates = Vec::new();
    for _ in 0..count {
        let kind = match reader.u8()? {
            0 => CandidateKind::Host,
            1 => CandidateKind::ServerReflexive,
            2 => CandidateKind::Mapped,
            _ => return Err(WireError::Undefined),
        };
        let ip = match reader.u8()? {
            4 => IpAddr::from(reader.array::<4>()?),
            6 => IpAddr::from(reader.array::<16>()?),
            _ => return Err(WireError::Undefined),
        };
        let addr = SocketAddr::new(ip, reader.u16()?);
        let candidate = Candidate {
            kind,
            addr,
            priority: reader.u32()?,
        };
        if candidate.is_usable() {
            candidates.push(candidate);
        }
    }
    reader.finish()?;
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate() -> impl Strategy<Value = Candidate> {
        let kind = prop_oneof![
            Just(CandidateKind::Host),
            Just(CandidateKind::ServerReflexive),
            Just(CandidateKind::Mapped)
        ];
        (kind, any::<SocketAddr>(), any::<u32>()).prop_map(|(kind, addr, priority)| Candidate {
            kind,
            // Flow and scope are not addresses.
            addr: SocketAddr::new(addr.ip(), addr.port()),
            priority,
        })
    }

    proptest! {
        #[test]
        fn lists_round_trip_best_first_without_what_cannot_be_used(
            list in proptest::collection::vec(candidate(), 0..24)
        ) {
            let mut best = list.clone();
            best.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
            best.truncate(MAX_CANDIDATES);
            best.retain(Candidate::is_usable);
            prop_assert_eq!(decode_candidates(&encode_candidates(&list)), Ok(best));
        }

        #[test]
        fn garbage_never_panics(mut bytes: Vec<u8>) {
            let _raw = decode_candidates(&bytes);
            bytes.insert(0, VERSION);
            if let Ok(list) = decode_candidates(&bytes) {
                prop_assert!(list.len() <= MAX_CANDIDATES);
            }
        }
    }

    #[test]
    fn longer_lists_and_other_versions_are_refused() {
        assert_eq!(decode_candidates(&[2, 0]), Err(WireError::Version(2)));
        assert_eq!(decode_candidates(&[1, 17]), Err(WireError::TooLong));
        assert_eq!(decode_candidates(&[1, 0, 0]), Err(WireError::TrailingBytes));
        assert_eq!(decode_candidates(&[1, 1, 0, 5]), Err(WireError::Undefined));
    }

    #[test]
    fn the_bytes_of_version_1_do_not_change() {
        let host = Candidate::new(
            CandidateKind::Host,
            "192.0.2.1:4660".parse().unwrap(),
            65_535,
        );
        assert_eq!(
            encode_candidates(&[host]),
            [1, 1, 0, 4, 192, 0, 2, 1, 0x12, 0x34, 126, 255, 255, 255]
        );
    }
}
