//! A standard TURN server (RFC 8489, 8656) over UDP, without sockets, clock or randomness of its own.
//!
//! [`Relay`] takes packets and time and gives packets, socket requests and a deadline. After each call of a
//! `handle_…` method or of [`Relay::forward`], the caller drains [`Relay::poll_transmit`] and
//! [`Relay::poll_event`] until both are empty, then waits for input or for [`Relay::poll_timeout`].
//! [`server::RelayServer`] does so over real or simulated sockets.
//!
//! When both ends of a call have their allocation here, their packets never cross a relay socket: the
//! channel number is rewritten in place, with both sides' permissions checked as if they did.
//!
//! A second port serves those who want to know how their NAT behaves (`probe`, RFC 5780).
//!
//! Deliberate departures:
//! - An allocation is found by the client's address alone, since there is one port: a client that reaches two
//!   addresses of this host from one socket shares the allocation.
//! - Permissions look at the port too wherever the policy names one ([`policy`]); RFC 8656 ignores it.
//! - EVEN-PORT with a reservation and RESERVATION-TOKEN get 508, DONT-FRAGMENT 420, ICMP is not relayed, TCP allocations are
//!   refused with 442, ADDITIONAL-ADDRESS-FAMILY is ignored.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rtc_stun::{
    attributes::{
        ATTR_CHANGE_REQUEST, ATTR_CHANNEL_NUMBER, ATTR_DATA, ATTR_EVEN_PORT, ATTR_LIFETIME,
        ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_PADDING, ATTR_REALM,
        ATTR_REQUESTED_ADDRESS_FAMILY, ATTR_REQUESTED_TRANSPORT, ATTR_RESERVATION_TOKEN,
        ATTR_UNKNOWN_ATTRIBUTES, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS, AttrType,
    },
    error_code::{CODE_UNKNOWN_ATTRIBUTE, ErrorCode},
    message::{
        CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE,
        METHOD_ALLOCATE, METHOD_BINDING, METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION,
        METHOD_REFRESH, METHOD_SEND, TransactionId,
    },
};

use ahoy_transport::mux::tunnel_origin;

use crate::stun::{Builder, IntegrityKey, Stun, is_channel_data};

mod allocation;
pub mod counters;
pub mod credentials;
mod data;
pub mod limits;
mod nonce;
pub mod policy;
mod probe;
mod requests;
pub mod server;

use allocation::Allocation;
use counters::{Drop, RelayCounters, Traffic};
use credentials::{CredentialError, CredentialOwner, CredentialTable, TurnCredentials};
use limits::{RelayLimits, TokenBucket};
use nonce::Nonces;
use policy::{PeerPolicy, PolicySwitches};
use probe::ChangeMeter;

/// Lifetime of an allocation that asks for none or for less (RFC 8656 section 3.2).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);

/// Longest lifetime that is granted (RFC 8656 section 7.2 recommends one hour).
pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Longest payload that is relayed, in bytes: more than any Ethernet frame carries.
pub const MAX_PAYLOAD_BYTES: usize = 1500;

/// How long the shell may take to open a socket. It answers at once; this only keeps a lost answer from
/// holding its client's place for ever.
const OPENING_LIMIT: Duration = Duration::from_secs(10);

/// Slots of the reply meter. Sources share one by hash, so its memory is fixed whatever a flood invents.
const REPLY_METER_SLOTS: usize = 1024;

/// Packet buffers kept for reuse.
const SPARE_BUFFERS: usize = 64;

/// Entries of ended allocations that the deadline heap may hold beyond one per live allocation.
const STALE_DEADLINES: usize = 256;

/// Protocol number of UDP in REQUESTED-TRANSPORT.
const PROTOCOL_UDP: u8 = 17;

const FAMILY_V4: u8 = 1;
const FAMILY_V6: u8 = 2;

/// Comprehension-required attributes that a request or Send indication may carry.
const KNOWN: [AttrType; 14] = [
    ATTR_CHANGE_REQUEST,
    ATTR_PADDING,
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_REALM,
    ATTR_NONCE,
    ATTR_CHANNEL_NUMBER,
    ATTR_LIFETIME,
    ATTR_XOR_PEER_ADDRESS,
    ATTR_DATA,
    ATTR_REQUESTED_ADDRESS_FAMILY,
    ATTR_EVEN_PORT,
    ATTR_REQUESTED_TRANSPORT,
    ATTR_RESERVATION_TOKEN,
];

/// How a relay is set up.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// REALM: the name of the credential space, at most 128 bytes of ASCII.
    pub realm: String,
    /// The IPv4 address that peers reach relayed ports at; the public one behind a 1:1 NAT. None refuses IPv4
    /// allocations with 440.
    pub relayed_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub relayed_v6: Option<Ipv6Addr>,
    /// How far the peer policy is loosened.
    pub switches: PolicySwitches,
    /// Bounds on what clients may take.
    pub limits: RelayLimits,
    /// The port carries QUIC too: refuse channel numbers that cannot be told from QUIC there, that is all but
    /// 0x4000..=0x4fff with a low byte under 0x80.
    pub shared_port: bool,
}

impl RelayConfig {
    /// A relay that announces `ips`, with everything else at its default.
    #[must_use]
    pub fn new(realm: &str, ips: &[IpAddr]) -> Self {
        Self {
            realm: realm.to_owned(),
            relayed_v4: ips.iter().find_map(|ip| match ip {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            }),
            relayed_v6: ips.iter().find_map(|ip| match ip {
                IpAddr::V6(v6) => Some(*v6),
                IpAddr::V4(_) => None,
            }),
            switches: PolicySwitches::default(),
            limits: RelayLimits::default(),
            shared_port: true,
        }
    }
}

/// Names an allocation towards the shell. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocationId(u64);

/// Which socket a packet leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The relay's own port, from this address of ours if it is known.
    Port(Option<IpAddr>),
    /// The relay's second port, likewise.
    SecondPort(Option<IpAddr>),
    /// The socket of an allocation.
    Relayed(AllocationId),
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The socket it leaves by.
    pub via: Via,
    /// Where it goes.
    pub to: SocketAddr,
    /// One datagram.
    pub contents: Vec<u8>,
}

/// A ChannelData packet that may be passed on without copying it.
#[derive(Debug, PartialEq, Eq)]
pub struct Forward<'a> {
    /// The socket it leaves by.
    pub via: Via,
    /// Where it goes.
    pub to: SocketAddr,
    /// One datagram, inside the packet that came in.
    pub contents: &'a [u8],
}

/// What the shell has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayEvent {
    /// Bind a socket of this family and answer with [`Relay::handle_relay_opened`].
    OpenRelay {
        /// The allocation it is for.
        allocation: AllocationId,
        /// IPv6 instead of IPv4.
        ipv6: bool,
        /// The port must be even.
        even: bool,
    },
    /// Close the socket of this allocation, if it was opened.
    CloseRelay {
        /// The allocation that ended.
        allocation: AllocationId,
    },
    /// ChannelData from this client belongs to the relay from now on.
    ClientAdded {
        /// Address and port of the client.
        client: SocketAddr,
    },
    /// The client has no allocation any more.
    ClientRemoved {
        /// Address and port of the client.
        client: SocketAddr,
    },
}

/// An Allocate request that waits for its socket.
#[derive(Debug)]
struct Opening {
    client: SocketAddr,
    local: Option<IpAddr>,
    username: String,
    transaction: TransactionId,
    lifetime: Duration,
    fingerprint: bool,
    key: IntegrityKey,
    ipv6: bool,
    until: Instant,
}

#[derive(Debug)]
enum Slot {
    Opening(Opening),
    Live(Allocation),
}

/// A request with its circumstances.
struct Request {
    now: Instant,
    from: SocketAddr,
    local: Option<IpAddr>,
    at: Arrival,
    stun: Stun,
}

/// Where a packet from a client arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Port,
    SecondPort,
}

impl Arrival {
    fn via(self, local: Option<IpAddr>) -> Via {
        match self {
            Self::Port => Via::Port(local),
            Self::SecondPort => Via::SecondPort(local),
        }
    }
}

/// The relay's state machine.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    rng: ChaCha20Rng,
    nonces: Nonces,
    credentials: CredentialTable,
    policy: PeerPolicy,
    slots: HashMap<AllocationId, Slot>,
    by_client: HashMap<SocketAddr, AllocationId>,
    by_relayed: HashMap<SocketAddr, AllocationId>,
    by_source: HashMap<IpAddr, u32>,
    /// One entry per slot; a refreshed allocation's entry is renewed when it comes up.
    deadlines: BinaryHeap<Reverse<(Instant, AllocationId)>>,
    next_allocation: u64,
    reply_meter: Vec<TokenBucket>,
    /// The number of the second port, once it is open.
    second_port: Option<u16>,
    change_meter: ChangeMeter,
    counters: RelayCounters,
    transmits: VecDeque<Transmit>,
    events: VecDeque<RelayEvent>,
    spare: Vec<Vec<u8>>,
    draining: bool,
    /// What all allocations together may pass on.
    total: TokenBucket,
}

impl Relay {
    /// A relay without clients. `seed` draws credentials, nonces and transaction ids.
    #[must_use]
    pub fn new(now: Instant, config: RelayConfig, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut nonce_key = [0; 32];
        rng.fill_bytes(&mut nonce_key);
        let burst = 2 * config.limits.unauthenticated_replies_per_second;
        Self {
            nonces: Nonces::new(now, &nonce_key),
            credentials: CredentialTable::new(config.realm.clone()),
            policy: PeerPolicy::new(config.switches),
            slots: HashMap::new(),
            by_client: HashMap::new(),
            by_relayed: HashMap::new(),
            by_source: HashMap::new(),
            deadlines: BinaryHeap::new(),
            next_allocation: 0,
            reply_meter: vec![TokenBucket::full(now, burst); REPLY_METER_SLOTS],
            second_port: None,
            change_meter: ChangeMeter::new(now),
            counters: RelayCounters::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            spare: Vec::new(),
            draining: false,
            total: TokenBucket::full(now, config.limits.total_bytes_per_second.unwrap_or(0)),
            config,
            rng,
        }
    }

    /// Draws a credential for a client that was seen at `observed`, with a nonce that is good from there.
    ///
    /// # Errors
    /// When the owner's quota or the table is full.
    pub fn issue_credentials(
        &mut self,
        now: Instant,
        owner: CredentialOwner,
        observed: IpAddr,
    ) -> Result<TurnCredentials, CredentialError> {
        let nonce = self.nonces.issue(now, observed);
        self.credentials.issue(now, owner, nonce, &mut self.rng)
    }

    /// Adds a fixed user, as plain TURN servers have them: for interoperability tests and foreign clients.
    pub fn add_user(&mut self, username: &str, password: &str) {
        self.credentials.insert_fixed(username, password);
    }

    /// The allow-list of peers.
    pub fn policy_mut(&mut self) -> &mut PeerPolicy {
        &mut self.policy
    }

    /// While draining, new allocations get 508 and running ones go on.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> &RelayCounters {
        &self.counters
    }

    /// Traffic of the live allocation with this relayed address.
    #[must_use]
    pub fn traffic(&self, relayed: SocketAddr) -> Option<Traffic> {
        self.live(*self.by_relayed.get(&relayed)?)
            .map(|allocation| allocation.traffic)
    }

    /// The next time [`Self::handle_timeout`] has work: an allocation or an unanswered opening expires.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next request to the shell.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// Gives a sent packet's buffer back.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Counts a packet that the shell could not send.
    pub fn note_send_failure(&mut self) {
        self.counters.drop(Drop::SendFailed);
    }

    /// Ends allocations whose time is up.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            let until = match self.slots.get(&id) {
                Some(Slot::Live(allocation)) => allocation.until,
                Some(Slot::Opening(opening)) => opening.until,
                None => continue,
            };
            if until > now {
                self.deadlines.push(Reverse((until, id)));
            } else {
                self.remove(id);
            }
        }
    }

    /// A packet that reached the relay's own port at address `local`.
    pub fn handle_input(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        packet: &[u8],
    ) {
        if is_channel_data(packet) {
            let mut copy = self.buffer();
            copy.extend_from_slice(packet);
            if let Some(Forward { via, to, contents }) = self.forward(now, from, &mut copy) {
                let contents = contents.to_vec();
                self.transmits.push_back(Transmit { via, to, contents });
            }
            self.recycle(copy);
            return;
        }
        let Ok(stun) = Stun::parse(packet) else {
            self.counters.drop(Drop::Malformed);
            return;
        };
        let request = Request {
            now,
            from,
            local,
            at: Arrival::Port,
            stun,
        };
        match (request.stun.class(), request.stun.method()) {
            (CLASS_REQUEST, METHOD_BINDING) => self.handle_binding(&request),
            (
                CLASS_REQUEST,
                METHOD_ALLOCATE | METHOD_REFRESH | METHOD_CREATE_PERMISSION | METHOD_CHANNEL_BIND,
            ) => self.handle_request(request),
            (CLASS_INDICATION, METHOD_SEND) => self.handle_send(&request),
            // A Binding indication is a keep-alive (RFC 8489 section 12): nothing to do.
            (CLASS_INDICATION, METHOD_BINDING) => {}
            _ => self.counters.drop(Drop::Unsupported),
        }
    }

    fn live(&self, id: AllocationId) -> Option<&Allocation> {
        match self.slots.get(&id)? {
            Slot::Live(allocation) => Some(allocation),
            Slot::Opening(_) => None,
        }
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => self.config.relayed_v4 == Some(v4),
            IpAddr::V6(v6) => self.config.relayed_v6 == Some(v6),
        }
    }

    fn remove(&mut self, id: AllocationId) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let (client, username) = match slot {
            Slot::Opening(Opening {
                client, username, ..
            }) => (client, username),
            Slot::Live(Allocation {
                client,
                username,
                relayed,
                traffic,
                ..
            }) => {
                self.by_relayed.remove(&relayed);
                self.counters.allocations_closed += 1;
                self.counters.allocations_live -= 1;
                self.events.push_back(RelayEvent::ClientRemoved { client });
                tracing::debug!(allocation = id.0, ?traffic, "allocation closed");
                (client, username)
            }
        };
        self.events
            .push_back(RelayEvent::CloseRelay { allocation: id });
        if self.deadlines.len() > 2 * self.slots.len() + STALE_DEADLINES {
            let slots = &self.slots;
            self.deadlines
                .retain(|Reverse((_, id))| slots.contains_key(id));
        }
        self.by_client.remove(&client);
        self.credentials.allocation_closed(&username);
        let source = source_key(client.ip());
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Whether this source may have one more reply that it did not authenticate for.
    fn may_reply(&mut self, now: Instant, source: IpAddr) -> bool {
        let rate = self.config.limits.unauthenticated_replies_per_second;
        let slot = meter_slot(source);
        let allowed = self
            .reply_meter
            .get_mut(slot)
            .is_some_and(|bucket| bucket.take(now, 1, rate, 2 * rate));
        if !allowed {
            self.counters.drop(Drop::ReplyLimit);
        }
        allowed
    }

    /// 401 or 438, with what the client needs to try again.
    fn challenge(&mut self, request: &Request, code: ErrorCode) {
        if !self.may_reply(request.now, request.from.ip()) {
            return;
        }
        self.counters.errors += 1;
        let nonce = self.nonces.issue(request.now, request.from.ip());
        let reply = failure(request)
            .error(code)
            .attribute(ATTR_REALM, self.config.realm.as_bytes())
            .attribute(ATTR_NONCE, nonce.as_bytes());
        self.reply(request, reply, None);
    }

    fn refuse(&mut self, request: &Request, key: Option<&IntegrityKey>, code: ErrorCode) {
        self.counters.errors += 1;
        self.reply(request, failure(request).error(code), key);
    }

    fn refuse_unknown(
        &mut self,
        request: &Request,
        key: Option<&IntegrityKey>,
        unknown: &[AttrType],
    ) {
        self.counters.errors += 1;
        let list: Vec<u8> = unknown
            .iter()
            .flat_map(|typ| typ.value().to_be_bytes())
            .collect();
        let reply = failure(request)
            .error(CODE_UNKNOWN_ATTRIBUTE)
            .attribute(ATTR_UNKNOWN_ATTRIBUTES, &list);
        self.reply(request, reply, key);
    }

    fn reply(&mut self, request: &Request, reply: Builder, key: Option<&IntegrityKey>) {
        let contents = reply.finish(key, request.stun.has_fingerprint());
        self.transmits.push_back(Transmit {
            via: request.at.via(request.local),
            to: request.from,
            contents,
        });
    }
}

fn success(request: &Request) -> Builder {
    Builder::new(
        request.stun.method(),
        CLASS_SUCCESS_RESPONSE,
        request.stun.transaction(),
    )
}

fn failure(request: &Request) -> Builder {
    Builder::new(
        request.stun.method(),
        CLASS_ERROR_RESPONSE,
        request.stun.transaction(),
    )
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host commands whole.
#[must_use]
pub fn source_key(ip: IpAddr) -> IpAddr {
    // Whoever comes through a tunnel counts with the rest of the address that the tunnel comes from.
    match tunnel_origin(ip).unwrap_or(ip).to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

fn meter_slot(source: IpAddr) -> usize {
    // A plain multiplicative hash: who aims at a neighbour's slot delays the neighbour's set-up packets, no
    // more, and could as well send from the neighbour's address.
    let bits = match source_key(source) {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or(0),
    };
    let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(mixed).unwrap_or(0) % REPLY_METER_SLOTS
}

#[cfg(test)]
mod tests;
