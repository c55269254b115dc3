#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

mod abuse;

use proptest::prelude::*;
use rtc_stun::{
    attributes::ATTR_XOR_RELAYED_ADDRESS,
    message::{METHOD_DATA, Method},
};

use super::{data::channel_data, *};
use crate::stun::long_term_key;

const RELAY_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ALICE: &str = "198.51.100.1:1000";
const BOB: &str = "198.51.100.2:2000";
const REALM: &str = "ahoy";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A relay with its clock; sockets open at once on counted-up ports.
struct Lab {
    relay: Relay,
    now: Instant,
    next_port: u16,
    next_transaction: u64,
    sockets: Vec<AllocationId>,
    sockets_fail: bool,
}

/// One client's credentials with the nonce it uses.
#[derive(Clone)]
struct Login {
    from: SocketAddr,
    username: String,
    password: String,
    realm: String,
    nonce: String,
}

impl Login {
    fn key(&self) -> IntegrityKey {
        long_term_key(&self.username, &self.realm, &self.password)
    }
}

/// An answer that a client got.
#[derive(Debug)]
struct Answer {
    stun: Stun,
    to: SocketAddr,
}

impl Answer {
    /// The error code, or 0 for success.
    fn code(&self) -> u16 {
        self.stun.error_code().unwrap_or(0)
    }
}

fn config() -> RelayConfig {
    let mut config = RelayConfig::new(REALM, &[RELAY_IP.into()]);
    config.shared_port = false;
    config
}

impl Lab {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: RelayConfig) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        let now = Instant::now();
        Self {
            relay: Relay::new(now, config, [3; 32]),
            now,
            next_port: 50_000,
            next_transaction: 0,
            sockets: Vec::new(),
            sockets_fail: false,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.relay.handle_timeout(self.now);
    }

    /// Drains the relay; opens and closes sockets as it asks.
    fn drain(&mut self) -> Vec<Transmit> {
        let mut sent = Vec::new();
        loop {
            while let Some(transmit) = self.relay.poll_transmit() {
                sent.push(transmit);
            }
            match self.relay.poll_event() {
                None => return sent,
                Some(RelayEvent::OpenRelay {
                    allocation, even, ..
                }) => {
                    self.next_port += if even { self.next_port % 2 + 2 } else { 1 };
                    let port = (!self.sockets_fail).then_some(self.next_port);
                    if port.is_some() {
                        self.sockets.push(allocation);
                    }
                    self.relay.handle_relay_opened(self.now, allocation, port);
                }
                Some(RelayEvent::CloseRelay { allocation }) => {
                    self.sockets.retain(|id| *id != allocation);
                }
                Some(RelayEvent::ClientAdded { .. } | RelayEvent::ClientRemoved { .. }) => {}
            }
        }
    }

    fn input(&mut self, from: SocketAddr, packet: &[u8]) -> Vec<Transmit> {
        self.relay.handle_input(self.now, from, None, packet);
        self.drain()
    }

    fn builder(&mut self, method: Method) -> Builder {
        self.next_transaction += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.next_transaction.to_be_bytes());
        Builder::new(method, CLASS_REQUEST, TransactionId(id))
    }

    fn answer(&mut self, from: SocketAddr, packet: &[u8]) -> Answer {
        let sent = self.input(from, packet);
        assert_eq!(sent.len(), 1, "one answer");
        let stun = Stun::parse(&sent[0].contents).unwrap();
        assert_eq!(
            stun.transaction(),
            Stun::parse(packet).unwrap().transaction()
        );
        Answer {
            stun,
            to: sent[0].to,
        }
    }

    fn sign(login: &Login, builder: Builder) -> Vec<u8> {
        builder
            .attribute(ATTR_USERNAME, login.username.as_bytes())
            .attribute(ATTR_REALM, login.realm.as_bytes())
            .attribute(ATTR_NONCE, login.nonce.as_bytes())
            .finish(Some(&login.key()), true)
    }

    fn signed(&mut self, login: &Login, builder: Builder) -> Answer {
        let packet = Self::sign(login, builder);
        let mut answer = self.answer(login.from, &packet);
        if ![401, 438].contains(&answer.code()) {
            assert!(
                answer.stun.verify(&login.key()),
                "answers are authenticated"
            );
        }
        answer
    }

    fn login(&mut self, owner: u8, from: &str) -> Login {
        let from = addr(from);
        let owner = CredentialOwner::Device([owner; 32]);
        let TurnCredentials {
            username,
            password,
            realm,
            nonce,
            ..
        } = self
            .relay
            .issue_credentials(self.now, owner, from.ip())
            .unwrap();
        Login {
            from,
            username,
            password,
            realm,
            nonce,
        }
    }

    fn allocate_request(&mut self) -> Builder {
        self.builder(METHOD_ALLOCATE)
            .attribute(ATTR_REQUESTED_TRANSPORT, &[PROTOCOL_UDP, 0, 0, 0])
    }

    fn allocate(&mut self, login: &Login) -> Answer {
        let request = self.allocate_request();
        self.signed(login, request)
    }

    /// A client with an allocation, in one round trip.
    fn client(&mut self, owner: u8, from: &str) -> (Login, SocketAddr) {
        let login = self.login(owner, from);
        let answer = self.allocate(&login);
        assert_eq!(answer.code(), 0);
        assert_eq!(answer.stun.mapped_address(), Some(login.from));
        let relayed = answer.stun.xor_address(ATTR_XOR_RELAYED_ADDRESS).unwrap();
        (login, relayed)
    }

    fn permit(&mut self, login: &Login, peer: SocketAddr) -> u16 {
        let request = self
            .builder(METHOD_CREATE_PERMISSION)
            .xor_address(ATTR_XOR_PEER_ADDRESS, peer);
        self.signed(login, request).code()
    }

    fn bind(&mut self, login: &Login, number: u16, peer: SocketAddr) -> u16 {
        let [high, low] = number.to_be_bytes();
        let request = self
            .builder(METHOD_CHANNEL_BIND)
            .attribute(ATTR_CHANNEL_NUMBER, &[high, low, 0, 0])
            .xor_address(ATTR_XOR_PEER_ADDRESS, peer);
        self.signed(login, request).code()
    }

    fn refresh(&mut self, login: &Login, seconds: u32) -> u16 {
        let request = self
            .builder(METHOD_REFRESH)
            .attribute(ATTR_LIFETIME, &seconds.to_be_bytes());
        self.signed(login, request).code()
    }

    fn send_indication(&mut self, login: &Login, peer: SocketAddr, data: &[u8]) -> Vec<Transmit> {
        let packet = Builder::new(METHOD_SEND, CLASS_INDICATION, TransactionId([9; 12]))
            .xor_address(ATTR_XOR_PEER_ADDRESS, peer)
            .attribute(ATTR_DATA, data)
            .finish(None, false);
        self.input(login.from, &packet)
    }

    fn dropped(&self, reason: Drop) -> u64 {
        self.relay.counters().dropped(reason)
    }
}

fn channel(number: u16, data: &[u8]) -> Vec<u8> {
    channel_data(number, data).unwrap()
}

fn transmit(via: Via, to: SocketAddr, contents: Vec<u8>) -> Transmit {
    Transmit { via, to, contents }
}

#[test]
fn binding_answers_with_the_observed_address() {
    let mut lab = Lab::new();
    let request = lab.builder(METHOD_BINDING).finish(None, true);
    let answer = lab.answer(addr(ALICE), &request);
    assert_eq!(
        (answer.stun.mapped_address(), answer.to),
        (Some(addr(ALICE)), addr(ALICE))
    );
    assert!(answer.stun.has_fingerprint());
    let request = lab.builder(METHOD_BINDING).finish(None, false);
    let answer = lab.answer(addr("[::ffff:198.51.100.9]:9"), &request);
    assert_eq!(answer.stun.mapped_address(), Some(addr("198.51.100.9:9")));
    assert_eq!(lab.relay.counters().bindings, 2);
}

#[test]
fn a_client_without_a_nonce_learns_it_from_401_and_one_with_it_needs_one_round_trip() {
    let mut lab = Lab::new();
    lab.relay.add_user("user", "secret");
    let request = lab.allocate_request().finish(None, false);
    let challenge = lab.answer(addr(ALICE), &request);
    assert_eq!(challenge.code(), 401);
    let login = Login {
        from: addr(ALICE),
        username: "user".into(),
        password: "secret".into(),
        realm: challenge.stun.text(ATTR_REALM).unwrap().into(),
        nonce: challenge.stun.text(ATTR_NONCE).unwrap().into(),
    };
    assert_eq!(lab.allocate(&login).code(), 0);
    lab.client(1, BOB);
    assert_eq!(lab.relay.counters().allocations_live, 2);
}

#[test]
fn wrong_passwords_users_and_realms_get_401_and_missing_fields_400() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    for wrong in [
        Login {
            password: "x".into(),
            ..login.clone()
        },
        Login {
            username: "x".into(),
            ..login.clone()
        },
        Login {
            realm: "x".into(),
            ..login.clone()
        },
    ] {
        assert_eq!(lab.allocate(&wrong).code(), 401);
    }
    let request = lab
        .allocate_request()
        .attribute(ATTR_USERNAME, login.username.as_bytes())
        .finish(Some(&login.key()), false);
    assert_eq!(lab.answer(login.from, &request).code(), 400);
    assert!(lab.sockets.is_empty());
}

#[test]
fn a_nonce_that_is_old_or_stolen_gets_438_and_a_new_one() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    let stolen = Login {
        from: addr(BOB),
        ..login.clone()
    };
    assert_eq!(lab.allocate(&stolen).code(), 438);
    lab.pass(3600);
    let answer = lab.allocate(&login);
    assert_eq!(answer.code(), 438);
    let fresh = Login {
        nonce: answer.stun.text(ATTR_NONCE).unwrap().into(),
        ..login
    };
    assert_eq!(lab.allocate(&fresh).code(), 0);
}

#[test]
fn allocate_refuses_what_it_does_not_offer_with_the_code_of_the_rfc() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    let plain = lab.builder(METHOD_ALLOCATE);
    assert_eq!(lab.signed(&login, plain).code(), 400, "no transport");
    let tcp = lab
        .builder(METHOD_ALLOCATE)
        .attribute(ATTR_REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    assert_eq!(lab.signed(&login, tcp).code(), 442);
    let even = lab.allocate_request().attribute(ATTR_EVEN_PORT, &[0x80]);
    assert_eq!(lab.signed(&login, even).code(), 508);
    let token = lab
        .allocate_request()
        .attribute(ATTR_RESERVATION_TOKEN, &[0; 8]);
    assert_eq!(lab.signed(&login, token).code(), 508);
    let both = lab
        .allocate_request()
        .attribute(ATTR_RESERVATION_TOKEN, &[0; 8])
        .attribute(ATTR_EVEN_PORT, &[0]);
    assert_eq!(lab.signed(&login, both).code(), 400);
    for (family, code) in [(FAMILY_V6, 440), (7, 440)] {
        let request = lab
            .allocate_request()
            .attribute(ATTR_REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        assert_eq!(lab.signed(&login, request).code(), code);
    }
    let two = lab.allocate_request().attribute(ATTR_EVEN_PORT, &[0, 0]);
    assert_eq!(lab.signed(&login, two).code(), 400);
    let unknown = lab.allocate_request().attribute(AttrType(0x7ffe), b"?");
    let answer = lab.signed(&login, unknown);
    assert_eq!(answer.code(), 420);
    assert_eq!(
        answer.stun.attribute(ATTR_UNKNOWN_ATTRIBUTES),
        Some(&[0x7f, 0xfe][..])
    );
    let optional = lab
        .allocate_request()
        .attribute(AttrType(0x8000), &[2, 0, 0, 0]);
    assert_eq!(lab.signed(&login, optional).code(), 0);
}

#[test]
fn an_even_port_without_a_reservation_is_given() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    for _ in 0..3 {
        let request = lab.allocate_request().attribute(ATTR_EVEN_PORT, &[0]);
        let answer = lab.signed(&login, request);
        let relayed = answer.stun.xor_address(ATTR_XOR_RELAYED_ADDRESS).unwrap();
        assert_eq!(relayed.port() % 2, 0);
        assert_eq!(lab.refresh(&login, 0), 0);
        lab.next_port += 1;
    }
}

#[test]
fn requests_that_do_not_match_the_allocation_get_437_or_441() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    assert_eq!(lab.refresh(&login, 600), 437);
    assert_eq!(lab.permit(&login, addr("203.0.113.1:1")), 437);
    assert_eq!(lab.bind(&login, 0x4000, addr("203.0.113.1:1")), 437);
    assert_eq!(lab.allocate(&login).code(), 0);
    assert_eq!(
        lab.allocate(&login).code(),
        437,
        "a second one on the same address"
    );
    let other = lab.login(2, ALICE);
    assert_eq!(lab.refresh(&other, 600), 441);
    assert_eq!(lab.permit(&other, addr("203.0.113.1:1")), 441);
    assert_eq!(lab.bind(&other, 0x4000, addr("203.0.113.1:1")), 441);
}

#[test]
fn a_retransmitted_allocate_gets_the_same_answer() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    let request = lab.allocate_request();
    let packet = Lab::sign(&login, request);
    let first = lab.input(login.from, &packet);
    assert_eq!(lab.input(login.from, &packet), first);
    assert_eq!(lab.relay.counters().allocations_opened, 1);
}

#[test]
fn quotas_per_credential_source_and_relay_hold() {
    let mut config = config();
    config.limits.allocations_per_credential = 2;
    config.limits.allocations_per_source = 3;
    config.limits.allocations = 4;
    let mut lab = Lab::with(config);
    let one = lab.login(1, "198.51.100.1:1");
    for (port, code) in [(1, 0), (2, 0), (3, 486)] {
        let login = Login {
            from: SocketAddr::new(one.from.ip(), port),
            ..one.clone()
        };
        assert_eq!(lab.allocate(&login).code(), code, "credential");
    }
    for (owner, port, code) in [(2, 4, 0), (3, 5, 486)] {
        let login = lab.login(owner, &format!("198.51.100.1:{port}"));
        assert_eq!(lab.allocate(&login).code(), code, "source");
    }
    for (owner, code) in [(4, 0), (5, 508)] {
        let login = lab.login(owner, &format!("198.51.100.{owner}:1"));
        assert_eq!(lab.allocate(&login).code(), code, "relay");
    }
    // Places come back.
    assert_eq!(lab.refresh(&one, 0), 0);
    let again = lab.login(6, "198.51.100.6:1");
    assert_eq!(lab.allocate(&again).code(), 0);
}

#[test]
fn draining_and_failing_sockets_refuse_with_508_and_leave_nothing_behind() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    lab.relay.set_draining(true);
    assert_eq!(lab.allocate(&login).code(), 508);
    lab.relay.set_draining(false);
    lab.sockets_fail = true;
    assert_eq!(lab.allocate(&login).code(), 508);
    assert!(
        lab.relay.slots.is_empty()
            && lab.relay.by_client.is_empty()
            && lab.relay.by_source.is_empty()
    );
    lab.sockets_fail = false;
    assert_eq!(lab.allocate(&login).code(), 0);
}

#[test]
fn allocations_expire_are_refreshed_and_are_deleted() {
    let mut lab = Lab::new();
    let (alice, _) = lab.client(1, ALICE);
    let (bob, _) = lab.client(2, BOB);
    lab.pass(500);
    assert_eq!(lab.refresh(&alice, 600), 0);
    assert_eq!(
        lab.relay.poll_timeout(),
        Some(lab.now + Duration::from_secs(100))
    );
    lab.pass(100);
    lab.drain();
    assert_eq!(lab.refresh(&bob, 600), 437, "bob's has expired");
    assert_eq!(lab.sockets.len(), 1);
    assert_eq!(lab.refresh(&alice, 0), 0);
    assert_eq!(lab.refresh(&alice, 0), 437);
    assert!(lab.sockets.is_empty());
    assert_eq!(lab.relay.counters().allocations_closed, 2);
    lab.pass(1000);
    assert_eq!(lab.relay.poll_timeout(), None);
}

#[test]
fn both_ends_on_this_relay_exchange_data_in_process_and_everything_is_counted() {
    let mut lab = Lab::new();
    let (alice, alice_relayed) = lab.client(1, ALICE);
    let (bob, bob_relayed) = lab.client(2, BOB);
    assert_eq!(lab.bind(&alice, 0x4001, bob_relayed), 0);
    assert_eq!(lab.bind(&bob, 0x4777, alice_relayed), 0);
    assert_eq!(
        lab.input(alice.from, &channel(0x4001, b"ahoy")),
        [transmit(
            Via::Port(None),
            bob.from,
            channel(0x4777, b"ahoy")
        )]
    );
    // Padding goes.
    let mut padded = channel(0x4777, b"hello");
    padded.extend_from_slice(&[0; 3]);
    assert_eq!(
        lab.input(bob.from, &padded),
        [transmit(
            Via::Port(None),
            alice.from,
            channel(0x4001, b"hello")
        )]
    );
    let counters = lab.relay.counters();
    assert_eq!(counters.packets_in_process, 2);
    assert_eq!(
        counters.traffic,
        Traffic {
            packets_from_client: 2,
            bytes_from_client: 9,
            packets_to_client: 2,
            bytes_to_client: 9,
        }
    );
    assert_eq!(
        lab.relay.traffic(alice_relayed),
        Some(Traffic {
            packets_from_client: 1,
            bytes_from_client: 4,
            packets_to_client: 1,
            bytes_to_client: 5,
        })
    );
    assert_eq!(lab.relay.counters().dropped_total(), 0);
}

#[test]
fn without_a_channel_data_arrives_as_an_indication() {
    let mut lab = Lab::new();
    let (alice, alice_relayed) = lab.client(1, ALICE);
    let (bob, bob_relayed) = lab.client(2, BOB);
    assert_eq!(lab.permit(&alice, bob_relayed), 0);
    assert_eq!(lab.permit(&bob, alice_relayed), 0);
    let check = |sent: &[Transmit]| {
        let [sent] = sent else { panic!("one packet") };
        let data = Stun::parse(&sent.contents).unwrap();
        assert_eq!(
            (sent.to, data.method(), data.class()),
            (bob.from, METHOD_DATA, CLASS_INDICATION)
        );
        assert_eq!(data.xor_address(ATTR_XOR_PEER_ADDRESS), Some(alice_relayed));
        assert_eq!(data.attribute(ATTR_DATA), Some(&b"ahoy"[..]));
    };
    check(&lab.send_indication(&alice, bob_relayed, b"ahoy"));
    assert_eq!(lab.bind(&alice, 0x4000, bob_relayed), 0);
    check(&lab.input(alice.from, &channel(0x4000, b"ahoy")));
    // And a Send indication reaches a channel.
    assert_eq!(lab.bind(&bob, 0x4002, alice_relayed), 0);
    assert_eq!(
        lab.send_indication(&alice, bob_relayed, b"x"),
        [transmit(Via::Port(None), bob.from, channel(0x4002, b"x"))]
    );
}

#[test]
fn in_process_delivery_needs_the_permission_of_both_sides() {
    let mut lab = Lab::new();
    let (alice, alice_relayed) = lab.client(1, ALICE);
    let (bob, bob_relayed) = lab.client(2, BOB);
    assert!(lab.send_indication(&alice, bob_relayed, b"x").is_empty());
    assert_eq!(lab.dropped(Drop::NoPermission), 1);
    assert_eq!(lab.bind(&alice, 0x4000, bob_relayed), 0);
    assert!(lab.input(alice.from, &channel(0x4000, b"x")).is_empty());
    assert_eq!(lab.dropped(Drop::NoPermission), 2);
    assert_eq!(lab.permit(&bob, alice_relayed), 0);
    assert_eq!(lab.input(alice.from, &channel(0x4000, b"x")).len(), 1);
    // Bob's permission runs out while Alice refreshes hers.
    lab.pass(299);
    assert_eq!(lab.permit(&alice, bob_relayed), 0);
    lab.pass(1);
    assert!(lab.input(alice.from, &channel(0x4000, b"x")).is_empty());
    assert_eq!(lab.dropped(Drop::NoPermission), 3);
}

#[test]
fn a_permission_for_this_relays_address_reaches_allocations_only() {
    let mut lab = Lab::new();
    let (alice, alice_relayed) = lab.client(1, ALICE);
    assert_eq!(lab.permit(&alice, alice_relayed), 0);
    // 22 is the machine's own service, 40 000 nobody's.
    for port in [22, 40_000] {
        assert!(
            lab.send_indication(&alice, SocketAddr::new(RELAY_IP.into(), port), b"x")
                .is_empty()
        );
    }
    assert_eq!(lab.dropped(Drop::NoSuchRelayedAddress), 2);
    // An allocation may talk to itself: useful for a test, harmless.
    assert_eq!(lab.send_indication(&alice, alice_relayed, b"x").len(), 1);
}

#[test]
fn peers_that_nobody_vouched_for_get_403_and_each_kind_of_address_is_refused() {
    let mut lab = Lab::new();
    let (alice, _) = lab.client(1, ALICE);
    for text in [
        "127.0.0.1:9",
        "10.0.0.1:9",
        "172.31.0.1:9",
        "192.168.0.1:9",
        "100.64.0.1:9",
        "169.254.169.254:80",
        "168.63.129.16:80",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "0.0.0.0:9",
        "8.8.8.8:53",
        "8.8.8.8:5000",
    ] {
        assert_eq!(lab.permit(&alice, addr(text)), 403, "{text}");
        assert_eq!(lab.bind(&alice, 0x4000, addr(text)), 403, "{text}");
        assert!(lab.send_indication(&alice, addr(text), b"x").is_empty());
    }
    assert_eq!(lab.permit(&alice, addr("[2001:db8::1]:9")), 443);
    assert_eq!(lab.bind(&alice, 0x4000, addr("[2001:db8::1]:9")), 443);
    assert_eq!(lab.permit(&alice, addr("[::ffff:127.0.0.1]:9")), 403);
    // One bad peer spoils the whole request.
    let request = lab
        .builder(METHOD_CREATE_PERMISSION)
        .xor_address(ATTR_XOR_PEER_ADDRESS, SocketAddr::new(RELAY_IP.into(), 1))
        .xor_address(ATTR_XOR_PEER_ADDRESS, addr("8.8.8.8:1"));
    assert_eq!(lab.signed(&alice, request).code(), 403);
    let request = lab.builder(METHOD_CREATE_PERMISSION);
    assert_eq!(lab.signed(&alice, request).code(), 400);
    assert_eq!(lab.relay.counters().traffic, Traffic::default());
}

#[test]
fn with_open_peers_the_same_peers_are_served() {
    let mut config = config();
    config.switches.open_peers = true;
    let mut lab = Lab::with(config);
    let (alice, _) = lab.client(1, ALICE);
    for text in [
        "127.0.0.1:9",
        "10.0.0.1:9",
        "169.254.169.254:80",
        "8.8.8.8:53",
    ] {
        assert_eq!(lab.permit(&alice, addr(text)), 0, "{text}");
        let id = lab.sockets[0];
        assert_eq!(
            lab.send_indication(&alice, addr(text), b"x"),
            [transmit(Via::Relayed(id), addr(text), b"x".to_vec())]
        );
    }
}

#[test]
fn a_registered_address_and_a_known_supernode_are_reached_through_the_socket() {
    let mut lab = Lab::new();
    let (alice, relayed) = lab.client(1, ALICE);
    let until = lab.now + Duration::from_secs(600);
    let (registered, node) = (addr("8.8.8.8:5000"), addr("9.9.9.9:50000"));
    assert!(
        lab.relay
            .policy_mut()
            .allow_address(lab.now, registered, until)
    );
    assert!(lab.relay.policy_mut().allow_node(lab.now, node.ip(), until));
    assert_eq!(lab.bind(&alice, 0x4000, registered), 0);
    assert_eq!(lab.bind(&alice, 0x4001, node), 0);
    assert_eq!(
        lab.bind(&alice, 0x4002, addr("8.8.8.8:5001")),
        403,
        "another port"
    );
    assert_eq!(
        lab.bind(&alice, 0x4002, addr("9.9.9.9:53")),
        403,
        "a system service"
    );
    let id = lab.sockets[0];
    assert_eq!(
        lab.input(alice.from, &channel(0x4000, b"out")),
        [transmit(Via::Relayed(id), registered, b"out".to_vec())]
    );
    lab.relay.handle_relayed_input(lab.now, id, node, b"in");
    assert_eq!(
        lab.drain(),
        [transmit(
            Via::Port(None),
            alice.from,
            channel(0x4001, b"in")
        )]
    );
    for stranger in ["8.8.8.8:5001", "9.9.9.9:53", "1.1.1.1:5000"] {
        lab.relay
            .handle_relayed_input(lab.now, id, addr(stranger), b"in");
    }
    assert!(lab.drain().is_empty());
    assert_eq!(lab.dropped(Drop::NoPermission), 3);
    assert_eq!(
        lab.relay.traffic(relayed),
        Some(Traffic {
            packets_from_client: 1,
            bytes_from_client: 3,
            packets_to_client: 1,
            bytes_to_client: 2,
        })
    );
    assert_eq!(lab.relay.counters().packets_in_process, 0);
}

#[test]
fn channels_keep_number_and_peer_together_and_expire() {
    let mut lab = Lab::new();
    let (alice, _) = lab.client(1, ALICE);
    let (_, bob_relayed) = lab.client(2, BOB);
    let (_, carol_relayed) = lab.client(3, "198.51.100.3:1");
    assert_eq!(lab.bind(&alice, 0x4000, bob_relayed), 0);
    assert_eq!(lab.bind(&alice, 0x4000, bob_relayed), 0);
    assert_eq!(lab.bind(&alice, 0x4000, carol_relayed), 400);
    assert_eq!(lab.bind(&alice, 0x4001, bob_relayed), 400);
    for number in [0x3fff, 0x7fff, 0x8000, 0] {
        assert_eq!(lab.bind(&alice, number, carol_relayed), 400);
    }
    lab.pass(599);
    assert_eq!(lab.refresh(&alice, 3600), 0);
    lab.pass(1);
    assert!(lab.input(alice.from, &channel(0x4000, b"x")).is_empty());
    assert_eq!(lab.dropped(Drop::NoChannel), 1);
    assert_eq!(
        lab.bind(&alice, 0x4000, carol_relayed),
        0,
        "the number is free again"
    );
}

#[test]
fn a_port_shared_with_quic_refuses_channels_that_look_like_quic() {
    let mut config = config();
    config.shared_port = true;
    let mut lab = Lab::with(config);
    let (alice, relayed) = lab.client(1, ALICE);
    for number in [0x4080, 0x40ff, 0x5000, 0x7f00] {
        assert_eq!(lab.bind(&alice, number, relayed), 400, "{number:#x}");
    }
    assert_eq!(lab.bind(&alice, 0x4f7f, relayed), 0);
}

#[test]
fn permissions_and_channels_are_bounded_per_allocation() {
    let mut config = config();
    config.switches.open_peers = true;
    config.limits.permissions_per_allocation = 3;
    config.limits.channels_per_allocation = 2;
    let mut lab = Lab::with(config);
    let (alice, relayed) = lab.client(1, ALICE);
    for (n, code) in [(1, 0), (2, 0), (3, 508)] {
        assert_eq!(
            lab.bind(&alice, 0x4000 + n, SocketAddr::new([8, 8, 8, 8].into(), n)),
            code
        );
    }
    for (n, code) in [(1, 0), (2, 0), (3, 508), (2, 0)] {
        assert_eq!(
            lab.permit(&alice, SocketAddr::new([8, 8, 9, n].into(), 1)),
            code
        );
    }
    let id = lab.relay.by_relayed[&relayed];
    assert_eq!(lab.relay.live(id).unwrap().sizes(), (3, 2));
    lab.pass(300);
    assert_eq!(
        lab.permit(&alice, addr("8.8.9.9:1")),
        0,
        "expired ones gave way"
    );
}

#[test]
fn all_allocations_together_have_a_byte_budget_per_second() {
    let passed_on = |total| {
        let mut config = config();
        config.limits.total_bytes_per_second = total;
        let mut lab = Lab::with(config);
        let mut pairs = Vec::new();
        for n in [1u8, 3] {
            let (near, far) = (
                format!("198.51.100.{n}:1000"),
                format!("198.51.100.{}:1000", n + 1),
            );
            let (near, near_relayed) = lab.client(n, &near);
            let (far, far_relayed) = lab.client(n + 1, &far);
            assert_eq!(lab.bind(&near, 0x4000, far_relayed), 0);
            assert_eq!(lab.bind(&far, 0x4000, near_relayed), 0);
            pairs.push(near.from);
        }
        let packet = channel(0x4000, &[0; 400]);
        let mut passed = 0;
        for _second in 0..10 {
            for from in [0, 1, 0, 1, 0, 1].map(|n: usize| pairs[n]) {
                passed += lab.input(from, &packet).len() as u64;
            }
            lab.pass(1);
        }
        assert_eq!(lab.relay.counters().bytes_passed_on, passed * 400);
        passed
    };
    assert_eq!(passed_on(None), 60);
    // What is left of a second is too little for another packet.
    let bounded = passed_on(Some(1000));
    assert!(
        (20..=25).contains(&bounded),
        "{bounded} packets of 400 bytes"
    );
}

#[test]
fn each_allocation_has_a_byte_budget_per_second() {
    let mut config = config();
    config.limits.bytes_per_second = 1000;
    let mut lab = Lab::with(config);
    let (alice, alice_relayed) = lab.client(1, ALICE);
    let (bob, bob_relayed) = lab.client(2, BOB);
    assert_eq!(lab.bind(&alice, 0x4000, bob_relayed), 0);
    assert_eq!(lab.bind(&bob, 0x4000, alice_relayed), 0);
    let packet = channel(0x4000, &[0; 400]);
    let passed: usize = (0..5).map(|_| lab.input(alice.from, &packet).len()).sum();
    assert_eq!((passed, lab.dropped(Drop::OverRate)), (2, 3));
    lab.pass(1);
    assert_eq!(lab.input(alice.from, &packet).len(), 1);
    assert!(
        lab.input(alice.from, &channel(0x4000, &[0; MAX_PAYLOAD_BYTES + 1]))
            .is_empty()
    );
    assert_eq!(lab.dropped(Drop::TooLong), 1);
}

#[test]
fn a_flood_of_unauthenticated_requests_gets_few_answers_and_does_not_silence_others() {
    let mut lab = Lab::new();
    let request = lab.allocate_request().finish(None, false);
    let answered: usize = (0..1000)
        .map(|_| lab.input(addr(ALICE), &request).len())
        .sum();
    assert_eq!(answered, 200);
    assert_eq!(lab.dropped(Drop::ReplyLimit), 800);
    lab.client(2, BOB);
    // With credentials, the flooded address is served too.
    lab.client(1, ALICE);
}

#[test]
fn strangers_and_nonsense_are_dropped_in_silence_and_counted() {
    let mut lab = Lab::new();
    let (alice, _) = lab.client(1, ALICE);
    for (packet, reason) in [
        (channel(0x4000, b"x"), Drop::NoAllocation),
        (vec![0x40, 0, 0, 9, 1], Drop::Malformed),
        (vec![1, 2, 3], Drop::Malformed),
        (
            lab.builder(METHOD_SEND).finish(None, false),
            Drop::Unsupported,
        ),
    ] {
        assert!(lab.input(addr(BOB), &packet).is_empty());
        assert_eq!(lab.dropped(reason), if packet == [1, 2, 3] { 2 } else { 1 });
    }
    assert!(lab.input(alice.from, &channel(0x4000, b"x")).is_empty());
    assert_eq!(lab.dropped(Drop::NoChannel), 1);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut lab = Lab::new();
        let login = lab.login(1, ALICE);
        let request = lab.allocate_request();
        let packet = Lab::sign(&login, request);
        (packet.clone(), lab.input(login.from, &packet))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_client_that_allocates_and_deletes_for_ever_leaves_no_deadlines_behind() {
    let mut lab = Lab::new();
    let login = lab.login(1, ALICE);
    for _ in 0..3 * STALE_DEADLINES {
        assert_eq!(lab.allocate(&login).code(), 0);
        assert_eq!(lab.refresh(&login, 0), 0);
    }
    assert!(lab.relay.deadlines.len() <= STALE_DEADLINES + 1);
}

#[test]
fn a_flood_with_expired_credentials_leaves_nothing_and_a_running_call_goes_on() {
    let mut lab = Lab::new();
    let (alice, alice_relayed) = lab.client(1, ALICE);
    let (bob, bob_relayed) = lab.client(2, BOB);
    let old: Vec<Login> = (0..250)
        .map(|n| lab.login(n, &format!("192.0.2.{n}:1000")))
        .collect();
    let lifetime = credentials::CREDENTIAL_LIFETIME.as_secs();
    // Who holds an allocation keeps it alive with the credential that made it.
    for _ in 0..=lifetime / 300 {
        lab.pass(300);
        for login in [&alice, &bob] {
            let fresh = Login {
                nonce: lab.login(9, &login.from.to_string()).nonce,
                ..login.clone()
            };
            assert_eq!(lab.refresh(&fresh, 600), 0);
        }
    }
    let nonces: Vec<String> = old
        .iter()
        .map(|login| lab.login(9, &login.from.to_string()).nonce)
        .collect();
    for (login, nonce) in old.into_iter().zip(nonces) {
        let login = Login { nonce, ..login };
        assert_eq!(lab.allocate(&login).code(), 401);
    }
    assert_eq!(lab.relay.slots.len(), 2);
    assert_eq!(lab.relay.counters().allocations_live, 2);
    for (login, peer) in [(&alice, bob_relayed), (&bob, alice_relayed)] {
        let nonce = lab.login(9, &login.from.to_string()).nonce;
        let login = Login {
            nonce,
            ..login.clone()
        };
        assert_eq!(lab.bind(&login, 0x4000, peer), 0);
    }
    assert_eq!(
        lab.input(alice.from, &channel(0x4000, b"still here")).len(),
        1
    );
}

#[derive(Debug, Clone)]
enum Op {
    Garbage(u8, Vec<u8>),
    Allocate(u8),
    Refresh(u8, u32),
    Permit(u8, u8),
    Bind(u8, u16, u8),
    Channel(u8, u16, u16),
    Relayed(u8, Vec<u8>),
    Pass(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(c, b)| Op::Garbage(c, b)),
        any::<u8>().prop_map(Op::Allocate),
        (any::<u8>(), prop_oneof![Just(0), any::<u32>()]).prop_map(|(c, s)| Op::Refresh(c, s)),
        (any::<u8>(), any::<u8>()).prop_map(|(c, p)| Op::Permit(c, p)),
        (any::<u8>(), 0x4000u16..0x4006, any::<u8>()).prop_map(|(c, n, p)| Op::Bind(c, n, p)),
        (any::<u8>(), 0x4000u16..0x4006, 0u16..1600).prop_map(|(c, n, l)| Op::Channel(c, n, l)),
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(a, b)| Op::Relayed(a, b)),
        (0u16..700).prop_map(Op::Pass),
    ]
}

proptest! {
    /// Whatever six clients do, no table outgrows its bound, nothing panics, and the indexes agree.
    #[test]
    fn tables_stay_bounded_and_consistent(ops in proptest::collection::vec(op(), 1..120)) {
        let mut config = config();
        config.switches.open_peers = true;
        config.limits.allocations = 4;
        config.limits.permissions_per_allocation = 3;
        config.limits.channels_per_allocation = 2;
        let mut lab = Lab::with(config);
        let logins: Vec<Login> = (0..6).map(|n| lab.login(n, &format!("198.51.100.{n}:1000"))).collect();
        let peer = |p: u8| SocketAddr::new([8, 8, 8, p % 8].into(), 50_000 + u16::from(p % 8));
        for op in ops {
            let login = |client: u8| logins[usize::from(client) % logins.len()].clone();
            // Old nonces are part of the game, so answers are not looked at.
            match op {
                Op::Garbage(client, bytes) => drop(lab.input(login(client).from, &bytes)),
                Op::Allocate(client) => {
                    let request = lab.allocate_request();
                    lab.input(login(client).from, &Lab::sign(&login(client), request));
                }
                Op::Refresh(client, lifetime) => {
                    let request = lab.builder(METHOD_REFRESH).attribute(ATTR_LIFETIME, &lifetime.to_be_bytes());
                    lab.input(login(client).from, &Lab::sign(&login(client), request));
                }
                Op::Permit(client, p) => {
                    let request = lab.builder(METHOD_CREATE_PERMISSION).xor_address(ATTR_XOR_PEER_ADDRESS, peer(p));
                    lab.input(login(client).from, &Lab::sign(&login(client), request));
                }
                Op::Bind(client, number, p) => {
                    let [high, low] = number.to_be_bytes();
                    let request = lab
                        .builder(METHOD_CHANNEL_BIND)
                        .attribute(ATTR_CHANNEL_NUMBER, &[high, low, 0, 0])
                        .xor_address(ATTR_XOR_PEER_ADDRESS, peer(p));
                    lab.input(login(client).from, &Lab::sign(&login(client), request));
                }
                Op::Channel(client, number, length) => {
                    let packet = channel(number, &vec![0; usize::from(length)]);
                    lab.input(login(client).from, &packet);
                }
                Op::Relayed(which, bytes) => {
                    if let Some(id) = lab.sockets.get(usize::from(which) % 4).copied() {
                        lab.relay.handle_relayed_input(lab.now, id, peer(which), &bytes);
                        lab.drain();
                    }
                }
                Op::Pass(seconds) => {
                    lab.pass(seconds.into());
                    lab.drain();
                }
            }
            let relay = &lab.relay;
            prop_assert!(relay.slots.len() <= 4);
            prop_assert_eq!(relay.by_client.len(), relay.slots.len());
            prop_assert_eq!(relay.by_relayed.len(), relay.slots.len());
            prop_assert_eq!(lab.sockets.len(), relay.slots.len());
            prop_assert_eq!(relay.counters.allocations_live, relay.slots.len() as u64);
            prop_assert_eq!(relay.by_source.values().sum::<u32>() as usize, relay.slots.len());
            prop_assert!(relay.deadlines.len() <= relay.slots.len() + relay.counters.allocations_closed as usize);
            for id in &lab.sockets {
                let (permissions, channels) = relay.live(*id).unwrap().sizes();
                prop_assert!(permissions <= 3 && channels <= 2);
            }
            prop_assert!(relay.transmits.is_empty() && relay.events.is_empty());
        }
        lab.pass(4000);
        lab.drain();
        prop_assert!(lab.relay.slots.is_empty() && lab.relay.deadlines.is_empty());
    }
}
