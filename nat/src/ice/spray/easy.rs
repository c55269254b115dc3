//! The side that tries ports.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use ahoy_transport::mux::canonical;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::{
    FIRST_PORT, Guess, MAX_GUESSES, MAX_PROBES, SEND_GAP, SPRAY_FOR, SprayCost, SprayKeys,
    SpraySide,
    wire::{Heard, Voice},
};

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EasyTransmit {
    /// Where to.
    pub to: SocketAddr,
    /// One datagram.
    pub contents: Vec<u8>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EasyEvent {
    /// A hole was met. It comes once.
    Hit {
        /// The hard side's outside address towards us.
        remote: SocketAddr,
    },
    /// The budget is spent. It comes once.
    Spent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Searching,
    Met(SocketAddr),
    Done,
}

/// The easy side's run, without sockets or clock.
#[derive(Debug)]
pub struct Easy {
    voice: Voice,
    ip: IpAddr,
    rng: ChaCha20Rng,
    ends: Instant,
    next: Instant,
    state: State,
    /// Likely ports that were not tried yet.
    likely: VecDeque<u16>,
    /// A bit for each port that was tried.
    tried: Vec<u64>,
    cost: SprayCost,
    transmits: VecDeque<EasyTransmit>,
    events: VecDeque<EasyEvent>,
}

impl Easy {
    /// Begins at `now`; the hard side's outside address is `ip`.
    #[must_use]
    pub fn new(now: Instant, keys: SprayKeys, ip: IpAddr, seed: [u8; 32]) -> Self {
        Self {
            voice: Voice::new(keys, SpraySide::Easy),
            ip: ip.to_canonical(),
            rng: ChaCha20Rng::from_seed(seed),
            ends: now + SPRAY_FOR,
            next: now,
            state: State::Searching,
            likely: VecDeque::new(),
            tried: vec![0; 1 << 10],
            cost: SprayCost::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The hard side thinks that its holes are there: at most [`MAX_GUESSES`] of these ports are next.
    pub fn guess(&mut self, guess: Guess) {
        let (first, last) = (guess.first.max(FIRST_PORT), guess.last());
        if first > last {
            return;
        }
        let range = first..=last;
        // Of a long list some, spread evenly.
        let stride = range.len().div_ceil(MAX_GUESSES).max(1);
        self.likely = range.step_by(stride).collect();
    }

    fn is_tried(&self, port: u16) -> bool {
        let word = self.tried.get(usize::from(port >> 6));
        word.is_none_or(|word| word & (1 << (port & 63)) != 0)
    }

    /// The next port, none of them twice.
    fn pick(&mut self) -> u16 {
        while let Some(port) = self.likely.pop_front() {
            if !self.is_tried(port) {
                return port;
            }
        }
        let range = u32::from(u16::MAX - FIRST_PORT) + 1;
        loop {
            // Scaled down from 32 bits: no port is likelier by more than 1 in 65 536.
            let drawn = (u64::from(self.rng.next_u32()) * u64::from(range)) >> 32;
            let port = FIRST_PORT.saturating_add(u16::try_from(drawn).unwrap_or(0));
            // Of 64512 at most 1400 are tried: this ends.
            if !self.is_tried(port) {
                return port;
            }
        }
    }

    /// A packet came to the port. Returns false for packets of others.
    pub fn handle_input(&mut self, from: SocketAddr, packet: &[u8]) -> bool {
        let from = canonical(from);
        if from.ip() != self.ip {
            return false;
        }
        match self.voice.hear(from, packet) {
            Some(Heard::Request { response }) => {
                let answers = match self.state {
                    State::Searching => true,
                    State::Met(met) => met == from,
                    State::Done => false,
                };
                if answers {
                    self.send(from, response);
                }
            }
            Some(Heard::Response { which }) if which == from.port() => {}
            Some(Heard::Response { .. }) | None => return false,
        }
        if self.state == State::Searching {
            self.state = State::Met(from);
            self.events.push_back(EasyEvent::Hit { remote: from });
        }
        true
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state == State::Done {
            return;
        }
        if now >= self.ends {
            if self.state == State::Searching {
                self.events.push_back(EasyEvent::Spent);
            }
            self.state = State::Done;
            return;
        }
        // One packet per look: late is late, and never makes two at once.
        if self.state == State::Searching && now >= self.next && self.cost.flows < MAX_PROBES {
            self.next = now + SEND_GAP;
            let port = self.pick();
            if let Some(word) = self.tried.get_mut(usize::from(port >> 6)) {
                *word |= 1 << (port & 63);
            }
            self.cost.flows += 1;
            let request = self.voice.request(port);
            self.send(SocketAddr::new(self.ip, port), request);
        }
    }

    fn send(&mut self, to: SocketAddr, contents: Vec<u8>) {
        self.cost.packets += 1;
        self.transmits.push_back(EasyTransmit { to, contents });
    }

    /// When [`Self::handle_timeout`] has work next; never again once all is done.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Searching if self.cost.flows < MAX_PROBES => Some(self.next.min(self.ends)),
            State::Searching | State::Met(_) => Some(self.ends),
            State::Done => None,
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<EasyTransmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<EasyEvent> {
        self.events.pop_front()
    }

    /// What was spent so far.
    #[must_use]
    pub fn cost(&self) -> SprayCost {
        self.cost
    }
}
