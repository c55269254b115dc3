//! Who is registered here, and which deliveries are under way. Sans-IO.
//!
//! [`Registry::handle_request`] takes a connection's request and gives the response and, perhaps, a push for
//! another connection. Connections are numbers that the shell draws; [`Registry::handle_closed`] forgets one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use ahoy_transport::identity::{DeviceId, UserId};

use super::protocol::{MAX_DEVICES, Push, Refusal, Registration, Request, Response};

/// How long a delivery can be answered: longer than any ringing.
const DELIVERY_LIFETIME: Duration = Duration::from_secs(180);
/// Deliveries remembered at once, over all connections; the oldest go first. At 100 bytes each: 6 MB.
const MAX_DELIVERIES: usize = 65_536;

/// Limits of a [`Registry`]. The defaults survive a flood on a small machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Devices registered at once.
    pub registrations: usize,
    /// Requests that a connection may make at once, before it has to wait.
    pub request_burst: u32,
    /// How often a connection earns one more request.
    pub request_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            registrations: 100_000,
            request_burst: 40,
            request_interval: Duration::from_millis(100),
        }
    }
}

/// Names a connection to this supernode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u64);

/// A push and the connection that it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Where it goes.
    pub to: ConnectionKey,
    /// What is sent.
    pub push: Push,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistryCounters {
    /// Registrations taken, renewals included.
    pub registered: u64,
    /// Look-ups answered.
    pub lookups: u64,
    /// Envelopes handed on.
    pub delivered: u64,
    /// Replies handed on.
    pub replied: u64,
    /// Requests refused, for whatever reason.
    pub refused: u64,
}

struct Client {
    device: Option<(UserId, DeviceId)>,
    tokens: u32,
    refilled: Instant,
}

struct Entry {
    connection: ConnectionKey,
    registration: Registration,
}

struct Delivery {
    id: u64,
    from: ConnectionKey,
    to: ConnectionKey,
    made: Instant,
}

/// The registered devices and the deliveries between them.
pub struct Registry {
    limits: Limits,
    clients: HashMap<ConnectionKey, Client>,
    devices: BTreeMap<(UserId, DeviceId), Entry>,
    users_of: HashMap<DeviceId, UserId>,
    deliveries: VecDeque<Delivery>,
    next_delivery: u64,
    counters: RegistryCounters,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("connections", &self.clients.len())
            .field("devices", &self.devices.len())
            .field("deliveries", &self.deliveries.len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry. Delivery ids start at `first_delivery`, a random number, so that an id from before
    /// a restart means nothing after it.
    #[must_use]
    pub fn new(limits: Limits, first_delivery: u64) -> Self {
        Self {
            limits,
            clients: HashMap::new(),
            devices: BTreeMap::new(),
            users_of: HashMap::new(),
            deliveries: VecDeque::new(),
            next_delivery: first_delivery,
            counters: RegistryCounters::default(),
        }
    }

    /// A connection is there. `device` is what its handshake proved, if it showed anything.
    pub fn handle_connected(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        device: Option<(UserId, DeviceId)>,
    ) {
        self.clients.insert(
            key,
            Client {
                device,
                tokens: self.limits.request_burst,
                refilled: now,
            },
        );
    }

    /// A connection is gone, and with it the registration that stands on it.
    pub fn handle_closed(&mut self, key: ConnectionKey) {
        let Some(client) = self.clients.remove(&key) else {
            return;
        };
        if let Some(device) = client.device
            && self
                .devices
                .get(&device)
                .is_some_and(|entry| entry.connection == key)
        {
            self.devices.remove(&device);
            self.users_of.remove(&device.1);
        }
    }

    /// Devices registered now.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.devices.len()
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Counted since the start.
    #[must_use]
    pub fn counters(&self) -> RegistryCounters {
        self.counters
    }

    /// Answers a request. `Err` means refused. Relay credentials are the caller's business: for
    /// [`Request::Register`] and [`Request::RelayGrant`] the answer is only whether they are due.
    ///
    /// # Errors
    /// The [`Refusal`] to send back.
    pub fn handle_request(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        request: Request,
    ) -> Result<(Answer, Option<Routed>), Refusal> {
        let result = self.answer(now, key, request);
        if result.is_err() {
            self.counters.refused += 1;
        }
        result
    }

    fn answer(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        request: Request,
    ) -> Result<(Answer, Option<Routed>), Refusal> {
        let limits = &self.limits;
        let client = self.clients.get_mut(&key).ok_or(Refusal::NotYours)?;
        client.take_token(now, limits)?;
        match request {
            Request::Register(registration) => {
                let device = client.device.ok_or(Refusal::NotYours)?;
                self.register(key, device, registration)?;
                Ok((Answer::Registered, None))
            }
            Request::Lookup { user } => {
                self.counters.lookups += 1;
                let first = (user, DeviceId([0; 32]));
                let last = (user, DeviceId([0xff; 32]));
                let devices = self
                    .devices
                    .range(first..=last)
                    .take(MAX_DEVICES)
                    .map(|(_device, entry)| entry.registration.clone())
                    .collect();
                Ok((Answer::Respond(Response::Devices(devices)), None))
            }
            Request::Deliver {
                to,
                epoch,
                envelope,
            } => {
                let entry = self
                    .users_of
                    .get(&to)
                    .and_then(|user| self.devices.get(&(*user, to)))
                    .ok_or(Refusal::UnknownDevice)?;
                if entry.registration.epoch != epoch {
                    return Err(Refusal::WrongEpoch);
                }
                let to = entry.connection;
                let delivery = self.remember(now, key, to);
                self.counters.delivered += 1;
                Ok((
                    Answer::Respond(Response::Delivered { delivery }),
                    Some(Routed {
                        to,
                        push: Push::Incoming { delivery, envelope },
                    }),
                ))
            }
            Request::Reply { delivery, payload } => {
                let from = self
                    .delivery(delivery)
                    .filter(|known| {
                        known.to == key
                            && now.saturating_duration_since(known.made) < DELIVERY_LIFETIME
                    })
                    .ok_or(Refusal::UnknownDelivery)?
                    .from;
                self.counters.replied += 1;
                Ok((
                    Answer::Respond(Response::Replied),
                    Some(Routed {
                        to: from,
                        push: Push::ReplyTo { delivery, payload },
                    }),
                ))
            }
            Request::RelayGrant => Ok((Answer::RelayGrant, None)),
        }
    }

    fn register(
        &mut self,
        key: ConnectionKey,
        device: (UserId, DeviceId),
        registration: Registration,
    ) -> Result<(), Refusal> {
        let known = self.devices.contains_key(&device);
        if !known && self.devices.len() >= self.limits.registrations {
            return Err(Refusal::Full);
        }
        let of_this_person = self
            .devices
            .range((device.0, DeviceId([0; 32]))..=(device.0, DeviceId([0xff; 32])))
            .count();
        if !known && of_this_person >= MAX_DEVICES {
            return Err(Refusal::Full);
        }
        self.users_of.insert(device.1, device.0);
        self.devices.insert(
            device,
            Entry {
                connection: key,
                registration,
            },
        );
        self.counters.registered += 1;
        Ok(())
    }

    /// Ids are consecutive, so the queue's front tells where each one stands.
    fn delivery(&self, id: u64) -> Option<&Delivery> {
        let age = id.wrapping_sub(self.deliveries.front()?.id);
        self.deliveries.get(usize::try_from(age).ok()?)
    }

    fn remember(&mut self, now: Instant, from: ConnectionKey, to: ConnectionKey) -> u64 {
        while self.deliveries.len() >= MAX_DELIVERIES
            || self.deliveries.front().is_some_and(|oldest| {
                now.saturating_duration_since(oldest.made) >= DELIVERY_LIFETIME
            })
        {
            self.deliveries.pop_front();
        }
        let id = self.next_delivery;
        self.next_delivery = self.next_delivery.wrapping_add(1);
        self.deliveries.push_back(Delivery {
            id,
            from,
            to,
            made: now,
        });
        id
    }
}

/// What the shell has to send back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This response.
    Respond(Response),
    /// [`Response::Registered`], with the connection's address, the time and a relay grant.
    Registered,
    /// [`Response::Relay`], if this supernode relays.
    RelayGrant,
}

impl Client {
    fn take_token(&mut self, now: Instant, limits: &Limits) -> Result<(), Refusal> {
        let interval = limits.request_interval.max(Duration::from_millis(1));
        let earned = now.saturating_duration_since(self.refilled).as_nanos() / interval.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(limits.request_burst);
            self.refilled = now;
        }
        self.tokens = self.tokens.checked_sub(1).ok_or(Refusal::TooFast)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: (UserId, DeviceId) = (UserId([1; 32]), DeviceId([2; 32]));
    const BOB: (UserId, DeviceId) = (UserId([3; 32]), DeviceId([4; 32]));

    fn now() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        Instant::now()
    }

    fn registration(epoch: u64) -> Registration {
        Registration {
            epoch,
            certificate: vec![1],
            log: vec![2],
            seal_key: vec![3],
        }
    }

    fn with_bob(now: Instant) -> Registry {
        let mut registry = Registry::new(Limits::default(), 7);
        registry.handle_connected(now, ConnectionKey(1), None);
        registry.handle_connected(now, ConnectionKey(2), Some(BOB));
        assert_eq!(
            registry.handle_request(now, ConnectionKey(2), Request::Register(registration(5))),
            Ok((Answer::Registered, None))
        );
        registry
    }

    fn deliver(epoch: u64) -> Request {
        Request::Deliver {
            to: BOB.1,
            epoch,
            envelope: vec![9],
        }
    }

    #[test]
    fn an_envelope_reaches_the_device_and_its_reply_comes_back() {
        let now = now();
        let mut registry = with_bob(now);
        let (answer, routed) = registry
            .handle_request(now, ConnectionKey(1), deliver(5))
            .unwrap();
        assert_eq!(answer, Answer::Respond(Response::Delivered { delivery: 7 }));
        assert_eq!(routed.map(|routed| routed.to), Some(ConnectionKey(2)));
        let reply = Request::Reply {
            delivery: 7,
            payload: vec![8],
        };
        let (_, routed) = registry
            .handle_request(now, ConnectionKey(2), reply.clone())
            .unwrap();
        assert_eq!(
            routed,
            Some(Routed {
                to: ConnectionKey(1),
                push: Push::ReplyTo {
                    delivery: 7,
                    payload: vec![8]
                }
            })
        );
        // Only the device that got it may answer, and only for a while.
        assert_eq!(
            registry.handle_request(now, ConnectionKey(1), reply.clone()),
            Err(Refusal::UnknownDelivery)
        );
        assert_eq!(
            registry.handle_request(now + DELIVERY_LIFETIME, ConnectionKey(2), reply),
            Err(Refusal::UnknownDelivery)
        );
    }

    #[test]
    fn registering_takes_a_proved_key() {
        let now = now();
        let mut registry = with_bob(now);
        assert_eq!(
            registry.handle_request(now, ConnectionKey(1), Request::Register(registration(1))),
            Err(Refusal::NotYours)
        );
        assert_eq!(registry.registered(), 1);
        assert_eq!(registry.counters().refused, 1);
    }

    #[test]
    fn an_old_epoch_and_a_stranger_device_are_refused() {
        let now = now();
        let mut registry = with_bob(now);
        assert_eq!(
            registry.handle_request(now, ConnectionKey(1), deliver(4)),
            Err(Refusal::WrongEpoch)
        );
        registry.handle_closed(ConnectionKey(2));
        assert_eq!(
            registry.handle_request(now, ConnectionKey(1), deliver(5)),
            Err(Refusal::UnknownDevice)
        );
    }

    #[test]
    fn a_device_that_comes_back_keeps_its_place_when_its_old_connection_ends() {
        let now = now();
        let mut registry = with_bob(now);
        registry.handle_connected(now, ConnectionKey(3), Some(BOB));
        registry
            .handle_request(now, ConnectionKey(3), Request::Register(registration(6)))
            .unwrap();
        registry.handle_closed(ConnectionKey(2));
        let (_, routed) = registry
            .handle_request(now, ConnectionKey(1), deliver(6))
            .unwrap();
        assert_eq!(routed.map(|routed| routed.to), Some(ConnectionKey(3)));
    }

    #[test]
    fn a_look_up_finds_the_devices_of_one_person_only() {
        let now = now();
        let mut registry = with_bob(now);
        registry.handle_connected(now, ConnectionKey(3), Some(ALICE));
        registry
            .handle_request(now, ConnectionKey(3), Request::Register(registration(8)))
            .unwrap();
        let (answer, _) = registry
            .handle_request(now, ConnectionKey(1), Request::Lookup { user: BOB.0 })
            .unwrap();
        assert_eq!(
            answer,
            Answer::Respond(Response::Devices(vec![registration(5)]))
        );
    }

    #[test]
    fn a_connection_that_asks_too_fast_waits_and_others_do_not() {
        let start = now();
        let mut registry = with_bob(start);
        let limits = Limits::default();
        for _ in 0..limits.request_burst {
            registry
                .handle_request(start, ConnectionKey(1), Request::RelayGrant)
                .unwrap();
        }
        assert_eq!(
            registry.handle_request(start, ConnectionKey(1), Request::RelayGrant),
            Err(Refusal::TooFast)
        );
        assert!(
            registry
                .handle_request(start, ConnectionKey(2), Request::RelayGrant)
                .is_ok()
        );
        let later = start + limits.request_interval;
        assert!(
            registry
                .handle_request(later, ConnectionKey(1), Request::RelayGrant)
                .is_ok()
        );
    }

    #[test]
    fn tables_stay_within_their_bounds() {
        let now = now();
        let limits = Limits {
            registrations: 2,
            ..Limits::default()
        };
        let mut registry = Registry::new(limits, 0);
        for n in 0..4u8 {
            let key = ConnectionKey(n.into());
            registry.handle_connected(now, key, Some((UserId([n; 32]), DeviceId([n; 32]))));
            let result = registry.handle_request(now, key, Request::Register(registration(1)));
            assert_eq!(result.is_ok(), n < 2);
        }
        for n in 0..MAX_DELIVERIES as u64 + 10 {
            registry.remember(now, ConnectionKey(n), ConnectionKey(0));
        }
        assert_eq!(registry.deliveries.len(), MAX_DELIVERIES);
    }
}
