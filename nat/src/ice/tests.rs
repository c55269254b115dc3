#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;
use rtc_stun::{
    attributes::{
        ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
    },
    message::{CLASS_REQUEST, METHOD_BINDING, TransactionId},
};

use super::{rtc::RtcIceAgent, *};
use crate::{
    candidate::CandidateKind,
    stun::{Builder, Stun},
};

const A: &str = "198.51.100.1:1000";
const B: &str = "203.0.113.2:2000";
const SECRET: [u8; 32] = [5; 32];

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn host(addr: SocketAddr) -> Candidate {
    Candidate::new(CandidateKind::Host, addr, 65_535)
}

/// What the network does with a packet: its new source, or nothing for loss.
type Path = Box<dyn FnMut(Duration, SocketAddr, SocketAddr) -> Option<SocketAddr>>;

/// Arrival time, order, source, destination, packet.
type InFlight = Reverse<(Duration, u64, SocketAddr, SocketAddr, Vec<u8>)>;

struct Side {
    agent: RtcIceAgent,
    addrs: Vec<SocketAddr>,
    events: Vec<(u128, IceEvent)>,
    valid: Vec<(u128, IceEvent)>,
}

/// Two agents with a network between them in virtual time: `sides[0]` is controlling.
struct Lab {
    start: Instant,
    time: Duration,
    delay: Duration,
    sides: [Side; 2],
    path: Path,
    in_flight: BinaryHeap<InFlight>,
    sent: u64,
    /// Time, destination and size of every packet.
    trace: Vec<(Duration, SocketAddr, usize)>,
}

fn agent(start: Instant, role: IceRole, port: u16, secret: &[u8; 32]) -> RtcIceAgent {
    let controlling = IceCredentials::derive(secret, IceRole::Controlling, 0);
    let controlled = IceCredentials::derive(secret, IceRole::Controlled, 0);
    let (local, remote) = match role {
        IceRole::Controlling => (controlling, controlled),
        IceRole::Controlled => (controlled, controlling),
    };
    RtcIceAgent::new(
        start,
        role,
        port,
        &local,
        &remote,
        [port.to_be_bytes()[1]; 32],
    )
    .unwrap()
}

impl Lab {
    /// Agents that know their own addresses and 40 ms of network each way.
    fn new(a: &[&str], b: &[&str]) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        let start = Instant::now();
        let side = |role, addrs: &[&str]| {
            let addrs: Vec<SocketAddr> = addrs.iter().map(|text| addr(text)).collect();
            let mut agent = agent(start, role, addrs[0].port(), &SECRET);
            for addr in &addrs {
                agent.add_local(start, host(*addr));
            }
            Side {
                agent,
                addrs,
                events: Vec::new(),
                valid: Vec::new(),
            }
        };
        Self {
            start,
            time: Duration::ZERO,
            delay: millis(40),
            sides: [side(IceRole::Controlling, a), side(IceRole::Controlled, b)],
            path: Box::new(|_, from, _| Some(from)),
            in_flight: BinaryHeap::new(),
            sent: 0,
            trace: Vec::new(),
        }
    }

    fn introduce(&mut self) {
        for side in 0..2 {
            for remote in self.sides[1 - side].addrs.clone() {
                self.sides[side]
                    .agent
                    .add_remote(self.start + self.time, host(remote));
            }
        }
    }

    /// Both know each other.
    fn introduced() -> Self {
        let mut lab = Self::new(&[A], &[B]);
        lab.introduce();
        lab
    }

    fn drain(&mut self) {
        for side in &mut self.sides {
            while let Some(IceTransmit {
                local,
                to,
                contents,
            }) = side.agent.poll_transmit()
            {
                self.trace.push((self.time, to, contents.len()));
                self.sent += 1;
                if let Some(from) = (self.path)(self.time, local, to) {
                    let arrival = self.time + self.delay;
                    self.in_flight
                        .push(Reverse((arrival, self.sent, from, to, contents)));
                }
            }
            while let Some(event) = side.agent.poll_event() {
                if let IceEvent::Valid { .. } = event {
                    side.valid.push((self.time.as_millis(), event));
                    continue;
                }
                side.events.push((self.time.as_millis(), event));
            }
        }
    }

    fn run_until(&mut self, end: Duration) {
        for _ in 0..1_000_000 {
            self.drain();
            let timers = self
                .sides
                .iter_mut()
                .filter_map(|side| side.agent.poll_timeout());
            let timer = timers
                .map(|at| at.saturating_duration_since(self.start))
                .min();
            let arrival = self.in_flight.peek().map(|Reverse((at, ..))| *at);
            let next = [timer, arrival].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.time = end;
                return;
            };
            self.time = next.max(self.time);
            let now = self.start + self.time;
            if arrival.is_some_and(|at| at <= self.time) {
                let Some(Reverse((_, _, from, to, packet))) = self.in_flight.pop() else {
                    return;
                };
                if let Some(side) = self.sides.iter_mut().find(|side| side.addrs.contains(&to)) {
                    side.agent.handle_input(now, from, Some(to.ip()), &packet);
                }
            } else {
                for side in &mut self.sides {
                    if side.agent.poll_timeout().is_some_and(|at| at <= now) {
                        side.agent.handle_timeout(now);
                    }
                }
            }
        }
        panic!("a timer spins");
    }

    fn run(&mut self, duration: Duration) {
        self.run_until(self.time + duration);
    }

    /// Milliseconds until each side selected a pair.
    fn selected(&self) -> [Option<u128>; 2] {
        [0, 1].map(|side| {
            let found = |(at, event): &(u128, IceEvent)| {
                matches!(event, IceEvent::Selected { .. }).then_some(*at)
            };
            self.sides[side].events.iter().find_map(found)
        })
    }

    fn take_events(&mut self) -> [Vec<(u128, IceEvent)>; 2] {
        [0, 1].map(|side| std::mem::take(&mut self.sides[side].events))
    }
}

#[test]
fn two_hosts_find_each_other_within_two_round_trips() {
    let mut lab = Lab::introduced();
    lab.run(millis(1000));
    let [a, b] = lab.selected().map(Option::unwrap);
    println!("selected after {a} and {b} ms at 80 ms of round trip");
    assert!(a <= 200 && b <= 200, "{a} {b}");
    let [at_a, at_b] = lab.take_events();
    assert_eq!(
        at_a,
        [(
            a,
            IceEvent::Selected {
                local: addr(A),
                remote: addr(B)
            }
        )]
    );
    assert_eq!(
        at_b,
        [(
            b,
            IceEvent::Selected {
                local: addr(B),
                remote: addr(A)
            }
        )]
    );
}

#[test]
fn candidates_may_come_late_and_on_one_side_only() {
    let mut lab = Lab::new(&[A], &[B]);
    lab.run(millis(5000));
    lab.sides[0]
        .agent
        .add_remote(lab.start + lab.time, host(addr(B)));
    lab.run(millis(1000));
    let [a, b] = lab.selected().map(Option::unwrap);
    assert!(
        a <= 5240 && b <= 5240,
        "{a} {b}: the other side learns the address from the check"
    );
}

#[test]
fn unreachable_addresses_beside_the_good_one_do_not_delay_it_much_nor_flood() {
    let mut lab = Lab::new(
        &[
            "10.0.0.1:1000",
            "10.1.0.1:1000",
            "10.2.0.1:1000",
            "10.3.0.1:1000",
            "10.4.0.1:1000",
            A,
        ],
        &[
            "10.0.1.2:2000",
            "10.1.1.2:2000",
            "10.2.1.2:2000",
            "10.3.1.2:2000",
            "10.4.1.2:2000",
            B,
        ],
    );
    lab.path = Box::new(|_, from, to| {
        [(addr(A), addr(B)), (addr(B), addr(A))]
            .contains(&(from, to))
            .then_some(from)
    });
    lab.introduce();
    lab.run(millis(1000));
    let [a, b] = lab.selected().map(Option::unwrap);
    println!(
        "36 pairs: selected after {a} and {b} ms, {} packets",
        lab.trace.len()
    );
    assert!(a <= 600 && b <= 600, "{a} {b}");
    assert!(lab.trace.len() <= 300, "{}", lab.trace.len());
}

#[test]
fn checks_thin_out_and_stop_when_nothing_answers_and_start_again_for_something_new() {
    let mut lab = Lab::introduced();
    lab.path = Box::new(|time, from, _| (time >= Duration::from_secs(20)).then_some(from));
    lab.run(Duration::from_secs(20));
    let [at_a, at_b] = lab.take_events();
    assert_eq!(at_a, [(10_000, IceEvent::Failed)]);
    assert_eq!(at_b, [(10_000, IceEvent::Failed)]);
    let in_second = |n: u64| {
        lab.trace
            .iter()
            .filter(|(at, ..)| at.as_secs() == n)
            .count()
    };
    assert!(in_second(0) <= 110, "{}", in_second(0));
    assert!(in_second(5) <= 42, "{}", in_second(5));
    assert_eq!((10..20).map(in_second).sum::<usize>(), 0);
    // The network works now. A new address on one side wakes both.
    lab.sides[0].addrs.push(addr("198.51.100.9:1000"));
    lab.sides[0]
        .agent
        .add_local(lab.start + lab.time, host(addr("198.51.100.9:1000")));
    lab.run(millis(2000));
    assert!(lab.selected().iter().all(Option::is_some));
}

#[test]
fn a_black_hole_gives_a_hint_and_the_pair_heals_by_itself() {
    let mut lab = Lab::introduced();
    let (from, until) = (Duration::from_secs(5), Duration::from_secs(30));
    lab.path = Box::new(move |time, source, _| (time < from || time >= until).then_some(source));
    lab.run(Duration::from_secs(60));
    for events in lab.take_events() {
        let [(_, selected), (lost, hint), (back, recovered)] = events[..] else {
            panic!("{events:?}")
        };
        assert!(matches!(selected, IceEvent::Selected { .. }));
        assert_eq!(
            (hint, recovered),
            (IceEvent::Disconnected, IceEvent::Recovered)
        );
        assert!((6_500..=7_100).contains(&lost), "{lost}");
        assert!((30_000..=30_600).contains(&back), "{back}");
    }
}

#[test]
fn one_dead_direction_is_noticed_on_both_sides() {
    let mut lab = Lab::introduced();
    lab.path = Box::new(|time, from, _| {
        (time < Duration::from_secs(5) || from == addr(B)).then_some(from)
    });
    lab.run(Duration::from_secs(60));
    for (side, events) in lab.take_events().into_iter().enumerate() {
        let [
            _,
            (lost, IceEvent::Disconnected),
            (expired, IceEvent::ConsentExpired { remote }),
        ] = events[..]
        else {
            panic!("{events:?}")
        };
        assert!((6_500..=7_100).contains(&lost), "{lost}");
        assert!((34_500..=35_100).contains(&expired), "{expired}");
        assert_eq!(remote, addr([B, A][side]));
    }
    // Without consent nothing is sent.
    let last = lab.trace.last().unwrap().0;
    assert!(last <= millis(35_100), "{last:?}");
}

#[test]
fn both_know_a_valid_pair_before_it_is_selected() {
    let mut lab = Lab::introduced();
    lab.run(millis(1000));
    let valid = [0, 1].map(|side| lab.sides[side].valid.clone());
    println!("valid {valid:?}, selected {:?}", lab.selected());
    for (side, valid) in valid.iter().enumerate() {
        let [(at, IceEvent::Valid { remote, .. })] = valid[..] else {
            panic!("{valid:?}")
        };
        assert_eq!(remote, addr([B, A][side]));
        // A round trip, and the pace of checks.
        assert!(at <= 100, "{at}");
    }
}

#[test]
fn a_replayed_answer_and_one_from_elsewhere_count_for_nothing() {
    let mut lab = Lab::introduced();
    let mut answers = Vec::new();
    for _ in 0..200 {
        lab.run(millis(5));
        for Reverse((_, _, from, to, packet)) in &lab.in_flight {
            // Success responses to A.
            if *to == addr(A) && packet[..2] == [1, 1] {
                answers.push((*from, packet.clone()));
            }
        }
    }
    // The last ones arrive for the first time.
    lab.run(millis(200));
    assert!(!answers.is_empty());
    let now = lab.start + lab.time;
    for (from, packet) in answers {
        let elsewhere = addr("192.0.2.9:9");
        for source in [from, elsewhere] {
            assert!(!lab.sides[0].agent.handle_input(now, source, None, &packet));
        }
    }
}

#[test]
fn ten_minutes_of_loss_give_no_false_alarm_at_5_percent() {
    let mut lab = Lab::introduced();
    let mut state = 1u64;
    lab.path = Box::new(move |_, from, _| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (!(state >> 33).is_multiple_of(20)).then_some(from)
    });
    lab.run(Duration::from_secs(600));
    for events in lab.take_events() {
        assert_eq!(events.len(), 1, "{events:?}");
    }
    let rate = lab.trace.len() / 600;
    assert!((8..=16).contains(&rate), "{rate} packets per second");
}

#[test]
fn a_round_trip_longer_than_fifteen_check_intervals_connects() {
    let mut lab = Lab::introduced();
    lab.delay = millis(400);
    lab.run(millis(5000));
    let [a, b] = lab.selected().map(Option::unwrap);
    assert!(a <= 2000 && b <= 2000, "{a} {b}");
}

#[test]
fn twenty_percent_loss_delays_but_connects() {
    let mut lab = Lab::introduced();
    let mut count = 0u32;
    lab.path = Box::new(move |_, from, _| {
        count += 1;
        (count % 5 != 1).then_some(from)
    });
    lab.run(millis(3000));
    assert!(lab.selected().iter().all(Option::is_some));
}

#[test]
fn a_peer_behind_a_nat_that_maps_its_port_is_found_by_its_check() {
    let mut lab = Lab::introduced();
    let mapped = addr("198.51.100.77:7777");
    // A's host address is private: B cannot reach it, A's packets come from the NAT.
    lab.sides[0].addrs.push(mapped);
    lab.path = Box::new(move |_, from, to| match (from == addr(A), to == addr(A)) {
        (true, _) => Some(mapped),
        (_, true) => None,
        (false, false) => Some(from),
    });
    // What reaches the NAT reaches A at its own address.
    lab.sides[0].addrs.retain(|known| *known != addr(A));
    lab.run(millis(1000));
    // The harness hands packets over with the mapped address as local one; the agent knows no such address.
    assert_eq!(lab.selected(), [None, None]);
    let mut lab = Lab::introduced();
    lab.path = Box::new(move |_, from, to| {
        if from == addr(A) {
            Some(mapped)
        } else if to == addr(A) {
            None
        } else {
            Some(from)
        }
    });
    lab.in_flight.clear();
    lab.run_natted(mapped);
    let [at_a, at_b] = lab.take_events();
    assert!(matches!(at_a[..], [(_, IceEvent::Selected { .. })]));
    assert_eq!(
        at_b[0].1,
        IceEvent::Selected {
            local: addr(B),
            remote: mapped
        }
    );
}

impl Lab {
    /// Like `run` for a second, with A behind a NAT at `mapped`.
    fn run_natted(&mut self, mapped: SocketAddr) {
        for _ in 0..200 {
            let queued = std::mem::take(&mut self.in_flight);
            self.in_flight = queued
                .into_iter()
                .map(|Reverse((at, n, from, to, packet))| {
                    Reverse((at, n, from, if to == mapped { addr(A) } else { to }, packet))
                })
                .collect();
            self.run(millis(5));
        }
    }
}

#[test]
fn a_new_agent_follows_a_peer_whose_port_changed() {
    let mut lab = Lab::introduced();
    lab.run(millis(1000));
    assert!(lab.selected().iter().all(Option::is_some));
    lab.take_events();
    // A moved to another address. The agents cannot heal that; two new ones, of the next generation, can.
    let moved = addr("192.0.2.50:1000");
    let mut next = Lab::new(&["192.0.2.50:1000"], &[B]);
    next.introduce();
    next.run(millis(1000));
    assert_eq!(
        next.sides[1].events[0].1,
        IceEvent::Selected {
            local: addr(B),
            remote: moved
        }
    );
}

#[test]
fn another_secret_connects_to_nobody_and_gets_no_answer() {
    let mut lab = Lab::introduced();
    let mut stranger = agent(lab.start, IceRole::Controlled, 2000, &[6; 32]);
    stranger.add_local(lab.start, host(addr(B)));
    stranger.add_remote(lab.start, host(addr(A)));
    lab.sides[1].agent = stranger;
    lab.run(millis(3000));
    assert_eq!(lab.selected(), [None, None]);
    let is_answer = |size: &usize| *size < 80;
    assert!(
        lab.trace.iter().all(|(_, _, size)| !is_answer(size)),
        "only requests were sent"
    );
}

/// A check as an attacker makes it who saw the username but has no password.
fn forged(username: &str, key: &[u8; 16], control: rtc_stun::attributes::AttrType) -> Vec<u8> {
    Builder::new(METHOD_BINDING, CLASS_REQUEST, TransactionId([1; 12]))
        .attribute(ATTR_USERNAME, username.as_bytes())
        .attribute(control, &[0xff; 8])
        .attribute(ATTR_PRIORITY, &[1, 2, 3, 4])
        .attribute(ATTR_USE_CANDIDATE, &[])
        .finish(Some(key), true)
}

#[test]
fn unauthenticated_checks_change_no_role_and_get_no_answer() {
    let mut lab = Lab::introduced();
    let username = |local: IceRole, remote: IceRole| {
        let ufrag = |role| IceCredentials::derive(&SECRET, role, 0).ufrag;
        format!("{}:{}", ufrag(local), ufrag(remote))
    };
    let now = lab.start;
    let (a, b) = (IceRole::Controlling, IceRole::Controlled);
    let to_a = forged(&username(a, b), &[0; 16], ATTR_ICE_CONTROLLING);
    let to_b = forged(&username(b, a), &[0; 16], ATTR_ICE_CONTROLLED);
    lab.drain();
    let before = lab.trace.len();
    assert!(
        !lab.sides[0]
            .agent
            .handle_input(now, addr(B), Some(addr(A).ip()), &to_a)
    );
    assert!(
        !lab.sides[1]
            .agent
            .handle_input(now, addr(A), Some(addr(B).ip()), &to_b)
    );
    lab.drain();
    assert_eq!(lab.trace.len(), before);
    lab.run(millis(1000));
    assert!(
        lab.selected().iter().all(Option::is_some),
        "roles still differ"
    );
}

#[test]
fn a_peer_that_checks_from_many_addresses_is_bounded() {
    let mut lab = Lab::introduced();
    lab.run(millis(500));
    let check = {
        // A real, authenticated check from A, sent again from invented addresses.
        let mut fresh = agent(lab.start, IceRole::Controlling, 1000, &SECRET);
        fresh.add_local(lab.start, host(addr(A)));
        fresh.add_remote(lab.start, host(addr(B)));
        fresh.handle_timeout(lab.start + millis(300));
        fresh.poll_transmit().unwrap().contents
    };
    assert!(Stun::parse(&check).is_ok());
    let now = lab.start + lab.time;
    let accepted = (0..200u8)
        .filter(|n| {
            let from = SocketAddr::new([192, 0, 2, *n].into(), 9);
            lab.sides[1]
                .agent
                .handle_input(now, from, Some(addr(B).ip()), &check)
        })
        .count();
    assert_eq!(accepted, MAX_REMOTE_CANDIDATES - 1);
}

#[test]
fn times_and_sizes_repeat() {
    let trace = || {
        let mut lab = Lab::introduced();
        lab.run(Duration::from_secs(5));
        lab.trace
    };
    assert_eq!(trace(), trace());
}

#[test]
fn credentials_differ_by_role_and_generation_and_never_change() {
    let all: Vec<String> = [IceRole::Controlling, IceRole::Controlled]
        .iter()
        .flat_map(|role| {
            (0..3).map(|generation| IceCredentials::derive(&SECRET, *role, generation))
        })
        .flat_map(|credentials| [credentials.ufrag, credentials.pwd])
        .collect();
    let mut distinct = all.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), all.len());
    assert_eq!((all[0].len(), all[1].len()), (10, 32));
    let short = IceCredentials {
        ufrag: "abc".into(),
        pwd: "x".repeat(22),
    };
    let long = IceCredentials::derive(&SECRET, IceRole::Controlled, 0);
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of virtual time"
    )]
    let now = Instant::now();
    assert!(RtcIceAgent::new(now, IceRole::Controlling, 1, &short, &long, [0; 32]).is_err());
    assert!(!format!("{long:?}").contains(&long.pwd));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn garbage_never_panics(packets: Vec<Vec<u8>>, flips in proptest::collection::vec(any::<(u16, u8)>(), 0..20)) {
        let mut lab = Lab::introduced();
        for packet in &packets {
            lab.sides[0].agent.handle_input(lab.start, addr(B), None, packet);
        }
        // Real packets with a bit flipped.
        for (at, bits) in flips {
            lab.run(millis(20));
            lab.in_flight = std::mem::take(&mut lab.in_flight)
                .into_iter()
                .map(|Reverse((time, n, from, to, mut packet))| {
                    let at = usize::from(at) % packet.len();
                    packet[at] ^= bits;
                    Reverse((time, n, from, to, packet))
                })
                .collect();
        }
    }
}
