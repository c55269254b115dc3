#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rtc_stun::{
    attributes::ATTR_XORMAPPED_ADDRESS,
    message::{CLASS_SUCCESS_RESPONSE, METHOD_BINDING},
};

use super::{
    wire::{Heard, Voice},
    *,
};
use crate::stun::{Builder, Stun};

const SECRET: [u8; 32] = [7; 32];
const INSIDE: u16 = 40_000;

fn origin() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of virtual time"
    )]
    let origin = Instant::now();
    origin
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// How the hard side's NAT picks outside ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    Random,
    /// One after the other; others behind it take every third.
    Counted,
    /// The inside port as long as it is free.
    Kept,
    /// Any of this customer's 1024.
    Block,
}

/// Both NATs and the way between them, in virtual time.
struct World {
    rng: ChaCha20Rng,
    ports: Ports,
    loss_percent: u32,
    one_way: Duration,
    next_port: u16,
    block: u16,
    /// Of the hard side: by socket and destination, and back.
    mappings: BTreeMap<(u16, SocketAddr), u16>,
    outside: BTreeMap<u16, (u16, SocketAddr)>,
    /// Who may send to the easy side.
    let_in: BTreeSet<SocketAddr>,
    /// On their way: when, from, to, what.
    flying: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
}

const HARD_IP: &str = "198.51.100.1:0";
const EASY: &str = "203.0.113.9:9";
const SERVER: &str = "192.0.2.1:3478";

impl World {
    fn new(seed: u64, ports: Ports, loss_percent: u32) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let block = 1024 * (1 + u16::try_from(rng.next_u32() % 63).unwrap());
        Self {
            next_port: 20_000,
            block,
            rng,
            ports,
            loss_percent,
            one_way: Duration::from_millis(40),
            mappings: BTreeMap::new(),
            outside: BTreeMap::new(),
            let_in: BTreeSet::new(),
            flying: VecDeque::new(),
        }
    }

    fn draw(&mut self, socket: u16) -> u16 {
        match self.ports {
            Ports::Random => 1024 + u16::try_from(self.rng.next_u32() % 64_512).unwrap(),
            Ports::Block => self.block + u16::try_from(self.rng.next_u32() % 1024).unwrap(),
            Ports::Counted => {
                self.next_port += if self.next_port.is_multiple_of(3) {
                    2
                } else {
                    1
                };
                self.next_port
            }
            Ports::Kept if self.outside.contains_key(&(INSIDE + socket)) => {
                50_000 + u16::try_from(self.rng.next_u32() % 10_000).unwrap()
            }
            Ports::Kept => INSIDE + socket,
        }
    }

    fn fly(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.rng.next_u32() % 100 >= self.loss_percent {
            self.flying.push_back((now + self.one_way, from, to, bytes));
        }
    }

    fn send_hard(&mut self, now: Instant, sent: HardTransmit) {
        let key = (sent.socket, sent.to);
        let port = match self.mappings.get(&key) {
            Some(port) => *port,
            None => {
                let port = loop {
                    let port = self.draw(sent.socket);
                    if !self.outside.contains_key(&port) {
                        break port;
                    }
                };
                self.mappings.insert(key, port);
                self.outside.insert(port, key);
                port
            }
        };
        let from = SocketAddr::new(at(HARD_IP).ip(), port);
        self.fly(now, from, sent.to, sent.contents);
    }

    fn send_easy(&mut self, now: Instant, sent: EasyTransmit) {
        self.let_in.insert(sent.to);
        self.fly(now, at(EASY), sent.to, sent.contents);
    }

    /// What arrives by `now`.
    fn land(&mut self, now: Instant, hard: &mut Hard, easy: &mut Easy) {
        while let Some((when, from, to, bytes)) = self.flying.front().cloned()
            && when <= now
        {
            self.flying.pop_front();
            if to == at(SERVER) {
                let asked = Stun::parse(&bytes).unwrap();
                let answer =
                    Builder::new(METHOD_BINDING, CLASS_SUCCESS_RESPONSE, asked.transaction())
                        .xor_address(ATTR_XORMAPPED_ADDRESS, from)
                        .finish(None, false);
                self.fly(now, to, from, answer);
            } else if to == at(EASY) {
                if self.let_in.contains(&from) {
                    easy.handle_input(from, &bytes);
                }
            } else if let Some((socket, towards)) = self.outside.get(&to.port())
                && *towards == from
            {
                hard.handle_input(now, *socket, from, &bytes);
            }
        }
    }
}

/// What came of a run.
#[derive(Debug)]
struct Ran {
    /// When both knew.
    met: Option<Duration>,
    hard: SprayCost,
    easy: SprayCost,
    /// Most packets of either side in any second.
    rate: usize,
    ended: Duration,
}

fn run(seed: u64, mut world: World) -> Ran {
    let start = origin();
    let keys = SprayKeys::derive(&SECRET, 3);
    let plan = HardPlan {
        target: at(EASY),
        server: Some(at(SERVER)),
        first_port: INSIDE,
    };
    let mut drawn = ChaCha20Rng::seed_from_u64(seed ^ 0x5eed);
    let mut seeds = [[0; 32]; 2];
    for seed in &mut seeds {
        drawn.fill_bytes(seed);
    }
    let mut hard = Hard::new(start, keys.clone(), plan, seeds[0]);
    for socket in 0..HOLES {
        hard.note_port(socket, INSIDE + socket);
    }
    // It begins when it is told.
    let begins = start + world.one_way;
    let mut easy = Easy::new(begins, keys, at(HARD_IP).ip(), seeds[1]);
    let (mut sent_hard, mut sent_easy) = (Vec::new(), Vec::new());
    let (mut hard_met, mut easy_met) = (None, None);
    let mut ended = start;
    loop {
        let landing = world.flying.front().map(|(when, ..)| *when);
        let next = [hard.poll_timeout(), easy.poll_timeout(), landing];
        let Some(now) = next.into_iter().flatten().min() else {
            break;
        };
        ended = now;
        world.land(now, &mut hard, &mut easy);
        if hard.poll_timeout().is_some_and(|due| due <= now) {
            hard.handle_timeout(now);
        }
        if easy.poll_timeout().is_some_and(|due| due <= now) {
            easy.handle_timeout(now);
        }
        while let Some(sent) = hard.poll_transmit() {
            sent_hard.push(now);
            world.send_hard(now, sent);
        }
        while let Some(sent) = easy.poll_transmit() {
            sent_easy.push(now);
            world.send_easy(now, sent);
        }
        while let Some(event) = hard.poll_event() {
            match event {
                HardEvent::Guess(guess) => easy.guess(guess),
                HardEvent::Hit { socket } => {
                    assert!(world.mappings.contains_key(&(socket, at(EASY))));
                    assert!(hard_met.replace(now).is_none(), "a second hit");
                }
                HardEvent::Spent => assert_eq!(now - start, SPRAY_FOR),
            }
        }
        while let Some(event) = easy.poll_event() {
            match event {
                EasyEvent::Hit { remote } => {
                    assert!(world.outside.contains_key(&remote.port()));
                    assert!(easy_met.replace(now).is_none(), "a second hit");
                }
                EasyEvent::Spent => assert_eq!(now - begins, SPRAY_FOR),
            }
        }
    }
    let rate = |sent: &[Instant]| {
        let in_second = |at: &Instant| {
            let last = *at + Duration::from_secs(1);
            sent.iter()
                .filter(|other| (*at..last).contains(other))
                .count()
        };
        sent.iter().map(in_second).max().unwrap_or(0)
    };
    assert_eq!(hard.cost().packets, sent_hard.len() as u64);
    assert_eq!(easy.cost().packets, sent_easy.len() as u64);
    assert_eq!(hard.cost().flows, world.mappings.len() as u64);
    assert_eq!(easy.cost().flows, world.let_in.len() as u64);
    Ran {
        met: hard_met
            .zip(easy_met)
            .map(|(hard, easy)| hard.max(easy) - start),
        hard: hard.cost(),
        easy: easy.cost(),
        rate: rate(&sent_hard).max(rate(&sent_easy)),
        ended: ended - start,
    }
}

/// A response or a few confirmations may stand beside the paced packets.
const BESIDE: usize = 6;

fn assert_within_budget(seed: u64, ran: &Ran) {
    assert!(ran.hard.flows <= MAX_HARD_FLOWS, "seed {seed}: {ran:?}");
    assert!(ran.easy.flows <= MAX_PROBES, "seed {seed}: {ran:?}");
    assert!(ran.rate <= 100 + BESIDE, "seed {seed}: {ran:?}");
    let most = SPRAY_FOR + Duration::from_secs(1);
    assert!(ran.ended <= most, "seed {seed}: {ran:?}");
}

#[test]
fn random_ports_are_met_nineteen_times_of_twenty_within_the_budget() {
    const SEEDS: u64 = 200;
    let (mut met, mut total, mut packets) = (0, Duration::ZERO, 0);
    for seed in 0..SEEDS {
        let ran = run(seed, World::new(seed, Ports::Random, 2));
        assert_within_budget(seed, &ran);
        packets += ran.hard.packets + ran.easy.packets;
        if let Some(after) = ran.met {
            met += 1;
            total += after;
        }
    }
    println!(
        "met {met} times of {SEEDS}, after {:?} and {} packets of both on average",
        total / met.max(1),
        packets / SEEDS
    );
    assert!(u64::from(met) * 20 >= SEEDS * 19, "met only {met} times");
}

#[test]
fn ports_that_follow_a_rule_are_met_at_once() {
    for ports in [Ports::Counted, Ports::Kept, Ports::Block] {
        for seed in 0..20 {
            let ran = run(seed, World::new(seed, ports, 0));
            assert_within_budget(seed, &ran);
            let after = ran.met.unwrap();
            println!("{ports:?}, seed {seed}: {after:?}, {:?}", ran.easy);
            // What is random among 1024 takes a few more, and looks random among all to one in four.
            let limit = if ports == Ports::Block { 4000 } else { 300 };
            assert!(
                after < Duration::from_millis(limit),
                "{ports:?}, seed {seed}: {after:?}"
            );
        }
    }
}

#[test]
fn a_lost_packet_does_not_cost_the_hole() {
    let met = (0..20).filter(|seed| {
        let ran = run(*seed, World::new(*seed, Ports::Random, 30));
        assert_within_budget(*seed, &ran);
        ran.met.is_some()
    });
    assert!(met.count() >= 18);
}

#[test]
fn in_vain_it_ends_with_the_budget() {
    // Nothing arrives.
    let ran = run(1, World::new(1, Ports::Random, 100));
    assert_within_budget(1, &ran);
    assert_eq!(ran.met, None);
    // Two observers, each asked three times; the last probe would be at the end.
    let holes = u64::from(HOLES);
    assert!((holes + 6..=1400).contains(&ran.hard.packets), "{ran:?}");
    assert_eq!(ran.hard.flows, holes + 2);
    assert_eq!(ran.easy.packets, ran.easy.flows);
    assert!((1390..=MAX_PROBES).contains(&ran.easy.flows), "{ran:?}");
}

#[test]
fn a_late_timer_is_no_reason_to_hurry() {
    let start = origin();
    let keys = SprayKeys::derive(&SECRET, 0);
    let mut easy = Easy::new(start, keys, at(HARD_IP).ip(), [1; 32]);
    let late = start + Duration::from_secs(3);
    for _ in 0..5 {
        easy.handle_timeout(late);
    }
    assert_eq!(easy.cost().packets, 1);
    assert_eq!(easy.poll_timeout(), Some(late + SEND_GAP));
}

#[test]
fn only_the_other_side_of_this_very_run_is_heard() {
    let keys = |run| SprayKeys::derive(&SECRET, run);
    let from = at(EASY);
    let mut easy = Voice::new(keys(1), SpraySide::Easy);
    let request = easy.request(77);
    let hard = Voice::new(keys(1), SpraySide::Hard);
    let Some(Heard::Request { response }) = hard.hear(from, &request) else {
        panic!("not heard");
    };
    let answered = easy.hear(at(SERVER), &response);
    assert_eq!(answered, Some(Heard::Response { which: 77 }));

    // Another run, the own side, a changed byte, and an answer to what was not asked.
    assert_eq!(
        Voice::new(keys(2), SpraySide::Hard).hear(from, &request),
        None
    );
    assert_eq!(easy.hear(from, &request), None);
    assert_eq!(hard.hear(from, &response), None);
    let other = Voice::new(keys(2), SpraySide::Easy);
    assert_eq!(other.hear(from, &response), None);
    // What follows the integrity is the fingerprint, which proves nothing.
    for at in 0..request.len() - 8 {
        let mut forged = request.clone();
        forged[at] ^= 1;
        assert_eq!(hard.hear(from, &forged), None, "byte {at}");
    }
    // Another address of the easy side, or of anybody else, meets nothing.
    let plan = HardPlan {
        target: at(EASY),
        server: None,
        first_port: INSIDE,
    };
    let start = origin();
    let mut machine = Hard::new(start, keys(1), plan, [1; 32]);
    assert!(!machine.handle_input(start, 0, at(SERVER), &request));
    assert!(machine.handle_input(start, 0, at(EASY), &request));
}

#[test]
fn two_observations_tell_how_ports_are_given_out() {
    let told = |observed| Guess::from_observed(INSIDE, observed);
    let range = |first, count| Some(Guess { first, count });
    // Kept, counted up and down, two at a time.
    assert_eq!(
        told([(INSIDE, INSIDE), (INSIDE + 1, INSIDE + 1)]),
        range(INSIDE, HOLES)
    );
    assert_eq!(told([(1, 2000), (2, 2001)]), range(2001, 301));
    assert_eq!(told([(1, 2001), (2, 2000)]), range(1700, 301));
    assert_eq!(told([(1, 2000), (2, 2002)]), range(2002, 601));
    // Of one block; and at random.
    assert_eq!(told([(1, 2000), (2, 2400)]), range(1488, 1425));
    assert_eq!(told([(1, 2000), (2, 9000)]), None);
    assert_eq!(told([(1, 2000), (2, 2000)]), None);
    // At the ends.
    assert_eq!(told([(1, 65_534), (2, 65_535)]), range(65_535, 1));
    assert_eq!(told([(1, 1030), (2, 1029)]), range(1024, 6));
}

#[test]
fn a_guess_is_tried_first_and_no_port_twice() {
    let start = origin();
    let keys = SprayKeys::derive(&SECRET, 0);
    let tried = |guess: Guess| {
        let mut easy = Easy::new(start, keys.clone(), at(HARD_IP).ip(), [1; 32]);
        easy.guess(guess);
        let mut ports = Vec::new();
        while let Some(now) = easy.poll_timeout() {
            easy.handle_timeout(now);
            ports.extend(easy.poll_transmit().map(|sent| sent.to.port()));
        }
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| *port >= FIRST_PORT));
        ports
    };
    let short = tried(Guess {
        first: 5000,
        count: 3,
    });
    assert_eq!(short[..3], [5000, 5001, 5002]);
    // Of a long one a part, and what cannot be is left out.
    let long = tried(Guess {
        first: 0,
        count: u16::MAX,
    });
    let steps: BTreeSet<u16> = long[..MAX_GUESSES - 4]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert_eq!(steps.len(), 1, "{steps:?}");
    let nothing = Guess { first: 7, count: 0 };
    assert!(tried(nothing).len() > MAX_GUESSES);
}
