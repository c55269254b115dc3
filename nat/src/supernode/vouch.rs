//! Which other supernodes this one's relay serves: those that proved their key. Sans-IO.
//!
//! Two people at different homes talk through both homes' relays, so each relay has to send to relayed
//! addresses of the other. A client names the other supernode ([`super::protocol::Request::AllowRelay`]) and is
//! not believed: this supernode dials the address itself, without a name, and only a node that proves the key
//! there makes its IP address one that may be relayed to, for [`VOUCHED_FOR`].
//!
//! So whoever lies has this supernode send a few handshake packets, and no more, to an address of their choice.
//! What that is worth to an attacker is bounded four times: per connection
//! ([`super::registry::Registry::meter_proof`]), per address ([`RETRY_AFTER`], [`MAX_UNPROVEN_PER_SOURCE`]), and
//! over all, by rate ([`DIALS_PER_SECOND`]) and number; strangers have a share of their own.
//!
//! [`Vouching::handle_request`] says what to do about a request, [`Vouching::handle_dialled`] takes what came of
//! a dial; whoever waits asks again then.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Bound,
    time::{Duration, Instant},
};

use ahoy_transport::identity::{NodeAddress, NodeId};

use super::{
    protocol::Refusal,
    relay::{limits::TokenBucket, source_key},
};

/// How long a proof counts. Longer than most calls; not long enough to matter when an address changes hands.
pub const VOUCHED_FOR: Duration = Duration::from_secs(30 * 60);
/// A proof with less than this left is asked for again: who is told that it counts has time to come back.
const RENEW_UNDER: Duration = Duration::from_secs(15 * 60);
/// How long an address that did not prove its key is not dialled again.
pub const RETRY_AFTER: Duration = Duration::from_secs(60);
/// The same for a supernode that has proved it before: it may be starting anew.
const KNOWN_RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a supernode that proved its key once is remembered as one that is worth dialling.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Keys and ports that may be tried within [`RETRY_AFTER`] at one IPv4 address or IPv6 /64 that never proved any.
pub const MAX_UNPROVEN_PER_SOURCE: usize = 4;
/// Dials per second, with [`DIAL_BURST`] at once. A dial to nowhere is about six packets of 1200 bytes, so this
/// is all the traffic that lies can make: 60 kB per second.
pub const DIALS_PER_SECOND: u64 = 8;
/// See [`DIALS_PER_SECOND`].
pub const DIAL_BURST: u64 = 32;
/// Dials at once, of devices and of strangers each.
const MAX_DIALS: usize = 32;
/// Supernodes remembered at once, about 200 bytes each.
const MAX_ENTRIES: usize = 8_192;

/// A port at which supernodes listen where nothing else gets out; the only one of the system's ports that is
/// dialled.
const HTTPS: u16 = 443;
/// Below it are the system's ports.
const FIRST_USER_PORT: u16 = 1024;

/// Who asks. Strangers must not use up what devices need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A device that showed its certificate.
    Device,
    /// A client without a name.
    Stranger,
}

/// What to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is allowed already, for so long.
    Allowed(Duration),
    /// Dial this address, report by [`Vouching::handle_dialled`], then ask again.
    Dial(SocketAddr),
    /// Somebody dials already: ask again when that is done.
    Wait,
}

/// An address and the key that is to be proved there, those of one source together.
type Key = (IpAddr, SocketAddr, NodeId);

#[derive(Debug)]
struct Entry {
    /// Who had it dialled, while that goes on.
    dialling: Option<Asker>,
    /// Until when the last proof counts.
    proven_until: Option<Instant>,
    /// No dial before.
    retry_at: Instant,
}

impl Entry {
    fn left(&self, now: Instant) -> Duration {
        self.proven_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn is_over(&self, now: Instant) -> bool {
        let remembered = self
            .proven_until
            .is_some_and(|until| until + REMEMBERED_FOR > now);
        self.dialling.is_none() && self.retry_at <= now && !remembered
    }
}

/// One budget for devices, one for strangers.
#[derive(Debug)]
struct Budget {
    rate: TokenBucket,
    dials: usize,
}

/// The other supernodes that are known.
#[derive(Debug)]
pub struct Vouching {
    entries: BTreeMap<Key, Entry>,
    devices: Budget,
    strangers: Budget,
    dialled: u64,
}

impl Vouching {
    /// Nobody is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let budget = || Budget {
            rate: TokenBucket::full(now, DIAL_BURST),
            dials: 0,
        };
        Self {
            entries: BTreeMap::new(),
            devices: budget(),
            strangers: budget(),
            dialled: 0,
        }
    }

    /// Dials since the start.
    #[must_use]
    pub fn dialled(&self) -> u64 {
        self.dialled
    }

    /// What to do about `relay`. `meter` is asked before a dial and may refuse it for the asker's own sake.
    ///
    /// # Errors
    /// [`Refusal::UnprovenRelay`] when it failed to prove its key lately or cannot be dialled,
    /// [`Refusal::TooFast`] and [`Refusal::Full`] when there were or are too many dials.
    pub fn handle_request(
        &mut self,
        now: Instant,
        asker: Asker,
        relay: &NodeAddress,
        meter: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<Decision, Refusal> {
        let (key, addr) = key_of(relay).ok_or(Refusal::UnprovenRelay)?;
        let mut known = false;
        if let Some(entry) = self.entries.get(&key) {
            let left = entry.left(now);
            if left >= RENEW_UNDER {
                return Ok(Decision::Allowed(left));
            }
            if entry.dialling.is_some() {
                return Ok(Decision::Wait);
            }
            if entry.retry_at > now {
                return if left.is_zero() {
                    Err(Refusal::UnprovenRelay)
                } else {
                    Ok(Decision::Allowed(left))
                };
            }
            known = entry.proven_until.is_some();
        }
        if !known && self.unproven(now, key.0) >= MAX_UNPROVEN_PER_SOURCE {
            return Err(Refusal::TooFast);
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.retain(|_key, entry| !entry.is_over(now));
        }
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            return Err(Refusal::Full);
        }
        meter()?;
        let budget = self.budget(asker);
        if budget.dials >= MAX_DIALS || !budget.rate.take(now, 1, DIALS_PER_SECOND, DIAL_BURST) {
            return Err(Refusal::TooFast);
        }
        budget.dials += 1;
        self.dialled += 1;
        let entry = self.entries.entry(key).or_insert(Entry {
            dialling: None,
            proven_until: None,
            retry_at: now,
        });
        entry.dialling = Some(asker);
        Ok(Decision::Dial(addr))
    }

    /// What came of a dial: until when the address is allowed now, if the key was proved there.
    pub fn handle_dialled(
        &mut self,
        now: Instant,
        relay: &NodeAddress,
        proven_until: Option<Instant>,
    ) {
        let Some((key, _addr)) = key_of(relay) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let asker = entry.dialling.take();
        entry.proven_until = proven_until.or(entry.proven_until);
        entry.retry_at = now
            + match entry.proven_until {
                Some(_known) => KNOWN_RETRY_AFTER,
                None => RETRY_AFTER,
            };
        if let Some(asker) = asker {
            self.budget(asker).dials -= 1;
        }
    }

    fn budget(&mut self, asker: Asker) -> &mut Budget {
        match asker {
            Asker::Device => &mut self.devices,
            Asker::Stranger => &mut self.strangers,
        }
    }

    /// What was tried lately at a source, and is tried now, without a proof so far.
    fn unproven(&self, now: Instant, source: IpAddr) -> usize {
        let first = (
            source,
            SocketAddr::new([0, 0, 0, 0].into(), 0),
            NodeId([0; 32]),
        );
        self.entries
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(|((of, _addr, _node), _entry)| *of == source)
            .filter(|(_key, entry)| {
                entry.proven_until.is_none() && (entry.dialling.is_some() || entry.retry_at > now)
            })
            .count()
    }
}

/// Whether supernodes are dialled at this port, which anybody may have named.
#[must_use]
pub fn is_node_port(port: u16) -> bool {
    port == HTTPS || port >= FIRST_USER_PORT
}

/// Nothing for what is not dialled: a name, which could mean another machine the next time, or a port at which
/// no supernode listens but something else may.
fn key_of(relay: &NodeAddress) -> Option<(Key, SocketAddr)> {
    let addr = relay.socket_addr()?;
    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
    is_node_port(addr.port()).then(|| ((source_key(addr.ip()), addr, relay.node), addr))
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::Host;

    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    fn relay(n: u16, port: u16) -> NodeAddress {
        let [high, low] = n.to_be_bytes();
        NodeAddress::new(
            NodeId([7; 32]),
            SocketAddr::from(([203, 0, high, low], port)),
        )
    }

    fn ask(
        vouching: &mut Vouching,
        now: Instant,
        relay: &NodeAddress,
    ) -> Result<Decision, Refusal> {
        vouching.handle_request(now, Asker::Device, relay, || Ok(()))
    }

    #[test]
    fn a_proof_counts_for_its_time_and_one_dial_serves_all_who_ask() {
        let now = start();
        let mut vouching = Vouching::new(now);
        let relay = relay(1, 4433);
        let addr = relay.socket_addr().unwrap();
        assert_eq!(ask(&mut vouching, now, &relay), Ok(Decision::Dial(addr)));
        assert_eq!(ask(&mut vouching, now, &relay), Ok(Decision::Wait));
        vouching.handle_dialled(now, &relay, Some(now + VOUCHED_FOR));
        assert_eq!(
            ask(&mut vouching, now, &relay),
            Ok(Decision::Allowed(VOUCHED_FOR))
        );
        // Prolonged in time, and what counts meanwhile is not lost by a dial that fails.
        let later = now + VOUCHED_FOR - RENEW_UNDER + Duration::from_secs(1);
        assert_eq!(ask(&mut vouching, later, &relay), Ok(Decision::Dial(addr)));
        vouching.handle_dialled(later, &relay, None);
        assert_eq!(
            ask(&mut vouching, later, &relay),
            Ok(Decision::Allowed(RENEW_UNDER - Duration::from_secs(1)))
        );
        assert_eq!(vouching.dialled(), 2);
    }

    #[test]
    fn a_liar_is_dialled_once_a_minute() {
        let now = start();
        let mut vouching = Vouching::new(now);
        let relay = relay(1, 4433);
        assert!(matches!(
            ask(&mut vouching, now, &relay),
            Ok(Decision::Dial(_))
        ));
        vouching.handle_dialled(now, &relay, None);
        for seconds in 0..60 {
            assert_eq!(
                ask(&mut vouching, now + Duration::from_secs(seconds), &relay),
                Err(Refusal::UnprovenRelay)
            );
        }
        assert!(matches!(
            ask(&mut vouching, now + RETRY_AFTER, &relay),
            Ok(Decision::Dial(_))
        ));
    }

    #[test]
    fn one_machine_is_dialled_at_a_few_ports_only_unless_it_proved_a_key() {
        let now = start();
        let mut vouching = Vouching::new(now);
        let good = relay(1, 4433);
        ask(&mut vouching, now, &good).unwrap();
        vouching.handle_dialled(now, &good, Some(now + VOUCHED_FOR));
        let dialled = (5_000..6_000)
            .filter(|port| ask(&mut vouching, now, &relay(1, *port)).is_ok())
            .count();
        assert_eq!(dialled, MAX_UNPROVEN_PER_SOURCE);
        // What proved its key is dialled again nevertheless.
        let later = now + RETRY_AFTER.max(VOUCHED_FOR);
        assert!(matches!(
            ask(&mut vouching, later, &good),
            Ok(Decision::Dial(_))
        ));
    }

    #[test]
    fn a_flood_is_cut_to_the_rate_and_leaves_devices_their_share() {
        let now = start();
        let mut vouching = Vouching::new(now);
        let flood = |vouching: &mut Vouching, at, first: u16| {
            (first..first + 1_000)
                .filter(|n| {
                    let relay = relay(*n, 4433);
                    let dial = vouching.handle_request(at, Asker::Stranger, &relay, || Ok(()));
                    if dial.is_ok() {
                        vouching.handle_dialled(at, &relay, None);
                    }
                    dial.is_ok()
                })
                .count() as u64
        };
        assert_eq!(flood(&mut vouching, now, 0), DIAL_BURST);
        let later = now + Duration::from_secs(1);
        assert_eq!(flood(&mut vouching, later, 1_000), DIALS_PER_SECOND);
        assert!(ask(&mut vouching, now, &relay(9_999, 4433)).is_ok());
        assert!(vouching.entries.len() <= MAX_ENTRIES);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_is_over() {
        let mut now = start();
        let mut vouching = Vouching::new(now);
        for n in 0..20_000u16 {
            now += Duration::from_millis(125);
            let relay = relay(n, 4433);
            if ask(&mut vouching, now, &relay).is_ok() {
                vouching.handle_dialled(now, &relay, None);
            }
            assert!(vouching.entries.len() <= MAX_ENTRIES);
        }
        assert_eq!(vouching.dialled(), 20_000);
    }

    #[test]
    fn names_and_system_ports_are_not_dialled() {
        let now = start();
        let mut vouching = Vouching::new(now);
        let name = NodeAddress {
            host: Host::Name("relay.example".into()),
            ..relay(1, 4433)
        };
        for refused in [name, relay(1, 53), relay(1, 1023)] {
            assert_eq!(
                ask(&mut vouching, now, &refused),
                Err(Refusal::UnprovenRelay)
            );
        }
        assert!(ask(&mut vouching, now, &relay(1, 443)).is_ok());
    }

    #[test]
    fn the_askers_own_meter_comes_before_the_common_one() {
        let now = start();
        let mut vouching = Vouching::new(now);
        for n in 0..1_000 {
            let refused = vouching.handle_request(now, Asker::Device, &relay(n, 4433), || {
                Err(Refusal::TooFast)
            });
            assert_eq!(refused, Err(Refusal::TooFast));
        }
        assert!(ask(&mut vouching, now, &relay(1, 4433)).is_ok());
    }
}
