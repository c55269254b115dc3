use std::collections::VecDeque;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::*;
use crate::{
    feedback::{ArrivalLog, SentLog},
    pacer::Pacer,
    runtime::TokioRuntime,
};

const SEEDS: [u64; 3] = [1, 2, 3];
const STEP: Duration = Duration::from_micros(500);
const VOICE_BYTES: usize = 100;
const VIDEO_BYTES: usize = 1158;

/// A line: what waits for the rate, then loss, then the way.
#[derive(Debug, Clone, Copy)]
struct Line {
    rate: f64,
    queue_bytes: usize,
    delay: f64,
    jitter: f64,
    loss: f64,
    report_loss: f64,
    /// A token bucket before the queue: bits per second, and bytes.
    policer: Option<(f64, f64)>,
    /// Bits per second of others, in packets of 1200 bytes.
    others: f64,
}

impl Line {
    fn of(rate: f64, queue_bytes: usize) -> Self {
        Self {
            rate,
            queue_bytes,
            delay: 0.03,
            jitter: 0.0,
            loss: 0.0,
            report_loss: 0.0,
            policer: None,
            others: 0.0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    sent: f64,
    low: u16,
    bytes: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Voice,
    Video,
    Other,
}

/// A call over a line, in virtual time.
struct Bench {
    line: Line,
    rng: ChaCha20Rng,
    start: Instant,
    at: f64,
    bandwidth: Bandwidth,
    pacer: Pacer,
    log: SentLog,
    receiver: ArrivalLog,
    /// The most that the picture's encoder makes, in bits per second; none without a picture.
    video: f64,
    waiting: VecDeque<(f64, usize)>,
    queue: VecDeque<Packet>,
    queued: usize,
    serving: Option<f64>,
    travelling: Vec<(f64, Packet)>,
    reports: Vec<(f64, crate::feedback::Feedback)>,
    tokens: f64,
    next: [f64; 4],
    /// When each arrived, how long it took, its bits, and whether it is voice.
    arrived: Vec<(f64, f64, f64, Kind)>,
    /// When, and the estimate then.
    estimates: Vec<(f64, Estimate)>,
    /// When, and seconds of queue.
    queues: Vec<(f64, f64)>,
    voice_lost: Vec<f64>,
}

impl Bench {
    fn new(seed: u64, line: Line, video: f64) -> Self {
        eprintln!("seed {seed}");
        let start = quinn::Runtime::now(&TokioRuntime);
        Self {
            line,
            rng: ChaCha20Rng::seed_from_u64(seed),
            start,
            at: 0.0,
            bandwidth: Bandwidth::new(start),
            pacer: Pacer::default(),
            log: SentLog::default(),
            receiver: ArrivalLog::new(start),
            video,
            waiting: VecDeque::new(),
            queue: VecDeque::new(),
            queued: 0,
            serving: None,
            travelling: Vec::new(),
            reports: Vec::new(),
            tokens: 0.0,
            next: [0.0, 0.0, 0.05, 0.0],
            arrived: Vec::new(),
            estimates: Vec::new(),
            queues: Vec::new(),
            voice_lost: Vec::new(),
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        (self.rng.next_u32() as f64) / 4_294_967_296.0 < probability
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.at)
    }

    fn run(&mut self, seconds: f64) {
        let until = self.at + seconds;
        while self.at < until {
            self.step();
            self.at += STEP.as_secs_f64();
        }
    }

    fn step(&mut self) {
        let at = self.at;
        // Sound, a picture's frame, the other side's report, other people's traffic.
        if at >= self.next[0] {
            self.next[0] += 0.02;
            self.send(VOICE_BYTES, Kind::Voice);
        }
        if at >= self.next[1] {
            self.next[1] += 1.0 / 30.0;
            let target = self.bandwidth.estimate().target_bps as f64;
            let voice = bits(wire_bytes(VOICE_BYTES, false)) * 50.0;
            let mut left = ((target - voice).min(self.video) / 30.0 / 8.0) as usize;
            while left > 100 {
                let bytes = left.min(VIDEO_BYTES + PACKET_OVERHEAD_BYTES);
                let payload = bytes - PACKET_OVERHEAD_BYTES;
                self.waiting.push_back((at + 0.4, payload));
                left -= bytes;
            }
        }
        if at >= self.next[2] {
            self.next[2] += 0.05;
            let report = self.receiver.report(0, self.now());
            if !self.chance(self.line.report_loss) {
                self.reports.push((at + self.line.delay, report));
            }
        }
        if self.line.others > 0.0 && at >= self.next[3] {
            let jitter = 0.5 + (self.rng.next_u32() as f64) / 4_294_967_296.0;
            self.next[3] = at.max(self.next[3]) + jitter * 9600.0 / self.line.others;
            self.offer(Packet {
                sent: at,
                low: 0,
                bytes: 1200,
                kind: Kind::Other,
            });
        }
        self.pace();
        self.serve();
        self.arrive();
        let now = self.now();
        let (due, later) = self.reports.drain(..).partition(|(due, _)| *due <= at);
        self.reports = later;
        let due: Vec<(f64, crate::feedback::Feedback)> = due;
        for (_, report) in due {
            let mut news = Vec::new();
            self.log.handle(&report, &mut news);
            self.bandwidth.handle(now, &news);
            self.estimates.push((at, self.bandwidth.estimate()));
            let waits = self.queued as f64 * 8.0 / self.line.rate;
            self.queues.push((at, waits));
        }
    }

    fn pace(&mut self) {
        let now = self.now();
        while let Some((expires, bytes)) = self.waiting.front().copied() {
            if expires < self.at {
                self.waiting.pop_front();
                continue;
            }
            let pace = self.bandwidth.pace_bps();
            if self.pacer.next(now, pace).is_some() || self.bandwidth.stuck_until(now).is_some() {
                return;
            }
            self.waiting.pop_front();
            self.send(bytes, Kind::Video);
        }
    }

    fn send(&mut self, bytes: usize, kind: Kind) {
        let now = self.now();
        let bytes = wire_bytes(bytes, false);
        let low = self.log.sent(bytes, now);
        self.bandwidth.sent(now, bytes);
        self.pacer.sent(now, bits(bytes), self.bandwidth.pace_bps());
        self.offer(Packet {
            sent: self.at,
            low,
            bytes,
            kind,
        });
    }

    fn offer(&mut self, packet: Packet) {
        if let Some((rate, depth)) = self.line.policer {
            self.tokens = self.tokens.min(depth);
            if self.tokens < packet.bytes as f64 {
                return self.lose(packet);
            }
            let _rate = rate;
            self.tokens -= packet.bytes as f64;
        }
        if self.queued + packet.bytes > self.line.queue_bytes {
            return self.lose(packet);
        }
        self.queued += packet.bytes;
        self.queue.push_back(packet);
    }

    fn lose(&mut self, packet: Packet) {
        if packet.kind == Kind::Voice {
            self.voice_lost.push(self.at);
        }
    }

    fn serve(&mut self) {
        if let Some((rate, _)) = self.line.policer {
            self.tokens += rate / 8.0 * STEP.as_secs_f64();
        }
        let mut from = self.at - STEP.as_secs_f64();
        loop {
            let ends = match (self.serving, self.queue.front()) {
                (Some(ends), _) => ends,
                (None, Some(packet)) => from + packet.bytes as f64 * 8.0 / self.line.rate,
                (None, None) => return,
            };
            self.serving = Some(ends);
            if ends > self.at {
                return;
            }
            self.serving = None;
            from = ends;
            if let Some(packet) = self.queue.pop_front() {
                self.queued -= packet.bytes;
                if self.chance(self.line.loss) {
                    continue;
                }
                let jitter = self.line.jitter * (self.rng.next_u32() as f64) / 4_294_967_296.0;
                self.travelling
                    .push((ends + self.line.delay + jitter, packet));
            }
        }
    }

    fn arrive(&mut self) {
        let at = self.at;
        let (mut due, later): (Vec<_>, Vec<_>) = self
            .travelling
            .drain(..)
            .partition(|(arrives, _)| *arrives <= at);
        self.travelling = later;
        due.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (arrives, packet) in due {
            let took = arrives - packet.sent;
            self.arrived
                .push((arrives, took, packet.bytes as f64 * 8.0, packet.kind));
            if packet.kind != Kind::Other {
                let when = self.start + Duration::from_secs_f64(arrives);
                self.receiver.arrived(packet.low, when);
            }
        }
    }

    /// Bits per second of ours that arrived between the two.
    fn carried(&self, from: f64, to: f64) -> f64 {
        let ours = self.arrived.iter();
        let ours = ours.filter(|one| one.0 >= from && one.0 < to && one.3 != Kind::Other);
        ours.map(|one| one.2).sum::<f64>() / (to - from)
    }

    /// The 95th percentile of the queue between the two, in milliseconds.
    fn queue_p95(&self, from: f64, to: f64) -> f64 {
        let waits = self.queues.iter();
        let mut waits: Vec<f64> = waits
            .filter(|(at, _)| *at >= from && *at < to)
            .map(|(_, wait)| wait * 1000.0)
            .collect();
        waits.sort_by(f64::total_cmp);
        waits[waits.len() * 95 / 100]
    }

    /// The longest that sound took of what arrived between the two, in milliseconds.
    fn voice_took(&self, from: f64, to: f64) -> f64 {
        let voice = self.arrived.iter();
        let voice = voice.filter(|one| one.0 >= from && one.0 < to && one.3 == Kind::Voice);
        voice.map(|one| one.1 * 1000.0).fold(0.0, f64::max)
    }

    fn trace(&self) {
        for (place, (at, estimate)) in self.estimates.iter().enumerate() {
            if place % 4 == 0 {
                eprintln!(
                    "{at:6.2} capacity {:8} target {:8} queue {:4} ms (line {:4.0} ms) lost {} permille",
                    estimate.capacity_bps,
                    estimate.target_bps,
                    estimate.queue_delay.as_millis(),
                    self.queues[place].1 * 1000.0,
                    estimate.lost_permille,
                );
            }
        }
    }
}

fn check(bench: &Bench, holds: bool, what: &str) {
    if !holds {
        bench.trace();
    }
    assert!(holds, "{what}");
}

#[test]
fn a_line_of_any_width_is_used_and_its_queue_stays_short() {
    for seed in SEEDS {
        for rate in [250e3, 500e3, 1e6, 2e6] {
            let mut bench = Bench::new(seed, Line::of(rate, 125_000), 2e6);
            bench.run(40.0);
            let used = bench.carried(10.0, 40.0) / rate;
            let queue = bench.queue_p95(10.0, 40.0);
            eprintln!("{rate}: {used:.3} of it used, queue p95 {queue:.0} ms");
            check(&bench, used >= 0.9, "the line is used");
            check(&bench, queue < 80.0, "the queue is short");
        }
    }
}

#[test]
fn a_drop_of_capacity_is_answered_before_the_queue_is_full() {
    for seed in SEEDS {
        let mut bench = Bench::new(seed, Line::of(2e6, 75_000), 2e6);
        bench.run(10.0);
        bench.line.rate = 400e3;
        bench.run(10.0);
        bench.line.rate = 2e6;
        bench.run(15.0);
        let drained = bench.queue_p95(11.5, 20.0);
        let late = bench.voice_took(11.5, 20.0);
        let worst = bench.voice_took(10.0, 11.5);
        let after = bench.carried(26.0, 35.0) / 2e6;
        let during = bench.carried(13.0, 20.0) / 400e3;
        eprintln!(
            "queue p95 {drained:.0} ms after 1.5 s, sound {worst:.0} ms at worst, then {late:.0} ms, used {during:.2}, \
             {after:.2} after"
        );
        check(&bench, late < 150.0, "the queue is gone");
        check(&bench, drained < 90.0, "the queue is short");
        check(&bench, worst < 1000.0, "it never was long");
        check(
            &bench,
            during > 0.85 && after > 0.85,
            "and the line is used",
        );
        check(&bench, bench.voice_lost.is_empty(), "no sound is lost");
    }
}

/// An encoder that has enough leaves some of the estimate unused, and then the line carries less than that.
#[test]
fn a_drop_below_what_little_use_was_made_of_is_answered_as_soon() {
    for seed in SEEDS {
        for video in [0.5e6, 0.8e6, 1.1e6] {
            let mut bench = Bench::new(seed, Line::of(2e6, 75_000), 2e6);
            bench.run(10.0);
            bench.video = video;
            bench.run(10.0);
            bench.line.rate = 400e3;
            bench.line.queue_bytes = 15_000;
            bench.run(1.0);
            let estimate = bench.bandwidth.estimate().capacity_bps;
            eprintln!("{video}: {estimate}");
            check(&bench, estimate < 440_000, "it is known within a second");
            check(&bench, estimate > 250_000, "and no less than it carries");
            bench.run(4.0);
            let during = bench.carried(22.0, 25.0) / 400e3;
            check(&bench, during > 0.7, "and the line is used");
            let late = bench.voice_took(21.5, 25.0);
            check(&bench, late < 150.0, "the queue is gone");
        }
    }
}

#[test]
fn loss_without_a_queue_costs_no_rate() {
    for seed in SEEDS {
        for loss in [0.1, 0.2] {
            let line = Line {
                loss,
                ..Line::of(50e6, 1_000_000)
            };
            let mut bench = Bench::new(seed, line, 2e6);
            bench.run(30.0);
            let rate = bench.carried(5.0, 30.0) / (2e6 * (1.0 - loss));
            eprintln!("{loss}: {rate:.3} of what the loss leaves");
            check(&bench, rate > 0.95, "the rate stays");
        }
    }
}

#[test]
fn loss_that_begins_in_the_middle_costs_a_moment() {
    for seed in SEEDS {
        let mut bench = Bench::new(seed, Line::of(1e6, 50_000), 2e6);
        bench.run(10.0);
        bench.line.loss = 0.15;
        bench.run(30.0);
        let used = bench.carried(15.0, 40.0) / (1e6 * 0.85);
        eprintln!("{used:.3} of it used");
        check(&bench, used > 0.85, "the line is used");
    }
}

#[test]
fn a_policer_is_found_without_any_queue() {
    for seed in SEEDS {
        for rate in [500e3, 1e6] {
            let line = Line {
                policer: Some((rate, 6000.0)),
                ..Line::of(20e6, 125_000)
            };
            let mut bench = Bench::new(seed, line, 2e6);
            bench.run(40.0);
            let used = bench.carried(10.0, 40.0) / rate;
            let lost: f64 = bench
                .estimates
                .iter()
                .filter(|(at, _)| *at > 10.0)
                .map(|(_, estimate)| f64::from(estimate.lost_permille) / 1000.0)
                .sum::<f64>()
                / bench.estimates.iter().filter(|(at, _)| *at > 10.0).count() as f64;
            eprintln!("{rate}: {used:.3} of it used, {lost:.3} lost");
            check(&bench, used > 0.85, "what passes is used");
            check(&bench, lost < 0.04, "and little is thrown away");
        }
    }
}

#[test]
fn lost_reports_and_jitter_do_no_harm() {
    for seed in SEEDS {
        let line = Line {
            report_loss: 0.3,
            jitter: 0.015,
            ..Line::of(1e6, 125_000)
        };
        let mut bench = Bench::new(seed, line, 2e6);
        bench.run(40.0);
        let used = bench.carried(10.0, 40.0) / 1e6;
        let queue = bench.queue_p95(10.0, 40.0);
        eprintln!("{used:.3} of it used, queue p95 {queue:.0} ms");
        check(&bench, used > 0.85, "the line is used");
        check(&bench, queue < 120.0, "the queue is short");
    }
}

#[test]
fn no_report_stops_what_can_wait_and_nothing_is_concluded() {
    let mut bench = Bench::new(1, Line::of(2e6, 75_000), 2e6);
    bench.run(10.0);
    let before = bench.bandwidth.estimate().capacity_bps;
    bench.line.report_loss = 1.0;
    bench.run(0.6);
    assert_eq!(bench.bandwidth.estimate().capacity_bps, before);
    assert!(bench.bandwidth.stuck_until(bench.now()).is_some());
    bench.line.report_loss = 0.0;
    bench.run(5.0);
    assert!(bench.carried(13.0, 16.0) > 0.85 * 2e6);
}

#[test]
fn other_peoples_traffic_takes_its_share_and_gives_it_back() {
    for seed in SEEDS {
        let line = Line {
            others: 1e6,
            ..Line::of(2e6, 125_000)
        };
        let mut bench = Bench::new(seed, line, 2e6);
        bench.run(20.0);
        bench.line.others = 0.0;
        bench.run(20.0);
        let beside = bench.carried(8.0, 20.0) / 1e6;
        let alone = bench.carried(30.0, 40.0) / 2e6;
        eprintln!("{beside:.3} of what is left, {alone:.3} alone");
        check(&bench, beside > 0.8, "what is left is used");
        check(&bench, alone > 0.85, "and all once it is free");
    }
}

#[test]
fn who_sends_little_learns_little_and_forgets_nothing() {
    let mut bench = Bench::new(1, Line::of(10e6, 125_000), 0.0);
    bench.run(30.0);
    let estimate = bench.bandwidth.estimate();
    assert_eq!(estimate.capacity_bps, INITIAL_BPS, "voice proves no more");
    assert!(!estimate.proven);
    bench.video = 2e6;
    bench.run(10.0);
    let proven = bench.bandwidth.estimate().capacity_bps;
    assert!(proven > 1_900_000 && proven < 4_000_000, "{proven}");
    bench.video = 0.0;
    bench.run(120.0);
    assert_eq!(
        bench.bandwidth.estimate().capacity_bps,
        proven,
        "nothing decays"
    );
}

#[test]
fn jitter_is_no_queue_to_a_voice_alone() {
    for seed in SEEDS {
        for jitter in [0.03, 0.06, 0.1] {
            let line = Line {
                jitter,
                loss: 0.03,
                ..Line::of(10e6, 125_000)
            };
            let mut bench = Bench::new(seed, line, 0.0);
            bench.run(120.0);
            let least = bench.estimates.iter();
            let least = least.map(|(_, estimate)| estimate.capacity_bps).min();
            check(&bench, least == Some(INITIAL_BPS), "nothing was concluded");
        }
    }
}

#[test]
fn a_line_narrower_than_the_voice_is_found() {
    for seed in SEEDS {
        // 63 kbit/s of voice.
        let mut bench = Bench::new(seed, Line::of(48e3, 16_000), 0.0);
        bench.run(2.5);
        let estimate = bench.bandwidth.estimate();
        check(&bench, estimate.capacity_bps < 48_000, "it is narrow");
        check(&bench, estimate.capacity_bps > 36_000, "but not so narrow");
    }
}

#[test]
fn a_longer_way_is_not_a_queue_for_long() {
    for seed in SEEDS {
        let mut bench = Bench::new(seed, Line::of(1e6, 125_000), 2e6);
        bench.run(10.0);
        bench.line.delay = 0.2;
        bench.run(30.0);
        let used = bench.carried(25.0, 40.0) / 1e6;
        eprintln!("{used:.3} of it used");
        check(&bench, used > 0.85, "the line is used");
    }
}

/// What a connection sent before it took another's place is told of afterwards. An estimator that had begun only then would
/// take the time between for a queue that came up all at once.
#[test]
fn who_takes_anothers_place_keeps_what_it_has_seen_itself() {
    let mut line = Line::of(1e7, 125_000);
    (line.delay, line.loss) = (0.1, 0.2);
    for seed in SEEDS {
        let mut before = Bench::new(seed, line, 6e5);
        before.run(10.0);
        let least = |keeps: bool| {
            let mut bench = Bench::new(seed, line, 0.0);
            bench.run(0.3);
            if !keeps {
                bench.bandwidth = Bandwidth::new(bench.now());
            }
            bench.bandwidth.inherit(&before.bandwidth);
            bench.video = 6e5;
            bench.run(5.0);
            let estimates = bench.estimates.iter();
            let least = estimates.filter(|(at, _)| *at > 0.31);
            let least = least.map(|(_, estimate)| estimate.target_bps).min();
            (bench, least.unwrap())
        };
        let ((bench, least), (_, anew)) = (least(true), least(false));
        eprintln!("at least {least} bit/s, {anew} if it begins anew");
        // A trial of what loss means costs a third.
        check(&bench, least > 500_000, "nothing is cut");
        check(&bench, anew < 200_000, "or that would not matter");
    }
}
