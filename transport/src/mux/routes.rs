//! Relay routes: TURN channels that quinn sees as peers with addresses of their own.

use std::{
    collections::HashMap,
    net::{Ipv6Addr, SocketAddr},
};

use super::TableFull;

/// Most relay routes at once. A call needs one per relay and peer address; a hundred calls at once are beyond
/// any device.
pub const MAX_RELAY_ROUTES: usize = 256;

/// First 48 bits of every synthetic address, a unique local prefix (RFC 4193): fd, then "aho", "y", 0.
const PREFIX: [u16; 3] = [0xfd61, 0x686f, 0x7900];

/// quinn refuses port 0; nothing else depends on it.
const SYNTHETIC_PORT: u16 = 1;

/// A way to a peer through a channel bound on a TURN server (RFC 8656 section 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayRoute {
    /// The TURN server, as we reach it.
    pub server: SocketAddr,
    /// The channel that our allocation bound to `peer`.
    pub channel: u16,
    /// The peer's transport address, as the server sees it.
    pub peer: SocketAddr,
}

/// The routes, by both of their names.
#[derive(Debug, Default)]
pub(super) struct RelayRoutes {
    by_address: HashMap<SocketAddr, RelayRoute>,
    by_channel: HashMap<(SocketAddr, u16), SocketAddr>,
    servers: HashMap<SocketAddr, usize>,
    next_id: u64,
}

impl RelayRoutes {
    pub(super) fn add(&mut self, route: RelayRoute) -> Result<SocketAddr, TableFull> {
        let key = (route.server, route.channel);
        if let Some(address) = self.by_channel.get(&key) {
            // The same channel again: a refresh, or a new peer on it. The address stays.
            self.by_address.insert(*address, route);
            return Ok(*address);
        }
        if self.by_address.len() >= MAX_RELAY_ROUTES {
            return Err(TableFull);
        }
        let address = synthetic_address(self.next_id);
        self.next_id += 1;
        self.by_address.insert(address, route);
        self.by_channel.insert(key, address);
        *self.servers.entry(route.server).or_default() += 1;
        Ok(address)
    }

    pub(super) fn remove(&mut self, address: SocketAddr) -> Option<RelayRoute> {
        let route = self.by_address.remove(&address)?;
        self.by_channel.remove(&(route.server, route.channel));
        if let Some(count) = self.servers.get_mut(&route.server) {
            *count -= 1;
            if *count == 0 {
                self.servers.remove(&route.server);
            }
        }
        Some(route)
    }

    pub(super) fn get(&self, address: SocketAddr) -> Option<RelayRoute> {
        self.by_address.get(&address).copied()
    }

    pub(super) fn address(&self, server: SocketAddr, channel: u16) -> Option<SocketAddr> {
        self.by_channel.get(&(server, channel)).copied()
    }

    pub(super) fn is_server(&self, address: SocketAddr) -> bool {
        self.servers.contains_key(&address)
    }
}

/// Whether `address` names a relay route rather than a host.
#[must_use]
pub fn is_relay_address(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(v6) => v6.ip().segments().starts_with(&PREFIX),
    }
}

fn synthetic_address(id: u64) -> SocketAddr {
    let [a, b, c] = PREFIX;
    let id = id.to_be_bytes();
    let low = |high: usize| u16::from_be_bytes([id[high], id[high + 1]]);
    let ip = Ipv6Addr::new(a, b, c, 0, low(0), low(2), low(4), low(6));
    SocketAddr::from((ip, SYNTHETIC_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16, channel: u16) -> RelayRoute {
        RelayRoute {
            server: SocketAddr::from(([192, 0, 2, 1], port)),
            channel,
            peer: SocketAddr::from(([192, 0, 2, 2], 9)),
        }
    }

    #[test]
    fn routes_are_found_by_both_names_and_bounded() {
        let mut routes = RelayRoutes::default();
        let one = routes.add(route(1, 0x4000)).unwrap();
        assert!(is_relay_address(one));
        assert_eq!(routes.add(route(1, 0x4000)), Ok(one));
        let two = routes.add(route(1, 0x4001)).unwrap();
        assert_ne!(one, two);
        assert_eq!(routes.get(two), Some(route(1, 0x4001)));
        assert_eq!(routes.address(route(1, 0).server, 0x4001), Some(two));
        routes.remove(one);
        assert!(routes.is_server(route(1, 0).server));
        routes.remove(two);
        assert!(!routes.is_server(route(1, 0).server));
        assert_eq!(routes.remove(two), None);
        for port in 0..256 {
            routes.add(route(port, 0x4000)).unwrap();
        }
        assert_eq!(routes.add(route(999, 0x4000)), Err(TableFull));
    }
}
