//! TURN client (RFC 8656) without socket or clock: one allocation, its refreshes, its channels.
//!
//! [`TurnClient`] takes packets and time and gives packets, events and a deadline; drain
//! [`TurnClient::poll_transmit`] and [`TurnClient::poll_event`] after each call.
//! [`allocation::TurnAllocation`] does so on the shared port. Data does not pass here: it travels as
//! ChannelData on the channels bound here, framed by the port.
//!
//! It stands on `rtc-stun`, not on `rtc-turn`: that client cannot start with a nonce it already has, so every
//! call would pay a round trip; it binds a channel only as a by-product of sending data through its own,
//! copying, data path; it numbers channels 0x4000, 0x4001, … without end, but on a port shared with QUIC only
//! low bytes under 0x80 can be told apart; it does not authenticate answers; and its transaction ids and the
//! order of its timers are not reproducible.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rtc_stun::{
    attributes::{
        ATTR_CHANNEL_NUMBER, ATTR_LIFETIME, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM,
        ATTR_REQUESTED_ADDRESS_FAMILY, ATTR_REQUESTED_TRANSPORT, ATTR_USERNAME,
        ATTR_XOR_PEER_ADDRESS, ATTR_XOR_RELAYED_ADDRESS,
    },
    message::{
        CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE,
        METHOD_CHANNEL_BIND, METHOD_REFRESH, Method, TransactionId,
    },
};

use crate::{
    stun::{Builder, IntegrityKey, Stun, long_term_key},
    supernode::relay::credentials::TurnCredentials,
};

pub mod allocation;

/// First retransmission timeout without a better estimate (RFC 8489 section 6.2.1).
pub const DEFAULT_RTO: Duration = Duration::from_millis(500);

/// Shortest useful retransmission timeout, however short the measured round trip is.
pub const MIN_RTO: Duration = Duration::from_millis(100);

/// Times a request is sent: `Rc` of RFC 8489 section 6.2.1.
const REQUESTS: u32 = 7;

/// Timeouts to wait after the last one: `Rm` of the same section.
const LAST_WAIT: u32 = 16;

/// Lifetime to ask for. The default one: an allocation that a crash leaves behind should go soon.
const LIFETIME: Duration = Duration::from_secs(600);

/// Longest lifetime that is believed, so that a refresh comes in any case.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// How long before the five minutes of a permission its channel is bound again, which refreshes both: longer
/// than a request takes to fail.
const REBIND_AFTER: Duration = Duration::from_secs(240);

/// Peers bound at once: relays of the other side of a call, of a few calls.
pub const MAX_PEERS: usize = 32;

/// Fresh nonces accepted for one request, so that a confused server cannot keep it going for ever.
const MAX_CHALLENGES: u32 = 3;

/// Times that an Allocate answered by 437 is tried again: what an earlier call left on this port is deleted, and
/// some servers need a moment to forget it.
const MAX_EVICTIONS: u32 = 3;

/// That moment: coturn keeps a deleted allocation for a second.
const EVICTION_WAIT: Duration = Duration::from_millis(1500);

/// Channel numbers that are safe on a port shared with QUIC: 0x4000 to 0x4f7f with a low byte under 0x80.
const CHANNELS: u16 = 16 * 128;

/// What to ask which server for.
#[derive(Debug, Clone)]
pub struct TurnConfig {
    /// The server.
    pub server: SocketAddr,
    /// With realm and nonce known in advance, Allocate takes one round trip, else two.
    pub credentials: TurnCredentials,
    /// Ask for an IPv6 relayed address instead of IPv4.
    pub ipv6: bool,
    /// First retransmission timeout: [`DEFAULT_RTO`], or about twice a known round trip, at least
    /// [`MIN_RTO`].
    pub rto: Duration,
}

impl TurnConfig {
    /// An IPv4 allocation with the standard timers.
    #[must_use]
    pub fn new(server: SocketAddr, credentials: TurnCredentials) -> Self {
        Self {
            server,
            credentials,
            ipv6: false,
            rto: DEFAULT_RTO,
        }
    }
}

/// Why there is no allocation, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// The server does not answer.
    #[error("the relay does not answer")]
    Timeout,
    /// The server does not accept the credentials.
    #[error("the relay does not accept the credentials")]
    Unauthorized,
    /// The server refused with this STUN error code (RFC 8489 section 14.8, RFC 8656 section 19).
    #[error("the relay refused with code {0}")]
    Refused(u16),
    /// The server's answer makes no sense.
    #[error("the relay's answer makes no sense")]
    Protocol,
    /// As many peers are bound as can be.
    #[error("the allocation has as many peers as it may have")]
    TooManyPeers,
    /// The port already has an allocation on this server, or too many users.
    #[error("the port cannot take another relay client: {0}")]
    Port(#[from] crate::port::SubscribeError),
    /// The allocation was given up here.
    #[error("the allocation was closed")]
    Closed,
}

/// What happened to the allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnEvent {
    /// It is there.
    Allocated {
        /// What peers send to.
        relayed: SocketAddr,
        /// This port as the server sees it.
        mapped: SocketAddr,
    },
    /// Data to and from `peer` may flow on `channel`.
    Bound {
        /// The peer's address.
        peer: SocketAddr,
        /// The channel number, with a low byte under 0x80.
        channel: u16,
    },
    /// The server does not let this allocation talk to `peer`, or no longer.
    PeerFailed {
        /// The peer's address.
        peer: SocketAddr,
        /// Why.
        error: TurnError,
    },
    /// There is no allocation (any more). The last event.
    Ended(TurnError),
}

/// Channel `index` in the order of use.
fn channel_number(index: u16) -> u16 {
    let index = index % CHANNELS;
    0x4000 + ((index / 128) << 8) + index % 128
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Allocate,
    /// Deletes what an earlier run left on this port, to allocate anew.
    Evict,
    Refresh,
    Bind(SocketAddr),
    Close,
}

#[derive(Debug)]
struct Transaction {
    id: TransactionId,
    purpose: Purpose,
    packet: Vec<u8>,
    sent: u32,
    timeout: Duration,
    next: Instant,
    challenges: u32,
}

#[derive(Debug)]
struct Peer {
    addr: SocketAddr,
    channel: u16,
    bound: bool,
    /// When to bind again; None while a request is under way.
    rebind: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Allocating {
        /// When to ask again after an eviction.
        again: Option<Instant>,
    },
    Live {
        refresh: Option<Instant>,
    },
    Closing,
    Ended,
}

/// One allocation's state machine.
#[derive(Debug)]
pub struct TurnClient {
    config: TurnConfig,
    rng: ChaCha20Rng,
    realm: String,
    nonce: String,
    key: Option<IntegrityKey>,
    phase: Phase,
    evictions: u32,
    transactions: Vec<Transaction>,
    peers: Vec<Peer>,
    next_channel: u16,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<TurnEvent>,
}

impl TurnClient {
    /// Starts to allocate. `seed` draws transaction ids.
    #[must_use]
    pub fn new(now: Instant, config: TurnConfig, seed: [u8; 32]) -> Self {
        let mut client = Self {
            realm: String::new(),
            nonce: config.credentials.nonce.clone(),
            key: None,
            rng: ChaCha20Rng::from_seed(seed),
            phase: Phase::Allocating { again: None },
            evictions: 0,
            transactions: Vec::new(),
            peers: Vec::new(),
            next_channel: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            config,
        };
        let realm = client.config.credentials.realm.clone();
        if !realm.is_empty() && !client.nonce.is_empty() {
            client.set_realm(realm);
        }
        client.request(now, Purpose::Allocate, 0);
        client
    }

    /// The server this client speaks to.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.config.server
    }

    /// Asks for a channel to `peer`, which installs the permission too, and keeps both alive.
    /// [`TurnEvent::Bound`] tells when it is there; before the allocation is, it waits.
    ///
    /// # Errors
    /// [`TurnError::TooManyPeers`] and [`TurnError::Closed`].
    pub fn bind_peer(&mut self, now: Instant, peer: SocketAddr) -> Result<(), TurnError> {
        if matches!(self.phase, Phase::Closing | Phase::Ended) {
            return Err(TurnError::Closed);
        }
        if let Some(known) = self.peers.iter().find(|known| known.addr == peer) {
            if known.bound {
                self.events.push_back(TurnEvent::Bound {
                    peer,
                    channel: known.channel,
                });
            }
            return Ok(());
        }
        if self.peers.len() >= MAX_PEERS {
            return Err(TurnError::TooManyPeers);
        }
        // Numbers are not reused for as long as possible: an old binding lives ten minutes.
        let channel = channel_number(self.next_channel);
        self.next_channel = (self.next_channel + 1) % CHANNELS;
        self.peers.push(Peer {
            addr: peer,
            channel,
            bound: false,
            rebind: None,
        });
        if matches!(self.phase, Phase::Live { .. }) {
            self.request(now, Purpose::Bind(peer), 0);
        }
        Ok(())
    }

    /// Stops keeping the channel to `peer` alive.
    pub fn release_peer(&mut self, peer: SocketAddr) {
        self.peers.retain(|known| known.addr != peer);
        self.transactions
            .retain(|transaction| transaction.purpose != Purpose::Bind(peer));
    }

    /// Refreshes at once, to learn whether the allocation is still there: when the server may have restarted, or
    /// this machine has slept. [`TurnEvent::Ended`] tells if not.
    pub fn probe(&mut self, now: Instant) {
        if let Phase::Live { refresh: Some(_) } = self.phase {
            self.phase = Phase::Live { refresh: None };
            self.request(now, Purpose::Refresh, 0);
        }
    }

    /// Gives the allocation up; [`TurnEvent::Ended`] tells when the server knows.
    pub fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Allocating { .. } | Phase::Live { .. } => {
                self.phase = Phase::Closing;
                self.transactions.clear();
                self.peers.clear();
                self.request(now, Purpose::Close, 0);
            }
            Phase::Closing | Phase::Ended => {}
        }
    }

    /// The next packet for the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TurnEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] has work next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = match self.phase {
            Phase::Allocating { again } => again,
            Phase::Live { refresh } => refresh,
            Phase::Closing | Phase::Ended => None,
        };
        let retransmissions = self.transactions.iter().map(|transaction| transaction.next);
        let rebinds = self.peers.iter().filter_map(|peer| peer.rebind);
        retransmissions.chain(rebinds).chain(next).min()
    }

    /// Retransmits, refreshes and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut dead = Vec::new();
        for transaction in &mut self.transactions {
            if transaction.next > now {
                continue;
            }
            if transaction.sent >= REQUESTS {
                dead.push(transaction.purpose);
                continue;
            }
            transaction.sent += 1;
            transaction.timeout *= 2;
            transaction.next = now
                + if transaction.sent >= REQUESTS {
                    self.config.rto * LAST_WAIT
                } else {
                    transaction.timeout
                };
            self.transmits.push_back(transaction.packet.clone());
        }
        self.transactions
            .retain(|transaction| !dead.contains(&transaction.purpose));
        for purpose in dead {
            self.fail(purpose, TurnError::Timeout);
        }
        if let Phase::Live { refresh: Some(at) } = self.phase
            && at <= now
        {
            self.phase = Phase::Live { refresh: None };
            self.request(now, Purpose::Refresh, 0);
        }
        if let Phase::Allocating { again: Some(at) } = self.phase
            && at <= now
        {
            self.phase = Phase::Allocating { again: None };
            self.request(now, Purpose::Allocate, 0);
        }
        let due: Vec<SocketAddr> = self
            .peers
            .iter_mut()
            .filter_map(|peer| peer.rebind.take_if(|at| *at <= now).map(|_| peer.addr))
            .collect();
        for peer in due {
            self.request(now, Purpose::Bind(peer), 0);
        }
    }

    /// A packet from `from`. Returns false when it has nothing to do with this client.
    pub fn handle_input(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) -> bool {
        if from != self.config.server {
            return false;
        }
        let Ok(mut stun) = Stun::parse(packet) else {
            return false;
        };
        let Some(at) = self
            .transactions
            .iter()
            .position(|t| t.id == stun.transaction())
        else {
            return false;
        };
        let signed = stun.attribute(ATTR_MESSAGE_INTEGRITY).is_some();
        let valid = self.key.is_some_and(|key| stun.verify(&key));
        match stun.class() {
            // RFC 8489 section 9.2.5: an answer that is not authenticated was never received.
            CLASS_SUCCESS_RESPONSE if valid => {
                let transaction = self.transactions.swap_remove(at);
                self.succeed(now, transaction.purpose, &stun);
            }
            CLASS_ERROR_RESPONSE if valid || !signed => {
                let Some(code) = stun.error_code() else {
                    return true;
                };
                let transaction = self.transactions.swap_remove(at);
                self.handle_error(now, &transaction, code, &stun);
            }
            _ => return false,
        }
        true
    }

    fn succeed(&mut self, now: Instant, purpose: Purpose, stun: &Stun) {
        let lifetime = stun
            .word(ATTR_LIFETIME)
            .map(|word| Duration::from_secs(u32::from_be_bytes(word).into()).min(MAX_LIFETIME));
        match purpose {
            Purpose::Allocate => {
                let relayed = stun.xor_address(ATTR_XOR_RELAYED_ADDRESS);
                let (Some(relayed), Some(mapped), Some(lifetime)) = (
                    relayed,
                    stun.mapped_address(),
                    lifetime.filter(|lifetime| !lifetime.is_zero()),
                ) else {
                    return self.end(TurnError::Protocol);
                };
                self.phase = Phase::Live {
                    refresh: Some(now + lifetime / 2),
                };
                self.events
                    .push_back(TurnEvent::Allocated { relayed, mapped });
                let waiting: Vec<SocketAddr> = self.peers.iter().map(|peer| peer.addr).collect();
                for peer in waiting {
                    self.request(now, Purpose::Bind(peer), 0);
                }
            }
            Purpose::Evict if self.evictions == 1 => self.request(now, Purpose::Allocate, 0),
            Purpose::Evict => {
                self.phase = Phase::Allocating {
                    again: Some(now + EVICTION_WAIT),
                };
            }
            Purpose::Refresh => match lifetime {
                Some(lifetime) if !lifetime.is_zero() => {
                    self.phase = Phase::Live {
                        refresh: Some(now + lifetime / 2),
                    };
                }
                Some(_) | None => self.end(TurnError::Protocol),
            },
            Purpose::Bind(addr) => {
                if let Some(peer) = self.peers.iter_mut().find(|peer| peer.addr == addr) {
                    peer.rebind = Some(now + REBIND_AFTER);
                    if !std::mem::replace(&mut peer.bound, true) {
                        self.events.push_back(TurnEvent::Bound {
                            peer: addr,
                            channel: peer.channel,
                        });
                    }
                }
            }
            Purpose::Close => self.end(TurnError::Closed),
        }
    }

    fn handle_error(&mut self, now: Instant, transaction: &Transaction, code: u16, stun: &Stun) {
        let Transaction {
            purpose,
            challenges,
            ..
        } = *transaction;
        let offered = stun.text(ATTR_NONCE).map(str::to_owned);
        match (code, offered) {
            (401 | 438, Some(nonce)) if challenges < MAX_CHALLENGES => {
                let realm = stun.text(ATTR_REALM).unwrap_or(&self.realm).to_owned();
                // The same user at the same realm is not going to be right the second time.
                if code == 401 && self.key.is_some() && realm == self.realm {
                    return self.fail(purpose, TurnError::Unauthorized);
                }
                self.nonce = nonce;
                self.set_realm(realm);
                self.request(now, purpose, challenges + 1);
            }
            (401 | 438, _) => self.fail(purpose, TurnError::Unauthorized),
            (437, _) if purpose == Purpose::Allocate && self.evictions < MAX_EVICTIONS => {
                self.evictions += 1;
                self.request(now, Purpose::Evict, 0);
            }
            // It went by itself just now.
            (437, _) if purpose == Purpose::Evict => {
                self.phase = Phase::Allocating {
                    again: Some(now + EVICTION_WAIT),
                };
            }
            (_, _) => self.fail(purpose, TurnError::Refused(code)),
        }
    }

    fn fail(&mut self, purpose: Purpose, error: TurnError) {
        match purpose {
            // A refused eviction: the old allocation has other credentials.
            Purpose::Allocate | Purpose::Evict | Purpose::Refresh => self.end(error),
            Purpose::Bind(peer) => {
                self.release_peer(peer);
                self.events.push_back(TurnEvent::PeerFailed { peer, error });
            }
            Purpose::Close => self.end(TurnError::Closed),
        }
    }

    fn end(&mut self, error: TurnError) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.transactions.clear();
            self.peers.clear();
            self.events.push_back(TurnEvent::Ended(error));
        }
    }

    fn set_realm(&mut self, realm: String) {
        let TurnCredentials {
            username, password, ..
        } = &self.config.credentials;
        self.key = Some(long_term_key(username, &realm, password));
        self.realm = realm;
    }

    fn request(&mut self, now: Instant, purpose: Purpose, challenges: u32) {
        let mut id = [0; 12];
        self.rng.fill_bytes(&mut id);
        let id = TransactionId(id);
        let packet = self.compose(id, purpose);
        self.transmits.push_back(packet.clone());
        let timeout = self.config.rto.max(MIN_RTO);
        self.transactions.push(Transaction {
            id,
            purpose,
            packet,
            sent: 1,
            timeout,
            next: now + timeout,
            challenges,
        });
    }

    fn compose(&self, id: TransactionId, purpose: Purpose) -> Vec<u8> {
        let start = |method: Method| Builder::new(method, CLASS_REQUEST, id);
        let lifetime = |lifetime: Duration| {
            u32::try_from(lifetime.as_secs())
                .unwrap_or(u32::MAX)
                .to_be_bytes()
        };
        let builder = match purpose {
            Purpose::Allocate => {
                let builder = start(METHOD_ALLOCATE)
                    .attribute(ATTR_REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                    .attribute(ATTR_LIFETIME, &lifetime(LIFETIME));
                if self.config.ipv6 {
                    builder.attribute(ATTR_REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])
                } else {
                    builder
                }
            }
            Purpose::Refresh => start(METHOD_REFRESH).attribute(ATTR_LIFETIME, &lifetime(LIFETIME)),
            Purpose::Evict | Purpose::Close => {
                start(METHOD_REFRESH).attribute(ATTR_LIFETIME, &lifetime(Duration::ZERO))
            }
            Purpose::Bind(addr) => {
                let channel = self
                    .peers
                    .iter()
                    .find(|peer| peer.addr == addr)
                    .map_or(0, |peer| peer.channel);
                let [high, low] = channel.to_be_bytes();
                start(METHOD_CHANNEL_BIND)
                    .attribute(ATTR_CHANNEL_NUMBER, &[high, low, 0, 0])
                    .xor_address(ATTR_XOR_PEER_ADDRESS, addr)
            }
        };
        match &self.key {
            Some(key) => builder
                .attribute(ATTR_USERNAME, self.config.credentials.username.as_bytes())
                .attribute(ATTR_REALM, self.realm.as_bytes())
                .attribute(ATTR_NONCE, self.nonce.as_bytes())
                .finish(Some(key), true),
            None => builder.finish(None, true),
        }
    }
}

#[cfg(test)]
mod tests;
