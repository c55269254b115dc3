//! How a device can be reached, as it tells the other side: ICE candidates, and addresses at relays.
//!
//! ```text
//! | version = 2 | u32 generation | varint length, ICE candidates (ahoy_nat::candidate) | u8 count, relayed addresses |
//! | version = 3 | the same       | u8 mapping: 0 not said, 1 independent, 2 dependent | run                           |
//!
//! relayed address: | u8 4 or 6 | ip | u16 port | varint length, the relay's node address as text |
//! run:             | u8 0: none | or | u8 1 | u32 number | or | u8 2 | u32 number | u16 first port | u16 count |
//! ```
//! What has nothing of version 3 in it is written as version 2, so that who only knows that reads all but guessing.
//!
//! Relays stand outside ICE: each side sends to the other's relayed address through its own relay. That relay
//! serves the other side's only when it has proved its key, so each relayed address names the supernode that it
//! belongs to.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::net::SocketAddr;

use ahoy_nat::{
    candidate::{Candidate, decode_candidates, encode_candidates},
    ice::spray::Guess,
    supernode::protocol::{put_addr, put_node_address, read_addr, read_node_address},
};
use ahoy_transport::{
    identity::NodeAddress,
    wire::{Reader, WireError, Writer},
};

const VERSION: u8 = 2;
/// With what guessing ports needs.
const VERSION_SPRAY: u8 = 3;
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

/// What the outside port of a device's IPv4 packets depends on (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatMapping {
    /// Nothing: it is the same for all remote endpoints.
    Independent,
    /// The remote endpoint.
    Dependent,
}

/// One side guesses ports, and the other one shall join: see [`ahoy_nat::ice::spray`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SprayCall {
    /// Counted up by each run.
    pub run: u32,
    /// Ports that are likelier than others.
    pub guess: Option<Guess>,
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
    /// What our outside port depends on, if that is known.
    pub mapping: Option<NatMapping>,
    /// A run of guessing.
    pub spray: Option<SprayCall>,
}

impl Reach {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let plain = self.mapping.is_none() && self.spray.is_none();
        let mut out = vec![if plain { VERSION } else { VERSION_SPRAY }];
        out.put_u32(self.generation);
        out.put_var_bytes(&encode_candidates(&self.ice));
        let relayed = self.relayed.iter().take(MAX_RELAYED);
        out.put_u8(u8::try_from(relayed.len()).unwrap_or(0));
        for Relayed { addr, relay } in relayed {
            put_addr(&mut out, *addr);
            put_node_address(&mut out, relay);
        }
        if !plain {
            self.encode_spray(&mut out);
        }
        out
    }

    fn encode_spray(&self, out: &mut Vec<u8>) {
        out.put_u8(match self.mapping {
            None => 0,
            Some(NatMapping::Independent) => 1,
            Some(NatMapping::Dependent) => 2,
        });
        let Some(SprayCall { run, guess }) = self.spray else {
            out.put_u8(0);
            return;
        };
        out.put_u8(if guess.is_none() { 1 } else { 2 });
        out.put_u32(run);
        if let Some(Guess { first, count }) = guess {
            out.put_u16(first);
            out.put_u16(count);
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not exactly one list of each kind, within their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if !matches!(version, VERSION | VERSION_SPRAY) {
            return Err(WireError::Version(version));
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
        let (mapping, spray) = if version == VERSION {
            (None, None)
        } else {
            decode_spray(&mut reader)?
        };
        reader.finish()?;
        Ok(Self {
            generation,
            ice,
            relayed,
            mapping,
            spray,
        })
    }
}

/// What version 3 adds.
fn decode_spray(
    reader: &mut Reader<'_>,
) -> Result<(Option<NatMapping>, Option<SprayCall>), WireError> {
    let mapping = match reader.u8()? {
        0 => None,
        1 => Some(NatMapping::Independent),
        2 => Some(NatMapping::Dependent),
        _other => return Err(WireError::Undefined),
    };
    let spray = match reader.u8()? {
        0 => None,
        1 => Some(SprayCall {
            run: reader.u32()?,
            guess: None,
        }),
        2 => Some(SprayCall {
            run: reader.u32()?,
            guess: Some(Guess {
                first: reader.u16()?,
                count: reader.u16()?,
            }),
        }),
        _other => return Err(WireError::Undefined),
    };
    Ok((mapping, spray))
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
            relayed: vec![relayed(([192, 0, 2, 1], 50_000).into(), 4433)],
            ..Reach::default()
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

    #[test]
    fn guessing_has_these_bytes() {
        let guess = Guess {
            first: 258,
            count: 300,
        };
        let (run, mapping) = (7, Some(NatMapping::Dependent));
        let begun = SprayCall { run, guess: None };
        let guessed = SprayCall {
            run,
            guess: Some(guess),
        };
        let cases: [(_, _, &[u8]); 3] = [
            (Some(NatMapping::Independent), None, &[1, 0]),
            (mapping, Some(begun), &[2, 1, 0, 0, 0, 7]),
            (None, Some(guessed), &[0, 2, 0, 0, 0, 7, 1, 2, 1, 44]),
        ];
        for (mapping, spray, tail) in cases {
            let reach = Reach {
                mapping,
                spray,
                ..Reach::default()
            };
            let mut golden = vec![3, 0, 0, 0, 0];
            golden.put_var_bytes(&encode_candidates(&[]));
            golden.push(0);
            golden.extend_from_slice(tail);
            assert_eq!(reach.encode(), golden);
            assert_eq!(Reach::decode(&golden), Ok(reach));
        }
    }

    proptest! {
        #[test]
        fn lists_round_trip(
            generation: u32,
            hosts in vec((any::<[u8; 4]>(), 1u16..), 0..4),
            addrs in vec((any::<std::net::IpAddr>(), any::<u16>(), 1u16..), 0..=MAX_RELAYED),
            hard: Option<bool>,
            spray: Option<(u32, Option<(u16, u16)>)>,
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
                mapping: hard.map(|hard| {
                    if hard {
                        NatMapping::Dependent
                    } else {
                        NatMapping::Independent
                    }
                }),
                spray: spray.map(|(run, guess)| SprayCall {
                    run,
                    guess: guess.map(|(first, count)| Guess { first, count }),
                }),
            };
            prop_assert_eq!(Reach::decode(&reach.encode()), Ok(reach));
        }

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200), versioned: bool) {
            let mut bytes = bytes;
            let even = bytes.len() % 2 == 0;
            if versioned && let Some(first) = bytes.first_mut() {
                *first = if even { VERSION } else { VERSION_SPRAY };
            }
            if let Ok(reach) = Reach::decode(&bytes) {
                prop_assert_eq!(Reach::decode(&reach.encode()), Ok(reach));
            }
        }
    }
}
