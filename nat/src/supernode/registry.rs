//! Who is registered here, and which deliveries are under way. Sans-IO.
//!
//! [`Registry::handle_request`] takes a connection's request and gives the response and, perhaps, a push for
//! another connection. Connections are numbers that the shell draws; [`Registry::handle_closed`] forgets one.

mod deliveries;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use ahoy_transport::identity::{DeviceId, NodeAddress, UserId};

use super::{
    admission::Revoked,
    mailbox::{MARK_LEN, MailCounters, MailLimits, Mailbox, WaitingLetter},
    protocol::{
        Consignment, MAX_DEVICES, Push, Refusal, Registration, Request, Response, devices_that_fit,
        is_signed,
    },
    puzzle::{Proof, Puzzle, PuzzleCounters, PuzzleLimits, Puzzles, Question, Verdict},
    records::MAX_HELD,
    relay::limits::TokenBucket,
};
use crate::discovery::{announcement::Announcement, record::Record, rendezvous::Network};
use deliveries::{Deliveries, Lane};

/// Requests that a registration counts as: it is checked by some dozens of signatures.
const REGISTRATION_COST: u64 = 4;
/// Devices remembered that their owners took out, at 64 bytes twice: 8 MB. The oldest go first.
const MAX_REVOKED: usize = 65_536;
/// Of one person, the last ones.
const MAX_REVOKED_OF_ONE: usize = 16;

/// Other relays that a connection may have asked for their keys at once, and seconds until it may name the next:
/// a call needs one or two, and most of them are known already.
const PROOF_BURST: u64 = 4;
const PROOF_COST: u64 = 10;

/// People of whom it is remembered that they were helped, at 8 bytes; more are not counted.
const MAX_HELPED: usize = 65_536;

/// Limits of a [`Registry`]. The defaults survive a flood on a small machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once, registered or not. Each costs some 30 KiB, two thirds of it in quinn.
    pub connections: usize,
    /// Of those, anonymous ones, so that strangers cannot keep devices out.
    pub anonymous_connections: usize,
    /// Of those, from one address (IPv6: from one /64). Behind the address may be a carrier's NAT.
    pub connections_per_source: usize,
    /// Devices registered at once.
    pub registrations: usize,
    /// Records of people held at once, a kilobyte each; none: whoever looks for one is told so.
    pub records: usize,
    /// Requests that a connection may make at once, before it has to wait.
    pub request_burst: u64,
    /// Requests per second that a connection earns.
    pub requests_per_second: u64,
    /// Bytes per second that one connection may have handed on, with eight seconds of burst. A call takes
    /// about 10 KiB.
    pub sent_bytes_per_second: u64,
    /// Bytes per second that one device may have handed to it by strangers, with eight seconds of burst: a flood of one
    /// device must not fill its line. As many again by contacts and in answers to what it sent itself, and as many it may
    /// fetch from its box.
    pub received_bytes_per_second: u64,
    /// The work that strangers do once half of their room is in use: of that towards one device, or of all together.
    pub puzzles: PuzzleLimits,
    /// What may wait for devices that are off.
    pub mail: MailLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 120_000,
            anonymous_connections: 40_000,
            connections_per_source: 4_096,
            registrations: 100_000,
            records: MAX_HELD,
            request_burst: 40,
            requests_per_second: 10,
            sent_bytes_per_second: 16 << 10,
            received_bytes_per_second: 128 << 10,
            puzzles: PuzzleLimits::default(),
            mail: MailLimits::default(),
        }
    }
}

/// Seconds of a byte rate that may be used at once.
const BURST_SECONDS: u64 = 8;

/// A connection that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer {
    /// What its handshake showed, if it showed anything.
    pub device: Option<(UserId, DeviceId)>,
    /// Where it comes from: an IPv4 address, or an IPv6 /64 with the rest zeroed.
    pub source: IpAddr,
}

/// No room for another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// All places are taken.
    #[error("as many connections as there may be")]
    Connections,
    /// All places for strangers are taken.
    #[error("as many anonymous connections as there may be")]
    Anonymous,
    /// Too many from there.
    #[error("as many connections from one source as there may be")]
    Source,
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
    /// Connections sent away because there was no room.
    pub sent_away: u64,
    /// People whose devices were registered, each once; at most 65 536.
    pub people: u64,
}

struct Client {
    newcomer: Newcomer,
    requests: TokenBucket,
    /// None before the first use: most devices wait for hours, and there are many.
    meters: Option<Box<Meters>>,
}

/// What a connection takes and is given. Full at first.
struct Meters {
    proofs: TokenBucket,
    sent_bytes: TokenBucket,
    /// By strangers.
    received_bytes: TokenBucket,
    /// By contacts, and what it asked for: strangers' floods take nothing of this.
    wanted_bytes: TokenBucket,
    /// Apart from what others hand to it: whoever fetches a full box can be called meanwhile.
    fetched_bytes: TokenBucket,
}

struct Entry {
    connection: ConnectionKey,
    /// Shared with the device's box.
    registration: Arc<Registration>,
}

/// The registered devices and the deliveries between them.
pub struct Registry {
    limits: Limits,
    clients: HashMap<ConnectionKey, Client>,
    devices: BTreeMap<(UserId, DeviceId), Entry>,
    /// Devices that their owners took out, oldest first, so that whoever stole one does not come back with an old log.
    revoked: VecDeque<(UserId, DeviceId)>,
    is_revoked: HashSet<(UserId, DeviceId)>,
    /// Where an envelope goes. A person may put any device id into the own log, so the device alone does not
    /// say whose registration is meant; the epoch does.
    by_epoch: BTreeMap<(DeviceId, u64), UserId>,
    sources: HashMap<IpAddr, usize>,
    anonymous: usize,
    deliveries: Deliveries,
    puzzles: Puzzles,
    mailbox: Mailbox,
    /// The first bytes of their keys, which are as good as random.
    helped: HashSet<[u8; 8]>,
    counters: RegistryCounters,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("connections", &self.clients.len())
            .field("devices", &self.devices.len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry. Delivery ids, and those of letters, start at `first_delivery`, a random number, so that an id from before
    /// a restart means nothing after it.
    #[must_use]
    pub fn new(limits: Limits, first_delivery: u64) -> Self {
        Self {
            mailbox: Mailbox::new(limits.mail.clone(), first_delivery),
            puzzles: Puzzles::new(limits.puzzles.clone()),
            limits,
            clients: HashMap::new(),
            devices: BTreeMap::new(),
            revoked: VecDeque::new(),
            is_revoked: HashSet::new(),
            by_epoch: BTreeMap::new(),
            sources: HashMap::new(),
            anonymous: 0,
            deliveries: Deliveries::new(first_delivery),
            helped: HashSet::new(),
            counters: RegistryCounters::default(),
        }
    }

    /// A connection is there.
    ///
    /// # Errors
    /// When there is no room for it; then nothing is remembered.
    pub fn handle_connected(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        newcomer: Newcomer,
    ) -> Result<(), NoRoom> {
        let limits = &self.limits;
        let from_source = self.sources.get(&newcomer.source).copied().unwrap_or(0);
        let full = if self.clients.len() >= limits.connections {
            Some(NoRoom::Connections)
        } else if newcomer.device.is_none() && self.anonymous >= limits.anonymous_connections {
            Some(NoRoom::Anonymous)
        } else if from_source >= limits.connections_per_source {
            Some(NoRoom::Source)
        } else {
            None
        };
        if let Some(full) = full {
            self.counters.sent_away += 1;
            return Err(full);
        }
        let client = Client {
            newcomer,
            requests: TokenBucket::full(now, limits.request_burst),
            meters: None,
        };
        self.clients.insert(key, client);
        self.sources.insert(newcomer.source, from_source + 1);
        self.anonymous += usize::from(newcomer.device.is_none());
        Ok(())
    }

    /// A connection is gone, and with it the registration that stands on it; the device's box stays.
    pub fn handle_closed(&mut self, now: Instant, key: ConnectionKey) {
        let Some(Client { newcomer, .. }) = self.clients.remove(&key) else {
            return;
        };
        if let Some(count) = self.sources.get_mut(&newcomer.source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&newcomer.source);
            }
        }
        let Some(device) = newcomer.device else {
            self.anonymous -= 1;
            return;
        };
        if self
            .devices
            .get(&device)
            .is_some_and(|entry| entry.connection == key)
            && let Some(entry) = self.devices.remove(&device)
        {
            self.by_epoch.remove(&(device.1, entry.registration.epoch));
            self.mailbox.seen(now, device, None);
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

    /// Anonymous connections open now.
    #[must_use]
    pub fn anonymous(&self) -> usize {
        self.anonymous
    }

    /// Counted since the start.
    #[must_use]
    pub fn counters(&self) -> RegistryCounters {
        self.counters
    }

    /// What the boxes have counted.
    #[must_use]
    pub fn mail(&self) -> MailCounters {
        self.mailbox.counters()
    }

    /// Has strangers work from now on when they take more than half of their room. `secret` is fresh, and nobody else's.
    pub fn start_puzzles(&mut self, now: Instant, secret: [u8; 32]) {
        self.puzzles.start(now, secret);
    }

    /// What has been counted of strangers' work.
    #[must_use]
    pub fn puzzles(&self) -> PuzzleCounters {
        self.puzzles.counters()
    }

    /// The boxes, for whoever keeps them.
    pub fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    /// Counts a request that was refused outside.
    pub fn note_refused(&mut self) {
        self.counters.refused += 1;
    }

    /// Whether a connection may make this request now, by its bytes; comes before anything is read or verified.
    ///
    /// # Errors
    /// [`Refusal::TooFast`], or [`Refusal::NotYours`] when there is no such connection.
    pub fn meter(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        request: &[u8],
    ) -> Result<(), Refusal> {
        let cost = if is_signed(request) {
            REGISTRATION_COST
        } else {
            1
        };
        let metered = match self.clients.get_mut(&key) {
            Some(client) => client.meter(now, &self.limits, cost),
            None => Err(Refusal::NotYours),
        };
        if metered.is_err() {
            self.counters.refused += 1;
        }
        metered
    }

    /// Whether a connection may have another relay asked for its key; comes on top of [`Self::meter`].
    ///
    /// # Errors
    /// [`Refusal::TooFast`], or [`Refusal::NotYours`] when there is no such connection.
    pub fn meter_proof(&mut self, now: Instant, key: ConnectionKey) -> Result<(), Refusal> {
        let client = self.clients.get_mut(&key).ok_or(Refusal::NotYours)?;
        if client.meters(now, &self.limits).proofs.take(
            now,
            PROOF_COST,
            1,
            PROOF_BURST * PROOF_COST,
        ) {
            Ok(())
        } else {
            Err(Refusal::TooFast)
        }
    }

    /// Answers a request that [passed the meter](Self::meter). `Err` means refused. What a registration says
    /// was verified before. Relay credentials are the caller's business: for [`Request::Register`] and
    /// [`Request::RelayGrant`] the answer is only whether they are due.
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
        match request {
            Request::Register(registration) => {
                let client = self.clients.get(&key).ok_or(Refusal::NotYours)?;
                let device = client.newcomer.device.ok_or(Refusal::NotYours)?;
                self.register(now, key, device, registration)?;
                Ok((Answer::Registered, None))
            }
            Request::Lookup { user } => {
                self.counters.lookups += 1;
                let first = (user, DeviceId([0; 32]));
                let last = (user, DeviceId([0xff; 32]));
                let devices = self.devices.range(first..=last);
                let devices = devices.map(|(_device, entry)| &*entry.registration);
                let devices = devices_that_fit(devices);
                Ok((Answer::Respond(Response::Devices(devices)), None))
            }
            Request::Consign(consignment) => self.take(now, key, consignment, None),
            Request::Proven { proof, consignment } => {
                self.take(now, key, consignment, Some(&proof))
            }
            Request::Reply { delivery, payload } => {
                let known = self.deliveries.get(now, delivery);
                let known = known.filter(|known| known.to == key);
                let from = known.ok_or(Refusal::UnknownDelivery)?.from;
                self.meter_sent(now, key, payload.len())?;
                self.meter_received(now, from, payload.len(), Lane::Contacts)?;
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
            Request::AllowRelay { relay } => Ok((Answer::AllowRelay(relay), None)),
            Request::KeepBox { key: mail_key } => {
                let (owner, entry) = self.owner(key)?;
                let registration = Arc::clone(&entry.registration);
                let source = self.clients.get(&key).ok_or(Refusal::NotYours)?;
                let source = source.newcomer.source;
                let kept = self
                    .mailbox
                    .keep(now, owner, source, registration, mail_key);
                let waiting = kept?;
                Ok((Answer::Respond(Response::BoxKept { waiting }), None))
            }
            Request::Boxes { user } => {
                let boxes = self.mailbox.boxes(now, user);
                let devices = devices_that_fit(boxes.iter());
                Ok((Answer::Respond(Response::Devices(devices)), None))
            }
            Request::Fetch => {
                let letters = self.fetch(now, key)?;
                Ok((Answer::Respond(Response::Letters(letters)), None))
            }
            Request::Acknowledge { ids } => {
                let (owner, _entry) = self.owner(key)?;
                self.mailbox.acknowledge(owner, &ids);
                Ok((Answer::Respond(Response::Acknowledged), None))
            }
            Request::Publish { record } => {
                let record =
                    Record::from_bytes(&record).map_err(|_no_record| Refusal::Malformed)?;
                let client = self.clients.get(&key).ok_or(Refusal::NotYours)?;
                Ok((Answer::Publish(record, client.newcomer.source), None))
            }
            Request::Find { user } => {
                self.counters.lookups += 1;
                Ok((Answer::Find(user), None))
            }
            Request::Witness => {
                let ((user, _device), entry) = self.owner(key)?;
                Ok((Answer::Witness(user, entry.registration.log.clone()), None))
            }
            Request::Witnessed { user } => Ok((Answer::Witnessed(user), None)),
            // Answered before it comes to this, where there is a private network.
            Request::News { .. } => Err(Refusal::Malformed),
            Request::Supernodes { after, most, own } => {
                let client = self.clients.get(&key).ok_or(Refusal::NotYours)?;
                let own = own.map(|own| Announcement::from_bytes(&own)).transpose();
                let asked = Asked {
                    source: client.newcomer.source,
                    after,
                    most,
                    own: own
                        .map_err(|_no_announcement| Refusal::Malformed)?
                        .map(Arc::new),
                };
                Ok((Answer::Supernodes(asked), None))
            }
        }
    }

    /// Takes an envelope for somebody.
    fn take(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        consignment: Consignment,
        proof: Option<&Proof>,
    ) -> Result<(Answer, Option<Routed>), Refusal> {
        match consignment {
            Consignment::Deliver {
                to,
                epoch,
                mark,
                envelope,
            } => self.deliver(now, key, (to, epoch), mark, envelope, proof),
            Consignment::Leave {
                user,
                to,
                mark,
                envelope,
            } => self.leave(now, key, (user, to), mark, envelope, proof),
        }
    }

    /// Hands an envelope to a device that is registered under this epoch.
    fn deliver(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        (to, epoch): (DeviceId, u64),
        mark: Option<[u8; MARK_LEN]>,
        envelope: Vec<u8>,
        proof: Option<&Proof>,
    ) -> Result<(Answer, Option<Routed>), Refusal> {
        let Some(user) = self.by_epoch.get(&(to, epoch)) else {
            let others = (to, 0)..=(to, u64::MAX);
            return Err(match self.by_epoch.range(others).next() {
                Some(_another_epoch) => Refusal::WrongEpoch,
                None => Refusal::UnknownDevice,
            });
        };
        let owner = (*user, to);
        let to = self
            .devices
            .get(&owner)
            .ok_or(Refusal::UnknownDevice)?
            .connection;
        let marked = |mark| self.mailbox.is_contacts(owner, mark, &envelope);
        let lane = if mark.as_ref().is_some_and(marked) {
            Lane::Contacts
        } else {
            Lane::Strangers
        };
        match lane {
            Lane::Contacts => self.meter_sent(now, key, envelope.len())?,
            Lane::Strangers => {
                let target = self.clients.get_mut(&to).ok_or(Refusal::UnknownDevice)?;
                let load = target.strangers_load(now, &self.limits, envelope.len(), proof)?;
                let load = load.max(self.deliveries.strangers_load(now));
                if let Some(puzzle) = self.work(now, key, owner, load, &envelope, proof)? {
                    return Ok((Answer::Respond(Response::Puzzle(puzzle)), None));
                }
            }
        }
        self.meter_received(now, to, envelope.len(), lane)?;
        let delivery = self.deliveries.remember(now, key, to, lane);
        self.counters.delivered += 1;
        Ok((
            Answer::Respond(Response::Delivered { delivery }),
            Some(Routed {
                to,
                push: Push::Incoming { delivery, envelope },
            }),
        ))
    }

    /// What a stranger has to do before this envelope is handed on. It takes of the sender's share with the question, done or not,
    /// and then no more with the answer.
    fn work(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        to: (UserId, DeviceId),
        load: u32,
        envelope: &[u8],
        proof: Option<&Proof>,
    ) -> Result<Option<Puzzle>, Refusal> {
        let client = self.clients.get_mut(&key).ok_or(Refusal::NotYours)?;
        let question = Question {
            connection: key.0,
            asker: client.newcomer.device.map(|(_user, device)| device),
            to,
        };
        let puzzle = match self.puzzles.judge(now, question, load, envelope, proof) {
            Verdict::Pass { paid: true } => return Ok(None),
            Verdict::Pass { paid: false } => None,
            Verdict::Work(puzzle) => Some(puzzle),
            Verdict::Full => return Err(Refusal::Full),
        };
        client.meter_sent(now, &self.limits, envelope.len())?;
        if puzzle.is_some() {
            self.puzzles.note_asked();
        }
        Ok(puzzle)
    }

    /// Leaves an envelope in a device's box.
    fn leave(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        owner: (UserId, DeviceId),
        mark: Option<[u8; MARK_LEN]>,
        envelope: Vec<u8>,
        proof: Option<&Proof>,
    ) -> Result<(Answer, Option<Routed>), Refusal> {
        let client = self.clients.get(&key).ok_or(Refusal::NotYours)?;
        let from = client.newcomer.source;
        let marked = |mark| self.mailbox.is_contacts(owner, mark, &envelope);
        if mark.as_ref().is_some_and(marked) {
            self.meter_sent(now, key, envelope.len())?;
        } else {
            let load = self.mailbox.strangers_load(now, from, owner, &envelope)?;
            if let Some(puzzle) = self.work(now, key, owner, load, &envelope, proof)? {
                return Ok((Answer::Respond(Response::Puzzle(puzzle)), None));
            }
        }
        let left = self
            .mailbox
            .leave(now, from, owner, mark.as_ref(), envelope)?;
        // A device that is off fetches it when it comes.
        let told = self.devices.get(&owner).filter(|_there| left.fresh);
        let routed = told.map(|entry| Routed {
            to: entry.connection,
            push: Push::Mail,
        });
        let contact = left.contact;
        Ok((Answer::Respond(Response::Left { contact }), routed))
    }

    /// What waits for the device that is registered on this connection.
    fn fetch(&mut self, now: Instant, key: ConnectionKey) -> Result<Vec<WaitingLetter>, Refusal> {
        let (owner, _entry) = self.owner(key)?;
        let letters = self.mailbox.fetch(now, owner);
        let bytes = letters
            .iter()
            .map(|letter| letter.envelope.len() as u64)
            .sum();
        let client = self.clients.get_mut(&key).ok_or(Refusal::NotYours)?;
        let rate = self.limits.received_bytes_per_second;
        let burst = rate * BURST_SECONDS;
        let meters = client.meters(now, &self.limits);
        if meters.fetched_bytes.take(now, bytes, rate, burst) {
            Ok(letters)
        } else {
            Err(Refusal::TooFast)
        }
    }

    /// The device that is registered on this connection. What the handshake alone showed is a claim.
    fn owner(&self, key: ConnectionKey) -> Result<((UserId, DeviceId), &Entry), Refusal> {
        let newcomer = self.clients.get(&key).ok_or(Refusal::NotYours)?.newcomer;
        let device = newcomer.device.ok_or(Refusal::NotYours)?;
        let entry = self.devices.get(&device).ok_or(Refusal::NotYours)?;
        if entry.connection != key {
            return Err(Refusal::NotYours);
        }
        Ok((device, entry))
    }

    fn meter_sent(
        &mut self,
        now: Instant,
        from: ConnectionKey,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let client = self.clients.get_mut(&from).ok_or(Refusal::NotYours)?;
        client.meter_sent(now, &self.limits, bytes)
    }

    fn meter_received(
        &mut self,
        now: Instant,
        to: ConnectionKey,
        bytes: usize,
        lane: Lane,
    ) -> Result<(), Refusal> {
        let target = self.clients.get_mut(&to).ok_or(Refusal::UnknownDelivery)?;
        if target.meter_received(now, &self.limits, bytes, lane) {
            Ok(())
        } else {
            Err(Refusal::Full)
        }
    }

    /// A registered log took these devices out: they are not found, and not taken, any more, and have no box.
    pub fn note_revoked(&mut self, revoked: &Revoked) {
        let newest = revoked.devices.iter().rev().take(MAX_REVOKED_OF_ONE);
        for device in newest {
            let device = (revoked.user, *device);
            if !self.is_revoked.insert(device) {
                continue;
            }
            self.revoked.push_back(device);
            if self.revoked.len() > MAX_REVOKED
                && let Some(oldest) = self.revoked.pop_front()
            {
                self.is_revoked.remove(&oldest);
            }
            if let Some(entry) = self.devices.remove(&device) {
                self.by_epoch.remove(&(device.1, entry.registration.epoch));
            }
            self.mailbox.remove(device);
        }
    }

    fn register(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        device: (UserId, DeviceId),
        registration: Registration,
    ) -> Result<(), Refusal> {
        if self.is_revoked.contains(&device) {
            return Err(Refusal::NotYours);
        }
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
        let epoch = registration.epoch;
        match self.by_epoch.get(&(device.1, epoch)) {
            // Epochs are random: somebody copied the device id and the epoch of another's registration.
            Some(user) if *user != device.0 => return Err(Refusal::NotYours),
            Some(_) | None => {}
        }
        let registration = Arc::new(registration);
        self.mailbox.seen(now, device, Some(&registration));
        let entry = Entry {
            connection: key,
            registration,
        };
        if let Some(old) = self.devices.insert(device, entry) {
            self.by_epoch.remove(&(device.1, old.registration.epoch));
        }
        self.by_epoch.insert((device.1, epoch), device.0);
        self.counters.registered += 1;
        if self.helped.len() < MAX_HELPED
            && let Some(start) = device.0.as_bytes().first_chunk()
            && self.helped.insert(*start)
        {
            self.counters.people += 1;
        }
        Ok(())
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
    /// [`Response::RelayAllowed`], if this supernode relays and that one proves its key.
    AllowRelay(NodeAddress),
    /// [`Response::Record`], after this record was taken in, which came from there.
    Publish(Record, IpAddr),
    /// [`Response::Record`] of this person.
    Find(UserId),
    /// [`Response::Supernodes`].
    Supernodes(Asked),
    /// [`Response::Testimony`] about this person's list, which a device of that person registered with.
    Witness(UserId, Vec<u8>),
    /// [`Response::Testimony`] about this person, for anybody.
    Witnessed(UserId),
}

/// A request for supernodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where it came from.
    pub source: IpAddr,
    /// Of networks after this one.
    pub after: Option<Network>,
    /// So many at most.
    pub most: u8,
    /// What the one who asks says of itself, not judged.
    pub own: Option<Arc<Announcement>>,
}

impl Client {
    fn meters(&mut self, now: Instant, limits: &Limits) -> &mut Meters {
        self.meters.get_or_insert_with(|| {
            let received = limits.received_bytes_per_second * BURST_SECONDS;
            Box::new(Meters {
                proofs: TokenBucket::full(now, PROOF_BURST * PROOF_COST),
                sent_bytes: TokenBucket::full(now, limits.sent_bytes_per_second * BURST_SECONDS),
                received_bytes: TokenBucket::full(now, received),
                wanted_bytes: TokenBucket::full(now, received),
                fetched_bytes: TokenBucket::full(now, received),
            })
        })
    }

    fn meter(&mut self, now: Instant, limits: &Limits, cost: u64) -> Result<(), Refusal> {
        let (rate, burst) = (limits.requests_per_second, limits.request_burst);
        if self.requests.take(now, cost, rate, burst) {
            Ok(())
        } else {
            Err(Refusal::TooFast)
        }
    }

    /// Bytes that it has handed on.
    fn meter_sent(&mut self, now: Instant, limits: &Limits, bytes: usize) -> Result<(), Refusal> {
        let rate = limits.sent_bytes_per_second;
        let burst = rate * BURST_SECONDS;
        let meters = self.meters(now, limits);
        if meters.sent_bytes.take(now, bytes as u64, rate, burst) {
            Ok(())
        } else {
            Err(Refusal::TooFast)
        }
    }

    /// How much of what strangers may hand to it is in use, in thousandths; or that no work makes room for that many bytes, or
    /// that the work which was done has to wait for it.
    fn strangers_load(
        &mut self,
        now: Instant,
        limits: &Limits,
        bytes: usize,
        proof: Option<&Proof>,
    ) -> Result<u32, Refusal> {
        let rate = limits.received_bytes_per_second;
        let burst = rate * BURST_SECONDS;
        let bytes = bytes as u64;
        let received = &mut self.meters(now, limits).received_bytes;
        if bytes > burst || (proof.is_some() && !received.holds(now, bytes, rate, burst)) {
            return Err(Refusal::Full);
        }
        Ok(received.used(now, rate, burst))
    }

    /// Whether that many bytes may be handed to it.
    fn meter_received(&mut self, now: Instant, limits: &Limits, bytes: usize, lane: Lane) -> bool {
        let rate = limits.received_bytes_per_second;
        let burst = rate * BURST_SECONDS;
        let meters = self.meters(now, limits);
        let bucket = match lane {
            Lane::Strangers => &mut meters.received_bytes,
            Lane::Contacts => &mut meters.wanted_bytes,
        };
        bucket.take(now, bytes as u64, rate, burst)
    }
}

#[cfg(test)]
mod tests;
