//! Alice, Bob and their supernode in the simulated world, and what the steps of a plan do to them.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    cli::{Action, Party, Way},
    sim::{Fault, LinkId, NatConfig, NatKind, SimNat, SimNode, Site, World},
};

/// An address for documentation (RFC 5737): public as far as anybody here can tell.
const RELAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The three, wherever they are by now.
pub(super) struct Cast {
    relay: SimNode,
    alice: Person,
    bob: Person,
    /// The last number given to a site or an address. Nobody moves so often that it would wrap.
    number: u8,
}

struct Person {
    name: &'static str,
    site: Site,
    kind: NatKind,
}

impl Cast {
    /// Puts everybody in place, with ideal links.
    pub(super) fn new(world: &World, [alice, bob]: [NatKind; 2]) -> Self {
        let person = |name, kind, number| Person {
            name,
            site: world.add_site(name, kind, number),
            kind,
        };
        Self {
            relay: world.add_node("supernode", &[RELAY.into()]),
            alice: person("Alice", alice, 1),
            bob: person("Bob", bob, 2),
            number: 2,
        }
    }

    pub(super) fn node(&self, who: Party) -> SimNode {
        match who {
            Party::Alice => self.alice.site.node,
            Party::Bob => self.bob.site.node,
            Party::Relay => self.relay,
        }
    }

    pub(super) fn address(&self, who: Party) -> IpAddr {
        match who {
            Party::Alice => self.alice.site.address,
            Party::Bob => self.bob.site.address,
            Party::Relay => RELAY.into(),
        }
    }

    fn site(&self, who: Party) -> Option<&Site> {
        match who {
            Party::Alice => Some(&self.alice.site),
            Party::Bob => Some(&self.bob.site),
            Party::Relay => None,
        }
    }

    fn router(&self, who: Party) -> Option<SimNat> {
        self.site(who)?.router()
    }

    fn next_number(&mut self) -> u8 {
        // 1 and 2 are taken, and 255 is the broadcast address.
        self.number = if self.number >= 254 {
            3
        } else {
            self.number + 1
        };
        self.number
    }

    /// Does it, in this moment of the world; but deaths and births as events of their own, since no node may die
    /// while one of its tasks runs.
    pub(super) fn carry_out(&mut self, world: &World, action: &Action) {
        match action {
            Action::Link { who, up, down } => {
                let node = self.node(*who);
                for (link, conditions) in
                    [(LinkId::Uplink(node), up), (LinkId::Downlink(node), down)]
                {
                    if let Some(conditions) = conditions {
                        world.set_conditions(link, conditions.clone());
                    }
                }
            }
            Action::Cut(way) => match way {
                Way::Line(who) => world.apply(Fault::UpstreamDown(self.node(*who))),
                Way::Between(a, b) => world.apply(Fault::Partition {
                    left: vec![self.node(*a)],
                    right: vec![self.node(*b)],
                }),
                Way::OneWay { from, to } => world.apply(Fault::BlackHole {
                    from: self.node(*from),
                    to: self.node(*to),
                }),
            },
            Action::Mend(way) => match way {
                Way::Line(who) => world.apply(Fault::UpstreamUp(self.node(*who))),
                Way::Between(a, b) => world.apply(Fault::Mend {
                    left: vec![self.node(*a)],
                    right: vec![self.node(*b)],
                }),
                Way::OneWay { from, to } => world.apply(Fault::EndBlackHole {
                    from: self.node(*from),
                    to: self.node(*to),
                }),
            },
            Action::Unplug(who) => world.apply(Fault::LinkDown(self.node(*who))),
            Action::Plug(who) => world.apply(Fault::LinkUp(self.node(*who))),
            Action::Reboot(who) => self.to_router(world, *who, Fault::NatReboot),
            Action::RouterDown(who) => self.to_router(world, *who, Fault::NatDown),
            Action::RouterUp(who) => self.to_router(world, *who, Fault::NatUp),
            Action::BlockUdp(who) => self.block_udp(world, *who, true),
            Action::AllowUdp(who) => self.block_udp(world, *who, false),
            Action::Renumber(who) => self.renumber(world, *who),
            Action::RenumberRouter(who) => self.renumber_router(world, *who),
            Action::Move(who, kind) => self.relocate(world, *who, *kind),
            Action::Suspend(who) => world.apply(Fault::Suspend(self.node(*who))),
            Action::Resume(who) => world.apply(Fault::Resume(self.node(*who))),
            Action::KillRelay => world.at(world.elapsed(), Fault::Kill(self.relay)),
            Action::RestartRelay => world.at(world.elapsed(), Fault::Restart(self.relay)),
        }
    }

    fn to_router(&self, world: &World, who: Party, fault: fn(SimNat) -> Fault) {
        if let Some(nat) = self.router(who) {
            world.apply(fault(nat));
        }
    }

    fn block_udp(&self, world: &World, who: Party, udp_blocked: bool) {
        if let Some(nat) = self.router(who) {
            let config = NatConfig {
                udp_blocked,
                ..world.nat_config(nat)
            };
            world.apply(Fault::NatConfig { nat, config });
        }
    }

    fn person_mut(&mut self, who: Party) -> Option<&mut Person> {
        match who {
            Party::Alice => Some(&mut self.alice),
            Party::Bob => Some(&mut self.bob),
            Party::Relay => None,
        }
    }

    /// Another address in the same network.
    fn renumber(&mut self, world: &World, who: Party) {
        let number = self.next_number();
        let Some(person) = self.person_mut(who) else {
            return;
        };
        let address = match person.site.address {
            IpAddr::V4(old) if !person.site.nats.is_empty() => {
                let [a, b, c, _] = old.octets();
                IpAddr::from([a, b, c, number])
            }
            IpAddr::V4(_) | IpAddr::V6(_) => IpAddr::from([198, 51, 100, number]),
        };
        person.site.address = address;
        world.apply(Fault::Addresses {
            node: person.site.node,
            addresses: vec![address],
        });
    }

    /// Another outside address of the person's own router, from whoever is outside.
    fn renumber_router(&mut self, world: &World, who: Party) {
        let number = self.next_number();
        let Some(site) = self.person_mut(who).map(|person| &mut person.site) else {
            return;
        };
        let Some(nat) = site.router() else {
            return;
        };
        let address = if site.nats.len() > 1 {
            IpAddr::from([100, 64, 0, number])
        } else {
            IpAddr::from([198, 51, 100, number])
        };
        if site.nats.len() == 1 {
            site.public = address;
        }
        world.apply(Fault::NatAddresses {
            nat,
            addresses: vec![address],
        });
    }

    /// Into another network.
    fn relocate(&mut self, world: &World, who: Party, kind: Option<NatKind>) {
        let number = self.next_number();
        let Some(person) = self.person_mut(who) else {
            return;
        };
        person.kind = kind.unwrap_or(person.kind);
        person.site = world.move_site(person.name, &person.site, person.kind, number);
    }
}
