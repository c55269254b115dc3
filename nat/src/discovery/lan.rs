//! Finding a person's devices in the own network by multicast DNS (RFC 6762), with no supernode and no internet.
//!
//! Nobody announces anything. Whoever looks for a person asks a question that only devices of that person
//! recognise, and they answer in a way that only the one who asked can read:
//!
//! ```text
//! question  TXT  <hex of nonce (12 bytes) and tag (16 bytes)>._ahoy._udp.local
//! answer    TXT  nonce' (12) | AEAD( version (1) | port, u16 | node id (32) ), 63 bytes
//!
//! key = HMAC-SHA256("ahoy lan discovery 1", user id)
//! tag = HMAC-SHA256(key, 0 | hour, u64 | nonce)[..16]        hour: of the asker's clock, since 1970
//! AEAD: ChaCha20-Poly1305 under HMAC-SHA256(key, 1 | hour, u64 | nonce) with nonce', over nonce and tag too
//! ```
//! It is a one-shot query from a port of its own, and the answer goes there directly (sections 5.1, 6.7). The IP
//! address is where the answer comes from: it is of this network, or it is not believed.
//!
//! **What others in the network learn.** A listener sees that somebody at an address uses ahoy and looks for
//! somebody, and which address answers. Not who is meant: without the person's key the question is noise, and two
//! questions for the same person have nothing in common. Devices that nobody asks for are silent. A question that
//! is sent again from another address, or hours later, is not answered, so it does not show whether a device is
//! still there. Whoever knows the person's key (a contact, everybody who was given the link) can ask for it, and
//! so learns whether that person is in this network. An answer can be forged by them too; it only says where to
//! knock, and there the device proves itself by its certificate.
//!
//! IPv4 alone, so far. Bounded: one table of [`REMEMBERED`] questions, [`ANSWERS_PER_SECOND`] answers.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_transport::{
    identity::{NodeId, UserId},
    runtime::{Runtime, RuntimeExt, Task, timeout},
    wire::{Reader, WireError, Writer},
};
use quinn::AsyncUdpSocket;
use ring::{aead, hmac};
use simple_dns::{
    CLASS, CharacterString, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord,
    TYPE,
    rdata::{RData, TXT},
};
use tokio::sync::{Notify, mpsc};

use crate::port::{poll_train, send_datagram, writable};

/// Where multicast DNS is spoken (RFC 6762 section 3).
pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353);

/// Questions whose askers are remembered, so that nobody else gets an answer to them.
pub const REMEMBERED: usize = 256;
/// Answers that a device gives in a second: a household that calls at once, not more.
pub const ANSWERS_PER_SECOND: u32 = 20;
/// Questions that are looked at in a second; each costs three hashes. Networks with many devices chat by multicast
/// DNS all day, and the name shows which question could be ours.
const QUESTIONS_PER_SECOND: u32 = 500;
/// Devices of one person that are found at once.
pub const MAX_FOUND: usize = 8;

const SERVICE: &str = "_ahoy._udp.local";
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Of nonce and tag, in hex: within the 63 bytes of a label.
const LABEL_BYTES: usize = 2 * (NONCE_BYTES + TAG_BYTES);
const VERSION: u8 = 1;
/// As legacy answers have it (RFC 6762 section 6.7): nobody shall keep them.
const TTL_SECS: u32 = 10;
const HOUR_MILLIS: u64 = 3_600_000;
/// Multicast gets lost, in wireless networks often: when the question is asked.
const ASK_AT: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_millis(3000),
];
/// How long further devices may take after the first.
const OTHERS: Duration = Duration::from_millis(100);
/// Longest packet (RFC 6762 section 17, without jumbo frames).
const MAX_PACKET: usize = 1500;
/// How long the responder waits when it cannot have its socket, for example without any network.
const REBIND: Duration = Duration::from_secs(30);

/// What makes a question, or answers one, for one person.
struct Key(hmac::Key);

impl Key {
    fn of(user: UserId) -> Self {
        let outer = hmac::Key::new(hmac::HMAC_SHA256, b"ahoy lan discovery 1");
        let key = hmac::sign(&outer, user.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    fn derive(&self, purpose: u8, hour: u64, nonce: &[u8; NONCE_BYTES]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[purpose]);
        context.update(&hour.to_be_bytes());
        context.update(nonce);
        context.sign()
    }

    fn tag(&self, hour: u64, nonce: &[u8; NONCE_BYTES]) -> [u8; TAG_BYTES] {
        let full = self.derive(0, hour, nonce);
        let mut tag = [0; TAG_BYTES];
        tag.iter_mut()
            .zip(full.as_ref())
            .for_each(|(to, from)| *to = *from);
        tag
    }

    fn aead(&self, hour: u64, nonce: &[u8; NONCE_BYTES]) -> Option<aead::LessSafeKey> {
        let secret = self.derive(1, hour, nonce);
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, secret.as_ref()).ok()?;
        Some(aead::LessSafeKey::new(key))
    }
}

/// A question for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ask {
    nonce: [u8; NONCE_BYTES],
    tag: [u8; TAG_BYTES],
}

impl Ask {
    fn label(&self) -> String {
        use std::fmt::Write as _;
        self.nonce.iter().chain(&self.tag).fold(
            String::with_capacity(LABEL_BYTES),
            |mut text, byte| {
                // A String takes everything.
                write!(text, "{byte:02x}").unwrap_or_default();
                text
            },
        )
    }

    fn from_label(label: &[u8]) -> Option<Self> {
        if label.len() != LABEL_BYTES {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut bytes = [0; NONCE_BYTES + TAG_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(label.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
        }
        let (nonce, tag) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        Some(Self {
            nonce: *nonce,
            tag: tag.try_into().ok()?,
        })
    }

    fn name(&self) -> String {
        format!("{}.{SERVICE}", self.label())
    }

    fn aad(&self) -> aead::Aad<Vec<u8>> {
        aead::Aad::from([&self.nonce[..], &self.tag[..]].concat())
    }

    fn query(&self) -> Option<Vec<u8>> {
        let name = self.name();
        let mut packet = Packet::new_query(0);
        packet.questions.push(question(&name)?);
        packet.build_bytes_vec().ok()
    }
}

fn question(name: &str) -> Option<Question<'_>> {
    let (kind, class) = (QTYPE::TYPE(TYPE::TXT), QCLASS::CLASS(CLASS::IN));
    Some(Question::new(Name::new(name).ok()?, kind, class, true))
}

/// Whether a name is a question of ours, as far as one can see without a key.
fn ask_in(name: &Name<'_>) -> Option<Ask> {
    let mut labels = name.as_bytes();
    let ask = Ask::from_label(labels.next()?)?;
    let service = labels.map(<[u8]>::to_ascii_lowercase);
    service
        .eq(SERVICE.split('.').map(|label| label.as_bytes().to_vec()))
        .then_some(ask)
}

/// Where a device is to be found in this network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its rendezvous for this network.
    pub addr: SocketAddr,
    /// The key that the rendezvous proves.
    pub node: NodeId,
}

/// What a device says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// UDP port of its rendezvous.
    pub port: u16,
    /// The key that the rendezvous proves; drawn anew for each run, so that it links nothing.
    pub node: NodeId,
}

impl Place {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u16(self.port);
        out.put_bytes(self.node.as_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let place = Self {
            port: reader.u16()?,
            node: NodeId(reader.array()?),
        };
        reader.finish()?;
        Ok(place)
    }
}

/// One person's search, without clock and socket.
pub struct Search {
    key: Key,
    hour: u64,
    ask: Ask,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").finish_non_exhaustive()
    }
}

impl Search {
    /// A search that begins at `unix_millis`. `nonce` is drawn for it.
    #[must_use]
    pub fn new(user: UserId, unix_millis: u64, nonce: [u8; NONCE_BYTES]) -> Self {
        let key = Key::of(user);
        let hour = unix_millis / HOUR_MILLIS;
        let tag = key.tag(hour, &nonce);
        Self {
            ask: Ask { nonce, tag },
            key,
            hour,
        }
    }

    /// The question to send to everybody; `None` when it cannot be written.
    #[must_use]
    pub fn query(&self) -> Option<Vec<u8>> {
        self.ask.query()
    }

    /// Reads a packet that may be an answer.
    #[must_use]
    pub fn read(&self, packet: &[u8]) -> Option<Place> {
        let packet = Packet::parse(packet).ok()?;
        if !packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let key = self.key.aead(self.hour, &self.ask.nonce)?;
        packet.answers.iter().find_map(|record| {
            let RData::TXT(text) = &record.rdata else {
                return None;
            };
            if ask_in(&record.name)? != self.ask {
                return None;
            }
            let (sealed, _value) = text.iter_raw().next()?;
            let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
            let mut sealed = sealed.to_vec();
            let nonce = aead::Nonce::assume_unique_for_key(*nonce);
            let opened = key.open_in_place(nonce, self.ask.aad(), &mut sealed).ok()?;
            Place::decode(opened).ok()
        })
    }
}

/// Answers questions for one person's device, without clock and socket.
pub struct Responder {
    key: Key,
    place: Place,
    remembered: VecDeque<(Ask, IpAddr)>,
    second: Option<Instant>,
    questions: u32,
    answers: u32,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

impl Responder {
    /// Answers for `user`, who is at `place`.
    #[must_use]
    pub fn new(user: UserId, place: Place) -> Self {
        Self {
            key: Key::of(user),
            place,
            remembered: VecDeque::new(),
            second: None,
            questions: 0,
            answers: 0,
        }
    }

    /// The answer to a packet from `from`, if it is a question for us. `nonce` is drawn for it.
    pub fn answer(
        &mut self,
        now: Instant,
        unix_millis: u64,
        from: IpAddr,
        packet: &[u8],
        nonce: [u8; NONCE_BYTES],
    ) -> Option<Vec<u8>> {
        if self
            .second
            .is_none_or(|second| now >= second + Duration::from_secs(1))
        {
            self.second = Some(now);
            (self.questions, self.answers) = (0, 0);
        }
        let packet = Packet::parse(packet).ok()?;
        if packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let [asked] = packet.questions.as_slice() else {
            return None;
        };
        let ask = ask_in(&asked.qname)?;
        self.questions += 1;
        if self.questions > QUESTIONS_PER_SECOND || self.answers >= ANSWERS_PER_SECOND {
            return None;
        }
        let hour = self.hour_of(&ask, unix_millis / HOUR_MILLIS)?;
        if !self.remember(ask, from) {
            return None;
        }
        self.answers += 1;
        let mut sealed = self.place.encode();
        let aead_nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.key
            .aead(hour, &ask.nonce)?
            .seal_in_place_append_tag(aead_nonce, ask.aad(), &mut sealed)
            .ok()?;
        let sealed = [&nonce[..], &sealed].concat();
        let name = ask.name();
        let mut reply = Packet::new_reply(packet.id());
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        reply.questions.push(question(&name)?);
        let text = TXT::new().with_char_string(CharacterString::new(&sealed).ok()?);
        reply.answers.push(ResourceRecord::new(
            Name::new(&name).ok()?,
            CLASS::IN,
            TTL_SECS,
            RData::TXT(text),
        ));
        reply.build_bytes_vec().ok()
    }

    /// The hour for which the question is ours: clocks differ, and hours end.
    fn hour_of(&self, ask: &Ask, hour: u64) -> Option<u64> {
        [hour, hour.wrapping_sub(1), hour.wrapping_add(1)]
            .into_iter()
            .find(|hour| self.key.tag(*hour, &ask.nonce) == ask.tag)
    }

    /// Whether the question is that asker's own.
    fn remember(&mut self, ask: Ask, from: IpAddr) -> bool {
        if let Some((_ask, asker)) = self.remembered.iter().find(|(known, _)| *known == ask) {
            return *asker == from;
        }
        self.remembered.push_back((ask, from));
        if self.remembered.len() > REMEMBERED {
            self.remembered.pop_front();
        }
        true
    }
}

/// Whether an address is of this machine's networks, of which it has the addresses `ours`.
#[must_use]
pub fn is_local(ip: IpAddr, ours: &[IpAddr]) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => {
            let network = |ip: std::net::Ipv6Addr| u128::from(ip) >> 64;
            v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_loopback()
                || ours
                    .iter()
                    .any(|our| matches!(our, IpAddr::V6(our) if network(*our) == network(v6)))
        }
    }
}

fn interfaces(runtime: &dyn Runtime) -> Vec<Ipv4Addr> {
    let addrs = runtime.interface_addrs().into_iter();
    addrs
        .filter_map(|ip| match ip {
            IpAddr::V4(v4) if !v4.is_loopback() => Some(v4),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .collect()
}

/// Answers for one device for as long as it lives.
#[derive(Debug)]
pub struct LanResponder {
    changed: Arc<Notify>,
    _task: Task,
}

impl LanResponder {
    /// Starts to answer questions for `user`.
    #[must_use]
    pub fn start(runtime: &Arc<dyn Runtime>, user: UserId, place: Place) -> Self {
        let changed = Arc::new(Notify::new());
        let responder = Responder::new(user, place);
        let task = respond(Arc::clone(runtime), responder, Arc::clone(&changed));
        Self {
            changed,
            _task: runtime.spawn_task(task),
        }
    }

    /// Interfaces came or went: listens on those that are there.
    pub fn network_changed(&self) {
        self.changed.notify_one();
    }
}

async fn respond(runtime: Arc<dyn Runtime>, mut responder: Responder, changed: Arc<Notify>) {
    let listen = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, GROUP.port());
    loop {
        let interfaces = interfaces(&*runtime);
        let bound = runtime.bind_multicast(listen, *GROUP.ip(), &interfaces);
        match bound {
            Ok(socket) => {
                let answering = answer_all(&*runtime, &*socket, &mut responder);
                tokio::select! {
                    biased;
                    () = changed.notified() => {}
                    () = answering => {}
                }
            }
            Err(error) => {
                tracing::debug!(%error, "nobody in this network can find this device");
                timeout(&*runtime, REBIND, changed.notified())
                    .await
                    .unwrap_or_default();
            }
        }
    }
}

async fn answer_all(runtime: &dyn Runtime, socket: &dyn AsyncUdpSocket, responder: &mut Responder) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let mut answers = Vec::new();
        let ours = runtime.interface_addrs();
        let received = std::future::poll_fn(|cx| {
            poll_train(socket, cx, &mut buffer, |from, _local, packet| {
                if packet.len() > MAX_PACKET || !is_local(from.ip(), &ours) {
                    return;
                }
                let (now, unix) = (runtime.now(), runtime.unix_millis());
                let nonce = runtime.random_array();
                if let Some(answer) = responder.answer(now, unix, from.ip(), packet, nonce) {
                    answers.push((from, answer));
                }
            })
        })
        .await;
        if let Err(error) = received {
            tracing::debug!(%error, "the multicast socket broke");
            runtime.sleep(Duration::from_secs(1)).await;
            return;
        }
        for (to, answer) in answers {
            tracing::debug!("somebody in this network looks for us");
            send_datagram(socket, to, None, &answer);
        }
    }
}

/// Looks for devices of `user` in this network for at most `limit`; ends soon after the first was found.
pub async fn find(runtime: &Arc<dyn Runtime>, user: UserId, limit: Duration) -> Vec<Found> {
    let nonce = runtime.random_array();
    let search = Arc::new(Search::new(user, runtime.unix_millis(), nonce));
    let (found, mut finds) = mpsc::channel(MAX_FOUND);
    let asking: Vec<Task> = interfaces(&**runtime)
        .into_iter()
        .map(|interface| {
            let search = ask_on(
                Arc::clone(runtime),
                interface,
                Arc::clone(&search),
                found.clone(),
            );
            runtime.spawn_task(search)
        })
        .collect();
    drop(found);
    let mut all: Vec<Found> = Vec::new();
    let mut until = runtime.now() + limit;
    loop {
        let wait = until.saturating_duration_since(runtime.now());
        let Some(Some(found)) = timeout(&**runtime, wait, finds.recv()).await else {
            break;
        };
        // Each device answers each question: what it says again gives nobody more time.
        if all.is_empty() {
            until = until.min(runtime.now() + OTHERS);
        }
        if !all.iter().any(|known| known.node == found.node) {
            all.push(found);
        }
        if all.len() >= MAX_FOUND {
            break;
        }
    }
    drop(asking);
    all
}

async fn ask_on(
    runtime: Arc<dyn Runtime>,
    interface: Ipv4Addr,
    search: Arc<Search>,
    found: mpsc::Sender<Found>,
) {
    let from = SocketAddrV4::new(interface, 0);
    let Ok(socket) = runtime.bind_multicast(from, *GROUP.ip(), &[]) else {
        return;
    };
    let Some(query) = search.query() else {
        return;
    };
    if writable(&socket).await.is_err() {
        return;
    }
    let start = runtime.now();
    let asking = async {
        for at in ASK_AT {
            runtime.sleep_until(start + at).await;
            send_datagram(&*socket, SocketAddr::V4(GROUP), None, &query);
        }
    };
    let listening = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let ours = runtime.interface_addrs();
            let mut places = Vec::new();
            let received = std::future::poll_fn(|cx| {
                poll_train(&*socket, cx, &mut buffer, |from, _local, packet| {
                    if packet.len() <= MAX_PACKET
                        && is_local(from.ip(), &ours)
                        && let Some(place) = search.read(packet)
                    {
                        places.push(Found {
                            addr: SocketAddr::new(from.ip().to_canonical(), place.port),
                            node: place.node,
                        });
                    }
                })
            })
            .await;
            if received.is_err() {
                return;
            }
            for place in places {
                if found.send(place).await.is_err() {
                    return;
                }
            }
        }
    };
    // Whoever waits for the finds ends this.
    tokio::join!(asking, listening);
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::NodeKeys;
    use proptest::prelude::*;

    use super::*;

    const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 9));
    const NOON: u64 = 12 * HOUR_MILLIS;

    fn user(seed: u8) -> UserId {
        UserId([seed; 32])
    }

    fn place() -> Place {
        Place {
            port: 50_000,
            node: NodeKeys::from_seed(&[3; 32]).id(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant does: the tests count from it"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    fn answer(responder: &mut Responder, from: IpAddr, at: u64, query: &[u8]) -> Option<Vec<u8>> {
        responder.answer(now(), at, from, query, [9; NONCE_BYTES])
    }

    #[test]
    fn the_person_asked_for_answers_and_only_the_asker_reads_it() {
        let search = Search::new(user(1), NOON, [5; NONCE_BYTES]);
        let query = search.query().unwrap();
        let mut responder = Responder::new(user(1), place());
        let reply = answer(&mut responder, ASKER, NOON, &query).unwrap();
        assert!(reply.len() < 300, "{}", reply.len());
        assert_eq!(search.read(&reply), Some(place()));
        // Another person's device is silent, and whoever does not know the person reads nothing.
        assert_eq!(
            answer(&mut Responder::new(user(2), place()), ASKER, NOON, &query),
            None
        );
        let mut stranger = Search::new(user(2), NOON, [5; NONCE_BYTES]);
        stranger.ask = search.ask;
        assert_eq!(stranger.read(&reply), None);
        // Neither the person's key nor port and node key are on the wire.
        let node = place().node;
        for packet in [&query, &reply] {
            let has = |secret: &[u8]| packet.windows(secret.len()).any(|part| part == secret);
            assert!(!has(&user(1).as_bytes()[..8]) && !has(&node.as_bytes()[..8]));
        }
    }

    #[test]
    fn a_question_serves_its_asker_alone_and_for_about_an_hour() {
        let search = Search::new(user(1), NOON, [5; NONCE_BYTES]);
        let query = search.query().unwrap();
        let mut responder = Responder::new(user(1), place());
        assert!(answer(&mut responder, ASKER, NOON, &query).is_some());
        // Sent again since the answer was lost; and sent again by somebody who listened.
        assert!(answer(&mut responder, ASKER, NOON, &query).is_some());
        let listener = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 66));
        assert_eq!(answer(&mut responder, listener, NOON, &query), None);
        for (hours, heard) in [(-2, false), (-1, true), (1, true), (2, false)] {
            let at = NOON.saturating_add_signed(hours * HOUR_MILLIS.cast_signed());
            let mut fresh = Responder::new(user(1), place());
            let answer = answer(&mut fresh, ASKER, at, &query);
            assert_eq!(answer.is_some(), heard, "{hours} hours apart");
            if let Some(answer) = answer {
                assert_eq!(search.read(&answer), Some(place()));
            }
        }
    }

    #[test]
    fn a_flood_of_questions_is_answered_slowly_and_remembered_in_bounds() {
        let mut responder = Responder::new(user(1), place());
        let start = now();
        let mut answered = 0;
        for second in 0..40 {
            let at = start + Duration::from_secs(second);
            for n in 0..100_u8 {
                let mut nonce = [n; NONCE_BYTES];
                nonce[0] = u8::try_from(second).unwrap();
                let query = Search::new(user(1), NOON, nonce).ask.query().unwrap();
                let reply = responder.answer(at, NOON, ASKER, &query, [1; NONCE_BYTES]);
                answered += u32::from(reply.is_some());
            }
        }
        assert_eq!(answered, 40 * ANSWERS_PER_SECOND);
        assert_eq!(responder.remembered.len(), REMEMBERED);
    }

    #[test]
    fn only_addresses_of_this_network_count() {
        let ours = ["2001:db8:1:2::5".parse().unwrap()];
        for (ip, local) in [
            ("192.168.3.4", true),
            ("10.1.1.1", true),
            ("169.254.1.1", true),
            ("::ffff:172.16.0.1", true),
            ("fe80::1", true),
            ("fd00::1", true),
            ("2001:db8:1:2::99", true),
            ("2001:db8:1:3::99", false),
            ("8.8.8.8", false),
            ("100.64.0.1", false),
        ] {
            assert_eq!(is_local(ip.parse().unwrap(), &ours), local, "{ip}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_neither_answered_nor_believed(bytes: Vec<u8>, cut in 0_usize..400, flip in 0_usize..400) {
            let search = Search::new(user(1), NOON, [5; NONCE_BYTES]);
            let query = search.query().unwrap();
            let mut responder = Responder::new(user(1), place());
            let reply = answer(&mut responder, ASKER, NOON, &query).unwrap();
            prop_assert_eq!(answer(&mut responder, ASKER, NOON, &bytes), None);
            prop_assert_eq!(search.read(&bytes), None);
            for packet in [query, reply] {
                let mut packet = packet;
                if let Some(byte) = packet.get_mut(flip) {
                    *byte ^= 0x55;
                }
                packet.truncate(cut);
                let mut fresh = Responder::new(user(1), place());
                let _survived = (answer(&mut fresh, ASKER, NOON, &packet), search.read(&packet));
            }
        }
    }
}
