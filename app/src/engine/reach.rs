//! How a device can be reached, as it tells the other side: ICE candidates, and addresses at relays.
//!
//! ```text
//! | version = 2 | u32 generation | varint length, ICE candidates (ahoy_nat::candidate) | u8 count, relayed addresses |
//!
//! relayed address: | u8 4 or 6 | ip | u16 port | varint length, the relay's node address as text |
//! ```
//! Relays stand outside ICE: each side sends to the other's relayed address through its own relay. That relay
//! serves the other side's only when it has proved its key, so each relayed address names the supernode that it
//! belongs to.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::net::SocketAddr;

use ahoy_nat::{
    candidate::{Candidate, decode_candidates, encode_candidates},
    supernode::protocol::{put_addr, put_node_address, read_addr, read_node_address},
};
use ahoy_transport::{
    identity::NodeAddress,
    wire::{Reader, WireError, Writer},
};

const VERSION: u8 = 2;
/// Longest list of ICE candidates, in bytes: sixteen of 26 bytes.
const MAX_ICE_BYTES: usize = 512;
/// Relays of one side that are used at once: two warm homes.
pub const MAX_RELAYED: usize = 2;

/// An address at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// What the other side's relay sends to.
    pub addr: SocketAddr,
    /// The supernode that relays there, at the same IP address.
    pub relay: NodeAddress,
}

/// How a device can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Which try for a direct path the candidates are for: counted up by either side's restarts.
    pub generation: u32,
    /// For ICE. Empty as long as our addresses are none of the other side's business.
    pub ice: Vec<Candidate>,
    /// Our relayed addresses.
    pub relayed: Vec<Relayed>,
}

impl Reach {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u32(self.generation);
        out.put_var_bytes(&encode_candidates(&self.ice));
        let relayed = self.relayed.iter().take(MAX_RELAYED);
        out.put_u8(u8::try_from(relayed.len()).unwrap_or(0));
        for Relayed { addr, relay } in relayed {
            put_addr(&mut out, *addr);
            put_node_address(&mut out, relay);
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
        let generation = reader.u32()?;
        let ice = decode_candidates(reader.var_bytes(MAX_ICE_BYTES)?)?;
        let count = usize::from(reader.u8()?);
        if count > MAX_RELAYED {
            return Err(WireError::TooLong);
        }
        let mut relayed = Vec::with_capacity(count);
        for _ in 0..count {
            relayed.push(Relayed {
                addr: read_addr(&mut reader)?,
                relay: read_node_address(&mut reader)?,
            });
        }
        reader.finish()?;
        Ok(Self {
            generation,
            ice,
            relayed,
        })
    }
}

#[cfg(test)]
mod tests {
    use ahoy_nat::candidate::CandidateKind;
    use ahoy_transport::identity::NodeKeys;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn relayed(addr: SocketAddr, relay_port: u16) -> Relayed {
        let node = NodeKeys::from_seed(&[7; 32]).id();
        Relayed {
            addr,
            relay: NodeAddress::new(node, SocketAddr::new(addr.ip(), relay_port)),
        }
    }

    #[test]
    fn a_relayed_address_has_these_bytes() {
        let reach = Reach {
            generation: 258,
            ice: Vec::new(),
            relayed: vec![relayed(([192, 0, 2, 1], 50_000).into(), 4433)],
        };
        let mut golden = vec![2, 0, 0, 1, 2];
        golden.put_var_bytes(&encode_candidates(&[]));
        golden.extend_from_slice(&[1, 4, 192, 0, 2, 1, 0xc3, 0x50, 64, 67]);
        golden.extend_from_slice(
            b"7jfgaa9nutjyixzikb7tgmsf9gkwq7iqz498zr1nd5ig1fng4esy@192.0.2.1:4433",
        );
        assert_eq!(reach.encode(), golden);
        assert_eq!(Reach::decode(&golden), Ok(reach));
    }

    proptest! {
        #[test]
        fn lists_round_trip(
            generation: u32,
            hosts in vec((any::<[u8; 4]>(), 1u16..), 0..4),
            addrs in vec((any::<std::net::IpAddr>(), any::<u16>(), 1u16..), 0..=MAX_RELAYED),
        ) {
            let reach = Reach {
                generation,
                ice: hosts
                    .into_iter()
                    .map(|(ip, port)| Candidate::new(CandidateKind::Host, (ip, port).into(), 1))
                    .filter(Candidate::is_usable)
                    .collect(),
                relayed: addrs
                    .into_iter()
                    .map(|(ip, port, node)| relayed((ip, port).into(), node))
                    .collect(),
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
