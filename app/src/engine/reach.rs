//! How a device can be reached, as it tells the other side: ICE candidates, and addresses at relays.
//!
//! ```text
//! | version = 1 | varint length, ICE candidates (ahoy_nat::candidate) | u8 count, relayed addresses: u8 4 or 6, ip, port |
//! ```
//! Relays stand outside ICE: each side sends to the other's relayed address through its own relay.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::net::{IpAddr, SocketAddr};

use ahoy_nat::candidate::{Candidate, decode_candidates, encode_candidates};
use ahoy_transport::wire::{Reader, WireError, Writer};

const VERSION: u8 = 1;
/// Longest list of ICE candidates, in bytes: sixteen of 26 bytes.
const MAX_ICE_BYTES: usize = 512;
/// Relays of one side that are used at once: two warm homes.
const MAX_RELAYED: usize = 2;

/// How a device can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// For ICE. Empty as long as our addresses are none of the other side's business.
    pub ice: Vec<Candidate>,
    /// Our relayed addresses.
    pub relayed: Vec<SocketAddr>,
}

impl Reach {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_var_bytes(&encode_candidates(&self.ice));
        let relayed = self.relayed.iter().take(MAX_RELAYED);
        out.put_u8(u8::try_from(relayed.len()).unwrap_or(0));
        for addr in relayed {
            match addr.ip() {
                IpAddr::V4(ip) => {
                    out.put_u8(4);
                    out.put_bytes(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.put_u8(6);
                    out.put_bytes(&ip.octets());
                }
            }
            out.put_u16(addr.port());
        }
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not exactly one list of each kind, within their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let ice = decode_candidates(reader.var_bytes(MAX_ICE_BYTES)?)?;
        let count = usize::from(reader.u8()?);
        if count > MAX_RELAYED {
            return Err(WireError::TooLong);
        }
        let mut relayed = Vec::with_capacity(count);
        for _ in 0..count {
            let ip = match reader.u8()? {
                4 => IpAddr::from(reader.array::<4>()?),
                6 => IpAddr::from(reader.array::<16>()?),
                _ => return Err(WireError::Undefined),
            };
            relayed.push(SocketAddr::new(ip, reader.u16()?));
        }
        reader.finish()?;
        Ok(Self { ice, relayed })
    }
}

#[cfg(test)]
mod tests {
    use ahoy_nat::candidate::CandidateKind;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn lists_round_trip(
            hosts in vec((any::<[u8; 4]>(), 1u16..), 0..4),
            relayed in vec((any::<[u8; 16]>(), any::<u16>()), 0..=MAX_RELAYED),
        ) {
            let reach = Reach {
                ice: hosts
                    .into_iter()
                    .map(|(ip, port)| Candidate::new(CandidateKind::Host, (ip, port).into(), 1))
                    .filter(Candidate::is_usable)
                    .collect(),
                relayed: relayed.into_iter().map(SocketAddr::from).collect(),
            };
            prop_assert_eq!(Reach::decode(&reach.encode()), Ok(reach));
        }

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200), versioned: bool) {
            let mut bytes = bytes;
            if versioned && let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(reach) = Reach::decode(&bytes) {
                prop_assert_eq!(Reach::decode(&reach.encode()), Ok(reach));
            }
        }
    }
}
