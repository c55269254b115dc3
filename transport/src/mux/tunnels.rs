//! Tunnels: TCP connections that the mux treats as places that datagrams go to and come from.
//!
//! Each has a synthetic address. A client's tunnels are numbered; a supernode's name where they come from, so that
//! whoever counts by source counts them with the rest of that source:
//!
//! ```text
//!  client     fd61:686f:7902::<64 bits, number>                    port 1
//!  supernode  fd61:686f:7901:<1 bit family, 1 bit TURN, number>:   port of the TCP connection
//!             <64 bits: IPv4 address, or the first half of the IPv6 address>
//! ```

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

use super::TableFull;
use crate::tunnel::queue::{FrameQueue, QueuePolicy, QueueStats};

/// Most tunnels of one port at once. A supernode's listener has a bound of its own, and a device has one per home.
pub const MAX_TUNNELS: usize = 1 << 14;

/// Datagrams of one tunnel that wait to be taken: as much as a socket buffers.
const MAX_RECEIVED: usize = 128;

/// First 48 bits of the addresses of a supernode's tunnels.
const INBOUND: [u16; 3] = [0xfd61, 0x686f, 0x7901];
/// First 48 bits of the addresses of a client's tunnels.
const OUTBOUND: [u16; 3] = [0xfd61, 0x686f, 0x7902];
/// Marks an IPv6 source.
const IS_V6: u16 = 0x8000;
/// Marks a client that speaks nothing but TURN.
const IS_TURN: u16 = 0x4000;

/// Which end of a tunnel this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// We opened it.
    Client,
    /// It came to us.
    Supernode,
    /// A standard TURN client came to us.
    Turn,
}

/// What the mux and a tunnel's driver share.
#[derive(Debug)]
pub(crate) struct TunnelPort {
    /// The other end of the TCP connection.
    peer: SocketAddr,
    queue: Mutex<FrameQueue>,
    /// Something waits to be written.
    pub(crate) filled: Notify,
    /// Datagrams that the mux holds.
    received: AtomicUsize,
}

impl TunnelPort {
    fn new(peer: SocketAddr, policy: QueuePolicy) -> Self {
        Self {
            peer,
            queue: Mutex::new(FrameQueue::new(policy)),
            filled: Notify::new(),
            received: AtomicUsize::new(0),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn lock(&self) -> MutexGuard<'_, FrameQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, now: Instant, datagram: &[u8]) {
        self.lock().push(now, datagram);
        self.filled.notify_one();
    }

    pub(crate) fn pop(&self, now: Instant) -> Option<Vec<u8>> {
        self.lock().pop(now)
    }

    pub(crate) fn stats(&self) -> QueueStats {
        self.lock().stats()
    }

    /// Whether one more datagram may wait to be taken.
    pub(super) fn take_credit(&self) -> bool {
        let before = self.received.fetch_add(1, Ordering::Relaxed);
        if before >= MAX_RECEIVED {
            self.return_credit();
            return false;
        }
        true
    }

    pub(super) fn return_credit(&self) {
        self.received.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The tunnels of one port.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    by_address: HashMap<SocketAddr, Arc<TunnelPort>>,
    next_number: u64,
}

impl Tunnels {
    pub(super) fn add(
        &mut self,
        end: TunnelEnd,
        peer: SocketAddr,
        policy: QueuePolicy,
    ) -> Result<(SocketAddr, Arc<TunnelPort>), TableFull> {
        if self.by_address.len() >= MAX_TUNNELS {
            return Err(TableFull);
        }
        // Fewer tunnels than numbers: one is free.
        let address = loop {
            let number = self.next_number;
            self.next_number += 1;
            let address = match end {
                TunnelEnd::Supernode => inbound_address(peer, number, 0),
                TunnelEnd::Turn => inbound_address(peer, number, IS_TURN),
                TunnelEnd::Client => outbound_address(number),
            };
            if !self.by_address.contains_key(&address) {
                break address;
            }
        };
        let port = Arc::new(TunnelPort::new(peer, policy));
        self.by_address.insert(address, Arc::clone(&port));
        Ok((address, port))
    }

    pub(super) fn remove(&mut self, address: SocketAddr) {
        self.by_address.remove(&address);
    }

    pub(super) fn get(&self, address: SocketAddr) -> Option<&Arc<TunnelPort>> {
        self.by_address.get(&address)
    }
}

fn segments(address: SocketAddr) -> Option<[u16; 8]> {
    match address {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(v6) => Some(v6.ip().segments()),
    }
}

/// Whether `address` names a tunnel rather than a host.
#[must_use]
pub fn is_tunnel_address(address: SocketAddr) -> bool {
    segments(address)
        .is_some_and(|segments| segments.starts_with(&INBOUND) || segments.starts_with(&OUTBOUND))
}

/// Where the tunnel behind `ip`, the address of one of a supernode's tunnels, comes from; of an IPv6 address the first
/// half. `None` for every other address.
#[must_use]
pub fn tunnel_origin(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = ip else { return None };
    match v6.segments() {
        [0xfd61, 0x686f, 0x7901, tag, a, b, c, d] => Some(if tag & IS_V6 == 0 {
            let [c0, c1] = c.to_be_bytes();
            let [d0, d1] = d.to_be_bytes();
            Ipv4Addr::new(c0, c1, d0, d1).into()
        } else {
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }),
        _elsewhere => None,
    }
}

/// Whether `address` is that of a standard TURN client on TCP, from which no QUIC comes: all its channel numbers can be
/// told.
#[must_use]
pub fn speaks_only_turn(address: SocketAddr) -> bool {
    segments(address)
        .is_some_and(|segments| segments.starts_with(&INBOUND) && segments[3] & IS_TURN != 0)
}

/// `address` as somebody outside may be told it: a supernode's tunnel by where it comes from.
#[must_use]
pub fn seen_address(address: SocketAddr) -> SocketAddr {
    let address = super::canonical(address);
    match tunnel_origin(address.ip()) {
        Some(origin) => SocketAddr::new(origin, address.port()),
        None => address,
    }
}

fn inbound_address(origin: SocketAddr, number: u64, marks: u16) -> SocketAddr {
    let [p, q, r] = INBOUND;
    // Numbers repeat after 16384 connections; with address and port of the other side that names one still.
    let tag = u16::try_from(number % u64::from(IS_TURN)).unwrap_or(0) | marks;
    let ip = match super::canonical(origin).ip() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Ipv6Addr::new(p, q, r, tag, 0, 0, high, low)
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(p, q, r, tag | IS_V6, a, b, c, d)
        }
    };
    // quinn refuses port 0; TCP connections have none.
    SocketAddr::from((ip, origin.port().max(1)))
}

fn outbound_address(number: u64) -> SocketAddr {
    let [p, q, r] = OUTBOUND;
    let bits = Ipv6Addr::new(p, q, r, 0, 0, 0, 0, 0).to_bits() | u128::from(number);
    SocketAddr::from((Ipv6Addr::from_bits(bits), 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mux::is_relay_address;

    proptest! {
        #[test]
        fn a_supernodes_tunnels_tell_where_they_come_from(ip: IpAddr, port in 1u16.., number: u64) {
            let turn = number % 2 == 0;
            let marks = if turn { IS_TURN } else { 0 };
            let address = inbound_address(SocketAddr::new(ip, port), number, marks);
            prop_assert_eq!(speaks_only_turn(address), turn);
            prop_assert!(is_tunnel_address(address) && !is_relay_address(address));
            prop_assert_eq!(address.port(), port);
            let origin = match ip.to_canonical() {
                IpAddr::V4(v4) => IpAddr::V4(v4),
                IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            };
            prop_assert_eq!(tunnel_origin(address.ip()), Some(origin));
            prop_assert_eq!(seen_address(address), SocketAddr::new(origin, port));
        }

        #[test]
        fn a_clients_tunnels_come_from_nowhere(number: u64) {
            let address = outbound_address(number);
            prop_assert!(is_tunnel_address(address) && !is_relay_address(address));
            prop_assert_eq!(tunnel_origin(address.ip()), None);
            prop_assert_eq!(seen_address(address), address);
        }
    }

    #[test]
    fn tunnels_have_addresses_of_their_own_and_a_bound() {
        let mut tunnels = Tunnels::default();
        let peer = SocketAddr::from(([192, 0, 2, 1], 9));
        let mut add = |end| tunnels.add(end, peer, QueuePolicy::default());
        let (one, port) = add(TunnelEnd::Supernode).unwrap();
        let (two, _port) = add(TunnelEnd::Supernode).unwrap();
        assert_eq!(port.peer(), peer);
        assert_ne!(one, two);
        tunnels.remove(one);
        assert!(tunnels.get(one).is_none() && tunnels.get(two).is_some());
        while tunnels.by_address.len() < MAX_TUNNELS {
            tunnels
                .add(TunnelEnd::Client, peer, QueuePolicy::default())
                .unwrap();
        }
        let refused = tunnels.add(TunnelEnd::Client, peer, QueuePolicy::default());
        assert!(matches!(refused, Err(TableFull)));
    }
}
