//! The side that opens holes.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use ahoy_transport::mux::canonical;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::{
    Guess, HOLES, MAX_HARD_FLOWS, REFRESH_EVERY, SEND_GAP, SPRAY_FOR, SprayCost, SprayKeys,
    SpraySide,
    wire::{Heard, Voice, observed, question},
};

/// Sockets that ask the STUN server.
const OBSERVERS: u16 = 2;
/// When a question is asked, counted from its first time.
const ASKED_AT: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(750),
];
/// How often, and with which gaps, the hole that was met says so: one response may be lost.
const CONFIRMATIONS: u32 = 5;
const CONFIRM_GAP: Duration = Duration::from_millis(100);

const _: () = assert!(HOLES as u64 + 2 * OBSERVERS as u64 <= MAX_HARD_FLOWS);

/// What the hard side knows at the start.
#[derive(Debug, Clone)]
pub struct HardPlan {
    /// The easy side's outside address.
    pub target: SocketAddr,
    /// A STUN server of the same family that tells fresh sockets' outside ports, if there is one.
    pub server: Option<SocketAddr>,
    /// The inside port of the first socket; each further one has the next.
    pub first_port: u16,
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardTransmit {
    /// From which socket, counted from 0; below [`HOLES`]. New ones come in order.
    pub socket: u16,
    /// Where to.
    pub to: SocketAddr,
    /// One datagram.
    pub contents: Vec<u8>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardEvent {
    /// The other side should try these first.
    Guess(Guess),
    /// The hole of this socket was met. It comes once.
    Hit {
        /// Counted from 0.
        socket: u16,
    },
    /// The budget is spent. It comes once.
    Spent,
}

#[derive(Debug)]
struct Observer {
    id: [u8; 12],
    inside: Option<u16>,
    outside: Option<u16>,
    /// How often the server was asked.
    asked: usize,
    first_asked: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Searching,
    Met { socket: u16, confirmed: u32 },
    Done,
}

/// The hard side's run, without sockets or clock.
#[derive(Debug)]
pub struct Hard {
    voice: Voice,
    plan: HardPlan,
    ends: Instant,
    state: State,
    /// When the next packet may leave.
    next: Instant,
    /// Holes so far, and the one that sends next once all are open.
    opened: u16,
    again: u16,
    observers: Vec<Observer>,
    guessed: bool,
    cost: SprayCost,
    transmits: VecDeque<HardTransmit>,
    events: VecDeque<HardEvent>,
}

impl Hard {
    /// Begins at `now`.
    #[must_use]
    pub fn new(now: Instant, keys: SprayKeys, plan: HardPlan, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let observer = |_| {
            let mut id = [0; 12];
            rng.fill_bytes(&mut id);
            Observer {
                id,
                inside: None,
                outside: None,
                asked: 0,
                first_asked: None,
            }
        };
        let observers = match plan.server {
            Some(_) => (0..OBSERVERS).map(observer).collect(),
            None => Vec::new(),
        };
        Self {
            voice: Voice::new(keys, SpraySide::Hard),
            plan,
            ends: now + SPRAY_FOR,
            state: State::Searching,
            next: now,
            opened: 0,
            again: 0,
            observers,
            guessed: false,
            cost: SprayCost::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The inside port that a socket came to have.
    pub fn note_port(&mut self, socket: u16, port: u16) {
        if let Some(observer) = self.observers.get_mut(usize::from(socket)) {
            observer.inside = Some(port);
        }
    }

    /// A packet came to a socket. Returns false for packets of others.
    pub fn handle_input(
        &mut self,
        now: Instant,
        socket: u16,
        from: SocketAddr,
        packet: &[u8],
    ) -> bool {
        let from = canonical(from);
        if Some(from) == self.plan.server {
            return self.handle_observed(socket, packet);
        }
        if from != self.plan.target || self.state != State::Searching {
            return false;
        }
        match self.voice.hear(from, packet) {
            Some(Heard::Request { response }) => self.send(socket, from, response),
            Some(Heard::Response { which }) if which == socket => {}
            Some(Heard::Response { .. }) | None => return false,
        }
        self.state = State::Met {
            socket,
            confirmed: 0,
        };
        self.next = now;
        self.events.push_back(HardEvent::Hit { socket });
        true
    }

    fn handle_observed(&mut self, socket: u16, packet: &[u8]) -> bool {
        let Some(observer) = self.observers.get_mut(usize::from(socket)) else {
            return false;
        };
        let Some(outside) = observed(observer.id, packet) else {
            return false;
        };
        observer.outside = Some(outside.port());
        let seen: Vec<(u16, u16)> = self
            .observers
            .iter()
            .filter_map(|observer| Some((observer.inside?, observer.outside?)))
            .collect();
        if let [first, second] = seen.as_slice()
            && !self.guessed
            && self.state == State::Searching
        {
            self.guessed = true;
            let guess = Guess::from_observed(self.plan.first_port, [*first, *second]);
            self.events.extend(guess.map(HardEvent::Guess));
        }
        true
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Done => {}
            State::Searching if now >= self.ends => {
                self.state = State::Done;
                self.events.push_back(HardEvent::Spent);
            }
            // One packet per look: late is late, and never makes two at once.
            State::Searching if now >= self.next => {
                self.search(now);
            }
            State::Met { socket, confirmed } if now >= self.next => {
                self.state = if confirmed + 1 >= CONFIRMATIONS {
                    State::Done
                } else {
                    State::Met {
                        socket,
                        confirmed: confirmed + 1,
                    }
                };
                self.next = now + CONFIRM_GAP;
                let request = self.voice.request(socket);
                self.send(socket, self.plan.target, request);
            }
            State::Searching | State::Met { .. } => {}
        }
    }

    fn search(&mut self, now: Instant) {
        self.next = now + SEND_GAP;
        if self.ask(now) {
            return;
        }
        let socket = if self.opened < HOLES {
            let socket = self.opened;
            self.opened += 1;
            self.cost.flows += 1;
            socket
        } else {
            let socket = self.again;
            self.again = (socket + 1) % HOLES;
            socket
        };
        if self.opened == HOLES {
            self.next = now + SEND_GAP.max(REFRESH_EVERY / u32::from(HOLES));
        }
        let request = self.voice.request(socket);
        self.send(socket, self.plan.target, request);
    }

    /// Asks the server for one more socket, or again, if that is due.
    fn ask(&mut self, now: Instant) -> bool {
        let Some(server) = self.plan.server else {
            return false;
        };
        let is_due = |observer: &Observer| {
            let first = observer.first_asked.unwrap_or(now);
            let at = ASKED_AT.get(observer.asked);
            observer.outside.is_none() && at.is_some_and(|at| now >= first + *at)
        };
        let Some(socket) = self.observers.iter().position(is_due) else {
            return false;
        };
        let (Some(observer), Ok(number)) = (self.observers.get_mut(socket), u16::try_from(socket))
        else {
            return false;
        };
        if observer.asked == 0 {
            self.cost.flows += 1;
        }
        observer.asked += 1;
        observer.first_asked.get_or_insert(now);
        let question = question(observer.id);
        self.send(number, server, question);
        true
    }

    fn send(&mut self, socket: u16, to: SocketAddr, contents: Vec<u8>) {
        self.cost.packets += 1;
        self.transmits.push_back(HardTransmit {
            socket,
            to,
            contents,
        });
    }

    /// When [`Self::handle_timeout`] has work next; never again once all is done.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Searching => Some(self.next.min(self.ends)),
            State::Met { .. } => Some(self.next),
            State::Done => None,
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<HardTransmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<HardEvent> {
        self.events.pop_front()
    }

    /// What was spent so far.
    #[must_use]
    pub fn cost(&self) -> SprayCost {
        self.cost
    }
}
