//! What a supernode says of itself to whoever knows none yet: an [`Announcement`], signed by the node's own key.
//!
//! ```text
//! | ver=1 | node (32) | u64 issued, Unix ms | u8 capabilities | address | u16 TCP port, 0: none | signature (64) |
//!                                             u8 4 or 6, IP address, u16 UDP port
//! ```
//! The signature (domain `ahoy/1 supernode`) is over everything before it. It names one address, so that whoever dials it has
//! checked all that counts: a name could stand for another machine the next time, and a second address could be anybody's.
//! Nothing of it is believed before that: see [`super::gossip`].

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::{fmt, net::SocketAddr, sync::OnceLock};

use ahoy_transport::{
    identity::{Domain, NodeAddress, NodeId, NodeKeys, SIGNATURE_LEN, verify_signature},
    wire::{Reader, WireError, Writer},
};

use crate::supernode::protocol::{put_addr, read_addr};

/// Longest announcement, in bytes: with an IPv6 address.
pub const MAX_ANNOUNCEMENT_LEN: usize = 1 + 32 + 8 + 1 + (1 + 16 + 2) + 2 + SIGNATURE_LEN;
/// How long an announcement counts after it was issued, in milliseconds.
pub const ANNOUNCEMENT_LIFETIME_MILLIS: u64 = 24 * 3_600_000;
/// A supernode issues a new one after this, in milliseconds, so that the one in use always lasts longer than others wait
/// before they look again.
pub const ANNOUNCEMENT_RENEWAL_MILLIS: u64 = 6 * 3_600_000;
/// How far the reader's clock may be behind the signer's, in milliseconds.
const CLOCK_ERROR_MILLIS: u64 = 12 * 3_600_000;

const VERSION: u8 = 1;
const DOMAIN: Domain = Domain::new("ahoy/1 supernode");

/// What a supernode does beside the rendezvous. Bits that this version does not know are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(pub u8);

impl Capabilities {
    /// Relays calls.
    pub const RELAY: Self = Self(1);
    /// Holds records.
    pub const RECORDS: Self = Self(2);
    /// Keeps mail.
    pub const MAIL: Self = Self(4);

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is among them.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a supernode says that it is. Read, and judged by [`Self::is_authentic`] and [`Self::is_current`].
///
/// It is held once, as the bytes that are sent, and read again where something of it is asked for: a node knows thousands.
#[derive(Clone)]
pub struct Announcement {
    bytes: [u8; MAX_ANNOUNCEMENT_LEN],
    len: u8,
    /// Looked at once.
    authentic: OnceLock<bool>,
}

/// What stands in the bytes.
struct Fields {
    node: NodeId,
    capabilities: Capabilities,
    addr: SocketAddr,
    tcp: Option<u16>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let node = NodeId(reader.array()?);
        let _issued_millis = reader.u64()?;
        let capabilities = Capabilities(reader.u8()?);
        let addr = read_addr(&mut reader)?;
        let tcp = reader.u16()?;
        let _signature: [u8; SIGNATURE_LEN] = reader.array()?;
        reader.finish()?;
        Ok(Self {
            node,
            capabilities,
            addr,
            tcp: Some(tcp).filter(|port| *port != 0),
        })
    }
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcement")
            .field("node", &self.node())
            .field("addr", &self.addr())
            .field("issued_millis", &self.issued_millis())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Announcement {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Announcement {}

impl Announcement {
    /// The node of `keys` says that it is at `addr`, and by TCP at `tcp` of the same address.
    #[must_use]
    pub fn issue(
        keys: &NodeKeys,
        addr: SocketAddr,
        tcp: Option<u16>,
        capabilities: Capabilities,
        now_millis: u64,
    ) -> Self {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let mut bytes = Vec::with_capacity(MAX_ANNOUNCEMENT_LEN);
        bytes.put_u8(VERSION);
        bytes.put_bytes(keys.id().as_bytes());
        bytes.put_u64(now_millis);
        bytes.put_u8(capabilities.0);
        put_addr(&mut bytes, addr);
        bytes.put_u16(tcp.unwrap_or(0));
        bytes.put_bytes(&keys.sign(DOMAIN, &bytes));
        Self::holding(&bytes, OnceLock::from(true))
    }

    /// `bytes`: not more than fit.
    fn holding(bytes: &[u8], authentic: OnceLock<bool>) -> Self {
        let mut held = [0; MAX_ANNOUNCEMENT_LEN];
        held.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        Self {
            bytes: held,
            len: u8::try_from(bytes.len()).unwrap_or(u8::MAX),
            authentic,
        }
    }

    /// Reads an announcement without judging it.
    ///
    /// # Errors
    /// When the bytes are not exactly one announcement of this version, or its address is none that anybody can dial.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_ANNOUNCEMENT_LEN {
            return Err(WireError::TooLong);
        }
        let Fields { addr, .. } = Fields::read(bytes)?;
        if addr.port() == 0 || addr.ip() != addr.ip().to_canonical() {
            return Err(WireError::Undefined);
        }
        Ok(Self::holding(bytes, OnceLock::new()))
    }

    fn fields(&self) -> Fields {
        Fields::read(self.as_bytes()).expect("they were read, or written, when it was made")
    }

    /// As it is sent and kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }

    /// Who says it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(*self.name())
    }

    /// The same, where it stands: what a table looks for all the time.
    pub(super) fn name(&self) -> &[u8; 32] {
        self.bytes
            .split_first()
            .and_then(|(_version, rest)| rest.first_chunk())
            .expect("longer than that")
    }

    /// When it was signed, Unix milliseconds.
    #[must_use]
    pub fn issued_millis(&self) -> u64 {
        let after = self.bytes.get(33..).and_then(<[u8]>::first_chunk);
        u64::from_be_bytes(*after.expect("longer than that"))
    }

    /// What the node does.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.fields().capabilities
    }

    /// Where it is by UDP.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.fields().addr
    }

    /// The same as links write it.
    #[must_use]
    pub fn address(&self) -> NodeAddress {
        let Fields {
            node, addr, tcp, ..
        } = self.fields();
        NodeAddress {
            tcp,
            ..NodeAddress::new(node, addr)
        }
    }

    /// Whether the node signed it.
    #[must_use]
    pub fn is_authentic(&self) -> bool {
        *self.authentic.get_or_init(|| {
            self.as_bytes()
                .split_last_chunk::<SIGNATURE_LEN>()
                .is_some_and(|(message, signature)| {
                    verify_signature(self.node().as_bytes(), DOMAIN, message, signature)
                })
        })
    }

    /// Whether it is neither over nor from a time to come, by a clock that says `now_millis` (Unix).
    #[must_use]
    pub fn is_current(&self, now_millis: u64) -> bool {
        let issued = self.issued_millis();
        issued <= now_millis.saturating_add(CLOCK_ERROR_MILLIS)
            && issued.saturating_add(ANNOUNCEMENT_LIFETIME_MILLIS) > now_millis
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn announcement() -> Announcement {
        let keys = NodeKeys::from_seed(&[7; 32]);
        let does = Capabilities::RELAY.with(Capabilities::MAIL);
        Announcement::issue(&keys, ([192, 0, 2, 1], 4433).into(), Some(443), does, NOW)
    }

    #[test]
    fn an_announcement_has_these_bytes() {
        let announcement = announcement();
        let mut golden = vec![1];
        golden.put_bytes(announcement.node().as_bytes());
        golden.put_u64(NOW);
        golden.extend_from_slice(&[5, 4, 192, 0, 2, 1, 0x11, 0x51, 0x01, 0xbb]);
        assert_eq!(
            announcement.as_bytes().split_last_chunk::<64>().unwrap().0,
            golden
        );
        let read = Announcement::from_bytes(announcement.as_bytes()).unwrap();
        assert_eq!(read, announcement);
        assert!(read.is_authentic());
        assert_eq!(
            read.address().to_string(),
            announcement.address().to_string()
        );
        assert!(read.capabilities().has(Capabilities::RELAY));
        assert!(!read.capabilities().has(Capabilities::RECORDS));
    }

    #[test]
    fn each_changed_bit_is_noticed() {
        let good = announcement();
        for at in 0..good.as_bytes().len() * 8 {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            let read = Announcement::from_bytes(&bytes);
            assert!(
                !read.is_ok_and(|changed| changed.is_authentic()),
                "bit {at}"
            );
        }
    }

    #[test]
    fn it_counts_for_a_day() {
        let announcement = announcement();
        assert!(announcement.is_current(NOW));
        assert!(announcement.is_current(NOW - CLOCK_ERROR_MILLIS));
        assert!(!announcement.is_current(NOW - CLOCK_ERROR_MILLIS - 1));
        assert!(announcement.is_current(NOW + ANNOUNCEMENT_LIFETIME_MILLIS - 1));
        assert!(!announcement.is_current(NOW + ANNOUNCEMENT_LIFETIME_MILLIS));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_reads_back_as_itself(mut bytes in vec(any::<u8>(), 0..140), versioned: bool) {
            if versioned && let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(read) = Announcement::from_bytes(&bytes) {
                prop_assert_eq!(read.as_bytes(), bytes);
            }
        }
    }
}
