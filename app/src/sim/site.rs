//! Houses: nodes with whatever stands between them and the internet.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    World,
    executor::lock,
    nat::{NatConfig, NatKind, NatStats, SimNat},
    network::{Fault, SimNode},
};

/// A device at home, and the translators before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The device.
    pub node: SimNode,
    /// Its address in its own network.
    pub address: IpAddr,
    /// The address under which the internet sees it.
    pub public: IpAddr,
    /// The translators between it and the internet, its own router first.
    pub nats: Vec<SimNat>,
}

impl Site {
    /// Its own router, if it has one.
    #[must_use]
    pub fn router(&self) -> Option<SimNat> {
        self.nats.first().copied()
    }
}

impl World {
    /// Adds a device that is connected as `kind` says, with an ideal link. Each site has a `number` of its own,
    /// from which the addresses come: 198.51.100.`number` on the internet (RFC 5737), 192.168.`number`.2 at
    /// home, 100.64.`number`.1 in a carrier's network (RFC 6598).
    ///
    /// # Panics
    /// If another site has the number.
    pub fn add_site(&self, name: &str, kind: NatKind, number: u8) -> Site {
        let (nats, address, public) = self.add_house(name, kind, number);
        let behind = nats.first().copied();
        let node = lock(&self.shared.network).add_node(name, behind, &[address]);
        Site {
            node,
            address,
            public,
            nats,
        }
    }

    /// Moves the device of `site` into a new site of this kind and number, as from Wi-Fi to the telephone
    /// network: a [`Fault::Attach`], now. The routers of the old site stay where they are.
    ///
    /// # Panics
    /// If another site has the number.
    pub fn move_site(&self, name: &str, site: &Site, kind: NatKind, number: u8) -> Site {
        let (nats, address, public) = self.add_house(name, kind, number);
        self.apply(Fault::Attach {
            node: site.node,
            behind: nats.first().copied(),
            addresses: vec![address],
        });
        Site {
            node: site.node,
            address,
            public,
            nats,
        }
    }

    /// The translators of a site, its own router first, with the inner and the public address.
    fn add_house(&self, name: &str, kind: NatKind, number: u8) -> (Vec<SimNat>, IpAddr, IpAddr) {
        let public = IpAddr::from([198, 51, 100, number]);
        let chain = kind.chain();
        let mut nats: Vec<SimNat> = Vec::new();
        // The outermost first: the others stand behind it.
        for (depth, config) in chain.into_iter().enumerate().rev() {
            let outside = nats.last().copied();
            let (name, external) = match (depth, outside) {
                (_, Some(_)) => {
                    let carrier = Ipv4Addr::new(100, 64, number, 1);
                    (format!("{name}'s router"), IpAddr::from(carrier))
                }
                (0, None) => (format!("{name}'s router"), public),
                (_, None) => (format!("{name}'s carrier"), public),
            };
            nats.push(lock(&self.shared.network).add_nat(&name, config, outside, vec![external]));
        }
        nats.reverse();
        let address = match nats.first() {
            Some(_) => IpAddr::from([192, 168, number, 2]),
            None => public,
        };
        (nats, address, public)
    }

    /// Adds a translator on the internet, with `external` as its IPv4 addresses there.
    ///
    /// # Panics
    /// If somebody else has one of the addresses.
    pub fn add_nat(&self, name: &str, config: NatConfig, external: &[IpAddr]) -> SimNat {
        lock(&self.shared.network).add_nat(name, config, None, external.to_vec())
    }

    /// Adds a translator behind another one, `outer`, with `external` as its addresses between the two: a home
    /// router in the network of a carrier, say.
    ///
    /// # Panics
    /// If somebody else there has one of the addresses.
    pub fn add_nat_behind(
        &self,
        outer: SimNat,
        name: &str,
        config: NatConfig,
        external: &[IpAddr],
    ) -> SimNat {
        lock(&self.shared.network).add_nat(name, config, Some(outer), external.to_vec())
    }

    /// Adds a running node behind a translator, with an ideal link. Its IPv4 addresses are known there alone
    /// and may be the same as elsewhere; IPv6 ones are global, and reached through the router's firewall.
    ///
    /// # Panics
    /// If somebody else there has one of the addresses.
    pub fn add_node_behind(&self, nat: SimNat, name: &str, addresses: &[IpAddr]) -> SimNode {
        lock(&self.shared.network).add_node(name, Some(nat), addresses)
    }

    /// How a translator behaves.
    pub fn nat_config(&self, nat: SimNat) -> NatConfig {
        lock(&self.shared.network).nat(nat).config().clone()
    }

    /// Counters of a translator.
    pub fn nat_stats(&self, nat: SimNat) -> NatStats {
        lock(&self.shared.network).nat_stats(self.elapsed(), nat)
    }

    /// The translator's name.
    pub fn nat_name(&self, nat: SimNat) -> String {
        lock(&self.shared.network).nat(nat).name.clone()
    }

    /// The outside endpoint under which `remote` sees `inside` now, if the translator has a mapping for it.
    pub fn mapped(
        &self,
        nat: SimNat,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        let now: Duration = self.elapsed();
        lock(&self.shared.network)
            .nat(nat)
            .mapped(now, inside, remote)
    }

    /// Forwards the outside port `port` to `inside`, open to everybody and kept over reboots, as an
    /// administrator or a port mapping protocol would; none if the port is taken. Returns the outside endpoint.
    pub fn forward_port(&self, nat: SimNat, inside: SocketAddr, port: u16) -> Option<SocketAddr> {
        let now = self.elapsed();
        lock(&self.shared.network)
            .nat_mut(nat)
            .forward(now, inside, port)
    }
}
