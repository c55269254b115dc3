//! A call goes on through a relay that others abuse: real packets over real sockets, and what they cost.
//!
//! Every source has an address of its own in 127.0.0.0/8, which is this machine's as a whole: for a relay each of them
//! is a stranger from elsewhere.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and tell its figures"
)]

mod common;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    port::{PortHub, RawPort, UdpPort},
    supernode::relay::{
        RelayConfig,
        counters::Drop,
        credentials::{CredentialOwner, TurnCredentials},
        server::{RelayServer, RelayServerConfig},
    },
    turn::{
        TurnConfig,
        allocation::{RelayBinding, TurnAllocation},
    },
};
use ahoy_transport::runtime::{Runtime, TokioRuntime};
use common::{Data, LOOPBACK, TappedPort, channel};
use rtc_stun::{
    attributes::{
        ATTR_ERROR_CODE, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_TRANSPORT, ATTR_USERNAME,
    },
    crypto::providers::RingCrypto,
    integrity::MessageIntegrity,
    message::{
        CLASS_REQUEST, METHOD_ALLOCATE, METHOD_BINDING, Message, MessageType, Method, Setter,
        TransactionId,
    },
};

/// Packets of each kind of abuse.
const FLOOD: u32 = 20_000;
/// A packet of the call for so many of the flood: at a million packets a minute, fifty a second.
const PER_CALL_PACKET: u32 = 100;
/// Most that the process, with attackers and victims in it, may grow: sockets' own buffers and the allocator's slack.
const MEMORY_KIB: u64 = 8 * 1024;

/// Memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let figure = line.unwrap().split_whitespace().nth(1).unwrap();
    figure.parse().unwrap()
}

/// Two who talk through the relay that is abused.
struct Call {
    server: RelayServer,
    _hubs: Vec<Arc<PortHub>>,
    addr: SocketAddr,
    ports: [Arc<dyn RawPort>; 2],
    data: [Data; 2],
    routes: [RelayBinding; 2],
    _allocations: [TurnAllocation; 2],
    said: u32,
}

impl Call {
    async fn new(change: impl FnOnce(&mut RelayConfig)) -> Self {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let port = UdpPort::new(runtime.bind_udp(LOOPBACK).unwrap()).await;
        let port = Arc::new(port.unwrap());
        let addr = port.local_addr();
        let hub = PortHub::start(&*runtime, port);
        let mut relay = RelayConfig::new("ahoy", &[addr.ip()]);
        change(&mut relay);
        let config = RelayServerConfig::new(relay);
        let server = RelayServer::start(Arc::clone(&runtime), &hub, config).unwrap();
        let mut hubs = vec![hub];
        let mut ends = Vec::new();
        for owner in [1, 2] {
            let (port, data) = TappedPort::bind(&*runtime).await;
            let hub = PortHub::start(&*runtime, Arc::clone(&port));
            let owner = CredentialOwner::Device([owner; 32]);
            let credentials = server.issue_credentials(owner, port.local_addr().ip());
            let config = TurnConfig::new(addr, credentials.unwrap());
            let allocation = TurnAllocation::allocate(Arc::clone(&runtime), &hub, config).await;
            hubs.push(hub);
            ends.push((port, data, allocation.unwrap()));
        }
        let [a, b] = <[_; 2]>::try_from(ends).ok().unwrap();
        let there = a.2.bind_peer(b.2.relayed_addr()).await.unwrap();
        let back = b.2.bind_peer(a.2.relayed_addr()).await.unwrap();
        Self {
            server,
            _hubs: hubs,
            addr,
            ports: [a.0, b.0],
            data: [a.1, b.1],
            routes: [there, back],
            _allocations: [a.2, b.2],
            said: 0,
        }
    }

    /// A packet each way, waited for: the relay has by then seen all that was sent to it before.
    async fn speak(&mut self) {
        self.said += 1;
        for (from, to) in [(0, 1), (1, 0)] {
            let words = self.said.to_be_bytes();
            let (out, back) = (&self.routes[from], &self.routes[to]);
            self.ports[from].send(self.addr, None, &channel(out.channel, &words));
            let heard = self.data[to].next().await;
            assert_eq!(heard, channel(back.channel, &words), "no word is lost");
        }
    }

    /// The flood `attack` beside the call; how much memory came to it.
    async fn bear(&mut self, what: &str, mut attack: impl FnMut(u32)) -> u64 {
        self.speak().await;
        let before = resident_kib();
        for n in 0..FLOOD {
            attack(n);
            if n % PER_CALL_PACKET == 0 {
                self.speak().await;
            }
        }
        self.speak().await;
        let grown = resident_kib().saturating_sub(before);
        let counters = self.server.counters();
        eprintln!(
            "{what}: {FLOOD} packets, memory + {grown} KiB, {} allocations live, the call heard {} of {} words; \
             dropped in all {}",
            counters.allocations_live,
            2 * self.said,
            2 * self.said,
            counters.dropped_total()
        );
        grown
    }
}

/// Somebody at an address of their own.
fn stranger(n: u32) -> UdpSocket {
    let ip = Ipv4Addr::from_bits(0x7f01_0000 + n);
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn request(n: u32, method: Method) -> Message {
    let mut message = Message::new();
    message.transaction_id = TransactionId([7; 12]);
    message.transaction_id.0[..4].copy_from_slice(&n.to_be_bytes());
    message.set_type(MessageType::new(method, CLASS_REQUEST));
    message.write_header();
    if method == METHOD_ALLOCATE {
        message.add(ATTR_REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    }
    message
}

fn signed(n: u32, credentials: &TurnCredentials) -> Vec<u8> {
    let mut message = request(n, METHOD_ALLOCATE);
    message.add(ATTR_USERNAME, credentials.username.as_bytes());
    message.add(ATTR_REALM, credentials.realm.as_bytes());
    message.add(ATTR_NONCE, credentials.nonce.as_bytes());
    let integrity = MessageIntegrity::new_long_term_integrity_with_provider(
        credentials.username.clone(),
        credentials.realm.clone(),
        credentials.password.clone(),
        &RingCrypto,
    );
    integrity.unwrap().add_to(&mut message).unwrap();
    message.raw
}

/// The error codes among what came back so far; 0 for success.
fn answers(socket: &UdpSocket) -> Vec<u16> {
    let mut buffer = [0; 2048];
    let mut codes = Vec::new();
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let mut answer = Message::new();
                answer.unmarshal_binary(&buffer[..length]).unwrap();
                let code = answer.get(ATTR_ERROR_CODE);
                codes.push(code.map_or(0, |code| u16::from(code[2]) * 100 + u16::from(code[3])));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return codes,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn allocation_floods_from_many_sources_leave_memory_and_the_call_alone() {
    let mut call = Call::new(|_| {}).await;
    let strangers: Vec<UdpSocket> = (0..500).map(stranger).collect();
    let to = call.addr;
    let packets: Vec<Vec<u8>> = (0..500).map(|n| request(n, METHOD_ALLOCATE).raw).collect();
    let at = |n: u32| n as usize % strangers.len();
    let grown = call
        .bear("requests without credentials", |n| {
            strangers[at(n)]
                .send_to(&packets[at(n)], to)
                .map(drop)
                .unwrap_or(());
        })
        .await;
    assert!(grown < MEMORY_KIB, "{grown} KiB");
    assert_eq!(call.server.counters().allocations_live, 2);
    assert!(
        strangers
            .iter()
            .all(|socket| answers(socket).iter().all(|code| *code == 401))
    );
}

#[tokio::test]
async fn one_credential_in_many_hands_gets_its_quota_and_no_more() {
    let mut call = Call::new(|_| {}).await;
    let owner = CredentialOwner::Device([9; 32]);
    let thief = stranger(0);
    let ip = thief.local_addr().unwrap().ip();
    let credentials = call.server.issue_credentials(owner, ip).unwrap();
    let hands: Vec<UdpSocket> = (0..500)
        .map(|_| {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    let to = call.addr;
    let packets: Vec<Vec<u8>> = (0..500).map(|n| signed(n, &credentials)).collect();
    let at = |n: u32| n as usize % hands.len();
    let grown = call
        .bear("one credential, 500 ports", |n| {
            hands[at(n)]
                .send_to(&packets[at(n)], to)
                .map(drop)
                .unwrap_or(());
        })
        .await;
    assert!(grown < MEMORY_KIB, "{grown} KiB");
    let codes: Vec<u16> = hands.iter().flat_map(answers).collect();
    let holders = hands.len() as u64;
    let live = call.server.counters().allocations_live - 2;
    eprintln!("{live} allocations for {holders} ports");
    assert_eq!(live, 8, "the quota of one credential");
    assert!(
        codes.iter().all(|code| [0, 486].contains(code)),
        "{codes:?}"
    );
    assert!(codes.contains(&486));
}

#[tokio::test]
async fn forged_credentials_and_channel_data_of_others_get_nowhere() {
    let mut call = Call::new(|_| {}).await;
    let owner = CredentialOwner::Device([9; 32]);
    let strangers: Vec<UdpSocket> = (0..500).map(stranger).collect();
    let ip = strangers[0].local_addr().unwrap().ip();
    let mut credentials = call.server.issue_credentials(owner, ip).unwrap();
    credentials.password.push('x');
    let forged: Vec<Vec<u8>> = (0..500).map(|n| signed(n, &credentials)).collect();
    let spoofed = channel(call.routes[0].channel, b"not from a party of the call");
    let to = call.addr;
    let at = |n: u32| n as usize % strangers.len();
    let live = call.server.counters().allocations_live;
    let grown = call
        .bear("forged signatures and foreign channels", |n| {
            let packet = if n % 2 == 0 { &forged[at(n)] } else { &spoofed };
            strangers[at(n)].send_to(packet, to).map(drop).unwrap_or(());
        })
        .await;
    assert!(grown < MEMORY_KIB, "{grown} KiB");
    let counters = call.server.counters();
    assert_eq!(counters.allocations_live, live);
    assert!(counters.dropped(Drop::NoAllocation) > 0);
    let codes = strangers.iter().flat_map(answers);
    assert!(codes.into_iter().all(|code| [401, 438].contains(&code)));
}

#[tokio::test]
async fn a_binding_flood_is_answered_within_the_limit_of_each_source() {
    let mut call = Call::new(|config| {
        config.limits.unauthenticated_replies_per_second = 5;
    })
    .await;
    let stranger = stranger(1);
    let packet = request(1, METHOD_BINDING).raw;
    let to = call.addr;
    let runtime = TokioRuntime;
    let began = quinn::Runtime::now(&runtime);
    let mut codes = Vec::new();
    call.bear("bindings of one source", |n| {
        stranger.send_to(&packet, to).map(drop).unwrap_or(());
        if n % 100 == 0 {
            codes.extend(answers(&stranger));
        }
    })
    .await;
    codes.extend(answers(&stranger));
    let lasted = quinn::Runtime::now(&runtime) - began;
    let allowed = 10 + 5 * (lasted + Duration::from_secs(1)).as_secs();
    eprintln!("{} answers in {lasted:?}, {allowed} allowed", codes.len());
    assert!(codes.len() as u64 <= allowed);
    assert!(call.server.counters().dropped(Drop::ReplyLimit) > 0);
}
