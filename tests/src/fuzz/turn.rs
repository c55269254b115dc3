//! A relay and two of its clients, with a script that feeds garbage to all, spoils their packets on the way and
//! lets time pass. Credentials are real, so the script gets behind them.

use std::{
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use ahoy_nat::{
    supernode::relay::{
        AllocationId, Relay, RelayConfig, RelayEvent, Via, credentials::CredentialOwner,
    },
    turn::{TurnClient, TurnConfig, TurnEvent},
};

/// Where virtual time begins.
pub(super) fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of virtual time"
    )]
    *ORIGIN.get_or_init(Instant::now)
}

/// Fuzz input read as a list of operations.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next operation and its argument.
    pub(super) fn op(&mut self) -> Option<(u8, u16)> {
        let (head, rest) = self.0.split_first_chunk::<3>()?;
        self.0 = rest;
        let [op, high, low] = *head;
        Some((op, u16::from_be_bytes([high, low])))
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*head))
    }

    /// Up to `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// Longest list of operations: each is cheap, together they shall be.
const MAX_OPERATIONS: usize = 64;
/// Packets that may follow from one operation.
const MAX_PACKETS: usize = 256;

struct Side {
    addr: SocketAddr,
    client: TurnClient,
    relayed: Option<SocketAddr>,
}

struct Lab {
    now: Instant,
    relay: Relay,
    server: SocketAddr,
    sides: [Side; 2],
    sockets: Vec<AllocationId>,
    next_port: u16,
    /// Spoils the next packet of this direction (0 to the relay, 1 from it) at this byte.
    spoil: Option<(u8, u16)>,
}

impl Lab {
    fn new() -> Self {
        let now = origin();
        let server = SocketAddr::from(([203, 0, 113, 1], 3478));
        let mut relay = Relay::new(now, RelayConfig::new("ahoy", &[server.ip()]), [3; 32]);
        let sides = [1u8, 2].map(|n| {
            let addr = SocketAddr::from(([198, 51, 100, n], 1000));
            let owner = CredentialOwner::Device([n; 32]);
            let credentials = relay
                .issue_credentials(now, owner, addr.ip())
                .expect("the table is empty");
            Side {
                addr,
                client: TurnClient::new(now, TurnConfig::new(server, credentials), [n; 32]),
                relayed: None,
            }
        });
        Self {
            now,
            relay,
            server,
            sides,
            sockets: Vec::new(),
            next_port: 50_000,
            spoil: None,
        }
    }

    fn spoiled(&mut self, direction: u8, mut packet: Vec<u8>) -> Vec<u8> {
        if let Some((_, at)) = self.spoil.take_if(|(of, _)| *of == direction) {
            let len = packet.len().max(1);
            if let Some(byte) = packet.get_mut(usize::from(at) % len) {
                *byte ^= 1 << (at % 8);
            }
        }
        packet
    }

    /// Carries packets and events until nothing is left.
    fn settle(&mut self) {
        for _ in 0..MAX_PACKETS {
            let mut idle = true;
            for n in 0..self.sides.len() {
                while let Some(packet) = self.sides[n].client.poll_transmit() {
                    idle = false;
                    let packet = self.spoiled(0, packet);
                    let from = self.sides[n].addr;
                    self.relay.handle_input(self.now, from, None, &packet);
                }
                while let Some(event) = self.sides[n].client.poll_event() {
                    if let TurnEvent::Allocated { relayed, .. } = event {
                        self.sides[n].relayed = Some(relayed);
                    }
                }
            }
            while let Some(transmit) = self.relay.poll_transmit() {
                idle = false;
                let packet = self.spoiled(1, transmit.contents);
                if let Via::Port(_) = transmit.via
                    && let Some(side) = self.sides.iter_mut().find(|side| side.addr == transmit.to)
                {
                    side.client.handle_input(self.now, self.server, &packet);
                }
            }
            while let Some(event) = self.relay.poll_event() {
                idle = false;
                match event {
                    RelayEvent::OpenRelay {
                        allocation, even, ..
                    } => {
                        self.next_port += if even { self.next_port % 2 + 2 } else { 1 };
                        self.sockets.push(allocation);
                        let port = Some(self.next_port);
                        self.relay.handle_relay_opened(self.now, allocation, port);
                    }
                    RelayEvent::CloseRelay { allocation } => {
                        self.sockets.retain(|id| *id != allocation);
                    }
                    RelayEvent::ClientAdded { .. } | RelayEvent::ClientRemoved { .. } => {}
                }
            }
            if idle {
                return;
            }
        }
        panic!("relay and clients never come to rest");
    }

    fn step(&mut self, op: u8, arg: u16, script: &mut Script<'_>) {
        let n = usize::from(op >> 7);
        let peer = match (arg % 4, self.sides[1 - n].relayed) {
            (0, Some(relayed)) => relayed,
            (1, _) => SocketAddr::new(self.server.ip(), arg),
            _ => SocketAddr::from(([192, 0, 2, 1], arg)),
        };
        match op & 0x7f {
            0 => {
                self.now += Duration::from_millis(u64::from(arg) * 20);
                self.relay.handle_timeout(self.now);
                for side in &mut self.sides {
                    side.client.handle_timeout(self.now);
                }
            }
            1 => {
                let packet = script.bytes(usize::from(arg));
                let from = self.sides[n].addr;
                self.relay.handle_input(self.now, from, None, packet);
            }
            2 => {
                let packet = script.bytes(usize::from(arg));
                let server = self.server;
                self.sides[n].client.handle_input(self.now, server, packet);
            }
            3 => drop(self.sides[n].client.bind_peer(self.now, peer)),
            4 => self.sides[n].client.release_peer(peer),
            5 => self.spoil = Some((0, arg)),
            6 => self.spoil = Some((1, arg)),
            7 => {
                let payload = script.bytes(usize::from(arg) % 2000);
                if let Some(id) = self.sockets.get(n).copied() {
                    self.relay.handle_relayed_input(self.now, id, peer, payload);
                }
            }
            8 => {
                let mut packet = vec![0x40, (arg % 128).to_be_bytes()[1]];
                let data = script.bytes(usize::from(arg >> 8));
                packet.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
                packet.extend(data);
                let from = self.sides[n].addr;
                self.relay.handle_input(self.now, from, None, &packet);
            }
            9 => self.sides[n].client.probe(self.now),
            10 => self.sides[n].client.close(self.now),
            _ => {
                if let Some(id) = self.sockets.get(n).copied() {
                    self.relay.handle_relay_failed(id);
                }
            }
        }
    }
}

/// Relay and clients under a script.
pub fn turn(bytes: &[u8]) {
    relayed_by(bytes);
}

/// Runs a script; returns how many packets were relayed to a client.
pub(super) fn relayed_by(bytes: &[u8]) -> u64 {
    let mut lab = Lab::new();
    lab.settle();
    let mut script = Script::new(bytes);
    for _ in 0..MAX_OPERATIONS {
        let Some((op, arg)) = script.op() else { break };
        lab.step(op, arg, &mut script);
        lab.settle();
        let live = lab.relay.counters().allocations_live;
        assert!(live <= 2, "one for each client's port");
        assert_eq!(live, lab.sockets.len() as u64, "each has its socket");
        for due in [lab.relay.poll_timeout()]
            .into_iter()
            .chain(lab.sides.iter().map(|side| side.client.poll_timeout()))
            .flatten()
        {
            assert!(
                due <= lab.now + Duration::from_secs(2 * 3600),
                "a deadline in sight"
            );
        }
    }
    lab.relay.counters().traffic.packets_to_client
}
